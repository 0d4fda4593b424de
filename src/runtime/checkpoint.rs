//! What a task has committed: its commit, its write-behind, its restore.
//!
//! Runs no operators but to flush them. A commit is one call of the log with outputs, changelog blocks and positions; the keyed stores
//! follow rarely, since an entry that many commits change is then written once. The subtle thing: a failed commit leaves the task with
//! flushed operators and taken blocks, so the task must then be thrown away and restored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::operator::LossKind;
use crate::state::{Overlay, Store};
use crate::topic::{Commit, KeyedSnapshot, Log, Owner, Position, Receipt, StoreId, TopicError, TopicPartition};

use super::error::TaskError;
use super::graph::{Graph, StepEnv};
use super::materialization::Materialization;
use super::query::QueryShared;
use super::restore::StoreProgress;
use super::task::Waker;

/// Bytes of changelog read at a time during restore.
const RESTORE_BYTES: usize = 4 << 20;

/// Time between trims of internal topics, in ms.
const TRIM_MS: i64 = 1000;
/// A write-behind may take one part in so many of the time until the next.
const WRITE_SHARE: i64 = 10;
/// Blocks that no write-behind has superseded, as a multiple of `changelog_max_bytes`, beyond which it is not put off.
const CHANGELOG_MULTIPLE: usize = 4;

/// Memory of the stores of the process, or of a query.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    limit: usize,
    used: AtomicUsize,
}

impl MemoryBudget {
    pub fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    /// Bytes that all tasks reported.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// What one task holds of the budgets of process and query; given back when dropped.
struct Share {
    budgets: [Arc<MemoryBudget>; 2],
    bytes: usize,
}

impl Share {
    fn report(&mut self, bytes: usize) {
        for budget in &self.budgets {
            budget.used.fetch_add(bytes, Ordering::Relaxed);
            budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// What a store of `bytes` should shrink to, if the process or the query holds too much.
    fn target(&self, bytes: usize) -> Option<usize> {
        let targets = self.budgets.iter().filter_map(|budget| {
            let (used, goal) = (budget.used(), budget.limit / 10 * 9);
            (used > budget.limit).then(|| (bytes as u128 * goal as u128 / used as u128) as usize)
        });
        targets.min()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.report(0);
    }
}

struct StoreMark {
    id: StoreId,
    /// number that the next block will get
    next_block: u64,
    /// blocks before this are in the keyed store
    written: u64,
    /// bytes of the others
    block_bytes: usize,
    /// what readers see, if they may
    overlay: Option<Arc<Overlay>>,
}

impl StoreMark {
    /// True if the keyed store does not hold all blocks.
    fn is_behind(&self) -> bool {
        self.written < self.next_block
    }
}

/// An input as the checkpoint knows it.
pub(super) struct InputMark {
    /// who its position belongs to
    pub owner: Owner,
    /// which partition
    pub at: TopicPartition,
    /// committed position
    pub committed: Position,
    /// true for internal topics: records before the position are of no use to anyone
    pub trim: bool,
}

/// What a session says of a commit; empty until it is decided.
type Answer = Arc<Mutex<Option<Result<Receipt, TopicError>>>>;

/// A commit that was handed over.
struct OnItsWay {
    answer: Answer,
    /// stores of its blocks
    places: Vec<usize>,
    blocks: Vec<Bytes>,
    positions: Vec<Position>,
    /// the commit itself, shared with the log
    commit: Commit,
    /// it was not begun, and waits for its partitions to come back
    unsent: bool,
}

/// What became of the commit before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Collected {
    /// there was none
    None,
    /// it is not decided
    Pending,
    /// it is there
    Committed,
}

/// The committed side of a task.
pub(super) struct Checkpoint {
    inputs: Vec<InputMark>,
    stores: Vec<StoreMark>,
    on_its_way: Option<OnItsWay>,
    /// since when the task's partitions are this node's
    tenure: u64,
    share: Share,
    lost: BTreeMap<LossKind, u64>,
    last_commit_ms: i64,
    /// when a write-behind is due
    next_write_ms: i64,
    /// when internal topics may be trimmed
    next_trim_ms: i64,
    /// the lowest useful offset of inputs that the log was told
    trimmed: Vec<i64>,
}

impl Checkpoint {
    /// Restores the stores of `graph` to the last commit; `inputs` carry their committed positions.
    ///
    /// # Errors
    /// If the log cannot be read or what it holds is damaged.
    pub fn restore(
        shared: &QueryShared,
        graph: &mut Graph,
        task: (usize, i32),
        tenure: u64,
        inputs: Vec<InputMark>,
        now_ms: i64,
    ) -> Result<Self, TaskError> {
        let (sub, partition) = task;
        let materialized = shared.materialization.as_ref().filter(|m| m.sub() == sub);
        let mut stores = Vec::new();
        let mut overlays = Vec::new();
        for (node, store) in graph.stores() {
            let id = StoreId { owner: shared.spec.owner.clone(), name: store.name().into(), partition };
            let readable = materialized.filter(|m| m.node() == node);
            let mark = restore_store(shared, id, store, sub, readable.map(|m| (m, overlays.len())))?;
            overlays.extend(mark.overlay.clone());
            stores.push(mark);
        }
        if let Some(materialized) = materialized {
            materialized.publish(partition, overlays);
        }
        Ok(Self {
            trimmed: inputs.iter().map(|i| i.committed.offset).collect(),
            inputs,
            stores,
            on_its_way: None,
            tenure,
            share: Share { budgets: [shared.memory.clone(), shared.query_memory.clone()], bytes: 0 },
            lost: BTreeMap::new(),
            last_commit_ms: now_ms,
            next_write_ms: now_ms + shared.config.write_behind_ms,
            next_trim_ms: now_ms + TRIM_MS,
        })
    }

