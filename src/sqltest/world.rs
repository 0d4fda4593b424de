//! An engine without threads over a log in memory, and the hand that drives it.
//!
//! Statements go through a session like everybody's; records go to the log as foreign bytes. The subtle thing: inputs may stand in their
//! topics before a query reads them, so what a query may see is decided record by record by [`Visible`].

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, BinaryArray};

use super::mode::Mode;
use super::record::{Stored, headers_of};
use crate::catalog::{PersistentQuery, Source};
use crate::clock::ManualClock;
use crate::config;
use crate::diagnostic::Diagnostic;
use crate::engine::{Engine, EngineConfig, Outcome, Session, TestMode};
use crate::sql::ast::{CreateSource, Literal, Statement};
use crate::sql::parse_statement;
use crate::topic::{Append, Cleanup, Commit, Log, Offset, ReadLimit, TopicPartition, TopicSpec};
use crate::types::{QueryId, TopicName};

/// Up to which offset a query may read topics; those not in it are read to their ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Visible {
    topics: BTreeMap<TopicName, BTreeMap<i32, Offset>>,
}

impl Visible {
    /// Nothing of `topic` may be seen.
    pub fn hide(&mut self, topic: &TopicName) {
        self.topics.insert(topic.clone(), BTreeMap::new());
    }

    /// Records of the partition up to and with this offset may be seen.
    pub fn show(&mut self, topic: &TopicName, partition: i32, offset: Offset) {
        let end = self.topics.entry(topic.clone()).or_default().entry(partition).or_default();
        *end = (*end).max(offset + 1);
    }

    fn limit(&self, at: &TopicPartition) -> Option<Offset> {
        self.topics.get(&at.topic).map(|partitions| partitions.get(&at.partition).copied().unwrap_or(0))
    }
}

/// An engine under test.
pub(super) struct World {
    engine: Engine,
    session: Session,
    restart: bool,
    /// on Kafka, this node's copy of state
    folder: Option<tempfile::TempDir>,
    /// the newest source over each topic, dropped ones too
    sources: BTreeMap<TopicName, Arc<Source>>,
    /// persistent queries in order of creation
    queries: Vec<Arc<PersistentQuery>>,
}

/// Properties of the engine under test, as the reference's runner has them.
const BASE: [(&str, &str); 2] = [("ksql.service.id", "some.ksql.service.id"), ("cache.max.bytes.buffering", "0")];

impl World {
    /// A fresh engine. `properties` are the server's; `seed` decides random batches.
    ///
    /// # Errors
    /// If the engine does not open.
    pub fn open(mode: &Mode, seed: u64, properties: &[(&str, &str)]) -> Result<Self, Diagnostic> {
        let all = BASE.iter().chain(properties).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let (mut folder, mut namespace) = (None, String::new());
        let mut properties: BTreeMap<String, String> = all.collect();
        if let Some(brokers) = &mode.brokers {
            properties.insert("bootstrap.servers".to_owned(), brokers.to_string());
            namespace = format!("riverrun-test-{:016x}-", rand::random::<u64>());
            folder = Some(tempfile::tempdir().map_err(|e| Diagnostic::user(format!("no folder for state: {e}")))?);
        }
        let engine = Engine::open(EngineConfig {
            data_dir: folder.as_ref().map(|f| f.path().to_owned()),
            properties,
            namespace,
            manual: true,
            clock: Some(Arc::new(ManualClock::new(0))),
            test: Some(TestMode {
                by_arrival: true,
                outer_emit_interval_ms: 1000,
                read_sizes: mode.batching.read_sizes(seed),
                page_rows: mode.page_rows(seed),
            }),
            ..EngineConfig::default()
        })?;
        let session = engine.session();
        Ok(Self { engine, session, restart: mode.restart, folder, sources: BTreeMap::new(), queries: Vec::new() })
    }

    /// The engine itself.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Properties that the session has set.
    pub fn session_properties(&self) -> &BTreeMap<String, String> {
        &self.session.properties
    }

    /// Sets a property of the session, if it is one that the product knows; others have no effect.
    pub fn set(&mut self, name: &str, value: &str) {
        if let Ok(canonical) = config::canonical(name) {
            self.session.properties.insert(canonical.to_owned(), value.to_owned());
        }
    }

