//! What surrounds expressions: names, interception, constants for INSERT, table functions.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray};
use arrow::datatypes::Int32Type;
use datafusion::scalar::ScalarValue;

use super::expr::{Binder, Bound, bind};
use super::expr_constant::bind_constant;
use super::scope::{Scope, ScopeColumn};
use crate::diagnostic::{Diagnostic, Span};
use crate::function::eval::Failures;
use crate::function::registry::Registry;
use crate::function::table::TableFunction;
use crate::function::udf::column;
use crate::sql::ast::{Expr, ExprKind};
use crate::sql::parse_expression;
use crate::types::SqlType;

fn two_sources() -> Scope {
    Scope::new(vec![
        ScopeColumn::new("L", "ID", SqlType::Int, "L.ID"),
        ScopeColumn::new("R", "ID", SqlType::BigInt, "R.ID"),
        ScopeColumn::new("R", "NAME", SqlType::String, "R.NAME"),
        ScopeColumn::new("R", "ROWTIME", SqlType::BigInt, "R.ROWTIME"),
    ])
}

fn bound(text: &str, scope: &Scope) -> Result<Bound, Diagnostic> {
    bind(&parse_expression(text).expect("parses"), scope, Registry::builtin())
}

#[test]
fn names_resolve_to_physical_columns() {
    let scope = two_sources();
    assert_eq!(bound("r.id", &scope), Ok(Bound { expr: column("R.ID"), ty: SqlType::BigInt }));
    assert_eq!(bound("name", &scope).map(|b| b.expr), Ok(column("R.NAME")));
    let error = bound("id + 1", &scope).expect_err("two of them");
    assert_eq!((error.message.as_str(), error.span), ("Column 'ID' is ambiguous", Span::new(0..2)));
    assert_eq!(error.help.as_deref(), Some("use L.ID or R.ID"));
    let error = bound("nam", &scope).expect_err("misspelt");
    assert_eq!(error.help.as_deref(), Some("did you mean 'NAME'?"));
    let error = bound("l.name", &scope).expect_err("of the other");
    assert_eq!(error.message, "Column 'L.NAME' cannot be resolved");
    let error = bound("orders.id", &scope).expect_err("no source");
    assert_eq!(error.help.as_deref(), Some("use one of L, R"));
    let error = bound("nix", &scope.clone().for_clause("WHERE")).expect_err("none");
    assert_eq!(error.message, "WHERE column 'NIX' cannot be resolved");
}

#[test]
fn a_text_beside_the_row_time_is_a_point_in_time() {
    let scope = two_sources();
    let shown = |text: &str| bound(text, &scope).map(|b| b.expr.to_string()).expect("binds");
    assert_eq!(shown("rowtime >= '1970-01-01T00:00:01'"), "R.ROWTIME >= Int64(1000) IS TRUE");
    assert_eq!(shown("rowtime < '1970-01-01T01:00+0100'"), "R.ROWTIME < Int64(0) IS TRUE");
    assert!(shown("rowtime BETWEEN '1970' AND '1971'").contains("BETWEEN Int64(0) AND Int64(31536000000)"));
    assert!(
        bound("rowtime > 'soon'", &scope).expect_err("no time").message.contains("Failed to parse timestamp 'soon'")
    );
}

#[test]
fn literals_take_the_type_of_the_other_side() {
    let shown = |text: &str| bound(text, &two_sources()).map(|b| b.expr.to_string()).expect("binds");
    assert_eq!(shown("r.id = 5"), "R.ID = Int64(5) IS TRUE");
    assert_eq!(shown("l.id + 1"), "+(L.ID, Int32(1))");
    assert_eq!(shown("l.id = r.id"), "CAST(L.ID AS Int64) = R.ID IS TRUE");
}

#[test]
fn intercepted_nodes_are_replaced_everywhere() {
    let scope = Scope::new(vec![ScopeColumn::new("S", "A", SqlType::Int, "A")]);
    let ast = parse_expression("SUM(a) * 2 > 10 AND TRANSFORM(ARRAY[1], x => x + SUM(a)) = ARRAY[1]").expect("parses");
    let mut calls = 0;
    let mut intercept = |expr: &Expr| match &expr.kind {
        ExprKind::Call { name, .. } if name.as_str() == "SUM" => {
            calls += 1;
            Some(Ok(Bound { expr: column("KSQL_AGG_0"), ty: SqlType::Int }))
        }
        _ => None,
    };
    let bound = Binder::new(&scope, Registry::builtin()).intercept(&mut intercept).bind(&ast).expect("binds");
    let columns: Vec<_> = bound.expr.column_refs().into_iter().map(|c| c.name.clone()).collect();
    assert_eq!((columns, calls), (vec!["KSQL_AGG_0".to_owned()], 2));
}

#[test]
fn custom_types_are_known_to_cast() {
    let ast = parse_expression("CAST('5' AS money)").expect("parses");
    let custom = |name: &str| (name == "MONEY").then_some(SqlType::Decimal(9, 2));
    let scope = Scope::empty();
    let bound = Binder::new(&scope, Registry::builtin()).custom_types(&custom).bind(&ast).expect("binds");
    assert_eq!(bound.expr.to_string(), "Decimal128(5.00,9,2)");
}

