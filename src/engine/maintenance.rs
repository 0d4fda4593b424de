//! A data directory as a whole: copied, made from a copy, checked. What `riverrun backup`, `restore` and `check` call.
//!
//! Starts no queries and writes nothing into what it reads, beyond what opening it mends. The subtle thing: a data directory belongs to
//! one process; one that a server has is copied by that server ([`Engine::backup`]) while it goes on.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use super::command_log::{CommandLog, Entry};
use super::fold::Fold;
use super::{Engine, effect, processing_log};
use crate::catalog::Catalog;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::function::Registry;
use crate::state::block::Block;
use crate::state::encoding::RowCodec;
use crate::topic::embedded::{EmbeddedLog, LogOptions};
use crate::topic::{CheckReport, Copied, Inspect, Log};

impl Engine {
    /// Writes all topics, positions and state as they are at this moment to `out`, consistent among each other, while queries go on.
    ///
    /// # Errors
    /// What cannot be read or written; an engine whose topics are in Kafka.
    pub fn backup(&self, out: &mut dyn Write) -> Result<Copied, Diagnostic> {
        Ok(self.log().export(out)?)
    }
}

/// Writes all that the data directory `dir` holds to `out`.
///
/// # Errors
/// A directory that is none, that another process has, or that cannot be read.
pub fn backup(dir: &Path, out: &mut dyn Write) -> Result<Copied, Diagnostic> {
    let log = open(dir)
        .map_err(|e| e.help("to back up what a running server has, let it do so: riverrun backup FILE --server URL"))?;
    Ok(log.export(out)?)
}

/// Makes the data directory `dir` out of a backup.
///
/// # Errors
/// A directory that holds something; a backup that is damaged, cut off, or of another version: then nothing is left of it.
pub fn restore(input: &mut dyn Read, dir: &Path) -> Result<Copied, Diagnostic> {
    Ok(EmbeddedLog::restore(input, dir)?)
}

/// Reads everything in the data directory `dir`: its format, all checksums, positions and stores against topics and changelogs, and the
/// command log, which is folded as a start under these server properties would.
///
/// # Errors
/// A directory that is none, that another process has, or that cannot be opened; what is found wrong inside is in the report.
pub fn check(dir: &Path, config: &Config) -> Result<CheckReport, Diagnostic> {
    let log = open(dir)?;
    let inspect =
        Inspect { block: &|bytes| Block::open(bytes).map(drop), entry: &|_, row| RowCodec::rowtime(row).map(drop) };
    // damaged tables may make the storage engine panic; that too is a finding
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| log.check(&inspect)));
    let Ok(checked) = checked else {
        let mut report = CheckReport::default();
        report.problem("reading the storage ended in the middle; what it said stands above".into());
        return Ok(report);
    };
    let mut report = checked?;
    commands(&log, config, &mut report)?;
    Ok(report)
}

fn open(dir: &Path) -> Result<Arc<EmbeddedLog>, Diagnostic> {
    let there = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if !there {
        return Err(Diagnostic::user(format!("there is no data directory at {}", dir.display()))
            .help("name one with --data-dir"));
    }
    Ok(EmbeddedLog::open(dir, LogOptions::default(), Arc::new(SystemClock))?)
}

/// Folds the command logs of all services in the log; a command that does not apply is a problem.
fn commands(log: &Arc<EmbeddedLog>, config: &Config, report: &mut CheckReport) -> Result<(), Diagnostic> {
    let log: Arc<dyn Log> = log.clone();
    for topic in log.topics()? {
        let Some(service_id) = CommandLog::service_of(&topic.name) else { continue };
        let fold = Fold { registry: Registry::builtin(), config, service_id };
        let mut catalog = Catalog::default();
        catalog.put_source(processing_log::source(&processing_log::topic_name(config, service_id))?);
        let read = match CommandLog::open(log.clone(), service_id).and_then(|commands| commands.read(0)) {
            Ok((read, _)) => read,
            Err(error) => {
                report.problem(format!("the command log of service '{service_id}' cannot be read: {}", error.message));
                continue;
            }
        };
        let mut previous = -1;
        for (offset, entry) in read {
            let command = match entry {
                Ok(Entry::Note(_)) => continue,
                Ok(Entry::Command(command)) => Ok(command),
                Err(reason) => Err(reason),
            };
            match command.map_err(Diagnostic::user).and_then(|c| fold.effect(&c, previous, &catalog)) {
                Ok(effect) => effect.changes.iter().for_each(|change| effect::apply(&mut catalog, change)),
                Err(error) => report.problem(format!(
                    "command {offset} of service '{service_id}' does not apply any more: {}",
                    error.message
                )),
            }
            previous = offset;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
