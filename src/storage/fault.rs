//! Faults on demand, for tests: a hook that is asked before each write and may make it fail.
//!
//! No product path sets it. The subtle thing is [`Fault::After`]: the write happens and is reported as failed, as when the
//! machine dies between the disk's yes and ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// an atomic batch
    Batch,
    /// a sync of the journal
    Sync,
}

/// How it shall fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// nothing is written
    Before,
    /// it is written, and reported as failed
    After,
}

/// Asked before each write; `None` lets it happen.
pub type FaultHook = Arc<dyn Fn(Write) -> Option<Fault> + Send + Sync>;

/// A hook that makes the `n`-th batch (from 1) fail, once.
pub fn fail_nth_batch(n: u64, fault: Fault) -> FaultHook {
    let count = AtomicU64::new(0);
    Arc::new(move |write| {
        let hit = write == Write::Batch && count.fetch_add(1, Ordering::SeqCst) + 1 == n;
        hit.then_some(fault)
    })
}
