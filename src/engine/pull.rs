//! Pull queries: reads of a table's committed state, or of a stream up to its end.
//!
//! Bound by our rules; keys that the WHERE fixes become look-ups, the rest is filtered and projected over the rows of one snapshot. The
//! subtle thing: a table is readable only if a query keeps its state, and what the reference refuses here stands in [`Refusals`], off under
//! `riverrun.dialect = extended` where we can do it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::scalar::ScalarValue;

use super::outcome::{NextRows, ResultColumn, RowSource, Rows, RowsKind};
use super::{Engine, push};
use crate::analyzer::AnalysisContext;
use crate::analyzer::expr_constant::bind_constant;
use crate::analyzer::query::{bind_in, bind_items};
use crate::analyzer::relation::{RelRole, Relation, ScanOptions, internal, scan, source_of};
use crate::analyzer::select::{ListOf, Namer, Selected, check_names, expand, expect_boolean, names};
use crate::catalog::{QueryKind, Source};
use crate::config::{Config, Dialect};
use crate::diagnostic::Diagnostic;
use crate::function::eval::CompiledExpr;
use crate::runtime::Lookup;
use crate::sql::ast::{BinaryOp, Expr, ExprKind, Query, Select, SelectItem};
use crate::topic::TopicPartition;
use crate::types::change::record_batch;
use crate::types::{ChangeBatch, pseudo};

/// Says whether a pull query may run, without reading anything.
///
/// # Errors
/// What is wrong with it.
pub fn check(query: &Query, ctx: &AnalysisContext<'_>, config: &Config) -> Result<(), Diagnostic> {
    let (select, source) = shape(query, ctx, config)?;
    if !source.is_table() {
        return stream_query(query, ctx).map(|_| ());
    }
    bind(select, &source, ctx, config).map(|_| ())
}

/// Runs a pull query.
///
/// # Errors
/// What is wrong with it; state that cannot be read now.
pub fn rows(query: &Query, ctx: &AnalysisContext<'_>, config: &Config, engine: &Engine) -> Result<Rows, Diagnostic> {
    let (select, source) = shape(query, ctx, config)?;
    if !source.is_table() {
        return stream_rows(query, &source, ctx, config, engine);
    }
    let bound = bind(select, &source, ctx, config)?;
    let id = writer(&source, ctx)?;
    let view = engine.runtime().materialized(&id)?;
    let mut left = query.limit.map(|l| usize::try_from(l.count).unwrap_or(usize::MAX));
    let mut batches = VecDeque::new();
    let mut failure = None;
    view.visit(&bound.lookup, &mut |rows| {
        match bound.apply(&rows) {
            Ok(batch) => {
                let take = left.unwrap_or(usize::MAX).min(batch.num_rows());
                left = left.map(|l| l - take);
                if take > 0 {
                    batches.push_back(batch.slice(0, take));
                }
            }
            Err(error) => failure = Some(error),
        }
        failure.is_none() && left != Some(0)
    })?;
    if let Some(error) = failure {
        return Err(error);
    }
    let query_id = format!("query_{}", engine.now_ms());
    let source = Finite { batches, cancelled: Arc::new(AtomicBool::new(false)) };
    Ok(Rows { query_id, columns: bound.columns, kind: RowsKind::PullTable, source: Box::new(source) })
}