    /// Committed position of an input.
    pub fn committed(&self, input: usize) -> Position {
        self.inputs[input].committed
    }

    /// Position of an input as of the commit on its way, else of the last one.
    pub fn promised(&self, input: usize) -> Position {
        self.on_its_way.as_ref().map_or(self.inputs[input].committed, |commit| commit.positions[input])
    }

    /// When the last commit was, in ms.
    pub fn last_commit_ms(&self) -> i64 {
        self.last_commit_ms
    }

    /// Looks after the commit that is on its way.
    ///
    /// # Errors
    /// It failed; the task must be restored.
    pub fn collect(&mut self) -> Result<Collected, TaskError> {
        let Some(on_its_way) = &mut self.on_its_way else { return Ok(Collected::None) };
        let Some(answer) = on_its_way.answer.lock().take() else { return Ok(Collected::Pending) };
        let receipt = match answer {
            Err(TopicError::Unsent(_)) => {
                on_its_way.unsent = true;
                return Ok(Collected::Pending);
            }
            answer => answer?,
        };
        if let Some(OnItsWay { places, blocks, positions, .. }) = self.on_its_way.take() {
            self.note_blocks(&places, &receipt, &blocks)?;
            self.note_positions(&positions);
        }
        Ok(Collected::Committed)
    }

    /// True while a commit is on its way and not known to be unsent.
    pub fn is_under_way(&self) -> bool {
        self.on_its_way.as_ref().is_some_and(|commit| !commit.unsent)
    }

    /// The task's partitions are this node's again. True if it can go on, since nobody committed anything for it in between; a commit that
    /// was not begun then is. None may be under way.
    ///
    /// # Errors
    /// If the log cannot be asked.
    pub fn renew(&mut self, shared: &QueryShared, tenure: u64, waker: Option<&Waker>) -> Result<bool, TaskError> {
        for input in &self.inputs {
            if shared.log.position(&input.owner, &input.at)? != Some(input.committed) {
                return Ok(false);
            }
        }
        self.tenure = tenure;
        if let Some(OnItsWay { places, positions, commit, .. }) = self.on_its_way.take() {
            self.hand_over(shared, commit, places, &positions, waker)?;
        }
        Ok(true)
    }

