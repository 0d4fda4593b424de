//! Text to tree and back: statements, queries, expressions and types of the dialect; knows no catalog.
//!
//! The way of a statement: [`parse_script`] has `lexer` cut the text into tokens; a `Parser` moves over them, takes the first
//! word from its table and calls the rule in `ddl`, `command` or `query`, which go down into `expr` and `type_name`; out comes a
//! [`ast::Statement`] whose every part knows its bytes in the text. `Display` of any part is canonical SQL that parses to
//! an equal part. A session that has variables calls [`split`], then [`substitute`] and [`parse_statement`] one by one.
//!
//! Left out: sqlparser's parser and its tree, which cannot hold spans, types of the dialect, `:=` and units of time; only its tokenizer is used.

pub mod ast;
mod command;
mod ddl;
mod display;
mod expr;
mod keyword;
mod length;
mod lexer;
mod parser;
mod query;
mod script;
mod type_name;

use ast::{ColumnDef, Expr, Statement};
use lexer::lex;
use parser::{Grammar, Parser, Parsing};

pub use keyword::{NON_RESERVED, RESERVED, completions, is_reserved, quote};
pub use length::check_length;
pub use parser::FIRST_KEYWORDS;
pub use script::{Directive, RawStatement, is_complete, split, substitute};

use crate::diagnostic::{Diagnostic, Span};

/// A statement of a script.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// what it says; spans in it count in the whole script
    pub statement: Statement,
    /// where it stands in the whole script, with its `;`
    pub span: Span,
    /// its text, with its `;`
    pub text: String,
}

/// A part of a test script.
#[derive(Clone, Debug, PartialEq)]
pub enum TestItem {
    /// `--@name: text`
    Directive(Directive),
    /// a statement, of the product or of tests
    Statement(Box<Parsed>),
}

/// Parses a text of any number of statements, each ended by `;`.
///
/// # Errors
/// The first syntax error, with its place in `text`.
pub fn parse_script(text: &str) -> Result<Vec<Parsed>, Diagnostic> {
    parsed(text, |p| statements(p, text), Grammar::Product)
}

/// Parses a text of one statement; its `;` may be missing.
///
/// # Errors
/// A syntax error, with its place in `text`.
pub fn parse_statement(text: &str) -> Result<Statement, Diagnostic> {
    parsed(
        text,
        |p| {
            let statement = p.statement()?;
            p.accept_symbol(";");
            Ok(statement)
        },
        Grammar::Product,
    )
}

/// Parses a test script: statements of the product and of tests, and directives, in the order of the text.
///
/// # Errors
/// The first syntax error, with its place in `text`.
pub fn parse_test_script(text: &str) -> Result<Vec<TestItem>, Diagnostic> {
    let directives = lex(text).and_then(|lexed| script::directives(&lexed)).map_err(|error| error.with_text(text))?;
    let statements = parsed(text, |p| statements(p, text), Grammar::Test)?;
    let mut items: Vec<TestItem> = directives.into_iter().map(TestItem::Directive).collect();
    items.extend(statements.into_iter().map(|parsed| TestItem::Statement(Box::new(parsed))));
    items.sort_by_key(TestItem::start);
    Ok(items)
}

/// Parses a text that is one expression.
///
/// # Errors
/// A syntax error, with its place in `text`.
pub fn parse_expression(text: &str) -> Result<Expr, Diagnostic> {
    parsed(text, Parser::expression, Grammar::Product)
}

/// Parses a list of columns without parentheses, such as `` `ID` BIGINT KEY, V INT``; an empty text is an empty list.
///
/// # Errors
/// A syntax error, with its place in `text`.
pub fn parse_schema(text: &str) -> Result<Vec<ColumnDef>, Diagnostic> {
    let columns = |p: &mut Parser<'_>| if p.at_end() { Ok(Vec::new()) } else { p.list(Parser::column) };
    parsed(text, columns, Grammar::Product)
}

/// Runs `rule` over the whole of `text`.
fn parsed<'t, T>(text: &'t str, rule: impl FnOnce(&mut Parser<'t>) -> Parsing<T>, grammar: Grammar) -> Parsing<T> {
    let outcome = Parser::new(text, grammar).and_then(|mut parser| {
        let value = rule(&mut parser)?;
        if parser.at_end() { Ok(value) } else { Err(parser.unexpected()) }
    });
    outcome.map_err(|error| error.with_text(text))
}

fn statements(parser: &mut Parser<'_>, text: &str) -> Parsing<Vec<Parsed>> {
    let mut statements = Vec::new();
    loop {
        while parser.accept_symbol(";") {}
        if parser.at_end() {
            return Ok(statements);
        }
        let start = parser.start();
        let statement = parser.statement()?;
        if parser.at_end() {
            return Err(parser.expected("';'").help("every statement must end with ';'"));
        }
        parser.expect_symbol(";")?;
        let span = parser.since(start);
        statements.push(Parsed { statement, span, text: text[span.start..span.end].to_owned() });
    }
}

impl TestItem {
    fn start(&self) -> usize {
        match self {
            Self::Directive(directive) => directive.span.start,
            Self::Statement(parsed) => parsed.span.start,
        }
    }
}
