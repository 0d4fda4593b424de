//! One SELECT, from its sources to its columns.
//!
//! Decides which clauses may stand together and what the key of the result is; `sink` and the engine decide where rows go. The subtle
//! thing is the order of evaluation: FROM, WHERE, PARTITION BY, table functions, GROUP BY, HAVING, projection.

use arrow::datatypes::{Field, Schema};
use datafusion::logical_expr::{Expr as DfExpr, Filter, LogicalPlan};
use std::sync::Arc;

use super::expr::{Binder, Bound};
use super::relation::{KeyPart, RelColumn, RelRole, Relation, ScanOptions, column, internal, scan, source_of};
use super::select::{Item, KeyOrigin, ListOf, Namer, Selected, check_names, expand, expect_boolean, split_key};
use super::{AnalysisContext, aggregate, join, select, sql_text};
use crate::diagnostic::Diagnostic;
use crate::format::FormatSpec;
use crate::function::table::TableFunction;
use crate::plan::nodes::{Shape, StreamNode, StreamOp, arrow_schema_of};
use crate::plan::topology::{KeyWindow, TableCall};
use crate::sql::ast::{Emit, Expr, ExprKind, Query, Select};
use crate::types::{LogicalSchema, SourceName, SqlType};

/// A bound query, up to its projection.
pub struct BoundQuery {
    /// the plan; its top is the projection, key columns first
    pub plan: LogicalPlan,
    /// columns of the result: for a persistent query key and value columns, for a transient one all as values
    pub schema: LogicalSchema,
    /// indices of result columns that hold key columns (transient queries: for tombstones)
    pub key_columns: Vec<usize>,
    /// the result is a table
    pub is_table: bool,
    /// window of the result's key
    pub window: Option<KeyWindow>,
    /// format of the left-most source's key
    pub key_format: FormatSpec,
    /// format of the left-most source's value
    pub value_format: FormatSpec,
    /// partitions the sink gets unless told otherwise
    pub partitions: i32,
    /// sources it reads
    pub reads: Vec<SourceName>,
    /// what made the key
    pub origin: KeyOrigin,
    /// PARTITION BY NULL: no key at all
    pub keyless: bool,
    /// LIMIT
    pub limit: Option<u64>,
    /// warnings to show
    pub warnings: Vec<String>,
}

/// Binds a query that streams (push or persistent). `sink` is the name used in messages.
///
/// # Errors
/// Everything the reference refuses.
pub fn analyze(query: &Query, of: ListOf, sink: &str, ctx: &AnalysisContext<'_>) -> Result<BoundQuery, Diagnostic> {
    let select = query.as_select().ok_or_else(|| {
        Diagnostic::user("WITH, UNION, ORDER BY and OFFSET are not possible in a streaming query")
            .at(query.span())
            .help("use them in a pull query (a SELECT without EMIT), or split the query into several streams")
    })?;
    let (relation, _) = from(select, of, ctx)?;
    check_clauses(query, select, &relation, of, ctx)?;
    let relation = filtered(relation, select.filter.as_ref(), "WHERE", ctx)?;
    if !select.group_by.is_empty() || aggregate::has_calls(select, ctx.registry) {
        return grouped(query, select, relation, of, sink, ctx);
    }
    if let Some(having) = &select.having {
        return Err(Diagnostic::user("HAVING clause requires a GROUP BY clause").at(having.span()));
    }
    let mut namer = Namer::new(&relation);
    let names = select::names(&select.items, &relation, &mut namer);
    let (relation, origin) = partitioned(relation, select, &names, ctx)?;
    let (relation, items) = table_functions(relation, select, &names, of, ctx)?;
    let columns = bind_items(items, &relation, &mut namer, ctx)?;
    check_names(&columns, of)?;
    finish(query, columns, relation, origin, of, sink)
}

