//! The operators of a task, wired: a step goes in at the inputs and comes out as records.
//!
//! Reads no log and commits nothing. What is to be done stands on an agenda, a stack: batches run depth-first down chains of one-input nodes,
//! page by page; a node of several inputs waits, because it merges its inputs by `seq`, but only for rows that may still come before those
//! it has. Between pages a commit may fall; then the agenda goes into the task's cursor. The subtle thing: of what an operator holds back
//! (coalescing) nothing may wait behind a commit, so a flush between pages puts it on the agenda, above what comes after it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use xxhash_rust::xxh3::xxh3_64;

use crate::operator::{self, Operator, OperatorError, Progress, Rest, Step, StepContext};
use crate::plan::topology::{InputSpec, NodeSpec, OperatorSpec, Port, SubTopology, Topology};
use crate::state::{KeyedTable, Store};
use crate::topic::TopicPartition;
use crate::types::{ChangeBatch, TopicName};

use super::cursor::{self, Item};
use super::error::TaskError;
use super::output::Outputs;
use super::processing_log::Lost;
use super::repartition::{Dropping, RepartitionSink};
use super::rows;
use super::sink::SinkNode;

const NAME: &str = "graph";
/// The only key of a cursor's store.
const CURSOR_KEY: &[u8] = b"agenda";
/// Kinds of a cursor's items: rows to be delivered, a node that goes on, rows that wait.
const DELIVER: u8 = 0;
const RESUME: u8 = 1;
const WAIT: u8 = 2;
/// A node that is to close its windows.
const CLOSE: u8 = 3;

/// What a step reads and writes beside its rows.
#[derive(Default)]
pub(super) struct StepEnv {
    /// the operators' side
    pub ctx: StepContext,
    /// records made
    pub out: Outputs,
    /// losses, with their places
    pub lost: Vec<Lost>,
    /// order of arrival of the step's rows by `seq`, in tests
    pub arrivals: Option<Vec<i64>>,
    /// rows that left operators in this step
    pub rows_out: usize,
}

enum Kind {
    Operator(Box<dyn Operator>),
    Repartition(Box<RepartitionSink>),
    Sink(Box<SinkNode>),
    Client,
}

struct Node {
    kind: Kind,
    targets: Vec<Target>,
    side_targets: Vec<Target>,
    /// ports of nodes of several inputs that its rows may come to
    reaches: Vec<Target>,
    /// rows that wait for a node of several inputs, by port
    waiting: Vec<Vec<ChangeBatch>>,
    /// the step's name in the processing log
    step: Arc<str>,
    /// the only input partition its rows come from, if it is one
    from: Option<TopicPartition>,
}

/// Something to be done.
#[allow(clippy::large_enum_variant, reason = "nearly all work is rows, and a box would be an allocation a batch")]
enum Work {
    /// rows for a port
    Deliver(Target, ChangeBatch),
    /// a node goes on with its step; its next rows have this `seq` or a higher one
    Resume(usize, u32),
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Target {
    node: usize,
    port: usize,
}

/// The nodes of one task.
pub(super) struct Graph {
    nodes: Vec<Node>,
    inputs: Vec<Vec<Target>>,
    spare: Vec<ChangeBatch>,
    /// the last is the next
    agenda: Vec<Work>,
    /// nodes that are to close their windows when the agenda is done, the last first
    closing: Vec<usize>,
    /// the agenda as of the last commit; `None`: no node goes on between commits
    cursor: Option<KeyedTable>,
    fingerprint: u64,
}

impl Graph {
    /// The nodes of sub-topology `sub` for the task of `partition`; `partitions_of` tells how many partitions a sink topic has.
    ///
    /// # Errors
    /// If an operator or an encoder cannot be made.
    pub fn new(
        topology: &Topology,
        sub: usize,
        partition: i32,
        limits: &Arc<crate::function::FunctionLimits>,
        partitions_of: &dyn Fn(&TopicName) -> Result<i32, TaskError>,
    ) -> Result<Self, TaskError> {
        let spec = &topology.subs[sub];
        let mut nodes = Vec::with_capacity(spec.nodes.len());
        for (index, node) in spec.nodes.iter().enumerate() {
            let kind = match &node.op {
                OperatorSpec::Repartition { topic, drop_null_keys, drop_absent } => {
                    let dropping = Dropping { null_keys: *drop_null_keys, absent: *drop_absent };
                    let sink = RepartitionSink::new(&topology.internal_topics[*topic], dropping, partition)?;
                    Kind::Repartition(Box::new(sink))
                }
                OperatorSpec::Answer { topic, partition: column } => {
                    let dropping = Dropping { null_keys: false, absent: false };
                    let sink = RepartitionSink::new(&topology.internal_topics[*topic], dropping, partition)?;
                    Kind::Repartition(Box::new(sink.by_column(*column)))
                }
                OperatorSpec::Sink(sink) => {
                    Kind::Sink(Box::new(SinkNode::new(sink, partitions_of(&sink.topic)?, partition)?))
                }
                OperatorSpec::Client => Kind::Client,
                _ => Kind::Operator(operator::build(node, &input_schemas(spec, node), limits)?),
            };
            nodes.push(Node {
                kind,
                targets: targets(spec, Port::Node(index)),
                side_targets: targets(spec, Port::Side(index)),
                reaches: Vec::new(),
                waiting: node.inputs.iter().map(|_| Vec::new()).collect(),
                step: step_name(&node.op).into(),
                from: origin(topology, spec, node, partition),
            });
        }
        let inputs = (0..spec.inputs.len()).map(|i| targets(spec, Port::Input(i))).collect();
        for node in (0..nodes.len()).rev() {
            nodes[node].reaches = reaches(&nodes, &nodes[node].targets);
        }
        let (spare, agenda, closing) = (Vec::new(), Vec::new(), Vec::new());
        let mut graph = Self { nodes, inputs, spare, agenda, closing, cursor: None, fingerprint: 0 };
        graph.fingerprint = fingerprint(spec);
        graph.cursor = graph.cursor_name(spec).map(KeyedTable::new);
        Ok(graph)
    }

