//! The calls of librdkafka that `rdkafka` has no safe form of: batches of messages, offsets of any group, offsets in a transaction.
//!
//! The only file with `unsafe` of this room, with the file of its producer below it. Why it is sound: each pointer that librdkafka gives is owned by one value here and destroyed
//! once, in its `Drop`; a message lives from the batch call to the end of its visit at least and nothing borrows from it longer; a lock makes sure
//! that one thread at a time takes batches from a consumer's queue, which librdkafka demands. All other calls may come from any thread.

#![allow(unsafe_code)]

mod producer;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::bindings as rd;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::failure::Failure;
pub(super) use producer::{Outgoing, Producer};

/// Most messages taken by one call.
const BATCH: usize = 8192;
const ERROR_BYTES: usize = 512;

/// A place in a topic, as librdkafka names it while a batch is visited.
#[derive(Clone, Copy)]
pub(super) struct Place {
    topic: NonNull<rd::rd_kafka_topic_t>,
    /// the partition
    pub partition: i32,
}

impl Place {
    /// Equal for messages of one topic partition of one consumer.
    pub fn id(&self) -> (usize, i32) {
        (self.topic.as_ptr() as usize, self.partition)
    }

    /// The topic's name.
    pub fn topic(&self) -> String {
        // SAFETY: the name belongs to the topic, which the message that is being visited holds.
        unsafe { CStr::from_ptr(rd::rd_kafka_topic_name(self.topic.as_ptr())) }.to_string_lossy().into_owned()
    }
}

/// A message while it is visited.
pub(super) struct Message<'a>(&'a rd::rd_kafka_message_t);

impl<'a> Message<'a> {
    pub fn offset(&self) -> i64 {
        self.0.offset
    }

    /// In ms; −1 if the record has none.
    pub fn timestamp(&self) -> i64 {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, `kind` is written before the call returns.
        unsafe { rd::rd_kafka_message_timestamp(self.0, &mut kind) }
    }

    pub fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka gives pointer and length of one buffer that lives as long as the message.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    pub fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: as for the key.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    /// Calls `visit` with name and value of each header.
    pub fn headers(&self, visit: &mut dyn FnMut(&[u8], Option<&[u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the headers belong to the message; names and values live as long as they do.
        unsafe {
            if rd::rd_kafka_message_headers(self.0, &mut headers) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            let mut index = 0;
            while rd::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size)
                == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                visit(CStr::from_ptr(name).to_bytes(), bytes(value, size));
                index += 1;
            }
        }
    }
}

/// # Safety
/// `start` is null or points to `len` bytes that live for `'a`.
unsafe fn bytes<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) })
}

/// How large records are together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    /// their number
    pub records: usize,
    /// bytes of their keys
    pub keys: usize,
    /// bytes of their values
    pub values: usize,
}

