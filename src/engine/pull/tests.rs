//! Lookups visit what they name and no more; random pull queries give what DataFusion's SQL gives over the same rows.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};

use super::table::VISITED;
use super::{bound, plan, run};
use crate::analyzer::AnalysisContext;
use crate::config::Config;
use crate::engine::outcome::NextRows;
use crate::engine::{Engine, EngineConfig, Session, settings};
use crate::sql::ast::Statement;

fn engine(texts: &[String]) -> (Engine, Session) {
    let engine = Engine::open(EngineConfig { workers: Some(1), ..EngineConfig::default() }).unwrap();
    let mut session = engine.session();
    for text in texts {
        session.execute(text).unwrap_or_else(|e| panic!("{text}: {}", e.diagnostic));
    }
    assert!(engine.runtime().wait_idle(&|_| true, Duration::from_secs(60)), "the tables are written");
    (engine, session)
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
    (0..batch.num_rows())
        .map(|row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(" | "))
        .collect()
}

/// The rows of a query, as text.
fn pulled(session: &mut Session, text: &str) -> Result<Vec<String>, String> {
    let mut rows = session.query(text).map_err(|e| e.diagnostic.to_string())?;
    let mut found = Vec::new();
    loop {
        match rows.source.next(Duration::from_secs(10)) {
            NextRows::Batch { batch, .. } => found.extend(lines(&batch)),
            NextRows::Idle => {}
            NextRows::Done(_) => return Ok(found),
            NextRows::Failed(error) => return Err(error.to_string()),
        }
    }
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

/// Rows that a query gives, and entries of stores that it visits for them.
fn visited(engine: &Engine, text: &str) -> (usize, usize) {
    let config = Config::new(&Default::default()).unwrap();
    let analysis = settings::analysis(&config).unwrap();
    let catalog = engine.catalog();
    let ctx = AnalysisContext { catalog: &catalog, registry: engine.registry(), settings: &analysis };
    let Statement::Query(query) = crate::sql::parse_statement(text).unwrap() else { panic!("{text} is a query") };
    let bound = bound(&query, &ctx, &config).unwrap();
    let optimized = plan::optimized(bound.plan).unwrap();
    let provided = plan::provide(optimized, &bound.reads, &ctx, &config, engine).unwrap();
    let session = run::session(&config).unwrap();
    let physical = run::physical(&provided, &session).unwrap();
    let context = session.task_ctx();
    let all = datafusion::physical_plan::execute_stream(physical.clone(), context).unwrap();
    let batches = futures::executor::block_on(all.collect::<Vec<_>>());
    let rows = batches.into_iter().map(|b| b.unwrap().num_rows()).sum();
    (rows, entries(physical.as_ref()))
}

fn entries(plan: &dyn ExecutionPlan) -> usize {
    let own = plan.metrics().and_then(|m| m.sum_by_name(VISITED)).map_or(0, |m| m.as_usize());
    own + plan.children().iter().map(|child| entries(child.as_ref())).sum::<usize>()
}

fn numbers() -> Vec<String> {
    let mut texts = vec![
        "CREATE STREAM s (id INT KEY, g STRING, ts BIGINT) WITH (kafka_topic = 's', value_format = 'JSON', timestamp = 'ts', partitions = 2);".to_owned(),
        "CREATE TABLE by_id AS SELECT id, COUNT(*) AS n FROM s GROUP BY id;".to_owned(),
        "CREATE TABLE by_g WITH (key_format = 'JSON') AS SELECT g, id, COUNT(*) AS n FROM s GROUP BY g, id;".to_owned(),
        "CREATE TABLE w AS SELECT id, COUNT(*) AS n FROM s WINDOW TUMBLING (SIZE 1 SECOND) GROUP BY id;".to_owned(),
    ];
    for block in 0..10 {
        let rows: Vec<_> = (0..100)
            .map(|i| {
                let n = block * 100 + i;
                format!("({}, 'g{:02}', {})", n % 500, n % 20, n * 10)
            })
            .collect();
        texts.push(format!("INSERT INTO s (id, g, ts) VALUES {};", rows.join(", ")));
    }
    texts
}

#[test]
fn lookups_and_ranges_visit_what_they_name() {
    let (engine, _) = engine(&numbers());
    let partitions = 2;
    // (query, rows, entries visited at most)
    let cases = [
        ("SELECT * FROM by_id WHERE id = 7;", 1, 1),
        ("SELECT * FROM by_id WHERE 7 = id AND n > 1;", 1, 1),
        ("SELECT * FROM by_id WHERE id = 7 OR id = 9 OR id = 100000;", 2, 2),
        ("SELECT * FROM by_id WHERE id IN (1, 2, 3, 2);", 3, 3),
        ("SELECT * FROM by_id WHERE id = 7 AND id = 8;", 0, 0),
        ("SELECT * FROM by_id WHERE id >= 10 AND id < 20;", 10, 10),
        ("SELECT * FROM by_id WHERE id BETWEEN 10 AND 19;", 10, 10),
        ("SELECT * FROM by_id WHERE id > 497;", 2, 2),
        ("SELECT * FROM by_id WHERE id > CAST(497 AS BIGINT);", 2, 2),
        ("SELECT * FROM by_id WHERE id < 3000000000 AND id <= 1;", 2, 2),
        ("SELECT * FROM by_g WHERE g = 'g03' AND id = 3;", 1, 1),
        ("SELECT * FROM by_g WHERE g = 'g03';", 25, 25),
        ("SELECT * FROM by_g WHERE g = 'g03' AND id > 400;", 5, 5),
        ("SELECT * FROM by_g WHERE g >= 'g18';", 50, 50),
        ("SELECT * FROM by_g WHERE (g = 'g03' AND id = 3) OR (g = 'g04' AND id = 4);", 2, 2),
        ("SELECT * FROM w WHERE id = 7;", 2, 2),
        ("SELECT * FROM w WHERE id = 7 AND WINDOWSTART >= 1000;", 1, 1),
        ("SELECT * FROM w WHERE id = 7 AND WINDOWSTART = 0;", 1, 1),
        ("SELECT * FROM w WHERE id IN (7, 8) AND WINDOWSTART < 1000 AND WINDOWEND <= 1000;", 2, 2),
        ("SELECT a.n FROM by_id a JOIN by_id b ON a.id = b.id WHERE a.id = 7 AND b.id = 7;", 1, 2),
        ("SELECT n FROM (SELECT id, n FROM by_id) q WHERE id = 7;", 1, 1),
        ("WITH q AS (SELECT * FROM by_id) SELECT n FROM q WHERE id = 7;", 1, 1),
    ];
    for (text, rows, most) in cases {
        let (found, visited) = visited(&engine, text);
        assert_eq!(found, rows, "{text}");
        assert!(visited <= most, "{text} visits {visited} entries");
    }
    // the counter counts
    let (_, scanned) = visited(&engine, "SELECT * FROM by_id WHERE n = 2;");
    assert_eq!(scanned, 500);
    let (_, windows) = visited(&engine, "SELECT * FROM w WHERE WINDOWSTART = 0;");
    assert_eq!(windows, 1000, "windows alone are no key");
    // a first page a partition at most
    let (found, stopped) = visited(&engine, "SELECT * FROM by_id LIMIT 1;");
    assert_eq!(found, 1);
    assert!(stopped <= partitions * 256 && stopped < 500, "LIMIT stops the read, at {stopped}");
}

/// Tables of the oracle test: a row is (key, group, number, text).
type TableRow = (i32, Option<i32>, Option<i64>, Option<String>);

fn table_rows() -> impl Strategy<Value = Vec<TableRow>> {
    let text = prop_oneof![Just(None), "[a-c]{0,2}".prop_map(Some)];
    let row = (proptest::option::of(0..4), proptest::option::of(-5i64..20), text);
    prop::collection::vec(row, 0..25)
        .prop_map(|rows| rows.into_iter().enumerate().map(|(i, (g, n, t))| (i as i32, g, n, t)).collect())
}

fn batch(rows: &[TableRow]) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("K", DataType::Int32, true),
        Field::new("G", DataType::Int32, true),
        Field::new("N", DataType::Int64, true),
        Field::new("T", DataType::Utf8, true),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(rows.iter().map(|r| r.1).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|r| r.2).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.3.as_deref()).collect::<StringArray>()),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn statements(name: &str, rows: &[TableRow]) -> Vec<String> {
    let or_null = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
    let values: Vec<_> = rows
        .iter()
        .map(|(k, g, n, t)| {
            let text = or_null(t.as_ref().map(|t| format!("'{t}'")));
            format!("({k}, {}, {}, {text})", or_null(g.map(|g| g.to_string())), or_null(n.map(|n| n.to_string())))
        })
        .collect();
    let mut texts = vec![
        format!(
            "CREATE TABLE in_{name} (k INT PRIMARY KEY, g INT, n BIGINT, t STRING) WITH (kafka_topic = 'in_{name}', value_format = 'JSON', partitions = 2);"
        ),
        format!("CREATE TABLE {name} AS SELECT * FROM in_{name};"),
    ];
    if !values.is_empty() {
        texts.push(format!("INSERT INTO in_{name} VALUES {};", values.join(", ")));
    }
    texts
}

