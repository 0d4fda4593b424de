//! AST × catalog → meaning: names, types, keys and windows are settled here and nowhere later.
//!
//! No I/O, no threads, no clock. The walk of a query: [`query::analyze`] takes FROM and JOIN ([`relation`], [`join`]), WHERE, PARTITION BY,
//! table functions, GROUP BY and HAVING ([`aggregate`]), then the SELECT list ([`select`]); [`sink`] adds where it goes. The subtle thing:
//! DataFusion's SQL planner and its type coercion are in no product path; [`expr`] has ksqlDB's rules.

pub mod aggregate;
pub mod expr;
#[cfg(test)]
mod expr_binding_tests;
mod expr_call;
mod expr_coerce;
mod expr_collection;
pub mod expr_constant;
#[cfg(test)]
mod expr_function_tests;
mod expr_operator;
#[cfg(test)]
mod expr_tests;
pub mod foreign_key;
pub mod join;
pub mod properties;
pub mod pull;
pub mod query;
pub mod relation;
pub mod scope;
pub mod select;
pub mod sink;
pub mod source;
mod stream_join;

use crate::catalog::Catalog;
use crate::format::Format;
use crate::function::Registry;
use crate::plan::rules::Rules;

/// What analysis looks at beside the statement.
pub struct AnalysisContext<'a> {
    /// the sources there are
    pub catalog: &'a Catalog,
    /// the functions there are
    pub registry: &'a Registry,
    /// properties that decide meaning
    pub settings: &'a Settings,
}

/// Properties that analysis reads, resolved from session and server.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `auto.offset.reset`: earliest (true), latest (false), not set
    pub earliest: Option<bool>,
    /// persistent queries start at the beginning unless `earliest` is set (the embedded log's rule)
    pub default_earliest: bool,
    /// `ksql.persistence.default.format.key`
    pub default_key_format: Format,
    /// `ksql.persistence.default.format.value`
    pub default_value_format: Option<Format>,
    /// `ksql.persistence.wrap.single.values`
    pub wrap_single_values: Option<bool>,
    /// `ksql.output.topic.name.prefix`
    pub topic_prefix: String,
    /// `ksql.suppress.enabled`
    pub suppress_enabled: bool,
    /// `ksql.headers.columns.enabled`
    pub headers_enabled: bool,
    /// `riverrun.dialect` is `ksql`: what ksqlDB refuses is refused, even where we could do it
    pub ksql_only: bool,
    /// `optimizer.rules.off`
    pub rules: Rules,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            earliest: None,
            default_earliest: true,
            default_key_format: Format::Kafka,
            default_value_format: None,
            wrap_single_values: None,
            topic_prefix: String::new(),
            suppress_enabled: true,
            headers_enabled: true,
            ksql_only: false,
            rules: Rules::default(),
        }
    }
}

/// An expression as canonical SQL, for messages.
pub fn sql_text(expr: &crate::sql::ast::Expr) -> String {
    expr.to_string()
}
