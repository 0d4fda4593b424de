//! The log over Kafka: topics are Kafka's, commits its transactions, positions its consumer groups' offsets.
//!
//! Knows no queries. `admin` asks and changes topics and groups, `scan` reads for who can wait, `writer` puts commits into transactions,
//! `changelog` maps changelog blocks to compacted topics; keyed stores are this node's own copy, in an embedded log below the state
//! directory. The subtle thing: the copy may be of another life of the cluster, so it counts only if the changelog reaches as far as it says.

mod admin;
mod budget;
mod changelog;
mod columns;
mod failure;
mod feed;
mod java;
mod membership;
mod native;
mod options;
mod reach;
mod scan;
mod session;
mod settling;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::clock::Clock;
use crate::topic::embedded::{EmbeddedLog, LogOptions};
use crate::topic::watch::Watchers;
use crate::topic::{
    Append, Bounds, Cleanup, Commit, Fetched, Holder, KeyedSnapshot, KeyedWrites, Log, Offset, Owner, Position,
    ReadLimit, Receipt, Session, StoreId, TopicError, TopicPartition, TopicSpec, WatchGuard,
};
use crate::types::TopicName;

use admin::Admin;
use budget::Budget;
pub use options::KafkaOptions;
use scan::Scanners;
use session::KafkaSession;
use writer::{NoMembers, Writer};

/// How long a restore waits for transactions of others to be decided.
const UNDECIDED: Duration = Duration::from_secs(90);
/// Deletions in a changelog are kept so long, for nodes that were away.
const TOMBSTONES_MS: &str = "604800000";
/// How soon transactions of one name are ended again.
const ENDED: Duration = Duration::from_secs(2);
/// Records of a changelog in a block, at most.
const BLOCK_ROWS: usize = 1 << 16;

/// What all parts of the log share.
struct Shared {
    options: KafkaOptions,
    admin: Admin,
    clock: Arc<dyn Clock>,
    /// this node's keyed stores
    local: Arc<EmbeddedLog>,
    /// names this node among those of the service
    node: String,
    watchers: Arc<Watchers>,
    /// changelogs that are known to be there
    changelogs: Mutex<HashSet<TopicName>>,
    /// stores whose local copy was compared with the changelog
    trusted: Mutex<HashSet<StoreId>>,
    /// memory between brokers and tasks
    budget: Arc<Budget>,
    /// whose transactions were ended for them, by name, and when
    ended: Mutex<HashMap<String, Instant>>,
}

impl Shared {
    /// Makes the changelog topic of a store if it is not there.
    fn ensure_changelog(&self, store: &StoreId, partitions: i32) -> Result<(), TopicError> {
        let topic = changelog::topic_of(store);
        if self.changelogs.lock().contains(&topic) {
            return Ok(());
        }
        let cleanup = Cleanup { compact: true, ..Cleanup::default() };
        let spec = TopicSpec { name: topic.clone(), partitions, replicas: self.options.internal_replicas, cleanup };
        match self.admin.create(&spec, &[("delete.retention.ms", TOMBSTONES_MS)]) {
            Ok(()) => {}
            Err(TopicError::Exists(_)) => {
                let found = self.admin.partitions(&topic)?;
                if found < partitions {
                    return Err(TopicError::Invalid(format!(
                        "topic '{topic}' holds state of {found} partitions, but {partitions} are needed; delete it"
                    )));
                }
            }
            Err(error) => return Err(error),
        }
        self.changelogs.lock().insert(topic);
        Ok(())
    }

    /// Names the transactions of a group on a node.
    fn transactional(&self, owner: &Owner, node: &str) -> String {
        self.admin.outer(&format!("{}-{node}", owner.0))
    }

    /// Ends the transaction of a node that lost a partition to this one: it may have died in it, and Kafka would wait for it until its
    /// time is up. If it lives it is fenced, and does again what it had not committed.
    fn end_transaction_of(&self, owner: &Owner, node: &str) {
        if node == self.node || !self.options.exactly_once {
            return;
        }
        let name = self.transactional(owner, node);
        // Tasks that find the same wait here until it is done.
        let mut ended = self.ended.lock();
        if ended.get(&name).is_some_and(|at| at.elapsed() < ENDED) {
            return;
        }
        tracing::info!("the open transaction of node {node} in group '{}' is ended", owner.0);
        if let Err(failure) = Writer::end_others(&self.options, &name) {
            tracing::warn!("a transaction of node {node} cannot be ended and is waited for: {}", failure.reason);
        }
        ended.insert(name, Instant::now());
    }
}

