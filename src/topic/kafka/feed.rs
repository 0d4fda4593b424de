//! How queries read: one consumer, filled by one thread, into a bounded queue for each partition; a read never waits.
//!
//! Knows places, no tasks. A reader that asks for another place than the next one (after a restart) makes the thread assign anew; what was on
//! its way for that partition is dropped. The subtle thing: an input is at its end only when Kafka says so after the last record given out,
//! so "nothing there yet" and "nothing more" are told apart.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::Shared;
use super::budget::Reader;
use super::columns::Columns;
use super::failure::Failure;
use super::membership::Membership;
use super::native::{Consumer, Event, GroupMetadata};
use super::scan::without_empty_headers;
use crate::topic::{Fetched, Offset, Owner, RawBatch, ReadLimit, TopicError, TopicPartition};
use crate::types::TopicName;

/// How long the thread waits for records before it looks for new places.
const WAIT: Duration = Duration::from_millis(50);
/// Bytes that all partitions of a consumer hold, at most, however little of the budget others need; beyond it, or its share of the budget,
/// nothing more is taken while nobody starves.
const ALL_BYTES: usize = 6 << 20;
/// Bytes of a partition from which its fetching stops while others starve: so much at least, since what was fetched is lost by it.
const PAUSE_BYTES: usize = 1 << 20;
/// How long a member of a group may rest before it is heard of again.
const REST: Duration = Duration::from_millis(500);
/// One part in so many of that is left when its fetching goes on.
const RESUME: usize = 4;

#[derive(Default)]
struct Feed {
    chunks: VecDeque<RawBatch>,
    bytes: usize,
    /// what the reader will ask for
    next: Offset,
    /// what comes after the last chunk
    fetched: Offset,
    /// the end, reported after the last chunk
    end: Option<Offset>,
    /// where the end was when the last chunk came, at least
    high: Offset,
    /// the reader went elsewhere; what comes before the new assignment is stale
    moved: bool,
    paused: bool,
    failed: Option<TopicError>,
}

impl Feed {
    /// True if there is or may be something for the reader.
    fn is_behind(&self) -> bool {
        self.end.is_none() || !self.chunks.is_empty()
    }

    /// The end for a reader at `next`: beyond it while more may come.
    fn end_after(&self, next: Offset) -> Offset {
        match self.end {
            Some(end) if self.chunks.is_empty() => end.max(next),
            _ => self.high.max(next + 1),
        }
    }
}

#[derive(Default)]
struct Feeds {
    feeds: HashMap<TopicPartition, Feed>,
    assign: bool,
    closed: bool,
}

impl Feeds {
    /// True if the thread should rest until somebody reads. A member of a group must be heard of, so it never rests before it reads.
    fn is_full(&self, member: bool, budget: &Reader) -> bool {
        budget.note_behind(self.feeds.values().filter(|feed| feed.is_behind()).count());
        let limit = budget.waiting().saturating_mul(self.feeds.len()).min(ALL_BYTES);
        let bytes: usize = self.feeds.values().map(|f| f.bytes).sum();
        let starving = self.feeds.values().any(|f| f.chunks.is_empty() && f.end.is_none());
        (self.feeds.is_empty() && !member) || (bytes >= limit && !starving)
    }
}

