//! HISTOGRAM and ATTR: how often each value came.
//!
//! The subtle thing: HISTOGRAM ignores new keys beyond [`MAX_KEYS`], so what it counts depends on the order of arrival; its map is given
//! out sorted by key, so that a restored group prints as it did.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, Int64Builder, MapBuilder, MapFieldNames, StringArray, StringBuilder,
};
use arrow::datatypes::Int64Type;

use super::Slot;
use super::grouped::Kernel;
use super::value::{Encoded, EncodedColumn, Kind, list_array, list_range, list_type, push_end};
use crate::types::SqlType;

/// Most keys of one histogram.
pub(super) const MAX_KEYS: usize = 1000;

/// A map of counts per entry, about: two words, and the tree's share.
const ENTRY_BYTES: usize = 48;

/// Counts of texts by slot.
#[derive(Default)]
pub(super) struct Histogram {
    maps: Vec<BTreeMap<Box<str>, i64>>,
    heap: usize,
}

impl Histogram {
    fn add(&mut self, slot: usize, key: &str, count: i64) {
        let map = &mut self.maps[slot];
        if let Some(held) = map.get_mut(key) {
            *held += count;
        } else if map.len() < MAX_KEYS {
            map.insert(key.into(), count);
            self.heap += key.len() + ENTRY_BYTES;
        }
    }
}

impl Kernel for Histogram {
    type Args = StringArray;
    type Out = MapBuilder<StringBuilder, Int64Builder>;

    fn resize(&mut self, slots: usize) {
        self.maps.resize(slots, BTreeMap::new());
    }

    fn reset(&mut self, slot: usize) {
        let map = std::mem::take(&mut self.maps[slot]);
        self.heap -= map.keys().map(|key| key.len() + ENTRY_BYTES).sum::<usize>();
    }

    fn bind(&self, args: &[ArrayRef]) -> StringArray {
        args[0].as_string::<i32>().clone()
    }

    fn apply(&mut self, slot: usize, args: &StringArray, row: usize) -> Result<(), String> {
        if args.is_valid(row) {
            self.add(slot, args.value(row), 1);
        }
        Ok(())
    }

    fn undo(&mut self, slot: usize, args: &StringArray, row: usize) -> Result<(), String> {
        let map = &mut self.maps[slot];
        if args.is_valid(row)
            && let Some(count) = map.get_mut(args.value(row))
        {
            *count -= 1;
            if *count < 1 {
                map.remove(args.value(row));
                self.heap -= args.value(row).len() + ENTRY_BYTES;
            }
        }
        Ok(())
    }

    fn merge(&mut self, into: usize, from: usize) -> Result<(), String> {
        for (key, count) in self.maps[from].clone() {
            self.add(into, &key, count);
        }
        Ok(())
    }

    fn out(&self) -> Self::Out {
        let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
        MapBuilder::new(Some(names), StringBuilder::new(), Int64Builder::new())
    }

    fn emit(&self, slot: usize, out: &mut Self::Out) {
        for (key, count) in &self.maps[slot] {
            out.keys().append_value(key);
            out.values().append_value(*count);
        }
        out.append(true).expect("as many keys as values");
    }

    fn finish(&self, mut out: Self::Out) -> ArrayRef {
        Arc::new(out.finish())
    }

    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        let mut out = self.out();
        slots.iter().for_each(|&slot| self.emit(slot as usize, &mut out));
        vec![self.finish(out)]
    }

    fn state_types(&self) -> Vec<SqlType> {
        vec![SqlType::Map(Box::new(SqlType::String), Box::new(SqlType::BigInt))]
    }

    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]) {
        let maps = states[0].as_map();
        let (keys, counts) = (maps.keys().as_string::<i32>(), maps.values().as_primitive::<Int64Type>());
        for (row, &slot) in slots.iter().enumerate() {
            self.reset(slot as usize);
            let offsets = maps.value_offsets();
            for at in offsets[row] as usize..offsets[row + 1] as usize {
                self.add(slot as usize, keys.value(at), counts.value(at));
            }
        }
    }

    fn memory(&self) -> usize {
        self.maps.capacity() * size_of::<BTreeMap<Box<str>, i64>>() + self.heap
    }
}

