-- Networks and people. Rows that ARX ships have `builtin`; users add rows of their own.

CREATE TABLE arx.networks (
    network         text PRIMARY KEY,
    native_asset    text NOT NULL CHECK (native_asset <> ''),
    native_decimals smallint NOT NULL DEFAULT 18 CHECK (native_decimals BETWEEN 0 AND 18),
    builtin         boolean NOT NULL DEFAULT false,
    -- For networks that ARX does not list.
    stated_family   text CHECK (stated_family IN ('evm', 'bitcoin', 'tron', 'solana', 'opaque'))
);
COMMENT ON TABLE arx.networks IS 'networks of this database; arx.add_network() adds one';
COMMENT ON COLUMN arx.networks.native_asset IS 'symbol by which arx.asset_prices names the coin';
COMMENT ON COLUMN arx.networks.stated_family IS 'format of the addresses, as the user states it; ARX''s own list takes precedence';
INSERT INTO arx.networks (network, native_asset, native_decimals, builtin) VALUES
    ('ethereum', 'ETH', 18, true), ('sepolia', 'ETH', 18, true), ('holesky', 'ETH', 18, true),
    ('ethereum-classic', 'ETC', 18, true), ('bsc', 'BNB', 18, true), ('polygon', 'POL', 18, true),
    ('avalanche', 'AVAX', 18, true), ('arbitrum', 'ETH', 18, true), ('optimism', 'ETH', 18, true),
    ('base', 'ETH', 18, true), ('fantom', 'FTM', 18, true), ('gnosis', 'XDAI', 18, true), ('celo', 'CELO', 18, true),
    ('cronos', 'CRO', 18, true), ('linea', 'ETH', 18, true), ('scroll', 'ETH', 18, true), ('zksync', 'ETH', 18, true),
    ('bitcoin', 'BTC', 8, true), ('bitcoin-testnet', 'BTC', 8, true),
    ('litecoin', 'LTC', 8, true), ('litecoin-testnet', 'LTC', 8, true),
    ('tron', 'TRX', 6, true), ('solana', 'SOL', 9, true),
    ('bitcoin-cash', 'BCH', 8, true), ('bitcoin-sv', 'BSV', 8, true), ('dogecoin', 'DOGE', 8, true),
    ('bitcoin-gold', 'BTG', 8, true), ('verge', 'XVG', 6, true),
    ('zcash', 'ZEC', 8, true), ('dash', 'DASH', 8, true), ('monero', 'XMR', 12, true), ('ripple', 'XRP', 6, true),
    ('cardano', 'ADA', 6, true), ('stellar', 'XLM', 7, true), ('eos', 'EOS', 4, true), ('polkadot', 'DOT', 10, true),
    ('algorand', 'ALGO', 6, true), ('cosmos', 'ATOM', 6, true), ('tezos', 'XTZ', 6, true),
    ('binance-beacon', 'BNB', 8, true);
GRANT SELECT ON TABLE arx.networks TO arx_reader;
GRANT INSERT (network, native_asset, native_decimals, stated_family),
      UPDATE (network, native_asset, native_decimals, stated_family), DELETE
    ON TABLE arx.networks TO arx_operator;
ALTER TABLE arx.networks ADD CONSTRAINT networks_network_check CHECK (network = arx.normalize_network(network));
-- The format of the addresses, as ARX lists it, else as the user states it.
ALTER TABLE arx.networks ADD COLUMN family text NOT NULL GENERATED ALWAYS AS
    (coalesce(nullif(arx.listed_network_family(network), 'opaque'), stated_family, 'opaque')) STORED;

CREATE TYPE arx.user_status_enum AS ENUM ('active', 'suspended', 'closed');
REVOKE ALL ON TYPE arx.user_status_enum FROM PUBLIC;
GRANT USAGE ON TYPE arx.user_status_enum TO arx_reader;

CREATE TABLE arx.users (
    user_id    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email      text NOT NULL CHECK (email ~ '^[^@\s]+@[^@\s]+$' AND length(email) <= 254),
    created_at timestamptz NOT NULL DEFAULT now(),
    last_login timestamptz,
    status     arx.user_status_enum NOT NULL DEFAULT 'active'
);
COMMENT ON TABLE arx.users IS 'people who work with ARX; not readable by arx_reader';
GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE arx.users TO arx_operator;

CREATE UNIQUE INDEX users_email_key ON arx.users (lower(email));
