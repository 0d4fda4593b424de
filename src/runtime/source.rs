//! The reading end of a declared source: records to rows.
//!
//! Drops what gives no row and says so; never fails for a record, unless the query's properties ask for it. The subtle thing: records
//! are decoded with the wanted columns only, but a record whose key or value is not readable is gone as a whole.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int32Array, Int64Array, new_null_array};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};

use crate::diagnostic::Diagnostic;
use crate::format::key::decode_windowed;
use crate::format::{self, Decoded, Format, RecordDecoder, Side};
use crate::operator::{Loss, LossKind};
use crate::plan::topology::{KeyWindow, SourceInput};
use crate::topic::RawBatch;
use crate::types::{ChangeBatch, Column, ColumnRole, RowMeta, SqlType, WindowBounds, pseudo};

use super::error::TaskError;
use super::row_time::RowTimeReader;
use super::rows::no_headers;

/// Which bad records stop the query instead of being skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strictness {
    /// `ksql.fail.on.deserialization.error`
    pub undecodable: bool,
    /// `ksql.timestamp.throw.on.invalid`
    pub bad_timestamp: bool,
}

/// Where a column of the output comes from.
#[derive(Clone, Debug)]
enum From {
    Key(usize),
    Value(usize),
    RowTime,
    RowPartition,
    RowOffset,
    WindowStart,
    WindowEnd,
    Headers,
    Header(Arc<str>),
}

/// Decodes the records of one partition of a source.
pub(super) struct SourceNode {
    partition: i32,
    is_table: bool,
    window: Option<KeyWindow>,
    key_columns: usize,
    key: Option<Box<dyn RecordDecoder>>,
    value: Option<Box<dyn RecordDecoder>>,
    columns: Vec<From>,
    timestamp: Option<(From, RowTimeReader)>,
    strictness: Strictness,
}

/// What a batch of records gave.
pub(super) struct SourceRows {
    /// the rows
    pub batch: ChangeBatch,
    /// for each row, which record it came from; `None`: row `i` from record `i`
    pub kept: Option<Vec<u32>>,
    /// records that gave none, ascending by offset
    pub losses: Vec<Loss>,
}

impl SourceNode {
    /// The source for one partition.
    ///
    /// # Errors
    /// If a format cannot hold the declared columns, or a wanted column is not there.
    pub fn new(spec: &SourceInput, partition: i32, strictness: Strictness) -> Result<Self, Diagnostic> {
        let mut wanted = Wanted::new(spec);
        let columns = spec.wanted.iter().map(|name| wanted.column(name.as_str())).collect::<Result<Vec<_>, _>>()?;
        let timestamp = match &spec.timestamp {
            Some(timestamp) => {
                let (_, reader) = RowTimeReader::for_column(timestamp, &spec.declared)?;
                Some((wanted.column(timestamp.column.as_str())?, reader))
            }
            None => None,
        };
        let side = |format: &format::FormatSpec, side, declared: &[Column], wanted: &[usize]| {
            let none = declared.is_empty() || format.format == Format::None;
            if none { Ok(None) } else { format::decoder(format, side, declared, wanted).map(Some) }
        };
        Ok(Self {
            partition,
            is_table: spec.is_table,
            window: spec.window,
            key_columns: wanted.keys.len(),
            key: side(&spec.key_format, Side::Key, &wanted.keys, &wanted.from_key)?,
            value: side(&spec.value_format, Side::Value, &wanted.values, &wanted.from_value)?,
            columns,
            timestamp,
            strictness,
        })
    }

