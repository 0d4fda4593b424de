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

/// A command and its place, or why what stands there is none.
pub type Placed = (Offset, Result<Command, String>);

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
        let topic = TopicName::new(format!("{TOPIC_PREFIX}{service_id}{TOPIC_SUFFIX}"));
        if log.describe(&topic)?.is_none() {
            let spec = TopicSpec { name: topic.clone(), partitions: 1, replicas: 1, cleanup: Cleanup::default() };
            match log.create_topic(&spec) {
                // another node made it at the same moment
                Ok(()) | Err(TopicError::Exists(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { log, at: TopicPartition::new(topic, 0) })
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
        let json =
            serde_json::to_vec(command).map_err(|e| Diagnostic::user(format!("the command cannot be written: {e}")))?;
        let append = Append {
            to: self.at.clone(),
            timestamps: vec![NO_TIMESTAMP].into(),
            keys: BinaryArray::from_opt_vec(vec![None]),
            values: BinaryArray::from_opt_vec(vec![Some(&json)]),
            headers: None,
        };
        let receipt = self.log.commit(Commit { outputs: vec![append], ..Commit::default() })?;
        self.log.sync()?;
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

    /// Commands from `from` to the end, with their places; what cannot be read is given as the reason. Gives also where to read on.
    ///
    /// # Errors
    /// If the log cannot be read at all.
    pub fn read(&self, from: Offset) -> Result<(Vec<Placed>, Offset), Diagnostic> {
        let mut commands = Vec::new();
        let mut next = from;
        loop {
            let fetched = self.log.read(&self.at, next, ReadLimit::default())?;
            for row in 0..fetched.batch.len() {
                commands.push((fetched.batch.offsets[row], command(&fetched.batch, row)));
            }
            next = fetched.next.max(next);
            if next >= fetched.end {
                return Ok((commands, next));
            }
        }
    }
}

fn command(batch: &RawBatch, row: usize) -> Result<Command, String> {
    if batch.values.is_null(row) {
        return Err("the record is empty".to_owned());
    }
    let command: Command = serde_json::from_slice(batch.values.value(row)).map_err(|e| e.to_string())?;
    if command.version > VERSION {
        return Err(format!("it has form {}, this release reads {VERSION}", command.version));
    }
    Ok(command)
}
