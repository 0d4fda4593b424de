//! Reading a partition from a given place while the caller waits: commands, restores, `PRINT`, tests.
//!
//! Not how queries read (see [`super::feed`]). A reader is a consumer on one partition; a few are kept with their place, so that reading on
//! costs nothing new. The subtle thing: offsets between the last record and the end may be marks of transactions, so only the end that
//! Kafka reports says that nothing more will come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray};
use parking_lot::Mutex;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::KafkaOptions;
use super::admin::{ANSWER, Admin};
use super::columns::Columns;
use super::failure::Failure;
use super::native::{Consumer, Event};
use crate::topic::{Fetched, Offset, RawBatch, ReadLimit, TopicError, TopicPartition};

/// Readers that are kept.
const KEPT: usize = 4;
/// Bytes that a reader fetches ahead.
const FETCHED: usize = 3 << 20;

/// A reader and its place.
struct Scanner {
    consumer: Arc<Consumer>,
    at: Option<TopicPartition>,
    /// read but not given out
    rest: Vec<RawBatch>,
    next: Offset,
    /// the end that Kafka reported after the last record
    reached: Option<Offset>,
}

/// The readers.
#[derive(Default)]
pub(super) struct Scanners(Mutex<Vec<Scanner>>);

impl Scanners {
    /// See [`crate::topic::Log::read`].
    pub fn read(
        &self,
        options: &KafkaOptions,
        admin: &Admin,
        at: &TopicPartition,
        from: Offset,
        limit: ReadLimit,
    ) -> Result<Fetched, TopicError> {
        let bounds = admin.bounds(at)?;
        let from = from.max(bounds.start);
        if from >= bounds.end {
            return Ok(Fetched { batch: RawBatch::empty(), next: from, end: bounds.end });
        }
        let mut scanner = self.take(options, at, from)?;
        let read = scanner.read(admin, at, from, bounds.end, limit);
        if read.is_ok() {
            let mut kept = self.0.lock();
            kept.push(scanner);
            if kept.len() > KEPT {
                let oldest = kept.remove(0);
                drop(kept);
                drop(oldest);
            }
        }
        read
    }

    /// Forgets all places, since a topic may have been deleted.
    pub fn forget(&self) {
        self.0.lock().iter_mut().for_each(|scanner| {
            if scanner.at.take().is_some()
                && let Err(failure) = scanner.consumer.assign(&TopicPartitionList::new())
            {
                tracing::debug!("a reader keeps its place: {}", failure.reason);
            }
            scanner.rest.clear();
        });
    }

    fn take(&self, options: &KafkaOptions, at: &TopicPartition, from: Offset) -> Result<Scanner, TopicError> {
        let mut kept = self.0.lock();
        let there = kept.iter().position(|s| s.at.as_ref() == Some(at) && s.next == from);
        if let Some(found) = there {
            return Ok(kept.remove(found));
        }
        if kept.len() >= KEPT {
            return Ok(kept.remove(0));
        }
        drop(kept);
        let group = format!("{}riverrun-reader", options.namespace);
        let mut config = options.consumer(&group, FETCHED);
        config.set("fetch.wait.max.ms", "10");
        let consumer = Consumer::new(&config, None).map_err(|f| f.of("read from Kafka"))?;
        Ok(Scanner { consumer, at: None, rest: Vec::new(), next: 0, reached: None })
    }
}

impl Scanner {
    fn read(
        &mut self,
        admin: &Admin,
        at: &TopicPartition,
        from: Offset,
        end: Offset,
        limit: ReadLimit,
    ) -> Result<Fetched, TopicError> {
        if self.at.as_ref() != Some(at) || self.next != from {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&admin.outer(at.topic.as_str()), at.partition, KafkaOffset::Offset(from))
                .map(|()| self.consumer.assign(&list))
                .map_err(|e| Failure::from(e).of("read from Kafka"))?
                .map_err(|f| f.of_topic("read", &at.topic))?;
            self.at = Some(at.clone());
            self.rest.clear();
            self.reached = None;
            self.next = from;
        }
        if self.rest.is_empty()
            && let Some(reached) = self.fetch(at, end)?
        {
            self.next = reached;
            return Ok(Fetched { batch: RawBatch::empty(), next: reached.max(from), end: end.max(reached) });
        }
        let all = std::mem::take(&mut self.rest);
        let batch = RawBatch::concat(&all)?;
        let rows = batch.rows_within(0, limit.max_records.max(1), limit.max_bytes, true);
        let given = without_empty_headers(batch.slice(0, rows));
        if rows < batch.len() {
            self.rest = vec![batch.slice(rows, batch.len() - rows)];
        }
        self.next = given.end().unwrap_or(from);
        Ok(Fetched { batch: given, next: self.next, end: end.max(self.next) })
    }

    /// Waits for records; gives the end if there are none before it.
    fn fetch(&mut self, at: &TopicPartition, end: Offset) -> Result<Option<Offset>, TopicError> {
        let deadline = Instant::now() + ANSWER;
        loop {
            if let Some(reached) = self.reached.filter(|reached| *reached >= end) {
                return Ok(Some(reached));
            }
            let (mut columns, mut failed) = (Columns::default(), None);
            let reached = &mut self.reached;
            self.consumer.consume(Duration::from_millis(100), &mut |event| match event {
                Event::Sizes(_, sizes) => columns = Columns::with_room(sizes),
                Event::Message(_, message) => {
                    columns.push(&message);
                    *reached = None;
                }
                Event::End(_, offset) => *reached = Some(offset),
                Event::Failed(_, code) => failed = Some(Failure::from(code)),
                // Nobody joins a group here.
                Event::Group(..) => {}
            });
            if columns.len() > 0 {
                self.rest.push(columns.finish());
                return Ok(None);
            }
            match failed {
                Some(failure) if !super::admin::is_passing(&failure) => {
                    return Err(failure.of_topic("read", &at.topic));
                }
                _ if Instant::now() > deadline => {
                    let reason = format!("no records within {} s, though there are some", ANSWER.as_secs());
                    return Err(TopicError::Io { what: format!("read '{at}'"), reason });
                }
                _ => {}
            }
        }
    }
}

/// A batch says by a missing column that no record of it has headers.
pub(super) fn without_empty_headers(mut batch: RawBatch) -> RawBatch {
    let none = |headers: &ArrayRef| {
        let ends = headers.as_list::<i32>().value_offsets();
        ends.first() == ends.last()
    };
    if batch.headers.as_ref().is_some_and(none) {
        batch.headers = None;
    }
    batch
}
