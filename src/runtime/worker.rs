//! Worker threads and who runs next.
//!
//! Knows cells, not rows. Tasks that read a repartition topic come before those that fill one, so that it stays short, but not always,
//! or the sources would starve. The subtle thing: a wake that arrives while a task runs is kept, so that no record is overlooked.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock::Clock;
use crate::plan::topology::InputSpec;
use crate::topic::Log;

use super::query::TaskCell;
use super::task::Next;

/// Not queued; a wake queues it.
const IDLE: u8 = 0;
/// In a queue.
const QUEUED: u8 = 1;
/// A worker has it.
const RUNNING: u8 = 2;
/// A worker has it, and it is to run again.
const NOTIFIED: u8 = 3;
/// Never runs again.
const ENDED: u8 = 4;

/// Downstream tasks in a row before a source task gets its turn.
const DOWNSTREAM_STREAK: u32 = 4;
/// Time between calls of the log's own cleaning.
const CLEAN_MS: i64 = 30_000;

/// A timer: when (ms), a number that breaks ties, whom.
struct Timer(i64, u64, Weak<TaskCell>);

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

#[derive(Default)]
struct Queues {
    downstream: VecDeque<Arc<TaskCell>>,
    sources: VecDeque<Arc<TaskCell>>,
    streak: u32,
    timers: BinaryHeap<Reverse<Timer>>,
    timer_count: u64,
    next_clean_ms: i64,
    shutdown: bool,
}

impl Queues {
    fn push(&mut self, cell: Arc<TaskCell>) {
        let inputs = &cell.query.spec.topology.subs[cell.progress.sub].inputs;
        let downstream = inputs.iter().any(|i| matches!(i, InputSpec::Repartition { .. }));
        if downstream { self.downstream.push_back(cell) } else { self.sources.push_back(cell) }
    }

    fn pop(&mut self) -> Option<Arc<TaskCell>> {
        let prefer_source = self.streak >= DOWNSTREAM_STREAK;
        let downstream = if prefer_source && !self.sources.is_empty() { None } else { self.downstream.pop_front() };
        match downstream {
            Some(cell) => {
                self.streak += 1;
                Some(cell)
            }
            None => {
                self.streak = 0;
                self.sources.pop_front()
            }
        }
    }

    /// Queues the cells whose time has come; gives the time of the next timer.
    fn fire(&mut self, now_ms: i64) -> Option<i64> {
        while let Some(Reverse(Timer(at, _, _))) = self.timers.peek() {
            if *at > now_ms {
                return Some(*at);
            }
            let Some(Reverse(Timer(_, _, cell))) = self.timers.pop() else { break };
            if let Some(cell) = cell.upgrade() {
                cell.timer.store(i64::MAX, Ordering::SeqCst);
                if mark_woken(&cell) {
                    self.push(cell);
                }
            }
        }
        None
    }
}

/// Notes that a cell is to run; true if the caller has to queue it.
fn mark_woken(cell: &TaskCell) -> bool {
    let next = |state| match state {
        IDLE => Some(QUEUED),
        RUNNING => Some(NOTIFIED),
        _ => None,
    };
    cell.schedule.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next) == Ok(IDLE)
}

/// Shares the tasks of all queries among the worker threads.
pub(super) struct Scheduler {
    queues: Mutex<Queues>,
    work: Condvar,
    clock: Arc<dyn Clock>,
    log: Arc<dyn Log>,
}

impl Scheduler {
    pub fn new(clock: Arc<dyn Clock>, log: Arc<dyn Log>) -> Self {
        let queues = Queues { next_clean_ms: clock.now_ms() + CLEAN_MS, ..Queues::default() };
        Self { queues: Mutex::new(queues), work: Condvar::new(), clock, log }
    }

    /// Lets a cell run, now or once more after its current run.
    pub fn wake(&self, cell: &Arc<TaskCell>) {
        if mark_woken(cell) {
            self.queues.lock().push(cell.clone());
            self.work.notify_one();
        }
    }

    /// Ends all workers after their current slice.
    pub fn shutdown(&self) {
        self.queues.lock().shutdown = true;
        self.work.notify_all();
    }

    /// The life of a worker thread.
    pub fn work(&self) {
        while let Some(cell) = self.next() {
            cell.schedule.store(RUNNING, Ordering::SeqCst);
            match cell.run() {
                Next::Again => self.requeue(cell),
                Next::Park(until) => {
                    if let Some(until) = until {
                        self.add_timer(until, &cell);
                    }
                    let parked = cell.schedule.compare_exchange(RUNNING, IDLE, Ordering::SeqCst, Ordering::SeqCst);
                    if parked.is_err() {
                        self.requeue(cell);
                    }
                }
                Next::Finished => cell.schedule.store(ENDED, Ordering::SeqCst),
            }
        }
    }

    fn requeue(&self, cell: Arc<TaskCell>) {
        cell.schedule.store(QUEUED, Ordering::SeqCst);
        self.queues.lock().push(cell);
        self.work.notify_one();
    }

    fn add_timer(&self, at_ms: i64, cell: &Arc<TaskCell>) {
        if cell.timer.fetch_min(at_ms, Ordering::SeqCst) <= at_ms {
            return;
        }
        let mut queues = self.queues.lock();
        queues.timer_count += 1;
        let timer = Timer(at_ms, queues.timer_count, Arc::downgrade(cell));
        queues.timers.push(Reverse(timer));
        drop(queues);
        // whoever sleeps may sleep too long now
        self.work.notify_one();
    }

    fn next(&self) -> Option<Arc<TaskCell>> {
        let mut queues = self.queues.lock();
        loop {
            if queues.shutdown {
                return None;
            }
            let now_ms = self.clock.now_ms();
            let next_timer = queues.fire(now_ms);
            if now_ms >= queues.next_clean_ms {
                queues.next_clean_ms = now_ms + CLEAN_MS;
                drop(queues);
                if let Err(error) = self.log.clean(now_ms) {
                    tracing::warn!("old records cannot be dropped: {error}");
                }
                queues = self.queues.lock();
                continue;
            }
            if let Some(cell) = queues.pop() {
                return Some(cell);
            }
            let until = next_timer.map_or(queues.next_clean_ms, |at| at.min(queues.next_clean_ms));
            let wait = Duration::from_millis(u64::try_from(until - now_ms).unwrap_or(1).max(1));
            self.work.wait_for(&mut queues, wait);
        }
    }
}
