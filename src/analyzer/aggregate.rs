//! GROUP BY, aggregate calls, windows and HAVING.
//!
//! Turns a relation into one keyed by the grouping expressions, with a column for each aggregate call. The subtle thing: an expression over
//! the groups is recognized by what was written, so `UCASE(x)` may be selected when `UCASE(x)` is grouped, and a column by what it
//! resolves to, so `S.X` and `X` are the same.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::logical_expr::{Expr as DfExpr, lit};
use datafusion::scalar::ScalarValue;

use super::expr::Bound;
use super::query::{bind_in, bind_items, map_key};
use super::relation::{KeyPart, RelColumn, RelRole, Relation, internal};
use super::select::{ListOf, Namer, Selected, expand, name_in_list, names};
use super::{AnalysisContext, sql_text};
use crate::diagnostic::Diagnostic;
use crate::format::Format;
use crate::function::Registry;
use crate::plan::nodes::{Shape, StreamNode, StreamOp, arrow_schema_of};
use crate::plan::topology::{AggregateCall, KeyWindow};
use crate::sql::ast::{Expr, ExprKind, Interval, Literal, NumberKind, Select, SelectItem, WindowClause, WindowShape};
use crate::types::window::DEFAULT_GRACE_TOTAL_MS;
use crate::types::{SqlType, WindowKind, WindowSpec, pseudo};

/// A grouped relation on its way to a projection.
pub struct Grouping {
    /// keyed by the groups; aggregates and grouping expressions are `computed`
    pub relation: Relation,
    /// what was in reach before, for messages
    pub(super) before: Relation,
    /// names of the SELECT list
    pub(super) names: Vec<Option<String>>,
    /// by a WINDOW clause
    pub(super) windowed: bool,
}

/// True if `expr` is a call of an aggregate function.
fn is_call(expr: &Expr, registry: &Registry) -> bool {
    matches!(&expr.kind, ExprKind::Call { name, .. } if registry.is_aggregate(name.as_str()))
}

/// The first aggregate call in `expr`, if there is one.
pub fn first_call<'a>(expr: &'a Expr, registry: &Registry) -> Option<&'a Expr> {
    let mut found = None;
    expr.walk(&mut |node| {
        if found.is_none() && is_call(node, registry) {
            found = Some(node);
        }
    });
    found
}

/// True if the SELECT list or HAVING calls an aggregate function.
pub fn has_calls(select: &Select, registry: &Registry) -> bool {
    let items = select.items.iter().filter_map(|item| match item {
        SelectItem::Expr { expr, .. } | SelectItem::StructStar(expr) => Some(expr),
        _ => None,
    });
    items.chain(&select.having).any(|e| first_call(e, registry).is_some())
}

/// Groups `relation`.
///
/// # Errors
/// Everything statements.md §6.4 and §7 refuse.
pub fn group(
    select: &Select,
    relation: Relation,
    of: ListOf,
    emit_final: bool,
    ctx: &AnalysisContext<'_>,
) -> Result<Grouping, Diagnostic> {
    check(select, of, ctx)?;
    let window = select.window.as_ref().map(|w| window_spec(w, emit_final)).transpose()?;
    if window.is_some() && relation.window.is_some() {
        return Err(Diagnostic::user("a windowed source cannot be windowed again").at(select.loc.0));
    }
    let mut namer = Namer::new(&relation);
    let names = names(&select.items, &relation, &mut namer);
    let before = relation.clone();
    let keys = group_keys(select, &relation, &names, &mut namer, ctx)?;
    let calls = distinct_calls(select, ctx.registry)?;
    let rekeyed = rekey(relation, &keys)?;
    let relation = aggregated(rekeyed, &before, keys, &calls, window, emit_final, ctx)?;
    Ok(Grouping { relation, before, names, windowed: window.is_some() })
}

