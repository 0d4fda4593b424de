//! Columns to CSV lines, quoted where commons-csv 1.4 quotes in its minimal mode.
//!
//! Writes no line end. The subtle thing: the first field of a line is quoted already when it starts with anything but a letter
//! or digit, so a negative number there is written `"-1"`.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int32Type, Int64Type, Time32MillisecondType,
    TimestampMillisecondType,
};

use crate::format::byte_rows::ByteRows;
use crate::format::text::{push_base64, push_decimal128, push_decimal256, push_integer, push_java_double};
use crate::format::{DecodeFailure, Encoded, RecordEncoder};

/// Bytes a field is taken for when the buffer is made.
const FIELD_BYTES: usize = 12;

/// Encodes rows as CSV payloads.
pub(super) struct DelimitedEncoder {
    width: usize,
    /// the delimiter in UTF-8
    delimiter: Vec<u8>,
}

impl DelimitedEncoder {
    pub(super) fn new(width: usize, delimiter: char) -> Self {
        Self { width, delimiter: delimiter.to_string().into_bytes() }
    }

    fn write_row(&self, fields: &[FieldWriter<'_>], row: usize, out: &mut Vec<u8>) {
        for (i, field) in fields.iter().enumerate() {
            if i > 0 {
                out.extend_from_slice(&self.delimiter);
            }
            if field.array.is_null(row) {
                continue;
            }
            let from = out.len();
            (field.write)(field.array, row, out);
            if self.needs_quotes(&out[from..], i == 0) {
                quote(out, from);
            }
        }
    }

    fn needs_quotes(&self, text: &[u8], first_in_line: bool) -> bool {
        let (Some(&first), Some(&last)) = (text.first(), text.last()) else { return first_in_line };
        let breaks = |&byte: &u8| byte == b'"' || byte == b'\n' || byte == b'\r';
        let delimited = match self.delimiter.as_slice() {
            [delimiter] => text.contains(delimiter),
            delimiter => memchr::memmem::find(text, delimiter).is_some(),
        };
        (first_in_line && !first.is_ascii_alphanumeric())
            || first <= b'#'
            || last <= b' '
            || delimited
            || text.iter().any(breaks)
    }
}

impl RecordEncoder for DelimitedEncoder {
    fn encode(&mut self, columns: &[ArrayRef], present: Option<&BooleanBuffer>, rows: usize) -> Encoded {
        let fields: Vec<_> = columns.iter().map(FieldWriter::new).collect();
        // A lone NULL would be an empty payload, which cannot be read back.
        let lone = if self.width == 1 { columns.first() } else { None };
        let mut payloads = ByteRows::with_capacity(rows, rows * self.width * FIELD_BYTES);
        let mut failures = Vec::new();
        for row in 0..rows {
            if present.is_some_and(|p| !p.value(row)) || lone.is_some_and(|column| column.is_null(row)) {
                payloads.append_null();
                continue;
            }
            let written: Result<(), &str> = payloads.append_with(|out| {
                self.write_row(&fields, row, out);
                Ok(())
            });
            if let Err(reason) = written {
                failures.push(DecodeFailure { row, reason: reason.to_owned() });
            }
        }
        Encoded { payloads: payloads.into_binary(), failures }
    }
}

/// Puts quotes around the text from `from` on, and doubles those inside.
#[cold]
fn quote(out: &mut Vec<u8>, from: usize) {
    let text = out.split_off(from);
    out.push(b'"');
    for byte in text {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// A column and how its values are written.
struct FieldWriter<'a> {
    array: &'a ArrayRef,
    write: fn(&ArrayRef, usize, &mut Vec<u8>),
}

impl<'a> FieldWriter<'a> {
    /// # Panics
    /// If the column is not of the type the encoder was made for: a bug of the caller.
    fn new(array: &'a ArrayRef) -> Self {
        let write: fn(&ArrayRef, usize, &mut Vec<u8>) = match array.data_type() {
            DataType::Boolean => |a, row, out| {
                out.extend_from_slice(if a.as_boolean().value(row) { b"true" } else { b"false" });
            },
            DataType::Int32 => |a, row, out| push_integer(a.as_primitive::<Int32Type>().value(row), out),
            DataType::Int64 => |a, row, out| push_integer(a.as_primitive::<Int64Type>().value(row), out),
            DataType::Date32 => |a, row, out| push_integer(a.as_primitive::<Date32Type>().value(row), out),
            DataType::Time32(_) => {
                |a, row, out| push_integer(a.as_primitive::<Time32MillisecondType>().value(row), out)
            }
            DataType::Timestamp(..) => {
                |a, row, out| push_integer(a.as_primitive::<TimestampMillisecondType>().value(row), out)
            }
            DataType::Float64 => |a, row, out| push_java_double(a.as_primitive::<Float64Type>().value(row), out),
            DataType::Decimal128(..) => |a, row, out| {
                let column = a.as_primitive::<Decimal128Type>();
                push_decimal128(column.value(row), column.scale() as u8, out);
            },
            DataType::Decimal256(..) => |a, row, out| {
                let column = a.as_primitive::<Decimal256Type>();
                push_decimal256(column.value(row), column.scale() as u8, out);
            },
            DataType::Binary => |a, row, out| {
                let column: &BinaryArray = a.as_binary();
                push_base64(column.value(row), out);
            },
            DataType::Utf8 => |a, row, out| out.extend_from_slice(a.as_string::<i32>().value(row).as_bytes()),
            other => unreachable!("DELIMITED cannot hold {other}, which the analysis has checked"),
        };
        Self { array, write }
    }
}
