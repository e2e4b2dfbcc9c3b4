INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-03-01');
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 't1', 1, '2024-01-01', 'a', 'b', 1), ('testnet', 't2', 2, '2024-02-01', 'b', 'c', 2),
       ('testnet', 't3', 3, '2024-03-01', 'c', 'd', 3);
SELECT arx.current_graph_epoch() AS epoch, (SELECT count(*) FROM arx.transaction_changes) AS changes;
SELECT pg_current_snapshot() AS since \gset
SELECT count(*) AS nothing_new FROM arx.changed_transactions(:'since');
-- INSERT and UPDATE give new rows, UPDATE and DELETE log the former versions.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 't4', 4, '2024-03-02', 'd', 'e', 4);
UPDATE arx.transactions SET to_address = 'z' WHERE tx_hash = 't1';
DELETE FROM arx.transactions WHERE tx_hash = 't2';
-- A row that moves to another partition is deleted from one and inserted into the other.
UPDATE arx.transactions SET "timestamp" = '2024-01-31' WHERE tx_hash = 't3';
SELECT network, from_address, to_address FROM arx.changed_transactions(:'since') ORDER BY 2, 3;
SELECT operation, tx_hash, from_address, to_address, value FROM arx.transaction_changes ORDER BY change_id;
SELECT count(*) AS forged FROM arx.transactions WHERE ingest_xid >= pg_snapshot_xmax(pg_current_snapshot());
-- A change that is rolled back leaves no trace.
BEGIN;
DELETE FROM arx.transactions;
ROLLBACK;
SELECT count(*) FROM arx.transaction_changes;
-- Commands that fire no row trigger raise the epoch.
TRUNCATE arx.transactions_2024_03;
CREATE TABLE arx.by_hand (LIKE arx.transactions INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
ALTER TABLE arx.transactions ATTACH PARTITION arx.by_hand FOR VALUES FROM ('2030-01-01') TO ('2030-02-01');
TRUNCATE arx.by_hand;
ALTER TABLE arx.transactions DETACH PARTITION arx.transactions_2024_01;
DROP TABLE arx.by_hand;
TRUNCATE arx.transactions;
SELECT reason, relation FROM arx.graph_epoch ORDER BY epoch_id;
-- Changes of token transfers are logged as well.
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount)
VALUES ('testnet', 't9', 0, 9, '2024-03-01', 'tok', 'a', 'b', 2::numeric ^ 256 - 1);
UPDATE arx.token_transfers SET amount = 5;
DELETE FROM arx.token_transfers;
SELECT relation, operation, tx_hash, log_index, asset, value FROM arx.transaction_changes WHERE relation = 'token_transfers' ORDER BY change_id;
-- The freshness predicate is inlined for the roles that call it, and uses the index on the stamp.
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET plan_cache_mode = force_generic_plan;
PREPARE new_transactions AS SELECT FROM arx.transactions AS t WHERE arx.is_new_since(t.ingest_xid, $1);
PREPARE new_token_transfers AS SELECT FROM arx.token_transfers AS t WHERE arx.is_new_since(t.ingest_xid, $1);
PREPARE new_changes AS SELECT FROM arx.transaction_changes AS c WHERE arx.is_new_since(c.changed_xid, $1);
PREPARE new_labels AS SELECT FROM arx.address_labels AS l WHERE arx.is_new_since(l.ingest_xid, $1);
PREPARE new_label_changes AS SELECT FROM arx.label_changes AS c WHERE arx.is_new_since(c.changed_xid, $1);
PREPARE new_overrides AS SELECT FROM arx.risk_overrides AS o WHERE arx.is_new_since(o.ingest_xid, $1);
-- The lines of a plan that read a table: others depend on the version of the server.
CREATE FUNCTION public.scans(prepared text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE format('EXPLAIN (COSTS OFF) EXECUTE %I(%L)', prepared, '10:10:') LOOP
        IF line ~ 'Scan|Index Cond:|  Filter:' THEN
            RETURN NEXT ltrim(line, ' ->');
        END IF;
    END LOOP;
END;
$$;
SET ROLE arx_reader;
EXPLAIN (COSTS OFF) EXECUTE new_transactions('10:10:');
EXPLAIN (COSTS OFF) EXECUTE new_token_transfers('10:10:');
SELECT public.scans('new_changes');
EXPLAIN (COSTS OFF) EXECUTE new_labels('10:10:');
SELECT public.scans('new_label_changes');
SET ROLE arx_operator;
EXPLAIN (COSTS OFF) EXECUTE new_overrides('10:10:');
RESET ROLE;