    /// The name of the cursor's store: after the first store, or the table functions, since only these nodes page.
    fn cursor_name(&mut self, spec: &SubTopology) -> Option<String> {
        let store = self.stores().next().map(|(_, store)| store.name().to_owned());
        let explodes = spec.nodes.iter().any(|node| matches!(node.op, OperatorSpec::FlatMap { .. }));
        store.or_else(|| explodes.then(|| "FlatMap".to_owned())).map(|name| format!("{name}-Cursor"))
    }

    /// Takes a step up; [`Self::page`] runs it. Whatever was taken up before must be through.
    pub fn start(&mut self, step: Step) {
        debug_assert!(self.agenda.is_empty(), "one step at a time");
        for (input, batch) in step.into_iter().enumerate() {
            if let Some(batch) = batch {
                let targets = std::mem::take(&mut self.inputs[input]);
                self.plan(&targets, std::iter::once(batch));
                self.inputs[input] = targets;
            }
        }
    }

    /// Takes up a step that closes all windows which wait for stream time, in place of one with rows; false if there is none. A node's
    /// closing comes after all rows that the nodes before it gave for theirs.
    ///
    /// # Errors
    /// The task must stop.
    pub fn close_windows(&mut self) -> Result<bool, TaskError> {
        debug_assert!(!self.is_open(), "one step at a time");
        let mut any = false;
        for node in &mut self.nodes {
            if let Kind::Operator(op) = &mut node.kind {
                any |= op.waits_for_time()?;
            }
        }
        if any {
            let is_operator = |node: &usize| matches!(self.nodes[*node].kind, Kind::Operator(_));
            self.closing = (0..self.nodes.len()).rev().filter(is_operator).collect();
        }
        Ok(any)
    }

    /// True while a step is not through.
    pub fn is_open(&self) -> bool {
        !self.agenda.is_empty()
            || !self.closing.is_empty()
            || self.nodes.iter().any(|node| node.waiting.iter().any(|w| !w.is_empty()))
    }

