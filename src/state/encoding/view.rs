//! Arrow columns opened once, to be read cell by cell without looking at types of arrays again.
//!
//! Not a copy: everything is borrowed. The subtle thing: slices of arrays keep their offsets here, so index 0 is the slice's first row.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int32Type, Int64Type, Time32MillisecondType,
    TimeUnit, TimestampMillisecondType, i256,
};

use crate::topic::TopicError;

use super::unsupported;

/// A column to be read by row.
pub(super) struct View<'a> {
    nulls: Option<&'a NullBuffer>,
    pub(super) values: Values<'a>,
}

/// Its values; one variant for each way of storing, not for each type.
pub(super) enum Values<'a> {
    Boolean(&'a BooleanBuffer),
    I32(&'a [i32]),
    I64(&'a [i64]),
    I128(&'a [i128]),
    I256(&'a [i256]),
    F64(&'a [f64]),
    Bytes { offsets: &'a [i32], data: &'a [u8] },
    List { offsets: &'a [i32], items: Box<View<'a>> },
    Struct(Vec<View<'a>>),
    Map { offsets: &'a [i32], keys: Box<View<'a>>, values: Box<View<'a>> },
}

impl<'a> View<'a> {
    /// Opens `column`.
    ///
    /// # Errors
    /// If no SQL type stands in that Arrow type.
    pub(super) fn new(column: &'a ArrayRef) -> Result<Self, TopicError> {
        let values = match column.data_type() {
            DataType::Boolean => Values::Boolean(column.as_boolean().values()),
            DataType::Int32 => Values::I32(column.as_primitive::<Int32Type>().values()),
            DataType::Date32 => Values::I32(column.as_primitive::<Date32Type>().values()),
            DataType::Time32(TimeUnit::Millisecond) => {
                Values::I32(column.as_primitive::<Time32MillisecondType>().values())
            }
            DataType::Int64 => Values::I64(column.as_primitive::<Int64Type>().values()),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Values::I64(column.as_primitive::<TimestampMillisecondType>().values())
            }
            DataType::Decimal128(..) => Values::I128(column.as_primitive::<Decimal128Type>().values()),
            DataType::Decimal256(..) => Values::I256(column.as_primitive::<Decimal256Type>().values()),
            DataType::Float64 => Values::F64(column.as_primitive::<Float64Type>().values()),
            DataType::Utf8 => {
                let strings = column.as_string::<i32>();
                Values::Bytes { offsets: strings.value_offsets(), data: strings.value_data() }
            }
            DataType::Binary => {
                let bytes = column.as_binary::<i32>();
                Values::Bytes { offsets: bytes.value_offsets(), data: bytes.value_data() }
            }
            DataType::List(_) => {
                let list = column.as_list::<i32>();
                Values::List { offsets: list.value_offsets(), items: Box::new(Self::new(list.values())?) }
            }
            DataType::Struct(_) => {
                Values::Struct(column.as_struct().columns().iter().map(Self::new).collect::<Result<_, _>>()?)
            }
            DataType::Map(..) => {
                let map = column.as_map();
                let (keys, values) = (Box::new(Self::new(map.keys())?), Box::new(Self::new(map.values())?));
                Values::Map { offsets: map.value_offsets(), keys, values }
            }
            other => return Err(unsupported("store", other)),
        };
        Ok(Self { nulls: column.nulls(), values })
    }

    /// True if the cell of row `i` is NULL.
    pub(super) fn is_null(&self, i: usize) -> bool {
        self.nulls.is_some_and(|n| n.is_null(i))
    }

    /// True if some cell is NULL.
    pub(super) fn has_nulls(&self) -> bool {
        self.nulls.is_some_and(|n| n.null_count() > 0)
    }
}

/// Rows `i` of a list or map column: the range of its items.
pub(super) fn items_of(offsets: &[i32], i: usize) -> std::ops::Range<usize> {
    offsets[i] as usize..offsets[i + 1] as usize
}
