//! DELIMITED records: one CSV line, no header, as commons-csv 1.4 reads and writes it.
//!
//! The delimiter is checked here, for statements too. The subtle thing: an empty field is NULL, quoted or not, so an empty
//! STRING does not survive a round trip.

mod decode;
mod encode;

use super::{FormatSpec, RecordDecoder, RecordEncoder, Side};
use crate::diagnostic::Diagnostic;
use crate::types::Column;

/// The property that names the delimiter.
pub(super) const DELIMITER: &str = "delimiter";

/// The decoder of DELIMITED for the columns of one side; only those of index in `wanted` are built, in that order.
///
/// # Errors
/// If the delimiter is invalid.
pub fn decoder(
    spec: &FormatSpec,
    side: Side,
    columns: &[Column],
    wanted: &[usize],
) -> Result<Box<dyn RecordDecoder>, Diagnostic> {
    Ok(Box::new(decode::DelimitedDecoder::new(columns, wanted, delimiter(spec, side)?)))
}

/// The encoder of DELIMITED for the columns of one side.
///
/// # Errors
/// If the delimiter is invalid.
pub fn encoder(spec: &FormatSpec, side: Side, columns: &[Column]) -> Result<Box<dyn RecordEncoder>, Diagnostic> {
    Ok(Box::new(encode::DelimitedEncoder::new(columns.len(), delimiter(spec, side)?)))
}

