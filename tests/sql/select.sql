-- SELECT over streams: projection, filter, names, and what NULL does.

--@test: a projection keeps the key, the row time and the order of columns
CREATE STREAM people (id INT KEY, name STRING, born INT) WITH (kafka_topic = 'people', value_format = 'JSON');
CREATE STREAM ages AS SELECT id, 2026 - born AS age, name FROM people;
INSERT INTO people (ROWTIME, id, name, born) VALUES (100, 1, 'Ada', 1990);
INSERT INTO people (ROWTIME, id, name, born) VALUES (90, 2, 'Grace', NULL);
ASSERT VALUES ages (ROWTIME, id, age, name) VALUES (100, 1, 36, 'Ada');
ASSERT VALUES ages (ROWTIME, id, age, name) VALUES (90, 2, NULL, 'Grace');
ASSERT STREAM ages (id INT KEY, age INT, name STRING) WITH (kafka_topic = 'AGES', value_format = 'JSON');

--@test: WHERE drops rows for which the condition is not true
CREATE STREAM n (id INT KEY, v INT) WITH (kafka_topic = 'n', value_format = 'JSON');
CREATE STREAM big AS SELECT * FROM n WHERE v > 10;
INSERT INTO n (id, v) VALUES (1, 5);
INSERT INTO n (id, v) VALUES (2, 11);
INSERT INTO n (id, v) VALUES (3, NULL);
INSERT INTO n (id, v) VALUES (4, 12);
ASSERT VALUES big VALUES (2, 11);
ASSERT VALUES big VALUES (4, 12);

--@test: nothing comes behind the last row
--@expected.error: java.lang.AssertionError
--@expected.message: all records have already been read
CREATE STREAM n (id INT KEY, v INT) WITH (kafka_topic = 'n', value_format = 'JSON');
CREATE STREAM big AS SELECT * FROM n WHERE v > 10;
INSERT INTO n (id, v) VALUES (1, 5);
ASSERT VALUES big (v) VALUES (5);

--@test: a comparison with NULL is false, and so is its negation's inner part
CREATE STREAM n (id INT KEY, a INT, b INT) WITH (kafka_topic = 'n', value_format = 'JSON');
CREATE STREAM c AS SELECT id, a = b AS eq, a <> b AS ne, a IS NULL AS absent, a IS DISTINCT FROM b AS differs FROM n;
INSERT INTO n (id, a, b) VALUES (1, NULL, 1);
INSERT INTO n (id, a, b) VALUES (2, 1, 1);
ASSERT VALUES c (eq, ne, absent, differs) VALUES (false, false, true, true);
ASSERT VALUES c (eq, ne, absent, differs) VALUES (true, false, false, false);

--@test: expressions without a name are numbered
CREATE STREAM n (id INT KEY, v INT) WITH (kafka_topic = 'n', value_format = 'JSON');
CREATE STREAM o AS SELECT id, v + 1, v * 2 FROM n;
INSERT INTO n VALUES (1, 10);
ASSERT VALUES o (KSQL_COL_0, KSQL_COL_1) VALUES (11, 20);

--@test: quoted names keep their case
CREATE STREAM `lower` (`id` INT KEY, `Va lue` STRING) WITH (kafka_topic = 'lower', value_format = 'JSON');
CREATE STREAM `Out` AS SELECT `id`, `Va lue` AS `x` FROM `lower`;
INSERT INTO `lower` (`id`, `Va lue`) VALUES (1, 'a');
ASSERT VALUES `Out` (`id`, `x`) VALUES (1, 'a');

--@test: rows flow through a chain of queries
CREATE STREAM a (id INT KEY, v INT) WITH (kafka_topic = 'a', value_format = 'JSON');
CREATE STREAM b AS SELECT id, v + 1 AS v FROM a;
CREATE STREAM c AS SELECT id, v * 10 AS v FROM b WHERE v <> 3;
INSERT INTO a VALUES (1, 1);
INSERT INTO a VALUES (2, 2);
INSERT INTO a VALUES (3, 3);
ASSERT VALUES b VALUES (1, 2);
ASSERT VALUES b VALUES (2, 3);
ASSERT VALUES b VALUES (3, 4);
ASSERT VALUES c VALUES (1, 20);
ASSERT VALUES c VALUES (3, 40);

--@test: a query does not see what came before it
CREATE STREAM a (id INT KEY, v INT) WITH (kafka_topic = 'a', value_format = 'JSON');
INSERT INTO a VALUES (1, 1);
CREATE STREAM b AS SELECT * FROM a;
INSERT INTO a VALUES (2, 2);
ASSERT VALUES b VALUES (2, 2);

--@test: a query sees what came before it when told to
SET 'auto.offset.reset' = 'earliest';
CREATE STREAM a (id INT KEY, v INT) WITH (kafka_topic = 'a', value_format = 'JSON');
INSERT INTO a VALUES (1, 1);
CREATE STREAM b AS SELECT * FROM a;
INSERT INTO a VALUES (2, 2);
ASSERT VALUES b VALUES (1, 1);
ASSERT VALUES b VALUES (2, 2);
