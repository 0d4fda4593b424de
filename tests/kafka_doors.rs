//! The doors on a real Kafka (`RIVERRUN_KAFKA`): files, the shell, HTTP, made-up records, and other clients of the same topics.
//!
//! The product's own program, as a user starts it, so topics have no namespace and everything is named after the test. Kafka's own tools are
//! the other client; they need `RIVERRUN_KAFKA_HOME`. The subtle thing: the broker is shared, so a test takes away what it made and no more.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use riverrun::engine::{Engine, EngineConfig};
use serde_json::{Value, json};

use crate::crash::contents;
use crate::nodes::{check, cluster, execute, leave, open, rows, wait};

/// Runs the program; true if it ended well, with standard output and standard error.
fn riverrun(arguments: &[&str]) -> (bool, String, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let done = Command::new(env!("CARGO_BIN_EXE_riverrun")).args(arguments).current_dir(root).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.success(), text(&done.stdout), text(&done.stderr))
}

fn riverrun_ok(arguments: &[&str]) -> String {
    let (ok, out, err) = riverrun(arguments);
    assert!(ok, "{arguments:?}: {out}\n{err}");
    out
}

/// Deletes what belongs to a service and the topics named; gives what was there.
fn take_away(brokers: &str, service: &str, named: &[&str]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let set = [("bootstrap.servers", brokers), ("ksql.service.id", service)];
    let engine = Engine::open(EngineConfig {
        data_dir: Some(dir.path().to_owned()),
        properties: set.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        manual: true,
        ..EngineConfig::default()
    });
    let engine = engine.unwrap();
    let log = engine.log().clone();
    engine.close().unwrap();
    log.owners().unwrap().iter().filter(|owner| owner.0.contains(service)).for_each(|o| log.forget(o).unwrap());
    let is_ours = |name: &str| name.contains(service) || named.iter().any(|n| n.eq_ignore_ascii_case(name));
    let topics: Vec<_> = log.topics().unwrap().into_iter().map(|t| t.name).filter(|n| is_ours(n.as_str())).collect();
    topics.iter().for_each(|topic| log.delete_topic(topic).unwrap());
    topics.into_iter().map(|topic| topic.to_string()).collect()
}

#[test]
fn the_quickstart_runs_twice_on_kafka_and_leaves_no_topic() {
    let Some((brokers, name)) = cluster() else { return };
    let named = ["quakes", "networks", "strong_quakes", "quakes_per_day", "named_quakes"];
    take_away(&brokers, &name, &named);
    let service = format!("ksql.service.id={name}");
    let run = || riverrun_ok(&["run", "examples/quickstart.sql", "--bootstrap-servers", &brokers, "--set", &service]);
    let (first, second) = (run(), run());
    let pulled = |text: &str| text.lines().filter(|l| l.starts_with("|ak ")).map(str::to_owned).collect::<Vec<_>>();
    assert!(first.contains("1707 rows inserted into QUAKES"), "{first}");
    assert!(first.contains("USGS National Earthquake Information Center"), "{first}");
    assert!(pulled(&first).len() > 6 && first.contains("2018-02-01") && first.contains("2018-02-07"), "{first}");
    assert_eq!(pulled(&first), pulled(&second));
    let mut left = take_away(&brokers, &name, &named);
    left.sort();
    assert_eq!(left, [format!("_confluent-ksql-{name}_command_topic"), format!("{name}ksql_processing_log")]);
}

