//! Memory, changelogs, repartition topics and commits stay within their limits; the disk keeps what was committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::fixture::{World, config, copy, count, cut, repartitioned, settings};
use crate::plan::topology::{InputSpec, Topology};
use crate::runtime::{QuerySettings, RuntimeConfig};
use crate::state::encoding::RESERVED_PREFIX;
use crate::topic::{KeyedSnapshot, Owner, StoreId, TopicPartition};
use crate::types::QueryId;

fn put_keys(world: &World, keys: i32) {
    for i in 0..keys {
        world.put("in", 0, &format!("key-{i:06}"), "{\"V\":1}", i64::from(i));
    }
}

fn store(query: &str) -> StoreId {
    StoreId {
        owner: Owner::new(format!("group-{query}")),
        name: "Aggregate-Aggregate-Materialize".into(),
        partition: 0,
    }
}

#[test]
fn memory_stays_near_its_limit_and_counts_stay_right() {
    let limit = 256 << 10;
    let small = World::manual_with(&[("in", 1), ("out", 1)], RuntimeConfig { memory_bytes: limit, ..config() });
    put_keys(&small, 5000);
    let large = World::manual(&[("in", 1), ("out", 1)]);
    put_keys(&large, 5000);
    for world in [&small, &large] {
        world.start("q", count(1), cut(&[500]));
        world.pump("q");
        put_keys(world, 5000);
        world.pump("q");
    }
    assert!(large.runtime.memory_bytes() > 2 * limit, "the test is too small: {}", large.runtime.memory_bytes());
    assert!(small.runtime.memory_bytes() < 2 * limit, "{} bytes", small.runtime.memory_bytes());
    let records = small.records("out", 0);
    assert_eq!(records, large.records("out", 0));
    assert!(records[5000..].iter().all(|(_, v, _)| v.as_deref() == Some("{\"V\":2}")));
}

#[test]
fn a_query_keeps_to_its_own_limit_and_the_others_do_not_pay() {
    let limit = 256 << 10;
    let world = World::manual(&[("in", 1), ("out", 1)]);
    put_keys(&world, 5000);
    world.start("free", count(1), cut(&[500]));
    world.pump("free");
    let free = world.runtime.memory_bytes();
    world.start("small", count(1), QuerySettings { memory_bytes: limit, ..cut(&[500]) });
    for _ in 0..2 {
        world.pump("free");
        world.pump("small");
        put_keys(&world, 5000);
    }
    let all = world.runtime.memory_bytes();
    assert!(free > 2 * limit, "the test is too small: {free}");
    assert!((free..free + 2 * limit).contains(&all), "{all} bytes, {free} of them free");
}

#[test]
fn a_changelog_is_trimmed_now_and_then_and_a_restart_reads_both_parts() {
    let world = World::manual(&[("in", 1), ("out", 1)]);
    world.start("q", count(1), settings());
    put_keys(&world, 10);
    world.pump("q");
    assert_eq!(world.log.blocks(&store("q"), 0, usize::MAX).unwrap().len(), 1);
    world.clock.advance(config().write_behind_ms + 1);
    world.pump("q");
    assert!(world.log.blocks(&store("q"), 0, usize::MAX).unwrap().is_empty());
    put_keys(&world, 5);
    world.pump("q");
    assert_eq!(world.log.blocks(&store("q"), 0, usize::MAX).unwrap().len(), 1);
    world.runtime.abort(&"q".into()).unwrap();
    put_keys(&world, 10);
    world.pump("q");
    let values = world.values("out", 0);
    assert!(
        values[15..20].iter().all(|v| v == "{\"V\":3}") && values[20..].iter().all(|v| v == "{\"V\":2}"),
        "{values:?}"
    );
}

