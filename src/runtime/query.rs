//! A running query: what its tasks share, and its life CREATED → RESTORING → RUNNING → PAUSED | ERROR | STOPPED.
//!
//! Moves no records. The subtle thing: the state is not stored but read off the tasks, so that a query with a dead task cannot show as
//! RUNNING.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};

use crate::clock::Clock;
use crate::diagnostic::ErrorClass;
use crate::operator::LossKind;
use crate::plan::topology::InputSpec;
use crate::state::Overlay;
use crate::topic::{Commit, Log, Offset, Owner, Pace, Position, Session, Tenure, TopicError, TopicPartition};
use crate::types::{QueryId, TopicName};

use super::checkpoint::MemoryBudget;
use super::client::ClientEnd;
use super::error::TaskError;
use super::materialization::Materialization;
use super::output::Outputs;
use super::processing_log::ProcessingLog;
use super::recovery::{RETRY_MS, Recovery};
use super::restore::Restores;
use super::settings::{QuerySpec, RuntimeConfig};
use super::standby::{self, Copy};
use super::task::{Next, Task, TaskProgress, TaskState, input_owner};

/// The state of a query, as SHOW QUERIES tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueryState {
    /// no task was made yet
    Created,
    /// a task's state is being read back
    Restoring,
    /// all tasks run
    Running,
    /// stopped by the user, positions and state are kept
    Paused,
    /// a task failed and waits for its next try
    Error,
    /// ended
    Stopped,
}

impl fmt::Display for QueryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "CREATED",
            Self::Restoring => "RESTORING",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Error => "ERROR",
            Self::Stopped => "STOPPED",
        })
    }
}

/// A failure of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// when, in ms
    pub at_ms: i64,
    /// whose fault
    pub class: ErrorClass,
    /// what happened
    pub message: String,
    /// the task: sub-topology and partition
    pub task: (usize, i32),
}

/// What can be told about a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryStatus {
    /// its id
    pub id: QueryId,
    /// its state
    pub state: QueryState,
    /// the last errors, oldest first
    pub errors: Vec<QueryError>,
    /// tasks
    pub tasks: usize,
    /// records read since it was started here
    pub rows_in: u64,
    /// records written, or rows given to the client, since it was started here
    pub rows_out: u64,
    /// wall clock of the last step with rows in ms; `None`: no rows yet
    pub last_rows_ms: Option<i64>,
    /// committed offset of each input
    pub positions: BTreeMap<TopicPartition, Offset>,
}

/// Tells those who wait for queries to become idle that something was committed.
#[derive(Default)]
pub(super) struct IdleSignal {
    commits: AtomicU64,
    waiters: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

impl IdleSignal {
    /// Commits so far.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }

    fn tell(&self) {
        if self.waiters.load(Ordering::SeqCst) > 0 {
            drop(self.lock.lock());
            self.changed.notify_all();
        }
    }

