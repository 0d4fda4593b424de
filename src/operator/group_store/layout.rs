//! How the row of a group is made up: carried columns first, then the state columns of each call.
//!
//! Makes accumulators and loads them. The subtle thing: types and order of the columns follow from the spec alone, so that a reader needs
//! nothing but the spec.

use arrow::datatypes::DataType;

use crate::function::FunctionLimits;
use crate::function::aggregate::{Accumulator, AccumulatorArgs, Slot, accumulator, carried};
use crate::operator::OperatorError;
use crate::plan::topology::AggregateSpec;
use crate::state::encoding::{KeyCodec, RowCodec, split_window};
use crate::topic::{KeyedSnapshot, TopicError};
use crate::types::SqlType;

/// How the parts of a stored row belong together.
#[derive(Clone)]
pub(in crate::operator) struct Layout {
    pub(super) spec: AggregateSpec,
    limits: FunctionLimits,
    input: Vec<SqlType>,
    keys: KeyCodec,
    pub(super) rows: RowCodec,
    /// state columns of each accumulator
    widths: Vec<usize>,
}

impl Layout {
    /// The layout of `spec` over input columns of these types.
    ///
    /// # Errors
    /// If a call is not one that analysis lets pass.
    pub fn new(spec: &AggregateSpec, limits: &FunctionLimits, input: &[DataType]) -> Result<Self, OperatorError> {
        let internal = |reason: String| OperatorError::internal("aggregate", reason);
        let types =
            input.iter().map(|ty| SqlType::from_arrow(ty).ok_or_else(|| internal(format!("no SQL type is {ty}"))));
        let input_types: Vec<SqlType> = types.collect::<Result<_, _>>()?;
        let keys = KeyCodec::new(&input[..spec.key_count])?;
        let mut layout = Self {
            spec: spec.clone(),
            limits: limits.clone(),
            input: input_types,
            keys,
            rows: RowCodec::new(&[])?,
            widths: Vec::new(),
        };
        let states: Vec<Vec<SqlType>> = layout.accumulators()?.iter().map(|a| a.state_types()).collect();
        layout.widths = states.iter().map(Vec::len).collect();
        layout.rows = RowCodec::new(&states.iter().flatten().map(SqlType::to_arrow).collect::<Vec<_>>())?;
        Ok(layout)
    }

    /// Fresh accumulators: one for each carried column, then one a call.
    pub fn accumulators(&self) -> Result<Vec<Box<dyn Accumulator>>, OperatorError> {
        let mut made: Vec<_> = self.spec.carried.iter().map(|&i| carried(&self.input[i])).collect();
        for call in &self.spec.calls {
            let args = AccumulatorArgs {
                function: &call.function,
                arg_types: &call.arg_types,
                literals: &call.literals,
                limits: &self.limits,
            };
            made.push(accumulator(&args).map_err(|e| OperatorError::internal("aggregate", e))?);
        }
        Ok(made)
    }

    /// True if the changelog says which windows are over: those of EMIT FINAL may owe a result after their retention.
    pub fn tells_expiry(&self) -> bool {
        self.spec.emit_final
    }

    /// The bound before which a stored window counts no more: for time windows of their starts, for sessions of their ends. `None`: all count.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn kept_from(&self, store: &dyn KeyedSnapshot) -> Result<Option<i64>, TopicError> {
        let Some(window) = self.spec.window else { return Ok(None) };
        let time = store.get(&super::stream_time_key())?.map(|row| RowCodec::rowtime(&row)).transpose()?;
        Ok(time.map(|time| time.saturating_sub(window.retention_ms)))
    }

    /// True if the window of a stored key counts by the bound of [`Self::kept_from`].
    ///
    /// # Errors
    /// If the key does not read back.
    pub fn is_kept(&self, key: &[u8], kept_from: i64) -> Result<bool, TopicError> {
        let sessions = self.spec.window.is_some_and(|window| window.size_ms().is_none());
        let (_, start, end) = split_window(key)?;
        Ok(kept_from <= if sessions { end } else { start })
    }

    /// The codec of group keys.
    pub fn keys(&self) -> &KeyCodec {
        &self.keys
    }

    /// Loads stored rows into slots.
    ///
    /// # Errors
    /// If a row does not read back.
    pub fn load<'a>(
        &self,
        accumulators: &mut [Box<dyn Accumulator>],
        slots: &[Slot],
        rows: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<i64>, TopicError> {
        let mut decoder = self.rows.decoder(slots.len());
        for row in rows {
            decoder.push(row)?;
        }
        let decoded = decoder.finish()?;
        let mut columns = &decoded.columns[..];
        for (accumulator, width) in accumulators.iter_mut().zip(&self.widths) {
            let (states, rest) = columns.split_at(*width);
            accumulator.load(slots, states);
            columns = rest;
        }
        Ok(decoded.rowtime.to_vec())
    }
}
