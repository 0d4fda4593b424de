//! Statements become effects: the only writer of the catalog and the runtime. Public face: [`Engine`] and [`Session`].
//!
//! Knows nothing of HTTP or terminals. The walk of a statement: [`Session::execute`] cuts the text, works every statement out against a copy
//! of the catalog ([`effect`]), and only if all are good carries them out one by one: topics, command log, catalog, queries. The subtle
//! thing: a text with a wrong statement has done nothing at all, and a command that no longer applies never stops a start.

pub mod cluster;
pub mod command_backup;
pub mod command_log;
pub mod effect;
mod fold;
mod follow;
pub mod insert;
pub mod json_rows;
mod leftovers;
pub mod maintenance;
pub mod outcome;
pub mod print;
pub mod processing_log;
pub mod pull;
pub mod push;
pub mod records;
mod route;
pub mod session;
pub mod settings;
pub mod show;
mod submit;
mod upgrade;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::BinaryArray;
use parking_lot::{Mutex, RwLock};

use crate::catalog::Catalog;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::function::Registry;
use crate::runtime::{QueryError, QuerySpec, QueryState, Runtime, RuntimeConfig};
use crate::topic::embedded::{EmbeddedLog, LogOptions};
#[cfg(feature = "kafka")]
use crate::topic::kafka::{KafkaLog, KafkaOptions};
use crate::topic::memory::MemoryLog;
use crate::topic::{Log, Owner, TopicError, TopicSpec};
use crate::types::{QueryId, TopicName};

use command_log::CommandLog;
use effect::Start;
use follow::{Follower, Place};
use leftovers::Unfinished;

pub use outcome::*;
pub use records::{Headers, RawRecord, ReadRecord, RecordPage, TopicDetail};
pub use session::Session;

/// How an engine is opened.
#[derive(Clone, Default)]
pub struct EngineConfig {
    /// where the embedded log lives; `None`: in memory
    pub data_dir: Option<PathBuf>,
    /// a log that is open already, instead of one in `data_dir` or in memory
    pub log: Option<Arc<dyn Log>>,
    /// server-wide properties by ksqlDB's names
    pub properties: BTreeMap<String, String>,
    /// worker threads; `None`: as the property `worker.threads` says, else one more than cores
    pub workers: Option<usize>,
    /// no worker threads: queries run when told to (`Runtime::pump`)
    pub manual: bool,
    /// the clock; `None`: the system's
    pub clock: Option<Arc<dyn Clock>>,
    /// put before all names in Kafka; for tests that share a cluster
    pub namespace: String,
    /// how tests cut batches
    pub test: Option<TestMode>,
}

/// How tests cut and merge batches.
#[derive(Clone, Debug, Default)]
pub struct TestMode {
    /// merge inputs in the order of arrival, where the log knows it
    pub by_arrival: bool,
    /// least wall-clock time between emissions of held rows of outer joins, in ms, which the reference has
    pub outer_emit_interval_ms: i64,
    /// sizes of successive reads in records
    pub read_sizes: Option<Arc<[usize]>>,
    /// rows of a page, if other than the product's
    pub page_rows: Option<usize>,
}

/// A running riverrun: catalog, queries, log. Cheap to clone; the last clone's drop stops the workers.
#[derive(Clone)]
pub struct Engine {
    /// ends before what it follows for; `None` where nobody else writes commands, and in the follower itself
    follower: Option<Arc<Follower>>,
    inner: Arc<Inner>,
}

struct Inner {
    log: Arc<dyn Log>,
    runtime: Runtime,
    commands: CommandLog,
    registry: &'static Registry,
    config: Config,
    clock: Arc<dyn Clock>,
    service_id: String,
    catalog: RwLock<Arc<Catalog>>,
    plans: RwLock<BTreeMap<QueryId, Start>>,
    /// how far commands are applied; held while one is
    place: Mutex<Place>,
    /// what is not known to be removed
    unfinished: Mutex<Unfinished>,
    /// why queries that are declared do not run here, and since when
    not_started: Mutex<BTreeMap<QueryId, QueryError>>,
    /// names this engine among those that write to the command topic
    instance: String,
    test: Option<TestMode>,
    transient: Mutex<push::TransientQueries>,
    /// reads what other nodes have; `None`: nobody does
    peers: RwLock<Option<Arc<dyn cluster::Peers>>>,
}

