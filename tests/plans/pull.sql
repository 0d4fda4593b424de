CREATE STREAM clicks (user_id INT KEY, page STRING, cost BIGINT) WITH (kafka_topic = 'clicks', value_format = 'JSON', partitions = 1);
CREATE TABLE per_user AS SELECT user_id, COUNT(*) AS n, SUM(cost) AS total FROM clicks GROUP BY user_id;
CREATE TABLE per_page WITH (key_format = 'JSON') AS SELECT page, user_id, COUNT(*) AS n FROM clicks WINDOW TUMBLING (SIZE 1 MINUTE) GROUP BY page, user_id;

EXPLAIN SELECT * FROM per_user WHERE user_id = 7;
EXPLAIN SELECT n FROM per_user WHERE user_id IN (1, 2) OR user_id BETWEEN 10 AND 20;
EXPLAIN SELECT total FROM per_user WHERE n > 3 LIMIT 5;
EXPLAIN SELECT n FROM per_page WHERE page = 'a' AND user_id > 3 AND WINDOWSTART >= '2024-01-01';
EXPLAIN SELECT p.page, u.total FROM per_page p LEFT JOIN per_user u ON p.user_id = u.user_id WHERE p.page = 'a' AND p.n > 1 ORDER BY u.total DESC LIMIT 3;
EXPLAIN SELECT page, COUNT(*) AS c FROM clicks WHERE cost > 1 GROUP BY page;
