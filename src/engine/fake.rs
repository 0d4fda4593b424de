//! A stand-in: rows in memory, so that the doors can be tried before the engine is there. To be deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde_json::{Map, Value};

use super::*;
use crate::config::Config;
use crate::sql::ast::{Describe, Print, RelationKind, Show, SourceKind, Statement};
use crate::types::{Column, LogicalSchema, SqlType};
use crate::wire::decode::batch_from_rows;

struct Source {
    is_table: bool,
    schema: LogicalSchema,
    topic: String,
    rows: Vec<Vec<Value>>,
}

#[derive(Default)]
struct State {
    sources: BTreeMap<String, Source>,
    topics: BTreeMap<String, Vec<Vec<ReadRecord>>>,
    closed: bool,
}

pub(super) struct Service {
    pub(super) config: Config,
    state: Mutex<State>,
    changed: Condvar,
    next_id: AtomicU64,
}

impl Service {
    pub(super) fn new(config: Config) -> Self {
        Self { config, state: Mutex::default(), changed: Condvar::new(), next_id: AtomicU64::new(0) }
    }
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
    pub(super) fn names(&self) -> Vec<(String, Vec<String>)> {
        let s = self.state.lock();
        s.sources
            .iter()
            .map(|(n, s)| (n.clone(), s.schema.columns().iter().map(|c| c.name.to_string()).collect()))
            .collect()
    }
    pub(super) fn topic(&self, name: &str) -> Option<TopicDetail> {
        let s = self.state.lock();
        let t = s.topics.get(name)?;
        Some(TopicDetail { name: name.into(), partitions: t.iter().map(|p| (0, p.len() as i64)).collect() })
    }
    pub(super) fn append(&self, topic: &str, records: Vec<RawRecord>) -> Result<Vec<(i32, i64)>, Diagnostic> {
        let mut s = self.state.lock();
        let t = s.topics.get_mut(topic).ok_or_else(|| Diagnostic::user(format!("topic '{topic}' does not exist")))?;
        let mut out = vec![];
        for r in records {
            let p = r.partition.unwrap_or(0);
            let part = t
                .get_mut(p as usize)
                .ok_or_else(|| Diagnostic::user(format!("topic '{topic}' has no partition {p}")))?;
            let offset = part.len() as i64;
            part.push(ReadRecord {
                partition: p,
                offset,
                timestamp: r.timestamp.unwrap_or(0),
                key: r.key,
                value: r.value,
                headers: r.headers,
            });
            out.push((p, offset));
        }
        self.changed.notify_all();
        Ok(out)
    }
    pub(super) fn read(&self, topic: &str, p: i32, from: i64, max: usize) -> Result<RecordPage, Diagnostic> {
        let s = self.state.lock();
        let part = s
            .topics
            .get(topic)
            .and_then(|t| t.get(p as usize))
            .ok_or_else(|| Diagnostic::user(format!("topic '{topic}' does not exist")))?;
        let records: Vec<_> = part.iter().skip(from.max(0) as usize).take(max).cloned().collect();
        Ok(RecordPage { next: from + records.len() as i64, records, end: part.len() as i64 })
    }
    pub(super) fn wait_records(&self, topic: &str, from: &[(i32, i64)], t: Duration) -> Result<bool, Diagnostic> {
        let until = Instant::now() + t;
        let mut s = self.state.lock();
        loop {
            if from.iter().any(|(p, o)| s.topics.get(topic).is_some_and(|t| t[*p as usize].len() as i64 > *o)) {
                return Ok(true);
            }
            if s.closed || self.changed.wait_until(&mut s, until).timed_out() {
                return Ok(false);
            }
        }
    }
    pub(super) fn insert_json(
        &self,
        target: &str,
        rows: Vec<Map<String, Value>>,
    ) -> Result<Vec<Result<(), Diagnostic>>, Diagnostic> {
        let name = target.to_uppercase();
        let mut s = self.state.lock();
        let State { sources, topics, .. } = &mut *s;
        let source = sources
            .get_mut(&name)
            .ok_or_else(|| Diagnostic::user(format!("Cannot insert values into an unknown stream/table: `{name}`")))?;
        let mut out = vec![];
        for row in rows {
            let upper: Map<String, Value> = row.into_iter().map(|(k, v)| (k.to_uppercase(), v)).collect();
            if let Some(bad) = upper.keys().find(|k| source.schema.column(k).is_none() && *k != "ROWTIME") {
                out.push(Err(Diagnostic::user(format!("Column name {bad} does not exist"))));
                continue;
            }
            let values: Vec<Value> = source
                .schema
                .columns()
                .iter()
                .map(|c| upper.get(c.name.as_str()).cloned().unwrap_or(Value::Null))
                .collect();
            let columns = columns_of(source, false);
            if let Err(e) = batch_from_rows(&columns, std::slice::from_ref(&values)) {
                out.push(Err(e));
                continue;
            }
            let p = &mut topics.get_mut(&source.topic).unwrap()[0];
            let offset = p.len() as i64;
            let value: Map<String, Value> = source
                .schema
                .columns()
                .iter()
                .zip(&values)
                .skip(source.schema.key_count())
                .map(|(c, v)| (c.name.to_string(), v.clone()))
                .collect();
            let key = values.first().filter(|_| source.schema.key_count() > 0).and_then(|v| v.as_str());
            p.push(ReadRecord {
                partition: 0,
                offset,
                timestamp: upper.get("ROWTIME").and_then(Value::as_i64).unwrap_or(0),
                key: key.map(|k| k.as_bytes().to_vec()),
                value: Some(Value::Object(value).to_string().into_bytes()),
                headers: vec![],
            });
            source.rows.push(values);
            out.push(Ok(()));
        }
        self.changed.notify_all();
        Ok(out)
    }
}

