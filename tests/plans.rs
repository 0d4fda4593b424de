//! What plans look like: the EXPLAINs of `tests/plans/*.sql`, compared with the `.plan` file beside each.
//!
//! `UPDATE=1` writes the `.plan` files anew; the difference is what to review. The subtle thing: a plan may change, its results may not, so nothing
//! here says that a plan is right; that rules change no result is tested where rows flow (`an_optimizer_rule_changes_no_row`).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::BinaryArray;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use riverrun::Engine;
use riverrun::clock::ManualClock;
use riverrun::engine::{Description, EngineConfig, OutcomeKind};
use riverrun::topic::{ReadLimit, TopicPartition};

const PROCESSING_LOG: &str = "default_ksql_processing_log";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans")
}

/// Executes a file; gives what its EXPLAINs say.
fn explained(text: &str) -> String {
    let engine = Engine::open(EngineConfig { manual: true, ..EngineConfig::default() }).expect("opens");
    let mut session = engine.session();
    let mut out = String::new();
    for outcome in session.execute(text).unwrap_or_else(|e| panic!("{}", e.diagnostic)) {
        if let OutcomeKind::Description(Description::Query(query)) = outcome.kind {
            let (plan, topology) = (&query.plan, &query.topology);
            writeln!(out, "{}\n\n{plan}\n\n{topology}\n\n", outcome.statement.trim()).expect("a String takes it");
        }
    }
    out
}

#[test]
fn plans_are_as_written() {
    let mut seen = 0;
    for entry in fs::read_dir(folder()).expect("tests/plans is there") {
        let file = entry.expect("an entry").path();
        if file.extension().is_none_or(|e| e != "sql") {
            continue;
        }
        seen += 1;
        let found = explained(&fs::read_to_string(&file).expect("text"));
        let golden = file.with_extension("plan");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&golden, &found).expect("the plan is written");
            continue;
        }
        let wanted = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(found, wanted, "{}: UPDATE=1 rewrites it", golden.display());
    }
    assert!(seen >= 2, "there are plans");
}

/// Texts of key and value of all records of a topic, with their times, sorted.
fn records(engine: &Engine, topic: &str) -> Vec<(String, String, i64)> {
    let text = |of: &BinaryArray, row| String::from_utf8_lossy(of.value(row)).into_owned();
    let described = engine.log().describe(&topic.into()).expect("the log tells").expect("it is there");
    let mut found = Vec::new();
    for partition in 0..described.partitions {
        let limit = ReadLimit { max_records: usize::MAX, max_bytes: usize::MAX };
        let batch = engine.log().read(&TopicPartition::new(topic, partition), 0, limit).expect("it is read").batch;
        found.extend((0..batch.len()).map(|r| (text(&batch.keys, r), text(&batch.values, r), batch.timestamps[r])));
    }
    found.sort();
    found
}

/// What the processing log says of losses. Where no topic stands, the offset is one of an internal topic if the rows came over one: then it tells
/// only how rows were packed for the way, of which there are fewer after a filter.
fn losses(engine: &Engine, rekeyed: bool) -> Vec<String> {
    let told = |(_, value, _): (String, String, i64)| {
        let row: serde_json::Value = serde_json::from_str(&value).expect("the processing log is JSON");
        let offset = if rekeyed && row["TOPIC"].is_null() { &serde_json::Value::Null } else { &row["OFFSET"] };
        format!("{} {} {} {offset} {}", row["QUERY_ID"], row["TOPIC"], row["PARTITION"], row["REASON"])
    };
    let mut told: Vec<String> = records(engine, PROCESSING_LOG).into_iter().map(told).collect();
    told.sort();
    told
}

type Outcome = (Vec<(String, String, i64)>, Vec<String>);

