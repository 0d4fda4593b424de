//! Follows the command topic: at the start, after each command of this node, and on shared logs all the time.
//!
//! Each command is applied at its place, whoever wrote it, so that all nodes come to the same catalog. The subtle thing: of a command of
//! another node only this node's part is carried out (its tasks, its copy of state); topics, groups and changelogs are the submitter's. And a
//! command that cannot be read, does not apply, or whose query does not start is reported and passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Engine;
use super::command_log::{Command, Entry, Placed};
use super::effect::{self, Change, Effect, Start};
use super::fold::Fold;
use super::leftovers::Unfinished;
use super::write::Unsettled;
use crate::catalog::{Catalog, Source};
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::topic::{Cleanup, Offset, Owner, TopicSpec};
use crate::types::QueryId;

/// Between two looks at the command topic of a shared log.
const INTERVAL: Duration = Duration::from_millis(100);
/// Looks between two tries to start what could not be started.
const RETRY_LOOKS: u32 = 20;
/// How long a submitter waits to read its command.
const READ_BACK: Duration = Duration::from_secs(30);

/// How far the command topic is applied.
pub(super) struct Place {
    /// place of the last record there, -1: none
    last: Offset,
    /// where to read on; beyond `last + 1` where marks of transactions lie between
    next: Offset,
    /// a command of this node that is or is not there
    pub unsettled: Option<Unsettled>,
}

impl Place {
    /// Before the first command.
    pub fn start() -> Self {
        Self { last: -1, next: 0, unsettled: None }
    }

    /// Place of the last command applied or passed over; -1: none.
    pub fn last(&self) -> Offset {
        self.last
    }

    /// Where to read on.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Goes on to `offset`; gives the place before.
    fn step(&mut self, offset: Offset) -> Offset {
        self.next = self.next.max(offset + 1);
        std::mem::replace(&mut self.last, offset)
    }
}

