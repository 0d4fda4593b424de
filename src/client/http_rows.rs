//! Rows that a server sends, as a [`RowSource`]: bytes of a response become batches.
//!
//! A task on the client's runtime reads the response into a short queue; so a slow reader slows the server. The subtle thing: the
//! canceller ends that task, which closes the connection, which is what ends the query on the other side.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::buffer::BooleanBuffer;
use bytes::Bytes;
use futures::StreamExt;
use reqwest::Response;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::engine::{NextRows, ResultColumn, RowSource, Rows};
use crate::types::SqlType;
use crate::wire::decode::batch_from_rows;
use crate::wire::error::ErrorBody;
use crate::wire::rows::{RowDecoder, StreamedRow, kind_of};
use crate::wire::statement::StatementClass;

/// Chunks of bytes that may wait for the reader.
const CHUNKS_WAITING: usize = 8;

type Chunk = Result<Bytes, Diagnostic>;

/// Reads the head of a result; its rows follow as they come.
///
/// # Errors
/// A response that ends, or fails, before its header.
pub(super) async fn open_rows(response: Response, class: StatementClass, handle: Handle) -> Result<Rows, ErrorBody> {
    let query_id = response.headers().get("x-query-id").and_then(|id| id.to_str().ok()).unwrap_or("").to_owned();
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let reader = tokio::spawn(read_body(response, sender)).abort_handle();
    let mut source = HttpRows {
        handle,
        receiver,
        reader,
        columns: Vec::new(),
        text: if class == StatementClass::Print { Text::Lines(Vec::new()) } else { Text::Rows(RowDecoder::default()) },
        waiting: VecDeque::new(),
    };
    if class == StatementClass::Print {
        source.columns = vec![ResultColumn { name: "RECORD".into(), ty: SqlType::String, is_key: false }];
        let columns = source.columns.clone();
        return Ok(Rows {
            query_id,
            columns: columns.clone(),
            kind: kind_of(class, &columns),
            source: Box::new(source),
        });
    }
    let header = source.header().await.map_err(|diagnostic| ErrorBody::of(&diagnostic))?;
    source.columns = header.1.clone();
    Ok(Rows { query_id: header.0, kind: kind_of(class, &header.1), columns: header.1, source: Box::new(source) })
}

async fn read_body(response: Response, sender: mpsc::Sender<Chunk>) {
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk
            .map_err(|error| Diagnostic::new(ErrorClass::Retry, format!("the server stopped sending rows: {error}")));
        if sender.send(chunk).await.is_err() {
            return;
        }
    }
}

/// What the bytes are.
enum Text {
    /// elements of an array
    Rows(RowDecoder),
    /// lines of PRINT; what is kept is the beginning of the next one
    Lines(Vec<u8>),
}

struct HttpRows {
    handle: Handle,
    receiver: mpsc::Receiver<Chunk>,
    reader: AbortHandle,
    columns: Vec<ResultColumn>,
    text: Text,
    /// elements that came with others
    waiting: VecDeque<StreamedRow>,
}

impl Drop for HttpRows {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl HttpRows {
    async fn header(&mut self) -> Result<(String, Vec<ResultColumn>), Diagnostic> {
        loop {
            match self.waiting.pop_front() {
                Some(StreamedRow::Header { query_id, columns }) => return Ok((query_id, columns)),
                Some(StreamedRow::Failed(error)) => return Err(error.to_diagnostic()),
                Some(_) => return Err(Diagnostic::user("the server sent rows without a header")),
                None => {}
            }
            match self.receiver.recv().await {
                Some(chunk) => self.take(&chunk?)?,
                None => return Err(Diagnostic::new(ErrorClass::Retry, "the server closed the connection")),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Diagnostic> {
        match &mut self.text {
            Text::Rows(decoder) => self.waiting.extend(decoder.feed(bytes)?),
            Text::Lines(pending) => {
                pending.extend_from_slice(bytes);
                while let Some(end) = memchr::memchr(b'\n', pending) {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    let text = String::from_utf8_lossy(&line[..end]).into_owned();
                    self.waiting.push_back(StreamedRow::Row { values: vec![Value::String(text)], tombstone: false });
                }
            }
        }
        Ok(())
    }

    /// What is waiting, as one batch or as the end.
    fn next_waiting(&mut self) -> Option<NextRows> {
        let mut rows = Vec::new();
        let mut tombstones = Vec::new();
        while let Some(StreamedRow::Row { .. }) = self.waiting.front() {
            let Some(StreamedRow::Row { values, tombstone }) = self.waiting.pop_front() else { break };
            rows.push(values);
            tombstones.push(tombstone);
        }
        if !rows.is_empty() {
            let tombstones = tombstones.contains(&true).then(|| BooleanBuffer::from(tombstones));
            return Some(match batch_from_rows(&self.columns, &rows) {
                Ok(batch) => NextRows::Batch { batch, tombstones },
                Err(error) => NextRows::Failed(error),
            });
        }
        match self.waiting.pop_front()? {
            StreamedRow::Final(message) => Some(NextRows::Done(Some(message))),
            StreamedRow::Failed(error) => Some(NextRows::Failed(error.to_diagnostic())),
            StreamedRow::Header { .. } | StreamedRow::Row { .. } => None,
        }
    }
}

impl RowSource for HttpRows {
    fn next(&mut self, timeout: Duration) -> NextRows {
        loop {
            if let Some(next) = self.next_waiting() {
                return next;
            }
            let received = {
                let receiver = &mut self.receiver;
                self.handle.block_on(async move { tokio::time::timeout(timeout, receiver.recv()).await })
            };
            match received {
                Err(_elapsed) => return NextRows::Idle,
                Ok(None) => return NextRows::Done(None),
                Ok(Some(Err(error))) => return NextRows::Failed(error),
                Ok(Some(Ok(bytes))) => {
                    if let Err(error) = self.take(&bytes) {
                        return NextRows::Failed(error);
                    }
                }
            }
        }
    }

    fn canceller(&self) -> Arc<dyn Fn() + Send + Sync> {
        let reader = self.reader.clone();
        Arc::new(move || reader.abort())
    }
}
