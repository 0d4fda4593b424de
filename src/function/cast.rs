//! CAST: the matrix of types, column by column.
//!
//! Not coercion (the binder decides where casts stand). The subtle thing: an element that cannot be cast fails the whole collection.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, PrimitiveArray, StructArray, UInt32Array, new_null_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{take, unary};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float64Type, Int32Type, Int64Type, Time32MillisecondType,
    TimestampMillisecondType,
};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;

use super::calendar::{self, DAY_MS};
use super::columns::{Strs, View, binaries, bools, prims, texts};
use super::decimal::{self, Rounding, Unscaled};
use super::eval::{Failures, Reason};
use super::text;
use super::udf::{BoundFunction, Call, ErrorRule};
use crate::types::{SqlField, SqlType};

/// True if CAST knows the way.
pub fn is_supported(from: &SqlType, to: &SqlType) -> bool {
    use SqlType as T;
    if from == to {
        return true;
    }
    match (from, to) {
        (T::Array(a), T::Array(b)) => is_supported(a, b),
        (T::Map(k, v), T::Map(l, w)) => is_supported(k, l) && is_supported(v, w),
        (T::Struct(a), T::Struct(b)) => b
            .iter()
            .all(|to| a.iter().find(|from| from.name == to.name).is_none_or(|from| is_supported(&from.ty, &to.ty))),
        (T::Bytes, _) => false,
        (_, T::String) => true,
        (T::Int, T::BigInt | T::Decimal(..) | T::Double) => true,
        (T::BigInt, T::Int | T::Decimal(..) | T::Double) => true,
        (T::Decimal(..), T::Int | T::BigInt | T::Decimal(..) | T::Double) => true,
        (T::Double, T::Int | T::BigInt | T::Decimal(..)) => true,
        (T::String, T::Array(_) | T::Map(..) | T::Struct(_)) => false,
        (T::String, _) => true,
        (T::Timestamp, T::Time | T::Date) => true,
        (T::Date, T::Timestamp) => true,
        _ => false,
    }
}

/// CAST between two types for which [`is_supported`] holds.
pub fn function(from: SqlType, to: SqlType, rule: ErrorRule) -> BoundFunction {
    BoundFunction::new("CAST", kernel, vec![from], to, rule)
}

fn kernel(call: &Call<'_>, failures: &mut Failures<'_>) -> Result<ColumnarValue, DataFusionError> {
    let array = call.args[0].to_array(call.rows)?;
    Ok(ColumnarValue::Array(cast(&array, &call.types[0], call.result, failures)?))
}

/// Casts a column; rows that cannot be cast are NULL and noted.
///
/// # Errors
/// A defect of ours: types that [`is_supported`] refuses.
pub fn cast(
    array: &ArrayRef,
    from: &SqlType,
    to: &SqlType,
    failures: &mut Failures<'_>,
) -> Result<ArrayRef, DataFusionError> {
    use SqlType as T;
    if from == to {
        return Ok(array.clone());
    }
    let rows = array.len();
    match (from, to) {
        (T::Array(_), T::Array(_)) | (T::Map(..), T::Map(..)) => cast_entries(array, from, to, failures),
        (T::Struct(a), T::Struct(b)) => cast_struct(array, a, b, failures),
        (_, T::String) => to_string(array, failures),
        (T::String, _) => from_string(array, to, failures),
        (_, T::Decimal(p, s)) => to_decimal(array, from, (*p, *s), failures),
        (T::Decimal(..), T::Double) => decimal::doubles(array, failures),
        (T::Decimal(..), T::Int | T::BigInt) => decimal_to_integer(array, to, failures),
        (T::BigInt, T::Int) => Ok(Arc::new(unary::<_, _, Int32Type>(array.as_primitive::<Int64Type>(), |v| v as i32))),
        (T::Double, T::Int) => {
            Ok(Arc::new(unary::<_, _, Int32Type>(array.as_primitive::<Float64Type>(), |v| v as i32)))
        }
        (T::Double, T::BigInt) => {
            Ok(Arc::new(unary::<_, _, Int64Type>(array.as_primitive::<Float64Type>(), |v| v as i64)))
        }
        (T::Timestamp, T::Date) => {
            let values = array.as_primitive::<TimestampMillisecondType>();
            Ok(Arc::new(unary::<_, _, Date32Type>(values, |ms| ms.div_euclid(DAY_MS) as i32)))
        }
        (T::Timestamp, T::Time) => {
            let values = array.as_primitive::<TimestampMillisecondType>();
            Ok(Arc::new(unary::<_, _, Time32MillisecondType>(values, |ms| ms.rem_euclid(DAY_MS) as i32)))
        }
        (T::Date, T::Timestamp) => {
            let values = array.as_primitive::<Date32Type>();
            Ok(Arc::new(unary::<_, _, TimestampMillisecondType>(values, |days| i64::from(days) * DAY_MS)))
        }
        (T::Int | T::BigInt, T::BigInt | T::Double) => Ok(arrow::compute::cast(array, &to.to_arrow())?),
        _ => Err(DataFusionError::Internal(format!("a cast of {from} to {to} over {rows} rows passed the binder"))),
    }
}

