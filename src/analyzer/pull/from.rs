//! FROM and JOIN of a pull query: sources, names of a WITH and subqueries become one relation.
//!
//! Joins on any condition: equalities between the sides become join keys, the rest is a filter of the join. The subtle thing: within a SELECT
//! every column is named `alias.COLUMN` in the plan, so that one table can be there several times.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::{Column as DfColumn, NullEquality, TableReference};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr as DfExpr, ExprSchemable, Join, JoinConstraint, JoinType, LogicalPlan, Operator, TableScanBuilder,
};

use super::super::expr::Bound;
use super::super::query::bind_in;
use super::super::relation::{KeyPart, RelColumn, RelRole, Relation, column, internal};
use super::super::select::expect_boolean;
use super::super::{AnalysisContext, aggregate, sql_text};
use super::{Binder, Rows, Taken, keys, projection, sealed};
use crate::catalog::{QueryKind, Source, SourceKind};
use crate::diagnostic::Diagnostic;
use crate::format::{Format, FormatSpec};
use crate::plan::read::SourceRead;
use crate::sql::ast::{self, Ident, JoinKind, RelationKind, Select};
use crate::types::{Column, LogicalSchema, QueryId, SourceName, SqlType, TopicName, pseudo};

/// The query that keeps a table's state.
///
/// # Errors
/// None does.
pub fn writer(source: &Source, ctx: &AnalysisContext<'_>) -> Result<QueryId, Diagnostic> {
    let keeps = |q: &&Arc<crate::catalog::PersistentQuery>| {
        q.sink == source.name && matches!(q.kind, QueryKind::CreateTableAs | QueryKind::SourceTable)
    };
    ctx.catalog.queries().find(keeps).map(|q| q.id.clone()).ok_or_else(|| {
        Diagnostic::user(format!("The `{0}` table isn't queryable. To derive a queryable table, you can do 'CREATE TABLE QUERYABLE_{0} AS SELECT * FROM {0}'.", source.name))
            .help(format!("or see its changes: SELECT * FROM {} EMIT CHANGES", source.name))
    })
}

impl Binder<'_> {
    /// All of FROM.
    pub(super) fn from(&mut self, select: &Select) -> Result<Relation, Diagnostic> {
        let mut relation = self.relation(&select.from)?;
        if let (Taken::Reference, Some(condition), [(_, source)]) =
            (self.taken, &select.filter, relation.sources.as_slice())
        {
            keys::check(condition, &relation, &source.clone(), self.ctx)?;
        }
        for join in &select.joins {
            let right = self.relation(&join.relation)?;
            if let Some((alias, _)) = relation.sources.iter().find(|(alias, _)| *alias == right.sources[0].0) {
                return Err(Diagnostic::user(format!("two sources of the query are named {alias}"))
                    .at(join.relation.span())
                    .help(format!("give one of them another name: {alias} AS OTHER")));
            }
            relation = joined(relation, right, join, self.ctx)?;
        }
        Ok(relation)
    }

    fn relation(&mut self, relation: &ast::Relation) -> Result<Relation, Diagnostic> {
        let alias = |name: &Ident| relation.alias.as_ref().unwrap_or(name).as_str().to_owned();
        match &relation.kind {
            RelationKind::Source(name) => {
                if let Some((_, rows)) = self.named.iter().rev().find(|(known, _)| known == name.as_str()) {
                    return derived(alias(name), rows.clone());
                }
                let source = self.ctx.catalog.expect_source(name.as_str()).map_err(|e| e.at(name.span()))?;
                if source.is_table() {
                    writer(source, self.ctx).map_err(|e| e.at(relation.span()))?;
                }
                if !self.reads.iter().any(|read| read.name == source.name) {
                    self.reads.push(source.clone());
                }
                scan(&alias(name), source)
            }
            RelationKind::Subquery(query) => {
                let rows = self.query(query)?;
                let name = relation.alias.as_ref().map_or_else(|| "$Q".to_owned(), |a| a.as_str().to_owned());
                derived(name, rows)
            }
        }
    }
}

/// The rows of a declared source.
fn scan(alias: &str, source: &Arc<Source>) -> Result<Relation, Diagnostic> {
    let name = TableReference::bare(source.name.as_str());
    let read = SourceRead::new(source.clone());
    let table = TableScanBuilder::new(name.clone(), Arc::new(read)).build().map_err(internal)?;
    let mut columns = Vec::new();
    let mut push = |name: &str, ty: SqlType, role: RelRole| {
        let physical = format!("{alias}.{name}");
        columns.push(RelColumn { qualifier: alias.to_owned(), name: name.to_owned(), ty, physical, role });
    };
    let key_count = source.schema.key_count();
    for column in source.schema.keys() {
        push(column.name.as_str(), column.ty.clone(), RelRole::Key);
    }
    if source.window.is_some() {
        // they may be grouped by, and a star shows them after the key
        push(pseudo::WINDOWSTART, SqlType::BigInt, RelRole::Value);
        push(pseudo::WINDOWEND, SqlType::BigInt, RelRole::Value);
    }
    for column in &source.schema.columns()[key_count..] {
        push(column.name.as_str(), column.ty.clone(), RelRole::Value);
    }
    push(pseudo::ROWTIME, SqlType::BigInt, RelRole::Pseudo);
    let qualified = |c: &RelColumn| DfExpr::Column(DfColumn::new(Some(name.clone()), &c.name)).alias(&c.physical);
    let plan = projection(columns.iter().map(qualified).collect(), LogicalPlan::TableScan(table))?;
    let key = columns.iter().filter(|c| c.role == RelRole::Key).map(key_part).collect();
    Ok(relation(alias, plan, columns, key, source.clone()))
}