/// Refuses aggregate and table functions in GROUP BY.
pub(super) fn check_group_by(select: &Select, ctx: &AnalysisContext<'_>) -> Result<(), Diagnostic> {
    for expr in &select.group_by {
        if let Some(call) = first_call(expr, ctx.registry) {
            return Err(Diagnostic::user(format!(
                "GROUP BY does not support aggregate functions: {} is an aggregate function.",
                sql_text(call)
            ))
            .at(call.span()));
        }
        let mut table = None;
        expr.walk(&mut |n| {
            if matches!(&n.kind, ExprKind::Call { name, .. } if ctx.registry.is_table_function(name.as_str())) {
                table = Some(n);
            }
        });
        if let Some(call) = table {
            return Err(Diagnostic::user(format!(
                "Table functions cannot be used with aggregations: {}",
                sql_text(call)
            ))
            .at(call.span()));
        }
    }
    Ok(())
}

fn check(select: &Select, of: ListOf, ctx: &AnalysisContext<'_>) -> Result<(), Diagnostic> {
    check_group_by(select, ctx)?;
    if select.group_by.is_empty() && of == ListOf::Persistent {
        let mut exprs = select.items.iter().filter_map(|i| match i {
            SelectItem::Expr { expr, .. } => Some(expr),
            _ => None,
        });
        let call = exprs
            .find_map(|e| first_call(e, ctx.registry))
            .or_else(|| select.having.as_ref().and_then(|e| first_call(e, ctx.registry)));
        let (name, span) = match call.map(|c| (&c.kind, c.span())) {
            Some((ExprKind::Call { name, .. }, span)) => (name.as_str().to_owned(), span),
            _ => (String::new(), select.loc.0),
        };
        return Err(Diagnostic::user(format!("Use of aggregate function {name} requires a GROUP BY clause: the query does not support aggregate function without a GROUP BY clause"))
            .at(span)
            .help("add GROUP BY with the columns that name the groups"));
    }
    if !select.group_by.is_empty() && !has_calls(select, ctx.registry) {
        return Err(Diagnostic::user("GROUP BY requires aggregate functions in either the SELECT or HAVING clause.")
            .at(select.group_by[0].span()));
    }
    Ok(())
}

/// A grouping expression, bound.
pub(super) struct GroupKey {
    /// as written; `None`: the one group of a query without GROUP BY
    pub ast: Option<Expr>,
    /// its value
    pub bound: Bound,
    /// the column it is, if it is one
    pub plain: Option<RelColumn>,
    /// its name in the result
    pub name: String,
    /// its name in the plan
    pub physical: String,
}

/// The grouping expressions.
pub(super) fn group_keys(
    select: &Select,
    relation: &Relation,
    names: &[Option<String>],
    namer: &mut Namer,
    ctx: &AnalysisContext<'_>,
) -> Result<Vec<GroupKey>, Diagnostic> {
    if select.group_by.is_empty() {
        // A push query without GROUP BY has one group (statements.md §6.5).
        let bound = Bound { expr: lit(0i32), ty: SqlType::Int };
        return Ok(vec![GroupKey { ast: None, bound, plain: None, name: "$ALL".into(), physical: "$G0".into() }]);
    }
    let mut keys: Vec<GroupKey> = Vec::new();
    for (i, ast) in select.group_by.iter().enumerate() {
        let bound = bind_in(ast, relation, ctx)?;
        if bound.ty.contains_map() {
            return Err(map_key(&sql_text(ast), &bound.ty).at(ast.span()));
        }
        let plain = relation.columns.iter().find(|c| c.expr() == bound.expr).cloned();
        if keys.iter().any(|k| k.bound.expr == bound.expr) {
            return Err(Diagnostic::user(format!("Duplicate GROUP BY expression: {}", sql_text(ast))).at(ast.span()));
        }
        if let Some(c) = plain.as_ref().filter(|c| c.role == RelRole::Bound) {
            return Err(Diagnostic::user(format!("Window bounds column {} can only be used in the SELECT clause of windowed aggregations and can not be passed to aggregate functions or grouped by", c.name)).at(ast.span()));
        }
        let in_list = name_in_list(&select.items, names, ast);
        let name = in_list.unwrap_or_else(|| namer.name_of(ast, relation));
        let physical = plain.as_ref().map_or_else(|| format!("$G{i}"), |c| c.physical.clone());
        keys.push(GroupKey { ast: Some(ast.clone()), bound, plain, name, physical });
    }
    Ok(keys)
}

