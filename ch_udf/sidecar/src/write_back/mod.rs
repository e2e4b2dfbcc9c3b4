//! Aggregates out of ClickHouse back into PostgreSQL: hourly and daily volume, and how wallets behave. Owns what is taken to have
//! changed since the last time, and how it is stored.
//!
//! Aggregates say the highest version of an event in them, volumes the version that settled them. What was written back last is a
//! version, too, kept beside the feed's position: what lies above it is what has changed. Whatever is cut off is done again, and
//! comes out the same.

mod rules;

use std::collections::BTreeMap;
use std::ops::AddAssign;

use arx_core::behaviour::Activity;
use clickhouse::Row;
use serde::Deserialize;
use serde_json::json;
use tokio_postgres::{Client, Transaction};

use crate::error::SidecarError;
use crate::feed::{CONSUMER, failed, signed, unsigned};
use crate::servers::postgres::Duty;
use crate::warehouse::Topology;
pub(crate) use rules::{RuleBook, Rules};

/// Rows of one statement.
const BATCH: usize = 5_000;

/// What was written back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Hours of `arx.hourly_volume`.
    pub hours: usize,
    /// Days of `arx.daily_transaction_stats`.
    pub days: usize,
    /// Wallets of `arx.wallet_profiles`.
    pub wallets: usize,
}

impl AddAssign for Written {
    fn add_assign(&mut self, more: Self) {
        self.hours += more.hours;
        self.days += more.days;
        self.wallets += more.wallets;
    }
}

/// What is written back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Volumes by hour; those by day, too, if the database leaves them to ClickHouse.
    Volumes,
    /// How wallets behave.
    Behaviour,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Volumes, Self::Behaviour];

    /// What it is called.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Volumes => "volumes",
            Self::Behaviour => "behaviour",
        }
    }
}

/// Writes one kind back, on the connection that holds its lock.
#[derive(Debug)]
pub struct WriteBack {
    kind: Kind,
    client: Client,
}

/// A kind of volume, on both sides.
struct Volume {
    /// Name of the aggregate, and of what remembers how far it was written back.
    consumer: &'static str,
    /// The bucket as a number.
    number: &'static str,
    delete_all: &'static str,
    delete: &'static str,
    insert: &'static str,
}

const HOURS: Volume = Volume {
    consumer: "hourly_volume",
    number: "toInt64(intDiv(toUnixTimestamp(hour), 3600))",
    delete_all: "DELETE FROM arx.hourly_volume",
    delete: "DELETE FROM arx.hourly_volume AS v USING unnest($1::text[], $2::bigint[]) AS t (network, number) \
              WHERE v.network = t.network AND v.hour = to_timestamp(t.number * 3600::float8)",
    insert: "INSERT INTO arx.hourly_volume AS v (network, hour, transaction_count, total_volume, unique_senders, unique_receivers) \
             SELECT network, to_timestamp(number * 3600::float8), transactions, volume::numeric, senders, receivers \
               FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], \
                           $9::bigint[], $10::bigint[]) \
                    AS t (network, number, transactions, volume, senders, receivers, gas_prices, gas_sum, gas_min, gas_max) \
                 ON CONFLICT (network, hour) DO UPDATE SET transaction_count = excluded.transaction_count, \
                    total_volume = excluded.total_volume, unique_senders = excluded.unique_senders, \
                    unique_receivers = excluded.unique_receivers, refreshed_at = now()",
};

const DAYS: Volume = Volume {
    consumer: "daily_volume",
    number: "toInt64(toRelativeDayNum(day))",
    delete_all: "DELETE FROM arx.daily_transaction_stats WHERE source = 'clickhouse'",
    delete: "DELETE FROM arx.daily_transaction_stats AS v USING unnest($1::text[], $2::bigint[]) AS t (network, number) \
              WHERE v.network = t.network AND v.date = date '1970-01-01' + t.number::integer",
    insert: "INSERT INTO arx.daily_transaction_stats AS v \
                 (date, network, tx_count, volume, avg_gas, min_gas, max_gas, unique_senders, unique_receivers, source) \
             SELECT date '1970-01-01' + number::integer, network, transactions, volume::numeric, \
                    gas_sum::numeric / nullif(gas_prices, 0), gas_min, gas_max, senders, receivers, 'clickhouse' \
               FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], \
                           $9::bigint[], $10::bigint[]) \
                    AS t (network, number, transactions, volume, senders, receivers, gas_prices, gas_sum, gas_min, gas_max) \
                 ON CONFLICT (date, network) DO UPDATE SET tx_count = excluded.tx_count, volume = excluded.volume, \
                    avg_gas = excluded.avg_gas, min_gas = excluded.min_gas, max_gas = excluded.max_gas, \
                    unique_senders = excluded.unique_senders, unique_receivers = excluded.unique_receivers, \
                    source = excluded.source, refreshed_at = now()",
};

