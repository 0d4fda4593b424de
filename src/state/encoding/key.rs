//! The key encoding: order-preserving bytes of rows over the key columns. The format stands in [`super`].
//!
//! Knows nothing of stores. The subtle thing: every encoding ends by itself, so that columns and windows can follow each other and no
//! key is a prefix of another of the same shape.

use arrow::array::ArrayRef;
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, TimeUnit, i256};

use crate::topic::TopicError;
use crate::types::WindowBounds;

use super::builder::{Builder, Cells, close_at};
use super::view::{Values, View, items_of};
use super::{Cursor, EncodedRows, check_columns, damaged, unsupported};

const NULL: u8 = 0;
const VALUE: u8 = 1;
const SIGN_32: u32 = 1 << 31;
const SIGN_64: u64 = 1 << 63;
const SIGN_128: u128 = 1 << 127;
const CANONICAL_NAN: u64 = 0x7ff8_0000_0000_0000;
/// Bytes of the window at the end of a windowed key.
const WINDOW_BYTES: usize = 16;

/// Encodes and decodes keys of given column types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCodec {
    types: Vec<DataType>,
}

impl KeyCodec {
    /// The codec for key columns of these types.
    ///
    /// # Errors
    /// [`TopicError::Invalid`] for a MAP, or a type that no SQL type stands in.
    pub fn new(types: &[DataType]) -> Result<Self, TopicError> {
        types.iter().try_for_each(check_type)?;
        Ok(Self { types: types.to_vec() })
    }

    /// The types of the key columns.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// The keys of `rows` rows.
    ///
    /// # Errors
    /// [`TopicError::Invalid`] if the columns do not fit.
    pub fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<EncodedRows, TopicError> {
        self.encode_windowed(columns, rows, None)
    }

    /// The keys of `rows` rows, with their windows if there are any.
    ///
    /// # Errors
    /// [`TopicError::Invalid`] if the columns do not fit.
    pub fn encode_windowed(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        windows: Option<&WindowBounds>,
    ) -> Result<EncodedRows, TopicError> {
        check_columns("keys", &self.types, columns, rows)?;
        let views = columns.iter().map(View::new).collect::<Result<Vec<_>, _>>()?;
        if let (None, [view]) = (windows, views.as_slice()) {
            match &view.values {
                Values::Bytes { offsets, data } if !view.has_nulls() => return Ok(encode_text(offsets, data, rows)),
                Values::I64(values) if !view.has_nulls() => return Ok(encode_numbers(values)),
                _ => {}
            }
        }
        let mut out = EncodedRows::with_capacity(rows, rows * (12 * self.types.len() + 16));
        for i in 0..rows {
            views.iter().for_each(|view| encode_cell(view, i, &mut out.bytes));
            if let Some(windows) = windows {
                push_window(&mut out.bytes, windows.start[i], windows.end[i]);
            }
            out.close();
        }
        Ok(out)
    }

    /// The key columns of these keys, without windows.
    ///
    /// # Errors
    /// [`TopicError::Corrupt`] if a key does not read back.
    pub fn decode<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, TopicError> {
        let keys = keys.into_iter();
        let mut builders = self.builders(keys.size_hint().0)?;
        for key in keys {
            let mut cursor = Cursor { bytes: key };
            builders.iter_mut().try_for_each(|b| decode_cell(&mut cursor, b))?;
            cursor.end()?;
        }
        builders.into_iter().map(Builder::finish).collect()
    }

    /// The key columns and windows of these windowed keys.
    ///
    /// # Errors
    /// [`TopicError::Corrupt`] if a key does not read back.
    pub fn decode_windowed<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(Vec<ArrayRef>, WindowBounds), TopicError> {
        let keys = keys.into_iter();
        let mut builders = self.builders(keys.size_hint().0)?;
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for key in keys {
            let (key, start, end) = split_window(key)?;
            let mut cursor = Cursor { bytes: key };
            builders.iter_mut().try_for_each(|b| decode_cell(&mut cursor, b))?;
            cursor.end()?;
            starts.push(start);
            ends.push(end);
        }
        let columns = builders.into_iter().map(Builder::finish).collect::<Result<_, _>>()?;
        Ok((columns, WindowBounds { start: ScalarBuffer::from(starts), end: ScalarBuffer::from(ends) }))
    }

    fn builders(&self, rows: usize) -> Result<Vec<Builder>, TopicError> {
        self.types.iter().map(|t| Builder::new(t, rows)).collect()
    }
}

/// Appends a window to a key: start and end in ms, so that keys sort by columns, then start, then end.
pub fn push_window(key: &mut Vec<u8>, start: i64, end: i64) {
    key.extend_from_slice(&(start as u64 ^ SIGN_64).to_be_bytes());
    key.extend_from_slice(&(end as u64 ^ SIGN_64).to_be_bytes());
}

/// Cuts a windowed key into key, start and end.
///
/// # Errors
/// [`TopicError::Corrupt`] if the key is too short for a window.
pub fn split_window(key: &[u8]) -> Result<(&[u8], i64, i64), TopicError> {
    let short = || damaged("a windowed key is too short");
    let (key, window) = key.split_at_checked(key.len().wrapping_sub(WINDOW_BYTES)).ok_or_else(short)?;
    let mut cursor = Cursor { bytes: window };
    let (start, end) = (u64::from_be_bytes(cursor.array()?), u64::from_be_bytes(cursor.array()?));
    Ok((key, (start ^ SIGN_64) as i64, (end ^ SIGN_64) as i64))
}

