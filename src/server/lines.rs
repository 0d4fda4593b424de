//! A body as lines: bytes come in as they arrive, whole lines go out, none longer than a limit.

use crate::config::REQUEST_BYTES;
use crate::wire::error::{ErrorBody, TOO_LARGE};

/// Cuts bytes into lines.
pub(super) struct Lines {
    pending: Vec<u8>,
    limit: usize,
}

impl Lines {
    /// Lines of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { pending: Vec::new(), limit }
    }

    /// Takes the next bytes; gives the lines they complete, without blank ones.
    ///
    /// # Errors
    /// A line longer than the limit.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, ErrorBody> {
        let mut lines = Vec::new();
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.extend(&rest[..end])?;
            lines.push(std::mem::take(&mut self.pending));
            rest = &rest[end + 1..];
        }
        self.extend(rest)?;
        lines.retain(|line| !line.trim_ascii().is_empty());
        Ok(lines)
    }

    /// The last line, if it has no newline at its end.
    pub(super) fn finish(&mut self) -> Option<Vec<u8>> {
        Some(std::mem::take(&mut self.pending)).filter(|line| !line.trim_ascii().is_empty())
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), ErrorBody> {
        if self.pending.len() + bytes.len() > self.limit {
            return Err(ErrorBody::new(TOO_LARGE, format!("A line is larger than {REQUEST_BYTES} = {}", self.limit)));
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_the_bytes_are_cut() {
        for size in 1..9 {
            let mut lines = Lines::new(3);
            let mut seen: Vec<_> = b"ab\n\n \ncd\r\ne".chunks(size).flat_map(|c| lines.feed(c).unwrap()).collect();
            seen.extend(lines.finish());
            assert_eq!(seen, [b"ab".to_vec(), b"cd\r".to_vec(), b"e".to_vec()]);
            assert!(lines.finish().is_none());
        }
    }

    #[test]
    fn long_lines_are_refused() {
        let mut lines = Lines::new(3);
        assert!(lines.feed(b"ab").is_ok());
        assert_eq!(lines.feed(b"cd").unwrap_err().code, TOO_LARGE);
    }
}