    /// Waits until `is_idle` or the deadline; true if idle.
    pub fn wait(&self, deadline: std::time::Instant, mut is_idle: impl FnMut() -> bool) -> bool {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.lock.lock();
        let idle = loop {
            if is_idle() {
                break true;
            }
            if self.changed.wait_until(&mut guard, deadline).timed_out() {
                break is_idle();
            }
        };
        self.waiters.fetch_sub(1, Ordering::SeqCst);
        idle
    }
}

/// What all tasks of a query share.
pub(super) struct QueryShared {
    pub spec: QuerySpec,
    pub log: Arc<dyn Log>,
    pub clock: Arc<dyn Clock>,
    pub config: Arc<RuntimeConfig>,
    pub memory: Arc<MemoryBudget>,
    /// the query's own part of it
    pub query_memory: Arc<MemoryBudget>,
    pub processing_log: ProcessingLog,
    pub materialization: Option<Materialization>,
    pub idle: Arc<IdleSignal>,
    pub recovery: Arc<Recovery>,
    pub restores: Restores,
    /// the query's own way to the log, where the log has one
    pub session: Option<Arc<dyn Session>>,
    /// how often tasks commit where there is no session
    pub own_pace: Pace,
    /// push queries: where inputs start, since their positions are not committed
    pub starts: BTreeMap<(Owner, TopicPartition), Position>,
    pub paused: AtomicBool,
    pub stopped: AtomicBool,
    /// tasks that have not read all they are to read
    pub unfinished: AtomicUsize,
    pub errors: Mutex<VecDeque<QueryError>>,
    /// how far its tasks are
    pub tasks: OnceLock<Vec<Arc<TaskProgress>>>,
}

impl QueryShared {
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// How often tasks commit.
    pub fn pace(&self) -> Pace {
        self.session.as_ref().map_or(self.own_pace, |session| session.pace())
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Partitions of a sink topic.
    pub fn partitions_of(&self, topic: &TopicName) -> Result<i32, TaskError> {
        let spec = self.log.describe(topic)?.ok_or_else(|| TopicError::UnknownTopic(topic.clone()))?;
        Ok(spec.partitions)
    }

    /// Whose position an input's is.
    pub fn input_owner(&self, sub: usize, input: usize) -> Owner {
        input_owner(&self.spec.topology, &self.spec.owner, sub, input)
    }

    /// Where a task takes up an input.
    pub fn start_position(&self, owner: &Owner, input: &InputSpec, at: &TopicPartition) -> Result<Position, TaskError> {
        if let Some(position) = self.log.position(owner, at)? {
            return Ok(position);
        }
        match self.starts.get(&(owner.clone(), at.clone())) {
            Some(position) if self.spec.settings.transient => Ok(*position),
            // the topic was deleted and made again, which forgot the position
            _ => Ok(first_position(self.log.as_ref(), input, at)?),
        }
    }

    /// Counts a commit; to be called before its positions are told.
    pub fn committed(&self) {
        self.idle.commits.fetch_add(1, Ordering::SeqCst);
    }

    /// Wakes those who wait for the query to become idle.
    pub fn tell_waiters(&self) {
        self.idle.tell();
    }

    fn note_error(&self, error: &TaskError, task: (usize, i32), at_ms: i64) {
        let message = error.to_string();
        tracing::warn!(query = %self.spec.id, sub = task.0, partition = task.1, "a task failed: {message}");
        let mut errors = self.errors.lock();
        // The same again pushes out nothing that says more.
        errors.retain(|known| known.message != message || known.task != task);
        while errors.len() >= self.spec.settings.errors_kept.max(1) {
            errors.pop_front();
        }
        errors.push_back(QueryError { at_ms, class: error.class(), message: message.clone(), task });
        drop(errors);
        let mut out = Outputs::default();
        self.processing_log.tell_failure(&message, at_ms, &mut out);
        let outputs = out.take_appends();
        if outputs.is_empty() {
            return;
        }
        if let Err(error) = self.log.commit(Commit { outputs, ..Commit::default() }) {
            tracing::warn!(query = %self.spec.id, "the processing log cannot be written: {error}");
        }
    }
}

/// Where a query takes up an input that it never read.
pub(super) fn first_position(log: &dyn Log, input: &InputSpec, at: &TopicPartition) -> Result<Position, TopicError> {
    let bounds = log.bounds(at)?;
    let from_start = match input {
        InputSpec::Source(source) => source.from_beginning,
        InputSpec::Repartition { .. } => true,
    };
    Ok(Position { offset: if from_start { bounds.start } else { bounds.end }, consumed: 0 })
}

/// Wait after a first commit that the log gave up, in ms.
const ABORTED_MS: i64 = 50;

struct Slot {
    task: Option<Box<Task>>,
    /// a copy of the task's state, while it runs elsewhere
    copy: Option<Copy>,
    /// the tenure that the task was made in
    tenure: u64,
    failures: u32,
    retry_at_ms: i64,
}

/// A task and its life: made, run, thrown away, made again.
pub(super) struct TaskCell {
    pub query: Arc<QueryShared>,
    pub progress: Arc<TaskProgress>,
    pub partition: i32,
    /// for the scheduler: queued, running, …
    pub schedule: AtomicU8,
    /// for the scheduler: its earliest timer, in ms
    pub timer: AtomicI64,
    slot: Mutex<Slot>,
}

impl TaskCell {
    pub fn new(query: Arc<QueryShared>, sub: usize, partition: i32) -> Arc<Self> {
        let progress = Arc::new(TaskProgress::new(&query.spec.topology, sub, partition));
        let slot = Mutex::new(Slot { task: None, copy: None, tenure: 0, failures: 0, retry_at_ms: i64::MIN });
        Arc::new(Self { query, progress, partition, schedule: AtomicU8::new(0), timer: AtomicI64::new(i64::MAX), slot })
    }

