//! `riverrun produce` and `riverrun consume`: raw records by file or pipe.
//!
//! Knows no schema. The subtle thing: `produce` counts a record only when the log says it is durable, and `consume --until-end` means
//! the end as it was when it began.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::place::Place;
use crate::client::Client;
use crate::diagnostic::Diagnostic;
use crate::engine::{RawRecord, ReadRecord, TopicDetail};
use crate::shell::interrupt::Interrupt;
use crate::shell::lines::{MAX_LINE_BYTES, read_line};
use crate::wire::record::{self, PartFormat};

const PRODUCE_EXAMPLES: &str = "\
Examples:
  riverrun produce orders orders.json
  cat lines.txt | riverrun produce orders --key-separator ':'
  S=http://localhost:8088   (two programs at once need a server: a data directory belongs to one)
  riverrun consume orders --until-end --from-beginning --server $S | riverrun produce copy --format json --server $S";

const CONSUME_EXAMPLES: &str = "\
Examples:
  riverrun consume orders --from-beginning --until-end
  riverrun consume orders --max 10 --format raw
  riverrun consume counts --from-beginning --key-format BIGINT --value-format JSON";

/// Records that are appended at once.
const RECORDS_AT_ONCE: usize = 2000;
/// Bytes that are appended at once; well below what a request may hold.
const BYTES_AT_ONCE: usize = 1 << 20;
/// How long a consumer waits before it looks whether it shall end.
const LOOK_AROUND: Duration = Duration::from_millis(500);

/// How records stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RecordFormat {
    /// one JSON object a record: partition, offset, timestamp, key, value, headers
    Json,
    /// the value, a line a record
    Raw,
}

/// Arguments of `produce`.
#[derive(Debug, Args)]
#[command(after_help = PRODUCE_EXAMPLES)]
pub(super) struct ProduceArgs {
    /// The topic; it must exist
    topic: String,
    /// Read records from this file instead of standard input
    file: Option<PathBuf>,
    /// The text before the first C of a line is the key
    #[arg(long, value_name = "C")]
    key_separator: Option<String>,
    /// How the records are written
    #[arg(long, value_enum, default_value = "raw", conflicts_with = "key_separator")]
    format: RecordFormat,
}

/// Arguments of `consume`.
#[derive(Debug, Args)]
#[command(after_help = CONSUME_EXAMPLES)]
pub(super) struct ConsumeArgs {
    /// The topic
    topic: String,
    /// Start at the first record, not at the next one
    #[arg(long)]
    from_beginning: bool,
    /// End at what was the end of the topic at the start
    #[arg(long)]
    until_end: bool,
    /// End after so many records
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// How records are written
    #[arg(long, value_enum, default_value = "json")]
    format: RecordFormat,
    /// Take keys apart: STRING, JSON, INT, BIGINT, DOUBLE or BASE64
    #[arg(long, value_name = "F")]
    key_format: Option<String>,
    /// Take values apart: STRING, JSON, INT, BIGINT, DOUBLE or BASE64
    #[arg(long, value_name = "F")]
    value_format: Option<String>,
}

/// Appends records; returns when all are durable.
pub(super) fn produce(place: &Place, arguments: &ProduceArgs) -> Result<(), Diagnostic> {
    let input: Box<dyn Read> = match &arguments.file {
        Some(path) => Box::new(File::open(path).map_err(|error| {
            super::system_error(&format!("Cannot read {}", path.display()), &error)
                .help("give the path of a file of records")
        })?),
        None => Box::new(std::io::stdin()),
    };
    let mut opened = place.open_for_records()?;
    let result = expect_topic(opened.client.as_mut(), &arguments.topic)
        .and_then(|_| append_all(opened.client.as_mut(), arguments, &mut BufReader::new(input)));
    let closed = opened.close();
    let count = result?;
    closed?;
    eprintln!("{count} records appended to {}", arguments.topic);
    Ok(())
}

fn expect_topic(client: &mut dyn Client, topic: &str) -> Result<TopicDetail, Diagnostic> {
    client.topic(topic)?.ok_or_else(|| {
        Diagnostic::user(format!("topic '{topic}' does not exist"))
            .help("CREATE STREAM … WITH (KAFKA_TOPIC='…', PARTITIONS=1, …) makes one; SHOW TOPICS lists all")
    })
}

fn append_all(client: &mut dyn Client, arguments: &ProduceArgs, input: &mut dyn BufRead) -> Result<u64, Diagnostic> {
    let mut count = 0;
    let mut number = 0u64;
    let mut at_end = false;
    while !at_end {
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < RECORDS_AT_ONCE && bytes < BYTES_AT_ONCE {
            number += 1;
            let here = |error: Diagnostic| {
                let message = format!("line {number}: {} ({count} records were appended before)", error.message);
                Diagnostic { message, ..error }
            };
            let mut line = read_line(input, MAX_LINE_BYTES).map_err(here)?;
            at_end = line.is_empty();
            if at_end {
                break;
            }
            bytes += line.len();
            strip_newline(&mut line);
            let record = parse_line(line, arguments).map_err(here)?;
            records.extend(record);
        }
        let expected = records.len();
        if expected > 0 {
            count += client.append(&arguments.topic, records)?.len() as u64;
        }
    }
    Ok(count)
}

fn strip_newline(line: &mut Vec<u8>) {
    if line.ends_with(b"\n") {
        line.pop();
    }
    if line.ends_with(b"\r") {
        line.pop();
    }
}

