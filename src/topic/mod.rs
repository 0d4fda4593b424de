//! Ordered records by topic partition: the only way to topics. Embedded log, Kafka and an in-memory log implement [`Log`].
//!
//! Knows bytes and positions, no schema and no SQL. The walk of a record: [`Log::read`] gives a [`RawBatch`] (already Arrow
//! columns), the runtime decodes and processes it, and [`Log::commit`] takes outputs, state blocks and positions back as one
//! atomic [`Commit`]. The subtle thing: readers see committed records only, and a [`Position`] may point inside a batch.

mod batch;
pub mod changelog_block;
mod check;
mod compaction;
#[cfg(test)]
mod contract;
pub mod embedded;
mod error;
mod group;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;
pub mod partitioner;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray};
use arrow::buffer::ScalarBuffer;
use bytes::Bytes;

pub use crate::storage::copy::Copied;
use crate::types::TopicName;

pub use check::{CheckReport, Inspect};
pub use error::TopicError;
pub use group::{Holder, standbys};
pub use watch::WatchGuard;

/// Place of a record in its partition, from 0.
pub type Offset = i64;

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// the topic
    pub topic: TopicName,
    /// its partition, from 0
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<TopicName>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Which record timestamp stands for "none given": the log stamps the record with the time of append.
pub const NO_TIMESTAMP: i64 = -1;

/// Records of one partition as Arrow columns, row-aligned, in offset order.
#[derive(Clone, Debug, PartialEq)]
pub struct RawBatch {
    /// offsets, ascending, may have gaps (compaction, transactions)
    pub offsets: ScalarBuffer<i64>,
    /// record timestamps in ms since the epoch
    pub timestamps: ScalarBuffer<i64>,
    /// key bytes, NULL for no key
    pub keys: BinaryArray,
    /// value bytes, NULL for a tombstone
    pub values: BinaryArray,
    /// `List<Struct<KEY Utf8, VALUE Binary>>` ([`headers_type`]); `None` if no record has headers
    pub headers: Option<ArrayRef>,
    /// order of arrival over all partitions of the log, where the log knows it (the in-memory one); tests merge by it
    pub arrivals: Option<ScalarBuffer<i64>>,
}

impl RawBatch {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// True without records.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Rows `from .. from + len`, sharing memory.
    pub fn slice(&self, from: usize, len: usize) -> Self {
        use arrow::array::Array;
        Self {
            offsets: self.offsets.slice(from, len),
            timestamps: self.timestamps.slice(from, len),
            keys: self.keys.slice(from, len),
            values: self.values.slice(from, len),
            headers: self.headers.as_ref().map(|h| h.slice(from, len)),
            arrivals: self.arrivals.as_ref().map(|a| a.slice(from, len)),
        }
    }
}

/// The Arrow type of record headers: `List<Struct<KEY Utf8, VALUE Binary>>`, which is `ARRAY<STRUCT<KEY STRING, VALUE BYTES>>`.
pub fn headers_type() -> arrow::datatypes::DataType {
    use crate::types::{SqlField, SqlType};
    let fields: Arc<[SqlField]> = Arc::from([
        SqlField { name: "KEY".into(), ty: SqlType::String },
        SqlField { name: "VALUE".into(), ty: SqlType::Bytes },
    ]);
    SqlType::Array(Box::new(SqlType::Struct(fields))).to_arrow()
}

/// Records to append to one partition, in order. Offsets are given by the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    /// where to
    pub to: TopicPartition,
    /// row times in ms; [`NO_TIMESTAMP`] means now
    pub timestamps: ScalarBuffer<i64>,
    /// key bytes, NULL for no key
    pub keys: BinaryArray,
    /// value bytes, NULL for a tombstone
    pub values: BinaryArray,
    /// as [`RawBatch::headers`]
    pub headers: Option<ArrayRef>,
}

/// What a read gave.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// the records, possibly none
    pub batch: RawBatch,
    /// the offset to read from next; beyond the batch's last offset where records were compacted away
    pub next: Offset,
    /// the offset that the next committed record will get (the known end)
    pub end: Offset,
}

/// How much one read may return. At least one record is returned whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// at most so many records
    pub max_records: usize,
    /// stop after so many bytes of keys and values
    pub max_bytes: usize,
}

