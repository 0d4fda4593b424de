//! A producer on librdkafka's own calls: topics are looked up once an output, not for each record, and delivery reports come as callbacks.
//!
//! Knows records, no commits. Why its `unsafe` is sound: handles are owned here and destroyed once, topics before their client; the box
//! of reports outlives the client, which alone has its address; librdkafka copies keys and values before a call returns. The subtle thing:
//! reports are taken only inside of [`Producer::poll`], [`Producer::flush`] and the calls that end a transaction, in the thread that calls.

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::bindings as rd;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::{ERROR_BYTES, GroupMetadata, check, log, millis, rdkafka_error};
use crate::topic::kafka::budget::{RECORD_BYTES, Writing};
use crate::topic::kafka::failure::Failure;

/// Records handed over by one call where they need no times of their own.
const BATCH: usize = 1024;
/// After how many bytes reports are taken.
const POLL_BYTES: usize = 512 << 10;
/// How long a full queue is waited for at a time.
const FULL: Duration = Duration::from_millis(5);

/// What became of records.
#[derive(Default)]
struct Reports {
    /// offsets of the records that were marked
    offsets: HashMap<usize, i64>,
    failure: Option<Failure>,
}

/// Where a record goes, and what it carries.
pub(in crate::topic::kafka) struct Outgoing<'a> {
    /// its key
    pub key: Option<&'a [u8]>,
    /// its value
    pub value: Option<&'a [u8]>,
    /// as Kafka takes it
    pub timestamp: i64,
    /// names and values
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
    /// 0: nobody wants its offset
    pub mark: usize,
}

/// What librdkafka hands back with each report.
#[derive(Default)]
struct Told {
    reports: Mutex<Reports>,
    /// bytes of records that are no longer on their way, counted over the producer's life
    arrived: AtomicUsize,
}

/// A producer of records.
pub(in crate::topic::kafka) struct Producer {
    rk: NonNull<rd::rd_kafka_t>,
    topics: HashMap<String, NonNull<rd::rd_kafka_topic_t>>,
    told: NonNull<Told>,
    /// its share of the process's budget; `None`: it writes nothing
    budget: Option<Writing>,
    /// bytes of records that were handed over, counted over its life
    left: usize,
    /// bytes since reports were taken
    sent: usize,
    batch: Vec<rd::rd_kafka_message_t>,
}

// SAFETY: librdkafka's handles may be used by any thread; the messages of `batch` point nowhere between calls.
unsafe impl Send for Producer {}
// SAFETY: as above; what changes takes `&mut self` or is behind a lock.
unsafe impl Sync for Producer {}

impl Producer {
    /// A producer; its topics are made known when they are first written.
    pub fn new(config: &ClientConfig, budget: Option<Writing>) -> Result<Self, Failure> {
        let conf = config.create_native_config()?;
        let told = NonNull::from(Box::leak(Box::<Told>::default()));
        let mut text = [0 as c_char; ERROR_BYTES];
        // SAFETY: the copy of the configuration goes over to the client if that is made, else it is destroyed here, as is the box.
        let rk = unsafe {
            let copy = rd::rd_kafka_conf_dup(conf.ptr());
            rd::rd_kafka_conf_set_log_cb(copy, Some(log));
            rd::rd_kafka_conf_set_opaque(copy, told.as_ptr().cast());
            rd::rd_kafka_conf_set_dr_msg_cb(copy, Some(delivered));
            let rk = rd::rd_kafka_new(rd::rd_kafka_type_t::RD_KAFKA_PRODUCER, copy, text.as_mut_ptr(), ERROR_BYTES);
            if rk.is_null() {
                rd::rd_kafka_conf_destroy(copy);
                drop(Box::from_raw(told.as_ptr()));
            }
            rk
        };
        // SAFETY: librdkafka ends the text with a zero.
        let reason = unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned();
        let rk = NonNull::new(rk).ok_or_else(|| Failure::said(reason))?;
        Ok(Self { rk, topics: HashMap::new(), told, budget, left: 0, sent: 0, batch: Vec::new() })
    }

    fn told(&self) -> &Told {
        // SAFETY: the box is given back in `Drop` alone.
        unsafe { self.told.as_ref() }
    }

    fn reports(&self) -> &Mutex<Reports> {
        &self.told().reports
    }

