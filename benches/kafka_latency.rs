//! How long a record takes over Kafka at a steady rate: from when it was due at its producer until a read_committed reader has its result.
//!
//! `RIVERRUN_KAFKA=127.0.0.1:9092 cargo bench --bench kafka_latency -- [--guarantee at_least_once] [--rate N] [--records N] [--core N]`; without a
//! broker it says so and ends. The server is a process of its own; producer and reader are plain clients of Kafka. The subtle thing: the
//! schedule is fixed, and a late record is timed from when it was due, so that a stall is not left out of the figures.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const PARTITIONS: i32 = 4;
/// How long anything may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Latency over Kafka.
#[derive(Parser)]
struct Arguments {
    /// exactly_once_v2, at_least_once, or both
    #[arg(long, default_value = "both")]
    guarantee: String,
    /// records a second
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// records that are timed; as many as a tenth of them go before
    #[arg(long, default_value_t = 20_000)]
    records: usize,
    /// the core that the server gets; all without it
    #[arg(long)]
    core: Option<String>,
    /// the program
    #[arg(long, default_value = env!("CARGO_BIN_EXE_riverrun"))]
    program: PathBuf,
    /// more properties of the server, NAME=VALUE
    #[arg(long)]
    set: Vec<String>,
    /// what cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let brokers = std::env::var("RIVERRUN_KAFKA").unwrap_or_default();
    if brokers.is_empty() {
        println!("not measured: RIVERRUN_KAFKA names no broker");
        return ExitCode::SUCCESS;
    }
    let guarantees = match arguments.guarantee.as_str() {
        "both" => vec!["exactly_once_v2", "at_least_once"],
        one => vec![one],
    };
    for guarantee in guarantees {
        if let Err(reason) = measure(&arguments, &brokers, guarantee) {
            eprintln!("{guarantee}: {reason}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn measure(arguments: &Arguments, brokers: &str, guarantee: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let name = format!("latency-{:08x}", rand::random::<u32>());
    let mut server = Server::start(arguments, brokers, guarantee, &name, folder.path())?;
    let measured = time_records(arguments, brokers, &name);
    server.stop();
    tidy(brokers, &name)?;
    let mut late = measured?;
    late.sort_unstable();
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!(
        "{guarantee:<16} {} records/s: p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, worst {:.1} ms",
        arguments.rate,
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    Ok(())
}

/// The server; killed when dropped.
struct Server(Child);

impl Server {
    /// Starts it and waits until its queries are there.
    fn start(arguments: &Arguments, brokers: &str, guarantee: &str, name: &str, dir: &Path) -> Result<Self, String> {
        let queries = dir.join("queries.sql");
        let text = format!(
            "CREATE STREAM ticks (n BIGINT, amount DOUBLE) WITH (KAFKA_TOPIC='{name}-in', PARTITIONS={PARTITIONS}, VALUE_FORMAT='JSON');\n\
             CREATE STREAM ticked WITH (KAFKA_TOPIC='{name}-out') AS SELECT n, amount * 1.2 AS gross FROM ticks WHERE amount > 0 EMIT CHANGES;\n"
        );
        std::fs::write(&queries, text).map_err(|e| e.to_string())?;
        let mut command = match &arguments.core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", core]).arg(&arguments.program);
                command
            }
            None => Command::new(&arguments.program),
        };
        command.args(["server", "--listen", "127.0.0.1:0", "--bootstrap-servers", brokers, "--service-id", name]);
        command.arg("--data-dir").arg(dir.join("data")).arg("--queries-file").arg(queries);
        command.arg("--set").arg(format!("processing.guarantee={guarantee}"));
        arguments.set.iter().for_each(|set| _ = command.arg("--set").arg(set));
        let mut child =
            command.stdout(Stdio::piped()).spawn().map_err(|e| format!("the server does not start: {e}"))?;
        let out = child.stdout.take().ok_or("the server has no output")?;
        let server = Self(child);
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        lines.find(|line| line.contains("listens on")).ok_or("the server ended before it listened")?;
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(server)
    }

    /// Ends it as a user does.
    fn stop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How late after it was due the result of each record was there.
fn time_records(arguments: &Arguments, brokers: &str, name: &str) -> Result<Vec<Duration>, String> {
    let warm_up = (arguments.records / 10).max(1);
    let all = warm_up + arguments.records;
    let every = Duration::from_secs(1) / arguments.rate.max(1);
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{name}-reader"))
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .create()
        .map_err(|e| e.to_string())?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(&format!("{name}-out"), partition, Offset::Beginning).map_err(|e| e.to_string())?;
    }
    reader.assign(&list).map_err(|e| e.to_string())?;
    let start = Instant::now() + Duration::from_millis(500);
    let due = move |n: usize| start + every * u32::try_from(n).unwrap_or(u32::MAX);
    let (topic, brokers) = (format!("{name}-in"), brokers.to_owned());
    let writer = std::thread::spawn(move || send_all(&brokers, &topic, all, due));
    let (mut late, mut seen) = (vec![None; all], 0);
    let mut deadline = Instant::now() + PATIENCE;
    while seen < all {
        let Some(message) = reader.poll(Duration::from_millis(200)) else {
            if Instant::now() > deadline {
                return Err(format!("results stay away: {seen} of {all} are there"));
            }
            continue;
        };
        let message = message.map_err(|e| e.to_string())?;
        let value = message.payload().ok_or("a result without value")?;
        let n = sonic_rs::get(value, ["N"]).ok().and_then(|n| n.as_raw_str().parse::<usize>().ok());
        let place = n.and_then(|n| late.get_mut(n).map(|place| (n, place)));
        let (n, place) = place.ok_or("a result without number")?;
        if place.is_none() {
            *place = Some(Instant::now().saturating_duration_since(due(n)));
            seen += 1;
        }
        deadline = Instant::now() + PATIENCE;
    }
    writer.join().map_err(|_| "the producer failed".to_owned())??;
    Ok(late.into_iter().skip(warm_up).flatten().collect())
}

fn send_all(brokers: &str, topic: &str, all: usize, due: impl Fn(usize) -> Instant) -> Result<(), String> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "0")
        .create()
        .map_err(|e| e.to_string())?;
    for n in 0..all {
        while let Some(left) = due(n).checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
        let value = format!(r#"{{"N":{n},"AMOUNT":{}}}"#, 1 + n % 50);
        let record = BaseRecord::<(), _>::to(topic).payload(&value).partition((n % PARTITIONS as usize) as i32);
        producer.send(record).map_err(|(e, _)| e.to_string())?;
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE).map_err(|e| e.to_string())
}

/// Deletes what the measurement made.
fn tidy(brokers: &str, name: &str) -> Result<(), String> {
    let client: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().map_err(|e| e.to_string())?;
    let metadata = client.inner().fetch_metadata(None, PATIENCE).map_err(|e| e.to_string())?;
    let topics: Vec<&str> = metadata.topics().iter().map(|t| t.name()).filter(|t| t.contains(name)).collect();
    let groups = client.inner().fetch_group_list(None, PATIENCE).map_err(|e| e.to_string())?;
    let groups: Vec<&str> = groups.groups().iter().map(|g| g.name()).filter(|g| g.contains(name)).collect();
    let options = AdminOptions::new();
    futures::executor::block_on(client.delete_topics(&topics, &options)).map_err(|e| e.to_string())?;
    if !groups.is_empty() {
        futures::executor::block_on(client.delete_groups(&groups, &options)).map_err(|e| e.to_string())?;
    }
    Ok(())
}
