//! `+ - * / %` and the signs, over operands of the types that the binder has settled.
//!
//! Not DECIMAL (that is `decimal`). The subtle things: integers wrap, a division by zero and a NULL operand fail the row (ksqlDB computes
//! on unboxed values), and doubles follow IEEE 754.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::numeric;
use arrow::compute::{binary, unary};
use arrow::datatypes::{ArrowNativeTypeOp, DataType, Float64Type, Int32Type, Int64Type};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use std::sync::Arc;

use super::columns::{Strs, strings};
use super::decimal;
use super::eval::{Failures, either, null_rows};
use super::logic::datum;
use super::udf::{BoundFunction, Call, ErrorRule, Kernel};
use crate::types::SqlType;

/// The reason of a NULL operand.
pub const NULL_OPERAND: &str = "an operand of the arithmetic is NULL";
/// The reason of a division by zero.
pub const BY_ZERO: &str = "division by zero";

/// An arithmetic operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulo,
}

impl Arithmetic {
    /// Its sign.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
        }
    }

    /// The operator over `left` and `right`: both of type `result`, or both decimals.
    pub fn function(self, left: SqlType, right: SqlType, result: SqlType) -> BoundFunction {
        BoundFunction::new(self.sign(), self.kernel(), vec![left, right], result, ErrorRule::Propagate)
    }

    fn kernel(self) -> Kernel {
        match self {
            Self::Add => |call, failures| evaluate(Arithmetic::Add, call, failures),
            Self::Subtract => |call, failures| evaluate(Arithmetic::Subtract, call, failures),
            Self::Multiply => |call, failures| evaluate(Arithmetic::Multiply, call, failures),
            Self::Divide => |call, failures| evaluate(Arithmetic::Divide, call, failures),
            Self::Modulo => |call, failures| evaluate(Arithmetic::Modulo, call, failures),
        }
    }
}

/// `- operand`, its type kept.
pub fn negate(ty: SqlType) -> BoundFunction {
    BoundFunction::new("NEGATE", negate_kernel, vec![ty.clone()], ty, ErrorRule::Propagate)
}

fn evaluate(op: Arithmetic, call: &Call<'_>, failures: &mut Failures<'_>) -> Result<ColumnarValue, DataFusionError> {
    let nulls = either(null_rows(&call.args[0], call.rows), null_rows(&call.args[1], call.rows));
    if let Some(nulls) = &nulls {
        failures.fail_rows(nulls, NULL_OPERAND);
    }
    match call.result {
        SqlType::Int => integers::<Int32Type>(op, call, nulls, failures),
        SqlType::BigInt => integers::<Int64Type>(op, call, nulls, failures),
        SqlType::Double => Ok(ColumnarValue::Array(arrow_kernel(op, call)?)),
        SqlType::String => concatenate(call, failures),
        _ => decimal::evaluate(op, call, failures),
    }
}

/// Arrow's own kernel: wrapping on integers, IEEE on doubles.
fn arrow_kernel(op: Arithmetic, call: &Call<'_>) -> Result<ArrayRef, DataFusionError> {
    let (left, right) = (datum(&call.args[0])?, datum(&call.args[1])?);
    Ok(match op {
        Arithmetic::Add => numeric::add_wrapping(left.as_ref(), right.as_ref()),
        Arithmetic::Subtract => numeric::sub_wrapping(left.as_ref(), right.as_ref()),
        Arithmetic::Multiply => numeric::mul_wrapping(left.as_ref(), right.as_ref()),
        Arithmetic::Divide => numeric::div(left.as_ref(), right.as_ref()),
        Arithmetic::Modulo => numeric::rem(left.as_ref(), right.as_ref()),
    }?)
}

fn integers<T: ArrowPrimitiveType>(
    op: Arithmetic,
    call: &Call<'_>,
    nulls: Option<BooleanBuffer>,
    failures: &mut Failures<'_>,
) -> Result<ColumnarValue, DataFusionError> {
    if !matches!(op, Arithmetic::Divide | Arithmetic::Modulo) {
        return Ok(ColumnarValue::Array(arrow_kernel(op, call)?));
    }
    let f = |a: T::Native, b: T::Native| match op {
        _ if b.is_zero() => T::Native::ZERO,
        Arithmetic::Divide => a.div_wrapping(b),
        _ => a.mod_wrapping(b),
    };
    if let ColumnarValue::Scalar(divisor) = &call.args[1] {
        let divisor = divisor.to_array()?;
        let divisor = divisor.as_primitive::<T>();
        if divisor.is_null(0) {
            return Ok(ColumnarValue::Array(arrow::array::new_null_array(&call.result_type(), call.rows)));
        }
        let divisor = divisor.value(0);
        if divisor.is_zero() {
            let valid = nulls.map_or_else(|| BooleanBuffer::new_set(call.rows), |nulls| !&nulls);
            failures.fail_rows(&valid, BY_ZERO);
            return Ok(ColumnarValue::Array(arrow::array::new_null_array(&call.result_type(), call.rows)));
        }
        let dividend = call.args[0].to_array(call.rows)?;
        let quotient: PrimitiveArray<T> = unary(dividend.as_primitive::<T>(), |a| f(a, divisor));
        return Ok(ColumnarValue::Array(Arc::new(quotient)));
    }
    let (left, right) = (call.args[0].to_array(call.rows)?, call.args[1].to_array(call.rows)?);
    let (left, right) = (left.as_primitive::<T>(), right.as_primitive::<T>());
    let quotient: PrimitiveArray<T> = binary(left, right, f)?;
    if !right.values().iter().any(|b| b.is_zero()) {
        return Ok(ColumnarValue::Array(Arc::new(quotient)));
    }
    let zeros = BooleanBuffer::collect_bool(right.len(), |row| quotient.is_valid(row) && right.value(row).is_zero());
    failures.fail_rows(&zeros, BY_ZERO);
    super::eval::null_where(ColumnarValue::Array(Arc::new(quotient)), call.rows, &zeros)
}

/// `+` of strings: a NULL side has failed the row already.
fn concatenate(call: &Call<'_>, failures: &mut Failures<'_>) -> Result<ColumnarValue, DataFusionError> {
    let (left, right) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?);
    let mut text = String::new();
    Ok(strings(call.rows, failures, |row| {
        let (Some(left), Some(right)) = (left.get(row), right.get(row)) else { return Ok(None) };
        text.clear();
        text.push_str(left);
        text.push_str(right);
        Ok(Some(text.clone()))
    }))
}

fn negate_kernel(call: &Call<'_>, failures: &mut Failures<'_>) -> Result<ColumnarValue, DataFusionError> {
    if let Some(nulls) = null_rows(&call.args[0], call.rows) {
        failures.fail_rows(&nulls, NULL_OPERAND);
    }
    let array = call.args[0].to_array(call.rows)?;
    Ok(ColumnarValue::Array(match array.data_type() {
        DataType::Int32 => Arc::new(unary::<_, _, Int32Type>(array.as_primitive::<Int32Type>(), i32::wrapping_neg)),
        DataType::Int64 => Arc::new(unary::<_, _, Int64Type>(array.as_primitive::<Int64Type>(), i64::wrapping_neg)),
        DataType::Float64 => Arc::new(unary::<_, _, Float64Type>(array.as_primitive::<Float64Type>(), |x: f64| -x)),
        _ => numeric::neg_wrapping(&array)?,
    }))
}
