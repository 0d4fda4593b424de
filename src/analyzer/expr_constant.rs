//! Constant expressions: the values of INSERT and the keys of pull queries.
//!
//! Not implicit casts of expressions: here the value itself is converted, and only where nothing is lost.

use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;

use super::expr::Binder;
use super::expr::{Bound, Typed};
use super::expr_coerce::{coerce, evaluate_constant, null_of};
use super::scope::Scope;
use crate::diagnostic::Diagnostic;
use crate::function::decimal::{self, Rounding};
use crate::function::registry::Registry;
use crate::function::udf::ErrorRule;
use crate::sql::ast::{self, ExprKind, Literal};
use crate::types::SqlType;

/// The value of a constant expression as the type of the column it is meant for. `custom` knows custom types by folded name.
///
/// # Errors
/// If it names a column, fails, or has a type that does not become the column's without loss; at its place.
pub fn bind_constant(
    expr: &ast::Expr,
    target: &SqlType,
    column: &str,
    registry: &Registry,
    custom: &dyn Fn(&str) -> Option<SqlType>,
) -> Result<ScalarValue, Diagnostic> {
    let constant = |bound: &Expr| {
        evaluate_constant(bound).map_err(|why| {
            Diagnostic::user(format!("The value for '{column}' cannot be computed: {why}")).at(expr.span())
        })
    };
    if let ExprKind::Literal(Literal::Null) = &expr.kind {
        return constant(&null_of(target));
    }
    let scope = Scope::empty();
    let Bound { expr: bound, ty } = Binder::new(&scope, registry).custom_types(custom).bind(expr)?;
    let value = constant(&bound)?;
    if value.is_null() {
        return constant(&null_of(target));
    }
    if !is_strict(&ty, target) {
        let message = format!("Expected type {target} for field '{column}' but got {ty}({expr})");
        return Err(Diagnostic::user(message).at(expr.span()).help(format!("write a {target}")));
    }
    check_decimals(&value, &ty, target)
        .map_err(|message| Diagnostic::user(format!("{message} for field '{column}'")).at(expr.span()))?;
    constant(&coerce(Typed::new(Expr::Literal(value, None), ty), target, ErrorRule::Propagate))
}

/// True if a value of type `from` may become one of type `to`.
fn is_strict(from: &SqlType, to: &SqlType) -> bool {
    use SqlType as T;
    match (from, to) {
        _ if from == to => true,
        (T::Int, T::BigInt | T::Decimal(..) | T::Double) => true,
        (T::BigInt, T::Decimal(..) | T::Double) => true,
        (T::Decimal(..), T::Decimal(..) | T::Double) => true,
        (T::String, T::Time | T::Date | T::Timestamp | T::Bytes) => true,
        (T::Array(a), T::Array(b)) => is_strict(a, b),
        (T::Map(k, v), T::Map(l, w)) => is_strict(k, l) && is_strict(v, w),
        (T::Struct(a), T::Struct(b)) => a.iter().all(|field| {
            b.iter().find(|other| other.name == field.name).is_some_and(|other| is_strict(&field.ty, &other.ty))
        }),
        _ => false,
    }
}

/// Refuses a decimal that would lose digits.
fn check_decimals(value: &ScalarValue, from: &SqlType, to: &SqlType) -> Result<(), String> {
    let (SqlType::Decimal(_, from), SqlType::Decimal(precision, scale)) = (from, to) else { return Ok(()) };
    let array = value.to_array().map_err(|e| e.to_string())?;
    let values = decimal::Unscaled::of_array(array, true).map_err(|e| e.to_string())?;
    let Some(unscaled) = values.wide(0) else { return Ok(()) };
    let (from, scale) = (i32::from(*from), i32::from(*scale));
    let fitted = decimal::rescale(unscaled, from, scale, Rounding::Down).filter(|v| decimal::fits(*v, *precision));
    let exact =
        fitted.is_some_and(|v| scale >= from || decimal::rescale(v, scale, from, Rounding::Down) == Some(unscaled));
    if exact {
        return Ok(());
    }
    Err(format!("Cannot fit decimal '{}' into {to} without rounding", decimal::print(unscaled, values.scale)))
}
