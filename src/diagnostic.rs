//! What is told to users when something is wrong: a message, the place in the text, the remedy, the class.
//!
//! Has no error kinds of its own: each layer has its enum and turns into a [`Diagnostic`] here. The subtle thing is
//! [`ErrorClass`]: status codes, retries and stops look at it, nobody looks at the text.

use std::fmt;
use std::ops::Range;

/// What the caller may do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// the user's fault: mend the statement or the input
    User,
    /// the same call may succeed later
    Retry,
    /// this record is bad, the next may be good
    Record,
    /// this query must stop
    Query,
    /// this process must stop
    Fatal,
}

/// A range of bytes in a SQL text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// first byte
    pub start: usize,
    /// one after the last byte
    pub end: usize,
}

impl Span {
    /// The span of `range`.
    pub fn new(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }

    /// The smallest span that holds both; an empty one counts as unknown and does not widen the other.
    pub fn union(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => Self { start: self.start.min(other.start), end: self.end.max(other.end) },
        }
    }

    /// True for the unknown span.
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// The same span, `by` bytes further on.
    pub fn shift(self, by: usize) -> Self {
        if self.is_empty() { self } else { Self { start: self.start + by, end: self.end + by } }
    }
}

/// An error as users meet it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// what the caller may do
    pub class: ErrorClass,
    /// one or more sentences: what is wrong, with the offending name, without a full stop
    pub message: String,
    /// where in [`Self::text`]; empty if unknown
    pub span: Span,
    /// the SQL text, attached at the session
    pub text: Option<String>,
    /// what to do about it
    pub help: Option<String>,
}

impl Diagnostic {
    /// A user error.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::User, message)
    }

    /// An error of that class.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), span: Span::default(), text: None, help: None }
    }

    /// At this place, unless a better one is known already.
    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        if self.span.is_empty() {
            self.span = span;
        }
        self
    }

    /// With the remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With the text that the span counts in, unless one is attached.
    #[must_use]
    pub fn with_text(mut self, text: &str) -> Self {
        if self.text.is_none() {
            self.text = Some(text.to_owned());
        }
        self
    }
}

/// Message, then the line with carets below the place, then the remedy.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(text) = self.text.as_deref().filter(|_| !self.span.is_empty()) {
            write_carets(f, text, self.span)?;
        }
        if let Some(help) = &self.help {
            write!(f, "\nHelp: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// Line and column (both from 1; the column counts characters) of a byte in `text`.
pub fn line_column(text: &str, byte: usize) -> (usize, usize) {
    let byte = (0..=byte.min(text.len())).rev().find(|&b| text.is_char_boundary(b)).unwrap_or(0);
    let before = &text[..byte];
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn write_carets(f: &mut fmt::Formatter<'_>, text: &str, span: Span) -> fmt::Result {
    let (line_number, column) = line_column(text, span.start);
    let Some(line) = text.lines().nth(line_number - 1) else { return Ok(()) };
    let from_start: usize = line.chars().count() + 1 - column.min(line.chars().count() + 1);
    let within = text.get(span.start..span.end.min(text.len())).unwrap_or("");
    let width = within.lines().next().map_or(1, |l| l.chars().count()).clamp(1, from_start.max(1));
    let label = line_number.to_string();
    let gutter = " ".repeat(label.len());
    let indent: String = line.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    write!(f, "\n{gutter} --> line {line_number}, column {column}")?;
    write!(f, "\n{gutter} |\n{label} | {line}\n{gutter} | {indent}{}", "^".repeat(width))
}

/// The candidate nearest to `word` (Levenshtein, ignoring case), if it is near enough to be meant.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let upper = word.to_uppercase();
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&upper, &c.to_uppercase()), c))
        .filter(|(distance, c)| *distance <= 2.max(c.len() / 3) && *distance < upper.chars().count().max(2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_stand_below_the_place() {
        let d = Diagnostic::user("no such column 'B'").at(Span::new(7..8)).with_text("SELECT b FROM s;").help("use A");
        let want = "no such column 'B'\n  --> line 1, column 8\n  |\n1 | SELECT b FROM s;\n  |        ^\nHelp: use A";
        assert_eq!(d.to_string(), want);
    }

    #[test]
    fn suggestions_are_near_or_absent() {
        assert_eq!(suggest("SELCT", ["SELECT", "SHOW"]), Some("SELECT"));
        assert_eq!(suggest("FROBNICATE", ["SELECT", "SHOW"]), None);
    }
}
