//! Which nodes a pull query asks for a partition that is not here, and in which order.
//!
//! First who has it, then, where the reader allows, who keeps a copy: this node, then others by how far they lag. The subtle thing: what nodes
//! report only rules them out; the node that is asked looks itself how far its copy is, and refuses.

use std::sync::Arc;

use super::Engine;
use super::cluster::{Entries, Entry, Peers, Reads, RemoteEntries, StateRequest, TopicError};
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::runtime::MissingPartition;
use crate::topic::{Holder, standbys};
use crate::types::QueryId;

/// Who may be asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// this node's own copy
    Here,
    /// the node with this URL
    At(String),
}

/// What is known when places are looked for.
pub(super) struct Route<'a> {
    pub engine: &'a Engine,
    pub id: &'a QueryId,
    pub reads: Reads,
    pub peers: &'a dyn Peers,
    pub holders: Vec<Holder>,
}

/// Why nobody can be asked, and what may help.
struct Refusals(Vec<String>, &'static str);

impl Refusals {
    fn add(&mut self, reason: String, help: &'static str) {
        self.0.push(reason);
        self.1 = help;
    }
}

const IN_A_MOMENT: &str = "try again in a moment";
const LAGGING: &str = "try again later, or allow more with ksql.query.pull.max.allowed.offset.lag";

impl Route<'_> {
    /// Who may be asked for a partition, the best one first.
    pub fn places(&self, missing: &MissingPartition) -> Result<Vec<Place>, Diagnostic> {
        let mut refused = Refusals(Vec::new(), IN_A_MOMENT);
        let mut places: Vec<Place> = self.active(missing, &mut refused).into_iter().collect();
        if self.reads.standbys {
            places.extend(self.copies(missing, &mut refused));
        }
        if places.is_empty() {
            let (partition, id) = (missing.partition, self.id);
            let reasons = refused.0.join("; ");
            let message = format!("partition {partition} of the state of query '{id}' cannot be read: {reasons}");
            return Err(Diagnostic::new(ErrorClass::Retry, message).help(refused.1));
        }
        Ok(places)
    }

    fn active(&self, missing: &MissingPartition, refused: &mut Refusals) -> Option<Place> {
        let holds = |holder: &&Holder| missing.inputs.iter().all(|at| holder.partitions.contains(at));
        let Some(holder) = self.holders.iter().find(holds) else {
            let help = "it moves, or waits for a node to be given up; try again in a moment";
            refused.add("no node has it now".to_owned(), help);
            return None;
        };
        let Some(url) = &holder.url else {
            let reason = "the node that has it does not say where it is reached".to_owned();
            refused.add(reason, "set ksql.advertised.listener on all nodes");
            return None;
        };
        if self.engine.advertised() == Some(url) {
            let help = "try again later; SHOW QUERIES EXTENDED tells how far it is";
            refused.add("it is being restored here".to_owned(), help);
            return None;
        }
        self.askable(url, missing, "which has it", refused).then(|| Place::At(url.clone()))
    }

    /// Who keeps copies that lag no more than allowed, as far as is known.
    fn copies(&self, missing: &MissingPartition, refused: &mut Refusals) -> Vec<Place> {
        let mut places = Vec::new();
        let max = self.reads.max_lag;
        match self.engine.runtime().copy_lag(self.id, missing.partition) {
            Some(lag) if lag <= max => places.push(Place::Here),
            Some(lag) => refused.add(format!("the copy here lags by {lag} records of {max} allowed"), LAGGING),
            None => {}
        }
        let catalog = self.engine.catalog();
        let query = catalog.queries().find(|query| query.id == *self.id);
        let replicas = query.map_or(0, |query| self.engine.standby_replicas(query));
        let mut others: Vec<(u64, String)> = Vec::new();
        for (at, holder) in self.holders.iter().enumerate() {
            let Some(url) = holder.url.as_ref().filter(|url| self.engine.advertised() != Some(url)) else { continue };
            let copied = standbys(&self.holders, at, replicas);
            if missing.inputs.iter().all(|at| copied.contains(at)) && self.askable(url, missing, "a copy", refused) {
                others.push((self.lag(url, missing).unwrap_or(u64::MAX), url.clone()));
            }
        }
        others.sort();
        places.extend(others.into_iter().map(|(_, url)| Place::At(url)));
        places
    }

    fn lag(&self, url: &str, missing: &MissingPartition) -> Option<u64> {
        self.peers.lag(url, &self.engine.owner(self.id).0, missing.partition)
    }

    /// False for a node that is known to be dead, or to lag too much.
    fn askable(&self, url: &str, missing: &MissingPartition, what: &str, refused: &mut Refusals) -> bool {
        if !self.peers.is_alive(url) {
            refused.add(format!("the node {url}, {what}, gives no sign of life"), IN_A_MOMENT);
            return false;
        }
        let max = self.reads.max_lag;
        if let Some(lag) = self.lag(url, missing).filter(|lag| *lag > max) {
            refused.add(format!("the node {url}, {what}, lags by {lag} records of {max} allowed"), LAGGING);
            return false;
        }
        true
    }
}

/// A read that goes to the next place if one does not answer. Once entries came, there is no other: they are of one moment there.
pub(super) struct Tried {
    pub engine: Engine,
    pub peers: Arc<dyn Peers>,
    pub request: StateRequest,
    /// who is left to be asked, the best one last
    pub places: Vec<Place>,
    pub reading: Option<Box<dyn RemoteEntries>>,
    /// entries came
    pub begun: bool,
}

impl Tried {
    fn begin(&self, place: &Place) -> Result<Box<dyn RemoteEntries>, TopicError> {
        match place {
            Place::At(url) => self.peers.read(url, self.request.clone()),
            Place::Here => {
                let failed =
                    |e: Diagnostic| TopicError::Io { what: "read the copy here".into(), reason: e.to_string() };
                let entries = self.engine.state_entries(self.request.clone()).map_err(failed)?;
                Ok(Box::new(Own(entries)))
            }
        }
    }

    fn next_page(&mut self) -> Result<Option<Vec<Entry>>, TopicError> {
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => match self.places.pop() {
                Some(place) => self.begin(&place)?,
                None => return Ok(None),
            },
        };
        let page = reading.next_entries()?;
        self.begun = true;
        if page.is_some() {
            self.reading = Some(reading);
        } else {
            self.places.clear();
        }
        Ok(page)
    }
}

impl RemoteEntries for Tried {
    fn next_entries(&mut self) -> Result<Option<Vec<Entry>>, TopicError> {
        loop {
            match self.next_page() {
                Err(error) if !self.begun && !self.places.is_empty() => {
                    tracing::debug!(query = self.request.query, "another node is asked, since one failed: {error}");
                }
                done => return done,
            }
        }
    }
}

/// Entries of this node's own copy.
struct Own(Entries);

impl RemoteEntries for Own {
    fn next_entries(&mut self) -> Result<Option<Vec<Entry>>, TopicError> {
        let failed = |e: crate::runtime::RuntimeError| TopicError::Io {
            what: "read the copy here".into(),
            reason: e.to_string(),
        };
        self.0.next_entries().map_err(failed)
    }
}
