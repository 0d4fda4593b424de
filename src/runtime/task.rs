//! A task: one sub-topology for one partition. [`Task::step`] is the inner loop of the product.
//!
//! Runs on one thread at a time and never waits: it says when it wants to be called again. The subtle thing: a task is a pure function of
//! its committed state and its inputs, so that it can be thrown away at any moment and made again from the last commit.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::operator::Progress;
use crate::plan::topology::{InputSpec, Topology};
use crate::state::Overlay;
use crate::topic::{Offset, Owner, Position, RawBatch, ReadLimit, TopicPartition};
use crate::types::TopicName;

use super::checkpoint::{Checkpoint, Collected, InputMark};
use super::error::TaskError;
use super::graph::{Graph, StepEnv, input_topic};
use super::idle::IdleClose;
use super::partition_group::{InputRows, MergeOrder, PartitionGroup};
use super::processing_log::Lost;
use super::query::QueryShared;
use super::repartition::RepartitionReader;
use super::source::SourceNode;

/// Most rows in a step.
const STEP_ROWS_MAX: usize = 8192;

/// A task with so many times more rows left to read than it has handled since its last commit is far behind.
const FAR_BEHIND: i64 = 2;
/// Few records are never far.
const FAR_BEHIND_ROWS: i64 = 1024;
/// Time between commits of a task that is far behind, in ms: nobody waits for results that old, and more changes of a key become one.
const FAR_BEHIND_MS: i64 = 1000;

/// How far inputs may be read: offset per partition, `None` for all there is.
pub(super) type Limits<'a> = &'a dyn Fn(&TopicPartition) -> Option<Offset>;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stepped {
    /// it handled rows, or may have more to do
    On,
    /// all inputs are at their known ends
    Dry,
    /// other inputs have rows, but one is dry: it may be waited for until then (ms)
    Wait(i64),
    /// the client's queue is full
    Full,
}

/// When a task wants to run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// at once, after others
    Again,
    /// when an input gets records, or at that time (ms)
    Park(Option<i64>),
    /// never: it has read all it was to read
    Finished,
}

/// Lets a task run again.
pub(super) type Waker = Arc<dyn Fn() + Send + Sync>;

/// What others may know of a task while it runs.
pub(super) struct TaskProgress {
    /// which sub-topology
    pub sub: usize,
    /// its inputs
    pub inputs: Vec<TopicPartition>,
    /// committed offsets of the inputs
    pub committed: Vec<AtomicI64>,
    /// true while pages of rows before these offsets are still to come
    pub open: AtomicBool,
    /// a [`TaskState`]
    pub state: AtomicU8,
    /// records read
    pub rows_in: AtomicU64,
    /// records written, rows to clients
    pub rows_out: AtomicU64,
    /// wall clock of the last step with rows, in ms; 0: none yet
    pub last_rows_ms: AtomicI64,
    /// lets the task run again; unset where it is driven by hand
    pub waker: OnceLock<Waker>,
}

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum TaskState {
    /// not made yet
    Created,
    /// being restored
    Restoring,
    /// runs
    Running,
    /// failed, waits for its next try
    Failed,
    /// read all it was to read
    Finished,
    /// runs on another node
    Elsewhere,
}

impl TaskProgress {
    /// A task that has committed nothing here yet.
    pub fn new(topology: &Topology, sub: usize, partition: i32) -> Self {
        let inputs = &topology.subs[sub].inputs;
        Self {
            sub,
            inputs: inputs.iter().map(|i| TopicPartition::new(input_topic(topology, i), partition)).collect(),
            committed: inputs.iter().map(|_| AtomicI64::new(-1)).collect(),
            open: AtomicBool::new(false),
            state: AtomicU8::new(TaskState::Created as u8),
            rows_in: AtomicU64::new(0),
            rows_out: AtomicU64::new(0),
            last_rows_ms: AtomicI64::new(0),
            waker: OnceLock::new(),
        }
    }

    pub fn set(&self, state: TaskState) {
        self.state.store(state as u8, Ordering::SeqCst);
    }

    pub fn state(&self) -> TaskState {
        match self.state.load(Ordering::SeqCst) {
            0 => TaskState::Created,
            1 => TaskState::Restoring,
            2 => TaskState::Running,
            3 => TaskState::Failed,
            5 => TaskState::Elsewhere,
            _ => TaskState::Finished,
        }
    }
}