fn to_string(array: &ArrayRef, failures: &mut Failures<'_>) -> Result<ArrayRef, DataFusionError> {
    texts(array.len(), failures, |row, out| {
        if array.is_null(row) {
            return Ok(false);
        }
        text::print(array.as_ref(), row, out);
        Ok(true)
    })
    .into_array(array.len())
}

fn from_string(array: &ArrayRef, to: &SqlType, failures: &mut Failures<'_>) -> Result<ArrayRef, DataFusionError> {
    let (rows, value) = (array.len(), ColumnarValue::Array(array.clone()));
    let strings: Strs<'_> = View::of(&value)?;
    let refuse = |text: &str| Reason::from(format!("cannot cast '{text}' to {to}"));
    macro_rules! parse {
        ($text:ident => $parsed:expr) => {
            |row| match strings.get(row) {
                Some($text) => $parsed.map(Some).ok_or_else(|| refuse($text)),
                None => Ok(None),
            }
        };
    }
    let column = match to {
        SqlType::Boolean => bools(rows, failures, |row| Ok(strings.get(row).map(text::parse_boolean))),
        SqlType::Int => prims::<Int32Type>(rows, failures, parse!(t => parse_integer(t))),
        SqlType::BigInt => prims::<Int64Type>(rows, failures, parse!(t => parse_integer(t))),
        SqlType::Double => prims::<Float64Type>(rows, failures, parse!(t => text::parse_double(text::trim(t)))),
        SqlType::Decimal(p, s) => decimal::build(&to.to_arrow(), rows, failures, |row| {
            let Some(text) = strings.get(row) else { return Ok(None) };
            let (value, scale) = decimal::parse(text::trim(text)).ok_or_else(|| refuse(text))?;
            decimal::fit(value, scale, *p, *s, || text.to_owned()).map(Some)
        }),
        SqlType::Bytes => binaries(rows, failures, parse!(t => text::parse_base64(t))),
        SqlType::Date => {
            prims::<Date32Type>(rows, failures, parse!(t => calendar::parse_date(text::trim(t)).map(|d| d as i32)))
        }
        SqlType::Time => prims::<Time32MillisecondType>(
            rows,
            failures,
            parse!(t => calendar::parse_time(text::trim(t)).map(|ms| ms as i32)),
        ),
        SqlType::Timestamp => {
            prims::<TimestampMillisecondType>(rows, failures, parse!(t => calendar::parse_timestamp(text::trim(t))))
        }
        other => return Err(DataFusionError::Internal(format!("a cast of STRING to {other} passed the binder"))),
    };
    column.into_array(rows)
}

/// As `Integer.parseInt` on trimmed text.
fn parse_integer<T: std::str::FromStr>(text: &str) -> Option<T> {
    text::trim(text).parse().ok()
}