/// What a consumer's queue gives.
pub(super) enum Event<'a> {
    /// so much of a place comes now
    Sizes(Place, Sizes),
    /// a record
    Message(Place, Message<'a>),
    /// all that is committed before this offset was given
    End(Place, i64),
    /// something is wrong with a partition
    Failed(Place, RDKafkaErrorCode),
    /// something is wrong with the whole group; the client's words
    Group(RDKafkaErrorCode, &'a str),
}

/// What the group's coordinator says.
pub(super) type Rebalanced = Box<dyn Fn(&Consumer, bool, &TopicPartitionList) + Send + Sync>;

/// The box that librdkafka hands back at a rebalance.
struct Opaque {
    rebalanced: Option<Rebalanced>,
    consumer: Mutex<Option<NonNull<Consumer>>>,
}

/// A consumer of messages.
pub(super) struct Consumer {
    rk: NonNull<rd::rd_kafka_t>,
    queue: NonNull<rd::rd_kafka_queue_t>,
    batch: Mutex<Vec<*mut rd::rd_kafka_message_t>>,
    opaque: NonNull<Opaque>,
}

// SAFETY: librdkafka's handles may be used by any thread; the queue's batch call is behind the lock of `batch`, whose pointers are null
// between calls.
unsafe impl Send for Consumer {}
// SAFETY: as above.
unsafe impl Sync for Consumer {}

impl Consumer {
    /// A consumer that is told its partitions by [`Self::assign`]; with `rebalanced`, one that may subscribe as well.
    pub fn new(config: &ClientConfig, rebalanced: Option<Rebalanced>) -> Result<Arc<Self>, Failure> {
        let conf = config.create_native_config()?;
        let opaque = Box::new(Opaque { rebalanced, consumer: Mutex::new(None) });
        let opaque = NonNull::from(Box::leak(opaque));
        let mut text = [0 as c_char; ERROR_BYTES];
        // SAFETY: the copy of the configuration goes over to the client if that is made, else it is destroyed here.
        let rk = unsafe {
            let copy = rd::rd_kafka_conf_dup(conf.ptr());
            rd::rd_kafka_conf_set_log_cb(copy, Some(log));
            rd::rd_kafka_conf_set_opaque(copy, opaque.as_ptr().cast());
            rd::rd_kafka_conf_set_rebalance_cb(copy, Some(rebalance));
            let rk = rd::rd_kafka_new(rd::rd_kafka_type_t::RD_KAFKA_CONSUMER, copy, text.as_mut_ptr(), ERROR_BYTES);
            if rk.is_null() {
                rd::rd_kafka_conf_destroy(copy);
                drop(Box::from_raw(opaque.as_ptr()));
            }
            rk
        };
        // SAFETY: librdkafka ends the text with a zero.
        let reason = unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned();
        let rk = NonNull::new(rk).ok_or_else(|| Failure::said(reason))?;
        // SAFETY: the client is alive; the queue is a reference that is given back in Drop.
        let queue = unsafe {
            rd::rd_kafka_poll_set_consumer(rk.as_ptr());
            rd::rd_kafka_queue_get_consumer(rk.as_ptr())
        };
        let Some(queue) = NonNull::new(queue) else {
            return Err(Failure::said("a client of Kafka has no queue".to_owned()));
        };
        let consumer = Arc::new(Self { rk, queue, batch: Mutex::new(vec![ptr::null_mut(); BATCH]), opaque });
        // SAFETY: the opaque box lives as long as the consumer, which does not move.
        *unsafe { opaque.as_ref() }.consumer.lock() = Some(NonNull::from(consumer.as_ref()));
        Ok(consumer)
    }

    /// Reads these partitions from their offsets, and no others.
    pub fn assign(&self, partitions: &TopicPartitionList) -> Result<(), Failure> {
        // SAFETY: both are alive; librdkafka copies the list.
        check(unsafe { rd::rd_kafka_assign(self.rk.as_ptr(), partitions.ptr()) })
    }

    /// Reads nothing; to be said when partitions were taken away.
    pub fn unassign(&self) -> Result<(), Failure> {
        // SAFETY: the client is alive; no list means no partitions.
        check(unsafe { rd::rd_kafka_assign(self.rk.as_ptr(), ptr::null()) })
    }

    /// Joins the group for these topics.
    pub fn subscribe(&self, topics: &[String]) -> Result<(), Failure> {
        let mut list = TopicPartitionList::new();
        for topic in topics {
            list.add_topic_unassigned(topic);
        }
        // SAFETY: both are alive; librdkafka copies the list.
        check(unsafe { rd::rd_kafka_subscribe(self.rk.as_ptr(), list.ptr()) })
    }

    /// Stops or starts fetching of partitions.
    pub fn pause(&self, partitions: &TopicPartitionList, pause: bool) {
        // SAFETY: both are alive; errors stand in the list and mean partitions that are not assigned.
        unsafe {
            if pause {
                rd::rd_kafka_pause_partitions(self.rk.as_ptr(), partitions.ptr());
            } else {
                rd::rd_kafka_resume_partitions(self.rk.as_ptr(), partitions.ptr());
            }
        }
    }

    /// Waits for a first message, at most `timeout`, and visits all that are there then; before that, tells the sizes of each place's.
    pub fn consume(&self, timeout: Duration, visit: &mut dyn FnMut(Event<'_>)) -> usize {
        let mut batch = self.batch.lock();
        let first = self.take(&mut batch[..1], timeout);
        if first == 0 {
            return 0;
        }
        let taken = 1 + self.take(&mut batch[1..], Duration::ZERO);
        // SAFETY: the calls above gave these messages to us; they are destroyed below.
        unsafe { sizes_of(&batch[..taken]) }.into_iter().for_each(|(place, sizes)| visit(Event::Sizes(place, sizes)));
        let mut owned = Owned::default();
        for message in &mut batch[..taken] {
            // SAFETY: the call above gave this message to us, and nobody else has it.
            let message = unsafe { owned.push(std::mem::replace(message, ptr::null_mut())) };
            // SAFETY: it is destroyed when the next one comes or after it.
            unsafe { visit_one(&*message, visit) };
        }
        taken
    }

    fn take(&self, room: &mut [*mut rd::rd_kafka_message_t], timeout: Duration) -> usize {
        // SAFETY: the queue is alive and the room is as long as said; the lock that the caller holds keeps others out.
        let taken = unsafe {
            rd::rd_kafka_consume_batch_queue(self.queue.as_ptr(), millis(timeout), room.as_mut_ptr(), room.len())
        };
        usize::try_from(taken).unwrap_or(0)
    }

    /// Whose offsets a transaction commits: this member of its group, so that the group can tell it from one that it gave up.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        // SAFETY: the client is alive; the value is ours.
        NonNull::new(unsafe { rd::rd_kafka_consumer_group_metadata(self.rk.as_ptr()) }).map(GroupMetadata)
    }

    /// The id that the group gave to this member; `None` before it joined.
    pub fn member_id(&self) -> Option<String> {
        // SAFETY: the client is alive; the text ends with a zero, is ours, and is given back after it is copied.
        unsafe {
            let id = NonNull::new(rd::rd_kafka_memberid(self.rk.as_ptr()))?;
            let text = CStr::from_ptr(id.as_ptr()).to_string_lossy().into_owned();
            rd::rd_kafka_mem_free(self.rk.as_ptr(), id.as_ptr().cast());
            (!text.is_empty()).then_some(text)
        }
    }

    /// Commits offsets of the group, outside of a transaction, and waits for the answer.
    pub fn commit(&self, offsets: &TopicPartitionList) -> Result<(), Failure> {
        // SAFETY: both are alive.
        check(unsafe { rd::rd_kafka_commit(self.rk.as_ptr(), offsets.ptr(), 0) })
    }

    /// The end of a partition as the last answer to a fetch gave it, with all that is not decided; `None` before the first.
    pub fn last_end(&self, topic: &str, partition: i32) -> Option<i64> {
        let topic = CString::new(topic).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client is alive, the name ends with a zero, the numbers are written before the call returns. It asks nobody.
        let known = unsafe {
            rd::rd_kafka_get_watermark_offsets(self.rk.as_ptr(), topic.as_ptr(), partition, &mut low, &mut high)
        };
        (known == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }

    /// Leaves the group.
    pub fn close(&self) {
        // SAFETY: the client is alive; closing it twice does nothing.
        unsafe { rd::rd_kafka_consumer_close(self.rk.as_ptr()) };
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // SAFETY: nobody has the handles any more. The client's end may call back for a last time, so the opaque box goes after it.
        unsafe {
            rd::rd_kafka_consumer_close(self.rk.as_ptr());
            rd::rd_kafka_queue_destroy(self.queue.as_ptr());
            rd::rd_kafka_destroy(self.rk.as_ptr());
            drop(Box::from_raw(self.opaque.as_ptr()));
        }
    }
}

/// Messages of a batch that were visited. Of each topic's handle one message stays till the end, and the handle with it: another topic's
/// could get its address otherwise, and [`Place::id`] would take one for the other.
#[derive(Default)]
struct Owned {
    last: Option<NonNull<rd::rd_kafka_message_t>>,
    kept: Vec<NonNull<rd::rd_kafka_message_t>>,
}

impl Owned {
    /// Takes a message over and destroys the one before, if it is of the same topic.
    ///
    /// # Safety
    /// `message` is null or ours to destroy.
    unsafe fn push(&mut self, message: *mut rd::rd_kafka_message_t) -> *mut rd::rd_kafka_message_t {
        let before = std::mem::replace(&mut self.last, NonNull::new(message));
        if let Some(before) = before {
            // SAFETY: both are alive; the one before is destroyed once, here or in Drop.
            unsafe {
                if !message.is_null() && before.as_ref().rkt == (*message).rkt {
                    rd::rd_kafka_message_destroy(before.as_ptr());
                } else {
                    self.kept.push(before);
                }
            }
        }
        message
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        for message in self.last.take().into_iter().chain(self.kept.drain(..)) {
            // SAFETY: these are ours and go once.
            unsafe { rd::rd_kafka_message_destroy(message.as_ptr()) };
        }
    }
}

/// The sizes of all records by place.
///
/// # Safety
/// Each message is null or alive during the call.
unsafe fn sizes_of(messages: &[*mut rd::rd_kafka_message_t]) -> Vec<(Place, Sizes)> {
    let mut all: Vec<(Place, Sizes)> = Vec::new();
    let mut last = 0;
    // SAFETY: as the caller promises.
    for message in messages.iter().filter_map(|message| unsafe { message.as_ref() }) {
        let (Some(topic), RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR) = (NonNull::new(message.rkt), message.err) else {
            continue;
        };
        let place = Place { topic, partition: message.partition };
        if all.get(last).is_none_or(|(known, _)| known.id() != place.id()) {
            last = all.iter().position(|(known, _)| known.id() == place.id()).unwrap_or(all.len());
            if last == all.len() {
                all.push((place, Sizes::default()));
            }
        }
        let sizes = &mut all[last].1;
        sizes.records += 1;
        sizes.keys += message.key_len;
        sizes.values += message.len;
    }
    all
}

/// # Safety
/// `message` is alive during the call.
unsafe fn visit_one(message: &rd::rd_kafka_message_t, visit: &mut dyn FnMut(Event<'_>)) {
    let Some(topic) = NonNull::new(message.rkt) else {
        // SAFETY: librdkafka puts the words of an error there, which live as long as the message.
        let words = unsafe { bytes(message.payload, message.len) }.unwrap_or_default();
        return visit(Event::Group(message.err.into(), &String::from_utf8_lossy(words)));
    };
    let place = Place { topic, partition: message.partition };
    match message.err {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => visit(Event::Message(place, Message(message))),
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => visit(Event::End(place, message.offset)),
        error => visit(Event::Failed(place, error.into())),
    }
}

/// A member of a consumer group, or only the group's name.
pub(super) struct GroupMetadata(NonNull<rd::rd_kafka_consumer_group_metadata_t>);

// SAFETY: the value is never changed.
unsafe impl Send for GroupMetadata {}

impl GroupMetadata {
    /// The group without a member.
    pub fn of_group(group: &str) -> Option<Self> {
        let group = CString::new(group).ok()?;
        // SAFETY: the name ends with a zero and is copied.
        NonNull::new(unsafe { rd::rd_kafka_consumer_group_metadata_new(group.as_ptr()) }).map(Self)
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: it is ours and goes once.
        unsafe { rd::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) };
    }
}

/// A committed offset of a group.
pub(super) struct GroupOffset {
    pub topic: String,
    pub partition: i32,
    /// the offset and its metadata, or why they are not told
    pub offset: Result<(i64, String), Failure>,
}

/// Committed offsets of a group; with `stable`, those that an open transaction may change are not told.
///
/// It has to be asked by a consumer that has a group, whichever: librdkafka looks for a new coordinator through that, without asking if it is
/// there, and an answer from a broker that is the coordinator no more ends the process of who asks with another client.
pub(super) fn group_offsets(
    asker: &Consumer,
    group: &str,
    stable: bool,
    timeout: Duration,
) -> Result<Vec<GroupOffset>, Failure> {
    let client = asker.rk.as_ptr();
    let name = CString::new(group).map_err(|e| Failure::said(e.to_string()))?;
    // SAFETY: what is made here is destroyed here, once; the answer is read as what was asked for.
    unsafe {
        let mut request = rd::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), ptr::null());
        let options =
            rd::rd_kafka_AdminOptions_new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS);
        let answer = match rdkafka_error(rd::rd_kafka_AdminOptions_set_require_stable_offsets(options, stable.into())) {
            Some(error) => Err(error),
            None => {
                let send = |queue| rd::rd_kafka_ListConsumerGroupOffsets(client, &mut request, 1, options, queue);
                answer(client, timeout, send, read_offsets)
            }
        };
        rd::rd_kafka_AdminOptions_destroy(options);
        rd::rd_kafka_ListConsumerGroupOffsets_destroy(request);
        answer
    }
}

