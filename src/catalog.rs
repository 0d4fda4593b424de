//! What was declared: sources, custom types, and which queries read and write what.
//!
//! Holds names, schemas and texts, never plans; they are made again from the command log. The subtle thing: a [`Catalog`] is a value.
//! The session clones it, applies a text's changes to the clone (the dry run), and only then makes the clone the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, suggest};
use crate::format::{Format, FormatSpec};
use crate::plan::topology::{KeyWindow, TimestampSpec};
use crate::types::{LogicalSchema, QueryId, SourceName, SqlType, TopicName, backquoted};

/// STREAM or TABLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// facts, each on its own
    Stream,
    /// the newest row of each key
    Table,
}

impl SourceKind {
    /// `stream` or `table`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Table => "table",
        }
    }

    /// `Stream` or `Table`.
    pub fn title(self) -> &'static str {
        match self {
            Self::Stream => "Stream",
            Self::Table => "Table",
        }
    }
}

/// A declared stream or table.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// its name
    pub name: SourceName,
    /// stream or table
    pub kind: SourceKind,
    /// its columns
    pub schema: LogicalSchema,
    /// its topic
    pub topic: TopicName,
    /// partitions of the topic
    pub partitions: i32,
    /// key format with properties
    pub key_format: FormatSpec,
    /// value format with properties
    pub value_format: FormatSpec,
    /// window of the key
    pub window: Option<KeyWindow>,
    /// where row times come from
    pub timestamp: Option<TimestampSpec>,
    /// CREATE SOURCE …: read-only
    pub read_only: bool,
    /// the query that writes it (CREATE … AS), if one does
    pub created_by: Option<QueryId>,
    /// its statement's text, ALTERs appended
    pub statement: String,
}

impl Source {
    /// True for a table.
    pub fn is_table(&self) -> bool {
        self.kind == SourceKind::Table
    }

    /// True for the format of a key-less source.
    pub fn has_key(&self) -> bool {
        self.schema.key_count() > 0 && self.key_format.format != Format::None
    }
}

/// Which statement made a persistent query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueryKind {
    /// CREATE STREAM AS
    CreateStreamAs,
    /// CREATE TABLE AS
    CreateTableAs,
    /// INSERT INTO
    InsertInto,
    /// CREATE SOURCE TABLE: keeps its table readable
    SourceTable,
}

/// A persistent query as declared.
#[derive(Clone, Debug, PartialEq)]
pub struct PersistentQuery {
    /// its id
    pub id: QueryId,
    /// what made it
    pub kind: QueryKind,
    /// the source it writes (for a source table: the table itself)
    pub sink: SourceName,
    /// topic of the sink
    pub sink_topic: TopicName,
    /// the sources it reads
    pub reads: BTreeSet<SourceName>,
    /// the statement's text
    pub text: String,
    /// properties in force when it was made
    pub properties: BTreeMap<String, String>,
    /// PAUSE was said
    pub paused: bool,
}

/// All that is declared. A value: clone it, change the clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    sources: BTreeMap<SourceName, Arc<Source>>,
    types: BTreeMap<String, SqlType>,
    queries: BTreeMap<QueryId, Arc<PersistentQuery>>,
    /// how many persistent queries were ever made; ids are numbered by it
    numbered: u64,
}

impl Catalog {
    /// The number that the next persistent query's id gets.
    pub fn next_query_number(&self) -> u64 {
        self.numbered
    }

    /// The source of that name.
    pub fn source(&self, name: &str) -> Option<&Arc<Source>> {
        self.sources.get(name)
    }

    /// The source of that name, or the error that says so, with a near name if there is one.
    ///
    /// # Errors
    /// A user error that names it.
    pub fn expect_source(&self, name: &str) -> Result<&Arc<Source>, Diagnostic> {
        self.source(name).ok_or_else(|| {
            let error = Diagnostic::user(format!("{name} does not exist: there is no stream or table of that name"));
            match suggest(name, self.sources.keys().map(SourceName::as_str)) {
                Some(near) => error.help(format!("did you mean {}?", crate::types::quote_if_needed(near))),
                None => error.help("SHOW STREAMS and SHOW TABLES list what there is"),
            }
        })
    }

