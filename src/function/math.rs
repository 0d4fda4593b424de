//! Numbers: rounding, roots, logarithms, angles, dice.
//!
//! The subtle thing: ROUND sends ties towards +∞ (HALF_UP above zero, HALF_DOWN below), on the shortest decimal text of a double.

use arrow::array::AsArray;
use arrow::compute::unary;
use arrow::datatypes::{Decimal128Type, Decimal256Type, Float64Type, Int32Type, Int64Type, i256};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use std::sync::Arc;

use super::columns::{Doubles, Ints, Longs, Strs, prims};
use super::decimal::{self, Rounding, Unscaled};
use super::eval::{Failures, Reason};
use super::registry::{Function, Variation};
use super::text;
use super::udf::Call;
use crate::types::SqlType;

const CATEGORY: &str = "MATHEMATICAL";
type Out = Result<ColumnarValue, DataFusionError>;

/// Mean earth radius in kilometres, as ksqlDB's.
const EARTH_KM: f64 = 6371.0;
/// Mean earth radius in miles, as ksqlDB's.
const EARTH_MI: f64 = 3959.0;

macro_rules! of_double {
    ($name:literal, $description:literal, $f:expr) => {
        Function::new(
            $name,
            CATEGORY,
            $description,
            &[
                Variation::new("(value INT) -> DOUBLE", |call, failures| map_number(call, failures, $f)),
                Variation::new("(value BIGINT) -> DOUBLE", |call, failures| map_number(call, failures, $f)),
                Variation::new("(value DOUBLE) -> DOUBLE", |call, failures| map_number(call, failures, $f)),
            ],
        )
    };
}

macro_rules! of_two_doubles {
    ($params:literal, $f:expr) => {
        Variation::new($params, |call, failures| zip_numbers(call, failures, $f))
    };
}

