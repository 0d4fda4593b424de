//! The queries that run for clients now: their limit, and how to end them.
//!
//! Not the engine's list of queries; persistent ones are none of its business. The subtle thing: an entry lives as long as its
//! [`LiveQuery`], so a query that ends for any reason, or never begins, is not left here.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::wire::error::{ErrorBody, MAX_PUSH_QUERIES, TOO_MANY};

/// Ends a query from any thread.
pub(super) type Canceller = Arc<dyn Fn() + Send + Sync>;

/// A query, from the moment it asks for its place.
struct Entry {
    /// it may run for ever: a push query or PRINT
    is_push: bool,
    /// its id and canceller, once it runs
    running: Option<(String, Canceller)>,
}

#[derive(Default)]
struct Entries {
    /// by a number of ours, since PRINT has no id
    all: HashMap<u64, Entry>,
    next: u64,
}

/// All of them.
#[derive(Clone)]
pub(super) struct LiveQueries {
    entries: Arc<Mutex<Entries>>,
    max_push: Option<usize>,
    max_pull: Option<usize>,
}

impl LiveQueries {
    /// None yet; at most `max_push` push queries and PRINTs at once, and `max_pull` others.
    pub(super) fn new(max_push: Option<usize>, max_pull: Option<usize>) -> Self {
        Self { entries: Arc::default(), max_push, max_pull }
    }

    /// Takes the place of a query that is about to begin; the engine need not be asked when there is none.
    ///
    /// # Errors
    /// Too many push queries, or too many pull queries.
    pub(super) fn take_place(&self, is_push: bool) -> Result<LiveQuery, ErrorBody> {
        let mut entries = self.entries.lock();
        let push_queries = entries.all.values().filter(|entry| entry.is_push).count();
        if let Some(limit) = self.max_push.filter(|limit| is_push && push_queries >= *limit) {
            let message = format!(
                "Maximum number of push queries exceeded: {limit} are running; close one, or raise {}",
                crate::config::MAX_PUSH_QUERIES
            );
            return Err(ErrorBody::new(MAX_PUSH_QUERIES, message));
        }
        let pull_queries = entries.all.len() - push_queries;
        if let Some(limit) = self.max_pull.filter(|limit| !is_push && pull_queries >= *limit) {
            let message = format!(
                "Host is at concurrency limit for pull queries: {limit} are running; try again, or raise {}",
                crate::config::PULL_MAX_CONCURRENT
            );
            return Err(ErrorBody::new(TOO_MANY, message));
        }
        let number = entries.next;
        entries.next += 1;
        entries.all.insert(number, Entry { is_push, running: None });
        Ok(LiveQuery { number, entries: self.entries.clone() })
    }

    /// Ends the query of that id; false if there is none.
    pub(super) fn close(&self, id: &str) -> bool {
        let running = |entry: &Entry| entry.running.as_ref().filter(|(i, _)| i == id).map(|(_, cancel)| cancel.clone());
        let cancel = self.entries.lock().all.values().find_map(running);
        cancel.map(|cancel| cancel()).is_some()
    }

    /// Ends all of them.
    pub(super) fn cancel_all(&self) {
        let running = |entry: &Entry| entry.running.as_ref().map(|(_, cancel)| cancel.clone());
        let all: Vec<Canceller> = self.entries.lock().all.values().filter_map(running).collect();
        all.iter().for_each(|cancel| cancel());
    }
}

/// A query's place, while it has one.
pub(super) struct LiveQuery {
    number: u64,
    entries: Arc<Mutex<Entries>>,
}

impl LiveQuery {
    /// The query runs: it can be closed by its id from now on.
    pub(super) fn runs(&self, id: &str, cancel: Canceller) {
        if let Some(entry) = self.entries.lock().all.get_mut(&self.number) {
            entry.running = Some((id.to_owned(), cancel));
        }
    }
}

impl Drop for LiveQuery {
    fn drop(&mut self) {
        self.entries.lock().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_limit_counts_push_queries_that_still_have_their_place() {
        let live = LiveQueries::new(Some(1), Some(1));
        let first = live.take_place(true).unwrap();
        let pull = live.take_place(false).unwrap();
        assert_eq!(live.take_place(false).err().unwrap().code, TOO_MANY);
        drop(pull);
        assert!(live.take_place(false).is_ok());
        assert_eq!(live.take_place(true).err().unwrap().code, MAX_PUSH_QUERIES);
        drop(first);
        assert!(live.take_place(true).is_ok());
    }

    #[test]
    fn queries_are_closed_by_their_id() {
        let live = LiveQueries::new(None, None);
        let closed = Arc::new(AtomicUsize::new(0));
        let counted = closed.clone();
        let query = live.take_place(true).unwrap();
        assert!(!live.close("a"), "it does not run yet");
        query.runs("a", Arc::new(move || _ = counted.fetch_add(1, Ordering::Relaxed)));
        assert!(live.close("a") && !live.close("b"));
        live.cancel_all();
        assert_eq!(closed.load(Ordering::Relaxed), 2);
        drop(query);
        assert!(!live.close("a"));
    }
}
