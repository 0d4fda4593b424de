//! Accepted statements, durable and ordered: the service's command topic.
//!
//! Holds texts with everything outside already resolved (partition counts, ids, properties), never plans. The subtle thing: the catalog is
//! the fold of this log and nothing else; a command that no longer applies is reported and passed over, and never stops a start.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, BinaryArray};
use serde::{Deserialize, Serialize};

use crate::diagnostic::Diagnostic;
use crate::topic::{
    Append, Cleanup, Commit, Log, NO_TIMESTAMP, Offset, RawBatch, ReadLimit, TopicError, TopicPartition, TopicSpec,
};
use crate::types::TopicName;

/// Version of the command's JSON form.
const VERSION: u32 = 1;

/// What the name of a command topic has before and after the service's id.
const TOPIC_PREFIX: &str = "_confluent-ksql-";
const TOPIC_SUFFIX: &str = "_command_topic";

/// One accepted statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// form of this record
    pub version: u32,
    /// the statement's text, variables put in
    pub statement: String,
    /// properties that its session had set
    pub properties: BTreeMap<String, String>,
    /// partitions of the topics it looked at or made
    pub partitions: BTreeMap<String, i32>,
    /// the last command its writer had applied (-1: none)
    pub based_on: i64,
    /// stores and internal topics of the query it starts, by name: planning it again must give the same
    pub identity: Vec<String>,
}

impl Command {
    /// A command of today's form.
    pub fn new(
        statement: String,
        properties: BTreeMap<String, String>,
        partitions: BTreeMap<String, i32>,
        based_on: i64,
        identity: Vec<String>,
    ) -> Self {
        Self { version: VERSION, statement, properties, partitions, based_on, identity }
    }
}

/// What a node did beside the commands; it changes nothing of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// it removes what the command at this place left
    Claimed {
        /// the command's place
        of: Offset,
        /// who
        by: String,
        /// those that it takes for dead, who would have removed it otherwise
        over: Vec<String>,
    },
    /// what the command at this place left is removed
    Cleaned {
        /// the command's place
        of: Offset,
        /// by whom; empty: by the command's submitter
        by: String,
    },
}

impl Note {
    /// The same about the command at another place.
    #[must_use]
    pub fn about(self, of: Offset) -> Self {
        match self {
            Self::Claimed { by, over, .. } => Self::Claimed { of, by, over },
            Self::Cleaned { by, .. } => Self::Cleaned { of, by },
        }
    }

    /// The command's place.
    pub fn of(&self) -> Offset {
        match self {
            Self::Claimed { of, .. } | Self::Cleaned { of, .. } => *of,
        }
    }
}

/// A note as it is written.
#[derive(Serialize, Deserialize)]
struct NoteRecord {
    version: u32,
    note: Note,
}

/// What stands in the command topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// an accepted statement
    Command(Command),
    /// what a node did
    Note(Note),
}

/// An entry and its place, or why what stands there is none.
pub type Placed = (Offset, Result<Entry, String>);

/// The command topic of a service.
pub struct CommandLog {
    log: Arc<dyn Log>,
    at: TopicPartition,
}

impl CommandLog {
    /// Opens the command topic, making it if it is not there.
    ///
    /// # Errors
    /// If the log says no.
    pub fn open(log: Arc<dyn Log>, service_id: &str) -> Result<Self, Diagnostic> {
        Self::open_or_make(log, service_id, i16::MAX)
    }