/// The functions of this family.
pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "ABS",
        CATEGORY,
        "The absolute value.",
        &[
            Variation::new("(val INT) -> INT", abs),
            Variation::new("(val BIGINT) -> BIGINT", abs),
            Variation::new("(val DOUBLE) -> DOUBLE", abs),
            Variation::new("(val DECIMAL) -> DECIMAL", abs).returning(first_type),
        ],
    ),
    of_double!("ACOS", "The arc cosine in radians.", f64::acos),
    of_double!("ASIN", "The arc sine in radians.", f64::asin),
    of_double!("ATAN", "The arc tangent in radians.", f64::atan),
    Function::new(
        "ATAN2",
        CATEGORY,
        "The angle of a point, in radians.",
        &[
            of_two_doubles!("(y INT, x INT) -> DOUBLE", f64::atan2),
            of_two_doubles!("(y BIGINT, x BIGINT) -> DOUBLE", f64::atan2),
            of_two_doubles!("(y DOUBLE, x DOUBLE) -> DOUBLE", f64::atan2),
        ],
    ),
    of_double!("CBRT", "The cube root.", f64::cbrt),
    Function::new(
        "CEIL",
        CATEGORY,
        "The least whole number that is not less.",
        &[
            Variation::new("(value INT) -> INT", same),
            Variation::new("(value BIGINT) -> BIGINT", same),
            Variation::new("(value DOUBLE) -> DOUBLE", |call, failures| map_number(call, failures, f64::ceil)),
            Variation::new("(value DECIMAL) -> DECIMAL", ceil_decimal).returning(first_type),
        ],
    ),
    of_double!("COS", "The cosine of an angle in radians.", f64::cos),
    of_double!("COSH", "The hyperbolic cosine.", f64::cosh),
    of_double!("COT", "The cotangent of an angle in radians.", |x| 1.0 / x.tan()),
    of_double!("DEGREES", "Radians as degrees.", |x| x * 180.0 / std::f64::consts::PI),
    of_double!("EXP", "e to the power of the value.", f64::exp),
    Function::new(
        "FLOOR",
        CATEGORY,
        "The greatest whole number that is not greater.",
        &[
            Variation::new("(value INT) -> INT", same),
            Variation::new("(value BIGINT) -> BIGINT", same),
            Variation::new("(value DOUBLE) -> DOUBLE", |call, failures| map_number(call, failures, f64::floor)),
            Variation::new("(value DECIMAL) -> DECIMAL", floor_decimal).returning(first_type),
        ],
    ),
    Function::new(
        "GEO_DISTANCE",
        "OTHER",
        "The great-circle distance of two points given in degrees, in km or miles.",
        &[
            Variation::new("(lat1 DOUBLE, lon1 DOUBLE, lat2 DOUBLE, lon2 DOUBLE) -> DOUBLE", geo_distance),
            Variation::new(
                "(lat1 DOUBLE, lon1 DOUBLE, lat2 DOUBLE, lon2 DOUBLE, units STRING) -> DOUBLE",
                geo_distance,
            ),
        ],
    ),
    of_double!("LN", "The natural logarithm.", f64::ln),
    Function::new(
        "LOG",
        CATEGORY,
        "The logarithm to a base; the natural one if no base is given.",
        &[
            Variation::new("(value INT) -> DOUBLE", |call, failures| map_number(call, failures, f64::ln)),
            Variation::new("(value BIGINT) -> DOUBLE", |call, failures| map_number(call, failures, f64::ln)),
            Variation::new("(value DOUBLE) -> DOUBLE", |call, failures| map_number(call, failures, f64::ln)),
            of_two_doubles!("(base INT, value INT) -> DOUBLE", log),
            of_two_doubles!("(base BIGINT, value BIGINT) -> DOUBLE", log),
            of_two_doubles!("(base DOUBLE, value DOUBLE) -> DOUBLE", log),
        ],
    ),
    Function::new(
        "PI",
        CATEGORY,
        "The ratio of a circle's circumference to its diameter.",
        &[Variation::new("() -> DOUBLE", |_, _| {
            Ok(ColumnarValue::Scalar(datafusion::scalar::ScalarValue::Float64(Some(std::f64::consts::PI))))
        })],
    ),
    Function::new(
        "POWER",
        CATEGORY,
        "A base to the power of an exponent.",
        &[
            of_two_doubles!("(base INT, exponent INT) -> DOUBLE", f64::powf),
            of_two_doubles!("(base BIGINT, exponent BIGINT) -> DOUBLE", f64::powf),
            of_two_doubles!("(base DOUBLE, exponent DOUBLE) -> DOUBLE", f64::powf),
        ],
    ),
    of_double!("RADIANS", "Degrees as radians.", radians),
    Function::new(
        "RANDOM",
        CATEGORY,
        "A random number from 0 to below 1.",
        &[Variation::new("() -> DOUBLE", |call, failures| {
            Ok(prims::<Float64Type>(call.rows, failures, |_| Ok(Some(rand::random::<f64>()))))
        })],
    )
    .volatile(),
    Function::new(
        "ROUND",
        CATEGORY,
        "The nearest number with so many digits after the point; ties go towards +∞.",
        &[
            Variation::new("(val INT) -> BIGINT", widen),
            Variation::new("(val BIGINT) -> BIGINT", widen),
            Variation::new("(val DOUBLE) -> BIGINT", round_double),
            Variation::new("(val DOUBLE, decimalPlaces INT) -> DOUBLE", |c, f| double_places(c, f, ties_up)),
            Variation::new("(val DECIMAL) -> DECIMAL", |c, f| decimal_places(c, f, ties_up)).returning(whole_type),
            Variation::new("(val DECIMAL, decimalPlaces INT) -> DECIMAL", |c, f| decimal_places(c, f, ties_up))
                .returning(first_type),
        ],
    ),
    Function::new(
        "SIGN",
        CATEGORY,
        "-1, 0 or 1 as the value is negative, zero or positive.",
        &[
            Variation::new("(value INT) -> INT", sign),
            Variation::new("(value BIGINT) -> INT", sign),
            Variation::new("(value DOUBLE) -> INT", sign),
        ],
    ),
    of_double!("SIN", "The sine of an angle in radians.", f64::sin),
    of_double!("SINH", "The hyperbolic sine.", f64::sinh),
    of_double!("SQRT", "The square root.", f64::sqrt),
    of_double!("TAN", "The tangent of an angle in radians.", f64::tan),
    of_double!("TANH", "The hyperbolic tangent.", f64::tanh),
    Function::new(
        "TRUNC",
        CATEGORY,
        "The number cut, towards zero, to so many digits after the point.",
        &[
            Variation::new("(val INT) -> BIGINT", widen),
            Variation::new("(val BIGINT) -> BIGINT", widen),
            Variation::new("(val DOUBLE) -> BIGINT", |call, failures| {
                let values = Doubles::of(&call.args[0])?;
                Ok(prims::<Int64Type>(call.rows, failures, |row| Ok(values.get(row).map(|v| v as i64))))
            }),
            Variation::new("(val DOUBLE, decimalPlaces INT) -> DOUBLE", |c, f| double_places(c, f, cut)),
            Variation::new("(val DECIMAL) -> DECIMAL", |c, f| decimal_places(c, f, cut)).returning(whole_type),
            Variation::new("(val DECIMAL, decimalPlaces INT) -> DECIMAL", |c, f| decimal_places(c, f, cut))
                .returning(first_type),
        ],
    ),
];

