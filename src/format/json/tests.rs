//! The JSON codec as a whole: bytes to columns and back, per type, and what malformed records do.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array, StringArray};
use proptest::prelude::*;

use crate::format::testing::{column_values, decode, decode_bytes, encode, failures, text_rows};
use crate::format::{Format, FormatSpec, Side, Wrapping, decoder, encoder};
use crate::types::{Column, SqlField, SqlType};

fn spec() -> FormatSpec {
    FormatSpec::new(Format::Json)
}

fn array(item: SqlType) -> SqlType {
    SqlType::Array(Box::new(item))
}

fn map(value: SqlType) -> SqlType {
    SqlType::Map(Box::new(SqlType::String), Box::new(value))
}

fn structure(fields: &[(&str, SqlType)]) -> SqlType {
    SqlType::Struct(fields.iter().map(|(name, ty)| SqlField { name: (*name).into(), ty: ty.clone() }).collect())
}

/// Decodes the text as the value of a lone bare column.
fn read(ty: &SqlType, text: &str) -> Result<String, String> {
    let bare = spec().wrapped(Wrapping::Bare);
    let decoded = decode(&bare, Side::Value, std::slice::from_ref(ty), &[Some(text)]);
    match decoded.failures.first() {
        Some(failure) => {
            assert_eq!(column_values(&decoded.columns[0]), ["NULL"]);
            Err(failure.reason.clone())
        }
        None => Ok(column_values(&decoded.columns[0]).remove(0)),
    }
}

fn write(ty: &SqlType, text: &str) -> String {
    let bare = spec().wrapped(Wrapping::Bare);
    let types = [ty.clone()];
    let decoded = decode(&bare, Side::Value, &types, &[Some(text)]);
    assert_eq!(failures(&decoded), [] as [&str; 0], "{text}");
    text_rows(&encode(&bare, Side::Value, &types, &decoded.columns, 1).payloads).remove(0).unwrap()
}

#[test]
fn what_each_type_accepts() {
    let nested = structure(&[("A", SqlType::Int), ("B", array(SqlType::String))]);
    for (ty, text, want) in [
        (SqlType::Boolean, "true", "true"),
        (SqlType::Boolean, " false ", "false"),
        (SqlType::Int, "-12", "-12"),
        (SqlType::Int, "12.99", "12"),
        (SqlType::Int, "1.5e2", "150"),
        (SqlType::Int, "\"42\"", "42"),
        (SqlType::BigInt, "998877665544332211", "998877665544332211"),
        (SqlType::BigInt, "-9223372036854775808", "-9223372036854775808"),
        (SqlType::Double, "654.321", "654.321"),
        (SqlType::Double, "1e10", "1.0E10"),
        (SqlType::Double, "10", "10.0"),
        (SqlType::Double, "\"NaN\"", "NaN"),
        (SqlType::Double, "\"-Infinity\"", "-Infinity"),
        (SqlType::Double, "\" 1.5 \"", "1.5"),
        (SqlType::Decimal(6, 4), "12.365", "12.3650"),
        (SqlType::Decimal(6, 4), "10", "10.0000"),
        (SqlType::Decimal(6, 4), "\"1e-4\"", "0.0001"),
        (
            SqlType::Decimal(50, 2),
            "123456789012345678901234567890123456789012345678.90",
            "123456789012345678901234567890123456789012345678.90",
        ),
        (SqlType::String, "\"h\\u00e9\\n\\ud83d\\ude00\"", "hé\n😀"),
        (SqlType::String, "\"\"", ""),
        (SqlType::String, "12.50", "12.50"),
        (SqlType::String, "true", "true"),
        (SqlType::String, "{ \"a\" : [1, \"x\"] }", "{\"a\":[1,\"x\"]}"),
        (SqlType::String, "[ \"a\",1 ]", "[a, 1]"),
        (SqlType::Bytes, "\"AQI=\"", "0102"),
        (SqlType::Time, "86400000", "86400000"),
        (SqlType::Date, "-7", "-7"),
        (SqlType::Date, "\"12\"", "12"),
        (SqlType::Timestamp, "1700000000000", "1700000000000"),
        (array(SqlType::Int), "[1, null ,3]", "[1, NULL, 3]"),
        (array(array(SqlType::String)), "[[],[\"a\",2],null]", "[[], [a, 2], NULL]"),
        (map(SqlType::Int), "{\"a\":1,\"A\":2,\"c\":null}", "{a=1, A=2, c=NULL}"),
        (map(SqlType::Int), "{\"a\":1,\"b\":2,\"\\u0061\":3}", "{a=3, b=2}"),
        (nested.clone(), "{\"b\":[1],\"a\":2,\"x\":{}}", "{2, [1]}"),
        (nested.clone(), "{}", "{NULL, NULL}"),
        (nested, "null", "NULL"),
    ] {
        assert_eq!(read(&ty, text).as_deref(), Ok(want), "{ty} from {text}");
    }
}

