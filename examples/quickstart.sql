-- A first tour: a week of real earthquakes, filtered, counted by the hour, and joined with a small table.
-- Run it with: riverrun run examples/quickstart.sql

-- A stream over a topic. Two partitions, so that two tasks can share the work.
CREATE STREAM quakes (
    network VARCHAR KEY,
    id VARCHAR,
    magnitude DOUBLE,
    event_type VARCHAR,
    place VARCHAR,
    longitude DOUBLE,
    latitude DOUBLE,
    depth_km DOUBLE
  ) WITH (KAFKA_TOPIC = 'quakes', VALUE_FORMAT = 'JSON', PARTITIONS = 2);

-- A table over a compacted topic: the newest row of each network.
CREATE TABLE networks (
    network VARCHAR PRIMARY KEY,
    name VARCHAR,
    region VARCHAR
  ) WITH (KAFKA_TOPIC = 'networks', VALUE_FORMAT = 'JSON', PARTITIONS = 2);

-- A filter: strong earthquakes only.
CREATE STREAM strong_quakes AS
  SELECT network, id, magnitude, place
  FROM quakes
  WHERE magnitude >= 5.0 AND event_type = 'earthquake'
  EMIT CHANGES;

-- A windowed aggregate: how many a day, and how strong, by network.
CREATE TABLE quakes_per_day AS
  SELECT network, COUNT(*) AS quakes, MAX(magnitude) AS strongest
  FROM quakes
  WINDOW TUMBLING (SIZE 1 DAY, RETENTION 30 DAYS)
  GROUP BY network
  EMIT CHANGES;

-- A join: each strong earthquake with the name of the network that reported it.
CREATE STREAM named_quakes AS
  SELECT q.network, n.name, n.region, q.magnitude, q.place
  FROM strong_quakes q
  JOIN networks n ON q.network = n.network
  EMIT CHANGES;

-- The data. Files are read on the client's side, relative to this one. The networks are older (rowtime) than the earthquakes: a join goes
-- by time, and a stream's row finds what the table held before it.
COPY networks FROM 'data/networks.jsonl';
COPY quakes FROM 'data/earthquakes.jsonl';

-- A pull query reads a table as it is now. In a script it first waits until the queries above have consumed what was there.
SELECT network, TIMESTAMPTOSTRING(WINDOWSTART, 'yyyy-MM-dd', 'UTC') AS day, quakes, strongest
  FROM quakes_per_day
  WHERE network = 'ak';

-- A push query streams changes as they come, here from the beginning of the topic.
SET 'auto.offset.reset' = 'earliest';
SELECT name, magnitude, place FROM named_quakes EMIT CHANGES LIMIT 5;

-- All of it goes again, topics and data, so that the tour can be run a second time on a data directory or on Kafka as well.
-- Leave these lines away to look around afterwards.
DROP STREAM named_quakes DELETE TOPIC;
DROP TABLE quakes_per_day DELETE TOPIC;
DROP STREAM strong_quakes DELETE TOPIC;
DROP TABLE networks DELETE TOPIC;
DROP STREAM quakes DELETE TOPIC;
