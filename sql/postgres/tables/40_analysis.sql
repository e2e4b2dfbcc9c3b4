-- Clusters, patterns and imports.

-- Pairs of wallets that clusters must keep apart. Clusters are computed on demand, so an exclusion
-- takes effect at once, and so does its removal.
CREATE TABLE arx.cluster_exclusions (
    network    text NOT NULL REFERENCES arx.networks,
    wallet_a   text COLLATE "C" NOT NULL,
    wallet_b   text COLLATE "C" NOT NULL,
    reason     text NOT NULL CHECK (reason <> ''),
    created_by text NOT NULL DEFAULT current_user,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (network, wallet_a, wallet_b),
    -- One row a pair, in either order of the arguments.
    CONSTRAINT cluster_exclusions_order CHECK (wallet_a < wallet_b)
);
COMMENT ON TABLE arx.cluster_exclusions IS
    'pairs of wallets that wallet_clusters() keeps apart, with user and reason; see exclude_cluster_merge()';
GRANT SELECT ON TABLE arx.cluster_exclusions TO arx_reader;
-- The author and the time are set by the defaults and the trigger.
GRANT INSERT (network, wallet_a, wallet_b, reason), UPDATE (reason), DELETE ON TABLE arx.cluster_exclusions
    TO arx_operator;
ALTER TABLE arx.cluster_exclusions ADD CONSTRAINT cluster_exclusions_normalized
    CHECK (wallet_a = arx.normalize_address(wallet_a, network) AND wallet_b = arx.normalize_address(wallet_b, network));
CREATE TRIGGER arx_sign BEFORE UPDATE ON arx.cluster_exclusions
    FOR EACH ROW EXECUTE FUNCTION arx.sign_cluster_exclusion();
ALTER TABLE arx.cluster_exclusions ENABLE ALWAYS TRIGGER arx_sign;
CREATE TRIGGER arx_author BEFORE INSERT ON arx.cluster_exclusions
    FOR EACH ROW EXECUTE FUNCTION arx.sign_author('created_by');

-- Stored findings of laundering patterns: one set for each pattern, network, asset, window, minimum
-- value and options.
CREATE TABLE arx.pattern_findings (
    pattern     text NOT NULL,
    network     text NOT NULL,
    asset       text NOT NULL,
    "window"    interval NOT NULL,
    min_value   numeric NOT NULL,
    options     jsonb NOT NULL,
    finding_id  text NOT NULL,
    strength    double precision NOT NULL,
    center      text NOT NULL,
    wallets     text[] NOT NULL,
    tx_hashes   text[] NOT NULL,
    transfers   integer NOT NULL,
    total_value numeric,
    first_seen  timestamptz NOT NULL,
    last_seen   timestamptz NOT NULL,
    details     jsonb NOT NULL,
    found_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pattern, network, asset, "window", min_value, options, finding_id)
);
COMMENT ON TABLE arx.pattern_findings IS 'findings of detect_patterns(), kept up to date by refresh_patterns()';
GRANT SELECT ON TABLE arx.pattern_findings TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.pattern_findings TO arx_operator;

CREATE INDEX idx_pattern_findings_time ON arx.pattern_findings (network, pattern, first_seen);
CREATE INDEX idx_pattern_findings_wallets ON arx.pattern_findings USING gin (wallets);

-- Progress of imports, one row a source. `lines_done` is committed with the rows it counts, so that
-- an interrupted import continues where it stopped.
CREATE TABLE arx.import_progress (
    source        text PRIMARY KEY CHECK (source <> ''),
    kind          text NOT NULL,
    network       text NOT NULL,
    lines_done    bigint NOT NULL DEFAULT 0,
    rows_imported bigint NOT NULL DEFAULT 0,
    rows_present  bigint NOT NULL DEFAULT 0,
    rows_rejected bigint NOT NULL DEFAULT 0,
    finished      boolean NOT NULL DEFAULT false,
    started_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE arx.import_progress IS 'progress of the import of each source';
GRANT SELECT ON TABLE arx.import_progress TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.import_progress TO arx_operator;
