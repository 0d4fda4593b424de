//! `/query`, `/query-stream`, `/close-query`: rows of a query as they come.
//!
//! A blocking thread takes rows from the engine, writes them as bytes and hands these over a bounded channel; so a slow client slows
//! its own query and nobody else. The subtle thing: the response holds the canceller, so a connection that is closed while no row
//! comes still ends the query at once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;

use super::live::{Canceller, LiveQuery};
use super::statement::{check_length, script_error};
use super::{ServerState, blocking, body_bytes, log_internal, negotiate, respond, response};
use crate::config;
use crate::diagnostic::Diagnostic;
use crate::engine::{NextRows, Rows, RowsKind};
use crate::sql;
use crate::wire::error::{BAD_STATEMENT, ErrorBody, SHUTTING_DOWN};
use crate::wire::request::{StatementRequest, object};
use crate::wire::rows::{DELIMITED, JSON, RowEncoder, RowFormat, STREAMED_ROWS};
use crate::wire::statement::StatementClass;

/// Bytes of rows that make a chunk.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that may wait for the client.
const CHUNKS_WAITING: usize = 4;

pub(super) async fn query(
    State(state): State<Arc<ServerState>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let chosen = negotiate::media_type(&headers, &[STREAMED_ROWS, JSON, DELIMITED]).map(|media_type| {
        (if media_type == DELIMITED { RowFormat::Delimited } else { RowFormat::StreamedRows }, media_type)
    });
    respond(run(state, chosen, body).await)
}

pub(super) async fn query_stream(
    State(state): State<Arc<ServerState>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let chosen = negotiate::media_type(&headers, &[DELIMITED, JSON, STREAMED_ROWS]).map(|media_type| {
        let format = match media_type {
            JSON => RowFormat::Json,
            STREAMED_ROWS => RowFormat::StreamedRows,
            _ => RowFormat::Delimited,
        };
        (format, media_type)
    });
    respond(run(state, chosen, body).await)
}

async fn run(
    state: Arc<ServerState>,
    chosen: Result<(RowFormat, &'static str), ErrorBody>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ErrorBody> {
    let (format, media_type) = chosen?;
    let request = StatementRequest::parse(&body_bytes(body)?)?;
    check_one_statement(&state, &request.text)?;
    let mut session = state.session(&request)?;
    let is_push = matches!(StatementClass::of(&request.text), StatementClass::Push | StatementClass::Print);
    let live = state.live.take_place(is_push)?;
    let rows = blocking(move || session.query(&request.text)).await?.map_err(|error| script_error(&error))?;
    let cancel = rows.source.canceller();
    live.runs(&rows.query_id, cancel.clone());
    // From here on a request that is dropped ends its query.
    let on_drop = CancelOnDrop(cancel);
    if *state.stopping.borrow() {
        // The end may have come after the session was made and before the query could be told.
        return Err(ErrorBody::new(SHUTTING_DOWN, "The server is shutting down"));
    }
    let is_print = rows.kind == RowsKind::Print;
    let (format, media_type) =
        if is_print { (RowFormat::Lines, RowFormat::Lines.media_type()) } else { (format, media_type) };
    let query_id = rows.query_id.clone();
    let mut pump = Pump::new(&state, rows, format, live);
    if matches!(pump.rows.kind, RowsKind::PullTable | RowsKind::PullStream) {
        // What fails before the first row of a pull query is an error of the request, with its status.
        pump = blocking(move || pump.fetch_first()).await??;
    }
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    tokio::task::spawn_blocking(move || pump.run(&sender));
    let mut answer = response(200, media_type, Body::from_stream(Chunks { receiver, _on_drop: on_drop }));
    if let Ok(id) = query_id.parse() {
        answer.headers_mut().insert("x-query-id", id);
    }
    Ok(answer)
}

fn check_one_statement(state: &ServerState, text: &str) -> Result<(), ErrorBody> {
    let as_error = |error: &Diagnostic| ErrorBody::of_statement(error, Some(text.to_owned()), Vec::new());
    check_length(state, text)?;
    let statements = sql::split(text).map_err(|error| as_error(&error))?;
    if statements.len() != 1 {
        let message = format!("Expected exactly one KSQL statement; found {} instead", statements.len());
        return Err(ErrorBody { statement: Some(text.to_owned()), ..ErrorBody::new(BAD_STATEMENT, message) });
    }
    Ok(())
}

pub(super) async fn close_query(
    State(state): State<Arc<ServerState>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let closed = body_bytes(body).and_then(|body| object(&body)).and_then(|json| {
        let id = json["queryId"].as_str().unwrap_or("");
        if state.live.close(id) { Ok(()) } else { Err(ErrorBody::bad_request(format!("No query with id {id}"))) }
    });
    respond(closed.map(|()| response(200, JSON, Body::empty())))
}

/// Ends a query when its response goes.
struct CancelOnDrop(Canceller);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The body of a response: chunks as they come.
struct Chunks {
    receiver: mpsc::Receiver<Bytes>,
    _on_drop: CancelOnDrop,
}

impl Stream for Chunks {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context).map(|chunk| chunk.map(Ok))
    }
}

