//! The node's one database on fjall: few fixed spaces of ordered keys, atomic batches, snapshots, and a rule for syncing.
//!
//! The only file that names fjall; knows bytes, neither topics nor stores. The subtle thing is failure: after any write that
//! did not go well the storage refuses all further ones until [`Storage::reopen`], because what is on disk is then unknown;
//! a reopened storage holds each batch whole or not at all, and every batch that was acknowledged.

pub mod copy;
mod directory;
pub mod fault;
mod syncer;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::config::PinningPolicy;
use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode,
    Readable,
};
use parking_lot::{Mutex, RwLock};

use directory::{DataDirectory, unusable};
use fault::{Fault, FaultHook, Write};
use syncer::{JournalSync, Syncer};

const MIB: u64 = 1 << 20;
/// Values from this size on lie beside the tree, where merging levels does not copy them.
const SEPARATION_THRESHOLD_BYTES: u32 = 4 << 10;
/// Writers wait while so many full memtables of a space are not yet in tables; half of where fjall itself would stop them.
const MAX_SEALED_MEMTABLES: usize = 2;
/// What fjall counts for an entry of a memtable beside key and value, about.
const ENTRY_BYTES: u64 = 80;
const META_MEMTABLE_BYTES: u64 = 2 * MIB;
/// How long [`Storage::reopen`] waits for reads to end.
const REOPEN_WAIT: Duration = Duration::from_secs(10);

/// How the storage is to be opened. Sizes of memtables count only when the directory is new.
#[derive(Clone)]
pub struct StorageOptions {
    /// block and blob cache, bytes. Blocks of records go through it too, so that with a large one each is read into memory that no
    /// core has in its cache (a filter lost 6 % with 32 MiB); the system caches files anyway
    pub cache_bytes: u64,
    /// memory for record blocks not yet in tables, bytes; up to three times as much while the disk is slow
    pub records_memtable_bytes: u64,
    /// the same for changelogs
    pub changelog_memtable_bytes: u64,
    /// the same for keyed stores, but at most half as much more, see [`Storage::pace`]; the larger, the less often their tables are merged
    pub keyed_memtable_bytes: u64,
    /// property `storage.records.compression` = `lz4`: blocks of records are packed on disk. Counts only when the directory is new
    pub pack_records: bool,
    /// journals kept at most, bytes (≥ 64 MiB); bounds what a restart must replay
    pub journal_max_bytes: u64,
    /// threads that flush and merge; with more than one, fjall's first thread spins while merges wait for another
    pub worker_threads: usize,
    /// time between syncs; zero syncs each commit
    pub sync_interval: Duration,
    /// property `storage.min.free.bytes`: commits stop when less is free
    pub min_free_bytes: u64,
    /// makes writes fail in tests
    pub fault: Option<FaultHook>,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 8 * MIB,
            records_memtable_bytes: 16 * MIB,
            changelog_memtable_bytes: 8 * MIB,
            keyed_memtable_bytes: 16 * MIB,
            pack_records: false,
            journal_max_bytes: 256 * MIB,
            worker_threads: 1,
            sync_interval: Duration::from_secs(1),
            min_free_bytes: 256 * MIB,
            fault: None,
        }
    }
}

impl StorageOptions {
    /// Memory of caches and memtables, about: of each space one memtable fills, and two that are full may wait for the disk; writers of
    /// keyed stores wait for it sooner.
    pub fn memory_bytes(&self) -> u64 {
        let keyed = self.keyed_memtable_bytes / 2 * 3;
        self.cache_bytes + 3 * (self.records_memtable_bytes + self.changelog_memtable_bytes) + keyed
    }
}

/// What the storage can say no with; [`crate::topic::TopicError`] says the same to users.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// another process has the directory
    #[error("{dir} is locked by process {pid}")]
    Locked {
        /// the directory
        dir: String,
        /// who has it, or "?"
        pid: String,
    },
    /// another version wrote the directory
    #[error("{dir} has format {found}, expected {expected}")]
    Format {
        /// the directory
        dir: String,
        /// what is there
        found: String,
        /// what we write
        expected: u32,
    },
    /// stored bytes do not read back
    #[error("damaged: {0}")]
    Corrupt(String),
    /// a write failed earlier
    #[error("poisoned: {0}")]
    Poisoned(String),
    /// too little space
    #[error("{free} bytes free in {dir}, limit {limit}")]
    DiskFull {
        /// the directory
        dir: String,
        /// bytes free
        free: u64,
        /// bytes required
        limit: u64,
    },
    /// the system says no
    #[error("{what}: {reason}")]
    Io {
        /// what was tried
        what: String,
        /// the system's words
        reason: String,
    },
}

