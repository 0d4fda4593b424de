//! The table of all properties, and a constant for each name.
//!
//! Nothing else knows a property by its text. Those of the scope Riverrun are ours; `SHOW PROPERTIES`, the checks and the manual are
//! made from the table. The subtle thing: a name in [`INERT`] is accepted, so that ksqlDB's files start, but it changes nothing.

use super::{Editable, Property, PropertyType, Scope};

/// Makes the constants and the table of one list.
macro_rules! properties {
    ($($id:ident = $name:literal, $ty:expr, $default:expr, $scope:ident, $editable:ident, $doc:literal;)*) => {
        $(#[doc = $doc] pub const $id: &str = $name;)*

        /// All properties.
        pub const PROPERTIES: &[Property] = &[$(Property {
            name: $name,
            ty: $ty,
            default: $default,
            scope: Scope::$scope,
            editable: Editable::$editable,
            doc: $doc,
        }),*];
    };
}

properties! {
    SERVICE_ID = "ksql.service.id", PropertyType::Text, Some("default_"), Ksql, Server,
        "Names the service: nodes with the same id share its work and its command log";
    PERSISTENT_PREFIX = "ksql.persistent.prefix", PropertyType::Text, Some("query_"), Ksql, Server,
        "Part of the consumer group and internal topic names of persistent queries";
    TRANSIENT_PREFIX = "ksql.transient.prefix", PropertyType::Text, Some("transient_"), Ksql, Server,
        "First part of the ids of push and pull queries";
    LISTENERS = "listeners", PropertyType::Text, Some("http://127.0.0.1:8088"), Ksql, Server,
        "Where the server listens, unless --listen says so";
    ADVERTISED_LISTENER = "ksql.advertised.listener", PropertyType::Text, None, Ksql, Server,
        "The URL under which other nodes reach this one";
    BOOTSTRAP_SERVERS = "bootstrap.servers", PropertyType::Text, None, Streams, Server,
        "Kafka brokers as host:port,…; unset: the embedded log in the data directory";
    DIALECT = "riverrun.dialect", PropertyType::OneOf(&["extended", "ksql"]), Some("extended"), Riverrun, Session,
        "extended accepts all that riverrun can do, ksql refuses what ksqlDB refuses";
    WORKER_THREADS = "worker.threads", PropertyType::Int(1), None, Riverrun, Server,
        "Threads that run the tasks of all queries; unset: one more than cores";
    STREAM_THREADS = "num.stream.threads", PropertyType::Int(1), Some("4"), Streams, Session,
        "Accepted as ksqlDB's; tasks share worker.threads";
    OUTPUT_TOPIC_PREFIX = "ksql.output.topic.name.prefix", PropertyType::Text, Some(""), Ksql, Session,
        "Put before the names of sink topics that are not given";
    SINK_PARTITIONS = "ksql.sink.partitions", PropertyType::Int(1), None, Ksql, Session,
        "Partitions of new sink topics; unset: those of the source";
    SINK_REPLICAS = "ksql.sink.replicas", PropertyType::Int(-1), None, Ksql, Session,
        "Replicas of new sink topics; unset: those of the source";
    INTERNAL_REPLICAS = "ksql.internal.topic.replicas", PropertyType::Int(-1), Some("1"), Ksql, Server,
        "Replicas of internal topics";
    DEFAULT_KEY_FORMAT = "ksql.persistence.default.format.key", PropertyType::Text, Some("KAFKA"), Ksql, Session,
        "Key format where a statement names none";
    DEFAULT_VALUE_FORMAT = "ksql.persistence.default.format.value", PropertyType::Text, None, Ksql, Session,
        "Value format where a statement names none";
    WRAP_SINGLE_VALUES = "ksql.persistence.wrap.single.values", PropertyType::Bool, None, Ksql, Session,
        "Whether single value columns are wrapped in a record; unset: as the format does it";
    SCHEMA_REGISTRY_URL = "ksql.schema.registry.url", PropertyType::Text, None, Ksql, Server,
        "URL of the schema registry; unset: formats that need one are refused";
    CONNECT_URL = "ksql.connect.url", PropertyType::Text, None, Ksql, Server,
        "URL of Kafka Connect, for connector statements";
    HIDDEN_TOPICS = "ksql.hidden.topics", PropertyType::Text, Some("_confluent.*,__confluent.*,_schemas,__consumer_offsets,__transaction_state,connect-configs,connect-offsets,connect-status,connect-statuses"), Ksql, Server,
        "Patterns of topics that SHOW TOPICS leaves out";
    READONLY_TOPICS = "ksql.readonly.topics", PropertyType::Text, Some("_confluent.*,__confluent.*,_schemas,__consumer_offsets,__transaction_state,connect-configs,connect-offsets,connect-status,connect-statuses"), Ksql, Server,
        "Patterns of topics that statements may not write";
    AUTO_OFFSET_RESET = "auto.offset.reset", PropertyType::OneOf(&["earliest", "latest", "none"]), None, Streams, Session,
        "Where new queries start to read; unset: streams at the end, tables at the beginning";
    CACHE_MAX_BYTES = "cache.max.bytes.buffering", PropertyType::Bytes, Some("10000000"), Streams, Session,
        "Bytes of updates an aggregate or table join coalesces before it emits; 0: every change is emitted";
    COMMIT_INTERVAL_MS = "commit.interval.ms", PropertyType::Int(0), Some("2000"), Streams, Session,
        "Longest time in ms that coalesced updates are held; commits themselves are more frequent";
    PROCESSING_GUARANTEE = "processing.guarantee", PropertyType::OneOf(&["exactly_once_v2", "exactly_once", "exactly_once_beta", "at_least_once"]), Some("exactly_once_v2"), Streams, Session,
        "at_least_once lets Kafka commits go without transactions";
    MAX_TASK_IDLE_MS = "max.task.idle.ms", PropertyType::Int(-1), Some("0"), Streams, Session,
        "How long in ms a task waits for an input that lags behind the known end of its topic";
    WINDOW_IDLE_CLOSE_MS = "window.idle.close.ms", PropertyType::Int(0), Some("0"), Riverrun, Session,
        "After how many ms without input the windows of EMIT FINAL and of outer stream-stream joins close; 0: they wait for later rows. Ours; off with riverrun.dialect = ksql";
    STANDBY_REPLICAS = "num.standby.replicas", PropertyType::Int(0), Some("0"), Streams, Session,
        "On how many other nodes, where there are any, copies of a query's state are kept warm for the case that its node is lost";
    TOPOLOGY_OPTIMIZATION = "topology.optimization", PropertyType::OneOf(&["all", "none"]), Some("all"), Streams, Session,
        "Whether plans are optimized";
    TIMESTAMP_THROW = "ksql.timestamp.throw.on.invalid", PropertyType::Bool, Some("false"), Ksql, Session,
        "Whether a row without a valid timestamp fails its query instead of being skipped";
    FAIL_ON_DESERIALIZATION = "ksql.fail.on.deserialization.error", PropertyType::Bool, Some("false"), Ksql, Session,
        "Whether a record that cannot be decoded fails its query instead of being skipped";
    FAIL_ON_PRODUCTION = "ksql.fail.on.production.error", PropertyType::Bool, Some("true"), Ksql, Session,
        "Whether a record that cannot be written fails its query instead of being skipped";
    RETRY_BACKOFF_INITIAL_MS = "ksql.query.retry.backoff.initial.ms", PropertyType::Int(0), Some("15000"), Ksql, Server,
        "First wait in ms before a failed query starts again";
    RETRY_BACKOFF_MAX_MS = "ksql.query.retry.backoff.max.ms", PropertyType::Int(0), Some("900000"), Ksql, Server,
        "Longest wait in ms before a failed query starts again";
    ERROR_QUEUE_SIZE = "ksql.query.error.max.queue.size", PropertyType::Int(1), Some("10"), Ksql, Server,
        "How many errors a query remembers for EXPLAIN";
    COLLECT_LIST_LIMIT = "ksql.functions.collect_list.limit", PropertyType::Int(-2147483648), Some("-1"), Ksql, Session,
        "Most elements of COLLECT_LIST; negative: no limit";
    COLLECT_SET_LIMIT = "ksql.functions.collect_set.limit", PropertyType::Int(-2147483648), Some("-1"), Ksql, Session,
        "Most elements of COLLECT_SET; negative: no limit";
    INSERT_VALUES_ENABLED = "ksql.insert.into.values.enabled", PropertyType::Bool, Some("true"), Ksql, Session,
        "Whether INSERT INTO … VALUES and /inserts-stream are allowed";
    CREATE_OR_REPLACE_ENABLED = "ksql.create.or.replace.enabled", PropertyType::Bool, Some("true"), Ksql, Session,
        "Whether CREATE OR REPLACE is allowed";
    LAMBDAS_ENABLED = "ksql.lambdas.enabled", PropertyType::Bool, Some("true"), Ksql, Session,
        "Whether lambda functions are allowed";
    SUPPRESS_ENABLED = "ksql.suppress.enabled", PropertyType::Bool, Some("true"), Ksql, Session,
        "Whether EMIT FINAL is allowed";
    HEADERS_ENABLED = "ksql.headers.columns.enabled", PropertyType::Bool, Some("true"), Ksql, Session,
        "Whether HEADERS columns are allowed";
    VARIABLE_SUBSTITUTION = "ksql.variable.substitution.enable", PropertyType::Bool, Some("true"), Ksql, Session,
        "Whether ${variables} are put into statements";
    SOURCE_TABLES_ENABLED = "ksql.source.table.materialization.enabled", PropertyType::Bool, Some("true"), Ksql, Server,
        "Whether CREATE SOURCE TABLE keeps a table that pull queries can read";
    PERSISTENT_QUERY_LIMIT = "ksql.query.persistent.active.limit", PropertyType::Int(0), None, Ksql, Server,
        "Most persistent queries at once; unset: no limit";
    ASSERT_TOPIC_TIMEOUT_MS = "ksql.assert.topic.default.timeout.ms", PropertyType::Int(0), Some("1000"), Ksql, Session,
        "How long in ms ASSERT TOPIC tries";
    ASSERT_SCHEMA_TIMEOUT_MS = "ksql.assert.schema.default.timeout.ms", PropertyType::Int(0), Some("1000"), Ksql, Session,
        "How long in ms ASSERT SCHEMA tries";
    OVERRIDES_DENYLIST = "ksql.properties.overrides.denylist", PropertyType::Text, Some(""), Ksql, Server,
        "Names, with commas between, that sessions may not SET";
    FORWARDING_TIMEOUT_MS = "ksql.query.pull.forwarding.timeout.ms", PropertyType::Int(1), Some("20000"), Ksql, Server,
        "How long in ms another node may take to give the next rows of a pull query";
    HEARTBEAT_ENABLED = "ksql.heartbeat.enable", PropertyType::Bool, Some("false"), Ksql, Server,
        "Whether nodes tell each other that they live; pull queries are then not forwarded to those that do not";
    HEARTBEAT_SEND_MS = "ksql.heartbeat.send.interval.ms", PropertyType::Int(1), Some("100"), Ksql, Server,
        "Time in ms between heartbeats";
    HEARTBEAT_CHECK_MS = "ksql.heartbeat.check.interval.ms", PropertyType::Int(1), Some("200"), Ksql, Server,
        "Time in ms between two looks who lives";
    HEARTBEAT_WINDOW_MS = "ksql.heartbeat.window.ms", PropertyType::Int(1), Some("2000"), Ksql, Server,
        "Time in ms over which heartbeats are counted";
    HEARTBEAT_MISSED = "ksql.heartbeat.missed.threshold.ms", PropertyType::Int(1), Some("3"), Ksql, Server,
        "Heartbeats in a row that a node may miss before it counts as dead";
    HEARTBEAT_DISCOVER_MS = "ksql.heartbeat.discover.interval.ms", PropertyType::Int(1), Some("2000"), Ksql, Server,
        "Time in ms between two looks which nodes there are";
    LAG_ENABLED = "ksql.lag.reporting.enable", PropertyType::Bool, Some("false"), Ksql, Server,
        "Whether nodes tell each other how far their copies of state are";
    LAG_SEND_MS = "ksql.lag.reporting.send.interval.ms", PropertyType::Int(1), Some("5000"), Ksql, Server,
        "Time in ms between two reports";
    LEFTOVERS_GRACE_MS = "leftovers.grace.ms", PropertyType::Int(100), Some("60000"), Riverrun, Server,
        "How long in ms the node that dropped something is waited for before another one removes what it left";
    PULL_ENABLED = "ksql.pull.queries.enable", PropertyType::Bool, Some("true"), Ksql, Server,
        "Whether pull queries are allowed";
    PULL_TABLE_SCAN = "ksql.query.pull.table.scan.enabled", PropertyType::Bool, Some("true"), Ksql, Session,
        "Whether pull queries may read whole tables";
    PULL_RANGE_SCAN = "ksql.query.pull.range.scan.enabled", PropertyType::Bool, Some("true"), Ksql, Session,
        "Whether pull queries may read ranges of keys";
    PULL_STREAM = "ksql.query.pull.stream.enabled", PropertyType::Bool, Some("true"), Ksql, Session,
        "Whether pull queries may read streams";
    PULL_LIMIT_CLAUSE = "ksql.query.pull.limit.clause.enabled", PropertyType::Bool, Some("true"), Ksql, Session,
        "Whether pull queries may have LIMIT";
    PULL_STANDBY_READS = "ksql.query.pull.enable.standby.reads", PropertyType::Bool, Some("false"), Ksql, Session,
        "Whether pull queries may read a copy of the state (num.standby.replicas) when the node that has it cannot be asked";
    PULL_MAX_LAG = "ksql.query.pull.max.allowed.offset.lag", PropertyType::Int(0), None, Ksql, Session,
        "How many changelog records a copy of state may lack to be read; nodes that report more are not asked. Unset: any number";
    PULL_MAX_CONCURRENT = "ksql.query.pull.max.concurrent.requests", PropertyType::Int(0), None, Ksql, Server,
        "Most pull queries at once; unset: no limit";
    PULL_CANCEL_ON_DISCONNECT = "ksql.query.pull.cancel.on.disconnect.enabled", PropertyType::Bool, Some("true"), Ksql, Server,
        "Accepted as ksqlDB's; closing the connection always ends the query";
    MAX_PUSH_QUERIES = "ksql.max.push.queries", PropertyType::Int(0), Some("100"), Ksql, Server,
        "Most push queries at once";
    PUSH_V2 = "ksql.query.push.v2.enabled", PropertyType::Bool, Some("false"), Ksql, Session,
        "Accepted as ksqlDB's; push queries share nothing here that it would change";
    DISCONNECT_CHECK_MS = "query.stream.disconnect.check", PropertyType::Int(1), Some("1000"), Ksql, Server,
        "How often in ms an idle push query writes a newline on /query";
    PUSH_BUFFER_BYTES = "push.buffer.max.bytes", PropertyType::Bytes, Some("8 MiB"), Riverrun, Server,
        "Bytes of rows that wait for a slow client of a push query before its query is slowed";
    RESPONSE_BYTES = "response.max.bytes", PropertyType::Bytes, Some("1 GiB"), Riverrun, Server,
        "Largest answer to one pull query";
    RULES_OFF = "optimizer.rules.off", PropertyType::Text, Some(""), Riverrun, Session,
        "Names, with commas between, of optimizer rules that are not used (push_down_predicates)";
    QUERY_MEMORY = "query.memory.bytes", PropertyType::Bytes, Some("256 MiB"), Riverrun, Server,
        "Memory that one pull query may take";
    STATE_MEMORY = "state.memory.bytes", PropertyType::Bytes, Some("512 MiB"), Riverrun, Server,
        "Memory for the state of all queries, with the storage's caches";
    QUERY_STATE_MEMORY = "query.state.memory.bytes", PropertyType::Bytes, None, Riverrun, Session,
        "Memory for the state of one persistent query, as a part of state.memory.bytes; unset: all of it";
    STATE_CHANGELOG = "state.changelog.max.bytes", PropertyType::Bytes, Some("64 MiB"), Riverrun, Server,
        "Bytes of changelog a store may grow before its keyed store is written";
    COMMIT_BYTES = "commit.max.bytes", PropertyType::Bytes, Some("32 MiB"), Riverrun, Server,
        "Bytes of pending output and changed state that force a commit";
    KAFKA_BUFFER = "kafka.buffer.max.bytes", PropertyType::Bytes, Some("128 MiB"), Riverrun, Server,
        "Memory for records between Kafka's brokers and the tasks of all queries, about";
    STORAGE_MIN_FREE = "storage.min.free.bytes", PropertyType::Bytes, Some("256 MiB"), Riverrun, Server,
        "Free space of the disk below which commits stop before they write";
    STORAGE_FSYNC_MS = "storage.fsync.interval.ms", PropertyType::Int(0), Some("1000"), Riverrun, Server,
        "How often in ms commits are forced to disk; 0: each one";
    STORAGE_RECORDS_COMPRESSION = "storage.records.compression", PropertyType::OneOf(&["none", "lz4"]), Some("none"), Riverrun, Server,
        "How a new data directory of the embedded log packs records: lz4 takes about a third of the space of JSON, and more time to read and write";
    RECORD_BYTES = "record.max.bytes", PropertyType::Bytes, Some("16 MiB"), Riverrun, Server,
        "Largest record, key and value together";
    STATEMENT_BYTES = "statement.max.bytes", PropertyType::Bytes, Some("1 MiB"), Riverrun, Server,
        "Longest text of one statement";
    REQUEST_BYTES = "request.max.bytes", PropertyType::Bytes, Some("8 MiB"), Riverrun, Server,
        "Largest body of an HTTP request; on streams of rows or records, the largest line";
}

/// Other names of a property.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("statestore.cache.max.bytes", CACHE_MAX_BYTES),
    ("ksql.bootstrap.servers", BOOTSTRAP_SERVERS),
    ("schema.registry.url", SCHEMA_REGISTRY_URL),
];

