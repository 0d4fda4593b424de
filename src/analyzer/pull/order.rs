//! The end of a pull query: the columns of the result, DISTINCT, ORDER BY, LIMIT and OFFSET.
//!
//! ORDER BY takes the place of a column (1 is the first), a name of the result, or an expression over FROM (over the groups, if there are any).
//! The subtle thing: what is only ordered by is a hidden column, taken away at the end; NULLs are the greatest values unless told otherwise.

use std::sync::Arc;

use datafusion::logical_expr::{Expr as DfExpr, Limit, LogicalPlan, Sort, SortExpr, lit};

use super::super::expr::Bound;
use super::super::query::bind_in;
use super::super::relation::{Relation, column};
use super::super::select::Selected;
use super::super::{AnalysisContext, sql_text};
use super::{PullColumn, Rows, distinct, projection, sealed};
use crate::diagnostic::Diagnostic;
use crate::sql::ast::{Expr, Literal, OrderItem, Query, Select};
use crate::types::SqlType;

/// The result of a SELECT over `relation`.
pub(super) fn of_select(
    columns: Vec<PullColumn>,
    select: &Select,
    query: &Query,
    relation: &Relation,
    selected: &[Selected],
    ctx: &AnalysisContext<'_>,
) -> Result<Rows, Diagnostic> {
    let mut exprs = Vec::new();
    for c in selected {
        exprs.push(sealed(Bound { expr: c.expr.clone(), ty: c.ty.clone() }, &relation.plan)?.alias(&c.name));
    }
    let mut sorts = Vec::new();
    for (i, item) in query.order_by.iter().enumerate() {
        let name = match place(item, &columns)? {
            Some(name) => name,
            None => {
                let bound = bind_in(&item.expr, relation, ctx)?;
                match selected.iter().find(|c| c.expr == bound.expr) {
                    Some(same) => same.name.clone(),
                    None => {
                        check_sortable(&item.expr, &bound.ty)?;
                        if select.distinct.is_some() {
                            return Err(Diagnostic::user(format!(
                                "ORDER BY {} is no column of a SELECT DISTINCT",
                                sql_text(&item.expr)
                            ))
                            .at(item.expr.span())
                            .help("select it too"));
                        }
                        let hidden = format!("$O{i}");
                        exprs.push(sealed(bound, &relation.plan)?.alias(&hidden));
                        hidden
                    }
                }
            }
        };
        sorts.push(sort(item, &name));
    }
    let hides = exprs.len() > columns.len();
    let plan = projection(exprs, relation.plan.clone())?;
    let mut rows = Rows { plan, columns };
    if let Some(at) = select.distinct {
        rows = distinct(rows, at.0)?;
    }
    let mut rows = limited(sorted(rows, sorts), query);
    if hides {
        let shown = rows.columns.iter().map(|c| column(&c.name)).collect();
        rows.plan = projection(shown, rows.plan)?;
    }
    Ok(rows)
}

/// ORDER BY, LIMIT and OFFSET of a UNION, or around a query in parentheses.
pub(super) fn of_result(rows: Rows, query: &Query) -> Result<Rows, Diagnostic> {
    let mut sorts = Vec::new();
    for item in &query.order_by {
        let name = place(item, &rows.columns)?.ok_or_else(|| {
            let names: Vec<_> = rows.columns.iter().map(|c| c.name.as_str()).collect();
            Diagnostic::user(format!("ORDER BY {} is no column of the result", sql_text(&item.expr)))
                .at(item.expr.span())
                .help(format!("use one of {}, or its number", names.join(", ")))
        })?;
        sorts.push(sort(item, &name));
    }
    Ok(limited(sorted(rows, sorts), query))
}

/// The column of the result that an ORDER BY names by number or name.
fn place(item: &OrderItem, columns: &[PullColumn]) -> Result<Option<String>, Diagnostic> {
    let found = match (item.expr.as_literal(), item.expr.as_column()) {
        (Some(Literal::Number(number)), _) => {
            let at = number.text.parse::<usize>().ok().and_then(|n| columns.get(n.checked_sub(1)?));
            Some(at.ok_or_else(|| {
                let message = format!("ORDER BY {}: the result has columns 1 to {}", number.text, columns.len());
                Diagnostic::user(message).at(item.expr.span())
            })?)
        }
        (_, Some(reference)) if reference.qualifier.is_none() => {
            columns.iter().find(|c| c.name == reference.name.as_str())
        }
        _ => None,
    };
    let Some(found) = found else { return Ok(None) };
    check_sortable(&item.expr, &found.ty)?;
    Ok(Some(found.name.clone()))
}

fn check_sortable(expr: &Expr, ty: &SqlType) -> Result<(), Diagnostic> {
    if matches!(ty, SqlType::Array(_) | SqlType::Map(..) | SqlType::Struct(_)) {
        return Err(Diagnostic::user(format!("{} is a {ty}, which has no order", sql_text(expr)))
            .at(expr.span())
            .help("order by one of its fields or elements"));
    }
    Ok(())
}

fn sort(item: &OrderItem, name: &str) -> SortExpr {
    SortExpr::new(column(name), !item.descending, item.nulls_first.unwrap_or(item.descending))
}

fn sorted(rows: Rows, sorts: Vec<SortExpr>) -> Rows {
    if sorts.is_empty() {
        return rows;
    }
    Rows { plan: LogicalPlan::Sort(Sort { expr: sorts, input: Arc::new(rows.plan), fetch: None }), ..rows }
}

fn limited(rows: Rows, query: &Query) -> Rows {
    if query.limit.is_none() && query.offset.is_none() {
        return rows;
    }
    let count =
        |n: Option<crate::sql::ast::RowCount>| n.map(|n| Box::new(lit(i64::try_from(n.count).unwrap_or(i64::MAX))));
    let (skip, fetch): (Option<Box<DfExpr>>, _) = (count(query.offset), count(query.limit));
    Rows { plan: LogicalPlan::Limit(Limit { skip, fetch, input: Arc::new(rows.plan) }), ..rows }
}
