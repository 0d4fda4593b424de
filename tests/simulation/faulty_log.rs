//! The in-memory log, with the failures of a disk: writes that fail before or after they happened, reads that fail, a log that stops
//! writing until it is opened again.
//!
//! Keeps the contract of `Log` where it fails: a failed commit changed nothing, or the log is poisoned. One fault is armed at a time and hits
//! the n-th call it is meant for.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use riverrun::topic::memory::MemoryLog;
use riverrun::topic::{
    Bounds, Commit, Fetched, KeyedSnapshot, KeyedWrites, Log, Offset, Owner, Position, ReadLimit, Receipt, StoreId,
    TopicError, TopicPartition, TopicSpec, WatchGuard,
};
use riverrun::types::TopicName;

/// What fails, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// a commit does not happen, the log is poisoned
    CommitBefore,
    /// a commit happens and is reported as failed, the log is poisoned
    CommitAfter,
    /// a commit is refused, as by a full disk
    CommitRefused,
    /// a write-behind does not happen, the log is poisoned
    WriteBehindBefore,
    /// a write-behind happens and is reported as failed, the log is poisoned
    WriteBehindAfter,
    /// a trim fails, the log is poisoned
    Trim,
    /// records cannot be read
    Read,
    /// changelog blocks cannot be read
    Blocks,
}

/// All of them.
pub const FAULTS: [Fault; 8] = [
    Fault::CommitBefore,
    Fault::CommitAfter,
    Fault::CommitRefused,
    Fault::WriteBehindBefore,
    Fault::WriteBehindAfter,
    Fault::Trim,
    Fault::Read,
    Fault::Blocks,
];

#[derive(Default)]
struct Plan {
    /// calls that go well before this fault hits
    armed: Option<(u32, Fault)>,
    poisoned: bool,
    /// how often the log does not open again
    failing_opens: u32,
    hits: u32,
}

/// A log that fails when it is told to.
pub struct FaultyLog {
    inner: Arc<MemoryLog>,
    plan: Mutex<Plan>,
}

impl FaultyLog {
    pub fn new(inner: Arc<MemoryLog>) -> Arc<Self> {
        Arc::new(Self { inner, plan: Mutex::default() })
    }

    /// Lets the call after the next `after` ones fail, and then `failing_opens` tries to open the log again.
    pub fn arm(&self, fault: Fault, after: u32, failing_opens: u32) {
        let mut plan = self.plan.lock();
        plan.armed = Some((after, fault));
        plan.failing_opens = failing_opens;
    }

    /// Nothing fails any more, as after a start of the process.
    pub fn heal(&self) {
        let mut plan = self.plan.lock();
        (plan.armed, plan.poisoned, plan.failing_opens) = (None, false, 0);
    }

    /// Faults that hit.
    pub fn hits(&self) -> u32 {
        self.plan.lock().hits
    }

    /// The fault that hits this call, if one of `kinds` is due.
    fn hit(&self, kinds: &[Fault]) -> Option<Fault> {
        let mut plan = self.plan.lock();
        let (after, fault) = plan.armed.filter(|(_, fault)| kinds.contains(fault))?;
        if after > 0 {
            plan.armed = Some((after - 1, fault));
            return None;
        }
        plan.armed = None;
        plan.hits += 1;
        Some(fault)
    }

    fn check(&self) -> Result<(), TopicError> {
        if self.plan.lock().poisoned { Err(TopicError::Poisoned("an earlier write failed".into())) } else { Ok(()) }
    }

    fn poison(&self) -> TopicError {
        self.plan.lock().poisoned = true;
        TopicError::Poisoned("this write failed".into())
    }
}

fn io() -> TopicError {
    TopicError::Io { what: "a call of the log".into(), reason: "injected".into() }
}

impl Log for FaultyLog {
    fn create_topic(&self, spec: &TopicSpec) -> Result<(), TopicError> {
        self.check()?;
        self.inner.create_topic(spec)
    }

    fn delete_topic(&self, topic: &TopicName) -> Result<(), TopicError> {
        self.check()?;
        self.inner.delete_topic(topic)
    }

    fn describe(&self, topic: &TopicName) -> Result<Option<TopicSpec>, TopicError> {
        self.inner.describe(topic)
    }

    fn topics(&self) -> Result<Vec<TopicSpec>, TopicError> {
        self.inner.topics()
    }

    fn bounds(&self, at: &TopicPartition) -> Result<Bounds, TopicError> {
        self.inner.bounds(at)
    }

    fn read(&self, at: &TopicPartition, from: Offset, limit: ReadLimit) -> Result<Fetched, TopicError> {
        match self.hit(&[Fault::Read]) {
            Some(_) => Err(io()),
            None => self.inner.read(at, from, limit),
        }
    }

    fn commit(&self, commit: Commit) -> Result<Receipt, TopicError> {
        self.check()?;
        match self.hit(&[Fault::CommitBefore, Fault::CommitAfter, Fault::CommitRefused]) {
            None => self.inner.commit(commit),
            Some(Fault::CommitRefused) => Err(io()),
            Some(Fault::CommitAfter) => self.inner.commit(commit).and_then(|_| Err(self.poison())),
            Some(_) => Err(self.poison()),
        }
    }

    fn positions(&self, owner: &Owner) -> Result<BTreeMap<TopicPartition, Position>, TopicError> {
        self.inner.positions(owner)
    }

    fn owners(&self) -> Result<Vec<Owner>, TopicError> {
        self.inner.owners()
    }

    fn forget(&self, owner: &Owner) -> Result<(), TopicError> {
        self.check()?;
        self.inner.forget(owner)
    }

    fn blocks(&self, store: &StoreId, from: u64, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, TopicError> {
        match self.hit(&[Fault::Blocks]) {
            Some(_) => Err(io()),
            None => self.inner.blocks(store, from, max_bytes),
        }
    }

    fn write_behind(&self, store: &StoreId, entries: KeyedWrites, next_block: u64) -> Result<(), TopicError> {
        self.check()?;
        match self.hit(&[Fault::WriteBehindBefore, Fault::WriteBehindAfter]) {
            None => self.inner.write_behind(store, entries, next_block),
            Some(Fault::WriteBehindAfter) => {
                self.inner.write_behind(store, entries, next_block).and_then(|()| Err(self.poison()))
            }
            Some(_) => Err(self.poison()),
        }
    }

    fn keyed_store(&self, store: &StoreId) -> Result<(Arc<dyn KeyedSnapshot>, u64), TopicError> {
        self.inner.keyed_store(store)
    }

    fn watch(&self, topics: &[TopicName], wake: Arc<dyn Fn() + Send + Sync>) -> WatchGuard {
        self.inner.watch(topics, wake)
    }

    fn trim(&self, at: &TopicPartition, before: Offset) -> Result<(), TopicError> {
        self.check()?;
        match self.hit(&[Fault::Trim]) {
            Some(_) => Err(self.poison()),
            None => self.inner.trim(at, before),
        }
    }

    fn clean(&self, now_ms: i64) -> Result<u64, TopicError> {
        self.check()?;
        self.inner.clean(now_ms)
    }

    fn sync(&self) -> Result<(), TopicError> {
        self.check()
    }

    fn writable(&self) -> Result<(), TopicError> {
        self.check()
    }

    fn reopen(&self) -> Result<(), TopicError> {
        let mut plan = self.plan.lock();
        if plan.failing_opens > 0 {
            plan.failing_opens -= 1;
            return Err(io());
        }
        plan.poisoned = false;
        Ok(())
    }
}
