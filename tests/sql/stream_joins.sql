-- Joins of two streams, alone and with others.

--@test: rows of one key meet if they are near in time
CREATE STREAM orders (id INT KEY, item STRING) WITH (kafka_topic = 'orders', value_format = 'JSON');
CREATE STREAM payments (id INT KEY, paid INT) WITH (kafka_topic = 'payments', value_format = 'JSON');
CREATE STREAM paid AS SELECT o.id AS id, item, paid FROM orders o JOIN payments p WITHIN 10 SECONDS GRACE PERIOD 1 MINUTE ON o.id = p.id;
INSERT INTO orders (rowtime, id, item) VALUES (1000, 1, 'pen');
INSERT INTO payments (rowtime, id, paid) VALUES (11000, 1, 5);
INSERT INTO payments (rowtime, id, paid) VALUES (11001, 1, 6);
INSERT INTO orders (rowtime, id, item) VALUES (2000, 1, 'ink');
ASSERT VALUES paid (rowtime, id, item, paid) VALUES (11000, 1, 'pen', 5);
ASSERT VALUES paid (rowtime, id, item, paid) VALUES (11000, 1, 'ink', 5);
ASSERT VALUES paid (rowtime, id, item, paid) VALUES (11001, 1, 'ink', 6);

--@test: before and after may differ
CREATE STREAM l (id INT KEY, a STRING) WITH (kafka_topic = 'l', value_format = 'JSON');
CREATE STREAM r (id INT KEY, b STRING) WITH (kafka_topic = 'r', value_format = 'JSON');
CREATE STREAM j AS SELECT l.id AS id, a, b FROM l JOIN r WITHIN (1 SECOND, 5 SECONDS) GRACE PERIOD 0 SECONDS ON l.id = r.id;
INSERT INTO r (rowtime, id, b) VALUES (8999, 1, 'too old');
INSERT INTO r (rowtime, id, b) VALUES (9000, 1, 'just in');
INSERT INTO l (rowtime, id, a) VALUES (10000, 1, 'x');
INSERT INTO r (rowtime, id, b) VALUES (15000, 1, 'just in, too');
INSERT INTO r (rowtime, id, b) VALUES (15001, 1, 'too new');
ASSERT VALUES j (rowtime, id, a, b) VALUES (10000, 1, 'x', 'just in');
ASSERT VALUES j (rowtime, id, a, b) VALUES (15000, 1, 'x', 'just in, too');

--@test: with a grace period a row is held until it cannot find a partner any more
CREATE STREAM l (id INT KEY, a STRING) WITH (kafka_topic = 'l', value_format = 'JSON');
CREATE STREAM r (id INT KEY, b STRING) WITH (kafka_topic = 'r', value_format = 'JSON');
CREATE STREAM j AS SELECT ROWKEY AS id, a, b FROM l FULL OUTER JOIN r WITHIN 1 SECOND GRACE PERIOD 1 SECOND ON l.id = r.id;
INSERT INTO l (rowtime, id, a) VALUES (1000, 1, 'alone');
INSERT INTO l (rowtime, id, a) VALUES (1000, 2, 'found');
INSERT INTO r (rowtime, id, b) VALUES (2000, 2, 'it');
INSERT INTO r (rowtime, id, b) VALUES (1500, 3, 'alone too');
INSERT INTO r (rowtime, id, b) VALUES (4000, 9, 'time goes on');
ASSERT VALUES j (rowtime, id, a, b) VALUES (2000, 2, 'found', 'it');
ASSERT VALUES j (rowtime, id, a, b) VALUES (1000, 1, 'alone', NULL);
ASSERT VALUES j (rowtime, id, a, b) VALUES (1500, 3, NULL, 'alone too');

--@test: without one it is given at once, and again when a partner comes
CREATE STREAM l (id INT KEY, a STRING) WITH (kafka_topic = 'l', value_format = 'JSON');
CREATE STREAM r (id INT KEY, b STRING) WITH (kafka_topic = 'r', value_format = 'JSON');
CREATE STREAM j AS SELECT l.id AS id, a, b FROM l LEFT JOIN r WITHIN 1 SECOND ON l.id = r.id;
INSERT INTO l (rowtime, id, a) VALUES (1000, 1, 'x');
INSERT INTO r (rowtime, id, b) VALUES (1001, 1, 'y');
ASSERT VALUES j (rowtime, id, a, b) VALUES (1000, 1, 'x', NULL);
ASSERT VALUES j (rowtime, id, a, b) VALUES (1001, 1, 'x', 'y');

--@test: sides with other keys, key formats and partitions are written anew
CREATE STREAM l (id INT KEY, k INT, a STRING) WITH (kafka_topic = 'l', key_format = 'JSON', value_format = 'JSON', partitions = 3);
CREATE STREAM r (b STRING, k INT) WITH (kafka_topic = 'r', value_format = 'JSON', partitions = 2);
CREATE STREAM j AS SELECT l.k AS k, a, b FROM l JOIN r WITHIN 1 SECOND GRACE PERIOD 0 SECONDS ON l.k = r.k;
INSERT INTO l VALUES (1, 7, 'x');
INSERT INTO l VALUES (2, 8, 'y');
INSERT INTO r VALUES ('seven', 7);
INSERT INTO r VALUES ('eight', 8);
ASSERT VALUES j VALUES (7, 'x', 'seven');
ASSERT VALUES j VALUES (8, 'y', 'eight');

