SELECT m.counterparty, count(*) FILTER (WHERE m.is_sent) AS sent_count,
       count(*) FILTER (WHERE NOT m.is_sent) AS received_count,
       trim_scale(coalesce(sum(m.value) FILTER (WHERE m.is_sent), 0))::text AS sent,
       trim_scale(coalesce(sum(m.value) FILTER (WHERE NOT m.is_sent), 0))::text AS received
  FROM (SELECT true AS is_sent, t.to_address AS counterparty, CASE WHEN t.status = 'failed' THEN 0 ELSE t.value END AS value
          FROM arx.transactions AS t
         WHERE t.from_address = $2 AND t.network = $1 AND t."timestamp" >= $4 AND t."timestamp" < $5
        UNION ALL
        SELECT false, t.from_address, CASE WHEN t.status = 'failed' THEN 0 ELSE t.value END
          FROM arx.transactions AS t
         WHERE t.to_address = $2 AND t.network = $1 AND t."timestamp" >= $4 AND t."timestamp" < $5
        UNION ALL
        SELECT true, i.to_address, CASE WHEN i.succeeded IS FALSE THEN 0 ELSE i.value END
          FROM arx.internal_transfers AS i
         WHERE i.from_address = $2 AND i.network = $1 AND i."timestamp" >= $4 AND i."timestamp" < $5
        UNION ALL
        SELECT false, i.from_address, CASE WHEN i.succeeded IS FALSE THEN 0 ELSE i.value END
          FROM arx.internal_transfers AS i
         WHERE i.to_address = $2 AND i.network = $1 AND i."timestamp" >= $4 AND i."timestamp" < $5) AS m
 WHERE m.counterparty IS NOT NULL
 GROUP BY m.counterparty
 ORDER BY sum(m.value) DESC, m.counterparty COLLATE "C"
 LIMIT $6
