SELECT network,
       {bucket},
       {version} AS version,
       sum(states.transactions) AS transactions,
       sum(states.volume) AS volume,
       sum(states.volume_usd) AS volume_usd,
       uniqMerge(states.senders) AS senders,
       uniqMerge(states.receivers) AS receivers,
       quantilesMerge(0.5, 0.95)(states.values)[1] AS median_value,
       quantilesMerge(0.5, 0.95)(states.values)[2] AS p95_value,
       sum(states.gas_prices) AS gas_prices,
       sum(states.gas_price_sum) AS gas_price_sum,
       min(states.gas_price_min) AS gas_price_min,
       max(states.gas_price_max) AS gas_price_max
  FROM {states} AS states{touched}
 GROUP BY network, {bucket}
