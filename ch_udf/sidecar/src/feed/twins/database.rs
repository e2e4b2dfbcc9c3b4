//! PostgreSQL in memory: row versions with the transactions that created and removed them, and
//! snapshots.

use std::collections::{BTreeMap, BTreeSet};

use super::super::model::{FeedState, Hour, Rejected, TableRange};
use super::{Change, Summary, summarise};

#[derive(Clone)]
pub(super) struct Version {
    pub(super) row: Change,
    pub(super) created_by: u64,
    pub(super) removed_by: Option<u64>,
}

fn key(row: &Change) -> (String, String, i64) {
    (row.network.clone(), row.tx_hash.clone(), row.event_time)
}

impl Version {
    fn key(&self) -> (String, String, i64) {
        key(&self.row)
    }
}

/// Stands for `arx.transactions` with `ingest_xid`, `arx.transaction_changes`, and the state of the
/// feed.
#[derive(Clone, Default)]
pub(crate) struct Database {
    last_xid: u64,
    running: BTreeSet<u64>,
    pub(super) rows: Vec<Version>,
    pub(super) former: Vec<(u64, Change)>,
    /// Events with the transactions that raised them; without a range, everything changed.
    pub(super) events: Vec<(u64, Option<TableRange>)>,
    /// Rows of tables that were detached.
    detached: Vec<Version>,
    pub system: i64,
    pub timeline: i32,
    /// Number of the database within the system.
    pub oid: u32,
    pub name: String,
    pub state: FeedState,
    pub rows_total: u64,
    pub reloads: BTreeSet<Hour>,
    /// Rows that are set aside: network, hash and time, with the transaction that created them.
    pub set_aside: BTreeMap<(String, String, i64), u64>,
}

/// Transactions from `end` on, and those that were running, are invisible.
#[derive(Clone)]
pub(super) struct Snapshot {
    end: u64,
    running: BTreeSet<u64>,
}

impl Snapshot {
    pub(super) fn sees(&self, xid: u64) -> bool {
        xid < self.end && !self.running.contains(&xid)
    }

    pub(super) fn text(&self) -> String {
        let running: Vec<String> = self.running.iter().map(u64::to_string).collect();
        format!("{}:{}", self.end, running.join(","))
    }

    pub(super) fn parse(text: &str) -> Self {
        let (end, running) = text.split_once(':').unwrap();
        let running = running.split(',').filter(|xid| !xid.is_empty()).map(|xid| xid.parse().unwrap()).collect();
        Self { end: end.parse().unwrap(), running }
    }
}

impl Database {
    pub(crate) fn begin(&mut self) -> u64 {
        self.last_xid += 1;
        self.running.insert(self.last_xid);
        self.last_xid
    }

    /// Returns the database under another number and name.
    pub(crate) fn renamed(mut self, oid: u32, name: &str) -> Self {
        (self.oid, self.name) = (oid, name.to_owned());
        self
    }

    /// Returns a copy as a snapshot of the disk holds it: what was not committed is gone.
    pub(crate) fn disk_copy(&self) -> Self {
        let mut copy = self.clone();
        let running = std::mem::take(&mut copy.running);
        copy.rows.retain(|version| !running.contains(&version.created_by));
        copy.detached.retain(|version| !running.contains(&version.created_by));
        copy
    }

    pub(crate) fn commit(&mut self, xid: u64) {
        self.running.remove(&xid);
    }

    pub(crate) fn insert(&mut self, xid: u64, row: Change) {
        self.rows.push(Version { row, created_by: xid, removed_by: None });
    }

    /// Changes or (with `None`) deletes the live row with this index, modulo their number. Does
    /// nothing without live rows.
    pub(crate) fn replace(&mut self, xid: u64, index: usize, change: Option<fn(&mut Change)>) {
        let live: Vec<usize> = (0..self.rows.len()).filter(|row| self.is_live(*row)).collect();
        let Some(index) = live.get(index % live.len().max(1)).copied() else { return };
        self.rows[index].removed_by = Some(xid);
        let mut row = self.rows[index].row.clone();
        self.former.push((xid, row.clone()));
        if let Some(change) = change {
            change(&mut row);
            self.insert(xid, row);
        }
    }

    fn is_live(&self, index: usize) -> bool {
        let version = &self.rows[index];
        version.removed_by.is_none() && !self.running.contains(&version.created_by)
    }

    /// Removes everything; only an event shows it.
    pub(crate) fn truncate(&mut self) {
        self.rows.clear();
        let xid = self.begin();
        self.events.push((xid, None));
        self.commit(xid);
    }

