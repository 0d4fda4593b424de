//! Clean groups leave memory when it is wanted for others.
//!
//! A clock's hand goes round the slots; what was used since it came by stays once more. The subtle thing: freed slots give their own
//! memory back only when the living are moved together, which renumbers slots.

use crate::function::aggregate::Slot;
use crate::operator::groups::{LIVE, PINNED, USED};
use crate::topic::TopicError;

use super::{GroupStore, place};

/// States are moved so many at a time, so that there are never three of all.
const PART: usize = 1 << 16;

impl GroupStore {
    /// Removes clean groups that were not used since the hand came by, until `count` are gone or it went round twice.
    pub(super) fn sweep_memory(&mut self, count: usize) {
        let mut left = count;
        for _ in 0..2 * self.groups.slots() {
            if left == 0 {
                return;
            }
            self.hand = (self.hand + 1) % self.groups.slots();
            let slot = self.hand as Slot;
            let head = self.groups.head_mut(slot);
            if !head.is(LIVE) || head.is(PINNED) {
                continue;
            }
            if head.is(USED) {
                head.flags &= !USED;
                continue;
            }
            if self.windows.are_sessions() {
                left = left.saturating_sub(self.forget_key(slot));
                continue;
            }
            let (window, start) = (head.window, head.window.start);
            if let Some(outside) = &mut self.outside {
                outside.insert(place(self.groups.hash(self.groups.key(slot)), window));
            }
            self.outside_start = if self.complete { start } else { self.outside_start.max(start) };
            self.complete = false;
            self.forget(slot);
            left -= 1;
        }
    }

    /// Takes all sessions of a key out of memory, or none if one must stay; returns how many.
    pub(super) fn forget_key(&mut self, slot: Slot) -> usize {
        let key = self.groups.key(slot);
        let hash = self.groups.hash(key);
        let slots: Vec<Slot> = self.groups.sessions(hash, key).collect();
        if slots.iter().any(|&slot| self.groups.head(slot).is(PINNED | USED)) {
            return 0;
        }
        self.complete = false;
        slots.iter().for_each(|&slot| self.forget(slot));
        slots.len()
    }

    /// Moves the living together, so that memory of the others is given back.
    pub(super) fn compact(&mut self) -> Result<(), TopicError> {
        let all = self.groups.slots();
        let kept = self.groups.compact();
        let fresh = self.layout.accumulators().map_err(|e| TopicError::Invalid(e.to_string()))?;
        let old = std::mem::replace(&mut self.accumulators, fresh);
        for (from, to) in old.into_iter().zip(&mut self.accumulators) {
            to.resize(kept.len());
            for (n, part) in kept.chunks(PART).enumerate() {
                let new: Vec<Slot> = (0..part.len()).map(|i| (n * PART + i) as Slot).collect();
                to.load(&new, &from.states(part));
            }
        }
        let mut moved: Vec<Option<Slot>> = vec![None; all];
        kept.iter().enumerate().for_each(|(new, &old)| moved[old as usize] = Some(new as Slot));
        for list in [&mut self.dirty, &mut self.unwritten, &mut self.in_flight] {
            *list = list.iter().filter_map(|&slot| moved[slot as usize]).collect();
        }
        self.hand = 0;
        Ok(())
    }
}
