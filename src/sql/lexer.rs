//! Text to tokens with byte spans: sqlparser's tokenizer, under our dialect, made to say what KSQL says.
//!
//! Knows no keywords. The subtle thing: sqlparser only says where a token ends; what it is, is read again from the
//! text there, because KSQL has identifiers that begin with a digit, no `X'…'` or `N'…'` strings, and `>>` closes two types.

use sqlparser::dialect::Dialect;
use sqlparser::tokenizer::{Location, Token as RawToken, TokenWithSpan, Tokenizer, Whitespace};

use crate::diagnostic::{Diagnostic, Span};

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// an unquoted word: identifier or keyword
    Word,
    /// an identifier in backquotes or double quotes, unescaped
    Quoted(String),
    /// a string, unescaped
    String(String),
    /// an unsigned number
    Number,
    /// punctuation or operator of the dialect
    Symbol,
    /// what is no token of the dialect
    Unknown,
    /// the end of the text
    End,
}

/// A token and its place.
#[derive(Clone, Debug)]
pub(super) struct Token<'t> {
    pub(super) kind: TokenKind,
    /// as written
    pub(super) text: &'t str,
    pub(super) span: Span,
}

impl Token<'_> {
    /// True for this unquoted word, in any case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// True for this punctuation or operator.
    pub(super) fn is_symbol(&self, symbol: &str) -> bool {
        self.kind == TokenKind::Symbol && self.text == symbol
    }
}

/// A comment `--@…`: what follows the `@`, and where the comment stands.
pub(super) struct RawDirective<'t> {
    pub(super) text: &'t str,
    pub(super) span: Span,
}

/// All tokens of a text, the last one [`TokenKind::End`], and its `--@` comments.
pub(super) struct Lexed<'t> {
    pub(super) tokens: Vec<Token<'t>>,
    pub(super) directives: Vec<RawDirective<'t>>,
}

/// Cuts `text` into tokens. Fails only where a string, quoted name or comment is not closed.
pub(super) fn lex(text: &str) -> Result<Lexed<'_>, Diagnostic> {
    let mut raw: Vec<TokenWithSpan> = Vec::new();
    let outcome = Tokenizer::new(&KsqlDialect, text).tokenize_with_location_into_buf(&mut raw);
    let mut lexer = Lexer { text, lexed: Lexed { tokens: Vec::new(), directives: Vec::new() } };
    let mut places = Places::new(text);
    let mut start = 0;
    for token in &raw {
        let end = places.byte_of(token.span.end);
        lexer.take(&token.token, start, end);
        start = end;
    }
    if outcome.is_err() {
        return Err(not_closed(text, start));
    }
    let span = Span::new(text.len()..text.len());
    lexer.lexed.tokens.push(Token { kind: TokenKind::End, text: "", span });
    Ok(lexer.lexed)
}

/// Identifiers as KSQL has them. Other letters are let in so that a word with one can be shown whole, and `$` so that
/// it never begins a string between dollars.
#[derive(Debug)]
struct KsqlDialect;

impl Dialect for KsqlDialect {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_' || ch == '$'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '@'
    }
}

/// Turns sqlparser's lines and columns, which only grow, into bytes.
struct Places<'t> {
    chars: std::str::CharIndices<'t>,
    line: u64,
    column: u64,
    len: usize,
}

impl<'t> Places<'t> {
    fn new(text: &'t str) -> Self {
        Self { chars: text.char_indices(), line: 1, column: 1, len: text.len() }
    }

    fn byte_of(&mut self, place: Location) -> usize {
        while (self.line, self.column) < (place.line, place.column) {
            match self.chars.next() {
                Some((_, '\n')) => (self.line, self.column) = (self.line + 1, 1),
                Some(_) => self.column += 1,
                None => break,
            }
        }
        self.len - self.chars.as_str().len()
    }
}

struct Lexer<'t> {
    text: &'t str,
    lexed: Lexed<'t>,
}

impl<'t> Lexer<'t> {
    fn take(&mut self, token: &RawToken, start: usize, end: usize) {
        let text = &self.text[start..end];
        match token {
            RawToken::Whitespace(Whitespace::SingleLineComment { comment, .. }) if comment.starts_with('@') => {
                let line = text.trim_end();
                let span = Span::new(start..start + line.len());
                self.lexed.directives.push(RawDirective { text: &line["--@".len()..], span });
            }
            RawToken::Whitespace(_) => {}
            RawToken::Word(word) if word.quote_style.is_some() => {
                self.push(TokenKind::Quoted(word.value.clone()), start, end);
            }
            RawToken::SingleQuotedString(value) => self.push(TokenKind::String(value.clone()), start, end),
            RawToken::NationalStringLiteral(_) | RawToken::HexStringLiteral(_) if text.ends_with('\'') => {
                self.push(TokenKind::Word, start, start + 1);
                let inner = text.get(2..text.len() - 1).unwrap_or("");
                self.push(TokenKind::String(inner.replace("''", "'")), start + 1, end);
            }
            RawToken::ShiftRight => {
                self.push(TokenKind::Symbol, start, start + 1);
                self.push(TokenKind::Symbol, start + 1, end);
            }
            RawToken::Word(_) | RawToken::Number(..) | RawToken::HexStringLiteral(_) => self.push_word(start, end),
            _ if text.bytes().all(|b| b == b'@') => self.push_word(start, end),
            _ if SYMBOLS.contains(&text) => self.push(TokenKind::Symbol, start, end),
            _ => self.push(TokenKind::Unknown, start, end),
        }
    }