impl Engine {
    /// Applies what other nodes wrote to the command topic up to now; true if there was something.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn catch_up(&self) -> Result<bool, Diagnostic> {
        self.follow(&mut self.inner.place.lock())
    }

    /// Folds the command topic from its start, and starts only what is left in the end.
    pub(super) fn replay(&self, built_in: Option<Source>) -> Result<(), Diagnostic> {
        let mut catalog = Catalog::default();
        built_in.into_iter().for_each(|source| catalog.put_source(source));
        let mut starts: BTreeMap<QueryId, Start> = BTreeMap::new();
        let mut place = self.inner.place.lock();
        let (entries, next) = self.inner.commands.read(place.next)?;
        let mut unfinished = Unfinished::default();
        for entry in entries {
            let Some((offset, command)) = self.command_of(entry, &mut unfinished) else { continue };
            let previous = place.step(offset);
            match command.map_err(Diagnostic::user).and_then(|c| self.fold().effect(&c, previous, &catalog)) {
                Ok(effect) => {
                    self.replayed(offset, &effect, &starts, &mut unfinished);
                    effect.changes.iter().for_each(|change| effect::apply(&mut catalog, change));
                    for id in &effect.stops {
                        starts.remove(id);
                    }
                    if let Some(start) = effect.start {
                        starts.insert(start.query.id.clone(), start);
                    }
                }
                Err(error) => tracing::error!(offset, "command passed over: {error}"),
            }
        }
        place.next = place.next.max(next);
        drop(place);
        *self.inner.unfinished.lock() = unfinished;
        if !self.inner.log.is_shared() {
            self.sweep();
        }
        self.inner.log.expects(starts.len());
        for start in starts.values() {
            let paused = catalog.query(start.query.id.as_str()).is_some_and(|q| q.paused);
            if let Err(error) = self.start(start, paused) {
                tracing::error!(query = %start.query.id, "query not started: {error}");
            }
        }
        *self.inner.catalog.write() = Arc::new(catalog);
        *self.inner.plans.write() = starts;
        Ok(())
    }

    /// Applies commands up to the end, settling one of this node's that was unsettled; true if there were some.
    pub(super) fn follow(&self, place: &mut Place) -> Result<bool, Diagnostic> {
        let before = place.next;
        if let Some(Err(error)) = self.settle(place)? {
            tracing::warn!("a command whose write failed is in the command topic, but: {error}");
        }
        Ok(place.next > before)
    }

    /// Applies commands up to the end. Gives what the unsettled command did, if it was among them.
    pub(super) fn advance(&self, place: &mut Place) -> Result<Option<Result<Effect, Diagnostic>>, Diagnostic> {
        let (entries, next) = self.inner.commands.read(place.next)?;
        let (mut settled, mut later) = (None, Vec::new());
        for entry in entries {
            let command = self.command_of(entry, &mut self.inner.unfinished.lock());
            let Some((offset, command)) = command else { continue };
            match place.unsettled.take_if(|own| own.is(&command)) {
                Some(_) => settled = Some(self.apply_own(place, offset, command, None)),
                None => self.apply_foreign(place, offset, command, &mut later),
            }
        }
        place.next = place.next.max(next);
        self.start_later(later);
        Ok(settled)
    }

    /// Applies commands up to this node's own at `own`, which was worked out as `effect`. Gives what it did at its place.
    pub(super) fn follow_to(&self, place: &mut Place, own: Offset, effect: Effect) -> Result<Effect, Diagnostic> {
        let (mut effect, mut answer, mut later) = (Some(effect), None, Vec::new());
        let deadline = Instant::now() + READ_BACK;
        while answer.is_none() {
            let read = self.inner.commands.read(place.next).map_err(|e| unread(own, &e.message))?;
            for entry in read.0 {
                let command = self.command_of(entry, &mut self.inner.unfinished.lock());
                let Some((offset, command)) = command else { continue };
                match effect.take_if(|_| offset == own) {
                    Some(effect) => answer = Some(self.apply_own(place, own, command, Some(effect))),
                    None => self.apply_foreign(place, offset, command, &mut later),
                }
            }
            place.next = place.next.max(read.1);
            self.start_later(std::mem::take(&mut later));
            if answer.is_none() {
                if place.last >= own || Instant::now() > deadline {
                    return Err(unread(own, "it was not found there"));
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        answer.unwrap_or_else(|| Err(unread(own, "it was not found there")))
    }

    fn fold(&self) -> Fold<'_> {
        let inner = &self.inner;
        Fold { registry: inner.registry, config: &inner.config, service_id: &inner.service_id }
    }

    /// The command of an entry; a note is taken in.
    fn command_of(
        &self,
        (offset, entry): Placed,
        unfinished: &mut Unfinished,
    ) -> Option<(Offset, Result<Command, String>)> {
        match entry {
            Ok(Entry::Command(command)) => Some((offset, Ok(command))),
            Ok(Entry::Note(note)) => {
                self.heard(offset, &note, unfinished);
                None
            }
            Err(reason) => Some((offset, Err(reason))),
        }
    }

    fn apply_foreign(
        &self,
        place: &mut Place,
        offset: Offset,
        command: Result<Command, String>,
        later: &mut Vec<QueryId>,
    ) {
        let previous = place.step(offset);
        let catalog = self.catalog();
        match command.map_err(Diagnostic::user).and_then(|c| self.fold().effect(&c, previous, &catalog)) {
            Ok(effect) => {
                self.note_leftovers(offset, &effect);
                let left = self.running_leftovers(&effect);
                self.swap(&catalog, &effect);
                self.carry_out_foreign(&effect, later);
                if let Some(left) = left {
                    self.clean_again(place, offset, &left);
                }
            }
            Err(error) => tracing::warn!(offset, "command of another node passed over: {error}"),
        }
    }

    /// `effect`: what it was worked out as, if that is known still.
    fn apply_own(
        &self,
        place: &mut Place,
        offset: Offset,
        command: Result<Command, String>,
        effect: Option<Effect>,
    ) -> Result<Effect, Diagnostic> {
        let previous = place.step(offset);
        let command = command.map_err(|reason| unread(offset, &reason))?;
        let catalog = self.catalog();
        let mut effect = match effect.filter(|_| command.based_on == previous) {
            Some(effect) => effect,
            None => {
                let effect = self.fold().effect(&command, previous, &catalog)?;
                self.await_clean(place, &effect)?;
                self.make_missing_topics(&effect)?;
                effect
            }
        };
        if let Some(status) = &mut effect.status {
            status.sequence = offset;
        }
        self.note_leftovers(offset, &effect);
        self.swap(&catalog, &effect);
        self.carry_out(&mut effect)?;
        self.finished(offset);
        Ok(effect)
    }

    /// Makes topics that were there when the statement was worked out, and that another node's command before it deleted.
    fn make_missing_topics(&self, effect: &Effect) -> Result<(), Diagnostic> {
        for change in &effect.changes {
            let Change::PutSource(source) = change else { continue };
            if self.inner.log.describe(&source.topic)?.is_some() {
                continue;
            }
            let cleanup = Cleanup { compact: source.is_table(), ..Cleanup::default() };
            let (name, partitions) = (source.topic.clone(), source.partitions);
            self.inner.log.create_topic(&TopicSpec { name, partitions, replicas: i16::MAX, cleanup })?;
        }
        Ok(())
    }

    fn swap(&self, catalog: &Catalog, effect: &Effect) {
        let mut changed = catalog.clone();
        effect.changes.iter().for_each(|change| effect::apply(&mut changed, change));
        *self.inner.catalog.write() = Arc::new(changed);
    }

    fn carry_out(&self, effect: &mut Effect) -> Result<(), Diagnostic> {
        for id in &effect.stops {
            self.inner.plans.write().remove(id);
            self.inner.not_started.lock().remove(id);
            if let Err(error) = self.write_twice(|| Ok(self.inner.runtime.forget(id)?)) {
                tracing::warn!(query = %id, "not all of a stopped query is forgotten: {error}");
                let owner = Owner::new(effect::group(&self.inner.service_id, id.as_str()));
                self.write_twice(|| Ok(self.inner.log.forget(&owner)?))?;
            }
        }
        match (self.run(effect), &effect.start) {
            (Ok(()), _) => {}
            // It is declared now, on all nodes, and is tried again.
            (Err(error), Some(start)) if self.inner.log.is_shared() => {
                effect.warnings.push(format!("query {} does not run yet: {}", start.query.id, error.message));
            }
            (Err(error), _) => return Err(error),
        }
        for topic in &effect.deletes {
            self.write_twice(|| self.delete_topic(topic))?;
        }
        Ok(())
    }

    /// This node's part of another node's command; what it starts is put among `later`.
    fn carry_out_foreign(&self, effect: &Effect, later: &mut Vec<QueryId>) {
        for id in &effect.stops {
            self.inner.plans.write().remove(id);
            self.inner.not_started.lock().remove(id);
            later.retain(|waiting| waiting != id);
            let released = match self.inner.runtime.status(id) {
                Some(_) => self.inner.runtime.release(id).map_err(Diagnostic::from),
                None => {
                    let owner = Owner::new(effect::group(&self.inner.service_id, id.as_str()));
                    self.inner.log.release(&owner).map_err(Diagnostic::from)
                }
            };
            if let Err(error) = released {
                tracing::warn!(query = %id, "not all of a stopped query is let go of: {error}");
            }
        }
        // One that is still to be started is paused by what the catalog says.
        for (id, paused) in effect.pauses.iter().filter(|(id, _)| self.inner.runtime.status(id).is_some()) {
            let done = if *paused { self.inner.runtime.pause(id) } else { self.inner.runtime.resume(id) };
            if let Err(error) = done {
                tracing::warn!(query = %id, "a query is not paused or resumed: {error}");
            }
        }
        let Some(start) = &effect.start else { return };
        let id = &start.query.id;
        self.inner.plans.write().insert(id.clone(), start.clone());
        if start.replaces && self.inner.runtime.status(id).is_some() {
            // It is started again below.
            let _ = self.inner.runtime.stop(id);
        }
        later.retain(|waiting| waiting != id);
        later.push(id.clone());
    }

    /// Starts what is left of the queries that commands just read have started: a query that a later one drops makes no topics any more.
    fn start_later(&self, later: Vec<QueryId>) {
        let catalog = self.catalog();
        for id in later {
            let Some(start) = self.inner.plans.read().get(&id).cloned() else { continue };
            let paused = catalog.query(id.as_str()).is_some_and(|q| q.paused);
            if let Err(error) = self.start(&start, paused) {
                tracing::warn!(query = %id, "a query of another node is not started here: {error}");
            }
        }
    }

    fn run(&self, effect: &Effect) -> Result<(), Diagnostic> {
        for (id, paused) in &effect.pauses {
            if *paused { self.inner.runtime.pause(id)? } else { self.inner.runtime.resume(id)? }
        }
        let Some(start) = &effect.start else { return Ok(()) };
        self.inner.plans.write().insert(start.query.id.clone(), start.clone());
        if start.replaces {
            self.inner.runtime.stop(&start.query.id)?;
        }
        self.write_twice(|| self.start(start, false))
    }

    /// Tries again to start queries that are not there, since a topic may become known to this node a moment after its submitter.
    fn start_missing(&self) {
        let _place = self.inner.place.lock();
        let catalog = self.catalog();
        let plans: Vec<Start> = self.inner.plans.read().values().cloned().collect();
        for start in plans.iter().filter(|start| self.inner.runtime.status(&start.query.id).is_none()) {
            let paused = catalog.query(start.query.id.as_str()).is_some_and(|q| q.paused);
            if let Err(error) = self.start(start, paused) {
                tracing::debug!(query = %start.query.id, "query not started: {error}");
            }
        }
    }
}

fn unread(offset: Offset, reason: &str) -> Diagnostic {
    Diagnostic::new(
        ErrorClass::Retry,
        format!(
            "the statement is command {offset} of the command topic, which this node could not read back: {reason}"
        ),
    )
    .help("see by SHOW STREAMS, TABLES or QUERIES what it did, before you give it again")
}

/// The thread that follows the command topic of a shared log.
pub(super) struct Follower {
    ended: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Follower {
    /// Starts following for `engine`.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(engine: Engine) -> Result<Arc<Self>, Diagnostic> {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        let thread =
            std::thread::Builder::new().name("command-follower".to_owned()).spawn(move || work(&engine, &seen));
        let thread = thread
            .map_err(|e| Diagnostic::new(ErrorClass::Fatal, format!("start the command follower's thread: {e}")))?;
        Ok(Arc::new(Self { ended, thread: Mutex::new(Some(thread)) }))
    }

    /// Ends following; returns when the thread is gone.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.lock().take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the command follower ended with a panic");
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.end();
    }
}

fn work(engine: &Engine, ended: &AtomicBool) {
    let (mut looks, mut failing, mut seen) = (0_u32, false, BTreeSet::new());
    let mut swept = Instant::now();
    while !ended.load(Ordering::SeqCst) {
        match engine.catch_up() {
            Ok(_) => failing = false,
            Err(error) if failing => tracing::debug!("the command topic cannot be read: {error}"),
            Err(error) => {
                failing = true;
                tracing::warn!("the command topic cannot be read and is tried again: {error}");
            }
        }
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(RETRY_LOOKS) {
            engine.start_missing();
            engine.sweep();
        }
        if swept.elapsed() >= engine.grace() {
            swept = Instant::now();
            match engine.sweep_push_queries(&seen) {
                Ok(now) => seen = now,
                Err(error) => tracing::debug!("what push queries left is not removed yet: {error}"),
            }
        }
        std::thread::park_timeout(INTERVAL);
    }
}

#[cfg(test)]
mod tests;