    /// The rows of these records.
    ///
    /// # Errors
    /// If a bad record shall stop the query, or Arrow refuses (a defect of ours).
    pub fn decode(&mut self, raw: &RawBatch) -> Result<SourceRows, TaskError> {
        let mut bad = BadRows::new(raw);
        let (keys, window) = match self.window {
            Some(kind) => {
                let (keys, bounds) = split_windows(&raw.keys, kind, &mut bad);
                (keys, Some(bounds))
            }
            None => (raw.keys.clone(), None),
        };
        let key = decode_side(self.key.as_mut(), &keys, "key", &mut bad);
        let value = decode_side(self.value.as_mut(), &raw.values, "value", &mut bad);
        if self.strictness.undecodable
            && let Some(loss) = bad.first()
        {
            return Err(TaskError::BadRecord(loss, "ksql.fail.on.deserialization.error"));
        }
        if self.is_table {
            self.drop_null_keys(&keys, &key, &mut bad);
        }
        let present = match (&value.present, raw.values.nulls()) {
            (Some(present), _) => Some(present.clone()),
            (None, Some(nulls)) if self.value.is_none() => Some(nulls.inner().clone()),
            _ => None,
        };
        let rowtime = self.row_times(raw, &key, &value, present.as_ref(), &mut bad)?;
        let meta = RowMeta {
            rowtime,
            seq: (0..raw.len() as u32).collect(),
            offset: raw.offsets.clone(),
            window,
            headers: raw.headers.clone(),
            keyed: if self.key_columns > 1 { keys.nulls().map(|nulls| nulls.inner().clone()) } else { None },
        };
        let columns = self.columns.iter().map(|from| self.column(from, raw, &key, &value, &meta)).collect();
        let batch = ChangeBatch { columns, present, old: None, meta };
        bad.remove_from(batch)
    }

    fn drop_null_keys(&self, keys: &BinaryArray, key: &Decoded, bad: &mut BadRows<'_>) {
        for row in 0..keys.len() {
            if keys.is_null(row) || key.present.as_ref().is_some_and(|p| !p.value(row)) {
                bad.lose(row, LossKind::NullKey, || "a table record without key was skipped".to_owned());
            }
        }
    }

    /// Row times: of the record or of a column. Tombstones have no columns but those of the key, and keep the record's.
    fn row_times(
        &self,
        raw: &RawBatch,
        key: &Decoded,
        value: &Decoded,
        present: Option<&BooleanBuffer>,
        bad: &mut BadRows<'_>,
    ) -> Result<ScalarBuffer<i64>, TaskError> {
        let Some((from, reader)) = &self.timestamp else {
            for (row, &time) in raw.timestamps.iter().enumerate().filter(|(_, t)| **t < 0) {
                bad.lose(row, LossKind::BadTimestamp, || format!("the record's timestamp {time} is negative"));
            }
            return Ok(raw.timestamps.clone());
        };
        let (array, of_value) = match from {
            From::Key(i) => (&key.columns[*i], false),
            From::Value(i) => (&value.columns[*i], true),
            _ => unreachable!("timestamp columns are declared key or value columns"),
        };
        let times = reader.read(array);
        let mut result = raw.timestamps.to_vec();
        for (row, result) in result.iter_mut().enumerate() {
            if bad.is_bad(row) || (of_value && present.is_some_and(|p| !p.value(row))) {
                continue;
            }
            match times.time(row) {
                Ok(time) => *result = time,
                Err(reason) if self.strictness.bad_timestamp => {
                    return Err(TaskError::BadRecord(reason, "ksql.timestamp.throw.on.invalid"));
                }
                Err(reason) => bad.lose(row, LossKind::BadTimestamp, || reason),
            }
        }
        Ok(result.into())
    }

    fn column(&self, from: &From, raw: &RawBatch, key: &Decoded, value: &Decoded, meta: &RowMeta) -> ArrayRef {
        let longs = |b: &ScalarBuffer<i64>| Arc::new(Int64Array::new(b.clone(), None)) as ArrayRef;
        let window = |pick: fn(&WindowBounds) -> &ScalarBuffer<i64>| match &meta.window {
            Some(window) => longs(pick(window)),
            None => new_null_array(&SqlType::BigInt.to_arrow(), raw.len()),
        };
        match from {
            From::Key(i) => key.columns[*i].clone(),
            From::Value(i) => value.columns[*i].clone(),
            From::RowTime => longs(&meta.rowtime),
            From::RowPartition => Arc::new(Int32Array::from_value(self.partition, raw.len())),
            From::RowOffset => longs(&raw.offsets),
            From::WindowStart => window(|w| &w.start),
            From::WindowEnd => window(|w| &w.end),
            From::Headers => raw.headers.clone().unwrap_or_else(|| no_headers(raw.len())),
            From::Header(name) => header_column(raw, name),
        }
    }
}

