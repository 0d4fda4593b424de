//! What a FROM gives: a plan with named columns, a key, and the sources behind it.
//!
//! Built by `relation` (one source) and `join`; changed by PARTITION BY and GROUP BY. The subtle thing: a column has two names, the one
//! users say (`alias.NAME`) and the one it has in the plan (`physical`), which is unique; only this room knows how they relate.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::common::Column as DfColumn;
use datafusion::logical_expr::{Expr as DfExpr, LogicalPlan};

use super::scope::{Scope, ScopeColumn};
use crate::catalog::{Catalog, Source};
use crate::diagnostic::Diagnostic;
use crate::format::FormatSpec;
use crate::plan::nodes::{Shape, StreamNode, StreamOp};
use crate::plan::topology::KeyWindow;
use crate::sql::ast::{self, RelationKind};
use crate::types::{ColumnRole, SqlType, pseudo};

/// What a column of a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelRole {
    /// declared key column
    Key,
    /// declared value or header column
    Value,
    /// ROWTIME, ROWPARTITION, ROWOFFSET
    Pseudo,
    /// WINDOWSTART, WINDOWEND of a windowed source or aggregate
    Bound,
    /// made by the query (ROWKEY of a join), selectable by name
    Synthetic,
}

/// A column in reach.
#[derive(Clone, Debug)]
pub struct RelColumn {
    /// alias of its source; empty for columns the query made
    pub qualifier: String,
    /// its name
    pub name: String,
    /// its type
    pub ty: SqlType,
    /// its unique name in the plan
    pub physical: String,
    /// what it is
    pub role: RelRole,
}

impl RelColumn {
    /// As an expression over the plan.
    pub fn expr(&self) -> DfExpr {
        column(&self.physical)
    }
}

/// A part of the relation's record key.
#[derive(Clone, Debug)]
pub struct KeyPart {
    /// its column in the plan
    pub physical: String,
    /// its type
    pub ty: SqlType,
    /// other columns that always equal it (joins); any of them may stand for the key in a SELECT
    pub equivalents: Vec<String>,
    /// expressions over the plan that always equal it, and are no columns (joins)
    pub expressions: Vec<DfExpr>,
    /// a join made it
    pub of_join: bool,
    /// how users would name it, for messages and default names
    pub label: String,
    /// true for a synthetic ROWKEY
    pub synthetic: bool,
}

impl KeyPart {
    /// A key column that no join made.
    pub fn plain(physical: String, ty: SqlType, label: String) -> Self {
        Self { physical, ty, equivalents: vec![], expressions: vec![], of_join: false, label, synthetic: false }
    }
}

/// Rows with names, a key and an origin.
#[derive(Clone)]
pub struct Relation {
    /// how they come about
    pub plan: LogicalPlan,
    /// all columns in reach
    pub columns: Vec<RelColumn>,
    /// the record key
    pub key: Vec<KeyPart>,
    /// rows are table changes
    pub is_table: bool,
    /// window of the key
    pub window: Option<KeyWindow>,
    /// key format of what is not told otherwise
    pub key_format: FormatSpec,
    /// value format of what is not told otherwise
    pub value_format: FormatSpec,
    /// partitions of what is not told otherwise
    pub partitions: i32,
    /// sources read, left-most first, with their aliases
    pub sources: Vec<(String, Arc<Source>)>,
    /// its last join was a foreign-key join
    pub foreign_key: bool,
    /// expressions that are columns of the plan by now (PARTITION BY, GROUP BY, aggregates): text form, column, type
    pub computed: Vec<(ast::Expr, String, SqlType)>,
}

/// An unqualified column of the plan; never folds case.
pub fn column(physical: &str) -> DfExpr {
    DfExpr::Column(DfColumn::new_unqualified(physical))
}

/// How scans start and what they show.
#[derive(Clone, Copy, Debug)]
pub struct ScanOptions {
    /// `auto.offset.reset`: `Some(true)` earliest, `Some(false)` latest, `None` not set
    pub earliest: Option<bool>,
    /// persistent queries on the embedded log start at the beginning unless told otherwise
    pub default_earliest: bool,
    /// names carry the alias (joins)
    pub qualified: bool,
}

