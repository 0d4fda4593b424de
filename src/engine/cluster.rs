//! Which node of the service has what, and the way to what others have.
//!
//! Knows no HTTP: who carries a read to another node is a [`Peers`] that the server gives. The subtle thing: who holds a partition is asked of
//! the log's groups, never remembered for longer than a moment; an answer that is out of date makes the other node refuse, not lie.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::route::{Place, Route, Tried};
use super::{Engine, effect, settings};
use crate::catalog::PersistentQuery;
use crate::diagnostic::Diagnostic;
pub use crate::runtime::{ByteRange, Entries, Entry, RemoteEntries};
use crate::runtime::{Elsewhere, MaterializedView, RuntimeError};
use crate::topic::{Owner, StoreId, standbys};
pub use crate::topic::{TopicError, TopicPartition};
use crate::types::QueryId;

/// What one node wants to read of another one's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRequest {
    /// the query that keeps it
    pub query: String,
    /// its partitions
    pub partitions: Vec<i32>,
    /// ranges of encoded keys, ascending and apart
    pub ranges: Vec<ByteRange>,
    /// a copy will do that lacks no more changelog records than so many; `None`: only the state itself
    pub lag: Option<u64>,
}

/// What a pull query takes of what is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reads {
    /// copies will do if the state itself cannot be read (`ksql.query.pull.enable.standby.reads`)
    pub standbys: bool,
    /// how many changelog records what is read may lack (`ksql.query.pull.max.allowed.offset.lag`)
    pub max_lag: u64,
}

/// Carries reads to other nodes.
pub trait Peers: Send + Sync {
    /// Begins a read at the node with this URL.
    ///
    /// # Errors
    /// If it cannot be begun; what the other node says comes with the entries.
    fn read(&self, url: &str, request: StateRequest) -> Result<Box<dyn RemoteEntries>, TopicError>;

    /// False for a node that is known not to live.
    fn is_alive(&self, url: &str) -> bool;

    /// How far a node's copies of these stores (all that begin with `group#`) of a partition lag, as it last said; `None` if it did not.
    fn lag(&self, url: &str, group: &str, partition: i32) -> Option<u64>;
}

/// What a node has of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// names of the query's stores, where it has any
    pub stores: Vec<String>,
    /// topic partitions that it reads
    pub partitions: Vec<TopicPartition>,
    /// topic partitions of whose tasks it keeps copies of state
    pub standbys: Vec<TopicPartition>,
}

/// How far a store's copy on this node is, by partition: the first changelog number it does not hold, and the changelog's end.
pub type Lags = BTreeMap<String, BTreeMap<i32, (u64, u64)>>;

impl Engine {
    /// From now on what other nodes have is read by `peers`.
    pub fn set_peers(&self, peers: Arc<dyn Peers>) {
        *self.inner.peers.write() = Some(peers);
    }

    /// Entries of state that is here, for the reader of another node.
    ///
    /// # Errors
    /// If it is not here, or not restored.
    pub fn state_entries(&self, request: StateRequest) -> Result<Entries, Diagnostic> {
        let view = self.runtime().materialized_of(&QueryId::new(&request.query), &request.partitions, request.lag)?;
        Ok(view.entries(request.ranges)?)
    }

