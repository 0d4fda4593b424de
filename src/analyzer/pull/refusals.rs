//! What may stand in a pull query: one table of clauses, each with the dialect that takes it.
//!
//! The reference's dialect reads one source and filters it; ours takes the rest of SQL. The subtle thing: the reason of a refusal is the same in both,
//! only the remedy differs, and the table is asked at every level of a nested query.

use super::super::{AnalysisContext, aggregate, sql_text};
use crate::diagnostic::{Diagnostic, Span};
use crate::sql::ast::{Expr, ExprKind, Query, QueryBody, RelationKind, Select, SelectItem, UnaryOp};
use crate::types::pseudo;

/// How far a pull query may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// what the reference takes (`riverrun.dialect = ksql`)
    Reference,
    /// everything we can do
    Extended,
}

/// A clause that not every pull query may have.
struct Refusal<T: ?Sized> {
    /// as the reason names it
    what: &'static str,
    /// taken by our dialect
    extended: bool,
    /// where it stands
    find: fn(&T) -> Option<Span>,
}

/// Clauses around a SELECT.
const IN_QUERY: &[Refusal<Query>] = &[
    Refusal { what: "WITH clauses", extended: true, find: |q| q.with.first().map(|cte| cte.name.span()) },
    Refusal {
        what: "UNION",
        extended: true,
        find: |q| match &q.body {
            QueryBody::Union { left, .. } => Some(super::span_of(left)),
            _ => None,
        },
    },
    Refusal {
        what: "a query in parentheses",
        extended: true,
        find: |q| match &q.body {
            QueryBody::Query(inner) => Some(inner.span()),
            _ => None,
        },
    },
    Refusal { what: "ORDER BY clauses", extended: true, find: |q| q.order_by.first().map(|item| item.expr.span()) },
    Refusal { what: "OFFSET clauses", extended: true, find: |q| q.offset.map(|o| o.loc.0) },
    Refusal { what: "EMIT clauses inside of a query", extended: false, find: |q| q.emit.map(|e| e.loc.0) },
];

/// Clauses of a SELECT.
const IN_SELECT: &[Refusal<Select>] = &[
    Refusal { what: "JOIN clauses", extended: true, find: |s| s.joins.first().map(|j| j.loc.0) },
    Refusal {
        what: "WITHIN clauses",
        extended: false,
        find: |s| s.joins.iter().find_map(|j| j.within.as_ref()).map(|w| w.loc.0),
    },
    Refusal {
        what: "subqueries",
        extended: true,
        find: |s| {
            let relations = std::iter::once(&s.from).chain(s.joins.iter().map(|j| &j.relation));
            let mut subqueries = relations.filter(|r| matches!(r.kind, RelationKind::Subquery(_)));
            subqueries.next().map(|r| r.span())
        },
    },
    Refusal { what: "WINDOW clauses", extended: false, find: |s| s.window.as_ref().map(|w| w.loc.0) },
    Refusal { what: "GROUP BY clauses", extended: true, find: |s| s.group_by.first().map(Expr::span) },
    Refusal { what: "PARTITION BY clauses", extended: false, find: |s| s.partition_by.first().map(Expr::span) },
    Refusal { what: "HAVING clauses", extended: true, find: |s| s.having.as_ref().map(Expr::span) },
    Refusal { what: "DISTINCT", extended: true, find: |s| s.distinct.map(|d| d.0) },
];

fn check<T>(table: &[Refusal<T>], of: &T, taken: Taken) -> Result<(), Diagnostic> {
    for refusal in table.iter().filter(|r| taken == Taken::Reference || !r.extended) {
        if let Some(span) = (refusal.find)(of) {
            let error = Diagnostic::user(format!("Pull queries don't support {}.", refusal.what)).at(span);
            return Err(if refusal.extended {
                error.help(
                    "SET 'riverrun.dialect' = 'extended' takes it; or see the stream of changes with EMIT CHANGES",
                )
            } else {
                error.help("see the stream of changes with EMIT CHANGES, or make a table of it with CREATE TABLE … AS SELECT and read that")
            });
        }
    }
    Ok(())
}