/// The aggregate calls of SELECT and HAVING, each once.
pub(super) fn distinct_calls<'a>(select: &'a Select, registry: &Registry) -> Result<Vec<&'a Expr>, Diagnostic> {
    let mut calls: Vec<&Expr> = Vec::new();
    let items = select.items.iter().filter_map(|item| match item {
        SelectItem::Expr { expr, .. } | SelectItem::StructStar(expr) => Some(expr),
        _ => None,
    });
    for expr in items.chain(&select.having) {
        let mut nested = None;
        expr.walk(&mut |node| {
            if !is_call(node, registry) {
                return;
            }
            if let ExprKind::Call { args, .. } = &node.kind {
                nested =
                    nested.or_else(|| args.iter().find_map(|a| first_call(a, registry)).map(|inner| (node, inner)));
            }
            if !calls.contains(&node) {
                calls.push(node);
            }
        });
        if let Some((outer, inner)) = nested {
            return Err(Diagnostic::user(format!("Aggregate functions can not be nested: {}", sql_text(outer)))
                .at(inner.span()));
        }
    }
    Ok(calls)
}

/// The rows under the grouping key; through an internal topic unless the key is that already.
fn rekey(relation: Relation, keys: &[GroupKey]) -> Result<Relation, Diagnostic> {
    let same = match (keys, relation.key.as_slice()) {
        ([one], [key]) => one.plain.as_ref().is_some_and(|c| {
            c.physical == key.physical || (relation.is_join() && key.equivalents.contains(&c.physical))
        }),
        _ => false,
    };
    if relation.window.is_some() && !same {
        return Err(Diagnostic::user("Implicit repartitioning of windowed sources is not supported")
            .at(keys.first().and_then(|k| k.ast.as_ref()).map_or_else(Default::default, Expr::span))
            .help("group by the key of the windowed source"));
    }
    let mut fields: Vec<Field> = keys.iter().map(|k| Field::new(&k.physical, k.bound.ty.to_arrow(), true)).collect();
    for field in arrow_schema_of(&relation.plan).fields() {
        if !fields.iter().any(|f| f.name() == field.name()) {
            fields.push(field.as_ref().clone());
        }
    }
    let op = StreamOp::Rekey {
        keys: keys.iter().map(|k| k.bound.expr.clone()).collect(),
        key_format: relation.key_format.clone(),
        role: "Aggregate-GroupBy".to_owned(),
        partitions: None,
        drop_null_keys: true,
        drop_absent: !relation.is_table,
        regroup: relation.is_table,
        through_topic: !same,
    };
    let shape = Shape { key_count: keys.len(), ..relation.shape() };
    let plan = StreamNode::plan(op, vec![relation.plan.clone()], Schema::new(fields), shape).map_err(internal)?;
    Ok(Relation { plan, ..relation })
}

