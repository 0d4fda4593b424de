//! The plan of a pull query on its way to execution: optimizer rules, lookups, and providers of a snapshot in place of source reads.
//!
//! Reads nothing. The subtle thing: DataFusion's analyzer (its type coercion) never runs, and only rules run that move operators and leave
//! expressions alone: these are sealed, and what they mean is settled.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::DefaultTableSource;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::push_down_limit::PushDownLimit;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::{Optimizer, OptimizerContext, OptimizerRule};

use super::stream::StreamTable;
use super::table::StateTable;
use crate::analyzer::AnalysisContext;
use crate::analyzer::pull::writer;
use crate::analyzer::relation::internal;
use crate::catalog::Source;
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::engine::{Engine, settings};
use crate::function::seal::unsealed;
use crate::plan::lookup::Lookup;
use crate::plan::read::{SourceRead, key_of, lookup_of};
use crate::sql::ast::Query;

/// Passes over the plan until nothing changes, at most.
const MAX_PASSES: u8 = 4;

/// The same rows for less work.
pub(super) fn optimized(plan: LogicalPlan) -> Result<LogicalPlan, Diagnostic> {
    let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(PushDownLimit::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(OptimizeProjections::new()),
    ];
    let context = OptimizerContext::new().with_max_passes(MAX_PASSES);
    Optimizer::with_rules(rules).optimize(plan, &context, |_, _| {}).map_err(internal)
}

/// What a read of the source may look up, with what properties forbid taken as scans.
pub(super) fn lookup(scan: &TableScan, source: &Source, ranges: bool) -> Lookup {
    let found = lookup_of(&scan.filters, source);
    if ranges || found.is_keys() { found } else { Lookup::all(&key_of(source)) }
}

/// Whether ranges of keys may be read.
pub(super) fn ranges_allowed(config: &Config) -> bool {
    config.bool("ksql.query.pull.range.scan.enabled")
}

/// Whether tables may be read whole.
pub(super) fn scans_allowed(config: &Config) -> bool {
    config.bool("ksql.query.pull.table.scan.enabled")
}

/// Calls `visit` for each source read of a plan.
fn each_read(plan: &LogicalPlan, visit: &mut dyn FnMut(&TableScan, &Arc<Source>)) {
    // `visit` cannot fail, so neither does the walk
    let _ = plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(read) = scan.source.downcast_ref::<SourceRead>()
        {
            visit(scan, &read.source);
        }
        Ok(TreeNodeRecursion::Continue)
    });
}

/// Refuses reads of whole tables.
pub(super) fn check_lookups(plan: &LogicalPlan, query: &Query, config: &Config) -> Result<(), Diagnostic> {
    let mut scanned = None;
    each_read(plan, &mut |scan, source| {
        if source.is_table() && lookup(scan, source, ranges_allowed(config)).is_scan() {
            scanned.get_or_insert_with(|| source.name.to_string());
        }
    });
    let Some(name) = scanned else { return Ok(()) };
    let at = query.as_select().map_or(query.span(), |s| s.filter.as_ref().map_or(s.loc.0, |f| f.span()));
    Err(Diagnostic::user(format!(
        "Table scans are disabled (ksql.query.pull.table.scan.enabled is false): the WHERE clause must fix the key columns of {name}"
    ))
    .at(at)
    .help("compare every key column with a constant by =, or with several by IN"))
}

/// The plan with a provider of this moment's rows for each source.
pub(super) fn provide(
    plan: LogicalPlan,
    reads: &[Arc<Source>],
    ctx: &AnalysisContext<'_>,
    config: &Config,
    engine: &Engine,
) -> Result<LogicalPlan, Diagnostic> {
    let mut providers: HashMap<String, Arc<dyn TableProvider>> = HashMap::new();
    for source in reads {
        let provider: Arc<dyn TableProvider> = if source.is_table() {
            let view = engine.state(&writer(source, ctx)?, settings::reads(config))?;
            Arc::new(StateTable::new(source.clone(), view, ranges_allowed(config)))
        } else {
            Arc::new(StreamTable::new(source.clone(), super::ends(source, engine)?, config.clone(), engine.clone()))
        };
        providers.insert(source.name.to_string(), provider);
    }
    let provided = plan.transform_up(|node| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        let name = scan.source.downcast_ref::<SourceRead>().map(|read| read.source.name.to_string());
        if let Some(provider) = name.and_then(|name| providers.get(&name)) {
            scan.source = Arc::new(DefaultTableSource::new(provider.clone()));
        }
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    });
    Ok(provided.map_err(internal)?.data)
}

/// The plan as text, with the expressions inside of sealed calls.
pub(super) fn shown(plan: &LogicalPlan) -> String {
    let opened = plan.clone().transform_up(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|e| {
                Ok(match unsealed(&e) {
                    Some(inner) => Transformed::yes(inner),
                    None => Transformed::no(e),
                })
            })
        })
    });
    opened.map_or_else(|_| plan.clone(), |found| found.data).display_indent().to_string()
}

/// A line for each source: which of its rows are visited.
pub(super) fn reads(plan: &LogicalPlan, config: &Config) -> String {
    let mut out = String::from("Reads:");
    each_read(plan, &mut |scan, source| {
        let how = if source.is_table() {
            let lookup = lookup(scan, source, ranges_allowed(config));
            let kind = match (lookup.is_scan(), lookup.is_keys()) {
                (true, _) => "scan",
                (_, true) => "look-up",
                _ => "range",
            };
            format!("{kind} of {lookup}")
        } else {
            "the topic up to its end".to_owned()
        };
        // writing to a String does not fail
        let _ = write!(out, "\n  {}: {how}", source.name);
    });
    out
}
