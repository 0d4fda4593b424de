//! Arguments and results of kernels as typed columns: views that read arrays and constants alike, and loops that build a column.
//!
//! Knows no function. The subtle thing: the loops skip rows that are not wanted, so a costly function under a short-circuiting operator
//! costs what the rows that need it cost.

use arrow::array::{
    Array, ArrayAccessor, ArrayRef, ArrowPrimitiveType, BinaryArray, BinaryBuilder, BooleanArray, BooleanBuilder,
    Date32Array, Float64Array, Int32Array, Int64Array, ListArray, ListBuilder, MapArray, PrimitiveArray,
    PrimitiveBuilder, StringArray, StringBuilder, StructArray, Time32MillisecondArray, TimestampMillisecondArray,
};
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use std::sync::Arc;

use super::eval::{Failures, Reason};

/// What a function gives for one row: a value, NULL, or the reason why it failed.
pub type Outcome<T> = Result<Option<T>, Reason>;

/// An argument as a typed column; a constant is a column whose every row is the same.
#[derive(Debug)]
pub struct View<'a, A> {
    array: Held<'a, A>,
}

#[derive(Debug)]
enum Held<'a, A> {
    Rows(&'a A),
    One(A),
}

/// A STRING argument.
pub type Strs<'a> = View<'a, StringArray>;
/// A BYTES argument.
pub type Bytes<'a> = View<'a, BinaryArray>;
/// A BOOLEAN argument.
pub type Bools<'a> = View<'a, BooleanArray>;
/// An INT argument.
pub type Ints<'a> = View<'a, Int32Array>;
/// A BIGINT argument.
pub type Longs<'a> = View<'a, Int64Array>;
/// A DOUBLE argument.
pub type Doubles<'a> = View<'a, Float64Array>;
/// A DATE argument.
pub type Dates<'a> = View<'a, Date32Array>;
/// A TIME argument.
pub type Times<'a> = View<'a, Time32MillisecondArray>;
/// A TIMESTAMP argument.
pub type Timestamps<'a> = View<'a, TimestampMillisecondArray>;
/// An ARRAY argument.
pub type Lists<'a> = View<'a, ListArray>;
/// A MAP argument.
pub type Maps<'a> = View<'a, MapArray>;
/// A STRUCT argument.
pub type Structs<'a> = View<'a, StructArray>;

impl<'a, A: Array + Clone + 'static> View<'a, A> {
    /// The argument as a column of that array type.
    ///
    /// # Errors
    /// If it is of another type: a defect of overload resolution.
    pub fn of(value: &'a ColumnarValue) -> Result<Self, DataFusionError> {
        let array = match value {
            ColumnarValue::Array(array) => Held::Rows(downcast(array)?),
            ColumnarValue::Scalar(scalar) => Held::One(downcast::<A>(&scalar.to_array()?)?.clone()),
        };
        Ok(Self { array })
    }

    /// The array that holds the row, and its index there.
    #[inline]
    pub fn at(&self, row: usize) -> (&A, usize) {
        match &self.array {
            Held::Rows(array) => (array, row),
            Held::One(array) => (array, 0),
        }
    }

    /// True if the row is NULL.
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        let (array, index) = self.at(row);
        array.is_null(index)
    }

    /// The row's value; `None` if it is NULL.
    #[inline]
    pub fn get<'s>(&'s self, row: usize) -> Option<<&'s A as ArrayAccessor>::Item>
    where
        &'s A: ArrayAccessor,
    {
        let (array, index) = self.at(row);
        array.is_valid(index).then(|| ArrayAccessor::value(&array, index))
    }
}

fn downcast<A: 'static>(array: &ArrayRef) -> Result<&A, DataFusionError> {
    array.as_any().downcast_ref::<A>().ok_or_else(|| {
        DataFusionError::Internal(format!("a kernel was given {} in place of its type", array.data_type()))
    })
}

/// Builds a STRING column, row by row.
pub fn strings<S: AsRef<str>>(
    rows: usize,
    failures: &mut Failures<'_>,
    mut f: impl FnMut(usize) -> Outcome<S>,
) -> ColumnarValue {
    let mut builder = StringBuilder::with_capacity(rows, rows * 8);
    for row in 0..rows {
        match wanted(failures, row, &mut f) {
            Some(value) => builder.append_value(value),
            None => builder.append_null(),
        }
    }
    ColumnarValue::Array(Arc::new(builder.finish()))
}

