//! After a failed write of the log: everything that reads it is dropped, the log is opened again, all queries go on from their last commit.
//!
//! Decides no retries of single tasks (`query` does). The subtle thing: a log opens again only when nobody reads the old one, so all tasks
//! of all queries go first, also those that did not notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::topic::Log;

use super::query::TaskCell;

/// Time between tries to open the log again.
pub(super) const RETRY_MS: i64 = 200;

/// Whether the log must be opened again, and who must let go of it before.
pub(super) struct Recovery {
    log: Arc<dyn Log>,
    poisoned: AtomicBool,
    opening: Mutex<()>,
    cells: Mutex<Vec<Weak<TaskCell>>>,
}

impl Recovery {
    pub fn new(log: Arc<dyn Log>) -> Arc<Self> {
        Arc::new(Self { log, poisoned: AtomicBool::new(false), opening: Mutex::default(), cells: Mutex::default() })
    }

    /// Notes tasks that read the log.
    pub fn watch(&self, cells: &[Arc<TaskCell>]) {
        let mut known = self.cells.lock();
        known.retain(|cell| cell.strong_count() > 0);
        known.extend(cells.iter().map(Arc::downgrade));
    }

    /// Notes that the log refuses writes until it is opened again.
    pub fn poison(&self) {
        self.poisoned.store(true, Ordering::SeqCst);
    }

    /// For writers that are no task: opens the log again if it refuses writes. If it does not open yet, the tasks go on trying. True if
    /// it can be used. To be called without a task's lock.
    pub fn revive(&self) -> bool {
        if self.log.writable().is_ok() {
            return true;
        }
        self.poison();
        let open = self.is_open();
        if !open {
            let cells: Vec<_> = self.cells.lock().iter().filter_map(Weak::upgrade).collect();
            cells.iter().for_each(|cell| cell.wake());
        }
        open
    }

    /// True if the log can be used; opens it again if need be. To be called without a task's lock.
    pub fn is_open(&self) -> bool {
        if !self.poisoned.load(Ordering::SeqCst) {
            return true;
        }
        // another worker may be at it
        let Some(_opening) = self.opening.try_lock() else { return false };
        if !self.poisoned.load(Ordering::SeqCst) {
            return true;
        }
        let cells: Vec<_> = self.cells.lock().iter().filter_map(Weak::upgrade).collect();
        cells.iter().for_each(|cell| cell.let_go());
        match self.log.reopen() {
            Ok(()) => {
                self.poisoned.store(false, Ordering::SeqCst);
                tracing::info!("the log is open again");
                // those that were idle have their state to restore, for who reads it
                cells.iter().for_each(|cell| cell.wake());
                true
            }
            Err(error) => {
                tracing::warn!("the log cannot be opened again yet: {error}");
                false
            }
        }
    }
}
