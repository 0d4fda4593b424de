//! riverrun: a SQL engine for streams.

pub mod diagnostic;
pub mod config;
pub mod types;
pub mod topic;
pub mod state;
pub mod format;
pub mod function;
pub mod sql;
pub mod plan;
pub mod operator;
pub mod engine;
pub mod wire;
pub mod server;
pub mod client;
pub mod shell;
pub mod sqltest;
pub mod cli;