/// The SELECT and its only source; refuses what a pull query may not have.
fn shape<'q>(
    query: &'q Query,
    ctx: &AnalysisContext<'_>,
    config: &Config,
) -> Result<(&'q Select, Arc<Source>), Diagnostic> {
    if !config.bool("ksql.pull.queries.enable") {
        return Err(Diagnostic::user("Pull queries are disabled: ksql.pull.queries.enable is false").at(query.span()));
    }
    let refuse = |what: &str, span| {
        Diagnostic::user(format!("Pull queries don't support {what}."))
            .at(span)
            .help("see the stream of changes with EMIT CHANGES, or make a table of it with CREATE TABLE … AS SELECT and read that")
    };
    let Some(select) = query.as_select() else {
        return Err(refuse("WITH, UNION, ORDER BY, OFFSET and subqueries", query.span()));
    };
    if let Some(join) = select.joins.first() {
        return Err(refuse("JOIN clauses", join.loc.0));
    }
    if let Some(window) = &select.window {
        return Err(refuse("WINDOW clauses", window.loc.0));
    }
    if let Some(group) = select.group_by.first() {
        return Err(refuse("GROUP BY clauses", group.span()));
    }
    if let Some(partition) = select.partition_by.first() {
        return Err(refuse("PARTITION BY clauses", partition.span()));
    }
    if let Some(having) = &select.having {
        return Err(refuse("HAVING clauses", having.span()));
    }
    if let Some(distinct) = select.distinct {
        return Err(refuse("DISTINCT", distinct.0));
    }
    if let Some(limit) = query.limit.filter(|_| !config.bool("ksql.query.pull.limit.clause.enabled")) {
        return Err(Diagnostic::user(
            "LIMIT clause in pull queries is disabled: ksql.query.pull.limit.clause.enabled is false",
        )
        .at(limit.loc.0));
    }
    let (_, source) = source_of(&select.from, ctx.catalog)?;
    Ok((select, source))
}

/// The query that keeps the table's state.
fn writer(source: &Source, ctx: &AnalysisContext<'_>) -> Result<crate::types::QueryId, Diagnostic> {
    let keeps = |q: &&Arc<crate::catalog::PersistentQuery>| {
        q.sink == source.name && matches!(q.kind, QueryKind::CreateTableAs | QueryKind::SourceTable)
    };
    ctx.catalog.queries().find(keeps).map(|q| q.id.clone()).ok_or_else(|| {
        Diagnostic::user(format!("The `{0}` table isn't queryable. To derive a queryable table, you can do 'CREATE TABLE QUERYABLE_{0} AS SELECT * FROM {0}'.", source.name))
            .help(format!("or see its changes: SELECT * FROM {} EMIT CHANGES", source.name))
    })
}

/// A pull query on a table, bound.
struct Bound {
    lookup: Lookup,
    columns: Vec<ResultColumn>,
    /// columns of the table in reach: those of the state, then pseudo columns
    input: SchemaRef,
    filter: Option<CompiledExpr>,
    exprs: Vec<CompiledExpr>,
    output: SchemaRef,
    windowed: bool,
}

fn bind(
    select: &Select,
    source: &Arc<Source>,
    ctx: &AnalysisContext<'_>,
    config: &Config,
) -> Result<Bound, Diagnostic> {
    writer(source, ctx).map_err(|e| e.at(select.from.span()))?;
    let (alias, _) = source_of(&select.from, ctx.catalog)?;
    let options = ScanOptions { earliest: None, default_earliest: true, qualified: false };
    let mut relation = scan(&alias, source, options)?;
    relation.columns.retain(|c| ![pseudo::ROWPARTITION, pseudo::ROWOFFSET].contains(&c.name.as_str()));
    check_list(select, ctx)?;
    let mut namer = Namer::new(&relation);
    let names = names(&select.items, &relation, &mut namer);
    let items = expand(&select.items, &names, &relation)?;
    let selected = bind_items(items, &relation, &mut namer, ctx)?;
    check_names(&selected, ListOf::Transient)?;
    let input: SchemaRef = Arc::new(crate::analyzer::relation::plan_schema(&relation.columns));
    let (filter, lookup) = match &select.filter {
        Some(condition) => {
            if config.dialect() == Dialect::Ksql {
                check_condition(condition)?;
            }
            let bound = bind_in(condition, &relation, ctx)?;
            expect_boolean("WHERE", condition, &bound.ty, ctx)?;
            let filter = CompiledExpr::new(&bound.expr, &input).map_err(internal)?;
            (Some(filter), lookup(condition, &relation, source, ctx)?)
        }
        None => (None, Lookup::All),
    };
    if matches!(lookup, Lookup::All) && !config.bool("ksql.query.pull.table.scan.enabled") {
        return Err(Diagnostic::user("Table scans are disabled (ksql.query.pull.table.scan.enabled is false): the WHERE clause must fix all key columns")
            .at(select.filter.as_ref().map_or(select.loc.0, Expr::span)));
    }
    let exprs =
        selected.iter().map(|c| CompiledExpr::new(&c.expr, &input)).collect::<Result<Vec<_>, _>>().map_err(internal)?;
    let fields =
        selected.iter().map(|c| arrow::datatypes::Field::new(&c.name, c.ty.to_arrow(), true)).collect::<Vec<_>>();
    let is_key = |c: &Selected| relation.columns.iter().any(|r| r.role == RelRole::Key && r.expr() == c.expr);
    let columns =
        selected.iter().map(|c| ResultColumn { name: c.name.clone(), ty: c.ty.clone(), is_key: is_key(c) }).collect();
    Ok(Bound {
        lookup,
        columns,
        input,
        filter,
        exprs,
        output: Arc::new(arrow::datatypes::Schema::new(fields)),
        windowed: source.window.is_some(),
    })
}