fn first_type(types: &[SqlType]) -> Result<SqlType, String> {
    types.first().cloned().ok_or_else(|| "an argument is needed".into())
}

/// DECIMAL(p - s, 0).
fn whole_type(types: &[SqlType]) -> Result<SqlType, String> {
    match types.first() {
        Some(SqlType::Decimal(p, s)) if p > s => Ok(SqlType::Decimal(p - s, 0)),
        Some(SqlType::Decimal(p, s)) => Err(format!("DECIMAL precision must be >= 1: DECIMAL({},0)", p - s)),
        _ => Err("a DECIMAL is needed".into()),
    }
}

fn same(call: &Call<'_>, _: &mut Failures<'_>) -> Out {
    Ok(call.args[0].clone())
}

fn widen(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let null = || Reason::from("the argument is NULL");
    if call.types[0] == SqlType::Int {
        let values = Ints::of(&call.args[0])?;
        return Ok(prims::<Int64Type>(call.rows, failures, |row| {
            values.get(row).map(|v| Some(v.into())).ok_or_else(null)
        }));
    }
    let values = Longs::of(&call.args[0])?;
    Ok(prims::<Int64Type>(call.rows, failures, |row| values.get(row).map(Some).ok_or_else(null)))
}

fn abs(call: &Call<'_>, _: &mut Failures<'_>) -> Out {
    let array = call.args[0].to_array(call.rows)?;
    Ok(ColumnarValue::Array(match call.result {
        SqlType::Int => Arc::new(unary::<_, _, Int32Type>(array.as_primitive::<Int32Type>(), i32::wrapping_abs)),
        SqlType::BigInt => Arc::new(unary::<_, _, Int64Type>(array.as_primitive::<Int64Type>(), i64::wrapping_abs)),
        SqlType::Double => Arc::new(unary::<_, _, Float64Type>(array.as_primitive::<Float64Type>(), f64::abs)),
        SqlType::Decimal(p, _) if *p <= 38 => {
            let values = array.as_primitive::<Decimal128Type>();
            Arc::new(
                unary::<_, _, Decimal128Type>(values, i128::wrapping_abs).with_data_type(array.data_type().clone()),
            )
        }
        _ => {
            let values = array.as_primitive::<Decimal256Type>();
            Arc::new(
                unary::<_, _, Decimal256Type>(values, i256::wrapping_abs).with_data_type(array.data_type().clone()),
            )
        }
    }))
}

