-- The relations of ARX. Everything lives in the extension's schema `arx`.
--
-- What belongs to the extension and what does not: parents and default partitions are members of the extension; partitions
-- that functions create later are plain tables, so pg_dump carries their definition. Default partitions and the tables that
-- hold users' rows are registered with pg_extension_config_dump, so pg_dump carries their rows.

CREATE TYPE user_status_enum AS ENUM ('active', 'suspended', 'closed');
CREATE TYPE tx_status_enum AS ENUM ('pending', 'confirmed', 'failed');
CREATE TYPE label_severity_enum AS ENUM ('none', 'low', 'medium', 'high', 'severe');

-- Networks -------------------------------------------------------------------------------------------------------------------
CREATE TABLE networks (
    network         text PRIMARY KEY CHECK (network = arx.normalize_network(network)),
    family          text NOT NULL GENERATED ALWAYS AS (arx.network_family(network)) STORED,
    native_asset    text NOT NULL CHECK (native_asset <> ''),
    native_decimals smallint NOT NULL DEFAULT 18 CHECK (native_decimals BETWEEN 0 AND 18),
    -- rows that ARX ships; a user's own rows are the others, and pg_dump carries those alone
    builtin         boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE networks IS 'networks that ARX knows; add one with INSERT (network, native_asset)';
INSERT INTO networks (network, native_asset, native_decimals, builtin) VALUES
    ('ethereum', 'ETH', 18, true), ('sepolia', 'ETH', 18, true), ('holesky', 'ETH', 18, true),
    ('ethereum-classic', 'ETC', 18, true), ('bsc', 'BNB', 18, true), ('polygon', 'POL', 18, true),
    ('avalanche', 'AVAX', 18, true), ('arbitrum', 'ETH', 18, true), ('optimism', 'ETH', 18, true),
    ('base', 'ETH', 18, true), ('fantom', 'FTM', 18, true), ('gnosis', 'XDAI', 18, true), ('celo', 'CELO', 18, true),
    ('cronos', 'CRO', 18, true), ('linea', 'ETH', 18, true), ('scroll', 'ETH', 18, true), ('zksync', 'ETH', 18, true),
    ('bitcoin', 'BTC', 8, true), ('bitcoin-testnet', 'BTC', 8, true),
    ('litecoin', 'LTC', 8, true), ('litecoin-testnet', 'LTC', 8, true),
    ('tron', 'TRX', 6, true), ('solana', 'SOL', 9, true),
    ('bitcoin-cash', 'BCH', 8, true), ('bitcoin-sv', 'BSV', 8, true), ('dogecoin', 'DOGE', 8, true),
    ('zcash', 'ZEC', 8, true), ('dash', 'DASH', 8, true), ('monero', 'XMR', 12, true), ('ripple', 'XRP', 6, true),
    ('cardano', 'ADA', 6, true), ('stellar', 'XLM', 7, true), ('eos', 'EOS', 4, true), ('polkadot', 'DOT', 10, true),
    ('algorand', 'ALGO', 6, true), ('cosmos', 'ATOM', 6, true), ('tezos', 'XTZ', 6, true), ('binance-beacon', 'BNB', 8, true);

-- Users ----------------------------------------------------------------------------------------------------------------------
CREATE TABLE users (
    user_id    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email      text NOT NULL CHECK (email ~ '^[^@\s]+@[^@\s]+$' AND length(email) <= 254),
    created_at timestamptz NOT NULL DEFAULT now(),
    last_login timestamptz,
    status     user_status_enum NOT NULL DEFAULT 'active'
);
COMMENT ON TABLE users IS 'people who work with ARX; not readable by arx_reader';
CREATE UNIQUE INDEX users_email_key ON users (lower(email));

-- Labels ---------------------------------------------------------------------------------------------------------------------
-- kind: illicit (raises risk), service (a custodian: tracing stops here), neutral.
CREATE TABLE label_categories (
    category    text PRIMARY KEY CHECK (category ~ '^[a-z][a-z0-9_]*$'),
    kind        text NOT NULL CHECK (kind IN ('illicit', 'service', 'neutral')),
    severity    label_severity_enum NOT NULL,
    description text NOT NULL,
    builtin     boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE label_categories IS 'categories of labels and their meaning for risk';
INSERT INTO label_categories (category, kind, severity, description, builtin) VALUES
    ('sanctions',         'illicit', 'severe', 'named on a sanctions list', true),
    ('terrorism',         'illicit', 'severe', 'financing of terrorism', true),
    ('child_abuse',       'illicit', 'severe', 'sale of child abuse material', true),
    ('ransomware',        'illicit', 'severe', 'collects ransom for encrypted or stolen data', true),
    ('hack',              'illicit', 'severe', 'holds funds stolen from a service', true),
    ('darknet_market',    'illicit', 'high',   'market for illegal goods', true),
    ('extremism',         'illicit', 'high',   'donations to extremist groups', true),
    ('phishing',          'illicit', 'high',   'steals keys or tricks victims into sending', true),
    ('scam',              'illicit', 'high',   'fraud: giveaways, fake sales, fake support', true),
    ('sextortion',        'illicit', 'high',   'extortion by threat to publish', true),
    ('ponzi_scheme',      'illicit', 'high',   'pays early investors from later ones', true),
    ('blocked',           'illicit', 'high',   'frozen by a token issuer or blocked by an explorer', true),
    ('illicit',           'illicit', 'high',   'illicit, kind unknown', true),
    ('mixer',             'service', 'medium', 'mixes funds of many users', true),
    ('gambling',          'service', 'low',    'casino or betting service', true),
    ('exchange',          'service', 'none',   'custodial exchange', true),
    ('wallet_service',    'service', 'none',   'custodial wallet', true),
    ('payment_processor', 'service', 'none',   'custodial payments', true),
    ('defi',              'neutral', 'none',   'decentralised finance contract', true),
    ('miner',             'neutral', 'none',   'miner, validator or pool', true),
    ('token',             'neutral', 'none',   'token contract or sale', true),
    ('licit',             'neutral', 'none',   'reviewed and found licit', true),
    ('other',             'neutral', 'none',   'labelled, category not mapped', true);

CREATE TABLE address_labels (
    label_id   bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    network    text NOT NULL REFERENCES networks,
    address    text NOT NULL CHECK (address <> ''),
    category   text NOT NULL REFERENCES label_categories,
    severity   label_severity_enum NOT NULL,
    label      text NOT NULL DEFAULT '',
    source     text NOT NULL CHECK (source <> ''),
    confidence numeric(4,3) NOT NULL DEFAULT 1 CHECK (confidence > 0 AND confidence <= 1),
    valid_from timestamptz NOT NULL DEFAULT '-infinity',
    valid_to   timestamptz NOT NULL DEFAULT 'infinity',
    -- as of transactions: see sql/postgres/label_changes.sql
    ingest_xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    CONSTRAINT address_labels_validity CHECK (valid_from < valid_to),
    CONSTRAINT address_labels_address_normalized CHECK (address = arx.normalize_address(address, network)),
    CONSTRAINT address_labels_key UNIQUE (network, address, category, source, label, valid_from)
);
COMMENT ON TABLE address_labels IS 'labels of addresses with source, confidence and period of validity';
CREATE INDEX idx_address_labels_address ON address_labels (address, network);
CREATE INDEX idx_address_labels_ingest ON address_labels (ingest_xid);

-- Prices ---------------------------------------------------------------------------------------------------------------------
CREATE TABLE asset_prices (
    asset     text NOT NULL CHECK (asset <> ''),
    priced_at timestamptz NOT NULL,
    price_usd numeric(30,12) NOT NULL CHECK (price_usd >= 0),
    source    text NOT NULL DEFAULT 'manual',
    PRIMARY KEY (asset, priced_at)
);
COMMENT ON TABLE asset_prices IS 'prices of assets in USD, each in force until the next one';

-- Transactions ---------------------------------------------------------------------------------------------------------------
-- INSERT and COPY fire no row trigger. `ingest_xid` is what makes freshness exact: see sql/postgres/changes.sql.
CREATE TABLE transactions (
    network           text NOT NULL,
    tx_hash           text NOT NULL CHECK (tx_hash <> ''),
    block_number      bigint NOT NULL CHECK (block_number >= 0),
    transaction_index integer CHECK (transaction_index >= 0),
    "timestamp"       timestamptz NOT NULL,
    from_address      text NOT NULL CHECK (from_address <> ''),
    to_address        text CHECK (to_address <> ''),
    -- a NaN counts as larger than any number
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

-- `amount` is in the token's raw units: a uint256, of up to 78 digits.
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

-- Wallets --------------------------------------------------------------------------------------------------------------------
-- By network, and within a network by hash of the address once create_hash_partitions() was called for it.
CREATE TABLE wallet_profiles (
    wallet_address    text NOT NULL CHECK (wallet_address <> ''),
    network_type      text NOT NULL,
    first_seen        timestamptz,
    last_activity     timestamptz,
    transaction_count bigint NOT NULL DEFAULT 0 CHECK (transaction_count >= 0),
    total_volume      numeric NOT NULL DEFAULT 0 CHECK (total_volume >= 0),
    total_volume_usd  numeric(20,2) NOT NULL DEFAULT 0 CHECK (total_volume_usd >= 0),
    -- points of a scorecard have tenths
    risk_score        numeric(4,1) NOT NULL DEFAULT 50 CHECK (risk_score BETWEEN 0 AND 100),
    risk_state        text NOT NULL DEFAULT 'unknown'
        CHECK (risk_state IN ('scored', 'unknown', 'labelled', 'partial', 'overridden')),
    analytics_profile jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(analytics_profile) = 'object'),
    version           bigint NOT NULL DEFAULT 1,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (wallet_address, network_type)
) PARTITION BY LIST (network_type);
COMMENT ON TABLE wallet_profiles IS
    'wallets, one row each: activity, volume, risk, and the analytics of users and ClickHouse';
CREATE TABLE wallet_profiles_default PARTITION OF wallet_profiles DEFAULT;

CREATE INDEX idx_wallet_analytics_gin ON wallet_profiles USING gin (analytics_profile jsonb_path_ops);
CREATE INDEX idx_active_wallets ON wallet_profiles (last_activity DESC NULLS LAST);
CREATE INDEX idx_wallet_risk ON wallet_profiles (network_type, risk_score DESC);

-- Aggregates -----------------------------------------------------------------------------------------------------------------
CREATE TABLE daily_transaction_stats (
    date             date NOT NULL,
    network          text NOT NULL,
    tx_count         bigint NOT NULL,
    volume           numeric NOT NULL,
    avg_gas          numeric,
    min_gas          bigint,
    max_gas          bigint,
    unique_senders   bigint NOT NULL,
    unique_receivers bigint NOT NULL,
    source           text NOT NULL DEFAULT 'postgresql' CHECK (source IN ('postgresql', 'clickhouse')),
    refreshed_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (date, network)
);
COMMENT ON TABLE daily_transaction_stats IS 'transactions by day (UTC) and network; failed transactions add no volume';

-- Computed by ClickHouse, written back by the sidecar's feed.
CREATE TABLE hourly_volume (
    network           text NOT NULL,
    hour              timestamptz NOT NULL CHECK (hour = date_trunc('hour', hour, 'UTC')),
    transaction_count bigint NOT NULL,
    total_volume      numeric NOT NULL,
    unique_senders    bigint NOT NULL,
    unique_receivers  bigint NOT NULL,
    refreshed_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (network, hour)
);
COMMENT ON TABLE hourly_volume IS
    'transactions by hour (UTC) and network, computed by ClickHouse; failed transactions add no volume';

-- How wallets behave: above which numbers a wallet is of a class, by what it sent in the period. The network '*' stands for all that have
-- no row of their own. A user's row goes before the one that ARX ships.
CREATE TABLE behaviour_thresholds (
    network                text NOT NULL DEFAULT '*' CHECK (network <> ''),
    origin                 text NOT NULL DEFAULT 'user' CHECK (origin IN ('builtin', 'user')),
    -- up to the network's latest day; NULL for all time
    period_days            integer DEFAULT 30 CHECK (period_days > 0),
    whale_mean_coins       bigint NOT NULL DEFAULT 10000 CHECK (whale_mean_coins >= 0),
    whale_mean_usd         bigint NOT NULL DEFAULT 1000000 CHECK (whale_mean_usd >= 0),
    trader_transactions    bigint NOT NULL DEFAULT 100 CHECK (trader_transactions >= 0),
    trader_mean_gas_price  double precision NOT NULL DEFAULT 50e9
        CHECK (trader_mean_gas_price >= 0 AND trader_mean_gas_price < 'Infinity'),
    distributor_recipients bigint NOT NULL DEFAULT 50 CHECK (distributor_recipients >= 0),
    PRIMARY KEY (network, origin)
);
COMMENT ON TABLE behaviour_thresholds IS 'thresholds above which a wallet is a whale, a trader or a distributor';
INSERT INTO behaviour_thresholds (origin) VALUES ('builtin');

-- Up to which day, and by which rules, the wallets of a network were judged last.
CREATE TABLE behaviour_windows (
    network    text PRIMARY KEY CHECK (network <> ''),
    until      date NOT NULL,
    rules      jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE behaviour_windows IS 'day up to which the behaviour of the wallets of a network is known';

-- State of the movers --------------------------------------------------------------------------------------------------------
-- One row a consumer of the freshness primitive (a refresh job here, a feed of the sidecar). `position` is the snapshot up to
-- which the consumer has seen everything, NULL before its first run; `attempt` rises before each try, so that whatever a try
-- writes elsewhere can be told from what an earlier try wrote. `epoch` and `system_identifier` are those of `position`.
CREATE TABLE feed_positions (
    consumer          text PRIMARY KEY CHECK (consumer <> ''),
    position          pg_snapshot,
    attempt           bigint NOT NULL DEFAULT 0,
    -- the attempt that led to `position`: a higher `attempt` was cut off, or is under way
    confirmed         bigint NOT NULL DEFAULT 0,
    epoch             bigint,
    system_identifier bigint,
    timeline          integer,
    rows_total        bigint NOT NULL DEFAULT 0,
    updated_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE feed_positions IS 'snapshot up to which each consumer of transactions has read everything';

-- The first load of a feed, until it is complete: everything there was at `position`, in chunks of blocks.
CREATE TABLE feed_loads (
    consumer          text PRIMARY KEY CHECK (consumer <> ''),
    attempt           bigint NOT NULL,
    position          pg_snapshot NOT NULL,
    epoch             bigint NOT NULL,
    system_identifier bigint NOT NULL,
    timeline          integer NOT NULL,
    started_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE feed_loads IS 'first loads of feeds that are not complete yet';
CREATE TABLE feed_chunks (
    consumer     text NOT NULL REFERENCES feed_loads ON DELETE CASCADE,
    chunk        integer NOT NULL,
    -- parts of as many tables as make a chunk of the usual size; in all arrays the same part stands at the same place
    relations    oid[] NOT NULL,
    -- another file has the rows in other blocks: the load then starts afresh
    files        oid[] NOT NULL,
    first_blocks bigint[] NOT NULL,
    -- NULL for the end of a table
    end_blocks   bigint[] NOT NULL,
    -- NULL until the chunk is in
    rows_loaded  bigint,
    PRIMARY KEY (consumer, chunk),
    CHECK (cardinality(relations) > 0 AND cardinality(files) = cardinality(relations)
           AND cardinality(first_blocks) = cardinality(relations) AND cardinality(end_blocks) = cardinality(relations))
);
COMMENT ON TABLE feed_chunks IS 'chunks of first loads; rows_loaded is set once a chunk is loaded';

-- Hours that the feed to ClickHouse is to load again; what it has loaded, it takes off the list.
CREATE TABLE feed_reloads (
    network      text NOT NULL,
    hour         timestamptz NOT NULL CHECK (isfinite(hour) AND hour = date_trunc('hour', hour, 'UTC')),
    requested_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (network, hour)
);
COMMENT ON TABLE feed_reloads IS 'hours that the feed to ClickHouse must load again';

-- One row an imported source. `lines_done` is committed with the rows it counts, so an import continues where it was cut off.
CREATE TABLE import_progress (
    source        text PRIMARY KEY CHECK (source <> ''),
    kind          text NOT NULL,
    network       text NOT NULL,
    lines_done    bigint NOT NULL DEFAULT 0,
    rows_imported bigint NOT NULL DEFAULT 0,
    rows_present  bigint NOT NULL DEFAULT 0,
    rows_rejected bigint NOT NULL DEFAULT 0,
    finished      boolean NOT NULL DEFAULT false,
    started_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE import_progress IS 'progress of the import of each source';
