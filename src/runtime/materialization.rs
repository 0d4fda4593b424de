//! What pull queries read: the committed state of a query, as of one moment.
//!
//! Never touches a worker's memory: each partition is an overlay of committed changelog blocks over the keyed store behind, and a view
//! of it does not change. The subtle thing: the operators after the store (HAVING, the projection) run again on every read.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::scalar::ScalarValue;
use parking_lot::{Mutex, RwLock};

use crate::function::FunctionLimits;
use crate::operator::{self, Operator, Progress, StateReader, StepContext};
use crate::plan::lookup::{Bound, KeyBox, Lookup, Span};
use crate::plan::topology::{NodeSpec, OperatorSpec, SubTopology, Topology};
use crate::state::Overlay;
use crate::state::encoding::{KeyCodec, RESERVED_PREFIX, push_window, split_window};
use crate::state::overlay::View;
use crate::topic::TopicError;
use crate::types::ChangeBatch;

use super::entries::{ByteRange, Elsewhere, Entries, Entry, RemoteEntries};
use super::error::{RuntimeError, TaskError};
use super::graph::input_schemas;

/// Ranges of keys that one read visits; alternatives past it are not told apart.
const MAX_RANGES: usize = 65_536;

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
    /// copies of stores whose tasks are elsewhere, and how many changelog records each lacks, by partition
    copies: Vec<RwLock<Option<(Arc<Overlay>, u64)>>>,
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
        let copies = (0..sub.partitions).map(|_| RwLock::default()).collect();
        Ok(Self { sub: spec.sub, node: spec.node, plan: Arc::new(plan), partitions, copies })
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

    /// The overlay that readers see of the partition's store number `at`, if there is one.
    pub fn published(&self, partition: i32, at: usize) -> Option<Arc<Overlay>> {
        self.partitions[partition as usize].read().get(at).cloned()
    }

    /// Makes the copy of a partition's store readable for those who take what lags.
    pub fn publish_copy(&self, partition: i32, copy: Option<(Arc<Overlay>, u64)>) {
        *self.copies[partition as usize].write() = copy;
    }

    /// How many changelog records the copy of a partition lacks; `None` if there is none here.
    pub fn copy_lag(&self, partition: i32) -> Option<u64> {
        let copy = usize::try_from(partition).ok().and_then(|p| self.copies.get(p))?;
        copy.read().as_ref().map(|(_, lag)| *lag)
    }

    /// What is committed now; `None` while a partition is not restored.
    ///
    /// # Errors
    /// If a changelog block is damaged.
    pub fn view(&self) -> Result<Option<MaterializedView>, TaskError> {
        let (view, missing) = self.view_here()?;
        Ok(missing.is_empty().then_some(view))
    }

    /// What is committed now of the partitions that are here and restored, and which are not.
    ///
    /// # Errors
    /// If a changelog block is damaged.
    pub fn view_here(&self) -> Result<(MaterializedView, Vec<i32>), TaskError> {
        let (mut partitions, mut missing) = (Vec::with_capacity(self.partitions.len()), Vec::new());
        for (partition, stores) in (0..).zip(&self.partitions) {
            // the reader's store is the node's first one
            match stores.read().first().cloned() {
                Some(overlay) => partitions.push(overlay.view()?),
                None => missing.push(partition),
            }
        }
        Ok((MaterializedView { plan: self.plan.clone(), partitions, elsewhere: Vec::new() }, missing))
    }

    /// What is committed now of these partitions, or with `lag` what a copy holds that lacks no more records; `None` if one of them is
    /// not here.
    ///
    /// # Errors
    /// If a changelog block is damaged.
    pub fn view_of(&self, wanted: &[i32], lag: Option<u64>) -> Result<Option<MaterializedView>, TaskError> {
        let mut partitions = Vec::with_capacity(wanted.len());
        for partition in wanted {
            let Some(at) = usize::try_from(*partition).ok().filter(|p| *p < self.partitions.len()) else {
                return Ok(None);
            };
            let own = self.partitions[at].read().first().cloned();
            let copy = || self.copies[at].read().clone().filter(|(_, lacks)| lag.is_some_and(|lag| *lacks <= lag));
            let Some(overlay) = own.or_else(|| copy().map(|(overlay, _)| overlay)) else { return Ok(None) };
            partitions.push(overlay.view()?);
        }
        Ok(Some(MaterializedView { plan: self.plan.clone(), partitions, elsewhere: Vec::new() }))
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

    /// True if keys end in a window.
    fn windowed(&self) -> bool {
        matches!(&self.store.op, OperatorSpec::Aggregate(spec) if spec.window.is_some())
    }

    /// The ranges of encoded keys that a lookup names, ascending and apart; a key's rows (one a window) lie side by side.
    fn ranges(&self, lookup: &Lookup) -> Result<Vec<ByteRange>, TaskError> {
        let mut ranges = Vec::new();
        for one in &lookup.boxes {
            self.box_ranges(one, &mut ranges)?;
        }
        ranges.sort_unstable();
        let mut apart: Vec<ByteRange> = Vec::with_capacity(ranges.len());
        for (from, to) in ranges.into_iter().filter(|(from, to)| from < to) {
            match apart.last_mut() {
                // no row may come twice
                Some((_, last)) if from <= *last => *last = std::mem::take(last).max(to),
                _ => apart.push((from, to)),
            }
        }
        Ok(apart)
    }

    fn box_ranges(&self, one: &KeyBox, out: &mut Vec<ByteRange>) -> Result<(), TaskError> {
        let mut prefixes = vec![Vec::new()];
        for (column, data_type) in one.columns.iter().zip(self.keys.types()) {
            let codec = KeyCodec::new(std::slice::from_ref(data_type))?;
            match column {
                Bound::OneOf(values) if prefixes.len().saturating_mul(values.len()) <= MAX_RANGES => {
                    let values = values.iter().map(|v| cell(&codec, v)).collect::<Result<Vec<_>, _>>()?;
                    prefixes =
                        prefixes.iter().flat_map(|p| values.iter().map(|v| [p.as_slice(), v].concat())).collect();
                }
                Bound::Within(span) => {
                    let (from, to) = span_bytes(&codec, span)?;
                    out.extend(prefixes.into_iter().map(|p| {
                        let end = to.as_ref().map_or_else(|| after_rows(&p), |to| [p.as_slice(), to].concat());
                        ([p.as_slice(), &from].concat(), end)
                    }));
                    return Ok(());
                }
                _ => {
                    out.extend(prefixes.into_iter().map(|p| {
                        let end = after_rows(&p);
                        (p, end)
                    }));
                    return Ok(());
                }
            }
        }
        let (first, last) = if self.windowed() { whole(&one.start) } else { (None, None) };
        out.extend(prefixes.into_iter().map(|key| {
            let start = |ms: i64| [key.as_slice(), &window_start(ms)].concat();
            let from = first.map_or_else(|| key.clone(), start);
            (from, last.and_then(|ms| after(&start(ms))).unwrap_or_else(|| after_rows(&key)))
        }));
        Ok(())
    }
}