/// ATTR by slot: counts of distinct values, NULL among them.
pub(super) struct Attr {
    kind: Encoded,
    counts: Vec<BTreeMap<Box<[u8]>, i64>>,
    null_row: Box<[u8]>,
    heap: usize,
}

impl Attr {
    /// ATTR of values of `ty`.
    pub fn new(ty: &SqlType) -> Self {
        let kind = Encoded::new(ty);
        let null = arrow::array::new_null_array(&ty.to_arrow(), 1);
        let null_row = kind.column(&null).row(0).into();
        Self { kind, counts: Vec::new(), null_row, heap: 0 }
    }

    fn add(&mut self, slot: usize, value: &[u8], count: i64) {
        if let Some(held) = self.counts[slot].get_mut(value) {
            *held += count;
        } else {
            self.counts[slot].insert(value.into(), count);
            self.heap += value.len() + ENTRY_BYTES;
        }
    }
}

impl Kernel for Attr {
    type Args = EncodedColumn;
    type Out = Vec<Box<[u8]>>;

    fn resize(&mut self, slots: usize) {
        self.counts.resize(slots, BTreeMap::new());
    }

    fn reset(&mut self, slot: usize) {
        let counts = std::mem::take(&mut self.counts[slot]);
        self.heap -= counts.keys().map(|key| key.len() + ENTRY_BYTES).sum::<usize>();
    }

    fn bind(&self, args: &[ArrayRef]) -> EncodedColumn {
        self.kind.column(&args[0])
    }

    fn apply(&mut self, slot: usize, args: &EncodedColumn, row: usize) -> Result<(), String> {
        self.add(slot, args.row(row), 1);
        Ok(())
    }

    fn undo(&mut self, slot: usize, args: &EncodedColumn, row: usize) -> Result<(), String> {
        let counts = &mut self.counts[slot];
        if let Some(count) = counts.get_mut(args.row(row)) {
            *count -= 1;
            if *count < 1 {
                counts.remove(args.row(row));
                self.heap -= args.row(row).len() + ENTRY_BYTES;
            }
        }
        Ok(())
    }

    fn merge(&mut self, into: usize, from: usize) -> Result<(), String> {
        for (value, count) in self.counts[from].clone() {
            self.add(into, &value, count);
        }
        Ok(())
    }

    fn out(&self) -> Vec<Box<[u8]>> {
        Vec::new()
    }

    fn emit(&self, slot: usize, out: &mut Vec<Box<[u8]>>) {
        let mut values = self.counts[slot].keys();
        out.push(match (values.next(), values.next()) {
            (Some(only), None) => only.clone(),
            _ => self.null_row.clone(),
        });
    }

    fn finish(&self, out: Vec<Box<[u8]>>) -> ArrayRef {
        self.kind.decode(out.iter().map(|row| &row[..]))
    }

    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        let (mut values, mut counts, mut ends) = (Vec::new(), Vec::new(), vec![0]);
        for &slot in slots {
            let held = &self.counts[slot as usize];
            values.extend(held.keys().map(|key| &key[..]));
            counts.extend(held.values().copied());
            push_end(&mut ends, held.len());
        }
        let values = self.kind.decode(values.into_iter());
        vec![list_array(values, ends.clone()), list_array(Arc::new(Int64Array::from(counts)), ends)]
    }

    fn state_types(&self) -> Vec<SqlType> {
        vec![list_type(self.kind.ty()), list_type(&SqlType::BigInt)]
    }

    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]) {
        let (values, counts) = (states[0].as_list::<i32>(), states[1].as_list::<i32>());
        let rows = self.kind.column(values.values());
        let numbers = counts.values().as_primitive::<Int64Type>();
        for (row, &slot) in slots.iter().enumerate() {
            self.reset(slot as usize);
            for (v, c) in list_range(values, row).zip(list_range(counts, row)) {
                self.add(slot as usize, rows.row(v), numbers.value(c));
            }
        }
    }

    fn memory(&self) -> usize {
        self.counts.capacity() * size_of::<BTreeMap<Box<[u8]>, i64>>() + self.heap
    }
}
