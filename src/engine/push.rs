//! Push queries: a transient topology whose sink is the client's bounded queue.
//!
//! Shares no state with persistent queries. The subtle thing: a tombstone keeps the columns that are the key and shows NULL elsewhere, and it
//! counts for LIMIT.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::SchemaRef;

use super::outcome::{NextRows, ResultColumn, RowSource, Rows, RowsKind};
use super::{Engine, settings};
use crate::analyzer::AnalysisContext;
use crate::analyzer::query::{BoundQuery, analyze};
use crate::analyzer::relation::internal;
use crate::analyzer::select::ListOf;
use crate::config::{Config, PUSH_BUFFER_BYTES};
use crate::diagnostic::Diagnostic;
use crate::plan::nodes::{Shape, StreamNode, StreamOp};
use crate::plan::{Lowering, lower};
use crate::runtime::{CLIENT_QUEUE_ROWS, ClientEnd, ClientNext, ClientQueue, QuerySpec};
use crate::sql::ast::Query;
use crate::topic::{Offset, Owner, TopicPartition};
use crate::types::change::record_batch;
use crate::types::{ChangeBatch, ColumnRole, QueryId};

/// Push queries that run, with their texts.
#[derive(Default)]
pub struct TransientQueries {
    running: BTreeMap<QueryId, String>,
}

