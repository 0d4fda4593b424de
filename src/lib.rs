//! riverrun: a SQL engine for streams.

pub mod diagnostic;
pub mod clock;
pub mod types;
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
pub mod wire;
pub mod client;
pub mod server;
pub mod shell;
pub mod sqltest;
pub mod cli;
