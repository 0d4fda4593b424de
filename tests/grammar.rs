//! The grammar against `grammar-tests/`: each case is parsed, printed and parsed again, and compared with its golden file.
//!
//! Cases of a `.sql` file are parted by empty lines. `X.sql` must be accepted and has `X.ast`; `X-errors.sql` must be refused and has
//! `X-errors.err`; `UPDATE=1` rewrites both. The file's name says what a case is: an expression, a column list, a script, or a test script.

use std::fmt::{Debug, Display, Write};
use std::path::{Path, PathBuf};
use std::{env, fs};

use riverrun::diagnostic::Diagnostic;
use riverrun::sql::ast::Expr;
use riverrun::sql::{self, TestItem};

/// A parsed case: its canonical text and the shape of its tree.
struct Shown {
    sql: String,
    tree: String,
}

type Parse = fn(&str) -> Result<Vec<Shown>, Diagnostic>;

fn shown<T: Display + Debug>(node: &T) -> Shown {
    Shown { sql: node.to_string(), tree: without_absent_fields(format!("{node:?}")) }
}

/// Leaves out fields that say nothing: `name: None`, `name: []`, `name: false`.
fn without_absent_fields(mut tree: String) -> String {
    for absent in [": None", ": []", ": false"] {
        while let Some(at) = tree.find(absent) {
            let name = tree[..at].rfind([' ', '(']).map_or(0, |space| space + 1);
            let end = at + absent.len();
            if tree[end..].starts_with(", ") {
                tree.replace_range(name..end + 2, "");
            } else {
                tree.replace_range(name.saturating_sub(2)..end, "");
            }
        }
    }
    tree
}

fn script(text: &str) -> Result<Vec<Shown>, Diagnostic> {
    let parsed = sql::parse_script(text)?;
    for p in &parsed {
        assert_eq!(&text[p.span.start..p.span.end], p.text);
        let again = sql::parse_script(&format!("{};", p.statement)).expect("canonical text is accepted");
        assert!(again.len() == 1 && again[0].statement == p.statement, "{}\n{:?}", p.statement, p.statement);
    }
    Ok(parsed.iter().map(|p| shown(&p.statement)).collect())
}

fn test_script(text: &str) -> Result<Vec<Shown>, Diagnostic> {
    let items = sql::parse_test_script(text)?;
    let show = |item: &TestItem| match item {
        TestItem::Directive(d) => Shown { sql: format!("--@{}: {}", d.name, d.text), tree: format!("{d:?}") },
        TestItem::Statement(p) => {
            let again = sql::parse_test_script(&format!("{};", p.statement)).expect("canonical text is accepted");
            assert!(matches!(&again[..], [TestItem::Statement(a)] if a.statement == p.statement), "{}", p.statement);
            shown(&p.statement)
        }
    };
    Ok(items.iter().map(show).collect())
}

fn expression(text: &str) -> Result<Vec<Shown>, Diagnostic> {
    let expr = sql::parse_expression(text)?;
    let again = sql::parse_expression(&expr.to_string());
    assert_eq!(again.as_ref().map_err(ToString::to_string), Ok(&expr), "{expr}");
    Ok(vec![shown(&expr)])
}

fn schema(text: &str) -> Result<Vec<Shown>, Diagnostic> {
    let columns = sql::parse_schema(text)?;
    let canonical = columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    assert_eq!(sql::parse_schema(&canonical).as_ref(), Ok(&columns), "{canonical}");
    Ok(columns.iter().map(shown).collect())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grammar-tests")
}

/// Name, content and way to parse of each `.sql` file, sorted.
fn files() -> Vec<(String, String, Parse)> {
    let entries = fs::read_dir(folder()).expect("grammar-tests is there");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("can be listed").file_name().to_string_lossy().into_owned())
        .filter_map(|name| name.strip_suffix(".sql").map(str::to_owned))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    let file = |name: String| {
        let text = fs::read_to_string(folder().join(format!("{name}.sql"))).expect("can be read");
        let parse: Parse = match name.split('-').next() {
            Some("expressions") => expression,
            Some("schemas") => schema,
            Some("test") => test_script,
            _ => script,
        };
        (name, text, parse)
    };
    names.into_iter().map(file).collect()
}

fn cases(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").map(|case| case.trim_matches('\n')).filter(|case| !case.is_empty())
}

fn indented(out: &mut String, text: &str) {
    for line in text.lines() {
        writeln!(out, "{}", format!("  {line}").trim_end()).expect("a string can be written");
    }
}

