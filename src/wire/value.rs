//! One SQL value as JSON text, straight from its Arrow column.
//!
//! Not a record format (`format/json`): this is how results look to people and clients. The subtle thing is exactness: a DECIMAL is
//! written with all its digits and never as an exponent, and what JSON cannot say (NaN, infinity) is a string.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int32Type, Int64Type, Time32MillisecondType,
    TimeUnit, TimestampMillisecondType,
};
use arrow::record_batch::RecordBatch;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const MS_PER_DAY: i64 = 86_400_000;

/// Appends the value of `array` at `row` as JSON.
///
/// BYTES are base64, TIME is `HH:mm` or `HH:mm:ss`, DATE is `yyyy-MM-dd`, TIMESTAMP is `yyyy-MM-ddTHH:mm:ss.SSS` in UTC, MAP and STRUCT
/// are objects. A type that no SQL type has is null.
pub fn write_value(out: &mut Vec<u8>, array: &dyn Array, row: usize) {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    match array.data_type() {
        DataType::Boolean => {
            out.extend_from_slice(if array.as_boolean().value(row) { b"true" } else { b"false" });
        }
        DataType::Int32 => write_integer(out, array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => write_integer(out, array.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => write_double(out, array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => {
            out.extend_from_slice(array.as_primitive::<Decimal128Type>().value_as_string(row).as_bytes());
        }
        DataType::Decimal256(..) => {
            out.extend_from_slice(array.as_primitive::<Decimal256Type>().value_as_string(row).as_bytes());
        }
        DataType::Utf8 => write_string(out, array.as_string::<i32>().value(row)),
        DataType::Utf8View => write_string(out, array.as_string_view().value(row)),
        DataType::Binary => write_quoted(out, &STANDARD.encode(array.as_binary::<i32>().value(row))),
        DataType::Time32(TimeUnit::Millisecond) => {
            write_quoted(out, &time_text(array.as_primitive::<Time32MillisecondType>().value(row).into()));
        }
        DataType::Date32 => write_quoted(out, &date_text(array.as_primitive::<Date32Type>().value(row).into())),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            write_quoted(out, &timestamp_text(array.as_primitive::<TimestampMillisecondType>().value(row)));
        }
        DataType::List(_) => write_list(out, &array.as_list::<i32>().value(row)),
        DataType::Map(..) => write_map(out, &array.as_map().value(row)),
        DataType::Struct(fields) => {
            let parts = array.as_struct();
            write_object(out, fields.iter().map(|f| f.name().as_str()).zip(parts.columns()), row);
        }
        _ => out.extend_from_slice(b"null"),
    }
}

/// Appends a row as a JSON array of its values.
pub fn write_row_array(out: &mut Vec<u8>, batch: &RecordBatch, row: usize) {
    out.push(b'[');
    for (i, column) in batch.columns().iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_value(out, column, row);
    }
    out.push(b']');
}

/// Appends a row as a JSON object, in the order of `names`.
pub fn write_row_object<'n>(out: &mut Vec<u8>, names: impl Iterator<Item = &'n str>, batch: &RecordBatch, row: usize) {
    write_object(out, names.zip(batch.columns()), row);
}

/// The value as people read it: strings bare, everything else as JSON.
pub fn display_value(array: &dyn Array, row: usize) -> String {
    if array.is_valid(row) && array.data_type() == &DataType::Utf8 {
        return array.as_string::<i32>().value(row).to_owned();
    }
    let mut out = Vec::new();
    write_value(&mut out, array, row);
    let text = String::from_utf8_lossy(&out).into_owned();
    match array.data_type() {
        DataType::List(_) | DataType::Map(..) | DataType::Struct(_) => text,
        _ => text.trim_matches('"').to_owned(),
    }
}

/// Appends a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(&mut *out, text).expect("writing a string to memory cannot fail");
}

/// Text without characters to escape.
fn write_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn write_integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn write_double(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else {
        out.extend_from_slice(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
    }
}

fn write_list(out: &mut Vec<u8>, items: &dyn Array) {
    out.push(b'[');
    for i in 0..items.len() {
        if i > 0 {
            out.push(b',');
        }
        write_value(out, items, i);
    }
    out.push(b']');
}

fn write_map(out: &mut Vec<u8>, entries: &arrow::array::StructArray) {
    let (keys, values) = (entries.column(0), entries.column(1));
    out.push(b'{');
    for i in 0..entries.len() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, &display_value(keys, i));
        out.push(b':');
        write_value(out, values, i);
    }
    out.push(b'}');
}

fn write_object<'n, 'c>(
    out: &mut Vec<u8>,
    fields: impl Iterator<Item = (&'n str, &'c arrow::array::ArrayRef)>,
    row: usize,
) {
    out.push(b'{');
    for (i, (name, column)) in fields.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, name);
        out.push(b':');
        write_value(out, column, row);
    }
    out.push(b'}');
}

/// `HH:mm`, or `HH:mm:ss` where the seconds are not 0; milliseconds are dropped, as ksqlDB does.
fn time_text(ms_of_day: i64) -> String {
    let seconds = ms_of_day.div_euclid(1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if second == 0 { format!("{hour:02}:{minute:02}") } else { format!("{hour:02}:{minute:02}:{second:02}") }
}

/// `yyyy-MM-dd` of days since the epoch; years beyond 9999 carry a sign.
pub fn date_text(days: i64) -> String {
    let (year, month, day) = civil_date(days);
    match year {
        0..=9999 => format!("{year:04}-{month:02}-{day:02}"),
        10_000.. => format!("+{year}-{month:02}-{day:02}"),
        _ => format!("-{:04}-{month:02}-{day:02}", year.unsigned_abs()),
    }
}

/// `yyyy-MM-ddTHH:mm:ss.SSS` of milliseconds since the epoch, in UTC.
pub fn timestamp_text(ms: i64) -> String {
    let in_day = ms.rem_euclid(MS_PER_DAY);
    let seconds = in_day / 1000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{}T{hour:02}:{minute:02}:{second:02}.{:03}", date_text(ms.div_euclid(MS_PER_DAY)), in_day % 1000)
}

/// Year, month and day of days since 1970-01-01, by eras of 400 years that begin on 1 March.
fn civil_date(days: i64) -> (i64, i64, i64) {
    let from_march_0 = days + 719_468;
    let era = from_march_0.div_euclid(146_097);
    let day_of_era = from_march_0.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a date; the inverse of [`date_text`]'s arithmetic.
pub(super) fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_at_the_edges() {
        assert_eq!(date_text(0), "1970-01-01");
        assert_eq!(date_text(-1), "1969-12-31");
        assert_eq!(date_text(11_016), "2000-02-29");
        assert_eq!(date_text(2_932_897), "+10000-01-01");
        for days in (-800_000..3_000_000).step_by(997) {
            let (y, m, d) = civil_date(days);
            assert_eq!(days_of(y, m, d), days);
        }
    }

    #[test]
    fn times_drop_what_ksqldb_drops() {
        assert_eq!(time_text(3_600_000), "01:00");
        assert_eq!(time_text(3_661_999), "01:01:01");
        assert_eq!(timestamp_text(-1), "1969-12-31T23:59:59.999");
        assert_eq!(timestamp_text(1_647_618_802_989), "2022-03-18T15:53:22.989");
    }

    #[test]
    fn doubles_say_what_json_cannot() {
        let text = |v: f64| {
            let mut out = Vec::new();
            write_double(&mut out, v);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(1.0), "1.0");
        assert_eq!(text(f64::NAN), "\"NaN\"");
        assert_eq!(text(f64::NEG_INFINITY), "\"-Infinity\"");
    }
}
