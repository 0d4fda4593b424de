//! Messages become columns: each is copied once, into the arrays that the rest of the engine reads.
//!
//! Knows no topics. The subtle thing: librdkafka takes time 0 for "now", so a record of time 0 is written without a timestamp, and one
//! without is read as time 0.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, ListArray, StringBuilder, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};

use super::native::{Message, Sizes};
use crate::topic::batch::header_fields;
use crate::topic::{Offset, RawBatch};

/// Kafka's word for "no timestamp".
const NONE: i64 = -1;

/// The time of a record as Kafka is told it.
pub(super) fn time_to_kafka(time: i64) -> i64 {
    if time == 0 { NONE } else { time }
}

fn time_from_kafka(time: i64) -> i64 {
    if time == NONE { 0 } else { time }
}

/// Records of one partition while they are collected.
pub(super) struct Columns {
    offsets: Vec<i64>,
    timestamps: Vec<i64>,
    keys: BinaryBuilder,
    values: BinaryBuilder,
    bytes: usize,
    headers: Option<Headers>,
}

#[derive(Default)]
struct Headers {
    /// headers of each record so far
    counts: Vec<usize>,
    keys: StringBuilder,
    values: BinaryBuilder,
}

impl Default for Columns {
    fn default() -> Self {
        Self::with_room(Sizes::default())
    }
}

impl Columns {
    /// Room for records of these sizes, and no more: what waits for tasks takes what it holds.
    pub fn with_room(sizes: Sizes) -> Self {
        Self {
            offsets: Vec::with_capacity(sizes.records),
            timestamps: Vec::with_capacity(sizes.records),
            keys: BinaryBuilder::with_capacity(sizes.records, sizes.keys),
            values: BinaryBuilder::with_capacity(sizes.records, sizes.values),
            bytes: 0,
            headers: None,
        }
    }

    /// Adds a message.
    pub fn push(&mut self, message: &Message<'_>) {
        let (key, value) = (message.key(), message.value());
        self.bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        self.offsets.push(message.offset());
        self.timestamps.push(time_from_kafka(message.timestamp()));
        self.keys.append_option(key);
        self.values.append_option(value);
        let rows = self.offsets.len();
        let headers = &mut self.headers;
        let mut count = 0;
        message.headers(&mut |name, value| {
            let headers = headers.get_or_insert_with(Headers::default);
            headers.keys.append_value(String::from_utf8_lossy(name));
            headers.values.append_option(value);
            count += 1;
        });
        if let Some(headers) = headers {
            headers.counts.resize(rows - 1, 0);
            headers.counts.push(count);
        }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The offset after the last record.
    pub fn end(&self) -> Option<Offset> {
        self.offsets.last().map(|last| last + 1)
    }

    /// The records as a batch.
    pub fn finish(mut self) -> RawBatch {
        RawBatch {
            offsets: self.offsets.into(),
            timestamps: self.timestamps.into(),
            keys: self.keys.finish(),
            values: self.values.finish(),
            headers: self.headers.map(Headers::finish),
            arrivals: None,
        }
    }
}

impl Headers {
    fn finish(mut self) -> ArrayRef {
        let fields = header_fields();
        let item = Arc::new(Field::new("item", DataType::Struct(fields.clone()), true));
        let all = StructArray::new(fields, vec![Arc::new(self.keys.finish()), Arc::new(self.values.finish())], None);
        Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(self.counts), Arc::new(all), None))
    }
}
