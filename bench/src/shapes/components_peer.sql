-- Label propagation: every wallet takes the smallest label among its neighbours, until no label
-- changes. Wallets are integers in the order of their addresses, pairs exist in both directions,
-- and only changed labels are propagated.
CREATE SCHEMA IF NOT EXISTS peer;

CREATE TABLE peer.wallets AS
    SELECT row_number() OVER (ORDER BY address COLLATE "C")::integer AS wallet, address
      FROM (SELECT from_address AS address FROM arx.transactions WHERE network = 'ethereum'
            UNION SELECT to_address FROM arx.transactions WHERE network = 'ethereum' AND to_address IS NOT NULL) AS one;
CREATE UNIQUE INDEX ON peer.wallets (address);
ANALYZE peer.wallets;

CREATE TABLE peer.neighbours AS
    WITH pairs AS (
        SELECT DISTINCT sender.wallet AS source, receiver.wallet AS target
          FROM arx.transactions AS t
          JOIN peer.wallets AS sender ON sender.address = t.from_address
          JOIN peer.wallets AS receiver ON receiver.address = t.to_address
         WHERE t.network = 'ethereum' AND t.status <> 'failed' AND t.from_address <> t.to_address)
    SELECT source, target FROM pairs UNION SELECT target, source FROM pairs;
CREATE INDEX ON peer.neighbours (source);
ANALYZE peer.neighbours;

CREATE FUNCTION peer.components() RETURNS TABLE (label integer, wallets bigint) LANGUAGE plpgsql AS $$
BEGIN
    DROP TABLE IF EXISTS pg_temp.labels, pg_temp.changed, pg_temp.better;
    CREATE TEMP TABLE labels AS SELECT DISTINCT n.source AS wallet, n.source AS label FROM peer.neighbours AS n;
    CREATE UNIQUE INDEX ON labels (wallet);
    CREATE TEMP TABLE changed AS SELECT l.wallet, l.label FROM labels AS l;
    CREATE TEMP TABLE better (wallet integer, label integer);
    LOOP
        ANALYZE changed;
        TRUNCATE better;
        INSERT INTO better
        SELECT offered.wallet, offered.label
          FROM (SELECT n.target AS wallet, min(c.label) AS label
                  FROM changed AS c JOIN peer.neighbours AS n ON n.source = c.wallet GROUP BY n.target) AS offered
          JOIN labels AS own ON own.wallet = offered.wallet
         WHERE offered.label < own.label;
        EXIT WHEN NOT FOUND;
        ANALYZE better;
        UPDATE labels AS l SET label = b.label FROM better AS b WHERE b.wallet = l.wallet;
        TRUNCATE changed;
        INSERT INTO changed SELECT b.wallet, b.label FROM better AS b;
    END LOOP;
    RETURN QUERY SELECT l.label, count(*) FROM labels AS l GROUP BY l.label;
END;
$$;
