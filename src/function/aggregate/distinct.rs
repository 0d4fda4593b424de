//! COUNT_DISTINCT: a HyperLogLog of 2^14 registers a group (about 0.8 % standard error; exact to the unit for small sets).
//!
//! Registers hold the longest run of leading zeros, plus one, of the hashes that fell to them; the estimate is Ertl's, which needs no
//! bias table. The subtle thing: hash and state bytes are kept on disk, so both are fixed for ever: MurmurHash64A over the value's
//! canonical bytes ([`write_value`]), and the state format at [`Sketch::to_bytes`].

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array};
use arrow::datatypes::DataType;

use super::Slot;
use super::grouped::Kernel;
use super::value::list_range;
use crate::types::SqlType;

/// log2 of the number of registers.
const PRECISION: u32 = 14;
/// Number of registers.
const REGISTERS: usize = 1 << PRECISION;
/// Bits of a hash that are not the register number; ranks go from 1 to one more.
const RANK_BITS: usize = 64 - PRECISION as usize;
/// Sketches with more non-zero registers than this are kept whole (a quarter of the memory of a whole one).
const SPARSE_MAX: usize = REGISTERS / 16;

/// One group's registers.
#[derive(Clone)]
enum Sketch {
    /// `register << 8 | rank`, sorted, ranks never 0
    Sparse(Vec<u32>),
    /// every register's rank
    Dense(Box<[u8]>),
}

impl Default for Sketch {
    fn default() -> Self {
        Self::Sparse(Vec::new())
    }
}

impl Sketch {
    fn add(&mut self, hash: u64) {
        let register = (hash >> RANK_BITS) as u32;
        // the guard bit ends the run of zeros at RANK_BITS
        let rank = ((hash << PRECISION) | (1 << (PRECISION - 1))).leading_zeros() + 1;
        self.raise(register, rank);
    }

    fn raise(&mut self, register: u32, rank: u32) {
        match self {
            Self::Dense(ranks) => {
                let held = &mut ranks[register as usize];
                *held = (*held).max(rank as u8);
            }
            Self::Sparse(entries) => {
                let at = entries.partition_point(|entry| entry >> 8 < register);
                match entries.get_mut(at) {
                    Some(entry) if *entry >> 8 == register => *entry = (*entry).max(register << 8 | rank),
                    _ => entries.insert(at, register << 8 | rank),
                }
                if entries.len() > SPARSE_MAX {
                    self.densify();
                }
            }
        }
    }

    fn densify(&mut self) {
        if let Self::Sparse(entries) = self {
            let mut ranks = vec![0; REGISTERS].into_boxed_slice();
            entries.iter().for_each(|entry| ranks[(entry >> 8) as usize] = *entry as u8);
            *self = Self::Dense(ranks);
        }
    }

    fn merge(&mut self, other: &Self) {
        match other {
            Self::Sparse(entries) => entries.iter().for_each(|entry| self.raise(entry >> 8, entry & 0xFF)),
            Self::Dense(theirs) => {
                self.densify();
                if let Self::Dense(ours) = self {
                    ours.iter_mut().zip(theirs).for_each(|(a, b)| *a = (*a).max(*b));
                }
            }
        }
    }

    /// How many distinct values were added, about.
    fn estimate(&self) -> i64 {
        let mut counts = [0_u32; RANK_BITS + 2];
        match self {
            Self::Dense(ranks) => ranks.iter().for_each(|&rank| counts[rank as usize] += 1),
            Self::Sparse(entries) => {
                counts[0] = (REGISTERS - entries.len()) as u32;
                entries.iter().for_each(|entry| counts[(entry & 0xFF) as usize] += 1);
            }
        }
        let m = REGISTERS as f64;
        let mut z = m * tau(1.0 - f64::from(counts[RANK_BITS + 1]) / m);
        for &count in counts[1..=RANK_BITS].iter().rev() {
            z = 0.5 * (z + f64::from(count));
        }
        z += m * sigma(f64::from(counts[0]) / m);
        (m * m / (2.0 * std::f64::consts::LN_2 * z)).round() as i64
    }

