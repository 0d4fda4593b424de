//! Columns in the making: what decoders append to.
//!
//! Not Arrow's typed builders, whose nesting is by type parameter: the types are known at run time only. The subtle thing: a NULL or absent
//! parent pushes placeholders into its children, so that all columns of a row stay aligned.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, ListArray, MapArray, PrimitiveArray, StringArray,
    StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Decimal256Type, FieldRef, Fields, Float64Type, Int32Type,
    Int64Type, Time32MillisecondType, TimeUnit, TimestampMillisecondType, i256,
};

use crate::topic::TopicError;

use super::{damaged, unsupported};

/// A column that grows cell by cell.
pub(super) struct Builder {
    data_type: DataType,
    len: usize,
    /// made at the first NULL
    valid: Option<BooleanBufferBuilder>,
    pub(super) cells: Cells,
}

/// The cells so far.
pub(super) enum Cells {
    Boolean(BooleanBufferBuilder),
    I32(Vec<i32>),
    I64(Vec<i64>),
    I128(Vec<i128>),
    I256(Vec<i256>),
    F64(Vec<f64>),
    Bytes { ends: Vec<i32>, data: Vec<u8> },
    List { ends: Vec<i32>, items: Box<Builder> },
    Struct(Vec<Builder>),
    Map { ends: Vec<i32>, keys: Box<Builder>, values: Box<Builder> },
}

impl Builder {
    /// An empty column with room for `rows` cells.
    ///
    /// # Errors
    /// If no SQL type stands in `data_type`.
    pub(super) fn new(data_type: &DataType, rows: usize) -> Result<Self, TopicError> {
        let ends = || {
            let mut ends = Vec::with_capacity(rows + 1);
            ends.push(0);
            ends
        };
        let cells = match data_type {
            DataType::Boolean => Cells::Boolean(BooleanBufferBuilder::new(rows)),
            DataType::Int32 | DataType::Date32 | DataType::Time32(TimeUnit::Millisecond) => {
                Cells::I32(Vec::with_capacity(rows))
            }
            DataType::Int64 | DataType::Timestamp(TimeUnit::Millisecond, None) => Cells::I64(Vec::with_capacity(rows)),
            DataType::Decimal128(..) => Cells::I128(Vec::with_capacity(rows)),
            DataType::Decimal256(..) => Cells::I256(Vec::with_capacity(rows)),
            DataType::Float64 => Cells::F64(Vec::with_capacity(rows)),
            DataType::Utf8 | DataType::Binary => Cells::Bytes { ends: ends(), data: Vec::with_capacity(rows * 8) },
            DataType::List(item) => Cells::List { ends: ends(), items: Box::new(Self::new(item.data_type(), rows)?) },
            DataType::Struct(fields) => {
                Cells::Struct(fields.iter().map(|f| Self::new(f.data_type(), rows)).collect::<Result<_, _>>()?)
            }
            DataType::Map(entries, _) => {
                let (key, value) = map_fields(entries).ok_or_else(|| unsupported("store", data_type))?;
                let keys = Box::new(Self::new(key.data_type(), rows)?);
                Cells::Map { ends: ends(), keys, values: Box::new(Self::new(value.data_type(), rows)?) }
            }
            other => return Err(unsupported("store", other)),
        };
        Ok(Self { data_type: data_type.clone(), len: 0, valid: None, cells })
    }

    /// Counts the cell that the caller appended to [`Self::cells`].
    pub(super) fn close(&mut self) {
        self.len += 1;
        if let Some(valid) = &mut self.valid {
            valid.append(true);
        }
    }

    /// Appends NULL.
    pub(super) fn push_null(&mut self) {
        match &mut self.cells {
            Cells::Boolean(bits) => bits.append(false),
            Cells::I32(values) => values.push(0),
            Cells::I64(values) => values.push(0),
            Cells::I128(values) => values.push(0),
            Cells::I256(values) => values.push(i256::ZERO),
            Cells::F64(values) => values.push(0.0),
            Cells::Bytes { ends, .. } | Cells::List { ends, .. } | Cells::Map { ends, .. } => {
                ends.push(ends[ends.len() - 1]);
            }
            Cells::Struct(fields) => fields.iter_mut().for_each(Self::push_null),
        }
        let len = self.len;
        let valid = self.valid.get_or_insert_with(|| {
            let mut bits = BooleanBufferBuilder::new(len.max(64));
            bits.append_n(len, true);
            bits
        });
        valid.append(false);
        self.len += 1;
    }

