//! Cutting and joining change batches at row boundaries.
//!
//! Not an operator: rows keep their order and nothing is computed. The subtle thing: a part that is missing in one piece (all rows present,
//! no headers) is spelled out when another piece has it, so that joined pieces mean what they meant alone.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanBufferBuilder, ListArray, new_empty_array};
use arrow::buffer::{BooleanBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::concat;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use crate::topic::headers_type;
use crate::types::{ChangeBatch, OldRows, RowMeta, WindowBounds};

/// Rows `from .. from + len`, sharing memory.
pub(super) fn slice(batch: &ChangeBatch, from: usize, len: usize) -> ChangeBatch {
    let columns = |cols: &[ArrayRef]| cols.iter().map(|c| c.slice(from, len)).collect::<Vec<_>>();
    let bits = |b: &Option<BooleanBuffer>| b.as_ref().map(|b| b.slice(from, len));
    ChangeBatch {
        columns: columns(&batch.columns),
        present: bits(&batch.present),
        old: batch.old.as_ref().map(|old| OldRows { columns: columns(&old.columns), present: bits(&old.present) }),
        meta: RowMeta {
            rowtime: batch.meta.rowtime.slice(from, len),
            seq: batch.meta.seq.slice(from, len),
            offset: batch.meta.offset.slice(from, len),
            window: batch
                .meta
                .window
                .as_ref()
                .map(|w| WindowBounds { start: w.start.slice(from, len), end: w.end.slice(from, len) }),
            headers: batch.meta.headers.as_ref().map(|h| h.slice(from, len)),
            keyed: bits(&batch.meta.keyed),
        },
    }
}

/// Takes the first rows of `pieces` whose `seq` passes, as one batch; `None` without any.
///
/// # Errors
/// As [`join`].
pub(super) fn take_while(
    pieces: &mut Vec<ChangeBatch>,
    passes: impl Fn(u32) -> bool,
) -> Result<Option<ChangeBatch>, ArrowError> {
    let mut taken = Vec::new();
    while let Some(piece) = pieces.first() {
        let count = piece.meta.seq.iter().take_while(|&&seq| passes(seq)).count();
        if count < piece.len() {
            if count > 0 {
                let rest = slice(piece, count, piece.len() - count);
                taken.push(slice(piece, 0, count));
                pieces[0] = rest;
            }
            break;
        }
        taken.push(pieces.remove(0));
    }
    join(taken)
}

/// All rows of `pieces` (of one schema; old rows and windows in all or none), in order. `None` without pieces.
///
/// # Errors
/// If the pieces do not have the same columns.
pub(super) fn join(mut pieces: Vec<ChangeBatch>) -> Result<Option<ChangeBatch>, ArrowError> {
    if pieces.len() < 2 {
        return Ok(pieces.pop());
    }
    let first = &pieces[0];
    let columns = (0..first.columns.len())
        .map(|i| concat(&pieces.iter().map(|p| p.columns[i].as_ref()).collect::<Vec<_>>()))
        .collect::<Result<Vec<_>, _>>()?;
    let old = match &first.old {
        Some(old) => Some(OldRows {
            columns: (0..old.columns.len())
                .map(|i| concat(&old_rows(&pieces)?.iter().map(|o| o.columns[i].as_ref()).collect::<Vec<_>>()))
                .collect::<Result<Vec<_>, _>>()?,
            present: join_bits(old_rows(&pieces)?.iter().zip(&pieces).map(|(o, p)| (o.present.as_ref(), p.len()))),
        }),
        None => None,
    };
    Ok(Some(ChangeBatch {
        columns,
        present: join_bits(pieces.iter().map(|p| (p.present.as_ref(), p.len()))),
        old,
        meta: join_meta(&pieces)?,
    }))
}

fn old_rows(pieces: &[ChangeBatch]) -> Result<Vec<&OldRows>, ArrowError> {
    let missing = || ArrowError::InvalidArgumentError("some change batches have old rows and some have none".into());
    pieces.iter().map(|p| p.old.as_ref().ok_or_else(missing)).collect()
}

fn join_meta(pieces: &[ChangeBatch]) -> Result<RowMeta, ArrowError> {
    let longs = |pick: fn(&RowMeta) -> &ScalarBuffer<i64>| join_buffers(pieces.iter().map(|p| pick(&p.meta)));
    let windows: Vec<_> = pieces.iter().filter_map(|p| p.meta.window.as_ref()).collect();
    let window = (windows.len() == pieces.len()).then(|| WindowBounds {
        start: join_buffers(windows.iter().map(|w| &w.start)),
        end: join_buffers(windows.iter().map(|w| &w.end)),
    });
    let headers = match pieces.iter().find_map(|p| p.meta.headers.as_ref()) {
        Some(_) => {
            let parts: Vec<ArrayRef> =
                pieces.iter().map(|p| p.meta.headers.clone().unwrap_or_else(|| no_headers(p.len()))).collect();
            Some(concat(&parts.iter().map(|p| p.as_ref()).collect::<Vec<_>>())?)
        }
        None => None,
    };
    Ok(RowMeta {
        rowtime: longs(|m| &m.rowtime),
        seq: pieces.iter().flat_map(|p| p.meta.seq.iter().copied()).collect(),
        offset: longs(|m| &m.offset),
        window,
        headers,
        keyed: join_bits(pieces.iter().map(|p| (p.meta.keyed.as_ref(), p.len()))),
    })
}

/// Empty headers for so many rows.
pub(super) fn no_headers(rows: usize) -> ArrayRef {
    let DataType::List(item) = headers_type() else { unreachable!("headers are a list") };
    let none = new_empty_array(item.data_type());
    Arc::new(ListArray::new(item, OffsetBuffer::new_zeroed(rows), none, None))
}

fn join_buffers<'a>(parts: impl Iterator<Item = &'a ScalarBuffer<i64>>) -> ScalarBuffer<i64> {
    let mut all = Vec::new();
    parts.for_each(|part| all.extend_from_slice(part));
    all.into()
}

