//! What a command leaves to be removed (topics, groups, state of what it dropped), and who removes it when its submitter does not.
//!
//! The submitter removes it and notes so in the command topic. Where that note does not come, another node claims the work by a note of its
//! own, looks whether it was done before its claim, removes, and notes that. The subtle thing: a topic of the same name may be made anew, and
//! must not be deleted by who is late: whoever makes one waits until nobody may still be removing the old one, and whoever removes gives up
//! after a part of the time that others wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Engine;
use super::command_log::{Entry, Note};
use super::effect::{self, Change, Effect, Start};
use super::follow::Place;
use crate::config;
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::runtime::owners;
use crate::topic::{Log, Offset, Owner, TopicError};
use crate::types::{QueryId, TopicName};

/// Who a command's submitter is among those that remove what it left.
const SUBMITTER: &str = "";
/// Who removes has this part of the time that others wait.
const SHARE: i64 = 3;
/// Between two looks whether somebody is done.
const LOOK: Duration = Duration::from_millis(20);

/// What is to be removed.
#[derive(Clone, Debug, Default)]
pub(super) struct Leftovers {
    queries: Vec<QueryId>,
    owners: Vec<Owner>,
    topics: Vec<TopicName>,
}

impl Leftovers {
    /// What `effect` leaves, if anything; `starts` has the queries that ran before it.
    pub fn of(effect: &Effect, starts: &BTreeMap<QueryId, Start>, service_id: &str) -> Option<Self> {
        if effect.stops.is_empty() && effect.deletes.is_empty() {
            return None;
        }
        let mut left = Self { queries: effect.stops.clone(), ..Self::default() };
        for id in &effect.stops {
            let owner = Owner::new(effect::group(service_id, id.as_str()));
            match starts.get(id) {
                Some(start) => {
                    left.owners.extend(owners(&start.topology, &owner));
                    left.topics.extend(start.topology.internal_topics.iter().map(|topic| topic.name.clone()));
                }
                None => left.owners.push(owner),
            }
        }
        left.topics.extend(effect.deletes.iter().cloned());
        Some(left)
    }

    /// True if `effect` makes or uses something of the same name.
    fn meets(&self, effect: &Effect) -> bool {
        let uses = |topic: &TopicName| self.topics.contains(topic);
        effect.creates.iter().any(|spec| uses(&spec.name))
            || effect.changes.iter().any(|c| matches!(c, Change::PutSource(source) if uses(&source.topic)))
            || effect.start.as_ref().is_some_and(|start| self.queries.contains(&start.query.id))
    }

