//! `riverrun datagen`: made-up records into a topic, at a rate.
//!
//! Knows rates and topics; what the records are is `datagen`'s. The subtle thing: a rate is what is due since the start, so a slow log is
//! caught up with, but only by a second's worth: whoever was away for long does not come back with a flood.

use std::str::FromStr;
use std::time::{Duration, Instant};

use arrow::array::{Array, BinaryArray};
use clap::{Args, ValueEnum};

use super::place::Place;
use crate::client::Client;
use crate::datagen::{Cell, Generator, Outlet, Quickstart, RecordWriter};
use crate::diagnostic::Diagnostic;
use crate::engine::RawRecord;
use crate::format::Format;
use crate::shell::interrupt::Interrupt;

const EXAMPLES: &str = "\
Examples:
  riverrun datagen --quickstart orders --server http://localhost:8088
  riverrun datagen --quickstart pageviews --rate 1000 --iterations 100000 --topic views --partitions 4 --bootstrap-servers localhost:9092
  riverrun datagen --quickstart users --value-format DELIMITED --key-format NONE --iterations 50 --data-dir ./data
  riverrun datagen --quickstart nexmark --rate 0 --iterations 1000000 --seed 7 --start 2026-01-01T00:00:00Z --data-dir ./data
  riverrun datagen --quickstart orders --print-statement | riverrun --server http://localhost:8088";

/// Records that are appended at once, at most.
const AT_ONCE: u64 = 2000;
/// Time between two looks at what is due: often enough for a steady flow, rare enough for a log that takes its time.
const TICK: Duration = Duration::from_millis(50);

/// Quickstarts by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum QuickstartArg {
    /// orders of items with an address; the key is orderid
    Orders,
    /// a table of users; the key is userid
    Users,
    /// pages that these users look at; the key is userid
    Pageviews,
    /// requests to a web server; the key is ip
    Clickstream,
    /// people, auctions and bids, into three topics: TOPIC_person, TOPIC_auction, TOPIC_bid
    Nexmark,
}

impl From<QuickstartArg> for Quickstart {
    fn from(arg: QuickstartArg) -> Self {
        match arg {
            QuickstartArg::Orders => Self::Orders,
            QuickstartArg::Users => Self::Users,
            QuickstartArg::Pageviews => Self::Pageviews,
            QuickstartArg::Clickstream => Self::Clickstream,
            QuickstartArg::Nexmark => Self::Nexmark,
        }
    }
}

/// Arguments of `datagen`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DatagenArgs {
    /// What to make
    #[arg(long, value_enum, ignore_case = true)]
    quickstart: QuickstartArg,
    /// Where to: made if it is not there [default: the quickstart's name]
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Records a second; 0: as fast as they are taken
    #[arg(long, value_name = "N", default_value = "10", value_parser = rate)]
    rate: f64,
    /// End after so many records [default: at Ctrl-C]
    #[arg(long, value_name = "N")]
    iterations: Option<u64>,
    /// The same seed gives the same records; with --start the same times too [default: a new one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Row time of the first record, as text or in ms since 1970; later ones follow as the rate says [default: now, for each]
    #[arg(long, value_name = "TIME", value_parser = start_time)]
    start: Option<i64>,
    /// The column that is the key
    #[arg(long, value_name = "COLUMN")]
    key: Option<String>,
    /// Format of keys: KAFKA, JSON, DELIMITED or NONE
    #[arg(long, value_name = "FORMAT", default_value = "KAFKA", value_parser = format)]
    key_format: Format,
    /// Format of values: JSON or DELIMITED
    #[arg(long, value_name = "FORMAT", default_value = "JSON", value_parser = format)]
    value_format: Format,
    /// Partitions of a topic that is made
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Make nothing; print the statement that declares the topic
    #[arg(long)]
    print_statement: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = f64::from_str(text).ok().filter(|rate| rate.is_finite() && *rate >= 0.0);
    rate.ok_or_else(|| "give a number of records a second, such as 10, 0.5, or 0 for no limit".to_owned())
}

