SELECT to_char(m.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at, m.tx_hash, m.leg, m.sender, m.receiver,
       trim_scale(m.value)::text AS value
  FROM (SELECT t."timestamp" AS at, t.tx_hash, 0 AS leg, t.from_address AS sender, t.to_address AS receiver, t.value
          FROM arx.transactions AS t
         WHERE t.network = $1 AND t."timestamp" >= $4 AND t."timestamp" < $5 AND t.status <> 'failed'
        UNION ALL
        SELECT i."timestamp", i.tx_hash, i.position + 1, i.from_address, i.to_address, i.value
          FROM arx.internal_transfers AS i
         WHERE i.network = $1 AND i."timestamp" >= $4 AND i."timestamp" < $5 AND i.succeeded IS NOT FALSE) AS m
 ORDER BY m.value DESC, m.at, m.tx_hash COLLATE "C", m.leg
 LIMIT $6
