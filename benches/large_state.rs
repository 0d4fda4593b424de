//! A count over more keys than the memory budget holds: `cargo bench --bench large_state`, `-- --keys 1000000 --budget-mib 32` for less.
//!
//! Runs itself twice, with all state in memory and with the budget, each in a process of its own on an embedded log that another process
//! has filled, and compares rates, peak memory and every single count. Most records bring a new key, every ninth one comes back to an old one at random, which
//! is what a store behind the memory finds hardest. The subtle thing: counts are read from the committed state, as pull queries do.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, AsArray, BinaryArray};
use arrow::datatypes::{DataType, Int64Type};

use riverrun::clock::SystemClock;
use riverrun::format::{Format, FormatSpec};
use riverrun::plan::lookup::{KeyColumns, Lookup};
use riverrun::plan::topology::{
    AggregateCall, AggregateSpec, InputSpec, MaterializationSpec, NodeSpec, OperatorSpec, Port, SinkSpec, SourceInput,
    SubTopology, Topology,
};
use riverrun::runtime::{QuerySettings, QuerySpec, Runtime, RuntimeConfig};
use riverrun::topic::embedded::{EmbeddedLog, LogOptions};
use riverrun::topic::{Append, Commit, Log, Owner, TopicPartition, TopicSpec};
use riverrun::types::schema::arrow_schema;
use riverrun::types::{Column, LogicalSchema, QueryId, SqlType};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DEFAULT_KEYS: u64 = 20_000_000;
const DEFAULT_BUDGET_MIB: u64 = 512;
/// Every such record repeats a key.
const REPEAT_EVERY: u64 = 9;
const LOAD_ROWS: u64 = 8192;
/// What the process may take at its peak, as a multiple of the budget.
const PEAK_MULTIPLE: u64 = 2;
/// What the rate with the budget must be of the one in memory.
const LEAST_RATE: f64 = 0.25;

/// Which key record `i` has: the number of a key in the order of first appearance.
fn key_of(i: u64) -> u64 {
    let fresh = i - i / REPEAT_EVERY;
    if i % REPEAT_EVERY == REPEAT_EVERY - 1 { (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % fresh } else { fresh }
}

fn records(keys: u64) -> u64 {
    keys + keys / (REPEAT_EVERY - 1)
}

/// The name of a key, scattered over all names.
fn name(key: u64) -> String {
    format!("order-{:016x}", key.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn number(name: &str) -> Option<u64> {
    let scattered = u64::from_str_radix(name.strip_prefix("order-")?, 16).ok()?;
    // the inverse of the odd factor above, modulo 2^64
    Some(scattered.wrapping_mul(0xf1de_83e1_9937_733d))
}

fn source() -> InputSpec {
    let columns = [Column::key("K", SqlType::String)];
    InputSpec::Source(SourceInput {
        source: "IN".into(),
        topic: "in".into(),
        declared: LogicalSchema::new([columns.to_vec(), vec![Column::value("V", SqlType::BigInt)]].concat()),
        key_format: FormatSpec::new(Format::Kafka),
        value_format: FormatSpec::new(Format::Json),
        window: None,
        timestamp: None,
        is_table: false,
        wanted: columns.iter().map(|c| c.name.clone()).collect(),
        schema: arrow_schema(&columns),
        key_count: 1,
        from_beginning: true,
    })
}

fn topology() -> Topology {
    let columns = vec![Column::key("K", SqlType::String), Column::value("N", SqlType::BigInt)];
    let call = AggregateCall {
        function: "COUNT".into(),
        args: Vec::new(),
        literals: Vec::new(),
        arg_types: Vec::new(),
        ty: SqlType::BigInt,
    };
    let count = AggregateSpec {
        store: "count".into(),
        key_count: 1,
        carried: Vec::new(),
        calls: vec![call],
        window: None,
        table_input: false,
        emit_old: false,
        emit_final: false,
    };
    let sink = SinkSpec {
        source: "OUT".into(),
        topic: "out".into(),
        schema: LogicalSchema::new(columns.clone()),
        key_format: FormatSpec::new(Format::Kafka),
        value_format: FormatSpec::new(Format::Json),
        window: None,
        timestamp: None,
    };
    let node = |op, from| NodeSpec { op, inputs: vec![from], schema: arrow_schema(&columns), key_count: 1 };
    let nodes =
        vec![node(OperatorSpec::Aggregate(count), Port::Input(0)), node(OperatorSpec::Sink(sink), Port::Node(0))];
    let sub = SubTopology { inputs: vec![source()], nodes, partitions: 1 };
    let materialization = Some(MaterializationSpec { sub: 0, node: 0, suffix: Vec::new() });
    Topology { subs: vec![sub], internal_topics: Vec::new(), materialization }
}

fn open(dir: &Path) -> Arc<EmbeddedLog> {
    EmbeddedLog::open(dir, LogOptions::default(), Arc::new(SystemClock)).expect("a directory that nobody else has")
}

fn load(log: &dyn Log, keys: u64) {
    for topic in ["in", "out"] {
        let spec = TopicSpec { name: topic.into(), partitions: 1, replicas: 1, cleanup: Default::default() };
        log.create_topic(&spec).expect("a new topic");
    }
    for from in (0..records(keys)).step_by(LOAD_ROWS as usize) {
        let rows = from..(from + LOAD_ROWS).min(records(keys));
        let names: Vec<String> = rows.clone().map(|i| name(key_of(i))).collect();
        let append = Append {
            to: TopicPartition::new("in", 0),
            timestamps: rows.clone().map(|i| i as i64).collect(),
            keys: BinaryArray::from_iter_values(&names),
            values: BinaryArray::from_iter_values(rows.map(|i| format!("{{\"V\":{i}}}"))),
            headers: None,
        };
        log.commit(Commit { outputs: vec![append], ..Commit::default() }).expect("the log takes it");
    }
}

/// Peak memory of this process in bytes.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Seconds of processor that all threads of this process have used.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.rsplit(") ").next().unwrap_or("").split(' ').map(|f| f.parse().unwrap_or(0.0)).collect();
    // user and system time, in hundredths of a second
    fields.get(11..13).map_or(0.0, |times| times.iter().sum::<f64>() / 100.0)
}

/// How many keys have a wrong count in the committed state.
fn wrong(runtime: &Runtime, id: &QueryId, keys: u64) -> u64 {
    let mut want = vec![0_u8; keys as usize];
    (0..records(keys)).for_each(|i| want[key_of(i) as usize] += 1);
    let (mut wrong, mut seen) = (0, 0);
    let view = runtime.materialized(id).expect("it is materialized");
    let key = KeyColumns { columns: vec![("K".to_owned(), DataType::Utf8)], windowed: false };
    let mut scan = view.scan(&Lookup::all(&key)).expect("the state can be read");
    while let Some(batch) = scan.next_rows().expect("the state can be read") {
        let (names, counts) = (batch.columns[0].as_string::<i32>(), batch.columns[1].as_primitive::<Int64Type>());
        for i in 0..names.len() {
            let known = number(names.value(i)).and_then(|n| want.get(n as usize));
            wrong += u64::from(known.map(|&n| i64::from(n)) != Some(counts.value(i)));
            seen += 1;
        }
    }
    wrong + keys.abs_diff(seen)
}

/// One run in this process; prints wall seconds, CPU seconds, peak bytes and the number of wrong counts.
fn run(keys: u64, budget_bytes: usize, dir: &Path) {
    // as the engine divides `state.memory.bytes`: the storage's caches are a part of it
    let caches = LogOptions::default().storage.memory_bytes() as usize;
    let config = RuntimeConfig { memory_bytes: budget_bytes.saturating_sub(caches), ..RuntimeConfig::default() };
    let runtime = Runtime::manual(open(dir), Arc::new(SystemClock), config);
    let id = QueryId::new("count");
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let spec = QuerySpec {
        id: id.clone(),
        owner: Owner::new("count"),
        topology: Arc::new(topology()),
        settings: QuerySettings::default(),
        client: None,
    };
    runtime.start(spec).expect("the query starts");
    runtime.pump(&id, &|_| None).expect("the query runs");
    let (wall, cpu, peak) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu, peak_bytes());
    println!("{wall} {cpu} {peak} {}", wrong(&runtime, &id, keys));
}

fn option(name: &str) -> Option<u64> {
    let value = word(name)?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} takes a number")))
}