/// The source a FROM names, with its alias.
///
/// # Errors
/// Unknown sources; subqueries, where they are not taken.
pub fn source_of(relation: &ast::Relation, catalog: &Catalog) -> Result<(String, Arc<Source>), Diagnostic> {
    let name = match &relation.kind {
        RelationKind::Source(name) => name,
        RelationKind::Subquery(_) => {
            return Err(Diagnostic::user("a subquery in FROM is not possible in a streaming query")
                .at(relation.span())
                .help("make it a stream or table of its own with CREATE … AS SELECT, and read that"));
        }
    };
    let source = catalog.expect_source(name.as_str()).map_err(|e| e.at(name.span()))?;
    let alias = relation.alias.as_ref().unwrap_or(name);
    Ok((alias.as_str().to_owned(), source.clone()))
}

/// The rows of one source.
///
/// # Errors
/// None of the user's; a defect of ours otherwise.
pub fn scan(alias: &str, source: &Arc<Source>, options: ScanOptions) -> Result<Relation, Diagnostic> {
    let mut columns = Vec::new();
    let physical = |name: &str| if options.qualified { format!("{alias}.{name}") } else { name.to_owned() };
    let mut push = |name: &str, ty: SqlType, role: RelRole| {
        columns.push(RelColumn {
            qualifier: alias.to_owned(),
            name: name.to_owned(),
            ty,
            physical: physical(name),
            role,
        });
    };
    for column in source.schema.columns() {
        let role = if column.role == ColumnRole::Key { RelRole::Key } else { RelRole::Value };
        push(column.name.as_str(), column.ty.clone(), role);
    }
    if source.window.is_some() {
        push(pseudo::WINDOWSTART, SqlType::BigInt, RelRole::Bound);
        push(pseudo::WINDOWEND, SqlType::BigInt, RelRole::Bound);
    }
    push(pseudo::ROWTIME, SqlType::BigInt, RelRole::Pseudo);
    push(pseudo::ROWPARTITION, SqlType::Int, RelRole::Pseudo);
    push(pseudo::ROWOFFSET, SqlType::BigInt, RelRole::Pseudo);

    let names = columns.iter().map(|c| (c.name.as_str().into(), c.physical.clone())).collect();
    let shape = Shape { key_count: source.schema.key_count(), is_table: source.is_table(), window: source.window };
    // Tables are always read from their beginning unless the property says otherwise (semantics.md §11).
    let from_beginning = options.earliest.unwrap_or(options.default_earliest || source.is_table());
    let op = StreamOp::TopicScan { source: source.clone(), names, from_beginning };
    let plan = StreamNode::plan(op, vec![], plan_schema(&columns), shape).map_err(internal)?;
    let key = source
        .schema
        .keys()
        .iter()
        .map(|c| KeyPart::plain(physical(c.name.as_str()), c.ty.clone(), c.name.as_str().to_owned()))
        .collect();
    Ok(Relation {
        plan,
        columns,
        key,
        is_table: source.is_table(),
        window: source.window,
        key_format: source.key_format.clone(),
        value_format: source.value_format.clone(),
        partitions: source.partitions,
        sources: vec![(alias.to_owned(), source.clone())],
        computed: vec![],
        foreign_key: false,
    })
}

/// The Arrow schema of these columns under their plan names.
pub fn plan_schema(columns: &[RelColumn]) -> Schema {
    Schema::new(columns.iter().map(|c| Field::new(&c.physical, c.ty.to_arrow(), true)).collect::<Vec<_>>())
}

/// A defect of ours, as a diagnostic.
pub fn internal(error: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new(crate::diagnostic::ErrorClass::Query, format!("internal error in analysis: {error}"))
}

impl Relation {
    /// Facts for a node with this relation's rows.
    pub fn shape(&self) -> Shape {
        Shape { key_count: self.key.len(), is_table: self.is_table, window: self.window }
    }

    /// The column of that plan name.
    pub fn by_physical(&self, physical: &str) -> Option<&RelColumn> {
        self.columns.iter().find(|c| c.physical == physical)
    }

    /// True if it joins several sources.
    pub fn is_join(&self) -> bool {
        self.sources.len() > 1
    }

    /// The names in reach, for binding.
    pub fn scope(&self) -> Scope {
        let columns = self.columns.iter().map(|c| ScopeColumn::new(&c.qualifier, &c.name, c.ty.clone(), &c.physical));
        Scope::new(columns.collect()).with_sources(self.sources.iter().map(|(alias, _)| alias.clone()))
    }

    /// How many sources have a column of that name.
    pub fn sources_with(&self, name: &str) -> usize {
        self.columns.iter().filter(|c| c.name == name && !c.qualifier.is_empty()).count()
    }
}