fn to_decimal(
    array: &ArrayRef,
    from: &SqlType,
    (precision, scale): (u8, u8),
    failures: &mut Failures<'_>,
) -> Result<ArrayRef, DataFusionError> {
    let rows = array.len();
    let to = SqlType::Decimal(precision, scale).to_arrow();
    if let Some(widened) = widen_decimal(array, from, (precision, scale)) {
        return Ok(Arc::new(widened.with_data_type(to)));
    }
    let column = if from == &SqlType::Double {
        let doubles = array.as_primitive::<Float64Type>();
        decimal::build(&to, rows, failures, |row| {
            if doubles.is_null(row) {
                return Ok(None);
            }
            let double = doubles.value(row);
            let shown = || double.to_string();
            let (value, from_scale) = decimal::of_double(double).ok_or_else(|| Reason::from(shown()))?;
            decimal::fit(value, from_scale, precision, scale, shown).map(Some)
        })
    } else {
        let values = Unscaled::of_array(array.clone(), false)?;
        decimal::build(&to, rows, failures, |row| {
            let Some(value) = values.wide(row) else { return Ok(None) };
            let shown = || decimal::print(value, values.scale);
            decimal::fit(value, i32::from(values.scale), precision, scale, shown).map(Some)
        })
    };
    column.into_array(rows)
}

/// An exact number at a type that holds all values of its own, by one multiplication; `None` if this is no such cast.
fn widen_decimal(
    array: &ArrayRef,
    from: &SqlType,
    (precision, scale): (u8, u8),
) -> Option<PrimitiveArray<Decimal128Type>> {
    let (own_precision, own_scale) = decimal::natural_type(from)?;
    let widens = precision <= 38 && scale >= own_scale && precision - scale >= own_precision - own_scale;
    if !widens {
        return None;
    }
    let power = 10_i128.pow(u32::from(scale - own_scale));
    Some(match from {
        SqlType::Int => unary(array.as_primitive::<Int32Type>(), |v| i128::from(v).wrapping_mul(power)),
        SqlType::BigInt => unary(array.as_primitive::<Int64Type>(), |v| i128::from(v).wrapping_mul(power)),
        _ if power == 1 => array.as_primitive::<Decimal128Type>().clone(),
        _ => unary(array.as_primitive::<Decimal128Type>(), |v| v.wrapping_mul(power)),
    })
}

/// Cuts the fraction off and keeps the low-order bits.
fn decimal_to_integer(
    array: &ArrayRef,
    to: &SqlType,
    failures: &mut Failures<'_>,
) -> Result<ArrayRef, DataFusionError> {
    let (rows, values) = (array.len(), Unscaled::of_array(array.clone(), false)?);
    let whole = |row| {
        let value = values.wide(row)?;
        let whole = decimal::rescale(value, i32::from(values.scale), 0, Rounding::Down)?;
        Some(whole.to_parts().0 as i64)
    };
    let column = match to {
        SqlType::Int => prims::<Int32Type>(rows, failures, |row| Ok(whole(row).map(|v| v as i32))),
        _ => prims::<Int64Type>(rows, failures, |row| Ok(whole(row))),
    };
    column.into_array(rows)
}

/// ARRAY and MAP: casts their children; a parent with a failing child fails.
fn cast_entries(
    array: &ArrayRef,
    from: &SqlType,
    to: &SqlType,
    failures: &mut Failures<'_>,
) -> Result<ArrayRef, DataFusionError> {
    let mut inner = Failures::new(None);
    let cast_all = |array: &ArrayRef, inner: &mut Failures<'_>| match (from, to) {
        (SqlType::Array(a), SqlType::Array(b)) => cast_list(array.as_list(), a, b, inner).map(Some),
        (SqlType::Map(k, v), SqlType::Map(l, w)) => cast_map(array.as_map(), (k, v), (l, w), inner),
        _ => Err(DataFusionError::Internal("entries are those of ARRAY and MAP".into())),
    };
    let done = cast_all(array, &mut inner)?;
    if let (true, Some(done)) = (inner.rows().is_empty(), done) {
        return Ok(done);
    }
    let offsets: &[i32] = match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value_offsets(),
        _ => array.as_map().value_offsets(),
    };
    let mut good = vec![true; array.len()];
    for (child, reason) in inner.into_rows() {
        let parent = offsets.partition_point(|&end| end as u32 <= child);
        if (1..=array.len()).contains(&parent) && array.is_valid(parent - 1) && good[parent - 1] {
            good[parent - 1] = false;
            failures.fail(parent - 1, reason);
        }
    }
    let keep: UInt32Array = good.iter().enumerate().map(|(row, good)| good.then_some(row as u32)).collect();
    let rest = take(array, &keep, None)?;
    cast_all(&rest, &mut Failures::new(None))?
        .ok_or_else(|| DataFusionError::Internal("a cast failed on rows it had passed".into()))
}

