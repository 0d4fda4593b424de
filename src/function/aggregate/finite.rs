//! Our aggregate functions as DataFusion sees them, for plans that it executes itself (pull queries).
//!
//! Nothing is computed here: each is the accumulator that persistent queries use, so types, NULLs and limits agree. The subtle thing: DataFusion
//! numbers groups from 0 again after it has taken some out, our slots stay where they are; [`Groups`] maps one to the other.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs as DfArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator as DfAccumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;
use parking_lot::Mutex;

use super::{Accumulator, AccumulatorArgs, Emit, Slot, Update, accumulator};
use crate::function::FunctionLimits;
use crate::types::SqlType;

/// A call of one of our aggregate functions on columns, resolved.
#[derive(Clone)]
pub struct FiniteAggregate {
    /// upper-case name
    pub function: Arc<str>,
    /// types of the column arguments
    pub arg_types: Vec<SqlType>,
    /// literal parameters
    pub literals: Vec<ScalarValue>,
    /// result type
    pub ty: SqlType,
    /// limits set by properties
    pub limits: Arc<FunctionLimits>,
    signature: Signature,
}

impl FiniteAggregate {
    /// The call as an expression over `columns`.
    pub fn call(
        function: Arc<str>,
        mut columns: Vec<Expr>,
        arg_types: Vec<SqlType>,
        literals: Vec<ScalarValue>,
        ty: SqlType,
        limits: Arc<FunctionLimits>,
    ) -> Expr {
        if columns.is_empty() {
            // COUNT(*): DataFusion tells the number of rows by the length of an argument only
            columns.push(datafusion::logical_expr::lit(true));
        }
        let signature = Signature::variadic_any(Volatility::Immutable);
        let own = Self { function, arg_types, literals, ty, limits, signature };
        let function = Arc::new(AggregateUDF::new_from_impl(own));
        Expr::AggregateFunction(AggregateFunction::new_udf(function, columns, false, None, vec![], None))
    }

    fn accumulator(&self) -> DfResult<Box<dyn Accumulator>> {
        let args = AccumulatorArgs {
            function: &self.function,
            arg_types: &self.arg_types,
            literals: &self.literals,
            limits: &self.limits,
        };
        accumulator(&args).map_err(|e| DataFusionError::Internal(e.to_string()))
    }

    fn identity(&self) -> (&str, &[SqlType], &[ScalarValue], &SqlType) {
        (&self.function, &self.arg_types, &self.literals, &self.ty)
    }
}

impl PartialEq for FiniteAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for FiniteAggregate {}

impl Hash for FiniteAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl fmt::Debug for FiniteAggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FiniteAggregate").field(&self.function).field(&self.arg_types).finish()
    }
}

impl AggregateUDFImpl for FiniteAggregate {
    fn name(&self) -> &str {
        &self.function
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.ty.to_arrow())
    }

    fn accumulator(&self, _: DfArgs<'_>) -> DfResult<Box<dyn DfAccumulator>> {
        let mut all = Groups::new(self.accumulator()?);
        all.grow(1);
        Ok(Box::new(Whole(Mutex::new(all))))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> DfResult<Vec<FieldRef>> {
        let types = self.accumulator()?.state_types();
        let field =
            |(i, ty): (usize, &SqlType)| Arc::new(Field::new(format!("{}[{i}]", args.name), ty.to_arrow(), true));
        Ok(types.iter().enumerate().map(field).collect())
    }

    fn groups_accumulator_supported(&self, _: DfArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: DfArgs<'_>) -> DfResult<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::new(self.accumulator()?)))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        // rows are taken as they come; no call asks for an order
        AggregateOrderSensitivity::Insensitive
    }
}

/// The states of a call for all groups.
struct Groups {
    inner: Box<dyn Accumulator>,
    /// the slot of each group
    slots: Vec<Slot>,
    /// slots that no group has any more
    free: Vec<Slot>,
    /// slots there are
    total: Slot,
    updates: Vec<Update>,
}

impl Groups {
    fn new(inner: Box<dyn Accumulator>) -> Self {
        Self { inner, slots: Vec::new(), free: Vec::new(), total: 0, updates: Vec::new() }
    }

    fn slot(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            self.total += 1;
            self.total - 1
        })
    }

    fn grow(&mut self, groups: usize) {
        while self.slots.len() < groups {
            let slot = self.slot();
            self.slots.push(slot);
        }
        self.inner.resize(self.total as usize);
    }

    fn taken(&mut self, emit: EmitTo) -> Vec<Slot> {
        emit.take_needed(&mut self.slots)
    }

    fn release(&mut self, slots: Vec<Slot>) {
        slots.iter().for_each(|&slot| self.inner.reset(slot));
        self.free.extend(slots);
    }

    fn apply(
        &mut self,
        values: &[ArrayRef],
        rows: impl Iterator<Item = (usize, usize)>,
        groups: usize,
    ) -> DfResult<()> {
        self.grow(groups);
        self.updates.clear();
        let slots = &self.slots;
        self.updates.extend(rows.map(|(row, group)| Update { slot: slots[group], row: row as u32, undo: false }));
        // the value is asked for at the end only
        self.inner.update(&self.updates, values, &[], Emit::None).map_err(DataFusionError::Execution)
    }
}

fn is_set(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|f| f.is_valid(row) && f.value(row))
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> DfResult<()> {
        let rows = group_indices.iter().copied().enumerate().filter(|(row, _)| is_set(opt_filter, *row));
        self.apply(values, rows, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        let slots = self.taken(emit_to);
        let values = self.inner.values(&slots);
        self.release(slots);
        Ok(values)
    }

    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        let slots = self.taken(emit_to);
        let states = self.inner.states(&slots);
        self.release(slots);
        Ok(states)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> DfResult<()> {
        self.grow(total_num_groups);
        for (row, &group) in group_indices.iter().enumerate() {
            let from = self.slot();
            self.inner.resize(self.total as usize);
            let state: Vec<ArrayRef> = values.iter().map(|column| column.slice(row, 1)).collect();
            self.inner.load(&[from], &state);
            self.inner.merge(self.slots[group], from).map_err(DataFusionError::Execution)?;
            self.release(vec![from]);
        }
        Ok(())
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        Err(DataFusionError::NotImplemented("states of single rows".into()))
    }

    fn size(&self) -> usize {
        self.inner.memory() + self.slots.capacity() * size_of::<Slot>() + self.updates.capacity() * size_of::<Update>()
    }
}

/// The one group of a query without GROUP BY.
struct Whole(Mutex<Groups>);

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Whole")
    }
}

impl DfAccumulator for Whole {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let rows = values.first().map_or(0, |column| column.len());
        self.0.get_mut().apply(values, (0..rows).map(|row| (row, 0)), 1)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let groups = self.0.get_mut();
        ScalarValue::try_from_array(&groups.inner.values(&groups.slots), 0)
    }

    fn size(&self) -> usize {
        self.0.lock().size()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let groups = self.0.get_mut();
        groups.inner.states(&groups.slots).iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let rows = states.first().map_or(0, |column| column.len());
        self.0.get_mut().merge_batch(states, &vec![0; rows], 1)
    }
}
