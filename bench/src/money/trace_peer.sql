CREATE SCHEMA IF NOT EXISTS peer;

CREATE FUNCTION peer.prepare() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMP TABLE IF NOT EXISTS reached (
        wallet text PRIMARY KEY, first timestamptz NOT NULL, level integer NOT NULL,
        number integer GENERATED ALWAYS AS IDENTITY, follows boolean);
    CREATE TEMP TABLE IF NOT EXISTS frontier (wallet text, first timestamptz);
END;
$$;

-- Finds the wallets that funds can reach in time within the limits, then reads their transfers once
-- in order of time.
CREATE FUNCTION peer.trace_haircut(origin text, max_hops integer, max_fan_out bigint)
    RETURNS TABLE (tx_hash text, tainted double precision) LANGUAGE plpgsql AS $$
DECLARE
    balances double precision[];
    -- By wallet and number of transfers.
    taints double precision[];
    moved double precision[];
    part double precision;
    place integer;
    wallets integer;
    passing record;
    hops integer := 1;
BEGIN
    TRUNCATE reached RESTART IDENTITY;
    TRUNCATE frontier;
    INSERT INTO frontier
    SELECT t.to_address, min(t."timestamp") FROM arx.transactions AS t
     WHERE t.from_address = origin AND t.network = 'ethereum' AND t.status <> 'failed' AND t.value > 0
       AND t.to_address <> origin
     GROUP BY t.to_address;
    WHILE hops < max_hops AND EXISTS (SELECT FROM frontier) LOOP
        INSERT INTO reached (wallet, first, level) SELECT f.wallet, f.first, hops FROM frontier AS f
            ON CONFLICT (wallet) DO UPDATE SET first = excluded.first, level = excluded.level;
        ANALYZE reached;
        UPDATE reached AS r SET follows = coalesce(counted.receivers, 0) <= max_fan_out
          FROM (SELECT new.wallet, count(pair.receiver) AS receivers
                  FROM (SELECT n.wallet FROM reached AS n WHERE n.follows IS NULL) AS new
                  LEFT JOIN (SELECT DISTINCT n.wallet, t.to_address AS receiver
                               FROM reached AS n
                               JOIN arx.transactions AS t ON t.from_address = n.wallet AND t.network = 'ethereum'
                              WHERE n.follows IS NULL AND t.to_address IS NOT NULL AND t.value > 0
                                AND t.status <> 'failed') AS pair ON pair.wallet = new.wallet
                 GROUP BY new.wallet) AS counted
         WHERE counted.wallet = r.wallet;
        TRUNCATE frontier;
        hops := hops + 1;
        IF hops < max_hops THEN
            INSERT INTO frontier
            SELECT found.wallet, found.first
              FROM (SELECT t.to_address AS wallet, min(t."timestamp") AS first
                      FROM reached AS r
                      JOIN arx.transactions AS t ON t.from_address = r.wallet AND t.network = 'ethereum'
                       AND t."timestamp" >= r.first
                     WHERE r.level = hops - 1 AND r.follows AND t.status <> 'failed' AND t.value > 0
                       AND t.to_address <> origin
                     GROUP BY t.to_address) AS found
              LEFT JOIN reached AS known ON known.wallet = found.wallet
             WHERE known.wallet IS NULL OR found.first < known.first;
        END IF;
    END LOOP;
    DELETE FROM reached WHERE NOT follows;
    ANALYZE reached;
    SELECT max(r.number) INTO wallets FROM reached AS r;
    balances := array_fill(0::double precision, ARRAY[wallets]);
    taints := array_fill(0::double precision, ARRAY[wallets * max_hops]);
    FOR passing IN
        SELECT all_of.tx_hash, all_of.value::double precision AS amount, all_of.sender,
               receiver.number AS receiver
          FROM (SELECT t.*, 0 AS sender FROM arx.transactions AS t
                 WHERE t.from_address = origin AND t.network = 'ethereum' AND t.to_address <> origin
                UNION ALL
                SELECT t.*, r.number FROM reached AS r
                  JOIN arx.transactions AS t ON t.from_address = r.wallet AND t.network = 'ethereum'
                UNION ALL
                SELECT t.*, NULL FROM reached AS r
                  JOIN arx.transactions AS t ON t.to_address = r.wallet AND t.network = 'ethereum'
                  LEFT JOIN reached AS known ON known.wallet = t.from_address
                 WHERE known.wallet IS NULL AND t.from_address <> origin) AS all_of
          LEFT JOIN reached AS receiver ON receiver.wallet = all_of.to_address
         WHERE all_of.status <> 'failed' AND all_of.value > 0
         ORDER BY all_of."timestamp", all_of.block_number, all_of.transaction_index NULLS FIRST,
                  all_of.from_address COLLATE "C", all_of.to_address COLLATE "C" NULLS LAST, all_of.value
    LOOP
        tainted := 0;
        moved := array_fill(0::double precision, ARRAY[max_hops]);
        IF passing.sender = 0 THEN
            tainted := passing.amount;
            moved[1] := passing.amount;
        ELSIF passing.sender IS NOT NULL THEN
            part := CASE WHEN passing.amount >= balances[passing.sender] THEN 1
                         ELSE passing.amount / balances[passing.sender] END;
            place := (passing.sender - 1) * max_hops;
            FOR hop IN 1 .. max_hops - 1 LOOP
                IF taints[place + hop] >= 1e-18 THEN
                    tainted := tainted + taints[place + hop] * part;
                    -- A transfer to oneself does not count.
                    IF passing.sender IS DISTINCT FROM passing.receiver THEN
                        moved[hop + 1] := taints[place + hop] * part;
                        taints[place + hop] := CASE WHEN part = 1 THEN 0 ELSE taints[place + hop] - moved[hop + 1] END;
                    END IF;
                END IF;
            END LOOP;
            balances[passing.sender] := greatest(0, balances[passing.sender] - passing.amount);
        END IF;
        IF passing.receiver IS NOT NULL THEN
            balances[passing.receiver] := balances[passing.receiver] + passing.amount;
            place := (passing.receiver - 1) * max_hops;
            IF tainted >= 1e-18 THEN
                FOR hop IN 1 .. max_hops - 1 LOOP
                    taints[place + hop] := taints[place + hop] + moved[hop];
                END LOOP;
            END IF;
        END IF;
        IF tainted >= 1e-18 THEN
            tx_hash := passing.tx_hash;
            RETURN NEXT;
        END IF;
    END LOOP;
END;
$$;
