//! Statements become effects: the only writer of the catalog and the runtime.

pub mod outcome;

pub use outcome::*;
