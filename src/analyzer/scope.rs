//! The columns that an expression can name.
//!
//! Knows no catalog: whoever plans a query puts the columns in. The subtle thing: what a name resolves to is a *physical* name, unique in the
//! plan's schema, whatever its sources call it.

use crate::diagnostic::{Diagnostic, suggest};
use crate::sql::ast::{ColumnRef, Ident};
use crate::types::SqlType;

/// A column in reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeColumn {
    /// the alias of its source, folded
    pub qualifier: String,
    /// its name in the source, folded
    pub name: String,
    /// its type
    pub ty: SqlType,
    /// its name in the plan's schema
    pub physical: String,
}

impl ScopeColumn {
    /// A column of a source.
    pub fn new(
        qualifier: impl Into<String>,
        name: impl Into<String>,
        ty: SqlType,
        physical: impl Into<String>,
    ) -> Self {
        Self { qualifier: qualifier.into(), name: name.into(), ty, physical: physical.into() }
    }
}

/// The columns in reach of a clause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    columns: Vec<ScopeColumn>,
    /// aliases of sources that have no column here
    sources: Vec<String>,
    clause: &'static str,
}

impl Scope {
    /// These columns, and no clause to name in errors.
    pub fn new(columns: Vec<ScopeColumn>) -> Self {
        Self { columns, sources: Vec::new(), clause: "" }
    }

    /// No columns: for constants.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The same, with errors that name the clause: `WHERE`, `SELECT`, `GROUP BY`.
    #[must_use]
    pub fn for_clause(mut self, clause: &'static str) -> Self {
        self.clause = clause;
        self
    }

    /// The same, with aliases that are valid though no column of theirs is in reach.
    #[must_use]
    pub fn with_sources(mut self, sources: impl IntoIterator<Item = String>) -> Self {
        self.sources.extend(sources);
        self
    }

    /// All columns, in order.
    pub fn columns(&self) -> &[ScopeColumn] {
        &self.columns
    }

    /// True if a column of that folded name is in reach, in whatever source.
    pub fn has_name(&self, name: &str) -> bool {
        self.columns.iter().any(|c| c.name == name)
    }

    /// True if the folded name is a source's alias.
    pub fn is_source(&self, alias: &str) -> bool {
        self.columns.iter().any(|c| c.qualifier == alias) || self.sources.iter().any(|s| s == alias)
    }

    /// The column that is named.
    ///
    /// # Errors
    /// If there is none, or several, or the qualifier is no source; each at its place.
    pub fn resolve(&self, column: &ColumnRef) -> Result<&ScopeColumn, Diagnostic> {
        if let Some(qualifier) = &column.qualifier {
            self.check_source(qualifier)?;
        }
        let named = |c: &&ScopeColumn| {
            c.name == column.name.as_str() && column.qualifier.as_ref().is_none_or(|q| q.as_str() == c.qualifier)
        };
        let mut found = self.columns.iter().filter(named);
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only),
            (Some(first), Some(second)) => Err(self.ambiguous(&column.name, first, second)),
            _ => Err(self.unknown(column)),
        }
    }

    /// Refuses a qualifier that is no source.
    ///
    /// # Errors
    /// At its place, with the sources there are.
    pub fn check_source(&self, qualifier: &Ident) -> Result<(), Diagnostic> {
        if self.is_source(qualifier.as_str()) {
            return Ok(());
        }
        let mut sources: Vec<&str> = self.columns.iter().map(|c| c.qualifier.as_str()).collect();
        sources.extend(self.sources.iter().map(String::as_str));
        sources.sort_unstable();
        sources.dedup();
        let error = Diagnostic::user(format!("'{}' is not a valid stream/table name or alias", qualifier.as_str()))
            .at(qualifier.span());
        Err(match (suggest(qualifier.as_str(), sources.iter().copied()), sources.is_empty()) {
            (Some(near), _) => error.help(format!("did you mean '{near}'?")),
            (None, false) => error.help(format!("use one of {}", sources.join(", "))),
            (None, true) => error,
        })
    }

    fn ambiguous(&self, name: &Ident, first: &ScopeColumn, second: &ScopeColumn) -> Diagnostic {
        let message = format!("{}olumn '{}' is ambiguous", self.prefix(), name.as_str());
        let either = format!("use {}.{} or {}.{}", first.qualifier, first.name, second.qualifier, second.name);
        Diagnostic::user(message).at(name.span()).help(either)
    }

    fn unknown(&self, column: &ColumnRef) -> Diagnostic {
        let shown = match &column.qualifier {
            Some(qualifier) => format!("{}.{}", qualifier.as_str(), column.name.as_str()),
            None => column.name.as_str().to_owned(),
        };
        let span = column.qualifier.as_ref().map_or_else(Default::default, Ident::span).union(column.name.span());
        let error = Diagnostic::user(format!("{}olumn '{shown}' cannot be resolved", self.prefix())).at(span);
        let of_source = |c: &&ScopeColumn| column.qualifier.as_ref().is_none_or(|q| q.as_str() == c.qualifier);
        let names = self.columns.iter().filter(of_source).map(|c| c.name.as_str());
        match suggest(column.name.as_str(), names) {
            Some(near) => error.help(format!("did you mean '{near}'?")),
            None if self.columns.is_empty() => error.help("only constants may stand here"),
            None => error,
        }
    }

    /// `C`, or the clause and `c`.
    fn prefix(&self) -> String {
        if self.clause.is_empty() { "C".to_owned() } else { format!("{} c", self.clause) }
    }
}
