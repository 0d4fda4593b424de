//! Logical plan to topology: columns pruned, cut at repartitions, stores and internal topics named.
//!
//! A pure function of the plan and the query's consumer group; run again on the same SQL it gives the same names. The subtle thing: wishes
//! travel downward while the graph is built upward: which columns are wanted, whether old rows are wanted, and whether the result must be
//! readable by pull queries, so that a table source keeps its rows only where someone needs them.

mod foreign_key;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::nodes::{StreamNode, StreamOp, arrow_schema_of};
use super::rules::Rules;
use super::topology::{
    AggregateSpec, InputSpec, InternalTopic, JoinKind, JoinSpec, JoinWithin, KeyWindow, MaterializationSpec, NodeSpec,
    OperatorSpec, Port, SourceInput, StreamJoinSpec, SubTopology, TableCall, Topology,
};
use crate::format::{self, Format, FormatSpec, Side, Wrapping};
use crate::types::{Column, ColumnName, SqlType};

/// What lowering needs beside the plan.
#[derive(Clone, Debug)]
pub struct Lowering {
    /// the query's consumer group; internal topics are named after it
    pub group: String,
    /// the result is to be read by pull queries
    pub materialize: bool,
    /// optimizer rules in use
    pub rules: Rules,
}

/// Why a plan has no topology: a defect of ours, in words.
pub type LowerError = String;

/// Lowers a plan whose top is a sink or a client.
///
/// # Errors
/// Defects of the analyzer: a node or column that cannot be.
pub fn lower(plan: &LogicalPlan, options: &Lowering) -> Result<Topology, LowerError> {
    let plan = &options.rules.optimize(plan).map_err(|e| e.to_string())?;
    let mut builder = Builder { options, subs: Vec::new(), internal: Vec::new() };
    let wanted = names(&arrow_schema_of(plan));
    let built = builder.build(plan, &Wish { columns: wanted, old: false, keep: options.materialize })?;
    builder.subs.push(built.sub);
    let materialization = if options.materialize { materialization(&builder.subs) } else { None };
    Ok(Topology { subs: builder.subs, internal_topics: builder.internal, materialization })
}

/// What a node's reader asks of it.
#[derive(Clone)]
struct Wish {
    /// columns by name
    columns: BTreeSet<String>,
    /// old rows
    old: bool,
    /// the rows must be in a store that pull queries read
    keep: bool,
}

impl Wish {
    fn of_exprs<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> Self {
        let mut columns = BTreeSet::new();
        for expr in exprs {
            columns.extend(expr.column_refs().into_iter().map(|c| c.name.clone()));
        }
        Self { columns, old: false, keep: false }
    }
}

/// A sub-topology under construction and the port that its newest rows come out of.
struct Built {
    sub: SubTopology,
    port: Port,
    schema: SchemaRef,
    key_count: usize,
    is_table: bool,
}

impl Built {
    fn push(&mut self, op: OperatorSpec, inputs: Vec<Port>, schema: SchemaRef, key_count: usize) {
        self.sub.nodes.push(NodeSpec { op, inputs, schema: schema.clone(), key_count });
        self.port = Port::Node(self.sub.nodes.len() - 1);
        self.schema = schema;
        self.key_count = key_count;
    }
}

struct Builder<'a> {
    options: &'a Lowering,
    subs: Vec<SubTopology>,
    internal: Vec<InternalTopic>,
}

