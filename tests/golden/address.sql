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
