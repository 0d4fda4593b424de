//! Expressions and functions of the KSQL dialect, vectorized over Arrow columns.
//!
//! The way of a call: the binder asks `registry` for the name and `resolve` for the overload, whose `signature` is text in the
//! family's table; it makes a `udf::BoundFunction`, which plans carry as a DataFusion UDF. `compile` turns the bound expression into
//! nodes (`logic`, `relation`, and one for all calls); `eval` runs them over a batch, wanted rows going down, failed rows coming up. A
//! kernel reads its arguments through `columns`, computes all rows, and notes those that fail.
//!
//! The subtle thing: a row's failure is no error. `Result` in a kernel means a defect of ours; what is wrong with a row goes to
//! `eval::Failures`.
//!
//! Left out: look-around in regular expressions (no backtracking engine), week-based fields of date patterns, decimals beyond 76 digits.

pub mod aggregate;
pub mod arithmetic;
pub mod array;
pub mod bytes;
pub mod calendar;
pub mod cast;
pub mod columns;
pub mod compile;
pub mod conditional;
pub mod decimal;
pub mod deep;
pub mod elements;
pub mod eval;
pub mod java_pattern;
pub mod json;
pub mod lambda;
pub mod like;
pub mod logic;
pub mod map;
pub mod mask;
pub mod math;
pub mod regex;
pub mod registry;
pub mod relation;
pub mod resolve;
pub mod seal;
pub mod signature;
pub mod string;
pub mod table;
pub mod temporal;
pub mod text;
pub mod udf;
pub mod url;
pub mod zone;

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
