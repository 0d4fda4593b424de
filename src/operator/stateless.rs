//! Filter, Project and Regroup: operators that look at one row at a time and remember none.
//!
//! They keep order, times and headers of rows. The subtle thing is what they do with rows that are absent, which is not the same for
//! streams (a NULL value) and tables (a tombstone): each operator says it.

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use datafusion::common::Column;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;

use crate::function::eval::{CompiledExpr, Report};
use crate::state::encoding::KeyCodec;
use crate::types::change::record_batch;
use crate::types::{ChangeBatch, OldRows};

use super::computed::{Computed, report};
use super::port::null_unless;
use super::{LossKind, Operator, OperatorError, Progress, Step, StepContext};

/// WHERE and HAVING.
///
/// Stream: rows that are absent, or for which the predicate is not true, are dropped. Table: a row passes or not, before and after the
/// change; what passes now goes on as a row, what passed before and does not now as a tombstone, and what never passed not at all. Where
/// no old rows are given, whether a row passed before is unknown and counts as yes.
pub struct Filter {
    predicate: CompiledExpr,
    schema: SchemaRef,
    is_table: bool,
}

impl Filter {
    /// Keeps rows of `input` for which `predicate` is true.
    ///
    /// # Errors
    /// If the predicate names a column that is not there: a defect of ours.
    pub fn new(predicate: &Expr, is_table: bool, input: &SchemaRef) -> Result<Self, OperatorError> {
        let predicate = CompiledExpr::new(predicate, input).map_err(|e| OperatorError::internal("filter", e))?;
        Ok(Self { predicate, schema: input.clone(), is_table })
    }

    fn passing(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        present: Option<&BooleanBuffer>,
        report: Report<'_>,
    ) -> Result<BooleanBuffer, OperatorError> {
        let batch = record_batch(&self.schema, columns.to_vec(), rows).map_err(|e| self.internal(e))?;
        let passing = self.predicate.matches(&batch, present, report).map_err(|e| self.internal(e))?;
        Ok(present.map_or_else(|| passing.clone(), |present| present & &passing))
    }

    fn internal(&self, error: impl std::fmt::Display) -> OperatorError {
        OperatorError::internal("filter", error)
    }

    fn apply(&self, batch: ChangeBatch, ctx: &mut StepContext) -> Result<ChangeBatch, OperatorError> {
        let rows = batch.len();
        let mut failures = Vec::new();
        let mut note = |row: usize, reason: &str| failures.push((row, reason.to_owned()));
        let passes = self.passing(&batch.columns, rows, batch.present.as_ref(), &mut note)?;
        report(failures, &batch.meta.offset, ctx);
        if !self.is_table {
            return match passes.count_set_bits() == rows {
                true => Ok(ChangeBatch { present: None, ..batch }),
                false => keep(batch, &passes, None).map_err(|e| self.internal(e)),
            };
        }
        let passed = match &batch.old {
            Some(old) => self.passing(&old.columns, rows, old.present.as_ref(), &mut |_, _| {})?,
            None => BooleanBuffer::new_set(rows),
        };
        keep(batch, &passes, Some(&passed)).map_err(|e| self.internal(e))
    }
}

/// The rows that pass now, and those that passed before; their `present` bits accordingly.
fn keep(batch: ChangeBatch, passes: &BooleanBuffer, passed: Option<&BooleanBuffer>) -> Result<ChangeBatch, ArrowError> {
    let kept = passed.map_or_else(|| passes.clone(), |passed| passes | passed);
    let old = batch.old.map(|old| OldRows { present: passed.cloned(), ..old });
    let mut out = ChangeBatch { present: Some(passes.clone()), old, ..batch };
    if kept.count_set_bits() != kept.len() {
        out = out.filter(&kept)?;
    }
    normalize(&mut out);
    Ok(out)
}

/// Forgets `present` bits that are all set.
fn normalize(batch: &mut ChangeBatch) {
    let all = |bits: &BooleanBuffer| bits.count_set_bits() == bits.len();
    batch.present.take_if(|bits| all(bits));
    if let Some(old) = &mut batch.old {
        old.present.take_if(|bits| all(bits));
    }
}

