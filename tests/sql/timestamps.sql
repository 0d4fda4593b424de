-- Where row times come from.

--@test: the row time of a column
CREATE STREAM s (id INT KEY, ts BIGINT) WITH (kafka_topic = 's', value_format = 'JSON', timestamp = 'ts');
CREATE STREAM o AS SELECT id, ts FROM s;
INSERT INTO s (ROWTIME, id, ts) VALUES (1, 1, 5000);
ASSERT VALUES o (ROWTIME, id) VALUES (5000, 1);

--@test: the row time of a text
CREATE STREAM s (id INT KEY, ts STRING) WITH (kafka_topic = 's', value_format = 'JSON', timestamp = 'ts', timestamp_format = 'yyyy-MM-dd HH:mm:ss');
CREATE STREAM o AS SELECT id, ts FROM s;
INSERT INTO s (id, ts) VALUES (1, '1970-01-01 00:00:01');
ASSERT VALUES o (ROWTIME, id) VALUES (1000, 1);

--@test: a row without a readable time is dropped
CREATE STREAM s (id INT KEY, ts STRING) WITH (kafka_topic = 's', value_format = 'JSON', timestamp = 'ts', timestamp_format = 'yyyy-MM-dd');
CREATE STREAM o AS SELECT id, ts FROM s;
INSERT INTO s (id, ts) VALUES (1, 'soon');
INSERT INTO s (id, ts) VALUES (2, '1970-01-02');
ASSERT VALUES o (ROWTIME, id) VALUES (86400000, 2);

--@test: a sink with its own timestamp
CREATE STREAM s (id INT KEY, ts BIGINT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE STREAM o WITH (timestamp = 'ts') AS SELECT id, ts FROM s;
INSERT INTO s (ROWTIME, id, ts) VALUES (1, 1, 77);
ASSERT VALUES o (ROWTIME, id) VALUES (77, 1);
