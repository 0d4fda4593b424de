//! riverrun: a SQL engine for streams.

pub mod diagnostic;
pub mod types;
pub mod sql;
pub mod format;
pub mod topic;
