//! The open work of a graph as bytes: what a commit between two pages keeps beside the stores, and what a restored task goes on with.
//!
//! Knows no operator but by its number; `graph` says what is open. The subtle thing: everything that is open is rows of batches (and a few
//! bytes of an operator's own), so that a cursor holds its columns with their Arrow schemas and needs no plan to be read.
//!
//! Layout, numbers little endian: version (1 byte), fingerprint of the graph (8), orders of arrival (count, 8 each), number of items (4),
//! then each item: kind (1), node (4), port or `seq` (4), its bytes (length, bytes), number of batches (4), each as length and an Arrow
//! IPC stream; a length of 2³² − 1 stands for none.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::datatypes::{Field, Int64Type, Schema, UInt32Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use crate::topic::TopicError;
use crate::types::{ChangeBatch, OldRows, RowMeta, WindowBounds, change};

const VERSION: u8 = 1;
const NONE: u32 = u32::MAX;

/// Something that is open.
#[derive(Debug, Default)]
pub(super) struct Item {
    /// what it is; `graph` knows the kinds
    pub kind: u8,
    /// which node it is for
    pub node: u32,
    /// a port of it, or a `seq`
    pub number: u32,
    /// bytes of the operator
    pub within: Vec<u8>,
    /// rows, one batch a port
    pub rows: Vec<Option<ChangeBatch>>,
}

/// The bytes of these items of a graph with that fingerprint; `arrivals` as in the step's environment.
///
/// # Errors
/// If Arrow cannot write a column: a defect of ours.
pub(super) fn encode(fingerprint: u64, arrivals: Option<&[i64]>, items: &[Item]) -> Result<Vec<u8>, TopicError> {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&fingerprint.to_le_bytes());
    put(&mut bytes, arrivals.map_or(NONE, |a| a.len() as u32));
    arrivals.into_iter().flatten().for_each(|a| bytes.extend_from_slice(&a.to_le_bytes()));
    put(&mut bytes, items.len() as u32);
    for item in items {
        bytes.push(item.kind);
        put(&mut bytes, item.node);
        put(&mut bytes, item.number);
        put(&mut bytes, item.within.len() as u32);
        bytes.extend_from_slice(&item.within);
        put(&mut bytes, item.rows.len() as u32);
        for batch in &item.rows {
            let Some(batch) = batch else {
                put(&mut bytes, NONE);
                continue;
            };
            let rows = batch_bytes(batch)?;
            put(&mut bytes, rows.len() as u32);
            bytes.extend_from_slice(&rows);
        }
    }
    Ok(bytes)
}

fn put(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

/// What [`encode`] was given.
///
/// # Errors
/// If the bytes are damaged, of another version, or of another graph.
pub(super) fn decode(bytes: &[u8], fingerprint: u64) -> Result<(Option<Vec<i64>>, Vec<Item>), TopicError> {
    let mut from = Reader(bytes);
    let version = from.take(1)?[0];
    if version != VERSION || from.long()? != fingerprint {
        let reason = "the query stopped between two pages of a record under another release or plan; start it with the one that wrote \
                      its state, let it come to rest, and then upgrade";
        return Err(TopicError::Corrupt(reason.into()));
    }
    let arrivals = match from.number()? {
        NONE => None,
        count => Some((0..count).map(|_| from.long().map(|a| a as i64)).collect::<Result<_, _>>()?),
    };
    let count = from.number()?;
    let mut items = Vec::new();
    for _ in 0..count {
        let (kind, node, number) = (from.take(1)?[0], from.number()?, from.number()?);
        let length = from.number()? as usize;
        let within = from.take(length)?.to_vec();
        let ports = from.number()?;
        let batch = |from: &mut Reader<'_>| match from.number()? {
            NONE => Ok(None),
            length => from.take(length as usize).and_then(batch_of).map(Some),
        };
        let rows = (0..ports).map(|_| batch(&mut from)).collect::<Result<_, _>>()?;
        items.push(Item { kind, node, number, within, rows });
    }
    Ok((arrivals, items))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], TopicError> {
        let (taken, left) = self.0.split_at_checked(length).ok_or_else(|| damaged("it is cut short"))?;
        self.0 = left;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, TopicError> {
        self.take(4)?.try_into().map(u32::from_le_bytes).map_err(damaged)
    }

    fn long(&mut self) -> Result<u64, TopicError> {
        self.take(8)?.try_into().map(u64::from_le_bytes).map_err(damaged)
    }
}

/// Names of the parts of a batch beside its columns.
const ROWTIME: &str = "rowtime";
const SEQ: &str = "seq";
const OFFSET: &str = "offset";
const PRESENT: &str = "present";
const OLD: &str = "old";
const OLD_PRESENT: &str = "old_present";
const WINDOW_START: &str = "window_start";
const WINDOW_END: &str = "window_end";
const HEADERS: &str = "headers";
const KEYED: &str = "keyed";