    /// Makes a topic, if it is not there.
    ///
    /// # Errors
    /// If the log says no.
    pub fn ensure_topic(&self, name: &str, partitions: i32, replicas: i16) -> Result<(), Diagnostic> {
        let name = TopicName::new(name);
        if self.log().describe(&name)?.is_none() {
            self.log().create_topic(&TopicSpec { name, partitions, replicas, cleanup: Cleanup::default() })?;
        }
        Ok(())
    }

    /// Executes a text; topics that a CREATE in it reads are made first.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn execute(&mut self, text: &str) -> Result<Vec<Outcome>, Diagnostic> {
        if let Ok(Statement::CreateSource(create)) = parse_statement(text) {
            self.make_declared_topic(&create)?;
        }
        let done = self.session.execute(text).map_err(|error| error.diagnostic);
        self.note_changes();
        done
    }

    fn make_declared_topic(&self, create: &CreateSource) -> Result<(), Diagnostic> {
        let property = |wanted: &str| create.properties.iter().find(|p| p.name.as_str().eq_ignore_ascii_case(wanted));
        let number = |wanted: &str| match property(wanted).map(|p| &p.value) {
            Some(Literal::Number(number)) => number.text.parse::<i32>().ok(),
            Some(Literal::String(text)) => text.trim().parse().ok(),
            _ => None,
        };
        let Some(Literal::String(topic)) = property("KAFKA_TOPIC").map(|p| &p.value) else { return Ok(()) };
        let positive = |n: &i32| (1..=1024).contains(n);
        let partitions = number("PARTITIONS").filter(positive).unwrap_or(1);
        let replicas = number("REPLICAS").filter(positive).unwrap_or(1);
        // a name that no topic can have is the statement's to refuse
        let _ = self.ensure_topic(topic, partitions, i16::try_from(replicas).unwrap_or(1));
        Ok(())
    }

    fn note_changes(&mut self) {
        let catalog = self.engine.catalog();
        for source in catalog.sources() {
            self.sources.insert(source.topic.clone(), source.clone());
        }
        // what a query writes says how its topic is written, whoever else reads it
        for query in catalog.queries() {
            if let Some(sink) = catalog.source(query.sink.as_str()) {
                self.sources.insert(query.sink_topic.clone(), sink.clone());
            }
        }
        self.queries.retain(|known| catalog.query(known.id.as_str()).is_some());
        for query in catalog.queries() {
            match self.queries.iter_mut().find(|known| known.id == query.id) {
                Some(known) => *known = query.clone(),
                None => self.queries.push(query.clone()),
            }
        }
    }

    /// Persistent queries in order of creation.
    pub fn queries(&self) -> Vec<Arc<PersistentQuery>> {
        self.queries.clone()
    }

    /// Topics that a query reads, each once.
    pub fn inputs_of(&self, query: &PersistentQuery) -> Vec<TopicName> {
        let catalog = self.engine.catalog();
        let mut topics = Vec::new();
        for source in query.reads.iter().filter_map(|name| catalog.source(name.as_str())) {
            if !topics.contains(&source.topic) {
                topics.push(source.topic.clone());
            }
        }
        topics
    }

    /// True if tasks of the query read what others answer them: then it is a loop.
    ///
    /// # Errors
    /// If the log cannot be asked.
    pub fn answers_itself(&self, query: &PersistentQuery) -> Result<bool, Diagnostic> {
        let of_query = format!("query_{}-", query.id);
        let topics = self.log().topics()?;
        Ok(topics
            .iter()
            .any(|t| t.name.as_str().contains(&of_query) && t.name.as_str().ends_with("ForeignKeyJoin-response")))
    }

    /// The source that says how a topic is written.
    pub fn source_of(&self, topic: &TopicName) -> Option<&Arc<Source>> {
        self.sources.get(topic)
    }

    /// Lets a query read what it may, to the end; between steps it is torn down and restored, if the mode says so.
    ///
    /// # Errors
    /// If the query fails.
    pub fn drive(&self, query: &QueryId, visible: &Visible) -> Result<(), Diagnostic> {
        let runtime = self.engine.runtime();
        let limits = |at: &TopicPartition| visible.limit(at);
        if !self.restart {
            return Ok(runtime.pump(query, &limits)?);
        }
        while runtime.pump_step(query, &limits)? {
            runtime.abort(query)?;
        }
        Ok(runtime.abort(query)?)
    }

    /// Records that were lost, as `kind: count` of each query.
    pub fn losses(&self) -> Vec<String> {
        let of = |query: &Arc<PersistentQuery>| {
            let losses = self.engine.runtime().losses(&query.id);
            let texts: Vec<_> = losses.iter().map(|(kind, count)| format!("{kind:?}: {count}")).collect();
            (!texts.is_empty()).then(|| format!("{} lost {}", query.id, texts.join(", ")))
        };
        self.queries.iter().filter_map(of).collect()
    }

    /// The log below.
    pub fn log(&self) -> &Arc<dyn Log> {
        self.engine.log()
    }

    /// How many partitions a topic has; 0 if it is not there.
    ///
    /// # Errors
    /// If the log cannot be asked.
    pub fn partitions(&self, topic: &TopicName) -> Result<i32, Diagnostic> {
        Ok(self.log().describe(topic)?.map_or(0, |spec| spec.partitions))
    }

    /// Appends a record; gives its offset.
    ///
    /// # Errors
    /// If the log says no.
    pub fn append(&self, topic: &TopicName, record: &Stored) -> Result<Offset, Diagnostic> {
        let append = Append {
            to: TopicPartition::new(topic.clone(), record.partition),
            timestamps: vec![record.timestamp].into(),
            keys: BinaryArray::from_opt_vec(vec![record.key.as_deref()]),
            values: BinaryArray::from_opt_vec(vec![record.value.as_deref()]),
            headers: super::headers::column(&record.headers),
        };
        let receipt = self.log().commit(Commit { outputs: vec![append], ..Commit::default() })?;
        Ok(receipt.base_offsets.first().copied().unwrap_or_default())
    }

    /// All records of a topic, in order of arrival.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn records(&self, topic: &TopicName) -> Result<Vec<Stored>, Diagnostic> {
        let mut records = Vec::new();
        for partition in 0..self.partitions(topic)? {
            let at = TopicPartition::new(topic.clone(), partition);
            let mut next = 0;
            loop {
                let fetched = self.log().read(&at, next, ReadLimit::default())?;
                let batch = &fetched.batch;
                let bytes = |of: &BinaryArray, row: usize| (!of.is_null(row)).then(|| of.value(row).to_vec());
                records.extend((0..batch.len()).map(|row| Stored {
                    key: bytes(&batch.keys, row),
                    value: bytes(&batch.values, row),
                    timestamp: batch.timestamps[row],
                    headers: headers_of(batch.headers.as_ref(), row),
                    offset: batch.offsets[row],
                    partition,
                    arrival: batch.arrivals.as_ref().map_or(0, |arrivals| arrivals[row]),
                }));
                next = fetched.next;
                if next >= fetched.end {
                    break;
                }
            }
        }
        records.sort_by_key(|r| r.arrival);
        Ok(records)
    }

    /// The sum of the ends of all topics: it grows when anything is appended.
    ///
    /// # Errors
    /// If the log cannot be asked.
    pub fn total_end(&self) -> Result<i64, Diagnostic> {
        let mut sum = 0;
        for topic in self.log().topics()? {
            for partition in 0..topic.partitions {
                sum += self.log().bounds(&TopicPartition::new(topic.name.clone(), partition))?.end;
            }
        }
        Ok(sum)
    }
}

impl Drop for World {
    /// Leaves a cluster as it was.
    fn drop(&mut self) {
        if self.folder.is_none() {
            return;
        }
        let log = self.log();
        let owners = log.owners().unwrap_or_default();
        let forgotten = owners.iter().try_for_each(|owner| log.forget(owner));
        let topics = log.topics().unwrap_or_default();
        let deleted = topics.iter().try_for_each(|topic| log.delete_topic(&topic.name));
        if let Err(error) = forgotten.and(deleted) {
            tracing::warn!("a test left topics behind: {error}");
        }
    }
}
