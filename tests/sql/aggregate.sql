-- GROUP BY without windows.

--@test: COUNT and SUM emit every change
CREATE STREAM sales (id INT KEY, region STRING, amount BIGINT) WITH (kafka_topic = 'sales', value_format = 'JSON');
CREATE TABLE totals AS SELECT region, COUNT(*) AS n, SUM(amount) AS total FROM sales GROUP BY region;
INSERT INTO sales VALUES (1, 'north', 10);
INSERT INTO sales VALUES (2, 'south', 5);
INSERT INTO sales VALUES (3, 'north', 7);
ASSERT VALUES totals VALUES ('north', 1, 10);
ASSERT VALUES totals VALUES ('south', 1, 5);
ASSERT VALUES totals VALUES ('north', 2, 17);
ASSERT TABLE totals (region STRING PRIMARY KEY, n BIGINT, total BIGINT) WITH (kafka_topic = 'TOTALS', value_format = 'JSON');

--@test: rows without a group are dropped
CREATE STREAM s (id INT KEY, g STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE t AS SELECT g, COUNT(*) AS n FROM s GROUP BY g;
INSERT INTO s VALUES (1, NULL);
INSERT INTO s VALUES (2, 'a');
ASSERT VALUES t VALUES ('a', 1);

--@test: the row time of a group never goes back
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE t AS SELECT id, COUNT(*) AS n FROM s GROUP BY id;
INSERT INTO s (ROWTIME, id, v) VALUES (100, 1, 1);
INSERT INTO s (ROWTIME, id, v) VALUES (50, 1, 2);
ASSERT VALUES t (ROWTIME, id, n) VALUES (100, 1, 1);
ASSERT VALUES t (ROWTIME, id, n) VALUES (100, 1, 2);

--@test: MIN, MAX and AVG pass over NULL
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE t AS SELECT id, MIN(v) AS least, MAX(v) AS most, AVG(v) AS mean, COUNT(v) AS n FROM s GROUP BY id;
INSERT INTO s VALUES (1, 4);
INSERT INTO s VALUES (1, NULL);
INSERT INTO s VALUES (1, 1);
ASSERT VALUES t (least, most, mean, n) VALUES (4, 4, 4.0, 1);
ASSERT VALUES t (least, most, mean, n) VALUES (4, 4, 4.0, 1);
ASSERT VALUES t (least, most, mean, n) VALUES (1, 4, 2.5, 2);

--@test: the latest and the earliest value by arrival
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE t AS SELECT id, LATEST_BY_OFFSET(v) AS last, EARLIEST_BY_OFFSET(v) AS first FROM s GROUP BY id;
INSERT INTO s (ROWTIME, id, v) VALUES (10, 1, 'a');
INSERT INTO s (ROWTIME, id, v) VALUES (5, 1, 'b');
ASSERT VALUES t (last, first) VALUES ('a', 'a');
ASSERT VALUES t (last, first) VALUES ('b', 'a');

--@test: HAVING takes a group out with a tombstone
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE t AS SELECT id, SUM(v) AS total FROM s GROUP BY id HAVING SUM(v) > 10;
INSERT INTO s VALUES (1, 20);
INSERT INTO s VALUES (1, -15);
INSERT INTO s VALUES (1, 10);
ASSERT VALUES t VALUES (1, 20);
ASSERT NULL VALUES t KEY (1);
ASSERT VALUES t VALUES (1, 15);

--@test: several grouping columns make a key of several columns
CREATE STREAM s (id INT KEY, a STRING, b INT) WITH (kafka_topic = 's', format = 'JSON');
CREATE TABLE t AS SELECT a, b, COUNT(*) AS n FROM s GROUP BY a, b;
INSERT INTO s VALUES (1, 'x', 1);
INSERT INTO s VALUES (2, 'x', 2);
INSERT INTO s VALUES (3, 'x', 1);
ASSERT VALUES t (a, b, n) VALUES ('x', 1, 1);
ASSERT VALUES t (a, b, n) VALUES ('x', 2, 1);
ASSERT VALUES t (a, b, n) VALUES ('x', 1, 2);

--@test: a table's aggregate takes back what a row had been
CREATE TABLE users (id INT PRIMARY KEY, region STRING) WITH (kafka_topic = 'users', value_format = 'JSON');
CREATE TABLE per_region AS SELECT region, COUNT(*) AS n FROM users GROUP BY region;
INSERT INTO users VALUES (1, 'north');
INSERT INTO users VALUES (2, 'north');
INSERT INTO users VALUES (1, 'south');
ASSERT VALUES per_region VALUES ('north', 1);
ASSERT VALUES per_region VALUES ('north', 2);
ASSERT VALUES per_region VALUES ('north', 1);
ASSERT VALUES per_region VALUES ('south', 1);

--@test: COLLECT_LIST keeps the order of arrival
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE t AS SELECT id, COLLECT_LIST(v) AS vs FROM s GROUP BY id;
INSERT INTO s VALUES (1, 3);
INSERT INTO s VALUES (1, 1);
ASSERT VALUES t VALUES (1, ARRAY[3]);
ASSERT VALUES t VALUES (1, ARRAY[3, 1]);

--@test: AVG over DELIMITED, where the dialect is ours
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'DELIMITED');
CREATE TABLE o AS SELECT id, AVG(v) AS a FROM s GROUP BY id;
INSERT INTO s VALUES (1, 5);
INSERT INTO s VALUES (1, 6);
ASSERT VALUES o VALUES (1, 5.0);
ASSERT VALUES o VALUES (1, 5.5);
