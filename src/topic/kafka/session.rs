//! A query on this node: its consumers, its producer, and the thread that commits for its tasks.
//!
//! Tasks hand over commits and go on; the thread puts all that wait into one transaction. The subtle thing: a query's transactions
//! are its own, so what goes wrong in one harms no other query, and in a failed one every commit has failed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::feed::Feeder;
use super::native::GroupMetadata;
use super::writer::Writer;
use super::{Shared, grown};
use crate::topic::{Commit, CommitDone, Fetched, Offset, Owner, Pace, ReadLimit, Session, TopicError, TopicPartition};

/// Time between commits under load, in ms.
const INTERVAL_MS: i64 = 100;
/// Time between commits when inputs are drained, in ms.
const DRAINED_MS: i64 = 20;

#[derive(Default)]
struct Waiting {
    commits: VecDeque<(Commit, CommitDone)>,
    closed: bool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

type Feeders = Mutex<HashMap<Owner, Arc<Feeder>>>;

/// A query on this node.
pub(super) struct KafkaSession {
    shared: Arc<Shared>,
    feeders: Arc<Feeders>,
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl KafkaSession {
    pub fn open(shared: &Arc<Shared>, owner: &Owner) -> Result<Self, TopicError> {
        let (queue, feeders) = (Arc::<Queue>::default(), Arc::<Feeders>::default());
        let name = shared.admin.outer(&format!("{}-{}", owner.0, shared.node));
        let writer = Writer::new(shared.clone(), shared.options.exactly_once.then_some(name));
        let committer = Committer { shared: shared.clone(), queue: queue.clone(), feeders: feeders.clone(), writer };
        let thread = std::thread::Builder::new().name("kafka-commit".to_owned()).spawn(move || committer.run());
        let thread = thread.map_err(|e| TopicError::Io { what: "start a thread".into(), reason: e.to_string() })?;
        Ok(Self { shared: shared.clone(), feeders, queue, thread: Mutex::new(Some(thread)) })
    }

    fn feeder(&self, owner: &Owner) -> Result<Arc<Feeder>, TopicError> {
        let mut feeders = self.feeders.lock();
        if let Some(feeder) = feeders.get(owner) {
            return Ok(feeder.clone());
        }
        let feeder = Feeder::start(&self.shared, owner)?;
        feeders.insert(owner.clone(), feeder.clone());
        Ok(feeder)
    }
}

impl Session for KafkaSession {
    fn read(&self, owner: &Owner, at: &TopicPartition, from: Offset, limit: ReadLimit) -> Result<Fetched, TopicError> {
        self.feeder(owner)?.read(at, from, limit)
    }

    fn commit(&self, commit: Commit, done: CommitDone) {
        let mut waiting = self.queue.waiting.lock();
        if waiting.closed {
            drop(waiting);
            return done(Err(TopicError::Aborted("the query is stopped".to_owned())));
        }
        waiting.commits.push_back((commit, done));
        drop(waiting);
        self.queue.changed.notify_all();
    }

    fn pace(&self) -> Pace {
        Pace { interval_ms: INTERVAL_MS, drained_ms: DRAINED_MS }
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
    feeders: Arc<Feeders>,
    writer: Writer,
}

impl Committer {
    fn run(mut self) {
        while let Some(taken) = self.next() {
            self.commit(taken);
        }
    }

    /// All commits that wait; `None` after the last one of a closed session.
    fn next(&self) -> Option<VecDeque<(Commit, CommitDone)>> {
        let mut waiting = self.queue.waiting.lock();
        while waiting.commits.is_empty() {
            if waiting.closed {
                return None;
            }
            self.queue.changed.wait(&mut waiting);
        }
        Some(std::mem::take(&mut waiting.commits))
    }

    fn commit(&mut self, taken: VecDeque<(Commit, CommitDone)>) {
        let (mut commits, mut told) = (Vec::with_capacity(taken.len()), Vec::with_capacity(taken.len()));
        for (commit, done) in taken {
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
        let feeders = self.feeders.clone();
        let member = |owner: &Owner| -> Option<GroupMetadata> { feeders.lock().get(owner)?.member() };
        match self.writer.apply(&commits, &member) {
            Ok(receipts) => {
                told.into_iter().zip(receipts).for_each(|(done, receipt)| done(Ok(receipt)));
                commits.iter().for_each(|commit| self.shared.watchers.wake(&grown(commit)));
            }
            Err(error) => told.into_iter().for_each(|done| done(Err(error.clone()))),
        }
    }
}