impl Builder<'_> {
    fn build(&mut self, plan: &LogicalPlan, wish: &Wish) -> Result<Built, LowerError> {
        if let LogicalPlan::Filter(filter) = plan {
            return self.filter(&filter.predicate, &filter.input, wish);
        }
        let node = StreamNode::of(plan).ok_or_else(|| format!("no operator for {}", plan.display()))?;
        match &node.op {
            StreamOp::TopicScan { .. } => scan(node, wish),
            StreamOp::Project { exprs } => self.project(node, exprs, wish),
            StreamOp::FlatMap { calls } => self.flat_map(node, calls, wish),
            StreamOp::Rekey { .. } => self.rekey(node, wish),
            StreamOp::Aggregate { .. } => self.aggregate(node, wish),
            StreamOp::StreamStreamJoin { kind, within, prefix } => {
                self.stream_join(node, (*kind, *within, prefix), wish)
            }
            StreamOp::StreamTableJoin { .. } | StreamOp::TableTableJoin { .. } => self.join(node, wish),
            StreamOp::ForeignKeyJoin { .. } => self.foreign_key_join(node, wish),
            StreamOp::Sink(spec) => {
                let mut built = self.build(&node.inputs[0], wish)?;
                let (port, schema, keys) = (built.port, built.schema.clone(), built.key_count);
                built.push(OperatorSpec::Sink(spec.as_ref().clone()), vec![port], schema, keys);
                Ok(built)
            }
            StreamOp::Client => {
                let mut built = self.build(&node.inputs[0], wish)?;
                let (port, schema, keys) = (built.port, built.schema.clone(), built.key_count);
                built.push(OperatorSpec::Client, vec![port], schema, keys);
                Ok(built)
            }
        }
    }

    fn filter(&mut self, predicate: &Expr, input: &LogicalPlan, wish: &Wish) -> Result<Built, LowerError> {
        let mut below = Wish::of_exprs([predicate]);
        below.columns.extend(wish.columns.iter().cloned());
        let is_table = StreamNode::shape_of(input).is_table;
        below.old = is_table;
        below.keep = wish.keep;
        let mut built = self.build(input, &below)?;
        let (port, schema, keys) = (built.port, built.schema.clone(), built.key_count);
        built.push(OperatorSpec::Filter { predicate: predicate.clone(), is_table }, vec![port], schema, keys);
        Ok(built)
    }

    fn project(&mut self, node: &StreamNode, exprs: &[Expr], wish: &Wish) -> Result<Built, LowerError> {
        let fields = node.schema.fields();
        let kept: Vec<usize> =
            (0..exprs.len()).filter(|&i| i < node.shape.key_count || wish.columns.contains(fields[i].name())).collect();
        let exprs: Vec<Expr> = kept.iter().map(|&i| exprs[i].clone()).collect();
        let schema = Arc::new(Schema::new(kept.iter().map(|&i| fields[i].clone()).collect::<Vec<_>>()));
        let below = Wish { old: wish.old, keep: wish.keep, ..Wish::of_exprs(&exprs) };
        let mut built = self.build(&node.inputs[0], &below)?;
        let port = built.port;
        let op = OperatorSpec::Project { exprs, is_table: node.shape.is_table, input_keys: built.key_count };
        built.push(op, vec![port], schema, node.shape.key_count);
        built.is_table = node.shape.is_table;
        Ok(built)
    }

    fn flat_map(&mut self, node: &StreamNode, calls: &[TableCall], wish: &Wish) -> Result<Built, LowerError> {
        let mut below = Wish::of_exprs(calls.iter().map(|c| &c.arg));
        below.columns.extend(wish.columns.iter().cloned());
        let mut built = self.build(&node.inputs[0], &below)?;
        let input = built.schema.clone();
        let keep: Vec<usize> = (0..input.fields().len())
            .filter(|&i| i < built.key_count || wish.columns.contains(input.field(i).name()))
            .collect();
        let mut fields: Vec<_> = keep.iter().map(|&i| input.fields()[i].clone()).collect();
        fields.extend(node.schema.fields().iter().skip(node.schema.fields().len() - calls.len()).cloned());
        let (port, keys) = (built.port, built.key_count);
        built.push(
            OperatorSpec::FlatMap { calls: calls.to_vec(), keep },
            vec![port],
            Arc::new(Schema::new(fields)),
            keys,
        );
        Ok(built)
    }

    fn rekey(&mut self, node: &StreamNode, wish: &Wish) -> Result<Built, LowerError> {
        let StreamOp::Rekey { keys, key_format, role, partitions, drop_null_keys, drop_absent, regroup, through_topic } =
            &node.op
        else {
            return Err("a rekey".into());
        };
        let own: BTreeSet<String> = node.schema.fields().iter().take(keys.len()).map(|f| f.name().clone()).collect();
        let mut below = Wish::of_exprs(keys);
        below.columns.extend(wish.columns.iter().filter(|c| !own.contains(*c)).cloned());
        below.old = node.shape.is_table && (*regroup || wish.old);
        let mut built = self.build(&node.inputs[0], &below)?;
        let input = built.schema.clone();
        let mut exprs = keys.clone();
        let mut fields: Vec<_> = node.schema.fields().iter().take(keys.len()).cloned().collect();
        for field in input.fields() {
            if wish.columns.contains(field.name()) && !own.contains(field.name()) {
                exprs.push(Expr::Column(datafusion::common::Column::new_unqualified(field.name())));
                fields.push(field.clone());
            }
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let port = built.port;
        let op = if *regroup {
            OperatorSpec::Regroup { exprs }
        } else {
            OperatorSpec::Project { exprs, is_table: node.shape.is_table, input_keys: built.key_count }
        };
        built.push(op, vec![port], schema.clone(), keys.len());
        if !through_topic {
            return Ok(built);
        }
        let partitions = partitions.unwrap_or(built.sub.partitions);
        let index = self.internal.len();
        let name = format!("{}-{role}-repartition", self.options.group);
        let columns: Vec<Column> =
            schema.fields().iter().enumerate().map(|(i, f)| to_column(f, i < keys.len())).collect::<Result<_, _>>()?;
        let key_format = routing_format(key_format, &columns[..keys.len()]);
        self.internal.push(InternalTopic {
            name: name.into(),
            partitions,
            schema: columns,
            key_count: keys.len(),
            key_format,
        });
        let port = built.port;
        let op = OperatorSpec::Repartition { topic: index, drop_null_keys: *drop_null_keys, drop_absent: *drop_absent };
        built.push(op, vec![port], schema.clone(), keys.len());
        self.subs.push(built.sub);
        let input = InputSpec::Repartition { topic: index, schema: schema.clone() };
        let sub = SubTopology { inputs: vec![input], nodes: vec![], partitions };
        Ok(Built { sub, port: Port::Input(0), schema, key_count: keys.len(), is_table: node.shape.is_table })
    }

    fn aggregate(&mut self, node: &StreamNode, wish: &Wish) -> Result<Built, LowerError> {
        let StreamOp::Aggregate { calls, window, emit_final } = &node.op else { return Err("an aggregate".into()) };
        let mut below = Wish::of_exprs(calls.iter().flat_map(|c| &c.args));
        let key_count = node.shape.key_count;
        below.columns.extend(node.schema.fields().iter().take(key_count).map(|f| f.name().clone()));
        let table_input = StreamNode::shape_of(&node.inputs[0]).is_table;
        below.old = table_input;
        let mut built = self.build(&node.inputs[0], &below)?;
        let spec = AggregateSpec {
            store: "Aggregate-Aggregate-Materialize".into(),
            key_count,
            carried: vec![],
            calls: calls.clone(),
            window: *window,
            table_input,
            emit_old: wish.old,
            emit_final: *emit_final,
        };
        let port = built.port;
        built.push(OperatorSpec::Aggregate(spec), vec![port], arrow_schema_of_node(node), key_count);
        built.is_table = true;
        Ok(built)
    }

    fn stream_join(
        &mut self,
        node: &StreamNode,
        (kind, within, prefix): (JoinKind, JoinWithin, &str),
        wish: &Wish,
    ) -> Result<Built, LowerError> {
        let below = Wish { columns: wish.columns.clone(), old: false, keep: false };
        let mut left = self.build(&node.inputs[0], &below)?;
        let right = self.build(&node.inputs[1], &below)?;
        let (left_port, left_schema, right_schema) = (left.port, left.schema.clone(), right.schema.clone());
        let right_port = absorb(&mut left, right);
        let mut fields = vec![node.schema.fields()[0].clone()];
        fields.extend(left_schema.fields().iter().chain(right_schema.fields()).cloned());
        let spec = StreamJoinSpec {
            kind,
            store: format!("{prefix}Join-Window"),
            left: left_schema,
            right: right_schema,
            key_count: node.shape.key_count,
            windowed: node.shape.window.is_some(),
            sessions: node.shape.window == Some(KeyWindow::Session),
            within,
        };
        let op = OperatorSpec::StreamStreamJoin(spec);
        left.push(op, vec![left_port, right_port], Arc::new(Schema::new(fields)), node.shape.key_count);
        Ok(left)
    }

    fn join(&mut self, node: &StreamNode, wish: &Wish) -> Result<Built, LowerError> {
        let (kind, prefix, tables) = match &node.op {
            StreamOp::StreamTableJoin { kind, prefix } => (*kind, prefix, false),
            StreamOp::TableTableJoin { kind, prefix } => (*kind, prefix, true),
            _ => return Err("a join".into()),
        };
        let below = Wish { columns: wish.columns.clone(), old: false, keep: false };
        let mut left = self.build(&node.inputs[0], &below)?;
        let right = self.build(&node.inputs[1], &below)?;
        let (left_port, left_schema, right_schema) = (left.port, left.schema.clone(), right.schema.clone());
        let right_port = absorb(&mut left, right);
        let mut fields = vec![node.schema.fields()[0].clone()];
        fields.extend(left_schema.fields().iter().chain(right_schema.fields()).cloned());
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let emit_old = tables && wish.old && !wish.keep;
        let spec = JoinSpec {
            kind,
            left_store: format!("{prefix}KafkaTopic_Left-Reduce"),
            right_store: format!("{prefix}KafkaTopic_Right-Reduce"),
            left: left_schema,
            right: right_schema,
            key_count: node.shape.key_count,
            emit_old,
        };
        debug_assert!(tables || matches!(kind, JoinKind::Inner | JoinKind::Left));
        let op = if tables { OperatorSpec::TableTableJoin(spec) } else { OperatorSpec::StreamTableJoin(spec) };
        left.push(op, vec![left_port, right_port], schema.clone(), node.shape.key_count);
        left.is_table = tables;
        if wish.keep && tables {
            let port = left.port;
            let op =
                OperatorSpec::Upsert { store: format!("{prefix}Join-Materialize"), emit_old: wish.old, keep: true };
            left.push(op, vec![port], schema, node.shape.key_count);
        }
        Ok(left)
    }
}