enum Reader {
    Source(Box<SourceNode>),
    Repartition(Box<RepartitionReader>),
}

struct Input {
    at: TopicPartition,
    /// whose its position is
    owner: Owner,
    reader: Reader,
    /// where a record is continued that was consumed in part
    resume: Position,
    /// true if the last read gave all there was
    at_end: bool,
    /// records that the last read left
    left: i64,
}

/// One sub-topology for one partition.
pub(super) struct Task {
    shared: Arc<QueryShared>,
    progress: Arc<TaskProgress>,
    inputs: Vec<Input>,
    group: PartitionGroup,
    graph: Graph,
    env: StepEnv,
    checkpoint: Checkpoint,
    /// rows were processed since the last commit
    stepped: bool,
    /// how many
    stepped_rows: i64,
    /// pages were still to come at the last commit
    open: bool,
    /// and at the one before
    was_open: bool,
    step_rows: usize,
    commits: u64,
    reads: usize,
    /// closes windows when there is no input; `None`: they wait for it
    idle: Option<IdleClose>,
    /// since when an input is waited for, in ms
    waiting_since: Option<i64>,
    /// false: driven by hand, does not wait for time to pass
    pub patient: bool,
}

impl Task {
    /// Makes a task as of its last commit. Every input has a committed position.
    ///
    /// # Errors
    /// If an operator cannot be made or the log cannot be read.
    pub fn restore(
        shared: &Arc<QueryShared>,
        progress: &Arc<TaskProgress>,
        partition: i32,
        tenure: u64,
    ) -> Result<Self, TaskError> {
        let topology = &shared.spec.topology;
        let spec = &topology.subs[progress.sub];
        let partitions_of = |topic: &TopicName| shared.partitions_of(topic);
        let mut graph = Graph::new(topology, progress.sub, partition, &shared.spec.settings.limits, &partitions_of)?;
        let (mut inputs, mut marks) = (Vec::new(), Vec::new());
        for (index, input) in spec.inputs.iter().enumerate() {
            let at = progress.inputs[index].clone();
            let owner = shared.input_owner(progress.sub, index);
            let position = shared.start_position(&owner, input, &at)?;
            let (reader, trim) = match input {
                InputSpec::Source(source) => (
                    Reader::Source(Box::new(SourceNode::new(source, partition, shared.spec.settings.strictness)?)),
                    false,
                ),
                InputSpec::Repartition { topic, .. } => {
                    (Reader::Repartition(Box::new(RepartitionReader::new(&topology.internal_topics[*topic]))), true)
                }
            };
            inputs.push(Input {
                at: at.clone(),
                owner: owner.clone(),
                reader,
                resume: position,
                at_end: false,
                left: 0,
            });
            marks.push(InputMark { owner, at, committed: position, trim });
        }
        let order = if shared.spec.settings.by_arrival { MergeOrder::Arrival } else { MergeOrder::RowTime };
        let mut group = PartitionGroup::new(order, inputs.iter().map(|i| i.resume.offset));
        inputs.iter().enumerate().for_each(|(n, input)| group.consumed_before(n, input.resume.consumed));
        let checkpoint =
            Checkpoint::restore(shared, &mut graph, (progress.sub, partition), tenure, marks, shared.clock.now_ms())?;
        let mut env = StepEnv::default();
        env.ctx.coalesce = shared.spec.settings.coalesce;
        env.ctx.outer_emit_interval_ms = shared.spec.settings.outer_emit_interval_ms;
        env.ctx.limits = shared.spec.settings.limits.clone();
        env.ctx.page_rows = shared.spec.settings.page_rows;
        graph.reopen(&mut env)?;
        let open = graph.is_open();
        let task = Self {
            shared: shared.clone(),
            progress: progress.clone(),
            inputs,
            group,
            graph,
            env,
            checkpoint,
            stepped: false,
            stepped_rows: 0,
            open,
            was_open: open,
            step_rows: STEP_ROWS_MAX,
            commits: 0,
            reads: 0,
            idle: IdleClose::new(shared, progress.sub, shared.clock.now_ms()),
            waiting_since: None,
            patient: true,
        };
        task.tell_progress();
        Ok(task)
    }

