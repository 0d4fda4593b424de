//! When a query's next transaction should begin.
//!
//! Asks no broker. The subtle thing: a commit is answered when it is certain, and its markers are written afterwards; who begins the next
//! transaction before is told to come again, which librdkafka does 20 ms later (`rdkafka_txnmgr.c`, `CONCURRENT_TRANSACTIONS`). Markers take
//! some ms, so that waiting for them is the shorter way. How many, the time says that the first question of a transaction takes.

use std::time::{Duration, Instant};

/// The wait at first.
const FIRST: Duration = Duration::from_millis(5);
/// The shortest wait.
const LEAST: Duration = Duration::from_millis(3);
/// The longest wait: with more, coming again would be shorter.
const MOST: Duration = Duration::from_millis(18);
/// A question that takes so long was asked twice.
const TWICE: Duration = Duration::from_millis(16);
/// Each transaction that was not too early makes the wait shorter by such a part, so that few are.
const SHORTER_BY: u32 = 64;

/// How long the last transaction's markers are waited for.
#[derive(Debug)]
pub(super) struct Settling {
    wait: Duration,
    committed: Option<Instant>,
}

impl Settling {
    pub fn new() -> Self {
        Self { wait: FIRST, committed: None }
    }

    /// A transaction was committed now.
    pub fn committed(&mut self) {
        self.committed = Some(Instant::now());
    }

    /// When the next one may begin; `None`: at once.
    pub fn until(&self) -> Option<Instant> {
        self.committed.map(|at| at + self.wait)
    }

    /// A transaction's question for its offsets was answered after `took`. One that began long after the last tells nothing.
    pub fn answered(&mut self, took: Duration) {
        let told = self.committed.take().is_some_and(|at| at.elapsed() < took + 2 * MOST);
        if !told {
            return;
        }
        self.wait = match took >= TWICE {
            true => (self.wait * 3 / 2).min(MOST),
            false => (self.wait - self.wait / SHORTER_BY).max(LEAST),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_where_it_was_too_short_and_shrinks_slowly() {
        let mut settling = Settling::new();
        assert_eq!(settling.until(), None);
        let mut answered = |took| {
            settling.committed();
            settling.answered(took);
            settling.wait
        };
        assert!(answered(TWICE) > FIRST);
        let grown = (0..9).map(|_| answered(TWICE)).last();
        assert_eq!(grown, Some(MOST));
        assert!(answered(Duration::ZERO) > MOST * 9 / 10);
        let shrunk = (0..999).map(|_| answered(Duration::ZERO)).last();
        assert_eq!(shrunk, Some(LEAST));
    }

    #[test]
    fn what_is_not_a_transaction_after_another_tells_nothing() {
        let mut settling = Settling::new();
        settling.answered(TWICE);
        assert_eq!(settling.wait, FIRST);
    }
}