/// A log over a Kafka cluster.
pub struct KafkaLog {
    shared: Arc<Shared>,
    scanners: Scanners,
    writer: Mutex<Writer>,
    /// for what is whole without a transaction
    single: Mutex<Writer>,
}

impl KafkaLog {
    /// Connects to the cluster and opens this node's copy of state.
    ///
    /// # Errors
    /// If Kafka cannot be reached, a property is refused, or the state directory is in use or unreadable.
    pub fn open(options: KafkaOptions, clock: Arc<dyn Clock>) -> Result<Arc<Self>, TopicError> {
        let options = options.checked()?;
        // Each waits for others, the one for the disk and the other for the brokers.
        let (local, admin) = std::thread::scope(|scope| {
            let local = || EmbeddedLog::open(&options.state_dir, LogOptions::default(), clock.clone());
            let opening = std::thread::Builder::new().name("open-local".to_owned()).spawn_scoped(scope, local);
            let opening =
                opening.map_err(|e| TopicError::Io { what: "start a thread".into(), reason: e.to_string() })?;
            let admin = Admin::open(&options);
            // What panicked there panics here.
            let local = opening.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok::<_, TopicError>((local, admin?))
        })?;
        let node = node_id(&options)?;
        let budget = Budget::new(options.buffer_bytes);
        let shared = Arc::new(Shared {
            options,
            admin,
            clock,
            local,
            node,
            watchers: Arc::default(),
            changelogs: Mutex::default(),
            trusted: Mutex::default(),
            budget,
            ended: Mutex::default(),
        });
        let name = shared.admin.outer(&format!("{}riverrun-{}", shared.options.service_id, shared.node));
        let writer = Mutex::new(Writer::new(shared.clone(), Some(name)));
        let single = Mutex::new(Writer::new(shared.clone(), None));
        Ok(Arc::new(Self { shared, scanners: Scanners::default(), writer, single }))
    }
}

