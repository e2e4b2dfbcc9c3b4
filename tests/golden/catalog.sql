-- Every function says how it may be used: volatility, strictness, parallel safety, and what it does.
SELECT p.oid::regprocedure::text AS function, p.provolatile AS vol, p.proisstrict AS strict, p.proparallel AS par, p.prosecdef AS definer
  FROM pg_proc AS p WHERE p.pronamespace = 'arx'::regnamespace ORDER BY 1;
-- without a comment: none
SELECT p.oid::regprocedure FROM pg_proc AS p
 WHERE p.pronamespace = 'arx'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass FROM pg_class AS c
 WHERE c.relnamespace = 'arx'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
   AND obj_description(c.oid, 'pg_class') IS NULL;
-- SECURITY DEFINER without a fixed search_path: none
SELECT p.oid::regprocedure FROM pg_proc AS p
 WHERE p.pronamespace = 'arx'::regnamespace AND p.prosecdef
   AND NOT coalesce(p.proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp'];
-- what PUBLIC may do: nothing
SELECT p.oid::regprocedure FROM pg_proc AS p
 CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
 WHERE p.pronamespace = 'arx'::regnamespace AND a.grantee = 0;
SELECT c.oid::regclass FROM pg_class AS c
 CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
 WHERE c.relnamespace = 'arx'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S') AND a.grantee = 0;
SELECT n.nspname FROM pg_namespace AS n CROSS JOIN LATERAL aclexplode(n.nspacl) AS a WHERE n.nspname = 'arx' AND a.grantee = 0;
-- who may call what
SELECT p.oid::regprocedure::text AS function, has_function_privilege('arx_reader', p.oid, 'EXECUTE') AS reader,
       has_function_privilege('arx_operator', p.oid, 'EXECUTE') AS operator
  FROM pg_proc AS p WHERE p.pronamespace = 'arx'::regnamespace ORDER BY 1;
-- names that the specification gives
SELECT count(*) FROM (VALUES ('users'), ('wallet_profiles'), ('transactions'), ('daily_transaction_stats'), ('performance_dashboard'))
    AS t (name) WHERE to_regclass('arx.' || t.name) IS NULL;
