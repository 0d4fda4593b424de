--@test: name of the test
CREATE STREAM s (id INT KEY, v INT) WITH (kafka_topic='s', value_format='JSON');
INSERT INTO s (id, v, rowtime) VALUES (1, 2, 3);
-- an ordinary comment
ASSERT VALUES s (id, v, rowtime) VALUES (1, 2, 3);

--@TEST: with an error
--@expected.error: io.Exception
  --@expected.message: a: b
RUN SCRIPT 'other.sql';

ASSERT VALUES s VALUES (1, 'a' || 'b');

ASSERT NULL VALUES s (id) KEY (1);

ASSERT NULL VALUES s KEY (1, 2);

ASSERT STREAM s (id INT KEY, v INT) WITH (kafka_topic='s', value_format='JSON');

ASSERT TABLE t (id INT PRIMARY KEY);

ASSERT STREAM s;

ASSERT TOPIC t;

SHOW TOPICS; -- @no directive
