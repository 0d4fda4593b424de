//! Rows of a query as they come: a table for people, an object a line for programs.
//!
//! Reads until the query ends, Ctrl-C is pressed or a limit of the mode is reached, and never holds more than one batch. The subtle
//! thing: rows are flushed when the source has nothing more at once, so that a push query shows them the moment they are there.

use std::io::Write;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::BooleanBuffer;

use super::delimited::{CsvField, write_row};
use super::interrupt::Interrupt;
use super::layout::{Layout, row_lines, rule};
use super::{Output, script::broken};
use crate::diagnostic::Diagnostic;
use crate::engine::{NextRows, ResultColumn, Rows, RowsKind};
use crate::wire::value::{display_value, write_row_object, write_string};

/// How long the source may wait before we look around.
const LOOK_AROUND: Duration = Duration::from_millis(100);
/// Silence after which a push query counts as idle.
pub const QUIET: Duration = Duration::from_millis(500);

/// When a push query ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushEnds {
    /// on Ctrl-C, or with its LIMIT
    Never,
    /// when nothing comes any more
    WhenIdle,
}

/// What a row looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowStyle {
    /// cells between bars
    Table,
    /// an object a line
    Json,
    /// comma-separated values below a heading
    Delimited,
}

impl From<Output> for RowStyle {
    fn from(output: Output) -> Self {
        match output {
            Output::Table => Self::Table,
            Output::Json => Self::Json,
        }
    }
}

/// Writes the rows of one result.
pub struct RowPrinter<'o> {
    /// where to
    pub out: &'o mut dyn Write,
    /// how
    pub style: RowStyle,
    /// of the table
    pub layout: &'o Layout,
}

/// How a result ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// rows shown
    pub rows: u64,
    /// ended by Ctrl-C
    pub interrupted: bool,
}

impl RowPrinter<'_> {
    /// Shows all rows. `idle` is asked when a push query that ends when idle falls silent: true if the engine has no more work.
    ///
    /// # Errors
    /// What the query says; an output that cannot be written.
    pub fn print(
        &mut self,
        mut rows: Rows,
        ends: PushEnds,
        interrupt: &Interrupt,
        idle: &mut dyn FnMut() -> Result<(), Diagnostic>,
    ) -> Result<Ended, Diagnostic> {
        let _running = interrupt.while_running(rows.source.canceller());
        self.header(&rows)?;
        let mut shown = 0;
        let mut last_row = Instant::now();
        let mut asked = false;
        loop {
            match rows.source.next(LOOK_AROUND) {
                NextRows::Batch { batch, tombstones } => {
                    self.batch(&rows, &batch, tombstones.as_ref())?;
                    shown += batch.num_rows() as u64;
                    (last_row, asked) = (Instant::now(), false);
                }
                NextRows::Done(message) => {
                    let interrupted = interrupt.is_pressed();
                    self.footer(&rows, message.as_deref())?;
                    return Ok(Ended { rows: shown, interrupted });
                }
                NextRows::Failed(error) => return Err(error),
                NextRows::Idle if interrupt.is_pressed() => {
                    self.footer(&rows, None)?;
                    return Ok(Ended { rows: shown, interrupted: true });
                }
                NextRows::Idle if ends == PushEnds::WhenIdle && last_row.elapsed() >= QUIET => {
                    if asked {
                        self.footer(&rows, None)?;
                        return Ok(Ended { rows: shown, interrupted: false });
                    }
                    // What persistent queries still write may give more rows: ask them, then be silent once more.
                    idle()?;
                    (last_row, asked) = (Instant::now(), true);
                }
                NextRows::Idle => {}
            }
            self.out.flush().map_err(|error| broken(&error))?;
        }
    }

    fn line(&mut self, text: &str) -> Result<(), Diagnostic> {
        writeln!(self.out, "{text}").map_err(|error| broken(&error))
    }

    fn header(&mut self, rows: &Rows) -> Result<(), Diagnostic> {
        let names: Vec<String> = rows.columns.iter().map(|c| c.name.clone()).collect();
        match self.style {
            RowStyle::Json => return Ok(()),
            RowStyle::Delimited => return self.fields(names.into_iter().map(Some)),
            RowStyle::Table if rows.kind == RowsKind::Print => return Ok(()),
            RowStyle::Table => {}
        }
        let cell = self.layout.cell(rows.columns.len());
        let line = rule(names.len(), cell);
        self.line(&line)?;
        for text in row_lines(&names, cell, self.layout.overflow) {
            self.line(&text)?;
        }
        self.line(&line)?;
        self.out.flush().map_err(|error| broken(&error))
    }

    fn batch(
        &mut self,
        rows: &Rows,
        batch: &RecordBatch,
        tombstones: Option<&BooleanBuffer>,
    ) -> Result<(), Diagnostic> {
        for row in 0..batch.num_rows() {
            let is_tombstone = tombstones.is_some_and(|t| t.value(row));
            match (self.style, rows.kind) {
                (RowStyle::Json, _) => self.json_row(&rows.columns, batch, row, is_tombstone)?,
                (RowStyle::Delimited, _) => {
                    let field = |c: &ArrayRef| c.is_valid(row).then(|| display_value(c, row));
                    self.fields(batch.columns().iter().map(field))?;
                }
                (RowStyle::Table, RowsKind::Print) => {
                    let text = batch.columns().first().map(|c| display_value(c, row)).unwrap_or_default();
                    self.line(&text)?;
                }
                (RowStyle::Table, _) => self.table_row(batch, row, is_tombstone)?,
            }
        }
        Ok(())
    }

    fn fields(&mut self, fields: impl Iterator<Item = CsvField>) -> Result<(), Diagnostic> {
        let mut line = String::new();
        write_row(&mut line, fields);
        self.out.write_all(line.as_bytes()).map_err(|error| broken(&error))
    }

    fn table_row(&mut self, batch: &RecordBatch, row: usize, is_tombstone: bool) -> Result<(), Diagnostic> {
        let cell = |column: &dyn Array| match column.is_null(row) {
            true if is_tombstone => "<TOMBSTONE>".to_owned(),
            _ => display_value(column, row),
        };
        let values: Vec<String> = batch.columns().iter().map(|c| cell(c)).collect();
        for text in row_lines(&values, self.layout.cell(values.len()), self.layout.overflow) {
            self.line(&text)?;
        }
        Ok(())
    }

    /// An object a row. Of two columns of one name both are written, in their order; a deleted row has `"@tombstone":true` too.
    fn json_row(
        &mut self,
        columns: &[ResultColumn],
        batch: &RecordBatch,
        row: usize,
        is_tombstone: bool,
    ) -> Result<(), Diagnostic> {
        let mut out = Vec::new();
        write_row_object(&mut out, columns.iter().map(|c| c.name.as_str()), batch, row);
        if is_tombstone {
            out.pop();
            out.push(b',');
            write_string(&mut out, "@tombstone");
            out.extend_from_slice(b":true}");
        }
        out.push(b'\n');
        self.out.write_all(&out).map_err(|error| broken(&error))
    }

    fn footer(&mut self, rows: &Rows, message: Option<&str>) -> Result<(), Diagnostic> {
        if self.style == RowStyle::Table {
            if let Some(message) = message {
                self.line(message)?;
            }
            match rows.kind {
                RowsKind::Push => self.line("Query terminated")?,
                RowsKind::Print => self.line("Topic printing ceased")?,
                RowsKind::PullTable | RowsKind::PullStream => {}
            }
        }
        self.out.flush().map_err(|error| broken(&error))
    }
}
