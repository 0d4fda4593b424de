//! Which node of the service has what, and the way to what others have.
//!
//! Knows no HTTP: who carries a read to another node is a [`Peers`] that the server gives. The subtle thing: who holds a partition is asked of
//! the log's groups, never remembered for longer than a moment; an answer that is out of date makes the other node refuse, not lie.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Engine, effect};
use crate::catalog::PersistentQuery;
use crate::diagnostic::{Diagnostic, ErrorClass};
pub use crate::runtime::{ByteRange, Entries, Entry, RemoteEntries};
use crate::runtime::{Elsewhere, MaterializedView, RuntimeError};
use crate::topic::{Holder, Owner, StoreId};
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
}

/// What a node has of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// names of the query's stores, where it has any
    pub stores: Vec<String>,
    /// topic partitions that it reads
    pub partitions: Vec<TopicPartition>,
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
        let view = self.runtime().materialized_of(&QueryId::new(&request.query), &request.partitions)?;
        Ok(view.entries(request.ranges)?)
    }

    /// The state of a query, here and elsewhere; with `forward` false only if all of it is here.
    ///
    /// # Errors
    /// If a part of it is nowhere, or with a node that cannot be asked.
    pub(super) fn state(&self, id: &QueryId, forward: bool) -> Result<MaterializedView, Diagnostic> {
        let (view, missing) = self.runtime().materialized_here(id)?;
        if missing.is_empty() {
            return Ok(view);
        }
        let peers = self.inner.peers.read().clone().filter(|_| forward);
        let Some(peers) = peers else { return Err(RuntimeError::NotReady(id.clone()).into()) };
        let holders = self.log().holders(&self.owner(id))?;
        let mut by_url: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for missing in missing {
            let holds = |holder: &&Holder| missing.inputs.iter().all(|at| holder.partitions.contains(at));
            let url = holders.iter().find(holds).map(|holder| holder.url.clone());
            by_url.entry(reachable(id, missing.partition, url, self, &*peers)?).or_default().push(missing.partition);
        }
        let elsewhere = by_url.into_iter().map(|(url, partitions)| -> Elsewhere {
            let (peers, query) = (peers.clone(), id.to_string());
            Arc::new(move |ranges| {
                let request =
                    StateRequest { query: query.clone(), partitions: partitions.clone(), ranges: ranges.to_vec() };
                peers.read(&url, request)
            })
        });
        Ok(view.with_elsewhere(elsewhere.collect()))
    }

    fn owner(&self, id: &QueryId) -> Owner {
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
            for holder in self.log().holders(&self.owner(&query.id))? {
                let Some(url) = holder.url else { continue };
                let share = shares.entry(url).or_default().entry(query.id.to_string()).or_default();
                share.partitions.extend(holder.partitions);
                share.partitions.sort();
                if !share.partitions.is_empty() {
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

/// The URL of who holds a partition, or why it cannot be asked.
fn reachable(
    id: &QueryId,
    partition: i32,
    holder: Option<Option<String>>,
    engine: &Engine,
    peers: &dyn Peers,
) -> Result<String, Diagnostic> {
    let fail = |reason: String, help: &str| {
        let message = format!("partition {partition} of the state of query '{id}' cannot be read: {reason}");
        Err(Diagnostic::new(ErrorClass::Retry, message).help(help))
    };
    match holder {
        None => {
            fail("no node has it now".to_owned(), "it moves, or waits for a node to be given up; try again in a moment")
        }
        Some(None) => fail(
            "the node that has it does not say where it is reached".to_owned(),
            "set ksql.advertised.listener on all nodes",
        ),
        Some(Some(url)) if engine.advertised() == Some(&url) => {
            fail("it is being restored here".to_owned(), "try again later; SHOW QUERIES EXTENDED tells how far it is")
        }
        Some(Some(url)) if !peers.is_alive(&url) => {
            fail(format!("the node {url}, which has it, gives no sign of life"), "try again in a moment")
        }
        Some(Some(url)) => Ok(url),
    }
}
