//! The writing side: one producer, and commits put into its transactions.
//!
//! Knows records and offsets, no tasks. [`Writer::apply`] puts several commits into one transaction, or without transactions makes outputs
//! durable before positions. The subtle thing: after a failure nobody knows whether the transaction is there; the answer is that it failed,
//! and who asks for positions afterwards learns the truth, since Kafka answers only when it is decided.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::Shared;
use super::changelog;
use super::columns::time_to_kafka;
use super::failure::Failure;
use super::native::{self, GroupMetadata};
use crate::topic::changelog_block::Block;
use crate::topic::{Append, Commit, NO_TIMESTAMP, Owner, Position, Receipt, TopicError, TopicPartition};

/// How long a step of a transaction may take before it has failed.
const STEP: Duration = Duration::from_secs(30);
/// How long an abort is waited for before reports are taken.
const ABORT_TRY: Duration = Duration::from_millis(500);
/// After how many records delivery reports are looked at.
const POLL_EVERY: usize = 2048;

/// What became of records.
#[derive(Default)]
struct Delivered {
    /// offsets of the records that were marked
    offsets: Mutex<HashMap<usize, i64>>,
    failure: Mutex<Option<Failure>>,
    failures: AtomicUsize,
}

/// Hears of deliveries. A record's mark is 0 for those whose offset nobody wants.
pub(super) struct Deliveries(Arc<Delivered>);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        super::log_line(level as i32, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("kafka: {error}: {reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, mark: usize) {
        match result {
            Ok(message) if mark != 0 => {
                self.0.offsets.lock().insert(mark, message.offset());
            }
            Ok(_) => {}
            Err((error, _)) => {
                self.0.failures.fetch_add(1, Ordering::Relaxed);
                self.0.failure.lock().get_or_insert_with(|| Failure::from(error.clone()));
            }
        }
    }
}

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
    producer: Option<BaseProducer<Deliveries>>,
    delivered: Arc<Delivered>,
    marks: usize,
}

