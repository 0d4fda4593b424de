//! `riverrun run`: files of statements, executed until all their input is consumed.

use std::path::PathBuf;

use clap::Args;

use super::place::{Opened, Place, Unnamed};
use super::shell::{OutputArg, assignments};
use crate::config::{self, Config};
use crate::diagnostic::Diagnostic;
use crate::shell::Output;
use crate::shell::interrupt::Interrupt;
use crate::shell::layout::Layout;
use crate::shell::script::{Script, ScriptMode, read_script};
use crate::sql;

const EXAMPLES: &str = "\
Examples:
  riverrun run pipeline.sql
  riverrun run setup.sql queries.sql --define day=2024-02-29 --set auto.offset.reset=earliest
  riverrun run pipeline.sql --data-dir ./state --keep-running
  riverrun run pipeline.sql --server http://localhost:8088";

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunArgs {
    /// Files of statements, executed in this order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Go on after the last statement until SIGTERM or Ctrl-C
    #[arg(long, conflicts_with = "until_idle")]
    keep_running: bool,
    /// End when all inputs are consumed and committed (the default)
    #[arg(long)]
    until_idle: bool,
    /// Define a variable for ${NAME} in statements; may come several times
    #[arg(short = 'd', long, value_name = "NAME=VALUE")]
    define: Vec<String>,
    /// Set a property; may come several times
    #[arg(long, value_name = "PROPERTY=VALUE")]
    set: Vec<String>,
    /// How results are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: OutputArg,
}

/// Executes the files. A file that cannot be read stops everything before the first statement runs.
pub(super) fn run(place: &Place, arguments: &RunArgs) -> Result<(), Diagnostic> {
    let sets = assignments(&arguments.set)?;
    // a server knows its own limit
    let limit = match place.server {
        Some(_) => None,
        None => Some(Config::new(&sets)?.size(config::STATEMENT_BYTES)),
    };
    for file in &arguments.files {
        let text = read_script(file)?;
        let length = limit.map_or(Ok(()), |limit| sql::check_length(&text, limit, config::STATEMENT_BYTES));
        length
            .and_then(|()| sql::split(&text).map(drop))
            .map_err(|error| Diagnostic { message: format!("{}: {}", file.display(), error.message), ..error })?;
    }
    let defines = assignments(&arguments.define)?;
    let mut opened = place.open(Unnamed::Temporary, &sets)?;
    for (name, value) in &defines {
        opened.client.define(name, value);
    }
    let result = execute(&mut opened, arguments);
    let closed = opened.close();
    result.and(closed)
}

fn execute(opened: &mut Opened, arguments: &RunArgs) -> Result<(), Diagnostic> {
    let (layout, interrupt) = (Layout::of_terminal(), Interrupt::install());
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut script = Script {
        client: opened.client.as_mut(),
        out: &mut out,
        output: Output::from(arguments.output),
        layout: &layout,
        interrupt: &interrupt,
        mode: ScriptMode::batch(),
    };
    for file in &arguments.files {
        script.run_file(file)?;
    }
    drop(out);
    if interrupt.is_pressed() {
        return Err(Diagnostic::user("Interrupted before the end of the statements"));
    }
    if !arguments.keep_running {
        return opened.client.wait_idle(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| super::system_error("A runtime cannot be started", &error))?;
    runtime.block_on(async {
        super::signals::termination()?.await;
        Ok(())
    })
}
