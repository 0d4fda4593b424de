//! `GET /backup`: the data directory as it is now, as one stream of bytes.
//!
//! Ours, not ksqlDB's. The subtle thing: the copy says at its end how much it held, so a connection that breaks, or a read that
//! fails in the middle, leaves a file that `riverrun restore` refuses.

use std::io::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{ServerState, failed, respond, response};
use crate::diagnostic::Diagnostic;

/// Chunks that may wait for the client.
const CHUNKS_WAITING: usize = 4;

pub(super) async fn backup(State(state): State<Arc<ServerState>>) -> Response {
    let (sender, mut receiver) = mpsc::channel(CHUNKS_WAITING);
    tokio::task::spawn_blocking(move || {
        let mut out = Sink { sender: &sender };
        if let Err(error) = state.engine.backup(&mut out) {
            // nobody listens any more if this cannot be sent
            let _ = sender.blocking_send(Err(error));
        }
    });
    // What fails before the first byte is an answer of its own.
    match receiver.recv().await {
        Some(Err(error)) => respond(Err(failed(&error))),
        first => {
            let rest = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
            let chunks = futures::StreamExt::chain(futures::stream::iter(first), rest);
            response(200, "application/octet-stream", Body::from_stream(chunks))
        }
    }
}

/// Hands what is written to the response.
struct Sink<'a> {
    sender: &'a mpsc::Sender<Result<Bytes, Diagnostic>>,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let gone = |_| std::io::Error::new(std::io::ErrorKind::BrokenPipe, "the client is gone");
        self.sender.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
