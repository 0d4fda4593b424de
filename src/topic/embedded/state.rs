//! Positions, changelogs and keyed stores of owners.
//!
//! Knows bytes, no operators. The subtle thing: a keyed store and the number of the first changelog block it does not hold are
//! read from one snapshot, so that they always belong together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::EmbeddedLog;
use super::commit::check_names;
use super::index::Store;
use super::keys::{self, Id};
use crate::storage::{Batch, LiveView, Snapshot, Space, Storage, WeakSnapshot};
use crate::topic::{KeyedSnapshot, KeyedWrites, Owner, Position, StoreId, TopicError, TopicPartition};

/// See [`crate::topic::Log::positions`].
pub(super) fn positions(storage: &Storage, owner: &Owner) -> Result<BTreeMap<TopicPartition, Position>, TopicError> {
    let snapshot = storage.snapshot()?;
    let prefix = keys::of_owner(keys::POSITIONS, owner);
    let entries = snapshot.scan(Space::Meta, &prefix, keys::after_prefix(&prefix).as_deref());
    entries
        .map(|entry| {
            let (key, value) = entry.read()?;
            Ok((keys::read_position(&key)?.1, keys::read_position_value(&value)?))
        })
        .collect()
}

/// See [`crate::topic::Log::owners`].
pub(super) fn owners(storage: &Storage) -> Result<Vec<Owner>, TopicError> {
    let snapshot = storage.snapshot()?;
    let mut owners = BTreeSet::new();
    for entry in snapshot.scan(Space::Meta, &[keys::POSITIONS], Some(&[keys::POSITIONS + 1])) {
        owners.insert(keys::read_position(&entry.key()?)?.0);
    }
    for entry in snapshot.scan(Space::Meta, &[keys::STORES], Some(&[keys::STORES + 1])) {
        owners.insert(keys::read_store(&entry.key()?)?.owner);
    }
    Ok(owners.into_iter().collect())
}

/// See [`crate::topic::Log::forget`].
pub(super) fn forget(log: &EmbeddedLog, owner: &Owner) -> Result<(), TopicError> {
    let mut writer = log.writer.lock();
    let snapshot = log.storage.snapshot()?;
    let mut batch = Batch::default();
    for kind in [keys::POSITIONS, keys::STORES] {
        let prefix = keys::of_owner(kind, owner);
        for entry in snapshot.scan(Space::Meta, &prefix, keys::after_prefix(&prefix).as_deref()) {
            batch.remove(Space::Meta, entry.key()?);
        }
    }
    for store in writer.stores.iter().filter(|(id, _)| id.owner == *owner).map(|(_, store)| store) {
        batch.put(Space::Meta, keys::garbage(false, store.id), Bytes::new());
    }
    log.storage.write(batch)?;
    writer.stores.retain(|id, _| id.owner != *owner);
    drop((writer, snapshot));
    log.remove_garbage_soon();
    Ok(())
}

/// See [`crate::topic::Log::blocks`].
pub(super) fn blocks(
    log: &EmbeddedLog,
    store: &StoreId,
    from: u64,
    max_bytes: usize,
) -> Result<Vec<(u64, Bytes)>, TopicError> {
    let Some(Store { id, .. }) = log.writer.lock().stores.get(store).copied() else { return Ok(Vec::new()) };
    let snapshot = log.storage.snapshot()?;
    let prefix = keys::number_prefix(id);
    let mut bytes = 0;
    let mut found = Vec::new();
    for entry in snapshot.scan(Space::Changelog, &keys::changelog(id, from), keys::after_prefix(&prefix).as_deref()) {
        let key = entry.key()?;
        // asked before it is read, since a block may be larger than all that is wanted
        bytes += snapshot.size_of(Space::Changelog, &key)?.unwrap_or(0) as usize;
        if bytes > max_bytes && !found.is_empty() {
            break;
        }
        if let Some(block) = snapshot.get(Space::Changelog, &key)? {
            found.push((keys::changelog_number(&key)?, block));
        }
    }
    Ok(found)
}