    /// Bytes of records that are on their way.
    pub fn on_their_way(&self) -> usize {
        self.left.wrapping_sub(self.told().arrived.load(Ordering::Relaxed))
    }

    /// Waits, at most `patience`, while its share of the budget is on its way.
    fn wait_for_budget(&mut self, patience: Duration) -> Result<(), Failure> {
        let Some(limit) = self.budget.as_mut().map(Writing::limit) else { return Ok(()) };
        let mut deadline = None;
        while self.on_their_way() >= limit {
            self.wait_for_room(&mut deadline, patience)?;
        }
        Ok(())
    }

    fn topic(&mut self, name: &str) -> Result<*mut rd::rd_kafka_topic_t, Failure> {
        if let Some(topic) = self.topics.get(name) {
            return Ok(topic.as_ptr());
        }
        let text = CString::new(name).map_err(|e| Failure::said(e.to_string()))?;
        // SAFETY: the client is alive, the name ends with a zero and is copied; no settings of its own means the client's.
        let topic = unsafe { rd::rd_kafka_topic_new(self.rk.as_ptr(), text.as_ptr(), ptr::null_mut()) };
        let topic = NonNull::new(topic).ok_or_else(|| Failure::said(format!("'{name}' cannot be written")))?;
        self.topics.insert(name.to_owned(), topic);
        Ok(topic.as_ptr())
    }

