//! Values that stand elsewhere: `${file:PATH}`, `${file:PATH:NAME}` and `${env:NAME}` in the value of a server's property.
//!
//! As Kafka's own config providers have them, so that no secret need stand in a file that is passed around. Knows no properties but which of
//! them are secrets by their names. The subtle thing: only the server's properties are filled; what a session sets is taken as it is, or
//! anybody could read the server's files.

use std::path::Path;

use super::file;
use crate::diagnostic::Diagnostic;

/// What a secret is shown as.
pub const HIDDEN: &str = "[hidden]";

/// Parts of names whose values are secrets.
const SECRET_NAMES: [&str; 9] = [
    "password",
    "secret",
    "sasl.jaas",
    "ssl.key.pem",
    "ssl.keystore.key",
    "oauthbearer.config",
    "user.info",
    "token",
    "credentials",
];

/// True for a property whose value must not be shown.
pub fn is_secret(name: &str) -> bool {
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// The value with everything that stands elsewhere put in; `None` if nothing does.
///
/// # Errors
/// A file or variable that is not there, by its name; never what is in it.
pub(super) fn filled(name: &str, value: &str) -> Result<Option<String>, Diagnostic> {
    let (mut out, mut rest, mut found) = (String::new(), value, false);
    while let Some(start) = next_reference(rest) {
        let Some(length) = rest[start..].find('}') else {
            return Err(Diagnostic::user(format!("property '{name}': a '${{' has no '}}'"))
                .help("write ${file:PATH}, ${file:PATH:NAME} or ${env:NAME}"));
        };
        out.push_str(&rest[..start]);
        out.push_str(&looked_up(name, &rest[start + 2..start + length])?);
        rest = &rest[start + length + 1..];
        found = true;
    }
    out.push_str(rest);
    Ok(found.then_some(out))
}

fn next_reference(text: &str) -> Option<usize> {
    [text.find("${file:"), text.find("${env:")].into_iter().flatten().min()
}

/// What `file:PATH`, `file:PATH:NAME` or `env:NAME` stands for.
fn looked_up(name: &str, reference: &str) -> Result<String, Diagnostic> {
    let fail = |reason: String| Err(Diagnostic::user(format!("property '{name}': {reason}")));
    if let Some(variable) = reference.strip_prefix("env:") {
        return match std::env::var(variable) {
            Ok(value) => Ok(value),
            Err(_) => fail(format!("the environment has no text variable {variable}")),
        };
    }
    let place = reference.strip_prefix("file:").unwrap_or(reference);
    // A file of that very name comes first, so that a path may have colons.
    let (path, key) = match place.rsplit_once(':') {
        Some((path, key)) if !Path::new(place).exists() => (path, Some(key)),
        _ => (place, None),
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return fail(format!("cannot read the file {path}: {error}")),
    };
    let Some(key) = key else { return Ok(text.trim_end_matches(['\r', '\n']).to_owned()) };
    match file::parse(&text) {
        Ok(mut values) => match values.remove(key) {
            Some(value) => Ok(value),
            None => fail(format!("the file {path} has no line {key}=…")),
        },
        Err(error) => fail(format!("{path}: {}", error.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_variables_are_put_in() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, lines) = (folder.path().join("p"), folder.path().join("l:x"));
        std::fs::write(&plain, "s3cret\n").unwrap();
        std::fs::write(&lines, "user=ada\npassword=pa:ss\n").unwrap();
        let fill = |value: String| filled("sasl.password", &value);
        assert_eq!(fill(format!("${{file:{}}}", plain.display())).unwrap().as_deref(), Some("s3cret"));
        let two = format!("u=${{file:{0}:user}} p=${{file:{0}:password}}!", lines.display());
        assert_eq!(fill(two).unwrap().as_deref(), Some("u=ada p=pa:ss!"));
        let path = std::env::var("PATH").unwrap();
        assert_eq!(fill("${env:PATH}".into()).unwrap(), Some(path));
        assert_eq!(fill("${name} and $".into()).unwrap(), None, "other uses of ${{}} are not ours");
    }

    #[test]
    fn what_is_not_there_is_named_and_nothing_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let lines = folder.path().join("l");
        std::fs::write(&lines, "password=s3cret\n").unwrap();
        let error = |value: &str| filled("sasl.password", value).unwrap_err().to_string();
        assert!(error("${env:RIVERRUN_NO_SUCH_VARIABLE}").contains("RIVERRUN_NO_SUCH_VARIABLE"));
        assert!(error("${file:/no/such/file}").contains("/no/such/file"));
        let told = error(&format!("${{file:{}:user}}", lines.display()));
        assert!(told.contains("user=") && !told.contains("s3cret"), "{told}");
        assert!(error("${env:X").contains("has no '}'"));
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "sasl.password",
            "ssl.key.password",
            "sasl.jaas.config",
            "ssl.key.pem",
            "ksql.schema.registry.basic.auth.user.info",
        ] {
            assert!(is_secret(name), "{name}");
        }
        assert!(!is_secret("sasl.username") && !is_secret("ssl.key.location"));
    }
}
