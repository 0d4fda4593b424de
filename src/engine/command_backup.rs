//! The command topic as a file, and back: what a service declared, apart from its data.
//!
//! A line of JSON first for what the file is, then one a record. The subtle thing: commands name others by their place in the topic; restored,
//! they have other places, so these are put in anew, and everything goes in by one commit: all of it is there or nothing.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command_log::{CommandLog, Entry};
use super::{EngineConfig, effect, open_log, processing_log};
use crate::catalog::Catalog;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::function::Registry;
use crate::topic::{Log, Offset};

use super::fold::Fold;

/// What the first line says.
const KIND: &str = "riverrun command topic";
const VERSION: u32 = 1;
/// Longest line that is read, in bytes.
const LINE_BYTES: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Head {
    kind: String,
    version: u32,
    service: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    offset: Offset,
    entry: Entry,
}

/// What became of the records of a command topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandsCopied {
    /// written to the file, or to the topic
    pub entries: usize,
    /// left out, with the reason
    pub left_out: Vec<String>,
    /// commands that do not apply where they stand, with the reason
    pub void: Vec<String>,
}

/// A log opened for its command topic alone; no query runs.
pub struct CommandTopic {
    log: Arc<dyn Log>,
    config: Config,
    service_id: String,
}

impl CommandTopic {
    /// Opens the log that `config` names.
    ///
    /// # Errors
    /// As [`super::Engine::open`].
    pub fn open(config: &EngineConfig) -> Result<Self, Diagnostic> {
        let properties = Config::new(&config.properties)?;
        let clock: Arc<dyn Clock> = config.clock.clone().unwrap_or_else(|| Arc::new(SystemClock));
        let log = open_log(config, &properties, &clock)?;
        let service_id = properties.text(crate::config::SERVICE_ID).unwrap_or("default_").to_owned();
        Ok(Self { log, config: properties, service_id })
    }

    /// Writes all commands to `out`; records that are none are left out.
    ///
    /// # Errors
    /// A service without a command topic; what cannot be read or written.
    pub fn backup(&self, out: &mut dyn Write) -> Result<CommandsCopied, Diagnostic> {
        let topic = CommandLog::topic_of(&self.service_id);
        if self.log.describe(&topic)?.is_none() {
            return Err(Diagnostic::user(format!("the service '{}' has no command topic here", self.service_id))
                .help("name the service with --set ksql.service.id=ID"));
        }
        let (entries, _) = CommandLog::open(self.log.clone(), &self.service_id)?.read(0)?;
        let mut copied = CommandsCopied::default();
        let head = Head { kind: KIND.to_owned(), version: VERSION, service: self.service_id.clone() };
        write_line(out, &head)?;
        for (offset, entry) in entries {
            match entry {
                Ok(entry) => {
                    write_line(out, &Line { offset, entry })?;
                    copied.entries += 1;
                }
                Err(reason) => copied.left_out.push(format!("record {offset} is no command: {reason}")),
            }
        }
        out.flush().map_err(|error| cannot_write(&error))?;
        Ok(copied)
    }

    /// Puts the commands of a file into the service's command topic, which must be empty; `replace` empties it first.
    ///
    /// # Errors
    /// A file that is none of [`Self::backup`], or damaged; a topic that holds something: then nothing is changed.
    pub fn restore(&self, input: &mut dyn BufRead, replace: bool) -> Result<CommandsCopied, Diagnostic> {
        let entries = read_file(input)?;
        let topic = CommandLog::topic_of(&self.service_id);
        if self.log.describe(&topic)?.is_some() {
            let (held, _) = CommandLog::open(self.log.clone(), &self.service_id)?.read(0)?;
            if !held.is_empty() && !replace {
                return Err(Diagnostic::user(format!(
                    "the command topic '{topic}' holds {} records already",
                    held.len()
                ))
                .help("give --replace to put the file in their place, with no node of the service running"));
            }
            self.log.delete_topic(&topic)?;
        }
        let commands = CommandLog::open(self.log.clone(), &self.service_id)?;
        let placed = placed_anew(entries);
        commands.append_all(&placed)?;
        let mut copied = CommandsCopied { entries: placed.len(), ..CommandsCopied::default() };
        copied.void = self.void(&commands)?;
        Ok(copied)
    }

