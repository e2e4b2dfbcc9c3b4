-- Time series: buckets that are true to a time zone, gaps, and answers that are those of the rows,
-- whatever of them comes from the hours that refresh_hourly_stats() has kept.
SET timezone = 'UTC';
-- Days with 23 and 25 hours, months, weeks from Monday, hours of a zone with a half hour.
SELECT bucket_start, bucket_end, bucket_end - bucket_start AS length
  FROM arx.time_buckets('1 day', '2024-03-30 12:00+00', '2024-04-01 12:00+00', 'Europe/Berlin');
SELECT bucket_end - bucket_start AS length, count(*)
  FROM arx.time_buckets('1 hour', '2024-10-26 22:00+00', '2024-10-27 23:00+00', 'Europe/Berlin') GROUP BY 1;
SELECT * FROM arx.time_buckets('6 hours', '2024-10-26 22:00+00', '2024-10-27 23:00+00', 'Europe/Berlin');
SELECT * FROM arx.time_buckets('3 months', '2024-02-15', '2024-08-01', 'America/New_York');
SELECT * FROM arx.time_buckets('7 days', '2024-01-03', '2024-01-16');
SELECT * FROM arx.time_buckets('1 hour', '2024-01-01 00:10+00', '2024-01-01 01:00+00', 'Asia/Kolkata');
-- Samoa left out 30 December 2011.
SELECT bucket_start AT TIME ZONE 'Pacific/Apia' AS local_start
  FROM arx.time_buckets('1 day', '2011-12-29 12:00+00', '2011-12-31 12:00+00', 'Pacific/Apia');

INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST'), ('othernet', 'OTH');
SELECT * FROM arx.wallet_time_series('a', 'testnet');
SELECT * FROM arx.network_time_series('testnet');
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, value_usd, status) VALUES
    ('testnet', 't1', 1, '2024-01-01 10:00', 'a', 'b', 1, 10, 'confirmed'),
    ('testnet', 't2', 2, '2024-01-01 11:00', 'b', 'a', 2, NULL, 'confirmed'),
    ('testnet', 't3', 3, '2024-01-04 12:00', 'a', 'a', 4, 40, 'confirmed'),
    ('testnet', 't4', 4, '2024-01-05 12:00', 'a', 'c', 8, 80, 'failed'),
    ('othernet', 't5', 5, '2024-01-02 12:00', 'a', 'b', 16, NULL, 'confirmed');
INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, "timestamp", from_address, to_address, value, succeeded)
VALUES ('testnet', 't1', 0, 1, '2024-01-01 10:00', 'b', 'a', 0.5, true),
       ('testnet', 'reward', 0, 6, '2024-01-06 00:00', NULL, 'a', 3, true);
SELECT m.metric, s.bucket_start::date AS day, s.value, s.transactions, s.whole
  FROM unnest('{transactions,sent,received,net,volume,volume_usd,counterparties}'::text[]) WITH ORDINALITY AS m (metric, number),
       LATERAL arx.wallet_time_series('a', 'testnet', m.metric, "from" => '2024-01-01 10:00', "to" => '2024-01-07', fill => 'none') AS s
 ORDER BY m.number, day;
SELECT f.fill, array_agg(coalesce(s.value::text, 'null') ORDER BY s.bucket_start) AS values
  FROM unnest('{zero,"null",previous,none}'::text[]) WITH ORDINALITY AS f (fill, number),
       LATERAL arx.wallet_time_series('a', 'testnet', 'sent', '1 day', '2023-12-31', '2024-01-07', f.fill) AS s
 GROUP BY f.number, f.fill ORDER BY f.number;
SELECT m.metric, array_agg(coalesce(s.value::text, 'null') ORDER BY s.bucket_start) AS values
  FROM unnest('{transactions,failed,volume,volume_usd,senders,receivers}'::text[]) WITH ORDINALITY AS m (metric, number),
       LATERAL arx.network_time_series('testnet', m.metric, '1 day', '2024-01-01', '2024-01-07') AS s
 GROUP BY m.number, m.metric ORDER BY m.number;

-- Random rows, changes and questions: kept hours and rows give the same as rows alone.
SELECT setseed(0.5);
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, value_usd, status)
SELECT 'othernet', 'r' || n, n, '2024-03-01'::timestamptz + random() * interval '60 days', 'w' || (random() * 20)::integer,
       'w' || (random() * 20)::integer, (random() * 100)::numeric(10,4), CASE WHEN random() < 0.5 THEN (random() * 100)::numeric(10,2) END,
       CASE WHEN random() < 0.1 THEN 'failed' ELSE 'confirmed' END::arx.tx_status_enum
  FROM generate_series(1, 3000) AS n;
-- The definition.
CREATE FUNCTION pg_temp.plain(of_metric text, bucket interval, since timestamptz, until timestamptz, zone text)
    RETURNS TABLE (bucket_start timestamptz, value numeric, transactions bigint) LANGUAGE sql AS $$
