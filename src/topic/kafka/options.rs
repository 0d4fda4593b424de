//! Which Kafka, and how its clients are set up.
//!
//! Knows names of librdkafka's properties, no topics. The subtle thing: a property of the user's goes to every client that knows it; some
//! are ours alone, since what they say is what the log promises (isolation, idempotence, who commits).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::budget::RECORD_BYTES;
use super::java;
use crate::topic::TopicError;

/// How a log over Kafka is opened. Has no `Debug` form, since there are secrets in it.
#[derive(Clone)]
pub struct KafkaOptions {
    /// brokers as host:port, with commas
    pub bootstrap_servers: String,
    /// the service: its nodes share work
    pub service_id: String,
    /// where this node keeps its copy of state
    pub state_dir: PathBuf,
    /// properties for librdkafka, by its names
    pub client: BTreeMap<String, String>,
    /// replicas of changelog topics
    pub internal_replicas: i16,
    /// outputs, state and positions of a commit in one transaction; false: at least once
    pub exactly_once: bool,
    /// the URL under which other nodes reach this one
    pub advertised: Option<String>,
    /// memory between brokers and tasks, of all queries (`kafka.buffer.max.bytes`)
    pub buffer_bytes: usize,
    /// put before the name of each topic, group and transaction; for tests that share a broker
    pub namespace: String,
}

/// How long a member may be silent in ms, unless it is set: short, since state must move soon.
const SESSION_MS: u64 = 10_000;
const SESSION_TEXT: &str = "10000";

/// Longest time between signs of life of a member, unless it is set.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What `message.max.bytes` is where nobody says anything.
const MESSAGE_BYTES: usize = 1_000_000;

/// What nobody may set, because the log's promises are made of it.
const OURS: &[&str] = &[
    "bootstrap.servers",
    "group.id",
    "transactional.id",
    "isolation.level",
    "enable.idempotence",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "auto.offset.reset",
    "dr_cb",
    "acks",
    "partition.assignment.strategy",
];

impl KafkaOptions {
    /// Checks the properties: values that librdkafka refuses are errors, names that it does not know are warned about and left out.
    ///
    /// # Errors
    /// [`TopicError::Invalid`] with the property.
    pub(super) fn checked(mut self) -> Result<Self, TopicError> {
        let mut known = BTreeMap::new();
        if self.client.get("group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer")) {
            let reason = "property group.protocol: groups of the newer protocol are not supported yet; leave it out";
            return Err(TopicError::Invalid(reason.to_owned()));
        }
        for (name, value) in java::translated(std::mem::take(&mut self.client))? {
            if OURS.contains(&name.as_str()) {
                continue;
            }
            match ClientConfig::new().set(&name, &value).create_native_config() {
                Ok(_) => {
                    known.insert(name, value);
                }
                Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
                    tracing::warn!("property {name} is not one of Kafka's client here and has no effect");
                }
                // The reason may repeat the value.
                Err(KafkaError::ClientConfig(_, reason, ..)) => {
                    let reason = if value.is_empty() { reason } else { reason.replace(&value, "…") };
                    return Err(TopicError::Invalid(format!("property {name}: {reason}")));
                }
                Err(_) => return Err(TopicError::Invalid(format!("property {name} is refused by Kafka's client"))),
            }
        }
        self.client = known;
        Ok(self)
    }

    /// What every client gets: ours first, then the user's.
    fn base(&self, ours: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers).set("client.id", "riverrun");
        // Half of it is also how long a client waits between its first connections, which a start needs several of; it grows if they fail.
        config.set("reconnect.backoff.ms", "20");
        // What a client would tell brokers of itself costs it memory and time.
        config.set("enable.metrics.push", "false");
        for (name, value) in ours {
            config.set(*name, *value);
        }
        for (name, value) in &self.client {
            config.set(name, value);
        }
        config
    }

    /// How long a member of a group may be silent before it is given up.
    pub(super) fn session(&self) -> Duration {
        let ms = self.client.get("session.timeout.ms").and_then(|ms| ms.trim().parse().ok());
        Duration::from_millis(ms.unwrap_or(SESSION_MS))
    }

    /// For questions and for topics.
    pub(super) fn admin(&self) -> ClientConfig {
        self.base(&[("isolation.level", "read_committed")])
    }

    /// For reading in group `group`; about so many bytes are fetched ahead.
    pub(super) fn consumer(&self, group: &str, fetched: usize) -> ClientConfig {
        // A queue that has this much asks for no more, but takes what one fetch brings.
        let (fetch, queue) = ((fetched / 3).to_string(), (fetched / 3 * 2 / 1024).max(1).to_string());
        // However small they are: the client counts their own bytes alone.
        let records = (fetched / RECORD_BYTES).max(1).to_string();
        let heartbeat = (self.session() / 3).min(HEARTBEAT).as_millis().max(1).to_string();
        let mut config = self.base(&[
            // The end of a partition is known when a fetch comes back empty; joins wait for it.
            ("fetch.wait.max.ms", "100"),
            ("queued.min.messages", &records),
            ("queued.max.messages.kbytes", &queue),
            // What a full queue puts off goes on at once when there is room; the default waits a second.
            ("fetch.queue.backoff.ms", "2"),
            ("fetch.max.bytes", &fetch),
            ("fetch.error.backoff.ms", "100"),
            ("session.timeout.ms", SESSION_TEXT),
            // By its heartbeats a member hears that another one is gone.
            ("heartbeat.interval.ms", &heartbeat),
        ]);
        // A fetch may not be smaller than the largest message, says the client; that is one for producers, and a fetch brings a larger one.
        if let Some(fetch) = config.get("fetch.max.bytes").and_then(|bytes| bytes.trim().parse::<usize>().ok()) {
            config.set("message.max.bytes", fetch.clamp(1000, MESSAGE_BYTES).to_string());
        }
        if let Some(url) = &self.advertised {
            // Where the group is described, its members tell by this who they are.
            config.set("client.id", url);
        }
        config
            .set("group.id", group)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("partition.assignment.strategy", "range")
            .set("auto.offset.reset", "earliest");
        config
    }

    /// For writing; in transactions if `transactional` names them.
    pub(super) fn producer(&self, transactional: Option<&str>) -> ClientConfig {
        let mut config = self.base(&[
            // Under load batches fill by themselves, since they are made while others are on their way.
            ("linger.ms", "1"),
            // A record on its way costs some hundred bytes beside its own. The budget of the process says less where many write.
            ("queue.buffering.max.messages", "30000"),
            ("queue.buffering.max.kbytes", "16384"),
            ("retry.backoff.ms", "20"),
        ]);
        config.set("enable.idempotence", "true").set("acks", "all");
        if let Some(id) = transactional {
            config.set("transactional.id", id);
            if !self.client.contains_key("transaction.timeout.ms") {
                config.set("transaction.timeout.ms", "10000");
            }
        }
        config
    }
}