fn columns_of(source: &Source, keys: bool) -> Vec<ResultColumn> {
    source
        .schema
        .columns()
        .iter()
        .enumerate()
        .map(|(i, c)| ResultColumn {
            name: c.name.to_string(),
            ty: c.ty.clone(),
            is_key: keys && i < source.schema.key_count(),
        })
        .collect()
}

pub(super) fn execute(session: &mut Session, text: &str) -> Result<Vec<Outcome>, ScriptError> {
    let fail = |d| ScriptError { done: vec![], statement: None, diagnostic: d };
    let raw = crate::sql::split(text).map_err(fail)?;
    let mut done = vec![];
    for r in &raw {
        match one(session, r.text) {
            Ok((kind, warnings)) => done.push(Outcome { statement: r.text.into(), kind, warnings }),
            Err(diagnostic) => return Err(ScriptError { done, statement: Some(r.text.into()), diagnostic }),
        }
    }
    Ok(done)
}

pub(super) fn query(session: &mut Session, sql: &str) -> Result<Rows, ScriptError> {
    match execute(session, sql)?.pop().map(|o| o.kind) {
        Some(OutcomeKind::Rows(rows)) => Ok(*rows),
        _ => Err(ScriptError {
            done: vec![],
            statement: Some(sql.into()),
            diagnostic: Diagnostic::user("The statement is not a query"),
        }),
    }
}

fn status(kind: &str, entity: &str, action: &str, message: &str) -> OutcomeKind {
    OutcomeKind::Status(Status {
        kind: kind.into(),
        entity: format!("`{entity}`"),
        action: action.into(),
        message: message.into(),
        query_id: None,
        sequence: 1,
    })
}

