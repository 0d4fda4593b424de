//! Which partitions the group gave to this node, and since when.
//!
//! Moves nothing itself. The subtle thing: the number of a tenure changes before the coordinator can give a partition to somebody else, so
//! who takes the member's generation first and then finds the tenure unchanged has the generation that belongs to it.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;

use super::Shared;
use super::native::{Consumer, Rebalanced};
use crate::topic::{Tenure, TopicPartition};
use crate::types::TopicName;

#[derive(Default)]
struct State {
    number: u64,
    /// `None` while the group makes up its mind
    mine: Option<HashSet<TopicPartition>>,
    /// places from before are void
    changed: bool,
}

/// This node's place in the group of a query.
#[derive(Default)]
pub(super) struct Membership(Mutex<State>);

impl Membership {
    /// What the coordinator's word does: tells the watchers of `topics` after it is noted.
    pub fn rebalanced(self: &Arc<Self>, shared: &Arc<Shared>, topics: &[TopicName]) -> Rebalanced {
        let (membership, shared, topics) = (self.clone(), shared.clone(), topics.to_vec());
        Box::new(move |consumer: &Consumer, given: bool, list: &TopicPartitionList| {
            let own = |topic: &str| shared.admin.inner(topic).map(TopicName::new);
            let mine: HashSet<TopicPartition> = list
                .elements()
                .iter()
                .filter_map(|e| Some(TopicPartition::new(own(e.topic())?, e.partition())))
                .collect();
            tracing::debug!(given, partitions = mine.len(), "the group gave or took partitions");
            let mut state = membership.0.lock();
            state.number += 1;
            state.mine = given.then_some(mine);
            state.changed = true;
            drop(state);
            // What is read, and from where, is up to those who read; until they ask, nothing is.
            let done = if given { consumer.assign(&TopicPartitionList::new()) } else { consumer.unassign() };
            if let Err(failure) = done {
                tracing::warn!("the group's change is not taken over: {}", failure.reason);
            }
            shared.watchers.wake(&topics);
        })
    }

    /// See [`crate::topic::Session::tenure`].
    pub fn tenure(&self, inputs: &[TopicPartition]) -> Tenure {
        let state = self.0.lock();
        match &state.mine {
            None => Tenure::Undecided,
            Some(mine) if inputs.iter().all(|at| mine.contains(at)) => Tenure::Here(state.number),
            Some(_) => Tenure::Elsewhere,
        }
    }

    /// True for the tenure of now.
    pub fn is_now(&self, tenure: u64) -> bool {
        let state = self.0.lock();
        state.mine.is_some() && state.number == tenure
    }

    /// True if a partition is this node's.
    pub fn has(&self, at: &TopicPartition) -> bool {
        self.0.lock().mine.as_ref().is_some_and(|mine| mine.contains(at))
    }

    /// True once after each change.
    pub fn take_change(&self) -> bool {
        std::mem::take(&mut self.0.lock().changed)
    }
}
