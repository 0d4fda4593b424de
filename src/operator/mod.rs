//! Step machines: change batches in, change batches out. One operator a file.
//!
//! No I/O, no clock, no threads: time, stores and output come in by the call. The walk of a step: the runtime hands a chain of
//! operators one batch for each input that has rows; [`Operator::process`] pushes output batches, in processing order; with
//! [`Progress::More`] the runtime ships the page, may commit (then [`Operator::rest`] is part of the commit) and calls
//! [`Operator::resume`] before that task takes input again. The subtle thing: the result of a step is that of handling its rows one at a time, in the order of their `seq`, however they happened to be cut.

pub mod aggregate;
mod aggregate_input;
mod aggregate_output;
pub mod chain;
mod coalesce;
mod computed;
mod explode;
pub mod flat_map;
pub mod foreign_key;
mod group_store;
mod groups;
mod port;
pub mod session_aggregate;
pub mod stateless;
pub mod stream_stream_join;
pub mod stream_table_join;
pub mod table_join;
mod tick;
pub mod upsert;
pub mod window_aggregate;

pub use chain::{StateReader, build, reader};

use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::function::FunctionLimits;
use crate::state::Store;
use crate::types::ChangeBatch;

/// Rows of a page, unless told otherwise.
pub const PAGE_ROWS: usize = 8192;

/// One batch for each input port of the operator that has rows in this step; rows are merged by `seq`.
pub type Step = Vec<Option<ChangeBatch>>;

/// Why a row was dropped or a value became NULL; the text of the processing log's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// offset of the input record it came from
    pub offset: i64,
    /// the kind, for counting
    pub kind: LossKind,
    /// the reason in words, with the column or expression
    pub reason: String,
}

/// Kinds of losses, as `EXPLAIN` counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossKind {
    /// bytes that no format reads
    Undecodable,
    /// no row time, or a negative one
    BadTimestamp,
    /// a table record, group or join without a key
    NullKey,
    /// a row for a window that is closed
    Late,
    /// an expression that failed on a row
    Expression,
    /// a row that no format writes
    Unencodable,
}

impl LossKind {
    /// As `EXPLAIN` and the processing log name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::BadTimestamp => "bad timestamp",
            Self::NullKey => "null key",
            Self::Late => "late",
            Self::Expression => "expression",
            Self::Unencodable => "unencodable",
        }
    }
}

/// Where an operator reports losses and reads its limits.
#[derive(Debug)]
pub struct StepContext {
    /// losses of this step, in order; the runtime logs and clears them
    pub losses: Vec<Loss>,
    /// rows after which an operator should end its page with [`Progress::More`]
    pub page_rows: usize,
    /// true: table results coalesce per key until `flush`; false: every change is its own row
    pub coalesce: bool,
    /// wall clock of the step in ms, for what the reference throttles; never decides a result
    pub wall_ms: i64,
    /// least wall-clock time between emissions of rows that an outer stream-stream join held back, in ms; 0: they are immediate
    pub outer_emit_interval_ms: i64,
    /// the session's `ksql.*` limits that functions read (`ksql.functions.collect_list.limit`, …)
    pub limits: std::sync::Arc<FunctionLimits>,
}

impl StepContext {
    /// A context with defaults: pages of 8192 rows, no coalescing.
    pub fn new() -> Self {
        Self {
            losses: Vec::new(),
            page_rows: PAGE_ROWS,
            coalesce: false,
            wall_ms: 0,
            outer_emit_interval_ms: 0,
            limits: Default::default(),
        }
    }

    /// Reports a lost row or value.
    pub fn lose(&mut self, offset: i64, kind: LossKind, reason: impl Into<String>) {
        self.losses.push(Loss { offset, kind, reason: reason.into() });
    }
}

impl Default for StepContext {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a call is through with its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// all input is handled
    Done,
    /// a page is full: ship it and call `resume`
    More,
}

