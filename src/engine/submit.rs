//! The way of an accepted statement into the command topic and back: its submitter answers when it is applied at its place.
//!
//! Only here topics are made and deleted, by the submitter. The subtle thing: between working a statement out and its place in the command
//! topic another node may have written; then it is worked out again there, and what that says is the answer. A topic that was made for a
//! statement that is refused then stays, since the other node may have found it and use it.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::command_log::Command;
use super::effect::{self, Effect, EffectContext, Topics};
use super::fold::identity;
use super::follow::Place;
use super::write::Unsettled;
use super::{Engine, settings};
use crate::catalog::Catalog;
use crate::config;
use crate::diagnostic::Diagnostic;
use crate::sql::ast::Statement;
use crate::topic::{TopicError, TopicSpec};
use crate::types::TopicName;

/// How often a topic that another node just made is looked for.
const RACES: u32 = 50;

impl Engine {
    /// Carries out a logged statement: topics, command, catalog, queries. One at a time on this node.
    pub(super) fn submit(
        &self,
        statement: &Statement,
        text: &str,
        properties: &BTreeMap<String, String>,
    ) -> Result<Effect, Diagnostic> {
        let mut place = self.inner.place.lock();
        self.follow(&mut place)?;
        let (effect, partitions) = self.prepare(statement, text, properties, &place)?;
        if effect.warning.is_some() {
            return Ok(effect);
        }
        let identity = effect.start.as_ref().map(identity).unwrap_or_default();
        let command = Command::new(text.to_owned(), properties.clone(), partitions, place.last(), identity);
        let creates = effect.creates.clone();
        match self.write(|| self.inner.commands.append(&command)) {
            Ok(offset) => {
                place.unsettled = None;
                let answer = self.follow_to(&mut place, offset, effect);
                if place.last() < offset {
                    // not read back; whenever it is, it is this node's
                    place.unsettled = Some(Unsettled::new(command, creates));
                }
                answer
            }
            Err(error) => {
                place.unsettled = Some(Unsettled::new(command, creates));
                self.after_failed_append(&mut place, error)
            }
        }
    }

    /// Works a statement out and makes its topics; gives also the partitions of all topics it knows of.
    fn prepare(
        &self,
        statement: &Statement,
        text: &str,
        properties: &BTreeMap<String, String>,
        place: &Place,
    ) -> Result<(Effect, BTreeMap<String, i32>), Diagnostic> {
        let catalog = &*self.catalog();
        let config = settings::merged(&self.inner.config, properties)?;
        let settings = settings::analysis(&config)?;
        let mut tries = 0;
        loop {
            let seen = Seen { engine: self, partitions: Mutex::default() };
            let ctx = EffectContext {
                catalog,
                registry: self.inner.registry,
                settings: &settings,
                properties,
                topics: &seen,
                service_id: &self.inner.service_id,
            };
            let effect = effect::effect(statement, text, &ctx)?;
            if effect.warning.is_none() {
                if self.inner.unfinished.lock().meets(&effect) {
                    self.await_clean(place, &effect)?;
                    continue;
                }
                self.check_query_limit(catalog, &effect)?;
                match self.create_topics(&effect.creates) {
                    Ok(()) => {}
                    // Another node was faster; now the topic is seen as it is.
                    Err(TopicError::Exists(_)) if tries < RACES => {
                        tries += 1;
                        std::thread::park_timeout(Duration::from_millis(20));
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            let mut partitions = seen.partitions.into_inner();
            partitions.extend(effect.creates.iter().map(|t| (t.name.to_string(), t.partitions)));
            return Ok((effect, partitions));
        }
    }

    /// One more persistent query than the limit allows is refused before anything of it is there.
    fn check_query_limit(&self, catalog: &Catalog, effect: &Effect) -> Result<(), Diagnostic> {
        let Some(limit) = self.inner.config.limit(config::PERSISTENT_QUERY_LIMIT) else { return Ok(()) };
        let starts = effect.start.as_ref().is_some_and(|start| !start.replaces);
        let queries = catalog.queries().count();
        if !starts || queries < limit {
            return Ok(());
        }
        let name = config::PERSISTENT_QUERY_LIMIT;
        let message = format!("{queries} persistent queries are active, and {name} = {limit} allows no more");
        Err(Diagnostic::user(message).help("end one with TERMINATE, or raise the limit"))
    }
}

/// Topics of the log without those that are being deleted; remembers what was looked at.
struct Seen<'a> {
    engine: &'a Engine,
    partitions: Mutex<BTreeMap<String, i32>>,
}

impl Topics for Seen<'_> {
    fn topic(&self, name: &TopicName) -> Result<Option<TopicSpec>, Diagnostic> {
        if self.engine.inner.unfinished.lock().deletes(name) {
            return Ok(None);
        }
        let found = self.engine.inner.log.describe(name)?;
        if let Some(topic) = &found {
            self.partitions.lock().insert(name.to_string(), topic.partitions);
        }
        Ok(found)
    }
}
