-- Networks that are not EVM accept opaque addresses, which keeps this file readable.
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST'), ('othernet', 'OTH');
SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-03-31');
-- An empty graph has no clusters and no central wallets.
SELECT * FROM arx.wallet_clusters('testnet', 'weak');
SELECT * FROM arx.wallet_clusters('testnet');
SELECT * FROM arx.cluster_merges('testnet');
SELECT * FROM arx.cluster_labels('testnet');
SELECT * FROM arx.wallet_centrality('testnet');
SELECT * FROM arx.cluster_merges('testnet', wallet => 'alice');

-- Two customers of an exchange: alice has wallets a1 to a3 and deposit addresses d1 and d2; bob has
-- wallets b1 and b2 and deposit address d3.
CREATE TEMPORARY SEQUENCE hash;
CREATE FUNCTION pg_temp.send(network text, sender text, receiver text, value numeric, hour integer,
                             status arx.tx_status_enum DEFAULT 'confirmed') RETURNS integer LANGUAGE sql AS $$
    INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
    SELECT network, 't' || n, n, '2024-01-01'::timestamptz + hour * interval '1 hour', sender, receiver, value, status
      FROM nextval('hash') AS n RETURNING 1
$$;
INSERT INTO arx.address_labels (network, address, category, severity, label, source)
VALUES ('testnet', 'exchange', 'exchange', 'none', 'The Exchange', 'test'),
       ('testnet', 'a1', 'scam', 'high', 'Alice Coin', 'test');
SELECT sum(pg_temp.send('testnet', s, r, v, h)) AS sent
  FROM (VALUES ('a1', 'd1', 10, 0), ('d1', 'exchange', 9.9, 1), ('a2', 'd1', 5, 2), ('d1', 'exchange', 4.9, 3),
               ('a2', 'd2', 7, 4), ('d2', 'exchange', 6.9, 5), ('a3', 'd2', 1, 6), ('d2', 'exchange', 1, 7),
               ('b1', 'd3', 2, 0), ('b2', 'd3', 3, 1), ('d3', 'exchange', 4.9, 2),
               -- Spends most of its funds, so it is not a deposit address.
               ('b1', 'shop', 10, 0), ('shop', 'exchange', 5, 1), ('shop', 'dealer', 5, 2)) AS x (s, r, v, h);
-- Failed transactions move nothing, and other networks are separate.
SELECT pg_temp.send('testnet', 'b1', 'd1', 10, 0, 'failed');
SELECT pg_temp.send('othernet', 'a1', 'd3', 10, 0);
SELECT pg_temp.send('testnet', 'maker', NULL, 0, 0);
SELECT pg_temp.send('testnet', 'loner', 'loner', 1, 0);

-- Facts: weak and strong components.
SELECT cluster, wallets, members, merges, transfers, confidence, details, complete, reason FROM arx.wallet_clusters('testnet', 'weak');
SELECT cluster, wallets FROM arx.wallet_clusters('testnet', 'weak', min_size => 1);
SELECT cluster, wallets, members FROM arx.wallet_clusters('testnet', 'weak', min_value => 3, max_members => 2);
SELECT cluster, members FROM arx.wallet_clusters('othernet', 'weak');
SELECT * FROM arx.wallet_clusters('testnet', 'strong');
SELECT pg_temp.send('testnet', 'exchange', 'a1', 1, 24);
SELECT cluster, members, transfers FROM arx.wallet_clusters('testnet', 'strong');

-- Customers; the exchange is not part of a cluster.
SELECT cluster, wallets, members, merges, transfers, round(confidence::numeric, 3) AS confidence, details, complete
  FROM arx.wallet_clusters('testnet');
SELECT cluster, wallet, merged_with, evidence, tx_hashes, first_seen, last_seen, round(confidence::numeric, 3) AS confidence, accepted, reason
  FROM arx.cluster_merges('testnet', wallet => 'a1');
SELECT count(*) FROM arx.cluster_merges('testnet');
SELECT count(*) FROM arx.cluster_merges('testnet', wallet => 'dealer');
-- With stricter options, within a period, and without the label.
SELECT cluster, members FROM arx.wallet_clusters('testnet', options => '{"forward_share": 0.985}');
SELECT cluster, members FROM arx.wallet_clusters('testnet', options => '{"max_senders": 1}');
SELECT cluster, members FROM arx.wallet_clusters('testnet', until => '2024-01-01 04:00');
BEGIN;
DELETE FROM arx.address_labels WHERE address = 'exchange';
SELECT cluster, members FROM arx.wallet_clusters('testnet');
ROLLBACK;
-- A service that is also illicit is still a service.
BEGIN;
INSERT INTO arx.address_labels (network, address, category, severity, label, source)
VALUES ('testnet', 'exchange', 'sanctions', 'severe', 'The Exchange', 'test');
SELECT cluster, members FROM arx.wallet_clusters('testnet');
ROLLBACK;

