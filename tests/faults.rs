//! A disk that fails, through the whole engine: each write once, a full disk, a torn journal, another format.
//!
//! What must hold: no acknowledged row is lost or doubled, a refused statement leaves nothing, queries go on from their last commit without
//! help. The subtle thing: a row whose INSERT failed may be there or not, but if it is, then everywhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use riverrun::clock::SystemClock;
use riverrun::engine::{Engine, EngineConfig};
use riverrun::storage::fault::{Fault, FaultHook, Write};
use riverrun::topic::Log;
use riverrun::topic::embedded::{EmbeddedLog, LogOptions};
use riverrun::topic::memory::MemoryLog;

use crate::simulation::faulty_log::{self, FaultyLog};

const SOURCE: &str = "CREATE STREAM s (k STRING KEY, n INT) WITH (KAFKA_TOPIC='s', VALUE_FORMAT='JSON', PARTITIONS=1);";
const COPY: &str = "CREATE STREAM o WITH (KAFKA_TOPIC='o') AS SELECT k, n FROM s;";
const COUNT: &str = "CREATE TABLE c WITH (KAFKA_TOPIC='c') AS SELECT k, COUNT(*) AS n FROM s GROUP BY k;";

fn options(fault: Option<FaultHook>) -> LogOptions {
    let mut options = LogOptions::default();
    (options.storage.fault, options.storage.min_free_bytes) = (fault, 0);
    options
}

fn log(dir: &Path, options: LogOptions) -> Arc<dyn Log> {
    EmbeddedLog::open(dir, options, Arc::new(SystemClock)).unwrap_or_else(|e| panic!("{e}"))
}

/// An engine whose tables write behind after every commit; with `workers`, or driven by hand.
fn engine(log: Arc<dyn Log>, workers: Option<usize>) -> Result<Engine, String> {
    let properties = [
        ("auto.offset.reset", "earliest"),
        ("cache.max.bytes.buffering", "0"),
        ("state.changelog.max.bytes", "100"),
        ("ksql.query.retry.backoff.initial.ms", "1"),
    ];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let config = EngineConfig { log: Some(log), properties, manual: workers.is_none(), workers, ..Default::default() };
    Engine::open(config).map_err(|e| e.to_string())
}

fn execute(engine: &Engine, text: &str) -> Result<(), String> {
    engine.session().execute(text).map(drop).map_err(|e| format!("{text}: {}", e.diagnostic.message))
}

fn insert(engine: &Engine, n: i64) -> Result<(), String> {
    execute(engine, &format!("INSERT INTO s VALUES ('k{}', {n});", n % 3))
}

/// Drives all queries by hand; the first reason why one does not get on.
fn pump(engine: &Engine) -> Result<(), String> {
    let ids: Vec<_> = engine.runtime().statuses().into_iter().map(|s| s.id).collect();
    ids.iter().try_for_each(|id| engine.runtime().pump(id, &|_| None).map_err(|e| e.to_string()))
}

/// The same, until all of them got on.
fn pump_through(engine: &Engine) {
    let tries: Vec<_> = (0..5).map_while(|_| pump(engine).err()).collect();
    assert!(tries.len() < 5, "queries do not resume: {tries:#?}");
}

/// Key and N of each record of a topic.
fn rows(engine: &Engine, topic: &str) -> Vec<(String, i64)> {
    let page = engine.read(topic, 0, 0, 100_000).unwrap_or_else(|e| panic!("{e}"));
    let row = |record: riverrun::engine::records::ReadRecord| {
        let json: serde_json::Value = serde_json::from_slice(&record.value.expect("no row goes")).expect("is JSON");
        (String::from_utf8(record.key.expect("a key")).expect("text"), json["N"].as_i64().expect("a number"))
    };
    page.records.into_iter().map(row).collect()
}

