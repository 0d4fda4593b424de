//! `riverrun datagen` into the embedded log, a server and Kafka, and its records read back by SQL.
//!
//! The statement that it prints must declare what it makes: every record is decoded, none is lost to the processing log, and no column
//! is NULL. The subtle thing: with a seed and a start two runs are the same bytes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use riverrun::config::Config;
use riverrun::datagen::{Generator, Quickstart, RecordWriter};
use riverrun::engine::{Engine, EngineConfig, NextRows, RawRecord};
use riverrun::format::Format;
use riverrun::server::{ServerState, serve};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// How long the next rows may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn datagen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_riverrun")).arg("datagen").args(arguments).output().unwrap()
}

fn ok(arguments: &[&str]) -> (String, String) {
    let finished = datagen(arguments);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&finished.stdout), text(&finished.stderr));
    assert!(finished.status.success(), "{arguments:?}: {err}");
    (out, err)
}

fn open(dir: &Path) -> Engine {
    Engine::open(EngineConfig { data_dir: Some(dir.to_owned()), ..EngineConfig::default() }).unwrap()
}

/// All records of a topic with key, value and time, by partition.
fn records(engine: &Engine, topic: &str) -> Vec<(i32, Option<Vec<u8>>, Option<Vec<u8>>, i64)> {
    let partitions = engine.topic(topic).unwrap().unwrap().partitions.len() as i32;
    let of = |p| engine.read(topic, p, 0, 100_000).unwrap().records;
    (0..partitions).flat_map(of).map(|r| (r.partition, r.key, r.value, r.timestamp)).collect()
}

/// Declares what was made, and reads all columns of `count` rows; none of them is NULL.
fn read_by_sql(engine: &Engine, statement: &str, count: usize, case: &str) {
    let mut session = engine.session();
    session.execute(statement).unwrap_or_else(|e| panic!("{case}: {}\n{statement}", e.diagnostic));
    let name = statement.split_whitespace().nth(2).unwrap();
    // A table over a topic is read as it comes, through a stream of the same columns.
    let stream = statement.replacen("CREATE TABLE", "CREATE STREAM", 1).replace(" PRIMARY KEY", " KEY");
    let stream = stream.replacen(name, &format!("all_{name}"), 1);
    session.execute(&stream).unwrap_or_else(|e| panic!("{case}: {}", e.diagnostic));
    session.properties.insert("auto.offset.reset".into(), "earliest".into());
    let query = format!("SELECT * FROM all_{name} EMIT CHANGES LIMIT {count};");
    let mut rows = session.query(&query).unwrap_or_else(|e| panic!("{case}: {}", e.diagnostic));
    let mut seen = 0;
    loop {
        match rows.source.next(PATIENCE) {
            NextRows::Batch { batch, .. } => {
                seen += batch.num_rows();
                let nulls: usize = batch.columns().iter().map(|c| c.null_count()).sum();
                assert_eq!(nulls, 0, "{case}: {batch:?}");
            }
            NextRows::Done(_) => break,
            NextRows::Idle => panic!("{case}: {seen} rows came, not {count}"),
            NextRows::Failed(error) => panic!("{case}: {error}"),
        }
    }
    assert_eq!(seen, count, "{case}");
}

#[test]
fn every_quickstart_reads_back_in_every_format() {
    let engine = Engine::open(EngineConfig::default()).unwrap();
    for quickstart in Quickstart::ALL {
        for value_format in [Format::Json, Format::Delimited] {
            for key_format in [Format::Kafka, Format::Json, Format::Delimited, Format::None] {
                let base = format!("{}_{key_format}_{value_format}", quickstart.name());
                let outlets = quickstart.outlets();
                let mut events = vec![Vec::new(); outlets.len()];
                let mut generator = Generator::new(quickstart, 5);
                for i in 0..60 {
                    let event = generator.draw(1_700_000_000_000 + i);
                    events[event.outlet].push(event.cells);
                }
                for (outlet, events) in outlets.iter().zip(events) {
                    let topic = format!("{base}{}", outlet.suffix);
                    let mut writer = RecordWriter::new(outlet, None, key_format, value_format).unwrap();
                    let (keys, values) = writer.write(&events).unwrap();
                    engine.create_topic(&topic, 1).unwrap();
                    let record = |(key, value): (Option<&[u8]>, Option<&[u8]>)| RawRecord {
                        key: key.map(<[u8]>::to_vec),
                        value: value.map(<[u8]>::to_vec),
                        ..RawRecord::default()
                    };
                    engine.append(&topic, keys.iter().zip(values.iter()).map(record).collect()).unwrap();
                    read_by_sql(&engine, &writer.statement(&topic, 1), events.len(), &topic);
                }
            }
        }
    }
    assert_eq!(records(&engine, "default_ksql_processing_log").len(), 0, "something could not be read");
}

