//! Nodes that come and go: one is killed while records flow, and another goes on with its partitions from the copies it keeps
//! (`num.standby.replicas`); one loses its folder and restores all; a second one comes, takes work, and leaves.
//!
//! On a real Kafka (`RIVERRUN_KAFKA`), with nodes as processes, since only those can be killed. CI checks with little state that nothing is lost or
//! doubled; how long things take is told there, and checked only where a variable asks for the full size: `RIVERRUN_FAILOVER_KEYS=1000000`,
//! `RIVERRUN_RESTORE_KEYS=5000000`, `RIVERRUN_SCALE_RECORDS=1000000`, with `RIVERRUN_BIN=target/release/riverrun cargo test --test main failover --
//! --nocapture`. The time of a restore is that of the process on one core, with all its threads.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::BinaryArray;
use riverrun::engine::{Engine, EngineConfig};
use riverrun::topic::partitioner::partition_for;
use riverrun::topic::{Append, Cleanup, Commit, Log, ReadLimit, TopicPartition, TopicSpec};
use serde_json::Value;

const PARTITIONS: i32 = 4;
const SESSION: Duration = Duration::from_secs(6);
/// What may be added to it.
const AFTER: Duration = Duration::from_secs(3);
/// Longest time that anything may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// The first of the keys that come after the kill.
const NEVER_BEFORE: usize = 90_000_000;
/// How many these are.
const NEW_KEYS: usize = 100;
/// Records that are written at once.
const CHUNK: usize = 20_000;

