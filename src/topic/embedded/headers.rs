//! Record headers in a block: row by row, since few records have any.
//!
//! For each record a count, then per header the key's length and bytes, and the value's length (−1 for NULL) and bytes; all
//! numbers are 32 bits, little endian. The subtle thing: a record without headers and one with NULL for them are the same.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, ListArray, StringBuilder, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};

use super::block::Rows;
use crate::topic::batch::header_fields;

/// The headers of the rows as bytes, part after part; `None` if no record has any.
pub(super) fn encode(parts: &[Rows<'_>]) -> Option<Vec<u8>> {
    let lists = |part: &Rows<'_>| part.batch.headers.as_ref().map(|h| h.as_list::<i32>().slice(part.from, part.len));
    let lists: Vec<(usize, Option<ListArray>)> = parts.iter().map(|part| (part.len, lists(part))).collect();
    if lists.iter().filter_map(|(_, lists)| lists.as_ref()).all(are_empty) {
        return None;
    }
    let mut out = Vec::new();
    for (rows, lists) in &lists {
        match lists {
            Some(lists) => put_lists(&mut out, lists),
            None => out.resize(out.len() + rows * size_of::<i32>(), 0),
        }
    }
    Some(out)
}

fn are_empty(lists: &ListArray) -> bool {
    (0..lists.len()).all(|row| lists.is_null(row) || lists.value_length(row) == 0)
}

fn put_lists(out: &mut Vec<u8>, lists: &ListArray) {
    let all = lists.values().as_struct();
    let (keys, values) = (all.column(0).as_string::<i32>(), all.column(1).as_binary::<i32>());
    for row in 0..lists.len() {
        let from = lists.value_offsets()[row] as usize;
        let count = if lists.is_null(row) { 0 } else { lists.value_length(row) };
        out.extend_from_slice(&count.to_le_bytes());
        for header in from..from + count as usize {
            let key = if keys.is_null(header) { "" } else { keys.value(header) };
            put(out, Some(key.as_bytes()));
            put(out, values.is_valid(header).then(|| values.value(header)));
        }
    }
}

/// The headers of `rows` records; `None` if the bytes are not such.
pub(super) fn decode(mut bytes: &[u8], rows: usize) -> Option<ArrayRef> {
    let (mut keys, mut values) = (StringBuilder::new(), BinaryBuilder::new());
    let mut counts = Vec::with_capacity(rows);
    for _ in 0..rows {
        let count = usize::try_from(take_number(&mut bytes)?).ok()?;
        counts.push(count);
        for _ in 0..count {
            keys.append_value(std::str::from_utf8(take(&mut bytes)??).ok()?);
            values.append_option(take(&mut bytes)?);
        }
    }
    let fields = header_fields();
    let item = Arc::new(Field::new("item", DataType::Struct(fields.clone()), true));
    let all = StructArray::new(fields, vec![Arc::new(keys.finish()), Arc::new(values.finish())], None);
    Some(Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(counts), Arc::new(all), None)))
}

fn put(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.extend_from_slice(&bytes.map_or(-1, |b| b.len() as i32).to_le_bytes());
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn take_number(bytes: &mut &[u8]) -> Option<i32> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(i32::from_le_bytes(*number))
}

fn take<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let Ok(length) = usize::try_from(take_number(bytes)?) else { return Some(None) };
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(Some(taken))
}
