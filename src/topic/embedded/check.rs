//! Reads all that the log stores and says what is wrong with it.
//!
//! Mends nothing. The subtle thing: what a changelog block or a keyed entry holds is not known here, so whoever asks brings the eyes
//! for it ([`Inspect`]); everything else (checksums, offsets, numbers, who owns what) is judged here.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::EmbeddedLog;
use super::block::Block;
use super::index::{Store, Topic};
use super::keys::{self, Id};
use crate::storage::{Snapshot, Space};
use crate::topic::{CheckReport, Inspect, Offset, StoreId, TopicError};

/// Everything that may own an entry.
struct Owners {
    topics: BTreeMap<Id, String>,
    stores: BTreeMap<Id, (StoreId, Store)>,
    /// deleted, their entries not yet removed
    garbage: BTreeSet<(bool, Id)>,
    next_id: Id,
}

/// Reads everything.
///
/// # Errors
/// If the storage cannot be asked at all; what is found wrong is in the report.
pub(super) fn check(log: &EmbeddedLog, inspect: &Inspect<'_>) -> Result<CheckReport, TopicError> {
    let mut report = CheckReport::default();
    let snapshot = log.storage.snapshot()?;
    let topics: Vec<_> = log.topics.read().values().cloned().collect();
    let owners = {
        let writer = log.writer.lock();
        Owners {
            topics: topics.iter().map(|t| (t.id, t.spec.name.to_string())).collect(),
            stores: writer.stores.iter().map(|(id, store)| (store.id, (id.clone(), *store))).collect(),
            garbage: BTreeSet::new(),
            next_id: writer.next_id,
        }
    };
    let owners = Owners { garbage: garbage(&snapshot, &mut report), ..owners };
    numbers(&owners, &mut report);
    for topic in &topics {
        records(&snapshot, topic, &mut report);
    }
    strays(&snapshot, &owners, &mut report);
    changelogs(&snapshot, &owners, inspect, &mut report);
    entries(&snapshot, &owners, inspect, &mut report);
    positions(&snapshot, &topics, &mut report);
    Ok(report)
}

fn garbage(snapshot: &Snapshot, report: &mut CheckReport) -> BTreeSet<(bool, Id)> {
    let mut found = BTreeSet::new();
    for entry in snapshot.scan(Space::Meta, &[keys::GARBAGE], Some(&[keys::GARBAGE + 1])) {
        match entry.key().map_err(TopicError::from).and_then(|key| keys::read_garbage(&key)) {
            Ok(mark) => drop(found.insert(mark)),
            Err(error) => report.problem(format!("deleted topics and stores: {error}")),
        }
    }
    found
}

/// No number is given twice, and none that is yet to be given.
fn numbers(owners: &Owners, report: &mut CheckReport) {
    for (id, (store, _)) in &owners.stores {
        if let Some(topic) = owners.topics.get(id) {
            report.problem(format!("store {store} and topic '{topic}' have the same number {id}"));
        }
    }
    for id in owners.topics.keys().chain(owners.stores.keys()).filter(|id| **id >= owners.next_id) {
        report.problem(format!("number {id} is in use, but the next one to be given is {}", owners.next_id));
    }
}

/// Blocks of a topic: whole, in order, none over another.
fn records(snapshot: &Snapshot, topic: &Topic, report: &mut CheckReport) {
    report.topics += 1;
    for (number, partition) in topic.partitions() {
        report.partitions += 1;
        let (from, to) = (keys::block(topic.id, number, 0), keys::block(topic.id, number, Offset::MAX));
        let place = format!("topic '{}' partition {number}", topic.spec.name);
        let mut end = 0;
        for entry in snapshot.scan(Space::Records, &from, Some(&to)) {
            let block = entry
                .read()
                .map_err(TopicError::from)
                .and_then(|(key, value)| Block::read(keys::block_base(&key)?, value))
                .and_then(|block| block.verify().map(|()| block))
                .and_then(|block| block.batch().map(|batch| (block, batch)));
            let (block, batch) = match block {
                Ok(read) => read,
                Err(error) => {
                    report.problem(format!("{place}, after offset {end}: {error}"));
                    continue;
                }
            };
            report.blocks += 1;
            report.records += batch.len() as u64;
            report.bytes += block.byte_size() as u64;
            if block.base() < end {
                report.problem(format!(
                    "{place}: the block at {} begins before {end}, where the one before ends",
                    block.base()
                ));
            }
            let inside =
                batch.offsets.iter().is_sorted() && batch.offsets.last().is_none_or(|last| *last < block.end());
            if batch.is_empty() || !inside {
                report.problem(format!("{place}: the offsets of the block at {} are out of order", block.base()));
            }
            end = end.max(block.end());
        }
        let bounds = partition.bounds();
        if end > bounds.end {
            report.problem(format!("{place} ends at {}, but has records up to {end}", bounds.end));
        }
    }
}

