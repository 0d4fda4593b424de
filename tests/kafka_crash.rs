//! Three nodes on a broker of their own: nodes are killed, stopped past their session time-out and let go on, and restarted, and the broker
//! is restarted, at random, while input is unread; the outputs are those of an undisturbed run.
//!
//! Runs where `KAFKA_JARS` names a folder for the broker's jars, else says "not checked"; in CI (`CI=true`) it fails then. All input is there
//! before the first start. The subtle thing: a node that was stopped goes on in the belief that its partitions are its own, and all it
//! does then must come to nothing.
//!
//! The short one, which CI runs, has one event of each kind but the broker's restart: a sole broker that is killed while it has a decided
//! transaction forgets on its return, now and then, to end it in the partitions (its log says "Couldn't find leader endpoint for partitions … while
//! trying to send transaction markers"; `kafka-transactions find-hanging` lists them, with a transactional id that is in state CompleteAbort). Who reads
//! committed records, and a restored task is one, then waits there for ever. The long one draws all events, and has three brokers, of which one at a
//! time is restarted (`RIVERRUN_CRASH_BROKERS` says otherwise):
//! `KAFKA_JARS=… RIVERRUN_CRASH_RECORDS=300000 RIVERRUN_CRASH_EVENTS=60 cargo test --release --test main kafka_crash_long -- --nocapture`;
//! `RIVERRUN_CRASH_SEED` varies it, `RIVERRUN_CRASH_KEEP=1` keeps the nodes' folders and logs of one that failed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::BinaryArray;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use riverrun::engine::{Engine, EngineConfig};
use riverrun::topic::partitioner::partition_for;
use riverrun::topic::{Append, Cleanup, Commit, Log, TopicPartition, TopicSpec};

use crate::crash::{Record, contents, same_records};

const PARTITIONS: i32 = 12;
const NODES: usize = 3;
const KEYS: usize = 500;
/// Inputs of the four queries.
const QUERY_INPUTS: [&[&str]; 4] = [&["orders"], &["orders"], &["orders", "users"], &["orders", "payments"]];
const SESSION_TIMEOUT: Duration = Duration::from_millis(2000);
/// Longest time that a round may take to get on.
const PATIENCE: Duration = Duration::from_secs(300);
/// Events while one copy of the queries reads the input.
const EVENTS_PER_ROUND: usize = 6;
/// Lets the broker end transactions of the dead soon.
const BROKER_SETTINGS: &str = "transaction.abort.timed.out.transaction.cleanup.interval.ms=300";

/// The queries, with outputs of their own.
fn statements(round: &str) -> String {
    format!(
        "
CREATE STREAM orders (id STRING KEY, n BIGINT, amount INT) WITH (KAFKA_TOPIC='orders', VALUE_FORMAT='JSON');
CREATE STREAM payments (id STRING KEY, p BIGINT) WITH (KAFKA_TOPIC='payments', VALUE_FORMAT='JSON');
CREATE TABLE users (id STRING PRIMARY KEY, name STRING) WITH (KAFKA_TOPIC='users', VALUE_FORMAT='JSON');
CREATE STREAM large WITH (KAFKA_TOPIC='large-{round}') AS SELECT id, n, amount * 2 AS twice FROM orders WHERE amount >= 50;
CREATE TABLE per_minute WITH (KAFKA_TOPIC='per_minute-{round}') AS
  SELECT id, COUNT(*) AS n, SUM(amount) AS amount FROM orders WINDOW TUMBLING (SIZE 1 MINUTE) GROUP BY id;
CREATE STREAM named WITH (KAFKA_TOPIC='named-{round}') AS
  SELECT o.id, o.n, u.name FROM orders o LEFT JOIN users u ON o.id = u.id;
CREATE STREAM paid WITH (KAFKA_TOPIC='paid-{round}') AS
  SELECT o.id, o.n, p.p FROM orders o JOIN payments p WITHIN 10 SECONDS GRACE PERIOD 1 DAY ON o.id = p.id;
"
    )
}

/// How large the test is, and its random numbers.
struct Size {
    records: usize,
    seed: u64,
    /// of the cluster; each of them has a copy of all
    brokers: usize,
}

