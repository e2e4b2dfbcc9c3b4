-- One row a consumer of the freshness primitive (a refresh job here, a feed of the sidecar). `position` is the snapshot up to
-- which the consumer has seen everything, NULL before its first run; `attempt` rises before each try, so that whatever a try
-- writes elsewhere can be told from what an earlier try wrote. `epoch` and `system_identifier` are those of `position`.
CREATE TABLE feed_positions (
    consumer          text PRIMARY KEY CHECK (consumer <> ''),
    position          pg_snapshot,
    attempt           bigint NOT NULL DEFAULT 0,
    -- the attempt that led to `position`: a higher `attempt` was cut off, or is under way
    confirmed         bigint NOT NULL DEFAULT 0,
    epoch             bigint,
    system_identifier bigint,
    timeline          integer,
    rows_total        bigint NOT NULL DEFAULT 0,
    updated_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE feed_positions IS 'snapshot up to which each consumer of transactions has read everything';

-- The first load of a feed, until it is complete: everything there was at `position`, in chunks of blocks.
CREATE TABLE feed_loads (
    consumer          text PRIMARY KEY CHECK (consumer <> ''),
    attempt           bigint NOT NULL,
    position          pg_snapshot NOT NULL,
    epoch             bigint NOT NULL,
    system_identifier bigint NOT NULL,
    timeline          integer NOT NULL,
    started_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE feed_loads IS 'first loads of feeds that are not complete yet';
CREATE TABLE feed_chunks (
    consumer     text NOT NULL REFERENCES feed_loads ON DELETE CASCADE,
    chunk        integer NOT NULL,
    -- parts of as many tables as make a chunk of the usual size; in all arrays the same part stands at the same place
    relations    oid[] NOT NULL,
    -- another file has the rows in other blocks: the load then starts afresh
    files        oid[] NOT NULL,
    first_blocks bigint[] NOT NULL,
    -- NULL for the end of a table
    end_blocks   bigint[] NOT NULL,
    -- NULL until the chunk is in
    rows_loaded  bigint,
    PRIMARY KEY (consumer, chunk),
    CHECK (cardinality(relations) > 0 AND cardinality(files) = cardinality(relations)
           AND cardinality(first_blocks) = cardinality(relations) AND cardinality(end_blocks) = cardinality(relations))
);
COMMENT ON TABLE feed_chunks IS 'chunks of first loads; rows_loaded is set once a chunk is loaded';

-- Hours that the feed to ClickHouse is to load again; what it has loaded, it takes off the list.
CREATE TABLE feed_reloads (
    network      text NOT NULL,
    hour         timestamptz NOT NULL CHECK (isfinite(hour) AND hour = date_trunc('hour', hour, 'UTC')),
    requested_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (network, hour)
);
COMMENT ON TABLE feed_reloads IS 'hours that the feed to ClickHouse must load again';
