//! What decoding and encoding cost per record, on one core: JSON against a schema-blind parse of the same bytes.
//!
//! Register as `[[bench]] name = "format", harness = false`. The number to look at is a ratio: `decode 2 of 10` and
//! `decode all 10` against `sonic-rs value`, in the same run on the same machine.

use std::hint::black_box;

use arrow::array::BinaryArray;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use riverrun::format::{Format, FormatSpec, Side, decoder, encoder};
use riverrun::types::{Column, SqlType};

const RECORDS: usize = 4096;

/// Orders of about 200 bytes of JSON.
fn orders(spaced: bool) -> BinaryArray {
    let regions = ["north", "south", "east", "west-coast"];
    let statuses = ["NEW", "PAID", "SHIPPED", "RETURNED"];
    let mut seed = 7_u64;
    let mut next = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % n
    };
    let record = |i: usize| {
        let text = format!(
            "{{\"order_id\":{},\"customer_id\":\"c{}\",\"product_id\":\"p-{}\",\"region\":\"{}\",\"status\":\"{}\",\"quantity\":{},\
             \"amount\":{}.{},\"discount\":0.{},\"ordered_at\":{},\"note\":\"leave at the {} door\"}}",
            100_000 + i,
            next(100_000),
            next(5000),
            regions[next(4) as usize],
            statuses[next(4) as usize],
            next(9) + 1,
            next(500),
            next(90) + 10,
            next(5) + 1,
            1_700_000_000_000 + next(86_400_000),
            ["front", "back", "garage"][next(3) as usize],
        );
        if spaced { text.replace("\":", "\": ").replace(",\"", ", \"") } else { text }
    };
    let records: Vec<_> = (0..RECORDS).map(record).collect();
    BinaryArray::from_iter_values(records)
}

fn columns() -> Vec<Column> {
    [
        ("ORDER_ID", SqlType::BigInt),
        ("CUSTOMER_ID", SqlType::String),
        ("PRODUCT_ID", SqlType::String),
        ("REGION", SqlType::String),
        ("STATUS", SqlType::String),
        ("QUANTITY", SqlType::Int),
        ("AMOUNT", SqlType::Double),
        ("DISCOUNT", SqlType::Double),
        ("ORDERED_AT", SqlType::BigInt),
        ("NOTE", SqlType::String),
    ]
    .map(|(name, ty)| Column::value(name, ty))
    .to_vec()
}

fn json_decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("json decode");
    let payloads = orders(false);
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("sonic-rs value", |b| {
        b.iter(|| {
            for payload in payloads.iter().flatten() {
                black_box(sonic_rs::from_slice::<sonic_rs::Value>(payload).expect("valid JSON"));
            }
        });
    });
    group.bench_function("sonic-rs get_many 2 of 10", |b| {
        let mut tree = sonic_rs::PointerTree::new();
        tree.add_path(["customer_id"].iter());
        tree.add_path(["amount"].iter());
        b.iter(|| {
            for payload in payloads.iter().flatten() {
                black_box(sonic_rs::get_many(payload, &tree).expect("valid JSON"));
            }
        });
    });
    let all: Vec<usize> = (0..10).collect();
    for (name, wanted, spaced) in [
        ("decode 0 of 10", &[][..], false),
        ("decode 2 of 10", &[1, 6], false),
        ("decode 2 of 10, spaced", &[1, 6], true),
        ("decode all 10", &all, false),
    ] {
        let payloads = orders(spaced);
        let mut decoder =
            decoder(&FormatSpec::new(Format::Json), Side::Value, &columns(), wanted).expect("JSON holds all");
        assert!(decoder.decode(&payloads).failures.is_empty());
        group.bench_function(name, |b| b.iter(|| black_box(decoder.decode(&payloads))));
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(RECORDS as u64));
    let payloads = orders(false);
    let all: Vec<usize> = (0..10).collect();
    for (name, format, wanted) in [
        ("json, 2 columns", Format::Json, &[1, 5][..]),
        ("json, 2 columns with a double", Format::Json, &[1, 6]),
        ("json, 10 columns", Format::Json, &all),
        ("delimited, 10 columns", Format::Delimited, &all),
    ] {
        let json = FormatSpec::new(Format::Json);
        let rows = decoder(&json, Side::Value, &columns(), wanted).expect("JSON holds all").decode(&payloads).columns;
        let wanted: Vec<_> = wanted.iter().map(|&i| columns()[i].clone()).collect();
        let mut encoder = encoder(&FormatSpec::new(format), Side::Value, &wanted).expect("the format holds all");
        group.bench_function(name, |b| b.iter(|| black_box(encoder.encode(&rows, None, RECORDS))));
    }
    group.finish();
}

fn delimited_decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("delimited decode");
    group.throughput(Throughput::Elements(RECORDS as u64));
    let all: Vec<usize> = (0..10).collect();
    let rows = decoder(&FormatSpec::new(Format::Json), Side::Value, &columns(), &all)
        .expect("JSON holds all")
        .decode(&orders(false))
        .columns;
    let spec = FormatSpec::new(Format::Delimited);
    let payloads =
        encoder(&spec, Side::Value, &columns()).expect("all are primitive").encode(&rows, None, RECORDS).payloads;
    for (name, wanted) in [("2 of 10", &[1, 6][..]), ("all 10", &all)] {
        let mut decoder = decoder(&spec, Side::Value, &columns(), wanted).expect("all are primitive");
        group.bench_function(name, |b| b.iter(|| black_box(decoder.decode(&payloads))));
    }
    group.finish();
}

criterion_group!(benches, json_decode, encode, delimited_decode);
criterion_main!(benches);
