//! A service's commands in a file and in another log, with bad records among them.

use super::*;
use crate::clock::ManualClock;
use crate::engine::{Engine, RawRecord};
use crate::topic::memory::MemoryLog;

const SETUP: &str = "\
CREATE STREAM s (k INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON', partitions = 2);
CREATE TABLE t AS SELECT v, COUNT(*) AS n FROM s GROUP BY v;
CREATE STREAM gone AS SELECT * FROM s;
DROP STREAM gone DELETE TOPIC;
CREATE STREAM c AS SELECT * FROM s WHERE v > 1;
PAUSE ALL;";

fn log() -> Arc<MemoryLog> {
    MemoryLog::new(Arc::new(ManualClock::new(0)))
}

fn config(log: &Arc<MemoryLog>) -> EngineConfig {
    EngineConfig { log: Some(log.clone()), manual: true, ..EngineConfig::default() }
}

fn engine(log: &Arc<MemoryLog>) -> Engine {
    Engine::open(config(log)).unwrap_or_else(|e| panic!("{e}"))
}

fn execute(engine: &Engine, text: &str) {
    engine.session().execute(text).unwrap_or_else(|e| panic!("{text}: {}", e.diagnostic));
}

fn topic(log: &Arc<MemoryLog>) -> CommandTopic {
    CommandTopic::open(&config(log)).unwrap_or_else(|e| panic!("{e}"))
}

/// A log with declarations and a record between them that is no command; and its copy.
fn filled() -> (Arc<MemoryLog>, Vec<u8>) {
    let log = log();
    let engine = engine(&log);
    let garbage = RawRecord { value: Some(b"\xff no command".to_vec()), ..RawRecord::default() };
    engine.append(CommandLog::topic_of("default_").as_str(), vec![garbage]).unwrap_or_else(|e| panic!("{e}"));
    execute(&engine, SETUP);
    let mut file = Vec::new();
    let copied = topic(&log).backup(&mut file).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((copied.entries, copied.left_out.len()), (7, 1), "six commands and a note: {copied:?}");
    (log, file)
}

#[test]
fn a_service_comes_back_with_its_queries() {
    let (old, file) = filled();
    let new = log();
    // data are not in the file: the topics that are declared must be there
    for spec in old.topics().unwrap().iter().filter(|t| ["s", "T", "C"].contains(&t.name.as_str())) {
        new.create_topic(spec).unwrap();
    }
    let copied = topic(&new).restore(&mut file.as_slice(), false).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(copied, CommandsCopied { entries: 7, ..CommandsCopied::default() });
    let (before, after) = (engine(&old), engine(&new));
    assert_eq!(*before.catalog(), *after.catalog());
    assert_eq!(before.runtime().statuses().len(), 2);
    assert_eq!(after.runtime().statuses().len(), 2);
    execute(&after, "DROP STREAM c; CREATE STREAM d AS SELECT * FROM s;");
    assert!(engine(&new).catalog().source("D").is_some());
}

#[test]
fn what_is_there_is_replaced_only_if_that_is_said() {
    let (log, file) = filled();
    let before = engine(&log).catalog();
    execute(&engine(&log), "CREATE TYPE y AS STRUCT<a INT>;");
    let error = topic(&log).restore(&mut file.as_slice(), false).unwrap_err();
    assert!(
        error.message.contains("holds 9 records") && error.help.unwrap().contains("--replace"),
        "{}",
        error.message
    );
    assert_ne!(*engine(&log).catalog(), *before, "nothing is changed");
    topic(&log).restore(&mut file.as_slice(), true).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(*engine(&log).catalog(), *before);
}

#[test]
fn a_damaged_file_changes_nothing() {
    let (log, file) = filled();
    let before = engine(&log).catalog();
    let text = String::from_utf8(file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let swapped = [lines[0], lines[2], lines[1]].join("\n");
    let cut = text[..text.len() - 10].to_owned();
    let newer = text.replacen("\"version\":1", "\"version\":2", 1);
    for (bad, says) in
        [("", "begin"), ("{}\n", "begin"), (&swapped, "come after"), (&cut, "line 8"), (&newer, "form 2")]
    {
        let error = topic(&log).restore(&mut bad.as_bytes(), true).unwrap_err();
        assert!(error.message.contains(says), "{}", error.message);
        assert_eq!(*engine(&log).catalog(), *before);
    }
}

#[test]
fn places_of_others_are_put_in_anew() {
    use crate::engine::command_log::{Command, Note};
    let command = |based_on| Entry::Command(Command::new("x".into(), [].into(), [].into(), based_on, vec![]));
    let cleaned = |of| Entry::Note(Note::Cleaned { of, by: String::new() });
    // 5 is not in the file: what was based on it is based on 3
    let anew = placed_anew(vec![(3, command(-1)), (7, command(5)), (9, cleaned(7)), (12, command(7))]);
    assert_eq!(anew, [command(-1), command(0), cleaned(1), command(1)]);
}
