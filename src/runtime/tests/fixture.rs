//! A small world for tests of the runtime: an in-memory log, a manual clock, hand-made topologies over JSON topics.
//!
//! Plans nothing: topologies are written out. The subtle thing: keys are plain text (KAFKA format), so that tests can read them.

use std::path::Path;
use std::sync::Arc;

use arrow::array::BinaryArray;
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{Expr, col, lit};

use crate::clock::ManualClock;
use crate::format::{Format, FormatSpec};
use crate::function::arithmetic::Arithmetic;
use crate::plan::topology::{
    AggregateCall, AggregateSpec, InputSpec, InternalTopic, JoinKind, JoinSpec, MaterializationSpec, NodeSpec,
    OperatorSpec, Port, SinkSpec, SourceInput, SubTopology, TableCall, Topology,
};
use crate::runtime::{QuerySettings, QuerySpec, Runtime, RuntimeConfig};
use crate::topic::embedded::{EmbeddedLog, LogOptions};
use crate::topic::memory::MemoryLog;
use crate::topic::{Append, Commit, Log, Offset, Owner, ReadLimit, TopicPartition, TopicSpec};
use crate::types::schema::arrow_schema;
use crate::types::{Column, LogicalSchema, QueryId, SqlType, TopicName};

/// A record as tests write it: key, value (`None`: tombstone), timestamp in ms.
pub type Record = (Option<String>, Option<String>, i64);

pub struct World {
    pub log: Arc<dyn Log>,
    pub clock: Arc<ManualClock>,
    pub runtime: Runtime,
    memory: Option<Arc<MemoryLog>>,
}

impl World {
    /// A world that is driven by hand.
    pub fn manual(topics: &[(&str, i32)]) -> Self {
        Self::manual_with(topics, config())
    }

    /// The same with other limits.
    pub fn manual_with(topics: &[(&str, i32)], config: RuntimeConfig) -> Self {
        let clock = Arc::new(ManualClock::new(1_000_000));
        let log = MemoryLog::new(clock.clone());
        create(log.as_ref(), topics);
        let runtime = Runtime::manual(log.clone(), clock.clone(), config);
        Self { log: log.clone(), clock, runtime, memory: Some(log) }
    }

    /// A world on disk, driven by hand; topics that are there stay.
    pub fn on_disk(dir: &Path, topics: &[(&str, i32)]) -> Self {
        let clock = Arc::new(ManualClock::new(1_000_000));
        let log = EmbeddedLog::open(dir, LogOptions::default(), clock.clone()).unwrap();
        create(log.as_ref(), topics);
        let runtime = Runtime::manual(log.clone(), clock.clone(), config());
        Self { log, clock, runtime, memory: None }
    }

    /// A world with `workers` threads.
    pub fn threaded(topics: &[(&str, i32)], workers: usize) -> Self {
        let world = Self::manual(topics);
        let config = RuntimeConfig { workers, ..config() };
        let runtime = Runtime::new(world.log.clone(), world.clock.clone(), config).unwrap();
        Self { runtime, ..world }
    }

    /// The log as one that fails on demand.
    pub fn faults(&self) -> &MemoryLog {
        self.memory.as_ref().expect("only the in-memory log has faults")
    }

    pub fn put(&self, topic: &str, partition: i32, key: &str, value: &str, at_ms: i64) {
        let value = if value.is_empty() { None } else { Some(value.as_bytes()) };
        let append = Append {
            to: TopicPartition::new(topic, partition),
            timestamps: vec![at_ms].into(),
            keys: BinaryArray::from_iter([if key.is_empty() { None } else { Some(key.as_bytes()) }]),
            values: BinaryArray::from_iter([value]),
            headers: None,
        };
        self.log.commit(Commit { outputs: vec![append], ..Commit::default() }).unwrap();
    }

    pub fn records(&self, topic: &str, partition: i32) -> Vec<Record> {
        let at = TopicPartition::new(topic, partition);
        let limit = ReadLimit { max_records: usize::MAX, max_bytes: usize::MAX };
        let (mut records, mut from) = (Vec::new(), 0);
        loop {
            let fetched = self.log.read(&at, from, limit).unwrap();
            let text = |a: &BinaryArray, i| {
                use arrow::array::Array;
                a.is_valid(i).then(|| String::from_utf8_lossy(a.value(i)).into_owned())
            };
            let batch = &fetched.batch;
            records
                .extend((0..batch.len()).map(|i| (text(&batch.keys, i), text(&batch.values, i), batch.timestamps[i])));
            if fetched.next >= fetched.end {
                return records;
            }
            from = fetched.next;
        }
    }

    pub fn values(&self, topic: &str, partition: i32) -> Vec<String> {
        self.records(topic, partition).into_iter().map(|(_, v, _)| v.unwrap_or_default()).collect()
    }

    pub fn start(&self, id: &str, topology: Topology, settings: QuerySettings) {
        self.runtime.start(spec(id, topology, settings)).unwrap();
    }