impl Size {
    /// What the environment asks for, with the number of events, if it does.
    fn of_long_test() -> Option<(Self, usize)> {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
        let events = number("RIVERRUN_CRASH_EVENTS")? as usize;
        let records = number("RIVERRUN_CRASH_RECORDS").unwrap_or(20_000) as usize;
        let brokers = number("RIVERRUN_CRASH_BROKERS").unwrap_or(3) as usize;
        Some((Self { records, seed: number("RIVERRUN_CRASH_SEED").unwrap_or(1), brokers }, events))
    }
}

/// What happens to a node, or to the broker.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// SIGKILL, and a new start; with its copy of state lost
    Kill { node: usize, fresh: bool },
    /// SIGSTOP past the session time-out, then SIGCONT
    Suspend { node: usize },
    /// SIGTERM, and a new start
    Restart { node: usize },
    /// a broker is stopped and started
    Broker { broker: usize, kill: bool },
}

impl Event {
    fn draw(random: &mut StdRng, brokers: usize) -> Self {
        let node = random.random_range(0..NODES);
        match random.random_range(0..8) {
            0..=2 => Self::Kill { node, fresh: random.random_range(0..3) == 0 },
            3..=5 => Self::Suspend { node },
            6 => Self::Restart { node },
            _ => Self::Broker { broker: random.random_range(0..brokers), kill: random.random_range(0..2) == 0 },
        }
    }
}

/// A cluster that this test alone uses; gone when dropped.
struct Broker {
    home: tempfile::TempDir,
    /// of all nodes of the cluster
    address: String,
    nodes: usize,
}

impl Broker {
    /// `None` if there is nothing to start one with.
    fn start(nodes: usize) -> Option<Self> {
        if std::env::var_os("KAFKA_JARS").is_none_or(|value| value.is_empty()) {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs a broker: KAFKA_JARS names no folder");
            eprintln!("not checked: KAFKA_JARS is not set");
            return None;
        }
        let home = tempfile::tempdir().expect("a folder");
        // Below the ports that systems give to clients, which may connect to themselves there while the broker is away.
        let port = (0..100).map(|_| rand::rng().random_range(20_000..30_000)).find(|port| are_free(*port, nodes));
        let port = port.expect("a port is free");
        let mut broker = Self { home, address: String::new(), nodes };
        broker.address = broker.call(&["start", "--nodes", &nodes.to_string(), "--port", &port.to_string()]);
        Some(broker)
    }