-- A limit on the size of clusters: rejected merges are reported.
SELECT cluster, members, merges, details -> 'refused' AS refused FROM arx.wallet_clusters('testnet', max_size => 3);
SELECT wallet, merged_with, accepted, reason FROM arx.cluster_merges('testnet', wallet => 'a2', max_size => 3);

-- An exclusion keeps two wallets apart, also through other wallets; removing it joins them again.
SELECT arx.exclude_cluster_merge('a3', 'a1', 'testnet', 'not the same person: see case 7');
SELECT network, wallet_a, wallet_b, reason, created_by = current_user AS mine FROM arx.cluster_exclusions;
SELECT cluster, members, merges, details -> 'refused' AS refused FROM arx.wallet_clusters('testnet');
SELECT cluster, wallet, merged_with, accepted, reason = 'excluded by ' || current_user || ': not the same person: see case 7 (a1, a3)' AS explained
  FROM arx.cluster_merges('testnet', wallet => 'a3');
SELECT arx.exclude_cluster_merge('a1', 'a3', 'TESTNET', 'still not');
SELECT wallet_a, wallet_b, reason FROM arx.cluster_exclusions;
SELECT arx.restore_cluster_merge('a1', 'a3', 'testnet');
SELECT arx.restore_cluster_merge('a1', 'a3', 'testnet');
SELECT cluster, members, details -> 'refused' AS refused FROM arx.wallet_clusters('testnet');
-- Wallets without transfers may be excluded in advance.
SELECT arx.exclude_cluster_merge('stranger', 'a1', 'testnet', 'in advance');
SELECT count(*) FROM arx.wallet_clusters('testnet');

-- Labels pass to other wallets of the cluster; confidence falls with every merge.
SELECT wallet, category, kind, severity, label, round(confidence::numeric, 3) AS confidence, hops, from_wallet, path, complete
  FROM arx.cluster_labels('testnet');
SELECT wallet, hops FROM arx.cluster_labels('testnet', decay => 0.5, min_confidence => 0.2);

-- First funds: a farm of three wallets, and two wallets funded by a friend.
SELECT sum(pg_temp.send('testnet', s, r, v, h)) AS sent
  FROM (VALUES ('farmer', 'f1', 1, 100), ('farmer', 'f2', 1, 101), ('farmer', 'f3', 1, 102), ('farmer', 'f4', 1, 200),
               ('friend', 'g1', 1, 100), ('friend', 'g2', 1, 101)) AS x (s, r, v, h);
SELECT cluster, members, merges, round(confidence::numeric, 3) AS confidence, details FROM arx.wallet_clusters('testnet', 'funding');
SELECT wallet, merged_with, evidence, via, service, tx_hashes, accepted FROM arx.cluster_merges('testnet', 'funding');
SELECT cluster, members FROM arx.wallet_clusters('testnet', 'funding', options => '{"min_wallets": 2, "window_hours": 100}');
SELECT cluster, members FROM arx.wallet_clusters('testnet', 'funding', options => '{"max_peers": 3}');
-- Later funds are not first funds, also when the period begins with them.
SELECT cluster, members FROM arx.wallet_clusters('testnet', 'funding', since => '2024-01-05 05:00', options => '{"min_wallets": 2}');

-- Centrality.
SELECT wallet, measure, score, rank, in_degree, out_degree, details, complete, reason FROM arx.wallet_centrality('testnet', 'degree', 3);
SELECT wallet, score, rank FROM arx.wallet_centrality('testnet', 'degree', 2, options => '{"direction": "out"}');
SELECT wallet, score, rank, in_degree, out_degree FROM arx.wallet_centrality('testnet', 'degree', wallet => 'b1');
SELECT wallet, round(score::numeric, 6) AS score, rank, details ->> 'converged' AS converged FROM arx.wallet_centrality('testnet', top => 4);
SELECT round(sum(score)::numeric, 9) AS sum FROM arx.wallet_centrality('testnet', top => 100);
SELECT round(sum(score)::numeric, 9) AS sum FROM arx.wallet_centrality('testnet', top => 100, options => '{"weight": "none", "damping": 0.5}');
SELECT complete, reason, details ->> 'iterations' AS iterations FROM arx.wallet_centrality('testnet', top => 1, options => '{"iterations": 2}');
SELECT wallet, round(score::numeric, 6) AS score, details FROM arx.wallet_centrality('testnet', 'betweenness', 4);
SELECT details FROM arx.wallet_centrality('testnet', 'betweenness', 1, options => '{"samples": 3, "seed": 1}');
SELECT * FROM arx.wallet_centrality('testnet', wallet => 'stranger');
SELECT * FROM arx.wallet_centrality('testnet', wallet => 'maker');
-- A time limit ends the computation with a partial result.
SELECT count(*) FROM arx.wallet_clusters('testnet', 'weak', max_time => '1 microsecond');
SELECT count(*) FROM arx.wallet_centrality('testnet', max_time => '1 microsecond');

