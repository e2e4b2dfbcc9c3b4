-- Functions behind the triggers of tables/.

-- Restoring a dump into tables that create_tables() has made brings the rows that ARX ships once
-- more. The restored row takes the place of the one that exists, because users may have changed it.
-- A risk model never changes, so the one that exists stays.
CREATE FUNCTION replace_builtin_row() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    is_present boolean;
BEGIN
    IF TG_TABLE_NAME IN ('risk_models', 'risk_model_activations') THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %I = ($1).%2$I)', TG_RELID::regclass, TG_ARGV[0])
           INTO is_present USING NEW;
        IF is_present THEN
            RETURN NULL;
        END IF;
    ELSE
        EXECUTE format('DELETE FROM %s WHERE %I = ($1).%2$I AND builtin', TG_RELID::regclass, TG_ARGV[0]) USING NEW;
    END IF;
    RETURN NEW;
END;
$$;
