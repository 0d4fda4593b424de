//! The query cases of the folder that `RIVERRUN_CONFORMANCE` names, on a real Kafka: what passes on a log in memory passes there.
//!
//! Some of them, spread over all; `RIVERRUN_KAFKA_CASES=all` takes all (`scripts/kafka-cases` does, with a broker of its own). Without folder or
//! broker nothing is checked, and the test says so. The subtle thing: which cases pass is found out first, so that the lists cannot part.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};

use riverrun::sqltest::{Batching, Options, Report, run};

/// How many cases are enough in CI.
const SOME: usize = 120;

/// Cases that a cluster cannot answer alike, with the reason.
const NOT_ALIKE: &[(&str, &str)] = &[];

fn score(folder: &Path, brokers: Option<&str>, only: Option<BTreeSet<String>>) -> Report {
    let bootstrap_servers = brokers.map(str::to_owned);
    let options =
        Options { batching: Batching::One, only, seed: 1, bootstrap_servers, threads: 4, ..Options::default() };
    run(&[folder.to_owned()], &options).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn cases_pass_on_a_broker_as_well() {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(root), Some(brokers)) = (set("RIVERRUN_CONFORMANCE"), set("RIVERRUN_KAFKA")) else {
        eprintln!("not checked: RIVERRUN_CONFORMANCE or RIVERRUN_KAFKA is not set");
        return;
    };
    let folder = PathBuf::from(root).join("query");
    let alone = score(&folder, None, None);
    let passing: Vec<String> = alone.cases.iter().filter(|c| c.failure.is_none()).map(|c| c.name.clone()).collect();
    let wanted = match set("RIVERRUN_KAFKA_CASES").as_deref() {
        Some("all") => passing.len(),
        Some(number) => number.parse().expect("RIVERRUN_KAFKA_CASES is a number, or all"),
        None => SOME,
    };
    let every = passing.len().div_ceil(wanted.max(1)).max(1);
    let names: BTreeSet<String> =
        passing.into_iter().step_by(every).filter(|name| NOT_ALIKE.iter().all(|(other, _)| name != other)).collect();
    let report = score(&folder, Some(&brokers), Some(names.clone()));
    let failed = report.failures();
    println!("cases on a broker: {} of {}", names.len() - failed.len(), names.len());
    assert!(failed.is_empty(), "{} of {} failed\n{}", failed.len(), names.len(), failed.join("\n"));
}
