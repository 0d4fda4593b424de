//! The private payload of repartition topics: a change batch as bytes, and back.
//!
//! Layout: version (1 byte), flags (1), schema fingerprint (8, LE), length of the IPC message (4, LE), the message, the body; the message
//! and the body are an Arrow IPC record batch without its schema, which both sides know. The subtle thing: old rows travel without
//! their key columns, which equal the new ones.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::buffer::{BooleanBuffer, Buffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow::ipc::{MetadataVersion, reader, root_as_message};

use crate::topic::{TopicError, headers_type};
use crate::types::{ChangeBatch, Column, OldRows, RowMeta, WindowBounds, change};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 1 + 8 + 4;

/// stands for parts that need no flag
const ALWAYS: u8 = 0;
const PRESENT: u8 = 1;
const OLD: u8 = 1 << 1;
const OLD_PRESENT: u8 = 1 << 2;
const WINDOW: u8 = 1 << 3;
const HEADERS: u8 = 1 << 4;
const ARRIVALS: u8 = 1 << 5;

/// Encodes and decodes payloads of one internal topic.
pub(super) struct PayloadCodec {
    columns: Vec<Field>,
    key_count: usize,
    fingerprint: u64,
    schemas: HashMap<u8, SchemaRef>,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl PayloadCodec {
    /// A codec for rows of these columns, of which the first `key_count` are the key.
    pub fn new(columns: &[Column], key_count: usize) -> Self {
        Self {
            columns: columns.iter().map(|c| Field::new(c.name.as_str(), c.ty.to_arrow(), true)).collect(),
            key_count,
            fingerprint: fingerprint(columns, key_count),
            schemas: HashMap::new(),
            options: IpcWriteOptions::default(),
            context: IpcWriteContext::default(),
        }
    }

    /// The payload of all rows of `batch`; `arrivals` are row-aligned.
    ///
    /// # Errors
    /// If the columns are not those of the topic.
    pub fn encode(&mut self, batch: &ChangeBatch, arrivals: Option<&ScalarBuffer<i64>>) -> Result<Vec<u8>, TopicError> {
        let (flags, columns) = self.flatten(batch, arrivals);
        let schema = self.schema(flags);
        let record = change::record_batch(&schema, columns, batch.len()).map_err(damaged)?;
        let mut tracker = DictionaryTracker::new(true);
        let (_, data) = IpcDataGenerator::default()
            .encode(&record, &mut tracker, &self.options, &mut self.context)
            .map_err(damaged)?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + data.ipc_message.len() + data.arrow_data.len());
        bytes.extend_from_slice(&[VERSION, flags]);
        bytes.extend_from_slice(&self.fingerprint.to_le_bytes());
        bytes.extend_from_slice(&(data.ipc_message.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&data.ipc_message);
        bytes.extend_from_slice(&data.arrow_data);
        Ok(bytes)
    }

    /// The rows of a payload, which all get `offset`, and their order of arrival, if it was known.
    ///
    /// # Errors
    /// If the bytes are damaged, of an unknown version, or made for other columns.
    pub fn decode(
        &mut self,
        payload: &[u8],
        offset: i64,
    ) -> Result<(ChangeBatch, Option<ScalarBuffer<i64>>), TopicError> {
        let (flags, message_bytes, body) = self.open(payload)?;
        let message = root_as_message(message_bytes).map_err(|e| damaged(format!("{e}")))?;
        let header = message.header_as_record_batch().ok_or_else(|| damaged("not a record batch"))?;
        let schema = self.schema(flags);
        // the body is copied into an aligned buffer: within the record it stands at any byte
        let body = Buffer::from(body);
        let record = reader::read_record_batch(&body, header, schema, &HashMap::new(), None, &MetadataVersion::V5)
            .map_err(damaged)?;
        Ok(self.unflatten(flags, &record, offset))
    }

    fn open<'a>(&self, payload: &'a [u8]) -> Result<(u8, &'a [u8], &'a [u8]), TopicError> {
        let (head, rest) = payload.split_at_checked(HEADER_BYTES).ok_or_else(|| damaged("a payload is cut short"))?;
        if head[0] != VERSION {
            return Err(damaged(format!("payload version {} is unknown", head[0])));
        }
        if head[2..10] != self.fingerprint.to_le_bytes() {
            return Err(damaged("a payload was written for other columns"));
        }
        let length = u32::from_le_bytes(head[10..14].try_into().expect("four bytes")) as usize;
        let (message, body) = rest.split_at_checked(length).ok_or_else(|| damaged("a payload is cut short"))?;
        Ok((head[1], message, body))
    }

