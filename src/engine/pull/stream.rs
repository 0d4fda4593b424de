//! A stream as a table of a larger pull query: its rows from the beginning to where the topic ended when the statement came.
//!
//! Read by a transient query, as a push query would. The subtle thing: the rows of that query come on a blocking call, so each is asked for on
//! a blocking thread; a runtime without threads (in tests) is driven here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions};

use super::table::{external, properties};
use crate::analyzer::query::BoundQuery;
use crate::analyzer::relation::{ScanOptions, column, scan};
use crate::analyzer::select::KeyOrigin;
use crate::catalog::Source;
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::engine::outcome::{NextRows, Rows, RowsKind};
use crate::engine::{Engine, push};
use crate::plan::nodes::{Shape, StreamNode, StreamOp};
use crate::plan::read::read_schema;
use crate::topic::{Offset, TopicPartition};
use crate::types::{Column, LogicalSchema, QueryId};

/// How long one blocking call waits for rows.
const WAIT: Duration = Duration::from_millis(200);

/// The rows of a stream up to now.
pub(super) struct StreamTable {
    read: Arc<Read>,
    schema: SchemaRef,
}

struct Read {
    source: Arc<Source>,
    ends: BTreeMap<TopicPartition, Offset>,
    config: Config,
    engine: Engine,
}

impl StreamTable {
    pub(super) fn new(
        source: Arc<Source>,
        ends: BTreeMap<TopicPartition, Offset>,
        config: Config,
        engine: Engine,
    ) -> Self {
        let schema = read_schema(&source);
        Self { read: Arc::new(Read { source, ends, config, engine }), schema }
    }
}

impl fmt::Debug for StreamTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamTable({})", self.read.source.name)
    }
}

#[async_trait]
impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(wanted) => Arc::new(self.schema.project(wanted)?),
            None => self.schema.clone(),
        };
        Ok(Arc::new(StreamRead { read: self.read.clone(), properties: properties(schema) }))
    }
}

/// One read of a stream.
struct StreamRead {
    read: Arc<Read>,
    properties: Arc<PlanProperties>,
}

impl fmt::Debug for StreamRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamRead({})", self.read.source.name)
    }
}

impl DisplayAs for StreamRead {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamRead: {}", self.read.source.name)
    }
}

impl ExecutionPlan for StreamRead {
    fn name(&self) -> &str {
        "StreamRead"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let schema = self.schema();
        let rows = self.read.start(&schema).map_err(external)?;
        let reading = Reading { rows, read: self.read.clone(), schema: schema.clone() };
        let batches = futures::stream::try_unfold(reading, |mut reading| async move {
            let next = tokio::task::spawn_blocking(move || {
                let batch = reading.next_batch();
                (reading, batch)
            });
            let (reading, batch) = next.await.map_err(|e| DataFusionError::External(Box::new(e)))?;
            Ok(batch.map_err(external)?.map(|batch| (batch, reading)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

impl Read {
    /// Starts the query that reads these columns.
    fn start(&self, schema: &Schema) -> Result<Rows, Diagnostic> {
        let internal = crate::analyzer::relation::internal;
        let options = ScanOptions { earliest: Some(true), default_earliest: true, qualified: false };
        let relation = scan(self.source.name.as_str(), &self.source, options)?;
        // a batch without columns has no rows that could be counted
        let names: Vec<&String> = schema.fields().iter().map(|f| f.name()).collect();
        let found = |name: &&String| relation.by_physical(name).cloned();
        let mut columns: Vec<_> = names.iter().filter_map(found).collect();
        if columns.is_empty() {
            columns.extend(relation.by_physical(crate::types::pseudo::ROWTIME).cloned());
        }
        let exprs = columns.iter().map(|c| column(&c.physical)).collect();
        let shape = Shape { key_count: 0, ..relation.shape() };
        let arrow = crate::analyzer::relation::plan_schema(&columns);
        let plan: LogicalPlan =
            StreamNode::plan(StreamOp::Project { exprs }, vec![relation.plan], arrow, shape).map_err(internal)?;
        let bound = BoundQuery {
            plan,
            schema: LogicalSchema::new(columns.iter().map(|c| Column::value(c.name.as_str(), c.ty.clone()))),
            key_columns: vec![],
            is_table: false,
            window: relation.window,
            key_format: relation.key_format,
            value_format: relation.value_format,
            partitions: relation.partitions,
            reads: vec![self.source.name.clone()],
            origin: KeyOrigin::Source,
            keyless: false,
            limit: None,
            warnings: vec![],
        };
        let text = format!("SELECT … FROM {}", self.source.name);
        push::start(bound, text, RowsKind::PullStream, Some(self.ends.clone()), &self.config, &self.engine)
    }
}

/// A read under way.
struct Reading {
    rows: Rows,
    read: Arc<Read>,
    schema: SchemaRef,
}

impl Reading {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, Diagnostic> {
        loop {
            if self.read.engine.runtime().is_manual() {
                self.read.engine.runtime().pump(&QueryId::new(&self.rows.query_id), &|_| None)?;
            }
            match self.rows.source.next(WAIT) {
                NextRows::Batch { batch, tombstones } => {
                    let batch = match tombstones {
                        // a record without value is no row
                        Some(gone) => filter_record_batch(&batch, &BooleanArray::new(!&gone, None)),
                        None => Ok(batch),
                    };
                    let batch = batch.map_err(crate::analyzer::relation::internal)?;
                    return self.shaped(&batch).map(Some);
                }
                NextRows::Idle => {}
                NextRows::Done(_) => return Ok(None),
                NextRows::Failed(error) => return Err(error),
            }
        }
    }

    fn shaped(&self, batch: &RecordBatch) -> Result<RecordBatch, Diagnostic> {
        let columns = batch.columns()[..self.schema.fields().len()].to_vec();
        crate::types::change::record_batch(&self.schema, columns, batch.num_rows())
            .map_err(crate::analyzer::relation::internal)
    }
}
