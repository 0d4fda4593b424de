//! A random case: sources with records, one or two queries over them, and what must be equal afterwards.
//!
//! Runs nothing. The subtle thing is [`Equal`]: rows of several partitions that meet in a new one may come in any order, so there a case has
//! only functions that do not see it, and windows long enough that no row is late in any order.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use riverrun::topic::partitioner::partition_for;

/// What is compared of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Equal {
    /// each partition, record for record
    Records,
    /// each partition, whatever the order
    Bag,
    /// the last record of each key, if it is no tombstone
    LastRows,
    /// the same of a foreign-key join of `t` with `t2`, whose rows may have one of several times
    ForeignKey,
}

/// A record of an input.
#[derive(Clone, Debug)]
pub struct Input {
    pub topic: &'static str,
    pub partition: i32,
    pub key: Option<String>,
    pub value: Option<String>,
    pub at_ms: i64,
}

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    pub kind: &'static str,
    pub partitions: i32,
    pub statements: Vec<String>,
    pub inputs: Vec<Input>,
    /// topics of the sinks
    pub outputs: Vec<(&'static str, Equal)>,
    /// inputs are merged by arrival and may come bit by bit; else by row time, and all of them are there before the first step
    pub by_arrival: bool,
    /// changes between two commits may be left out
    pub coalesce: bool,
    /// windows close when the input is at its end; only where all of it is there from the start
    pub idle_close: bool,
}

type Maker = fn(&mut Draw<'_>);

/// The kinds of queries.
pub const KINDS: &[(&str, Maker)] = &[
    ("filter and project", stateless),
    ("explode", explode),
    ("partition by", partition_by),
    ("aggregate by key", aggregate_by_key),
    ("aggregate by key in windows", windows_by_key),
    ("final windows", final_windows),
    ("aggregate by value", aggregate_by_value),
    ("aggregate by value in windows", windows_by_value),
    ("stream-table join", stream_table_join),
    ("stream-table join of three", stream_tables_join),
    ("table-table join", table_table_join),
    ("stream-stream join", stream_stream_join),
    ("foreign-key join", foreign_key_join),
    ("table filter", table_filter),
    ("aggregate of a table", table_aggregate),
    ("aggregate of a filtered stream", chain_of_stream),
    ("table of an aggregate", chain_of_table),
    ("two inserts", two_inserts),
];

/// A case that is being drawn.
pub struct Draw<'a> {
    pub random: &'a mut StdRng,
    pub case: Case,
}

impl Case {
    pub fn draw(random: &mut StdRng) -> Self {
        let (kind, make) = *KINDS.choose(random).expect("there are kinds");
        let case = Self {
            kind,
            partitions: *[1, 1, 2, 3].choose(random).expect("not empty"),
            statements: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            by_arrival: random.random_bool(0.5),
            coalesce: random.random_bool(0.4),
            idle_close: false,
        };
        let mut draw = Draw { random, case };
        make(&mut draw);
        draw.case
    }
}

