//! What the runtime costs a record: a copy of a topic, and a join whose inputs come sorted by time or strictly alternating.
//!
//! Runs on the in-memory log without threads. The subtle thing: the alternating join must reach half the rate of the sorted one.

#![allow(clippy::unwrap_used, reason = "a bench may stop where it is not as it should be")]

use std::sync::Arc;

use arrow::array::BinaryArray;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use riverrun::clock::ManualClock;
use riverrun::format::{Format, FormatSpec};
use riverrun::plan::topology::{
    InputSpec, JoinKind, JoinSpec, NodeSpec, OperatorSpec, Port, SinkSpec, SourceInput, SubTopology, Topology,
};
use riverrun::runtime::{QuerySettings, QuerySpec, Runtime, RuntimeConfig};
use riverrun::topic::memory::MemoryLog;
use riverrun::topic::{Append, Commit, Log, Owner, TopicPartition, TopicSpec};
use riverrun::types::schema::arrow_schema;
use riverrun::types::{Column, LogicalSchema, QueryId, SqlType};

const ROWS: i64 = 100_000;

fn columns() -> Vec<Column> {
    vec![Column::key("K", SqlType::String), Column::value("V", SqlType::BigInt)]
}

fn source(topic: &str, is_table: bool) -> InputSpec {
    InputSpec::Source(SourceInput {
        source: topic.into(),
        topic: topic.into(),
        declared: LogicalSchema::new(columns()),
        key_format: FormatSpec::new(Format::Kafka),
        value_format: FormatSpec::new(Format::Json),
        window: None,
        timestamp: None,
        is_table,
        wanted: columns().into_iter().map(|c| c.name).collect(),
        schema: arrow_schema(&columns()),
        key_count: 1,
        from_beginning: true,
    })
}

fn node(op: OperatorSpec, inputs: Vec<Port>, columns: &[Column]) -> NodeSpec {
    NodeSpec { op, inputs, schema: arrow_schema(columns), key_count: 1 }
}

fn sink(from: Port, columns: &[Column]) -> NodeSpec {
    let spec = SinkSpec {
        source: "OUT".into(),
        topic: "out".into(),
        schema: LogicalSchema::new(columns.to_vec()),
        key_format: FormatSpec::new(Format::Kafka),
        value_format: FormatSpec::new(Format::Json),
        window: None,
        timestamp: None,
    };
    node(OperatorSpec::Sink(spec), vec![from], columns)
}

fn topology(inputs: Vec<InputSpec>, nodes: Vec<NodeSpec>) -> Topology {
    let sub = SubTopology { inputs, nodes, partitions: 1 };
    Topology { subs: vec![sub], internal_topics: vec![], materialization: None }
}

fn copy() -> Topology {
    topology(vec![source("in", false)], vec![sink(Port::Input(0), &columns())])
}

fn join() -> Topology {
    let joined: Vec<Column> = [
        ("K", SqlType::String),
        ("L_K", SqlType::String),
        ("L_V", SqlType::BigInt),
        ("R_K", SqlType::String),
        ("R_V", SqlType::BigInt),
    ]
    .into_iter()
    .enumerate()
    .map(|(i, (name, ty))| if i == 0 { Column::key(name, ty) } else { Column::value(name, ty) })
    .collect();
    let upsert = OperatorSpec::Upsert { store: "table".to_owned(), emit_old: false, keep: false };
    let spec = JoinSpec {
        kind: JoinKind::Left,
        left_store: "left".to_owned(),
        right_store: "right".to_owned(),
        left: arrow_schema(&columns()),
        right: arrow_schema(&columns()),
        key_count: 1,
        emit_old: false,
    };
    let nodes = vec![
        node(upsert, vec![Port::Input(1)], &columns()),
        node(OperatorSpec::StreamTableJoin(spec), vec![Port::Input(0), Port::Node(0)], &joined),
        sink(Port::Node(1), &joined),
    ];
    topology(vec![source("in", false), source("table", true)], nodes)
}

/// A log with `ROWS` records in each topic, whose times are `time(topic, row)`.
fn log(time: impl Fn(usize, i64) -> i64) -> Arc<MemoryLog> {
    let log = MemoryLog::new(Arc::new(ManualClock::new(0)));
    for (n, topic) in ["in", "table", "out"].into_iter().enumerate() {
        log.create_topic(&TopicSpec { name: topic.into(), partitions: 1, replicas: 1, cleanup: Default::default() })
            .unwrap();
        if topic == "out" {
            continue;
        }
        let keys: Vec<String> = (0..ROWS).map(|i| format!("key-{}", i % 1000)).collect();
        let values: Vec<String> = (0..ROWS).map(|i| format!("{{\"V\":{i}}}")).collect();
        let append = Append {
            to: TopicPartition::new(topic, 0),
            timestamps: (0..ROWS).map(|i| time(n, i)).collect(),
            keys: BinaryArray::from_iter_values(&keys),
            values: BinaryArray::from_iter_values(&values),
            headers: None,
        };
        log.commit(Commit { outputs: vec![append], ..Commit::default() }).unwrap();
    }
    log
}

fn run(log: &Arc<MemoryLog>, topology: &Arc<Topology>) {
    let runtime = Runtime::manual(log.clone(), Arc::new(ManualClock::new(0)), RuntimeConfig::default());
    let id = QueryId::new("q");
    runtime
        .start(QuerySpec {
            id: id.clone(),
            owner: Owner::new("group"),
            topology: topology.clone(),
            settings: QuerySettings::default(),
            client: None,
        })
        .unwrap();
    runtime.pump(&id, &|_| None).unwrap();
    runtime.forget(&id).unwrap();
}

fn benches(c: &mut Criterion) {
    let sorted = log(|topic, row| topic as i64 * ROWS + row);
    let alternating = log(|topic, row| 2 * row + topic as i64);
    let mut group = c.benchmark_group("runtime");
    group.sample_size(10);
    group.throughput(Throughput::Elements(ROWS as u64));
    let copy = Arc::new(copy());
    group.bench_function("copy", |b| b.iter(|| run(&sorted, &copy)));
    group.throughput(Throughput::Elements(2 * ROWS as u64));
    let join = Arc::new(join());
    group.bench_function("join/sorted", |b| b.iter(|| run(&sorted, &join)));
    group.bench_function("join/alternating", |b| b.iter(|| run(&alternating, &join)));
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
