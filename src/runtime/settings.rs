//! What a runtime and its queries are told at start.
//!
//! Plain values; their names as properties live in the crate's configuration. The subtle thing: none of them changes a result, but for
//! `coalesce`, which leaves out what a later change of the same key overwrites, and `window_idle_close_ms`, which moves time on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::function::FunctionLimits;
use crate::plan::topology::Topology;
use crate::topic::{Offset, Owner, ReadLimit, TopicPartition};
use crate::types::{QueryId, TopicName};

use super::client::ClientQueue;
pub use super::source::Strictness;
use crate::operator::PAGE_ROWS;

/// Limits and habits of the whole process.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// worker threads; 0: one more than cores
    pub workers: usize,
    /// bytes that all stores may hold in memory; clean entries leave first
    pub memory_bytes: usize,
    /// time between commits under load, in ms
    pub commit_interval_ms: i64,
    /// bytes of pending output and changed state that force a commit (`commit.max.bytes`)
    pub commit_max_bytes: usize,
    /// changelog bytes of a task that force a write-behind (`state.changelog.max.bytes`)
    pub changelog_max_bytes: usize,
    /// time between write-behinds of a task, in ms
    pub write_behind_ms: i64,
    /// time after which a task lets others run, in ms
    pub slice_ms: i64,
    /// replicas of internal topics, where the log has any
    pub internal_replicas: i16,
    /// topic of the processing log; `None`: losses are only counted
    pub processing_log: Option<TopicName>,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            workers: 0,
            memory_bytes: 512 << 20,
            commit_interval_ms: 50,
            commit_max_bytes: 16 << 20,
            changelog_max_bytes: 64 << 20,
            write_behind_ms: 10_000,
            slice_ms: 5,
            internal_replicas: 1,
            processing_log: None,
        }
    }
}

/// How one query runs.
#[derive(Clone, Debug)]
pub struct QuerySettings {
    /// false: every change of a table is its own output (`cache.max.bytes.buffering = 0`)
    pub coalesce: bool,
    /// bytes that its stores may hold in memory, of all that the process may (`query.state.memory.bytes`)
    pub memory_bytes: usize,
    /// time between commits under load in ms, if other than the runtime's
    pub commit_interval_ms: Option<i64>,
    /// how long a task waits for an input that is at its end while others have rows, in ms (`max.task.idle.ms`)
    pub max_task_idle_ms: i64,
    /// how long all inputs of a task must be at their ends before its windows close, in ms; `None`: they wait for rows
    /// (`window.idle.close.ms`)
    pub window_idle_close_ms: Option<i64>,
    /// wait after a first failure, in ms; doubles with each further one (`ksql.query.retry.backoff.initial.ms`)
    pub backoff_initial_ms: i64,
    /// longest wait after a failure, in ms (`ksql.query.retry.backoff.max.ms`)
    pub backoff_max_ms: i64,
    /// how many errors are kept (`ksql.query.error.max.queue.size`)
    pub errors_kept: usize,
    /// limits that functions read
    pub limits: Arc<FunctionLimits>,
    /// rows after which operators end a page
    pub page_rows: usize,
    /// how much one read of an input takes
    pub read_limit: ReadLimit,
    /// on how many other nodes copies of its state are kept, where it has other nodes (`num.standby.replicas`)
    pub standby_replicas: usize,
    /// for tests: sizes of successive reads in records, over and over, instead of `read_limit`'s
    pub read_sizes: Option<Arc<[usize]>>,
    /// for tests: rows are merged by arrival, where the log knows it, not by row time
    pub by_arrival: bool,
    /// for tests: as [`crate::operator::StepContext::outer_emit_interval_ms`]
    pub outer_emit_interval_ms: i64,
    /// true: it waits for `Runtime::resume` before it reads anything
    pub paused: bool,
    /// push query: positions are not committed, everything of it is forgotten at its stop
    pub transient: bool,
    /// the query ends when it has read its inputs up to here (inputs that are not named: up to nowhere)
    pub stop_at: Option<Arc<BTreeMap<TopicPartition, Offset>>>,
    /// which bad records stop the query
    pub strictness: Strictness,
    /// how long a push query waits for a reader that takes nothing before it is closed, in ms
    pub client_stall_ms: i64,
}

impl Default for QuerySettings {
    fn default() -> Self {
        Self {
            coalesce: true,
            memory_bytes: usize::MAX,
            commit_interval_ms: None,
            max_task_idle_ms: 0,
            window_idle_close_ms: None,
            backoff_initial_ms: 15_000,
            backoff_max_ms: 900_000,
            errors_kept: 10,
            limits: Arc::default(),
            page_rows: PAGE_ROWS,
            read_limit: ReadLimit::default(),
            standby_replicas: 0,
            read_sizes: None,
            by_arrival: false,
            outer_emit_interval_ms: 0,
            paused: false,
            transient: false,
            stop_at: None,
            strictness: Strictness::default(),
            client_stall_ms: 60_000,
        }
    }
}

/// A query to be started.
#[derive(Clone)]
pub struct QuerySpec {
    /// its id
    pub id: QueryId,
    /// its consumer group
    pub owner: Owner,
    /// what it does
    pub topology: Arc<Topology>,
    /// how
    pub settings: QuerySettings,
    /// where a push query's rows go
    pub client: Option<Arc<ClientQueue>>,
}
