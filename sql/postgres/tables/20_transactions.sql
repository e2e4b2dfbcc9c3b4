-- Transactions, internal transfers and token transfers. `ingest_xid` makes freshness exact: see
-- 21_freshness.sql.

CREATE TYPE arx.tx_status_enum AS ENUM ('pending', 'confirmed', 'failed', 'unknown');
REVOKE ALL ON TYPE arx.tx_status_enum FROM PUBLIC;
GRANT USAGE ON TYPE arx.tx_status_enum TO arx_reader;

CREATE TABLE arx.transactions (
    network           text NOT NULL,
    tx_hash           text NOT NULL CHECK (tx_hash <> ''),
    block_number      bigint NOT NULL CHECK (block_number >= 0),
    transaction_index integer CHECK (transaction_index >= 0),
    "timestamp"       timestamptz NOT NULL
        CHECK ("timestamp" >= '1970-01-01 00:00+00' AND "timestamp" < '10000-01-01 00:00+00'),
    from_address      text NOT NULL CHECK (from_address <> ''),
    to_address        text CHECK (to_address <> ''),
    -- NaN compares as greater than any number.
    value             numeric(38,18) NOT NULL CHECK (value >= 0 AND value <> 'NaN'),
    value_usd         numeric(20,2) CHECK (value_usd >= 0 AND value_usd <> 'NaN'),
    gas_used          bigint CHECK (gas_used >= 0),
    gas_price         bigint CHECK (gas_price >= 0),
    status            arx.tx_status_enum NOT NULL DEFAULT 'pending',
    metadata          jsonb,
    block_hash        text CHECK (block_hash <> ''),
    ingest_xid        xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    PRIMARY KEY (network, tx_hash, "timestamp")
) PARTITION BY RANGE ("timestamp");
COMMENT ON TABLE arx.transactions IS
    'transactions, partitioned by month; values in coins, addresses as normalize_address() writes them';
GRANT SELECT ON TABLE arx.transactions TO arx_reader;
GRANT INSERT, UPDATE, DELETE, TRUNCATE ON TABLE arx.transactions TO arx_operator;

CREATE INDEX idx_transactions_from_addr ON arx.transactions (from_address, network, "timestamp" DESC);
CREATE INDEX idx_transactions_to_addr ON arx.transactions (to_address, network, "timestamp" DESC);
CREATE INDEX idx_transactions_hash ON arx.transactions USING hash (tx_hash);
CREATE INDEX idx_transactions_ingest ON arx.transactions (ingest_xid);

-- Further movements of the native coin within a transaction: calls, rewards, self-destructs, inputs
-- and outputs. The transaction's own value moves first, then its internal transfers by `position`.
-- Where `is_ordered` is false, `position` only keeps them apart, and their order is unknown.
CREATE TABLE arx.internal_transfers (
    network           text NOT NULL,
    tx_hash           text NOT NULL CHECK (tx_hash <> ''),
    position          integer NOT NULL CHECK (position >= 0),
    is_ordered        boolean NOT NULL DEFAULT true,
    -- NULL where unknown. It is then that of the transaction, if that is stored; a transfer without
    -- any comes after all others of its time.
    block_number      bigint CHECK (block_number >= 0),
    transaction_index integer CHECK (transaction_index >= 0),
    "timestamp"       timestamptz NOT NULL
        CHECK ("timestamp" >= '1970-01-01 00:00+00' AND "timestamp" < '10000-01-01 00:00+00'),
    -- NULL for a reward.
    from_address      text CHECK (from_address <> ''),
    -- NULL for a burn.
    to_address        text CHECK (to_address <> ''),
    value             numeric(38,18) NOT NULL CHECK (value >= 0 AND value <> 'NaN'),
    value_usd         numeric(20,2) CHECK (value_usd >= 0 AND value_usd <> 'NaN'),
    kind              text NOT NULL DEFAULT 'call' CHECK (kind <> ''),
    -- NULL where unknown. A transfer that failed, or whose transaction has failed, moves no value:
    -- it is then false, whatever the writer says.
    succeeded         boolean,
    -- The place in the tree of calls, such as 0,2; NULL where unknown. It identifies a call.
    trace_path        text CHECK (trace_path ~ '^([0-9]+(,[0-9]+)*)?$'),
    block_hash        text CHECK (block_hash <> ''),
    -- Set by a trigger: `succeeded`, or the block and index, are those of the transaction, and
    -- follow it.
    outcome_inherited boolean NOT NULL DEFAULT false,
    block_inherited   boolean NOT NULL DEFAULT false,
    ingest_xid        xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    PRIMARY KEY (network, tx_hash, position, "timestamp"),
    CONSTRAINT internal_transfers_end CHECK (from_address IS NOT NULL OR to_address IS NOT NULL)
) PARTITION BY RANGE ("timestamp");
COMMENT ON TABLE arx.internal_transfers IS
    'movements of the native coin within transactions in addition to their own value, partitioned by month; values in coins';
