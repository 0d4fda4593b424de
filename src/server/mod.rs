//! The HTTP door: ksqlDB's API over one engine, on HTTP/1.1 and HTTP/2 without TLS (prior knowledge).
//!
//! The way of a request: [`router`] finds its endpoint; `statement` and `query` read the body, make a session of it ([`ServerState::session`])
//! and call the engine on a blocking thread; what comes back is written by `wire`. Rows go through a bounded channel, so that a slow
//! client slows its query, and dropping the response ends it. [`serve`] ends cleanly: running queries are told to stop, then open
//! requests are waited for, up to a limit.
//!
//! Left out: TLS and authentication (a proxy's work for now), the websocket.

mod backup;
mod cluster;
mod info;
mod inserts;
mod lines;
mod live;
mod negotiate;
mod query;
mod statement;
mod topics;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::extract::rejection::BytesRejection;
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::{self, Config, Dialect};
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::engine::{Engine, Session};
use crate::wire::error::{ErrorBody, SERVER_ERROR, SHUTTING_DOWN, TOO_LARGE};
use crate::wire::request::StatementRequest;

use live::LiveQueries;
use statement::Statuses;

/// How long open requests are waited for when the server ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// What all requests share.
pub struct ServerState {
    engine: Engine,
    config: Config,
    live: LiveQueries,
    statuses: Statuses,
    board: Arc<cluster::Board>,
    stopping: watch::Sender<bool>,
}

impl ServerState {
    /// The state of a server over `engine` with the server's properties.
    pub fn new(engine: Engine, config: Config) -> Arc<Self> {
        let live = LiveQueries::new(config.limit(config::MAX_PUSH_QUERIES), config.limit(config::PULL_MAX_CONCURRENT));
        let (statuses, board, stopping) = (Statuses::default(), Arc::default(), watch::Sender::new(false));
        Arc::new(Self { engine, config, live, statuses, board, stopping })
    }

    /// A session as a request describes it, its properties checked.
    fn session(&self, request: &StatementRequest) -> Result<Session, ErrorBody> {
        if *self.stopping.borrow() {
            return Err(ErrorBody::new(SHUTTING_DOWN, "The server is shutting down"));
        }
        let mut session = self.engine.session();
        for (name, value) in &request.properties {
            let canonical = config::check_session(name, value).map_err(|error| ErrorBody::of(&error))?;
            session.properties.insert(canonical.to_owned(), value.clone());
        }
        session.variables.extend(request.variables.clone());
        Ok(session)
    }

    fn dialect(&self) -> Dialect {
        self.config.dialect()
    }
}

/// All endpoints.
pub fn router(state: Arc<ServerState>) -> Router {
    let body_limit = state.config.size(config::REQUEST_BYTES);
    Router::new()
        .route("/", get(info::root))
        .route("/info", get(info::info))
        .route("/healthcheck", get(info::healthcheck))
        .route("/v1/metadata", get(info::metadata))
        .route("/v1/metadata/id", get(info::metadata_id))
        .route("/clusterStatus", get(cluster::cluster_status))
        .route("/heartbeat", post(cluster::heartbeat))
        .route("/lag", post(cluster::lag))
        .route("/state", post(cluster::state_entries))
        .route("/chc/ready", get(info::alive))
        .route("/chc/live", get(info::alive))
        .route("/wait-idle", post(info::wait_idle))
        .route("/catalog", get(info::catalog))
        .route("/is_valid_property/{name}", get(info::is_valid_property))
        .route("/backup", get(backup::backup))
        .route("/ksql", post(statement::ksql))
        .route("/status", get(statement::statuses))
        .route("/status/{kind}/{entity}/{action}", get(statement::status))
        .route("/query", post(query::query))
        .route("/query-stream", post(query::query_stream))
        .route("/close-query", post(query::close_query))
        .route("/inserts-stream", post(inserts::inserts_stream))
        .route("/topics/{topic}", get(topics::describe).post(topics::append).put(topics::create))
        .route("/topics/{topic}/records", get(topics::records))
        .fallback(|| async { (StatusCode::NOT_FOUND, "Not Found") })
        .layer(DefaultBodyLimit::max(body_limit))
        .with_state(state)
}

/// Serves until `shutdown` is done, then ends running queries and waits for open requests, ten seconds at most.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    state: Arc<ServerState>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    cluster::start(&state);
    let (stopped, mut stop_seen) = watch::channel(false);
    let stopping = state.clone();
    let signal = async move {
        shutdown.await;
        stopping.stopping.send_replace(true);
        stopping.live.cancel_all();
        stopped.send_replace(true);
    };
    let drained_too_long = async move {
        // An error means that the signal's future is gone: the server has ended by itself.
        let _ = stop_seen.wait_for(|stopped| *stopped).await;
        tokio::time::sleep(DRAIN_LIMIT).await;
    };
    tokio::select! {
        ended = axum::serve(listener, router(state)).with_graceful_shutdown(signal) => ended,
        () = drained_too_long => {
            tracing::warn!("some requests did not end in {} s; their connections are cut", DRAIN_LIMIT.as_secs());
            Ok(())
        }
    }
}

/// Runs an engine call on a thread that may block.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T, ErrorBody> {
    tokio::task::spawn_blocking(call).await.map_err(|error| {
        tracing::error!(%error, "a request's thread ended early");
        ErrorBody::new(SERVER_ERROR, crate::wire::error::INTERNAL_MESSAGE)
    })
}

/// The body of an error outside of a statement; what only the operator can mend is logged.
fn failed(diagnostic: &Diagnostic) -> ErrorBody {
    log_internal(diagnostic);
    ErrorBody::of(diagnostic)
}

/// Logs what is no fault of the client.
fn log_internal(diagnostic: &Diagnostic) {
    match diagnostic.class {
        ErrorClass::Fatal | ErrorClass::Query => tracing::error!("{diagnostic}"),
        ErrorClass::Retry => tracing::warn!("{diagnostic}"),
        ErrorClass::User | ErrorClass::Record => {}
    }
}

/// The bytes of a body, or why they could not be read.
fn body_bytes(body: Result<Bytes, BytesRejection>) -> Result<Bytes, ErrorBody> {
    body.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let name = config::REQUEST_BYTES;
            ErrorBody::new(TOO_LARGE, format!("The request body is larger than {name}; send less at once or raise it"))
        } else {
            ErrorBody::bad_request(rejection.body_text())
        }
    })
}

/// A response with a body of that media type.
fn response(status: u16, media_type: &str, body: Body) -> Response {
    let built = Response::builder().status(status).header(header::CONTENT_TYPE, media_type).body(body);
    built.expect("a status and a media type of ours make a response")
}

/// A JSON response.
fn json_response(status: u16, media_type: &str, json: &serde_json::Value) -> Response {
    response(status, media_type, Body::from(json.to_string()))
}

/// An error as a response.
fn error_response(error: &ErrorBody) -> Response {
    json_response(error.status(), crate::wire::rows::JSON, &error.to_json())
}

/// Either side of a handler as a response.
fn respond(result: Result<Response, ErrorBody>) -> Response {
    result.unwrap_or_else(|error| error_response(&error))
}
