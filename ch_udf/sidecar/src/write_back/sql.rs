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

/// Columns of `arx.wallet_behaviour` that are written back, in the order of [`UPSERT_BEHAVIOUR`]
/// and [`COPY_BEHAVIOUR`].
macro_rules! behaviour_columns {
    () => {
        "wallet_address, network_type, class, period_days, period_until, period_sent, period_volume, period_recipients, \
         sent_count, received_count, total_sent, total_received, recipients, senders, first_activity, last_activity"
    };
}

pub(super) const DELETE_NETWORK_BEHAVIOUR: &str = "DELETE FROM arx.wallet_behaviour WHERE network_type = $1";

pub(super) const COPY_BEHAVIOUR: &str =
    concat!("COPY arx.wallet_behaviour (", behaviour_columns!(), ") FROM STDIN (FORMAT csv)");

/// Rows come in the order of the key, so that two writers cannot deadlock.
pub(super) const UPSERT_BEHAVIOUR: &str = concat!(
    "INSERT INTO arx.wallet_behaviour AS b (",
    behaviour_columns!(),
    r#")
    SELECT t.wallet, $1, t.class, $2, $3, t.period_sent, t.period_volume::numeric, t.period_recipients, t.sent, t.received,
           t.total_sent::numeric, t.total_received::numeric, t.recipients, t.senders, t.first, t.last
      FROM unnest($4::text[], $5::text[], $6::bigint[], $7::text[], $8::bigint[], $9::bigint[], $10::bigint[],
                  $11::text[], $12::text[], $13::bigint[], $14::bigint[], $15::timestamptz[], $16::timestamptz[])
           AS t (wallet, class, period_sent, period_volume, period_recipients, sent, received,
                 total_sent, total_received, recipients, senders, first, last)
     ORDER BY t.wallet COLLATE "C"
    ON CONFLICT (wallet_address, network_type) DO UPDATE
       SET class = excluded.class, period_days = excluded.period_days, period_until = excluded.period_until,
           period_sent = excluded.period_sent, period_volume = excluded.period_volume,
           period_recipients = excluded.period_recipients, sent_count = excluded.sent_count,
           received_count = excluded.received_count, total_sent = excluded.total_sent,
           total_received = excluded.total_received, recipients = excluded.recipients, senders = excluded.senders,
           first_activity = excluded.first_activity, last_activity = excluded.last_activity, refreshed_at = now()
     WHERE (b.class, b.period_days, b.period_until, b.period_sent, b.period_volume, b.period_recipients, b.sent_count,
            b.received_count, b.total_sent, b.total_received, b.recipients, b.senders, b.first_activity, b.last_activity)
           IS DISTINCT FROM
           (excluded.class, excluded.period_days, excluded.period_until, excluded.period_sent, excluded.period_volume,
            excluded.period_recipients, excluded.sent_count, excluded.received_count, excluded.total_sent,
            excluded.total_received, excluded.recipients, excluded.senders, excluded.first_activity,
            excluded.last_activity)"#
);

/// Removes the behaviour of wallets that no longer have transactions.
pub(super) const DELETE_BEHAVIOUR: &str =
    "DELETE FROM arx.wallet_behaviour WHERE network_type = $1 AND wallet_address = ANY ($2)";

/// Returns the query for the wallets of a network with rows above a version, deleted ones
/// included, or, with `days`, with rows on days that belong to only one of two periods. Runs in
/// ClickHouse.
pub(super) fn changed_wallets(after_version: u64, days: Option<(i64, i64)>) -> String {
    let days = days.map_or_else(String::new, |(first, end)| {
        format!(" OR (toRelativeDayNum(event_time) >= {first} AND toRelativeDayNum(event_time) < {end})")
    });
    let changed = format!("network = {{network:String}} AND (version > {after_version}{days})");
    format!(
        "SELECT from_address AS wallet FROM transaction_events WHERE from_address != '' AND {changed}
          UNION DISTINCT
         SELECT to_address AS wallet FROM received_transactions WHERE {changed}"
    )
}

/// Returns the query for the activity of a network's wallets, of all time and since the day
/// `period_start`; of `wallets` alone if given, with those that have no transfers. Runs in
/// ClickHouse.
pub(super) fn wallet_behaviour(period_start: i64, wallets: Option<&str>) -> String {
    let columns = "wallet, counterparty, event_time, is_sender, value, value_usd, gas_price, status";
    let transfers =
        format!("SELECT {columns}, true AS is_transfer FROM wallet_transfers WHERE network = {{network:String}}");
    // The wallets are a scalar, which is computed once. A row of each that is no transfer makes
    // those without transfers show.
    let (scalar, transfers) = match wallets {
        None => (String::new(), transfers),
        Some(wallets) => (
            format!("WITH (SELECT groupArray(wallet) FROM ({wallets})) AS changed "),
            format!(
                "{transfers} AND wallet GLOBAL IN (SELECT arrayJoin(changed))
                 UNION ALL
                 SELECT arrayJoin(changed), '', toDateTime64(0, 6, 'UTC'), false, toDecimal128(0, 18), NULL, NULL, 'failed',
                        false"
            ),
        ),
    };
    let in_period = format!("is_sender AND toRelativeDayNum(event_time) >= {period_start}");
    let moved = "status != 'failed'";
    let volume = "toDecimal256(value, 18)";
    format!(
        "{scalar}SELECT wallet, countIf(is_sender) AS sent, countIf(NOT is_sender AND is_transfer) AS received,
                toString(sumIf({volume}, is_sender AND {moved})) AS sent_volume,
                toString(sumIf({volume}, NOT is_sender AND {moved})) AS received_volume,
                uniqExactIf(counterparty, is_sender AND counterparty != '') AS recipients,
                uniqExactIf(counterparty, NOT is_sender AND counterparty != '') AS senders,
                toUnixTimestamp64Micro(minIf(event_time, is_transfer)) AS first_seen,
                toUnixTimestamp64Micro(maxIf(event_time, is_transfer)) AS last_seen,
                countIf({in_period}) AS period_sent,
                toString(sumIf({volume}, {in_period} AND {moved}) AS period) AS period_volume,
                if(period < toDecimal256('100000000000000000000', 18),
                   toInt128OrNull(replaceOne(toDecimalString(period, 18), '.', '')), NULL) AS period_units,
                toInt128(sumIf(toDecimal128(assumeNotNull(value_usd), 2),
                               {in_period} AND {moved} AND isNotNull(value_usd)) * 100) AS period_cents,
                countIf({in_period} AND isNotNull(value_usd)) AS period_priced,
                uniqExactIf(counterparty, {in_period} AND counterparty != '') AS period_recipients,
                avgOrNullIf(toFloat64(assumeNotNull(gas_price)), {in_period} AND isNotNull(gas_price))
                    AS period_gas_price
           FROM ({transfers})
          GROUP BY wallet ORDER BY wallet"
    )
}
