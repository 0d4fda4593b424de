//! Kill -9: a filter, aggregates and a join run in the real program, which is killed again and again while input is unread.
//!
//! All input is there before the first start, so what must come out is known: afterwards the outputs of filter and join are record for record
//! those of an undisturbed run, and the tables' are the last row of each key. The subtle thing: a moment of death is drawn by what the
//! outputs hold, or by how far a start has come, never by time; if a fast machine reads all input before all deaths are died, the next ones
//! are died over a fresh copy of it.
//!
//! `RIVERRUN_CRASH_RECORDS=2000000 RIVERRUN_CRASH_KILLS=100 cargo test --release crash` is the long one; `RIVERRUN_CRASH_SEED` varies it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, BinaryArray};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use riverrun::clock::SystemClock;
use riverrun::engine::{Engine, EngineConfig};
use riverrun::topic::embedded::{EmbeddedLog, LogOptions};
use riverrun::topic::partitioner::partition_for;
use riverrun::topic::{Append, Commit, Log, ReadLimit, TopicPartition};

const PARTITIONS: i32 = 4;
const KEYS: usize = 500;
/// Longest time that one life of the program may take to get where it is to be killed, and that a whole run may take.
const PATIENCE: Duration = Duration::from_secs(600);

const STATEMENTS: &str = "
CREATE STREAM orders (id STRING KEY, n BIGINT, city STRING, amount INT)
  WITH (KAFKA_TOPIC='orders', VALUE_FORMAT='JSON', PARTITIONS=4);
CREATE TABLE users (id STRING PRIMARY KEY, name STRING)
  WITH (KAFKA_TOPIC='users', VALUE_FORMAT='JSON', PARTITIONS=4);
CREATE STREAM large WITH (KAFKA_TOPIC='large') AS SELECT id, n, amount * 2 AS twice FROM orders WHERE amount >= 50;
CREATE TABLE per_minute WITH (KAFKA_TOPIC='per_minute') AS
  SELECT id, COUNT(*) AS n, SUM(amount) AS amount FROM orders WINDOW TUMBLING (SIZE 1 MINUTE) GROUP BY id;
CREATE TABLE per_city WITH (KAFKA_TOPIC='per_city') AS
  SELECT city, COUNT(*) AS n, SUM(amount) AS amount FROM orders WINDOW TUMBLING (SIZE 1 MINUTE) GROUP BY city;
CREATE STREAM named WITH (KAFKA_TOPIC='named') AS
  SELECT o.id, o.n, u.name FROM orders o LEFT JOIN users u ON o.id = u.id;
";

/// How large the test is, and its random numbers.
struct Size {
    records: usize,
    kills: usize,
    seed: u64,
}

impl Size {
    fn from_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
        Self {
            records: number("RIVERRUN_CRASH_RECORDS").unwrap_or(100_000) as usize,
            kills: number("RIVERRUN_CRASH_KILLS").unwrap_or(8) as usize,
            seed: number("RIVERRUN_CRASH_SEED").unwrap_or(1),
        }
    }
}

/// Key, value and timestamp of a record.
pub type Record = (Option<Vec<u8>>, Option<Vec<u8>>, i64);

/// Records on their way into a topic.
struct Loader<'a> {
    log: &'a Arc<dyn Log>,
    topic: &'static str,
    waiting: Vec<Vec<(String, Option<String>, i64)>>,
}

impl<'a> Loader<'a> {
    fn new(log: &'a Arc<dyn Log>, topic: &'static str) -> Self {
        Self { log, topic, waiting: vec![Vec::new(); PARTITIONS as usize] }
    }

    fn put(&mut self, key: String, value: Option<String>, at_ms: i64) {
        let partition = partition_for(key.as_bytes(), PARTITIONS);
        let waiting = &mut self.waiting[partition as usize];
        waiting.push((key, value, at_ms));
        if waiting.len() == 4000 {
            self.flush(partition);
        }
    }

    fn flush(&mut self, partition: i32) {
        let rows = std::mem::take(&mut self.waiting[partition as usize]);
        let append = Append {
            to: TopicPartition::new(self.topic, partition),
            timestamps: rows.iter().map(|r| r.2).collect::<Vec<_>>().into(),
            keys: BinaryArray::from_iter_values(rows.iter().map(|r| r.0.as_bytes())),
            values: rows.iter().map(|r| r.1.as_deref().map(str::as_bytes)).collect(),
            headers: None,
        };
        self.log.commit(Commit { outputs: vec![append], ..Commit::default() }).expect("input is written");
    }

    fn finish(mut self) {
        (0..PARTITIONS).for_each(|partition| self.flush(partition));
    }
}