fn start_time(text: &str) -> Result<i64, String> {
    let ms = text.parse().ok().or_else(|| jiff::Timestamp::from_str(text).ok().map(|t| t.as_millisecond()));
    ms.filter(|ms| *ms >= 0).ok_or_else(|| "give ms since 1970, or a time such as 2026-01-01T00:00:00Z".to_owned())
}

fn format(text: &str) -> Result<Format, String> {
    Format::by_name(text).ok_or_else(|| "give JSON, DELIMITED, KAFKA or NONE".to_owned())
}

/// Makes records until their number is reached, or Ctrl-C or SIGTERM.
pub(super) fn datagen(place: &Place, arguments: &DatagenArgs) -> Result<(), Diagnostic> {
    let quickstart = Quickstart::from(arguments.quickstart);
    let name = arguments.topic.clone().unwrap_or_else(|| quickstart.name().to_owned());
    let mut sinks: Vec<Sink> =
        quickstart.outlets().iter().map(|outlet| Sink::new(outlet, &name, arguments)).collect::<Result<_, _>>()?;
    if arguments.print_statement {
        sinks.iter().for_each(|sink| println!("{}", sink.writer.statement(&sink.topic, arguments.partitions)));
        return Ok(());
    }
    let interrupt = Interrupt::install_for_ends();
    let mut opened = place.open_for_records()?;
    let made = sinks
        .iter_mut()
        .try_for_each(|sink| sink.find_topic(opened.client.as_mut(), arguments.partitions))
        .and_then(|()| make(opened.client.as_mut(), &mut sinks, quickstart, arguments, &interrupt));
    for sink in &sinks {
        eprintln!("{} records appended to {}", sink.appended, sink.topic);
    }
    made.and(opened.close())
}

/// A topic that is filled.
struct Sink {
    topic: String,
    writer: RecordWriter,
    partitions: i32,
    /// events that wait, with their row times
    waiting: (Vec<Vec<Cell>>, Vec<Option<i64>>),
    appended: u64,
}

impl Sink {
    fn new(outlet: &Outlet, name: &str, arguments: &DatagenArgs) -> Result<Self, Diagnostic> {
        let writer = RecordWriter::new(outlet, arguments.key.as_deref(), arguments.key_format, arguments.value_format)?;
        let topic = format!("{name}{}", outlet.suffix);
        Ok(Self { topic, writer, partitions: arguments.partitions, waiting: Default::default(), appended: 0 })
    }

    /// Makes the topic if it is not there.
    fn find_topic(&mut self, client: &mut dyn Client, partitions: i32) -> Result<(), Diagnostic> {
        if client.topic(&self.topic)?.is_none() {
            client.create_topic(&self.topic, partitions)?;
        }
        let detail = client.topic(&self.topic)?;
        self.partitions = detail.map_or(1, |d| i32::try_from(d.partitions.len()).unwrap_or(i32::MAX)).max(1);
        Ok(())
    }

    /// Appends what waits.
    fn append(&mut self, client: &mut dyn Client) -> Result<(), Diagnostic> {
        let (events, times) = std::mem::take(&mut self.waiting);
        if events.is_empty() {
            return Ok(());
        }
        let (keys, values) = self.writer.write(&events)?;
        let bytes = |array: &BinaryArray, row: usize| (!array.is_null(row)).then(|| array.value(row).to_vec());
        let keyless = !self.writer.has_keys();
        let records = times.iter().enumerate().map(|(row, time)| RawRecord {
            // one after the other, also where each is appended alone
            partition: keyless.then(|| ((self.appended + row as u64) % self.partitions as u64) as i32),
            key: bytes(&keys, row),
            value: bytes(&values, row),
            timestamp: *time,
            headers: vec![],
        });
        let records: Vec<RawRecord> = records.collect();
        let count = records.len() as u64;
        client.append(&self.topic, records)?;
        self.appended += count;
        Ok(())
    }
}

