SELECT network,
       from_address,
       receiver AS to_address,
       toDate(event_time) AS day,
       {generation} AS generation,
       {is_repair} AS is_repair,
       {last_version} AS last_version,
       count() AS transfers,
       sumIf(toDecimal256(value, 18), status != 'failed') AS volume,
       sumIf(toDecimal128(assumeNotNull(value_usd), 2), status != 'failed' AND isNotNull(value_usd)) AS volume_usd,
       min(toNullable(event_time)) AS first_seen,
       max(toNullable(event_time)) AS last_seen
  FROM {events}
 GROUP BY network, from_address, to_address, day, generation