/// Sends a request that is answered in a queue, and reads the answer.
///
/// # Safety
/// `client` is alive; `send` sends a request whose answer `read` can read while the event is alive.
unsafe fn answer<T>(
    client: *mut rd::rd_kafka_t,
    timeout: Duration,
    send: impl FnOnce(*mut rd::rd_kafka_queue_t),
    read: unsafe fn(*mut rd::rd_kafka_event_t) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // SAFETY: queue and event are destroyed here, once, and the event not before it was read.
    unsafe {
        let queue = rd::rd_kafka_queue_new(client);
        send(queue);
        let event = rd::rd_kafka_queue_poll(queue, millis(timeout));
        let answer = match event.is_null() {
            true => Err(RDKafkaErrorCode::OperationTimedOut.into()),
            false => read(event),
        };
        if !event.is_null() {
            rd::rd_kafka_event_destroy(event);
        }
        rd::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// Commits offsets of a group as nobody of it, which Kafka takes only while it has no members. To be asked as [`group_offsets`] is.
pub(super) fn alter_group_offsets(
    asker: &Consumer,
    group: &str,
    offsets: &TopicPartitionList,
    timeout: Duration,
) -> Result<(), Failure> {
    let client = asker.rk.as_ptr();
    let name = CString::new(group).map_err(|e| Failure::said(e.to_string()))?;
    // SAFETY: what is made here is destroyed here, once, and copies the list; the answer is read as what was asked for.
    unsafe {
        let mut request = rd::rd_kafka_AlterConsumerGroupOffsets_new(name.as_ptr(), offsets.ptr());
        let send = |queue| rd::rd_kafka_AlterConsumerGroupOffsets(client, &mut request, 1, ptr::null(), queue);
        let answer = answer(client, timeout, send, read_altered);
        rd::rd_kafka_AlterConsumerGroupOffsets_destroy(request);
        answer
    }
}

/// # Safety
/// `event` is alive.
unsafe fn read_altered(event: *mut rd::rd_kafka_event_t) -> Result<(), Failure> {
    // SAFETY: all that is read belongs to the event, which the caller keeps alive.
    unsafe {
        check(rd::rd_kafka_event_error(event))?;
        let result = rd::rd_kafka_event_AlterConsumerGroupOffsets_result(event);
        let mut count = 0;
        let groups = rd::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &mut count);
        for i in 0..count {
            group_result(*groups.add(i))?.iter().try_for_each(|element| check(element.err))?;
        }
        Ok(())
    }
}

/// The partitions of an answer about a group.
///
/// # Safety
/// `group` is alive for `'a`.
unsafe fn group_result<'a>(
    group: *const rd::rd_kafka_group_result_t,
) -> Result<&'a [rd::rd_kafka_topic_partition_t], Failure> {
    // SAFETY: as the caller promises; error and list belong to the group.
    unsafe {
        let error = rd::rd_kafka_group_result_error(group);
        if !error.is_null() {
            check(rd::rd_kafka_error_code(error))?;
        }
        let list = rd::rd_kafka_group_result_partitions(group);
        Ok(if list.is_null() { &[] } else { bytes_of((*list).elems, (*list).cnt) })
    }
}

