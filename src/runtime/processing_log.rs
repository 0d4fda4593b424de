//! Lost rows and values, counted and told as records of the processing log.
//!
//! Decides no result. The records travel in the commit of the step that lost the rows, so that a loss is told exactly once. The subtle
//! thing: a query that reads the processing log never writes to it, or one bad record would feed itself for ever.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::BinaryArray;
use parking_lot::Mutex;

use crate::operator::{Loss, LossKind};
use crate::topic::TopicPartition;
use crate::types::{QueryId, TopicName};

use super::output::{Outputs, Records};

/// Records a query may write each second for one kind of loss; the rest is only counted.
pub const RECORDS_PER_SECOND: u32 = 100;

/// A loss with the place it happened at.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    /// step of the query, as `WhereFilter`
    pub step: Arc<str>,
    /// where the record came from, if the step has one origin only
    pub from: Option<TopicPartition>,
    /// what was lost
    pub loss: Loss,
}

#[derive(Default)]
struct Budget {
    second: i64,
    told: u32,
    silent: u64,
}

/// The processing log of one query.
pub(super) struct ProcessingLog {
    query: QueryId,
    /// `None`: count only
    topic: Option<TopicName>,
    budgets: Mutex<BTreeMap<LossKind, Budget>>,
    counts: Mutex<BTreeMap<LossKind, u64>>,
}

impl ProcessingLog {
    /// A log that writes to `topic`, if there is one and the query does not read it.
    pub fn new(query: QueryId, topic: Option<TopicName>) -> Self {
        Self { query, topic, budgets: Mutex::default(), counts: Mutex::default() }
    }

    /// Adds records for these losses to `out`, as many as the second's budget allows.
    pub fn tell(&self, losses: &[Lost], now_ms: i64, out: &mut Outputs) {
        let Some(topic) = &self.topic else { return };
        let mut rows = Vec::new();
        {
            let mut budgets = self.budgets.lock();
            for lost in losses {
                let budget = budgets.entry(lost.loss.kind).or_default();
                if budget.second != now_ms.div_euclid(1000) {
                    if budget.silent > 0 {
                        rows.push(self.summary(lost, budget.silent, now_ms));
                    }
                    *budget = Budget { second: now_ms.div_euclid(1000), told: 0, silent: 0 };
                }
                if budget.told < RECORDS_PER_SECOND {
                    budget.told += 1;
                    rows.push(self.record(lost, now_ms));
                } else {
                    budget.silent += 1;
                }
            }
        }
        append(topic, &rows, now_ms, out);
    }

    /// Adds a record that says why a task stopped.
    pub fn tell_failure(&self, message: &str, now_ms: i64, out: &mut Outputs) {
        let Some(topic) = &self.topic else { return };
        let mut row = self.head("Thread", "FATAL", now_ms);
        row.push_str("\"type\":4,\"kafkaStreamsThreadError\":{\"errorMessage\":");
        text(&mut row, message);
        row.push_str(",\"threadName\":null,\"cause\":[]}}");
        self.tail(&mut row, None, None, message);
        append(topic, &[row], now_ms, out);
    }

    /// Counts losses that are committed.
    pub fn count(&self, losses: &BTreeMap<LossKind, u64>) {
        if losses.is_empty() {
            return;
        }
        let mut counts = self.counts.lock();
        for (&kind, &n) in losses {
            *counts.entry(kind).or_default() += n;
        }
    }

    /// Losses committed since the query was started here, by kind.
    pub fn counts(&self) -> BTreeMap<LossKind, u64> {
        self.counts.lock().clone()
    }

    fn record(&self, lost: &Lost, now_ms: i64) -> String {
        let Lost { step, from, loss } = lost;
        let mut row = self.head(step, level(loss.kind), now_ms);
        let topic = from.as_ref().map(|f| f.topic.as_str());
        match loss.kind {
            LossKind::Undecodable => {
                row.push_str("\"type\":0,\"deserializationError\":{\"target\":null,\"errorMessage\":");
                text(&mut row, &loss.reason);
                row.push_str(",\"recordB64\":null,\"cause\":[],\"topic\":");
                text_or_null(&mut row, topic);
            }
            LossKind::Unencodable => {
                row.push_str("\"type\":3,\"serializationError\":{\"target\":null,\"errorMessage\":");
                text(&mut row, &loss.reason);
                row.push_str(",\"record\":null,\"cause\":[],\"topic\":null");
            }
            LossKind::BadTimestamp | LossKind::NullKey | LossKind::Late | LossKind::Expression => {
                row.push_str("\"type\":1,\"recordProcessingError\":{\"errorMessage\":");
                text(&mut row, &loss.reason);
                row.push_str(",\"record\":null,\"cause\":[]");
            }
        }
        row.push_str("}}");
        self.tail(&mut row, from.as_ref(), Some(loss.offset), &loss.reason);
        row
    }

