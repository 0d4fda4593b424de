//! The log's contract on a real broker, whose address `RIVERRUN_KAFKA` gives; without it these tests say "not checked" and pass.
//!
//! Each case has its own namespace. Retention and compaction are the broker's and are not checked here; positions are, but a group without
//! offsets is no owner. In CI (`CI=true`) a missing address fails.

use std::sync::Arc;

use super::{KafkaLog, KafkaOptions};
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::clock::ManualClock;
use crate::topic::changelog_block::{Block, BlockWriter};
use crate::topic::contract::{self, Fixture, append, make_topic, outputs, read_all, store};
use crate::topic::*;

/// Options for a fresh namespace of the test broker; `None` if there is none.
pub(crate) fn options(dir: &std::path::Path) -> Option<KafkaOptions> {
    let bootstrap_servers = std::env::var("RIVERRUN_KAFKA").unwrap_or_default();
    if bootstrap_servers.is_empty() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs a broker: RIVERRUN_KAFKA names none");
        eprintln!("not checked: RIVERRUN_KAFKA names no broker");
        return None;
    }
    Some(KafkaOptions {
        bootstrap_servers,
        service_id: "test_".to_owned(),
        state_dir: dir.to_owned(),
        client: Default::default(),
        internal_replicas: 1,
        exactly_once: true,
        namespace: format!("test-{:016x}-", rand::random::<u64>()),
        advertised: None,
        buffer_bytes: 128 << 20,
    })
}

fn fixture() -> Option<Fixture> {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path())?;
    let clock = Arc::new(ManualClock::new(0));
    Some(Fixture { log: KafkaLog::open(options, clock.clone()).unwrap(), clock, _dir: Some(dir) })
}

