//! The JSON of the HTTP API, both ways: the server writes what the client reads.
//!
//! A statement's way out: [`entity::to_json`] makes the entity of an [`crate::engine::Outcome`], [`rows::RowEncoder`] the lines of a
//! result, [`error::ErrorBody`] what is said when something is wrong; [`entity::from_json`] and [`rows::RowDecoder`] make the same
//! shapes again on the other side, so that the shell works alike with an engine and with a server. No I/O and no HTTP in here. Left out:
//! the protobuf form of rows (its reader, ksqlDB's Java client, negotiates JSON too).

pub mod decode;
pub mod describe;
pub mod entity;
pub mod error;
pub mod record;
pub mod request;
pub mod rows;
pub mod schema;
pub mod state;
pub mod statement;
pub mod value;

/// What `/info` and the shell call this release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
