//! riverrun: a SQL engine for streams, as a library.
//!
//! It speaks the KSQL dialect: `CREATE STREAM` and `CREATE TABLE` over topics, persistent queries that run for ever, push queries that
//! stream changes, pull queries that read tables. Open an [`Engine`] and execute statements in a [`Session`]; `examples/embed.rs` does.
//!
//! # Glossary
//! One word for one thing, everywhere:
//! - *source*: a stream or a table, declared over a topic. *Sink*: the source a persistent query writes.
//! - *record*: key, value, timestamp and headers in a topic. *Row*: the same as columns. *Tombstone*: a record without value.
//! - *topic partition*, *offset*, *position* (how far a reader is), *consumer group* (whose position it is).
//! - *row time*: the time a row is about. *Stream time*: the highest row time an operator has seen; it never falls.
//! - *window*, *grace* (how long after its end a window takes rows), *retention* (how long its state is kept).
//! - *change*: a new row, with the row before it where someone asks. *Change batch*: many of them, as Arrow columns.
//! - *store*: the keyed memory of an operator. *Changelog*: its changes, committed block by block. *Restore*: its replay.
//! - *materialization*: a store that pull queries read.
//! - *persistent*, *push* and *pull query*: runs for ever into a topic; streams changes to a client; reads a table once.
//! - *topology*: how a query runs; *sub-topology*: the part between two topics; *task*: a sub-topology for one partition.
//! - *step*: what a task handles at once; *commit*: positions, state and outputs made durable together, or not at all.
//! - *processing log*: where lost rows go, with the reason. *Command log*: the accepted statements; the catalog is its fold.
//!
//! # The house
//! Modules in reading order. First the words that everyone speaks:

pub mod diagnostic;

pub mod clock;

pub mod types;

// The way of a record: bytes in topics, columns, state, operators, and the room that walks them through.
pub mod storage;

pub mod topic;

pub mod format;

pub mod state;

pub mod function;

// The way of a statement: text, catalog, plan, meaning.
pub mod sql;

pub mod catalog;

pub mod plan;

pub mod analyzer;

// What runs.
pub mod operator;

pub mod runtime;

pub mod config;

pub mod engine;

// The doors.
pub mod wire;

pub mod client;

pub mod server;

pub mod shell;

pub mod sqltest;

pub mod datagen;

pub mod cli;

pub use engine::{Engine, EngineConfig, Session};