/// Marks of a commit's records whose offsets are wanted.
struct Marks {
    outputs: Vec<Option<usize>>,
    blocks: Vec<Option<usize>>,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, transactional: Option<String>) -> Self {
        Self { shared, transactional, producer: None, delivered: Arc::default(), marks: 0 }
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
        let done = self.try_apply(commits, members);
        if let Err((failure, in_transaction)) = done {
            let fatal = failure.fatal || !in_transaction || self.transactional.is_none() || !self.abort();
            if fatal {
                // A new producer of the same name ends what the old one left.
                self.producer = None;
            }
            self.shared.admin.forget_known();
            return Err(TopicError::Aborted(failure.reason));
        }
        done.map_err(|(failure, _)| TopicError::Aborted(failure.reason))
    }

    fn abort(&self) -> bool {
        let Some(producer) = &self.producer else { return false };
        let deadline = Instant::now() + STEP;
        loop {
            match producer.abort_transaction(ABORT_TRY).map_err(Failure::from) {
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
        let Some(producer) = self.producer.take() else { return Err(before(Failure::said("no producer".into()))) };
        self.delivered.offsets.lock().clear();
        *self.delivered.failure.lock() = None;
        if self.transactional.is_some()
            && let Err(error) = producer.begin_transaction()
        {
            return Err(before(error.into()));
        }
        let sent = self.send_all(&producer, commits);
        let transactional = self.transactional.is_some();
        let done = sent.and_then(|marks| {
            if !transactional {
                flush(&producer, &self.delivered)?;
            }
            self.positions(&producer, commits, members)?;
            if transactional {
                finish(&producer, &self.delivered)?;
            }
            Ok(marks)
        });
        self.producer = Some(producer);
        let marks = done.map_err(|failure| (failure, true))?;
        let offsets = self.delivered.offsets.lock();
        let offset = |mark: &Option<usize>| mark.and_then(|m| offsets.get(&m).copied()).unwrap_or_default();
        Ok(marks
            .iter()
            .map(|marks| Receipt {
                base_offsets: marks.outputs.iter().map(offset).collect(),
                block_numbers: marks.blocks.iter().map(|m| offset(m).max(0) as u64).collect(),
            })
            .collect())
    }

    fn open(&mut self) -> Result<(), Failure> {
        if self.producer.is_some() {
            return Ok(());
        }
        let config = self.shared.options.producer(self.transactional.as_deref());
        let producer: BaseProducer<Deliveries> = config.create_with_context(Deliveries(self.delivered.clone()))?;
        if self.transactional.is_some() {
            again(|| producer.init_transactions(STEP))?;
        }
        self.producer = Some(producer);
        Ok(())
    }

    fn mark(&mut self) -> usize {
        self.marks += 1;
        self.marks
    }

    fn send_all(&mut self, producer: &BaseProducer<Deliveries>, commits: &[Commit]) -> Result<Vec<Marks>, Failure> {
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
                for (i, (key, row)) in block.iter().enumerate() {
                    let mark = mark.filter(|_| i + 1 == block.len()).unwrap_or(0);
                    let mut record: BaseRecord<'_, [u8], [u8], usize> =
                        BaseRecord::with_opaque_to(&topic, mark).partition(store.partition).key(key);
                    record.payload = row;
                    send(producer, record.timestamp(now_ms))?;
                    if i % POLL_EVERY == POLL_EVERY - 1 {
                        producer.poll(Duration::ZERO);
                    }
                }
                blocks.push(mark);
            }
            marks.push(Marks { outputs, blocks });
        }
        Ok(marks)
    }

    fn send_output(
        &self,
        producer: &BaseProducer<Deliveries>,
        output: &Append,
        mark: Option<usize>,
        now_ms: i64,
    ) -> Result<(), Failure> {
        let topic = self.shared.admin.outer(output.to.topic.as_str());
        for row in 0..output.timestamps.len() {
            let mark = mark.filter(|_| row == 0).unwrap_or(0);
            let time = match output.timestamps[row] {
                NO_TIMESTAMP => now_ms,
                time => time,
            };
            let mut record: BaseRecord<'_, [u8], [u8], usize> =
                BaseRecord::with_opaque_to(&topic, mark).partition(output.to.partition).timestamp(time_to_kafka(time));
            record.key = output.keys.is_valid(row).then(|| output.keys.value(row));
            record.payload = output.values.is_valid(row).then(|| output.values.value(row));
            record.headers = output.headers.as_ref().and_then(|h| headers_of(h.as_ref(), row));
            send(producer, record)?;
            if row % POLL_EVERY == POLL_EVERY - 1 {
                producer.poll(Duration::ZERO);
            }
        }
        Ok(())
    }

    fn positions(
        &self,
        producer: &BaseProducer<Deliveries>,
        commits: &[Commit],
        members: &dyn Members,
    ) -> Result<(), Failure> {
        let mut by_owner: BTreeMap<&Owner, BTreeMap<&TopicPartition, Position>> = BTreeMap::new();
        for (owner, at, position) in commits.iter().flat_map(|c| &c.positions) {
            by_owner.entry(owner).or_default().insert(at, *position);
        }
        for (owner, positions) in by_owner {
            let positions: Vec<_> = positions.into_iter().map(|(at, position)| (at.clone(), position)).collect();
            let list = self.shared.admin.offsets(&positions).map_err(|e| Failure::said(e.to_string()))?;
            if self.transactional.is_none() {
                members.commit(owner, &list).unwrap_or_else(|| self.shared.commit_plainly(owner, &list))?;
                continue;
            }
            let group = self.shared.admin.outer(&owner.0);
            let nobody = GroupMetadata::of_group(&group);
            let member = members.member(owner).or(nobody.as_ref());
            let member = member.ok_or_else(|| Failure::said(format!("'{group}' names no group")))?;
            let deadline = Instant::now() + STEP;
            loop {
                match native::send_offsets(producer.client().native_ptr(), &list, member, STEP) {
                    Ok(()) => break,
                    Err(failure) if failure.retriable && Instant::now() < deadline => {}
                    Err(failure) => return Err(failure),
                }
            }
        }
        Ok(())
    }
}

/// Waits until all records are with Kafka.
fn flush(producer: &BaseProducer<Deliveries>, delivered: &Delivered) -> Result<(), Failure> {
    producer.flush(STEP)?;
    delivered.failure.lock().take().map_or(Ok(()), Err)
}

fn finish(producer: &BaseProducer<Deliveries>, delivered: &Delivered) -> Result<(), Failure> {
    flush(producer, delivered)?;
    again(|| producer.commit_transaction(STEP))
}

/// Calls until it works, fails for good, or takes too long.
fn again(call: impl Fn() -> Result<(), KafkaError>) -> Result<(), Failure> {
    let deadline = Instant::now() + STEP;
    loop {
        match call().map_err(Failure::from) {
            Err(failure) if failure.retriable && Instant::now() < deadline => {}
            done => return done,
        }
    }
}

fn send(producer: &BaseProducer<Deliveries>, record: BaseRecord<'_, [u8], [u8], usize>) -> Result<(), Failure> {
    let deadline = Instant::now() + STEP;
    let mut record = record;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((error, back)) => {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) || Instant::now() > deadline {
                    return Err(error.into());
                }
                producer.poll(Duration::from_millis(5));
                record = back;
            }
        }
    }
}

fn headers_of(headers: &dyn Array, row: usize) -> Option<OwnedHeaders> {
    let lists = headers.as_list::<i32>();
    if lists.is_null(row) || lists.value_length(row) == 0 {
        return None;
    }
    let all = lists.value(row);
    let all = all.as_struct();
    let (keys, values) = (all.column(0).as_string::<i32>(), all.column(1).as_binary::<i32>());
    let mut owned = OwnedHeaders::new_with_capacity(keys.len());
    for i in 0..keys.len() {
        let key = if keys.is_null(i) { "" } else { keys.value(i) };
        owned = owned.insert(Header { key, value: values.is_valid(i).then(|| values.value(i)) });
    }
    Some(owned)
}
