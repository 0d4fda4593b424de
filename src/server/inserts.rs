//! `/inserts-stream`: rows in as lines, an acknowledgement out for each, in order.
//!
//! Lines that arrive together are inserted together. The subtle thing: answers are written while the body is still read, which HTTP/1.1
//! allows but few of its clients can take; so the `ksql` dialect refuses it there, as ksqlDB does, and the `extended` one does not.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::http::{HeaderMap, Version};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::lines::Lines;
use super::{ServerState, blocking, failed, log_internal, negotiate, respond, response};
use crate::config::{self, Dialect};
use crate::diagnostic::Diagnostic;
use crate::wire::error::{ErrorBody, HTTP2_ONLY, SHUTTING_DOWN};
use crate::wire::request::{StatementRequest, object, texts};
use crate::wire::rows::{DELIMITED, JSON};

/// Chunks of answers that may wait for the client; then its rows wait too.
const CHUNKS_WAITING: usize = 4;
/// Rows that are inserted at once.
const ROWS_AT_ONCE: usize = 1000;

pub(super) async fn inserts_stream(
    State(state): State<Arc<ServerState>>,
    version: Version,
    headers: HeaderMap,
    body: Body,
) -> Response {
    respond(begin(state, version, &headers, body).await)
}

async fn begin(
    state: Arc<ServerState>,
    version: Version,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ErrorBody> {
    if version < Version::HTTP_2 && state.dialect() == Dialect::Ksql {
        return Err(ErrorBody::new(HTTP2_ONLY, "This endpoint is only available when using HTTP2"));
    }
    let media_type = negotiate::media_type(headers, &[DELIMITED, JSON])?;
    let mut input =
        Input { body: body.into_data_stream(), lines: Lines::new(state.config.size(config::REQUEST_BYTES)) };
    let Some((first, rest)) = input.next().await?.and_then(|lines| {
        let mut lines = lines.into_iter();
        Some((lines.next()?, lines.collect::<Vec<_>>()))
    }) else {
        return Err(ErrorBody::bad_request("The first line must name the target: {\"target\": …}"));
    };
    let target = read_target(&state, &first)?;
    // No rows: only asks whether the target takes any.
    insert(&state, &target, Vec::new()).await?;
    let (sender, receiver) = mpsc::channel::<Bytes>(CHUNKS_WAITING);
    let writer = Answers { array: media_type == JSON, sender, seq: 0 };
    tokio::spawn(take_rows(state, target, input, rest, writer));
    let chunks = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (Ok::<_, std::convert::Infallible>(chunk), receiver))
    });
    Ok(response(200, media_type, Body::from_stream(chunks)))
}

/// The target of the first line; its properties are checked like those of any request.
fn read_target(state: &ServerState, line: &[u8]) -> Result<String, ErrorBody> {
    let json = object(line)?;
    let Some(target) = json["target"].as_str() else {
        return Err(ErrorBody::bad_request("The first line must name the target: {\"target\": …}"));
    };
    let properties = texts(&json["properties"], "properties")?;
    state.session(&StatementRequest { properties, ..StatementRequest::default() })?;
    Ok(target.to_owned())
}

/// The lines of a request body.
struct Input {
    body: BodyDataStream,
    lines: Lines,
}

impl Input {
    /// The next lines, at least one; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>, ErrorBody> {
        loop {
            match self.body.next().await {
                Some(Ok(chunk)) => {
                    let lines = self.lines.feed(&chunk)?;
                    if !lines.is_empty() {
                        return Ok(Some(lines));
                    }
                }
                Some(Err(error)) => return Err(ErrorBody::bad_request(format!("The request stopped: {error}"))),
                None => return Ok(self.lines.finish().map(|line| vec![line])),
            }
        }
    }
}

/// Writes acknowledgements.
struct Answers {
    array: bool,
    sender: mpsc::Sender<Bytes>,
    seq: u64,
}