impl Draw<'_> {
    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of.choose(self.random).expect("not empty")
    }

    fn chance(&mut self, p: f64) -> bool {
        self.random.random_bool(p)
    }

    fn say(&mut self, statement: String) {
        self.case.statements.push(statement);
    }

    fn output(&mut self, topic: &'static str, equal: Equal) {
        self.case.outputs.push((topic, equal));
    }

    /// How the rows of a table compare whose changes may be coalesced.
    fn table_equal(&self) -> Equal {
        if self.case.coalesce { Equal::LastRows } else { Equal::Records }
    }

    /// The same behind a repartition.
    fn moved_equal(&self) -> Equal {
        if self.is_ordered() { self.table_equal() } else { Equal::LastRows }
    }

    /// Rows come in one order even behind a repartition.
    fn is_ordered(&self) -> bool {
        self.case.partitions == 1
    }

    fn declare(&mut self, sources: &[&'static str]) {
        let partitions = self.case.partitions;
        for source in sources {
            let (kind, key) = if source.starts_with('s') { ("STREAM", "KEY") } else { ("TABLE", "PRIMARY KEY") };
            self.say(format!(
                "CREATE {kind} {source} (k STRING {key}, v INT, w STRING, g BIGINT) \
                 WITH (KAFKA_TOPIC='{source}', VALUE_FORMAT='JSON', PARTITIONS={partitions});"
            ));
        }
        self.records(sources);
    }

    fn records(&mut self, sources: &[&'static str]) {
        let (count, keys) = (self.random.random_range(5..50), self.random.random_range(1..6));
        let mut now_ms = 1_000_000_i64;
        for _ in 0..count {
            now_ms += if self.chance(0.03) { 60_000 } else { self.random.random_range(0..3000) };
            let topic = *sources.choose(self.random).expect("not empty");
            let key = (!self.chance(0.03)).then(|| format!("k{}", self.random.random_range(0..keys)));
            let partition = match &key {
                Some(key) => partition_for(key.as_bytes(), self.case.partitions),
                None => self.random.random_range(0..self.case.partitions),
            };
            let late = if self.chance(0.2) { self.random.random_range(0..20_000) } else { 0 };
            let at_ms = if self.chance(0.01) { -7 } else { now_ms - late };
            let value = self.value();
            self.case.inputs.push(Input { topic, partition, key, value, at_ms });
        }
    }

    fn value(&mut self) -> Option<String> {
        if self.chance(0.08) {
            return None;
        }
        if self.chance(0.03) {
            return Some(self.one(&["{", "x", "[1]", "{\"V\":\"no number\"}"]).to_owned());
        }
        let mut number = |to: i32| {
            if self.random.random_bool(0.1) { "null".to_owned() } else { self.random.random_range(-2..to).to_string() }
        };
        let (v, g) = (number(8), number(3));
        let w = self.one(&["null", "\"a\"", "\"bab\"", "\"\"", "\"a b\"", "\"ccc\""]);
        Some(format!("{{\"V\":{v},\"W\":{w},\"G\":{g}}}"))
    }

    fn predicate(&mut self) -> &'static str {
        self.one(&["v > 2", "w = 'a' OR g < 1", "v IS NOT NULL AND v % 2 = 0", "NOT (v < g)", "LEN(w) BETWEEN 1 AND 2"])
    }

    fn filter(&mut self) -> String {
        if self.chance(0.5) { format!("WHERE {}", self.predicate()) } else { String::new() }
    }

    fn window(&mut self, grace_ms: Option<i64>) -> String {
        let grace = grace_ms.map_or(String::new(), |ms| format!(", GRACE PERIOD {ms} MILLISECONDS"));
        match self.random.random_range(0..3) {
            0 => format!("WINDOW TUMBLING (SIZE 10 SECONDS{grace})"),
            1 => format!("WINDOW HOPPING (SIZE 10 SECONDS, ADVANCE BY 4 SECONDS{grace})"),
            _ => format!("WINDOW SESSION (5 SECONDS{grace})"),
        }
    }

    fn aggregates(&mut self, ordered: bool) -> String {
        const ANY: &[&str] = &[
            "COUNT(*)",
            "COUNT(v)",
            "SUM(v)",
            "AVG(v)",
            "MIN(v)",
            "MAX(w)",
            "COUNT_DISTINCT(w)",
            "TOPK(v, 2)",
            "TOPKDISTINCT(v, 2)",
        ];
        const ORDERED: &[&str] = &[
            "LATEST_BY_OFFSET(v)",
            "EARLIEST_BY_OFFSET(w)",
            "LATEST_BY_OFFSET(v, 2)",
            "COLLECT_LIST(v)",
            "COLLECT_SET(w)",
            "HISTOGRAM(w)",
            "STDDEV_SAMPLE(v)",
        ];
        let of: Vec<&str> = if ordered { [ANY, ORDERED].concat() } else { ANY.to_vec() };
        self.list(&of)
    }

    fn list(&mut self, of: &[&str]) -> String {
        let count = self.random.random_range(1..=3);
        let picked: Vec<String> = (0..count).map(|i| format!("{} AS a{i}", self.one(of))).collect();
        picked.join(", ")
    }
}