/// FROM and JOINs.
fn from(select: &Select, of: ListOf, ctx: &AnalysisContext<'_>) -> Result<(Relation, ScanOptions), Diagnostic> {
    let (alias, source) = source_of(&select.from, ctx.catalog)?;
    let options = ScanOptions {
        earliest: ctx.settings.earliest,
        default_earliest: ctx.settings.default_earliest && of == ListOf::Persistent,
        qualified: !select.joins.is_empty(),
    };
    let mut relation = scan(&alias, &source, options)?;
    let count = select.joins.len();
    for (i, clause) in select.joins.iter().enumerate() {
        relation = join::join(relation, clause, count - 1 - i, options, ctx)?;
    }
    let kafka: Vec<_> = relation
        .sources
        .iter()
        .filter(|(_, s)| s.value_format.format == crate::format::Format::Kafka && s.schema.values().next().is_some())
        .map(|(_, s)| s.name.to_string())
        .collect();
    let operation = if count > 0 { "JOIN" } else { "GROUP BY" };
    if !kafka.is_empty() && (count > 0 || !select.group_by.is_empty()) {
        return Err(Diagnostic::user(format!(
            "Source(s) {} are using the 'KAFKA' value format. This format does not yet support {operation}.",
            kafka.join(", ")
        ))
        .at(select.from.span())
        .help("copy the stream into another VALUE_FORMAT first"));
    }
    Ok((relation, options))
}

fn check_clauses(
    query: &Query,
    select: &Select,
    relation: &Relation,
    of: ListOf,
    ctx: &AnalysisContext<'_>,
) -> Result<(), Diagnostic> {
    if let Some(distinct) = select.distinct {
        return Err(Diagnostic::user("SELECT DISTINCT is not possible in a streaming query")
            .at(distinct.0)
            .help("use GROUP BY"));
    }
    if of == ListOf::Persistent && relation.window.is_some() && relation.is_table {
        return Err(
            Diagnostic::user("KSQL does not support persistent queries on windowed tables.").at(select.from.span())
        );
    }
    if let Some(window) = &select.window {
        if select.group_by.is_empty() {
            return Err(Diagnostic::user("WINDOW clause requires a GROUP BY clause.").at(window.loc.0));
        }
        if relation.is_table {
            return Err(Diagnostic::user(
                "WINDOW clause is only supported on STREAM sources: Windowing not supported for table aggregations",
            )
            .at(window.loc.0));
        }
    }
    if let Some(emit) = query.emit.filter(|e| e.emit == Emit::Final) {
        if select.window.is_none() {
            return Err(Diagnostic::user("EMIT FINAL is only supported for windowed aggregations.")
                .at(emit.loc.0)
                .help("add a WINDOW clause, or use EMIT CHANGES"));
        }
        if !ctx.settings.suppress_enabled {
            return Err(
                Diagnostic::user("Suppression is currently disabled: ksql.suppress.enabled is false").at(emit.loc.0)
            );
        }
    }
    if !select.partition_by.is_empty() && !select.group_by.is_empty() {
        return Err(
            Diagnostic::user("Only one of PARTITION BY or GROUP BY can be specified").at(select.partition_by[0].span())
        );
    }
    Ok(())
}

/// The rows for which a condition is true.
pub fn filtered(
    relation: Relation,
    condition: Option<&Expr>,
    clause: &str,
    ctx: &AnalysisContext<'_>,
) -> Result<Relation, Diagnostic> {
    let Some(condition) = condition else { return Ok(relation) };
    if let Some(call) = aggregate::first_call(condition, ctx.registry) {
        return Err(Diagnostic::user(format!("{clause} does not support aggregate functions: {}", sql_text(call)))
            .at(call.span())
            .help("use HAVING"));
    }
    let bound = bind_in(condition, &relation, ctx)?;
    expect_boolean(clause, condition, &bound.ty, ctx)?;
    let plan = LogicalPlan::Filter(Filter::try_new(bound.expr, Arc::new(relation.plan.clone())).map_err(internal)?);
    Ok(Relation { plan, ..relation })
}

/// Binds over the relation; what the relation computed already becomes a column.
pub fn bind_in(expr: &Expr, relation: &Relation, ctx: &AnalysisContext<'_>) -> Result<Bound, Diagnostic> {
    let mut intercept = |node: &Expr| {
        let found = relation.computed.iter().find(|(e, _, _)| e == node)?;
        Some(Ok(Bound { expr: column(&found.1), ty: found.2.clone() }))
    };
    let custom = |name: &str| ctx.catalog.types().get(name).cloned();
    Binder::new(&relation.scope(), ctx.registry).custom_types(&custom).intercept(&mut intercept).bind(expr)
}

