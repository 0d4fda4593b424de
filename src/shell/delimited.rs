//! Lines of DELIMITED files for COPY: comma-separated values with quotes, as RFC 4180 has them.
//!
//! Not the record format (`format/delimited`): files have an empty field for NULL and quotes around an empty text. The subtle thing: a
//! quoted field may go over several lines.

/// A field; `None` is NULL.
pub type CsvField = Option<String>;

/// Reads one row from `lines`, which give further lines for a field that goes on.
///
/// # Errors
/// What is wrong: a quote that is not closed, or text after one.
pub fn read_row(first: &str, more: &mut dyn FnMut() -> Option<String>) -> Result<Vec<CsvField>, String> {
    let mut text = first.to_owned();
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        if text[at..].starts_with('"') {
            let (value, end) = quoted(&mut text, at + 1, more)?;
            fields.push(Some(value));
            at = end;
            match text[at..].chars().next() {
                None => return Ok(fields),
                Some(',') => at += 1,
                Some(_) => return Err(format!("text after the closing quote of field {}", fields.len())),
            }
        } else {
            let end = text[at..].find(',').map_or(text.len(), |i| at + i);
            fields.push(Some(text[at..end].to_owned()).filter(|value| !value.is_empty()));
            if end == text.len() {
                return Ok(fields);
            }
            at = end + 1;
        }
    }
}

/// The value of a quoted field that begins at `at`, and where it ends.
fn quoted(
    text: &mut String,
    mut at: usize,
    more: &mut dyn FnMut() -> Option<String>,
) -> Result<(String, usize), String> {
    let mut value = String::new();
    loop {
        match text[at..].find('"') {
            Some(i) => {
                value.push_str(&text[at..at + i]);
                at += i + 1;
                if !text[at..].starts_with('"') {
                    return Ok((value, at));
                }
                value.push('"');
                at += 1;
            }
            None => {
                value.push_str(&text[at..]);
                value.push('\n');
                *text = more().ok_or("a quote is not closed")?;
                at = 0;
            }
        }
    }
}

/// Appends a row as a line.
pub fn write_row(out: &mut String, fields: impl Iterator<Item = CsvField>) {
    for (i, field) in fields.enumerate() {
        if i > 0 {
            out.push(',');
        }
        match field {
            None => {}
            Some(value) if value.is_empty() || value.contains([',', '"', '\n', '\r']) => {
                out.push('"');
                out.push_str(&value.replace('"', "\"\""));
                out.push('"');
            }
            Some(value) => out.push_str(&value),
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<CsvField>, String> {
        let mut lines = text.lines().map(str::to_owned);
        let first = lines.next().unwrap_or_default();
        read_row(&first, &mut || lines.next())
    }

    #[test]
    fn rows_survive() {
        let row = vec![Some("a".into()), None, Some(String::new()), Some("x,\"y\"\nz".into()), Some(" b ".into())];
        let mut out = String::new();
        write_row(&mut out, row.clone().into_iter());
        assert_eq!(out, "a,,\"\",\"x,\"\"y\"\"\nz\", b \n");
        assert_eq!(read(&out).unwrap(), row);
    }

    #[test]
    fn open_quotes_are_errors() {
        assert_eq!(read("a,\"b").unwrap_err(), "a quote is not closed");
        assert_eq!(read("\"a\"b").unwrap_err(), "text after the closing quote of field 1");
        assert_eq!(read("a,").unwrap(), [Some("a".into()), None]);
    }
}