/// First parts of names that are passed on as they are: to functions, Kafka's clients, the registry.
pub const FAMILIES: &[&str] = &[
    "ksql.functions.",
    "ksql.schema.registry.",
    "ksql.logging.",
    "ksql.authentication.",
    "ksql.security.",
    "authentication.",
    "access.control.",
    "sasl.",
    "security.",
    "ssl.",
    "client.",
    "group.",
    "topic.",
    "metadata.",
    "socket.",
    "session.timeout.",
    "heartbeat.interval.",
    "max.poll.",
    "fetch.",
    "compression.",
    "linger.",
    "batch.",
    "delivery.",
    "request.timeout.",
    "queued.",
    "transaction.",
    "queue.buffering.",
    "message.",
    "reconnect.",
    "broker.",
];

/// Names of ksqlDB's that are accepted and have no effect.
pub const INERT: &[&str] = &[
    "default.timestamp.extractor",
    "windowed.session.key.legacy",
    "ksql.windowed.session.key.legacy",
    "ksql.functions.substring.legacy.args",
    "use.exact.numeric.comparison",
    "__emit.interval.ms.kstreams.windowed.aggregation__",
    "__emit.interval.ms.kstreams.outer.join.spurious.results.fix__",
    "listeners.proxy.protocol",
    "ksql.internal.listener",
    "ksql.server.command.response.timeout.ms",
    "ksql.server.websockets.num.threads",
    "ksql.worker.pool.size",
    "ksql.verticle.instances",
    "ksql.idle.connection.timeout.seconds",
    "ksql.healthcheck.interval.ms",
    "ksql.server.command.blocked.threshold.error.ms",
    "ksql.server.command.topic.rate.limit",
    "ksql.server.preconditions",
    "ksql.server.sni.check.enable",
    "ksql.endpoint.logging.log.queries",
    "ksql.endpoint.migrate.query",
    "ksql.extension.dir",
    "ksql.udfs.enabled",
    "ksql.udf.collect.metrics",
    "ksql.udf.enable.security.manager",
    "ksql.connect.worker.config",
    "ksql.internal.topic.min.insync.replicas",
    "ksql.query.pull.interpreter.enabled",
    "ksql.query.pull.metrics.enabled",
    "ksql.query.pull.max.qps",
    "ksql.query.pull.max.hourly.bandwidth.megabytes",
    "ksql.query.pull.thread.pool.size",
    "ksql.query.pull.router.thread.pool.size",
    "ksql.query.push.v2.registry.installed",
    "ksql.query.push.v2.alos.enabled",
    "ksql.query.push.v2.continuation.tokens.enabled",
    "ksql.query.push.v2.max.catchup.consumers",
    "ksql.query.status.running.threshold.seconds",
    "ksql.query.persistent.max.bytes.buffering.total",
    "ksql.query.transient.max.bytes.buffering.total",
    "ksql.streams.shutdown.timeout.ms",
    "ksql.query.cleanup.shutdown.timeout.ms",
    "ksql.create.topic.inherit.source.replicas.enabled",
    "ksql.metastore.backup.location",
    "ksql.websocket.connection.max.timeout.ms",
    "ksql.access.validator.enable",
    "ksql.authorization.cache.expiry.time.secs",
    "ksql.authorization.cache.max.entries",
    "ksql.runtime.feature.shared.enabled",
    "ksql.shared.runtimes.count",
    "ksql.transient.query.cleanup.service.enable",
    "ksql.transient.query.cleanup.service.initial.delay.seconds",
    "ksql.transient.query.cleanup.service.period.seconds",
    "ksql.properties.overrides.allowlist",
    "ksql.properties.overrides.validation.mode",
    "state.dir",
    "ksql.queries.file",
];