fn key_part(column: &RelColumn) -> KeyPart {
    KeyPart::plain(column.physical.clone(), column.ty.clone(), column.name.clone())
}

fn relation(
    alias: &str,
    plan: LogicalPlan,
    columns: Vec<RelColumn>,
    key: Vec<KeyPart>,
    source: Arc<Source>,
) -> Relation {
    Relation {
        plan,
        columns,
        key,
        is_table: false,
        window: source.window,
        key_format: source.key_format.clone(),
        value_format: source.value_format.clone(),
        partitions: source.partitions,
        sources: vec![(alias.to_owned(), source)],
        foreign_key: false,
        computed: vec![],
    }
}

/// The rows of a query under a name of their own.
fn derived(alias: String, rows: Rows) -> Result<Relation, Diagnostic> {
    let columns: Vec<RelColumn> = rows
        .columns
        .iter()
        .map(|c| RelColumn {
            qualifier: alias.clone(),
            name: c.name.clone(),
            ty: c.ty.clone(),
            physical: format!("{alias}.{}", c.name),
            role: RelRole::Value,
        })
        .collect();
    let exprs = columns.iter().map(|c| column(&c.name).alias(&c.physical)).collect();
    let plan = projection(exprs, rows.plan)?;
    // what has no topic is described like a source, for stars and messages
    let source = Source {
        name: SourceName::new(&alias),
        kind: SourceKind::Stream,
        schema: LogicalSchema::new(columns.iter().map(|c| Column::value(c.name.as_str(), c.ty.clone()))),
        topic: TopicName::new(""),
        partitions: 1,
        key_format: FormatSpec::new(Format::None),
        value_format: FormatSpec::new(Format::None),
        window: None,
        timestamp: None,
        read_only: true,
        created_by: None,
        statement: String::new(),
    };
    Ok(relation(&alias, plan, columns, vec![], Arc::new(source)))
}

fn joined(
    left: Relation,
    right: Relation,
    join: &ast::Join,
    ctx: &AnalysisContext<'_>,
) -> Result<Relation, Diagnostic> {
    let names = |r: &Relation| r.columns.iter().map(|c| c.physical.clone()).collect::<HashSet<_>>();
    let (left_names, right_names) = (names(&left), names(&right));
    let mut columns = left.columns.clone();
    columns.extend(right.columns.iter().cloned());
    let mut sources = left.sources.clone();
    sources.extend(right.sources.iter().cloned());
    let window = left.window.or(right.window);
    let both = Relation { columns, sources, key: vec![], window, ..left.clone() };
    if let Some(call) = aggregate::first_call(&join.on, ctx.registry) {
        return Err(
            Diagnostic::user(format!("ON does not support aggregate functions: {}", sql_text(call))).at(call.span())
        );
    }
    let bound = bind_in(&join.on, &both, ctx)?;
    expect_boolean("ON", &join.on, &bound.ty, ctx)?;
    let (mut on, mut rest) = (Vec::new(), Vec::new());
    let schema = left.plan.schema().join(right.plan.schema()).map_err(internal)?;
    for operand in split_conjunction_owned(bound.expr) {
        match sides(&operand, &left_names, &right_names) {
            Some((l, r)) => {
                let ty = l.get_type(&schema).map_err(internal)?;
                match SqlType::from_arrow(&ty).filter(is_join_key) {
                    Some(ty) => on.push((
                        sealed(Bound { expr: l, ty: ty.clone() }, &left.plan)?,
                        sealed(Bound { expr: r, ty }, &right.plan)?,
                    )),
                    None => rest.push(operand),
                }
            }
            None => rest.push(operand),
        }
    }
    let arrow = schema.inner();
    let rest = rest.into_iter().map(|e| crate::function::seal::seal(e, SqlType::Boolean, arrow).map_err(internal));
    let filter = conjunction(rest.collect::<Result<Vec<_>, _>>()?);
    let kind = match join.kind {
        JoinKind::Inner => JoinType::Inner,
        JoinKind::Left => JoinType::Left,
        JoinKind::Right => JoinType::Right,
        JoinKind::Full => JoinType::Full,
    };
    let (l, r) = (Arc::new(left.plan), Arc::new(right.plan));
    let equality = NullEquality::NullEqualsNothing;
    let plan = Join::try_new(l, r, on, filter, kind, JoinConstraint::On, equality, false).map_err(internal)?;
    Ok(Relation { plan: LogicalPlan::Join(plan), ..both })
}

/// The sides of an equality between a value of the left relation and one of the right.
fn sides(condition: &DfExpr, left: &HashSet<String>, right: &HashSet<String>) -> Option<(DfExpr, DfExpr)> {
    let DfExpr::IsTrue(inner) = condition else { return None };
    let DfExpr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b }) = inner.as_ref() else { return None };
    let within = |e: &DfExpr, names: &HashSet<String>| {
        let columns = e.column_refs();
        !columns.is_empty() && columns.iter().all(|c| names.contains(&c.name))
    };
    if within(a, left) && within(b, right) {
        return Some((a.as_ref().clone(), b.as_ref().clone()));
    }
    (within(a, right) && within(b, left)).then(|| (b.as_ref().clone(), a.as_ref().clone()))
}

/// Types whose values hash as they compare; others are compared row by row.
fn is_join_key(ty: &SqlType) -> bool {
    !matches!(ty, SqlType::Double | SqlType::Array(_) | SqlType::Map(..) | SqlType::Struct(_))
}