fn aggregated(
    relation: Relation,
    before: &Relation,
    keys: Vec<GroupKey>,
    calls: &[&Expr],
    window: Option<WindowSpec>,
    emit_final: bool,
    ctx: &AnalysisContext<'_>,
) -> Result<Relation, Diagnostic> {
    let mut fields: Vec<Field> = keys.iter().map(|k| Field::new(&k.physical, k.bound.ty.to_arrow(), true)).collect();
    let mut columns = Vec::new();
    let mut computed = Vec::new();
    for key in &keys {
        if let Some(ast) = &key.ast {
            computed.push((ast.clone(), key.physical.clone(), key.bound.ty.clone()));
        }
        columns.push(match &key.plain {
            Some(c) => c.clone(),
            None => RelColumn {
                qualifier: String::new(),
                name: key.name.clone(),
                ty: key.bound.ty.clone(),
                physical: key.physical.clone(),
                role: RelRole::Synthetic,
            },
        });
    }
    let mut specs = Vec::new();
    for (i, call) in calls.iter().enumerate() {
        let spec = aggregate_call(call, before, ctx)?;
        let physical = format!("$A{i}");
        fields.push(Field::new(&physical, spec.ty.to_arrow(), true));
        computed.push(((*call).clone(), physical, spec.ty.clone()));
        specs.push(spec);
    }
    let key_window = window.as_ref().map(KeyWindow::of).or(relation.window);
    if window.is_some() {
        for name in [pseudo::WINDOWSTART, pseudo::WINDOWEND] {
            fields.push(Field::new(name, SqlType::BigInt.to_arrow(), true));
            columns.push(RelColumn {
                qualifier: String::new(),
                name: name.into(),
                ty: SqlType::BigInt,
                physical: name.into(),
                role: RelRole::Bound,
            });
        }
    }
    let key = keys
        .iter()
        .map(|k| {
            KeyPart::plain(k.physical.clone(), k.bound.ty.clone(), k.ast.as_ref().map_or_else(String::new, sql_text))
        })
        .collect();
    let shape = Shape { key_count: keys.len(), is_table: true, window: key_window };
    let op = StreamOp::Aggregate { calls: specs, window, emit_final };
    let plan = StreamNode::plan(op, vec![relation.plan.clone()], Schema::new(fields), shape).map_err(internal)?;
    Ok(Relation { plan, columns, key, is_table: true, window: key_window, computed, ..relation })
}

/// An aggregate call, bound over the rows before grouping.
pub(super) fn aggregate_call(
    call: &Expr,
    before: &Relation,
    ctx: &AnalysisContext<'_>,
) -> Result<AggregateCall, Diagnostic> {
    let ExprKind::Call { name, args, .. } = &call.kind else { return Err(internal("an aggregate is a call")) };
    let mut bound = Vec::new();
    for arg in args {
        if let Some(c) = arg
            .as_column()
            .filter(|c| [pseudo::WINDOWSTART, pseudo::WINDOWEND].contains(&c.name.as_str()) && before.window.is_none())
        {
            return Err(Diagnostic::user(format!("Window bounds column {} can only be used in the SELECT clause of windowed aggregations and can not be passed to aggregate functions", c.name.as_str())).at(arg.span()));
        }
        bound.push(bind_in(arg, before, ctx)?);
    }
    let types: Vec<SqlType> = bound.iter().map(|b| b.ty.clone()).collect();
    let literals: Vec<Option<ScalarValue>> = args.iter().map(|a| a.as_literal().and_then(scalar)).collect();
    let signature =
        crate::function::aggregate::resolve(name.as_str(), &types, &literals).map_err(|e| e.at(call.span()))?;
    if before.is_table && !signature.table_safe {
        return Err(Diagnostic::user(format!(
            "The aggregation function(s) {} cannot be applied to a table source, only to a stream source.",
            name.as_str()
        ))
        .at(call.span()));
    }
    if ctx.settings.ksql_only && signature.composite_state && before.value_format.format == Format::Delimited {
        return Err(Diagnostic::user(format!(
            "One of the functions used in the statement has an intermediate type that the value format can not handle: {} keeps a \
             structure for each group, which DELIMITED can not hold. Please remove the function or change the format.",
            name.as_str()
        ))
        .at(call.span())
        .help("read a source of another format, such as JSON, or set riverrun.dialect to extended"));
    }
    let literals = literals.into_iter().skip(signature.column_args).flatten().collect();
    let mut args: Vec<DfExpr> = bound.into_iter().map(|b| b.expr).collect();
    args.truncate(signature.column_args);
    let arg_types = types.into_iter().take(args.len()).collect();
    Ok(AggregateCall { function: Arc::from(name.as_str()), args, literals, arg_types, ty: signature.ty })
}

