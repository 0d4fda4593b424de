//! What a task has committed: its commit, its write-behind, its restore.
//!
//! Runs no operators but to flush them. A commit is one call of the log with outputs, changelog blocks and positions; the keyed stores
//! follow about once a second. The subtle thing: a failed commit leaves the task with flushed operators and taken blocks, so the task must
//! then be thrown away and restored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::operator::LossKind;
use crate::state::{Overlay, Store};
use crate::topic::{Commit, Owner, Position, StoreId, TopicPartition};

use super::error::TaskError;
use super::graph::{Graph, StepEnv};
use super::query::QueryShared;

/// Bytes of changelog read at a time during restore.
const RESTORE_BYTES: usize = 4 << 20;

/// Memory of all stores of the process.
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

/// What one task holds of the budget; given back when dropped.
struct Share {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl Share {
    fn report(&mut self, bytes: usize) {
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }

    /// What a store of `bytes` should shrink to, if the process holds too much.
    fn target(&self, bytes: usize) -> Option<usize> {
        let used = self.budget.used();
        let goal = self.budget.limit / 10 * 9;
        (used > self.budget.limit).then(|| (bytes as u128 * goal as u128 / used as u128) as usize)
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
    /// what readers see, if they may
    overlay: Option<Arc<Overlay>>,
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

/// The committed side of a task.
pub(super) struct Checkpoint {
    inputs: Vec<InputMark>,
    stores: Vec<StoreMark>,
    share: Share,
    lost: BTreeMap<LossKind, u64>,
    last_commit_ms: i64,
    last_write_ms: i64,
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
        inputs: Vec<InputMark>,
        now_ms: i64,
    ) -> Result<Self, TaskError> {
        let (sub, partition) = task;
        let materialized = shared.materialization.as_ref().filter(|m| m.sub() == sub);
        let mut stores = Vec::new();
        let mut overlays = Vec::new();
        for (node, store) in graph.stores() {
            let id = StoreId { owner: shared.spec.owner.clone(), name: store.name().into(), partition };
            let readable = materialized.is_some_and(|m| m.node() == node);
            let mark = restore_store(shared, id, store, readable)?;
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
            share: Share { budget: shared.memory.clone(), bytes: 0 },
            lost: BTreeMap::new(),
            last_commit_ms: now_ms,
            last_write_ms: now_ms,
        })
    }

    /// Committed position of an input.
    pub fn committed(&self, input: usize) -> Position {
        self.inputs[input].committed
    }

    /// When the last commit was, in ms.
    pub fn last_commit_ms(&self) -> i64 {
        self.last_commit_ms
    }

    /// Commits what the task has done up to `positions`, one for each input.
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
    ) -> Result<(), TaskError> {
        // what was held back has no place in the step
        let arrivals = env.arrivals.take();
        graph.flush(env)?;
        env.arrivals = arrivals.filter(|_| graph.is_open());
        if !shared.spec.settings.transient {
            graph.save(env.arrivals.as_deref())?;
        }
        self.tell_losses(shared, env, now_ms);
        let mut commit = Commit { outputs: env.out.take_appends()?, ..Commit::default() };
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
        if !(commit.outputs.is_empty() && commit.blocks.is_empty() && commit.positions.is_empty()) {
            self.hand_over(shared, commit, &places)?;
        }
        for (input, &position) in self.inputs.iter_mut().zip(positions) {
            input.committed = position;
        }
        if let Some(client) = &shared.spec.client {
            client.push(env.out.take_client());
        }
        shared.processing_log.count(&std::mem::take(&mut self.lost));
        self.last_commit_ms = now_ms;
        Ok(())
    }

    fn hand_over(&mut self, shared: &QueryShared, commit: Commit, places: &[usize]) -> Result<(), TaskError> {
        let blocks: Vec<_> = commit.blocks.iter().map(|(_, block)| block.clone()).collect();
        let receipt = shared.log.commit(commit)?;
        for ((&place, &number), block) in places.iter().zip(&receipt.block_numbers).zip(&blocks) {
            let mark = &mut self.stores[place];
            mark.next_block = number + 1;
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

    /// When the next write-behind is due, in ms; `None` if there is nothing to write.
    pub fn write_due_ms(&self, shared: &QueryShared) -> Option<i64> {
        let behind = self.stores.iter().any(|s| s.written < s.next_block) || self.wants_trim();
        behind.then(|| self.last_write_ms + shared.config.write_behind_ms)
    }

    /// Writes behind and keeps to the memory budget, where it is time to. To be called right after a commit.
    ///
    /// # Errors
    /// If the log fails; the task must be restored.
    pub fn tidy(&mut self, shared: &QueryShared, graph: &mut Graph, now_ms: i64) -> Result<(), TaskError> {
        let (mut memory, mut unwritten) = (0, 0);
        for (_, store) in graph.stores() {
            memory += store.memory();
            unwritten += store.unwritten_bytes();
        }
        memory += self.stores.iter().filter_map(|s| s.overlay.as_ref()).map(|o| o.memory()).sum::<usize>();
        self.share.report(memory);
        let crowded = self.share.target(memory).is_some();
        let due = self.write_due_ms(shared).is_some_and(|due| due <= now_ms);
        if due || unwritten >= shared.config.changelog_max_bytes || (crowded && unwritten > 0) {
            self.write_behind(shared, graph)?;
            self.last_write_ms = now_ms;
        }
        if crowded {
            let mut held = 0;
            for (_, store) in graph.stores() {
                let bytes = store.memory();
                held += self.share.target(bytes).map_or(bytes, |target| store.evict(target));
            }
            self.share.report(held);
        }
        Ok(())
    }

    fn write_behind(&mut self, shared: &QueryShared, graph: &mut Graph) -> Result<(), TaskError> {
        let log = &shared.log;
        for (mark, (_, store)) in self.stores.iter_mut().zip(graph.stores()) {
            if mark.written == mark.next_block {
                continue;
            }
            log.write_behind(&mark.id, store.take_writes(), mark.next_block)?;
            let (behind, upto) = log.keyed_store(&mark.id)?;
            store.attach(behind.clone());
            mark.written = mark.next_block;
            if let Some(overlay) = &mark.overlay {
                overlay.rebase(behind, upto);
            }
        }
        for (input, trimmed) in self.inputs.iter().zip(&mut self.trimmed) {
            if input.trim && *trimmed < input.committed.offset {
                log.trim(&input.at, input.committed.offset)?;
                *trimmed = input.committed.offset;
            }
        }
        Ok(())
    }

    fn wants_trim(&self) -> bool {
        self.inputs.iter().zip(&self.trimmed).any(|(input, &trimmed)| input.trim && trimmed < input.committed.offset)
    }
}

fn restore_store(
    shared: &QueryShared,
    id: StoreId,
    store: &mut dyn Store,
    readable: bool,
) -> Result<StoreMark, TaskError> {
    let log = shared.log.as_ref();
    let (behind, from) = log.keyed_store(&id)?;
    store.attach(behind.clone());
    let overlay = readable.then(|| Arc::new(Overlay::new(behind, from)));
    let mut next_block = from;
    // a stopped query throws the task away: no need to restore all of it
    while !shared.is_stopped() {
        let blocks = log.blocks(&id, next_block, RESTORE_BYTES)?;
        if blocks.is_empty() {
            break;
        }
        for (number, block) in blocks {
            store.apply_block(&block)?;
            if let Some(overlay) = &overlay {
                overlay.apply_block(number, &block)?;
            }
            next_block = number + 1;
        }
    }
    Ok(StoreMark { id, next_block, written: from, overlay })
}
