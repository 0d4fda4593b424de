//! Backup, restore and check over an engine that did something, and over what is left of one that was damaged.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::engine::{EngineConfig, Session};

fn engine(dir: &Path) -> Engine {
    let properties = [("storage.min.free.bytes".to_owned(), "0".to_owned())].into();
    let config =
        EngineConfig { data_dir: Some(dir.to_owned()), properties, workers: Some(1), ..EngineConfig::default() };
    Engine::open(config).unwrap_or_else(|e| panic!("{e}"))
}

fn execute(session: &mut Session, text: &str) {
    session.execute(text).unwrap_or_else(|e| panic!("{text}: {}", e.diagnostic));
}

/// An engine with a stream, a table over it, and rows consumed.
fn filled(dir: &Path) -> Engine {
    let engine = engine(dir);
    let mut session = engine.session();
    execute(
        &mut session,
        "CREATE STREAM s (k INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON', partitions = 2);",
    );
    execute(&mut session, "CREATE TABLE t AS SELECT k, SUM(v) AS n FROM s GROUP BY k;");
    for k in 0..40 {
        execute(&mut session, &format!("INSERT INTO s VALUES ({}, {k});", k % 7));
    }
    engine.wait_idle(None).unwrap();
    engine
}

fn rows(engine: &Engine) -> Vec<String> {
    let mut session = engine.session();
    let mut outcomes = session.execute("SELECT * FROM t;").unwrap_or_else(|e| panic!("{}", e.diagnostic));
    let crate::engine::OutcomeKind::Rows(rows) = &mut outcomes[0].kind else { panic!("rows") };
    let mut found = Vec::new();
    while let crate::engine::NextRows::Batch { batch, .. } = rows.source.next(std::time::Duration::from_secs(60)) {
        found.extend(
            (0..batch.num_rows())
                .map(|i| format!("{:?}", batch.columns().iter().map(|c| c.slice(i, 1)).collect::<Vec<_>>())),
        );
    }
    found.sort();
    found
}

fn checked(dir: &Path) -> CheckReport {
    check(dir, &Config::default()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_backup_of_a_running_engine_restores_to_the_same_tables() {
    let root = tempfile::tempdir().unwrap();
    let running = filled(&root.path().join("a"));
    let mut copy = Vec::new();
    running.backup(&mut copy).unwrap();
    let before = rows(&running);
    assert_eq!(before.len(), 7);
    execute(&mut running.session(), "INSERT INTO s VALUES (100, 1);");
    let refused = backup(&root.path().join("a"), &mut Vec::new()).unwrap_err();
    assert!(refused.message.contains("in use") && refused.help.unwrap().contains("--server"), "{}", refused.message);
    let dir = root.path().join("b");
    restore(&mut copy.as_slice(), &dir).unwrap();
    let report = checked(&dir);
    assert_eq!(report.problems, Vec::<String>::new());
    assert!(report.records >= 40 && report.stores >= 1 && report.positions >= 2, "{report:?}");
    let restored = engine(&dir);
    restored.wait_idle(None).unwrap();
    assert_eq!(rows(&restored), before);
    execute(&mut restored.session(), "INSERT INTO s VALUES (0, 1000);");
    restored.wait_idle(None).unwrap();
    assert_ne!(rows(&restored), before, "its queries go on");
}

#[test]
fn a_closed_directory_is_copied_byte_for_byte() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a");
    filled(&dir).close().unwrap();
    let (mut copy, mut again) = (Vec::new(), Vec::new());
    backup(&dir, &mut copy).unwrap();
    let other = root.path().join("b");
    restore(&mut copy.as_slice(), &other).unwrap();
    backup(&other, &mut again).unwrap();
    assert!(copy == again, "a copy of the copy is the copy");
}

#[test]
fn what_is_no_data_directory_is_said_to_be_none() {
    let root = tempfile::tempdir().unwrap();
    for dir in [root.path().to_owned(), root.path().join("nowhere")] {
        let error = check(&dir, &Config::default()).unwrap_err();
        assert!(error.message.contains("there is no data directory"), "{}", error.message);
        assert!(backup(&dir, &mut Vec::new()).is_err());
    }
    let dir = root.path().join("old");
    filled(&dir).close().unwrap();
    fs::write(dir.join("format"), "riverrun 99\n").unwrap();
    let error = check(&dir, &Config::default()).unwrap_err();
    assert!(error.message.contains("has format 99"), "{}", error.message);
}

#[test]
fn a_command_that_does_not_apply_is_found() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a");
    let engine = filled(&dir);
    let commands = CommandLog::open(engine.log().clone(), engine.service_id()).unwrap();
    let bad = |text: &str| crate::engine::command_log::Command::new(text.into(), [].into(), [].into(), 9, vec![]);
    commands.append(&bad("DROP STREAM nowhere;")).unwrap();
    commands.append(&bad("CREATE TABLE u AS SELECT k, COUNT(*) AS n FROM s GROUP BY k;")).unwrap();
    engine.close().unwrap();
    drop((engine, commands));
    let problems = checked(&dir).problems;
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("command 2") && problems[0].contains("NOWHERE does not exist"), "{problems:?}");
    assert!(problems[1].contains("gives other stores"), "{problems:?}");
}

/// Files of the database that hold much.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() { found.extend(files(&entry)) } else { found.push(entry) }
    }
    found
}

/// A flipped byte anywhere in the files is found, is harmless (nothing else is read there), or keeps the directory shut; it never
/// passes as good with other rows in it.
#[test]
fn a_flipped_byte_is_found_or_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a");
    filled(&dir).close().unwrap();
    let mut good = Vec::new();
    backup(&dir, &mut good).unwrap();
    let victims: Vec<_> = files(&dir.join("db")).into_iter().filter(|f| fs::metadata(f).unwrap().len() > 0).collect();
    let mut found = 0;
    for victim in victims {
        let bytes = fs::read(&victim).unwrap();
        let written = bytes.iter().rposition(|b| *b != 0).unwrap_or(0) + 1;
        for step in 0..3 {
            let other = root.path().join("b");
            copy_folder(&dir, &other);
            let mut damaged = bytes.clone();
            damaged[written * (2 * step + 1) / 6] ^= 0x10;
            write_sparse(&other.join(victim.strip_prefix(&dir).unwrap()), &damaged);
            match check(&other, &Config::default()) {
                Err(_) => found += 1,
                Ok(report) if !report.problems.is_empty() => found += 1,
                Ok(_) => {
                    let mut copy = Vec::new();
                    backup(&other, &mut copy).unwrap();
                    let torn = copy.len() < good.len() && victim.extension().is_some_and(|e| e == "jnl");
                    assert!(copy == good || torn, "{} at {step} passes as good", victim.display());
                }
            }
            fs::remove_dir_all(&other).unwrap();
        }
    }
    assert!(found > 10, "{found}");
}

/// Journals are made long in advance; what nobody wrote there is not written here.
fn write_sparse(path: &Path, bytes: &[u8]) {
    let written = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    fs::write(path, &bytes[..written]).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_len(bytes.len() as u64).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|e| e.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            write_sparse(&target, &fs::read(entry.path()).unwrap());
        }
    }
}