    /// Hands records over, each with a time of its own; waits, at most `patience` for one, while too many are on their way.
    pub fn send<'a>(
        &mut self,
        topic: &str,
        partition: i32,
        records: impl Iterator<Item = Outgoing<'a>>,
        patience: Duration,
    ) -> Result<(), Failure> {
        let topic = self.topic(topic)?;
        self.wait_for_budget(patience)?;
        for record in records {
            let mut deadline = None;
            loop {
                match self.try_send(topic, partition, &record) {
                    RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => break,
                    RDKafkaRespErr::RD_KAFKA_RESP_ERR__QUEUE_FULL => self.wait_for_room(&mut deadline, patience)?,
                    error => return check(error),
                }
            }
            let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            self.count(bytes + RECORD_BYTES, patience)?;
        }
        Ok(())
    }

    fn try_send(&self, topic: *mut rd::rd_kafka_topic_t, partition: i32, record: &Outgoing<'_>) -> RDKafkaRespErr {
        use rd::rd_kafka_vtype_t as is;
        let (value, value_len) = pointer(record.value);
        let (key, key_len) = pointer(record.key);
        // SAFETY: the types of what follows each tag are those that librdkafka documents for it; payloads live during the call, which
        // copies them. Headers belong to librdkafka if the call succeeds, else to us.
        unsafe {
            let headers = headers_of(&record.headers);
            let error = rd::rd_kafka_producev(
                self.rk.as_ptr(),
                is::RD_KAFKA_VTYPE_RKT,
                topic,
                is::RD_KAFKA_VTYPE_PARTITION,
                partition as c_int,
                is::RD_KAFKA_VTYPE_MSGFLAGS,
                rd::RD_KAFKA_MSG_F_COPY as c_int,
                is::RD_KAFKA_VTYPE_VALUE,
                value,
                value_len,
                is::RD_KAFKA_VTYPE_KEY,
                key,
                key_len,
                is::RD_KAFKA_VTYPE_TIMESTAMP,
                record.timestamp,
                is::RD_KAFKA_VTYPE_OPAQUE,
                record.mark as *mut c_void,
                is::RD_KAFKA_VTYPE_HEADERS,
                headers,
                is::RD_KAFKA_VTYPE_END,
            );
            if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && !headers.is_null() {
                rd::rd_kafka_headers_destroy(headers);
            }
            error
        }
    }

    /// Hands records over that get the time of now; the last one carries the mark.
    pub fn send_now<'a>(
        &mut self,
        topic: &str,
        partition: i32,
        records: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
        mark: usize,
        patience: Duration,
    ) -> Result<(), Failure> {
        let topic = self.topic(topic)?;
        let mut left = records.len();
        let mut batch = std::mem::take(&mut self.batch);
        let mut sent = Ok(());
        for (key, value) in records {
            left -= 1;
            let (payload, len) = pointer(value);
            let (key, key_len) = pointer(Some(key));
            let mark = if left == 0 { mark } else { 0 };
            batch.push(rd::rd_kafka_message_t {
                err: RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR,
                rkt: ptr::null_mut(),
                partition,
                payload,
                len,
                key,
                key_len,
                offset: 0,
                _private: mark as *mut c_void,
            });
            if batch.len() == BATCH || left == 0 {
                sent = self.send_batch(topic, partition, &mut batch, patience);
                batch.clear();
                if sent.is_err() {
                    break;
                }
            }
        }
        self.batch = batch;
        sent
    }

    fn send_batch(
        &mut self,
        topic: *mut rd::rd_kafka_topic_t,
        partition: i32,
        mut batch: &mut [rd::rd_kafka_message_t],
        patience: Duration,
    ) -> Result<(), Failure> {
        let mut deadline = None;
        while !batch.is_empty() {
            self.wait_for_budget(patience)?;
            let count = c_int::try_from(batch.len()).unwrap_or(c_int::MAX);
            // SAFETY: topic and messages are alive during the call, which copies keys and values.
            unsafe {
                let flags = rd::RD_KAFKA_MSG_F_COPY as c_int;
                rd::rd_kafka_produce_batch(topic, partition, flags, batch.as_mut_ptr(), count);
            }
            // A full queue takes none of those that follow, so the order stays.
            let taken = batch.iter().take_while(|m| m.err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).count();
            let bytes = batch[..taken].iter().map(|m| m.key_len + m.len + RECORD_BYTES).sum();
            self.count(bytes, patience)?;
            match batch.get(taken).map(|m| m.err) {
                None => return Ok(()),
                Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR__QUEUE_FULL) => self.wait_for_room(&mut deadline, patience)?,
                Some(error) => return check(error),
            }
            batch = &mut batch[taken..];
        }
        Ok(())
    }

    /// Notes records that were handed over.
    fn count(&mut self, bytes: usize, patience: Duration) -> Result<(), Failure> {
        self.sent += bytes;
        self.left = self.left.wrapping_add(bytes);
        if self.sent >= POLL_BYTES {
            self.sent = 0;
            self.poll(Duration::ZERO);
            self.wait_for_budget(patience)?;
        }
        Ok(())
    }

    fn wait_for_room(&self, deadline: &mut Option<Instant>, patience: Duration) -> Result<(), Failure> {
        let now = Instant::now();
        if now > *deadline.get_or_insert(now + patience) {
            return check(RDKafkaRespErr::RD_KAFKA_RESP_ERR__QUEUE_FULL);
        }
        self.poll(FULL);
        Ok(())
    }

    /// Takes reports; waits for a first one at most so long.
    pub fn poll(&self, timeout: Duration) {
        // SAFETY: the client is alive.
        unsafe { rd::rd_kafka_poll(self.rk.as_ptr(), millis(timeout)) };
    }

    /// Waits until all records are with Kafka.
    ///
    /// # Errors
    /// The first failure of a record since [`Self::forget_reports`].
    pub fn flush(&self, timeout: Duration) -> Result<(), Failure> {
        // SAFETY: the client is alive.
        check(unsafe { rd::rd_kafka_flush(self.rk.as_ptr(), millis(timeout)) })?;
        self.reports().lock().failure.take().map_or(Ok(()), Err)
    }

    /// Waits, at most so long, until a broker is there. An idempotent producer asks for its id half a second after it was made and then as
    /// often, or when a broker has told it of the cluster, as it is asked to here: so the first record need not wait for that.
    pub fn greet(&self, timeout: Duration) {
        let mut cluster = ptr::null();
        // SAFETY: the client is alive; no topic is asked for, and what comes is ours to destroy if the call succeeds.
        unsafe {
            let asked = rd::rd_kafka_metadata(self.rk.as_ptr(), 0, ptr::null_mut(), &mut cluster, millis(timeout));
            if asked == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                rd::rd_kafka_metadata_destroy(cluster);
            }
        }
    }

    /// Nothing will be sent for a while.
    pub fn rest(&mut self) {
        if let Some(budget) = &mut self.budget {
            budget.done();
        }
    }

    /// Starts counting anew.
    pub fn forget_reports(&self) {
        *self.reports().lock() = Reports::default();
    }

    /// The offset that a marked record got.
    pub fn offset(&self, mark: usize) -> Option<i64> {
        self.reports().lock().offsets.get(&mark).copied()
    }

    /// Takes the transactional name over from whoever had it.
    pub fn init_transactions(&self, timeout: Duration) -> Result<(), Failure> {
        // SAFETY: the client is alive, the error is ours.
        answer(unsafe { rdkafka_error(rd::rd_kafka_init_transactions(self.rk.as_ptr(), millis(timeout))) })
    }

    /// Opens a transaction.
    pub fn begin(&self) -> Result<(), Failure> {
        // SAFETY: as above.
        answer(unsafe { rdkafka_error(rd::rd_kafka_begin_transaction(self.rk.as_ptr())) })
    }

    /// Waits until all records are with Kafka and makes the transaction's end durable.
    pub fn commit(&self, timeout: Duration) -> Result<(), Failure> {
        // SAFETY: as above.
        answer(unsafe { rdkafka_error(rd::rd_kafka_commit_transaction(self.rk.as_ptr(), millis(timeout))) })
    }

    /// Gives the transaction up.
    pub fn abort(&self, timeout: Duration) -> Result<(), Failure> {
        // SAFETY: as above.
        answer(unsafe { rdkafka_error(rd::rd_kafka_abort_transaction(self.rk.as_ptr(), millis(timeout))) })
    }

    /// Puts offsets into the open transaction.
    pub fn send_offsets(
        &self,
        offsets: &TopicPartitionList,
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Result<(), Failure> {
        // SAFETY: the client, the list and the metadata are alive during the call; the error is ours.
        answer(unsafe {
            rdkafka_error(rd::rd_kafka_send_offsets_to_transaction(
                self.rk.as_ptr(),
                offsets.ptr(),
                group.0.as_ptr(),
                millis(timeout),
            ))
        })
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // SAFETY: nobody has the handles any more: first what is on its way is given up, then the topics, the client, and the box that its
        // callbacks use.
        unsafe {
            let all = rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_INFLIGHT;
            rd::rd_kafka_purge(self.rk.as_ptr(), all as c_int);
            for topic in self.topics.values() {
                rd::rd_kafka_topic_destroy(topic.as_ptr());
            }
            rd::rd_kafka_destroy(self.rk.as_ptr());
            drop(Box::from_raw(self.told.as_ptr()));
        }
    }
}

