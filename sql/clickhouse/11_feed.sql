-- The last positions of the feed, by source. A position that PostgreSQL has confirmed and that is
-- missing here means that these are not the tables that were fed (lost, restored, another server):
-- the feed then starts over.
CREATE TABLE IF NOT EXISTS {database}.feed_marks{local}{on_cluster}
(
    source    String COMMENT 'system identifier and database of the PostgreSQL source',
    slot      UInt8 COMMENT 'attempt modulo 64: keeps the last 64 positions of a source',
    attempt   UInt64,
    position  String COMMENT 'pg_snapshot up to which all rows are in these tables',
    marked_at DateTime('UTC') DEFAULT now()
)
ENGINE = {replicated}ReplacingMergeTree(attempt)
ORDER BY (source, slot)
COMMENT 'positions reached by the feed of arx-sidecar';

-- Valid generations of the aggregates: from the highest `floor` to the highest `generation`. A
-- repair writes its states under a generation that is not valid yet; one row here makes all of them
-- valid at once.
CREATE TABLE IF NOT EXISTS {database}.aggregate_generations{local}{on_cluster}
(
    generation UInt64,
    floor      UInt64,
    made_at    DateTime('UTC') DEFAULT now()
)
ENGINE = {replicated}MergeTree
ORDER BY generation
COMMENT 'valid generations of the aggregates, one row a repair';
