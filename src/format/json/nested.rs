//! Arrays, maps and structs: each finds the spans of its inner values and leaves them to the decoders of these.
//!
//! Column by column as everywhere: an ARRAY first collects all elements of all rows, then decodes them at once. The subtle
//! thing is the way back: a fault of an inner value is one of the row that holds it, with the path grown by a step.

use std::sync::Arc;

use ahash::AHashMap;
use arrow::array::{ArrayRef, ListArray, MapArray, NullBufferBuilder, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields};

use super::column::{ColumnDecoder, Fault, mismatch};
use super::fields::FieldTable;
use super::scan::{Span, elements, entries};
use super::string::unescape;
use crate::format::byte_rows::ByteRows;
use crate::types::{SqlField, SqlType};

/// Builds ARRAY columns.
pub(super) struct ArrayDecoder {
    item: ColumnDecoder,
    field: FieldRef,
}

impl ArrayDecoder {
    pub(super) fn new(item: &SqlType) -> Self {
        let DataType::List(field) = SqlType::Array(Box::new(item.clone())).to_arrow() else {
            unreachable!("arrays are lists in Arrow")
        };
        Self { item: ColumnDecoder::new(item), field }
    }

    pub(super) fn decode(&mut self, bytes: &[u8], spans: &[Span], faults: &mut Vec<Fault>) -> ArrayRef {
        let mut children = Vec::new();
        let mut rows = RowEnds::new(spans.len());
        for (i, &span) in spans.iter().enumerate() {
            let from = children.len();
            let present = match container(bytes, span, b'[') {
                Container::Here => elements(bytes, span, |element| children.push(element)).is_ok(),
                Container::Null => false,
                Container::Other => {
                    mismatch(faults, i, span, bytes, "ARRAY");
                    false
                }
            };
            if !present {
                children.truncate(from);
            }
            rows.end(children.len(), present);
        }
        let mut inner = Vec::new();
        let values = self.item.decode(bytes, &children, &mut inner);
        rows.lift(inner, faults, |position| format!("[{position}]"));
        let (offsets, nulls) = rows.finish();
        Arc::new(ListArray::new(self.field.clone(), offsets, values, nulls))
    }
}

/// Builds MAP columns with STRING keys.
pub(super) struct MapDecoder {
    value: ColumnDecoder,
    entries: FieldRef,
}

impl MapDecoder {
    pub(super) fn new(value: &SqlType) -> Self {
        let ty = SqlType::Map(Box::new(SqlType::String), Box::new(value.clone()));
        let DataType::Map(entries, _) = ty.to_arrow() else { unreachable!("maps are maps in Arrow") };
        Self { value: ColumnDecoder::new(value), entries }
    }

    pub(super) fn decode(&mut self, bytes: &[u8], spans: &[Span], faults: &mut Vec<Fault>) -> ArrayRef {
        let mut keys = ByteRows::with_capacity(0, 0);
        let mut children = Vec::new();
        let mut rows = RowEnds::new(spans.len());
        let mut found = Vec::new();
        for (i, &span) in spans.iter().enumerate() {
            let present = match container(bytes, span, b'{') {
                Container::Here => {
                    found.clear();
                    let walked = entries(bytes, span, |key, value| found.push((key, value)));
                    match walked.map_err(|malformed| malformed.what).and_then(|()| distinct(bytes, &mut found)) {
                        Ok(()) => true,
                        Err(reason) => {
                            faults.push(Fault { index: i, path: String::new(), reason: reason.to_owned() });
                            false
                        }
                    }
                }
                Container::Null => false,
                Container::Other => {
                    mismatch(faults, i, span, bytes, "MAP");
                    false
                }
            };
            if present {
                for &(key, value) in &found {
                    let written = keys.append_with(|out| unescape(inner_text(bytes, key), out));
                    debug_assert_eq!(written, Ok(()));
                    children.push(value);
                }
            }
            rows.end(children.len(), present);
        }
        self.assemble(bytes, keys, &children, rows, faults)
    }

    fn assemble(
        &mut self,
        bytes: &[u8],
        keys: ByteRows,
        children: &[Span],
        rows: RowEnds,
        faults: &mut Vec<Fault>,
    ) -> ArrayRef {
        let mut inner = Vec::new();
        let values = self.value.decode(bytes, children, &mut inner);
        rows.lift(inner, faults, |position| format!("[{position}]"));
        let DataType::Struct(fields) = self.entries.data_type() else {
            unreachable!("the entries of a map are structs")
        };
        let pairs = StructArray::new(fields.clone(), vec![Arc::new(keys.into_strings()), values], None);
        let (offsets, nulls) = rows.finish();
        Arc::new(MapArray::new(self.entries.clone(), offsets, pairs, nulls, false))
    }
}