/// The consumer of one group on this node.
pub(super) struct Feeder {
    shared: Arc<Shared>,
    consumer: Arc<Consumer>,
    budget: Reader,
    /// `None`: the group has no say, partitions are those that are read
    membership: Option<Arc<Membership>>,
    /// the group's name
    group: String,
    /// what it subscribed
    topics: Vec<TopicName>,
    feeds: Mutex<Feeds>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What one call of the consumer gave for a partition.
struct Taken {
    at: TopicPartition,
    columns: Columns,
    end: Option<Offset>,
    /// see [`Feed::high`]
    high: Option<Offset>,
    failed: Option<Failure>,
}

impl Feeder {
    /// A consumer of `owner`'s group, with its thread; with a membership it joins the group for `topics`.
    pub fn start(
        shared: &Arc<Shared>,
        owner: &Owner,
        membership: Option<(Arc<Membership>, &[TopicName])>,
    ) -> Result<Arc<Self>, TopicError> {
        let group = shared.admin.outer(&owner.0);
        let budget = shared.budget.reader();
        let config = shared.options.consumer(&group, budget.fetched());
        let rebalanced = membership.as_ref().map(|(membership, topics)| membership.rebalanced(shared, topics));
        let consumer = Consumer::new(&config, rebalanced).map_err(|f| f.of("read from Kafka"))?;
        if let Some((_, topics)) = &membership {
            let names: Vec<String> = topics.iter().map(|topic| shared.admin.outer(topic.as_str())).collect();
            consumer.subscribe(&names).map_err(|f| f.of("join a consumer group"))?;
        }
        let topics = membership.as_ref().map(|(_, topics)| topics.to_vec()).unwrap_or_default();
        let membership = membership.map(|(membership, _)| membership);
        let feeder = Arc::new(Self {
            shared: shared.clone(),
            consumer,
            budget,
            membership,
            group,
            topics,
            feeds: Mutex::default(),
            changed: Condvar::new(),
            thread: Mutex::default(),
        });
        let runner = feeder.clone();
        let thread = std::thread::Builder::new().name("kafka-read".to_owned()).spawn(move || runner.run());
        let thread = thread.map_err(|e| TopicError::Io { what: "start a thread".into(), reason: e.to_string() })?;
        *feeder.thread.lock() = Some(thread);
        Ok(feeder)
    }

    /// Ends the thread and leaves the group.
    pub fn close(&self) {
        self.feeds.lock().closed = true;
        self.changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            // It catches nothing and holds nothing that others wait for.
            let _ = thread.join();
        }
        self.consumer.close();
    }

    /// The member of the group that this consumer is.
    pub fn member(&self) -> Option<GroupMetadata> {
        self.consumer.group_metadata()
    }

    /// As the group's description names it.
    pub fn member_id(&self) -> Option<String> {
        self.consumer.member_id()
    }

    /// Reads this partition no more.
    pub fn forget(&self, at: &TopicPartition) {
        let mut feeds = self.feeds.lock();
        if feeds.feeds.remove(at).is_some() {
            feeds.assign = true;
            self.changed.notify_all();
        }
    }

    /// Commits offsets outside of a transaction.
    pub fn commit(&self, offsets: &TopicPartitionList) -> Result<(), Failure> {
        self.consumer.commit(offsets)
    }

