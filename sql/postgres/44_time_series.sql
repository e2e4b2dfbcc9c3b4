-- Time series of a wallet and of a network: buckets that are true to a time zone, gaps filled.

-- The buckets of a range. Buckets of months begin with the month or year, those of days are counted
-- from Monday, 2001-01-01, and those of hours and less begin again at each local midnight; all are
-- in local time, so that a day has 23 or 25 hours where a clock is changed.
CREATE FUNCTION time_buckets(bucket interval, "from" timestamptz, "to" timestamptz, time_zone text DEFAULT 'UTC')
    RETURNS TABLE (bucket_start timestamptz, bucket_end timestamptz)
    LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 400
    SET search_path = pg_catalog, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    most    CONSTANT integer := 100000;
    months  integer;
    days    integer;
    seconds numeric;
    length  numeric;
    first   timestamp;
    last    timestamp;
BEGIN
    IF $1 IS NULL OR $2 IS NULL OR $3 IS NULL OR $4 IS NULL THEN
        RAISE EXCEPTION 'bucket, from, to and time_zone must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    months := extract(year FROM $1) * 12 + extract(month FROM $1);
    days := extract(day FROM $1);
    seconds := extract(epoch FROM $1 - make_interval(months => months, days => days));
    IF (months <> 0)::integer + (days <> 0)::integer + (seconds <> 0)::integer <> 1
       OR months < 0 OR days < 0 OR seconds < 0 THEN
        RAISE EXCEPTION 'bucket must be a positive number of months, of days, or of hours and less, not %', $1
            USING ERRCODE = 'invalid_parameter_value', HINT = 'For example 1 month, 7 days or 15 minutes.';
    ELSIF seconds <> 0 AND (seconds < 1 OR seconds <> trunc(seconds) OR mod(86400, seconds) <> 0) THEN
        RAISE EXCEPTION 'a bucket of hours and less must be whole seconds that divide a day, not %', $1
            USING ERRCODE = 'invalid_parameter_value', HINT = 'For example 15 minutes, 1 hour or 6 hours.';
    ELSIF NOT isfinite($2) OR NOT isfinite($3) OR $2 >= $3 THEN
        RAISE EXCEPTION 'the range must be finite, and from before to: % to %', $2, $3
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    length := months::numeric * 2592000 + days::numeric * 86400 + seconds;
    IF extract(epoch FROM $3 - $2) / length > most THEN
        RAISE EXCEPTION 'the range % to % has more than % buckets of %', $2, $3, most, $1
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Choose a longer bucket or a shorter range.';
    END IF;
    first := $2 AT TIME ZONE $4;
    last := $3 AT TIME ZONE $4;
    IF seconds <> 0 THEN
        RETURN QUERY
        SELECT b.start, b.next
          FROM (SELECT s.start, least(s.start + make_interval(secs => seconds), d.until) AS next
                  FROM (SELECT day.local AT TIME ZONE $4 AS since, (day.local + interval '1 day') AT TIME ZONE $4 AS until
                          FROM generate_series(date_trunc('day', first), date_trunc('day', last), interval '1 day')
                               AS day (local)) AS d
                 CROSS JOIN LATERAL generate_series(d.since, d.until - interval '1 microsecond',
                                                    make_interval(secs => seconds)) AS s (start)) AS b
         WHERE b.start < $3 AND b.next > $2
         ORDER BY b.start;
        RETURN;
    END IF;
    IF months <> 0 THEN
        first := date_trunc('month', first);
        first := first - make_interval(months => (extract(year FROM first)::integer * 12
                                                  + extract(month FROM first)::integer - 1) % months);
    ELSE
        first := date_trunc('day', first);
        first := first - make_interval(days => (((first::date - date '2001-01-01') % days) + days) % days);
    END IF;
    RETURN QUERY
    SELECT b.start, b.next
      FROM (SELECT s.local AT TIME ZONE $4 AS start,
                   (s.local + make_interval(months => months, days => days)) AT TIME ZONE $4 AS next
              FROM generate_series(first, last, make_interval(months => months, days => days)) AS s (local)) AS b
     -- A zone that crosses the date line has days that do not exist.
     WHERE b.start < $3 AND b.next > $2 AND b.start < b.next
     ORDER BY b.start;
END;
$$;

