//! Who executes statements for a shell: an engine in this process, or a server.
//!
//! [`Client`] is all that the shell and the commands see, so that they work alike over both. Calls block. The subtle thing: session
//! properties and variables live here, on the user's side; a server is told them with each request.

mod embedded;
mod http;
mod http_rows;

use std::time::Duration;

use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;
use crate::engine::{Outcome, RawRecord, RecordPage, ScriptError, TopicDetail};

pub use embedded::EmbeddedClient;
pub use http::HttpClient;

/// What a client is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// release of the engine
    pub version: String,
    /// `ksql.service.id`
    pub service_id: String,
    /// a data directory or a URL
    pub location: String,
}

/// One user's door to an engine.
pub trait Client: Send {
    /// Executes statements; of those between two queries all are checked before the first runs. Rows must be read before the next call.
    ///
    /// # Errors
    /// The first statement that is wrong, with the outcomes of those before it.
    fn execute(&mut self, text: &str) -> Result<Vec<Outcome>, ScriptError>;

    /// Bytes that a statement may have (property `statement.max.bytes`), where this side can know it.
    fn statement_limit(&self) -> Option<usize> {
        None
    }

    /// Sets a session property, as SET does.
    ///
    /// # Errors
    /// An unknown name, or a value of another type.
    fn set(&mut self, name: &str, value: &str) -> Result<(), Diagnostic>;

    /// Defines a variable, as DEFINE does.
    fn define(&mut self, name: &str, value: &str);

    /// Waits until all persistent queries have consumed and committed what is there.
    ///
    /// # Errors
    /// A query that failed; a timeout; a server that cannot be reached.
    fn wait_idle(&mut self, timeout: Option<Duration>) -> Result<(), Diagnostic>;

    /// Names of sources with those of their columns.
    ///
    /// # Errors
    /// A server that cannot be reached.
    fn names(&mut self) -> Result<Vec<(String, Vec<String>)>, Diagnostic>;

    /// What this client is connected to.
    ///
    /// # Errors
    /// A server that cannot be reached, or is none.
    fn info(&mut self) -> Result<ServerInfo, Diagnostic>;

    /// Inserts rows given as objects, as `Engine::insert_json`. Rows after the first bad one may be left out; then there are fewer results.
    ///
    /// # Errors
    /// A target that cannot be inserted into; a server that cannot be reached.
    fn insert(
        &mut self,
        target: &str,
        rows: Vec<Map<String, Value>>,
    ) -> Result<Vec<Result<(), Diagnostic>>, Diagnostic>;

    /// A topic with its bounds, if there is one.
    ///
    /// # Errors
    /// A log or server that cannot be asked.
    fn topic(&mut self, name: &str) -> Result<Option<TopicDetail>, Diagnostic>;

    /// Makes a topic of so many partitions.
    ///
    /// # Errors
    /// A name that is taken or not allowed; a server that cannot be reached.
    fn create_topic(&mut self, name: &str, partitions: i32) -> Result<(), Diagnostic>;

    /// Appends records, and returns when all are durable.
    ///
    /// # Errors
    /// An unknown topic or partition; a record that is too large; a server that cannot be reached.
    fn append(&mut self, topic: &str, records: Vec<RawRecord>) -> Result<Vec<(i32, i64)>, Diagnostic>;

    /// Reads at most `max` records of a partition from an offset on.
    ///
    /// # Errors
    /// An unknown topic or partition; a server that cannot be reached.
    fn read(&mut self, topic: &str, partition: i32, from: i64, max: usize) -> Result<RecordPage, Diagnostic>;

    /// Waits until a partition has a record at or after its offset, at most `timeout`; true if one has.
    ///
    /// # Errors
    /// An unknown topic or partition; a server that cannot be reached.
    fn wait_records(&mut self, topic: &str, from: &[(i32, i64)], timeout: Duration) -> Result<bool, Diagnostic>;

    /// Ends the session, and the engine if it is in this process.
    ///
    /// # Errors
    /// If the storage cannot be closed.
    fn close(self: Box<Self>) -> Result<(), Diagnostic>;
}
