//! Values of any type as the text that CAST to STRING gives, and numbers read from text by Java's rules.
//!
//! Not JSON (`json`). The subtle thing: the text is Java's `toString`: doubles as `1.0E10`, `[1, 2]`, `{a=1}`, `Struct{A=1}` without the fields
//! that are NULL.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int32Type, Int64Type, Time32MillisecondType,
    TimestampMillisecondType, i256,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::calendar::{print_date, print_time, print_timestamp};
use super::decimal;

/// Appends the value at `row` as Java prints it; NULL is `null`.
pub fn print(array: &dyn Array, row: usize, out: &mut String) {
    if array.is_null(row) {
        return out.push_str("null");
    }
    match array.data_type() {
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Int32 => out.push_str(itoa::Buffer::new().format(array.as_primitive::<Int32Type>().value(row))),
        DataType::Int64 => out.push_str(itoa::Buffer::new().format(array.as_primitive::<Int64Type>().value(row))),
        DataType::Float64 => print_double(array.as_primitive::<Float64Type>().value(row), out),
        DataType::Decimal128(_, scale) => {
            let value = i256::from_i128(array.as_primitive::<Decimal128Type>().value(row));
            out.push_str(&decimal::print(value, scale.unsigned_abs()));
        }
        DataType::Decimal256(_, scale) => {
            out.push_str(&decimal::print(array.as_primitive::<Decimal256Type>().value(row), scale.unsigned_abs()));
        }
        DataType::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        DataType::Binary => STANDARD.encode_string(array.as_binary::<i32>().value(row), out),
        DataType::Date32 => print_date(array.as_primitive::<Date32Type>().value(row).into(), out),
        DataType::Time32(_) => print_time(array.as_primitive::<Time32MillisecondType>().value(row).into(), out),
        DataType::Timestamp(..) => print_timestamp(array.as_primitive::<TimestampMillisecondType>().value(row), out),
        _ => print_nested(array, row, out),
    }
}

fn print_nested(array: &dyn Array, row: usize, out: &mut String) {
    match array.data_type() {
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.push('[');
            for i in 0..items.len() {
                out.push_str(if i == 0 { "" } else { ", " });
                print(items.as_ref(), i, out);
            }
            out.push(']');
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            out.push('{');
            for i in 0..entries.len() {
                out.push_str(if i == 0 { "" } else { ", " });
                print(entries.column(0).as_ref(), i, out);
                out.push('=');
                print(entries.column(1).as_ref(), i, out);
            }
            out.push('}');
        }
        _ => {
            let fields = array.as_struct();
            out.push_str("Struct{");
            let mut comma = "";
            for (name, column) in fields.column_names().iter().zip(fields.columns()) {
                if column.is_valid(row) {
                    out.push_str(comma);
                    out.push_str(name);
                    out.push('=');
                    print(column.as_ref(), row, out);
                    comma = ",";
                }
            }
            out.push('}');
        }
    }
}

/// Appends a double as Java's `Double.toString` does.
pub fn print_double(value: f64, out: &mut String) {
    if !value.is_finite() {
        return out.push_str(if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        });
    }
    let size = value.abs();
    if value == 0.0 || (1e-3..1e7).contains(&size) {
        let text = format!("{value}");
        out.push_str(&text);
        if !text.contains('.') {
            out.push_str(".0");
        }
        return;
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    out.push_str(mantissa);
    if !mantissa.contains('.') {
        out.push_str(".0");
    }
    out.push('E');
    out.push_str(exponent);
}

/// Reads a double as Java does, but neither NaN nor infinities by name.
pub fn parse_double(text: &str) -> Option<f64> {
    let text = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let plain = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    if text.is_empty() || !text.bytes().all(plain) { None } else { text.parse().ok() }
}

/// True if the trimmed text is a non-empty prefix of `true` or `yes`, in any case.
pub fn parse_boolean(text: &str) -> bool {
    let text = trim(text).to_ascii_lowercase();
    !text.is_empty() && ("true".starts_with(&text) || "yes".starts_with(&text))
}

/// As Java's `trim`: without characters up to U+0020 at both ends.
pub fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ')
}

/// Reads base64.
pub fn parse_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