fn partitioned(
    relation: Relation,
    select: &Select,
    names: &[Option<String>],
    ctx: &AnalysisContext<'_>,
) -> Result<(Relation, KeyOrigin), Diagnostic> {
    let origin = match (relation.foreign_key, relation.is_join()) {
        (true, _) => KeyOrigin::ForeignKey,
        (false, true) => KeyOrigin::Join,
        (false, false) => KeyOrigin::Source,
    };
    let exprs = &select.partition_by;
    let Some(first) = exprs.first() else { return Ok((relation, origin)) };
    if relation.is_table {
        let key: Vec<_> = relation.key.iter().map(|k| k.label.clone()).collect();
        return Err(Diagnostic::user(format!(
            "Cannot repartition a TABLE source: PARTITION BY is for streams. The table's key is {}",
            key.join(", ")
        ))
        .at(first.span()));
    }
    if relation.window.is_some() {
        return Err(Diagnostic::user("Implicit repartitioning of windowed sources is not supported").at(first.span()));
    }
    let is_null = |e: &Expr| matches!(e.as_literal(), Some(crate::sql::ast::Literal::Null));
    if exprs.iter().any(is_null) {
        if exprs.len() > 1 {
            return Err(Diagnostic::user("Cannot PARTITION BY multiple columns including NULL").at(first.span()));
        }
        let shape = Shape { key_count: 0, ..relation.shape() };
        let schema = arrow_schema_of(&relation.plan);
        let exprs = schema.fields().iter().map(|f| column(f.name())).collect();
        let plan =
            StreamNode::plan(StreamOp::Project { exprs }, vec![relation.plan.clone()], schema.as_ref().clone(), shape)
                .map_err(internal)?;
        return Ok((Relation { plan, key: vec![], ..relation }, KeyOrigin::PartitionBy));
    }
    rekeyed(relation, exprs, select, names, ctx).map(|r| (r, KeyOrigin::PartitionBy))
}

/// The same rows under a new key: PARTITION BY writes it straight to the sink.
fn rekeyed(
    relation: Relation,
    exprs: &[Expr],
    select: &Select,
    names: &[Option<String>],
    ctx: &AnalysisContext<'_>,
) -> Result<Relation, Diagnostic> {
    let mut keys: Vec<(DfExpr, KeyPart)> = Vec::new();
    let mut columns = relation.columns.clone();
    let mut computed = relation.computed.clone();
    let mut namer = Namer::new(&relation);
    for (i, expr) in exprs.iter().enumerate() {
        if let Some(call) = aggregate::first_call(expr, ctx.registry) {
            return Err(Diagnostic::user("PARTITION BY does not support aggregate functions").at(call.span()));
        }
        let bound = bind_in(expr, &relation, ctx).map_err(|e| partition_error(e, expr))?;
        if bound.ty.contains_map() {
            return Err(map_key(&sql_text(expr), &bound.ty).at(expr.span()));
        }
        let plain = relation.columns.iter().find(|c| c.expr() == bound.expr);
        let in_list = select::name_in_list(&select.items, names, expr);
        let part = match plain {
            Some(c) => KeyPart::plain(c.physical.clone(), c.ty.clone(), c.name.clone()),
            None => {
                let physical = format!("$P{i}");
                let name = in_list.unwrap_or_else(|| namer.name_of(expr, &relation));
                columns.push(RelColumn {
                    qualifier: String::new(),
                    name,
                    ty: bound.ty.clone(),
                    physical: physical.clone(),
                    role: RelRole::Synthetic,
                });
                computed.push((expr.clone(), physical.clone(), bound.ty.clone()));
                KeyPart::plain(physical, bound.ty.clone(), sql_text(expr))
            }
        };
        if keys.iter().any(|(_, k)| k.physical == part.physical) {
            return Err(
                Diagnostic::user(format!("Duplicate PARTITION BY expression: {}", sql_text(expr))).at(expr.span())
            );
        }
        keys.push((bound.expr, part));
    }
    let mut fields: Vec<Field> = keys.iter().map(|(_, k)| Field::new(&k.physical, k.ty.to_arrow(), true)).collect();
    let mut outputs: Vec<DfExpr> = keys.iter().map(|(e, _)| e.clone()).collect();
    for field in arrow_schema_of(&relation.plan).fields() {
        if !fields.iter().any(|f| f.name() == field.name()) {
            outputs.push(column(field.name()));
            fields.push(field.as_ref().clone());
        }
    }
    let shape = Shape { key_count: keys.len(), ..relation.shape() };
    let op = StreamOp::Project { exprs: outputs };
    let plan = StreamNode::plan(op, vec![relation.plan.clone()], Schema::new(fields), shape).map_err(internal)?;
    let key = keys.into_iter().map(|(_, k)| k).collect();
    Ok(Relation { plan, columns, key, computed, ..relation })
}