/// Records of the sink and of the processing log after these statements; no thread runs, and the clock stands still.
fn outcome(texts: &[String], rekeyed: bool, off: &str) -> Outcome {
    let properties = BTreeMap::from([
        ("optimizer.rules.off".to_owned(), off.to_owned()),
        ("auto.offset.reset".to_owned(), "earliest".to_owned()),
    ]);
    let clock = Arc::new(ManualClock::new(1_000_000));
    let config = EngineConfig { manual: true, clock: Some(clock), properties, ..EngineConfig::default() };
    let engine = Engine::open(config).expect("opens");
    for text in texts {
        engine.session().execute(text).unwrap_or_else(|e| panic!("{text}: {}", e.diagnostic));
    }
    let id = engine.catalog().queries().next().expect("a query").id.clone();
    engine.runtime().pump(&id, &|_| None).expect("it runs");
    (records(&engine, "O"), losses(&engine, rekeyed))
}

/// A row of the stream: key, foreign key, number.
type StreamRow = (Option<i32>, Option<i32>, Option<i32>);

fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (0..5).prop_map(|v| format!("s.n > {v}")),
        (0..5).prop_map(|v| format!("s.f = {v}")),
        Just("s.n IS NULL".to_owned()),
        Just("s.f IS NOT NULL".to_owned()),
        Just("s.ROWTIME >= 5".to_owned()),
        (0..3).prop_map(|v| format!("t.v <> {v}")),
        Just("t.v IS NULL".to_owned()),
        // these fail on some rows
        (0..3).prop_map(|v| format!("10 / s.n > {v}")),
        (0..3).prop_map(|v| format!("10 / t.v > {v}")),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(|all| format!("({})", all.join(" AND "))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|all| format!("({})", all.join(" OR "))),
            inner.prop_map(|one| format!("NOT ({one})")),
        ]
    })
}

#[test]
fn an_optimizer_rule_changes_no_row() {
    let row = (proptest::option::of(0..4), proptest::option::of(0..4), proptest::option::of(0..4));
    let rows = prop::collection::vec(row, 1..20);
    let table = prop::collection::vec((0..4, proptest::option::of(0..3)), 0..4);
    let query = (any::<bool>(), any::<bool>(), prop::collection::vec(condition(), 1..3));
    let reached = Cell::new((0, 0));
    let mut runner = TestRunner::new(Cases { cases: 24, failure_persistence: None, ..Cases::default() });
    runner
        .run(&(rows, table, query), |(rows, table, (outer, rekeyed, conditions))| {
            let texts = statements(&rows, &table, outer, rekeyed, &conditions.join(" AND "));
            let (with, without) = (outcome(&texts, rekeyed, ""), outcome(&texts, rekeyed, "push_down_predicates"));
            reached.set((reached.get().0 + with.0.len(), reached.get().1 + with.1.len()));
            prop_assert_eq!(with, without, "{:#?}", texts);
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
    let (rows, losses) = reached.get();
    assert!(rows > 0 && losses > 0, "{rows} rows, {losses} losses");
}

fn statements(
    rows: &[StreamRow],
    table: &[(i32, Option<i32>)],
    outer: bool,
    rekeyed: bool,
    condition: &str,
) -> Vec<String> {
    let text = |value: Option<i32>| value.map_or_else(|| "NULL".to_owned(), |v| v.to_string());
    let values: Vec<_> = rows
        .iter()
        .enumerate()
        // after the table's rows: of two rows of one time, which goes first depends on whether both are there
        .map(|(i, (k, f, n))| format!("({}, {}, {}, {})", i + 1, text(*k), text(*f), text(*n)))
        .collect();
    let (kind, on) = (if outer { "LEFT JOIN" } else { "JOIN" }, if rekeyed { "s.f" } else { "s.k" });
    let mut texts = vec![
        "CREATE STREAM s (k INT KEY, f INT, n INT) WITH (kafka_topic = 's', value_format = 'JSON', partitions = 2);"
            .to_owned(),
        "CREATE TABLE t (id INT PRIMARY KEY, v INT) WITH (kafka_topic = 't', value_format = 'JSON', partitions = 2);"
            .to_owned(),
    ];
    texts.extend(table.iter().map(|(id, v)| format!("INSERT INTO t (ROWTIME, id, v) VALUES (0, {id}, {});", text(*v))));
    texts.push(format!("INSERT INTO s (ROWTIME, k, f, n) VALUES {};", values.join(", ")));
    texts.push(format!(
        "CREATE STREAM o AS SELECT {on}, s.n + 1 AS n, t.v FROM s {kind} t ON {on} = t.id WHERE {condition};"
    ));
    texts
}
