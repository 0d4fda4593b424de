//! A log in memory, for tests and simulation: the semantics of the embedded one, nothing durable, faults on demand.
//!
//! Keeps appends as they came. The subtle thing: it numbers all records in order of arrival, over all partitions, which
//! is the order in which the reference's test driver hands them out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::compaction::Latest;
use super::watch::Watchers;
use super::{
    Append, Bounds, Commit, Fetched, KeyedSnapshot, KeyedWrites, Log, NO_TIMESTAMP, Offset, Owner, Position, RawBatch,
    ReadLimit, Receipt, StoreId, TopicError, TopicPartition, TopicSpec, WatchGuard, check_spec,
};
use crate::clock::Clock;
use crate::types::TopicName;

/// As the embedded log does by default: tombstones outlive their append by a day.
const TOMBSTONE_RETENTION_MS: i64 = 24 * 60 * 60 * 1000;

/// Asked before each commit; an error makes the commit fail with it.
pub type CommitFault = Arc<dyn Fn(&Commit) -> Option<TopicError> + Send + Sync>;

/// A log in memory.
pub struct MemoryLog {
    clock: Arc<dyn Clock>,
    state: RwLock<State>,
    watchers: Arc<Watchers>,
    failing_commits: AtomicU64,
    fault: Mutex<Option<CommitFault>>,
    shared: AtomicBool,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<TopicName, Topic>,
    positions: BTreeMap<Owner, BTreeMap<TopicPartition, Position>>,
    stores: BTreeMap<StoreId, Store>,
    arrivals: i64,
}

struct Topic {
    spec: TopicSpec,
    partitions: Vec<Partition>,
}

#[derive(Default)]
struct Partition {
    /// appends in order of offset, none empty
    appends: Vec<RawBatch>,
    end: Offset,
}

/// The entries of a keyed store; cloned when it is written while a snapshot of it lives.
type Entries = Arc<BTreeMap<Bytes, Bytes>>;

#[derive(Default)]
struct Store {
    blocks: BTreeMap<u64, Bytes>,
    entries: Entries,
    /// the first block that `entries` does not hold
    held: u64,
    next: u64,
}

impl MemoryLog {
    /// An empty log that stamps records by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            state: RwLock::default(),
            watchers: Arc::default(),
            failing_commits: AtomicU64::new(0),
            fault: Mutex::new(None),
            shared: AtomicBool::new(false),
        })
    }

    /// Makes the next `count` commits fail; they change nothing, and the log is not poisoned.
    pub fn fail_next_commits(&self, count: u64) {
        self.failing_commits.store(count, Ordering::SeqCst);
    }

    /// From now on other nodes may write too, as tests play it.
    pub fn set_shared(&self) {
        self.shared.store(true, Ordering::SeqCst);
    }

    /// Asks `fault` before each commit from now on.
    pub fn set_fault(&self, fault: Option<CommitFault>) {
        *self.fault.lock() = fault;
    }

    fn check_fault(&self, commit: &Commit) -> Result<(), TopicError> {
        let count_down = |n: u64| n.checked_sub(1);
        if self.failing_commits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count_down).is_ok() {
            let (what, reason) = ("committing".into(), "injected fault".into());
            return Err(TopicError::Io { what, reason });
        }
        let fault = self.fault.lock().clone();
        fault.and_then(|fault| fault(commit)).map_or(Ok(()), Err)
    }
}

impl State {
    fn topic(&self, name: &TopicName) -> Result<&Topic, TopicError> {
        self.topics.get(name).ok_or_else(|| TopicError::UnknownTopic(name.clone()))
    }

    fn partition(&self, at: &TopicPartition) -> Result<&Partition, TopicError> {
        let topic = self.topic(&at.topic)?;
        let partition = usize::try_from(at.partition).ok().and_then(|p| topic.partitions.get(p));
        partition.ok_or_else(|| unknown_partition(at))
    }

    fn partition_mut(&mut self, at: &TopicPartition) -> Result<&mut Partition, TopicError> {
        let topic = self.topics.get_mut(&at.topic).ok_or_else(|| TopicError::UnknownTopic(at.topic.clone()))?;
        let partition = usize::try_from(at.partition).ok().and_then(|p| topic.partitions.get_mut(p));
        partition.ok_or_else(|| unknown_partition(at))
    }

