//! Runs a [`QueryCase`]: statements, then each query over the inputs in the reference's order, then comparisons.
//!
//! A topic that a query writes, none reads on and the case does not name must be empty. The subtle thing is who sees what
//! (testing-formats.md §1.4): a query reads the case's inputs in file order, and only after them what other topics have gathered; a query
//! that was made later sees what earlier ones wrote.

use std::collections::BTreeMap;

use super::case::{QueryCase, RecordCase};
use super::compare::{self, Rules};
use super::failure::{Failure, names_what_is_wrong};
use super::mode::{Batching, Mode, seed_of};
use super::post;
use super::record::{self, Record, Stored};
use super::world::{Visible, World};
use crate::catalog::{PersistentQuery, QueryKind};
use crate::diagnostic::Diagnostic;
use crate::topic::Offset;
use crate::topic::partitioner::partition_for;
use crate::types::TopicName;

/// Where an input record stands.
struct Placed {
    topic: TopicName,
    partition: i32,
    offset: Offset,
}

/// Runs a case.
///
/// # Errors
/// The first thing that is not as the case says.
pub(super) fn run(case: &QueryCase, mode: &Mode, seed: u64) -> Result<(), Failure> {
    let base = [("riverrun.dialect", "ksql"), ("auto.offset.reset", "earliest")];
    let mut world =
        World::open(mode, seed_of(&case.name, seed), &base).map_err(|e| Failure::of("the engine does not open", &e))?;
    for (name, value) in case.property_texts() {
        world.set(name, &value);
    }
    prepare(case, &world).map_err(|e| Failure::of("topics cannot be made", &e))?;
    if let Some(refused) = statements(case, &mut world)? {
        return refusal(case, &refused);
    }
    let processed = process(case, mode, &world);
    if case.is_refusal() {
        return match processed {
            Err(Processing::Failed(error)) => refusal(case, &error),
            Err(Processing::Broken(failure)) => Err(failure),
            Ok(()) => Err(Failure::new("an error was expected, but everything was accepted").with(expectation(case))),
        };
    }
    match processed {
        Err(Processing::Failed(error)) => return Err(Failure::of("a query failed", &error)),
        Err(Processing::Broken(failure)) => return Err(failure),
        Ok(()) => {}
    }
    outputs(case, &world)?;
    match &case.post {
        Some(post) => post::check(post, &world),
        None => Ok(()),
    }
}

fn prepare(case: &QueryCase, world: &World) -> Result<(), Diagnostic> {
    for topic in &case.topics {
        world.ensure_topic(&topic.name, topic.partitions.unwrap_or(1), topic.replicas.unwrap_or(1))?;
    }
    Ok(())
}

/// Executes the statements; gives the error of the last one, if the case expects one.
fn statements(case: &QueryCase, world: &mut World) -> Result<Option<Diagnostic>, Failure> {
    let count = case.statements.len();
    for (index, text) in case.statements.iter().enumerate() {
        let Err(error) = world.execute(text) else { continue };
        let number = index + 1;
        if !case.is_refusal() {
            return Err(Failure::of(&format!("statement {number} of {count} was refused"), &error));
        }
        if number < count {
            return Err(Failure::of(
                &format!("statement {number} of {count} was refused, the last one should be"),
                &error,
            ));
        }
        return Ok(Some(error));
    }
    Ok(None)
}

fn refusal(case: &QueryCase, error: &Diagnostic) -> Result<(), Failure> {
    if names_what_is_wrong(error) {
        return Ok(());
    }
    Err(Failure::of("refused, but not for what is wrong", error).with(expectation(case)))
}

fn expectation(case: &QueryCase) -> Option<String> {
    let message = case.expected_error.as_ref()?.get("message")?;
    Some(format!("the reference says  {}", message.as_str()?))
}

/// Why processing ended.
enum Processing {
    /// a query failed
    Failed(Diagnostic),
    /// the case could not be run
    Broken(Failure),
}

impl From<Diagnostic> for Processing {
    fn from(error: Diagnostic) -> Self {
        Self::Failed(error)
    }
}

fn process(case: &QueryCase, mode: &Mode, world: &World) -> Result<(), Processing> {
    let placed = write_inputs(case, world).map_err(Processing::Broken)?;
    for query in world.queries() {
        stage(&query, &placed, mode, world)?;
    }
    Ok(())
}

fn write_inputs(case: &QueryCase, world: &World) -> Result<Vec<Placed>, Failure> {
    let mut placed = Vec::new();
    for (index, input) in case.inputs.iter().enumerate() {
        let what = || format!("input {} of {} cannot be written", index + 1, case.inputs.len());
        let topic = TopicName::new(&input.topic);
        let at = write_input(input, &topic, world).map_err(|e| Failure::new(format!("{}: {e}", what())))?;
        placed.push(at);
    }
    Ok(placed)
}

