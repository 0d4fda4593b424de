//! `window.idle.close.ms`: windows close when there is no input for so long, by a clock that the test moves.
//!
//! What must hold: the results are those that a later row would have brought, each once, whatever falls between; what comes too late after
//! that is told as late. The subtle thing: an input that is behind, or whose writers are, is not idle.

use std::sync::Arc;

use arrow::array::{Array, BinaryArray};
use riverrun::clock::ManualClock;
use riverrun::engine::{Engine, EngineConfig, TestMode};
use riverrun::operator::LossKind;
use riverrun::runtime::Turn;
use riverrun::topic::memory::MemoryLog;
use riverrun::topic::{Append, Commit, Log, ReadLimit, TopicPartition};
use riverrun::types::QueryId;

const IDLE_MS: i64 = 1000;
const SOURCES: &str = "
    CREATE STREAM s (k STRING KEY, v INT) WITH (KAFKA_TOPIC='s', VALUE_FORMAT='JSON', PARTITIONS=1);
    CREATE STREAM s2 (k STRING KEY, v INT) WITH (KAFKA_TOPIC='s2', VALUE_FORMAT='JSON', PARTITIONS=1);";

/// Key, value and time of a record.
type Record = (Vec<u8>, String, i64);

struct World {
    clock: Arc<ManualClock>,
    log: Arc<MemoryLog>,
    engine: Engine,
    page_rows: Option<usize>,
    idle_ms: i64,
}

impl World {
    fn new(query: &str, page_rows: Option<usize>, idle_ms: i64) -> Self {
        let clock = Arc::new(ManualClock::new(5_000_000));
        let log = MemoryLog::new(clock.clone());
        let engine = open(&log, &clock, page_rows, idle_ms, "extended");
        let world = Self { clock, log, engine, page_rows, idle_ms };
        world.execute(SOURCES);
        world.execute(query);
        world
    }

    fn execute(&self, text: &str) {
        self.engine.session().execute(text).map(drop).unwrap_or_else(|e| panic!("{text}: {}", e.diagnostic));
    }

    /// The process dies and comes again.
    fn restart(&mut self) {
        self.engine = open(&self.log, &self.clock, self.page_rows, self.idle_ms, "extended");
    }

    fn put(&self, topic: &str, key: &str, v: i64, at_ms: i64) {
        let value = format!("{{\"V\":{v}}}");
        let append = Append {
            to: TopicPartition::new(topic, 0),
            timestamps: vec![at_ms].into(),
            keys: BinaryArray::from_vec(vec![key.as_bytes()]),
            values: BinaryArray::from_vec(vec![value.as_bytes()]),
            headers: None,
        };
        self.log.commit(Commit { outputs: vec![append], ..Commit::default() }).unwrap();
    }

    fn query(&self) -> QueryId {
        self.engine.runtime().statuses()[0].id.clone()
    }

    fn pump(&self) {
        self.engine.runtime().pump(&self.query(), &|_| None).unwrap();
    }

    /// So much time passes without input.
    fn idle(&self, ms: i64) {
        self.pump();
        self.clock.advance(ms);
        self.pump();
    }

    fn turn(&self, task: usize, turn: Turn) -> bool {
        self.engine.runtime().pump_task(&self.query(), task, turn).unwrap()
    }

    fn results(&self) -> Vec<Record> {
        let limit = ReadLimit { max_records: usize::MAX, max_bytes: usize::MAX };
        let batch = self.log.read(&TopicPartition::new("o", 0), 0, limit).unwrap().batch;
        let text = |row| match batch.values.is_valid(row) {
            true => String::from_utf8(batch.values.value(row).to_vec()).unwrap(),
            false => "tombstone".to_owned(),
        };
        (0..batch.len()).map(|row| (batch.keys.value(row).to_vec(), text(row), batch.timestamps[row])).collect()
    }

    fn late(&self) -> u64 {
        self.engine.runtime().losses(&self.query()).get(&LossKind::Late).copied().unwrap_or(0)
    }
}

