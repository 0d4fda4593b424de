//! STDDEV_SAMPLE, STDDEV_SAMP and CORRELATION: running moments of numbers.
//!
//! Formulas are the reference's (Youngs-Cramer; raw moments for the correlation), so that results agree to the last digit. The subtle
//! thing: STDDEV_SAMP is deprecated and gives the *variance*, and merges sessions of INT and BIGINT with integer division.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};

use super::Slot;
use super::grouped::Kernel;
use super::sum::{Averaged, Numbers, Summand};
use super::value::{native_array, native_values};
use crate::types::SqlType;

/// A native value with moments: sums are kept in the type itself.
pub(super) trait Moment: Averaged {
    /// `n·x − sum`, without losing digits of whole numbers.
    fn times_minus(n: i64, x: Self, sum: Self::Sum) -> f64;
    /// the type of sums: BIGINT for whole numbers
    type Sum: Averaged;
    /// As a summand.
    fn widen(self) -> Self::Sum;
    /// `(a/n − b/m)² · n·m/(n+m)` by integer division, for the deprecated merge; `None` for doubles.
    fn integer_merge(a: Self::Sum, n: i64, b: Self::Sum, m: i64) -> Option<f64>;
    /// SQL and Arrow type of sums
    const SUM_TYPE: (SqlType, DataType);
}

macro_rules! whole_moment {
    ($native:ty) => {
        impl Moment for $native {
            type Sum = i64;
            const SUM_TYPE: (SqlType, DataType) = (SqlType::BigInt, DataType::Int64);

            fn times_minus(n: i64, x: Self, sum: i64) -> f64 {
                (i128::from(n) * i128::from(x) - i128::from(sum)) as f64
            }

            fn widen(self) -> i64 {
                i64::from(self)
            }

            fn integer_merge(a: i64, n: i64, b: i64, m: i64) -> Option<f64> {
                let difference = (a / n).wrapping_sub(b / m) as f64;
                Some(difference * difference * (n.wrapping_mul(m) / (n + m)) as f64)
            }
        }
    };
}

whole_moment!(i32);
whole_moment!(i64);

impl Moment for f64 {
    type Sum = f64;
    const SUM_TYPE: (SqlType, DataType) = (SqlType::Double, DataType::Float64);

    fn times_minus(n: i64, x: Self, sum: f64) -> f64 {
        n as f64 * x - sum
    }

    fn widen(self) -> f64 {
        self
    }

    fn integer_merge(_: f64, _: i64, _: f64, _: i64) -> Option<f64> {
        None
    }
}

/// Sample standard deviation by slot; `VARIANCE`: without the square root (STDDEV_SAMP).
pub(super) struct Deviation<N: Moment, const VARIANCE: bool> {
    groups: Vec<Spread<N::Sum>>,
}

/// Count, sum, and sum of squared differences from the mean.
#[derive(Clone, Copy, Default)]
struct Spread<S> {
    count: i64,
    sum: S,
    m2: f64,
}

impl<N: Moment, const VARIANCE: bool> Deviation<N, VARIANCE> {
    /// No groups.
    pub fn new() -> Self {
        Self { groups: Vec::new() }
    }
}

fn square_over(n: i64, difference: f64) -> f64 {
    difference * difference / (n as f64 * (n - 1) as f64)
}

impl<N: Moment, const VARIANCE: bool> Kernel for Deviation<N, VARIANCE> {
    type Args = Numbers<N>;
    type Out = Vec<f64>;

    fn resize(&mut self, slots: usize) {
        self.groups.resize(slots, Spread::default());
    }

    fn reset(&mut self, slot: usize) {
        self.groups[slot] = Spread::default();
    }

    fn bind(&self, args: &[ArrayRef]) -> Numbers<N> {
        Numbers::new(&args[0])
    }

    fn apply(&mut self, slot: usize, args: &Numbers<N>, row: usize) -> Result<(), String> {
        let Some(x) = args.get(row) else { return Ok(()) };
        let group = &mut self.groups[slot];
        group.count += 1;
        group.sum = group.sum.plus(x.widen(), N::Sum::default()).unwrap_or_default();
        if group.count > 1 {
            group.m2 += square_over(group.count, N::times_minus(group.count, x, group.sum));
        }
        Ok(())
    }

    fn undo(&mut self, slot: usize, args: &Numbers<N>, row: usize) -> Result<(), String> {
        let Some(x) = args.get(row) else { return Ok(()) };
        let group = &mut self.groups[slot];
        if group.count > 1 {
            // rounding must not make a sum of squares negative
            group.m2 = (group.m2 - square_over(group.count, N::times_minus(group.count, x, group.sum))).max(0.0);
        } else {
            group.m2 = 0.0;
        }
        group.count -= 1;
        group.sum = group.sum.minus(x.widen()).unwrap_or_default();
        Ok(())
    }

    fn merge(&mut self, into: usize, from: usize) -> Result<(), String> {
        let (a, b) = (self.groups[into], self.groups[from]);
        if a.count == 0 || b.count == 0 {
            self.groups[into] = if a.count == 0 { b } else { a };
            return Ok(());
        }
        let (n, m) = (a.count as f64, b.count as f64);
        let difference = a.sum.to_double() / n - b.sum.to_double() / m;
        let exact = difference * difference * (n * m / (n + m));
        let integer = if VARIANCE { N::integer_merge(a.sum, a.count, b.sum, b.count) } else { None };
        self.groups[into] = Spread {
            count: a.count + b.count,
            sum: a.sum.plus(b.sum, N::Sum::default()).unwrap_or_default(),
            m2: a.m2 + b.m2 + integer.unwrap_or(exact),
        };
        Ok(())
    }

