//! Bytes of keys and rows that outlive the process: our own encodings, documented here, columnar in and columnar out.
//!
//! Not a record format (`format`) and not what Arrow's row format gives, which may change with a release. The subtle thing: bytes written by
//! any release must read back for ever, so golden tests pin them; a change means a new version byte and a reader for the old one.
//!
//! A batch goes in as columns: [`KeyCodec::encode`] and [`RowCodec::encode`] give [`EncodedRows`], one arena with a slice a row. Stores keep
//! these slices. On the way out [`KeyCodec::decode`] and [`RowCodec::decoder`] append many slices straight into column builders.
//!
//! **Keys**, version [`KEY_VERSION`]: the encodings of the key columns one after the other; `memcmp` on the bytes orders keys column by
//! column, NULL first. A key has no version byte of its own; the version is part of a store's physical identity and of each block.
//!
//! | type | bytes after the marker (`00` NULL and nothing follows, `01` value) |
//! |---|---|
//! | BOOLEAN | `00` or `01` |
//! | INT, DATE, TIME | 4 bytes, big endian, sign bit flipped |
//! | BIGINT, TIMESTAMP | 8 bytes, big endian, sign bit flipped |
//! | DECIMAL | unscaled value in 16 bytes (precision ≤ 38) or 32, big endian, sign bit flipped |
//! | DOUBLE | 8 bytes, big endian; sign bit flipped if positive, all bits if negative; every NaN is `7ff8…` |
//! | STRING, BYTES | the bytes, `00` written as `00 ff`, then `00 00` |
//! | ARRAY | per element `01` and its encoding, then `00` |
//! | STRUCT | the encodings of the fields |
//!
//! Windowed keys end with start and end of the window, 8 bytes each, as BIGINT without marker ([`push_window`]). No key starts with a byte
//! above `01`, so stores keep what is not a row under [`RESERVED_PREFIX`].
//!
//! **Rows**, version [`ROW_VERSION`]: the version byte, the row time in 8 bytes little endian, one bit a column (set: not NULL; lowest bit
//! first, padded to bytes), then the columns that are not NULL:
//!
//! | type | bytes |
//! |---|---|
//! | BOOLEAN | `00` or `01` |
//! | INT, BIGINT, DATE, TIME, TIMESTAMP | zigzag, LEB128 |
//! | DECIMAL | a byte with the length, then the unscaled value, two's complement, big endian, shortest |
//! | DOUBLE | 8 bytes, little endian |
//! | STRING, BYTES | LEB128 length, bytes |
//! | ARRAY | LEB128 count, one bit an element as above, the elements that are not NULL |
//! | MAP | LEB128 count, the keys, one bit a value, the values that are not NULL |
//! | STRUCT | one bit a field, the fields that are not NULL |

mod builder;
mod key;
mod row;
mod view;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;

use crate::topic::TopicError;

pub use key::{KeyCodec, push_window, split_window};
pub use row::{DecodedRows, RowCodec, RowDecoder};

pub use crate::topic::changelog_block::KEY_VERSION;

/// Version of the row encoding, the first byte of each row.
pub const ROW_VERSION: u8 = 1;

/// First byte of keys that are no rows but an operator's own numbers; above that of every row key.
pub const RESERVED_PREFIX: u8 = 0xff;

/// The end of the row keys of a store, for a scan of all rows: `range(&[], Some(ROWS_END))`.
pub const ROWS_END: &[u8] = &[RESERVED_PREFIX];

/// Many byte strings in one arena.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedRows {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl EncodedRows {
    /// An empty arena with room for `rows` rows of together `bytes` bytes.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(rows) }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If there is no row `i`.
    pub fn row(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.bytes[start..self.ends[i]]
    }

    /// All rows, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.row(i))
    }

    /// Removes all rows; their memory stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    /// Appends a row.
    pub fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
    }

    /// Ends the row whose bytes were appended to the arena.
    fn close(&mut self) {
        self.ends.push(self.bytes.len());
    }
}

/// Which rows have no key: all of `keys` are NULL. `None` if there is no such row.
pub fn null_keys(keys: &[ArrayRef], rows: usize) -> Option<BooleanBuffer> {
    let mut all: Option<BooleanBuffer> = None;
    for column in keys {
        let valid = column.logical_nulls().filter(|n| n.null_count() > 0)?;
        let nulls = !valid.inner();
        all = Some(match all {
            None => nulls,
            Some(so_far) => &so_far & &nulls,
        });
    }
    all.filter(|nulls| nulls.len() == rows && nulls.count_set_bits() > 0)
}

fn unsupported(what: &str, data_type: &DataType) -> TopicError {
    TopicError::Invalid(format!("a {what} cannot hold the type {data_type}"))
}

fn damaged(reason: impl Into<String>) -> TopicError {
    TopicError::Corrupt(reason.into())
}

/// Refuses columns that are not of the codec's types; names of nested fields do not count.
fn check_columns(what: &str, types: &[DataType], columns: &[ArrayRef], rows: usize) -> Result<(), TopicError> {
    let fits = types.len() == columns.len()
        && types.iter().zip(columns).all(|(t, c)| t.equals_datatype(c.data_type()) && c.len() == rows);
    if fits {
        return Ok(());
    }
    let found: Vec<_> = columns.iter().map(|c| format!("{}[{}]", c.data_type(), c.len())).collect();
    Err(TopicError::Invalid(format!("{rows} {what} of types {types:?} cannot be made of columns {found:?}")))
}

/// Reads encoded bytes from front to back.
struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], TopicError> {
        let (head, rest) = self.bytes.split_at_checked(n).ok_or_else(|| damaged("an encoded row ends too early"))?;
        self.bytes = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, TopicError> {
        let (&first, rest) = self.bytes.split_first().ok_or_else(|| damaged("an encoded row ends too early"))?;
        self.bytes = rest;
        Ok(first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TopicError> {
        let (head, rest) = self.bytes.split_first_chunk().ok_or_else(|| damaged("an encoded row ends too early"))?;
        self.bytes = rest;
        Ok(*head)
    }

    fn varint(&mut self) -> Result<u64, TopicError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(damaged("a number in an encoded row is too long"))
    }

    /// A count of things of which each takes at least one bit of what follows.
    fn count(&mut self) -> Result<usize, TopicError> {
        let count = self.varint()?;
        match usize::try_from(count) {
            Ok(n) if n.div_ceil(8) <= self.bytes.len() => Ok(n),
            _ => Err(damaged("a list in an encoded row is longer than the row")),
        }
    }

    fn end(&self) -> Result<(), TopicError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(damaged("an encoded row has bytes after its end")) }
    }
}

#[cfg(test)]
pub(crate) mod tests;
