-- What the reference refuses in pull queries, it refuses with `riverrun.dialect = ksql`; the reason is the same.

--@test: pull (ksql) - a join is refused
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
--@expected.message: Pull queries don't support JOIN clauses
SELECT m.id FROM m JOIN m o ON m.id = o.id;

--@test: pull (ksql) - a group is refused
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
--@expected.message: Pull queries don't support GROUP BY clauses
SELECT v, COUNT(*) AS c FROM m GROUP BY v;

--@test: pull (ksql) - an aggregate is refused
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
--@expected.message: Pull queries don't support GROUP BY clauses, so neither the aggregate function COUNT
SELECT COUNT(*) AS c FROM m;

--@test: pull (ksql) - a having is refused
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
--@expected.message: Pull queries don't support HAVING clauses
SELECT id FROM m HAVING id > 1;

--@test: pull (ksql) - distinct is refused
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
--@expected.message: Pull queries don't support DISTINCT
SELECT DISTINCT v FROM m;

--@test: pull (ksql) - an order is refused
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
--@expected.message: Pull queries don't support ORDER BY clauses
SELECT id FROM m ORDER BY id;

--@test: pull (ksql) - an offset is refused
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
--@expected.message: Pull queries don't support OFFSET clauses
SELECT id FROM m LIMIT 1 OFFSET 1;

--@test: pull (ksql) - a union is refused
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
--@expected.message: Pull queries don't support UNION
SELECT id FROM m UNION SELECT id FROM m;

--@test: pull (ksql) - a with is refused
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
--@expected.message: Pull queries don't support WITH clauses
WITH q AS (SELECT id FROM m) SELECT id FROM q;

--@test: pull (ksql) - a subquery is refused
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
--@expected.message: Pull queries don't support subqueries
SELECT id FROM (SELECT id FROM m) q;

--@test: pull (ksql) - a join of streams is refused
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
--@expected.message: Pull queries don't support JOIN clauses
SELECT s.id FROM s JOIN m ON s.id = m.id;

--@test: pull (ksql) - a group of a stream is refused
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
--@expected.message: Pull queries don't support GROUP BY clauses
SELECT v, COUNT(*) AS c FROM s GROUP BY v;

--@test: pull (ksql) - NULL as key is refused
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
--@expected.message: Primary key columns can not be NULL
SELECT * FROM m WHERE id = CAST(NULL AS INT);

--@test: pull (ksql) - a test for NULL is refused
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
--@expected.message: Unsupported expression in WHERE clause
SELECT * FROM m WHERE v IS NULL;

--@test: pull (ksql) - a star beside columns is refused
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
--@expected.message: only support wildcards in the projection if they are the only expression
SELECT *, id FROM m;

--@test: pull (ksql) - look-ups, ranges and scans of one table
CREATE TABLE t (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE m AS SELECT * FROM t;
SET 'riverrun.dialect' = 'ksql';
INSERT INTO t VALUES (1, 'a');
INSERT INTO t VALUES (2, 'b');
--@expected.rows: [1, "a"]
SELECT * FROM m WHERE id = 1;
--@expected.rows: [2, "b"]
SELECT * FROM m WHERE id > 1;
--@expected.rows: [2]
SELECT id FROM m WHERE v LIKE 'b%' LIMIT 3;