/// The spaces of keys. Each is a tree of its own; batches span them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// blocks of records
    Records,
    /// changelog blocks of stores
    Changelog,
    /// entries of keyed stores
    Keyed,
    /// topics, positions, stores
    Meta,
}

impl Space {
    const ALL: [Self; 4] = [Self::Records, Self::Changelog, Self::Keyed, Self::Meta];

    fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Changelog => "changelog",
            Self::Keyed => "keyed",
            Self::Meta => "meta",
        }
    }

    /// How large a memtable grows; one commit may go beyond it.
    fn memtable_bytes(self, options: &StorageOptions) -> u64 {
        match self {
            Self::Records => options.records_memtable_bytes,
            Self::Changelog => options.changelog_memtable_bytes,
            Self::Keyed => options.keyed_memtable_bytes,
            Self::Meta => META_MEMTABLE_BYTES,
        }
    }

    fn create_options(self, options: &StorageOptions) -> KeyspaceCreateOptions {
        let base = KeyspaceCreateOptions::default().max_memtable_size(self.memtable_bytes(options));
        let blobs = KvSeparationOptions::default().separation_threshold(SEPARATION_THRESHOLD_BYTES);
        match self {
            // Packed, rows of JSON take a third of the space; but packing and unpacking is a third of the work of a filter.
            Self::Records => {
                let packing = if options.pack_records { CompressionType::Lz4 } else { CompressionType::None };
                base.with_kv_separation(Some(blobs.compression(packing)))
            }
            // Changelogs are trimmed before packing them would pay.
            Self::Changelog => {
                let plain = blobs.compression(CompressionType::None);
                base.with_kv_separation(Some(plain))
            }
            // Keys are looked up at random: what finds their blocks stays in memory, about a hundredth of them, but for what is partitioned.
            Self::Keyed => {
                let pinned = PinningPolicy::new([true, true, true, false]);
                base.filter_block_pinning_policy(pinned.clone()).index_block_pinning_policy(pinned)
            }
            Self::Meta => base,
        }
    }
}

/// Writes that happen together.
#[derive(Debug, Default)]
pub struct Batch(Vec<(Space, Bytes, Option<Bytes>)>);

impl Batch {
    /// Sets `key` to `value`.
    pub fn put(&mut self, space: Space, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.0.push((space, key.into(), Some(value.into())));
    }

    /// Removes `key`.
    pub fn remove(&mut self, space: Space, key: impl Into<Bytes>) {
        self.0.push((space, key.into(), None));
    }

    /// What it adds to the memtables of the spaces, about.
    fn memtable_bytes(&self) -> [u64; 4] {
        let mut bytes = [0; 4];
        for (space, key, value) in &self.0 {
            bytes[*space as usize] += (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64 + ENTRY_BYTES;
        }
        bytes
    }

    /// Number of writes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without writes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why nothing is written any more, once something failed.
#[derive(Debug, Default)]
struct Poison(Mutex<Option<String>>);

impl Poison {
    fn check(&self) -> Result<(), StorageError> {
        self.0.lock().clone().map_or(Ok(()), |reason| Err(StorageError::Poisoned(reason)))
    }

    /// Keeps the first reason, gives the error.
    fn set(&self, reason: String) -> StorageError {
        tracing::error!(%reason, "the storage stops writing");
        StorageError::Poisoned(self.0.lock().get_or_insert(reason).clone())
    }

    fn clear(&self) {
        *self.0.lock() = None;
    }
}

/// The database while it is open.
struct OpenDatabase {
    spaces: [Keyspace; 4],
    database: Database,
}

impl OpenDatabase {
    fn open(directory: &DataDirectory, options: &StorageOptions) -> Result<Arc<Self>, StorageError> {
        // what is damaged may make fjall panic while it reads its journal; that must not end the process
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| Self::try_open(directory, options)));
        opened.unwrap_or_else(|panic| {
            let words =
                panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            let words = words.unwrap_or("no reason given");
            Err(StorageError::Corrupt(format!("the database in {} cannot be opened: {words}", directory.name())))
        })
    }

