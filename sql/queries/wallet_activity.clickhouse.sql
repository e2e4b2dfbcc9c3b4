SELECT toDate(event_time) AS day, countIf(is_sender) AS sent_count, countIf(NOT is_sender) AS received_count,
       toString(sumIf(toDecimal256(value, 18), is_sender AND status != 'failed')) AS sent,
       toString(sumIf(toDecimal256(value, 18), NOT is_sender AND status != 'failed')) AS received,
       uniqExactIf(counterparty, is_sender AND counterparty != '') AS recipients,
       uniqExactIf(counterparty, NOT is_sender AND counterparty != '') AS senders
  FROM wallet_transfers
 WHERE network = {network:String} AND wallet = {address:String}
   AND event_time >= toDateTime64({from:String}, 6, 'UTC') AND event_time < toDateTime64({to:String}, 6, 'UTC')
 GROUP BY day
 ORDER BY day
