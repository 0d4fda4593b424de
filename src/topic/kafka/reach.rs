//! Whether Kafka lets us in, asked once at the start: what is wrong with names, certificates or passwords is said at once and in words.
//!
//! Gives the client that got in, so that the next question needs no new connection. The subtle thing: librdkafka takes every failure for one that may pass and tries again, which is right later on; here a
//! refused handshake or login ends the start.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::admin::ANSWER;
use super::failure::Failure;
use super::{KafkaOptions, log_line};
use crate::topic::TopicError;

/// How long one try may take before we look what went wrong.
const TRY: Duration = Duration::from_millis(500);

/// Things that the client may have to tell after a try.
const EVENTS: usize = 16;

/// What was said while we tried.
#[derive(Default)]
struct Heard {
    /// it will not become better
    refused: Option<String>,
    last: Option<String>,
}

/// Keeps in mind what the client said while it tried to get in; afterwards nobody asks, and nothing is told.
#[derive(Default)]
pub(super) struct Listener(Mutex<Heard>);

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level as i32, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut heard = self.0.lock();
        let is_refusal = matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::SSL | RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed)
        );
        if is_refusal {
            heard.refused = Some(reason.to_owned());
        } else if !matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::AllBrokersDown)) {
            heard.last = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Listener {}

/// Asks for the cluster's topics; gives a client that reads what is committed.
///
/// # Errors
/// Why there is no answer.
pub(super) fn reach(options: &KafkaOptions) -> Result<BaseConsumer<Listener>, TopicError> {
    let what = format!("Kafka at {} cannot be reached", options.bootstrap_servers);
    let failed = |reason: String| TopicError::Io { what: what.clone(), reason };
    let probe: BaseConsumer<Listener> =
        options.admin().create_with_context(Listener::default()).map_err(|e| failed(Failure::from(e).reason))?;
    let deadline = Instant::now() + ANSWER;
    loop {
        let Err(error) = probe.fetch_metadata(None, TRY) else { return Ok(probe) };
        // Lets the client tell what it met, one thing a call.
        for _ in 0..EVENTS {
            let _ = probe.poll(Duration::ZERO);
        }
        let heard = std::mem::take(&mut *probe.context().0.lock());
        if let Some(reason) = heard.refused {
            return Err(failed(format!("{reason}; see security.protocol, ssl.* and sasl.* in its configuration")));
        }
        if Instant::now() >= deadline {
            return Err(failed(heard.last.unwrap_or_else(|| error.to_string())));
        }
    }
}
