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
-- stay after DROP EXTENSION. Two databases may get the extension at a time.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT r.name, r.parent FROM (VALUES
            (1, 'arx_reader', NULL),
            (2, 'arx_operator', 'arx_reader'),
            -- The sidecar connects as a member of this role.
            (3, 'arx_feeder', 'arx_operator'),
            -- Screens transfers, and works on alerts.
            (4, 'arx_analyst', 'arx_reader')
        ) AS r (position, name, parent)
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS e WHERE e.rolname = r.name)
         ORDER BY r.position
    LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted.name)
                    || coalesce(' IN ROLE ' || quote_ident(wanted.parent), '');
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
    IF NOT pg_has_role('arx_operator', 'arx_analyst', 'MEMBER') THEN
        BEGIN
            GRANT arx_analyst TO arx_operator;
        -- Another database does it at the same time.
        EXCEPTION WHEN unique_violation OR internal_error THEN
            NULL;
        END;
    END IF;
END;
$$;
