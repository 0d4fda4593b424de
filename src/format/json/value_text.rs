//! Any JSON value as text: what a STRING column takes from numbers, objects and arrays, and what PRINT shows.
//!
//! Not the encoder of columns. The subtle thing: the two kinds of container differ as they do in the reference. An object becomes
//! compact JSON, an array `[a, b]` of the texts of its elements.

use super::scan::{Malformed, Span, elements, entries};
use super::string::{push_quoted, unescape};
use crate::format::number::big_decimal_text;

/// Appends the text of the value at `span`.
///
/// # Errors
/// At half a surrogate pair.
pub(super) fn push_value_text(bytes: &[u8], span: Span, out: &mut Vec<u8>) -> Result<(), &'static str> {
    if span.is_null() {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    let text = span.of(bytes);
    match text[0] {
        b'"' => unescape(&text[1..text.len() - 1], out),
        b'{' => push_compact(bytes, span, out),
        b'[' => {
            let separator = b", ";
            push_elements(bytes, span, separator, out, &mut |element, out| push_value_text(bytes, element, out))
        }
        _ => {
            push_scalar(text, out);
            Ok(())
        }
    }
}

/// Appends the value at `span` as JSON without white space, strings and numbers in the writer's own spelling.
///
/// # Errors
/// At half a surrogate pair.
pub(super) fn push_compact(bytes: &[u8], span: Span, out: &mut Vec<u8>) -> Result<(), &'static str> {
    if span.is_null() {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    let text = span.of(bytes);
    match text[0] {
        b'"' => push_string(text, out),
        b'[' => push_elements(bytes, span, b",", out, &mut |element, out| push_compact(bytes, element, out)),
        b'{' => {
            out.push(b'{');
            let from = out.len();
            let mut result = Ok(());
            let walked = entries(bytes, span, |key, value| {
                if result.is_ok() {
                    if out.len() > from {
                        out.push(b',');
                    }
                    result = push_string(key.of(bytes), out);
                    out.push(b':');
                    result = result.and_then(|()| push_compact(bytes, value, out));
                }
            });
            out.push(b'}');
            result.and(what(walked))
        }
        _ => {
            push_scalar(text, out);
            Ok(())
        }
    }
}

fn push_elements(
    bytes: &[u8],
    span: Span,
    separator: &[u8],
    out: &mut Vec<u8>,
    push: &mut dyn FnMut(Span, &mut Vec<u8>) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    out.push(b'[');
    let mut result = Ok(());
    let mut first = true;
    let walked = elements(bytes, span, |element| {
        if result.is_ok() {
            if !first {
                out.extend_from_slice(separator);
            }
            first = false;
            result = push(element, out);
        }
    });
    out.push(b']');
    result.and(what(walked))
}

fn what(walked: Result<(), Malformed>) -> Result<(), &'static str> {
    walked.map_err(|malformed| malformed.what)
}

fn push_string(text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    if !text.contains(&b'\\') {
        out.extend_from_slice(text);
        return Ok(());
    }
    let mut unescaped = Vec::with_capacity(text.len());
    unescape(&text[1..text.len() - 1], &mut unescaped)?;
    push_quoted(&unescaped, out);
    Ok(())
}

/// `true`, `false`, or a number: whole ones without the sign of zero, others as big decimals print.
fn push_scalar(text: &[u8], out: &mut Vec<u8>) {
    let plain = text.iter().all(|b| b.is_ascii_digit()) || text[0] == b't' || text[0] == b'f';
    match if plain { None } else { big_decimal_text(text) } {
        Some(number) => out.extend_from_slice(number.as_bytes()),
        None => out.extend_from_slice(text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::document;
    use super::*;

    fn text(json: &str) -> Result<String, &'static str> {
        let mut out = Vec::new();
        push_value_text(json.as_bytes(), document(json.as_bytes(), 0, json.len()).unwrap(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn texts_of_values() {
        for (json, want) in [
            ("12", "12"),
            ("-0", "0"),
            ("1e3", "1E+3"),
            ("12.50", "12.50"),
            ("true", "true"),
            (r#""a\n""#, "a\n"),
            (r#"[1, "a", null, [2,3], {"b": 4}]"#, r#"[1, a, null, [2, 3], {"b":4}]"#),
            ("[]", "[]"),
            ("[[],[]]", "[[], []]"),
            (r#"{ "b" : [1 , 2.0], "a":"x\/\u0041\u0001", "c":{} }"#, r#"{"b":[1,2.0],"a":"x/A\u0001","c":{}}"#),
        ] {
            assert_eq!(text(json).unwrap(), want, "{json}");
        }
        assert!(text(r#"{"a":"\ud800"}"#).is_err());
    }
}
