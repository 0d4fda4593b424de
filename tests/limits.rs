//! Limits of size and number, each reached: the answer names the property, and everything else goes on.
//!
//! Through the program and over HTTP, as users meet them; what bounds memory inside is tested beside its code (docs/limits.md says where).

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::array::BinaryArray;
use riverrun::clock::ManualClock;
use riverrun::engine::{Engine, EngineConfig, RawRecord};
use riverrun::topic::{Append, Bounds, Commit, TopicPartition};

const CREATE: &str =
    "CREATE STREAM s (k STRING KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON', partitions = 1);";

fn path(root: &Path, name: &str) -> String {
    root.join(name).display().to_string()
}

/// What the program says, and its exit code.
fn said(arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_riverrun"))
        .args(arguments)
        .env("RIVERRUN_LOG", "error")
        .output()
        .expect("the program starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (text, output.status.code())
}

fn refused(arguments: &[&str], with: &[&str]) {
    let (text, code) = said(arguments);
    assert_eq!(code, Some(1), "{arguments:?}: {text}");
    with.iter().for_each(|part| assert!(text.contains(part), "{arguments:?}: '{part}' is not in {text}"));
}

fn file_of(path: &str, write: impl FnOnce(&mut File)) {
    let mut file = File::create(path).expect("a file");
    write(&mut file);
}

/// Bytes as they stand in no text: without newlines, with zeros and what UTF-8 never has.
fn binary(file: &mut File, mebibytes: usize) {
    let block: Vec<u8> = (0..1_u32 << 20).map(|i| if i % 251 == 10 { 0xff } else { (i % 251) as u8 }).collect();
    (0..mebibytes).for_each(|_| file.write_all(&block).expect("is written"));
}

#[test]
fn what_is_too_large_or_no_text_is_refused_and_the_rest_goes_on() {
    let root = tempfile::tempdir().expect("a folder");
    let file = |name: &str| path(root.path(), name);
    let data = file("data");
    assert_eq!(said(&["-e", CREATE, "--data-dir", &data]).1, Some(0));
    file_of(&file("large.txt"), |f| (0..64).for_each(|_| f.write_all(&[b'x'; 1 << 20]).expect("is written")));
    refused(&["produce", "s", &file("large.txt"), "--data-dir", &data], &["record.max.bytes = 16777216", "topic 's'"]);
    file_of(&file("binary"), |f| binary(f, 65));
    let copy = |name: &str| format!("COPY s FROM '{}' WITH (FORMAT = 'JSON');", file(name));
    refused(&["produce", "s", &file("binary"), "--data-dir", &data], &["line 1", "64 MiB", "record.max.bytes"]);
    refused(&["-e", &copy("binary"), "--data-dir", &data], &["line 1", "64 MiB", "record.max.bytes"]);
    file_of(&file("small"), |f| binary(f, 1));
    refused(&["-e", &copy("small"), "--data-dir", &data], &["line 1", "not text in UTF-8"]);
    refused(&["run", &file("small"), "--data-dir", &data], &["is not SQL: it is not UTF-8 text"]);
    file_of(&file("long.sql"), |f| {
        f.write_all(b"INSERT INTO s VALUES ('").expect("is written");
        (0..100).for_each(|_| f.write_all(&[b'x'; 1 << 20]).expect("is written"));
        f.write_all(b"', '');").expect("is written");
    });
    refused(&["run", &file("long.sql"), "--data-dir", &data], &["long.sql", "statement.max.bytes = 1048576"]);
    refused(&["-f", &file("long.sql"), "--data-dir", &data], &["statement.max.bytes = 1048576"]);
    let (text, code) =
        said(&["-e", "INSERT INTO s VALUES ('a', 'after all that'); SELECT * FROM s;", "--data-dir", &data]);
    assert!(code == Some(0) && text.contains("after all that") && !text.contains("xxx"), "{text}");
}

fn engine(dir: &Path, properties: &[(&str, &str)]) -> Engine {
    let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let config =
        EngineConfig { data_dir: Some(dir.to_owned()), properties, workers: Some(1), ..EngineConfig::default() };
    Engine::open(config).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_raised_record_limit_takes_what_the_default_refuses() {
    let root = tempfile::tempdir().expect("a folder");
    let small = engine(root.path(), &[("record.max.bytes", "1000"), ("storage.min.free.bytes", "0")]);
    small.session().execute(CREATE).unwrap_or_else(|e| panic!("{}", e.diagnostic));
    let record = |bytes: usize| vec![RawRecord { value: Some(vec![b'1'; bytes]), ..RawRecord::default() }];
    let error = small.append("s", record(1001)).unwrap_err();
    assert!(error.message.contains("record.max.bytes = 1000"), "{}", error.message);
    small.append("s", record(1000)).unwrap();
    let insert = format!("INSERT INTO s VALUES ('k', '{}');", "x".repeat(1000));
    let error = small.session().execute(&insert).err().expect("is refused").diagnostic;
    assert!(error.message.contains("record.max.bytes"), "{}", error.message);
    drop(small);
    let large = engine(root.path(), &[("record.max.bytes", "2000"), ("storage.min.free.bytes", "0")]);
    large.append("s", record(1001)).unwrap();
}

#[test]
fn one_persistent_query_too_many_is_refused_and_leaves_nothing() {
    let engine = Engine::open(EngineConfig {
        properties: [("ksql.query.persistent.active.limit".to_owned(), "1".to_owned())].into(),
        ..EngineConfig::default()
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let mut session = engine.session();
    let mut run = |text: &str| session.execute(text).map(drop).map_err(|e| e.diagnostic.message);
    run(CREATE).unwrap();
    run("CREATE STREAM a AS SELECT * FROM s;").unwrap();
    let error = run("CREATE STREAM b AS SELECT * FROM s;").unwrap_err();
    assert!(error.contains("ksql.query.persistent.active.limit = 1"), "{error}");
    assert!(engine.log().describe(&"B".into()).unwrap().is_none(), "its topic is not made");
    run("CREATE OR REPLACE STREAM a AS SELECT * FROM s WHERE v <> '';").unwrap();
    run("DROP STREAM a;").unwrap();
    run("CREATE STREAM b AS SELECT * FROM s;").unwrap();
}

const FOREIGN_KEY: &str = "SET 'auto.offset.reset' = 'earliest';
CREATE TABLE l (id STRING PRIMARY KEY, f STRING, n BIGINT) WITH (kafka_topic='l', value_format='JSON', partitions=1);
CREATE TABLE r (k STRING PRIMARY KEY, v BIGINT) WITH (kafka_topic='r', value_format='JSON', partitions=1);
CREATE TABLE o WITH (kafka_topic='o') AS SELECT l.id AS id, n, v FROM l JOIN r ON l.f = r.k;";

/// Appends records: key, value, time.
fn append(engine: &Engine, topic: &str, rows: impl Iterator<Item = (String, String, i64)>) {
    let rows: Vec<_> = rows.collect();
    let append = Append {
        to: TopicPartition::new(topic, 0),
        timestamps: rows.iter().map(|row| row.2).collect(),
        keys: BinaryArray::from_iter_values(rows.iter().map(|row| &row.0)),
        values: BinaryArray::from_iter_values(rows.iter().map(|row| &row.1)),
        headers: None,
    };
    engine.log().commit(Commit { outputs: vec![append], ..Commit::default() }).expect("the log takes it");
}

const FINAL: &str = "SET 'auto.offset.reset' = 'earliest';
CREATE STREAM s (k STRING KEY, n BIGINT) WITH (kafka_topic='s', value_format='JSON', partitions=1);
CREATE TABLE o WITH (kafka_topic='o') AS SELECT k, COUNT(*) AS n FROM s
WINDOW TUMBLING (SIZE 1 SECOND, RETENTION 10000000 SECONDS, GRACE PERIOD 1000000 SECONDS) GROUP BY k EMIT FINAL;";

/// Gives what a result takes of the memory for state, after one record with `results` of them came after others.
fn bytes_each(statements: &str, results: usize, abort: bool, others: &dyn Fn(&Engine), one: &dyn Fn(&Engine)) -> usize {
    let clock = Arc::new(ManualClock::new(0));
    let config = EngineConfig { manual: true, clock: Some(clock), ..EngineConfig::default() };
    let engine = Engine::open(config).expect("opens");
    engine.session().execute(statements).unwrap_or_else(|e| panic!("{}", e.diagnostic));
    let id = engine.catalog().queries().next().expect("a query").id.clone();
    others(&engine);
    engine.runtime().pump(&id, &|_| None).expect("it runs");
    let before = engine.runtime().memory_bytes();
    one(&engine);
    while abort && engine.runtime().pump_step(&id, &|_| None).expect("it runs") {
        engine.runtime().abort(&id).expect("it runs");
    }
    engine.runtime().pump(&id, &|_| None).expect("it runs");
    let Bounds { end, .. } = engine.log().bounds(&TopicPartition::new("o", 0)).expect("it is there");
    assert_eq!(end, results as i64);
    engine.runtime().memory_bytes().saturating_sub(before) / results
}

/// One row to which many refer, and one after which many windows are over (`benches/many_outputs.rs` has a million, and looks at the whole
/// process): the join's results are held for readers until they are written behind, as their bytes and little more, also when the tasks are
/// thrown away between pages; final results are not held at all.
#[test]
fn one_record_with_many_outputs_takes_little_memory() {
    let rows = 30_000;
    for abort in [false, true] {
        let lefts = |engine: &Engine| {
            append(engine, "l", (0..rows).map(|n| (format!("{n:08}"), format!("{{\"F\":\"a\",\"N\":{n}}}"), 0)));
        };
        let right = |engine: &Engine| append(engine, "r", [("a".into(), "{\"V\":7}".into(), 0)].into_iter());
        let each = bytes_each(FOREIGN_KEY, rows, abort, &lefts, &right);
        assert!(each < 64, "{each} bytes a result of a join");
        let row = |second: usize| ("k".to_owned(), "{\"N\":1}".to_owned(), 1000 * second as i64);
        let windows = |engine: &Engine| append(engine, "s", (0..rows).map(row));
        let jump = |engine: &Engine| append(engine, "s", [row(2_000_000)].into_iter());
        let each = bytes_each(FINAL, rows, abort, &windows, &jump);
        assert!(each < 8, "{each} bytes a final result");
    }
}
