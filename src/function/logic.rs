//! AND, OR, NOT, CASE and the tests for NULL and truth.
//!
//! Not three-valued: a NULL operand of a connective fails its row, as ksqlDB's does. The subtle thing: later operands are evaluated for the
//! rows that need them and no others, so a guard on the left keeps the right side from failing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Datum, Scalar, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::zip::zip;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;

use super::eval::{Evaluated, Failures, Frame, Node, both, either, null_rows, truth, without};

const NULL_OPERAND: &str = "an operand of AND, OR or NOT is NULL";
const NULL_CONDITION: &str = "a condition of CASE is NULL";

/// Operands joined by AND, left to right.
#[derive(Debug)]
pub struct AndNode {
    /// at least two
    pub operands: Vec<Arc<dyn Node>>,
}

/// Operands joined by OR, left to right.
#[derive(Debug)]
pub struct OrNode {
    /// at least two
    pub operands: Vec<Arc<dyn Node>>,
}

/// Rows of a chain of connectives that still need the next operand, and those that failed.
struct Chain {
    /// `None`: all
    open: Option<BooleanBuffer>,
    failed: Option<BooleanBuffer>,
}

impl Chain {
    /// Evaluates `operand` for the open rows; gives its true rows and leaves failed ones out of the open ones.
    fn step(
        &mut self,
        operand: &dyn Node,
        frame: &Frame<'_>,
        null_reason: &'static str,
    ) -> Result<BooleanBuffer, DataFusionError> {
        let e = operand.eval(frame, self.open.as_ref())?;
        let mut lost = e.failed;
        if let Some(nulls) = null_rows(&e.value, frame.rows()) {
            let fresh = lost.as_ref().map_or_else(|| nulls.clone(), |lost| &nulls & &!lost);
            let mut failures = Failures::new(self.open.as_ref());
            failures.fail_rows(&fresh, null_reason);
            lost = either(lost, frame.note(failures));
        }
        if let Some(lost) = lost {
            self.open = Some(without(self.open.as_ref(), &lost));
            self.failed = either(self.failed.take(), Some(lost));
        }
        truth(&e.value, frame.rows())
    }

    fn is_closed(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.count_set_bits() == 0)
    }
}

impl Node for AndNode {
    fn eval(&self, frame: &Frame<'_>, wanted: Option<&BooleanBuffer>) -> Result<Evaluated, DataFusionError> {
        let mut chain = Chain { open: wanted.cloned(), failed: None };
        for operand in &self.operands {
            if chain.is_closed() {
                break;
            }
            let holds = chain.step(operand.as_ref(), frame, NULL_OPERAND)?;
            chain.open = both(chain.open.as_ref(), Some(&holds));
        }
        let value = chain.open.unwrap_or_else(|| BooleanBuffer::new_set(frame.rows()));
        Ok(Evaluated { value: boolean(value), failed: chain.failed })
    }

    fn can_fail(&self) -> bool {
        true
    }
}

impl Node for OrNode {
    fn eval(&self, frame: &Frame<'_>, wanted: Option<&BooleanBuffer>) -> Result<Evaluated, DataFusionError> {
        let mut chain = Chain { open: wanted.cloned(), failed: None };
        let mut value: Option<BooleanBuffer> = None;
        for operand in &self.operands {
            if chain.is_closed() {
                break;
            }
            let holds = chain.step(operand.as_ref(), frame, NULL_OPERAND)?;
            let holds = both(chain.open.as_ref(), Some(&holds)).unwrap_or(holds);
            chain.open = Some(without(chain.open.as_ref(), &holds));
            value = either(value, Some(holds));
        }
        let value = value.unwrap_or_else(|| BooleanBuffer::new_unset(frame.rows()));
        Ok(Evaluated { value: boolean(value), failed: chain.failed })
    }

    fn can_fail(&self) -> bool {
        true
    }
}

/// NOT.
#[derive(Debug)]
pub struct NotNode {
    /// of what
    pub operand: Arc<dyn Node>,
}

impl Node for NotNode {
    fn eval(&self, frame: &Frame<'_>, wanted: Option<&BooleanBuffer>) -> Result<Evaluated, DataFusionError> {
        let mut chain = Chain { open: wanted.cloned(), failed: None };
        let holds = chain.step(self.operand.as_ref(), frame, NULL_OPERAND)?;
        Ok(Evaluated { value: boolean(!&holds), failed: chain.failed })
    }

    fn can_fail(&self) -> bool {
        true
    }
}

/// `IS [NOT] NULL`.
#[derive(Debug)]
pub struct NullTest {
    /// of what
    pub operand: Arc<dyn Node>,
    /// IS NOT NULL
    pub negated: bool,
}