/// Compares with the golden file, or writes it.
fn check(name: &str, have: &str) {
    let path = folder().join(name);
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, have).expect("the golden file can be written");
        return;
    }
    let want = fs::read_to_string(&path).unwrap_or_default();
    let differ = have.lines().zip(want.lines()).find(|(have, want)| have != want);
    assert!(have == want, "{name} differs (UPDATE=1 rewrites it); first lines that do: {differ:#?}");
}

#[test]
fn accepted_texts_have_their_trees() {
    for (name, text, parse) in files().into_iter().filter(|(name, ..)| !name.ends_with("-errors")) {
        let mut out = String::new();
        for case in cases(&text) {
            let all = parse(case).unwrap_or_else(|error| panic!("{name}: {error}"));
            out += &format!("{case}\n");
            for one in all {
                indented(&mut out, &format!("sql: {}", one.sql));
                indented(&mut out, &format!("ast: {}", one.tree));
            }
            out.push('\n');
        }
        check(&format!("{name}.ast"), &out);
    }
}

#[test]
fn wrong_texts_have_their_errors() {
    for (name, text, parse) in files().into_iter().filter(|(name, ..)| name.ends_with("-errors")) {
        let mut out = String::new();
        for case in cases(&text) {
            let Err(error) = parse(case) else { panic!("{name}: accepted: {case}") };
            assert_eq!(error.text.as_deref(), Some(case), "{error}");
            out += &format!("{case}\n");
            indented(&mut out, &error.to_string());
            out.push('\n');
        }
        check(&format!("{name}.err"), &out);
    }
}

/// A small generator of numbers, the same on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits fit") % sides.max(1)
    }
}

/// Parses in every way; what is accepted must survive printing, and an error must point into the text.
fn survives(text: &str) {
    for parse in [script, test_script, expression, schema] {
        if let Err(error) = parse(text) {
            assert!(text.get(error.span.start..error.span.end).is_some(), "{text}\n{error:?}");
            assert!(!error.to_string().is_empty());
        }
    }
    if let Ok(raw) = sql::split(text) {
        assert!(raw.iter().all(|r| text.get(r.span.start..r.span.end) == Some(r.text)), "{text}");
    }
    sql::is_complete(text);
    let _ = sql::substitute(text, &|name| Some(name.to_owned()));
}

#[test]
fn truncated_texts_do_not_panic() {
    for (_, text, _) in files() {
        for case in cases(&text) {
            case.char_indices().for_each(|(at, _)| survives(&case[..at]));
        }
    }
}

#[test]
fn mutated_texts_do_not_panic() {
    let files = files();
    let all: Vec<&str> = files.iter().flat_map(|(_, text, _)| cases(text)).collect();
    let words: Vec<&str> = all.iter().flat_map(|case| case.split_inclusive([' ', '(', ')', ',', '\''])).collect();
    let mut dice = Dice(7);
    for _ in 0..6000 {
        let mut parts: Vec<&str> = all[dice.roll(all.len())].split_inclusive([' ', '(', ')', ',', '\'']).collect();
        for _ in 0..=dice.roll(3) {
            let at = dice.roll(parts.len());
            match dice.roll(4) {
                0 if parts.len() > 1 => drop(parts.remove(at)),
                1 => parts.insert(at, words[dice.roll(words.len())]),
                2 => parts[at] = words[dice.roll(words.len())],
                _ => parts
                    .insert(at, ["é", "\0", "'", "`", "\"", "--", "/*", "$", "${", ">>", ".", "\r\n"][dice.roll(12)]),
            }
        }
        survives(&parts.concat());
    }
}

