//! Bodies of requests: read by the server, written by the client.
//!
//! Unknown fields are ignored, as ksqlDB does. The subtle thing: `/ksql` and `/query-stream` name the same fields differently; both
//! spellings are read everywhere.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::error::ErrorBody;

/// A text to execute with the session it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatementRequest {
    /// one or more statements
    pub text: String,
    /// session properties, not checked yet
    pub properties: BTreeMap<String, String>,
    /// session variables
    pub variables: BTreeMap<String, String>,
}

impl StatementRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// What is not JSON, or has no text.
    pub fn parse(body: &[u8]) -> Result<Self, ErrorBody> {
        let json = object(body)?;
        let text = json["ksql"].as_str().or_else(|| json["sql"].as_str());
        let Some(text) = text else {
            return Err(ErrorBody::bad_request("The request has no statement; give it in the field 'ksql' or 'sql'"));
        };
        let mut properties = texts(&json["streamsProperties"], "streamsProperties")?;
        properties.extend(texts(&json["properties"], "properties")?);
        Ok(Self { text: text.to_owned(), properties, variables: texts(&json["sessionVariables"], "sessionVariables")? })
    }

    /// The body that [`Self::parse`] reads, with the fields of both endpoints' spellings that `/ksql` and `/query-stream` need.
    pub fn to_json(&self, endpoint: Endpoint) -> Value {
        match endpoint {
            Endpoint::Ksql => json!({
                "ksql": self.text,
                "streamsProperties": self.properties,
                "sessionVariables": self.variables,
            }),
            Endpoint::QueryStream => json!({
                "sql": self.text,
                "properties": self.properties,
                "sessionVariables": self.variables,
            }),
        }
    }
}

/// Which spelling a body has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/ksql` and `/query`
    Ksql,
    /// `/query-stream`
    QueryStream,
}

/// A body that must be a JSON object.
///
/// # Errors
/// What is not JSON, or no object.
pub fn object(body: &[u8]) -> Result<Value, ErrorBody> {
    let json: Value = serde_json::from_slice(body)
        .map_err(|error| ErrorBody::bad_request(format!("Invalid JSON in request: {error}")))?;
    if json.is_object() {
        Ok(json)
    } else {
        Err(ErrorBody::bad_request("Invalid JSON in request: an object is needed"))
    }
}

/// An object of scalars as texts; numbers and booleans as they are written, NULLs left out.
///
/// # Errors
/// Anything else.
pub fn texts(json: &Value, field: &str) -> Result<BTreeMap<String, String>, ErrorBody> {
    let wrong = || ErrorBody::bad_request(format!("Invalid JSON in request: '{field}' must be an object of texts"));
    let Some(object) = json.as_object() else {
        return if json.is_null() { Ok(BTreeMap::new()) } else { Err(wrong()) };
    };
    let mut all = BTreeMap::new();
    for (name, value) in object {
        match value {
            Value::Null => {}
            Value::String(text) => _ = all.insert(name.clone(), text.clone()),
            Value::Bool(_) | Value::Number(_) => _ = all.insert(name.clone(), value.to_string()),
            _ => return Err(wrong()),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_read() {
        let request = StatementRequest {
            text: "SHOW STREAMS;".into(),
            properties: BTreeMap::from([("auto.offset.reset".into(), "earliest".into())]),
            variables: BTreeMap::from([("a".into(), "1".into())]),
        };
        for endpoint in [Endpoint::Ksql, Endpoint::QueryStream] {
            let body = request.to_json(endpoint).to_string();
            assert_eq!(StatementRequest::parse(body.as_bytes()), Ok(request.clone()));
        }
    }

    #[test]
    fn bad_bodies_say_why() {
        let message = |body: &str| StatementRequest::parse(body.as_bytes()).unwrap_err().message;
        assert!(message("{").starts_with("Invalid JSON in request: "));
        assert!(message("[]").contains("an object"));
        assert!(message("{}").contains("'ksql'"));
        assert!(message(r#"{"ksql":"x","streamsProperties":[1]}"#).contains("'streamsProperties'"));
    }
}
