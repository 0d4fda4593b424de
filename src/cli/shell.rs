//! `riverrun shell`, and `riverrun` alone.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::place::{Place, Unnamed, history_file};
use crate::config::file::assignment;
use crate::diagnostic::Diagnostic;
use crate::shell::interrupt::Interrupt;
use crate::shell::layout::Layout;
use crate::shell::script::{Script, ScriptMode};
use crate::shell::{Output, Shell, ShellOptions};

const EXAMPLES: &str = "\
Examples:
  riverrun shell
  riverrun shell -e 'SELECT * FROM orders EMIT CHANGES LIMIT 3;' --output json
  riverrun shell -f setup.sql --define region=eu
  riverrun shell --server http://localhost:8088";

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputArg {
    /// tables
    #[value(alias = "tabular", alias = "TABULAR")]
    Table,
    /// one JSON object a row, a row a line
    #[value(alias = "JSON")]
    Json,
}

impl From<OutputArg> for Output {
    fn from(output: OutputArg) -> Self {
        match output {
            OutputArg::Table => Self::Table,
            OutputArg::Json => Self::Json,
        }
    }
}

/// Arguments of `shell`.
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ShellArgs {
    /// Execute these statements and end; may come several times
    #[arg(short = 'e', long, value_name = "SQL")]
    pub(super) execute: Vec<String>,
    /// Execute the statements of this file and end; may come several times
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(super) file: Vec<PathBuf>,
    /// How results are written
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) output: Option<OutputArg>,
    /// Define a variable for ${NAME} in statements; may come several times
    #[arg(short = 'd', long, value_name = "NAME=VALUE")]
    pub(super) define: Vec<String>,
    /// Set a property; may come several times
    #[arg(long, value_name = "PROPERTY=VALUE")]
    pub(super) set: Vec<String>,
}

impl ShellArgs {
    /// These arguments, and those that stood before the word `shell`.
    pub(super) fn or(mut self, before: Self) -> Self {
        self.execute.splice(0..0, before.execute);
        self.file.splice(0..0, before.file);
        self.define.splice(0..0, before.define);
        self.set.splice(0..0, before.set);
        self.output = self.output.or(before.output);
        self
    }
}

/// `NAME=VALUE` arguments as a map.
pub(super) fn assignments(texts: &[String]) -> Result<BTreeMap<String, String>, Diagnostic> {
    texts.iter().map(|text| assignment(text)).collect()
}

/// Reads and executes statements.
pub(super) fn shell(place: &Place, arguments: &ShellArgs) -> Result<(), Diagnostic> {
    let defines = assignments(&arguments.define)?;
    let mut opened = place.open(Unnamed::Own, &assignments(&arguments.set)?)?;
    for (name, value) in &defines {
        opened.client.define(name, value);
    }
    let output = arguments.output.map_or(Output::Table, Output::from);
    let is_interactive = std::io::stdin().is_terminal();
    if !arguments.execute.is_empty() || !arguments.file.is_empty() || !is_interactive {
        let result = execute_all(&mut opened, arguments, output);
        let closed = opened.close();
        return result.and(closed);
    }
    let (client, _kept) = opened.into_parts();
    Shell::new(client, ShellOptions { output, history: history_file() }).interact()
}

/// Statements of `-e`, then files, else of standard input.
fn execute_all(opened: &mut super::place::Opened, arguments: &ShellArgs, output: Output) -> Result<(), Diagnostic> {
    let (layout, interrupt) = (Layout::of_terminal(), Interrupt::install());
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut script = Script {
        client: opened.client.as_mut(),
        out: &mut out,
        output,
        layout: &layout,
        interrupt: &interrupt,
        mode: ScriptMode::interactive(),
    };
    for text in &arguments.execute {
        script.run(text)?;
    }
    for file in &arguments.file {
        script.run_file(file)?;
    }
    if arguments.execute.is_empty() && arguments.file.is_empty() {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| super::system_error("Standard input cannot be read", &error).help("pipe UTF-8 text in"))?;
        script.run(&text)?;
    }
    Ok(())
}