    fn summary(&self, lost: &Lost, silent: u64, now_ms: i64) -> String {
        let reason = format!("{silent} more losses of this kind were counted and not logged");
        let mut row = self.head(&lost.step, level(lost.loss.kind), now_ms);
        row.push_str("\"type\":1,\"recordProcessingError\":{\"errorMessage\":");
        text(&mut row, &reason);
        row.push_str(",\"record\":null,\"cause\":[]}}");
        self.tail(&mut row, None, None, &reason);
        row
    }

    /// All up to the inner fields of MESSAGE.
    fn head(&self, step: &str, level: &str, now_ms: i64) -> String {
        let mut row = String::from("{\"LOGGER\":");
        text(&mut row, &format!("processing.{}.{step}", self.query));
        let _ = write!(row, ",\"LEVEL\":\"{level}\",\"TIME\":{now_ms},\"MESSAGE\":{{");
        row
    }

    fn tail(&self, row: &mut String, from: Option<&TopicPartition>, offset: Option<i64>, reason: &str) {
        row.push_str(",\"QUERY_ID\":");
        text(row, self.query.as_str());
        row.push_str(",\"TOPIC\":");
        text_or_null(row, from.map(|f| f.topic.as_str()));
        match from {
            Some(from) => {
                let _ = write!(row, ",\"PARTITION\":{}", from.partition);
            }
            None => row.push_str(",\"PARTITION\":null"),
        }
        match offset {
            Some(offset) => {
                let _ = write!(row, ",\"OFFSET\":{offset}");
            }
            None => row.push_str(",\"OFFSET\":null"),
        }
        row.push_str(",\"REASON\":");
        text(row, reason);
        row.push('}');
    }
}

fn level(kind: LossKind) -> &'static str {
    match kind {
        LossKind::NullKey | LossKind::Late => "WARN",
        _ => "ERROR",
    }
}

fn append(topic: &TopicName, rows: &[String], now_ms: i64, out: &mut Outputs) {
    let records = Records {
        timestamps: vec![now_ms; rows.len()].into(),
        keys: BinaryArray::new_null(rows.len()),
        values: rows.iter().map(|r| Some(r.as_bytes())).collect(),
        headers: None,
    };
    out.append(TopicPartition::new(topic.clone(), 0), records);
}

fn text_or_null(row: &mut String, value: Option<&str>) {
    match value {
        Some(value) => text(row, value),
        None => row.push_str("null"),
    }
}

/// `value` as a JSON string.
fn text(row: &mut String, value: &str) {
    row.push('"');
    for c in value.chars() {
        match c {
            '"' => row.push_str("\\\""),
            '\\' => row.push_str("\\\\"),
            '\n' => row.push_str("\\n"),
            '\r' => row.push_str("\\r"),
            '\t' => row.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(row, "\\u{:04x}", c as u32);
            }
            c => row.push(c),
        }
    }
    row.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(offset: i64) -> Lost {
        let loss = Loss { offset, kind: LossKind::Undecodable, reason: "bad \"quote\"\n".to_owned() };
        Lost { step: "KsqlTopic".into(), from: Some(TopicPartition::new("t", 3)), loss }
    }

    fn rows(out: &mut Outputs) -> Vec<serde_json::Value> {
        let appends = out.take_appends();
        appends.iter().flat_map(|a| a.values.iter().flatten()).map(|v| serde_json::from_slice(v).unwrap()).collect()
    }

    #[test]
    fn a_record_is_json_with_place_and_reason() {
        let log = ProcessingLog::new("Q".into(), Some("plog".into()));
        let mut out = Outputs::default();
        log.tell(&[lost(7)], 5, &mut out);
        log.tell_failure("broke", 6, &mut out);
        let rows = rows(&mut out);
        assert_eq!(rows[0]["LOGGER"], "processing.Q.KsqlTopic");
        assert_eq!(rows[0]["MESSAGE"]["deserializationError"]["errorMessage"], "bad \"quote\"\n");
        assert_eq!((&rows[0]["TOPIC"], &rows[0]["PARTITION"], &rows[0]["OFFSET"]), (&"t".into(), &3.into(), &7.into()));
        assert_eq!(rows[1]["MESSAGE"]["type"], 4);
    }

    #[test]
    fn beyond_a_hundred_a_second_losses_are_only_counted() {
        let log = ProcessingLog::new("Q".into(), Some("plog".into()));
        let mut out = Outputs::default();
        let many: Vec<Lost> = (0..250).map(lost).collect();
        log.tell(&many, 1_000, &mut out);
        assert_eq!(rows(&mut out).len(), 100);
        log.tell(&many[..1], 2_500, &mut out);
        let rows = rows(&mut out);
        assert_eq!(rows.len(), 2);
        assert!(rows[0]["REASON"].as_str().unwrap().starts_with("150 more"));
    }
}
