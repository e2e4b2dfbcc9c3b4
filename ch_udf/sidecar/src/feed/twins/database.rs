//! PostgreSQL in memory: transactions with who made and removed them, and snapshots.

use std::collections::{BTreeMap, BTreeSet};

use super::super::model::{Hour, Stored};
use super::{Change, Summary, summarise};

/// A version of a row: who made it and who removed it.
pub(super) struct Version {
    pub(super) row: Change,
    pub(super) made: u64,
    pub(super) removed: Option<u64>,
}

/// PostgreSQL: `arx.transactions` with `ingest_xid`, `arx.transaction_changes`, feed state and
/// volumes.
#[derive(Default)]
pub(crate) struct Database {
    next: u64,
    running: BTreeSet<u64>,
    pub(super) rows: Vec<Version>,
    pub(super) former: Vec<(u64, Change)>,
    pub epoch: i64,
    pub system: i64,
    pub stored: Stored,
    pub rows_total: u64,
    pub reloads: BTreeSet<Hour>,
}

/// `xmin:xmax:running`, as in PostgreSQL.
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
        self.next += 1;
        self.running.insert(self.next);
        self.next
    }

    pub(crate) fn commit(&mut self, xid: u64) {
        self.running.remove(&xid);
    }

    pub(crate) fn insert(&mut self, xid: u64, row: Change) {
        self.rows.push(Version { row, made: xid, removed: None });
    }

    /// Changes or (with `None`) deletes the `index`-th live row; tells whether there was one.
    pub(crate) fn replace(&mut self, xid: u64, index: usize, change: Option<fn(&mut Change)>) {
        let live: Vec<usize> = (0..self.rows.len()).filter(|at| self.is_live(*at)).collect();
        let Some(at) = live.get(index % live.len().max(1)).copied() else { return };
        self.rows[at].removed = Some(xid);
        let mut row = self.rows[at].row.clone();
        self.former.push((xid, row.clone()));
        if let Some(change) = change {
            change(&mut row);
            self.insert(xid, row);
        }
    }

    fn is_live(&self, at: usize) -> bool {
        let version = &self.rows[at];
        version.removed.is_none() && !self.running.contains(&version.made)
    }

    /// Removes everything without a trace but the epoch.
    pub(crate) fn truncate(&mut self) {
        self.rows.clear();
        self.epoch += 1;
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { end: self.next + 1, running: self.running.clone() }
    }

    pub(super) fn visible(&self, snapshot: &Snapshot) -> Vec<&Version> {
        let gone = |version: &&Version| version.removed.is_some_and(|xid| snapshot.sees(xid));
        self.rows.iter().filter(|version| snapshot.sees(version.made)).filter(|version| !gone(version)).collect()
    }

    /// What the aggregates have to be now.
    pub(crate) fn truth(&self) -> BTreeMap<Hour, Summary> {
        let rows: Vec<Change> = self.visible(&self.snapshot()).into_iter().map(|version| version.row.clone()).collect();
        summarise(&rows)
    }

    pub(crate) fn live(&self) -> BTreeSet<(i64, String, String)> {
        let key =
            |version: &Version| (version.row.event_time, version.row.from_address.clone(), version.row.tx_hash.clone());
        self.visible(&self.snapshot()).into_iter().map(key).collect()
    }
}
