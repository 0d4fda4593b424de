//! The row encoding: value columns and row time as compact bytes. The format stands in [`super`].
//!
//! Keeps no order and no names: the store's physical identity knows the types. The subtle thing: an absent row is no bytes at all, which
//! is not a row of NULLs; the decoder keeps the difference as `present`.

use arrow::array::{ArrayRef, BooleanBufferBuilder};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, i256};

use crate::topic::TopicError;

use super::builder::{Builder, Cells, close_at};
use super::view::{Values, View, items_of};
use super::{Cursor, EncodedRows, ROW_VERSION, check_columns, damaged};

/// Bytes before the bits of the columns: version and row time.
const HEADER_BYTES: usize = 9;

/// Encodes and decodes rows of given column types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowCodec {
    types: Vec<DataType>,
}

/// Rows that came out of a store, in the order they were pushed.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedRows {
    /// the columns; NULL where the row is absent
    pub columns: Vec<ArrayRef>,
    /// row times in ms; 0 where the row is absent
    pub rowtime: ScalarBuffer<i64>,
    /// which rows exist; `None`: all
    pub present: Option<BooleanBuffer>,
}

impl RowCodec {
    /// The codec for rows of these types; there may be none.
    ///
    /// # Errors
    /// [`TopicError::Invalid`] for an Arrow type that no SQL type stands in.
    pub fn new(types: &[DataType]) -> Result<Self, TopicError> {
        types.iter().try_for_each(|t| Builder::new(t, 0).map(drop))?;
        Ok(Self { types: types.to_vec() })
    }

    /// The types of the columns.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// The rows of these columns, with their row times in ms; as many as there are row times.
    ///
    /// # Errors
    /// [`TopicError::Invalid`] if the columns do not fit.
    pub fn encode(&self, columns: &[ArrayRef], rowtimes: &[i64]) -> Result<EncodedRows, TopicError> {
        check_columns("rows", &self.types, columns, rowtimes.len())?;
        let views = columns.iter().map(View::new).collect::<Result<Vec<_>, _>>()?;
        let mut out = EncodedRows::with_capacity(rowtimes.len(), rowtimes.len() * (HEADER_BYTES + 8 * views.len()));
        for (i, rowtime) in rowtimes.iter().enumerate() {
            out.bytes.push(ROW_VERSION);
            out.bytes.extend_from_slice(&rowtime.to_le_bytes());
            encode_fields(&views, i, &mut out.bytes);
            out.close();
        }
        Ok(out)
    }

    /// The row time of an encoded row, in ms.
    ///
    /// # Errors
    /// [`TopicError::Corrupt`] if it is no row of a known version.
    pub fn rowtime(row: &[u8]) -> Result<i64, TopicError> {
        header(&mut Cursor { bytes: row })
    }

    /// A decoder with room for `rows` rows.
    pub fn decoder(&self, rows: usize) -> RowDecoder {
        let builders = self.types.iter().map(|t| Builder::new(t, rows).expect("RowCodec::new has tried these types"));
        RowDecoder { builders: builders.collect(), rowtime: Vec::with_capacity(rows), present: None }
    }

    /// The columns of these rows; `None` is an absent one.
    ///
    /// # Errors
    /// [`TopicError::Corrupt`] if a row does not read back.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = Option<&'a [u8]>>) -> Result<DecodedRows, TopicError> {
        let rows = rows.into_iter();
        let mut decoder = self.decoder(rows.size_hint().0);
        for row in rows {
            match row {
                Some(row) => decoder.push(row)?,
                None => decoder.push_absent(),
            }
        }
        decoder.finish()
    }
}

/// Collects encoded rows into columns.
pub struct RowDecoder {
    builders: Vec<Builder>,
    rowtime: Vec<i64>,
    present: Option<BooleanBufferBuilder>,
}

impl RowDecoder {
    /// Number of rows so far.
    pub fn len(&self) -> usize {
        self.rowtime.len()
    }

    /// True before the first row.
    pub fn is_empty(&self) -> bool {
        self.rowtime.is_empty()
    }

    /// Appends a row.
    ///
    /// # Errors
    /// [`TopicError::Corrupt`] if it does not read back; the decoder is then of no more use.
    pub fn push(&mut self, row: &[u8]) -> Result<(), TopicError> {
        let mut cursor = Cursor { bytes: row };
        self.rowtime.push(header(&mut cursor)?);
        decode_fields(&mut cursor, &mut self.builders)?;
        cursor.end()?;
        if let Some(present) = &mut self.present {
            present.append(true);
        }
        Ok(())
    }

    /// Appends an absent row: NULL in all columns.
    pub fn push_absent(&mut self) {
        let len = self.rowtime.len();
        let present = self.present.get_or_insert_with(|| {
            let mut bits = BooleanBufferBuilder::new(len.max(64));
            bits.append_n(len, true);
            bits
        });
        present.append(false);
        self.builders.iter_mut().for_each(Builder::push_null);
        self.rowtime.push(0);
    }

    /// The rows.
    ///
    /// # Errors
    /// [`TopicError::Corrupt`] if text does not read back.
    pub fn finish(self) -> Result<DecodedRows, TopicError> {
        Ok(DecodedRows {
            columns: self.builders.into_iter().map(Builder::finish).collect::<Result<_, _>>()?,
            rowtime: ScalarBuffer::from(self.rowtime),
            present: self.present.map(|mut bits| bits.finish()),
        })
    }
}

fn header(cursor: &mut Cursor<'_>) -> Result<i64, TopicError> {
    match cursor.byte()? {
        ROW_VERSION => Ok(i64::from_le_bytes(cursor.array()?)),
        other => Err(damaged(format!("a stored row has version {other}, this riverrun reads version {ROW_VERSION}"))),
    }
}

