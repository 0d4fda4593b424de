//! `/topics`: raw records in and out, ours.
//!
//! `PUT /topics/T` makes a topic of `partitions`; `POST /topics/T` takes an array of records, an object with `records`, or a record a line; `GET /topics/T/records` gives an array, or
//! lines where the client accepts them. The subtle thing: a read may wait (`wait_ms`) until there is something, so that a client
//! that follows a topic asks once a record and not once a tick.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ServerState, blocking, body_bytes, failed, json_response, negotiate, respond, response};
use crate::diagnostic::Diagnostic;
use crate::engine::{Engine, RawRecord, RecordPage, TopicDetail};
use crate::wire::error::{ErrorBody, NOT_FOUND};
use crate::wire::record::{self, END_OFFSET, JSON_LINES, NEXT_OFFSET, PartFormat};
use crate::wire::request::object;
use crate::wire::rows::JSON;

/// Records of one answer, unless the client says so.
const RECORDS_DEFAULT: usize = 1000;
/// Most records of one answer.
const RECORDS_MAX: usize = 100_000;
/// Longest wait of a read.
const WAIT_MAX: Duration = Duration::from_secs(60);

fn unknown(topic: &str) -> ErrorBody {
    ErrorBody::new(NOT_FOUND, format!("topic '{topic}' does not exist; SHOW TOPICS lists all"))
}

/// `{"name", "partitions": [{"partition", "start", "end"}]}`.
pub(super) async fn describe(State(state): State<Arc<ServerState>>, Path(topic): Path<String>) -> Response {
    respond(detail(&state, &topic).await.map(|detail| {
        let partition = |(i, (start, end)): (usize, &(i64, i64))| json!({ "partition": i, "start": start, "end": end });
        let partitions: Vec<Value> = detail.partitions.iter().enumerate().map(partition).collect();
        json_response(200, JSON, &json!({ "name": detail.name, "partitions": partitions }))
    }))
}

async fn detail(state: &ServerState, topic: &str) -> Result<TopicDetail, ErrorBody> {
    let (engine, name) = (state.engine.clone(), topic.to_owned());
    blocking(move || engine.topic(&name)).await?.map_err(|error| failed(&error))?.ok_or_else(|| unknown(topic))
}

/// Makes a topic; `{"name", "partitions"}` with the number of partitions.
pub(super) async fn create(
    State(state): State<Arc<ServerState>>,
    Path(topic): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    respond(create_topic(state, topic, body).await)
}