    /// The task's partitions are this node's again after the group gave them anew. True if it goes on, since nobody had them in between;
    /// `None` while a commit is under way.
    ///
    /// # Errors
    /// The task must be restored.
    pub fn renew(&mut self, tenure: u64) -> Result<Option<bool>, TaskError> {
        self.collect(self.shared.clock.now_ms())?;
        if self.checkpoint.is_under_way() {
            return Ok(None);
        }
        // Else another node could have committed and left the positions as they were.
        let told = !self.open && !self.was_open && !self.graph.is_open() && self.idle.is_none();
        let goes_on = told && self.checkpoint.renew(&self.shared, tenure, self.progress.waker.get())?;
        Ok(Some(goes_on))
    }

    /// What readers see of its stores.
    pub fn overlays(&self) -> Vec<Arc<Overlay>> {
        self.checkpoint.overlays()
    }

    /// Handles one step of rows, or one page of it: where operators give out many rows for few, a commit may fall before the next call.
    ///
    /// # Errors
    /// The task must be restored.
    pub fn step(&mut self, limits: Limits<'_>) -> Result<Stepped, TaskError> {
        let now_ms = self.shared.clock.now_ms();
        if let Some(stepped) = self.client_is_full(now_ms)? {
            return Ok(stepped);
        }
        if self.graph.is_open() {
            return self.page(now_ms);
        }
        let closes = match &mut self.idle {
            Some(idle) => idle.is_due(&self.shared, now_ms)?,
            None => false,
        };
        let mut came = false;
        for input in 0..self.inputs.len() {
            if self.group.is_dry(input) {
                came |= self.fetch(input, limits)?;
            }
        }
        self.note_group_losses();
        let dry = |i: &usize| self.group.is_dry(*i);
        if (0..self.inputs.len()).filter(dry).any(|i| !self.inputs[i].at_end) {
            // what is on its way wakes the task; an input at its end alone is no reason to look again
            return Ok(if came { Stepped::On } else { Stepped::Dry });
        }
        if self.group.is_empty() {
            return if closes { self.close_windows(now_ms) } else { Ok(Stepped::Dry) };
        }
        if let Some(until) = self.wait_for_dry_input(now_ms).filter(|_| self.patient) {
            return Ok(Stepped::Wait(until));
        }
        let Some(step) = self.group.step(self.step_rows) else { return Ok(Stepped::Dry) };
        self.note_group_losses();
        self.env.arrivals = step.arrivals;
        self.stepped_rows += step.rows as i64;
        self.progress.rows_in.fetch_add(step.rows as u64, Ordering::Relaxed);
        self.progress.last_rows_ms.store(now_ms, Ordering::Relaxed);
        self.graph.start(step.batches);
        self.page(now_ms)
    }

    /// The input is idle for long enough: a step without rows, which closes windows.
    fn close_windows(&mut self, now_ms: i64) -> Result<Stepped, TaskError> {
        if let Some(idle) = &mut self.idle {
            idle.closed();
        }
        if !self.graph.close_windows()? {
            return Ok(Stepped::Dry);
        }
        self.env.arrivals = None;
        self.page(now_ms)
    }

    /// Runs the step at hand to the next place where a commit may fall.
    fn page(&mut self, now_ms: i64) -> Result<Stepped, TaskError> {
        self.stepped = true;
        self.env.ctx.wall_ms = now_ms;
        let before = self.pending_bytes();
        while self.graph.page(&mut self.env)? == Progress::More && !self.graph.can_commit()? {}
        self.adapt(before);
        Ok(Stepped::On)
    }

