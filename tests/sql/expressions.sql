-- Arithmetic, CASE, casts, strings, arrays, maps and structs.

--@test: whole numbers divide without remainder, and division by zero is NULL
CREATE STREAM n (id INT KEY, a INT, b INT) WITH (kafka_topic = 'n', value_format = 'JSON');
CREATE STREAM o AS SELECT id, a / b AS q, a % b AS r FROM n;
INSERT INTO n VALUES (1, 7, 2);
INSERT INTO n VALUES (2, 7, 0);
ASSERT VALUES o VALUES (1, 3, 1);
ASSERT VALUES o VALUES (2, NULL, NULL);

--@test: decimals keep their scale
CREATE STREAM n (id INT KEY, a DECIMAL(6, 2), b DECIMAL(4, 1)) WITH (kafka_topic = 'n', value_format = 'JSON');
CREATE STREAM o AS SELECT id, a + b AS total, a * b AS product FROM n;
INSERT INTO n VALUES (1, 10.50, 2.5);
ASSERT VALUES o VALUES (1, 13.00, 26.250);
ASSERT STREAM o (id INT KEY, total DECIMAL(7, 2), product DECIMAL(11, 3)) WITH (kafka_topic = 'O', value_format = 'JSON');

--@test: CASE takes the first branch that is true
CREATE STREAM n (id INT KEY, v INT) WITH (kafka_topic = 'n', value_format = 'JSON');
CREATE STREAM o AS SELECT id, CASE WHEN v < 10 THEN 'small' WHEN v < 100 THEN 'medium' ELSE 'large' END AS bucket FROM n;
INSERT INTO n VALUES (1, 5);
INSERT INTO n VALUES (2, 50);
INSERT INTO n VALUES (3, 500);
INSERT INTO n VALUES (4, NULL);
ASSERT VALUES o VALUES (1, 'small');
ASSERT VALUES o VALUES (2, 'medium');
ASSERT VALUES o VALUES (3, 'large');
ASSERT VALUES o VALUES (4, 'large');

--@test: casts between numbers and texts
CREATE STREAM n (id INT KEY, t STRING, d DOUBLE) WITH (kafka_topic = 'n', value_format = 'JSON');
CREATE STREAM o AS SELECT id, CAST(t AS INT) AS i, CAST(d AS STRING) AS s, CAST(d AS BIGINT) AS b FROM n;
INSERT INTO n VALUES (1, '12', 1.5);
INSERT INTO n VALUES (2, 'x', 2.0);
ASSERT VALUES o VALUES (1, 12, '1.5', 1);
ASSERT VALUES o VALUES (2, NULL, '2.0', 2);

--@test: string functions and LIKE
CREATE STREAM n (id INT KEY, t STRING) WITH (kafka_topic = 'n', value_format = 'JSON');
CREATE STREAM o AS
  SELECT id, UCASE(t) AS u, LEN(t) AS l, SUBSTRING(t, 2, 2) AS s, t LIKE 'b%' AS starts, t || '!' AS loud
  FROM n;
INSERT INTO n VALUES (1, 'birds');
INSERT INTO n VALUES (2, NULL);
ASSERT VALUES o VALUES (1, 'BIRDS', 5, 'ir', true, 'birds!');
ASSERT VALUES o (id, u, l, s, loud) VALUES (2, NULL, NULL, NULL, '!');

--@test: arrays count from one, and from behind
CREATE STREAM n (id INT KEY, a ARRAY<INT>) WITH (kafka_topic = 'n', value_format = 'JSON');
CREATE STREAM o AS SELECT id, a[1] AS head, a[-1] AS last, a[9] AS beyond FROM n;
INSERT INTO n VALUES (1, ARRAY[10, 20, 30]);
ASSERT VALUES o VALUES (1, 10, 30, NULL);

--@test: maps and structs are taken apart
CREATE STREAM n (id INT KEY, m MAP<STRING, INT>, s STRUCT<a INT, b STRUCT<c STRING>>) WITH (kafka_topic = 'n', value_format = 'JSON');
CREATE STREAM o AS SELECT id, m['x'] AS x, m['y'] AS y, s->a AS a, s->b->c AS c FROM n;
INSERT INTO n VALUES (1, MAP('x' := 1), STRUCT(a := 2, b := STRUCT(c := 'deep')));
ASSERT VALUES o VALUES (1, 1, NULL, 2, 'deep');

--@test: IN and BETWEEN
CREATE STREAM n (id INT KEY, v INT) WITH (kafka_topic = 'n', value_format = 'JSON');
CREATE STREAM o AS SELECT id, v IN (1, 3) AS listed, v BETWEEN 2 AND 3 AS between2 FROM n;
INSERT INTO n VALUES (1, 1);
INSERT INTO n VALUES (2, 2);
INSERT INTO n VALUES (3, 3);
ASSERT VALUES o VALUES (1, true, false);
ASSERT VALUES o VALUES (2, false, true);
ASSERT VALUES o VALUES (3, true, true);

--@test: COALESCE and IFNULL
CREATE STREAM n (id INT KEY, a STRING, b STRING) WITH (kafka_topic = 'n', value_format = 'JSON');
CREATE STREAM o AS SELECT id, COALESCE(a, b, 'none') AS first, IFNULL(a, '-') AS a FROM n;
INSERT INTO n VALUES (1, NULL, 'b');
INSERT INTO n VALUES (2, NULL, NULL);
ASSERT VALUES o VALUES (1, 'b', '-');
ASSERT VALUES o VALUES (2, 'none', '-');

--@test: the common type of numbers with NULLs and texts among them
CREATE STREAM s (id INT KEY, a INT, b BIGINT, d DECIMAL(9, 3)) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE STREAM o AS SELECT id, GREATEST(d, NULL) AS g, LEAST(CAST(b AS DECIMAL(19, 0)), d) AS l, ARRAY[NULL, 10, '2e1', a, b] AS x FROM s;
INSERT INTO s VALUES (1, 2, 3, 4.5);
ASSERT VALUES o (id, g, l) VALUES (1, 4.500, 3.000);
ASSERT STREAM o (id INT KEY, g DECIMAL(9, 3), l DECIMAL(22, 3), x ARRAY<DECIMAL(19, 0)>) WITH (kafka_topic = 'O', value_format = 'JSON');
