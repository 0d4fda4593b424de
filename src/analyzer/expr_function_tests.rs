//! Functions, a table of cases for each family: expression, rows, reports.

use super::expr_tests::{check, refuse, run};
use crate::function::registry::{FunctionKind, Registry};
use crate::types::SqlType as T;

#[test]
fn strings_count_utf16_units() {
    check(
        &[("S", T::String, &["hello", "a😀b", "", "null"]), ("N", T::Int, &["2", "-2", "1", "1"])],
        &[
            ("LEN(s)", "5 | 4 | 0 | null", 0),
            ("SUBSTRING(s, n)", "ello | \u{fffd}b |  | null", 0),
            ("SUBSTRING(s, n, 1)", "e | \u{fffd} |  | null", 0),
            ("SUBSTRING(s, 0, 2)", "he | a\u{fffd} |  | null", 0),
            ("UCASE(s)", "HELLO | A😀B |  | null", 0),
            ("INITCAP('  hELLO wORLD')", "Hello World | Hello World | Hello World | Hello World", 0),
            ("CONCAT(s, '-', NULL, s)", "hello-hello | a😀b-a😀b | - | -", 0),
            ("s || '!'", "hello! | a😀b! | ! | !", 0),
            ("CONCAT_WS(',', s, NULL, 'z')", "hello,z | a😀b,z | ,z | z", 0),
            ("REPLACE(s, 'l', 'LL')", "heLLLLo | a😀b |  | null", 0),
            ("TRIM(CONCAT(' \t', s, ' '))", "hello | a😀b |  | ", 0),
            ("LPAD(s, 7, 'xy')", "xyhello | xyxa😀b | xyxyxyx | null", 0),
            ("RPAD(s, 3, '-')", "hel | a😀 | --- | null", 0),
            ("INSTR(s, 'l', 1, 2)", "4 | 0 | 0 | 0", 0),
            ("INSTR(s, 'l', -1)", "4 | 0 | 0 | 0", 0),
            ("FIELD(s, 'x', 'hello')", "2 | 0 | 0 | 0", 0),
            ("ELT(n, 'a', 'b')", "b | null | a | a", 0),
            ("SPLIT(s, 'l')", "[he, , o] | [a😀b] | [] | null", 0),
            ("SPLIT_TO_MAP('a=1;b;c=2=3;a=4', ';', '=')", "{a=4, c=2} | {a=4, c=2} | {a=4, c=2} | {a=4, c=2}", 0),
            ("MASK('AbC1-ü')", "XxXn-x | XxXn-x | XxXn-x | XxXn-x", 0),
            ("MASK_KEEP_RIGHT('Card-1234', 2)", "Xxxx-nn34 | Xxxx-nn34 | Xxxx-nn34 | Xxxx-nn34", 0),
            ("MASK_LEFT('abc', -1)", "null | null | null | null", 4),
            ("CHR(s)", "null | null | null | null", 0),
            ("CHR('\\u0041')", "A | A | A | A", 0),
            ("MD5(s) IS NULL", "false | false | false | true", 0),
            (
                "MD5(SUBSTRING('message digest', n - n))",
                "f96b697d7cb7938d525a2f31aaf161d0 | f96b697d7cb7938d525a2f31aaf161d0 | f96b697d7cb7938d525a2f31aaf161d0 | f96b697d7cb7938d525a2f31aaf161d0",
                0,
            ),
        ],
    );
}

#[test]
fn bytes_and_encodings() {
    check(
        &[("B", T::Bytes, &["AAAAAQ==", "AQ==", "null"])],
        &[
            ("INT_FROM_BYTES(b)", "1 | null | null", 1),
            ("INT_FROM_BYTES(b, 'little_endian')", "16777216 | null | null", 1),
            ("FROM_BYTES(b, 'hex')", "00000001 | 01 | null", 0),
            ("TO_BYTES('ff', 'hex')", "/w== | /w== | /w==", 0),
            ("ENCODE('0xf0', 'hex', 'base64')", "8A== | 8A== | 8A==", 0),
            ("ENCODE('a', 'utf8', 'utf8')", "null | null | null", 3),
            ("LEN(b)", "4 | 1 | null", 0),
            ("CONCAT(b, b)", "AAAAAQAAAAE= | AQE= | ", 0),
            ("SUBSTRING(b, -1)", "AQ== | AQ== | null", 0),
        ],
    );
}

