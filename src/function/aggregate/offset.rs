//! LATEST_BY_OFFSET and EARLIEST_BY_OFFSET, and columns that are carried along: values picked by the order of arrival.
//!
//! Arrival is counted here, in a sequence number per accumulator that is part of each state. The subtle thing: sessions merge by that
//! sequence, not by session time, and the list forms keep the *first* n of the merged values (both of them, as the reference does).

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;

use super::Slot;
use super::grouped::Kernel;
use super::value::{Kind, Lists, Native, list_range, list_type};
use crate::types::SqlType;

/// What a slot of the single-value form holds; `seq` is `None` until a value came.
#[derive(Clone)]
struct Pick<V> {
    seq: Option<i64>,
    value: Option<V>,
}

/// The latest (or earliest) value by slot.
pub(super) struct ByOffset<K: Kind, const LATEST: bool> {
    kind: K,
    ignore_nulls: bool,
    next_seq: i64,
    picks: Vec<Pick<K::Value>>,
    heap: usize,
}

impl<K: Kind, const LATEST: bool> ByOffset<K, LATEST> {
    /// The form without n.
    pub fn new(kind: K, ignore_nulls: bool) -> Self {
        Self { kind, ignore_nulls, next_seq: 0, picks: Vec::new(), heap: 0 }
    }
}

fn heap<K: Kind>(value: &Option<K::Value>) -> usize {
    value.as_ref().map_or(0, K::heap)
}

impl<K: Kind, const LATEST: bool> Kernel for ByOffset<K, LATEST> {
    type Args = K::Column;
    type Out = K::Builder;

    fn resize(&mut self, slots: usize) {
        self.picks.resize(slots, Pick { seq: None, value: None });
    }

    fn reset(&mut self, slot: usize) {
        self.heap -= heap::<K>(&self.picks[slot].value);
        self.picks[slot] = Pick { seq: None, value: None };
    }

    fn bind(&self, args: &[ArrayRef]) -> K::Column {
        self.kind.column(&args[0])
    }

    #[inline]
    fn apply(&mut self, slot: usize, args: &K::Column, row: usize) -> Result<(), String> {
        let seq = self.next_seq;
        self.next_seq += 1;
        let value = K::get(args, row);
        let pick = &mut self.picks[slot];
        if (value.is_none() && self.ignore_nulls) || (!LATEST && pick.seq.is_some()) {
            return Ok(());
        }
        pick.seq = Some(seq);
        self.heap -= heap::<K>(&pick.value);
        overwrite::<K>(&mut pick.value, value);
        self.heap += heap::<K>(&pick.value);
        Ok(())
    }

    fn merge(&mut self, into: usize, from: usize) -> Result<(), String> {
        let (a, b) = (self.picks[into].seq, self.picks[from].seq);
        let takes = match (a, b) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(a), Some(b)) => (b > a) == LATEST,
        };
        if takes {
            let pick = self.picks[from].clone();
            self.heap += heap::<K>(&pick.value);
            self.heap -= heap::<K>(&self.picks[into].value);
            self.picks[into] = pick;
        }
        Ok(())
    }

    fn out(&self) -> K::Builder {
        self.kind.builder()
    }

    fn emit(&self, slot: usize, out: &mut K::Builder) {
        K::push(out, self.picks[slot].value.as_ref().map(K::view));
    }

    fn finish(&self, out: K::Builder) -> ArrayRef {
        self.kind.finish(out)
    }

    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        let mut out = self.kind.builder();
        slots.iter().for_each(|&slot| self.emit(slot as usize, &mut out));
        let seqs: Int64Array = slots.iter().map(|&slot| self.picks[slot as usize].seq).collect();
        vec![Arc::new(seqs), self.kind.finish(out)]
    }

    fn state_types(&self) -> Vec<SqlType> {
        vec![SqlType::BigInt, self.kind.ty().clone()]
    }

    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]) {
        let seqs = states[0].as_primitive::<Int64Type>();
        let values = self.kind.column(&states[1]);
        for (row, &slot) in slots.iter().enumerate() {
            self.reset(slot as usize);
            let seq = seqs.is_valid(row).then(|| seqs.value(row));
            self.next_seq = self.next_seq.max(seq.map_or(0, |seq| seq + 1));
            let value = K::get(&values, row).map(K::own);
            self.heap += heap::<K>(&value);
            self.picks[slot as usize] = Pick { seq, value };
        }
    }

    fn memory(&self) -> usize {
        self.picks.capacity() * size_of::<Pick<K::Value>>() + self.heap
    }
}

fn overwrite<K: Kind>(into: &mut Option<K::Value>, value: Option<K::Ref<'_>>) {
    match (into.as_mut(), value) {
        (Some(into), Some(value)) => K::assign(into, value),
        (_, value) => *into = value.map(K::own),
    }
}

/// The latest (or earliest) n values by slot, oldest first.
pub(super) struct NByOffset<K: Kind, const LATEST: bool> {
    kind: K,
    n: usize,
    ignore_nulls: bool,
    next_seq: i64,
    lists: Vec<VecDeque<(i64, Option<K::Value>)>>,
    heap: usize,
}

impl<K: Kind, const LATEST: bool> NByOffset<K, LATEST> {
    /// The form with n.
    pub fn new(kind: K, n: usize, ignore_nulls: bool) -> Self {
        Self { kind, n, ignore_nulls, next_seq: 0, lists: Vec::new(), heap: 0 }
    }

