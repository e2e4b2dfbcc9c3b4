-- Behaviour of wallets: classes by the transactions that a wallet sent.

-- A wallet belongs to a class above these numbers. The network '*' stands for all networks without
-- a row. A user's row takes precedence over the one that ARX ships.
CREATE TABLE behaviour_thresholds (
    network                text NOT NULL DEFAULT '*' CHECK (network <> ''),
    builtin                boolean NOT NULL DEFAULT false,
    -- Days counted, up to the latest day of the network; NULL: all.
    period_days            integer DEFAULT 30 CHECK (period_days > 0),
    whale_mean_coins       bigint NOT NULL DEFAULT 10000 CHECK (whale_mean_coins >= 0),
    whale_mean_usd         bigint NOT NULL DEFAULT 1000000 CHECK (whale_mean_usd >= 0),
    trader_transactions    bigint NOT NULL DEFAULT 100 CHECK (trader_transactions >= 0),
    trader_mean_gas_price  double precision NOT NULL DEFAULT 50e9
        CHECK (trader_mean_gas_price >= 0 AND trader_mean_gas_price < 'Infinity'),
    distributor_recipients bigint NOT NULL DEFAULT 50 CHECK (distributor_recipients >= 0),
    PRIMARY KEY (network, builtin)
);
COMMENT ON TABLE behaviour_thresholds IS 'thresholds above which a wallet is a whale, a trader or a distributor';
INSERT INTO behaviour_thresholds (builtin) VALUES (true);

-- Last day and rules by which the wallets of a network were classified.
CREATE TABLE behaviour_windows (
    network    text PRIMARY KEY CHECK (network <> ''),
    until      date NOT NULL,
    rules      jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE behaviour_windows IS 'last day and rules by which the wallets of a network were classified';
