//! Expressions from text to columns: what they give, which rows are reported, what is refused.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Field, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyContext};

use super::expr::bind;
use super::scope::{Scope, ScopeColumn};
use crate::function::eval::{CompiledExpr, Failures};
use crate::function::registry::Registry;
use crate::function::{cast, text};
use crate::sql::parse_expression;
use crate::types::SqlType;

/// Columns by name and type, each with its rows as text; `null` is NULL.
pub(super) type Table<'a> = &'a [(&'a str, SqlType, &'a [&'a str])];

fn column_of(ty: &SqlType, rows: &[&str]) -> ArrayRef {
    let texts: StringArray = rows.iter().map(|row| (*row != "null").then_some(*row)).collect();
    let mut failures = Failures::new(None);
    let column = cast::cast(&(Arc::new(texts) as ArrayRef), &SqlType::String, ty, &mut failures).expect("casts");
    assert!(failures.rows().is_empty(), "the rows of a test are values: {:?}", failures.rows());
    column
}

pub(super) fn batch_of(table: Table<'_>) -> (Scope, RecordBatch) {
    let columns = table.iter().map(|(name, ty, _)| ScopeColumn::new("S", *name, ty.clone(), format!("S.{name}")));
    let scope = Scope::new(columns.collect());
    let fields = table.iter().map(|(name, ty, _)| Field::new(format!("S.{name}"), ty.to_arrow(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let arrays = table.iter().map(|(_, ty, rows)| column_of(ty, rows)).collect();
    let rows = table.first().map_or(1, |(.., rows)| rows.len());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    (scope, RecordBatch::try_new_with_options(schema, arrays, &options).expect("is a batch"))
}

fn shown(array: &dyn Array) -> String {
    let mut out = String::new();
    for row in 0..array.len() {
        out.push_str(if row == 0 { "" } else { " | " });
        text::print(array, row, &mut out);
    }
    out
}

/// What the expression gives: its type, the rows, the reports; the same row by row and with every other row absent.
pub(super) fn run(expression: &str, table: Table<'_>) -> (String, String, Vec<(usize, String)>) {
    let (scope, batch) = batch_of(table);
    let ast = parse_expression(expression).expect("parses");
    let bound = bind(&ast, &scope, Registry::builtin()).unwrap_or_else(|e| panic!("{expression}: {e}"));
    let compiled = CompiledExpr::new(&bound.expr, &batch.schema()).expect("compiles");
    let evaluate = |batch: &RecordBatch, present: Option<&BooleanBuffer>| {
        let mut reports = Vec::new();
        let array =
            compiled.evaluate(batch, present, &mut |row, why| reports.push((row, why.to_owned()))).expect("runs");
        assert_eq!(array.data_type(), &bound.ty.to_arrow(), "{expression} gives the type it says");
        (array, reports)
    };
    let (whole, reports) = evaluate(&batch, None);
    for row in 0..batch.num_rows() {
        let (one, own) = evaluate(&batch.slice(row, 1), None);
        assert_eq!(shown(&one), shown(&whole.slice(row, 1)), "{expression}: row {row} alone");
        let expected: Vec<_> = reports.iter().filter(|(r, _)| *r == row).map(|(_, why)| (0, why.clone())).collect();
        assert_eq!(own, expected, "{expression}: reports of row {row} alone");
    }
    let even = BooleanBuffer::collect_bool(batch.num_rows(), |row| row % 2 == 0);
    let (half, half_reports) = evaluate(&batch, Some(&even));
    let expected: Vec<_> = reports.iter().filter(|(row, _)| row % 2 == 0).cloned().collect();
    assert_eq!(half_reports, expected, "{expression}: absent rows are not reported");
    for row in (0..batch.num_rows()).step_by(2) {
        assert_eq!(shown(&half.slice(row, 1)), shown(&whole.slice(row, 1)), "{expression}: row {row} of half");
    }
    let simple = simplified(bound.expr.clone(), &batch);
    let simple = CompiledExpr::new(&simple, &batch.schema()).expect("compiles when simplified");
    let simple = simple.evaluate(&batch, None, &mut |_, _| ()).expect("runs");
    assert_eq!(shown(&simple), shown(&whole), "{expression}: DataFusion's simplifier changes no row");
    (bound.ty.to_string(), shown(&whole), reports)
}

fn simplified(expr: Expr, batch: &RecordBatch) -> Expr {
    let schema = DFSchema::try_from(batch.schema().as_ref().clone()).expect("is a schema");
    let context = SimplifyContext::builder().with_schema(Arc::new(schema)).build();
    ExprSimplifier::new(context).simplify(expr).expect("simplifies")
}

/// Checks rows (separated by ` | `) and how many reports there are, for each expression.
pub(super) fn check(table: Table<'_>, cases: &[(&str, &str, usize)]) {
    for (expression, expected, reports) in cases {
        let (_, rows, reported) = run(expression, table);
        assert_eq!(&rows, expected, "{expression}; reported {reported:?}");
        assert_eq!(reported.len(), *reports, "{expression} reported {reported:?}");
    }
}

/// Checks that each expression is refused with a message that contains the text.
pub(super) fn refuse(table: Table<'_>, cases: &[(&str, &str)]) {
    let (scope, _) = batch_of(table);
    for (expression, message) in cases {
        let ast = parse_expression(expression).expect("parses");
        let error = bind(&ast, &scope, Registry::builtin()).expect_err(expression);
        assert!(error.message.contains(message), "{expression}: {error}");
        assert!(!error.span.is_empty(), "{expression} has a place");
    }
}

fn numbers() -> Vec<(&'static str, SqlType, &'static [&'static str])> {
    vec![
        ("I", SqlType::Int, &["1", "2147483647", "null", "-7"]),
        ("L", SqlType::BigInt, &["10", "3", "5", "0"]),
        ("D", SqlType::Double, &["0.5", "0", "1e10", "-2.5"]),
        ("X", SqlType::Decimal(4, 2), &["10.10", "2.00", "1.00", "0.00"]),
        ("S", SqlType::String, &["a", "b", "null", "7"]),
        ("B", SqlType::Boolean, &["true", "no", "null", "true"]),
    ]
}

#[test]
fn arithmetic_wraps_divides_and_fails_on_null() {
    check(
        &numbers(),
        &[
            ("i + 1", "2 | -2147483648 | null | -6", 1),
            ("i + l", "11 | 2147483650 | null | -7", 1),
            ("i / 2", "0 | 1073741823 | null | -3", 1),
            ("i % 2", "1 | 1 | null | -1", 1),
            ("100 / l", "10 | 33 | 20 | null", 1),
            ("1 / 0", "null | null | null | null", 4),
            ("d / 0", "Infinity | NaN | Infinity | -Infinity", 0),
            ("l * 1.5", "15.0 | 4.5 | 7.5 | 0.0", 0),
            ("x + 1", "11.10 | 3.00 | 2.00 | 1.00", 0),
            ("x / 2.00", "5.050000 | 1.000000 | 0.500000 | 0.000000", 0),
            ("1 / x", "null | 0.500000 | 1.000000 | null", 2),
            ("x % 3", "1.10 | 2.00 | 1.00 | 0.00", 0),
            ("x * d", "5.05 | 0.0 | 1.0E10 | -0.0", 0),
            ("-x", "-10.10 | -2.00 | -1.00 | 0.00", 0),
            ("s + 'z'", "az | bz | null | 7z", 1),
            ("(i + 1) + (100 / l)", "12 | -2147483615 | null | null", 2),
        ],
    );
}

#[test]
fn comparisons_are_two_valued() {
    check(
        &numbers(),
        &[
            ("i = 1", "true | false | false | false", 0),
            ("i <> 1", "false | true | false | true", 0),
            ("NOT (i = 1)", "false | true | true | true", 0),
            ("i IS DISTINCT FROM 1", "false | true | true | true", 0),
            ("i IS NOT DISTINCT FROM l", "false | false | false | false", 0),
            ("i IS NULL", "false | false | true | false", 0),
            ("l > i", "true | false | false | true", 0),
            ("x = 2", "false | true | false | false", 0),
            ("x >= 1.000", "true | true | true | false", 0),
            ("s > 'a'", "false | true | false | false", 0),
            ("s = 'a' AND i = 1", "true | false | false | false", 0),
            ("i BETWEEN 0 AND 10", "true | false | false | false", 0),
            ("i NOT BETWEEN 0 AND 10", "false | true | true | true", 0),
            ("i BETWEEN -8.5 AND 1.5", "true | false | false | true", 0),
            ("i IN (1, '-7', 3.0)", "true | false | false | true", 0),
            ("i NOT IN (1, 2)", "false | true | true | true", 0),
            ("l IN (0,1,2,3,4,6,7,8)", "false | true | false | true", 0),
            ("s IN ('a', 7)", "true | false | false | true", 0),
            ("s LIKE 'a%' OR s LIKE '_'", "true | true | null | true", 1),
            ("ARRAY[i, 2] = ARRAY[1, 2]", "true | false | false | false", 0),
            ("STRUCT(a := i) IN (STRUCT(a := 1), STRUCT(a := -7))", "true | false | false | true", 0),
            ("CAST(s AS INT) = 7", "false | false | false | true", 2),
        ],
    );
}

#[test]
fn later_operands_are_evaluated_where_they_are_needed() {
    check(
        &numbers(),
        &[
            ("l <> 0 AND 100 / l > 20", "false | true | false | false", 0),
            ("l = 0 OR 100 / l > 20", "false | true | false | true", 0),
            ("100 / l > 20 AND l <> 0", "false | true | false | null", 1),
            ("CASE WHEN l <> 0 THEN 100 / l ELSE CAST(-1 AS BIGINT) END", "10 | 33 | 20 | -1", 0),
            ("CASE WHEN 100 / l > 20 THEN 'big' WHEN l = 5 THEN 'five' END", "null | big | five | null", 1),
            ("B AND true", "true | false | null | true", 1),
            ("NOT B", "false | true | null | false", 1),
            ("CASE WHEN B THEN 1 ELSE 2 END", "1 | 2 | null | 1", 1),
            ("i + 1 > 0 AND 100 / l > 0", "true | false | null | false", 1),
        ],
    );
}

#[test]
fn failures_stop_at_calls_casts_and_elements() {
    check(
        &numbers(),
        &[
            ("IFNULL(CAST(s AS INT), -1)", "-1 | -1 | -1 | 7", 2),
            ("CAST(s AS INT) + 1", "null | null | null | 8", 5),
            ("ARRAY[100 / l, 1]", "[10, 1] | [33, 1] | [20, 1] | [null, 1]", 1),
            ("ABS(100 / l) IS NULL", "false | false | false | true", 1),
            ("COALESCE(100 / l, 5)", "10 | 33 | 20 | null", 1),
            ("STRUCT(a := 100 / l)->a", "10 | 33 | 20 | null", 1),
        ],
    );
}

#[test]
fn what_cannot_be_typed_is_refused() {
    refuse(
        &numbers(),
        &[
            ("i = NULL", "Comparison with NULL not supported"),
            ("i + NULL", "Arithmetic on types INTEGER and null are not supported"),
            ("i + s", "Arithmetic on types INTEGER and STRING"),
            ("i > s", "Cannot compare I (INTEGER) to S (STRING) with GREATER_THAN"),
            ("b < true", "with LESS_THAN"),
            ("ARRAY[i] < ARRAY[1]", "with LESS_THAN"),
            ("NULL", "Can't infer a type of null"),
            ("CASE WHEN b THEN NULL END", "All case branches have NULL type"),
            ("CASE WHEN b THEN 1 ELSE 'a' END", "should be the same"),
            ("CASE i WHEN 1 THEN 2 END", "not supported"),
            ("i IN (1, true)", "operator does not exist: INTEGER = BOOLEAN (TRUE)"),
            ("i IN ('x')", "invalid input syntax for type INTEGER: \"x\""),
            ("i IN (s)", "operator does not exist: INTEGER = STRING (S)"),
            ("ARRAY[1, 'x']", "invalid input syntax"),
            ("ARRAY[NULL]", "all NULL"),
            ("MAP('a' := 1, 'b' := 'x')", "invalid input syntax"),
            ("STRUCT(a := 1, a := 2)", "Duplicate field"),
            ("CAST(b AS INT)", "Cast of BOOLEAN to INTEGER is not supported"),
            ("nope", "Column 'NOPE' cannot be resolved"),
            ("t.i", "'T' is not a valid stream/table name or alias"),
            ("FROBNICATE(1)", "Can't find any functions with the name 'FROBNICATE'"),
            ("SUM(i)", "Aggregate functions"),
            ("LEN(i)", "does not accept parameters (INTEGER)"),
            ("COALESCE(i, 'a')", "does not accept parameters (INTEGER, STRING)"),
            ("GREATEST(NULL, NULL)", "ambiguous"),
        ],
    );
}

#[test]
fn casts_follow_the_matrix() {
    check(
        &[
            ("S", SqlType::String, &[" 12 ", "1.5", "yE", "2020-05-06T07:08:09.5"]),
            ("D", SqlType::Double, &["1.5", "-2.5", "1e20", "0"]),
        ],
        &[
            ("CAST(s AS INT)", "12 | null | null | null", 3),
            ("CAST(s AS BOOLEAN)", "false | false | true | false", 0),
            ("CAST(d AS INT)", "1 | -2 | 2147483647 | 0", 0),
            ("CAST(d AS BIGINT)", "1 | -2 | 9223372036854775807 | 0", 0),
            ("CAST(d AS DECIMAL(3, 0))", "2 | -3 | null | 0", 1),
            ("CAST(d AS STRING)", "1.5 | -2.5 | 1.0E20 | 0.0", 0),
            ("CAST(ARRAY[d, 1.0] AS STRING)", "[1.5, 1.0] | [-2.5, 1.0] | [1.0E20, 1.0] | [0.0, 1.0]", 0),
            ("CAST(ARRAY[s] AS ARRAY<DOUBLE>)", "[12.0] | [1.5] | null | null", 2),
            ("CAST(MAP('k' := s) AS MAP<STRING, INT>)", "{k=12} | null | null | null", 3),
            ("CAST(STRUCT(a := d, b := 1) AS STRUCT<a STRING, c INT>)->a", "1.5 | -2.5 | 1.0E20 | 0.0", 0),
        ],
    );
}

#[test]
fn times_convert_and_compare() {
    check(
        &[("T", SqlType::Timestamp, &["2020-05-06T07:08:09.123", "1969-12-31T23:59:59.999", "null"])],
        &[
            ("CAST(t AS STRING)", "2020-05-06T07:08:09.123 | 1969-12-31T23:59:59.999 | null", 0),
            ("CAST(t AS DATE)", "2020-05-06 | 1969-12-31 | null", 0),
            ("CAST(t AS TIME)", "07:08:09 | 23:59:59 | null", 0),
            ("CAST(CAST(t AS DATE) AS TIMESTAMP)", "2020-05-06T00:00:00.000 | 1969-12-31T00:00:00.000 | null", 0),
            ("t > '2020-05'", "true | false | false", 0),
            ("t < '2020-05-06T07:08:09.123+0100'", "false | true | false", 0),
            ("t > 'soon'", "null | null | null", 3),
            ("CAST(t AS DATE) = t", "false | false | false", 0),
        ],
    );
}

#[test]
fn predicates_are_false_where_they_fail() {
    let table = numbers();
    let (scope, batch) = batch_of(&table);
    let ast = parse_expression("100 / l > 10").expect("parses");
    let bound = bind(&ast, &scope, Registry::builtin()).expect("binds");
    let compiled = CompiledExpr::new(&bound.expr, &batch.schema()).expect("compiles");
    let mut reports = Vec::new();
    let matches = compiled.matches(&batch, None, &mut |row, why| reports.push((row, why.to_owned()))).expect("runs");
    assert_eq!(matches.iter().collect::<Vec<_>>(), [false, true, true, false]);
    assert_eq!(reports, [(3, "division by zero".to_owned())]);
}
