//! Errors as the API says them: the one place where an error class becomes a code, and a code a status.
//!
//! Looks at [`ErrorClass`] and never at a text. The subtle thing: what only an operator of the service can mend is logged by the
//! server and not sent; the client is told to look there.

use serde_json::{Value, json};

use crate::diagnostic::{Diagnostic, ErrorClass};

/// Bad request.
pub const BAD_REQUEST: u32 = 40000;
/// A statement that is wrong.
pub const BAD_STATEMENT: u32 = 40001;
/// A query on `/ksql`.
pub const QUERY_ENDPOINT: u32 = 40002;
/// Too many push queries.
pub const MAX_PUSH_QUERIES: u32 = 40003;
/// Only over HTTP/2.
pub const HTTP2_ONLY: u32 = 40004;
/// No such thing.
pub const NOT_FOUND: u32 = 40400;
/// No acceptable media type.
pub const NOT_ACCEPTABLE: u32 = 40600;
/// A body that is too large.
pub const TOO_LARGE: u32 = 41300;
/// An ASSERT that does not hold.
pub const ASSERT_FAILED: u32 = 41700;
/// Too many requests of a kind.
pub const TOO_MANY: u32 = 42900;
/// Something failed inside.
pub const SERVER_ERROR: u32 = 50000;
/// The same request may succeed later.
pub const TRY_AGAIN: u32 = 50300;
/// The server is shutting down.
pub const SHUTTING_DOWN: u32 = 50303;

/// What is sent in place of an internal error.
pub const INTERNAL_MESSAGE: &str = "The server encountered an internal error when processing the query. \
     Please consult the server logs for more information.";

/// An error as the API sends it.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorBody {
    /// one of the constants; the HTTP status is its hundredth
    pub code: u32,
    /// what is wrong
    pub message: String,
    /// the statement that is wrong, where one is
    pub statement: Option<String>,
    /// entities of the statements before it
    pub entities: Vec<Value>,
}

impl ErrorBody {
    /// An error of the request itself.
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), statement: None, entities: Vec::new() }
    }

    /// A request that cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(BAD_REQUEST, message)
    }

    /// What a diagnostic outside of any statement becomes.
    pub fn of(diagnostic: &Diagnostic) -> Self {
        let code = match diagnostic.class {
            ErrorClass::User | ErrorClass::Record => BAD_REQUEST,
            ErrorClass::Retry => TRY_AGAIN,
            ErrorClass::Query | ErrorClass::Fatal => SERVER_ERROR,
        };
        let message = match diagnostic.class {
            ErrorClass::Fatal => INTERNAL_MESSAGE.to_owned(),
            _ => diagnostic.to_string(),
        };
        Self::new(code, message)
    }

    /// What a diagnostic about `statement` becomes.
    pub fn of_statement(diagnostic: &Diagnostic, statement: Option<String>, entities: Vec<Value>) -> Self {
        let body = Self::of(diagnostic);
        let code = if body.code == BAD_REQUEST { BAD_STATEMENT } else { body.code };
        Self { code, statement: Some(statement.unwrap_or_default()), entities, ..body }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        u16::try_from(self.code / 100).ok().filter(|s| (400..600).contains(s)).unwrap_or(500)
    }

    /// The body to send.
    pub fn to_json(&self) -> Value {
        match &self.statement {
            None => json!({ "@type": "generic_error", "error_code": self.code, "message": self.message }),
            Some(text) => json!({
                "@type": "statement_error",
                "error_code": self.code,
                "message": self.message,
                "statementText": text,
                "entities": self.entities,
            }),
        }
    }

    /// The error a body stands for; `None` if it is none.
    pub fn from_json(json: &Value) -> Option<Self> {
        Some(Self {
            code: json["error_code"].as_u64()?.try_into().ok()?,
            message: json["message"].as_str()?.to_owned(),
            statement: json["statementText"].as_str().filter(|text| !text.is_empty()).map(str::to_owned),
            entities: json["entities"].as_array().cloned().unwrap_or_default(),
        })
    }

    /// The same as a diagnostic, for whoever called the server.
    pub fn to_diagnostic(&self) -> Diagnostic {
        let class = match self.code / 100 {
            429 | 503 => ErrorClass::Retry,
            code if code >= 500 => ErrorClass::Query,
            _ => ErrorClass::User,
        };
        Diagnostic::new(class, self.message.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_become_codes_and_codes_become_statuses() {
        let of = |class| ErrorBody::of(&Diagnostic::new(class, "why"));
        assert_eq!((of(ErrorClass::User).code, of(ErrorClass::User).status()), (40000, 400));
        assert_eq!(of(ErrorClass::Retry).status(), 503);
        assert_eq!(of(ErrorClass::Query).message, "why");
        let fatal = of(ErrorClass::Fatal);
        assert_eq!((fatal.status(), fatal.message.as_str()), (500, INTERNAL_MESSAGE));
    }

    #[test]
    fn bodies_survive_the_way_there_and_back() {
        let error = Diagnostic::user("no such source 'X'").help("SHOW STREAMS");
        let body = ErrorBody::of_statement(&error, Some("SELECT 1;".into()), vec![json!({"@type": "streams"})]);
        assert_eq!(body.code, BAD_STATEMENT);
        assert_eq!(ErrorBody::from_json(&body.to_json()), Some(body.clone()));
        assert_eq!(body.to_diagnostic().to_string(), error.to_string());
    }
}
