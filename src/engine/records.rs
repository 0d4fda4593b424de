//! Raw records in and out of topics, and rows given as JSON objects: what `produce`, `consume`, COPY and `/inserts-stream` call.
//!
//! Knows no SQL text. The subtle thing: JSON rows that are wrong cost themselves only; each gets its own answer in its place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, ListArray, StringArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;
use parking_lot::{Condvar, Mutex};
use serde_json::{Map, Value};

use super::{Engine, insert, json_rows};
use crate::diagnostic::{Diagnostic, Span};
use crate::topic::partitioner::partition_for;
use crate::topic::{Append, Cleanup, Commit, NO_TIMESTAMP, ReadLimit, TopicPartition, TopicSpec, headers_type};
use crate::types::{TopicName, fold};

/// Headers of one record: keys with values.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// A record to append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawRecord {
    /// its partition; `None`: by its key
    pub partition: Option<i32>,
    /// key bytes
    pub key: Option<Vec<u8>>,
    /// value bytes; `None`: a tombstone
    pub value: Option<Vec<u8>>,
    /// row time in ms; `None`: now
    pub timestamp: Option<i64>,
    /// headers, in order
    pub headers: Headers,
}

/// A record as it stands in its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    /// its partition
    pub partition: i32,
    /// its offset
    pub offset: i64,
    /// row time in ms
    pub timestamp: i64,
    /// key bytes
    pub key: Option<Vec<u8>>,
    /// value bytes; `None`: a tombstone
    pub value: Option<Vec<u8>>,
    /// headers, in order
    pub headers: Headers,
}

/// What one read of a partition gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordPage {
    /// the records, possibly none
    pub records: Vec<ReadRecord>,
    /// the offset to read from next
    pub next: i64,
    /// the offset that the next committed record will get
    pub end: i64,
}

/// A topic with the bounds of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDetail {
    /// its name
    pub name: String,
    /// first offset and end of each partition
    pub partitions: Vec<(i64, i64)>,
}

impl Engine {
    /// Appends records; returns partition and offset of each, in order, when all are durable.
    ///
    /// # Errors
    /// An unknown topic or partition; a record that is too large.
    pub fn append(&self, topic: &str, records: Vec<RawRecord>) -> Result<Vec<(i32, i64)>, Diagnostic> {
        let name = TopicName::new(topic);
        let spec = self.log().describe(&name)?.ok_or_else(|| unknown(topic))?;
        let mut by_partition: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for (i, record) in records.iter().enumerate() {
            let partition = record.partition.unwrap_or_else(|| match &record.key {
                Some(key) => partition_for(key, spec.partitions),
                None => (i as i32).rem_euclid(spec.partitions),
            });
            by_partition.entry(partition).or_default().push(i);
        }
        let outputs = by_partition.iter().map(|(&partition, rows)| {
            let rows: Vec<&RawRecord> = rows.iter().map(|&i| &records[i]).collect();
            append_of(TopicPartition { topic: name.clone(), partition }, &rows)
        });
        let commit = Commit { outputs: outputs.collect(), ..Commit::default() };
        let receipt = self.write(|| {
            let receipt = self.log().commit(commit)?;
            self.log().sync()?;
            Ok::<_, Diagnostic>(receipt)
        })?;
        let mut places = vec![(0, 0); records.len()];
        for ((partition, rows), base) in by_partition.iter().zip(receipt.base_offsets) {
            for (i, row) in rows.iter().enumerate() {
                places[*row] = (*partition, base + i as i64);
            }
        }
        Ok(places)
    }

    /// Reads at most `max` records of a partition from an offset on; none at the end.
    ///
    /// # Errors
    /// An unknown topic or partition.
    pub fn read(&self, topic: &str, partition: i32, from: i64, max: usize) -> Result<RecordPage, Diagnostic> {
        let at = TopicPartition::new(topic, partition);
        let fetched = self.log().read(&at, from, ReadLimit { max_records: max.max(1), ..ReadLimit::default() })?;
        let batch = &fetched.batch;
        let bytes = |a: &BinaryArray, i: usize| (!a.is_null(i)).then(|| a.value(i).to_vec());
        let records = (0..batch.len()).map(|i| ReadRecord {
            partition,
            offset: batch.offsets[i],
            timestamp: batch.timestamps[i],
            key: bytes(&batch.keys, i),
            value: bytes(&batch.values, i),
            headers: batch.headers.as_ref().map_or_else(Vec::new, |h| headers_at(h, i)),
        });
        Ok(RecordPage { records: records.collect(), next: fetched.next, end: fetched.end })
    }

