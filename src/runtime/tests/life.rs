//! Starting, stopping, pausing, failing, waiting.

use std::sync::Arc;
use std::time::Duration;

use super::fixture::{World, copy, count, repartitioned, settings, spec, to_client};
use crate::clock::Clock;
use crate::plan::lookup::{Bound, KeyColumns, Lookup};
use crate::runtime::{ClientEnd, ClientNext, ClientQueue, QuerySettings, QuerySpec, QueryState, RuntimeError};
use crate::topic::TopicPartition;
use crate::types::QueryId;

const WAIT: Duration = Duration::from_secs(20);

fn all(_: &QueryId) -> bool {
    true
}

fn fill(world: &World, partitions: i32, records: i32) {
    for i in 0..records {
        world.put("in", i % partitions, &format!("k{}", i % 10), &format!("{{\"V\":{i}}}"), i64::from(i));
    }
}

#[test]
fn threads_move_records_through_two_sub_topologies() {
    let world = World::threaded(&[("in", 4), ("out", 3)], 2);
    fill(&world, 4, 500);
    world.start("q", repartitioned(4, 3), settings());
    assert!(world.runtime.wait_idle(&all, WAIT));
    fill(&world, 4, 500);
    assert!(world.runtime.wait_idle(&all, WAIT));
    let records: usize = (0..3).map(|p| world.records("out", p).len()).sum();
    assert_eq!(records, 1000);
    assert_eq!(world.runtime.status(&"q".into()).unwrap().state, QueryState::Running);
}

#[test]
fn waiting_covers_queries_that_read_what_others_write() {
    let world = World::threaded(&[("in", 1), ("out", 1), ("out2", 1)], 2);
    let mut second = copy(1);
    let crate::plan::topology::InputSpec::Source(source) = &mut second.subs[0].inputs[0] else { unreachable!() };
    source.topic = "out".into();
    let crate::plan::topology::OperatorSpec::Sink(sink) = &mut second.subs[0].nodes[0].op else { unreachable!() };
    sink.topic = "out2".into();
    world.start("second", second, settings());
    world.start("first", copy(1), settings());
    for round in 1..=20 {
        fill(&world, 1, 10);
        assert!(world.runtime.wait_idle(&all, WAIT));
        assert_eq!(world.records("out2", 0).len(), round * 10);
    }
}

#[test]
fn a_paused_query_stands_still_and_goes_on() {
    let world = World::threaded(&[("in", 1), ("out", 1)], 2);
    world.start("q", copy(1), settings());
    fill(&world, 1, 10);
    assert!(world.runtime.wait_idle(&all, WAIT));
    world.runtime.pause(&"q".into()).unwrap();
    fill(&world, 1, 10);
    assert!(world.runtime.wait_idle(&all, WAIT), "paused queries are not waited for");
    assert_eq!(world.runtime.status(&"q".into()).unwrap().state, QueryState::Paused);
    assert_eq!(world.records("out", 0).len(), 10);
    world.runtime.resume(&"q".into()).unwrap();
    assert!(world.runtime.wait_idle(&all, WAIT));
    assert_eq!(world.records("out", 0).len(), 20);
}

#[test]
fn a_failing_task_backs_off_and_goes_on_from_its_last_commit() {
    let world = World::manual(&[("in", 1), ("out", 1)]);
    let backoff = QuerySettings { backoff_initial_ms: 100, backoff_max_ms: 300, ..settings() };
    world.start("q", copy(1), backoff);
    fill(&world, 1, 10);
    let id = QueryId::new("q");
    let cells = world.runtime.queries.read()[&id].query.cells.clone();
    let run = || cells[0].run();
    let state = || world.runtime.status(&id).unwrap().state;
    let mut waits = Vec::new();
    // each failure takes two commits: the task's and that of the processing log's record
    world.faults().fail_next_commits(8);
    for _ in 0..4 {
        let crate::runtime::task::Next::Park(Some(until)) = run() else { panic!("it does not back off") };
        waits.push(until - world.clock.now_ms());
        assert_eq!(state(), QueryState::Error);
        world.clock.set(until - 1);
        run();
        assert_eq!(state(), QueryState::Error, "it does not try before its time");
        world.clock.set(until);
    }
    assert_eq!(waits, [100, 200, 300, 300]);
    run();
    assert_eq!((state(), world.records("out", 0).len()), (QueryState::Running, 10));
    let status = world.runtime.status(&id).unwrap();
    assert_eq!(status.errors.len(), 1, "the same again is kept once");
    assert!(status.errors[0].message.contains("injected fault"));
}

