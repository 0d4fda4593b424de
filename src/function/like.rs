//! LIKE: `%` for any sequence, `_` for one character, over the whole string.
//!
//! Not a regular expression. The subtle thing: as in Java's `.`, neither wildcard matches a line terminator.

use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, Expr};

use super::columns::{Strs, bools};
use super::eval::{Failures, Reason};
use super::udf::{BoundFunction, Call, ErrorRule};
use crate::types::SqlType;

/// Separates the escape character from the pattern in the key of a compiled pattern.
const NO_ESCAPE: char = '\u{0}';

/// `operand LIKE pattern [ESCAPE escape]`.
pub fn like(operand: Expr, pattern: Expr, escape: Option<char>) -> Expr {
    let escape = datafusion::logical_expr::lit(escape.unwrap_or(NO_ESCAPE).to_string());
    let types = vec![SqlType::String, SqlType::String, SqlType::String];
    BoundFunction::new("LIKE", kernel, types, SqlType::Boolean, ErrorRule::Propagate)
        .call(vec![operand, pattern, escape])
}

fn kernel(call: &Call<'_>, failures: &mut Failures<'_>) -> Result<ColumnarValue, DataFusionError> {
    let (texts, patterns, escape) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?, Strs::of(&call.args[2])?);
    let escape = escape.get(0).and_then(|e| e.chars().next()).unwrap_or(NO_ESCAPE);
    if let ColumnarValue::Scalar(_) = &call.args[1] {
        let matcher = patterns.get(0).map(|pattern| Matcher::new(pattern, escape));
        return Ok(bools(call.rows, failures, |row| match (texts.get(row), &matcher) {
            (Some(text), Some(Ok(matcher))) => Ok(Some(matcher.matches(text))),
            (_, Some(Err(reason))) => Err(reason.clone()),
            _ => Err("an operand of LIKE is NULL".into()),
        }));
    }
    Ok(bools(call.rows, failures, |row| match (texts.get(row), patterns.get(row)) {
        (Some(text), Some(pattern)) => Ok(Some(Matcher::new(pattern, escape)?.matches(text))),
        _ => Err("an operand of LIKE is NULL".into()),
    }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    One,
    Many,
}

/// A compiled pattern; common shapes avoid the walk over tokens.
#[derive(Debug)]
enum Matcher {
    Equals(String),
    /// `%text%`, `text%` or `%text`: open at the start, the text, open at the end
    Around(bool, String, bool),
    Tokens(Vec<Token>),
}

impl Matcher {
    fn new(pattern: &str, escape: char) -> Result<Self, Reason> {
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                c if c == escape && escape != NO_ESCAPE => {
                    let literal = chars.next().ok_or("the LIKE pattern must not end with the escape character")?;
                    Token::Literal(literal)
                }
                '%' => Token::Many,
                '_' => Token::One,
                c => Token::Literal(c),
            });
        }
        tokens.dedup_by(|b, a| *a == Token::Many && *b == Token::Many);
        let (before, after) = (tokens.first() == Some(&Token::Many), tokens.last() == Some(&Token::Many));
        let inner = &tokens[usize::from(before).min(tokens.len())..];
        let inner = &inner[..inner.len() - usize::from(after && !inner.is_empty())];
        let text: Option<String> =
            inner.iter().map(|t| if let Token::Literal(c) = t { Some(*c) } else { None }).collect();
        Ok(match text {
            Some(text) if before || after => Self::Around(before, text, after),
            Some(text) => Self::Equals(text),
            None => Self::Tokens(tokens),
        })
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Equals(wanted) => text == wanted,
            Self::Around(before, wanted, after) if !has_line_terminator(text) => match (before, after) {
                (true, true) => memchr::memmem::find(text.as_bytes(), wanted.as_bytes()).is_some(),
                (true, false) => text.ends_with(wanted.as_str()),
                _ => text.starts_with(wanted.as_str()),
            },
            Self::Around(before, wanted, after) => {
                let open = |open: &bool| open.then_some(Token::Many);
                let tokens: Vec<_> =
                    open(before).into_iter().chain(wanted.chars().map(Token::Literal)).chain(open(after)).collect();
                matches_tokens(&tokens, text)
            }
            Self::Tokens(tokens) => matches_tokens(tokens, text),
        }
    }
}

fn is_line_terminator(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn has_line_terminator(text: &str) -> bool {
    if text.is_ascii() {
        memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_some()
    } else {
        text.contains(is_line_terminator)
    }
}

/// Greedy matching with one point of return, at the last `%`.
fn matches_tokens(tokens: &[Token], text: &str) -> bool {
    let (mut token, mut rest) = (0, text.chars());
    let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        let mut ahead = rest.clone();
        let next = ahead.next();
        match (tokens.get(token), next) {
            (None, None) => return true,
            (Some(Token::Many), _) => {
                token += 1;
                retry = Some((token, rest.clone()));
                continue;
            }
            (Some(Token::One), Some(c)) if !is_line_terminator(c) => {
                token += 1;
                rest = ahead;
                continue;
            }
            (Some(Token::Literal(wanted)), Some(c)) if *wanted == c => {
                token += 1;
                rest = ahead;
                continue;
            }
            _ => {}
        }
        // no match here: let the last `%` take one more character
        let Some((after, mut from)) = retry.take() else { return false };
        match from.next() {
            Some(c) if !is_line_terminator(c) => {
                (token, rest) = (after, from.clone());
                retry = Some((after, from));
            }
            _ => return false,
        }
    }
}