impl Engine {
    /// Opens the log, replays the command log, starts what it left running.
    ///
    /// # Errors
    /// A data directory that is in use, unreadable or of another format; properties that are not known.
    pub fn open(config: EngineConfig) -> Result<Self, Diagnostic> {
        let properties = Config::new(&config.properties)?;
        let clock = config.clock.clone().unwrap_or_else(|| Arc::new(SystemClock));
        let log = open_log(&config, &properties, &clock)?;
        let service_id = properties.text("ksql.service.id").unwrap_or("default_").to_owned();
        let (commands, processing_log) = open_topics(&log, &properties, &service_id)?;
        let built_in = processing_log.as_ref().map(processing_log::source).transpose()?;
        let runtime_config = runtime_config(&properties, config.workers, processing_log);
        let runtime = if config.manual {
            Runtime::manual(log.clone(), clock.clone(), runtime_config)
        } else {
            Runtime::new(log.clone(), clock.clone(), runtime_config)?
        };
        let inner = Inner {
            log,
            runtime,
            commands,
            registry: Registry::builtin(),
            config: properties,
            clock,
            service_id,
            catalog: RwLock::new(Arc::new(Catalog::default())),
            plans: RwLock::default(),
            place: Mutex::new(Place::start()),
            unfinished: Mutex::default(),
            not_started: Mutex::default(),
            instance: format!("{:016x}", rand::random::<u64>()),
            test: config.test,
            transient: Mutex::default(),
            peers: RwLock::default(),
        };
        let mut engine = Self { follower: None, inner: Arc::new(inner) };
        engine.replay(built_in)?;
        if config.log.is_none() {
            engine.sweep_own_push_queries();
        }
        if engine.inner.log.is_shared() && !config.manual {
            engine.follower = Some(Follower::start(engine.clone())?);
        }
        Ok(engine)
    }

    /// A new session with no properties and no variables.
    pub fn session(&self) -> Session {
        Session::new(self.clone())
    }

