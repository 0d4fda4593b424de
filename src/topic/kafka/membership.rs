//! Which partitions the group gave to this node, and since when; or why it gives none.
//!
//! Moves nothing itself. The subtle thing: the number of a tenure changes before the coordinator can give a partition to somebody else, so
//! who takes the member's generation first and then finds the tenure unchanged has the generation that belongs to it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rdkafka::TopicPartitionList;

use super::Shared;
use super::native::{Consumer, Rebalanced};
use crate::topic::{Tenure, TopicError, TopicPartition};
use crate::types::TopicName;

/// Why the group gives nothing.
#[derive(Clone)]
struct Trouble {
    /// what is wrong is wrong with this topic alone
    topic: Option<TopicName>,
    error: TopicError,
}

#[derive(Default)]
struct State {
    number: u64,
    /// `None` while the group makes up its mind
    mine: Option<HashSet<TopicPartition>>,
    /// places from before are void
    changed: bool,
    trouble: Option<Trouble>,
}

impl State {
    /// True if the assignment says that what was wrong is over.
    fn is_over(&self, trouble: &Trouble) -> bool {
        let mine = self.mine.as_ref();
        mine.is_some_and(|mine| trouble.topic.as_ref().is_none_or(|topic| mine.iter().any(|at| at.topic == *topic)))
    }
}

/// How long the group waits for the commit that is under way when it takes partitions: longer than one takes.
const COMMIT: Duration = Duration::from_millis(1000);

/// This node's place in the group of a query.
#[derive(Default)]
pub(super) struct Membership {
    state: Mutex<State>,
    /// held while a commit is under way
    commits: Mutex<()>,
}

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
            // One that is under way is of the generation that ends when this returns; were it refused, its tasks would begin anew.
            let under_way = membership.commits.try_lock_for(COMMIT);
            let mut state = membership.state.lock();
            state.number += 1;
            state.mine = given.then_some(mine);
            state.changed = true;
            state.trouble = state.trouble.take().filter(|trouble| !state.is_over(trouble));
            drop((state, under_way));
            // What is read, and from where, is up to those who read; until they ask, nothing is.
            let done = if given { consumer.assign(&TopicPartitionList::new()) } else { consumer.unassign() };
            if let Err(failure) = done {
                tracing::warn!("the group's change is not taken over: {}", failure.reason);
            }
            shared.watchers.wake(&topics);
        })
    }

    /// To be held while a commit is under way, from before it is asked whose it is.
    pub fn commits(&self) -> MutexGuard<'_, ()> {
        self.commits.lock()
    }

    /// See [`crate::topic::Session::tenure`].
    pub fn tenure(&self, inputs: &[TopicPartition]) -> Tenure {
        let state = self.state.lock();
        match &state.mine {
            None => Tenure::Undecided,
            Some(mine) if inputs.iter().all(|at| mine.contains(at)) => Tenure::Here(state.number),
            Some(_) => Tenure::Elsewhere,
        }
    }

    /// Notes why the group, or a topic in it, gives nothing.
    pub fn note_trouble(&self, topic: Option<TopicName>, error: TopicError) {
        self.state.lock().trouble = Some(Trouble { topic, error });
    }

    /// Notes that a topic is read.
    pub fn note_read(&self, topic: &TopicName) {
        let mut state = self.state.lock();
        if state.trouble.as_ref().is_some_and(|trouble| trouble.topic.as_ref() == Some(topic)) {
            state.trouble = None;
        }
    }

    /// Why nothing of what a task reads is given to this node, with the topic if it is one alone that cannot be had.
    pub fn trouble(&self) -> Option<(Option<TopicName>, TopicError)> {
        self.state.lock().trouble.clone().map(|trouble| (trouble.topic, trouble.error))
    }

    /// True for the tenure of now.
    pub fn is_now(&self, tenure: u64) -> bool {
        let state = self.state.lock();
        state.mine.is_some() && state.number == tenure
    }

    /// True if a partition is this node's.
    pub fn has(&self, at: &TopicPartition) -> bool {
        self.state.lock().mine.as_ref().is_some_and(|mine| mine.contains(at))
    }

    /// True once after each change.
    pub fn take_change(&self) -> bool {
        std::mem::take(&mut self.state.lock().changed)
    }
}

/// Topic partitions of a member's assignment, in the bytes of the consumer protocol (version, topics with partitions, user data); what is cut
/// off gives what stands before.
pub(super) fn assigned(bytes: &[u8]) -> Vec<(String, i32)> {
    let mut rest = bytes;
    let mut partitions = Vec::new();
    let mut read = || -> Option<()> {
        take::<2>(&mut rest)?;
        for _ in 0..i32::from_be_bytes(take(&mut rest)?) {
            let length = usize::try_from(i16::from_be_bytes(take(&mut rest)?)).ok()?;
            let (name, after) = rest.split_at_checked(length)?;
            rest = after;
            let name = String::from_utf8_lossy(name).into_owned();
            for _ in 0..i32::from_be_bytes(take(&mut rest)?) {
                partitions.push((name.clone(), i32::from_be_bytes(take(&mut rest)?)));
            }
        }
        Some(())
    };
    // An empty one is that of a group that makes up its mind.
    let _ = read();
    partitions
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_a_short_one_does_no_harm() {
        let mut bytes = vec![0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3];
        bytes.extend([0, 2, b'b', b'c', 0, 0, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff]);
        let all = [("a".to_owned(), 0), ("a".to_owned(), 3), ("bc".to_owned(), 7)];
        assert_eq!(assigned(&bytes), all);
        for length in 0..bytes.len() - 4 {
            assert!(all.starts_with(&assigned(&bytes[..length])), "{length}");
        }
    }
}
