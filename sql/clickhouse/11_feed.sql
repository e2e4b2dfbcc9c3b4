-- The sources of these tables, each with its last positions. The source with the highest attempt is
-- the owner: the feed of any other is refused. An attempt that PostgreSQL does not remember means
-- that PostgreSQL went back in time. A position that PostgreSQL has confirmed and that is missing
-- here means that these are not the tables that were fed (lost, restored, another server). In both
-- cases the feed starts over.
CREATE TABLE IF NOT EXISTS {database}.feed_marks{local}{on_cluster}
(
    source    String COMMENT 'system identifier and oid of the PostgreSQL database',
    slot      UInt8 COMMENT 'attempt modulo 64: keeps the last 64 positions; 64: the last attempt that began',
    attempt   UInt64,
    position  String COMMENT 'pg_snapshot up to which all rows are in these tables; empty for one that began',
    database  String COMMENT 'name of the PostgreSQL database',
    timeline  Int32,
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