const EXPRESSIONS: &[&str] = &[
    "v",
    "w",
    "v + g",
    "10 / v",
    "UCASE(w)",
    "CASE WHEN v > 3 THEN 'big' WHEN v < 0 THEN w ELSE 'small' END",
    "COALESCE(w, 'none')",
    "SUBSTRING(w, 2)",
    "AS_VALUE(k)",
    "CAST(v AS STRING)",
    "ROWTIME",
];

fn stateless(draw: &mut Draw<'_>) {
    draw.declare(&["s"]);
    let (list, filter) = (draw.list(EXPRESSIONS), draw.filter());
    draw.say(format!("CREATE STREAM o WITH (KAFKA_TOPIC='o') AS SELECT k, {list} FROM s {filter};"));
    draw.output("o", Equal::Records);
}

fn explode(draw: &mut Draw<'_>) {
    draw.declare(&["s"]);
    let (of, filter) = (draw.one(&["ARRAY[v, 2, 1]", "SPLIT(w, 'a')"]), draw.filter());
    draw.say(format!("CREATE STREAM o WITH (KAFKA_TOPIC='o') AS SELECT k, EXPLODE({of}) AS e, v FROM s {filter};"));
    draw.output("o", Equal::Records);
}

fn partition_by(draw: &mut Draw<'_>) {
    draw.declare(&["s"]);
    let (by, filter) = (draw.one(&["g", "w", "v"]), draw.filter());
    // rows without key go to any partition
    let filter =
        if filter.is_empty() { format!("WHERE {by} IS NOT NULL") } else { format!("{filter} AND {by} IS NOT NULL") };
    let filter = filter.replace("WHERE w = 'a' OR g < 1 AND", "WHERE (w = 'a' OR g < 1) AND");
    draw.say(format!("CREATE STREAM o WITH (KAFKA_TOPIC='o') AS SELECT * FROM s {filter} PARTITION BY {by};"));
    draw.output("o", if draw.is_ordered() { Equal::Records } else { Equal::Bag });
}

fn aggregate_by_key(draw: &mut Draw<'_>) {
    draw.declare(&["s"]);
    let (list, filter) = (draw.aggregates(true), draw.filter());
    let having = if draw.chance(0.2) { "HAVING COUNT(*) > 2" } else { "" };
    draw.say(format!("CREATE TABLE o WITH (KAFKA_TOPIC='o') AS SELECT k, {list} FROM s {filter} GROUP BY k {having};"));
    draw.output("o", draw.table_equal());
}

fn windows_by_key(draw: &mut Draw<'_>) {
    draw.declare(&["s"]);
    let grace = *[None, Some(0), Some(8000)].choose(draw.random).expect("not empty");
    let (list, filter, window) = (draw.aggregates(true), draw.filter(), draw.window(grace));
    draw.say(format!("CREATE TABLE o WITH (KAFKA_TOPIC='o') AS SELECT k, {list} FROM s {window} {filter} GROUP BY k;"));
    draw.output("o", draw.table_equal());
}

fn final_windows(draw: &mut Draw<'_>) {
    draw.declare(&["s"]);
    draw.case.idle_close = !draw.case.by_arrival && draw.chance(0.5);
    let grace = *[None, Some(0), Some(8000)].choose(draw.random).expect("not empty");
    let (list, window) = (draw.aggregates(true), draw.window(grace));
    draw.say(format!(
        "CREATE TABLE o WITH (KAFKA_TOPIC='o') AS SELECT k, {list} FROM s {window} GROUP BY k EMIT FINAL;"
    ));
    draw.output("o", Equal::Records);
}

fn aggregate_by_value(draw: &mut Draw<'_>) {
    draw.declare(&["s"]);
    let ordered = draw.is_ordered();
    let (list, filter, by) = (draw.aggregates(ordered), draw.filter(), draw.one(&["g", "w", "g, w", "v + g"]));
    let key = if by == "v + g" { "v + g AS sum".to_owned() } else { by.to_owned() };
    draw.say(format!(
        "CREATE TABLE o WITH (KAFKA_TOPIC='o', KEY_FORMAT='JSON') AS SELECT {key}, {list} FROM s {filter} GROUP BY {by};"
    ));
    draw.output("o", draw.moved_equal());
}

