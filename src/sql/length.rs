//! How long statements are, told without making tokens of them: a text of 100 MB must not cost its tokens to be refused.
//!
//! Knows quotes, comments and `;`. The subtle thing: it may be wrong about texts that are wrong (a quote that is not closed), but never
//! takes a statement for shorter than the lexer will.

use crate::diagnostic::Diagnostic;

/// Refuses a text in which one statement is longer than `limit` bytes, the property `name`.
///
/// # Errors
/// Names the limit and its property.
pub fn check_length(text: &str, limit: usize, name: &str) -> Result<(), Diagnostic> {
    match longest_over(text.as_bytes(), limit) {
        None => Ok(()),
        Some(bytes) => {
            let message = format!("A statement of at least {bytes} bytes is longer than {name} = {limit}");
            Err(Diagnostic::user(message).help("split it, load rows with COPY or produce, or raise the limit"))
        }
    }
}

fn longest_over(text: &[u8], limit: usize) -> Option<usize> {
    if text.len() <= limit {
        return None;
    }
    let mut start = None;
    let mut at = 0;
    while at < text.len() {
        let end = match (text[at], text.get(at + 1)) {
            (b'-', Some(b'-')) => after(text, at + 2, b"\n"),
            (b'/', Some(b'*')) => after(text, at + 2, b"*/"),
            (quote @ (b'\'' | b'"' | b'`'), _) => {
                start.get_or_insert(at);
                after(text, at + 1, &[quote])
            }
            (b';', _) => {
                if let Some(bytes) = start.take().map(|start| at + 1 - start).filter(|bytes| *bytes > limit) {
                    return Some(bytes);
                }
                at + 1
            }
            (byte, _) => {
                if !byte.is_ascii_whitespace() {
                    start.get_or_insert(at);
                }
                at + 1
            }
        };
        at = end;
    }
    start.map(|start| text.len() - start).filter(|bytes| *bytes > limit)
}

/// The place behind the next `end`, or the end of the text.
fn after(text: &[u8], from: usize, end: &[u8]) -> usize {
    let from = from.min(text.len());
    memchr::memmem::find(&text[from..], end).map_or(text.len(), |found| from + found + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_statement_that_is_too_long_counts() {
        let over = |text: &str| longest_over(text.as_bytes(), 10);
        assert_eq!(over("SHOW TOPICS;"), Some(12));
        assert_eq!(over("SHOW A; -- a long comment between\n /* and ; another */ SHOW B;"), None);
        assert_eq!(over("A 'x;y;z;w;v';"), Some(14), "a ; in quotes ends nothing");
        assert_eq!(over("A ';'; B \";\"; C `;`; D;"), None);
        assert_eq!(over("A 'it''s';B;C;D;E;F;"), None);
        assert_eq!(over("SHOW TOPICS"), Some(11), "nor needs one to be too long");
        assert_eq!(over("A 'never closed"), Some(15));
        assert_eq!(over("               "), None);
    }

    #[test]
    fn a_hundred_megabytes_are_refused_by_the_name_of_the_limit() {
        let text = format!("SELECT {} FROM s;", "'x', ".repeat(20 << 20));
        assert!(text.len() > 100_000_000);
        let error = check_length(&text, 1 << 20, "statement.max.bytes").unwrap_err();
        assert!(error.message.contains("statement.max.bytes = 1048576"), "{}", error.message);
    }
}