SELECT b.bucket_start,
       CASE WHEN count(m.at) = 0 THEN 0 ELSE
       CASE of_metric WHEN 'transactions' THEN coalesce(sum(m.n), 0) WHEN 'failed' THEN coalesce(sum(m.failed), 0)
                      WHEN 'volume' THEN coalesce(sum(m.value), 0) ELSE sum(m.value_usd) END END,
       coalesce(sum(m.n), 0)
  FROM arx.time_buckets(bucket, since, until, zone) AS b
  LEFT JOIN (SELECT t."timestamp" AS at, 1 AS n, (t.status = 'failed')::integer AS failed,
                    CASE WHEN t.status = 'failed' THEN 0 ELSE t.value END AS value,
                    CASE WHEN t.status <> 'failed' THEN t.value_usd END AS value_usd
               FROM arx.transactions AS t WHERE t.network = 'othernet'
             UNION ALL
             SELECT i."timestamp", 0, 0, i.value, i.value_usd FROM arx.internal_transfers AS i
              WHERE i.network = 'othernet' AND i.succeeded IS NOT FALSE) AS m
    ON m.at >= greatest(b.bucket_start, since) AND m.at < least(b.bucket_end, until)
 GROUP BY b.bucket_start
$$;
CREATE PROCEDURE pg_temp.compare(rounds integer) LANGUAGE plpgsql AS $$
DECLARE
    zones     text[] := '{UTC,Europe/Berlin,Asia/Kolkata,America/New_York,Australia/Lord_Howe}';
    buckets   interval[] := '{15 minutes,1 hour,6 hours,1 day,7 days,1 month}';
    metrics   text[] := '{transactions,failed,volume,volume_usd}';
    zone      text;
    bucket    interval;
    metric    text;
    since     timestamptz;
    differing integer;
BEGIN
    FOR round IN 1..rounds LOOP
        zone := zones[1 + floor(random() * 5)];
        bucket := buckets[1 + floor(random() * 6)];
        metric := metrics[1 + floor(random() * 4)];
        since := '2024-02-28'::timestamptz + random() * interval '40 days';
        SELECT count(*) INTO differing
          FROM (SELECT s.bucket_start, s.value, s.transactions
                  FROM arx.network_time_series('othernet', metric, bucket, since, since + interval '5 days', 'zero', zone) AS s) AS ours
          FULL JOIN pg_temp.plain(metric, bucket, since, since + interval '5 days', zone) AS plain USING (bucket_start)
         WHERE ours.value IS DISTINCT FROM plain.value OR ours.transactions IS DISTINCT FROM plain.transactions;
        IF differing > 0 THEN
            RAISE NOTICE '% buckets differ: % % from % in %', differing, metric, bucket, since, zone;
        END IF;
        -- A few rows change; sometimes the hours are brought up to date.
        UPDATE arx.transactions AS t SET value = t.value + 1, "timestamp" = t."timestamp" + interval '31 minutes'
         WHERE t.network = 'othernet' AND t.tx_hash = 'r' || (1 + floor(random() * 3000));
        DELETE FROM arx.transactions AS t WHERE t.network = 'othernet' AND t.tx_hash = 'r' || (1 + floor(random() * 3000));
        INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, "timestamp", from_address, to_address, value, succeeded)
        VALUES ('othernet', 'i' || clock_timestamp(), round, 1, since + random() * interval '5 days', 'a', 'b', 1, random() < 0.8);
        IF random() < 0.3 THEN
            PERFORM arx.refresh_hourly_stats();
        END IF;
        COMMIT;
    END LOOP;
END;
$$;
CALL pg_temp.compare(20);
SELECT arx.hourly_stats_position() IS NOT NULL AS is_kept;
SELECT arx.refresh_hourly_stats() > 0 AS refreshed;
SELECT arx.refresh_hourly_stats() AS nothing_to_do;
CALL pg_temp.compare(20);
-- Rows that are gone without a trigger: until the next refresh, rows alone are read.
TRUNCATE arx.internal_transfers;
SELECT arx.hourly_stats_position() IS NOT NULL AS is_kept;
CALL pg_temp.compare(2);
SELECT arx.refresh_hourly_stats() > 0 AS refreshed;
SELECT arx.hourly_stats_position() IS NOT NULL AS is_kept;
CALL pg_temp.compare(4);

-- Kept hours alone; then with hours that have changed, gained and lost rows; then after a refresh.
-- Buckets of a day and of six hours have kept hours and rows together.
CREATE FUNCTION pg_temp.differing() RETURNS TABLE (metric text, buckets bigint, is_filled boolean, differing bigint)
    LANGUAGE sql AS $$
SELECT m.metric, count(*), count(*) FILTER (WHERE plain.transactions > 0) > 200,
       count(*) FILTER (WHERE ours.value IS DISTINCT FROM plain.value OR ours.transactions IS DISTINCT FROM plain.transactions)
  FROM unnest('{transactions,failed,volume,volume_usd}'::text[]) WITH ORDINALITY AS m (metric, number),
       unnest('{6 hours,1 day}'::interval[]) AS b (bucket),
       LATERAL (SELECT s.bucket_start, s.value, s.transactions
                  FROM arx.network_time_series('othernet', m.metric, b.bucket, '2024-03-01', '2024-05-01') AS s) AS ours
       FULL JOIN LATERAL pg_temp.plain(m.metric, b.bucket, '2024-03-01', '2024-05-01', 'UTC') AS plain USING (bucket_start)
 GROUP BY m.number, m.metric ORDER BY m.number