/// A condition over an alias, which both dialects understand alike (none is ever negated: NULL differs there).
fn condition(alias: &'static str) -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (0..30).prop_map(move |v| format!("{alias}.k = {v}")),
        (0..30, 0..30).prop_map(move |(a, b)| format!("{alias}.k IN ({a}, {b})")),
        (0..30).prop_map(move |v| format!("{alias}.k > {v}")),
        (0..20, 0..10).prop_map(move |(a, b)| format!("{alias}.k BETWEEN {a} AND {}", a + b)),
        (-5..20).prop_map(move |v| format!("{alias}.n < {v}")),
        (0..4).prop_map(move |v| format!("{alias}.g <> {v}")),
        Just(format!("{alias}.g IS NULL")),
        Just(format!("{alias}.t IS NOT NULL")),
        "[a-c]".prop_map(move |v| format!("{alias}.t >= '{v}'")),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(|all| format!("({})", all.join(" AND "))),
            prop::collection::vec(inner, 2..4).prop_map(|all| format!("({})", all.join(" OR "))),
        ]
    })
}

/// A query, ours and DataFusion's; whether it says an order.
fn query() -> impl Strategy<Value = (String, bool)> {
    let kind = prop_oneof![Just("JOIN"), Just("LEFT JOIN"), Just("RIGHT JOIN"), Just("FULL JOIN")];
    let on = prop_oneof![
        Just("x.k = y.k".to_owned()),
        Just("x.g = y.g".to_owned()),
        Just("x.g = y.g AND x.n < y.n".to_owned()),
        Just("x.n > y.n".to_owned()),
    ];
    let plain = condition("x").prop_map(|c| (format!("SELECT x.k, x.n + 1 AS m, x.t FROM a x WHERE {c}"), false));
    let ordered = (condition("x"), 0..10, 0..5).prop_map(|(c, limit, skip)| {
        let text = format!("SELECT x.k, x.n FROM a x WHERE {c} ORDER BY x.n DESC, x.k LIMIT {limit} OFFSET {skip}");
        (text, true)
    });
    let joined = (kind, on, condition("x")).prop_map(|(kind, on, c)| {
        (format!("SELECT x.k AS xk, y.k AS yk, x.n AS xn, y.t AS yt FROM a x {kind} b y ON {on} WHERE {c}"), false)
    });
    let grouped = (condition("x"), 0i64..3).prop_map(|(c, least)| {
        let list = "x.g, COUNT(*) AS c, COUNT(x.n) AS cn, MIN(x.n) AS lo, MAX(x.t) AS hi";
        (format!("SELECT {list} FROM a x WHERE {c} GROUP BY x.g HAVING COUNT(*) > {least}"), false)
    });
    let whole =
        condition("x").prop_map(|c| (format!("SELECT COUNT(*) AS c, MAX(x.n) AS hi FROM a x WHERE {c}"), false));
    let distinct = condition("x").prop_map(|c| (format!("SELECT DISTINCT x.g, x.t FROM a x WHERE {c}"), false));
    let both = (condition("x"), condition("y"), any::<bool>()).prop_map(|(c, d, all)| {
        let all = if all { "ALL" } else { "" };
        (format!("SELECT x.g AS v FROM a x WHERE {c} UNION {all} SELECT y.g AS v FROM b y WHERE {d}"), false)
    });
    let nested = (condition("x"), condition("q")).prop_map(|(c, d)| {
        let inner = format!("SELECT x.k, x.g, x.n, x.t FROM a x WHERE {c}");
        (
            format!("WITH w AS ({inner}) SELECT q.g, COUNT(*) AS c FROM (SELECT * FROM w) q WHERE {d} GROUP BY q.g"),
            false,
        )
    });
    let itself = condition("x").prop_map(|c| {
        (format!("SELECT x.k AS xk, z.k AS zk FROM a x JOIN a y ON x.g = y.g JOIN a z ON y.n = z.n WHERE {c}"), false)
    });
    prop_oneof![plain, ordered, joined, grouped, whole, distinct, both, nested, itself]
}

