//! The line editor: history, several lines until `;`, completion, colours.
//!
//! Knows words and quotes, no grammar. The subtle thing: a line is complete when its last token is a `;` outside of everything, or when
//! it is a command of the shell, which needs none.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::command;
use crate::diagnostic::Diagnostic;
use crate::sql;

/// Lines that are remembered.
const HISTORY_LINES: usize = 5000;
const PROMPT: &str = "ksql> ";
const KEYWORD: &str = "\x1b[1;36m";
const TEXT: &str = "\x1b[32m";
const COMMENT: &str = "\x1b[90m";
const PLAIN: &str = "\x1b[0m";

/// Reads lines from a terminal or a pipe.
pub struct LineEditor {
    editor: Editor<SqlHelper, FileHistory>,
    history: Option<PathBuf>,
}

impl LineEditor {
    /// An editor whose history is in that file; a file that cannot be read is an empty one.
    ///
    /// # Errors
    /// A terminal that cannot be used.
    pub fn open(history: Option<PathBuf>) -> Result<Self, Diagnostic> {
        let broken = |error: ReadlineError| Diagnostic::user(format!("The terminal cannot be used: {error}"));
        let config = Config::builder()
            .max_history_size(HISTORY_LINES)
            .map_err(broken)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor = Editor::with_config(config).map_err(broken)?;
        editor.set_helper(Some(SqlHelper { names: Vec::new(), colour: std::io::stdout().is_terminal() }));
        if let Some(path) = &history {
            // No history yet is the normal first start.
            let _ = editor.load_history(path);
        }
        Ok(Self { editor, history })
    }

    /// The next statement or command.
    ///
    /// # Errors
    /// Ctrl-C, Ctrl-D, or a terminal that is gone.
    pub fn read(&mut self) -> Result<String, ReadlineError> {
        self.editor.readline(PROMPT)
    }

    /// Keeps a line in the history and its file.
    pub fn remember(&mut self, line: &str) {
        // A history that cannot be written is no reason to refuse the statement.
        let _ = self.editor.add_history_entry(line);
        if let Some(path) = &self.history {
            if let Some(folder) = path.parent() {
                let _ = std::fs::create_dir_all(folder);
            }
            let _ = self.editor.append_history(path);
        }
    }

    /// What completion offers beside keywords: sources and their columns.
    pub fn set_names(&mut self, names: Vec<(String, Vec<String>)>) {
        if let Some(helper) = self.editor.helper_mut() {
            helper.names = names;
        }
    }

    /// The lines entered so far, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &String> {
        self.editor.history().iter()
    }
}

/// Completion, validation and colours.
pub struct SqlHelper {
    names: Vec<(String, Vec<String>)>,
    colour: bool,
}

impl Helper for SqlHelper {}

impl Hinter for SqlHelper {
    type Hint = String;
}

impl Validator for SqlHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let input = context.input();
        let done = input.trim().is_empty() || sql::is_complete(input) || command::find(input).is_some();
        Ok(if done { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Completer for SqlHelper {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(completions(line, at, &self.names))
    }
}

/// Where the word at `at` begins, and what it may become: names first, then keywords, in the case that was begun.
pub fn completions(line: &str, at: usize, names: &[(String, Vec<String>)]) -> (usize, Vec<String>) {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '@');
    let start =
        line[..at].rfind(|c: char| !is_word(c)).map_or(0, |i| i + line[i..].chars().next().map_or(1, char::len_utf8));
    let word = &line[start..at];
    if word.is_empty() || in_string(&line[..start]) {
        return (start, Vec::new());
    }
    let upper = word.to_uppercase();
    let lower = word.chars().any(char::is_lowercase);
    let as_begun = |text: &str| if lower { text.to_lowercase() } else { text.to_owned() };
    let begins = |text: &str| text.len() > word.len() && text.to_uppercase().starts_with(&upper);
    let of_catalog = names.iter().flat_map(|(name, columns)| std::iter::once(name).chain(columns));
    let mut found: Vec<String> = of_catalog.filter(|n| begins(n)).map(|n| quoted(n, &as_begun)).collect();
    found.sort();
    found.dedup();
    let mut keywords: Vec<String> = sql::completions().filter(|k| begins(k)).map(as_begun).collect();
    keywords.sort();
    keywords.retain(|k| !found.contains(k));
    found.extend(keywords);
    (start, found)
}

/// A name as it must be written: in the case that was begun if it is a plain one.
fn quoted(name: &str, as_begun: &impl Fn(&str) -> String) -> String {
    let written = sql::quote(name);
    if written == name { as_begun(name) } else { written }
}

/// True if a string is open at the end of `text`.
fn in_string(text: &str) -> bool {
    text.matches('\'').count() % 2 == 1
}

impl Highlighter for SqlHelper {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if self.colour { Cow::Owned(coloured(line)) } else { Cow::Borrowed(line) }
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        self.colour && kind != CmdKind::MoveCursor
    }
}

/// The line with keywords, strings and comments in colours.
pub fn coloured(line: &str) -> String {
    let mut out = String::with_capacity(line.len() * 2);
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let (length, colour) = piece(rest, first);
        let (text, after) = rest.split_at(length);
        match colour {
            Some(colour) => {
                out.push_str(colour);
                out.push_str(text);
                out.push_str(PLAIN);
            }
            None => out.push_str(text),
        }
        rest = after;
    }
    out
}

/// How many bytes belong together at the beginning of `rest`, and their colour.
fn piece(rest: &str, first: char) -> (usize, Option<&'static str>) {
    let closed_by = |close: char| rest[1..].find(close).map_or(rest.len(), |end| end + 2);
    match first {
        '\'' => (closed_by('\''), Some(TEXT)),
        '`' | '"' => (closed_by(first), None),
        '-' if rest.starts_with("--") => (rest.find('\n').unwrap_or(rest.len()), Some(COMMENT)),
        '/' if rest.starts_with("/*") => (rest[2..].find("*/").map_or(rest.len(), |end| end + 4), Some(COMMENT)),
        c if c.is_alphabetic() || c == '_' => {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '@').unwrap_or(rest.len());
            let word = rest[..length].to_ascii_uppercase();
            let is_keyword = sql::completions().any(|keyword| keyword == word);
            (length, is_keyword.then_some(KEYWORD))
        }
        c => (c.len_utf8(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<(String, Vec<String>)> {
        vec![("SENSORS".into(), vec!["ID".into(), "temp c".into(), "SELECTED".into()])]
    }

    #[test]
    fn completion_offers_names_then_keywords_in_the_case_begun() {
        let (start, found) = completions("select * from sens", 18, &names());
        assert_eq!((start, found), (14, vec!["sensors".to_owned()]));
        let (_, found) = completions("SEL", 3, &names());
        assert_eq!(found, ["SELECTED", "SELECT"]);
        let (_, found) = completions("SELECT te", 9, &names());
        assert_eq!(found[0], "`temp c`");
        assert!(completions("SELECT 'sel", 11, &names()).1.is_empty());
        assert_eq!(completions("é SEL", 6, &names()).0, 3);
    }

    #[test]
    fn colours_change_no_character() {
        let line = "SELECT x, 'it''s' FROM `from` -- é\n/* open";
        let text = coloured(line);
        let plain = [KEYWORD, TEXT, COMMENT, PLAIN].iter().fold(text.clone(), |t, c| t.replace(c, ""));
        assert_eq!(plain, line);
        assert!(text.starts_with(&format!("{KEYWORD}SELECT{PLAIN} x")));
        assert!(!text.contains(&format!("{KEYWORD}from")));
    }
}
