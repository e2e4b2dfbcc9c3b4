//! Computes the states of the aggregates: from events as these arrive, and again for the buckets
//! that a change touched.
//!
//! One SELECT per aggregate (`sql/clickhouse/aggregates`) serves both ways, so a repair computes
//! what the view would have. A repair finds its buckets itself: those of the rows that arrived
//! since a version and that no view has counted.

use super::shape::Shape;

#[derive(Debug)]
pub(crate) struct Aggregate {
    /// Name of the relation. States are stored in `NAME_states`.
    pub name: &'static str,
    /// Key columns of a bucket.
    pub(super) bucket: &'static str,
    /// Column of a bucket's start.
    column: &'static str,
    /// Expression for the start of an event's bucket.
    start: &'static str,
}

/// Computes states from `{events}`.
const VOLUME: &str = include_str!("../../../../sql/clickhouse/aggregates/volume.sql");

/// The initiator merges the rows of all shards, not each shard its own; the statement returns once
/// they are stored.
const INSERT_ON_INITIATOR: &str = "SETTINGS parallel_distributed_insert_select = 0, distributed_foreground_insert = 1";

/// Merges the states of a volume into numbers.
const SETTLED_VOLUME: &str = include_str!("../../../../sql/clickhouse/aggregates/settled_volume.sql");

/// The valid generations of the aggregates, both ends included; see `sql/clickhouse/11_feed.sql`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ValidGenerations {
    /// The last valid repair.
    pub generation: u64,
    /// The last rebuild.
    pub floor: u64,
}

pub(crate) const AGGREGATES: [Aggregate; 2] = [
    Aggregate { name: "hourly_volume", bucket: "network, hour", column: "hour", start: "toStartOfHour(event_time)" },
    Aggregate { name: "daily_volume", bucket: "network, day", column: "day", start: "toDate(event_time)" },
];

/// Months that one statement reads, in the form of `toYYYYMM`.
pub(crate) type Months = Vec<u32>;

/// A computation of states from the events of some months.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Buckets touched by rows of versions from `since` on, among them all rows of attempts before
    /// version `current`. The states hide lower generations of their buckets.
    Touched {
        /// Lowest version that has not been counted.
        since: u64,
        /// Version of this attempt's tombstones.
        current: u64,
        generation: u64,
        months: Months,
    },
    /// All buckets. Lower generations stay visible until the floor rises.
    All {
        generation: u64,
        /// Version recorded in the states.
        version: u64,
        months: Months,
    },
}

/// Returns the query for the rows that touched aggregates since a version: those that views do not
/// count, and those of interrupted attempts.
fn touched_rows(shape: &Shape, since: u64, current: u64) -> String {
    let (database, local) = (&shape.database, shape.local());
    format!(
        "SELECT network, event_time FROM {database}.transaction_events{local} \
          WHERE version >= {since} AND counted != 'already' \
            AND (is_deleted = 1 OR counted = 'repair' OR version < {current})"
    )
}

/// Copies the rows of a first load, which the view skips, into `received_transactions`.
#[must_use]
pub(crate) fn fill_received(shape: &Shape, months: &[u32]) -> String {
    let (database, local, month_condition) = (&shape.database, shape.local(), in_months(months));
    let columns = "network, event_time, tx_hash, leg, from_address, value, value_usd, status, version, is_deleted, counted, fed_at";
    format!(
        "INSERT INTO {database}.received_transactions{local} (to_address, {columns}) \
         SELECT assumeNotNull(to_address), {columns} FROM {database}.transaction_events{local} FINAL \
          WHERE {month_condition} AND isNotNull(to_address) AND counted = 'rebuild'"
    )
}

/// Returns the query for the months touched since a version, with the number of touching rows.
#[must_use]
pub(crate) fn touched_months(shape: &Shape, since: u64, current: u64) -> String {
    format!(
        "SELECT toYYYYMM(event_time) AS month, count() AS weight FROM ({}) GROUP BY month ORDER BY month",
        touched_rows(shape, since, current)
    )
}

/// Returns the query for the months that contain rows, with their number.
#[must_use]
pub(crate) fn all_months(shape: &Shape) -> String {
    format!(
        "SELECT toUInt32(partition) AS month, sum(rows) AS weight FROM system.parts WHERE active AND database = '{}' \
            AND table = 'transaction_events{}' GROUP BY month ORDER BY month",
        shape.database,
        shape.local()
    )
}

/// Groups months until a group exceeds `limit` rows, to bound the time and memory of each
/// statement. A larger month is a group by itself.
#[must_use]
pub(crate) fn group_months(months: &[(u32, u64)], limit: u64) -> Vec<Months> {
    let mut groups: Vec<Months> = Vec::new();
    let mut weight = u64::MAX;
    for (month, rows) in months {
        weight = weight.saturating_add(*rows);
        match groups.last_mut() {
            Some(group) if weight <= limit => group.push(*month),
            _ => {
                groups.push(vec![*month]);
                weight = *rows;
            }
        }
    }
    groups
}

/// Returns the condition that an event belongs to one of the months.
fn in_months(months: &[u32]) -> String {
    let list: Vec<String> = months.iter().map(u32::to_string).collect();
    format!("toYYYYMM(event_time) IN ({})", list.join(", "))
}