fn one(session: &mut Session, text: &str) -> Result<(OutcomeKind, Vec<String>), Diagnostic> {
    let vars = session.variables.clone();
    let text = crate::sql::substitute(text, &|n| {
        vars.iter().find(|(k, _)| k.eq_ignore_ascii_case(n)).map(|(_, v)| v.clone())
    })?;
    let statement = crate::sql::parse_statement(&text)?;
    let service = session.engine.inner.clone();
    let kind = match statement {
        Statement::CreateSource(c) => {
            let mut s = service.state.lock();
            if s.sources.contains_key(&c.name.name) {
                if c.if_not_exists {
                    return Ok((OutcomeKind::Warning(format!("`{}` already exists", c.name.name)), vec![]));
                }
                return Err(Diagnostic::user(format!("A stream or table `{}` already exists", c.name.name))
                    .at(c.name.loc.0)
                    .with_text(&text));
            }
            let cols = c.columns.iter().map(|d| {
                let ty: SqlType = crate::wire::schema::parse_type(&d.ty.to_string()).unwrap();
                if d.constraint.is_some() {
                    Column::key(d.name.name.as_str(), ty)
                } else {
                    Column::value(d.name.name.as_str(), ty)
                }
            });
            let is_table = c.kind == SourceKind::Table;
            let prop = |n: &str| {
                c.properties
                    .iter()
                    .find(|p| p.name.name.eq_ignore_ascii_case(n))
                    .map(|p| p.value.to_string().trim_matches('\'').to_string())
            };
            let topic = prop("KAFKA_TOPIC").unwrap_or(c.name.name.clone());
            let n: usize = prop("PARTITIONS").and_then(|p| p.parse().ok()).unwrap_or(1);
            s.topics.entry(topic.clone()).or_insert_with(|| vec![vec![]; n]);
            s.sources.insert(
                c.name.name.clone(),
                Source { is_table, schema: LogicalSchema::new(cols), topic, rows: vec![] },
            );
            let kind = if is_table { "table" } else { "stream" };
            status(kind, &c.name.name, "create", if is_table { "Table created" } else { "Stream created" })
        }
        Statement::DropSource(d) => {
            if service.state.lock().sources.remove(&d.name.name).is_none() {
                return Err(Diagnostic::user(format!("Stream {} does not exist.", d.name.name))
                    .at(d.name.loc.0)
                    .with_text(&text));
            }
            status("stream", &d.name.name, "drop", "dropped")
        }
        Statement::InsertValues(i) => {
            let names: Vec<String> = if i.columns.is_empty() {
                let s = service.state.lock();
                s.sources
                    .get(&i.target.name)
                    .map(|s| s.schema.columns().iter().map(|c| c.name.to_string()).collect())
                    .unwrap_or_default()
            } else {
                i.columns.iter().map(|c| c.name.clone()).collect()
            };
            for row in &i.rows {
                let values = row.iter().map(|e| {
                    let t = e.to_string();
                    if let Some(s) = t.strip_prefix('\'') {
                        Value::from(s.trim_end_matches('\''))
                    } else {
                        serde_json::from_str(&t.to_lowercase()).unwrap_or(Value::Null)
                    }
                });
                let object: Map<String, Value> = names.iter().cloned().zip(values).collect();
                service.insert_json(&i.target.name, vec![object])?.remove(0)?;
            }
            OutcomeKind::Silent
        }
        Statement::Set { name, value } => {
            let n = crate::config::check_session(&name.value, &value.value)?;
            session.properties.insert(n.to_owned(), value.value.clone());
            OutcomeKind::Silent
        }
        Statement::Unset { name } => {
            session.properties.remove(&name.value);
            OutcomeKind::Silent
        }
        Statement::Define { name, value } => {
            session.variables.insert(name.value.clone(), value.value.clone());
            OutcomeKind::Silent
        }
        Statement::Undefine { name } => {
            session.variables.remove(&name.value);
            OutcomeKind::Silent
        }
        Statement::Show(Show::Sources { kind, .. }) => {
            let s = service.state.lock();
            let table = kind == SourceKind::Table;
            let lines = s.sources.iter().filter(|(_, s)| s.is_table == table).map(|(n, s)| SourceLine {
                name: n.clone(),
                topic: s.topic.clone(),
                key_format: "KAFKA".into(),
                value_format: "JSON".into(),
                is_windowed: false,
            });
            let lines = lines.collect();
            OutcomeKind::Description(if table { Description::Tables(lines) } else { Description::Streams(lines) })
        }
        Statement::Show(Show::Variables) => {
            OutcomeKind::Description(Description::Variables(session.variables.clone().into_iter().collect()))
        }
        Statement::Describe(Describe::Source { name, extended }) => {
            let s = service.state.lock();
            let source = s.sources.get(&name.name).ok_or_else(|| {
                Diagnostic::user(format!("Could not find STREAM/TABLE '{}' in the Metastore", name.name))
                    .at(name.loc.0)
                    .with_text(&text)
            })?;
            OutcomeKind::Description(Description::Source(Box::new(SourceDescription {
                name: name.name.clone(),
                is_table: source.is_table,
                window_type: None,
                schema: source.schema.clone(),
                timestamp: None,
                key_format: "KAFKA".into(),
                value_format: "JSON".into(),
                topic: source.topic.clone(),
                partitions: 1,
                replication: 1,
                statement: String::new(),
                read_queries: vec![],
                write_queries: vec![],
                constraints: vec![],
                extended,
                statistics: String::new(),
                error_stats: String::new(),
                offsets: vec![],
            })))
        }
        Statement::CopyFrom(c) => {
            let s = service.state.lock();
            let schema = s.sources.get(&c.target.name).map(|s| s.schema.clone());
            let schema = schema.ok_or_else(|| Diagnostic::user(format!("no source {}", c.target.name)))?;
            let csv = c.properties.iter().any(|p| p.value.to_string().contains("DELIMITED"));
            OutcomeKind::Client(ClientTask::CopyFrom {
                source: c.target.name.clone(),
                schema,
                path: c.path.value.clone(),
                format: if csv { "DELIMITED".into() } else { "JSON".into() },
            })
        }
        Statement::CopyTo(c) => {
            let csv = c.properties.iter().any(|p| p.value.to_string().contains("DELIMITED"));
            OutcomeKind::Client(ClientTask::CopyTo {
                query: c.query.to_string(),
                path: c.path.value.clone(),
                format: if csv { "DELIMITED".into() } else { "JSON".into() },
            })
        }
        Statement::Print(p) => rows_of_print(&service, &p)?,
        Statement::Query(q) => rows_of_query(session, &service, &q).map_err(|e| e.with_text(&text))?,
        other => return Err(Diagnostic::user(format!("the stand-in does not know: {other}"))),
    };
    Ok((kind, vec![]))
}

