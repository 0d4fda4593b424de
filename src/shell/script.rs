//! Statements of a text, one after the other: executed, and shown. Shared by the shell, its `-e` and `-f`, and `riverrun run`.
//!
//! Statements between two queries go to the client together, so that they are checked together. The subtle thing: an error comes back
//! with its place in what was sent; it is moved to its place in the whole text, so that line numbers are those of the file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Output;
use super::copy;
use super::interrupt::Interrupt;
use super::layout::Layout;
use super::render;
use super::rows::{Ended, PushEnds, RowPrinter};
use crate::client::Client;
use crate::config;
use crate::diagnostic::{Diagnostic, ErrorClass, line_column};
use crate::engine::{ClientTask, Outcome, OutcomeKind, ScriptError};
use crate::sql::{self, RawStatement};
use crate::wire::statement::StatementClass;

/// How long a pull query is asked again while its table is being restored; a node that has just joined a group on Kafka waits for the others.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time between two tries.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// Scripts within scripts.
const MAX_DEPTH: usize = 16;

/// How a text is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptMode {
    /// wait before a pull query until persistent queries have consumed what is there
    pub pull_waits: bool,
    /// when push queries end
    pub push_ends: PushEnds,
    /// where relative paths of COPY and RUN SCRIPT begin; `None`: the current folder
    pub folder: Option<PathBuf>,
    /// how many scripts we are in
    pub depth: usize,
}

impl ScriptMode {
    /// As at a prompt: queries answer at once, push queries go on.
    pub fn interactive() -> Self {
        Self { pull_waits: false, push_ends: PushEnds::Never, folder: None, depth: 0 }
    }

    /// As `riverrun run` does it.
    pub fn batch() -> Self {
        Self { pull_waits: true, push_ends: PushEnds::WhenIdle, ..Self::interactive() }
    }
}

/// Executes texts for someone.
pub struct Script<'s> {
    /// who executes
    pub client: &'s mut dyn Client,
    /// where results go
    pub out: &'s mut dyn Write,
    /// tables or JSON
    pub output: Output,
    /// of tables
    pub layout: &'s Layout,
    /// Ctrl-C
    pub interrupt: &'s Interrupt,
    /// how
    pub mode: ScriptMode,
}

/// An output that cannot be written.
pub(super) fn broken(error: &std::io::Error) -> Diagnostic {
    Diagnostic::user(format!("The output cannot be written: {error}"))
}