    /// The catalog as it stands.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.inner.catalog.read().clone()
    }

    /// The log below.
    pub fn log(&self) -> &Arc<dyn Log> {
        &self.inner.log
    }

    /// The runtime below.
    pub fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }

    /// Server-wide properties.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The functions there are.
    pub fn registry(&self) -> &'static Registry {
        self.inner.registry
    }

    /// The service's id.
    pub fn service_id(&self) -> &str {
        &self.inner.service_id
    }

    /// Now, in ms since the epoch.
    pub fn now_ms(&self) -> i64 {
        self.inner.clock.now_ms()
    }

    /// Source names with their columns, for completion.
    pub fn catalog_names(&self) -> Vec<(String, Vec<String>)> {
        let columns = |s: &crate::catalog::Source| s.schema.columns().iter().map(|c| c.name.to_string()).collect();
        self.catalog().sources().map(|s| (s.name.to_string(), columns(s))).collect()
    }

    /// Waits until all persistent queries have consumed and committed all input there is.
    ///
    /// # Errors
    /// If that takes longer than `timeout`, or a query is in ERROR: its reason.
    pub fn wait_idle(&self, timeout: Option<Duration>) -> Result<(), Diagnostic> {
        let timeout = timeout.unwrap_or(Duration::from_secs(u64::MAX / 4));
        let caught_up = self.inner.runtime.wait_idle(&|_| true, timeout);
        for status in self.inner.runtime.statuses() {
            if let (QueryState::Error, Some(error)) = (status.state, status.errors.last()) {
                return Err(Diagnostic::new(
                    ErrorClass::Query,
                    format!("query {} is in ERROR: {}", status.id, error.message),
                ));
            }
        }
        if caught_up {
            return Ok(());
        }
        Err(Diagnostic::new(
            ErrorClass::Retry,
            format!("queries still have input to read after {} ms", timeout.as_millis()),
        ))
    }

    /// Stops all queries at a commit, forces everything to disk.
    ///
    /// # Errors
    /// If the last commit fails.
    pub fn close(&self) -> Result<(), Diagnostic> {
        if let Some(follower) = &self.follower {
            follower.end();
        }
        for status in self.inner.runtime.statuses() {
            // A query that ended by itself in between is as good as stopped.
            let _ = self.inner.runtime.stop(&status.id);
        }
        self.inner.log.sync().map_err(Into::into)
    }

    /// Starts a query; why it cannot be started is remembered, for it counts as failed until it is.
    fn start(&self, start: &Start, paused: bool) -> Result<(), Diagnostic> {
        let started = self.try_start(start, paused);
        let mut not_started = self.inner.not_started.lock();
        match &started {
            Ok(()) => drop(not_started.remove(&start.query.id)),
            Err(error) => {
                let error = QueryError {
                    at_ms: self.now_ms(),
                    class: error.class,
                    message: error.message.clone(),
                    task: (0, 0),
                };
                not_started.insert(start.query.id.clone(), error);
            }
        }
        started
    }

    /// Why a declared query does not run here, if it does not.
    pub(crate) fn not_started(&self, id: &QueryId) -> Option<QueryError> {
        self.inner.not_started.lock().get(id).cloned()
    }

    fn try_start(&self, start: &Start, paused: bool) -> Result<(), Diagnostic> {
        let config = settings::merged(&self.inner.config, &start.query.properties)?;
        let mut settings = settings::query(&config);
        if let Some(test) = &self.inner.test {
            settings.by_arrival = test.by_arrival;
            settings.outer_emit_interval_ms = test.outer_emit_interval_ms;
            settings.read_sizes = test.read_sizes.clone();
            settings.page_rows = test.page_rows.unwrap_or(settings.page_rows);
        }
        let id = &start.query.id;
        let spec = QuerySpec {
            id: id.clone(),
            owner: Owner::new(effect::group(&self.inner.service_id, id.as_str())),
            topology: start.topology.clone(),
            settings,
            client: None,
        };
        self.inner.runtime.start(spec)?;
        if paused {
            self.inner.runtime.pause(id)?;
        }
        Ok(())
    }
}

