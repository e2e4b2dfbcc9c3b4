-- Policies for tables of any kind.
\set SHOW_CONTEXT never
CREATE SCHEMA app;
-- Integers: partitions are made ahead of the greatest in the table.
CREATE TABLE app.events (id bigint PRIMARY KEY, payload text, doubled bigint GENERATED ALWAYS AS (id * 2) STORED)
    PARTITION BY RANGE (id);
CREATE TABLE app.events_rest PARTITION OF app.events DEFAULT;
INSERT INTO app.events (id, payload) VALUES (5, 'a'), (999, 'b'), (1000, 'c'), (3500, 'd'), (-1, 'e');
SELECT * FROM arx.manage_partitions('app.events', '1000', premake => 2, retention => '2500');
SELECT action, bounds, statement, lock, estimated_rows >= 0 AS has_estimate FROM arx.partition_plan('app.events');
SELECT action, partition, reason, done, error FROM arx.run_partition_maintenance('app.events');
SELECT tableoid::regclass, id, doubled FROM app.events ORDER BY id;
SELECT count(*) FROM arx.run_partition_maintenance('app.events');
SELECT id FROM app.events_p0 ORDER BY id;
SELECT arx.ensure_integer_partitions('app.events', 7000, 8999);
SELECT arx.ensure_partitions('app.events', '2024-01-01', '2024-02-01');
SELECT arx.ensure_integer_partitions('arx.transactions', 1, 2);
SELECT partition, bounds, range_from, rows_are_exact FROM arx.partition_status WHERE relation = 'app.events' ORDER BY partition;
-- A partition that was detached comes back with its former bounds.
SELECT arx.attach_partition('app.events_m1000');
SELECT count(*) FROM app.events WHERE id < 0;
SELECT arx.attach_partition('app.events_rest');
-- Seconds, a time zone with daylight saving time, weeks, and dates.
CREATE TABLE app.logs (at integer NOT NULL, line text) PARTITION BY RANGE (at);
SELECT count(*) FROM arx.manage_partitions('app.logs', '1 month', epoch => 'seconds', time_zone => 'Europe/Berlin');
SELECT arx.ensure_partitions('app.logs', '2024-03-15 12:00+00', '2024-03-15 12:00+00');
SELECT partition, range_from AT TIME ZONE 'Europe/Berlin' AS local_from, range_to AT TIME ZONE 'Europe/Berlin' AS local_to
  FROM arx.partition_status WHERE relation = 'app.logs';
CREATE TABLE app.visits (day date NOT NULL, page text) PARTITION BY RANGE (day);
SELECT count(*) FROM arx.manage_partitions('app.visits', '1 week', premake => 1);
SET datestyle = 'SQL, DMY';
SET timezone = 'Asia/Kolkata';
SELECT arx.ensure_partitions('app.visits', '30/12/2024', '06/01/2025');
SELECT pg_get_expr(relpartbound, 0) FROM pg_class WHERE relname ~ '^visits_2025' ORDER BY relname;
RESET datestyle;
RESET timezone;
-- Sub-partitions by hash, a name with quotes and Unicode, a dropped column, and rows that wait.
CREATE TABLE app."Größe ""x""" (gone text, at timestamptz NOT NULL, wallet text NOT NULL, PRIMARY KEY (at, wallet))
    PARTITION BY RANGE (at);
ALTER TABLE app."Größe ""x""" DROP COLUMN gone;
CREATE TABLE app.rest PARTITION OF app."Größe ""x""" DEFAULT;
INSERT INTO app."Größe ""x""" SELECT '2023-05-05', 'w' || n FROM generate_series(1, 50) AS n;
SELECT count(*) FROM arx.manage_partitions('app."Größe ""x"""', '1 year', hash_column => 'wallet', hash_partitions => 3);
SELECT arx.ensure_partitions('app."Größe ""x"""', '2022-01-01', '2023-12-31');
SELECT parent.relname, count(*) AS parts
  FROM pg_inherits AS i JOIN pg_class AS parent ON parent.oid = i.inhparent
 WHERE parent.relname ~ '^Größe.*_20' GROUP BY 1 ORDER BY 1;
SELECT count(*), count(DISTINCT tableoid) > 1 AS spread FROM app."Größe ""x""_2023";
-- Partitions that exist are adopted, whatever their names, and addressed by oid.
CREATE TABLE app.orders (at timestamptz NOT NULL, n integer) PARTITION BY RANGE (at);
CREATE TABLE app.first PARTITION OF app.orders FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
CREATE TABLE app.odd PARTITION OF app.orders FOR VALUES FROM ('2020-02-01 00:00+00') TO ('2020-02-20 00:00+00');
CREATE SCHEMA old;
SELECT action, partition, regexp_replace(reason, 'before [^ ]* [^ ]*:', 'before …:') AS reason
  FROM arx.manage_partitions('app.orders', '1 month', 0, '1 year', 'move', retention_schema => 'old')
 WHERE partition ~ 'first|odd';
