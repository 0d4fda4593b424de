//! The command line: what was typed becomes a command, a command an exit code.
//!
//! One file a command; [`place`] turns `--data-dir` and `--server` into a client for all of them. The subtle thing: every error ends here,
//! is written to standard error with its remedy, and makes the exit code 1.

mod command_topic;
mod datagen;
mod door;
mod maintenance;
mod place;
mod records;
mod run;
mod server;
mod shell;
mod signals;
mod test;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::diagnostic::Diagnostic;
use crate::shell::layout::error_text;

pub use place::Place;

const EXAMPLES: &str = "\
Examples:
  riverrun                                          start a shell on your own data folder
  riverrun -e 'SHOW STREAMS;'                       execute statements and end
  riverrun --server http://localhost:8088           a shell on a server
  riverrun server --data-dir /var/lib/riverrun      serve HTTP on 127.0.0.1:8088
  riverrun run pipeline.sql                         execute a file until all input is consumed";

/// A SQL engine for streams: the KSQL dialect over an embedded log or Kafka.
#[derive(Debug, Parser)]
#[command(name = "riverrun", version, about, after_help = EXAMPLES, args_conflicts_with_subcommands = false)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    shell: shell::ShellArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read statements from a terminal, a pipe, -e or -f (the default)
    Shell(shell::ShellArgs),
    /// Serve the HTTP API
    Server(server::ServerArgs),
    /// Execute files of statements until all their input is consumed
    Run(run::RunArgs),
    /// Run tests written in SQL
    Test(test::TestArgs),
    /// Append records to a topic, from a file or a pipe
    Produce(records::ProduceArgs),
    /// Write the records of a topic to standard output
    Consume(records::ConsumeArgs),
    /// Make records up, at a rate: orders, users, pageviews, clickstream or nexmark
    Datagen(datagen::DatagenArgs),
    /// Copy a data directory, or a running server's, into a file
    Backup(maintenance::BackupArgs),
    /// Make a data directory out of a backup
    Restore(maintenance::RestoreArgs),
    /// Copy what a service declared, its command topic, into a file or back
    #[command(name = "command-topic")]
    Declared(command_topic::CommandTopicArgs),
    /// Read a whole data directory and say what is wrong with it
    Check(maintenance::CheckArgs),
}

/// Executes what the arguments say, the program's name first; `on_kafka` is called before an engine is opened on a cluster.
pub fn main(arguments: impl IntoIterator<Item = OsString>, on_kafka: fn()) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Nowhere is left to say that even this cannot be printed.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    log_to_stderr();
    place::before_kafka(on_kafka);
    let result = match cli.command {
        None => shell::shell(&cli.place, &cli.shell),
        Some(Command::Shell(arguments)) => shell::shell(&cli.place, &arguments.or(cli.shell)),
        Some(Command::Server(arguments)) => server::server(&cli.place, &arguments),
        Some(Command::Run(arguments)) => run::run(&cli.place, &arguments),
        Some(Command::Test(arguments)) => return test::test(&cli.place, &arguments),
        Some(Command::Produce(arguments)) => records::produce(&cli.place, &arguments),
        Some(Command::Consume(arguments)) => records::consume(&cli.place, &arguments),
        Some(Command::Datagen(arguments)) => datagen::datagen(&cli.place, &arguments),
        Some(Command::Backup(arguments)) => maintenance::backup(&cli.place, &arguments),
        Some(Command::Restore(arguments)) => maintenance::restore(&cli.place, &arguments),
        Some(Command::Declared(arguments)) => command_topic::command_topic(&cli.place, &arguments),
        Some(Command::Check(arguments)) => maintenance::check(&cli.place, &arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error_text(&error, std::io::stderr().is_terminal()));
            ExitCode::FAILURE
        }
    }
}

/// Sends warnings and errors to standard error; `RIVERRUN_LOG` says otherwise, such as `info` or `riverrun::server=debug`.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("RIVERRUN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,riverrun=info"));
    // A second subscriber in one process (a test) is refused; the first one stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

/// What a failed call of the system becomes.
fn system_error(what: &str, error: &std::io::Error) -> Diagnostic {
    Diagnostic::user(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_examples() {
        let command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n  riverrun "), "{} has no examples", sub.get_name());
        }
    }

    #[test]
    fn the_place_may_stand_before_or_after_the_command() {
        for arguments in [["riverrun", "--data-dir", "d", "shell"], ["riverrun", "shell", "--data-dir", "d"]] {
            let cli = Cli::try_parse_from(arguments).unwrap();
            assert_eq!(cli.place.data_dir.as_deref(), Some(std::path::Path::new("d")));
        }
        assert!(Cli::try_parse_from(["riverrun", "--data-dir", "d", "--server", "s"]).is_err());
        let cli = Cli::try_parse_from(["riverrun", "-e", "SHOW STREAMS;"]).unwrap();
        assert!(cli.command.is_none() && cli.shell.execute == ["SHOW STREAMS;"]);
    }
}