    fn try_open(directory: &DataDirectory, options: &StorageOptions) -> Result<Arc<Self>, StorageError> {
        let failed = |e| open_error(directory, e);
        directory.make()?;
        let database = Database::builder(directory.database())
            .cache_size(options.cache_bytes)
            // The journal is written on the commit path and gone soon, so it is not packed.
            .journal_compression(CompressionType::None)
            .max_journaling_size(options.journal_max_bytes.max(64 * MIB))
            .worker_threads(options.worker_threads.max(1))
            .open()
            .map_err(failed)?;
        let space = |s: Space| database.keyspace(s.name(), || s.create_options(options)).map_err(failed);
        let [records, changelog, keyed, meta] = Space::ALL.map(space);
        let spaces = [records?, changelog?, keyed?, meta?];
        directory.made()?;
        Ok(Arc::new(Self { spaces, database }))
    }

    fn space(&self, space: Space) -> &Keyspace {
        &self.spaces[space as usize]
    }
}

/// The storage of one data directory. All methods are safe to call from any thread.
pub struct Storage {
    options: StorageOptions,
    /// `None` only while it is being reopened, or after that failed
    open: RwLock<Option<Arc<OpenDatabase>>>,
    poison: Arc<Poison>,
    journal: Arc<JournalSync>,
    _syncer: Option<Syncer>,
    /// last, so that the lock goes after the database
    directory: DataDirectory,
}

impl Storage {
    /// Opens the storage in `dir`, making it if it is not there.
    ///
    /// # Errors
    /// [`StorageError::Locked`], [`StorageError::Format`], [`StorageError::Corrupt`] or [`StorageError::Io`].
    pub fn open(dir: &Path, options: StorageOptions) -> Result<Self, StorageError> {
        let directory = DataDirectory::open(dir)?;
        let open = OpenDatabase::open(&directory, &options)?;
        let poison = Arc::<Poison>::default();
        let journal = Arc::new(JournalSync::new(directory.database(), options.fault.clone(), poison.clone()));
        let syncer = match options.sync_interval {
            Duration::ZERO => None,
            interval => Some(Syncer::start(journal.clone(), interval)?),
        };
        Ok(Self { options, open: RwLock::new(Some(open)), poison, journal, _syncer: syncer, directory })
    }

    /// Closes the database and opens it again as the disk has it, which ends the refusal to write. Snapshots taken before
    /// answer with an error from then on.
    ///
    /// # Errors
    /// As [`Self::open`]; [`StorageError::Io`] if reads do not end within 10 s. The storage then stays as it was or closed, and
    /// this may be called again.
    pub fn reopen(&self) -> Result<(), StorageError> {
        let mut slot = self.open.write();
        if let Some(open) = slot.take()
            && let Err(still_read) = close(open)
        {
            *slot = Some(still_read);
            return Err(StorageError::Io {
                what: format!("cannot reopen {}", self.directory.name()),
                reason: "it is still being read; try again".into(),
            });
        }
        self.journal.forget();
        *slot = Some(OpenDatabase::open(&self.directory, &self.options)?);
        self.poison.clear();
        Ok(())
    }

    /// Fails if writes are refused.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`].
    pub fn check(&self) -> Result<(), StorageError> {
        self.poison.check()
    }

    /// Fails if fewer than `storage.min.free.bytes` are free. Not asked by [`Self::write`], so that space can be freed.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`].
    pub fn check_free(&self) -> Result<(), StorageError> {
        self.directory.check_free(self.options.min_free_bytes)
    }

