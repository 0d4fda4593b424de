//! An engine without threads over a log that fails on demand: fed, driven by a random schedule, torn down, read.
//!
//! Decides nothing about what is right. The subtle thing: a restart drops the engine and opens a new one over the same log, so the command
//! log is replayed and all tasks are restored, as after a crash of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, BinaryArray};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use riverrun::clock::ManualClock;
use riverrun::engine::{Engine, EngineConfig, TestMode};
use riverrun::runtime::Turn;
use riverrun::topic::memory::MemoryLog;
use riverrun::topic::{Append, Commit, Log, ReadLimit, TopicPartition};
use riverrun::types::QueryId;

use super::case::{Case, Input};
use super::faulty_log::{FAULTS, FaultyLog};

/// Key, value and timestamp.
pub type Record = (Option<String>, Option<String>, i64);

/// Topic, partition and offset.
pub type Place = (String, i32, i64);

/// A row of the processing log.
type LogRow = BTreeMap<String, serde_json::Value>;

/// Less than what may pass between two things of a schedule.
const IDLE_MS: i64 = 10_000;
const START_MS: i64 = 10_000_000;
const PROCESSING_LOG: &str = "default_ksql_processing_log";

pub struct World {
    clock: Arc<ManualClock>,
    memory: Arc<MemoryLog>,
    log: Arc<FaultyLog>,
    engine: Engine,
    habits: Habits,
}

/// What of a case an engine must know.
#[derive(Clone, Copy)]
struct Habits {
    by_arrival: bool,
    coalesce: bool,
    idle_close: bool,
}

/// Limits and batch sizes of one life of the engine.
struct Life {
    read_sizes: Option<Arc<[usize]>>,
    page_rows: Option<usize>,
    properties: Vec<(&'static str, &'static str)>,
}

impl Life {
    /// One record at a time, no limit in reach.
    fn calm() -> Self {
        Self { read_sizes: Some(Arc::from([1])), page_rows: None, properties: vec![] }
    }

    fn draw(random: &mut StdRng) -> Self {
        let largest = *[1, 3, 20].choose(random).expect("not empty");
        let read_sizes = random.random_bool(0.9).then(|| (0..7).map(|_| random.random_range(1..=largest)).collect());
        let mut properties = Vec::new();
        if random.random_bool(0.3) {
            properties.push(("commit.max.bytes", "200"));
        }
        if random.random_bool(0.3) {
            properties.push(("state.changelog.max.bytes", "100"));
        }
        if random.random_bool(0.3) {
            properties.push(("state.memory.bytes", "1000"));
        }
        let page_rows = random.random_bool(0.5).then(|| random.random_range(1..6));
        Self { read_sizes, page_rows, properties }
    }
}

impl World {
    /// The engine of a case, its statements executed; nothing has run. `random` draws its first life; `None`: a calm one.
    pub fn open(case: &Case, random: Option<&mut StdRng>) -> Result<Self, String> {
        let clock = Arc::new(ManualClock::new(START_MS));
        let memory = MemoryLog::new(clock.clone());
        let log = FaultyLog::new(memory.clone());
        let life = random.map_or_else(Life::calm, Life::draw);
        let habits = Habits { by_arrival: case.by_arrival, coalesce: case.coalesce, idle_close: case.idle_close };
        let engine = open(&log, &clock, &life, habits)?;
        let world = Self { clock, memory, log, engine, habits };
        case.statements.iter().try_for_each(|text| world.execute(text))?;
        Ok(world)
    }

    pub fn execute(&self, text: &str) -> Result<(), String> {
        self.engine.session().execute(text).map(|_| ()).map_err(|e| format!("{text}: {}", e.diagnostic))
    }

    /// Appends records, whatever fault is armed.
    pub fn feed(&self, inputs: &[Input]) {
        for input in inputs {
            let append = Append {
                to: TopicPartition::new(input.topic, input.partition),
                timestamps: vec![input.at_ms].into(),
                keys: BinaryArray::from_opt_vec(vec![input.key.as_ref().map(String::as_bytes)]),
                values: BinaryArray::from_opt_vec(vec![input.value.as_ref().map(String::as_bytes)]),
                headers: None,
            };
            self.memory.commit(Commit { outputs: vec![append], ..Commit::default() }).expect("the case is right");
        }
    }

    fn queries(&self) -> Vec<(QueryId, usize)> {
        self.engine.runtime().statuses().into_iter().map(|s| (s.id, s.tasks)).collect()
    }

    /// One random thing happens. A failure of what it does is part of the game.
    pub fn act(&mut self, random: &mut StdRng) -> Result<(), String> {
        let queries = self.queries();
        let Some((query, tasks)) = queries.choose(random) else { return Err("the queries are gone".into()) };
        let task = random.random_range(0..*tasks);
        let runtime = self.engine.runtime();
        match random.random_range(0..100) {
            0..40 => _ = runtime.pump_task(query, task, Turn::Step),
            40..50 => _ = runtime.pump_task(query, task, Turn::Commit),
            50..65 => _ = runtime.pump_task(query, task, Turn::Slice),
            65..70 => runtime.abort(query).map_err(|e| e.to_string())?,
            70..75 => _ = self.execute(&format!("PAUSE {query};")),
            75..82 => _ = self.execute(&format!("RESUME {query};")),
            82..88 => _ = self.clock.advance(random.random_range(1..30_000)),
            88..96 => {
                let fault = *FAULTS.choose(random).expect("there are faults");
                self.log.arm(fault, random.random_range(0..4), random.random_range(0..3));
            }
            _ => self.restart(random)?,
        }
        Ok(())
    }

