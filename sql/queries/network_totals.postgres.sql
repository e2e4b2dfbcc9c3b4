SELECT (m.at AT TIME ZONE 'UTC')::date AS day, count(*) FILTER (WHERE m.is_transaction) AS transactions,
       trim_scale(coalesce(sum(m.value) FILTER (WHERE m.moves), 0))::text AS volume,
       trim_scale(coalesce(sum(m.value_usd) FILTER (WHERE m.moves), 0))::text AS volume_usd,
       count(DISTINCT m.sender) AS senders, count(DISTINCT m.receiver) AS receivers,
       min(m.gas_price)::text AS min_gas_price, max(m.gas_price)::text AS max_gas_price
  FROM (SELECT t."timestamp" AS at, true AS is_transaction, t.status <> 'failed' AS moves, t.value, t.value_usd,
               t.gas_price, t.from_address AS sender, t.to_address AS receiver
          FROM arx.transactions AS t
         WHERE t.network = $1 AND t."timestamp" >= $4 AND t."timestamp" < $5
        UNION ALL
        SELECT i."timestamp", false, i.succeeded IS NOT FALSE, i.value, i.value_usd, NULL, i.from_address, i.to_address
          FROM arx.internal_transfers AS i
         WHERE i.network = $1 AND i."timestamp" >= $4 AND i."timestamp" < $5) AS m
 GROUP BY 1
HAVING count(*) FILTER (WHERE m.is_transaction) > 0 OR sum(m.value) FILTER (WHERE m.moves) > 0
 ORDER BY 1
