//! KAFKA records: one column in the bytes of Kafka's own primitive serializers, big-endian, never wrapped.
//!
//! Has no framing: only the length tells a wrong type. The subtle thing: an empty STRING is an empty payload and not a NULL one.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, NullBufferBuilder, PrimitiveArray, StringArray,
};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};

use super::byte_rows::ByteRows;
use super::settle::settle;
use super::{DecodeFailure, Decoded, Encoded, FormatSpec, RecordDecoder, RecordEncoder, Side, none};
use crate::diagnostic::Diagnostic;
use crate::types::{Column, SqlType};

/// The decoder of KAFKA for the column of one side, built if its index (0) is in `wanted`.
///
/// # Errors
/// None: the caller has checked the columns.
pub fn decoder(
    _spec: &FormatSpec,
    _side: Side,
    columns: &[Column],
    wanted: &[usize],
) -> Result<Box<dyn RecordDecoder>, Diagnostic> {
    let Some(column) = columns.first() else { return Ok(none::decoder()) };
    Ok(Box::new(KafkaDecoder { ty: column.ty.clone(), copies: wanted.len() }))
}

/// The encoder of KAFKA for the column of one side.
///
/// # Errors
/// None: the caller has checked the columns.
pub fn encoder(_spec: &FormatSpec, _side: Side, columns: &[Column]) -> Result<Box<dyn RecordEncoder>, Diagnostic> {
    Ok(if columns.is_empty() { none::encoder() } else { Box::new(KafkaEncoder) })
}

struct KafkaDecoder {
    ty: SqlType,
    /// how often the one column is wanted: 0 or 1
    copies: usize,
}

impl RecordDecoder for KafkaDecoder {
    fn decode(&mut self, payloads: &BinaryArray) -> Decoded {
        let mut failures = Vec::new();
        let column: ArrayRef = match self.ty {
            SqlType::Int => Arc::new(numbers::<Int32Type, 4>(payloads, i32::from_be_bytes, &mut failures)),
            SqlType::BigInt => Arc::new(numbers::<Int64Type, 8>(payloads, i64::from_be_bytes, &mut failures)),
            SqlType::Double => Arc::new(numbers::<Float64Type, 8>(payloads, f64::from_be_bytes, &mut failures)),
            SqlType::String => strings(payloads, &mut failures),
            _ => Arc::new(payloads.clone()),
        };
        let mut columns = vec![column; self.copies];
        settle(&mut failures, &mut columns, payloads.len());
        let present = payloads.nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| nulls.inner().clone());
        Decoded { columns, present, failures }
    }
}

fn numbers<T: ArrowPrimitiveType, const LEN: usize>(
    payloads: &BinaryArray,
    read: impl Fn([u8; LEN]) -> T::Native,
    failures: &mut Vec<DecodeFailure>,
) -> PrimitiveArray<T> {
    let mut values = Vec::with_capacity(payloads.len());
    let mut nulls = NullBufferBuilder::new(payloads.len());
    for (row, payload) in payloads.iter().enumerate() {
        let bytes = payload.and_then(|payload| <[u8; LEN]>::try_from(payload).ok());
        values.push(bytes.map_or_else(T::Native::default, &read));
        nulls.append(bytes.is_some());
        if let (Some(payload), None) = (payload, bytes) {
            let ty = SqlType::from_arrow(&T::DATA_TYPE).map_or_else(String::new, |ty| ty.to_string());
            let reason = format!("a KAFKA {ty} has {LEN} bytes, the payload has {}", payload.len());
            failures.push(DecodeFailure { row, reason });
        }
    }
    PrimitiveArray::new(ScalarBuffer::from(values), nulls.finish())
}

/// Text shares the payloads' memory where all of it is UTF-8.
fn strings(payloads: &BinaryArray, failures: &mut Vec<DecodeFailure>) -> ArrayRef {
    if let Ok(strings) = StringArray::try_from_binary(payloads.clone()) {
        return Arc::new(strings);
    }
    let bytes = payloads.value_offsets()[payloads.len()] - payloads.value_offsets()[0];
    let mut rows = ByteRows::with_capacity(payloads.len(), bytes as usize);
    for (row, payload) in payloads.iter().enumerate() {
        match payload.map(|payload| (payload, std::str::from_utf8(payload))) {
            Some((payload, Ok(_))) => rows.append(payload),
            Some((_, Err(error))) => {
                rows.append_null();
                failures.push(DecodeFailure { row, reason: format!("invalid UTF-8 at byte {}", error.valid_up_to()) });
            }
            None => rows.append_null(),
        }
    }
    Arc::new(rows.into_strings())
}

struct KafkaEncoder;

