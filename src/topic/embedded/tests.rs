//! Tests of the embedded log beyond the contract: restarts, faults, torn journals, and what is on disk.
//!
//! The subtle thing they check most: whatever fails, an acknowledged commit is there afterwards, and any other is whole or absent.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;
use crate::storage::fault::{Fault, fail_nth_batch};
use crate::topic::Cleanup;
use crate::topic::contract::{Fixture, Record, append, contract_tests, entries, make_topic, outputs, read_all, store};
use crate::topic::memory::MemoryLog;

fn options() -> LogOptions {
    let storage = StorageOptions { min_free_bytes: 0, ..StorageOptions::default() };
    LogOptions { storage, ..LogOptions::default() }
}

fn open_with(dir: &Path, options: LogOptions) -> Result<Arc<EmbeddedLog>, TopicError> {
    EmbeddedLog::open(dir, options, Arc::new(ManualClock::new(0)))
}

fn open(dir: &Path) -> Arc<EmbeddedLog> {
    open_with(dir, options()).unwrap()
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(0));
    let log = EmbeddedLog::open(dir.path(), options(), clock.clone()).unwrap();
    Fixture { log, clock, _dir: Some(dir) }
}

mod contract {
    use super::{contract_tests, fixture};

    contract_tests!(fixture());
}

fn at() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// Commit number `n`: two records, a block, a position, all of which say `n`.
fn numbered(n: i64) -> Commit {
    let value = n.to_string();
    Commit {
        outputs: vec![append("t", 0, &[(Some("k"), Some(&value), n), (None, Some(&value), n)])],
        blocks: vec![(store("o", "s"), Bytes::from(value.clone()))],
        positions: vec![(Owner::new("o"), at(), Position { offset: n, consumed: 0 })],
    }
}

/// How many numbered commits are there; fails if one is not whole.
fn numbered_there(log: &EmbeddedLog) -> i64 {
    let records = read_all(log, &at());
    assert_eq!(records.len() % 2, 0, "a commit is whole");
    let count = records.len() as i64 / 2;
    for (row, record) in records.iter().enumerate() {
        let n = row as i64 / 2 + 1;
        assert_eq!((record.0, record.2.as_deref(), record.3), (row as i64, Some(&*n.to_string()), n));
    }
    let blocks: Vec<_> = log.blocks(&store("o", "s"), 0, usize::MAX).unwrap();
    assert_eq!(blocks.len() as i64, count);
    let position = log.positions(&Owner::new("o")).unwrap().get(&at()).map_or(0, |p| p.offset);
    assert_eq!(position, count);
    count
}

#[test]
fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    make_topic(&*log, "t", 1, Cleanup::default());
    make_topic(&*log, "old", 1, Cleanup { retention_ms: Some(1), ..Cleanup::default() });
    make_topic(&*log, "gone", 1, Cleanup::default());
    (1..=20).for_each(|n| drop(log.commit(numbered(n)).unwrap()));
    log.commit(outputs(vec![append("old", 0, &[(None, None, 0); 3]), append("gone", 0, &[(None, None, 0)])])).unwrap();
    assert_eq!(log.clean(100).unwrap(), 3);
    log.delete_topic(&"gone".into()).unwrap();
    log.write_behind(&store("p", "s"), vec![(Bytes::from("a"), Some(Bytes::from("1")))], 0).unwrap();
    drop(log);

    let log = open(dir.path());
    assert_eq!(numbered_there(&log), 20);
    assert_eq!(log.bounds(&TopicPartition::new("old", 0)).unwrap(), Bounds { start: 3, end: 3 });
    assert_eq!(log.topics().unwrap().len(), 2);
    assert_eq!(log.owners().unwrap(), [Owner::new("o"), Owner::new("p")]);
    assert_eq!(entries(&*log.keyed_store(&store("p", "s")).unwrap().0, "", None), ["a=1"]);
    let receipt = log.commit(numbered(21)).unwrap();
    assert_eq!((receipt.base_offsets, receipt.block_numbers), (vec![40], vec![20]));
    log.write_behind(&store("o", "s"), Vec::new(), 21).unwrap();
    drop(log);
    // With all blocks trimmed the numbers still go on.
    let log = open(dir.path());
    assert_eq!(log.commit(numbered(22)).unwrap().block_numbers, [21]);
    make_topic(&*log, "gone", 1, Cleanup::default());
    assert!(read_all(&*log, &TopicPartition::new("gone", 0)).is_empty());
}

