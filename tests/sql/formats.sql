-- Formats of keys and values, and changes from one to another.

--@test: DELIMITED to JSON
CREATE STREAM s (id INT KEY, a STRING, b DOUBLE) WITH (kafka_topic = 's', value_format = 'DELIMITED');
CREATE STREAM o WITH (value_format = 'JSON') AS SELECT * FROM s;
INSERT INTO s VALUES (1, 'with, comma', 1.5);
ASSERT VALUES o VALUES (1, 'with, comma', 1.5);
ASSERT STREAM o (id INT KEY, a STRING, b DOUBLE) WITH (kafka_topic = 'O', value_format = 'JSON');

--@test: another delimiter
CREATE STREAM s (id INT KEY, a STRING, b INT) WITH (kafka_topic = 's', value_format = 'DELIMITED', value_delimiter = '|');
CREATE STREAM o AS SELECT a, b, id FROM s PARTITION BY a;
INSERT INTO s VALUES (1, 'x', 2);
ASSERT VALUES o (a, b, id) VALUES ('x', 2, 1);

--@test: KAFKA values
CREATE STREAM s (id STRING KEY, v BIGINT) WITH (kafka_topic = 's', format = 'KAFKA');
CREATE STREAM o AS SELECT id, v * 2 AS v FROM s;
INSERT INTO s VALUES ('a', 21);
ASSERT VALUES o VALUES ('a', 42);

--@test: a single value that is not wrapped
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON', wrap_single_value = false);
CREATE STREAM o WITH (wrap_single_value = true) AS SELECT * FROM s;
INSERT INTO s VALUES (1, 5);
ASSERT VALUES o VALUES (1, 5);

--@test: dates and times
CREATE STREAM s (id INT KEY, d DATE, t TIME, ts TIMESTAMP) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE STREAM o AS SELECT * FROM s;
INSERT INTO s VALUES (1, '2026-02-03', '04:05:06', '2026-02-03T04:05:06');
ASSERT VALUES o VALUES (1, '2026-02-03', '04:05:06', '2026-02-03T04:05:06');
