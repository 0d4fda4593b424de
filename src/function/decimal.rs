//! Exact decimal arithmetic: result types, operators, rescaling, reading and printing.
//!
//! Not `java.math.BigDecimal`: precision ends at 76 digits. The subtle thing: nothing is ever rounded in an operator; a result that does not fit
//! its type exactly (1 / 3) fails its row, as ksqlDB's "no rounding" does.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::{binary, unary};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Float64Type, Int32Type, Int64Type, i256};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;

use super::arithmetic::{Arithmetic, BY_ZERO};
use super::columns::{Outcome, prims_of};
use super::eval::{Failures, Reason};
use super::udf::Call;
use crate::types::SqlType;
use crate::types::schema::MAX_DECIMAL_PRECISION;

/// Digits that 128 bits hold for sure.
const NARROW_DIGITS: u8 = 38;

/// The decimal type that an integer type counts as in arithmetic.
pub fn natural_type(ty: &SqlType) -> Option<(u8, u8)> {
    match ty {
        SqlType::Int => Some((10, 0)),
        SqlType::BigInt => Some((19, 0)),
        SqlType::Decimal(p, s) => Some((*p, *s)),
        _ => None,
    }
}

/// The type of `left op right`; precision and scale are cut at 76.
pub fn result_type(op: Arithmetic, left: (u8, u8), right: (u8, u8)) -> SqlType {
    let ((p1, s1), (p2, s2)) = ((i32::from(left.0), i32::from(left.1)), (i32::from(right.0), i32::from(right.1)));
    let (precision, scale) = match op {
        Arithmetic::Add | Arithmetic::Subtract => (s1.max(s2) + (p1 - s1).max(p2 - s2) + 1, s1.max(s2)),
        Arithmetic::Multiply => (p1 + p2 + 1, s1 + s2),
        Arithmetic::Divide => {
            let scale = 6.max(s1 + p2 + 1);
            (p1 - s1 + s2 + scale, scale)
        }
        Arithmetic::Modulo => ((p1 - s1).min(p2 - s2) + s1.max(s2), s1.max(s2)),
    };
    let max = i32::from(MAX_DECIMAL_PRECISION);
    let (precision, scale) = (precision.clamp(1, max), scale.clamp(0, max));
    SqlType::Decimal(precision.max(scale) as u8, scale as u8)
}

/// The narrowest type that holds the values of both exactly (cut at 76 digits).
pub fn common_type(left: (u8, u8), right: (u8, u8)) -> (u8, u8) {
    let scale = left.1.max(right.1);
    let whole = (left.0 - left.1).max(right.0 - right.1);
    ((whole + scale).clamp(1, MAX_DECIMAL_PRECISION), scale)
}

/// The operator over two DECIMAL columns.
///
/// # Errors
/// A defect of ours: an argument that is no DECIMAL.
pub fn evaluate(
    op: Arithmetic,
    call: &Call<'_>,
    failures: &mut Failures<'_>,
) -> Result<ColumnarValue, DataFusionError> {
    let (left, right) = (Unscaled::of(&call.args[0])?, Unscaled::of(&call.args[1])?);
    let SqlType::Decimal(precision, scale) = *call.result else {
        return Err(DataFusionError::Internal("decimal arithmetic gives decimals".into()));
    };
    let narrow = precision <= NARROW_DIGITS
        && left.precision <= NARROW_DIGITS
        && right.precision <= NARROW_DIGITS
        && !matches!(op, Arithmetic::Divide | Arithmetic::Modulo);
    if narrow {
        return narrow_operator(op, call, (&left, &right), scale);
    }
    wide(call, failures, |row| {
        let (Some(a), Some(b)) = (left.wide(row), right.wide(row)) else { return Ok(None) };
        let value = match op {
            Arithmetic::Add | Arithmetic::Subtract => {
                let (a, b) = (grow(a, scale - left.scale), grow(b, scale - right.scale));
                a.zip(b).and_then(|(a, b)| if op == Arithmetic::Add { a.checked_add(b) } else { a.checked_sub(b) })
            }
            Arithmetic::Multiply => a.checked_mul(b).and_then(|v| shrink_exact(v, left.scale + right.scale, scale)),
            Arithmetic::Divide => {
                return divide(a, b, i32::from(scale) + i32::from(right.scale) - i32::from(left.scale), precision);
            }
            Arithmetic::Modulo if b == i256::ZERO => return Err(BY_ZERO.into()),
            Arithmetic::Modulo => {
                let (a, b) = (grow(a, scale - left.scale), grow(b, scale - right.scale));
                a.zip(b).and_then(|(a, b)| a.checked_rem(b))
            }
        };
        value.filter(|v| fits(*v, precision)).map(Some).ok_or_else(|| overflow(call.result))
    })
}

