//! How wide things are: cells of result rows, their wrapping, and colours.
//!
//! Pure text; measures characters by the columns they take on a terminal. The subtle thing: where nobody looks (a pipe, a file)
//! nothing is wrapped or clipped, so that values stay whole.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::diagnostic::Diagnostic;

/// Least width of a cell.
const MIN_CELL: usize = 5;
/// Width of a terminal that does not say.
const DEFAULT_WIDTH: usize = 80;

/// What becomes of a value that is wider than its cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// goes on in further lines of the row
    Wrap,
    /// ends with `...`
    Clip,
    /// stays whole; the cell is wider
    Spill,
}

/// The layout of result rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// columns of the terminal
    pub width: usize,
    /// of each cell; `None`: by the terminal's width
    pub column_width: Option<usize>,
    /// of values that are too wide
    pub overflow: Overflow,
}

impl Layout {
    /// Of standard output as it is now.
    pub fn of_terminal() -> Self {
        match terminal_width() {
            Some(width) => Self { width, column_width: None, overflow: Overflow::Wrap },
            None => Self { width: DEFAULT_WIDTH, column_width: None, overflow: Overflow::Spill },
        }
    }

    /// The same settings on the terminal as it is now.
    #[must_use]
    pub fn resized(&self) -> Self {
        Self { width: terminal_width().unwrap_or(self.width), ..self.clone() }
    }

    /// Width of a cell where a row has so many.
    pub fn cell(&self, columns: usize) -> usize {
        self.column_width.unwrap_or_else(|| (self.width / columns.max(1)).saturating_sub(2).max(MIN_CELL))
    }
}

fn terminal_width() -> Option<usize> {
    comfy_table::Table::new().width().map(usize::from).filter(|width| *width > 0)
}

/// `+-----+-----+`.
pub fn rule(columns: usize, cell: usize) -> String {
    format!("+{}", format!("{}+", "-".repeat(cell)).repeat(columns))
}

/// The lines of one row: `|a    |b    |`.
pub fn row_lines(values: &[String], cell: usize, overflow: Overflow) -> Vec<String> {
    let cells: Vec<Vec<String>> = values.iter().map(|value| cell_lines(value, cell, overflow)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(1).max(1);
    let line = |i: usize| {
        let mut line = String::from("|");
        for lines in &cells {
            line.push_str(&pad(lines.get(i).map_or("", String::as_str), cell));
            line.push('|');
        }
        line
    };
    (0..height).map(line).collect()
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

fn cell_lines(value: &str, cell: usize, overflow: Overflow) -> Vec<String> {
    match overflow {
        Overflow::Spill => vec![value.replace(['\n', '\r'], " ")],
        Overflow::Clip => vec![clip(&value.replace(['\n', '\r'], " "), cell)],
        Overflow::Wrap => value.lines().flat_map(|line| wrap(line, cell)).collect(),
    }
}

fn clip(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let kept = prefix(text, width.saturating_sub(3));
    format!("{kept}...")
}

/// The longest beginning that is at most so wide; at least one character.
fn prefix(text: &str, width: usize) -> &str {
    let mut used = 0;
    for (i, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > width && i > 0 {
            return &text[..i];
        }
    }
    text
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text;
    while rest.width() > width {
        let line = prefix(rest, width);
        lines.push(line.to_owned());
        rest = &rest[line.len()..];
    }
    if !rest.is_empty() || lines.is_empty() {
        lines.push(rest.to_owned());
    }
    lines
}

/// An error as the terminal shows it: its message red.
pub fn error_text(error: &Diagnostic, colour: bool) -> String {
    let text = error.to_string();
    if !colour {
        return text;
    }
    let (first, rest) = text.split_at(text.find('\n').unwrap_or(text.len()));
    format!("\x1b[31m{first}\x1b[0m{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str], overflow: Overflow) -> Vec<String> {
        row_lines(&values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>(), 5, overflow)
    }

    #[test]
    fn long_values_wrap_clip_or_spill() {
        assert_eq!(row(&["abcdefg", "x"], Overflow::Wrap), ["|abcde|x    |", "|fg   |     |"]);
        assert_eq!(row(&["abcdefg", "x"], Overflow::Clip), ["|ab...|x    |"]);
        assert_eq!(row(&["abcdefg", "x"], Overflow::Spill), ["|abcdefg|x    |"]);
        assert_eq!(row(&["", "a\nb"], Overflow::Wrap), ["|     |a    |", "|     |b    |"]);
    }

    #[test]
    fn wide_characters_count_for_two() {
        assert_eq!(row(&["日本語"], Overflow::Wrap), ["|日本 |", "|語   |"]);
        assert_eq!(row(&["日本語"], Overflow::Clip), ["|日...|"]);
    }

    #[test]
    fn cells_share_the_terminal() {
        let layout = Layout { width: 80, column_width: None, overflow: Overflow::Wrap };
        assert_eq!((layout.cell(2), layout.cell(40)), (38, 5));
        assert_eq!(Layout { column_width: Some(9), ..layout }.cell(2), 9);
        assert_eq!(rule(2, 3), "+---+---+");
    }
}