impl TransientQueries {
    /// Ids and texts.
    pub fn list(&self) -> impl Iterator<Item = (&QueryId, &String)> {
        self.running.iter()
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Says whether a push query may run.
///
/// # Errors
/// What is wrong with it.
pub fn check(query: &Query, ctx: &AnalysisContext<'_>) -> Result<(), Diagnostic> {
    analyze(query, ListOf::Transient, "the query", ctx).map(|_| ())
}

/// Starts a push query.
///
/// # Errors
/// What is wrong with it; too many at once.
pub fn rows(query: &Query, ctx: &AnalysisContext<'_>, config: &Config, engine: &Engine) -> Result<Rows, Diagnostic> {
    let limit = config.limit("ksql.max.push.queries").unwrap_or(usize::MAX);
    if engine.inner.transient.lock().running.len() >= limit {
        return Err(Diagnostic::user(format!(
            "Maximum number of push queries exceeded: ksql.max.push.queries = {limit}"
        ))
        .help("end one of them first"));
    }
    let bound = analyze(query, ListOf::Transient, "the query", ctx)?;
    start(bound, query.to_string(), RowsKind::Push, None, config, engine)
}

/// Runs a bound query into a queue; with `stop_at` it ends there.
///
/// # Errors
/// What the runtime refuses.
pub fn start(
    bound: BoundQuery,
    text: String,
    kind: RowsKind,
    stop_at: Option<BTreeMap<TopicPartition, Offset>>,
    config: &Config,
    engine: &Engine,
) -> Result<Rows, Diagnostic> {
    let number = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let source = bound.reads.first().map_or_else(String::new, ToString::to_string);
    let id = QueryId::new(format!("transient_{source}_{}{number}", engine.now_ms()));
    let schema = bound.plan.schema().inner().clone();
    let shape = Shape { key_count: 0, is_table: bound.is_table, window: bound.window };
    let plan = StreamNode::plan(StreamOp::Client, vec![bound.plan.clone()], schema.as_ref().clone(), shape)
        .map_err(internal)?;
    let group = format!("{}{id}", super::effect::group_prefix(engine.service_id()));
    let rules = settings::rules(config)?;
    let topology = lower(&plan, &Lowering { group: group.clone(), materialize: false, rules }).map_err(internal)?;
    let queue = ClientQueue::new(CLIENT_QUEUE_ROWS.max(1024), config.size(PUSH_BUFFER_BYTES));
    let mut query_settings = settings::query(config);
    query_settings.transient = true;
    query_settings.stop_at = stop_at.map(Arc::new);
    let spec = QuerySpec {
        id: id.clone(),
        owner: Owner::new(&group),
        topology: Arc::new(topology),
        settings: query_settings,
        client: Some(queue.clone()),
    };
    engine.inner.transient.lock().running.insert(id.clone(), text);
    if let Err(error) = engine.runtime().start(spec) {
        engine.inner.transient.lock().running.remove(&id);
        return Err(error.into());
    }
    let columns = result_columns(&bound);
    let reader = PushRows {
        queue,
        schema,
        keys: bound.key_columns.clone(),
        left: bound.limit,
        kind,
        id: id.clone(),
        engine: engine.clone(),
        cancelled: Arc::new(AtomicBool::new(false)),
    };
    Ok(Rows { query_id: id.to_string(), columns, kind, source: Box::new(reader) })
}

/// Columns of a result, as a header shows them.
pub fn result_columns(bound: &BoundQuery) -> Vec<ResultColumn> {
    let columns = bound.schema.columns().iter();
    columns
        .map(|c| ResultColumn { name: c.name.to_string(), ty: c.ty.clone(), is_key: c.role == ColumnRole::Key })
        .collect()
}

struct PushRows {
    queue: Arc<ClientQueue>,
    schema: SchemaRef,
    keys: Vec<usize>,
    left: Option<u64>,
    kind: RowsKind,
    id: QueryId,
    engine: Engine,
    cancelled: Arc<AtomicBool>,
}

impl PushRows {
    fn batch(&mut self, rows: &ChangeBatch) -> Result<NextRows, Diagnostic> {
        let mut rows = rows.clone();
        if let Some(left) = &mut self.left {
            let take = usize::try_from(*left).unwrap_or(usize::MAX).min(rows.len());
            *left -= take as u64;
            let indices: Vec<u32> = (0..take as u32).collect();
            rows = rows.take(&indices).map_err(internal)?;
        }
        let columns = shown(&rows, &self.keys).map_err(internal)?;
        let batch = record_batch(&self.schema, columns, rows.len()).map_err(internal)?;
        let tombstones = rows.present.as_ref().map(|p| BooleanBuffer::collect_bool(p.len(), |i| !p.value(i)));
        Ok(NextRows::Batch { batch, tombstones: tombstones.filter(|t| t.count_set_bits() > 0) })
    }
}

/// The columns of rows with NULLs where a row is absent, but for key columns.
fn shown(rows: &ChangeBatch, keys: &[usize]) -> Result<Vec<ArrayRef>, arrow::error::ArrowError> {
    let Some(present) = rows.present.as_ref().filter(|p| p.count_set_bits() < p.len()) else {
        return Ok(rows.columns.clone());
    };
    let mask = arrow::array::BooleanArray::new(present.clone(), None);
    let column = |(i, c): (usize, &ArrayRef)| {
        if keys.contains(&i) { Ok(c.clone()) } else { zip(&mask, c, &new_null_array(c.data_type(), c.len())) }
    };
    rows.columns.iter().enumerate().map(column).collect()
}

impl RowSource for PushRows {
    fn next(&mut self, timeout: Duration) -> NextRows {
        if self.left == Some(0) {
            return NextRows::Done(Some("Limit Reached".into()));
        }
        if self.cancelled.load(Ordering::Relaxed) {
            return NextRows::Done(None);
        }
        match self.queue.next(timeout) {
            ClientNext::Rows(rows) => self.batch(&rows).unwrap_or_else(NextRows::Failed),
            ClientNext::Idle => NextRows::Idle,
            ClientNext::End(ClientEnd::Failed(error)) => NextRows::Failed(error),
            ClientNext::End(ClientEnd::Complete) => NextRows::Done(Some("Query Completed".into())),
            ClientNext::End(ClientEnd::Stopped) => {
                NextRows::Done((self.kind == RowsKind::PullStream).then(|| "Query Completed".into()))
            }
        }
    }

    fn canceller(&self) -> Arc<dyn Fn() + Send + Sync> {
        let (queue, cancelled) = (self.queue.clone(), self.cancelled.clone());
        let (engine, id) = (self.engine.clone(), self.id.clone());
        Arc::new(move || {
            cancelled.store(true, Ordering::Relaxed);
            queue.leave();
            // It may have ended by itself.
            let _ = engine.runtime().stop(&id);
        })
    }
}

impl Drop for PushRows {
    fn drop(&mut self) {
        self.queue.leave();
        // It may have ended by itself.
        let _ = self.engine.runtime().forget(&self.id);
        self.engine.inner.transient.lock().running.remove(&self.id);
    }
}
