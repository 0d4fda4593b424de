//! The HTTP API against a server on a free port of the loopback: shapes, errors, streams, both protocols, a clean end.
//!
//! Over the wire only, with a plain client: what our own client hides (media types, separators, statuses) is what is tested here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use reqwest::{Client, Response};
use riverrun::config::Config;
use riverrun::engine::{Engine, EngineConfig};
use riverrun::server::{ServerState, serve};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longest time that any single step may take.
const PATIENCE: Duration = Duration::from_secs(20);

const CREATE: &str = "CREATE STREAM s (k STRING KEY, v INT) WITH (KAFKA_TOPIC='s', VALUE_FORMAT='JSON', PARTITIONS=1);";

struct TestServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<std::io::Result<()>>,
    engine: Engine,
    http: Client,
}

impl TestServer {
    async fn start(properties: &[(&str, &str)]) -> Self {
        let properties: BTreeMap<String, String> =
            properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let config = Config::new(&properties).unwrap();
        let engine = Engine::open(EngineConfig { properties, ..EngineConfig::default() }).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let state = ServerState::new(engine.clone(), config);
        let ended = tokio::spawn(serve(state, listener, async { _ = stopped.await }));
        Self { address, stop: Some(stop), ended, engine, http: Client::new() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> Response {
        self.http.get(self.url(path)).send().await.unwrap()
    }

    async fn post(&self, path: &str, accept: &str, body: String) -> Response {
        self.http.post(self.url(path)).header("accept", accept).body(body).send().await.unwrap()
    }

    async fn ksql(&self, text: &str) -> Response {
        self.post("/ksql", "*/*", json!({ "ksql": text }).to_string()).await
    }

    async fn ksql_ok(&self, text: &str) -> Value {
        let response = self.ksql(text).await;
        let (status, body) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn stream(&self, sql: &str, accept: &str, earliest: bool) -> Response {
        let reset = if earliest { "earliest" } else { "latest" };
        let body = json!({ "sql": sql, "properties": { "auto.offset.reset": reset } });
        self.post("/query-stream", accept, body.to_string()).await
    }

    async fn end(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.ended).await.expect("the server ends").unwrap().unwrap();
        self.engine.close().unwrap();
    }
}

#[tokio::test]
async fn an_answer_above_its_limit_ends_with_an_error_and_the_next_goes_on() {
    let server = TestServer::start(&[("response.max.bytes", "2000")]).await;
    server.ksql_ok(CREATE).await;
    let rows: Vec<String> = (0..200).map(|n| format!("('key {n}', {n})")).collect();
    server.ksql_ok(&format!("INSERT INTO s VALUES {};", rows.join(", "))).await;
    for accept in ["application/vnd.ksqlapi.delimited.v1", "application/json"] {
        let text = server.stream("SELECT * FROM s;", accept, true).await.text().await.unwrap();
        assert!(text.contains("response.max.bytes") && text.contains("add a LIMIT"), "{accept}: {text}");
        assert!(text.len() < 4000 && !text.contains("key 199"), "{accept}: {text}");
        let text = server.stream("SELECT * FROM s LIMIT 2;", accept, true).await.text().await.unwrap();
        assert!(text.contains("key 1") && !text.contains("response.max.bytes"), "{accept}: {text}");
    }
    // what streams on has no end to be bounded
    let text = server.stream("SELECT * FROM s EMIT CHANGES LIMIT 200;", "application/json", true).await.text().await;
    assert!(text.unwrap().contains("key 199"));
    server.end().await;
}

async fn error_of(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

async fn json_of(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// Reads from a response until its bytes so far satisfy `enough`.
async fn read_until(response: &mut Response, enough: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    while !enough(&text) {
        let chunk = tokio::time::timeout(PATIENCE, response.chunk()).await.expect("bytes come").unwrap();
        text.push_str(std::str::from_utf8(&chunk.expect("more bytes")).unwrap());
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_answer_with_entities() {
    let server = TestServer::start(&[]).await;
    let response = server.ksql(CREATE).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.ksql.v1+json");
    let entities = json_of(response).await;
    assert_eq!(entities[0]["@type"], "currentStatus");
    assert_eq!(entities[0]["commandStatus"]["status"], "SUCCESS");
    assert_eq!(entities[0]["commandId"], "stream/`S`/create");
    let listed = server.ksql_ok("INSERT INTO s VALUES ('a', 1); SHOW STREAMS;").await;
    assert_eq!(listed.as_array().unwrap().len(), 1, "INSERT has no entity");
    assert_eq!(listed[0]["streams"][1]["name"], "S");
    let status = json_of(server.get("/status/stream/%60S%60/create").await).await;
    assert_eq!(status["status"], "SUCCESS");
    assert_eq!(server.get("/status/stream/%60X%60/create").await.status(), 404);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_say_why_with_ksqldbs_codes() {
    let server = TestServer::start(&[("statement.max.bytes", "200"), ("request.max.bytes", "2000")]).await;
    let (status, error) = error_of(server.post("/ksql", "*/*", "{".into()).await).await;
    assert_eq!((status, &error["error_code"], &error["@type"]), (400, &json!(40000), &json!("generic_error")));
    let (status, error) = error_of(server.ksql("SELCT 1;").await).await;
    assert_eq!((status, &error["error_code"], &error["@type"]), (400, &json!(40001), &json!("statement_error")));
    assert_eq!(error["statementText"], "SELCT 1;");
    assert!(error["message"].as_str().unwrap().contains("^^^"), "the place is shown: {error}");
    let (_, error) = error_of(server.ksql("SHOW STREAMS; SELECT * FROM s;").await).await;
    assert_eq!((&error["error_code"], &error["statementText"]), (&json!(40002), &json!("SELECT * FROM s;")));
    let body = json!({ "ksql": "SHOW STREAMS;", "streamsProperties": { "auto.ofset.reset": "earliest" } });
    let (status, error) = error_of(server.post("/ksql", "*/*", body.to_string()).await).await;
    assert_eq!((status, &error["error_code"]), (400, &json!(40000)));
    assert!(error["message"].as_str().unwrap().contains("auto.offset.reset"), "{error}");
    let (_, error) =
        error_of(server.ksql(&format!("SHOW STREAMS; -- {}\nSHOW {};", "x".repeat(300), "x".repeat(300))).await).await;
    assert!(error["message"].as_str().unwrap().contains("statement.max.bytes"), "{error}");
    let (status, _) = error_of(server.ksql(&"x".repeat(3000)).await).await;
    assert_eq!(status, 413);
    assert_eq!(server.post("/ksql", "text/html", json!({ "ksql": "SHOW STREAMS;" }).to_string()).await.status(), 406);
    let missing = server.get("/nowhere").await;
    assert_eq!((missing.status().as_u16(), missing.text().await.unwrap().as_str()), (404, "Not Found"));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_error_keeps_what_was_done_before() {
    let server = TestServer::start(&[]).await;
    server.ksql_ok(CREATE).await;
    let (status, error) = error_of(server.ksql("DROP STREAM nothing_here;").await).await;
    assert_eq!((status, &error["error_code"]), (400, &json!(40001)));
    assert_eq!(error["entities"], json!([]));
    let (status, error) = error_of(server.ksql("ASSERT TOPIC nowhere TIMEOUT 0 SECONDS;").await).await;
    assert_eq!((status, &error["error_code"]), (417, &json!(41700)));
    let (status, _) = error_of(server.ksql("ASSERT TOPIC;").await).await;
    assert_eq!(status, 400, "an ASSERT that is wrong as a statement");
    let answer = server.ksql_ok(&CREATE.replace("STREAM s", "STREAM IF NOT EXISTS s")).await;
    assert_eq!(answer[0]["@type"], "warning_entity");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn push_queries_stream_rows_as_they_come() {
    let server = TestServer::start(&[]).await;
    server.ksql_ok(CREATE).await;
    let sql = "SELECT k, v FROM s EMIT CHANGES LIMIT 2;";
    let mut response = server.stream(sql, "application/vnd.ksqlapi.delimited.v1", true).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.ksqlapi.delimited.v1");
    let head = read_until(&mut response, |text| text.ends_with('\n')).await;
    let head: Value = serde_json::from_str(&head).unwrap();
    assert_eq!(head["columnNames"], json!(["K", "V"]));
    assert_eq!(head["columnTypes"], json!(["STRING", "INTEGER"]));
    assert!(head["queryId"].is_string());
    server.ksql_ok("INSERT INTO s VALUES ('a', 1);").await;
    assert_eq!(read_until(&mut response, |text| text.ends_with('\n')).await, "[\"a\",1]\n");
    server.ksql_ok("INSERT INTO s VALUES ('b', 2);").await;
    assert_eq!(response.text().await.unwrap(), "[\"b\",2]\n");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_endpoints_know_their_media_types() {
    let server = TestServer::start(&[]).await;
    server.ksql_ok(CREATE).await;
    server.ksql_ok("INSERT INTO s VALUES ('a', 1);").await;
    let sql = "SELECT * FROM s EMIT CHANGES LIMIT 1;";
    let array = json_of(server.stream(sql, "application/json", true).await).await;
    assert_eq!((array.as_array().unwrap().len(), &array[1]), (2, &json!(["a", 1])));
    let body = json!({ "ksql": sql, "streamsProperties": { "ksql.streams.auto.offset.reset": "earliest" } });
    let response = server.post("/query", "*/*", body.to_string()).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.ksql.v1+json");
    let rows = json_of(response).await;
    assert_eq!(rows[0]["header"]["schema"], "`K` STRING, `V` INTEGER");
    assert_eq!(rows[1], json!({ "row": { "columns": ["a", 1] } }));
    assert_eq!(rows[2], json!({ "finalMessage": "Limit Reached" }));
    let rows = json_of(server.stream("SELECT * FROM s;", "application/vnd.ksql.v1+json", false).await).await;
    assert_eq!(rows[1], json!({ "row": { "columns": ["a", 1] } }));
    assert_eq!(rows[2], json!({ "finalMessage": "Query Completed" }));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn push_queries_are_limited_and_end_with_their_connection() {
    let server = TestServer::start(&[("ksql.max.push.queries", "1")]).await;
    server.ksql_ok(CREATE).await;
    let sql = "SELECT * FROM s EMIT CHANGES;";
    let mut first = server.stream(sql, "*/*", false).await;
    let head = read_until(&mut first, |text| text.ends_with('\n')).await;
    let (status, error) = error_of(server.stream(sql, "*/*", false).await).await;
    assert_eq!((status, &error["error_code"]), (400, &json!(40003)));
    // Closing by id.
    let id = serde_json::from_str::<Value>(&head).unwrap()["queryId"].clone();
    let closed = server.post("/close-query", "*/*", json!({ "queryId": id }).to_string()).await;
    assert_eq!(closed.status(), 200);
    assert_eq!(first.text().await.unwrap(), "");
    let (status, error) =
        error_of(server.post("/close-query", "*/*", json!({ "queryId": "no" }).to_string()).await).await;
    assert_eq!((status, &error["message"]), (400, &json!("No query with id no")));
    // Closing by connection: the place is free again as soon as the server has seen it.
    let second = retry_stream(&server, sql).await;
    drop(second);
    drop(retry_stream(&server, sql).await);
    server.end().await;
}

/// Starts a push query as soon as the one before is gone.
async fn retry_stream(server: &TestServer, sql: &str) -> Response {
    let attempt = async {
        loop {
            let response = server.stream(sql, "*/*", false).await;
            if response.status() == 200 {
                return response;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, attempt).await.expect("a closed query gives its place back")
}

#[tokio::test(flavor = "multi_thread")]
async fn print_is_lines() {
    let server = TestServer::start(&[]).await;
    server.ksql_ok(CREATE).await;
    server.ksql_ok("INSERT INTO s VALUES ('a', 1);").await;
    let response = server.stream("PRINT 's' FROM BEGINNING LIMIT 1;", "*/*", false).await;
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    let text = response.text().await.unwrap();
    assert!(text.lines().any(|line| line.starts_with("rowtime: ")), "{text}");
    let (status, _) = error_of(server.stream("PRINT 'nothing';", "*/*", false).await).await;
    assert_eq!(status, 400);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_are_acknowledged_in_order_on_both_protocols() {
    let server = TestServer::start(&[]).await;
    server.ksql_ok(CREATE).await;
    let h2c = Client::builder().http2_prior_knowledge().build().unwrap();
    for http in [&h2c, &server.http] {
        let body = "{\"target\":\"s\"}\n{\"k\":\"a\",\"v\":1}\n{\"K\":\"b\",\"V\":2}\n{\"k\":\"c\",\"v\":\"x\"}\n{\"k\":\"d\",\"v\":4}\n";
        let response = http.post(server.url("/inserts-stream")).body(body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let text = response.text().await.unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0], json!({ "status": "ok", "seq": 0 }));
        assert_eq!(lines[1], json!({ "status": "ok", "seq": 1 }));
        assert_eq!((&lines[2]["status"], &lines[2]["seq"]), (&json!("error"), &json!(2)));
        assert_eq!(lines.len(), 3, "the first error ends the answers");
    }
    let unknown = h2c.post(server.url("/inserts-stream")).body("{\"target\":\"x\"}\n").send().await.unwrap();
    let (status, error) = error_of(unknown).await;
    assert_eq!((status, &error["error_code"]), (400, &json!(40001)));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_answer_while_the_body_is_still_open() {
    let server = TestServer::start(&[]).await;
    server.ksql_ok(CREATE).await;
    let h2c = Client::builder().http2_prior_knowledge().build().unwrap();
    let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<String, std::io::Error>>();
    sender.unbounded_send(Ok("{\"target\":\"S\"}\n{\"K\":\"a\",\"V\":1}\n".into())).unwrap();
    let body = reqwest::Body::wrap_stream(receiver.boxed());
    let mut response = h2c.post(server.url("/inserts-stream")).body(body).send().await.unwrap();
    assert_eq!(read_until(&mut response, |text| text.ends_with('\n')).await, "{\"status\":\"ok\",\"seq\":0}\n");
    sender.unbounded_send(Ok("{\"K\":\"b\",\"V\":2}\n".into())).unwrap();
    assert_eq!(read_until(&mut response, |text| text.ends_with('\n')).await, "{\"status\":\"ok\",\"seq\":1}\n");
    sender.close_channel();
    assert_eq!(response.text().await.unwrap(), "");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ksql_dialect_wants_http2_for_inserts() {
    let server = TestServer::start(&[("riverrun.dialect", "ksql")]).await;
    let (status, error) = error_of(server.post("/inserts-stream", "*/*", "{\"target\":\"s\"}\n".into()).await).await;
    assert_eq!((status, &error["error_code"]), (400, &json!(40004)));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_records_go_in_and_out() {
    let server = TestServer::start(&[]).await;
    server.ksql_ok(CREATE).await;
    let records = r#"[{"key":"a","value":{"V":1},"timestamp":1000,"headers":[{"key":"h","value":"x"}]},{"key":"/w==","keyEncoding":"base64","value":null,"timestamp":2000}]"#;
    let answer = json_of(server.post("/topics/s", "*/*", records.into()).await).await;
    assert_eq!(answer["offsets"], json!([{ "partition": 0, "offset": 0 }, { "partition": 0, "offset": 1 }]));
    let read = json_of(server.get("/topics/s/records?partition=0&from=0").await).await;
    assert_eq!(
        read[0],
        json!({ "partition": 0, "offset": 0, "timestamp": 1000, "key": "a", "value": "{\"V\":1}", "headers": [{ "key": "h", "value": "x" }] })
    );
    assert_eq!(
        (&read[1]["key"], &read[1]["keyEncoding"], &read[1]["value"]),
        (&json!("/w=="), &json!("base64"), &Value::Null)
    );
    let lines = server.http.get(server.url("/topics/s/records?from=1&value_format=JSON"));
    let text = lines.header("accept", "application/x-ndjson").send().await.unwrap().text().await.unwrap();
    assert_eq!(text.lines().count(), 1);
    let detail = json_of(server.get("/topics/s").await).await;
    assert_eq!(detail["partitions"], json!([{ "partition": 0, "start": 0, "end": 2 }]));
    assert_eq!(server.get("/topics/none").await.status(), 404);
    let put = |body: &'static str| server.http.put(server.url("/topics/made")).body(body).send();
    assert_eq!(put(r#"{"partitions":0}"#).await.unwrap().status(), 400);
    assert_eq!(put(r#"{"partitions":"x"}"#).await.unwrap().status(), 400);
    assert_eq!(put(r#"{"partitions":3}"#).await.unwrap().status(), 200);
    let made = json_of(server.get("/topics/made").await).await;
    assert_eq!(made["partitions"].as_array().unwrap().len(), 3);
    let (status, twice) = error_of(put("").await.unwrap()).await;
    assert!(status == 400 && twice["message"].as_str().unwrap().contains("made"), "{twice}");
    assert_eq!(server.post("/topics/none", "*/*", "[]".into()).await.status(), 404);
    assert_eq!(server.get("/topics/s/records?partition=9").await.status(), 404);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_endpoints_have_ksqldbs_shapes() {
    let server = TestServer::start(&[("ksql.service.id", "orders_")]).await;
    let info = json_of(server.get("/info").await).await;
    assert_eq!(info["KsqlServerInfo"]["ksqlServiceId"], "orders_");
    assert_eq!(info["KsqlServerInfo"]["serverStatus"], "RUNNING");
    assert_eq!(json_of(server.get("/").await).await, info, "the root redirects");
    let health = json_of(server.get("/healthcheck").await).await;
    assert_eq!((&health["isHealthy"], &health["serverState"]), (&json!(true), &json!("READY")));
    assert_eq!(json_of(server.get("/is_valid_property/auto.offset.reset").await).await, json!(true));
    assert_eq!(server.get("/is_valid_property/auto.offset.rest").await.status(), 400);
    assert_eq!(server.get("/is_valid_property/ksql.service.id").await.status(), 400);
    assert_eq!(json_of(server.get("/v1/metadata/id").await).await["scope"]["clusters"]["ksql-cluster"], "orders_");
    assert_eq!(json_of(server.post("/wait-idle", "*/*", String::new()).await).await, json!({ "idle": true }));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_and_properties_come_with_each_request() {
    let server = TestServer::start(&[]).await;
    let body =
        json!({ "ksql": CREATE.replace("STREAM s", "STREAM ${NAME}"), "sessionVariables": { "name": "renamed" } });
    assert_eq!(server.post("/ksql", "*/*", body.to_string()).await.status(), 200);
    assert_eq!(server.ksql_ok("SHOW STREAMS;").await[0]["streams"][1]["name"], "RENAMED");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_ends_while_queries_and_inserts_are_open() {
    let server = TestServer::start(&[]).await;
    server.ksql_ok(CREATE).await;
    let mut push = server.stream("SELECT * FROM s EMIT CHANGES;", "*/*", false).await;
    read_until(&mut push, |text| text.ends_with('\n')).await;
    let h2c = Client::builder().http2_prior_knowledge().build().unwrap();
    let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<String, std::io::Error>>();
    sender.unbounded_send(Ok("{\"target\":\"S\"}\n{\"K\":\"a\",\"V\":1}\n".into())).unwrap();
    let body = reqwest::Body::wrap_stream(receiver.boxed());
    let mut inserts = h2c.post(server.url("/inserts-stream")).body(body).send().await.unwrap();
    read_until(&mut inserts, |text| text.ends_with('\n')).await;
    server.end().await;
    let last = inserts.text().await.unwrap_or_default();
    assert!(last.contains("50303"), "the client is told: {last}");
}
