//! The stages below a query, over the same records in one run: read the log, decode two columns, beside a parse that knows no schema.
//!
//! `parse` is sonic-rs making a value of each record; `decode` is what a query of two columns pays to get them. The subtle thing: the
//! records lie in memory before any stage is timed, but for `read` itself.

use std::hint::black_box;
use std::path::Path;

use arrow::array::BinaryArray;
use riverrun::format::{Format, FormatSpec, RecordDecoder, Side, decoder};
use riverrun::topic::{ReadLimit, TopicPartition};
use riverrun::types::{Column, SqlType};

use crate::data::{PARTITIONS, open};
use crate::measure::{Run, Watch};

/// Records that the stages go over.
const RECORDS: i64 = 400_000;
/// How often they do.
const ROUNDS: i64 = 3;

/// Times the stages and prints a line for each.
pub fn run(dir: &Path) -> Result<(), String> {
    let engine = open(dir, Some(1))?;
    let watch = Watch::start();
    let mut batches = Vec::new();
    let mut records = 0;
    for partition in 0..PARTITIONS {
        let at = TopicPartition::new("orders", partition);
        let mut next = 0;
        let until = records + RECORDS / i64::from(PARTITIONS);
        while records < until {
            let fetched = engine.log().read(&at, next, ReadLimit::default()).map_err(|e| e.to_string())?;
            if fetched.batch.is_empty() {
                break;
            }
            records += fetched.batch.len() as i64;
            next = fetched.next;
            batches.push(fetched.batch.values);
        }
    }
    print("read", records, &watch);
    let mut two = decode(&[("CUSTOMER_ID", SqlType::String), ("AMOUNT", SqlType::Double)])?;
    for round in 0..ROUNDS {
        let watch = Watch::start();
        for payload in batches.iter().flatten().flatten() {
            black_box(sonic_rs::from_slice::<sonic_rs::Value>(payload).map_err(|e| e.to_string())?);
        }
        print(&format!("parse {round}"), records, &watch);
        let watch = Watch::start();
        for batch in &batches {
            black_box(two.decode(batch));
        }
        print(&format!("decode {round}"), records, &watch);
    }
    encode(&batches, records)
}

fn print(name: &str, records: i64, watch: &Watch) {
    Run { name, records, spent: watch.spent(), rows_out: 0, answer: "" }.print();
}

fn columns(columns: &[(&str, SqlType)]) -> Vec<Column> {
    columns.iter().map(|(name, ty)| Column::value(*name, ty.clone())).collect()
}

fn decode(wanted: &[(&str, SqlType)]) -> Result<Box<dyn RecordDecoder>, String> {
    let all: Vec<usize> = (0..wanted.len()).collect();
    decoder(&FormatSpec::new(Format::Json), Side::Value, &columns(wanted), &all).map_err(|e| e.to_string())
}

fn encode(batches: &[BinaryArray], records: i64) -> Result<(), String> {
    let wanted = [("ORDER_ID", SqlType::BigInt), ("CUSTOMER_ID", SqlType::String), ("AMOUNT", SqlType::Double)];
    let mut three = decode(&wanted)?;
    let rows: Vec<_> = batches.iter().map(|batch| three.decode(batch).columns).collect();
    let format = FormatSpec::new(Format::Json);
    let mut encoder = riverrun::format::encoder(&format, Side::Value, &columns(&wanted)).map_err(|e| e.to_string())?;
    let watch = Watch::start();
    for (columns, batch) in rows.iter().zip(batches) {
        black_box(encoder.encode(columns, None, arrow::array::Array::len(batch)));
    }
    print("encode", records, &watch);
    Ok(())
}