fn open(
    log: &Arc<MemoryLog>,
    clock: &Arc<ManualClock>,
    page_rows: Option<usize>,
    idle_ms: i64,
    dialect: &str,
) -> Engine {
    let properties = [
        ("auto.offset.reset", "earliest"),
        ("window.idle.close.ms", &idle_ms.to_string()),
        ("riverrun.dialect", dialect),
    ];
    let config = EngineConfig {
        log: Some(log.clone()),
        properties: properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        manual: true,
        clock: Some(clock.clone()),
        test: Some(TestMode { by_arrival: true, page_rows, ..TestMode::default() }),
        ..EngineConfig::default()
    };
    Engine::open(config).unwrap_or_else(|e| panic!("{e}"))
}

fn final_of(window: &str) -> String {
    format!(
        "CREATE TABLE o WITH (KAFKA_TOPIC='o') AS SELECT k, COUNT(*) AS n, SUM(v) AS x FROM s WINDOW {window} GROUP BY k EMIT FINAL;"
    )
}

const WINDOWS: [&str; 4] = [
    "TUMBLING (SIZE 10 SECONDS)",
    "TUMBLING (SIZE 10 SECONDS, GRACE PERIOD 3 SECONDS)",
    "HOPPING (SIZE 10 SECONDS, ADVANCE BY 3 SECONDS, GRACE PERIOD 3 SECONDS)",
    "SESSION (4 SECONDS, GRACE PERIOD 3 SECONDS)",
];

/// Rows of several windows and keys, some of which have closed each other.
fn feed(world: &World) {
    for (n, at_s) in [1, 2, 9, 11, 30, 31, 36, 36, 38].into_iter().enumerate() {
        world.put("s", ["a", "b"][n % 2], n as i64, at_s * 1000);
    }
}

fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort();
    records
}

/// What later rows bring out, but for their own. They come one after the other, so that no window is jumped over.
fn brought_by_time(query: &str, feed: impl Fn(&World)) -> Vec<Record> {
    let world = World::new(query, None, 0);
    feed(&world);
    (39..99).for_each(|at_s| world.put("s", "zz", 0, at_s * 1000));
    world.pump();
    let is_own = |record: &Record| record.0.windows(2).any(|part| part == b"zz");
    world.results().into_iter().filter(|record| !is_own(record)).collect()
}

#[test]
fn final_results_come_when_the_input_is_idle_as_if_time_had_passed() {
    for window in WINDOWS {
        let query = final_of(window);
        let want = brought_by_time(&query, feed);
        let world = World::new(&query, None, IDLE_MS);
        feed(&world);
        world.pump();
        let before = world.results().len();
        assert!(before < want.len(), "{window}: some windows are open");
        world.idle(IDLE_MS - 1);
        assert_eq!(world.results().len(), before, "{window}: the input is not idle yet");
        world.idle(1);
        assert_eq!(sorted(world.results()), sorted(want), "{window}");
        let count = world.results().len();
        world.idle(10 * IDLE_MS);
        assert_eq!(world.results().len(), count, "{window}: nothing is given twice");
    }
}

#[test]
fn a_restart_at_any_place_neither_loses_nor_doubles_a_result() {
    for window in WINDOWS {
        let query = final_of(window);
        let want = sorted(brought_by_time(&query, feed));
        for page_rows in [1, 2, 100] {
            // commits between pages, a crash after each, with and without what was not committed
            for crash_before_commit in [false, true] {
                let mut world = World::new(&query, Some(page_rows), IDLE_MS);
                feed(&world);
                world.pump();
                for round in 0..200 {
                    // it is made here, and waits from now on
                    world.turn(0, Turn::Commit);
                    world.clock.advance(IDLE_MS);
                    world.turn(0, Turn::Step);
                    if !crash_before_commit || round % 2 == 1 {
                        world.turn(0, Turn::Commit);
                    }
                    world.restart();
                    if world.results().len() >= want.len() {
                        break;
                    }
                }
                world.idle(IDLE_MS);
                assert_eq!(sorted(world.results()), want, "{window}, pages of {page_rows}, {crash_before_commit}");
            }
        }
    }
}

