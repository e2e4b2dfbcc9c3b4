-- Every function states its volatility, strictness, parallel safety and purpose.
SELECT p.oid::regprocedure::text AS function, p.provolatile AS vol, p.proisstrict AS strict, p.proparallel AS par, p.prosecdef AS definer
  FROM pg_proc AS p WHERE p.pronamespace = 'arx'::regnamespace ORDER BY 1;
-- No object is without a comment.
SELECT p.oid::regprocedure FROM pg_proc AS p
 WHERE p.pronamespace = 'arx'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass FROM pg_class AS c
 WHERE c.relnamespace = 'arx'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
   AND obj_description(c.oid, 'pg_class') IS NULL;
-- Every SECURITY DEFINER function has a fixed search_path.
SELECT p.oid::regprocedure FROM pg_proc AS p
 WHERE p.pronamespace = 'arx'::regnamespace AND p.prosecdef
   AND NOT coalesce(p.proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp'];
-- PUBLIC has no privileges.
SELECT p.oid::regprocedure FROM pg_proc AS p
 CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
 WHERE p.pronamespace = 'arx'::regnamespace AND a.grantee = 0;
SELECT c.oid::regclass FROM pg_class AS c
 CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
 WHERE c.relnamespace = 'arx'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S') AND a.grantee = 0;
SELECT n.nspname FROM pg_namespace AS n CROSS JOIN LATERAL aclexplode(n.nspacl) AS a WHERE n.nspname = 'arx' AND a.grantee = 0;
-- Functions that each role may call.
SELECT p.oid::regprocedure::text AS function, has_function_privilege('arx_reader', p.oid, 'EXECUTE') AS reader,
       has_function_privilege('arx_operator', p.oid, 'EXECUTE') AS operator
  FROM pg_proc AS p WHERE p.pronamespace = 'arx'::regnamespace ORDER BY 1;
-- Names given by the specification exist.
SELECT count(*) FROM (VALUES ('users'), ('wallet_profiles'), ('transactions'), ('daily_transaction_stats'), ('performance_dashboard'))
    AS t (name) WHERE to_regclass('arx.' || t.name) IS NULL;
