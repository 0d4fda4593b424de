//! One query, from the earliest offset until all its input is committed, and the check of what it wrote.
//!
//! The statements are users' statements and the engine is opened as users open it. The subtle thing: a table's answer is the last record
//! of each key, for how many changes came before depends on when commits happened.

use std::path::Path;
use std::time::Duration;

use ahash::AHashMap;
use arrow::array::Array;
use riverrun::Engine;
use riverrun::topic::{ReadLimit, TopicPartition};

use crate::data::{Expected, PARTITIONS, expected, open};
use crate::measure::{Run, Watch, status_mb};

/// How often an idle engine's memory is looked at.
const IDLE_SECONDS: u64 = 3;

struct Query {
    name: &'static str,
    statement: &'static str,
    /// topics as large as `orders` that it reads
    inputs: i64,
    check: fn(&Output, &Expected) -> bool,
}

/// COUNT by customer and hour, over many customers and over few.
const TUMBLING: &str = "CREATE TABLE result WITH (KAFKA_TOPIC = 'result') AS
    SELECT customer_key, COUNT(*) AS orders FROM orders
    WINDOW TUMBLING (SIZE 1 HOUR) GROUP BY customer_key EMIT CHANGES;";

const QUERIES: [Query; 9] = [
    Query {
        name: "filter",
        statement: "CREATE STREAM result WITH (KAFKA_TOPIC = 'result') AS
            SELECT customer_key, order_id, customer_id, amount * 1.2 AS gross FROM orders WHERE amount > 250 EMIT CHANGES;",
        inputs: 1,
        check: |output, expected| output.rows == expected.large && near(output.sum("GROSS"), expected.large_gross),
    },
    Query {
        name: "project",
        statement: "CREATE STREAM result WITH (KAFKA_TOPIC = 'result') AS
            SELECT customer_key, order_id, amount FROM orders EMIT CHANGES;",
        inputs: 1,
        check: |output, expected| output.rows == expected.records && near(output.sum("AMOUNT"), expected.revenue),
    },
    Query {
        name: "count",
        statement: "CREATE TABLE result WITH (KAFKA_TOPIC = 'result') AS
            SELECT customer_key, COUNT(*) AS orders, SUM(amount) AS revenue FROM orders
            WINDOW TUMBLING (SIZE 1 MINUTE, GRACE PERIOD 10 SECONDS) GROUP BY customer_key EMIT CHANGES;",
        inputs: 1,
        check: counts_all,
    },
    Query {
        name: "tumbling",
        statement: TUMBLING,
        inputs: 1,
        check: |output, expected| output.last("ORDERS") as i64 == expected.records,
    },
    Query {
        name: "tumbling_few",
        statement: TUMBLING,
        inputs: 1,
        check: |output, expected| output.last("ORDERS") as i64 == expected.records,
    },
    Query {
        name: "regroup",
        statement: "CREATE TABLE result WITH (KAFKA_TOPIC = 'result') AS
            SELECT product_id, COUNT(*) AS orders, SUM(amount) AS revenue FROM orders GROUP BY product_id EMIT CHANGES;",
        inputs: 1,
        check: counts_all,
    },
    Query {
        name: "join",
        statement: "CREATE STREAM result WITH (KAFKA_TOPIC = 'result') AS
            SELECT o.customer_key, o.order_id, o.amount, c.name, c.tier FROM orders o
            JOIN customers c ON o.customer_key = c.customer_key EMIT CHANGES;",
        inputs: 1,
        check: |output, expected| output.rows == expected.records && near(output.sum("AMOUNT"), expected.revenue),
    },
    Query {
        name: "session",
        statement: "CREATE TABLE result WITH (KAFKA_TOPIC = 'result') AS
            SELECT customer_key, COUNT(*) AS orders, SUM(amount) AS revenue FROM orders
            WINDOW SESSION (2 SECONDS, GRACE PERIOD 10 SECONDS) GROUP BY customer_key EMIT CHANGES;",
        inputs: 1,
        check: counts_all,
    },
    Query {
        name: "ssjoin",
        statement: "CREATE STREAM result WITH (KAFKA_TOPIC = 'result') AS
            SELECT o.customer_key, o.order_id, p.payment_id, p.method FROM orders o
            JOIN payments p WITHIN 1 SECOND GRACE PERIOD 10 SECONDS ON o.customer_key = p.customer_key EMIT CHANGES;",
        inputs: 2,
        check: |output, expected| output.rows == expected.pairs,
    },
];

