-- Positions of the consumers of changes, and the first loads of feeds.

-- One row a consumer of changes: a refresh job of this database, or a feed of the sidecar.
-- `position` is the snapshot up to which the consumer has read everything, NULL before its first
-- run. `attempt` rises before each attempt, so that the rows an attempt writes elsewhere can be
-- distinguished from those of an earlier attempt. `epoch`, `system_identifier`, `timeline` and
-- `database_oid` are those of `position`; a copy of the database has another oid.
CREATE TABLE feed_positions (
    consumer          text PRIMARY KEY CHECK (consumer <> ''),
    position          pg_snapshot,
    attempt           bigint NOT NULL DEFAULT 0,
    -- The attempt that reached `position`; a higher `attempt` was interrupted, or is running.
    confirmed         bigint NOT NULL DEFAULT 0,
    epoch             bigint,
    system_identifier bigint,
    timeline          integer,
    database_oid      oid,
    rows_total        bigint NOT NULL DEFAULT 0,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    -- Set by begin_refresh(): the only position that finish_refresh() accepts, and the transaction.
    pending_position  pg_snapshot,
    pending_epoch     bigint,
    pending_xid       xid8
);
COMMENT ON TABLE feed_positions IS 'snapshot up to which each consumer of transactions has read everything';

-- The first load of a feed, until it is complete: all rows visible at `position`, in chunks of
-- blocks.
CREATE TABLE feed_loads (
    consumer          text PRIMARY KEY CHECK (consumer <> ''),
    attempt           bigint NOT NULL,
    position          pg_snapshot NOT NULL,
    epoch             bigint NOT NULL,
    system_identifier bigint NOT NULL,
    timeline          integer NOT NULL,
    database_oid      oid NOT NULL,
    started_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE feed_loads IS 'first loads of feeds that are not complete yet';
CREATE TABLE feed_chunks (
    consumer     text NOT NULL REFERENCES feed_loads ON DELETE CASCADE,
    chunk        integer NOT NULL,
    -- A chunk has parts of one or more tables; the arrays have one element a part, in the same
    -- order.
    relations    oid[] NOT NULL,
    -- A table with another file has its rows in other blocks, so the load starts over.
    files        oid[] NOT NULL,
    first_blocks bigint[] NOT NULL,
    -- NULL: the end of the table.
    end_blocks   bigint[] NOT NULL,
    -- NULL until the chunk is loaded.
    rows_loaded  bigint,
    PRIMARY KEY (consumer, chunk),
    CHECK (cardinality(relations) > 0 AND cardinality(files) = cardinality(relations)
           AND cardinality(first_blocks) = cardinality(relations) AND cardinality(end_blocks) = cardinality(relations))
);
COMMENT ON TABLE feed_chunks IS 'chunks of first loads; rows_loaded is set once a chunk is loaded';

-- Rows that ClickHouse cannot hold, such as a time that no DateTime reaches: the feed carries all
-- others. It tries again when the row changes, and forgets the row when it is deleted.
CREATE TABLE feed_rejects (
    consumer    text NOT NULL CHECK (consumer <> ''),
    relation    text NOT NULL CHECK (relation IN ('transactions', 'internal_transfers', 'token_transfers')),
    network     text NOT NULL,
    tx_hash     text NOT NULL,
    -- NULL for a transaction.
    log_index   integer,
    "timestamp" timestamptz NOT NULL,
    -- The column that does not fit, and the type that it does not fit.
    reason      text NOT NULL,
    -- ingest_xid of the version that was set aside.
    stamp       xid8 NOT NULL,
    first_seen  timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (consumer, relation, network, tx_hash, log_index, "timestamp")
);
COMMENT ON TABLE feed_rejects IS 'rows that ClickHouse cannot hold, with the reason';

-- The last comparison of a feed's two sides, and the content of each hour as of then. The next one
-- reads the hours that changed since. `parts` are digests of ClickHouse's files by month.
CREATE TABLE feed_verified (
    consumer          text PRIMARY KEY CHECK (consumer <> ''),
    position          pg_snapshot NOT NULL,
    epoch             bigint NOT NULL,
    system_identifier bigint NOT NULL,
    timeline          integer NOT NULL,
    database_oid      oid NOT NULL,
    parts             jsonb NOT NULL,
    -- Token transfers without their transaction: network, hour since 1970, number.
    orphans           jsonb NOT NULL,
    verified_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE feed_verified IS 'last comparison of ClickHouse with PostgreSQL';
CREATE TABLE feed_verified_hours (
    consumer     text NOT NULL REFERENCES feed_verified ON DELETE CASCADE,
    network      text NOT NULL,
    -- Hours since 1970, UTC.
    hours        bigint NOT NULL,
    events       bigint NOT NULL,
    total        numeric NOT NULL,
    -- Sum of the checksums of the rows; NULL if the sides differed, so that the hour is read again.
    checksum     numeric,
    transactions bigint NOT NULL,
    volume       numeric NOT NULL,
    PRIMARY KEY (consumer, network, hours)
);
COMMENT ON TABLE feed_verified_hours IS 'content of the hours in which both sides were the same, by the last comparison';

-- Hours that the feed to ClickHouse must load again; the feed removes those it has loaded.
CREATE TABLE feed_reloads (
    network      text NOT NULL,
    hour         timestamptz NOT NULL CHECK (isfinite(hour) AND hour = date_trunc('hour', hour, 'UTC')),
    requested_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (network, hour)
);
COMMENT ON TABLE feed_reloads IS 'hours that the feed to ClickHouse must load again';
