//! Optimizer rules for queries that stream: the same rows and the same processing log for less work.
//!
//! Ours are few, because most of DataFusion's are wrong here:
//! - *Constant folding* is done when an expression is compiled (`crate::function::compile`), where a constant that fails is seen and stays. `SimplifyExpressions`
//!   would turn `10 / n = 1 OR TRUE` into TRUE, and the row of the processing log for `n = 0` were lost; it may also turn NOT around a comparison, whose
//!   NULL is FALSE here.
//! - *Common sub-expressions*: a function that fails is reported once for each place where it stands. Evaluated once (`CommonSubexprEliminate`), it
//!   were reported once; and of the functions that never fail none costs as much as the column that would carry it.
//! - *Projection push-down* is done in lowering (`super::lower`), down to the decoder; `OptimizeProjections` knows nothing of old rows and of keys
//!   that must stay.
//! - *Predicate push-down* is [`push_down_predicates`]: `PushDownFilter` pushes a predicate to every input of an extension node alike, below joins and
//!   aggregates that count on the rows it takes away, and past others that fail.
//!
//! The subtle thing: a rule that only ever adds a filter below, and leaves what is above as it was, cannot let through a wrong row.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Extension, Filter, LogicalPlan, UserDefinedLogicalNode};

use super::nodes::{StreamNode, StreamOp, arrow_schema_of};
use super::topology::JoinKind;
use crate::format::Format;
use crate::function::compile::compile;

/// Names of the rules, as `optimizer.rules.off` takes them.
pub const RULES: &[&str] = &["push_down_predicates"];

/// Which rules are in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    off: Vec<String>,
}

impl Rules {
    /// All but these, with commas between.
    ///
    /// # Errors
    /// A name that is none.
    pub fn without(names: &str) -> Result<Self, String> {
        let off: Vec<String> =
            names.split(',').map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect();
        match off.iter().find(|name| !RULES.contains(&name.as_str())) {
            Some(unknown) => Err(format!("there is no optimizer rule {unknown}; there are {}", RULES.join(", "))),
            None => Ok(Self { off }),
        }
    }

    /// The plan after all rules in use.
    ///
    /// # Errors
    /// A defect of a rule.
    pub fn optimize(&self, plan: &LogicalPlan) -> DfResult<LogicalPlan> {
        if self.off.iter().any(|name| name == "push_down_predicates") {
            return Ok(plan.clone());
        }
        push_down_predicates(plan.clone())
    }
}

/// Filters the stream side of a stream-table join by what a filter above says of it, before its rows are looked up or written to a repartition topic.
///
/// A condition is pushed only if it reads the stream side alone, can never fail, and none before it in the AND can (the rows it takes away would
/// have been reported by that one). Rows whose key is NULL go on, for the join or the repartition to report. The filter above stays as it was.
fn push_down_predicates(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let done = plan.transform_down(|node| {
        let LogicalPlan::Filter(filter) = &node else { return Ok(Transformed::no(node)) };
        let Some(left) = stream_side(&filter.input) else { return Ok(Transformed::no(node)) };
        let Some(early) = early(&filter.predicate, left)? else { return Ok(Transformed::no(node)) };
        let input = placed(early, &filter.input)?;
        let filter = Filter::try_new(filter.predicate.clone(), Arc::new(input))?;
        Ok(Transformed::yes(LogicalPlan::Filter(filter)))
    })?;
    Ok(done.data)
}

/// The stream of a stream-table join, each row of which gives at most one row.
fn stream_side(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    let node = StreamNode::of(plan)?;
    match &node.op {
        StreamOp::StreamTableJoin { kind: JoinKind::Inner | JoinKind::Left, .. } => node.inputs.first(),
        _ => None,
    }
}