/// `+ - *` where 128 bits hold every operand and result for sure: Arrow's loops, at Arrow's speed.
fn narrow_operator(
    op: Arithmetic,
    call: &Call<'_>,
    (left, right): (&Unscaled, &Unscaled),
    scale: u8,
) -> Result<ColumnarValue, DataFusionError> {
    let grow_left = 10_i128.pow(u32::from(scale.saturating_sub(left.scale)));
    let grow_right = 10_i128.pow(u32::from(scale.saturating_sub(right.scale)));
    // what stands below a NULL may be anything, so nothing here may panic
    let f = |a: i128, b: i128| match op {
        Arithmetic::Add => a.wrapping_mul(grow_left).wrapping_add(b.wrapping_mul(grow_right)),
        Arithmetic::Subtract => a.wrapping_mul(grow_left).wrapping_sub(b.wrapping_mul(grow_right)),
        _ => a.wrapping_mul(b),
    };
    let (a, b) = (left.as_decimal128(), right.as_decimal128());
    let values: PrimitiveArray<Decimal128Type> = match (left.constant, right.constant) {
        (false, true) if b.is_valid(0) => unary(&a, |a| f(a, b.value(0))),
        (true, false) if a.is_valid(0) => unary(&b, |b| f(a.value(0), b)),
        (left, right) if left == right => binary(&a, &b, f)?,
        _ => PrimitiveArray::new_null(call.rows),
    };
    Ok(ColumnarValue::Array(Arc::new(values.with_data_type(call.result_type()))))
}

/// Builds a DECIMAL column of the call's result type out of 256-bit values.
fn wide(
    call: &Call<'_>,
    failures: &mut Failures<'_>,
    f: impl FnMut(usize) -> Outcome<i256>,
) -> Result<ColumnarValue, DataFusionError> {
    Ok(build(&call.result_type(), call.rows, failures, f))
}

/// Builds a DECIMAL column of 128 or 256 bits; the values must fit.
pub fn build(
    data_type: &DataType,
    rows: usize,
    failures: &mut Failures<'_>,
    mut f: impl FnMut(usize) -> Outcome<i256>,
) -> ColumnarValue {
    match data_type {
        DataType::Decimal128(..) => {
            prims_of::<Decimal128Type>(data_type, rows, failures, |row| Ok(f(row)?.and_then(i256::to_i128)))
        }
        _ => prims_of::<Decimal256Type>(data_type, rows, failures, f),
    }
}

fn overflow(ty: &SqlType) -> Reason {
    format!("the result does not fit {ty}").into()
}

/// `a / b` with `digits` more digits than plain integer division gives, exactly.
fn divide(a: i256, b: i256, digits: i32, precision: u8) -> Outcome<i256> {
    if b == i256::ZERO {
        return Err(BY_ZERO.into());
    }
    let inexact = || Reason::from("the quotient is not exact: rounding necessary");
    if digits < 0 {
        let b = grow(b, digits.unsigned_abs() as u8).ok_or_else(inexact)?;
        return divide(a, b, 0, precision);
    }
    let ten = i256::from_i128(10);
    let (mut quotient, mut rest) = (a.wrapping_div(b), a.wrapping_rem(b));
    for done in 0..digits {
        if rest == i256::ZERO {
            quotient = grow(quotient, (digits - done) as u8).ok_or_else(inexact)?;
            break;
        }
        rest = rest.checked_mul(ten).ok_or_else(inexact)?;
        quotient = quotient.checked_mul(ten).and_then(|q| q.checked_add(rest.wrapping_div(b))).ok_or_else(inexact)?;
        rest = rest.wrapping_rem(b);
    }
    if rest == i256::ZERO && fits(quotient, precision) { Ok(Some(quotient)) } else { Err(inexact()) }
}