fn counts_all(output: &Output, expected: &Expected) -> bool {
    output.last("ORDERS") as i64 == expected.records && near(output.last("REVENUE"), expected.revenue)
}

/// Equal but for the order in which doubles were added.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= b.abs() * 1e-9
}

/// Runs the query of that name and prints its line.
pub fn run(name: &str, dir: &Path, workers: Option<usize>) -> Result<(), String> {
    let names = || QUERIES.map(|q| q.name).join(", ");
    let query = QUERIES.iter().find(|q| q.name == name).ok_or_else(|| format!("no query '{name}'; use {}", names()))?;
    let expected = expected(dir)?;
    let engine = open(dir, workers)?;
    let mut session = engine.session();
    let watch = Watch::start();
    session.execute(query.statement).map_err(|e| e.diagnostic.to_string())?;
    engine.wait_idle(None).map_err(|e| e.to_string())?;
    let spent = watch.spent();
    let output = Output::read(&engine)?;
    let right = (query.check)(&output, &expected);
    let answer = if right { "right" } else { "WRONG" };
    Run { name, records: query.inputs * expected.records, spent, rows_out: output.rows, answer }.print();
    let drop = if query.statement.starts_with("CREATE TABLE") { "TABLE" } else { "STREAM" };
    session
        .execute(&format!("TERMINATE ALL; DROP {drop} result DELETE TOPIC;"))
        .map_err(|e| e.diagnostic.to_string())?;
    engine.close().map_err(|e| e.to_string())?;
    if right { Ok(()) } else { Err(format!("the answer of {name} is wrong")) }
}

/// Memory of an engine that has its data open and nothing to do.
pub fn idle(dir: &Path, workers: Option<usize>) -> Result<(), String> {
    let engine = open(dir, workers)?;
    std::thread::park_timeout(Duration::from_secs(IDLE_SECONDS));
    println!("idle         resident {} MB, peak {} MB", status_mb("VmRSS:"), status_mb("VmHWM:"));
    engine.close().map_err(|e| e.to_string())
}

/// What a query wrote: all values in order, the place of each key's last one.
struct Output {
    rows: i64,
    values: Vec<Vec<u8>>,
    last: AHashMap<Vec<u8>, usize>,
}

impl Output {
    fn read(engine: &Engine) -> Result<Self, String> {
        let mut output = Self { rows: 0, values: Vec::new(), last: AHashMap::new() };
        for partition in 0..PARTITIONS {
            let at = TopicPartition::new("result", partition);
            let mut next = 0;
            loop {
                let fetched = engine.log().read(&at, next, ReadLimit::default()).map_err(|e| e.to_string())?;
                let batch = &fetched.batch;
                for row in 0..batch.len() {
                    output.rows += 1;
                    let key = if batch.keys.is_null(row) { Vec::new() } else { batch.keys.value(row).to_vec() };
                    if batch.values.is_null(row) {
                        output.last.remove(&key);
                        continue;
                    }
                    output.last.insert(key, output.values.len());
                    output.values.push(batch.values.value(row).to_vec());
                }
                next = fetched.next;
                if next >= fetched.end {
                    break;
                }
            }
        }
        Ok(output)
    }

    /// The sum of a field over all records.
    fn sum(&self, field: &str) -> f64 {
        self.values.iter().map(|value| number(value, field)).sum()
    }

    /// The sum of a field over the last records of all keys.
    fn last(&self, field: &str) -> f64 {
        self.last.values().map(|&place| number(&self.values[place], field)).sum()
    }
}

/// A number in a record; NaN, which equals no answer, where there is none.
fn number(value: &[u8], field: &str) -> f64 {
    let found = sonic_rs::get(value, [field]).ok();
    found.and_then(|number| number.as_raw_str().parse().ok()).unwrap_or(f64::NAN)
}