    /// Lets the task run soon, if there are workers.
    pub fn wake(&self) {
        if let Some(waker) = self.progress.waker.get() {
            waker();
        }
    }

    /// Runs the task for a slice of time; errors and panics become the query's.
    pub fn run(&self) -> Next {
        if !self.query.recovery.is_open() {
            return Next::Park(Some(self.query.clock.now_ms() + RETRY_MS));
        }
        let mut slot = self.slot.lock();
        if self.query.is_stopped() {
            slot.task = None;
            return Next::Finished;
        }
        if !self.is_here(&mut slot) {
            return self.wait_for_tenure(&mut slot);
        }
        if self.query.is_paused() {
            self.settle(&mut slot);
            return Next::Park(None);
        }
        if self.progress.state() == TaskState::Failed && self.query.clock.now_ms() < slot.retry_at_ms {
            return Next::Park(Some(slot.retry_at_ms));
        }
        let stop_at = self.query.spec.settings.stop_at.clone();
        let limits = move |at: &TopicPartition| stop_at.as_ref().and_then(|s| s.get(at).copied());
        let ran = self.guarded(&mut slot, |task| {
            let next = task.run_slice(&limits)?;
            Ok((next, task.has_committed()))
        });
        match ran {
            Ok((next, committed)) => {
                if committed {
                    slot.failures = 0;
                }
                if next == Next::Finished {
                    self.finish(&mut slot);
                }
                next
            }
            Err(error) => self.fail(&mut slot, &error),
        }
    }

    /// True if the task's partitions are this node's; one of another tenure is thrown away.
    fn is_here(&self, slot: &mut Slot) -> bool {
        let Some(session) = &self.query.session else { return true };
        let (tenure, state) = match session.tenure(&self.progress.inputs) {
            Tenure::Here(tenure) if tenure == slot.tenure => return true,
            Tenure::Here(tenure) => (tenure, TaskState::Restoring),
            Tenure::Elsewhere => (0, TaskState::Elsewhere),
            Tenure::Undecided => (0, TaskState::Restoring),
        };
        if let Some(goes_on) = self.keep(slot, tenure, state) {
            return goes_on;
        }
        slot.task = None;
        slot.tenure = tenure;
        if tenure != 0 {
            self.end_copy(slot);
        }
        if slot.copy.is_none() {
            self.query.restores.gone(self.progress.sub, self.partition);
        }
        let stays_failed = tenure == 0 && self.progress.state() == TaskState::Failed && session.trouble().is_some();
        if !stays_failed {
            slot.retry_at_ms = i64::MIN;
            self.progress.set(state);
        }
        self.query.tell_waiters();
        self.publish(Vec::new());
        tenure != 0
    }

    /// The partitions are not here. Where that is because something is wrong, the task has failed, and looks again after a while.
    fn wait_for_tenure(&self, slot: &mut Slot) -> Next {
        let Some(error) = self.query.session.as_ref().and_then(|session| session.trouble()) else {
            return Next::Park(None);
        };
        if self.progress.state() == TaskState::Failed && self.query.clock.now_ms() < slot.retry_at_ms {
            return Next::Park(Some(slot.retry_at_ms));
        }
        self.fail(slot, &error.into())
    }

    /// A task that may still be this node's waits while the group makes up its mind, and goes on if nobody had it in between: whether it
    /// runs now. `None`: it is thrown away.
    fn keep(&self, slot: &mut Slot, tenure: u64, state: TaskState) -> Option<bool> {
        let task = slot.task.as_mut().filter(|_| state == TaskState::Restoring)?;
        if self.progress.state() == TaskState::Running {
            // Readers do not see what may be another node's by now.
            self.progress.set(TaskState::Restoring);
            self.publish(Vec::new());
        }
        if tenure == 0 {
            return Some(false);
        }
        match catch_unwind(AssertUnwindSafe(|| task.renew(tenure))) {
            Ok(Ok(None)) => Some(false),
            Ok(Ok(Some(true))) => {
                self.publish(task.overlays());
                slot.tenure = tenure;
                self.progress.set(TaskState::Running);
                self.query.tell_waiters();
                Some(true)
            }
            // It is restored, which tells what is wrong.
            _ => None,
        }
    }

