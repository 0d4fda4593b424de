-- Keys: PARTITION BY, AS_VALUE, keys of other formats.

--@test: PARTITION BY makes a column the key
CREATE STREAM s (id INT KEY, name STRING) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE STREAM by_name AS SELECT name, id FROM s PARTITION BY name;
INSERT INTO s VALUES (1, 'a');
INSERT INTO s VALUES (2, NULL);
ASSERT VALUES by_name (name, id) VALUES ('a', 1);
ASSERT VALUES by_name (id) VALUES (2);
ASSERT STREAM by_name (name STRING KEY, id INT) WITH (kafka_topic = 'BY_NAME', value_format = 'JSON');

--@test: AS_VALUE copies the key into the value
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE STREAM o AS SELECT id, AS_VALUE(id) AS copied FROM s;
INSERT INTO s VALUES (1, 5);
ASSERT VALUES o VALUES (1, 1);

--@test: a stream may have no key
CREATE STREAM s (v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE STREAM o AS SELECT v + 1 AS w FROM s;
INSERT INTO s VALUES (1);
ASSERT VALUES o VALUES (2);

--@test: a key of several columns
CREATE STREAM s (a INT KEY, b STRING KEY, v INT) WITH (kafka_topic = 's', format = 'JSON');
CREATE STREAM o AS SELECT a, b, v FROM s;
INSERT INTO s VALUES (1, 'x', 5);
ASSERT VALUES o VALUES (1, 'x', 5);
ASSERT STREAM o (a INT KEY, b STRING KEY, v INT) WITH (kafka_topic = 'O', format = 'JSON');

--@test: a star under PARTITION BY a pseudo column
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE STREAM o AS SELECT * FROM s PARTITION BY ROWPARTITION;
INSERT INTO s VALUES (7, 5);
ASSERT VALUES o (v, id) VALUES (5, 7);