fn windows_by_value(draw: &mut Draw<'_>) {
    draw.declare(&["s"]);
    let ordered = draw.is_ordered();
    let (list, filter, window) = (draw.aggregates(ordered), draw.filter(), draw.window(None));
    draw.say(format!("CREATE TABLE o WITH (KAFKA_TOPIC='o') AS SELECT g, {list} FROM s {window} {filter} GROUP BY g;"));
    draw.output("o", draw.moved_equal());
}

fn stream_table_join(draw: &mut Draw<'_>) {
    draw.declare(&["s", "t"]);
    let (kind, filter) = (draw.one(&["JOIN", "LEFT JOIN"]), draw.one(&["", "WHERE s.v > 1", "WHERE t.w IS NOT NULL"]));
    draw.say(format!(
        "CREATE STREAM o WITH (KAFKA_TOPIC='o') AS SELECT s.k, s.v, t.v AS tv, t.w FROM s {kind} t ON s.k = t.k {filter};"
    ));
    draw.output("o", Equal::Records);
}

fn stream_tables_join(draw: &mut Draw<'_>) {
    draw.declare(&["s", "t", "t2"]);
    let (one, two) = (draw.one(&["JOIN", "LEFT JOIN"]), draw.one(&["JOIN", "LEFT JOIN"]));
    draw.say(format!(
        "CREATE STREAM o WITH (KAFKA_TOPIC='o') AS \
         SELECT s.k, s.v, t.v AS tv, t2.w FROM s {one} t ON s.k = t.k {two} t2 ON s.k = t2.k;"
    ));
    draw.output("o", Equal::Records);
}

