//! JSON string text: escapes undone when reading, put in when writing.
//!
//! Reads only what the scanner has stepped over, so escapes are well formed. The subtle thing is the surrogate: a pair of
//! `\u` escapes is one character, and half a pair is none, so a text with half a pair is refused.

use super::block::{BLOCK_LEN, Block};

/// What a string with half of a surrogate pair is refused with.
pub(super) const LONE_SURROGATE: &str = "\\u escape of half a surrogate pair";

/// Appends the text between the quotes `inner` with its escapes undone.
///
/// # Errors
/// At half a surrogate pair; `out` then holds the text before it.
pub(super) fn unescape(inner: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut rest = inner;
    while let Some(backslash) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..backslash]);
        let escape = rest.get(backslash + 1).copied().unwrap_or_default();
        rest = rest.get(backslash + 2..).unwrap_or_default();
        match escape {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => rest = unescape_unicode(rest, out)?,
            other => out.push(other),
        }
    }
    out.extend_from_slice(rest);
    Ok(())
}

fn unescape_unicode<'a>(rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], &'static str> {
    let (unit, rest) = hex_unit(rest).ok_or(LONE_SURROGATE)?;
    let (code, rest) = match unit {
        0xd800..0xdc00 => {
            let (low, rest) = rest.strip_prefix(b"\\u").and_then(hex_unit).ok_or(LONE_SURROGATE)?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(LONE_SURROGATE);
            }
            (0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00), rest)
        }
        _ => (unit, rest),
    };
    let character = char::from_u32(code).ok_or(LONE_SURROGATE)?;
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(rest)
}

fn hex_unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let unit = digits.iter().try_fold(0, |unit, &b| Some(unit * 16 + char::from(b).to_digit(16)?))?;
    Some((unit, rest))
}

/// Appends `text` in quotes, with the escapes that Jackson writes: quote, backslash and control characters.
pub(super) fn push_quoted(text: &[u8], out: &mut Vec<u8>) {
    push_quoted_at(text, 0, text.len(), out);
}

/// As [`push_quoted`], the bytes `from..to` of `all`: what stands behind them is looked at too, and so nothing is copied to be looked at.
#[inline]
pub(super) fn push_quoted_at(all: &[u8], from: usize, to: usize, out: &mut Vec<u8>) {
    let short = all.get(from..).and_then(|rest| rest.first_chunk::<BLOCK_LEN>()).filter(|_| to - from <= BLOCK_LEN);
    let Some(chunk) = short else { return push_long(all, from, to, out) };
    if Block::of(chunk).string_stops() & ((1 << (to - from)) - 1) != 0 {
        return push_long(all, from, to, out);
    }
    // A whole block is copied, which is one store, and what was too much is cut off.
    out.push(b'"');
    let end = out.len() + (to - from);
    out.extend_from_slice(chunk);
    out.truncate(end);
    out.push(b'"');
}

fn push_long(all: &[u8], from: usize, to: usize, out: &mut Vec<u8>) {
    out.push(b'"');
    let (mut written, mut at) = (from, from);
    while at < to {
        let stops = Block::load(all, at).string_stops();
        let stop = at + stops.trailing_zeros() as usize;
        if stops == 0 {
            at += BLOCK_LEN;
        } else if stop < to {
            out.extend_from_slice(&all[written..stop]);
            push_escape(all[stop], out);
            at = stop + 1;
            written = at;
        } else {
            break;
        }
    }
    out.extend_from_slice(&all[written..to]);
    out.push(b'"');
}

#[cold]
fn push_escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        8 => b'b',
        12 => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.extend_from_slice(b"\\u00");
            return out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(inner: &str) -> Result<String, &'static str> {
        let mut out = Vec::new();
        unescape(inner.as_bytes(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(read(r#"a\"\\\/\b\f\n\r\tz"#).unwrap(), "a\"\\/\u{8}\u{c}\n\r\tz");
        assert_eq!(read(r"\u00e9\u20AC\uD83D\uDE00!").unwrap(), "é€😀!");
        for lone in [r"\ud83d", r"\ud83dx", r"\ud83d\n", r"\ud83d\u0041", r"\ude00"] {
            assert_eq!(read(lone), Err(LONE_SURROGATE), "{lone}");
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut out = Vec::new();
        push_quoted("\u{1}\u{1f}\u{7f}\"é\n0123456789abcdef\\".as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "\"\\u0001\\u001F\u{7f}\\\"é\\n0123456789abcdef\\\\\"");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in any::<String>()) {
            let mut out = Vec::new();
            push_quoted(text.as_bytes(), &mut out);
            let other: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(&other, &text);
            prop_assert_eq!(read(std::str::from_utf8(&out[1..out.len() - 1]).unwrap()).unwrap(), text);
        }

        #[test]
        fn what_stands_around_a_text_does_not_matter(before in any::<String>(), text in any::<String>(), after in any::<String>()) {
            let all = [before.as_bytes(), text.as_bytes(), after.as_bytes()].concat();
            let (mut alone, mut within) = (Vec::new(), Vec::new());
            push_quoted(text.as_bytes(), &mut alone);
            push_quoted_at(&all, before.len(), before.len() + text.len(), &mut within);
            prop_assert_eq!(alone, within);
        }
    }
}
