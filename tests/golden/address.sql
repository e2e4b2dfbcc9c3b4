-- Addresses: the results of normalize_address(), and the addresses it rejects.
SELECT arx.normalize_address('0xD8DA6BF26964AF9D7EED9E03E53415D37AA96045', 'ethereum') AS upper_case;
SELECT arx.normalize_address('0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045', 'ethereum') AS checksummed;
SELECT arx.normalize_address('BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4', 'bitcoin') AS bech32;
SELECT arx.normalize_address('1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa', 'bitcoin') AS base58;
SELECT arx.normalize_address('TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t', 'tron') AS tron;
SELECT arx.normalize_address('SomeOpaque:Name', 'an-unknown-network') AS opaque;

SELECT network, address, arx.is_valid_address(address, network) AS valid
  FROM (VALUES ('ethereum', '0x00000000219ab540356cbb839cbe05303d7705fa'),
               ('ethereum', '0x00000000219ab540356cbb839cbe05303d7705f'),
               ('ethereum', '0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96046'),
               ('ethereum', ''),
               ('ethereum', NULL),
               ('bitcoin', 'bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0'),
               ('bitcoin', 'bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5'),
               ('solana', '4fYNw3dojWmQ4dXtSGE9epjRGy9pFSx62YypT7avPYvA'),
               (NULL, '0x00000000219ab540356cbb839cbe05303d7705fa')) AS given (network, address);

-- NULL in, NULL out.
SELECT arx.normalize_address(NULL, 'ethereum') IS NULL AS no_address,
       arx.normalize_address('0x00000000219ab540356cbb839cbe05303d7705fa', NULL) IS NULL AS no_network;

-- Each error names the value.
SELECT arx.normalize_address('0x00000000219ab540356cbb839cbe05303d7705f', 'ethereum');
SELECT arx.normalize_address('0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96046', 'ethereum');
SELECT arx.normalize_address('bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5', 'bitcoin');
SELECT arx.normalize_address('', 'ethereum');
SELECT arx.normalize_address('0x00000000219ab540356cbb839cbe05303d7705fa', '');

-- One wallet has one spelling, and what no one has checked is not called valid.
SELECT network, address, arx.normalize_address(address, network) AS normalized
  FROM (VALUES ('bch', '1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggu'),
               ('bch', 'QPM2QSZNHKS23Z7629MMS6S4CWEF74VCWVY22GDX6A'),
               ('tron', '41a614f803b6fd780986a42c78ec9c7f77e6ded13c'),
               ('ethereum', 'XE7338O073KYGTWWZN0F2WZ0R8PX5ZPPZS'),
               ('an-unknown-network', '0xD8DA6BF26964AF9D7EED9E03E53415D37AA96045')) AS given (network, address);
SELECT arx.is_valid_address('garbage', 'bitcoin-cash') AS checked, arx.is_valid_address('garbage', 'monero') AS not_checked,
       arx.checksum_address('0x27b1fdb04752bbc536007a920d24acb045561c26', 'rsk-testnet') AS eip_1191;

-- The family of a network is what ARX lists, or what its user states.
SELECT arx.network_family('my-rollup') AS before, arx.is_valid_address('0x12', 'my-rollup') AS valid_before;
SELECT arx.add_network('My-Rollup', 'evm', 'ETH', 18);
SELECT arx.network_family('my-rollup') AS after, arx.is_valid_address('0x12', 'my-rollup') AS valid_after;
SELECT arx.add_network('my-rollup', 'evm') AS again;
SELECT arx.add_network('blast', 'evm', 'ETH'), arx.add_network('my-coin', 'bitcoin', 'MYC');
INSERT INTO arx.networks (network, native_asset) VALUES ('mantle', 'MNT'), ('test-net', 'TST');
SELECT arx.add_network('test-net', 'evm');
SELECT network, native_asset, native_decimals, stated_family, family, builtin FROM arx.networks
 WHERE network IN ('my-rollup', 'blast', 'my-coin', 'mantle', 'test-net') ORDER BY network;
INSERT INTO arx.address_labels (network, address, category, severity, source)
VALUES ('my-rollup', '0xd8da6bf26964af9d7eed9e03e53415d37aa96045', 'hack', 'severe', 'test');
INSERT INTO arx.address_labels (network, address, category, severity, source, ingest_xid)
VALUES ('my-rollup', '0xD8DA6BF26964AF9D7EED9E03E53415D37AA96045', 'hack', 'severe', 'test', '3');
SELECT arx.add_network('my-rollup', 'evm', 'ETH', 9);
SELECT arx.add_network('my-rollup', 'tron');
SELECT arx.add_network('ethereum', 'bitcoin');
SELECT arx.add_network('USDT', 'evm');
SELECT arx.add_network('other-net', 'litecoin');
SELECT arx.add_network('other-net', 'opaque', 'OTH');
SELECT arx.add_network('other-net', 'evm', 'OTH', 19);
SELECT arx.add_network('other-net', NULL);
SELECT arx.wallet_risk('0x12', 'other-net');