--@test: streams of one key column and another key format are joined
CREATE STREAM l (k INT KEY, a STRING) WITH (kafka_topic = 'l', key_format = 'KAFKA', value_format = 'JSON', partitions = 2);
CREATE STREAM r (k INT KEY, b STRING) WITH (kafka_topic = 'r', key_format = 'JSON', value_format = 'JSON', partitions = 4);
CREATE STREAM j AS SELECT l.k AS k, a, b FROM l JOIN r WITHIN 1 SECOND GRACE PERIOD 0 SECONDS ON l.k = r.k;
INSERT INTO l VALUES (1, 'x');
INSERT INTO r VALUES (1, 'one');
ASSERT VALUES j VALUES (1, 'x', 'one');

--@test: tables of another key format and partition count are joined
CREATE TABLE l (k INT PRIMARY KEY, a STRING) WITH (kafka_topic = 'l', key_format = 'KAFKA', value_format = 'JSON', partitions = 2);
CREATE TABLE r (k INT PRIMARY KEY, b STRING) WITH (kafka_topic = 'r', key_format = 'JSON', value_format = 'JSON', partitions = 4);
CREATE TABLE j AS SELECT l.k AS k, a, b FROM l JOIN r ON l.k = r.k;
INSERT INTO l VALUES (1, 'x');
INSERT INTO r VALUES (1, 'one');
INSERT INTO r VALUES (1, 'two');
ASSERT VALUES j VALUES (1, 'x', 'one');
ASSERT VALUES j VALUES (1, 'x', 'two');

--@test: an expression in ON makes the key
CREATE STREAM l (id INT KEY, a INT) WITH (kafka_topic = 'l', value_format = 'JSON');
CREATE STREAM r (id INT KEY, b INT) WITH (kafka_topic = 'r', value_format = 'JSON');
CREATE STREAM j AS SELECT ROWKEY AS k, a, b FROM l JOIN r WITHIN 1 SECOND GRACE PERIOD 0 SECONDS ON ABS(l.a) = ABS(r.b);
INSERT INTO l VALUES (1, -5);
INSERT INTO r VALUES (2, 5);
ASSERT VALUES j VALUES (5, -5, 5);

--@test: streams and tables join in one query, each with its own time
CREATE STREAM a (id INT KEY, x STRING) WITH (kafka_topic = 'a', value_format = 'JSON');
CREATE STREAM b (id INT KEY, y STRING) WITH (kafka_topic = 'b', value_format = 'JSON');
CREATE TABLE t (id INT PRIMARY KEY, z STRING) WITH (kafka_topic = 't', value_format = 'JSON');
CREATE STREAM c (id INT KEY, w STRING) WITH (kafka_topic = 'c', value_format = 'JSON');
CREATE STREAM j AS SELECT a.id AS id, x, y, z, w FROM a
  JOIN b WITHIN 1 SECOND GRACE PERIOD 0 SECONDS ON a.id = b.id
  LEFT JOIN t ON b.id = t.id
  LEFT JOIN c WITHIN 5 SECONDS GRACE PERIOD 0 SECONDS ON a.id = c.id;
INSERT INTO t (rowtime, id, z) VALUES (0, 1, 'z');
INSERT INTO a (rowtime, id, x) VALUES (1000, 1, 'x');
INSERT INTO b (rowtime, id, y) VALUES (1500, 1, 'y');
INSERT INTO c (rowtime, id, w) VALUES (4000, 1, 'w');
INSERT INTO a (rowtime, id, x) VALUES (8000, 2, 'x2');
INSERT INTO b (rowtime, id, y) VALUES (8000, 2, 'y2');
INSERT INTO c (rowtime, id, w) VALUES (20000, 3, 'w3');
ASSERT VALUES j (rowtime, id, x, y, z, w) VALUES (4000, 1, 'x', 'y', 'z', 'w');
ASSERT VALUES j (rowtime, id, x, y, z, w) VALUES (8000, 2, 'x2', 'y2', NULL, NULL);

--@test: rows without key are kept by the outer side only
CREATE STREAM l (id INT, a STRING) WITH (kafka_topic = 'l', value_format = 'JSON');
CREATE STREAM r (id INT KEY, b STRING) WITH (kafka_topic = 'r', value_format = 'JSON');
CREATE STREAM i AS SELECT l.id AS id, a, b FROM l JOIN r WITHIN 1 SECOND GRACE PERIOD 0 SECONDS ON l.id = r.id;
CREATE STREAM o AS SELECT l.id AS id, a, b FROM l LEFT JOIN r WITHIN 1 SECOND GRACE PERIOD 0 SECONDS ON l.id = r.id;
INSERT INTO r VALUES (1, 'y');
INSERT INTO l (a) VALUES ('no key');
INSERT INTO l VALUES (1, 'x');
ASSERT VALUES i VALUES (1, 'x', 'y');
ASSERT VALUES o VALUES (NULL, 'no key', NULL);
ASSERT VALUES o VALUES (1, 'x', 'y');