    fn publish(&self, overlays: Vec<Arc<Overlay>>) {
        if let Some(materialization) = self.query.materialization.as_ref().filter(|m| m.sub() == self.progress.sub) {
            materialization.publish(self.partition, overlays);
        }
    }

    /// Keeps this node's copy of the task's state up to date while the task runs elsewhere; true if more may be there at once.
    pub fn follow(&self) -> Result<bool, TaskError> {
        if !self.query.recovery.is_open() {
            return Ok(false);
        }
        let mut slot = self.slot.lock();
        let tenure = self.query.session.as_ref().map(|session| session.tenure(&self.progress.inputs));
        let elsewhere = tenure == Some(Tenure::Elsewhere) && slot.task.is_none() && !self.query.is_stopped();
        if !elsewhere {
            // While it is not decided where the task will be, the copy waits.
            return Ok(false);
        }
        standby::follow(&mut slot.copy, &self.query, self.progress.sub, self.partition)
    }

    /// The copy is not kept up to date any more.
    pub fn unfollow(&self) {
        self.end_copy(&mut self.slot.lock());
    }

    fn end_copy(&self, slot: &mut Slot) {
        if let Some(copy) = slot.copy.take() {
            copy.end(&self.query);
        }
    }

    /// Drives the task by hand.
    pub fn with_task<R>(&self, call: impl FnOnce(&mut Task) -> Result<R, TaskError>) -> Result<R, TaskError> {
        if !self.query.recovery.is_open() {
            return Err(TopicError::Poisoned("it cannot be opened again yet".to_owned()).into());
        }
        let mut slot = self.slot.lock();
        let done = self.guarded(&mut slot, |task| {
            task.patient = false;
            call(task)
        });
        if let Err(error) = &done {
            self.fail(&mut slot, error);
        }
        done
    }

    /// Ends the task if it has read all it was to read; true if it has ended, now or before.
    pub fn finish_if_done(&self) -> bool {
        if self.progress.state() == TaskState::Finished {
            return true;
        }
        let mut slot = self.slot.lock();
        let done = slot.task.as_ref().is_some_and(|task| task.is_finished());
        if done {
            self.finish(&mut slot);
        }
        done
    }

    /// Throws the task away; it is made again from the last commit.
    pub fn abort(&self) {
        let mut slot = self.slot.lock();
        slot.task = None;
        self.end_copy(&mut slot);
        slot.retry_at_ms = i64::MIN;
    }

    /// Throws the task away with all it reads from the log, because the log must be opened again.
    pub fn let_go(&self) {
        let mut slot = self.slot.lock();
        self.end_copy(&mut slot);
        if slot.task.take().is_some() {
            self.progress.set(TaskState::Restoring);
        }
        self.publish(Vec::new());
    }

    /// Commits what is pending; afterwards the task rests until it is run again.
    pub fn pause(&self) {
        self.settle(&mut self.slot.lock());
    }

    fn settle(&self, slot: &mut Slot) {
        if slot.task.is_some()
            && let Err(error) = self.guarded(slot, |task| task.commit().map(drop))
        {
            self.fail(slot, &error);
        }
    }

    /// Calls `call` on the task, restored first if need be.
    fn guarded<R>(
        &self,
        slot: &mut Slot,
        call: impl FnOnce(&mut Task) -> Result<R, TaskError>,
    ) -> Result<R, TaskError> {
        let tenure = slot.tenure;
        let task = &mut slot.task;
        let call = AssertUnwindSafe(|| {
            if task.is_none() {
                self.progress.set(TaskState::Restoring);
                *task = Some(Box::new(Task::restore(&self.query, &self.progress, self.partition, tenure)?));
                self.progress.set(TaskState::Running);
                self.query.tell_waiters();
            }
            match task {
                Some(task) => call(task),
                None => unreachable!("restored above"),
            }
        });
        catch_unwind(call).unwrap_or_else(|panic| Err(TaskError::Panic(panic_text(panic.as_ref()))))
    }

    fn finish(&self, slot: &mut Slot) {
        slot.task = None;
        self.progress.set(TaskState::Finished);
        if self.query.unfinished.fetch_sub(1, Ordering::SeqCst) == 1 {
            if let Some(client) = &self.query.spec.client {
                client.end(ClientEnd::Complete);
            }
            self.query.tell_waiters();
        }
    }

