//! The cursor that every part of the grammar moves over the tokens, and the table of first words.
//!
//! Knows names, literals and lists, not clauses. The subtle thing is `tried`: each keyword that was looked for and not
//! found at the current token is remembered, so that an error can say what could have stood there.

use super::ast::{Ident, Literal, Loc, Number, NumberKind, Property, RowCount, Statement, Text, TimeUnit};
use super::keyword::is_reserved;
use super::lexer::{Lexed, Token, TokenKind, is_number, lex};
use crate::diagnostic::{Diagnostic, Span, suggest};
use crate::types::fold;

pub(super) type Parsing<T> = Result<T, Diagnostic>;

/// How deep parentheses, calls, types and queries may stand in each other.
const MAX_NESTING: usize = 64;

/// Which statements are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grammar {
    /// what a server takes
    Product,
    /// the same, and what test scripts may say
    Test,
}

type StatementRule = for<'t> fn(&mut Parser<'t>) -> Parsing<Statement>;

/// Each word that a statement may begin with, and the rule for what follows it.
const FIRST_RULES: &[(&str, StatementRule)] = &[
    ("ALTER", |p| p.alter()),
    ("ASSERT", |p| p.assert()),
    ("COPY", |p| p.copy()),
    ("CREATE", |p| p.create()),
    ("DEFINE", |p| p.define()),
    ("DESCRIBE", |p| p.describe()),
    ("DROP", |p| p.drop()),
    ("EXPLAIN", |p| p.explain()),
    ("INSERT", |p| p.insert()),
    ("LIST", |p| p.show()),
    ("PAUSE", |p| p.query_target().map(Statement::Pause)),
    ("PRINT", |p| p.print()),
    ("RESUME", |p| p.query_target().map(Statement::Resume)),
    ("RUN", |p| p.run_script()),
    ("SELECT", |p| p.query_statement()),
    ("SET", |p| p.set()),
    ("SHOW", |p| p.show()),
    ("TERMINATE", |p| p.query_target().map(Statement::Terminate)),
    ("UNDEFINE", |p| p.undefine()),
    ("UNSET", |p| p.unset()),
    ("WITH", |p| p.query_statement()),
];

/// The words that a statement may begin with, upper case, sorted.
pub const FIRST_KEYWORDS: [&str; FIRST_RULES.len()] = {
    let mut words = [""; FIRST_RULES.len()];
    let mut i = 0;
    while i < words.len() {
        words[i] = FIRST_RULES[i].0;
        i += 1;
    }
    words
};

pub(super) struct Parser<'t> {
    tokens: Vec<Token<'t>>,
    position: usize,
    nesting: usize,
    /// what was looked for at this token, and not found
    tried: Vec<&'static str>,
    /// what could stand here too, but goes without saying
    hints: Vec<&'static str>,
    pub(super) grammar: Grammar,
}

impl<'t> Parser<'t> {
    pub(super) fn new(text: &'t str, grammar: Grammar) -> Parsing<Self> {
        Ok(Self::over(lex(text)?, grammar))
    }

    pub(super) fn over(lexed: Lexed<'t>, grammar: Grammar) -> Self {
        Self { tokens: lexed.tokens, position: 0, nesting: 0, tried: Vec::new(), hints: Vec::new(), grammar }
    }

    /// A statement, without its `;`.
    pub(super) fn statement(&mut self) -> Parsing<Statement> {
        let first = self.token().clone();
        if first.is_symbol("(") {
            return self.query_statement();
        }
        let known = FIRST_RULES.iter().find(|(word, _)| first.is_word(word));
        match known {
            Some(("RUN", _)) if self.grammar == Grammar::Product => Err(self.unknown_statement(&first).help(
                "RUN SCRIPT is a command of the shell and of test scripts; send the statements of the script instead",
            )),
            Some((word, rule)) => {
                if !matches!(*word, "SELECT" | "WITH") {
                    self.advance();
                }
                self.nested(rule)
            }
            None => Err(self.unknown_statement(&first)),
        }
    }

