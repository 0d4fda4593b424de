//! Whole texts: cut into statements by tokens, directives of test scripts, `${variables}`.
//!
//! Knows no grammar but `;`. The subtle thing: variables are put in per statement, before it is parsed and after the
//! ones before it have run (a DEFINE may be among them), so spans count in the text that is parsed.

use super::lexer::{Lexed, RawDirective, Token, TokenKind, is_identifier, lex};
use crate::diagnostic::{Diagnostic, Span};

/// A statement that is cut out but not parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawStatement<'t> {
    /// from its first token to its `;`
    pub text: &'t str,
    /// where that stands in the whole text
    pub span: Span,
    /// it ends with `;`; only the last one may not
    pub terminated: bool,
}

/// A comment `--@name: text` of a test script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// lower case
    pub name: String,
    /// trimmed
    pub text: String,
    /// the comment
    pub span: Span,
}

/// Cuts a text into its statements. Comments between them belong to none.
///
/// # Errors
/// A string, quoted name or comment that is not closed.
pub fn split(text: &str) -> Result<Vec<RawStatement<'_>>, Diagnostic> {
    let lexed = lex(text).map_err(|error| error.with_text(text))?;
    Ok(raw_statements(text, &lexed.tokens))
}

fn raw_statements<'t>(text: &'t str, tokens: &[Token<'_>]) -> Vec<RawStatement<'t>> {
    let mut statements = Vec::new();
    let mut start = None;
    let mut end = 0;
    for token in tokens {
        let terminated = token.is_symbol(";");
        let finished = terminated || token.kind == TokenKind::End;
        if terminated {
            end = token.span.end;
        }
        match start {
            Some(begin) if finished => {
                statements.push(RawStatement { text: &text[begin..end], span: Span::new(begin..end), terminated });
                start = None;
            }
            None if !finished => start = Some(token.span.start),
            _ => {}
        }
        end = token.span.end;
    }
    statements
}

/// True if a shell may send this text: its last token is a `;`, and nothing is left open.
pub fn is_complete(text: &str) -> bool {
    let Ok(lexed) = lex(text) else { return false };
    matches!(lexed.tokens.as_slice(), [.., last, _end] if last.is_symbol(";"))
}

/// The directives of a test script, in order.
///
/// # Errors
/// A comment that begins with `--@` but has no name and colon.
pub(super) fn directives(lexed: &Lexed<'_>) -> Result<Vec<Directive>, Diagnostic> {
    lexed.directives.iter().map(directive).collect()
}

fn directive(raw: &RawDirective<'_>) -> Result<Directive, Diagnostic> {
    let parts = raw.text.split_once(':');
    match parts.map(|(name, text)| (name.trim(), text.trim())) {
        Some((name, text)) if !name.is_empty() => {
            Ok(Directive { name: name.to_lowercase(), text: text.to_owned(), span: raw.span })
        }
        _ => Err(Diagnostic::user("A directive needs a name and a colon").at(raw.span).help("write --@name: text")),
    }
}

/// Puts variables into a text. A `${name}` that stands alone becomes the value of the variable as it is; inside a
/// string its single quotes are doubled. One that `lookup` does not know stays. Names are given to `lookup` as written; they
/// are meant without regard to case.
///
/// # Errors
/// A value that stands alone and is no identifier, string, number or boolean; a string, quoted name or comment that is not closed.
pub fn substitute(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, Diagnostic> {
    let lexed = lex(text).map_err(|error| error.with_text(text))?;
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    let tokens = &lexed.tokens;
    for (i, token) in tokens.iter().enumerate() {
        let (span, value) = if let TokenKind::String(_) = token.kind {
            (token.span, substitute_in_string(token.text, lookup))
        } else if let Some((name, span)) = reference(&tokens[i..]) {
            let Some(value) = lookup(name) else { continue };
            check_value(name, &value).map_err(|error| error.at(span).with_text(text))?;
            (span, value)
        } else {
            continue;
        };
        out.push_str(&text[copied..span.start]);
        out.push_str(&value);
        copied = span.end;
    }
    out.push_str(&text[copied..]);
    Ok(out)
}

/// The variable that these tokens begin with, and where it stands.
fn reference<'t>(tokens: &[Token<'t>]) -> Option<(&'t str, Span)> {
    let [dollar, open, name, close, ..] = tokens else { return None };
    let adjacent =
        dollar.span.end == open.span.start && open.span.end == name.span.start && name.span.end == close.span.start;
    let shaped = dollar.text == "$" && open.is_symbol("{") && name.kind == TokenKind::Word && close.is_symbol("}");
    (adjacent && shaped).then(|| (name.text, Span::new(dollar.span.start..close.span.end)))
}