    /// Writes all of `batch` or nothing. What is written is visible at once, survives the end of the process, and survives
    /// a power cut after the next sync.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`], now and from then on.
    pub fn write(&self, batch: Batch) -> Result<(), StorageError> {
        self.poison.check()?;
        if batch.is_empty() {
            return Ok(());
        }
        let open = self.opened()?;
        let fault = self.options.fault.as_ref().and_then(|hook| hook(Write::Batch));
        if fault == Some(Fault::Before) {
            return Err(self.poison.set("injected fault before a write".into()));
        }
        self.make_room(&open, &batch)?;
        let mode = if self.options.sync_interval.is_zero() { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut writes =
            fjall::OwnedWriteBatch::with_capacity(open.database.clone(), batch.len()).durability(Some(mode));
        for (space, key, value) in batch.0 {
            match value {
                Some(value) => writes.insert(open.space(space), key, value),
                None => writes.remove(open.space(space), key),
            }
        }
        writes.commit().map_err(|e| self.poison.set(format!("writing to {}: {}", self.directory.name(), said(&e))))?;
        self.journal.touch();
        match fault {
            Some(_) => Err(self.poison.set("injected fault after a write".into())),
            None => Ok(()),
        }
    }

    /// Sees to it that no space holds more than two full memtables beside the one that takes the batch. Fjall's worker would seal full
    /// ones as well, but only when it is through with merging tables; all that is written until then would stay in memory.
    fn make_room(&self, open: &OpenDatabase, batch: &Batch) -> Result<(), StorageError> {
        for (space, more) in Space::ALL.into_iter().zip(batch.memtable_bytes()) {
            let (tree, limit) = (open.space(space), space.memtable_bytes(&self.options));
            let held = tree.tree.active_memtable().size();
            // one that is not half full is not worth a table
            if more > 0 && held + more > limit && held > limit / 2 {
                self.wait_for_flush(open, tree, MAX_SEALED_MEMTABLES)?;
                tree.rotate_memtable().map_err(|e| self.poison.set(said(&e)))?;
            }
        }
        Ok(())
    }

    /// For writers that are in no hurry, to be called before each of many writes and without a lock that others want: lets the disk catch
    /// up while the memtable that fills is half full and another waits. So a space takes a memtable and a half, in tables of full size.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`].
    pub fn pace(&self, space: Space) -> Result<(), StorageError> {
        self.poison.check()?;
        let open = self.opened()?;
        let tree = open.space(space);
        if tree.tree.active_memtable().size() <= space.memtable_bytes(&self.options) / 2 {
            return Ok(());
        }
        self.wait_for_flush(&open, tree, 1)
    }

    #[expect(clippy::disallowed_methods, reason = "the storage below has no condition to wait on")]
    /// Lets the disk catch up with a space until fewer than `full` memtables of it wait.
    fn wait_for_flush(&self, open: &OpenDatabase, space: &Keyspace, full: usize) -> Result<(), StorageError> {
        while space.sealed_memtable_count() >= full {
            // Nothing is left in the buffer to flush; asked only whether a background thread has failed.
            open.database.persist(PersistMode::Buffer).map_err(|e| self.poison.set(said(&e)))?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// The storage as it now is.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`] if it was closed by a failed [`Self::reopen`].
    pub fn snapshot(&self) -> Result<Snapshot, StorageError> {
        let open = self.opened()?;
        let at = open.database.snapshot();
        Ok(Snapshot { open, at })
    }

    /// Returns when all that is written is on disk.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`], now and from then on.
    pub fn sync(&self) -> Result<(), StorageError> {
        self.journal.sync()
    }

    fn opened(&self) -> Result<Arc<OpenDatabase>, StorageError> {
        self.open.read().clone().ok_or_else(|| StorageError::Poisoned("it is closed and must be reopened".into()))
    }
}

/// Waits until nobody reads, then closes; gives it back if somebody does not stop.
fn close(mut open: Arc<OpenDatabase>) -> Result<(), Arc<OpenDatabase>> {
    let deadline = Instant::now() + REOPEN_WAIT;
    loop {
        match Arc::try_unwrap(open) {
            Ok(last) => {
                drop(last);
                return Ok(());
            }
            Err(shared) if Instant::now() > deadline => return Err(shared),
            Err(shared) => open = shared,
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A view of the storage at one moment. Keep it short-lived, or [`Self::downgrade`] it: a reopen waits for it.
#[derive(Clone)]
pub struct Snapshot {
    at: fjall::Snapshot,
    open: Arc<OpenDatabase>,
}

impl Snapshot {
    /// The value of `key`.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] or [`StorageError::Io`].
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.at.get(self.open.space(space), key).map(|v| v.map(Bytes::from)).map_err(|e| read_error(&e))
    }

    /// The size in bytes of the value of `key`, without reading a large one.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] or [`StorageError::Io`].
    pub fn size_of(&self, space: Space, key: &[u8]) -> Result<Option<u32>, StorageError> {
        self.at.size_of(self.open.space(space), key).map_err(|e| read_error(&e))
    }

    /// The entries with keys in `[from, to)` in order, from both ends; to the end of the space if `to` is `None`.
    pub fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>) -> Scan<'_> {
        use std::ops::Bound::{self, Excluded, Included, Unbounded};
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (Included(from), to.map_or(Unbounded, Excluded));
        // A range that ends before it starts is empty, which fjall does not promise.
        let iter = to.is_none_or(|to| from < to).then(|| self.at.range::<&[u8], _>(self.open.space(space), range));
        Scan { iter, _of: PhantomData }
    }

    /// The same view, which does not keep a reopen waiting and then stops answering.
    pub fn downgrade(&self) -> WeakSnapshot {
        WeakSnapshot { at: self.at.clone(), open: Arc::downgrade(&self.open) }
    }
}

/// A [`Snapshot`] that a reopen need not wait for.
#[derive(Clone)]
pub struct WeakSnapshot {
    at: fjall::Snapshot,
    open: Weak<OpenDatabase>,
}

impl WeakSnapshot {
    /// The view, for the time of a read.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`] if the storage was closed or reopened since.
    pub fn upgrade(&self) -> Result<Snapshot, StorageError> {
        let open = self.open.upgrade().ok_or_else(reopened)?;
        Ok(Snapshot { at: self.at.clone(), open })
    }

    /// The storage as it is at each look.
    pub fn live(&self) -> LiveView {
        LiveView { open: self.open.clone() }
    }
}

/// The storage as it is at each look, until it is reopened. Unlike a snapshot that is kept, it does not make fjall hold the
/// memtables and old values of all that is written later.
#[derive(Clone)]
pub struct LiveView {
    open: Weak<OpenDatabase>,
}

impl LiveView {
    /// The value of `key` now.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`] if the storage was closed or reopened since, [`StorageError::Corrupt`] or [`StorageError::Io`].
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let open = self.open.upgrade().ok_or_else(reopened)?;
        open.space(space).get(key).map(|v| v.map(Bytes::from)).map_err(|e| read_error(&e))
    }

    /// The storage as it now is.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`] if the storage was closed or reopened since.
    pub fn snapshot(&self) -> Result<Snapshot, StorageError> {
        let open = self.open.upgrade().ok_or_else(reopened)?;
        let at = open.database.snapshot();
        Ok(Snapshot { open, at })
    }
}

fn reopened() -> StorageError {
    StorageError::Poisoned("it was reopened since this view of it was taken; take a new one".into())
}

/// Entries in key order.
pub struct Scan<'a> {
    iter: Option<fjall::Iter>,
    _of: PhantomData<&'a Snapshot>,
}

impl Iterator for Scan<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.iter.as_mut()?.next().map(Entry)
    }
}

