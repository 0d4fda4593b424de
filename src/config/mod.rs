//! What can be set: one table of properties, and the values in force.
//!
//! Knows texts and types, no engine. A value comes in by file, flag or SET as `name = value`, is found in [`PROPERTIES`] under its
//! canonical name ([`canonical`]), checked by its type ([`check`]) and read by [`Config`]. The subtle thing: a name may carry the
//! prefix `ksql.streams.`, which says nothing, and names below [`FAMILIES`] are passed on to whoever they belong to.

pub mod file;
pub mod properties;
pub mod secret;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, suggest};

pub use properties::*;
use secret::HIDDEN;

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyType {
    /// any text
    Text,
    /// `true` or `false`
    Bool,
    /// a whole number, at least this
    Int(i64),
    /// a number of bytes ≥ 0: digits, and maybe KiB, MiB or GiB
    Bytes,
    /// one of these words, in any case
    OneOf(&'static [&'static str]),
}

/// Who a property belongs to, as SHOW PROPERTIES says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// ksqlDB's own names
    Ksql,
    /// names of Kafka Streams and of Kafka clients
    Streams,
    /// names that only riverrun has
    Riverrun,
}

impl Scope {
    /// `KSQL`, `KAFKA STREAMS`, `RIVERRUN`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ksql => "KSQL",
            Self::Streams => "KAFKA STREAMS",
            Self::Riverrun => "RIVERRUN",
        }
    }
}

/// Where a property may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Editable {
    /// in the server's configuration only
    Server,
    /// by SET too
    Session,
}

/// One property.
#[derive(Clone, Copy, Debug)]
pub struct Property {
    /// canonical name
    pub name: &'static str,
    /// what its value looks like
    pub ty: PropertyType,
    /// its value when nobody says anything; `None`: unset
    pub default: Option<&'static str>,
    /// whose name it is
    pub scope: Scope,
    /// where it may be set
    pub editable: Editable,
    /// one sentence
    pub doc: &'static str,
}

/// The table's row for a name, in any of its spellings.
pub fn property(name: &str) -> Option<&'static Property> {
    let bare = bare_name(name);
    PROPERTIES.iter().find(|p| p.name == bare)
}

/// The name without the prefix that says nothing. `ksql.streams.auto.offset.reset` is `auto.offset.reset`; so are the consumer's and
/// producer's.
fn bare_name(name: &str) -> &str {
    let streams = name.strip_prefix("ksql.streams.").unwrap_or(name);
    let client = streams.strip_prefix("consumer.").or_else(|| streams.strip_prefix("producer.")).unwrap_or(streams);
    ALIASES.iter().find(|(alias, _)| *alias == client).map_or(client, |(_, name)| name)
}

/// The name under which values are kept.
///
/// # Errors
/// A name that is neither in the table nor in a family, with the nearest one as the remedy.
pub fn canonical(name: &str) -> Result<&str, Diagnostic> {
    let bare = bare_name(name);
    let known = PROPERTIES.iter().any(|p| p.name == bare) || INERT.contains(&bare);
    if known || FAMILIES.iter().any(|family| bare.starts_with(family) && bare.len() > family.len()) {
        return Ok(bare);
    }
    let unknown = Diagnostic::user(format!("Unknown property: {name}"));
    Err(match suggest(bare, PROPERTIES.iter().map(|p| p.name)) {
        Some(near) => unknown.help(format!("did you mean '{near}'? SHOW PROPERTIES lists all")),
        None => unknown.help("SHOW PROPERTIES lists all"),
    })
}

/// Checks `value` for the property; names of a family take any text.
///
/// # Errors
/// An unknown name, or a value of another type.
pub fn check(name: &str, value: &str) -> Result<(), Diagnostic> {
    canonical(name)?;
    let Some(property) = property(name) else { return Ok(()) };
    let wanted = match property.ty {
        PropertyType::Text => return Ok(()),
        PropertyType::Bool if parse_bool(value).is_some() => return Ok(()),
        PropertyType::Bool => "true or false".to_owned(),
        PropertyType::Int(least) if value.trim().parse().is_ok_and(|v: i64| v >= least) => return Ok(()),
        PropertyType::Int(least) => format!("a whole number of at least {least}"),
        PropertyType::Bytes if parse_bytes(value).is_some() => return Ok(()),
        PropertyType::Bytes => "a number of bytes, such as 1048576 or 1MiB".to_owned(),
        PropertyType::OneOf(words) if words.iter().any(|w| w.eq_ignore_ascii_case(value.trim())) => return Ok(()),
        PropertyType::OneOf(words) => format!("one of {}", words.join(", ")),
    };
    Err(Diagnostic::user(format!("Invalid value '{value}' for property '{name}'")).help(format!("give {wanted}")))
}

