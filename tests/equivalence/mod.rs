//! Streaming equals batch: random schemas, rows and queries of each operator kind; what a persistent query leaves in its sink is what
//! DataFusion's own SQL answers over the same rows.
//!
//! DataFusion's SQL is the oracle here and in no product path. The subtle thing: both sides are compared as text by the oracle's types,
//! doubles to six places; empty and missing lists count as equal. `RIVERRUN_EQUAL_SEED=n` runs one seed and shows it,
//! `RIVERRUN_EQUAL_SEEDS=n` runs more of them.

mod draw;
mod oracle;
mod query;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, BinaryArray};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use riverrun::clock::ManualClock;
use riverrun::engine::{Engine, EngineConfig, TestMode};
use riverrun::topic::partitioner::partition_for;
use riverrun::topic::{Append, Commit, ReadLimit, TopicPartition};

use draw::{Cell, Draw, Row, Source, Type};
use oracle::Oracle;
use query::{Case, KINDS};

/// How long the input must be idle before windows close, in ms.
const IDLE_MS: i64 = 1000;

fn open(random: &mut StdRng, clock: &Arc<ManualClock>) -> Result<Engine, String> {
    let cache = if random.random_bool(0.5) { "10000000" } else { "0" };
    let mut properties = BTreeMap::from([("cache.max.bytes.buffering".to_owned(), cache.to_owned())]);
    properties.insert("auto.offset.reset".to_owned(), "earliest".to_owned());
    properties.insert("window.idle.close.ms".to_owned(), IDLE_MS.to_string());
    let largest = [1, 4, 100][random.random_range(0..3)];
    let sizes: Arc<[usize]> = (0..7).map(|_| random.random_range(1..=largest)).collect();
    let config = EngineConfig {
        properties,
        manual: true,
        clock: Some(clock.clone()),
        test: Some(TestMode {
            by_arrival: false,
            read_sizes: Some(sizes),
            page_rows: random.random_bool(0.5).then_some(2),
            ..TestMode::default()
        }),
        ..EngineConfig::default()
    };
    Engine::open(config).map_err(|e| e.to_string())
}

fn key_bytes(ty: Type, key: &Cell) -> Vec<u8> {
    match (ty, key) {
        (Type::Int, Cell::Int(n)) => i32::try_from(*n).expect("keys are small").to_be_bytes().to_vec(),
        (_, Cell::Int(n)) => n.to_be_bytes().to_vec(),
        (_, Cell::Text(text)) => text.clone().into_bytes(),
        (_, other) => panic!("{other:?} is no key"),
    }
}

fn json(source: &Source, cells: &[Cell]) -> String {
    let field = |((name, _), cell): (&(String, Type), &Cell)| {
        let value = match cell {
            Cell::Null => "null".to_owned(),
            Cell::Int(n) => n.to_string(),
            Cell::Double(d) => format!("{d:?}"),
            Cell::Text(text) => format!("\"{text}\""),
            Cell::Bool(b) => b.to_string(),
        };
        format!("\"{}\":{value}", name.to_uppercase())
    };
    format!("{{{}}}", source.columns.iter().zip(cells).map(field).collect::<Vec<_>>().join(","))
}

fn feed(engine: &Engine, source: &Source, partitions: i32) {
    for Row { key, cells, at_ms } in &source.rows {
        let key = key_bytes(source.key, key);
        let value = cells.as_ref().map(|cells| json(source, cells));
        let append = Append {
            to: TopicPartition::new(source.name, partition_for(&key, partitions)),
            timestamps: vec![*at_ms].into(),
            keys: BinaryArray::from_opt_vec(vec![Some(&key)]),
            values: BinaryArray::from_opt_vec(vec![value.as_ref().map(String::as_bytes)]),
            headers: None,
        };
        engine.log().commit(Commit { outputs: vec![append], ..Commit::default() }).expect("the topic is there");
    }
}

