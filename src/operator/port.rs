//! Input ports of joins and upserts: a batch with its encoded keys and rows, read in order of `seq`, and the gathering of output columns.
//!
//! Knows no join. The subtle thing: rows are looked at one by one, but encoded before and gathered after in whole columns, so that inputs
//! that alternate row by row cost what sorted ones cost.

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_null_array};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::compute::{interleave, nullif, take};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;

use crate::state::encoding::{EncodedRows, KeyCodec, RowCodec, null_keys};
use crate::state::{KeyedTable, WARM_ROWS};
use crate::topic::TopicError;
use crate::types::{ChangeBatch, OldRows, RowMeta, WindowBounds};

use super::{OperatorError, Rest};

/// Bytes of stored rows that one page may refer to; a bound on what a page of large rows takes.
pub(super) const PAGE_BYTES: usize = 8 << 20;

/// Types of the key columns and of the other columns of `schema`.
pub(super) fn split_types(schema: &SchemaRef, key_count: usize) -> (Vec<DataType>, Vec<DataType>) {
    let mut keys: Vec<DataType> = schema.fields().iter().map(|f| f.data_type().clone()).collect();
    let values = keys.split_off(key_count.min(keys.len()));
    (keys, values)
}

/// Names of the key columns, for messages.
pub(super) fn key_names(schema: &SchemaRef, key_count: usize) -> String {
    let names: Vec<String> = schema.fields().iter().take(key_count).map(|f| format!("'{}'", f.name())).collect();
    names.join(", ")
}

/// One input of a step.
pub(super) struct Port {
    /// the rows
    pub(super) batch: ChangeBatch,
    /// their keys, with windows where they have any
    pub(super) keys: EncodedRows,
    /// their value columns, as stores keep them; empty for a port whose rows are not kept
    pub(super) rows: EncodedRows,
    no_key: Option<BooleanBuffer>,
    next: usize,
}

impl Port {
    /// Encodes keys, and rows if there is a codec for them.
    ///
    /// # Errors
    /// If the columns are not those of the codecs.
    pub(super) fn open(batch: ChangeBatch, keys: &KeyCodec, rows: Option<&RowCodec>) -> Result<Self, TopicError> {
        let (key_columns, values) = batch.columns.split_at(keys.types().len().min(batch.columns.len()));
        let no_key = null_keys(key_columns, batch.len());
        let keys = keys.encode_windowed(key_columns, batch.len(), batch.meta.window.as_ref())?;
        let rows = rows.map(|codec| codec.encode(values, &batch.meta.rowtime)).transpose()?.unwrap_or_default();
        Ok(Self { batch, keys, rows, no_key, next: 0 })
    }

    /// `seq` of the next row.
    pub(super) fn next_seq(&self) -> Option<u32> {
        self.batch.meta.seq.get(self.next).copied()
    }

    /// The index of the next row, which stays the next one.
    pub(super) fn peek(&self) -> usize {
        self.next
    }

    /// Steps over the next row and gives its index. Now and then it warms the tables that the next rows will be looked up in.
    pub(super) fn advance(&mut self, tables: &[&KeyedTable]) -> usize {
        let i = self.next;
        if i.is_multiple_of(WARM_ROWS) {
            let soon = i..self.keys.len().min(i + WARM_ROWS);
            tables.iter().for_each(|table| table.warm(soon.clone().map(|i| self.keys.row(i))));
        }
        self.next += 1;
        i
    }

    /// True if all key columns of row `i` are NULL.
    pub(super) fn lacks_key(&self, i: usize) -> bool {
        self.no_key.as_ref().is_some_and(|bits| bits.value(i))
    }

    /// The rows to come, if there are any.
    pub(super) fn rest(&self) -> Option<ChangeBatch> {
        let left = self.batch.len() - self.next;
        (left > 0).then(|| slice(&self.batch, self.next, left))
    }

    /// The row as a store keeps it, if it exists.
    pub(super) fn stored(&self, i: usize) -> Option<&[u8]> {
        self.batch.is_present(i).then(|| self.rows.row(i))
    }
}

/// The two inputs of a join, read as one sequence.
pub(super) struct Ports(pub(super) [Option<Port>; 2]);

impl Ports {
    /// The port that has the next row: the lower `seq`; port 0 on a tie.
    pub(super) fn next(&self) -> Option<usize> {
        let seq = |port: usize| self.0[port].as_ref().and_then(Port::next_seq);
        match (seq(0), seq(1)) {
            (Some(left), Some(right)) => Some(usize::from(right < left)),
            (Some(_), None) => Some(0),
            (None, Some(_)) => Some(1),
            (None, None) => None,
        }
    }

    /// The port that [`Self::next`] named.
    pub(super) fn port(&mut self, port: usize) -> &mut Port {
        self.0[port].as_mut().expect("a port with a next row is there")
    }

    /// The rows to come.
    pub(super) fn rest(&self) -> Rest {
        Rest { rows: self.0.iter().map(|port| port.as_ref().and_then(Port::rest)).collect(), within: Vec::new() }
    }

    /// Key columns of the picked rows.
    pub(super) fn gather_keys(&self, picks: &Picks, key_count: usize) -> Result<Vec<ArrayRef>, ArrowError> {
        let keys = |port: usize| self.0[port].as_ref().map_or(&[][..], |p| &p.batch.columns[..key_count]);
        picks.gather([keys(0), keys(1)])
    }