impl Aggregate {
    #[must_use]
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        AGGREGATES.iter().find(|aggregate| aggregate.name == name)
    }

    /// Returns the tables that store data.
    pub(super) fn tables(&self) -> Vec<String> {
        vec![format!("{}_states", self.name), format!("{}_settled", self.name)]
    }

    fn select(&self, generation: &str, is_repair: &str, last_version: &str, events: &str) -> String {
        VOLUME
            .trim_end()
            .replace("{bucket}", self.column)
            .replace("{start}", self.start)
            .replace("{generation}", generation)
            .replace("{is_repair}", is_repair)
            .replace("{last_version}", last_version)
            .replace("{events}", events)
    }

    /// Returns the SELECT of the materialised view, which counts new rows.
    pub(super) fn arriving_events(&self, shape: &Shape) -> String {
        let (database, local) = (&shape.database, shape.local());
        let events = format!("{database}.transaction_events{local} WHERE counted = 'view' AND is_deleted = 0");
        self.select("generation", "0", "max(version)", &events)
    }

    /// Returns the valid states as a relation.
    pub(super) fn valid(&self, shape: &Shape) -> String {
        let (database, local) = (&shape.database, shape.local());
        let highest = |column: &str| format!("(SELECT max({column}) FROM {database}.aggregate_generations{local})");
        self.states_between(shape, &highest("floor"), &highest("generation"))
    }

    /// Returns the states that are valid with these generations as a relation.
    fn states_between(&self, shape: &Shape, floor: &str, current: &str) -> String {
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

    /// Returns the valid states as a relation. On one server the caller passes the valid
    /// generations, because looking them up costs ClickHouse more than the read; on a cluster each
    /// shard looks up its own.
    fn valid_states(&self, shape: &Shape, valid: Option<ValidGenerations>) -> String {
        let (database, name) = (&shape.database, self.name);
        match valid {
            Some(ValidGenerations { generation, floor }) if shape.cluster.is_none() && generation == floor => {
                format!("(SELECT * FROM {database}.{name}_states WHERE generation = {floor})")
            }
            Some(ValidGenerations { generation, floor }) if shape.cluster.is_none() => {
                self.states_between(shape, &floor.to_string(), &generation.to_string())
            }
            Some(_) | None => format!("{database}.{name}_current"),
        }
    }

    /// Returns the statements that store the merged states of volumes as numbers: of the buckets
    /// with states of versions from `since` on, or of all buckets, where those without states
    /// become empty. Readers see a bucket's new number only once it is complete.
    #[must_use]
    pub(crate) fn settle(
        &self,
        shape: &Shape,
        valid: Option<ValidGenerations>,
        since: Option<u64>,
        version: u64,
    ) -> Vec<String> {
        let (database, name, bucket) = (&shape.database, self.name, self.column);
        let settled = format!("{database}.{name}_settled");
        // Hidden states do no harm here, and excluding them takes as long as the rest of the query.
        let suffix = if shape.cluster.is_some() { "current" } else { "states" };
        let states = format!("{database}.{name}_{suffix}");
        let touched = since.map_or_else(String::new, |since| {
            format!(
                "\n WHERE (network, {bucket}) GLOBAL IN (SELECT network, {bucket} FROM {states} WHERE last_version >= {since})"
            )
        });
        let numbers = SETTLED_VOLUME
            .trim_end()
            .replace("{bucket}", bucket)
            .replace("{version}", &version.to_string())
            .replace("{states}", &self.valid_states(shape, valid))
            .replace("{touched}", &touched);
        let mut statements = vec![format!("INSERT INTO {settled} {INSERT_ON_INITIATOR} {numbers}")];
        if since.is_none() {
            // This version loses against a number of the same pass, and wins against older ones.
            let empty = version.saturating_sub(1);
            statements.push(format!(
                "INSERT INTO {settled} (network, {bucket}, version) {INSERT_ON_INITIATOR} \
                 SELECT network, {bucket}, {empty} FROM {settled} WHERE version < {empty}"
            ));
        }
        statements
    }

    /// Returns the statements that write the states of a repair. Readers do not see them before
    /// their generation becomes valid.
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
                    format!("(SELECT * FROM ({}) WHERE {})", touched_rows(shape, *since, *current), in_months(months));
                let (column, start) = (self.column, self.start);
                let buckets = format!("SELECT DISTINCT network, {start} AS {column} FROM {touched}");
                let bucket = self.bucket;
                let version = current + 1;
                // Write an empty state for every bucket first: a bucket that has lost all its
                // transactions would otherwise show its lower generations.
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

    /// Returns the current events of some months as a relation, restricted to `buckets` if given.
    fn events(&self, shape: &Shape, months: &[u32], buckets: Option<&str>) -> String {
        let (database, local, start) = (&shape.database, shape.local(), self.start);
        let of_buckets = buckets.map_or_else(String::new, |buckets| format!(" AND (network, {start}) IN ({buckets})"));
        format!("(SELECT * FROM {database}.transaction_events{local} FINAL WHERE {}{of_buckets})", in_months(months))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_months_share_a_group_and_large_ones_are_alone() {
        let months = [(1, 10), (2, 20), (3, 500), (4, 70), (5, 30), (6, 1)];
        assert_eq!(group_months(&months, 100), vec![vec![1, 2], vec![3], vec![4, 5], vec![6]]);
        assert_eq!(group_months(&[], 100), Vec::<Months>::new());
        assert_eq!(group_months(&[(7, u64::MAX), (8, 1)], 100), vec![vec![7], vec![8]]);
    }
}
