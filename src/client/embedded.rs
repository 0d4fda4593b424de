//! An engine in this process, with one session.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Client, ServerInfo};
use crate::config;
use crate::diagnostic::Diagnostic;
use crate::engine::{Engine, Outcome, RawRecord, RecordPage, ScriptError, Session, TopicDetail};
use crate::wire::VERSION;

/// Calls an engine directly.
pub struct EmbeddedClient {
    engine: Engine,
    session: Session,
    location: String,
}

impl EmbeddedClient {
    /// A session over `engine`; `location` says where its data are, for people.
    pub fn new(engine: Engine, location: impl Into<String>) -> Self {
        let session = engine.session();
        Self { engine, session, location: location.into() }
    }
}

impl Client for EmbeddedClient {
    fn statement_limit(&self) -> Option<usize> {
        Some(self.engine.config().size(config::STATEMENT_BYTES))
    }

    fn execute(&mut self, text: &str) -> Result<Vec<Outcome>, ScriptError> {
        self.session.execute(text)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Diagnostic> {
        let canonical = config::check_session(name, value)?;
        self.session.properties.insert(canonical.to_owned(), value.to_owned());
        Ok(())
    }

    fn define(&mut self, name: &str, value: &str) {
        self.session.variables.retain(|known, _| !known.eq_ignore_ascii_case(name));
        self.session.variables.insert(name.to_owned(), value.to_owned());
    }

    fn wait_idle(&mut self, timeout: Option<Duration>) -> Result<(), Diagnostic> {
        self.engine.wait_idle(timeout)
    }

    fn names(&mut self) -> Result<Vec<(String, Vec<String>)>, Diagnostic> {
        Ok(self.engine.catalog_names())
    }

    fn info(&mut self) -> Result<ServerInfo, Diagnostic> {
        let service_id = self.engine.service_id();
        Ok(ServerInfo {
            version: VERSION.to_owned(),
            service_id: service_id.to_owned(),
            location: self.location.clone(),
        })
    }

    fn insert(
        &mut self,
        target: &str,
        rows: Vec<Map<String, Value>>,
    ) -> Result<Vec<Result<(), Diagnostic>>, Diagnostic> {
        self.engine.insert_json(target, rows)
    }

    fn topic(&mut self, name: &str) -> Result<Option<TopicDetail>, Diagnostic> {
        self.engine.topic(name)
    }

    fn create_topic(&mut self, name: &str, partitions: i32) -> Result<(), Diagnostic> {
        self.engine.create_topic(name, partitions)
    }

    fn append(&mut self, topic: &str, records: Vec<RawRecord>) -> Result<Vec<(i32, i64)>, Diagnostic> {
        self.engine.append(topic, records)
    }

    fn read(&mut self, topic: &str, partition: i32, from: i64, max: usize) -> Result<RecordPage, Diagnostic> {
        self.engine.read(topic, partition, from, max)
    }

    fn wait_records(&mut self, topic: &str, from: &[(i32, i64)], timeout: Duration) -> Result<bool, Diagnostic> {
        self.engine.wait_records(topic, from, timeout)
    }

    fn close(self: Box<Self>) -> Result<(), Diagnostic> {
        let Self { engine, session, .. } = *self;
        drop(session);
        engine.close()
    }
}