#[test]
fn what_each_type_refuses() {
    let nested = structure(&[("A", array(map(SqlType::Int)))]);
    for (ty, text, want) in [
        (SqlType::Boolean, "\"true\"", "Can't convert type. sourceType: TextNode, requiredType: BOOLEAN, path: $.C0"),
        (SqlType::Boolean, "1", "Can't convert type. sourceType: IntNode, requiredType: BOOLEAN, path: $.C0"),
        (SqlType::Int, "true", "Can't convert type. sourceType: BooleanNode, requiredType: INTEGER, path: $.C0"),
        (SqlType::Int, "\" 1\"", "Can't coerce string to type. targetType: INTEGER, path: $.C0"),
        (SqlType::Int, "2147483648", "Number out of range: 2147483648, path: $.C0"),
        (SqlType::BigInt, "9223372036854775808", "Number out of range: 9223372036854775808, path: $.C0"),
        (SqlType::Double, "\"x\"", "Can't coerce string to type. targetType: DOUBLE, path: $.C0"),
        (SqlType::Double, "[]", "Can't convert type. sourceType: ArrayNode, requiredType: DOUBLE, path: $.C0"),
        (SqlType::Decimal(4, 2), "100", "Cannot fit decimal '100' into DECIMAL(4, 2) without rounding., path: $.C0"),
        (
            SqlType::Decimal(4, 2),
            "1.005",
            "Cannot fit decimal '1.005' into DECIMAL(4, 2) without rounding., path: $.C0",
        ),
        (SqlType::String, "\"\\ud800\"", "\\u escape of half a surrogate pair, path: $.C0"),
        (SqlType::Bytes, "\"?\"", "Can't coerce string to type. targetType: BYTES, path: $.C0"),
        (SqlType::Bytes, "1", "Can't convert type. sourceType: IntNode, requiredType: BYTES, path: $.C0"),
        (
            SqlType::Time,
            "86400001",
            "Time values must be milliseconds of the day, from 0 to 86400000. Got 86400001, path: $.C0",
        ),
        (array(SqlType::Int), "{}", "Can't convert type. sourceType: ObjectNode, requiredType: ARRAY, path: $.C0"),
        (map(SqlType::Int), "[]", "Can't convert type. sourceType: ArrayNode, requiredType: MAP, path: $.C0"),
        (nested.clone(), "12.5", "Can't convert type. sourceType: DecimalNode, requiredType: STRUCT, path: $.C0"),
        (
            nested,
            "{\"a\":[null,{\"x\":1,\"y\":\"z\"}]}",
            "Can't coerce string to type. targetType: INTEGER, path: $.C0.A[1][1]",
        ),
        (SqlType::Int, "", "malformed JSON: the text ends where a value should be at byte 0"),
        (SqlType::Int, "12 13", "malformed JSON: text after the end of the value at byte 3"),
        (SqlType::String, "\"abc", "malformed JSON: unterminated string at byte 4"),
    ] {
        assert_eq!(read(&ty, text), Err(want.to_owned()), "{ty} from {text}");
    }
}

