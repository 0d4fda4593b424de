-- Where row times come from.

--@test: the row time of a column
CREATE STREAM s (id INT KEY, at BIGINT) WITH (kafka_topic = 's', value_format = 'JSON', timestamp = 'at');
CREATE STREAM o AS SELECT id, at FROM s;
INSERT INTO s (ROWTIME, id, at) VALUES (1, 1, 5000);
ASSERT VALUES o (ROWTIME, id) VALUES (5000, 1);

--@test: the row time of a text
CREATE STREAM s (id INT KEY, at STRING) WITH (kafka_topic = 's', value_format = 'JSON', timestamp = 'at', timestamp_format = 'yyyy-MM-dd HH:mm:ss');
CREATE STREAM o AS SELECT id, at FROM s;
INSERT INTO s (id, at) VALUES (1, '1970-01-01 00:00:01');
ASSERT VALUES o (ROWTIME, id) VALUES (1000, 1);

--@test: a row without a readable time is dropped
CREATE STREAM s (id INT KEY, at STRING) WITH (kafka_topic = 's', value_format = 'JSON', timestamp = 'at', timestamp_format = 'yyyy-MM-dd');
CREATE STREAM o AS SELECT id, at FROM s;
INSERT INTO s (id, at) VALUES (1, 'soon');
INSERT INTO s (id, at) VALUES (2, '1970-01-02');
ASSERT VALUES o (ROWTIME, id) VALUES (86400000, 2);

--@test: a sink with its own timestamp
CREATE STREAM s (id INT KEY, at BIGINT) WITH (kafka_topic = 's', value_format = 'JSON');
CREATE STREAM o WITH (timestamp = 'at') AS SELECT id, at FROM s;
INSERT INTO s (ROWTIME, id, at) VALUES (1, 1, 77);
ASSERT VALUES o (ROWTIME, id) VALUES (77, 1);
