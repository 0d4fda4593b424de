//! The writing side: one producer, and commits put into its transactions.
//!
//! Knows records and offsets, no tasks. [`Writer::apply`] puts several commits into one transaction, or without transactions makes outputs
//! durable before positions. The subtle thing: after a failure nobody knows whether the transaction is there; the answer is that it failed,
//! and who asks for positions afterwards learns the truth, since Kafka answers only when it is decided.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use rdkafka::TopicPartitionList;
use rdkafka::error::RDKafkaErrorCode;

use super::changelog;
use super::columns::time_to_kafka;
use super::failure::Failure;
use super::native::{GroupMetadata, Outgoing, Producer};
use super::settling::Settling;
use super::{KafkaOptions, Shared};
use crate::topic::changelog_block::Block;
use crate::topic::{Append, Commit, NO_TIMESTAMP, Owner, Position, Receipt, TopicError, TopicPartition};

/// How long a step of a transaction may take before it has failed.
const STEP: Duration = Duration::from_secs(30);
/// How long a broker is waited for before the first record is handed over, which waits on.
const GREETING: Duration = Duration::from_millis(500);
/// How long an abort is waited for before reports are taken.
const ABORT_TRY: Duration = Duration::from_millis(500);

/// Whose offsets are committed: the group's member on this node where there is one.
pub(super) trait Members {
    /// The member.
    fn member(&self, owner: &Owner) -> Option<&GroupMetadata>;

    /// Commits offsets as the member, outside of a transaction; `None` if there is none.
    fn commit(&self, owner: &Owner, offsets: &TopicPartitionList) -> Option<Result<(), Failure>>;
}

/// No group has a member on this node.
pub(super) struct NoMembers;

impl Members for NoMembers {
    fn member(&self, _: &Owner) -> Option<&GroupMetadata> {
        None
    }

    fn commit(&self, _: &Owner, _: &TopicPartitionList) -> Option<Result<(), Failure>> {
        None
    }
}

/// A producer, made when it is first needed and again after it broke.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// `None`: without transactions
    transactional: Option<String>,
    producer: Option<Producer>,
    marks: usize,
    settling: Settling,
}

/// Marks of a commit's records whose offsets are wanted.
struct Marks {
    outputs: Vec<Option<usize>>,
    blocks: Vec<Option<usize>>,
}

impl Marks {
    fn receipt(&self, producer: &Producer) -> Receipt {
        let offset = |mark: &Option<usize>| mark.and_then(|m| producer.offset(m)).unwrap_or_default();
        Receipt {
            base_offsets: self.outputs.iter().map(offset).collect(),
            block_numbers: self.blocks.iter().map(|m| offset(m).max(0) as u64).collect(),
        }
    }
}

impl Writer {
    pub fn new(shared: Arc<Shared>, transactional: Option<String>) -> Self {
        Self { shared, transactional, producer: None, marks: 0, settling: Settling::new() }
    }

    /// When the next commits may be applied, so that they need not wait for the last ones; `None`: at once.
    pub fn settled_at(&self) -> Option<Instant> {
        self.settling.until()
    }

    /// Fails if the commit asks for something that is not there. To be called before it is put among others.
    pub fn check(shared: &Shared, commit: &Commit) -> Result<(), TopicError> {
        for output in &commit.outputs {
            shared.admin.check(&output.to)?;
            output.check()?;
        }
        for (store, bytes) in &commit.blocks {
            shared.ensure_changelog(store, store.partition + 1)?;
            Block::open(bytes)?;
        }
        for (_, at, position) in &commit.positions {
            shared.admin.check(at)?;
            if position.offset < 0 {
                return Err(TopicError::Invalid(format!("position {} in '{at}' is negative", position.offset)));
            }
        }
        Ok(())
    }

    /// Applies checked commits together.
    pub fn apply(&mut self, commits: &[Commit], members: &dyn Members) -> Result<Vec<Receipt>, TopicError> {
        let is_known = self.producer.is_some();
        let mut done = self.apply_once(commits, members);
        // A producer may know a topic as it was before it was made anew; nothing is written then, and another one asks.
        if is_known && done.as_ref().is_err_and(is_outdated) {
            self.producer = None;
            done = self.apply_once(commits, members);
        }
        done.map_err(|failure| TopicError::Aborted(failure.reason))
    }

