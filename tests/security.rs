//! TLS, SASL and access rights, on a real Kafka that was started with `scripts/kafka/kafka start --secure`.
//!
//! `RIVERRUN_KAFKA` gives its address and `RIVERRUN_KAFKA_HOME` its folder, where its certificates are; without them the tests say "not
//! checked", and in CI (`CI=true`) they fail. The subtle thing: what is refused must be refused soon, with the reason and without a secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use riverrun::engine::{Description, Engine, EngineConfig, OutcomeKind, QueryDescription};
use riverrun::topic::{ReadLimit, TopicPartition};

const SECRETS: [&str; 3] = ["alice-secret", "carol-secret", "bob-secret"];

struct Broker {
    port: u16,
    home: PathBuf,
    namespace: String,
}

fn broker() -> Option<Broker> {
    let text = |name: &str| std::env::var(name).unwrap_or_default();
    let (address, home) = (text("RIVERRUN_KAFKA"), PathBuf::from(text("RIVERRUN_KAFKA_HOME")));
    if address.is_empty() || !home.join("tls/ca.pem").is_file() {
        assert!(text("CI") != "true", "CI needs a secure broker: RIVERRUN_KAFKA and RIVERRUN_KAFKA_HOME name none");
        eprintln!("not checked: RIVERRUN_KAFKA_HOME names no folder of a secure broker");
        return None;
    }
    let port = address.split(',').next().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    Some(Broker { port, home, namespace: format!("sec-{:016x}-", rand::random::<u64>()) })
}

