SELECT network,
       {start} AS {bucket},
       {generation} AS generation,
       {is_repair} AS is_repair,
       {last_version} AS last_version,
       countIf(leg = 0) AS transactions,
       sumIf(toDecimal256(value, 18), status != 'failed') AS volume,
       sumIf(toDecimal128(assumeNotNull(value_usd), 2), status != 'failed' AND isNotNull(value_usd)) AS volume_usd,
       uniqStateIf(from_address, from_address != '') AS senders,
       uniqStateIf(assumeNotNull(to_address), isNotNull(to_address)) AS receivers,
       quantilesStateIf(0.5, 0.95)(toFloat64(value), status != 'failed') AS values,
       countIf(isNotNull(gas_price)) AS gas_prices,
       sumIf(toUInt128(assumeNotNull(gas_price)), isNotNull(gas_price)) AS gas_price_sum,
       min(gas_price) AS gas_price_min,
       max(gas_price) AS gas_price_max
  FROM {events}
 GROUP BY network, {bucket}, generation