--@test: windowed streams join on key and window
CREATE STREAM l (k STRING KEY, a INT) WITH (kafka_topic = 'l', value_format = 'JSON');
CREATE STREAM r (k STRING KEY, b INT) WITH (kafka_topic = 'r', value_format = 'JSON');
CREATE TABLE lw AS SELECT k, COUNT(*) AS n FROM l WINDOW TUMBLING (SIZE 1 SECOND) GROUP BY k;
CREATE TABLE rw AS SELECT k, COUNT(*) AS m FROM r WINDOW TUMBLING (SIZE 1 SECOND) GROUP BY k;
CREATE STREAM ls (k STRING KEY, n BIGINT) WITH (kafka_topic = 'LW', value_format = 'JSON', window_type = 'TUMBLING', window_size = '1 SECOND');
CREATE STREAM rs (k STRING KEY, m BIGINT) WITH (kafka_topic = 'RW', value_format = 'JSON', window_type = 'TUMBLING', window_size = '1 SECOND');
CREATE STREAM j AS SELECT ls.k AS k, ls.windowstart AS since, n, m FROM ls JOIN rs WITHIN 1 MINUTE GRACE PERIOD 0 SECONDS ON ls.k = rs.k;
INSERT INTO l (rowtime, k, a) VALUES (500, 'a', 1);
INSERT INTO r (rowtime, k, b) VALUES (1500, 'a', 1);
INSERT INTO r (rowtime, k, b) VALUES (600, 'a', 1);
ASSERT VALUES j (rowtime, k, since, n, m) VALUES (600, 'a', 0, 1, 1);

--@test: a stream cannot meet itself
CREATE STREAM s (id INT KEY, a STRING) WITH (kafka_topic = 's', value_format = 'JSON');
--@expected.message: self joins are not yet supported
CREATE STREAM j AS SELECT * FROM s a JOIN s b WITHIN 1 SECOND ON a.id = b.id;

--@test: streams need a WITHIN clause
CREATE STREAM l (id INT KEY, a STRING) WITH (kafka_topic = 'l', value_format = 'JSON');
CREATE STREAM r (id INT KEY, b STRING) WITH (kafka_topic = 'r', value_format = 'JSON');
--@expected.message: stream-stream joins must have a WITHIN clause specified
CREATE STREAM j AS SELECT * FROM l JOIN r ON l.id = r.id;

--@test: streams that stay where they are need the same number of partitions
CREATE STREAM l (id INT KEY, a STRING) WITH (kafka_topic = 'l', value_format = 'JSON', partitions = 1);
CREATE STREAM r (id INT KEY, b STRING) WITH (kafka_topic = 'r', value_format = 'JSON', partitions = 2);
--@expected.message: Please repartition either one so that the number of partitions match
CREATE STREAM j AS SELECT * FROM l JOIN r WITHIN 1 SECOND ON l.id = r.id;

--@test: a windowed stream is not written anew
CREATE STREAM l (k STRING KEY, n BIGINT) WITH (kafka_topic = 'l', value_format = 'JSON', window_type = 'SESSION');
CREATE STREAM r (k STRING KEY, m BIGINT, s STRING) WITH (kafka_topic = 'r', value_format = 'JSON', window_type = 'SESSION');
--@expected.message: Implicit repartitioning of windowed sources is not supported
CREATE STREAM j AS SELECT * FROM l JOIN r WITHIN 1 SECOND ON l.k = r.s;

--@test: sessions meet sessions only
CREATE STREAM l (k STRING KEY, n BIGINT) WITH (kafka_topic = 'l', value_format = 'JSON', window_type = 'SESSION');
CREATE STREAM r (k STRING KEY, m BIGINT) WITH (kafka_topic = 'r', value_format = 'JSON', window_type = 'TUMBLING', window_size = '1 SECOND');
--@expected.message: Session windowed sources can only be joined to other session windowed sources
CREATE STREAM j AS SELECT * FROM l JOIN r WITHIN 1 SECOND ON l.k = r.k;

--@test: windows of another size are not written anew
CREATE STREAM l (k STRING KEY, n BIGINT) WITH (kafka_topic = 'l', value_format = 'JSON', window_type = 'TUMBLING', window_size = '2 SECONDS');
CREATE STREAM r (k STRING KEY, m BIGINT) WITH (kafka_topic = 'r', value_format = 'JSON', window_type = 'TUMBLING', window_size = '1 SECOND');
--@expected.message: Implicit repartitioning of windowed sources is not supported
CREATE STREAM j AS SELECT * FROM l JOIN r WITHIN 1 SECOND ON l.k = r.k;
