//! Changelog blocks: the entries of one store that one commit changed, as one value of the log.
//!
//! Not compressed and not sorted; a block holds a key once, with its last state. The subtle thing: keys and rows are each contiguous and
//! lengths stand apart, so that a reader slices them out of the log's own buffer and copies nothing.
//!
//! Version [`BLOCK_VERSION`], all numbers little endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | block version |
//! | 1 | version of the key encoding ([`KEY_VERSION`]) |
//! | 2 | zero |
//! | 4 | number of entries, n |
//! | 8 | XXH3-64 of all bytes after this field |
//! | 4 n | end of each key, counted from the first key |
//! | 4 n | end of each row, counted from the first row; a deleted one has no bytes |
//! | ⌈n / 8⌉ | one bit an entry, lowest first: set if there is a row, unset if the key is deleted |
//! | … | keys |
//! | … | rows |

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::TopicError;

/// Version of the encoding of keys ([`crate::state::encoding`] says how).
pub const KEY_VERSION: u8 = 1;

/// Version of the block format.
pub const BLOCK_VERSION: u8 = 1;

const HEADER_BYTES: usize = 16;
const END_BYTES: usize = 4;

/// Collects entries into a block.
#[derive(Debug, Default)]
pub struct BlockWriter {
    key_ends: Vec<u32>,
    row_ends: Vec<u32>,
    present: Vec<u8>,
    keys: Vec<u8>,
    rows: Vec<u8>,
}

impl BlockWriter {
    /// An empty block with room for `entries` entries of together `bytes` bytes of rows.
    pub fn with_capacity(entries: usize, bytes: usize) -> Self {
        Self {
            key_ends: Vec::with_capacity(entries),
            row_ends: Vec::with_capacity(entries),
            present: Vec::with_capacity(entries.div_ceil(8)),
            keys: Vec::with_capacity(entries * 16),
            rows: Vec::with_capacity(bytes),
        }
    }

    /// Adds an entry; `None` deletes the key. Call it once a key.
    ///
    /// # Errors
    /// [`TopicError::Invalid`] if keys or rows outgrow 4 GiB.
    pub fn push(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<(), TopicError> {
        self.keys.extend_from_slice(key);
        self.close(row)
    }

    /// Adds an entry with a row, whose key `append` appends to what it is given. Call it once a key.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn push_with(&mut self, append: impl FnOnce(&mut Vec<u8>), row: &[u8]) -> Result<(), TopicError> {
        append(&mut self.keys);
        self.close(Some(row))
    }

    /// Ends the entry whose key was appended.
    fn close(&mut self, row: Option<&[u8]>) -> Result<(), TopicError> {
        let n = self.key_ends.len();
        if n.is_multiple_of(8) {
            self.present.push(0);
        }
        if let Some(row) = row {
            self.rows.extend_from_slice(row);
            self.present[n / 8] |= 1 << (n % 8);
        }
        self.key_ends.push(end_of(&self.keys)?);
        self.row_ends.push(end_of(&self.rows)?);
        Ok(())
    }

    /// Number of entries so far.
    pub fn len(&self) -> usize {
        self.key_ends.len()
    }

    /// True before the first entry.
    pub fn is_empty(&self) -> bool {
        self.key_ends.is_empty()
    }

