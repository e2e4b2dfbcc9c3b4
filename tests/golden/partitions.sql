SET timezone = 'Pacific/Auckland';
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
-- Months are created ahead for both tables; a second run has nothing to do.
SELECT relation, action, count(*), bool_and(done) FROM arx.run_partition_maintenance(dry_run => true) GROUP BY 1, 2 ORDER BY 1;
SELECT count(*) FROM arx.partition_status WHERE NOT is_default;
SELECT relation, action, count(*), bool_and(done) FROM arx.run_partition_maintenance() GROUP BY 1, 2 ORDER BY 1;
SELECT count(*) FROM arx.run_partition_maintenance();
-- A row without a month is stored in the default partition, then moves and keeps its stamp.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 't1', 1, '2020-05-15', 'a', 'b', 1), ('testnet', 't2', 2, '2020-05-31 23:59:59.999999+00', 'a', 'b', 1),
       ('testnet', 't3', 3, '2020-06-01 00:00:00+00', 'a', 'b', 1);
SELECT tableoid::regclass, count(*) FROM arx.transactions GROUP BY 1 ORDER BY 1;
SELECT md5(string_agg(tx_hash || ingest_xid, ',' ORDER BY tx_hash)) AS before FROM arx.transactions \gset
SELECT action, partition, reason, done FROM arx.manage_partitions('arx.transactions');
SELECT tableoid::regclass, count(*) FROM arx.transactions GROUP BY 1 ORDER BY 1;
SELECT md5(string_agg(tx_hash || ingest_xid, ',' ORDER BY tx_hash)) = :'before' AS unchanged FROM arx.transactions;
SELECT count(*) AS changes FROM arx.transaction_changes;
SELECT partition, range_from AT TIME ZONE 'UTC' AS range_from, range_to AT TIME ZONE 'UTC' AS range_to FROM arx.partition_status
 WHERE partition LIKE '%2020%' ORDER BY 1;
-- A new partition has the triggers of its parent. Readers and operators use it through its parent.
SELECT tgname FROM pg_trigger WHERE tgrelid = 'arx.transactions_2020_05'::regclass AND NOT tgisinternal ORDER BY 1;
SELECT c.oid::regclass AS partition, r.role, p.privilege
  FROM pg_class AS c
 CROSS JOIN unnest(ARRAY['arx_reader', 'arx_operator']) AS r (role)
 CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p (privilege)
 WHERE c.relispartition AND c.relkind IN ('r', 'p') AND c.relnamespace = 'arx'::regnamespace
   AND has_table_privilege(r.role, c.oid, p.privilege);
SET ROLE arx_reader;
SELECT count(*) FROM arx.transactions;
SELECT count(*) FROM arx.transactions_2020_05;
SELECT count(*) FROM arx.transactions_default;
RESET ROLE;
SET ROLE arx_operator;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'o1', 1, '2020-05-20', 'a', 'b', 1), ('testnet', 'o2', 1, '2001-05-20', 'a', 'b', 1);
UPDATE arx.transactions SET value = 2 WHERE tx_hash = 'o1';
DELETE FROM arx.transactions WHERE tx_hash IN ('o1', 'o2');
INSERT INTO arx.transactions_2020_05 SELECT * FROM arx.transactions_2020_05;
DELETE FROM arx.transactions_default;
RESET ROLE;
-- Retention: old months are detached, and dropped only if the policy requires it.
INSERT INTO arx.partition_policies (relation, retention_months) VALUES ('arx.transactions', 12);
SELECT action, partition, done FROM arx.manage_partitions(dry_run => true) ORDER BY partition;
SELECT action, partition, done FROM arx.manage_partitions() ORDER BY partition;
SELECT count(*) FROM arx.transactions_2020_05;
SELECT count(*) FROM arx.transactions;
-- A late row of a retired month gets a partition of another name, which is retired at once.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'late', 1, '2020-05-21', 'a', 'b', 1);
SELECT action, partition, done FROM arx.manage_partitions(dry_run => true) ORDER BY 1;
SELECT action, partition, done, error FROM arx.manage_partitions() ORDER BY 1;
SELECT count(*) FROM arx.manage_partitions();
SELECT tx_hash FROM arx.transactions_2020_05_2;
DROP TABLE arx.transactions_2020_05, arx.transactions_2020_05_2, arx.transactions_2020_06;
SELECT arx.ensure_partitions('arx.transactions', '2020-05-01 12:00+00', '2020-07-01 12:00+00');
UPDATE arx.partition_policies SET retention_mode = 'drop' WHERE NOT builtin;
-- A partition is known by its OID. A table that has its old name is left alone.
CREATE SCHEMA "Old months";
ALTER TABLE arx.transactions_2020_06 SET SCHEMA "Old months";
ALTER TABLE "Old months".transactions_2020_06 RENAME TO "June's ""month""";
CREATE TABLE arx.transactions_2020_06 AS SELECT 1 AS precious;
SELECT partition, is_default FROM arx.partition_status WHERE partition ~ 'June|2020';
SELECT action, partition FROM arx.partition_plan('arx.transactions') ORDER BY range_from;
SELECT action, partition, done FROM arx.manage_partitions() ORDER BY range_from;
SELECT to_regclass('arx.transactions_2020_05'), to_regclass('"Old months"."June''s ""month"""');
SELECT * FROM arx.transactions_2020_06;
-- A new partition takes another name.
SELECT arx.ensure_partitions('arx.transactions', '2020-06-10', '2020-06-10');
SELECT partition FROM arx.partition_status WHERE partition ~ '2020';
DELETE FROM arx.partition_policies WHERE NOT builtin;
-- No chain has such times, so the table refuses them.
\set VERBOSITY sqlstate
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'bad', 1, 'infinity', 'a', 'b', 1);
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'bad', 1, '55840-11-05', 'a', 'b', 1);
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, value_usd)
VALUES ('testnet', 'bad', 1, '2024-01-01', 'a', 'b', 1, 'NaN');
\set VERBOSITY verbose
-- Without the constraint, a row whose time no month can hold is named, stops nothing, and stays in
-- the default partition if the policy says so.
INSERT INTO arx.partition_policies (relation, quarantine) VALUES ('arx.transactions', false);
ALTER TABLE arx.transactions DROP CONSTRAINT transactions_timestamp_check;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'bad1', 1, '55840-11-05', 'a', 'b', 1), ('testnet', 'bad2', 1, 'infinity', 'a', 'b', 1),
       ('testnet', 'bad3', 1, '0044-03-15 BC', 'a', 'b', 1), ('testnet', 'good', 1, '2018-02-03', 'a', 'b', 1);
