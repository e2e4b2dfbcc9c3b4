//! The statements of the write-back.

/// The confirmed position of the feed `$1`, and the position of the write-back `$2`.
pub(super) const POSITIONS: &str = "
    SELECT COALESCE((SELECT confirmed FROM arx.feed_positions WHERE consumer = $1), 0),
           COALESCE((SELECT attempt FROM arx.feed_positions WHERE consumer = $2), 0)";

pub(super) const STORE_VERSION: &str = "
    INSERT INTO arx.feed_positions (consumer, attempt, confirmed) VALUES ($1, $2, $2)
    ON CONFLICT (consumer) DO UPDATE
       SET attempt = excluded.attempt, confirmed = excluded.confirmed, updated_at = now()";

pub(super) const DELETE_ALL_HOURS: &str = "DELETE FROM arx.hourly_volume";

pub(super) const DELETE_HOURS: &str = "
    DELETE FROM arx.hourly_volume AS v USING unnest($1::text[], $2::bigint[]) AS t (network, number)
     WHERE v.network = t.network AND v.hour = to_timestamp(t.number * 3600::float8)";

pub(super) const INSERT_HOURS: &str = "
    INSERT INTO arx.hourly_volume AS v
           (network, hour, transaction_count, total_volume, unique_senders, unique_receivers)
    SELECT network, to_timestamp(number * 3600::float8), transactions, volume::numeric, senders, receivers
      FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
                  $8::text[], $9::bigint[], $10::bigint[])
           AS t (network, number, transactions, volume, senders, receivers, gas_prices, gas_sum, gas_min, gas_max)
    ON CONFLICT (network, hour) DO UPDATE
       SET transaction_count = excluded.transaction_count, total_volume = excluded.total_volume,
           unique_senders = excluded.unique_senders, unique_receivers = excluded.unique_receivers,
           refreshed_at = now()";

pub(super) const DELETE_ALL_DAYS: &str = "DELETE FROM arx.daily_transaction_stats WHERE source = 'clickhouse'";

pub(super) const DELETE_DAYS: &str = "
    DELETE FROM arx.daily_transaction_stats AS v USING unnest($1::text[], $2::bigint[]) AS t (network, number)
     WHERE v.network = t.network AND v.date = date '1970-01-01' + t.number::integer";

pub(super) const INSERT_DAYS: &str = "
    INSERT INTO arx.daily_transaction_stats AS v
           (date, network, tx_count, volume, avg_gas, min_gas, max_gas, unique_senders, unique_receivers, source)
    SELECT date '1970-01-01' + number::integer, network, transactions, volume::numeric,
           gas_sum::numeric / nullif(gas_prices, 0), gas_min, gas_max, senders, receivers, 'clickhouse'
      FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
                  $8::text[], $9::bigint[], $10::bigint[])
           AS t (network, number, transactions, volume, senders, receivers, gas_prices, gas_sum, gas_min, gas_max)
    ON CONFLICT (date, network) DO UPDATE
       SET tx_count = excluded.tx_count, volume = excluded.volume, avg_gas = excluded.avg_gas,
           min_gas = excluded.min_gas, max_gas = excluded.max_gas, unique_senders = excluded.unique_senders,
           unique_receivers = excluded.unique_receivers, source = excluded.source, refreshed_at = now()";

/// Returns the query for the volumes of an aggregate that were settled after a version. Runs in
/// ClickHouse.
pub(super) fn settled_volumes(aggregate: &str, number: &str, after_version: u64) -> String {
    format!(
        "SELECT network, {number} AS number, transactions, toString(volume) AS volume, senders, receivers,
                gas_prices, toString(gas_price_sum) AS gas_sum, gas_price_min AS gas_min, gas_price_max AS gas_max
           FROM {aggregate}_settled FINAL
          WHERE version > {after_version}"
    )
}

/// The latest day of each network. Runs in ClickHouse.
pub(super) const LATEST_DAYS: &str =
    "SELECT network, toInt64(toRelativeDayNum(max(day))) FROM daily_volume GROUP BY network";