/// An INT, BIGINT or DOUBLE argument as doubles.
fn doubles(call: &Call<'_>, index: usize) -> Result<ColumnarValue, DataFusionError> {
    let value = &call.args[index];
    Ok(match (&call.types[index], value) {
        (SqlType::Double, value) => value.clone(),
        (_, ColumnarValue::Array(array)) => {
            ColumnarValue::Array(arrow::compute::cast(array, &arrow::datatypes::DataType::Float64)?)
        }
        (_, ColumnarValue::Scalar(s)) => ColumnarValue::Scalar(s.cast_to(&arrow::datatypes::DataType::Float64)?),
    })
}

fn map_number(call: &Call<'_>, _: &mut Failures<'_>, f: fn(f64) -> f64) -> Out {
    let array = doubles(call, 0)?.into_array(call.rows)?;
    Ok(ColumnarValue::Array(Arc::new(unary::<_, _, Float64Type>(array.as_primitive::<Float64Type>(), f))))
}

fn zip_numbers(call: &Call<'_>, failures: &mut Failures<'_>, f: fn(f64, f64) -> f64) -> Out {
    let (left, right) = (doubles(call, 0)?, doubles(call, 1)?);
    let (left, right) = (Doubles::of(&left)?, Doubles::of(&right)?);
    Ok(prims::<Float64Type>(call.rows, failures, |row| {
        Ok(left.get(row).zip(right.get(row)).map(|(left, right)| f(left, right)))
    }))
}

fn log(base: f64, value: f64) -> f64 {
    if base <= 0.0 || base == 1.0 { f64::NAN } else { value.ln() / base.ln() }
}

fn sign(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = doubles(call, 0)?;
    let values = Doubles::of(&values)?;
    Ok(prims::<Int32Type>(call.rows, failures, |row| {
        Ok(values.get(row).map(|v| i32::from(v > 0.0) - i32::from(v < 0.0)))
    }))
}

/// How ROUND decides: HALF_UP above zero, else HALF_DOWN.
fn ties_up(value: i256) -> Rounding {
    if value > i256::ZERO { Rounding::HalfUp } else { Rounding::HalfDown }
}

fn cut(_: i256) -> Rounding {
    Rounding::Down
}

/// As `Math.round`: the floor of the value plus a half, saturating.
fn round_double(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = Doubles::of(&call.args[0])?;
    Ok(prims::<Int64Type>(call.rows, failures, |row| {
        Ok(values.get(row).map(|v| {
            let floor = v.floor();
            if v - floor >= 0.5 { (floor + 1.0) as i64 } else { floor as i64 }
        }))
    }))
}

fn double_places(call: &Call<'_>, failures: &mut Failures<'_>, rounding: fn(i256) -> Rounding) -> Out {
    let (values, places) = (Doubles::of(&call.args[0])?, Ints::of(&call.args[1])?);
    let mut shown = String::new();
    Ok(prims::<Float64Type>(call.rows, failures, |row| {
        let (Some(value), Some(places)) = (values.get(row), places.get(row)) else { return Ok(None) };
        let Some((unscaled, scale)) = decimal::of_double(value) else {
            return Err("NaN and infinities cannot be rounded".into());
        };
        if places >= scale {
            return Ok(Some(value));
        }
        let Some(rounded) = decimal::rescale(unscaled, scale, places, rounding(unscaled)) else {
            return Ok(Some(value));
        };
        shown.clear();
        std::fmt::Write::write_fmt(&mut shown, format_args!("{rounded}e{}", -i64::from(places)))
            .map_err(|_| Reason::from("a number that cannot be printed"))?;
        text::parse_double(&shown).map(Some).ok_or_else(|| format!("{shown} is no DOUBLE").into())
    }))
}

