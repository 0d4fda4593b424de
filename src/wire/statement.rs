//! What a statement is, by its first words: enough to choose an endpoint.
//!
//! Not a parser: whoever executes the text says what is wrong with it. The subtle thing: `${variables}` may still stand in the text.

/// Which door a statement goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementClass {
    /// a push query
    Push,
    /// a pull query
    Pull,
    /// PRINT
    Print,
    /// SET, UNSET, DEFINE, UNDEFINE: they change the session
    Session,
    /// RUN SCRIPT: the client reads a file
    RunScript,
    /// everything else
    Other,
}

impl StatementClass {
    /// The class of one statement that is cut out of its text.
    pub fn of(statement: &str) -> Self {
        let mut words = words(statement);
        match words.next().as_deref() {
            Some("SELECT" | "WITH" | "(") => {
                if words.any(|w| w == "EMIT") {
                    Self::Push
                } else {
                    Self::Pull
                }
            }
            Some("PRINT") => Self::Print,
            Some("SET" | "UNSET" | "DEFINE" | "UNDEFINE") => Self::Session,
            Some("RUN") if words.next().as_deref() == Some("SCRIPT") => Self::RunScript,
            _ => Self::Other,
        }
    }

    /// True for what gives rows.
    pub fn is_query(self) -> bool {
        matches!(self, Self::Push | Self::Pull | Self::Print)
    }
}

/// The first word of a statement, upper case.
pub fn first_word(statement: &str) -> String {
    words(statement).next().unwrap_or_default()
}

/// The words of a text outside of comments, strings and quoted names, upper case; a bracket is a word.
pub fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = &text[at..];
            let first = rest.chars().next()?;
            let skipped = skip(rest, first);
            if skipped > 0 {
                at += skipped;
                continue;
            }
            let length = if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '@').unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            at += length;
            return Some(rest[..length].to_uppercase());
        }
    })
}

/// How many bytes of blanks, comment, string or quoted name `rest` begins with.
fn skip(rest: &str, first: char) -> usize {
    match first {
        c if c.is_whitespace() => c.len_utf8(),
        '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
        '/' if rest.starts_with("/*") => rest[2..].find("*/").map_or(rest.len(), |end| end + 4),
        '\'' | '"' | '`' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_choose_the_door() {
        let of = StatementClass::of;
        assert_eq!(of("select * from s emit changes;"), StatementClass::Push);
        assert_eq!(of("/* EMIT */ SELECT 'EMIT' FROM s -- emit\n;"), StatementClass::Pull);
        assert_eq!(of("print 'x';"), StatementClass::Print);
        assert_eq!(of("SET 'a'='b';"), StatementClass::Session);
        assert_eq!(of("run  script 'x';"), StatementClass::RunScript);
        assert_eq!(of("CREATE STREAM s AS SELECT * FROM t;"), StatementClass::Other);
        assert_eq!(of(""), StatementClass::Other);
    }

    #[test]
    fn open_quotes_and_comments_end_the_words() {
        assert_eq!(words("a 'b").collect::<Vec<_>>(), ["A"]);
        assert_eq!(words("a /* b").collect::<Vec<_>>(), ["A"]);
        assert_eq!(words("é ü_1").collect::<Vec<_>>(), ["É", "Ü_1"]);
    }
}
