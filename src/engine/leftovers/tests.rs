//! Submitters that die between their command and what belongs to it, played by a command that nobody carries out.
//!
//! Engines driven by hand over one log in memory that counts as shared, under a clock that moves when told.

use std::sync::Arc;

use super::*;
use crate::clock::ManualClock;
use crate::engine::command_log::{Command, CommandLog};
use crate::engine::{EngineConfig, RawRecord};
use crate::topic::memory::MemoryLog;
use crate::topic::{Cleanup, Commit, Position, TopicPartition, TopicSpec};

/// `leftovers.grace.ms` unless it is set.
const GRACE_MS: i64 = 60_000;
const SOURCE: &str =
    "CREATE STREAM s (k INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON', partitions = 1);";
const TABLE: &str = "CREATE TABLE t WITH (kafka_topic = 't') AS SELECT v, COUNT(*) AS n FROM s GROUP BY v;";
const DROP: &str = "DROP TABLE t DELETE TOPIC;";

struct World {
    clock: Arc<ManualClock>,
    log: Arc<MemoryLog>,
}

impl World {
    fn new(shared: bool) -> Self {
        let clock = Arc::new(ManualClock::new(0));
        let log = MemoryLog::new(clock.clone());
        if shared {
            log.set_shared();
        }
        Self { clock, log }
    }

    fn open(&self) -> Engine {
        let (log, clock) = (self.log.clone() as Arc<dyn Log>, self.clock.clone() as Arc<dyn crate::clock::Clock>);
        let config = EngineConfig { log: Some(log), clock: Some(clock), manual: true, ..EngineConfig::default() };
        Engine::open(config).unwrap_or_else(|e| panic!("{e}"))
    }

    /// A command whose submitter dies before it does anything else; gives its place.
    fn command_of_the_dead(&self, text: &str) -> Offset {
        let commands = CommandLog::open(self.log.clone(), "default_").unwrap_or_else(|e| panic!("{e}"));
        let command = Command::new(text.to_owned(), BTreeMap::new(), BTreeMap::new(), Offset::MAX, vec![]);
        commands.append(&command).unwrap_or_else(|e| panic!("{e}"))
    }

    fn note(&self, note: &Note) {
        let commands = CommandLog::open(self.log.clone(), "default_").unwrap_or_else(|e| panic!("{e}"));
        commands.append_note(note).unwrap_or_else(|e| panic!("{e}"));
    }

    fn has(&self, topic: &str) -> bool {
        self.log.describe(&TopicName::new(topic)).unwrap().is_some()
    }

    /// Topics and owners of the query.
    fn of_query(&self) -> (usize, usize) {
        let internal = |name: &str| name.starts_with("_confluent-ksql-default_query_");
        let topics = self.log.topics().unwrap().iter().filter(|t| internal(t.name.as_str())).count();
        (topics, self.log.owners().unwrap().iter().filter(|o| internal(&o.0)).count())
    }
}

fn run(engine: &Engine, text: &str) {
    if let Err(error) = engine.session().execute(text) {
        panic!("{text}: {}", error.diagnostic);
    }
}

fn put(engine: &Engine, topic: &str, value: &str) {
    let record = RawRecord { value: Some(value.into()), ..RawRecord::default() };
    engine.append(topic, vec![record]).unwrap_or_else(|e| panic!("{e}"));
}

fn values(engine: &Engine, topic: &str) -> Vec<String> {
    let page = engine.read(topic, 0, 0, 100).unwrap_or_else(|e| panic!("{e}"));
    page.records.into_iter().map(|r| String::from_utf8(r.value.unwrap()).unwrap()).collect()
}

#[test]
fn who_drops_leaves_nothing_and_says_so() {
    let world = World::new(true);
    let (one, two) = (world.open(), world.open());
    run(&one, SOURCE);
    run(&one, TABLE);
    assert!(world.has("t") && world.of_query().0 > 0 && world.of_query().1 > 0);
    run(&one, DROP);
    two.catch_up().unwrap();
    assert_eq!((world.has("t"), world.of_query()), (false, (0, 0)));
    for engine in [&one, &two, &world.open()] {
        engine.catch_up().unwrap();
        assert!(engine.inner.unfinished.lock().0.is_empty());
    }
}