    /// After a failure nothing is left of it, or a new producer ends what is.
    fn apply_once(&mut self, commits: &[Commit], members: &dyn Members) -> Result<Vec<Receipt>, Failure> {
        self.try_apply(commits, members).map_err(|(failure, in_transaction)| {
            let fatal = failure.fatal || !in_transaction || self.transactional.is_none() || !self.abort();
            if fatal {
                // A new producer of the same name ends what the old one left.
                self.producer = None;
            }
            self.shared.admin.forget_known();
            failure
        })
    }

    fn abort(&self) -> bool {
        let Some(producer) = &self.producer else { return false };
        let deadline = Instant::now() + STEP;
        loop {
            match producer.abort(ABORT_TRY) {
                Ok(()) => return true,
                // It waits for reports of deliveries, which somebody must take.
                Err(failure) if failure.retriable && Instant::now() < deadline => {
                    producer.poll(Duration::from_millis(20));
                }
                Err(failure) => {
                    tracing::debug!("a transaction cannot be aborted: {}", failure.reason);
                    return false;
                }
            }
        }
    }

    /// The failure tells whether a transaction was open.
    fn try_apply(&mut self, commits: &[Commit], members: &dyn Members) -> Result<Vec<Receipt>, (Failure, bool)> {
        let before = |e: Failure| (e, false);
        self.open().map_err(before)?;
        let Some(mut producer) = self.producer.take() else { return Err(before(Failure::said("no producer".into()))) };
        producer.forget_reports();
        let transactional = self.transactional.is_some();
        if transactional {
            producer.begin().map_err(before)?;
        }
        let done = self.send_all(&mut producer, commits).and_then(|marks| {
            if !transactional {
                producer.flush(STEP)?;
            }
            self.positions(&producer, commits, members)?;
            if transactional {
                again(|| producer.commit(STEP))?;
                self.settling.committed();
                // What was lost makes the commit fail; this only makes sure.
                producer.flush(STEP)?;
            }
            Ok(marks)
        });
        producer.rest();
        let receipts = done.map(|marks| marks.iter().map(|marks| marks.receipt(&producer)).collect());
        self.producer = Some(producer);
        receipts.map_err(|failure| (failure, true))
    }

    /// Ends what a producer of this name began, whoever it is.
    pub fn end_others(options: &KafkaOptions, name: &str) -> Result<(), Failure> {
        let producer = Producer::new(&options.producer(Some(name)), None)?;
        again(|| producer.init_transactions(STEP))
    }

    /// Makes the producer, if there is none.
    pub fn open(&mut self) -> Result<(), Failure> {
        if self.producer.is_some() {
            return Ok(());
        }
        let config = self.shared.options.producer(self.transactional.as_deref());
        let producer = Producer::new(&config, Some(self.shared.budget.writer()))?;
        if self.transactional.is_some() {
            again(|| producer.init_transactions(STEP))?;
        } else {
            producer.greet(GREETING);
        }
        self.producer = Some(producer);
        Ok(())
    }

    fn mark(&mut self) -> usize {
        self.marks += 1;
        self.marks
    }

    fn send_all(&mut self, producer: &mut Producer, commits: &[Commit]) -> Result<Vec<Marks>, Failure> {
        let now_ms = self.shared.clock.now_ms();
        let mut marks = Vec::with_capacity(commits.len());
        for commit in commits {
            let mut outputs = Vec::with_capacity(commit.outputs.len());
            for output in &commit.outputs {
                let mark = (!output.timestamps.is_empty()).then(|| self.mark());
                self.send_output(producer, output, mark, now_ms)?;
                outputs.push(mark);
            }
            let mut blocks = Vec::with_capacity(commit.blocks.len());
            for (store, bytes) in &commit.blocks {
                let block = Block::open(bytes).map_err(|e| Failure::said(e.to_string()))?;
                let mark = (!block.is_empty()).then(|| self.mark());
                let topic = self.shared.admin.outer(changelog::topic_of(store).as_str());
                producer.send_now(&topic, store.partition, block.iter(), mark.unwrap_or(0), STEP)?;
                blocks.push(mark);
            }
            marks.push(Marks { outputs, blocks });
        }
        Ok(marks)
    }

