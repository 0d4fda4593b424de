//! What moves records: tasks over the partitions of topics, worker threads, order, commits, restarts.
//!
//! Knows topologies and no SQL. The walk of a record: [`task`] reads it from the log, [`source`] decodes it, [`partition_group`] gives it its
//! place among the other inputs, [`graph`] runs it through the operators, [`sink`] or [`repartition`] makes records of what comes out, and
//! [`checkpoint`] commits these with the changed state and the new positions in one step. [`worker`] decides who runs, [`query`] what happens
//! after a failure, [`materialization`] what pull queries see. The subtle thing: threads are optional. A runtime made by
//! [`Runtime::manual`] runs the same tasks only when a test calls [`Runtime::pump`].

mod checkpoint;
mod client;
mod cursor;
mod entries;
mod error;
mod graph;
mod idle;
mod materialization;
mod output;
mod partition_group;
mod processing_log;
mod query;
mod read;
mod recovery;
mod repartition;
mod repartition_payload;
mod restore;
mod row_time;
mod rows;
mod settings;
mod sink;
mod source;
mod standby;
mod task;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::clock::Clock;
use crate::operator::LossKind;
use crate::plan::topology::Topology;
use crate::topic::{
    Cleanup, Commit, Log, Offset, Owner, Pace, Position, TopicError, TopicPartition, TopicSpec, WatchGuard,
};
use crate::types::{QueryId, TopicName};

pub use client::{CLIENT_QUEUE_ROWS, ClientEnd, ClientNext, ClientQueue};
pub use entries::{ByteRange, Elsewhere, Entries, Entry, RemoteEntries};
pub use error::{RuntimeError, TaskError};
pub use materialization::{MaterializedView, StateScan};
pub use query::{QueryError, QueryState, QueryStatus};
pub use read::MissingPartition;
pub use restore::{StoreProgress, restoring};
pub use settings::{QuerySettings, QuerySpec, RuntimeConfig, Strictness};

use checkpoint::MemoryBudget;
use graph::{Graph, input_topic};
use materialization::Materialization;
use processing_log::ProcessingLog;
use query::{IdleSignal, QueryShared, RunningQuery, TaskCell, first_position};
use recovery::Recovery;
use restore::Restores;
use standby::Standbys;
use task::{Stepped, Task, input_owner};
use worker::Scheduler;

/// What a task does when it is driven by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// one step of rows, which stays uncommitted
    Step,
    /// a commit of the steps before
    Commit,
    /// what a worker has it do: steps and commits until it is out of input or its time is up, back-off after failures
    Slice,
}

struct Started {
    query: RunningQuery,
    watches: Mutex<Vec<WatchGuard>>,
}

impl Started {
    /// Stops the tasks at their last commit, unless they are.
    fn end(&self) {
        if !self.query.shared.is_stopped() {
            self.query.shared.stopped.store(true, Ordering::SeqCst);
            self.watches.lock().clear();
            self.query.end();
        }
    }
}

/// Outputs take at most one part in so many of what a commit without a session may hold.
const OUTPUT_SHARE: usize = 8;

/// Runs queries over a log.
pub struct Runtime {
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    config: Arc<RuntimeConfig>,
    memory: Arc<MemoryBudget>,
    idle: Arc<IdleSignal>,
    recovery: Arc<Recovery>,
    queries: RwLock<BTreeMap<QueryId, Arc<Started>>>,
    standbys: Arc<Standbys>,
    /// `None`: driven by hand
    scheduler: Option<Arc<Scheduler>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Runtime {
    /// A runtime with worker threads, which end when it is dropped; push queries are then forgotten, others go on at the next start.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn new(log: Arc<dyn Log>, clock: Arc<dyn Clock>, config: RuntimeConfig) -> Result<Self, TopicError> {
        let scheduler = Arc::new(Scheduler::new(clock.clone(), log.clone()));
        let workers = match config.workers {
            // one more than cores, so that one that waits for the disk leaves its core to another
            0 => std::thread::available_parallelism().map_or(2, usize::from) + 1,
            n => n,
        };
        let mut runtime = Self::manual(log, clock, config);
        runtime.scheduler = Some(scheduler.clone());
        for number in 0..workers {
            let scheduler = scheduler.clone();
            let thread =
                std::thread::Builder::new()
                    .name(format!("worker-{number}"))
                    .spawn(move || scheduler.work())
                    .map_err(|e| TopicError::Io { what: "start a worker thread".to_owned(), reason: e.to_string() })?;
            runtime.threads.lock().push(thread);
        }
        Ok(runtime)
    }

