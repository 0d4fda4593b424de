//! CSV lines to columns: cuts every line into fields, then reads column after column.
//!
//! Uses no schema while cutting. The subtle thing: only the first record of a payload counts, and blank lines before it do not.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int32Type, Int64Type, Time32MillisecondType,
    TimestampMillisecondType,
};

use crate::format::byte_rows::ByteRows;
use crate::format::number::{DecimalFault, parse_decimal128, parse_decimal256, parse_i32, parse_i64, parse_java_f64};
use crate::format::settle::{present, settle};
use crate::format::text::{decimal_misfit, parse_base64, time_of_day};
use crate::format::{DecodeFailure, Decoded, RecordDecoder};
use crate::types::{Column, SqlType, backquoted};

/// Decodes CSV payloads into the wanted columns.
pub(super) struct DelimitedDecoder {
    delimiter: char,
    /// number of fields of a line
    expected: usize,
    /// for each field the wanted column it fills, if any
    slot_of: Vec<Option<usize>>,
    columns: Vec<Column>,
    /// for each wanted column its fields; kept between calls for their memory
    slots: Vec<Vec<FieldSpan>>,
}

impl DelimitedDecoder {
    pub(super) fn new(columns: &[Column], wanted: &[usize], delimiter: char) -> Self {
        debug_assert!((1..wanted.len()).all(|i| !wanted[..i].contains(&wanted[i])), "each column is wanted once");
        let slot_of = (0..columns.len()).map(|i| wanted.iter().position(|&w| w == i)).collect();
        Self {
            delimiter,
            expected: columns.len(),
            slot_of,
            columns: wanted.iter().map(|&i| columns[i].clone()).collect(),
            slots: vec![Vec::new(); wanted.len()],
        }
    }

    fn cut(&mut self, text: &str, start: usize, row: usize) -> Result<(), String> {
        let mut count = 0;
        let mut fields = Fields::new(text, self.delimiter);
        while let Some(field) = fields.next().transpose()? {
            if let Some(Some(slot)) = self.slot_of.get(count) {
                self.slots[*slot][row] = field.shift(start);
            }
            count += 1;
        }
        match count {
            0 => Err("No fields in record".to_owned()),
            got if got == self.expected => Ok(()),
            got => Err(format!("Column count mismatch on deserialization. expected: {}, got: {got}", self.expected)),
        }
    }
}

impl RecordDecoder for DelimitedDecoder {
    fn decode(&mut self, payloads: &BinaryArray) -> Decoded {
        let rows = payloads.len();
        for slot in &mut self.slots {
            slot.clear();
            slot.resize(rows, FieldSpan::EMPTY);
        }
        let mut failures = Vec::new();
        let mut absent = Vec::new();
        for row in 0..rows {
            if payloads.is_null(row) {
                absent.push(row);
                continue;
            }
            let start = payloads.value_offsets()[row] as usize;
            let cut = match std::str::from_utf8(payloads.value(row)) {
                Ok(text) => self.cut(text, start, row),
                Err(error) => Err(format!("invalid UTF-8 at byte {}", error.valid_up_to())),
            };
            if let Err(reason) = cut {
                self.slots.iter_mut().for_each(|slot| slot[row] = FieldSpan::EMPTY);
                failures.push(DecodeFailure { row, reason });
            }
        }
        let bytes: &[u8] = payloads.value_data();
        let read = |(column, spans): (&Column, &Vec<FieldSpan>)| {
            ColumnReader { bytes, spans, column, failures: &mut failures }.read()
        };
        let mut columns = self.columns.iter().zip(&self.slots).map(read).collect::<Vec<_>>();
        settle(&mut failures, &mut columns, rows);
        Decoded { columns, present: present(&absent, rows), failures }
    }
}

/// Where a field stands, without its quotes.
#[derive(Clone, Copy)]
struct FieldSpan {
    start: u32,
    /// top bit: there are doubled quotes inside
    end: u32,
}

const DOUBLED: u32 = 1 << 31;