#[test]
fn numbers_round_ties_up() {
    check(
        &[
            ("D", T::Double, &["1.5", "-1.5", "2.345", "null"]),
            ("X", T::Decimal(5, 3), &["1.500", "-1.500", "2.345", "null"]),
            ("I", T::Int, &["-2147483648", "0", "7", "null"]),
        ],
        &[
            ("ROUND(d)", "2 | -1 | 2 | null", 0),
            ("ROUND(d, 2)", "1.5 | -1.5 | 2.35 | null", 0),
            ("ROUND(123.0e0, -1)", "120.0 | 120.0 | 120.0 | 120.0", 0),
            ("ROUND(x)", "2 | -1 | 2 | null", 0),
            ("ROUND(x, 1)", "1.500 | -1.500 | 2.300 | null", 0),
            ("ROUND(i)", "-2147483648 | 0 | 7 | null", 1),
            ("TRUNC(x, 1)", "1.500 | -1.500 | 2.300 | null", 0),
            ("CEIL(x)", "2.000 | -1.000 | 3.000 | null", 0),
            ("FLOOR(d)", "1.0 | -2.0 | 2.0 | null", 0),
            ("ABS(i)", "-2147483648 | 0 | 7 | null", 0),
            ("SIGN(d)", "1 | -1 | 1 | null", 0),
            ("SQRT(d) = SQRT(d)", "true | true | true | false", 0),
            ("LOG(10, 100)", "2.0 | 2.0 | 2.0 | 2.0", 0),
            ("GREATEST(d, 0e0, NULL)", "1.5 | 0.0 | 2.345 | 0.0", 0),
            ("LEAST(x, 1.0)", "1.000 | -1.500 | 1.000 | 1.000", 0),
            ("POWER(2, 10)", "1024.0 | 1024.0 | 1024.0 | 1024.0", 0),
            ("GEO_DISTANCE(100, 0, 0, 0)", "null | null | null | null", 4),
        ],
    );
    refuse(&[("X", T::Decimal(2, 2), &["0.10"])], &[("ROUND(x)", "DECIMAL precision must be >= 1")]);
}

#[test]
fn conditionals() {
    check(
        &[("A", T::Int, &["1", "null", "3"]), ("L", T::BigInt, &["1", "2", "null"])],
        &[
            ("COALESCE(a, 9)", "1 | 9 | 3", 0),
            ("IFNULL(l, 9)", "1 | 2 | 9", 0),
            ("NULLIF(a, 3)", "1 | null | null", 0),
            ("AS_VALUE(a)", "1 | null | 3", 0),
            ("IFNULL(ARRAY[a], ARRAY[0])", "[1] | [null] | [3]", 0),
        ],
    );
}

#[test]
fn arrays_and_maps() {
    check(
        &[("A", T::Int, &["1", "null", "3"]), ("S", T::String, &["x", "y", "null"])],
        &[
            ("ARRAY[a, 2][1]", "1 | null | 3", 0),
            ("ARRAY[a, 2][-1]", "2 | 2 | 2", 0),
            ("ARRAY[a, 2][0]", "null | null | null", 0),
            ("ARRAY[a, 2][9]", "null | null | null", 0),
            ("MAP(s := a, 'k' := 5)", "{x=1, k=5} | {y=null, k=5} | {null=3, k=5}", 0),
            ("MAP('k' := a, 'k' := 5)", "{k=5} | {k=5} | {k=5}", 0),
            ("MAP('k' := a)['k']", "1 | null | 3", 0),
            ("MAP('k' := a)[s]", "null | null | null", 0),
            ("STRUCT(f := a, g := s)->g", "x | y | null", 0),
            ("ARRAY_CONTAINS(ARRAY[1, NULL], a)", "true | true | false", 0),
            ("ARRAY_DISTINCT(ARRAY[a, 1, a, 3])", "[1, 3] | [null, 1, 3] | [3, 1]", 0),
            ("ARRAY_EXCEPT(ARRAY[1, 2, 2], ARRAY[a])", "[2] | [1, 2] | [1, 2]", 0),
            ("ARRAY_INTERSECT(ARRAY[3, 1], ARRAY[a])", "[1] | [] | [3]", 0),
            ("ARRAY_UNION(ARRAY[a], ARRAY[1])", "[1] | [null, 1] | [3, 1]", 0),
            ("ARRAY_CONCAT(ARRAY[a], ARRAY[1])", "[1, 1] | [null, 1] | [3, 1]", 0),
            ("ARRAY_JOIN(ARRAY[a, 2], '-')", "1-2 | null-2 | 3-2", 0),
            ("ARRAY_LENGTH(ARRAY[a, 2])", "2 | 2 | 2", 0),
            ("ARRAY_MAX(ARRAY[a, 2])", "2 | 2 | 3", 0),
            ("ARRAY_MIN(ARRAY[s])", "x | y | null", 0),
            ("ARRAY_REMOVE(ARRAY[a, 2], a)", "[2] | [2] | [2]", 0),
            ("ARRAY_SORT(ARRAY[2, a, 5], 'desc')", "[5, 2, 1] | [5, 2, null] | [5, 3, 2]", 0),
            ("GENERATE_SERIES(1, a)", "[1] | null | [1, 2, 3]", 1),
            ("GENERATE_SERIES(3, 1, -2)", "[3, 1] | [3, 1] | [3, 1]", 0),
            ("SLICE(ARRAY[1, 2, 3], 2, a)", "[] | [2, 3] | [2, 3]", 0),
            ("AS_MAP(ARRAY['a', 'b'], ARRAY[a])", "{a=1, b=null} | {a=null, b=null} | {a=3, b=null}", 0),
            ("MAP_KEYS(MAP('a' := a))", "[a] | [a] | [a]", 0),
            ("MAP_VALUES(MAP('a' := a))", "[1] | [null] | [3]", 0),
            ("MAP_UNION(MAP('a' := 1, 'b' := 2), MAP('a' := a))", "{a=1, b=2} | {a=null, b=2} | {a=3, b=2}", 0),
            ("ENTRIES(MAP('b' := 1, 'a' := 2), true)[1]->K", "a | a | a", 0),
        ],
    );
}