/// The record of a line; none for a blank line.
fn parse_line(line: Vec<u8>, arguments: &ProduceArgs) -> Result<Option<RawRecord>, Diagnostic> {
    if line.is_empty() {
        return Ok(None);
    }
    if arguments.format == RecordFormat::Json {
        let json = serde_json::from_slice(&line).map_err(|error| {
            Diagnostic::user(format!("this is not JSON: {error}")).help("leave --format json away for plain lines")
        })?;
        return record::from_json(&json).map(|record| Some(RawRecord { partition: None, ..record }));
    }
    let Some(separator) = arguments.key_separator.as_deref().filter(|s| !s.is_empty()) else {
        return Ok(Some(RawRecord { value: Some(line), ..RawRecord::default() }));
    };
    let Some(at) = memchr::memmem::find(&line, separator.as_bytes()) else {
        return Err(Diagnostic::user(format!("there is no key separator '{separator}'"))
            .help("write key, separator, value; or leave --key-separator away"));
    };
    let value = line[at + separator.len()..].to_vec();
    Ok(Some(RawRecord { key: Some(line[..at].to_vec()), value: Some(value), ..RawRecord::default() }))
}

/// Writes records until the end, the maximum, or Ctrl-C.
pub(super) fn consume(place: &Place, arguments: &ConsumeArgs) -> Result<(), Diagnostic> {
    let format = |name: &Option<String>| name.as_deref().map_or(Ok(PartFormat::Auto), PartFormat::parse);
    let printer = RecordPrinter {
        format: arguments.format,
        key: format(&arguments.key_format)?,
        value: format(&arguments.value_format)?,
    };
    let mut opened = place.open_for_records()?;
    let result = write_all(opened.client.as_mut(), arguments, &printer, &Interrupt::install());
    let closed = opened.close();
    result.and(closed)
}

struct RecordPrinter {
    format: RecordFormat,
    key: PartFormat,
    value: PartFormat,
}

impl RecordPrinter {
    fn print(&self, out: &mut dyn Write, record: &ReadRecord) -> std::io::Result<()> {
        match self.format {
            RecordFormat::Json => writeln!(out, "{}", record::to_json(record, self.key, self.value)),
            RecordFormat::Raw => {
                out.write_all(record.value.as_deref().unwrap_or_default())?;
                out.write_all(b"\n")
            }
        }
    }
}

fn write_all(
    client: &mut dyn Client,
    arguments: &ConsumeArgs,
    printer: &RecordPrinter,
    interrupt: &Interrupt,
) -> Result<(), Diagnostic> {
    let detail = expect_topic(client, &arguments.topic)?;
    let mut next: Vec<(i32, i64)> = (0i32..)
        .zip(&detail.partitions)
        .map(|(partition, &(start, end))| (partition, if arguments.from_beginning { start } else { end }))
        .collect();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut left = arguments.max.unwrap_or(u64::MAX);
    while left > 0 && !interrupt.is_pressed() {
        let mut at_end = true;
        for ((partition, from), (_, end)) in next.iter_mut().zip(&detail.partitions) {
            let page_size = RECORDS_AT_ONCE.min(usize::try_from(left).unwrap_or(usize::MAX));
            if page_size == 0 || (arguments.until_end && *from >= *end) {
                continue;
            }
            let mut page = client.read(&arguments.topic, *partition, *from, page_size)?;
            if arguments.until_end {
                page.records.retain(|record| record.offset < *end);
            }
            for record in &page.records {
                printer
                    .print(&mut out, record)
                    .map_err(|error| super::system_error("The output cannot be written", &error))?;
            }
            left -= page.records.len() as u64;
            at_end &= page.next <= *from;
            *from = page.next.max(*from);
        }
        out.flush().map_err(|error| super::system_error("The output cannot be written", &error))?;
        let ended = next.iter().zip(&detail.partitions).all(|((_, from), (_, end))| from >= end);
        if arguments.until_end && (ended || at_end) {
            break;
        }
        if at_end {
            client.wait_records(&arguments.topic, &next, LOOK_AROUND)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(key_separator: Option<&str>, format: RecordFormat) -> ProduceArgs {
        ProduceArgs { topic: "t".into(), file: None, key_separator: key_separator.map(str::to_owned), format }
    }

    #[test]
    fn lines_become_records() {
        let parse = |line: &str, a: &ProduceArgs| parse_line(line.as_bytes().to_vec(), a);
        let raw = parse("a:b", &arguments(None, RecordFormat::Raw)).unwrap().unwrap();
        assert_eq!((raw.key, raw.value.as_deref()), (None, Some(&b"a:b"[..])));
        let keyed = parse("a::b:c", &arguments(Some("::"), RecordFormat::Raw)).unwrap().unwrap();
        assert_eq!((keyed.key.as_deref(), keyed.value.as_deref()), (Some(&b"a"[..]), Some(&b"b:c"[..])));
        assert!(parse("ab", &arguments(Some(":"), RecordFormat::Raw)).unwrap_err().message.contains("separator ':'"));
        let json =
            parse(r#"{"key":"k","value":null,"timestamp":5}"#, &arguments(None, RecordFormat::Json)).unwrap().unwrap();
        assert_eq!((json.key.as_deref(), json.value, json.timestamp), (Some(&b"k"[..]), None, Some(5)));
        assert!(parse("", &arguments(None, RecordFormat::Raw)).unwrap().is_none());
    }
}