    /// Removes the rows of a range; only an event shows it. Rows that a running transaction has
    /// written keep the table from being detached.
    pub(crate) fn detach(&mut self, range: TableRange) {
        let is_within = |version: &Version| range.contains(version.row.event_time);
        if self.rows.iter().any(|version| is_within(version) && self.running.contains(&version.created_by)) {
            return;
        }
        let (gone, kept) = std::mem::take(&mut self.rows).into_iter().partition(is_within);
        self.rows = kept;
        let gone: Vec<Version> = gone;
        self.detached.extend(gone.into_iter().filter(|version| version.removed_by.is_none()));
        let xid = self.begin();
        self.events.push((xid, Some(range)));
        self.commit(xid);
    }

    /// Puts the rows of a range back that were detached, unless their keys are taken.
    pub(crate) fn attach(&mut self, range: TableRange) {
        let is_within = |version: &Version| range.contains(version.row.event_time);
        let taken: BTreeSet<_> =
            self.rows.iter().filter(|version| version.removed_by.is_none()).map(Version::key).collect();
        let (back, kept): (Vec<Version>, Vec<Version>) = std::mem::take(&mut self.detached)
            .into_iter()
            .partition(|version| is_within(version) && !taken.contains(&version.key()));
        self.detached = kept;
        self.rows.extend(back);
        let xid = self.begin();
        self.events.push((xid, Some(range)));
        self.commit(xid);
    }

    /// Returns the number of committed events.
    pub(super) fn epoch(&self) -> i64 {
        self.events.iter().filter(|(xid, _)| !self.running.contains(xid)).count() as i64
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { end: self.last_xid + 1, running: self.running.clone() }
    }

    pub(super) fn visible(&self, snapshot: &Snapshot) -> Vec<&Version> {
        let gone = |version: &&Version| version.removed_by.is_some_and(|xid| snapshot.sees(xid));
        self.rows.iter().filter(|version| snapshot.sees(version.created_by)).filter(|version| !gone(version)).collect()
    }

    /// Returns the live rows.
    fn live_versions(&self) -> Vec<&Version> {
        self.visible(&self.snapshot())
    }

    /// Sets rows aside, with the versions that a snapshot shows.
    pub(super) fn reject(&mut self, rejected: &[Rejected], snapshot: &Snapshot) {
        for Rejected { network, tx_hash, time, .. } in rejected {
            let is_rejected = |version: &&Version| {
                version.row.network.as_bytes() == network
                    && version.row.tx_hash.as_bytes() == tx_hash
                    && version.row.event_time == *time
                    && snapshot.sees(version.created_by)
            };
            // Other rows than the live ones are no longer in the table.
            let live =
                self.live_versions().into_iter().find(is_rejected).map(|version| (version.key(), version.created_by));
            self.set_aside.extend(live);
        }
    }

    /// Forgets the rows that were replaced or deleted since a snapshot.
    pub(super) fn forget_replaced(&mut self, since: &Snapshot) {
        let now = self.snapshot();
        let replaced: BTreeSet<(String, String, i64)> = self
            .former
            .iter()
            .filter(|(xid, _)| now.sees(*xid) && !since.sees(*xid))
            .map(|(_, row)| key(row))
            .collect();
        let live: BTreeMap<_, _> =
            self.live_versions().into_iter().map(|version| (version.key(), version.created_by)).collect();
        self.set_aside.retain(|key, created_by| !replaced.contains(key) || live.get(key) == Some(created_by));
    }

    pub(crate) fn live_rows(&self) -> usize {
        (0..self.rows.len()).filter(|row| self.is_live(*row)).count()
    }

    /// Returns the rows that have to be set aside.
    pub(crate) fn misfits(&self) -> BTreeMap<(String, String, i64), u64> {
        let versions = self.live_versions().into_iter().filter(|version| version.row.misfit().is_some());
        versions.map(|version| (version.key(), version.created_by)).collect()
    }

    /// Returns the correct aggregates.
    pub(crate) fn expected(&self) -> BTreeMap<Hour, Summary> {
        let versions = self.live_versions().into_iter().filter(|version| version.row.misfit().is_none());
        summarise(&versions.map(|version| version.row.clone()).collect::<Vec<_>>())
    }

    pub(crate) fn live(&self) -> BTreeSet<(i64, String, String)> {
        let key =
            |version: &Version| (version.row.event_time, version.row.from_address.clone(), version.row.tx_hash.clone());
        self.live_versions().into_iter().filter(|version| version.row.misfit().is_none()).map(key).collect()
    }
}