    /// The state of a query, here and elsewhere.
    ///
    /// # Errors
    /// If a part of it is nowhere, or only with nodes that cannot be asked or whose copies lag too much.
    pub(super) fn state(&self, id: &QueryId, reads: Reads) -> Result<MaterializedView, Diagnostic> {
        let (view, missing) = self.runtime().materialized_here(id)?;
        if missing.is_empty() {
            return Ok(view);
        }
        let peers = self.inner.peers.read().clone();
        let Some(peers) = peers else { return Err(RuntimeError::NotReady(id.clone()).into()) };
        let route = Route { engine: self, id, reads, peers: &*peers, holders: self.log().holders(&self.owner(id))? };
        let mut by_places: BTreeMap<Vec<Place>, Vec<i32>> = BTreeMap::new();
        for missing in missing {
            by_places.entry(route.places(&missing)?).or_default().push(missing.partition);
        }
        let elsewhere = by_places.into_iter().map(|(places, partitions)| -> Elsewhere {
            let (peers, query, engine) = (peers.clone(), id.to_string(), self.clone());
            Arc::new(move |ranges| {
                let lag = reads.standbys.then_some(reads.max_lag);
                let request =
                    StateRequest { query: query.clone(), partitions: partitions.clone(), ranges: ranges.to_vec(), lag };
                let places = places.iter().rev().cloned().collect();
                let (engine, peers) = (engine.clone(), peers.clone());
                Ok(Box::new(Tried { engine, peers, request, places, reading: None, begun: false }))
            })
        });
        Ok(view.with_elsewhere(elsewhere.collect()))
    }

    /// On how many other nodes copies of a query's state are kept.
    pub(super) fn standby_replicas(&self, query: &PersistentQuery) -> usize {
        let config = settings::merged(&self.inner.config, &query.properties);
        config.map_or(0, |config| settings::query(&config).standby_replicas)
    }

    pub(super) fn owner(&self, id: &QueryId) -> Owner {
        Owner::new(effect::group(&self.inner.service_id, id.as_str()))
    }

    /// The URL under which others reach this node, if it says one.
    pub fn advertised(&self) -> Option<&str> {
        self.inner.config.text(crate::config::ADVERTISED_LISTENER).filter(|url| !url.is_empty())
    }

    /// What each node that can be told has of each persistent query, by URL and query; this node is among them.
    ///
    /// # Errors
    /// If the log cannot be asked.
    pub fn shares(&self) -> Result<BTreeMap<String, BTreeMap<String, Share>>, Diagnostic> {
        let mut shares: BTreeMap<String, BTreeMap<String, Share>> = BTreeMap::new();
        shares.extend(self.advertised().map(|url| (url.to_owned(), BTreeMap::new())));
        for query in self.catalog().queries() {
            // Each node that has partitions has the same stores.
            let stores = self.stores(query);
            let (holders, replicas) = (self.log().holders(&self.owner(&query.id))?, self.standby_replicas(query));
            for (at, holder) in holders.iter().enumerate() {
                let Some(url) = holder.url.clone() else { continue };
                let share = shares.entry(url).or_default().entry(query.id.to_string()).or_default();
                share.partitions.extend(holder.partitions.iter().cloned());
                share.partitions.sort();
                share.standbys = if stores.is_empty() { Vec::new() } else { standbys(&holders, at, replicas) };
                if !share.partitions.is_empty() || !share.standbys.is_empty() {
                    share.stores.clone_from(&stores);
                }
            }
        }
        Ok(shares)
    }

    /// Names of a query's stores.
    fn stores(&self, query: &PersistentQuery) -> Vec<String> {
        let mut stores: Vec<String> = self.runtime().restored(&query.id).into_iter().map(|s| s.store).collect();
        stores.dedup();
        stores
    }

    /// How far this node's copies of state are, by group and store, as `<group>#<store>`.
    ///
    /// # Errors
    /// If the log cannot be asked.
    pub fn lags(&self) -> Result<Lags, Diagnostic> {
        let mut lags = Lags::new();
        for query in self.catalog().queries() {
            let owner = self.owner(&query.id);
            for restored in self.runtime().restored(&query.id) {
                let id = StoreId {
                    owner: owner.clone(),
                    name: restored.store.as_str().into(),
                    partition: restored.partition,
                };
                let end = self.log().changelog_end(&id)?;
                let current = restored.upto.unwrap_or(end).min(end);
                let name = format!("{}#{}", owner.0, restored.store);
                lags.entry(name).or_default().insert(restored.partition, (current, end));
            }
        }
        Ok(lags)
    }
}