async fn create_topic(
    state: Arc<ServerState>,
    topic: String,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ErrorBody> {
    let body = body_bytes(body)?;
    let request = if body.is_empty() { Value::Null } else { object(&body)? };
    let partitions = match &request["partitions"] {
        Value::Null => 1,
        given => given.as_i64().and_then(|n| i32::try_from(n).ok()).ok_or_else(|| {
            ErrorBody::bad_request(format!("'partitions' is {given}; give a whole number of at least 1"))
        })?,
    };
    let (engine, name) = (state.engine.clone(), topic.clone());
    blocking(move || engine.create_topic(&name, partitions)).await?.map_err(|error| failed(&error))?;
    Ok(json_response(200, JSON, &json!({ "name": topic, "partitions": partitions })))
}

/// Appends; `{"offsets": [{"partition", "offset"}]}` when all is durable.
pub(super) async fn append(
    State(state): State<Arc<ServerState>>,
    Path(topic): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    respond(append_records(state, topic, body).await)
}

async fn append_records(
    state: Arc<ServerState>,
    topic: String,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ErrorBody> {
    let records = parse_records(&body_bytes(body)?)?;
    detail(&state, &topic).await?;
    let engine = state.engine.clone();
    let offsets = blocking(move || engine.append(&topic, records)).await?.map_err(|error| failed(&error))?;
    let offset = |(partition, offset): &(i32, i64)| json!({ "partition": partition, "offset": offset });
    Ok(json_response(200, JSON, &json!({ "offsets": offsets.iter().map(offset).collect::<Vec<_>>() })))
}

/// The records of a body, in any of its three shapes; an error says which record is wrong.
fn parse_records(body: &[u8]) -> Result<Vec<RawRecord>, ErrorBody> {
    let mut records = Vec::new();
    for value in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
        let value = value.map_err(|error| ErrorBody::bad_request(format!("Invalid JSON in request: {error}")))?;
        match value {
            Value::Array(many) => records.extend(many),
            Value::Object(mut object) if object.get("records").is_some_and(Value::is_array) => {
                if let Some(Value::Array(many)) = object.remove("records") {
                    records.extend(many);
                }
            }
            one => records.push(one),
        }
    }
    let numbered = |(i, json): (usize, &Value)| {
        record::from_json(json).map_err(|error| ErrorBody::bad_request(format!("record {}: {error}", i + 1)))
    };
    records.iter().enumerate().map(numbered).collect()
}

/// The parameters of a read.
#[derive(Deserialize)]
pub(super) struct ReadQuery {
    /// one partition; all of them if absent
    partition: Option<i32>,
    /// `beginning` (the default), `end`, or an offset
    from: Option<String>,
    /// at most so many records
    max: Option<usize>,
    /// wait so long in ms for a first record
    wait_ms: Option<u64>,
    /// a format of `wire::record`
    key_format: Option<String>,
    /// a format of `wire::record`
    value_format: Option<String>,
}

pub(super) async fn records(
    State(state): State<Arc<ServerState>>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Response {
    respond(read_records(state, topic, &headers, query).await)
}

async fn read_records(
    state: Arc<ServerState>,
    topic: String,
    headers: &HeaderMap,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Result<Response, ErrorBody> {
    let media_type = negotiate::media_type(headers, &[JSON, JSON_LINES])?;
    let Query(query) = query.map_err(|rejection| ErrorBody::bad_request(rejection.body_text()))?;
    let format = |name: &Option<String>| name.as_deref().map_or(Ok(PartFormat::Auto), PartFormat::parse);
    let key = format(&query.key_format).map_err(|error| ErrorBody::of(&error))?;
    let value = format(&query.value_format).map_err(|error| ErrorBody::of(&error))?;
    let starts = starts(&detail(&state, &topic).await?, &query)?;
    let engine = state.engine.clone();
    let page = blocking(move || read(&engine, &topic, &starts, &query)).await?.map_err(|error| failed(&error))?;
    let records = page.records;
    let lines: Vec<String> = records.iter().map(|r| record::to_json(r, key, value).to_string()).collect();
    let body = match media_type {
        JSON_LINES => lines.iter().map(|line| format!("{line}\n")).collect(),
        _ => format!("[{}]", lines.join(",\n")),
    };
    let mut answer = response(200, media_type, body.into());
    answer.headers_mut().insert(NEXT_OFFSET, page.next.into());
    answer.headers_mut().insert(END_OFFSET, page.end.into());
    Ok(answer)
}

/// Where each partition is read from.
fn starts(detail: &TopicDetail, query: &ReadQuery) -> Result<Vec<(i32, i64)>, ErrorBody> {
    let mut starts = Vec::new();
    for (partition, &(start, end)) in (0i32..).zip(&detail.partitions) {
        if query.partition.is_some_and(|wanted| wanted != partition) {
            continue;
        }
        let from = match query.from.as_deref() {
            None | Some("beginning") => start,
            Some("end") => end,
            Some(offset) => offset.parse().map_err(|_| {
                ErrorBody::bad_request(format!("'from' is '{offset}'; give beginning, end or an offset"))
            })?,
        };
        starts.push((partition, from));
    }
    if starts.is_empty() {
        let wanted = query.partition.unwrap_or(0);
        return Err(ErrorBody::new(NOT_FOUND, format!("topic '{}' has no partition {wanted}", detail.name)));
    }
    Ok(starts)
}

/// The records of these partitions, one after the other; `next` and `end` are those of the last one.
fn read(engine: &Engine, topic: &str, starts: &[(i32, i64)], query: &ReadQuery) -> Result<RecordPage, Diagnostic> {
    if let Some(ms) = query.wait_ms {
        engine.wait_records(topic, starts, Duration::from_millis(ms).min(WAIT_MAX))?;
    }
    let max = query.max.unwrap_or(RECORDS_DEFAULT).min(RECORDS_MAX);
    let mut all = RecordPage::default();
    for &(partition, from) in starts {
        all.next = from;
        while all.records.len() < max {
            let page = engine.read(topic, partition, all.next, max - all.records.len())?;
            let at_end = page.records.is_empty() && page.next <= all.next;
            (all.next, all.end) = (page.next.max(all.next), page.end);
            all.records.extend(page.records);
            if at_end {
                break;
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_in_three_shapes() {
        let one = r#"{"key":"a","value":"1"}"#;
        for body in [format!("[{one},{one}]"), format!("{{\"records\":[{one},{one}]}}"), format!("{one}\n{one}\n")] {
            let records = parse_records(body.as_bytes()).unwrap();
            assert_eq!(records.len(), 2, "{body}");
            assert_eq!(records[1].key.as_deref(), Some(&b"a"[..]));
        }
        assert!(parse_records(b"[{}, 5]").unwrap_err().message.starts_with("record 2: "));
    }
}
