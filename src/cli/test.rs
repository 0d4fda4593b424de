//! `riverrun test`: hands its arguments to the SQL test runner.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::place::{Place, brokers};
use crate::sqltest::{self, Batching, TestOptions};

const EXAMPLES: &str = "\
Examples:
  riverrun test tests/
  riverrun test orders.sql --filter 'late rows'
  riverrun test tests/ --batching random --restart
  riverrun test tests/ --bootstrap-servers localhost:9092";

/// How the input of a test is cut into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BatchingArg {
    /// a record at a time
    One,
    /// everything at once
    Whole,
    /// at random places
    Random,
}

/// Arguments of `test`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct TestArgs {
    /// Test files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Run only tests whose name contains this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// How the input is cut into batches
    #[arg(long, value_enum, default_value = "one")]
    batching: BatchingArg,
    /// Restart the engine after each step
    #[arg(long)]
    restart: bool,
}

/// Runs the tests; the runner says what failed.
pub(super) fn test(place: &Place, arguments: &TestArgs) -> ExitCode {
    if place.server.is_some() {
        eprintln!("Tests run on an engine of their own, not on a server\nHelp: leave --server away");
        return ExitCode::FAILURE;
    }
    let properties = match place.properties(&Default::default()) {
        Ok(properties) => properties,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    sqltest::main(&TestOptions {
        bootstrap_servers: brokers(&properties).map(str::to_owned),
        paths: arguments.paths.clone(),
        filter: arguments.filter.clone(),
        batching: match arguments.batching {
            BatchingArg::One => Batching::One,
            BatchingArg::Whole => Batching::Whole,
            BatchingArg::Random => Batching::Random,
        },
        restart: arguments.restart,
    })
}