    /// Waits until a partition has a record at or after its offset in `from`, at most `timeout`; true if one has.
    ///
    /// # Errors
    /// An unknown topic or partition.
    pub fn wait_records(&self, topic: &str, from: &[(i32, i64)], timeout: Duration) -> Result<bool, Diagnostic> {
        let signal = Arc::new((Mutex::new(0u64), Condvar::new()));
        let waker = signal.clone();
        let wake = move || {
            *waker.0.lock() += 1;
            waker.1.notify_all();
        };
        let _watch = self.log().watch(&[TopicName::new(topic)], Arc::new(wake));
        let deadline = Instant::now() + timeout;
        loop {
            let seen = *signal.0.lock();
            for (partition, offset) in from {
                if self.log().bounds(&TopicPartition::new(topic, *partition))?.end > *offset {
                    return Ok(true);
                }
            }
            let mut count = signal.0.lock();
            while *count == seen {
                if signal.1.wait_until(&mut count, deadline).timed_out() {
                    return Ok(false);
                }
            }
        }
    }

    /// The topic, if there is one.
    ///
    /// # Errors
    /// If the log cannot be asked.
    pub fn topic(&self, name: &str) -> Result<Option<TopicDetail>, Diagnostic> {
        let Some(spec) = self.log().describe(&TopicName::new(name))? else { return Ok(None) };
        let bounds = |p| self.log().bounds(&TopicPartition::new(name, p)).map(|b| (b.start, b.end));
        let partitions = (0..spec.partitions).map(bounds).collect::<Result<Vec<_>, _>>()?;
        Ok(Some(TopicDetail { name: name.to_owned(), partitions }))
    }

    /// Makes a topic of so many partitions.
    ///
    /// # Errors
    /// A name that is taken or not allowed, or fewer than one partition.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), Diagnostic> {
        let spec = TopicSpec { name: TopicName::new(name), partitions, replicas: 1, cleanup: Cleanup::default() };
        Ok(self.log().create_topic(&spec)?)
    }

    /// Inserts rows given as objects: fields are columns, keys included; ROWTIME sets the timestamp. `target` is a name as in SQL.
    /// All rows that are right are inserted; the result of each is in its place.
    ///
    /// # Errors
    /// A target that cannot be inserted into.
    pub fn insert_json(
        &self,
        target: &str,
        rows: Vec<Map<String, Value>>,
    ) -> Result<Vec<Result<(), Diagnostic>>, Diagnostic> {
        let catalog = self.catalog();
        let source = catalog.source(target).or_else(|| catalog.source(&identifier(target))).ok_or_else(|| {
            Diagnostic::user(format!("Cannot insert values into an unknown stream/table: {target}"))
                .help("SHOW STREAMS and SHOW TABLES list what there is")
        })?;
        insert::check_target(source, Span::default())?;
        self.write(|| json_rows::insert(source, rows, self.log()))
    }
}

/// A name as in SQL: bare and then upper case, or in backquotes or double quotes.
pub(super) fn identifier(text: &str) -> String {
    let inner = |q: char| text.strip_prefix(q).and_then(|t| t.strip_suffix(q));
    match inner('`').or_else(|| inner('"')) {
        Some(quoted) => quoted.to_owned(),
        None => fold(text, false),
    }
}

fn unknown(topic: &str) -> Diagnostic {
    Diagnostic::user(format!("topic '{topic}' does not exist"))
        .help("SHOW TOPICS lists what there is; a CREATE STREAM with PARTITIONS makes one")
}

fn append_of(to: TopicPartition, rows: &[&RawRecord]) -> Append {
    let column = |get: fn(&RawRecord) -> Option<&[u8]>| rows.iter().map(|r| get(r)).collect::<BinaryArray>();
    let has_headers = rows.iter().any(|r| !r.headers.is_empty());
    Append {
        to,
        timestamps: rows.iter().map(|r| r.timestamp.unwrap_or(NO_TIMESTAMP)).collect(),
        keys: column(|r| r.key.as_deref()),
        values: column(|r| r.value.as_deref()),
        headers: has_headers.then(|| headers_array(rows.iter().map(|r| &r.headers))),
    }
}

/// Headers of rows as one Arrow array.
pub fn headers_array<'a>(rows: impl Iterator<Item = &'a Headers>) -> ArrayRef {
    let (mut lengths, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for headers in rows {
        lengths.push(headers.len());
        for (key, value) in headers {
            keys.push(Some(key.as_str()));
            values.push(value.as_deref());
        }
    }
    let DataType::List(item) = headers_type() else { unreachable!("headers are a list") };
    let DataType::Struct(fields) = item.data_type().clone() else { unreachable!("of structs") };
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(keys)), Arc::new(BinaryArray::from_opt_vec(values))];
    let entries = StructArray::new(fields, columns, None::<NullBuffer>);
    Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(lengths), Arc::new(entries), None))
}

/// Headers of one row of such an array.
pub fn headers_at(array: &ArrayRef, row: usize) -> Headers {
    let list = array.as_list::<i32>();
    if list.is_null(row) {
        return Vec::new();
    }
    let entries = list.value(row);
    let entries = entries.as_struct();
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_binary::<i32>());
    (0..entries.len())
        .map(|i| (keys.value(i).to_owned(), (!values.is_null(i)).then(|| values.value(i).to_vec())))
        .collect()
}