    fn append(&mut self, append: Append, now_ms: i64) -> Result<Offset, TopicError> {
        let rows = append.timestamps.len() as i64;
        let arrivals = (self.arrivals..self.arrivals + rows).collect::<Vec<_>>();
        self.arrivals += rows;
        let partition = self.partition_mut(&append.to)?;
        let base = partition.end;
        partition.end += rows;
        if rows > 0 {
            let stamp = |t: &i64| if *t == NO_TIMESTAMP { now_ms } else { *t };
            partition.appends.push(RawBatch {
                offsets: (base..base + rows).collect::<Vec<_>>().into(),
                timestamps: append.timestamps.iter().map(stamp).collect::<Vec<_>>().into(),
                keys: append.keys,
                values: append.values,
                headers: append.headers,
                arrivals: Some(arrivals.into()),
            });
        }
        Ok(base)
    }
}

impl Partition {
    fn bounds(&self) -> Bounds {
        let start = self.appends.first().and_then(|a| a.offsets.first().copied());
        Bounds { start: start.unwrap_or(self.end), end: self.end }
    }

    fn read(&self, from: Offset, limit: ReadLimit) -> Result<Fetched, TopicError> {
        if from >= self.end {
            return Ok(Fetched { batch: RawBatch::empty(), next: from, end: self.end });
        }
        let (mut parts, mut rows, mut bytes, mut next) = (Vec::new(), 0, 0, None);
        let first_append = self.appends.partition_point(|a| a.end().is_some_and(|end| end <= from));
        for append in &self.appends[first_append..] {
            let first = append.offsets.partition_point(|offset| *offset < from);
            let room = limit.max_records.max(1) - rows;
            let fits = append.rows_within(first, room, limit.max_bytes.saturating_sub(bytes), parts.is_empty());
            if fits > 0 {
                let part = append.slice(first, fits);
                rows += fits;
                bytes += part.byte_size();
                next = part.end();
                parts.push(part);
            }
            if first + fits < append.len() || rows >= limit.max_records {
                return Ok(Fetched { batch: RawBatch::concat(&parts)?, next: next.unwrap_or(from), end: self.end });
            }
        }
        Ok(Fetched { batch: RawBatch::concat(&parts)?, next: self.end, end: self.end })
    }

    /// Drops appends from the start on while `goes` says so, which is told the bytes still held; gives the records gone.
    fn drop_first(&mut self, goes: impl Fn(&RawBatch, i64, bool) -> bool) -> u64 {
        let mut held: i64 = self.appends.iter().map(|a| a.byte_size() as i64).sum();
        let mut count = 0;
        while let Some(first) = self.appends.get(count) {
            let newest = count + 1 == self.appends.len();
            if !goes(first, held, newest) {
                break;
            }
            held -= first.byte_size() as i64;
            count += 1;
        }
        self.appends.drain(..count).map(|a| a.len() as u64).sum()
    }

    /// Keeps the latest record of each key; never touches the newest append.
    fn compact(&mut self, now_ms: i64) -> Result<u64, TopicError> {
        let Some((newest, older)) = self.appends.split_last() else { return Ok(0) };
        let mut latest = Latest::default();
        older.iter().for_each(|append| latest.note(append));
        let tombstones_from_ms = now_ms.saturating_sub(TOMBSTONE_RETENTION_MS);
        let filter = |append: &RawBatch| append.filter(&latest.keep(append, tombstones_from_ms));
        let mut kept = older.iter().map(filter).collect::<Result<Vec<_>, _>>()?;
        let records = |appends: &[RawBatch]| appends.iter().map(|a| a.len() as u64).sum::<u64>();
        let removed = records(older) - records(&kept);
        kept.retain(|append| !append.is_empty());
        kept.push(newest.clone());
        self.appends = kept;
        Ok(removed)
    }
}

fn unknown_partition(at: &TopicPartition) -> TopicError {
    TopicError::UnknownPartition { topic: at.topic.clone(), partition: at.partition }
}

impl Log for MemoryLog {
    fn is_shared(&self) -> bool {
        self.shared.load(Ordering::SeqCst)
    }

