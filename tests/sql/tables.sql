-- Tables: changes, filters, deletions.

--@test: a table's newest row is passed on
CREATE TABLE t (id INT PRIMARY KEY, v INT) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE o AS SELECT id, v + 1 AS w FROM t;
INSERT INTO t VALUES (1, 1);
INSERT INTO t VALUES (1, 2);
ASSERT VALUES o VALUES (1, 2);
ASSERT VALUES o VALUES (1, 3);

--@test: a row that no longer matches is deleted
CREATE TABLE t (id INT PRIMARY KEY, v INT) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE TABLE o AS SELECT id, v FROM t WHERE v > 10;
INSERT INTO t VALUES (1, 20);
INSERT INTO t VALUES (1, 5);
INSERT INTO t VALUES (2, 30);
ASSERT VALUES o VALUES (1, 20);
ASSERT NULL VALUES o (id) KEY (1);
ASSERT VALUES o VALUES (2, 30);

--@test: a tombstone deletes
CREATE TABLE t (id INT PRIMARY KEY, v INT) WITH (kafka_topic = 't', value_format = 'JSON', wrap_single_value = false);
CREATE TABLE o AS SELECT id, v FROM t;
INSERT INTO t VALUES (1, 1);
INSERT INTO t VALUES (1, NULL);
ASSERT VALUES o VALUES (1, 1);
ASSERT NULL VALUES o KEY (1);
