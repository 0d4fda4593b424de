//! Who wants to be woken when records arrive: the list behind [`Log::watch`](super::Log::watch), shared by the logs.
//!
//! Knows topics and wakers, no records. The subtle thing: a waker is called once a commit, however many of its topics
//! got records, and never while the list is locked for writing by another waker's guard.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::types::TopicName;

/// Ends a [`Log::watch`](super::Log::watch) when dropped.
pub struct WatchGuard(Option<Box<dyn FnOnce() + Send + Sync>>);

impl WatchGuard {
    /// A guard that calls `end` when dropped.
    pub fn new(end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(end)))
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

/// What is called after a commit.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// The watchers of a log.
#[derive(Default)]
pub(super) struct Watchers {
    list: RwLock<Vec<Watcher>>,
    next_id: AtomicU64,
}

struct Watcher {
    id: u64,
    topics: Vec<TopicName>,
    wake: Wake,
}

impl Watchers {
    /// Adds a watcher of `topics`; it goes when the guard is dropped.
    pub(super) fn add(self: &Arc<Self>, topics: &[TopicName], wake: Wake) -> WatchGuard {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.list.write().push(Watcher { id, topics: topics.to_vec(), wake });
        let watchers = Arc::downgrade(self);
        WatchGuard::new(move || {
            if let Some(watchers) = watchers.upgrade() {
                watchers.list.write().retain(|w| w.id != id);
            }
        })
    }

    /// Wakes who watches one of `topics`.
    pub(super) fn wake(&self, topics: &[TopicName]) {
        if topics.is_empty() {
            return;
        }
        let list = self.list.read();
        let due: Vec<Wake> =
            list.iter().filter(|w| w.topics.iter().any(|t| topics.contains(t))).map(|w| w.wake.clone()).collect();
        drop(list);
        for wake in due {
            wake();
        }
    }
}