-- Invalid arguments.
SELECT * FROM arx.wallet_clusters(NULL);
SELECT * FROM arx.wallet_clusters('nonet');
SELECT * FROM arx.wallet_clusters('testnet', NULL);
SELECT * FROM arx.wallet_clusters('testnet', 'strange');
SELECT * FROM arx.wallet_clusters('testnet', options => NULL);
SELECT * FROM arx.wallet_clusters('testnet', options => '[]');
SELECT * FROM arx.wallet_clusters('testnet', options => '{"share": 0.9}');
SELECT * FROM arx.wallet_clusters('testnet', 'weak', options => '{"share": 0.9}');
SELECT * FROM arx.wallet_clusters('testnet', options => '{"forward_share": 0.4}');
SELECT * FROM arx.wallet_clusters('testnet', options => '{"max_senders": "many"}');
SELECT * FROM arx.wallet_clusters('testnet', min_size => 0);
SELECT * FROM arx.wallet_clusters('testnet', max_size => NULL);
SELECT * FROM arx.wallet_clusters('testnet', max_members => -1);
SELECT * FROM arx.wallet_clusters('testnet', asset => 'all');
SELECT * FROM arx.wallet_clusters('testnet', max_time => '0 s');
SELECT * FROM arx.cluster_merges('testnet', 'weak');
SELECT * FROM arx.cluster_labels('testnet', decay => 0);
SELECT * FROM arx.cluster_labels('testnet', min_confidence => 1.5);
SELECT * FROM arx.cluster_labels('testnet', decay => NULL);
SELECT * FROM arx.wallet_centrality('testnet', 'fame');
SELECT * FROM arx.wallet_centrality('testnet', top => 0);
SELECT * FROM arx.wallet_centrality('testnet', options => '{"iterations": 1000}');
SELECT * FROM arx.wallet_centrality('testnet', 'degree', options => '{"direction": "up"}');
SELECT arx.exclude_cluster_merge('a1', 'a1', 'testnet', 'x');
SELECT arx.exclude_cluster_merge('a1', NULL, 'testnet', 'x');
SELECT arx.exclude_cluster_merge('a1', 'a2', 'testnet', NULL);
SELECT arx.exclude_cluster_merge('a1', 'a2', 'testnet', ' ');
SELECT arx.exclude_cluster_merge('a1', 'a2', 'nonet', 'x');
INSERT INTO arx.cluster_exclusions (network, wallet_a, wallet_b, reason, created_by, created_at) VALUES ('testnet', 'b', 'a', 'x', 'y', '2024-01-01');
SELECT sum(pg_temp.send('testnet', 'a1', 'n' || n, 1, 300)) AS sent FROM generate_series(1, 20000) AS n;
SET arx.graph_work_mem = 64;
SELECT * FROM arx.wallet_clusters('testnet', 'weak');
SELECT * FROM arx.wallet_centrality('testnet');
RESET arx.graph_work_mem;

-- Readers may read, operators may exclude merges.
CREATE ROLE cluster_reader IN ROLE arx_reader;
CREATE ROLE cluster_operator IN ROLE arx_operator;
CREATE ROLE cluster_outsider;
SET ROLE cluster_reader;
SELECT count(*) FROM arx.wallet_clusters('testnet');
SELECT count(*) FROM arx.cluster_merges('testnet');
SELECT count(*) FROM arx.cluster_labels('testnet');
SELECT count(*) FROM arx.wallet_centrality('testnet', top => 3);
SELECT count(*) FROM arx.cluster_exclusions;
SELECT arx.exclude_cluster_merge('a1', 'a2', 'testnet', 'x');
SELECT arx.restore_cluster_merge('a1', 'a2', 'testnet');
RESET ROLE;
SET ROLE cluster_operator;
SELECT arx.exclude_cluster_merge('a1', 'a2', 'testnet', 'x');
SELECT created_by FROM arx.cluster_exclusions WHERE wallet_b = 'a2';
SELECT arx.restore_cluster_merge('a1', 'a2', 'testnet');
RESET ROLE;
SET ROLE cluster_outsider;
SELECT count(*) FROM arx.wallet_clusters('testnet');
SELECT count(*) FROM arx.wallet_centrality('testnet');
RESET ROLE;
DROP ROLE cluster_reader;
DROP ROLE cluster_operator;
DROP ROLE cluster_outsider;
