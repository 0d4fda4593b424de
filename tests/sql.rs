//! `riverrun test` on our own `.sql` files in every mode, and the runner on files that are wrong.
//!
//! The files in `tests/sql/` say what the product does, in its own language. The subtle thing: a runner that finds no fault proves nothing, so
//! here are tests that must fail, with what is printed of them.

use std::fs;
use std::path::{Path, PathBuf};

use riverrun::sqltest::{Batching, Options, Report, TestOptions, command, run};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql")
}

#[test]
fn our_tests_pass_in_every_mode() {
    for batching in [Batching::One, Batching::Whole, Batching::Random] {
        for restart in [false, true] {
            let options = Options { batching, restart, seed: 1, ..Options::default() };
            let report = run(&[folder()], &options).unwrap_or_else(|e| panic!("{e}"));
            let failed = report.failures();
            assert!(failed.is_empty(), "{batching:?}, restart {restart}\n{}", failed.join("\n"));
            assert!(report.positives.0 > 20 && report.refusals.0 > 10, "there are tests");
        }
    }
}

/// Runs a text as a test file; gives the report and what is printed.
fn printed(text: &str) -> (Report, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("t.sql");
    fs::write(&file, text).expect("the file is written");
    let report = run(&[file.clone()], &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    let args = TestOptions { paths: vec![file], ..TestOptions::default() };
    let mut out = Vec::new();
    let passed = command(&args, &mut out).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(passed, report.passed());
    let place = format!("{}/", folder.path().display());
    (report, String::from_utf8(out).expect("is text").replace(&place, ""))
}

const STREAM: &str = "--@test: t
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE STREAM o AS SELECT id, UCASE(v) AS u FROM s;
INSERT INTO s (ROWTIME, id, v) VALUES (10, 1, 'a');
";

#[test]
fn a_wrong_value_is_shown_below_the_expected_one() {
    let (_, text) = printed(&format!("{STREAM}ASSERT VALUES o (id, u) VALUES (1, 'B');\n"));
    let want = "FAILED t/t (t.sql:1)
  Expected record does not match actual.
              ROWTIME  ID  U
    EXPECTED           1   'B'
    ACTUAL    10       1   'A'
    at t.sql:5: ASSERT VALUES o (id, u) VALUES (1, 'B');
positives 0/1, refusals 0/0
";
    assert_eq!(text, want);
}

#[test]
fn every_part_of_an_assertion_counts() {
    let fails = |assert: &str, headline: &str| {
        let (report, text) = printed(&format!("{STREAM}{assert}\n"));
        assert_eq!(report.positives, (0, 1), "{assert}");
        assert!(text.contains(headline), "{assert}\n{text}");
    };
    let differs = "Expected record does not match actual.";
    fails("ASSERT VALUES o (id) VALUES (2);", differs);
    fails("ASSERT VALUES o (ROWTIME) VALUES (11);", differs);
    fails("ASSERT VALUES o VALUES (1, NULL);", differs);
    fails("ASSERT NULL VALUES o (id) KEY (1);", differs);
    fails("ASSERT VALUES o VALUES (1);", "a value is needed for each column: 2 columns (ID, U), 1 values");
    fails("ASSERT VALUES o (w) VALUES (1);", "O has no column W");
    fails("ASSERT VALUES nowhere (w) VALUES (1);", "NOWHERE does not exist");
    fails(
        "ASSERT VALUES o VALUES (1, 'A'); ASSERT VALUES o VALUES (1, 'A');",
        "Expected another record, but all records have already been read.",
    );
    let declared = |columns: &str, with: &str| format!("ASSERT STREAM o ({columns}) WITH (kafka_topic = 'O', {with});");
    fails(
        &declared("id INT KEY, u INT", "value_format = 'JSON'"),
        "Expected schema does not match actual for source O.",
    );
    fails(
        &declared("id INT KEY, u STRING", "value_format = 'DELIMITED'"),
        "Expected value format does not match actual",
    );
    fails(
        "ASSERT TABLE o (id INT PRIMARY KEY, u STRING) WITH (kafka_topic = 'O', value_format = 'JSON');",
        "Expected type",
    );
    fails(
        "ASSERT STREAM o (id INT KEY, u STRING) WITH (kafka_topic = 'x', value_format = 'JSON');",
        "Expected kafka topic",
    );
}

#[test]
fn an_expected_error_must_come_and_be_the_right_one() {
    let with = |directives: &str, statement: &str| printed(&format!("--@test: t\n{directives}\n{statement}\n"));
    let (report, text) = with("--@expected.message: no such thing", "SHOW TOPICS;");
    assert_eq!(report.refusals, (0, 1));
    assert!(text.contains("an error was expected, but there was none: message: no such thing"), "{text}");
    let (report, text) =
        with("--@expected.message: no such thing", "CREATE STREAM s (a INT) WITH (kafka_topic = 's');");
    assert_eq!(report.refusals, (0, 1));
    assert!(text.contains("VALUE_FORMAT") && text.contains("another error was expected"), "{text}");
    let (report, _) =
        with("--@expected.error: java.lang.AssertionError", "CREATE STREAM s (a INT) WITH (kafka_topic = 's');");
    assert_eq!(report.refusals, (0, 1));
    let (report, _) = with("--@expected.error: ParseFailedException", "CREAT STREAM;");
    assert_eq!(report.refusals, (1, 1));
}

/// The output keys of a projection and of a PARTITION BY over records with these keys (JSON, two columns).
#[test]
fn a_missing_key_is_not_a_key_of_nulls() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.jsonl");
    let case = r#"{"name": "keys", "statements": [
        "CREATE STREAM s (a INT KEY, b INT KEY, v INT) WITH (kafka_topic = 's', format = 'JSON');",
        "CREATE STREAM o AS SELECT * FROM s WHERE v > 0;",
        "CREATE STREAM p AS SELECT a, b, v FROM s PARTITION BY a, b;"],
      "inputs": [{"topic": "s", "key": null, "value": {"V": 1}}, {"topic": "s", "key": {"A": null, "B": null}, "value": {"V": 2}},
        {"topic": "s", "key": {"A": 1}, "value": {"V": 3}}],
      "outputs": [{"topic": "O", "key": null, "value": {"V": 1}}, {"topic": "O", "key": {"A": null, "B": null}, "value": {"V": 2}},
        {"topic": "O", "key": {"A": 1, "B": null}, "value": {"V": 3}}, {"topic": "P", "key": null, "value": {"V": 1}},
        {"topic": "P", "key": {"A": null, "B": null}, "value": {"V": 2}}, {"topic": "P", "key": {"A": 1, "B": null}, "value": {"V": 3}}]}"#;
    for swapped in [false, true] {
        let case = case.replace('\n', "");
        // PARTITION BY in another order makes a new key, which no record lacks
        let case = match swapped {
            true => case
                .replace("a, b, v FROM s PARTITION BY a, b", "a, b, v FROM s PARTITION BY b, a")
                .replace(r#""topic": "P", "key": null"#, r#""topic": "P", "key": {"B": null, "A": null}"#),
            false => case,
        };
        fs::write(&file, case).expect("the file is written");
        for batching in [Batching::One, Batching::Whole] {
            let options = Options { batching, ..Options::default() };
            let report = run(&[file.clone()], &options).unwrap_or_else(|e| panic!("{e}"));
            let failure = report.cases[0].failure.as_ref().map(|f| (f.headline.clone(), f.detail.clone()));
            assert_eq!((report.positives, failure), ((1, 1), None), "swapped {swapped}");
        }
    }
}

#[test]
fn a_file_that_is_no_test_is_a_failed_test() {
    let (report, text) = printed("SHOW TOPICS;\n");
    assert_eq!((report.positives, report.passed()), ((0, 1), false));
    assert!(text.contains("a test must start with --@test"), "{text}");
}

#[test]
fn paths_and_filters_that_find_nothing_are_errors() {
    let message = |path: &str, filter: Option<&str>| {
        let options = Options { filter: filter.map(str::to_owned), ..Options::default() };
        run(&[folder().join(path)], &options).expect_err("finds nothing").to_string()
    };
    assert!(message("nowhere.sql", None).contains("cannot read"));
    assert!(message("../main.rs", None).contains("is no test file"));
    assert!(message("", Some("no test is called so")).contains("has 'no test is called so' in its name"));
}
