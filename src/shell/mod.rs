//! A terminal for a [`Client`]: reads statements, executes them, shows what comes.
//!
//! The way of a line: `editor` reads until a `;` (or a command of `command`), [`script::Script::run`] cuts the text, executes it and hands
//! each outcome to `render` (messages, descriptions) or `rows` (results as they come); COPY goes through `copy`. `-e`, `-f` and
//! `riverrun run` use the same `script`. The subtle thing is Ctrl-C: while a line is read it is a key, while a query runs it is a
//! signal that `interrupt` turns into the end of that query only.

pub mod command;
pub mod copy;
pub mod delimited;
pub mod editor;
pub mod interrupt;
pub mod layout;
pub mod lines;
pub mod render;
pub mod rows;
pub mod script;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use rustyline::error::ReadlineError;

use crate::client::Client;
use crate::diagnostic::Diagnostic;
use crate::wire::VERSION;

use command::After;
use editor::LineEditor;
use interrupt::Interrupt;
use layout::Layout;
use script::{Script, ScriptMode};

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Output {
    /// tables for people
    #[default]
    Table,
    /// one JSON object a row, a row a line
    Json,
}

impl Output {
    /// `TABULAR` or `JSON`, as the command `output` says them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "TABULAR",
            Self::Json => "JSON",
        }
    }
}

/// What a shell is started with.
#[derive(Clone, Debug, Default)]
pub struct ShellOptions {
    /// tables or JSON
    pub output: Output,
    /// where lines are remembered; `None`: nowhere
    pub history: Option<PathBuf>,
}

/// A shell over one client.
pub struct Shell {
    pub(crate) client: Box<dyn Client>,
    pub(crate) output: Output,
    pub(crate) layout: Layout,
    pub(crate) interrupt: Interrupt,
    pub(crate) spool: Option<(PathBuf, std::fs::File)>,
    history: Option<PathBuf>,
}

impl Shell {
    /// A shell that talks to `client`. Ctrl-C ends running queries from now on, not the process.
    pub fn new(client: Box<dyn Client>, options: ShellOptions) -> Self {
        Self {
            client,
            output: options.output,
            layout: Layout::of_terminal(),
            interrupt: Interrupt::install(),
            spool: None,
            history: options.history,
        }
    }

    /// Reads and executes lines until `exit` or Ctrl-D.
    ///
    /// # Errors
    /// A terminal that cannot be used; a storage that cannot be closed.
    pub fn interact(mut self) -> Result<(), Diagnostic> {
        self.greet();
        let mut editor = LineEditor::open(self.history.clone())?;
        loop {
            editor.set_names(self.client.names().unwrap_or_default());
            match editor.read() {
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => {
                    editor.remember(&line);
                    self.log_input(&line);
                    if self.take(&line, &editor) == After::Exit {
                        break;
                    }
                }
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => {
                    println!("Exiting riverrun.");
                    break;
                }
                Err(error) => return Err(Diagnostic::user(format!("The terminal cannot be read: {error}"))),
            }
        }
        self.client.close()
    }

    /// Executes one line: a command, or statements.
    fn take(&mut self, line: &str, editor: &LineEditor) -> After {
        self.layout = self.layout.resized();
        match command::find(line) {
            Some((command, arguments)) => match (command.run)(self, &arguments, editor) {
                Ok(after) => after,
                Err(error) => {
                    self.show_error(&error);
                    After::Continue
                }
            },
            None => {
                // What is wrong has been shown; an interactive shell goes on.
                let _ = self.execute(line);
                After::Continue
            }
        }
    }

    /// Executes statements and shows what they give; what is wrong is shown and comes back as `Err`.
    #[expect(clippy::result_unit_err, reason = "the error has been shown, there is nothing more to say")]
    pub fn execute(&mut self, text: &str) -> Result<(), ()> {
        self.interrupt.clear();
        let stdout = std::io::stdout();
        let result = {
            let mut out = Tee { terminal: stdout.lock(), file: self.spool.as_ref().map(|(_, file)| file) };
            let mut script = Script {
                client: self.client.as_mut(),
                out: &mut out,
                output: self.output,
                layout: &self.layout,
                interrupt: &self.interrupt,
                mode: ScriptMode::interactive(),
            };
            script.run(text)
        };
        result.map_err(|error| self.show_error(&error))
    }

    /// Shows an error, red on a terminal.
    pub fn show_error(&mut self, error: &Diagnostic) {
        if let Some((_, file)) = &mut self.spool {
            // A spool that cannot be written must not hide the error itself.
            let _ = writeln!(file, "{error}");
        }
        eprintln!("{}", layout::error_text(error, std::io::stderr().is_terminal()));
    }

    fn greet(&mut self) {
        if !std::io::stdin().is_terminal() {
            return;
        }
        match self.client.info() {
            Ok(info) => {
                println!("riverrun {VERSION}, engine {} at {}", info.version, info.location);
                println!("Type 'help' for commands; statements end with ';'. Ctrl-D ends.");
            }
            Err(error) => self.show_error(&error),
        }
        println!();
    }

    fn log_input(&mut self, line: &str) {
        if let Some((_, file)) = &mut self.spool {
            // The copy is a convenience; the statement itself must still run.
            let _ = writeln!(file, "ksql> {line}");
        }
    }
}

/// Writes to the terminal and, while spooling, to a file.
struct Tee<'f, W> {
    terminal: W,
    file: Option<&'f std::fs::File>,
}

impl<W: Write> Write for Tee<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.terminal.write(bytes)?;
        if let Some(file) = &mut self.file {
            file.write_all(&bytes[..written])?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.terminal.flush()
    }
}
