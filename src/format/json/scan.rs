//! Finds where JSON values end, strictly: what it steps over is valid JSON (but for UTF-8, which the caller has checked).
//!
//! Builds nothing. The subtle thing: `bytes` is the buffer of the whole batch and `end` the end of the record, so every
//! position taken from a [`Block`] is compared with `end` before it is believed.

use super::block::{BLOCK_LEN, Block};

/// Deepest nesting of arrays and objects that is accepted.
pub(super) const MAX_DEPTH: usize = 1000;

/// Why a text is no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// byte in the buffer
    pub(super) at: usize,
    /// what was expected or wrong there
    pub(super) what: &'static str,
}

/// Where a value stands in the buffer, quotes and brackets included; or no value, or the literal `null`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    /// top bit: the value is a string with escapes
    end: u32,
}

const ESCAPED: u32 = 1 << 31;

impl Span {
    /// No value.
    pub(super) const NULL: Self = Self { start: u32::MAX, end: 0 };

    /// Positions fit 31 bits because a binary array's offsets do.
    #[inline(always)]
    pub(super) fn new(start: usize, end: usize, escaped: bool) -> Self {
        Self { start: start as u32, end: end as u32 | if escaped { ESCAPED } else { 0 } }
    }

    #[inline(always)]
    pub(super) fn is_null(self) -> bool {
        self.start == u32::MAX
    }

    /// The text of the value.
    #[inline(always)]
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..(self.end & !ESCAPED) as usize]
    }

    #[inline(always)]
    pub(super) fn start(self) -> usize {
        self.start as usize
    }

    #[inline(always)]
    pub(super) fn end(self) -> usize {
        (self.end & !ESCAPED) as usize
    }

    /// True for a string that holds escapes.
    #[inline(always)]
    pub(super) fn is_escaped(self) -> bool {
        self.end & ESCAPED != 0
    }
}

/// The byte at `at`, zero at the record's end: no JSON token holds a zero.
#[inline(always)]
pub(super) fn byte_at(bytes: &[u8], at: usize, end: usize) -> u8 {
    if at < end { bytes[at] } else { 0 }
}

/// The first position from `at` on that is no white space.
#[inline(always)]
pub(super) fn skip_space(bytes: &[u8], mut at: usize, end: usize) -> usize {
    while matches!(byte_at(bytes, at, end), b' ' | b'\n' | b'\r' | b'\t') {
        at += 1;
    }
    at
}

/// Steps over the value that starts at `at`; gives the position after it and its span.
#[inline(always)]
pub(super) fn skip_value(bytes: &[u8], at: usize, end: usize) -> Result<(usize, Span), Malformed> {
    match byte_at(bytes, at, end) {
        b'"' => {
            let (quote, escaped) = skip_string(bytes, at + 1, end)?;
            Ok((quote + 1, Span::new(at, quote + 1, escaped)))
        }
        b'-' | b'0'..=b'9' => {
            let after = skip_number(bytes, at, end)?;
            Ok((after, Span::new(at, after, false)))
        }
        b'{' | b'[' => {
            let after = skip_container(bytes, at, end)?;
            Ok((after, Span::new(at, after, false)))
        }
        _ => skip_literal(bytes, at, end),
    }
}

fn skip_literal(bytes: &[u8], at: usize, end: usize) -> Result<(usize, Span), Malformed> {
    let rest = &bytes[at.min(end)..end];
    if rest.starts_with(b"null") {
        Ok((at + 4, Span::NULL))
    } else if rest.starts_with(b"true") {
        Ok((at + 4, Span::new(at, at + 4, false)))
    } else if rest.starts_with(b"false") {
        Ok((at + 5, Span::new(at, at + 5, false)))
    } else if rest.is_empty() {
        Err(Malformed { at, what: "the text ends where a value should be" })
    } else {
        Err(Malformed { at, what: "expected a value" })
    }
}