    fn call(&self, arguments: &[&str]) -> String {
        let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka/kafka"))
            .args(arguments)
            .env("KAFKA_HOME", self.home.path())
            .env("KAFKA_HEAP", "400m")
            .env("KAFKA_WAIT", PATIENCE.as_secs().to_string())
            .env("KAFKA_EXTRA", BROKER_SETTINGS)
            .output()
            .expect("the script runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert!(output.status.success(), "kafka {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.call(&["wipe"]);
    }
}

/// True if so many brokers and their controllers could listen from there on.
fn are_free(port: u16, nodes: usize) -> bool {
    let mut ports = (port..).step_by(10).take(nodes).flat_map(|port| [port, port + 1]);
    ports.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

/// Writes the input: orders, payments some seconds after most of them, and users.
fn load(log: &Arc<dyn Log>, size: &Size, replicas: i16) {
    for topic in ["orders", "payments", "users"] {
        // Not compacted, or later rounds would read another input than earlier ones.
        let cleanup = Cleanup::default();
        log.create_topic(&TopicSpec { name: topic.into(), partitions: PARTITIONS, replicas, cleanup }).expect("made");
    }
    let mut random = StdRng::seed_from_u64(size.seed);
    let mut rows: BTreeMap<(&str, i32), Vec<(String, Option<String>, i64)>> = BTreeMap::new();
    let mut put = |topic, key: String, value, at_ms| {
        let partition = partition_for(key.as_bytes(), PARTITIONS);
        rows.entry((topic, partition)).or_default().push((key, value, at_ms));
    };
    let start_ms = 1_700_000_000_000;
    for n in 0..size.records {
        let at_ms = start_ms + n as i64 * 3_600_000 / size.records as i64 + random.random_range(0..2000);
        let key = format!("user-{}", random.random_range(0..KEYS));
        if n % 20 == 0 {
            let name = (random.random_range(0..10) > 0).then(|| format!("{{\"NAME\":\"name {n}\"}}"));
            put("users", format!("user-{}", random.random_range(0..KEYS)), name, at_ms);
        }
        if random.random_range(0..4) > 0 {
            put("payments", key.clone(), Some(format!("{{\"P\":{n}}}")), at_ms + random.random_range(0..20_000));
        }
        let amount = random.random_range(0..100);
        put("orders", key, Some(format!("{{\"N\":{n},\"AMOUNT\":{amount}}}")), at_ms);
    }
    for ((topic, partition), rows) in rows {
        for rows in rows.chunks(10_000) {
            let append = Append {
                to: TopicPartition::new(topic, partition),
                timestamps: rows.iter().map(|r| r.2).collect::<Vec<_>>().into(),
                keys: BinaryArray::from_iter_values(rows.iter().map(|r| r.0.as_bytes())),
                values: rows.iter().map(|r| r.1.as_deref().map(str::as_bytes)).collect(),
                headers: None,
            };
            log.commit(Commit { outputs: vec![append], ..Commit::default() }).expect("input is written");
        }
    }
}

/// One node; killed when dropped.
struct Node {
    dir: PathBuf,
    brokers: String,
    replicas: usize,
    service: String,
    child: Option<Child>,
}

impl Node {
    fn start(&mut self) {
        fs::create_dir_all(&self.dir).expect("a folder");
        let errors = File::options().create(true).append(true).open(self.dir.with_extension("log")).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_riverrun"));
        command.args(["server", "--listen", "127.0.0.1:0", "--bootstrap-servers", &self.brokers]);
        command.args(["--service-id", &self.service, "--data-dir"]).arg(&self.dir);
        let timeout = format!("consumer.session.timeout.ms={}", SESSION_TIMEOUT.as_millis());
        let replicas = format!("ksql.internal.topic.replicas={}", self.replicas);
        for set in [
            "auto.offset.reset=earliest",
            &replicas,
            "commit.interval.ms=50",
            &timeout,
            "consumer.heartbeat.interval.ms=300",
            "producer.transaction.timeout.ms=4000",
        ] {
            command.args(["--set", set]);
        }
        let child = command.stdout(Stdio::null()).stderr(errors).spawn().expect("the program starts");
        self.child = Some(child);
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let done = Command::new("kill").args([signal, &pid]).status().expect("kill is there");
        assert!(done.success(), "kill {signal} {pid}");
    }

    /// SIGKILL: nothing in it runs after that.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn stop(&mut self) {
        self.signal("-TERM");
        let mut child = self.child.take().expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < deadline, "{} does not end; {}", self.dir.display(), self.said());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn check_alive(&mut self) {
        if let Some(child) = &mut self.child {
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none(), "{} ended by itself with {ended:?}; {}", self.dir.display(), self.said());
        }
    }

    fn said(&self) -> String {
        let all = fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default();
        let lines: Vec<&str> = all.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Puts the queries into the command topic of a service; nothing is read before its nodes start.
fn declare(broker: &Broker, folder: &Path, name: &str) {
    let engine = open(broker, &folder.join(format!("{name}-declared")), &format!("{name}_"));
    engine.session().execute(&statements(name)).unwrap_or_else(|e| panic!("{}", e.diagnostic));
    engine.close().unwrap_or_else(|e| panic!("{e}"));
}

/// An engine that runs no queries.
fn open(broker: &Broker, dir: &Path, service: &str) -> Engine {
    let replicas = broker.nodes.to_string();
    let set = [
        ("bootstrap.servers", broker.address.as_str()),
        ("ksql.service.id", service),
        ("ksql.internal.topic.replicas", &replicas),
        ("auto.offset.reset", "earliest"),
    ];
    let engine = Engine::open(EngineConfig {
        data_dir: Some(dir.to_owned()),
        properties: set.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        manual: true,
        ..EngineConfig::default()
    });
    engine.unwrap_or_else(|e| panic!("{e}"))
}

/// A copy of the queries, reading the input from its start.
struct Round<'a> {
    broker: &'a Broker,
    log: &'a Arc<dyn Log>,
    name: String,
    nodes: Vec<Node>,
}

impl<'a> Round<'a> {
    fn start(broker: &'a Broker, log: &'a Arc<dyn Log>, folder: &Path, name: &str, nodes: usize) -> Self {
        declare(broker, folder, name);
        let node = |n| Node {
            dir: folder.join(format!("{name}-{n}")),
            brokers: broker.address.clone(),
            replicas: broker.nodes,
            service: format!("{name}_"),
            child: None,
        };
        let mut round = Self { broker, log, name: name.to_owned(), nodes: (0..nodes).map(node).collect() };
        round.nodes.iter_mut().for_each(Node::start);
        round
    }

    fn topic(&self, name: &str) -> String {
        format!("{name}-{}", self.name)
    }

    /// Offsets that the outputs of filter and joins hold; 0 while they are not there.
    fn written(&self) -> i64 {
        let ends = ["large", "named", "paid"].into_iter().flat_map(|topic| {
            let topic = self.topic(topic);
            (0..PARTITIONS).map(move |p| TopicPartition::new(topic.clone(), p))
        });
        ends.map(|at| self.log.bounds(&at).map_or(0, |bounds| bounds.end)).sum()
    }

    /// True if each query has committed all input.
    fn is_through(&self) -> bool {
        let ours = format!("-{}_", self.name);
        let Ok(owners) = self.log.owners() else { return false };
        let positions: Vec<_> = owners
            .iter()
            .filter(|owner| owner.0.contains(&ours))
            .filter_map(|owner| self.log.positions(owner).ok())
            .collect();
        let at_end = positions
            .iter()
            .flatten()
            .filter(|(at, position)| self.log.bounds(at).is_ok_and(|bounds| position.offset >= bounds.end));
        at_end.count() == QUERY_INPUTS.iter().map(|topics| topics.len()).sum::<usize>() * PARTITIONS as usize
    }

    fn wait(&mut self, what: &str, mut is_there: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_there(self) {
            assert!(Instant::now() < deadline, "{what} does not come; {}", self.nodes[0].said());
            self.nodes.iter_mut().for_each(Node::check_alive);
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Lets something happen.
    fn disturb(&mut self, event: Event) {
        match event {
            Event::Kill { node, fresh } => {
                self.nodes[node].kill();
                if fresh {
                    fs::remove_dir_all(&self.nodes[node].dir).expect("a folder goes");
                }
                self.nodes[node].start();
            }
            Event::Suspend { node } => {
                self.nodes[node].signal("-STOP");
                // Time is what this event is about.
                let until = Instant::now() + SESSION_TIMEOUT + Duration::from_millis(1500);
                while let Some(left) = until.checked_duration_since(Instant::now()) {
                    std::thread::park_timeout(left);
                }
                self.nodes[node].signal("-CONT");
            }
            Event::Restart { node } => {
                self.nodes[node].stop();
                self.nodes[node].start();
            }
            Event::Broker { broker, kill } => {
                let which = broker.to_string();
                self.broker.call(&[if kill { "kill9" } else { "stop" }, &which]);
                self.broker.call(&["start-node", &which]);
            }
        }
    }

    /// Lets these things happen one after the other while input is unread; gives how many did.
    fn disturb_again_and_again(&mut self, events: &[Event], whole: i64, random: &mut StdRng) -> usize {
        for (done, event) in events.iter().enumerate() {
            let seen = self.written();
            let share = (whole - seen) / (events.len() - done + 1) as i64;
            let wanted = seen + random.random_range(1..=(2 * share).max(1));
            let mut through = false;
            self.wait("progress", |round| {
                if round.written() >= wanted {
                    return true;
                }
                through = round.is_through();
                through
            });
            if through {
                return done;
            }
            println!("{}: at {} of {whole}: {event:?}", self.name, self.written());
            self.disturb(*event);
        }
        events.len()
    }

    fn finish(mut self) -> Outputs {
        self.wait("the end of all input", Self::is_through);
        self.nodes.iter_mut().for_each(Node::stop);
        Outputs::read(self.log, &self.name)
    }
}

/// What a round left, in a form that must be equal: streams record for record, tables by last row, what stream joins give in any order.
#[derive(PartialEq)]
struct Outputs(BTreeMap<&'static str, Vec<Vec<Record>>>);

impl Outputs {
    fn read(log: &Arc<dyn Log>, round: &str) -> Self {
        let topic = |name: &'static str| {
            let mut partitions = contents(&**log, &format!("{name}-{round}"), PARTITIONS);
            for records in &mut partitions {
                match name {
                    "per_minute" => {
                        let last: BTreeMap<_, _> =
                            records.drain(..).map(|(key, value, at)| (key, (value, at))).collect();
                        records.extend(last.into_iter().map(|(key, (value, at))| (key, value, at)));
                    }
                    "paid" => records.sort(),
                    _ => {}
                }
            }
            (name, partitions)
        };
        Self(["large", "per_minute", "named", "paid"].into_iter().map(topic).collect())
    }

    fn count(&self, topic: &str) -> usize {
        self.0[topic].iter().map(Vec::len).sum()
    }

    fn compare(&self, found: &Self, what: &str) {
        for (topic, expected) in &self.0 {
            for (partition, (expected, found)) in expected.iter().zip(&found.0[topic]).enumerate() {
                same_records(found, expected, &format!("{what}: {topic}-{partition}"));
            }
        }
    }
}

/// Runs the queries undisturbed, then again and again until all `events` have happened; the outputs are the same each time.
fn check(size: &Size, events: &[Event]) {
    let Some(broker) = Broker::start(size.brokers) else { return };
    let mut folder = tempfile::tempdir().expect("a folder");
    folder.disable_cleanup(std::env::var_os("RIVERRUN_CRASH_KEEP").is_some());
    let reader = open(&broker, &folder.path().join("reader"), "reader_");
    let log = reader.log();
    load(log, size, i16::try_from(size.brokers).expect("a few"));

    let undisturbed = Round::start(&broker, log, folder.path(), "calm", 1);
    let expected = undisturbed.finish();
    assert_eq!(expected.count("named"), size.records, "a left join gives a row for each");
    assert!(expected.count("paid") > size.records / 4, "most payments come in time");
    let whole = ["large", "named", "paid"].iter().map(|topic| expected.count(topic) as i64).sum();

    let mut random = StdRng::seed_from_u64(size.seed);
    let (mut done, mut rounds) = (0, 0);
    while done < events.len() {
        rounds += 1;
        let mut round = Round::start(&broker, log, folder.path(), &format!("wild{rounds}"), NODES);
        let next = &events[done..(done + EVENTS_PER_ROUND).min(events.len())];
        done += round.disturb_again_and_again(next, whole, &mut random);
        assert!(rounds <= 4 + events.len(), "input is read before anything can happen; use more records");
        let found = round.finish();
        expected.compare(&found, &format!("seed {}, round {rounds}, after {done} events", size.seed));
    }
    println!("{} records, {done} events in {rounds} rounds, {whole} records of filter and joins", size.records);
    reader.close().unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn kafka_crash_short_loses_and_doubles_nothing() {
    let events = [
        Event::Kill { node: 0, fresh: false },
        Event::Suspend { node: 1 },
        Event::Kill { node: 2, fresh: true },
        Event::Restart { node: 1 },
    ];
    check(&Size { records: 20_000, seed: 1, brokers: 1 }, &events);
}

#[test]
fn kafka_crash_long_loses_and_doubles_nothing() {
    let Some((size, events)) = Size::of_long_test() else {
        eprintln!("not checked: RIVERRUN_CRASH_EVENTS is not set");
        return;
    };
    let mut random = StdRng::seed_from_u64(size.seed);
    let events: Vec<Event> = (0..events).map(|_| Event::draw(&mut random, size.brokers)).collect();
    check(&size, &events);
}