/// A node as a process; killed when dropped.
struct Node {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Node {
    /// Starts node `number`, of which each has a core of its own where it is wanted and the machine has as many.
    fn start(setup: &Setup, number: usize, queries: Option<&Path>, own_core: bool) -> Self {
        let (brokers, name, folder) = (&setup.brokers, &setup.service, setup.folder.path());
        let log = folder.join(format!("{number}.log"));
        let program = std::env::var("RIVERRUN_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_riverrun").to_owned());
        let mut command = Command::new(if own_core { "taskset" } else { program.as_str() });
        if own_core {
            command.args(["-c", &number.to_string(), &program]);
        }
        command.args(["server", "--listen", "127.0.0.1:0", "--bootstrap-servers", brokers, "--service-id", name]);
        command.arg("--data-dir").arg(folder.join(number.to_string()));
        let session = format!("session.timeout.ms={}", SESSION.as_millis());
        for set in ["auto.offset.reset=earliest", "num.standby.replicas=1", "ksql.lag.reporting.enable=true"] {
            command.args(["--set", set]);
        }
        command.args(["--set", "ksql.lag.reporting.send.interval.ms=200", "--set", &session]);
        if let Some(queries) = queries {
            command.arg("--queries-file").arg(queries);
        }
        let errors = File::create(&log).expect("a file");
        if own_core {
            command.args(["--set", "worker.threads=1"]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let url = lines.find_map(|line| Some(line.ok()?.split_once("listens on ")?.1.to_owned()));
        let said = || fs::read_to_string(&log).unwrap_or_default();
        Self { url: url.unwrap_or_else(|| panic!("node {number} does not start: {}", said())), child, log }
    }

    /// User and system time of all its threads so far.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        // Linux tells them in hundredths of a second.
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    /// SIGTERM, and waits for its end.
    fn stop(&mut self) {
        let done = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill is there");
        assert!(done.success(), "a signal is sent");
        wait("the end of a node", || self.child.try_wait().expect("a child"));
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How many changelog records were read back for each store of these partitions that was restored since line `from` of what the node
    /// said.
    fn restored(&self, from: usize, partitions: &[i32]) -> Vec<u64> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let told = text.lines().skip(from).filter(|line| line.contains("a store is restored"));
        let of_these = |line: &&str| {
            let store = line.split("store=").nth(1).and_then(|rest| rest.split_whitespace().next());
            partitions.iter().any(|p| store.is_some_and(|store| store.ends_with(&format!("-{p}"))))
        };
        told.filter(of_these)
            .filter_map(|line| line.split("read=").nth(1)?.split_whitespace().next()?.parse().ok())
            .collect()
    }

    fn lines(&self) -> usize {
        fs::read_to_string(&self.log).unwrap_or_default().lines().count()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn wait<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn key(number: usize) -> String {
    format!("key-{number:08}")
}

/// Writes one record for each of these keys.
fn write(log: &dyn Log, topic: &str, keys: std::ops::Range<usize>) {
    let mut mine: Vec<Vec<String>> = vec![Vec::new(); PARTITIONS as usize];
    keys.map(key).for_each(|key| mine[partition_for(key.as_bytes(), PARTITIONS) as usize].push(key));
    let outputs = (0..).zip(mine).map(|(partition, keys)| Append {
        to: TopicPartition::new(topic, partition),
        timestamps: vec![1_700_000_000_000; keys.len()].into(),
        keys: BinaryArray::from_iter_values(&keys),
        values: BinaryArray::from_iter_values(keys.iter().map(|_| r#"{"N":1}"#)),
        headers: None,
    });
    let outputs = outputs.collect();
    log.commit(Commit { outputs, ..Commit::default() }).expect("records are written");
}

fn ends(log: &dyn Log, topic: &str) -> Vec<i64> {
    (0..PARTITIONS).map(|p| log.bounds(&TopicPartition::new(topic, p)).map_or(0, |bounds| bounds.end)).collect()
}

/// True once a record of this key is in the partition after `from`, which moves on.
fn has_come(log: &dyn Log, at: &TopicPartition, from: &mut i64, key: &str) -> bool {
    let fetched = log.read(at, *from, ReadLimit::default()).expect("the table is read");
    *from = fetched.next;
    (0..fetched.batch.len()).any(|row| fetched.batch.keys.value(row) == key.as_bytes())
}

/// Partitions of `topic` that a node reads, and how many copies of stores report to lack nothing, as a node tells it.
fn told(status: &Value, url: &str) -> Option<(Vec<i32>, usize)> {
    let host = &status["clusterStatus"][url.trim_start_matches("http://")];
    let query = host["activeStandbyPerQuery"].as_object()?.values().next()?;
    let places = query["activePartitions"].as_array()?.iter();
    let active = places.filter_map(|at| i32::try_from(at["partition"].as_i64()?).ok()).collect();
    let stores = host["hostStoreLags"]["stateStoreLags"].as_object()?.values();
    let lags = stores.flat_map(|store| store["lagByPartition"].as_object().into_iter().flat_map(|p| p.values()));
    Some((active, lags.filter(|lag| lag["offsetLag"] == 0 && lag["endOffsetPosition"] != 0).count()))
}

/// The last count of each key of the table, summed; each of them was counted as often as it was written.
fn counted(log: &dyn Log, topic: &str) -> i64 {
    let mut last = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let (at, mut from) = (TopicPartition::new(topic, partition), 0);
        loop {
            let fetched = log.read(&at, from, ReadLimit::default()).expect("the table is read");
            for row in 0..fetched.batch.len() {
                let value: Value = serde_json::from_slice(fetched.batch.values.value(row)).expect("JSON");
                last.insert(fetched.batch.keys.value(row).to_vec(), value["C"].as_i64().expect("a count"));
            }
            if fetched.next >= fetched.end {
                break;
            }
            from = fetched.next;
        }
    }
    last.values().sum()
}

struct Setup {
    engine: Engine,
    folder: tempfile::TempDir,
    brokers: String,
    service: String,
    clicks: String,
    table: String,
}

impl Setup {
    /// The input, one record for each of so many keys, and who reads what comes of it.
    fn new(keys: usize) -> Option<Self> {
        let brokers = std::env::var("RIVERRUN_KAFKA").unwrap_or_default();
        if brokers.is_empty() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs a broker: RIVERRUN_KAFKA names none");
            eprintln!("not checked: RIVERRUN_KAFKA names no broker");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("failover{:08x}", rand::random::<u32>());
        let service = format!("{name}reader_");
        let set = [("bootstrap.servers", brokers.as_str()), ("ksql.service.id", service.as_str())];
        let engine = Engine::open(EngineConfig {
            data_dir: Some(folder.path().join("reader")),
            properties: set.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            ..EngineConfig::default()
        });
        let engine = engine.unwrap_or_else(|e| panic!("{e}"));
        let (clicks, table) = (format!("{name}-clicks"), format!("{name}-table"));
        for (topic, compact) in [(&clicks, false), (&table, false)] {
            let cleanup = Cleanup { compact, ..Cleanup::default() };
            let spec = TopicSpec { name: topic.as_str().into(), partitions: PARTITIONS, replicas: 1, cleanup };
            engine.log().create_topic(&spec).expect("a topic is made");
        }
        for from in (0..keys).step_by(CHUNK) {
            write(&**engine.log(), &clicks, from..(from + CHUNK).min(keys));
        }
        Some(Self { engine, folder, brokers, service: format!("{name}_"), clicks, table })
    }

    /// A queries file with the query whose output is the table's topic.
    fn queries(&self, query: &str) -> PathBuf {
        let file = self.folder.path().join("queries.sql");
        let (clicks, table) = (&self.clicks, &self.table);
        let text = format!(
            "CREATE STREAM clicks (page STRING KEY, n BIGINT) WITH (KAFKA_TOPIC='{clicks}', VALUE_FORMAT='JSON');
             {};",
            query.replace("TOPIC", &format!("KAFKA_TOPIC='{table}'"))
        );
        fs::write(&file, text).expect("a file");
        file
    }

    /// Records in the table's topic.
    fn written(&self) -> i64 {
        ends(&**self.engine.log(), &self.table).iter().sum()
    }

    /// Deletes what the test made.
    fn leave(self) {
        let log = self.engine.log();
        let ours = |name: &str| name.contains(self.service.trim_end_matches('_'));
        log.owners().unwrap().iter().filter(|o| ours(&o.0)).for_each(|owner| log.forget(owner).unwrap());
        for topic in log.topics().unwrap().iter().filter(|topic| ours(topic.name.as_str())) {
            log.delete_topic(&topic.name).unwrap();
        }
        self.engine.close().unwrap();
    }
}

const COUNT: &str = "CREATE TABLE per_page WITH (TOPIC) AS SELECT page, COUNT(*) AS c FROM clicks GROUP BY page";
/// A query that the processor is what holds it up.
const HEAVY: &str = "CREATE STREAM heavy WITH (TOPIC) AS SELECT page, n,
  LEN(REGEXP_REPLACE(LPAD(page, 4000, 'abc'), 'b(.)', 'x')) AS l FROM clicks";

/// The number that a variable gives for a measurement; `None` if nothing is to be measured.
fn full(variable: &str) -> Option<usize> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn get(runtime: &tokio::runtime::Runtime, node: &Node, path: &str) -> Value {
    let text = async { reqwest::get(format!("{}{path}", node.url)).await?.text().await };
    runtime.block_on(text).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

#[test]
fn a_node_that_lost_its_folder_restores_all_of_its_state() {
    let measured = full("RIVERRUN_RESTORE_KEYS");
    let keys = measured.unwrap_or(20_000);
    let Some(setup) = Setup::new(keys) else { return };
    let mut node = Node::start(&setup, 0, Some(&setup.queries(COUNT)), measured.is_some());
    wait("all keys are counted", || (setup.written() >= keys as i64).then_some(()));
    node.stop();
    fs::remove_dir_all(setup.folder.path().join("0")).expect("the folder goes");
    let node = Node::start(&setup, 0, None, measured.is_some());
    let begun = (Instant::now(), node.cpu());
    let all: Vec<i32> = (0..PARTITIONS).collect();
    let read = wait("all is restored", || {
        let read = node.restored(0, &all);
        (read.len() >= all.len()).then_some(read)
    });
    let (took, cpu) = (begun.0.elapsed(), node.cpu() - begun.1);
    let rate = keys as f64 / cpu.as_secs_f64();
    println!("{keys} keys: restored in {took:?}, {cpu:?} of processor time: {rate:.0} keys/s on one core");
    assert!(read.iter().sum::<u64>() >= keys as u64, "{read:?}");
    if measured.is_some() {
        assert!(rate >= 500_000.0, "{rate}");
    }
    write(&**setup.engine.log(), &setup.clicks, 0..100);
    wait("counts go on", || (counted(&**setup.engine.log(), &setup.table) == keys as i64 + 100).then_some(()));
    drop(node);
    setup.leave();
}

#[test]
fn a_second_node_takes_work_and_leaves_it_again() {
    let measured = full("RIVERRUN_SCALE_RECORDS");
    let records = measured.unwrap_or(5_000);
    let Some(setup) = Setup::new(records) else { return };
    let one = Node::start(&setup, 0, Some(&setup.queries(HEAVY)), measured.is_some());
    wait("it gets on", || (setup.written() > records as i64 / 50).then_some(()));
    let window = Duration::from_secs(if measured.is_some() { 8 } else { 0 });
    let rate = || {
        let (start, before) = (Instant::now(), setup.written());
        wait("time passes", || (start.elapsed() >= window).then_some(()));
        (setup.written() - before) as f64 / start.elapsed().as_secs_f64()
    };
    let alone = rate();
    let mut two = Node::start(&setup, 1, None, measured.is_some());
    let (started, runtime) = (Instant::now(), tokio::runtime::Runtime::new().expect("a runtime"));
    wait("the second one has work", || {
        let status = get(&runtime, &one, "/clusterStatus");
        let parts = |node: &Node| told(&status, &node.url).map_or(0, |(active, _)| active.len());
        (parts(&one) == 2 && parts(&two) == 2).then_some(())
    });
    let moved = started.elapsed();
    let together = rate();
    println!("{records} records: {alone:.0}/s alone, work moved in {moved:?}, {together:.0}/s with a second node");
    if measured.is_some() {
        assert!(setup.written() < records as i64, "all was through before it could be measured; use more records");
        assert!(moved <= Duration::from_secs(10) && together >= 1.3 * alone, "{moved:?}, {}", together / alone);
    }
    two.stop();
    let at = |partition| TopicPartition::new(setup.table.as_str(), partition);
    let mut found = vec![(0, 0_usize); PARTITIONS as usize];
    wait("each record once", || {
        for (partition, (from, count)) in (0..).zip(&mut found) {
            let fetched = setup.engine.log().read(&at(partition), *from, ReadLimit::default()).expect("it is read");
            *count += fetched.batch.len();
            *from = fetched.next;
        }
        let all: usize = found.iter().map(|(_, count)| count).sum();
        assert!(all <= records, "{all} records of {records}");
        (all == records).then_some(())
    });
    drop((one, two));
    setup.leave();
}

#[test]
fn a_node_that_is_killed_is_followed_by_who_keeps_copies() {
    let measured = full("RIVERRUN_FAILOVER_KEYS");
    let keys = measured.unwrap_or(20_000);
    let Some(setup) = Setup::new(keys) else { return };
    let log = setup.engine.log().clone();
    let one = Node::start(&setup, 0, Some(&setup.queries(COUNT)), false);
    let mut two = Node::start(&setup, 1, None, false);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let status = || get(&runtime, &one, "/clusterStatus");
    let lost = wait("both have copies of all that the other one has", || {
        let status = status();
        let (a, b) = (told(&status, &one.url)?, told(&status, &two.url)?);
        let all = PARTITIONS as usize;
        let whole = a.0.len() == all / 2 && b.0.len() == all / 2 && a.1 == all && b.1 == all;
        (whole && setup.written() >= keys as i64).then_some(b.0)
    });
    // Records flow, so that a transaction may well be open when it dies.
    let (stop, more) = (Arc::new(AtomicBool::new(false)), 400);
    let writer = {
        let (stop, log, topic) = (stop.clone(), log.clone(), setup.clicks.clone());
        std::thread::spawn(move || {
            let mut rounds = 0;
            while !stop.load(Ordering::SeqCst) {
                write(&*log, &topic, 0..more);
                rounds += 1;
            }
            rounds
        })
    };
    let before = ends(&*log, &setup.table);
    wait("records flow", || ends(&*log, &setup.table).iter().zip(&before).all(|(now, then)| now > then).then_some(()));
    let lines = one.lines();
    let killed = Instant::now();
    two.kill();
    // What the dead had on its way may still come; these keys it never read.
    write(&*log, &setup.clicks, NEVER_BEFORE..NEVER_BEFORE + NEW_KEYS);
    for &partition in &lost {
        let of_partition = |number: &usize| partition_for(key(*number).as_bytes(), PARTITIONS) == partition;
        let key = key((NEVER_BEFORE..NEVER_BEFORE + NEW_KEYS).find(of_partition).expect("there are some of each"));
        let (at, mut from) = (TopicPartition::new(setup.table.as_str(), partition), before[partition as usize]);
        wait("the partitions of the dead get on", || has_come(&*log, &at, &mut from, &key).then_some(()));
    }
    let took = killed.elapsed();
    stop.store(true, Ordering::SeqCst);
    let rounds = writer.join().expect("the writer ends");
    println!("{keys} keys: partitions {lost:?} get on {took:?} after the kill; the session's time-out is {SESSION:?}");
    let read = wait("it is told what was restored", || {
        Some(one.restored(lines, &lost)).filter(|read| read.len() >= lost.len())
    });
    assert!(read.iter().all(|read| *read < keys as u64 / 8), "only what the copies lacked is read: {read:?}");
    if measured.is_some() {
        assert!(took <= SESSION + AFTER, "{took:?}");
    }
    let expected = (keys + rounds * more + NEW_KEYS) as i64;
    wait("all is counted once", || (counted(&*log, &setup.table) == expected).then_some(()));
    drop((one, two));
    setup.leave();
}
