//! What a logged command does at its place: the same text, planned again, must give the same stores and topics.
//!
//! Touches nothing outside. The subtle thing: everything outside that the command's writer saw (partitions of topics) stands in the
//! command, so that the fold gives the same on every node and at every time.

use std::collections::BTreeMap;

use super::command_log::Command;
use super::effect::{self, Effect, EffectContext, Start, Topics};
use super::settings;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::function::Registry;
use crate::sql;
use crate::topic::{Offset, TopicSpec};
use crate::types::TopicName;

/// What the commands of a service are folded under.
pub(super) struct Fold<'a> {
    /// the functions there are
    pub registry: &'static Registry,
    /// the server's properties
    pub config: &'a Config,
    /// the service
    pub service_id: &'a str,
}

impl Fold<'_> {
    /// What a command does to `catalog`, which is the fold of all before it, the last of them at `previous` (-1: none).
    ///
    /// A command whose writer had not seen that one yet is worked out as if it were new: it may get another query's number than its writer
    /// gave it.
    ///
    /// # Errors
    /// A command that does not apply there, or gives other stores than it did.
    pub fn effect(&self, command: &Command, previous: Offset, catalog: &Catalog) -> Result<Effect, Diagnostic> {
        let statement = sql::parse_statement(&command.statement)?;
        let config = settings::merged(self.config, &command.properties)?;
        let settings = settings::analysis(&config)?;
        let topics = Recorded(&command.partitions);
        let ctx = EffectContext {
            catalog,
            registry: self.registry,
            settings: &settings,
            properties: &command.properties,
            topics: &topics,
            service_id: self.service_id,
        };
        let effect = effect::effect(&statement, &command.statement, &ctx)?;
        let same = |start: &Start| command.based_on < previous || identity(start) == command.identity;
        if let Some(start) = effect.start.as_ref().filter(|start| !same(start)) {
            return Err(Diagnostic::new(
                ErrorClass::Query,
                format!(
                    "planning {} again gives other stores and topics than it was started with: [{}] instead of [{}]",
                    start.query.id,
                    identity(start).join(", "),
                    command.identity.join(", ")
                ),
            ));
        }
        Ok(effect)
    }
}

/// Names of a query's stores and internal topics with their partitions: what must come out again when it is planned anew.
pub(super) fn identity(start: &Start) -> Vec<String> {
    start.topology.identity()
}

/// Topics as a command remembers them.
struct Recorded<'a>(&'a BTreeMap<String, i32>);

impl Topics for Recorded<'_> {
    fn topic(&self, name: &TopicName) -> Result<Option<TopicSpec>, Diagnostic> {
        let spec = |partitions: &i32| TopicSpec {
            name: name.clone(),
            partitions: *partitions,
            replicas: i16::MAX,
            cleanup: Default::default(),
        };
        Ok(self.0.get(name.as_str()).map(spec))
    }
}