fn batch_bytes(batch: &ChangeBatch) -> Result<Vec<u8>, TopicError> {
    let longs = |b: &ScalarBuffer<i64>| Arc::new(Int64Array::new(b.clone(), None)) as ArrayRef;
    let bits = |b: &BooleanBuffer| Arc::new(BooleanArray::new(b.clone(), None)) as ArrayRef;
    let mut parts: Vec<(String, ArrayRef)> = Vec::new();
    let mut add = |name: &str, column: ArrayRef| parts.push((name.to_owned(), column));
    add(ROWTIME, longs(&batch.meta.rowtime));
    add(SEQ, Arc::new(UInt32Array::new(batch.meta.seq.clone(), None)));
    add(OFFSET, longs(&batch.meta.offset));
    if let Some(present) = &batch.present {
        add(PRESENT, bits(present));
    }
    if let Some(window) = &batch.meta.window {
        add(WINDOW_START, longs(&window.start));
        add(WINDOW_END, longs(&window.end));
    }
    if let Some(headers) = &batch.meta.headers {
        add(HEADERS, headers.clone());
    }
    if let Some(keyed) = &batch.meta.keyed {
        add(KEYED, bits(keyed));
    }
    batch.columns.iter().for_each(|column| add("", column.clone()));
    if let Some(old) = &batch.old {
        if let Some(present) = &old.present {
            add(OLD_PRESENT, bits(present));
        }
        old.columns.iter().for_each(|column| add(OLD, column.clone()));
    }
    let fields: Vec<Field> = parts.iter().map(|(name, c)| Field::new(name, c.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = parts.into_iter().map(|(_, column)| column).collect();
    let record = change::record_batch(&schema, columns, batch.len()).map_err(damaged)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).map_err(damaged)?;
    writer.write(&record).map_err(damaged)?;
    writer.into_inner().map_err(damaged)
}

fn batch_of(bytes: &[u8]) -> Result<ChangeBatch, TopicError> {
    let mut reader = StreamReader::try_new(bytes, None).map_err(damaged)?;
    let record = reader.next().ok_or_else(|| damaged("a batch is missing"))?.map_err(damaged)?;
    let part = |name: &str| record.column_by_name(name);
    let bits = |name: &str| part(name).and_then(|c| c.as_boolean_opt()).map(|c| c.values().clone());
    let longs = |name: &str| part(name).and_then(|c| c.as_primitive_opt::<Int64Type>()).map(|c| c.values().clone());
    let all = |name: &str| all_of(&record, name);
    let needed = |name: &str| longs(name).ok_or_else(|| damaged(format!("a batch has no {name}")));
    let seq = part(SEQ).and_then(|c| c.as_primitive_opt::<UInt32Type>()).map(|c| c.values().clone());
    let (start, end) = (longs(WINDOW_START), longs(WINDOW_END));
    let (old, old_present) = (all(OLD), bits(OLD_PRESENT));
    let has_old = !old.is_empty() || old_present.is_some();
    Ok(ChangeBatch {
        columns: all(""),
        present: bits(PRESENT),
        old: has_old.then_some(OldRows { columns: old, present: old_present }),
        meta: RowMeta {
            rowtime: needed(ROWTIME)?,
            seq: seq.ok_or_else(|| damaged("a batch has no seq"))?,
            offset: needed(OFFSET)?,
            window: start.zip(end).map(|(start, end)| WindowBounds { start, end }),
            headers: part(HEADERS).cloned(),
            keyed: bits(KEYED),
        },
    })
}

fn all_of(record: &RecordBatch, name: &str) -> Vec<ArrayRef> {
    let schema = record.schema();
    let named = schema.fields().iter().zip(record.columns()).filter(|(field, _)| field.name() == name);
    named.map(|(_, column)| column.clone()).collect()
}

fn damaged(reason: impl std::fmt::Display) -> TopicError {
    TopicError::Corrupt(format!("the cursor of a task: {reason}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;

    use super::*;

    fn batch(old: bool) -> ChangeBatch {
        let columns = |names: [Option<&str>; 3]| -> Vec<ArrayRef> {
            vec![Arc::new(Int64Array::from(vec![1, 2, 3])), Arc::new(StringArray::from(names.to_vec()))]
        };
        ChangeBatch {
            columns: columns([Some("a"), None, Some("ccc")]),
            present: old.then(|| [true, false, true].iter().copied().collect()),
            old: old.then(|| OldRows {
                columns: columns([None, Some("b"), None]),
                present: Some([false, true, true].iter().copied().collect()),
            }),
            meta: RowMeta {
                rowtime: vec![10, 20, 30].into(),
                seq: vec![0, 0, 7].into(),
                offset: vec![5, 5, 6].into(),
                window: old.then(|| WindowBounds { start: vec![1, 2, 3].into(), end: vec![4, 5, 6].into() }),
                headers: None,
                keyed: old.then(|| [false, true, true].iter().copied().collect()),
            },
        }
    }

    #[test]
    fn open_work_comes_back_as_it_was() {
        let sliced = crate::runtime::rows::slice(&batch(true), 1, 2);
        let items = [
            Item { kind: 1, node: 3, number: 9, within: vec![1, 2], rows: vec![None, Some(sliced.clone())] },
            Item { kind: 0, node: 0, number: 0, within: vec![], rows: vec![Some(batch(false))] },
        ];
        let bytes = encode(42, Some(&[3, -1]), &items).unwrap();
        let (arrivals, back) = decode(&bytes, 42).unwrap();
        assert_eq!(arrivals, Some(vec![3, -1]));
        assert_eq!((back[0].kind, back[0].node, back[0].number, &back[0].within[..]), (1, 3, 9, &[1, 2][..]));
        assert_eq!(back[0].rows, [None, Some(sliced)]);
        assert_eq!(back[1].rows, [Some(batch(false))]);
        assert!(decode(&bytes, 43).is_err() && decode(&bytes[..bytes.len() - 1], 42).is_err());
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], 42).is_err(), "cut at {cut}");
        }
    }
}
