//! Record keys: the key columns in their format, and for windowed relations the window behind them.
//!
//! Chooses no partitions. The subtle thing is the layout, which Kafka Streams gave: a time window adds 8 bytes, its start; a
//! session adds 16, its *end* first and then its start; all big-endian ms since the epoch.

use arrow::array::{Array, ArrayRef, BinaryArray};
use arrow::buffer::BooleanBuffer;

use super::byte_rows::ByteRows;
use super::settle::settle;
use super::{DecodeFailure, Decoded, Encoded, FormatSpec, RecordDecoder, RecordEncoder, Side, decoder, encoder};
use crate::diagnostic::Diagnostic;
use crate::types::{Column, WindowBounds};

/// What stands behind the key columns of a windowed relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyWindow {
    /// the start of a tumbling or hopping window of that length in ms, > 0
    Time {
        /// length of the windows in ms
        size_ms: i64,
    },
    /// end and start of a session
    Session,
}

/// Keys as columns, with their windows.
#[derive(Clone, Debug)]
pub struct DecodedKeys {
    /// the key columns; failures of the window are among its failures
    pub keys: Decoded,
    /// row-aligned windows, of windowed keys only; 0 and 0 where the key is NULL or failed
    pub windows: Option<WindowBounds>,
}

/// Decodes record keys, plain or windowed.
pub struct KeyDecoder {
    columns: Box<dyn RecordDecoder>,
    window: Option<KeyWindow>,
}

impl KeyDecoder {
    /// A decoder for the key columns of a source; only those of index in `wanted` are built.
    ///
    /// # Errors
    /// If the format cannot hold the columns.
    pub fn new(
        spec: &FormatSpec,
        columns: &[Column],
        wanted: &[usize],
        window: Option<KeyWindow>,
    ) -> Result<Self, Diagnostic> {
        Ok(Self { columns: decoder(spec, Side::Key, columns, wanted)?, window })
    }

    /// Decodes all keys; NULL keys are absent rows. Never fails as a whole.
    pub fn decode(&mut self, keys: &BinaryArray) -> DecodedKeys {
        let (session, size_ms) = match self.window {
            None => return DecodedKeys { keys: self.columns.decode(keys), windows: None },
            Some(KeyWindow::Time { size_ms }) => (false, size_ms),
            Some(KeyWindow::Session) => (true, 0),
        };
        let (inner, bounds, mut failures) = decode_windowed(keys, session, size_ms);
        let mut decoded = self.columns.decode(&inner);
        failures.append(&mut decoded.failures);
        settle(&mut failures, &mut decoded.columns, keys.len());
        DecodedKeys { keys: Decoded { failures, ..decoded }, windows: Some(bounds) }
    }
}

/// Encodes record keys, plain or windowed.
pub struct KeyEncoder {
    columns: Box<dyn RecordEncoder>,
    window: Option<KeyWindow>,
}

impl KeyEncoder {
    /// An encoder for the key columns of a sink.
    ///
    /// # Errors
    /// If the format cannot hold the columns.
    pub fn new(spec: &FormatSpec, columns: &[Column], window: Option<KeyWindow>) -> Result<Self, Diagnostic> {
        Ok(Self { columns: encoder(spec, Side::Key, columns)?, window })
    }

    /// Encodes rows of the key columns. `present` is usually `None`: a tombstone has its key all the same. A windowed encoder
    /// needs `windows`, and leaves NULL keys without one.
    ///
    /// # Panics
    /// If `windows` is missing for a windowed encoder: a bug of the caller.
    pub fn encode(
        &mut self,
        columns: &[ArrayRef],
        present: Option<&BooleanBuffer>,
        windows: Option<&WindowBounds>,
        rows: usize,
    ) -> Encoded {
        let encoded = self.columns.encode(columns, present, rows);
        let Some(window) = self.window else { return encoded };
        let bounds = windows.expect("a windowed relation has windows in every batch");
        let payloads = encode_windowed(&encoded.payloads, bounds, window == KeyWindow::Session);
        Encoded { payloads, failures: encoded.failures }
    }
}

/// Splits windowed keys into the key before the window and the window. `size_ms` is the length of time windows; sessions carry
/// their own end. Keys too short for a window are failures; they and NULL keys are NULL within and have window 0 to 0.
pub fn decode_windowed(
    keys: &BinaryArray,
    session: bool,
    size_ms: i64,
) -> (BinaryArray, WindowBounds, Vec<DecodeFailure>) {
    let window_len = if session { 16 } else { 8 };
    let mut inner = ByteRows::with_capacity(keys.len(), keys.value_data().len());
    let (mut starts, mut ends) = (Vec::with_capacity(keys.len()), Vec::with_capacity(keys.len()));
    let mut failures = Vec::new();
    for (row, key) in keys.iter().enumerate() {
        let split = key.and_then(|key| {
            let (inner, window) = key.split_at_checked(key.len().checked_sub(window_len)?)?;
            let start = i64::from_be_bytes(*window.last_chunk()?);
            let end = if session { i64::from_be_bytes(*window.first_chunk()?) } else { start.saturating_add(size_ms) };
            Some((inner, start, end))
        });
        let (start, end) = match split {
            Some((bytes, start, end)) => {
                inner.append(bytes);
                (start, end)
            }
            None => {
                inner.append_null();
                if let Some(key) = key {
                    let kind = if session { "session" } else { "time" };
                    let reason = format!(
                        "a key with a {kind} window has at least {window_len} bytes, this one has {}",
                        key.len()
                    );
                    failures.push(DecodeFailure { row, reason });
                }
                (0, 0)
            }
        };
        starts.push(start);
        ends.push(end);
    }
    (inner.into_binary(), WindowBounds { start: starts.into(), end: ends.into() }, failures)
}

