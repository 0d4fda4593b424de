//! riverrun: a SQL engine for streams.

pub mod clock;
pub mod diagnostic;
pub mod types;
pub mod storage;
pub mod topic;
pub mod state;
pub mod format;
pub mod function;
pub mod sql;
pub mod analyzer;
pub mod plan;
pub mod operator;
pub mod runtime;