impl RecordEncoder for KafkaEncoder {
    /// # Panics
    /// If the column is not of a type KAFKA holds: a bug of the caller.
    fn encode(&mut self, columns: &[ArrayRef], present: Option<&BooleanBuffer>, rows: usize) -> Encoded {
        let column = &columns[0];
        if let Some(payloads) = as_they_are(column, present) {
            return Encoded { payloads, failures: Vec::new() };
        }
        let write: &dyn Fn(usize, &mut Vec<u8>) = match column.data_type() {
            DataType::Int32 => &|row, out| out.extend(column.as_primitive::<Int32Type>().value(row).to_be_bytes()),
            DataType::Int64 => &|row, out| out.extend(column.as_primitive::<Int64Type>().value(row).to_be_bytes()),
            DataType::Float64 => &|row, out| out.extend(column.as_primitive::<Float64Type>().value(row).to_be_bytes()),
            DataType::Utf8 => &|row, out| out.extend_from_slice(column.as_string::<i32>().value(row).as_bytes()),
            DataType::Binary => &|row, out| out.extend_from_slice(column.as_binary::<i32>().value(row)),
            other => unreachable!("KAFKA cannot hold {other}, which the analysis has checked"),
        };
        let mut payloads = ByteRows::with_capacity(rows, rows * 8);
        let mut failures = Vec::new();
        for row in 0..rows {
            if present.is_some_and(|p| !p.value(row)) || column.is_null(row) {
                payloads.append_null();
                continue;
            }
            let written: Result<(), &str> = payloads.append_with(|out| {
                write(row, out);
                Ok(())
            });
            if let Err(reason) = written {
                failures.push(DecodeFailure { row, reason: reason.to_owned() });
            }
        }
        Encoded { payloads: payloads.into_binary(), failures }
    }
}

/// The column itself as payloads: its bytes are what Kafka's serializer writes. Not where rows are NULL, for those may hide bytes.
fn as_they_are(column: &ArrayRef, present: Option<&BooleanBuffer>) -> Option<BinaryArray> {
    if column.null_count() > 0 || present.is_some_and(|p| p.count_set_bits() < p.len()) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(BinaryArray::from(column.as_string::<i32>().clone())),
        DataType::Binary => Some(column.as_binary::<i32>().clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;
    use crate::format::testing::{column_values, decode_bytes, encode, failures};

    fn check(ty: SqlType, payload: &[u8], text: &str) {
        let spec = FormatSpec::new(Format::Kafka);
        let types = [ty];
        let decoded = decode_bytes(&spec, Side::Key, &types, &[Some(payload), None]);
        assert_eq!(column_values(&decoded.columns[0]), [text, "NULL"]);
        assert!(decoded.present.is_some_and(|p| p.iter().eq([true, false])));
        let encoded = encode(&spec, Side::Key, &types, &decoded.columns, 2);
        assert_eq!(encoded.payloads, BinaryArray::from(vec![Some(payload), None]));
    }

    #[test]
    fn each_type_both_ways() {
        check(SqlType::Int, &[0xff, 0xff, 0xff, 0xfe], "-2");
        check(SqlType::BigInt, &[0, 0, 0, 0, 0, 0, 1, 0], "256");
        check(SqlType::Double, &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0], "1.5");
        check(SqlType::String, "é".as_bytes(), "é");
        check(SqlType::String, b"", "");
        check(SqlType::Bytes, &[0xff, 0], "ff00");
    }

    #[test]
    fn text_without_nulls_is_not_copied() {
        let spec = FormatSpec::new(Format::Kafka);
        let payloads = BinaryArray::from_iter_values(["a", "é", ""]);
        let mut decoder = decoder(&spec, Side::Key, &[Column::key("K", SqlType::String)], &[0]).unwrap();
        let decoded = decoder.decode(&payloads.slice(1, 2));
        assert_eq!(column_values(&decoded.columns[0]), ["é", ""]);
        let encoded = encode(&spec, Side::Key, &[SqlType::String], &decoded.columns, 2);
        assert_eq!(encoded.payloads, payloads.slice(1, 2));
        assert_eq!(encoded.payloads.values().as_ptr(), payloads.values().as_ptr());
    }

    #[test]
    fn wrong_lengths_and_text_fail_alone() {
        let spec = FormatSpec::new(Format::Kafka);
        let decoded = decode_bytes(&spec, Side::Value, &[SqlType::Int], &[Some(&[0, 0, 0, 1]), Some(&[1]), None]);
        assert_eq!(failures(&decoded), ["1: a KAFKA INTEGER has 4 bytes, the payload has 1"]);
        assert_eq!(column_values(&decoded.columns[0]), ["1", "NULL", "NULL"]);
        let decoded = decode_bytes(&spec, Side::Value, &[SqlType::String], &[Some(b"ab\xff"), Some(b"ok")]);
        assert_eq!(failures(&decoded), ["0: invalid UTF-8 at byte 2"]);
    }
}
