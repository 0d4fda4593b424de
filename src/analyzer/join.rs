//! Joins: kinds, criteria, repartitions, and the key of the result.
//!
//! Decides what may be joined (statements.md §8) and brings both sides to the same key. The subtle thing: the joined row has a key column
//! of its own, and remembers which selected columns always equal it; any of them may stand for the key in the projection.

use arrow::datatypes::Field;
use arrow::datatypes::Schema;

use super::AnalysisContext;
use super::expr::Bound;
use super::foreign_key;
use super::query::bind_in;
use super::relation::{KeyPart, RelColumn, RelRole, Relation, ScanOptions, column, internal, scan, source_of};
use super::stream_join::{self, Move, moved};
use crate::diagnostic::Diagnostic;
use crate::plan::nodes::{Shape, StreamNode, StreamOp, arrow_schema_of};
use crate::plan::topology::{JoinKind, KeyWindow};
use crate::sql::ast::{self, BinaryOp, Expr, ExprKind};
use crate::types::SqlType;

/// Joins `left` with what the clause names.
///
/// # Errors
/// Everything statements.md §8 refuses, with the place and the remedy.
pub fn join(
    left: Relation,
    clause: &ast::Join,
    index: usize,
    options: ScanOptions,
    ctx: &AnalysisContext<'_>,
) -> Result<Relation, Diagnostic> {
    let (alias, source) = source_of(&clause.relation, ctx.catalog)?;
    if left.sources.iter().any(|(_, s)| s.name == source.name) {
        let twice =
            if left.sources.len() > 1 { "the source is used twice" } else { "self joins are not yet supported" };
        return Err(Diagnostic::user(format!("Can not join '{}' to '{}': {twice}", source.name, source.name))
            .at(clause.relation.span())
            .help("make a copy with CREATE STREAM … AS SELECT, and join that"));
    }
    if left.sources.iter().any(|(a, _)| *a == alias) {
        return Err(Diagnostic::user(format!("the alias {alias} is used twice")).at(clause.relation.span()));
    }
    let right = scan(&alias, &source, options)?;
    check_kinds(&left, &right, clause)?;
    check_windows(&left, &right, clause)?;
    let criteria = criteria(&left, &right, &clause.on, ctx)?;
    let kind = kind_of(clause.kind);
    let last = index == 0;
    let prefix = if last { String::new() } else { format!("{}_", "L".repeat(index)) };
    if foreign_key::applies(&left, &right, &criteria) {
        return foreign_key::join(left, right, &criteria, clause, prefix);
    }
    let (left, right) = if right.is_table {
        same_key(left, right, &criteria, &prefix, (clause, index))?
    } else {
        stream_join::same_key(left, right, &criteria, (&prefix, index), clause)?
    };
    let op = match (&clause.within, left.is_table) {
        (Some(within), _) => StreamOp::StreamStreamJoin { kind, within: stream_join::within(within)?, prefix },
        (None, true) => StreamOp::TableTableJoin { kind, prefix },
        (None, false) => StreamOp::StreamTableJoin { kind, prefix },
    };
    joined(left, right, &criteria, kind, op, index)
}

/// What is accepted but had better be written otherwise.
pub(super) fn warnings(joins: &[ast::Join]) -> Vec<String> {
    if joins.iter().all(|join| join.within.as_ref().is_none_or(|within| within.grace.is_some())) {
        return Vec::new();
    }
    let text = "A stream-stream join without GRACE PERIOD is deprecated: an outer side's row is given without partner at once, and again \
                when one comes. Add GRACE PERIOD to hold it until its window closes.";
    vec![text.to_owned()]
}

pub(super) fn kind_of(kind: ast::JoinKind) -> JoinKind {
    match kind {
        ast::JoinKind::Inner => JoinKind::Inner,
        ast::JoinKind::Left => JoinKind::Left,
        ast::JoinKind::Right => JoinKind::Right,
        ast::JoinKind::Full => JoinKind::Full,
    }
}