#[test]
fn a_panic_is_the_querys_error() {
    let world = World::manual(&[("in", 1), ("out", 1)]);
    world.start("q", copy(1), settings());
    fill(&world, 1, 1);
    world.faults().set_fault(Some(Arc::new(|commit| {
        assert!(commit.outputs.iter().all(|o| o.to.topic.as_str() != "out"), "no space for {}", "out");
        None
    })));
    let error = world.runtime.pump(&"q".into(), &|_| None).unwrap_err();
    assert!(error.to_string().contains("no space for out"), "{error}");
    assert_eq!(world.runtime.status(&"q".into()).unwrap().state, QueryState::Error);
    world.faults().set_fault(None);
    world.pump("q");
    assert_eq!(world.records("out", 0).len(), 1);
}

#[test]
fn a_restart_neither_skips_nor_repeats() {
    let world = World::manual(&[("in", 1), ("out", 1)]);
    fill(&world, 1, 3);
    let mut topology = copy(1);
    let crate::plan::topology::InputSpec::Source(source) = &mut topology.subs[0].inputs[0] else { unreachable!() };
    source.from_beginning = false;
    world.start("q", topology.clone(), settings());
    fill(&world, 1, 4);
    world.runtime.stop(&"q".into()).unwrap();
    assert_eq!(world.runtime.status(&"q".into()).unwrap().state, QueryState::Stopped);
    world.start("q", topology, settings());
    world.pump("q");
    assert_eq!(world.records("out", 0).len(), 4, "records before its creation are not read, those after it are");
    assert!(matches!(world.runtime.start(spec("q", copy(1), settings())), Err(RuntimeError::Exists(_))));
}

#[test]
fn forgetting_leaves_nothing() {
    let world = World::manual(&[("in", 1), ("out", 1)]);
    fill(&world, 1, 10);
    world.start("q", repartitioned(1, 1), settings());
    world.pump("q");
    world.runtime.forget(&"q".into()).unwrap();
    assert!(world.runtime.status(&"q".into()).is_none());
    assert!(world.log.owners().unwrap().is_empty());
    assert!(world.log.describe(&"group-repartition".into()).unwrap().is_none());
}

