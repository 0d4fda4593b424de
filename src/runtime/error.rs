//! Why a task stopped, and why a call of the runtime was refused.
//!
//! Knows nothing of retries: [`TaskError::class`] tells `query` what to do. The subtle thing: a panic inside a step is an error of its query,
//! not of the process.

use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::operator::OperatorError;
use crate::topic::TopicError;
use crate::types::QueryId;

/// Why a task stopped.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// the log failed, or what it holds is damaged
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// an operator stopped the query
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// an operator or codec could not be made
    #[error("{0}")]
    Build(#[from] Diagnostic),
    /// a bad record, where the query's properties say that one is fatal
    #[error("{0}; set {1} = 'false' to skip such records")]
    BadRecord(String, &'static str),
    /// a panic inside a step: a defect of ours
    #[error("the query panicked: {0}")]
    Panic(String),
    /// the reader of a push query took nothing for too long
    #[error("the reader took no rows for {0} ms, the query was closed; read faster, or run it again")]
    SlowReader(i64),
}

impl TaskError {
    /// What the caller may do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Topic(error) => error.class(),
            Self::Operator(error) => error.class(),
            Self::Build(error) => error.class,
            Self::BadRecord(..) => ErrorClass::User,
            Self::Panic(_) => ErrorClass::Query,
            Self::SlowReader(_) => ErrorClass::Fatal,
        }
    }
}

impl From<arrow::error::ArrowError> for TaskError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Operator(OperatorError::internal("runtime", error))
    }
}

/// Why a call of the runtime was refused.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// no such query
    #[error("query '{0}' is not running here")]
    UnknownQuery(QueryId),
    /// the id is taken
    #[error("query '{0}' runs already; terminate it first")]
    Exists(QueryId),
    /// an internal topic is there, but of another shape
    #[error(
        "internal topic '{topic}' has {found} partitions, the query needs {wanted}; delete the topic, or start the query under a new id"
    )]
    InternalTopic {
        /// its name
        topic: String,
        /// partitions there
        found: i32,
        /// partitions needed
        wanted: i32,
    },
    /// the query keeps no table that could be read
    #[error("query '{0}' keeps no state that a pull query could read")]
    NotMaterialized(QueryId),
    /// its state is being read back
    #[error("the state of query '{0}' is not available yet; try again later")]
    NotReady(QueryId),
    /// the log failed
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// a task failed while it was driven by hand
    #[error(transparent)]
    Task(#[from] TaskError),
}

impl RuntimeError {
    /// What the caller may do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Topic(error) => error.class(),
            Self::Task(error) => error.class(),
            Self::NotReady(_) => ErrorClass::Retry,
            Self::UnknownQuery(_) | Self::Exists(_) | Self::InternalTopic { .. } | Self::NotMaterialized(_) => {
                ErrorClass::User
            }
        }
    }
}

impl From<RuntimeError> for Diagnostic {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Task(TaskError::Build(diagnostic)) => diagnostic,
            other => Self::new(other.class(), other.to_string()),
        }
    }
}
