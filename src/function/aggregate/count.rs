//! COUNT: rows whose argument is not NULL, or all rows.
//!
//! Not COUNT_DISTINCT. The subtle thing: `COUNT(*)` has no argument column, so it counts rows that are all NULL too.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Int64Type;

use super::Slot;
use super::grouped::Kernel;
use crate::types::SqlType;

/// Counts by slot.
#[derive(Default)]
pub(super) struct Count {
    counts: Vec<i64>,
}

impl Kernel for Count {
    type Args = Option<NullBuffer>;
    type Out = Vec<i64>;

    fn resize(&mut self, slots: usize) {
        self.counts.resize(slots, 0);
    }

    fn reset(&mut self, slot: usize) {
        self.counts[slot] = 0;
    }

    fn bind(&self, args: &[ArrayRef]) -> Self::Args {
        args.first().and_then(|arg| arg.logical_nulls())
    }

    fn apply(&mut self, slot: usize, args: &Self::Args, row: usize) -> Result<(), String> {
        let counted = args.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        self.counts[slot] += i64::from(counted);
        Ok(())
    }

    fn undo(&mut self, slot: usize, args: &Self::Args, row: usize) -> Result<(), String> {
        let counted = args.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        self.counts[slot] -= i64::from(counted);
        Ok(())
    }

    fn merge(&mut self, into: usize, from: usize) -> Result<(), String> {
        self.counts[into] += self.counts[from];
        Ok(())
    }

    fn out(&self) -> Vec<i64> {
        Vec::new()
    }

    fn emit(&self, slot: usize, out: &mut Vec<i64>) {
        out.push(self.counts[slot]);
    }

    fn finish(&self, out: Vec<i64>) -> ArrayRef {
        Arc::new(Int64Array::from(out))
    }

    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        vec![Arc::new(Int64Array::from_iter_values(slots.iter().map(|&s| self.counts[s as usize])))]
    }

    fn state_types(&self) -> Vec<SqlType> {
        vec![SqlType::BigInt]
    }

    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]) {
        let counts = states[0].as_primitive::<Int64Type>();
        for (&slot, &count) in slots.iter().zip(counts.values()) {
            self.counts[slot as usize] = count;
        }
    }

    fn memory(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }
}