SELECT action, partition, range_from, range_to, reason, done FROM arx.manage_partitions();
SELECT tableoid::regclass, count(*) FROM arx.transactions WHERE tx_hash ~ 'bad|good' GROUP BY 1 ORDER BY 1;
SELECT arx.ensure_partitions('arx.transactions', '2018-03-10', '2018-03-11');
SELECT count(*) FROM arx.run_partition_maintenance();
DELETE FROM arx.transactions WHERE tx_hash IN ('bad1', 'bad3');
SELECT reason FROM arx.partition_plan('arx.transactions');
-- The policy that ships sets it aside, with times that no chain can have.
DELETE FROM arx.partition_policies WHERE NOT builtin;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'bad4', 1, '2106-02-07', 'a', 'b', 1), ('testnet', 'bad5', 1, '1970-01-01', 'a', 'b', 1);
SELECT action, partition, bounds, regexp_replace(reason, 'from .* on', 'from … on') AS reason FROM arx.partition_plan('arx.transactions');
SELECT partition, action, done, error FROM arx.drain_default_partition('arx.transactions');
SELECT tx_hash, "timestamp" AT TIME ZONE 'UTC' AS time FROM arx.transactions_quarantine ORDER BY 1;
SELECT count(*) FROM arx.transactions WHERE tx_hash ~ 'bad';
SELECT operation, tx_hash FROM arx.transaction_changes WHERE tx_hash IN ('bad2', 'bad4') ORDER BY 2;
SELECT count(*) FROM arx.run_partition_maintenance();
-- Bounds do not depend on the settings of the session.
SET datestyle = 'SQL, DMY';
SET intervalstyle = 'sql_standard';
SET timezone = 'Asia/Kolkata';
SELECT to_char(range_from AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), to_char(range_to AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
  FROM arx.partition_status WHERE partition = 'arx.transactions_2018_02';
SELECT count(*) FROM arx.run_partition_maintenance();
SELECT arx.ensure_partitions('arx.transactions', '05/02/2018', '05/04/2018');
SET timezone = 'Asia/Shanghai';
SELECT to_char(range_from AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), to_char(range_to AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
  FROM arx.partition_status WHERE partition = 'arx.transactions_2018_04';
SELECT count(*) FROM arx.run_partition_maintenance();
SET datestyle = 'ISO, MDY';
RESET intervalstyle;
SET timezone = 'Pacific/Auckland';
-- Generated columns are computed again when rows move.
ALTER TABLE arx.transactions ADD COLUMN fee numeric GENERATED ALWAYS AS (gas_used * gas_price) STORED;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, gas_used, gas_price)
VALUES ('testnet', 'fee', 1, '2017-02-03', 'a', 'b', 1, 6, 7);
SELECT action, partition, done FROM arx.manage_partitions();
SELECT tableoid::regclass, fee FROM arx.transactions WHERE tx_hash = 'fee';
-- A trigger that keeps rows from moving loses none. Those for INSERT do not see rows that move.
CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'kept', 1, '2016-02-03', 'a', 'b', 1);
CREATE TRIGGER keep BEFORE DELETE ON arx.transactions FOR EACH ROW EXECUTE FUNCTION public.keep();
ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER keep;
SELECT arx.ensure_partitions('arx.transactions', '2016-02-01', '2016-02-02');
SELECT action, partition, done, error FROM arx.manage_partitions() WHERE NOT done;
SELECT tableoid::regclass FROM arx.transactions WHERE tx_hash = 'kept';
DROP TRIGGER keep ON arx.transactions;
CREATE TRIGGER keep BEFORE INSERT ON arx.transactions FOR EACH ROW EXECUTE FUNCTION public.keep();
ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER keep;
SELECT arx.ensure_partitions('arx.transactions', '2016-02-01', '2016-02-02');
SELECT tableoid::regclass FROM arx.transactions WHERE tx_hash = 'kept';
DROP TRIGGER keep ON arx.transactions;
-- wallet_profiles is partitioned by network, then by hash of the address.
INSERT INTO arx.wallet_profiles (wallet_address, network_type)
SELECT 'w' || n, 'testnet' FROM generate_series(1, 100) AS n;
SELECT * FROM arx.create_hash_partitions(partitions => 4);
SELECT tableoid::regclass, count(*) FROM arx.wallet_profiles GROUP BY 1 ORDER BY 1;
SELECT * FROM arx.create_hash_partitions('arx.wallet_profiles', 2, 'testnet');
SELECT count(*), count(DISTINCT tableoid) FROM arx.wallet_profiles;
SELECT * FROM arx.create_hash_partitions('arx.wallet_profiles', 2, 'testnet');
INSERT INTO arx.wallet_profiles (wallet_address, network_type) VALUES ('x', 'bitcoin');
SELECT tableoid::regclass FROM arx.wallet_profiles WHERE wallet_address = 'x';
-- Two networks whose names differ only in characters that a table name cannot hold.
INSERT INTO arx.networks (network, native_asset) VALUES ('test-net', 'T1'), ('test.net', 'T2');
INSERT INTO arx.wallet_profiles (wallet_address, network_type) VALUES ('y', 'test-net'), ('y', 'test.net');
SELECT network_type, moved_rows FROM arx.create_hash_partitions(partitions => 2, network => 'test-net');
SELECT network_type, moved_rows FROM arx.create_hash_partitions(partitions => 2, network => 'test.net');
SELECT network_type, count(*) FROM arx.wallet_profiles WHERE wallet_address = 'y' GROUP BY 1 ORDER BY 1;
-- A name that is taken gives way, and what has it is left alone.
INSERT INTO arx.networks (network, native_asset) VALUES ('default', 'D'), ('testnet_p0', 'P');
INSERT INTO arx.wallet_profiles (wallet_address, network_type) VALUES ('z', 'default'), ('z', 'testnet_p0');
SELECT * FROM arx.create_hash_partitions(partitions => 1, network => 'default');
SELECT * FROM arx.create_hash_partitions(partitions => 1, network => 'testnet_p0');
SELECT * FROM arx.create_hash_partitions(partitions => 3, network => 'testnet');
SELECT tableoid::regclass, count(*) FROM arx.wallet_profiles GROUP BY 1 ORDER BY 1;
SELECT relname FROM pg_class WHERE relnamespace = 'arx'::regnamespace AND relname ~ 'former';
-- Invalid arguments.
SELECT * FROM arx.manage_partitions('arx.users');
SELECT * FROM arx.manage_partitions(NULL);
SELECT arx.ensure_partitions('arx.transactions', '2024-02-01', '2024-01-01');
SELECT arx.ensure_partitions('arx.transactions', NULL, '2024-01-01');
SELECT arx.ensure_partitions('arx.transactions', '-infinity', '2024-01-01');
SELECT arx.ensure_partitions('arx.transactions', '0500-01-01', '2024-01-01');
SELECT arx.create_hash_partitions(partitions => 0);
SELECT arx.create_hash_partitions('arx.transactions');
SELECT arx.create_hash_partitions(network => 'nowhere');
INSERT INTO arx.partition_policies (relation) VALUES ('pg_class');
CREATE TABLE arx.odd PARTITION OF arx.transactions FOR VALUES FROM ('2021-01-10') TO ('2021-01-20');
SELECT arx.ensure_partitions('arx.transactions', '2021-01-01', '2021-01-02');
