//! One record with a million outputs, in bounded memory, and the rate of a foreign-key join: `cargo bench --bench many_outputs`,
//! `-- --rows 100000` for less.
//!
//! A right row that a million left rows refer to, and a jump of stream time over a million windows under EMIT FINAL: each on an embedded log,
//! in a process of its own, once undisturbed, once with the tasks thrown away between pages, and once while the stores are written behind;
//! outputs are counted, and the memory that the record takes beyond what was held before. The subtle thing: the peak is reset by the kernel
//! before the record is read, and the clock stands still, so that no write-behind falls before or into the record by the machine's speed.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::BinaryArray;

use riverrun::clock::ManualClock;
use riverrun::engine::{Engine, EngineConfig};
use riverrun::topic::{Append, Commit, ReadLimit, TopicPartition};
use riverrun::types::{QueryId, TopicName};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DEFAULT_ROWS: u64 = 1_000_000;
const LOAD_ROWS: u64 = 8192;
/// What the record may take beyond what was held before.
const MORE_BYTES: u64 = 64 << 20;
/// More than the time between two write-behinds.
const BEHIND_MS: i64 = 60_000;
/// Where tasks are thrown away: after so many pages, over and over.
const PAGES_BETWEEN_ABORTS: u64 = 8;
/// Right rows of the join whose rate is measured, as a share of the left ones.
const LEFT_PER_RIGHT: u64 = 10;
/// What that rate must be, in records a second of processor time.
const LEAST_RATE: f64 = 150_000.0;

const FOREIGN_KEY: &str = "
CREATE TABLE l (id BIGINT PRIMARY KEY, f STRING, n BIGINT) WITH (KAFKA_TOPIC='l', VALUE_FORMAT='JSON', PARTITIONS=1);
CREATE TABLE r (k STRING PRIMARY KEY, v BIGINT) WITH (KAFKA_TOPIC='r', VALUE_FORMAT='JSON', PARTITIONS=1);
CREATE TABLE o WITH (KAFKA_TOPIC='o') AS SELECT l.id AS id, n, v FROM l JOIN r ON l.f = r.k;";

const FINAL: &str = "
CREATE STREAM s (k STRING KEY, n BIGINT) WITH (KAFKA_TOPIC='s', VALUE_FORMAT='JSON', PARTITIONS=1);
CREATE TABLE o WITH (KAFKA_TOPIC='o') AS SELECT k, COUNT(*) AS n FROM s
WINDOW TUMBLING (SIZE 1 SECOND, RETENTION 30000000 SECONDS, GRACE PERIOD 10000000 SECONDS) GROUP BY k EMIT FINAL;";

type Record = (Vec<u8>, String, i64);

fn append(engine: &Engine, topic: &str, rows: u64, record: impl Fn(u64) -> Record) {
    for from in (0..rows).step_by(LOAD_ROWS as usize) {
        let records: Vec<Record> = (from..(from + LOAD_ROWS).min(rows)).map(&record).collect();
        let append = Append {
            to: TopicPartition::new(topic, 0),
            timestamps: records.iter().map(|r| r.2).collect(),
            keys: BinaryArray::from_iter_values(records.iter().map(|r| &r.0)),
            values: BinaryArray::from_iter_values(records.iter().map(|r| &r.1)),
            headers: None,
        };
        engine.log().commit(Commit { outputs: vec![append], ..Commit::default() }).expect("the log takes it");
    }
}

fn records(engine: &Engine, topic: &str) -> u64 {
    let at = TopicPartition::new(TopicName::new(topic), 0);
    let (mut from, mut count) = (0, 0);
    loop {
        let fetched = engine.log().read(&at, from, ReadLimit::default()).expect("the log can be read");
        count += fetched.batch.len() as u64;
        if fetched.next >= fetched.end {
            return count;
        }
        from = fetched.next;
    }
}

/// The sums of the columns N and V of all outputs.
fn sums(engine: &Engine) -> (u64, u64) {
    let at = TopicPartition::new(TopicName::new("o"), 0);
    let (mut from, mut sums) = (0, (0, 0));
    loop {
        let fetched = engine.log().read(&at, from, ReadLimit::default()).expect("the log can be read");
        for value in fetched.batch.values.iter().flatten() {
            let row: serde_json::Value = serde_json::from_slice(value).expect("rows are JSON");
            let number = |name: &str| row[name].as_u64().expect("a number");
            sums = (sums.0 + number("N"), sums.1 + number("V"));
        }
        if fetched.next >= fetched.end {
            return sums;
        }
        from = fetched.next;
    }
}

/// A line of this process's status in bytes.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Seconds of processor that all threads of this process have used.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.rsplit(") ").next().unwrap_or("").split(' ').map(|f| f.parse().unwrap_or(0.0)).collect();
    // user and system time, in hundredths of a second
    fields.get(11..13).map_or(0.0, |times| times.iter().sum::<f64>() / 100.0)
}

fn open(dir: &Path, statements: &str, clock: Option<Arc<ManualClock>>) -> (Engine, QueryId) {
    let clock = clock.map(|clock| clock as _);
    let config = EngineConfig { data_dir: Some(dir.to_owned()), manual: true, clock, ..EngineConfig::default() };
    let engine = Engine::open(config).expect("an empty directory");
    let mut session = engine.session();
    session
        .execute(&format!("SET 'auto.offset.reset' = 'earliest'; {statements}"))
        .unwrap_or_else(|e| panic!("{}", e.diagnostic));
    let id = engine.catalog().queries().next().expect("a query").id.clone();
    (engine, id)
}