    /// A runtime without threads: queries move only by [`Self::pump`] and [`Self::pump_step`].
    pub fn manual(log: Arc<dyn Log>, clock: Arc<dyn Clock>, config: RuntimeConfig) -> Self {
        Self {
            recovery: Recovery::new(log.clone()),
            log,
            clock,
            memory: Arc::new(MemoryBudget::new(config.memory_bytes)),
            config: Arc::new(config),
            idle: Arc::default(),
            queries: RwLock::default(),
            standbys: Arc::default(),
            scheduler: None,
            threads: Mutex::default(),
        }
    }

    /// Opens the log again if an earlier write failed, whoever's it was; true if it can be written. All queries go on from their last
    /// commit. Must not be called from within a task.
    pub fn revive_log(&self) -> bool {
        self.recovery.revive()
    }

    /// True for a runtime without threads.
    pub fn is_manual(&self) -> bool {
        self.scheduler.is_none()
    }

    /// Starts a query: makes its internal topics, notes where its inputs start (unless it has committed positions), lets its tasks run.
    ///
    /// # Errors
    /// If the id is taken, a topic is missing, or an operator cannot be made. Nothing runs then.
    pub fn start(&self, spec: QuerySpec) -> Result<(), RuntimeError> {
        if self.queries.read().get(&spec.id).is_some_and(|e| !e.query.shared.is_stopped()) {
            return Err(RuntimeError::Exists(spec.id));
        }
        self.make_internal_topics(&spec)?;
        let starts = self.start_positions(&spec)?;
        let query = self.build(spec, starts)?;
        self.recovery.watch(&query.cells);
        let watches = query.cells.chunk_by(|a, b| a.progress.sub == b.progress.sub).filter_map(|c| self.watch(c));
        let entry = Arc::new(Started { watches: Mutex::new(watches.collect()), query });
        if let Some(client) = &entry.query.shared.spec.client {
            let (cells, scheduler) = (entry.query.cells.clone(), self.scheduler.clone());
            client.on_room(Arc::new(move || wake_all(scheduler.as_ref(), &cells)));
        }
        self.queries.write().insert(entry.query.shared.spec.id.clone(), entry.clone());
        wake_all(self.scheduler.as_ref(), &entry.query.cells);
        self.standbys.add(&entry.query.shared, &entry.query.cells)?;
        Ok(())
    }

    /// Stops a query at its last commit. A persistent one can be started again and goes on there; a push query is forgotten.
    ///
    /// # Errors
    /// If there is no such query, or the log cannot forget a push query.
    pub fn stop(&self, id: &QueryId) -> Result<(), RuntimeError> {
        let entry = self.entry(id)?;
        entry.query.shared.stopped.store(true, Ordering::SeqCst);
        entry.watches.lock().clear();
        entry.query.end();
        if let Some(client) = &entry.query.shared.spec.client {
            client.end(ClientEnd::Stopped);
        }
        self.idle_changed(&entry);
        if entry.query.shared.spec.settings.transient { self.forget(id) } else { Ok(()) }
    }

