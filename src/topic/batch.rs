//! Operations on raw batches that every log needs: check, cut by size, join, filter.
//!
//! Knows columns, not where they are stored. The subtle thing: of batches that are joined, one without headers gets empty
//! lists, and arrival numbers survive only if every batch has them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, BooleanArray, ListArray, StructArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute;
use arrow::datatypes::{DataType, Fields};

use super::{Append, Offset, RawBatch, TopicError, headers_type};

impl RawBatch {
    /// No records.
    pub fn empty() -> Self {
        let none = || BinaryArray::new(OffsetBuffer::new_empty(), arrow::buffer::Buffer::default(), None);
        Self {
            offsets: ScalarBuffer::from(Vec::new()),
            timestamps: ScalarBuffer::from(Vec::new()),
            keys: none(),
            values: none(),
            headers: None,
            arrivals: None,
        }
    }

    /// The records of `batches` in that order.
    ///
    /// # Errors
    /// [`TopicError::TooLarge`]'s cause, said as [`TopicError::Invalid`], if keys or values exceed 2 GiB.
    pub fn concat(batches: &[RawBatch]) -> Result<Self, TopicError> {
        match batches {
            [] => return Ok(Self::empty()),
            [one] => return Ok(one.clone()),
            _ => {}
        }
        let rows = batches.iter().map(Self::len).sum();
        Ok(Self {
            offsets: concat_numbers(rows, batches.iter().map(|b| &b.offsets)),
            timestamps: concat_numbers(rows, batches.iter().map(|b| &b.timestamps)),
            keys: concat_binary(batches.iter().map(|b| &b.keys as &dyn Array))?,
            values: concat_binary(batches.iter().map(|b| &b.values as &dyn Array))?,
            headers: concat_headers(batches)?,
            arrivals: concat_arrivals(rows, batches),
        })
    }

    /// The records for which `keep` is true.
    ///
    /// # Errors
    /// If the columns do not have the length of `keep`.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Self, TopicError> {
        let numbers = |values: &ScalarBuffer<i64>| -> ScalarBuffer<i64> {
            values.iter().zip(keep.values().iter()).filter(|(_, k)| *k).map(|(v, _)| *v).collect::<Vec<_>>().into()
        };
        let binary = |values: &BinaryArray| -> Result<BinaryArray, TopicError> {
            Ok(as_binary(compute::filter(values, keep).map_err(columns_differ)?.as_ref()))
        };
        Ok(Self {
            offsets: numbers(&self.offsets),
            timestamps: numbers(&self.timestamps),
            keys: binary(&self.keys)?,
            values: binary(&self.values)?,
            headers: self.headers.as_ref().map(|h| compute::filter(h, keep)).transpose().map_err(columns_differ)?,
            arrivals: self.arrivals.as_ref().map(numbers),
        })
    }

    /// How many rows from `from` on fit into `max_rows` and `max_bytes` of keys and values; with `at_least_one`, one
    /// that alone exceeds `max_bytes` fits.
    pub fn rows_within(&self, from: usize, max_rows: usize, max_bytes: usize, at_least_one: bool) -> usize {
        rows_within(&self.keys, &self.values, from, max_rows.min(self.len() - from), max_bytes, at_least_one)
    }

    /// Bytes of keys and values.
    pub fn byte_size(&self) -> usize {
        bytes_between(&self.keys, 0, self.len()) + bytes_between(&self.values, 0, self.len())
    }

    /// One after the offset of the last record; `None` without records.
    pub fn end(&self) -> Option<Offset> {
        self.offsets.last().map(|last| last + 1)
    }
}

impl Append {
    /// The number of its records, if its columns agree.
    ///
    /// # Errors
    /// [`TopicError::Invalid`] if columns differ in length or headers are not of [`headers_type`].
    pub fn check(&self) -> Result<usize, TopicError> {
        let rows = self.timestamps.len();
        let headers_fit = self.headers.as_ref().is_none_or(|h| h.len() == rows && *h.data_type() == headers_type());
        if self.keys.len() == rows && self.values.len() == rows && headers_fit {
            return Ok(rows);
        }
        Err(TopicError::Invalid(format!("columns of an append to '{}' differ in length or type", self.to)))
    }
}

/// As [`RawBatch::rows_within`], on the columns themselves; `max_rows` must fit the columns.
pub(super) fn rows_within(
    keys: &BinaryArray,
    values: &BinaryArray,
    from: usize,
    max_rows: usize,
    max_bytes: usize,
    at_least_one: bool,
) -> usize {
    let fits = |rows: usize| bytes_between(keys, from, rows) + bytes_between(values, from, rows) <= max_bytes;
    if fits(max_rows) {
        return max_rows;
    }
    // Sizes grow with the rows, so the first count that does not fit is found by bisection.
    let (mut low, mut high) = (0, max_rows);
    while low + 1 < high {
        let middle = usize::midpoint(low, high);
        if fits(middle) { low = middle } else { high = middle }
    }
    low.max(usize::from(at_least_one && max_rows > 0))
}

/// An empty list of headers for each of `rows` records.
pub(super) fn no_headers(rows: usize) -> ArrayRef {
    let DataType::List(item) = headers_type() else { unreachable!("headers are a list") };
    let fields = header_fields();
    let empty = StructArray::new_null(fields, 0);
    Arc::new(ListArray::new(item, OffsetBuffer::new_zeroed(rows), Arc::new(empty), None))
}

/// The fields of one header: KEY and VALUE.
pub(super) fn header_fields() -> Fields {
    match headers_type() {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => fields.clone(),
            _ => Fields::empty(),
        },
        _ => Fields::empty(),
    }
}

pub(super) fn bytes_between(column: &BinaryArray, from: usize, rows: usize) -> usize {
    let offsets = column.value_offsets();
    (offsets[from + rows] - offsets[from]) as usize
}

fn concat_numbers<'a>(rows: usize, parts: impl Iterator<Item = &'a ScalarBuffer<i64>>) -> ScalarBuffer<i64> {
    let mut all = Vec::with_capacity(rows);
    parts.for_each(|part| all.extend_from_slice(part));
    all.into()
}

fn concat_binary<'a>(parts: impl Iterator<Item = &'a dyn Array>) -> Result<BinaryArray, TopicError> {
    let parts: Vec<&dyn Array> = parts.collect();
    let all = compute::concat(&parts).map_err(|e| TopicError::Invalid(format!("records do not join: {e}")))?;
    Ok(as_binary(all.as_ref()))
}

fn as_binary(array: &dyn Array) -> BinaryArray {
    array.as_any().downcast_ref::<BinaryArray>().expect("a kernel keeps the type of its input").clone()
}

fn concat_headers(batches: &[RawBatch]) -> Result<Option<ArrayRef>, TopicError> {
    if batches.iter().all(|b| b.headers.is_none()) {
        return Ok(None);
    }
    let parts: Vec<ArrayRef> =
        batches.iter().map(|b| b.headers.clone().unwrap_or_else(|| no_headers(b.len()))).collect();
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    compute::concat(&parts).map(Some).map_err(|e| TopicError::Invalid(format!("headers do not join: {e}")))
}

fn concat_arrivals(rows: usize, batches: &[RawBatch]) -> Option<ScalarBuffer<i64>> {
    let parts: Option<Vec<_>> = batches.iter().map(|b| b.arrivals.as_ref()).collect();
    parts.map(|parts| concat_numbers(rows, parts.into_iter()))
}

fn columns_differ(error: arrow::error::ArrowError) -> TopicError {
    TopicError::Invalid(format!("columns of a batch differ in length: {error}"))
}
