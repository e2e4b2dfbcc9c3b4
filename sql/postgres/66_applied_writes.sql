-- Writes that the sidecar has brought from Redis, so that none is applied twice.
CREATE TABLE applied_writes (
    write_key  text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_applied_writes_time ON applied_writes (applied_at);
COMMENT ON TABLE applied_writes IS 'keys of the writes from Redis that were applied within the last week';