impl Default for ReadLimit {
    fn default() -> Self {
        Self { max_records: 8192, max_bytes: 4 << 20 }
    }
}

/// How a topic forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cleanup {
    /// keep only the latest record of each key
    pub compact: bool,
    /// drop records older than so many ms; `None`: never by age
    pub retention_ms: Option<i64>,
    /// drop the oldest records while a partition holds more than so many bytes; `None`: never by size
    pub retention_bytes: Option<i64>,
}

/// A topic as it is to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// its name
    pub name: TopicName,
    /// ≥ 1
    pub partitions: i32,
    /// replicas; the embedded log always has 1
    pub replicas: i16,
    /// retention and compaction
    pub cleanup: Cleanup,
}

/// First retained offset and end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// the first offset still there (or the end, if empty)
    pub start: Offset,
    /// the offset that the next committed record will get
    pub end: Offset,
}

/// Where a consumer stands in a partition: all rows before `offset`, and `consumed` rows made of the record at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Position {
    /// next offset to read
    pub offset: Offset,
    /// rows of a batch starting there that are consumed already (0 at batch ends)
    pub consumed: u32,
}

/// Names what positions and state blocks belong to: a query's task input or store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub Arc<str>);

impl Owner {
    /// The owner of that name; for tasks it is the consumer group.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(Arc::from(name.as_ref()))
    }
}

/// A store of one task: `(query's group, store name, partition)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId {
    /// the query's consumer group
    pub owner: Owner,
    /// the store's name in the query, by its role in the SQL
    pub name: Arc<str>,
    /// the task's partition
    pub partition: i32,
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.owner.0, self.name, self.partition)
    }
}

/// One atomic step forward: everything in it is durable and visible, or nothing is.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// records to append, in order per partition
    pub outputs: Vec<Append>,
    /// changelog blocks of stores, in order per store
    pub blocks: Vec<(StoreId, Bytes)>,
    /// new consumer positions
    pub positions: Vec<(Owner, TopicPartition, Position)>,
}

/// What a commit gave: the base offset of each of its outputs, and the number of each block in its store's changelog.
#[derive(Clone, Debug, Default)]
pub struct Receipt {
    /// offset of the first record of `outputs[i]`
    pub base_offsets: Vec<Offset>,
    /// changelog number of `blocks[i]`, ascending per store from 0
    pub block_numbers: Vec<u64>,
}

/// Entries of a keyed store to be written behind: `None` deletes.
pub type KeyedWrites = Vec<(Bytes, Option<Bytes>)>;

/// A read view of one keyed store: as of one moment, or with [`Self::live`] as it is at each look.
pub trait KeyedSnapshot: Send + Sync {
    /// The value of `key`.
    ///
    /// # Errors
    /// If the storage cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TopicError>;

    /// Calls `visit` with the entries whose key is in `[from, to)` (to the end if `to` is `None`), in key order, until it says false.
    ///
    /// # Errors
    /// If the storage cannot be read.
    fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), TopicError>;

    /// True if the store holds no key before `to` (none at all if `to` is `None`).
    ///
    /// # Errors
    /// If the storage cannot be read.
    fn is_empty(&self, to: Option<&[u8]>) -> Result<bool, TopicError> {
        let mut empty = true;
        self.range(&[], to, &mut |_, _| {
            empty = false;
            false
        })?;
        Ok(empty)
    }

    /// The store as it is at each look; `None` if this view does as well. A view of one moment may make the storage hold in memory what
    /// is written after it, so keep this one instead.
    fn live(&self) -> Option<Arc<dyn KeyedSnapshot>> {
        None
    }

    /// The store as it is at this moment; `None` if this view is of one moment.
    ///
    /// # Errors
    /// If the storage cannot be read.
    fn frozen(&self) -> Result<Option<Arc<dyn KeyedSnapshot>>, TopicError> {
        Ok(None)
    }
}

/// Hears once what became of a commit, in any thread.
pub type CommitDone = Box<dyn FnOnce(Result<Receipt, TopicError>) + Send>;