/// A data directory with all input and all queries, none of which has run.
fn prepare(dir: &Path, size: &Size) {
    let config = EngineConfig { data_dir: Some(dir.to_owned()), manual: true, ..EngineConfig::default() };
    let engine = Engine::open(config).unwrap_or_else(|e| panic!("{e}"));
    engine.session().execute(STATEMENTS).unwrap_or_else(|e| panic!("{}", e.diagnostic));
    let mut random = StdRng::seed_from_u64(size.seed);
    let (mut orders, mut users) = (Loader::new(engine.log(), "orders"), Loader::new(engine.log(), "users"));
    for n in 0..size.records {
        // all within a day, so that no row is late in any order of the partitions
        let at_ms = 1_700_000_000_000 + n as i64 * 3_600_000 / size.records as i64 + random.random_range(0..2000);
        let key = format!("user-{}", random.random_range(0..KEYS));
        if n % 20 == 0 {
            let name = (random.random_range(0..10) > 0).then(|| format!("{{\"NAME\":\"name {n}\"}}"));
            users.put(format!("user-{}", random.random_range(0..KEYS)), name, at_ms);
        }
        let (city, amount) = (random.random_range(0..40), random.random_range(0..100));
        let value = format!("{{\"N\":{n},\"CITY\":\"city {city}\",\"AMOUNT\":{amount}}}");
        orders.put(key, Some(value), at_ms);
    }
    orders.finish();
    users.finish();
    engine.close().unwrap_or_else(|e| panic!("{e}"));
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file is copied");
        }
    }
}

