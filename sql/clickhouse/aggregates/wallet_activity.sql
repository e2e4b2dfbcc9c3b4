SELECT network,
       wallet,
       toDate(event_time) AS day,
       {generation} AS generation,
       {is_repair} AS is_repair,
       {last_version} AS last_version,
       countIf(is_sender) AS sent,
       countIf(NOT is_sender) AS received,
       sumIf(toDecimal256(value, 18), is_sender AND status != 'failed') AS sent_volume,
       sumIf(toDecimal256(value, 18), NOT is_sender AND status != 'failed') AS received_volume,
       sumIf(toDecimal128(assumeNotNull(value_usd), 2), is_sender AND status != 'failed' AND isNotNull(value_usd))
           AS sent_usd,
       sumIf(toDecimal128(assumeNotNull(value_usd), 2), NOT is_sender AND status != 'failed' AND isNotNull(value_usd))
           AS received_usd,
       countIf(is_sender AND isNotNull(value_usd)) AS sent_priced,
       uniqStateIf(counterparty, is_sender AND counterparty != '') AS recipients,
       uniqStateIf(counterparty, NOT is_sender AND counterparty != '') AS senders,
       quantilesStateIf(0.5, 0.95)(toFloat64(value), is_sender AND status != 'failed') AS sent_values,
       countIf(is_sender AND isNotNull(gas_price)) AS gas_prices,
       sumIf(toUInt128(assumeNotNull(gas_price)), is_sender AND isNotNull(gas_price)) AS gas_price_sum,
       min(toNullable(event_time)) AS first_seen,
       max(toNullable(event_time)) AS last_seen
  FROM {events}
 GROUP BY network, wallet, day, generation
