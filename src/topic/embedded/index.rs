//! What the embedded log keeps in memory: its topics with the start and end of each partition, and its stores' numbers.
//!
//! Recovered from keys and one block a partition, never by reading all records. The subtle thing: a topic that was
//! deleted stays in the hands of readers and of cleaning, but takes no more writes ([`Topic::check`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use ahash::AHashMap;

use super::block::Block;
use super::keys::{self, Id};
use crate::storage::{Snapshot, Space, Storage};
use crate::topic::{Bounds, Offset, StoreId, TopicError, TopicPartition, TopicSpec};
use crate::types::TopicName;

/// A topic.
pub(super) struct Topic {
    pub(super) id: Id,
    pub(super) spec: TopicSpec,
    partitions: Box<[Partition]>,
    gone: AtomicBool,
}

impl Topic {
    /// A topic without records.
    pub(super) fn new(id: Id, spec: TopicSpec) -> Self {
        let partitions = (0..spec.partitions).map(|_| Partition::default()).collect();
        Self { id, spec, partitions, gone: AtomicBool::new(false) }
    }

    /// The partition of `at`, which names this topic.
    pub(super) fn partition(&self, at: &TopicPartition) -> Result<&Partition, TopicError> {
        let partition = usize::try_from(at.partition).ok().and_then(|p| self.partitions.get(p));
        partition.ok_or_else(|| TopicError::UnknownPartition { topic: at.topic.clone(), partition: at.partition })
    }

    /// The partitions with their numbers.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (i32, &Partition)> {
        (0..).zip(self.partitions.iter())
    }

    /// Takes no writes from now on; called under the writer's lock.
    pub(super) fn delete(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// Fails if it takes no writes; asked under the writer's lock.
    pub(super) fn check(&self) -> Result<(), TopicError> {
        match self.gone.load(Ordering::Acquire) {
            true => Err(TopicError::UnknownTopic(self.spec.name.clone())),
            false => Ok(()),
        }
    }
}

/// Start and end of a partition. They move under the writer's lock, and are read without it.
#[derive(Default)]
pub(super) struct Partition {
    start: AtomicI64,
    end: AtomicI64,
    /// small blocks appended since small blocks were merged
    small_blocks: AtomicU32,
}

impl Partition {
    pub(super) fn bounds(&self) -> Bounds {
        // The start first: it never passes an end read later.
        let start = self.start.load(Ordering::Acquire);
        Bounds { start, end: self.end.load(Ordering::Acquire) }
    }

    pub(super) fn set_start(&self, start: Offset) {
        self.start.store(start, Ordering::Release);
    }

    pub(super) fn set_end(&self, end: Offset) {
        self.end.store(end, Ordering::Release);
    }

    /// Notes `count` small blocks more.
    pub(super) fn add_small_blocks(&self, count: u32) {
        self.small_blocks.fetch_add(count, Ordering::Relaxed);
    }

    /// Small blocks noted since the last call that said to merge them.
    pub(super) fn take_small_blocks(&self, at_least: u32) -> bool {
        let due = self.small_blocks.load(Ordering::Relaxed) >= at_least;
        if due {
            self.small_blocks.store(0, Ordering::Relaxed);
        }
        due
    }
}

/// What changes with a write.
#[derive(Default)]
pub(super) struct Writer {
    /// the number of the next topic or store
    pub(super) next_id: Id,
    pub(super) stores: AHashMap<StoreId, Store>,
}

/// A store's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Store {
    pub(super) id: Id,
    /// the first changelog block that its keyed store does not hold
    pub(super) held: u64,
    /// the number of the next changelog block
    pub(super) next: u64,
}

/// What the storage holds.
///
/// # Errors
/// If it cannot be read.
pub(super) fn recover(storage: &Storage) -> Result<(BTreeMap<TopicName, Arc<Topic>>, Writer), TopicError> {
    let snapshot = storage.snapshot()?;
    let mut topics = BTreeMap::new();
    for entry in snapshot.scan(Space::Meta, &[keys::TOPICS], Some(&[keys::TOPICS + 1])) {
        let (key, value) = entry.read()?;
        let (id, spec) = keys::read_topic(&key, &value)?;
        let topic = Topic::new(id, spec);
        for (number, partition) in topic.partitions() {
            recover_partition(&snapshot, id, number, partition)?;
        }
        topics.insert(topic.spec.name.clone(), Arc::new(topic));
    }
    let mut stores = AHashMap::new();
    for entry in snapshot.scan(Space::Meta, &[keys::STORES], Some(&[keys::STORES + 1])) {
        let (key, value) = entry.read()?;
        let (id, held) = keys::read_store_value(&value)?;
        let prefix = keys::number_prefix(id);
        let last = snapshot.scan(Space::Changelog, &prefix, keys::after_prefix(&prefix).as_deref()).next_back();
        let next = last.map(|e| Ok::<_, TopicError>(keys::changelog_number(&e.key()?)? + 1)).transpose()?;
        stores.insert(keys::read_store(&key)?, Store { id, held, next: next.unwrap_or_default().max(held) });
    }
    let next_id = snapshot.get(Space::Meta, keys::NEXT_ID)?;
    let next_id = next_id.map(|v| keys::read_number(&v, "next number")).transpose()?.unwrap_or_default() as Id;
    Ok((topics, Writer { next_id, stores }))
}

fn recover_partition(snapshot: &Snapshot, id: Id, number: i32, partition: &Partition) -> Result<(), TopicError> {
    let (from, to) = (keys::block(id, number, 0), keys::block(id, number, Offset::MAX));
    let mut end = match snapshot.get(Space::Meta, &keys::of_partition(keys::ENDS, id, number))? {
        Some(value) => keys::read_number(&value, "end of a partition")?,
        None => 0,
    };
    let mut blocks = snapshot.scan(Space::Records, &from, Some(&to));
    if let Some(last) = blocks.next_back() {
        let (key, value) = last.read()?;
        end = end.max(Block::read(keys::block_base(&key)?, value)?.end());
    }
    partition.set_end(end);
    partition.set_start(first_offset(snapshot, id, number)?.unwrap_or(end));
    Ok(())
}

/// The first offset stored of a partition.
///
/// # Errors
/// If the storage cannot be read.
pub(super) fn first_offset(snapshot: &Snapshot, id: Id, number: i32) -> Result<Option<Offset>, TopicError> {
    let (from, to) = (keys::block(id, number, 0), keys::block(id, number, Offset::MAX));
    let first = snapshot.scan(Space::Records, &from, Some(&to)).next();
    first.map(|entry| keys::block_base(&entry.key()?)).transpose()
}
