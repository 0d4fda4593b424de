//! Sessions: all of a key are in memory or none, and they change their names as they grow.
//!
//! Knows no gaps and no merging; that is `session_aggregate`. The subtle thing: what is stored under the old name of a session must not
//! come back by a scan of the store behind, so deleted keys are remembered until that store has deleted them.

use crate::function::aggregate::Slot;
use crate::operator::groups::{IN_FLIGHT, KNOWN, Span, USED, WHOLE_KEY};
use crate::topic::TopicError;

use super::GroupStore;

impl GroupStore {
    /// Sessions: the slots of all sessions of a key, in order of time; reads them from the store behind if they are not in memory.
    ///
    /// # Errors
    /// If the store behind cannot be read.
    pub fn sessions(&mut self, hash: u64, key: &[u8], out: &mut Vec<Slot>) -> Result<(), TopicError> {
        out.clear();
        out.extend(self.groups.sessions(hash, key));
        let whole = self.complete || out.iter().any(|&slot| self.groups.head(slot).is(WHOLE_KEY));
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
            out.clear();
            out.extend(self.groups.sessions(hash, key));
        }
        out.iter().for_each(|&slot| self.groups.head_mut(slot).flags |= WHOLE_KEY | USED);
        out.sort_unstable_by_key(|&slot| self.groups.head(slot).window.start);
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
            self.delete_key(key.into());
            self.unhold(slot);
        }
        let head = self.groups.head_mut(slot);
        head.window = window;
        // of its new name nothing is stored yet
        head.flags &= !(KNOWN | IN_FLIGHT);
        self.touch(slot);
    }

    /// Sessions: a new session of a key whose sessions are all in memory.
    pub fn insert_session(&mut self, hash: u64, key: &[u8], window: Span) -> Slot {
        let slot = self.groups.insert(hash, key, window);
        self.in_block.resize(self.groups.slots().max(self.in_block.len()), (0, 0));
        self.groups.head_mut(slot).flags |= WHOLE_KEY;
        slot
    }
}