/// Puts the windows behind the keys; NULL keys stay NULL.
pub fn encode_windowed(inner: &BinaryArray, bounds: &WindowBounds, session: bool) -> BinaryArray {
    let mut keys = ByteRows::with_capacity(inner.len(), inner.value_data().len() + inner.len() * 16);
    for (row, key) in inner.iter().enumerate() {
        let Some(key) = key else {
            keys.append_null();
            continue;
        };
        let written: Result<(), &str> = keys.append_with(|out| {
            out.extend_from_slice(key);
            if session {
                out.extend_from_slice(&bounds.end[row].to_be_bytes());
            }
            out.extend_from_slice(&bounds.start[row].to_be_bytes());
            Ok(())
        });
        written.expect("keys of a batch stay far below 2 GiB, with 16 bytes more each too");
    }
    keys.into_binary()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, StringArray};

    use super::*;
    use crate::format::testing::column_values;
    use crate::format::{Format, Wrapping};
    use crate::types::SqlType;

    fn bounds(pairs: &[(i64, i64)]) -> WindowBounds {
        WindowBounds { start: pairs.iter().map(|p| p.0).collect(), end: pairs.iter().map(|p| p.1).collect() }
    }

    #[test]
    fn layout_of_windowed_keys() {
        let inner = BinaryArray::from(vec![Some(b"k".as_slice()), None]);
        let bounds = bounds(&[(1, 0x0102), (0, 0)]);
        let time = encode_windowed(&inner, &bounds, false);
        assert_eq!(time.value(0), b"k\0\0\0\0\0\0\0\x01");
        assert!(time.is_null(1));
        let session = encode_windowed(&inner, &bounds, true);
        assert_eq!(session.value(0), b"k\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x01");
        assert_eq!(decode_windowed(&session, true, 0), (inner.clone(), bounds, vec![]));
        let (back, windows, _) = decode_windowed(&time, false, 10);
        assert_eq!((back, windows.end[0]), (inner, 11));
    }

    #[test]
    fn short_keys_fail() {
        let keys = BinaryArray::from(vec![Some(b"1234567".as_slice()), Some(b"12345678"), None]);
        let (inner, windows, failures) = decode_windowed(&keys, false, i64::MAX);
        assert_eq!(failures.len(), 1);
        assert_eq!((failures[0].row, inner.is_null(0), inner.value(1).len()), (0, true, 0));
        assert_eq!(windows.end[1], i64::MAX);
    }

    #[test]
    fn keys_both_ways() {
        let columns = [Column::key("A", SqlType::Int), Column::key("B", SqlType::String)];
        let spec = FormatSpec::new(Format::Json);
        let arrays: [ArrayRef; 2] =
            [Arc::new(Int32Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec![Some("x"), None]))];
        for window in [None, Some(KeyWindow::Time { size_ms: 5 }), Some(KeyWindow::Session)] {
            let windows = bounds(&[(5, 10), (10, 15)]);
            let encoded =
                KeyEncoder::new(&spec, &columns, window).unwrap().encode(&arrays, None, Some(&windows), 2).payloads;
            assert!(encoded.value(1).starts_with(br#"{"A":null,"B":null}"#));
            let decoded = KeyDecoder::new(&spec, &columns, &[1, 0], window).unwrap().decode(&encoded);
            assert_eq!(column_values(&decoded.keys.columns[0]), ["x", "NULL"]);
            assert_eq!(decoded.windows, window.map(|_| windows));
        }
    }

    #[test]
    fn a_lone_null_key_is_no_key() {
        let column: ArrayRef = Arc::new(Int32Array::from(vec![None]));
        for (format, wrapping) in
            [(Format::Json, Wrapping::Bare), (Format::Json, Wrapping::Wrapped), (Format::Kafka, Wrapping::Bare)]
        {
            let spec = FormatSpec::new(format).wrapped(wrapping);
            let mut encoder = KeyEncoder::new(&spec, &[Column::key("K", SqlType::Int)], None).unwrap();
            assert!(encoder.encode(&[column.clone()], None, None, 1).payloads.is_null(0));
        }
    }

    #[test]
    fn failures_of_window_and_columns_are_one_list() {
        let columns = [Column::key("K", SqlType::Int)];
        let spec = FormatSpec::new(Format::Kafka);
        let mut decoder = KeyDecoder::new(&spec, &columns, &[0], Some(KeyWindow::Time { size_ms: 1 })).unwrap();
        let keys =
            BinaryArray::from(vec![Some(b"123456789".as_slice()), Some(b"x"), Some(b"\0\0\0\x07\0\0\0\0\0\0\0\0")]);
        let decoded = decoder.decode(&keys);
        assert_eq!(decoded.keys.failures.iter().map(|f| f.row).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(column_values(&decoded.keys.columns[0]), ["NULL", "NULL", "7"]);
    }
}
