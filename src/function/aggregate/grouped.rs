//! The one loop over updates that all accumulators share, compiled once for each of them.
//!
//! Knows no function. The subtle thing: values are appended right after the update they belong to, so a column of results is exactly
//! what handling the rows singly would have given.

use arrow::array::ArrayRef;

use super::{Accumulator, Emit, Slot, Update};
use crate::types::SqlType;

/// What a function does to the state of one group.
pub(super) trait Kernel: Send {
    /// typed views of the argument columns
    type Args;
    /// a column of results being built
    type Out: Send;

    /// Room for slots `0 .. slots`.
    fn resize(&mut self, slots: usize);
    /// Back to the initial state.
    fn reset(&mut self, slot: usize);
    /// Views the arguments.
    fn bind(&self, args: &[ArrayRef]) -> Self::Args;
    /// Takes a row in.
    fn apply(&mut self, slot: usize, args: &Self::Args, row: usize) -> Result<(), String>;
    /// Takes a row away.
    fn undo(&mut self, slot: usize, args: &Self::Args, row: usize) -> Result<(), String> {
        let _ = (slot, args, row);
        Err("this aggregate function cannot take rows away".to_owned())
    }
    /// Merges the later session `from` into `into`.
    fn merge(&mut self, into: usize, from: usize) -> Result<(), String>;
    /// An empty column of results.
    fn out(&self) -> Self::Out;
    /// Appends the group's value.
    fn emit(&self, slot: usize, out: &mut Self::Out);
    /// Ends a column of results.
    fn finish(&self, out: Self::Out) -> ArrayRef;
    /// States as columns.
    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef>;
    /// Their types.
    fn state_types(&self) -> Vec<SqlType>;
    /// Loads states.
    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]);
    /// Bytes held.
    fn memory(&self) -> usize;
}

/// An accumulator from a kernel.
pub(super) struct Grouped<K: Kernel> {
    kernel: K,
    out: Option<K::Out>,
}

impl<K: Kernel + 'static> Grouped<K> {
    /// Boxes `kernel` as an accumulator.
    pub fn boxed(kernel: K) -> Box<dyn Accumulator> {
        Box::new(Self { kernel, out: None })
    }
}

impl<K: Kernel> Accumulator for Grouped<K> {
    fn resize(&mut self, slots: usize) {
        self.kernel.resize(slots);
    }

    fn reset(&mut self, slot: Slot) {
        self.kernel.reset(slot as usize);
    }

    fn update(
        &mut self,
        updates: &[Update],
        args: &[ArrayRef],
        old_args: &[ArrayRef],
        emit: Emit<'_>,
    ) -> Result<(), String> {
        let new = self.kernel.bind(args);
        let undoes = updates.iter().any(|u| u.undo);
        let old = undoes.then(|| self.kernel.bind(old_args));
        if let (Emit::None, None) = (emit, &old) {
            return updates.iter().try_for_each(|u| self.kernel.apply(u.slot as usize, &new, u.row as usize));
        }
        let mut out = self.out.take().unwrap_or_else(|| self.kernel.out());
        for (i, update) in updates.iter().enumerate() {
            let slot = update.slot as usize;
            match &old {
                Some(old) if update.undo => self.kernel.undo(slot, old, update.row as usize)?,
                _ => self.kernel.apply(slot, &new, update.row as usize)?,
            }
            let wanted = match emit {
                Emit::All => true,
                Emit::None => false,
                Emit::Some(marks) => marks[i],
            };
            if wanted {
                self.kernel.emit(slot, &mut out);
            }
        }
        self.out = Some(out);
        Ok(())
    }

    fn take_values(&mut self) -> ArrayRef {
        let out = self.out.take().unwrap_or_else(|| self.kernel.out());
        self.kernel.finish(out)
    }

    fn values(&self, slots: &[Slot]) -> ArrayRef {
        let mut out = self.kernel.out();
        for &slot in slots {
            self.kernel.emit(slot as usize, &mut out);
        }
        self.kernel.finish(out)
    }

    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        self.kernel.states(slots)
    }

    fn state_types(&self) -> Vec<SqlType> {
        self.kernel.state_types()
    }

    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]) {
        self.kernel.load(slots, states);
    }

    fn merge(&mut self, into: Slot, from: Slot) -> Result<(), String> {
        self.kernel.merge(into as usize, from as usize)
    }

    fn memory(&self) -> usize {
        self.kernel.memory()
    }
}
