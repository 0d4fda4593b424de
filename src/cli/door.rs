//! The door of a shell or a script that is a node of a service on Kafka: other nodes read there what it has of tables.
//!
//! The server's HTTP API on a free port of the loopback. The subtle thing: without it a node can take partitions over and nobody else could
//! read them, nor it what others have.

use std::collections::BTreeMap;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::config::{self, Config};
use crate::diagnostic::Diagnostic;
use crate::engine::Engine;
use crate::server::{ServerState, serve};

/// Closed when dropped.
pub(super) struct Door {
    runtime: Option<Runtime>,
    listener: Option<TcpListener>,
}

impl Door {
    /// Takes a port and notes its URL among the properties, over one that is meant for a server.
    pub(super) fn open(properties: &mut BTreeMap<String, String>) -> Result<Self, Diagnostic> {
        let cannot = |error| super::system_error("No port of the loopback can be listened on", &error);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| super::system_error("A runtime cannot be started", &error))?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).map_err(cannot)?;
        let url = format!("http://{}", listener.local_addr().map_err(cannot)?);
        properties.retain(|name, _| !config::canonical(name).is_ok_and(|n| n == config::ADVERTISED_LISTENER));
        properties.insert(config::ADVERTISED_LISTENER.to_owned(), url);
        Ok(Self { runtime: Some(runtime), listener: Some(listener) })
    }

    /// Answers for `engine` until it is dropped.
    pub(super) fn serve(&mut self, engine: &Engine, properties: &BTreeMap<String, String>) -> Result<(), Diagnostic> {
        let state = ServerState::new(engine.clone(), Config::new(properties)?);
        if let (Some(runtime), Some(listener)) = (&self.runtime, self.listener.take()) {
            runtime.spawn(async move {
                if let Err(error) = serve(state, listener, std::future::pending()).await {
                    tracing::warn!("other nodes cannot read what this one has any more: {error}");
                }
            });
        }
        Ok(())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