    /// Number of cells.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The column.
    ///
    /// # Errors
    /// [`TopicError::Corrupt`] if bytes of a STRING are no UTF-8 or a map key is NULL.
    pub(super) fn finish(self) -> Result<ArrayRef, TopicError> {
        let Self { data_type, len, valid, cells } = self;
        let nulls = valid.map(|mut bits| NullBuffer::new(bits.finish()));
        Ok(match cells {
            Cells::Boolean(mut bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Cells::I32(values) => match data_type {
                DataType::Date32 => primitive::<Date32Type>(values, nulls, data_type),
                DataType::Time32(_) => primitive::<Time32MillisecondType>(values, nulls, data_type),
                _ => primitive::<Int32Type>(values, nulls, data_type),
            },
            Cells::I64(values) => match data_type {
                DataType::Timestamp(..) => primitive::<TimestampMillisecondType>(values, nulls, data_type),
                _ => primitive::<Int64Type>(values, nulls, data_type),
            },
            Cells::I128(values) => primitive::<Decimal128Type>(values, nulls, data_type),
            Cells::I256(values) => primitive::<Decimal256Type>(values, nulls, data_type),
            Cells::F64(values) => primitive::<Float64Type>(values, nulls, data_type),
            Cells::Bytes { ends, data } if data_type == DataType::Utf8 => {
                let strings = StringArray::try_new(offsets(ends), data.into(), nulls);
                Arc::new(strings.map_err(|e| damaged(format!("text in an encoded row does not read back: {e}")))?)
            }
            Cells::Bytes { ends, data } => Arc::new(BinaryArray::new(offsets(ends), data.into(), nulls)),
            Cells::List { ends, items } => {
                let DataType::List(item) = data_type else { return Err(unsupported("list", &data_type)) };
                Arc::new(ListArray::new(item, offsets(ends), items.finish()?, nulls))
            }
            Cells::Struct(fields) => struct_column(data_type, fields, nulls, len)?,
            Cells::Map { ends, keys, values } => map_column(data_type, offsets(ends), *keys, *values, nulls)?,
        })
    }
}

/// Ends a list-like cell at `len` items.
///
/// # Errors
/// If a column outgrows Arrow's 32-bit offsets.
pub(super) fn close_at(ends: &mut Vec<i32>, len: usize) -> Result<(), TopicError> {
    let end = i32::try_from(len).map_err(|_| TopicError::Invalid("more than 2 GiB in one column of a batch".into()))?;
    ends.push(end);
    Ok(())
}

fn offsets(ends: Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(ends))
}

fn primitive<T: ArrowPrimitiveType>(
    values: Vec<T::Native>,
    nulls: Option<NullBuffer>,
    data_type: DataType,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls).with_data_type(data_type))
}

fn struct_column(
    data_type: DataType,
    fields: Vec<Builder>,
    nulls: Option<NullBuffer>,
    len: usize,
) -> Result<ArrayRef, TopicError> {
    let DataType::Struct(names) = &data_type else { return Err(unsupported("struct", &data_type)) };
    if fields.is_empty() {
        return Ok(Arc::new(StructArray::new_empty_fields(len, nulls)));
    }
    let columns = fields.into_iter().map(Builder::finish).collect::<Result<Vec<_>, _>>()?;
    let column = StructArray::try_new(names.clone(), columns, nulls);
    Ok(Arc::new(column.map_err(|e| damaged(format!("a STRUCT does not read back: {e}")))?))
}

fn map_column(
    data_type: DataType,
    ends: OffsetBuffer<i32>,
    keys: Builder,
    values: Builder,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, TopicError> {
    let refused = |e| damaged(format!("a MAP does not read back: {e}"));
    let DataType::Map(entries, sorted) = &data_type else { return Err(unsupported("map", &data_type)) };
    let DataType::Struct(fields) = entries.data_type() else { return Err(unsupported("map", &data_type)) };
    let columns = vec![keys.finish()?, values.finish()?];
    let structs = StructArray::try_new(Fields::clone(fields), columns, None).map_err(refused)?;
    Ok(Arc::new(MapArray::try_new(entries.clone(), ends, structs, nulls, *sorted).map_err(refused)?))
}

fn map_fields(entries: &FieldRef) -> Option<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(fields) => match fields.as_ref() {
            [key, value] => Some((key, value)),
            _ => None,
        },
        _ => None,
    }
}
