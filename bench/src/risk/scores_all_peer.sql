WITH dealing AS (
    SELECT t.from_address AS wallet, t.to_address AS peer, true AS sent, t.value, t."timestamp" AS at
      FROM arx.transactions AS t
     WHERE t.network = 'ethereum' AND t.status <> 'failed' AND t.to_address <> t.from_address
    UNION ALL
    SELECT t.to_address, t.from_address, false, t.value, t."timestamp"
      FROM arx.transactions AS t
     WHERE t.network = 'ethereum' AND t.status <> 'failed' AND t.to_address <> t.from_address
), wallet AS (
    SELECT d.wallet, count(*) AS transfers, count(*) FILTER (WHERE d.sent) AS payments,
           sum(d.value) FILTER (WHERE d.sent) AS sent, sum(d.value) FILTER (WHERE NOT d.sent) AS received,
           count(DISTINCT d.peer) FILTER (WHERE d.sent) AS receivers,
           count(DISTINCT d.peer) FILTER (WHERE NOT d.sent) AS senders,
           extract(epoch FROM max(d.at) - min(d.at)) AS lifetime,
           extract(epoch FROM max(d.at) - min(d.at)) / nullif(count(*) - 1, 0) AS mean_gap
      FROM dealing AS d GROUP BY d.wallet
)
SELECT count(*), sum(w.transfers)::bigint, sum(w.senders + w.receivers)::bigint, sum(w.lifetime)::double precision
  FROM wallet AS w