#[test]
fn a_restart_holds_what_readers_see_only_once() {
    let world = World::manual(&[("in", 1), ("out", 1)]);
    world.start("q", count(1), cut(&[10]));
    put_keys(&world, 100);
    world.pump("q");
    let overlay = || {
        let started = world.runtime.entry(&"q".into()).unwrap();
        started.query.shared.materialization.as_ref().unwrap().published(0, 0).unwrap()
    };
    let (before, held) = (overlay(), overlay().memory());
    assert!(held > 100);
    world.runtime.abort(&"q".into()).unwrap();
    world.pump("q");
    assert!(Arc::ptr_eq(&before, &overlay()), "the blocks of a task are read anew while readers have them");
    assert_eq!(overlay().memory(), held);
    // it goes on to follow the task
    put_keys(&world, 101);
    world.pump("q");
    let view = overlay().view().unwrap();
    let mut rows = 0;
    view.range(&[], Some(&[RESERVED_PREFIX]), &mut |_, _| {
        rows += 1;
        true
    })
    .unwrap();
    assert_eq!(rows, 101);
    world.clock.advance(config().write_behind_ms + 1);
    world.pump("q");
    assert_eq!(overlay().memory(), 0);
}

#[test]
fn a_repartition_topic_holds_only_what_is_not_read() {
    let world = World::manual(&[("in", 1), ("out", 1)]);
    world.start("q", repartitioned(1, 1), cut(&[10]));
    put_keys(&world, 100);
    world.pump("q");
    world.clock.advance(1001);
    world.pump("q");
    let bounds = world.log.bounds(&TopicPartition::new("group-repartition", 0)).unwrap();
    assert!(bounds.end > 0 && bounds.start == bounds.end, "{bounds:?}");
    assert_eq!(world.records("out", 0).len(), 100);
}

#[test]
fn a_commit_is_forced_before_it_grows_too_large() {
    let limit = 4 << 10;
    let world = World::manual_with(&[("in", 1), ("out", 1)], RuntimeConfig { commit_max_bytes: limit, ..config() });
    put_keys(&world, 2000);
    world.start("q", copy(1), cut(&[20]));
    let (largest, commits) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen, counted) = (largest.clone(), commits.clone());
    world.faults().set_fault(Some(Arc::new(move |commit| {
        let bytes = commit.outputs.iter().map(|o| o.values.value_data().len() + o.keys.value_data().len()).sum();
        seen.fetch_max(bytes, Ordering::SeqCst);
        counted.fetch_add(1, Ordering::SeqCst);
        None
    })));
    world.pump("q");
    assert_eq!(world.records("out", 0).len(), 2000);
    assert!(largest.load(Ordering::SeqCst) < 2 * limit && commits.load(Ordering::SeqCst) > 5);
}

#[test]
fn a_query_that_reads_the_processing_log_does_not_write_to_it() {
    let world = World::manual(&[("in", 1), ("out", 1)]);
    let mut reader: Topology = copy(1);
    let InputSpec::Source(source) = &mut reader.subs[0].inputs[0] else { unreachable!() };
    source.topic = "plog".into();
    // no log record is a KAFKA BIGINT, so each one is a loss
    source.value_format = crate::format::FormatSpec::new(crate::format::Format::Kafka);
    world.start("reader", reader, settings());
    world.start("q", copy(1), settings());
    world.put("in", 0, "k", "{", 0);
    world.pump("q");
    world.pump("reader");
    assert_eq!(world.records("plog", 0).len(), 1);
    let lost: u64 = world.runtime.losses(&QueryId::new("reader")).values().sum();
    assert_eq!(lost, 1);
}

#[test]
fn on_disk_a_new_process_goes_on_where_the_last_one_committed() {
    let dir = tempfile::tempdir().unwrap();
    let topics = [("in", 1), ("out", 1)];
    for round in 1..=3 {
        let world = World::on_disk(dir.path(), &topics);
        put_keys(&world, 10);
        world.start("q", count(1), settings());
        world.pump("q");
        if round == 2 {
            world.clock.advance(1001);
            world.pump("q");
        }
        assert_eq!(world.records("out", 0).len(), round * 10);
        let last = world.values("out", 0).pop().unwrap();
        assert_eq!(last, format!("{{\"V\":{round}}}"));
    }
}
