//! This node among the others of its service: what they tell each other, and reads of what others have.
//!
//! `/heartbeat` and `/lag` are ksqlDB's, `/state` is ours. Background tasks look who there is, send and check; they end with the server. The
//! subtle thing: a pull query's thread waits for pages in a plain channel, since it must not block inside the runtime that fills it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{ServerState, blocking, body_bytes, failed, json_response, respond, response};
use crate::config::{self, Config};
use crate::engine::cluster::{Entry, Lags, Peers, RemoteEntries, Share, StateRequest, TopicError, TopicPartition};
use crate::wire::error::ErrorBody;
use crate::wire::request::object;
use crate::wire::rows::JSON;
use crate::wire::state::{self, Frame, Frames};

/// Pages that may wait for their reader, on either side.
const PAGES_WAITING: usize = 2;
/// How long a heartbeat or a report may take.
const TELL: Duration = Duration::from_secs(2);

/// What is known of another node.
struct Host {
    url: String,
    since: Instant,
    heard: Option<Instant>,
    alive: bool,
    updated_ms: i64,
    lags: Value,
}

/// The nodes of the service, by `host:port`.
#[derive(Default)]
pub(super) struct Board {
    hosts: Mutex<BTreeMap<String, Host>>,
    shares: Mutex<BTreeMap<String, BTreeMap<String, Share>>>,
}

/// `host:port` of a URL.
fn host_of(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, host)| host).trim_end_matches('/')
}

impl Board {
    fn is_alive(&self, url: &str) -> bool {
        self.hosts.lock().get(host_of(url)).is_none_or(|host| host.alive)
    }

    /// The largest lag that the node reported of a group's stores for a partition.
    fn lag(&self, url: &str, group: &str, partition: i32) -> Option<u64> {
        let hosts = self.hosts.lock();
        let stores = hosts.get(host_of(url))?.lags["stateStoreLags"].as_object()?;
        let of_group = |name: &str| name.strip_prefix(group).is_some_and(|rest| rest.starts_with('#'));
        let partition = partition.to_string();
        let lags = stores.iter().filter(|(name, _)| of_group(name));
        lags.filter_map(|(_, store)| store["lagByPartition"][partition.as_str()]["offsetLag"].as_u64()).max()
    }

    fn host<'h>(hosts: &'h mut BTreeMap<String, Host>, url: &str) -> &'h mut Host {
        hosts.entry(host_of(url).to_owned()).or_insert_with(|| Host {
            url: url.to_owned(),
            since: Instant::now(),
            heard: None,
            alive: true,
            updated_ms: 0,
            lags: json!({ "stateStoreLags": {}, "updateTimeMs": 0 }),
        })
    }

    /// Takes over who there is. Who is in no group any more is forgotten when it is silent, too.
    fn discovered(&self, shares: BTreeMap<String, BTreeMap<String, Share>>, me: &str) {
        let mut hosts = self.hosts.lock();
        for url in shares.keys().filter(|url| host_of(url) != host_of(me)) {
            Self::host(&mut hosts, url);
        }
        hosts.retain(|name, host| host.alive || shares.keys().any(|url| host_of(url) == name));
        drop(hosts);
        *self.shares.lock() = shares;
    }

    fn heard(&self, url: &str, now_ms: i64) {
        let mut hosts = self.hosts.lock();
        let host = Self::host(&mut hosts, url);
        host.heard = Some(Instant::now());
        if !host.alive || host.updated_ms == 0 {
            (host.alive, host.updated_ms) = (true, now_ms);
        }
    }

    /// Who was not heard of for too long counts as dead; who is new has the window's time.
    fn check(&self, silence: Duration, window: Duration, now_ms: i64) {
        for host in self.hosts.lock().values_mut() {
            let alive = match host.heard {
                Some(heard) => heard.elapsed() <= silence,
                None => host.since.elapsed() <= window,
            };
            if alive != host.alive {
                tracing::info!(node = host.url, alive, "a node of the service changed");
                (host.alive, host.updated_ms) = (alive, now_ms);
            }
        }
    }

    fn urls(&self) -> Vec<String> {
        self.hosts.lock().values().map(|host| host.url.clone()).collect()
    }

    /// As `/clusterStatus` tells it; `me` is this node.
    fn status(&self, me: &str, lags: Value, now_ms: i64) -> Value {
        let shares = self.shares.lock();
        let of = |url: &str| {
            let queries = shares.iter().filter(|(u, _)| host_of(u) == host_of(url)).flat_map(|(_, queries)| queries);
            queries.map(|(query, share)| (query.clone(), share_to_json(share))).collect::<Map<_, _>>()
        };
        let line = |alive: bool, updated_ms: i64, url: &str, lags: &Value| {
            json!({
                "hostAlive": alive,
                "lastStatusUpdateMs": updated_ms,
                "activeStandbyPerQuery": of(url),
                "hostStoreLags": lags,
            })
        };
        let hosts = self.hosts.lock();
        let others = hosts.iter().map(|(name, h)| (name.clone(), line(h.alive, h.updated_ms, &h.url, &h.lags)));
        let all: Map<_, _> =
            std::iter::once((host_of(me).to_owned(), line(true, now_ms, me, &lags))).chain(others).collect();
        json!({ "clusterStatus": all })
    }
}

