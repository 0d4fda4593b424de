//! Scalar, aggregate and table functions of the KSQL dialect, vectorized over Arrow columns.

pub mod aggregate;
pub mod eval;

/// Limits that properties set on aggregate functions; `None`: unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionLimits {
    /// `ksql.functions.collect_list.limit`
    pub collect_list: Option<usize>,
    /// `ksql.functions.collect_set.limit`
    pub collect_set: Option<usize>,
}