    /// The process dies and comes again.
    pub fn restart(&mut self, random: &mut StdRng) -> Result<(), String> {
        self.log.heal();
        self.engine = open(&self.log, &self.clock, &Life::draw(random), self.habits)?;
        Ok(())
    }

    /// Runs all queries until nothing moves; every fault is over.
    pub fn finish(&self) -> Result<(), String> {
        self.log.heal();
        self.clock.advance(3_600_000);
        self.execute("RESUME ALL;")?;
        loop {
            let before = self.total_end();
            self.pump_all()?;
            if self.habits.idle_close {
                // only a task that is there can find that time has passed
                self.clock.advance(IDLE_MS);
                self.pump_all()?;
            }
            if self.total_end() == before {
                return Ok(());
            }
        }
    }

    fn pump_all(&self) -> Result<(), String> {
        for (query, _) in self.queries() {
            self.engine.runtime().pump(&query, &|_| None).map_err(|e| format!("{query}: {e}"))?;
        }
        Ok(())
    }

    fn total_end(&self) -> i64 {
        let topics = self.log.topics().expect("topics are listed");
        let places = topics.iter().flat_map(|t| (0..t.partitions).map(|p| TopicPartition::new(t.name.clone(), p)));
        places.map(|at| self.log.bounds(&at).expect("it is there").end).sum()
    }

    /// Faults that hit.
    pub fn hits(&self) -> u32 {
        self.log.hits()
    }

    /// All records of a topic, by partition.
    pub fn records(&self, topic: &str) -> Vec<Vec<Record>> {
        let text = |of: &BinaryArray, row: usize| of.is_valid(row).then(|| show(of.value(row)));
        let partition = |partition| {
            let at = TopicPartition::new(topic, partition);
            let limit = ReadLimit { max_records: usize::MAX, max_bytes: usize::MAX };
            let batch = self.memory.read(&at, 0, limit).expect("it is read").batch;
            let rows = 0..batch.len();
            rows.map(|r| (text(&batch.keys, r), text(&batch.values, r), batch.timestamps[r])).collect()
        };
        let topics = self.memory.topics().expect("topics are listed");
        let spec = topics.iter().find(|t| t.name.as_str() == topic).unwrap_or_else(|| panic!("no topic {topic}"));
        (0..spec.partitions).map(partition).collect()
    }

    /// Records of the case's inputs that were lost: query, topic, partition, offset, reason; sorted.
    pub fn losses(&self, case: &Case) -> Vec<String> {
        let is_input = |topic: &str| case.inputs.iter().any(|i| i.topic == topic);
        let mut told = Vec::new();
        for row in self.processing_log() {
            if row.get("TOPIC").and_then(|t| t.as_str()).is_some_and(is_input) {
                let names = ["QUERY_ID", "TOPIC", "PARTITION", "OFFSET", "REASON"];
                told.push(names.map(|name| format!("{name} {}", row[name])).join(", "));
            }
        }
        told.sort();
        told
    }

    /// Where records were lost.
    pub fn lost_places(&self) -> BTreeSet<Place> {
        let number = |value: &serde_json::Value| value.as_i64();
        let place = |row: LogRow| {
            let partition = i32::try_from(number(row.get("PARTITION")?)?).ok()?;
            Some((row.get("TOPIC")?.as_str()?.to_owned(), partition, number(row.get("OFFSET")?)?))
        };
        self.processing_log().filter_map(place).collect()
    }

    fn processing_log(&self) -> impl Iterator<Item = LogRow> {
        let rows = self.records(PROCESSING_LOG).into_iter().flatten();
        rows.map(|(_, value, _)| {
            serde_json::from_str(&value.expect("it has a value")).expect("the processing log is JSON")
        })
    }
}

/// Text where it is text, else the bytes in hexadecimal (windowed keys).
fn show(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text.to_owned(),
        _ => bytes.iter().map(|b| format!("{b:02x}")).collect(),
    }
}

fn open(log: &Arc<FaultyLog>, clock: &Arc<ManualClock>, life: &Life, habits: Habits) -> Result<Engine, String> {
    let Habits { by_arrival, coalesce, idle_close } = habits;
    let cache = ("cache.max.bytes.buffering", if coalesce { "10000000" } else { "0" });
    let idle_ms = if idle_close { IDLE_MS.to_string() } else { "0".to_owned() };
    let base = [
        cache,
        ("window.idle.close.ms", &idle_ms),
        ("auto.offset.reset", "earliest"),
        ("ksql.query.retry.backoff.initial.ms", "1000"),
    ];
    let properties = base.iter().chain(&life.properties).map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    let config = EngineConfig {
        log: Some(log.clone()),
        properties: properties.collect(),
        manual: true,
        clock: Some(clock.clone()),
        test: Some(TestMode {
            by_arrival,
            read_sizes: life.read_sizes.clone(),
            page_rows: life.page_rows,
            ..TestMode::default()
        }),
        ..EngineConfig::default()
    };
    Engine::open(config).map_err(|e| e.to_string())
}