    fn out(&self) -> Vec<f64> {
        Vec::new()
    }

    fn emit(&self, slot: usize, out: &mut Vec<f64>) {
        let group = &self.groups[slot];
        if group.count < 2 {
            return out.push(0.0);
        }
        let variance = group.m2 / (group.count - 1) as f64;
        out.push(if VARIANCE { variance } else { variance.sqrt() });
    }

    fn finish(&self, out: Vec<f64>) -> ArrayRef {
        Arc::new(Float64Array::from(out))
    }

    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        let groups = || slots.iter().map(|&slot| &self.groups[slot as usize]);
        vec![
            Arc::new(Int64Array::from_iter_values(groups().map(|g| g.count))),
            native_array(&N::SUM_TYPE.1, groups().map(|g| g.sum).collect(), None),
            Arc::new(Float64Array::from_iter_values(groups().map(|g| g.m2))),
        ]
    }

    fn state_types(&self) -> Vec<SqlType> {
        vec![SqlType::BigInt, N::SUM_TYPE.0, SqlType::Double]
    }

    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]) {
        let (counts, m2s) = (states[0].as_primitive::<Int64Type>(), states[2].as_primitive::<Float64Type>());
        let sums = native_values::<N::Sum>(&states[1]);
        for (row, &slot) in slots.iter().enumerate() {
            let group = Spread { count: counts.value(row), sum: sums[row], m2: m2s.value(row) };
            self.groups[slot as usize] = group;
        }
    }

    fn memory(&self) -> usize {
        self.groups.capacity() * size_of::<Spread<N::Sum>>()
    }
}

/// How many sums a correlation keeps: Σx, Σy, Σx², Σy², Σxy.
const SUMS: usize = 5;

/// Pearson's correlation by slot, from raw moments.
pub(super) struct Correlation<N> {
    groups: Vec<(i64, [f64; SUMS])>,
    native: std::marker::PhantomData<N>,
}

impl<N> Correlation<N> {
    /// No groups.
    pub fn new() -> Self {
        Self { groups: Vec::new(), native: std::marker::PhantomData }
    }
}

impl<N: Averaged> Correlation<N> {
    fn step(&mut self, slot: usize, (xs, ys): &(Numbers<N>, Numbers<N>), row: usize, sign: f64) {
        if let (Some(x), Some(y)) = (xs.get(row), ys.get(row)) {
            let (x, y) = (x.to_double(), y.to_double());
            let (count, sums) = &mut self.groups[slot];
            *count += sign as i64;
            sums.iter_mut().zip([x, y, x * x, y * y, x * y]).for_each(|(sum, term)| *sum += sign * term);
        }
    }
}

impl<N: Averaged> Kernel for Correlation<N> {
    type Args = (Numbers<N>, Numbers<N>);
    type Out = Vec<f64>;

    fn resize(&mut self, slots: usize) {
        self.groups.resize(slots, Default::default());
    }

    fn reset(&mut self, slot: usize) {
        self.groups[slot] = Default::default();
    }

    fn bind(&self, args: &[ArrayRef]) -> Self::Args {
        (Numbers::new(&args[0]), Numbers::new(&args[1]))
    }

    fn apply(&mut self, slot: usize, args: &Self::Args, row: usize) -> Result<(), String> {
        self.step(slot, args, row, 1.0);
        Ok(())
    }

    fn undo(&mut self, slot: usize, args: &Self::Args, row: usize) -> Result<(), String> {
        self.step(slot, args, row, -1.0);
        Ok(())
    }

    fn merge(&mut self, into: usize, from: usize) -> Result<(), String> {
        let (count, sums) = self.groups[from];
        let group = &mut self.groups[into];
        group.0 += count;
        group.1.iter_mut().zip(sums).for_each(|(sum, other)| *sum += other);
        Ok(())
    }

    fn out(&self) -> Vec<f64> {
        Vec::new()
    }

    fn emit(&self, slot: usize, out: &mut Vec<f64>) {
        let (count, [x, y, xx, yy, xy]) = self.groups[slot];
        let n = count as f64;
        let spread = (n * xx - x * x).sqrt() * (n * yy - y * y).sqrt();
        out.push(if count < 2 { f64::NAN } else { (n * xy - x * y) / spread });
    }

    fn finish(&self, out: Vec<f64>) -> ArrayRef {
        Arc::new(Float64Array::from(out))
    }

    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        let groups = || slots.iter().map(|&slot| &self.groups[slot as usize]);
        let mut states: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(groups().map(|g| g.0)))];
        states
            .extend((0..SUMS).map(|i| Arc::new(Float64Array::from_iter_values(groups().map(|g| g.1[i]))) as ArrayRef));
        states
    }

    fn state_types(&self) -> Vec<SqlType> {
        let mut types = vec![SqlType::BigInt];
        types.extend(std::iter::repeat_n(SqlType::Double, SUMS));
        types
    }

    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]) {
        let counts = states[0].as_primitive::<Int64Type>();
        for (row, &slot) in slots.iter().enumerate() {
            let sums = std::array::from_fn(|i| states[i + 1].as_primitive::<Float64Type>().value(row));
            self.groups[slot as usize] = (counts.value(row), sums);
        }
    }

    fn memory(&self) -> usize {
        self.groups.capacity() * size_of::<(i64, [f64; SUMS])>()
    }
}
