//! The aggregates: how their states are computed from events as these arrive, and anew for what a
//! change touched.
//!
//! One SELECT a kind (`sql/clickhouse/aggregates`) serves both ways, so a repair computes what the
//! view would have. A repair finds what to compute by itself: the buckets of the rows that have
//! come since a version and that no view has counted.

use std::fmt::Write as _;

use super::shape::Shape;

/// One kind of aggregate.
#[derive(Debug)]
pub(crate) struct Aggregate {
    /// Its name; states lie in the table NAME`_states`.
    pub name: &'static str,
    /// Columns of the bucket.
    pub(super) bucket: &'static str,
    /// The bucket of an event of `touched`.
    of_touched: &'static [&'static str],
    select: &'static str,
    sides: Sides,
}

/// What the SELECT of an aggregate reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sides {
    /// Events as they are, in buckets of time: what they are called, and when that of an event
    /// starts.
    Times { bucket: &'static str, start: &'static str },
    /// Events with a receiver.
    Edges,
    /// Each event once for its sender and once for its receiver.
    Both,
}

const VOLUME: &str = include_str!("../../../../sql/clickhouse/aggregates/volume.sql");

/// What all shards come to is put together in one place, not by each shard for itself, and is there
/// when the statement ends.
const TOGETHER: &str = "SETTINGS parallel_distributed_insert_select = 0, distributed_foreground_insert = 1";

/// What the states of a volume come to.
const SETTLED: &str = include_str!("../../../../sql/clickhouse/aggregates/settled_volume.sql");

/// Which states of the aggregates count: of the generations from one to another.
/// `sql/clickhouse/11_feed.sql` says what they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Valid {
    /// The last repair that is valid.
    pub generation: u64,
    /// The last time that all was computed anew.
    pub floor: u64,
}

/// Every kind.
pub(crate) const AGGREGATES: [Aggregate; 4] = [
    Aggregate {
        name: "hourly_volume",
        bucket: "network, hour",
        of_touched: &["SELECT DISTINCT network, toStartOfHour(event_time) AS hour FROM {touched}"],
        select: VOLUME,
        sides: Sides::Times { bucket: "hour", start: "toStartOfHour(event_time)" },
    },
    Aggregate {
        name: "daily_volume",
        bucket: "network, day",
        of_touched: &["SELECT DISTINCT network, toDate(event_time) AS day FROM {touched}"],
        select: VOLUME,
        sides: Sides::Times { bucket: "day", start: "toDate(event_time)" },
    },
    Aggregate {
        name: "wallet_activity",
        bucket: "network, wallet, day",
        of_touched: &[
            "SELECT network, from_address AS wallet, toDate(event_time) AS day FROM {touched}",
            "SELECT network, assumeNotNull(to_address) AS wallet, toDate(event_time) AS day FROM {touched} \
              WHERE isNotNull(to_address)",
        ],
        select: include_str!("../../../../sql/clickhouse/aggregates/wallet_activity.sql"),
        sides: Sides::Both,
    },
    Aggregate {
        name: "wallet_edges",
        bucket: "network, from_address, to_address, day",
        of_touched: &[
            "SELECT DISTINCT network, from_address, assumeNotNull(to_address) AS receiver, toDate(event_time) AS day \
                        FROM {touched} WHERE isNotNull(to_address)",
        ],
        select: include_str!("../../../../sql/clickhouse/aggregates/wallet_edges.sql"),
        sides: Sides::Edges,
    },
];

/// What the aggregates of wallets read beside addresses. The whole row would be planned for each
/// insert, which costs more than the insert itself.
const OF_A_WALLET: &str =
    "network, event_time, value, value_usd, status, gas_price, version, generation, counted, is_deleted";

/// Months that one statement looks at, as `toYYYYMM` gives them.
pub(crate) type Months = Vec<u32>;

/// What is computed anew, in some months.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Buckets that rows of versions from `since` on touched, those of attempts before version
    /// `current` in any case. States made under `generation` hide the lower ones of their buckets.
    Touched {
        /// First version that has not been counted.
        since: u64,
        /// Version of the tombstones of the present attempt.
        current: u64,
        /// Generation of the states.
        generation: u64,
        /// The months.
        months: Months,
    },
    /// All buckets. Nothing hides the lower generations but a new floor.
    All {
        /// Generation of the states.
        generation: u64,
        /// Version that the states are said to have.
        version: u64,
        /// The months.
        months: Months,
    },
}

