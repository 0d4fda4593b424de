//! The bounded queue between a push query and its reader.
//!
//! Knows no rows' meaning and no protocol. The subtle thing: a full queue stops the query's tasks, nothing is dropped; the reader's next
//! take wakes them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef};
use parking_lot::{Condvar, Mutex};

use crate::diagnostic::Diagnostic;
use crate::types::ChangeBatch;

/// Bytes that a row counts with beside its columns: times, offset, place.
const ROW_BYTES: usize = 24;

/// Rows that the queue of a push query holds before its tasks are stopped, as ksqlDB's.
pub const CLIENT_QUEUE_ROWS: usize = 100;

/// How a query behind a queue ended.
#[derive(Clone, Debug)]
pub enum ClientEnd {
    /// all input that was to be read is read
    Complete,
    /// the query was stopped
    Stopped,
    /// the query failed
    Failed(Diagnostic),
}

/// What a reader gets.
#[derive(Debug)]
pub enum ClientNext {
    /// rows, in order
    Rows(Box<ChangeBatch>),
    /// nothing in the time given
    Idle,
    /// no more rows will come
    End(ClientEnd),
}

type Wake = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Inner {
    /// each with its bytes, about
    batches: VecDeque<(ChangeBatch, usize)>,
    rows: usize,
    bytes: usize,
    end: Option<ClientEnd>,
    reader_gone: bool,
    /// when the queue was first seen full since rows were last taken, in ms
    full_since_ms: Option<i64>,
    wake: Option<Wake>,
}

/// A queue of change batches with one reader.
pub struct ClientQueue {
    capacity_rows: usize,
    capacity_bytes: usize,
    inner: Mutex<Inner>,
    ready: Condvar,
}

impl ClientQueue {
    /// A queue whose tasks stop once it holds `capacity_rows` rows or `capacity_bytes` bytes; it may hold one commit of each task beyond
    /// that.
    pub fn new(capacity_rows: usize, capacity_bytes: usize) -> Arc<Self> {
        let (capacity_rows, capacity_bytes) = (capacity_rows.max(1), capacity_bytes.max(1));
        Arc::new(Self { capacity_rows, capacity_bytes, inner: Mutex::default(), ready: Condvar::new() })
    }

    /// The next rows, waiting at most `timeout`.
    pub fn next(&self, timeout: Duration) -> ClientNext {
        let deadline = Instant::now() + timeout;
        let mut inner = self.inner.lock();
        loop {
            if let Some((batch, bytes)) = inner.batches.pop_front() {
                inner.rows -= batch.len();
                inner.bytes -= bytes;
                inner.full_since_ms = None;
                let wake = inner.wake.clone();
                drop(inner);
                if let Some(wake) = wake {
                    wake();
                }
                return ClientNext::Rows(Box::new(batch));
            }
            if let Some(end) = &inner.end {
                return ClientNext::End(end.clone());
            }
            if self.ready.wait_until(&mut inner, deadline).timed_out()
                && inner.batches.is_empty()
                && inner.end.is_none()
            {
                return ClientNext::Idle;
            }
        }
    }

    /// The reader wants no more: waiting rows are dropped and tasks stop.
    pub fn leave(&self) {
        let mut inner = self.inner.lock();
        inner.reader_gone = true;
        inner.batches.clear();
        (inner.rows, inner.bytes) = (0, 0);
        let wake = inner.wake.clone();
        drop(inner);
        if let Some(wake) = wake {
            wake();
        }
    }

    /// True if the reader has left.
    pub fn reader_left(&self) -> bool {
        self.inner.lock().reader_gone
    }

    /// How many rows wait.
    pub fn rows(&self) -> usize {
        self.inner.lock().rows
    }

    /// True if there is room; otherwise notes since when there is none.
    pub(super) fn has_room(&self, now_ms: i64) -> bool {
        let mut inner = self.inner.lock();
        let room = inner.rows < self.capacity_rows && inner.bytes < self.capacity_bytes;
        if !room {
            inner.full_since_ms.get_or_insert(now_ms);
        }
        room
    }

    /// How long nothing was taken from the full queue, in ms.
    pub(super) fn stalled_ms(&self, now_ms: i64) -> i64 {
        self.inner.lock().full_since_ms.map_or(0, |since| now_ms - since)
    }

    pub(super) fn capacity_rows(&self) -> usize {
        self.capacity_rows
    }

    pub(super) fn push(&self, batches: Vec<ChangeBatch>) {
        let mut inner = self.inner.lock();
        if inner.reader_gone || inner.end.is_some() {
            return;
        }
        for batch in batches {
            let bytes = bytes_of(&batch);
            inner.rows += batch.len();
            inner.bytes += bytes;
            inner.batches.push_back((batch, bytes));
        }
        drop(inner);
        self.ready.notify_all();
    }

    /// No more rows will come; the first end is the one that counts.
    pub(super) fn end(&self, end: ClientEnd) {
        let mut inner = self.inner.lock();
        inner.end.get_or_insert(end);
        inner.wake = None;
        drop(inner);
        self.ready.notify_all();
    }

    pub(super) fn on_room(&self, wake: Wake) {
        self.inner.lock().wake = Some(wake);
    }
}

/// Bytes of the rows of a batch, not of the buffers that it may share with others.
fn bytes_of(batch: &ChangeBatch) -> usize {
    // an array that cannot say its size counts with that of its buffers
    let bytes =
        |array: &ArrayRef| array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size());
    batch.columns.iter().map(bytes).sum::<usize>() + batch.len() * ROW_BYTES
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;

    use super::*;
    use crate::types::RowMeta;

    fn batch(text: &str, rows: usize) -> ChangeBatch {
        ChangeBatch {
            columns: vec![Arc::new(StringArray::from(vec![text; rows]))],
            present: None,
            old: None,
            meta: RowMeta {
                rowtime: vec![0; rows].into(),
                seq: vec![0; rows].into(),
                offset: vec![0; rows].into(),
                window: None,
                headers: None,
                keyed: None,
            },
        }
    }

    #[test]
    fn few_large_rows_fill_a_queue_as_many_small_ones_do() {
        let queue = ClientQueue::new(1000, 10_000);
        queue.push(vec![batch("x", 10)]);
        assert!(queue.has_room(0));
        queue.push(vec![batch(&"x".repeat(5000), 2)]);
        assert!(!queue.has_room(5), "by bytes");
        assert_eq!(queue.stalled_ms(15), 10);
        assert!(matches!(queue.next(Duration::ZERO), ClientNext::Rows(_)));
        assert!(!queue.has_room(20));
        assert!(matches!(queue.next(Duration::ZERO), ClientNext::Rows(_)));
        assert!(queue.has_room(20));
        queue.push(vec![batch("x", 1000)]);
        assert!(!queue.has_room(20), "by rows");
    }

    #[test]
    fn a_slice_counts_with_its_rows_only() {
        let whole = batch(&"x".repeat(100), 1000);
        let part = ChangeBatch { columns: vec![whole.columns[0].slice(0, 10)], ..batch("", 10) };
        assert_eq!(part.columns[0].len(), 10);
        assert!((1000..3000).contains(&bytes_of(&part)), "{}", bytes_of(&part));
    }
}