fn check_kinds(left: &Relation, right: &Relation, clause: &ast::Join) -> Result<(), Diagnostic> {
    let span = clause.loc.0;
    let refuse = |text: &str| Err(Diagnostic::user(text.to_owned()).at(span));
    match (left.is_table, right.is_table) {
        (false, false) => match clause.within {
            None => Err(Diagnostic::user("Invalid join: stream-stream joins must have a WITHIN clause specified")
                .at(span)
                .help("add WITHIN with the time that rows may be apart, for example WITHIN 1 HOUR")),
            Some(_) => Ok(()),
        },
        (true, false) => {
            Err(Diagnostic::user("Invalid join order: table-stream joins are not supported; only stream-table joins")
                .at(span)
                .help("name the stream first, then JOIN the table"))
        }
        (_, true) if clause.within.is_some() => {
            Err(Diagnostic::user("A window definition was provided for a Table join. These joins are not windowed")
                .at(clause.within.as_ref().map_or(span, |w| w.loc.0))
                .help("take the WITHIN clause away"))
        }
        (false, true) if clause.kind == ast::JoinKind::Full => {
            refuse("Invalid join type: full-outer join not supported for stream-table join")
        }
        (false, true) if clause.kind == ast::JoinKind::Right => {
            refuse("Invalid join type: right-outer join not supported for stream-table join")
        }
        _ => Ok(()),
    }
}

fn check_windows(left: &Relation, right: &Relation, clause: &ast::Join) -> Result<(), Diagnostic> {
    let span = clause.loc.0;
    match (left.window, right.window) {
        (None, None) => Ok(()),
        (Some(_), None) | (None, Some(_)) => {
            let (with, without) = if left.window.is_some() { (left, right) } else { (right, left) };
            let name = |r: &Relation| r.sources.last().map_or(String::new(), |(_, s)| s.name.to_string());
            Err(Diagnostic::user(format!(
                "Can not join windowed source to non-windowed source. `{}` is windowed, `{}` is not",
                name(with),
                name(without)
            ))
            .at(span))
        }
        (Some(l), Some(r)) if (l == KeyWindow::Session) != (r == KeyWindow::Session) => {
            Err(Diagnostic::user(format!(
                "Incompatible windowed sources. Left source: {}. Right source: {}. Session windowed sources can only be joined to other session windowed sources, and may still not result in expected behaviour as session bounds must be an exact match for the join to work",
                l.name(),
                r.name()
            ))
            .at(span))
        }
        (Some(l), Some(r)) if l != r => {
            Err(Diagnostic::user("Implicit repartitioning of windowed sources is not supported: the windows differ in type or size").at(span))
        }
        _ => Ok(()),
    }
}

/// The two sides of the ON clause, bound on their own side.
pub struct Criteria {
    pub(super) left_ast: Expr,
    pub(super) right_ast: Expr,
    pub(super) left: Bound,
    pub(super) right: Bound,
}

fn criteria(left: &Relation, right: &Relation, on: &Expr, ctx: &AnalysisContext<'_>) -> Result<Criteria, Diagnostic> {
    let ExprKind::Binary { op, left: a, right: b } = &on.kind else {
        return Err(match &on.kind {
            ExprKind::And(_) => {
                Diagnostic::user("Invalid join condition: joins on multiple conditions are not yet supported")
                    .at(on.span())
                    .help("join on one equality; put the other conditions in WHERE")
            }
            _ => not_an_equality(on),
        });
    };
    if *op != BinaryOp::Eq {
        return Err(not_an_equality(on));
    }
    let (a_left, b_left) = (side_of(a, left, right, on)?, side_of(b, left, right, on)?);
    if a_left == b_left {
        return Err(Diagnostic::user(format!("Invalid join condition: each side of the equality must reference exactly one of the joined sources, and not the same one. Got {}.", super::sql_text(on)))
            .at(on.span()));
    }
    let (left_ast, right_ast) = if a_left { (a, b) } else { (b, a) };
    let left_bound = bind_in(left_ast, left, ctx)?;
    let right_bound = bind_in(right_ast, right, ctx)?;
    if left_bound.ty != right_bound.ty {
        return Err(Diagnostic::user(format!(
            "Invalid join condition: types don't match. Got {}{{{}}} = {}{{{}}}.",
            super::sql_text(left_ast),
            left_bound.ty,
            super::sql_text(right_ast),
            right_bound.ty
        ))
        .at(on.span())
        .help("CAST one side to the type of the other"));
    }
    Ok(Criteria {
        left_ast: (**left_ast).clone(),
        right_ast: (**right_ast).clone(),
        left: left_bound,
        right: right_bound,
    })
}