/// What touched the aggregates since a version: rows that views do not count, and rows of attempts
/// that were cut off.
fn touched_rows(shape: &Shape, since: u64, current: u64) -> String {
    let (database, local) = (&shape.database, shape.local());
    let read = |table: &str, receiver: &str| {
        format!(
            "SELECT network, event_time, from_address, {receiver} AS to_address FROM {database}.{table}{local} \
              WHERE version >= {since} AND counted != 'already' \
                AND (is_deleted = 1 OR counted = 'repair' OR version < {current})"
        )
    };
    // A former receiver stands in received_transactions alone once its event has been replaced.
    format!(
        "{} UNION ALL {}",
        read("transaction_events", "to_address"),
        read("received_transactions", "toNullable(to_address)")
    )
}

/// Puts what a first load left out into the order of receivers.
#[must_use]
pub(crate) fn fill_received(shape: &Shape, months: &[u32]) -> String {
    let (database, local, of_months) = (&shape.database, shape.local(), within(months));
    let same =
        "network, event_time, tx_hash, from_address, value, value_usd, status, version, is_deleted, counted, fed_at";
    format!(
        "INSERT INTO {database}.received_transactions{local} (to_address, {same}) \
         SELECT assumeNotNull(to_address), {same} FROM {database}.transaction_events{local} FINAL \
          WHERE {of_months} AND isNotNull(to_address) AND counted = 'rebuild'"
    )
}

/// The months that something touched since a version, with the rows that did.
#[must_use]
pub(crate) fn touched_months(shape: &Shape, since: u64, current: u64) -> String {
    format!(
        "SELECT toYYYYMM(event_time) AS month, count() AS weight FROM ({}) GROUP BY month ORDER BY month",
        touched_rows(shape, since, current)
    )
}

/// The months that hold anything, with their rows.
#[must_use]
pub(crate) fn all_months(shape: &Shape) -> String {
    format!(
        "SELECT toUInt32(partition) AS month, sum(rows) AS weight FROM system.parts WHERE active AND database = '{}' \
            AND table = 'transaction_events{}' GROUP BY month ORDER BY month",
        shape.database,
        shape.local()
    )
}

/// Months put together until they weigh more than `limit`: neither many small ones nor a large one
/// take long or much memory.
#[must_use]
pub(crate) fn grouped(months: &[(u32, u64)], limit: u64) -> Vec<Months> {
    let mut groups: Vec<Months> = Vec::new();
    let mut weight = u64::MAX;
    for (month, of_month) in months {
        weight = weight.saturating_add(*of_month);
        match groups.last_mut() {
            Some(group) if weight <= limit => group.push(*month),
            _ => {
                groups.push(vec![*month]);
                weight = *of_month;
            }
        }
    }
    groups
}

/// A condition on an event's month.
fn within(months: &[u32]) -> String {
    let list: Vec<String> = months.iter().map(u32::to_string).collect();
    format!("toYYYYMM(event_time) IN ({})", list.join(", "))
}

