//! How fast the embedded log takes and gives records of about 200 bytes, 4 partitions, in blocks of 2,048 and of one.
//!
//! Measures the log alone, no formats. The subtle thing: the disk takes part, so runs differ more than those of pure arithmetic.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::BinaryArray;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use riverrun::clock::SystemClock;
use riverrun::topic::embedded::{EmbeddedLog, LogOptions};
use riverrun::topic::{Append, Cleanup, Commit, Log, ReadLimit, TopicPartition, TopicSpec};

const PARTITIONS: i32 = 4;
const ROWS: usize = 2048;

/// `rows` records of 200 bytes that look like JSON.
fn append(partition: i32, rows: usize) -> Append {
    let value = |n: usize| {
        // Scrambled, so that the bytes pack as those of real orders do.
        let r = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (user, item, cents) = (r >> 44, r >> 50, r % 100_000);
        let order = format!(r#""order_id":{n:08},"user":"user_{user:06}","amount":{cents},"currency":"EUR""#);
        let item = format!(r#""session":"{r:016x}","item":"item-{item:05}","status":"CREATED","qty":{}"#, r % 9);
        format!(r#"{{{order},"country":"DE","ts":17000{:08},{item},"note":"-"}}"#, r >> 40)
    };
    let keys: Vec<String> = (0..rows).map(|n| format!("{n:08}")).collect();
    let values: Vec<String> = (0..rows).map(value).collect();
    Append {
        to: TopicPartition::new("t", partition),
        timestamps: (0..rows as i64).collect::<Vec<_>>().into(),
        keys: BinaryArray::from_iter_values(&keys),
        values: BinaryArray::from_iter_values(&values),
        headers: None,
    }
}

fn open(dir: &tempfile::TempDir) -> Arc<EmbeddedLog> {
    let log =
        EmbeddedLog::open(dir.path(), LogOptions::default(), Arc::new(SystemClock)).expect("a fresh folder opens");
    // Only what is newest stays, so that a long run does not fill the disk.
    let cleanup = Cleanup { retention_bytes: Some(64 << 20), ..Cleanup::default() };
    let spec = TopicSpec { name: "t".into(), partitions: PARTITIONS, replicas: 1, cleanup };
    log.create_topic(&spec).expect("a fresh log has no topics");
    log
}

fn commits(c: &mut Criterion) {
    let mut group = c.benchmark_group("log/commit");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    for rows in [1, ROWS] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let log = open(&dir);
        let outputs: Vec<Append> = (0..PARTITIONS).map(|p| append(p, rows)).collect();
        group.throughput(Throughput::Elements((rows * outputs.len()) as u64));
        let mut count = 0;
        group.bench_function(format!("{rows} records a partition"), |b| {
            b.iter(|| {
                count += 1;
                if count % 256 == 0 && rows > 1 {
                    log.clean(0).expect("cleaning works");
                }
                log.commit(Commit { outputs: outputs.clone(), ..Commit::default() }).expect("the disk has room")
            });
        });
    }
    group.finish();
}

fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("log/read");
    group.sample_size(20);
    for (rows, commits) in [(1, 16_384), (ROWS, 64)] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let log = open(&dir);
        for _ in 0..commits {
            log.commit(Commit { outputs: vec![append(0, rows)], ..Commit::default() }).expect("the disk has room");
        }
        group.throughput(Throughput::Elements((rows * commits) as u64));
        group.bench_function(format!("blocks of {rows}"), |b| b.iter(|| read_all(&log)));
    }
    group.finish();
}

fn read_all(log: &EmbeddedLog) -> usize {
    let at = TopicPartition::new("t", 0);
    let (mut from, mut bytes) = (0, 0);
    loop {
        let fetched = log.read(&at, from, ReadLimit::default()).expect("the log reads");
        bytes += fetched.batch.byte_size();
        from = fetched.next;
        if from >= fetched.end {
            return bytes;
        }
    }
}

criterion_group!(benches, commits, reads);
criterion_main!(benches);
