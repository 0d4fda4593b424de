//! Record bytes to columns and back: one file or folder a FORMAT, a decoder and an encoder each.
//!
//! A statement is checked by [`check`]. A task then makes a [`decoder`] for each side of its sources and an [`encoder`] for each
//! side of its sink ([`key`] adds the window of windowed keys). A batch of payloads goes through `RecordDecoder::decode`: the
//! format finds where the wanted values stand, builds one array a column, and `settle` makes the failed rows NULL. On the way
//! out `RecordEncoder::encode` writes all rows into one `ByteRows`. [`number`] reads numbers and [`text`] writes values as Java
//! does, for all formats and for casts.
//!
//! Knows no topics, tasks or queries: the runtime hands it bytes and takes columns. The subtle thing: one bad record costs
//! that record, never its batch. A decoder fills NULLs for it and reports its row; the caller drops it.
//!
//! Left out: JSON_SR, AVRO and the PROTOBUF formats are checked but have no codec yet ([`decoder`] says so).

mod byte_rows;
pub mod delimited;
pub mod guess;
pub mod json;
pub mod kafka;
pub mod key;
pub mod none;
pub mod number;
mod settle;
mod support;
#[cfg(test)]
mod testing;
pub mod text;

use std::collections::BTreeMap;
use std::fmt;

use arrow::array::{ArrayRef, BinaryArray};
use arrow::buffer::BooleanBuffer;

use crate::diagnostic::Diagnostic;
use crate::types::Column;

pub use support::{check, supports};

/// The formats by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// JSON text
    Json,
    /// one CSV line
    Delimited,
    /// Kafka's primitive serializers, one column
    Kafka,
    /// no columns, null bytes
    None,
    /// JSON behind a schema id
    JsonSr,
    /// Avro behind a schema id
    Avro,
    /// Protobuf behind a schema id
    Protobuf,
    /// bare Protobuf
    ProtobufNoSr,
}

impl Format {
    /// The format of that name, any case.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name.to_uppercase().as_str() {
            "JSON" => Self::Json,
            "DELIMITED" => Self::Delimited,
            "KAFKA" => Self::Kafka,
            "NONE" => Self::None,
            "JSON_SR" => Self::JsonSr,
            "AVRO" => Self::Avro,
            "PROTOBUF" => Self::Protobuf,
            "PROTOBUF_NOSR" => Self::ProtobufNoSr,
            _ => return None,
        })
    }

    /// Its name as SQL prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Delimited => "DELIMITED",
            Self::Kafka => "KAFKA",
            Self::None => "NONE",
            Self::JsonSr => "JSON_SR",
            Self::Avro => "AVRO",
            Self::Protobuf => "PROTOBUF",
            Self::ProtobufNoSr => "PROTOBUF_NOSR",
        }
    }

    /// True if its schemas live in a schema registry, so that columns may be inferred.
    pub fn uses_registry(self) -> bool {
        matches!(self, Self::JsonSr | Self::Avro | Self::Protobuf)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a lone column is stored as a record of one field or bare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Wrapping {
    /// `{"A": 1}`
    #[default]
    Wrapped,
    /// `1`
    Bare,
}

/// A format with its properties, for one side (key or value) of a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FormatSpec {
    /// which format
    pub format: Format,
    /// its properties by ksqlDB's names: `delimiter`, `fullSchemaName`, `schemaId`, `nullableRepresentation`, …
    pub properties: BTreeMap<String, String>,
    /// only looked at where the side has exactly one column
    pub wrapping: Wrapping,
}

impl FormatSpec {
    /// The format without properties, wrapped as the format does by default for values.
    pub fn new(format: Format) -> Self {
        let wrapping = match format {
            Format::Delimited | Format::Kafka | Format::None => Wrapping::Bare,
            _ => Wrapping::Wrapped,
        };
        Self { format, properties: BTreeMap::new(), wrapping }
    }

    /// The same, with a lone column stored bare or wrapped.
    #[must_use]
    pub fn wrapped(mut self, wrapping: Wrapping) -> Self {
        self.wrapping = wrapping;
        self
    }
}

/// Which side of the record a codec is for; error texts and Kafka's rules differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// record key
    Key,
    /// record value
    Value,
}

/// What a decoder made of a batch of payloads.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// one array for each wanted column, row-aligned with the payloads; rows that failed or were null hold NULLs
    pub columns: Vec<ArrayRef>,
    /// rows that exist: unset where the payload was null (or is an unwrapped NULL); `None`: all
    pub present: Option<BooleanBuffer>,
    /// rows that could not be decoded, ascending, each once
    pub failures: Vec<DecodeFailure>,
}

/// A record that could not be decoded, or a row that could not be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeFailure {
    /// row in the batch
    pub row: usize,
    /// why, with the column or path
    pub reason: String,
}

/// Turns payloads of one side into columns. One decoder serves one task; it may keep buffers between calls.
pub trait RecordDecoder: Send {
    /// Decodes all payloads; NULL payloads are absent rows. Never fails as a whole.
    fn decode(&mut self, payloads: &BinaryArray) -> Decoded;
}

/// What an encoder made of a batch of rows.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// a payload for each row, NULL for absent and failed ones
    pub payloads: BinaryArray,
    /// rows that could not be encoded, ascending, each once; the caller drops them
    pub failures: Vec<DecodeFailure>,
}

/// Turns columns into payloads of one side. One encoder serves one task; it may keep buffers between calls.
pub trait RecordEncoder: Send {
    /// Encodes rows of `columns` (in the order the encoder was made with). `present` unset gives a NULL payload; so do an
    /// unwrapped NULL and a key whose only column is NULL. `rows` is the length of every column (there may be none). Never
    /// fails as a whole.
    fn encode(&mut self, columns: &[ArrayRef], present: Option<&BooleanBuffer>, rows: usize) -> Encoded;
}

/// Makes the decoder for the columns of one side as declared (`columns`, in order); only those of index in `wanted` are built, in
/// that order.
///
/// # Errors
/// If the format cannot hold these columns ([`check`] says the same at analysis).
pub fn decoder(
    spec: &FormatSpec,
    side: Side,
    columns: &[Column],
    wanted: &[usize],
) -> Result<Box<dyn RecordDecoder>, Diagnostic> {
    check(spec, side, columns)?;
    if side == Side::Key && columns.is_empty() {
        return Ok(none::decoder());
    }
    match spec.format {
        Format::Json => json::decoder(spec, side, columns, wanted),
        Format::Delimited => delimited::decoder(spec, side, columns, wanted),
        Format::Kafka => kafka::decoder(spec, side, columns, wanted),
        Format::None => Ok(none::decoder()),
        other => Err(not_built(other)),
    }
}

/// Makes the encoder for the columns of one side.
///
/// # Errors
/// If the format cannot hold these columns.
pub fn encoder(spec: &FormatSpec, side: Side, columns: &[Column]) -> Result<Box<dyn RecordEncoder>, Diagnostic> {
    check(spec, side, columns)?;
    if side == Side::Key && columns.is_empty() {
        return Ok(none::encoder());
    }
    match spec.format {
        Format::Json => json::encoder(spec, side, columns),
        Format::Delimited => delimited::encoder(spec, side, columns),
        Format::Kafka => kafka::encoder(spec, side, columns),
        Format::None => Ok(none::encoder()),
        other => Err(not_built(other)),
    }
}

fn not_built(format: Format) -> Diagnostic {
    Diagnostic::user(format!("the {format} format is not built into this release"))
        .help("use JSON, DELIMITED, KAFKA or NONE")
}
