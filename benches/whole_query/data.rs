//! The data: orders of about 220 bytes, payments, customers, in 4 partitions by customer, and what the queries must answer.
//!
//! Ten orders a millisecond, each with its payment 200 ms later; everything comes from one seed. The subtle thing: the records are
//! committed to the log as a producer with full batches would, before any query runs.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::BinaryArray;
use riverrun::topic::partitioner::partition_for;
use riverrun::topic::{Append, Commit, Log, TopicPartition};
use riverrun::{Engine, EngineConfig};
use serde::{Deserialize, Serialize};

/// Partitions of each topic.
pub const PARTITIONS: i32 = 4;
/// The first order's time, ms.
const START_MS: i64 = 1_700_000_040_000;
/// Orders in a commit of the producer.
const ORDERS_AT_ONCE: i64 = 32_768;
const PRODUCTS: u64 = 10_000;
/// How long before or after it an order finds payments of its customer, ms.
const PAIR_MS: i64 = 1000;
/// A payment comes so long after its order, ms.
const PAYMENT_AFTER_MS: i64 = 200;

const SOURCES: &str = "
    CREATE STREAM orders (customer_key STRING KEY, order_id BIGINT, customer_id STRING, product_id STRING, region STRING, status STRING,
        quantity INT, amount DOUBLE, discount DOUBLE, ordered_at BIGINT, note STRING)
        WITH (KAFKA_TOPIC = 'orders', PARTITIONS = 4, KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON');
    CREATE STREAM payments (customer_key STRING KEY, payment_id BIGINT, order_id BIGINT, method STRING, paid DOUBLE)
        WITH (KAFKA_TOPIC = 'payments', PARTITIONS = 4, KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON');
    CREATE TABLE customers (customer_key STRING PRIMARY KEY, name STRING, tier STRING, country STRING)
        WITH (KAFKA_TOPIC = 'customers', PARTITIONS = 4, KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON');";

/// What the queries must answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Expected {
    /// orders, and as many payments
    pub records: i64,
    /// customers
    pub customers: i64,
    /// orders above 250
    pub large: i64,
    /// the sum of their amounts times 1.2
    pub large_gross: f64,
    /// the sum of all amounts
    pub revenue: f64,
    /// pairs of order and payment of one customer at most 1 s apart
    pub pairs: i64,
}

/// True if the data are there.
pub fn is_loaded(dir: &Path) -> bool {
    expected(dir).is_ok()
}

/// What the queries must answer on the data in `dir`.
pub fn expected(dir: &Path) -> Result<Expected, String> {
    let text = fs::read_to_string(dir.join("expected.json")).map_err(|e| e.to_string())?;
    serde_json::from_str(&text).map_err(|e| e.to_string())
}

/// Opens the engine on the data.
pub fn open(dir: &Path, workers: Option<usize>) -> Result<Engine, String> {
    let config = EngineConfig { data_dir: Some(dir.join("log")), workers, ..EngineConfig::default() };
    Engine::open(config).map_err(|e| e.to_string())
}

/// Makes the data.
pub fn load(dir: &Path, records: i64, customers: i64) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let engine = open(dir, Some(1))?;
    engine.session().execute(SOURCES).map_err(|e| e.diagnostic.to_string())?;
    let log = engine.log();
    let mut topic = Topic::new("customers");
    for customer in 0..customers {
        let tier = ["gold", "silver", "bronze"][customer as usize % 3];
        let value = format!(r#"{{"name":"Customer {customer}","tier":"{tier}","country":"DE"}}"#);
        topic.add(&format!("C{customer:07}"), value, START_MS - 1000);
    }
    commit(log, [&mut topic])?;
    let mut expected = Expected { customers, ..Expected::default() };
    let mut shop = Shop { seed: 7, recent: HashMap::new(), customers };
    let (mut orders, mut payments) = (Topic::new("orders"), Topic::new("payments"));
    while expected.records < records {
        let until = (expected.records + ORDERS_AT_ONCE).min(records);
        while expected.records < until {
            shop.order(&mut orders, &mut payments, &mut expected);
        }
        commit(log, [&mut orders, &mut payments])?;
    }
    engine.close().map_err(|e| e.to_string())?;
    let text = serde_json::to_string(&expected).map_err(|e| e.to_string())?;
    fs::write(dir.join("expected.json"), text).map_err(|e| e.to_string())
}

struct Shop {
    seed: u64,
    /// the last order times of each customer
    recent: HashMap<u64, VecDeque<i64>>,
    customers: i64,
}

impl Shop {
    /// A number below `n`.
    fn pick(&mut self, n: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.seed >> 33) % n
    }

    fn order(&mut self, orders: &mut Topic, payments: &mut Topic, expected: &mut Expected) {
        let id = expected.records;
        let time = START_MS + id / 10;
        let (customer, product) = (self.pick(self.customers as u64), self.pick(PRODUCTS));
        let amount = (100 + self.pick(49_900)) as f64 / 100.0;
        expected.records += 1;
        expected.revenue += amount;
        if amount > 250.0 {
            expected.large += 1;
            expected.large_gross += amount * 1.2;
        }
        expected.pairs += self.pairs(customer, time);
        let region = ["eu-west-1", "us-east-1", "ap-south-1"][id as usize % 3];
        let status = ["placed", "paid", "shipped", "returned"][id as usize % 4];
        let key = format!("C{customer:07}");
        let order = format!(
            "{{\"order_id\":{id},\"customer_id\":\"{key}\",\"product_id\":\"P{product:05}\",\"region\":\"{region}\",\"status\":\"{status}\",\
             \"quantity\":{},\"amount\":{amount},\"discount\":0.05,\"ordered_at\":{time},\"note\":\"leave it with a neighbour please\"}}",
            1 + id % 9
        );
        orders.add(&key, order, time);
        let payment = format!(r#"{{"payment_id":{id},"order_id":{id},"method":"card","paid":{amount}}}"#);
        payments.add(&key, payment, time + PAYMENT_AFTER_MS);
    }

    /// Pairs that an order at `time` and its payment make with each other and with earlier ones of the customer.
    fn pairs(&mut self, customer: u64, time: i64) -> i64 {
        let recent = self.recent.entry(customer).or_default();
        while recent.front().is_some_and(|&before| time - before > PAIR_MS + PAYMENT_AFTER_MS) {
            recent.pop_front();
        }
        let with_order = recent.iter().filter(|&&before| (time - before - PAYMENT_AFTER_MS).abs() <= PAIR_MS).count();
        let with_payment = recent.iter().filter(|&&before| time + PAYMENT_AFTER_MS - before <= PAIR_MS).count();
        recent.push_back(time);
        (1 + with_order + with_payment) as i64
    }
}

/// Records of one topic that wait for a commit, by partition.
struct Topic {
    name: &'static str,
    partitions: Vec<Records>,
}

#[derive(Default)]
struct Records {
    timestamps: Vec<i64>,
    keys: Vec<String>,
    values: Vec<String>,
}

impl Topic {
    fn new(name: &'static str) -> Self {
        Self { name, partitions: (0..PARTITIONS).map(|_| Records::default()).collect() }
    }

    fn add(&mut self, key: &str, value: String, time: i64) {
        let records = &mut self.partitions[partition_for(key.as_bytes(), PARTITIONS) as usize];
        records.timestamps.push(time);
        records.keys.push(key.to_owned());
        records.values.push(value);
    }

    fn take(&mut self) -> Vec<Append> {
        let filled = self.partitions.iter_mut().zip(0..).filter(|(records, _)| !records.keys.is_empty());
        filled
            .map(|(records, partition)| {
                let Records { timestamps, keys, values } = std::mem::take(records);
                Append {
                    to: TopicPartition::new(self.name, partition),
                    timestamps: timestamps.into(),
                    keys: BinaryArray::from_iter_values(&keys),
                    values: BinaryArray::from_iter_values(&values),
                    headers: None,
                }
            })
            .collect()
    }
}

fn commit<const N: usize>(log: &Arc<dyn Log>, topics: [&mut Topic; N]) -> Result<(), String> {
    let outputs = topics.into_iter().flat_map(Topic::take).collect();
    log.commit(Commit { outputs, ..Commit::default() }).map(|_| ()).map_err(|e| e.to_string())
}
