//! SUM, SUM_LIST and AVG: running sums of numbers.
//!
//! The subtle thing: sums of INT and BIGINT wrap silently (also inside AVG), sums of DECIMAL that outgrow their precision stop the query.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, DataType, Int64Type, i256};

use super::Slot;
use super::grouped::Kernel;
use super::value::{list_range, native_array, native_values};
use crate::types::SqlType;

/// A native value that can be summed.
pub(super) trait Summand: ArrowNativeType + Default + Send {
    /// `self + other`; `limit` is what the sum must stay below in absolute value (DECIMAL).
    fn plus(self, other: Self, limit: Self) -> Option<Self>;
    /// `self − other`.
    fn minus(self, other: Self) -> Option<Self>;
    /// `10^precision` for decimals; unused otherwise.
    fn limit(precision: u8) -> Self;
}

/// A native value that can be averaged.
pub(super) trait Averaged: Summand {
    /// As a double.
    fn to_double(self) -> f64;
}

macro_rules! wrapping_summand {
    ($native:ty) => {
        impl Summand for $native {
            #[inline]
            fn plus(self, other: Self, _: Self) -> Option<Self> {
                Some(self.wrapping_add(other))
            }

            #[inline]
            fn minus(self, other: Self) -> Option<Self> {
                Some(self.wrapping_sub(other))
            }

            fn limit(_: u8) -> Self {
                0
            }
        }

        impl Averaged for $native {
            fn to_double(self) -> f64 {
                self as f64
            }
        }
    };
}

wrapping_summand!(i32);
wrapping_summand!(i64);

impl Summand for f64 {
    #[inline]
    fn plus(self, other: Self, _: Self) -> Option<Self> {
        Some(self + other)
    }

    #[inline]
    fn minus(self, other: Self) -> Option<Self> {
        Some(self - other)
    }

    fn limit(_: u8) -> Self {
        0.0
    }
}

impl Averaged for f64 {
    fn to_double(self) -> f64 {
        self
    }
}

impl Summand for i128 {
    fn plus(self, other: Self, limit: Self) -> Option<Self> {
        self.checked_add(other).filter(|sum| -limit < *sum && *sum < limit)
    }

    fn minus(self, other: Self) -> Option<Self> {
        self.checked_sub(other)
    }

    fn limit(precision: u8) -> Self {
        10_i128.pow(u32::from(precision))
    }
}

impl Summand for i256 {
    fn plus(self, other: Self, limit: Self) -> Option<Self> {
        self.checked_add(other).filter(|sum| limit.wrapping_neg() < *sum && *sum < limit)
    }

    fn minus(self, other: Self) -> Option<Self> {
        self.checked_sub(other)
    }

    fn limit(precision: u8) -> Self {
        i256::from_i128(10).wrapping_pow(u32::from(precision))
    }
}

const OVERFLOW: &str = "numeric field overflow: a SUM of DECIMAL has more digits than its type; \
                        CAST the argument to a DECIMAL of higher precision";

/// A numeric column and its NULLs.
pub(super) struct Numbers<N: ArrowNativeType> {
    values: ScalarBuffer<N>,
    nulls: Option<NullBuffer>,
}

impl<N: ArrowNativeType> Numbers<N> {
    /// Views a primitive column.
    pub fn new(array: &ArrayRef) -> Self {
        Self { values: native_values(array), nulls: array.nulls().cloned() }
    }

    /// The number of a row, unless NULL.
    #[inline]
    pub fn get(&self, row: usize) -> Option<N> {
        match &self.nulls {
            Some(nulls) if nulls.is_null(row) => None,
            _ => Some(self.values[row]),
        }
    }
}

/// SUM by slot.
pub(super) struct Sum<N> {
    ty: SqlType,
    arrow: DataType,
    limit: N,
    sums: Vec<N>,
}

impl<N: Summand> Sum<N> {
    /// SUM of values of `ty`.
    pub fn new(ty: &SqlType) -> Self {
        let precision = if let SqlType::Decimal(precision, _) = ty { *precision } else { 0 };
        Self { ty: ty.clone(), arrow: ty.to_arrow(), limit: N::limit(precision), sums: Vec::new() }
    }

    #[inline]
    fn add(&mut self, slot: usize, value: N) -> Result<(), String> {
        let sum = &mut self.sums[slot];
        *sum = sum.plus(value, self.limit).ok_or(OVERFLOW)?;
        Ok(())
    }

    #[inline]
    fn subtract(&mut self, slot: usize, value: N) -> Result<(), String> {
        let sum = &mut self.sums[slot];
        *sum = sum.minus(value).ok_or(OVERFLOW)?;
        Ok(())
    }
}

