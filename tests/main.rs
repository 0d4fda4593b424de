//! The integration tests, one binary: each test binary links DataFusion, so there is one.

mod grammar;
mod http;
mod shell;
mod tidy;