/// Runs until all input is consumed and committed.
fn run_to_end(dir: &Path, script: &Path) {
    let run = Command::new(env!("CARGO_BIN_EXE_riverrun"))
        .args(["run".as_ref(), script.as_os_str(), "--data-dir".as_ref(), dir.as_os_str()])
        .output()
        .expect("the program runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// One life of the program; killed when dropped.
struct Life {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Life {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_riverrun"))
            .args(["server", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .env("RIVERRUN_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, stdout }
    }

    /// Waits until it has the data directory, when it begins to read the journals.
    fn wait_for_lock(&mut self, dir: &Path) {
        let own = self.child.id().to_string();
        self.wait(|| fs::read_to_string(dir.join("pid")).is_ok_and(|pid| pid == own));
    }

    /// Waits until it serves; gives its address.
    fn wait_for_address(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("standard output is text");
        let address = line.trim().rsplit_once("http://").map(|(_, address)| address.to_owned());
        address.unwrap_or_else(|| panic!("the program ended at its start: {line:?} {:?}", self.child.wait()))
    }

    fn wait(&mut self, mut is_there: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_there() {
            assert!(Instant::now() < deadline, "the program does not get on");
            assert!(self.child.try_wait().expect("a child").is_none(), "the program ended by itself");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

impl Drop for Life {
    /// SIGKILL: nothing in the program runs after it.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Records in a topic, asked over HTTP.
fn records_in(address: &str, topic: &str) -> usize {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    write!(stream, "GET /topics/{topic} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"));
    let partitions = json["partitions"].as_array().unwrap_or_else(|| panic!("{answer}"));
    partitions.iter().map(|p| p["end"].as_u64().expect("an offset") as usize).sum()
}

/// What filter and join have written.
fn written(address: &str) -> usize {
    records_in(address, "large") + records_in(address, "named")
}

/// Kills the program over `dir` until `kills` are done or no input is unread; gives the deaths died.
fn kill_again_and_again(dir: &Path, kills: usize, whole: usize, random: &mut StdRng) -> usize {
    for done in 0..kills {
        let mut life = Life::start(dir);
        match random.random_range(0..8) {
            0 => life.wait_for_lock(dir),
            1 => _ = life.wait_for_address(),
            _ => {
                let address = life.wait_for_address();
                let mut seen = written(&address);
                let share = (whole - seen) / (kills - done + 1);
                let wanted = seen + random.random_range(1..=(2 * share).max(1));
                life.wait(|| {
                    seen = written(&address);
                    seen >= wanted
                });
                if seen == whole {
                    return done;
                }
            }
        }
        drop(life);
    }
    kills
}

/// All records of a topic, by partition.
pub fn contents(log: &dyn Log, topic: &str, partitions: i32) -> Vec<Vec<Record>> {
    let partition = |partition| {
        let at = TopicPartition::new(topic, partition);
        let (mut records, mut from) = (Vec::new(), 0);
        loop {
            let fetched = log.read(&at, from, ReadLimit::default()).expect("the topic is read");
            let batch = &fetched.batch;
            let bytes = |of: &BinaryArray, row: usize| of.is_valid(row).then(|| of.value(row).to_vec());
            let rows = 0..batch.len();
            records.extend(rows.map(|r| (bytes(&batch.keys, r), bytes(&batch.values, r), batch.timestamps[r])));
            from = fetched.next;
            if from >= fetched.end {
                return records;
            }
        }
    };
    (0..partitions).map(partition).collect()
}

fn last_rows(partition: &[Record]) -> BTreeMap<Option<Vec<u8>>, (Option<Vec<u8>>, i64)> {
    partition.iter().map(|(key, value, at)| (key.clone(), (value.clone(), *at))).collect()
}

fn open(dir: &Path) -> Arc<EmbeddedLog> {
    EmbeddedLog::open(dir, LogOptions::default(), Arc::new(SystemClock)).unwrap_or_else(|e| panic!("{e}"))
}

/// What an undisturbed run left.
struct Expected {
    streams: BTreeMap<&'static str, Vec<Vec<Record>>>,
    tables: BTreeMap<&'static str, Vec<Vec<Record>>>,
}

impl Expected {
    fn read(dir: &Path) -> Self {
        let log = open(dir);
        let of = |topics: [&'static str; 2]| topics.into_iter().map(|t| (t, contents(&*log, t, PARTITIONS))).collect();
        Self { streams: of(["large", "named"]), tables: of(["per_minute", "per_city"]) }
    }

    fn records(&self, topic: &str) -> usize {
        self.streams[topic].iter().map(Vec::len).sum()
    }

    /// The sum of a table's counts.
    fn counted(&self, topic: &str) -> u64 {
        let rows = self.tables[topic].iter().flat_map(|partition| last_rows(partition).into_values());
        let count = |value: Option<Vec<u8>>| {
            let json: serde_json::Value = serde_json::from_slice(&value.expect("no row goes")).expect("is JSON");
            json["N"].as_u64().expect("a count")
        };
        rows.map(|(value, _)| count(value)).sum()
    }

    fn compare(&self, dir: &Path, what: &str) {
        let log = open(dir);
        for (topic, expected) in &self.streams {
            for (partition, (found, expected)) in contents(&*log, topic, PARTITIONS).iter().zip(expected).enumerate() {
                same_records(found, expected, &format!("{what}: {topic}-{partition}"));
            }
        }
        for (topic, expected) in &self.tables {
            for (partition, (found, expected)) in contents(&*log, topic, PARTITIONS).iter().zip(expected).enumerate() {
                let (found, expected) = (last_rows(found), last_rows(expected));
                let other = expected.iter().find(|(key, row)| found.get(*key) != Some(row));
                assert!(
                    found == expected,
                    "{what}: {topic}-{partition} ends with {} rows instead of {}; {:?} has {:?}",
                    found.len(),
                    expected.len(),
                    other,
                    other.map(|(key, _)| found.get(key)),
                );
            }
        }
    }
}

/// Fails at the first record that is another one.
pub(crate) fn same_records(found: &[Record], expected: &[Record], what: &str) {
    let first = found.iter().zip(expected).position(|(a, b)| a != b);
    let at = first.unwrap_or(found.len().min(expected.len()));
    assert!(
        found == expected,
        "{what} has {} records instead of {}; the first other one is at {at}: {:?} instead of {:?}",
        found.len(),
        expected.len(),
        found.get(at).map(show),
        expected.get(at).map(show),
    );
}

fn show((key, value, at): &Record) -> String {
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|b| String::from_utf8_lossy(b).into_owned());
    format!("{:?} {:?} at {at}", text(key), text(value))
}

#[test]
fn crash_loses_and_doubles_nothing() {
    let size = Size::from_environment();
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let script = path("nothing.sql");
    fs::write(&script, "SHOW QUERIES;\n").expect("a file");
    prepare(&path("base"), &size);

    copy_folder(&path("base"), &path("undisturbed"));
    run_to_end(&path("undisturbed"), &script);
    let expected = Expected::read(&path("undisturbed"));
    assert_eq!(expected.records("named"), size.records, "a left join gives a row for each");
    assert_eq!(expected.counted("per_minute"), size.records as u64);
    assert_eq!(expected.counted("per_city"), size.records as u64);
    let whole = expected.records("large") + expected.records("named");

    let mut random = StdRng::seed_from_u64(size.seed);
    let (mut kills, mut rounds) = (0, 0);
    while kills < size.kills {
        let killed = path("killed");
        copy_folder(&path("base"), &killed);
        kills += kill_again_and_again(&killed, size.kills - kills, whole, &mut random);
        rounds += 1;
        assert!(rounds <= size.kills, "input is read before the program can be killed; use more records");
        run_to_end(&killed, &script);
        expected.compare(&killed, &format!("seed {}, after {kills} kills in {rounds} rounds", size.seed));
        fs::remove_dir_all(&killed).expect("a folder goes");
    }
    println!("{} records, {kills} kills in {rounds} rounds, {whole} records of filter and join", size.records);
}