/// The parts of SUM and SUM_LIST that are the same: both keep one number a slot.
macro_rules! sum_kernel {
    () => {
        type Out = Vec<N>;

        fn resize(&mut self, slots: usize) {
            self.sum().sums.resize(slots, N::default());
        }

        fn reset(&mut self, slot: usize) {
            self.sum().sums[slot] = N::default();
        }

        fn merge(&mut self, into: usize, from: usize) -> Result<(), String> {
            let other = self.sum().sums[from];
            self.sum().add(into, other)
        }

        fn out(&self) -> Vec<N> {
            Vec::new()
        }

        fn emit(&self, slot: usize, out: &mut Vec<N>) {
            out.push(self.as_sum().sums[slot]);
        }

        fn finish(&self, out: Vec<N>) -> ArrayRef {
            native_array(&self.as_sum().arrow, out, None)
        }

        fn states(&self, slots: &[Slot]) -> Vec<ArrayRef> {
            let sum = self.as_sum();
            vec![native_array(&sum.arrow, slots.iter().map(|&s| sum.sums[s as usize]).collect(), None)]
        }

        fn state_types(&self) -> Vec<SqlType> {
            vec![self.as_sum().ty.clone()]
        }

        fn load(&mut self, slots: &[Slot], states: &[ArrayRef]) {
            let sums = native_values::<N>(&states[0]);
            for (&slot, &sum) in slots.iter().zip(sums.iter()) {
                self.sum().sums[slot as usize] = sum;
            }
        }

        fn memory(&self) -> usize {
            self.as_sum().sums.capacity() * size_of::<N>()
        }
    };
}

impl<N: Summand> Sum<N> {
    fn sum(&mut self) -> &mut Self {
        self
    }

    fn as_sum(&self) -> &Self {
        self
    }
}

impl<N: Summand> Kernel for Sum<N> {
    type Args = Numbers<N>;

    fn bind(&self, args: &[ArrayRef]) -> Numbers<N> {
        Numbers::new(&args[0])
    }

    #[inline]
    fn apply(&mut self, slot: usize, args: &Numbers<N>, row: usize) -> Result<(), String> {
        args.get(row).map_or(Ok(()), |value| self.add(slot, value))
    }

    fn undo(&mut self, slot: usize, args: &Numbers<N>, row: usize) -> Result<(), String> {
        args.get(row).map_or(Ok(()), |value| self.subtract(slot, value))
    }

    sum_kernel!();
}

/// SUM_LIST by slot: the elements of all lists.
pub(super) struct SumList<N>(pub Sum<N>);

impl<N: Summand> SumList<N> {
    fn sum(&mut self) -> &mut Sum<N> {
        &mut self.0
    }

    fn as_sum(&self) -> &Sum<N> {
        &self.0
    }
}

impl<N: Summand> Kernel for SumList<N> {
    type Args = (ListArray, Numbers<N>);

    fn bind(&self, args: &[ArrayRef]) -> Self::Args {
        let list = args[0].as_list::<i32>().clone();
        let numbers = Numbers::new(list.values());
        (list, numbers)
    }

    fn apply(&mut self, slot: usize, (list, numbers): &Self::Args, row: usize) -> Result<(), String> {
        list_range(list, row).filter_map(|i| numbers.get(i)).try_for_each(|value| self.0.add(slot, value))
    }

    fn undo(&mut self, slot: usize, (list, numbers): &Self::Args, row: usize) -> Result<(), String> {
        list_range(list, row).filter_map(|i| numbers.get(i)).try_for_each(|value| self.0.subtract(slot, value))
    }

    sum_kernel!();
}

/// AVG by slot: a sum and how many values are in it.
pub(super) struct Average<N> {
    sum: Sum<N>,
    counts: Vec<i64>,
}

impl<N: Summand> Average<N> {
    /// AVG of values of `ty` (not DECIMAL).
    pub fn new(ty: &SqlType) -> Self {
        Self { sum: Sum::new(ty), counts: Vec::new() }
    }
}

impl<N: Averaged> Kernel for Average<N> {
    type Args = Numbers<N>;
    type Out = Vec<f64>;

    fn resize(&mut self, slots: usize) {
        self.sum.resize(slots);
        self.counts.resize(slots, 0);
    }

    fn reset(&mut self, slot: usize) {
        self.sum.reset(slot);
        self.counts[slot] = 0;
    }

    fn bind(&self, args: &[ArrayRef]) -> Numbers<N> {
        Numbers::new(&args[0])
    }

    fn apply(&mut self, slot: usize, args: &Numbers<N>, row: usize) -> Result<(), String> {
        let Some(value) = args.get(row) else { return Ok(()) };
        self.counts[slot] += 1;
        self.sum.add(slot, value)
    }

    fn undo(&mut self, slot: usize, args: &Numbers<N>, row: usize) -> Result<(), String> {
        let Some(value) = args.get(row) else { return Ok(()) };
        self.counts[slot] -= 1;
        self.sum.subtract(slot, value)
    }

    fn merge(&mut self, into: usize, from: usize) -> Result<(), String> {
        self.counts[into] += self.counts[from];
        self.sum.merge(into, from)
    }

    fn out(&self) -> Vec<f64> {
        Vec::new()
    }

    fn emit(&self, slot: usize, out: &mut Vec<f64>) {
        let count = self.counts[slot];
        out.push(if count == 0 { 0.0 } else { self.sum.sums[slot].to_double() / count as f64 });
    }

    fn finish(&self, out: Vec<f64>) -> ArrayRef {
        Arc::new(Float64Array::from(out))
    }

    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        let mut states = self.sum.states(slots);
        states.push(Arc::new(Int64Array::from_iter_values(slots.iter().map(|&s| self.counts[s as usize]))));
        states
    }

    fn state_types(&self) -> Vec<SqlType> {
        vec![self.sum.ty.clone(), SqlType::BigInt]
    }

    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]) {
        self.sum.load(slots, states);
        let counts = states[1].as_primitive::<Int64Type>();
        for (&slot, &count) in slots.iter().zip(counts.values()) {
            self.counts[slot as usize] = count;
        }
    }

    fn memory(&self) -> usize {
        self.sum.memory() + self.counts.capacity() * size_of::<i64>()
    }
}
