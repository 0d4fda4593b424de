//! Writes that no task of a query does: inserts, topics, commands; and what is to be done when the log says no.
//!
//! Knows no statement. The subtle thing: a failed write may have happened. So nothing that came before it is undone until the log itself
//! has said whether it is there, and a command whose fate cannot be asked yet is settled before the next one is worked out.

use super::Engine;
use super::command_log::Command;
use super::effect::Effect;
use super::follow::Place;
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::topic::{TopicError, TopicSpec};
use crate::types::TopicName;

/// A command of this node of which it is not known whether it is in the command topic.
pub(super) struct Unsettled {
    command: Command,
    /// the topics made for it
    creates: Vec<TopicSpec>,
}

impl Unsettled {
    pub fn new(command: Command, creates: Vec<TopicSpec>) -> Self {
        Self { command, creates }
    }

    /// True if `found` in the command topic is this command.
    pub fn is(&self, found: &Result<Command, String>) -> bool {
        found.as_ref() == Ok(&self.command)
    }
}

impl Engine {
    /// Does a write. A log that an earlier write poisoned is opened again before, one that this write poisons after it.
    pub(super) fn write<T, E>(&self, write: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.inner.runtime.revive_log();
        let written = write();
        if written.is_err() {
            self.inner.runtime.revive_log();
        }
        written
    }

    /// Does a write that may be done twice; once more if the log had to be opened again.
    pub(super) fn write_twice(&self, write: impl Fn() -> Result<(), Diagnostic>) -> Result<(), Diagnostic> {
        match self.write(&write) {
            Err(error) if error.class == ErrorClass::Retry => write(),
            done => done,
        }
    }

    /// Makes the topics of a statement. If one cannot be made, there is none, unless others may use those that were made.
    pub(super) fn create_topics(&self, topics: &[TopicSpec]) -> Result<(), TopicError> {
        for (index, topic) in topics.iter().enumerate() {
            let Err(error) = self.write(|| self.inner.log.create_topic(topic)) else { continue };
            if !matches!(error, TopicError::Exists(_)) {
                // a failed creation may have happened
                let there = self.inner.log.describe(&topic.name).is_ok_and(|found| found.is_some());
                self.undo_topics(&topics[..index + usize::from(there)]);
            }
            return Err(error);
        }
        Ok(())
    }

    /// Undoes the creation of topics, except where other nodes may have found them.
    fn undo_topics(&self, topics: &[TopicSpec]) {
        for topic in topics.iter().filter(|_| !self.inner.log.is_shared()) {
            if let Err(error) = self.write_twice(|| self.delete_topic(&topic.name)) {
                tracing::warn!(topic = %topic.name, "the topic of a refused statement is left behind: {error}");
            }
        }
    }

    /// Deletes a topic; one that is not there is as good as deleted.
    pub(super) fn delete_topic(&self, topic: &TopicName) -> Result<(), Diagnostic> {
        match self.inner.log.delete_topic(topic) {
            Ok(()) | Err(TopicError::UnknownTopic(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The answer to a statement whose command could not be written, with `error`, and is unsettled.
    pub(super) fn after_failed_append(&self, place: &mut Place, error: Diagnostic) -> Result<Effect, Diagnostic> {
        match self.settle(place) {
            Ok(Some(done)) => done,
            Ok(None) => Err(error),
            Err(unknown) => {
                let message = format!("{}; whether the statement holds is not known yet: {}", error.message, unknown);
                Err(Diagnostic::new(error.class, message)
                    .help("once the log can be read again, SHOW and LIST tell; only repeat it if it is not there"))
            }
        }
    }

    /// Applies commands up to the end, after which an unsettled one has been applied too, and its answer is given, or is not there and its
    /// topics are undone. On a log with other writers the write may still arrive: there it stays unsettled.
    ///
    /// # Errors
    /// If the log cannot be asked yet.
    pub(super) fn settle(&self, place: &mut Place) -> Result<Option<Result<Effect, Diagnostic>>, Diagnostic> {
        if place.unsettled.is_some() {
            self.inner.runtime.revive_log();
            self.inner.commands.sure()?;
        }
        let settled = self.advance(place)?;
        if !self.inner.log.is_shared()
            && let Some(lost) = place.unsettled.take()
        {
            self.undo_topics(&lost.creates);
        }
        Ok(settled)
    }
}
