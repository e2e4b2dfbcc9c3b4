-- Chokepoints and communities. Networks that are not EVM accept opaque addresses, which keeps this
-- file readable.
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-03-31');
-- An empty graph.
SELECT * FROM arx.wallet_chokepoints('a', '{d}', 'testnet');
SELECT * FROM arx.wallet_communities('testnet');
-- From a, two ways lead to the gate; behind it are two exchanges and a shop, which a longer way
-- also reaches.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
SELECT 'testnet', 't' || n, n, '2024-01-01'::timestamptz + n * interval '1 hour', s.edge[1], s.edge[2], 1
  FROM unnest(ARRAY['a b1', 'a b2', 'b1 gate', 'b2 gate', 'gate desk1', 'gate hall', 'hall desk2', 'hall desk1', 'gate shop', 'a far', 'far further',
                    'further shop', 'shop shop', 'desk1 a']) WITH ORDINALITY AS u (e, n)
 CROSS JOIN LATERAL (SELECT string_to_array(e, ' ') AS edge) AS s;
INSERT INTO arx.address_labels (network, address, category, severity, source)
VALUES ('testnet', 'desk1', 'exchange', 'none', 'test'), ('testnet', 'desk2', 'exchange', 'none', 'test'),
       ('testnet', 'gate', 'mixer', 'medium', 'test'), ('testnet', 'nowhere', 'miner', 'none', 'test');
SELECT * FROM arx.wallet_chokepoints('a', '{desk1,desk2,shop}', 'testnet');
-- Within three hops, one exchange is out of reach.
SELECT wallet, targets, reached_targets FROM arx.wallet_chokepoints('a', '{desk1,desk2,shop}', 'testnet', max_depth => 3);
SELECT wallet, depth, targets, reached_targets FROM arx.wallet_chokepoints('a', NULL, 'testnet', category => 'Exchange');
SELECT wallet, depth, targets FROM arx.wallet_chokepoints('desk2', '{a,b1}', 'testnet', direction => 'in');
-- Without a chokepoint, without a path, without a target in the graph, unknown wallets; a limit
-- leaves the question open.
SELECT * FROM arx.wallet_chokepoints('a', '{gate}', 'testnet');
SELECT * FROM arx.wallet_chokepoints('a', '{desk2}', 'testnet', max_depth => 2);
SELECT * FROM arx.wallet_chokepoints('a', NULL, 'testnet', category => 'miner');
SELECT * FROM arx.wallet_chokepoints('a', '{stranger}', 'testnet');
SELECT * FROM arx.wallet_chokepoints('stranger', '{a}', 'testnet');
SELECT * FROM arx.wallet_chokepoints('a', '{a}', 'testnet');
SELECT * FROM arx.wallet_chokepoints('a', '{desk1}', 'testnet', max_nodes => 4);
SELECT wallet, complete, reason FROM arx.wallet_chokepoints('a', '{desk1}', 'testnet', max_time => '1 microsecond');

-- Communities: two groups that one transfer joins.
DELETE FROM arx.transactions;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
SELECT 'testnet', 'g' || row_number() OVER (), 1, '2024-02-01', e.sender, e.receiver, 1
  FROM (SELECT format('%s%s', g, a) AS sender, format('%s%s', g, b) AS receiver
          FROM unnest('{m,n}'::text[]) AS g, generate_series(1, 4) AS a, generate_series(1, 4) AS b WHERE a <> b
        UNION ALL SELECT 'm1', 'n1' UNION ALL SELECT 'pair1', 'pair2') AS e;
SELECT community, wallets, members, transfers, outside_transfers, round(modularity::numeric, 6) AS modularity, details, complete, reason
  FROM arx.wallet_communities('testnet');
SELECT community, wallets FROM arx.wallet_communities('testnet', 'n3', options => '{"seed": 7}');
SELECT community, members FROM arx.wallet_communities('testnet', min_size => 3, max_members => 2);
SELECT community, wallets FROM arx.wallet_communities('testnet', options => '{"resolution": 0.01, "weight": "none"}');
SELECT * FROM arx.wallet_communities('testnet', 'stranger');
SELECT count(*) FROM arx.wallet_communities('testnet', max_time => '1 microsecond');
SELECT count(*) FROM arx.wallet_communities('testnet', until => '2024-01-01');

-- Invalid arguments.
SELECT * FROM arx.wallet_chokepoints(NULL, '{a}', 'testnet');
SELECT * FROM arx.wallet_chokepoints('a', NULL, 'testnet');
SELECT * FROM arx.wallet_chokepoints('a', '{b}', 'testnet', category => 'exchange');
SELECT * FROM arx.wallet_chokepoints('a', '{}', 'testnet');
SELECT * FROM arx.wallet_chokepoints('a', '{NULL}', 'testnet');
SELECT * FROM arx.wallet_chokepoints('a', NULL, 'testnet', category => 'robber');
SELECT * FROM arx.wallet_chokepoints('a', '{b}', 'testnet', direction => 'both');
SELECT * FROM arx.wallet_chokepoints('a', '{b}', 'testnet', max_depth => 0);
SELECT * FROM arx.wallet_chokepoints('a', '{b}', 'testnet', max_nodes => -1);
SELECT * FROM arx.wallet_chokepoints('a', '{b}', 'nowhere');
SELECT * FROM arx.wallet_communities(NULL);
SELECT * FROM arx.wallet_communities('testnet', min_size => 0);
SELECT * FROM arx.wallet_communities('testnet', max_members => -1);
SELECT * FROM arx.wallet_communities('testnet', options => '{"resolution": -1}');
SELECT * FROM arx.wallet_communities('testnet', options => '{"sead": 1}');
SELECT * FROM arx.wallet_communities('testnet', options => NULL);
