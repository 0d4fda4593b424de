//! What an aggregate costs a record: counts by key, without windows, with tumbling and hopping ones and in sessions, coalesced as in production.
//!
//! Whole operator calls: keys are encoded, groups found, states updated, results flushed after every eight batches (a commit under
//! load), and the changelog block taken. Criterion's throughput is records a second on one core.

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::logical_expr::col;

use riverrun::function::FunctionLimits;
use riverrun::operator::aggregate::Aggregate;
use riverrun::operator::session_aggregate::SessionAggregate;
use riverrun::operator::window_aggregate::WindowAggregate;
use riverrun::operator::{Operator, Progress, StepContext};
use riverrun::plan::topology::{AggregateCall, AggregateSpec};
use riverrun::types::{ChangeBatch, RowMeta, SqlType, WindowKind, WindowSpec};

const ROWS: usize = 8192;
const BATCHES: usize = 32;
const KEYS: u64 = 100_000;
/// Batches between commits.
const COMMIT_EVERY: usize = 8;

fn schema(key: DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("K", key, true), Field::new("V", DataType::Int64, true)]))
}

fn call(function: &str, args: &[&str], ty: SqlType) -> AggregateCall {
    AggregateCall {
        function: function.into(),
        args: args.iter().map(|name| col(format!("\"{name}\""))).collect(),
        literals: Vec::new(),
        arg_types: vec![SqlType::BigInt; args.len()],
        ty,
    }
}

fn spec(calls: Vec<AggregateCall>, window: Option<WindowSpec>) -> AggregateSpec {
    AggregateSpec {
        store: "Aggregate-Aggregate-Materialize".into(),
        key_count: 1,
        carried: Vec::new(),
        calls,
        window,
        table_input: false,
        emit_old: false,
        emit_final: false,
    }
}

/// Batches of random keys; times move on by 1 ms every 16 rows.
fn batches(text: bool) -> Vec<ChangeBatch> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let batch = |n: usize| {
        let keys: Vec<u64> = (0..ROWS).map(|_| random() % KEYS).collect();
        let key: ArrayRef = match text {
            true => Arc::new(StringArray::from_iter_values(keys.iter().map(|key| format!("user-{key:08}")))),
            false => Arc::new(Int64Array::from_iter_values(keys.iter().map(|key| *key as i64))),
        };
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(keys.iter().map(|key| *key as i64 % 97)));
        let first = n * ROWS;
        let meta = RowMeta {
            rowtime: (first..first + ROWS).map(|i| i as i64 / 16).collect(),
            seq: (0..ROWS as u32).collect(),
            offset: (first as i64..(first + ROWS) as i64).collect(),
            window: None,
            headers: None,
            keyed: None,
        };
        ChangeBatch { columns: vec![key, values], present: None, old: None, meta }
    };
    (0..BATCHES).map(batch).collect()
}

/// Runs all batches; `late_ms` moves times on from round to round.
fn run(operator: &mut dyn Operator, batches: &[ChangeBatch], ctx: &mut StepContext, move_ms: i64) -> usize {
    let (mut out, mut rows) = (Vec::new(), 0);
    for (n, batch) in batches.iter().enumerate() {
        let mut batch = batch.clone();
        batch.meta.rowtime = batch.meta.rowtime.iter().map(|time| time + move_ms).collect();
        let mut progress = operator.process(vec![Some(batch)], ctx, &mut out).expect("no failure");
        while progress == Progress::More {
            progress = operator.resume(ctx, &mut out).expect("no failure");
        }
        if n % COMMIT_EVERY == COMMIT_EVERY - 1 {
            operator.flush(ctx, &mut out).expect("no failure");
            for store in operator.stores() {
                black_box(store.take_block().expect("it encodes"));
                if n + 1 == batches.len() {
                    black_box(store.take_writes());
                }
            }
        }
        rows += out.drain(..).map(|batch| black_box(batch).len()).sum::<usize>();
    }
    rows
}

fn bench(c: &mut Criterion, name: &str, text: bool, coalesce: bool, mut operator: Box<dyn Operator>) {
    let batches = batches(text);
    let mut ctx = StepContext { coalesce, ..StepContext::new() };
    let mut group = c.benchmark_group("aggregate");
    group.throughput(Throughput::Elements((ROWS * BATCHES) as u64));
    group.sample_size(10);
    let mut round = 0;
    let span_ms = (ROWS * BATCHES / 16) as i64;
    group.bench_function(name, |b| {
        b.iter(|| {
            round += 1;
            run(operator.as_mut(), &batches, &mut ctx, round * span_ms)
        });
    });
    group.finish();
}

fn aggregates(c: &mut Criterion) {
    let limits = FunctionLimits::default();
    let count = || vec![call("COUNT", &[], SqlType::BigInt)];
    let three = || {
        let mut calls = count();
        calls.push(call("SUM", &["V"], SqlType::BigInt));
        calls.push(call("MAX", &["V"], SqlType::BigInt));
        calls
    };
    let minute = WindowSpec { kind: WindowKind::Tumbling { size_ms: 10_000 }, grace_ms: 0, retention_ms: 20_000 };
    let hop = WindowSpec {
        kind: WindowKind::Hopping { size_ms: 10_000, advance_ms: 2_500 },
        grace_ms: 0,
        retention_ms: 20_000,
    };
    let (long, text) = (schema(DataType::Int64), schema(DataType::Utf8));
    let plain = |calls, schema| Box::new(Aggregate::new(&spec(calls, None), &limits, schema).expect("a good spec"));
    let windowed = |calls, window, schema| {
        Box::new(WindowAggregate::new(&spec(calls, Some(window)), &limits, schema).expect("a good spec"))
    };
    bench(c, "count by BIGINT", false, true, plain(count(), &long));
    bench(c, "count by STRING", true, true, plain(count(), &text));
    bench(c, "count by STRING, every change", true, false, plain(count(), &text));
    bench(c, "count, sum, max by STRING", true, true, plain(three(), &text));
    bench(c, "tumbling count by BIGINT", false, true, windowed(count(), minute, &long));
    bench(c, "tumbling count by STRING", true, true, windowed(count(), minute, &text));
    bench(c, "tumbling count by STRING, every change", true, false, windowed(count(), minute, &text));
    bench(c, "hopping count by STRING, 4 windows", true, true, windowed(count(), hop, &text));
    // of a key a row comes every 6 seconds, so most rows begin a session
    let session = WindowSpec { kind: WindowKind::Session { gap_ms: 2_000 }, grace_ms: 10_000, retention_ms: 12_000 };
    let sessions = |calls, schema| {
        Box::new(SessionAggregate::new(&spec(calls, Some(session)), &limits, schema).expect("a good spec"))
    };
    bench(c, "session count by STRING, 0.7 sessions a row", true, true, sessions(count(), &text));
    bench(c, "session count, sum, max by STRING", true, true, sessions(three(), &text));
}

criterion_group!(benches, aggregates);
criterion_main!(benches);
