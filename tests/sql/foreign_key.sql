-- Foreign-key joins of tables.

--@test: each change of either side gives the joined row
CREATE TABLE orders (id INT PRIMARY KEY, item STRING, customer STRING) WITH (kafka_topic = 'orders', value_format = 'JSON');
CREATE TABLE customers (name STRING PRIMARY KEY, city STRING) WITH (kafka_topic = 'customers', value_format = 'JSON');
CREATE TABLE sent AS SELECT o.id AS id, item, name, city FROM orders o JOIN customers c ON o.customer = c.name;
INSERT INTO orders (id, item, customer) VALUES (1, 'pen', 'ada');
INSERT INTO customers (name, city) VALUES ('ada', 'London');
INSERT INTO orders (id, item, customer) VALUES (2, 'ink', 'ada');
INSERT INTO customers (name, city) VALUES ('ada', 'Paris');
INSERT INTO customers (name, city) VALUES ('max', 'Rome');
INSERT INTO orders (id, item, customer) VALUES (2, 'ink', 'max');
ASSERT VALUES sent (id, item, name, city) VALUES (1, 'pen', 'ada', 'London');
ASSERT VALUES sent (id, item, name, city) VALUES (2, 'ink', 'ada', 'London');
ASSERT VALUES sent (id, item, name, city) VALUES (1, 'pen', 'ada', 'Paris');
ASSERT VALUES sent (id, item, name, city) VALUES (2, 'ink', 'ada', 'Paris');
ASSERT VALUES sent (id, item, name, city) VALUES (2, 'ink', 'max', 'Rome');

--@test: an inner join takes a row away when the right one goes, or its reference points nowhere
CREATE TABLE l (id INT PRIMARY KEY, f INT) WITH (kafka_topic = 'l', value_format = 'JSON');
CREATE TABLE r (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 'r', value_format = 'DELIMITED');
CREATE TABLE j AS SELECT l.id AS id, f, v FROM l JOIN r ON f = r.id;
INSERT INTO r (id, v) VALUES (7, 'seven');
INSERT INTO l (id, f) VALUES (1, 7);
INSERT INTO l (id, f) VALUES (1, 8);
INSERT INTO l (id, f) VALUES (2, 7);
INSERT INTO l (id, f) VALUES (2, NULL);
ASSERT VALUES j (id, f, v) VALUES (1, 7, 'seven');
ASSERT NULL VALUES j KEY (1);
ASSERT VALUES j (id, f, v) VALUES (2, 7, 'seven');
ASSERT NULL VALUES j KEY (2);

--@test: a left join keeps rows without a right one, also those that refer to nothing
CREATE TABLE l (id INT PRIMARY KEY, f INT) WITH (kafka_topic = 'l', value_format = 'JSON');
CREATE TABLE r (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 'r', value_format = 'JSON');
CREATE TABLE j AS SELECT l.id AS id, f, r.id AS r, v FROM l LEFT JOIN r ON f = r.id;
INSERT INTO l (id, f) VALUES (1, 7);
INSERT INTO r (id, v) VALUES (7, 'seven');
INSERT INTO l (id, f) VALUES (1, NULL);
INSERT INTO l (id, f) VALUES (1, 7);
ASSERT VALUES j (id, f, r, v) VALUES (1, 7, NULL, NULL);
ASSERT VALUES j (id, f, r, v) VALUES (1, 7, 7, 'seven');
ASSERT VALUES j (id, f, r, v) VALUES (1, NULL, NULL, NULL);
ASSERT VALUES j (id, f, r, v) VALUES (1, 7, 7, 'seven');

--@test: the reference may be an expression, the condition the other way round, partitions and key formats differ
CREATE TABLE l (a STRING PRIMARY KEY, b STRING PRIMARY KEY, f INT) WITH (kafka_topic = 'l', format = 'JSON', partitions = 3);
CREATE TABLE r (id INT PRIMARY KEY, v STRING) WITH (kafka_topic = 'r', value_format = 'JSON', partitions = 2);
CREATE TABLE j AS SELECT a, b, v FROM l JOIN r ON r.id = f + 1;
INSERT INTO r (id, v) VALUES (2, 'two');
INSERT INTO l (a, b, f) VALUES ('x', 'y', 1);
INSERT INTO r (id, v) VALUES (2, 'zwei');
ASSERT VALUES j (a, b, v) VALUES ('x', 'y', 'two');
ASSERT VALUES j (a, b, v) VALUES ('x', 'y', 'zwei');

--@test: a WHERE on the joined table takes rows away that pass no more
CREATE TABLE l (id INT PRIMARY KEY, f INT) WITH (kafka_topic = 'l', value_format = 'JSON');
CREATE TABLE r (id INT PRIMARY KEY, v INT) WITH (kafka_topic = 'r', value_format = 'JSON');
CREATE TABLE j AS SELECT l.id AS id, v FROM l JOIN r ON f = r.id WHERE v > 10;
INSERT INTO l (id, f) VALUES (1, 7);
INSERT INTO r (id, v) VALUES (7, 5);
INSERT INTO r (id, v) VALUES (7, 15);
INSERT INTO r (id, v) VALUES (7, 6);
ASSERT VALUES j (id, v) VALUES (1, 15);
ASSERT NULL VALUES j KEY (1);

--@test: only the first of several joins may be by a foreign key
--@expected.error: KsqlException
--@expected.message: foreign-key table-table joins are not supported as part of n-way joins
CREATE TABLE a (id INT PRIMARY KEY, f INT) WITH (kafka_topic = 'a', value_format = 'JSON');
CREATE TABLE b (id INT PRIMARY KEY, v INT) WITH (kafka_topic = 'b', value_format = 'JSON');
CREATE TABLE c (id INT PRIMARY KEY, w INT) WITH (kafka_topic = 'c', value_format = 'JSON');
CREATE TABLE j AS SELECT a.id AS id, v, w FROM a JOIN b ON a.id = b.id JOIN c ON a.f = c.id;

--@test: no FULL OUTER JOIN on a foreign key
--@expected.error: KsqlException
--@expected.message: FULL OUTER JOIN on a foreign key is not supported
CREATE TABLE a (id INT PRIMARY KEY, f INT) WITH (kafka_topic = 'a', value_format = 'JSON');
CREATE TABLE b (id INT PRIMARY KEY, v INT) WITH (kafka_topic = 'b', value_format = 'JSON');
CREATE TABLE j AS SELECT a.id AS id, v FROM a FULL OUTER JOIN b ON a.f = b.id;
