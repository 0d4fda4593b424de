//! Coercion: casts that nobody wrote, and the common type of a list.
//!
//! The subtle thing: literals are converted by their value ('10' may stand among numbers), other expressions by their type only; the first
//! item that is not NULL decides the family.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use datafusion::logical_expr::{Cast, Expr};
use datafusion::scalar::ScalarValue;

use super::expr::{Typed, decimal_scalar, digits};
use crate::diagnostic::Diagnostic;
use crate::function::eval::CompiledExpr;
use crate::function::udf::ErrorRule;
use crate::function::{calendar, cast, decimal, text};
use crate::sql::ast::{self, ExprKind, Literal};
use crate::types::{SqlField, SqlType};

/// `value` as `to`, by a cast that CAST knows; constants are converted at once. A row that cannot be cast fails by `rule`.
pub(super) fn coerce(value: Typed, to: &SqlType, rule: ErrorRule) -> Expr {
    let Some(from) = value.ty else { return null_of(to) };
    if &from == to {
        return value.expr;
    }
    let widening =
        matches!((&from, to), (SqlType::Int, SqlType::BigInt | SqlType::Double) | (SqlType::BigInt, SqlType::Double));
    let constant = matches!(value.expr, Expr::Literal(..));
    let cast = if widening {
        Expr::Cast(Cast::new(Box::new(value.expr), to.to_arrow()))
    } else {
        cast::function(from, to.clone(), rule).call(vec![value.expr])
    };
    match constant.then(|| evaluate_constant(&cast)) {
        Some(Ok(constant)) => Expr::Literal(constant, None),
        _ => cast,
    }
}

/// NULL of that type.
pub(super) fn null_of(ty: &SqlType) -> Expr {
    let null = ScalarValue::try_from(&ty.to_arrow()).unwrap_or(ScalarValue::Null);
    Expr::Literal(null, None)
}

/// The value of an expression without columns.
///
/// # Errors
/// Why it fails.
pub(super) fn evaluate_constant(expr: &Expr) -> Result<ScalarValue, String> {
    let schema = Arc::new(Schema::empty());
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let batch = RecordBatch::try_new_with_options(schema.clone(), vec![], &options).map_err(|e| e.to_string())?;
    let compiled = CompiledExpr::new(expr, &schema).map_err(|e| e.to_string())?;
    let mut reason = None;
    let value = compiled.evaluate(&batch, None, &mut |_, why| reason = Some(why.to_owned()));
    match reason {
        Some(reason) => Err(reason),
        None => value.and_then(|v| ScalarValue::try_from_array(&v, 0)).map_err(|e| e.to_string()),
    }
}

/// The type that holds the values of both numeric types.
pub(super) fn wider_number(a: &SqlType, b: &SqlType) -> Option<SqlType> {
    Some(match (a, b) {
        _ if !a.is_numeric() || !b.is_numeric() => return None,
        (SqlType::Double, _) | (_, SqlType::Double) => SqlType::Double,
        (SqlType::Decimal(..), _) | (_, SqlType::Decimal(..)) => {
            let (precision, scale) = decimal::common_type(decimal::natural_type(a)?, decimal::natural_type(b)?);
            SqlType::Decimal(precision, scale)
        }
        (SqlType::BigInt, _) | (_, SqlType::BigInt) => SqlType::BigInt,
        _ => SqlType::Int,
    })
}

/// The items at their common type.
///
/// # Errors
/// The first item that does not go with those before; an all-NULL list gives `None`.
pub(super) fn common_list(items: Vec<(&ast::Expr, Typed)>) -> Result<Option<(SqlType, Vec<Expr>)>, Diagnostic> {
    let mut common: Option<SqlType> = None;
    for (ast, item) in &items {
        let Some(ty) = &item.ty else { continue };
        common = Some(match common {
            None => ty.clone(),
            Some(common) => join(&common, ast, ty)?,
        });
    }
    let Some(common) = common else { return Ok(None) };
    let exprs = items.into_iter().map(|(ast, item)| convert(ast, item, &common)).collect::<Result<_, _>>()?;
    Ok(Some((common, exprs)))
}