/// # Safety
/// `event` is alive.
unsafe fn read_offsets(event: *mut rd::rd_kafka_event_t) -> Result<Vec<GroupOffset>, Failure> {
    // SAFETY: all that is read belongs to the event, which the caller keeps alive.
    unsafe {
        check(rd::rd_kafka_event_error(event))?;
        let result = rd::rd_kafka_event_ListConsumerGroupOffsets_result(event);
        let mut count = 0;
        let groups = rd::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count);
        let mut offsets = Vec::new();
        for i in 0..count {
            for element in group_result(*groups.add(i))? {
                let topic = CStr::from_ptr(element.topic).to_string_lossy().into_owned();
                let metadata = bytes(element.metadata, element.metadata_size).unwrap_or_default();
                let metadata = String::from_utf8_lossy(metadata).into_owned();
                let offset = check(element.err).map(|()| (element.offset, metadata));
                offsets.push(GroupOffset { topic, partition: element.partition, offset });
            }
        }
        Ok(offsets)
    }
}

/// # Safety
/// `first` points to `count` elements that live for `'a`.
unsafe fn bytes_of<'a, T>(first: *const T, count: c_int) -> &'a [T] {
    match usize::try_from(count) {
        // SAFETY: as the caller promises.
        Ok(count) if count > 0 => unsafe { std::slice::from_raw_parts(first, count) },
        _ => &[],
    }
}

