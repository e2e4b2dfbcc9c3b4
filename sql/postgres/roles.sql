-- Roles belong to the cluster, not to the extension: they are made if missing and stay after DROP EXTENSION.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'arx_reader') THEN
        CREATE ROLE arx_reader NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'arx_operator') THEN
        CREATE ROLE arx_operator NOLOGIN IN ROLE arx_reader;
    END IF;
END;
$$;

CREATE FUNCTION grant_on_partition(partition regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    EXECUTE format('GRANT SELECT ON TABLE %s TO arx_reader', partition);
    EXECUTE format('GRANT INSERT, UPDATE, DELETE, TRUNCATE ON TABLE %s TO arx_operator', partition);
END;
$$;
