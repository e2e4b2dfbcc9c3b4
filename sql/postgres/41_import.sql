-- Progress of imports, one row a source. `lines_done` is committed with the rows it counts, so that
-- an interrupted import continues where it stopped.
CREATE TABLE import_progress (
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
COMMENT ON TABLE import_progress IS 'progress of the import of each source';
