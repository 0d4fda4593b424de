//! The contract of [`Log`] as tests, run on every log by [`contract_tests!`].
//!
//! Each case gets a fresh log. The subtle thing: cases look at what any log promises, so none counts blocks or arrivals.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow::array::{Array, AsArray, BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
use bytes::Bytes;

use super::batch::header_fields;
use super::*;
use crate::clock::ManualClock;

/// A log with its clock, and what must live as long.
pub(super) struct Fixture {
    pub(super) log: Arc<dyn Log>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) _dir: Option<tempfile::TempDir>,
}

/// Makes a test of each case, on the log that `$make` gives.
macro_rules! contract_tests {
    ($make:expr; $($case:ident),* $(,)?) => {
        $(#[test] fn $case() { $crate::topic::contract::$case(&$make); })*
    };
    ($make:expr) => {
        $crate::topic::contract::contract_tests!($make;
            topics_come_and_go, specs_are_checked, records_read_back, headers_read_back, reads_obey_limits,
            reads_start_anywhere, outputs_keep_their_order, a_bad_commit_changes_nothing, positions_belong_to_owners,
            a_topic_made_again_is_empty, changelogs_are_numbered, keyed_stores_follow, owners_are_forgotten,
            watchers_wake_once, retention_by_age, retention_by_size, compaction_keeps_the_latest,
            compaction_drops_old_tombstones, trimming_drops_what_was_read, small_appends_read_as_one,
            readers_and_writers_agree);
    };
}
pub(super) use contract_tests;

/// A key, a value, a time.
pub(super) type Row<'a> = (Option<&'a str>, Option<&'a str>, i64);

pub(super) fn append(topic: &str, partition: i32, rows: &[Row<'_>]) -> Append {
    Append {
        to: TopicPartition::new(topic, partition),
        timestamps: rows.iter().map(|r| r.2).collect::<Vec<_>>().into(),
        keys: rows.iter().map(|r| r.0.map(str::as_bytes)).collect(),
        values: rows.iter().map(|r| r.1.map(str::as_bytes)).collect(),
        headers: None,
    }
}

pub(super) fn outputs(outputs: Vec<Append>) -> Commit {
    Commit { outputs, ..Commit::default() }
}

pub(super) fn make_topic(log: &dyn Log, name: &str, partitions: i32, cleanup: Cleanup) {
    log.create_topic(&TopicSpec { name: name.into(), partitions, replicas: 1, cleanup }).unwrap();
}

fn put(log: &dyn Log, topic: &str, rows: &[Row<'_>]) -> Offset {
    log.commit(outputs(vec![append(topic, 0, rows)])).unwrap().base_offsets[0]
}

/// All records of a partition: offset, key, value, time.
pub(super) type Record = (Offset, Option<String>, Option<String>, i64);

pub(super) fn read_all(log: &dyn Log, at: &TopicPartition) -> Vec<Record> {
    let (mut from, mut all) = (0, Vec::new());
    loop {
        let fetched = log.read(at, from, ReadLimit::default()).unwrap();
        all.extend(records(&fetched.batch));
        assert!(fetched.next > from || fetched.next == fetched.end, "a read moves on");
        from = fetched.next;
        if from >= fetched.end {
            return all;
        }
    }
}

fn records(batch: &RawBatch) -> Vec<Record> {
    let text = |column: &BinaryArray, row| {
        column.is_valid(row).then(|| String::from_utf8(column.value(row).to_vec()).unwrap())
    };
    (0..batch.len())
        .map(|row| (batch.offsets[row], text(&batch.keys, row), text(&batch.values, row), batch.timestamps[row]))
        .collect()
}

fn offsets(log: &dyn Log, topic: &str) -> Vec<Offset> {
    read_all(log, &TopicPartition::new(topic, 0)).into_iter().map(|r| r.0).collect()
}

fn some(offset: Offset, key: &str, value: &str, time: i64) -> Record {
    (offset, Some(key.into()), Some(value.into()), time)
}

pub(super) fn topics_come_and_go(f: &Fixture) {
    let log = &*f.log;
    make_topic(log, "b", 2, Cleanup::default());
    let cleanup = Cleanup { compact: true, retention_ms: Some(5), retention_bytes: Some(0) };
    make_topic(log, "a", 1, cleanup);
    let names: Vec<_> = log.topics().unwrap().into_iter().map(|t| t.name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    let spec = TopicSpec { name: "a".into(), partitions: 1, replicas: 1, cleanup };
    assert_eq!(log.describe(&"a".into()).unwrap(), Some(spec.clone()));
    assert!(matches!(log.create_topic(&spec), Err(TopicError::Exists(name)) if name == "a".into()));
    let at = TopicPartition::new("b", 1);
    assert_eq!(log.bounds(&at).unwrap(), Bounds { start: 0, end: 0 });
    for partition in [2, -1] {
        let error = log.bounds(&TopicPartition::new("b", partition)).unwrap_err();
        assert!(matches!(error, TopicError::UnknownPartition { partition: p, .. } if p == partition));
    }
    log.delete_topic(&"b".into()).unwrap();
    assert!(matches!(log.delete_topic(&"b".into()), Err(TopicError::UnknownTopic(_))));
    assert!(matches!(log.read(&at, 0, ReadLimit::default()), Err(TopicError::UnknownTopic(_))));
    assert_eq!(log.describe(&"b".into()).unwrap(), None);
}

pub(super) fn specs_are_checked(f: &Fixture) {
    let spec =
        |name: &str, partitions| TopicSpec { name: name.into(), partitions, replicas: 1, cleanup: Cleanup::default() };
    let long = "x".repeat(250);
    for (name, partitions) in [("", 1), (".", 1), ("..", 1), ("a b", 1), ("ä", 1), (&long, 1), ("ok", 0), ("ok", -3)] {
        let error = f.log.create_topic(&spec(name, partitions)).unwrap_err();
        assert!(matches!(error, TopicError::Invalid(_)), "{name}: {error}");
    }
    f.log.create_topic(&spec(&long[..249], 1)).unwrap();
    let negative = TopicSpec { cleanup: Cleanup { retention_ms: Some(-1), ..Cleanup::default() }, ..spec("n", 1) };
    assert!(matches!(f.log.create_topic(&negative), Err(TopicError::Invalid(_))));
}

pub(super) fn records_read_back(f: &Fixture) {
    f.clock.set(1000);
    make_topic(&*f.log, "t", 1, Cleanup::default());
    assert_eq!(put(&*f.log, "t", &[(Some("k"), Some("v"), 5), (None, Some(""), NO_TIMESTAMP)]), 0);
    f.clock.set(2000);
    assert_eq!(put(&*f.log, "t", &[(Some(""), None, NO_TIMESTAMP), (None, None, -2)]), 2);
    let all = read_all(&*f.log, &TopicPartition::new("t", 0));
    let empty = || Some(String::new());
    let want = vec![some(0, "k", "v", 5), (1, None, empty(), 1000), (2, empty(), None, 2000), (3, None, None, -2)];
    assert_eq!(all, want);
    f.log.sync().unwrap();
}

/// Headers of three records: two, none, one whose value is NULL.
fn headers() -> ArrayRef {
    let fields = header_fields();
    let item = arrow::datatypes::Field::new("item", arrow::datatypes::DataType::Struct(fields.clone()), true);
    let columns: Vec<Box<dyn arrow::array::ArrayBuilder>> =
        vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())];
    let mut lists = ListBuilder::new(StructBuilder::new(fields, columns)).with_field(item);
    for row in [&[("a", Some("1")), ("a", Some(""))][..], &[], &[("b", None)]] {
        for (key, value) in row {
            lists.values().field_builder::<StringBuilder>(0).unwrap().append_value(key);
            lists.values().field_builder::<BinaryBuilder>(1).unwrap().append_option(*value);
            lists.values().append(true);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}

pub(super) fn headers_read_back(f: &Fixture) {
    make_topic(&*f.log, "t", 1, Cleanup::default());
    put(&*f.log, "t", &[(None, Some("plain"), 0)]);
    let mut with = append("t", 0, &[(None, None, 1), (None, None, 2), (None, None, 3)]);
    with.headers = Some(headers());
    f.log.commit(outputs(vec![with])).unwrap();
    let at = TopicPartition::new("t", 0);
    let plain = f.log.read(&at, 0, ReadLimit { max_records: 1, ..ReadLimit::default() }).unwrap().batch;
    assert_eq!(plain.headers, None);
    let alone = f.log.read(&at, 1, ReadLimit::default()).unwrap().batch;
    assert_eq!(alone.headers.unwrap().as_ref(), headers().as_ref());
    let joined = f.log.read(&at, 0, ReadLimit::default()).unwrap().batch;
    let lists = joined.headers.unwrap();
    let counts: Vec<_> = (0..joined.offsets.len()).map(|row| lists.as_list::<i32>().value(row).len()).collect();
    assert_eq!(counts, [0, 2, 0, 1][..joined.offsets.len()]);
    let bad = Append { headers: Some(headers()), ..append("t", 0, &[(None, None, 1)]) };
    assert!(matches!(f.log.commit(outputs(vec![bad])), Err(TopicError::Invalid(_))));
}

pub(super) fn reads_obey_limits(f: &Fixture) {
    make_topic(&*f.log, "t", 1, Cleanup::default());
    for _ in 0..3 {
        put(&*f.log, "t", &[(Some("k"), Some("123456789"), 0); 4]);
    }
    let at = TopicPartition::new("t", 0);
    let count = |from, max_records, max_bytes| {
        let fetched = f.log.read(&at, from, ReadLimit { max_records, max_bytes }).unwrap();
        assert_eq!(fetched.next, from + fetched.batch.len() as i64);
        assert_eq!(fetched.end, 12);
        fetched.batch.len()
    };
    assert_eq!(count(0, 3, 1000), 3);
    assert_eq!(count(2, 5, 1000), 5);
    assert_eq!(count(0, 0, 0), 1);
    assert_eq!(count(0, 100, 1), 1);
    assert_eq!(count(0, 100, 10), 1);
    assert_eq!(count(0, 100, 29), 2);
    assert_eq!(count(1, 100, 65), 6);
    assert_eq!(count(0, usize::MAX, usize::MAX), 12);
}

pub(super) fn reads_start_anywhere(f: &Fixture) {
    make_topic(&*f.log, "t", 2, Cleanup::default());
    for n in 0..5 {
        let value = n.to_string();
        put(&*f.log, "t", &[(None, Some(&value), 0), (None, Some(&value), 0), (None, Some(&value), 0)]);
    }
    let at = TopicPartition::new("t", 0);
    for from in 0..15 {
        let fetched = f.log.read(&at, from, ReadLimit::default()).unwrap();
        assert_eq!(&fetched.batch.offsets[..], (from..15).collect::<Vec<_>>());
        assert_eq!(fetched.batch.values.value(0), (from / 3).to_string().as_bytes());
    }
    assert_eq!(f.log.read(&at, -7, ReadLimit::default()).unwrap().batch.len(), 15);
    for from in [15, 16] {
        let fetched = f.log.read(&at, from, ReadLimit::default()).unwrap();
        assert_eq!((fetched.batch.len(), fetched.next, fetched.end), (0, from, 15));
    }
    assert!(f.log.read(&TopicPartition::new("t", 1), 0, ReadLimit::default()).unwrap().batch.is_empty());
}

pub(super) fn outputs_keep_their_order(f: &Fixture) {
    make_topic(&*f.log, "t", 2, Cleanup::default());
    make_topic(&*f.log, "u", 1, Cleanup::default());
    put(&*f.log, "t", &[(None, Some("0"), 0)]);
    let one = |topic, partition, value| append(topic, partition, &[(None, Some(value), 0)]);
    let none = append("t", 0, &[]);
    let commit = outputs(vec![one("t", 0, "1"), one("u", 0, "a"), one("t", 0, "2"), one("t", 1, "x"), none]);
    assert_eq!(f.log.commit(commit).unwrap().base_offsets, [1, 0, 2, 0, 3]);
    let values: Vec<_> = read_all(&*f.log, &TopicPartition::new("t", 0)).into_iter().map(|r| r.2.unwrap()).collect();
    assert_eq!(values, ["0", "1", "2"]);
}

pub(super) fn store(owner: &str, name: &str) -> StoreId {
    StoreId { owner: Owner::new(owner), name: name.into(), partition: 0 }
}

pub(super) fn a_bad_commit_changes_nothing(f: &Fixture) {
    make_topic(&*f.log, "t", 1, Cleanup::default());
    let at = TopicPartition::new("t", 0);
    let good = || append("t", 0, &[(None, Some("v"), 0)]);
    let uneven = || Append { timestamps: vec![1, 2].into(), ..good() };
    let position = |at: &TopicPartition, offset| (Owner::new("o"), at.clone(), Position { offset, consumed: 0 });
    let elsewhere = TopicPartition::new("t", 1);
    let bad = [
        Commit { outputs: vec![good(), append("nowhere", 0, &[(None, None, 0)])], ..Commit::default() },
        Commit { outputs: vec![good(), uneven()], ..Commit::default() },
        Commit { outputs: vec![good()], positions: vec![position(&elsewhere, 0)], ..Commit::default() },
        Commit { outputs: vec![good()], positions: vec![position(&at, -1)], ..Commit::default() },
    ];
    for mut commit in bad {
        commit.positions.push(position(&at, 1));
        commit.blocks.push((store("o", "s"), Bytes::from_static(b"b")));
        f.log.commit(commit).unwrap_err();
        assert_eq!(f.log.bounds(&at).unwrap().end, 0);
        assert!(f.log.owners().unwrap().is_empty());
        assert!(f.log.blocks(&store("o", "s"), 0, 100).unwrap().is_empty());
    }
    assert_eq!(f.log.commit(Commit::default()).unwrap().base_offsets, Vec::<Offset>::new());
}

pub(super) fn positions_belong_to_owners(f: &Fixture) {
    make_topic(&*f.log, "t", 2, Cleanup::default());
    let at = |partition| TopicPartition::new("t", partition);
    let place = |offset, consumed| Position { offset, consumed };
    let commit = |owner: &str, partition, place| {
        let positions = vec![(Owner::new(owner), at(partition), place)];
        f.log.commit(Commit { positions, ..Commit::default() }).unwrap();
    };
    commit("a", 0, place(1, 0));
    commit("a", 1, place(7, 3));
    commit("ab", 0, place(2, 0));
    commit("a", 0, place(5, 1));
    assert_eq!(
        f.log.positions(&Owner::new("a")).unwrap(),
        BTreeMap::from([(at(0), place(5, 1)), (at(1), place(7, 3))])
    );
    assert_eq!(f.log.positions(&Owner::new("ab")).unwrap().len(), 1);
    assert!(f.log.positions(&Owner::new("")).unwrap().is_empty());
    assert_eq!(f.log.owners().unwrap(), [Owner::new("a"), Owner::new("ab")]);
}

pub(super) fn a_topic_made_again_is_empty(f: &Fixture) {
    make_topic(&*f.log, "t", 1, Cleanup::default());
    make_topic(&*f.log, "u", 1, Cleanup::default());
    put(&*f.log, "t", &[(None, Some("old"), 0)]);
    let positions = ["t", "u"].map(|t| (Owner::new("o"), TopicPartition::new(t, 0), Position::default())).to_vec();
    f.log.commit(Commit { positions, ..Commit::default() }).unwrap();
    f.log.delete_topic(&"t".into()).unwrap();
    let left: Vec<_> = f.log.positions(&Owner::new("o")).unwrap().into_keys().collect();
    assert_eq!(left, [TopicPartition::new("u", 0)]);
    make_topic(&*f.log, "t", 1, Cleanup::default());
    assert_eq!(f.log.bounds(&TopicPartition::new("t", 0)).unwrap(), Bounds { start: 0, end: 0 });
    assert_eq!(put(&*f.log, "t", &[(None, Some("new"), 0)]), 0);
    assert_eq!(read_all(&*f.log, &TopicPartition::new("t", 0)), [(0, None, Some("new".into()), 0)]);
}

fn commit_blocks(log: &dyn Log, blocks: &[(&StoreId, &'static str)]) -> Vec<u64> {
    let blocks = blocks.iter().map(|(id, b)| ((*id).clone(), Bytes::from_static(b.as_bytes()))).collect();
    log.commit(Commit { blocks, ..Commit::default() }).unwrap().block_numbers
}

pub(super) fn changelogs_are_numbered(f: &Fixture) {
    let (one, two) = (store("o", "one"), store("o", "two"));
    assert_eq!(commit_blocks(&*f.log, &[(&one, "a"), (&two, "x"), (&one, "bb")]), [0, 0, 1]);
    assert_eq!(commit_blocks(&*f.log, &[(&one, "ccc"), (&two, "y")]), [2, 1]);
    let numbers = |from, max_bytes| -> Vec<u64> {
        f.log.blocks(&one, from, max_bytes).unwrap().into_iter().map(|(number, _)| number).collect()
    };
    assert_eq!(numbers(0, 100), [0, 1, 2]);
    assert_eq!(numbers(1, 100), [1, 2]);
    assert_eq!(numbers(0, 3), [0, 1]);
    assert_eq!(numbers(2, 0), [2]);
    assert_eq!(numbers(3, 100), [0; 0]);
    // a log that tells the end may count more than blocks
    let end = |id| f.log.changelog_end(id).unwrap();
    assert!(end(&one) >= 3 && end(&two) >= 2 && end(&store("o", "none")) == 0);
    assert_eq!(f.log.blocks(&two, 0, 100).unwrap(), [(0, Bytes::from("x")), (1, Bytes::from("y"))]);
    assert!(f.log.blocks(&store("o", "none"), 0, 100).unwrap().is_empty());
}

fn keyed_writes(writes: &[(&'static str, Option<&'static str>)]) -> KeyedWrites {
    writes
        .iter()
        .map(|(k, v)| (Bytes::from_static(k.as_bytes()), v.map(|v| Bytes::from_static(v.as_bytes()))))
        .collect()
}

pub(super) fn entries(snapshot: &dyn KeyedSnapshot, from: &str, to: Option<&str>) -> Vec<String> {
    let mut found = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        found.push(format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value)));
        found.len() < 3
    };
    snapshot.range(from.as_bytes(), to.map(str::as_bytes), &mut visit).unwrap();
    found
}

pub(super) fn keyed_stores_follow(f: &Fixture) {
    let (id, other) = (store("o", "s"), store("o", "t"));
    let (nothing, from) = f.log.keyed_store(&id).unwrap();
    assert_eq!((nothing.get(b"a").unwrap(), from, entries(&*nothing, "", None).len()), (None, 0, 0));
    commit_blocks(&*f.log, &[(&id, "0"), (&id, "1"), (&id, "2"), (&other, "0")]);
    f.log.write_behind(&id, keyed_writes(&[("a", Some("1")), ("b", Some("2")), ("", Some("0"))]), 2).unwrap();
    f.log.write_behind(&other, keyed_writes(&[("z", Some("9"))]), 0).unwrap();
    assert_eq!(f.log.blocks(&id, 0, 100).unwrap(), [(2, Bytes::from("2"))]);
    assert_eq!(f.log.blocks(&other, 0, 100).unwrap().len(), 1);
    let (before, from) = f.log.keyed_store(&id).unwrap();
    assert_eq!((before.get(b"a").unwrap(), from), (Some(Bytes::from("1")), 2));
    f.log
        .write_behind(&id, keyed_writes(&[("a", None), ("b", Some("3")), ("c", Some("4")), ("d", Some("5"))]), 3)
        .unwrap();
    assert_eq!(entries(&*before, "", None), ["=0", "a=1", "b=2"]);
    let (after, from) = f.log.keyed_store(&id).unwrap();
    assert_eq!(from, 3);
    assert_eq!(entries(&*after, "", None), ["=0", "b=3", "c=4"]);
    assert_eq!(entries(&*after, "b", Some("d")), ["b=3", "c=4"]);
    assert_eq!(entries(&*after, "d", Some("b")).len() + entries(&*after, "e", None).len(), 0);
    assert_eq!((after.get(b"a").unwrap(), after.get(b"z").unwrap()), (None, None));
    assert_eq!(commit_blocks(&*f.log, &[(&id, "3")]), [3]);
}

pub(super) fn owners_are_forgotten(f: &Fixture) {
    make_topic(&*f.log, "t", 1, Cleanup::default());
    let (id, kept) = (store("o", "s"), store("p", "s"));
    commit_blocks(&*f.log, &[(&id, "0"), (&kept, "0"), (&id, "1")]);
    f.log.write_behind(&id, keyed_writes(&[("a", Some("1"))]), 1).unwrap();
    let positions = vec![(Owner::new("o"), TopicPartition::new("t", 0), Position::default())];
    f.log.commit(Commit { positions, ..Commit::default() }).unwrap();
    f.log.forget(&Owner::new("o")).unwrap();
    assert_eq!(f.log.owners().unwrap(), [Owner::new("p")]);
    assert!(f.log.positions(&Owner::new("o")).unwrap().is_empty());
    assert!(f.log.blocks(&id, 0, 100).unwrap().is_empty());
    let (entries, from) = f.log.keyed_store(&id).unwrap();
    assert_eq!((entries.get(b"a").unwrap(), from), (None, 0));
    assert_eq!(f.log.blocks(&kept, 0, 100).unwrap().len(), 1);
    assert_eq!(commit_blocks(&*f.log, &[(&id, "x")]), [0]);
    f.log.forget(&Owner::new("nobody")).unwrap();
}

pub(super) fn watchers_wake_once(f: &Fixture) {
    for name in ["t", "u", "v"] {
        make_topic(&*f.log, name, 1, Cleanup::default());
    }
    let woken = Arc::new(AtomicUsize::new(0));
    let count = woken.clone();
    let wake = Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let guard = f.log.watch(&["t".into(), "u".into()], wake);
    let one = |topic| append(topic, 0, &[(None, None, 0)]);
    f.log.commit(outputs(vec![one("t"), one("u"), one("t")])).unwrap();
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    f.log.commit(outputs(vec![one("v"), append("t", 0, &[])])).unwrap();
    f.log.commit(outputs(vec![one("t"), one("nowhere")])).unwrap_err();
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    f.log.commit(outputs(vec![one("u")])).unwrap();
    assert_eq!(woken.load(Ordering::SeqCst), 2);
    drop(guard);
    f.log.commit(outputs(vec![one("t")])).unwrap();
    assert_eq!(woken.load(Ordering::SeqCst), 2);
}

pub(super) fn retention_by_age(f: &Fixture) {
    make_topic(&*f.log, "t", 1, Cleanup { retention_ms: Some(100), ..Cleanup::default() });
    make_topic(&*f.log, "kept", 1, Cleanup::default());
    put(&*f.log, "kept", &[(None, None, 0)]);
    put(&*f.log, "t", &[(None, None, 10), (None, None, 20)]);
    put(&*f.log, "t", &[(None, None, 300), (None, None, 5)]);
    put(&*f.log, "t", &[(None, None, 30)]);
    let at = TopicPartition::new("t", 0);
    assert_eq!(f.log.clean(120).unwrap(), 0);
    assert_eq!(f.log.clean(121).unwrap(), 2);
    assert_eq!(f.log.bounds(&at).unwrap(), Bounds { start: 2, end: 5 });
    // What is late in order stays until what is before it goes.
    assert_eq!(f.log.clean(400).unwrap(), 0);
    assert_eq!(&f.log.read(&at, 0, ReadLimit::default()).unwrap().batch.offsets[..], [2, 3, 4]);
    assert_eq!(f.log.clean(401).unwrap(), 3);
    assert_eq!(f.log.bounds(&at).unwrap(), Bounds { start: 5, end: 5 });
    assert_eq!(put(&*f.log, "t", &[(None, None, 1000)]), 5);
    assert_eq!(offsets(&*f.log, "t"), [5]);
    assert_eq!(offsets(&*f.log, "kept"), [0]);
}

pub(super) fn retention_by_size(f: &Fixture) {
    make_topic(&*f.log, "t", 1, Cleanup { retention_bytes: Some(25_000), ..Cleanup::default() });
    let value = "x".repeat(10_000);
    for _ in 0..6 {
        put(&*f.log, "t", &[(None, Some(&value), 0)]);
    }
    assert_eq!(f.log.clean(0).unwrap(), 4);
    assert_eq!(f.log.bounds(&TopicPartition::new("t", 0)).unwrap(), Bounds { start: 4, end: 6 });
    assert_eq!(offsets(&*f.log, "t"), [4, 5]);
    assert_eq!(f.log.clean(0).unwrap(), 0);
}

pub(super) fn compaction_keeps_the_latest(f: &Fixture) {
    make_topic(&*f.log, "t", 1, Cleanup { compact: true, ..Cleanup::default() });
    put(&*f.log, "t", &[(Some("a"), Some("1"), 0), (Some("b"), Some("1"), 0), (Some("a"), Some("2"), 0)]);
    put(&*f.log, "t", &[(None, Some("n"), 0), (Some("b"), Some("2"), 0), (Some("c"), Some("1"), 0)]);
    put(&*f.log, "t", &[(Some("c"), Some("2"), 0), (Some("c"), Some("3"), 0)]);
    // The newest append is neither compacted nor does it make older records go.
    assert_eq!(f.log.clean(0).unwrap(), 2);
    let at = TopicPartition::new("t", 0);
    assert_eq!(f.log.bounds(&at).unwrap(), Bounds { start: 2, end: 8 });
    let want = vec![
        some(2, "a", "2", 0),
        (3, None, Some("n".into()), 0),
        some(4, "b", "2", 0),
        some(5, "c", "1", 0),
        some(6, "c", "2", 0),
        some(7, "c", "3", 0),
    ];
    assert_eq!(read_all(&*f.log, &at), want);
    put(&*f.log, "t", &[(Some("a"), Some("3"), 0); 9]);
    put(&*f.log, "t", &[(Some("z"), Some("9"), 0)]);
    f.log.clean(0).unwrap();
    assert_eq!(offsets(&*f.log, "t"), [3, 4, 7, 16, 17]);
    for (from, first) in [(0, 3), (5, 7), (8, 16), (16, 16), (17, 17)] {
        assert_eq!(f.log.read(&at, from, ReadLimit::default()).unwrap().batch.offsets[0], first, "from {from}");
    }
    let one = f.log.read(&at, 4, ReadLimit { max_records: 1, max_bytes: 1 }).unwrap();
    assert_eq!((one.batch.offsets[0], one.next), (4, 5));
}

pub(super) fn compaction_drops_old_tombstones(f: &Fixture) {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    make_topic(&*f.log, "t", 1, Cleanup { compact: true, ..Cleanup::default() });
    put(&*f.log, "t", &[(Some("a"), Some("1"), 0), (Some("b"), Some("1"), 0), (Some("a"), None, 50)]);
    put(&*f.log, "t", &[(Some("x"), Some("1"), 60)]);
    assert_eq!(f.log.clean(DAY_MS + 50).unwrap(), 1);
    assert_eq!(offsets(&*f.log, "t"), [1, 2, 3]);
    for _ in 0..4 {
        put(&*f.log, "t", &[(Some("b"), Some("2"), 70)]);
    }
    assert!(f.log.clean(DAY_MS + 51).unwrap() > 0);
    assert_eq!(offsets(&*f.log, "t"), [3, 6, 7]);
}

pub(super) fn trimming_drops_what_was_read(f: &Fixture) {
    make_topic(&*f.log, "t", 2, Cleanup::default());
    for _ in 0..3 {
        put(&*f.log, "t", &[(None, None, 0); 2]);
    }
    let at = TopicPartition::new("t", 0);
    f.log.trim(&at, 3).unwrap();
    assert_eq!(f.log.bounds(&at).unwrap(), Bounds { start: 2, end: 6 });
    f.log.trim(&at, 1).unwrap();
    f.log.trim(&at, 1000).unwrap();
    assert_eq!(f.log.bounds(&at).unwrap(), Bounds { start: 6, end: 6 });
    assert_eq!(put(&*f.log, "t", &[(None, None, 0)]), 6);
    assert_eq!(offsets(&*f.log, "t"), [6]);
    assert!(matches!(f.log.trim(&TopicPartition::new("u", 0), 0), Err(TopicError::UnknownTopic(_))));
}

pub(super) fn small_appends_read_as_one(f: &Fixture) {
    make_topic(&*f.log, "t", 1, Cleanup::default());
    for n in 0..300 {
        put(&*f.log, "t", &[(Some(&n.to_string()), Some("v"), n)]);
    }
    let at = TopicPartition::new("t", 0);
    let before = f.log.read(&at, 0, ReadLimit::default()).unwrap().batch;
    assert_eq!(before.len(), 300);
    assert_eq!(&before.timestamps[..], (0..300).collect::<Vec<_>>());
    assert_eq!(f.log.clean(0).unwrap(), 0);
    assert_eq!(records(&f.log.read(&at, 0, ReadLimit::default()).unwrap().batch), records(&before));
    assert_eq!(f.log.read(&at, 150, ReadLimit::default()).unwrap().batch.keys.value(0), b"150");
}

pub(super) fn readers_and_writers_agree(f: &Fixture) {
    const COMMITS: i64 = 200;
    make_topic(&*f.log, "t", 1, Cleanup { retention_ms: Some(1 << 40), ..Cleanup::default() });
    let at = TopicPartition::new("t", 0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..COMMITS {
                    put(&*f.log, "t", &[(Some("k"), Some("first"), 0), (Some("k"), Some("second"), 0)]);
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                f.log.clean(0).unwrap();
            }
        });
        let mut from = 0;
        while from < 4 * COMMITS {
            let fetched = f.log.read(&at, from, ReadLimit { max_records: 7, max_bytes: 1 << 20 }).unwrap();
            for (offset, value) in fetched.batch.offsets.iter().zip(fetched.batch.values.iter()) {
                assert_eq!(*offset, from);
                let want: &[u8] = if from % 2 == 0 { b"first" } else { b"second" };
                assert_eq!(value.unwrap(), want, "commits do not mix");
                from += 1;
            }
            assert_eq!(fetched.next, from);
        }
        done.store(true, Ordering::SeqCst);
    });
}
