//! The embedded log: topics, positions and state of one node, on [`crate::storage`].
//!
//! The walk of a commit: [`EmbeddedLog::commit`] encodes its records into blocks (`block`) before it takes the writer's lock, gives
//! them their offsets under it, and writes blocks, changelogs and positions as one batch; only then do the ends move that
//! readers see, and watchers wake. A read (`read`) finds the block its offset lies in and hands out its memory. `clean` forgets what
//! retention and compaction say. The subtle thing: ends live in memory and move under the writer's lock alone, so that a
//! reader never sees a record whose commit may still fail.
//!
//! Left out: replication (one node), and a time index (reads are by offset).

mod block;
mod check;
mod clean;
mod commit;
mod headers;
mod index;
mod keys;
mod read;
mod rewrite;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::clock::Clock;
use crate::storage::copy::Copied;
use crate::storage::{Batch, Space, Storage, StorageOptions};
use crate::topic::watch::Watchers;
use crate::topic::{
    Bounds, CheckReport, Commit, Fetched, Inspect, KeyedSnapshot, KeyedWrites, Log, Offset, Owner, Position, ReadLimit,
    Receipt, StoreId, TopicError, TopicPartition, TopicSpec, WatchGuard, check_spec,
};
use crate::types::TopicName;
use index::{Partition, Topic, Writer};

/// How the embedded log is to be opened.
#[derive(Clone)]
pub struct LogOptions {
    /// how its storage is to be opened
    pub storage: StorageOptions,
    /// an append is cut into blocks of about so many bytes
    pub block_bytes: usize,
    /// property `record.max.bytes`: key and value of one record hold at most so many bytes
    pub max_record_bytes: usize,
    /// a tombstone outlives its append by so many ms before compaction drops it
    pub tombstone_retention_ms: i64,
    /// memory for the keys that one pass of compaction looks at, bytes
    pub compaction_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            storage: StorageOptions::default(),
            block_bytes: 256 << 10,
            max_record_bytes: 64 << 20,
            tombstone_retention_ms: 24 * 60 * 60 * 1000,
            compaction_bytes: 16 << 20,
        }
    }
}

/// A log on this node's disk.
pub struct EmbeddedLog {
    storage: Storage,
    clock: Arc<dyn Clock>,
    options: LogOptions,
    topics: RwLock<BTreeMap<TopicName, Arc<Topic>>>,
    /// what changes with a write; whoever writes holds it
    writer: Mutex<Writer>,
    /// one cleaning at a time
    cleaning: Mutex<()>,
    watchers: Arc<Watchers>,
}

impl EmbeddedLog {
    /// Opens the log in `dir`, making it if it is not there.
    ///
    /// # Errors
    /// [`TopicError::Locked`] if another process has it, [`TopicError::Format`] if another version wrote it,
    /// [`TopicError::Io`] or [`TopicError::Corrupt`] if it cannot be read.
    pub fn open(dir: &Path, options: LogOptions, clock: Arc<dyn Clock>) -> Result<Arc<Self>, TopicError> {
        let storage = Storage::open(dir, options.storage.clone())?;
        let (topics, writer) = index::recover(&storage)?;
        Ok(Arc::new(Self {
            storage,
            clock,
            options,
            topics: RwLock::new(topics),
            writer: Mutex::new(writer),
            cleaning: Mutex::new(()),
            watchers: Arc::default(),
        }))
    }

    /// Makes the data directory `dir`, which must not be there or be empty, out of what [`Log::export`] wrote.
    ///
    /// # Errors
    /// A directory that holds something; a copy that is damaged, cut off, or of another version.
    pub fn restore(input: &mut dyn Read, dir: &Path) -> Result<Copied, TopicError> {
        let options = StorageOptions { min_free_bytes: 0, ..StorageOptions::default() };
        Ok(Storage::import(input, dir, options)?)
    }

    /// Reads everything there is, and says what is wrong with it.
    ///
    /// # Errors
    /// If the storage cannot be asked at all; what is found wrong is in the report.
    pub fn check(&self, inspect: &Inspect<'_>) -> Result<CheckReport, TopicError> {
        check::check(self, inspect)
    }

    fn topic(&self, name: &TopicName) -> Result<Arc<Topic>, TopicError> {
        self.topics.read().get(name).cloned().ok_or_else(|| TopicError::UnknownTopic(name.clone()))
    }

    /// The topic of `at`, if it has that partition.
    fn topic_of(&self, at: &TopicPartition) -> Result<Arc<Topic>, TopicError> {
        let topic = self.topic(&at.topic)?;
        topic.partition(at)?;
        Ok(topic)
    }

    /// Removes what was just deleted, unless a cleaning is at it; what is left, now or by a failure, the next one removes.
    fn remove_garbage_soon(&self) {
        let Some(_cleaning) = self.cleaning.try_lock() else { return };
        if let Err(error) = self.remove_garbage() {
            tracing::warn!(%error, "deleted records are not removed yet");
        }
    }

    /// Removes what was deleted, in small batches; goes on after a restart where it stopped. Who calls it is cleaning, so that
    /// no reopen waits for it while it waits to write.
    fn remove_garbage(&self) -> Result<(), TopicError> {
        const REMOVED_AT_ONCE: usize = 4096;
        let snapshot = self.storage.snapshot()?;
        let marks = snapshot.scan(Space::Meta, &[keys::GARBAGE], Some(&[keys::GARBAGE + 1]));
        for mark in marks {
            let mark = mark.key()?;
            let (of_topics, id) = keys::read_garbage(&mark)?;
            let spaces: &[Space] = if of_topics { &[Space::Records] } else { &[Space::Changelog, Space::Keyed] };
            let prefix = keys::number_prefix(id);
            for space in spaces {
                let entries = snapshot.scan(*space, &prefix, keys::after_prefix(&prefix).as_deref());
                let mut batch = Batch::default();
                for entry in entries {
                    batch.remove(*space, entry.key()?);
                    if batch.len() == REMOVED_AT_ONCE {
                        self.storage.write(std::mem::take(&mut batch))?;
                    }
                }
                self.storage.write(batch)?;
            }
            let mut last = Batch::default();
            last.remove(Space::Meta, mark);
            self.storage.write(last)?;
        }
        Ok(())
    }
}

