SELECT t.token_address AS token, count(*) AS transfers, sum(t.amount)::text AS amount,
       count(DISTINCT t.from_address) AS senders, count(DISTINCT t.to_address) AS receivers
  FROM arx.token_transfers AS t
 WHERE t.network = $1 AND t."timestamp" >= $4 AND t."timestamp" < $5 AND ($3::text IS NULL OR t.token_address = $3)
 GROUP BY t.token_address
 ORDER BY count(*) DESC, t.token_address COLLATE "C"
 LIMIT $6