impl Aggregate {
    /// The kind of this name.
    #[must_use]
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        AGGREGATES.iter().find(|aggregate| aggregate.name == name)
    }

    /// The tables of it that hold anything.
    pub(super) fn tables(&self) -> Vec<String> {
        let mut tables = vec![format!("{}_states", self.name)];
        if let Sides::Times { .. } = self.sides {
            tables.push(format!("{}_settled", self.name));
        }
        tables
    }

    fn select(&self, generation: &str, is_repair: &str, last_version: &str, events: &str) -> String {
        let (bucket, start) = if let Sides::Times { bucket, start } = self.sides { (bucket, start) } else { ("", "") };
        self.select
            .trim_end()
            .replace("{bucket}", bucket)
            .replace("{start}", start)
            .replace("{generation}", generation)
            .replace("{is_repair}", is_repair)
            .replace("{last_version}", last_version)
            .replace("{events}", events)
    }

    /// The SELECT of the materialised view: rows that are new.
    pub(super) fn arriving(&self, shape: &Shape) -> String {
        let events = format!("{}.transaction_events{}", shape.database, shape.local());
        let new = "counted = 'view' AND is_deleted = 0";
        let events = match self.sides {
            Sides::Times { .. } => format!("{events} WHERE {new}"),
            Sides::Edges => format!(
                "(SELECT {OF_A_WALLET}, from_address, assumeNotNull(to_address) AS receiver FROM {events} \
                   WHERE {new} AND isNotNull(to_address))"
            ),
            Sides::Both => format!(
                "(SELECT {OF_A_WALLET}, side.1 AS wallet, side.2 AS counterparty, side.3 AS is_sender \
                    FROM {events} \
                   ARRAY JOIN [(from_address, ifNull(to_address, ''), true), (ifNull(to_address, ''), from_address, false)] AS side \
                   WHERE {new} AND side.1 != '')"
            ),
        };
        self.select("generation", "0", "max(version)", &events)
    }

    /// The states that count, as a relation.
    pub(super) fn valid(&self, shape: &Shape) -> String {
        let (database, local) = (&shape.database, shape.local());
        let highest = |column: &str| format!("(SELECT max({column}) FROM {database}.aggregate_generations{local})");
        self.between(shape, &highest("floor"), &highest("generation"))
    }

    /// The states that count when these generations do.
    fn between(&self, shape: &Shape, floor: &str, current: &str) -> String {
        let (database, local, name, bucket) = (&shape.database, shape.local(), self.name, self.bucket);
        let states = format!("{database}.{name}_states{local}");
        format!(
            "(SELECT states.* FROM {states} AS states\n\
             \x20           LEFT JOIN (SELECT {bucket}, max(generation) AS repaired_at FROM {states}\n\
             \x20                       WHERE is_repair = 1 AND generation <= {current}\n\
             \x20                       GROUP BY {bucket}) AS repairs USING ({bucket})\n\
             \x20          WHERE states.generation <= {current}\n\
             \x20            AND states.generation >= greatest(repairs.repaired_at, {floor}))"
        )
    }

    /// The states that count, for whoever knows which do: finding that out takes ClickHouse longer
    /// than reading them. Shards are asked one by one, and each knows for itself.
    fn known_valid(&self, shape: &Shape, valid: Option<Valid>) -> String {
        let (database, name) = (&shape.database, self.name);
        match valid {
            Some(Valid { generation, floor }) if shape.cluster.is_none() && generation == floor => {
                format!("(SELECT * FROM {database}.{name}_states WHERE generation = {floor})")
            }
            Some(Valid { generation, floor }) if shape.cluster.is_none() => {
                self.between(shape, &floor.to_string(), &generation.to_string())
            }
            Some(_) | None => format!("{database}.{name}_current"),
        }
    }

    /// The statements that settle what the states come to, for those that are read as numbers:
    /// buckets that got states of versions from `since` on, or all buckets, those without states
    /// being empty. Nothing is seen of it before the bucket's number is in.
    #[must_use]
    pub(crate) fn settle(&self, shape: &Shape, valid: Option<Valid>, since: Option<u64>, version: u64) -> Vec<String> {
        let Sides::Times { bucket, .. } = self.sides else { return Vec::new() };
        let (database, name) = (&shape.database, self.name);
        let settled = format!("{database}.{name}_settled");
        // states that are hidden do no harm here, and finding out which are takes as long as the
        // rest
        let all = if shape.cluster.is_some() { "current" } else { "states" };
        let states = format!("{database}.{name}_{all}");
        let touched = since.map_or_else(String::new, |since| {
            format!(
                "\n WHERE (network, {bucket}) GLOBAL IN (SELECT network, {bucket} FROM {states} WHERE last_version >= {since})"
            )
        });
        let numbers = SETTLED
            .trim_end()
            .replace("{bucket}", bucket)
            .replace("{version}", &version.to_string())
            .replace("{states}", &self.known_valid(shape, valid))
            .replace("{touched}", &touched);
        let mut statements = vec![format!("INSERT INTO {settled} {TOGETHER} {numbers}")];
        if since.is_none() {
            // loses against the number of the same pass, and wins against older ones
            let empty = version.saturating_sub(1);
            statements.push(format!(
                "INSERT INTO {settled} (network, {bucket}, version) {TOGETHER} \
                 SELECT network, {bucket}, {empty} FROM {settled} WHERE version < {empty}"
            ));
        }
        statements
    }

    /// The statements that write the states of a repair. Nobody sees them before their generation
    /// becomes valid.
    #[must_use]
    pub(crate) fn repair(&self, shape: &Shape, repair: &Repair) -> Vec<String> {
        let (database, local, name) = (&shape.database, shape.local(), self.name);
        let into = format!("INSERT INTO {database}.{name}_states{local}");
        match repair {
            Repair::All { generation, version, months } => {
                let (generation, version) = (generation.to_string(), version.to_string());
                vec![format!("{into} {}", self.select(&generation, "0", &version, &self.events(shape, months, None)))]
            }
            Repair::Touched { since, current, generation, months } => {
                let touched =
                    format!("(SELECT * FROM ({}) WHERE {})", touched_rows(shape, *since, *current), within(months));
                let buckets = self.of_touched.iter().fold(String::new(), |mut text, select| {
                    let join = if text.is_empty() { "" } else { " UNION DISTINCT " };
                    // writing to a String cannot fail
                    let _ = write!(text, "{join}{}", select.replace("{touched}", &touched));
                    text
                });
                let bucket = self.bucket;
                let version = current + 1;
                // Empty states for every bucket: one whose transactions are all gone would else
                // show its lower generations.
                vec![
                    format!(
                        "{into} ({bucket}, generation, is_repair, last_version) \
                         SELECT *, {generation}, 1, {version} FROM ({buckets})"
                    ),
                    format!(
                        "{into} {}",
                        self.select(
                            &generation.to_string(),
                            "1",
                            &version.to_string(),
                            &self.events(shape, months, Some(&buckets))
                        )
                    ),
                ]
            }
        }
    }

    /// The events of some months as they are, those of certain buckets if they are given.
    fn events(&self, shape: &Shape, months: &[u32], buckets: Option<&str>) -> String {
        let (database, local) = (&shape.database, shape.local());
        let of_months = within(months);
        let within = |tuple: &str| buckets.map_or_else(String::new, |buckets| format!(" AND {tuple} IN ({buckets})"));
        let read = |columns: &str, table: &str, condition: &str| {
            format!("SELECT {columns} FROM {database}.{table}{local} FINAL WHERE {of_months}{condition}")
        };
        match self.sides {
            Sides::Times { start, .. } => {
                format!("({})", read("*", "transaction_events", &within(&format!("(network, {start})"))))
            }
            Sides::Edges => {
                let condition = within("(network, from_address, assumeNotNull(to_address), toDate(event_time))");
                let columns = "*, assumeNotNull(to_address) AS receiver";
                format!("({})", read(columns, "transaction_events", &format!(" AND isNotNull(to_address){condition}")))
            }
            Sides::Both => {
                let sent = read(
                    "network, event_time, value, value_usd, status, gas_price, from_address AS wallet, \
                     ifNull(to_address, '') AS counterparty, true AS is_sender",
                    "transaction_events",
                    &within("(network, from_address, toDate(event_time))"),
                );
                let received = read(
                    "network, event_time, value, value_usd, status, CAST(NULL, 'Nullable(UInt64)') AS gas_price, \
                     to_address AS wallet, from_address AS counterparty, false AS is_sender",
                    "received_transactions",
                    &within("(network, to_address, toDate(event_time))"),
                );
                format!("({sent} UNION ALL {received})")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_months_go_together_and_large_ones_alone() {
        let months = [(1, 10), (2, 20), (3, 500), (4, 70), (5, 30), (6, 1)];
        assert_eq!(grouped(&months, 100), vec![vec![1, 2], vec![3], vec![4, 5], vec![6]]);
        assert_eq!(grouped(&[], 100), Vec::<Months>::new());
        assert_eq!(grouped(&[(7, u64::MAX), (8, 1)], 100), vec![vec![7], vec![8]]);
    }
}
