//! A query on this node: its consumers, its producer, and the thread that commits for its tasks.
//!
//! Tasks hand over commits and go on; the thread puts all that wait into one transaction. The subtle thing: a query's transactions
//! are its own, so what goes wrong in one harms no other query, and in a failed one every commit has failed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use rdkafka::TopicPartitionList;

use super::failure::Failure;
use super::feed::Feeder;
use super::membership::Membership;
use super::native::GroupMetadata;
use super::writer::{Members, Writer};
use super::{Shared, changelog, grown};
use crate::topic::{
    Commit, CommitDone, Fetched, Followed, Offset, Owner, Pace, RawBatch, ReadLimit, Session, StoreId, Tenure,
    TopicError, TopicPartition,
};
use crate::types::TopicName;

/// Time between commits under load, in ms.
const INTERVAL_MS: i64 = 100;
/// Time between commits when inputs are drained, in ms.
const DRAINED_MS: i64 = 5;
/// The same without transactions, where a commit costs little and is chosen for its speed.
const PLAIN_DRAINED_MS: i64 = 1;

/// A commit as it was handed over: by which tenure, and who hears of it.
type Handed = (u64, Commit, CommitDone);

#[derive(Default)]
struct Waiting {
    commits: VecDeque<Handed>,
    closed: bool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

type Feeders = Mutex<HashMap<Owner, Arc<Feeder>>>;

/// The groups' members at the time of a commit.
struct MembersNow {
    owner: Owner,
    feeder: Arc<Feeder>,
    member: Option<GroupMetadata>,
}

impl Members for MembersNow {
    fn member(&self, owner: &Owner) -> Option<&GroupMetadata> {
        self.member.as_ref().filter(|_| *owner == self.owner)
    }

    fn commit(&self, owner: &Owner, offsets: &TopicPartitionList) -> Option<Result<(), Failure>> {
        (*owner == self.owner).then(|| self.feeder.commit(offsets))
    }
}

/// A query on this node.
pub(super) struct KafkaSession {
    shared: Arc<Shared>,
    feeders: Arc<Feeders>,
    main: Arc<Feeder>,
    /// whose consumer reads changelogs of tasks that are elsewhere
    follower: Owner,
    membership: Arc<Membership>,
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl KafkaSession {
    pub fn open(shared: &Arc<Shared>, owner: &Owner, topics: &[TopicName]) -> Result<Self, TopicError> {
        let (queue, feeders) = (Arc::<Queue>::default(), Arc::<Feeders>::default());
        let membership = Arc::<Membership>::default();
        let main = Feeder::start(shared, owner, Some((membership.clone(), topics)))?;
        feeders.lock().insert(owner.clone(), main.clone());
        let name = shared.transactional(owner, &shared.node);
        let writer = Writer::new(shared.clone(), shared.options.exactly_once.then_some(name));
        let (shared, follower) = (shared.clone(), Owner::new(format!("{}-standby", owner.0)));
        let committer = Committer {
            shared: shared.clone(),
            queue: queue.clone(),
            owner: owner.clone(),
            main: main.clone(),
            membership: membership.clone(),
            writer,
        };
        let thread = std::thread::Builder::new().name("kafka-commit".to_owned()).spawn(move || committer.run());
        let thread = thread.map_err(|e| TopicError::Io { what: "start a thread".into(), reason: e.to_string() })?;
        Ok(Self { shared, feeders, main, follower, membership, queue, thread: Mutex::new(Some(thread)) })
    }

    fn feeder(&self, owner: &Owner) -> Result<Arc<Feeder>, TopicError> {
        let mut feeders = self.feeders.lock();
        if let Some(feeder) = feeders.get(owner) {
            return Ok(feeder.clone());
        }
        let feeder = Feeder::start(&self.shared, owner, None)?;
        feeders.insert(owner.clone(), feeder.clone());
        Ok(feeder)
    }
}

impl Session for KafkaSession {
    fn read(&self, owner: &Owner, at: &TopicPartition, from: Offset, limit: ReadLimit) -> Result<Fetched, TopicError> {
        self.feeder(owner)?.read(at, from, limit)
    }

    fn tenure(&self, inputs: &[TopicPartition]) -> Tenure {
        self.membership.tenure(inputs)
    }

    fn trouble(&self) -> Option<TopicError> {
        let (topic, error) = self.membership.trouble()?;
        if let Some(topic) = topic {
            // It may be readable again, with all of its partitions elsewhere.
            self.shared.admin.forget_known();
            if self.shared.admin.partitions(&topic).is_ok() && self.membership.tenure(&[]) != Tenure::Undecided {
                self.membership.note_read(&topic);
                return None;
            }
        }
        Some(error)
    }

