//! One made-up value, and many of them as an Arrow array.
//!
//! Only the types that the quickstarts use. The subtle thing: a column's cells are all of its type, which the generators' test holds; a cell
//! of another type would become NULL.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, StringArray, StructArray, TimestampMillisecondArray,
};
use arrow::datatypes::DataType;

use crate::types::SqlType;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// INT
    Int(i32),
    /// BIGINT
    BigInt(i64),
    /// DOUBLE
    Double(f64),
    /// TIMESTAMP, in ms
    Timestamp(i64),
    /// STRING
    Text(String),
    /// STRUCT, field by field
    Row(Vec<Cell>),
}

impl Cell {
    /// A STRING.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// True for a value of that type.
    pub fn is_of(&self, ty: &SqlType) -> bool {
        match (self, ty) {
            (Self::Row(cells), SqlType::Struct(fields)) => {
                cells.len() == fields.len()
                    && cells.iter().zip(fields.iter()).all(|(cell, field)| cell.is_of(&field.ty))
            }
            (Self::Int(_), SqlType::Int)
            | (Self::BigInt(_), SqlType::BigInt)
            | (Self::Double(_), SqlType::Double)
            | (Self::Timestamp(_), SqlType::Timestamp)
            | (Self::Text(_), SqlType::String) => true,
            _ => false,
        }
    }
}

/// The cells of one column, in order.
pub(super) fn array(ty: &SqlType, cells: &[&Cell]) -> ArrayRef {
    macro_rules! of {
        ($array:ty, $variant:ident) => {{
            let value = |cell: &&Cell| if let Cell::$variant(value) = cell { Some(value.clone()) } else { None };
            Arc::new(cells.iter().map(value).collect::<$array>())
        }};
    }
    match (ty, ty.to_arrow()) {
        (SqlType::Int, _) => of!(Int32Array, Int),
        (SqlType::BigInt, _) => of!(Int64Array, BigInt),
        (SqlType::Double, _) => of!(Float64Array, Double),
        (SqlType::Timestamp, _) => of!(TimestampMillisecondArray, Timestamp),
        (SqlType::Struct(fields), DataType::Struct(arrow)) => {
            let part = |i: usize| -> Vec<&Cell> {
                cells.iter().filter_map(|cell| if let Cell::Row(row) = cell { row.get(i) } else { None }).collect()
            };
            let columns = fields.iter().enumerate().map(|(i, field)| array(&field.ty, &part(i))).collect();
            Arc::new(StructArray::new(arrow, columns, None))
        }
        _ => of!(StringArray, Text),
    }
}
