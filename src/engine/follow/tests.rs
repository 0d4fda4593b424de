//! Two engines over one log: whatever comes between a statement and its place in the command topic, they end with the same catalog.
//!
//! No threads but in one test: the log's fault hook, asked before a command is appended, lets the other engine write first. The subtle
//! thing: the engines are driven by hand, so that queries which both start move no records.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;

use arrow::array::BinaryArray;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::clock::ManualClock;
use crate::engine::command_log::CommandLog;
use crate::engine::{EngineConfig, OutcomeKind, Session};
use crate::topic::memory::MemoryLog;
use crate::topic::{Append, Commit, Log, NO_TIMESTAMP, TopicPartition};

fn open(log: &Arc<MemoryLog>) -> Engine {
    let config = EngineConfig { log: Some(log.clone()), manual: true, ..EngineConfig::default() };
    Engine::open(config).unwrap_or_else(|e| panic!("{e}"))
}

fn log() -> Arc<MemoryLog> {
    MemoryLog::new(Arc::new(ManualClock::new(0)))
}

fn is_command(commit: &Commit) -> bool {
    commit.outputs.iter().any(|output| CommandLog::service_of(&output.to.topic).is_some())
}

fn run(session: &mut Session, text: &str) -> Result<Option<String>, String> {
    let mut outcomes = session.execute(text).map_err(|e| e.diagnostic.message)?;
    Ok(match outcomes.pop().map(|o| o.kind) {
        Some(OutcomeKind::Status(status)) => status.query_id,
        _ => None,
    })
}

/// Executes `text` on `engine`; just before its command is appended, `other` executes `between`. Gives both answers.
fn race(
    log: &Arc<MemoryLog>,
    engine: &Engine,
    text: &str,
    other: &Engine,
    between: &str,
) -> (Result<Option<String>, String>, Option<Result<Option<String>, String>>) {
    let heard = Arc::new(Mutex::new(None));
    let (calls, answer) = (AtomicUsize::new(0), heard.clone());
    let (other, between) = (other.clone(), between.to_owned());
    log.set_fault(Some(Arc::new(move |commit| {
        if is_command(commit) && calls.fetch_add(1, Ordering::SeqCst) == 0 {
            let said = run(&mut other.session(), &between);
            *answer.lock() = Some(said);
        }
        None
    })));
    let said = run(&mut engine.session(), text);
    log.set_fault(None);
    let heard = heard.lock().take();
    (said, heard)
}

/// Both engines, and one that starts now, have the same catalog and run what it says.
fn expect_equal(log: &Arc<MemoryLog>, engines: &[&Engine], what: &str) {
    let fresh = open(log);
    for engine in engines.iter().copied().chain([&fresh]) {
        engine.catch_up().unwrap_or_else(|e| panic!("{e}"));
        let catalog = engine.catalog();
        assert_eq!(*catalog, *fresh.catalog(), "{what}");
        let declared: BTreeSet<QueryId> = catalog.queries().map(|q| q.id.clone()).collect();
        let running: BTreeSet<QueryId> = engine.runtime().statuses().into_iter().map(|s| s.id).collect();
        assert_eq!(running, declared, "{what}");
    }
}

const INTS: &str =
    "CREATE STREAM s (k INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON', partitions = 1);";
const TEXTS: &str =
    "CREATE STREAM s (k INT KEY, w STRING) WITH (kafka_topic = 's', value_format = 'JSON', partitions = 1);";

#[test]
fn what_one_node_accepts_the_other_has() {
    let log = log();
    let (one, two) = (open(&log), open(&log));
    run(&mut one.session(), INTS).unwrap();
    // nobody told the second node yet; its statement makes it look
    let id = run(&mut two.session(), "CREATE TABLE t AS SELECT k, COUNT(*) AS n FROM s GROUP BY k;").unwrap();
    assert_eq!(id.as_deref().map(|id| id.starts_with("CTAS_T_")), Some(true));
    assert!(one.catch_up().unwrap() && !one.catch_up().unwrap());
    expect_equal(&log, &[&one, &two], "after a table");
    run(&mut one.session(), "DROP TABLE t DELETE TOPIC;").unwrap();
    expect_equal(&log, &[&one, &two], "after a drop");
    assert!(two.catalog().query(&id.unwrap()).is_none());
}

#[test]
fn of_two_that_conflict_the_first_in_the_topic_wins() {
    let log = log();
    let (one, two) = (open(&log), open(&log));
    let (late, early) = race(&log, &one, TEXTS, &two, INTS);
    assert_eq!(early, Some(Ok(None)));
    let told = late.unwrap_err();
    assert!(told.contains("already exists"), "{told}");
    expect_equal(&log, &[&one, &two], "after a conflict");
    let columns: Vec<String> = one.catalog_names().into_iter().find(|(name, _)| name == "S").unwrap().1;
    assert_eq!(columns, ["K", "V"]);
}

#[test]
fn queries_begun_at_the_same_moment_get_numbers_of_their_own() {
    let log = log();
    let (one, two) = (open(&log), open(&log));
    run(&mut one.session(), INTS).unwrap();
    let count = |name: &str| format!("CREATE TABLE {name} AS SELECT v, COUNT(*) AS n FROM s GROUP BY v;");
    let (late, early) = race(&log, &one, &count("a"), &two, &count("b"));
    let (late, early) = (late.unwrap().unwrap(), early.unwrap().unwrap().unwrap());
    let number = |id: &str| id.rsplit('_').next().and_then(|n| n.parse::<u64>().ok()).unwrap();
    assert!(number(&early) < number(&late), "{early} {late}");
    expect_equal(&log, &[&one, &two], "after two queries");
}