pub(super) const WINDOWS: &str =
    "SELECT network, (until - date '1970-01-01')::bigint, rules FROM arx.behaviour_windows";

pub(super) const STORE_WINDOW: &str = "
    INSERT INTO arx.behaviour_windows (network, until, rules)
    VALUES ($1, date '1970-01-01' + $2::bigint::integer, $3)
    ON CONFLICT (network) DO UPDATE SET until = excluded.until, rules = excluded.rules, updated_at = now()";

/// Rows come in the order in which the database's jobs write profiles, so that the two cannot
/// deadlock.
pub(super) const MERGE_PROFILES: &str = r#"
    INSERT INTO arx.wallet_profiles AS p (wallet_address, network_type, analytics_profile)
    SELECT t.wallet, $1, t.profile FROM unnest($2::text[], $3::jsonb[]) AS t (wallet, profile)
     ORDER BY t.wallet COLLATE "C"
    ON CONFLICT (wallet_address, network_type) DO UPDATE
       SET analytics_profile = p.analytics_profile || excluded.analytics_profile, version = p.version + 1,
           updated_at = now()
     WHERE NOT p.analytics_profile @> excluded.analytics_profile"#;

/// Removes the behaviour of wallets that no longer have transactions.
pub(super) const CLEAR_PROFILES: &str = "
    UPDATE arx.wallet_profiles AS p
       SET analytics_profile = p.analytics_profile - 'behaviour' - 'activity', version = p.version + 1,
           updated_at = now()
     WHERE p.network_type = $1 AND p.wallet_address = ANY ($2)
       AND p.analytics_profile ?| ARRAY['behaviour', 'activity']";

/// Restricts [`wallet_behaviour`] to wallets with rows above a version, or, with `days`, with
/// transactions on days that belong to only one of two periods. Runs in ClickHouse.
pub(super) fn only_changed_wallets(after_version: u64, days: Option<(i64, i64)>) -> String {
    let days = days.map_or_else(String::new, |(first, end)| {
        format!(" OR (toRelativeDayNum(day) >= {first} AND toRelativeDayNum(day) < {end})")
    });
    format!(
        " AND wallet GLOBAL IN (
              SELECT wallet FROM wallet_activity_current
               WHERE network = {{network:String}} AND (last_version > {after_version}{days}))"
    )
}

/// Returns the query for the activity of a network's wallets, of all time and since the day
/// `period_start`. Runs in ClickHouse.
pub(super) fn wallet_behaviour(period_start: i64, restriction: &str) -> String {
    let within = format!("toRelativeDayNum(day) >= {period_start}");
    format!(
        "SELECT wallet, sum(w.sent) AS sent, sum(w.received) AS received,
                toString(sum(w.sent_volume)) AS sent_volume, toString(sum(w.received_volume)) AS received_volume,
                uniqMerge(w.recipients) AS recipients, uniqMerge(w.senders) AS senders,
                toUnixTimestamp64Micro(min(w.first_seen)) AS first_seen,
                toUnixTimestamp64Micro(max(w.last_seen)) AS last_seen,
                sumIf(w.sent, {within}) AS period_sent,
                toString(sumIf(w.sent_volume, {within}) AS period) AS period_volume,
                if(period < toDecimal256('100000000000000000000', 18),
                   toInt128OrNull(replaceOne(toDecimalString(period, 18), '.', '')), NULL) AS period_units,
                toInt128(sumIf(w.sent_usd, {within}) * 100) AS period_cents,
                sumIf(w.sent_priced, {within}) AS period_priced,
                uniqMergeIf(w.recipients, {within}) AS period_recipients,
                if(sumIf(w.gas_prices, {within}) = 0, NULL,
                   toFloat64(sumIf(w.gas_price_sum, {within})) / sumIf(w.gas_prices, {within})) AS period_gas_price
           FROM wallet_activity_current AS w
          WHERE network = {{network:String}}{restriction}
          GROUP BY wallet ORDER BY wallet"
    )
}
