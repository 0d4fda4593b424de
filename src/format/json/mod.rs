//! JSON records: text to columns and back.
//!
//! A record's way in: [`decode`] takes a batch of payloads; for each, `FieldTable::locate` walks the fields, of which the
//! scanner finds the ends, and notes where the wanted values stand; then each column's `ColumnDecoder` turns its notes of all
//! records into one array. The way out: [`encode`] binds a writer to each column and writes the rows one after the other into
//! one buffer.
//!
//! The subtle thing: values that nobody wants are stepped over, not read. Their text must be valid JSON, but not of the
//! declared type.

mod block;
mod column;
mod decode;
mod encode;
mod fields;
mod nested;
mod scan;
mod string;
#[cfg(test)]
mod tests;
mod value_text;

use super::{FormatSpec, RecordDecoder, RecordEncoder, Side, Wrapping};
use crate::diagnostic::Diagnostic;
use crate::types::Column;

/// The decoder of JSON for the columns of one side; only those of index in `wanted` are built, in that order.
///
/// # Errors
/// None: the caller has checked the columns.
pub fn decoder(
    spec: &FormatSpec,
    _side: Side,
    columns: &[Column],
    wanted: &[usize],
) -> Result<Box<dyn RecordDecoder>, Diagnostic> {
    let bare = columns.len() == 1 && spec.wrapping == Wrapping::Bare;
    Ok(Box::new(decode::JsonDecoder::new(columns, wanted, bare)))
}

/// The encoder of JSON for the columns of one side.
///
/// # Errors
/// None: the caller has checked the columns.
pub fn encoder(spec: &FormatSpec, side: Side, columns: &[Column]) -> Result<Box<dyn RecordEncoder>, Diagnostic> {
    let bare = columns.len() == 1 && spec.wrapping == Wrapping::Bare;
    Ok(Box::new(encode::JsonEncoder::new(columns, bare, side)))
}

/// The JSON value that `payload` holds, as text without white space; `None` if it is no JSON.
pub(super) fn compact_text(payload: &[u8]) -> Option<String> {
    std::str::from_utf8(payload).ok()?;
    let span = scan::document(payload, 0, payload.len()).ok()?;
    let mut out = Vec::with_capacity(payload.len());
    value_text::push_compact(payload, span, &mut out).ok()?;
    String::from_utf8(out).ok()
}