#[test]
fn what_is_no_command_stops_neither_a_start_nor_a_node_that_follows() {
    let log = log();
    let (one, two) = (open(&log), open(&log));
    run(&mut one.session(), INTS).unwrap();
    let topics = log.topics().unwrap();
    let topic = topics.into_iter().map(|t| t.name).find(|t| CommandLog::service_of(t).is_some()).unwrap();
    let stale = r#"{"version":1,"statement":"DROP STREAM nobody;","properties":{},"partitions":{},"based_on":-1,"identity":[]}"#;
    let values = [Some(&b"\xff no JSON"[..]), None, Some(b"{}"), Some(stale.as_bytes())];
    let append = Append {
        to: TopicPartition::new(topic, 0),
        timestamps: vec![NO_TIMESTAMP; values.len()].into(),
        keys: BinaryArray::from_opt_vec(vec![None; values.len()]),
        values: BinaryArray::from_opt_vec(values.to_vec()),
        headers: None,
    };
    log.commit(Commit { outputs: vec![append], ..Commit::default() }).unwrap();
    run(&mut two.session(), "CREATE STREAM c AS SELECT * FROM s;").unwrap();
    expect_equal(&log, &[&one, &two], "after bad records");
    assert!(one.catalog().source("C").is_some());
}

/// Some statement about a few names, so that conflicts are common.
fn statement(random: &mut StdRng) -> String {
    let n = random.random_range(0..3);
    let column = ["v INT", "w STRING"][random.random_range(0..2)];
    match random.random_range(0..10) {
        0..=2 => format!(
            "CREATE STREAM s{n} (k INT KEY, {column}) WITH (kafka_topic = 't{n}', value_format = 'JSON', partitions = 2);"
        ),
        3 => format!("DROP STREAM s{n};"),
        4 => format!("DROP STREAM IF EXISTS c{n} DELETE TOPIC;"),
        5 => format!("CREATE STREAM IF NOT EXISTS c{n} AS SELECT * FROM s{n};"),
        6 => format!("CREATE TABLE c{n} AS SELECT k, COUNT(*) AS n FROM s{n} GROUP BY k;"),
        7 => format!("CREATE OR REPLACE STREAM c{n} AS SELECT * FROM s{n} WHERE k > 1;"),
        8 => ["PAUSE ALL;", "RESUME ALL;", "TERMINATE ALL;"][n].to_owned(),
        _ => format!("CREATE TYPE y{n} AS STRUCT<{column}>;"),
    }
}

#[test]
fn any_interleaving_ends_with_the_same_catalog() {
    let mut voided = 0;
    for seed in 0..24 {
        let mut random = StdRng::seed_from_u64(seed);
        let log = log();
        let engines = [open(&log), open(&log)];
        for step in 0..30 {
            let first = random.random_range(0..2);
            let (text, between) = (statement(&mut random), statement(&mut random));
            let at = log.topics().unwrap().into_iter().map(|t| t.name).find(|t| CommandLog::service_of(t).is_some());
            let at = TopicPartition::new(at.unwrap(), 0);
            let before = log.bounds(&at).unwrap().end;
            let (late, early) = race(&log, &engines[first], &text, &engines[1 - first], &between);
            let written = log.bounds(&at).unwrap().end - before;
            voided += usize::from(written == 2 && late.is_err());
            let what = format!("seed {seed}, step {step}: {text} {late:?} after {between} {early:?}");
            if random.random_range(0..4) == 0 {
                expect_equal(&log, &[&engines[0], &engines[1]], &what);
            }
        }
        expect_equal(&log, &[&engines[0], &engines[1]], &format!("seed {seed}"));
    }
    assert!(voided > 5, "only {voided} statements met a conflict at their place");
}

#[test]
fn of_threads_that_conflict_exactly_one_wins() {
    let log = log();
    let engines = [open(&log), open(&log)];
    for n in 0..20 {
        let text = |column: &str| {
            format!(
                "CREATE STREAM s{n} (k INT KEY, {column}) WITH (kafka_topic = 't{n}', value_format = 'JSON', partitions = 1);"
            )
        };
        let texts = [text("v INT"), text("w STRING")];
        let begin = std::sync::Barrier::new(2);
        let answers: Vec<_> = std::thread::scope(|scope| {
            let begin = &begin;
            let spawn = |(engine, text): (&Engine, &String)| {
                let (engine, text) = (engine.clone(), text.clone());
                scope.spawn(move || {
                    begin.wait();
                    run(&mut engine.session(), &text)
                })
            };
            let threads: Vec<_> = engines.iter().zip(&texts).map(spawn).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 1, "{answers:?}");
    }
    expect_equal(&log, &[&engines[0], &engines[1]], "after threads");
}

#[test]
fn a_topic_that_another_node_deleted_in_between_is_made_again() {
    let log = log();
    let (one, two) = (open(&log), open(&log));
    run(&mut one.session(), INTS).unwrap();
    run(&mut one.session(), "CREATE STREAM c AS SELECT * FROM s;").unwrap();
    let replace = "CREATE OR REPLACE STREAM c AS SELECT * FROM s WHERE v > 1;";
    let (late, early) = race(&log, &one, replace, &two, "DROP STREAM c DELETE TOPIC;");
    assert_eq!(early, Some(Ok(None)));
    late.unwrap();
    expect_equal(&log, &[&one, &two], "after a drop and a replace");
    let topic = one.catalog().source("C").unwrap().topic.clone();
    assert_eq!(log.describe(&topic).unwrap().map(|t| t.partitions), Some(1));
}