    /// Runs until it is out of input or its time is up, and commits when it is time to.
    ///
    /// # Errors
    /// The task must be restored.
    pub fn run_slice(&mut self, limits: Limits<'_>) -> Result<Next, TaskError> {
        let config = self.shared.config.clone();
        let start = self.shared.clock.now_ms();
        loop {
            // what is written behind must be committed, all of it: no steps while that is awaited
            if !self.collect(self.shared.clock.now_ms())? && self.wants_write() {
                return Ok(Next::Park(None));
            }
            let stepped = self.step(limits)?;
            let now = self.shared.clock.now_ms();
            match stepped {
                Stepped::On => {
                    let late = now >= self.commit_due_ms(self.interval_ms());
                    if (late || self.wants_commit()) && !self.commit()? && self.wants_commit() {
                        return Ok(Next::Park(None));
                    }
                    if now - start >= config.slice_ms {
                        return Ok(Next::Again);
                    }
                }
                Stepped::Dry => {
                    // more may be on its way, if the end is not known
                    let due = self.commit_due_ms(self.shared.pace().drained_ms);
                    if now < due && self.has_work() && !self.wants_commit() {
                        return Ok(Next::Park(Some(due)));
                    }
                    if !self.commit()? {
                        return Ok(Next::Park(None));
                    }
                    return Ok(if self.is_finished() { Next::Finished } else { Next::Park(self.due_ms()) });
                }
                Stepped::Wait(until) => {
                    self.commit()?;
                    return Ok(Next::Park(Some(self.write_due_ms().map_or(until, |due| due.min(until)))));
                }
                Stepped::Full => {
                    self.commit()?;
                    return Ok(Next::Park(Some(now + self.shared.spec.settings.client_stall_ms)));
                }
            }
        }
    }

    /// Commits what was done since the last commit, if anything was; then writes behind where it is time to. False while a commit is on
    /// its way: the task is woken when it is decided, and may step until then.
    ///
    /// # Errors
    /// The task must be restored.
    pub fn commit(&mut self) -> Result<bool, TaskError> {
        let now_ms = self.shared.clock.now_ms();
        if !self.collect(now_ms)? {
            return Ok(false);
        }
        if self.has_work() {
            let positions: Vec<Position> = (0..self.inputs.len()).map(|i| self.group.position(i)).collect();
            let waker = self.progress.waker.get();
            let at_once =
                self.checkpoint.commit(&self.shared, &mut self.graph, &mut self.env, &positions, now_ms, waker)?;
            (self.stepped, self.stepped_rows) = (false, 0);
            (self.was_open, self.open) = (self.open, self.graph.is_open());
            self.progress.rows_out.fetch_add(std::mem::take(&mut self.env.rows_out) as u64, Ordering::Relaxed);
            if !at_once {
                return Ok(false);
            }
            self.tell_commit();
        }
        self.checkpoint.tidy(&self.shared, &mut self.graph, now_ms)?;
        Ok(true)
    }

    /// Looks after the commit that is on its way; false if it is not decided.
    fn collect(&mut self, now_ms: i64) -> Result<bool, TaskError> {
        match self.checkpoint.collect()? {
            Collected::None => {}
            Collected::Pending => return Ok(false),
            Collected::Committed => {
                self.tell_commit();
                if self.stepped {
                    self.checkpoint.measure(&mut self.graph);
                } else {
                    self.checkpoint.tidy(&self.shared, &mut self.graph, now_ms)?;
                }
            }
        }
        Ok(true)
    }

    fn wants_write(&self) -> bool {
        self.checkpoint.wants_write(&self.shared, self.shared.clock.now_ms())
    }

    /// True if there is something to commit.
    fn has_work(&self) -> bool {
        let moved = |i| self.group.position(i) != self.checkpoint.promised(i);
        self.stepped || !self.env.out.is_empty() || (0..self.inputs.len()).any(moved)
    }

    fn tell_commit(&mut self) {
        self.commits += 1;
        self.shared.committed();
        self.tell_progress();
        self.shared.tell_waiters();
    }

    /// True if it has committed anything since it was made.
    pub fn has_committed(&self) -> bool {
        self.commits > 0
    }

    /// True if so much waits that it must be committed now.
    pub fn wants_commit(&mut self) -> bool {
        let client_rows = self.env.out.client_rows();
        let client_full = self.shared.spec.client.as_ref().is_some_and(|c| client_rows >= c.capacity_rows());
        let pace = self.shared.pace();
        let outputs_full = self.env.out.bytes() >= pace.output_bytes;
        let pending_max = pace.pending_bytes.min(self.shared.config.commit_max_bytes);
        client_full || outputs_full || self.pending_bytes() >= pending_max
    }

    fn interval_ms(&self) -> i64 {
        self.shared.spec.settings.commit_interval_ms.unwrap_or(self.shared.pace().interval_ms)
    }