/// The type that holds `common` and the item.
fn join(common: &SqlType, ast: &ast::Expr, ty: &SqlType) -> Result<SqlType, Diagnostic> {
    let joined = match &ast.kind {
        ExprKind::Literal(literal) => join_literal(common, literal, ast)?,
        ExprKind::Array(items) => match common {
            SqlType::Array(item) => join_parts(item, items.iter(), ty)?.map(|item| SqlType::Array(Box::new(item))),
            _ => None,
        },
        ExprKind::Map(entries) => match (common, ty) {
            (SqlType::Map(key, value), SqlType::Map(k, v)) => {
                let key = join_parts(key, entries.iter().map(|(k, _)| k), &SqlType::Array(k.clone()))?;
                let value = join_parts(value, entries.iter().map(|(_, v)| v), &SqlType::Array(v.clone()))?;
                key.zip(value).map(|(k, v)| SqlType::Map(Box::new(k), Box::new(v)))
            }
            _ => None,
        },
        ExprKind::Struct(values) => match (common, ty) {
            (SqlType::Struct(a), SqlType::Struct(b)) => {
                let of = |name: &str| values.iter().find(|(n, _)| n.as_str() == name).map(|(_, e)| e);
                Some(join_structs(a, b, &mut |a, b, name| match of(name) {
                    Some(ast) => join(a, ast, b).map(Some),
                    None => Ok(join_types(a, b)),
                })?)
                .flatten()
            }
            _ => None,
        },
        _ => join_types(common, ty),
    };
    joined.ok_or_else(|| no_operator(common, ty, ast))
}

/// The common type of `item` and the parts of a constructor, whose own item type is in `ty`.
fn join_parts<'e>(
    item: &SqlType,
    parts: impl Iterator<Item = &'e ast::Expr>,
    ty: &SqlType,
) -> Result<Option<SqlType>, Diagnostic> {
    let SqlType::Array(own) = ty else { return Ok(None) };
    let mut joined = item.clone();
    for part in parts.filter(|p| p.as_literal() != Some(&Literal::Null)) {
        joined = match &part.kind {
            ExprKind::Literal(literal) => match join_literal(&joined, literal, part)? {
                Some(joined) => joined,
                None => return Ok(None),
            },
            _ => match join_types(&joined, own) {
                Some(joined) => joined,
                None => return Ok(None),
            },
        };
    }
    Ok(Some(joined))
}

/// The common type of two types, for expressions that are no literals.
pub(super) fn join_types(a: &SqlType, b: &SqlType) -> Option<SqlType> {
    if a == b {
        return Some(a.clone());
    }
    match (a, b) {
        (SqlType::Array(a), SqlType::Array(b)) => Some(SqlType::Array(Box::new(join_types(a, b)?))),
        (SqlType::Map(k, v), SqlType::Map(l, w)) => {
            Some(SqlType::Map(Box::new(join_types(k, l)?), Box::new(join_types(v, w)?)))
        }
        (SqlType::Struct(a), SqlType::Struct(b)) => {
            join_structs(a, b, &mut |a, b, _| Ok(join_types(a, b))).ok().flatten()
        }
        _ => wider_number(a, b),
    }
}

type JoinField<'a> = &'a mut dyn FnMut(&SqlType, &SqlType, &str) -> Result<Option<SqlType>, Diagnostic>;

/// All fields of both, in order of first occurrence.
fn join_structs(a: &[SqlField], b: &[SqlField], join: JoinField<'_>) -> Result<Option<SqlType>, Diagnostic> {
    let mut fields = Vec::with_capacity(a.len());
    for field in a {
        let ty = match b.iter().find(|other| other.name == field.name) {
            Some(other) => match join(&field.ty, &other.ty, field.name.as_str())? {
                Some(ty) => ty,
                None => return Ok(None),
            },
            None => field.ty.clone(),
        };
        fields.push(SqlField { name: field.name.clone(), ty });
    }
    fields.extend(b.iter().filter(|other| a.iter().all(|field| field.name != other.name)).cloned());
    Ok(Some(SqlType::Struct(fields.into())))
}

