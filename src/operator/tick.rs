//! A row of no record, which closes the windows of an idle input (`window.idle.close.ms`).
//!
//! It goes an operator's own way through pages and commits, like a row of its input, but is made by the operator itself and never leaves it.
//! The subtle thing: nothing about the row itself tells it from others, since rows that it brings out carry its offset; the operator knows,
//! and says so in the rest of a step.

use arrow::array::new_null_array;
use arrow::datatypes::DataType;

use crate::types::{ChangeBatch, RowMeta, WindowBounds};

/// The offset of what no record caused.
const NO_RECORD: i64 = -1;

/// One tick, with NULL in columns of these types; `time` is what it moves the operator's time to.
pub(super) fn tick<'a>(types: impl Iterator<Item = &'a DataType>, time: i64, windowed: bool) -> ChangeBatch {
    let meta = RowMeta {
        rowtime: vec![time].into(),
        seq: vec![0].into(),
        offset: vec![NO_RECORD].into(),
        window: windowed.then(|| WindowBounds { start: vec![0].into(), end: vec![0].into() }),
        headers: None,
        keyed: None,
    };
    ChangeBatch { columns: types.map(|ty| new_null_array(ty, 1)).collect(), present: None, old: None, meta }
}
