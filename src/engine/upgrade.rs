//! CREATE OR REPLACE of a query: what of the running one may be another, so that it goes on from its positions with its state.
//!
//! Pure. The subtle thing: filters and projections may change, but everything that remembers (aggregates, joins, tables) and everything that is
//! on its way (internal topics) must come out the same, down to the expressions; what is equal is kept, and nothing else may be there.

use std::collections::BTreeSet;

use crate::diagnostic::Diagnostic;
use crate::plan::topology::{InputSpec, OperatorSpec, Topology};

/// Says whether a query that runs as `old` may go on as `new`.
///
/// # Errors
/// Names the step that would be another.
pub(super) fn check(old: &Topology, new: &Topology) -> Result<(), Diagnostic> {
    let (before, after) = (sources(old), sources(new));
    if before != after {
        let list = |topics: &BTreeSet<String>| topics.iter().cloned().collect::<Vec<_>>().join(", ");
        return Err(refused(&format!(
            "it reads the topic(s) {} and would read {}: plan steps of type StreamSource must have matching topics",
            list(&before),
            list(&after)
        )));
    }
    if old.internal_topics != new.internal_topics {
        return Err(refused(
            "the key it groups or joins by, or what goes through its internal topics, would be another",
        ));
    }
    let (before, after) = (stateful(old), stateful(new));
    for (step, now) in before.iter().zip(&after) {
        if step.unsupported {
            return Err(refused(&format!("Upgrades not yet supported for {}", step.what)));
        }
        if step.definition != now.definition {
            return Err(refused(&format!("its {} would be other ones, and their state with them", step.what)));
        }
    }
    match before.len().cmp(&after.len()) {
        std::cmp::Ordering::Equal => Ok(()),
        _ => Err(refused("it would remember something where it does not, or the other way")),
    }
}

/// A step that remembers something.
struct Stateful {
    what: &'static str,
    /// everything that its state depends on
    definition: String,
    /// its state also depends on what stands before it
    unsupported: bool,
}

fn stateful(topology: &Topology) -> Vec<Stateful> {
    let nodes = topology.subs.iter().flat_map(|sub| &sub.nodes);
    let step = nodes.filter_map(|node| {
        let (what, unsupported) = match &node.op {
            OperatorSpec::Aggregate(spec) => ("aggregations", spec.table_input || spec.window.is_some()),
            OperatorSpec::Upsert { .. } => ("queries on tables", true),
            OperatorSpec::Filter { .. }
            | OperatorSpec::Project { .. }
            | OperatorSpec::Regroup { .. }
            | OperatorSpec::FlatMap { .. }
            | OperatorSpec::Repartition { .. }
            | OperatorSpec::Sink(_)
            | OperatorSpec::Client => return None,
            _ => ("joins", true),
        };
        Some(Stateful { what, definition: format!("{:?} {:?} {}", node.op, node.schema, node.key_count), unsupported })
    });
    step.collect()
}

fn sources(topology: &Topology) -> BTreeSet<String> {
    let inputs = topology.subs.iter().flat_map(|sub| &sub.inputs);
    let topic = |input: &InputSpec| match input {
        InputSpec::Source(source) => Some(source.topic.to_string()),
        _ => None,
    };
    inputs.filter_map(topic).collect()
}

fn refused(why: &str) -> Diagnostic {
    Diagnostic::user(format!("Query is not upgradeable. {why}"))
        .help("DROP it and create it again; its state is then built anew")
}