fn check_list(select: &Select, ctx: &AnalysisContext<'_>) -> Result<(), Diagnostic> {
    let stars = select.items.iter().filter(|i| matches!(i, SelectItem::Star(_) | SelectItem::SourceStar(_))).count();
    if stars > 0 && select.items.len() > 1 {
        return Err(Diagnostic::user(
            "Pull queries only support wildcards in the projection if they are the only expression",
        )
        .at(select.loc.0));
    }
    for item in &select.items {
        if let SelectItem::Expr { expr, .. } = item
            && let Some(call) = crate::analyzer::aggregate::first_call(expr, ctx.registry)
        {
            return Err(Diagnostic::user(format!(
                "Pull queries don't support GROUP BY clauses, so neither the aggregate function {}",
                crate::analyzer::sql_text(call)
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
        ExprKind::Unary { op: crate::sql::ast::UnaryOp::Not, operand } => match &operand.kind {
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
        crate::analyzer::sql_text(expr)
    ))
    .at(expr.span())
    .help("SET 'riverrun.dialect' = 'extended' to use any condition")
}

/// The keys that a condition fixes: every row that meets it has one of them.
fn lookup(
    condition: &Expr,
    relation: &Relation,
    source: &Source,
    ctx: &AnalysisContext<'_>,
) -> Result<Lookup, Diagnostic> {
    let keys = source.schema.keys();
    let per_column =
        keys.iter().map(|c| fixed(condition, c.name.as_str(), relation)).collect::<Option<Vec<Vec<&Expr>>>>();
    let Some(per_column) = per_column else { return Ok(Lookup::All) };
    // Several columns fixed to several values each would be their product; only single values of further columns are looked up.
    if per_column.len() > 1 && per_column.iter().any(|v| v.len() != 1) {
        return Ok(Lookup::All);
    }
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for (column, values) in keys.iter().zip(&per_column) {
        let mut scalars = Vec::new();
        for value in values {
            let scalar = bind_constant(value, &column.ty, column.name.as_str(), ctx.registry, &|_| None)?;
            if scalar.is_null() {
                return Err(Diagnostic::user(format!(
                    "Primary key columns can not be NULL: ({})",
                    crate::analyzer::sql_text(condition)
                ))
                .at(value.span()));
            }
            if !scalars.contains(&scalar) {
                scalars.push(scalar);
            }
        }
        arrays.push(ScalarValue::iter_to_array(scalars).map_err(internal)?);
    }
    Ok(Lookup::Keys(arrays))
}

/// The constants that `column` must equal one of, if the condition says so.
fn fixed<'e>(condition: &'e Expr, column: &str, relation: &Relation) -> Option<Vec<&'e Expr>> {
    let is_column = |e: &Expr| {
        let reference = e.as_column()?;
        let scope = relation.scope();
        let found = scope.resolve(reference).ok()?;
        (found.physical == column).then_some(())
    };
    let constant = |e: &Expr| {
        let mut columns = false;
        e.walk(&mut |n| columns |= n.as_column().is_some());
        !columns
    };
    match &condition.kind {
        ExprKind::Binary { op: BinaryOp::Eq, left, right } if is_column(left).is_some() && constant(right) => {
            Some(vec![right])
        }
        ExprKind::Binary { op: BinaryOp::Eq, left, right } if is_column(right).is_some() && constant(left) => {
            Some(vec![left])
        }
        ExprKind::In { operand, list, negated: false } if is_column(operand).is_some() && list.iter().all(constant) => {
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

impl Bound {
    /// Filters and projects rows of the state.
    fn apply(&self, rows: &ChangeBatch) -> Result<RecordBatch, Diagnostic> {
        let mut columns = rows.columns.clone();
        if let (true, Some(bounds)) = (self.windowed, &rows.meta.window) {
            columns.push(Arc::new(Int64Array::new(bounds.start.clone(), None)));
            columns.push(Arc::new(Int64Array::new(bounds.end.clone(), None)));
        }
        columns.push(Arc::new(Int64Array::new(rows.meta.rowtime.clone(), None)));
        let mut batch = record_batch(&self.input, columns, rows.len()).map_err(internal)?;
        if let Some(present) = &rows.present {
            batch = filter_record_batch(&batch, &arrow::array::BooleanArray::new(present.clone(), None))
                .map_err(internal)?;
        }
        let mut report = |_: usize, reason: &str| tracing::debug!("pull query: {reason}");
        if let Some(filter) = &self.filter {
            let mask = filter.matches(&batch, None, &mut report).map_err(internal)?;
            batch = filter_record_batch(&batch, &arrow::array::BooleanArray::new(mask, None)).map_err(internal)?;
        }
        let columns = self
            .exprs
            .iter()
            .map(|e| e.evaluate(&batch, None, &mut report))
            .collect::<Result<Vec<_>, _>>()
            .map_err(internal)?;
        record_batch(&self.output, columns, batch.num_rows()).map_err(internal)
    }
}

/// Rows that are all there.
struct Finite {
    batches: VecDeque<RecordBatch>,
    cancelled: Arc<AtomicBool>,
}

impl RowSource for Finite {
    fn next(&mut self, _: Duration) -> NextRows {
        if self.cancelled.load(Ordering::Relaxed) {
            return NextRows::Done(None);
        }
        match self.batches.pop_front() {
            Some(batch) => NextRows::Batch { batch, tombstones: None },
            None => NextRows::Done(None),
        }
    }

    fn canceller(&self) -> Arc<dyn Fn() + Send + Sync> {
        let cancelled = self.cancelled.clone();
        Arc::new(move || cancelled.store(true, Ordering::Relaxed))
    }
}

fn stream_query(query: &Query, ctx: &AnalysisContext<'_>) -> Result<crate::analyzer::query::BoundQuery, Diagnostic> {
    let mut settings = ctx.settings.clone();
    settings.earliest = Some(true);
    let ctx = AnalysisContext { settings: &settings, ..*ctx };
    let mut refused = None;
    let mut visit = |e: &Expr| {
        e.walk(&mut |n| {
            if let Some(c) =
                n.as_column().filter(|c| [pseudo::ROWPARTITION, pseudo::ROWOFFSET].contains(&c.name.as_str()))
            {
                refused = Some((c.name.as_str().to_owned(), n.span()));
            }
        });
    };
    if let Some(select) = query.as_select() {
        select.filter.iter().for_each(&mut visit);
        select.items.iter().for_each(|i| {
            if let SelectItem::Expr { expr, .. } = i {
                visit(expr)
            }
        });
    }
    if let Some((name, span)) = refused {
        return Err(Diagnostic::user(format!("Pull queries don't support the pseudo column {name}"))
            .at(span)
            .help("use EMIT CHANGES"));
    }
    crate::analyzer::query::analyze(query, ListOf::Transient, "the query", &ctx)
}

/// Reads a stream from its beginning to where it ends now.
fn stream_rows(
    query: &Query,
    source: &Source,
    ctx: &AnalysisContext<'_>,
    config: &Config,
    engine: &Engine,
) -> Result<Rows, Diagnostic> {
    if !config.bool("ksql.query.pull.stream.enabled") {
        return Err(Diagnostic::user("Pull queries on streams are disabled: ksql.query.pull.stream.enabled is false"));
    }
    let bound = stream_query(query, ctx)?;
    let at = |p| TopicPartition { topic: source.topic.clone(), partition: p };
    let ends = (0..source.partitions.max(1)).map(|p| engine.log().bounds(&at(p)).map(|b| (at(p), b.end)));
    let ends = ends.collect::<Result<_, _>>()?;
    push::start(bound, query.to_string(), RowsKind::PullStream, Some(ends), config, engine)
}