impl DoubleEndedIterator for Scan<'_> {
    fn next_back(&mut self) -> Option<Entry> {
        self.iter.as_mut()?.next_back().map(Entry)
    }
}

/// One entry; a large value is read only when asked for.
pub struct Entry(fjall::Guard);

impl Entry {
    /// Its key.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] or [`StorageError::Io`].
    pub fn key(self) -> Result<Bytes, StorageError> {
        self.0.key().map(Bytes::from).map_err(|e| read_error(&e))
    }

    /// Its key and value.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] or [`StorageError::Io`].
    pub fn read(self) -> Result<(Bytes, Bytes), StorageError> {
        self.0.into_inner().map(|(k, v)| (k.into(), v.into())).map_err(|e| read_error(&e))
    }
}

fn open_error(directory: &DataDirectory, error: fjall::Error) -> StorageError {
    match error {
        fjall::Error::Io(e) => unusable(&directory.database(), &e),
        fjall::Error::Locked => StorageError::Locked { dir: directory.name(), pid: "?".into() },
        fjall::Error::InvalidVersion(version) => StorageError::Format {
            dir: directory.name(),
            found: version.map_or_else(|| "unknown".into(), |v| format!("of storage engine version {}", v as u8)),
            expected: directory::FORMAT,
        },
        other => StorageError::Corrupt(format!("{} in {}", said(&other), directory.name())),
    }
}

fn read_error(error: &fjall::Error) -> StorageError {
    match error {
        fjall::Error::Io(_) | fjall::Error::Storage(fjall::LsmError::Io(_)) => {
            StorageError::Io { what: "reading the storage".into(), reason: said(error) }
        }
        _ => StorageError::Corrupt(said(error)),
    }
}

/// The error in words, without the names of types around an I/O error.
fn said(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(e) | fjall::Error::Storage(fjall::LsmError::Io(e)) => e.to_string(),
        fjall::Error::Poisoned => "an earlier write, flush or merge failed".into(),
        other => format!("{other:?}"),
    }
}