#[test]
fn no_acknowledged_commit_is_lost_whichever_write_fails() {
    const COMMITS: i64 = 8;
    for fault in [Fault::Before, Fault::After] {
        for nth in 1..=COMMITS as u64 + 2 {
            let dir = tempfile::tempdir().unwrap();
            let mut faulty = options();
            faulty.storage.fault = Some(fail_nth_batch(nth, fault));
            let log = open_with(dir.path(), faulty).unwrap();
            let spec = TopicSpec { name: "t".into(), partitions: 1, replicas: 1, cleanup: Cleanup::default() };
            if log.create_topic(&spec).is_err() {
                assert!(matches!(log.create_topic(&spec), Err(TopicError::Poisoned(_))));
                log.reopen().unwrap();
                match fault {
                    Fault::Before => log.create_topic(&spec).unwrap(),
                    Fault::After => assert!(matches!(log.create_topic(&spec), Err(TopicError::Exists(_)))),
                }
            }
            let mut n = 1;
            while n <= COMMITS {
                if log.commit(numbered(n)).is_ok() {
                    n += 1;
                    continue;
                }
                assert!(matches!(log.commit(numbered(n)), Err(TopicError::Poisoned(_))));
                assert_eq!(log.bounds(&at()).unwrap().end, 2 * (n - 1), "readers see no failed commit");
                log.reopen().unwrap();
                let there = numbered_there(&log);
                assert_eq!(there, if fault == Fault::After { n } else { n - 1 });
                n = there + 1;
            }
            assert_eq!(numbered_there(&log), COMMITS);
            drop(log);
            assert_eq!(numbered_there(&open(dir.path())), COMMITS);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// The journal of a small log, and where each commit ends in it.
fn journal(dir: &Path) -> Vec<u8> {
    let bytes = std::fs::read(dir.join("db/0.jnl")).unwrap();
    let written = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    bytes[..written].to_vec()
}

#[test]
fn a_torn_journal_costs_only_what_was_torn() {
    const COMMITS: i64 = 3;
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    make_topic(&*log, "t", 1, Cleanup::default());
    let mut ends = vec![journal(dir.path()).len()];
    for n in 1..=COMMITS {
        log.commit(numbered(n)).unwrap();
        ends.push(journal(dir.path()).len());
    }
    let whole = journal(dir.path());
    // As a crash leaves it: copied while it is open.
    let crashed = tempfile::tempdir().unwrap();
    copy(dir.path(), crashed.path());
    for cut in (ends[0]..=whole.len()).step_by(7).chain(ends.clone()) {
        let torn = tempfile::tempdir().unwrap();
        copy(crashed.path(), torn.path());
        std::fs::write(torn.path().join("db/0.jnl"), &whole[..cut]).unwrap();
        let log = open(torn.path());
        let want = ends.iter().filter(|end| **end <= cut).count() as i64 - 1;
        let there = numbered_there(&log);
        assert_eq!(there, want, "cut at {cut} of {ends:?}");
        log.commit(numbered(there + 1)).unwrap();
        drop(log);
        assert_eq!(numbered_there(&open(torn.path())), there + 1);
    }
}

#[test]
fn a_second_opener_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let _log = open(dir.path());
    match open_with(dir.path(), options()).err() {
        Some(TopicError::Locked { pid, dir: named }) => {
            assert_eq!(pid, std::process::id().to_string());
            assert_eq!(named, dir.path().display().to_string());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    for (written, named) in [(Some("riverrun 2\n"), "2"), (Some("junk"), "junk"), (None, "none")] {
        match written {
            Some(text) => std::fs::write(dir.path().join("format"), text).unwrap(),
            None => std::fs::remove_file(dir.path().join("format")).unwrap(),
        }
        let error = open_with(dir.path(), options()).err();
        assert!(matches!(&error, Some(TopicError::Format { found, expected: 1, .. }) if found == named), "{error:?}");
    }
}

#[test]
fn an_unusable_directory_is_named_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let said = open_with(&path, options()).err().unwrap().to_string();
        assert!(said.contains(&path.display().to_string()) && said.contains("--data-dir"), "{said}");
    }
}

#[test]
fn a_full_disk_stops_commits_but_not_cleaning() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    make_topic(&*log, "t", 1, Cleanup { retention_ms: Some(0), ..Cleanup::default() });
    log.commit(numbered(1)).unwrap();
    drop(log);
    let mut full = options();
    full.storage.min_free_bytes = u64::MAX;
    let log = open_with(dir.path(), full).unwrap();
    assert!(matches!(log.commit(numbered(2)), Err(TopicError::DiskFull { limit: u64::MAX, .. })));
    assert_eq!(numbered_there(&log), 1);
    assert_eq!(log.clean(1000).unwrap(), 2);
}

/// Bytes of all files in a folder.
fn size_of(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| if e.path().is_dir() { size_of(&e.path()) } else { e.metadata().unwrap().len() }).sum()
}

