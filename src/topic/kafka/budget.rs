//! Memory between brokers and tasks: one budget for the queries of a process, divided among those that need it now.
//!
//! Holds no records itself: readers and writers tell how many they are, and ask how much they may hold. Four parts are equal: what clients
//! fetched, what waits for tasks, what tasks made and did not commit, what is on its way to brokers. The subtle thing: only the first part is
//! fixed when a client is made, since librdkafka takes no other limit later; the rest follows at once when others come or go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Parts of the budget.
const PARTS: usize = 4;
/// What a client may fetch ahead: at least, so that a fetch is worth its way, and at most, since more makes nothing faster.
const FETCHED: (usize, usize) = (192 * KIB, 3 * MIB);
/// What may wait for the task of a partition.
const WAITING: (usize, usize) = (64 * KIB, 3 * MIB);
/// Outputs of a task that are not handed over. They are in memory twice while a transaction is open, so tasks commit before they have many.
const OUTPUTS: (usize, usize) = (64 * KIB, 3 * MIB);
/// The same with changed state, of which outputs are made at a commit. Many changes are one output, so that little would make many of few.
const PENDING: (usize, usize) = (256 * KIB, 32 * MIB);
/// What a producer may have on its way.
const ON_THEIR_WAY: (usize, usize) = (256 * KIB, 16 * MIB);

/// What librdkafka takes for a record beside its key and value, about.
pub(super) const RECORD_BYTES: usize = 400;

/// The budget of a process.
pub(super) struct Budget {
    part: usize,
    /// readers that were told of before they came
    expected: AtomicUsize,
    readers: AtomicUsize,
    /// partitions that are not read to their ends
    behind: AtomicUsize,
    /// producers with records on their way
    writing: AtomicUsize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Arc<Self> {
        let none = AtomicUsize::default;
        Arc::new(Self { part: bytes / PARTS, expected: none(), readers: none(), behind: none(), writing: none() })
    }

    /// So many readers will come.
    pub fn expect(&self, readers: usize) {
        self.expected.store(readers, Ordering::Relaxed);
    }

    /// A reader more.
    pub fn reader(self: &Arc<Self>) -> Reader {
        let readers = self.readers.fetch_add(1, Ordering::Relaxed) + 1;
        let fetched = share(self.part, readers.max(self.expected.load(Ordering::Relaxed)), FETCHED);
        Reader { budget: self.clone(), fetched, behind: AtomicUsize::default() }
    }

    /// A producer more.
    pub fn writer(self: &Arc<Self>) -> Writing {
        Writing { budget: self.clone(), under_way: false }
    }

    /// What may wait for the task of a partition.
    pub fn waiting(&self) -> usize {
        share(self.part, self.behind.load(Ordering::Relaxed), WAITING)
    }

    /// Outputs and changed state with which a task commits.
    pub fn pending(&self) -> usize {
        share(self.part, self.behind.load(Ordering::Relaxed), PENDING)
    }

    /// Outputs with which a task commits.
    pub fn outputs(&self) -> usize {
        share(self.part / 2, self.behind.load(Ordering::Relaxed), OUTPUTS)
    }
}

/// One of `holders` parts, within bounds.
fn share(part: usize, holders: usize, (least, most): (usize, usize)) -> usize {
    (part / holders.max(1)).clamp(least, most)
}

/// What a reader counts for; nothing once it is dropped.
pub(super) struct Reader {
    budget: Arc<Budget>,
    fetched: usize,
    behind: AtomicUsize,
}

impl Reader {
    /// What its client may fetch ahead, in bytes as they come from the brokers.
    pub fn fetched(&self) -> usize {
        self.fetched
    }

    /// Notes how many of its partitions are not read to their ends.
    pub fn note_behind(&self, partitions: usize) {
        let before = self.behind.swap(partitions, Ordering::Relaxed);
        self.budget.behind.fetch_add(partitions, Ordering::Relaxed);
        self.budget.behind.fetch_sub(before, Ordering::Relaxed);
    }

    /// See [`Budget::waiting`].
    pub fn waiting(&self) -> usize {
        self.budget.waiting()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.note_behind(0);
        self.budget.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a producer counts for while records of it are on their way.
pub(super) struct Writing {
    budget: Arc<Budget>,
    under_way: bool,
}

impl Writing {
    /// What it may have on its way; it counts from now on.
    pub fn limit(&mut self) -> usize {
        if !std::mem::replace(&mut self.under_way, true) {
            self.budget.writing.fetch_add(1, Ordering::Relaxed);
        }
        share(self.budget.part, self.budget.writing.load(Ordering::Relaxed), ON_THEIR_WAY)
    }

    /// Nothing is on its way.
    pub fn done(&mut self) {
        if std::mem::take(&mut self.under_way) {
            self.budget.writing.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.done();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_what_is_fetched_and_what_waits() {
        let budget = Budget::new(128 * MIB);
        budget.expect(64);
        let readers: Vec<Reader> = (0..128).map(|_| budget.reader()).collect();
        assert_eq!([readers[0].fetched(), readers[63].fetched()], [512 * KIB; 2], "as many as are expected");
        assert_eq!(readers[127].fetched(), 256 * KIB, "and those that come later");
        assert_eq!(budget.waiting(), 3 * MIB, "nobody is behind");
        readers.iter().for_each(|reader| reader.note_behind(2));
        assert_eq!([budget.waiting(), readers[5].waiting(), budget.outputs()], [128 * KIB, 128 * KIB, 64 * KIB]);
        assert_eq!(budget.pending(), 256 * KIB);
        assert!(readers.len() * 2 * budget.waiting() <= 32 * MIB);
        readers.iter().skip(4).for_each(|reader| reader.note_behind(0));
        assert_eq!(budget.waiting(), 3 * MIB, "those at their ends need nothing");
        drop(readers);
        budget.expect(0);
        assert_eq!((budget.behind.load(Ordering::Relaxed), budget.reader().fetched()), (0, 3 * MIB));
    }

    #[test]
    fn producers_share_while_they_have_records_on_their_way() {
        let budget = Budget::new(128 * MIB);
        let mut writers: Vec<Writing> = (0..8).map(|_| budget.writer()).collect();
        assert_eq!(writers[0].limit(), 16 * MIB);
        assert_eq!(writers[0].limit(), 16 * MIB, "it counts once");
        for writer in &mut writers {
            writer.limit();
        }
        assert_eq!(writers[0].limit(), 4 * MIB);
        for writer in &mut writers[1..] {
            writer.done();
            writer.done();
        }
        assert_eq!(writers[0].limit(), 16 * MIB);
        drop(writers);
        assert_eq!(budget.writing.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_share_is_never_less_than_what_work_needs() {
        let budget = Budget::new(1);
        let (reader, mut writer) = (budget.reader(), budget.writer());
        reader.note_behind(1000);
        let shares = [reader.fetched(), budget.waiting(), budget.outputs(), budget.pending(), writer.limit()];
        assert_eq!(shares, [FETCHED.0, WAITING.0, OUTPUTS.0, PENDING.0, ON_THEIR_WAY.0]);
    }
}
