//! How far the stores are that a query has on this node: restored by its tasks, or followed as copies.
//!
//! Only counts. The subtle thing: the end of a changelog is asked once, when a restore begins; what is committed after that (by nobody, since
//! the task is here) does not count. A store that is restored stays in the list, so that it can be told which copies this node has.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// How far a store's copy on this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreProgress {
    /// the store
    pub store: String,
    /// the task's partition
    pub partition: i32,
    /// the first changelog number that was not there when the restore began
    pub from: u64,
    /// the first one that is not there now; `None`: the copy is whole and follows its task
    pub upto: Option<u64>,
    /// the changelog's end when the restore began; 0 if the log does not tell
    pub end: u64,
    /// when it began, in ms
    pub begun_ms: i64,
    /// when it last went on, in ms
    pub at_ms: i64,
    /// it is a copy of what another node's task has, and is followed, not restored
    pub standby: bool,
}

impl StoreProgress {
    /// What is to be read from `from` to `end`, begun and last gone on with at these times.
    pub(super) fn new(store: String, partition: i32, (from, end): (u64, u64), (begun_ms, at_ms): (i64, i64)) -> Self {
        Self { store, partition, from, upto: Some(from), end, begun_ms, at_ms, standby: false }
    }

    /// The same of a copy.
    pub(super) fn of_standby(self) -> Self {
        Self { standby: true, ..self }
    }
}

/// How far all stores are that a query's tasks have, or are restoring, on this node.
#[derive(Default)]
pub(super) struct Restores(Mutex<BTreeMap<(usize, i32, String), StoreProgress>>);

impl Restores {
    /// A task of this sub-topology begins to restore a store.
    pub fn begin(&self, sub: usize, progress: StoreProgress) {
        self.0.lock().insert((sub, progress.partition, progress.store.clone()), progress);
    }

    /// It went on to `upto`; `None`: it is through.
    pub fn advance(&self, sub: usize, partition: i32, store: &str, upto: Option<u64>, now_ms: i64) {
        if let Some(progress) = self.0.lock().get_mut(&(sub, partition, store.to_owned())) {
            progress.upto = upto;
            progress.at_ms = now_ms;
        }
    }

    /// The task is gone.
    pub fn gone(&self, sub: usize, partition: i32) {
        self.0.lock().retain(|(s, p, _), _| (*s, *p) != (sub, partition));
    }

    /// All of them, by store and partition.
    pub fn all(&self) -> Vec<StoreProgress> {
        let mut all: Vec<_> = self.0.lock().values().cloned().collect();
        all.sort_by(|a, b| (&a.store, a.partition).cmp(&(&b.store, b.partition)));
        all
    }
}

/// What is still to be restored, in words: how much of it is done, what remains, and the rate; `None` if nothing is.
pub fn restoring(stores: &[StoreProgress]) -> Option<String> {
    let open: Vec<_> = stores.iter().filter(|s| !s.standby).filter_map(|s| Some((s, s.upto?))).collect();
    if open.is_empty() {
        return None;
    }
    let (mut done, mut all, mut rate) = (0, 0, 0.0);
    for (store, upto) in &open {
        let here = upto.saturating_sub(store.from);
        done += here;
        all += store.end.saturating_sub(store.from).max(here);
        let seconds = (store.at_ms - store.begun_ms).max(1) as f64 / 1000.0;
        rate += here as f64 / seconds;
    }
    let percent = (done * 100).checked_div(all).unwrap_or(0);
    Some(format!("{percent} % of {} stores, {} changelog records to go at {rate:.0}/s", open.len(), all - done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_told_until_all_is_there() {
        let restores = Restores::default();
        let store = |partition| StoreProgress::new("S".into(), partition, (100, 1100), (0, 0));
        [0, 1].into_iter().for_each(|p| restores.begin(0, store(p)));
        restores.begin(0, store(2).of_standby());
        restores.advance(0, 0, "S", Some(600), 1000);
        let told = restoring(&restores.all()).unwrap();
        assert_eq!(told, "25 % of 2 stores, 1500 changelog records to go at 500/s");
        restores.advance(0, 0, "S", None, 2000);
        restores.gone(0, 1);
        assert_eq!((restoring(&restores.all()), restores.all().len()), (None, 2));
    }
}