fn constant(text: &str, ty: &SqlType) -> Result<ScalarValue, String> {
    let ast = parse_expression(text).expect("parses");
    bind_constant(&ast, ty, "C", Registry::builtin(), &|_| None).map_err(|e| {
        assert!(!e.span.is_empty(), "{text} has a place");
        e.message
    })
}

#[test]
fn constants_become_the_columns_type_without_loss() {
    let decimal = SqlType::Decimal(4, 2);
    assert_eq!(constant("1", &SqlType::BigInt), Ok(ScalarValue::Int64(Some(1))));
    assert_eq!(constant("1 + 2", &SqlType::Double), Ok(ScalarValue::Float64(Some(3.0))));
    assert_eq!(constant("1.5", &decimal), Ok(ScalarValue::Decimal128(Some(150), 4, 2)));
    assert_eq!(constant("NULL", &SqlType::String), Ok(ScalarValue::Utf8(None)));
    assert_eq!(constant("'1970-01-02'", &SqlType::Date), Ok(ScalarValue::Date32(Some(1))));
    assert_eq!(constant("UCASE('a')", &SqlType::String), Ok(ScalarValue::Utf8(Some("A".into()))));
    assert_eq!(
        constant("1.555", &decimal),
        Err("Cannot fit decimal '1.555' into DECIMAL(4, 2) without rounding for field 'C'".into())
    );
    assert_eq!(constant("'x'", &SqlType::Int), Err("Expected type INTEGER for field 'C' but got STRING('x')".into()));
    assert_eq!(
        constant("5000000000", &SqlType::Int),
        Err("Expected type INTEGER for field 'C' but got BIGINT(5000000000)".into())
    );
    assert_eq!(constant("1 / 0", &SqlType::Int), Err("The value for 'C' cannot be computed: division by zero".into()));
    assert!(constant("a", &SqlType::Int).is_err());
    let list = SqlType::Array(Box::new(SqlType::BigInt));
    assert_eq!(constant("ARRAY[1, 2]", &list).map(|v| v.to_string()), Ok("[1, 2]".into()));
}

fn lists(rows: Vec<Option<Vec<Option<i32>>>>) -> ArrayRef {
    Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows))
}

#[test]
fn explode_names_the_row_of_each_value() {
    let list = SqlType::Array(Box::new(SqlType::Int));
    let (explode, ty) = TableFunction::resolve("EXPLODE", &[list]).expect("is one").expect("takes arrays");
    assert_eq!(ty, SqlType::Int);
    let rows = lists(vec![Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(3)])]);
    let out = explode.evaluate(&rows, &mut Failures::new(None)).expect("runs");
    assert_eq!(out.rows.values().as_ref(), [0, 0, 3]);
    assert_eq!((out.values.len(), out.values.is_null(1)), (3, true));
    assert!(TableFunction::resolve("EXPLODE", &[SqlType::Int]).expect("is one").is_err());
    assert!(TableFunction::resolve("LEN", &[]).is_none());
}

#[test]
fn cube_explode_counts_up_in_binary() {
    let rows = lists(vec![Some(vec![Some(1), Some(2)]), Some(vec![None, Some(5)]), Some(vec![Some(0); 21])]);
    let mut failures = Failures::new(None);
    let out = TableFunction::CubeExplode.evaluate(&rows, &mut failures).expect("runs");
    assert_eq!(out.rows.values().as_ref(), [0, 0, 0, 0, 1, 1]);
    let mut shown = Vec::new();
    for row in 0..out.values.len() {
        let mut text = String::new();
        crate::function::text::print(out.values.as_ref(), row, &mut text);
        shown.push(text);
    }
    assert_eq!(shown, ["[null, null]", "[null, 2]", "[1, null]", "[1, 2]", "[null, null]", "[null, 5]"]);
    assert_eq!(failures.rows().len(), 1);
}

#[test]
fn sealed_expressions_fail_as_a_whole_under_datafusion() {
    use datafusion::physical_expr::create_physical_expr;
    let table: super::expr_tests::Table<'_> = &[("L", SqlType::BigInt, &["10", "0", "null"])];
    let (scope, batch) = super::expr_tests::batch_of(table);
    let bound = bound("NOT (100 / l = 10) OR l = 10", &scope).expect("binds");
    let sealed = crate::function::seal::seal(bound.expr, bound.ty, &batch.schema()).expect("seals");
    let schema = datafusion::common::DFSchema::try_from(batch.schema().as_ref().clone()).expect("is a schema");
    let physical = create_physical_expr(&sealed, &schema, &Default::default(), &Default::default()).expect("plans");
    let value = physical.evaluate(&batch).and_then(|value| value.into_array(3)).expect("runs");
    let rows: Vec<_> = arrow::array::AsArray::as_boolean(&value).iter().collect();
    assert_eq!(rows, [Some(true), None, None]);
}
