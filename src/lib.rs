//! riverrun: a SQL engine for streams.

pub mod clock;
pub mod diagnostic;
pub mod clock;
pub mod types;
<<<<<<< HEAD
=======
pub mod sql;
pub mod format;
>>>>>>> log
pub mod storage;
pub mod topic;
pub mod state;
pub mod format;
pub mod function;
pub mod sql;
pub mod catalog;
pub mod plan;
pub mod analyzer;
pub mod operator;
pub mod runtime;
pub mod config;
pub mod engine;
