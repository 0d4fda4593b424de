//! How the embedded log names things in the storage: keys of each space, and the small values of the meta space.
//!
//! Knows bytes, does no I/O. The subtle thing: names are length-prefixed, so that no name's entries lie among another's, and
//! topics and stores have numbers that are never given twice, so that leftovers of a deleted one are never met again.

use std::sync::Arc;

use bytes::Bytes;

use crate::topic::{Cleanup, Offset, Owner, Position, StoreId, TopicError, TopicPartition, TopicSpec};
use crate::types::TopicName;

/// The number of a topic or store.
pub(super) type Id = u64;

/// Meta: the next number to give.
pub(super) const NEXT_ID: &[u8] = b"n";
/// Meta: prefix of topics, by name.
pub(super) const TOPICS: u8 = b't';
/// Meta: prefix of ends of partitions whose newest records are gone.
pub(super) const ENDS: u8 = b'e';
/// Meta: prefix of what cleaning remembers of a partition.
pub(super) const UPKEEP: u8 = b'u';
/// Meta: prefix of positions, by owner.
pub(super) const POSITIONS: u8 = b'p';
/// Meta: prefix of stores, by owner.
pub(super) const STORES: u8 = b's';
/// Meta: prefix of what is deleted but not yet removed.
pub(super) const GARBAGE: u8 = b'g';

/// Version of the meta values; the first byte of a topic's.
const TOPIC_VALUE: u8 = 1;

/// The key of the block at `base`.
pub(super) fn block(topic: Id, partition: i32, base: Offset) -> [u8; 20] {
    let mut key = [0; 20];
    key[..8].copy_from_slice(&topic.to_be_bytes());
    key[8..12].copy_from_slice(&partition.to_be_bytes());
    key[12..].copy_from_slice(&base.to_be_bytes());
    key
}

/// The base offset in a block's key.
pub(super) fn block_base(key: &[u8]) -> Result<Offset, TopicError> {
    let base = key.last_chunk::<8>().filter(|_| key.len() == 20).ok_or_else(|| damaged("key of a block"))?;
    Ok(Offset::from_be_bytes(*base))
}

