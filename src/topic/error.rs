//! What can go wrong with topics, and what the caller may do.
//!
//! Texts for users only. The subtle thing: an aborted commit left nothing behind, a poisoned log nobody knows before it is opened again.

use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::storage::StorageError;
use crate::types::TopicName;

/// What can go wrong with topics.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// no such topic or partition
    #[error("topic '{0}' does not exist")]
    UnknownTopic(TopicName),
    /// the partition is not there
    #[error("topic '{topic}' has no partition {partition}")]
    UnknownPartition {
        /// the topic
        topic: TopicName,
        /// the partition asked for
        partition: i32,
    },
    /// a topic of that name is there already
    #[error("topic '{0}' exists already")]
    Exists(TopicName),
    /// a topic name or spec that cannot be
    #[error("{0}")]
    Invalid(String),
    /// the record is larger than a limit
    #[error("a record of {size} bytes for topic '{topic}' exceeds {limit_name} = {limit}")]
    TooLarge {
        /// the topic
        topic: TopicName,
        /// bytes
        size: usize,
        /// the property that limits it
        limit_name: &'static str,
        /// its value in bytes
        limit: usize,
    },
    /// another process has the data directory
    #[error(
        "the data directory {dir} is in use by another riverrun (process {pid}); stop it, or name another folder with --data-dir"
    )]
    Locked {
        /// the directory
        dir: String,
        /// who has it, or "?"
        pid: String,
    },
    /// the data directory was written by another version
    #[error(
        "the data directory {dir} has format {found}, this riverrun reads format {expected}; use the release that wrote it, or another --data-dir"
    )]
    Format {
        /// the directory
        dir: String,
        /// what is there
        found: String,
        /// what we write
        expected: u32,
    },
    /// stored bytes do not read back
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
    /// a write failed; nothing more is written until the storage is reopened
    #[error("the storage stopped after a failed write: {0}")]
    Poisoned(String),
    /// a commit failed and nothing of it is there; the next one may go well
    #[error("the commit was given up: {0}")]
    Aborted(String),
    /// a commit that was not begun, since the task's partitions went to the group in between; it may be made if they come back
    #[error("the commit was not begun: {0}")]
    Unsent(String),
    /// too little space
    #[error("{free} bytes are free in {dir}, less than storage.min.free.bytes = {limit}; free some space")]
    DiskFull {
        /// the directory
        dir: String,
        /// bytes free
        free: u64,
        /// bytes required
        limit: u64,
    },
    /// the storage says no
    #[error("{what}: {reason}")]
    Io {
        /// what was tried, with the path
        what: String,
        /// the system's words
        reason: String,
    },
}

impl TopicError {
    /// What the caller may do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::UnknownTopic(_) | Self::UnknownPartition { .. } | Self::Exists(_) | Self::Invalid(_) => {
                ErrorClass::User
            }
            Self::TooLarge { .. } => ErrorClass::Record,
            Self::Locked { .. } | Self::Format { .. } => ErrorClass::Fatal,
            Self::Corrupt(_) => ErrorClass::Query,
            Self::Poisoned(_) | Self::Aborted(_) | Self::Unsent(_) | Self::DiskFull { .. } | Self::Io { .. } => {
                ErrorClass::Retry
            }
        }
    }
}

impl From<StorageError> for TopicError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Locked { dir, pid } => Self::Locked { dir, pid },
            StorageError::Format { dir, found, expected } => Self::Format { dir, found, expected },
            StorageError::Corrupt(what) => Self::Corrupt(what),
            StorageError::Poisoned(reason) => Self::Poisoned(reason),
            StorageError::DiskFull { dir, free, limit } => Self::DiskFull { dir, free, limit },
            StorageError::Io { what, reason } => Self::Io { what, reason },
        }
    }
}

impl From<TopicError> for Diagnostic {
    fn from(error: TopicError) -> Self {
        Self::new(error.class(), error.to_string())
    }
}