    fn commit(&self, tenure: u64, commit: Commit, done: CommitDone) {
        let mut waiting = self.queue.waiting.lock();
        if waiting.closed {
            drop(waiting);
            return done(Err(TopicError::Aborted("the query is stopped".to_owned())));
        }
        waiting.commits.push_back((tenure, commit, done));
        drop(waiting);
        self.queue.changed.notify_all();
    }

    fn pace(&self) -> Pace {
        let drained_ms = if self.shared.options.exactly_once { DRAINED_MS } else { PLAIN_DRAINED_MS };
        let budget = &self.shared.budget;
        let (output_bytes, pending_bytes) = (budget.outputs(), budget.pending());
        Pace { interval_ms: INTERVAL_MS, drained_ms, output_bytes, pending_bytes }
    }

    fn member(&self) -> Option<String> {
        self.main.member_id()
    }

    fn follow(&self, store: &StoreId, from: u64, max_bytes: usize) -> Result<Followed, TopicError> {
        let at = TopicPartition::new(changelog::topic_of(store), store.partition);
        let feeder = self.feeder(&self.follower)?;
        let (mut next, mut end) = (Offset::try_from(from).unwrap_or(Offset::MAX), 0);
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while bytes < max_bytes {
            let limit = ReadLimit { max_bytes: max_bytes - bytes, ..ReadLimit::default() };
            let fetched = feeder.read(&at, next, limit)?;
            (next, end) = (fetched.next, fetched.end);
            if fetched.batch.is_empty() {
                break;
            }
            bytes += fetched.batch.byte_size();
            batches.push(fetched.batch);
        }
        let block = match batches.is_empty() {
            true => None,
            false => Some(changelog::block_of(&RawBatch::concat(&batches)?)?),
        };
        let number = |offset: Offset| u64::try_from(offset).unwrap_or(0);
        Ok(Followed { block, next: number(next), end: number(end) })
    }

    fn unfollow(&self, store: &StoreId) {
        if let Some(feeder) = self.feeders.lock().get(&self.follower) {
            feeder.forget(&TopicPartition::new(changelog::topic_of(store), store.partition));
        }
    }

    fn close(&self) {
        self.queue.waiting.lock().closed = true;
        self.queue.changed.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that commits has panicked");
        }
        for (_, feeder) in self.feeders.lock().drain() {
            feeder.close();
        }
    }
}

impl Drop for KafkaSession {
    fn drop(&mut self) {
        self.close();
    }
}

struct Committer {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    owner: Owner,
    main: Arc<Feeder>,
    membership: Arc<Membership>,
    writer: Writer,
}

impl Committer {
    fn run(mut self) {
        // While the group is joined; what fails now is tried again with the first commit.
        if let Err(failure) = self.writer.open() {
            tracing::debug!("no producer yet: {}", failure.reason);
        }
        while let Some(taken) = self.next() {
            self.commit(taken);
        }
    }

    /// All commits that wait; `None` after the last one of a closed session.
    fn next(&self) -> Option<VecDeque<Handed>> {
        let mut waiting = self.queue.waiting.lock();
        while waiting.commits.is_empty() {
            if waiting.closed {
                return None;
            }
            self.queue.changed.wait(&mut waiting);
        }
        // What comes until then goes into the same transaction.
        if let Some(until) = self.writer.settled_at() {
            while !waiting.closed && !self.queue.changed.wait_until(&mut waiting, until).timed_out() {}
        }
        Some(std::mem::take(&mut waiting.commits))
    }

    fn commit(&mut self, taken: VecDeque<Handed>) {
        // First the member's generation, then whether the tenures still stand: so the generation is theirs.
        let _under_way = self.membership.commits();
        let members = MembersNow { owner: self.owner.clone(), feeder: self.main.clone(), member: self.main.member() };
        let (mut commits, mut told) = (Vec::with_capacity(taken.len()), Vec::with_capacity(taken.len()));
        for (tenure, commit, done) in taken {
            if !self.membership.is_now(tenure) {
                done(Err(TopicError::Unsent("the group gives its partitions anew".to_owned())));
                continue;
            }
            match Writer::check(&self.shared, &commit) {
                Ok(()) => {
                    commits.push(commit);
                    told.push(done);
                }
                Err(error) => done(Err(error)),
            }
        }
        if commits.is_empty() {
            return;
        }
        match self.writer.apply(&commits, &members) {
            Ok(receipts) => {
                told.into_iter().zip(receipts).for_each(|(done, receipt)| done(Ok(receipt)));
                commits.iter().for_each(|commit| self.shared.watchers.wake(&grown(commit)));
            }
            Err(error) => told.into_iter().for_each(|done| done(Err(error.clone()))),
        }
    }
}
