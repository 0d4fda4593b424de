//! What format a topic's bytes may be in, and the bytes as text: for PRINT, which knows no schema.
//!
//! Decodes nothing for queries. The subtle thing: candidates only ever fall away. One that a record does not fit is dropped for
//! good, and of those left the first one shows the record.

use super::json::compact_text;
use super::text::java_double;

/// What a record without any fitting candidate prints as.
const UNREADABLE: &str = "<Failed to deserialize>";

/// The latest window start or end that is taken for a time: the end of the year 9999, in ms.
const LATEST_TIME_MS: i64 = 253_402_300_799_999;

/// How long a JSON schema registry prefix is: a zero and a 4-byte schema id.
const REGISTRY_PREFIX_LEN: usize = 5;

/// A payload's possible encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Json,
    JsonSr,
    Int,
    BigInt,
    Double,
    String,
    Unrecognised,
}

impl Encoding {
    /// In the order in which they are tried.
    const ALL: [Self; 7] =
        [Self::Json, Self::JsonSr, Self::Int, Self::BigInt, Self::Double, Self::String, Self::Unrecognised];

    fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::JsonSr => "JSON_SR",
            Self::Int => "KAFKA_INT",
            Self::BigInt => "KAFKA_BIGINT",
            Self::Double => "KAFKA_DOUBLE",
            Self::String => "KAFKA_STRING",
            Self::Unrecognised => "UNRECOGNISED_BYTES",
        }
    }

    /// The payload as text, if it can be of this encoding.
    fn text(self, payload: &[u8]) -> Option<String> {
        match self {
            Self::Json => compact_text(payload),
            Self::JsonSr => {
                let (prefix, json) = payload.split_at_checked(REGISTRY_PREFIX_LEN)?;
                if prefix[0] == 0 { compact_text(json) } else { None }
            }
            Self::Int => Some(i32::from_be_bytes(payload.try_into().ok()?).to_string()),
            Self::BigInt => Some(i64::from_be_bytes(payload.try_into().ok()?).to_string()),
            Self::Double => {
                let mut text = String::new();
                java_double(f64::from_be_bytes(payload.try_into().ok()?), &mut text);
                Some(text)
            }
            Self::String => std::str::from_utf8(payload).ok().map(str::to_owned),
            Self::Unrecognised => Some(payload.iter().map(|byte| format!("\\x{byte:02X}")).collect()),
        }
    }
}

/// What a windowed key may have behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    Session,
    Hopping,
    Tumbling,
}

impl Window {
    const ALL: [Self; 3] = [Self::Session, Self::Hopping, Self::Tumbling];

    fn name(self) -> &'static str {
        match self {
            Self::Session => "SESSION",
            Self::Hopping => "HOPPING",
            Self::Tumbling => "TUMBLING",
        }
    }

    /// Key and window as `[key@start/end]`, if the last bytes can be such a window.
    fn text(self, encoding: Encoding, payload: &[u8]) -> Option<String> {
        let (rest, start) = payload.split_last_chunk::<8>()?;
        let start = Some(i64::from_be_bytes(*start)).filter(|start| (0..=LATEST_TIME_MS).contains(start))?;
        let (key, end) = match self {
            Self::Session => {
                let (key, end) = rest.split_last_chunk::<8>()?;
                let end = Some(i64::from_be_bytes(*end)).filter(|end| (start..=LATEST_TIME_MS).contains(end))?;
                (key, end.to_string())
            }
            Self::Hopping | Self::Tumbling => (rest, "-".to_owned()),
        };
        if key.is_empty() {
            return None;
        }
        Some(format!("[{}@{start}/{end}]", encoding.text(key)?))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    encoding: Encoding,
    window: Option<Window>,
}

impl Candidate {
    fn name(self) -> String {
        match self.window {
            Some(window) => format!("{}({})", window.name(), self.encoding.name()),
            None => self.encoding.name().to_owned(),
        }
    }

    fn text(self, payload: &[u8]) -> Option<String> {
        match self.window {
            Some(window) => window.text(self.encoding, payload),
            None => self.encoding.text(payload),
        }
    }
}

/// The formats that all payloads seen so far can be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatGuess {
    candidates: Vec<Candidate>,
}

impl FormatGuess {
    /// A guess for record values: nothing seen yet.
    pub fn for_values() -> Self {
        Self { candidates: Encoding::ALL.map(|encoding| Candidate { encoding, window: None }).to_vec() }
    }