/// Takes an error of librdkafka's over; `None` if it is none.
///
/// # Safety
/// `error` is null or ours to destroy.
unsafe fn rdkafka_error(error: *mut rd::rd_kafka_error_t) -> Option<Failure> {
    if error.is_null() {
        return None;
    }
    // SAFETY: it is read, then destroyed once.
    unsafe {
        let code = rd::rd_kafka_error_code(error);
        let retriable = rd::rd_kafka_error_is_retriable(error) != 0;
        let fatal = rd::rd_kafka_error_is_fatal(error) != 0;
        rd::rd_kafka_error_destroy(error);
        Some(Failure { retriable, fatal, ..RDKafkaErrorCode::from(code).into() })
    }
}

fn check(error: RDKafkaRespErr) -> Result<(), Failure> {
    match error {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        error => Err(RDKafkaErrorCode::from(error).into()),
    }
}

fn millis(time: Duration) -> c_int {
    c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
}

/// Librdkafka's log lines go where ours go.
unsafe extern "C" fn log(_: *const rd::rd_kafka_t, level: c_int, facility: *const c_char, text: *const c_char) {
    // SAFETY: librdkafka gives two texts that end with a zero and live during the call.
    let (facility, text) = unsafe { (CStr::from_ptr(facility), CStr::from_ptr(text)) };
    super::log_line(level, &facility.to_string_lossy(), &text.to_string_lossy());
}