fn write_input(input: &RecordCase, topic: &TopicName, world: &World) -> Result<Placed, String> {
    world.ensure_topic(topic.as_str(), 1, 1).map_err(|e| e.to_string())?;
    let source = world.source_of(topic).map(AsRef::as_ref);
    let mut stored = record::encode(&input.to_record(), source)?;
    let partitions = world.partitions(topic).map_err(|e| e.to_string())?;
    stored.partition = partition_of(&stored, input, source, partitions)?;
    let offset = world.append(topic, &stored).map_err(|e| e.to_string())?;
    Ok(Placed { topic: topic.clone(), partition: stored.partition, offset })
}

/// Where a record goes: by its key without the window.
fn partition_of(
    stored: &Stored,
    input: &RecordCase,
    source: Option<&crate::catalog::Source>,
    partitions: i32,
) -> Result<i32, String> {
    if partitions <= 1 {
        return Ok(0);
    }
    let bare = match input.window {
        Some(_) => record::encode(&Record { window: None, ..input.to_record() }, source)?.key,
        None => stored.key.clone(),
    };
    Ok(bare.map_or(0, |key| partition_for(&key, partitions)))
}

/// One query reads what it is to see.
fn stage(query: &PersistentQuery, inputs: &[Placed], mode: &Mode, world: &World) -> Result<(), Diagnostic> {
    let reads = world.inputs_of(query);
    let (given, gathered): (Vec<_>, Vec<_>) = reads.into_iter().partition(|t| inputs.iter().any(|p| p.topic == *t));
    let mut visible = Visible::default();
    given.iter().chain(&gathered).for_each(|topic| visible.hide(topic));
    let mut records: Vec<Vec<Placed>> = Vec::new();
    // What a foreign-key join gives out between depends on when its answers come; cases have them come before the next record.
    let singly = mode.batching == Batching::One || world.answers_itself(query)?;
    let own = inputs.iter().filter(|p| given.contains(&p.topic));
    records.push(own.map(|p| Placed { topic: p.topic.clone(), ..*p }).collect());
    for topic in &gathered {
        let place = |r: &Stored| Placed { topic: topic.clone(), partition: r.partition, offset: r.offset };
        records.push(world.records(topic)?.iter().map(place).collect());
    }
    for part in records {
        for placed in &part {
            visible.show(&placed.topic, placed.partition, placed.offset);
            if singly {
                world.drive(&query.id, &visible)?;
            }
        }
        if !singly {
            world.drive(&query.id, &visible)?;
        }
    }
    Ok(())
}

fn outputs(case: &QueryCase, world: &World) -> Result<(), Failure> {
    let rules = Rules { exact: case.exact, any_time_for_zero: case.inputs.is_empty() };
    let mut expected: BTreeMap<&str, Vec<compare::Expected>> = BTreeMap::new();
    for output in &case.outputs {
        expected.entry(&output.topic).or_default().push(output.to_expected());
    }
    let results = last_results(world);
    for topic in &results {
        expected.entry(topic.as_str()).or_default();
    }
    for (name, wanted) in expected {
        let partitions = actual(&TopicName::new(name), world)?;
        compare::topic(name, &wanted, &partitions, rules)
            .map_err(|(headline, lines)| Failure::new(headline).with(lines).with(world.losses()))?;
    }
    Ok(())
}

/// Topics that queries write and none reads: a case that names no record of one expects none.
fn last_results(world: &World) -> Vec<TopicName> {
    let queries = world.queries();
    let read: Vec<TopicName> = queries.iter().flat_map(|query| world.inputs_of(query)).collect();
    let writers = queries.iter().filter(|query| query.kind != QueryKind::SourceTable);
    writers.map(|query| query.sink_topic.clone()).filter(|topic| !read.contains(topic)).collect()
}

/// Records of a topic by partition.
fn actual(topic: &TopicName, world: &World) -> Result<Vec<Vec<Record>>, Failure> {
    let broken = |e: Diagnostic| Failure::of(&format!("topic {topic} cannot be read"), &e);
    let count = world.partitions(topic).map_err(broken)?;
    let mut partitions = vec![Vec::new(); usize::try_from(count.max(1)).unwrap_or(1)];
    let source = world.source_of(topic).map(AsRef::as_ref);
    for (index, stored) in world.records(topic).map_err(broken)?.iter().enumerate() {
        let read = record::decode(stored, source);
        let read =
            read.map_err(|e| Failure::new(format!("topic {topic}: record {} cannot be read: {e}", index + 1)))?;
        partitions[usize::try_from(stored.partition).unwrap_or(0)].push(read);
    }
    Ok(partitions)
}
