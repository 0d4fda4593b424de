-- Joins of a stream with a table, and of tables.

--@test: a stream row meets the table as it is then
CREATE TABLE users (id INT PRIMARY KEY, name STRING) WITH (kafka_topic = 'users', value_format = 'JSON');
CREATE STREAM orders (user_id INT KEY, item STRING) WITH (kafka_topic = 'orders', value_format = 'JSON');
CREATE STREAM named AS SELECT o.user_id AS user_id, o.item AS item, u.name AS name FROM orders o JOIN users u ON o.user_id = u.id;
INSERT INTO orders VALUES (1, 'early');
INSERT INTO users VALUES (1, 'Ada');
INSERT INTO orders VALUES (1, 'pen');
INSERT INTO users VALUES (1, 'Grace');
INSERT INTO orders VALUES (1, 'ink');
ASSERT VALUES named VALUES (1, 'pen', 'Ada');
ASSERT VALUES named VALUES (1, 'ink', 'Grace');

--@test: a LEFT JOIN keeps rows without partner
CREATE TABLE users (id INT PRIMARY KEY, name STRING) WITH (kafka_topic = 'users', value_format = 'JSON');
CREATE STREAM orders (user_id INT KEY, item STRING) WITH (kafka_topic = 'orders', value_format = 'JSON');
CREATE STREAM named AS SELECT o.user_id AS user_id, item, name FROM orders o LEFT JOIN users u ON o.user_id = u.id;
INSERT INTO orders VALUES (1, 'early');
INSERT INTO users VALUES (1, 'Ada');
INSERT INTO orders VALUES (1, 'pen');
ASSERT VALUES named VALUES (1, 'early', NULL);
ASSERT VALUES named VALUES (1, 'pen', 'Ada');

--@test: a stream that is keyed otherwise is repartitioned for the join
CREATE TABLE users (id INT PRIMARY KEY, name STRING) WITH (kafka_topic = 'users', value_format = 'JSON');
CREATE STREAM orders (order_id INT KEY, user_id INT) WITH (kafka_topic = 'orders', value_format = 'JSON');
CREATE STREAM named AS SELECT o.user_id AS user_id, order_id, name FROM orders o JOIN users u ON o.user_id = u.id;
INSERT INTO users VALUES (7, 'Ada');
INSERT INTO orders VALUES (100, 7);
ASSERT VALUES named VALUES (7, 100, 'Ada');

--@test: tables join on both sides' changes
CREATE TABLE l (id INT PRIMARY KEY, a STRING) WITH (kafka_topic = 'l', value_format = 'JSON');
CREATE TABLE r (id INT PRIMARY KEY, b STRING) WITH (kafka_topic = 'r', value_format = 'JSON');
CREATE TABLE j AS SELECT l.id AS id, a, b FROM l JOIN r ON l.id = r.id;
INSERT INTO l VALUES (1, 'a1');
INSERT INTO r VALUES (1, 'b1');
INSERT INTO l VALUES (1, 'a2');
INSERT INTO r VALUES (1, 'b2');
ASSERT VALUES j VALUES (1, 'a1', 'b1');
ASSERT VALUES j VALUES (1, 'a2', 'b1');
ASSERT VALUES j VALUES (1, 'a2', 'b2');

--@test: a FULL OUTER JOIN of tables shows either side alone
CREATE TABLE l (id INT PRIMARY KEY, a STRING) WITH (kafka_topic = 'l', value_format = 'JSON');
CREATE TABLE r (id INT PRIMARY KEY, b STRING) WITH (kafka_topic = 'r', value_format = 'JSON');
CREATE TABLE j AS SELECT ROWKEY AS id, a, b FROM l FULL OUTER JOIN r ON l.id = r.id;
INSERT INTO l VALUES (1, 'a1');
INSERT INTO r VALUES (1, 'b1');
INSERT INTO r VALUES (2, 'b2');
ASSERT VALUES j VALUES (1, 'a1', NULL);
ASSERT VALUES j VALUES (1, 'a1', 'b1');
ASSERT VALUES j VALUES (2, NULL, 'b2');
