-- Risk models, overrides of scores, the history of scores, calibration, and the coverage of
-- histories.

-- Scorecards by version. The last row of risk_model_activations determines the active model.
-- `state`, `activated_at` and `previous_version` are derived from that log whenever either table
-- gets a row, and are never what a writer says: the tables can be restored in any order, and the
-- same model is active afterwards. An activation whose model does not exist is ignored in favour of
-- the one before it.
CREATE TABLE arx.risk_models (
    version          text PRIMARY KEY CHECK (version <> ''),
    document         jsonb NOT NULL,
    state            text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'active', 'retired')),
    -- Set for rows that ARX ships.
    builtin          boolean NOT NULL DEFAULT false,
    network          text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    created_by       text NOT NULL DEFAULT current_user,
    activated_at     timestamptz,
    previous_version text,
    report           jsonb,
    CONSTRAINT risk_models_document CHECK (document ->> 'version' = version)
);
COMMENT ON TABLE arx.risk_models IS 'scorecards by version; one is active, drafts never were; documents never change';
COMMENT ON COLUMN arx.risk_models.network IS 'network it was fitted on; NULL: any';
COMMENT ON COLUMN arx.risk_models.report IS 'quality measured by the fit: measures, curves, drift';
GRANT SELECT ON TABLE arx.risk_models TO arx_reader;
-- `created_by` and `builtin` are set by their defaults. A trigger computes the state.
GRANT INSERT (version, document, network, report), UPDATE (report, state, activated_at, previous_version), DELETE
    ON TABLE arx.risk_models TO arx_operator;
INSERT INTO arx.risk_models (version, document, builtin)
SELECT d.document ->> 'version', d.document, true FROM arx.default_risk_model() AS d (document);

CREATE UNIQUE INDEX risk_models_active ON arx.risk_models (state) WHERE state = 'active';

