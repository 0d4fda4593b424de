//! Seeded simulation: the real tasks over the in-memory log under a manual clock, with random queries, batches, schedules, pauses, aborts,
//! restarts and faults of the log.
//!
//! A seed gives a case and a schedule. After it the outputs equal those of an undisturbed run that takes one record at a time, and each lost
//! record is told once. The subtle thing: nothing here depends on threads or time, so a seed that fails fails always:
//! `RIVERRUN_SIM_SEED=n cargo test simulation` runs it alone and shows the case. `RIVERRUN_SIM_SEEDS=n` runs more of them,
//! from `RIVERRUN_SIM_FROM` on.

mod case;
pub mod faulty_log;
mod foreign_key;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use case::{Case, Equal, KINDS};
use world::{Record, World};

/// What a seed did.
#[derive(Default)]
struct Done {
    kind: &'static str,
    records: usize,
    hits: u32,
}

fn simulate(seed: u64) -> Result<Done, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let case = Case::draw(&mut random);
    run(&case, &mut random).map_err(|reason| format!("seed {seed}, {}: {reason}\n{case:#?}", case.kind))
}

fn run(case: &Case, random: &mut StdRng) -> Result<Done, String> {
    let calm = World::open(case, None)?;
    calm.feed(&case.inputs);
    calm.finish()?;

    let mut world = World::open(case, Some(random))?;
    let mut waiting = &case.inputs[..];
    if !case.by_arrival {
        world.feed(std::mem::take(&mut waiting));
    }
    for _ in 0..random.random_range(5..60) {
        if random.random_bool(0.3) {
            let (now, later) = waiting.split_at(random.random_range(0..=waiting.len().min(8)));
            world.feed(now);
            waiting = later;
        }
        world.act(random)?;
    }
    world.feed(waiting);
    world.finish()?;
    let mut records = compare(case, &calm, &world).map_err(|e| format!("after the schedule, {e}"))?;
    // what was committed holds in the next life too
    world.restart(random)?;
    world.finish()?;
    records += compare(case, &calm, &world).map_err(|e| format!("after a last restart, {e}"))?;
    Ok(Done { kind: case.kind, records, hits: world.hits() })
}

fn compare(case: &Case, calm: &World, world: &World) -> Result<usize, String> {
    let mut count = 0;
    let legal = foreign_key::legal_times(case, &calm.lost_places());
    for &(topic, equal) in &case.outputs {
        let (expected, found) = (calm.records(topic), world.records(topic));
        for (partition, (expected, found)) in expected.iter().zip(&found).enumerate() {
            let place = format!("{topic}-{partition}");
            match equal {
                Equal::Records => same(&place, expected, found)?,
                Equal::Bag => same(&place, &sorted(expected), &sorted(found))?,
                Equal::LastRows => same(&place, &last_rows(expected), &last_rows(found))?,
                Equal::ForeignKey => {
                    let (expected, found) = (last_rows(expected), last_rows(found));
                    for rows in [&expected, &found] {
                        foreign_key::check_times(&place, rows, &legal)?;
                    }
                    same(&place, &timeless(expected), &timeless(found))?;
                }
            }
            count += found.len();
        }
    }
    let (expected, found) = (calm.losses(case), world.losses(case));
    if expected != found {
        return Err(format!("lost records are told as {found:#?} instead of {expected:#?}"));
    }
    Ok(count)
}

fn same(place: &str, expected: &[Record], found: &[Record]) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let first = (0..).find(|&i| expected.get(i) != found.get(i)).unwrap_or_default();
    Err(format!(
        "{place} has {} records instead of {}; at {first}: {:?} instead of {:?}\nfound {found:#?}\nexpected {expected:#?}",
        found.len(),
        expected.len(),
        found.get(first),
        expected.get(first)
    ))
}

fn sorted(records: &[Record]) -> Vec<Record> {
    let mut sorted = records.to_vec();
    sorted.sort();
    sorted
}

fn last_rows(records: &[Record]) -> Vec<Record> {
    let last: BTreeMap<_, _> = records.iter().map(|r| (r.0.clone(), r.clone())).collect();
    last.into_values().filter(|r| r.1.is_some()).collect()
}

fn timeless(rows: Vec<Record>) -> Vec<Record> {
    rows.into_iter().map(|(key, value, _)| (key, value, 0)).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

#[test]
fn simulation_of_seeds() {
    if let Some(seed) = number("RIVERRUN_SIM_SEED") {
        simulate(seed).unwrap_or_else(|failure| panic!("{failure}"));
        return;
    }
    let (from, count) = (number("RIVERRUN_SIM_FROM").unwrap_or(0), number("RIVERRUN_SIM_SEEDS").unwrap_or(1500));
    let (mut failures, mut kinds, mut records, mut hits) = (Vec::new(), BTreeSet::new(), 0, 0);
    for seed in from..from + count {
        match simulate(seed) {
            Ok(done) => {
                kinds.insert(done.kind);
                records += done.records;
                hits += done.hits;
            }
            Err(failure) => failures.push(failure),
        }
        if failures.len() == 20 {
            break;
        }
    }
    let heads: Vec<&str> = failures.iter().filter_map(|f| f.lines().next()).collect();
    assert!(failures.is_empty(), "{}\n\n{}", heads.join("\n"), failures[0]);
    println!("{count} seeds, {} kinds of queries, {records} records compared, {hits} faults hit", kinds.len());
    if count >= 400 {
        assert_eq!(kinds.len(), KINDS.len(), "every kind came");
        assert!(hits > count as u32 / 10 && records > 10 * count as usize, "the schedules reach something");
    }
}
