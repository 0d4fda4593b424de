//! The integration tests, one binary: each test binary links DataFusion, so there is one.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is not as it should be")]

mod conformance;
mod crash;
mod datagen;
mod equivalence;
mod examples;
#[cfg(feature = "kafka")]
mod failover;
mod faults;
mod grammar;
mod http;
mod idle_close;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kafka")]
mod kafka_cases;
#[cfg(feature = "kafka")]
mod kafka_crash;
#[cfg(feature = "kafka")]
mod kafka_doors;
mod limits;
mod maintenance;
#[cfg(feature = "kafka")]
mod nodes;
#[cfg(feature = "kafka")]
mod nodes_ddl;
mod plans;
#[cfg(feature = "kafka")]
mod security;
mod shell;
mod simulation;
mod sql;
mod tidy;
