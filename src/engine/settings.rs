//! From properties to what analysis and the runtime are told.
//!
//! Names of properties appear here and in `config` only. The subtle thing: a persistent query keeps the overridden properties of its
//! session, so that a restart plans and runs it the same way.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cluster::Reads;
use crate::analyzer::Settings;
use crate::config::{self, Config, Dialect};
use crate::diagnostic::Diagnostic;
use crate::format::Format;
use crate::function::FunctionLimits;
use crate::plan::rules::Rules;
use crate::runtime::{QuerySettings, Strictness};

/// What analysis reads of the properties.
///
/// # Errors
/// A format that is none.
pub fn analysis(config: &Config) -> Result<Settings, Diagnostic> {
    let format = |name: &str| match config.text(name) {
        Some(text) if !text.is_empty() => Format::by_name(text)
            .map(Some)
            .ok_or_else(|| Diagnostic::user(format!("Unknown format: {text}, in {name}"))),
        _ => Ok(None),
    };
    let earliest = config.is_set("auto.offset.reset").then(|| config.text("auto.offset.reset") == Some("earliest"));
    Ok(Settings {
        earliest,
        default_earliest: config.text("bootstrap.servers").is_none_or(str::is_empty),
        default_key_format: format("ksql.persistence.default.format.key")?.unwrap_or(Format::Kafka),
        default_value_format: format("ksql.persistence.default.format.value")?,
        wrap_single_values: config
            .text("ksql.persistence.wrap.single.values")
            .filter(|t| !t.is_empty())
            .map(|t| t.eq_ignore_ascii_case("true")),
        topic_prefix: config.text("ksql.output.topic.name.prefix").unwrap_or_default().to_owned(),
        suppress_enabled: config.bool("ksql.suppress.enabled"),
        headers_enabled: config.bool("ksql.headers.columns.enabled"),
        ksql_only: config.dialect() == Dialect::Ksql,
        rules: rules(config)?,
    })
}

/// The optimizer rules in use.
///
/// # Errors
/// A name that is no rule.
pub fn rules(config: &Config) -> Result<Rules, Diagnostic> {
    Rules::without(config.text(config::RULES_OFF).unwrap_or_default())
        .map_err(|reason| Diagnostic::user(format!("{}: {reason}", config::RULES_OFF)))
}

/// What the runtime is told of one query.
pub fn query(config: &Config) -> QuerySettings {
    let ms = |name: &str, default: i64| config.int(name).unwrap_or(default);
    QuerySettings {
        coalesce: config.int("cache.max.bytes.buffering") != Some(0),
        memory_bytes: config
            .bytes("query.state.memory.bytes")
            .map_or(usize::MAX, |b| usize::try_from(b).unwrap_or(usize::MAX)),
        max_task_idle_ms: ms("max.task.idle.ms", 0),
        window_idle_close_ms: config
            .int("window.idle.close.ms")
            .filter(|ms| *ms > 0 && config.dialect() != Dialect::Ksql),
        backoff_initial_ms: ms("ksql.query.retry.backoff.initial.ms", 15_000),
        backoff_max_ms: ms("ksql.query.retry.backoff.max.ms", 900_000),
        errors_kept: ms("ksql.query.error.max.queue.size", 10).max(1) as usize,
        limits: Arc::new(FunctionLimits {
            collect_list: config.limit("ksql.functions.collect_list.limit"),
            collect_set: config.limit("ksql.functions.collect_set.limit"),
        }),
        standby_replicas: config.int(config::STANDBY_REPLICAS).map_or(0, |n| usize::try_from(n).unwrap_or(0)),
        strictness: Strictness {
            bad_timestamp: config.bool("ksql.timestamp.throw.on.invalid"),
            undecodable: config.bool("ksql.fail.on.deserialization.error"),
        },
        ..QuerySettings::default()
    }
}

/// What pull queries take of what is not here.
pub fn reads(config: &Config) -> Reads {
    let lag = config.int(config::PULL_MAX_LAG).and_then(|lag| u64::try_from(lag).ok());
    Reads { standbys: config.bool(config::PULL_STANDBY_READS), max_lag: lag.unwrap_or(u64::MAX) }
}

/// Session properties over the server's.
///
/// # Errors
/// Unknown names, values of the wrong type.
pub fn merged(server: &Config, session: &BTreeMap<String, String>) -> Result<Config, Diagnostic> {
    server.with(session)
}