-- A rollback returns to the activation `follows`. There are no foreign keys: the tables can be
-- restored in any order.
CREATE TABLE arx.risk_model_activations (
    activation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version       text NOT NULL,
    follows       bigint,
    reason        text,
    activated_at  timestamptz NOT NULL DEFAULT now(),
    activated_by  text NOT NULL DEFAULT current_user,
    builtin       boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE arx.risk_model_activations IS
    'activations of risk models with user and reason; the last row determines the active model';
GRANT SELECT ON TABLE arx.risk_model_activations TO arx_reader;
GRANT INSERT (version, follows, reason) ON TABLE arx.risk_model_activations TO arx_operator;
GRANT USAGE ON SEQUENCE arx.risk_model_activations_activation_id_seq TO arx_operator;

CREATE TRIGGER arx_guard BEFORE INSERT OR UPDATE OR DELETE ON arx.risk_models
    FOR EACH ROW EXECUTE FUNCTION arx.guard_risk_model();
ALTER TABLE arx.risk_models ENABLE ALWAYS TRIGGER arx_guard;
CREATE TRIGGER arx_settle AFTER INSERT ON arx.risk_models EXECUTE FUNCTION arx.settle_risk_models();
ALTER TABLE arx.risk_models ENABLE ALWAYS TRIGGER arx_settle;
CREATE TRIGGER arx_settle AFTER INSERT ON arx.risk_model_activations EXECUTE FUNCTION arx.settle_risk_models();
ALTER TABLE arx.risk_model_activations ENABLE ALWAYS TRIGGER arx_settle;
CREATE TRIGGER arx_author BEFORE INSERT ON arx.risk_models
    FOR EACH ROW EXECUTE FUNCTION arx.sign_author('created_by');
CREATE TRIGGER arx_author BEFORE INSERT ON arx.risk_model_activations
    FOR EACH ROW EXECUTE FUNCTION arx.sign_author('activated_by');
-- The first activation, after the trigger that carries it out.
INSERT INTO arx.risk_model_activations (version, reason, builtin)
SELECT m.version, 'shipped with ARX', true FROM arx.risk_models AS m
 WHERE m.builtin AND NOT EXISTS (SELECT FROM arx.risk_model_activations);

-- Overrides of risk scores.

CREATE TABLE arx.risk_overrides (
    override_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    network     text NOT NULL REFERENCES arx.networks,
    address     text NOT NULL CHECK (address <> ''),
    score       numeric(4,1) NOT NULL CHECK (score BETWEEN 0 AND 100),
    reason      text NOT NULL CHECK (btrim(reason) <> ''),
    created_by  text NOT NULL DEFAULT current_user,
    valid_from  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    ended_at    timestamptz,
    ended_by    text,
    ingest_xid  xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    -- override_risk() allows a year, which may be a leap year in any time zone.
    CONSTRAINT risk_overrides_validity
        CHECK (expires_at > valid_from AND expires_at <= valid_from + interval '367 days'),
    CONSTRAINT risk_overrides_ended CHECK ((ended_at IS NULL) = (ended_by IS NULL))
);
COMMENT ON TABLE arx.risk_overrides IS 'scores that a user decided, with a reason and an expiry; rows are never removed';
GRANT SELECT ON TABLE arx.risk_overrides TO arx_reader;
GRANT INSERT (network, address, score, reason, expires_at), UPDATE (ended_at, ended_by) ON TABLE arx.risk_overrides
    TO arx_operator;
GRANT USAGE ON SEQUENCE arx.risk_overrides_override_id_seq TO arx_operator;
ALTER TABLE arx.risk_overrides ADD CONSTRAINT risk_overrides_address_normalized
    CHECK (address = arx.normalize_address(address, network));

-- An expired override is ended when the next one is created.
CREATE UNIQUE INDEX risk_overrides_in_force ON arx.risk_overrides (network, address) WHERE ended_at IS NULL;
CREATE INDEX idx_risk_overrides_ingest ON arx.risk_overrides (ingest_xid);

CREATE TRIGGER arx_stamp BEFORE UPDATE ON arx.risk_overrides
    FOR EACH ROW EXECUTE FUNCTION arx.stamp_row();
ALTER TABLE arx.risk_overrides ENABLE ALWAYS TRIGGER arx_stamp;
CREATE TRIGGER arx_restamp AFTER INSERT OR UPDATE ON arx.risk_overrides
    FOR EACH ROW WHEN (NEW.ingest_xid IS DISTINCT FROM pg_current_xact_id()) EXECUTE FUNCTION arx.restamp_row();
ALTER TABLE arx.risk_overrides ENABLE ALWAYS TRIGGER arx_restamp;
CREATE TRIGGER arx_author BEFORE INSERT ON arx.risk_overrides
    FOR EACH ROW EXECUTE FUNCTION arx.sign_author('created_by');
-- An updated row is found by its new stamp, unless it belongs to another wallet now.
CREATE TRIGGER arx_log_move AFTER UPDATE ON arx.risk_overrides FOR EACH ROW
    WHEN (OLD.network IS DISTINCT FROM NEW.network OR OLD.address IS DISTINCT FROM NEW.address)
    EXECUTE FUNCTION arx.log_label_change();
ALTER TABLE arx.risk_overrides ENABLE ALWAYS TRIGGER arx_log_move;
CREATE TRIGGER arx_log_delete AFTER DELETE ON arx.risk_overrides
    FOR EACH ROW EXECUTE FUNCTION arx.log_label_change();
ALTER TABLE arx.risk_overrides ENABLE ALWAYS TRIGGER arx_log_delete;
CREATE TRIGGER arx_guard BEFORE UPDATE ON arx.risk_overrides
    FOR EACH ROW EXECUTE FUNCTION arx.guard_risk_override();
ALTER TABLE arx.risk_overrides ENABLE ALWAYS TRIGGER arx_guard;

CREATE VIEW arx.current_risk_overrides WITH (security_invoker) AS
SELECT o.override_id, o.network, o.address, o.score, o.reason, o.created_by, o.valid_from, o.expires_at
  FROM arx.risk_overrides AS o
 WHERE o.ended_at IS NULL AND o.valid_from <= now() AND o.expires_at > now();
COMMENT ON VIEW arx.current_risk_overrides IS
    'risk_overrides in force, at most one a wallet; they do not apply to wallets under sanctions';
GRANT SELECT ON TABLE arx.current_risk_overrides TO arx_reader;

CREATE TABLE arx.risk_score_history (
    entry_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    network       text NOT NULL,
    address       text NOT NULL,
    scored_at     timestamptz NOT NULL DEFAULT now(),
    score         numeric(4,1) NOT NULL,
    probability   double precision,
    band          text NOT NULL,
    state         text NOT NULL,
    model_version text NOT NULL
);
COMMENT ON TABLE arx.risk_score_history IS 'scores and states of wallets, one row a change';
GRANT SELECT ON TABLE arx.risk_score_history TO arx_reader;
-- The time is set by its default.
GRANT INSERT (network, address, score, probability, band, state, model_version) ON TABLE arx.risk_score_history
    TO arx_operator;
GRANT USAGE ON SEQUENCE arx.risk_score_history_entry_id_seq TO arx_operator;

CREATE INDEX idx_risk_score_history_wallet ON arx.risk_score_history (address, network, scored_at DESC);

-- Calibration of networks. A network without a row has a prevalence of 1 % and the bands of its
-- scorecard. NaN is greater than every number, so the checks refuse it.
CREATE TABLE arx.risk_calibration (
    network     text PRIMARY KEY REFERENCES arx.networks,
    prevalence  double precision NOT NULL DEFAULT 0.01 CHECK (prevalence > 0 AND prevalence < 1),
    medium_from numeric(4,1) NOT NULL DEFAULT 40,
    high_from   numeric(4,1) NOT NULL DEFAULT 60,
    severe_from numeric(4,1) NOT NULL DEFAULT 75,
    CONSTRAINT risk_calibration_thresholds
        CHECK (0 < medium_from AND medium_from < high_from AND high_from < severe_from AND severe_from <= 100)
);
COMMENT ON TABLE arx.risk_calibration IS
    'share of illicit wallets and lowest scores of the bands medium, high and severe, by network';
COMMENT ON COLUMN arx.risk_calibration.prevalence IS 'share of the network''s wallets that is illicit, between 0 and 1';
GRANT SELECT ON TABLE arx.risk_calibration TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.risk_calibration TO arx_operator;

-- Statements of which history was loaded. An import writes them; a user may. Statements of the same
-- wallet add up: the times that any of them names are covered.
CREATE TABLE arx.history_coverage (
    network     text NOT NULL REFERENCES arx.networks,
    address     text CHECK (address <> ''),
    from_time   timestamptz CHECK (isfinite(from_time)),
    to_time     timestamptz CHECK (isfinite(to_time)),
    source      text NOT NULL CHECK (btrim(source) <> ''),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    recorded_by text NOT NULL DEFAULT current_user,
    -- The same statement twice is one.
    CONSTRAINT history_coverage_key UNIQUE NULLS NOT DISTINCT (network, address, from_time, to_time, source),
    CONSTRAINT history_coverage_times CHECK (from_time < to_time)
);
COMMENT ON TABLE arx.history_coverage IS
    'wallets and networks whose history was loaded completely, with the times; see coverage_conflicts()';
COMMENT ON COLUMN arx.history_coverage.address IS 'wallet; NULL: every wallet of the network';
COMMENT ON COLUMN arx.history_coverage.from_time IS 'first time covered; NULL: from the first block on';
COMMENT ON COLUMN arx.history_coverage.to_time IS 'time up to which it is covered, exclusive; NULL: everything loaded';
GRANT SELECT ON TABLE arx.history_coverage TO arx_reader;
GRANT INSERT (network, address, from_time, to_time, source), DELETE ON TABLE arx.history_coverage TO arx_operator;
ALTER TABLE arx.history_coverage ADD CONSTRAINT history_coverage_address_normalized
    CHECK (address = arx.normalize_address(address, network));

CREATE INDEX idx_history_coverage_address ON arx.history_coverage (address, network);
