SELECT formatDateTime(events.event_time, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC') AS at, tx_hash, leg,
       nullIf(events.from_address, '') AS sender, events.to_address AS receiver, toString(events.value) AS value
  FROM transaction_events AS events FINAL
 WHERE network = {network:String} AND events.event_time >= toDateTime64({from:String}, 6, 'UTC')
   AND events.event_time < toDateTime64({to:String}, 6, 'UTC') AND status != 'failed'
 ORDER BY events.value DESC, events.event_time, tx_hash, leg
 LIMIT {limit:UInt32}
