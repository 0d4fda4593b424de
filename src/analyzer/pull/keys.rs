//! Constants that a WHERE compares key columns with, checked as the reference does.
//!
//! Not the lookup itself, which comes of the bound condition (`crate::plan::lookup`). The subtle thing: a key constant is converted strictly, by
//! its value, so a text that is no number is an error here where elsewhere it would be a comparison of types.

use super::super::expr_constant::bind_constant;
use super::super::relation::Relation;
use super::super::{AnalysisContext, sql_text};
use crate::catalog::Source;
use crate::diagnostic::Diagnostic;
use crate::sql::ast::{BinaryOp, Expr, ExprKind};

/// Checks the constants that fix all key columns.
///
/// # Errors
/// A NULL, or a value that is none of the key's type.
pub(super) fn check(
    condition: &Expr,
    relation: &Relation,
    source: &Source,
    ctx: &AnalysisContext<'_>,
) -> Result<(), Diagnostic> {
    let keys = source.schema.keys();
    let each = keys.iter().map(|c| fixed(condition, c.name.as_str(), relation));
    let Some(each) = each.collect::<Option<Vec<Vec<&Expr>>>>() else { return Ok(()) };
    for (column, values) in keys.iter().zip(each) {
        for value in values {
            let scalar = bind_constant(value, &column.ty, column.name.as_str(), ctx.registry, &|_| None)?;
            if scalar.is_null() {
                return Err(Diagnostic::user(format!(
                    "Primary key columns can not be NULL: ({})",
                    sql_text(condition)
                ))
                .at(value.span()));
            }
        }
    }
    Ok(())
}

/// The constants that `column` must equal one of, if the condition says so.
fn fixed<'e>(condition: &'e Expr, column: &str, relation: &Relation) -> Option<Vec<&'e Expr>> {
    let is_column = |e: &Expr| {
        let found = e.as_column().and_then(|reference| relation.scope().resolve(reference).ok().cloned());
        found.is_some_and(|found| found.name == column)
    };
    let constant = |e: &Expr| {
        let mut columns = false;
        e.walk(&mut |n| columns |= n.as_column().is_some());
        !columns
    };
    match &condition.kind {
        ExprKind::Binary { op: BinaryOp::Eq, left, right } if is_column(left) && constant(right) => Some(vec![right]),
        ExprKind::Binary { op: BinaryOp::Eq, left, right } if is_column(right) && constant(left) => Some(vec![left]),
        ExprKind::In { operand, list, negated: false } if is_column(operand) && list.iter().all(constant) => {
            Some(list.iter().collect())
        }
        ExprKind::And(list) => list.iter().find_map(|e| fixed(e, column, relation)),
        ExprKind::Or(list) => {
            let each = list.iter().map(|e| fixed(e, column, relation)).collect::<Option<Vec<_>>>()?;
            Some(each.into_iter().flatten().collect())
        }
        _ => None,
    }
}