/// How often tasks of a session should commit.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// time between commits under load, in ms
    pub interval_ms: i64,
    /// time between commits while inputs are drained, in ms
    pub drained_ms: i64,
    /// bytes of outputs that a task has at most when it commits
    pub output_bytes: usize,
    /// bytes of outputs and of changed state, which is to become some
    pub pending_bytes: usize,
}

/// Whether a task's partitions are this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// they are; the number tells this time from others, and a commit of another time fails
    Here(u64),
    /// another node has them
    Elsewhere,
    /// it is not decided yet; watchers of the topics are woken when it is
    Undecided,
}

/// What was read on of a changelog.
#[derive(Clone, Debug)]
pub struct Followed {
    /// what is committed from there on, a key once; `None`: nothing more for now
    pub block: Option<Bytes>,
    /// the number to read on from
    pub next: u64,
    /// the changelog's end as far as it is known; beyond `next` while more may come
    pub end: u64,
}

/// A query's own way to the log on this node, for logs where reads and commits take their time: reads do not wait, and commits of several
/// tasks are made together while the tasks go on.
pub trait Session: Send + Sync {
    /// As [`Log::read`] for an input whose position is `owner`'s, but does not wait: no records and an `end` beyond `next` say that more may
    /// come; watchers of the topic are woken then.
    ///
    /// # Errors
    /// As [`Log::read`].
    fn read(&self, owner: &Owner, at: &TopicPartition, from: Offset, limit: ReadLimit) -> Result<Fetched, TopicError>;

    /// Whether partitions that a task reads are this node's. To be asked before positions and state are.
    fn tenure(&self, inputs: &[TopicPartition]) -> Tenure;

    /// Why partitions stay undecided or away, if something is wrong that does not pass by itself; it is tried again nevertheless.
    fn trouble(&self) -> Option<TopicError>;

    /// Begins a commit of a task of this tenure, atomic as [`Log::commit`]'s; commits of one task are made in their order. One of a tenure that
    /// is over is [`TopicError::Unsent`].
    fn commit(&self, tenure: u64, commit: Commit, done: CommitDone);

    /// How often to commit, as of now: where many share a budget, each commits sooner.
    fn pace(&self) -> Pace;

    /// The member of the query's group that this node is, as [`Log::holders`] names it; `None` if it is in none, or did not join yet.
    fn member(&self) -> Option<String> {
        None
    }

    /// Reads on in the changelog of a store whose task runs elsewhere; does not wait.
    ///
    /// # Errors
    /// As [`Log::blocks`].
    fn follow(&self, store: &StoreId, from: u64, max_bytes: usize) -> Result<Followed, TopicError> {
        let (_, _) = (store, max_bytes);
        Ok(Followed { block: None, next: from, end: from })
    }

    /// This changelog is followed no more.
    fn unfollow(&self, store: &StoreId) {
        let _ = store;
    }

    /// Ends what is begun and lets go of the log. Commits fail afterwards.
    fn close(&self);
}

