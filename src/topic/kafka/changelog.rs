//! The changelog of a store as a compacted topic: one record an entry, so that compaction keeps the last state of each key.
//!
//! Knows blocks, no stores' types. A block's number is the offset of its last record, so the number after it is where reading goes on;
//! what is read back is cut anew, a key once a block. The subtle thing: a block's number may be lower than the truth, never higher, for
//! entries hold whole states and applying one again changes nothing.

use std::collections::HashSet;

use bytes::Bytes;

use arrow::array::Array;

use crate::topic::changelog_block::BlockWriter;
use crate::topic::{RawBatch, StoreId, TopicError};
use crate::types::TopicName;

/// Ends the name of every changelog topic.
const SUFFIX: &str = "-changelog";
/// Any seeds will do.
const HASHER: ahash::RandomState = ahash::RandomState::with_seeds(1, 2, 3, 4);
/// Longest name of a topic.
const MAX_NAME: usize = 249;

/// The changelog topic of a store.
pub(super) fn topic(owner: &str, store: &str) -> TopicName {
    let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let name: String = format!("{owner}-{store}{SUFFIX}").chars().map(legal).collect();
    if name.len() <= MAX_NAME {
        return TopicName::new(name);
    }
    // What is cut off is told by its hash.
    let hash = xxhash_rust::xxh3::xxh3_64(format!("{owner}-{store}").as_bytes());
    let kept = MAX_NAME - SUFFIX.len() - 17;
    TopicName::new(format!("{}-{hash:016x}{SUFFIX}", &name[..kept]))
}

/// The changelog topic of a store.
pub(super) fn topic_of(store: &StoreId) -> TopicName {
    topic(&store.owner.0, &store.name)
}

/// True if the topic holds a changelog of this owner.
pub(super) fn belongs(topic: &TopicName, owner: &str) -> bool {
    let name = topic.as_str().strip_suffix(SUFFIX);
    name.and_then(|n| n.strip_prefix(owner)).is_some_and(|rest| rest.starts_with('-'))
}

/// Records of a changelog as a block, each key once with its last state.
pub(super) fn block_of(batch: &RawBatch) -> Result<Bytes, TopicError> {
    // From the end, so that a key's last state is met first.
    let mut seen: HashSet<&[u8], ahash::RandomState> = HashSet::with_capacity_and_hasher(batch.len(), HASHER);
    let mut last = vec![false; batch.len()];
    for row in (0..batch.len()).rev() {
        last[row] = seen.insert(batch.keys.value(row));
    }
    let mut block = BlockWriter::with_capacity(seen.len(), batch.values.value_data().len());
    for row in (0..batch.len()).filter(|&row| last[row]) {
        block.push(batch.keys.value(row), batch.values.is_valid(row).then(|| batch.values.value(row)))?;
    }
    block.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::changelog_block::Block;

    #[test]
    fn a_block_has_each_key_once_with_its_last_state() {
        let values: [Option<&[u8]>; 5] = [Some(b"1"), Some(b"2"), None, Some(b"4"), None];
        let batch = RawBatch {
            offsets: vec![3, 4, 7, 8, 9].into(),
            timestamps: vec![0; 5].into(),
            keys: [b"a", b"b", b"a", b"c", b"b"].into_iter().map(|key| Some(key.as_slice())).collect(),
            values: values.into_iter().collect(),
            headers: None,
            arrivals: None,
        };
        let block = Block::open(&block_of(&batch).unwrap()).unwrap();
        let entries: Vec<_> = block.iter().collect();
        assert_eq!(entries, [(&b"a"[..], None), (b"c", Some(&b"4"[..])), (b"b", None)]);
    }
}