/// Collects which columns the decoders must build.
struct Wanted<'a> {
    spec: &'a SourceInput,
    keys: Vec<Column>,
    values: Vec<Column>,
    from_key: Vec<usize>,
    from_value: Vec<usize>,
}

impl<'a> Wanted<'a> {
    fn new(spec: &'a SourceInput) -> Self {
        let of = |role: ColumnRole| spec.declared.columns().iter().filter(|c| c.role == role).cloned().collect();
        Self {
            spec,
            keys: of(ColumnRole::Key),
            values: of(ColumnRole::Value),
            from_key: Vec::new(),
            from_value: Vec::new(),
        }
    }

    fn column(&mut self, name: &str) -> Result<From, Diagnostic> {
        if let Some(column) = self.spec.declared.column(name) {
            let place = |columns: &[Column], wanted: &mut Vec<usize>| {
                let index = columns.iter().position(|c| c.name.as_str() == name).expect("the column is declared");
                wanted.iter().position(|&w| w == index).unwrap_or_else(|| {
                    wanted.push(index);
                    wanted.len() - 1
                })
            };
            return Ok(match &column.role {
                ColumnRole::Key => From::Key(place(&self.keys, &mut self.from_key)),
                ColumnRole::Value => From::Value(place(&self.values, &mut self.from_value)),
                ColumnRole::Header(None) => From::Headers,
                ColumnRole::Header(Some(key)) => From::Header(key.clone()),
            });
        }
        Ok(match name {
            pseudo::ROWTIME => From::RowTime,
            pseudo::ROWPARTITION => From::RowPartition,
            pseudo::ROWOFFSET => From::RowOffset,
            pseudo::WINDOWSTART => From::WindowStart,
            pseudo::WINDOWEND => From::WindowEnd,
            _ => return Err(Diagnostic::user(format!("source '{}' has no column '{name}'", self.spec.source))),
        })
    }
}

/// Which records of a batch give no row, and why.
struct BadRows<'a> {
    raw: &'a RawBatch,
    /// by row; empty while all are good
    bad: Vec<bool>,
    losses: Vec<Loss>,
}

impl<'a> BadRows<'a> {
    fn new(raw: &'a RawBatch) -> Self {
        Self { raw, bad: Vec::new(), losses: Vec::new() }
    }

    fn is_bad(&self, row: usize) -> bool {
        self.bad.get(row).copied().unwrap_or(false)
    }

    fn first(&self) -> Option<String> {
        self.losses.first().map(|l| format!("record at offset {}: {}", l.offset, l.reason))
    }

    /// The first reason for a record is the one that is told.
    fn lose(&mut self, row: usize, kind: LossKind, reason: impl FnOnce() -> String) {
        if self.bad.is_empty() {
            self.bad = vec![false; self.raw.len()];
        }
        if !self.bad[row] {
            self.bad[row] = true;
            self.losses.push(Loss { offset: self.raw.offsets[row], kind, reason: reason() });
        }
    }

    fn remove_from(mut self, batch: ChangeBatch) -> Result<SourceRows, TaskError> {
        if self.losses.is_empty() {
            return Ok(SourceRows { batch, kept: None, losses: Vec::new() });
        }
        let kept: Vec<u32> = (0..batch.len() as u32).filter(|&row| !self.bad[row as usize]).collect();
        self.losses.sort_by_key(|l| l.offset);
        Ok(SourceRows { batch: batch.take(&kept)?, kept: Some(kept), losses: self.losses })
    }
}

fn decode_side(
    decoder: Option<&mut Box<dyn RecordDecoder>>,
    payloads: &BinaryArray,
    side: &str,
    bad: &mut BadRows<'_>,
) -> Decoded {
    let Some(decoder) = decoder else {
        return Decoded { columns: Vec::new(), present: None, failures: Vec::new() };
    };
    let decoded = decoder.decode(payloads);
    for failure in &decoded.failures {
        bad.lose(failure.row, LossKind::Undecodable, || format!("{side}: {}", failure.reason));
    }
    decoded
}

/// Cuts the window off record keys. Rows whose key is too short for one are bad.
fn split_windows(keys: &BinaryArray, kind: KeyWindow, bad: &mut BadRows<'_>) -> (BinaryArray, WindowBounds) {
    let (session, size_ms) = match kind {
        KeyWindow::Time { size_ms, .. } => (false, size_ms),
        KeyWindow::Session => (true, 0),
    };
    let (bare, bounds, failures) = decode_windowed(keys, session, size_ms);
    for failure in failures {
        bad.lose(failure.row, LossKind::Undecodable, || format!("key: {}", failure.reason));
    }
    (bare, bounds)
}

