//! Entries of stores as they are, page by page: what a reader here or on another node decodes.
//!
//! Decodes nothing itself. The subtle thing: windows that are over are left out here, where the store's stream time is known, so another
//! node's reader need not know it.

use std::sync::Arc;

use bytes::Bytes;

use crate::operator::StateReader;
use crate::state::overlay::View;
use crate::topic::{KeyedSnapshot, TopicError};

use super::error::{RuntimeError, TaskError};

/// Rows that are decoded and run through the suffix at a time, at most.
const READ_ROWS: usize = 4096;
/// Rows of the first page: a reader may have enough of them.
const FIRST_READ_ROWS: usize = 256;

/// A key and its row, both encoded.
pub type Entry = (Bytes, Bytes);

/// Encoded keys `[from, to)`.
pub type ByteRange = (Vec<u8>, Vec<u8>);

/// Entries that another node gives.
pub trait RemoteEntries: Send {
    /// The next page; `None` at the end.
    ///
    /// # Errors
    /// If that node does not answer, or refuses.
    fn next_entries(&mut self) -> Result<Option<Vec<Entry>>, TopicError>;
}

/// Begins a read of what another node has, in these ranges.
pub type Elsewhere = Arc<dyn Fn(&[ByteRange]) -> Result<Box<dyn RemoteEntries>, TopicError> + Send + Sync>;

/// Entries of some partitions' stores in ranges of keys, as of one moment.
pub struct Entries {
    /// decodes them
    pub(super) reader: StateReader,
    partitions: Vec<View>,
    /// ascending and apart
    pub(super) ranges: Vec<ByteRange>,
    at: Place,
    /// rows of the next page
    page: usize,
    /// entries that were looked at
    pub(super) visited: usize,
}

/// Where a read is.
#[derive(Default)]
struct Place {
    partition: usize,
    range: usize,
    /// the next key, if it is not the range's first
    from: Option<Vec<u8>>,
    /// windows of the partition that are over do not count; `None` before its first page
    kept_from: Option<Option<i64>>,
}

impl Entries {
    pub(super) fn new(reader: StateReader, partitions: Vec<View>, ranges: Vec<ByteRange>) -> Self {
        Self { reader, partitions, ranges, at: Place::default(), page: FIRST_READ_ROWS, visited: 0 }
    }

    /// The next page, which may be empty; `None` at the end.
    ///
    /// # Errors
    /// If the log cannot be read, or what it holds is damaged.
    pub fn next_entries(&mut self) -> Result<Option<Vec<Entry>>, RuntimeError> {
        Ok(self.next_page()?)
    }

    pub(super) fn next_page(&mut self) -> Result<Option<Vec<Entry>>, TaskError> {
        if self.at.partition >= self.partitions.len() || self.ranges.is_empty() {
            return Ok(None);
        }
        self.read_page().map(Some)
    }

    /// Reads a page of one range, without windows that are over, and moves on.
    fn read_page(&mut self) -> Result<Vec<Entry>, TaskError> {
        let store = &self.partitions[self.at.partition];
        let kept_from = match self.at.kept_from {
            Some(known) => known,
            None => *self.at.kept_from.insert(self.reader.kept_from(store)?),
        };
        let (first, to) = &self.ranges[self.at.range];
        let from = self.at.from.as_ref().unwrap_or(first);
        let mut entries: Vec<Entry> = Vec::new();
        let mut last: Option<Vec<u8>> = None;
        let mut left = self.page;
        store.range(from, Some(to), &mut |key, row| {
            left -= 1;
            entries.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(row)));
            if left == 0 {
                last = Some([key, &[0]].concat());
            }
            left > 0
        })?;
        self.visited += self.page - left;
        self.page = (self.page * 2).min(READ_ROWS);
        self.at.from = last;
        if self.at.from.is_none() {
            self.at.range += 1;
            if self.at.range == self.ranges.len() {
                self.at.range = 0;
                self.at.partition += 1;
                self.at.kept_from = None;
            }
        }
        if let Some(bound) = kept_from {
            let kept = entries.iter().map(|(key, _)| self.reader.is_kept(key, bound));
            let mut kept = kept.collect::<Result<Vec<_>, _>>()?.into_iter();
            entries.retain(|_| kept.next().unwrap_or(true));
        }
        Ok(entries)
    }
}
