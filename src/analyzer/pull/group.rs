//! GROUP BY, aggregates and HAVING of a pull query.
//!
//! Grouping expressions and arguments become columns first; then DataFusion groups them with our accumulators. The subtle thing: rows
//! whose grouping values are NULL are a group of their own, as in SQL; a persistent query drops them, since a NULL key has no partition.

use std::sync::Arc;

use datafusion::logical_expr::{Aggregate, Expr as DfExpr, LogicalPlan};

use super::super::aggregate::{
    GroupKey, Grouping, aggregate_call, bind_list, check_group_by, check_grouped, distinct_calls, group_keys,
};
use super::super::expr::Bound;
use super::super::query::bind_in;
use super::super::relation::{KeyPart, RelColumn, RelRole, Relation, column, internal};
use super::super::select::{Namer, Selected, expect_boolean, names};
use super::super::{AnalysisContext, sql_text};
use super::{kept, projection, sealed};
use crate::diagnostic::Diagnostic;
use crate::function::FunctionLimits;
use crate::function::aggregate::finite::FiniteAggregate;
use crate::plan::topology::AggregateCall;
use crate::sql::ast::Select;
use crate::types::SqlType;

/// Groups the relation; gives it with the SELECT list bound over the groups.
pub(super) fn group(
    select: &Select,
    relation: Relation,
    limits: &Arc<FunctionLimits>,
    ctx: &AnalysisContext<'_>,
) -> Result<(Relation, Vec<Selected>), Diagnostic> {
    check_group_by(select, ctx)?;
    let mut namer = Namer::new(&relation);
    let names = names(&select.items, &relation, &mut namer);
    let keys =
        if select.group_by.is_empty() { vec![] } else { group_keys(select, &relation, &names, &mut namer, ctx)? };
    let calls = distinct_calls(select, ctx.registry)?;
    let specs = calls.iter().map(|c| aggregate_call(c, &relation, ctx)).collect::<Result<Vec<_>, _>>()?;
    let before = relation.clone();
    let plan = aggregated(&relation, &keys, &specs, limits)?;
    let mut computed = Vec::new();
    for key in &keys {
        computed.extend(key.ast.iter().map(|ast| (ast.clone(), key.physical.clone(), key.bound.ty.clone())));
    }
    for (i, (call, spec)) in calls.iter().zip(&specs).enumerate() {
        computed.push(((*call).clone(), format!("$A{i}"), spec.ty.clone()));
    }
    let columns: Vec<RelColumn> = keys.iter().map(column_of).collect();
    let key = keys.iter().map(|k| {
        KeyPart::plain(k.physical.clone(), k.bound.ty.clone(), k.ast.as_ref().map_or_else(String::new, sql_text))
    });
    let relation = Relation { plan, columns, key: key.collect(), computed, ..relation };
    let grouping = Grouping { relation, before, names, windowed: false };
    let selected = bind_list(select, &grouping, ctx)?;
    let Some(condition) = &select.having else { return Ok((grouping.relation, selected)) };
    check_grouped(condition, &grouping, "HAVING", ctx)?;
    let bound = bind_in(condition, &grouping.relation, ctx)?;
    expect_boolean("HAVING", condition, &bound.ty, ctx)?;
    Ok((kept(grouping.relation, bound.expr)?, selected))
}

fn column_of(key: &GroupKey) -> RelColumn {
    key.plain.clone().unwrap_or_else(|| RelColumn {
        qualifier: String::new(),
        name: key.name.clone(),
        ty: key.bound.ty.clone(),
        physical: key.physical.clone(),
        role: RelRole::Synthetic,
    })
}

fn aggregated(
    relation: &Relation,
    keys: &[GroupKey],
    specs: &[AggregateCall],
    limits: &Arc<FunctionLimits>,
) -> Result<LogicalPlan, Diagnostic> {
    let mut inputs: Vec<DfExpr> = Vec::new();
    let mut value = |expr: &DfExpr, ty: &SqlType, name: String| -> Result<DfExpr, Diagnostic> {
        let bound = Bound { expr: expr.clone(), ty: ty.clone() };
        inputs.push(sealed(bound, &relation.plan)?.alias(&name));
        Ok(column(&name))
    };
    let groups = keys.iter().map(|k| value(&k.bound.expr, &k.bound.ty, k.physical.clone()));
    let groups = groups.collect::<Result<Vec<_>, _>>()?;
    let mut calls = Vec::new();
    for (i, spec) in specs.iter().enumerate() {
        let args = spec.args.iter().zip(&spec.arg_types).enumerate();
        let args = args.map(|(j, (arg, ty))| value(arg, ty, format!("$X{i}.{j}"))).collect::<Result<Vec<_>, _>>()?;
        let (literals, ty) = (spec.literals.clone(), spec.ty.clone());
        let function = Arc::from(spec.function.to_uppercase());
        let call = FiniteAggregate::call(function, args, spec.arg_types.clone(), literals, ty, limits.clone());
        calls.push(call.alias(format!("$A{i}")));
    }
    let input = projection(inputs, relation.plan.clone())?;
    Aggregate::try_new(Arc::new(input), groups, calls).map(LogicalPlan::Aggregate).map_err(internal)
}