fn share_to_json(share: &Share) -> Value {
    let places = |places: &[TopicPartition]| -> Vec<Value> {
        places.iter().map(|at| json!({ "topic": at.topic.as_str(), "partition": at.partition })).collect()
    };
    let stores = |places: &[TopicPartition]| if places.is_empty() { json!([]) } else { json!(share.stores) };
    json!({
        "activeStores": stores(&share.partitions),
        "activePartitions": places(&share.partitions),
        "standByStores": stores(&share.standbys),
        "standByPartitions": places(&share.standbys),
    })
}

fn lags_to_json(lags: &Lags, now_ms: i64) -> Value {
    let store = |partitions: &BTreeMap<i32, (u64, u64)>| {
        let partition = |(partition, (current, end)): (&i32, &(u64, u64))| {
            let lag = end.saturating_sub(*current);
            let value = json!({ "currentOffsetPosition": current, "endOffsetPosition": end, "offsetLag": lag });
            (partition.to_string(), value)
        };
        json!({ "lagByPartition": partitions.iter().map(partition).collect::<Map<_, _>>() })
    };
    let stores: Map<_, _> = lags.iter().map(|(name, partitions)| (name.clone(), store(partitions))).collect();
    json!({ "stateStoreLags": stores, "updateTimeMs": now_ms })
}

pub(super) async fn cluster_status(State(state): State<Arc<ServerState>>) -> Response {
    respond(status(state).await)
}

async fn status(state: Arc<ServerState>) -> Result<Response, ErrorBody> {
    let engine = state.engine.clone();
    let Some(me) = engine.advertised().filter(|_| engine.log().is_shared()).map(str::to_owned) else {
        return Ok(json_response(200, JSON, &json!({ "clusterStatus": {} })));
    };
    let asked = engine.clone();
    let (shares, lags) = blocking(move || (asked.shares(), asked.lags())).await?;
    state.board.discovered(shares.map_err(|error| failed(&error))?, &me);
    let now_ms = engine.now_ms();
    let lags = lags_to_json(&lags.map_err(|error| failed(&error))?, now_ms);
    Ok(json_response(200, JSON, &state.board.status(&me, lags, now_ms)))
}

/// `{"hostInfo": "host:port", "timestamp": ms}` → `{"ok": true}`.
pub(super) async fn heartbeat(State(state): State<Arc<ServerState>>, body: Result<Bytes, BytesRejection>) -> Response {
    respond(told(&body, "hostInfo").map(|(host, _)| {
        state.board.heard(&host, state.engine.now_ms());
        json_response(200, JSON, &json!({ "ok": true }))
    }))
}

/// `{"ksqlHost": "host:port", "hostStoreLags": {…}}` → `{"ok": true}`.
pub(super) async fn lag(State(state): State<Arc<ServerState>>, body: Result<Bytes, BytesRejection>) -> Response {
    respond(told(&body, "ksqlHost").map(|(host, mut json)| {
        let mut hosts = state.board.hosts.lock();
        Board::host(&mut hosts, &host).lags = json["hostStoreLags"].take();
        json_response(200, JSON, &json!({ "ok": true }))
    }))
}