/// Checks what a session wants to SET, and returns the canonical name.
///
/// # Errors
/// As [`check`]; a property that only the server's configuration may set.
pub fn check_session<'n>(name: &'n str, value: &str) -> Result<&'n str, Diagnostic> {
    check(name, value)?;
    expect_editable(name)?;
    canonical(name)
}

/// The canonical name of a property that a session may SET and UNSET.
///
/// # Errors
/// An unknown name; a property that only the server's configuration may set.
pub fn expect_editable(name: &str) -> Result<&str, Diagnostic> {
    let bare = canonical(name)?;
    match property(bare) {
        Some(p) if p.editable == Editable::Server => {
            Err(Diagnostic::user(format!("Cannot override property '{name}'"))
                .help("set it where the server starts: --set, or its properties file"))
        }
        // Properties of sessions are kept with their queries, for all to see.
        None if secret::is_secret(bare) => Err(Diagnostic::user(format!("Cannot override property '{name}'"))
            .help("set secrets where the server starts, by its properties file")),
        _ => Ok(bare),
    }
}

/// `true` and `false` in any case.
fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// `1048576`, `1024 KiB`, `1MiB`, `1 GB`; the units are powers of 1024.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// How far the dialect goes beyond ksqlDB's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// accepts what we can do, such as joins in pull queries
    Extended,
    /// refuses what ksqlDB refuses
    Ksql,
}

/// The values in force: what was set, over the defaults.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Config {
    set: BTreeMap<String, String>,
    /// names whose values came from elsewhere, and are not to be shown
    secrets: BTreeSet<String>,
}

/// Without secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.set.keys().map(|name| (name, self.shown(name).unwrap_or_default()))).finish()
    }
}

impl Config {
    /// Checks a server's `values`, puts in what stands elsewhere (see [`secret`]), and keeps them under their canonical names.
    ///
    /// # Errors
    /// The first unknown name or wrong value; a file or variable that is not there.
    pub fn new(values: &BTreeMap<String, String>) -> Result<Self, Diagnostic> {
        let mut config = Self::default();
        for (name, value) in values {
            let filled = secret::filled(name, value)?;
            if let Err(error) = check(name, filled.as_deref().unwrap_or(value)) {
                let message = match &filled {
                    Some(secret) => error.message.replace(secret.as_str(), HIDDEN),
                    None => error.message,
                };
                return Err(Diagnostic { message, ..error });
            }
            let canonical = canonical(name)?.to_owned();
            if filled.is_some() {
                config.secrets.insert(canonical.clone());
            }
            config.set.insert(canonical, filled.unwrap_or_else(|| value.clone()));
        }
        Ok(config)
    }

    /// What may be shown of the value that was set; `None` if nobody set it.
    pub fn shown(&self, name: &str) -> Option<&str> {
        let bare = bare_name(name);
        let value = self.set.get(bare)?;
        Some(if self.secrets.contains(bare) || secret::is_secret(bare) { HIDDEN } else { value })
    }

    /// These values over the present ones.
    ///
    /// # Errors
    /// The first unknown name or wrong value.
    pub fn with(&self, values: &BTreeMap<String, String>) -> Result<Self, Diagnostic> {
        let mut set = self.set.clone();
        for (name, value) in values {
            check(name, value)?;
            set.insert(canonical(name)?.to_owned(), value.clone());
        }
        Ok(Self { set, secrets: self.secrets.clone() })
    }

    /// What was set, by canonical name; defaults are not in it.
    pub fn overrides(&self) -> &BTreeMap<String, String> {
        &self.set
    }

    /// The value in force; `None` if it is unset and has no default.
    pub fn text(&self, name: &str) -> Option<&str> {
        let bare = bare_name(name);
        self.set.get(bare).map(String::as_str).or_else(|| property(bare)?.default)
    }

