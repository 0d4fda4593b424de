//! A page of joined rows: places noted one by one, columns gathered once.
//!
//! Decides nothing. The subtle thing: the rows of one side come from its batch and from pieces of chunks, which are the sources of one
//! `interleave`; source 0 is the batch, source 1 a row of NULLs.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, new_null_array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Int64Type};

use crate::operator::OperatorError;
use crate::operator::port::{PAGE_BYTES, Picks, arrow_error, gather_headers};
use crate::types::{ChangeBatch, RowMeta, WindowBounds};

use super::index::RowId;
use super::rows::JoinRows;
use super::{Input, NAME};

const BATCH: usize = 0;
const NULLS: usize = 1;
const PIECES: usize = 2;

/// Output rows that are not made yet.
pub(super) struct Page {
    number: u64,
    limit: usize,
    bytes: usize,
    /// (source, row) of both sides
    picks: [Vec<(usize, usize)>; 2],
    /// columns of the sources from [`PIECES`] on
    pieces: [Vec<Vec<ArrayRef>>; 2],
    /// the input row that caused each output row
    by: Vec<(usize, usize)>,
    rowtime: Vec<i64>,
}

impl Page {
    pub(super) fn new(number: u64, limit: usize) -> Self {
        Self {
            number,
            limit: limit.max(1),
            bytes: 0,
            picks: Default::default(),
            pieces: Default::default(),
            by: Vec::new(),
            rowtime: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.by.len() >= self.limit || self.bytes >= PAGE_BYTES
    }

    fn push(&mut self, by: (usize, usize), picks: [(usize, usize); 2], time: i64) {
        self.picks[0].push(picks[0]);
        self.picks[1].push(picks[1]);
        self.by.push(by);
        self.rowtime.push(time);
    }

    /// An input row without partner.
    pub(super) fn push_alone(&mut self, by: (usize, usize), time: i64) {
        let mut picks = [(NULLS, 0); 2];
        picks[by.0] = (BATCH, by.1);
        self.push(by, picks, time);
    }

    /// An input row with a partner of the other side.
    ///
    /// # Errors
    /// If the partner cannot be read.
    pub(super) fn push_pair(
        &mut self,
        by: (usize, usize),
        partner: RowId,
        time: i64,
        rows: &mut JoinRows,
    ) -> Result<(), OperatorError> {
        let mut picks = [(BATCH, by.1); 2];
        picks[1 - by.0] = self.place(1 - by.0, partner, rows)?;
        self.push(by, picks, time);
        Ok(())
    }

    /// A row that was held, and which an input row brought out.
    ///
    /// # Errors
    /// If the row cannot be read.
    pub(super) fn push_held(
        &mut self,
        by: (usize, usize),
        (side, row): (usize, RowId),
        time: i64,
        rows: &mut JoinRows,
    ) -> Result<(), OperatorError> {
        let mut picks = [(NULLS, 0); 2];
        picks[side] = self.place(side, row, rows)?;
        self.push(by, picks, time);
        Ok(())
    }

    fn place(&mut self, side: usize, row: RowId, rows: &mut JoinRows) -> Result<(usize, usize), OperatorError> {
        let piece = rows.piece_of(side, row)?;
        if piece.source.0 != self.number {
            let columns = piece.columns.clone().ok_or_else(|| OperatorError::internal(NAME, "a piece is missing"))?;
            self.pieces[side].push(columns);
            piece.source = (self.number, PIECES + self.pieces[side].len() - 1);
        }
        self.bytes += piece.bytes / piece.len.max(1) as usize;
        Ok((piece.source.1, (row.row() - piece.first) as usize))
    }

    /// The rows.
    ///
    /// # Errors
    /// If Arrow refuses to gather them.
    pub(super) fn finish(
        self,
        inputs: &[Option<Input>; 2],
        rows: &JoinRows,
        key_count: usize,
    ) -> Result<ChangeBatch, OperatorError> {
        let failed = arrow_error(NAME);
        let [left, right] = [0, 1].map(|side| self.side(side, inputs, rows));
        let (mut left, mut right) = (left.map_err(&failed)?, right.map_err(&failed)?);
        let (left_end, right_end) = (left.split_off(rows.width(0)), right.split_off(rows.width(1)));
        let is_null = |side: usize| self.picks[side].iter().map(|pick| pick.0 == NULLS);
        let either = |from_left: &[ArrayRef], from_right: &[ArrayRef]| {
            if !is_null(0).any(|null| null) {
                return Ok(from_left.to_vec());
            }
            if !is_null(1).any(|null| null) {
                return Ok(from_right.to_vec());
            }
            let picks = is_null(0).enumerate().map(|(n, null)| (usize::from(null), n)).collect();
            Picks::new(picks).gather([from_left, from_right])
        };
        let mut columns = either(&left[..key_count], &right[..key_count]).map_err(&failed)?;
        let window = match rows.windowed {
            false => None,
            true => {
                let bounds = either(&left_end[..2], &right_end[..2]).map_err(&failed)?;
                let bound = |i: usize| bounds[i].as_primitive::<Int64Type>().values().clone();
                Some(WindowBounds { start: bound(0), end: bound(1) })
            }
        };
        columns.extend(left);
        columns.extend(right);
        let metas = [0, 1].map(|port: usize| inputs[port].as_ref().map(|input| &input.batch.meta));
        let meta = |port: usize| metas[port].expect("a row that causes output is of an input");
        let seq = self.by.iter().map(|&(port, i)| meta(port).seq[i]).collect();
        let offset = self.by.iter().map(|&(port, i)| meta(port).offset[i]).collect();
        let headers = gather_headers(metas, &Picks::new(self.by)).map_err(&failed)?;
        let rowtime = ScalarBuffer::from(self.rowtime);
        let meta = RowMeta { rowtime, seq, offset, window, headers, keyed: None };
        Ok(ChangeBatch { columns, present: None, old: None, meta })
    }

    /// The columns of one side, with its window bounds.
    fn side(
        &self,
        side: usize,
        inputs: &[Option<Input>; 2],
        rows: &JoinRows,
    ) -> Result<Vec<ArrayRef>, arrow::error::ArrowError> {
        let types = rows.types(side);
        let batch = inputs[side].as_ref().map(|input| &input.columns);
        let picks = &self.picks[side];
        let nulls = |ty: &DataType| new_null_array(ty, 1);
        let source = picks.first().map_or(NULLS, |pick| pick.0);
        if picks.iter().all(|pick| pick.0 == source) {
            // all of one source, as where a side only triggers, or has no row in the page
            let places: UInt32Array = picks.iter().map(|pick| pick.1 as u32).collect();
            let gather = |(c, ty): (usize, &DataType)| match source {
                NULLS => Ok(new_null_array(ty, picks.len())),
                BATCH => take(batch.map_or(&nulls(ty), |columns| &columns[c]), &places, None),
                piece => take(&self.pieces[side][piece - PIECES][c], &places, None),
            };
            return types.iter().enumerate().map(gather).collect();
        }
        let gather = |(c, ty): (usize, &DataType)| {
            let none = nulls(ty);
            let batch = batch.map_or(&none, |columns| &columns[c]);
            let mut sources: Vec<&dyn Array> = vec![batch.as_ref(), none.as_ref()];
            sources.extend(self.pieces[side].iter().map(|columns| columns[c].as_ref()));
            interleave(&sources, picks)
        };
        types.iter().enumerate().map(gather).collect()
    }
}