    /// When the next commit is due, so long after the last one or, far behind, longer.
    fn commit_due_ms(&self, after_ms: i64) -> i64 {
        let after_ms = if self.is_patient() { after_ms.max(FAR_BEHIND_MS) } else { after_ms };
        self.checkpoint.last_commit_ms().saturating_add(after_ms)
    }

    /// True if so much is left to read that commits may be rare. A client waits even for old results, and who asked for an
    /// interval gets it. The first commit is soon, since it shows that all is well.
    fn is_patient(&self) -> bool {
        let settings = &self.shared.spec.settings;
        if settings.commit_interval_ms.is_some() || self.shared.spec.client.is_some() || self.commits == 0 {
            return false;
        }
        let left = self.inputs.iter().map(|input| input.left).max().unwrap_or(0);
        is_far_behind(left, self.stepped_rows)
    }

    /// When there is something to do without input.
    fn due_ms(&self) -> Option<i64> {
        let closes = self.idle.as_ref().and_then(IdleClose::due_ms);
        self.write_due_ms().into_iter().chain(closes).min()
    }

    fn write_due_ms(&self) -> Option<i64> {
        self.checkpoint.write_due_ms()
    }

    fn pending_bytes(&mut self) -> usize {
        let dirty: usize = self.graph.stores().map(|(_, store)| store.dirty_bytes()).sum();
        self.env.out.bytes() + dirty
    }

    /// Steps become smaller while one of them fills a commit by itself, and grow again when not.
    fn adapt(&mut self, pending_before: usize) {
        let made = self.pending_bytes().saturating_sub(pending_before);
        if made > self.shared.config.commit_max_bytes / 2 {
            self.step_rows = (self.step_rows / 4).max(1);
        } else if self.step_rows < STEP_ROWS_MAX {
            self.step_rows = (self.step_rows * 2).min(STEP_ROWS_MAX);
        }
    }

    fn client_is_full(&self, now_ms: i64) -> Result<Option<Stepped>, TaskError> {
        let Some(client) = &self.shared.spec.client else { return Ok(None) };
        if client.reader_left() {
            return Ok(Some(Stepped::Full));
        }
        if client.has_room(now_ms) {
            return Ok(None);
        }
        let stall_ms = self.shared.spec.settings.client_stall_ms;
        if client.stalled_ms(now_ms) >= stall_ms {
            Err(TaskError::SlowReader(stall_ms))
        } else {
            Ok(Some(Stepped::Full))
        }
    }

    /// Until when a dry input is waited for while others have rows (`max.task.idle.ms`).
    fn wait_for_dry_input(&mut self, now_ms: i64) -> Option<i64> {
        let idle_ms = self.shared.spec.settings.max_task_idle_ms;
        if idle_ms <= 0 || (0..self.inputs.len()).all(|i| !self.group.is_dry(i)) {
            self.waiting_since = None;
            return None;
        }
        let until = *self.waiting_since.get_or_insert(now_ms) + idle_ms;
        (now_ms < until).then_some(until)
    }

    /// True if it was to stop somewhere and is there.
    pub fn is_finished(&self) -> bool {
        let Some(stop_at) = &self.shared.spec.settings.stop_at else { return false };
        let reached = |i: &Input, offset: Offset| stop_at.get(&i.at).is_some_and(|&stop| offset >= stop);
        self.inputs.iter().enumerate().all(|(n, input)| reached(input, self.group.position(n).offset))
    }

    /// Reads a dry input once; true if its position moved.
    fn fetch(&mut self, input: usize, limits: Limits<'_>) -> Result<bool, TaskError> {
        let limit = self.read_limit();
        let from = self.group.next_offset(input);
        let Input { at, owner, reader, resume, at_end, left } = &mut self.inputs[input];
        let stop = limits(at);
        if stop.is_some_and(|stop| from >= stop) {
            (*at_end, *left) = (true, 0);
            return Ok(false);
        }
        let fetched = match &self.shared.session {
            None => self.shared.log.read(at, from, limit)?,
            Some(session) => session.read(owner, at, from, limit)?,
        };
        let mut raw = fetched.batch;
        let mut next = fetched.next.max(from);
        let end = stop.map_or(fetched.end, |stop| stop.min(fetched.end));
        if let Some(stop) = stop {
            let within = raw.offsets.partition_point(|&o| o < stop);
            if within < raw.len() {
                raw = raw.slice(0, within);
            }
            next = next.min(stop.max(from));
        }
        *at_end = next >= end;
        *left = end - next;
        if let Some(idle) = self.idle.as_mut().filter(|_| !raw.is_empty()) {
            idle.input_came(self.shared.clock.now_ms());
        }
        match read_rows(reader, &raw, *resume, next)? {
            Some(rows) => self.group.push(input, rows),
            None => self.group.skip_to(input, next),
        }
        Ok(next > from)
    }

