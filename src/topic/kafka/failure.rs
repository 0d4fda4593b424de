//! What Kafka says no with, and what a log makes of it.
//!
//! Decides nothing. The subtle thing: a failure in a transaction may mean "again", "abort" or "a new producer"; all three are told apart here.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::topic::TopicError;
use crate::types::TopicName;

/// What became of records whose transaction had failed already; why, only the client's log says.
const PURGED: &str = "the transaction failed and its records were dropped; the log has Kafka's reason (TXNERR), such as a missing authorization for a topic";

/// A failed call.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// Kafka's code, if it has one
    pub code: Option<RDKafkaErrorCode>,
    /// in words
    pub reason: String,
    /// the same call may work now
    pub retriable: bool,
    /// the client is of no use any more
    pub fatal: bool,
}

impl Failure {
    /// A failure without a code.
    pub fn said(reason: String) -> Self {
        Self { code: None, reason, retriable: false, fatal: false }
    }

    /// True for this code.
    pub fn is(&self, code: RDKafkaErrorCode) -> bool {
        self.code == Some(code)
    }

    /// As an error of the log; `what` was tried.
    pub fn of(self, what: &str) -> TopicError {
        TopicError::Io { what: what.to_owned(), reason: self.reason }
    }

    /// As an error of the log about a topic.
    pub fn of_topic(self, what: &str, topic: &TopicName) -> TopicError {
        match self.code {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                TopicError::UnknownTopic(topic.clone())
            }
            Some(RDKafkaErrorCode::TopicAlreadyExists) => TopicError::Exists(topic.clone()),
            Some(
                RDKafkaErrorCode::InvalidTopic
                | RDKafkaErrorCode::InvalidPartitions
                | RDKafkaErrorCode::InvalidReplicationFactor
                | RDKafkaErrorCode::InvalidConfig
                | RDKafkaErrorCode::PolicyViolation,
            ) => TopicError::Invalid(format!("topic '{topic}': {}", self.reason)),
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                TopicError::Invalid(format!("Kafka does not let us {what} '{topic}': {}", self.reason))
            }
            _ => self.of(&format!("{what} '{topic}'")),
        }
    }

    /// As an error of the log about a whole group, with what helps.
    pub fn of_group(self, group: &str) -> TopicError {
        let remedy = match self.code {
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => "allow READ on the group to the user of the nodes",
            Some(RDKafkaErrorCode::InconsistentGroupProtocol) => {
                "all members need the same release, group.protocol and partition.assignment.strategy"
            }
            Some(RDKafkaErrorCode::InvalidSessionTimeout) => {
                "set session.timeout.ms between the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms"
            }
            Some(RDKafkaErrorCode::GroupMaxSizeReached) => "run fewer nodes, or raise the brokers' group.max.size",
            Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId) => {
                "give each node its own group.instance.id, and start this one again"
            }
            Some(RDKafkaErrorCode::ClusterAuthorizationFailed) => "allow it to the user of the nodes",
            _ => return self.of(&format!("join group '{group}'")),
        };
        TopicError::Invalid(format!("group '{group}' cannot be joined: {}; {remedy}", self.reason))
    }
}

impl From<RDKafkaErrorCode> for Failure {
    fn from(code: RDKafkaErrorCode) -> Self {
        let fatal =
            matches!(code, RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced | RDKafkaErrorCode::InvalidProducerEpoch);
        let reason = match code {
            RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight => PURGED.to_owned(),
            code => code.to_string(),
        };
        Self { code: Some(code), reason, retriable: false, fatal }
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        match &error {
            KafkaError::Transaction(inner) => Self {
                code: Some(inner.code()),
                reason: inner.string(),
                retriable: inner.is_retriable(),
                fatal: inner.is_fatal(),
            },
            _ => match error.rdkafka_error_code() {
                Some(code @ (RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)) => code.into(),
                Some(code) => Self { reason: error.to_string(), ..code.into() },
                None => Self::said(error.to_string()),
            },
        }
    }
}