/// What is left of a call after [`Progress::More`]: enough for another operator with the same state to go on exactly there.
#[derive(Debug, Default)]
pub struct Rest {
    /// rows of the input that are not through, one batch a port
    pub rows: Step,
    /// how far the operator is within the first of them, in its own bytes; empty if it has not begun with it
    pub within: Vec<u8>,
}

/// Why an operator stopped its query.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// an aggregate that may not fail did (overflow of a SUM of DECIMAL): the query is in ERROR and tries again
    #[error("{0}")]
    Function(String),
    /// a store or the log behind it failed
    #[error(transparent)]
    Store(#[from] crate::topic::TopicError),
    /// Arrow or DataFusion refused what analysis let pass: a defect of ours
    #[error("internal error in {operator}: {reason}")]
    Internal {
        /// which operator
        operator: &'static str,
        /// its words
        reason: String,
    },
}

impl OperatorError {
    /// A defect of ours in `operator`.
    pub fn internal(operator: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Internal { operator, reason: reason.to_string() }
    }

    /// What the caller may do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Function(_) | Self::Internal { .. } => ErrorClass::Query,
            Self::Store(error) => error.class(),
        }
    }
}

impl From<OperatorError> for Diagnostic {
    fn from(error: OperatorError) -> Self {
        Self::new(error.class(), error.to_string())
    }
}

/// A step machine.
///
/// *Order*: outputs are pushed in processing order and carry the `seq` of the row that caused them, non-decreasing over the batches of
/// one call. *Time*: row times may go back; stream time is the operator's own, kept in its store where it decides results.
/// *Holding*: after `flush` nothing is held but what is in a store. *Failure*: an error stops the query; a bad row is a [`Loss`].
pub trait Operator: Send {
    /// Handles one step.
    ///
    /// # Errors
    /// The query must stop.
    fn process(
        &mut self,
        step: Step,
        ctx: &mut StepContext,
        out: &mut Vec<ChangeBatch>,
    ) -> Result<Progress, OperatorError>;

    /// Goes on after [`Progress::More`].
    ///
    /// # Errors
    /// The query must stop.
    fn resume(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        let _ = (ctx, out);
        Ok(Progress::Done)
    }

    /// Rows of its second output since the last call, in order; asked for after each call of the others. Few operators have one.
    fn side(&mut self) -> Vec<ChangeBatch> {
        Vec::new()
    }

    /// What is left after [`Progress::More`], so that a commit can fall there; this operator goes on by [`Self::resume`] as if it had not
    /// been asked. `None`: no commit can fall between its pages, as long as it is not written.
    ///
    /// # Errors
    /// The query must stop.
    fn rest(&self) -> Result<Option<Rest>, OperatorError> {
        Ok(None)
    }

    /// Takes up what [`Self::rest`] of another operator gave at the commit that this one is restored to; [`Self::resume`] goes on.
    ///
    /// # Errors
    /// If the rest is not one of this operator's.
    fn reopen(&mut self, rest: Rest, ctx: &mut StepContext) -> Result<(), OperatorError> {
        let _ = (rest, ctx);
        Err(OperatorError::internal("an operator", "it cannot go on between pages"))
    }

    /// True if it holds windows that give their results only when stream time has passed them.
    ///
    /// # Errors
    /// The query must stop.
    fn waits_for_time(&mut self) -> Result<bool, OperatorError> {
        Ok(false)
    }

    /// Closes all of them, as if stream time had passed them all. Between steps only; [`Self::resume`] goes on, as with a step.
    ///
    /// # Errors
    /// The query must stop.
    fn close_windows(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        let _ = (ctx, out);
        Ok(Progress::Done)
    }

    /// Gives out what coalescing held back; called before each commit, also between the pages of a step. With [`Progress::More`] it is
    /// called again, after the page was shipped.
    ///
    /// # Errors
    /// The query must stop.
    fn flush(&mut self, ctx: &mut StepContext, out: &mut Vec<ChangeBatch>) -> Result<Progress, OperatorError> {
        let _ = (ctx, out);
        Ok(Progress::Done)
    }

    /// The operator's stores, always in the same order.
    fn stores(&mut self) -> Vec<&mut dyn Store> {
        Vec::new()
    }
}