    /// All sources by name.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.sources.values()
    }

    /// All custom types by name.
    pub fn types(&self) -> &BTreeMap<String, SqlType> {
        &self.types
    }

    /// The persistent query of that id.
    pub fn query(&self, id: &str) -> Option<&Arc<PersistentQuery>> {
        self.queries.get(id)
    }

    /// All persistent queries by id.
    pub fn queries(&self) -> impl Iterator<Item = &Arc<PersistentQuery>> {
        self.queries.values()
    }

    /// Queries that read this source.
    pub fn readers<'a>(&'a self, name: &'a SourceName) -> impl Iterator<Item = &'a Arc<PersistentQuery>> {
        self.queries.values().filter(move |q| q.reads.contains(name) && q.kind != QueryKind::SourceTable)
    }

    /// Queries that write this source.
    pub fn writers<'a>(&'a self, name: &'a SourceName) -> impl Iterator<Item = &'a Arc<PersistentQuery>> {
        self.queries.values().filter(move |q| &q.sink == name && q.kind != QueryKind::SourceTable)
    }

    /// Sources whose queries read this one, so that it may not be dropped before them.
    pub fn dependents(&self, name: &SourceName) -> Vec<SourceName> {
        let mut sinks: Vec<_> =
            self.readers(name).filter(|q| q.kind != QueryKind::InsertInto).map(|q| q.sink.clone()).collect();
        sinks.sort();
        sinks.dedup();
        sinks
    }

    /// Adds or replaces a source.
    pub fn put_source(&mut self, source: Source) {
        self.sources.insert(source.name.clone(), Arc::new(source));
    }

    /// Takes a source away.
    pub fn remove_source(&mut self, name: &str) -> Option<Arc<Source>> {
        self.sources.remove(name)
    }

    /// Adds or replaces a custom type.
    pub fn put_type(&mut self, name: String, ty: SqlType) {
        self.types.insert(name, ty);
    }

    /// Takes a custom type away.
    pub fn remove_type(&mut self, name: &str) -> Option<SqlType> {
        self.types.remove(name)
    }

    /// Adds or replaces a query.
    pub fn put_query(&mut self, query: PersistentQuery) {
        if !self.queries.contains_key(&query.id) {
            self.numbered += 1;
        }
        self.queries.insert(query.id.clone(), Arc::new(query));
    }

    /// Takes a query away.
    pub fn remove_query(&mut self, id: &str) -> Option<Arc<PersistentQuery>> {
        self.queries.remove(id)
    }

    /// Refuses to drop a source that others still need.
    ///
    /// # Errors
    /// Names who needs it.
    pub fn check_droppable(&self, source: &Source) -> Result<(), Diagnostic> {
        let name = &source.name;
        let dependents = self.dependents(name);
        if !dependents.is_empty() {
            let names: Vec<_> = dependents.iter().map(SourceName::as_str).collect();
            return Err(Diagnostic::user(format!(
                "cannot drop {name}: these streams and tables read from it: [{}]",
                names.join(", ")
            ))
            .help("drop them first"));
        }
        let inserts = |q: &&Arc<PersistentQuery>| q.kind == QueryKind::InsertInto;
        let readers: Vec<_> = self.readers(name).filter(inserts).map(|q| q.id.to_string()).collect();
        let writers: Vec<_> = self.writers(name).filter(inserts).map(|q| q.id.to_string()).collect();
        if !readers.is_empty() || !writers.is_empty() {
            return Err(Diagnostic::user(format!(
                "cannot drop {name}: the following queries read from this source: [{}]; the following queries write into this source: [{}]",
                readers.join(", "),
                writers.join(", ")
            ))
            .help("TERMINATE them first"));
        }
        Ok(())
    }
}

/// The text of the error for a name that is taken, as ksqlDB has it.
pub fn taken(adding: SourceKind, existing: &Source) -> String {
    format!(
        "Cannot add {} {}: A {} with the same name already exists",
        adding.word(),
        backquoted(existing.name.as_str()),
        existing.kind.word()
    )
}