#[test]
fn lambdas_read_the_row_and_each_other() {
    let table: super::expr_tests::Table<'_> = &[("A", T::Int, &["1", "null", "3"]), ("N", T::Int, &["0", "2", "2"])];
    check(
        table,
        &[
            ("TRANSFORM(ARRAY[a, 10], x => x + n)", "[1, 10] | null | [5, 12]", 1),
            ("TRANSFORM(ARRAY[4, 10], x => x / n)", "null | [2, 5] | [2, 5]", 1),
            ("TRANSFORM(ARRAY[4], x => ABS(x / n))", "[null] | [2] | [2]", 1),
            ("FILTER(ARRAY[1, 2, 3], x => x > n)", "[1, 2, 3] | [3] | [3]", 0),
            ("REDUCE(ARRAY[1, 2, 3], n, (s, x) => s + x)", "6 | 8 | 8", 0),
            ("REDUCE(ARRAY[a, 2], 0, (s, x) => s + x)", "3 | null | 5", 1),
            ("TRANSFORM(MAP('k' := a), (k, v) => UCASE(k), (k, v) => IFNULL(v, 0))", "{K=1} | {K=0} | {K=3}", 0),
            ("FILTER(MAP('a' := 1, 'b' := n), (k, v) => v > 0)", "{a=1} | {a=1, b=2} | {a=1, b=2}", 0),
            (
                "TRANSFORM(ARRAY[ARRAY[1, 2], ARRAY[n]], r => TRANSFORM(r, x => x + n + ARRAY_LENGTH(r)))",
                "[[3, 4], [1]] | [[5, 6], [5]] | [[5, 6], [5]]",
                0,
            ),
            ("TRANSFORM(CAST(NULL AS ARRAY<INT>), x => x)", "null | null | null", 0),
        ],
    );
    refuse(
        table,
        &[
            ("TRANSFORM(ARRAY[1], a => a)", "is the name of a column"),
            ("TRANSFORM(ARRAY[ARRAY[1]], x => TRANSFORM(x, x => x))", "lambda around it"),
            ("FILTER(ARRAY[1], x => x)", "must give BOOLEAN"),
            ("REDUCE(ARRAY[1], 'a', (s, x) => x)", "must give STRING"),
            ("ABS(x => x)", "does not accept"),
        ],
    );
}