fn partition_error(error: Diagnostic, expr: &Expr) -> Diagnostic {
    match expr.as_column() {
        Some(c) => Diagnostic {
            message: format!("PARTITION BY column '{}' cannot be resolved. {}", c.name.as_str(), error.message),
            ..error
        },
        None => error,
    }
}

/// The error for a key that holds a map.
pub fn map_key(name: &str, ty: &SqlType) -> Diagnostic {
    Diagnostic::user(format!(
        "Map keys, including types that contain maps, are not supported as they may lead to unexpected behavior due to inconsistent serialization. Key column name: `{name}`. Column type: {ty}."
    ))
}

type Functions<'a> = (Relation, Vec<Item<'a>>);

/// Puts table functions of the SELECT list below the projection, as columns.
fn table_functions<'a>(
    mut relation: Relation,
    select: &'a Select,
    names: &[Option<String>],
    of: ListOf,
    ctx: &AnalysisContext<'_>,
) -> Result<Functions<'a>, Diagnostic> {
    let mut items = expand(&select.items, names, &relation)?;
    if of == ListOf::Persistent && !relation.is_join() {
        // the window of a windowed source goes into the key of the sink, not into columns
        items.retain(|item| !matches!(item, Item::Column { column, .. } if column.role == RelRole::Bound));
    }
    let mut calls: Vec<&Expr> = Vec::new();
    for item in &items {
        let (Item::Written { expr, .. } | Item::Fields { expr }) = item else { continue };
        let mut found = Vec::new();
        expr.walk(&mut |node| {
            if matches!(&node.kind, ExprKind::Call { name, .. } if ctx.registry.is_table_function(name.as_str())) {
                found.push(node);
            }
        });
        for call in found {
            if !calls.contains(&call) {
                calls.push(call);
            }
        }
    }
    if calls.is_empty() {
        return Ok((relation, items));
    }
    if relation.is_table {
        return Err(Diagnostic::user("Table source is not supported with table functions").at(calls[0].span()));
    }
    let mut fields: Vec<Field> = arrow_schema_of(&relation.plan).fields().iter().map(|f| f.as_ref().clone()).collect();
    let mut specs = Vec::new();
    for (i, call) in calls.iter().enumerate() {
        let (spec, ty) = table_call(call, &relation, ctx)?;
        let physical = format!("$F{i}");
        fields.push(Field::new(&physical, ty.to_arrow(), true));
        relation.computed.push(((*call).clone(), physical, ty));
        specs.push(spec);
    }
    let shape = relation.shape();
    let plan =
        StreamNode::plan(StreamOp::FlatMap { calls: specs }, vec![relation.plan.clone()], Schema::new(fields), shape)
            .map_err(internal)?;
    relation.plan = plan;
    Ok((relation, items))
}

fn table_call(call: &Expr, relation: &Relation, ctx: &AnalysisContext<'_>) -> Result<(TableCall, SqlType), Diagnostic> {
    let ExprKind::Call { name, args, .. } = &call.kind else { return Err(internal("a table function is a call")) };
    let [arg] = args.as_slice() else {
        return Err(Diagnostic::user(format!("{} takes one argument, an ARRAY", name.as_str())).at(call.span()));
    };
    let mut nested = false;
    arg.walk(&mut |n| {
        nested |= matches!(&n.kind, ExprKind::Call { name, .. } if ctx.registry.is_table_function(name.as_str()))
    });
    if nested {
        return Err(Diagnostic::user(format!("Table functions cannot be nested: {}", sql_text(call))).at(call.span()));
    }
    let bound = bind_in(arg, relation, ctx)?;
    let resolved = TableFunction::resolve(name.as_str(), std::slice::from_ref(&bound.ty));
    let (_, ty) = match resolved {
        Some(Ok(found)) => found,
        Some(Err(reason)) => return Err(Diagnostic::user(reason).at(call.span())),
        None => return Err(internal("a table function that is none")),
    };
    Ok((TableCall { function: name.as_str().to_owned(), arg: bound.expr }, ty))
}