#[test]
fn what_a_dead_submitter_left_is_removed_when_it_was_waited_for() {
    let world = World::new(true);
    let (one, two) = (world.open(), world.open());
    run(&one, SOURCE);
    run(&one, TABLE);
    world.command_of_the_dead(DROP);
    [&one, &two].iter().for_each(|e| assert!(e.catch_up().unwrap()));
    assert!(one.catalog().source("T").is_none(), "it is dropped all the same");
    world.clock.advance(GRACE_MS - 1);
    one.sweep();
    assert!(world.has("t") && world.of_query().1 > 0, "its submitter may still be at it");
    // one that starts now waits for its own part
    let three = world.open();
    world.clock.advance(1);
    three.sweep();
    assert!(world.has("t"));
    two.sweep();
    assert_eq!((world.has("t"), world.of_query()), (false, (0, 0)));
    for engine in [&one, &two, &three, &world.open()] {
        engine.catch_up().unwrap();
        assert!(engine.inner.unfinished.lock().0.is_empty());
    }
}

#[test]
fn a_single_process_removes_at_its_start_what_its_last_run_left() {
    let world = World::new(false);
    let one = world.open();
    run(&one, SOURCE);
    run(&one, TABLE);
    drop(one);
    world.command_of_the_dead(DROP);
    let again = world.open();
    assert_eq!((world.has("t"), world.of_query()), (false, (0, 0)));
    run(&again, TABLE);
    drop(again);
    world.open();
    assert!(world.has("t"), "what was made after it stays");
}

#[test]
fn who_is_late_does_not_delete_what_was_made_anew() {
    let world = World::new(true);
    let (one, late) = (world.open(), world.open());
    run(&one, SOURCE);
    run(&one, TABLE);
    let of = world.command_of_the_dead(DROP);
    [&one, &late].iter().for_each(|e| assert!(e.catch_up().unwrap()));
    world.clock.advance(GRACE_MS);
    // the first one removes and makes anew; the other one has not heard of it when it begins
    run(&one, "CREATE STREAM t (v INT) WITH (kafka_topic = 't', value_format = 'JSON', partitions = 1);");
    put(&one, "t", "{\"V\":1}");
    assert!(late.inner.unfinished.lock().0.contains_key(&of));
    late.sweep();
    assert_eq!(values(&one, "t"), ["{\"V\":1}"]);
    // and a submitter that wakes up again only says what it did before
    world.note(&Note::Cleaned { of, by: SUBMITTER.to_owned() });
    late.catch_up().unwrap();
    late.sweep();
    assert_eq!(values(&one, "t"), ["{\"V\":1}"]);
    assert!(late.inner.unfinished.lock().0.is_empty());
}

#[test]
fn who_makes_it_anew_waits_for_all_that_remove_it() {
    let world = World::new(true);
    let one = world.open();
    run(&one, SOURCE);
    run(&one, TABLE);
    let of = world.command_of_the_dead(DROP);
    one.catch_up().unwrap();
    world.note(&Note::Claimed { of, by: "somebody".to_owned(), over: vec![] });
    let make = "CREATE STREAM t (w STRING) WITH (kafka_topic = 't', value_format = 'JSON', partitions = 3);";
    let made = {
        let one = one.clone();
        std::thread::spawn(move || run(&one, make))
    };
    world.note(&Note::Cleaned { of, by: SUBMITTER.to_owned() });
    // it has the claim to wait for still, however often it looks
    let waits_for = || one.inner.unfinished.lock().0.get(&of).map(|w| w.busy.iter().cloned().collect::<Vec<_>>());
    while waits_for().is_some_and(|busy| busy != ["somebody"]) {
        std::thread::yield_now();
    }
    assert!(waits_for().is_some() && !made.is_finished());
    world.log.delete_topic(&TopicName::new("t")).unwrap();
    world.note(&Note::Cleaned { of, by: "somebody".to_owned() });
    made.join().unwrap();
    assert_eq!(world.log.describe(&TopicName::new("t")).unwrap().unwrap().partitions, 3);
}