macro_rules! kafka_tests {
    ($($case:ident),* $(,)?) => {
        $(#[test] fn $case() { if let Some(f) = fixture() { contract::$case(&f); } })*
    };
}

kafka_tests!(
    topics_come_and_go,
    headers_read_back,
    a_bad_commit_changes_nothing,
    positions_belong_to_owners,
    watchers_wake_once,
);

fn at(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

fn values(log: &dyn Log, topic: &str) -> Vec<Option<String>> {
    read_all(log, &at(topic)).into_iter().map(|r| r.2).collect()
}

/// Marks of transactions take offsets, so what comes back is compared without them.
#[test]
fn records_come_back_with_their_times() {
    let Some(f) = fixture() else { return };
    f.clock.set(1000);
    make_topic(&*f.log, "t", 1, Cleanup::default());
    let rows = [(Some("k"), Some("v"), 5), (None, Some(""), NO_TIMESTAMP), (Some(""), None, 0), (None, None, 7)];
    assert_eq!(f.log.commit(outputs(vec![append("t", 0, &rows)])).unwrap().base_offsets, [0]);
    let second = f.log.commit(outputs(vec![append("t", 0, &[(None, Some("w"), 0)])])).unwrap().base_offsets;
    let all = read_all(&*f.log, &at("t"));
    let text = |t: &str| Some(t.to_owned());
    let want =
        [(text("k"), text("v"), 5), (None, text(""), 1000), (text(""), None, 0), (None, None, 7), (None, text("w"), 0)];
    assert_eq!(all.iter().map(|r| (r.1.clone(), r.2.clone(), r.3)).collect::<Vec<_>>(), want);
    assert_eq!(second, [all[4].0]);
    for from in 0..=all[4].0 {
        let fetched = f.log.read(&at("t"), from, ReadLimit { max_records: 1, max_bytes: 1 }).unwrap();
        assert_eq!(fetched.batch.offsets[..], [all.iter().map(|r| r.0).find(|o| *o >= from).unwrap()]);
    }
    let end = f.log.bounds(&at("t")).unwrap().end;
    for from in [end, end + 5] {
        let fetched = f.log.read(&at("t"), from, ReadLimit::default()).unwrap();
        assert_eq!((fetched.batch.len(), fetched.next, fetched.end), (0, from, end));
    }
}

#[test]
fn outputs_of_a_commit_keep_their_order() {
    let Some(f) = fixture() else { return };
    make_topic(&*f.log, "t", 2, Cleanup::default());
    make_topic(&*f.log, "u", 1, Cleanup::default());
    let one = |topic, partition, value| append(topic, partition, &[(None, Some(value), 0)]);
    let commit = vec![one("t", 0, "1"), one("u", 0, "a"), one("t", 0, "2"), one("t", 1, "x"), append("t", 0, &[])];
    assert_eq!(f.log.commit(outputs(commit)).unwrap().base_offsets, [0, 0, 1, 0, 0]);
    assert_eq!(values(&*f.log, "t"), [Some("1".to_owned()), Some("2".to_owned())]);
}

fn block(entries: &[(&str, Option<&str>)]) -> Bytes {
    let mut block = BlockWriter::default();
    entries.iter().for_each(|(k, v)| block.push(k.as_bytes(), v.map(str::as_bytes)).unwrap());
    block.finish().unwrap()
}

/// The changelog of `id` from `from` on, applied to an empty table.
fn replayed(log: &dyn Log, id: &StoreId, mut from: u64) -> BTreeMap<String, String> {
    let mut table = BTreeMap::new();
    loop {
        let blocks = log.blocks(id, from, 40).unwrap();
        if blocks.is_empty() {
            return table;
        }
        for (number, bytes) in blocks {
            assert!(number >= from);
            from = number + 1;
            for (key, row) in Block::open(&bytes).unwrap().iter() {
                let key = String::from_utf8(key.to_vec()).unwrap();
                match row {
                    Some(row) => table.insert(key, String::from_utf8(row.to_vec()).unwrap()),
                    None => table.remove(&key),
                };
            }
        }
    }
}

#[test]
fn changelogs_replay_and_stores_follow() {
    let Some(f) = fixture() else { return };
    let (id, other) = (store("o", "s"), store("o", "t"));
    f.log.prepare_store(&id.owner, &id.name, 2).unwrap();
    let commit = |id: &StoreId, entries| {
        f.log.commit(Commit { blocks: vec![(id.clone(), block(entries))], ..Commit::default() }).unwrap().block_numbers
            [0]
    };
    let first = commit(&id, &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
    let second = commit(&id, &[("a", Some("2")), ("b", None)]);
    commit(&other, &[("x", Some("9"))]);
    assert!(second > first);
    let want = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    assert_eq!(replayed(&*f.log, &id, 0), want(&[("a", "2"), ("c", "1")]));
    assert_eq!(replayed(&*f.log, &id, first + 1), want(&[("a", "2")]));
    assert!(f.log.blocks(&store("o", "none"), 0, 100).unwrap().is_empty());

    let writes = vec![(Bytes::from("a"), Some(Bytes::from("2"))), (Bytes::from("c"), Some(Bytes::from("1")))];
    f.log.write_behind(&id, writes.clone(), second + 1).unwrap();
    let (held, from) = f.log.keyed_store(&id).unwrap();
    assert_eq!((held.get(b"a").unwrap(), from), (Some(Bytes::from("2")), second + 1));
    // A copy that knows more than the changelog is of another life.
    f.log.write_behind(&other, writes, second + 1000).unwrap();
    let (held, from) = f.log.keyed_store(&other).unwrap();
    assert_eq!((held.get(b"a").unwrap(), from), (None, 0));

    f.log.forget(&id.owner).unwrap();
    assert!(f.log.blocks(&id, 0, 100).unwrap().is_empty());
    assert!(f.log.topics().unwrap().is_empty());
    commit(&id, &[("n", Some("1"))]);
    assert_eq!(replayed(&*f.log, &id, 0), want(&[("n", "1")]));
}

#[test]
fn what_was_read_can_be_dropped() {
    let Some(f) = fixture() else { return };
    make_topic(&*f.log, "t", 2, Cleanup::default());
    for value in ["1", "2", "3"] {
        f.log.commit(outputs(vec![append("t", 0, &[(None, Some(value), 1)])])).unwrap();
    }
    let last = read_all(&*f.log, &at("t"))[2].0;
    f.log.trim(&at("t"), last).unwrap();
    assert_eq!(values(&*f.log, "t"), [Some("3".to_owned())]);
    f.log.trim(&at("t"), 1 << 40).unwrap();
    let bounds = f.log.bounds(&at("t")).unwrap();
    assert_eq!(bounds.start, bounds.end);
    assert!(matches!(f.log.trim(&at("u"), 0), Err(TopicError::UnknownTopic(_))));
}

/// Waits until `done`, at most half a minute.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "{what} did not come");
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
}

/// Commits a position as of `tenure` and waits for the answer.
fn commit_position(
    session: &dyn Session,
    tenure: u64,
    at: &TopicPartition,
    offset: Offset,
) -> Result<Receipt, TopicError> {
    let (send, answer) = std::sync::mpsc::channel();
    let positions = vec![(Owner::new("q"), at.clone(), Position { offset, consumed: 0 })];
    let done = move |result| send.send(result).unwrap();
    session.commit(tenure, Commit { positions, ..Commit::default() }, Box::new(done));
    answer.recv().unwrap()
}

#[test]
fn nodes_share_the_partitions_of_a_query() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(options) = options(one.path()) else { return };
    let clock = Arc::new(ManualClock::new(0));
    let first = KafkaLog::open(options.clone(), clock.clone()).unwrap();
    let second = KafkaLog::open(KafkaOptions { state_dir: two.path().to_owned(), ..options }, clock).unwrap();
    make_topic(&*first, "t", 2, Cleanup::default());
    first
        .commit(outputs(vec![append("t", 0, &[(None, Some("x"), 1)]), append("t", 1, &[(None, Some("y"), 1)])]))
        .unwrap();
    let places = [at("t"), TopicPartition::new("t", 1)];
    let owner = Owner::new("q");
    let a = first.session(&owner, &["t".into()]).unwrap().unwrap();
    let here = |session: &Arc<dyn Session>| {
        let has = |at: &&TopicPartition| matches!(session.tenure(&[(*at).clone()]), Tenure::Here(_));
        places.iter().filter(has).count()
    };
    wait_until("the first node's partitions", || here(&a) == 2);
    let Tenure::Here(before) = a.tenure(&places) else { panic!("both are here") };
    commit_position(&*a, before, &places[0], 1).unwrap();
    let read = || a.read(&owner, &places[1], 0, ReadLimit::default()).unwrap();
    let mut got = read();
    wait_until("the record", || {
        got = if got.batch.is_empty() { read() } else { return true };
        false
    });
    assert_eq!((got.batch.values.value(0), got.next), (&b"y"[..], 1));

    let b = second.session(&owner, &["t".into()]).unwrap().unwrap();
    wait_until("the second node's share", || here(&a) == 1 && here(&b) == 1);
    // What was begun before the change may not be committed after it.
    assert!(matches!(commit_position(&*a, before, &places[0], 7), Err(TopicError::Unsent(_))));
    assert_eq!(
        second.positions(&owner).unwrap(),
        BTreeMap::from([(places[0].clone(), Position { offset: 1, consumed: 0 })])
    );
    a.close();
    wait_until("all partitions at the second node", || here(&b) == 2);
    let Tenure::Here(now) = b.tenure(&places) else { panic!("both are there") };
    commit_position(&*b, now, &places[0], 2).unwrap();
    assert_eq!(first.positions(&owner).unwrap()[&places[0]].offset, 2);
    b.close();
}

/// A member whose queues are full stops the fetching of its partitions so that it can be heard of; that must not outlast a change of the group.
#[test]
fn a_member_with_full_queues_reads_on_after_a_change_of_the_group() {
    const RECORDS: usize = 64;
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(options) = options(one.path()) else { return };
    let clock = Arc::new(ManualClock::new(0));
    let first = KafkaLog::open(options.clone(), clock.clone()).unwrap();
    let second = KafkaLog::open(KafkaOptions { state_dir: two.path().to_owned(), ..options }, clock).unwrap();
    make_topic(&*first, "t", 2, Cleanup::default());
    let large = "x".repeat(512 << 10);
    let places = [at("t"), TopicPartition::new("t", 1)];
    for place in &places {
        let records = vec![(None, Some(large.as_str()), 1); RECORDS / 4];
        (0..4).for_each(|_| drop(first.commit(outputs(vec![append("t", place.partition, &records)])).unwrap()));
    }
    let owner = Owner::new("q");
    let a = first.session(&owner, &["t".into()]).unwrap().unwrap();
    let here = |session: &Arc<dyn Session>, place: &TopicPartition| {
        matches!(session.tenure(std::slice::from_ref(place)), Tenure::Here(_))
    };
    wait_until("the first node's partitions", || places.iter().all(|place| here(&a, place)));
    // One record of each, and then none: 64 MB wait, so the queues fill.
    let limit = ReadLimit { max_records: 1, ..ReadLimit::default() };
    let mut next = [0; 2];
    for (place, next) in places.iter().zip(&mut next) {
        wait_until("the first record", || {
            *next = a.read(&owner, place, *next, limit).unwrap().next;
            *next > 0
        });
    }
    let b = second.session(&owner, &["t".into()]).unwrap().unwrap();
    let is_shared = || places.iter().all(|place| here(&a, place) != here(&b, place));
    wait_until("the second node's share", || is_shared() && places.iter().any(|place| here(&b, place)));
    let kept = places.iter().position(|place| here(&a, place)).expect("it keeps one of them");
    wait_until("the rest of what it keeps", || {
        next[kept] = a.read(&owner, &places[kept], next[kept], limit).unwrap().next;
        next[kept] == RECORDS as Offset
    });
    a.close();
    b.close();
}

/// Who is not of a group that has members does not set its positions back.
#[test]
fn positions_from_outside_are_taken_only_while_a_group_has_no_members() {
    let Some(f) = fixture() else { return };
    make_topic(&*f.log, "t", 1, Cleanup::default());
    let owner = Owner::new("q");
    let outside = |offset| {
        let positions = vec![(owner.clone(), at("t"), Position { offset, consumed: 3 })];
        f.log.commit(Commit { positions, ..Commit::default() })
    };
    outside(5).unwrap();
    let session = f.log.session(&owner, &["t".into()]).unwrap().unwrap();
    wait_until("the partition", || matches!(session.tenure(&[at("t")]), Tenure::Here(_)));
    assert!(matches!(outside(2), Err(TopicError::Aborted(_))));
    let noted = || f.log.positions(&owner).unwrap()[&at("t")];
    assert_eq!(noted(), Position { offset: 5, consumed: 3 });
    session.close();
    wait_until("the group without members", || outside(7).is_ok());
    assert_eq!(noted().offset, 7);
}

/// A log with next to no budget, and a topic of two partitions with as many MB in 2000 records each.
fn little_memory(mib: usize) -> Option<(Arc<KafkaLog>, tempfile::TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let options = KafkaOptions { buffer_bytes: 1, ..options(dir.path())? };
    let log = KafkaLog::open(options, Arc::new(ManualClock::new(0))).unwrap();
    make_topic(&*log, "t", 2, Cleanup::default());
    let text = "x".repeat((mib << 20) / 2000);
    for partition in 0..2 {
        for _ in 0..4 {
            log.commit(outputs(vec![append("t", partition, &[(None, Some(text.as_str()), 1); 500])])).unwrap();
        }
    }
    Some((log, dir))
}

#[test]
fn what_waits_for_tasks_is_held_by_the_budget() {
    // What a fetch brings is a whole batch at least, as its producer made it; without the budget 6 MB would wait.
    const MOST: usize = 3 << 20;
    let Some((log, _dir)) = little_memory(8) else { return };
    let owner = Owner::new("q");
    let feeder = super::feed::Feeder::start(&log.shared, &owner, None).unwrap();
    let places = [at("t"), TopicPartition::new("t", 1)];
    let (mut next, mut records, mut most) = ([0; 2], [0; 2], 0);
    let limit = ReadLimit { max_records: 1, ..ReadLimit::default() };
    wait_until("first records of both", || {
        for ((place, next), records) in places.iter().zip(&mut next).zip(&mut records) {
            let fetched = feeder.read(place, *next, limit).unwrap();
            *next = fetched.next;
            *records += fetched.batch.len();
        }
        next.iter().all(|next| *next > 0)
    });
    // Nobody reads on for a while, and 16 MB are there.
    for _ in 0..100 {
        most = most.max(feeder.waiting());
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    assert!((1..=MOST).contains(&most), "{most} bytes wait");
    wait_until("all the rest", || {
        for ((place, next), records) in places.iter().zip(&mut next).zip(&mut records) {
            let fetched = feeder.read(place, *next, ReadLimit::default()).unwrap();
            assert!(fetched.batch.byte_size() <= 128 << 10, "{} bytes for one task", fetched.batch.byte_size());
            *next = fetched.next;
            *records += fetched.batch.len();
        }
        most = most.max(feeder.waiting());
        records == [2000; 2]
    });
    assert!(most <= MOST, "{most} bytes waited");
    feeder.close();
}

#[test]
fn what_is_on_its_way_to_brokers_is_held_by_the_budget() {
    use super::native::{Outgoing, Producer};
    use std::time::Duration;
    const RECORD: usize = 1000;
    let Some((log, _dir)) = little_memory(0) else { return };
    let before = log.bounds(&at("t")).unwrap().end;
    let shared = &log.shared;
    let budget = super::budget::Budget::new(1);
    let mut producer = Producer::new(&shared.options.producer(None), Some(budget.writer())).unwrap();
    let (topic, text, mut most) = (shared.admin.outer("t"), vec![b'x'; RECORD], 0);
    for _ in 0..100 {
        let record = || Outgoing { key: None, value: Some(&text), timestamp: 1, headers: Vec::new(), mark: 0 };
        producer.send(&topic, 0, (0..100).map(|_| record()), Duration::from_secs(30)).unwrap();
        most = most.max(producer.on_their_way());
    }
    // A share, what is sent until it is looked at, and the last call.
    assert!((RECORD..(256 << 10) + (512 << 10) + 150 * RECORD).contains(&most), "{most} bytes on their way");
    producer.flush(Duration::from_secs(30)).unwrap();
    assert_eq!(producer.on_their_way(), 0);
    assert_eq!(log.bounds(&at("t")).unwrap().end, before + 10_000);
}

#[test]
fn limits_of_reads_are_kept() {
    let Some(f) = fixture() else { return };
    make_topic(&*f.log, "t", 1, Cleanup::default());
    f.log.commit(outputs(vec![append("t", 0, &[(Some("k"), Some("123456789"), 1); 12])])).unwrap();
    let count = |from, max_records, max_bytes| {
        f.log.read(&at("t"), from, ReadLimit { max_records, max_bytes }).unwrap().batch.len()
    };
    assert_eq!(
        [count(0, 3, 1000), count(3, 5, 1000), count(0, 0, 0), count(0, 100, 1), count(0, 100, 29)],
        [3, 5, 1, 1, 2]
    );
    assert_eq!(count(0, usize::MAX, usize::MAX), 12);
}