impl KafkaLog {
    /// Waits until readers see what was committed: Kafka answers when that is certain, and moves the ends a moment later.
    fn wait_visible(&self, outputs: &[Append], receipt: &Receipt) -> Result<(), TopicError> {
        let deadline = Instant::now() + UNDECIDED;
        for (output, base) in outputs.iter().zip(&receipt.base_offsets) {
            let end = base + output.timestamps.len() as Offset;
            while self.bounds(&output.to)?.end < end && Instant::now() < deadline {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
        Ok(())
    }
}

/// The name of this node, kept in its state directory.
fn node_id(options: &KafkaOptions) -> Result<String, TopicError> {
    let path = options.state_dir.join("node-id");
    let failed = |e: std::io::Error| TopicError::Io { what: path.display().to_string(), reason: e.to_string() };
    match std::fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
        Ok(_) => write_node_id(&path).map_err(failed),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_node_id(&path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

fn write_node_id(path: &std::path::Path) -> std::io::Result<String> {
    let id = format!("{:016x}", rand::random::<u64>());
    std::fs::write(path, &id)?;
    Ok(id)
}

/// The name under which the local copy keeps a store.
fn local_store(store: &StoreId) -> StoreId {
    let owner = format!("{}/{}/{}", store.owner.0, store.name, store.partition);
    StoreId { owner: Owner::new(owner), name: store.name.clone(), partition: store.partition }
}

impl Log for KafkaLog {
    fn create_topic(&self, spec: &TopicSpec) -> Result<(), TopicError> {
        self.shared.admin.create(spec, &[])
    }

    fn delete_topic(&self, topic: &TopicName) -> Result<(), TopicError> {
        self.scanners.forget();
        self.shared.admin.delete(topic)
    }

    fn describe(&self, topic: &TopicName) -> Result<Option<TopicSpec>, TopicError> {
        Ok(self.shared.admin.topics(Some(topic))?.pop())
    }

    fn topics(&self) -> Result<Vec<TopicSpec>, TopicError> {
        self.shared.admin.topics(None)
    }

    fn bounds(&self, at: &TopicPartition) -> Result<Bounds, TopicError> {
        self.shared.admin.bounds(at)
    }

    fn read(&self, at: &TopicPartition, from: Offset, limit: ReadLimit) -> Result<Fetched, TopicError> {
        self.scanners.read(&self.shared.options, &self.shared.admin, at, from, limit)
    }

    fn commit(&self, commit: Commit) -> Result<Receipt, TopicError> {
        if commit.outputs.is_empty() && commit.blocks.is_empty() && commit.positions.is_empty() {
            return Ok(Receipt::default());
        }
        Writer::check(&self.shared, &commit)?;
        let grown = grown(&commit);
        let writer = if is_whole_alone(&commit) { &self.single } else { &self.writer };
        let commits = [commit];
        let receipt = writer.lock().apply(&commits, &NoMembers)?.pop().unwrap_or_default();
        self.wait_visible(&commits[0].outputs, &receipt)?;
        self.shared.watchers.wake(&grown);
        Ok(receipt)
    }

    fn session(&self, owner: &Owner, topics: &[TopicName]) -> Result<Option<Arc<dyn Session>>, TopicError> {
        Ok(Some(Arc::new(KafkaSession::open(&self.shared, owner, topics)?)))
    }

    fn expects(&self, sessions: usize) {
        self.shared.budget.expect(sessions);
    }

    fn undecided_end(&self, at: &TopicPartition) -> Result<Offset, TopicError> {
        self.shared.admin.undecided_end(at)
    }

    fn positions(&self, owner: &Owner) -> Result<BTreeMap<TopicPartition, Position>, TopicError> {
        self.shared.admin.positions(owner)
    }

    fn position(&self, owner: &Owner, at: &TopicPartition) -> Result<Option<Position>, TopicError> {
        self.shared.admin.position(owner, at, &|node| self.shared.end_transaction_of(owner, node))
    }

    fn owners(&self) -> Result<Vec<Owner>, TopicError> {
        let mut owners: Vec<Owner> = self.shared.admin.groups()?.into_iter().map(Owner::new).collect();
        owners.sort();
        Ok(owners)
    }

    fn holders(&self, owner: &Owner) -> Result<Vec<Holder>, TopicError> {
        self.shared.admin.holders(owner)
    }

    fn changelog_end(&self, store: &StoreId) -> Result<u64, TopicError> {
        let at = TopicPartition::new(changelog::topic_of(store), store.partition);
        let end = match self.shared.admin.check(&at).and_then(|()| self.undecided_end(&at)) {
            Ok(end) => end,
            Err(TopicError::UnknownTopic(_) | TopicError::UnknownPartition { .. }) => 0,
            Err(error) => return Err(error),
        };
        Ok(u64::try_from(end).unwrap_or(0))
    }

    fn idle_owners(&self) -> Result<Vec<Owner>, TopicError> {
        let mut owners: Vec<Owner> = self.shared.admin.idle_groups()?.into_iter().map(Owner::new).collect();
        owners.sort();
        Ok(owners)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn forget(&self, owner: &Owner) -> Result<(), TopicError> {
        self.shared.admin.delete_group(owner)?;
        for topic in self.shared.admin.names()?.into_iter().filter(|topic| changelog::belongs(topic, &owner.0)) {
            self.delete_topic(&topic)?;
        }
        self.release(owner)
    }

    fn release(&self, owner: &Owner) -> Result<(), TopicError> {
        self.shared.trusted.lock().retain(|store| store.owner != *owner);
        self.shared.changelogs.lock().retain(|topic| !changelog::belongs(topic, &owner.0));
        let prefix = format!("{}/", owner.0);
        let stores = self.shared.local.owners()?;
        stores.iter().filter(|o| o.0.starts_with(&prefix)).try_for_each(|o| self.shared.local.forget(o))
    }

    fn prepare_store(&self, owner: &Owner, store: &str, partitions: i32) -> Result<(), TopicError> {
        let id = StoreId { owner: owner.clone(), name: store.into(), partition: 0 };
        self.shared.ensure_changelog(&id, partitions)
    }

    fn blocks(&self, store: &StoreId, from: u64, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, TopicError> {
        let at = TopicPartition::new(changelog::topic_of(store), store.partition);
        let from = Offset::try_from(from).unwrap_or(Offset::MAX);
        let (start, mut told) = (Instant::now(), false);
        loop {
            let limit = ReadLimit { max_records: BLOCK_ROWS, max_bytes };
            let fetched = match self.read(&at, from, limit) {
                Ok(fetched) => fetched,
                Err(TopicError::UnknownTopic(_) | TopicError::UnknownPartition { .. }) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            if let Some(end) = fetched.batch.end() {
                return Ok(vec![((end - 1) as u64, changelog::block_of(&fetched.batch)?)]);
            }
            // Transactions that are not decided yet may still turn out to be committed.
            if fetched.end >= self.shared.admin.undecided_end(&at)? {
                return Ok(Vec::new());
            }
            if start.elapsed() > admin::UNSTABLE && !told {
                // Who died before its offsets were in its transaction leaves none that is undecided, only records.
                let nodes = self.shared.admin.nodes_at(&store.owner, store.partition);
                nodes.iter().for_each(|node| self.shared.end_transaction_of(&store.owner, node));
                told = true;
            }
            if start.elapsed() > UNDECIDED {
                let reason = "a transaction of another node is open for too long".to_owned();
                return Err(TopicError::Io { what: format!("read '{at}'"), reason });
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn write_behind(&self, store: &StoreId, entries: KeyedWrites, next_block: u64) -> Result<(), TopicError> {
        // What this process writes follows what it committed.
        self.shared.local.write_behind(&local_store(store), entries, next_block)
    }

    fn keyed_store(&self, store: &StoreId) -> Result<(Arc<dyn KeyedSnapshot>, u64), TopicError> {
        let local = local_store(store);
        let (snapshot, held) = self.shared.local.keyed_store(&local)?;
        if held == 0 || self.shared.trusted.lock().contains(store) {
            return Ok((snapshot, held));
        }
        let at = TopicPartition::new(changelog::topic_of(store), store.partition);
        let reached = match self.shared.admin.check(&at).and_then(|()| self.undecided_end(&at)) {
            Ok(end) => end,
            Err(TopicError::UnknownTopic(_) | TopicError::UnknownPartition { .. }) => 0,
            Err(error) => return Err(error),
        };
        if reached >= Offset::try_from(held).unwrap_or(Offset::MAX) {
            self.shared.trusted.lock().insert(store.clone());
            return Ok((snapshot, held));
        }
        tracing::warn!(store = %at.topic, "the local copy of a store is ahead of its changelog and is thrown away");
        drop(snapshot);
        self.shared.local.forget(&local.owner)?;
        self.shared.local.keyed_store(&local)
    }

    fn watch(&self, topics: &[TopicName], wake: Arc<dyn Fn() + Send + Sync>) -> WatchGuard {
        self.shared.watchers.add(topics, wake)
    }

    fn trim(&self, at: &TopicPartition, before: Offset) -> Result<(), TopicError> {
        self.shared.admin.delete_records(at, before)
    }

    /// Retention and compaction are the brokers' work.
    fn clean(&self, now_ms: i64) -> Result<u64, TopicError> {
        self.shared.local.clean(now_ms)?;
        Ok(0)
    }

    fn sync(&self) -> Result<(), TopicError> {
        self.shared.local.sync()
    }

    fn writable(&self) -> Result<(), TopicError> {
        self.shared.local.writable()
    }

    fn reopen(&self) -> Result<(), TopicError> {
        self.shared.local.reopen()
    }
}

/// True for what is written wholly or not at all without a transaction: one record, or positions of one group. Positions that nobody of the
/// group commits Kafka takes then only while the group has no members, so that a node that comes late does not set back those that read.
fn is_whole_alone(commit: &Commit) -> bool {
    let records: usize = commit.outputs.iter().map(|output| output.timestamps.len()).sum();
    let one_group = commit.positions.windows(2).all(|pair| pair[0].0 == pair[1].0);
    commit.blocks.is_empty()
        && match records {
            0 => one_group,
            1 => commit.positions.is_empty(),
            _ => false,
        }
}

/// Topics that a commit appends to.
fn grown(commit: &Commit) -> Vec<TopicName> {
    let mut topics: Vec<TopicName> =
        commit.outputs.iter().filter(|o| !o.timestamps.is_empty()).map(|o| o.to.topic.clone()).collect();
    topics.sort();
    topics.dedup();
    topics
}

/// Lets clients that `rdkafka` makes log as everybody does.
#[derive(Clone, Copy)]
struct Logged;

impl ClientContext for Logged {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level as i32, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("kafka: {error}: {reason}");
    }
}

/// A line of librdkafka's log; `level` as syslog has it.
fn log_line(level: i32, facility: &str, text: &str) {
    const ERROR: i32 = 3;
    // Lines of the facility "ERROR" tell what the call that it concerns answers as well.
    if level <= ERROR && facility != "ERROR" {
        tracing::warn!("kafka: {facility}: {text}")
    } else {
        tracing::debug!("kafka: {facility}: {text}")
    }
}