    fn read_limit(&mut self) -> ReadLimit {
        let settings = &self.shared.spec.settings;
        match &settings.read_sizes {
            Some(sizes) if !sizes.is_empty() => {
                let max_records = sizes[self.reads % sizes.len()].max(1);
                self.reads += 1;
                ReadLimit { max_records, ..settings.read_limit }
            }
            _ => settings.read_limit,
        }
    }

    fn note_group_losses(&mut self) {
        for (input, loss) in self.group.take_losses() {
            self.env.lost.push(Lost { step: "KsqlTopic".into(), from: Some(self.inputs[input].at.clone()), loss });
        }
    }

    fn tell_progress(&self) {
        // first, lest someone sees the new offsets and believes that all is through
        self.progress.open.store(self.open, Ordering::SeqCst);
        for (input, told) in self.progress.committed.iter().enumerate() {
            let position = self.checkpoint.committed(input);
            told.store(position.offset, Ordering::SeqCst);
        }
    }
}

/// True with so many records left to read and so many rows handled since the last commit. The nearer the end, the sooner it is false: what
/// waits for a commit is never more than a share of what is left.
fn is_far_behind(left: i64, stepped_rows: i64) -> bool {
    left > FAR_BEHIND.saturating_mul(stepped_rows.max(FAR_BEHIND_ROWS))
}

/// The rows of what was read; `None` if it holds none.
fn read_rows(
    reader: &mut Reader,
    raw: &RawBatch,
    resume: Position,
    next: Offset,
) -> Result<Option<InputRows>, TaskError> {
    if raw.is_empty() {
        return Ok(None);
    }
    let rows = match reader {
        Reader::Source(source) => {
            let rows = source.decode(raw)?;
            let arrivals = match (&raw.arrivals, rows.kept) {
                (Some(arrivals), Some(kept)) => Some(kept.iter().map(|&row| arrivals[row as usize]).collect()),
                (arrivals, _) => arrivals.clone(),
            };
            InputRows { batch: rows.batch, arrivals, losses: rows.losses, next, skipped: 0 }
        }
        Reader::Repartition(repartition) => {
            let skipped = if raw.offsets[0] == resume.offset { resume.consumed } else { 0 };
            let (batch, arrivals) = repartition.decode(raw, skipped)?;
            let Some(batch) = batch else { return Ok(None) };
            InputRows { batch, arrivals, losses: Vec::new(), next, skipped }
        }
    };
    Ok(Some(rows))
}

/// Names the owner of an input's position: the group, with a number where the query reads a topic more than once.
pub(super) fn input_owner(topology: &Topology, owner: &Owner, sub: usize, input: usize) -> Owner {
    let topic = input_topic(topology, &topology.subs[sub].inputs[input]);
    let before = topology
        .subs
        .iter()
        .enumerate()
        .flat_map(|(s, spec)| spec.inputs.iter().enumerate().map(move |(i, spec)| ((s, i), spec)))
        .filter(|(place, spec)| *place < (sub, input) && input_topic(topology, spec) == topic)
        .count();
    if before == 0 { owner.clone() } else { Owner::new(format!("{}~{before}", owner.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_far_behind_commits_wait() {
        assert!(is_far_behind(1_000_000, 10_000));
        assert!(is_far_behind(1_000_000, 250_000));
        assert!(!is_far_behind(1_000_000, 500_000), "half of what is left waits already");
        assert!(!is_far_behind(1000, 0), "little is left");
        assert!(!is_far_behind(0, 1), "at the end");
    }
}
