//! Several nodes of one service on a real Kafka (`RIVERRUN_KAFKA`): what one leaves the others remove, what one has the others read.
//!
//! Servers with their HTTP doors in this process. Without an address the tests say "not checked"; in CI (`CI=true`) they fail then.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use riverrun::config::Config;
use riverrun::engine::command_log::{Command, CommandLog};
use riverrun::engine::{Engine, EngineConfig, NextRows, RawRecord};
use riverrun::server::{ServerState, serve};
use riverrun::topic::{ReadLimit, TopicPartition};
use riverrun::types::TopicName;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

const SERVICE: &str = "n_";
const SETUP: &str = "\
CREATE STREAM clicks (page STRING KEY, n BIGINT) WITH (KAFKA_TOPIC='clicks', VALUE_FORMAT='JSON', PARTITIONS=4);
CREATE TABLE per_page WITH (KAFKA_TOPIC='per_page') AS SELECT page, COUNT(*) AS c, SUM(n) AS s FROM clicks GROUP BY page EMIT CHANGES;";

pub(crate) fn cluster() -> Option<(String, String)> {
    let brokers = std::env::var("RIVERRUN_KAFKA").unwrap_or_default();
    if brokers.is_empty() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs a broker: RIVERRUN_KAFKA names none");
        eprintln!("not checked: RIVERRUN_KAFKA names no broker");
        return None;
    }
    Some((brokers, format!("nodes-{:016x}-", rand::random::<u64>())))
}

