//! A block: records of a partition as bytes, column by column.
//!
//! Knows no storage. Layout, little endian, sections at multiples of 8: head (48 bytes), timestamps, offset deltas where there are
//! gaps, key offsets, key validity, value offsets, value validity, headers, key bytes, value bytes. The subtle thing: the
//! base offset is not in it but in its key, so that a block can be encoded before its place is known.

use arrow::array::{Array, BinaryArray, BooleanBufferBuilder};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::ArrowNativeType;
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::headers;
use crate::topic::{NO_TIMESTAMP, Offset, RawBatch, TopicError};

#[cfg(target_endian = "big")]
compile_error!("blocks are little endian and are read in place");

/// The version of the layout; the first byte of a block.
const VERSION: u8 = 1;
/// Bytes before the first section.
const HEAD_BYTES: usize = 48;
/// Where the bytes begin that the checksum is over: behind the version and the checksum itself.
const CHECKED_FROM: usize = 16;

/// Offsets have gaps: deltas from the base are there.
const HAS_OFFSETS: u8 = 1;
/// Some keys are NULL.
const HAS_NULL_KEYS: u8 = 2;
/// Some values are NULL.
const HAS_NULL_VALUES: u8 = 4;
/// Some records have headers.
const HAS_HEADERS: u8 = 8;

/// Rows of a batch.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// the batch
    pub batch: &'a RawBatch,
    /// first row
    pub from: usize,
    /// rows, ≥ 1
    pub len: usize,
}

/// The rows as one block, part after part; each is copied once. Records without a time get `now_ms`. If they are `contiguous`, offsets are not
/// looked at and ascend by one.
pub(super) fn encode(parts: &[Rows<'_>], contiguous: bool, now_ms: i64) -> Bytes {
    let keys: Vec<_> = parts.iter().map(|p| Column::of(&p.batch.keys, p.from, p.len)).collect();
    let values: Vec<_> = parts.iter().map(|p| Column::of(&p.batch.values, p.from, p.len)).collect();
    let (key_bytes, value_bytes) = (payload_bytes(&keys), payload_bytes(&values));
    let rows: usize = parts.iter().map(|p| p.len).sum();
    let mut out = Vec::with_capacity(HEAD_BYTES + key_bytes + value_bytes + rows * 17 + 128);
    out.resize(HEAD_BYTES, 0);
    let mut flags = 0;
    let max_timestamp = put_timestamps(&mut out, parts, now_ms);
    let mut span = rows as u32;
    if !contiguous {
        flags |= HAS_OFFSETS;
        span = put_offsets(&mut out, parts);
    }
    flags |= put_places(&mut out, &keys, rows, HAS_NULL_KEYS);
    flags |= put_places(&mut out, &values, rows, HAS_NULL_VALUES);
    let mut header_bytes = 0;
    if let Some(bytes) = headers::encode(parts) {
        flags |= HAS_HEADERS;
        header_bytes = bytes.len() as u32;
        put(&mut out, &bytes);
    }
    put_payload(&mut out, &keys);
    put_payload(&mut out, &values);
    let (key_bytes, value_bytes) = (key_bytes as u32, value_bytes as u32);
    put_head(&mut out, &Head { flags, rows: rows as u32, span, max_timestamp, key_bytes, value_bytes, header_bytes });
    // what places take was only guessed, and short records have many; the block may stay in memory for long
    match out.capacity() - out.len() > out.len() / 8 {
        true => Bytes::copy_from_slice(&out),
        false => out.into(),
    }
}

/// What a block says of itself.
#[derive(Clone, Copy, Debug)]
struct Head {
    flags: u8,
    rows: u32,
    span: u32,
    max_timestamp: i64,
    key_bytes: u32,
    value_bytes: u32,
    header_bytes: u32,
}

/// A stored block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    base: Offset,
    head: Head,
    bytes: Bytes,
}

impl Block {
    /// The block at `base`. The storage has checked what it read of the disk, so that the sum is not looked at again here.
    ///
    /// # Errors
    /// [`TopicError::Corrupt`].
    pub(super) fn read(base: Offset, bytes: Bytes) -> Result<Self, TopicError> {
        if bytes.len() < HEAD_BYTES || bytes[0] != VERSION {
            return Err(damaged(base, "its version is unknown"));
        }
        let count = |at| u32::from_le_bytes(number::<4>(&bytes, at));
        let head = Head {
            flags: bytes[44],
            rows: count(16),
            span: count(20),
            max_timestamp: i64::from_le_bytes(number::<8>(&bytes, 24)),
            key_bytes: count(32),
            value_bytes: count(36),
            header_bytes: count(40),
        };
        Ok(Self { base, head, bytes })
    }