    /// Version 0: sparse entries as u32 little endian. Version 1: one byte a register.
    fn to_bytes(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sparse(entries) => {
                out.push(0);
                entries.iter().for_each(|entry| out.extend_from_slice(&entry.to_le_bytes()));
            }
            Self::Dense(ranks) => {
                out.push(1);
                out.extend_from_slice(ranks);
            }
        }
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        match bytes.split_first() {
            Some((1, ranks)) if ranks.len() == REGISTERS => Self::Dense(ranks.into()),
            Some((0, entries)) => Self::Sparse(
                entries
                    .chunks_exact(4)
                    .map(|entry| u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]))
                    .collect(),
            ),
            _ => Self::default(),
        }
    }

    fn heap(&self) -> usize {
        match self {
            Self::Sparse(entries) => entries.capacity() * size_of::<u32>(),
            Self::Dense(_) => REGISTERS,
        }
    }
}

/// Ertl's correction for registers that are zero.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// Ertl's correction for registers that are at their end.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// MurmurHash64A with seed 0.
fn murmur64(bytes: &[u8]) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mut hash = (bytes.len() as u64).wrapping_mul(M);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 47)).wrapping_mul(M);
        hash = (hash ^ k).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut word = [0; 8];
        word[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 47)).wrapping_mul(M);
    hash ^ (hash >> 47)
}

/// The canonical bytes of a value: fixed-width values little endian, text and bytes with their length (u32), lists and maps with their
/// number of elements (u32), fields one after the other; nested values with a byte before that is 0 for NULL, else 1.
fn write_value(array: &ArrayRef, row: usize, nested: bool, out: &mut Vec<u8>) {
    if nested {
        out.push(u8::from(array.is_valid(row)));
        if array.is_null(row) {
            return;
        }
    }
    let write_bytes = |bytes: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    match array.data_type() {
        DataType::Boolean => out.push(u8::from(array.as_boolean().value(row))),
        DataType::Utf8 => write_bytes(array.as_string::<i32>().value(row).as_bytes(), out),
        DataType::Binary => write_bytes(array.as_binary::<i32>().value(row), out),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let range = list_range(list, row);
            out.extend_from_slice(&(range.len() as u32).to_le_bytes());
            range.for_each(|at| write_value(list.values(), at, true, out));
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let entries = map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
            out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
            for at in entries {
                write_value(map.keys(), at, true, out);
                write_value(map.values(), at, true, out);
            }
        }
        DataType::Struct(_) => array.as_struct().columns().iter().for_each(|field| write_value(field, row, true, out)),
        _ => {
            let data = array.to_data();
            let width = data.data_type().primitive_width().expect("what is not nested has a fixed width");
            let from = (data.offset() + row) * width;
            out.extend_from_slice(&data.buffers()[0].as_slice()[from..from + width]);
        }
    }
}

/// COUNT_DISTINCT by slot.
#[derive(Default)]
pub(super) struct CountDistinct {
    sketches: Vec<Sketch>,
    heap: usize,
}

impl Kernel for CountDistinct {
    /// the hash of each row's value, `None` for NULL
    type Args = Vec<Option<u64>>;
    type Out = Vec<i64>;

    fn resize(&mut self, slots: usize) {
        self.sketches.resize(slots, Sketch::default());
    }

    fn reset(&mut self, slot: usize) {
        self.heap -= std::mem::take(&mut self.sketches[slot]).heap();
    }

