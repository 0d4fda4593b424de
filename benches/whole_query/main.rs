//! Whole queries on the embedded log, end to end: records/s from the earliest offset to the commit of the last input.
//!
//! `cargo bench --bench whole_query -- [--records N] [--workers N] [--runs N] [--data DIR] [QUERY…]`; pin it with `taskset -c 0`. The
//! subtle thing: each run is a process of its own on the same folder of data, so that its CPU time and peak memory are the query's alone;
//! each begins with the data in the system's page cache, and its output is compared with the answer computed while the data were made.

mod data;
mod latency;
mod measure;
mod query;
mod stage;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;

/// The allocator of the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What runs when no query is named.
const DEFAULT: [&str; 7] = ["stages", "filter", "count", "regroup", "join", "session", "latency"];

/// The query that runs on data of its own, with so many customers: how often keys come again decides how much becomes one change.
const FEW: &str = "tumbling_few";
const FEW_CUSTOMERS: i64 = 1000;

/// Whole queries on the embedded log, end to end.
#[derive(Parser)]
struct Arguments {
    /// stages, filter, project, count, tumbling, tumbling_few, regroup, join, session, ssjoin, latency, idle; without any: stages, filter, count,
    /// regroup, join, session, latency
    queries: Vec<String>,
    /// orders (and payments)
    #[arg(long, default_value_t = 4_000_000)]
    records: i64,
    /// customers
    #[arg(long, default_value_t = 100_000)]
    customers: i64,
    /// worker threads; 0: one more than cores the process may use
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// runs of each query
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// folder of the data, made if it is not there and kept; without it a temporary one
    #[arg(long)]
    data: Option<PathBuf>,
    /// do one thing in this process: `load`, or a query
    #[arg(long, hide = true)]
    child: Option<String>,
    /// what cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (&arguments.child, &arguments.data) {
        (Some(child), Some(data)) => run_child(child, data, &arguments),
        _ => run_all(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(arguments: &Arguments) -> Result<(), String> {
    let temporary = tempfile::tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
    let data = arguments.data.clone().unwrap_or_else(|| temporary.path().join("data"));
    let queries = match arguments.queries.as_slice() {
        [] => DEFAULT.map(str::to_owned).to_vec(),
        named => named.to_vec(),
    };
    println!("{}", measure::HEAD);
    let few = data.join("few");
    for query in &queries {
        let (data, customers) = if query == FEW { (&few, FEW_CUSTOMERS) } else { (&data, arguments.customers) };
        if !data::is_loaded(data) {
            spawn("load", data, customers, arguments)?;
        }
        for _ in 0..arguments.runs.max(1) {
            spawn(query, data, customers, arguments)?;
        }
    }
    Ok(())
}

/// Reads all the data once, so that no run waits for a disk that another did not wait for: systems drop what was not used for some minutes.
fn warm(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            warm(&path)?;
        } else {
            std::io::copy(&mut std::fs::File::open(&path)?, &mut std::io::sink())?;
        }
    }
    Ok(())
}

fn spawn(child: &str, data: &Path, customers: i64, arguments: &Arguments) -> Result<(), String> {
    if data.exists() {
        warm(data).map_err(|e| format!("{} cannot be read: {e}", data.display()))?;
    }
    let program = std::env::current_exe().map_err(|e| format!("this program has no path: {e}"))?;
    let mut command = Command::new(program);
    command.args(["--child", child, "--data"]).arg(data);
    for (name, value) in
        [("--records", arguments.records), ("--customers", customers), ("--workers", arguments.workers as i64)]
    {
        command.args([name, &value.to_string()]);
    }
    let status = command.status().map_err(|e| format!("{child} did not start: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{child} failed")) }
}

fn run_child(child: &str, data: &Path, arguments: &Arguments) -> Result<(), String> {
    let workers = (arguments.workers > 0).then_some(arguments.workers);
    match child {
        "load" => data::load(data, arguments.records, arguments.customers),
        "stages" => stage::run(data),
        "latency" => latency::run(data, workers),
        "idle" => query::idle(data, workers),
        query => query::run(query, data, workers),
    }
}