    /// The block.
    ///
    /// # Errors
    /// [`TopicError::Invalid`] if there are 2³² entries or more.
    pub fn finish(self) -> Result<Bytes, TopicError> {
        let n = u32::try_from(self.len())
            .map_err(|_| TopicError::Invalid("a changelog block has too many entries".into()))?;
        let body = 2 * END_BYTES * self.len() + self.present.len() + self.keys.len() + self.rows.len();
        let mut out = Vec::with_capacity(HEADER_BYTES + body);
        out.extend_from_slice(&[BLOCK_VERSION, KEY_VERSION, 0, 0]);
        out.extend_from_slice(&n.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        for ends in [&self.key_ends, &self.row_ends] {
            ends.iter().for_each(|end| out.extend_from_slice(&end.to_le_bytes()));
        }
        out.extend_from_slice(&self.present);
        out.extend_from_slice(&self.keys);
        out.extend_from_slice(&self.rows);
        let sum = xxh3_64(&out[HEADER_BYTES..]);
        out[8..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        Ok(Bytes::from(out))
    }
}

fn end_of(bytes: &[u8]) -> Result<u32, TopicError> {
    let too_large = || TopicError::Invalid("the changes of one commit exceed 4 GiB; lower commit.max.bytes".into());
    u32::try_from(bytes.len()).map_err(|_| too_large())
}

/// A block that was checked, to be read entry by entry.
#[derive(Clone, Debug)]
pub struct Block {
    bytes: Bytes,
    len: usize,
    keys_at: usize,
    rows_at: usize,
}

impl Block {
    /// Checks version, lengths and checksum.
    ///
    /// # Errors
    /// [`TopicError::Corrupt`] if one of them is wrong.
    pub fn open(bytes: &Bytes) -> Result<Self, TopicError> {
        let damaged = |reason: &str| TopicError::Corrupt(format!("a changelog block {reason}"));
        let (header, body) =
            bytes.split_at_checked(HEADER_BYTES).ok_or_else(|| damaged("is shorter than its header"))?;
        if header[0] != BLOCK_VERSION || header[1] != KEY_VERSION {
            return Err(TopicError::Corrupt(format!(
                "a changelog block has version {}.{}, this riverrun reads {BLOCK_VERSION}.{KEY_VERSION}",
                header[0], header[1]
            )));
        }
        if header[2..4] != [0, 0] || xxh3_64(body).to_le_bytes() != header[8..] {
            return Err(damaged("has a wrong header or checksum"));
        }
        let len = read_u32(bytes, 4) as usize;
        let keys_at = HEADER_BYTES + 2 * END_BYTES * len + len.div_ceil(8);
        if keys_at > bytes.len() {
            return Err(damaged("is shorter than its entries"));
        }
        let mut block = Self { bytes: bytes.clone(), len, keys_at, rows_at: keys_at };
        let (keys, rows) = (block.ends(0), block.ends(len));
        block.rows_at += keys.ok_or_else(|| damaged("has keys that go back"))?;
        if rows.is_none_or(|rows| block.rows_at + rows != bytes.len()) {
            return Err(damaged("does not end with its rows"));
        }
        Ok(block)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Key and row of entry `i`; `None` for a deleted key.
    ///
    /// # Panics
    /// If there is no entry `i`.
    pub fn entry(&self, i: usize) -> (&[u8], Option<&[u8]>) {
        let (key, row) = self.ranges(i);
        (&self.bytes[key], row.map(|row| &self.bytes[row]))
    }

    /// As [`Self::entry`], sharing the block's buffer.
    ///
    /// # Panics
    /// If there is no entry `i`.
    pub fn shared_entry(&self, i: usize) -> (Bytes, Option<Bytes>) {
        let (key, row) = self.ranges(i);
        (self.bytes.slice(key), row.map(|row| self.bytes.slice(row)))
    }

    /// All entries, in the order they were pushed.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> {
        (0..self.len).map(|i| self.entry(i))
    }

    fn ranges(&self, i: usize) -> (std::ops::Range<usize>, Option<std::ops::Range<usize>>) {
        assert!(i < self.len, "a block of {} entries has no entry {i}", self.len);
        let present = self.bytes[HEADER_BYTES + 2 * END_BYTES * self.len + i / 8] & (1 << (i % 8)) != 0;
        let range = |base: usize, first: usize| {
            let start = if i == 0 { 0 } else { self.end(first + i - 1) };
            base + start..base + self.end(first + i)
        };
        (range(self.keys_at, 0), present.then(|| range(self.rows_at, self.len)))
    }

    fn end(&self, n: usize) -> usize {
        read_u32(&self.bytes, HEADER_BYTES + END_BYTES * n) as usize
    }

    /// The last end of the list that starts at end `first`; `None` if an end is before the one before it.
    fn ends(&self, first: usize) -> Option<usize> {
        let mut last = 0;
        for n in first..first + self.len {
            let end = self.end(n);
            if end < last {
                return None;
            }
            last = end;
        }
        Some(last)
    }
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + END_BYTES].try_into().expect("a range of 4 has 4 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Bytes {
        let mut writer = BlockWriter::default();
        writer.push(b"a", Some(b"row")).unwrap();
        writer.push(b"bb", None).unwrap();
        writer.push(b"", Some(b"")).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn entries_come_back_in_order_and_deleted_is_not_empty() {
        let block = Block::open(&sample()).unwrap();
        let entries: Vec<_> = block.iter().collect();
        assert_eq!(entries, [(&b"a"[..], Some(&b"row"[..])), (b"bb", None), (b"", Some(b""))]);
        assert_eq!(block.shared_entry(0), (Bytes::from_static(b"a"), Some(Bytes::from_static(b"row"))));
    }

    #[test]
    fn the_format_of_version_1_stays() {
        let golden = "01010000030000007fcb964848e572b5\
                      010000000300000003000000030000000300000003000000056162 62726f77";
        let hex: String = sample().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden.replace(' ', ""));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = sample();
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let opened = Block::open(&Bytes::from(bad));
            assert!(opened.is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(Block::open(&good.slice(..len)).is_err(), "cut at {len}");
        }
    }
}
