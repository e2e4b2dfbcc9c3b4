SELECT counterparty, countIf(is_sender) AS sent_count, countIf(NOT is_sender) AS received_count,
       toString(sumIf(toDecimal256(value, 18), is_sender AND status != 'failed')) AS sent,
       toString(sumIf(toDecimal256(value, 18), NOT is_sender AND status != 'failed')) AS received
  FROM wallet_transfers
 WHERE network = {network:String} AND wallet = {address:String} AND counterparty != ''
   AND event_time >= toDateTime64({from:String}, 6, 'UTC') AND event_time < toDateTime64({to:String}, 6, 'UTC')
 GROUP BY counterparty
 ORDER BY sumIf(toDecimal256(value, 18), status != 'failed') DESC, counterparty
 LIMIT {limit:UInt32}
