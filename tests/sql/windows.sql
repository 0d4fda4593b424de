-- Tumbling and hopping windows.

--@test: a tumbling window counts the rows of its span
CREATE STREAM clicks (page INT KEY, ms INT) WITH (kafka_topic = 'clicks', value_format = 'JSON');
CREATE TABLE per_second AS SELECT page, COUNT(*) AS n FROM clicks WINDOW TUMBLING (SIZE 1 SECOND) GROUP BY page;
INSERT INTO clicks (ROWTIME, page, ms) VALUES (0, 1, 1);
INSERT INTO clicks (ROWTIME, page, ms) VALUES (999, 1, 1);
INSERT INTO clicks (ROWTIME, page, ms) VALUES (1000, 1, 1);
ASSERT VALUES per_second (page, WINDOWSTART, WINDOWEND, n) VALUES (1, 0, 1000, 1);
ASSERT VALUES per_second (page, WINDOWSTART, WINDOWEND, n) VALUES (1, 0, 1000, 2);
ASSERT VALUES per_second (page, WINDOWSTART, WINDOWEND, n) VALUES (1, 1000, 2000, 1);

--@test: a late row still counts within the grace period, and not after it
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE t AS SELECT id, COUNT(*) AS n FROM s WINDOW TUMBLING (SIZE 10 MILLISECONDS, GRACE PERIOD 10 MILLISECONDS) GROUP BY id;
INSERT INTO s (ROWTIME, id, v) VALUES (5, 1, 1);
INSERT INTO s (ROWTIME, id, v) VALUES (15, 1, 1);
INSERT INTO s (ROWTIME, id, v) VALUES (6, 1, 1);
INSERT INTO s (ROWTIME, id, v) VALUES (25, 1, 1);
INSERT INTO s (ROWTIME, id, v) VALUES (7, 1, 1);
INSERT INTO s (ROWTIME, id, v) VALUES (16, 1, 1);
ASSERT VALUES t (WINDOWSTART, n) VALUES (0, 1);
ASSERT VALUES t (WINDOWSTART, n) VALUES (10, 1);
ASSERT VALUES t (WINDOWSTART, n) VALUES (0, 2);
ASSERT VALUES t (WINDOWSTART, n) VALUES (20, 1);
ASSERT VALUES t (WINDOWSTART, n) VALUES (10, 2);

--@test: a row falls into every hopping window that holds it
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE t AS SELECT id, SUM(v) AS total FROM s WINDOW HOPPING (SIZE 30 MILLISECONDS, ADVANCE BY 10 MILLISECONDS) GROUP BY id;
INSERT INTO s (ROWTIME, id, v) VALUES (15, 1, 1);
INSERT INTO s (ROWTIME, id, v) VALUES (35, 1, 2);
ASSERT VALUES t (WINDOWSTART, total) VALUES (0, 1);
ASSERT VALUES t (WINDOWSTART, total) VALUES (10, 1);
ASSERT VALUES t (WINDOWSTART, total) VALUES (10, 3);
ASSERT VALUES t (WINDOWSTART, total) VALUES (20, 2);
ASSERT VALUES t (WINDOWSTART, total) VALUES (30, 2);

--@test: window bounds can be selected
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE t AS SELECT id, WINDOWSTART AS ws, WINDOWEND AS we, COUNT(*) AS n FROM s WINDOW TUMBLING (SIZE 10 MILLISECONDS) GROUP BY id;
INSERT INTO s (ROWTIME, id, v) VALUES (12, 1, 1);
ASSERT VALUES t (id, ws, we, n) VALUES (1, 10, 20, 1);

--@test: a star over a windowed stream leaves the window in the key
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE TABLE t AS SELECT id, COUNT(*) AS n FROM s WINDOW TUMBLING (SIZE 10 SECONDS) GROUP BY id;
CREATE STREAM w (id INT KEY, n BIGINT) WITH (kafka_topic = 'T', value_format = 'JSON', window_type = 'tumbling', window_size = '10 seconds');
CREATE STREAM o AS SELECT * FROM w WHERE WINDOWSTART > 0;
INSERT INTO s (ROWTIME, id, v) VALUES (1, 7, 5);
INSERT INTO s (ROWTIME, id, v) VALUES (10001, 7, 5);
ASSERT VALUES o (ROWTIME, id, n) VALUES (10001, 7, 1);