/// The character between fields: the property `delimiter` (one character, `TAB` or `SPACE`), else a comma.
///
/// # Errors
/// If the property is empty, blank or longer than a character, or a character that CSV needs for itself.
pub(super) fn delimiter(spec: &FormatSpec, side: Side) -> Result<char, Diagnostic> {
    let Some(text) = spec.properties.get(DELIMITER) else { return Ok(',') };
    let property = match side {
        Side::Key => "KEY_DELIMITER",
        Side::Value => "VALUE_DELIMITER",
    };
    let invalid =
        |why: String| Diagnostic::user(format!("Configuration {property} is invalid: {why}\nExample valid value: ';'"));
    if text.trim().is_empty() {
        return Err(invalid(
            "Delimiter cannot be empty, if you meant to have a tab or space for delimiter, please use the special values \
             'TAB' or 'SPACE'"
                .to_owned(),
        ));
    }
    let mut chars = text.chars();
    match (text.to_uppercase().as_str(), chars.next(), chars.next()) {
        ("TAB", ..) => Ok('\t'),
        ("SPACE", ..) => Ok(' '),
        (_, Some('"'), None) => Err(invalid("Invalid delimiter value: '\"'. Quotes enclose fields".to_owned())),
        (_, Some(delimiter), None) => Ok(delimiter),
        _ => Err(invalid(format!(
            "Invalid delimiter value: '{text}'. Delimiter must be a single character or TAB,SPACE"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, BinaryArray};
    use proptest::prelude::*;

    use super::*;
    use crate::format::testing::{column_values, decode, encode, failures, text_rows};
    use crate::format::{Format, Wrapping};
    use crate::types::SqlType;

    fn spec() -> FormatSpec {
        FormatSpec::new(Format::Delimited)
    }

    fn with_delimiter(text: &str) -> FormatSpec {
        let mut spec = spec();
        spec.properties.insert(DELIMITER.to_owned(), text.to_owned());
        spec
    }

    fn all_types() -> Vec<SqlType> {
        vec![
            SqlType::Boolean,
            SqlType::Int,
            SqlType::BigInt,
            SqlType::Double,
            SqlType::Decimal(6, 4),
            SqlType::Decimal(40, 2),
            SqlType::String,
            SqlType::Bytes,
            SqlType::Time,
            SqlType::Date,
            SqlType::Timestamp,
        ]
    }

    #[test]
    fn every_type_both_ways() {
        let line = "true,-1,9007199254740993,1.0E10,12.3650,-0.05,a b,AQI=,1000,-7,1700000000000";
        let decoded = decode(&spec(), Side::Value, &all_types(), &[Some(line)]);
        assert_eq!(failures(&decoded), [] as [&str; 0]);
        let want = [
            "true",
            "-1",
            "9007199254740993",
            "1.0E10",
            "12.3650",
            "-0.05",
            "a b",
            "0102",
            "1000",
            "-7",
            "1700000000000",
        ];
        assert_eq!(decoded.columns.iter().map(|c| column_values(c)[0].clone()).collect::<Vec<_>>(), want);
        let encoded = encode(&spec(), Side::Value, &all_types(), &decoded.columns, 1);
        assert_eq!(text_rows(&encoded.payloads), [Some(line.to_owned())]);
    }

    #[test]
    fn nulls_and_what_reads_as_null() {
        let types = [SqlType::Int, SqlType::String, SqlType::Double];
        let decoded = decode(&spec(), Side::Value, &types, &[Some(",,"), Some("\"\",\"\",1"), None, Some("1,x, 2.5 ")]);
        assert_eq!(failures(&decoded), [] as [&str; 0]);
        assert_eq!(column_values(&decoded.columns[0]), ["NULL", "NULL", "NULL", "1"]);
        assert_eq!(column_values(&decoded.columns[2]), ["NULL", "1.0", "NULL", "2.5"]);
        assert!(decoded.present.is_some_and(|p| p.iter().eq([true, true, false, true])));
        let encoded = encode(&spec(), Side::Value, &types, &decoded.columns, 4);
        assert_eq!(text_rows(&encoded.payloads)[..2], [Some(",,".to_owned()), Some(",,1.0".to_owned())]);
    }

    #[test]
    fn bad_lines_say_why() {
        let types = [SqlType::Int, SqlType::Decimal(4, 2)];
        let lines = [
            "1,2",
            "",
            "\n\n",
            "1",
            "1,2,3",
            " 1,2",
            "x,2",
            "1,100.00",
            "1,1.001",
            "\"1,2",
            "\"1\"x,2",
            "2147483648,1",
            "1,\"2\"\nz",
        ];
        let decoded = decode(&spec(), Side::Value, &types, &lines.map(Some));
        assert_eq!(
            failures(&decoded),
            [
                "1: No fields in record",
                "2: No fields in record",
                "3: Column count mismatch on deserialization. expected: 2, got: 1",
                "4: Column count mismatch on deserialization. expected: 2, got: 3",
                "5: Cannot read ' 1' as INTEGER, column: `C0`",
                "6: Cannot read 'x' as INTEGER, column: `C0`",
                "7: Cannot fit decimal '100.00' into DECIMAL(4, 2) without rounding., column: `C1`",
                "8: Cannot fit decimal '1.001' into DECIMAL(4, 2) without rounding., column: `C1`",
                "9: the text ends within a quoted field",
                "10: text between the end of a quoted field and the delimiter",
                "11: Cannot read '2147483648' as INTEGER, column: `C0`",
            ]
        );
        assert_eq!(column_values(&decoded.columns[0])[12], "1");
        assert_eq!(column_values(&decoded.columns[0])[7], "NULL");
    }

    #[test]
    fn booleans_and_quotes() {
        let types = [SqlType::Boolean, SqlType::String];
        let lines = ["TRUE,\"a,\"\"b\"\"\nc\"", "yes,a\"b", "\"true\"  ,\"x\"\r\nnext"];
        let decoded = decode(&spec(), Side::Value, &types, &lines.map(Some));
        assert_eq!(failures(&decoded), [] as [&str; 0]);
        assert_eq!(column_values(&decoded.columns[0]), ["true", "false", "true"]);
        assert_eq!(column_values(&decoded.columns[1]), ["a,\"b\"\nc", "a\"b", "x"]);
    }

    fn written(first: &str, second: &str) -> String {
        let texts = |text: &str| std::sync::Arc::new(arrow::array::StringArray::from(vec![text])) as ArrayRef;
        let types = [SqlType::String, SqlType::String];
        let encoded = encode(&spec(), Side::Value, &types, &[texts(first), texts(second)], 1);
        text_rows(&encoded.payloads)[0].clone().unwrap()
    }

    #[test]
    fn quotes_are_written_where_needed_only() {
        for (first, second, want) in [
            ("a", "b", "a,b"),
            ("", "", "\"\","),
            ("-1", "-1", "\"-1\",-1"),
            ("é", "é", "\"é\",é"),
            ("a", "#b", "a,\"#b\""),
            ("a", "b,c", "a,\"b,c\""),
            ("a\nb", "say \"x\"", "\"a\nb\",\"say \"\"x\"\"\""),
            ("a ", "$ ", "\"a \",\"$ \""),
        ] {
            assert_eq!(written(first, second), want);
        }
    }

    #[test]
    fn delimiters() {
        for (text, line) in [("TAB", "1\t2"), ("space", "1 2"), ("|", "1|2"), ("→", "1→2")] {
            let decoded = decode(&with_delimiter(text), Side::Value, &[SqlType::Int, SqlType::Int], &[Some(line)]);
            assert_eq!(failures(&decoded), [] as [&str; 0], "{text}");
            let encoded =
                encode(&with_delimiter(text), Side::Value, &[SqlType::Int, SqlType::Int], &decoded.columns, 1);
            assert_eq!(text_rows(&encoded.payloads), [Some(line.to_owned())]);
        }
        for text in ["", " ", "\t", "<~>", "\""] {
            let error = delimiter(&with_delimiter(text), Side::Key).unwrap_err();
            assert!(error.message.starts_with("Configuration KEY_DELIMITER is invalid"), "{error}");
        }
    }

    #[test]
    fn a_lone_null_gives_no_payload() {
        let column: ArrayRef = std::sync::Arc::new(arrow::array::Int32Array::from(vec![None, Some(1)]));
        for side in [Side::Key, Side::Value] {
            let encoded = encode(&spec().wrapped(Wrapping::Bare), side, &[SqlType::Int], &[column.clone()], 2);
            assert_eq!(text_rows(&encoded.payloads), [None, Some("1".to_owned())]);
        }
    }

    proptest! {
        #[test]
        fn rows_come_back(rows in prop::collection::vec((any::<Option<i32>>(), any::<f64>(), ".{1,20}|[,\"\r\n #-]{1,6}"), 1..20)) {
            let columns: Vec<ArrayRef> = vec![
                std::sync::Arc::new(arrow::array::Int32Array::from_iter(rows.iter().map(|r| r.0))),
                std::sync::Arc::new(arrow::array::Float64Array::from_iter_values(rows.iter().map(|r| r.1))),
                std::sync::Arc::new(arrow::array::StringArray::from_iter_values(rows.iter().map(|r| r.2.as_str()))),
            ];
            let types = [SqlType::Int, SqlType::Double, SqlType::String];
            let encoded = encode(&spec(), Side::Value, &types, &columns, rows.len());
            let texts = text_rows(&encoded.payloads);
            let decoded = decode(&spec(), Side::Value, &types, &texts.iter().map(|t| t.as_deref()).collect::<Vec<_>>());
            prop_assert_eq!(failures(&decoded), Vec::<String>::new());
            for (got, want) in decoded.columns.iter().zip(&columns) {
                prop_assert_eq!(column_values(got), column_values(want));
            }
        }

        #[test]
        fn no_bytes_panic(payload in prop::collection::vec(any::<u8>(), 0..40)) {
            let columns: Vec<_> = all_types().into_iter().map(|ty| Column::value("C", ty)).collect();
            let wanted: Vec<usize> = (0..columns.len()).collect();
            let mut decoder = decoder(&spec(), Side::Value, &columns, &wanted).unwrap();
            decoder.decode(&BinaryArray::from_iter_values([payload]));
        }
    }
}
