//! SIGTERM and SIGINT as something to wait for.

use tokio::signal::unix::{SignalKind, signal};

use crate::diagnostic::Diagnostic;

/// Done when the process is asked to end. The handlers stand when this returns, so no signal is missed.
pub(super) fn termination() -> Result<impl Future<Output = ()> + Send, Diagnostic> {
    let handler = |kind| signal(kind).map_err(|error| super::system_error("Signals cannot be handled", &error));
    let mut terminate = handler(SignalKind::terminate())?;
    let mut interrupt = handler(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
