//! What a check of a log found, and the eyes it needs for what it does not know.
//!
//! Finds nothing itself. The subtle thing: a log with a million damaged entries must not cost a million lines, so only the first
//! problems are kept in words and the others counted.

use bytes::Bytes;

use super::TopicError;

/// Problems kept in words.
const SHOWN: usize = 200;

/// Judges what the log stores as bytes for others.
pub struct Inspect<'a> {
    /// a changelog block
    pub block: &'a dyn Fn(&Bytes) -> Result<(), TopicError>,
    /// key and value of an entry of a keyed store
    pub entry: &'a dyn Fn(&[u8], &[u8]) -> Result<(), TopicError>,
}

/// What was looked at, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// topics
    pub topics: u64,
    /// partitions of them
    pub partitions: u64,
    /// blocks of records, each with its checksum
    pub blocks: u64,
    /// records
    pub records: u64,
    /// stores
    pub stores: u64,
    /// changelog blocks of them, each with its checksum
    pub changelog_blocks: u64,
    /// entries of keyed stores
    pub entries: u64,
    /// positions of consumers
    pub positions: u64,
    /// bytes of blocks and entries
    pub bytes: u64,
    /// what is wrong, in words: the first ones
    pub problems: Vec<String>,
    /// how many problems there are
    pub problem_count: u64,
}

impl CheckReport {
    /// Notes a problem.
    pub fn problem(&mut self, what: String) {
        self.problem_count += 1;
        if self.problems.len() < SHOWN {
            self.problems.push(what);
        }
    }
}