$$;
SELECT arx.refresh_hourly_stats() >= 0 AS refreshed;
SELECT * FROM pg_temp.differing();
-- The stored hour is the answer where its rows have not changed.
BEGIN;
UPDATE arx.hourly_transaction_stats SET volume = volume + 1000000 WHERE network = 'othernet' AND hour = '2024-03-05 07:00';
SELECT metric, differing FROM pg_temp.differing();
ROLLBACK;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, value_usd, status) VALUES
    ('othernet', 'n1', 1, '2024-03-05 07:30', 'a', 'b', 7, 70, 'confirmed'),
    ('othernet', 'n2', 1, '2024-04-20 23:59:59.999999', 'a', 'b', 8, NULL, 'failed');
INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, "timestamp", from_address, to_address, value, succeeded)
VALUES ('othernet', 'n1', 0, 1, '2024-03-05 07:30', 'b', 'c', 0.25, true),
       ('othernet', 'n1', 1, 1, '2024-03-05 07:30', 'b', 'c', 0.5, false);
DELETE FROM arx.transactions WHERE network = 'othernet' AND "timestamp" >= '2024-03-10 10:00' AND "timestamp" < '2024-03-10 16:00';
UPDATE arx.transactions SET "timestamp" = "timestamp" + interval '1 day'
 WHERE network = 'othernet' AND "timestamp" >= '2024-03-31 20:00' AND "timestamp" < '2024-03-31 23:00';
SELECT arx.hourly_stats_position() IS NOT NULL AS is_kept;
SELECT * FROM pg_temp.differing();
SELECT arx.refresh_hourly_stats() > 0 AS refreshed;
SELECT * FROM pg_temp.differing();

-- The points of a plot.
SELECT count(*) AS points, min(d.at) AS first, max(d.at) AS last, max(d.value) AS peak
  FROM (SELECT array_agg(s.bucket_start ORDER BY s.bucket_start) AS times, array_agg(s.value::double precision ORDER BY s.bucket_start) AS values
          FROM (SELECT '2024-01-01'::timestamptz + n * interval '1 minute' AS bucket_start, CASE n WHEN 777 THEN 1000 ELSE sin(n) END AS value
                  FROM generate_series(1, 10000) AS n) AS s) AS series,
       LATERAL arx.downsample(series.times, series.values, 50) AS d;
SELECT * FROM arx.downsample('{2024-01-01,2024-01-02}', '{1,2}', 3);
SELECT * FROM arx.downsample('{}', '{}', 3);

-- Wrong input.
\set VERBOSITY terse
SELECT * FROM arx.wallet_time_series('a', 'nowhere');
SELECT * FROM arx.wallet_time_series(NULL, 'testnet');
SELECT * FROM arx.wallet_time_series('a', 'testnet', 'fame');
SELECT * FROM arx.wallet_time_series('a', 'testnet', fill => 'guess');
SELECT * FROM arx.network_time_series('testnet', 'balance');
SELECT * FROM arx.network_time_series('testnet', NULL);
SELECT * FROM arx.network_time_series('testnet', 'volume', '0');
SELECT * FROM arx.network_time_series('testnet', 'volume', '1 month 1 day');
SELECT * FROM arx.network_time_series('testnet', 'volume', '7 hours');
SELECT * FROM arx.network_time_series('testnet', 'volume', '-1 day');
SELECT * FROM arx.network_time_series('testnet', 'volume', '1 day', '2024-02-01', '2024-01-01');
SELECT * FROM arx.network_time_series('testnet', 'volume', '1 day', '-infinity', '2024-01-01');
SELECT * FROM arx.network_time_series('testnet', 'volume', '1 second', '1924-01-01', '2024-01-01');
SELECT * FROM arx.network_time_series('testnet', 'volume', '1 day', '2024-01-01', '2024-01-02', 'zero', 'Mars/Base');
SELECT * FROM arx.network_time_series('testnet', 'volume', NULL);
SELECT * FROM arx.downsample('{2024-01-01}', '{1,2}', 3);
SELECT * FROM arx.downsample('{2024-01-02,2024-01-01}', '{1,2}', 3);
SELECT * FROM arx.downsample('{2024-01-01,infinity}', '{1,2}', 3);
SELECT * FROM arx.downsample('{2024-01-01,2024-01-02}', '{1,NaN}', 3);
SELECT * FROM arx.downsample('{2024-01-01,2024-01-02}', '{1,NULL}', 3);
SELECT * FROM arx.downsample('{2024-01-01}', '{1}', 2);
SELECT * FROM arx.downsample(NULL, '{1}', 3);
\set VERBOSITY default