/// Builds a BYTES column, row by row.
pub fn binaries<S: AsRef<[u8]>>(
    rows: usize,
    failures: &mut Failures<'_>,
    mut f: impl FnMut(usize) -> Outcome<S>,
) -> ColumnarValue {
    let mut builder = BinaryBuilder::with_capacity(rows, rows * 8);
    for row in 0..rows {
        match wanted(failures, row, &mut f) {
            Some(value) => builder.append_value(value),
            None => builder.append_null(),
        }
    }
    ColumnarValue::Array(Arc::new(builder.finish()))
}

/// Builds a BOOLEAN column, row by row.
pub fn bools(rows: usize, failures: &mut Failures<'_>, mut f: impl FnMut(usize) -> Outcome<bool>) -> ColumnarValue {
    let mut builder = BooleanBuilder::with_capacity(rows);
    for row in 0..rows {
        builder.append_option(wanted(failures, row, &mut f));
    }
    ColumnarValue::Array(Arc::new(builder.finish()))
}

/// Builds a column of a primitive type, row by row.
pub fn prims<T: ArrowPrimitiveType>(
    rows: usize,
    failures: &mut Failures<'_>,
    f: impl FnMut(usize) -> Outcome<T::Native>,
) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(prim_array::<T>(rows, failures, f)))
}

/// As [`prims`], of a type with parameters (a DECIMAL of some precision and scale).
pub fn prims_of<T: ArrowPrimitiveType>(
    data_type: &DataType,
    rows: usize,
    failures: &mut Failures<'_>,
    f: impl FnMut(usize) -> Outcome<T::Native>,
) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(prim_array::<T>(rows, failures, f).with_data_type(data_type.clone())))
}

fn prim_array<T: ArrowPrimitiveType>(
    rows: usize,
    failures: &mut Failures<'_>,
    mut f: impl FnMut(usize) -> Outcome<T::Native>,
) -> PrimitiveArray<T> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(rows);
    for row in 0..rows {
        builder.append_option(wanted(failures, row, &mut f));
    }
    builder.finish()
}

/// The row's value, if it is wanted; a failure is noted and NULL.
#[inline]
pub fn wanted<T>(failures: &mut Failures<'_>, row: usize, f: &mut impl FnMut(usize) -> Outcome<T>) -> Option<T> {
    if !failures.wants(row) {
        return None;
    }
    match f(row) {
        Ok(value) => value,
        Err(reason) => {
            failures.fail(row, reason);
            None
        }
    }
}

/// Builds a STRING column from text that `f` appends to a buffer; false is NULL.
pub fn texts(
    rows: usize,
    failures: &mut Failures<'_>,
    mut f: impl FnMut(usize, &mut String) -> Result<bool, Reason>,
) -> ColumnarValue {
    let mut builder = StringBuilder::with_capacity(rows, rows * 8);
    let mut buffer = String::new();
    for row in 0..rows {
        buffer.clear();
        let mut some = |row| f(row, &mut buffer).map(|some| some.then_some(()));
        match wanted(failures, row, &mut some) {
            Some(()) => builder.append_value(&buffer),
            None => builder.append_null(),
        }
    }
    ColumnarValue::Array(Arc::new(builder.finish()))
}

/// Builds an `ARRAY<STRING>` column from items that `f` pushes to a list; false is NULL.
pub fn string_lists(
    rows: usize,
    failures: &mut Failures<'_>,
    mut f: impl FnMut(usize, &mut Vec<Option<String>>) -> Result<bool, Reason>,
) -> ColumnarValue {
    let mut builder = ListBuilder::new(StringBuilder::new());
    let mut items = Vec::new();
    for row in 0..rows {
        items.clear();
        let mut some = |row| f(row, &mut items).map(|some| some.then_some(()));
        let some = wanted(failures, row, &mut some).is_some();
        if some {
            items.iter().for_each(|item| builder.values().append_option(item.as_deref()));
        }
        builder.append(some);
    }
    ColumnarValue::Array(Arc::new(builder.finish()))
}

/// Builds an `ARRAY<BYTES>` column; otherwise as [`string_lists`].
pub fn binary_lists(
    rows: usize,
    failures: &mut Failures<'_>,
    mut f: impl FnMut(usize, &mut Vec<Vec<u8>>) -> Result<bool, Reason>,
) -> ColumnarValue {
    let mut builder = ListBuilder::new(BinaryBuilder::new());
    let mut items = Vec::new();
    for row in 0..rows {
        items.clear();
        let mut some = |row| f(row, &mut items).map(|some| some.then_some(()));
        let some = wanted(failures, row, &mut some).is_some();
        if some {
            items.iter().for_each(|item| builder.values().append_value(item));
        }
        builder.append(some);
    }
    ColumnarValue::Array(Arc::new(builder.finish()))
}