fn table_table_join(draw: &mut Draw<'_>) {
    draw.declare(&["t", "t2"]);
    let kind = draw.one(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL OUTER JOIN"]);
    let (key, filter) = match kind {
        "FULL OUTER JOIN" => ("ROWKEY", ""),
        "RIGHT JOIN" => ("t2.k", draw.one(&["", "WHERE t.v > 1"])),
        _ => ("t.k", draw.one(&["", "WHERE t.v > 1", "WHERE t2.w IS NULL"])),
    };
    draw.say(format!(
        "CREATE TABLE o WITH (KAFKA_TOPIC='o') AS \
         SELECT {key}, t.v, t2.v AS v2, t2.w FROM t {kind} t2 ON t.k = t2.k {filter};"
    ));
    draw.output("o", draw.table_equal());
}

fn stream_stream_join(draw: &mut Draw<'_>) {
    draw.declare(&["s", "s2"]);
    draw.case.idle_close = !draw.case.by_arrival && draw.chance(0.5);
    let kind = draw.one(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL OUTER JOIN"]);
    let within = draw.one(&["5 SECONDS", "(2 SECONDS, 8 SECONDS)"]);
    let grace = draw.one(&["", "GRACE PERIOD 0 SECONDS", "GRACE PERIOD 8 SECONDS"]);
    let (key, filter) = match kind {
        "FULL OUTER JOIN" => ("ROWKEY", ""),
        "RIGHT JOIN" => ("s2.k", draw.one(&["", "WHERE s2.v > 1"])),
        _ => ("s.k", draw.one(&["", "WHERE s.v > 1"])),
    };
    draw.say(format!(
        "CREATE STREAM o WITH (KAFKA_TOPIC='o') AS SELECT {key}, s.v, s2.v AS v2, s2.w \
         FROM s {kind} s2 WITHIN {within} {grace} ON s.k = s2.k {filter};"
    ));
    draw.output("o", Equal::Records);
}

fn foreign_key_join(draw: &mut Draw<'_>) {
    draw.declare(&["t", "t2"]);
    let kind = draw.one(&["JOIN", "LEFT JOIN"]);
    let filter = draw.one(&["", "WHERE t.v > 1", "WHERE t2.v > 1"]);
    draw.say(format!(
        "CREATE TABLE o WITH (KAFKA_TOPIC='o') AS SELECT t.k, t.v, t2.v AS v2, t2.w \
         FROM t {kind} t2 ON CONCAT('k', CAST(t.g AS STRING)) = t2.k {filter};"
    ));
    // answers of the other side come when they come
    draw.output("o", Equal::ForeignKey);
}

fn table_filter(draw: &mut Draw<'_>) {
    draw.declare(&["t"]);
    let (list, filter) = (draw.list(EXPRESSIONS), draw.filter());
    draw.say(format!("CREATE TABLE o WITH (KAFKA_TOPIC='o') AS SELECT k, {list} FROM t {filter};"));
    draw.output("o", Equal::Records);
}

const UNDOABLE: &[&str] = &["COUNT(*)", "COUNT(v)", "SUM(v)", "AVG(v)"];

fn table_aggregate(draw: &mut Draw<'_>) {
    draw.declare(&["t"]);
    let of =
        if draw.is_ordered() { [UNDOABLE, &["COLLECT_LIST(v)", "HISTOGRAM(w)"]].concat() } else { UNDOABLE.to_vec() };
    let (list, filter, by) = (draw.list(&of), draw.filter(), draw.one(&["g", "w"]));
    draw.say(format!("CREATE TABLE o WITH (KAFKA_TOPIC='o') AS SELECT {by}, {list} FROM t {filter} GROUP BY {by};"));
    draw.output("o", draw.moved_equal());
}

fn chain_of_stream(draw: &mut Draw<'_>) {
    draw.declare(&["s"]);
    let filter = draw.filter();
    draw.say(format!("CREATE STREAM m WITH (KAFKA_TOPIC='m') AS SELECT * FROM s {filter};"));
    draw.output("m", Equal::Records);
    if draw.chance(0.5) {
        let (list, window) = (draw.aggregates(true), draw.window(Some(3000)));
        draw.say(format!("CREATE TABLE o WITH (KAFKA_TOPIC='o') AS SELECT k, {list} FROM m {window} GROUP BY k;"));
        draw.output("o", draw.table_equal());
    } else {
        let ordered = draw.is_ordered();
        let list = draw.aggregates(ordered);
        draw.say(format!("CREATE TABLE o WITH (KAFKA_TOPIC='o') AS SELECT g, {list} FROM m GROUP BY g;"));
        draw.output("o", draw.moved_equal());
    }
}

fn chain_of_table(draw: &mut Draw<'_>) {
    draw.declare(&["s"]);
    let list = draw.one(&["COUNT(*) AS n, SUM(v) AS x", "COUNT(*) AS n, MAX(v) AS x", "COUNT(v) AS n, MIN(v) AS x"]);
    draw.say(format!("CREATE TABLE m WITH (KAFKA_TOPIC='m') AS SELECT k, {list} FROM s GROUP BY k;"));
    draw.output("m", draw.table_equal());
    if draw.chance(0.5) {
        draw.say(
            "CREATE TABLE o WITH (KAFKA_TOPIC='o') AS SELECT k, n + 1 AS n1, x FROM m WHERE n % 3 > 0;".to_owned(),
        );
        draw.output("o", draw.table_equal());
    } else {
        draw.say(
            "CREATE TABLE o WITH (KAFKA_TOPIC='o') AS SELECT n, COUNT(*) AS c, SUM(x) AS sx FROM m GROUP BY n;"
                .to_owned(),
        );
        // a group that came and went between two commits may leave a row of zeros or none
        if !draw.case.coalesce {
            draw.output("o", draw.moved_equal());
        }
    }
}

fn two_inserts(draw: &mut Draw<'_>) {
    draw.declare(&["s", "s2"]);
    let (one, two) = (draw.filter(), draw.filter());
    draw.say(format!("CREATE STREAM o WITH (KAFKA_TOPIC='o') AS SELECT k, v, w FROM s {one};"));
    draw.say(format!("INSERT INTO o SELECT k, v, w FROM s2 {two};"));
    draw.output("o", Equal::Bag);
}
