//! MIN and MAX of any ordered type.
//!
//! Cannot take rows away. The subtle thing: the order is the dialect's, that of the argument's kind (`value.rs`).

use std::cmp::Ordering;

use arrow::array::ArrayRef;

use super::Slot;
use super::grouped::Kernel;
use super::value::Kind;
use crate::types::SqlType;

/// MAX (or MIN) by slot; `None` until a value came.
pub(super) struct Extreme<K: Kind, const MAX: bool> {
    kind: K,
    values: Vec<Option<K::Value>>,
    heap: usize,
}

impl<K: Kind, const MAX: bool> Extreme<K, MAX> {
    /// The extreme of values of `kind`.
    pub fn new(kind: K) -> Self {
        Self { kind, values: Vec::new(), heap: 0 }
    }

    #[inline]
    fn offer(&mut self, slot: usize, value: K::Ref<'_>) {
        let wins = if MAX { Ordering::Greater } else { Ordering::Less };
        match &mut self.values[slot] {
            Some(best) => {
                if K::compare(value, K::view(best)) == wins {
                    self.heap -= K::heap(best);
                    K::assign(best, value);
                    self.heap += K::heap(best);
                }
            }
            empty => {
                let value = K::own(value);
                self.heap += K::heap(&value);
                *empty = Some(value);
            }
        }
    }
}

impl<K: Kind, const MAX: bool> Kernel for Extreme<K, MAX> {
    type Args = K::Column;
    type Out = K::Builder;

    fn resize(&mut self, slots: usize) {
        self.values.resize(slots, None);
    }

    fn reset(&mut self, slot: usize) {
        self.heap -= self.values[slot].take().as_ref().map_or(0, K::heap);
    }

    fn bind(&self, args: &[ArrayRef]) -> K::Column {
        self.kind.column(&args[0])
    }

    #[inline]
    fn apply(&mut self, slot: usize, args: &K::Column, row: usize) -> Result<(), String> {
        if let Some(value) = K::get(args, row) {
            self.offer(slot, value);
        }
        Ok(())
    }

    fn merge(&mut self, into: usize, from: usize) -> Result<(), String> {
        if let Some(value) = self.values[from].clone() {
            self.offer(into, K::view(&value));
        }
        Ok(())
    }

    fn out(&self) -> K::Builder {
        self.kind.builder()
    }

    fn emit(&self, slot: usize, out: &mut K::Builder) {
        K::push(out, self.values[slot].as_ref().map(K::view));
    }

    fn finish(&self, out: K::Builder) -> ArrayRef {
        self.kind.finish(out)
    }

    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        let mut out = self.kind.builder();
        slots.iter().for_each(|&slot| self.emit(slot as usize, &mut out));
        vec![self.kind.finish(out)]
    }

    fn state_types(&self) -> Vec<SqlType> {
        vec![self.kind.ty().clone()]
    }

    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]) {
        let column = self.kind.column(&states[0]);
        for (row, &slot) in slots.iter().enumerate() {
            self.reset(slot as usize);
            let value = K::get(&column, row).map(K::own);
            self.heap += value.as_ref().map_or(0, K::heap);
            self.values[slot as usize] = value;
        }
    }

    fn memory(&self) -> usize {
        self.values.capacity() * size_of::<Option<K::Value>>() + self.heap
    }
}
