SELECT m.wallet, count(*) FILTER (WHERE m.is_sent) AS sent_count,
       count(*) FILTER (WHERE NOT m.is_sent) AS received_count,
       trim_scale(coalesce(sum(m.value) FILTER (WHERE m.is_sent), 0))::text AS sent,
       trim_scale(coalesce(sum(m.value) FILTER (WHERE NOT m.is_sent), 0))::text AS received
  FROM (SELECT side.is_sent, side.wallet, moved.value
          FROM (SELECT t.from_address AS sender, t.to_address AS receiver,
                       CASE WHEN t.status = 'failed' THEN 0 ELSE t.value END AS value
                  FROM arx.transactions AS t
                 WHERE t.network = $1 AND t."timestamp" >= $4 AND t."timestamp" < $5
                UNION ALL
                SELECT i.from_address, i.to_address, CASE WHEN i.succeeded IS FALSE THEN 0 ELSE i.value END
                  FROM arx.internal_transfers AS i
                 WHERE i.network = $1 AND i."timestamp" >= $4 AND i."timestamp" < $5) AS moved
         CROSS JOIN LATERAL (VALUES (true, moved.sender), (false, moved.receiver)) AS side (is_sent, wallet)
         WHERE side.wallet IS NOT NULL) AS m
 GROUP BY m.wallet
 ORDER BY sum(m.value) DESC, m.wallet COLLATE "C"
 LIMIT $6
