//! A query case of a JSON-lines file: statements, records in, records out.
//!
//! Reads one line and checks nothing but its shape; unknown fields are ignored. The subtle thing: numbers are kept as their text, so that
//! decimals keep their scale.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::compare::Expected;
use super::record::{Record, Window};

/// One case.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct QueryCase {
    /// unique among all cases
    pub name: String,
    /// session properties
    #[serde(default)]
    pub properties: Map<String, Value>,
    /// topics that exist beforehand
    #[serde(default)]
    pub topics: Vec<TopicCase>,
    /// one statement each
    pub statements: Vec<String>,
    /// records of the inputs, in order
    #[serde(default)]
    pub inputs: Vec<RecordCase>,
    /// records of the outputs, in order per topic
    #[serde(default)]
    pub outputs: Vec<RecordCase>,
    /// what is looked at afterwards
    pub post: Option<Post>,
    /// the case must be refused
    #[serde(rename = "expectedError")]
    pub expected_error: Option<Value>,
    /// only cases of the HTTP API have it
    pub responses: Option<Value>,
    /// a switch of the runner, on if absent: numbers with a point are compared digit by digit
    #[serde(skip)]
    pub exact: bool,
}

/// A topic that exists beforehand.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct TopicCase {
    /// its name
    pub name: String,
    /// 1 if absent
    pub partitions: Option<i32>,
    /// 1 if absent
    pub replicas: Option<i16>,
}

/// A record.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RecordCase {
    /// its topic
    pub topic: String,
    /// null or absent: no key
    #[serde(default)]
    pub key: Value,
    /// null: a tombstone
    #[serde(default)]
    pub value: Value,
    /// in ms
    pub timestamp: Option<i64>,
    /// of a windowed key
    pub window: Option<WindowCase>,
    /// in order
    #[serde(default)]
    pub headers: Option<Vec<HeaderCase>>,
}

/// A window of a key.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct WindowCase {
    /// in ms
    pub start: i64,
    /// in ms
    pub end: i64,
    /// `time` or `session`
    #[serde(rename = "type")]
    pub kind: String,
}

/// A header.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct HeaderCase {
    /// its key
    #[serde(rename = "KEY")]
    pub key: String,
    /// base64
    #[serde(rename = "VALUE")]
    pub value: Option<String>,
}

/// What is looked at after the run.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Post {
    /// sources that must be there
    #[serde(default)]
    pub sources: Vec<PostSource>,
    /// topics that must or must not be there
    pub topics: Option<PostTopics>,
}

/// A source that must be there, with these attributes; absent ones are not compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PostSource {
    /// its name
    pub name: String,
    /// `stream` or `table`, in any case
    #[serde(rename = "type")]
    pub kind: String,
    /// a column list as in DDL
    pub schema: Option<String>,
    /// of the key
    pub key_format: Option<PostKeyFormat>,
    /// name of the value format
    pub value_format: Option<String>,
    /// `WRAP_SINGLES`, `UNWRAP_SINGLES`
    pub key_features: Option<Vec<String>>,
    /// the same
    pub value_features: Option<Vec<String>>,
    /// read-only
    pub is_source: Option<bool>,
}

/// The format of a key.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PostKeyFormat {
    /// its name
    pub format: String,
    /// TUMBLING, HOPPING, SESSION
    pub window_type: Option<String>,
    /// in ms
    pub window_size: Option<i64>,
}

/// Topics after the run.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PostTopics {
    /// a pattern that no topic's name may match
    pub blacklist: Option<String>,
    /// topics that must be there
    #[serde(default)]
    pub topics: Vec<PostTopic>,
}

/// A topic after the run.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PostTopic {
    /// its name
    pub name: String,
    /// of the key
    pub key_format: Option<PostFormat>,
    /// of the value
    pub value_format: Option<PostFormat>,
    /// how many
    pub partitions: Option<i32>,
}

/// A format of a topic.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PostFormat {
    /// its name
    pub format: String,
    /// by the reference's names
    #[serde(default)]
    pub properties: Map<String, Value>,
    /// `WRAP_SINGLES`, `UNWRAP_SINGLES`
    #[serde(default)]
    pub features: Vec<String>,
}

/// The runner's own switch among the properties.
const EXACT_SWITCH: &str = "use.exact.numeric.comparison";

impl QueryCase {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with its shape.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut case: Self = serde_json::from_str(line).map_err(|e| e.to_string())?;
        case.exact = case.properties.remove(EXACT_SWITCH).is_none_or(|v| property_text(&v) != "false");
        Ok(case)
    }

    /// True if it must be refused.
    pub fn is_refusal(&self) -> bool {
        self.expected_error.is_some()
    }

    /// Session properties as texts.
    pub fn property_texts(&self) -> impl Iterator<Item = (&str, String)> {
        self.properties.iter().map(|(name, value)| (name.as_str(), property_text(value)))
    }
}

fn property_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl RecordCase {
    /// As an input: its timestamp is 0 if absent.
    pub fn to_record(&self) -> Record {
        Record {
            key: self.key.clone(),
            value: self.value.clone(),
            timestamp: self.timestamp.unwrap_or(0),
            window: self.to_window(),
            headers: self.to_headers(),
        }
    }

    /// As an expectation.
    pub fn to_expected(&self) -> Expected {
        Expected {
            key: self.key.clone(),
            value: self.value.clone(),
            timestamp: self.timestamp,
            window: self.to_window(),
            headers: self.to_headers(),
        }
    }

    fn to_window(&self) -> Option<Window> {
        let session = |w: &WindowCase| w.kind.eq_ignore_ascii_case("session");
        self.window.as_ref().map(|w| Window { start: w.start, end: w.end, session: session(w) })
    }

    fn to_headers(&self) -> Vec<(String, Option<String>)> {
        self.headers.iter().flatten().map(|h| (h.key.clone(), h.value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_case() {
        let line = r#"{"name": "a/b", "statements": ["X;"], "properties": {"p": 1, "use.exact.numeric.comparison": false},
            "inputs": [{"topic": "t", "value": {"A": 10.00}, "window": {"start": 1, "end": 2, "type": "session"}}],
            "outputs": [{"topic": "o", "key": 1, "value": null, "timestamp": 3, "headers": [{"KEY": "k", "VALUE": null}]}],
            "note": "ignored"}"#;
        let case = QueryCase::parse(line).expect("is a case");
        assert!(!case.exact && !case.is_refusal());
        assert_eq!(case.property_texts().collect::<Vec<_>>(), [("p", "1".to_owned())]);
        let input = case.inputs[0].to_record();
        assert_eq!((input.value.to_string().as_str(), input.timestamp), (r#"{"A":10.00}"#, 0));
        assert_eq!(input.window, Some(Window { start: 1, end: 2, session: true }));
        let output = case.outputs[0].to_expected();
        assert_eq!((output.timestamp, output.headers), (Some(3), vec![("k".to_owned(), None)]));
    }

    #[test]
    fn a_line_without_statements_is_refused() {
        assert!(QueryCase::parse(r#"{"name": "x"}"#).expect_err("no statements").contains("statements"));
    }
}