/// The bytes of tables and blobs after 50 MB of text like itself were appended over memtables of 1 MiB, of which two may wait.
fn stored_bytes(pack_records: bool) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let mut small = options();
    small.storage.records_memtable_bytes = 1 << 20;
    small.storage.pack_records = pack_records;
    let log = open_with(dir.path(), small.clone()).unwrap();
    make_topic(&*log, "t", 1, Cleanup::default());
    let text = "the same text again. ".repeat(3000);
    (0..40).for_each(|n| drop(log.commit(outputs(vec![append("t", 0, &[(None, Some(&*text), n); 20])])).unwrap()));
    drop(log);
    let records = read_all(&*open_with(dir.path(), small).unwrap(), &at());
    assert!(
        records.len() == 800 && records.iter().all(|r| r.3 < 40 && r.1.is_none() && r.2.as_deref() == Some(&*text))
    );
    size_of(&dir.path().join("db/keyspaces"))
}

#[test]
fn records_are_packed_where_it_is_asked() {
    let (plain, packed) = (stored_bytes(false), stored_bytes(true));
    assert!(packed > 0 && plain > 10 * packed, "{plain} and {packed} bytes");
}

#[test]
fn a_failed_sync_poisons_until_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let mut faulty = options();
    let failures = std::sync::atomic::AtomicU64::new(1);
    faulty.storage.sync_interval = Duration::from_secs(3600);
    faulty.storage.fault = Some(Arc::new(move |write| {
        use std::sync::atomic::Ordering::SeqCst;
        let fails = write == crate::storage::fault::Write::Sync
            && failures.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok();
        fails.then_some(Fault::Before)
    }));
    let log = open_with(dir.path(), faulty).unwrap();
    make_topic(&*log, "t", 1, Cleanup::default());
    log.commit(numbered(1)).unwrap();
    assert!(matches!(log.sync(), Err(TopicError::Poisoned(_))));
    assert!(matches!(log.commit(numbered(2)), Err(TopicError::Poisoned(_))));
    log.reopen().unwrap();
    log.commit(numbered(2)).unwrap();
    log.sync().unwrap();
    assert_eq!(numbered_there(&log), 2);
}

#[test]
fn a_view_of_before_a_reopen_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let id = store("o", "s");
    log.write_behind(&id, vec![(Bytes::from("a"), Some(Bytes::from("1")))], 0).unwrap();
    let (before, _) = log.keyed_store(&id).unwrap();
    assert_eq!(before.get(b"a").unwrap(), Some(Bytes::from("1")));
    log.reopen().unwrap();
    assert!(matches!(before.get(b"a"), Err(TopicError::Poisoned(_))));
    assert_eq!(log.keyed_store(&id).unwrap().0.get(b"a").unwrap(), Some(Bytes::from("1")));
}

