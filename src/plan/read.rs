//! A source as a table of a pull query's plan: its columns, and which conditions on it become lookups.
//!
//! No rows here: the engine puts the provider of a snapshot in its place before the plan runs. The subtle thing: a condition that becomes
//! a lookup also stays above the scan ("inexact"), so a lookup may be wider than the condition but never narrower.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableSource};

use super::lookup::{KeyColumns, Lookup};
use crate::catalog::Source;
use crate::function::seal::unsealed;
use crate::types::{SqlType, pseudo};

/// The rows of a source, at whatever moment the plan will run.
pub struct SourceRead {
    /// the source
    pub source: Arc<Source>,
    schema: SchemaRef,
}

impl SourceRead {
    /// Reads `source`.
    pub fn new(source: Arc<Source>) -> Self {
        let schema = read_schema(&source);
        Self { source, schema }
    }
}

/// The columns of a source that can be read: the declared ones, bounds of the window, ROWTIME.
pub fn read_schema(source: &Source) -> SchemaRef {
    let declared = source.schema.columns().iter().map(|c| Field::new(c.name.as_str(), c.ty.to_arrow(), true));
    let bounds: &[&str] = if source.window.is_some() { &[pseudo::WINDOWSTART, pseudo::WINDOWEND] } else { &[] };
    let made = bounds.iter().chain(&[pseudo::ROWTIME]);
    let made = made.map(|name| Field::new(*name, SqlType::BigInt.to_arrow(), true));
    Arc::new(Schema::new(declared.chain(made).collect::<Vec<_>>()))
}

/// The key of a table as conditions name it; a stream has none that could be looked up.
pub fn key_of(source: &Source) -> KeyColumns {
    let keys = if source.is_table() { source.schema.keys() } else { &[] };
    KeyColumns {
        columns: keys.iter().map(|c| (c.name.as_str().to_owned(), c.ty.to_arrow())).collect(),
        windowed: source.is_table() && source.window.is_some(),
    }
}

/// Which rows sealed conditions on a source leave.
pub fn lookup_of(filters: &[Expr], source: &Source) -> Lookup {
    let conditions: Vec<Expr> = filters.iter().filter_map(unsealed).collect();
    Lookup::of(&conditions, &key_of(source))
}

impl TableSource for SourceRead {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        let says = |filter: &&Expr| {
            if lookup_of(&[(*filter).clone()], &self.source).is_all() {
                TableProviderFilterPushDown::Unsupported
            } else {
                TableProviderFilterPushDown::Inexact
            }
        };
        Ok(filters.iter().map(says).collect())
    }
}
