//! COPY between files and the engine, on the client's side.
//!
//! JSON files have an object a line, DELIMITED files the columns in order (keys first), and maybe a heading with their names. The subtle
//! thing: an error names the line of the file, and rows before it are inserted already; the message says how many.

use std::fs::File;
use std::io::{BufReader, BufWriter, IsTerminal, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};

use super::delimited::{CsvField, read_row};
use super::interrupt::Interrupt;
use super::layout::Layout;
use super::lines::{MAX_LINE_BYTES, read_line};
use super::rows::{PushEnds, RowPrinter, RowStyle};
use super::script::broken;
use crate::client::Client;
use crate::diagnostic::Diagnostic;
use crate::engine::{Outcome, OutcomeKind};
use crate::types::{Column, ColumnRole, LogicalSchema, SqlType};

/// Rows that are inserted at once.
const ROWS_AT_ONCE: usize = 2000;

/// Inserts the rows of a file; returns the message to show.
///
/// # Errors
/// A file that cannot be read; the first bad row, with its line.
pub fn from_file(
    client: &mut dyn Client,
    source: &str,
    schema: &LogicalSchema,
    path: &Path,
    format: &str,
    interrupt: &Interrupt,
) -> Result<String, Diagnostic> {
    let file = File::open(path).map_err(|error| {
        Diagnostic::user(format!("Cannot read {}: {error}", path.display()))
            .help("give the path of a file on this machine")
    })?;
    let bar = progress(file.metadata().map(|m| m.len()).unwrap_or(0));
    let mut lines = FileLines { reader: BufReader::new(bar.wrap_read(file)), number: 0 };
    let mut reader = RowReader { columns: columns_of(schema), is_json: !is_delimited(format), heading: None };
    let mut inserted = 0u64;
    let mut at_end = false;
    while !at_end && !interrupt.is_pressed() {
        let mut rows = Vec::new();
        let mut numbers = Vec::new();
        let mut bad = None;
        while rows.len() < ROWS_AT_ONCE {
            match lines.next_line().and_then(|line| line.map(|line| reader.row(line, &mut lines)).transpose()) {
                Ok(Some(Some((number, row)))) => {
                    rows.push(row);
                    numbers.push(number);
                }
                Ok(Some(None)) => {}
                Ok(None) => {
                    at_end = true;
                    break;
                }
                Err(error) => {
                    bad = Some(error);
                    break;
                }
            }
        }
        insert(client, source, rows, &numbers, &mut inserted).map_err(|error| at_file(path, inserted, error))?;
        if let Some(error) = bad {
            return Err(at_file(path, inserted, error));
        }
    }
    bar.finish_and_clear();
    let cut = if at_end { "" } else { ", then stopped" };
    Ok(format!("{inserted} rows inserted into {source}{cut}"))
}

/// Runs `query` and writes its rows into a file; returns the message to show.
///
/// # Errors
/// A query that is wrong or fails; a file that cannot be written.
pub fn to_file(
    client: &mut dyn Client,
    query: &str,
    path: &Path,
    format: &str,
    push_ends: PushEnds,
    interrupt: &Interrupt,
) -> Result<String, Diagnostic> {
    let text = format!("{};", query.trim_end().trim_end_matches(';'));
    let outcome = client.execute(&text).map_err(|error| error.diagnostic)?.pop();
    let Some(Outcome { kind: OutcomeKind::Rows(rows), .. }) = outcome else {
        return Err(Diagnostic::user("COPY … TO needs a query").help("write COPY (SELECT …) TO 'file';"));
    };
    let file = File::create(path).map_err(|error| {
        Diagnostic::user(format!("Cannot write {}: {error}", path.display()))
            .help("give a path in a folder that you may write")
    })?;
    let mut out = BufWriter::new(file);
    let style = if is_delimited(format) { RowStyle::Delimited } else { RowStyle::Json };
    let layout = Layout::of_terminal();
    let mut printer = RowPrinter { out: &mut out, style, layout: &layout };
    let written = printer.print(*rows, push_ends, interrupt, &mut || client.wait_idle(None))?.rows;
    out.flush().map_err(|error| broken(&error))?;
    Ok(format!("{written} rows written to {}", path.display()))
}

fn is_delimited(format: &str) -> bool {
    format.eq_ignore_ascii_case("DELIMITED")
}

fn progress(bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    ProgressBar::new(bytes).with_style(style.expect("the template is right"))
}

fn columns_of(schema: &LogicalSchema) -> Vec<Column> {
    schema.columns().iter().filter(|c| !matches!(c.role, ColumnRole::Header(_))).cloned().collect()
}

fn at_file(path: &Path, inserted: u64, error: Diagnostic) -> Diagnostic {
    let message = format!("{}: {} ({inserted} rows were inserted before)", path.display(), error.message);
    Diagnostic { message, ..error }
}