/// Finds the closing quote of a string whose text starts at `at`; gives its position and whether there are escapes.
#[inline(always)]
pub(super) fn skip_string(bytes: &[u8], mut at: usize, end: usize) -> Result<(usize, bool), Malformed> {
    loop {
        let stops = Block::load(bytes, at).string_stops();
        if stops != 0 {
            let stop = at + stops.trailing_zeros() as usize;
            return if byte_at(bytes, stop, end) == b'"' { Ok((stop, false)) } else { skip_escaped(bytes, stop, end) };
        }
        at += BLOCK_LEN;
    }
}

#[cold]
fn skip_escaped(bytes: &[u8], mut at: usize, end: usize) -> Result<(usize, bool), Malformed> {
    while at < end {
        match bytes[at] {
            b'"' => return Ok((at, true)),
            b'\\' => at = skip_escape(bytes, at, end)?,
            0..0x20 => return Err(Malformed { at, what: "control character in a string" }),
            _ => {
                let stops = Block::load(bytes, at).string_stops();
                at += if stops == 0 { BLOCK_LEN } else { stops.trailing_zeros() as usize };
            }
        }
    }
    Err(Malformed { at: end, what: "unterminated string" })
}

fn skip_escape(bytes: &[u8], at: usize, end: usize) -> Result<usize, Malformed> {
    match byte_at(bytes, at + 1, end) {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
        b'u' if (2..6).all(|i| byte_at(bytes, at + i, end).is_ascii_hexdigit()) => Ok(at + 6),
        _ => Err(Malformed { at, what: "invalid escape in a string" }),
    }
}

/// Steps over a number that starts at `at` with a digit or `-`.
#[inline(always)]
pub(super) fn skip_number(bytes: &[u8], at: usize, end: usize) -> Result<usize, Malformed> {
    let digits = at + usize::from(bytes[at] == b'-');
    let stops = Block::load(bytes, digits).non_digits();
    let whole = stops.trailing_zeros() as usize;
    let leading_zero = whole > 1 && bytes[digits] == b'0';
    if whole == 0 || whole >= BLOCK_LEN || leading_zero || digits + whole >= end {
        return skip_number_slowly(bytes, at, end);
    }
    let after = match bytes[digits + whole] {
        b'.' => {
            let fraction_end = (stops & (stops - 1)).trailing_zeros() as usize;
            if fraction_end >= BLOCK_LEN || fraction_end == whole + 1 {
                return skip_number_slowly(bytes, at, end);
            }
            digits + fraction_end
        }
        _ => digits + whole,
    };
    if matches!(byte_at(bytes, after, end), b'e' | b'E' | 0) { skip_number_slowly(bytes, at, end) } else { Ok(after) }
}

#[cold]
fn skip_number_slowly(bytes: &[u8], at: usize, end: usize) -> Result<usize, Malformed> {
    let digits_from = |from: usize| {
        let mut at = from;
        while byte_at(bytes, at, end).is_ascii_digit() {
            at += 1;
        }
        if at == from { Err(Malformed { at, what: "expected a digit" }) } else { Ok(at) }
    };
    let first = at + usize::from(bytes[at] == b'-');
    let mut after = digits_from(first)?;
    if bytes[first] == b'0' && after > first + 1 {
        return Err(Malformed { at: first, what: "number with a leading zero" });
    }
    if byte_at(bytes, after, end) == b'.' {
        after = digits_from(after + 1)?;
    }
    if matches!(byte_at(bytes, after, end), b'e' | b'E') {
        let sign = matches!(byte_at(bytes, after + 1, end), b'+' | b'-');
        after = digits_from(after + 1 + usize::from(sign))?;
    }
    Ok(after)
}

/// The brackets that are open, one bit each: set for an object.
struct Open {
    objects: [u64; MAX_DEPTH.div_ceil(64)],
    depth: usize,
}

impl Open {
    fn push(&mut self, bracket: u8, at: usize) -> Result<(), Malformed> {
        if self.depth == MAX_DEPTH {
            return Err(Malformed { at, what: "nested deeper than 1000 levels" });
        }
        let (word, bit) = (self.depth / 64, 1 << (self.depth % 64));
        if bracket == b'{' {
            self.objects[word] |= bit
        } else {
            self.objects[word] &= !bit
        }
        self.depth += 1;
        Ok(())
    }

