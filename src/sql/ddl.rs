//! Statements that change the catalog or write rows: CREATE, DROP, ALTER, INSERT, COPY.
//!
//! Checks form only: whether a TABLE has its PRIMARY KEY or a property exists is the analyzer's to say.

use super::ast::{
    AlterSource, ColumnConstraint, ColumnDef, ConnectorKind, CopyFrom, CopyTo, CreateAs, CreateConnector, CreateSource,
    DropSource, Ident, InsertInto, InsertValues, Loc, Property, Query, SourceKind, Statement,
};
use super::lexer::TokenKind;
use super::parser::{Parser, Parsing};
use crate::diagnostic::Diagnostic;

impl Parser<'_> {
    pub(super) fn create(&mut self) -> Parsing<Statement> {
        let or_replace = self.accept("OR");
        if or_replace {
            self.expect("REPLACE")?;
        }
        let source = self.accept("SOURCE");
        if let Some(kind) = self.accept_source_kind() {
            return self.create_source(or_replace, source, kind);
        }
        if or_replace {
            return Err(self.unexpected());
        }
        let connector = match source {
            true => Some(ConnectorKind::Source),
            false if self.accept("SINK") => Some(ConnectorKind::Sink),
            false => None,
        };
        match connector {
            Some(kind) => self.create_connector(kind),
            None => self.create_type(),
        }
    }

    fn create_source(&mut self, or_replace: bool, read_only: bool, kind: SourceKind) -> Parsing<Statement> {
        let if_not_exists = self.if_not_exists()?;
        let name = self.source_name()?;
        let columns_start = self.start();
        let columns = self.column_list()?;
        let columns_span = self.since(columns_start);
        let properties = self.properties()?;
        if !self.accept("AS") {
            let create = CreateSource { or_replace, read_only, kind, if_not_exists, name, columns, properties };
            return Ok(Statement::CreateSource(create));
        }
        if !columns.is_empty() {
            let error = Diagnostic::user(format!("CREATE {} … AS SELECT takes no list of columns", keyword(kind)));
            return Err(error.at(columns_span).help("leave the list out: the query gives the columns"));
        }
        if read_only {
            let error = Diagnostic::user(format!("A SOURCE {} cannot be made by a query", keyword(kind)));
            return Err(error.at(self.last_span()).help("leave out SOURCE, or AS and the query"));
        }
        let query = self.query()?;
        Ok(Statement::CreateAs(CreateAs { or_replace, kind, if_not_exists, name, properties, query }))
    }

    fn create_connector(&mut self, kind: ConnectorKind) -> Parsing<Statement> {
        self.expect("CONNECTOR")?;
        let if_not_exists = self.if_not_exists()?;
        let name = self.name("the name of a connector")?;
        let properties = self.properties()?;
        Ok(Statement::CreateConnector(CreateConnector { kind, if_not_exists, name, properties }))
    }

    fn create_type(&mut self) -> Parsing<Statement> {
        self.expect("TYPE")?;
        let if_not_exists = self.if_not_exists()?;
        let name = self.name("the name of a type")?;
        self.expect("AS")?;
        let ty = self.type_name()?;
        Ok(Statement::CreateType { if_not_exists, name, ty })
    }

    pub(super) fn drop(&mut self) -> Parsing<Statement> {
        if let Some(kind) = self.accept_source_kind() {
            let if_exists = self.if_exists()?;
            let name = self.source_name()?;
            let delete_topic = self.accept("DELETE");
            if delete_topic {
                self.expect("TOPIC")?;
            }
            return Ok(Statement::DropSource(DropSource { kind, if_exists, name, delete_topic }));
        }
        if self.accept("CONNECTOR") {
            let if_exists = self.if_exists()?;
            return Ok(Statement::DropConnector { if_exists, name: self.name("the name of a connector")? });
        }
        self.expect("TYPE")?;
        let if_exists = self.if_exists()?;
        Ok(Statement::DropType { if_exists, name: self.name("the name of a type")? })
    }

    pub(super) fn alter(&mut self) -> Parsing<Statement> {
        let Some(kind) = self.accept_source_kind() else {
            self.expect("SYSTEM")?;
            let (name, value) = self.assignment()?;
            return Ok(Statement::AlterSystem { name, value });
        };
        let name = self.source_name()?;
        let columns = self.list(Self::added_column)?;
        Ok(Statement::AlterSource(AlterSource { kind, name, columns }))
    }

    /// `ADD [COLUMN] name type`; COLUMN is the keyword when a name and a type follow it.
    fn added_column(&mut self) -> Parsing<ColumnDef> {
        self.expect("ADD")?;
        let is_word = |by: usize| matches!(self.ahead(by).kind, TokenKind::Word | TokenKind::Quoted(_));
        if self.at_word("COLUMN") && is_word(1) && is_word(2) {
            self.advance();
        }
        let start = self.start();
        let name = self.name("the name of a column")?;
        let ty = self.type_name()?;
        Ok(ColumnDef { name, ty, constraint: None, loc: Loc(self.since(start)) })
    }

    pub(super) fn insert(&mut self) -> Parsing<Statement> {
        self.expect("INTO")?;
        let target = self.source_name()?;
        let columns = if self.at_symbol("(") && !self.ahead(1).is_word("SELECT") {
            self.parenthesized(|p| p.name("the name of a column"))?
        } else {
            Vec::new()
        };
        if self.accept("VALUES") {
            let rows = self.list(|p| p.parenthesized(Self::expression))?;
            return Ok(Statement::InsertValues(InsertValues { target, columns, rows }));
        }
        if !columns.is_empty() {
            return Err(self.unexpected());
        }
        let properties = if self.ahead(1).is_symbol("(") { self.properties()? } else { Vec::new() };
        let query = self.query()?;
        Ok(Statement::InsertInto(InsertInto { target, properties, query }))
    }

    pub(super) fn copy(&mut self) -> Parsing<Statement> {
        if self.accept_symbol("(") {
            let query = self.query()?;
            self.expect_symbol(")")?;
            return self.copy_to(query);
        }
        let target = self.source_name()?;
        self.expect("FROM")?;
        let path = self.string("the path of a file")?;
        let properties = self.properties()?;
        Ok(Statement::CopyFrom(CopyFrom { target, path, properties }))
    }

    fn copy_to(&mut self, query: Query) -> Parsing<Statement> {
        self.expect("TO")?;
        let path = self.string("the path of a file")?;
        let properties = self.properties()?;
        Ok(Statement::CopyTo(CopyTo { query, path, properties }))
    }

    // ---- parts

    pub(super) fn accept_source_kind(&mut self) -> Option<SourceKind> {
        if self.accept("STREAM") {
            Some(SourceKind::Stream)
        } else if self.accept("TABLE") {
            Some(SourceKind::Table)
        } else {
            None
        }
    }

    fn if_not_exists(&mut self) -> Parsing<bool> {
        let found = self.at_words(&["IF", "NOT"]) || self.at_words(&["IF", "EXISTS"]);
        if found {
            self.expect_all(&["IF", "NOT", "EXISTS"])?;
        }
        Ok(found)
    }

    fn if_exists(&mut self) -> Parsing<bool> {
        let found = self.at_words(&["IF", "NOT"]) || self.at_words(&["IF", "EXISTS"]);
        if found {
            self.expect_all(&["IF", "EXISTS"])?;
        }
        Ok(found)
    }

    /// `(column, …)`, or nothing.
    pub(super) fn column_list(&mut self) -> Parsing<Vec<ColumnDef>> {
        if self.at_symbol("(") { self.parenthesized(Self::column) } else { Ok(Vec::new()) }
    }

    /// `name type [KEY | PRIMARY KEY | HEADERS | HEADER('key')]`.
    pub(super) fn column(&mut self) -> Parsing<ColumnDef> {
        let start = self.start();
        let name = self.name("the name of a column")?;
        let ty = self.type_name()?;
        let constraint = self.column_constraint()?;
        Ok(ColumnDef { name, ty, constraint, loc: Loc(self.since(start)) })
    }

    fn column_constraint(&mut self) -> Parsing<Option<ColumnConstraint>> {
        if self.accept("PRIMARY") {
            self.expect("KEY")?;
            return Ok(Some(ColumnConstraint::PrimaryKey));
        }
        if self.accept("KEY") {
            return Ok(Some(ColumnConstraint::Key));
        }
        if self.accept("HEADERS") {
            return Ok(Some(ColumnConstraint::Headers));
        }
        if !self.accept("HEADER") {
            return Ok(None);
        }
        self.expect_symbol("(")?;
        let key = self.string("the key of a header")?;
        self.expect_symbol(")")?;
        Ok(Some(ColumnConstraint::Header(key)))
    }

    /// A column list and properties, as ASSERT STREAM has them.
    pub(super) fn described_source(&mut self) -> Parsing<(Ident, Vec<ColumnDef>, Vec<Property>)> {
        Ok((self.source_name()?, self.column_list()?, self.properties()?))
    }
}

fn keyword(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Stream => "STREAM",
        SourceKind::Table => "TABLE",
    }
}
