-- Pull queries over tables: look-ups, and the SQL that only our dialect takes.

--@test: pull - keys, ranges, conditions and pseudo columns
CREATE TABLE t (id INT PRIMARY KEY, v STRING, n BIGINT) WITH (kafka_topic = 't', value_format = 'JSON', partitions = 3);
CREATE TABLE m AS SELECT id, v, n * 10 AS n FROM t;
INSERT INTO t (ROWTIME, id, v, n) VALUES (100, 1, 'a', 1);
INSERT INTO t (ROWTIME, id, v, n) VALUES (200, 2, 'b', NULL);
INSERT INTO t (ROWTIME, id, v, n) VALUES (300, 3, NULL, 3);
INSERT INTO t (ROWTIME, id, v, n) VALUES (400, 4, 'd', 4);
--@expected.rows: [1, "a", 10] [2, "b", null] [3, null, 30] [4, "d", 40]
SELECT * FROM m;
--@expected.rows: [2, 200]
SELECT id, ROWTIME FROM m WHERE id = 2;
--@expected.rows:
SELECT id FROM m WHERE id = 77;
--@expected.rows: [1] [3]
SELECT id FROM m WHERE id IN (1, 3, 9);
--@expected.rows: [2] [3]
SELECT id FROM m WHERE id > 1 AND id <= 3;
--@expected.rows: [3]
SELECT id FROM m WHERE v IS NULL;
--@expected.rows: [2] [3] [4]
SELECT id FROM m WHERE NOT (n = 10);
--@expected.rows: [3] [4]
SELECT id FROM m WHERE ROWTIME >= 300;
--@expected.rows: ["A-1", 11]
SELECT UCASE(v) || '-' || CAST(id AS STRING) AS u, n + id AS s FROM m WHERE 1 = id;
--@expected.rows.ordered: [4] [3]
SELECT id FROM m ORDER BY id DESC LIMIT 2;

--@test: pull - a failing expression is NULL, and a failing condition false
CREATE TABLE t (id INT PRIMARY KEY, n INT) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
INSERT INTO t VALUES (1, 0);
INSERT INTO t VALUES (2, 5);
--@expected.rows: [1, null] [2, 2]
SELECT id, 10 / n AS q FROM m;
--@expected.rows: [2]
SELECT id FROM m WHERE 10 / n = 2;
--@expected.rows: [2]
SELECT id FROM m WHERE NOT (10 / n = 3);

--@test: pull - a deleted row is gone
CREATE TABLE t (id INT PRIMARY KEY, v INT) WITH (kafka_topic = 't', value_format = 'JSON', wrap_single_value = false);
CREATE TABLE m AS SELECT * FROM t;
INSERT INTO t VALUES (1, 1);
INSERT INTO t VALUES (2, 2);
INSERT INTO t VALUES (1, NULL);
--@expected.rows: [2, 2]
SELECT * FROM m;
--@expected.rows:
SELECT * FROM m WHERE id = 1;

