-- Tables that belong to a role without further rights: maintenance changes them as their owner.
\set SHOW_CONTEXT never
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
SELECT 'ouma_' || current_database() AS ouma, 'operator_' || current_database() AS operator, 'reader_' || current_database() AS reader \gset
CREATE ROLE :"ouma";
CREATE ROLE :"operator" IN ROLE arx_operator;
CREATE ROLE :"reader" IN ROLE arx_reader;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
SELECT 'testnet', 't' || n, n, '2020-01-15'::timestamptz + n * interval '1 month', 'a', 'b', 1 FROM generate_series(0, 7) AS n;
-- Rights that the owner lacks are named.
ALTER TABLE arx.transactions OWNER TO :"ouma";
SET ROLE :"operator";
SELECT arx.ensure_partitions('arx.transactions', '2020-01-01', '2020-01-31');
RESET ROLE;
GRANT USAGE, CREATE ON SCHEMA arx TO :"ouma";
SET ROLE :"operator";
SELECT arx.ensure_partitions('arx.transactions', '2020-01-01', '2020-01-31');
SELECT count(*) FROM arx.partition_plan('arx.transactions');
RESET ROLE;
ALTER TABLE arx.transactions_default OWNER TO :"ouma";
GRANT USAGE ON TYPE arx.tx_status_enum TO :"ouma";
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA arx TO :"ouma";
-- The owner's code in a trigger and in an index tries what it can.
CREATE SCHEMA ouma AUTHORIZATION :"ouma";
SET ROLE :"ouma";
CREATE TABLE ouma.seen (attempt text, is_owner boolean, outcome text);
CREATE FUNCTION ouma.attempt(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(statement, 'ouma_' || current_database());
    INSERT INTO ouma.seen VALUES (statement, current_user = 'ouma_' || current_database(), 'done');
EXCEPTION WHEN OTHERS THEN
    -- The first text is that of PostgreSQL 15.
    INSERT INTO ouma.seen VALUES (statement, current_user = 'ouma_' || current_database(),
        replace(SQLERRM, 'must be superuser to alter superuser roles or change superuser attribute', 'permission denied to alter role'));
END;
$$;
CREATE FUNCTION ouma.take() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ouma.attempt('ALTER ROLE %I SUPERUSER');
    PERFORM ouma.attempt('RESET ROLE');
    PERFORM ouma.attempt('RESET SESSION AUTHORIZATION');
    PERFORM ouma.attempt('CREATE TEMP TABLE pg_class (x integer)');
    PERFORM ouma.attempt('PREPARE later AS SELECT 1');
    PERFORM ouma.attempt('SET search_path = ouma');
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END;
$$;
CREATE FUNCTION ouma.who(x text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF current_user <> 'ouma_' || current_database() THEN
        RAISE EXCEPTION 'the index expression runs as another role';
    END IF;
    RETURN x;
END;
$$;
CREATE TRIGGER aaa BEFORE INSERT OR DELETE ON arx.transactions FOR EACH ROW EXECUTE FUNCTION ouma.take();
-- Only such triggers fire for rows that ARX moves.
ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER aaa;
CREATE INDEX ON arx.transactions (ouma.who(tx_hash));
RESET ROLE;
SET ROLE :"operator";
SELECT arx.ensure_partitions('arx.transactions', '2020-01-01', '2020-01-31');
RESET ROLE;
SHOW search_path;
SELECT attempt, is_owner, outcome, count(*) FROM ouma.seen GROUP BY 1, 2, 3 ORDER BY 1;
-- A superuser gives nothing away either.
SELECT arx.ensure_partitions('arx.transactions', '2020-02-01', '2020-02-20');
SELECT current_user = session_user AS is_caller;
SHOW search_path;
SELECT attempt, is_owner, outcome, count(*) FROM ouma.seen GROUP BY 1, 2, 3 ORDER BY 1;
SELECT rolsuper FROM pg_roles WHERE rolname = :'ouma';
SELECT count(*) AS moved, bool_and(pg_get_userbyid(c.relowner) = :'ouma') AS of_owner
  FROM arx.transactions AS t JOIN pg_class AS c ON c.oid = t.tableoid WHERE c.relname <> 'transactions_default';
-- Statistics, too.
SELECT pg_stat_force_next_flush();
SELECT relation FROM arx.update_table_statistics() WHERE relation = 'arx.transactions';
-- A deferred trigger would run as the caller, so it is refused.
SET ROLE :"ouma";
CREATE FUNCTION ouma.late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM ouma.attempt(''ALTER ROLE %I SUPERUSER''); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER late AFTER DELETE ON arx.transactions_default DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ouma.late();
ALTER TABLE arx.transactions_default ENABLE ALWAYS TRIGGER late;
RESET ROLE;
SELECT arx.ensure_partitions('arx.transactions', '2020-03-01', '2020-03-20');
SELECT rolsuper FROM pg_roles WHERE rolname = :'ouma';
DROP TRIGGER late ON arx.transactions_default;
-- After an error, user and settings are those of the caller, also within the transaction.
BEGIN;
CREATE TRIGGER zzz BEFORE DELETE ON arx.transactions FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER zzz;
SAVEPOINT before;
SELECT arx.ensure_partitions('arx.transactions', '2020-03-01', '2020-03-20');
ROLLBACK TO before;
SELECT current_user = session_user AS is_caller;
SHOW search_path;
SHOW row_security;
ROLLBACK;
-- A policy cannot hide rows from maintenance: it is an error.
SET ROLE :"ouma";
ALTER TABLE arx.transactions_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE arx.transactions_default FORCE ROW LEVEL SECURITY;
CREATE POLICY none ON arx.transactions_default USING (ouma.who(tx_hash) = '');
RESET ROLE;
SELECT arx.ensure_partitions('arx.transactions', '2020-03-01', '2020-03-20');
ALTER TABLE arx.transactions_default DISABLE ROW LEVEL SECURITY;
-- A caller who may not see a row does not learn its hash.
SET ROLE :"ouma";
ALTER TABLE arx.transactions DISABLE TRIGGER aaa;
ALTER TABLE arx.transactions DROP CONSTRAINT transactions_timestamp_check;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'bad', 1, 'infinity', 'a', 'b', 1);
RESET ROLE;
SET ROLE :"reader";
SELECT regexp_replace(reason, 'from .* on', 'from … on') AS reason FROM arx.partition_plan('arx.transactions') WHERE action = 'quarantine';
RESET ROLE;
ALTER TABLE arx.transactions ENABLE ROW LEVEL SECURITY;
SET ROLE :"reader";
SELECT regexp_replace(reason, 'from .* on', 'from … on') AS reason FROM arx.partition_plan('arx.transactions') WHERE action = 'quarantine';
RESET ROLE;
-- An operator may have maintenance run, and nothing else as the owner.
SET ROLE :"operator";
SELECT count(*) > 3 AS made, bool_or(done) AS done FROM arx.run_partition_maintenance();
SELECT arx.ensure_partitions('arx.wallet_profiles', '2020-01-01', '2020-01-31');
SELECT arx.ensure_partitions('pg_catalog.pg_class', '2020-01-01', '2020-01-31');
SELECT arx.create_hash_partitions('arx.transactions');
DROP TABLE arx.transactions_2020_01;
RESET ROLE;
DROP SCHEMA ouma CASCADE;
REASSIGN OWNED BY :"ouma" TO CURRENT_USER;
DROP OWNED BY :"ouma";
DROP ROLE :"ouma", :"operator", :"reader";
