//! The queries that run for clients now: their limit, and how to end them.
//!
//! Not the engine's list of queries; persistent ones are none of its business. The subtle thing: an entry lives as long as its
//! [`LiveQuery`], so a query that ends for any reason is never left here.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::RowsKind;
use crate::wire::error::{ErrorBody, MAX_PUSH_QUERIES};

/// Ends a query from any thread.
pub(super) type Canceller = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Entries {
    /// by a number of ours, since PRINT has no id
    running: HashMap<u64, (String, RowsKind, Canceller)>,
    next: u64,
}

/// All of them.
#[derive(Clone)]
pub(super) struct LiveQueries {
    entries: Arc<Mutex<Entries>>,
    max_push: Option<usize>,
}

impl LiveQueries {
    /// None yet; at most `max_push` push queries and PRINTs at once.
    pub(super) fn new(max_push: Option<usize>) -> Self {
        Self { entries: Arc::default(), max_push }
    }

    /// Notes a query that begins.
    ///
    /// # Errors
    /// Too many push queries.
    pub(super) fn begin(&self, id: &str, kind: RowsKind, cancel: Canceller) -> Result<LiveQuery, ErrorBody> {
        let mut entries = self.entries.lock();
        let is_push = |kind: RowsKind| matches!(kind, RowsKind::Push | RowsKind::Print);
        let running = entries.running.values().filter(|(_, kind, _)| is_push(*kind)).count();
        if let Some(limit) = self.max_push.filter(|limit| is_push(kind) && running >= *limit) {
            let message = format!(
                "Maximum number of push queries exceeded: {limit} are running; close one, or raise {}",
                crate::config::MAX_PUSH_QUERIES
            );
            return Err(ErrorBody::new(MAX_PUSH_QUERIES, message));
        }
        let number = entries.next;
        entries.next += 1;
        entries.running.insert(number, (id.to_owned(), kind, cancel));
        Ok(LiveQuery { number, entries: self.entries.clone() })
    }

    /// Ends the query of that id; false if there is none.
    pub(super) fn close(&self, id: &str) -> bool {
        let cancel = self.entries.lock().running.values().find(|(i, ..)| i == id).map(|(.., c)| c.clone());
        cancel.map(|cancel| cancel()).is_some()
    }

    /// Ends all of them.
    pub(super) fn cancel_all(&self) {
        let all: Vec<Canceller> = self.entries.lock().running.values().map(|(.., c)| c.clone()).collect();
        all.iter().for_each(|cancel| cancel());
    }
}

/// A query while it runs.
pub(super) struct LiveQuery {
    number: u64,
    entries: Arc<Mutex<Entries>>,
}

impl Drop for LiveQuery {
    fn drop(&mut self) {
        self.entries.lock().running.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_limit_counts_push_queries_that_still_run() {
        let live = LiveQueries::new(Some(1));
        let cancel: Canceller = Arc::new(|| {});
        let first = live.begin("a", RowsKind::Push, cancel.clone()).unwrap();
        assert!(live.begin("b", RowsKind::PullTable, cancel.clone()).is_ok());
        assert_eq!(live.begin("c", RowsKind::Print, cancel.clone()).err().unwrap().code, MAX_PUSH_QUERIES);
        drop(first);
        assert!(live.begin("d", RowsKind::Push, cancel).is_ok());
    }

    #[test]
    fn queries_are_closed_by_their_id() {
        let live = LiveQueries::new(None);
        let closed = Arc::new(AtomicUsize::new(0));
        let counted = closed.clone();
        let cancel: Canceller = Arc::new(move || _ = counted.fetch_add(1, Ordering::Relaxed));
        let query = live.begin("a", RowsKind::Push, cancel).unwrap();
        assert!(live.close("a") && !live.close("b"));
        live.cancel_all();
        assert_eq!(closed.load(Ordering::Relaxed), 2);
        drop(query);
        assert!(!live.close("a"));
    }
}