impl FieldSpan {
    const EMPTY: Self = Self { start: 0, end: 0 };

    fn new(start: usize, end: usize, doubled: bool) -> Self {
        Self { start: start as u32, end: end as u32 | if doubled { DOUBLED } else { 0 } }
    }

    fn shift(self, by: usize) -> Self {
        Self { start: self.start + by as u32, end: self.end + by as u32 }
    }

    /// Hands the text of the field to `read`, by reference in nearly all cases; `None` if it is empty, which is NULL.
    #[inline(always)]
    fn read<R>(self, bytes: &[u8], read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let text = &bytes[self.start as usize..(self.end & !DOUBLED) as usize];
        let single;
        let text = if self.end & DOUBLED == 0 {
            text
        } else {
            single = undoubled(text);
            &single
        };
        (!text.is_empty()).then(|| read(text))
    }
}

/// The text with one quote where two stand.
#[cold]
fn undoubled(text: &[u8]) -> Vec<u8> {
    let mut single = Vec::with_capacity(text.len());
    let mut quote_before = false;
    for &byte in text {
        quote_before = byte == b'"' && !quote_before;
        if !quote_before {
            single.push(byte);
        }
    }
    single
}

/// The fields of the first record of a text.
struct Fields<'a> {
    text: &'a str,
    delimiter: char,
    /// where the next field starts; `None` after the record's end
    at: Option<usize>,
}

impl<'a> Fields<'a> {
    fn new(text: &'a str, delimiter: char) -> Self {
        let first = text.find(|c| c != '\n' && c != '\r');
        Self { text, delimiter, at: first }
    }

    /// Goes past the delimiter or the line end at `end`.
    fn advance(&mut self, end: usize) {
        // one byte is looked at where it is enough: `starts_with` calls memcmp for it
        let more = match self.delimiter.is_ascii() {
            true => self.text.as_bytes().get(end) == Some(&(self.delimiter as u8)),
            false => self.text[end..].starts_with(self.delimiter),
        };
        self.at = more.then(|| end + self.delimiter.len_utf8());
    }

    fn plain(&mut self, start: usize) -> FieldSpan {
        let rest = &self.text.as_bytes()[start..];
        let end = if self.delimiter.is_ascii() {
            memchr::memchr3(self.delimiter as u8, b'\n', b'\r', rest)
        } else {
            self.text[start..].find([self.delimiter, '\n', '\r'])
        };
        let end = start + end.unwrap_or(rest.len());
        self.advance(end);
        FieldSpan::new(start, end, false)
    }

    fn quoted(&mut self, start: usize) -> Result<FieldSpan, String> {
        let bytes = self.text.as_bytes();
        let mut doubled = false;
        let mut from = start;
        let end = loop {
            let Some(quote) = memchr::memchr(b'"', &bytes[from..]).map(|i| from + i) else {
                return Err("the text ends within a quoted field".to_owned());
            };
            if bytes.get(quote + 1) != Some(&b'"') {
                break quote;
            }
            doubled = true;
            from = quote + 2;
        };
        let after = &self.text[end + 1..];
        let stop = |c: char| c == self.delimiter || c == '\n' || c == '\r' || !c.is_whitespace();
        let next = end + 1 + after.find(stop).unwrap_or(after.len());
        match self.text[next..].chars().next() {
            None | Some('\n' | '\r') => {}
            Some(c) if c == self.delimiter => {}
            Some(_) => return Err("text between the end of a quoted field and the delimiter".to_owned()),
        }
        self.advance(next);
        Ok(FieldSpan::new(start, end, doubled))
    }
}

impl Iterator for Fields<'_> {
    type Item = Result<FieldSpan, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at?;
        Some(match self.text.as_bytes().get(start) {
            Some(b'"') => self.quoted(start + 1),
            _ => Ok(self.plain(start)),
        })
    }
}

/// Reads the fields of one column as its type.
struct ColumnReader<'a> {
    bytes: &'a [u8],
    spans: &'a [FieldSpan],
    column: &'a Column,
    failures: &'a mut Vec<DecodeFailure>,
}