    /// Checks it by its own sum, which was made when it was appended.
    ///
    /// # Errors
    /// [`TopicError::Corrupt`].
    pub(super) fn verify(&self) -> Result<(), TopicError> {
        if number::<8>(&self.bytes, 8) == xxh3_64(&self.bytes[CHECKED_FROM..]).to_le_bytes() {
            return Ok(());
        }
        Err(damaged(self.base, "its checksum does not agree"))
    }

    /// Number of records.
    pub(super) fn rows(&self) -> usize {
        self.head.rows as usize
    }

    /// Its first offset.
    pub(super) fn base(&self) -> Offset {
        self.base
    }

    /// Size in the storage.
    pub(super) fn byte_size(&self) -> usize {
        self.bytes.len()
    }

    /// One after its last offset.
    pub(super) fn end(&self) -> Offset {
        self.base + Offset::from(self.head.span)
    }

    /// The latest of its timestamps, ms.
    pub(super) fn max_timestamp(&self) -> i64 {
        self.head.max_timestamp
    }

    /// Its records; keys and values share the block's memory.
    ///
    /// # Errors
    /// [`TopicError::Corrupt`].
    pub(super) fn batch(&self) -> Result<RawBatch, TopicError> {
        let head = &self.head;
        let rows = self.rows();
        let has = |flag| head.flags & flag != 0;
        let mut sections = Sections { block: self, buffer: Buffer::from(self.bytes.clone()), at: HEAD_BYTES };
        let timestamps = sections.numbers::<i64>(rows)?;
        let offsets = match has(HAS_OFFSETS) {
            true => sections.numbers::<u32>(rows)?.iter().map(|d| self.base + i64::from(*d)).collect::<Vec<_>>().into(),
            false => (self.base..self.base + rows as i64).collect::<Vec<_>>().into(),
        };
        let key_places = sections.places(rows, has(HAS_NULL_KEYS), head.key_bytes)?;
        let value_places = sections.places(rows, has(HAS_NULL_VALUES), head.value_bytes)?;
        let headers = match has(HAS_HEADERS) {
            true => {
                let bytes = sections.take(head.header_bytes as usize)?;
                Some(headers::decode(&bytes, rows).ok_or_else(|| damaged(self.base, "its headers are cut"))?)
            }
            false => None,
        };
        let keys = sections.column(key_places, head.key_bytes)?;
        let values = sections.column(value_places, head.value_bytes)?;
        Ok(RawBatch { offsets, timestamps, keys, values, headers, arrivals: None })
    }
}

/// Offsets and validity of a binary column.
type Places = (OffsetBuffer<i32>, Option<NullBuffer>);

/// Takes sections off a block, in order.
struct Sections<'a> {
    block: &'a Block,
    buffer: Buffer,
    at: usize,
}

impl Sections<'_> {
    fn take(&mut self, len: usize) -> Result<Buffer, TopicError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.buffer.len());
        let end = end.ok_or_else(|| damaged(self.block.base, "it is too short"))?;
        let section = self.buffer.slice_with_length(self.at, len);
        self.at = end.next_multiple_of(8);
        Ok(section)
    }

    /// In place where the memory is aligned, else copied.
    fn numbers<T: ArrowNativeType>(&mut self, count: usize) -> Result<ScalarBuffer<T>, TopicError> {
        let section = self.take(count * size_of::<T>())?;
        if section.as_ptr().align_offset(align_of::<T>()) == 0 {
            return Ok(ScalarBuffer::new(section, 0, count));
        }
        Ok(ScalarBuffer::new(Buffer::from_slice_ref(section.as_slice()), 0, count))
    }

    fn places(&mut self, rows: usize, nulls: bool, bytes: u32) -> Result<Places, TopicError> {
        let offsets = self.numbers::<i32>(rows + 1)?;
        let ascend = offsets.windows(2).all(|w| w[0] <= w[1]);
        if !ascend || offsets[0] != 0 || offsets[rows] as u32 != bytes {
            return Err(damaged(self.block.base, "its places do not ascend"));
        }
        let valid = match nulls {
            true => Some(NullBuffer::new(BooleanBuffer::new(self.take(rows.div_ceil(8))?, 0, rows))),
            false => None,
        };
        Ok((OffsetBuffer::new(offsets), valid))
    }

    fn column(&mut self, (offsets, valid): Places, bytes: u32) -> Result<BinaryArray, TopicError> {
        let values = self.take(bytes as usize)?;
        BinaryArray::try_new(offsets, values, valid).map_err(|e| damaged(self.block.base, &e.to_string()))
    }
}

