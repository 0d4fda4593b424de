//! Statements become effects: the only writer of the catalog and the runtime.
//!
//! This file is the signatures that the doors call, over a stand-in that keeps rows in memory; the engine replaces both.

mod fake;
pub mod outcome;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

pub use outcome::*;

use crate::diagnostic::Diagnostic;

/// How an engine is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineConfig {
    /// where topics and state are kept; `None`: in memory
    pub data_dir: Option<PathBuf>,
    /// server-wide properties, by ksqlDB's names
    pub properties: BTreeMap<String, String>,
    /// worker threads; `None`: one a core
    pub workers: Option<usize>,
}

/// A record to append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawRecord {
    /// its partition; `None`: by its key
    pub partition: Option<i32>,
    /// key bytes
    pub key: Option<Vec<u8>>,
    /// value bytes; `None`: a tombstone
    pub value: Option<Vec<u8>>,
    /// row time in ms; `None`: now
    pub timestamp: Option<i64>,
    /// headers, in order
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record as it stands in its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    /// its partition
    pub partition: i32,
    /// its offset
    pub offset: i64,
    /// row time in ms
    pub timestamp: i64,
    /// key bytes
    pub key: Option<Vec<u8>>,
    /// value bytes; `None`: a tombstone
    pub value: Option<Vec<u8>>,
    /// headers, in order
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// What one read of a partition gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordPage {
    /// the records, possibly none
    pub records: Vec<ReadRecord>,
    /// the offset to read from next
    pub next: i64,
    /// the offset that the next committed record will get
    pub end: i64,
}

/// A topic with the bounds of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDetail {
    /// its name
    pub name: String,
    /// first offset and end of each partition
    pub partitions: Vec<(i64, i64)>,
}

/// A service: topics, catalog, running queries. Cheap to clone; the last clone closes it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<fake::Service>,
}

/// Properties and variables of one user, and the way to execute statements.
pub struct Session {
    engine: Engine,
    /// overrides by canonical name
    pub properties: BTreeMap<String, String>,
    /// variables; names are looked up without regard to case
    pub variables: BTreeMap<String, String>,
}

impl Engine {
    /// Opens the service in its data directory, and starts what its command log says.
    ///
    /// # Errors
    /// A data directory that is in use, cannot be written or is of another format; an unknown property.
    pub fn open(config: EngineConfig) -> Result<Self, Diagnostic> {
        let config_values = crate::config::Config::new(&config.properties)?;
        if let Some(dir) = &config.data_dir {
            std::fs::create_dir_all(dir).map_err(|e| Diagnostic::user(format!("cannot use {}: {e}", dir.display())))?;
        }
        Ok(Self { inner: Arc::new(fake::Service::new(config_values)) })
    }

    /// A new session with the server's properties.
    pub fn session(&self) -> Session {
        Session { engine: self.clone(), properties: BTreeMap::new(), variables: BTreeMap::new() }
    }

    /// Commits, stops all queries, and closes the storage.
    ///
    /// # Errors
    /// If the storage says no.
    pub fn close(self) -> Result<(), Diagnostic> {
        self.inner.close();
        Ok(())
    }

    /// Waits until all persistent queries have consumed and committed all input.
    ///
    /// # Errors
    /// A query that failed; a timeout.
    pub fn wait_idle(&self, _timeout: Option<Duration>) -> Result<(), Diagnostic> {
        Ok(())
    }

    /// Names of sources with those of their columns, for completion.
    pub fn catalog_names(&self) -> Vec<(String, Vec<String>)> {
        self.inner.names()
    }

    /// `ksql.service.id`.
    pub fn service_id(&self) -> String {
        self.inner.config.text(crate::config::SERVICE_ID).unwrap_or("").to_owned()
    }

    /// Appends records; returns partition and offset of each, in order, when all are durable.
    ///
    /// # Errors
    /// An unknown topic or partition; a record that is too large.
    pub fn append(&self, topic: &str, records: Vec<RawRecord>) -> Result<Vec<(i32, i64)>, Diagnostic> {
        self.inner.append(topic, records)
    }

    /// Reads at most `max` records of a partition from an offset on; none at the end.
    ///
    /// # Errors
    /// An unknown topic or partition.
    pub fn read(&self, topic: &str, partition: i32, from: i64, max: usize) -> Result<RecordPage, Diagnostic> {
        self.inner.read(topic, partition, from, max)
    }

    /// Waits until a partition has a record at or after its offset in `from`, at most `timeout`; true if one has.
    ///
    /// # Errors
    /// An unknown topic or partition.
    pub fn wait_records(&self, topic: &str, from: &[(i32, i64)], timeout: Duration) -> Result<bool, Diagnostic> {
        self.inner.wait_records(topic, from, timeout)
    }

    /// The topic, if there is one.
    ///
    /// # Errors
    /// If the log cannot be asked.
    pub fn topic(&self, name: &str) -> Result<Option<TopicDetail>, Diagnostic> {
        Ok(self.inner.topic(name))
    }

    /// Inserts rows given as objects: fields are columns, keys included; ROWTIME sets the timestamp. `target` is a name as in SQL.
    /// All rows that are right are inserted; the result of each is in its place.
    ///
    /// # Errors
    /// A target that cannot be inserted into.
    pub fn insert_json(
        &self,
        target: &str,
        rows: Vec<Map<String, Value>>,
    ) -> Result<Vec<Result<(), Diagnostic>>, Diagnostic> {
        self.inner.insert_json(target, rows)
    }
}

impl Session {
    /// Validates all statements of `text`, then executes them one by one.
    ///
    /// # Errors
    /// The first that is wrong, with the outcomes of those before it.
    pub fn execute(&mut self, text: &str) -> Result<Vec<Outcome>, ScriptError> {
        fake::execute(self, text)
    }

    /// Runs one SELECT or PRINT.
    ///
    /// # Errors
    /// If it is wrong, or no query.
    pub fn query(&mut self, sql: &str) -> Result<Rows, ScriptError> {
        fake::query(self, sql)
    }
}
