-- Risk models: their states, and the functions that store and activate them. The tables are in
-- tables/50_risk.sql.

-- The state of each model by the log of activations.
CREATE FUNCTION risk_model_states()
    RETURNS TABLE (version text, state text, activated_at timestamptz, previous_version text)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
SELECT latest.version,
       CASE WHEN latest.activation_id = max(latest.activation_id) OVER () THEN 'active' ELSE 'retired' END,
       latest.activated_at, latest.previous_version
  FROM (SELECT DISTINCT ON (a.version) a.version, a.activation_id, a.activated_at, b.version AS previous_version
          FROM arx.risk_model_activations AS a
          JOIN arx.risk_models AS m USING (version)
          LEFT JOIN arx.risk_model_activations AS b ON b.activation_id = a.follows
         ORDER BY a.version, a.activation_id DESC) AS latest;
END;
$$;

CREATE FUNCTION guard_risk_model() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM arx.check_risk_model(NEW.document);
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
    IF (NEW.version, NEW.document, NEW.builtin) IS DISTINCT FROM (OLD.version, OLD.document, OLD.builtin)
       OR (NEW.report IS DISTINCT FROM OLD.report AND OLD.state <> 'draft') THEN
        RAISE EXCEPTION 'risk model "%" cannot be changed', OLD.version
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Store a new version with arx.import_risk_model().';
    END IF;
    -- Whatever the writer says, the log of activations decides.
    NEW.state := 'draft';
    NEW.activated_at := NULL;
    NEW.previous_version := NULL;
    SELECT s.state, s.activated_at, s.previous_version INTO NEW.state, NEW.activated_at, NEW.previous_version
      FROM arx.risk_model_states() AS s WHERE s.version = OLD.version;
    NEW.state := coalesce(NEW.state, 'draft');
    RETURN NEW;
END;
$$;

CREATE FUNCTION settle_risk_models() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    -- Under the lock, activations that others have committed are visible, and no new ones appear.
    PERFORM arx.lock_job('risk_models');
    -- Retire first: a unique index allows one active model at a time.
    UPDATE arx.risk_models AS m SET state = s.state
      FROM arx.risk_model_states() AS s
     WHERE s.version = m.version AND m.state = 'active' AND s.state <> 'active';
    UPDATE arx.risk_models AS m
       SET state = s.state, activated_at = s.activated_at, previous_version = s.previous_version
      FROM arx.risk_model_states() AS s
     WHERE s.version = m.version
       AND (m.state, m.activated_at, m.previous_version)
           IS DISTINCT FROM (s.state, s.activated_at, s.previous_version);
    RETURN NULL;
END;
$$;

CREATE FUNCTION active_risk_model() RETURNS text
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN (SELECT m.version FROM arx.risk_models AS m WHERE m.state = 'active');
END;
$$;

CREATE FUNCTION require_risk_model(version text, OUT document jsonb)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF require_risk_model.version IS NULL THEN
        RAISE EXCEPTION 'version must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    SELECT m.document INTO require_risk_model.document
      FROM arx.risk_models AS m WHERE m.version = require_risk_model.version;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'risk model "%" does not exist', require_risk_model.version
            USING ERRCODE = 'undefined_object',
                  HINT = (SELECT 'Existing versions: ' || string_agg(m.version, ', ' ORDER BY m.version)
                            FROM arx.risk_models AS m);
    END IF;
END;
$$;

CREATE FUNCTION lock_risk_models(OUT activation_id bigint, OUT version text, OUT follows bigint)
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM arx.lock_job('risk_models');
    SELECT a.activation_id, a.version, a.follows
      INTO STRICT lock_risk_models.activation_id, lock_risk_models.version, lock_risk_models.follows
      FROM arx.risk_model_activations AS a JOIN arx.risk_models AS m ON m.version = a.version
     ORDER BY a.activation_id DESC LIMIT 1;
END;
$$;

CREATE FUNCTION activate_risk_model(version text, reason text DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    current  record;
    document jsonb;
BEGIN
    -- The lock comes first, because the draft may be being discarded.
    SELECT * INTO STRICT current FROM arx.lock_risk_models();
    document := arx.require_risk_model(activate_risk_model.version);
    IF current.version <> activate_risk_model.version THEN
        -- The document may have been restored from a dump.
        PERFORM arx.check_risk_model(document);
        INSERT INTO arx.risk_model_activations (version, follows, reason)
        VALUES (activate_risk_model.version, current.activation_id, activate_risk_model.reason);
    END IF;
    RETURN current.version;
END;
$$;

CREATE FUNCTION rollback_risk_model(reason text DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    current record;
    target  record;
BEGIN
    SELECT * INTO STRICT current FROM arx.lock_risk_models();
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
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM arx.lock_risk_models();
    PERFORM arx.require_risk_model(discard_risk_model.version);
    DELETE FROM arx.risk_models AS m WHERE m.version = discard_risk_model.version;
END;
$$;

CREATE FUNCTION import_risk_model(document jsonb, network text DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
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