SELECT action, partition, done, error FROM arx.run_partition_maintenance('app.orders') WHERE action <> 'create';
SELECT to_regclass('old.first');
SELECT arx.ensure_partitions('app.orders', '2020-01-15', '2020-02-15');
-- One step that fails leaves the others done, and is an alert.
CREATE TABLE app.notes (at timestamptz PRIMARY KEY) PARTITION BY RANGE (at);
CREATE TABLE app.notes_2020_01 PARTITION OF app.notes FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
CREATE TABLE app.notes_2020_02 PARTITION OF app.notes FOR VALUES FROM ('2020-02-01 00:00+00') TO ('2020-03-01 00:00+00');
CREATE TABLE app.notes_2020_03 PARTITION OF app.notes FOR VALUES FROM ('2020-03-01 00:00+00') TO ('2020-04-01 00:00+00');
INSERT INTO app.notes VALUES ('2020-01-05 00:00+00'), ('2020-02-05 00:00+00'), ('2020-03-05 00:00+00');
CREATE TABLE app.refs (at timestamptz REFERENCES app.notes);
INSERT INTO app.refs VALUES ('2020-01-05 00:00+00');
CREATE VIEW app.february AS SELECT * FROM app.notes_2020_02;
SELECT count(*) FROM arx.manage_partitions('app.notes', 'monthly', 1, '1 year', 'drop');
SELECT action, done, count(*) FROM arx.run_partition_maintenance('app.notes') GROUP BY 1, 2 ORDER BY 1, 2;
SELECT partition, outcome, sqlstate, error IS NOT NULL AS has_error FROM arx.partition_events WHERE relation = 'app.notes' AND action = 'drop' ORDER BY event_id;
SELECT alert_type, value FROM arx.check_performance_alerts() WHERE alert_type = 'partition_failures';
SELECT relation, last_failures, last_error IS NOT NULL AS has_error FROM arx.partition_health WHERE relation = 'app.notes';
DROP TABLE app.refs;
DROP VIEW app.february;
SELECT action, partition, done FROM arx.run_partition_maintenance('app.notes');
SELECT count(*) FROM arx.check_performance_alerts() WHERE alert_type = 'partition_failures';
-- A clock that was set back creates partitions, and retires nothing.
INSERT INTO arx.partition_events (happened_at, parent, relation, action, outcome)
VALUES (now() + interval '2 days', 0, 'x', 'run', 'done');
SELECT arx.ensure_partitions('app.notes', '2020-01-01', '2020-01-31');
SELECT action, partition, done, regexp_replace(error, ', of .*', '') AS error FROM arx.run_partition_maintenance('app.notes');
DELETE FROM arx.partition_events WHERE parent = 0;
-- A table by hash gets its partitions, and another number of them.
CREATE TABLE app.wallets (address text NOT NULL, n integer) PARTITION BY HASH (address);
SELECT * FROM arx.create_hash_partitions('app.wallets', 3);
INSERT INTO app.wallets SELECT 'w' || n, n FROM generate_series(1, 100) AS n;
SELECT * FROM arx.create_hash_partitions('app.wallets', 5);
SELECT * FROM arx.create_hash_partitions('app.wallets', 5);
SELECT count(*), count(DISTINCT tableoid) FROM app.wallets;
-- Procedures commit between steps.
BEGIN;
CALL arx.maintain_partitions();
ROLLBACK;
CALL arx.maintain_partitions('app.visits');
CALL arx.drain_default_partitions('app.events');
-- Policies that do not suit their table.
CREATE TABLE app.plain (at timestamptz);
CREATE TABLE app.listed (at text) PARTITION BY LIST (at);
CREATE TABLE app.two (a integer, b integer) PARTITION BY RANGE (a, b);
CREATE TABLE app.texts (a text) PARTITION BY RANGE (a);
SELECT * FROM arx.manage_partitions('app.plain', '1 month');
SELECT * FROM arx.manage_partitions('app.listed', '1 month');
SELECT * FROM arx.manage_partitions('app.two', '1000');
SELECT * FROM arx.manage_partitions('app.texts', '1 month');
SELECT * FROM arx.manage_partitions('app.orders', '0 months');
SELECT * FROM arx.manage_partitions('app.orders', '1 month 3 days');
SELECT * FROM arx.manage_partitions('app.orders', '1 fortnight');
SELECT * FROM arx.manage_partitions('app.orders', '1 month', time_zone => 'Mars/Olympus');
SELECT * FROM arx.manage_partitions('app.orders', '1 month', epoch => 'seconds');
SELECT * FROM arx.manage_partitions('app.events', '1 month');
SELECT * FROM arx.manage_partitions('app.orders', '1 month', retention_action => 'burn');
SELECT * FROM arx.manage_partitions('app.orders', '1 month', retention_action => 'move');
SELECT * FROM arx.manage_partitions('app.orders', '1 month', premake => -1);
SELECT * FROM arx.manage_partitions('app.orders', '1 month', hash_column => 'n');
SELECT * FROM arx.manage_partitions(NULL, '1 month');
SELECT arx.partition_step('app.orders', 'drop', 'first', 'app.odd'::regclass, NULL, NULL, NULL);
-- A policy lends the rights of the table's owner, so only that role may write one.
SELECT 'stranger_' || current_database() AS stranger \gset
CREATE ROLE :"stranger" IN ROLE arx_operator;
GRANT USAGE ON SCHEMA app TO :"stranger";
SET ROLE :"stranger";
SELECT * FROM arx.manage_partitions('app.orders', '1 month', retention => '1 month', retention_action => 'drop');
SELECT arx.create_hash_partitions('app.wallets', 2);
SELECT arx.attach_partition('app.plain', 'app.orders', '2019-01-01', '2019-02-01');
RESET ROLE;
DROP OWNED BY :"stranger";
DROP ROLE :"stranger";
-- An ordinary table becomes a partitioned one, with its privileges, triggers and keys.
CREATE TABLE app.kinds (kind text PRIMARY KEY);
INSERT INTO app.kinds VALUES ('x');
CREATE TABLE app.journal (
    id bigserial, at timestamptz NOT NULL, kind text REFERENCES app.kinds, size integer CHECK (size > 0),
    twice integer GENERATED ALWAYS AS (size * 2) STORED, PRIMARY KEY (id, at)
);
COMMENT ON TABLE app.journal IS '100 % ours';
GRANT SELECT ON app.journal TO arx_reader;
CREATE INDEX journal_kind ON app.journal (kind);
CREATE FUNCTION app.shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.kind := lower(NEW.kind); RETURN NEW; END';
CREATE TRIGGER shout BEFORE INSERT ON app.journal FOR EACH ROW EXECUTE FUNCTION app.shout();
INSERT INTO app.journal (at, kind, size) SELECT '2024-01-01 00:00+00'::timestamptz + n * interval '1 day', 'X', n FROM generate_series(1, 90) AS n;
SELECT arx.convert_table('app.journal', 'at', '1 month', premake => 0);
SELECT count(*), count(DISTINCT tableoid) FROM app.journal;
CALL arx.drain_default_partitions('app.journal');
SELECT tableoid::regclass, count(*), sum(twice) FROM app.journal GROUP BY 1 ORDER BY 1;
INSERT INTO app.journal (at, kind, size) VALUES ('2024-02-29', 'X', 1) RETURNING id, kind, twice, tableoid::regclass;
INSERT INTO app.journal (at, kind, size) VALUES ('2024-02-29', 'y', 1);
SELECT obj_description('app.journal'::regclass), has_table_privilege('arx_reader', 'app.journal', 'SELECT') AS readable,
       pg_get_serial_sequence('app.journal', 'id') AS sequence;
SELECT conname, contype FROM pg_constraint WHERE conrelid = 'app.journal'::regclass AND contype <> 'n' ORDER BY 1;
-- Obstacles to converting a table.
SELECT arx.convert_table('app.journal', 'at', '1 month');
CREATE TABLE app.unfit (id integer PRIMARY KEY, at timestamptz, day date NOT NULL);
SELECT arx.convert_table('app.unfit', 'at', '1 month');
SELECT arx.convert_table('app.unfit', 'day', '1 month');
SELECT arx.convert_table('app.unfit', 'nothing', '1 month');
ALTER TABLE app.unfit DROP CONSTRAINT unfit_pkey;
CREATE MATERIALIZED VIEW app.looks AS SELECT * FROM app.unfit;
SELECT arx.convert_table('app.unfit', 'day', '1 month');
DROP MATERIALIZED VIEW app.looks;
SELECT arx.convert_table('app.unfit', 'day', '1 hour');
SELECT relkind FROM pg_class WHERE oid = 'app.unfit'::regclass;