/// Topics, positions, changelogs and keyed stores of one service. All methods are safe to call from any thread.
///
/// *Order*: records of a partition keep the order of the commits, and within a commit that of its outputs.
/// *Failure*: a failed [`Self::commit`] changed nothing, or the log is poisoned and says so from then on
/// ([`TopicError::Poisoned`]) until it is reopened. *Visibility*: reads see committed records only, at once.
pub trait Log: Send + Sync + 'static {
    /// Makes a topic.
    ///
    /// # Errors
    /// [`TopicError::Exists`] if there is one of that name.
    fn create_topic(&self, spec: &TopicSpec) -> Result<(), TopicError>;

    /// Deletes a topic with its records; positions in it are forgotten.
    ///
    /// # Errors
    /// [`TopicError::UnknownTopic`].
    fn delete_topic(&self, topic: &TopicName) -> Result<(), TopicError>;

    /// The topic as it is, if it exists.
    ///
    /// # Errors
    /// If the log cannot be asked.
    fn describe(&self, topic: &TopicName) -> Result<Option<TopicSpec>, TopicError>;

    /// All topics, sorted by name.
    ///
    /// # Errors
    /// If the log cannot be asked.
    fn topics(&self) -> Result<Vec<TopicSpec>, TopicError>;

    /// Start and end of a partition.
    ///
    /// # Errors
    /// [`TopicError::UnknownTopic`] for a topic or partition that is not there.
    fn bounds(&self, at: &TopicPartition) -> Result<Bounds, TopicError>;

    /// Reads on from `from`. An offset before the start reads from the start; one at or after the end gives no records.
    ///
    /// # Errors
    /// [`TopicError::UnknownTopic`], or what the storage says.
    fn read(&self, at: &TopicPartition, from: Offset, limit: ReadLimit) -> Result<Fetched, TopicError>;

    /// Applies everything in `commit` atomically.
    ///
    /// # Errors
    /// Nothing was applied; [`TopicError::class`] says whether it may work later.
    fn commit(&self, commit: Commit) -> Result<Receipt, TopicError>;

    /// The way of the query with this group, which reads these topics, to the log, if the log wants reads and commits to go another way than [`Self::read`] and
    /// [`Self::commit`].
    ///
    /// # Errors
    /// If the log cannot be reached.
    fn session(&self, owner: &Owner, topics: &[TopicName]) -> Result<Option<Arc<dyn Session>>, TopicError> {
        let _ = (owner, topics);
        Ok(None)
    }

    /// The end of a partition with what may still become visible; [`Self::bounds`]' end where commits are seen at once.
    ///
    /// # Errors
    /// As [`Self::bounds`].
    fn undecided_end(&self, at: &TopicPartition) -> Result<Offset, TopicError> {
        Ok(self.bounds(at)?.end)
    }

    /// Committed positions of `owner`.
    ///
    /// # Errors
    /// If the log cannot be asked.
    fn positions(&self, owner: &Owner) -> Result<BTreeMap<TopicPartition, Position>, TopicError>;

    /// The committed position of `owner` in one partition, if there is one; whatever is undecided in others does not matter.
    ///
    /// # Errors
    /// If the log cannot be asked.
    fn position(&self, owner: &Owner, at: &TopicPartition) -> Result<Option<Position>, TopicError> {
        Ok(self.positions(owner)?.get(at).copied())
    }

    /// All owners with positions or state, sorted.
    ///
    /// # Errors
    /// If the log cannot be asked.
    fn owners(&self) -> Result<Vec<Owner>, TopicError>;

    /// Owners that no node reads for now, as far as the log can tell; of a log that belongs to one process all.
    ///
    /// # Errors
    /// If the log cannot be asked.
    fn idle_owners(&self) -> Result<Vec<Owner>, TopicError> {
        self.owners()
    }

    /// The nodes that share the query with this group, in the order in which it gives them partitions; none where one process has all.
    ///
    /// # Errors
    /// If the log cannot be asked.
    fn holders(&self, owner: &Owner) -> Result<Vec<Holder>, TopicError> {
        let _ = owner;
        Ok(Vec::new())
    }

    /// First number that no block of the store's changelog has, with what is not decided yet; 0 where the log does not tell.
    ///
    /// # Errors
    /// If the log cannot be asked.
    fn changelog_end(&self, store: &StoreId) -> Result<u64, TopicError> {
        let _ = store;
        Ok(0)
    }

    /// Forgets positions, changelogs and keyed stores of `owner`.
    ///
    /// # Errors
    /// If the log cannot be written.
    fn forget(&self, owner: &Owner) -> Result<(), TopicError>;

    /// So many sessions will be opened: each then takes no more memory than it can keep when all are there.
    fn expects(&self, sessions: usize) {
        let _ = sessions;
    }

    /// True if other processes append to this log as well.
    fn is_shared(&self) -> bool {
        false
    }

    /// Lets go of what this node alone keeps of `owner`, which another node forgets for all.
    ///
    /// # Errors
    /// If it cannot be deleted.
    fn release(&self, owner: &Owner) -> Result<(), TopicError> {
        let _ = owner;
        Ok(())
    }

    /// Makes ready for the changelog of a store of so many partitions. A log that makes changelogs as they come needs no call.
    ///
    /// # Errors
    /// If the log cannot be written.
    fn prepare_store(&self, owner: &Owner, store: &str, partitions: i32) -> Result<(), TopicError> {
        let _ = (owner, store, partitions);
        Ok(())
    }

    /// Changelog blocks of a store from number `from` on, in order, at most about `max_bytes` of them (at least one if there is one).
    ///
    /// # Errors
    /// If the log cannot be read.
    fn blocks(&self, store: &StoreId, from: u64, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, TopicError>;

    /// Writes entries of the keyed store behind its changelog, notes that the store now stands for all blocks before `next_block`,
    /// and trims these blocks: one atomic step.
    ///
    /// # Errors
    /// Nothing was applied.
    fn write_behind(&self, store: &StoreId, entries: KeyedWrites, next_block: u64) -> Result<(), TopicError>;

    /// The keyed store as it now is, and the number of the first block it does not hold yet.
    ///
    /// # Errors
    /// If the log cannot be read.
    fn keyed_store(&self, store: &StoreId) -> Result<(Arc<dyn KeyedSnapshot>, u64), TopicError>;

    /// Calls `wake` after each commit that appends to one of `topics`, until the returned guard is dropped. `wake` must be quick
    /// and must not call the log.
    fn watch(&self, topics: &[TopicName], wake: Arc<dyn Fn() + Send + Sync>) -> WatchGuard;

    /// Allows to drop the records before `before`, as far as they lie in blocks that end there; for topics whose only reader has
    /// committed so far (repartition topics). A log that cannot drop keeps them, which this default does.
    ///
    /// # Errors
    /// [`TopicError::UnknownTopic`], or if the log cannot be written.
    fn trim(&self, at: &TopicPartition, before: Offset) -> Result<(), TopicError> {
        let _ = (at, before);
        Ok(())
    }

    /// Drops what retention and compaction say; returns how many records went. Called now and then by the runtime.
    ///
    /// # Errors
    /// If the log cannot be written.
    fn clean(&self, now_ms: i64) -> Result<u64, TopicError>;

    /// Forces what is committed to disk.
    ///
    /// # Errors
    /// If the disk says no.
    fn sync(&self) -> Result<(), TopicError>;

    /// Writes all there is at this moment to `out`, as bytes that [`embedded::EmbeddedLog::restore`] reads; commits go on meanwhile.
    ///
    /// # Errors
    /// What cannot be read or written; a log that keeps its records elsewhere.
    fn export(&self, _out: &mut dyn std::io::Write) -> Result<Copied, TopicError> {
        Err(TopicError::Invalid("only the embedded log in a data directory can be backed up".into()))
    }

    /// Fails with [`TopicError::Poisoned`] if writes are refused until [`Self::reopen`]. Cheap.
    ///
    /// # Errors
    /// Why they are refused.
    fn writable(&self) -> Result<(), TopicError> {
        Ok(())
    }

    /// Ends [`TopicError::Poisoned`]: opens the storage again as the disk has it. A commit that failed by poisoning may be there
    /// or not, but whole; so who resumes reads positions and stores anew. Nothing to do for logs that do not poison.
    ///
    /// # Errors
    /// If the storage does not open; this may be tried again.
    fn reopen(&self) -> Result<(), TopicError> {
        Ok(())
    }
}

/// Checks a topic that is to be created, as Kafka does.
///
/// # Errors
/// [`TopicError::Invalid`] for a name of other than 1 to 249 of `[a-zA-Z0-9._-]`, for no partitions, or for negative limits.
pub fn check_spec(spec: &TopicSpec) -> Result<(), TopicError> {
    const MAX_NAME_CHARS: usize = 249;
    let name = spec.name.as_str();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME_CHARS || name == "." || name == ".." || !name.chars().all(legal) {
        return Err(TopicError::Invalid(format!(
            "'{name}' cannot name a topic; use 1 to {MAX_NAME_CHARS} ASCII letters, digits, '.', '_' and '-'"
        )));
    }
    if spec.partitions < 1 {
        return Err(TopicError::Invalid(format!("topic '{name}' needs at least 1 partition, not {}", spec.partitions)));
    }
    let cleanup = &spec.cleanup;
    if cleanup.retention_ms.is_some_and(|n| n < 0) || cleanup.retention_bytes.is_some_and(|n| n < 0) {
        return Err(TopicError::Invalid(format!("a limit of retention of topic '{name}' is negative; leave it out")));
    }
    Ok(())
}
