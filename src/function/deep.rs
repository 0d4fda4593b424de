//! Values as bytes that are equal exactly where ksqlDB's values are: for comparing, finding and counting values of any type.
//!
//! Not a storage format (the bytes live no longer than a call) and not an order. The subtle thing: a map is a set of entries, so its
//! entries are encoded sorted; NULLs inside of collections are equal.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int32Type, Int64Type, Time32MillisecondType,
    TimestampMillisecondType,
};

/// Appends the value at `row` to `out`.
pub fn encode(array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    if array.is_null(row) {
        return out.push(0);
    }
    out.push(1);
    match array.data_type() {
        DataType::Boolean => out.push(u8::from(array.as_boolean().value(row))),
        DataType::Int32 => out.extend(array.as_primitive::<Int32Type>().value(row).to_le_bytes()),
        DataType::Date32 => out.extend(array.as_primitive::<Date32Type>().value(row).to_le_bytes()),
        DataType::Time32(_) => out.extend(array.as_primitive::<Time32MillisecondType>().value(row).to_le_bytes()),
        DataType::Int64 => out.extend(array.as_primitive::<Int64Type>().value(row).to_le_bytes()),
        DataType::Timestamp(..) => {
            out.extend(array.as_primitive::<TimestampMillisecondType>().value(row).to_le_bytes());
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            let value = if value.is_nan() { f64::NAN } else { value };
            out.extend(value.to_bits().to_le_bytes());
        }
        DataType::Decimal128(..) => out.extend(array.as_primitive::<Decimal128Type>().value(row).to_le_bytes()),
        DataType::Decimal256(..) => out.extend(array.as_primitive::<Decimal256Type>().value(row).to_le_bytes()),
        DataType::Utf8 => bytes(array.as_string::<i32>().value(row).as_bytes(), out),
        DataType::Binary => bytes(array.as_binary::<i32>().value(row), out),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            length(items.len(), out);
            (0..items.len()).for_each(|i| encode(items.as_ref(), i, out));
        }
        DataType::Struct(_) => {
            let fields = array.as_struct();
            fields.columns().iter().for_each(|column| encode(column.as_ref(), row, out));
        }
        DataType::Map(..) => encode_map(array, row, out),
        other => unreachable!("no SQL type is held as {other}"),
    }
}

fn encode_map(array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    let entries = array.as_map().value(row);
    let mut encoded: Vec<Vec<u8>> = (0..entries.len())
        .map(|i| {
            let mut entry = Vec::new();
            entries.columns().iter().for_each(|column| encode(column.as_ref(), i, &mut entry));
            entry
        })
        .collect();
    encoded.sort_unstable();
    length(encoded.len(), out);
    encoded.iter().for_each(|entry| bytes(entry, out));
}

fn bytes(value: &[u8], out: &mut Vec<u8>) {
    length(value.len(), out);
    out.extend_from_slice(value);
}

fn length(len: usize, out: &mut Vec<u8>) {
    out.extend((len as u64).to_le_bytes());
}

/// True if the two values, of one type, are equal; NULLs are.
pub fn equal(left: &dyn Array, i: usize, right: &dyn Array, j: usize) -> bool {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    encode(left, i, &mut a);
    encode(right, j, &mut b);
    a == b
}