/// The key of a numbered changelog block, or with [`number_prefix`] its store's prefix.
pub(super) fn changelog(store: Id, number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&store.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The number in a changelog block's key.
pub(super) fn changelog_number(key: &[u8]) -> Result<u64, TopicError> {
    let number = key.last_chunk::<8>().filter(|_| key.len() == 16).ok_or_else(|| damaged("key of a changelog"))?;
    Ok(u64::from_be_bytes(*number))
}

/// The key of an entry of a keyed store.
pub(super) fn keyed(store: Id, key: &[u8]) -> Bytes {
    [&store.to_be_bytes()[..], key].concat().into()
}

/// What all keys of a topic's or store's number start with.
pub(super) fn number_prefix(id: Id) -> [u8; 8] {
    id.to_be_bytes()
}

/// The first key after all that start with `prefix`; `None` if there is none.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|b| *b != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// The meta key of a topic.
pub(super) fn topic(name: &TopicName) -> Vec<u8> {
    [&[TOPICS], name.as_str().as_bytes()].concat()
}

/// The meta key of a partition's entry of kind `kind`.
pub(super) fn of_partition(kind: u8, topic: Id, partition: i32) -> Vec<u8> {
    [&[kind][..], &topic.to_be_bytes(), &partition.to_be_bytes()].concat()
}

/// The meta key of an entry of kind `kind` of all partitions of a topic, as a prefix.
pub(super) fn of_topic(kind: u8, topic: Id) -> Vec<u8> {
    [&[kind][..], &topic.to_be_bytes()].concat()
}

/// The meta key of something deleted: the space its entries are in, and its number.
pub(super) fn garbage(of_topics: bool, id: Id) -> Vec<u8> {
    [&[GARBAGE, u8::from(of_topics)][..], &id.to_be_bytes()].concat()
}

/// Reads [`garbage`].
pub(super) fn read_garbage(key: &[u8]) -> Result<(bool, Id), TopicError> {
    let mut r = Reader(key);
    let [_, of_topics] = r.array("garbage")?;
    Ok((of_topics == 1, Id::from_be_bytes(r.array("garbage")?)))
}

/// What positions or stores of `owner` start with.
pub(super) fn of_owner(kind: u8, owner: &Owner) -> Vec<u8> {
    let mut key = vec![kind];
    put_name(&mut key, &owner.0);
    key
}

/// The meta key of a position.
pub(super) fn position(owner: &Owner, at: &TopicPartition) -> Vec<u8> {
    let mut key = of_owner(POSITIONS, owner);
    put_name(&mut key, at.topic.as_str());
    key.extend_from_slice(&at.partition.to_be_bytes());
    key
}

/// Reads [`position`].
pub(super) fn read_position(key: &[u8]) -> Result<(Owner, TopicPartition), TopicError> {
    let (owner, topic, partition) = read_named(key, "position")?;
    Ok((Owner(owner), TopicPartition::new(&*topic, partition)))
}

/// The meta key of a store.
pub(super) fn store(id: &StoreId) -> Vec<u8> {
    let mut key = of_owner(STORES, &id.owner);
    put_name(&mut key, &id.name);
    key.extend_from_slice(&id.partition.to_be_bytes());
    key
}

/// Reads [`store`].
pub(super) fn read_store(key: &[u8]) -> Result<StoreId, TopicError> {
    let (owner, name, partition) = read_named(key, "store")?;
    Ok(StoreId { owner: Owner(owner), name, partition })
}

/// A position's value.
pub(super) fn position_value(position: Position) -> Vec<u8> {
    [&position.offset.to_be_bytes()[..], &position.consumed.to_be_bytes()].concat()
}

/// Reads [`position_value`].
pub(super) fn read_position_value(value: &[u8]) -> Result<Position, TopicError> {
    let mut r = Reader(value);
    let offset = Offset::from_be_bytes(r.array("position")?);
    Ok(Position { offset, consumed: u32::from_be_bytes(r.array("position")?) })
}

/// A value of two numbers: a store's number and the first changelog block it does not hold.
pub(super) fn store_value(id: Id, held: u64) -> Vec<u8> {
    [id.to_be_bytes(), held.to_be_bytes()].concat()
}

/// Reads [`store_value`].
pub(super) fn read_store_value(value: &[u8]) -> Result<(Id, u64), TopicError> {
    let mut r = Reader(value);
    Ok((u64::from_be_bytes(r.array("store")?), u64::from_be_bytes(r.array("store")?)))
}

/// Reads a single number.
pub(super) fn read_number(value: &[u8], what: &str) -> Result<i64, TopicError> {
    Ok(i64::from_be_bytes(Reader(value).array(what)?))
}

/// What cleaning remembers of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Upkeep {
    /// records before it were compacted among themselves
    pub compacted_to: Offset,
    /// so many records were left of them
    pub compacted_records: u64,
    /// small blocks before it were merged
    pub merged_to: Offset,
}

impl Upkeep {
    /// As a value of the meta space.
    pub(super) fn to_value(self) -> Vec<u8> {
        [self.compacted_to.to_be_bytes(), self.compacted_records.to_be_bytes(), self.merged_to.to_be_bytes()].concat()
    }

    /// Reads [`Self::to_value`].
    pub(super) fn read(value: &[u8]) -> Result<Self, TopicError> {
        let mut r = Reader(value);
        Ok(Self {
            compacted_to: Offset::from_be_bytes(r.array("upkeep")?),
            compacted_records: u64::from_be_bytes(r.array("upkeep")?),
            merged_to: Offset::from_be_bytes(r.array("upkeep")?),
        })
    }
}

/// A topic's value: version, number, partitions, replicas, cleanup.
pub(super) fn topic_value(id: Id, spec: &TopicSpec) -> Vec<u8> {
    let cleanup = &spec.cleanup;
    let mut value = vec![TOPIC_VALUE];
    value.extend_from_slice(&id.to_be_bytes());
    value.extend_from_slice(&spec.partitions.to_be_bytes());
    value.extend_from_slice(&spec.replicas.to_be_bytes());
    value.push(u8::from(cleanup.compact));
    // Limits are not negative, so that −1 can stand for none.
    value.extend_from_slice(&cleanup.retention_ms.unwrap_or(-1).to_be_bytes());
    value.extend_from_slice(&cleanup.retention_bytes.unwrap_or(-1).to_be_bytes());
    value
}

