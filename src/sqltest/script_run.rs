//! Runs one test of a `.sql` file (testing-formats.md §3).
//!
//! Rows of INSERT flow through all queries before the next statement; the subtle thing: with `whole` and `random` batches, rows of neighbouring
//! INSERTs flow together, which must not show. New queries see only rows that come after them, unless the test sets `auto.offset.reset`.

use super::expect::{self, Cursors};
use super::failure::{Failure, names_what_is_wrong};
use super::mode::{Batching, Mode, seed_of};
use super::rows::ExpectedRows;
use super::script::{self, Item, RawStatement, ScriptTest};
use super::world::{Visible, World};
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::engine::{OutcomeKind, RowsKind};
use crate::sql::ast::Statement;
use crate::sql::{TestItem, parse_test_script};
use crate::types::QueryId;

/// How deep RUN SCRIPT may nest.
const MAX_SCRIPT_DEPTH: usize = 16;

/// After so many rounds through all queries, rows go in a circle.
const MAX_ROUNDS: usize = 100;

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// the text is no statement
    Parse,
    /// the statement was refused
    Statement,
    /// an ASSERT did not hold
    Assert,
    /// a query failed over records
    Processing,
}

/// A statement that did not work.
struct Wrong {
    kind: Kind,
    failure: Failure,
    /// the whole message, to look for the expected one
    message: String,
    /// the statement or a query says what is wrong with the text or the data
    counts: bool,
}

impl Wrong {
    fn of(kind: Kind, error: &Diagnostic) -> Self {
        let what = match kind {
            Kind::Parse => "syntax error",
            Kind::Statement => "the statement was refused",
            Kind::Assert => "the assertion cannot be checked",
            Kind::Processing => "a query failed",
        };
        Self { kind, failure: Failure::of(what, error), message: error.to_string(), counts: names_what_is_wrong(error) }
    }

    fn assert(failure: Failure) -> Self {
        let message = std::iter::once(&failure.headline).chain(&failure.detail).cloned().collect::<Vec<_>>().join("\n");
        Self { kind: Kind::Assert, failure, message, counts: true }
    }
}

/// The error a test expects from some place on.
#[derive(Default)]
struct Expectation {
    error: Option<String>,
    message: Option<String>,
}

impl Expectation {
    fn is_some(&self) -> bool {
        self.error.is_some() || self.message.is_some()
    }

    /// True if the name of an error class, the reference's or one of our words, means this kind.
    fn class_matches(&self, kind: Kind) -> bool {
        let Some(class) = &self.error else { return true };
        let name = class.rsplit('.').next().unwrap_or(class).to_lowercase();
        match name.as_str() {
            n if n.starts_with("assert") => kind == Kind::Assert,
            n if n.starts_with("parse") || n == "syntax" => kind == Kind::Parse,
            n if n.starts_with("streams") || n == "processing" => kind == Kind::Processing,
            n if n.starts_with("ksqlstatement") || n == "statement" => kind == Kind::Statement,
            n if n.starts_with("ksql") || n == "user" => matches!(kind, Kind::Parse | Kind::Statement),
            _ => true,
        }
    }

    fn met_by(&self, wrong: &Wrong) -> bool {
        let message = self.message.as_ref().is_none_or(|text| wrong.message.contains(text));
        wrong.counts && message && self.class_matches(wrong.kind)
    }