/// The type that holds `common` and the literal; `None` if they do not go together.
fn join_literal(common: &SqlType, literal: &Literal, ast: &ast::Expr) -> Result<Option<SqlType>, Diagnostic> {
    let invalid = |text: &str| {
        let message = format!("invalid input syntax for type {}: \"{text}\"", base_name(common));
        Diagnostic::user(message).at(ast.span()).help("write a value of that type, or cast the others")
    };
    Ok(match (common, literal) {
        (_, Literal::Null) => Some(common.clone()),
        (SqlType::String, _) => Some(SqlType::String),
        (number, Literal::String(text)) if number.is_numeric() => {
            let ty = text_number_type(text).ok_or_else(|| invalid(text))?;
            wider_number(number, &ty)
        }
        (SqlType::Boolean, Literal::String(text)) => {
            let lower = text::trim(text).to_ascii_lowercase();
            let known = ["true", "false", "yes", "no"].iter().any(|word| word.starts_with(&lower));
            if lower.is_empty() || !known {
                return Err(invalid(text));
            }
            Some(SqlType::Boolean)
        }
        (SqlType::Date, Literal::String(t)) => {
            Some(calendar::parse_date(t).map(|_| SqlType::Date).ok_or_else(|| invalid(t))?)
        }
        (SqlType::Time, Literal::String(t)) => {
            Some(calendar::parse_time(t).map(|_| SqlType::Time).ok_or_else(|| invalid(t))?)
        }
        (SqlType::Timestamp, Literal::String(t)) => {
            Some(calendar::parse_timestamp(t).map(|_| SqlType::Timestamp).ok_or_else(|| invalid(t))?)
        }
        (SqlType::Bytes, Literal::String(t)) => {
            Some(text::parse_base64(t).map(|_| SqlType::Bytes).ok_or_else(|| invalid(t))?)
        }
        (_, literal) => {
            let own = super::expr::bind_literal(literal, ast.span())?.ty;
            own.and_then(|own| join_types(common, &own))
        }
    })
}

/// The narrowest numeric type of a text.
fn text_number_type(text: &str) -> Option<SqlType> {
    let text = text::trim(text);
    let (value, scale) = decimal::parse(text)?;
    // a text with a point or an exponent is a DECIMAL, whatever its value
    let digits_only = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-'));
    let value = if scale < 0 { decimal::grow(value, u8::try_from(-scale).ok()?)? } else { value };
    let scale = u8::try_from(scale.max(0)).ok()?;
    Some(match value.to_i128() {
        Some(whole) if digits_only && i32::try_from(whole).is_ok() => SqlType::Int,
        Some(whole) if digits_only && i64::try_from(whole).is_ok() => SqlType::BigInt,
        _ => SqlType::Decimal(digits(value).max(scale + 1).min(76), scale.min(76)),
    })
}

/// The item at the common type.
fn convert(ast: &ast::Expr, item: Typed, common: &SqlType) -> Result<Expr, Diagnostic> {
    if let (ExprKind::Literal(Literal::String(text)), true) = (&ast.kind, common.is_numeric()) {
        let value = number_of_text(text, common);
        return value.map(|v| Expr::Literal(v, None)).ok_or_else(|| {
            Diagnostic::user(format!("invalid input syntax for type {common}: \"{text}\"")).at(ast.span())
        });
    }
    if let (ExprKind::Array(_) | ExprKind::Map(_) | ExprKind::Struct(_), Some(from)) = (&ast.kind, &item.ty) {
        let cast = coerce(item.clone(), common, ErrorRule::Propagate);
        // text in a constructor of constants is checked now, not on each row
        if from != common && cast.column_refs().is_empty() {
            let value = evaluate_constant(&cast);
            return value.map(|v| Expr::Literal(v, None)).map_err(|why| {
                Diagnostic::user(format!("invalid input syntax for type {common}: {why}")).at(ast.span())
            });
        }
        return Ok(cast);
    }
    Ok(coerce(item, common, ErrorRule::Propagate))
}

fn number_of_text(text: &str, ty: &SqlType) -> Option<ScalarValue> {
    let (value, scale) = decimal::parse(text::trim(text))?;
    let exact = |to: i32| {
        decimal::rescale(value, scale, to, decimal::Rounding::Down)
            .filter(|v| decimal::rescale(*v, to, scale, decimal::Rounding::Down) == Some(value) || scale <= to)
    };
    Some(match ty {
        SqlType::Int => ScalarValue::Int32(Some(exact(0)?.to_i128()?.try_into().ok()?)),
        SqlType::BigInt => ScalarValue::Int64(Some(exact(0)?.to_i128()?.try_into().ok()?)),
        SqlType::Double => ScalarValue::Float64(Some(text::trim(text).parse().ok()?)),
        SqlType::Decimal(p, s) => decimal_scalar(exact(i32::from(*s))?, *p, *s),
        _ => return None,
    })
}

/// The name of a type without its parameters.
fn base_name(ty: &SqlType) -> String {
    match ty {
        SqlType::Decimal(..) => "DECIMAL".to_owned(),
        other => other.to_string(),
    }
}

fn no_operator(common: &SqlType, ty: &SqlType, ast: &ast::Expr) -> Diagnostic {
    Diagnostic::user(format!("operator does not exist: {common} = {ty} ({ast})"))
        .at(ast.span())
        .help("You might need to add explicit type casts")
}
