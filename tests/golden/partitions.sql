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
-- A new partition has the triggers and privileges of its parent.
SELECT tgname FROM pg_trigger WHERE tgrelid = 'arx.transactions_2020_05'::regclass AND NOT tgisinternal ORDER BY 1;
SELECT has_table_privilege('arx_reader', 'arx.transactions_2020_05', 'SELECT') AS reads,
       has_table_privilege('arx_operator', 'arx.transactions_2020_05', 'INSERT') AS writes;
-- Retention: old months are detached, and dropped only if the policy requires it.
INSERT INTO arx.partition_policies (relation, retention_months) VALUES ('arx.transactions', 12);
SELECT action, partition, done FROM arx.manage_partitions(dry_run => true) ORDER BY partition;
SELECT action, partition, done FROM arx.manage_partitions() ORDER BY partition;
SELECT count(*) FROM arx.transactions_2020_05;
SELECT count(*) FROM arx.transactions;
DROP TABLE arx.transactions_2020_05, arx.transactions_2020_06;
SELECT arx.ensure_partitions('arx.transactions', '2020-05-01 12:00+00', '2020-07-01 12:00+00');
UPDATE arx.partition_policies SET retention_mode = 'drop' WHERE NOT builtin;
SELECT action, partition, done FROM arx.manage_partitions() ORDER BY partition;
SELECT to_regclass('arx.transactions_2020_05');
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