fn pump(engine: &Engine) -> Result<(), String> {
    let ids: Vec<_> = engine.runtime().statuses().into_iter().map(|s| s.id).collect();
    // the first one may feed the second one
    for id in ids.iter().chain(&ids) {
        engine.runtime().pump(id, &|_| None).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// The values that the sink holds at the end.
fn sink_values(engine: &Engine, case: &Case) -> Vec<serde_json::Value> {
    let (mut all, mut last) = (Vec::new(), BTreeMap::new());
    let partitions = engine.log().describe(&"o".into()).expect("it is told").expect("it is there").partitions;
    for partition in 0..partitions {
        let at = TopicPartition::new("o", partition);
        let limit = ReadLimit { max_records: usize::MAX, max_bytes: usize::MAX };
        let batch = engine.log().read(&at, 0, limit).expect("it is read").batch;
        for row in 0..batch.len() {
            let value = batch.values.is_valid(row).then(|| batch.values.value(row).to_vec());
            if case.is_table {
                last.insert((partition, batch.keys.value(row).to_vec()), value);
            } else {
                all.push(value);
            }
        }
    }
    let parse = |bytes: Vec<u8>| serde_json::from_slice(&bytes).expect("the sink is JSON");
    all.into_iter().chain(last.into_values()).flatten().map(parse).collect()
}

/// Runs a seed; gives its kind and the number of rows.
fn check(seed: u64, oracle: &Oracle) -> Result<(&'static str, usize), String> {
    let mut random = StdRng::seed_from_u64(seed);
    let case = Case::draw(&mut Draw { random: &mut random });
    compare(&case, &mut random, oracle).map(|rows| (case.kind, rows)).map_err(|reason| {
        let statements = case.statements.join("\n");
        let inputs: Vec<String> = case.sources.iter().map(show).collect();
        format!("seed {seed}, {}: {reason}\n{statements}\noracle: {}\n{}", case.kind, case.oracle, inputs.concat())
    })
}

fn show(source: &Source) -> String {
    let row = |r: &Row| {
        let value = r.cells.as_ref().map(|cells| json(source, cells));
        format!("  {} {:?} @{} {}\n", source.name, r.key, r.at_ms, value.unwrap_or_default())
    };
    source.rows.iter().map(row).collect()
}

fn compare(case: &Case, random: &mut StdRng, oracle: &Oracle) -> Result<usize, String> {
    let clock = Arc::new(ManualClock::new(5_000_000));
    let engine = open(random, &clock)?;
    for text in &case.statements {
        engine.session().execute(text).map_err(|e| format!("{text}: {}", e.diagnostic))?;
    }
    for tables in [true, false] {
        case.sources.iter().filter(|s| s.is_table == tables).for_each(|s| feed(&engine, s, case.partitions));
        if case.tables_first {
            pump(&engine)?;
        }
    }
    pump(&engine)?;
    clock.advance(IDLE_MS);
    pump(&engine)?;
    let expected = oracle.answer(case)?;
    let mut found: Vec<String> =
        sink_values(&engine, case).iter().map(|value| oracle::render_json(value, &expected.columns)).collect();
    found.sort();
    if found == expected.rows {
        return Ok(found.len());
    }
    let only = |these: &[String], those: &[String]| {
        these.iter().filter(|row| !those.contains(row)).take(5).cloned().collect::<Vec<_>>().join("\n    ")
    };
    Err(format!(
        "{} rows instead of {} of {:?}\n  only here:\n    {}\n  only there:\n    {}",
        found.len(),
        expected.rows.len(),
        expected.columns.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        only(&found, &expected.rows),
        only(&expected.rows, &found)
    ))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

#[test]
fn streaming_equals_batch() {
    let oracle = Oracle::new();
    if let Some(seed) = number("RIVERRUN_EQUAL_SEED") {
        check(seed, &oracle).unwrap_or_else(|failure| panic!("{failure}"));
        return;
    }
    let (from, count) = (number("RIVERRUN_EQUAL_FROM").unwrap_or(0), number("RIVERRUN_EQUAL_SEEDS").unwrap_or(600));
    let (mut failures, mut kinds, mut rows) = (Vec::new(), BTreeSet::new(), 0);
    for seed in from..from + count {
        match check(seed, &oracle) {
            Ok((kind, compared)) => {
                kinds.insert(kind);
                rows += compared;
            }
            Err(failure) => failures.push(failure),
        }
        if failures.len() == 20 {
            break;
        }
    }
    let heads: Vec<&str> = failures.iter().filter_map(|f| f.lines().next()).collect();
    assert!(failures.is_empty(), "{}\n\n{}", heads.join("\n"), failures.join("\n\n"));
    println!("{count} seeds, {} kinds of queries, {rows} rows compared", kinds.len());
    if count >= 300 {
        assert_eq!(kinds.len(), KINDS.len(), "every kind came");
        assert!(rows > count as usize, "the queries give rows");
    }
}
