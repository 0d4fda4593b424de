//! Rows of one side in columns: chunks that expire as a whole, made of pieces that leave memory alone.
//!
//! Knows no keys. The subtle thing: a row keeps its place in its chunk while pieces of few rows are joined to larger ones, so that a stream
//! of single rows ends up in columns as well.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow::ipc::{MetadataVersion, reader, root_as_message};

use crate::topic::TopicError;

/// A chunk with so many rows takes no more.
pub(super) const CHUNK_ROWS: u32 = 8192;

/// Pieces of fewer rows are joined with the next one.
const SMALL_PIECE_ROWS: u32 = 1024;

/// Version of the bytes of stored rows.
const VERSION: u8 = 1;

/// Rows from `first` on.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) first: u32,
    pub(super) len: u32,
    /// `None`: out of memory
    pub(super) columns: Option<Vec<ArrayRef>>,
    pub(super) bytes: usize,
    /// as which source the output page of that number reads it
    pub(super) source: (u64, usize),
}

impl Piece {
    fn new(first: u32, len: u32, columns: Vec<ArrayRef>) -> Self {
        let bytes = bytes_of(&columns);
        Self { first, len, columns: Some(columns), bytes, source: (0, 0) }
    }
}

/// Bytes of these columns, without what their buffers hold beside.
fn bytes_of(columns: &[ArrayRef]) -> usize {
    let bytes = |c: &ArrayRef| c.to_data().get_slice_memory_size().unwrap_or_else(|_| c.get_array_memory_size());
    columns.iter().map(bytes).sum::<usize>() + size_of_val(columns) * 8
}

/// Has rows, or held bits, that are in no changelog block.
pub(super) const DIRTY: u8 = 1;
/// In a block that is not written behind.
pub(super) const UNWRITTEN: u8 = 2;
/// Taken to be written behind; the store attached does not hold it yet.
pub(super) const IN_FLIGHT: u8 = 4;
/// Used since the clock's hand came by.
pub(super) const USED: u8 = 8;
/// The store behind may hold it.
pub(super) const TAKEN: u8 = 16;
/// May not leave memory.
pub(super) const PINNED: u8 = DIRTY | UNWRITTEN | IN_FLIGHT;

/// Rows of one side that expire together.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) pieces: Vec<Piece>,
    /// the slot of each row
    pub(super) slots: Vec<u32>,
    /// least and greatest row time
    pub(super) earliest: i64,
    pub(super) latest: i64,
    /// rows that wait for a partner; bits beyond the end are unset
    pub(super) held: Vec<u8>,
    pub(super) held_count: u32,
    /// the held bits changed since the last block
    pub(super) held_changed: bool,
    /// a block holds its held bits
    pub(super) held_stored: bool,
    /// first rows of the stored entries
    pub(super) entries: Vec<u32>,
    /// rows before this are in blocks
    pub(super) in_blocks: u32,
    pub(super) flags: u8,
}

impl Chunk {
    pub(super) fn new() -> Self {
        Self {
            pieces: Vec::new(),
            slots: Vec::new(),
            earliest: i64::MAX,
            latest: i64::MIN,
            held: Vec::new(),
            held_count: 0,
            held_changed: false,
            held_stored: false,
            entries: Vec::new(),
            in_blocks: 0,
            flags: 0,
        }
    }

