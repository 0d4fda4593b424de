//! A topology as EXPLAIN prints it, and its physical identity.
//!
//! Text only. The subtle thing: the identity lists what outlives the process (stores and internal topics with their columns), so that a
//! later release that plans the same SQL otherwise notices before it touches state.

use std::fmt::Write;

use arrow::datatypes::SchemaRef;

use super::topology::{InputSpec, JoinSpec, NodeSpec, OperatorSpec, Port, SubTopology, Topology};

/// Version of what stores hold; part of every identity.
const STATE_FORMAT: u32 = 1;

impl Topology {
    /// Stores and internal topics by name, with columns and partitions.
    pub fn identity(&self) -> Vec<String> {
        let topics = self.internal_topics.iter().map(|t| {
            let columns: Vec<_> = t.schema.iter().map(|c| format!("{} {}", c.name, c.ty)).collect();
            format!("topic {} x{} ({}) key {}", t.name, t.partitions, columns.join(", "), t.key_count)
        });
        let stores = self.subs.iter().flat_map(|sub| {
            sub.nodes.iter().flat_map(move |node| {
                stores_of(node).into_iter().map(move |(name, shape)| {
                    format!("store {name} x{} ({shape}) format {STATE_FORMAT}", sub.partitions)
                })
            })
        });
        topics.chain(stores).collect()
    }

    /// The graph as text: sub-topologies with inputs, operators, sinks; then the topics and stores it makes.
    pub fn describe(&self) -> String {
        let mut out = String::from("Topologies:\n");
        for (i, sub) in self.subs.iter().enumerate() {
            let _ = writeln!(out, "  Sub-topology: {i} ({} partitions)", sub.partitions);
            self.describe_sub(sub, &mut out);
        }
        let topics: Vec<_> =
            self.internal_topics.iter().map(|t| format!("{} ({} partitions)", t.name, t.partitions)).collect();
        let stores: Vec<_> =
            self.subs.iter().flat_map(|s| &s.nodes).flat_map(stores_of).map(|(name, _)| name).collect();
        let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
        let _ = writeln!(out, "Internal topics: {}", list(topics));
        let _ = write!(out, "Stores: {}", list(stores));
        out
    }

    fn describe_sub(&self, sub: &SubTopology, out: &mut String) {
        for (i, input) in sub.inputs.iter().enumerate() {
            let _ = match input {
                InputSpec::Source(source) => {
                    let columns: Vec<_> = source.wanted.iter().map(ToString::to_string).collect();
                    writeln!(
                        out,
                        "    Input {i}: topic {} ({}/{}) columns [{}]",
                        source.topic,
                        source.key_format.format,
                        source.value_format.format,
                        columns.join(", ")
                    )
                }
                InputSpec::Repartition { topic, .. } => {
                    writeln!(out, "    Input {i}: topic {}", self.internal_topics[*topic].name)
                }
            };
        }
        for (i, node) in sub.nodes.iter().enumerate() {
            let from: Vec<_> = node
                .inputs
                .iter()
                .map(|p| match p {
                    Port::Input(i) => format!("input {i}"),
                    Port::Node(i) => format!("{i}"),
                    Port::Side(i) => format!("{i} (subscriptions)"),
                })
                .collect();
            let _ = writeln!(out, "    {i}: {} <-- {}", self.operator(&node.op), from.join(", "));
        }
    }

    fn operator(&self, op: &OperatorSpec) -> String {
        match op {
            OperatorSpec::Filter { predicate, .. } => format!("Filter {predicate}"),
            OperatorSpec::Project { exprs, .. } => format!("Project {}", joined(exprs)),
            OperatorSpec::Regroup { exprs } => format!("Regroup {}", joined(exprs)),
            OperatorSpec::FlatMap { calls, .. } => {
                let calls: Vec<_> = calls.iter().map(|c| format!("{}({})", c.function, c.arg)).collect();
                format!("FlatMap {}", calls.join(", "))
            }
            OperatorSpec::Upsert { store, .. } => format!("Upsert store {store}"),
            OperatorSpec::Repartition { topic, .. } => {
                format!("Repartition --> topic {}", self.internal_topics[*topic].name)
            }
            OperatorSpec::Aggregate(spec) => {
                let calls: Vec<_> = spec.calls.iter().map(|c| format!("{}({})", c.function, joined(&c.args))).collect();
                let window = spec.window.map_or_else(String::new, |w| format!(" WINDOW {w}"));
                format!("Aggregate {}{window} store {}", calls.join(", "), spec.store)
            }
            OperatorSpec::StreamStreamJoin(join) => {
                format!("StreamStreamJoin {} {} store {}", join.kind, join.within, join.store)
            }
            OperatorSpec::StreamTableJoin(join) => format!("StreamTableJoin {} store {}", join.kind, join.right_store),
            OperatorSpec::TableTableJoin(join) => {
                format!("TableTableJoin {} stores {}, {}", join.kind, join.left_store, join.right_store)
            }
            OperatorSpec::ForeignKeyLeft(join) => {
                format!("ForeignKeyJoin {} on {} store {}", join.kind, join.foreign_key, join.left_store)
            }
            OperatorSpec::ForeignKeyRight(join) => {
                format!("ForeignKeyAnswers stores {}, {}", join.right_store, join.subscription_store)
            }
            OperatorSpec::Answer { topic, .. } => format!("Answer --> topic {}", self.internal_topics[*topic].name),
            OperatorSpec::Sink(sink) => {
                format!("Sink --> topic {} ({}/{})", sink.topic, sink.key_format.format, sink.value_format.format)
            }
            OperatorSpec::Client => "Client".to_owned(),
        }
    }
}

fn joined<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Names and shapes of a node's stores.
fn stores_of(node: &NodeSpec) -> Vec<(String, String)> {
    let keyed = |schema: &SchemaRef, keys: usize| {
        let columns: Vec<_> = schema.fields().iter().map(|f| f.data_type().to_string()).collect();
        format!("{} key {keys}", columns.join(", "))
    };
    let sides = |join: &JoinSpec| (keyed(&join.left, join.key_count), keyed(&join.right, join.key_count));
    match &node.op {
        OperatorSpec::Upsert { store, .. } => vec![(store.clone(), keyed(&node.schema, node.key_count))],
        OperatorSpec::Aggregate(spec) => {
            let window = spec.window.map_or_else(String::new, |w| format!(" {w}"));
            let calls: Vec<_> = spec.calls.iter().map(|c| c.function.to_string()).collect();
            vec![(
                spec.store.clone(),
                format!("{} of {}{window}", keyed(&node.schema, node.key_count), calls.join(", ")),
            )]
        }
        OperatorSpec::StreamStreamJoin(join) => {
            let (left, right) = (keyed(&join.left, join.key_count), keyed(&join.right, join.key_count));
            let windowed = if join.windowed { " windowed" } else { "" };
            vec![(join.store.clone(), format!("{left} with {right}{windowed} {}", join.within))]
        }
        OperatorSpec::StreamTableJoin(join) => vec![(join.right_store.clone(), sides(join).1)],
        OperatorSpec::TableTableJoin(join) => {
            let (left, right) = sides(join);
            vec![(join.left_store.clone(), left), (join.right_store.clone(), right)]
        }
        OperatorSpec::ForeignKeyLeft(join) => vec![(join.left_store.clone(), keyed(&join.left, join.left_keys))],
        OperatorSpec::ForeignKeyRight(join) => vec![
            (join.right_store.clone(), keyed(&join.right, 1)),
            (join.subscription_store.clone(), keyed(&join.subscription_schema(), 1 + join.left_keys)),
        ],
        _ => Vec::new(),
    }
}
