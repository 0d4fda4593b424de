//! riverrun: a SQL engine for streams.

pub mod clock;
pub mod diagnostic;
pub mod types;
pub mod topic;
pub mod state;
pub mod format;
pub mod function;
pub mod sql;
pub mod catalog;
pub mod plan;
pub mod analyzer;
pub mod operator;
<<<<<<< HEAD
pub mod engine;
=======
pub mod runtime;
>>>>>>> runtime
