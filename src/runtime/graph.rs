//! The operators of a task, wired: a step goes in at the inputs and comes out as records.
//!
//! Reads no log and commits nothing. The subtle thing: batches run depth-first down chains of one-input nodes, page by page, but a node of
//! several inputs waits until all above it are through, because it merges its inputs by `seq`.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::operator::{self, Operator, Progress, Step, StepContext};
use crate::plan::topology::{InputSpec, NodeSpec, OperatorSpec, Port, SubTopology, Topology};
use crate::state::Store;
use crate::topic::TopicPartition;
use crate::types::{ChangeBatch, TopicName};

use super::error::TaskError;
use super::output::Outputs;
use super::processing_log::Lost;
use super::repartition::{Dropping, RepartitionSink};
use super::rows;
use super::sink::SinkNode;

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
    /// rows that wait for a node of several inputs, by port
    waiting: Vec<Vec<ChangeBatch>>,
    /// the step's name in the processing log
    step: Arc<str>,
    /// the only input partition its rows come from, if it is one
    from: Option<TopicPartition>,
}

#[derive(Clone, Copy)]
struct Target {
    node: usize,
    port: usize,
}

/// The nodes of one task.
pub(super) struct Graph {
    nodes: Vec<Node>,
    inputs: Vec<Vec<Target>>,
    spare: Vec<Vec<ChangeBatch>>,
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
                OperatorSpec::Sink(sink) => {
                    Kind::Sink(Box::new(SinkNode::new(sink, partitions_of(&sink.topic)?, partition)?))
                }
                OperatorSpec::Client => Kind::Client,
                _ => Kind::Operator(operator::build(node, &input_schemas(spec, node), limits)?),
            };
            nodes.push(Node {
                kind,
                targets: targets(spec, Port::Node(index)),
                waiting: node.inputs.iter().map(|_| Vec::new()).collect(),
                step: step_name(&node.op).into(),
                from: origin(topology, spec, node, partition),
            });
        }
        let inputs = (0..spec.inputs.len()).map(|i| targets(spec, Port::Input(i))).collect();
        Ok(Self { nodes, inputs, spare: Vec::new() })
    }

    /// Runs one step through all nodes.
    ///
    /// # Errors
    /// The task must stop.
    pub fn run(&mut self, step: Step, env: &mut StepEnv) -> Result<(), TaskError> {
        for (input, batch) in step.into_iter().enumerate() {
            if let Some(batch) = batch {
                let targets = std::mem::take(&mut self.inputs[input]);
                let done = self.deliver(&targets, batch, env);
                self.inputs[input] = targets;
                done?;
            }
        }
        (0..self.nodes.len()).try_for_each(|node| self.run_waiting(node, env))
    }

    /// Gives out what operators hold back; afterwards all of a task's state is in its stores.
    ///
    /// # Errors
    /// The task must stop.
    pub fn flush(&mut self, env: &mut StepEnv) -> Result<(), TaskError> {
        for node in 0..self.nodes.len() {
            self.run_waiting(node, env)?;
            let Kind::Operator(op) = &mut self.nodes[node].kind else { continue };
            let mut out = self.spare.pop().unwrap_or_default();
            op.flush(&mut env.ctx, &mut out)?;
            self.emit(node, &mut out, env)?;
            self.spare.push(out);
        }
        Ok(())
    }

    /// All stores with their nodes, always in the same order.
    pub fn stores(&mut self) -> impl Iterator<Item = (usize, &mut dyn Store)> {
        self.nodes.iter_mut().enumerate().flat_map(|(index, node)| {
            let stores = match &mut node.kind {
                Kind::Operator(op) => op.stores(),
                _ => Vec::new(),
            };
            stores.into_iter().map(move |store| (index, store))
        })
    }

    fn deliver(&mut self, targets: &[Target], batch: ChangeBatch, env: &mut StepEnv) -> Result<(), TaskError> {
        let Some((last, others)) = targets.split_last() else { return Ok(()) };
        for target in others {
            self.deliver_one(*target, batch.clone(), env)?;
        }
        self.deliver_one(*last, batch, env)
    }

    fn deliver_one(&mut self, target: Target, batch: ChangeBatch, env: &mut StepEnv) -> Result<(), TaskError> {
        if batch.is_empty() {
            return Ok(());
        }
        let ports = self.nodes[target.node].waiting.len();
        if ports > 1 {
            self.nodes[target.node].waiting[target.port].push(batch);
            return Ok(());
        }
        self.run_node(target.node, vec![Some(batch)], env)
    }

    fn run_waiting(&mut self, node: usize, env: &mut StepEnv) -> Result<(), TaskError> {
        if self.nodes[node].waiting.len() < 2 || self.nodes[node].waiting.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let step = self.nodes[node].waiting.iter_mut().map(|w| rows::join(std::mem::take(w)));
        let step = step.collect::<Result<Step, _>>()?;
        self.run_node(node, step, env)
    }

    fn run_node(&mut self, node: usize, step: Step, env: &mut StepEnv) -> Result<(), TaskError> {
        match &mut self.nodes[node].kind {
            Kind::Operator(op) => {
                let mut out = self.spare.pop().unwrap_or_default();
                let mut progress = op.process(step, &mut env.ctx, &mut out)?;
                loop {
                    self.emit(node, &mut out, env)?;
                    if progress == Progress::Done {
                        break;
                    }
                    let Kind::Operator(op) = &mut self.nodes[node].kind else { unreachable!("a node keeps its kind") };
                    progress = op.resume(&mut env.ctx, &mut out)?;
                }
                self.spare.push(out);
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

    fn emit(&mut self, node: usize, out: &mut Vec<ChangeBatch>, env: &mut StepEnv) -> Result<(), TaskError> {
        self.note_losses(node, env);
        if out.is_empty() {
            return Ok(());
        }
        let targets = std::mem::take(&mut self.nodes[node].targets);
        let done = out.drain(..).try_for_each(|batch| self.deliver(&targets, batch, env));
        self.nodes[node].targets = targets;
        done
    }

    fn note_losses(&self, node: usize, env: &mut StepEnv) {
        let Node { step, from, .. } = &self.nodes[node];
        let losses = env.ctx.losses.drain(..);
        env.lost.extend(losses.map(|loss| Lost { step: step.clone(), from: from.clone(), loss }));
    }
}

/// The schemas of a node's input ports.
pub(super) fn input_schemas(spec: &SubTopology, node: &NodeSpec) -> Vec<SchemaRef> {
    let of = |port: &Port| match port {
        Port::Input(i) => match &spec.inputs[*i] {
            InputSpec::Source(source) => source.schema.clone(),
            InputSpec::Repartition { schema, .. } => schema.clone(),
        },
        Port::Node(i) => spec.nodes[*i].schema.clone(),
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
                Port::Node(i) => walk(spec, &spec.nodes[*i], found),
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
        OperatorSpec::StreamStreamJoin(_) | OperatorSpec::StreamTableJoin(_) | OperatorSpec::TableTableJoin(_) => {
            "Join"
        }
        OperatorSpec::Sink(sink) => sink.source.as_str(),
        OperatorSpec::Client => "Client",
    }
}
