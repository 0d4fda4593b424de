//! How long a record takes through a query at 1,000 records/s: from before its commit to the log until a reader is told of its result.
//!
//! A record a commit, as a producer that waits for each would send. The subtle thing: the schedule is fixed, and a late record is timed
//! from when it was due, so that a stall is not left out of the figures.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use arrow::array::BinaryArray;
use riverrun::topic::partitioner::partition_for;
use riverrun::topic::{Append, Commit, Log, ReadLimit, TopicPartition};

use crate::data::{PARTITIONS, open};

/// Records sent.
const RECORDS: usize = 10_000;
/// Records before the first that is timed.
const WARM_UP: usize = 1000;
/// From one record to the next.
const EVERY: Duration = Duration::from_micros(1000);

const STATEMENTS: &str = "
    CREATE STREAM ticks (k STRING KEY, n BIGINT, amount DOUBLE) WITH (KAFKA_TOPIC = 'ticks', PARTITIONS = 4, VALUE_FORMAT = 'JSON');
    CREATE STREAM ticked WITH (KAFKA_TOPIC = 'ticked') AS SELECT k, n, amount * 1.2 AS gross FROM ticks WHERE amount > 0 EMIT CHANGES;";

/// Sends the records and prints the percentiles.
pub fn run(dir: &Path, workers: Option<usize>) -> Result<(), String> {
    let engine = open(dir, workers)?;
    let mut session = engine.session();
    session.execute(STATEMENTS).map_err(|e| e.diagnostic.to_string())?;
    engine.wait_idle(None).map_err(|e| e.to_string())?;
    let (told, wakes) = channel();
    let _guard = engine.log().watch(&["ticked".into()], Arc::new(move || _ = told.send(())));
    let log = engine.log().clone();
    let start = Instant::now() + Duration::from_millis(10);
    let reader = std::thread::spawn(move || read_all(&log, &wakes, start));
    for n in 0..RECORDS {
        let due = start + EVERY * n as u32;
        while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
        send(engine.log(), n)?;
    }
    let mut late = reader.join().map_err(|_| "the reader failed".to_owned())??;
    late.drain(..WARM_UP);
    late.sort_unstable();
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!(
        "latency      at 1,000 records/s: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, worst {:.2} ms",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    session
        .execute("TERMINATE ALL; DROP STREAM ticked DELETE TOPIC; DROP STREAM ticks DELETE TOPIC;")
        .map_err(|e| e.diagnostic.to_string())?;
    engine.close().map_err(|e| e.to_string())
}

fn send(log: &Arc<dyn Log>, n: usize) -> Result<(), String> {
    let key = format!("K{:03}", n % 100);
    let append = Append {
        to: TopicPartition::new("ticks", partition_for(key.as_bytes(), PARTITIONS)),
        timestamps: vec![1_700_000_000_000 + n as i64].into(),
        keys: BinaryArray::from_iter_values([&key]),
        values: BinaryArray::from_iter_values([format!(r#"{{"n":{n},"amount":{}}}"#, 1 + n % 50)]),
        headers: None,
    };
    log.commit(Commit { outputs: vec![append], ..Commit::default() }).map(|_| ()).map_err(|e| e.to_string())
}

/// How late after it was due each record's result was there.
fn read_all(log: &Arc<dyn Log>, wakes: &Receiver<()>, start: Instant) -> Result<Vec<Duration>, String> {
    let mut late = vec![Duration::ZERO; RECORDS];
    let mut next = [0; PARTITIONS as usize];
    let mut seen = 0;
    while seen < RECORDS {
        wakes.recv_timeout(Duration::from_secs(30)).map_err(|_| "results stay away".to_owned())?;
        for partition in 0..PARTITIONS {
            let at = TopicPartition::new("ticked", partition);
            let from = &mut next[partition as usize];
            let fetched = log.read(&at, *from, ReadLimit::default()).map_err(|e| e.to_string())?;
            for value in fetched.batch.values.iter().flatten() {
                let n = sonic_rs::get(value, ["N"]).ok().and_then(|n| n.as_raw_str().parse::<usize>().ok());
                let n = n.ok_or("a result without number")?;
                late[n] = Instant::now().saturating_duration_since(start + EVERY * n as u32);
                seen += 1;
            }
            *from = fetched.next;
        }
    }
    Ok(late)
}