    /// True if someone set it.
    pub fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(bare_name(name))
    }

    /// The value of a boolean property; false if it is unset.
    pub fn bool(&self, name: &str) -> bool {
        self.text(name).and_then(parse_bool).unwrap_or(false)
    }

    /// The value of a whole-number property.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.text(name)?.trim().parse().ok()
    }

    /// The value of a property in bytes.
    pub fn bytes(&self, name: &str) -> Option<u64> {
        parse_bytes(self.text(name)?)
    }

    /// The value of a property in bytes, as a size in memory; the largest one if it is unset.
    pub fn size(&self, name: &str) -> usize {
        self.bytes(name).and_then(|b| usize::try_from(b).ok()).unwrap_or(usize::MAX)
    }

    /// The value of a property in milliseconds.
    pub fn millis(&self, name: &str) -> Option<Duration> {
        self.int(name).and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis)
    }

    /// A limit as a count: negative and unset mean none.
    pub fn limit(&self, name: &str) -> Option<usize> {
        self.int(name).and_then(|n| usize::try_from(n).ok())
    }

    /// What was set of the families of Kafka's clients, without the prefixes that only say whose they are.
    pub fn client_properties(&self) -> BTreeMap<String, String> {
        let is_client = |name: &&String| {
            !name.starts_with("ksql.")
                && property(name).is_none()
                && FAMILIES.iter().any(|family| name.starts_with(family))
        };
        let names = self.set.keys().filter(is_client);
        names.filter_map(|name| Some((name.clone(), self.set.get(name)?.clone()))).collect()
    }

    /// `riverrun.dialect`.
    pub fn dialect(&self) -> Dialect {
        match self.text(DIALECT) {
            Some(word) if word.trim().eq_ignore_ascii_case("ksql") => Dialect::Ksql,
            _ => Dialect::Extended,
        }
    }

    /// Names that were set but have no effect here, to warn about.
    pub fn without_effect(&self) -> impl Iterator<Item = &str> {
        self.set.keys().map(String::as_str).filter(|name| INERT.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn every_default_passes_its_own_check_and_names_are_unique() {
        for (i, p) in PROPERTIES.iter().enumerate() {
            if let Some(default) = p.default {
                check(p.name, default).unwrap_or_else(|e| panic!("{}: {e}", p.name));
            }
            assert!(!p.doc.is_empty() && !p.doc.ends_with('.'), "{}: a sentence without its full stop", p.name);
            assert!(PROPERTIES[..i].iter().all(|q| q.name != p.name), "{} is there twice", p.name);
            assert!(!INERT.contains(&p.name), "{} has an effect or it has none", p.name);
        }
    }

    #[test]
    fn the_streams_prefix_says_nothing() {
        let config = Config::new(&one("ksql.streams.auto.offset.reset", "earliest")).unwrap();
        assert_eq!(config.text("auto.offset.reset"), Some("earliest"));
        assert_eq!(config.text("ksql.streams.consumer.auto.offset.reset"), Some("earliest"));
    }

    #[test]
    fn unknown_names_get_the_nearest_one() {
        let error = Config::new(&one("auto.ofset.reset", "earliest")).unwrap_err();
        assert_eq!(error.message, "Unknown property: auto.ofset.reset");
        assert!(error.help.unwrap().contains("'auto.offset.reset'"));
    }

    #[test]
    fn wrong_values_say_what_is_wanted() {
        let wanted = |name: &str, value: &str| check(name, value).unwrap_err().help.unwrap();
        assert_eq!(wanted("auto.offset.reset", "middle"), "give one of earliest, latest, none");
        assert_eq!(wanted("commit.interval.ms", "-1"), "give a whole number of at least 0");
        assert_eq!(wanted("state.memory.bytes", "many"), "give a number of bytes, such as 1048576 or 1MiB");
        assert_eq!(wanted("ksql.suppress.enabled", "1"), "give true or false");
    }

    #[test]
    fn sessions_may_not_set_what_is_the_servers() {
        assert_eq!(check_session("ksql.streams.auto.offset.reset", "latest").unwrap(), "auto.offset.reset");
        assert!(check_session("ksql.service.id", "x").unwrap_err().message.contains("Cannot override"));
    }

    #[test]
    fn secrets_are_used_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "s3cret").unwrap();
        let reference = format!("${{file:{}}}", path.display());
        let mut values = one("ksql.streams.sasl.password", "plain-s3cret");
        values.extend(one("ksql.schema.registry.url", &reference));
        values.extend(one("client.rack", "r1"));
        let config = Config::new(&values).unwrap();
        assert_eq!(config.text("ksql.schema.registry.url"), Some("s3cret"));
        assert_eq!(config.client_properties()["sasl.password"], "plain-s3cret");
        assert_eq!(config.shown("ksql.schema.registry.url"), Some("[hidden]"));
        assert_eq!(config.shown("sasl.password"), Some("[hidden]"));
        assert_eq!(config.shown("client.rack"), Some("r1"));
        assert!(!format!("{config:?}").contains("s3cret"));
        let error = Config::new(&one("commit.interval.ms", &reference)).unwrap_err().to_string();
        assert!(error.contains("commit.interval.ms") && !error.contains("s3cret"), "{error}");
        // what a session sets is taken as it is
        let session = config.with(&one("auto.offset.reset", "earliest")).unwrap();
        assert!(session.with(&one("commit.interval.ms", &reference)).is_err());
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse_bytes("512 MiB"), Some(512 << 20));
        assert_eq!(parse_bytes("10k"), Some(10240));
        assert_eq!(parse_bytes("1 parsec"), None);
        assert_eq!(parse_bytes("99999999999999 TiB"), None);
    }
}