fn not_an_equality(on: &Expr) -> Diagnostic {
    Diagnostic::user(format!(
        "Unsupported join expression: {}. Only equality join criteria is supported",
        super::sql_text(on)
    ))
    .at(on.span())
    .help("write ON left_expression = right_expression")
}

/// True if all columns of `expr` are of the left side, false if all are of the right.
fn side_of(expr: &Expr, left: &Relation, right: &Relation, on: &Expr) -> Result<bool, Diagnostic> {
    let (mut in_left, mut in_right, mut error) = (false, false, None);
    let both = {
        let mut columns = left.columns.clone();
        columns.extend(right.columns.clone());
        Relation { columns, ..left.clone() }.scope()
    };
    expr.walk(&mut |node| {
        let ExprKind::Column(reference) = &node.kind else { return };
        match both.resolve(reference) {
            Ok(found) if left.by_physical(&found.physical).is_some() => in_left = true,
            Ok(_) => in_right = true,
            Err(e) => error = error.take().or(Some(e)),
        }
    });
    if let Some(error) = error {
        return Err(error);
    }
    if in_left == in_right {
        return Err(Diagnostic::user(format!(
            "Invalid comparison expression '{}' in join '{}'. Each side of the join must reference exactly one of the joined sources",
            super::sql_text(expr),
            super::sql_text(on)
        ))
        .at(expr.span()));
    }
    Ok(in_left)
}

/// True if the bound expression is the relation's one key column.
pub(super) fn is_key(relation: &Relation, bound: &Bound) -> bool {
    let [key] = relation.key.as_slice() else { return false };
    bound.expr == column(&key.physical)
        || key.equivalents.iter().any(|e| bound.expr == column(e))
        || key.expressions.contains(&bound.expr)
}

/// Brings both sides to the join key: repartitions stream sides whose key is another, refuses tables.
fn same_key(
    left: Relation,
    right: Relation,
    on: &Criteria,
    prefix: &str,
    (clause, index): (&ast::Join, usize),
) -> Result<(Relation, Relation), Diagnostic> {
    if right.is_table && !is_key(&right, &on.right) {
        let key: Vec<_> = right.key.iter().map(|k| k.label.clone()).collect();
        if left.is_table && right.key.len() > 1 {
            return Err(Diagnostic::user("JOINs are not supported with multiple key columns").at(clause.on.span()));
        }
        return Err(Diagnostic::user(format!(
            "Invalid join condition: stream-table and table-table joins require to join on the table's primary key. Got {} = {}.",
            super::sql_text(&on.left_ast),
            super::sql_text(&on.right_ast)
        ))
        .at(on.right_ast.span())
        .help(format!("join on {}", key.join(", "))));
    }
    let left_is_key = is_key(&left, &on.left);
    if left.is_table && !left_is_key {
        if left.key.len() > 1 {
            return Err(Diagnostic::user("JOINs are not supported with multiple key columns").at(clause.on.span()));
        }
        return Err(internal("a foreign-key join is one before"));
    }
    // A stream with another key is moved to the table's format; else the table, whose key may be written otherwise, is moved to that of
    // the left side.
    let move_left = !left.is_table && !left_is_key;
    let move_right = !move_left && left.key_format != right.key_format;
    if (move_left && left.window.is_some()) || (move_right && right.window.is_some()) {
        return Err(stream_join::windowed(on.left_ast.span()));
    }
    if !move_left && !move_right {
        stream_join::same_partitions(&left, &right, clause.loc.0)?;
    }
    let to_right = Move {
        key: (&on.left_ast, &on.left),
        physical: format!("$L{index}"),
        key_format: &right.key_format,
        partitions: right.partitions,
        role: format!("{prefix}Join"),
    };
    let to_left = Move {
        key: (&on.right_ast, &on.right),
        physical: format!("$R{index}"),
        key_format: &left.key_format,
        partitions: left.partitions,
        role: format!("{prefix}RightSourceKeyed-SelectKey"),
    };
    let new_left = if move_left { moved(&left, to_right)? } else { left.clone() };
    let new_right = if move_right { moved(&right, to_left)? } else { right.clone() };
    Ok((new_left, new_right))
}