fn check_type(data_type: &DataType) -> Result<(), TopicError> {
    match data_type {
        DataType::Boolean
        | DataType::Int32
        | DataType::Date32
        | DataType::Time32(TimeUnit::Millisecond)
        | DataType::Int64
        | DataType::Timestamp(TimeUnit::Millisecond, None)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..)
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary => Ok(()),
        DataType::List(item) => check_type(item.data_type()),
        DataType::Struct(fields) => fields.iter().try_for_each(|f| check_type(f.data_type())),
        other => Err(unsupported("key", other)),
    }
}

fn encode_text(offsets: &[i32], data: &[u8], rows: usize) -> EncodedRows {
    let used = offsets.last().copied().unwrap_or(0) as usize - offsets.first().copied().unwrap_or(0) as usize;
    let mut out = EncodedRows::with_capacity(rows, used + 3 * rows);
    for i in 0..rows {
        out.bytes.push(VALUE);
        push_text(&data[items_of(offsets, i)], &mut out.bytes);
        out.close();
    }
    out
}

fn encode_numbers(values: &[i64]) -> EncodedRows {
    let mut out = EncodedRows::with_capacity(values.len(), 9 * values.len());
    for &value in values {
        let mut key = [VALUE; 9];
        key[1..].copy_from_slice(&(value as u64 ^ SIGN_64).to_be_bytes());
        out.bytes.extend_from_slice(&key);
        out.close();
    }
    out
}

fn encode_cell(view: &View<'_>, i: usize, out: &mut Vec<u8>) {
    if view.is_null(i) {
        out.push(NULL);
        return;
    }
    out.push(VALUE);
    match &view.values {
        Values::Boolean(bits) => out.push(u8::from(bits.value(i))),
        Values::I32(values) => out.extend_from_slice(&(values[i] as u32 ^ SIGN_32).to_be_bytes()),
        Values::I64(values) => out.extend_from_slice(&(values[i] as u64 ^ SIGN_64).to_be_bytes()),
        Values::I128(values) => out.extend_from_slice(&(values[i] as u128 ^ SIGN_128).to_be_bytes()),
        Values::I256(values) => {
            let mut bytes = values[i].to_be_bytes();
            bytes[0] ^= 0x80;
            out.extend_from_slice(&bytes);
        }
        Values::F64(values) => out.extend_from_slice(&float_bits(values[i]).to_be_bytes()),
        Values::Bytes { offsets, data } => push_text(&data[items_of(offsets, i)], out),
        Values::List { offsets, items } => {
            for item in items_of(offsets, i) {
                out.push(VALUE);
                encode_cell(items, item, out);
            }
            out.push(NULL);
        }
        Values::Struct(fields) => fields.iter().for_each(|field| encode_cell(field, i, out)),
        Values::Map { .. } => unreachable!("KeyCodec::new refuses maps"),
    }
}

fn push_text(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr(0, text) {
        out.extend_from_slice(&text[..=at]);
        out.push(0xff);
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
    out.extend_from_slice(&[0, 0]);
}

/// IEEE bits turned so that unsigned order is numeric order, −0 before 0, NaN last.
fn float_bits(value: f64) -> u64 {
    let bits = if value.is_nan() { CANONICAL_NAN } else { value.to_bits() };
    if bits & SIGN_64 == 0 { bits | SIGN_64 } else { !bits }
}

fn decode_cell(cursor: &mut Cursor<'_>, out: &mut Builder) -> Result<(), TopicError> {
    match cursor.byte()? {
        NULL => {
            out.push_null();
            return Ok(());
        }
        VALUE => {}
        other => return Err(damaged(format!("a key has the marker {other:#04x}"))),
    }
    match &mut out.cells {
        Cells::Boolean(bits) => bits.append(cursor.byte()? != 0),
        Cells::I32(values) => values.push((u32::from_be_bytes(cursor.array()?) ^ SIGN_32) as i32),
        Cells::I64(values) => values.push((u64::from_be_bytes(cursor.array()?) ^ SIGN_64) as i64),
        Cells::I128(values) => values.push((u128::from_be_bytes(cursor.array()?) ^ SIGN_128) as i128),
        Cells::I256(values) => {
            let mut bytes: [u8; 32] = cursor.array()?;
            bytes[0] ^= 0x80;
            values.push(i256::from_be_bytes(bytes));
        }
        Cells::F64(values) => {
            let bits = u64::from_be_bytes(cursor.array()?);
            values.push(f64::from_bits(if bits & SIGN_64 == 0 { !bits } else { bits & !SIGN_64 }));
        }
        Cells::Bytes { ends, data } => {
            take_text(cursor, data)?;
            close_at(ends, data.len())?;
        }
        Cells::List { ends, items } => {
            while cursor.byte()? == VALUE {
                decode_cell(cursor, items)?;
            }
            close_at(ends, items.len())?;
        }
        Cells::Struct(fields) => fields.iter_mut().try_for_each(|field| decode_cell(cursor, field))?,
        Cells::Map { .. } => return Err(damaged("a key cannot hold a map")),
    }
    out.close();
    Ok(())
}

fn take_text(cursor: &mut Cursor<'_>, data: &mut Vec<u8>) -> Result<(), TopicError> {
    loop {
        let at = memchr::memchr(0, cursor.bytes).ok_or_else(|| damaged("text in a key has no end"))?;
        let part = cursor.take(at)?;
        data.extend_from_slice(part);
        match cursor.array::<2>()? {
            [_, 0] => return Ok(()),
            [_, 0xff] => data.push(0),
            [_, other] => return Err(damaged(format!("text in a key has the escape {other:#04x}"))),
        }
    }
}