    pub fn pump(&self, id: &str) {
        self.runtime.pump(&QueryId::new(id), &|_| None).unwrap();
    }
}

pub fn config() -> RuntimeConfig {
    RuntimeConfig { processing_log: Some("plog".into()), ..RuntimeConfig::default() }
}

fn create(log: &dyn Log, topics: &[(&str, i32)]) {
    for (name, partitions) in topics.iter().chain(&[("plog", 1)]) {
        let spec =
            TopicSpec { name: TopicName::new(name), partitions: *partitions, replicas: 1, cleanup: Default::default() };
        if log.describe(&spec.name).unwrap().is_none() {
            log.create_topic(&spec).unwrap();
        }
    }
}

pub fn spec(id: &str, topology: Topology, settings: QuerySettings) -> QuerySpec {
    QuerySpec {
        id: QueryId::new(id),
        owner: Owner::new(format!("group-{id}")),
        topology: Arc::new(topology),
        settings,
        client: None,
    }
}

/// Every change is its own output, records are merged by arrival.
pub fn settings() -> QuerySettings {
    QuerySettings { coalesce: false, by_arrival: true, ..QuerySettings::default() }
}

/// Reads of these sizes, over and over.
pub fn cut(sizes: &[usize]) -> QuerySettings {
    QuerySettings { read_sizes: Some(sizes.into()), ..settings() }
}

/// `K STRING KEY, V BIGINT`.
pub fn columns() -> Vec<Column> {
    vec![Column::key("K", SqlType::String), Column::value("V", SqlType::BigInt)]
}

pub fn schema_of(columns: &[Column]) -> SchemaRef {
    arrow_schema(columns)
}

fn key_format() -> FormatSpec {
    FormatSpec::new(Format::Kafka)
}

pub fn source(topic: &str, is_table: bool) -> InputSpec {
    source_of(topic, is_table, &columns())
}

/// A source of other columns, the first of them the key.
pub fn source_of(topic: &str, is_table: bool, columns: &[Column]) -> InputSpec {
    InputSpec::Source(SourceInput {
        source: topic.into(),
        topic: topic.into(),
        declared: LogicalSchema::new(columns.to_vec()),
        key_format: key_format(),
        value_format: FormatSpec::new(Format::Json),
        window: None,
        timestamp: None,
        is_table,
        wanted: columns.iter().map(|c| c.name.clone()).collect(),
        schema: schema_of(columns),
        key_count: 1,
        from_beginning: true,
    })
}

pub fn node(op: OperatorSpec, inputs: Vec<Port>, columns: &[Column]) -> NodeSpec {
    let key_count = LogicalSchema::new(columns.to_vec()).key_count();
    NodeSpec { op, inputs, schema: schema_of(columns), key_count }
}

pub fn sink(topic: &str, from: Port, columns: &[Column]) -> NodeSpec {
    let spec = SinkSpec {
        source: topic.into(),
        topic: topic.into(),
        schema: LogicalSchema::new(columns.to_vec()),
        key_format: key_format(),
        value_format: FormatSpec::new(Format::Json),
        window: None,
        timestamp: None,
    };
    node(OperatorSpec::Sink(spec), vec![from], columns)
}

fn one(inputs: Vec<InputSpec>, nodes: Vec<NodeSpec>, partitions: i32) -> Topology {
    Topology { subs: vec![SubTopology { inputs, nodes, partitions }], internal_topics: vec![], materialization: None }
}

/// in → out, unchanged.
pub fn copy(partitions: i32) -> Topology {
    one(vec![source("in", false)], vec![sink("out", Port::Input(0), &columns())], partitions)
}

/// in → client, unchanged.
pub fn to_client(partitions: i32) -> Topology {
    let client = node(OperatorSpec::Client, vec![Port::Input(0)], &columns());
    one(vec![source("in", false)], vec![client], partitions)
}

/// in → V > 1 → (K, V + 10) → out.
pub fn filtered(partitions: i32) -> Topology {
    let predicate: Expr = col("\"V\"").gt(lit(1_i64));
    let add = Arithmetic::Add.function(SqlType::BigInt, SqlType::BigInt, SqlType::BigInt);
    let exprs = vec![col("\"K\""), add.call(vec![col("\"V\""), lit(10_i64)])];
    let nodes = vec![
        node(OperatorSpec::Filter { predicate, is_table: false }, vec![Port::Input(0)], &columns()),
        node(OperatorSpec::Project { exprs, is_table: false, input_keys: 1 }, vec![Port::Node(0)], &columns()),
        sink("out", Port::Node(1), &columns()),
    ];
    one(vec![source("in", false)], nodes, partitions)
}