fn open_log(config: &EngineConfig, properties: &Config, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Log>, Diagnostic> {
    if let Some(log) = &config.log {
        return Ok(log.clone());
    }
    if let Some(brokers) = properties.text("bootstrap.servers").filter(|b| !b.is_empty()) {
        return open_kafka(brokers, config, properties, clock);
    }
    let Some(dir) = &config.data_dir else { return Ok(MemoryLog::new(clock.clone())) };
    let mut options = LogOptions::default();
    if let Some(interval) = properties.millis("storage.fsync.interval.ms") {
        options.storage.sync_interval = interval;
    }
    if let Some(bytes) = properties.bytes("storage.min.free.bytes") {
        options.storage.min_free_bytes = bytes;
    }
    options.storage.pack_records = properties.text(config::STORAGE_RECORDS_COMPRESSION) == Some("lz4");
    options.max_record_bytes = properties.size(config::RECORD_BYTES);
    Ok(EmbeddedLog::open(dir, options, clock.clone())?)
}

/// A log over Kafka; what is set of its clients' properties is handed on.
#[cfg(feature = "kafka")]
fn open_kafka(
    brokers: &str,
    config: &EngineConfig,
    properties: &Config,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Log>, Diagnostic> {
    let Some(state_dir) = config.data_dir.clone() else {
        return Err(
            Diagnostic::user("An engine on Kafka needs a folder for its copy of state").help("name a data directory")
        );
    };
    let options = KafkaOptions {
        bootstrap_servers: brokers.to_owned(),
        service_id: properties.text("ksql.service.id").unwrap_or("default_").to_owned(),
        state_dir,
        client: properties.client_properties(),
        internal_replicas: internal_replicas(properties),
        exactly_once: properties.text("processing.guarantee").is_none_or(|g| g.starts_with("exactly_once")),
        namespace: config.namespace.clone(),
        buffer_bytes: properties.bytes(config::KAFKA_BUFFER).map_or(0, |b| usize::try_from(b).unwrap_or(usize::MAX)),
        advertised: properties.text(config::ADVERTISED_LISTENER).filter(|url| !url.is_empty()).map(str::to_owned),
    };
    Ok(KafkaLog::open(options, clock.clone())?)
}

#[cfg(not(feature = "kafka"))]
fn open_kafka(_: &str, _: &EngineConfig, _: &Config, _: &Arc<dyn Clock>) -> Result<Arc<dyn Log>, Diagnostic> {
    Err(Diagnostic::user("This riverrun was built without Kafka").help("build it with the feature 'kafka'"))
}

/// Replicas of internal topics; i16::MAX stands for the brokers' own default.
fn internal_replicas(properties: &Config) -> i16 {
    let replicas = properties.int("ksql.internal.topic.replicas").unwrap_or(1);
    i16::try_from(replicas).ok().filter(|n| *n > 0).unwrap_or(i16::MAX)
}

/// The command topic and the name of the processing log's; at once where the log is far away and making them takes its time.
fn open_topics(
    log: &Arc<dyn Log>,
    properties: &Config,
    service_id: &str,
) -> Result<(CommandLog, Option<TopicName>), Diagnostic> {
    let open_commands = || CommandLog::open_or_make(log.clone(), service_id, internal_replicas(properties));
    if !log.is_shared() {
        return Ok((open_commands()?, processing_log_topic(log, properties, service_id)?));
    }
    std::thread::scope(|scope| {
        let commands = std::thread::Builder::new().name("open-commands".to_owned()).spawn_scoped(scope, open_commands);
        let commands =
            commands.map_err(|e| Diagnostic::new(ErrorClass::Fatal, format!("a thread cannot be started: {e}")))?;
        let processing_log = processing_log_topic(log, properties, service_id);
        // What panicked there panics here.
        Ok((commands.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?, processing_log?))
    })
}

/// Name of the processing log topic, made if it is not there.
fn processing_log_topic(
    log: &Arc<dyn Log>,
    config: &Config,
    service_id: &str,
) -> Result<Option<TopicName>, Diagnostic> {
    let name = processing_log::topic_name(config, service_id);
    if log.describe(&name)?.is_none() {
        let replicas = internal_replicas(config);
        let spec = TopicSpec { name: name.clone(), partitions: 1, replicas, cleanup: Default::default() };
        match log.create_topic(&spec) {
            // another node made it at the same moment
            Ok(()) | Err(TopicError::Exists(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(name))
}

fn runtime_config(config: &Config, workers: Option<usize>, processing_log: Option<TopicName>) -> RuntimeConfig {
    let default = RuntimeConfig::default();
    let bytes =
        |name: &str, default: usize| config.bytes(name).map_or(default, |b| usize::try_from(b).unwrap_or(usize::MAX));
    RuntimeConfig {
        workers: workers.or(config.limit("worker.threads")).unwrap_or(0),
        memory_bytes: state_bytes(bytes("state.memory.bytes", default.memory_bytes)),
        commit_max_bytes: bytes("commit.max.bytes", default.commit_max_bytes),
        changelog_max_bytes: bytes("state.changelog.max.bytes", default.changelog_max_bytes),
        internal_replicas: internal_replicas(config),
        processing_log,
        ..default
    }
}

/// What is left of the memory for state beside the storage's caches; at least a quarter.
fn state_bytes(all: usize) -> usize {
    let caches = usize::try_from(LogOptions::default().storage.memory_bytes()).unwrap_or(usize::MAX);
    all.saturating_sub(caches).max(all / 4)
}

/// The bytes of an encoder's answer, or why a row could not be written.
fn encoded(answer: crate::format::Encoded) -> Result<BinaryArray, String> {
    match answer.failures.into_iter().next() {
        None => Ok(answer.payloads),
        Some(failure) => Err(failure.reason),
    }
}
