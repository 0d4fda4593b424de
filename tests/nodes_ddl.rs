//! Statements on several nodes of one service on a real Kafka (`RIVERRUN_KAFKA`): given at the same moment, undone and made anew.
//!
//! Engines in this process, as in `nodes`. What must hold: every node ends with the same catalog, which a later start folds to as well, and data
//! of what was made anew are all there. The subtle thing: which of two statements wins is not known, only that one does.

use std::path::Path;
use std::sync::Barrier;

use riverrun::engine::Engine;

use crate::crash::contents;
use crate::nodes::{check, cluster, execute, leave, open, rows, wait};

const ROUNDS: usize = 4;

/// What a node does in a round, and whether the other one's statement contradicts it.
fn statements(node: usize, round: usize) -> Vec<(String, bool)> {
    let source = |name: String, column: &str| {
        format!(
            "CREATE STREAM {name} (k INT KEY, {column} INT) WITH (KAFKA_TOPIC='{name}', VALUE_FORMAT='JSON', PARTITIONS=2);"
        )
    };
    let mut all = vec![
        (source(format!("both_{round}"), ["v", "w"][node]), true),
        (source(format!("own_{node}_{round}"), "v"), false),
        (format!("CREATE TYPE type_{round} AS STRUCT<f{node} INT>;"), true),
        (format!("CREATE STREAM copy_{round} AS SELECT * FROM base WHERE v > {node};"), true),
    ];
    if round > 0 {
        let before = round - 1;
        all.push((format!("DROP STREAM copy_{before} DELETE TOPIC;"), true));
        all.push((format!("DROP STREAM both_{before} DELETE TOPIC;"), true));
        all.push((format!("DROP STREAM own_{node}_{before};"), false));
    }
    all
}

#[test]
fn nodes_that_accept_statements_at_the_same_moment_end_with_the_same_catalog() {
    let Some(cluster) = cluster() else { return };
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let nodes = [0, 1].map(|n: usize| open(&cluster, dirs[n].path(), &[]));
    execute(
        &nodes[0],
        "CREATE STREAM base (k INT KEY, v INT) WITH (KAFKA_TOPIC='base', VALUE_FORMAT='JSON', PARTITIONS=2);",
    );
    nodes[1].catch_up().unwrap();
    for round in 0..ROUNDS {
        let together = Barrier::new(nodes.len());
        let answers: Vec<Vec<Result<(), String>>> = std::thread::scope(|scope| {
            let run = |(n, engine): (usize, &Engine)| {
                let (engine, together) = (engine.clone(), &together);
                scope.spawn(move || {
                    let run = |(text, _): (String, bool)| {
                        together.wait();
                        engine.session().execute(&text).map(drop).map_err(|e| format!("{text} {}", e.diagnostic))
                    };
                    statements(n, round).into_iter().map(run).collect()
                })
            };
            let threads: Vec<_> = nodes.iter().enumerate().map(run).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (n, (_, contradicts)) in statements(0, round).into_iter().enumerate() {
            let both = [&answers[0][n], &answers[1][n]];
            let wanted = if contradicts { 1 } else { 2 };
            assert_eq!(both.iter().filter(|answer| answer.is_ok()).count(), wanted, "round {round}: {both:?}");
        }
        for node in &nodes {
            node.catch_up().unwrap();
        }
        assert_eq!(*nodes[0].catalog(), *nodes[1].catalog(), "round {round}");
        let ids = |engine: &Engine| engine.runtime().statuses().into_iter().map(|s| s.id).collect::<Vec<_>>();
        assert_eq!(ids(&nodes[0]), ids(&nodes[1]), "round {round}");
        assert_eq!(ids(&nodes[0]).len(), 1, "round {round}");
    }
    let third = open(&cluster, dirs[2].path(), &[]);
    assert_eq!(*third.catalog(), *nodes[0].catalog(), "a node that comes later");
    // what stands runs, on whichever node
    execute(&nodes[0], "INSERT INTO base VALUES (1, 5), (2, 6), (3, 7);");
    let copy = format!("COPY_{}", ROUNDS - 1);
    wait("the copy is written", || {
        let found = records(&third, &copy, 2);
        check(found == 3, found)
    });
    let catalog = third.catalog();
    nodes.iter().chain([&third]).for_each(|node| node.close().unwrap());
    drop((nodes, third));
    let again = open(&cluster, dirs[0].path(), &[]);
    assert_eq!(*again.catalog(), *catalog, "after a restart");
    again.close().unwrap();
    leave(&again);
}

/// Records in a topic, all partitions together.
fn records(engine: &Engine, topic: &str, partitions: i32) -> usize {
    contents(&**engine.log(), topic, partitions).iter().map(Vec::len).sum()
}

#[test]
fn what_is_dropped_with_its_topic_and_made_anew_survives_restarts_with_its_data() {
    let Some(cluster) = cluster() else { return };
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let setup = |column: &str, partitions: i32| {
        format!(
            "CREATE STREAM s (k INT KEY, {column}) WITH (KAFKA_TOPIC='s', VALUE_FORMAT='JSON', PARTITIONS={partitions});
             CREATE TABLE t WITH (KAFKA_TOPIC='t') AS SELECT k, COUNT(*) AS n FROM s GROUP BY k;"
        )
    };
    let engine = open(&cluster, dirs[0].path(), &[]);
    execute(&engine, &setup("v INT", 2));
    execute(&engine, "INSERT INTO s VALUES (1, 1), (1, 2), (2, 3);");
    wait("the first table", || rows(&engine, "SELECT k, n FROM t;").and_then(|found| check(found.len() == 2, found)));
    let anew = format!("DROP TABLE t DELETE TOPIC; DROP STREAM s DELETE TOPIC; {}", setup("w STRING", 3));
    execute(&engine, &anew);
    execute(&engine, "INSERT INTO s VALUES (1, 'a'), (3, 'b'), (4, 'c'), (5, 'd'), (6, 'e');");
    engine.close().unwrap();
    drop(engine);
    // on the folder that has seen both, on another one, and on an empty one each time
    for start in 0..10 {
        let fresh = tempfile::tempdir().unwrap();
        let dir: &Path = [dirs[0].path(), dirs[1].path(), fresh.path()][start % 3];
        let engine = open(&cluster, dir, &[]);
        wait(&format!("all rows at start {start}"), || {
            let found = rows(&engine, "SELECT k, n FROM t;")?;
            check(found.len() == 5 + start, found)
        });
        let one = wait("the key", || rows(&engine, "SELECT n FROM t WHERE k = 1;"));
        assert!(one.len() == 1 && one[0].contains(" 1,"), "the count starts anew with the topic: {one:?}");
        assert_eq!(records(&engine, "s", 3), 5 + start, "start {start}");
        execute(&engine, &format!("INSERT INTO s VALUES ({}, 'x');", 100 + start));
        engine.close().unwrap();
        if start == 9 {
            leave(&engine);
        }
    }
}
