//! Table functions: many rows out of one.
//!
//! Not their zipping into output rows (`operator`). The subtle thing: the result names the input row of each value, in order, so a row that
//! gives none is simply not named.

use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field};
use datafusion::error::DataFusionError;
use std::sync::Arc;

use super::eval::Failures;
use super::registry::Listed;
use crate::types::SqlType;

/// More elements than this fail a row of CUBE_EXPLODE: it would give over a million rows.
const MAX_CUBE_ELEMENTS: usize = 20;

/// The table functions.
pub const FUNCTIONS: &[Listed] = &[
    Listed {
        name: "EXPLODE",
        description: "One row for each element of an array.",
        signatures: &["(list ARRAY<T>) -> T"],
    },
    Listed {
        name: "CUBE_EXPLODE",
        description: "One row for each combination of the elements being there or NULL.",
        signatures: &["(list ARRAY<T>) -> ARRAY<T>"],
    },
];

/// A table function of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TableFunction {
    /// EXPLODE
    Explode,
    /// CUBE_EXPLODE
    CubeExplode,
}

/// Values with the input rows they come from, in order.
#[derive(Clone, Debug)]
pub struct Exploded {
    /// input row of each value, non-decreasing
    pub rows: UInt32Array,
    /// the values
    pub values: ArrayRef,
}

impl TableFunction {
    /// The table function of that folded name with these argument types, and the type of its rows.
    ///
    /// # Errors
    /// What it takes instead, if it does not take these types. `None` if there is no table function of that name.
    pub fn resolve(name: &str, types: &[SqlType]) -> Option<Result<(Self, SqlType), String>> {
        let function = match name {
            "EXPLODE" => Self::Explode,
            "CUBE_EXPLODE" => Self::CubeExplode,
            _ => return None,
        };
        Some(match (types, function) {
            ([SqlType::Array(item)], Self::Explode) => Ok((function, item.as_ref().clone())),
            ([SqlType::Array(_)], Self::CubeExplode) => Ok((function, types[0].clone())),
            _ => {
                let types: Vec<_> = types.iter().map(ToString::to_string).collect();
                Err(format!("Function '{name}' does not accept parameters ({}), but one ARRAY", types.join(", ")))
            }
        })
    }

    /// The rows that an ARRAY column gives; rows that fail give none.
    ///
    /// # Errors
    /// A defect of ours: an argument that is no ARRAY.
    pub fn evaluate(self, array: &ArrayRef, failures: &mut Failures<'_>) -> Result<Exploded, DataFusionError> {
        let list = array
            .as_list_opt::<i32>()
            .ok_or_else(|| DataFusionError::Internal(format!("{} is no ARRAY", array.data_type())))?;
        match self {
            Self::Explode => explode(list, failures),
            Self::CubeExplode => cube_explode(list, failures),
        }
    }
}

fn explode(list: &ListArray, failures: &Failures<'_>) -> Result<Exploded, DataFusionError> {
    let (mut rows, mut items) = (Vec::new(), Vec::new());
    let offsets = list.value_offsets();
    for row in (0..list.len()).filter(|&row| list.is_valid(row) && failures.wants(row)) {
        for item in offsets[row]..offsets[row + 1] {
            rows.push(row as u32);
            items.push(item as u32);
        }
    }
    Ok(Exploded { rows: rows.into(), values: take(list.values(), &UInt32Array::from(items), None)? })
}

fn cube_explode(list: &ListArray, failures: &mut Failures<'_>) -> Result<Exploded, DataFusionError> {
    let (mut rows, mut items, mut ends) = (Vec::new(), Vec::new(), vec![0_i32]);
    let offsets = list.value_offsets();
    for row in (0..list.len()).filter(|&row| list.is_valid(row) && failures.wants(row)).collect::<Vec<_>>() {
        let elements = offsets[row]..offsets[row + 1];
        if elements.len() > MAX_CUBE_ELEMENTS {
            failures
                .fail(row, format!("CUBE_EXPLODE takes at most {MAX_CUBE_ELEMENTS} elements, not {}", elements.len()));
            continue;
        }
        let there: Vec<i32> = elements.clone().filter(|&i| list.values().is_valid(i as usize)).collect();
        for combination in 0..1_u32 << there.len() {
            rows.push(row as u32);
            items.extend(elements.clone().map(|i| {
                let bit = there.iter().rposition(|&j| j == i).map(|at| there.len() - 1 - at);
                bit.filter(|bit| combination >> bit & 1 == 1).map(|_| i as u32)
            }));
            ends.push(i32::try_from(items.len()).map_err(|_| too_many())?);
        }
    }
    let DataType::List(item) = list.data_type() else {
        return Err(DataFusionError::Internal("an ARRAY is held as a list".into()));
    };
    let item: Arc<Field> = item.clone();
    let values = take(list.values(), &UInt32Array::from(items), None)?;
    let values = ListArray::try_new(item, OffsetBuffer::new(ScalarBuffer::from(ends)), values, None)?;
    Ok(Exploded { rows: rows.into(), values: Arc::new(values) })
}

fn too_many() -> DataFusionError {
    DataFusionError::ResourcesExhausted("CUBE_EXPLODE gives more rows of one batch than a column holds".into())
}