    /// True if a commit can fall here.
    ///
    /// # Errors
    /// The task must stop.
    pub fn can_commit(&self) -> Result<bool, TaskError> {
        for work in &self.agenda {
            if let Work::Resume(node, _) = work
                && self.operator(*node).rest()?.is_none()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs the step on to the next end of a page ([`Progress::More`]), or to its own end.
    ///
    /// # Errors
    /// The task must stop.
    pub fn page(&mut self, env: &mut StepEnv) -> Result<Progress, TaskError> {
        loop {
            match self.agenda.pop() {
                Some(Work::Deliver(target, batch)) => self.deliver(target, batch, env)?,
                Some(Work::Resume(node, seq)) => self.resume(node, seq, env)?,
                None => {
                    match (0..self.nodes.len()).find(|&node| self.nodes[node].waiting.iter().any(|w| !w.is_empty())) {
                        Some(node) => {
                            let step = self.nodes[node].waiting.iter_mut().map(|w| rows::join(std::mem::take(w)));
                            let step = step.collect::<Result<Step, _>>()?;
                            self.run_node(node, step, env)?;
                        }
                        None => match self.closing.pop() {
                            Some(node) => self.close_node(node, env)?,
                            None => return Ok(Progress::Done),
                        },
                    }
                }
            }
            if let Some(Work::Resume(..)) = self.agenda.last() {
                // what waits may be more than a page by now, and need not wait any longer
                match self.settled(env.ctx.page_rows)? {
                    Some((node, step)) => self.run_node(node, step, env)?,
                    None => return Ok(Progress::More),
                }
            }
        }
    }

    /// Gives out what operators hold back; afterwards all of a task's state is in its stores, and what is open in [`Self::save`].
    ///
    /// # Errors
    /// The task must stop.
    pub fn flush(&mut self, env: &mut StepEnv) -> Result<(), TaskError> {
        let between_pages = self.is_open();
        for node in 0..self.nodes.len() {
            while let Kind::Operator(op) = &mut self.nodes[node].kind {
                let mut out = std::mem::take(&mut self.spare);
                let progress = op.flush(&mut env.ctx, &mut out)?;
                self.note_losses(node, env);
                let at = self.above_all_before(node);
                let above = self.agenda.split_off(at);
                let targets = std::mem::take(&mut self.nodes[node].targets);
                self.plan(&targets, out.drain(..));
                self.nodes[node].targets = targets;
                self.agenda.extend(above);
                self.spare = out;
                if between_pages {
                    while let Some(Work::Deliver(target, batch)) =
                        self.agenda.pop_if(|w| matches!(w, Work::Deliver(..)))
                    {
                        self.deliver(target, batch, env)?;
                    }
                } else {
                    while self.page(env)? == Progress::More {}
                }
                if progress == Progress::Done {
                    break;
                }
            }
        }
        if self.can_commit()? {
            return Ok(());
        }
        while self.page(env)? == Progress::More {}
        self.flush(env)
    }

    /// Puts what is open into the cursor's store, to be part of the next commit.
    ///
    /// # Errors
    /// If an operator cannot tell what is left of its step: a commit cannot fall here.
    pub fn save(&mut self, arrivals: Option<&[i64]>) -> Result<(), TaskError> {
        let mut items = Vec::new();
        for work in &self.agenda {
            items.push(match work {
                Work::Deliver(target, batch) => item(DELIVER, *target, vec![Some(batch.clone())]),
                Work::Resume(node, seq) => {
                    let rest = self
                        .operator(*node)
                        .rest()?
                        .ok_or_else(|| OperatorError::internal(NAME, "no commit can fall here"))?;
                    Item { kind: RESUME, node: *node as u32, number: *seq, within: rest.within, rows: rest.rows }
                }
            });
        }
        for (node, port) in
            self.nodes.iter().enumerate().flat_map(|(n, node)| (0..node.waiting.len()).map(move |p| (n, p)))
        {
            for batch in &self.nodes[node].waiting[port] {
                items.push(item(WAIT, Target { node, port }, vec![Some(batch.clone())]));
            }
        }
        items.extend(self.closing.iter().map(|&node| item(CLOSE, Target { node, port: 0 }, Vec::new())));
        let Some(cursor) = &mut self.cursor else {
            return match items.is_empty() {
                true => Ok(()),
                false => Err(OperatorError::internal(NAME, "a graph without cursor is open").into()),
            };
        };
        if items.is_empty() {
            cursor.replace(CURSOR_KEY, None)?;
        } else {
            cursor.put(CURSOR_KEY, &cursor::encode(self.fingerprint, arrivals, &items)?);
        }
        Ok(())
    }

    /// Takes up what was open at the commit that the stores are restored to.
    ///
    /// # Errors
    /// If the cursor cannot be read, or is not of this graph.
    pub fn reopen(&mut self, env: &mut StepEnv) -> Result<(), TaskError> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        let Some(row) = cursor.get(CURSOR_KEY)? else { return Ok(()) };
        let (arrivals, items) = cursor::decode(cursor.row(row), self.fingerprint)?;
        env.arrivals = arrivals;
        for Item { kind, node, number, within, rows } in items {
            let target = Target { node: node as usize, port: number as usize };
            if kind == RESUME {
                if let Kind::Operator(op) = &mut self.nodes[target.node].kind {
                    op.reopen(Rest { rows, within }, &mut env.ctx)?;
                }
                self.note_losses(target.node, env);
                self.agenda.push(Work::Resume(target.node, number));
                continue;
            }
            if kind == CLOSE {
                self.closing.push(target.node);
                continue;
            }
            for batch in rows.into_iter().flatten() {
                match kind {
                    DELIVER => self.agenda.push(Work::Deliver(target, batch)),
                    _ => self.nodes[target.node].waiting[target.port].push(batch),
                }
            }
        }
        Ok(())
    }

    /// All stores with their nodes, always in the same order; the last one may be the cursor, which is of no node.
    pub fn stores(&mut self) -> impl Iterator<Item = (usize, &mut dyn Store)> {
        let cursor = self.cursor.iter_mut().map(|cursor| cursor as &mut dyn Store);
        let (count, nodes) = (self.nodes.len(), self.nodes.iter_mut().enumerate());
        let of_nodes = nodes.flat_map(|(index, node)| {
            let stores = match &mut node.kind {
                Kind::Operator(op) => op.stores(),
                _ => Vec::new(),
            };
            stores.into_iter().map(move |store| (index, store))
        });
        of_nodes.chain(cursor.map(move |store| (count, store)))
    }

    fn operator(&self, node: usize) -> &dyn Operator {
        match &self.nodes[node].kind {
            Kind::Operator(op) => op.as_ref(),
            _ => unreachable!("only operators go on with a step"),
        }
    }

    /// Puts batches on the agenda, for these targets, to be delivered in their order.
    fn plan(&mut self, targets: &[Target], batches: impl Iterator<Item = ChangeBatch>) {
        let from = self.agenda.len();
        for batch in batches.filter(|batch| !batch.is_empty()) {
            let Some((last, others)) = targets.split_last() else { continue };
            self.agenda.extend(others.iter().map(|target| Work::Deliver(*target, batch.clone())));
            self.agenda.push(Work::Deliver(*last, batch));
        }
        self.agenda[from..].reverse();
    }

    fn deliver(&mut self, target: Target, batch: ChangeBatch, env: &mut StepEnv) -> Result<(), TaskError> {
        if self.nodes[target.node].waiting.len() > 1 {
            self.nodes[target.node].waiting[target.port].push(batch);
            return Ok(());
        }
        self.run_node(target.node, vec![Some(batch)], env)
    }

    fn run_node(&mut self, node: usize, step: Step, env: &mut StepEnv) -> Result<(), TaskError> {
        match &mut self.nodes[node].kind {
            Kind::Operator(op) => {
                let seq = step.iter().flatten().filter_map(|batch| batch.meta.seq.first().copied()).min().unwrap_or(0);
                let mut out = std::mem::take(&mut self.spare);
                let progress = op.process(step, &mut env.ctx, &mut out)?;
                self.emit(node, progress, seq, out, env);
                return Ok(());
            }
            Kind::Repartition(sink) => {
                for batch in step.into_iter().flatten() {
                    env.rows_out += batch.len();
                    sink.write(batch, env.arrivals.as_deref(), &mut env.ctx, &mut env.out)?;
                }
            }
            Kind::Sink(sink) => {
                for batch in step.into_iter().flatten() {
                    env.rows_out += batch.len();
                    sink.write(batch, &mut env.ctx, &mut env.out)?;
                }
            }
            Kind::Client => {
                for batch in step.into_iter().flatten() {
                    env.rows_out += batch.len();
                    env.out.push_client(batch);
                }
            }
        }
        self.note_losses(node, env);
        Ok(())
    }

    fn resume(&mut self, node: usize, seq: u32, env: &mut StepEnv) -> Result<(), TaskError> {
        let mut out = std::mem::take(&mut self.spare);
        let Kind::Operator(op) = &mut self.nodes[node].kind else { unreachable!("only operators go on with a step") };
        let progress = op.resume(&mut env.ctx, &mut out)?;
        self.emit(node, progress, seq, out, env);
        Ok(())
    }

    fn close_node(&mut self, node: usize, env: &mut StepEnv) -> Result<(), TaskError> {
        let Kind::Operator(op) = &mut self.nodes[node].kind else { return Ok(()) };
        let mut out = std::mem::take(&mut self.spare);
        let progress = op.close_windows(&mut env.ctx, &mut out)?;
        self.emit(node, progress, 0, out, env);
        Ok(())
    }

    /// Puts what a node gave out on the agenda, and the node itself below it if it is to go on.
    fn emit(&mut self, node: usize, progress: Progress, seq: u32, mut out: Vec<ChangeBatch>, env: &mut StepEnv) {
        self.note_losses(node, env);
        if progress == Progress::More {
            let last = out.last().and_then(|batch| batch.meta.seq.last().copied());
            self.agenda.push(Work::Resume(node, last.map_or(seq, |last| last.max(seq))));
        }
        let targets = std::mem::take(&mut self.nodes[node].targets);
        self.plan(&targets, out.drain(..));
        self.nodes[node].targets = targets;
        self.spare = out;
        if !self.nodes[node].side_targets.is_empty()
            && let Kind::Operator(op) = &mut self.nodes[node].kind
        {
            let side = op.side();
            let targets = std::mem::take(&mut self.nodes[node].side_targets);
            self.plan(&targets, side.into_iter());
            self.nodes[node].side_targets = targets;
        }
    }

    /// The place on the agenda above the node's own work and all whose rows come to it.
    fn above_all_before(&self, node: usize) -> usize {
        let before = |work: &Work| match work {
            Work::Resume(at, _) => *at == node || self.leads_to(&self.nodes[*at].targets, node),
            Work::Deliver(target, _) => self.leads_to(std::slice::from_ref(target), node),
        };
        self.agenda.iter().rposition(before).map_or(0, |at| at + 1)
    }

    fn leads_to(&self, targets: &[Target], node: usize) -> bool {
        targets.iter().any(|target| target.node == node || self.leads_to(&self.nodes[target.node].targets, node))
    }

    /// A node that is not at work, and rows that wait for it with nothing to wait for any more, if at least so many wait.
    ///
    /// A row may go when no row can come any more that must go before it: with a lower `seq`, or with the same one on a lower port.
    fn settled(&mut self, at_least: usize) -> Result<Option<(usize, Step)>, TaskError> {
        for node in 0..self.nodes.len() {
            let waiting: usize = self.nodes[node].waiting.iter().flatten().map(ChangeBatch::len).sum();
            let at_work = |work: &Work| matches!(work, Work::Resume(at, _) if *at == node);
            if waiting < at_least.max(1) || self.agenda.iter().any(at_work) {
                continue;
            }
            let still_to_come = self.still_to_come(node);
            let first = |ports: &[u64]| ports.iter().copied().min().unwrap_or(u64::MAX);
            let take = |(port, pieces): (usize, &mut Vec<ChangeBatch>)| {
                let (before, after) = (first(&still_to_come[..port]), first(&still_to_come[port..]));
                rows::take_while(pieces, |seq| u64::from(seq) < before && u64::from(seq) <= after)
            };
            let step = self.nodes[node].waiting.iter_mut().enumerate().map(take).collect::<Result<Step, _>>()?;
            if step.iter().any(Option::is_some) {
                return Ok(Some((node, step)));
            }
        }
        Ok(None)
    }

    /// For each port of a node the lowest `seq` that a row may have which has not come yet; `u64::MAX`: none will.
    fn still_to_come(&self, node: usize) -> Vec<u64> {
        let mut lowest = vec![u64::MAX; self.nodes[node].waiting.len()];
        let mut note = |targets: &[Target], seq: u32| {
            for target in targets.iter().filter(|target| target.node == node) {
                lowest[target.port] = lowest[target.port].min(u64::from(seq));
            }
        };
        for work in &self.agenda {
            match work {
                Work::Resume(at, seq) => note(&self.nodes[*at].reaches, *seq),
                Work::Deliver(target, batch) => {
                    let seq = batch.meta.seq.iter().copied().min().unwrap_or(0);
                    note(&[*target], seq);
                    note(&self.nodes[target.node].reaches, seq);
                }
            }
        }
        for other in self.nodes.iter() {
            let first = other.waiting.iter().flatten().flat_map(|batch| batch.meta.seq.iter().copied()).min();
            first.into_iter().for_each(|seq| note(&other.reaches, seq));
        }
        lowest
    }

    fn note_losses(&self, node: usize, env: &mut StepEnv) {
        let Node { step, from, .. } = &self.nodes[node];
        let losses = env.ctx.losses.drain(..);
        env.lost.extend(losses.map(|loss| Lost { step: step.clone(), from: from.clone(), loss }));
    }
}

fn item(kind: u8, target: Target, rows: Step) -> Item {
    Item { kind, node: target.node as u32, number: target.port as u32, within: Vec::new(), rows }
}

/// Ports of nodes of several inputs that rows for these targets may come to; the nodes below must know theirs already.
fn reaches(nodes: &[Node], targets: &[Target]) -> Vec<Target> {
    let mut found = Vec::new();
    for target in targets {
        let own = (nodes[target.node].waiting.len() > 1).then_some(target);
        for reached in own.into_iter().chain(&nodes[target.node].reaches) {
            if !found.contains(reached) {
                found.push(*reached);
            }
        }
    }
    found
}

/// Tells whether a cursor is of a graph: of its nodes, how they hang together, and their columns.
fn fingerprint(spec: &SubTopology) -> u64 {
    let node = |node: &NodeSpec| {
        let types: Vec<_> = node.schema.fields().iter().map(|field| field.data_type()).collect();
        format!("{} {:?} {types:?}\n", step_name(&node.op), node.inputs)
    };
    xxh3_64(spec.nodes.iter().map(node).collect::<String>().as_bytes())
}

/// The schemas of a node's input ports.
pub(super) fn input_schemas(spec: &SubTopology, node: &NodeSpec) -> Vec<SchemaRef> {
    let of = |port: &Port| match port {
        Port::Input(i) => match &spec.inputs[*i] {
            InputSpec::Source(source) => source.schema.clone(),
            InputSpec::Repartition { schema, .. } => schema.clone(),
        },
        Port::Node(i) => spec.nodes[*i].schema.clone(),
        Port::Side(i) => match &spec.nodes[*i].op {
            OperatorSpec::ForeignKeyLeft(join) => join.subscription_schema(),
            _ => spec.nodes[*i].schema.clone(),
        },
    };
    node.inputs.iter().map(of).collect()
}

/// The topic of an input.
pub(super) fn input_topic(topology: &Topology, input: &InputSpec) -> TopicName {
    match input {
        InputSpec::Source(source) => source.topic.clone(),
        InputSpec::Repartition { topic, .. } => topology.internal_topics[*topic].name.clone(),
    }
}

fn targets(spec: &SubTopology, from: Port) -> Vec<Target> {
    let ports = spec.nodes.iter().enumerate().flat_map(|(node, n)| {
        n.inputs.iter().enumerate().filter(move |(_, p)| **p == from).map(move |(port, _)| Target { node, port })
    });
    ports.collect()
}

fn origin(topology: &Topology, spec: &SubTopology, node: &NodeSpec, partition: i32) -> Option<TopicPartition> {
    fn walk(spec: &SubTopology, node: &NodeSpec, found: &mut Vec<usize>) {
        for port in &node.inputs {
            match port {
                Port::Input(i) => found.push(*i),
                Port::Node(i) | Port::Side(i) => walk(spec, &spec.nodes[*i], found),
            }
        }
    }
    let mut found = Vec::new();
    walk(spec, node, &mut found);
    found.dedup();
    match found.as_slice() {
        [only] => Some(TopicPartition::new(input_topic(topology, &spec.inputs[*only]), partition)),
        _ => None,
    }
}

fn step_name(op: &OperatorSpec) -> &str {
    match op {
        OperatorSpec::Filter { .. } => "WhereFilter",
        OperatorSpec::Project { .. } => "Project",
        OperatorSpec::Regroup { .. } => "Aggregate.Prepare",
        OperatorSpec::FlatMap { .. } => "FlatMap",
        OperatorSpec::Upsert { .. } => "KsqlTopic",
        OperatorSpec::Repartition { .. } => "PartitionBy",
        OperatorSpec::Aggregate(_) => "Aggregate",
        OperatorSpec::StreamStreamJoin(_)
        | OperatorSpec::StreamTableJoin(_)
        | OperatorSpec::TableTableJoin(_)
        | OperatorSpec::ForeignKeyLeft(_)
        | OperatorSpec::ForeignKeyRight(_) => "Join",
        OperatorSpec::Answer { .. } => "Join.Answer",
        OperatorSpec::Sink(sink) => sink.source.as_str(),
        OperatorSpec::Client => "Client",
    }
}
