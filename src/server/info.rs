//! Small endpoints: what the server is, whether it is well, what a property may be.
//!
//! `/catalog` and `/wait-idle` are ours: a shell completes names by the first, `riverrun run` waits by the second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{ServerState, blocking, body_bytes, error_response, failed, json_response, respond};
use crate::wire::VERSION;
use crate::wire::error::ErrorBody;
use crate::wire::request::object;
use crate::wire::rows::JSON;

fn ok(json: &Value) -> Response {
    json_response(200, JSON, json)
}

/// What stands for the id of a Kafka cluster.
const CLUSTER_ID: &str = "riverrun";

pub(super) async fn root() -> Response {
    Redirect::temporary("/info").into_response()
}

pub(super) async fn info(State(state): State<Arc<ServerState>>) -> Response {
    ok(&json!({ "KsqlServerInfo": {
        "version": VERSION,
        "kafkaClusterId": CLUSTER_ID,
        "ksqlServiceId": state.engine.service_id(),
        "serverStatus": "RUNNING",
    }}))
}

pub(super) async fn healthcheck(State(state): State<Arc<ServerState>>) -> Response {
    let stopping = *state.stopping.borrow();
    let healthy = json!({ "isHealthy": true });
    ok(&json!({
        "isHealthy": !stopping,
        "details": { "metastore": healthy, "kafka": healthy, "commandRunner": healthy },
        "serverState": if stopping { "TERMINATING" } else { "READY" },
    }))
}

fn cluster_id(state: &ServerState) -> Value {
    let clusters = json!({ "kafka-cluster": CLUSTER_ID, "ksql-cluster": state.engine.service_id() });
    json!({ "scope": { "path": [], "clusters": clusters }, "id": "" })
}

pub(super) async fn metadata(State(state): State<Arc<ServerState>>) -> Response {
    ok(&json!({ "version": VERSION, "clusterId": cluster_id(&state) }))
}

pub(super) async fn metadata_id(State(state): State<Arc<ServerState>>) -> Response {
    ok(&cluster_id(&state))
}

pub(super) async fn alive() -> Response {
    ok(&json!({}))
}

pub(super) async fn is_valid_property(Path(name): Path<String>) -> Response {
    match crate::config::expect_editable(&name) {
        Ok(_) => ok(&json!(true)),
        Err(error) => error_response(&ErrorBody::of(&error)),
    }
}

/// `{"S": ["ID", "V"], …}`.
pub(super) async fn catalog(State(state): State<Arc<ServerState>>) -> Response {
    let engine = state.engine.clone();
    let names = blocking(move || engine.catalog_names()).await;
    respond(names.map(|names| ok(&json!(names.into_iter().collect::<BTreeMap<_, _>>()))))
}

/// `{"timeoutMs"?: n}` → `{"idle": true}` when all persistent queries have consumed and committed what is there.
pub(super) async fn wait_idle(State(state): State<Arc<ServerState>>, body: Result<Bytes, BytesRejection>) -> Response {
    respond(idle(state, body).await)
}

async fn idle(state: Arc<ServerState>, body: Result<Bytes, BytesRejection>) -> Result<Response, ErrorBody> {
    let body = body_bytes(body)?;
    let request = if body.is_empty() { Value::Null } else { object(&body)? };
    let timeout = request["timeoutMs"].as_u64().map(Duration::from_millis);
    let engine = state.engine.clone();
    match blocking(move || engine.wait_idle(timeout)).await? {
        Ok(()) => Ok(ok(&json!({ "idle": true }))),
        Err(error) => Err(failed(&error)),
    }
}
