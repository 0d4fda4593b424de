//! Properties as text: the file that ksqlDB's servers start with, and `NAME=VALUE` on a command line.
//!
//! The format of Java's properties files in UTF-8: `=`, `:` or blanks after the name, `#` and `!` comments, a backslash at a
//! line's end goes on. Knows no names; [`super::Config`] checks them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::diagnostic::Diagnostic;

/// Reads a properties file.
///
/// # Errors
/// A file that cannot be read, or is not text; a line without a name.
pub fn read(path: &Path) -> Result<BTreeMap<String, String>, Diagnostic> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Diagnostic::user(format!("Cannot read the properties file {}: {error}", path.display()))
            .help("give the path of a text file with name=value lines")
    })?;
    parse(&text).map_err(|error| Diagnostic { message: format!("{}: {}", path.display(), error.message), ..error })
}

/// Parses the text of a properties file. A name that comes twice has its last value.
///
/// # Errors
/// A line without a name.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, Diagnostic> {
    let mut values = BTreeMap::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let mut logical = line.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while goes_on(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        let (name, value) = split_line(&logical);
        if name.is_empty() {
            return Err(Diagnostic::user(format!("line {} has no property name", number + 1)).help("write name=value"));
        }
        values.insert(name, value);
    }
    Ok(values)
}

/// Splits `NAME=VALUE` of a command line.
///
/// # Errors
/// A text without `=` or without a name.
pub fn assignment(text: &str) -> Result<(String, String), Diagnostic> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err(Diagnostic::user(format!("'{text}' sets nothing")).help("write NAME=VALUE")),
    }
}

/// An odd number of backslashes at the end.
fn goes_on(line: &str) -> bool {
    (line.len() - line.trim_end_matches('\\').len()) % 2 == 1
}

/// Name and value, unescaped.
fn split_line(line: &str) -> (String, String) {
    let mut escaped = false;
    let end = line
        .char_indices()
        .find(|&(_, c)| {
            let ends = !escaped && (c == '=' || c == ':' || c.is_whitespace());
            escaped = !escaped && c == '\\';
            ends
        })
        .map_or(line.len(), |(i, _)| i);
    let rest = line[end..].trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (unescape(&line[..end]), unescape(value.trim()))
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('t')) => out.push('\t'),
            ('\\', Some('r')) => out.push('\r'),
            ('\\', Some('u')) => {
                let hex: String = chars.by_ref().take(4).collect();
                out.push(u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32).unwrap_or('\u{fffd}'));
            }
            ('\\', Some(other)) => out.push(other),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_properties_read_back() {
        let text = "# comment\n! another\n\na=1\n b : two words \nc three\nd = x\\\n    y\ne\\=f=\\u00e9\\n\nempty\n";
        let want = [("a", "1"), ("b", "two words"), ("c", "three"), ("d", "xy"), ("e=f", "é\n"), ("empty", "")];
        let want: BTreeMap<String, String> = want.map(|(k, v)| (k.into(), v.into())).into();
        assert_eq!(parse(text).unwrap(), want);
    }

    #[test]
    fn a_line_without_name_is_an_error() {
        assert_eq!(parse("a=1\n=2\n").unwrap_err().message, "line 2 has no property name");
        assert!(assignment("x").is_err());
        assert_eq!(assignment("x=a=b").unwrap(), ("x".into(), "a=b".into()));
    }
}