fn counting(input: Port) -> NodeSpec {
    let call = AggregateCall {
        function: "COUNT".into(),
        args: vec![],
        literals: vec![],
        arg_types: vec![],
        ty: SqlType::BigInt,
    };
    let spec = AggregateSpec {
        store: "Aggregate-Aggregate-Materialize".to_owned(),
        key_count: 1,
        carried: vec![],
        calls: vec![call],
        window: None,
        table_input: false,
        emit_old: false,
        emit_final: false,
    };
    node(OperatorSpec::Aggregate(spec), vec![input], &columns())
}

/// COUNT(*) by key, in → out, readable.
pub fn count(partitions: i32) -> Topology {
    let nodes = vec![counting(Port::Input(0)), sink("out", Port::Node(0), &columns())];
    let materialization = Some(MaterializationSpec { sub: 0, node: 0, suffix: vec![] });
    Topology { materialization, ..one(vec![source("in", false)], nodes, partitions) }
}

fn internal(name: &str, partitions: i32) -> InternalTopic {
    InternalTopic { name: name.into(), partitions, schema: columns(), key_count: 1, key_format: key_format() }
}

fn to_internal(topic: usize, from: Port, drop: bool) -> NodeSpec {
    node(OperatorSpec::Repartition { topic, drop_null_keys: drop, drop_absent: drop }, vec![from], &columns())
}

fn from_internal(topic: usize) -> InputSpec {
    InputSpec::Repartition { topic, schema: schema_of(&columns()) }
}

/// in → repartition → out, the last of the given partitions.
pub fn repartitioned(sources: i32, partitions: i32) -> Topology {
    let first = SubTopology {
        inputs: vec![source("in", false)],
        nodes: vec![to_internal(0, Port::Input(0), true)],
        partitions: sources,
    };
    let second = SubTopology {
        inputs: vec![from_internal(0)],
        nodes: vec![sink("out", Port::Input(0), &columns())],
        partitions,
    };
    Topology {
        subs: vec![first, second],
        internal_topics: vec![internal("group-repartition", partitions)],
        materialization: None,
    }
}

fn join_columns() -> Vec<Column> {
    let values = ["L_K", "L_V", "R_K", "R_V"];
    let ty = |name: &str| if name.ends_with('K') { SqlType::String } else { SqlType::BigInt };
    let mut columns = vec![Column::key("K", SqlType::String)];
    columns.extend(values.iter().map(|name| Column::value(*name, ty(name))));
    columns
}

fn join_node(left: Port, right: Port) -> NodeSpec {
    let spec = JoinSpec {
        kind: JoinKind::Left,
        left_store: "Join-left".to_owned(),
        right_store: "Join-right".to_owned(),
        left: schema_of(&columns()),
        right: schema_of(&columns()),
        key_count: 1,
        emit_old: false,
    };
    node(OperatorSpec::StreamTableJoin(spec), vec![left, right], &join_columns())
}

/// in (stream) ⟕ table → out.
pub fn joined(partitions: i32) -> Topology {
    let upsert = OperatorSpec::Upsert { store: "KafkaTopic_Right-Reduce".to_owned(), emit_old: false, keep: false };
    let nodes = vec![
        node(upsert, vec![Port::Input(1)], &columns()),
        join_node(Port::Input(0), Port::Node(0)),
        sink("out", Port::Node(1), &join_columns()),
    ];
    one(vec![source("in", false), source("table", true)], nodes, partitions)
}

/// EXPLODE of the arrays in the stream, then ⟕ table → out: one row becomes many before the node of two inputs.
pub fn exploded_and_joined() -> Topology {
    let arrays = vec![Column::key("K", SqlType::String), Column::value("A", SqlType::Array(Box::new(SqlType::BigInt)))];
    let mut topology = joined(1);
    let sub = &mut topology.subs[0];
    sub.inputs[0] = source_of("in", false, &arrays);
    let calls = vec![TableCall { function: "EXPLODE".to_owned(), arg: col("\"A\"") }];
    sub.nodes.insert(0, node(OperatorSpec::FlatMap { calls, keep: vec![0] }, vec![Port::Input(0)], &columns()));
    for (at, node) in sub.nodes.iter_mut().enumerate().skip(1) {
        for port in &mut node.inputs {
            match port {
                Port::Node(i) => *i += 1,
                Port::Input(0) if at == 2 => *port = Port::Node(0),
                Port::Input(_) | Port::Side(_) => {}
            }
        }
    }
    topology
}

/// in → repartition ⟕ table → out.
pub fn joined_after_repartition() -> Topology {
    let first = SubTopology {
        inputs: vec![source("in", false)],
        nodes: vec![to_internal(0, Port::Input(0), false)],
        partitions: 1,
    };
    let mut second = joined(1).subs.remove(0);
    second.inputs[0] = from_internal(0);
    Topology {
        subs: vec![first, second],
        internal_topics: vec![internal("group-left-repartition", 1)],
        materialization: None,
    }
}

/// Nothing beyond this offset, in any partition.
pub fn up_to(offset: Offset) -> impl Fn(&TopicPartition) -> Option<Offset> {
    move |_| Some(offset)
}