    /// A guess for record keys, which may be windowed: nothing seen yet.
    pub fn for_keys() -> Self {
        let mut candidates = Self::for_values().candidates;
        let primitive = [Encoding::Int, Encoding::BigInt, Encoding::Double, Encoding::String];
        // A windowed key also reads as a longer text: the more telling guess is tried first.
        let before = candidates.iter().position(|c| c.encoding == Encoding::Int).unwrap_or(candidates.len());
        let windowed = primitive
            .into_iter()
            .flat_map(|encoding| Window::ALL.map(|window| Candidate { encoding, window: Some(window) }));
        candidates.splice(before..before, windowed);
        Self { candidates }
    }

    /// Drops what `payload` cannot be, and gives it as text; `<null>` for none, which tells nothing.
    pub fn observe(&mut self, payload: Option<&[u8]>) -> String {
        let Some(payload) = payload else { return "<null>".to_owned() };
        let mut shown = None;
        self.candidates.retain(|candidate| {
            // Bytes in any encoding are no guess, only a last way to show them.
            if candidate.encoding == Encoding::Unrecognised && shown.is_some() {
                return false;
            }
            let text = candidate.text(payload);
            let fits = text.is_some();
            shown = shown.take().or(text);
            fits
        });
        shown.unwrap_or_else(|| UNREADABLE.to_owned())
    }

    /// The formats left, as PRINT names them: `JSON or KAFKA_STRING`.
    pub fn names(&self) -> String {
        match self.candidates.as_slice() {
            [] => {
                " does not match any supported format. It may be a STRING with encoding other than UTF8, or some other \
                   format."
                    .to_owned()
            }
            candidates => candidates.iter().map(|candidate| candidate.name()).collect::<Vec<_>>().join(" or "),
        }
    }
}

/// The formats that `payload` alone can be in, in the order in which they are tried.
pub fn guess_format(payload: &[u8]) -> Vec<String> {
    let mut guess = FormatGuess::for_values();
    guess.observe(Some(payload));
    guess.candidates.iter().map(|candidate| candidate.name()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(guess_format(b"{\"a\": 12}"), ["JSON", "KAFKA_STRING"]);
        assert_eq!(guess_format(b"\0\0\0\x01{}"), ["KAFKA_STRING"]);
        assert_eq!(guess_format(b"\0\0\0\0\x01{\"a\":1}"), ["JSON_SR", "KAFKA_STRING"]);
        assert_eq!(guess_format(&[0, 0, 0, 0xff]), ["KAFKA_INT"]);
        assert_eq!(guess_format(&[0, 0, 0, 0, 0, 0, 0, 0xff]), ["KAFKA_BIGINT", "KAFKA_DOUBLE"]);
        assert_eq!(guess_format(&[0xff, 0xfe, 0xfd]), ["UNRECOGNISED_BYTES"]);
        assert_eq!(guess_format(b"text"), ["KAFKA_INT", "KAFKA_STRING"]);
    }

    #[test]
    fn candidates_fall_away_for_good() {
        let mut guess = FormatGuess::for_values();
        assert_eq!(guess.observe(None), "<null>");
        assert_eq!(guess.observe(Some(b"{ \"a\" : 1.50 }")), "{\"a\":1.50}");
        assert_eq!(guess.names(), "JSON or KAFKA_STRING");
        assert_eq!(guess.observe(Some(b"plain")), "plain");
        assert_eq!(guess.observe(Some(b"{ \"a\" : 1 }")), "{ \"a\" : 1 }");
        assert_eq!(guess.names(), "KAFKA_STRING");
        assert_eq!(guess.observe(Some(b"\xff")), UNREADABLE);
        assert!(guess.names().contains("does not match any supported format"));
    }

    #[test]
    fn windowed_keys() {
        let mut guess = FormatGuess::for_keys();
        let key = [b"bob".as_slice(), &100_i64.to_be_bytes()].concat();
        assert_eq!(guess.observe(Some(&key)), "[bob@100/-]");
        assert_eq!(guess.names(), "HOPPING(KAFKA_STRING) or TUMBLING(KAFKA_STRING) or KAFKA_STRING");
        let mut guess = FormatGuess::for_keys();
        let key = [7_i32.to_be_bytes().as_slice(), &20_i64.to_be_bytes(), &10_i64.to_be_bytes()].concat();
        assert_eq!(guess.observe(Some(&key)), "[7@10/20]");
        assert!(guess.names().starts_with("SESSION(KAFKA_INT) or "), "{}", guess.names());
    }

    #[test]
    fn plain_keys() {
        let mut guess = FormatGuess::for_keys();
        assert_eq!(guess.observe(Some(b"18")), "18");
        assert_eq!(guess.names(), "JSON or KAFKA_STRING");
    }
}
