//! Warm copies of the state of tasks that other nodes run (`num.standby.replicas`), so that a task that comes here restores the tail only.
//!
//! Knows changelogs and keyed stores, no operators: what is committed elsewhere goes straight into this node's keyed stores, by one thread for
//! all queries. Which tasks to follow is what the group would give this node if others left ([`standbys`]). The subtle thing: a copy is
//! written under its task's lock, so it ends before the task begins to restore, and never writes beside it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::state::block::Block;
use crate::state::{Overlay, sort_writes};
use crate::topic::{KeyedWrites, StoreId, TopicError, TopicPartition, standbys};

use super::checkpoint::live_store;
use super::error::TaskError;
use super::graph::Graph;
use super::query::{QueryShared, TaskCell};
use super::restore::StoreProgress;

/// Bytes of a changelog that are taken over at once, about.
const FOLLOW_BYTES: usize = 4 << 20;
/// Time between looks while there is nothing more: what comes in between is one write.
const REST: Duration = Duration::from_millis(300);
/// How often the group is asked who has what, in ms.
const ASK_MS: i64 = 2000;
/// How often while it makes up its mind, in ms.
const ASK_SOON_MS: i64 = 300;
/// Wait after a failure, in ms.
const RETRY_MS: i64 = 1000;

/// One store of a task that runs elsewhere.
struct CopiedStore {
    id: StoreId,
    /// the first changelog number that the copy does not hold
    next: u64,
    /// the changelog's end when it was last looked at; `None` before
    end: Option<u64>,
    /// what readers see, if they may
    overlay: Option<Arc<Overlay>>,
    /// nothing was ever written, so who reads must look anew after the first write
    fresh: bool,
}

/// This node's copy of the state of a task that runs elsewhere.
pub(super) struct Copy {
    sub: usize,
    partition: i32,
    stores: Vec<CopiedStore>,
}

impl Copy {
    /// Takes up the copy where this node left it.
    fn open(shared: &QueryShared, sub: usize, partition: i32) -> Result<Self, TaskError> {
        let (spec, partitions_of) = (&shared.spec, |topic: &_| shared.partitions_of(topic));
        let mut graph = Graph::new(&spec.topology, sub, partition, &spec.settings.limits, &partitions_of)?;
        let materialized = shared.materialization.as_ref().filter(|m| m.sub() == sub);
        let now_ms = shared.clock.now_ms();
        let mut stores = Vec::new();
        for (node, store) in graph.stores() {
            let id = StoreId { owner: spec.owner.clone(), name: store.name().into(), partition };
            let (behind, next) = live_store(shared.log.as_ref(), &id)?;
            let store = id.name.to_string();
            let end = shared.log.changelog_end(&id)?;
            let times = (now_ms, now_ms);
            shared.restores.begin(sub, StoreProgress::new(store, partition, (next, end), times).of_standby());
            let readable = materialized.is_some_and(|m| m.node() == node);
            let overlay = readable.then(|| Arc::new(Overlay::new(behind, next)));
            stores.push(CopiedStore { id, next, end: None, overlay, fresh: next == 0 });
        }
        Ok(Self { sub, partition, stores })
    }

    /// Takes over what was committed since; true if more may be there at once.
    fn follow(&mut self, shared: &QueryShared) -> Result<bool, TaskError> {
        let mut more = false;
        for store in &mut self.stores {
            more |= store.follow(shared)?;
            shared.restores.advance(self.sub, self.partition, &store.id.name, Some(store.next), shared.clock.now_ms());
            if let Some(overlay) = &store.overlay
                && let Some(end) = store.end
                && let Some(materialization) = &shared.materialization
            {
                let lag = end.saturating_sub(store.next);
                materialization.publish_copy(self.partition, Some((overlay.clone(), lag)));
            }
        }
        Ok(more)
    }

    /// The copy is followed no more; what it holds stays.
    pub fn end(self, shared: &QueryShared) {
        if let Some(session) = &shared.session {
            self.stores.iter().for_each(|store| session.unfollow(&store.id));
        }
        if let Some(materialization) = shared.materialization.as_ref().filter(|m| m.sub() == self.sub) {
            materialization.publish_copy(self.partition, None);
        }
        shared.restores.gone(self.sub, self.partition);
    }
}

impl CopiedStore {
    fn follow(&mut self, shared: &QueryShared) -> Result<bool, TaskError> {
        let Some(session) = &shared.session else { return Ok(false) };
        let followed = session.follow(&self.id, self.next, FOLLOW_BYTES)?;
        let more = followed.block.is_some();
        if let Some(block) = &followed.block {
            let block = Block::open(block)?;
            let mut writes: KeyedWrites = (0..block.len()).map(|i| block.shared_entry(i)).collect();
            sort_writes(&mut writes);
            shared.log.write_behind(&self.id, writes, followed.next)?;
            if std::mem::take(&mut self.fresh)
                && let Some(overlay) = &self.overlay
            {
                let (behind, upto) = live_store(shared.log.as_ref(), &self.id)?;
                overlay.rebase(behind, upto);
            }
        }
        self.next = followed.next;
        self.end = Some(followed.end.max(followed.next));
        Ok(more)
    }
}