/// The value of a constant, for literal parameters.
fn scalar(literal: &Literal) -> Option<ScalarValue> {
    Some(match literal {
        Literal::Null => return None,
        Literal::Boolean(b) => ScalarValue::Boolean(Some(*b)),
        Literal::String(s) => ScalarValue::Utf8(Some(s.clone())),
        Literal::Number(n) => match n.kind {
            NumberKind::Int => ScalarValue::Int32(n.text.parse().ok()),
            NumberKind::BigInt => ScalarValue::Int64(n.text.parse().ok()),
            NumberKind::Decimal | NumberKind::Double => ScalarValue::Float64(n.text.parse().ok()),
        },
    })
}

/// A WINDOW clause with its defaults (statements.md §7).
fn window_spec(clause: &WindowClause, emit_final: bool) -> Result<WindowSpec, Diagnostic> {
    let ms = |interval: &Interval, what: &str, least: i64| match interval.millis() {
        Some(ms) if ms >= least => Ok(ms),
        Some(_) => Err(Diagnostic::user(format!("{what} cannot be zero or negative")).at(interval.span())),
        None => Err(Diagnostic::user(format!("{what} is more than 64 bits of milliseconds")).at(interval.span())),
    };
    let kind = match &clause.shape {
        WindowShape::Tumbling { size } => WindowKind::Tumbling { size_ms: ms(size, "the window SIZE", 1)? },
        WindowShape::Hopping { size, advance } => {
            let (size_ms, advance_ms) = (ms(size, "the window SIZE", 1)?, ms(advance, "ADVANCE BY", 1)?);
            if advance_ms > size_ms {
                return Err(Diagnostic::user("ADVANCE BY must not be more than the window SIZE").at(advance.span()));
            }
            WindowKind::Hopping { size_ms, advance_ms }
        }
        WindowShape::Session { gap } => WindowKind::Session { gap_ms: ms(gap, "the session gap", 1)? },
    };
    let size = match kind {
        WindowKind::Tumbling { size_ms } | WindowKind::Hopping { size_ms, .. } => size_ms,
        WindowKind::Session { gap_ms } => gap_ms,
    };
    let default_grace = if emit_final { 0 } else { (DEFAULT_GRACE_TOTAL_MS - size).max(0) };
    let grace_ms = clause.grace.as_ref().map_or(Ok(default_grace), |g| ms(g, "GRACE PERIOD", 0))?;
    let least = size.saturating_add(grace_ms);
    let retention_ms = clause.retention.as_ref().map_or(Ok(least), |r| ms(r, "RETENTION", 1))?;
    if retention_ms < least {
        let at = clause.retention.as_ref().map_or(clause.loc.0, Interval::span);
        return Err(Diagnostic::user(format!("The retention period {retention_ms} ms must be greater than or equal to the window size plus the grace period, {least} ms")).at(at));
    }
    Ok(WindowSpec { kind, grace_ms, retention_ms })
}