/// The last header of that name, or NULL.
fn header_column(raw: &RawBatch, name: &str) -> ArrayRef {
    let Some(headers) = &raw.headers else { return new_null_array(&SqlType::Bytes.to_arrow(), raw.len()) };
    let lists = headers.as_list::<i32>();
    let entries = lists.values().as_struct();
    let (names, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_binary::<i32>());
    let mut builder = BinaryBuilder::new();
    for row in 0..lists.len() {
        let range = if lists.is_null(row) { 0..0 } else { lists.value_offsets()[row]..lists.value_offsets()[row + 1] };
        let found = range.rev().map(|i| i as usize).find(|&i| names.is_valid(i) && names.value(i) == name);
        match found {
            Some(i) if values.is_valid(i) => builder.append_value(values.value(i)),
            _ => builder.append_null(),
        }
    }
    Arc::new(builder.finish())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ListArray, StringArray, StructArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;
    use crate::format::FormatSpec;
    use crate::plan::topology::TimestampSpec;
    use crate::types::schema::arrow_schema;
    use crate::types::{LogicalSchema, SqlType};

    fn spec(wanted: &[&str]) -> SourceInput {
        let header = |name: &str, ty, key: Option<&str>| Column {
            name: name.into(),
            ty,
            role: ColumnRole::Header(key.map(Arc::from)),
        };
        let all_headers = SqlType::from_arrow(&crate::topic::headers_type()).unwrap();
        let declared = LogicalSchema::new([
            Column::key("K", SqlType::String),
            Column::value("V", SqlType::BigInt),
            Column::value("W", SqlType::String),
            header("HS", all_headers, None),
            header("H", SqlType::Bytes, Some("h")),
        ]);
        SourceInput {
            source: "S".into(),
            topic: "t".into(),
            key_format: FormatSpec::new(Format::Kafka),
            value_format: FormatSpec::new(Format::Json),
            window: None,
            timestamp: None,
            is_table: false,
            wanted: wanted.iter().map(|w| (*w).into()).collect(),
            schema: arrow_schema(declared.columns()),
            declared,
            key_count: 1,
            from_beginning: true,
        }
    }

    fn raw(records: &[(Option<&[u8]>, Option<&str>, i64)]) -> RawBatch {
        RawBatch {
            offsets: (100..100 + records.len() as i64).collect(),
            timestamps: records.iter().map(|r| r.2).collect(),
            keys: records.iter().map(|r| r.0).collect(),
            values: records.iter().map(|r| r.1.map(str::as_bytes)).collect(),
            headers: None,
            arrivals: None,
        }
    }

    fn decode(spec: &SourceInput, raw: &RawBatch) -> SourceRows {
        SourceNode::new(spec, 3, Strictness::default()).unwrap().decode(raw).unwrap()
    }

    fn kinds(rows: &SourceRows) -> Vec<(i64, LossKind)> {
        rows.losses.iter().map(|l| (l.offset, l.kind)).collect()
    }

    #[test]
    fn wanted_columns_come_in_their_order_with_pseudo_columns() {
        let rows = decode(
            &spec(&["K", "ROWTIME", "W", "ROWPARTITION", "ROWOFFSET", "V"]),
            &raw(&[(Some(b"a"), Some(r#"{"V":1,"W":"x"}"#), 50), (None, None, 60)]),
        );
        let columns = &rows.batch.columns;
        assert_eq!(columns[1].as_primitive::<Int64Type>().values()[..], [50, 60]);
        assert_eq!(columns[2].as_string::<i32>().iter().collect::<Vec<_>>(), [Some("x"), None]);
        assert_eq!(columns[3].as_primitive::<Int32Type>().values()[..], [3, 3]);
        assert_eq!(columns[4].as_primitive::<Int64Type>().values()[..], [100, 101]);
        assert_eq!((rows.batch.is_present(0), rows.batch.is_present(1)), (true, false));
        assert!(rows.kept.is_none());
    }

    #[test]
    fn tables_drop_records_without_key() {
        let table = SourceInput { is_table: true, ..spec(&["K", "V"]) };
        let rows = decode(&table, &raw(&[(None, Some(r#"{"V":1}"#), 0), (Some(b"a"), None, 0)]));
        assert_eq!((rows.batch.len(), rows.batch.is_present(0)), (1, false));
        assert_eq!(kinds(&rows), [(100, LossKind::NullKey)]);
        assert_eq!(rows.kept, Some(vec![1]));
    }

    #[test]
    fn the_row_time_comes_from_the_column_and_bad_ones_are_lost() {
        let timestamp = Some(TimestampSpec { column: "V".into(), format: None });
        let timed = SourceInput { timestamp, ..spec(&["K", "W"]) };
        let records = [r#"{"V":7}"#, r#"{"V":-1}"#, r#"{"W":"x"}"#, r#"{"V":"#].map(|v| (Some(&b"a"[..]), Some(v), 5));
        let rows = decode(&timed, &raw(&[&records[..], &[(Some(b"a"), None, 9)]].concat()));
        assert_eq!(rows.batch.meta.rowtime[..], [7, 9], "a NULL value has no column to take the time from");
        assert_eq!(
            kinds(&rows),
            [(101, LossKind::BadTimestamp), (102, LossKind::BadTimestamp), (103, LossKind::Undecodable)]
        );
        let plain = decode(&spec(&["K"]), &raw(&[(None, Some("{}"), -1)]));
        assert_eq!(kinds(&plain), [(100, LossKind::BadTimestamp)]);
    }

    #[test]
    fn strict_queries_stop_at_bad_records() {
        let strict = Strictness { undecodable: true, bad_timestamp: false };
        let mut node = SourceNode::new(&spec(&["V"]), 0, strict).unwrap();
        assert!(node.decode(&raw(&[(None, Some("{"), 0)])).is_err());
        assert!(node.decode(&raw(&[(None, Some("{}"), 0)])).is_ok());
    }

    #[test]
    fn windows_are_cut_off_the_key() {
        let window = Some(KeyWindow::Time { size_ms: 10, hopping: false });
        let windowed = SourceInput { window, ..spec(&["K", "WINDOWSTART", "WINDOWEND"]) };
        let key = [&b"a"[..], &20_i64.to_be_bytes()].concat();
        let rows = decode(&windowed, &raw(&[(Some(&key), Some("{}"), 0), (Some(b"short"), Some("{}"), 0)]));
        assert_eq!(rows.batch.columns[0].as_string::<i32>().value(0), "a");
        assert_eq!(rows.batch.columns[2].as_primitive::<Int64Type>().values()[..], [30]);
        assert_eq!(rows.batch.meta.window.as_ref().unwrap().start[..], [20]);
        assert_eq!(kinds(&rows), [(101, LossKind::Undecodable)]);
    }

    #[test]
    fn header_columns_are_the_list_and_the_last_of_a_name() {
        let arrow::datatypes::DataType::List(item) = crate::topic::headers_type() else { unreachable!() };
        let arrow::datatypes::DataType::Struct(fields) = item.data_type().clone() else { unreachable!() };
        let names = StringArray::from(vec!["h", "g", "h"]);
        let values = BinaryArray::from_opt_vec(vec![Some(&b"1"[..]), None, Some(b"2")]);
        let entries = StructArray::new(fields, vec![Arc::new(names), Arc::new(values)], None);
        let lists = ListArray::new(item, OffsetBuffer::from_lengths([3, 0]), Arc::new(entries), None);
        let mut records = raw(&[(None, Some("{}"), 0), (None, Some("{}"), 0)]);
        records.headers = Some(Arc::new(lists));
        let rows = decode(&spec(&["H", "HS"]), &records);
        assert_eq!(rows.batch.columns[0].as_binary::<i32>().iter().collect::<Vec<_>>(), [Some(&b"2"[..]), None]);
        assert_eq!(rows.batch.columns[1].as_list::<i32>().value_length(0), 3);
        records.headers = None;
        let rows = decode(&spec(&["H", "HS"]), &records);
        assert_eq!((rows.batch.columns[0].null_count(), rows.batch.columns[1].null_count()), (2, 0));
    }
}