/// The coordinator gave or took partitions. Runs in the thread that consumes or closes.
unsafe extern "C" fn rebalance(
    _: *mut rd::rd_kafka_t,
    error: RDKafkaRespErr,
    partitions: *mut rd::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    // SAFETY: the opaque is the consumer's own box, the consumer is alive while its calls run, and the list is copied.
    unsafe {
        let opaque = &*opaque.cast::<Opaque>();
        let consumer = *opaque.consumer.lock();
        let Some(consumer) = consumer else { return };
        let consumer = consumer.as_ref();
        let list = copied(partitions);
        let given = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        match &opaque.rebalanced {
            Some(rebalanced) => rebalanced(consumer, given, &list),
            None => {
                rd::rd_kafka_assign(consumer.rk.as_ptr(), ptr::null());
            }
        }
    }
}

/// # Safety
/// `list` is null or alive.
unsafe fn copied(list: *const rd::rd_kafka_topic_partition_list_t) -> TopicPartitionList {
    let mut copy = TopicPartitionList::new();
    if !list.is_null() {
        // SAFETY: the caller keeps the list alive.
        for element in unsafe { bytes_of((*list).elems, (*list).cnt) } {
            // SAFETY: its topic is a text that ends with a zero.
            copy.add_partition(&unsafe { CStr::from_ptr(element.topic) }.to_string_lossy(), element.partition);
        }
    }
    copy
}