/// The encoding of one key column.
fn cell(codec: &KeyCodec, value: &ScalarValue) -> Result<Vec<u8>, TaskError> {
    let array = value.to_array().map_err(|e| TopicError::Invalid(e.to_string()))?;
    Ok(codec.encode(&[array], 1)?.row(0).to_vec())
}

/// The bytes `[from, to)` of one key column's range; `None`: up to the column's last.
fn span_bytes(codec: &KeyCodec, span: &Span<ScalarValue>) -> Result<(Vec<u8>, Option<Vec<u8>>), TaskError> {
    let from = match &span.from {
        Some((value, inclusive)) => match text_prefix(codec, value)? {
            Some(prefix) => prefix,
            None if *inclusive => cell(codec, value)?,
            None => after_rows(&cell(codec, value)?),
        },
        None => Vec::new(),
    };
    let to = match &span.to {
        Some((value, inclusive)) => Some(match text_prefix(codec, value)? {
            Some(prefix) => after_rows(&prefix),
            None if *inclusive => after_rows(&cell(codec, value)?),
            None => cell(codec, value)?,
        }),
        None => None,
    };
    Ok((from, to))
}

/// Text compares by UTF-16 code units and its bytes as UTF-8, which differ from U+E000 on: a bound is then known up to there only.
fn text_prefix(codec: &KeyCodec, value: &ScalarValue) -> Result<Option<Vec<u8>>, TaskError> {
    let ScalarValue::Utf8(Some(text)) = value else { return Ok(None) };
    let Some(at) = text.find(|c| c >= '\u{e000}') else { return Ok(None) };
    let mut bytes = cell(codec, &ScalarValue::Utf8(Some(text[..at].to_owned())))?;
    // without the two bytes that end a text
    bytes.truncate(bytes.len() - 2);
    Ok(Some(bytes))
}

/// First and last of the whole numbers in a range.
fn whole(span: &Span<i64>) -> (Option<i64>, Option<i64>) {
    let first = span.from.map(|(ms, inclusive)| if inclusive { ms } else { ms.saturating_add(1) });
    let last = span.to.map(|(ms, inclusive)| if inclusive { ms } else { ms.saturating_sub(1) });
    (first, last)
}

/// What follows the key columns of a window that starts then.
fn window_start(ms: i64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16);
    push_window(&mut bytes, ms, 0);
    bytes.truncate(8);
    bytes
}