fn answer(failure: Option<Failure>) -> Result<(), Failure> {
    failure.map_or(Ok(()), Err)
}

/// A payload as librdkafka takes it: what is empty is not null.
fn pointer(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
    match bytes {
        Some(bytes) => (bytes.as_ptr().cast_mut().cast(), bytes.len()),
        None => (ptr::null_mut(), 0),
    }
}

/// Headers for one record; null if there are none.
///
/// # Safety
/// The caller destroys them, or gives them to librdkafka.
unsafe fn headers_of(headers: &[(&str, Option<&[u8]>)]) -> *mut rd::rd_kafka_headers_t {
    if headers.is_empty() {
        return ptr::null_mut();
    }
    // SAFETY: names and values are copied with their lengths.
    unsafe {
        let list = rd::rd_kafka_headers_new(headers.len());
        for (name, value) in headers {
            let (value, len) = pointer(*value);
            rd::rd_kafka_header_add(list, name.as_ptr().cast(), name.len() as isize, value, len as isize);
        }
        list
    }
}

/// A record is with Kafka, or will never be.
unsafe extern "C" fn delivered(_: *mut rd::rd_kafka_t, message: *const rd::rd_kafka_message_t, opaque: *mut c_void) {
    // SAFETY: the message is alive during the call; the opaque is the producer's box of reports.
    let (message, told) = unsafe { (&*message, &*opaque.cast::<Told>()) };
    let reports = &told.reports;
    told.arrived.fetch_add(message.key_len + message.len + RECORD_BYTES, Ordering::Relaxed);
    let mark = message._private as usize;
    if message.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        let failure = Failure::from(RDKafkaErrorCode::from(message.err));
        reports.lock().failure.get_or_insert(failure);
    } else if mark != 0 {
        reports.lock().offsets.insert(mark, message.offset);
    }
}