    fn send_output(
        &self,
        producer: &mut Producer,
        output: &Append,
        mark: Option<usize>,
        now_ms: i64,
    ) -> Result<(), Failure> {
        let topic = self.shared.admin.outer(output.to.topic.as_str());
        let record = |row: usize| {
            let time = match output.timestamps[row] {
                NO_TIMESTAMP => now_ms,
                time => time,
            };
            Outgoing {
                key: output.keys.is_valid(row).then(|| output.keys.value(row)),
                value: output.values.is_valid(row).then(|| output.values.value(row)),
                timestamp: time_to_kafka(time),
                headers: output.headers.as_ref().map(|h| headers_of(h.as_ref(), row)).unwrap_or_default(),
                mark: mark.filter(|_| row == 0).unwrap_or(0),
            }
        };
        producer.send(&topic, output.to.partition, (0..output.timestamps.len()).map(record), STEP)
    }

    fn positions(&mut self, producer: &Producer, commits: &[Commit], members: &dyn Members) -> Result<(), Failure> {
        let mut by_owner: BTreeMap<&Owner, BTreeMap<&TopicPartition, Position>> = BTreeMap::new();
        for (owner, at, position) in commits.iter().flat_map(|c| &c.positions) {
            by_owner.entry(owner).or_default().insert(at, *position);
        }
        for (owner, positions) in by_owner {
            let positions: Vec<_> = positions.into_iter().map(|(at, position)| (at.clone(), position)).collect();
            // A group's transactions are of one name a node: who finds an offset undecided learns whose it is.
            let node = members.member(owner).map_or("", |_| self.shared.node.as_str());
            let list = self.shared.admin.offsets(&positions, node).map_err(|e| Failure::said(e.to_string()))?;
            if self.transactional.is_none() {
                members.commit(owner, &list).unwrap_or_else(|| self.shared.admin.set_offsets(owner, &list))?;
                continue;
            }
            let group = self.shared.admin.outer(&owner.0);
            let nobody = GroupMetadata::of_group(&group);
            let member = members.member(owner).or(nobody.as_ref());
            let member = member.ok_or_else(|| Failure::said(format!("'{group}' names no group")))?;
            let asked = Instant::now();
            let deadline = asked + STEP;
            loop {
                match producer.send_offsets(&list, member, STEP) {
                    Ok(()) => break self.settling.answered(asked.elapsed()),
                    Err(failure) if failure.retriable && Instant::now() < deadline => {}
                    Err(failure) => return Err(failure),
                }
            }
        }
        Ok(())
    }
}

/// True if a record was refused because the producer does not know of its partition.
fn is_outdated(failure: &Failure) -> bool {
    failure.is(RDKafkaErrorCode::UnknownPartition)
}

/// Calls until it works, fails for good, or takes too long.
fn again(call: impl Fn() -> Result<(), Failure>) -> Result<(), Failure> {
    let deadline = Instant::now() + STEP;
    loop {
        match call() {
            Err(failure) if failure.retriable && Instant::now() < deadline => {}
            done => return done,
        }
    }
}

fn headers_of(headers: &dyn Array, row: usize) -> Vec<(&str, Option<&[u8]>)> {
    let lists = headers.as_list::<i32>();
    if lists.is_null(row) {
        return Vec::new();
    }
    let all = lists.values().as_struct();
    let (keys, values) = (all.column(0).as_string::<i32>(), all.column(1).as_binary::<i32>());
    let ends = lists.value_offsets();
    let header = |i: usize| {
        let key = if keys.is_null(i) { "" } else { keys.value(i) };
        (key, values.is_valid(i).then(|| values.value(i)))
    };
    (ends[row] as usize..ends[row + 1] as usize).map(header).collect()
}
