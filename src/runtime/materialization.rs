//! What pull queries read: the committed state of a query, as of one moment.
//!
//! Never touches a worker's memory: each partition is an overlay of committed changelog blocks over the keyed store behind, and a view
//! of it does not change. The subtle thing: the operators after the store (HAVING, the projection) run again on every read.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::function::FunctionLimits;
use crate::operator::{self, Operator, Progress, StateReader, StepContext};
use crate::plan::topology::{NodeSpec, SubTopology, Topology};
use crate::state::Overlay;
use crate::state::encoding::{KeyCodec, RESERVED_PREFIX};
use crate::state::overlay::View;
use crate::topic::{KeyedSnapshot, TopicError};
use crate::types::ChangeBatch;

use super::error::{RuntimeError, TaskError};
use super::graph::input_schemas;

/// Rows that are decoded and run through the suffix at a time.
const READ_ROWS: usize = 4096;

/// Which rows a reader wants.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// those of these keys: one array a key column, one row a key
    Keys(Vec<ArrayRef>),
    /// those whose (only) key column lies between these bounds; arrays of one row
    Range {
        /// lower bound and whether it is part of the range; `None`: from the first
        from: Option<(ArrayRef, bool)>,
        /// upper bound and whether it is part of the range; `None`: to the last
        to: Option<(ArrayRef, bool)>,
    },
    /// all
    All,
}

type Suffix = Vec<Box<dyn Operator>>;

struct Plan {
    /// the node that holds the store
    store: NodeSpec,
    store_inputs: Vec<SchemaRef>,
    /// the nodes after it, with the schemas of their inputs
    suffix: Vec<(NodeSpec, Vec<SchemaRef>)>,
    keys: KeyCodec,
    limits: Arc<FunctionLimits>,
    /// suffixes that no reader uses now
    idle: Mutex<Vec<Suffix>>,
}

/// The readable state of a query.
pub(super) struct Materialization {
    sub: usize,
    node: usize,
    plan: Arc<Plan>,
    /// stores of the node, by partition; empty before a partition's first restore
    partitions: Vec<RwLock<Vec<Arc<Overlay>>>>,
}

impl Materialization {
    /// The state that the topology's materialization names.
    ///
    /// # Errors
    /// If the topology has none, or its operators cannot be made.
    pub fn new(topology: &Topology, limits: &Arc<FunctionLimits>) -> Result<Self, TaskError> {
        let spec = topology.materialization.as_ref().ok_or_else(|| {
            TaskError::Topic(TopicError::Invalid("the query keeps no state that could be read".to_owned()))
        })?;
        let sub: &SubTopology = &topology.subs[spec.sub];
        let store = sub.nodes[spec.node].clone();
        let key_types: Vec<DataType> =
            store.schema.fields()[..store.key_count].iter().map(|f| f.data_type().clone()).collect();
        let suffix = spec.suffix.iter().map(|&n| (sub.nodes[n].clone(), input_schemas(sub, &sub.nodes[n]))).collect();
        let plan = Plan {
            store_inputs: input_schemas(sub, &store),
            store,
            suffix,
            keys: KeyCodec::new(&key_types)?,
            limits: limits.clone(),
            idle: Mutex::default(),
        };
        // fails now rather than at the first read
        plan.reader()?;
        let suffix = plan.new_suffix()?;
        plan.idle.lock().push(suffix);
        let partitions = (0..sub.partitions).map(|_| RwLock::default()).collect();
        Ok(Self { sub: spec.sub, node: spec.node, plan: Arc::new(plan), partitions })
    }

    /// The sub-topology whose tasks hold the stores.
    pub fn sub(&self) -> usize {
        self.sub
    }

    /// The node that holds them.
    pub fn node(&self) -> usize {
        self.node
    }

    /// Makes a partition's stores readable, in place of those before.
    pub fn publish(&self, partition: i32, overlays: Vec<Arc<Overlay>>) {
        *self.partitions[partition as usize].write() = overlays;
    }

    /// What is committed now; `None` while a partition is not restored.
    ///
    /// # Errors
    /// If a changelog block is damaged.
    pub fn view(&self) -> Result<Option<MaterializedView>, TaskError> {
        let mut partitions = Vec::with_capacity(self.partitions.len());
        for stores in &self.partitions {
            // the reader's store is the node's first one
            let Some(overlay) = stores.read().first().cloned() else { return Ok(None) };
            partitions.push(overlay.view()?);
        }
        Ok(Some(MaterializedView { plan: self.plan.clone(), partitions }))
    }
}

impl Plan {
    fn reader(&self) -> Result<StateReader, TaskError> {
        Ok(operator::reader(&self.store, &self.store_inputs, &self.limits)?)
    }

    fn new_suffix(&self) -> Result<Suffix, TaskError> {
        let operators = self.suffix.iter().map(|(node, inputs)| operator::build(node, inputs, &self.limits));
        Ok(operators.collect::<Result<_, _>>()?)
    }

    /// The encoded keys `[from, to)` of a range.
    fn bounds(
        &self,
        from: Option<&(ArrayRef, bool)>,
        to: Option<&(ArrayRef, bool)>,
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), TaskError> {
        let encode = |value: &ArrayRef| -> Result<Vec<u8>, TaskError> {
            Ok(self.keys.encode(std::slice::from_ref(value), 1)?.row(0).to_vec())
        };
        let from = match from {
            Some((value, true)) => encode(value)?,
            Some((value, false)) => after(&encode(value)?).unwrap_or_else(|| vec![u8::MAX]),
            None => Vec::new(),
        };
        let to = match to {
            Some((value, true)) => after(&encode(value)?),
            Some((value, false)) => Some(encode(value)?),
            None => None,
        };
        // what is not a row stands behind all rows
        Ok((from, to.or_else(|| Some(vec![RESERVED_PREFIX]))))
    }
}

