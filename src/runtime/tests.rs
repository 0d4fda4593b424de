//! The runtime over an in-memory log: results do not depend on cuts, crashes or threads.

mod fixture;
mod life;
mod limits;
mod pages;

use fixture::{World, copy, count, cut, filtered, joined, joined_after_repartition, repartitioned, settings, up_to};

use crate::operator::LossKind;
use crate::plan::topology::Topology;
use crate::runtime::QuerySettings;
use crate::types::QueryId;

fn feed(world: &World) {
    for i in 0..40_i64 {
        let key = ["a", "b", "c", "a"][i as usize % 4];
        if i % 3 == 0 && i > 0 {
            world.put("table", 0, key, &format!("{{\"V\":{}}}", i * 100), 1000 - i);
        }
        world.put("in", 0, key, &format!("{{\"V\":{}}}", i % 7), 500 + i);
    }
    world.put("table", 0, "a", "", 2000);
    world.put("in", 0, "a", "{\"V\":1}", 2001);
    world.put("in", 0, "b", "{\"V\":", 2002);
    world.put("in", 0, "b", "{\"V\":5}", 2003);
    world.put("in", 0, "", "{\"V\":6}", 2004);
    world.put("in", 0, "c", "", 2005);
}

const TOPICS: &[(&str, i32)] = &[("in", 1), ("table", 1), ("out", 1)];

fn outcome(topology: Topology, cuts: &[usize], crash: Option<usize>) -> (Vec<fixture::Record>, usize) {
    let world = World::manual(TOPICS);
    feed(&world);
    let page_rows = crash.unwrap_or(crate::operator::PAGE_ROWS);
    world.start("q", topology, QuerySettings { page_rows, ..cut(cuts) });
    let id = QueryId::new("q");
    if crash.is_some() {
        while world.runtime.pump_step(&id, &|_| None).unwrap() {
            world.runtime.abort(&id).unwrap();
        }
    }
    world.pump("q");
    (world.records("out", 0), world.records("plog", 0).len())
}

/// Output and losses are the same in batches of one, in odd batches, in one batch, and with a crash after each page, of few rows or many.
fn same_however_cut(topology: impl Fn() -> Topology) -> Vec<fixture::Record> {
    let singly = outcome(topology(), &[1], None);
    assert!(!singly.0.is_empty());
    for cuts in [&[3, 1, 7][..], &[1000]] {
        assert_eq!(outcome(topology(), cuts, None), singly, "cut {cuts:?}");
        for page_rows in [1, 3, 1000] {
            let crashed = outcome(topology(), cuts, Some(page_rows));
            assert_eq!(crashed, singly, "cut {cuts:?} with crashes after pages of {page_rows}");
        }
    }
    singly.0
}

#[test]
fn a_copy_keeps_key_value_and_time() {
    let records = same_however_cut(|| copy(1));
    assert_eq!(records.len(), 44);
    assert_eq!(records[0], (Some("a".into()), Some("{\"V\":0}".into()), 500));
    assert_eq!(records[43], (Some("c".into()), None, 2005));
}

#[test]
fn filter_and_project() {
    let records = same_however_cut(|| filtered(1));
    assert_eq!(records[0], (Some("c".into()), Some("{\"V\":12}".into()), 502));
    assert!(records.iter().all(|(_, v, _)| v.is_some()), "a NULL value does not pass WHERE");
}

#[test]
fn a_count_counts_each_record_once() {
    let records = same_however_cut(|| count(1));
    let last = |key: &str| records.iter().rev().find(|(k, ..)| k.as_deref() == Some(key)).unwrap().1.clone().unwrap();
    assert_eq!((last("a"), last("b"), last("c")), ("{\"V\":21}".into(), "{\"V\":11}".into(), "{\"V\":10}".into()));
}

#[test]
fn a_join_merges_its_inputs_in_order_of_arrival() {
    let records = same_however_cut(|| joined(1));
    // the record put right after the table's row sees it, the one before does not
    assert_eq!(records[3].1.as_deref(), Some("{\"L_K\":\"a\",\"L_V\":3,\"R_K\":\"a\",\"R_V\":300}"));
    assert_eq!(records[0].1.as_deref(), Some("{\"L_K\":\"a\",\"L_V\":0,\"R_K\":null,\"R_V\":null}"));
}

#[test]
fn order_of_arrival_survives_a_repartition() {
    let direct = same_however_cut(|| joined(1));
    assert_eq!(same_however_cut(joined_after_repartition), direct);
}

#[test]
fn rows_go_where_their_key_belongs() {
    let world = World::manual(&[("in", 3), ("out", 4)]);
    for i in 0..60 {
        world.put("in", i % 3, &format!("k{}", i % 10), &format!("{{\"V\":{i}}}"), i64::from(i));
    }
    world.put("in", 0, "", "{\"V\":0}", 0);
    world.start("q", repartitioned(3, 4), settings());
    world.pump("q");
    let mut seen = 0;
    for partition in 0..4 {
        for (key, ..) in world.records("out", partition) {
            let key = key.expect("rows without key are dropped");
            assert_eq!(crate::topic::partitioner::partition_for(key.as_bytes(), 4), partition);
            seen += 1;
        }
    }
    assert_eq!(seen, 60);
    assert_eq!(world.runtime.losses(&QueryId::new("q"))[&LossKind::NullKey], 1);
}

#[test]
fn without_arrivals_the_lowest_row_time_goes_first() {
    let world = World::manual(TOPICS);
    world.put("in", 0, "a", "{\"V\":1}", 10);
    world.put("in", 0, "a", "{\"V\":2}", 30);
    world.put("table", 0, "a", "{\"V\":7}", 20);
    world.start("q", joined(1), QuerySettings { by_arrival: false, ..settings() });
    world.pump("q");
    let values = world.values("out", 0);
    assert!(values[0].ends_with("\"R_V\":null}") && values[1].ends_with("\"R_V\":7}"), "{values:?}");
}

#[test]
fn limits_hold_a_query_back() {
    let world = World::manual(TOPICS);
    feed(&world);
    world.start("q", copy(1), settings());
    let id = QueryId::new("q");
    world.runtime.pump(&id, &up_to(5)).unwrap();
    assert_eq!(world.records("out", 0).len(), 5);
    world.runtime.pump(&id, &up_to(6)).unwrap();
    assert_eq!(world.records("out", 0).len(), 6);
    world.pump("q");
    assert_eq!(world.records("out", 0).len(), 44);
}

#[test]
fn bad_records_are_told_once_with_their_place() {
    let world = World::manual(TOPICS);
    feed(&world);
    world.start("q", copy(1), settings());
    world.pump("q");
    let told = world.values("plog", 0);
    assert_eq!(told.len(), 1);
    let row: serde_json::Value = serde_json::from_str(&told[0]).unwrap();
    assert_eq!(
        (row["QUERY_ID"].as_str(), row["TOPIC"].as_str(), row["OFFSET"].as_i64()),
        (Some("q"), Some("in"), Some(41))
    );
    assert_eq!(world.runtime.losses(&QueryId::new("q"))[&LossKind::Undecodable], 1);
}