/// What happens while the record passes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Undisturbed,
    /// tasks are thrown away between pages
    Abort,
    /// stores are written behind
    Behind,
}

impl How {
    /// Option of this program, and words.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Undisturbed => ("--undisturbed", "undisturbed"),
            Self::Abort => ("--abort", "with tasks thrown away between pages"),
            Self::Behind => ("--behind", "while stores are written behind"),
        }
    }
}

const HOWS: [How; 3] = [How::Undisturbed, How::Abort, How::Behind];

fn pump(engine: &Engine, id: &QueryId) {
    engine.runtime().pump(id, &|_| None).expect("the query runs");
}

/// Prints the bytes that one record took beyond what was held before, and how many outputs are there.
fn one_record(what: &str, how: How, rows: u64, dir: &Path) {
    let clock = Arc::new(ManualClock::new(0));
    let (engine, id) = if what == "join" {
        let opened = open(dir, FOREIGN_KEY, Some(clock.clone()));
        append(&opened.0, "l", rows, |i| (i.to_be_bytes().to_vec(), format!("{{\"F\":\"a\",\"N\":{i}}}"), i as i64));
        opened
    } else {
        let opened = open(dir, FINAL, Some(clock.clone()));
        append(&opened.0, "s", rows, |i| (b"k".to_vec(), "{\"N\":1}".to_owned(), 1000 * i as i64));
        opened
    };
    pump(&engine, &id);
    assert_eq!(records(&engine, "o"), 0, "nothing is given out before the record");
    let before = status("VmRSS:");
    std::fs::write("/proc/self/clear_refs", "5").expect("the kernel resets the peak");
    if what == "join" {
        append(&engine, "r", 1, |_| (b"a".to_vec(), "{\"V\":7}".to_owned(), rows as i64));
    } else {
        append(&engine, "s", 1, |_| (b"k".to_vec(), "{\"N\":1}".to_owned(), 1000 * (rows + 10_000_002) as i64));
    }
    if how == How::Behind {
        clock.advance(BEHIND_MS);
    }
    let mut pages = 0;
    while how == How::Abort && engine.runtime().pump_step(&id, &|_| None).expect("the query runs") {
        pages += 1;
        if pages % PAGES_BETWEEN_ABORTS == 0 {
            engine.runtime().abort(&id).expect("it runs");
        }
    }
    pump(&engine, &id);
    println!("{} {}", status("VmHWM:").saturating_sub(before), records(&engine, "o"));
}

/// Prints records a second of processor time, on one thread.
fn rate(rows: u64, dir: &Path) {
    let (engine, id) = open(dir, FOREIGN_KEY, None);
    let rights = rows / LEFT_PER_RIGHT;
    let right = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % rights;
    append(&engine, "r", rights, |i| (format!("customer-{i}").into_bytes(), format!("{{\"V\":{i}}}"), i as i64));
    append(&engine, "l", rows, |i| {
        (i.to_be_bytes().to_vec(), format!("{{\"F\":\"customer-{}\",\"N\":{i}}}", right(i)), i as i64)
    });
    let (start, cpu) = (Instant::now(), cpu_seconds());
    pump(&engine, &id);
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let all = (rows + rights) as f64;
    assert_eq!(sums(&engine), (rows * (rows - 1) / 2, (0..rows).map(right).sum()), "the sums of N and V");
    println!("{} {} {}", all / cpu, all / wall, records(&engine, "o"));
}

fn child(args: &[&str], rows: u64) -> Vec<f64> {
    let me = std::env::current_exe().expect("this program");
    let output = Command::new(me).args(args).args(["--rows", &rows.to_string()]).output().expect("it runs");
    let numbers = String::from_utf8_lossy(&output.stdout).split_whitespace().filter_map(|n| n.parse().ok()).collect();
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    }
    numbers
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let after = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let rows = after("--rows").map_or(DEFAULT_ROWS, |n| n.parse().unwrap_or_else(|_| panic!("--rows takes a number")));
    let dir = tempfile::tempdir().expect("a temporary folder");
    if let Some(what) = after("--record") {
        let asked = |how: &How| args.iter().any(|arg| arg == how.words().0);
        one_record(what, HOWS.into_iter().find(asked).unwrap_or(How::Undisturbed), rows, dir.path());
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--rate") {
        rate(rows, dir.path());
        return ExitCode::SUCCESS;
    }
    let mut good = true;
    for what in ["join", "final"] {
        for (option, how) in HOWS.map(How::words) {
            let [more, outputs] = child(&["--record", what, option], rows)[..] else { return ExitCode::FAILURE };
            println!("{what}, one record, {how}: {:.1} MiB more, {outputs} outputs", more / f64::from(1 << 20));
            good &= more <= MORE_BYTES as f64 && outputs == rows as f64;
        }
    }
    let [cpu, wall, outputs] = child(&["--rate"], rows)[..] else { return ExitCode::FAILURE };
    println!("foreign-key join: {cpu:.0} records/s of CPU time ({wall:.0} of wall time), {outputs} outputs");
    if good && outputs == rows as f64 && cpu >= LEAST_RATE { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