    pub(super) fn rows(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Adds rows with their slots; returns the place of the first one.
    ///
    /// # Errors
    /// If the columns are not those of the chunk.
    pub(super) fn append(&mut self, columns: Vec<ArrayRef>, slots: &[u32], times: &[i64]) -> Result<u32, ArrowError> {
        let first = self.rows();
        self.slots.extend_from_slice(slots);
        self.earliest = times.iter().copied().fold(self.earliest, i64::min);
        self.latest = times.iter().copied().fold(self.latest, i64::max);
        self.pieces.push(Piece::new(first, slots.len() as u32, columns));
        while let [.., a, b] = self.pieces.as_slice() {
            if a.len >= SMALL_PIECE_ROWS || a.len > b.len * 2 {
                break;
            }
            let (Some(left), Some(right)) = (&a.columns, &b.columns) else { break };
            let joined = concat_columns(&[left, right])?;
            let piece = Piece::new(a.first, a.len + b.len, joined);
            self.pieces.truncate(self.pieces.len() - 2);
            self.pieces.push(piece);
        }
        Ok(first)
    }

    /// The piece of a row.
    pub(super) fn piece(&self, row: u32) -> usize {
        if self.pieces.len() == 1 { 0 } else { self.pieces.partition_point(|p| p.first <= row) - 1 }
    }

    pub(super) fn is_held(&self, row: u32) -> bool {
        self.held.get(row as usize / 8).is_some_and(|byte| byte & (1 << (row % 8)) != 0)
    }

    /// Sets or unsets the held bit of a row; true if that changed it.
    pub(super) fn hold(&mut self, row: u32, held: bool) -> bool {
        if self.is_held(row) == held {
            return false;
        }
        let byte = row as usize / 8;
        if self.held.len() <= byte {
            self.held.resize(byte + 1, 0);
        }
        self.held[byte] ^= 1 << (row % 8);
        self.held_count = if held { self.held_count + 1 } else { self.held_count - 1 };
        self.held_changed = true;
        true
    }

    /// Columns of the rows `from .. to`, which are in memory.
    ///
    /// # Errors
    /// If they are not.
    pub(super) fn columns(&self, from: u32, to: u32) -> Result<Vec<ArrayRef>, TopicError> {
        let mut parts = Vec::new();
        for piece in &self.pieces {
            let (start, end) = (piece.first.max(from), (piece.first + piece.len).min(to));
            if start >= end {
                continue;
            }
            let columns = piece.columns.as_ref().ok_or_else(|| damaged("rows to be stored left memory"))?;
            let slice = |c: &ArrayRef| c.slice((start - piece.first) as usize, (end - start) as usize);
            parts.push(columns.iter().map(slice).collect::<Vec<_>>());
        }
        if parts.len() == 1 {
            return Ok(parts.swap_remove(0));
        }
        concat_columns(&parts.iter().collect::<Vec<_>>()).map_err(damaged)
    }

    /// Bytes that leaving memory would free.
    pub(super) fn bytes(&self) -> usize {
        self.pieces.iter().filter(|p| p.columns.is_some()).map(|p| p.bytes).sum()
    }

    /// Bytes of what always stays.
    pub(super) fn overhead(&self) -> usize {
        size_of::<Self>()
            + self.slots.capacity() * size_of::<u32>()
            + self.pieces.capacity() * size_of::<Piece>()
            + self.entries.capacity() * size_of::<u32>()
            + self.held.capacity()
    }
}

pub(super) fn concat_columns(parts: &[&Vec<ArrayRef>]) -> Result<Vec<ArrayRef>, ArrowError> {
    let width = parts.first().map_or(0, |p| p.len());
    (0..width).map(|c| concat(&parts.iter().map(|p| p[c].as_ref()).collect::<Vec<_>>())).collect()
}

/// Rows as bytes that outlive the process: version (1 byte), length of the IPC message (4, little endian), the message, the body; an
/// Arrow IPC record batch without its schema.
pub(super) struct ChunkCodec {
    schema: SchemaRef,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl ChunkCodec {
    /// A codec for columns of these types.
    pub(super) fn new(types: impl Iterator<Item = DataType>) -> Self {
        let fields: Vec<Field> = types.enumerate().map(|(i, ty)| Field::new(i.to_string(), ty, true)).collect();
        let schema = Arc::new(Schema::new(fields));
        Self { schema, options: IpcWriteOptions::default(), context: IpcWriteContext::default() }
    }

    /// # Errors
    /// If the columns are others.
    pub(super) fn encode(&mut self, columns: Vec<ArrayRef>) -> Result<Vec<u8>, TopicError> {
        let record = RecordBatch::try_new(self.schema.clone(), columns).map_err(damaged)?;
        let mut tracker = DictionaryTracker::new(true);
        let (_, data) = IpcDataGenerator::default()
            .encode(&record, &mut tracker, &self.options, &mut self.context)
            .map_err(damaged)?;
        let mut bytes = Vec::with_capacity(5 + data.ipc_message.len() + data.arrow_data.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&(data.ipc_message.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&data.ipc_message);
        bytes.extend_from_slice(&data.arrow_data);
        Ok(bytes)
    }

    /// # Errors
    /// If the bytes are damaged, or of an unknown version.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<Vec<ArrayRef>, TopicError> {
        let short = || damaged("stored rows are cut short");
        let (&version, rest) = bytes.split_first().ok_or_else(short)?;
        if version != VERSION {
            return Err(damaged(format!("stored rows have version {version}, this riverrun reads {VERSION}")));
        }
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let (message, body) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(short)?;
        let message = root_as_message(message).map_err(damaged)?;
        let header = message.header_as_record_batch().ok_or_else(|| damaged("stored rows are no record batch"))?;
        let body = Buffer::from(body);
        let schema = self.schema.clone();
        let record = reader::read_record_batch(&body, header, schema, &Default::default(), None, &MetadataVersion::V5)
            .map_err(damaged)?;
        Ok(record.columns().to_vec())
    }
}

/// The held bits as bytes that outlive the process: version, then one bit a row, lowest first.
pub(super) fn encode_held(held: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(held.len() + 1);
    bytes.push(VERSION);
    bytes.extend_from_slice(held);
    bytes
}

/// # Errors
/// If they are of an unknown version.
pub(super) fn decode_held(bytes: &[u8]) -> Result<Vec<u8>, TopicError> {
    match bytes.split_first() {
        Some((&VERSION, held)) => Ok(held.to_vec()),
        _ => Err(damaged("held rows have an unknown version")),
    }
}

pub(super) fn damaged(reason: impl std::fmt::Display) -> TopicError {
    TopicError::Corrupt(format!("store of a stream-stream join: {reason}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn columns() -> Vec<ArrayRef> {
        vec![Arc::new(StringArray::from(vec![Some("a"), None])), Arc::new(Int64Array::from(vec![7, -1]))]
    }

    fn codec() -> ChunkCodec {
        ChunkCodec::new([DataType::Utf8, DataType::Int64].into_iter())
    }

    #[test]
    fn rows_stored_by_the_first_release_are_read() {
        let bytes = codec().encode(columns()).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("chunk_v1.hex").trim());
        assert_eq!(codec().decode(&bytes).unwrap(), columns());
    }

    #[test]
    fn damaged_bytes_are_errors() {
        let bytes = codec().encode(columns()).unwrap();
        (0..40).for_each(|len| assert!(codec().decode(&bytes[..len]).is_err()));
        let newer = [&[VERSION + 1], &bytes[1..]].concat();
        assert!(codec().decode(&newer).unwrap_err().to_string().contains("version 2"));
        assert!(decode_held(&[]).is_err() && decode_held(&[VERSION, 5]).unwrap() == [5]);
    }

    #[test]
    fn pieces_of_few_rows_become_one_and_rows_keep_their_places() {
        let mut chunk = Chunk::new();
        for i in 0..3000 {
            let rows: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![i, -i]))];
            assert_eq!(chunk.append(rows, &[0, 1], &[i, i]).unwrap(), i as u32 * 2);
        }
        assert!(chunk.pieces.len() < 20, "{}", chunk.pieces.len());
        assert_eq!((chunk.earliest, chunk.latest, chunk.rows()), (0, 2999, 6000));
        let cut = chunk.columns(1001, 3003).unwrap();
        let expected: Int64Array = (1001..3003).map(|row| if row % 2 == 0 { row / 2 } else { -(row / 2) }).collect();
        assert_eq!(cut[0].as_ref(), &expected as &dyn Array);
        let place = chunk.piece(4001);
        assert!(chunk.pieces[place].first <= 4001 && 4001 < chunk.pieces[place].first + chunk.pieces[place].len);
    }
}