/// The URL of the node that a body names in this field, and the body.
fn told(body: &Result<Bytes, BytesRejection>, field: &str) -> Result<(String, Value), ErrorBody> {
    let json = match body {
        Ok(body) => object(body)?,
        Err(rejection) => return Err(ErrorBody::bad_request(rejection.body_text())),
    };
    match json[field].as_str() {
        Some(host) if host.contains(':') && !host.contains("://") => Ok((format!("http://{host}"), json)),
        _ => Err(ErrorBody::bad_request(format!("'{field}' must be host:port"))),
    }
}

/// A [`StateRequest`] → frames of entries.
pub(super) async fn state_entries(
    State(state): State<Arc<ServerState>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    respond(entries(state, body).await)
}

async fn entries(state: Arc<ServerState>, body: Result<Bytes, BytesRejection>) -> Result<Response, ErrorBody> {
    let body = body_bytes(body)?;
    let json: Value = serde_json::from_slice(&body).map_err(|e| ErrorBody::bad_request(e.to_string()))?;
    let request = state::request_from_json(&json).map_err(|error| ErrorBody::of(&error))?;
    let engine = state.engine.clone();
    let mut entries = blocking(move || engine.state_entries(request)).await?.map_err(|error| failed(&error))?;
    let (sender, mut receiver) = mpsc::channel::<Result<Vec<u8>, std::convert::Infallible>>(PAGES_WAITING);
    tokio::task::spawn_blocking(move || {
        loop {
            let (frame, last) = match entries.next_entries() {
                Ok(Some(page)) => (state::page(&page), false),
                Ok(None) => (state::end(), true),
                Err(error) => (state::failure(&error.to_string()), true),
            };
            // A reader that has enough goes away.
            if (!frame.is_empty() && sender.blocking_send(Ok(frame)).is_err()) || last {
                return;
            }
        }
    });
    let frames = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    Ok(response(200, state::STATE, Body::from_stream(frames)))
}

/// Reads at other nodes by HTTP.
struct HttpPeers {
    http: reqwest::Client,
    runtime: Handle,
    timeout: Duration,
    board: Arc<Board>,
}

impl Peers for HttpPeers {
    fn read(&self, url: &str, request: StateRequest) -> Result<Box<dyn RemoteEntries>, TopicError> {
        let (sender, pages) = sync_channel(PAGES_WAITING);
        let body = state::request_to_json(&request).to_string();
        let sent = self.http.post(format!("{}/state", url.trim_end_matches('/'))).body(body).send();
        let (timeout, runtime, node) = (self.timeout, self.runtime.clone(), url.to_owned());
        let reader = move || {
            runtime.block_on(receive(sent, timeout, &sender)).unwrap_or_else(|reason| {
                // The reader may have gone.
                let _ = sender.send(Err(TopicError::Io { what: format!("read state of the node {node}"), reason }));
            })
        };
        let thread = std::thread::Builder::new().name("pull-forward".to_owned()).spawn(reader);
        thread.map_err(|e| TopicError::Io { what: "start a thread".into(), reason: e.to_string() })?;
        Ok(Box::new(Pages { pages, timeout: self.timeout * 2 }))
    }

    fn is_alive(&self, url: &str) -> bool {
        self.board.is_alive(url)
    }

    fn lag(&self, url: &str, group: &str, partition: i32) -> Option<u64> {
        self.board.lag(url, group, partition)
    }
}

type Page = Result<Option<Vec<Entry>>, TopicError>;

/// Hands pages on until the end, or until their reader is gone.
async fn receive(
    sent: impl Future<Output = reqwest::Result<reqwest::Response>>,
    timeout: Duration,
    sender: &SyncSender<Page>,
) -> Result<(), String> {
    let late = |_| format!("it did not answer within {} ms", timeout.as_millis());
    let mut answer = tokio::time::timeout(timeout, sent).await.map_err(late)?.map_err(|e| cause(&e))?;
    if !answer.status().is_success() {
        let text = tokio::time::timeout(timeout, answer.text()).await.map_err(late)?.map_err(|e| cause(&e))?;
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        return Err(json["message"].as_str().unwrap_or(&text).to_owned());
    }
    let mut frames = Frames::default();
    loop {
        while let Some(frame) = frames.next_frame()? {
            let page = match frame {
                Frame::Page(page) => Ok(Some(page)),
                Frame::End => Ok(None),
                Frame::Failed(reason) => return Err(reason),
            };
            let last = matches!(page, Ok(None));
            if sender.send(page).is_err() || last {
                return Ok(());
            }
        }
        match tokio::time::timeout(timeout, answer.chunk()).await.map_err(late)?.map_err(|e| cause(&e))? {
            Some(bytes) => frames.feed(&bytes),
            None => return Err("the connection broke in the middle".to_owned()),
        }
    }
}