    fn in_object(&self) -> bool {
        self.objects[(self.depth - 1) / 64] >> ((self.depth - 1) % 64) & 1 == 1
    }

    /// The bracket that closes the innermost.
    fn closing(&self) -> u8 {
        if self.in_object() { b'}' } else { b']' }
    }
}

/// Steps over the array or object that starts at `at`.
fn skip_container(bytes: &[u8], mut at: usize, end: usize) -> Result<usize, Malformed> {
    let mut open = Open { objects: [0; MAX_DEPTH.div_ceil(64)], depth: 0 };
    'value: loop {
        match byte_at(bytes, at, end) {
            bracket @ (b'{' | b'[') => {
                open.push(bracket, at)?;
                at = skip_space(bytes, at + 1, end);
                if byte_at(bytes, at, end) != open.closing() {
                    at = if open.in_object() { skip_key(bytes, at, end)?.1 } else { at };
                    continue 'value;
                }
            }
            b'"' => at = skip_string(bytes, at + 1, end)?.0 + 1,
            b'-' | b'0'..=b'9' => at = skip_number(bytes, at, end)?,
            _ => at = skip_literal(bytes, at, end)?.0,
        }
        loop {
            at = skip_space(bytes, at, end);
            match byte_at(bytes, at, end) {
                b',' => {
                    at = skip_space(bytes, at + 1, end);
                    at = if open.in_object() { skip_key(bytes, at, end)?.1 } else { at };
                    continue 'value;
                }
                byte if byte == open.closing() => {
                    open.depth -= 1;
                    at += 1;
                    if open.depth == 0 {
                        return Ok(at);
                    }
                }
                _ => return Err(expected_next(open.in_object(), at, end)),
            }
        }
    }
}

/// The error where a comma or a closing bracket should be.
#[cold]
pub(super) fn expected_next(in_object: bool, at: usize, end: usize) -> Malformed {
    let what = match (at >= end, in_object) {
        (true, true) => "unterminated object",
        (true, false) => "unterminated array",
        (false, true) => "expected ',' or '}'",
        (false, false) => "expected ',' or ']'",
    };
    Malformed { at, what }
}

/// Steps over `"key" :` at `at`; gives the span of the key and where its value starts.
pub(super) fn skip_key(bytes: &[u8], at: usize, end: usize) -> Result<(Span, usize), Malformed> {
    if byte_at(bytes, at, end) != b'"' {
        let what = if at >= end { "unterminated object" } else { "expected a field name in quotes" };
        return Err(Malformed { at, what });
    }
    let (quote, escaped) = skip_string(bytes, at + 1, end)?;
    let colon = skip_space(bytes, quote + 1, end);
    if byte_at(bytes, colon, end) != b':' {
        return Err(Malformed { at: colon, what: "expected ':' after a field name" });
    }
    Ok((Span::new(at, quote + 1, escaped), skip_space(bytes, colon + 1, end)))
}

/// Calls `each` with the span of every element of the array at `span`.
pub(super) fn elements(bytes: &[u8], span: Span, mut each: impl FnMut(Span)) -> Result<(), Malformed> {
    let end = span.end();
    let mut at = skip_space(bytes, span.start() + 1, end);
    if byte_at(bytes, at, end) == b']' {
        return Ok(());
    }
    loop {
        let (after, element) = skip_value(bytes, at, end)?;
        each(element);
        at = skip_space(bytes, after, end);
        match byte_at(bytes, at, end) {
            b',' => at = skip_space(bytes, at + 1, end),
            b']' => return Ok(()),
            _ => return Err(expected_next(false, at, end)),
        }
    }
}

/// Calls `each` with the spans of every key and value of the object at `span`.
pub(super) fn entries(bytes: &[u8], span: Span, mut each: impl FnMut(Span, Span)) -> Result<(), Malformed> {
    let end = span.end();
    let mut at = skip_space(bytes, span.start() + 1, end);
    if byte_at(bytes, at, end) == b'}' {
        return Ok(());
    }
    loop {
        let (key, value_at) = skip_key(bytes, at, end)?;
        let (after, value) = skip_value(bytes, value_at, end)?;
        each(key, value);
        at = skip_space(bytes, after, end);
        match byte_at(bytes, at, end) {
            b',' => at = skip_space(bytes, at + 1, end),
            b'}' => return Ok(()),
            _ => return Err(expected_next(true, at, end)),
        }
    }
}

