//! A table at one moment, as DataFusion reads it.
//!
//! Knows no SQL: conditions have become a lookup. The subtle thing: reading is synchronous and page by page, on the threads of pull queries; a plan
//! that has enough rows (LIMIT) never asks for the next page.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions};

use crate::catalog::Source;
use crate::diagnostic::Diagnostic;
use crate::plan::lookup::Lookup;
use crate::plan::read::{key_of, lookup_of, read_schema};
use crate::runtime::{MaterializedView, StateScan};
use crate::types::ChangeBatch;
use crate::types::change::record_batch;

/// Name of the metric that counts entries of stores that were visited.
pub(super) const VISITED: &str = "entries_visited";

/// The state of a table as of one commit.
pub(super) struct StateTable {
    source: Arc<Source>,
    view: MaterializedView,
    /// ranges of keys may be read; otherwise they are scans
    ranges: bool,
    schema: SchemaRef,
}

impl StateTable {
    pub(super) fn new(source: Arc<Source>, view: MaterializedView, ranges: bool) -> Self {
        let schema = read_schema(&source);
        Self { source, view, ranges, schema }
    }
}

impl fmt::Debug for StateTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateTable({})", self.source.name)
    }
}

#[async_trait]
impl TableProvider for StateTable {
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
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let found = lookup_of(filters, &self.source);
        let lookup = if self.ranges || found.is_keys() { found } else { Lookup::all(&key_of(&self.source)) };
        let wanted = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema: SchemaRef = Arc::new(self.schema.project(&wanted)?);
        Ok(Arc::new(StateRead {
            name: self.source.name.to_string(),
            windowed: self.source.window.is_some(),
            view: self.view.clone(),
            lookup,
            wanted,
            limit,
            properties: properties(schema),
            metrics: ExecutionPlanMetricsSet::new(),
        }))
    }
}

/// Facts of a leaf with rows of one partition, in no order.
pub(super) fn properties(schema: SchemaRef) -> Arc<PlanProperties> {
    let (one, bounded) = (Partitioning::UnknownPartitioning(1), Boundedness::Bounded);
    Arc::new(PlanProperties::new(EquivalenceProperties::new(schema), one, EmissionType::Incremental, bounded))
}

/// One read of a table.
struct StateRead {
    name: String,
    windowed: bool,
    view: MaterializedView,
    lookup: Lookup,
    /// columns, by index in the table's
    wanted: Vec<usize>,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl fmt::Debug for StateRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateRead({})", self.name)
    }
}

impl DisplayAs for StateRead {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateRead: {} {}", self.name, self.lookup)
    }
}

impl ExecutionPlan for StateRead {
    fn name(&self) -> &str {
        "StateRead"
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

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let pages = Pages {
            scan: self.view.scan(&self.lookup).map_err(external)?,
            schema: self.schema(),
            wanted: self.wanted.clone(),
            windowed: self.windowed,
            left: self.limit.unwrap_or(usize::MAX),
            visited: MetricBuilder::new(&self.metrics).counter(VISITED, partition),
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), futures::stream::iter(pages))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The batches of a read.
struct Pages {
    scan: StateScan,
    schema: SchemaRef,
    wanted: Vec<usize>,
    windowed: bool,
    left: usize,
    visited: Count,
}

impl Pages {
    fn page(&mut self) -> DfResult<Option<RecordBatch>> {
        let before = self.scan.visited();
        let rows = self.scan.next_rows().map_err(external)?;
        self.visited.add(self.scan.visited() - before);
        let Some(rows) = rows else { return Ok(None) };
        let columns = self.wanted.iter().map(|&i| self.column(&rows, i)).collect::<DfResult<_>>()?;
        let batch = record_batch(&self.schema, columns, rows.len())?;
        let take = batch.num_rows().min(self.left);
        self.left -= take;
        Ok(Some(batch.slice(0, take)))
    }

    /// Columns of the state, then window bounds, then the row time.
    fn column(&self, rows: &ChangeBatch, index: usize) -> DfResult<ArrayRef> {
        if let Some(column) = rows.columns.get(index) {
            return Ok(column.clone());
        }
        let values = match (self.windowed, index - rows.columns.len()) {
            (true, at @ (0 | 1)) => {
                let bounds = rows.meta.window.as_ref();
                let bounds = bounds.ok_or_else(|| DataFusionError::Internal("rows lack their window".into()))?;
                if at == 0 { bounds.start.clone() } else { bounds.end.clone() }
            }
            _ => rows.meta.rowtime.clone(),
        };
        Ok(Arc::new(Int64Array::new(values, None)))
    }
}

impl Iterator for Pages {
    type Item = DfResult<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.page().transpose()
    }
}

/// An error of ours on its way through DataFusion.
pub(super) fn external(error: impl Into<Diagnostic>) -> DataFusionError {
    DataFusionError::External(Box::new(error.into()))
}
