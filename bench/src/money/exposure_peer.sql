-- Exposure by haircut, computed with sets. A balance that never falls below zero is its running sum
-- less the minimum of that sum so far. The composition of a balance is a running weighted mean. One
-- pass of a window aggregate over all wallets adds one hop.
CREATE SCHEMA IF NOT EXISTS peer;

CREATE FUNCTION peer.mix(state double precision, kept double precision, more double precision) RETURNS double precision
    LANGUAGE plpgsql IMMUTABLE STRICT AS 'BEGIN RETURN CASE WHEN state < 1e-30 THEN 0 ELSE state * kept END + more; END';
CREATE AGGREGATE peer.mixed(double precision, double precision) (
    SFUNC = peer.mix, STYPE = double precision, INITCOND = '0');

-- "Near" is the side of the screened wallets, "far" the source or destination of their funds.
CREATE FUNCTION peer.screen(addresses text[], incoming boolean, max_hops integer, max_fan_out bigint)
    RETURNS TABLE (address text, illicit double precision, sanctions double precision) LANGUAGE plpgsql AS $$
DECLARE
    depth_now integer := 0;
    hops integer := 1;
BEGIN
    DROP TABLE IF EXISTS pg_temp.mark, pg_temp.region, pg_temp.moving, pg_temp.event, pg_temp.made, pg_temp.mutual, pg_temp.own;
    CREATE TEMP TABLE mark AS
        SELECT l.address, (l.kind = 'illicit')::integer::double precision AS illicit,
               (l.category = 'sanctions')::integer::double precision AS sanctions
          FROM arx.current_labels AS l WHERE l.network = 'ethereum' AND l.kind IN ('illicit', 'service');
    ANALYZE mark;
    CREATE TEMP TABLE region (wallet text PRIMARY KEY, depth integer NOT NULL, number serial, open boolean, kept boolean);
    INSERT INTO region (wallet, depth, kept) SELECT DISTINCT a, 0, true FROM unnest(addresses) AS a;
    -- Find the wallets within reach.
    LOOP
        ANALYZE region;
        UPDATE region AS r SET open = marked.address IS NULL AND coalesce(counted.peers, 0) <= max_fan_out
          FROM region AS new
          LEFT JOIN mark AS marked ON marked.address = new.wallet
          LEFT JOIN (SELECT pair.wallet, count(*) AS peers
                       FROM (SELECT DISTINCT n.wallet, CASE WHEN incoming THEN t.from_address ELSE t.to_address END AS far
                               FROM region AS n
                               JOIN arx.transactions AS t ON t.network = 'ethereum' AND t.to_address IS NOT NULL
                                AND CASE WHEN incoming THEN t.to_address ELSE t.from_address END = n.wallet
                              WHERE n.depth = depth_now AND t.value > 0 AND t.status <> 'failed') AS pair
                      GROUP BY pair.wallet) AS counted ON counted.wallet = new.wallet
         WHERE new.wallet = r.wallet AND new.depth = depth_now;
        UPDATE region SET kept = depth = 0 OR open WHERE depth = depth_now;
        ANALYZE region;
        EXIT WHEN depth_now = max_hops - 1;
        INSERT INTO region (wallet, depth)
        SELECT DISTINCT CASE WHEN incoming THEN t.from_address ELSE t.to_address END, depth_now + 1
          FROM region AS r
          JOIN arx.transactions AS t ON t.network = 'ethereum' AND t.to_address IS NOT NULL
           AND CASE WHEN incoming THEN t.to_address ELSE t.from_address END = r.wallet
         WHERE r.depth = depth_now AND r.kept AND t.value > 0 AND t.status <> 'failed'
            ON CONFLICT DO NOTHING;
        depth_now := depth_now + 1;
    END LOOP;
    DELETE FROM region WHERE NOT kept;
    -- Collect their transfers in order of time.
    CREATE TEMP TABLE moving AS
        SELECT row_number() OVER (ORDER BY t."timestamp", t.block_number, t.transaction_index NULLS FIRST,
                                  t.from_address COLLATE "C", t.to_address COLLATE "C" NULLS LAST, t.value) AS id,
               sender.number AS sender, receiver.number AS receiver, t.value, t.value::double precision AS amount,
               CASE WHEN incoming THEN t.from_address ELSE t.to_address END AS far
          FROM arx.transactions AS t
          LEFT JOIN region AS sender ON sender.wallet = t.from_address
          LEFT JOIN region AS receiver ON receiver.wallet = t.to_address
         WHERE t.network = 'ethereum' AND t.status <> 'failed' AND t.value > 0
           AND (sender.number IS NOT NULL OR receiver.number IS NOT NULL);
    -- Compute each wallet's history with the balance before each transfer.
    CREATE TEMP TABLE event AS
        SELECT b.wallet, b.place, b.id, b.amount, b.near, b.self,
               CASE WHEN b.self THEN CASE WHEN incoming AND b.near THEN least(1, b.two_before / b.amount) ELSE 1 END
                    WHEN NOT b.near THEN 1
                    WHEN incoming THEN b.before / (b.before + b.amount)
                    ELSE 1 - CASE WHEN b.amount >= b.before THEN 1 ELSE b.amount / b.before END
               END AS kept,
               CASE WHEN incoming THEN least(1, b.before / b.amount) ELSE 1 END AS held
          FROM (SELECT s.*, lag(s.after, 1, 0::double precision) OVER own AS before,
                       lag(s.after, 2, 0::double precision) OVER own AS two_before
                  FROM (SELECT r.*, (r.sum - least(0, min(r.sum) OVER own))::double precision AS after
                          FROM (SELECT e.*, sum(e.change) OVER own AS sum
                                  FROM (SELECT m.sender AS wallet, 2 * m.id AS place, m.id, m.amount, -m.value AS change,
                                               NOT incoming AS near, m.sender IS NOT DISTINCT FROM m.receiver AS self
                                          FROM moving AS m WHERE m.sender IS NOT NULL
                                        UNION ALL
                                        SELECT m.receiver, 2 * m.id + 1, m.id, m.amount, m.value,
                                               incoming, m.sender IS NOT DISTINCT FROM m.receiver
                                          FROM moving AS m WHERE m.receiver IS NOT NULL) AS e
                                WINDOW own AS (PARTITION BY e.wallet ORDER BY e.place)) AS r
                        WINDOW own AS (PARTITION BY r.wallet ORDER BY r.place)) AS s
                WINDOW own AS (PARTITION BY s.wallet ORDER BY s.place)) AS b;
    ANALYZE event;
    -- Compute the composition of each transfer, hop by hop.
    CREATE TEMP TABLE made AS
        SELECT m.id, 1 AS hop, marked.illicit, marked.sanctions
          FROM moving AS m JOIN mark AS marked ON marked.address = m.far
         WHERE marked.illicit > 0 AND m.sender IS DISTINCT FROM m.receiver;
    WHILE hops < max_hops LOOP
        ANALYZE made;
        INSERT INTO made
        SELECT mixed.id, hops + 1, mixed.illicit * mixed.held, mixed.sanctions * mixed.held
          FROM (SELECT e.id, e.near, e.self, e.held, e.wallet,
                       peer.mixed(e.kept, CASE WHEN e.near THEN (1 - e.kept) * coalesce(m.illicit, 0) ELSE 0 END) OVER own AS illicit,
                       peer.mixed(e.kept, CASE WHEN e.near THEN (1 - e.kept) * coalesce(m.sanctions, 0) ELSE 0 END) OVER own
                           AS sanctions
                  FROM event AS e LEFT JOIN made AS m ON m.id = e.id AND m.hop = hops AND e.near AND NOT e.self
                WINDOW own AS (PARTITION BY e.wallet ORDER BY CASE WHEN incoming THEN e.place ELSE -e.place END)) AS mixed
          JOIN region AS r ON r.number = mixed.wallet AND r.open
         WHERE NOT mixed.near AND NOT mixed.self AND mixed.illicit > 0;
        hops := hops + 1;
    END LOOP;
    -- Funds that passed through a screened wallet itself are its own. Over three hops, these are
    -- the funds that it exchanged with a counterparty in both directions.
    CREATE TEMP TABLE mutual AS
        SELECT DISTINCT asked.number AS asked, asked.wallet AS address, other.number AS other
          FROM moving AS there
          JOIN moving AS back ON back.sender = there.receiver AND back.receiver = there.sender
          JOIN region AS asked ON asked.number = there.sender AND asked.depth = 0
          JOIN region AS other ON other.number = there.receiver AND other.open
         WHERE there.sender <> there.receiver AND max_hops >= 3;
    ANALYZE mutual;
    ANALYZE made;
    CREATE TEMP TABLE own AS
        SELECT passed.id, passed.asked, passed.illicit * passed.held AS illicit, passed.sanctions * passed.held AS sanctions
          FROM (SELECT p.asked, e.id, e.near, e.self, e.held,
                       peer.mixed(e.kept, CASE WHEN e.near AND m.far = p.address THEN (1 - e.kept) * coalesce(f.illicit, 0) ELSE 0 END)
                           OVER of_pair AS illicit,
                       peer.mixed(e.kept, CASE WHEN e.near AND m.far = p.address THEN (1 - e.kept) * coalesce(f.sanctions, 0) ELSE 0 END)
                           OVER of_pair AS sanctions
                  FROM mutual AS p
                  JOIN event AS e ON e.wallet = p.other
                  JOIN moving AS m ON m.id = e.id
                  LEFT JOIN made AS f ON f.id = e.id AND f.hop = 2 AND e.near AND NOT e.self
                WINDOW of_pair AS (PARTITION BY p.asked, e.wallet ORDER BY CASE WHEN incoming THEN e.place ELSE -e.place END)) AS passed
          JOIN moving AS back ON back.id = passed.id
         WHERE NOT passed.near AND NOT passed.self AND passed.illicit > 0
           AND CASE WHEN incoming THEN back.receiver ELSE back.sender END = passed.asked;
    RETURN QUERY
    SELECT r.wallet, sum(e.amount * (coalesce(m.illicit, 0) - coalesce(o.illicit, 0))) / sum(e.amount),
           sum(e.amount * (coalesce(m.sanctions, 0) - coalesce(o.sanctions, 0)))
      FROM region AS r JOIN event AS e ON e.wallet = r.number AND e.near AND NOT e.self
      LEFT JOIN own AS o ON o.id = e.id AND o.asked = r.number
      LEFT JOIN (SELECT made.id, sum(made.illicit) AS illicit, sum(made.sanctions) AS sanctions FROM made GROUP BY made.id) AS m
        ON m.id = e.id
     WHERE r.depth = 0
     GROUP BY r.wallet;
END;
$$;
