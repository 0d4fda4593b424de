//! COALESCE, IFNULL, NULLIF, GREATEST, LEAST and AS_VALUE.
//!
//! The subtle thing: GREATEST and LEAST ignore NULLs, and over decimals of several types give one that holds them all.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::zip::zip;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;

use super::cast::cast;
use super::decimal;
use super::eval::{Failures, null_where, truth};
use super::logic::datum;
use super::registry::{Function, Variation};
use super::relation::{Comparison, compare};
use super::udf::Call;
use crate::types::SqlType;

type Out = Result<ColumnarValue, DataFusionError>;

macro_rules! extreme {
    ($kernel:ident) => {
        &[
            Variation::new("(val INT, vals INT...) -> INT", $kernel),
            Variation::new("(val BIGINT, vals BIGINT...) -> BIGINT", $kernel),
            Variation::new("(val DECIMAL, vals DECIMAL...) -> DECIMAL", $kernel).returning(widest_decimal),
            Variation::new("(val DOUBLE, vals DOUBLE...) -> DOUBLE", $kernel),
            Variation::new("(val STRING, vals STRING...) -> STRING", $kernel),
            Variation::new("(val BYTES, vals BYTES...) -> BYTES", $kernel),
            Variation::new("(val DATE, vals DATE...) -> DATE", $kernel),
            Variation::new("(val TIME, vals TIME...) -> TIME", $kernel),
            Variation::new("(val TIMESTAMP, vals TIMESTAMP...) -> TIMESTAMP", $kernel),
        ]
    };
}

/// The functions of this family.
pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "AS_VALUE",
        "OTHER",
        "The value unchanged; makes a copy of a key column a value column.",
        &[Variation::new("(keyColumn T) -> T", |call, _| Ok(call.args[0].clone()))],
    ),
    Function::new(
        "COALESCE",
        "CONDITIONAL",
        "The first value that is not NULL.",
        &[Variation::new("(first T, others T...) -> T", coalesce)],
    ),
    Function::new(
        "IFNULL",
        "CONDITIONAL",
        "The value, or another one if it is NULL.",
        &[Variation::new("(expression T, altValue T) -> T", coalesce)],
    ),
    Function::new(
        "NULLIF",
        "CONDITIONAL",
        "NULL if the two values are equal, else the first.",
        &[Variation::new("(expression1 T, expression2 T) -> T", null_if)],
    ),
    Function::new("GREATEST", "MATHEMATICAL", "The greatest of the values; NULLs are ignored.", extreme!(greatest)),
    Function::new("LEAST", "MATHEMATICAL", "The least of the values; NULLs are ignored.", extreme!(least)),
];

fn widest_decimal(types: &[SqlType]) -> Result<SqlType, String> {
    let mut widest: Option<(u8, u8)> = None;
    for ty in types {
        let next = decimal::natural_type(ty).ok_or_else(|| format!("{ty} is no DECIMAL"))?;
        widest = Some(widest.map_or(next, |widest| decimal::common_type(widest, next)));
    }
    let (precision, scale) = widest.ok_or("a value is needed")?;
    Ok(SqlType::Decimal(precision, scale))
}

fn coalesce(call: &Call<'_>, _: &mut Failures<'_>) -> Out {
    let mut merged = call.args[0].clone();
    for next in &call.args[1..] {
        merged = match &merged {
            ColumnarValue::Scalar(scalar) if scalar.is_null() => next.clone(),
            ColumnarValue::Scalar(_) => break,
            ColumnarValue::Array(array) if array.null_count() == 0 => break,
            ColumnarValue::Array(array) => {
                let there = match array.nulls() {
                    Some(nulls) => nulls.inner().clone(),
                    None => break,
                };
                ColumnarValue::Array(zip(&BooleanArray::new(there, None), array, datum(next)?.as_ref())?)
            }
        };
    }
    Ok(merged)
}

fn null_if(call: &Call<'_>, _: &mut Failures<'_>) -> Out {
    let equal = compare(Comparison::Eq, &call.args[0], &call.args[1])?;
    null_where(call.args[0].clone(), call.rows, &truth(&equal, call.rows)?)
}

fn greatest(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    extreme(call, failures, Comparison::Gt)
}

fn least(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    extreme(call, failures, Comparison::Lt)
}

fn extreme(call: &Call<'_>, failures: &mut Failures<'_>, beats: Comparison) -> Out {
    let mut best: Option<ArrayRef> = None;
    for (value, ty) in call.args.iter().zip(call.types) {
        let next = cast(&value.to_array(call.rows)?, ty, call.result, failures)?;
        best = Some(match best {
            None => next,
            Some(best) => {
                let (b, n) = (ColumnarValue::Array(best.clone()), ColumnarValue::Array(next.clone()));
                let wins = truth(&compare(beats, &n, &b)?, call.rows)?;
                let fills = BooleanBuffer::collect_bool(call.rows, |row| best.is_null(row) && next.is_valid(row));
                zip(&BooleanArray::new(&wins | &fills, None), &next, &best)?
            }
        });
    }
    Ok(ColumnarValue::Array(best.unwrap_or_else(|| Arc::new(new_null_array(&call.result_type(), call.rows)))))
}
