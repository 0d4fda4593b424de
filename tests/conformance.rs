//! The query cases of the folder that `RIVERRUN_CONFORMANCE` names: the score against its floor, every mode, altered expectations.
//!
//! Without the variable nothing is checked, and the tests say so. The subtle thing: `conformance-floor.txt` is a ratchet; when the score
//! rises, raise the floor in the same change (the failing test prints the numbers).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{env, fs};

use riverrun::sqltest::{Batching, Options, Report, run};
use serde_json::{Value, json};

const FLOOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance-floor.txt");

/// The folder of query cases, if there is one.
fn folder() -> Option<PathBuf> {
    let Some(root) = env::var_os("RIVERRUN_CONFORMANCE") else {
        println!("conformance: not checked (RIVERRUN_CONFORMANCE is not set)");
        return None;
    };
    Some(Path::new(&root).join("query"))
}

fn score(folder: &Path, batching: Batching, restart: bool, only: Option<BTreeSet<String>>) -> Report {
    let options = Options { batching, restart, only, seed: 1, ..Options::default() };
    run(&[folder.to_owned()], &options).unwrap_or_else(|e| panic!("{e}"))
}

/// One run with a record at a time, which all tests look at.
fn one_by_one(folder: &Path) -> &'static Report {
    static REPORT: OnceLock<Report> = OnceLock::new();
    REPORT.get_or_init(|| score(folder, Batching::One, false, None))
}

fn passing(report: &Report) -> BTreeSet<String> {
    report.cases.iter().filter(|c| c.failure.is_none()).map(|c| c.name.clone()).collect()
}

/// `positives N` and `refusals N`.
fn floor() -> (usize, usize) {
    let text = fs::read_to_string(FLOOR).unwrap_or_else(|e| panic!("{FLOOR}: {e}"));
    let number = |word: &str| {
        let line =
            text.lines().find_map(|l| l.strip_prefix(word)).unwrap_or_else(|| panic!("{FLOOR}: no line '{word} N'"));
        line.trim().parse().unwrap_or_else(|e| panic!("{FLOOR}: {line}: {e}"))
    };
    (number("positives "), number("refusals "))
}

#[test]
fn the_score_never_falls() {
    let Some(folder) = folder() else { return };
    let report = one_by_one(&folder);
    let (positives, refusals) = floor();
    println!("conformance: positives {:?}, refusals {:?}", report.positives, report.refusals);
    assert!(
        report.positives.0 >= positives && report.refusals.0 >= refusals,
        "the score fell: positives {} (floor {positives}), refusals {} (floor {refusals}); \
         `riverrun test` on the conformance folder shows what fails",
        report.positives.0,
        report.refusals.0
    );
    assert!(
        report.positives.0 <= positives + 5 && report.refusals.0 <= refusals + 5,
        "the score rose: write positives {} and refusals {} to {FLOOR}",
        report.positives.0,
        report.refusals.0
    );
}

#[test]
fn passing_cases_pass_in_every_mode() {
    let Some(folder) = folder() else { return };
    let names = passing(one_by_one(&folder));
    for (batching, restart) in [
        (Batching::Whole, false),
        (Batching::Random, false),
        (Batching::One, true),
        (Batching::Whole, true),
        (Batching::Random, true),
    ] {
        let report = score(&folder, batching, restart, Some(names.clone()));
        let failed = report.failures();
        let shown = failed.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        assert!(
            failed.is_empty(),
            "{batching:?}, restart {restart}: {} of {} failed\n{shown}",
            failed.len(),
            names.len()
        );
    }
}

/// What is changed in the copy of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Value,
    Key,
    Timestamp,
    Less,
    More,
    Accepted,
}

impl Change {
    const OF_RECORDS: [Self; 5] = [Self::Value, Self::Key, Self::Timestamp, Self::Less, Self::More];

