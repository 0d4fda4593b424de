//! The end of a decoder's batch: failed rows become NULL everywhere, absent rows become a bitmap.
//!
//! The subtle thing: a row may have failed in several columns; the first one found is the one that is reported.

use arrow::array::{ArrayRef, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::nullif;

use super::DecodeFailure;

/// Orders failures by row, keeps the first of each, and makes failed rows NULL in every column.
pub(super) fn settle(failures: &mut Vec<DecodeFailure>, columns: &mut [ArrayRef], rows: usize) {
    if failures.is_empty() {
        return;
    }
    failures.sort_by_key(|failure| failure.row);
    failures.dedup_by_key(|failure| failure.row);
    let mut failed = vec![false; rows];
    failures.iter().for_each(|failure| failed[failure.row] = true);
    let failed = BooleanArray::from(failed);
    for column in columns {
        *column = nullif(column, &failed).expect("the mask is as long as the column");
    }
}

/// Bits of the rows that are not `absent`; `None` if all are there.
pub(super) fn present(absent: &[usize], rows: usize) -> Option<BooleanBuffer> {
    if absent.is_empty() {
        return None;
    }
    let mut there = vec![true; rows];
    absent.iter().for_each(|&row| there[row] = false);
    Some(BooleanBuffer::from(there))
}
