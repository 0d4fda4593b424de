//! Scalar, aggregate and table functions of the KSQL dialect, vectorized over Arrow columns.

pub mod aggregate;
pub mod arithmetic;
pub mod calendar;
pub mod cast;
pub mod columns;
pub mod compile;
pub mod decimal;
pub mod deep;
pub mod eval;
pub mod registry;
pub mod resolve;
pub mod signature;
pub mod table;
pub mod logic;
pub mod relation;
pub mod string;
pub mod conditional;
pub mod math;
pub mod elements;
pub mod like;
pub mod array;
pub mod bytes;
pub mod map;
pub mod mask;
mod md5;
pub mod regex;
pub mod json;
pub mod lambda;
pub mod url;
pub mod java_pattern;
pub mod temporal;
pub mod zone;
pub mod text;
pub mod udf;

pub use registry::Registry;

/// The families of scalar functions.
const FAMILIES: &[&[registry::Function]] = &[
    array::FUNCTIONS,
    bytes::FUNCTIONS,
    conditional::FUNCTIONS,
    json::FUNCTIONS,
    lambda::FUNCTIONS,
    map::FUNCTIONS,
    mask::FUNCTIONS,
    math::FUNCTIONS,
    regex::FUNCTIONS,
    string::FUNCTIONS,
    temporal::FUNCTIONS,
    url::FUNCTIONS,
];

/// Limits that properties set on aggregate functions; `None`: unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionLimits {
    /// `ksql.functions.collect_list.limit`
    pub collect_list: Option<usize>,
    /// `ksql.functions.collect_set.limit`
    pub collect_set: Option<usize>,
}