/// A server of the program's; stopped when dropped.
struct Server {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start(brokers: &str, service: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_riverrun"))
            .args(["server", "--listen", "127.0.0.1:0", "--bootstrap-servers", brokers, "--service-id", service])
            .args(["--set", "auto.offset.reset=earliest", "--data-dir"])
            .arg(dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.find_map(|line| line.unwrap().split_once("listens on ").map(|(_, url)| url.to_owned()));
        Self { child, url: url.expect("it says where it listens"), _dir: dir }
    }

    /// `POST /ksql` by a client that is not ours.
    fn ksql(&self, text: &str) -> Value {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let answer = runtime.block_on(async {
            let body = json!({ "ksql": text }).to_string();
            let answer = reqwest::Client::new().post(format!("{}/ksql", self.url)).body(body).send().await.unwrap();
            (answer.status(), answer.text().await.unwrap())
        });
        assert_eq!(answer.0, 200, "{text}: {}", answer.1);
        serde_json::from_str(&answer.1).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The child is ours, by its id.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// Kafka's own tools.
struct Tools {
    home: String,
}

impl Tools {
    fn find() -> Option<Self> {
        let home = std::env::var("RIVERRUN_KAFKA_HOME").unwrap_or_default();
        if home.is_empty() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs Kafka's tools: RIVERRUN_KAFKA_HOME");
            eprintln!("not checked: RIVERRUN_KAFKA_HOME is not set");
            return None;
        }
        Some(Self { home })
    }

    fn run(&self, arguments: &[&str], input: &str) -> String {
        let mut tool = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka/kafka"))
            .arg("tool")
            .args(arguments)
            .env("KAFKA_HOME", &self.home)
            .env("KAFKA_HEAP", "128m")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let done = tool.wait_with_output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Writes records with keys and one header each.
    fn produce(&self, topic: &str, codec: &str, records: &str) {
        let properties = ["parse.key=true", "key.separator=|", "parse.headers=true", "headers.delimiter=;"];
        let properties = properties.iter().flat_map(|property| ["--reader-property", property]);
        let own = ["console-producer", "--topic", topic, "--compression-codec", codec, "--sync"];
        self.run(&own.into_iter().chain(properties).collect::<Vec<_>>(), records);
    }

    /// Key, value and partition of as many committed records.
    fn consume(&self, topic: &str, count: usize) -> Vec<String> {
        let count = count.to_string();
        let properties = ["print.key=true", "print.partition=true"];
        let properties = properties.iter().flat_map(|property| ["--formatter-property", property]);
        let own = ["console-consumer", "--topic", topic, "--from-beginning", "--isolation-level", "read_committed"];
        let until = ["--max-messages", &count, "--timeout-ms", "30000"];
        let all: Vec<&str> = own.into_iter().chain(until).chain(properties).collect();
        let mut lines: Vec<String> = self.run(&all, "").lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

#[test]
fn other_clients_write_what_is_read_and_read_what_is_written_through_every_door() {
    let Some((brokers, name)) = cluster() else { return };
    let Some(tools) = Tools::find() else { return };
    let server = Server::start(&brokers, &name);
    let (orders, users, named) = (format!("{name}orders"), format!("{name}users"), format!("{name}named"));
    let declared = server.ksql(&format!(
        "CREATE STREAM orders (id STRING KEY, n INT, h BYTES HEADER('codec')) WITH (KAFKA_TOPIC='{orders}', VALUE_FORMAT='JSON', PARTITIONS=4);
         CREATE TABLE users (id STRING PRIMARY KEY, name STRING) WITH (KAFKA_TOPIC='{users}', VALUE_FORMAT='JSON', PARTITIONS=4);
         CREATE STREAM named WITH (KAFKA_TOPIC='{named}') AS
           SELECT o.id, o.n, u.name, FROM_BYTES(o.h, 'utf8') AS codec FROM orders o JOIN users u ON o.id = u.id;
         CREATE TABLE per_id WITH (KAFKA_TOPIC='{name}per_id') AS SELECT id, COUNT(*) AS c FROM orders GROUP BY id;"
    ));
    assert_eq!(declared.as_array().map(Vec::len), Some(4), "{declared}");
    // by HTTP, by Kafka's producer in each compression; keys must land where we put them, or the join finds nothing
    for n in 0..12 {
        server.ksql(&format!("INSERT INTO users VALUES ('u{n}', 'name {n}');"));
    }
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for (n, codec) in codecs.iter().enumerate() {
        let lines = (0..12).map(|user| format!("codec:{codec};u{user}|{{\"n\":{}}}\n", n * 100 + user));
        tools.produce(&orders, codec, &lines.collect::<String>());
    }
    let written = tools.consume(&named, 12 * codecs.len());
    assert_eq!(written.len(), 12 * codecs.len(), "{written:?}");
    for (n, codec) in codecs.iter().enumerate() {
        for user in 0..12 {
            let value =
                format!("\tu{user}\t{{\"N\":{},\"NAME\":\"name {user}\",\"CODEC\":\"{codec}\"}}", n * 100 + user);
            assert_eq!(written.iter().filter(|line| line.ends_with(&value)).count(), 1, "{value}: {written:?}");
        }
    }
    // by the shell, over the server and as a node of its own
    let query = "SELECT id, c FROM per_id WHERE id = 'u7';";
    let over_http = ["shell", "--server", &server.url, "--output", "json", "-e", query];
    wait("the count by the shell over HTTP", || {
        let out = riverrun_ok(&over_http);
        check(out.trim() == "{\"ID\":\"u7\",\"C\":5}", out)
    });
    let service = format!("ksql.service.id={name}");
    let own = ["shell", "--bootstrap-servers", &brokers, "--set", &service, "--output", "json", "-e"];
    let listed = riverrun_ok(&[&own[..], &["SHOW TABLES;"]].concat());
    assert!(listed.contains("PER_ID"), "{listed}");
    wait("the count by a shell that is a node", || {
        let (ok, out, err) = riverrun(&[&own[..], &[query]].concat());
        check(ok && out.trim() == "{\"ID\":\"u7\",\"C\":5}", (out, err))
    });
    let read = format!("PRINT '{named}' FROM BEGINNING LIMIT 1;");
    assert!(riverrun_ok(&[&own[..5], &["-e", &read]].concat()).contains("\"NAME\":"));
    drop(server);
    let left = take_away(&brokers, &name, &[]);
    assert!(left.contains(&named), "{left:?}");
}

/// Threads of a process of this name, at most 15 letters of it; all with an empty one.
#[cfg(target_os = "linux")]
fn threads(process: u32, name: &str) -> usize {
    let all = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let names = all.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|comm| name.is_empty() || comm.trim_end() == name).count()
}

/// What docs/performance.md says of many queries: each has a client that reads and one that writes, and few threads.
#[cfg(target_os = "linux")]
#[test]
fn a_query_more_takes_two_clients_and_few_threads() {
    const FIRST: usize = 3;
    const MORE: usize = 10;
    let Some((brokers, name)) = cluster() else { return };
    let server = Server::start(&brokers, &name);
    let topic = |n: usize| format!("{name}s{n}");
    server.ksql(&format!(
        "CREATE STREAM s (k STRING KEY, n BIGINT) WITH (KAFKA_TOPIC='{name}s', VALUE_FORMAT='JSON', PARTITIONS=2);
         INSERT INTO s VALUES ('k', 1);"
    ));
    let run = |queries: std::ops::Range<usize>| {
        for n in queries.clone() {
            let topic = topic(n);
            server.ksql(&format!("CREATE STREAM s{n} WITH (KAFKA_TOPIC='{topic}') AS SELECT k, n + {n} AS n FROM s;"));
        }
        for n in queries {
            let read = format!("PRINT '{}' FROM BEGINNING LIMIT 1;", topic(n));
            riverrun_ok(&["shell", "--server", &server.url, "-e", &read]);
        }
    };
    let id = server.child.id();
    run(0..FIRST);
    let (clients, all) = (threads(id, "rdk:main"), threads(id, ""));
    run(FIRST..FIRST + MORE);
    let (clients, all) = (threads(id, "rdk:main") - clients, threads(id, "") - all);
    // One or two of the node itself may have come in between.
    assert!((2 * MORE..2 * MORE + 3).contains(&clients), "{clients} clients of {MORE} queries");
    assert!(all <= 11 * MORE, "{all} threads of {MORE} queries");
    drop(server);
    let named: Vec<String> = (0..FIRST + MORE).map(topic).chain([format!("{name}s")]).collect();
    take_away(&brokers, &name, &named.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn made_up_records_reach_kafka_and_are_read_by_sql() {
    let Some((brokers, name)) = cluster() else { return };
    let made = ["datagen", "--bootstrap-servers", &brokers, "--rate", "0", "--seed", "3", "--partitions", "3"];
    let topic = format!("{name}orders");
    let orders = ["--quickstart", "orders", "--iterations", "2500", "--topic", &topic];
    let (ok, _, told) = riverrun(&[&made[..], &orders].concat());
    assert!(ok && told.contains(&format!("2500 records appended to {topic}")), "{told}");
    let pages = format!("{name}pages");
    let more = ["--quickstart", "pageviews", "--iterations", "40", "--topic", &pages, "--value-format", "DELIMITED"];
    let (ok, _, told) = riverrun(&[&made[..], &more].concat());
    assert!(ok && told.contains("40 records appended"), "{told}");
    let declared = ["--quickstart", "orders", "--print-statement", "--topic", &topic, "--partitions", "3"];
    let declared = riverrun_ok(&[&["datagen"], &declared[..]].concat());
    let stream = declared.split_whitespace().nth(2).unwrap();
    let service = format!("ksql.service.id={name}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "{declared} CREATE TABLE t WITH (KAFKA_TOPIC='{name}t') AS SELECT 'all' AS what, COUNT(*) AS n FROM {stream} GROUP BY 'all';
         SELECT n FROM t;"
    );
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let set = ["--bootstrap-servers", &brokers, "--set", &service, "--set", "auto.offset.reset=earliest"];
    let out = riverrun_ok(&[&["run", path, "--output", "json"][..], &set].concat());
    assert!(out.contains("\"N\":2500"), "{out}");
    let left = take_away(&brokers, &name, &[]);
    assert!(left.contains(&topic) && left.contains(&pages), "{left:?}");
}

#[test]
fn final_results_come_on_kafka_when_the_input_is_idle() {
    let Some(cluster) = cluster() else { return };
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let idle = [("window.idle.close.ms", "1500")];
    let engine = open(&cluster, dirs[0].path(), &idle);
    execute(
        &engine,
        "CREATE STREAM s (k STRING KEY, v INT) WITH (KAFKA_TOPIC='s', VALUE_FORMAT='JSON', PARTITIONS=2);
         CREATE TABLE o WITH (KAFKA_TOPIC='o') AS
           SELECT v % 3 AS r, COUNT(*) AS n FROM s WINDOW TUMBLING (SIZE 10 SECONDS) GROUP BY v % 3 EMIT FINAL;",
    );
    let values: Vec<String> = (0..30).map(|n| format!("({}, 'k{n}', {n})", 1000 + n)).collect();
    execute(&engine, &format!("INSERT INTO s (ROWTIME, k, v) VALUES {};", values.join(", ")));
    let results = |engine: &Engine| -> Vec<String> {
        let all = contents(&**engine.log(), "o", 2).concat().into_iter();
        all.map(|(_, value, _)| String::from_utf8(value.unwrap_or_default()).unwrap()).collect()
    };
    wait("the final results", || check(results(&engine).len() == 3, results(&engine)));
    assert!(results(&engine).iter().all(|value| value == "{\"N\":10}"), "{:?}", results(&engine));
    engine.close().unwrap();
    drop(engine);
    // they are given once, on another node as well, and what comes too late is not counted
    let engine = open(&cluster, dirs[1].path(), &idle);
    execute(&engine, "INSERT INTO s (ROWTIME, k, v) VALUES (1500, 'k1', 1), (31000, 'k2', 2);");
    wait("the next window", || check(results(&engine).len() == 4, results(&engine)));
    assert_eq!(results(&engine).iter().filter(|value| *value == "{\"N\":1}").count(), 1, "{:?}", results(&engine));
    let found = rows(&engine, "SELECT COUNT(*) AS n FROM o;").unwrap();
    assert_eq!(found.len(), 1);
    engine.wait_idle(Some(Duration::from_secs(60))).unwrap();
    engine.close().unwrap();
    leave(&engine);
}
