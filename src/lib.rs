//! riverrun: a SQL engine for streams.

pub mod clock;
pub mod diagnostic;
pub mod types;
pub mod sql;
pub mod format;
pub mod storage;
pub mod topic;
