//! Cuts a `.sql` test file into tests: directives and statements in order, each with its line.
//!
//! Executes nothing. The subtle thing: statements are parsed one by one when their turn comes, so that a test may expect a syntax error, and a
//! broken test does not hide the others of its file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::rows::ExpectedRows;
use crate::diagnostic::{Diagnostic, Span, line_column};
use crate::sql::{self, TestItem, parse_test_script};

/// One `--@test` of a file.
#[derive(Clone, Debug)]
pub(super) struct ScriptTest {
    /// what stands behind `--@test:`
    pub name: String,
    /// the line of that
    pub line: usize,
    /// the rest, in order
    pub items: Vec<Item>,
}

/// A part of a test.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// `--@expected.error: …`, `--@expected.message: …`
    Expect {
        /// lower case, without `expected.`
        what: String,
        /// trimmed
        text: String,
    },
    /// `--@expected.rows: …`, for the query after it
    Rows(ExpectedRows),
    /// a statement
    Statement(RawStatement),
}

/// A statement and where it stands.
#[derive(Clone, Debug)]
pub(super) struct RawStatement {
    /// with its `;`
    pub text: String,
    /// the file
    pub file: Arc<Path>,
    /// from 1
    pub line: usize,
}

/// Cuts a file into its tests.
///
/// # Errors
/// A quote or comment that is not closed, a statement without `;`, something before the first test, two tests of one name.
pub(super) fn tests(text: &str, file: &Path) -> Result<Vec<ScriptTest>, Diagnostic> {
    let mut tests: Vec<ScriptTest> = Vec::new();
    for (span, part) in parts(text, file)? {
        match (part, tests.last_mut()) {
            (Part::Test(name), _) => {
                if tests.iter().any(|t| t.name == name) {
                    return Err(wrong(
                        text,
                        span,
                        format!("there is a test '{name}' already"),
                        "give each test its own name",
                    ));
                }
                tests.push(ScriptTest { name, line: line_column(text, span.start).0, items: Vec::new() });
            }
            (Part::Item(item), Some(test)) => test.items.push(item),
            (Part::Item(_), None) => {
                return Err(wrong(text, span, "a test must start with --@test", "write --@test: name before it"));
            }
        }
    }
    Ok(tests)
}

/// The statements of a file that a test runs with RUN SCRIPT; directives in it mean nothing.
///
/// # Errors
/// As [`tests`].
pub(super) fn statements(text: &str, file: &Path) -> Result<Vec<RawStatement>, Diagnostic> {
    let statement = |(_, part)| match part {
        Part::Item(Item::Statement(statement)) => Some(statement),
        _ => None,
    };
    Ok(parts(text, file)?.into_iter().filter_map(statement).collect())
}

enum Part {
    Test(String),
    Item(Item),
}

fn wrong(text: &str, span: Span, message: impl Into<String>, help: &str) -> Diagnostic {
    Diagnostic::user(message).at(span).help(help).with_text(text)
}

fn parts(text: &str, file: &Path) -> Result<Vec<(Span, Part)>, Diagnostic> {
    let file: Arc<Path> = Arc::from(file);
    let mut parts = Vec::new();
    let mut end = 0;
    for raw in sql::split(text)? {
        directives(text, end, raw.span.start, &mut parts)?;
        end = raw.span.end;
        if !raw.terminated {
            return Err(wrong(
                text,
                raw.span,
                "a statement does not end with ';'",
                "every statement must end with ';'",
            ));
        }
        let line = line_column(text, raw.span.start).0;
        let statement = RawStatement { text: raw.text.to_owned(), file: file.clone(), line };
        parts.push((raw.span, Part::Item(Item::Statement(statement))));
    }
    directives(text, end, text.len(), &mut parts)?;
    Ok(parts)
}

/// The directives between two statements.
fn directives(text: &str, from: usize, to: usize, parts: &mut Vec<(Span, Part)>) -> Result<(), Diagnostic> {
    let items = parse_test_script(&text[from..to]).map_err(|mut error| {
        error.span = error.span.shift(from);
        Diagnostic { text: Some(text.to_owned()), ..error }
    })?;
    for item in items {
        let TestItem::Directive(directive) = item else { continue };
        let part = match directive.name.as_str() {
            "test" => Part::Test(directive.text),
            "expected.error" | "expected.message" => {
                let what = directive.name["expected.".len()..].to_owned();
                Part::Item(Item::Expect { what, text: directive.text })
            }
            "expected.rows" | "expected.rows.ordered" => {
                let ordered = directive.name.ends_with("ordered");
                Part::Item(Item::Rows(ExpectedRows { text: directive.text, ordered }))
            }
            // as the reference: names that mean nothing are for people
            _ => continue,
        };
        parts.push((directive.span.shift(from), part));
    }
    Ok(())
}

/// The file that RUN SCRIPT names: beside the file that says so, or from the working directory.
pub(super) fn script_path(path: &str, beside: &Path) -> PathBuf {
    let near = beside.parent().unwrap_or(Path::new("")).join(path);
    if near.exists() { near } else { PathBuf::from(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "-- words\n--@test: one\nCREATE A;\n--@expected.rows: [1]\n--@expected.error: X\n--@note: y\nselect ';';\n\n--@test: two\nB; C\n;";

    #[test]
    fn a_file_is_cut_into_tests() {
        let tests = tests(FILE, Path::new("f.sql")).expect("is a test file");
        assert_eq!(tests.iter().map(|t| (t.name.as_str(), t.line)).collect::<Vec<_>>(), [("one", 2), ("two", 9)]);
        let shown: Vec<_> = tests[0]
            .items
            .iter()
            .map(|item| match item {
                Item::Expect { what, text } => format!("{what}={text}"),
                Item::Rows(rows) => format!("rows={}", rows.text),
                Item::Statement(s) => format!("{}:{}", s.line, s.text),
            })
            .collect();
        assert_eq!(shown, ["3:CREATE A;", "rows=[1]", "error=X", "7:select ';';"]);
        assert_eq!(tests[1].items.len(), 2);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let message = |text: &str| tests(text, Path::new("f.sql")).expect_err(text).to_string();
        assert!(message("A;").starts_with("a test must start with --@test\n"));
        assert!(message("--@test: a\nA").contains("does not end with ';'"));
        assert!(message("--@test: a\n--@test: a\n").contains("--> line 2"));
        assert!(message("--@test: a\nA;\n--@oops\n").contains("--> line 3"));
    }
}