#[derive(Row, Deserialize)]
struct VolumeRow {
    network: String,
    number: i64,
    transactions: u64,
    volume: String,
    senders: u64,
    receivers: u64,
    gas_prices: u64,
    gas_sum: String,
    gas_min: Option<u64>,
    gas_max: Option<u64>,
}

#[derive(Row, Deserialize)]
struct WalletRow {
    wallet: String,
    sent: u64,
    received: u64,
    sent_volume: String,
    received_volume: String,
    recipients: u64,
    senders: u64,
    first_seen: Option<i64>,
    last_seen: Option<i64>,
    period_sent: u64,
    period_volume: String,
    period_units: Option<i128>,
    period_cents: i128,
    period_priced: u64,
    period_recipients: u64,
    period_gas_price: Option<f64>,
}

/// Days since 1970 as a date.
fn date(days: i64) -> String {
    let zero = chrono::NaiveDate::default();
    let day = chrono::TimeDelta::try_days(days).and_then(|days| zero.checked_add_signed(days));
    day.unwrap_or(zero).to_string()
}

fn moment(micros: Option<i64>) -> Option<String> {
    let moment = chrono::DateTime::from_timestamp_micros(micros?)?;
    Some(moment.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

impl WalletRow {
    fn is_gone(&self) -> bool {
        self.sent == 0 && self.received == 0
    }

    fn profile(&self, rules: &Rules, until: i64) -> serde_json::Value {
        let class = rules.thresholds.classify(&Activity {
            transactions: self.period_sent,
            volume: self.period_units,
            priced: (self.period_priced > 0).then_some((self.period_cents, self.period_priced)),
            mean_gas_price: self.period_gas_price,
            recipients: self.period_recipients,
        });
        json!({
            "behaviour": {
                "class": class,
                "period_days": rules.period_days,
                "until": date(until),
                "transactions": self.period_sent,
                "volume": self.period_volume,
                "recipients": self.period_recipients,
            },
            "activity": {
                "sent": self.sent,
                "received": self.received,
                "total_sent": self.sent_volume,
                "total_received": self.received_volume,
                "recipients": self.recipients,
                "senders": self.senders,
                "first": moment(self.first_seen),
                "last": moment(self.last_seen),
            },
        })
    }
}

fn in_postgres(doing: &'static str) -> impl Fn(tokio_postgres::Error) -> SidecarError {
    move |source| SidecarError::Postgres { doing, source }
}

/// Versions between which something changed; all of it if the lower one means nothing any more.
struct Since {
    written: u64,
    until: u64,
    all: bool,
}

impl WriteBack {
    /// Takes the kind's lock.
    ///
    /// # Errors
    /// [`SidecarError::Taken`] while another sidecar writes it back.
    pub async fn acquire(kind: Kind, client: Client) -> Result<Self, SidecarError> {
        let duty = match kind {
            Kind::Volumes => Duty::Volumes,
            Kind::Behaviour => Duty::Behaviour,
        };
        duty.take_on(&client).await?;
        Ok(Self { kind, client })
    }

    /// Brings PostgreSQL up to what ClickHouse had confirmed when this began; `with_days` for volumes of days, too. Passes may go on
    /// beside it: what they change has a higher version, and is written the next time.
    ///
    /// # Errors
    /// What a server refuses. It may simply be run again.
    pub async fn write(&mut self, from: &Topology, with_days: bool) -> Result<Written, SidecarError> {
        let mut written = Written::default();
        match self.kind {
            Kind::Volumes => {
                written.hours = self.volume(from, &HOURS).await?;
                if with_days {
                    written.days = self.volume(from, &DAYS).await?;
                }
            }
            Kind::Behaviour => written.wallets = self.behaviour(from).await?,
        }
        Ok(written)
    }

    async fn since(&self, from: &Topology, consumer: &str) -> Result<Since, SidecarError> {
        let failed_in_postgres = in_postgres("read what was written back");
        let row = self
            .client
            .query_one(
                "SELECT COALESCE((SELECT confirmed FROM arx.feed_positions WHERE consumer = $1), 0), \
                        COALESCE((SELECT attempt FROM arx.feed_positions WHERE consumer = $2), 0)",
                &[&CONSUMER, &consumer],
            )
            .await
            .map_err(failed_in_postgres)?;
        let (confirmed, written) = (unsigned(row.get(0)), unsigned(row.get(1)));
        let floor = from.valid().await?.floor;
        Ok(Since { written, until: confirmed * 2 + 1, all: written < floor * 2 })
    }

    async fn volume(&mut self, from: &Topology, volume: &Volume) -> Result<usize, SidecarError> {
        let since = self.since(from, volume.consumer).await?;
        if since.written >= since.until {
            return Ok(0);
        }
        let Volume { consumer, number, .. } = volume;
        let written = if since.all { 0 } else { since.written };
        let query = format!(
            "SELECT network, {number} AS number, transactions, toString(volume) AS volume, senders, receivers, gas_prices, \
                    toString(gas_price_sum) AS gas_sum, gas_price_min AS gas_min, gas_price_max AS gas_max \
               FROM {consumer}_settled FINAL WHERE version > {written}"
        );
        let rows: Vec<VolumeRow> = from.entry.query(&query).fetch_all().await.map_err(failed("read volumes"))?;
        let failed_in_postgres = in_postgres("write volumes back");
        let transaction = self.client.transaction().await.map_err(&failed_in_postgres)?;
        if since.all {
            transaction.execute(volume.delete_all, &[]).await.map_err(&failed_in_postgres)?;
        }
        let (rows, gone): (Vec<VolumeRow>, Vec<VolumeRow>) = rows.into_iter().partition(|row| row.transactions > 0);
        for batch in gone.chunks(BATCH) {
            let networks: Vec<&str> = batch.iter().map(|row| row.network.as_str()).collect();
            let numbers: Vec<i64> = batch.iter().map(|row| row.number).collect();
            transaction.execute(volume.delete, &[&networks, &numbers]).await.map_err(&failed_in_postgres)?;
        }
        for batch in rows.chunks(BATCH) {
            write_volumes(&transaction, volume.insert, batch).await.map_err(&failed_in_postgres)?;
        }
        store_version(&transaction, volume.consumer, since.until).await.map_err(&failed_in_postgres)?;
        transaction.commit().await.map_err(&failed_in_postgres)?;
        Ok(rows.len() + gone.len())
    }

    /// How wallets behave, into `analytics_profile` of `arx.wallet_profiles`: those with new or changed transactions, those whose
    /// transactions left the period, and all of a network whose thresholds changed.
    async fn behaviour(&mut self, from: &Topology) -> Result<usize, SidecarError> {
        const WALLETS: &str = "wallet_behaviour";
        let since = self.since(from, WALLETS).await?;
        let rules = RuleBook::read(&self.client).await?;
        let known = self.windows().await?;
        let latest: Vec<(String, i64)> = from
            .entry
            .query("SELECT network, toInt64(toRelativeDayNum(max(day))) FROM daily_volume GROUP BY network")
            .fetch_all()
            .await
            .map_err(failed("look for the latest day"))?;
        let mut wallets = 0;
        // a network whose transactions are all gone still has wallets that have to hear of it
        let gone = known.keys().filter(|network| !latest.iter().any(|(name, _)| name == *network));
        let gone: Vec<(String, i64)> =
            gone.map(|network| (network.clone(), known.get(network).map_or(0, |(until, _)| *until))).collect();
        for (network, until) in latest.into_iter().chain(gone) {
            let rule = rules.of(&network);
            // a network whose rules changed has all of its wallets judged anew
            let before = known.get(&network).filter(|(_, same)| *same == json!(rule)).map(|(until, _)| *until);
            if since.written >= since.until && before == Some(until) {
                continue;
            }
            let before = if since.all { None } else { before };
            wallets += self.network(from, &network, &rule, until, before, since.written).await?;
        }
        let failed_in_postgres = in_postgres("store that wallets are written back");
        let transaction = self.client.transaction().await.map_err(&failed_in_postgres)?;
        store_version(&transaction, WALLETS, since.until).await.map_err(&failed_in_postgres)?;
        transaction.commit().await.map_err(&failed_in_postgres)?;
        Ok(wallets)
    }

    async fn windows(&self) -> Result<BTreeMap<String, (i64, serde_json::Value)>, SidecarError> {
        let rows = self
            .client
            .query("SELECT network, (until - date '1970-01-01')::bigint, rules FROM arx.behaviour_windows", &[])
            .await
            .map_err(in_postgres("read arx.behaviour_windows"))?;
        Ok(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
    }

    /// One network's wallets. Without `before`, the day of the last time, all of them.
    async fn network(
        &self,
        from: &Topology,
        network: &str,
        rules: &Rules,
        until: i64,
        before: Option<i64>,
        written: u64,
    ) -> Result<usize, SidecarError> {
        let begin = |until: i64| rules.period_days.map(|days| until - i64::from(days) + 1);
        let since = begin(until).unwrap_or(0);
        let changed = before.map_or_else(String::new, |before| {
            let left = begin(before).map_or_else(String::new, |first| {
                // days that were in one of the two periods and are not in the other
                let (low, high) = (first.min(since), first.max(since));
                format!(" OR (toRelativeDayNum(day) >= {low} AND toRelativeDayNum(day) < {high})")
            });
            format!(
                " AND wallet GLOBAL IN (SELECT wallet FROM wallet_activity_current \
                                         WHERE network = {{network:String}} AND (last_version > {written}{left}))"
            )
        });
        let within = format!("toRelativeDayNum(day) >= {since}");
        let query = format!(
            "SELECT wallet, sum(w.sent) AS sent, sum(w.received) AS received, toString(sum(w.sent_volume)) AS sent_volume, \
                    toString(sum(w.received_volume)) AS received_volume, uniqMerge(w.recipients) AS recipients, \
                    uniqMerge(w.senders) AS senders, toUnixTimestamp64Micro(min(w.first_seen)) AS first_seen, \
                    toUnixTimestamp64Micro(max(w.last_seen)) AS last_seen, sumIf(w.sent, {within}) AS period_sent, \
                    toString(sumIf(w.sent_volume, {within}) AS period) AS period_volume, \
                    if(period < toDecimal256('100000000000000000000', 18), toInt128OrNull(replaceOne(toDecimalString(period, 18), '.', '')), \
                       NULL) AS period_units, \
                    toInt128(sumIf(w.sent_usd, {within}) * 100) AS period_cents, sumIf(w.sent_priced, {within}) AS period_priced, \
                    uniqMergeIf(w.recipients, {within}) AS period_recipients, \
                    if(sumIf(w.gas_prices, {within}) = 0, NULL, \
                       toFloat64(sumIf(w.gas_price_sum, {within})) / sumIf(w.gas_prices, {within})) AS period_gas_price \
               FROM wallet_activity_current AS w WHERE network = {{network:String}}{changed} GROUP BY wallet ORDER BY wallet"
        );
        let mut cursor = from
            .entry
            .query(&query)
            .param("network", network)
            .with_setting("max_bytes_before_external_group_by", "536870912")
            .fetch::<WalletRow>()
            .map_err(failed("read wallets"))?;
        let mut total = 0;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let row = cursor.next().await.map_err(failed("read wallets"))?;
            let is_last = row.is_none();
            batch.extend(row);
            if batch.len() == BATCH || (is_last && !batch.is_empty()) {
                total += batch.len();
                self.write_wallets(network, rules, until, &batch).await.map_err(in_postgres("write wallets back"))?;
                batch.clear();
            }
            if is_last {
                break;
            }
        }
        self.client
            .execute(
                "INSERT INTO arx.behaviour_windows (network, until, rules) VALUES ($1, date '1970-01-01' + $2::bigint::integer, $3) \
                 ON CONFLICT (network) DO UPDATE SET until = excluded.until, rules = excluded.rules, updated_at = now()",
                &[&network, &until, &json!(rules)],
            )
            .await
            .map_err(in_postgres("store which period was written back"))?;
        Ok(total)
    }

    /// In the order in which the jobs of the database write profiles: side by side, the two never wait in a circle.
    async fn write_wallets(
        &self,
        network: &str,
        rules: &Rules,
        until: i64,
        batch: &[WalletRow],
    ) -> Result<(), tokio_postgres::Error> {
        let (gone, there): (Vec<&WalletRow>, Vec<&WalletRow>) = batch.iter().partition(|row| row.is_gone());
        let wallets: Vec<&str> = there.iter().map(|row| row.wallet.as_str()).collect();
        let profiles: Vec<serde_json::Value> = there.iter().map(|row| row.profile(rules, until)).collect();
        let gone: Vec<&str> = gone.iter().map(|row| row.wallet.as_str()).collect();
        if !wallets.is_empty() {
            self.client
                .execute(
                    "INSERT INTO arx.wallet_profiles AS p (wallet_address, network_type, analytics_profile) \
                     SELECT t.wallet, $1, t.profile FROM unnest($2::text[], $3::jsonb[]) AS t (wallet, profile) \
                      ORDER BY t.wallet COLLATE \"C\" \
                     ON CONFLICT (wallet_address, network_type) DO UPDATE \
                        SET analytics_profile = p.analytics_profile || excluded.analytics_profile, version = p.version + 1, \
                            updated_at = now() \
                      WHERE NOT p.analytics_profile @> excluded.analytics_profile",
                    &[&network, &wallets, &profiles],
                )
                .await?;
        }
        if !gone.is_empty() {
            self.client
                .execute(
                    "UPDATE arx.wallet_profiles AS p \
                        SET analytics_profile = p.analytics_profile - 'behaviour' - 'activity', version = p.version + 1, \
                            updated_at = now() \
                      WHERE p.network_type = $1 AND p.wallet_address = ANY ($2) \
                        AND p.analytics_profile ?| ARRAY['behaviour', 'activity']",
                    &[&network, &gone],
                )
                .await?;
        }
        Ok(())
    }
}

async fn write_volumes(
    transaction: &Transaction<'_>,
    insert: &str,
    batch: &[VolumeRow],
) -> Result<(), tokio_postgres::Error> {
    let networks: Vec<&str> = batch.iter().map(|row| row.network.as_str()).collect();
    let numbers: Vec<i64> = batch.iter().map(|row| row.number).collect();
    let counts: Vec<i64> = batch.iter().map(|row| signed(row.transactions)).collect();
    let volumes: Vec<&str> = batch.iter().map(|row| row.volume.as_str()).collect();
    let senders: Vec<i64> = batch.iter().map(|row| signed(row.senders)).collect();
    let receivers: Vec<i64> = batch.iter().map(|row| signed(row.receivers)).collect();
    let gas_prices: Vec<i64> = batch.iter().map(|row| signed(row.gas_prices)).collect();
    let gas_sums: Vec<&str> = batch.iter().map(|row| row.gas_sum.as_str()).collect();
    let gas_mins: Vec<Option<i64>> = batch.iter().map(|row| row.gas_min.map(signed)).collect();
    let gas_maxs: Vec<Option<i64>> = batch.iter().map(|row| row.gas_max.map(signed)).collect();
    transaction
        .execute(
            insert,
            &[
                &networks,
                &numbers,
                &counts,
                &volumes,
                &senders,
                &receivers,
                &gas_prices,
                &gas_sums,
                &gas_mins,
                &gas_maxs,
            ],
        )
        .await
        .map(drop)
}

async fn store_version(
    transaction: &Transaction<'_>,
    consumer: &str,
    version: u64,
) -> Result<(), tokio_postgres::Error> {
    transaction
        .execute(
            "INSERT INTO arx.feed_positions (consumer, attempt, confirmed) VALUES ($1, $2, $2) \
             ON CONFLICT (consumer) DO UPDATE SET attempt = excluded.attempt, confirmed = excluded.confirmed, updated_at = now()",
            &[&consumer, &signed(version)],
        )
        .await
        .map(drop)
}