    fn fail(&self, slot: &mut Slot, error: &TaskError) -> Next {
        let now_ms = self.query.clock.now_ms();
        // a task may be in any state after an error, even its drop may panic
        let task = slot.task.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
        self.query.note_error(error, (self.progress.sub, self.partition), now_ms);
        self.progress.set(TaskState::Failed);
        self.query.tell_waiters();
        if let TaskError::Topic(TopicError::Poisoned(_)) = error {
            self.query.recovery.poison();
        }
        let settings = &self.query.spec.settings;
        if settings.transient {
            if let Some(client) = &self.query.spec.client {
                client.end(ClientEnd::Failed(crate::diagnostic::Diagnostic::new(error.class(), error.to_string())));
            }
            return Next::Finished;
        }
        let first = match error {
            // nothing is wrong with the query
            TaskError::Topic(TopicError::Aborted(_) | TopicError::Unsent(_)) => {
                settings.backoff_initial_ms.min(ABORTED_MS)
            }
            _ => settings.backoff_initial_ms,
        };
        let wait = first.saturating_mul(1 << slot.failures.min(32));
        slot.failures += 1;
        slot.retry_at_ms = now_ms.saturating_add(wait.min(settings.backoff_max_ms));
        Next::Park(Some(slot.retry_at_ms))
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// A query and its tasks.
pub(super) struct RunningQuery {
    pub shared: Arc<QueryShared>,
    /// tasks, those nearest the sources first
    pub cells: Vec<Arc<TaskCell>>,
}

impl RunningQuery {
    /// Throws the tasks away and lets go of the log; commits that are begun are made.
    pub fn end(&self) {
        self.cells.iter().for_each(|cell| cell.abort());
        if let Some(session) = &self.shared.session {
            session.close();
        }
    }

    /// What can be told about it now.
    pub fn status(&self) -> QueryStatus {
        let sum = |pick: fn(&TaskProgress) -> &AtomicU64| {
            self.cells.iter().map(|c| pick(&c.progress).load(Ordering::Relaxed)).sum()
        };
        let last = self.cells.iter().map(|c| c.progress.last_rows_ms.load(Ordering::Relaxed)).max().unwrap_or(0);
        let positions = self.cells.iter().flat_map(|c| {
            let committed = c.progress.committed.iter().map(|o| o.load(Ordering::SeqCst));
            c.progress.inputs.iter().cloned().zip(committed).filter(|(_, offset)| *offset >= 0)
        });
        QueryStatus {
            id: self.shared.spec.id.clone(),
            state: self.state(),
            errors: self.shared.errors.lock().iter().cloned().collect(),
            tasks: self.cells.len(),
            rows_in: sum(|p| &p.rows_in),
            rows_out: sum(|p| &p.rows_out),
            last_rows_ms: (last > 0).then_some(last),
            positions: positions.collect(),
        }
    }

    /// Its state, read off its tasks.
    pub fn state(&self) -> QueryState {
        let any = |state| self.cells.iter().any(|c| c.progress.state() == state);
        if self.shared.is_stopped() {
            QueryState::Stopped
        } else if any(TaskState::Failed) {
            QueryState::Error
        } else if self.shared.is_paused() {
            QueryState::Paused
        } else if any(TaskState::Restoring) {
            QueryState::Restoring
        } else if any(TaskState::Created) {
            QueryState::Created
        } else if any(TaskState::Running) || any(TaskState::Elsewhere) {
            QueryState::Running
        } else {
            QueryState::Stopped
        }
    }

    /// Losses by kind since it was started here.
    pub fn losses(&self) -> BTreeMap<LossKind, u64> {
        self.shared.processing_log.counts()
    }

    /// True if every task has committed all that its inputs hold.
    pub fn is_caught_up(&self) -> bool {
        let stop_at = self.shared.spec.settings.stop_at.as_ref();
        let is_ours = |c: &&Arc<TaskCell>| !matches!(c.progress.state(), TaskState::Finished | TaskState::Elsewhere);
        self.cells.iter().filter(is_ours).all(|cell| {
            !cell.progress.open.load(Ordering::SeqCst)
                && cell.progress.inputs.iter().zip(&cell.progress.committed).all(|(at, committed)| {
                    let Ok(end) = self.shared.log.undecided_end(at) else { return false };
                    let end = stop_at.and_then(|s| s.get(at)).map_or(end, |&stop| stop.min(end));
                    committed.load(Ordering::SeqCst) >= end
                })
        })
    }
}