impl Node for NullTest {
    fn eval(&self, frame: &Frame<'_>, wanted: Option<&BooleanBuffer>) -> Result<Evaluated, DataFusionError> {
        let e = self.operand.eval(frame, wanted)?;
        let nulls = null_rows(&e.value, frame.rows()).unwrap_or_else(|| BooleanBuffer::new_unset(frame.rows()));
        Ok(Evaluated { value: boolean(if self.negated { !&nulls } else { nulls }), failed: e.failed })
    }

    fn can_fail(&self) -> bool {
        self.operand.can_fail()
    }
}

/// Which truth is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TruthTestKind {
    /// NULL counts as false
    IsTrue,
    /// NULL counts as true
    IsNotTrue,
    /// NULL counts as not false
    IsFalse,
    /// NULL counts as not false
    IsNotFalse,
}

/// `IS [NOT] TRUE | FALSE`; what makes comparisons two-valued.
#[derive(Debug)]
pub struct TruthTest {
    /// of what
    pub operand: Arc<dyn Node>,
    /// which test
    pub kind: TruthTestKind,
}

impl Node for TruthTest {
    fn eval(&self, frame: &Frame<'_>, wanted: Option<&BooleanBuffer>) -> Result<Evaluated, DataFusionError> {
        let e = self.operand.eval(frame, wanted)?;
        let holds = truth(&e.value, frame.rows())?;
        let falls = || match null_rows(&e.value, frame.rows()) {
            Some(nulls) => &!&holds & &!&nulls,
            None => !&holds,
        };
        let value = match self.kind {
            TruthTestKind::IsTrue => holds,
            TruthTestKind::IsNotTrue => !&holds,
            TruthTestKind::IsFalse => falls(),
            TruthTestKind::IsNotFalse => !&falls(),
        };
        Ok(Evaluated { value: boolean(value), failed: e.failed })
    }

    fn can_fail(&self) -> bool {
        self.operand.can_fail()
    }
}

/// Searched CASE.
#[derive(Debug)]
pub struct CaseNode {
    /// condition, result
    pub whens: Vec<(Arc<dyn Node>, Arc<dyn Node>)>,
    /// ELSE; NULL without
    pub otherwise: Option<Arc<dyn Node>>,
}

impl Node for CaseNode {
    fn eval(&self, frame: &Frame<'_>, wanted: Option<&BooleanBuffer>) -> Result<Evaluated, DataFusionError> {
        let mut chain = Chain { open: wanted.cloned(), failed: None };
        let mut branches: Vec<(BooleanBuffer, ColumnarValue)> = Vec::with_capacity(self.whens.len());
        for (condition, result) in &self.whens {
            if chain.is_closed() {
                break;
            }
            let holds = chain.step(condition.as_ref(), frame, NULL_CONDITION)?;
            let taken = both(chain.open.as_ref(), Some(&holds)).unwrap_or(holds);
            let e = result.eval(frame, Some(&taken))?;
            chain.failed = either(chain.failed.take(), e.failed);
            chain.open = Some(without(chain.open.as_ref(), &taken));
            branches.push((taken, e.value));
        }
        let rest = match &self.otherwise {
            Some(otherwise) => {
                let e = otherwise.eval(frame, chain.open.as_ref())?;
                chain.failed = either(chain.failed.take(), e.failed);
                Some(e.value)
            }
            None => None,
        };
        Ok(Evaluated { value: merge(branches, rest, frame.rows())?, failed: chain.failed })
    }

    fn can_fail(&self) -> bool {
        true
    }
}

/// The branches' values at the rows that took them, `rest` elsewhere.
fn merge(
    branches: Vec<(BooleanBuffer, ColumnarValue)>,
    rest: Option<ColumnarValue>,
    rows: usize,
) -> Result<ColumnarValue, DataFusionError> {
    let mut merged = rest;
    for (taken, value) in branches.into_iter().rev() {
        let below = match merged {
            Some(below) => below,
            None => ColumnarValue::Array(new_null_array(&value.data_type(), rows)),
        };
        let mask = BooleanArray::new(taken, None);
        merged = Some(ColumnarValue::Array(zip(&mask, datum(&value)?.as_ref(), datum(&below)?.as_ref())?));
    }
    merged.ok_or_else(|| DataFusionError::Internal("a CASE without branches".into()))
}

/// A value as Arrow's kernels take it.
pub(super) fn datum(value: &ColumnarValue) -> Result<Box<dyn Datum>, DataFusionError> {
    Ok(match value {
        ColumnarValue::Array(array) => Box::new(array.clone()),
        ColumnarValue::Scalar(scalar) => Box::new(Scalar::<ArrayRef>::new(scalar.to_array()?)),
    })
}

/// Bits as a BOOLEAN column without NULLs.
pub(super) fn boolean(bits: BooleanBuffer) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(BooleanArray::new(bits, None)) as Arc<dyn Array>)
}