fn rows_of_print(service: &Arc<Service>, p: &Print) -> Result<OutcomeKind, Diagnostic> {
    let topic = &p.topic.value;
    service.topic(topic).ok_or_else(|| Diagnostic::user(format!("Could not find topic '{topic}'")))?;
    let source = FakeRows {
        service: service.clone(),
        from: Feed::Topic(topic.clone()),
        at: 0,
        push: true,
        left: p.limit.as_ref().and_then(|l| l.to_string().parse().ok()),
        stop: Arc::default(),
        columns: vec![ResultColumn { name: "LINE".into(), ty: SqlType::String, is_key: false }],
    };
    let rows = Rows {
        query_id: String::new(),
        columns: source.columns.clone(),
        kind: RowsKind::Print,
        source: Box::new(source),
    };
    Ok(OutcomeKind::Rows(Box::new(rows)))
}

fn rows_of_query(
    session: &Session,
    service: &Arc<Service>,
    q: &crate::sql::ast::Query,
) -> Result<OutcomeKind, Diagnostic> {
    let crate::sql::ast::QueryBody::Select(select) = &q.body else { return Err(Diagnostic::user("one SELECT only")) };
    let RelationKind::Source(name) = &select.from.kind else { return Err(Diagnostic::user("a name only")) };
    let s = service.state.lock();
    let source = s
        .sources
        .get(&name.name)
        .ok_or_else(|| Diagnostic::user(format!("{} does not exist.", name.name)).at(name.loc.0))?;
    let push = q.emit.is_some();
    let earliest = session.properties.get("auto.offset.reset").is_some_and(|v| v == "earliest");
    let columns = columns_of(source, !push && source.is_table);
    let kind = match (push, source.is_table) {
        (true, _) => RowsKind::Push,
        (false, true) => RowsKind::PullTable,
        (false, false) => RowsKind::PullStream,
    };
    let rows = FakeRows {
        service: service.clone(),
        from: Feed::Source(name.name.clone()),
        at: if push && !earliest { source.rows.len() } else { 0 },
        push,
        left: q.limit.as_ref().and_then(|l| l.to_string().parse().ok()),
        stop: Arc::default(),
        columns: columns.clone(),
    };
    let id = service.next_id.fetch_add(1, Ordering::Relaxed);
    Ok(OutcomeKind::Rows(Box::new(Rows { query_id: format!("transient_{id}"), columns, kind, source: Box::new(rows) })))
}

enum Feed {
    Source(String),
    Topic(String),
}

struct FakeRows {
    service: Arc<Service>,
    from: Feed,
    at: usize,
    push: bool,
    left: Option<usize>,
    stop: Arc<AtomicBool>,
    columns: Vec<ResultColumn>,
}

impl RowSource for FakeRows {
    fn next(&mut self, timeout: Duration) -> NextRows {
        let until = Instant::now() + timeout;
        let mut s = self.service.state.lock();
        loop {
            if self.left == Some(0) {
                return NextRows::Done(Some("Limit Reached".into()));
            }
            if self.stop.load(Ordering::Relaxed) || s.closed {
                return NextRows::Done(None);
            }
            let rows: Vec<Vec<Value>> = match &self.from {
                Feed::Source(n) => s.sources.get(n).map(|s| s.rows[self.at..].to_vec()).unwrap_or_default(),
                Feed::Topic(t) => s.topics[t]
                    .iter()
                    .flatten()
                    .skip(self.at)
                    .map(|r| {
                        vec![Value::from(format!(
                            "rowtime: {}, value: {}",
                            r.timestamp,
                            String::from_utf8_lossy(r.value.as_deref().unwrap_or(b"<null>"))
                        ))]
                    })
                    .collect(),
            };
            let rows: Vec<_> = rows.into_iter().take(self.left.unwrap_or(usize::MAX)).collect();
            if !rows.is_empty() {
                self.at += rows.len();
                self.left = self.left.map(|l| l - rows.len());
                let tomb =
                    self.push.then(|| rows.iter().map(|r| r.len() > 1 && r[1..].iter().all(Value::is_null)).collect());
                return NextRows::Batch { batch: batch_from_rows(&self.columns, &rows).unwrap(), tombstones: tomb };
            }
            if !self.push {
                let is_table = self.columns.iter().any(|c| c.is_key);
                return NextRows::Done((!is_table).then(|| "Query Completed".into()));
            }
            if self.service.changed.wait_until(&mut s, until).timed_out() {
                return NextRows::Idle;
            }
        }
    }
    fn canceller(&self) -> Arc<dyn Fn() + Send + Sync> {
        let (stop, service) = (self.stop.clone(), self.service.clone());
        Arc::new(move || {
            stop.store(true, Ordering::Relaxed);
            let _guard = service.state.lock();
            service.changed.notify_all();
        })
    }
}