    /// What readers see of the task's stores.
    pub fn overlays(&self) -> Vec<Arc<Overlay>> {
        self.stores.iter().filter_map(|mark| mark.overlay.clone()).collect()
    }

    /// Commits what the task has done up to `positions`, one for each input; false if that is decided later, which `waker` tells. None
    /// may be on its way.
    ///
    /// # Errors
    /// Nothing was committed; the task must be restored.
    pub fn commit(
        &mut self,
        shared: &QueryShared,
        graph: &mut Graph,
        env: &mut StepEnv,
        positions: &[Position],
        now_ms: i64,
        waker: Option<&Waker>,
    ) -> Result<bool, TaskError> {
        // what was held back has no place in the step
        let arrivals = env.arrivals.take();
        graph.flush(env)?;
        env.arrivals = arrivals.filter(|_| graph.is_open());
        if !shared.spec.settings.transient {
            graph.save(env.arrivals.as_deref())?;
        }
        self.tell_losses(shared, env, now_ms);
        let mut commit = Commit { outputs: env.out.take_appends(), ..Commit::default() };
        let mut places = Vec::new();
        for (place, (_, store)) in graph.stores().enumerate() {
            if let Some(block) = store.take_block()? {
                commit.blocks.push((self.stores[place].id.clone(), block));
                places.push(place);
            }
        }
        for (input, &position) in self.inputs.iter().zip(positions) {
            if input.committed != position && !shared.spec.settings.transient {
                commit.positions.push((input.owner.clone(), input.at.clone(), position));
            }
        }
        let empty = commit.outputs.is_empty() && commit.blocks.is_empty() && commit.positions.is_empty();
        let at_once = empty || self.hand_over(shared, commit, places, positions, waker)?;
        if at_once {
            self.note_positions(positions);
        }
        if let Some(client) = &shared.spec.client {
            client.push(env.out.take_client());
        }
        shared.processing_log.count(&std::mem::take(&mut self.lost));
        self.last_commit_ms = now_ms;
        Ok(at_once)
    }

    fn hand_over(
        &mut self,
        shared: &QueryShared,
        commit: Commit,
        places: Vec<usize>,
        positions: &[Position],
        waker: Option<&Waker>,
    ) -> Result<bool, TaskError> {
        let blocks: Vec<_> = commit.blocks.iter().map(|(_, block)| block.clone()).collect();
        let Some(session) = &shared.session else {
            let receipt = shared.log.commit(commit)?;
            self.note_blocks(&places, &receipt, &blocks)?;
            return Ok(true);
        };
        let (answer, waker) = (Answer::default(), waker.cloned());
        let told = answer.clone();
        let done = move |result| {
            *told.lock() = Some(result);
            if let Some(wake) = waker {
                wake();
            }
        };
        let (positions, commit_again) = (positions.to_vec(), commit.clone());
        self.on_its_way = Some(OnItsWay { answer, places, blocks, positions, commit: commit_again, unsent: false });
        session.commit(self.tenure, commit, Box::new(done));
        Ok(false)
    }

    fn note_positions(&mut self, positions: &[Position]) {
        for (input, &position) in self.inputs.iter_mut().zip(positions) {
            input.committed = position;
        }
    }

    fn note_blocks(&mut self, places: &[usize], receipt: &Receipt, blocks: &[Bytes]) -> Result<(), TaskError> {
        for ((&place, &number), block) in places.iter().zip(&receipt.block_numbers).zip(blocks) {
            let mark = &mut self.stores[place];
            mark.next_block = number + 1;
            mark.block_bytes += block.len();
            if let Some(overlay) = &mark.overlay {
                overlay.apply_block(number, block)?;
            }
        }
        Ok(())
    }