impl Log for EmbeddedLog {
    fn create_topic(&self, spec: &TopicSpec) -> Result<(), TopicError> {
        check_spec(spec)?;
        let mut writer = self.writer.lock();
        if self.topics.read().contains_key(&spec.name) {
            return Err(TopicError::Exists(spec.name.clone()));
        }
        let spec = TopicSpec { replicas: 1, ..spec.clone() };
        let id = writer.next_id;
        let mut batch = Batch::default();
        batch.put(Space::Meta, keys::topic(&spec.name), keys::topic_value(id, &spec));
        batch.put(Space::Meta, keys::NEXT_ID, (id + 1).to_be_bytes().to_vec());
        self.storage.write(batch)?;
        writer.next_id = id + 1;
        self.topics.write().insert(spec.name.clone(), Arc::new(Topic::new(id, spec)));
        Ok(())
    }

    fn delete_topic(&self, topic: &TopicName) -> Result<(), TopicError> {
        let writer = self.writer.lock();
        let gone = self.topic(topic)?;
        let snapshot = self.storage.snapshot()?;
        let mut batch = Batch::default();
        batch.remove(Space::Meta, keys::topic(topic));
        batch.put(Space::Meta, keys::garbage(true, gone.id), Bytes::new());
        for kind in [keys::ENDS, keys::UPKEEP] {
            let prefix = keys::of_topic(kind, gone.id);
            for entry in snapshot.scan(Space::Meta, &prefix, keys::after_prefix(&prefix).as_deref()) {
                batch.remove(Space::Meta, entry.key()?);
            }
        }
        for entry in snapshot.scan(Space::Meta, &[keys::POSITIONS], Some(&[keys::POSITIONS + 1])) {
            let key = entry.key()?;
            if keys::read_position(&key)?.1.topic == *topic {
                batch.remove(Space::Meta, key);
            }
        }
        self.storage.write(batch)?;
        gone.delete();
        self.topics.write().remove(topic);
        drop((writer, snapshot));
        self.remove_garbage_soon();
        Ok(())
    }

    fn describe(&self, topic: &TopicName) -> Result<Option<TopicSpec>, TopicError> {
        Ok(self.topics.read().get(topic).map(|t| t.spec.clone()))
    }

    fn topics(&self) -> Result<Vec<TopicSpec>, TopicError> {
        Ok(self.topics.read().values().map(|t| t.spec.clone()).collect())
    }

    fn bounds(&self, at: &TopicPartition) -> Result<Bounds, TopicError> {
        self.topic(&at.topic)?.partition(at).map(Partition::bounds)
    }

    fn read(&self, at: &TopicPartition, from: Offset, limit: ReadLimit) -> Result<Fetched, TopicError> {
        read::read(self, at, from, limit)
    }

    fn commit(&self, commit: Commit) -> Result<Receipt, TopicError> {
        commit::commit(self, commit)
    }

    fn positions(&self, owner: &Owner) -> Result<BTreeMap<TopicPartition, Position>, TopicError> {
        state::positions(&self.storage, owner)
    }

    fn owners(&self) -> Result<Vec<Owner>, TopicError> {
        state::owners(&self.storage)
    }

    fn forget(&self, owner: &Owner) -> Result<(), TopicError> {
        state::forget(self, owner)
    }

    fn changelog_end(&self, store: &StoreId) -> Result<u64, TopicError> {
        Ok(self.writer.lock().stores.get(store).map_or(0, |store| store.next))
    }

    fn blocks(&self, store: &StoreId, from: u64, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, TopicError> {
        state::blocks(self, store, from, max_bytes)
    }

    fn write_behind(&self, store: &StoreId, entries: KeyedWrites, next_block: u64) -> Result<(), TopicError> {
        state::write_behind(self, store, entries, next_block)
    }

    fn keyed_store(&self, store: &StoreId) -> Result<(Arc<dyn KeyedSnapshot>, u64), TopicError> {
        state::keyed_store(&self.storage, store)
    }

    fn watch(&self, topics: &[TopicName], wake: Arc<dyn Fn() + Send + Sync>) -> WatchGuard {
        self.watchers.add(topics, wake)
    }

    fn trim(&self, at: &TopicPartition, before: Offset) -> Result<(), TopicError> {
        clean::trim(self, at, before)
    }

    fn clean(&self, now_ms: i64) -> Result<u64, TopicError> {
        let _cleaning = self.cleaning.lock();
        self.remove_garbage()?;
        clean::clean(self, now_ms)
    }

    fn sync(&self) -> Result<(), TopicError> {
        Ok(self.storage.sync()?)
    }

    fn export(&self, out: &mut dyn Write) -> Result<Copied, TopicError> {
        Ok(self.storage.export(out)?)
    }

    fn writable(&self) -> Result<(), TopicError> {
        Ok(self.storage.check()?)
    }

    fn reopen(&self) -> Result<(), TopicError> {
        let _no_cleaning = self.cleaning.lock();
        let mut writer = self.writer.lock();
        self.storage.reopen()?;
        let (topics, recovered) = index::recover(&self.storage)?;
        *self.topics.write() = topics;
        *writer = recovered;
        Ok(())
    }
}