--@test: pull - windows are bounded by their start and end
CREATE STREAM s (id INT KEY, n INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE w AS SELECT id, COUNT(*) AS c FROM s WINDOW TUMBLING (SIZE 1 SECOND) GROUP BY id;
INSERT INTO s (ROWTIME, id, n) VALUES (0, 1, 1);
INSERT INTO s (ROWTIME, id, n) VALUES (1500, 1, 1);
INSERT INTO s (ROWTIME, id, n) VALUES (1700, 1, 1);
INSERT INTO s (ROWTIME, id, n) VALUES (1700, 2, 1);
--@expected.rows: [1, 0, 1000, 1] [1, 1000, 2000, 2] [2, 1000, 2000, 1]
SELECT * FROM w;
--@expected.rows: [1000, 2]
SELECT WINDOWSTART, c FROM w WHERE id = 1 AND WINDOWSTART > 0;
--@expected.rows: [2] [1]
SELECT c FROM w WHERE WINDOWSTART = '1970-01-01T00:00:01';
--@expected.rows: [1]
SELECT c FROM w WHERE id = 1 AND WINDOWEND <= 1000;
--@expected.rows.ordered: [0, 1] [1000, 3]
SELECT WINDOWSTART AS ws, SUM(c) AS c FROM w GROUP BY WINDOWSTART ORDER BY ws;

--@test: pull - joins of every kind on any condition
CREATE TABLE a (id INT PRIMARY KEY, g STRING) WITH (kafka_topic = 'a', value_format = 'JSON');
CREATE TABLE b (id INT PRIMARY KEY, g STRING) WITH (kafka_topic = 'b', value_format = 'JSON');
CREATE TABLE l AS SELECT id, g FROM a;
CREATE TABLE r AS SELECT id, g FROM b;
INSERT INTO a VALUES (1, 'x');
INSERT INTO a VALUES (2, 'y');
INSERT INTO a VALUES (3, NULL);
INSERT INTO b VALUES (2, 'x');
INSERT INTO b VALUES (3, 'x');
INSERT INTO b VALUES (4, NULL);
--@expected.rows: [2, "y", 2, "x"] [3, null, 3, "x"]
SELECT * FROM l JOIN r ON l.id = r.id;
--@expected.rows: [1, 2] [1, 3]
SELECT l.id AS lid, r.id AS rid FROM l JOIN r ON l.g = r.g;
--@expected.rows: [1, null] [2, 2] [3, 3]
SELECT l.id AS lid, r.id AS rid FROM l LEFT JOIN r ON l.id = r.id;
--@expected.rows: [null, 4] [2, 2] [3, 3]
SELECT l.id AS lid, r.id AS rid FROM l RIGHT JOIN r ON l.id = r.id;
--@expected.rows: [1, null] [null, 4] [2, 2] [3, 3]
SELECT l.id AS lid, r.id AS rid FROM l FULL JOIN r ON l.id = r.id;
--@expected.rows: [1, 2] [1, 3] [2, 3]
SELECT x.id AS xid, y.id AS yid FROM l x JOIN l y ON x.id < y.id;
--@expected.rows: [2]
SELECT x.id FROM l x JOIN r y ON x.id = y.id AND x.g = 'y' JOIN r z ON z.id = y.id + 1;

--@test: pull - grouping uses our aggregates
CREATE TABLE t (id INT PRIMARY KEY, g STRING, n INT) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
INSERT INTO t VALUES (1, 'x', 1);
INSERT INTO t VALUES (2, 'x', 2);
INSERT INTO t VALUES (3, 'y', NULL);
INSERT INTO t VALUES (4, NULL, 4);
--@expected.rows: ["x", 2, 2, 3, 1.5, 1, 2] ["y", 1, 0, 0, 0.0, null, null] [null, 1, 1, 4, 4.0, 4, 4]
SELECT g, COUNT(*) AS c, COUNT(n) AS cn, SUM(n) AS s, AVG(n) AS av, MIN(n) AS lo, MAX(n) AS hi FROM m GROUP BY g;
--@expected.rows: ["X", 3]
SELECT UCASE(g) AS u, SUM(n) AS s FROM m GROUP BY UCASE(g) HAVING COUNT(*) > 1;
--@expected.rows: [4, 7, [1, 2, null, 4]]
SELECT COUNT(*) AS c, SUM(n) AS s, COLLECT_LIST(n) AS l FROM (SELECT * FROM m) WHERE n IS NOT NULL OR g = 'y';
--@expected.rows: [0]
SELECT COUNT(*) AS c FROM m WHERE id = 99;
--@expected.rows: ["x"] ["y"] [null]
SELECT g FROM m GROUP BY g;
--@expected.rows: ["x"] ["y"] [null]
SELECT DISTINCT g FROM m;

--@test: pull - order, offset, union, with and subqueries
CREATE TABLE t (id INT PRIMARY KEY, g STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
INSERT INTO t VALUES (1, 'b');
INSERT INTO t VALUES (2, 'a');
INSERT INTO t VALUES (3, NULL);
INSERT INTO t VALUES (4, 'a');
--@expected.rows.ordered: [2] [4] [1] [3]
SELECT id FROM m ORDER BY g, id;
--@expected.rows.ordered: [3, null] [2, "a"]
SELECT id, g FROM m ORDER BY 2 NULLS FIRST, 1 LIMIT 2;
--@expected.rows.ordered: [4] [1]
SELECT id FROM m ORDER BY g, id LIMIT 2 OFFSET 1;
--@expected.rows.ordered: [-4] [-3] [-2] [-1]
SELECT id * -1 AS k FROM m ORDER BY id * -1;
--@expected.rows.ordered: ["a"] ["b"] [null]
SELECT g FROM m UNION SELECT g FROM m ORDER BY g;
--@expected.rows: ["a", 1] ["a", 1] ["x", 4]
SELECT g, CAST(1 AS BIGINT) AS n FROM m WHERE g = 'a' UNION ALL SELECT 'x' AS g, COUNT(*) AS c FROM m;
--@expected.rows: ["a", 2]
WITH q AS (SELECT g, COUNT(*) AS c FROM m GROUP BY g), p AS (SELECT * FROM q WHERE c > 1) SELECT p.g, q.c FROM p JOIN q ON p.g = q.g;
--@expected.rows: [2] [4]
SELECT m.id FROM m JOIN (SELECT g, MAX(id) AS top FROM m GROUP BY g) q ON m.g = q.g WHERE q.top = 4;

--@test: pull - streams are read up to their end
CREATE STREAM s (id INT KEY, g STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE m AS SELECT id, COUNT(*) AS c FROM s GROUP BY id;
INSERT INTO s VALUES (1, 'a');
INSERT INTO s VALUES (1, 'b');
INSERT INTO s VALUES (2, 'b');
--@expected.rows: [1, "a"] [1, "b"] [2, "b"]
SELECT * FROM s;
--@expected.rows: ["a", 1] ["b", 2]
SELECT g, COUNT(*) AS c FROM s GROUP BY g;
--@expected.rows: ["a", 2] ["b", 2] ["b", 1]
SELECT s.g, m.c FROM s JOIN m ON s.id = m.id;

--@test: pull - a table without state is not readable, joined or not
CREATE TABLE t (id INT PRIMARY KEY, v INT) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
--@expected.error: KsqlStatementException
--@expected.message: The `T` table isn't queryable
SELECT * FROM m JOIN t ON m.id = t.id;

--@test: pull - two sources need two names
CREATE TABLE t (id INT PRIMARY KEY, v INT) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
--@expected.message: two sources of the query are named M
SELECT * FROM m JOIN m ON m.id = m.id;

--@test: pull - a column beside groups must be grouped
CREATE TABLE t (id INT PRIMARY KEY, v INT) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
--@expected.message: Non-aggregate SELECT expression(s) not part of GROUP BY: ID
SELECT id, COUNT(*) AS c FROM m GROUP BY v;

--@test: pull - ORDER BY names a column that is there
CREATE TABLE t (id INT PRIMARY KEY, v INT) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
--@expected.message: ORDER BY 3: the result has columns 1 to 2
SELECT * FROM m ORDER BY 3;

--@test: pull - windows are made by streams
CREATE TABLE t (id INT PRIMARY KEY, v INT) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
--@expected.message: Pull queries don't support WINDOW clauses
SELECT id, COUNT(*) AS c FROM m WINDOW TUMBLING (SIZE 1 SECOND) GROUP BY id;

--@test: pull - the sides of a union have the same columns
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
--@expected.message: the sides of a UNION differ in the type of ID: INTEGER and STRING
SELECT id FROM m UNION SELECT v FROM m;

--@test: pull - table scans can be forbidden
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'ksql.query.pull.table.scan.enabled' = 'false';
INSERT INTO t VALUES (1, 'a');
--@expected.rows: ["a"]
SELECT v FROM m WHERE id = 1;
--@expected.rows: ["a"]
SELECT v FROM m WHERE id < 5;
--@expected.message: Table scans are disabled
SELECT v FROM m WHERE v = 'a';