    /// Bytes that wait for readers.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.feeds.lock().feeds.values().map(|feed| feed.bytes).sum()
    }

    /// See [`crate::topic::Session::read`].
    pub fn read(&self, at: &TopicPartition, from: Offset, limit: ReadLimit) -> Result<Fetched, TopicError> {
        let mut feeds = self.feeds.lock();
        let is_new = !feeds.feeds.contains_key(at);
        if is_new {
            drop(feeds);
            self.shared.admin.check(at)?;
            feeds = self.feeds.lock();
        }
        let feed = feeds.feeds.entry(at.clone()).or_default();
        if is_new || feed.next != from {
            *feed = Feed { next: from, fetched: from, moved: true, ..Feed::default() };
            feeds.assign = true;
            self.changed.notify_all();
            return Ok(Fetched { batch: RawBatch::empty(), next: from, end: from + 1 });
        }
        if let Some(error) = feed.failed.take() {
            return Err(error);
        }
        let Some(chunk) = feed.chunks.pop_front() else {
            let end = feed.end.map_or(from, |end| end.max(from));
            feed.next = end;
            feed.fetched = feed.fetched.max(end);
            return Ok(Fetched { batch: RawBatch::empty(), next: end, end: feed.end_after(end) });
        };
        // A task holds what it is given, and once more as columns, until it is through with it.
        let max_bytes = limit.max_bytes.min(self.budget.waiting());
        let rows = chunk.rows_within(0, limit.max_records.max(1), max_bytes, true);
        let batch = without_empty_headers(chunk.slice(0, rows));
        if rows < chunk.len() {
            feed.chunks.push_front(chunk.slice(rows, chunk.len() - rows));
        }
        feed.bytes = feed.bytes.saturating_sub(batch.byte_size());
        feed.next = batch.end().unwrap_or(from);
        let next = feed.next;
        let end = feed.end_after(next);
        drop(feeds);
        self.changed.notify_all();
        Ok(Fetched { batch, next, end })
    }

    fn run(&self) {
        loop {
            let mut feeds = self.feeds.lock();
            let member = self.membership.is_some();
            let mut rested = false;
            while !feeds.closed && !feeds.assign && !rested && feeds.is_full(member, &self.budget) {
                rested = self.changed.wait_for(&mut feeds, REST).timed_out() && member;
            }
            if feeds.closed {
                return;
            }
            if std::mem::take(&mut feeds.assign) {
                self.assign(&mut feeds);
            }
            self.balance(&mut feeds, rested);
            drop(feeds);
            let mut taken: Vec<Taken> = Vec::new();
            self.take(&mut taken);
            self.put(taken);
        }
    }

    fn assign(&self, feeds: &mut Feeds) {
        let mut list = TopicPartitionList::with_capacity(feeds.feeds.len());
        for (at, feed) in &mut feeds.feeds {
            if self.membership.as_ref().is_some_and(|membership| !membership.has(at)) {
                continue;
            }
            feed.moved = false;
            feed.paused = false;
            // The end is reported anew to an assignment.
            feed.end = None;
            let name = self.shared.admin.outer(at.topic.as_str());
            if let Err(error) = list.add_partition_offset(&name, at.partition, KafkaOffset::Offset(feed.fetched)) {
                feed.failed = Some(Failure::from(error).of_topic("read", &at.topic));
            }
        }
        // librdkafka keeps a partition paused over assignments, also over those of the group that came in between.
        self.consumer.pause(&list, false);
        if let Err(failure) = self.consumer.assign(&list) {
            let error = failure.of("read from Kafka");
            feeds.feeds.values_mut().for_each(|feed| feed.failed = Some(error.clone()));
        }
    }

    /// Stops fetching of partitions that hold much while others hold nothing, and starts it again.
    fn balance(&self, feeds: &mut Feeds, rested: bool) {
        let starving = rested || feeds.feeds.values().any(|f| f.chunks.is_empty() && f.end.is_none());
        let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
        let pause_bytes = self.budget.waiting().max(PAUSE_BYTES);
        for (at, feed) in &mut feeds.feeds {
            let limit = if rested { 1 } else { pause_bytes };
            // One at its end has nothing to fetch. And librdkafka counts the report of an end as a record where it notes from where a
            // partition that is paused then is read on: the next record would be passed over.
            if !feed.paused && feed.end.is_none() && feed.bytes >= limit && starving {
                feed.paused = true;
                pause.add_partition(&self.shared.admin.outer(at.topic.as_str()), at.partition);
            } else if feed.paused && feed.bytes < pause_bytes / RESUME {
                feed.paused = false;
                resume.add_partition(&self.shared.admin.outer(at.topic.as_str()), at.partition);
            }
        }
        for (list, stop) in [(pause, true), (resume, false)] {
            if list.count() > 0 {
                self.consumer.pause(&list, stop);
            }
        }
    }

    fn take(&self, taken: &mut Vec<Taken>) {
        let mut known: Vec<(usize, i32)> = Vec::new();
        let mut last = 0;
        self.consumer.consume(WAIT, &mut |event| {
            let (place, message) = match &event {
                Event::Message(place, message) => (place, Some(message)),
                Event::Sizes(place, _) | Event::End(place, _) | Event::Failed(place, _) => (place, None),
                Event::Group(code, words) => return self.note_group(*code, words),
            };
            if known.get(last) != Some(&place.id()) {
                last = known.iter().position(|id| *id == place.id()).unwrap_or_else(|| {
                    let topic = place.topic();
                    let topic = self.shared.admin.inner(&topic).map(TopicName::new).unwrap_or_else(|| topic.into());
                    let at = TopicPartition::new(topic, place.partition);
                    known.push(place.id());
                    taken.push(Taken { at, columns: Columns::default(), end: None, high: None, failed: None });
                    known.len() - 1
                });
            }
            let taken = &mut taken[last];
            match (message, &event) {
                (Some(message), _) => {
                    taken.columns.push(message);
                    taken.end = None;
                }
                (_, Event::Sizes(_, sizes)) => taken.columns = Columns::with_room(*sizes),
                (_, Event::End(_, offset)) => taken.end = Some(*offset),
                (_, Event::Failed(_, code)) => taken.failed = Some(Failure::from(*code)),
                (None, Event::Message(..) | Event::Group(..)) => {}
            }
        });
        for taken in taken.iter_mut().filter(|taken| taken.columns.len() > 0) {
            let name = self.shared.admin.outer(taken.at.topic.as_str());
            taken.high = self.consumer.last_end(&name, taken.at.partition);
        }
    }

    /// Tells the tasks what is wrong with the whole group, unless the client gets over it by itself.
    fn note_group(&self, code: RDKafkaErrorCode, words: &str) {
        let Some(membership) = &self.membership else { return };
        let mut failure = Failure::from(code);
        if !words.is_empty() {
            failure.reason = words.to_owned();
        }
        tracing::debug!(group = %self.group, "{}", failure.reason);
        if !super::admin::is_passing_in_group(&failure) {
            membership.note_trouble(None, failure.of_group(&self.group));
            self.shared.watchers.wake(&self.topics);
        }
    }

    /// A topic that may not be read is given to nobody, so what is wrong with it is kept for tasks that wait for it.
    fn note_topic(&self, topic: &TopicName, is_read: bool, failed: Option<&Failure>) {
        let Some(membership) = &self.membership else { return };
        match failed {
            Some(failure) if failure.is(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                membership.note_trouble(Some(topic.clone()), failure.clone().of_topic("read", topic));
            }
            _ if is_read => membership.note_read(topic),
            _ => {}
        }
    }

    fn put(&self, taken: Vec<Taken>) {
        let mut grown: Vec<TopicName> = Vec::new();
        let mut feeds = self.feeds.lock();
        if self.membership.as_ref().is_some_and(|membership| membership.take_change()) {
            // Whoever reads on says from where; who asked in between asks again.
            grown.extend(feeds.feeds.drain().map(|(at, _)| at.topic));
            feeds.assign = false;
            drop(feeds);
            return self.shared.watchers.wake(&grown);
        }
        for Taken { at, columns, end, high, failed } in taken {
            self.note_topic(&at.topic, columns.len() > 0, failed.as_ref());
            let Some(feed) = feeds.feeds.get_mut(&at).filter(|f| !f.moved) else { continue };
            if let Some(failure) = failed {
                if super::admin::is_passing(&failure) {
                    tracing::debug!("reading '{at}': {}", failure.reason);
                } else {
                    feed.failed = Some(failure.of_topic("read", &at.topic));
                }
            }
            if let Some(next) = columns.end() {
                feed.bytes += columns.bytes();
                feed.fetched = next;
                feed.end = None;
                feed.high = high.unwrap_or(feed.high);
                feed.chunks.push_back(columns.finish());
            }
            feed.end = end.or(feed.end);
            if !grown.contains(&at.topic) {
                grown.push(at.topic);
            }
        }
        drop(feeds);
        self.shared.watchers.wake(&grown);
    }
}
