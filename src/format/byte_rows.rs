//! Values of varying length written one after the other: the body of STRING columns and of payloads.
//!
//! Knows offsets and NULLs, no format. The subtle thing: Arrow's 32-bit offsets hold 2 GiB, so a row that would pass that is
//! refused and leaves the ones before it as they are.

use arrow::array::{BinaryArray, NullBufferBuilder, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

/// What a row is refused with that does not fit the batch.
const TOO_LARGE: &str = "the batch would be larger than 2 GiB";

/// Rows of bytes under construction.
pub(super) struct ByteRows {
    values: Vec<u8>,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl ByteRows {
    /// Room for so many rows and bytes.
    pub(super) fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { values: Vec::with_capacity(bytes), offsets, nulls: NullBufferBuilder::new(rows) }
    }

    /// Appends a row that is part of a batch of payloads, which bounds the sum of all.
    #[inline(always)]
    pub(super) fn append(&mut self, row: &[u8]) {
        self.values.extend_from_slice(row);
        self.offsets.push(self.values.len() as i32);
        self.nulls.append_non_null();
    }

    /// Appends a NULL.
    #[inline(always)]
    pub(super) fn append_null(&mut self) {
        self.offsets.push(self.last_offset());
        self.nulls.append_null();
    }

    /// Appends what `write` writes, or NULL if it fails or passes 2 GiB.
    #[inline(always)]
    pub(super) fn append_with<E: From<&'static str>>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let written = write(&mut self.values);
        match (written, i32::try_from(self.values.len())) {
            (Ok(()), Ok(offset)) => {
                self.offsets.push(offset);
                self.nulls.append_non_null();
                Ok(())
            }
            (written, _) => {
                self.values.truncate(self.last_offset() as usize);
                self.append_null();
                Err(written.err().unwrap_or_else(|| TOO_LARGE.into()))
            }
        }
    }

    fn last_offset(&self) -> i32 {
        self.offsets.last().copied().unwrap_or_default()
    }

    /// Bytes written so far.
    pub(super) fn byte_len(&self) -> usize {
        self.values.len()
    }

    fn into_parts(mut self) -> (OffsetBuffer<i32>, Buffer, Option<NullBuffer>) {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        (offsets, Buffer::from_vec(self.values), self.nulls.finish())
    }

    /// The rows as bytes.
    pub(super) fn into_binary(self) -> BinaryArray {
        let (offsets, values, nulls) = self.into_parts();
        BinaryArray::new(offsets, values, nulls)
    }

    /// The rows as text; they must be UTF-8 (which is checked, at the speed of ASCII).
    pub(super) fn into_strings(self) -> StringArray {
        let (offsets, values, nulls) = self.into_parts();
        StringArray::new(offsets, values, nulls)
    }
}