    /// Stops a query and deletes its positions, state and internal topics.
    ///
    /// # Errors
    /// If there is no such query, or the log cannot be written.
    pub fn forget(&self, id: &QueryId) -> Result<(), RuntimeError> {
        let entry = self.entry(id)?;
        entry.end();
        let spec = &entry.query.shared.spec;
        for owner in owners(&spec.topology, &spec.owner) {
            self.log.forget(&owner)?;
        }
        for topic in &spec.topology.internal_topics {
            match self.log.delete_topic(&topic.name) {
                Ok(()) | Err(TopicError::UnknownTopic(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.queries.write().remove(id);
        Ok(())
    }

    /// Stops a query that another node forgets for all; only what this node keeps of it is deleted here.
    ///
    /// # Errors
    /// If there is no such query, or this node's copy cannot be deleted.
    pub fn release(&self, id: &QueryId) -> Result<(), RuntimeError> {
        let entry = self.entry(id)?;
        entry.end();
        self.queries.write().remove(id);
        owners(&entry.query.shared.spec.topology, &entry.query.shared.spec.owner)
            .iter()
            .try_for_each(|owner| self.log.release(owner))?;
        Ok(())
    }

    /// Commits what is pending and stops processing until [`Self::resume`].
    ///
    /// # Errors
    /// If there is no such query.
    pub fn pause(&self, id: &QueryId) -> Result<(), RuntimeError> {
        let entry = self.entry(id)?;
        entry.query.shared.paused.store(true, Ordering::SeqCst);
        entry.query.cells.iter().for_each(|cell| cell.pause());
        self.idle_changed(&entry);
        Ok(())
    }

    /// Lets a paused query go on.
    ///
    /// # Errors
    /// If there is no such query.
    pub fn resume(&self, id: &QueryId) -> Result<(), RuntimeError> {
        let entry = self.entry(id)?;
        entry.query.shared.paused.store(false, Ordering::SeqCst);
        wake_all(self.scheduler.as_ref(), &entry.query.cells);
        Ok(())
    }

    /// How a query is, if it was started here and not forgotten.
    pub fn status(&self, id: &QueryId) -> Option<QueryStatus> {
        self.queries.read().get(id).map(|e| e.query.status())
    }

    /// How all queries are, by id.
    pub fn statuses(&self) -> Vec<QueryStatus> {
        self.queries.read().values().map(|e| e.query.status()).collect()
    }

    /// Rows and values a query lost since it was started here, by kind.
    pub fn losses(&self, id: &QueryId) -> BTreeMap<LossKind, u64> {
        self.queries.read().get(id).map(|e| e.query.losses()).unwrap_or_default()
    }

    /// How far the stores are that a query has on this node.
    pub fn restored(&self, id: &QueryId) -> Vec<StoreProgress> {
        self.queries.read().get(id).map(|e| e.query.shared.restores.all()).unwrap_or_default()
    }

    /// Bytes that the stores of all queries hold in memory, about.
    pub fn memory_bytes(&self) -> usize {
        self.memory.used()
    }

    /// Waits until every running query that `filter` picks has committed everything its inputs hold, also what the others made for it;
    /// false if that did not come within `timeout`. Paused and failed queries are not waited for.
    pub fn wait_idle(&self, filter: &dyn Fn(&QueryId) -> bool, timeout: Duration) -> bool {
        self.idle.wait(Instant::now() + timeout, || {
            loop {
                let before = self.idle.commits();
                let entries: Vec<_> = self.queries.read().values().cloned().collect();
                let running = entries.iter().filter(|e| filter(&e.query.shared.spec.id) && is_live(e.query.state()));
                if !running.into_iter().all(|e| e.query.is_caught_up()) {
                    return false;
                }
                // a commit in between may have given work to a query that was looked at before
                if self.idle.commits() == before {
                    return true;
                }
            }
        })
    }

    /// Manual mode: runs a query until nothing is left below the offsets that `limits` gives (`None`: below the end), and commits.
    ///
    /// # Errors
    /// If a task fails; it is restored at the next call.
    pub fn pump(&self, id: &QueryId, limits: &dyn Fn(&TopicPartition) -> Option<Offset>) -> Result<(), RuntimeError> {
        let entry = self.entry(id)?;
        if entry.query.shared.is_paused() {
            return Ok(());
        }
        loop {
            let mut moved = false;
            for cell in &entry.query.cells {
                if !cell.finish_if_done() {
                    moved |= cell.with_task(|task| drive(task, limits))?;
                    cell.finish_if_done();
                }
            }
            if !moved {
                return Ok(());
            }
        }
    }

    /// Manual mode: one step and its commit, of the first task that has rows; false if none has.
    ///
    /// # Errors
    /// As [`Self::pump`].
    pub fn pump_step(
        &self,
        id: &QueryId,
        limits: &dyn Fn(&TopicPartition) -> Option<Offset>,
    ) -> Result<bool, RuntimeError> {
        let entry = self.entry(id)?;
        if entry.query.shared.is_paused() {
            return Ok(false);
        }
        for cell in &entry.query.cells {
            let stepped = cell.with_task(|task| {
                let stepped = task.step(limits)?;
                task.commit()?;
                Ok(stepped == Stepped::On)
            })?;
            if stepped {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Manual mode: gives one task of a query, by its number below [`QueryStatus::tasks`], one turn; true if it may have more to do.
    ///
    /// # Errors
    /// As [`Self::pump`]; a failed [`Turn::Slice`] shows in the query's status only, as with workers.
    pub fn pump_task(&self, id: &QueryId, task: usize, turn: Turn) -> Result<bool, RuntimeError> {
        let entry = self.entry(id)?;
        let Some(cell) = entry.query.cells.get(task) else { return Ok(false) };
        if turn == Turn::Slice {
            return Ok(cell.run() == task::Next::Again);
        }
        if entry.query.shared.is_paused() {
            return Ok(false);
        }
        let moved = cell.with_task(|task| match turn {
            Turn::Commit => task.commit().map(|_| false),
            _ => Ok(task.step(&|_| None)? == Stepped::On),
        });
        Ok(moved?)
    }

    /// Throws a query's tasks away, with all that is not committed; they are made again from the last commit.
    ///
    /// # Errors
    /// If there is no such query.
    pub fn abort(&self, id: &QueryId) -> Result<(), RuntimeError> {
        let entry = self.entry(id)?;
        entry.query.cells.iter().for_each(|cell| cell.abort());
        wake_all(self.scheduler.as_ref(), &entry.query.cells);
        Ok(())
    }

    fn entry(&self, id: &QueryId) -> Result<Arc<Started>, RuntimeError> {
        self.queries.read().get(id).cloned().ok_or_else(|| RuntimeError::UnknownQuery(id.clone()))
    }

    fn idle_changed(&self, entry: &Started) {
        entry.query.shared.tell_waiters();
    }

    fn make_internal_topics(&self, spec: &QuerySpec) -> Result<(), RuntimeError> {
        for topic in &spec.topology.internal_topics {
            let wanted = TopicSpec {
                name: topic.name.clone(),
                partitions: topic.partitions,
                replicas: self.config.internal_replicas,
                cleanup: Cleanup::default(),
            };
            match self.log.create_topic(&wanted) {
                Ok(()) => {}
                Err(TopicError::Exists(_)) => {
                    let found = self.log.describe(&topic.name)?.map_or(0, |t| t.partitions);
                    if found != topic.partitions {
                        return Err(RuntimeError::InternalTopic {
                            topic: topic.name.to_string(),
                            found,
                            wanted: topic.partitions,
                        });
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Where inputs start that were never read. Persistent queries commit it at once, so that a restart neither skips nor repeats.
    fn start_positions(&self, spec: &QuerySpec) -> Result<BTreeMap<(Owner, TopicPartition), Position>, RuntimeError> {
        let mut starts = BTreeMap::new();
        for (sub, sub_spec) in spec.topology.subs.iter().enumerate() {
            for (index, input) in sub_spec.inputs.iter().enumerate() {
                let owner = input_owner(&spec.topology, &spec.owner, sub, index);
                let known = self.log.positions(&owner)?;
                let topic = input_topic(&spec.topology, input);
                for partition in 0..sub_spec.partitions {
                    let at = TopicPartition::new(topic.clone(), partition);
                    if !known.contains_key(&at) {
                        starts.insert((owner.clone(), at.clone()), first_position(self.log.as_ref(), input, &at)?);
                    }
                }
            }
        }
        if !spec.settings.transient && !starts.is_empty() {
            let positions = starts.iter().map(|((owner, at), p)| (owner.clone(), at.clone(), *p)).collect();
            let done = self.log.commit(Commit { positions, ..Commit::default() });
            // Another node that reads already noted them before it did, and then the group takes none from outside.
            if done.is_err() && !(self.log.is_shared() && self.are_noted(starts.keys())?) {
                done?;
            }
        }
        Ok(starts)
    }

    /// True if positions are there for all of these.
    fn are_noted<'a>(&self, places: impl Iterator<Item = &'a (Owner, TopicPartition)>) -> Result<bool, RuntimeError> {
        let mut known = BTreeMap::new();
        for (owner, at) in places {
            if !known.contains_key(owner) {
                known.insert(owner, self.log.positions(owner)?);
            }
            if !known.get(owner).is_some_and(|positions| positions.contains_key(at)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn build(
        &self,
        spec: QuerySpec,
        starts: BTreeMap<(Owner, TopicPartition), Position>,
    ) -> Result<RunningQuery, RuntimeError> {
        let topology = spec.topology.clone();
        let plog = self.config.processing_log.clone();
        let reads_log = |s: &crate::plan::topology::SubTopology| {
            s.inputs.iter().any(|i| Some(input_topic(&topology, i)) == self.config.processing_log)
        };
        let plog = match plog {
            Some(topic) if self.log.describe(&topic)?.is_none() => {
                tracing::warn!(query = %spec.id, "topic '{topic}' of the processing log is not there: losses are only counted");
                None
            }
            plog => plog.filter(|_| !topology.subs.iter().any(reads_log)),
        };
        let materialization =
            topology.materialization.is_some().then(|| Materialization::new(&topology, &spec.settings.limits));
        let places: Vec<(usize, i32)> =
            topology.subs.iter().enumerate().flat_map(|(s, spec)| (0..spec.partitions).map(move |p| (s, p))).collect();
        // driven by hand, reads and commits may wait
        let session = match &self.scheduler {
            Some(_) => self.log.session(&spec.owner, &input_topics(&topology))?,
            None => None,
        };
        // records gain nothing by waiting, as changes of state do, and here a commit costs little
        let output_bytes = (self.config.commit_max_bytes / OUTPUT_SHARE).max(1);
        let pending_bytes = self.config.commit_max_bytes;
        let interval_ms = self.config.commit_interval_ms;
        let own_pace = Pace { interval_ms, drained_ms: 0, output_bytes, pending_bytes };
        let shared = Arc::new(QueryShared {
            log: self.log.clone(),
            clock: self.clock.clone(),
            config: self.config.clone(),
            memory: self.memory.clone(),
            query_memory: Arc::new(MemoryBudget::new(spec.settings.memory_bytes)),
            processing_log: ProcessingLog::new(spec.id.clone(), plog),
            materialization: materialization.transpose()?,
            idle: self.idle.clone(),
            recovery: self.recovery.clone(),
            restores: Restores::default(),
            own_pace,
            session,
            starts,
            paused: AtomicBool::new(spec.settings.paused),
            stopped: AtomicBool::new(false),
            unfinished: AtomicUsize::new(places.len()),
            errors: Mutex::default(),
            tasks: std::sync::OnceLock::new(),
            spec,
        });
        // what cannot be made at all is told now, not by a task that fails for ever
        for (sub, sub_spec) in topology.subs.iter().enumerate() {
            let partitions_of = |topic: &TopicName| shared.partitions_of(topic);
            let mut graph = Graph::new(&topology, sub, 0, &shared.spec.settings.limits, &partitions_of)?;
            for (_, store) in graph.stores() {
                self.log.prepare_store(&shared.spec.owner, store.name(), sub_spec.partitions)?;
            }
        }
        let cells: Vec<_> = places.into_iter().map(|(sub, p)| TaskCell::new(shared.clone(), sub, p)).collect();
        // the query is new, so these are its only ones
        let _ = shared.tasks.set(cells.iter().map(|cell| cell.progress.clone()).collect());
        self.give_wakers(&cells);
        Ok(RunningQuery { shared, cells })
    }

    /// Lets cells be woken by what they wait for.
    fn give_wakers(&self, cells: &[Arc<TaskCell>]) {
        let Some(scheduler) = &self.scheduler else { return };
        for cell in cells {
            let (weak, scheduler) = (Arc::downgrade(cell), scheduler.clone());
            let wake = move || {
                if let Some(cell) = weak.upgrade() {
                    scheduler.wake(&cell);
                }
            };
            let waker: task::Waker = Arc::new(wake);
            // the cell is new, so this is its only one
            let _ = cell.progress.waker.set(waker);
        }
    }

    /// Wakes the tasks of one sub-topology whenever one of its inputs grows.
    fn watch(&self, cells: &[Arc<TaskCell>]) -> Option<WatchGuard> {
        let scheduler = self.scheduler.clone()?;
        let topics: Vec<_> = cells.first()?.progress.inputs.iter().map(|at| at.topic.clone()).collect();
        let cells: Vec<_> = cells.iter().map(Arc::downgrade).collect();
        let wake = move || cells.iter().filter_map(std::sync::Weak::upgrade).for_each(|cell| scheduler.wake(&cell));
        Some(self.log.watch(&topics, Arc::new(wake)))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.standbys.close();
        if let Some(scheduler) = &self.scheduler {
            scheduler.shutdown();
        }
        for thread in self.threads.lock().drain(..) {
            // a worker catches its tasks' panics; there is nothing to do about its own
            let _ = thread.join();
        }
        let transient = |e: &&Arc<Started>| e.query.shared.spec.settings.transient;
        let ids: Vec<QueryId> =
            self.queries.read().values().filter(transient).map(|e| e.query.shared.spec.id.clone()).collect();
        for id in ids {
            if let Err(error) = self.stop(&id) {
                tracing::warn!(query = %id, "the push query left state behind: {error}");
            }
        }
    }
}

fn wake_all(scheduler: Option<&Arc<Scheduler>>, cells: &[Arc<TaskCell>]) {
    if let Some(scheduler) = scheduler {
        cells.iter().for_each(|cell| scheduler.wake(cell));
    }
}

fn is_live(state: QueryState) -> bool {
    matches!(state, QueryState::Created | QueryState::Restoring | QueryState::Running)
}

/// All owners that a query's positions and state stand under.
pub fn owners(topology: &Topology, owner: &Owner) -> Vec<Owner> {
    let mut owners: Vec<Owner> = vec![owner.clone()];
    for (sub, sub_spec) in topology.subs.iter().enumerate() {
        owners.extend((0..sub_spec.inputs.len()).map(|i| input_owner(topology, owner, sub, i)));
    }
    owners.sort();
    owners.dedup();
    owners
}

/// All topics that a query reads, each once.
fn input_topics(topology: &Topology) -> Vec<TopicName> {
    let inputs = topology.subs.iter().flat_map(|sub| &sub.inputs);
    let mut topics: Vec<TopicName> = inputs.map(|input| input_topic(topology, input)).collect();
    topics.sort();
    topics.dedup();
    topics
}

/// Steps a task until it is out of input, and commits; true if it did anything.
fn drive(task: &mut Task, limits: &dyn Fn(&TopicPartition) -> Option<Offset>) -> Result<bool, TaskError> {
    let mut moved = false;
    while task.step(limits)? == Stepped::On {
        moved = true;
        if task.wants_commit() {
            task.commit()?;
        }
    }
    task.commit()?;
    Ok(moved)
}