/// The rows are those acknowledged, and some of the refused ones; the queries have made of them what they should.
fn check(engine: &Engine, acknowledged: &[i64], refused: &[i64]) {
    let source = rows(engine, "s");
    let numbers: Vec<i64> = source.iter().map(|(_, n)| *n).collect();
    let sure: Vec<i64> = numbers.iter().copied().filter(|n| !refused.contains(n)).collect();
    assert_eq!(sure, acknowledged, "no acknowledged row is lost, doubled or moved");
    assert!(numbers.is_sorted_by(|a, b| a < b), "a refused row is there once at most: {numbers:?}");
    assert_eq!(rows(engine, "o"), source, "the copy has what the source has");
    let mut counts = BTreeMap::new();
    source.iter().for_each(|(k, _)| *counts.entry(k.clone()).or_insert(0) += 1);
    assert_eq!(rows(engine, "c").into_iter().collect::<BTreeMap<_, _>>(), counts, "the table counts each row once");
}

#[derive(Default)]
struct Told {
    acknowledged: Vec<i64>,
    refused: Vec<i64>,
}

impl Told {
    fn insert(&mut self, engine: &Engine, n: i64) {
        match insert(engine, n) {
            Ok(()) => self.acknowledged.push(n),
            Err(_) => self.refused.push(n),
        }
    }
}

/// Statements, rows, queries; a refused statement is said again.
fn work(engine: &Engine) -> Told {
    let say = |text: &str| execute(engine, text).or_else(|_| execute(engine, text)).unwrap_or_else(|e| panic!("{e}"));
    let mut told = Told::default();
    say(SOURCE);
    (0..3).for_each(|n| told.insert(engine, n));
    say(COPY);
    say(COUNT);
    for n in 3..9 {
        told.insert(engine, n);
        let _ = pump(engine);
    }
    say("CREATE STREAM gone WITH (KAFKA_TOPIC='gone') AS SELECT * FROM o;");
    say(&format!(
        "TERMINATE {};",
        engine.catalog().queries().find(|q| q.id.as_str().contains("GONE")).expect("is there").id
    ));
    say("DROP STREAM gone DELETE TOPIC;");
    told
}

/// True if the `n`-th write was reached.
fn one_write_fails(n: u64, fault: Fault) -> bool {
    let dir = tempfile::tempdir().expect("a folder");
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    let hook: FaultHook = Arc::new(move |_| (counted.fetch_add(1, Ordering::SeqCst) + 1 == n).then_some(fault));
    let first = engine(log(dir.path(), options(Some(hook.clone()))), None);
    // a start that fails is tried again, by whoever starts the process
    let engine_now =
        first.or_else(|_| engine(log(dir.path(), options(Some(hook))), None)).unwrap_or_else(|e| panic!("{e}"));
    let told = work(&engine_now);
    pump_through(&engine_now);
    check(&engine_now, &told.acknowledged, &told.refused);
    assert!(told.refused.len() <= 1, "one write failed: {:?}", told.refused);
    assert!(engine_now.log().describe(&"gone".into()).unwrap().is_none());
    drop(engine_now);
    let again = engine(log(dir.path(), options(None)), None).unwrap_or_else(|e| panic!("{e}"));
    let names: Vec<_> = again.catalog_names().into_iter().map(|(name, _)| name).filter(|n| n.len() == 1).collect();
    assert_eq!(names, ["C", "O", "S"]);
    pump_through(&again);
    check(&again, &told.acknowledged, &told.refused);
    count.load(Ordering::SeqCst) >= n
}

#[test]
fn whichever_write_fails_nothing_acknowledged_is_lost_and_queries_resume() {
    for fault in [Fault::Before, Fault::After] {
        let writes = (1..).find(|&n| {
            std::panic::catch_unwind(|| !one_write_fails(n, fault))
                .unwrap_or_else(|_| panic!("write {n} fails: {fault:?}"))
        });
        assert!(writes.is_some_and(|n| n > 30), "the workload writes: {writes:?}");
    }
}