    /// The same, where a new one has so many replicas; `i16::MAX`: as many as the brokers give by default.
    ///
    /// # Errors
    /// If the log says no.
    pub fn open_or_make(log: Arc<dyn Log>, service_id: &str, replicas: i16) -> Result<Self, Diagnostic> {
        let topic = Self::topic_of(service_id);
        if log.describe(&topic)?.is_none() {
            let spec = TopicSpec { name: topic.clone(), partitions: 1, replicas, cleanup: Cleanup::default() };
            match log.create_topic(&spec) {
                // another node made it at the same moment
                Ok(()) | Err(TopicError::Exists(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { log, at: TopicPartition::new(topic, 0) })
    }

    /// The command topic of a service.
    pub fn topic_of(service_id: &str) -> TopicName {
        TopicName::new(format!("{TOPIC_PREFIX}{service_id}{TOPIC_SUFFIX}"))
    }

    /// The service whose command topic this is, if it is one.
    pub fn service_of(topic: &TopicName) -> Option<&str> {
        topic.as_str().strip_prefix(TOPIC_PREFIX)?.strip_suffix(TOPIC_SUFFIX)
    }

    /// Appends a command; it is true from here on. Gives its place.
    ///
    /// # Errors
    /// If it could not be made durable. It may be there nevertheless: ask [`Self::read`] once the log is [`Self::sure`].
    pub fn append(&self, command: &Command) -> Result<i64, Diagnostic> {
        let offset = self.append_json(&[json(command)?])?;
        self.log.sync()?;
        Ok(offset)
    }

    /// Appends a note. Gives its place.
    ///
    /// # Errors
    /// If the log says no.
    pub fn append_note(&self, note: &Note) -> Result<Offset, Diagnostic> {
        self.append_json(&[json(&NoteRecord { version: VERSION, note: note.clone() })?])
    }

    /// Appends entries to an empty topic, all or none.
    ///
    /// # Errors
    /// If the log says no, or somebody else was faster.
    pub fn append_all(&self, entries: &[Entry]) -> Result<(), Diagnostic> {
        let record = |entry: &Entry| match entry {
            Entry::Command(command) => json(command),
            Entry::Note(note) => json(&NoteRecord { version: VERSION, note: note.clone() }),
        };
        let records = entries.iter().map(record).collect::<Result<Vec<_>, _>>()?;
        if records.is_empty() {
            return Ok(());
        }
        let base = self.append_json(&records)?;
        self.log.sync()?;
        if base == 0 {
            return Ok(());
        }
        Err(Diagnostic::user(format!("somebody wrote to the command topic meanwhile; the entries begin at {base}"))
            .help("stop all nodes of the service and restore again with --replace"))
    }

    fn append_json(&self, records: &[Vec<u8>]) -> Result<Offset, Diagnostic> {
        let append = Append {
            to: self.at.clone(),
            timestamps: vec![NO_TIMESTAMP; records.len()].into(),
            keys: BinaryArray::from_opt_vec(vec![None; records.len()]),
            values: BinaryArray::from_opt_vec(records.iter().map(|json| Some(json.as_slice())).collect()),
            headers: None,
        };
        let receipt = self.log.commit(Commit { outputs: vec![append], ..Commit::default() })?;
        Ok(receipt.base_offsets.first().copied().unwrap_or_default())
    }

    /// Makes durable what [`Self::read`] gives, after a write failed.
    ///
    /// # Errors
    /// If the log must be opened again first, or fails.
    pub fn sure(&self) -> Result<(), Diagnostic> {
        self.log.writable()?;
        Ok(self.log.sync()?)
    }

    /// Commands and notes from `from` to the end, with their places; what cannot be read is given as the reason. Gives also where to read on.
    ///
    /// # Errors
    /// If the log cannot be read at all.
    pub fn read(&self, from: Offset) -> Result<(Vec<Placed>, Offset), Diagnostic> {
        let mut commands = Vec::new();
        let mut next = from;
        loop {
            let fetched = self.log.read(&self.at, next, ReadLimit::default())?;
            for row in 0..fetched.batch.len() {
                commands.push((fetched.batch.offsets[row], entry(&fetched.batch, row)));
            }
            next = fetched.next.max(next);
            if next >= fetched.end {
                return Ok((commands, next));
            }
        }
    }
}

fn json(record: &impl Serialize) -> Result<Vec<u8>, Diagnostic> {
    serde_json::to_vec(record).map_err(|e| Diagnostic::user(format!("the command cannot be written: {e}")))
}

fn entry(batch: &RawBatch, row: usize) -> Result<Entry, String> {
    if batch.values.is_null(row) {
        return Err("the record is empty".to_owned());
    }
    let json = batch.values.value(row);
    let (version, entry) = match serde_json::from_slice::<Command>(json) {
        Ok(command) => (command.version, Entry::Command(command)),
        Err(error) => match serde_json::from_slice::<NoteRecord>(json) {
            Ok(record) => (record.version, Entry::Note(record.note)),
            Err(_) => return Err(error.to_string()),
        },
    };
    if version > VERSION {
        return Err(format!("it has form {version}, this release reads {VERSION}"));
    }
    Ok(entry)
}
