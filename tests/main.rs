//! The integration tests, one binary: each test binary links DataFusion, so there is one.

mod conformance;
mod grammar;
mod sql;
mod tidy;