type Properties = Vec<(&'static str, String)>;

impl Broker {
    /// The file of that name among the certificates.
    fn tls(&self, name: &str) -> String {
        self.home.join("tls").join(name).to_str().unwrap().to_owned()
    }

    fn at(&self, listener: u16) -> String {
        format!("127.0.0.1:{}", self.port + listener)
    }

    fn tls_properties(&self) -> Properties {
        vec![
            ("bootstrap.servers", self.at(2)),
            ("security.protocol", "SSL".into()),
            ("ssl.ca.location", self.tls("ca.pem")),
        ]
    }

    fn client_certificate(&self, name: &str) -> Properties {
        let own = [
            ("bootstrap.servers", self.at(5)),
            ("ssl.certificate.location", self.tls(&format!("{name}.pem"))),
            ("ssl.key.location", self.tls(&format!("{name}.key"))),
        ];
        merged(self.tls_properties(), own)
    }

    fn sasl(&self, over_tls: bool, mechanism: &str, user: &str, password: &str) -> Properties {
        let tls = if over_tls { self.tls_properties() } else { vec![] };
        let own = [
            ("bootstrap.servers", self.at(if over_tls { 4 } else { 3 })),
            ("security.protocol", if over_tls { "SASL_SSL" } else { "SASL_PLAINTEXT" }.to_owned()),
            ("sasl.mechanism", mechanism.to_owned()),
            ("sasl.username", user.to_owned()),
            ("sasl.password", password.to_owned()),
        ];
        merged(tls, own)
    }

    /// Lets bob do all with what is of this test.
    fn allow_bob(&self) {
        for kind in ["--topic", "--group", "--transactional-id"] {
            let prefixed = ["--operation", "All", "--resource-pattern-type", "prefixed", kind, &self.namespace];
            self.tool(&[&["acls", "--add", "--allow-principal", "User:bob"][..], &prefixed].concat());
        }
    }

    fn open(&self, dir: &Path, properties: &Properties) -> Result<Engine, String> {
        let mut set: BTreeMap<String, String> =
            properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        set.insert("ksql.service.id".into(), "s_".into());
        set.insert("auto.offset.reset".into(), "earliest".into());
        set.insert("ksql.query.retry.backoff.initial.ms".into(), "200".into());
        let config = EngineConfig {
            data_dir: Some(dir.to_owned()),
            properties: set,
            namespace: self.namespace.clone(),
            workers: Some(2),
            ..EngineConfig::default()
        };
        Engine::open(config).map_err(|error| error.to_string())
    }

    /// Runs one of the broker's own tools.
    fn tool(&self, arguments: &[&str]) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka/kafka");
        let done = Command::new(script).arg("tool").args(arguments).env("KAFKA_HOME", &self.home).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn leave(&self, engine: &Engine) {
        let log = engine.log();
        log.owners().unwrap().iter().for_each(|owner| log.forget(owner).unwrap());
        log.topics().unwrap().iter().for_each(|topic| log.delete_topic(&topic.name).unwrap());
    }
}

fn merged<const N: usize>(mut properties: Properties, over: [(&'static str, String); N]) -> Properties {
    properties.retain(|(name, _)| over.iter().all(|(own, _)| own != name));
    properties.extend(over);
    properties
}

fn run(engine: &Engine, text: &str) -> Vec<OutcomeKind> {
    match engine.session().execute(text) {
        Ok(outcomes) => outcomes.into_iter().map(|outcome| outcome.kind).collect(),
        Err(error) => panic!("{text}: {}", error.diagnostic),
    }
}

fn count(engine: &Engine, topic: &str) -> usize {
    let at = TopicPartition::new(topic, 0);
    engine.log().read(&at, 0, ReadLimit::default()).unwrap().batch.len()
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

const SETUP: &str = "\
CREATE STREAM s (k INT KEY, v INT) WITH (KAFKA_TOPIC='s', VALUE_FORMAT='JSON', PARTITIONS=1);
CREATE STREAM big WITH (KAFKA_TOPIC='big') AS SELECT * FROM s WHERE v > 1 EMIT CHANGES;
INSERT INTO s VALUES (1, 1), (2, 2), (3, 3);";

#[test]
fn queries_run_over_each_kind_of_listener() {
    let Some(mut broker) = broker() else { return };
    let jaas =
        r#"org.apache.kafka.common.security.scram.ScramLoginModule required username="carol" password="carol-secret";"#;
    let mut by_jaas = broker.sasl(true, "SCRAM-SHA-512", "", "");
    by_jaas.retain(|(name, _)| !["sasl.username", "sasl.password"].contains(name));
    by_jaas.push(("sasl.jaas.config", jaas.to_owned()));
    let ways = [
        broker.tls_properties(),
        broker.client_certificate("client"),
        broker.sasl(false, "PLAIN", "alice", "alice-secret"),
        broker.sasl(false, "SCRAM-SHA-256", "carol", "carol-secret"),
        broker.sasl(true, "PLAIN", "alice", "alice-secret"),
        broker.sasl(true, "SCRAM-SHA-256", "carol", "carol-secret"),
        by_jaas,
    ];
    for (number, way) in ways.iter().enumerate() {
        broker.namespace = format!("sec-{:016x}-", rand::random::<u64>());
        let dir = tempfile::tempdir().unwrap();
        let engine = broker.open(dir.path(), way).unwrap_or_else(|error| panic!("way {number}: {error}"));
        run(&engine, SETUP);
        wait(&format!("way {number} gives no results"), || count(&engine, "big") == 2);
        engine.close().unwrap();
        broker.leave(&engine);
    }
}

#[test]
fn who_may_not_come_in_is_told_why_and_soon() {
    let Some(broker) = broker() else { return };
    let mut without_ca = broker.tls_properties();
    without_ca.retain(|(name, _)| *name != "ssl.ca.location");
    let refused = [
        (without_ca, "certificate"),
        // its refusal comes when the connection stands already, like any that breaks: it is tried for a while
        (broker.client_certificate("stranger"), "cannot be reached"),
        (broker.sasl(false, "PLAIN", "alice", "wrong-alice-secret"), "uthentication"),
        (broker.sasl(true, "SCRAM-SHA-512", "carol", "wrong-carol-secret"), "uthentication"),
    ];
    for (properties, reason) in refused {
        let dir = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let error = broker.open(dir.path(), &properties).err().unwrap_or_else(|| panic!("{properties:?} is let in"));
        assert!(error.contains("cannot be reached") && error.contains(reason), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(50), "{:?}: {error}", begun.elapsed());
        assert!(SECRETS.iter().all(|secret| !error.contains(secret)), "{error}");
    }
    // logs in, and may do nothing
    let dir = tempfile::tempdir().unwrap();
    let error = broker.open(dir.path(), &broker.sasl(false, "PLAIN", "bob", "bob-secret")).err().unwrap();
    assert!(error.contains("create topic") && error.contains("uthoriz"), "{error}");
}

#[test]
fn secrets_come_from_files_and_stand_in_no_log() {
    let Some(broker) = broker() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (secret, config) = (dir.path().join("secret"), dir.path().join("kafka.properties"));
    std::fs::write(&secret, "user=alice\npassword=alice-secret\n").unwrap();
    let text = format!(
        "bootstrap.servers={}\nksql.service.id={}\nsecurity.protocol=SASL_SSL\nssl.ca.location={}\nsasl.mechanism=PLAIN\n\
         sasl.username=${{file:{secret}:user}}\nsasl.password=${{file:{secret}:password}}\nssl.key.password=${{env:RIVERRUN_TEST_SECRET}}\n",
        broker.at(4),
        broker.namespace,
        broker.tls("ca.pem"),
        secret = secret.display()
    );
    std::fs::write(&config, text).unwrap();
    let topic = format!("{}t", broker.namespace);
    let create = format!("CREATE STREAM t (v INT) WITH (KAFKA_TOPIC='{topic}', VALUE_FORMAT='JSON', PARTITIONS=1);");
    let program = |sql: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_riverrun"));
        command.args(["-e", sql, "--config"]).arg(&config).arg("--data-dir").arg(dir.path().join("data"));
        let done = command.env("RIVERRUN_LOG", "trace").env("RIVERRUN_TEST_SECRET", "key-secret").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.success(), text(&done.stdout), text(&done.stderr))
    };
    let (ok, out, err) =
        program(&format!("{create} INSERT INTO t VALUES (5); SHOW PROPERTIES; DROP STREAM t DELETE TOPIC;"));
    assert!(ok, "{err}");
    assert!(out.contains("sasl.password") && out.contains("[hidden]"), "{out}");
    assert!(out.contains("SASL_SSL"), "what is no secret is shown: {out}");
    for secret in ["alice-secret", "key-secret"] {
        assert!(!out.contains(secret) && !err.contains(secret), "{secret} is told");
    }
    let (_, _, err) = program("SET 'sasl.password' = 'x';");
    assert!(err.contains("Cannot override"), "{err}");
    let engine = Broker { namespace: String::new(), ..broker };
    let files = tempfile::tempdir().unwrap();
    let admin = engine.open(files.path(), &engine.tls_properties()).unwrap();
    for topic in admin.log().topics().unwrap().iter().filter(|t| t.name.as_str().contains(&topic[..topic.len() - 1])) {
        admin.log().delete_topic(&topic.name).unwrap();
    }
    admin.close().unwrap();
}

/// The query as SHOW QUERIES EXTENDED has it.
fn query(engine: &Engine, sink: &str) -> QueryDescription {
    let shown = run(engine, "SHOW QUERIES EXTENDED;").pop().unwrap();
    let OutcomeKind::Description(Description::QueryDescriptions(queries)) = shown else { panic!("no queries") };
    queries.into_iter().find(|q| q.line.sink.as_deref() == Some(sink)).unwrap_or_else(|| panic!("no query into {sink}"))
}

#[test]
fn a_query_that_may_not_write_or_join_its_group_fails_alone_with_the_reason() {
    let Some(broker) = broker() else { return };
    let ns = broker.namespace.clone();
    let group = format!("{ns}_confluent-ksql-s_query_SHUT_OUT");
    broker.allow_bob();
    let sealed = format!("{ns}sealed");
    let denied = [["--operation", "Write", "--topic", &sealed], ["--operation", "Read", "--group", &group]];
    for what in &denied {
        broker.tool(&[&["acls", "--add", "--deny-principal", "User:bob"][..], what].concat());
    }
    let dir = tempfile::tempdir().unwrap();
    let engine = broker.open(dir.path(), &broker.sasl(false, "PLAIN", "bob", "bob-secret")).unwrap();
    run(&engine, SETUP);
    run(&engine, "CREATE STREAM sealed WITH (KAFKA_TOPIC='sealed') AS SELECT * FROM s WHERE v > 2 EMIT CHANGES;");
    run(&engine, "CREATE STREAM shut (k INT KEY, v INT) WITH (KAFKA_TOPIC='shut', VALUE_FORMAT='JSON', PARTITIONS=1);");
    run(&engine, "INSERT INTO shut WITH (QUERY_ID='shut_out') SELECT * FROM s WHERE v > 2 EMIT CHANGES;");
    for sink in ["SEALED", "SHUT"] {
        wait(&format!("{sink} does not fail"), || query(&engine, sink).line.state == "ERROR");
        wait(&format!("{sink} has no reason"), || {
            query(&engine, sink).errors.iter().any(|(_, _, message)| message.to_lowercase().contains("authoriz"))
        });
    }
    run(&engine, "INSERT INTO s VALUES (4, 4);");
    wait("the other query goes on", || count(&engine, "big") == 3);
    assert_eq!(query(&engine, "BIG").line.state, "RUNNING");
    assert!(query(&engine, "BIG").errors.iter().all(|(_, _, message)| !message.to_lowercase().contains("authoriz")));
    // what may not be done is done when it may be, without a restart
    for what in &denied {
        broker.tool(&[&["acls", "--remove", "--force", "--deny-principal", "User:bob"][..], what].concat());
    }
    wait("the sink may be written now", || count(&engine, "sealed") == 2);
    wait("the group may be joined now", || count(&engine, "shut") == 2);
    engine.close().unwrap();
    let admin_dir = tempfile::tempdir().unwrap();
    let admin = broker.open(admin_dir.path(), &broker.tls_properties()).unwrap();
    admin.close().unwrap();
    broker.leave(&admin);
}

#[test]
fn a_group_that_is_denied_later_is_told_and_the_query_goes_on_when_it_is_allowed() {
    let Some(broker) = broker() else { return };
    broker.allow_bob();
    let mut properties = broker.sasl(false, "PLAIN", "bob", "bob-secret");
    // who hears nothing of the group for so long joins it anew
    properties.push(("consumer.session.timeout.ms", "1000".into()));
    properties.push(("consumer.heartbeat.interval.ms", "200".into()));
    let dir = tempfile::tempdir().unwrap();
    let engine = broker.open(dir.path(), &properties).unwrap();
    run(&engine, SETUP);
    wait("the query gives no results", || count(&engine, "big") == 2);
    let owners = engine.log().owners().unwrap();
    let owner = owners.iter().find(|owner| owner.0.contains("BIG")).unwrap_or_else(|| panic!("{owners:?}"));
    let group = format!("{}{}", broker.namespace, owner.0);
    assert_eq!(query(&engine, "BIG").line.state, "RUNNING");
    let denied = ["--deny-principal", "User:bob", "--operation", "Read", "--group", &group];
    broker.tool(&[&["acls", "--add"][..], &denied].concat());
    wait("the query does not fail", || query(&engine, "BIG").line.state == "ERROR");
    wait("there is no reason", || {
        let told = |message: &String| message.contains(&group) && message.contains("cannot be joined");
        query(&engine, "BIG").errors.iter().any(|(_, _, message)| told(message) && message.contains("allow READ"))
    });
    broker.tool(&[&["acls", "--remove", "--force"][..], &denied].concat());
    wait("the group is not joined again", || query(&engine, "BIG").line.state == "RUNNING");
    run(&engine, "INSERT INTO s VALUES (4, 4);");
    wait("the query does not go on", || count(&engine, "big") == 3);
    engine.close().unwrap();
    let admin_dir = tempfile::tempdir().unwrap();
    let admin = broker.open(admin_dir.path(), &broker.tls_properties()).unwrap();
    admin.close().unwrap();
    broker.leave(&admin);
}
