SELECT day, transaction_count AS transactions, toString(total_volume) AS volume,
       toString(total_volume_usd) AS volume_usd, unique_senders AS senders, unique_receivers AS receivers,
       toString(daily_volume.min_gas_price) AS min_gas_price, toString(daily_volume.max_gas_price) AS max_gas_price
  FROM daily_volume
 WHERE network = {network:String} AND day >= toDate({from:String}) AND day < toDate({to:String})
 ORDER BY day
