//! Sessions: all of a key are in memory or none, and they change their names as they grow.
//!
//! Knows no gaps and no merging; that is `session_aggregate`. The subtle thing: what is stored under the old name of a session must not
//! come back by a scan of the store behind, so deleted keys are remembered until that store has deleted them.

use crate::function::aggregate::Slot;
use crate::operator::groups::{BEHIND, IN_FLIGHT, KNOWN, Span, UNWRITTEN, USED, WHOLE_KEY};
use crate::topic::TopicError;

use super::GroupStore;

impl GroupStore {
    /// Sessions: the slots of the sessions of a key that end at or after `from` and start at or before `to`, in order of time; reads all of
    /// the key from the store behind if they are not in memory.
    ///
    /// # Errors
    /// If the store behind cannot be read.
    pub fn sessions(
        &mut self,
        hash: u64,
        key: &[u8],
        (from, to): (i64, i64),
        out: &mut Vec<Slot>,
    ) -> Result<(), TopicError> {
        if !self.complete {
            self.fetch_sessions(hash, key)?;
        }
        out.clear();
        // sessions of a key lie apart, so they are in order of their ends, too
        let until = self.groups.sessions(hash, key).take_while(|&slot| self.groups.head(slot).window.end >= from);
        out.extend(until.filter(|&slot| self.groups.head(slot).window.start <= to));
        out.reverse();
        Ok(())
    }

    fn fetch_sessions(&mut self, hash: u64, key: &[u8]) -> Result<(), TopicError> {
        let newest = self.groups.sessions(hash, key).next();
        let whole = newest.is_some_and(|slot| self.groups.head(slot).is(WHOLE_KEY));
        if let Some(behind) = self.behind.clone().filter(|_| !whole) {
            // no key is a prefix of another, so these are all keys that begin with `key`
            let (mut to, mut stored) = (key.to_vec(), Vec::new());
            to.extend([0xff; 17]);
            behind.range(key, Some(&to), &mut |key, row| {
                stored.push((key.to_vec(), row.to_vec()));
                true
            })?;
            stored.iter().try_for_each(|(key, row)| self.adopt(key, row))?;
            self.load()?;
        }
        let slots: Vec<Slot> = self.groups.sessions(hash, key).collect();
        slots.into_iter().for_each(|slot| self.groups.head_mut(slot).flags |= WHOLE_KEY | USED);
        Ok(())
    }

    /// Sessions: gives the group of a slot another window, under which it is stored from now on.
    pub fn rename(&mut self, slot: Slot, window: Span) {
        if self.groups.head(slot).window == window {
            return;
        }
        if self.groups.head(slot).is(KNOWN) {
            let mut key = Vec::new();
            self.groups.store_key(slot, &mut key);
            self.delete_key(&key, self.groups.head(slot).is(BEHIND));
        }
        let head = self.groups.head_mut(slot);
        head.window = window;
        // of its new name nothing is stored yet
        head.flags &= !(KNOWN | BEHIND | UNWRITTEN | IN_FLIGHT);
        self.touch(slot);
    }

    /// Sessions: a new session of a key whose sessions are all in memory.
    pub fn insert_session(&mut self, hash: u64, key: &[u8], window: Span) -> Slot {
        let slot = self.groups.insert(hash, key, window);
        self.groups.head_mut(slot).flags |= WHOLE_KEY;
        slot
    }
}