impl Script<'_> {
    /// Executes all statements of `text` and shows what they give; stops at the first error.
    ///
    /// # Errors
    /// The first statement that is wrong, or a query that failed; an output that cannot be written.
    pub fn run(&mut self, text: &str) -> Result<(), Diagnostic> {
        self.run_located(text).map_err(|(error, _)| error)
    }

    /// As [`Self::run`]; the error comes with the line of its statement.
    fn run_located(&mut self, text: &str) -> Result<(), (Diagnostic, usize)> {
        if let Some(limit) = self.client.statement_limit() {
            sql::check_length(text, limit, config::STATEMENT_BYTES).map_err(|error| (error, 1))?;
        }
        let statements = sql::split(text).map_err(|error| {
            let line = line_column(text, error.span.start).0;
            (error, line)
        })?;
        for run in statements.chunk_by(go_together) {
            if self.interrupt.is_pressed() {
                return Ok(());
            }
            self.run_together(text, run)?;
        }
        Ok(())
    }

    /// Executes a file.
    ///
    /// # Errors
    /// A file that cannot be read; as [`Self::run`].
    pub fn run_file(&mut self, path: &Path) -> Result<(), Diagnostic> {
        let text = read_script(path)?;
        let folder = path.parent().map(Path::to_path_buf);
        let mode = ScriptMode { folder, depth: self.mode.depth + 1, ..self.mode.clone() };
        if mode.depth > MAX_DEPTH {
            return Err(Diagnostic::user(format!(
                "{}: scripts run scripts more than {MAX_DEPTH} deep",
                path.display()
            )));
        }
        let before = std::mem::replace(&mut self.mode, mode);
        let result = self.run_located(&text);
        self.mode = before;
        result.map_err(|(error, line)| {
            let message = format!("{}:{line}: {}", path.display(), error.message);
            Diagnostic { message, ..error }
        })
    }

    fn run_together(&mut self, text: &str, run: &[RawStatement<'_>]) -> Result<(), (Diagnostic, usize)> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let first_line = line_column(text, first.span.start).0;
        let at_first = |error: Diagnostic| (error, first_line);
        match StatementClass::of(first.text) {
            StatementClass::RunScript => return self.run_script_statement(first.text).map_err(at_first),
            StatementClass::Pull if self.mode.pull_waits => self.client.wait_idle(None).map_err(at_first)?,
            _ => {}
        }
        let sent = &text[first.span.start..last.span.end];
        match self.execute_patiently(&with_end(sent), StatementClass::of(first.text)) {
            Ok(outcomes) => outcomes.into_iter().try_for_each(|outcome| self.show(outcome)).map_err(at_first),
            Err(ScriptError { done, statement, diagnostic }) => {
                done.into_iter().try_for_each(|outcome| self.show(outcome)).map_err(at_first)?;
                let of_statement = statement.and_then(|failed| run.iter().find(|s| s.text == failed));
                let start = of_statement.map_or(first.span.start, |s| s.span.start);
                Err((moved(diagnostic, text, first.span.start, start), line_column(text, start).0))
            }
        }
    }

    /// Executes; a pull query whose table is not restored yet is asked again for a while.
    fn execute_patiently(&mut self, text: &str, class: StatementClass) -> Result<Vec<Outcome>, ScriptError> {
        let mut waited = Duration::ZERO;
        loop {
            match self.client.execute(text) {
                Err(ScriptError { diagnostic, .. })
                    if class == StatementClass::Pull
                        && diagnostic.class == ErrorClass::Retry
                        && waited < PATIENCE
                        && !self.interrupt.is_pressed() =>
                {
                    self.interrupt.wait(ASK_AGAIN);
                    waited += ASK_AGAIN;
                }
                result => return result,
            }
        }
    }

    fn run_script_statement(&mut self, statement: &str) -> Result<(), Diagnostic> {
        let quoted = statement.split_once('\'').and_then(|(_, rest)| rest.rsplit_once('\''));
        let Some((path, _)) = quoted else {
            return Err(Diagnostic::user("RUN SCRIPT needs a path").help("write RUN SCRIPT 'path';"));
        };
        self.run_file(&self.resolve(&path.replace("''", "'")))
    }

    /// A path as the text means it.
    fn resolve(&self, path: &str) -> PathBuf {
        match &self.mode.folder {
            Some(folder) if Path::new(path).is_relative() => folder.join(path),
            _ => PathBuf::from(path),
        }
    }

    fn show(&mut self, outcome: Outcome) -> Result<(), Diagnostic> {
        match outcome.kind {
            OutcomeKind::Rows(rows) => {
                self.warn(&outcome.warnings)?;
                let mut printer = RowPrinter { out: self.out, style: self.output.into(), layout: self.layout };
                let client = &mut *self.client;
                let mut idle = || client.wait_idle(None);
                printer.print(*rows, self.mode.push_ends, self.interrupt, &mut idle).map(|_: Ended| ())
            }
            OutcomeKind::Client(task) => {
                self.warn(&outcome.warnings)?;
                self.run_task(task)
            }
            kind => {
                let outcome = Outcome { kind, ..outcome };
                let text = render::outcome_text(&outcome, self.output);
                self.out.write_all(text.as_bytes()).map_err(|error| broken(&error))?;
                self.out.flush().map_err(|error| broken(&error))
            }
        }
    }

    fn warn(&mut self, warnings: &[String]) -> Result<(), Diagnostic> {
        let text = render::warnings_text(warnings, self.output);
        self.out.write_all(text.as_bytes()).map_err(|error| broken(&error))
    }

    fn run_task(&mut self, task: ClientTask) -> Result<(), Diagnostic> {
        let done = match task {
            ClientTask::RunScript { path } => return self.run_file(&self.resolve(&path)),
            ClientTask::CopyFrom { source, schema, path, format } => {
                let file = self.resolve(&path);
                copy::from_file(self.client, &source, &schema, &file, &format, self.interrupt)?
            }
            ClientTask::CopyTo { query, path, format } => {
                let file = self.resolve(&path);
                if self.mode.pull_waits {
                    self.client.wait_idle(None)?;
                }
                copy::to_file(self.client, &query, &file, &format, self.mode.push_ends, self.interrupt)?
            }
        };
        let text = render::message_text(&done, self.output);
        self.out.write_all(text.as_bytes()).map_err(|error| broken(&error))
    }
}

/// The error with its place in `text`, if that place is in a part of it that begins at `sent` or at `statement`.
fn moved(error: Diagnostic, text: &str, sent: usize, statement: usize) -> Diagnostic {
    let begins_at = |start: usize| {
        let part = error.text.as_deref().map(|part| part.trim_end_matches([';', '\n', ' ']))?;
        text[start..].starts_with(part).then_some(start)
    };
    match begins_at(statement).or_else(|| begins_at(sent)) {
        Some(start) => Diagnostic { span: error.span.shift(start), text: Some(text.to_owned()), ..error },
        None => error,
    }
}

/// The text of a script file.
///
/// # Errors
/// A file that cannot be read, or is not text.
pub fn read_script(path: &Path) -> Result<String, Diagnostic> {
    let bytes = std::fs::read(path).map_err(|error| {
        Diagnostic::user(format!("Cannot read {}: {error}", path.display()))
            .help("give the path of a file of statements")
    })?;
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    text.ok_or_else(|| {
        Diagnostic::new(ErrorClass::User, format!("{} is not SQL: it is not UTF-8 text", path.display()))
            .help("give the path of a file of statements")
    })
}

/// Statements next to each other that are executed together.
fn go_together(a: &RawStatement<'_>, b: &RawStatement<'_>) -> bool {
    let plain =
        |s: &RawStatement<'_>| matches!(StatementClass::of(s.text), StatementClass::Other | StatementClass::Session);
    plain(a) && plain(b)
}

/// The text with its last `;`, which `-e` and the end of a file may leave away.
fn with_end(text: &str) -> String {
    if text.trim_end().ends_with(';') { text.to_owned() } else { format!("{text}\n;") }
}