    fn shown(&self) -> String {
        let parts = [("", &self.error), ("message: ", &self.message)];
        parts
            .iter()
            .filter_map(|(word, text)| text.as_ref().map(|t| format!("{word}{t}")))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// True if a test expects an error.
pub(super) fn expects_error(test: &ScriptTest) -> bool {
    test.items.iter().any(|item| matches!(item, Item::Expect { .. }))
}

/// Runs a test.
///
/// # Errors
/// The first thing that is not as the test says.
pub(super) fn run(test: &ScriptTest, mode: &Mode, seed: u64) -> Result<(), Failure> {
    let base = [("max.task.idle.ms", "0")];
    let world = World::open(mode, seed_of(&test.name, seed), &base);
    let mut world = world.map_err(|e| Failure::of("the engine does not open", &e))?;
    world.set("auto.offset.reset", "latest");
    let mut running = Running { world, cursors: Cursors::default(), mode: mode.clone(), pending: false, rows: None };
    let mut expectation = Expectation::default();
    for item in &test.items {
        let statement = match item {
            Item::Expect { what, text } => {
                match what.as_str() {
                    "error" => expectation.error = Some(text.clone()),
                    _ => expectation.message = Some(text.clone()),
                }
                continue;
            }
            Item::Rows(rows) => {
                running.rows = Some(rows.clone());
                continue;
            }
            Item::Statement(statement) => statement,
        };
        if let Err(wrong) = running.statement(statement, 0) {
            return judge(&expectation, wrong, statement);
        }
    }
    let end = || RawStatement {
        text: "the end of the test".to_owned(),
        file: std::path::Path::new("").into(),
        line: test.line,
    };
    if let Err(wrong) = running.settle() {
        return judge(&expectation, wrong, &end());
    }
    if expectation.is_some() {
        return Err(Failure::new(format!("an error was expected, but there was none: {}", expectation.shown())));
    }
    Ok(())
}

fn judge(expectation: &Expectation, wrong: Wrong, statement: &RawStatement) -> Result<(), Failure> {
    if expectation.is_some() && expectation.met_by(&wrong) {
        return Ok(());
    }
    let first_line = statement.text.lines().next().unwrap_or_default();
    let mut lines = vec![format!("at {}:{}: {first_line}", statement.file.display(), statement.line)];
    if expectation.is_some() {
        lines.push(format!("another error was expected: {}", expectation.shown()));
    }
    Err(wrong.failure.with(lines))
}

struct Running {
    world: World,
    cursors: Cursors,
    mode: Mode,
    /// rows were inserted that have not flowed yet
    pending: bool,
    /// what the next query must give
    rows: Option<ExpectedRows>,
}

impl Running {
    fn statement(&mut self, raw: &RawStatement, depth: usize) -> Result<(), Wrong> {
        let statement = parse(&raw.text).map_err(|e| Wrong::of(Kind::Parse, &e))?;
        if !matches!(statement, Some(Statement::InsertValues(_))) {
            self.settle()?;
        }
        match statement {
            Some(Statement::AssertValues(assert)) => {
                expect::values(&assert, &self.world, &mut self.cursors).map_err(Wrong::assert)
            }
            Some(Statement::AssertSource(assert)) => {
                expect::source(&assert, &raw.text, &self.world).map_err(Wrong::assert)
            }
            Some(Statement::RunScript { path }) => self.script(path.as_str(), raw, depth),
            Some(Statement::Query(query)) if query.emit.is_none() => self.pull(&raw.text),
            Some(Statement::Query(_) | Statement::Print(_)) => {
                let error = Diagnostic::user("a test has no place for the rows of a query");
                let error = error.help("CREATE STREAM … AS SELECT …, and ASSERT VALUES of that stream");
                Err(Wrong::of(Kind::Statement, &error))
            }
            Some(Statement::InsertValues(_)) => {
                self.execute(&raw.text)?;
                self.pending = true;
                if self.mode.batching == Batching::One || self.has_loop()? { self.settle() } else { Ok(()) }
            }
            _ => self.execute(&raw.text),
        }
    }

    /// Runs a pull query; what it gives must be expected.
    fn pull(&mut self, text: &str) -> Result<(), Wrong> {
        let expected = self.rows.take();
        for outcome in self.world.execute(text).map_err(|e| Wrong::of(Kind::Statement, &e))? {
            let OutcomeKind::Rows(rows) = outcome.kind else { continue };
            let Some(expected) = &expected else {
                let error = Diagnostic::user("a test does not say what rows the query gives");
                return Err(Wrong::of(
                    Kind::Statement,
                    &error.help("put --@expected.rows: [1, \"a\"] [2, null] before it"),
                ));
            };
            if rows.kind == RowsKind::PullStream {
                let id = QueryId::new(&rows.query_id);
                let pumped = self.world.engine().runtime().pump(&id, &|_| None);
                pumped.map_err(|e| Wrong::of(Kind::Processing, &e.into()))?;
            }
            expected.check(*rows).map_err(Wrong::assert)?;
        }
        Ok(())
    }

    fn execute(&mut self, text: &str) -> Result<(), Wrong> {
        let outcomes = self.world.execute(text).map_err(|e| Wrong::of(Kind::Statement, &e))?;
        let left_to_us = outcomes.iter().any(|o| matches!(o.kind, OutcomeKind::Client(_) | OutcomeKind::Rows(_)));
        if left_to_us {
            let error =
                Diagnostic::user("a test cannot do this statement").help("it works with files or rows of a client");
            return Err(Wrong::of(Kind::Statement, &error));
        }
        Ok(())
    }

    fn script(&mut self, path: &str, raw: &RawStatement, depth: usize) -> Result<(), Wrong> {
        let refuse = |text: String| Wrong::of(Kind::Statement, &Diagnostic::user(text));
        if depth >= MAX_SCRIPT_DEPTH {
            return Err(refuse(format!("scripts run scripts more than {MAX_SCRIPT_DEPTH} deep: {path}")));
        }
        let file = script::script_path(path, &raw.file);
        let text =
            std::fs::read_to_string(&file).map_err(|e| refuse(format!("cannot read {}: {e}", file.display())))?;
        let statements = script::statements(&text, &file).map_err(|e| Wrong::of(Kind::Parse, &e))?;
        for statement in &statements {
            self.statement(statement, depth + 1).map_err(|mut wrong| {
                wrong.failure = wrong.failure.with([format!("in {}:{}", file.display(), statement.line)]);
                wrong
            })?;
        }
        Ok(())
    }

    /// True if a query reads what its own tasks answer it: what it gives out on the way depends on when answers come.
    fn has_loop(&self) -> Result<bool, Wrong> {
        let answering =
            self.world.queries().iter().map(|query| self.world.answers_itself(query)).collect::<Result<Vec<_>, _>>();
        Ok(answering.map_err(|e| Wrong::of(Kind::Processing, &e))?.contains(&true))
    }

    /// Lets rows flow until nothing moves.
    fn settle(&mut self) -> Result<(), Wrong> {
        if !std::mem::take(&mut self.pending) {
            return Ok(());
        }
        let processing = |e: Diagnostic| Wrong::of(Kind::Processing, &e);
        for _ in 0..MAX_ROUNDS {
            let before = self.world.total_end().map_err(processing)?;
            for query in self.world.queries().iter().filter(|q| !q.paused) {
                self.world.drive(&query.id, &Visible::default()).map_err(processing)?;
            }
            if self.world.total_end().map_err(processing)? == before {
                return Ok(());
            }
        }
        let circle = "rows go in a circle: a query reads what it or a later one writes";
        Err(processing(Diagnostic::new(ErrorClass::Query, circle)))
    }
}

/// The statement, unless variables must be put in before it can be read.
fn parse(text: &str) -> Result<Option<Statement>, Diagnostic> {
    if text.contains("${") {
        return Ok(None);
    }
    let items = parse_test_script(text)?;
    Ok(items.into_iter().find_map(|item| match item {
        TestItem::Statement(parsed) => Some(parsed.statement),
        TestItem::Directive(_) => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_classes_of_the_reference_mean_our_kinds() {
        let kinds = [Kind::Parse, Kind::Statement, Kind::Assert, Kind::Processing];
        let cases = [
            ("java.lang.AssertionError", [false, false, true, false]),
            ("io.confluent.ksql.parser.exception.ParseFailedException", [true, false, false, false]),
            ("org.apache.kafka.streams.errors.StreamsException", [false, false, false, true]),
            ("io.confluent.ksql.util.KsqlStatementException", [false, true, false, false]),
            ("io.confluent.ksql.util.KsqlException", [true, true, false, false]),
            ("java.lang.Exception", [true, true, true, true]),
        ];
        for (class, wanted) in cases {
            let expectation = Expectation { error: Some(class.to_owned()), message: None };
            assert_eq!(kinds.map(|kind| expectation.class_matches(kind)), wanted, "{class}");
        }
    }
}