#[test]
fn what_was_deleted_is_removed_even_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut faulty = options();
    // Topic, commit, then the deletion itself; the fourth write would remove the records.
    faulty.storage.fault = Some(fail_nth_batch(4, Fault::Before));
    let log = open_with(dir.path(), faulty).unwrap();
    make_topic(&*log, "t", 1, Cleanup::default());
    log.commit(numbered(1)).unwrap();
    log.delete_topic(&"t".into()).unwrap();
    assert!(matches!(log.delete_topic(&"u".into()), Err(TopicError::UnknownTopic(_))));
    assert!(matches!(
        log.commit(Commit { blocks: numbered(1).blocks, ..Commit::default() }),
        Err(TopicError::Poisoned(_))
    ));
    log.reopen().unwrap();
    assert!(log.topics().unwrap().is_empty());
    let left = |log: &EmbeddedLog| log.storage.snapshot().unwrap().scan(Space::Records, &[], None).count();
    assert_eq!(left(&log), 1);
    log.clean(0).unwrap();
    assert_eq!(left(&log), 0);
}

/// The blocks of partition 0 of the only topic.
fn block_count(log: &EmbeddedLog) -> usize {
    log.storage.snapshot().unwrap().scan(Space::Records, &[], None).count()
}

#[test]
fn a_large_append_becomes_several_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), LogOptions { block_bytes: 1000, ..options() }).unwrap();
    make_topic(&*log, "t", 1, Cleanup::default());
    let value = "v".repeat(99);
    log.commit(outputs(vec![append("t", 0, &[(Some("k"), Some(&*value), 0); 95])])).unwrap();
    assert_eq!(block_count(&log), 10);
    let offsets: Vec<_> = read_all(&*log, &at()).into_iter().map(|r| r.0).collect();
    assert_eq!(offsets, (0..95).collect::<Vec<_>>());
}

#[test]
fn a_record_may_not_exceed_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), LogOptions { max_record_bytes: 10, ..options() }).unwrap();
    make_topic(&*log, "t", 1, Cleanup::default());
    let commit = |value: &str| {
        log.commit(outputs(vec![append("t", 0, &[(Some("k"), Some("v"), 0), (Some("key"), Some(value), 0)])]))
    };
    commit("1234567").unwrap();
    match commit("12345678") {
        Err(TopicError::TooLarge { size: 11, limit: 10, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(log.bounds(&at()).unwrap().end, 2);
}

#[test]
fn small_blocks_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    make_topic(&*log, "t", 1, Cleanup::default());
    (1..=300).for_each(|n| drop(log.commit(numbered(n)).unwrap()));
    assert_eq!(block_count(&log), 300);
    assert_eq!(log.clean(0).unwrap(), 0);
    assert_eq!(block_count(&log), 2);
    assert_eq!(numbered_there(&log), 300);
    (301..=310).for_each(|n| drop(log.commit(numbered(n)).unwrap()));
    log.clean(0).unwrap();
    assert_eq!(block_count(&log), 12, "a few are not worth it");
    drop(log);
    assert_eq!(numbered_there(&open(dir.path())), 310);
}

#[test]
fn compaction_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    // Memory for two keys or so at a time, so that a pass covers a part of the topic.
    let small = || LogOptions { compaction_bytes: 100, ..options() };
    let log = open_with(dir.path(), small()).unwrap();
    make_topic(&*log, "t", 1, Cleanup { compact: true, ..Cleanup::default() });
    let mut model = BTreeMap::new();
    let mut put = |log: &EmbeddedLog, n: i64| {
        let (key, value) = ((n % 7).to_string(), n.to_string());
        log.commit(outputs(vec![append("t", 0, &[(Some(&key), Some(&value), n)])])).unwrap();
        model.insert(key, value);
    };
    (0..40).for_each(|n| put(&log, n));
    while log.clean(0).unwrap() > 0 {}
    drop(log);
    let log = open_with(dir.path(), small()).unwrap();
    (40..100).for_each(|n| put(&log, n));
    for _ in 0..50 {
        log.clean(0).unwrap();
    }
    let records = read_all(&*log, &at());
    assert!(records.len() < 50, "{} records", records.len());
    let latest: BTreeMap<_, _> = records.into_iter().map(|r: Record| (r.1.unwrap(), r.2.unwrap())).collect();
    assert_eq!(latest, model);
}