    /// A word or number, glued to a number right before it where both are one identifier, such as `1st`.
    fn push_word(&mut self, start: usize, end: usize) {
        if let Some(last) = self.lexed.tokens.last_mut().filter(|last| last.span.end == start) {
            let glued = &self.text[last.span.start..end];
            if is_digit_led(glued) {
                *last = Token { kind: TokenKind::Word, text: glued, span: Span::new(last.span.start..end) };
                return;
            }
        }
        let text = &self.text[start..end];
        let kind = if is_number(text) {
            TokenKind::Number
        } else if is_identifier(text) || is_digit_led(text) {
            TokenKind::Word
        } else {
            TokenKind::Unknown
        };
        self.push(kind, start, end);
    }

    fn push(&mut self, kind: TokenKind, start: usize, end: usize) {
        self.lexed.tokens.push(Token { kind, text: &self.text[start..end], span: Span::new(start..end) });
    }
}

const SYMBOLS: &[&str] = &[
    "(", ")", "[", "]", "{", "}", ",", ".", ";", "=", "<>", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "||",
    "->", "=>", ":=", ":",
];

/// True for `[A-Za-z_][A-Za-z0-9_@]*`.
pub(super) fn is_identifier(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && text.bytes().all(is_identifier_byte)
}

fn is_identifier_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'@'
}

/// True for `[0-9][A-Za-z0-9_@]+` that is no number.
fn is_digit_led(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_digit());
    first && text.len() > 1 && text.bytes().all(is_identifier_byte) && !is_number(text)
}

/// True for digits with an optional point and an optional exponent.
pub(super) fn is_number(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let exponent_ok = exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_ok =
        (digits(whole) || whole.is_empty() && digits(fraction)) && (fraction.is_empty() || digits(fraction));
    mantissa_ok && exponent_ok
}

fn not_closed(text: &str, start: usize) -> Diagnostic {
    let rest = &text[start..];
    let (what, close) = match rest.as_bytes().first() {
        Some(b'`') => ("The quoted name", "`"),
        Some(b'"') => ("The quoted name", "\""),
        Some(b'/') => ("The comment", "*/"),
        Some(b'.') => return Diagnostic::user("A name is missing before '.'").at(Span::new(start..start + 1)),
        _ => ("The string", "'"),
    };
    let first_line = rest.lines().next().map_or(1, |line| line.len().max(1));
    Diagnostic::user(format!("{what} that begins here is not closed"))
        .at(Span::new(start..(start + first_line).min(text.len())))
        .help(format!("close it with {close}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(text: &str) -> Vec<(TokenKind, &str)> {
        lex(text).expect("closed").tokens.into_iter().map(|t| (t.kind, t.text)).filter(|t| !t.1.is_empty()).collect()
    }

    #[test]
    fn digit_led_identifiers_are_words_and_numbers_are_not() {
        use TokenKind::{Number, Symbol, Word};
        assert_eq!(shapes("1@s 10L 0x1F 1e3x"), [(Word, "1@s"), (Word, "10L"), (Word, "0x1F"), (Word, "1e3x")]);
        let numbers = shapes("1 1. 1.5 .5 1e3 1.e-3 .5E+2");
        assert!(numbers.iter().all(|t| t.0 == Number), "{numbers:?}");
        assert_eq!(shapes("a.b"), [(Word, "a"), (Symbol, "."), (Word, "b")]);
    }

    #[test]
    fn spans_count_bytes_across_lines() {
        let text = "'é\r\n''x' \n  `naïve` -- ü\n b";
        let tokens = lex(text).expect("closed").tokens;
        let cut: Vec<&str> = tokens.iter().map(|t| &text[t.span.start..t.span.end]).collect();
        assert_eq!(cut, ["'é\r\n''x'", "`naïve`", "b", ""]);
        assert_eq!(tokens[0].kind, TokenKind::String("é\r\n'x".into()));
    }

    #[test]
    fn prefixed_strings_are_a_word_and_a_string() {
        use TokenKind::{String, Word};
        assert_eq!(shapes("x'a''b'"), [(Word, "x"), (String("a'b".into()), "'a''b'")]);
        assert_eq!(shapes("N'é'"), [(Word, "N"), (String("é".into()), "'é'")]);
    }

    #[test]
    fn a_struct_in_a_map_is_closed_twice() {
        let symbols: Vec<_> = shapes("MAP<A, ARRAY<B>>").into_iter().map(|t| t.1).collect();
        assert_eq!(symbols, ["MAP", "<", "A", ",", "ARRAY", "<", "B", ">", ">"]);
    }
}