/// `value` with `digits` zeros appended, if 256 bits hold it.
pub fn grow(value: i256, digits: u8) -> Option<i256> {
    if digits == 0 || value == i256::ZERO {
        return Some(value);
    }
    value.checked_mul(power_of_ten(digits)?)
}

fn power_of_ten(digits: u8) -> Option<i256> {
    i256::from_i128(10).checked_pow(u32::from(digits))
}

fn shrink_exact(value: i256, from: u8, to: u8) -> Option<i256> {
    if from <= to {
        return grow(value, to - from);
    }
    let power = power_of_ten(from - to)?;
    (value.wrapping_rem(power) == i256::ZERO).then(|| value.wrapping_div(power))
}

/// True if `value` has at most `precision` digits.
pub fn fits(value: i256, precision: u8) -> bool {
    power_of_ten(precision).is_none_or(|limit| value < limit && value > limit.wrapping_neg())
}

/// How a digit that is cut off decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// to the nearest, ties away from zero
    HalfUp,
    /// to the nearest, ties towards zero
    HalfDown,
    /// towards zero
    Down,
    /// towards -∞
    Floor,
    /// towards +∞
    Ceiling,
}

/// `value` of scale `from` at scale `to` (which may be negative), rounded; `None` if 256 bits do not hold it.
pub fn rescale(value: i256, from: i32, to: i32, rounding: Rounding) -> Option<i256> {
    if to >= from {
        return grow(value, u8::try_from(to - from).ok()?);
    }
    let Some(power) = u8::try_from(from - to).ok().and_then(power_of_ten) else {
        return Some(i256::ZERO);
    };
    let (quotient, rest) = (value.wrapping_div(power), value.wrapping_rem(power));
    let half = power.wrapping_div(i256::from_i128(2));
    let size = rest.wrapping_abs();
    let away = match rounding {
        Rounding::HalfUp => size >= half,
        Rounding::HalfDown => size > half,
        Rounding::Down => false,
        Rounding::Floor => rest < i256::ZERO,
        Rounding::Ceiling => rest > i256::ZERO,
    };
    let step = if value < i256::ZERO { i256::MINUS_ONE } else { i256::ONE };
    Some(if away && rest != i256::ZERO { quotient.wrapping_add(step) } else { quotient })
}

/// Unscaled values of a DECIMAL, INT or BIGINT argument.
pub struct Unscaled {
    array: ArrayRef,
    constant: bool,
    /// digits
    pub precision: u8,
    /// digits after the point
    pub scale: u8,
}

impl Unscaled {
    /// The unscaled values of an argument.
    ///
    /// # Errors
    /// If it is no number of an exact type: a defect of the binder.
    pub fn of(value: &ColumnarValue) -> Result<Self, DataFusionError> {
        match value {
            ColumnarValue::Array(array) => Self::of_array(array.clone(), false),
            ColumnarValue::Scalar(scalar) => Self::of_array(scalar.to_array()?, true),
        }
    }