    fn tell_losses(&mut self, shared: &QueryShared, env: &mut StepEnv, now_ms: i64) {
        if env.lost.is_empty() {
            return;
        }
        for lost in &env.lost {
            *self.lost.entry(lost.loss.kind).or_default() += 1;
        }
        shared.processing_log.tell(&env.lost, now_ms, &mut env.out);
        env.lost.clear();
    }

    /// When the next write-behind or trim is due, in ms; `None` if there is nothing to write.
    pub fn write_due_ms(&self) -> Option<i64> {
        let write = self.stores.iter().any(StoreMark::is_behind).then_some(self.next_write_ms);
        let trim = self.wants_trim().then_some(self.next_trim_ms);
        write.into_iter().chain(trim).min()
    }

    /// True if it is time to write behind, or to give memory back.
    pub fn wants_write(&self, shared: &QueryShared, now_ms: i64) -> bool {
        let due = self.write_due_ms().is_some_and(|due| due <= now_ms);
        let blocks: usize = self.stores.iter().map(|mark| mark.block_bytes).sum();
        due || blocks >= shared.config.changelog_max_bytes || self.share.target(self.share.bytes).is_some()
    }

    /// Writes behind and keeps to the memory budget, where it is time to. To be called right after a commit, with nothing changed since.
    ///
    /// # Errors
    /// If the log fails; the task must be restored.
    pub fn tidy(&mut self, shared: &QueryShared, graph: &mut Graph, now_ms: i64) -> Result<(), TaskError> {
        let unwritten: usize = graph.stores().map(|(_, store)| store.unwritten_bytes()).sum();
        let blocks: usize = self.stores.iter().map(|mark| mark.block_bytes).sum();
        let limit = shared.config.changelog_max_bytes;
        let due = self.next_write_ms <= now_ms && self.stores.iter().any(StoreMark::is_behind);
        if due || unwritten >= limit || blocks >= limit.saturating_mul(CHANGELOG_MULTIPLE) {
            self.write_behind(shared, graph)?;
        }
        if self.next_trim_ms <= now_ms && self.wants_trim() {
            self.trim(shared)?;
            self.next_trim_ms = now_ms + TRIM_MS;
        }
        self.measure(graph);
        if self.share.target(self.share.bytes).is_none() {
            return Ok(());
        }
        // what is clean goes first; what changes all the time is not written each time
        self.evict(graph);
        if self.share.target(self.share.bytes).is_some() && self.stores.iter().any(StoreMark::is_behind) {
            self.write_behind(shared, graph)?;
            self.measure(graph);
            self.evict(graph);
        }
        Ok(())
    }

    /// Reports what the task holds. Also where nothing can be tidied, since a task that goes on while its commits are under way would hold
    /// what nobody knows of.
    pub fn measure(&mut self, graph: &mut Graph) {
        let stores: usize = graph.stores().map(|(_, store)| store.memory()).sum();
        let overlays = self.stores.iter().filter_map(|mark| mark.overlay.as_ref()).map(|o| o.memory());
        self.share.report(stores + overlays.sum::<usize>());
    }

    fn evict(&mut self, graph: &mut Graph) {
        for (_, store) in graph.stores() {
            if let Some(target) = self.share.target(store.memory()) {
                store.evict(target);
            }
        }
        self.measure(graph);
    }