/// The end of the rows whose keys begin with `prefix`; what is not a row stands behind all rows.
fn after_rows(prefix: &[u8]) -> Vec<u8> {
    after(prefix).unwrap_or_else(|| vec![RESERVED_PREFIX])
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
    /// the stores of the partitions that are here
    partitions: Vec<View>,
    /// those that other nodes have
    elsewhere: Vec<Elsewhere>,
}

impl MaterializedView {
    /// Schema of the rows: that of the last operator before the sink.
    pub fn schema(&self) -> SchemaRef {
        self.plan.suffix.last().map_or(&self.plan.store, |(node, _)| node).schema.clone()
    }

    /// The same with what other nodes have of it.
    #[must_use]
    pub fn with_elsewhere(mut self, elsewhere: Vec<Elsewhere>) -> Self {
        self.elsewhere = elsewhere;
        self
    }

    /// Reads the rows of a lookup, partition by partition, in key order within one; those of other nodes last.
    ///
    /// # Errors
    /// If the operators after the store cannot be made, or the lookup does not fit the key.
    pub fn scan(&self, lookup: &Lookup) -> Result<StateScan, RuntimeError> {
        Ok(self.new_scan(lookup)?)
    }

    fn new_scan(&self, lookup: &Lookup) -> Result<StateScan, TaskError> {
        let idle = self.plan.idle.lock().pop();
        let suffix = match idle {
            Some(suffix) => suffix,
            None => self.plan.new_suffix()?,
        };
        let window = self.plan.windowed().then(|| lookup.window()).filter(|(s, e)| !s.is_all() || !e.is_all());
        let entries = Entries::new(self.plan.reader()?, self.partitions.clone(), self.plan.ranges(lookup)?);
        Ok(StateScan {
            plan: self.plan.clone(),
            suffix,
            entries,
            window,
            one_key: lookup.is_one_key(),
            elsewhere: self.elsewhere.iter().cloned().collect(),
            reading: None,
            ready: VecDeque::new(),
        })
    }

    /// The entries of ranges of encoded keys, for the reader of another node.
    ///
    /// # Errors
    /// If the store's reader cannot be made.
    pub fn entries(&self, ranges: Vec<ByteRange>) -> Result<Entries, RuntimeError> {
        Ok(Entries::new(self.plan.reader()?, self.partitions.clone(), ranges))
    }
}

/// A read under way: page by page, so that a reader that has enough stops it.
pub struct StateScan {
    plan: Arc<Plan>,
    suffix: Suffix,
    entries: Entries,
    /// starts and ends of the windows that are wanted
    window: Option<(Span<i64>, Span<i64>)>,
    /// all rows are of one key, so they are all of one partition
    one_key: bool,
    elsewhere: VecDeque<Elsewhere>,
    reading: Option<Box<dyn RemoteEntries>>,
    ready: VecDeque<ChangeBatch>,
}

impl StateScan {
    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// If the log cannot be read, what it holds is damaged, or another node does not answer.
    pub fn next_rows(&mut self) -> Result<Option<ChangeBatch>, RuntimeError> {
        Ok(self.next_batch()?)
    }

    /// Entries of stores that were visited so far.
    pub fn visited(&self) -> usize {
        self.entries.visited
    }

    fn next_batch(&mut self) -> Result<Option<ChangeBatch>, TaskError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            let Some(mut entries) = self.next_entries()? else { return Ok(None) };
            if let Some((start, end)) = &self.window {
                entries.retain(|(key, _)| match split_window(key) {
                    Ok((_, from, to)) => start.contains(&from) && end.contains(&to),
                    // damaged: decoding says so
                    Err(_) => true,
                });
            }
            if let Some(batch) = self.entries.reader.decode(&entries)? {
                self.ready.extend(run_suffix(&mut self.suffix, batch)?);
            }
        }
    }

    /// The next page, from here as long as there is one, then from elsewhere.
    fn next_entries(&mut self) -> Result<Option<Vec<Entry>>, TaskError> {
        if let Some(entries) = self.entries.next_page()? {
            return Ok(Some(entries));
        }
        loop {
            if let Some(reading) = &mut self.reading {
                if let Some(entries) = reading.next_entries()? {
                    self.entries.visited += entries.len();
                    return Ok(Some(entries));
                }
                self.reading = None;
            }
            if self.one_key && self.entries.visited > 0 {
                return Ok(None);
            }
            let Some(next) = self.elsewhere.pop_front() else { return Ok(None) };
            if self.entries.ranges.is_empty() {
                return Ok(None);
            }
            self.reading = Some(next(&self.entries.ranges)?);
        }
    }
}

impl Drop for StateScan {
    fn drop(&mut self) {
        self.plan.idle.lock().push(std::mem::take(&mut self.suffix));
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
