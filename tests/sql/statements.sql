-- Statements around queries: INSERT INTO, DROP, ALTER, OR REPLACE, types, scripts, variables.

--@test: INSERT INTO adds a second query to a stream
CREATE STREAM a (id INT KEY, v INT) WITH (kafka_topic = 'a', value_format = 'JSON');
CREATE STREAM b (id INT KEY, v INT) WITH (kafka_topic = 'b', value_format = 'JSON');
CREATE STREAM o AS SELECT * FROM a;
INSERT INTO o SELECT id, v * -1 AS v FROM b;
INSERT INTO a VALUES (1, 1);
INSERT INTO b VALUES (2, 2);
ASSERT VALUES o VALUES (1, 1);
ASSERT VALUES o VALUES (2, -2);

--@test: a dropped stream's name is free again
CREATE STREAM a (id INT KEY, v INT) WITH (kafka_topic = 'a', value_format = 'JSON');
DROP STREAM a;
CREATE STREAM a (id INT KEY, w STRING) WITH (kafka_topic = 'a2', value_format = 'JSON');
INSERT INTO a VALUES (1, 'x');
ASSERT VALUES a VALUES (1, 'x');

--@test: DROP of a query's stream stops the query
CREATE STREAM a (id INT KEY, v INT) WITH (kafka_topic = 'a', value_format = 'JSON');
CREATE STREAM b WITH (kafka_topic = 'b') AS SELECT * FROM a;
INSERT INTO a VALUES (1, 1);
ASSERT VALUES b VALUES (1, 1);
DROP STREAM b;
CREATE STREAM b (id INT KEY, v INT) WITH (kafka_topic = 'b', value_format = 'JSON');
INSERT INTO a VALUES (2, 2);
INSERT INTO b VALUES (3, 3);
ASSERT VALUES b VALUES (3, 3);

--@test: ALTER adds columns
CREATE STREAM a (id INT KEY, v INT) WITH (kafka_topic = 'a', value_format = 'JSON');
ALTER STREAM a ADD COLUMN w STRING;
CREATE STREAM o AS SELECT * FROM a;
INSERT INTO a VALUES (1, 2, 'x');
ASSERT VALUES o VALUES (1, 2, 'x');

--@test: OR REPLACE changes a query in its place
CREATE STREAM a (id INT KEY, v INT) WITH (kafka_topic = 'a', value_format = 'JSON');
CREATE STREAM o AS SELECT id, v FROM a;
INSERT INTO a VALUES (1, 1);
CREATE OR REPLACE STREAM o AS SELECT id, v FROM a WHERE v > 1;
INSERT INTO a VALUES (2, 1);
INSERT INTO a VALUES (3, 3);
ASSERT VALUES o VALUES (1, 1);
ASSERT VALUES o VALUES (3, 3);

--@test: custom types
CREATE TYPE address AS STRUCT<street STRING, no INT>;
CREATE STREAM a (id INT KEY, home address) WITH (kafka_topic = 'a', value_format = 'JSON');
CREATE STREAM o AS SELECT id, home->street AS street FROM a;
INSERT INTO a VALUES (1, STRUCT(street := 'Long', no := 5));
ASSERT VALUES o VALUES (1, 'Long');

--@test: IF NOT EXISTS leaves what is there
CREATE STREAM a (id INT KEY, v INT) WITH (kafka_topic = 'a', value_format = 'JSON');
CREATE STREAM IF NOT EXISTS a (id INT KEY, v STRING) WITH (kafka_topic = 'a', value_format = 'JSON');
ASSERT STREAM a (id INT KEY, v INT) WITH (kafka_topic = 'a', value_format = 'JSON');

--@test: scripts
RUN SCRIPT 'scripts/doubled.inc';
INSERT INTO a VALUES (1, 4);
ASSERT VALUES doubled VALUES (1, 8);

--@test: EXPLODE makes a row of each element
CREATE STREAM a (id INT KEY, vs ARRAY<INT>) WITH (kafka_topic = 'a', value_format = 'JSON');
CREATE STREAM o AS SELECT id, EXPLODE(vs) AS v FROM a;
INSERT INTO a VALUES (1, ARRAY[3, 4]);
ASSERT VALUES o VALUES (1, 3);
ASSERT VALUES o VALUES (1, 4);

--@test: a replaced aggregation keeps its state
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE o AS SELECT id, COUNT(*) AS n FROM s GROUP BY id;
INSERT INTO s VALUES (1, 1);
INSERT INTO s VALUES (1, 2);
CREATE OR REPLACE TABLE o AS SELECT id, COUNT(*) AS n FROM s WHERE v > 5 GROUP BY id;
INSERT INTO s VALUES (1, 3);
INSERT INTO s VALUES (1, 6);
ASSERT VALUES o VALUES (1, 1);
ASSERT VALUES o VALUES (1, 2);
ASSERT VALUES o VALUES (1, 3);

--@test: other aggregates cannot take the state over
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE o AS SELECT id, COUNT(*) AS n FROM s GROUP BY id;
--@expected.error: KsqlException
--@expected.message: Query is not upgradeable. its aggregations would be other ones
CREATE OR REPLACE TABLE o AS SELECT id, COUNT(v) AS n FROM s GROUP BY id;

--@test: another source cannot be put below a query
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE STREAM u (id INT KEY, v INT) WITH (kafka_topic = 'u', value_format = 'JSON');
CREATE STREAM o AS SELECT id, v FROM s;
--@expected.error: KsqlException
--@expected.message: it reads the topic(s) s and would read u
CREATE OR REPLACE STREAM o AS SELECT id, v FROM u;