/// The rows of a binary column that are encoded.
struct Column<'a> {
    offsets: &'a [i32],
    bytes: &'a [u8],
    valid: Option<NullBuffer>,
}

impl<'a> Column<'a> {
    fn of(array: &'a BinaryArray, from: usize, len: usize) -> Self {
        let offsets = &array.value_offsets()[from..=from + len];
        let bytes = &array.value_data()[offsets[0] as usize..offsets[len] as usize];
        let valid = array.nulls().map(|n| n.slice(from, len)).filter(|n| n.null_count() > 0);
        Self { offsets, bytes, valid }
    }
}

fn payload_bytes(column: &[Column<'_>]) -> usize {
    column.iter().map(|part| part.bytes.len()).sum()
}

/// Writes offsets and validity; gives `null_flag` if there are NULLs.
fn put_places(out: &mut Vec<u8>, column: &[Column<'_>], rows: usize, null_flag: u8) -> u8 {
    let mut base = 0;
    out.extend_from_slice(&[0; 4]);
    for part in column {
        // Where a part begins in its own memory is nothing to the block.
        let moved = base - part.offsets[0];
        part.offsets[1..].iter().for_each(|o| out.extend_from_slice(&(o + moved).to_le_bytes()));
        base += part.bytes.len() as i32;
    }
    pad(out);
    if column.iter().all(|part| part.valid.is_none()) {
        return 0;
    }
    let mut valid = BooleanBufferBuilder::new(rows);
    for part in column {
        match &part.valid {
            Some(nulls) => valid.append_buffer(nulls.inner()),
            None => valid.append_n(part.offsets.len() - 1, true),
        }
    }
    put(out, valid.as_slice());
    null_flag
}

fn put_payload(out: &mut Vec<u8>, column: &[Column<'_>]) {
    column.iter().for_each(|part| out.extend_from_slice(part.bytes));
    pad(out);
}

fn put_timestamps(out: &mut Vec<u8>, parts: &[Rows<'_>], now_ms: i64) -> i64 {
    let mut latest = i64::MIN;
    for part in parts {
        for timestamp in &part.batch.timestamps[part.from..part.from + part.len] {
            let timestamp = if *timestamp == NO_TIMESTAMP { now_ms } else { *timestamp };
            latest = latest.max(timestamp);
            out.extend_from_slice(&timestamp.to_le_bytes());
        }
    }
    latest
}

/// Writes deltas from the first offset; gives the offsets spanned.
fn put_offsets(out: &mut Vec<u8>, parts: &[Rows<'_>]) -> u32 {
    let mut all = parts.iter().flat_map(|p| &p.batch.offsets[p.from..p.from + p.len]).copied().peekable();
    let first = all.peek().copied().unwrap_or_default();
    let mut last = 0;
    for offset in all {
        last = u32::try_from(offset - first).expect("a block spans fewer than 2^32 offsets");
        out.extend_from_slice(&last.to_le_bytes());
    }
    pad(out);
    last + 1
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(8), 0);
}

fn put_head(out: &mut [u8], head: &Head) {
    out[0] = VERSION;
    out[16..20].copy_from_slice(&head.rows.to_le_bytes());
    out[20..24].copy_from_slice(&head.span.to_le_bytes());
    out[24..32].copy_from_slice(&head.max_timestamp.to_le_bytes());
    out[32..36].copy_from_slice(&head.key_bytes.to_le_bytes());
    out[36..40].copy_from_slice(&head.value_bytes.to_le_bytes());
    out[40..44].copy_from_slice(&head.header_bytes.to_le_bytes());
    out[44] = head.flags;
    let sum = xxh3_64(&out[CHECKED_FROM..]);
    out[8..16].copy_from_slice(&sum.to_le_bytes());
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk::<N>().expect("the head was checked to be whole")
}

fn damaged(base: Offset, why: &str) -> TopicError {
    TopicError::Corrupt(format!("the block of records at offset {base}: {why}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::topic::batch::no_headers;
    use proptest::prelude::*;

    /// Offset, time, key, value.
    type Row = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

    fn batch(rows: &[Row]) -> RawBatch {
        RawBatch {
            offsets: rows.iter().map(|r| r.0).collect::<Vec<_>>().into(),
            timestamps: rows.iter().map(|r| r.1).collect::<Vec<_>>().into(),
            keys: rows.iter().map(|r| r.2.as_deref()).collect(),
            values: rows.iter().map(|r| r.3.as_deref()).collect(),
            headers: None,
            arrivals: None,
        }
    }

    fn round_trip(batch: &RawBatch, from: usize, len: usize, contiguous: bool) -> RawBatch {
        let bytes = encode(&[Rows { batch, from, len }], contiguous, 99);
        Block::read(batch.offsets[from], bytes).unwrap().batch().unwrap()
    }

    proptest! {
        #[test]
        fn any_slice_reads_back(
            rows in prop::collection::vec((1i64..5, 0i64..9, any::<Option<Vec<u8>>>(), any::<Option<Vec<u8>>>()), 1..40),
            from in 0usize..40, len in 1usize..40, unaligned in 0usize..8,
        ) {
            let mut offset = 0;
            let rows: Vec<_> = rows.into_iter().map(|(step, t, k, v)| { offset += step; (offset, t, k, v) }).collect();
            let from = from % rows.len();
            let len = len.min(rows.len() - from);
            let batch = batch(&rows);
            prop_assert_eq!(&round_trip(&batch, from, len, false), &batch.slice(from, len));
            let bytes = encode(&[Rows { batch: &batch, from, len }], false, 0);
            // The same in parts.
            let middle = len / 2;
            let halves = [Rows { batch: &batch, from, len: middle }, Rows { batch: &batch, from: from + middle, len: len - middle }];
            prop_assert_eq!(&encode(&halves[usize::from(middle == 0)..], false, 0), &bytes);
            // The same from memory that begins anywhere.
            let shifted = Bytes::from([&[0; 8][..unaligned], &bytes[..]].concat()).slice(unaligned..);
            let read = Block::read(batch.offsets[from], shifted).unwrap();
            prop_assert_eq!(read.batch().unwrap(), batch.slice(from, len));
            prop_assert_eq!(read.end(), batch.slice(from, len).end().unwrap());
        }
    }

    #[test]
    fn a_record_without_time_gets_that_of_the_append() {
        let one = batch(&[(0, NO_TIMESTAMP, None, None), (1, 7, None, None)]);
        assert_eq!(&round_trip(&one, 0, 2, true).timestamps[..], &[99, 7]);
    }

    #[test]
    fn empty_headers_are_not_stored() {
        let mut one = batch(&[(0, 1, None, None)]);
        one.headers = Some(no_headers(1));
        assert_eq!(round_trip(&one, 0, 1, true).headers, None);
        assert_eq!(Arc::strong_count(one.headers.as_ref().unwrap()), 1);
    }

    #[test]
    fn a_part_without_headers_leaves_those_of_others_with_their_records() {
        let bare = batch(&[(0, 1, None, None)]);
        let mut headed = batch(&[(1, 1, None, None)]);
        let one = [1, 0, 0, 0, 1, 0, 0, 0, b'h', 1, 0, 0, 0, b'v'];
        headed.headers = headers::decode(&one, 1);
        let parts = [&bare, &headed, &bare].map(|batch| Rows { batch, from: 0, len: 1 });
        let read = Block::read(0, encode(&parts, true, 0)).unwrap().batch().unwrap();
        let all = RawBatch::concat(&[bare.clone(), headed, bare]).unwrap();
        assert_eq!(read.headers, all.headers);
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let two = batch(&[(0, 1, Some(b"k".to_vec()), Some(b"value".to_vec())), (1, 2, None, None)]);
        let bytes = encode(&[Rows { batch: &two, from: 0, len: 2 }], true, 0);
        for at in (0..bytes.len()).filter(|at| !(1..8).contains(at)) {
            let mut bad = bytes.to_vec();
            bad[at] ^= 0x40;
            let verified = Block::read(0, bad.into()).and_then(|block| block.verify());
            assert!(matches!(verified, Err(TopicError::Corrupt(_))), "byte {at}");
        }
        assert!(matches!(Block::read(0, bytes.slice(..20)), Err(TopicError::Corrupt(_))));
    }
}