GRANT SELECT ON TABLE arx.internal_transfers TO arx_reader;
GRANT INSERT, UPDATE, DELETE, TRUNCATE ON TABLE arx.internal_transfers TO arx_operator;

CREATE INDEX idx_internal_transfers_from_addr ON arx.internal_transfers (from_address, network, "timestamp" DESC);
CREATE INDEX idx_internal_transfers_to_addr ON arx.internal_transfers (to_address, network, "timestamp" DESC);
CREATE INDEX idx_internal_transfers_ingest ON arx.internal_transfers (ingest_xid);
-- Rewards and the like, which have no transaction, are found by their block.
CREATE INDEX idx_internal_transfers_block ON arx.internal_transfers (network, block_number)
    WHERE from_address IS NULL OR to_address IS NULL;

-- Transactions of internal transfers that lack an outcome or a block, and that are not stored yet:
-- the transfers take both from them when they arrive. Failed transactions that are stored are here,
-- too, until every session that may have been storing their transfers at the same time has ended:
-- the transactions whose ids are below `noticed_before`, which the first settlement sets. A
-- transaction may be here twice, because rows of a dump or of a publisher may meet those that the
-- triggers have written.
CREATE TABLE arx.awaited_transactions (
    awaited_id  uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    network     text NOT NULL,
    tx_hash     text NOT NULL,
    "timestamp" timestamptz NOT NULL,
    is_stored   boolean NOT NULL DEFAULT false,
    -- Set by the first settlement after the failure.
    noticed_before xid8
);
COMMENT ON TABLE arx.awaited_transactions IS
    'transactions that are not stored yet, and from which internal transfers will take outcome and block; failed ones whose transfers may just be being stored';
GRANT SELECT ON TABLE arx.awaited_transactions TO arx_reader;
GRANT INSERT, DELETE ON TABLE arx.awaited_transactions TO arx_operator;

CREATE INDEX idx_awaited_transactions ON arx.awaited_transactions (network, tx_hash, "timestamp") WHERE NOT is_stored;

-- `amount` is in raw units of the token: a uint256 with up to 78 digits.
CREATE TABLE arx.token_transfers (
    network       text NOT NULL,
    tx_hash       text NOT NULL CHECK (tx_hash <> ''),
    log_index     integer NOT NULL CHECK (log_index >= 0),
    block_number  bigint NOT NULL CHECK (block_number >= 0),
    "timestamp"   timestamptz NOT NULL
        CHECK ("timestamp" >= '1970-01-01 00:00+00' AND "timestamp" < '10000-01-01 00:00+00'),
    token_address text NOT NULL CHECK (token_address <> ''),
    from_address  text NOT NULL CHECK (from_address <> ''),
    to_address    text NOT NULL CHECK (to_address <> ''),
    amount        numeric(78,0) NOT NULL
        CHECK (amount BETWEEN 0 AND 115792089237316195423570985008687907853269984665640564039457584007913129639935),
    -- The id of an NFT, whose amount counts tokens.
    token_id      numeric(78,0)
        CHECK (token_id BETWEEN 0 AND 115792089237316195423570985008687907853269984665640564039457584007913129639935),
    value_usd     numeric(20,2) CHECK (value_usd >= 0 AND value_usd <> 'NaN'),
    ingest_xid    xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    PRIMARY KEY (network, tx_hash, log_index, "timestamp")
) PARTITION BY RANGE ("timestamp");
COMMENT ON TABLE arx.token_transfers IS 'token transfers, partitioned by month; amounts in raw units of the token';
GRANT SELECT ON TABLE arx.token_transfers TO arx_reader;
GRANT INSERT, UPDATE, DELETE, TRUNCATE ON TABLE arx.token_transfers TO arx_operator;

CREATE INDEX idx_token_transfers_from_addr ON arx.token_transfers (from_address, network, "timestamp" DESC);
CREATE INDEX idx_token_transfers_to_addr ON arx.token_transfers (to_address, network, "timestamp" DESC);
CREATE INDEX idx_token_transfers_token ON arx.token_transfers (token_address, network, "timestamp" DESC);
-- Contracts whose transfers have ids are NFTs: an import asks for them.
CREATE INDEX idx_token_transfers_ids ON arx.token_transfers (token_address, network) WHERE token_id IS NOT NULL;
CREATE INDEX idx_token_transfers_ingest ON arx.token_transfers (ingest_xid);

