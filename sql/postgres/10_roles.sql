-- The schema and the roles.
--
-- The extension holds code and the internal state of ARX. The tables of users, with their types,
-- views, triggers and indexes, are ordinary tables: arx.create_tables() makes them from tables/.

DO $$
BEGIN
    -- Its owner could replace what is created in it.
    IF EXISTS (SELECT FROM pg_namespace AS n JOIN pg_roles AS r ON r.oid = n.nspowner
                WHERE n.nspname = 'arx' AND NOT r.rolsuper AND r.rolname <> current_user) THEN
        RAISE EXCEPTION 'schema "arx" belongs to another role, which could replace what the extension creates in it'
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('ALTER SCHEMA arx OWNER TO %I, or drop the schema.', current_user);
    END IF;
END;
$$;

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
    -- The sidecar connects as a member of this role.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'arx_feeder') THEN
        CREATE ROLE arx_feeder NOLOGIN IN ROLE arx_operator;
    END IF;
END;
$$;