    fn write_behind(&mut self, shared: &QueryShared, graph: &mut Graph) -> Result<(), TaskError> {
        let (log, start_ms) = (&shared.log, shared.clock.now_ms());
        for (mark, (_, store)) in self.stores.iter_mut().zip(graph.stores()) {
            if !mark.is_behind() {
                continue;
            }
            // in portions, so that they take little memory; only the last one moves the store's position on, which is right after a
            // crash between them, too, since blocks hold whole rows
            let mut writes = store.take_writes();
            loop {
                let more = store.take_writes();
                if more.is_empty() {
                    break;
                }
                log.write_behind(&mark.id, std::mem::replace(&mut writes, more), mark.written)?;
            }
            log.write_behind(&mark.id, writes, mark.next_block)?;
            let (behind, upto) = live_store(log.as_ref(), &mark.id)?;
            store.attach(behind.clone());
            (mark.written, mark.block_bytes) = (mark.next_block, 0);
            if let Some(overlay) = &mark.overlay {
                overlay.rebase(behind, upto);
            }
        }
        let now_ms = shared.clock.now_ms();
        let pause_ms = (now_ms - start_ms).saturating_mul(WRITE_SHARE);
        self.next_write_ms = now_ms + pause_ms.max(shared.config.write_behind_ms);
        Ok(())
    }

    /// Lets go of records of internal topics that were read.
    fn trim(&mut self, shared: &QueryShared) -> Result<(), TaskError> {
        for (input, trimmed) in self.inputs.iter().zip(&mut self.trimmed) {
            if input.trim && *trimmed < input.committed.offset {
                shared.log.trim(&input.at, input.committed.offset)?;
                *trimmed = input.committed.offset;
            }
        }
        Ok(())
    }

    fn wants_trim(&self) -> bool {
        self.inputs.iter().zip(&self.trimmed).any(|(input, &trimmed)| input.trim && trimmed < input.committed.offset)
    }
}

/// The keyed store of a task, which alone writes it, as it is at each look; and the number of the first block it does not hold.
pub(super) fn live_store(log: &dyn Log, id: &StoreId) -> Result<(Arc<dyn KeyedSnapshot>, u64), TopicError> {
    let (behind, from) = log.keyed_store(id)?;
    Ok((behind.live().unwrap_or(behind), from))
}

fn restore_store(
    shared: &QueryShared,
    id: StoreId,
    store: &mut dyn Store,
    sub: usize,
    readable: Option<(&Materialization, usize)>,
) -> Result<StoreMark, TaskError> {
    let log = shared.log.as_ref();
    let (behind, from) = live_store(log, &id)?;
    let now_ms = || shared.clock.now_ms();
    let (end, times) = (log.changelog_end(&id).unwrap_or(0), (now_ms(), now_ms()));
    shared.restores.begin(sub, StoreProgress::new(id.name.to_string(), id.partition, (from, end), times));
    store.attach(behind.clone());
    let overlay = readable.map(|(published, at)| {
        // what readers see of the task before is as far as it is right: read again, its blocks would be in memory twice
        let kept = published.published(id.partition, at).filter(|overlay| overlay.next() <= end);
        match kept {
            Some(overlay) => {
                overlay.rebase(behind, from);
                overlay
            }
            None => Arc::new(Overlay::new(behind, from)),
        }
    });
    let (mut next_block, mut block_bytes) = (from, 0);
    // a stopped query throws the task away: no need to restore all of it
    while !shared.is_stopped() {
        let blocks = log.blocks(&id, next_block, RESTORE_BYTES)?;
        if blocks.is_empty() {
            break;
        }
        for (number, block) in blocks {
            store.apply_block(&block)?;
            block_bytes += block.len();
            if let Some(overlay) = &overlay {
                overlay.apply_block(number, &block)?;
            }
            next_block = number + 1;
        }
        shared.restores.advance(sub, id.partition, &id.name, Some(next_block), now_ms());
    }
    shared.restores.advance(sub, id.partition, &id.name, None, now_ms());
    let read = next_block - from;
    match (from, read) {
        // a new one is no news
        (0, 0) => tracing::debug!(store = %id, "a store begins empty"),
        _ => tracing::info!(store = %id, here = from, read, "a store is restored"),
    }
    Ok(StoreMark { id, next_block, written: from, block_bytes, overlay })
}