/// The operands of a condition that can be asked before anything else is.
fn early(condition: &Expr, left: &LogicalPlan) -> DfResult<Option<Expr>> {
    let schema = arrow_schema_of(left);
    let mut found = Vec::new();
    for operand in split_conjunction(condition) {
        if !reads_only(operand, left) {
            if may_fail_anywhere(operand) {
                break;
            }
            continue;
        }
        if operand.is_volatile() || compile(operand, &schema)?.can_fail() {
            break;
        }
        found.push(operand.clone());
    }
    Ok(conjunction(found))
}

/// True if some row may fail: anything that is more than comparisons of columns and constants.
fn may_fail_anywhere(expr: &Expr) -> bool {
    let mut calls = false;
    // the closure never fails, so the walk does not
    let _ = expr.apply(|node| {
        calls |= matches!(node, Expr::ScalarFunction(_));
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    });
    calls
}

fn reads_only(expr: &Expr, plan: &LogicalPlan) -> bool {
    let schema = arrow_schema_of(plan);
    let names: HashSet<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    expr.column_refs().iter().all(|column| names.contains(column.name.as_str()))
}

/// `plan` with a filter as deep below it as may be.
fn placed(condition: Expr, plan: &LogicalPlan) -> DfResult<LogicalPlan> {
    if let Some(left) = stream_side(plan).filter(|left| reads_only(&condition, left)) {
        let keys = StreamNode::shape_of(left).key_count;
        let schema = arrow_schema_of(left);
        let keys: Vec<Expr> = schema.fields()[..keys].iter().map(|f| named(f.name())).collect();
        return below(plan, or_null(condition, &keys));
    }
    if let Some(keys) = plain_rekey(plan).filter(|_| reads_only(&condition, &below_of(plan))) {
        let keys = keys.to_vec();
        return below(plan, or_null(condition, &keys));
    }
    Ok(LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan.clone()))?))
}

fn below_of(plan: &LogicalPlan) -> LogicalPlan {
    plan.inputs().first().map_or_else(|| plan.clone(), |input| (*input).clone())
}

/// The new key of a repartition that reports no rows but those whose key is NULL.
fn plain_rekey(plan: &LogicalPlan) -> Option<&[Expr]> {
    let StreamOp::Rekey { keys, key_format, regroup: false, .. } = &StreamNode::of(plan)?.op else { return None };
    let schema = arrow_schema_of(plan);
    let plain = keys.iter().all(|key| matches!(key, Expr::Column(_)));
    let types = schema.fields()[..keys.len()].iter().map(|f| f.data_type());
    let always_encodes = matches!(key_format.format, Format::Kafka | Format::Json)
        && types.into_iter().all(|ty| matches!(ty, DataType::Int32 | DataType::Int64 | DataType::Utf8));
    (plain && always_encodes && !StreamNode::shape_of(plan).is_table).then_some(keys)
}

/// The node with its first input filtered.
fn below(plan: &LogicalPlan, condition: Expr) -> DfResult<LogicalPlan> {
    let Some(node) = StreamNode::of(plan) else { return Ok(plan.clone()) };
    let mut inputs = node.inputs.clone();
    if let Some(first) = inputs.first_mut() {
        *first = placed(condition, first)?;
    }
    let node = node.with_exprs_and_inputs(node.expressions(), inputs)?;
    Ok(LogicalPlan::Extension(Extension { node }))
}

fn named(physical: &str) -> Expr {
    Expr::Column(datafusion::common::Column::new_unqualified(physical))
}

/// The condition, or one of the keys is NULL; each said once.
fn or_null(condition: Expr, keys: &[Expr]) -> Expr {
    keys.iter().fold(condition, |condition, key| {
        let null = Expr::IsNull(Box::new(key.clone()));
        if says(&condition, &null) { condition } else { condition.or(null) }
    })
}

fn says(condition: &Expr, operand: &Expr) -> bool {
    match condition {
        Expr::BinaryExpr(b) if b.op == datafusion::logical_expr::Operator::Or => {
            says(&b.left, operand) || says(&b.right, operand)
        }
        other => other == operand,
    }
}