    fn unknown_statement(&self, first: &Token<'_>) -> Diagnostic {
        let error = match first.kind {
            TokenKind::End => return Diagnostic::user("There is no statement").help("write one, and end it with ';'"),
            TokenKind::Word => Diagnostic::user(format!("Unknown statement '{}'", first.text)),
            _ => Diagnostic::user(format!("A statement cannot begin with {}", describe(first))),
        };
        let error = error.at(first.span);
        let words = FIRST_KEYWORDS.iter().copied().filter(|w| *w != "RUN" || self.grammar == Grammar::Test);
        match suggest(first.text, words) {
            Some(word) if !first.is_word(word) && !is_reserved(first.text) => {
                error.help(format!("did you mean '{word}'?"))
            }
            _ => error,
        }
    }

    // ---- the cursor

    pub(super) fn token(&self) -> &Token<'t> {
        self.ahead(0)
    }

    /// The token `by` further on; the last one is the end of the text, for ever.
    pub(super) fn ahead(&self, by: usize) -> &Token<'t> {
        let last = self.tokens.len() - 1;
        &self.tokens[(self.position + by).min(last)]
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Back to a position that was passed before.
    pub(super) fn rewind(&mut self, position: usize) {
        self.position = position;
        self.forget();
    }

    pub(super) fn advance(&mut self) -> Span {
        let span = self.token().span;
        self.position = (self.position + 1).min(self.tokens.len() - 1);
        self.forget();
        span
    }

    fn forget(&mut self) {
        self.tried.clear();
        self.hints.clear();
    }

    /// Where the next token begins.
    pub(super) fn start(&self) -> usize {
        self.token().span.start
    }

    /// From `start` to the end of the last token taken.
    pub(super) fn since(&self, start: usize) -> Span {
        Span::new(start..self.last_span().end.max(start))
    }

    pub(super) fn last_span(&self) -> Span {
        self.position.checked_sub(1).map_or(Span::default(), |i| self.tokens[i].span)
    }

    pub(super) fn last_token(&self) -> Option<&Token<'t>> {
        self.position.checked_sub(1).map(|i| &self.tokens[i])
    }

    pub(super) fn at_word(&self, word: &str) -> bool {
        self.token().is_word(word)
    }

    pub(super) fn at_symbol(&self, symbol: &str) -> bool {
        self.token().is_symbol(symbol)
    }

    /// True if these words come next.
    pub(super) fn at_words(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(i, word)| self.ahead(i).is_word(word))
    }

    pub(super) fn at_end(&self) -> bool {
        self.token().kind == TokenKind::End
    }

    /// Takes the word if it is next.
    pub(super) fn accept(&mut self, word: &'static str) -> bool {
        let found = self.at_word(word);
        self.note(found, word)
    }

    /// Takes the symbol if it is next.
    pub(super) fn accept_symbol(&mut self, symbol: &'static str) -> bool {
        let found = self.at_symbol(symbol);
        self.note(found, symbol)
    }

    /// Takes the words if all are next, or none of them.
    pub(super) fn accept_all(&mut self, words: &[&'static str]) -> bool {
        let found = self.at_words(words);
        if found {
            words.iter().for_each(|_| _ = self.advance());
        } else if let Some(first) = words.first() {
            self.note(false, first);
        }
        found
    }

    fn note(&mut self, found: bool, wanted: &'static str) -> bool {
        if found {
            self.advance();
        } else if !self.tried.contains(&wanted) {
            self.tried.push(wanted);
        }
        found
    }

    /// Takes the word if it is next. An error at this place does not list it, but may suggest it.
    pub(super) fn accept_operator(&mut self, word: &'static str) -> bool {
        let found = self.at_word(word);
        if found {
            self.advance();
        } else {
            self.hint(&[word]);
        }
        found
    }

    /// Words that could stand here too, for "did you mean".
    pub(super) fn hint(&mut self, words: &[&'static str]) {
        self.hints.extend(words);
    }

    pub(super) fn expect(&mut self, word: &'static str) -> Parsing<Span> {
        if self.accept(word) { Ok(self.last_span()) } else { Err(self.unexpected()) }
    }

    pub(super) fn expect_all(&mut self, words: &[&'static str]) -> Parsing<()> {
        words.iter().try_for_each(|word| self.expect(word).map(|_| ()))
    }

    pub(super) fn expect_symbol(&mut self, symbol: &'static str) -> Parsing<Span> {
        if self.accept_symbol(symbol) { Ok(self.last_span()) } else { Err(self.unexpected()) }
    }

    /// Runs a rule one level deeper.
    pub(super) fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsing<T>) -> Parsing<T> {
        if self.nesting == MAX_NESTING {
            return Err(self.too_deep(self.token().span));
        }
        self.nesting += 1;
        let outcome = rule(self);
        self.nesting -= 1;
        outcome
    }

    pub(super) fn too_deep(&self, span: Span) -> Diagnostic {
        Diagnostic::user("The statement is nested too deeply here").at(span).help("split it into several statements")
    }

    // ---- lists

    /// One or more, between commas.
    pub(super) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Parsing<T>) -> Parsing<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.accept_symbol(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// `( item, … )`, at least one.
    pub(super) fn parenthesized<T>(&mut self, item: impl FnMut(&mut Self) -> Parsing<T>) -> Parsing<Vec<T>> {
        self.expect_symbol("(")?;
        let items = self.list(item)?;
        self.expect_symbol(")")?;
        Ok(items)
    }

    // ---- names

    /// The name that is next, if one is.
    pub(super) fn accept_name(&mut self) -> Parsing<Option<Ident>> {
        let token = self.token();
        let name = match &token.kind {
            TokenKind::Word if !is_reserved(token.text) => fold(token.text, false),
            TokenKind::Quoted(name) if name.is_empty() => {
                return Err(Diagnostic::user("A name cannot be empty").at(token.span));
            }
            TokenKind::Quoted(name) => name.clone(),
            _ => return Ok(None),
        };
        let span = self.advance();
        Ok(Some(Ident::new(name, span)))
    }

    /// A name for `what`.
    pub(super) fn name(&mut self, what: &str) -> Parsing<Ident> {
        let name = self.accept_name()?;
        name.ok_or_else(|| self.expected_name(what))
    }

    /// The name of a stream or table.
    pub(super) fn source_name(&mut self) -> Parsing<Ident> {
        let name = self.accept_source_name()?;
        name.ok_or_else(|| self.expected_name("the name of a stream or table"))
    }

    /// The name of a stream or table that is next, if one is.
    pub(super) fn accept_source_name(&mut self) -> Parsing<Option<Ident>> {
        let Some(name) = self.accept_name()? else { return Ok(None) };
        if name.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            return Ok(Some(name));
        }
        let message = format!("Source names may only contain alphanumeric values, '_' or '-'. Got: '{}'", name.name);
        Err(Diagnostic::user(message).at(name.span()))
    }

    /// The name of a topic, subject or variable: case is kept, and a string will do.
    pub(super) fn resource(&mut self, what: &str) -> Parsing<Text> {
        let token = self.token();
        let value = match &token.kind {
            TokenKind::Word if !is_reserved(token.text) => token.text.to_owned(),
            TokenKind::Quoted(value) | TokenKind::String(value) if !value.is_empty() => value.clone(),
            _ => return Err(self.expected_name(what)),
        };
        let span = self.advance();
        Ok(Text::new(value, span))
    }

    // ---- constants

    /// A string for `what`.
    pub(super) fn string(&mut self, what: &str) -> Parsing<Text> {
        let token = self.token();
        let TokenKind::String(value) = &token.kind else {
            let error = self.expected(what);
            let bare = matches!(self.token().kind, TokenKind::Word | TokenKind::Number | TokenKind::Quoted(_));
            return Err(if bare { error.help("put it in single quotes") } else { error });
        };
        let value = value.clone();
        let span = self.advance();
        Ok(Text::new(value, span))
    }

    /// A count that is not negative, for `what`.
    pub(super) fn count(&mut self, what: &str) -> Parsing<RowCount> {
        let start = self.start();
        let negative = self.at_symbol("-") && self.ahead(1).kind == TokenKind::Number;
        if negative {
            self.advance();
        }
        let token = self.token();
        if token.kind != TokenKind::Number || !token.text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(self.expected(&format!("a whole number for {what}")));
        }
        let parsed = token.text.parse::<i64>();
        self.advance();
        let span = self.since(start);
        match parsed {
            Ok(count) if !negative || count == 0 => Ok(RowCount { count: count.unsigned_abs(), loc: Loc(span) }),
            Ok(_) => Err(Diagnostic::user(format!("The number for {what} cannot be negative")).at(span)),
            Err(_) => Err(Diagnostic::user(format!("The number for {what} is too large")).at(span)),
        }
    }

    /// The literal that is next, if one is: NULL, TRUE, FALSE, a string, a number with or without sign, DECIMAL '…'.
    pub(super) fn accept_literal(&mut self) -> Parsing<Option<Literal>> {
        let next_is_number = self.ahead(1).kind == TokenKind::Number;
        let token = self.token();
        let literal = match &token.kind {
            TokenKind::String(value) => Literal::String(value.clone()),
            TokenKind::Number => return self.number(token.span.start).map(Some),
            TokenKind::Symbol if token.text == "-" && next_is_number => {
                let start = self.advance().start;
                return self.number(start).map(Some);
            }
            TokenKind::Word if token.is_word("NULL") => Literal::Null,
            TokenKind::Word if token.is_word("TRUE") => Literal::Boolean(true),
            TokenKind::Word if token.is_word("FALSE") => Literal::Boolean(false),
            TokenKind::Word if token.is_word("DECIMAL") => return self.decimal_literal(),
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some(literal))
    }

    /// A number whose sign, if it has one, was taken at `start`.
    fn number(&mut self, start: usize) -> Parsing<Literal> {
        let digits = self.token().text;
        let sign = if self.start() > start { "-" } else { "" };
        let text = format!("{sign}{digits}");
        self.advance();
        let span = self.since(start);
        let kind = if digits.contains(['e', 'E']) {
            match text.parse::<f64>() {
                Ok(value) if value.is_finite() => NumberKind::Double,
                _ => return Err(Diagnostic::user(format!("Number overflows DOUBLE: {text}")).at(span)),
            }
        } else if digits.contains('.') {
            NumberKind::Decimal
        } else if text.parse::<i32>().is_ok() {
            NumberKind::Int
        } else if text.parse::<i64>().is_ok() {
            NumberKind::BigInt
        } else {
            let error = Diagnostic::user(format!("Invalid numeric literal: {text} does not fit 64 bits"));
            return Err(error.at(span).help(format!("write it as a decimal: {text}.")));
        };
        Ok(Literal::Number(Number { text, kind }))
    }

    fn decimal_literal(&mut self) -> Parsing<Option<Literal>> {
        let TokenKind::String(text) = &self.ahead(1).kind else { return Ok(None) };
        let text = text.trim().to_owned();
        let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
        if !is_number(digits) || digits.contains(['e', 'E']) {
            let span = self.ahead(1).span;
            return Err(Diagnostic::user(format!("'{text}' is not a decimal number")).at(span));
        }
        self.advance();
        self.advance();
        let text = text.strip_prefix('+').map_or(text.clone(), str::to_owned);
        Ok(Some(Literal::Number(Number { text, kind: NumberKind::Decimal })))
    }

    /// A unit of time.
    pub(super) fn time_unit(&mut self) -> Parsing<TimeUnit> {
        let token = self.token();
        let unit = TimeUnit::from_keyword(token.text).filter(|_| token.kind == TokenKind::Word);
        match unit {
            Some(unit) => {
                self.advance();
                Ok(unit)
            }
            None => {
                self.tried.extend(TimeUnit::ALL.iter().map(|unit| unit.keyword()));
                Err(self.unexpected())
            }
        }
    }

    // ---- WITH (…)

    /// `WITH (name = literal, …)`, or nothing.
    pub(super) fn properties(&mut self) -> Parsing<Vec<Property>> {
        if self.accept("WITH") { self.parenthesized(Self::property) } else { Ok(Vec::new()) }
    }

    fn property(&mut self) -> Parsing<Property> {
        let name = match &self.token().kind {
            TokenKind::String(name) => {
                let name = name.clone();
                Ident::new(name, self.advance())
            }
            _ => self.name("the name of a property")?,
        };
        self.expect_symbol("=")?;
        let start = self.start();
        let literal = self.accept_literal()?;
        let value = literal.ok_or_else(|| {
            let error = self.expected(&format!("a constant for {}", name.name));
            let bare = matches!(self.token().kind, TokenKind::Word | TokenKind::Quoted(_));
            if bare { error.help("put the value in single quotes") } else { error }
        })?;
        Ok(Property { name, value, value_loc: Loc(self.since(start)) })
    }

    // ---- errors

    /// The error that something else stands here than any of the words looked for.
    pub(super) fn unexpected(&self) -> Diagnostic {
        /// A longer list helps nobody.
        const MOST: usize = 13;
        let words: Vec<String> = self.tried.iter().map(|word| shown(word)).collect();
        match words.as_slice() {
            [] => self.expected(""),
            [one] => self.expected(one),
            [all @ .., last] if words.len() <= MOST => self.expected(&format!("{} or {last}", all.join(", "))),
            _ => self.expected(""),
        }
    }

    /// The error that something else stands here than `what`.
    pub(super) fn expected(&self, what: &str) -> Diagnostic {
        let token = self.token();
        let found = describe(token);
        let message = match what {
            "" => format!("Syntax error: {found} is not expected here"),
            _ => format!("Syntax error: expected {what}, found {found}"),
        };
        let error = Diagnostic::user(message).at(self.visible_span());
        match self.remedy(token) {
            Some(help) => error.help(help),
            None => error,
        }
    }

    /// The error that something else stands here than a name for `what`.
    pub(super) fn expected_name(&self, what: &str) -> Diagnostic {
        let error = self.expected(what);
        let token = self.token();
        if token.kind != TokenKind::Word || !is_reserved(token.text) {
            return error;
        }
        let name = token.text;
        error.help(format!("'{name}' is a reserved word; to use it as a name, escape it: `{name}`"))
    }

    fn remedy(&self, token: &Token<'_>) -> Option<String> {
        if token.kind == TokenKind::Unknown {
            return unknown_remedy(token.text);
        }
        if let Some(word) = self.meant_by(token) {
            return Some(format!("did you mean '{word}'?"));
        }
        // a mistyped keyword may have been read as a name, such as an alias, and this token is what follows it
        let before = self.last_token()?;
        self.meant_by(before).map(|word| format!("did you mean '{word}' instead of '{}'?", before.text))
    }

    /// The word among those looked for here that this one is nearly.
    fn meant_by(&self, token: &Token<'_>) -> Option<&'static str> {
        const SHORTEST: usize = 3;
        if token.kind != TokenKind::Word || token.text.len() < SHORTEST {
            return None;
        }
        // a keyword in full was hardly meant to be an operator
        let hints: &[&str] = if is_reserved(token.text) { &[] } else { &self.hints };
        let words = self.tried.iter().chain(hints).copied().filter(|w| w.bytes().all(|b| b.is_ascii_alphabetic()));
        suggest(token.text, words).filter(|word| !token.is_word(word))
    }

    /// The next token; at the end of the text, the last character before it.
    fn visible_span(&self) -> Span {
        let span = self.token().span;
        if !span.is_empty() {
            return span;
        }
        let last = self.last_span();
        if last.is_empty() { span } else { Span::new(last.end - self.last_char_len()..last.end) }
    }

    fn last_char_len(&self) -> usize {
        self.last_token().and_then(|token| token.text.chars().next_back()).map_or(0, char::len_utf8)
    }
}

/// A keyword as it is, a symbol in quotes.
fn shown(word: &str) -> String {
    if word.starts_with(|c: char| c.is_ascii_alphabetic()) { word.to_owned() } else { format!("'{word}'") }
}

fn describe(token: &Token<'_>) -> String {
    match &token.kind {
        TokenKind::End => "the end of the text".to_owned(),
        TokenKind::String(_) => format!("the string {}", shortened(token.text)),
        TokenKind::Quoted(_) | TokenKind::Word | TokenKind::Number | TokenKind::Symbol | TokenKind::Unknown => {
            format!("'{}'", shortened(token.text))
        }
    }
}

fn shortened(text: &str) -> String {
    const MOST: usize = 40;
    if text.chars().count() <= MOST { text.to_owned() } else { text.chars().take(MOST).chain(['…']).collect() }
}

fn unknown_remedy(text: &str) -> Option<String> {
    match text {
        "==" => Some("compare with '='".to_owned()),
        "$" => Some("a variable is written ${name}, and must be defined before it is used".to_owned()),
        _ if text.chars().any(char::is_alphanumeric) => {
            Some("a name with other characters than A-Z, a-z, 0-9, '_' and '@' must stand in backquotes".to_owned())
        }
        _ => None,
    }
}