#[test]
fn json_keeps_digits() {
    check(
        &[("J", T::String, &[r#"{"a":[1,2.50,"x"],"b c":{"d":1e3}}"#, "[1,true,null]", "oops", "null"])],
        &[
            ("EXTRACTJSONFIELD(j, '$.a[1]')", "2.50 | null | null | null", 1),
            ("EXTRACTJSONFIELD(j, '$.a[2]')", "x | null | null | null", 1),
            (r#"EXTRACTJSONFIELD(j, '$["b c"].d')"#, "1000 | null | null | null", 1),
            ("EXTRACTJSONFIELD(j, '$[1]')", "null | true | null | null", 1),
            ("EXTRACTJSONFIELD(j, 'a')", "null | null | null | null", 3),
            ("IS_JSON_STRING(j)", "true | true | false | false", 0),
            ("JSON_ARRAY_CONTAINS(j, 1)", "false | true | false | false", 0),
            ("JSON_ARRAY_CONTAINS(j, NULL)", "false | true | false | false", 0),
            ("JSON_ARRAY_LENGTH(j)", "null | 3 | null | null", 1),
            ("JSON_KEYS(j)", "[a, b c] | null | null | null", 1),
            ("JSON_ITEMS('[\"a\", {\"b\": 1}]')[2]", r#"{"b":1} | {"b":1} | {"b":1} | {"b":1}"#, 0),
            ("JSON_RECORDS(j)['a']", r#"[1,2.50,"x"] | null | null | null"#, 1),
            ("JSON_CONCAT('{\"a\": 1}', '{\"a\": 2}')", r#"{"a":2} | {"a":2} | {"a":2} | {"a":2}"#, 0),
            ("JSON_CONCAT('1', '[2]')", "[1,2] | [1,2] | [1,2] | [1,2]", 0),
            (
                "TO_JSON_STRING(STRUCT(b := 1.50, a := ARRAY['x']))",
                r#"{"A":["x"],"B":1.50} | {"A":["x"],"B":1.50} | {"A":["x"],"B":1.50} | {"A":["x"],"B":1.50}"#,
                0,
            ),
        ],
    );
}

#[test]
fn urls_come_apart_decoded() {
    check(
        &[("U", T::String, &["http://me@host.org:80/a%20b?x=1&y=%26#f", "mailto:a@b", "http://a b", "null"])],
        &[
            ("URL_EXTRACT_HOST(u)", "host.org | null | null | null", 1),
            ("URL_EXTRACT_PORT(u)", "80 | null | null | null", 1),
            ("URL_EXTRACT_PATH(u)", "/a b | null | null | null", 1),
            ("URL_EXTRACT_PROTOCOL(u)", "http | mailto | null | null", 1),
            ("URL_EXTRACT_QUERY(u)", "x=1&y=& | null | null | null", 1),
            ("URL_EXTRACT_FRAGMENT(u)", "f | null | null | null", 1),
            ("URL_EXTRACT_PARAMETER(u, 'x')", "1 | null | null | null", 1),
            ("URL_DECODE_PARAM('a+%C3%BC')", "a ü | a ü | a ü | a ü", 0),
            ("URL_ENCODE_PARAM('a ü*')", "a+%C3%BC* | a+%C3%BC* | a+%C3%BC* | a+%C3%BC*", 0),
        ],
    );
}

#[test]
fn patterns_of_regular_expressions() {
    check(
        &[("S", T::String, &["ab12", "none", "null"]), ("P", T::String, &["([a-z]+)([0-9]+)", "(", "x"])],
        &[
            ("REGEXP_EXTRACT(p, s)", "ab12 | null | null", 1),
            ("REGEXP_EXTRACT(p, s, 2)", "12 | null | null", 1),
            ("REGEXP_EXTRACT('n', s, 1)", "null | null | null", 0),
            ("REGEXP_EXTRACT_ALL('[a-z]', s)", "[a, b] | [n, o, n, e] | null", 0),
            ("REGEXP_REPLACE(s, '([a-z])([a-z])', '$2$1')", "ba12 | onen | null", 0),
            ("REGEXP_SPLIT_TO_ARRAY(s, '[bn]')", "[a, 12] | [, o, e] | null", 0),
            ("REGEXP_SPLIT_TO_ARRAY(s, '')", "[a, b, 1, 2] | [n, o, n, e] | null", 0),
            ("s LIKE '%b1_'", "true | false | null", 1),
            ("s LIKE '!%%' ESCAPE '!'", "false | false | null", 1),
        ],
    );
}

#[test]
fn times_read_print_and_move() {
    check(
        &[("T", T::Timestamp, &["2020-02-29T13:05:06.789", "null"])],
        &[
            ("FORMAT_TIMESTAMP(t, 'yyyy-MM-dd''T''HH:mm:ss.SSSX')", "2020-02-29T13:05:06.789Z | null", 0),
            (
                "FORMAT_TIMESTAMP(t, 'EEE d MMM yy, h:mm a xxx', 'Europe/Paris')",
                "Sat 29 Feb 20, 2:05 PM +01:00 | null",
                0,
            ),
            ("FORMAT_TIMESTAMP(t, 'b')", "null | null", 1),
            ("FORMAT_DATE(CAST(t AS DATE), 'D/uuuu')", "60/2020 | null", 0),
            ("FORMAT_DATE(CAST(t AS DATE), 'HH')", "null | null", 1),
            ("FORMAT_TIME(CAST(t AS TIME), 'HH:mm')", "13:05 | null", 0),
            (
                "PARSE_TIMESTAMP('20200229 130506', 'yyyyMMdd HHmmss')",
                "2020-02-29T13:05:06.000 | 2020-02-29T13:05:06.000",
                0,
            ),
            ("PARSE_TIMESTAMP('12:30', 'HH:mm', '+01:00')", "1970-01-01T11:30:00.000 | 1970-01-01T11:30:00.000", 0),
            ("PARSE_TIMESTAMP('2021-02-29', 'yyyy-MM-dd')", "null | null", 2),
            ("PARSE_DATE('29/feb/20', 'dd/MMM/yy')", "2020-02-29 | 2020-02-29", 0),
            ("PARSE_TIME('01:02 pm', 'hh:mm a')", "13:02 | 13:02", 0),
            ("PARSE_TIME('2020', 'yyyy')", "null | null", 2),
            ("STRINGTODATE('2020-01-02', 'yyyy-MM-dd')", "18263 | 18263", 0),
            ("DATETOSTRING(18263, 'yyyy')", "2020 | 2020", 0),
            ("STRINGTOTIMESTAMP('1970-01-02', 'yyyy-MM-dd', 'UTC')", "86400000 | 86400000", 0),
            ("TIMESTAMPTOSTRING(0, 'HH VV', 'UTC')", "00 UTC | 00 UTC", 0),
            ("TIMESTAMPADD(DAYS, 1, t)", "2020-03-01T13:05:06.789 | null", 0),
            ("TIMESTAMPSUB(MILLISECONDS, 789, t)", "2020-02-29T13:05:06.000 | null", 0),
            ("DATEADD(HOURS, 23, CAST(t AS DATE))", "2020-02-29 | null", 0),
            ("TIMEADD(HOURS, 12, CAST(t AS TIME))", "01:05:06 | null", 0),
            ("CONVERT_TZ(t, 'UTC', 'Asia/Tokyo')", "2020-02-29T22:05:06.789 | null", 0),
            ("CONVERT_TZ(t, 'Nowhere', 'UTC')", "null | null", 1),
            ("UNIX_DATE(FROM_DAYS(7))", "7 | 7", 0),
            ("UNIX_TIMESTAMP(FROM_UNIXTIME(1234))", "1234 | 1234", 0),
        ],
    );
}

#[test]
fn every_function_of_the_table_reads_and_describes_itself() {
    let registry = Registry::builtin();
    let all = registry.list();
    for (name, category) in &all {
        let doc = registry.describe(name).expect("is described");
        assert!(!doc.variations.is_empty() && doc.description.ends_with('.'), "{name} has words and variations");
        assert_eq!(doc.category, *category);
    }
    let count = |kind| all.iter().filter(|(name, _)| registry.kind(name) == Some(kind)).count();
    assert_eq!(count(FunctionKind::Scalar), 129);
    assert_eq!((count(FunctionKind::Aggregate), count(FunctionKind::Table)), (18, 2));
    let mut names: Vec<_> = all.iter().map(|(name, _)| name).collect();
    names.dedup();
    assert_eq!(names.len(), all.len(), "a name is of one kind");
}

#[test]
fn functions_that_throw_dice_differ_by_row() {
    let table: super::expr_tests::Table<'_> = &[("A", T::Int, &["1", "2"])];
    let (scope, batch) = super::expr_tests::batch_of(table);
    let bound =
        super::expr::bind(&crate::sql::parse_expression("UUID()").expect("parses"), &scope, Registry::builtin());
    let compiled =
        crate::function::eval::CompiledExpr::new(&bound.expect("binds").expr, &batch.schema()).expect("compiles");
    let array = compiled.evaluate(&batch, None, &mut |_, _| ()).expect("runs");
    let array = arrow::array::AsArray::as_string::<i32>(&array);
    assert_ne!(array.value(0), array.value(1));
    assert_eq!(run("RANDOM() < 1e0", table).1, "true | true");
}
