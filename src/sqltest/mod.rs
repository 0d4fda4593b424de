//! `riverrun test`: runs `.sql` test files and JSON-lines query cases on an engine in memory, and scores them.
//!
//! The walk of a test: [`run`] has `load` find tests in files, `pool` gives each to a thread, `script_run` or `query_case` opens a `world` (an
//! engine without threads under a clock that stands still), says the statements, drives queries by hand, and `expect`, `compare` and `post` look
//! at what came. Nothing here is in the product's way: queries, tasks and codecs are those of production. The subtle thing: a test passes
//! only by what it says; a test that says nothing of a topic has not looked at it.

mod case;
mod compare;
mod exact;
mod expect;
mod failure;
mod headers;
mod load;
mod mode;
mod pool;
mod post;
mod query_case;
mod record;
mod report;
mod rows;
mod script;
mod script_run;
mod world;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::diagnostic::Diagnostic;

pub use failure::Failure;
pub use mode::Batching;

use load::Test;
use mode::Mode;

/// A test may take so long.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// What random batches are drawn from, with the test's name.
const SEED: u64 = 1;

/// What `riverrun test` was asked to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestOptions {
    /// test files (`.sql`, `.jsonl`), or folders of them
    pub paths: Vec<PathBuf>,
    /// only tests whose name contains this
    pub filter: Option<String>,
    /// how inputs are cut
    pub batching: Batching,
    /// throw the queries' state away after each step, and restore it from the last commit
    pub restart: bool,
    /// brokers of the Kafka cluster to run on; `None`: a log in memory
    pub bootstrap_servers: Option<String>,
}

/// Which tests run, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// only tests whose name contains this
    pub filter: Option<String>,
    /// only tests of these names
    pub only: Option<BTreeSet<String>>,
    /// how inputs are cut
    pub batching: Batching,
    /// throw state away after each step
    pub restart: bool,
    /// random batches are drawn from it
    pub seed: u64,
    /// threads; 0: one a core
    pub threads: usize,
    /// brokers of the Kafka cluster to run on; `None`: a log in memory
    pub bootstrap_servers: Option<String>,
}

/// How a test went.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// its name
    pub name: String,
    /// its file
    pub file: Arc<Path>,
    /// its line there, from 1
    pub line: usize,
    /// it had to be refused
    pub refusal: bool,
    /// why it failed; `None`: it passed
    pub failure: Option<Failure>,
}

/// How all tests went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// passed, and how many there are that must work
    pub positives: (usize, usize),
    /// passed, and how many there are that must be refused
    pub refusals: (usize, usize),
    /// each test, in order of files and lines
    pub cases: Vec<CaseResult>,
    /// cases of the HTTP API that were left out
    pub rest_cases: usize,
}

impl Report {
    fn of(cases: Vec<CaseResult>, rest_cases: usize) -> Self {
        let count = |refusal: bool| {
            let of_kind = cases.iter().filter(|c| c.refusal == refusal);
            (of_kind.clone().filter(|c| c.failure.is_none()).count(), of_kind.count())
        };
        Self { positives: count(false), refusals: count(true), rest_cases, cases }
    }

    /// True if every test passed.
    pub fn passed(&self) -> bool {
        self.cases.iter().all(|case| case.failure.is_none())
    }

    /// Each test that failed, with what was expected and found, indented.
    pub fn failures(&self) -> Vec<String> {
        let told = |case: &CaseResult| {
            let failure = case.failure.as_ref()?;
            Some(format!("{}: {}\n    {}", case.name, failure.headline, failure.detail.join("\n    ")))
        };
        self.cases.iter().filter_map(told).collect()
    }
}

/// Runs the tests of all paths.
///
/// # Errors
/// A path that is not there or holds no tests; a filter that leaves none.
pub fn run(paths: &[PathBuf], options: &Options) -> Result<Report, Diagnostic> {
    let loaded = load::load(paths)?;
    let wanted = |test: &Test| {
        let named = options.filter.as_ref().is_none_or(|text| test.name.contains(text.as_str()));
        named && options.only.as_ref().is_none_or(|names| names.contains(&test.name))
    };
    let found = loaded.tests.len();
    let tests: Vec<Test> = loaded.tests.into_iter().filter(wanted).collect();
    if tests.is_empty() {
        return Err(no_tests(paths, found, loaded.rest_cases, options));
    }
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        n => n,
    };
    let brokers = options.bootstrap_servers.as_deref().map(Arc::from);
    let mode = Mode { batching: options.batching, restart: options.restart, brokers };
    let seed = options.seed;
    let jobs = tests.iter().cloned().map(|test| Job { test, mode: mode.clone(), seed }).collect();
    let results = pool::run(jobs, threads, TIME_LIMIT, |job: &Job| job.test.run(&job.mode, job.seed));
    let case = |(test, result): (Test, Result<(), Failure>)| CaseResult {
        name: test.name,
        file: test.file,
        line: test.line,
        refusal: test.refusal,
        failure: result.err(),
    };
    Ok(Report::of(tests.into_iter().zip(results).map(case).collect(), loaded.rest_cases))
}

struct Job {
    test: Test,
    mode: Mode,
    seed: u64,
}

fn no_tests(paths: &[PathBuf], found: usize, rest_cases: usize, options: &Options) -> Diagnostic {
    let names = paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
    match &options.filter {
        Some(text) if found > 0 => Diagnostic::user(format!("none of {found} tests has '{text}' in its name"))
            .help("leave --filter out to run all"),
        _ if rest_cases > 0 => {
            Diagnostic::user(format!("{names} holds {rest_cases} cases of the HTTP API and no other tests"))
                .help("they need a server and are not run here")
        }
        _ => Diagnostic::user(format!("{names} holds no tests")).help("test files end in .sql or .jsonl"),
    }
}

/// `riverrun test`: runs the tests and prints the report; success if all passed.
pub fn main(options: &TestOptions) -> ExitCode {
    match command(options, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the tests and prints the report to `out`; true if all passed.
///
/// # Errors
/// As [`run`]; output that cannot be written.
pub fn command(options: &TestOptions, out: &mut dyn Write) -> Result<bool, Diagnostic> {
    let TestOptions { paths, filter, batching, restart, bootstrap_servers } = options;
    let options = Options {
        filter: filter.clone(),
        batching: *batching,
        restart: *restart,
        seed: SEED,
        bootstrap_servers: bootstrap_servers.clone(),
        ..Options::default()
    };
    let report = run(paths, &options)?;
    match report::print(&report, out) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Diagnostic::user(format!("the report cannot be written: {error}")))
        }
        _ => Ok(report.passed()),
    }
}
