//! The integration tests, one binary: each test binary links DataFusion, so there is one.

mod conformance;
mod examples;
mod grammar;
mod http;
mod maintenance;
mod shell;
mod sql;
mod tidy;