    /// Removes it while `may` says so; false if it said no.
    fn remove(&self, log: &dyn Log, may: &dyn Fn() -> bool) -> Result<bool, TopicError> {
        for owner in &self.owners {
            if !may() {
                return Ok(false);
            }
            log.forget(owner)?;
        }
        for topic in &self.topics {
            if !may() {
                return Ok(false);
            }
            match log.delete_topic(topic) {
                Ok(()) | Err(TopicError::UnknownTopic(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

struct Waiting {
    what: Leftovers,
    /// who may be removing it now
    busy: BTreeSet<String>,
    /// when the last of them said so, as this node heard it
    since_ms: i64,
    /// place of the last note about it that was taken in; notes may be read more than once
    heard: Offset,
}

/// What is not known to be removed, by the offset of its command.
#[derive(Default)]
pub(super) struct Unfinished(BTreeMap<Offset, Waiting>);

impl Unfinished {
    /// The command at `of` left this to its submitter.
    pub fn add(&mut self, of: Offset, what: Leftovers, now_ms: i64) {
        let busy = BTreeSet::from([SUBMITTER.to_owned()]);
        self.0.insert(of, Waiting { what, busy, since_ms: now_ms, heard: of });
    }

    /// Takes in the note at `offset` of the command topic; one about what is finished says nothing new.
    fn note(&mut self, offset: Offset, note: &Note, now_ms: i64) {
        let of = note.of();
        let Some(waiting) = self.0.get_mut(&of).filter(|waiting| waiting.heard < offset) else { return };
        waiting.heard = offset;
        match note {
            // Who is taken for dead stands in the note, since all nodes must come to the same.
            Note::Claimed { by, over, .. } => {
                waiting.busy.retain(|busy| !over.contains(busy));
                waiting.busy.insert(by.clone());
                waiting.since_ms = now_ms;
            }
            Note::Cleaned { by, .. } => {
                waiting.busy.remove(by);
                if waiting.busy.is_empty() {
                    self.0.remove(&of);
                }
            }
        }
    }

    /// True for a topic that is being deleted.
    pub fn deletes(&self, topic: &TopicName) -> bool {
        self.0.values().any(|waiting| waiting.what.topics.contains(topic))
    }

    /// True if `effect` makes or uses what is being removed.
    pub fn meets(&self, effect: &Effect) -> bool {
        self.meeting(effect).is_some()
    }

    /// What `effect` meets: its command, and since when it is waited for.
    fn meeting(&self, effect: &Effect) -> Option<(Offset, i64)> {
        let found = self.0.iter().find(|(_, waiting)| waiting.what.meets(effect));
        found.map(|(of, waiting)| (*of, waiting.since_ms))
    }

    fn since(&self, at_most_ms: i64) -> Vec<Offset> {
        self.0.iter().filter(|(_, w)| w.since_ms <= at_most_ms).map(|(of, _)| *of).collect()
    }
}

impl Engine {
    /// How long in ms the one who removes is waited for; where nobody else writes commands, not at all.
    fn grace_ms(&self) -> i64 {
        if !self.inner.log.is_shared() {
            return 0;
        }
        self.inner.config.int(config::LEFTOVERS_GRACE_MS).unwrap_or(60_000)
    }

    /// Between two looks for what push queries left.
    pub(super) fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms().unsigned_abs())
    }

    fn steady_ms(&self) -> i64 {
        self.inner.clock.steady_ms()
    }

    /// Takes in the note at `offset` of the command topic.
    pub(super) fn heard(&self, offset: Offset, note: &Note, unfinished: &mut Unfinished) {
        unfinished.note(offset, note, self.steady_ms());
    }

    /// What a command replayed at the start leaves.
    pub(super) fn replayed(
        &self,
        of: Offset,
        effect: &Effect,
        starts: &BTreeMap<QueryId, Start>,
        unfinished: &mut Unfinished,
    ) {
        if let Some(left) = Leftovers::of(effect, starts, &self.inner.service_id) {
            unfinished.add(of, left, self.steady_ms());
        }
    }

    /// Notes what a command leaves, before the queries that it stops are forgotten.
    pub(super) fn note_leftovers(&self, of: Offset, effect: &Effect) {
        self.replayed(of, effect, &self.inner.plans.read(), &mut self.inner.unfinished.lock());
    }

    /// Says in the command topic that this node's own command at `of` has left nothing.
    pub(super) fn finished(&self, of: Offset) {
        if !self.inner.unfinished.lock().0.contains_key(&of) {
            return;
        }
        self.say(&Note::Cleaned { of, by: SUBMITTER.to_owned() });
    }

    fn say(&self, note: &Note) {
        if let Err(error) = self.write(|| self.inner.commands.append_note(note)) {
            // It is done again then, which changes nothing.
            tracing::warn!("what was cleaned up is not noted: {error}");
        }
    }

    /// What a command of another node leaves of queries that run here, which may have been made again behind the submitter's back.
    pub(super) fn running_leftovers(&self, effect: &Effect) -> Option<Leftovers> {
        let runs = effect.stops.iter().any(|id| self.inner.runtime.status(id).is_some());
        let mut left = Leftovers::of(effect, &self.inner.plans.read(), &self.inner.service_id).filter(|_| runs)?;
        left.topics.retain(|topic| !effect.deletes.contains(topic));
        Some(left)
    }

    /// Removes again what the submitter of the command at `of` had removed before this node had stopped: a query that just started here
    /// made its topics and positions anew.
    pub(super) fn clean_again(&self, place: &Place, of: Offset, left: &Leftovers) {
        let again = || -> Result<(), Diagnostic> {
            self.look_for_notes(place)?;
            if self.inner.unfinished.lock().0.contains_key(&of) {
                return Ok(());
            }
            // A query may have been made under the same id since.
            let named =
                |text: &str| left.queries.iter().any(|id| text.to_uppercase().contains(&id.as_str().to_uppercase()));
            let later = self.inner.commands.read(place.next())?.0;
            if later.iter().any(|(_, entry)| matches!(entry, Ok(Entry::Command(c)) if named(&c.statement))) {
                return Ok(());
            }
            left.remove(self.inner.log.as_ref(), &|| true)?;
            Ok(())
        };
        if let Err(error) = again() {
            tracing::warn!(command = of, "what a query left here is not removed: {error}");
        }
    }

    /// Waits until nobody removes what has the names of what `effect` makes.
    ///
    /// # Errors
    /// If the command topic or what is to be removed cannot be reached.
    pub(super) fn await_clean(&self, place: &Place, effect: &Effect) -> Result<(), Diagnostic> {
        loop {
            let Some((of, since_ms)) = self.inner.unfinished.lock().meeting(effect) else { return Ok(()) };
            if self.steady_ms() - since_ms >= self.grace_ms() {
                self.take_over(place, of)?;
                continue;
            }
            self.look_for_notes(place)?;
            if self.inner.unfinished.lock().meeting(effect).is_some() {
                std::thread::park_timeout(LOOK);
            }
        }
    }

    /// Takes notes in that stand beyond the commands applied, and leaves the commands for later.
    fn look_for_notes(&self, place: &Place) -> Result<(), Diagnostic> {
        for (offset, entry) in self.inner.commands.read(place.next())?.0 {
            if let Ok(Entry::Note(note)) = entry {
                self.heard(offset, &note, &mut self.inner.unfinished.lock());
            }
        }
        Ok(())
    }

    /// Removes what the command at `of` left, in the place of who should have.
    fn take_over(&self, place: &Place, of: Offset) -> Result<(), Diagnostic> {
        let begun_ms = self.steady_ms();
        let (log, share_ms) = (self.inner.log.as_ref(), self.grace_ms() / SHARE);
        let by = self.inner.instance.clone();
        if log.is_shared() {
            let busy = self.inner.unfinished.lock().0.get(&of).map(|waiting| waiting.busy.iter().cloned().collect());
            let claim = Note::Claimed { of, by: by.clone(), over: busy.unwrap_or_default() };
            self.inner.commands.append_note(&claim)?;
            // Also sees the claim itself, and what was done before it.
            self.look_for_notes(place)?;
        }
        let Some(what) = self.inner.unfinished.lock().0.get(&of).map(|waiting| waiting.what.clone()) else {
            return Ok(());
        };
        tracing::info!(command = of, "removing what another node or an earlier run left: {what:?}");
        let may = || !log.is_shared() || self.steady_ms() - begun_ms < share_ms;
        if !self.write(|| what.remove(log, &may))? {
            let message = format!("what command {of} left could not be removed within {share_ms} ms");
            return Err(Diagnostic::new(ErrorClass::Retry, message).help("try again in a moment"));
        }
        let by = if log.is_shared() { by } else { SUBMITTER.to_owned() };
        self.say(&Note::Cleaned { of, by });
        self.look_for_notes(place)
    }

    /// Removes what was to be removed long ago. To be called now and then.
    pub(super) fn sweep(&self) {
        let due = self.inner.unfinished.lock().since(self.steady_ms() - self.grace_ms());
        for of in due {
            let place = self.inner.place.lock();
            if let Err(error) = self.take_over(&place, of) {
                tracing::warn!(command = of, "what a command left is not removed yet: {error}");
            }
        }
    }

    /// At the start, where one process has the log: what push queries left is the last run's, and goes at once.
    pub(super) fn sweep_own_push_queries(&self) {
        if self.inner.log.is_shared() {
            return;
        }
        let swept = self.sweep_push_queries(&BTreeSet::new()).and_then(|seen| self.sweep_push_queries(&seen));
        if let Err(error) = swept {
            tracing::warn!("what push queries of the last run left is not removed: {error}");
        }
    }

    /// Removes what push queries left that nobody runs: at a look whatever the look before saw too. Gives what it saw.
    pub(super) fn sweep_push_queries(&self, seen: &BTreeSet<String>) -> Result<BTreeSet<String>, TopicError> {
        let log = &self.inner.log;
        let prefix = format!("{}transient_", effect::group_prefix(&self.inner.service_id));
        let mine: Vec<String> = {
            let transient = self.inner.transient.lock();
            transient.list().map(|(id, _)| format!("{}{id}", effect::group_prefix(&self.inner.service_id))).collect()
        };
        let is_live = |name: &str, live: &[String]| {
            live.iter().any(|group| {
                name.strip_prefix(group.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            })
        };
        let idle = log.idle_owners()?;
        let owners: Vec<Owner> = log.owners()?.into_iter().filter(|o| o.0.starts_with(&prefix)).collect();
        let live: Vec<String> =
            owners.iter().filter(|o| !idle.contains(o)).map(|o| o.0.to_string()).chain(mine).collect();
        let mut left = BTreeSet::new();
        for owner in owners.iter().filter(|owner| !is_live(&owner.0, &live)) {
            if seen.contains(owner.0.as_ref()) {
                log.forget(owner)?;
            }
            left.insert(owner.0.to_string());
        }
        for topic in log.topics()?.into_iter().map(|spec| spec.name) {
            if !topic.as_str().starts_with(&prefix) || is_live(topic.as_str(), &live) {
                continue;
            }
            if seen.contains(topic.as_str()) {
                match log.delete_topic(&topic) {
                    Ok(()) | Err(TopicError::UnknownTopic(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            left.insert(topic.to_string());
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests;