fn decimal_places(call: &Call<'_>, failures: &mut Failures<'_>, rounding: fn(i256) -> Rounding) -> Out {
    let values = Unscaled::of(&call.args[0])?;
    let places = call.args.get(1).map(Ints::of).transpose()?;
    let SqlType::Decimal(precision, scale) = *call.result else {
        return Err(DataFusionError::Internal("rounding a DECIMAL gives a DECIMAL".into()));
    };
    Ok(decimal::build(&call.result_type(), call.rows, failures, |row| {
        let Some(value) = values.wide(row) else { return Ok(None) };
        let places = match &places {
            Some(places) => match places.get(row) {
                Some(places) => places,
                None => return Ok(None),
            },
            None => 0,
        };
        let places = places.min(i32::from(values.scale));
        let rounded = decimal::rescale(value, i32::from(values.scale), places, rounding(value))
            .and_then(|rounded| decimal::rescale(rounded, places, i32::from(scale), Rounding::Down))
            .filter(|rounded| decimal::fits(*rounded, precision));
        rounded.map(Some).ok_or_else(|| format!("the rounded number does not fit {}", call.result).into())
    }))
}

fn whole_decimal(call: &Call<'_>, failures: &mut Failures<'_>, rounding: Rounding) -> Out {
    let values = Unscaled::of(&call.args[0])?;
    let (scale, precision) = (i32::from(values.scale), values.precision);
    Ok(decimal::build(&call.result_type(), call.rows, failures, |row| {
        let Some(value) = values.wide(row) else { return Ok(None) };
        let whole = decimal::rescale(value, scale, 0, rounding)
            .and_then(|whole| decimal::rescale(whole, 0, scale, Rounding::Down))
            .filter(|whole| decimal::fits(*whole, precision));
        whole.map(Some).ok_or_else(|| format!("the rounded number does not fit {}", call.result).into())
    }))
}

fn ceil_decimal(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    whole_decimal(call, failures, Rounding::Ceiling)
}

fn floor_decimal(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    whole_decimal(call, failures, Rounding::Floor)
}

fn geo_distance(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let coordinates = call.args[..4].iter().map(Doubles::of).collect::<Result<Vec<_>, _>>()?;
    let units = call.args.get(4).map(Strs::of).transpose()?;
    Ok(prims::<Float64Type>(call.rows, failures, |row| {
        let coordinate = |i: usize, limit: f64| -> Result<f64, Reason> {
            let value = coordinates[i].get(row).ok_or("a coordinate is NULL")?;
            if (-limit..=limit).contains(&value) {
                Ok(value)
            } else {
                Err(format!("the coordinate {value} is not between -{limit} and {limit}").into())
            }
        };
        let radius = earth_radius(units.as_ref().and_then(|units| units.get(row)))?;
        let (lat1, lon1, lat2, lon2) =
            (coordinate(0, 90.0)?, coordinate(1, 180.0)?, coordinate(2, 90.0)?, coordinate(3, 180.0)?);
        let haversine = |degrees: f64| (radians(degrees) / 2.0).sin().powi(2);
        let a = haversine(lat2 - lat1) + haversine(lon2 - lon1) * radians(lat1).cos() * radians(lat2).cos();
        Ok(Some(2.0 * a.sqrt().asin() * radius))
    }))
}

/// As Java rounds it: first the division.
fn radians(degrees: f64) -> f64 {
    degrees / 180.0 * std::f64::consts::PI
}

fn earth_radius(units: Option<&str>) -> Result<f64, Reason> {
    match units.map(|u| u.trim().to_lowercase()).as_deref() {
        None | Some("" | "km" | "kilometer" | "kilometers" | "kilometre" | "kilometres") => Ok(EARTH_KM),
        Some("mi" | "mile" | "miles") => Ok(EARTH_MI),
        Some(other) => Err(format!("'{other}' is no unit of distance: use 'km' or 'mi'").into()),
    }
}
