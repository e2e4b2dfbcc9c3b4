SELECT token, transfers, toString(amount) AS amount, senders, receivers,
       throwIf(rough > 1.1e77, 'a sum of amounts exceeds 256 bits') AS is_too_large
  FROM (SELECT transfer.1 AS token, count() AS transfers, sum(transfer.4) AS amount, uniqExact(transfer.2) AS senders,
               uniqExact(transfer.3) AS receivers, sum(toFloat64(transfer.4)) AS rough
          FROM (SELECT token_transfers.token AS tokens, token_transfers.from AS senders, token_transfers.to AS receivers,
                       token_transfers.amount AS amounts
                  FROM transaction_events FINAL
                 WHERE network = {network:String} AND event_time >= toDateTime64({from:String}, 6, 'UTC')
                   AND event_time < toDateTime64({to:String}, 6, 'UTC') AND leg = 0) AS events
         ARRAY JOIN arrayZip(events.tokens, events.senders, events.receivers, events.amounts) AS transfer
         WHERE {token:String} = '' OR transfer.1 = {token:String}
         GROUP BY transfer.1
         ORDER BY count() DESC, transfer.1
         LIMIT {limit:UInt32})