fn substitute_in_string(literal: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some(at) = rest.find("${") {
        let after = &rest[at + 2..];
        let found =
            after.find('}').map(|end| (&after[..end], &after[end + 1..])).filter(|(name, _)| is_identifier(name));
        match found.and_then(|(name, tail)| Some((lookup(name)?, tail))) {
            Some((value, tail)) => {
                out.push_str(&rest[..at]);
                out.push_str(&value.replace('\'', "''"));
                rest = tail;
            }
            None => {
                out.push_str(&rest[..at + 2]);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// One token, or a number with its sign, and nothing around it: a value can end neither a string nor a statement.
fn check_value(name: &str, value: &str) -> Result<(), Diagnostic> {
    let lexed = lex(value);
    let tokens = lexed.as_ref().map_or(&[][..], |lexed| lexed.tokens.as_slice());
    let (single, last) = match tokens {
        [minus, number, _end] if minus.is_symbol("-") => (number.kind == TokenKind::Number, number),
        [token, _end] => {
            let kinds = matches!(token.kind, TokenKind::Quoted(_) | TokenKind::String(_) | TokenKind::Number);
            (kinds || token.kind == TokenKind::Word, token)
        }
        _ => return Err(bad_value(name, value)),
    };
    let whole = tokens[0].span.start == 0 && last.span.end == value.len();
    if single && whole { Ok(()) } else { Err(bad_value(name, value)) }
}

fn bad_value(name: &str, value: &str) -> Diagnostic {
    let message = format!("Variable '{name}' cannot stand here with its value: {value}");
    Diagnostic::user(message).help(
        "outside a string it must be an identifier (A-Z, a-z, 0-9 and '_', or in quotes), a string in single quotes, \
         a number or a boolean",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_cut_at_semicolons_outside_of_strings_and_comments() {
        let text = " SHOW TOPICS ; -- a;b\n/* ; */ SET 'a;'=';\n'; ;\n`x;`";
        let cut = split(text).expect("closed");
        let texts: Vec<_> = cut.iter().map(|s| (s.text, s.terminated)).collect();
        assert_eq!(texts, [("SHOW TOPICS ;", true), ("SET 'a;'=';\n';", true), ("`x;`", false)]);
        assert!(cut.iter().all(|s| &text[s.span.start..s.span.end] == s.text));
    }

    #[test]
    fn a_text_is_complete_at_its_last_semicolon() {
        for text in ["SHOW TOPICS;", "a; -- b", "';';", "a;b; /* c */ "] {
            assert!(is_complete(text), "{text}");
        }
        for text in ["", "a", "a;b", "';", "/* a;", "`;", "-- a;"] {
            assert!(!is_complete(text), "{text}");
        }
    }

    fn put(text: &str) -> Result<String, Diagnostic> {
        substitute(text, &|name| {
            let value = match name.to_lowercase().as_str() {
                "topic" => "'it''s'",
                "name" => "foo",
                "quoted" => "`a b`",
                "number" => "-5",
                "quote" => "it's",
                "evil" => "a; DROP STREAM b",
                "comment" => "a --",
                _ => return None,
            };
            Some(value.to_owned())
        })
    }

    #[test]
    fn variables_are_put_in() {
        let cases = [
            ("FROM ${NAME} WHERE ${quoted} = ${number};", "FROM foo WHERE `a b` = -5;"),
            ("SET 'a-${name}' = '${quote}${name}';", "SET 'a-foo' = 'it''sfoo';"),
            ("a = ${topic}", "a = 'it''s'"),
            ("${other} '${other}' '${' '${}' $ {name}", "${other} '${other}' '${' '${}' $ {name}"),
            ("-- ${name}\n/* ${name} */", "-- ${name}\n/* ${name} */"),
        ];
        for (text, want) in cases {
            assert_eq!(put(text).as_deref(), Ok(want));
        }
    }

    #[test]
    fn a_value_is_one_token() {
        for text in ["FROM ${evil}", "FROM ${comment}", "FROM ${quote}"] {
            let error = put(text).expect_err(text);
            assert!(error.message.contains("cannot stand here") && error.span == Span::new(5..text.len()), "{error}");
        }
        assert_eq!(put("'${evil}'").as_deref(), Ok("'a; DROP STREAM b'"));
    }
}
