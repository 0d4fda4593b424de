//! Statements that ask, steer or check: SHOW, DESCRIBE, EXPLAIN, PRINT, TERMINATE, SET, DEFINE, RUN SCRIPT, ASSERT.
//!
//! Each rule begins after its first word. The subtle thing: half of ASSERT and all of RUN SCRIPT belong to test scripts
//! only, and say so where a server meets them.

use super::ast::{
    AssertSchema, AssertSource, AssertTopic, AssertValues, ConnectorKind, Describe, ExplainTarget, Print, QueryTarget,
    Show, SourceKind, Statement, Text,
};
use super::lexer::TokenKind;
use super::parser::{Grammar, Parser, Parsing};
use crate::diagnostic::Diagnostic;

impl Parser<'_> {
    /// What follows SHOW or LIST.
    pub(super) fn show(&mut self) -> Parsing<Statement> {
        self.shown().map(Statement::Show)
    }

    fn shown(&mut self) -> Parsing<Show> {
        let plain = [
            ("PROPERTIES", Show::Properties),
            ("FUNCTIONS", Show::Functions),
            ("TYPES", Show::Types),
            ("VARIABLES", Show::Variables),
            ("CONNECTORS", Show::Connectors(None)),
        ];
        if let Some((_, show)) = plain.into_iter().find(|(word, _)| self.accept(word)) {
            return Ok(show);
        }
        if self.accept("STREAMS") {
            return Ok(Show::Sources { kind: SourceKind::Stream, extended: self.accept("EXTENDED") });
        }
        if self.accept("TABLES") {
            return Ok(Show::Sources { kind: SourceKind::Table, extended: self.accept("EXTENDED") });
        }
        if self.accept("QUERIES") {
            return Ok(Show::Queries { extended: self.accept("EXTENDED") });
        }
        if self.accept("TOPICS") {
            return Ok(Show::Topics { all: false, extended: self.accept("EXTENDED") });
        }
        if self.accept("ALL") {
            self.expect("TOPICS")?;
            return Ok(Show::Topics { all: true, extended: self.accept("EXTENDED") });
        }
        self.shown_connectors()
    }

    fn shown_connectors(&mut self) -> Parsing<Show> {
        let kind = if self.accept("SOURCE") {
            ConnectorKind::Source
        } else if self.accept("SINK") {
            ConnectorKind::Sink
        } else {
            self.expect("CONNECTOR")?;
            self.expect("PLUGINS")?;
            return Ok(Show::ConnectorPlugins);
        };
        self.expect("CONNECTORS")?;
        Ok(Show::Connectors(Some(kind)))
    }

    pub(super) fn describe(&mut self) -> Parsing<Statement> {
        let named = matches!(self.ahead(1).kind, TokenKind::Word | TokenKind::Quoted(_));
        let describe = if self.accept("STREAMS") {
            Describe::All { kind: SourceKind::Stream, extended: self.accept("EXTENDED") }
        } else if self.accept("TABLES") {
            Describe::All { kind: SourceKind::Table, extended: self.accept("EXTENDED") }
        } else if self.accept("CONNECTOR") {
            Describe::Connector(self.name("the name of a connector")?)
        } else if self.at_word("FUNCTION") && named && !self.ahead(1).is_word("EXTENDED") {
            self.advance();
            Describe::Function(self.name("the name of a function")?)
        } else {
            let name = self.source_name()?;
            Describe::Source { name, extended: self.accept("EXTENDED") }
        };
        Ok(Statement::Describe(describe))
    }

    pub(super) fn explain(&mut self) -> Parsing<Statement> {
        if self.at_symbol(";") || self.at_end() {
            return Err(self.expected("the id of a query or a statement"));
        }
        let alone = self.ahead(1).is_symbol(";") || self.ahead(1).kind == TokenKind::End;
        if alone && let Some(id) = self.accept_name()? {
            return Ok(Statement::Explain(ExplainTarget::Query(id)));
        }
        let statement = self.nested(Self::statement)?;
        Ok(Statement::Explain(ExplainTarget::Statement(Box::new(statement))))
    }

    pub(super) fn print(&mut self) -> Parsing<Statement> {
        let topic = self.resource("the name of a topic")?;
        let from_beginning = self.accept("FROM");
        if from_beginning {
            self.expect("BEGINNING")?;
        }
        let every = self.accept("INTERVAL") || self.accept("SAMPLE");
        let interval = if every { Some(self.count("INTERVAL")?) } else { None };
        let limit = if self.accept("LIMIT") { Some(self.count("LIMIT")?) } else { None };
        Ok(Statement::Print(Print { topic, from_beginning, interval, limit }))
    }

    /// ALL or the id of a query.
    pub(super) fn query_target(&mut self) -> Parsing<QueryTarget> {
        if self.accept("ALL") {
            return Ok(QueryTarget::All);
        }
        self.name("the id of a query or ALL").map(QueryTarget::Id)
    }

    pub(super) fn set(&mut self) -> Parsing<Statement> {
        let (name, value) = self.assignment()?;
        Ok(Statement::Set { name, value })
    }

    /// `'name' = 'value'`.
    pub(super) fn assignment(&mut self) -> Parsing<(Text, Text)> {
        let name = self.string("the name of a property, as a string")?;
        self.expect_symbol("=")?;
        let value = self.string(&format!("the value of '{}', as a string", name.value))?;
        Ok((name, value))
    }

    pub(super) fn unset(&mut self) -> Parsing<Statement> {
        Ok(Statement::Unset { name: self.string("the name of a property, as a string")? })
    }

    pub(super) fn define(&mut self) -> Parsing<Statement> {
        let name = self.variable()?;
        self.expect_symbol("=")?;
        let value = self.string(&format!("the value of variable '{}', as a string", name.value))?;
        Ok(Statement::Define { name, value })
    }

    pub(super) fn undefine(&mut self) -> Parsing<Statement> {
        Ok(Statement::Undefine { name: self.variable()? })
    }

    fn variable(&mut self) -> Parsing<Text> {
        let token = self.token();
        if token.kind != TokenKind::Word || !super::lexer::is_identifier(token.text) {
            return Err(self.expected("the name of a variable"));
        }
        let name = token.text.to_owned();
        let span = self.advance();
        Ok(Text::new(name, span))
    }

    pub(super) fn run_script(&mut self) -> Parsing<Statement> {
        self.expect("SCRIPT")?;
        Ok(Statement::RunScript { path: self.string("the path of a script")? })
    }

    pub(super) fn assert(&mut self) -> Parsing<Statement> {
        let is_test = ["VALUES", "NULL", "STREAM", "TABLE"].iter().any(|word| self.at_word(word));
        if is_test && self.grammar == Grammar::Product {
            let error = format!("ASSERT {} is for test scripts only", self.token().text.to_uppercase());
            let error = Diagnostic::user(error).at(self.token().span);
            return Err(error.help("here, ASSERT TOPIC and ASSERT SCHEMA can be used"));
        }
        if is_test {
            return self.assert_in_test();
        }
        let exists = !self.accept("NOT");
        if !exists {
            self.expect("EXISTS")?;
        }
        if self.accept("TOPIC") {
            return self.assert_topic(exists);
        }
        self.expect("SCHEMA")?;
        self.assert_schema(exists)
    }

    fn assert_topic(&mut self, exists: bool) -> Parsing<Statement> {
        let topic = self.resource("the name of a topic")?;
        let properties = self.properties()?;
        let timeout = if self.accept("TIMEOUT") { Some(self.interval("TIMEOUT")?) } else { None };
        Ok(Statement::AssertTopic(AssertTopic { exists, topic, properties, timeout }))
    }

    fn assert_schema(&mut self, exists: bool) -> Parsing<Statement> {
        let subject = if self.accept("SUBJECT") { Some(self.resource("the name of a subject")?) } else { None };
        let id = if self.accept("ID") { Some(self.count("ID")?) } else { None };
        if subject.is_none() && id.is_none() {
            return Err(self.unexpected());
        }
        let timeout = if self.accept("TIMEOUT") { Some(self.interval("TIMEOUT")?) } else { None };
        Ok(Statement::AssertSchema(AssertSchema { exists, subject, id, timeout }))
    }

    fn assert_in_test(&mut self) -> Parsing<Statement> {
        if let Some(kind) = self.accept_source_kind() {
            let (name, columns, properties) = self.described_source()?;
            return Ok(Statement::AssertSource(AssertSource { kind, name, columns, properties }));
        }
        let tombstone = self.accept("NULL");
        self.expect("VALUES")?;
        let source = self.source_name()?;
        let listed = self.at_symbol("(");
        let columns = if listed { self.parenthesized(|p| p.name("the name of a column"))? } else { Vec::new() };
        self.expect(if tombstone { "KEY" } else { "VALUES" })?;
        let values = self.parenthesized(Self::expression)?;
        Ok(Statement::AssertValues(AssertValues { tombstone, source, columns, values }))
    }
}