    /// Commands that do not apply where they stand, with the reason.
    ///
    /// # Errors
    /// If the topic cannot be read.
    fn void(&self, commands: &CommandLog) -> Result<Vec<String>, Diagnostic> {
        let fold = Fold { registry: Registry::builtin(), config: &self.config, service_id: &self.service_id };
        let mut catalog = Catalog::default();
        catalog.put_source(processing_log::source(&processing_log::topic_name(&self.config, &self.service_id))?);
        let (mut previous, mut void) = (-1, Vec::new());
        for (offset, entry) in commands.read(0)?.0 {
            let command = match entry {
                Ok(Entry::Note(_)) => continue,
                Ok(Entry::Command(command)) => Ok(command),
                Err(reason) => Err(Diagnostic::user(reason)),
            };
            match command.and_then(|c| fold.effect(&c, previous, &catalog)) {
                Ok(effect) => effect.changes.iter().for_each(|change| effect::apply(&mut catalog, change)),
                Err(error) => void.push(format!("command {offset}: {}", error.message)),
            }
            previous = offset;
        }
        Ok(void)
    }
}

fn read_file(input: &mut dyn BufRead) -> Result<Vec<(Offset, Entry)>, Diagnostic> {
    let head = next_line(input)?.unwrap_or_default();
    let head: Head = serde_json::from_str(&head)
        .map_err(|_| wrong("it does not begin as one").help("give a file of 'riverrun command-topic backup'"))?;
    if head.kind != KIND {
        return Err(wrong(&format!("it is a file of '{}'", head.kind)));
    }
    if head.version > VERSION {
        return Err(wrong(&format!("it has form {}, this release reads {VERSION}", head.version)));
    }
    let mut entries: Vec<(Offset, Entry)> = Vec::new();
    while let Some(text) = next_line(input)? {
        let number = entries.len() + 2;
        let damaged = |reason: String| wrong(&format!("line {number}: {reason}"));
        let line: Line = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        if entries.last().is_some_and(|(before, _)| *before >= line.offset) {
            return Err(damaged("its offset does not come after the one before".to_owned()));
        }
        entries.push((line.offset, line.entry));
    }
    Ok(entries)
}

/// The next line that is not blank, without its end.
fn next_line(input: &mut dyn BufRead) -> Result<Option<String>, Diagnostic> {
    loop {
        let mut line = String::new();
        let read = std::io::Read::take(&mut *input, LINE_BYTES).read_line(&mut line);
        match read.map_err(|error| wrong(&error.to_string()))? {
            0 => return Ok(None),
            _ if line.trim().is_empty() => {}
            _ => return Ok(Some(line)),
        }
    }
}

/// The entries as they are to stand from offset 0 on: what they say of each other's places is put in anew.
fn placed_anew(entries: Vec<(Offset, Entry)>) -> Vec<Entry> {
    let places: BTreeMap<Offset, Offset> = (0..).zip(&entries).map(|(place, (offset, _))| (*offset, place)).collect();
    // What is left out counts as the one before it.
    let place = |old: Offset| places.range(..=old).next_back().map_or(-1, |(_, place)| *place);
    let anew = entries.into_iter().map(|(_, entry)| match entry {
        Entry::Command(mut command) => {
            command.based_on = place(command.based_on);
            Entry::Command(command)
        }
        Entry::Note(note) => {
            let of = place(note.of());
            Entry::Note(note.about(of))
        }
    });
    anew.collect()
}

fn write_line(out: &mut dyn Write, line: &impl Serialize) -> Result<(), Diagnostic> {
    let mut text = serde_json::to_string(line).map_err(|e| defect(&e))?;
    text.push('\n');
    out.write_all(text.as_bytes()).map_err(|error| cannot_write(&error))
}

fn cannot_write(error: &std::io::Error) -> Diagnostic {
    Diagnostic::user(format!("The copy of the command topic cannot be written: {error}"))
}

fn defect(error: &serde_json::Error) -> Diagnostic {
    Diagnostic::new(ErrorClass::Fatal, format!("a command has no JSON form: {error}"))
}

fn wrong(reason: &str) -> Diagnostic {
    Diagnostic::user(format!("This is no whole copy of a command topic: {reason}"))
}

#[cfg(test)]
mod tests;