/// Waits for what workers do.
fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn a_write_of_no_task_that_poisons_the_log_opens_it_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let fails = Arc::new(AtomicBool::new(false));
    let asked = fails.clone();
    let hook: FaultHook =
        Arc::new(move |write| (write == Write::Batch && asked.swap(false, Ordering::SeqCst)).then_some(Fault::Before));
    let engine = engine(log(dir.path(), options(Some(hook))), Some(1)).unwrap();
    [SOURCE, COPY, COUNT].iter().for_each(|text| execute(&engine, text).unwrap());
    insert(&engine, 0).unwrap();
    wait("the first row comes", || rows(&engine, "c").len() == 1);
    engine.wait_idle(Some(Duration::from_secs(60))).unwrap();
    fails.store(true, Ordering::SeqCst);
    assert!(insert(&engine, 1).unwrap_err().contains("stopped after a failed write"));
    assert!(engine.log().writable().is_ok(), "nobody else writes, so the INSERT opens it");
    let pull = |k: &str| {
        let told = engine.session().execute(&format!("SELECT n FROM c WHERE k = '{k}';"));
        told.is_ok()
    };
    wait("idle tables are read again", || pull("k0"));
    fails.store(true, Ordering::SeqCst);
    execute(&engine, "CREATE STREAM x (v INT) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON', PARTITIONS=1);").unwrap_err();
    assert!(engine.log().describe(&"x".into()).unwrap().is_none(), "a refused statement leaves no topic");
    insert(&engine, 2).unwrap();
    wait("queries go on", || rows(&engine, "o").len() == 2 && rows(&engine, "c").len() == 2);
    check(&engine, &[0, 2], &[]);
}

#[test]
fn a_command_whose_write_failed_is_looked_up_before_anything_is_undone() {
    for (fault, there) in [(faulty_log::Fault::CommitAfter, true), (faulty_log::Fault::CommitBefore, false)] {
        for failing_opens in [0, 2] {
            let log = FaultyLog::new(MemoryLog::new(Arc::new(SystemClock)));
            let engine_now = engine(log.clone(), None).unwrap();
            log.arm(fault, 0, failing_opens);
            let told = execute(&engine_now, SOURCE);
            assert_eq!(told.is_ok(), there && failing_opens == 0, "{told:?}");
            if failing_opens > 0 {
                assert!(told.unwrap_err().contains("not known yet"), "its fate cannot be asked");
                assert!(log.describe(&"s".into()).unwrap().is_some(), "so nothing is undone");
            }
            // settles it
            let copied = execute(&engine_now, COPY);
            assert_eq!(copied.is_ok(), there, "{copied:?}");
            assert_eq!(log.describe(&"s".into()).unwrap().is_some(), there);
            let before = engine_now.catalog_names();
            drop(engine_now);
            assert_eq!(engine(log, None).unwrap().catalog_names(), before, "the next start finds the same");
        }
    }
}

/// A small file system of its own; `None` where this user may not mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        let size = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        if mount.is_ok_and(|m| m.status.success()) {
            return Some(Self(dir));
        }
        println!("skipped: a small file system cannot be mounted here");
        None
    }

    fn data(&self) -> std::path::PathBuf {
        self.0.path().join("data")
    }

    /// Takes space until `bytes` or nothing are left.
    fn fill(&self, bytes: u64) {
        use std::io::Write;
        let mut file = fs::File::create(self.0.path().join("filler")).expect("a file");
        let free = || rustix::fs::statvfs(self.0.path()).map(|s| s.f_bavail * s.f_frsize).expect("a disk");
        while free() > bytes && file.write_all(&[0; 4096]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("filler")).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[test]
fn below_the_least_free_space_queries_stop_with_the_reason_and_resume() {
    let Some(disk) = SmallDisk::mount("128m") else { return };
    let mut options = options(None);
    options.storage.min_free_bytes = 16 << 20;
    let engine = engine(log(&disk.data(), options), None).unwrap();
    [SOURCE, COPY, COUNT].iter().for_each(|text| execute(&engine, text).unwrap());
    (0..10).for_each(|n| insert(&engine, n).unwrap());
    disk.fill(8 << 20);
    assert!(insert(&engine, 10).unwrap_err().contains("storage.min.free.bytes"));
    assert!(pump(&engine).unwrap_err().contains("storage.min.free.bytes"));
    let statuses = engine.runtime().statuses();
    let told = statuses.iter().flat_map(|s| &s.errors).any(|e| e.message.contains("storage.min.free.bytes"));
    assert!(told, "the reason stands in the status");
    assert!(rows(&engine, "o").is_empty());
    disk.free();
    pump_through(&engine);
    check(&engine, &(0..10).collect::<Vec<_>>(), &[]);
}

#[test]
fn a_disk_with_no_byte_left_loses_nothing_acknowledged() {
    let Some(disk) = SmallDisk::mount("128m") else { return };
    let engine_now = engine(log(&disk.data(), options(None)), None).unwrap();
    [SOURCE, COPY, COUNT].iter().for_each(|text| execute(&engine_now, text).unwrap());
    let mut told = Told::default();
    (0..10).for_each(|n| told.insert(&engine_now, n));
    disk.fill(0);
    let mut n = 10;
    while told.refused.is_empty() && n < 20_000 {
        told.insert(&engine_now, n);
        n += 1;
    }
    assert!(!told.refused.is_empty(), "the disk is full");
    disk.free();
    (n..n + 10).for_each(|n| told.insert(&engine_now, n));
    pump_through(&engine_now);
    check(&engine_now, &told.acknowledged, &told.refused);
    assert!(told.acknowledged.contains(&(n + 9)), "writes go on");
    drop(engine_now);
    let again = engine(log(&disk.data(), options(None)), None).unwrap();
    pump_through(&again);
    check(&again, &told.acknowledged, &told.refused);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|e| e.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file is copied");
        }
    }
}