#[test]
fn rows_for_windows_that_closed_so_are_late_and_others_are_not() {
    for window in WINDOWS {
        let mut world = World::new(&final_of(window), None, IDLE_MS);
        feed(&world);
        world.idle(IDLE_MS);
        let results = world.results();
        world.put("s", "a", 7, 36_500);
        world.idle(IDLE_MS);
        assert!(world.late() > 0, "{window}: a row of a closed window is told");
        assert_eq!(world.results(), results, "{window}: and changes nothing");
        // the advance of time is committed
        world.restart();
        world.put("s", "a", 7, 36_500);
        world.idle(IDLE_MS);
        assert!(world.late() > 0, "{window}: also after a restart");
        assert_eq!(world.results(), results, "{window}: also after a restart");
        world.put("s", "a", 7, 200_000);
        world.idle(IDLE_MS);
        assert!(world.results().len() > results.len(), "{window}: new windows open and close");
    }
}

#[test]
fn rows_of_outer_joins_that_wait_for_a_partner_are_given_out_alone() {
    for (kind, key) in [("LEFT JOIN", "s.k"), ("RIGHT JOIN", "s2.k"), ("FULL OUTER JOIN", "ROWKEY")] {
        let query = format!(
            "CREATE STREAM o WITH (KAFKA_TOPIC='o') AS SELECT {key}, s.v AS l, s2.v AS r FROM s {kind} s2 \
             WITHIN 10 SECONDS GRACE PERIOD 5 SECONDS ON {key_on};",
            key_on = "s.k = s2.k"
        );
        let rows = |world: &World| {
            for (n, (topic, key, at_s)) in
                [("s", "a", 1), ("s2", "a", 2), ("s", "b", 3), ("s2", "c", 4), ("s", "d", 5), ("s2", "e", 5)]
                    .into_iter()
                    .enumerate()
            {
                world.put(topic, key, n as i64, at_s * 1000);
            }
        };
        let want = sorted(brought_by_time(&query, rows));
        assert!(want.len() > 2, "{kind}: {want:?}");
        let pages = [None, Some(1)];
        for page_rows in pages {
            let mut world = World::new(&query, page_rows, IDLE_MS);
            rows(&world);
            world.idle(IDLE_MS - 1);
            assert_eq!(world.results().len(), 1, "{kind}: the pair");
            world.clock.advance(1);
            for _ in 0..50 {
                world.turn(0, Turn::Step);
                world.turn(0, Turn::Commit);
                world.restart();
                world.turn(0, Turn::Commit);
                world.clock.advance(IDLE_MS);
            }
            assert_eq!(sorted(world.results()), want, "{kind}");
            // what was given out alone finds no partner any more
            let count = world.results().len();
            world.put("s2", "b", 8, 3000);
            world.put("s", "c", 9, 4000);
            world.pump();
            let after = world.results().split_off(count);
            let pairs = after.iter().filter(|(_, value, _)| !value.contains("null"));
            assert_eq!(pairs.count(), 0, "{kind}: {after:?}");
            let alone = usize::from(kind != "RIGHT JOIN") + usize::from(kind != "LEFT JOIN");
            assert_eq!(after.len() + world.late() as usize, 2, "{kind}: late rows are given out alone or told");
            assert!(after.len() == alone, "{kind}: {after:?}");
            // younger rows wait and meet as ever
            let count = world.results().len();
            world.put("s", "f", 1, 6000);
            world.put("s2", "f", 2, 7000);
            world.pump();
            assert_eq!(world.results().len(), count + 1, "{kind}: {:?}", world.results().split_off(count));
        }
    }
}