/// The copy in a task's slot is followed, or taken up; to be called with the task's lock, and only while the task is elsewhere.
pub(super) fn follow(
    slot: &mut Option<Copy>,
    shared: &QueryShared,
    sub: usize,
    partition: i32,
) -> Result<bool, TaskError> {
    let copy = match slot {
        Some(copy) => copy,
        None => slot.insert(Copy::open(shared, sub, partition)?),
    };
    copy.follow(shared)
}

/// A query whose tasks are followed where they are elsewhere.
struct Followed {
    shared: Arc<QueryShared>,
    cells: Vec<Arc<TaskCell>>,
    /// which of the cells
    chosen: Vec<usize>,
    /// when to ask the group again, in ms
    ask_ms: i64,
    /// when to go on after a failure, in ms
    retry_ms: i64,
}

impl Followed {
    /// True if more may be there at once.
    fn run(&mut self, now_ms: i64) -> bool {
        if now_ms < self.retry_ms {
            return false;
        }
        let done = self.choose(now_ms).and_then(|()| {
            let mut more = false;
            for &cell in &self.chosen {
                more |= self.cells[cell].follow()?;
            }
            Ok(more)
        });
        done.unwrap_or_else(|error| {
            tracing::warn!(query = %self.shared.spec.id, "a copy of another node's state does not get on: {error}");
            if let TaskError::Topic(TopicError::Poisoned(_)) = &error {
                self.shared.recovery.poison();
            }
            self.cells.iter().for_each(|cell| cell.unfollow());
            self.retry_ms = now_ms + RETRY_MS;
            false
        })
    }

    /// Asks the group which tasks are to be followed here, now and then.
    fn choose(&mut self, now_ms: i64) -> Result<(), TaskError> {
        if now_ms < self.ask_ms {
            return Ok(());
        }
        let Some(places) = self.places()? else {
            self.ask_ms = now_ms + ASK_SOON_MS;
            return Ok(());
        };
        self.ask_ms = now_ms + ASK_MS;
        let is_chosen = |cell: &Arc<TaskCell>| cell.progress.inputs.iter().all(|at| places.contains(at));
        let chosen: Vec<usize> = (0..self.cells.len()).filter(|&i| is_chosen(&self.cells[i])).collect();
        self.chosen.iter().filter(|i| !chosen.contains(i)).for_each(|&i| self.cells[i].unfollow());
        self.chosen = chosen;
        Ok(())
    }

    /// Partitions that this node would get from others; `None` while the group makes up its mind.
    fn places(&self) -> Result<Option<BTreeSet<TopicPartition>>, TaskError> {
        let shared = &self.shared;
        let Some(member) = shared.session.as_ref().and_then(|session| session.member()) else { return Ok(None) };
        let holders = shared.log.holders(&shared.spec.owner)?;
        let Some(me) = holders.iter().position(|holder| holder.member == member) else { return Ok(None) };
        let held: BTreeSet<&TopicPartition> = holders.iter().flat_map(|holder| &holder.partitions).collect();
        let decided = self.cells.iter().all(|cell| cell.progress.inputs.iter().all(|at| held.contains(at)));
        let replicas = shared.spec.settings.standby_replicas;
        Ok(decided.then(|| standbys(&holders, me, replicas).into_iter().collect()))
    }
}

#[derive(Default)]
struct State {
    /// started and not taken in by the thread
    new: Vec<Followed>,
    thread: Option<JoinHandle<()>>,
    closed: bool,
}

/// The thread that follows.
#[derive(Default)]
pub(super) struct Standbys {
    state: Mutex<State>,
    changed: Condvar,
}

impl Standbys {
    /// Follows the tasks of a query that wants copies, until it is stopped.
    pub fn add(self: &Arc<Self>, shared: &Arc<QueryShared>, cells: &[Arc<TaskCell>]) -> Result<(), TopicError> {
        let settings = &shared.spec.settings;
        if settings.standby_replicas == 0 || settings.transient || shared.session.is_none() {
            return Ok(());
        }
        let cells = cells.to_vec();
        let followed = Followed { shared: shared.clone(), cells, chosen: Vec::new(), ask_ms: 0, retry_ms: 0 };
        let mut state = self.state.lock();
        state.new.push(followed);
        if state.thread.is_none() {
            let standbys = self.clone();
            let thread = std::thread::Builder::new().name("standby".to_owned()).spawn(move || standbys.run());
            let failed = |e: std::io::Error| TopicError::Io { what: "start a thread".into(), reason: e.to_string() };
            state.thread = Some(thread.map_err(failed)?);
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Ends the thread.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let thread = state.thread.take();
        drop(state);
        self.changed.notify_all();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that follows other nodes' state has panicked");
        }
    }

    fn run(&self) {
        let mut queries: Vec<Followed> = Vec::new();
        let mut more = false;
        loop {
            let mut state = self.state.lock();
            if !more && !state.closed && state.new.is_empty() {
                self.changed.wait_for(&mut state, REST);
            }
            if state.closed {
                return;
            }
            queries.append(&mut state.new);
            drop(state);
            queries.retain(|query| !query.shared.is_stopped());
            more = false;
            for query in &mut queries {
                more |= query.run(query.shared.clock.now_ms());
            }
        }
    }
}
