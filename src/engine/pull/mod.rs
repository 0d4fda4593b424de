//! Pull queries: reads of tables' committed state, and of streams up to their end.
//!
//! The walk: `crate::analyzer::pull` binds the query to a DataFusion plan of source reads; [`plan`] optimizes it by chosen rules and finds the
//! lookups; [`table`] and [`stream`] provide the rows of one snapshot; [`run`] executes the plan within its memory and gives batches as the
//! client takes them. The subtle thing: a snapshot is taken once a table and statement, before the first row is read. A lone stream
//! is read by the machinery of push queries instead, so that its rows come while the topic is read.

mod plan;
mod run;
mod stream;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::outcome::{Rows, RowsKind};
use super::{Engine, push, settings};
use crate::analyzer::AnalysisContext;
use crate::analyzer::pull::{BoundPull, Taken, bind, stream_alone};
use crate::analyzer::query::BoundQuery;
use crate::analyzer::select::ListOf;
use crate::catalog::Source;
use crate::config::{Config, Dialect};
use crate::diagnostic::Diagnostic;
use crate::sql::ast::{Query, RelationKind, Select};
use crate::topic::{Offset, TopicPartition};

/// Says whether a pull query may run, without reading anything.
///
/// # Errors
/// What is wrong with it.
pub fn check(query: &Query, ctx: &AnalysisContext<'_>, config: &Config) -> Result<(), Diagnostic> {
    allowed(query, config)?;
    if let Some((select, _)) = lone_stream(query, ctx, config) {
        return stream_query(query, select, ctx, config).map(|_| ());
    }
    let bound = bound(query, ctx, config)?;
    if !plan::scans_allowed(config) {
        let optimized = plan::optimized(bound.plan)?;
        plan::check_lookups(&optimized, query, config)?;
    }
    Ok(())
}

/// Runs a pull query.
///
/// # Errors
/// What is wrong with it; state that cannot be read now.
pub fn rows(query: &Query, ctx: &AnalysisContext<'_>, config: &Config, engine: &Engine) -> Result<Rows, Diagnostic> {
    allowed(query, config)?;
    if let Some((select, source)) = lone_stream(query, ctx, config) {
        let bound = stream_query(query, select, ctx, config)?;
        let ends = ends(&source, engine)?;
        return push::start(bound, query.to_string(), RowsKind::PullStream, Some(ends), config, engine);
    }
    let BoundPull { plan, columns, reads } = bound(query, ctx, config)?;
    let optimized = plan::optimized(plan)?;
    if !plan::scans_allowed(config) {
        plan::check_lookups(&optimized, query, config)?;
    }
    let provided = plan::provide(optimized, &reads, ctx, config, engine)?;
    run::start(&provided, columns, config, engine)
}

/// The plan of a pull query, and which rows of which source it reads, as text; `None` for a lone stream, which has the topology of a push query.
///
/// # Errors
/// What is wrong with the query.
pub fn explain(query: &Query, ctx: &AnalysisContext<'_>, config: &Config) -> Result<Option<Explained>, Diagnostic> {
    allowed(query, config)?;
    if lone_stream(query, ctx, config).is_some() {
        return Ok(None);
    }
    let bound = bound(query, ctx, config)?;
    let optimized = plan::optimized(bound.plan.clone())?;
    Ok(Some(Explained { plan: plan::shown(&optimized), reads: plan::reads(&optimized, config), bound }))
}

/// What EXPLAIN says of a pull query.
pub struct Explained {
    /// the optimized plan
    pub plan: String,
    /// a line for each read
    pub reads: String,
    /// columns and sources
    pub bound: BoundPull,
}

fn taken(config: &Config) -> Taken {
    if config.dialect() == Dialect::Ksql { Taken::Reference } else { Taken::Extended }
}

fn bound(query: &Query, ctx: &AnalysisContext<'_>, config: &Config) -> Result<BoundPull, Diagnostic> {
    let limits = settings::query(config).limits;
    let bound = bind(query, taken(config), &limits, ctx)?;
    if bound.reads.iter().any(|source| !source.is_table()) {
        streams_allowed(config)?;
    }
    Ok(bound)
}

fn allowed(query: &Query, config: &Config) -> Result<(), Diagnostic> {
    if !config.bool("ksql.pull.queries.enable") {
        return Err(Diagnostic::user("Pull queries are disabled: ksql.pull.queries.enable is false").at(query.span()));
    }
    if let Some(limit) = query.limit.filter(|_| !config.bool("ksql.query.pull.limit.clause.enabled")) {
        return Err(Diagnostic::user(
            "LIMIT clause in pull queries is disabled: ksql.query.pull.limit.clause.enabled is false",
        )
        .at(limit.loc.0));
    }
    Ok(())
}

fn streams_allowed(config: &Config) -> Result<(), Diagnostic> {
    if config.bool("ksql.query.pull.stream.enabled") {
        return Ok(());
    }
    Err(Diagnostic::user("Pull queries on streams are disabled: ksql.query.pull.stream.enabled is false"))
}

/// The SELECT and the stream of a query that only filters and projects one; under the reference's dialect of any query on one stream.
fn lone_stream<'q>(query: &'q Query, ctx: &AnalysisContext<'_>, config: &Config) -> Option<(&'q Select, Arc<Source>)> {
    let select = query.as_select()?;
    let RelationKind::Source(name) = &select.from.kind else { return None };
    let source = ctx.catalog.source(name.as_str()).filter(|source| !source.is_table())?;
    let plain = select.joins.is_empty()
        && select.group_by.is_empty()
        && select.having.is_none()
        && select.distinct.is_none()
        && !crate::analyzer::aggregate::has_calls(select, ctx.registry);
    (plain || taken(config) == Taken::Reference).then(|| (select, source.clone()))
}

fn stream_query(
    query: &Query,
    select: &Select,
    ctx: &AnalysisContext<'_>,
    config: &Config,
) -> Result<BoundQuery, Diagnostic> {
    streams_allowed(config)?;
    stream_alone(query, select, taken(config), ctx)?;
    let mut settings = ctx.settings.clone();
    settings.earliest = Some(true);
    let ctx = AnalysisContext { settings: &settings, ..*ctx };
    crate::analyzer::query::analyze(query, ListOf::Transient, "the query", &ctx)
}

/// Where the topic of a source ends now.
fn ends(source: &Source, engine: &Engine) -> Result<BTreeMap<TopicPartition, Offset>, Diagnostic> {
    let at = |p| TopicPartition { topic: source.topic.clone(), partition: p };
    let ends = (0..source.partitions.max(1)).map(|p| engine.log().bounds(&at(p)).map(|b| (at(p), b.end)));
    Ok(ends.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests;
