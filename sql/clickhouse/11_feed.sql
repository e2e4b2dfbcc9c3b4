-- The last positions that the feed reached, by source. A position that PostgreSQL has confirmed and that is not here tells
-- that these tables are not the ones that were fed (lost, restored, another server): the feed then starts afresh.
CREATE TABLE IF NOT EXISTS {database}.feed_marks{local}{on_cluster}
(
    source    String COMMENT 'system identifier and database of the PostgreSQL fed from',
    slot      UInt8 COMMENT 'attempt modulo 64: the last 64 marks of a source are kept',
    attempt   UInt64,
    position  String COMMENT 'pg_snapshot up to which everything is here',
    marked_at DateTime('UTC') DEFAULT now()
)
ENGINE = {replicated}ReplacingMergeTree(attempt)
ORDER BY (source, slot)
COMMENT 'positions reached by the feed of arx-sidecar';

-- Which states of the aggregates count: those of generations up to the highest `generation`, from the highest `floor` on. A repair
-- writes its states under a generation that nobody reads yet; one row here makes all of them valid at once.
CREATE TABLE IF NOT EXISTS {database}.aggregate_generations{local}{on_cluster}
(
    generation UInt64,
    floor      UInt64,
    made_at    DateTime('UTC') DEFAULT now()
)
ENGINE = {replicated}MergeTree
ORDER BY generation
COMMENT 'repairs of the aggregates that are valid';