fn cast_list(
    list: &ListArray,
    from: &SqlType,
    to: &SqlType,
    failures: &mut Failures<'_>,
) -> Result<ArrayRef, DataFusionError> {
    let items = cast(list.values(), from, to, failures)?;
    let field = Arc::new(Field::new("item", to.to_arrow(), true));
    Ok(Arc::new(ListArray::try_new(field, list.offsets().clone(), items, list.nulls().cloned())?))
}

/// `None` if a key failed, for no map holds a NULL key.
fn cast_map(
    map: &MapArray,
    (from_key, from_value): (&SqlType, &SqlType),
    (to_key, to_value): (&SqlType, &SqlType),
    failures: &mut Failures<'_>,
) -> Result<Option<ArrayRef>, DataFusionError> {
    let keys = cast(map.keys(), from_key, to_key, failures)?;
    let values = cast(map.values(), from_value, to_value, failures)?;
    if keys.null_count() > 0 {
        return Ok(None);
    }
    let to = SqlType::Map(Box::new(to_key.clone()), Box::new(to_value.clone()));
    Ok(Some(map_of(&to, map.offsets().clone(), keys, values, map.nulls().cloned())?))
}

/// A MAP column of that type out of its parts.
///
/// # Errors
/// If the parts do not fit together.
pub fn map_of(
    ty: &SqlType,
    offsets: arrow::buffer::OffsetBuffer<i32>,
    keys: ArrayRef,
    values: ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, DataFusionError> {
    let DataType::Map(entries, ordered) = ty.to_arrow() else {
        return Err(DataFusionError::Internal(format!("{ty} is no MAP")));
    };
    let DataType::Struct(fields) = entries.data_type().clone() else {
        return Err(DataFusionError::Internal("the entries of a MAP are a STRUCT".into()));
    };
    let rows = StructArray::try_new(fields, vec![keys, values], None)?;
    Ok(Arc::new(MapArray::try_new(entries, offsets, rows, nulls, ordered)?))
}

fn cast_struct(
    array: &ArrayRef,
    from: &[SqlField],
    to: &[SqlField],
    failures: &mut Failures<'_>,
) -> Result<ArrayRef, DataFusionError> {
    let source = array.as_struct();
    let mut good = vec![true; array.len()];
    let mut columns = Vec::with_capacity(to.len());
    for field in to {
        let Some(index) = from.iter().position(|f| f.name == field.name) else {
            columns.push(new_null_array(&field.ty.to_arrow(), array.len()));
            continue;
        };
        let mut inner = Failures::new(None);
        columns.push(cast(source.column(index), &from[index].ty, &field.ty, &mut inner)?);
        for (row, reason) in inner.into_rows() {
            let row = row as usize;
            if array.is_valid(row) && std::mem::replace(&mut good[row], false) {
                failures.fail(row, reason);
            }
        }
    }
    let DataType::Struct(fields) = SqlType::Struct(to.into()).to_arrow() else {
        return Err(DataFusionError::Internal("a STRUCT is held as one".into()));
    };
    let good = NullBuffer::new(BooleanBuffer::from(good));
    let nulls = NullBuffer::union(source.nulls(), Some(&good));
    Ok(Arc::new(StructArray::try_new_with_length(fields, columns, nulls, array.len())?))
}