/// Reads the key and value of a topic.
pub(super) fn read_topic(key: &[u8], value: &[u8]) -> Result<(Id, TopicSpec), TopicError> {
    let what = "topic";
    let name = key.get(1..).and_then(|n| std::str::from_utf8(n).ok()).ok_or_else(|| damaged(what))?;
    let mut r = Reader(value);
    let [version] = r.array(what)?;
    if version != TOPIC_VALUE {
        return Err(TopicError::Corrupt(format!("topic '{name}' is stored in unknown version {version}")));
    }
    let id = Id::from_be_bytes(r.array(what)?);
    let partitions = i32::from_be_bytes(r.array(what)?);
    let replicas = i16::from_be_bytes(r.array(what)?);
    let [compact] = r.array(what)?;
    let mut limit = || r.array(what).map(|b| Some(i64::from_be_bytes(b)).filter(|n| *n >= 0));
    let cleanup = Cleanup { compact: compact == 1, retention_ms: limit()?, retention_bytes: limit()? };
    Ok((id, TopicSpec { name: TopicName::new(name), partitions, replicas, cleanup }))
}

fn put_name(key: &mut Vec<u8>, name: &str) {
    let length = u16::try_from(name.len()).expect("names are checked to be short when they come in");
    key.extend_from_slice(&length.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
}

fn read_named(key: &[u8], what: &str) -> Result<(Arc<str>, Arc<str>, i32), TopicError> {
    let mut r = Reader(key);
    let [_kind] = r.array(what)?;
    Ok((r.name(what)?, r.name(what)?, i32::from_be_bytes(r.array(what)?)))
}

/// Takes fields off the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], TopicError> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or_else(|| damaged(what))?;
        self.0 = rest;
        Ok(*array)
    }

    fn name(&mut self, what: &str) -> Result<Arc<str>, TopicError> {
        let length = usize::from(u16::from_be_bytes(self.array(what)?));
        let (name, rest) = self.0.split_at_checked(length).ok_or_else(|| damaged(what))?;
        self.0 = rest;
        std::str::from_utf8(name).map(Arc::from).map_err(|_| damaged(what))
    }
}

fn damaged(what: &str) -> TopicError {
    TopicError::Corrupt(format!("an entry of the log ({what}) has an unknown form"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_read_back() {
        let at = TopicPartition::new("t", 7);
        let owner = Owner::new("o");
        assert_eq!(read_position(&position(&owner, &at)).unwrap(), (owner.clone(), at));
        let id = StoreId { owner, name: "s".into(), partition: 3 };
        assert_eq!(read_store(&store(&id)).unwrap(), id);
        let place = Position { offset: 5, consumed: 2 };
        assert_eq!(read_position_value(&position_value(place)).unwrap(), place);
        let cleanup = Cleanup { compact: true, retention_ms: Some(0), retention_bytes: None };
        let spec = TopicSpec { name: "a.b".into(), partitions: 3, replicas: 1, cleanup };
        assert_eq!(read_topic(&topic(&spec.name), &topic_value(9, &spec)).unwrap(), (9, spec));
        assert_eq!(block_base(&block(1, 2, 3)).unwrap(), 3);
        assert_eq!(read_garbage(&garbage(true, 8)).unwrap(), (true, 8));
        let upkeep = Upkeep { compacted_to: 1, compacted_records: 2, merged_to: 3 };
        assert_eq!(Upkeep::read(&upkeep.to_value()).unwrap(), upkeep);
    }

    #[test]
    fn keys_keep_the_order_of_offsets() {
        assert!(block(1, 0, 255) < block(1, 0, 256));
        assert!(block(1, 0, i64::MAX) < block(1, 1, 0));
        assert!(block(1, i32::MAX, 0) < block(2, 0, 0));
        assert!(changelog(1, 255) < changelog(1, 256));
    }

    #[test]
    fn no_owner_lies_among_anothers_entries() {
        let at = TopicPartition::new("t", 0);
        let longer = position(&Owner::new("ab"), &at);
        assert!(!longer.starts_with(&of_owner(POSITIONS, &Owner::new("a"))));
    }

    #[test]
    fn the_end_of_a_prefix_carries() {
        assert_eq!(after_prefix(&[1, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255, 255]), None);
    }
}