    /// Makes the change; false if the case has nothing to change in this way.
    fn make(self, case: &mut Value) -> bool {
        let no_inputs = case["inputs"].as_array().is_none_or(Vec::is_empty);
        let Some(outputs) = case.get_mut("outputs").and_then(Value::as_array_mut) else { return false };
        let middle = outputs.len() / 2;
        match self {
            Self::Value => outputs.get_mut(middle).map(|o| alter(&mut o["value"])).is_some(),
            Self::Key => outputs.get_mut(middle).map(|o| alter(&mut o["key"])).is_some(),
            Self::Timestamp => {
                let Some(time) = outputs.get_mut(middle).and_then(|o| o.get_mut("timestamp")) else { return false };
                let Some(now) = time.as_i64().filter(|t| !(no_inputs && *t == -1)) else { return false };
                *time = json!(now + 1);
                true
            }
            Self::Less => {
                // an intermediate topic that no record is expected of is not looked at
                let topics: Vec<Value> = outputs.iter().map(|o| o["topic"].clone()).collect();
                let looked_at =
                    |t: &Value| topics.iter().all(|u| u == t) || topics.iter().filter(|u| *u == t).count() > 1;
                let Some(at) = topics.iter().position(looked_at) else { return false };
                outputs.remove(at);
                true
            }
            Self::More => {
                let Some(last) = outputs.last().cloned() else { return false };
                outputs.push(last);
                true
            }
            Self::Accepted => false,
        }
    }
}

/// Changes one leaf.
fn alter(value: &mut Value) {
    match value {
        Value::Object(fields) if !fields.is_empty() => alter(fields.values_mut().next().expect("not empty")),
        Value::Array(items) if !items.is_empty() => alter(&mut items[0]),
        Value::Object(fields) => {
            fields.insert("ALTERED".to_owned(), json!(1));
        }
        Value::Array(items) => items.push(json!(1)),
        Value::Null => *value = json!("altered"),
        Value::Bool(flag) => *value = json!(!*flag),
        Value::Number(number) => *value = altered_number(&number.to_string()),
        Value::String(text) => text.push('x'),
    }
}

/// Another number of the same scale: its first digit is another.
fn altered_number(text: &str) -> Value {
    let at = text.find(|c: char| c.is_ascii_digit()).expect("a number has digits");
    let digit = if &text[at..=at] == "7" { "8" } else { "7" };
    let other = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
    serde_json::from_str(&other).unwrap_or_else(|e| panic!("{other}: {e}"))
}

/// A copy of a case with one thing changed; which one goes round, so that all kinds occur.
fn altered(case: &Value, round: usize) -> Option<(Change, Value)> {
    if case.get("expectedError").is_some() {
        let mut copy = case.clone();
        copy.as_object_mut().expect("a case is an object").remove("expectedError");
        return Some((Change::Accepted, copy));
    }
    let kinds = Change::OF_RECORDS;
    (0..kinds.len()).find_map(|step| {
        let change = kinds[(round + step) % kinds.len()];
        let mut copy = case.clone();
        change.make(&mut copy).then_some((change, copy))
    })
}

#[test]
fn a_case_with_one_expectation_changed_fails() {
    let Some(folder) = folder() else { return };
    let names = passing(one_by_one(&folder));
    let copies = tempfile::tempdir().expect("a folder for the copies");
    let (mut made, mut lines, mut kinds) = (0, String::new(), Vec::new());
    let mut files: Vec<_> =
        fs::read_dir(&folder).expect("the folder is there").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    for file in files {
        for line in fs::read_to_string(&file).expect("is text").lines() {
            let case: Value = serde_json::from_str(line).expect("is JSON");
            if !case["name"].as_str().is_some_and(|name| names.contains(name)) {
                continue;
            }
            let Some((change, copy)) = altered(&case, made) else { continue };
            kinds.push(change);
            lines.push_str(&format!("{copy}\n"));
            made += 1;
        }
    }
    assert!(Change::OF_RECORDS.iter().all(|kind| kinds.contains(kind)), "not every kind of change was made");
    fs::write(copies.path().join("copies.jsonl"), lines).expect("the copies are written");
    let report = score(copies.path(), Batching::One, false, None);
    let blind: Vec<_> = report
        .cases
        .iter()
        .zip(&kinds)
        .filter(|(case, _)| case.failure.is_none())
        .map(|(case, kind)| format!("{} ({kind:?})", case.name))
        .collect();
    assert!(blind.is_empty(), "{} of {made} changes were not seen: {}", blind.len(), blind.join("; "));
}
