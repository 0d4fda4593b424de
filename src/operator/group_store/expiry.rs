//! Windows that are over: out of memory at once, out of the store behind in rounds.
//!
//! Which windows are over is the operator's word; sessions leave in portions. The subtle thing: windows that are not in memory are found by scanning the store behind,
//! a part a step, and a round begins only when a quarter of the retention has passed since the last one.

use crate::operator::groups::{OWING, Span};
use crate::state::encoding::{RESERVED_PREFIX, split_window};
use crate::topic::TopicError;

use super::GroupStore;

/// Rows of the store behind that one sweep for expired windows looks at.
const SWEEP_ROWS: usize = 2048;

/// Where the search for expired windows in the store behind stands.
#[derive(Default)]
pub(super) struct Sweep {
    /// the next key to look at, while a round runs
    pub(super) next: Option<Vec<u8>>,
    /// windows that start before this are looked for
    before: i64,
    /// the bound of the last round
    done: Option<i64>,
}

impl GroupStore {
    /// Removes windows that start before `before`, as soon as they owe no output; `flushed`: nothing is held back. Looks on in the store
    /// behind for more of them.
    ///
    /// # Errors
    /// If the store behind cannot be read.
    pub fn expire_windows(&mut self, before: i64, flushed: bool) -> Result<(), TopicError> {
        while let Some(slots) = self.groups.take_window(before, flushed) {
            slots.into_iter().for_each(|slot| self.retire(slot));
        }
        self.sweep_behind(before)
    }

    /// Removes sessions that stand before `mark` in the order, but for those that still owe an output; looks on in the store behind for
    /// sessions that end before `before`.
    ///
    /// # Errors
    /// If the store behind cannot be read.
    pub fn expire_sessions(&mut self, mark: i64, before: i64) -> Result<(), TopicError> {
        for slot in self.groups.take_before(mark) {
            if self.groups.head(slot).is(OWING) {
                self.groups.put_in_order(slot, self.groups.mark(slot));
            } else {
                self.retire(slot);
            }
        }
        self.sweep_behind(before)
    }

    /// One part of a round through the store behind. A round starts when windows have expired since the last one began.
    fn sweep_behind(&mut self, before: i64) -> Result<(), TopicError> {
        let Some(behind) = self.behind.clone().filter(|_| !self.complete) else { return Ok(()) };
        if self.sweep.next.is_none() {
            let Some(window) = &self.layout.spec.window else { return Ok(()) };
            // a round for each quarter of the retention, so that sweeping costs a fixed share
            if self.sweep.done.is_some_and(|done| before < done.saturating_add(window.retention_ms / 4)) {
                return Ok(());
            }
            (self.sweep.next, self.sweep.before) = (Some(Vec::new()), before);
        }
        let (from, bound) = (self.sweep.next.take().unwrap_or_default(), self.sweep.before);
        let sessions = self.windows.are_sessions();
        let (mut seen, mut next, mut expired) = (0, None, Vec::new());
        behind.range(&from, Some(&[RESERVED_PREFIX]), &mut |key, _| {
            if seen == SWEEP_ROWS {
                next = Some(key.to_vec());
                return false;
            }
            seen += 1;
            if split_window(key).is_ok_and(|(_, start, end)| if sessions { end < bound } else { start < bound }) {
                expired.push(key.to_vec());
            }
            true
        })?;
        for key in expired {
            let (group, start, end) = split_window(&key)?;
            let hash = self.groups.hash(group);
            if self.groups.find(hash, group, Span { start, end }).is_none() && !self.is_gone(&key) {
                match self.layout.tells_expiry() {
                    true => self.delete_key(&key, true),
                    false => self.retire_key(key.into()),
                }
            }
        }
        if next.is_none() {
            self.sweep.done = Some(bound);
        }
        self.sweep.next = next;
        Ok(())
    }
}