/// Bits of `count` cells, then those cells that are not NULL.
fn encode_cells<'v, 'a: 'v>(cells: impl Iterator<Item = (&'v View<'a>, usize)>, count: usize, out: &mut Vec<u8>) {
    let bits_at = out.len();
    out.resize(bits_at + count.div_ceil(8), 0);
    for (n, (view, i)) in cells.enumerate() {
        if !view.is_null(i) {
            out[bits_at + n / 8] |= 1 << (n % 8);
            encode_cell(view, i, out);
        }
    }
}

fn encode_fields(fields: &[View<'_>], i: usize, out: &mut Vec<u8>) {
    encode_cells(fields.iter().map(|f| (f, i)), fields.len(), out);
}

fn encode_cell(view: &View<'_>, i: usize, out: &mut Vec<u8>) {
    match &view.values {
        Values::Boolean(bits) => out.push(u8::from(bits.value(i))),
        Values::I32(values) => push_varint(zigzag(i64::from(values[i])), out),
        Values::I64(values) => push_varint(zigzag(values[i]), out),
        Values::I128(values) => push_decimal(&values[i].to_be_bytes(), out),
        Values::I256(values) => push_decimal(&values[i].to_be_bytes(), out),
        Values::F64(values) => out.extend_from_slice(&values[i].to_bits().to_le_bytes()),
        Values::Bytes { offsets, data } => {
            let bytes = &data[items_of(offsets, i)];
            push_varint(bytes.len() as u64, out);
            out.extend_from_slice(bytes);
        }
        Values::List { offsets, items } => {
            let range = items_of(offsets, i);
            push_varint(range.len() as u64, out);
            encode_cells(range.clone().map(|item| (items.as_ref(), item)), range.len(), out);
        }
        Values::Struct(fields) => encode_fields(fields, i, out),
        Values::Map { offsets, keys, values } => {
            let range = items_of(offsets, i);
            push_varint(range.len() as u64, out);
            range.clone().for_each(|item| encode_cell(keys, item, out));
            encode_cells(range.clone().map(|item| (values.as_ref(), item)), range.len(), out);
        }
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn push_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn push_decimal(big_endian: &[u8], out: &mut Vec<u8>) {
    let sign = if big_endian[0] & 0x80 == 0 { 0x00 } else { 0xff };
    let redundant = big_endian.windows(2).take_while(|w| w[0] == sign && (w[1] ^ sign) & 0x80 == 0).count();
    let bytes = &big_endian[redundant..];
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

fn decode_fields(cursor: &mut Cursor<'_>, fields: &mut [Builder]) -> Result<(), TopicError> {
    let bits = cursor.take(fields.len().div_ceil(8))?;
    for (n, field) in fields.iter_mut().enumerate() {
        decode_or_null(cursor, bits, n, field)?;
    }
    Ok(())
}

fn decode_or_null(cursor: &mut Cursor<'_>, bits: &[u8], n: usize, out: &mut Builder) -> Result<(), TopicError> {
    if bits[n / 8] & (1 << (n % 8)) == 0 {
        out.push_null();
        return Ok(());
    }
    decode_cell(cursor, out)
}

fn decode_items(cursor: &mut Cursor<'_>, count: usize, items: &mut Builder) -> Result<(), TopicError> {
    let bits = cursor.take(count.div_ceil(8))?;
    (0..count).try_for_each(|n| decode_or_null(cursor, bits, n, items))
}

fn decode_cell(cursor: &mut Cursor<'_>, out: &mut Builder) -> Result<(), TopicError> {
    match &mut out.cells {
        Cells::Boolean(bits) => bits.append(cursor.byte()? != 0),
        Cells::I32(values) => {
            let value = unzigzag(cursor.varint()?);
            values.push(i32::try_from(value).map_err(|_| damaged("a stored INTEGER is out of range"))?);
        }
        Cells::I64(values) => values.push(unzigzag(cursor.varint()?)),
        Cells::I128(values) => values.push(i128::from_be_bytes(take_decimal(cursor)?)),
        Cells::I256(values) => values.push(i256::from_be_bytes(take_decimal(cursor)?)),
        Cells::F64(values) => values.push(f64::from_bits(u64::from_le_bytes(cursor.array()?))),
        Cells::Bytes { ends, data } => {
            let len = usize::try_from(cursor.varint()?).map_err(|_| damaged("stored text is too long"))?;
            data.extend_from_slice(cursor.take(len)?);
            close_at(ends, data.len())?;
        }
        Cells::List { ends, items } => {
            let count = cursor.count()?;
            decode_items(cursor, count, items)?;
            close_at(ends, items.len())?;
        }
        Cells::Struct(fields) => decode_fields(cursor, fields)?,
        Cells::Map { ends, keys, values } => {
            let count = cursor.count()?;
            (0..count).try_for_each(|_| decode_cell(cursor, keys))?;
            decode_items(cursor, count, values)?;
            close_at(ends, keys.len())?;
        }
    }
    out.close();
    Ok(())
}

fn take_decimal<const N: usize>(cursor: &mut Cursor<'_>) -> Result<[u8; N], TopicError> {
    let len = usize::from(cursor.byte()?);
    let bytes = cursor.take(len)?;
    if len == 0 || len > N {
        return Err(damaged(format!("a stored DECIMAL has {len} bytes")));
    }
    let mut full = [if bytes[0] & 0x80 == 0 { 0x00 } else { 0xff }; N];
    full[N - len..].copy_from_slice(bytes);
    Ok(full)
}