    fn schema(&mut self, flags: u8) -> SchemaRef {
        if let Some(schema) = self.schemas.get(&flags) {
            return schema.clone();
        }
        let mut fields = vec![Field::new("rowtime", DataType::Int64, false)];
        let mut add = |flag: u8, name: &str, data_type: DataType| {
            if flags & flag != 0 {
                fields.push(Field::new(name, data_type, true));
            }
        };
        add(PRESENT, "present", DataType::Boolean);
        add(OLD_PRESENT, "old_present", DataType::Boolean);
        add(WINDOW, "window_start", DataType::Int64);
        add(WINDOW, "window_end", DataType::Int64);
        add(HEADERS, "headers", headers_type());
        add(ARRIVALS, "arrivals", DataType::Int64);
        fields.extend(self.columns.iter().cloned());
        if flags & OLD != 0 {
            fields.extend(self.columns[self.key_count..].iter().cloned());
        }
        let schema = Arc::new(Schema::new(fields));
        self.schemas.insert(flags, schema.clone());
        schema
    }

    fn flatten(&self, batch: &ChangeBatch, arrivals: Option<&ScalarBuffer<i64>>) -> (u8, Vec<ArrayRef>) {
        let longs = |b: &ScalarBuffer<i64>| Arc::new(Int64Array::new(b.clone(), None)) as ArrayRef;
        let bits = |b: &BooleanBuffer| Arc::new(BooleanArray::new(b.clone(), None)) as ArrayRef;
        let mut flags = 0;
        let mut columns = vec![longs(&batch.meta.rowtime)];
        if let Some(present) = &batch.present {
            flags |= PRESENT;
            columns.push(bits(present));
        }
        if let Some(present) = batch.old.as_ref().and_then(|o| o.present.as_ref()) {
            flags |= OLD_PRESENT;
            columns.push(bits(present));
        }
        if let Some(window) = &batch.meta.window {
            flags |= WINDOW;
            columns.extend([longs(&window.start), longs(&window.end)]);
        }
        if let Some(headers) = &batch.meta.headers {
            flags |= HEADERS;
            columns.push(headers.clone());
        }
        if let Some(arrivals) = arrivals {
            flags |= ARRIVALS;
            columns.push(longs(arrivals));
        }
        columns.extend(batch.columns.iter().cloned());
        if let Some(old) = &batch.old {
            flags |= OLD;
            columns.extend(old.columns[self.key_count..].iter().cloned());
        }
        (flags, columns)
    }

    fn unflatten(&self, flags: u8, record: &RecordBatch, offset: i64) -> (ChangeBatch, Option<ScalarBuffer<i64>>) {
        let mut columns = record.columns().iter().cloned();
        let mut next = |flag: u8| if flag == ALWAYS || flags & flag != 0 { columns.next() } else { None };
        let longs = |a: ArrayRef| a.as_primitive::<Int64Type>().values().clone();
        let bits = |a: ArrayRef| a.as_boolean().values().clone();
        let rows = record.num_rows();
        let rowtime = longs(next(ALWAYS).expect("the schema begins with the row time"));
        let present = next(PRESENT).map(bits);
        let old_present = next(OLD_PRESENT).map(bits);
        let window = match (next(WINDOW), next(WINDOW)) {
            (Some(start), Some(end)) => Some(WindowBounds { start: longs(start), end: longs(end) }),
            _ => None,
        };
        let headers = next(HEADERS);
        let arrivals = next(ARRIVALS).map(longs);
        let new: Vec<ArrayRef> = columns.by_ref().take(self.columns.len()).collect();
        let old = (flags & OLD != 0).then(|| OldRows {
            columns: new[..self.key_count].iter().cloned().chain(columns.by_ref()).collect(),
            present: old_present,
        });
        let (seq, offset) = (vec![0; rows].into(), vec![offset; rows].into());
        let meta = RowMeta { rowtime, seq, offset, window, headers, keyed: None };
        (ChangeBatch { columns: new, present, old, meta }, arrivals)
    }
}

fn damaged(reason: impl std::fmt::Display) -> TopicError {
    TopicError::Corrupt(format!("repartition record: {reason}"))
}

/// FNV-1a over names and types: stable over releases and machines.
fn fingerprint(columns: &[Column], key_count: usize) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |text: &str| {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    eat(&key_count.to_string());
    for column in columns {
        eat(column.name.as_str());
        eat(&column.ty.to_string());
    }
    hash
}
