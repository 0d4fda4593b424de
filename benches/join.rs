//! What a stream-stream join costs a record: orders and payments of 100,000 customers, each order paid 200 ms later, joined within 1 s.
//!
//! Whole operator calls: keys are found, partners matched, columns gathered, rows expired; after every eight steps the changelog block is
//! taken, as in a commit under load. Criterion's throughput is input records a second on one core.

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use riverrun::operator::stream_stream_join::StreamStreamJoin;
use riverrun::operator::{Operator, Progress, StepContext};
use riverrun::plan::topology::{JoinKind, JoinWithin, StreamJoinSpec};
use riverrun::types::{ChangeBatch, RowMeta};

/// Rows of one side in a step.
const ROWS: usize = 4096;
const STEPS: usize = 128;
const CUSTOMERS: u64 = 100_000;
/// Steps between commits.
const COMMIT_EVERY: usize = 8;
/// Orders a millisecond.
const ORDERS_A_MS: usize = 10;

fn schema(side: &str) -> SchemaRef {
    let field = |name: &str, ty| Field::new(format!("{side}_{name}"), ty, true);
    Arc::new(Schema::new(vec![
        field("CUSTOMER", DataType::Utf8),
        field("ID", DataType::Int64),
        field("METHOD", DataType::Utf8),
        field("AMOUNT", DataType::Float64),
    ]))
}

/// A step of both sides; the payments are those of the orders so long before.
fn step(customers: &[u64], n: usize, delay: usize, move_ms: i64) -> Vec<Option<ChangeBatch>> {
    let batch = |side: usize| {
        let places = || (n * ROWS..(n + 1) * ROWS).map(|i| i.wrapping_sub(side * delay) % customers.len());
        let key = StringArray::from_iter_values(places().map(|i| format!("C{:07}", customers[i])));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(key),
            Arc::new(Int64Array::from_iter_values(places().map(|i| i as i64))),
            Arc::new(StringArray::from_iter_values(places().map(|i| ["card", "cash"][i % 2]))),
            Arc::new(Float64Array::from_iter_values(places().map(|i| i as f64 / 100.0))),
        ];
        let meta = RowMeta {
            rowtime: (n * ROWS..(n + 1) * ROWS).map(|i| (i / ORDERS_A_MS) as i64 + move_ms).collect(),
            seq: (0..ROWS as u32).map(|i| 2 * i + side as u32).collect(),
            offset: (0..ROWS as i64).collect(),
            window: None,
            headers: None,
            keyed: None,
        };
        Some(ChangeBatch { columns, present: None, old: None, meta })
    };
    vec![batch(0), batch(1)]
}

fn join(kind: JoinKind) -> StreamStreamJoin {
    let within = JoinWithin { before_ms: 1000, after_ms: 1000, grace_ms: 10_000, holds_back: true };
    let (left, right) = (schema("O"), schema("P"));
    let store = "Join-Window".into();
    let (windowed, sessions) = (false, false);
    let spec = StreamJoinSpec { kind, store, left, right, key_count: 1, windowed, sessions, within };
    StreamStreamJoin::new(&spec).expect("the spec is one that analysis makes")
}

fn run(operator: &mut dyn Operator, steps: &[Vec<Option<ChangeBatch>>], move_ms: i64) -> usize {
    let (mut ctx, mut out, mut rows) = (StepContext::new(), Vec::new(), 0);
    for (n, step) in steps.iter().enumerate() {
        let mut step = step.clone();
        for batch in step.iter_mut().flatten() {
            batch.meta.rowtime = batch.meta.rowtime.iter().map(|time| time + move_ms).collect();
        }
        let mut progress = operator.process(step, &mut ctx, &mut out).expect("no failure");
        while progress == Progress::More {
            progress = operator.resume(&mut ctx, &mut out).expect("no failure");
        }
        if n % COMMIT_EVERY == COMMIT_EVERY - 1 {
            for store in operator.stores() {
                black_box(store.take_block().expect("it encodes"));
                if n % (8 * COMMIT_EVERY) == 8 * COMMIT_EVERY - 1 {
                    black_box(store.take_writes());
                }
            }
        }
        rows += out.drain(..).map(|batch| black_box(batch).len()).sum::<usize>();
    }
    rows
}

fn joins(c: &mut Criterion) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let customers: Vec<u64> = (0..ROWS * STEPS).map(|_| random() % CUSTOMERS).collect();
    let steps: Vec<_> = (0..STEPS).map(|n| step(&customers, n, 200 * ORDERS_A_MS, 0)).collect();
    let span_ms = (ROWS * STEPS / ORDERS_A_MS) as i64;
    let mut group = c.benchmark_group("stream-stream join");
    group.throughput(Throughput::Elements((2 * ROWS * STEPS) as u64));
    group.sample_size(10);
    for (name, kind) in [("inner", JoinKind::Inner), ("full outer with grace", JoinKind::Full)] {
        let mut operator = join(kind);
        let mut round = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                round += 1;
                let rows = run(&mut operator, &steps, round * span_ms);
                assert!(rows >= ROWS * (STEPS - 1), "each payment meets its order");
                rows
            });
        });
    }
    group.finish();
}

criterion_group!(benches, joins);
criterion_main!(benches);