/// The innermost reason.
fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}

struct Pages {
    pages: Receiver<Page>,
    timeout: Duration,
}

impl RemoteEntries for Pages {
    fn next_entries(&mut self) -> Result<Option<Vec<Entry>>, TopicError> {
        self.pages.recv_timeout(self.timeout).unwrap_or_else(|_| {
            Err(TopicError::Io { what: "read state of another node".into(), reason: "nothing came in time".into() })
        })
    }
}

/// Lets this node take part, if it has others to take part with. To be called on the server's runtime.
pub(super) fn start(state: &Arc<ServerState>) {
    let Some(me) = state.engine.advertised().filter(|_| state.engine.log().is_shared()).map(str::to_owned) else {
        return;
    };
    let ms = |name: &str| state.config.millis(name).unwrap_or(TELL);
    let http = match reqwest::Client::builder().connect_timeout(TELL).build() {
        Ok(http) => http,
        Err(error) => return tracing::error!("pull queries are not forwarded, there is no HTTP client: {error}"),
    };
    state.engine.set_peers(Arc::new(HttpPeers {
        http: http.clone(),
        runtime: Handle::current(),
        timeout: ms(config::FORWARDING_TIMEOUT_MS),
        board: state.board.clone(),
    }));
    let (beats, reports) = (state.config.bool(config::HEARTBEAT_ENABLED), state.config.bool(config::LAG_ENABLED));
    if beats || reports {
        tokio::spawn(until_stopped(
            state.clone(),
            discover(state.clone(), me.clone(), ms(config::HEARTBEAT_DISCOVER_MS)),
        ));
    }
    if beats {
        tokio::spawn(until_stopped(state.clone(), beat(state.clone(), http.clone(), me.clone())));
        tokio::spawn(until_stopped(state.clone(), check(state.clone())));
    }
    if reports {
        tokio::spawn(until_stopped(state.clone(), report(state.clone(), http, me)));
    }
}