#[test]
fn deep_texts_are_refused_and_long_ones_are_not() {
    let n = 20_000;
    let deep = [
        format!("{}1{}", "(".repeat(n), ")".repeat(n)),
        "(".repeat(n),
        "NOT ".repeat(n) + "a",
        "- ".repeat(n) + "a",
        "f(".repeat(n),
        "f(x => ".repeat(n),
        "CASE WHEN ".repeat(n),
        "CAST(".repeat(n),
        "ARRAY[".repeat(n),
        format!("a{}", "[1]".repeat(n)),
        format!("a{}", "->b".repeat(n)),
        format!("a{}", " + 1".repeat(n)),
        format!("a{}", " AT TIME ZONE 'z'".repeat(n)),
        format!("CAST(a AS {})", "ARRAY<".repeat(n)),
        format!("CAST(a AS INT{})", " ARRAY".repeat(n)),
    ];
    for text in &deep {
        let error = sql::parse_expression(text).expect_err("too deep");
        assert!(error.message.contains("too deeply") || error.message.contains("expected"), "{error}");
    }
    for (first, again) in [
        ("", "EXPLAIN "),
        ("SELECT * FROM ", "(SELECT * FROM "),
        ("", "("),
        ("SELECT a FROM t", " UNION SELECT a FROM t"),
    ] {
        let error = sql::parse_statement(&format!("{first}{}", again.repeat(n))).expect_err("too deep");
        assert!(error.message.contains("too deeply"), "{}", error.message);
    }
    for (first, again) in [("a = 0", " OR a = 1"), ("a", " AND NOT a"), ("f(a", ", a")] {
        let close = if first.contains('(') { ")" } else { "" };
        let expr = sql::parse_expression(&format!("{first}{}{close}", again.repeat(n))).expect("long is not deep");
        assert!(expr.height() <= 4);
        assert_eq!(sql::parse_expression(&expr.to_string()).as_ref(), Ok(&expr));
    }
}

#[test]
fn the_deepest_accepted_expression_can_be_printed() {
    let nested = |n: usize| format!("{}a{}", "f(".repeat(n), ")".repeat(n));
    let most = (1..200).take_while(|n| sql::parse_expression(&nested(*n)).is_ok()).count();
    assert!(most >= 50, "{most}");
    expression(&nested(most)).expect("accepted");
    let sum = format!("a{}", " + b".repeat(Expr::MAX_HEIGHT - 1));
    expression(&sum).expect("accepted");
    assert!(sql::parse_expression(&(sum + " + b")).is_err());
}

#[test]
fn tables_of_words_agree_with_the_grammar() {
    assert!(sql::FIRST_KEYWORDS.is_sorted());
    for word in sql::FIRST_KEYWORDS {
        let error = sql::parse_statement(word).expect_err("a word is no statement");
        assert_eq!(error.message.contains("Unknown statement"), word == "RUN", "{error}");
    }
    for word in sql::RESERVED {
        assert!(sql::parse_schema(&format!("{word} INT")).is_err(), "{word}");
        assert!(sql::parse_schema(&format!("`{word}` INT")).is_ok(), "{word}");
    }
    for word in sql::NON_RESERVED {
        assert!(sql::parse_schema(&format!("{word} INT")).is_ok(), "{word}");
        for text in ["SELECT {} FROM s", "SELECT a AS {} FROM s", "SELECT a FROM {}", "SELECT a FROM s AS {}"] {
            let text = text.replace("{}", word);
            assert!(sql::parse_statement(&text).is_ok(), "{text}");
        }
    }
    assert!(sql::FIRST_KEYWORDS.iter().all(|word| sql::completions().any(|c| c == *word)));
}

/// Whether this refusal of the reference is one of its parser.
fn is_syntax_error(message: &str) -> bool {
    ["Syntax Error", "Syntax error", "Invalid numeric literal"].iter().any(|part| message.contains(part))
}

#[test]
fn conformance_statements_parse() {
    let Some(root) = env::var_os("RIVERRUN_CONFORMANCE") else {
        println!("not checked: RIVERRUN_CONFORMANCE does not name the folder of the conformance cases");
        return;
    };
    let mut statements = 0;
    for folder in ["query", "rest"] {
        for entry in fs::read_dir(Path::new(&root).join(folder)).expect("the folder is there") {
            let text = fs::read_to_string(entry.expect("can be listed").path()).expect("can be read");
            statements += text.lines().map(check_conformance_case).sum::<usize>();
        }
    }
    println!("{statements} statements checked");
    assert!(statements > 0);
}

fn check_conformance_case(line: &str) -> usize {
    let case: serde_json::Value = serde_json::from_str(line).expect("a case is JSON");
    let texts: Vec<&str> = case["statements"].as_array().into_iter().flatten().filter_map(|s| s.as_str()).collect();
    let errors: Vec<Diagnostic> = texts.iter().filter_map(|text| script(text).err()).collect();
    let name = &case["name"];
    match case["expectedError"]["message"].as_str() {
        Some(message) if is_syntax_error(message) => assert!(!errors.is_empty(), "{name} should not parse"),
        _ if case.get("expectedError").is_some_and(|e| !e.is_null()) => {
            errors.iter().for_each(|error| println!("refused by the parser: {name}: {error}"));
        }
        _ => assert!(errors.is_empty(), "{name}: {}", errors[0]),
    }
    texts.len()
}