/// Entries whose topic or store there is not.
fn strays(snapshot: &Snapshot, owners: &Owners, report: &mut CheckReport) {
    for (space, of_topics, what) in [
        (Space::Records, true, "records"),
        (Space::Changelog, false, "changelog blocks"),
        (Space::Keyed, false, "entries of a keyed store"),
    ] {
        let mut from = Vec::new();
        // one look-up for each owner, not one for each entry
        while let Some(first) = snapshot.scan(space, &from, None).next() {
            let Some(id) = first.key().ok().and_then(|key| key.first_chunk::<8>().map(|id| Id::from_be_bytes(*id)))
            else {
                report.problem(format!("{what}: a key cannot be read after {from:02x?}"));
                break;
            };
            let known = if of_topics { owners.topics.contains_key(&id) } else { owners.stores.contains_key(&id) };
            if !known && !owners.garbage.contains(&(of_topics, id)) {
                report.problem(format!("there are {what} of number {id}, which is no topic or store"));
            }
            match keys::after_prefix(&keys::number_prefix(id)) {
                Some(next) => from = next,
                None => break,
            }
        }
    }
}

/// Changelogs: every block whole, numbers without gap from the first that the keyed store does not hold.
fn changelogs(snapshot: &Snapshot, owners: &Owners, inspect: &Inspect<'_>, report: &mut CheckReport) {
    for (id, (name, store)) in &owners.stores {
        report.stores += 1;
        let prefix = keys::number_prefix(*id);
        let mut next = store.held;
        for entry in snapshot.scan(Space::Changelog, &prefix, keys::after_prefix(&prefix).as_deref()) {
            let read = entry.read().map_err(TopicError::from);
            let read = read.and_then(|(key, value)| Ok((keys::changelog_number(&key)?, value)));
            let (number, value) = match read {
                Ok(read) => read,
                Err(error) => {
                    report.problem(format!("changelog of store {name}, at block {next}: {error}"));
                    next += 1;
                    continue;
                }
            };
            report.changelog_blocks += 1;
            report.bytes += value.len() as u64;
            if let Err(error) = (inspect.block)(&value) {
                report.problem(format!("changelog of store {name}, block {number}: {error}"));
            }
            if number != next {
                report.problem(format!(
                    "changelog of store {name}: block {number} follows where block {next} should; its keyed store holds those before {}",
                    store.held
                ));
            }
            next = number + 1;
        }
    }
}

/// Keyed stores: every entry readable.
fn entries(snapshot: &Snapshot, owners: &Owners, inspect: &Inspect<'_>, report: &mut CheckReport) {
    for (id, (name, _)) in &owners.stores {
        let prefix = keys::number_prefix(*id);
        for entry in snapshot.scan(Space::Keyed, &prefix, keys::after_prefix(&prefix).as_deref()) {
            let read: Result<(Bytes, Bytes), TopicError> = entry.read().map_err(TopicError::from);
            let judged = read.and_then(|(key, value)| {
                report.entries += 1;
                report.bytes += value.len() as u64;
                (inspect.entry)(&key[prefix.len()..], &value)
            });
            if let Err(error) = judged {
                report.problem(format!("keyed store {name}, entry {}: {error}", report.entries));
            }
        }
    }
}

/// Positions: in partitions that there are, and not beyond their end.
fn positions(snapshot: &Snapshot, topics: &[std::sync::Arc<Topic>], report: &mut CheckReport) {
    for entry in snapshot.scan(Space::Meta, &[keys::POSITIONS], Some(&[keys::POSITIONS + 1])) {
        let read = entry.read().map_err(TopicError::from).and_then(|(key, value)| {
            let (owner, at) = keys::read_position(&key)?;
            Ok((owner, at, keys::read_position_value(&value)?))
        });
        let (owner, at, position) = match read {
            Ok(read) => read,
            Err(error) => {
                report.problem(format!("positions: {error}"));
                continue;
            }
        };
        report.positions += 1;
        let topic = topics.iter().find(|t| t.spec.name == at.topic);
        match topic.map(|t| t.partition(&at).map(super::Partition::bounds)) {
            None => report.problem(format!("'{}' has a position in '{at}', whose topic is not there", owner.0)),
            Some(Err(error)) => report.problem(format!("'{}' has a position in '{at}': {error}", owner.0)),
            Some(Ok(bounds)) if position.offset < 0 || position.offset > bounds.end => report.problem(format!(
                "'{}' is at offset {} of '{at}', which ends at {}",
                owner.0, position.offset, bounds.end
            )),
            Some(Ok(_)) => {}
        }
    }
}
