//! What keyed state and the operators on tables cost, per record: `cargo bench --bench state`.

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use riverrun::operator::stream_table_join::StreamTableJoin;
use riverrun::operator::table_join::TableTableJoin;
use riverrun::operator::upsert::UpsertOperator;
use riverrun::operator::{Operator, Progress, Step, StepContext};
use riverrun::plan::topology::{JoinKind, JoinSpec};
use riverrun::state::encoding::{KeyCodec, RowCodec};
use riverrun::state::{KeyedTable, Store};
use riverrun::types::{ChangeBatch, RowMeta};

const KEYS: u64 = 100_000;
const ROWS: usize = 8192;

fn schema() -> SchemaRef {
    let field = |name, ty| Field::new(name, ty, true);
    Arc::new(Schema::new(vec![
        field("K", DataType::Utf8),
        field("N", DataType::Int64),
        field("S", DataType::Utf8),
        field("T", DataType::Int64),
    ]))
}

/// Scatters numbers over the keys, the same at every run.
fn scattered(i: u64) -> u64 {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

fn columns(keys: impl Iterator<Item = u64>) -> Vec<ArrayRef> {
    let keys: Vec<u64> = keys.collect();
    vec![
        Arc::new(StringArray::from_iter_values(keys.iter().map(|k| format!("customer-{k:08}")))),
        Arc::new(keys.iter().map(|k| Some(*k as i64)).collect::<Int64Array>()),
        Arc::new(StringArray::from_iter_values(keys.iter().map(|k| format!("name of customer {k}")))),
        Arc::new(keys.iter().map(|k| Some(1_700_000_000_000 + *k as i64)).collect::<Int64Array>()),
    ]
}

fn batch(keys: impl Iterator<Item = u64>, seq: impl Fn(usize) -> u32) -> ChangeBatch {
    let columns = columns(keys);
    let rows = columns[0].len();
    let meta = RowMeta {
        rowtime: (0..rows as i64).collect(),
        seq: (0..rows).map(seq).collect(),
        offset: (0..rows as i64).collect(),
        window: None,
        headers: None,
        keyed: None,
    };
    ChangeBatch { columns, present: None, old: None, meta }
}

fn spec(kind: JoinKind, emit_old: bool) -> JoinSpec {
    let (left_store, right_store) = ("left".into(), "right".into());
    JoinSpec { kind, left_store, right_store, left: schema(), right: schema(), key_count: 1, emit_old }
}

fn run(operator: &mut dyn Operator, step: Step, ctx: &mut StepContext) {
    let mut out = Vec::new();
    let mut progress = operator.process(step, ctx, &mut out).expect("the step is good");
    while progress == Progress::More {
        progress = operator.resume(ctx, &mut out).expect("the step is good");
    }
    black_box(out);
}

/// Steps of half a batch a side: first all of one side and then the other, or strictly alternating.
fn steps(alternating: bool) -> Vec<Step> {
    let half = ROWS / 2;
    let step = |n: u64| {
        let keys = |side: u64| (0..half as u64).map(move |i| scattered(n * ROWS as u64 + 2 * i + side) % KEYS);
        let seq = |side: usize| move |i: usize| if alternating { 2 * i + side } else { i + side * half } as u32;
        vec![Some(batch(keys(0), seq(0))), Some(batch(keys(1), seq(1)))]
    };
    (0..16).map(step).collect()
}

fn filled(mut operator: Box<dyn Operator>, ports: &[usize]) -> Box<dyn Operator> {
    let mut ctx = StepContext::new();
    for from in (0..KEYS).step_by(ROWS) {
        for &port in ports {
            let mut step: Step = vec![None, None];
            step[port] = Some(batch(from..(from + ROWS as u64).min(KEYS), |i| i as u32));
            run(operator.as_mut(), step, &mut ctx);
        }
    }
    operator.stores().into_iter().for_each(|store| drop(store.take_block()));
    operator
}

fn operators(c: &mut Criterion) {
    let mut group = c.benchmark_group("operator");
    group.throughput(Throughput::Elements(ROWS as u64));
    let mut bench = |name: &str, mut operator: Box<dyn Operator>, steps: &[Step]| {
        let mut ctx = StepContext::new();
        let mut n = 0;
        group.bench_function(name, |b| {
            let next = || {
                n += 1;
                steps[n % steps.len()].clone()
            };
            b.iter_batched(next, |step| run(operator.as_mut(), step, &mut ctx), BatchSize::SmallInput);
        });
    };
    for (order, alternating) in [("sorted", false), ("alternating", true)] {
        let steps = steps(alternating);
        let join = Box::new(StreamTableJoin::new(&spec(JoinKind::Inner, false)).expect("a good spec"));
        bench(&format!("stream-table join, {order}"), filled(join, &[1]), &steps);
        for emit_old in [false, true] {
            let join = Box::new(TableTableJoin::new(&spec(JoinKind::Left, emit_old)).expect("a good spec"));
            let old = if emit_old { ", old rows" } else { "" };
            bench(&format!("table-table join, {order}{old}"), filled(join, &[0, 1]), &steps);
        }
    }
    let upserts: Vec<Step> = (0..16u64)
        .map(|n| vec![Some(batch((0..ROWS as u64).map(|i| scattered(n * ROWS as u64 + i) % KEYS), |i| i as u32))])
        .collect();
    let upsert = Box::new(UpsertOperator::new("upsert", (true, true), &schema(), 1).expect("a good schema"));
    bench("upsert", filled(upsert, &[0]), &upserts);
}

fn encodings(c: &mut Criterion) {
    let mut group = c.benchmark_group("encoding");
    group.throughput(Throughput::Elements(ROWS as u64));
    let columns = columns((0..ROWS as u64).map(scattered));
    let times: Vec<i64> = (0..ROWS as i64).collect();
    for (name, column) in [("text", &columns[0]), ("number", &columns[1])] {
        let codec = KeyCodec::new(&[column.data_type().clone()]).expect("a key type");
        let one = std::slice::from_ref(column);
        let keys = codec.encode(one, ROWS).expect("columns fit");
        group.bench_function(format!("key encode, {name}"), |b| b.iter(|| codec.encode(one, ROWS)));
        group.bench_function(format!("key decode, {name}"), |b| b.iter(|| codec.decode(keys.iter())));
    }
    let values = &columns[1..];
    let codec = RowCodec::new(&values.iter().map(|c| c.data_type().clone()).collect::<Vec<_>>()).expect("row types");
    let rows = codec.encode(values, &times).expect("columns fit");
    group.bench_function("row encode", |b| b.iter(|| codec.encode(values, &times)));
    group.bench_function("row decode", |b| b.iter(|| codec.decode(rows.iter().map(Some))));
}

fn tables(c: &mut Criterion) {
    let mut group = c.benchmark_group("table");
    group.throughput(Throughput::Elements(ROWS as u64));
    let codec = KeyCodec::new(&[DataType::Utf8]).expect("a key type");
    let key_batches: Vec<_> = (0..16u64)
        .map(|n| columns((0..ROWS as u64).map(|i| scattered(n * ROWS as u64 + i) % KEYS)).swap_remove(0))
        .map(|column| codec.encode(&[column], ROWS).expect("columns fit"))
        .collect();
    let mut table = KeyedTable::new("bench");
    let all = codec.encode(&[columns(0..KEYS).swap_remove(0)], KEYS as usize).expect("columns fit");
    all.iter().for_each(|key| table.put(key, &[1; 40]));
    let mut n = 0;
    group.bench_function("get", |b| {
        b.iter(|| {
            n += 1;
            key_batches[n % 16].iter().filter(|key| matches!(table.get(key), Ok(Some(_)))).count()
        });
    });
    group.bench_function("put, block", |b| {
        b.iter(|| {
            n += 1;
            table.settle();
            key_batches[n % 16].iter().for_each(|key| table.put(key, &[2; 40]));
            table.take_block()
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(2));
    targets = encodings, tables, operators
}
criterion_main!(benches);
