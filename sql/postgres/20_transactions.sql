-- Transactions and token transfers.

CREATE TYPE tx_status_enum AS ENUM ('pending', 'confirmed', 'failed');

-- Parents and default partitions are members of the extension. Partitions created later are plain
-- tables, so pg_dump carries their definitions.
--
-- INSERT and COPY fire no row trigger. `ingest_xid` makes freshness exact: see 21_freshness.sql.
CREATE TABLE transactions (
    network           text NOT NULL,
    tx_hash           text NOT NULL CHECK (tx_hash <> ''),
    block_number      bigint NOT NULL CHECK (block_number >= 0),
    transaction_index integer CHECK (transaction_index >= 0),
    "timestamp"       timestamptz NOT NULL,
    from_address      text NOT NULL CHECK (from_address <> ''),
    to_address        text CHECK (to_address <> ''),
    -- NaN compares as greater than any number.
    value             numeric(38,18) NOT NULL CHECK (value >= 0 AND value <> 'NaN'),
    value_usd         numeric(20,2) CHECK (value_usd >= 0),
    gas_used          bigint CHECK (gas_used >= 0),
    gas_price         bigint CHECK (gas_price >= 0),
    status            tx_status_enum NOT NULL DEFAULT 'pending',
    metadata          jsonb,
    ingest_xid        xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    PRIMARY KEY (network, tx_hash, "timestamp")
) PARTITION BY RANGE ("timestamp");
COMMENT ON TABLE transactions IS
    'transactions, partitioned by month; values in coins, addresses as normalize_address() writes them';
CREATE TABLE transactions_default PARTITION OF transactions DEFAULT;

CREATE INDEX idx_transactions_from_addr ON transactions (from_address, network, "timestamp" DESC);
CREATE INDEX idx_transactions_to_addr ON transactions (to_address, network, "timestamp" DESC);
CREATE INDEX idx_transactions_hash ON transactions USING hash (tx_hash);
CREATE INDEX idx_transactions_ingest ON transactions (ingest_xid);

-- `amount` is in raw units of the token: a uint256 with up to 78 digits.
CREATE TABLE token_transfers (
    network       text NOT NULL,
    tx_hash       text NOT NULL CHECK (tx_hash <> ''),
    log_index     integer NOT NULL CHECK (log_index >= 0),
    block_number  bigint NOT NULL CHECK (block_number >= 0),
    "timestamp"   timestamptz NOT NULL,
    token_address text NOT NULL CHECK (token_address <> ''),
    from_address  text NOT NULL CHECK (from_address <> ''),
    to_address    text NOT NULL CHECK (to_address <> ''),
    amount        numeric(78,0) NOT NULL
        CHECK (amount BETWEEN 0 AND 115792089237316195423570985008687907853269984665640564039457584007913129639935),
    value_usd     numeric(20,2) CHECK (value_usd >= 0),
    ingest_xid    xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    PRIMARY KEY (network, tx_hash, log_index, "timestamp")
) PARTITION BY RANGE ("timestamp");
COMMENT ON TABLE token_transfers IS 'token transfers, partitioned by month; amounts in raw units of the token';
CREATE TABLE token_transfers_default PARTITION OF token_transfers DEFAULT;

CREATE INDEX idx_token_transfers_from_addr ON token_transfers (from_address, network, "timestamp" DESC);
CREATE INDEX idx_token_transfers_to_addr ON token_transfers (to_address, network, "timestamp" DESC);
CREATE INDEX idx_token_transfers_token ON token_transfers (token_address, network, "timestamp" DESC);
CREATE INDEX idx_token_transfers_ingest ON token_transfers (ingest_xid);
