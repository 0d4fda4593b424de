//! `/ksql` and `/status`: statements that are no queries.
//!
//! All of a request is checked before any of it runs (the engine does that); queries are refused before the engine sees them, as
//! ksqlDB does. The subtle thing: the statuses kept for `/status` are the last thousand, not all.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::{ServerState, blocking, body_bytes, error_response, json_response, log_internal, negotiate, respond};
use crate::config;
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::engine::{Outcome, OutcomeKind, ScriptError, Status};
use crate::sql;
use crate::wire::entity;
use crate::wire::error::{ASSERT_FAILED, BAD_STATEMENT, ErrorBody, NOT_FOUND, QUERY_ENDPOINT};
use crate::wire::request::StatementRequest;
use crate::wire::rows::{JSON, STREAMED_ROWS};
use crate::wire::statement::{StatementClass, first_word};

/// How many statuses are remembered.
const STATUSES_KEPT: usize = 1000;

/// What became of the last statements.
#[derive(Default)]
pub(super) struct Statuses(Mutex<VecDeque<Status>>);

impl Statuses {
    fn keep(&self, outcomes: &[Outcome]) {
        let mut kept = self.0.lock();
        for outcome in outcomes {
            if let OutcomeKind::Status(status) = &outcome.kind {
                kept.retain(|s| id_of(s) != id_of(status));
                kept.push_back(status.clone());
            }
        }
        let surplus = kept.len().saturating_sub(STATUSES_KEPT);
        kept.drain(..surplus);
    }
}

fn id_of(status: &Status) -> (&str, &str, &str) {
    (&status.kind, &status.entity, &status.action)
}

pub(super) async fn ksql(
    State(state): State<Arc<ServerState>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    respond(execute(state, &headers, body).await)
}

async fn execute(
    state: Arc<ServerState>,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ErrorBody> {
    let media_type = negotiate::media_type(headers, &[STREAMED_ROWS, JSON])?;
    let request = StatementRequest::parse(&body_bytes(body)?)?;
    check_text(&state, &request.text)?;
    let mut session = state.session(&request)?;
    let result = blocking(move || session.execute(&request.text)).await?;
    match result {
        Ok(outcomes) => {
            state.statuses.keep(&outcomes);
            let entities: Vec<Value> = outcomes.iter().filter_map(entity::to_json).collect();
            Ok(json_response(200, media_type, &Value::Array(entities)))
        }
        Err(error) => {
            state.statuses.keep(&error.done);
            Err(script_error(&error))
        }
    }
}

/// Refuses queries and texts that are too long, before anything runs.
fn check_text(state: &ServerState, text: &str) -> Result<(), ErrorBody> {
    check_length(state, text)?;
    let statements =
        sql::split(text).map_err(|error| ErrorBody::of_statement(&error, Some(text.to_owned()), Vec::new()))?;
    for statement in statements {
        let body = |code: u32, message: &str| ErrorBody {
            statement: Some(statement.text.to_owned()),
            ..ErrorBody::new(code, message)
        };
        if StatementClass::of(statement.text).is_query() {
            let message = "The following statement types should be issued to the endpoint '/query-stream' or '/query': PRINT SELECT";
            return Err(body(QUERY_ENDPOINT, message));
        }
        if !statement.terminated {
            let error = Diagnostic::user("every statement must end with ';'");
            return Err(body(BAD_STATEMENT, &error.message));
        }
    }
    Ok(())
}

/// Refuses a text with a statement that is too long, before it is looked at.
pub(super) fn check_length(state: &ServerState, text: &str) -> Result<(), ErrorBody> {
    let limit = state.config.size(config::STATEMENT_BYTES);
    sql::check_length(text, limit, config::STATEMENT_BYTES)
        .map_err(|error| ErrorBody::new(BAD_STATEMENT, error.message))
}

/// The body of a text that stopped being executed.
pub(super) fn script_error(error: &ScriptError) -> ErrorBody {
    log_internal(&error.diagnostic);
    let entities = error.done.iter().filter_map(entity::to_json).collect();
    let mut body = ErrorBody::of_statement(&error.diagnostic, error.statement.clone(), entities);
    let text = error.statement.as_deref().filter(|text| first_word(text) == "ASSERT");
    // An ASSERT that parses is right as a statement; what is wrong is what it says.
    if error.diagnostic.class == ErrorClass::User && text.is_some_and(|text| sql::parse_statement(text).is_ok()) {
        body.code = ASSERT_FAILED;
    }
    body
}

pub(super) async fn statuses(State(state): State<Arc<ServerState>>) -> Response {
    let kept = state.statuses.0.lock();
    let all: Map<_, _> =
        kept.iter().map(|s| (format!("{}/{}/{}", s.kind, s.entity, s.action), Value::from("SUCCESS"))).collect();
    json_response(200, STREAMED_ROWS, &json!({ "commandStatuses": all }))
}

pub(super) async fn status(
    State(state): State<Arc<ServerState>>,
    Path((kind, entity, action)): Path<(String, String, String)>,
) -> Response {
    let wanted = (kind.as_str(), entity.as_str(), action.as_str());
    let kept = state.statuses.0.lock();
    match kept.iter().find(|s| id_of(s) == wanted) {
        Some(s) => {
            let json = json!({ "status": "SUCCESS", "message": s.message, "queryId": s.query_id });
            json_response(200, STREAMED_ROWS, &json)
        }
        None => error_response(&ErrorBody::new(NOT_FOUND, "Command not found")),
    }
}