fn join_bits<'a>(parts: impl Iterator<Item = (Option<&'a BooleanBuffer>, usize)> + Clone) -> Option<BooleanBuffer> {
    if parts.clone().all(|(bits, _)| bits.is_none()) {
        return None;
    }
    let mut all = BooleanBufferBuilder::new(parts.clone().map(|(_, rows)| rows).sum());
    for (bits, rows) in parts {
        match bits {
            Some(bits) => all.append_buffer(bits),
            None => all.append_n(rows, true),
        }
    }
    Some(all.finish())
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    fn batch(values: &[i64], present: Option<Vec<bool>>) -> ChangeBatch {
        let n = values.len();
        ChangeBatch {
            columns: vec![Arc::new(Int64Array::from(values.to_vec()))],
            present: present.map(BooleanBuffer::from),
            old: None,
            meta: RowMeta {
                rowtime: values.to_vec().into(),
                seq: (0..n as u32).collect(),
                offset: (0..n as i64).collect(),
                window: None,
                headers: None,
                keyed: None,
            },
        }
    }

    #[test]
    fn slices_join_to_the_whole() {
        let whole = batch(&[1, 2, 3, 4, 5], Some(vec![true, false, true, true, false]));
        let parts = vec![slice(&whole, 0, 2), slice(&whole, 2, 2), slice(&whole, 4, 1)];
        assert_eq!(join(parts).unwrap().unwrap(), whole);
    }

    #[test]
    fn missing_bits_mean_present() {
        let joined = join(vec![batch(&[1], None), batch(&[2], Some(vec![false]))]).unwrap().unwrap();
        assert_eq!(joined.present, Some(BooleanBuffer::from(vec![true, false])));
    }
}
