//! Rows of a result as lines: the three ways the server writes them, and the one the client reads.
//!
//! Formats batches into bytes and back, without a socket. The subtle thing: a separator is written before each row but the first, so
//! that the array is valid JSON wherever it is closed; a reader must not wait for a newline to see a row.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::buffer::BooleanBuffer;
use serde_json::{Value, json};

use super::error::ErrorBody;
use super::schema::{header_schema, parse_header_schema};
use super::value::write_row_array;
use crate::diagnostic::Diagnostic;
use crate::engine::{ResultColumn, RowsKind};

/// Media type of the first API's array of objects.
pub const STREAMED_ROWS: &str = "application/vnd.ksql.v1+json";
/// Media type of the second API's lines.
pub const DELIMITED: &str = "application/vnd.ksqlapi.delimited.v1";
/// Media type of the second API's array.
pub const JSON: &str = "application/json";

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFormat {
    /// an array of `{"header"}`, `{"row"}`, `{"finalMessage"}`; the only one that shows tombstones
    StreamedRows,
    /// a line of metadata, then an array a line
    Delimited,
    /// one array of metadata and arrays
    Json,
    /// the first column as text lines: PRINT
    Lines,
}

impl RowFormat {
    /// The media type of the response.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::StreamedRows => STREAMED_ROWS,
            Self::Delimited => DELIMITED,
            Self::Json => JSON,
            Self::Lines => "text/plain; charset=utf-8",
        }
    }
}

/// Writes one result.
pub struct RowEncoder {
    format: RowFormat,
}

impl RowEncoder {
    /// An encoder of that format.
    pub fn new(format: RowFormat) -> Self {
        Self { format }
    }

    /// What comes first: the columns and the query's id.
    pub fn header(&self, out: &mut Vec<u8>, query_id: &str, columns: &[ResultColumn]) {
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        let types: Vec<String> = columns.iter().map(|c| c.ty.to_string()).collect();
        let metadata = || json!({ "queryId": query_id, "columnNames": names, "columnTypes": types }).to_string();
        match self.format {
            RowFormat::StreamedRows => {
                let header = json!({ "header": { "queryId": query_id, "schema": header_schema(columns) } });
                out.extend_from_slice(format!("[{header}").as_bytes());
            }
            RowFormat::Delimited => out.extend_from_slice(format!("{}\n", metadata()).as_bytes()),
            RowFormat::Json => out.extend_from_slice(format!("[{}", metadata()).as_bytes()),
            RowFormat::Lines => {}
        }
    }

    /// Rows `range` of a batch. Only [`RowFormat::StreamedRows`] shows the deleted ones.
    pub fn rows(
        &self,
        out: &mut Vec<u8>,
        batch: &RecordBatch,
        tombstones: Option<&BooleanBuffer>,
        range: Range<usize>,
    ) {
        for row in range {
            let is_tombstone = tombstones.is_some_and(|t| t.value(row));
            match self.format {
                RowFormat::StreamedRows => {
                    out.extend_from_slice(b",\n{\"row\":{\"columns\":");
                    write_row_array(out, batch, row);
                    out.extend_from_slice(if is_tombstone { b",\"tombstone\":true}}" } else { b"}}" });
                }
                RowFormat::Delimited if !is_tombstone => {
                    write_row_array(out, batch, row);
                    out.push(b'\n');
                }
                RowFormat::Json if !is_tombstone => {
                    out.extend_from_slice(b",\n");
                    write_row_array(out, batch, row);
                }
                RowFormat::Delimited | RowFormat::Json => {}
                RowFormat::Lines => {
                    let line = batch.columns().first().map(|c| super::value::display_value(c, row));
                    out.extend_from_slice(line.unwrap_or_default().as_bytes());
                    out.push(b'\n');
                }
            }
        }
    }

    /// A sign of life that readers skip.
    pub fn keep_alive(&self, out: &mut Vec<u8>) {
        if self.format == RowFormat::StreamedRows {
            out.push(b'\n');
        }
    }

    /// What comes last.
    pub fn finish(&self, out: &mut Vec<u8>, final_message: Option<&str>) {
        match self.format {
            RowFormat::StreamedRows => {
                if let Some(message) = final_message {
                    out.extend_from_slice(format!(",\n{}", json!({ "finalMessage": message })).as_bytes());
                }
                out.push(b']');
            }
            RowFormat::Json => out.push(b']'),
            RowFormat::Delimited | RowFormat::Lines => {}
        }
    }

    /// An error after the header, and the end.
    pub fn fail(&self, out: &mut Vec<u8>, error: &ErrorBody) {
        let error_json = error.to_json();
        match self.format {
            RowFormat::StreamedRows => {
                out.extend_from_slice(format!(",\n{}]", json!({ "errorMessage": error_json })).as_bytes());
            }
            RowFormat::Json => out.extend_from_slice(format!(",\n{error_json}]").as_bytes()),
            RowFormat::Delimited => out.extend_from_slice(format!("{error_json}\n").as_bytes()),
            RowFormat::Lines => out.extend_from_slice(format!("{}\n", error.message).as_bytes()),
        }
    }
}

/// One element of a [`RowFormat::StreamedRows`] array.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamedRow {
    /// the first one
    Header {
        /// the query's id
        query_id: String,
        /// its columns
        columns: Vec<ResultColumn>,
    },
    /// a row
    Row {
        /// a value a column
        values: Vec<Value>,
        /// the row was deleted
        tombstone: bool,
    },
    /// the last one
    Final(String),
    /// what went wrong; the last one too
    Failed(ErrorBody),
}

/// Cuts the bytes of a [`RowFormat::StreamedRows`] response into its elements, however they arrive.
#[derive(Default)]
pub struct RowDecoder {
    pending: Vec<u8>,
}

