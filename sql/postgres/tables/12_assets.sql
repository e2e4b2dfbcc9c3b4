-- Assets: tokens as users state them, and prices. Traces read both at each call, and
-- apply_asset_prices() starts over when either has changed, so their changes need no events.

CREATE TABLE arx.tokens (
    network       text NOT NULL REFERENCES arx.networks,
    token_address text NOT NULL CHECK (token_address <> ''),
    symbol        text CHECK (btrim(symbol) <> ''),
    decimals      smallint CHECK (decimals BETWEEN 0 AND 77),
    kind          text NOT NULL CHECK (kind IN ('fungible', 'nft', 'multi')),
    wraps         text CHECK (wraps = 'native'),
    source        text NOT NULL DEFAULT 'manual' CHECK (btrim(source) <> ''),
    PRIMARY KEY (network, token_address),
    CONSTRAINT tokens_wrapped CHECK (wraps IS NULL OR (kind = 'fungible' AND decimals IS NOT NULL))
);
COMMENT ON TABLE arx.tokens IS 'tokens by contract: kind, decimals, symbol, and whether they are a wrapped coin';
COMMENT ON COLUMN arx.tokens.symbol IS 'name by which arx.asset_prices has the token; NULL: it has no price';
COMMENT ON COLUMN arx.tokens.decimals IS 'decimals of a whole token; NULL: unknown, so that it has no price';
COMMENT ON COLUMN arx.tokens.kind IS
    'fungible: amounts add up; nft: each has an id and counts as one; multi: amounts count copies of an id';
COMMENT ON COLUMN arx.tokens.wraps IS
    'native: the contract exchanges the coin of its network for the token, one to one, and is followed as the coin';
GRANT SELECT ON TABLE arx.tokens TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.tokens TO arx_operator;
ALTER TABLE arx.tokens ADD CONSTRAINT tokens_address_normalized
    CHECK (token_address = arx.normalize_address(token_address, network));

CREATE TABLE arx.asset_prices (
    asset     text NOT NULL CHECK (asset <> ''),
    priced_at timestamptz NOT NULL CHECK (isfinite(priced_at)),
    -- NaN compares as greater than any number.
    price_usd numeric(30,12) NOT NULL CHECK (price_usd >= 0 AND price_usd <> 'NaN'),
    source    text NOT NULL DEFAULT 'manual',
    -- Two prices of one time are refused: the later source must decide which one holds.
    PRIMARY KEY (asset, priced_at)
);
COMMENT ON TABLE arx.asset_prices IS
    'prices of a whole coin or token in USD, each in force until the next one, for arx.max_price_age at most';
GRANT SELECT ON TABLE arx.asset_prices TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.asset_prices TO arx_operator;