fn insert(
    client: &mut dyn Client,
    source: &str,
    rows: Vec<Map<String, Value>>,
    numbers: &[u64],
    inserted: &mut u64,
) -> Result<(), Diagnostic> {
    if rows.is_empty() {
        return Ok(());
    }
    let target = crate::sql::quote(source);
    for (result, number) in client.insert(&target, rows)?.into_iter().zip(numbers) {
        result.map_err(|error| at_line(*number, error))?;
        *inserted += 1;
    }
    Ok(())
}

fn at_line(number: u64, error: Diagnostic) -> Diagnostic {
    Diagnostic { message: format!("line {number}: {}", error.message), ..error }
}

/// Numbered lines of a file.
struct FileLines<R> {
    reader: BufReader<R>,
    number: u64,
}

impl<R: std::io::Read> FileLines<R> {
    /// The next line without its end; `None` at the end.
    fn next_line(&mut self) -> Result<Option<String>, Diagnostic> {
        self.number += 1;
        let here = |error| at_line(self.number, error);
        let line = read_line(&mut self.reader, MAX_LINE_BYTES).map_err(here)?;
        if line.is_empty() {
            return Ok(None);
        }
        let text = String::from_utf8(line).map_err(|_| {
            here(Diagnostic::user("it is not text in UTF-8").help("COPY reads JSON or DELIMITED text, a row a line"))
        })?;
        Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
    }
}

type NumberedRow = (u64, Map<String, Value>);

/// Turns lines into rows.
struct RowReader {
    columns: Vec<Column>,
    is_json: bool,
    /// the order of the columns in a DELIMITED file; `None` before its first line
    heading: Option<Vec<usize>>,
}

impl RowReader {
    /// The row of a line; `None` for blank lines and headings.
    fn row<R: std::io::Read>(
        &mut self,
        line: String,
        lines: &mut FileLines<R>,
    ) -> Result<Option<NumberedRow>, Diagnostic> {
        let number = lines.number;
        if line.trim().is_empty() {
            return Ok(None);
        }
        if self.is_json {
            return match serde_json::from_str(&line) {
                Ok(Value::Object(row)) => Ok(Some((number, row))),
                Ok(_) => Err(at_line(number, Diagnostic::user("a row must be a JSON object"))),
                Err(error) => Err(at_line(number, Diagnostic::user(format!("this is not JSON: {error}")))),
            };
        }
        let mut more = || lines.next_line().ok().flatten();
        let fields = read_row(&line, &mut more).map_err(|reason| at_line(number, Diagnostic::user(reason)))?;
        self.delimited_row(number, &fields)
    }

    fn delimited_row(&mut self, number: u64, fields: &[CsvField]) -> Result<Option<NumberedRow>, Diagnostic> {
        let Some(order) = &self.heading else {
            let named = heading(&self.columns, fields);
            let is_heading = named.is_some();
            self.heading = Some(named.unwrap_or_else(|| (0..self.columns.len()).collect()));
            return if is_heading { Ok(None) } else { self.delimited_row(number, fields) };
        };
        if fields.len() != order.len() {
            let message = format!("{} fields for {} columns", fields.len(), order.len());
            return Err(at_line(number, Diagnostic::user(message)));
        }
        let mut row = Map::new();
        for (&i, field) in order.iter().zip(fields) {
            let column = &self.columns[i];
            let value = csv_value(&column.ty, field.as_deref()).ok_or_else(|| {
                let text = field.as_deref().unwrap_or("");
                at_line(number, Diagnostic::user(format!("'{text}' is not a value of {} {}", column.name, column.ty)))
            })?;
            row.insert(crate::sql::quote(column.name.as_str()), value);
        }
        Ok(Some((number, row)))
    }
}

/// The columns that a heading names, if it is one: every field is the name of another column.
fn heading(columns: &[Column], fields: &[CsvField]) -> Option<Vec<usize>> {
    let index = |field: &CsvField| {
        let name = field.as_deref()?.trim();
        columns.iter().position(|c| c.name.as_str().eq_ignore_ascii_case(name))
    };
    let order: Vec<usize> = fields.iter().map(index).collect::<Option<_>>()?;
    let mut seen = order.clone();
    seen.sort_unstable();
    seen.dedup();
    (seen.len() == order.len()).then_some(order)
}

/// A field as the JSON value of its type; `None` if it is none.
fn csv_value(ty: &SqlType, field: Option<&str>) -> Option<Value> {
    let Some(text) = field else { return Some(Value::Null) };
    match ty {
        SqlType::String | SqlType::Bytes | SqlType::Time | SqlType::Date | SqlType::Timestamp => Some(text.into()),
        SqlType::Boolean => text.trim().to_ascii_lowercase().parse::<bool>().ok().map(Value::from),
        _ => serde_json::from_str(text.trim()).ok(),
    }
}
