//! A node is killed while records flow: another one goes on with its partitions from the copies it keeps (`num.standby.replicas`).
//!
//! On a real Kafka (`RIVERRUN_KAFKA`), with nodes as processes, since only those can be killed. CI checks that the copies are taken up; the time
//! it takes is only told there. Measured is it by `RIVERRUN_KAFKA=… RIVERRUN_FAILOVER_KEYS=1000000 RIVERRUN_BIN=target/release/riverrun cargo
//! test --test main failover -- --nocapture`, which also fails if it takes longer than the session's time-out and three seconds.

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
    fn start(brokers: &str, name: &str, folder: &Path, number: usize, queries: Option<&Path>) -> Self {
        let log = folder.join(format!("{number}.log"));
        let program = std::env::var("RIVERRUN_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_riverrun").to_owned());
        let mut command = Command::new(program);
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
        let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let url = lines.find_map(|line| Some(line.ok()?.split_once("listens on ")?.1.to_owned()));
        let said = || fs::read_to_string(&log).unwrap_or_default();
        Self { url: url.unwrap_or_else(|| panic!("node {number} does not start: {}", said())), child, log }
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

    fn nodes(&self) -> [Node; 2] {
        let file = self.folder.path().join("queries.sql");
        let text = format!(
            "CREATE STREAM clicks (page STRING KEY, n BIGINT) WITH (KAFKA_TOPIC='{}', VALUE_FORMAT='JSON');
             CREATE TABLE per_page WITH (KAFKA_TOPIC='{}') AS SELECT page, COUNT(*) AS c FROM clicks GROUP BY page;",
            self.clicks, self.table
        );
        fs::write(&file, text).expect("a file");
        let start = |n, queries| Node::start(&self.brokers, &self.service, self.folder.path(), n, queries);
        [start(0, Some(file.as_path())), start(1, None)]
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

#[test]
fn a_node_that_is_killed_is_followed_by_who_keeps_copies() {
    let full: Option<usize> =
        std::env::var("RIVERRUN_FAILOVER_KEYS").ok().map(|keys| keys.parse().expect("RIVERRUN_FAILOVER_KEYS"));
    let keys = full.unwrap_or(20_000);
    let Some(setup) = Setup::new(keys) else { return };
    let log = setup.engine.log().clone();
    let [one, mut two] = setup.nodes();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let status = || -> Value {
        let text = async { reqwest::get(format!("{}/clusterStatus", one.url)).await?.text().await };
        runtime.block_on(text).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    };
    let lost = wait("both have copies of all that the other one has", || {
        let status = status();
        let (a, b) = (told(&status, &one.url)?, told(&status, &two.url)?);
        let all = PARTITIONS as usize;
        let whole = a.0.len() == all / 2 && b.0.len() == all / 2 && a.1 == all && b.1 == all;
        (whole && ends(&*log, &setup.table).iter().sum::<i64>() >= keys as i64).then_some(b.0)
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
    if full.is_some() {
        assert!(took <= SESSION + AFTER, "{took:?}");
    }
    let expected = (keys + rounds * more + NEW_KEYS) as i64;
    wait("all is counted once", || (counted(&*log, &setup.table) == expected).then_some(()));
    drop((one, two));
    setup.leave();
}
