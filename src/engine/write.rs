//! Writes that no task of a query does: inserts, topics, commands; and what is to be done when the log says no.
//!
//! Knows no statement. The subtle thing: a failed write may have happened. So nothing that came before it is undone until the log itself
//! has said whether it is there, and a command whose fate cannot be asked yet is settled before the next one is worked out.

use std::sync::atomic::Ordering;

use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::topic::{TopicError, TopicSpec};
use crate::types::TopicName;

use super::Engine;
use super::command_log::Command;
use super::effect;
use super::fold::Fold;

/// How far the command log is applied.
pub(super) struct Applied {
    /// the place of the last command applied (-1: none)
    pub offset: i64,
    /// a command whose write failed and of which it is not known whether it is there
    pub unsettled: Option<Unsettled>,
}

/// See [`Applied::unsettled`].
pub(super) struct Unsettled {
    command: Command,
    creates: Vec<TopicSpec>,
}

impl Engine {
    /// Does a write. A log that an earlier write poisoned is opened again before, one that this write poisons after it.
    pub(super) fn write<T>(&self, write: impl FnOnce() -> Result<T, Diagnostic>) -> Result<T, Diagnostic> {
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

    /// Makes the topics of a statement, all or none.
    pub(super) fn create_topics(&self, topics: &[TopicSpec]) -> Result<(), Diagnostic> {
        for (index, topic) in topics.iter().enumerate() {
            if let Err(error) = self.write(|| Ok(self.inner.log.create_topic(topic)?)) {
                // a failed creation may have happened, unless the topic is somebody else's
                let there = self.inner.log.describe(&topic.name).is_ok_and(|found| found.is_some());
                let mine = there && error.class == ErrorClass::Retry;
                self.delete_topics(&topics[..index + usize::from(mine)]);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Undoes the creation of topics.
    fn delete_topics(&self, topics: &[TopicSpec]) {
        for topic in topics {
            if let Err(error) = self.write_twice(|| self.delete_topic(&topic.name)) {
                tracing::warn!(topic = %topic.name, "the topic of a refused statement is left behind: {error}");
            }
        }
    }

    pub(super) fn delete_topic(&self, topic: &TopicName) -> Result<(), Diagnostic> {
        match self.inner.log.delete_topic(topic) {
            Ok(()) | Err(TopicError::UnknownTopic(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a command for which `creates` were made. Gives its place.
    ///
    /// # Errors
    /// If it is not there: then the topics are not either. If that cannot be known: then [`Self::settle`] finds out.
    pub(super) fn log_command(
        &self,
        applied: &mut Applied,
        command: Command,
        creates: &[TopicSpec],
    ) -> Result<i64, Diagnostic> {
        let error = match self.write(|| self.inner.commands.append(&command)) {
            Ok(offset) => return Ok(offset),
            Err(error) => error,
        };
        match self.inner.commands.find(applied.offset + 1, &command) {
            Ok(Some(offset)) => Ok(offset),
            Ok(None) => {
                self.delete_topics(creates);
                Err(error)
            }
            Err(unknown) => {
                applied.unsettled = Some(Unsettled { command, creates: creates.to_vec() });
                self.inner.unsettled.store(true, Ordering::SeqCst);
                let message = format!("{}; whether the statement holds is not known yet: {}", error.message, unknown);
                Err(Diagnostic::new(error.class, message)
                    .help("once the log can be read again, SHOW and LIST tell; only repeat it if it is not there"))
            }
        }
    }

    /// The same before statements are worked out, which may need what the command made. If the log cannot be asked yet, they are worked
    /// out without it.
    pub(super) fn settle_if_due(&self) {
        if self.inner.unsettled.load(Ordering::SeqCst)
            && let Err(error) = self.settle(&mut self.inner.ddl.lock())
        {
            tracing::warn!("whether the last command is in the log is still unknown: {error}");
        }
    }

    /// Finds out about a command whose write failed, and applies it or undoes its topics.
    ///
    /// # Errors
    /// If the log cannot be asked yet.
    pub(super) fn settle(&self, applied: &mut Applied) -> Result<(), Diagnostic> {
        let Some(Unsettled { command, creates }) = &applied.unsettled else { return Ok(()) };
        self.inner.runtime.revive_log();
        let Some(offset) = self.inner.commands.find(applied.offset + 1, command)? else {
            self.delete_topics(creates);
            applied.unsettled = None;
            self.inner.unsettled.store(false, Ordering::SeqCst);
            return Ok(());
        };
        let mut catalog = self.catalog().as_ref().clone();
        let inner = &self.inner;
        let fold = Fold { registry: inner.registry, config: &inner.config, service_id: &inner.service_id };
        let effect = fold.effect(command, &catalog);
        (applied.offset, applied.unsettled) = (offset, None);
        inner.unsettled.store(false, Ordering::SeqCst);
        match effect {
            Ok(effect) => {
                effect.changes.iter().for_each(|change| effect::apply(&mut catalog, change));
                *inner.catalog.write() = std::sync::Arc::new(catalog);
                self.carry_out(&effect)
            }
            Err(error) => {
                tracing::error!(offset, "command passed over: {error}");
                Ok(())
            }
        }
    }
}
