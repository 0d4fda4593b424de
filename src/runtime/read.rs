//! What a runtime gives readers: views of the committed state of its queries.
//!
//! Reads no entries itself ([`super::materialization`] does). The subtle thing: a copy of what another node's task has is given only to who
//! says how far it may lag.

use crate::topic::TopicPartition;
use crate::types::QueryId;

use super::{MaterializedView, Runtime, RuntimeError};

/// A partition of a table whose state is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingPartition {
    /// its number
    pub partition: i32,
    /// who reads these has it
    pub inputs: Vec<TopicPartition>,
}

impl Runtime {
    /// The committed state of a query, as of now: later commits do not change it.
    ///
    /// # Errors
    /// If there is no such query, it keeps nothing to read, it is not restored yet, or the log fails.
    pub fn materialized(&self, id: &QueryId) -> Result<MaterializedView, RuntimeError> {
        let entry = self.entry(id)?;
        match &entry.query.shared.materialization {
            Some(materialization) => materialization.view()?.ok_or_else(|| RuntimeError::NotReady(id.clone())),
            None => Err(RuntimeError::NotMaterialized(id.clone())),
        }
    }

    /// The committed state of the partitions that are here, and which are not: their number with the topic partitions that belong to it.
    ///
    /// # Errors
    /// If there is no such query, it keeps nothing to read, or the log fails.
    pub fn materialized_here(&self, id: &QueryId) -> Result<(MaterializedView, Vec<MissingPartition>), RuntimeError> {
        let entry = self.entry(id)?;
        let Some(materialization) = &entry.query.shared.materialization else {
            return Err(RuntimeError::NotMaterialized(id.clone()));
        };
        let (view, missing) = materialization.view_here()?;
        let sub = materialization.sub();
        let inputs = |partition: i32| {
            let cell = entry.query.cells.iter().find(|c| c.progress.sub == sub && c.partition == partition);
            cell.map_or_else(Vec::new, |cell| cell.progress.inputs.clone())
        };
        Ok((view, missing.into_iter().map(|p| MissingPartition { partition: p, inputs: inputs(p) }).collect()))
    }

    /// The committed state of these partitions; with `lag` a copy will do that lacks no more changelog records than so many.
    ///
    /// # Errors
    /// If there is no such query, it keeps nothing to read, one of them is not here or not restored, or the log fails.
    pub fn materialized_of(
        &self,
        id: &QueryId,
        partitions: &[i32],
        lag: Option<u64>,
    ) -> Result<MaterializedView, RuntimeError> {
        let entry = self.entry(id)?;
        match &entry.query.shared.materialization {
            Some(materialization) => {
                materialization.view_of(partitions, lag)?.ok_or_else(|| RuntimeError::NotReady(id.clone()))
            }
            None => Err(RuntimeError::NotMaterialized(id.clone())),
        }
    }

    /// How many changelog records this node's copy of a partition of the state lacks whose task runs elsewhere; `None` without a copy.
    pub fn copy_lag(&self, id: &QueryId, partition: i32) -> Option<u64> {
        self.entry(id).ok()?.query.shared.materialization.as_ref()?.copy_lag(partition)
    }
}