#[test]
fn a_torn_or_garbled_journal_keeps_what_was_synced() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut unsynced = options(None);
    unsynced.storage.sync_interval = Duration::from_secs(3600);
    let engine_now = engine(log(dir.path(), unsynced), None).unwrap();
    [SOURCE, COPY, COUNT].iter().for_each(|text| execute(&engine_now, text).unwrap());
    (0..10).for_each(|n| insert(&engine_now, n).unwrap());
    pump(&engine_now).unwrap();
    engine_now.log().sync().unwrap();
    let journal = |dir: &Path| dir.join("db/0.jnl");
    let content = |dir: &Path| {
        let bytes = fs::read(journal(dir)).expect("a journal");
        let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        (bytes, used)
    };
    let (_, synced) = content(dir.path());
    (10..30).for_each(|n| insert(&engine_now, n).unwrap());
    pump(&engine_now).unwrap();
    let (whole, used) = content(dir.path());
    assert!(used > synced + 100, "the journal grew: {synced} {used}");
    let mut lengths = std::collections::BTreeSet::new();
    for step in 0..24 {
        let at = synced + (used - synced) * step / 24;
        let torn = tempfile::tempdir().expect("a folder");
        // the files as a kill leaves them, and the end of the journal as a power cut may
        copy_folder(dir.path(), torn.path());
        let mut bytes = whole.clone();
        if step % 2 == 0 {
            bytes.truncate(at)
        } else {
            bytes[at] ^= 0x55
        }
        fs::write(journal(torn.path()), bytes).expect("a journal");
        let log: Arc<dyn Log> = match EmbeddedLog::open(torn.path(), options(None), Arc::new(SystemClock)) {
            Ok(log) => log,
            // other bytes than were written are no torn end: nothing is guessed
            Err(error) => {
                assert!(step % 2 == 1 && error.to_string().contains("stored data is damaged"), "{at}: {error}");
                continue;
            }
        };
        let again = engine(log, None).unwrap_or_else(|e| panic!("torn at {at} of {synced}..{used}: {e}"));
        pump_through(&again);
        let there = rows(&again, "s").len() as i64;
        assert!(there >= 10, "torn at {at} of {synced}..{used}: {there} rows are left");
        check(&again, &(0..there).collect::<Vec<_>>(), &[]);
        insert(&again, 100).unwrap();
        lengths.insert(there);
    }
    assert!(lengths.len() > 3, "the cuts differ: {lengths:?}");
}

#[test]
fn a_data_directory_of_another_format_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let open = || {
        let config = EngineConfig { data_dir: Some(dir.path().to_owned()), manual: true, ..EngineConfig::default() };
        Engine::open(config).map(drop).map_err(|e| e.message)
    };
    open().unwrap();
    fs::write(dir.path().join("format"), "riverrun 99\n").expect("a file");
    let error = open().unwrap_err();
    for part in ["has format 99", "reads format 1", "use the release that wrote it", &dir.path().display().to_string()]
    {
        assert!(error.contains(part), "'{part}' is not in {error}");
    }
    fs::write(dir.path().join("format"), "riverrun 1\n").expect("a file");
    open().unwrap();
}