impl Answers {
    fn push(&mut self, out: &mut Vec<u8>, answer: &Value) {
        let before: &[u8] = match (self.array, self.seq) {
            (false, _) => b"",
            (true, 0) => b"[",
            (true, _) => b",\n",
        };
        out.extend_from_slice(before);
        out.extend_from_slice(answer.to_string().as_bytes());
        if !self.array {
            out.push(b'\n');
        }
        self.seq += 1;
    }

    fn ok(&mut self, out: &mut Vec<u8>) {
        let answer = json!({ "status": "ok", "seq": self.seq });
        self.push(out, &answer);
    }

    fn error(&mut self, out: &mut Vec<u8>, error: &ErrorBody) {
        let mut answer = error.to_json();
        answer["status"] = "error".into();
        answer["seq"] = self.seq.into();
        self.push(out, &answer);
    }

    /// False if the client is gone.
    async fn send(&self, out: Vec<u8>) -> bool {
        out.is_empty() || self.sender.send(Bytes::from(out)).await.is_ok()
    }

    async fn finish(self) {
        let last: &[u8] = match (self.array, self.seq) {
            (false, _) => return,
            (true, 0) => b"[]",
            (true, _) => b"]",
        };
        self.send(last.to_vec()).await;
    }
}

/// Inserts lines until the body, the server, or the first bad row ends.
async fn take_rows(
    state: Arc<ServerState>,
    target: String,
    mut input: Input,
    mut lines: Vec<Vec<u8>>,
    mut answers: Answers,
) {
    let mut stopping = state.stopping.subscribe();
    loop {
        for some in lines.chunks(ROWS_AT_ONCE) {
            let mut out = Vec::new();
            let went_on = insert_lines(&state, &target, some, &mut answers, &mut out).await;
            if !answers.send(out).await || !went_on {
                return answers.finish().await;
            }
        }
        let next = tokio::select! {
            next = input.next() => next,
            _ = stopping.wait_for(|stopping| *stopping) => {
                Err(ErrorBody::new(SHUTTING_DOWN, "The server is shutting down"))
            }
        };
        match next {
            Ok(Some(more)) => lines = more,
            Ok(None) => return answers.finish().await,
            Err(error) => {
                let mut out = Vec::new();
                answers.error(&mut out, &error);
                answers.send(out).await;
                return answers.finish().await;
            }
        }
    }
}

/// Inserts the rows of some lines and writes their answers; false after the first error.
async fn insert_lines(
    state: &Arc<ServerState>,
    target: &str,
    lines: &[Vec<u8>],
    answers: &mut Answers,
    out: &mut Vec<u8>,
) -> bool {
    let mut rows = Vec::with_capacity(lines.len());
    let mut bad_line = None;
    for line in lines {
        match object(line) {
            Ok(Value::Object(row)) => rows.push(row),
            Ok(_) => {}
            Err(error) => {
                bad_line = Some(error);
                break;
            }
        }
    }
    let results = match insert(state, target, rows).await {
        Ok(results) => results,
        Err(error) => {
            answers.error(out, &error);
            return false;
        }
    };
    for result in results {
        match result {
            Ok(()) => answers.ok(out),
            Err(error) => {
                log_internal(&error);
                answers.error(out, &ErrorBody::of(&error));
                return false;
            }
        }
    }
    if let Some(error) = &bad_line {
        answers.error(out, error);
    }
    bad_line.is_none()
}

async fn insert(
    state: &Arc<ServerState>,
    target: &str,
    rows: Vec<Map<String, Value>>,
) -> Result<Vec<Result<(), Diagnostic>>, ErrorBody> {
    let (engine, name) = (state.engine.clone(), target.to_owned());
    blocking(move || engine.insert_json(&name, rows)).await?.map_err(|error| {
        let body = failed(&error);
        if body.status() == 400 { ErrorBody { code: crate::wire::error::BAD_STATEMENT, ..body } } else { body }
    })
}