/// See [`crate::topic::Log::write_behind`].
pub(super) fn write_behind(
    log: &EmbeddedLog,
    id: &StoreId,
    entries: KeyedWrites,
    next_block: u64,
) -> Result<(), TopicError> {
    check_names(id)?;
    // commits must not wait for that
    log.storage.pace(Space::Keyed)?;
    let mut writer = log.writer.lock();
    let new_id = writer.next_id;
    let known = writer.stores.get(id).copied();
    let mut store = known.unwrap_or(Store { id: new_id, held: 0, next: 0 });
    let mut batch = Batch::default();
    if known.is_none() {
        batch.put(Space::Meta, keys::NEXT_ID, (new_id + 1).to_be_bytes().to_vec());
    }
    put_entries(&mut batch, store.id, &entries);
    for number in store.held..next_block.min(store.next) {
        batch.remove(Space::Changelog, keys::changelog(store.id, number).to_vec());
    }
    store.held = store.held.max(next_block);
    store.next = store.next.max(store.held);
    batch.put(Space::Meta, keys::store(id), keys::store_value(store.id, store.held));
    log.storage.write(batch)?;
    writer.stores.insert(id.clone(), store);
    if known.is_none() {
        writer.next_id = new_id + 1;
    }
    Ok(())
}

/// Adds entries of a keyed store. All lie in one buffer: a memtable that holds an allocation for each key, and keeps what else the caller's
/// values lie in, takes nearly twice what it counts.
fn put_entries(batch: &mut Batch, store: Id, entries: &[(Bytes, Option<Bytes>)]) {
    let prefix = keys::number_prefix(store);
    let value_bytes = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    let bytes = entries.iter().map(|(key, value)| prefix.len() + key.len() + value_bytes(value)).sum();
    let mut buffer = BytesMut::with_capacity(bytes);
    for (key, value) in entries {
        buffer.extend_from_slice(&prefix);
        buffer.extend_from_slice(key);
        let key = buffer.split().freeze();
        match value {
            Some(value) => {
                buffer.extend_from_slice(value);
                batch.put(Space::Keyed, key, buffer.split().freeze());
            }
            None => batch.remove(Space::Keyed, key),
        }
    }
}

/// See [`crate::topic::Log::keyed_store`].
pub(super) fn keyed_store(storage: &Storage, id: &StoreId) -> Result<(Arc<dyn KeyedSnapshot>, u64), TopicError> {
    let snapshot = storage.snapshot()?;
    let known = snapshot.get(Space::Meta, &keys::store(id))?;
    let known = known.map(|value| keys::read_store_value(&value)).transpose()?;
    let held = known.map_or(0, |(_, held)| held);
    Ok((Arc::new(Keyed { store: known.map(|(id, _)| id), view: snapshot.downgrade() }), held))
}

/// A keyed store.
struct Keyed<V> {
    /// `None` for one that was never written
    store: Option<Id>,
    view: V,
}

impl<V> Keyed<V> {
    fn scan(
        &self,
        snapshot: &Snapshot,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), TopicError> {
        let Some(store) = self.store else { return Ok(()) };
        let prefix = keys::number_prefix(store);
        let end = match to {
            Some(to) => Some(keys::keyed(store, to).to_vec()),
            None => keys::after_prefix(&prefix),
        };
        for entry in snapshot.scan(Space::Keyed, &keys::keyed(store, from), end.as_deref()) {
            let (key, value) = entry.read()?;
            if !visit(&key[prefix.len()..], &value) {
                break;
            }
        }
        Ok(())
    }
}

/// At one moment.
impl KeyedSnapshot for Keyed<WeakSnapshot> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TopicError> {
        let Some(store) = self.store else { return Ok(None) };
        Ok(self.view.upgrade()?.get(Space::Keyed, &keys::keyed(store, key))?)
    }

    fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), TopicError> {
        self.scan(&self.view.upgrade()?, from, to, visit)
    }

    fn live(&self) -> Option<Arc<dyn KeyedSnapshot>> {
        Some(Arc::new(Keyed { store: self.store, view: self.view.live() }))
    }
}

/// At each look.
impl KeyedSnapshot for Keyed<LiveView> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TopicError> {
        let Some(store) = self.store else { return Ok(None) };
        Ok(self.view.get(Space::Keyed, &keys::keyed(store, key))?)
    }

    fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), TopicError> {
        self.scan(&self.view.snapshot()?, from, to, visit)
    }

    fn frozen(&self) -> Result<Option<Arc<dyn KeyedSnapshot>>, TopicError> {
        Ok(Some(Arc::new(Keyed { store: self.store, view: self.view.snapshot()?.downgrade() })))
    }
}