-- Token transfers of failed transactions, as rows of arx.token_transfers: a failed transaction
-- leaves no logs, so that they move nothing. They return when the transaction turns out not to have
-- failed, and go with it.
CREATE TABLE arx.void_token_transfers (
    network     text NOT NULL,
    tx_hash     text NOT NULL,
    log_index   integer NOT NULL,
    "timestamp" timestamptz NOT NULL,
    transfer    jsonb NOT NULL,
    PRIMARY KEY (network, tx_hash, log_index, "timestamp")
);
COMMENT ON TABLE arx.void_token_transfers IS
    'token transfers of failed transactions, which move nothing, as rows of arx.token_transfers in JSON';
GRANT SELECT ON TABLE arx.void_token_transfers TO arx_operator;

CREATE TRIGGER arx_stamp BEFORE UPDATE ON arx.transactions
    FOR EACH ROW EXECUTE FUNCTION arx.stamp_row();
ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER arx_stamp;
CREATE TRIGGER arx_restamp AFTER INSERT OR UPDATE ON arx.transactions
    FOR EACH ROW WHEN (NEW.ingest_xid IS DISTINCT FROM pg_current_xact_id()) EXECUTE FUNCTION arx.restamp_row();
ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER arx_restamp;
CREATE TRIGGER arx_stamp BEFORE UPDATE ON arx.internal_transfers
    FOR EACH ROW EXECUTE FUNCTION arx.stamp_row();
ALTER TABLE arx.internal_transfers ENABLE ALWAYS TRIGGER arx_stamp;
CREATE TRIGGER arx_restamp AFTER INSERT OR UPDATE ON arx.internal_transfers
    FOR EACH ROW WHEN (NEW.ingest_xid IS DISTINCT FROM pg_current_xact_id()) EXECUTE FUNCTION arx.restamp_row();
ALTER TABLE arx.internal_transfers ENABLE ALWAYS TRIGGER arx_restamp;
-- Outcome and block of a transaction reach its internal transfers, in whatever order the rows come.
CREATE TRIGGER arx_complete BEFORE INSERT OR UPDATE ON arx.internal_transfers FOR EACH ROW
    WHEN (NEW.succeeded IS NOT FALSE OR NEW.block_number IS NULL OR NEW.outcome_inherited OR NEW.block_inherited)
    EXECUTE FUNCTION arx.complete_internal_transfer();
ALTER TABLE arx.internal_transfers ENABLE ALWAYS TRIGGER arx_complete;
-- Without a condition: PostgreSQL would refuse to change the type of a column that it names.
CREATE TRIGGER arx_pass_on AFTER INSERT OR UPDATE OR DELETE ON arx.transactions
    FOR EACH ROW EXECUTE FUNCTION arx.complete_internal_transfers();
ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER arx_pass_on;
CREATE TRIGGER arx_void BEFORE INSERT ON arx.token_transfers
    FOR EACH ROW EXECUTE FUNCTION arx.void_token_transfer();
ALTER TABLE arx.token_transfers ENABLE ALWAYS TRIGGER arx_void;
CREATE TRIGGER arx_stamp BEFORE UPDATE ON arx.token_transfers
    FOR EACH ROW EXECUTE FUNCTION arx.stamp_row();
ALTER TABLE arx.token_transfers ENABLE ALWAYS TRIGGER arx_stamp;
CREATE TRIGGER arx_restamp AFTER INSERT OR UPDATE ON arx.token_transfers
    FOR EACH ROW WHEN (NEW.ingest_xid IS DISTINCT FROM pg_current_xact_id()) EXECUTE FUNCTION arx.restamp_row();
ALTER TABLE arx.token_transfers ENABLE ALWAYS TRIGGER arx_restamp;
CREATE TRIGGER arx_log_change AFTER UPDATE OR DELETE ON arx.transactions
    FOR EACH ROW EXECUTE FUNCTION arx.log_transaction_change('transactions');
ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER arx_log_change;
CREATE TRIGGER arx_log_change AFTER UPDATE OR DELETE ON arx.internal_transfers
    FOR EACH ROW EXECUTE FUNCTION arx.log_transaction_change('internal_transfers');
ALTER TABLE arx.internal_transfers ENABLE ALWAYS TRIGGER arx_log_change;
CREATE TRIGGER arx_log_change AFTER UPDATE OR DELETE ON arx.token_transfers
    FOR EACH ROW EXECUTE FUNCTION arx.log_transaction_change('token_transfers');
ALTER TABLE arx.token_transfers ENABLE ALWAYS TRIGGER arx_log_change;

-- After the triggers, which partitions inherit.
CREATE TABLE arx.transactions_default PARTITION OF arx.transactions DEFAULT;
CREATE TABLE arx.internal_transfers_default PARTITION OF arx.internal_transfers DEFAULT;
CREATE TABLE arx.token_transfers_default PARTITION OF arx.token_transfers DEFAULT;
