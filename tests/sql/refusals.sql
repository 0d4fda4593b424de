-- Statements that are wrong, and what is said of them.

--@test: a syntax error
--@expected.error: ParseFailedException
CREATE STREAM s (id INT KEY WITH (kafka_topic = 's', value_format = 'JSON');

--@test: no such source
--@expected.message: NOWHERE does not exist
CREATE STREAM o AS SELECT * FROM nowhere;

--@test: no such column
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
--@expected.error: KsqlException
--@expected.message: WRONG
CREATE STREAM o AS SELECT id, wrong FROM s;

--@test: a name that is taken
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
--@expected.message: A stream with the same name already exists
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');

--@test: a table needs a primary key
--@expected.message: PRIMARY KEY
CREATE TABLE t (v INT) WITH (kafka_topic = 't', value_format = 'JSON');

--@test: a column twice
--@expected.message: Duplicate
CREATE STREAM s (id INT KEY, v INT, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');

--@test: an unknown type
--@expected.message: Cannot resolve unknown type: NUMBR
CREATE STREAM s (id INT KEY, v NUMBR) WITH (kafka_topic = 's', value_format = 'JSON');

--@test: an unknown format
--@expected.message: FANCY
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'FANCY');

--@test: a text is no number
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
--@expected.error: KsqlException
CREATE STREAM o AS SELECT id, v * 2 AS w FROM s;

--@test: an unknown function
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
--@expected.message: FROBNICATE
CREATE STREAM o AS SELECT id, FROBNICATE(v) AS w FROM s;

--@test: the key is missing in the projection
CREATE STREAM s (id INT KEY, v STRING) WITH (kafka_topic = 's', value_format = 'JSON');
--@expected.message: key
CREATE STREAM o AS SELECT v FROM s;

--@test: a column that is neither grouped nor aggregated
CREATE STREAM s (id INT KEY, v INT, w INT) WITH (kafka_topic = 's', value_format = 'JSON');
--@expected.error: KsqlException
CREATE TABLE t AS SELECT id, v, COUNT(*) AS n FROM s GROUP BY id;

--@test: join keys of different types
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE t (id STRING PRIMARY KEY, w INT) WITH (kafka_topic = 't', value_format = 'JSON');
--@expected.message: join
CREATE STREAM o AS SELECT s.id AS id, v, w FROM s JOIN t ON s.id = t.id;

--@test: a source that others read cannot be dropped
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE STREAM o AS SELECT * FROM s;
--@expected.message: O
DROP STREAM s;

--@test: a value for a column that is not there
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
--@expected.message: WRONG
INSERT INTO s (id, wrong) VALUES (1, 2);

--@test: too few values
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
--@expected.message: Expected a value for each column
INSERT INTO s (id, v) VALUES (1);

--@test: a table row needs its key
CREATE TABLE t (id INT PRIMARY KEY, v INT) WITH (kafka_topic = 't', value_format = 'JSON');
--@expected.message: primary key
INSERT INTO t (v) VALUES (1);

--@test: an unknown property
--@expected.message: Unknown property: auto.ofset.reset
SET 'auto.ofset.reset' = 'earliest';

--@test: queries have no place in a test
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
--@expected.message: a test has no place for the rows of a query
SELECT * FROM s EMIT CHANGES;

--@test: rows that go in a circle
CREATE STREAM a (id INT KEY, v INT) WITH (kafka_topic = 'a', value_format = 'JSON');
CREATE STREAM b AS SELECT id, v FROM a;
INSERT INTO a SELECT id, v FROM b;
--@expected.error: StreamsException
--@expected.message: circle
INSERT INTO a VALUES (1, 1);

--@test: DELIMITED cannot hold the state of AVG where ksqlDB would keep it there
SET 'riverrun.dialect' = 'ksql';
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'DELIMITED');
--@expected.error: KsqlException
--@expected.message: AVG keeps a structure for each group
CREATE TABLE o AS SELECT id, AVG(v) AS a FROM s GROUP BY id;
