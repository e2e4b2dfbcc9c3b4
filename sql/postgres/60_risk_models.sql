-- Risk models: scorecards by version, and the log of activations.
--
-- The last row of the log determines the active model. `state`, `activated_at` and
-- `previous_version` of risk_models are derived from the log whenever either table gets a row. So a
-- dump, which holds the models and activations of users but not the rows that ARX ships, can be
-- restored in any order, and the same model is active afterwards. An activation whose model does
-- not exist (one that an earlier version of ARX shipped) is ignored in favour of the one before it.

CREATE TABLE risk_models (
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
CREATE UNIQUE INDEX risk_models_active ON risk_models (state) WHERE state = 'active';
COMMENT ON TABLE risk_models IS 'scorecards by version; one is active, drafts never were; documents never change';
COMMENT ON COLUMN risk_models.network IS 'network it was fitted on; NULL: any';
COMMENT ON COLUMN risk_models.report IS 'quality measured by the fit: measures, curves, drift';

-- A rollback returns to the activation `follows`. There are no foreign keys, for the reason above.
CREATE TABLE risk_model_activations (
    activation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version       text NOT NULL,
    follows       bigint,
    reason        text,
    activated_at  timestamptz NOT NULL DEFAULT now(),
    activated_by  text NOT NULL DEFAULT current_user,
    builtin       boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE risk_model_activations IS
    'activations of risk models with user and reason; the last row determines the active model';

CREATE FUNCTION guard_risk_model() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.state := 'draft';
        NEW.activated_at := NULL;
        NEW.previous_version := NULL;
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' THEN
        IF OLD.builtin OR OLD.state <> 'draft' THEN
            RAISE EXCEPTION 'risk model "%" cannot be removed: %', OLD.version,
                CASE WHEN OLD.state = 'draft' THEN 'it is shipped with ARX' ELSE 'it was active' END
                USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        RETURN OLD;
    END IF;
    IF (NEW.version, NEW.document, NEW.builtin) IS DISTINCT FROM (OLD.version, OLD.document, OLD.builtin) THEN
        RAISE EXCEPTION 'risk model "%" cannot be changed', OLD.version
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Store a new version with arx.import_risk_model().';
    END IF;
    RETURN NEW;
END;
$$;

-- SECURITY DEFINER: roles change the state only through activations, and have no privilege on it.
CREATE FUNCTION settle_risk_models() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    active text;
BEGIN
    -- Under the lock, activations that others have committed are visible, and no new ones appear.
    PERFORM pg_advisory_xact_lock(hashtextextended('arx.risk_model_activations', 0));
    active := (SELECT a.version FROM arx.risk_model_activations AS a JOIN arx.risk_models AS m USING (version)
                ORDER BY a.activation_id DESC LIMIT 1);
    -- Retire first: a unique index allows one active model at a time.
    UPDATE arx.risk_models AS m SET state = 'retired' WHERE m.state = 'active' AND m.version <> active;
    UPDATE arx.risk_models AS m
       SET state = CASE WHEN m.version = active THEN 'active' ELSE 'retired' END,
           activated_at = latest.activated_at, previous_version = latest.previous_version
      FROM (SELECT DISTINCT ON (a.version) a.version, a.activated_at, b.version AS previous_version
              FROM arx.risk_model_activations AS a
              LEFT JOIN arx.risk_model_activations AS b ON b.activation_id = a.follows
             ORDER BY a.version, a.activation_id DESC) AS latest
     WHERE latest.version = m.version
       AND (m.state, m.activated_at, m.previous_version)
           IS DISTINCT FROM
           (CASE WHEN m.version = active THEN 'active' ELSE 'retired' END, latest.activated_at,
            latest.previous_version);
    RETURN NULL;
END;
$$;

CREATE TRIGGER arx_guard BEFORE INSERT OR UPDATE OR DELETE ON risk_models
    FOR EACH ROW EXECUTE FUNCTION guard_risk_model();
CREATE TRIGGER arx_settle AFTER INSERT ON risk_models EXECUTE FUNCTION settle_risk_models();
CREATE TRIGGER arx_settle AFTER INSERT ON risk_model_activations EXECUTE FUNCTION settle_risk_models();

INSERT INTO risk_models (version, document, builtin)
SELECT d.document ->> 'version', d.document, true FROM arx.default_risk_model() AS d (document);
INSERT INTO risk_model_activations (version, reason, builtin)
SELECT m.version, 'shipped with ARX', true FROM risk_models AS m;

CREATE FUNCTION active_risk_model() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT m.version FROM arx.risk_models AS m WHERE m.state = 'active' $$;

CREATE FUNCTION require_risk_model(version text) RETURNS arx.risk_models
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    model arx.risk_models;
BEGIN
    IF require_risk_model.version IS NULL THEN
        RAISE EXCEPTION 'version must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    SELECT * INTO model FROM arx.risk_models AS m WHERE m.version = require_risk_model.version;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'risk model "%" does not exist', require_risk_model.version
            USING ERRCODE = 'undefined_object',
                  HINT = (SELECT 'Existing versions: ' || string_agg(m.version, ', ' ORDER BY m.version)
                            FROM arx.risk_models AS m);
    END IF;
    RETURN model;
END;
$$;

CREATE FUNCTION lock_risk_models() RETURNS arx.risk_model_activations
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    current arx.risk_model_activations;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('arx.risk_model_activations', 0));
    SELECT a.* INTO STRICT current
      FROM arx.risk_model_activations AS a JOIN arx.risk_models AS m USING (version)
     ORDER BY a.activation_id DESC LIMIT 1;
    RETURN current;
END;
$$;

CREATE FUNCTION activate_risk_model(version text, reason text DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    -- The lock comes first, because the draft may be being discarded.
    current arx.risk_model_activations := arx.lock_risk_models();
    model   arx.risk_models := arx.require_risk_model(activate_risk_model.version);
BEGIN
    IF current.version <> model.version THEN
        -- The document may have been inserted directly, or restored from a dump.
        PERFORM arx.check_risk_model(model.document);
        INSERT INTO arx.risk_model_activations (version, follows, reason)
        VALUES (model.version, current.activation_id, activate_risk_model.reason);
    END IF;
    RETURN current.version;
END;
$$;

CREATE FUNCTION rollback_risk_model(reason text DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    current arx.risk_model_activations := arx.lock_risk_models();
    target  arx.risk_model_activations;
BEGIN
    SELECT a.* INTO target
      FROM arx.risk_model_activations AS a JOIN arx.risk_models AS m USING (version)
     WHERE a.activation_id <= current.follows
     ORDER BY a.activation_id DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no risk model was active before "%"', current.version
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'arx.activate_risk_model() activates any version of arx.risk_models.';
    END IF;
    INSERT INTO arx.risk_model_activations (version, follows, reason)
    VALUES (target.version, target.follows,
            coalesce(rollback_risk_model.reason, format('rollback of "%s"', current.version)));
    RETURN target.version;
END;
$$;

CREATE FUNCTION discard_risk_model(version text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM arx.lock_risk_models();
    PERFORM arx.require_risk_model(discard_risk_model.version);
    DELETE FROM arx.risk_models AS m WHERE m.version = discard_risk_model.version;
END;
$$;

CREATE FUNCTION import_risk_model(document jsonb, network text DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    canonical text;
    stored    text;
BEGIN
    IF import_risk_model.document IS NULL THEN
        RAISE EXCEPTION 'document must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF import_risk_model.network IS NOT NULL THEN
        canonical := arx.registered_network(import_risk_model.network);
    END IF;
    INSERT INTO arx.risk_models (version, document, network)
    VALUES (arx.check_risk_model(import_risk_model.document), import_risk_model.document, canonical)
        ON CONFLICT DO NOTHING
    RETURNING risk_models.version INTO stored;
    IF stored IS NULL THEN
        RAISE EXCEPTION 'risk model "%" already exists', import_risk_model.document ->> 'version'
            USING ERRCODE = 'duplicate_object', HINT = 'A stored document never changes: use a new version.';
    END IF;
    RETURN stored;
END;
$$;