/// Moves inputs and nodes of `right` into `left`; gives the port of its rows there.
fn absorb(left: &mut Built, right: Built) -> Port {
    let (inputs, nodes) = (left.sub.inputs.len(), left.sub.nodes.len());
    let moved = |port: Port| match port {
        Port::Input(i) => Port::Input(i + inputs),
        Port::Node(i) => Port::Node(i + nodes),
        Port::Side(i) => Port::Side(i + nodes),
    };
    left.sub.inputs.extend(right.sub.inputs);
    left.sub.nodes.extend(right.sub.nodes.into_iter().map(|mut node| {
        node.inputs.iter_mut().for_each(|p| *p = moved(*p));
        node
    }));
    left.sub.partitions = left.sub.partitions.max(right.sub.partitions);
    moved(right.port)
}

fn scan(node: &StreamNode, wish: &Wish) -> Result<Built, LowerError> {
    let StreamOp::TopicScan { source, names, from_beginning } = &node.op else { return Err("a scan".into()) };
    let key_count = node.shape.key_count;
    let kept: Vec<usize> = (0..names.len()).filter(|&i| i < key_count || wish.columns.contains(&names[i].1)).collect();
    let schema: SchemaRef =
        Arc::new(Schema::new(kept.iter().map(|&i| node.schema.fields()[i].clone()).collect::<Vec<_>>()));
    let input = SourceInput {
        source: source.name.clone(),
        topic: source.topic.clone(),
        declared: source.schema.clone(),
        key_format: source.key_format.clone(),
        value_format: source.value_format.clone(),
        window: source.window,
        timestamp: source.timestamp.clone(),
        is_table: source.is_table(),
        wanted: kept.iter().map(|&i| names[i].0.clone()).collect::<Vec<ColumnName>>(),
        schema: schema.clone(),
        key_count,
        from_beginning: *from_beginning,
    };
    let sub =
        SubTopology { inputs: vec![InputSpec::Source(input)], nodes: vec![], partitions: source.partitions.max(1) };
    let mut built = Built { sub, port: Port::Input(0), schema: schema.clone(), key_count, is_table: source.is_table() };
    if source.is_table() && (wish.old || wish.keep) {
        let store = format!("{}-KsqlTopic-Reduce", source.name);
        let op = OperatorSpec::Upsert { store, emit_old: wish.old, keep: wish.keep };
        built.push(op, vec![Port::Input(0)], schema, key_count);
    }
    Ok(built)
}