impl Operator for Filter {
    fn process(
        &mut self,
        step: Step,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<Progress, OperatorError> {
        for batch in step.into_iter().flatten() {
            push(self.apply(batch, ctx)?, out);
        }
        Ok(Progress::Done)
    }
}

fn push(batch: ChangeBatch, out: &mut Vec<ChangeBatch>) {
    if !batch.is_empty() {
        out.push(batch);
    }
}

/// SELECT, PARTITION BY, and the preparation of GROUP BY: computes new columns.
///
/// Absent rows go on with their key. Key columns are computed for them, too: from the key columns of the input as for any row, from
/// other columns as from NULL. Old rows are projected where there are any.
pub struct Project {
    computed: Computed,
    key_count: usize,
    input_keys: usize,
    /// the key is that of the input, so rows without record key stay so
    keeps_key: bool,
    is_table: bool,
}

impl Project {
    /// Computes `exprs` over rows of `input`, the first `input_keys` columns of which are its key; the first `key_count` of `exprs` are
    /// the new key.
    ///
    /// # Errors
    /// If an expression names a column that is not there: a defect of ours.
    pub fn new(
        exprs: &[Expr],
        is_table: bool,
        input: &SchemaRef,
        input_keys: usize,
        key_count: usize,
    ) -> Result<Self, OperatorError> {
        let column = |i: usize| Expr::Column(Column::new_unqualified(input.field(i).name()));
        let keeps_key = key_count == input_keys && (0..key_count).all(|i| exprs[i] == column(i));
        Ok(Self { computed: Computed::new("project", exprs, input)?, key_count, input_keys, keeps_key, is_table })
    }

    fn apply(&self, batch: ChangeBatch, ctx: &mut StepContext) -> Result<ChangeBatch, OperatorError> {
        let (rows, present) = (batch.len(), batch.present.as_ref());
        let mut failures = Vec::new();
        let mut columns = self.computed.evaluate_all(&batch.columns, rows, present, &mut failures)?;
        if present.is_some() {
            // what value columns of absent rows hold means nothing: keys must not be made of it
            for i in (0..self.key_count).filter(|&i| self.computed.reads_beyond(i, self.input_keys)) {
                let nulled =
                    null_unless(&columns[i..=i], present).map_err(|e| OperatorError::internal("project", e))?;
                columns.splice(i..=i, nulled);
            }
        }
        report(failures, &batch.meta.offset, ctx);
        let old = match &batch.old {
            Some(old) if self.is_table => {
                // failures on old rows were reported when these were new
                let columns = self.computed.evaluate_all(&old.columns, rows, old.present.as_ref(), &mut Vec::new())?;
                Some(OldRows { columns, present: old.present.clone() })
            }
            _ => None,
        };
        let mut out = ChangeBatch { columns, old, ..batch };
        if !self.keeps_key {
            out.meta.keyed = None;
        }
        Ok(out)
    }
}

impl Operator for Project {
    fn process(
        &mut self,
        step: Step,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<Progress, OperatorError> {
        for batch in step.into_iter().flatten() {
            push(self.apply(batch, ctx)?, out);
        }
        Ok(Progress::Done)
    }
}

/// GROUP BY over a TABLE: a change of a row becomes changes of groups.
///
/// Output columns are the grouping key, then what the aggregate reads. A change that stays in its group is one row with old and new half;
/// one that moves is two rows with the same `seq`: the undo half in the old group (old row only), then the apply half in the new one
/// (new row only). Both halves of an output row have the same key. A half with a NULL in its grouping key is skipped (the new one is
/// reported); what has neither half says nothing.
pub struct Regroup {
    computed: Computed,
    key_count: usize,
    keys: KeyCodec,
}

/// One output row: which input row, and which of its halves.
#[derive(Clone, Copy)]
struct Half {
    row: usize,
    new: bool,
    old: bool,
}

impl Regroup {
    /// Computes `exprs` over changes of `input`; the first `key_count` are the grouping key.
    ///
    /// # Errors
    /// If an expression names a column that is not there, or the key has a type that no key can have: a defect of ours.
    pub fn new(exprs: &[Expr], key_count: usize, input: &SchemaRef) -> Result<Self, OperatorError> {
        let computed = Computed::new("regroup", exprs, input)?;
        let types = exprs[..key_count].iter().map(|expr| expr_type(expr, input)).collect::<Result<Vec<_>, _>>();
        let types = types.map_err(|e| OperatorError::internal("regroup", e))?;
        Ok(Self { computed, key_count, keys: KeyCodec::new(&types)? })
    }

