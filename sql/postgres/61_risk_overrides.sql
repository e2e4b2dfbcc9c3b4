-- Overrides of risk scores. The table is in tables/50_risk.sql.

CREATE FUNCTION guard_risk_override() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF OLD.ended_at IS NOT NULL AND (NEW.ended_at, NEW.ended_by) IS DISTINCT FROM (OLD.ended_at, OLD.ended_by) THEN
        RAISE EXCEPTION 'risk override % has ended and cannot be changed', OLD.override_id
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Create a new one with arx.override_risk().';
    END IF;
    IF NEW.ended_at IS NOT NULL AND OLD.ended_at IS NULL THEN
        NEW.ended_at := least(now(), OLD.expires_at);
        NEW.ended_by := arx.calling_user();
    END IF;
    RETURN NEW;
END;
$$;
CREATE FUNCTION override_risk(address text, network text, score numeric, reason text, expires_at timestamptz)
    RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    canonical text := arx.registered_network(override_risk.network);
    wallet    text := arx.require_address(override_risk.address, canonical);
    missing   text := CASE WHEN override_risk.score IS NULL THEN 'score' WHEN override_risk.reason IS NULL THEN 'reason'
                           WHEN override_risk.expires_at IS NULL THEN 'expires_at' END;
    created   bigint;
BEGIN
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION '% must not be null', missing USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF override_risk.score NOT BETWEEN 0 AND 100 OR override_risk.score <> round(override_risk.score, 1) THEN
        RAISE EXCEPTION 'score must be between 0 and 100 with at most one decimal, not %', override_risk.score
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF btrim(override_risk.reason) = '' THEN
        RAISE EXCEPTION 'reason must not be empty' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF override_risk.expires_at <= now() THEN
        RAISE EXCEPTION 'expires_at must be in the future, not %', override_risk.expires_at
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF override_risk.expires_at > now() + interval '1 year' THEN
        RAISE EXCEPTION 'expires_at must be within a year, not %', override_risk.expires_at
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Renew the override before it expires.';
    END IF;
    IF EXISTS (SELECT FROM arx.address_labels AS l
                WHERE l.address = wallet AND l.network = canonical AND l.category = 'sanctions'
                  AND l.valid_from <= now() AND l.valid_to > now()) THEN
        RAISE EXCEPTION 'the score of % cannot be overridden: the wallet is under sanctions', wallet
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'If the label is wrong, end its validity in arx.address_labels.';
    END IF;
    -- Concurrent overrides of a wallet run one after the other: the later one ends the earlier one.
    PERFORM arx.lock_job('risk_overrides');
    UPDATE arx.risk_overrides AS o
       SET ended_at = least(now(), o.expires_at), ended_by = arx.calling_user()
     WHERE o.network = canonical AND o.address = wallet AND o.ended_at IS NULL;
    INSERT INTO arx.risk_overrides (network, address, score, reason, expires_at)
    VALUES (canonical, wallet, override_risk.score, btrim(override_risk.reason), override_risk.expires_at)
    RETURNING override_id INTO created;
    RETURN created;
END;
$$;

CREATE FUNCTION end_risk_override(override_id bigint) RETURNS boolean
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF end_risk_override.override_id IS NULL THEN
        RAISE EXCEPTION 'override_id must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    UPDATE arx.risk_overrides AS o SET ended_at = now(), ended_by = arx.calling_user()
     WHERE o.override_id = end_risk_override.override_id AND o.ended_at IS NULL AND o.expires_at > now();
    RETURN FOUND;
END;
$$;