CREATE FUNCTION check_series(metric text, metrics text[], fill text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF check_series.metric IS NULL OR NOT check_series.metric = ANY (check_series.metrics) THEN
        RAISE EXCEPTION 'unknown metric "%"', coalesce(left(check_series.metric, 60), 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Metrics are ' || array_to_string(check_series.metrics, ', ') || '.';
    ELSIF check_series.fill IS NULL OR check_series.fill NOT IN ('zero', 'null', 'previous', 'none') THEN
        RAISE EXCEPTION 'unknown way to fill gaps "%"', coalesce(left(check_series.fill, 60), 'null')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Choose zero, null, previous or none.';
    END IF;
END;
$$;

-- The end of a series: a row a bucket. `numbers` are those of the buckets with transactions, from
-- 1, in any order; `sums` and `counts` are their values and numbers of transactions. `whole` is
-- false for a bucket that the range from `earliest` to `latest` cuts.
CREATE FUNCTION fill_series(
    starts timestamptz[], ends timestamptz[], numbers integer[], sums numeric[], counts bigint[], fill text,
    earliest timestamptz, latest timestamptz
) RETURNS TABLE (bucket_start timestamptz, bucket_end timestamptz, value numeric, transactions bigint, whole boolean)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 400
    SET search_path = pg_catalog, pg_temp
    AS $$
WITH runs AS (
    SELECT b.number, b.starts, b.ends, s.sum, s.count, count(s.number) OVER (ORDER BY b.number) AS run
      FROM unnest($1, $2) WITH ORDINALITY AS b (starts, ends, number)
      LEFT JOIN unnest($3, $4, $5) AS s (number, sum, count) USING (number)
)
SELECT r.starts, r.ends,
       CASE WHEN r.count IS NOT NULL THEN trim_scale(r.sum)
            WHEN $6 = 'zero' THEN 0
            WHEN $6 = 'previous' THEN trim_scale(first_value(r.sum) OVER (PARTITION BY r.run ORDER BY r.number)) END,
       coalesce(r.count, 0), r.starts >= $7 AND r.ends <= $8
  FROM runs AS r
 WHERE r.count IS NOT NULL OR $6 <> 'none'
 ORDER BY r.number
$$;

CREATE FUNCTION wallet_time_series(
    address   text,
    network   text,
    metric    text DEFAULT 'volume',
    bucket    interval DEFAULT '1 day',
    "from"    timestamptz DEFAULT NULL,
    "to"      timestamptz DEFAULT NULL,
    fill      text DEFAULT 'zero',
    time_zone text DEFAULT 'UTC'
) RETURNS TABLE (bucket_start timestamptz, bucket_end timestamptz, value numeric, transactions bigint, whole boolean)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
#variable_conflict use_column
DECLARE
    wallet     text := arx.require_address($1, $2);
    of_network text := arx.registered_network($2);
    earliest   timestamptz := $5;
    latest     timestamptz := coalesce($6, now());
    starts     timestamptz[];
    ends       timestamptz[];
BEGIN
    PERFORM arx.check_series($3, '{transactions,sent,received,net,volume,volume_usd,counterparties}', $7);
    IF earliest IS NULL THEN
        SELECT min(f.first) INTO earliest
          FROM (SELECT min(t."timestamp") AS first FROM arx.transactions AS t
                 WHERE t.from_address = wallet AND t.network = of_network
                UNION ALL
                SELECT min(t."timestamp") FROM arx.transactions AS t WHERE t.to_address = wallet AND t.network = of_network
                UNION ALL
                SELECT min(i."timestamp") FROM arx.internal_transfers AS i
                 WHERE i.from_address = wallet AND i.network = of_network
                UNION ALL
                SELECT min(i."timestamp") FROM arx.internal_transfers AS i
                 WHERE i.to_address = wallet AND i.network = of_network) AS f;
    END IF;
    -- A wallet without transactions has no series.
    IF earliest IS NULL THEN
        RETURN;
    END IF;
    SELECT array_agg(b.bucket_start ORDER BY b.bucket_start), array_agg(b.bucket_end ORDER BY b.bucket_start)
      INTO starts, ends FROM arx.time_buckets($4, earliest, latest, $8) AS b;
    RETURN QUERY
    WITH bounds AS MATERIALIZED (
        -- A flat array: that of a variable would be copied for each row.
        SELECT array_agg(b.start) AS times FROM unnest(starts) AS b (start)
    ), moved AS (
        SELECT t.tx_hash, t."timestamp" AS at, true AS is_out, t.to_address = wallet AS is_in, t.to_address AS counterparty,
               CASE WHEN t.status = 'failed' THEN 0 ELSE t.value END AS value,
               CASE WHEN t.status = 'failed' THEN 0 ELSE t.value_usd END AS value_usd
          FROM arx.transactions AS t
         WHERE t.from_address = wallet AND t.network = of_network AND t."timestamp" >= earliest AND t."timestamp" < latest
        UNION ALL
        SELECT t.tx_hash, t."timestamp", false, true, t.from_address,
               CASE WHEN t.status = 'failed' THEN 0 ELSE t.value END, CASE WHEN t.status = 'failed' THEN 0 ELSE t.value_usd END
          FROM arx.transactions AS t
         WHERE t.to_address = wallet AND t.from_address <> wallet AND t.network = of_network
           AND t."timestamp" >= earliest AND t."timestamp" < latest
        UNION ALL
        SELECT i.tx_hash, i."timestamp", true, i.to_address IS NOT DISTINCT FROM wallet, i.to_address,
               CASE WHEN i.succeeded IS FALSE THEN 0 ELSE i.value END,
               CASE WHEN i.succeeded IS FALSE THEN 0 ELSE i.value_usd END
          FROM arx.internal_transfers AS i
         WHERE i.from_address = wallet AND i.network = of_network AND i."timestamp" >= earliest AND i."timestamp" < latest
        UNION ALL
        SELECT i.tx_hash, i."timestamp", false, true, i.from_address,
               CASE WHEN i.succeeded IS FALSE THEN 0 ELSE i.value END,
               CASE WHEN i.succeeded IS FALSE THEN 0 ELSE i.value_usd END
          FROM arx.internal_transfers AS i
         WHERE i.to_address = wallet AND i.from_address IS DISTINCT FROM wallet AND i.network = of_network
           AND i."timestamp" >= earliest AND i."timestamp" < latest
    ), sums AS (
        SELECT width_bucket(m.at, (SELECT b.times FROM bounds AS b)) AS number, count(DISTINCT m.tx_hash) AS transactions,
               CASE $3
                   WHEN 'transactions' THEN count(DISTINCT m.tx_hash)
                   WHEN 'sent' THEN coalesce(sum(m.value) FILTER (WHERE m.is_out), 0)
                   WHEN 'received' THEN coalesce(sum(m.value) FILTER (WHERE m.is_in), 0)
                   WHEN 'net' THEN coalesce(sum(m.value) FILTER (WHERE m.is_in), 0)
                                   - coalesce(sum(m.value) FILTER (WHERE m.is_out), 0)
                   WHEN 'volume' THEN sum(m.value)
                   WHEN 'volume_usd' THEN sum(m.value_usd)
                   WHEN 'counterparties' THEN count(DISTINCT m.counterparty) FILTER (WHERE m.counterparty <> wallet)
               END AS value
          FROM moved AS m
         GROUP BY 1
    )
    SELECT f.bucket_start, f.bucket_end, f.value, f.transactions, f.whole
      FROM (SELECT array_agg(s.number) AS numbers, array_agg(s.value) AS sums, array_agg(s.transactions) AS counts
              FROM sums AS s) AS a
     CROSS JOIN LATERAL arx.fill_series(starts, ends, a.numbers, a.sums, a.counts, $7, earliest, latest) AS f;
END;
$$;

-- Snapshot at which hourly_transaction_stats was true, NULL if all must be computed. SECURITY
-- DEFINER: callers have no privileges on the positions.
CREATE FUNCTION hourly_stats_position() RETURNS pg_snapshot
    LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT p.position
  FROM arx.feed_positions AS p
 WHERE p.consumer = 'hourly_transaction_stats' AND p.epoch = arx.current_graph_epoch()
   AND p.system_identifier = (SELECT c.system_identifier FROM pg_control_system() AS c)
$$;

CREATE FUNCTION refresh_hourly_stats() RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    -- Each part is of other partitions.
    SET plan_cache_mode = force_custom_plan
    AS $$
DECLARE
    run       record;
    changed   record;
    part      tstzrange;
    written   bigint;
    refreshed bigint := 0;
BEGIN
    PERFORM arx.settle_awaited_transactions();
    SELECT * INTO run FROM arx.begin_refresh('hourly_transaction_stats');
    SELECT * INTO changed FROM arx.changed_periods('hour', run.since, run.native);
    DELETE FROM arx.hourly_transaction_stats AS s WHERE s.hour = ANY (changed.single) OR s.hour <@ changed.whole;
    FOREACH part IN ARRAY changed.parts LOOP
        INSERT INTO arx.hourly_transaction_stats (network, hour, tx_count, failed_count, volume, volume_usd)
        SELECT t.network, date_trunc('hour', t."timestamp", 'UTC'), count(*) FILTER (WHERE t.is_transaction),
               count(*) FILTER (WHERE t.is_transaction AND NOT t.moves),
               coalesce(sum(t.value) FILTER (WHERE t.moves), 0), sum(t.value_usd) FILTER (WHERE t.moves)
          FROM (SELECT x."timestamp", x.network, true AS is_transaction, x.status <> 'failed' AS moves, x.value, x.value_usd
                  FROM arx.transactions AS x
                UNION ALL
                SELECT i."timestamp", i.network, false, true, i.value, i.value_usd
                  FROM arx.internal_transfers AS i WHERE i.succeeded IS NOT FALSE) AS t
         WHERE t."timestamp" >= coalesce(lower(part), '-infinity')
           AND (t."timestamp" < upper(part) OR upper(part) IS NULL)
           AND (part <@ changed.whole OR date_trunc('hour', t."timestamp", 'UTC') = ANY (changed.single))
         GROUP BY 1, 2;
        GET DIAGNOSTICS written = ROW_COUNT;
        refreshed := refreshed + written;
    END LOOP;
    PERFORM arx.finish_refresh('hourly_transaction_stats', run.until, run.epoch, refreshed);
    RETURN refreshed;
END;
$$;

-- Whole hours come from hourly_transaction_stats, rows from the tables where an hour has changed
-- since, or where a bucket or the range begins or ends within it. The answer is that of the rows
-- alone. Under row-level security, and for distinct wallets, only rows are read. Time: O(hours +
-- rows of the months with such hours); the partitions are planned only if there are such hours.
-- Internal transfers that failed count nowhere: they move no value, and their transaction counts
-- itself.
CREATE FUNCTION network_time_series(
    network   text,
    metric    text DEFAULT 'volume',
    bucket    interval DEFAULT '1 day',
    "from"    timestamptz DEFAULT NULL,
    "to"      timestamptz DEFAULT NULL,
    fill      text DEFAULT 'zero',
    time_zone text DEFAULT 'UTC'
) RETURNS TABLE (bucket_start timestamptz, bucket_end timestamptz, value numeric, transactions bigint, whole boolean)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
#variable_conflict use_column
DECLARE
    of_network text := arx.registered_network($1);
    earliest   timestamptz := $4;
    latest     timestamptz := coalesce($5, now());
    starts     timestamptz[];
    ends       timestamptz[];
    kept_since pg_snapshot := arx.hourly_stats_position();
    is_kept    boolean;
    -- Hours whose rows are read; months of them, for one scan each.
    rows_of    timestamptz[];
    -- Buckets with transactions: their numbers, values, and transactions.
    numbers    integer[];
    sums       numeric[];
    counts     bigint[];
BEGIN
    PERFORM arx.check_series($2, '{transactions,failed,volume,volume_usd,senders,receivers}', $6);
    IF earliest IS NULL THEN
        SELECT least((SELECT min(t."timestamp") FROM arx.transactions AS t WHERE t.network = of_network),
                     (SELECT min(i."timestamp") FROM arx.internal_transfers AS i WHERE i.network = of_network))
          INTO earliest;
        IF earliest IS NULL THEN
            RETURN;
        END IF;
    END IF;
    SELECT array_agg(b.bucket_start ORDER BY b.bucket_start), array_agg(b.bucket_end ORDER BY b.bucket_start)
      INTO starts, ends FROM arx.time_buckets($3, earliest, latest, $7) AS b;
    is_kept := $2 IN ('transactions', 'failed', 'volume', 'volume_usd') AND kept_since IS NOT NULL
        AND NOT row_security_active('arx.transactions'::regclass)
        AND NOT row_security_active('arx.internal_transfers'::regclass)
        AND NOT row_security_active('arx.hourly_transaction_stats'::regclass);
    IF is_kept THEN
        SELECT coalesce(array_agg(DISTINCT h.hour), '{}') INTO rows_of
          FROM (SELECT date_trunc('hour', c."timestamp", 'UTC') AS hour
                  FROM arx.changed_transactions(kept_since) AS c WHERE c.network = of_network
                UNION ALL
                SELECT date_trunc('hour', e.time, 'UTC')
                  FROM (SELECT b.start FROM unnest(starts) AS b (start)
                        UNION ALL VALUES (earliest), (latest)) AS e (time)
                 WHERE e.time <> date_trunc('hour', e.time, 'UTC')) AS h
         WHERE h.hour > earliest - interval '1 hour' AND h.hour < latest;
    END IF;
    IF is_kept THEN
        -- In a query of its own: to plan one that names the tables takes longer than to read a year
        -- of hours.
        WITH bounds AS MATERIALIZED (
            -- A flat array: that of a variable would be copied for each row.
            SELECT array_agg(b.start) AS times FROM unnest(starts) AS b (start)
        )
        SELECT array_agg(k.number), array_agg(k.value), array_agg(k.transactions)
          INTO numbers, sums, counts
          FROM (SELECT width_bucket(s.hour, (SELECT b.times FROM bounds AS b)) AS number,
                       sum(CASE $2
                               WHEN 'transactions' THEN s.tx_count
                               WHEN 'failed' THEN s.failed_count
                               WHEN 'volume' THEN s.volume
                               WHEN 'volume_usd' THEN s.volume_usd
                           END) AS value,
                       sum(s.tx_count)::bigint AS transactions
                  FROM arx.hourly_transaction_stats AS s
                 WHERE s.network = of_network AND s.hour >= earliest AND s.hour < latest AND s.hour <> ALL (rows_of)
                 GROUP BY 1) AS k;
    END IF;
    IF NOT is_kept OR rows_of <> '{}' THEN
        WITH bounds AS MATERIALIZED (
            SELECT array_agg(b.start) AS times FROM unnest(starts) AS b (start)
        ), months AS (
            SELECT greatest(min(h), earliest) AS since, least(max(h) + interval '1 hour', latest) AS until, array_agg(h) AS hours
              FROM unnest(rows_of) AS h
             GROUP BY date_trunc('month', h, 'UTC')
            UNION ALL SELECT earliest, latest, NULL WHERE NOT is_kept
        ), moved AS (
            SELECT t."timestamp" AS at, 1 AS transactions, (t.status = 'failed')::integer AS failed,
                   CASE WHEN t.status = 'failed' THEN 0 ELSE t.value END AS value,
                   CASE WHEN t.status = 'failed' THEN NULL ELSE t.value_usd END AS value_usd,
                   t.from_address AS sender, t.to_address AS receiver
              FROM months AS m
              JOIN arx.transactions AS t
                ON t.network = of_network AND t."timestamp" >= m.since AND t."timestamp" < m.until
               AND (m.hours IS NULL OR date_trunc('hour', t."timestamp", 'UTC') = ANY (m.hours))
            UNION ALL
            SELECT i."timestamp", 0, 0, i.value, i.value_usd, i.from_address, i.to_address
              FROM months AS m
              JOIN arx.internal_transfers AS i
                ON i.network = of_network AND i.succeeded IS NOT FALSE
               AND i."timestamp" >= m.since AND i."timestamp" < m.until
               AND (m.hours IS NULL OR date_trunc('hour', i."timestamp", 'UTC') = ANY (m.hours))
        ), parts AS (
            SELECT width_bucket(m.at, (SELECT b.times FROM bounds AS b)) AS number, sum(m.transactions)::bigint AS transactions,
                   CASE $2
                       WHEN 'transactions' THEN sum(m.transactions)
                       WHEN 'failed' THEN sum(m.failed)
                       WHEN 'volume' THEN sum(m.value)
                       WHEN 'volume_usd' THEN sum(m.value_usd)
                       WHEN 'senders' THEN count(DISTINCT m.sender)
                       WHEN 'receivers' THEN count(DISTINCT m.receiver)
                   END AS value
              FROM moved AS m
             GROUP BY 1
            UNION ALL
            -- A bucket may have both kept hours and rows.
            SELECT k.number, k.transactions, k.value FROM unnest(numbers, counts, sums) AS k (number, transactions, value)
        )
        SELECT array_agg(w.number), array_agg(w.value), array_agg(w.transactions)
          INTO numbers, sums, counts
          FROM (SELECT p.number, sum(p.value) AS value, sum(p.transactions)::bigint AS transactions
                  FROM parts AS p GROUP BY p.number) AS w;
    END IF;
    RETURN QUERY
    SELECT f.bucket_start, f.bucket_end, f.value, f.transactions, f.whole
      FROM arx.fill_series(starts, ends, numbers, sums, counts, $6, earliest, latest) AS f;
END;
$$;
