//! Pull queries, bound to ordinary DataFusion plans over [`SourceRead`](crate::plan::read::SourceRead)s.
//!
//! Names, types and expressions are bound as in streaming queries; every expression then goes into the plan sealed, so that DataFusion moves
//! it but never looks inside. The walk: [`bind`] asks [`refusals`] what may stand here, [`from`] makes a relation of sources, subqueries and
//! joins, [`group`] groups it, [`order`] gives the result its columns and order. The subtle thing: rows are read once and nothing is undone, so
//! what a table forbids in a streaming query (MIN over it, a join on any column) is allowed here.
//!
//! Left out: subqueries in expressions (`IN (SELECT …)`, EXISTS), which the grammar does not have; OVER.

mod from;
mod group;
mod keys;
mod order;
mod refusals;

use std::sync::Arc;

use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Distinct, Expr as DfExpr, Filter, LogicalPlan, Projection, Union};

use super::expr::{Bound, widen};
use super::expr_coerce::wider_number;
use super::query::{bind_in, bind_items};
use super::relation::{RelRole, Relation, column, internal};
use super::select::{ListOf, Namer, Selected, check_names, expand, expect_boolean, names};
use super::{AnalysisContext, aggregate, sql_text};
use crate::catalog::Source;
use crate::diagnostic::{Diagnostic, Span};
use crate::function::FunctionLimits;
use crate::function::seal::seal;
use crate::sql::ast::{Expr, Query, QueryBody, Select};
use crate::types::SqlType;

pub use from::writer;
pub use refusals::{Taken, stream_alone};

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullColumn {
    /// its name
    pub name: String,
    /// its type
    pub ty: SqlType,
    /// it is a key column of the one table that is read
    pub is_key: bool,
}

/// Rows that a query gives.
#[derive(Clone)]
pub struct BoundPull {
    /// how they come about; columns are named and ordered as `columns`
    pub plan: LogicalPlan,
    /// the columns
    pub columns: Vec<PullColumn>,
    /// the sources read, each once
    pub reads: Vec<Arc<Source>>,
}

/// Binds a pull query.
///
/// # Errors
/// What is wrong with it, or is not taken under this dialect.
pub fn bind(
    query: &Query,
    taken: Taken,
    limits: &Arc<FunctionLimits>,
    ctx: &AnalysisContext<'_>,
) -> Result<BoundPull, Diagnostic> {
    let mut binder = Binder { ctx, taken, limits, reads: Vec::new(), named: Vec::new() };
    let Rows { plan, columns } = binder.query(query)?;
    Ok(BoundPull { plan, columns, reads: binder.reads })
}

/// Rows of a query inside of another, or of the whole one.
#[derive(Clone)]
struct Rows {
    plan: LogicalPlan,
    columns: Vec<PullColumn>,
}

struct Binder<'a> {
    ctx: &'a AnalysisContext<'a>,
    taken: Taken,
    limits: &'a Arc<FunctionLimits>,
    reads: Vec<Arc<Source>>,
    /// names of WITH in reach, innermost last
    named: Vec<(String, Rows)>,
}

impl Binder<'_> {
    fn query(&mut self, query: &Query) -> Result<Rows, Diagnostic> {
        refusals::check_query(query, self.taken)?;
        let outer = self.named.len();
        for cte in &query.with {
            let rows = self.query(&cte.query)?;
            if self.named[outer..].iter().any(|(name, _)| name == cte.name.as_str()) {
                return Err(
                    Diagnostic::user(format!("WITH has two queries named {}", cte.name.as_str())).at(cte.name.span())
                );
            }
            self.named.push((cte.name.as_str().to_owned(), rows));
        }
        let rows = match &query.body {
            QueryBody::Select(select) => self.select(select, query),
            other => self.body(other).and_then(|rows| order::of_result(rows, query)),
        };
        self.named.truncate(outer);
        rows
    }

    fn body(&mut self, body: &QueryBody) -> Result<Rows, Diagnostic> {
        match body {
            QueryBody::Query(query) => self.query(query),
            QueryBody::Select(select) => self.select(select, &bare(body, select.loc.0)),
            QueryBody::Union { left, right, all } => {
                let (left_rows, right_rows) = (self.body(left)?, self.body(right)?);
                let rows = union(left_rows, right_rows, span_of(right))?;
                if *all { Ok(rows) } else { distinct(rows, span_of(right)) }
            }
        }
    }

    fn select(&mut self, select: &Select, query: &Query) -> Result<Rows, Diagnostic> {
        refusals::check_select(select, self.taken, self.ctx)?;
        let relation = self.from(select)?;
        let simple = !relation.is_join();
        let relation = filtered(relation, select.filter.as_ref(), self.ctx)?;
        let grouped = !select.group_by.is_empty() || aggregate::has_calls(select, self.ctx.registry);
        if let Some(having) = select.having.as_ref().filter(|_| !grouped) {
            return Err(Diagnostic::user("HAVING clause requires a GROUP BY clause").at(having.span()));
        }
        let (relation, selected) = if grouped {
            group::group(select, relation, self.limits, self.ctx)?
        } else {
            let mut namer = Namer::new(&relation);
            let names = names(&select.items, &relation, &mut namer);
            let items = expand(&select.items, &names, &relation)?;
            let selected = bind_items(items, &relation, &mut namer, self.ctx)?;
            (relation, selected)
        };
        check_names(&selected, ListOf::Transient)?;
        let is_key = |c: &Selected| {
            simple && !grouped && relation.columns.iter().any(|r| r.role == RelRole::Key && r.expr() == c.expr)
        };
        let columns = selected.iter().map(|c| PullColumn { name: c.name.clone(), ty: c.ty.clone(), is_key: is_key(c) });
        order::of_select(columns.collect(), select, query, &relation, &selected, self.ctx)
    }
}