    fn create_topic(&self, spec: &TopicSpec) -> Result<(), TopicError> {
        check_spec(spec)?;
        let mut state = self.state.write();
        if state.topics.contains_key(&spec.name) {
            return Err(TopicError::Exists(spec.name.clone()));
        }
        let partitions = (0..spec.partitions).map(|_| Partition::default()).collect();
        // What the brokers give by default is one here.
        let replicas = if spec.replicas == i16::MAX { 1 } else { spec.replicas };
        state.topics.insert(spec.name.clone(), Topic { spec: TopicSpec { replicas, ..spec.clone() }, partitions });
        Ok(())
    }

    fn delete_topic(&self, topic: &TopicName) -> Result<(), TopicError> {
        let mut state = self.state.write();
        state.topics.remove(topic).ok_or_else(|| TopicError::UnknownTopic(topic.clone()))?;
        state.positions.values_mut().for_each(|positions| positions.retain(|at, _| at.topic != *topic));
        state.positions.retain(|_, positions| !positions.is_empty());
        Ok(())
    }

    fn describe(&self, topic: &TopicName) -> Result<Option<TopicSpec>, TopicError> {
        Ok(self.state.read().topics.get(topic).map(|t| t.spec.clone()))
    }

    fn topics(&self) -> Result<Vec<TopicSpec>, TopicError> {
        Ok(self.state.read().topics.values().map(|t| t.spec.clone()).collect())
    }

    fn bounds(&self, at: &TopicPartition) -> Result<Bounds, TopicError> {
        self.state.read().partition(at).map(Partition::bounds)
    }

    fn read(&self, at: &TopicPartition, from: Offset, limit: ReadLimit) -> Result<Fetched, TopicError> {
        self.state.read().partition(at)?.read(from, limit)
    }

    fn commit(&self, commit: Commit) -> Result<Receipt, TopicError> {
        self.check_fault(&commit)?;
        let now_ms = self.clock.now_ms();
        let mut state = self.state.write();
        // All checks come before the first change.
        for output in &commit.outputs {
            state.partition(&output.to)?;
            output.check()?;
        }
        for (_, at, position) in &commit.positions {
            state.partition(at)?;
            if position.offset < 0 {
                return Err(TopicError::Invalid(format!("position {} in '{at}' is negative", position.offset)));
            }
        }
        let mut grown: Vec<TopicName> =
            commit.outputs.iter().filter(|o| !o.timestamps.is_empty()).map(|o| o.to.topic.clone()).collect();
        grown.dedup();
        let append = |output| state.append(output, now_ms);
        let base_offsets = commit.outputs.into_iter().map(append).collect::<Result<_, _>>()?;
        let mut block_numbers = Vec::with_capacity(commit.blocks.len());
        for (id, block) in commit.blocks {
            let store = state.stores.entry(id).or_default();
            store.blocks.insert(store.next, block);
            block_numbers.push(store.next);
            store.next += 1;
        }
        for (owner, at, position) in commit.positions {
            state.positions.entry(owner).or_default().insert(at, position);
        }
        drop(state);
        self.watchers.wake(&grown);
        Ok(Receipt { base_offsets, block_numbers })
    }

    fn positions(&self, owner: &Owner) -> Result<BTreeMap<TopicPartition, Position>, TopicError> {
        Ok(self.state.read().positions.get(owner).cloned().unwrap_or_default())
    }

    fn owners(&self) -> Result<Vec<Owner>, TopicError> {
        let state = self.state.read();
        let owners: BTreeSet<&Owner> = state.positions.keys().chain(state.stores.keys().map(|id| &id.owner)).collect();
        Ok(owners.into_iter().cloned().collect())
    }

    fn forget(&self, owner: &Owner) -> Result<(), TopicError> {
        let mut state = self.state.write();
        state.positions.remove(owner);
        state.stores.retain(|id, _| id.owner != *owner);
        Ok(())
    }

    fn changelog_end(&self, store: &StoreId) -> Result<u64, TopicError> {
        Ok(self.state.read().stores.get(store).map_or(0, |store| store.next))
    }