fn make(
    client: &mut dyn Client,
    sinks: &mut [Sink],
    quickstart: Quickstart,
    arguments: &DatagenArgs,
    interrupt: &Interrupt,
) -> Result<(), Diagnostic> {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let mut generator = Generator::new(quickstart, seed);
    let wanted = arguments.iterations.unwrap_or(u64::MAX);
    let (mut pace, mut made) = (Pace::new(arguments.rate), 0);
    while made < wanted && !interrupt.is_pressed() {
        let due = pace.due(Instant::now()).min(wanted - made).min(AT_ONCE);
        for _ in 0..due {
            let time = arguments.start.map(|start| start.saturating_add(pace.after_start_ms(made)));
            let event = generator.draw(time.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond()));
            let sink = &mut sinks[event.outlet];
            sink.waiting.0.push(event.cells);
            sink.waiting.1.push(time);
            made += 1;
        }
        sinks.iter_mut().try_for_each(|sink| sink.append(client))?;
        pace.made(due);
        if made < wanted {
            interrupt.wait(pace.pause(Instant::now()));
        }
    }
    Ok(())
}

/// How many records are due.
struct Pace {
    rate: f64,
    /// when `credit` was counted
    at: Instant,
    /// records that are due, at most a second's worth
    credit: f64,
}

impl Pace {
    fn new(rate: f64) -> Self {
        // The first record is due at once.
        Self { rate, at: Instant::now(), credit: 1.0 }
    }

    fn due(&mut self, now: Instant) -> u64 {
        if self.rate == 0.0 {
            return u64::MAX;
        }
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.credit = (self.credit + earned).min(self.rate.max(1.0));
        self.at = now;
        self.credit as u64
    }

    fn made(&mut self, records: u64) {
        if self.rate > 0.0 {
            self.credit -= records as f64;
        }
    }

    /// How long to wait for the next one.
    fn pause(&self, now: Instant) -> Duration {
        if self.rate == 0.0 || self.credit >= 1.0 {
            return Duration::ZERO;
        }
        let next = Duration::try_from_secs_f64((1.0 - self.credit) / self.rate).unwrap_or(Duration::MAX);
        next.saturating_sub(now.saturating_duration_since(self.at)).max(TICK)
    }

    /// Time from the first record to that of this number, in ms; without a rate one each ms.
    fn after_start_ms(&self, number: u64) -> i64 {
        let per_ms = if self.rate == 0.0 { 1.0 } else { self.rate / 1000.0 };
        (number as f64 / per_ms) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_and_a_long_pause_is_not_made_up_for() {
        let mut pace = Pace::new(100.0);
        let start = pace.at;
        assert_eq!(pace.due(start), 1);
        pace.made(1);
        let mut made = 0;
        for tick in 1..=200 {
            let due = pace.due(start + TICK * tick);
            pace.made(due);
            made += due;
        }
        assert!((999..=1000).contains(&made), "{made} in ten seconds");
        assert_eq!(pace.due(start + Duration::from_secs(3600)), 100);
        let slow = Pace::new(0.5);
        assert_eq!(slow.after_start_ms(3), 6000);
        assert_eq!(Pace::new(0.0).due(start), u64::MAX);
    }

    #[test]
    fn values_of_arguments_say_what_they_want() {
        assert_eq!(rate("0.5"), Ok(0.5));
        assert!(rate("-1").is_err() && rate("fast").is_err() && rate("inf").is_err());
        assert_eq!(start_time("1970-01-01T00:00:01Z"), Ok(1000));
        assert_eq!(start_time("17"), Ok(17));
        assert!(start_time("yesterday").unwrap_err().contains("2026-01-01T00:00:00Z"));
        assert_eq!(format("delimited"), Ok(Format::Delimited));
    }
}