    /// The unscaled values of a column; `constant`: its one row stands for all.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn of_array(array: ArrayRef, constant: bool) -> Result<Self, DataFusionError> {
        let (precision, scale) = match array.data_type() {
            DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => (*p, s.unsigned_abs()),
            DataType::Int32 => (10, 0),
            DataType::Int64 => (19, 0),
            other => return Err(DataFusionError::Internal(format!("{other} is no exact number"))),
        };
        Ok(Self { array, constant, precision, scale })
    }

    /// The unscaled values as 128-bit ones; only where 38 digits hold them.
    fn as_decimal128(&self) -> PrimitiveArray<Decimal128Type> {
        match self.array.data_type() {
            DataType::Int32 => unary(self.array.as_primitive::<Int32Type>(), i128::from),
            DataType::Int64 => unary(self.array.as_primitive::<Int64Type>(), i128::from),
            _ => self.array.as_primitive::<Decimal128Type>().clone(),
        }
    }

    fn narrow(&self, row: usize) -> Option<i128> {
        let row = if self.constant { 0 } else { row };
        if self.array.is_null(row) {
            return None;
        }
        Some(match self.array.data_type() {
            DataType::Decimal128(..) => self.array.as_primitive::<Decimal128Type>().value(row),
            DataType::Int32 => self.array.as_primitive::<Int32Type>().value(row).into(),
            DataType::Int64 => self.array.as_primitive::<Int64Type>().value(row).into(),
            _ => return self.array.as_primitive::<Decimal256Type>().value(row).to_i128(),
        })
    }

    /// The row's unscaled value; `None` if it is NULL.
    pub fn wide(&self, row: usize) -> Option<i256> {
        match self.array.data_type() {
            DataType::Decimal256(..) => {
                let row = if self.constant { 0 } else { row };
                self.array.is_valid(row).then(|| self.array.as_primitive::<Decimal256Type>().value(row))
            }
            _ => self.narrow(row).map(i256::from_i128),
        }
    }
}

/// A decimal in plain notation with all digits of its scale.
pub fn print(value: i256, scale: u8) -> String {
    let digits = value.wrapping_abs().to_string();
    let sign = if value < i256::ZERO { "-" } else { "" };
    let scale = usize::from(scale);
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// The nearest double.
pub fn to_double(value: i256, scale: u8) -> f64 {
    const EXACT: i128 = 1 << 53;
    match value.to_i128() {
        // both operands are exact doubles, so the quotient is correctly rounded
        Some(v) if (-EXACT..=EXACT).contains(&v) && scale <= 22 => v as f64 / 10_f64.powi(i32::from(scale)),
        _ => print(value, scale).parse().unwrap_or(f64::NAN),
    }
}

/// Reads digits with an optional sign, point and exponent: the unscaled value and its scale (negative for trailing zeros).
pub fn parse(text: &str) -> Option<(i256, i32)> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = i256::ZERO;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(i256::from_i128(10))?.checked_add(i256::from_i128(i128::from(digit - b'0')))?;
    }
    let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    Some((if negative { value.wrapping_neg() } else { value }, scale))
}

/// The value at `(precision, scale)`, HALF_UP.
///
/// # Errors
/// "Numeric field overflow" if it has too many digits before the point.
pub fn fit(
    value: i256,
    from_scale: i32,
    precision: u8,
    scale: u8,
    shown: impl FnOnce() -> String,
) -> Result<i256, Reason> {
    rescale(value, from_scale, i32::from(scale), Rounding::HalfUp).filter(|v| fits(*v, precision)).ok_or_else(|| {
        format!(
            "Numeric field overflow: A field with precision {precision} and scale {scale} must round to an absolute value \
             less than 10^{}. Got {}",
            precision - scale,
            shown()
        )
        .into()
    })
}

/// The shortest decimal that reads back as this double (Java's `BigDecimal.valueOf`); `None` for NaN and infinities.
pub fn of_double(value: f64) -> Option<(i256, i32)> {
    if !value.is_finite() {
        return None;
    }
    parse(zmij::Buffer::new().format_finite(value))
}

/// Doubles of a DECIMAL column.
pub fn doubles(array: &ArrayRef, failures: &mut Failures<'_>) -> Result<ArrayRef, DataFusionError> {
    let values = Unscaled::of_array(array.clone(), false)?;
    let scale = values.scale;
    super::columns::prims::<Float64Type>(array.len(), failures, |row| Ok(values.wide(row).map(|v| to_double(v, scale))))
        .into_array(array.len())
}