#[test]
fn a_full_queue_stops_the_query_and_nothing_is_lost() {
    let world = World::threaded(&[("in", 1)], 1);
    fill(&world, 1, 1000);
    let client = ClientQueue::new(16, usize::MAX);
    let end = world.log.bounds(&TopicPartition::new("in", 0)).unwrap().end;
    let push = QuerySettings {
        transient: true,
        stop_at: Some(Arc::new([(TopicPartition::new("in", 0), end)].into())),
        read_sizes: Some(Arc::new([10])),
        ..settings()
    };
    world.runtime.start(QuerySpec { client: Some(client.clone()), ..spec("push", to_client(1), push) }).unwrap();
    let mut rows = 0;
    loop {
        assert!(client.rows() <= 16 + 16 + 10);
        match client.next(WAIT) {
            ClientNext::Rows(batch) => rows += batch.len(),
            ClientNext::End(ClientEnd::Complete) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rows, 1000);
    world.runtime.stop(&"push".into()).unwrap();
    assert!(world.runtime.status(&"push".into()).is_none() && world.log.owners().unwrap().is_empty());
}

#[test]
fn a_reader_that_takes_nothing_is_told_and_closed() {
    let world = World::manual(&[("in", 1)]);
    fill(&world, 1, 100);
    let client = ClientQueue::new(10, usize::MAX);
    let push = QuerySettings { transient: true, client_stall_ms: 500, ..settings() };
    world.runtime.start(QuerySpec { client: Some(client.clone()), ..spec("push", to_client(1), push) }).unwrap();
    world.pump("push");
    world.clock.advance(400);
    world.pump("push");
    world.clock.advance(200);
    assert!(world.runtime.pump(&"push".into(), &|_| None).is_err());
    while let ClientNext::Rows(_) = client.next(Duration::ZERO) {}
    assert!(matches!(client.next(Duration::ZERO), ClientNext::End(ClientEnd::Failed(_))));
}

#[test]
fn readers_see_committed_rows_of_all_partitions() {
    let world = World::manual(&[("in", 2), ("out", 2)]);
    fill(&world, 2, 100);
    world.start("q", count(2), settings());
    let id = QueryId::new("q");
    world.pump("q");
    let view = world.runtime.materialized(&id).unwrap();
    let key = KeyColumns { columns: vec![("K".into(), arrow::datatypes::DataType::Utf8)], windowed: false };
    let count_all = |view: &crate::runtime::MaterializedView| -> i64 {
        use arrow::array::AsArray;
        use arrow::datatypes::Int64Type;
        let batches = rows_of(view, &Lookup::all(&key));
        batches.iter().map(|b| b.columns[1].as_primitive::<Int64Type>().values().iter().sum::<i64>()).sum()
    };
    assert_eq!(count_all(&view), 100);
    fill(&world, 2, 100);
    world.pump("q");
    assert_eq!(count_all(&view), 100, "a view does not change");
    world.clock.advance(5000);
    fill(&world, 2, 10);
    world.pump("q");
    world.runtime.abort(&id).unwrap();
    world.pump("q");
    let view = world.runtime.materialized(&id).unwrap();
    assert_eq!(count_all(&view), 210);
    let mut one = Lookup::all(&key);
    one.boxes[0].columns = vec![Bound::OneOf(vec![datafusion::scalar::ScalarValue::from("k3")])];
    assert_eq!(rows_of(&view, &one).iter().map(|b| b.len()).sum::<usize>(), 1);
}

fn rows_of(view: &crate::runtime::MaterializedView, lookup: &Lookup) -> Vec<crate::types::ChangeBatch> {
    let mut scan = view.scan(lookup).unwrap();
    std::iter::from_fn(|| scan.next_rows().unwrap()).collect()
}

#[test]
fn a_poisoned_log_is_opened_again_and_all_queries_go_on() {
    use std::sync::atomic::{AtomicI32, Ordering};
    let world = World::manual(&[("in", 1), ("out", 1)]);
    let backoff = QuerySettings { backoff_initial_ms: 0, ..settings() };
    world.start("a", copy(1), backoff.clone());
    world.start("b", copy(1), backoff);
    fill(&world, 1, 10);
    let left = AtomicI32::new(2);
    world.faults().set_fault(Some(Arc::new(move |_| {
        let fails = left.fetch_sub(1, Ordering::SeqCst) > 0;
        fails.then(|| crate::topic::TopicError::Poisoned("disk gone".to_owned()))
    })));
    assert!(world.runtime.pump(&"a".into(), &|_| None).is_err());
    assert_eq!(world.runtime.status(&"a".into()).unwrap().state, QueryState::Error);
    world.pump("a");
    world.pump("b");
    assert_eq!(world.records("out", 0).len(), 20);
    assert_eq!(world.runtime.status(&"a".into()).unwrap().state, QueryState::Running);
}

#[test]
fn a_dry_input_is_waited_for_as_long_as_asked() {
    let world = World::manual(&[("in", 1), ("table", 1), ("out", 1)]);
    let patient = QuerySettings { max_task_idle_ms: 500, by_arrival: false, ..settings() };
    world.start("q", super::fixture::joined(1), patient);
    let cell = world.runtime.queries.read()[&QueryId::new("q")].query.cells[0].clone();
    world.put("in", 0, "a", "{\"V\":1}", 20);
    let now = world.clock.now_ms();
    assert_eq!(cell.run(), crate::runtime::task::Next::Park(Some(now + 500)));
    world.clock.advance(499);
    world.put("table", 0, "a", "{\"V\":7}", 10);
    cell.run();
    world.put("in", 0, "a", "{\"V\":2}", 30);
    world.clock.advance(500);
    cell.run();
    let values = world.values("out", 0);
    assert_eq!(values.len(), 2);
    assert!(values[0].ends_with("\"R_V\":7}"), "the table's row came while it was waited for: {values:?}");
}

#[test]
fn a_topic_made_again_is_read_from_its_start() {
    let world = World::manual(&[("in", 1), ("out", 1)]);
    world.start("q", copy(1), settings());
    fill(&world, 1, 10);
    world.pump("q");
    let spec = world.log.describe(&"in".into()).unwrap().unwrap();
    world.log.delete_topic(&"in".into()).unwrap();
    let error = world.runtime.pump(&"q".into(), &|_| None).unwrap_err();
    assert!(error.to_string().contains("'in'"), "{error}");
    world.log.create_topic(&spec).unwrap();
    fill(&world, 1, 3);
    world.pump("q");
    assert_eq!(world.records("out", 0).len(), 13);
}