/// A query of nothing but this body.
fn bare(body: &QueryBody, span: Span) -> Query {
    Query {
        with: vec![],
        body: body.clone(),
        order_by: vec![],
        emit: None,
        limit: None,
        offset: None,
        loc: crate::sql::ast::Loc(span),
    }
}

fn span_of(body: &QueryBody) -> Span {
    match body {
        QueryBody::Select(select) => select.loc.0,
        QueryBody::Query(query) => query.span(),
        QueryBody::Union { left, .. } => span_of(left),
    }
}

/// An expression over the relation as DataFusion may have it.
fn sealed(bound: Bound, plan: &LogicalPlan) -> Result<DfExpr, Diagnostic> {
    seal(bound.expr, bound.ty, plan.schema().inner()).map_err(internal)
}

/// A condition as DataFusion may have it: operands of AND apart, so that each goes as deep as it can.
fn sealed_condition(condition: DfExpr, plan: &LogicalPlan) -> Result<Option<DfExpr>, Diagnostic> {
    let operands = split_conjunction_owned(condition).into_iter();
    let operands = operands.map(|e| sealed(Bound { expr: e, ty: SqlType::Boolean }, plan));
    Ok(conjunction(operands.collect::<Result<Vec<_>, _>>()?))
}

fn filtered(relation: Relation, condition: Option<&Expr>, ctx: &AnalysisContext<'_>) -> Result<Relation, Diagnostic> {
    let Some(condition) = condition else { return Ok(relation) };
    if let Some(call) = aggregate::first_call(condition, ctx.registry) {
        return Err(Diagnostic::user(format!("WHERE does not support aggregate functions: {}", sql_text(call)))
            .at(call.span())
            .help("use HAVING"));
    }
    let bound = bind_in(condition, &relation, ctx)?;
    expect_boolean("WHERE", condition, &bound.ty, ctx)?;
    kept(relation, bound.expr)
}

/// The rows for which a bound condition is true.
fn kept(relation: Relation, condition: DfExpr) -> Result<Relation, Diagnostic> {
    let Some(condition) = sealed_condition(condition, &relation.plan)? else { return Ok(relation) };
    let filter = Filter::try_new(condition, Arc::new(relation.plan.clone())).map_err(internal)?;
    Ok(Relation { plan: LogicalPlan::Filter(filter), ..relation })
}

fn projection(exprs: Vec<DfExpr>, input: LogicalPlan) -> Result<LogicalPlan, Diagnostic> {
    Projection::try_new(exprs, Arc::new(input)).map(LogicalPlan::Projection).map_err(internal)
}

/// The rows without doubles.
fn distinct(rows: Rows, span: Span) -> Result<Rows, Diagnostic> {
    if let Some(map) = rows.columns.iter().find(|c| c.ty.contains_map()) {
        return Err(Diagnostic::user(format!(
            "rows with the MAP {} cannot be compared, so not made distinct",
            map.name
        ))
        .at(span)
        .help("leave the column out, or use UNION ALL"));
    }
    Ok(Rows { plan: LogicalPlan::Distinct(Distinct::All(Arc::new(rows.plan))), ..rows })
}

/// The rows of both, under the names of the left ones.
fn union(left: Rows, right: Rows, span: Span) -> Result<Rows, Diagnostic> {
    if left.columns.len() != right.columns.len() {
        let (l, r) = (left.columns.len(), right.columns.len());
        return Err(Diagnostic::user(format!("the sides of a UNION have {l} and {r} columns")).at(span));
    }
    let mut columns = Vec::with_capacity(left.columns.len());
    for (l, r) in left.columns.iter().zip(&right.columns) {
        let ty = if l.ty == r.ty { Some(l.ty.clone()) } else { wider_number(&l.ty, &r.ty) };
        let ty = ty.ok_or_else(|| {
            let message = format!("the sides of a UNION differ in the type of {}: {} and {}", l.name, l.ty, r.ty);
            Diagnostic::user(message).at(span).help(format!("use CAST({} AS {})", r.name, l.ty))
        })?;
        columns.push(PullColumn { name: l.name.clone(), ty, is_key: false });
    }
    let side = |rows: &Rows| {
        let exprs = rows.columns.iter().zip(&columns).map(|(own, to)| {
            let expr = widen(column(&own.name), &own.ty, &to.ty);
            Ok(sealed(Bound { expr, ty: to.ty.clone() }, &rows.plan)?.alias(&to.name))
        });
        projection(exprs.collect::<Result<_, Diagnostic>>()?, rows.plan.clone()).map(Arc::new)
    };
    let inputs = vec![side(&left)?, side(&right)?];
    Ok(Rows { plan: LogicalPlan::Union(Union::try_new(inputs).map_err(internal)?), columns })
}
