//! riverrun: a SQL engine for streams.

pub mod analyzer;
pub mod catalog;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod diagnostic;
pub mod engine;
pub mod format;
pub mod function;
pub mod operator;
pub mod plan;
pub mod runtime;
pub mod server;
pub mod shell;
pub mod sql;
pub mod sqltest;
pub mod state;
pub mod storage;
pub mod topic;
pub mod types;
pub mod wire;