impl RowDecoder {
    /// Takes the next bytes, and gives the elements that are complete.
    ///
    /// # Errors
    /// Bytes that are no such array.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<StreamedRow>, Diagnostic> {
        self.pending.extend_from_slice(bytes);
        let mut elements = Vec::new();
        let mut at = 0;
        loop {
            let between = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'[' | b',' | b']');
            at += self.pending[at..].iter().take_while(|b| between(b)).count();
            let mut parsed = serde_json::Deserializer::from_slice(&self.pending[at..]).into_iter::<Value>();
            match parsed.next() {
                Some(Ok(value)) => {
                    at += parsed.byte_offset();
                    elements.extend(element(value)?);
                }
                Some(Err(error)) if !error.is_eof() => {
                    return Err(Diagnostic::user(format!("the server's rows are not JSON: {error}")));
                }
                _ => break,
            }
        }
        self.pending.drain(..at);
        Ok(elements)
    }

    /// True if the array stopped inside an element.
    pub fn is_cut_off(&self) -> bool {
        !self.pending.is_empty()
    }
}

/// The element an object stands for; `None` for kinds that a reader skips.
fn element(mut json: Value) -> Result<Option<StreamedRow>, Diagnostic> {
    if let Some(header) = json.get("header") {
        let columns = parse_header_schema(header["schema"].as_str().unwrap_or(""))?;
        let query_id = header["queryId"].as_str().unwrap_or("").to_owned();
        return Ok(Some(StreamedRow::Header { query_id, columns }));
    }
    if let Some(row) = json.get_mut("row") {
        let tombstone = row["tombstone"].as_bool().unwrap_or(false);
        let Value::Array(values) = row["columns"].take() else {
            return Err(Diagnostic::user("the server sent a row without columns"));
        };
        return Ok(Some(StreamedRow::Row { values, tombstone }));
    }
    if let Some(message) = json["finalMessage"].as_str() {
        return Ok(Some(StreamedRow::Final(message.to_owned())));
    }
    let error = if json["errorMessage"].is_object() { &json["errorMessage"] } else { &json };
    Ok(ErrorBody::from_json(error).map(StreamedRow::Failed))
}

/// The kind of rows that a header and its statement stand for.
pub fn kind_of(class: super::statement::StatementClass, columns: &[ResultColumn]) -> RowsKind {
    match class {
        super::statement::StatementClass::Push => RowsKind::Push,
        super::statement::StatementClass::Print => RowsKind::Print,
        _ if columns.iter().any(|c| c.is_key) => RowsKind::PullTable,
        _ => RowsKind::PullStream,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SqlType;
    use crate::wire::decode::batch_from_rows;

    fn columns() -> Vec<ResultColumn> {
        vec![
            ResultColumn { name: "K".into(), ty: SqlType::String, is_key: true },
            ResultColumn { name: "V".into(), ty: SqlType::Int, is_key: false },
        ]
    }

    fn written(format: RowFormat) -> String {
        let rows = vec![vec![json!("a"), json!(1)], vec![json!("b"), Value::Null]];
        let batch = batch_from_rows(&columns(), &rows).unwrap();
        let encoder = RowEncoder::new(format);
        let mut out = Vec::new();
        encoder.header(&mut out, "q", &columns());
        encoder.keep_alive(&mut out);
        encoder.rows(&mut out, &batch, Some(&BooleanBuffer::from(vec![false, true])), 0..2);
        encoder.finish(&mut out, Some("Limit Reached"));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn streamed_rows_have_ksqldbs_shape() {
        let want = concat!(
            "[{\"header\":{\"queryId\":\"q\",\"schema\":\"`K` STRING KEY, `V` INTEGER\"}}\n",
            ",\n{\"row\":{\"columns\":[\"a\",1]}},\n{\"row\":{\"columns\":[\"b\",null],\"tombstone\":true}}",
            ",\n{\"finalMessage\":\"Limit Reached\"}]"
        );
        assert_eq!(written(RowFormat::StreamedRows), want);
    }

    #[test]
    fn the_second_api_drops_tombstones_and_final_messages() {
        let head = r#"{"queryId":"q","columnNames":["K","V"],"columnTypes":["STRING","INTEGER"]}"#;
        assert_eq!(written(RowFormat::Delimited), format!("{head}\n[\"a\",1]\n"));
        assert_eq!(written(RowFormat::Json), format!("[{head},\n[\"a\",1]]"));
    }

    #[test]
    fn rows_are_seen_however_the_bytes_are_cut() {
        let text = written(RowFormat::StreamedRows);
        for size in [1, 7, text.len()] {
            let mut decoder = RowDecoder::default();
            let seen: Vec<_> = text.as_bytes().chunks(size).flat_map(|c| decoder.feed(c).unwrap()).collect();
            assert!(!decoder.is_cut_off());
            assert_eq!(seen[0], StreamedRow::Header { query_id: "q".into(), columns: columns() });
            assert_eq!(seen[1], StreamedRow::Row { values: vec![json!("a"), json!(1)], tombstone: false });
            assert_eq!(seen[2], StreamedRow::Row { values: vec![json!("b"), Value::Null], tombstone: true });
            assert_eq!(seen[3], StreamedRow::Final("Limit Reached".into()));
        }
    }

    #[test]
    fn errors_in_the_middle_are_read() {
        let encoder = RowEncoder::new(RowFormat::StreamedRows);
        let mut out = Vec::new();
        encoder.header(&mut out, "q", &columns());
        encoder.fail(&mut out, &ErrorBody::bad_request("why"));
        let seen = RowDecoder::default().feed(&out).unwrap();
        assert_eq!(seen[1], StreamedRow::Failed(ErrorBody::bad_request("why")));
    }
}