#[test]
fn random_queries_give_what_sql_gives() {
    let mut runner = TestRunner::new(Cases { cases: 12, failure_persistence: None, ..Cases::default() });
    let tables = (table_rows(), table_rows(), prop::collection::vec(query(), 40));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runner
        .run(&tables, |(a, b, queries)| {
            let texts: Vec<String> = [statements("a", &a), statements("b", &b)].concat();
            let (_engine, mut session) = engine(&texts);
            let oracle = SessionContext::new();
            oracle.register_batch("a", batch(&a)).unwrap();
            oracle.register_batch("b", batch(&b)).unwrap();
            for (text, is_ordered) in &queries {
                // DataFusion folds names down, these columns are upper case
                let quoted = quoted(text);
                let wanted = runtime.block_on(async { oracle.sql(&quoted).await.unwrap().collect().await.unwrap() });
                let wanted: Vec<String> = wanted.iter().flat_map(lines).collect();
                let found = pulled(&mut session, text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
                if *is_ordered {
                    prop_assert_eq!(&found, &wanted, "{}", text);
                } else {
                    prop_assert_eq!(sorted(found), sorted(wanted), "{}", text);
                }
            }
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
}

/// The query with the tables' columns quoted in upper case, as the oracle has them.
fn quoted(text: &str) -> String {
    let mut out = text.to_owned();
    for alias in ["x", "y", "z", "q"] {
        for column in ["k", "g", "n", "t"] {
            out = replace_word(&out, &format!("{alias}.{column}"), &format!("{alias}.\"{}\"", column.to_uppercase()));
        }
    }
    out
}

fn replace_word(text: &str, from: &str, to: &str) -> String {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"');
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let (before, after) = (&rest[..at], &rest[at + from.len()..]);
        out.push_str(before);
        let whole = !is_word(before.chars().next_back()) && !is_word(after.chars().next());
        out.push_str(if whole { to } else { from });
        rest = after;
    }
    out + rest
}

#[test]
fn a_query_that_needs_too_much_memory_names_the_limit() {
    let properties = [("query.memory.bytes".to_owned(), "64 KiB".to_owned())];
    let config = EngineConfig { workers: Some(1), properties: properties.into(), ..EngineConfig::default() };
    let engine = Engine::open(config).unwrap();
    let mut session = engine.session();
    for text in numbers() {
        session.execute(&text).unwrap_or_else(|e| panic!("{text}: {}", e.diagnostic));
    }
    assert!(engine.runtime().wait_idle(&|_| true, Duration::from_secs(60)));
    let error = pulled(&mut session, "SELECT COLLECT_LIST(a.id) AS ids FROM by_id a JOIN by_id b ON a.n = b.n;");
    assert!(error.clone().unwrap_err().contains("query.memory.bytes"), "{error:?}");
    assert_eq!(pulled(&mut session, "SELECT n FROM by_id WHERE id = 3;"), Ok(vec!["2".to_owned()]), "others go on");
}

#[test]
fn streams_take_part_up_to_their_end() {
    let (_engine, mut session) = engine(&numbers());
    let found = pulled(&mut session, "SELECT g, COUNT(*) AS n FROM s GROUP BY g ORDER BY g LIMIT 2;");
    assert_eq!(found, Ok(vec!["g00 | 50".to_owned(), "g01 | 50".to_owned()]));
    let joined = "SELECT s.id, t.n FROM s JOIN by_id t ON s.id = t.id WHERE s.g = 'g03' AND s.id < 20 ORDER BY s.ts;";
    assert_eq!(pulled(&mut session, joined), Ok(vec!["3 | 2".to_owned(), "3 | 2".to_owned()]));
    assert_eq!(pulled(&mut session, "SELECT COUNT(*) AS n FROM s;"), Ok(vec!["1000".to_owned()]));
}

#[test]
fn a_reader_that_leaves_stops_the_plan() {
    let (_engine, mut session) = engine(&numbers());
    let text = "SELECT a.id FROM by_id a JOIN by_id b ON a.n = b.n JOIN by_id c ON b.n = c.n;";
    let mut rows = session.query(text).unwrap_or_else(|e| panic!("{}", e.diagnostic));
    assert!(matches!(rows.source.next(Duration::from_secs(60)), NextRows::Batch { .. }));
    (rows.source.canceller())();
    assert!(matches!(rows.source.next(Duration::from_secs(60)), NextRows::Done(None)));
}
