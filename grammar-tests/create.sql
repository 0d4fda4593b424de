CREATE STREAM clicks (user_id BIGINT KEY, url VARCHAR) WITH (kafka_topic = 'clicks', value_format = 'JSON');

create table Users (id INT PRIMARY KEY, `displayName` STRING, "Mixed ""Case""" DOUBLE) with (KAFKA_TOPIC='users', VALUE_FORMAT='avro', PARTITIONS=3);

CREATE OR REPLACE STREAM IF NOT EXISTS s (k STRING KEY, k2 INT KEY, v BYTES) WITH (FORMAT='KAFKA', Partitions=4, replicas = 1);

CREATE SOURCE TABLE IF NOT EXISTS t (id STRING PRIMARY KEY, n DECIMAL(10, 2)) WITH (kafka_topic='t', format='JSON', wrap_single_value=false);

CREATE SOURCE STREAM raw WITH (kafka_topic='raw', value_format='PROTOBUF', value_schema_id=12);

CREATE STREAM bare;

CREATE STREAM h (id INT KEY, all_of_them ARRAY<STRUCT<key STRING, value BYTES>> HEADERS, one BYTES HEADER('x-''id')) WITH (kafka_topic='h', value_format='JSON');

CREATE STREAM types (a BOOLEAN, b INT, c INTEGER, d BIGINT, e DOUBLE, f STRING, g VARCHAR, h VARCHAR(20), i BYTES, j DECIMAL(38,0), k DATE, l TIME, m TIMESTAMP, n ARRAY<INT>, o INT ARRAY, p MAP<STRING, ARRAY<MAP<STRING, INT>>>, q STRUCT<a INT, `b` STRUCT<c STRING>>, r STRUCT<>, s STRUCT < >, t address, u `myType`, v VARCHAR(STRING), w INT(3)) WITH (kafka_topic='t', value_format='JSON');

CREATE STREAM words (key STRING, value STRING, id INT, type INT, session INT, date DATE, `select` INT, day INT, array INT, source INT) WITH (kafka_topic='t', value_format='JSON');

CREATE STREAM digits (1st INT, 2@nd INT, _x INT, a@b INT) WITH ('kafka_topic'='t', `value_format`='JSON');

CREATE TABLE w (id INT PRIMARY KEY) WITH (kafka_topic='w', value_format='JSON', window_type='HOPPING', window_size='30 seconds', timestamp='ts', timestamp_format='yyyy-MM-dd''T''HH', retention_ms=-1);

CREATE STREAM `dash-name` (a INT) WITH (kafka_topic='d', value_format='JSON'); -- a comment; with a semicolon

CREATE /* inside */ STREAM c (a INT -- to the end of the line
  , b INT) WITH (kafka_topic='''', value_format='JSON');

CREATE SOURCE CONNECTOR IF NOT EXISTS jdbc WITH ('connector.class'='JdbcSource', "topic.prefix"='p-', mode='bulk');

CREATE SINK CONNECTOR `lower` WITH ('a'='b');

CREATE TYPE address AS STRUCT<street VARCHAR, zip INT>;

CREATE TYPE IF NOT EXISTS ids AS ARRAY<BIGINT>;