/// Moves rows from the engine to a response, on a blocking thread.
struct Pump {
    rows: Rows,
    encoder: RowEncoder,
    first: Option<NextRows>,
    check_every: Duration,
    bytes_left: usize,
    _live: LiveQuery,
}

/// The client is gone.
struct Closed;

impl Pump {
    fn new(state: &ServerState, rows: Rows, format: RowFormat, live: LiveQuery) -> Self {
        let bounded = matches!(rows.kind, RowsKind::PullTable | RowsKind::PullStream);
        Self {
            rows,
            encoder: RowEncoder::new(format),
            first: None,
            check_every: state.config.millis(config::DISCONNECT_CHECK_MS).unwrap_or(Duration::from_secs(1)),
            bytes_left: if bounded { state.config.size(config::RESPONSE_BYTES) } else { usize::MAX },
            _live: live,
        }
    }

    fn fetch_first(mut self) -> Result<Self, ErrorBody> {
        loop {
            match self.rows.source.next(self.check_every) {
                NextRows::Idle => {}
                NextRows::Failed(error) => {
                    log_internal(&error);
                    return Err(ErrorBody::of_statement(&error, None, Vec::new()));
                }
                first => {
                    self.first = Some(first);
                    return Ok(self);
                }
            }
        }
    }

    fn run(mut self, sender: &mpsc::Sender<Bytes>) {
        let mut out = Vec::new();
        self.encoder.header(&mut out, &self.rows.query_id, &self.rows.columns);
        // The client may go at any time; then there is nobody to tell.
        let _ = self.pump(sender, out);
    }

    fn pump(&mut self, sender: &mpsc::Sender<Bytes>, mut out: Vec<u8>) -> Result<(), Closed> {
        loop {
            if !out.is_empty() {
                let chunk = Bytes::from(std::mem::take(&mut out));
                sender.blocking_send(chunk).map_err(|_| Closed)?;
            }
            let next = self.first.take().unwrap_or_else(|| self.rows.source.next(self.check_every));
            match next {
                NextRows::Batch { batch, tombstones } => {
                    for row in 0..batch.num_rows() {
                        self.encoder.rows(&mut out, &batch, tombstones.as_ref(), row..row + 1);
                        if out.len() >= CHUNK_BYTES {
                            self.spend(out.len(), sender)?;
                            let chunk = Bytes::from(std::mem::take(&mut out));
                            sender.blocking_send(chunk).map_err(|_| Closed)?;
                        }
                    }
                    self.spend(out.len(), sender)?;
                }
                NextRows::Idle if sender.is_closed() => return Err(Closed),
                NextRows::Idle => self.encoder.keep_alive(&mut out),
                NextRows::Done(message) => {
                    self.encoder.finish(&mut out, message.as_deref());
                    return send_last(sender, out);
                }
                NextRows::Failed(error) => {
                    log_internal(&error);
                    self.encoder.fail(&mut out, &ErrorBody::of(&error));
                    return send_last(sender, out);
                }
            }
        }
    }

    /// Counts bytes against the limit of a pull query's answer; past it says so and ends.
    fn spend(&mut self, bytes: usize, sender: &mpsc::Sender<Bytes>) -> Result<(), Closed> {
        if let Some(left) = self.bytes_left.checked_sub(bytes) {
            self.bytes_left = left;
            return Ok(());
        }
        let message = format!("The answer is larger than {}; add a LIMIT, or raise it", config::RESPONSE_BYTES);
        let mut out = Vec::new();
        self.encoder.fail(&mut out, &ErrorBody::bad_request(message));
        // The client may be gone; either way this was the last of it.
        let _ = send_last(sender, out);
        Err(Closed)
    }
}

fn send_last(sender: &mpsc::Sender<Bytes>, out: Vec<u8>) -> Result<(), Closed> {
    if out.is_empty() {
        return Ok(());
    }
    sender.blocking_send(Bytes::from(out)).map_err(|_| Closed)
}
