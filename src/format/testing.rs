//! What the tests of the formats share: codecs by column types, and columns as text.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::datatypes::DataType;

use super::text::push_java_double;
use super::{Decoded, Encoded, FormatSpec, Side, decoder, encoder};
use crate::types::{Column, SqlType};

/// Columns `C0`, `C1`, … of these types.
pub(super) fn columns(types: &[SqlType]) -> Vec<Column> {
    types.iter().enumerate().map(|(i, ty)| Column::value(format!("C{i}"), ty.clone())).collect()
}

pub(super) fn decode(spec: &FormatSpec, side: Side, types: &[SqlType], rows: &[Option<&str>]) -> Decoded {
    decode_bytes(spec, side, types, &rows.iter().map(|row| row.map(str::as_bytes)).collect::<Vec<_>>())
}

pub(super) fn decode_bytes(spec: &FormatSpec, side: Side, types: &[SqlType], rows: &[Option<&[u8]>]) -> Decoded {
    let wanted: Vec<usize> = (0..types.len()).collect();
    let mut decoder = decoder(spec, side, &columns(types), &wanted).unwrap();
    let decoded = decoder.decode(&BinaryArray::from(rows.to_vec()));
    for (column, ty) in decoded.columns.iter().zip(types) {
        assert_eq!(column.data_type(), &ty.to_arrow());
        assert_eq!(column.len(), rows.len());
        column.to_data().validate_full().unwrap();
    }
    decoded
}

pub(super) fn encode(spec: &FormatSpec, side: Side, types: &[SqlType], arrays: &[ArrayRef], rows: usize) -> Encoded {
    encoder(spec, side, &columns(types)).unwrap().encode(arrays, None, rows)
}

pub(super) fn failures(decoded: &Decoded) -> Vec<String> {
    decoded.failures.iter().map(|failure| format!("{}: {}", failure.row, failure.reason)).collect()
}

pub(super) fn text_rows(payloads: &BinaryArray) -> Vec<Option<String>> {
    payloads.iter().map(|payload| payload.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())).collect()
}

/// The values as text: Java doubles, bytes in hexadecimal, `[a, b]`, `{k=v}`, `{a, b}` for structs, `NULL`.
pub(super) fn column_values(array: &ArrayRef) -> Vec<String> {
    (0..array.len()).map(|row| value(array, row)).collect()
}

fn value(array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) {
        return "NULL".to_owned();
    }
    let joined = |values: &ArrayRef| column_values(values).join(", ");
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Float64 => {
            let mut out = Vec::new();
            push_java_double(array.as_primitive::<arrow::datatypes::Float64Type>().value(row), &mut out);
            String::from_utf8(out).unwrap()
        }
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => array.as_binary::<i32>().value(row).iter().map(|b| format!("{b:02x}")).collect(),
        DataType::List(_) => format!("[{}]", joined(&array.as_list::<i32>().value(row))),
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (column_values(entries.column(0)), column_values(entries.column(1)));
            let pairs: Vec<_> = keys.iter().zip(&values).map(|(k, v)| format!("{k}={v}")).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        DataType::Struct(_) => {
            let fields: Vec<_> = array.as_struct().columns().iter().map(|child| value(child, row)).collect();
            format!("{{{}}}", fields.join(", "))
        }
        DataType::Decimal128(..) => array.as_primitive::<arrow::datatypes::Decimal128Type>().value_as_string(row),
        DataType::Decimal256(..) => array.as_primitive::<arrow::datatypes::Decimal256Type>().value_as_string(row),
        DataType::Int32 => array.as_primitive::<arrow::datatypes::Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<arrow::datatypes::Int64Type>().value(row).to_string(),
        DataType::Date32 => array.as_primitive::<arrow::datatypes::Date32Type>().value(row).to_string(),
        DataType::Time32(_) => array.as_primitive::<arrow::datatypes::Time32MillisecondType>().value(row).to_string(),
        DataType::Timestamp(..) => {
            array.as_primitive::<arrow::datatypes::TimestampMillisecondType>().value(row).to_string()
        }
        other => panic!("{other}"),
    }
}
