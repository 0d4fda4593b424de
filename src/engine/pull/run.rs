//! Executes the plan of a pull query: on threads of its own, within its memory, as fast as the client takes rows.
//!
//! The plan's stream runs on a small runtime that all pull queries of the process share, never on a worker. The subtle thing: what is between it
//! and the client is a short queue of batches, so a client that leaves, or has enough, stops the plan at its next batch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::analyzer::pull::PullColumn;
use crate::analyzer::relation::internal;
use crate::config::{self, Config};
use crate::diagnostic::Diagnostic;
use crate::engine::Engine;
use crate::engine::outcome::{NextRows, ResultColumn, RowSource, Rows, RowsKind};
use crate::types::change::record_batch;

/// Threads that execute pull queries.
const THREADS: usize = 2;
/// Batches that wait for the client.
const BATCHES_WAITING: usize = 2;

/// The threads of pull queries, made with the first one.
fn threads() -> Result<&'static Runtime, Diagnostic> {
    static THREADS_OF_ALL: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = THREADS_OF_ALL.get() {
        return Ok(runtime);
    }
    let built = Builder::new_multi_thread().worker_threads(THREADS).thread_name("pull").enable_time().build();
    let built = built.map_err(|e| internal(format!("no threads for pull queries: {e}")))?;
    Ok(THREADS_OF_ALL.get_or_init(|| built))
}

/// A session with the memory of one query.
pub(super) fn session(config: &Config) -> Result<SessionState, Diagnostic> {
    let memory = Arc::new(GreedyMemoryPool::new(config.size(config::QUERY_MEMORY)));
    let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let environment = RuntimeEnvBuilder::new().with_memory_pool(memory).with_disk_manager_builder(no_disk);
    let mut options = SessionConfig::new().with_target_partitions(1);
    options.options_mut().optimizer.enable_dynamic_filter_pushdown = false;
    let environment = environment.build_arc().map_err(internal)?;
    Ok(SessionStateBuilder::new().with_config(options).with_runtime_env(environment).build())
}

/// The plan as DataFusion executes it.
pub(super) fn physical(plan: &LogicalPlan, session: &SessionState) -> Result<Arc<dyn ExecutionPlan>, Diagnostic> {
    let planner = DefaultPhysicalPlanner::default();
    futures::executor::block_on(planner.create_physical_plan(plan, session)).map_err(internal)
}

/// Starts a plan; rows come as they are asked for.
pub(super) fn start(
    plan: &LogicalPlan,
    columns: Vec<PullColumn>,
    config: &Config,
    engine: &Engine,
) -> Result<Rows, Diagnostic> {
    let session = session(config)?;
    let physical = physical(plan, &session)?;
    start_physical(physical, &session, columns, config, engine)
}

fn start_physical(
    physical: Arc<dyn ExecutionPlan>,
    session: &SessionState,
    columns: Vec<PullColumn>,
    config: &Config,
    engine: &Engine,
) -> Result<Rows, Diagnostic> {
    let memory = config.size(config::QUERY_MEMORY);
    let fields = columns.iter().map(|c| Field::new(&c.name, c.ty.to_arrow(), true)).collect::<Vec<_>>();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let context = session.task_ctx();
    let (sender, receiver) = mpsc::channel(BATCHES_WAITING);
    let task = threads()?.spawn(async move {
        let mut batches = match execute_stream(physical, context) {
            Ok(batches) => batches,
            Err(error) => {
                // the reader may have left
                let _ = sender.send(Err(failed(&error, memory))).await;
                return;
            }
        };
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| failed(&error, memory));
            let last = batch.is_err();
            if sender.send(batch).await.is_err() || last {
                return;
            }
        }
    });
    let columns = columns.into_iter().map(|c| ResultColumn { name: c.name, ty: c.ty, is_key: c.is_key }).collect();
    let source = Running { receiver, schema, task: task.abort_handle(), cancelled: Arc::new(AtomicBool::new(false)) };
    let query_id = format!("query_{}", engine.now_ms());
    Ok(Rows { query_id, columns, kind: RowsKind::PullTable, source: Box::new(source) })
}

/// Rows of a plan that runs.
struct Running {
    receiver: mpsc::Receiver<Result<RecordBatch, Diagnostic>>,
    schema: SchemaRef,
    task: AbortHandle,
    cancelled: Arc<AtomicBool>,
}

impl RowSource for Running {
    fn next(&mut self, timeout: Duration) -> NextRows {
        if self.cancelled.load(Ordering::Relaxed) {
            return NextRows::Done(None);
        }
        let Ok(threads) = threads() else { return NextRows::Done(None) };
        let receiver = &mut self.receiver;
        let next = threads.block_on(async move { tokio::time::timeout(timeout, receiver.recv()).await });
        match next {
            Err(_) => NextRows::Idle,
            Ok(None) => NextRows::Done(None),
            Ok(Some(Err(error))) => NextRows::Failed(error),
            Ok(Some(Ok(batch))) => match record_batch(&self.schema, batch.columns().to_vec(), batch.num_rows()) {
                Ok(batch) => NextRows::Batch { batch, tombstones: None },
                Err(error) => NextRows::Failed(internal(error)),
            },
        }
    }

    fn canceller(&self) -> Arc<dyn Fn() + Send + Sync> {
        let (cancelled, task) = (self.cancelled.clone(), self.task.clone());
        Arc::new(move || {
            cancelled.store(true, Ordering::Relaxed);
            task.abort();
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a plan stopped, in the user's words.
fn failed(error: &DataFusionError, memory: usize) -> Diagnostic {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => {
            Diagnostic::user(format!("The query needs more memory than {} = {memory} bytes", config::QUERY_MEMORY))
                .help("read fewer rows with a condition on the key or a LIMIT, or raise it for the server")
        }
        DataFusionError::External(inner) => match inner.downcast_ref::<Diagnostic>() {
            Some(own) => own.clone(),
            None => internal(inner),
        },
        DataFusionError::Execution(reason) => Diagnostic::user(reason.clone()),
        other => internal(other),
    }
}