    fn blocks(&self, store: &StoreId, from: u64, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, TopicError> {
        let state = self.state.read();
        let Some(store) = state.stores.get(store) else { return Ok(Vec::new()) };
        let mut bytes = 0;
        let mut found = Vec::new();
        for (number, block) in store.blocks.range(from..) {
            bytes += block.len();
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            found.push((*number, block.clone()));
        }
        Ok(found)
    }

    fn write_behind(&self, store: &StoreId, entries: KeyedWrites, next_block: u64) -> Result<(), TopicError> {
        let mut state = self.state.write();
        let store = state.stores.entry(store.clone()).or_default();
        let written = Arc::make_mut(&mut store.entries);
        for (key, value) in entries {
            match value {
                Some(value) => written.insert(key, value),
                None => written.remove(&key),
            };
        }
        store.held = store.held.max(next_block);
        store.next = store.next.max(store.held);
        store.blocks = store.blocks.split_off(&store.held);
        Ok(())
    }

    fn keyed_store(&self, store: &StoreId) -> Result<(Arc<dyn KeyedSnapshot>, u64), TopicError> {
        let state = self.state.read();
        let (entries, held) = state.stores.get(store).map(|s| (s.entries.clone(), s.held)).unwrap_or_default();
        Ok((Arc::new(Keyed(entries)), held))
    }

    fn watch(&self, topics: &[TopicName], wake: Arc<dyn Fn() + Send + Sync>) -> WatchGuard {
        self.watchers.add(topics, wake)
    }

    fn trim(&self, at: &TopicPartition, before: Offset) -> Result<(), TopicError> {
        let mut state = self.state.write();
        state.partition_mut(at)?.drop_first(|append, _, _| append.end().is_some_and(|end| end <= before));
        Ok(())
    }

    fn clean(&self, now_ms: i64) -> Result<u64, TopicError> {
        let mut removed = 0;
        for topic in self.state.write().topics.values_mut() {
            let cleanup = topic.spec.cleanup;
            for partition in &mut topic.partitions {
                if let Some(retention_ms) = cleanup.retention_ms {
                    let from_ms = now_ms.saturating_sub(retention_ms);
                    removed += partition.drop_first(|append, _, _| append.timestamps.iter().all(|t| *t < from_ms));
                }
                if let Some(limit) = cleanup.retention_bytes {
                    removed += partition.drop_first(|_, held, newest| held > limit && !newest);
                }
                if cleanup.compact {
                    removed += partition.compact(now_ms)?;
                }
            }
        }
        Ok(removed)
    }

    fn sync(&self) -> Result<(), TopicError> {
        Ok(())
    }
}

/// A keyed store at one moment.
struct Keyed(Entries);

impl KeyedSnapshot for Keyed {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TopicError> {
        Ok(self.0.get(key).cloned())
    }

    fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), TopicError> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        for (key, value) in self.0.range::<[u8], _>((Included(from), to.map_or(Unbounded, Excluded))) {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::topic::Cleanup;
    use crate::topic::contract::{Fixture, append, contract_tests, make_topic, outputs};

    fn fixture() -> Fixture {
        let clock = Arc::new(ManualClock::new(0));
        Fixture { log: MemoryLog::new(clock.clone()), clock, _dir: None }
    }

    contract_tests!(fixture());

    #[test]
    fn records_are_numbered_as_they_arrive() {
        let log = MemoryLog::new(Arc::new(ManualClock::new(0)));
        make_topic(&*log, "t", 2, Cleanup::default());
        let one = |partition| append("t", partition, &[(None, None, 0)]);
        log.commit(outputs(vec![one(0), one(1), one(0)])).unwrap();
        let arrivals = |partition| {
            let at = TopicPartition::new("t", partition);
            log.read(&at, 0, ReadLimit::default()).unwrap().batch.arrivals.unwrap().to_vec()
        };
        assert_eq!((arrivals(0), arrivals(1)), (vec![0, 2], vec![1]));
    }

    #[test]
    fn commits_fail_on_demand() {
        let log = MemoryLog::new(Arc::new(ManualClock::new(0)));
        make_topic(&*log, "t", 1, Cleanup::default());
        let at = TopicPartition::new("t", 0);
        let commit = || log.commit(outputs(vec![append("t", 0, &[(None, None, 0)])]));
        log.fail_next_commits(2);
        assert!(commit().is_err() && commit().is_err());
        assert_eq!(log.bounds(&at).unwrap().end, 0);
        commit().unwrap();
        log.set_fault(Some(Arc::new(|c| (!c.outputs.is_empty()).then(|| TopicError::Poisoned("asked for".into())))));
        assert!(matches!(commit(), Err(TopicError::Poisoned(_))));
        log.set_fault(None);
        assert_eq!(commit().unwrap().base_offsets, [1]);
    }
}