/// Leaves each key once: at its first place, with its last value.
fn distinct(bytes: &[u8], found: &mut Vec<(Span, Span)>) -> Result<(), &'static str> {
    let escaped = found.iter().any(|(key, _)| key.is_escaped());
    if found.len() <= 16 && !escaped {
        let again = |i: usize| found[..i].iter().any(|(key, _)| key.of(bytes) == found[i].0.of(bytes));
        if !(1..found.len()).any(again) {
            return Ok(());
        }
    }
    let mut places: AHashMap<Vec<u8>, usize> = AHashMap::with_capacity(found.len());
    let mut kept: Vec<(Span, Span)> = Vec::with_capacity(found.len());
    for &(key, value) in found.iter() {
        let mut name = Vec::new();
        unescape(inner_text(bytes, key), &mut name)?;
        let place = *places.entry(name).or_insert(kept.len());
        match kept.get_mut(place) {
            Some(first) => first.1 = value,
            None => kept.push((key, value)),
        }
    }
    *found = kept;
    Ok(())
}

fn inner_text(bytes: &[u8], key: Span) -> &[u8] {
    let text = key.of(bytes);
    &text[1..text.len() - 1]
}

/// Builds STRUCT columns.
pub(super) struct StructDecoder {
    table: FieldTable,
    children: Vec<ColumnDecoder>,
    fields: Fields,
}

impl StructDecoder {
    pub(super) fn new(fields: &Arc<[SqlField]>) -> Self {
        let DataType::Struct(arrow_fields) = SqlType::Struct(fields.clone()).to_arrow() else {
            unreachable!("structs are structs in Arrow")
        };
        Self {
            table: FieldTable::new(fields.iter().map(|f| f.name.as_str().to_owned())),
            children: fields.iter().map(|f| ColumnDecoder::new(&f.ty)).collect(),
            fields: arrow_fields,
        }
    }

    pub(super) fn decode(&mut self, bytes: &[u8], spans: &[Span], faults: &mut Vec<Fault>) -> ArrayRef {
        self.table.trim();
        let mut slots = vec![vec![Span::NULL; spans.len()]; self.children.len()];
        let mut nulls = NullBufferBuilder::new(spans.len());
        for (i, &span) in spans.iter().enumerate() {
            let present = match container(bytes, span, b'{') {
                Container::Here => match self.table.locate(bytes, span.start(), span.end(), i, &mut slots) {
                    Ok(_) => true,
                    Err(malformed) => {
                        slots.iter_mut().for_each(|slot| slot[i] = Span::NULL);
                        faults.push(Fault { index: i, path: String::new(), reason: malformed.what.to_owned() });
                        false
                    }
                },
                Container::Null => false,
                Container::Other => {
                    mismatch(faults, i, span, bytes, "STRUCT");
                    false
                }
            };
            nulls.append(present);
        }
        let mut columns = Vec::with_capacity(slots.len());
        for ((child, slot), field) in self.children.iter_mut().zip(&slots).zip(&self.fields) {
            let from = faults.len();
            columns.push(child.decode(bytes, slot, faults));
            for fault in &mut faults[from..] {
                fault.path.insert_str(0, &format!(".{}", field.name()));
            }
        }
        let built = StructArray::try_new_with_length(self.fields.clone(), columns, nulls.finish(), spans.len());
        Arc::new(built.expect("each child has the type of its field and a value for each span"))
    }
}

enum Container {
    /// a container of the wanted kind
    Here,
    Null,
    /// another kind of value
    Other,
}

fn container(bytes: &[u8], span: Span, bracket: u8) -> Container {
    match span {
        span if span.is_null() => Container::Null,
        span if bytes[span.start()] == bracket => Container::Here,
        _ => Container::Other,
    }
}

/// Where the inner values of each row end, and which rows are there.
struct RowEnds {
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl RowEnds {
    fn new(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { offsets, nulls: NullBufferBuilder::new(rows) }
    }

    fn end(&mut self, children: usize, present: bool) {
        self.offsets.push(children as i32);
        self.nulls.append(present);
    }

    /// Turns faults of inner values into faults of their rows.
    fn lift(&self, inner: Vec<Fault>, faults: &mut Vec<Fault>, step: impl Fn(usize) -> String) {
        for fault in inner {
            let index = self.offsets.partition_point(|&offset| offset as usize <= fault.index) - 1;
            let position = fault.index - self.offsets[index] as usize;
            faults.push(Fault { index, path: step(position) + &fault.path, reason: fault.reason });
        }
    }

    fn finish(mut self) -> (OffsetBuffer<i32>, Option<NullBuffer>) {
        (OffsetBuffer::new(ScalarBuffer::from(self.offsets)), self.nulls.finish())
    }
}
