//! A server as a client sees it: requests out, outcomes and rows back, in the shapes an engine gives.
//!
//! One small runtime of its own carries the requests, so that callers may block. SET, UNSET, DEFINE and UNDEFINE never reach the
//! server: they change what is sent with each request. The subtle thing: statements between two of those or two queries go in one
//! request, so that the server checks them together.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use super::http_rows::open_rows;
use super::{Client, ServerInfo};
use crate::config;
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::engine::{Outcome, OutcomeKind, RawRecord, ReadRecord, RecordPage, ScriptError, TopicDetail};
use crate::sql::ast::Statement;
use crate::sql::{self, RawStatement};
use crate::wire::entity;
use crate::wire::error::ErrorBody;
use crate::wire::record::{self, END_OFFSET, NEXT_OFFSET};
use crate::wire::request::{Endpoint, StatementRequest};
use crate::wire::rows::{DELIMITED, JSON, STREAMED_ROWS};
use crate::wire::statement::StatementClass;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Talks to a server.
pub struct HttpClient {
    base: String,
    /// HTTP/1.1, which every proxy passes on
    http: reqwest::Client,
    /// HTTP/2 from the first byte, for `/inserts-stream`
    http2: reqwest::Client,
    runtime: Runtime,
    properties: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
}

impl HttpClient {
    /// A client of the server at `url`, such as `http://localhost:8088`. Nothing is sent yet.
    ///
    /// # Errors
    /// A URL that is none, or not of HTTP.
    pub fn new(url: &str) -> Result<Self, Diagnostic> {
        let with_scheme = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let parsed = reqwest::Url::parse(&with_scheme).map_err(|error| {
            Diagnostic::user(format!("'{url}' is not a URL: {error}")).help("write http://host:port")
        })?;
        if parsed.scheme() != "http" {
            return Err(Diagnostic::user(format!("'{url}' is not a URL of HTTP"))
                .help("write http://host:port; for TLS put a proxy between"));
        }
        let inside = |error: &dyn std::fmt::Display| {
            Diagnostic::new(ErrorClass::Fatal, format!("cannot start an HTTP client: {error}"))
        };
        let builder = || reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT);
        Ok(Self {
            base: with_scheme.trim_end_matches('/').to_owned(),
            http: builder().build().map_err(|error| inside(&error))?,
            http2: builder().http2_prior_knowledge().build().map_err(|error| inside(&error))?,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .map_err(|error| inside(&error))?,
            properties: BTreeMap::new(),
            variables: BTreeMap::new(),
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Diagnostic {
        let mut reason = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            reason = inner.to_string();
            cause = inner.source();
        }
        Diagnostic::new(ErrorClass::Retry, format!("The server at {} cannot be reached: {reason}", self.base))
            .help("start one with 'riverrun server', or name another with --server URL")
    }

    fn request(&self) -> StatementRequest {
        StatementRequest { text: String::new(), properties: self.properties.clone(), variables: self.variables.clone() }
    }

    /// Sends a request and waits for the head of the response; other statuses than success become errors.
    async fn send(
        &self,
        http: &reqwest::Client,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<String>,
    ) -> Result<Response, ErrorBody> {
        let request = http.request(method, format!("{}{path}", self.base)).header("accept", accept);
        let request = match body {
            Some(body) => request.header("content-type", JSON).body(body),
            None => request,
        };
        let response = request.send().await.map_err(|error| unreachable_body(&self.unreachable(&error)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        let parsed = serde_json::from_str(&text).ok().and_then(|json| ErrorBody::from_json(&json));
        Err(parsed.unwrap_or_else(|| {
            let message = format!("The server at {} answered {status}: {text}", self.base);
            ErrorBody::new(u32::from(status.as_u16()) * 100, message)
        }))
    }

    /// A JSON request and its JSON answer.
    fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, ErrorBody> {
        self.runtime.block_on(async {
            let body = body.map(|body| body.to_string());
            let response = self.send(&self.http, method, path, JSON, body).await?;
            let text = response.text().await.map_err(|error| unreachable_body(&self.unreachable(&error)))?;
            serde_json::from_str(&text).map_err(|error| {
                ErrorBody::bad_request(format!("The server at {} does not speak this API: {error}", self.base))
            })
        })
    }

    /// Writes a copy of the server's data to `out`; gives its bytes.
    ///
    /// # Errors
    /// A server that cannot be reached or breaks off; what cannot be written.
    pub fn backup(&self, out: &mut dyn std::io::Write) -> Result<u64, Diagnostic> {
        self.runtime.block_on(async {
            let response = self.send(&self.http, Method::GET, "/backup", "*/*", None).await;
            let mut response = response.map_err(|error| error.to_diagnostic())?;
            let mut bytes = 0;
            while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
                out.write_all(&chunk)
                    .map_err(|error| Diagnostic::user(format!("the backup cannot be written: {error}")))?;
                bytes += chunk.len() as u64;
            }
            Ok(bytes)
        })
    }

    fn ksql(&self, text: &str) -> Result<Vec<Outcome>, ScriptError> {
        let request = StatementRequest { text: text.to_owned(), ..self.request() };
        let answer = self.ask(Method::POST, "/ksql", Some(request.to_json(Endpoint::Ksql)));
        let json = answer.map_err(|error| script_error(&error))?;
        let entities: Result<Vec<_>, _> = json.as_array().into_iter().flatten().map(entity::from_json).collect();
        entities.map_err(|diagnostic| ScriptError { done: Vec::new(), statement: None, diagnostic })
    }

    fn query(&self, statement: &str, class: StatementClass) -> Result<Outcome, ScriptError> {
        let request = StatementRequest { text: statement.to_owned(), ..self.request() };
        let body = request.to_json(Endpoint::QueryStream).to_string();
        let accept = if class == StatementClass::Print { DELIMITED } else { STREAMED_ROWS };
        let rows = self.runtime.block_on(async {
            let response = self.send(&self.http, Method::POST, "/query-stream", accept, Some(body)).await?;
            open_rows(response, class, self.runtime.handle().clone()).await
        });
        let rows = rows.map_err(|error| {
            let mut error = script_error(&error);
            error.statement.get_or_insert_with(|| statement.to_owned());
            error
        })?;
        let kind = OutcomeKind::Rows(Box::new(rows));
        Ok(Outcome { statement: statement.to_owned(), kind, warnings: Vec::new() })
    }

    /// SET, UNSET, DEFINE, UNDEFINE.
    fn change_session(&mut self, text: &str) -> Result<Outcome, Diagnostic> {
        let variables = &self.variables;
        let lookup = |name: &str| {
            variables.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        };
        let text = sql::substitute(text, &lookup)?;
        let mut warnings = Vec::new();
        match sql::parse_statement(&text)? {
            Statement::Set { name, value } => self.set(&name.value, &value.value)?,
            Statement::Unset { name } => {
                let canonical = config::expect_editable(&name.value)?;
                self.properties.remove(canonical);
            }
            Statement::Define { name, value } => self.define(&name.value, &value.value),
            Statement::Undefine { name } => {
                let before = self.variables.len();
                self.variables.retain(|known, _| !known.eq_ignore_ascii_case(&name.value));
                if self.variables.len() == before {
                    let name = &name.value;
                    warnings.push(format!("Cannot undefine variable '{name}' which was never defined"));
                }
            }
            other => return Err(Diagnostic::user(format!("'{other}' does not change the session"))),
        }
        Ok(Outcome { statement: text, kind: OutcomeKind::Silent, warnings })
    }

    /// One run of statements that go the same way.
    fn execute_run(&mut self, text: &str, run: &[RawStatement<'_>]) -> Result<Vec<Outcome>, ScriptError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(Vec::new()) };
        let class = StatementClass::of(first.text);
        if class.is_query() {
            return self.query(first.text, class).map(|outcome| vec![outcome]);
        }
        if class == StatementClass::Session {
            return self.change_session(first.text).map(|outcome| vec![outcome]).map_err(|diagnostic| ScriptError {
                done: Vec::new(),
                statement: Some(first.text.to_owned()),
                diagnostic,
            });
        }
        self.ksql(&text[first.span.start..last.span.end])
    }
}

fn unreachable_body(diagnostic: &Diagnostic) -> ErrorBody {
    ErrorBody::of(diagnostic)
}

fn script_error(error: &ErrorBody) -> ScriptError {
    ScriptError {
        done: error.entities.iter().filter_map(|json| entity::from_json(json).ok()).collect(),
        statement: error.statement.clone(),
        diagnostic: error.to_diagnostic(),
    }
}

/// True if two statements next to each other go in one request.
fn go_together(a: &RawStatement<'_>, b: &RawStatement<'_>) -> bool {
    let other = |s: &RawStatement<'_>| StatementClass::of(s.text) == StatementClass::Other;
    other(a) && other(b)
}

/// A name as a part of a URL's path.
fn path_part(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'~');
    let part = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    name.bytes().map(part).collect()
}

impl Client for HttpClient {
    fn execute(&mut self, text: &str) -> Result<Vec<Outcome>, ScriptError> {
        let statements =
            sql::split(text).map_err(|diagnostic| ScriptError { done: Vec::new(), statement: None, diagnostic })?;
        let mut done = Vec::new();
        for run in statements.chunk_by(go_together) {
            match self.execute_run(text, run) {
                Ok(outcomes) => done.extend(outcomes),
                Err(error) => {
                    done.extend(error.done);
                    return Err(ScriptError { done, ..error });
                }
            }
        }
        Ok(done)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Diagnostic> {
        let canonical = config::check_session(name, value)?;
        self.properties.insert(canonical.to_owned(), value.to_owned());
        Ok(())
    }

    fn define(&mut self, name: &str, value: &str) {
        self.variables.retain(|known, _| !known.eq_ignore_ascii_case(name));
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    fn wait_idle(&mut self, timeout: Option<Duration>) -> Result<(), Diagnostic> {
        let body = timeout.map_or(json!({}), |t| json!({ "timeoutMs": t.as_millis() as u64 }));
        self.ask(Method::POST, "/wait-idle", Some(body)).map(drop).map_err(|error| error.to_diagnostic())
    }

    fn names(&mut self) -> Result<Vec<(String, Vec<String>)>, Diagnostic> {
        let json = self.ask(Method::GET, "/catalog", None).map_err(|error| error.to_diagnostic())?;
        let columns =
            |v: &Value| v.as_array().into_iter().flatten().filter_map(|c| Some(c.as_str()?.to_owned())).collect();
        Ok(json.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), columns(value))).collect())
    }

    fn info(&mut self) -> Result<ServerInfo, Diagnostic> {
        let json = self.ask(Method::GET, "/info", None).map_err(|error| error.to_diagnostic())?;
        let info = &json["KsqlServerInfo"];
        match (info["version"].as_str(), info["ksqlServiceId"].as_str()) {
            (Some(version), Some(service_id)) => Ok(ServerInfo {
                version: version.to_owned(),
                service_id: service_id.to_owned(),
                location: self.base.clone(),
            }),
            _ => Err(Diagnostic::user(format!(
                "Remote server at {} does not appear to be a valid KSQL server",
                self.base
            ))
            .help("ensure that the URL provided is for an active KSQL server")),
        }
    }

    fn insert(
        &mut self,
        target: &str,
        rows: Vec<Map<String, Value>>,
    ) -> Result<Vec<Result<(), Diagnostic>>, Diagnostic> {
        let mut body = format!("{}\n", json!({ "target": target, "properties": self.properties }));
        for row in &rows {
            body.push_str(&Value::Object(row.clone()).to_string());
            body.push('\n');
        }
        let answer = self.runtime.block_on(async {
            let response = self.send(&self.http2, Method::POST, "/inserts-stream", DELIMITED, Some(body)).await?;
            response.text().await.map_err(|error| unreachable_body(&self.unreachable(&error)))
        });
        let text = answer.map_err(|error| error.to_diagnostic())?;
        let result = |line: &str| {
            let json: Value = serde_json::from_str(line).unwrap_or_default();
            if json["status"] == "ok" {
                return Ok(());
            }
            let error = ErrorBody::from_json(&json).map(|error| error.to_diagnostic());
            Err(error.unwrap_or_else(|| Diagnostic::user(format!("the server sent '{line}'"))))
        };
        Ok(text.lines().map(result).collect())
    }

    fn topic(&mut self, name: &str) -> Result<Option<TopicDetail>, Diagnostic> {
        let json = match self.ask(Method::GET, &format!("/topics/{}", path_part(name)), None) {
            Ok(json) => json,
            Err(error) if error.status() == StatusCode::NOT_FOUND.as_u16() => return Ok(None),
            Err(error) => return Err(error.to_diagnostic()),
        };
        let bound = |p: &Value| (p["start"].as_i64().unwrap_or(0), p["end"].as_i64().unwrap_or(0));
        let partitions = json["partitions"].as_array().into_iter().flatten().map(bound).collect();
        Ok(Some(TopicDetail { name: name.to_owned(), partitions }))
    }

    fn create_topic(&mut self, name: &str, partitions: i32) -> Result<(), Diagnostic> {
        let body = json!({ "partitions": partitions });
        let made = self.ask(Method::PUT, &format!("/topics/{}", path_part(name)), Some(body));
        made.map(drop).map_err(|error| error.to_diagnostic())
    }

    fn append(&mut self, topic: &str, records: Vec<RawRecord>) -> Result<Vec<(i32, i64)>, Diagnostic> {
        let mut body = String::new();
        for record in &records {
            body.push_str(&record::raw_to_json(record).to_string());
            body.push('\n');
        }
        let path = format!("/topics/{}", path_part(topic));
        let answer = self.runtime.block_on(async {
            let response = self.send(&self.http, Method::POST, &path, JSON, Some(body)).await?;
            response.text().await.map_err(|error| unreachable_body(&self.unreachable(&error)))
        });
        let text = answer.map_err(|error| error.to_diagnostic())?;
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let offset = |o: &Value| Some((o["partition"].as_i64()?.try_into().ok()?, o["offset"].as_i64()?));
        Ok(json["offsets"].as_array().into_iter().flatten().filter_map(offset).collect())
    }

    fn read(&mut self, topic: &str, partition: i32, from: i64, max: usize) -> Result<RecordPage, Diagnostic> {
        self.read_after(topic, partition, from, max, Duration::ZERO)
    }

    fn wait_records(&mut self, topic: &str, from: &[(i32, i64)], timeout: Duration) -> Result<bool, Diagnostic> {
        let each = timeout / u32::try_from(from.len().max(1)).unwrap_or(u32::MAX);
        for &(partition, offset) in from {
            if !self.read_after(topic, partition, offset, 1, each)?.records.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn close(self: Box<Self>) -> Result<(), Diagnostic> {
        // A request that hangs must not hold up the end.
        self.runtime.shutdown_background();
        Ok(())
    }
}

impl HttpClient {
    fn read_after(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        max: usize,
        wait: Duration,
    ) -> Result<RecordPage, Diagnostic> {
        let path = format!(
            "/topics/{}/records?partition={partition}&from={from}&max={max}&wait_ms={}",
            path_part(topic),
            wait.as_millis()
        );
        let answer = self.runtime.block_on(async {
            let response = self.send(&self.http, Method::GET, &path, JSON, None).await?;
            let header = |name: &str| response.headers().get(name)?.to_str().ok()?.parse::<i64>().ok();
            let offsets = (header(NEXT_OFFSET), header(END_OFFSET));
            let text = response.text().await.map_err(|error| unreachable_body(&self.unreachable(&error)))?;
            Ok::<_, ErrorBody>((offsets, text))
        });
        let ((next, end), text) = answer.map_err(|error| error.to_diagnostic())?;
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let records: Result<Vec<ReadRecord>, _> =
            json.as_array().into_iter().flatten().map(record::read_from_json).collect();
        Ok(RecordPage { records: records?, next: next.unwrap_or(from), end: end.unwrap_or(from) })
    }
}
