//! One record with many outputs: it passes page by page, in bounded memory, and a crash between pages loses and doubles nothing.
//!
//! The amplifier is EXPLODE, before a join, so that rows wait for a node of two inputs. The subtle thing: a commit holds at most a page of
//! outputs, and the cursor at most what waits, both of which the test sees at the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::fixture::{Record, World, config, cut, exploded_and_joined};
use crate::runtime::{QuerySettings, RuntimeConfig};
use crate::topic::Owner;
use crate::types::QueryId;

const TOPICS: &[(&str, i32)] = &[("in", 1), ("table", 1), ("out", 1)];

fn array(values: std::ops::Range<usize>) -> String {
    let values: Vec<String> = values.map(|v| v.to_string()).collect();
    format!("{{\"A\":[{}]}}", values.join(","))
}

fn feed(world: &World, elements: usize) {
    world.put("table", 0, "a", "{\"V\":1}", 5);
    world.put("in", 0, "a", &array(0..3), 10);
    world.put("in", 0, "b", &array(0..elements), 20);
    world.put("in", 0, "a", "{\"A\":[]}", 25);
    world.put("table", 0, "a", "{\"V\":2}", 30);
    world.put("table", 0, "b", "{\"V\":3}", 40);
    world.put("in", 0, "a", &array(0..2), 50);
    world.put("in", 0, "b", &array(0..elements), 60);
    world.put("table", 0, "b", "", 70);
    world.put("in", 0, "b", &array(7..9), 80);
}

fn outcome(cuts: &[usize], page_rows: usize, by_arrival: bool, crash: bool) -> (Vec<Record>, usize) {
    let world = World::manual(TOPICS);
    feed(&world, 20);
    world.start("q", exploded_and_joined(), QuerySettings { page_rows, by_arrival, ..cut(cuts) });
    let (id, mut steps) = (QueryId::new("q"), 0);
    while crash && world.runtime.pump_step(&id, &|_| None).unwrap() {
        world.runtime.abort(&id).unwrap();
        steps += 1;
    }
    world.pump("q");
    (world.records("out", 0), steps)
}

#[test]
fn pages_and_crashes_between_them_change_nothing() {
    for by_arrival in [true, false] {
        let (want, _) = outcome(&[1], 1000, by_arrival, false);
        assert_eq!(want.len(), 47);
        assert!(want[3..23].iter().all(|(_, v, _)| v.as_deref().is_some_and(|v| v.ends_with("\"R_V\":null}"))));
        for cuts in [&[1][..], &[2, 3], &[1000]] {
            for page_rows in [1, 2, 7, 19, 1000] {
                for crash in [false, true] {
                    let (got, steps) = outcome(cuts, page_rows, by_arrival, crash);
                    assert_eq!(
                        got, want,
                        "cut {cuts:?}, pages of {page_rows}, crash: {crash}, by arrival: {by_arrival}"
                    );
                    assert!(!crash || page_rows > 1 || steps >= want.len(), "{steps} steps: a crash after each page");
                }
            }
        }
    }
}

#[test]
fn a_commit_holds_a_page_and_a_cursor_what_is_left() {
    let limit = 16 << 10;
    let world = World::manual_with(TOPICS, RuntimeConfig { commit_max_bytes: limit, ..config() });
    feed(&world, 20_000);
    let (outputs, blocks, commits) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (most, largest, count) = (outputs.clone(), blocks.clone(), commits.clone());
    world.faults().set_fault(Some(Arc::new(move |commit| {
        let bytes = commit.outputs.iter().map(|o| o.values.value_data().len() + o.keys.value_data().len()).sum();
        most.fetch_max(bytes, Ordering::SeqCst);
        largest.fetch_max(commit.blocks.iter().map(|(_, block)| block.len()).sum(), Ordering::SeqCst);
        count.fetch_add(1, Ordering::SeqCst);
        None
    })));
    world.start("q", exploded_and_joined(), QuerySettings { page_rows: 50, ..cut(&[1000]) });
    let id = QueryId::new("q");
    for _ in 0..200 {
        assert!(world.runtime.pump_step(&id, &|_| None).unwrap());
    }
    world.runtime.abort(&id).unwrap();
    world.pump("q");
    assert_eq!(world.records("out", 0).len(), 40_007);
    let (outputs, blocks, commits) =
        (outputs.load(Ordering::SeqCst), blocks.load(Ordering::SeqCst), commits.load(Ordering::SeqCst));
    assert!(outputs < 2 * limit, "{outputs} bytes of outputs in a commit");
    // the arrays that are left, and at most a few pages of rows that wait
    assert!(blocks < 400_000, "{blocks} bytes of state in a commit");
    assert!(commits > 200, "{commits} commits");
    assert!(world.log.owners().unwrap().contains(&Owner::new("group-q")));
}