/// The key format, or JSON where it cannot hold this key (several columns, or a type it has not).
fn routing_format(wanted: &FormatSpec, keys: &[Column]) -> FormatSpec {
    let wrapping = if keys.len() == 1 { Wrapping::Bare } else { Wrapping::Wrapped };
    let wanted = wanted.clone().wrapped(wrapping);
    if wanted.format != Format::None
        && format::check(&wanted, Side::Key, keys).is_ok()
        && !wanted.format.uses_registry()
    {
        return wanted;
    }
    FormatSpec::new(Format::Json).wrapped(wrapping)
}

fn arrow_schema_of_node(node: &StreamNode) -> SchemaRef {
    node.schema.inner().clone()
}

fn names(schema: &SchemaRef) -> BTreeSet<String> {
    schema.fields().iter().map(|f| f.name().clone()).collect()
}

fn to_column(field: &Field, is_key: bool) -> Result<Column, LowerError> {
    let ty = SqlType::from_arrow(field.data_type()).ok_or_else(|| format!("no SQL type for {field}"))?;
    Ok(if is_key { Column::key(field.name().as_str(), ty) } else { Column::value(field.name().as_str(), ty) })
}

/// The store nearest the sink, and the stateless nodes after it.
fn materialization(subs: &[SubTopology]) -> Option<MaterializationSpec> {
    let sub = subs.len().checked_sub(1)?;
    let nodes = &subs[sub].nodes;
    let mut suffix = Vec::new();
    let mut at = nodes.len().checked_sub(1)?;
    loop {
        match &nodes[at].op {
            OperatorSpec::Aggregate(_) | OperatorSpec::Upsert { .. } => {
                suffix.reverse();
                return Some(MaterializationSpec { sub, node: at, suffix });
            }
            OperatorSpec::Filter { .. } | OperatorSpec::Project { .. } => suffix.push(at),
            OperatorSpec::Sink(_) => {}
            _ => return None,
        }
        match nodes[at].inputs.first()? {
            Port::Node(i) => at = *i,
            Port::Input(_) | Port::Side(_) => return None,
        }
    }
}
