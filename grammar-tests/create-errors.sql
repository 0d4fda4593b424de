CREATE STREAM (a INT);

CREATE STREAM s a INT;

CREATE STREAM s () WITH (kafka_topic='a');

CREATE STREAM s (a INT,) WITH (kafka_topic='a');

CREATE STREAM s (a) WITH (kafka_topic='a');

CREATE STREAM s (a INT) WITH ();

CREATE STREAM s (a INT) WITH (kafka_topic=clicks);

CREATE STREAM s (a INT) WITH (kafka_topic 'clicks');

CREATE STREAM s (a INT) WITH (kafka_topic='clicks';

CREATE STREAM s (a INT) WTIH (kafka_topic='clicks');

CREATE STREAM s (select INT) WITH (kafka_topic='clicks');

CREATE STREAM table (a INT) WITH (kafka_topic='clicks');

CREATE STREAM `a b` (a INT) WITH (kafka_topic='clicks');

CREATE STREAM s (`` INT) WITH (kafka_topic='clicks');

CREATE STREAM s (a INT PRIMARY) WITH (kafka_topic='clicks');

CREATE STREAM s (a INT PRIMRY KEY) WITH (kafka_topic='clicks');

CREATE STREAM s (a BYTES HEADER) WITH (kafka_topic='clicks');

CREATE STREAM s (a BYTES HEADER(x)) WITH (kafka_topic='clicks');

CREATE STREAM s (k STRING (KEY)) WITH (kafka_topic='clicks');

CREATE STREAM s (d DECIMAL) WITH (kafka_topic='clicks');

CREATE STREAM s (d DECIMAL(0, 0)) WITH (kafka_topic='clicks');

CREATE STREAM s (d DECIMAL(3, 4)) WITH (kafka_topic='clicks');

CREATE STREAM s (d DECIMAL(90, 4)) WITH (kafka_topic='clicks');

CREATE STREAM s (d MAP<STRING>) WITH (kafka_topic='clicks');

CREATE STREAM s (d STRUCT<a>) WITH (kafka_topic='clicks');

CREATE STREAM s (d ARRAY<INT) WITH (kafka_topic='clicks');

CREATE STREAM s (a INT) AS SELECT * FROM t;

CREATE SOURCE STREAM s AS SELECT * FROM t;

CREATE SOURCE s (a INT);

CREATE OR REPLACE TYPE a AS INT;

CREATE OR STREAM a (a INT);

CREATE TYPE a INT;

CREATE STREAMS s (a INT);

CREATE STRAEM s (a INT);

CREATE STREAM IF EXISTS s (a INT);

CREATE STREAM IF NOT s (a INT);

CREATE STREAM s (naïve INT) WITH (kafka_topic='clicks');

CREATE STREAM s (a INT) WITH (kafka_topic='clicks);

CREATE STREAM s (`a INT) WITH (kafka_topic='clicks');

CREATE STREAM s /* (a INT) WITH (kafka_topic='clicks');

CREATE STREAM s (a INT) WITH (kafka_topic='clicks')

CREATE STREAM s (a INT) WITH (partitions=99999999999999999999);

CREATE STREAM s (a INT) WITH (kafka_topic=x'00');
