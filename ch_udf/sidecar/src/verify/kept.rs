//! The content of hours as of the last comparison in which both sides were the same. Owns which of
//! it still holds: hours of PostgreSQL without changes since, and months of ClickHouse whose files
//! are the same. An insert, merge, mutation or removal in ClickHouse changes the files of its
//! month, so nothing that ClickHouse does to a month goes unseen.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike as _};
use tokio_postgres::Client;

use super::sides::{CountedHour, HourContent};
use super::sql;
use crate::error::{Doing, SidecarError};
use crate::feed::{Hour, SourcePosition, signed, unsigned};
use crate::warehouse::Topology;

/// Hours of one statement.
const BATCH: usize = 5_000;

/// Digests of the files of each month (`toYYYYMM`).
pub(super) type Parts = BTreeMap<u32, String>;

/// See the module.
pub(super) struct Kept {
    /// Position of the feed at which the sides were the same.
    pub(super) position: SourcePosition,
    pub(super) parts: Parts,
    /// `None` for an hour in which the sides differed.
    pub(super) hours: BTreeMap<Hour, Option<CountedHour>>,
    /// Token transfers without their transaction.
    pub(super) orphans: BTreeMap<Hour, u64>,
}

/// Returns the month of an hour, as ClickHouse numbers it.
pub(super) fn month(hours: i64) -> u32 {
    let time = DateTime::from_timestamp(hours.saturating_mul(3_600), 0).unwrap_or_default();
    u32::try_from(time.year()).unwrap_or_default() * 100 + time.month()
}

/// Reads the digests of the months of a single server.
pub(super) async fn parts(topology: &Topology) -> Result<Parts, SidecarError> {
    let rows: Vec<(u32, String)> =
        topology.entry.query(sql::PARTS).fetch_all().await.doing("read the files of ClickHouse")?;
    Ok(rows.into_iter().collect())
}

impl Kept {
    /// Reads the last comparison. Returns `None` if no comparison is stored, or if changes since
    /// then are not known any more.
    pub(super) async fn read(client: &Client) -> Result<Option<Self>, SidecarError> {
        let doing = "read the last comparison";
        let Some(row) = client.query_opt(sql::KEPT, &[]).await.doing(doing)? else { return Ok(None) };
        let position = SourcePosition {
            snapshot: row.get(0),
            epoch: row.get(1),
            system_identifier: row.get(2),
            timeline: row.get(3),
            database: row.get(4),
            database_oid: row.get(5),
        };
        let (parts, orphans): (serde_json::Value, serde_json::Value) = (row.get(6), row.get(7));
        let (Ok(parts), Ok(orphans)) =
            (serde_json::from_value(parts), serde_json::from_value::<Vec<(String, i64, u64)>>(orphans))
        else {
            return Ok(None);
        };
        let orphans = orphans.into_iter().map(|(network, hours, count)| (Hour { network, hours }, count)).collect();
        let rows = client.query(sql::KEPT_HOURS, &[]).await.doing(doing)?;
        let hours = rows.iter().map(|row| {
            let checksum: Option<String> = row.get(4);
            let counted = checksum.map(|checksum| CountedHour {
                content: HourContent { count: unsigned(row.get(2)), sum: row.get(3), checksum },
                transactions: unsigned(row.get(5)),
                volume: row.get(6),
            });
            (Hour { network: row.get(0), hours: row.get(1) }, counted)
        });
        Ok(Some(Self { position, parts, hours: hours.collect(), orphans }))
    }

    /// Returns the months of ClickHouse that may differ from what is kept.
    pub(super) fn changed_months(&self, parts: &Parts) -> BTreeSet<u32> {
        let numbers = self.parts.keys().chain(parts.keys()).copied();
        let changed = numbers.filter(|number| self.parts.get(number) != parts.get(number));
        let unknown = self.unknown().map(|hour| month(hour.hours));
        changed.chain(unknown).collect()
    }