    fn apply(&self, batch: ChangeBatch, ctx: &mut StepContext) -> Result<ChangeBatch, OperatorError> {
        let rows = batch.len();
        let mut failures = Vec::new();
        let new = self.computed.evaluate_all(&batch.columns, rows, batch.present.as_ref(), &mut failures)?;
        report(failures, &batch.meta.offset, ctx);
        let old = match &batch.old {
            Some(old) => self.computed.evaluate_all(&old.columns, rows, old.present.as_ref(), &mut Vec::new())?,
            None => new.clone(),
        };
        let halves = self.halves(&batch, &new, &old, ctx)?;
        self.split(&batch, &new, &old, &halves).map_err(|e| OperatorError::internal("regroup", e))
    }

    fn halves(
        &self,
        batch: &ChangeBatch,
        new: &[ArrayRef],
        old: &[ArrayRef],
        ctx: &mut StepContext,
    ) -> Result<Vec<Half>, OperatorError> {
        let keys = |columns: &[ArrayRef]| self.keys.encode(&columns[..self.key_count], batch.len());
        let (new_keys, old_keys) = (keys(new)?, keys(old)?);
        let has_null = |columns: &[ArrayRef], row| columns[..self.key_count].iter().any(|c| c.is_null(row));
        let mut halves = Vec::with_capacity(batch.len());
        for row in 0..batch.len() {
            let (mut new_half, mut old_half) = (batch.is_present(row), batch.old_is_present(row));
            if new_half && has_null(new, row) {
                ctx.lose(batch.meta.offset[row], LossKind::NullKey, "a grouping expression of the row is NULL");
                new_half = false;
            }
            old_half &= !has_null(old, row);
            if new_half && old_half && new_keys.row(row) != old_keys.row(row) {
                halves.push(Half { row, new: false, old: true });
                old_half = false;
            }
            if new_half || old_half {
                halves.push(Half { row, new: new_half, old: old_half });
            }
        }
        Ok(halves)
    }

    fn split(
        &self,
        batch: &ChangeBatch,
        new: &[ArrayRef],
        old: &[ArrayRef],
        halves: &[Half],
    ) -> Result<ChangeBatch, ArrowError> {
        let rows: Vec<u32> = halves.iter().map(|half| half.row as u32).collect();
        let by = UInt32Array::from(rows.clone());
        let whole = rows.len() == batch.len() && rows.iter().enumerate().all(|(i, &row)| i == row as usize);
        let pick = |columns: &[ArrayRef]| match whole {
            true => Ok(columns.to_vec()),
            false => columns.iter().map(|c| take(c, &by, None)).collect::<Result<Vec<_>, _>>(),
        };
        // the key of an output row is that of the half it has
        let from: Vec<_> = halves.iter().map(|half| (usize::from(!half.new), half.row)).collect();
        let keys = new[..self.key_count].iter().zip(&old[..self.key_count]);
        let keys: Vec<_> =
            keys.map(|(new, old)| interleave(&[new.as_ref(), old.as_ref()], &from)).collect::<Result<_, _>>()?;
        let with_keys = |columns: &[ArrayRef]| -> Result<Vec<ArrayRef>, ArrowError> {
            let mut all = keys.clone();
            all.extend(pick(&columns[self.key_count..])?);
            Ok(all)
        };
        let bits = |bit: fn(&Half) -> bool| BooleanBuffer::collect_bool(halves.len(), |i| bit(&halves[i]));
        let mut out = ChangeBatch {
            columns: with_keys(new)?,
            present: Some(bits(|half| half.new)),
            old: Some(OldRows { columns: with_keys(old)?, present: Some(bits(|half| half.old)) }),
            meta: if whole { batch.meta.clone() } else { batch.meta.take(&rows)? },
        };
        normalize(&mut out);
        Ok(out)
    }
}

pub(super) fn expr_type(expr: &Expr, schema: &SchemaRef) -> Result<DataType, DataFusionError> {
    use datafusion::common::DFSchema;
    use datafusion::logical_expr::ExprSchemable;
    expr.get_type(&DFSchema::try_from(schema.as_ref().clone())?)
}

impl Operator for Regroup {
    fn process(
        &mut self,
        step: Step,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<Progress, OperatorError> {
        for batch in step.into_iter().flatten() {
            push(self.apply(batch, ctx)?, out);
        }
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests;
