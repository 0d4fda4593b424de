//! The changelog of a store as a compacted topic: one record an entry, so that compaction keeps the last state of each key.
//!
//! Knows blocks, no stores' types. A block's number is the offset of its last record, so the number after it is where reading goes on;
//! what is read back is cut anew, a key once a block. The subtle thing: a block's number may be lower than the truth, never higher, for
//! entries hold whole states and applying one again changes nothing.

use std::collections::HashMap;

use bytes::Bytes;

use arrow::array::Array;

use crate::topic::changelog_block::BlockWriter;
use crate::topic::{RawBatch, StoreId, TopicError};
use crate::types::TopicName;

/// Ends the name of every changelog topic.
const SUFFIX: &str = "-changelog";
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
    let mut last: HashMap<&[u8], usize> = HashMap::with_capacity(batch.len());
    for row in 0..batch.len() {
        last.insert(batch.keys.value(row), row);
    }
    let mut block = BlockWriter::with_capacity(last.len(), batch.byte_size());
    for row in 0..batch.len() {
        let key = batch.keys.value(row);
        if last.get(key) == Some(&row) {
            block.push(key, batch.values.is_valid(row).then(|| batch.values.value(row)))?;
        }
    }
    block.finish()
}
