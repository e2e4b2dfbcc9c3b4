-- Advice on queries: what a plan lacks, and what never runs.
SET timezone = 'UTC';
SELECT * FROM arx.slow_queries();
CREATE SCHEMA desk;
CREATE TABLE desk.notes (id bigint, author text, wallet text) WITH (autovacuum_enabled = off);
INSERT INTO desk.notes SELECT n, 'author ' || n % 5, 'wallet ' || n % 5000 FROM generate_series(1, 20000) AS n;
SELECT pg_stat_force_next_flush() IS NULL AS flushed;
SELECT * FROM arx.explain_advice('SELECT * FROM desk.notes');
CREATE ROLE query_analyst;
GRANT arx_reader TO query_analyst;
GRANT USAGE ON SCHEMA desk TO query_analyst;
GRANT SELECT, DELETE ON desk.notes TO query_analyst;
SET ROLE query_analyst;
SELECT problem, object, statement FROM arx.explain_advice('SELECT * FROM desk.notes AS x WHERE x.wallet = ''wallet 7'' AND author = ''author 1''');
RESET ROLE;
ANALYZE desk.notes;
SET ROLE query_analyst;
SELECT problem, object, statement FROM arx.explain_advice('SELECT * FROM desk.notes AS x WHERE x.wallet = ''wallet 7'' AND author = ''author 1''');
RESET ROLE;
CREATE INDEX ON desk.notes (wallet);
SET ROLE query_analyst;
SELECT problem, object, statement FROM arx.explain_advice('SELECT * FROM desk.notes AS x WHERE x.wallet = ''wallet 7''');
-- All partitions, or those of a time.
RESET ROLE;
SELECT count(*) > 0 AS created FROM arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-06-01');
SET ROLE query_analyst;
SELECT problem, object, statement FROM arx.explain_advice('SELECT count(*) FROM arx.transactions');
SELECT problem, object, statement
  FROM arx.explain_advice($$SELECT count(*) FROM arx.transactions WHERE "timestamp" >= '2024-02-01' AND "timestamp" < '2024-03-01'$$);
SET jit = on;
SET jit_above_cost = 10;
SELECT problem, object, statement FROM arx.explain_advice('SELECT * FROM desk.notes');
-- Nothing of it runs.
SELECT count(*) FROM arx.explain_advice('DELETE FROM desk.notes');
SELECT count(*) FROM desk.notes;
\set VERBOSITY terse
SELECT * FROM arx.explain_advice('SELECT 1; DROP TABLE desk.notes');
SELECT * FROM arx.explain_advice('ANALYZE DELETE FROM desk.notes');
SELECT * FROM arx.explain_advice('DROP TABLE desk.notes');
SELECT * FROM arx.explain_advice('');
SELECT * FROM arx.explain_advice(NULL);
SELECT * FROM arx.explain_advice('SELECT * FROM notes');
SELECT * FROM arx.explain_advice('SELECT ' || repeat(' ', 1000000) || '1');
\set VERBOSITY default
SELECT count(*) FROM desk.notes;
RESET ROLE;
DROP OWNED BY query_analyst;
DROP ROLE query_analyst;