#[allow(clippy::too_many_arguments, reason = "the pieces of one join, made once")]
fn joined(
    left: Relation,
    right: Relation,
    on: &Criteria,
    kind: JoinKind,
    op: StreamOp,
    index: usize,
) -> Result<Relation, Diagnostic> {
    let physical = format!("$J{index}");
    let plain = |relation: &Relation, bound: &Bound| {
        relation
            .columns
            .iter()
            .find(|c| c.expr() == bound.expr && c.role != RelRole::Synthetic)
            .map(|c| c.physical.clone())
    };
    let (left_col, right_col) = (plain(&left, &on.left), plain(&right, &on.right));
    let mut equivalents: Vec<String> = Vec::new();
    let mut expressions = Vec::new();
    if kind != JoinKind::Full {
        expressions.extend(left.key[0].expressions.iter().cloned());
        expressions.extend(left_col.is_none().then(|| on.left.expr.clone()));
        expressions.extend(right_col.is_none().then(|| on.right.expr.clone()));
        equivalents.extend(left_col.clone());
        if left_col.is_some() || is_key(&left, &on.left) {
            equivalents.extend(left.key[0].equivalents.iter().filter(|e| Some(*e) != left_col.as_ref()).cloned());
        }
        equivalents.extend(right_col);
    }
    let synthetic = equivalents.is_empty();
    let key_name = synthetic_name(&left, &right);
    let mut columns = Vec::new();
    let mut fields = vec![Field::new(&physical, on.left.ty.to_arrow(), true)];
    for plan in [&left.plan, &right.plan] {
        fields.extend(arrow_schema_of(plan).fields().iter().map(|f| f.as_ref().clone()));
    }
    if synthetic {
        columns.push(RelColumn {
            qualifier: String::new(),
            name: key_name.clone(),
            ty: on.left.ty.clone(),
            physical: physical.clone(),
            role: RelRole::Synthetic,
        });
    }
    columns.extend(left.columns.iter().filter(|c| c.role != RelRole::Synthetic).cloned());
    columns.extend(right.columns.iter().cloned());
    let label = equivalents.iter().map(|e| label_of(e, &columns)).collect::<Vec<_>>().join(" or ");
    let key = vec![KeyPart {
        physical,
        ty: on.left.ty.clone(),
        equivalents,
        expressions,
        of_join: true,
        label: if synthetic { key_name } else { label },
        synthetic,
    }];
    let is_table = left.is_table && right.is_table;
    let shape = Shape { key_count: 1, is_table, window: left.window };
    let plan = StreamNode::plan(op, vec![left.plan.clone(), right.plan.clone()], Schema::new(fields), shape)
        .map_err(internal)?;
    let mut sources = left.sources.clone();
    sources.extend(right.sources.iter().cloned());
    Ok(Relation { plan, columns, key, is_table, sources, computed: vec![], foreign_key: false, ..left })
}

fn label_of(physical: &str, columns: &[RelColumn]) -> String {
    columns
        .iter()
        .find(|c| c.physical == physical)
        .map_or(physical.to_owned(), |c| format!("{}.{}", c.qualifier, c.name))
}

/// ROWKEY, or ROWKEY_1, … where a source has a column of that name.
fn synthetic_name(left: &Relation, right: &Relation) -> String {
    let taken =
        |name: &str| left.columns.iter().chain(&right.columns).any(|c| c.role != RelRole::Synthetic && c.name == name);
    (0..)
        .map(|i| if i == 0 { "ROWKEY".to_owned() } else { format!("ROWKEY_{i}") })
        .find(|n| !taken(n))
        .unwrap_or_default()
}

/// True for types that may be a join key.
pub fn joinable(ty: &SqlType) -> bool {
    !ty.contains_map()
}
