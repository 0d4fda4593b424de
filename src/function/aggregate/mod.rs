//! Aggregate functions: one accumulator object serves all groups of a task, its state in columns by slot.
//!
//! Knows slots, not keys: `operator::aggregate` maps keys to slots and stores states. The subtle thing: an accumulator handles rows
//! strictly one at a time in order, so that the value after each row can be given out; vectors only save the calls.

mod catalogue;
mod collect;
mod count;
mod distinct;
mod extreme;
pub mod finite;
mod grouped;
mod histogram;
mod moments;
mod offset;
mod resolve;
mod sum;
mod topk;
mod value;

#[cfg(test)]
mod reference;

use arrow::array::ArrayRef;
use datafusion::scalar::ScalarValue;

use super::FunctionLimits;
use crate::types::SqlType;

pub use catalogue::{AGGREGATES, AggregateDoc, aggregate_doc};
pub use resolve::{accumulator, carried, resolve};

/// Index of a group's state in an accumulator.
pub type Slot = u32;

/// One row for one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// the group
    pub slot: Slot,
    /// row in the argument arrays
    pub row: u32,
    /// true: take the row's old value away (arguments are then read from the old arrays)
    pub undo: bool,
}

/// After which updates a group's value is wanted.
#[derive(Clone, Copy, Debug)]
pub enum Emit<'a> {
    /// after each
    All,
    /// after none
    None,
    /// after those that are marked
    Some(&'a [bool]),
}

/// States of one aggregate call, for all groups of a task.
pub trait Accumulator: Send {
    /// Makes room for slots `0 .. slots`; new ones hold the initial state.
    fn resize(&mut self, slots: usize);

    /// Puts a slot back to the initial state (group gone from memory, slot to be used again).
    fn reset(&mut self, slot: Slot);

    /// Applies `updates` in order. `args` are the argument columns, `old_args` those of old rows (tables). After update `i`, if `emit` says
    /// so, the group's value is appended to the values returned by the next `take_values`.
    ///
    /// # Errors
    /// The reason why the query must stop (overflow of a SUM of DECIMAL).
    fn update(
        &mut self,
        updates: &[Update],
        args: &[ArrayRef],
        old_args: &[ArrayRef],
        emit: Emit<'_>,
    ) -> Result<(), String>;

    /// The values noted by `update`, in order; resets the list.
    fn take_values(&mut self) -> ArrayRef;

    /// The current values of these slots.
    fn values(&self, slots: &[Slot]) -> ArrayRef;

    /// The states of these slots as columns of [`Self::state_types`].
    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef>;

    /// SQL types of the state columns.
    fn state_types(&self) -> Vec<SqlType>;

    /// Loads states: row `i` of `states` into `slots[i]`.
    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]);

    /// Merges the state of `from` into `into`, `from` being the later session's.
    ///
    /// # Errors
    /// As [`Self::update`].
    fn merge(&mut self, into: Slot, from: Slot) -> Result<(), String>;

    /// Bytes held, about.
    fn memory(&self) -> usize;
}

/// A function of `function/aggregate`, resolved for argument types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateSignature {
    /// result type
    pub ty: SqlType,
    /// how many leading arguments are columns; the rest are literals
    pub column_args: usize,
    /// true if it can undo, so may be used on tables
    pub table_safe: bool,
    /// true if its state is more than one value, so that ksqlDB needs a format that holds structures
    pub composite_state: bool,
}

/// What an accumulator is made from.
pub struct AccumulatorArgs<'a> {
    /// function name, upper case
    pub function: &'a str,
    /// types of the column arguments
    pub arg_types: &'a [SqlType],
    /// literal parameters
    pub literals: &'a [ScalarValue],
    /// limits set by properties
    pub limits: &'a FunctionLimits,
}
