//! When the input of a task is idle for so long that its windows close (`window.idle.close.ms`).
//!
//! Closes nothing itself. The subtle thing: an internal topic is not idle while its writers have something to do, even if they fail or wait;
//! what they would give out later would be late. So these are asked first, before the task looks for input once more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::plan::topology::{InputSpec, JoinKind, OperatorSpec, Topology};

use super::error::TaskError;
use super::query::QueryShared;
use super::task::{TaskProgress, TaskState};

/// The wait for input of a task with windows that close.
pub(super) struct IdleClose {
    after_ms: i64,
    /// when input came last, or the task was made
    since_ms: i64,
    /// windows were closed since then
    closed: bool,
    /// sub-topologies that its input comes from
    upstream: BTreeSet<usize>,
}

impl IdleClose {
    /// Of a task of sub-topology `sub`; `None` if it never closes windows without input.
    pub fn new(shared: &QueryShared, sub: usize, now_ms: i64) -> Option<Self> {
        let after_ms = shared.spec.settings.window_idle_close_ms?;
        let topology = &shared.spec.topology;
        let waits = |op: &OperatorSpec| match op {
            OperatorSpec::Aggregate(spec) => spec.window.is_some() && spec.emit_final,
            OperatorSpec::StreamStreamJoin(spec) => spec.within.holds_back && spec.kind != JoinKind::Inner,
            _ => false,
        };
        topology.subs[sub].nodes.iter().any(|node| waits(&node.op)).then(|| Self {
            after_ms,
            since_ms: now_ms,
            closed: false,
            upstream: upstream(topology, sub),
        })
    }

    /// There is input.
    pub fn input_came(&mut self, now_ms: i64) {
        (self.since_ms, self.closed) = (now_ms, false);
    }

    /// The windows are closed; the next input opens new ones.
    pub fn closed(&mut self) {
        self.closed = true;
    }

    /// When the windows close if nothing comes.
    pub fn due_ms(&self) -> Option<i64> {
        (!self.closed).then(|| self.since_ms.saturating_add(self.after_ms))
    }

    /// True if the windows close now, unless there is input after all. While writers of its input are at work the wait begins anew.
    ///
    /// # Errors
    /// If the log cannot be asked how far they are.
    pub fn is_due(&mut self, shared: &QueryShared, now_ms: i64) -> Result<bool, TaskError> {
        if self.due_ms().is_none_or(|due| now_ms < due) {
            return Ok(false);
        }
        let tasks = shared.tasks.get().map(Vec::as_slice).unwrap_or_default();
        for progress in tasks.iter().filter(|progress| self.upstream.contains(&progress.sub)) {
            if !is_quiet(shared, progress)? {
                self.since_ms = now_ms;
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// True if a task has committed all that its inputs hold, and all that came of it.
fn is_quiet(shared: &QueryShared, progress: &Arc<TaskProgress>) -> Result<bool, TaskError> {
    if progress.open.load(Ordering::SeqCst) {
        return Ok(false);
    }
    for (index, at) in progress.inputs.iter().enumerate() {
        let committed = match progress.state() {
            TaskState::Elsewhere => {
                shared.log.positions(&shared.input_owner(progress.sub, index))?.get(at).map_or(-1, |p| p.offset)
            }
            _ => progress.committed[index].load(Ordering::SeqCst),
        };
        if committed < shared.log.undecided_end(at)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The sub-topologies that write what `sub` reads, and those before them.
fn upstream(topology: &Topology, sub: usize) -> BTreeSet<usize> {
    let writes = |sub: usize, topic: usize| {
        topology.subs[sub].nodes.iter().any(|node| match &node.op {
            OperatorSpec::Repartition { topic: to, .. } | OperatorSpec::Answer { topic: to, .. } => *to == topic,
            _ => false,
        })
    };
    let (mut found, mut open) = (BTreeSet::new(), vec![sub]);
    while let Some(reader) = open.pop() {
        for input in &topology.subs[reader].inputs {
            let InputSpec::Repartition { topic, .. } = input else { continue };
            let writers = (0..topology.subs.len()).filter(|&sub| writes(sub, *topic));
            open.extend(writers.filter(|&writer| found.insert(writer)).collect::<Vec<_>>());
        }
    }
    found.remove(&sub);
    found
}