#[test]
fn formats_and_keys_that_do_not_fit_are_refused_with_the_reason() {
    let orders = &Quickstart::Orders.outlets()[0];
    let error = |key, key_format, value_format| match RecordWriter::new(orders, key, key_format, value_format) {
        Ok(_) => panic!("{key:?} {key_format} {value_format} is accepted"),
        Err(error) => error.to_string(),
    };
    assert!(error(None, Format::Kafka, Format::Kafka).contains("only supports a single field"));
    assert!(error(None, Format::Kafka, Format::Avro).contains("AVRO"));
    let near = error(Some("itemidd"), Format::Kafka, Format::Json);
    assert!(near.contains("did you mean itemid?"), "{near}");
    assert!(RecordWriter::new(orders, Some("ITEMID"), Format::Kafka, Format::Json).is_ok());
}

#[test]
fn the_same_seed_and_start_are_the_same_records_in_a_data_directory() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let run = |dir: &Path, seed: &str, more: &[&str]| {
        let dir = dir.to_str().unwrap();
        let fixed = ["--quickstart", "orders", "--rate", "0", "--iterations", "300", "--seed", seed, "--data-dir", dir];
        ok(&[&fixed[..], more].concat()).1
    };
    let told = run(dirs[0].path(), "7", &["--start", "2026-01-01T00:00:00Z", "--partitions", "3"]);
    assert!(told.contains("300 records appended to orders"), "{told}");
    run(dirs[1].path(), "7", &["--start", "1767225600000", "--partitions", "3"]);
    run(dirs[1].path(), "8", &["--start", "1767225600000", "--topic", "other"]);
    let (statement, _) = ok(&["--quickstart", "orders", "--print-statement", "--partitions", "3"]);
    let engines = [open(dirs[0].path()), open(dirs[1].path())];
    let all = records(&engines[0], "orders");
    assert_eq!(all, records(&engines[1], "orders"));
    assert_ne!(
        all.iter().map(|r| &r.2).collect::<Vec<_>>(),
        records(&engines[1], "other").iter().map(|r| &r.2).collect::<Vec<_>>()
    );
    let times: BTreeMap<i64, usize> = all.iter().map(|r| (r.3, 1)).collect();
    assert_eq!((times.len(), *times.keys().next().unwrap()), (300, 1_767_225_600_000), "a record each ms");
    assert!((0..3).all(|p| all.iter().any(|r| r.0 == p)), "keys spread over partitions");
    read_by_sql(&engines[0], &statement, 300, "orders");
    engines.iter().for_each(|engine| engine.close().unwrap());
}

#[test]
fn records_reach_a_server_and_records_without_keys_go_round() {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let engine = Engine::open(EngineConfig::default()).unwrap();
    let state = ServerState::new(engine.clone(), Config::new(&BTreeMap::new()).unwrap());
    runtime.spawn(serve(state, listener, async { _ = stopped.await }));
    let arguments = ["--quickstart", "nexmark", "--rate", "2000", "--iterations", "100", "--server", &url];
    let (_, told) = ok(&[&arguments[..], &["--key-format", "NONE", "--topic", "nm", "--partitions", "2"]].concat());
    for (suffix, count) in [("person", 2), ("auction", 6), ("bid", 92)] {
        assert!(told.contains(&format!("{count} records appended to nm_{suffix}")), "{told}");
        let all = records(&engine, &format!("nm_{suffix}"));
        assert_eq!(all.iter().filter(|r| r.0 == 0).count(), count / 2);
        assert!(all.iter().all(|r| r.1.is_none()) && all.len() == count);
    }
    let refused = datagen(&["--quickstart", "orders", "--topic", "no/name", "--iterations", "1", "--server", &url]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && told.contains("cannot name a topic"), "{told}");
    stop.send(()).unwrap();
    runtime.shutdown_background();
    let statement =
        "CREATE STREAM bids (auction BIGINT, price BIGINT) WITH (KAFKA_TOPIC='nm_bid', VALUE_FORMAT='JSON');";
    read_by_sql(&engine, statement, 92, "bids");
}