    /// What stands beside the columns of the picked rows, with new row times.
    pub(super) fn gather_meta(&self, picks: &Picks, rowtime: Vec<i64>) -> Result<RowMeta, ArrowError> {
        let metas = [self.0[0].as_ref().map(|p| &p.batch.meta), self.0[1].as_ref().map(|p| &p.batch.meta)];
        let meta = |port: usize| metas[port].expect("a picked row's port is there");
        let windowed = metas.iter().flatten().all(|m| m.window.is_some());
        let window = windowed.then(|| {
            let windows = |port: usize| meta(port).window.as_ref().expect("all ports are windowed");
            WindowBounds {
                start: picks.rows.iter().map(|&(p, i)| windows(p).start[i]).collect(),
                end: picks.rows.iter().map(|&(p, i)| windows(p).end[i]).collect(),
            }
        });
        Ok(RowMeta {
            rowtime: ScalarBuffer::from(rowtime),
            seq: picks.rows.iter().map(|&(p, i)| meta(p).seq[i]).collect(),
            offset: picks.rows.iter().map(|&(p, i)| meta(p).offset[i]).collect(),
            window,
            headers: gather_headers(metas, picks)?,
            keyed: None,
        })
    }
}

/// The headers of the picked rows, if any row has some.
pub(super) fn gather_headers(metas: [Option<&RowMeta>; 2], picks: &Picks) -> Result<Option<ArrayRef>, ArrowError> {
    let headers = metas.map(|m| m.and_then(|m| m.headers.as_ref()));
    let Some(some) = headers.iter().flatten().next() else { return Ok(None) };
    let none = new_null_array(some.data_type(), metas.iter().flatten().map(|m| m.rowtime.len()).max().unwrap_or(0));
    let [left, right] = headers.map(|h| std::slice::from_ref(h.unwrap_or(&none)));
    Ok(picks.gather([left, right])?.pop())
}

/// Rows of two sources, in output order.
pub(super) struct Picks {
    /// (source, row)
    rows: Vec<(usize, usize)>,
    shape: Shape,
}

enum Shape {
    /// consecutive rows of one source
    Slice { source: usize, from: usize },
    /// rows of one source
    Take { source: usize, rows: UInt32Array },
    /// rows of both
    Mixed,
}

impl Picks {
    /// The picks of these (source, row).
    pub(super) fn new(rows: Vec<(usize, usize)>) -> Self {
        let (source, from) = rows.first().copied().unwrap_or((0, 0));
        let shape = if rows.iter().any(|&(s, _)| s != source) {
            Shape::Mixed
        } else if rows.iter().enumerate().all(|(n, &(_, row))| row == from + n) {
            Shape::Slice { source, from }
        } else {
            Shape::Take { source, rows: rows.iter().map(|&(_, row)| row as u32).collect() }
        };
        Self { rows, shape }
    }

    /// Source and row of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.rows.iter().copied()
    }

    /// The picked rows of each column; a source that no row is picked from may have no columns.
    pub(super) fn gather(&self, sources: [&[ArrayRef]; 2]) -> Result<Vec<ArrayRef>, ArrowError> {
        match &self.shape {
            Shape::Slice { source, from } => {
                Ok(sources[*source].iter().map(|c| c.slice(*from, self.rows.len())).collect())
            }
            Shape::Take { source, rows } => sources[*source].iter().map(|c| take(c, rows, None)).collect(),
            Shape::Mixed => {
                let pairs = sources[0].iter().zip(sources[1]);
                pairs.map(|(a, b)| interleave(&[a.as_ref(), b.as_ref()], &self.rows)).collect()
            }
        }
    }
}

/// `columns` with NULL where `present` is unset.
pub(super) fn null_unless(columns: &[ArrayRef], present: Option<&BooleanBuffer>) -> Result<Vec<ArrayRef>, ArrowError> {
    let Some(present) = present else { return Ok(columns.to_vec()) };
    let absent = BooleanArray::new(!present, None);
    columns.iter().map(|c| nullif(c, &absent)).collect()
}

/// Rows `from .. from + len` of `batch`, sharing memory.
pub(super) fn slice(batch: &ChangeBatch, from: usize, len: usize) -> ChangeBatch {
    let columns = |columns: &[ArrayRef]| columns.iter().map(|c| c.slice(from, len)).collect();
    let bits = |bits: &Option<BooleanBuffer>| bits.as_ref().map(|b| b.slice(from, len));
    let meta = &batch.meta;
    ChangeBatch {
        columns: columns(&batch.columns),
        present: bits(&batch.present),
        old: batch.old.as_ref().map(|old| OldRows { columns: columns(&old.columns), present: bits(&old.present) }),
        meta: RowMeta {
            rowtime: meta.rowtime.slice(from, len),
            seq: meta.seq.slice(from, len),
            offset: meta.offset.slice(from, len),
            window: meta
                .window
                .as_ref()
                .map(|w| WindowBounds { start: w.start.slice(from, len), end: w.end.slice(from, len) }),
            headers: meta.headers.as_ref().map(|h| h.slice(from, len)),
            keyed: bits(&meta.keyed),
        },
    }
}

/// A refusal of Arrow, which analysis should have made impossible.
pub(super) fn arrow_error(operator: &'static str) -> impl Fn(ArrowError) -> OperatorError {
    move |error| OperatorError::internal(operator, error)
}

#[cfg(test)]
pub(super) mod tests;
