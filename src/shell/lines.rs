//! Lines of files that may be anything: read one by one, never more of one than a row or record can be.
//!
//! Knows no format. The subtle thing: a binary file may be one line of gigabytes; it is refused after [`MAX_LINE_BYTES`], not read.

use std::io::{BufRead, Read};

use crate::config;
use crate::diagnostic::Diagnostic;

/// Longest line; a record (property `record.max.bytes`) written as text is shorter.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// The next line with its end, as bytes; empty at the end of the input.
///
/// # Errors
/// What cannot be read; a line that is too long.
pub fn read_line(input: &mut dyn BufRead, limit: usize) -> Result<Vec<u8>, Diagnostic> {
    let mut line = Vec::new();
    let read = input.take(limit as u64 + 1).read_until(b'\n', &mut line);
    read.map_err(|error| Diagnostic::user(format!("cannot be read: {error}")))?;
    if line.len() <= limit {
        return Ok(line);
    }
    Err(Diagnostic::user(format!(
        "it is longer than {} MiB, and no record may be: {} is 16 MiB unless it was raised",
        limit >> 20,
        config::RECORD_BYTES
    ))
    .help("give a file of text with a row or a record a line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_up_to_the_limit() {
        let mut input = &b"abc\n\n0123456789\n01234567890\nx"[..];
        let mut next = || read_line(&mut input, 11);
        assert_eq!(next().unwrap(), b"abc\n");
        assert_eq!(next().unwrap(), b"\n");
        assert_eq!(next().unwrap(), b"0123456789\n");
        assert!(next().unwrap_err().message.contains("record.max.bytes"));
        let mut short = &b"x"[..];
        assert_eq!(read_line(&mut short, 11).unwrap(), b"x");
        assert_eq!(read_line(&mut short, 11).unwrap(), b"");
    }
}
