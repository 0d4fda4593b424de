//! Joins of two streams: how far apart their rows may be, and how both sides come to one key.
//!
//! Kinds and criteria are `join`'s. The subtle thing: a side that is written anew takes the other side's key format and partition count;
//! only if both stay where they are must these agree, and then the right side gives way.

use arrow::datatypes::{Field, Schema};

use super::expr::Bound;
use super::join::{Criteria, is_key};
use super::relation::{KeyPart, Relation, internal};
use crate::diagnostic::{Diagnostic, Span};
use crate::format::{Format, FormatSpec};
use crate::plan::nodes::{Shape, StreamNode, StreamOp, arrow_schema_of};
use crate::plan::topology::JoinWithin;
use crate::sql::ast::{self, Expr, Interval};

/// Grace where no GRACE PERIOD is given.
const DEFAULT_GRACE_MS: i64 = 24 * 60 * 60 * 1000;

/// The WITHIN clause in ms.
///
/// # Errors
/// Times beyond 64 bits.
pub(super) fn within(clause: &ast::Within) -> Result<JoinWithin, Diagnostic> {
    let ms = |interval: &Interval| {
        interval
            .millis()
            .ok_or_else(|| Diagnostic::user("the time is longer than 64 bits of milliseconds").at(interval.span()))
    };
    Ok(JoinWithin {
        before_ms: ms(&clause.before)?,
        after_ms: ms(&clause.after)?,
        grace_ms: clause.grace.as_ref().map_or(Ok(DEFAULT_GRACE_MS), ms)?,
        holds_back: clause.grace.is_some(),
    })
}

/// What a side gets when it is written anew for a join.
pub(super) struct Move<'a> {
    /// the key, as written and bound
    pub(super) key: (&'a Expr, &'a Bound),
    /// name of the key in the plan
    pub(super) physical: String,
    /// format whose bytes decide the partition
    pub(super) key_format: &'a FormatSpec,
    /// partitions
    pub(super) partitions: i32,
    /// role of the internal topic
    pub(super) role: String,
}

/// Brings both streams to the join key.
///
/// # Errors
/// Windowed streams whose key is another; partition counts that differ.
pub(super) fn same_key(
    left: Relation,
    right: Relation,
    on: &Criteria,
    (prefix, index): (&str, usize),
    clause: &ast::Join,
) -> Result<(Relation, Relation), Diagnostic> {
    let move_left = !is_key(&left, &on.left);
    let formats_differ = !move_left && left.key_format != right.key_format;
    let move_right = !is_key(&right, &on.right) || formats_differ;
    for (side, moves, ast) in [(&left, move_left, &on.left_ast), (&right, move_right, &on.right_ast)] {
        if moves && side.window.is_some() {
            return Err(windowed(ast.span()));
        }
    }
    if !move_left && !move_right {
        same_partitions(&left, &right, clause.loc.0)?;
    }
    let to_right = Move {
        key: (&on.left_ast, &on.left),
        physical: format!("$L{index}"),
        key_format: if move_right { known(&left, &right) } else { &right.key_format },
        partitions: if move_right { left.partitions } else { right.partitions },
        role: format!("{prefix}Join-left"),
    };
    let to_left = Move {
        key: (&on.right_ast, &on.right),
        physical: format!("$R{index}"),
        key_format: if move_left { known(&left, &right) } else { &left.key_format },
        partitions: left.partitions,
        role: format!("{prefix}Join-right"),
    };
    let new_left = if move_left { moved(&left, to_right)? } else { left.clone() };
    let new_right = if move_right { moved(&right, to_left)? } else { right.clone() };
    Ok((new_left, new_right))
}

/// The left side's key format, or the right one's where the left stream has no key.
fn known<'a>(left: &'a Relation, right: &'a Relation) -> &'a FormatSpec {
    if left.key_format.format == Format::None { &right.key_format } else { &left.key_format }
}

/// The refusal of a windowed stream that would have to be written anew.
pub(super) fn windowed(span: Span) -> Diagnostic {
    Diagnostic::user("Implicit repartitioning of windowed sources is not supported")
        .at(span)
        .help("join on the key of the windowed stream, with streams of the same key format")
}

/// Whether two sides that stay where they are have the same number of partitions.
///
/// # Errors
/// If not.
pub(super) fn same_partitions(left: &Relation, right: &Relation, span: Span) -> Result<(), Diagnostic> {
    if left.partitions == right.partitions {
        return Ok(());
    }
    let names = (left.sources[0].1.name.clone(), right.sources[0].1.name.clone());
    Err(Diagnostic::user(format!(
        "Can't join `{0}` with `{1}` since the number of partitions don't match. `{0}` partitions = {2}; `{1}` partitions = {3}.",
        names.0, names.1, left.partitions, right.partitions
    ))
    .at(span)
    .help("Please repartition either one so that the number of partitions match"))
}

/// A side, written to an internal topic under its new key.
///
/// # Errors
/// A defect of ours.
pub(super) fn moved(side: &Relation, to: Move<'_>) -> Result<Relation, Diagnostic> {
    let (ast, bound) = to.key;
    let mut fields = vec![Field::new(&to.physical, bound.ty.to_arrow(), true)];
    fields.extend(arrow_schema_of(&side.plan).fields().iter().map(|f| f.as_ref().clone()));
    let op = StreamOp::Rekey {
        keys: vec![bound.expr.clone()],
        key_format: to.key_format.clone(),
        role: to.role,
        partitions: Some(to.partitions),
        drop_null_keys: false,
        drop_absent: false,
        regroup: false,
        through_topic: true,
    };
    let shape = Shape { key_count: 1, is_table: side.is_table, window: side.window };
    let plan = StreamNode::plan(op, vec![side.plan.clone()], Schema::new(fields), shape).map_err(internal)?;
    let part = KeyPart::plain(to.physical, bound.ty.clone(), super::sql_text(ast));
    Ok(Relation { plan, key: vec![part], partitions: to.partitions, ..side.clone() })
}