/// Binds the SELECT list over the relation.
pub fn bind_items(
    items: Vec<Item<'_>>,
    relation: &Relation,
    namer: &mut Namer,
    ctx: &AnalysisContext<'_>,
) -> Result<Vec<Selected>, Diagnostic> {
    let mut columns = Vec::new();
    for item in items {
        match item {
            Item::Column { column, name, span } => {
                columns.push(Selected { name, expr: column.expr(), ty: column.ty, span, named: false, starred: true });
            }
            Item::Fields { expr } => columns.extend(fields_of(expr, relation, namer, ctx)?),
            Item::Written { expr, name, named } => {
                let bound = bind_in(expr, relation, ctx)?;
                let (expr, span) = (bound.expr, expr.span());
                columns.push(Selected { name, expr, ty: bound.ty, span, named, starred: false });
            }
        }
    }
    Ok(columns)
}

fn fields_of(
    expr: &Expr,
    relation: &Relation,
    namer: &mut Namer,
    ctx: &AnalysisContext<'_>,
) -> Result<Vec<Selected>, Diagnostic> {
    let bound = bind_in(expr, relation, ctx)?;
    let SqlType::Struct(fields) = &bound.ty else {
        return Err(Diagnostic::user(format!(
            "Cannot use ->* on {}: it is a {}, not a STRUCT",
            sql_text(expr),
            bound.ty
        ))
        .at(expr.span()));
    };
    fields
        .iter()
        .map(|field| {
            let name = crate::sql::ast::Ident::new(field.name.as_str(), expr.span());
            let whole = Expr::new(ExprKind::Field { base: Box::new(expr.clone()), field: name }, expr.span());
            let bound = bind_in(&whole, relation, ctx)?;
            Ok(Selected {
                name: namer.field(field.name.as_str()),
                expr: bound.expr,
                ty: bound.ty,
                span: expr.span(),
                named: false,
                starred: false,
            })
        })
        .collect()
}

fn grouped(
    query: &Query,
    select: &Select,
    relation: Relation,
    of: ListOf,
    sink: &str,
    ctx: &AnalysisContext<'_>,
) -> Result<BoundQuery, Diagnostic> {
    let emit_final = query.emit.is_some_and(|e| e.emit == Emit::Final);
    let grouping = aggregate::group(select, relation, of, emit_final, ctx)?;
    let columns = aggregate::bind_list(select, &grouping, ctx)?;
    check_names(&columns, of)?;
    let relation = aggregate::having(select, grouping, ctx)?;
    finish(query, columns, relation, KeyOrigin::GroupBy, of, sink)
}

/// Projection, key and facts of the result.
fn finish(
    query: &Query,
    columns: Vec<Selected>,
    relation: Relation,
    origin: KeyOrigin,
    of: ListOf,
    sink: &str,
) -> Result<BoundQuery, Diagnostic> {
    let keyless = relation.key.is_empty() && origin == KeyOrigin::PartitionBy;
    let (projected, schema, key_columns, key_count) = match of {
        ListOf::Persistent => {
            let (keys, values) = split_key(columns, &relation, &origin, sink)?;
            let schema = select::schema(&keys, &values);
            let count = keys.len();
            (keys.into_iter().chain(values).collect::<Vec<_>>(), schema, (0..count).collect(), count)
        }
        ListOf::Transient => {
            let is_key = |c: &Selected| {
                relation
                    .key
                    .iter()
                    .any(|k| c.expr == column(&k.physical) || k.equivalents.iter().any(|e| c.expr == column(e)))
            };
            let keys = columns.iter().enumerate().filter(|(_, c)| is_key(c)).map(|(i, _)| i).collect();
            let schema = select::schema(&[], &columns);
            (columns, schema, keys, 0)
        }
    };
    let fields: Vec<Field> = projected.iter().map(|c| Field::new(&c.name, c.ty.to_arrow(), true)).collect();
    let exprs = projected.into_iter().map(|c| c.expr).collect();
    let shape = Shape { key_count, ..relation.shape() };
    let plan = StreamNode::plan(StreamOp::Project { exprs }, vec![relation.plan.clone()], Schema::new(fields), shape)
        .map_err(internal)?;
    Ok(BoundQuery {
        plan,
        schema,
        key_columns,
        is_table: relation.is_table,
        window: relation.window,
        key_format: relation.key_format.clone(),
        value_format: relation.value_format.clone(),
        partitions: relation.partitions,
        reads: relation.sources.iter().map(|(_, s)| s.name.clone()).collect(),
        origin,
        keyless,
        limit: query.limit.map(|l| l.count),
        warnings: query.as_select().map_or_else(Vec::new, |select| join::warnings(&select.joins)),
    })
}