/// Binds the SELECT list over the groups.
///
/// # Errors
/// Columns that are neither grouped nor aggregated.
pub fn bind_list(select: &Select, grouping: &Grouping, ctx: &AnalysisContext<'_>) -> Result<Vec<Selected>, Diagnostic> {
    for item in &select.items {
        let (expr, star) = match item {
            SelectItem::Expr { expr, .. } | SelectItem::StructStar(expr) => (Some(expr), None),
            SelectItem::Star(loc) => (None, Some(loc.0)),
            SelectItem::SourceStar(name) => (None, Some(name.span())),
        };
        if let Some(expr) = expr {
            check_grouped(expr, grouping, "SELECT", ctx)?;
        }
        if let Some(span) = star {
            let left = grouping.before.columns.iter().filter(|c| matches!(c.role, RelRole::Key | RelRole::Value));
            let missing: Vec<_> =
                left.filter(|c| grouping.relation.by_physical(&c.physical).is_none()).map(|c| c.name.clone()).collect();
            if !missing.is_empty() {
                return Err(not_grouped("SELECT", &missing.join(", ")).at(span));
            }
        }
    }
    let mut namer = Namer::new(&grouping.before);
    let mut items = expand(&select.items, &grouping.names, &grouping.relation)?;
    // Window bounds are not part of a star over groups.
    items.retain(|i| !matches!(i, super::select::Item::Column { column, .. } if column.role == RelRole::Bound));
    bind_items(items, &grouping.relation, &mut namer, ctx)
}

/// HAVING over the groups.
///
/// # Errors
/// Columns that are neither grouped nor aggregated; a condition that is not BOOLEAN.
pub fn having(select: &Select, grouping: Grouping, ctx: &AnalysisContext<'_>) -> Result<Relation, Diagnostic> {
    let Some(condition) = &select.having else { return Ok(grouping.relation) };
    check_grouped(condition, &grouping, "HAVING", ctx)?;
    let bound = bind_in(condition, &grouping.relation, ctx)?;
    super::select::expect_boolean("HAVING", condition, &bound.ty, ctx)?;
    let relation = grouping.relation;
    let filter =
        datafusion::logical_expr::Filter::try_new(bound.expr, Arc::new(relation.plan.clone())).map_err(internal)?;
    Ok(Relation { plan: datafusion::logical_expr::LogicalPlan::Filter(filter), ..relation })
}

fn not_grouped(clause: &str, what: &str) -> Diagnostic {
    Diagnostic::user(format!("Non-aggregate {clause} expression(s) not part of GROUP BY: {what}"))
        .help("either add them to the GROUP BY, or aggregate them, for example with LATEST_BY_OFFSET")
}

/// Columns below `expr` must be grouped, inside an aggregate call, or window bounds.
pub(super) fn check_grouped(
    expr: &Expr,
    grouping: &Grouping,
    clause: &str,
    ctx: &AnalysisContext<'_>,
) -> Result<(), Diagnostic> {
    if grouping.relation.computed.iter().any(|(e, _, _)| e == expr) || is_call(expr, ctx.registry) {
        return Ok(());
    }
    if let ExprKind::Column(reference) = &expr.kind {
        let name = reference.name.as_str();
        let is_bound = [pseudo::WINDOWSTART, pseudo::WINDOWEND].contains(&name);
        if is_bound && ctx.settings.ksql_only && grouping.before.is_join() {
            return Err(Diagnostic::user(format!(
                "{clause} column '{name}' cannot be resolved: ksqlDB has no window bounds over a join"
            ))
            .at(expr.span())
            .help("set riverrun.dialect to extended, or make a stream of the join and group that"));
        }
        if is_bound && (grouping.windowed || grouping.before.window.is_some()) {
            return Ok(());
        }
        if is_bound {
            return Err(Diagnostic::user(format!(
                "Window bounds column {name} can only be used in the SELECT clause of windowed aggregations"
            ))
            .at(expr.span()));
        }
        return match grouping.before.scope().resolve(reference) {
            Ok(found) if grouping.relation.by_physical(&found.physical).is_some() => Ok(()),
            Ok(_) => Err(not_grouped(clause, &sql_text(expr)).at(expr.span())),
            Err(error) => Err(error),
        };
    }
    let mut result = Ok(());
    expr.kind.for_each_child(&mut |child| {
        if result.is_ok() {
            result = check_grouped(child, grouping, clause, ctx);
        }
    });
    result
}