#[test]
fn how_each_type_is_written() {
    let nested = structure(&[("A", SqlType::Int), ("b\"", array(SqlType::Double))]);
    for (ty, text, want) in [
        (SqlType::Boolean, "true", "true"),
        (SqlType::Double, "1", "1.0"),
        (SqlType::Double, "12345678.9", "1.23456789E7"),
        (SqlType::Double, "\"NaN\"", "\"NaN\""),
        (SqlType::Decimal(6, 4), "10", "10.0000"),
        (SqlType::Decimal(40, 3), "-0.5", "-0.500"),
        (SqlType::String, r#""a\"\\\/\u0001é""#, r#""a\"\\/\u0001é""#),
        (SqlType::Bytes, "\"AQI=\"", "\"AQI=\""),
        (SqlType::Time, "10", "10"),
        (SqlType::Timestamp, "-1", "-1"),
        (array(SqlType::Int), "[ 1, null ]", "[1,null]"),
        (map(array(SqlType::Int)), r#"{"k\n":[],"z":null}"#, r#"{"k\n":[],"z":null}"#),
        (nested, r#"{"b\"":[1]}"#, r#"{"A":null,"b\"":[1.0]}"#),
    ] {
        assert_eq!(write(&ty, text), want);
    }
}

#[test]
fn one_bad_record_costs_itself_only() {
    let types = [SqlType::Int, SqlType::String];
    let rows = [
        Some(r#"{"C0":1,"C1":"a"}"#),
        Some(r#"{"C0":2,"C1":"b""#),
        Some(r#"{"C0":"x","C1":"c"}"#),
        None,
        Some("null"),
        Some(r#"{"c1":"d","c0":4}"#),
        Some("[]"),
        Some(r#"{"C0":5,"C1":"e"} x"#),
        Some("{}"),
    ];
    let decoded = decode(&spec(), Side::Value, &types, &rows);
    assert_eq!(decoded.failures.iter().map(|f| f.row).collect::<Vec<_>>(), [1, 2, 6, 7]);
    assert_eq!(column_values(&decoded.columns[0]), ["1", "NULL", "NULL", "NULL", "NULL", "4", "NULL", "NULL", "NULL"]);
    assert_eq!(column_values(&decoded.columns[1]), ["a", "NULL", "NULL", "NULL", "NULL", "d", "NULL", "NULL", "NULL"]);
    let present: Vec<_> = decoded.present.unwrap().iter().collect();
    assert_eq!(present, [true, true, true, false, false, true, true, true, true]);
}

#[test]
fn only_wanted_columns_are_built_in_their_order() {
    let columns =
        [("A", SqlType::Int), ("B", SqlType::Boolean), ("C", SqlType::String)].map(|(n, t)| Column::value(n, t));
    let mut decoder = decoder(&spec(), Side::Value, &columns, &[2, 0]).unwrap();
    let decoded = decoder.decode(&BinaryArray::from_iter_values([r#"{"a":1,"b":"no boolean","c":"x"}"#]));
    assert_eq!(decoded.failures, []);
    assert_eq!(decoded.columns.iter().map(column_values).collect::<Vec<_>>(), [["x"], ["1"]]);
}

#[test]
fn slices_decode_like_wholes() {
    let rows: Vec<_> = (0..20).map(|i| format!("{{\"C0\":{i},\"C1\":\"é{i}\"}}")).collect();
    let payloads = BinaryArray::from_iter_values(&rows);
    let types = [SqlType::Int, SqlType::String];
    let columns = crate::format::testing::columns(&types);
    let mut decoder = decoder(&spec(), Side::Value, &columns, &[0, 1]).unwrap();
    let sliced = decoder.decode(&payloads.slice(7, 5));
    assert_eq!(column_values(&sliced.columns[0]), ["7", "8", "9", "10", "11"]);
    assert_eq!(column_values(&sliced.columns[1])[4], "é11");
}

#[test]
fn invalid_utf8_fails_even_where_it_is_not_wanted() {
    let good = r#"{"C0":"é"}"#.as_bytes();
    let rows = [good, b"{\"C0\":\"\xff\"}", b"{\"X\":\"\xc3\",\"C0\":\"a\"}", b"{\"C0\":\"a\"}"].map(Some);
    let decoded = decode_bytes(&spec(), Side::Value, &[SqlType::String], &rows);
    assert_eq!(failures(&decoded), ["1: invalid UTF-8 at byte 7", "2: invalid UTF-8 at byte 6"]);
    assert_eq!(column_values(&decoded.columns[0]), ["é", "NULL", "NULL", "a"]);
}

#[test]
fn absent_rows_and_lone_nulls() {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
    let present = arrow::buffer::BooleanBuffer::from(vec![true, true, false]);
    let columns = [Column::value("V", SqlType::BigInt)];
    let rows = |side, wrapping| {
        let mut encoder = encoder(&spec().wrapped(wrapping), side, &columns).unwrap();
        text_rows(&encoder.encode(std::slice::from_ref(&column), Some(&present), 3).payloads)
            .into_iter()
            .map(Option::unwrap_or_default)
            .collect::<Vec<_>>()
    };
    assert_eq!(rows(Side::Value, Wrapping::Wrapped), [r#"{"V":1}"#, r#"{"V":null}"#, ""]);
    assert_eq!(rows(Side::Value, Wrapping::Bare), ["1", "", ""]);
    assert_eq!(rows(Side::Key, Wrapping::Bare), ["1", "", ""]);
    let nothing = encoder(&spec(), Side::Value, &[]).unwrap().encode(&[], None, 2);
    assert_eq!(text_rows(&nothing.payloads), [Some("{}".to_owned()), Some("{}".to_owned())]);
}

/// A record with every kind of value, of the columns of [`mixed_types`].
const MIXED: &str = concat!(
    r#"{"C0":true,"C1":-12,"C2":1700000000000,"C3":12.5e3,"C4":1.25,"C5":"té\u0041xt","C6":"AQI=","C7":[1,null],"#,
    r#""C8":{"k":"v"},"C9":{"F":1,"G":{"H":"i"}},"X":[{"y":[]}]}"#
);

fn mixed_types() -> Vec<SqlType> {
    vec![
        SqlType::Boolean,
        SqlType::Int,
        SqlType::BigInt,
        SqlType::Double,
        SqlType::Decimal(5, 2),
        SqlType::String,
        SqlType::Bytes,
        array(SqlType::Int),
        map(SqlType::String),
        structure(&[("F", SqlType::Int), ("G", structure(&[("H", SqlType::String)]))]),
    ]
}

#[test]
fn every_truncation_fails() {
    let cuts: Vec<_> = (0..MIXED.len()).map(|len| Some(&MIXED.as_bytes()[..len])).collect();
    let decoded = decode_bytes(&spec(), Side::Value, &mixed_types(), &cuts);
    assert_eq!(decoded.failures.len(), cuts.len());
}

/// What serde_json makes of a record, where it is valid: whether it is an object.
fn is_object(bytes: &[u8]) -> Option<bool> {
    serde_json::from_slice::<serde_json::Value>(bytes).ok().map(|value| value.is_object())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn flipped_bytes_never_panic_nor_pass(flips in prop::collection::vec((0..MIXED.len(), any::<u8>()), 1..4)) {
        let mut bad = MIXED.as_bytes().to_vec();
        flips.iter().for_each(|&(at, byte)| bad[at] = byte);
        let decoded = decode_bytes(&spec(), Side::Value, &mixed_types(), &[Some(MIXED.as_bytes()), Some(&bad), Some(MIXED.as_bytes())]);
        prop_assert!(decoded.failures.iter().all(|failure| failure.row == 1));
        for column in &decoded.columns {
            let values = column_values(column);
            prop_assert_eq!(&values[0], &values[2]);
        }
        let failed = !decoded.failures.is_empty();
        prop_assert!(failed || is_object(&bad) == Some(true) || String::from_utf8_lossy(&bad).contains("\\u"), "{}", String::from_utf8_lossy(&bad));
    }
}

proptest! {
    #[test]
    fn rows_come_back(rows in prop::collection::vec((any::<Option<i64>>(), any::<f64>(), any::<Option<String>>()), 1..20)) {
        let types = [SqlType::BigInt, SqlType::Double, SqlType::String, array(SqlType::String), map(SqlType::Double)];
        let texts: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|r| r.2.as_deref())));
        let doubles: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.1)));
        let entries = serde_json::Value::from(rows.iter().filter_map(|r| r.2.clone()).collect::<Vec<_>>()).to_string();
        let lists = decode(&spec().wrapped(Wrapping::Bare), Side::Value, &[types[3].clone()], &vec![Some(entries.as_str()); rows.len()]);
        let maps: Vec<_> = rows.iter().map(|r| {
            let key = r.2.clone().unwrap_or_default();
            serde_json::json!({ (key): r.1 }).to_string()
        }).collect();
        let maps = decode(&spec().wrapped(Wrapping::Bare), Side::Value, &[types[4].clone()], &maps.iter().map(|m| Some(m.as_str())).collect::<Vec<_>>());
        let columns = [
            Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.0))) as ArrayRef,
            doubles,
            texts,
            lists.columns[0].clone(),
            maps.columns[0].clone(),
        ];
        let encoded = text_rows(&encode(&spec(), Side::Value, &types, &columns, rows.len()).payloads);
        for text in encoded.iter().flatten() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{}", text);
        }
        let decoded = decode(&spec(), Side::Value, &types, &encoded.iter().map(Option::as_deref).collect::<Vec<_>>());
        prop_assert_eq!(failures(&decoded), Vec::<String>::new());
        for (got, want) in decoded.columns.iter().zip(&columns) {
            prop_assert_eq!(column_values(got), column_values(want));
        }
    }

    #[test]
    fn batching_changes_nothing(picks in prop::collection::vec(0..8_usize, 1..30), cut in 0..30_usize) {
        let kinds = [
            r#"{"C0":1,"C1":"a"}"#, r#"{"C1":"b","C0":2}"#, r#"{"c0": 3, "c1": "c"}"#, r#"{"C0":4}"#, r#"{"C0":5,"C1":"e""#,
            r#"{"x":[1],"C0":6,"c0":7,"C1":null}"#, "{}", r#"{"C0":8,"C0":9}"#,
        ];
        let rows: Vec<_> = picks.iter().map(|&pick| kinds[pick]).collect();
        let columns = crate::format::testing::columns(&[SqlType::Int, SqlType::String]);
        let run = |batches: &[&[&str]]| {
            let mut decoder = decoder(&spec(), Side::Value, &columns, &[0, 1]).unwrap();
            let mut values = Vec::new();
            for batch in batches {
                let decoded = decoder.decode(&BinaryArray::from_iter_values(*batch));
                let failed = |row| decoded.failures.iter().any(|f| f.row == row);
                let (a, b) = (column_values(&decoded.columns[0]), column_values(&decoded.columns[1]));
                values.extend((0..batch.len()).map(|row| (a[row].clone(), b[row].clone(), failed(row))));
            }
            values
        };
        let cut = cut.min(rows.len());
        let singles: Vec<_> = rows.chunks(1).collect();
        prop_assert_eq!(run(&[&rows]), run(&singles));
        prop_assert_eq!(run(&[&rows]), run(&[&rows[..cut], &rows[cut..]]));
    }
}