    fn bind(&self, args: &[ArrayRef]) -> Self::Args {
        let array = &args[0];
        if let Some(width) = array.data_type().primitive_width() {
            let data = array.to_data();
            let values = data.buffers()[0].as_slice()[data.offset() * width..].chunks_exact(width);
            return values.take(array.len()).enumerate().map(|(i, v)| array.is_valid(i).then(|| murmur64(v))).collect();
        }
        let mut bytes = Vec::new();
        let mut hash = |row| {
            bytes.clear();
            write_value(array, row, false, &mut bytes);
            murmur64(&bytes)
        };
        (0..array.len()).map(|row| array.is_valid(row).then(|| hash(row))).collect()
    }

    fn apply(&mut self, slot: usize, args: &Self::Args, row: usize) -> Result<(), String> {
        if let Some(hash) = args[row] {
            let sketch = &mut self.sketches[slot];
            self.heap -= sketch.heap();
            sketch.add(hash);
            self.heap += sketch.heap();
        }
        Ok(())
    }

    fn merge(&mut self, into: usize, from: usize) -> Result<(), String> {
        let other = self.sketches[from].clone();
        self.heap -= self.sketches[into].heap();
        self.sketches[into].merge(&other);
        self.heap += self.sketches[into].heap();
        Ok(())
    }

    fn out(&self) -> Vec<i64> {
        Vec::new()
    }

    fn emit(&self, slot: usize, out: &mut Vec<i64>) {
        out.push(self.sketches[slot].estimate());
    }

    fn finish(&self, out: Vec<i64>) -> ArrayRef {
        Arc::new(Int64Array::from(out))
    }

    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        let bytes = slots.iter().map(|&slot| {
            let mut bytes = Vec::new();
            self.sketches[slot as usize].to_bytes(&mut bytes);
            bytes
        });
        vec![Arc::new(BinaryArray::from_iter_values(bytes))]
    }

    fn state_types(&self) -> Vec<SqlType> {
        vec![SqlType::Bytes]
    }

    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]) {
        let states = states[0].as_binary::<i32>();
        for (row, &slot) in slots.iter().enumerate() {
            self.reset(slot as usize);
            let sketch = Sketch::from_bytes(states.value(row));
            self.heap += sketch.heap();
            self.sketches[slot as usize] = sketch;
        }
    }

    fn memory(&self) -> usize {
        self.sketches.capacity() * size_of::<Sketch>() + self.heap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(values: std::ops::Range<u64>) -> Sketch {
        let mut sketch = Sketch::default();
        values.for_each(|value| sketch.add(murmur64(&value.to_le_bytes())));
        sketch
    }

    #[test]
    fn small_sets_are_counted_exactly() {
        for n in [0, 1, 2, 3, 10, 50] {
            assert_eq!(sketch(0..n).estimate(), n as i64);
        }
    }

    #[test]
    fn large_sets_are_within_three_standard_errors() {
        for n in [1_000, 5_000, 20_000, 100_000, 1_000_000] {
            let estimate = sketch(0..n).estimate() as f64;
            let error = (estimate - n as f64).abs() / n as f64;
            assert!(error < 3.0 * 1.04 / (REGISTERS as f64).sqrt(), "{n}: {estimate}");
        }
    }

    #[test]
    fn merging_equals_adding_and_bytes_read_back() {
        for (a, b) in [(0..10, 5..20), (0..10, 0..9000), (0..9000, 100..200), (0..9000, 8000..20000)] {
            let mut merged = sketch(a.clone());
            merged.merge(&sketch(b.clone()));
            let whole = sketch(a.start.min(b.start)..a.end.max(b.end));
            assert_eq!(merged.estimate(), whole.estimate());
            let mut bytes = Vec::new();
            merged.to_bytes(&mut bytes);
            assert_eq!(Sketch::from_bytes(&bytes).estimate(), whole.estimate());
        }
    }

    /// Values of MurmurHash64A with seed 0 from an implementation in another language.
    #[test]
    fn the_hash_never_changes() {
        assert_eq!(murmur64(b"abcdefgh"), 0xafdb0257ff41aa98);
        assert_eq!(murmur64(b"hello, world"), 0x9659ad0699a8465f);
    }
}