fn properties(cluster: &(String, String), more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let set = [
        ("bootstrap.servers", cluster.0.as_str()),
        ("ksql.service.id", SERVICE),
        ("auto.offset.reset", "earliest"),
        ("cache.max.bytes.buffering", "0"),
        ("session.timeout.ms", "6000"),
        ("leftovers.grace.ms", "1500"),
    ];
    set.iter().chain(more).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

pub(crate) fn open(cluster: &(String, String), dir: &Path, more: &[(&str, &str)]) -> Engine {
    let config = EngineConfig {
        data_dir: Some(dir.to_owned()),
        properties: properties(cluster, more),
        namespace: cluster.1.clone(),
        workers: Some(2),
        ..EngineConfig::default()
    };
    Engine::open(config).unwrap()
}

/// A node with its door.
struct Node {
    engine: Engine,
    url: String,
    stop: Option<oneshot::Sender<()>>,
    _dir: tempfile::TempDir,
}

impl Node {
    fn start(cluster: &(String, String), runtime: &Runtime, more: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut set = vec![("ksql.advertised.listener", url.as_str())];
        set.extend(more);
        let engine = open(cluster, dir.path(), &set);
        let (stop, stopped) = oneshot::channel::<()>();
        let config = Config::new(&properties(cluster, &set)).unwrap();
        runtime.spawn(serve(ServerState::new(engine.clone(), config), listener, async { _ = stopped.await }));
        Self { engine, url, stop: Some(stop), _dir: dir }
    }

    fn end(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        self.engine.close().unwrap();
    }

    fn get(&self, runtime: &Runtime, path: &str) -> Value {
        let text = async { reqwest::get(format!("{}{path}", self.url)).await?.text().await };
        serde_json::from_str(&runtime.block_on(text).unwrap()).unwrap()
    }
}

/// How far the copies of the table's state are that a node keeps: `(records it lacks, records of all)` of each.
fn copies(engine: &Engine) -> Vec<(u64, u64)> {
    let id = engine.catalog().queries().next().unwrap().id.clone();
    let standbys: Vec<_> = engine.runtime().restored(&id).into_iter().filter(|store| store.standby).collect();
    let lags = engine.lags().unwrap();
    let lag = |store: &str, partition| {
        let (_, partitions) = lags.iter().find(|(name, _)| name.ends_with(store)).unwrap();
        let (current, end) = partitions[&partition];
        (end - current, end)
    };
    // A count keeps nothing in its second store, of what it is in the middle of.
    standbys.iter().map(|store| lag(&store.store, store.partition)).filter(|(_, end)| *end > 0).collect()
}

/// Rows of a query of a session with properties set.
fn rows_with(engine: &Engine, set: &[(&str, &str)], query: &str) -> Result<Vec<String>, String> {
    let mut session = engine.session();
    for (name, value) in set {
        session.execute(&format!("SET '{name}'='{value}';")).map_err(|e| e.diagnostic.to_string())?;
    }
    gather(session.query(query).map_err(|e| e.diagnostic.to_string())?)
}

pub(crate) fn execute(engine: &Engine, text: &str) {
    if let Err(error) = engine.session().execute(text) {
        panic!("{text}: {}", error.diagnostic);
    }
}

/// Rows of a query, as text; or why there are none.
pub(crate) fn rows(engine: &Engine, query: &str) -> Result<Vec<String>, String> {
    gather(engine.session().query(query).map_err(|e| e.diagnostic.to_string())?)
}

fn gather(mut rows: riverrun::engine::Rows) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    loop {
        match rows.source.next(Duration::from_secs(30)) {
            NextRows::Batch { batch, .. } => found.extend((0..batch.num_rows()).map(|row| {
                let columns = batch.columns().iter().map(|c| format!("{:?}", c.slice(row, 1)));
                columns.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
            })),
            NextRows::Done(_) => break,
            NextRows::Idle => return Err("no rows in time".to_owned()),
            NextRows::Failed(error) => return Err(error.to_string()),
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn wait<T>(what: &str, mut done: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        match done() {
            Ok(value) => return value,
            Err(reason) => assert!(Instant::now() < deadline, "{what}: {reason}"),
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

pub(crate) fn check(ok: bool, reason: impl std::fmt::Debug) -> Result<(), String> {
    if ok { Ok(()) } else { Err(format!("{reason:?}")) }
}

pub(crate) fn topics(engine: &Engine) -> Vec<String> {
    engine.log().topics().unwrap().into_iter().map(|t| t.name.to_string()).collect()
}

pub(crate) fn leave(engine: &Engine) {
    let log = engine.log();
    log.owners().unwrap().iter().for_each(|owner| log.forget(owner).unwrap());
    log.topics().unwrap().iter().for_each(|topic| log.delete_topic(&topic.name).unwrap());
}

/// How many partitions of the table a node has.
fn partitions_here(engine: &Engine) -> usize {
    let id = engine.catalog().queries().next().unwrap().id.clone();
    4 - engine.runtime().materialized_here(&id).map_or(4, |(_, missing)| missing.len())
}

#[test]
fn a_table_is_read_on_any_node_wherever_its_partitions_are() {
    let Some(cluster) = cluster() else { return };
    let runtime = Runtime::new().unwrap();
    let beats = [
        ("ksql.heartbeat.enable", "true"),
        ("ksql.heartbeat.missed.threshold.ms", "30"),
        ("ksql.lag.reporting.enable", "true"),
        ("ksql.lag.reporting.send.interval.ms", "200"),
    ];
    let mut one = Node::start(&cluster, &runtime, &beats);
    execute(&one.engine, SETUP);
    let inserts: Vec<String> = (0..40).map(|n| format!("INSERT INTO clicks VALUES ('p{n}', {n});")).collect();
    execute(&one.engine, &inserts.join("\n"));
    let all = "SELECT page, c, s FROM per_page;";
    let whole = wait("one node has all", || {
        let found = rows(&one.engine, all)?;
        check(found.len() == 40, &found).map(|()| found)
    });
    let mut two = Node::start(&cluster, &runtime, &beats);
    wait("the second node has its part", || {
        let here = [partitions_here(&one.engine), partitions_here(&two.engine)];
        check(here == [2, 2], here)
    });
    for node in [&one, &two] {
        assert_eq!(wait("all rows", || rows(&node.engine, all)), whole);
        for n in [0, 7, 23, 39] {
            let found =
                wait("a key", || rows(&node.engine, &format!("SELECT page, c, s FROM per_page WHERE page = 'p{n}';")));
            assert!(found.len() == 1 && found[0].contains(&format!("\"p{n}\"")), "{found:?}");
        }
        let none = rows(&node.engine, "SELECT page FROM per_page WHERE page = 'nobody';").unwrap();
        assert!(none.is_empty());
        assert_eq!(rows(&node.engine, "SELECT COUNT(*) AS n FROM per_page;").unwrap().len(), 1);
    }
    // who has what, who lives, and how far copies are
    let hosts = [&one, &two].map(|node| node.url.trim_start_matches("http://").to_owned());
    wait("the status of both", || {
        let status = one.get(&runtime, "/clusterStatus");
        let of = |host: &String| status["clusterStatus"][host.as_str()].clone();
        let parts = |host: &Value| {
            host["activeStandbyPerQuery"]
                .as_object()
                .and_then(|queries| queries.values().next().cloned())
                .map_or(0, |q| q["activePartitions"].as_array().unwrap().len())
        };
        let lagged =
            |host: &Value| host["hostStoreLags"]["stateStoreLags"].as_object().is_some_and(|stores| !stores.is_empty());
        let (a, b) = (of(&hosts[0]), of(&hosts[1]));
        check(
            a["hostAlive"] == true
                && b["hostAlive"] == true
                && parts(&a) == 2
                && parts(&b) == 2
                && lagged(&a)
                && lagged(&b),
            &status,
        )
    });
    // a node that is gone is not asked, and what it had is read where it goes
    let gone = hosts[1].clone();
    two.end();
    wait("the other one counts as dead", || {
        let status = one.get(&runtime, "/clusterStatus");
        let host = &status["clusterStatus"][gone.as_str()];
        check(host.is_null() || host["hostAlive"] == false, &status)
    });
    assert_eq!(wait("all rows of the one that is left", || rows(&one.engine, all)), whole);
    one.end();
    leave(&one.engine);
}

#[test]
fn what_a_dead_submitter_left_on_kafka_is_removed_and_what_is_made_anew_stays() {
    let Some(cluster) = cluster() else { return };
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (open(&cluster, a.path(), &[]), open(&cluster, b.path(), &[]));
    execute(&one, SETUP);
    execute(&one, "INSERT INTO clicks VALUES ('p', 1);");
    let internal = |engine: &Engine| topics(engine).into_iter().filter(|t| t.contains("query_")).collect::<Vec<_>>();
    wait("it runs", || check(!internal(&one).is_empty() && two.catalog().source("PER_PAGE").is_some(), topics(&one)));
    // its submitter dies before it carries it out
    let dead = Command::new("DROP TABLE per_page DELETE TOPIC;".into(), [].into(), [].into(), i64::MAX, vec![]);
    CommandLog::open(one.log().clone(), SERVICE).unwrap().append(&dead).unwrap();
    wait("nothing is left", || {
        let left = topics(&one);
        let groups: Vec<String> =
            one.log().owners().unwrap().iter().map(|o| o.0.to_string()).filter(|o| o.contains("query_")).collect();
        check(internal(&one).is_empty() && !left.contains(&"per_page".to_owned()) && groups.is_empty(), (left, groups))
    });
    let anew = "CREATE STREAM per_page (v INT) WITH (KAFKA_TOPIC='per_page', VALUE_FORMAT='JSON', PARTITIONS=1); INSERT INTO per_page VALUES (5);";
    execute(&two, anew);
    one.close().unwrap();
    two.close().unwrap();
    drop((one, two));
    // a bad record in the command topic stops no start
    let held = |engine: &Engine| {
        let at = TopicPartition::new("per_page", 0);
        engine.log().read(&at, 0, ReadLimit::default()).unwrap().batch.len()
    };
    for start in 0..10 {
        let engine = open(&cluster, a.path(), &[("leftovers.grace.ms", "100")]);
        assert!(engine.catalog().source("PER_PAGE").is_some(), "start {start}");
        assert_eq!(held(&engine), 1, "start {start}");
        if start == 0 {
            let bad = RawRecord { value: Some(b"{no command".to_vec()), ..RawRecord::default() };
            engine.append(CommandLog::topic_of(SERVICE).as_str(), vec![bad]).unwrap();
        }
        engine.close().unwrap();
        if start == 9 {
            leave(&engine);
        }
    }
}

#[test]
fn a_static_member_keeps_its_partitions_over_a_restart() {
    let Some(cluster) = cluster() else { return };
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node =
        |dir: &Path, name: &str| open(&cluster, dir, &[("group.instance.id", name), ("session.timeout.ms", "20000")]);
    let (one, two) = (node(a.path(), "a"), node(b.path(), "b"));
    execute(&one, SETUP);
    execute(&one, "INSERT INTO clicks VALUES ('p1', 1), ('p2', 2), ('p3', 3), ('p4', 4), ('p5', 5);");
    wait("both have their part", || {
        let here = [&one, &two].map(|e| if e.catalog().queries().next().is_some() { partitions_here(e) } else { 0 });
        check(here == [2, 2], here)
    });
    two.close().unwrap();
    drop(two);
    let two = node(b.path(), "b");
    wait("it has them again", || check(partitions_here(&two) == 2, partitions_here(&two)));
    // had it left, the other one would have had all of them for a while
    assert_eq!(partitions_here(&one), 2);
    two.close().unwrap();
    one.close().unwrap();
    leave(&one);
}

#[test]
fn the_commands_of_a_service_are_copied_and_put_back() {
    let Some(cluster) = cluster() else { return };
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&cluster, dir.path(), &[]);
    execute(&engine, SETUP);
    execute(
        &engine,
        "CREATE STREAM gone AS SELECT * FROM clicks; DROP STREAM gone DELETE TOPIC; INSERT INTO clicks VALUES ('p', 1);",
    );
    wait("a row", || rows(&engine, "SELECT page FROM per_page;").and_then(|r| check(r.len() == 1, r)));
    let before = engine.catalog();
    engine.close().unwrap();
    drop(engine);
    let config = EngineConfig {
        data_dir: Some(dir.path().to_owned()),
        properties: properties(&cluster, &[]),
        namespace: cluster.1.clone(),
        ..EngineConfig::default()
    };
    let topic = || riverrun::engine::command_backup::CommandTopic::open(&config).unwrap();
    let mut file = Vec::new();
    topic().backup(&mut file).unwrap();
    let lost = open(&cluster, dir.path(), &[]);
    lost.close().unwrap();
    lost.log().delete_topic(&TopicName::new(CommandLog::topic_of(SERVICE).as_str())).unwrap();
    drop(lost);
    let copied = topic().restore(&mut file.as_slice(), false).unwrap();
    assert!(copied.entries == 5 && copied.void.is_empty() && copied.left_out.is_empty(), "{copied:?}");
    let again = open(&cluster, dir.path(), &[]);
    assert_eq!(*again.catalog(), *before);
    execute(&again, "INSERT INTO clicks VALUES ('q', 1);");
    wait("it goes on where it was", || rows(&again, "SELECT page FROM per_page;").and_then(|r| check(r.len() == 2, r)));
    again.close().unwrap();
    leave(&again);
}

#[test]
fn a_copy_of_state_is_read_where_it_may_be_and_taken_up_by_who_takes_over() {
    let Some(cluster) = cluster() else { return };
    let runtime = Runtime::new().unwrap();
    let standby = [("num.standby.replicas", "1"), ("ksql.streams.num.stream.threads", "2")];
    let mut one = Node::start(&cluster, &runtime, &standby);
    execute(&one.engine, SETUP);
    let mut two = Node::start(&cluster, &runtime, &standby);
    wait("both have their part", || {
        let here = [&one, &two].map(|n| n.engine.catalog().queries().next().map_or(0, |_| partitions_here(&n.engine)));
        check(here == [2, 2], here)
    });
    let inserts: Vec<String> = (0..40).map(|n| format!("INSERT INTO clicks VALUES ('p{n}', {n});")).collect();
    execute(&one.engine, &inserts.join("\n"));
    let all = "SELECT page, c, s FROM per_page;";
    let whole = wait("all rows", || rows(&one.engine, all).and_then(|r| check(r.len() == 40, &r).map(|()| r)));
    wait("both have copies of the rest", || {
        let copies = [copies(&one.engine), copies(&two.engine)];
        let whole = copies.iter().all(|c| c.len() == 2 && c.iter().all(|(lag, _)| *lag == 0));
        check(whole, copies)
    });
    let host = two.url.trim_start_matches("http://").to_owned();
    wait("it is told who keeps copies", || {
        let status = one.get(&runtime, "/clusterStatus");
        let queries = status["clusterStatus"][host.as_str()]["activeStandbyPerQuery"].as_object().cloned();
        let query = queries.and_then(|queries| queries.values().next().cloned()).unwrap_or_default();
        let lists = ["activePartitions", "standByPartitions"].map(|list| query[list].as_array().map_or(0, Vec::len));
        check(lists == [2, 2] && query["standByStores"] == query["activeStores"], &status)
    });
    // what a node said of its lag rules it out for who wants less
    let group = one.engine.log().owners().unwrap().into_iter().find(|o| o.0.contains("query_")).unwrap();
    let lags =
        (0..4).map(|p| (p.to_string(), serde_json::json!({ "offsetLag": 1000 }))).collect::<serde_json::Map<_, _>>();
    let body = serde_json::json!({ "ksqlHost": host, "hostStoreLags":
        { "stateStoreLags": { format!("{}#S", group.0): { "lagByPartition": lags } } } });
    let told = async { reqwest::Client::new().post(format!("{}/lag", one.url)).body(body.to_string()).send().await };
    assert!(runtime.block_on(told).unwrap().status().is_success());
    let (allow, limit) =
        (("ksql.query.pull.enable.standby.reads", "true"), ("ksql.query.pull.max.allowed.offset.lag", "0"));
    let refused = rows_with(&one.engine, &[limit], all).unwrap_err();
    assert!(refused.contains("lags by 1000 records of 0 allowed") && refused.contains(&two.url), "{refused}");
    assert_eq!(rows_with(&one.engine, &[limit, allow], all).unwrap(), whole, "the copy here lacks nothing");
    assert_eq!(rows(&one.engine, all).unwrap(), whole, "without a limit it is asked");
    // its door is closed, so it is not reached, but its partitions are its own still
    let _ = two.stop.take().map(|stop| stop.send(()));
    wait("it is not reached", || check(rows(&one.engine, all).is_err(), "it answers"));
    assert_eq!(rows_with(&one.engine, &[allow], all).unwrap(), whole);
    // it goes, and the other one takes its copy up: it is told by where its restores begin; what it has goes on, and is not restored again
    let id = one.engine.catalog().queries().next().unwrap().id.clone();
    let own: Vec<_> = one.engine.runtime().restored(&id).into_iter().filter(|store| !store.standby).collect();
    two.engine.close().unwrap();
    wait("the other one has all", || rows(&one.engine, all).and_then(|r| check(r == whole, &r)));
    let restored = one.engine.runtime().restored(&id);
    assert!(restored.iter().all(|store| !store.standby), "{restored:?}");
    assert!(!own.is_empty() && own.iter().all(|store| restored.contains(store)), "{own:?} {restored:?}");
    // What ends a transaction takes an offset, too.
    assert_eq!(
        restored.iter().filter(|store| store.from > 0 && store.from + 1 >= store.end).count(),
        2,
        "{restored:?}"
    );
    one.end();
    leave(&one.engine);
}