/// A random append: its partition, and keys, values and times.
type RandomAppend = (i32, Vec<(Option<String>, Option<String>, i64)>);

/// What a random test does.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<RandomAppend>, i64),
    Read(i32, i64, usize, usize),
    WriteBehind(Vec<(String, Option<String>)>, u64),
    Clean,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let text = || prop::option::of("[a-c]{0,3}");
    let rows = prop::collection::vec((text(), text(), -1i64..5), 0..6);
    let step = prop_oneof![
        6 => (prop::collection::vec((0..2, rows), 0..4), 0i64..9).prop_map(|(o, p)| Step::Commit(o, p)),
        4 => (0..2, -1i64..40, 0usize..9, 0usize..40).prop_map(|(p, f, r, b)| Step::Read(p, f, r, b)),
        2 => (prop::collection::vec(("[a-c]{0,2}", text()), 0..4), 0u64..9).prop_map(|(e, n)| Step::WriteBehind(e, n)),
        1 => Just(Step::Clean),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn disk_and_memory_agree(steps in steps()) {
        let Fixture { log, clock, _dir } = fixture();
        let memory = MemoryLog::new(clock);
        let both: [&dyn Log; 2] = [&*log, &*memory];
        both.iter().for_each(|log| make_topic(*log, "t", 2, Cleanup::default()));
        let id = store("o", "s");
        for step in steps {
            let [disk, memory] = both.map(|log| run(log, &step, &id));
            prop_assert_eq!(disk, memory);
        }
    }
}

/// Does one step; gives what can be seen of it.
fn run(log: &dyn Log, step: &Step, id: &StoreId) -> String {
    match step {
        Step::Commit(appends, position) => {
            let appends = appends.iter().map(|(partition, rows)| {
                let rows: Vec<_> = rows.iter().map(|(k, v, t)| (k.as_deref(), v.as_deref(), *t)).collect();
                append("t", *partition, &rows)
            });
            let commit = Commit {
                outputs: appends.collect(),
                blocks: vec![(id.clone(), Bytes::from(position.to_string()))],
                positions: vec![(id.owner.clone(), at(), Position { offset: *position, consumed: 1 })],
            };
            format!("{:?}", log.commit(commit).unwrap())
        }
        Step::Read(partition, from, max_records, max_bytes) => {
            let limit = ReadLimit { max_records: *max_records, max_bytes: *max_bytes };
            let Fetched { batch, next, end } = log.read(&TopicPartition::new("t", *partition), *from, limit).unwrap();
            format!("{:?} {next} {end}", crate::topic::RawBatch { arrivals: None, ..batch })
        }
        Step::WriteBehind(writes, next_block) => {
            let writes = writes.iter().map(|(k, v)| (k.clone().into(), v.clone().map(Bytes::from))).collect();
            log.write_behind(id, writes, *next_block).unwrap();
            let (snapshot, held) = log.keyed_store(id).unwrap();
            format!("{:?} {held} {:?}", entries(&*snapshot, "", None), log.blocks(id, 0, 9).unwrap())
        }
        Step::Clean => log.clean(0).unwrap().to_string(),
        Step::Reopen => {
            log.reopen().unwrap();
            format!("{:?} {:?}", log.positions(&id.owner).unwrap(), log.bounds(&at()).unwrap())
        }
    }
}
