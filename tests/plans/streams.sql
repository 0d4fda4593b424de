CREATE STREAM clicks (user_id INT KEY, page STRING, cost BIGINT, note STRING) WITH (kafka_topic = 'clicks', value_format = 'JSON', partitions = 2);
CREATE TABLE users (id INT PRIMARY KEY, name STRING, age INT) WITH (kafka_topic = 'users', value_format = 'JSON', partitions = 2);
CREATE TABLE pages (url STRING PRIMARY KEY, title STRING) WITH (kafka_topic = 'pages', value_format = 'JSON', partitions = 2);

-- columns that nobody wants are not decoded
EXPLAIN CREATE STREAM o AS SELECT user_id, UCASE(page) AS page FROM clicks WHERE cost > 10;

-- the stream is filtered before the join, what fails or reads the table after it
EXPLAIN CREATE STREAM o AS SELECT c.user_id, u.name FROM clicks c JOIN users u ON c.user_id = u.id WHERE c.cost > 10 AND u.age > 20;
EXPLAIN CREATE STREAM o AS SELECT c.user_id, u.name FROM clicks c LEFT JOIN users u ON c.user_id = u.id WHERE 100 / c.cost > 10 AND c.page = 'a';

-- and before its rows go through a topic
EXPLAIN CREATE STREAM o AS SELECT c.page, p.title FROM clicks c JOIN pages p ON c.page = p.url WHERE c.cost > 10;

-- a NOT stays as it is: a comparison with NULL is false here, so its NOT is true
EXPLAIN CREATE STREAM o AS SELECT user_id, page FROM clicks WHERE NOT (cost = 10);

EXPLAIN CREATE TABLE o AS SELECT page, COUNT(*) AS n FROM clicks WINDOW TUMBLING (SIZE 1 MINUTE) GROUP BY page HAVING COUNT(*) > 1;
