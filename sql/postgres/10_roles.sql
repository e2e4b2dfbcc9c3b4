-- Roles belong to the cluster, not to the extension: they are created if they do not exist, and
-- stay after DROP EXTENSION.
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