#[test]
fn made_dropped_and_made_again_survives_restarts_with_its_data() {
    for shared in [false, true] {
        let world = World::new(shared);
        let engine = world.open();
        run(&engine, SOURCE);
        run(&engine, TABLE);
        run(&engine, DROP);
        run(&engine, TABLE);
        put(&engine, "t", "{\"N\":7}");
        drop(engine);
        for _ in 0..10 {
            world.clock.advance(2 * GRACE_MS);
            let engine = world.open();
            engine.sweep();
            assert_eq!(values(&engine, "t"), ["{\"N\":7}"]);
            assert!(engine.catalog().source("T").is_some());
        }
    }
}

#[test]
fn topics_of_a_submitter_that_died_before_its_command_are_taken_over_by_the_statement_said_again() {
    let world = World::new(true);
    // what it had made by then, as another engine makes it
    let model = World::new(true);
    let maker = model.open();
    run(&maker, SOURCE);
    run(&maker, TABLE);
    for topic in model.log.topics().unwrap().iter().filter(|t| ["s", "t"].contains(&t.name.as_str())) {
        world.log.create_topic(topic).unwrap();
    }
    let engine = world.open();
    let other = SOURCE.replace("partitions = 1", "partitions = 3");
    let refused = engine.session().execute(&other).map(drop).unwrap_err().diagnostic;
    assert!(refused.message.contains("KSQL expects 3 partitions (topic has 1)"), "{refused}");
    run(&engine, SOURCE);
    run(&engine, TABLE);
    assert_eq!((world.of_query(), engine.catalog().queries().count()), (model.of_query(), 1));
    run(&engine, DROP);
    assert!(!world.has("t") && world.has("s"));
}

#[test]
fn what_push_queries_of_dead_nodes_left_goes_and_what_runs_stays() {
    let world = World::new(true);
    let engine = world.open();
    run(&engine, SOURCE);
    let mut session = engine.session();
    let rows = session
        .query("SELECT v, COUNT(*) FROM s GROUP BY v EMIT CHANGES;")
        .unwrap_or_else(|e| panic!("{}", e.diagnostic));
    let running: Vec<String> = topics_with(&world, "_confluent-ksql-default_transient_");
    assert!(!running.is_empty(), "it has a repartition topic");
    let group = "_confluent-ksql-default_transient_S_17";
    let topic = TopicName::new(format!("{group}-by-repartition"));
    let spec = TopicSpec { name: topic.clone(), partitions: 1, replicas: 1, cleanup: Cleanup::default() };
    world.log.create_topic(&spec).unwrap();
    let position = (Owner::new(group), TopicPartition::new("s", 0), Position::default());
    world.log.commit(Commit { positions: vec![position], ..Commit::default() }).unwrap();

    let seen = engine.sweep_push_queries(&BTreeSet::new()).unwrap();
    assert!(world.has(topic.as_str()), "a look alone removes nothing: it may just be starting");
    assert_eq!(seen.len(), 2, "{seen:?}");
    engine.sweep_push_queries(&seen).unwrap();
    assert!(!world.has(topic.as_str()));
    assert!(!world.log.owners().unwrap().contains(&Owner::new(group)));
    assert_eq!(topics_with(&world, "_confluent-ksql-default_transient_"), running);
    drop(rows);
}

#[test]
fn what_push_queries_of_the_last_run_left_in_a_data_directory_goes_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let config =
            EngineConfig { data_dir: Some(dir.path().to_owned()), workers: Some(1), ..EngineConfig::default() };
        Engine::open(config).unwrap_or_else(|e| panic!("{e}"))
    };
    let engine = open();
    run(&engine, SOURCE);
    let topic = "_confluent-ksql-default_transient_S_17-by-repartition";
    engine.create_topic(topic, 2).unwrap();
    let position =
        (Owner::new("_confluent-ksql-default_transient_S_17"), TopicPartition::new("s", 0), Position::default());
    engine.log().commit(Commit { positions: vec![position.clone()], ..Commit::default() }).unwrap();
    engine.close().unwrap();
    drop(engine);
    let engine = open();
    assert!(engine.topic(topic).unwrap().is_none() && engine.topic("s").unwrap().is_some());
    assert!(!engine.log().owners().unwrap().contains(&position.0));
    engine.close().unwrap();
}

fn topics_with(world: &World, prefix: &str) -> Vec<String> {
    let names = world.log.topics().unwrap().into_iter().map(|t| t.name.to_string());
    names.filter(|name| name.starts_with(prefix)).collect()
}