/// Refuses clauses around a SELECT.
pub(super) fn check_query(query: &Query, taken: Taken) -> Result<(), Diagnostic> {
    check(IN_QUERY, query, taken)
}

/// Refuses clauses of a SELECT; under the reference's dialect also what its list and its condition may not hold.
pub(super) fn check_select(select: &Select, taken: Taken, ctx: &AnalysisContext<'_>) -> Result<(), Diagnostic> {
    check(IN_SELECT, select, taken)?;
    if taken == Taken::Extended {
        return Ok(());
    }
    check_list(select, ctx)?;
    select.filter.as_ref().map_or(Ok(()), check_condition)
}

/// What the reference refuses in a pull query on a stream; conditions are free there.
///
/// # Errors
/// The clause or pseudo column.
pub fn stream_alone(query: &Query, select: &Select, taken: Taken, ctx: &AnalysisContext<'_>) -> Result<(), Diagnostic> {
    check(IN_QUERY, query, taken)?;
    check(IN_SELECT, select, taken)?;
    if taken == Taken::Reference {
        check_aggregates(select, ctx)?;
    }
    let mut refused = None;
    let mut visit = |e: &Expr| {
        e.walk(&mut |n| {
            let hidden = [pseudo::ROWPARTITION, pseudo::ROWOFFSET];
            if let Some(c) = n.as_column().filter(|c| hidden.contains(&c.name.as_str())) {
                refused = Some((c.name.as_str().to_owned(), n.span()));
            }
        });
    };
    select.filter.iter().for_each(&mut visit);
    for item in &select.items {
        if let SelectItem::Expr { expr, .. } = item {
            visit(expr);
        }
    }
    match refused {
        Some((name, span)) => Err(Diagnostic::user(format!("Pull queries don't support the pseudo column {name}"))
            .at(span)
            .help("use EMIT CHANGES")),
        None => Ok(()),
    }
}

fn check_list(select: &Select, ctx: &AnalysisContext<'_>) -> Result<(), Diagnostic> {
    let stars = select.items.iter().filter(|i| matches!(i, SelectItem::Star(_) | SelectItem::SourceStar(_))).count();
    if stars > 0 && select.items.len() > 1 {
        return Err(Diagnostic::user(
            "Pull queries only support wildcards in the projection if they are the only expression",
        )
        .at(select.loc.0));
    }
    check_aggregates(select, ctx)
}

fn check_aggregates(select: &Select, ctx: &AnalysisContext<'_>) -> Result<(), Diagnostic> {
    for item in &select.items {
        if let SelectItem::Expr { expr, .. } = item
            && let Some(call) = aggregate::first_call(expr, ctx.registry)
        {
            return Err(Diagnostic::user(format!(
                "Pull queries don't support GROUP BY clauses, so neither the aggregate function {}",
                sql_text(call)
            ))
            .at(call.span()));
        }
    }
    Ok(())
}

/// Under the reference's dialect every leaf of a WHERE is a comparison, IN, BETWEEN or LIKE.
fn check_condition(expr: &Expr) -> Result<(), Diagnostic> {
    match &expr.kind {
        ExprKind::And(list) | ExprKind::Or(list) => list.iter().try_for_each(check_condition),
        ExprKind::Unary { op: UnaryOp::Not, operand } => match &operand.kind {
            ExprKind::And(_) | ExprKind::Or(_) | ExprKind::In { .. } | ExprKind::Between { .. } => {
                check_condition(operand)
            }
            _ => Err(not_in_where(expr)),
        },
        ExprKind::Binary { op, .. } if op.is_comparison() => Ok(()),
        ExprKind::In { .. } | ExprKind::Between { .. } => Ok(()),
        ExprKind::Like { negated: false, .. } => Ok(()),
        _ => Err(not_in_where(expr)),
    }
}

fn not_in_where(expr: &Expr) -> Diagnostic {
    Diagnostic::user(format!(
        "Unsupported expression in WHERE clause: {}. A pull query compares columns with constants",
        sql_text(expr)
    ))
    .at(expr.span())
    .help("SET 'riverrun.dialect' = 'extended' to use any condition")
}