fn word(name: &str) -> Option<String> {
    let args: Vec<String> = std::env::args().collect();
    args.get(args.iter().position(|arg| arg == name)? + 1).cloned()
}

/// What this program prints when it is run with `args` in a process of its own.
fn child(args: &[&str]) -> Option<Vec<f64>> {
    let me = std::env::current_exe().expect("this program");
    let child = Command::new(me).args(args).output().expect("it runs");
    if !child.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&child.stderr));
        return None;
    }
    Some(String::from_utf8_lossy(&child.stdout).split_whitespace().filter_map(|n| n.parse().ok()).collect())
}

/// Rate by processor time and peak memory of a run on a fresh log, printed too; whether all counts are right.
fn measure(what: &str, budget_bytes: u64, keys: u64) -> Option<(f64, u64, bool)> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (path, keys_word) = (dir.path().to_string_lossy(), keys.to_string());
    child(&["--load", &path, "--keys", &keys_word])?;
    let numbers = child(&["--run", &path, "--keys", &keys_word, "--budget-bytes", &budget_bytes.to_string()])?;
    let [wall, cpu, peak, wrong] = numbers[..] else { return None };
    let all = records(keys) as f64;
    println!(
        "{what}: {:.0} records/s of CPU time ({:.0} of wall time), peak {:.0} MiB, {wrong} wrong counts",
        all / cpu,
        all / wall,
        peak / f64::from(1 << 20)
    );
    Some((all / cpu, peak as u64, wrong == 0.0))
}

fn main() -> ExitCode {
    let keys = option("--keys").unwrap_or(DEFAULT_KEYS);
    if let Some(dir) = word("--load") {
        load(open(Path::new(&dir)).as_ref(), keys);
        return ExitCode::SUCCESS;
    }
    if let Some(dir) = word("--run") {
        run(keys, option("--budget-bytes").map_or(usize::MAX, |bytes| bytes as usize), Path::new(&dir));
        return ExitCode::SUCCESS;
    }
    let budget = option("--budget-mib").unwrap_or(DEFAULT_BUDGET_MIB) << 20;
    let Some((in_memory, _, right)) = measure("in memory", u64::MAX >> 1, keys) else { return ExitCode::FAILURE };
    let Some((rate, peak, right_too)) = measure("with budget", budget, keys) else { return ExitCode::FAILURE };
    println!("{keys} keys, budget {} MiB: {:.2} of the rate in memory", budget >> 20, rate / in_memory);
    let good = right && right_too && peak <= PEAK_MULTIPLE * budget && rate >= in_memory * LEAST_RATE;
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