/// Reads a whole text as one value, white space around it allowed.
pub(super) fn document(bytes: &[u8], start: usize, end: usize) -> Result<Span, Malformed> {
    let (after, span) = skip_value(bytes, skip_space(bytes, start, end), end)?;
    expect_end(bytes, after, end)?;
    Ok(span)
}

/// Nothing but white space may follow.
#[inline(always)]
pub(super) fn expect_end(bytes: &[u8], at: usize, end: usize) -> Result<(), Malformed> {
    if at == end {
        return Ok(());
    }
    match skip_space(bytes, at, end) {
        at if at == end => Ok(()),
        at => Err(Malformed { at, what: "text after the end of the value" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(text: &str) -> bool {
        // Bytes of a next record follow, as they do in a batch.
        for next in ["", "\"", "1", "}", "]", "0123456789\"}"] {
            let bytes = [text.as_bytes(), next.as_bytes()].concat();
            let accepted = document(&bytes, 0, text.len()).is_ok();
            assert_eq!(accepted, document(text.as_bytes(), 0, text.len()).is_ok(), "{text} before {next}");
        }
        document(text.as_bytes(), 0, text.len()).is_ok()
    }

    #[test]
    fn valid_texts_pass() {
        for text in [
            "1",
            "-0",
            "0.5",
            "1e3",
            "-1.25E-7",
            "12345678901234567890",
            "0.12345678901234567890123",
            "true",
            " null ",
            "\"\"",
            "\"a\"",
            r#""\"\\\/\b\f\n\r\t\u00e9""#,
            "\"exactly sixteen.\"",
            "\"fifteen bytes..\"",
            "{}",
            "[]",
            "[ ]",
            "{ }",
            r#"{"a":1}"#,
            r#"{"a":[1,{"b":null}],"c":""}"#,
            "[[[]],[{}]]",
            "[1 , 2]",
            "\n{ \"a\" : 1 }\t",
        ] {
            assert!(accepts(text), "{text}");
        }
    }

    #[test]
    fn malformed_texts_fail() {
        for text in [
            "",
            " ",
            "-",
            "01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "+1",
            "1x",
            "tru",
            "nul",
            "truefalse",
            "\"",
            "\"a",
            "\"\\",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u12\"",
            "\"\n\"",
            "\"fifteen bytes..",
            "\"exactly sixteen.",
            "{",
            "[",
            "{]",
            "[}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1,}",
            "[1,]",
            "[,1]",
            "{,}",
            "{a:1}",
            "{'a':1}",
            "[1 2]",
            "[1]]",
            "{}}",
            "1 2",
            "NaN",
        ] {
            assert!(!accepts(text), "{text}");
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(accepts(&nested(MAX_DEPTH)));
        assert!(!accepts(&nested(MAX_DEPTH + 1)));
    }

    #[test]
    fn agrees_with_another_parser_on_mutations() {
        let valid =
            br#"{"a":[1,-2.5e3,"x\n\u00e9\\"],"b":{"c":null,"d":true},"e":"plain text of some length","f":0.25}"#;
        let mut seed = 1_u32;
        for _ in 0..200_000 {
            let mut bytes = valid.to_vec();
            for _ in 0..2 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (seed >> 8) as usize % bytes.len();
                bytes[at] = b"{}[],:\"\\0123e.-+tfn \x01u"[(seed >> 4) as usize % 22];
            }
            bytes.truncate(bytes.len() - (seed >> 16) as usize % 3);
            let other = serde_json::from_slice::<serde_json::Value>(&bytes).is_ok();
            let ours = document(&bytes, 0, bytes.len()).is_ok();
            assert_eq!(ours, other, "{}", String::from_utf8_lossy(&bytes));
        }
    }
}