#[test]
fn rows_brought_out_go_through_what_comes_after_them() {
    let query = "CREATE STREAM o WITH (KAFKA_TOPIC='o') AS SELECT s.k, s.v AS a, s2.v AS b, s3.v AS c FROM s \
                 LEFT JOIN s2 WITHIN 2 SECONDS GRACE PERIOD 1 SECOND ON s.k = s2.k \
                 LEFT JOIN s3 WITHIN 2 SECONDS GRACE PERIOD 1 SECOND ON s.k = s3.k;";
    let source = SOURCES.replace("s2 (", "s3 (").replace("'s2'", "'s3'");
    let s3 = source.lines().last().expect("two sources");
    for page_rows in [None, Some(1)] {
        let mut world = World::new(&format!("{s3}{query}"), page_rows, IDLE_MS);
        (1..6).for_each(|n| world.put("s", &format!("k{n}"), n, n * 1000));
        world.put("s2", "k2", 7, 2000);
        world.put("s3", "k3", 8, 3000);
        for _ in 0..40 {
            world.turn(0, Turn::Step);
            world.turn(0, Turn::Commit);
            world.restart();
            world.turn(0, Turn::Commit);
            world.clock.advance(IDLE_MS);
        }
        let values: Vec<String> = sorted(world.results()).into_iter().map(|(_, value, _)| value).collect();
        let row = |a: i64, b: &str, c: &str| format!("{{\"A\":{a},\"B\":{b},\"C\":{c}}}");
        let want = [
            row(1, "null", "null"),
            row(2, "7", "null"),
            row(3, "null", "8"),
            row(4, "null", "null"),
            row(5, "null", "null"),
        ];
        assert_eq!(values, want, "pages of {page_rows:?}");
    }
}

#[test]
fn a_grace_longer_than_time_never_ends() {
    let grace = i64::MAX - 20_000;
    for window in ["TUMBLING (SIZE 10 SECONDS", "SESSION (4 SECONDS"] {
        let world = World::new(&final_of(&format!("{window}, GRACE PERIOD {grace} MILLISECONDS)")), None, IDLE_MS);
        world.put("s", "a", 1, 100_000);
        world.idle(IDLE_MS);
        world.put("s", "a", 2, 101_000);
        world.idle(IDLE_MS);
        assert!(world.results().is_empty() && world.late() == 0, "{window}");
    }
}

#[test]
fn what_is_behind_is_not_idle() {
    let query = "CREATE TABLE o WITH (KAFKA_TOPIC='o') AS SELECT v, COUNT(*) AS n FROM s \
                 WINDOW TUMBLING (SIZE 10 SECONDS, GRACE PERIOD 0 SECONDS) GROUP BY v EMIT FINAL;";
    let world = World::new(query, None, IDLE_MS);
    (0..3).for_each(|n| world.put("s", "a", 1, n * 1000));
    world.pump();
    world.put("s", "a", 1, 4000);
    // the first task has not read the last row, so the second does not take its own topic for idle
    world.clock.advance(IDLE_MS);
    world.turn(1, Turn::Step);
    world.turn(1, Turn::Commit);
    assert!(world.results().is_empty());
    world.pump();
    world.clock.advance(IDLE_MS);
    world.pump();
    let results = world.results();
    assert_eq!(results.len(), 1);
    assert!(results[0].1.contains("\"N\":4"), "{results:?}");
    assert_eq!(world.late(), 0);
}

#[test]
fn it_is_off_unless_asked_for_and_in_the_other_dialect() {
    for (idle_ms, dialect) in [(0, "extended"), (IDLE_MS, "ksql")] {
        let mut world = World::new(&final_of(WINDOWS[0]), None, 0);
        world.engine = open(&world.log, &world.clock, None, idle_ms, dialect);
        world.put("s", "a", 1, 1000);
        world.idle(1_000_000_000);
        assert!(world.results().is_empty(), "{idle_ms} {dialect}");
    }
}
