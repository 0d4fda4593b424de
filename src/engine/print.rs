//! PRINT: records of a topic as lines, with guessed formats.
//!
//! Reads bytes, knows no source. The subtle thing: a format that one record does not fit is dropped for good, and the candidates are told
//! again whenever they change.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::Engine;
use super::outcome::{NextRows, ResultColumn, RowSource, Rows, RowsKind};
use super::records::ReadRecord;
use crate::diagnostic::{Diagnostic, suggest};
use crate::format::guess::FormatGuess;
use crate::sql::ast::Print;
use crate::types::SqlType;

/// Starts printing.
///
/// # Errors
/// A topic that is not there.
pub fn rows(print: &Print, engine: &Engine) -> Result<Rows, Diagnostic> {
    let name = print.topic.as_str();
    let topic = engine.topic(name)?.ok_or_else(|| {
        let error = Diagnostic::user(format!("Could not find topic '{name}', or the KSQL user does not have permissions to list the topic. Topic names are case-sensitive."))
            .at(print.topic.span());
        let names: Vec<String> = engine.log().topics().unwrap_or_default().into_iter().map(|t| t.name.to_string()).collect();
        match suggest(name, names.iter().map(String::as_str)) {
            Some(near) => error.help(format!("Did you mean: print {near};")),
            None => error.help("SHOW TOPICS lists what there is"),
        }
    })?;
    let start = |(first, end): (i64, i64)| if print.from_beginning { first } else { end };
    let next = topic.partitions.iter().enumerate().map(|(p, bounds)| (p as i32, start(*bounds))).collect();
    let columns = vec![ResultColumn { name: "LINE".into(), ty: SqlType::String, is_key: false }];
    let source = PrintRows {
        engine: engine.clone(),
        topic: name.to_owned(),
        next,
        interval: print.interval.map_or(1, |i| i.count.max(1)),
        left: print.limit.map(|l| l.count),
        seen: 0,
        keys: FormatGuess::for_keys(),
        values: FormatGuess::for_values(),
        told: (String::new(), String::new()),
        lines: VecDeque::new(),
        cancelled: Arc::new(AtomicBool::new(false)),
    };
    Ok(Rows {
        query_id: format!("print_{}", engine.now_ms()),
        columns,
        kind: RowsKind::Print,
        source: Box::new(source),
    })
}

struct PrintRows {
    engine: Engine,
    topic: String,
    next: Vec<(i32, i64)>,
    interval: u64,
    left: Option<u64>,
    seen: u64,
    keys: FormatGuess,
    values: FormatGuess,
    /// formats of keys and values as last told
    told: (String, String),
    lines: VecDeque<String>,
    cancelled: Arc<AtomicBool>,
}

impl PrintRows {
    fn read(&mut self) -> Result<(), Diagnostic> {
        let mut records = Vec::new();
        for (partition, next) in &mut self.next {
            let page = self.engine.read(&self.topic, *partition, *next, 1024)?;
            *next = page.next;
            records.extend(page.records);
        }
        records.sort_by_key(|r| r.timestamp);
        for record in &records {
            if self.left == Some(0) {
                break;
            }
            self.seen += 1;
            if (self.seen - 1).is_multiple_of(self.interval) {
                self.line(record);
                self.left = self.left.map(|l| l - 1);
            }
        }
        Ok(())
    }

    fn line(&mut self, record: &ReadRecord) {
        let key = self.keys.observe(record.key.as_deref());
        let value = self.values.observe(record.value.as_deref());
        let formats = (self.keys.names(), self.values.names());
        if formats.0 != self.told.0 {
            self.lines.push_back(format!("Key format: {}", formats.0));
        }
        if formats.1 != self.told.1 {
            self.lines.push_back(format!("Value format: {}", formats.1));
        }
        self.told = formats;
        let time = jiff::Timestamp::from_millisecond(record.timestamp)
            .map_or_else(|_| "N/A".to_owned(), |t| t.strftime("%Y/%m/%d %H:%M:%S%.3f Z").to_string());
        self.lines.push_back(format!("rowtime: {time}, key: {key}, value: {value}, partition: {}", record.partition));
    }
}

impl RowSource for PrintRows {
    fn next(&mut self, timeout: Duration) -> NextRows {
        if self.cancelled.load(Ordering::Relaxed) {
            return NextRows::Done(None);
        }
        if self.lines.is_empty() && self.left != Some(0) {
            match self
                .engine
                .wait_records(&self.topic, &self.next, timeout)
                .and_then(|any| if any { self.read() } else { Ok(()) })
            {
                Ok(()) => {}
                Err(error) => return NextRows::Failed(error),
            }
        }
        if self.lines.is_empty() {
            return if self.left == Some(0) { NextRows::Done(None) } else { NextRows::Idle };
        }
        let lines: Vec<String> = self.lines.drain(..).collect();
        let schema = Arc::new(Schema::new(vec![Field::new("LINE", DataType::Utf8, true)]));
        let column: ArrayRef = Arc::new(StringArray::from(lines));
        match RecordBatch::try_new(schema, vec![column]) {
            Ok(batch) => NextRows::Batch { batch, tombstones: None },
            Err(error) => NextRows::Failed(crate::analyzer::relation::internal(error)),
        }
    }

    fn canceller(&self) -> Arc<dyn Fn() + Send + Sync> {
        let cancelled = self.cancelled.clone();
        Arc::new(move || cancelled.store(true, Ordering::Relaxed))
    }
}