impl ColumnReader<'_> {
    fn read(self) -> ArrayRef {
        match self.column.ty {
            SqlType::Boolean => {
                let read = |span: &FieldSpan| span.read(self.bytes, |text| text.eq_ignore_ascii_case(b"true"));
                Arc::new(self.spans.iter().map(read).collect::<BooleanArray>())
            }
            SqlType::Int => Arc::new(self.primitives::<Int32Type>(|text| parse_i32(text).ok_or(None))),
            SqlType::BigInt => Arc::new(self.primitives::<Int64Type>(|text| parse_i64(text).ok_or(None))),
            SqlType::Double => Arc::new(self.primitives::<Float64Type>(|text| parse_java_f64(text).ok_or(None))),
            SqlType::Date => Arc::new(self.primitives::<Date32Type>(|text| parse_i32(text).ok_or(None))),
            SqlType::Timestamp => {
                Arc::new(self.primitives::<TimestampMillisecondType>(|text| parse_i64(text).ok_or(None)))
            }
            SqlType::Time => {
                Arc::new(self.primitives::<Time32MillisecondType>(|text| {
                    time_of_day(parse_i64(text).ok_or(None)?).map_err(Some)
                }))
            }
            SqlType::Decimal(p, s) if p <= 38 => {
                let read = |text: &[u8]| parse_decimal128(text, p, s).map_err(|fault| misfit(fault, text, p, s));
                Arc::new(self.primitives::<Decimal128Type>(read).with_data_type(DataType::Decimal128(p, s as i8)))
            }
            SqlType::Decimal(p, s) => {
                let read = |text: &[u8]| parse_decimal256(text, p, s).map_err(|fault| misfit(fault, text, p, s));
                Arc::new(self.primitives::<Decimal256Type>(read).with_data_type(DataType::Decimal256(p, s as i8)))
            }
            SqlType::Bytes => Arc::new(self.rows(|text| parse_base64(text).map(Cow::Owned)).into_binary()),
            _ => Arc::new(self.rows(|text| Some(Cow::Borrowed(text))).into_strings()),
        }
    }

    /// `parse` fails with the reason, or without one if the text is just no value of the type.
    fn primitives<T: ArrowPrimitiveType>(
        mut self,
        parse: impl Fn(&[u8]) -> Result<T::Native, Option<String>>,
    ) -> PrimitiveArray<T> {
        let spans = self.spans;
        let bytes = self.bytes;
        let mut read = |(row, span): (usize, &FieldSpan)| {
            span.read(bytes, |text| parse(text).map_err(|reason| self.fail(row, text, reason)).ok()).flatten()
        };
        spans.iter().enumerate().map(&mut read).collect()
    }

    fn rows(mut self, parse: impl for<'t> Fn(&'t [u8]) -> Option<Cow<'t, [u8]>>) -> ByteRows {
        let mut rows = ByteRows::with_capacity(self.spans.len(), self.spans.len() * 16);
        for (row, span) in self.spans.iter().enumerate() {
            let bytes = self.bytes;
            let read = span.read(bytes, |text| match parse(text) {
                Some(value) => rows.append(&value),
                None => {
                    rows.append_null();
                    self.fail(row, text, None);
                }
            });
            if read.is_none() {
                rows.append_null();
            }
        }
        rows
    }

    #[cold]
    fn fail(&mut self, row: usize, text: &[u8], reason: Option<String>) {
        let read = || format!("Cannot read '{}' as {}", String::from_utf8_lossy(text), self.column.ty);
        let why = reason.unwrap_or_else(read);
        let reason = format!("{why}, column: {}", backquoted(self.column.name.as_str()));
        self.failures.push(DecodeFailure { row, reason });
    }
}

fn misfit(fault: DecimalFault, text: &[u8], precision: u8, scale: u8) -> Option<String> {
    match fault {
        DecimalFault::NotANumber => None,
        DecimalFault::DoesNotFit => Some(decimal_misfit(text, precision, scale)),
    }
}
