//! `--@expected.rows: [1, "a"] [2, null]`: the rows that the pull query after it must give, as JSON arrays.
//!
//! In any order; `--@expected.rows.ordered` in this one. The subtle thing: values are compared as the wire writes them, so a test reads like
//! the answer of the HTTP API.

use std::time::Duration;

use serde_json::{Deserializer, Value};

use super::failure::Failure;
use crate::engine::{NextRows, Rows};
use crate::wire::value::write_row_array;

/// A query that gives nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The rows a test expects.
#[derive(Clone, Debug)]
pub(super) struct ExpectedRows {
    /// JSON arrays
    pub text: String,
    /// in this order
    pub ordered: bool,
}

impl ExpectedRows {
    /// Compares with what a query gives.
    ///
    /// # Errors
    /// The difference.
    pub fn check(&self, mut rows: Rows) -> Result<(), Failure> {
        let expected = Deserializer::from_str(&self.text).into_iter::<Value>().collect::<Result<Vec<_>, _>>();
        let expected =
            expected.map_err(|e| Failure::new(format!("--@expected.rows is no list of JSON arrays: {e}")))?;
        let mut expected: Vec<String> = expected.iter().map(Value::to_string).collect();
        let mut actual = collect(&mut rows)?;
        if !self.ordered {
            expected.sort();
            actual.sort();
        }
        if expected == actual {
            return Ok(());
        }
        let lines = [("EXPECTED", &expected), ("ACTUAL", &actual)];
        let lines = lines.iter().flat_map(|(word, rows)| rows.iter().map(move |row| format!("{word:<9} {row}")));
        Err(Failure::new("Expected rows do not match actual.").with(lines))
    }
}

fn collect(rows: &mut Rows) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    loop {
        match rows.source.next(PATIENCE) {
            NextRows::Batch { batch, .. } => {
                for row in 0..batch.num_rows() {
                    let mut bytes = Vec::new();
                    write_row_array(&mut bytes, &batch, row);
                    let value: Value = serde_json::from_slice(&bytes)
                        .map_err(|e| Failure::new(format!("a row that is no JSON: {e}")))?;
                    found.push(value.to_string());
                }
            }
            NextRows::Idle => return Err(Failure::new("the query gives neither rows nor an end")),
            NextRows::Done(_) => return Ok(found),
            NextRows::Failed(error) => return Err(Failure::of("the query failed", &error)),
        }
    }
}