async fn until_stopped(state: Arc<ServerState>, work: impl Future<Output = ()>) {
    let mut stopping = state.stopping.subscribe();
    tokio::select! {
        () = work => {}
        // An error means that the server is gone.
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
}

async fn discover(state: Arc<ServerState>, me: String, every: Duration) {
    loop {
        let engine = state.engine.clone();
        match blocking(move || engine.shares()).await {
            Ok(Ok(shares)) => state.board.discovered(shares, &me),
            Ok(Err(error)) => tracing::debug!("the nodes of the service are not known: {error}"),
            Err(_) => return,
        }
        tokio::time::sleep(every).await;
    }
}

async fn beat(state: Arc<ServerState>, http: reqwest::Client, me: String) {
    let mut tick = interval(&state.config, config::HEARTBEAT_SEND_MS);
    loop {
        tick.tick().await;
        let body = json!({ "hostInfo": host_of(&me), "timestamp": state.engine.now_ms() });
        tell_all(&state, &http, "heartbeat", &body);
    }
}

async fn check(state: Arc<ServerState>) {
    let ms = |name: &str| state.config.millis(name).unwrap_or(TELL);
    let missed = u32::try_from(state.config.int(config::HEARTBEAT_MISSED).unwrap_or(3)).unwrap_or(u32::MAX);
    // Who missed so many is given the time of one more, since none comes on the dot.
    let silence = ms(config::HEARTBEAT_SEND_MS).saturating_mul(missed.saturating_add(1));
    let mut tick = interval(&state.config, config::HEARTBEAT_CHECK_MS);
    loop {
        tick.tick().await;
        state.board.check(silence, ms(config::HEARTBEAT_WINDOW_MS), state.engine.now_ms());
    }
}

async fn report(state: Arc<ServerState>, http: reqwest::Client, me: String) {
    let mut tick = interval(&state.config, config::LAG_SEND_MS);
    loop {
        tick.tick().await;
        let engine = state.engine.clone();
        match blocking(move || engine.lags()).await {
            Ok(Ok(lags)) => {
                let lags = lags_to_json(&lags, state.engine.now_ms());
                tell_all(&state, &http, "lag", &json!({ "ksqlHost": host_of(&me), "hostStoreLags": lags }));
            }
            Ok(Err(error)) => tracing::debug!("how far copies of state are is not known: {error}"),
            Err(_) => return,
        }
    }
}

fn interval(config: &Config, name: &str) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(config.millis(name).unwrap_or(TELL).max(Duration::from_millis(1)));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

/// Tells all other nodes; nobody waits for their answers, and who does not answer is not told twice.
fn tell_all(state: &Arc<ServerState>, http: &reqwest::Client, what: &'static str, body: &Value) {
    for url in state.board.urls() {
        let sent =
            http.post(format!("{}/{what}", url.trim_end_matches('/'))).body(body.to_string()).timeout(TELL).send();
        tokio::spawn(async move {
            if let Err(error) = sent.await {
                tracing::debug!(node = url, "a node of the service does not take a {what}: {error}");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://one:8088";

    #[test]
    fn a_node_is_alive_as_long_as_it_is_heard_of() {
        let board = Board::default();
        assert!(board.is_alive(URL), "who is not known may live");
        board.discovered(
            [(URL.to_owned(), BTreeMap::new()), ("http://me:1".to_owned(), BTreeMap::new())].into(),
            "http://me:1",
        );
        assert_eq!(board.urls(), [URL]);
        board.check(Duration::ZERO, Duration::MAX, 5);
        assert!(board.is_alive(URL), "who is new has the window's time");
        board.check(Duration::MAX, Duration::ZERO, 6);
        assert!(!board.is_alive(URL), "who was never heard of in it is dead");
        board.heard(URL, 7);
        assert!(board.is_alive(URL));
        board.check(Duration::ZERO, Duration::MAX, 8);
        assert!(!board.is_alive(URL), "who is silent is dead");
        let status = board.status("http://me:1", json!({}), 9);
        let host = &status["clusterStatus"]["one:8088"];
        assert_eq!((&host["hostAlive"], &host["lastStatusUpdateMs"]), (&json!(false), &json!(8)));
        assert_eq!(status["clusterStatus"]["me:1"]["hostAlive"], true);
        board.discovered(BTreeMap::new(), "http://me:1");
        assert!(board.urls().is_empty(), "who is dead and has nothing is forgotten");
    }

    #[test]
    fn lags_have_ksqldbs_shape() {
        let lags = Lags::from([("g#S".to_owned(), BTreeMap::from([(2, (30, 100)), (0, (7, 5))]))]);
        let json = lags_to_json(&lags, 11);
        let partition = &json["stateStoreLags"]["g#S"]["lagByPartition"]["2"];
        assert_eq!(*partition, json!({ "currentOffsetPosition": 30, "endOffsetPosition": 100, "offsetLag": 70 }));
        assert_eq!(json["stateStoreLags"]["g#S"]["lagByPartition"]["0"]["offsetLag"], 0);
        assert_eq!(json["updateTimeMs"], 11);
        let board = Board::default();
        Board::host(&mut board.hosts.lock(), URL).lags = json;
        assert_eq!((board.lag(URL, "g", 2), board.lag(URL, "g", 1), board.lag(URL, "", 2)), (Some(70), None, None));
    }

    #[test]
    fn who_tells_must_say_who_it_is() {
        let body = |text: &'static str| Ok(Bytes::from_static(text.as_bytes()));
        assert_eq!(told(&body(r#"{"hostInfo":"h:1"}"#), "hostInfo").unwrap().0, "http://h:1");
        for bad in [r#"{"hostInfo":"h"}"#, r#"{"hostInfo":"http://h:1"}"#, "{}", "x"] {
            assert!(told(&body(bad), "hostInfo").is_err(), "{bad}");
        }
    }
}