    fn size(value: &Option<K::Value>) -> usize {
        size_of::<(i64, Option<K::Value>)>() + heap::<K>(value)
    }
}

impl<K: Kind, const LATEST: bool> Kernel for NByOffset<K, LATEST> {
    type Args = K::Column;
    type Out = Lists<K>;

    fn resize(&mut self, slots: usize) {
        self.lists.resize(slots, VecDeque::new());
    }

    fn reset(&mut self, slot: usize) {
        let list = std::mem::take(&mut self.lists[slot]);
        self.heap -= list.iter().map(|(_, value)| Self::size(value)).sum::<usize>();
    }

    fn bind(&self, args: &[ArrayRef]) -> K::Column {
        self.kind.column(&args[0])
    }

    fn apply(&mut self, slot: usize, args: &K::Column, row: usize) -> Result<(), String> {
        let seq = self.next_seq;
        self.next_seq += 1;
        let value = K::get(args, row);
        let list = &mut self.lists[slot];
        let full = list.len() == self.n;
        if (value.is_none() && self.ignore_nulls) || (full && !LATEST) {
            return Ok(());
        }
        let mut entry = None;
        if full && let Some((_, oldest)) = list.pop_front() {
            self.heap -= Self::size(&oldest);
            entry = oldest;
        }
        overwrite::<K>(&mut entry, value);
        self.heap += Self::size(&entry);
        list.push_back((seq, entry));
        Ok(())
    }

    fn merge(&mut self, into: usize, from: usize) -> Result<(), String> {
        let mut merged: Vec<_> = self.lists[into].iter().chain(&self.lists[from]).cloned().collect();
        merged.sort_by_key(|(seq, _)| *seq);
        merged.truncate(self.n);
        self.reset(into);
        self.heap += merged.iter().map(|(_, value)| Self::size(value)).sum::<usize>();
        self.lists[into] = merged.into();
        Ok(())
    }

    fn out(&self) -> Lists<K> {
        Lists::new(&self.kind)
    }

    fn emit(&self, slot: usize, out: &mut Lists<K>) {
        out.push(self.lists[slot].iter().map(|(_, value)| value.as_ref()));
    }

    fn finish(&self, out: Lists<K>) -> ArrayRef {
        out.finish(&self.kind)
    }

    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        let numbers = Native::<i64>::new(&SqlType::BigInt);
        let (mut seqs, mut values) = (Lists::new(&numbers), Lists::new(&self.kind));
        for &slot in slots {
            seqs.push(self.lists[slot as usize].iter().map(|(seq, _)| Some(seq)));
            self.emit(slot as usize, &mut values);
        }
        vec![seqs.finish(&numbers), values.finish(&self.kind)]
    }

    fn state_types(&self) -> Vec<SqlType> {
        vec![list_type(&SqlType::BigInt), list_type(self.kind.ty())]
    }

    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]) {
        let (seqs, values) = (states[0].as_list::<i32>(), states[1].as_list::<i32>());
        let numbers = seqs.values().as_primitive::<Int64Type>();
        let column = self.kind.column(values.values());
        for (row, &slot) in slots.iter().enumerate() {
            self.reset(slot as usize);
            let range = list_range(seqs, row).zip(list_range(values, row));
            let list: VecDeque<_> = range.map(|(s, v)| (numbers.value(s), K::get(&column, v).map(K::own))).collect();
            self.next_seq = self.next_seq.max(list.back().map_or(0, |(seq, _)| seq + 1));
            self.heap += list.iter().map(|(_, value)| Self::size(value)).sum::<usize>();
            self.lists[slot as usize] = list;
        }
    }

    fn memory(&self) -> usize {
        self.lists.capacity() * size_of::<VecDeque<(i64, Option<K::Value>)>>() + self.heap
    }
}

/// The value of the last row handled, be it taken in or away: what the reference does for columns beside aggregates.
pub(super) struct Carried<K: Kind>(pub ByOffset<K, true>);

impl<K: Kind> Kernel for Carried<K> {
    type Args = K::Column;
    type Out = K::Builder;

    fn resize(&mut self, slots: usize) {
        self.0.resize(slots);
    }

    fn reset(&mut self, slot: usize) {
        self.0.reset(slot);
    }

    fn bind(&self, args: &[ArrayRef]) -> K::Column {
        self.0.bind(args)
    }

    fn apply(&mut self, slot: usize, args: &K::Column, row: usize) -> Result<(), String> {
        self.0.apply(slot, args, row)
    }

    fn undo(&mut self, slot: usize, args: &K::Column, row: usize) -> Result<(), String> {
        self.0.apply(slot, args, row)
    }

    fn merge(&mut self, into: usize, from: usize) -> Result<(), String> {
        self.0.merge(into, from)
    }

    fn out(&self) -> K::Builder {
        self.0.out()
    }

    fn emit(&self, slot: usize, out: &mut K::Builder) {
        self.0.emit(slot, out);
    }

    fn finish(&self, out: K::Builder) -> ArrayRef {
        self.0.finish(out)
    }

    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        let mut states = self.0.states(slots);
        states.remove(0);
        states
    }

    fn state_types(&self) -> Vec<SqlType> {
        vec![self.0.kind.ty().clone()]
    }

    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]) {
        let none: ArrayRef = Arc::new(Int64Array::from_value(0, slots.len()));
        self.0.load(slots, &[none, states[0].clone()]);
    }

    fn memory(&self) -> usize {
        self.0.memory()
    }
}