    /// Returns the hours in which the sides differed.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &Hour> {
        self.hours.iter().filter(|(_, counted)| counted.is_none()).map(|(hour, _)| hour)
    }

    /// Stores a comparison in the place of this one.
    pub(super) async fn replace(former: Option<&Self>, client: &mut Client, kept: &Self) -> Result<(), SidecarError> {
        let doing = "store the comparison";
        let transaction = client.transaction().await.doing(doing)?;
        let position = &kept.position;
        let parts = serde_json::json!(kept.parts);
        let orphans: Vec<(&str, i64, u64)> =
            kept.orphans.iter().map(|(hour, count)| (hour.network.as_str(), hour.hours, *count)).collect();
        transaction
            .execute(
                sql::STORE_KEPT,
                &[
                    &position.snapshot,
                    &position.epoch,
                    &position.system_identifier,
                    &position.timeline,
                    &position.database_oid,
                    &parts,
                    &serde_json::json!(orphans),
                ],
            )
            .await
            .doing(doing)?;
        let none = BTreeMap::new();
        let before = former.map_or(&none, |former| &former.hours);
        let gone: Vec<&Hour> = match former {
            Some(_) => before.keys().filter(|hour| !kept.hours.contains_key(hour)).collect(),
            None => {
                // What an earlier comparison left is not known here.
                transaction.execute(sql::DELETE_ALL_KEPT_HOURS, &[]).await.doing(doing)?;
                Vec::new()
            }
        };
        for gone in gone.chunks(BATCH) {
            let (networks, hours): (Vec<&str>, Vec<i64>) =
                gone.iter().map(|hour| (hour.network.as_str(), hour.hours)).unzip();
            transaction.execute(sql::DELETE_KEPT_HOURS, &[&networks, &hours]).await.doing(doing)?;
        }
        let written: Vec<(&Hour, &Option<CountedHour>)> =
            kept.hours.iter().filter(|(hour, counted)| before.get(hour) != Some(counted)).collect();
        for batch in written.chunks(BATCH) {
            let networks: Vec<&str> = batch.iter().map(|(hour, _)| hour.network.as_str()).collect();
            let hours: Vec<i64> = batch.iter().map(|(hour, _)| hour.hours).collect();
            let of = |value: fn(&CountedHour) -> u64| -> Vec<i64> {
                batch.iter().map(|(_, counted)| signed(counted.as_ref().map_or(0, value))).collect()
            };
            let text = |value: fn(&CountedHour) -> &str| -> Vec<Option<&str>> {
                batch.iter().map(|(_, counted)| counted.as_ref().map(value)).collect()
            };
            let number =
                |values: Vec<Option<&str>>| values.into_iter().map(|v| v.unwrap_or("0").to_owned()).collect::<Vec<_>>();
            transaction
                .execute(
                    sql::STORE_KEPT_HOURS,
                    &[
                        &networks,
                        &hours,
                        &of(|counted| counted.content.count),
                        &number(text(|counted| &counted.content.sum)),
                        &text(|counted| &counted.content.checksum),
                        &of(|counted| counted.transactions),
                        &number(text(|counted| &counted.volume)),
                    ],
                )
                .await
                .doing(doing)?;
        }
        transaction.commit().await.doing(doing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(parts: &[(u32, &str)], differing: &[i64]) -> Kept {
        let hour = |hours: &i64| (Hour { network: "n".into(), hours: *hours }, None);
        Kept {
            position: SourcePosition {
                snapshot: "1:1:".into(),
                epoch: 0,
                system_identifier: 1,
                timeline: 1,
                database_oid: 1,
                database: "d".into(),
            },
            parts: parts.iter().map(|(month, digest)| (*month, (*digest).to_owned())).collect(),
            hours: differing.iter().map(hour).collect(),
            orphans: BTreeMap::new(),
        }
    }

    #[test]
    fn months_are_read_again_if_their_files_changed_or_their_sides_differed() {
        let january_2024 = 473_352;
        assert_eq!((month(0), month(january_2024 - 1), month(january_2024)), (197_001, 202_312, 202_401));
        let before = kept(&[(202_312, "a"), (202_401, "b"), (202_403, "c")], &[january_2024 + 31 * 24]);
        let now = |parts: &[(u32, &str)]| before.changed_months(&kept(parts, &[]).parts);
        let same = [(202_312, "a"), (202_401, "b"), (202_403, "c")];
        assert_eq!(now(&same), BTreeSet::from([202_402]));
        assert_eq!(now(&same[..2]), BTreeSet::from([202_402, 202_403]));
        let changed = [(202_312, "x"), (202_401, "b"), (202_403, "c"), (202_404, "d")];
        assert_eq!(now(&changed), BTreeSet::from([202_312, 202_402, 202_404]));
    }
}