/// The first key after all that begin with `prefix`; `None` if there is none.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if last < u8::MAX {
            next.push(last + 1);
            return Some(next);
        }
    }
    None
}

/// A query's state as of one moment. Later commits do not change it.
#[derive(Clone)]
pub struct MaterializedView {
    plan: Arc<Plan>,
    /// the store of each partition
    partitions: Vec<View>,
}

impl MaterializedView {
    /// Schema of the rows: that of the last operator before the sink.
    pub fn schema(&self) -> SchemaRef {
        self.plan.suffix.last().map_or(&self.plan.store, |(node, _)| node).schema.clone()
    }

    /// All rows of a lookup, partition by partition, in key order within one.
    ///
    /// # Errors
    /// If the log cannot be read, or what it holds is damaged.
    pub fn rows(&self, lookup: &Lookup) -> Result<Vec<ChangeBatch>, RuntimeError> {
        let mut rows = Vec::new();
        self.visit(lookup, &mut |batch| {
            rows.push(batch);
            true
        })?;
        Ok(rows)
    }

    /// Gives the rows of a lookup to `visit`, some thousands at a time, until it says false.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub fn visit(&self, lookup: &Lookup, visit: &mut dyn FnMut(ChangeBatch) -> bool) -> Result<(), RuntimeError> {
        Ok(self.visit_rows(lookup, visit)?)
    }

    fn visit_rows(&self, lookup: &Lookup, visit: &mut dyn FnMut(ChangeBatch) -> bool) -> Result<(), TaskError> {
        let reader = self.plan.reader()?;
        let idle = self.plan.idle.lock().pop();
        let mut suffix = match idle {
            Some(suffix) => suffix,
            None => self.plan.new_suffix()?,
        };
        let ranges = self.ranges(lookup)?;
        for store in &self.partitions {
            let kept_from = reader.kept_from(store)?;
            for (from, to) in &ranges {
                if !read_range((&reader, kept_from), &mut suffix, store, from, to.as_deref(), visit)? {
                    return Ok(());
                }
            }
        }
        self.plan.idle.lock().push(suffix);
        Ok(())
    }

    /// The ranges of encoded keys that hold the rows of a lookup; a key's rows (one a window) lie side by side.
    fn ranges(&self, lookup: &Lookup) -> Result<Vec<(Vec<u8>, Option<Vec<u8>>)>, TaskError> {
        Ok(match lookup {
            Lookup::All => vec![(Vec::new(), Some(vec![RESERVED_PREFIX]))],
            Lookup::Range { from, to } => vec![self.plan.bounds(from.as_ref(), to.as_ref())?],
            Lookup::Keys(columns) => {
                let rows = columns.first().map_or(0, |c| c.len());
                let keys = self.plan.keys.encode(columns, rows)?;
                keys.iter().map(|key| (key.to_vec(), after(key))).collect()
            }
        })
    }
}

/// Reads one range page by page, without windows that are over; false if `visit` has enough.
fn read_range(
    (reader, kept_from): (&StateReader, Option<i64>),
    suffix: &mut Suffix,
    store: &View,
    from: &[u8],
    to: Option<&[u8]>,
    visit: &mut dyn FnMut(ChangeBatch) -> bool,
) -> Result<bool, TaskError> {
    let mut from = from.to_vec();
    loop {
        let mut entries: Vec<(Bytes, Bytes)> = Vec::new();
        store.range(&from, to, &mut |key, row| {
            entries.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(row)));
            entries.len() < READ_ROWS
        })?;
        let full = entries.len() == READ_ROWS;
        if let Some((last, _)) = entries.last() {
            from = [last.as_ref(), &[0]].concat();
        }
        if let Some(bound) = kept_from {
            let kept = entries.iter().map(|(key, _)| reader.is_kept(key, bound)).collect::<Result<Vec<_>, _>>()?;
            let mut kept = kept.into_iter();
            entries.retain(|_| kept.next().unwrap_or(true));
        }
        let rows = reader.decode(&entries)?.map(|batch| run_suffix(suffix, batch)).transpose()?;
        if !rows.into_iter().flatten().all(&mut *visit) {
            return Ok(false);
        }
        if !full {
            return Ok(true);
        }
    }
}

/// Runs rows through the operators after the store; absent rows do not come out.
fn run_suffix(suffix: &mut Suffix, batch: ChangeBatch) -> Result<Vec<ChangeBatch>, TaskError> {
    let mut ctx = StepContext::new();
    let mut batches = vec![batch];
    for operator in suffix {
        let mut out = Vec::new();
        for batch in batches {
            let mut progress = operator.process(vec![Some(batch)], &mut ctx, &mut out)?;
            while progress == Progress::More {
                progress = operator.resume(&mut ctx, &mut out)?;
            }
        }
        operator.flush(&mut ctx, &mut out)?;
        batches = out;
    }
    let present = batches.into_iter().map(|batch| match &batch.present {
        Some(present) => Ok(ChangeBatch { present: None, ..batch.filter(present)? }),
        None => Ok(batch),
    });
    let present: Vec<ChangeBatch> = present.collect::<Result<_, TaskError>>()?;
    Ok(present.into_iter().filter(|batch| !batch.is_empty()).collect())
}
