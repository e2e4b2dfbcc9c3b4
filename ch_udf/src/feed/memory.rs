//! In-memory twins of PostgreSQL and ClickHouse for the pipeline's tests: a store with transactions and snapshots, a sink that
//! keeps every version, and a crash that can strike at any step.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::model::{Change, Confirmation, Hour, HourlyVolume, Load, Mark, Stage, Stored, Touched};
use super::pipeline::{Ledger, Sink, Source};
use crate::error::SidecarError;

type Outcome<T> = Result<T, SidecarError>;

/// Steps until everything stops working; `None` for never.
#[derive(Clone, Default)]
pub struct Fuse(Arc<Mutex<Cell<Option<u32>>>>);

impl Fuse {
    pub fn set(&self, steps: Option<u32>) {
        self.0.lock().unwrap().set(steps);
    }

    fn step(&self) -> Outcome<()> {
        let fuse = self.0.lock().unwrap();
        match fuse.get() {
            Some(0) => Err(SidecarError::EngineFailed { detail: "crash".into() }),
            left => {
                fuse.set(left.map(|left| left - 1));
                Ok(())
            }
        }
    }
}

/// A version of a row: who made it and who removed it.
struct Version {
    row: Change,
    made: u64,
    removed: Option<u64>,
}

/// PostgreSQL: `arx.transactions` with `ingest_xid`, `arx.transaction_changes`, feed state and volumes.
#[derive(Default)]
pub struct Database {
    next: u64,
    running: BTreeSet<u64>,
    rows: Vec<Version>,
    former: Vec<(u64, Change)>,
    pub epoch: i64,
    pub system: i64,
    pub stored: Stored,
    pub rows_total: u64,
    pub volumes: BTreeMap<Hour, HourlyVolume>,
}

/// `xmin:xmax:running`, as in PostgreSQL.
#[derive(Clone)]
struct Snapshot {
    end: u64,
    running: BTreeSet<u64>,
}

impl Snapshot {
    fn sees(&self, xid: u64) -> bool {
        xid < self.end && !self.running.contains(&xid)
    }

    fn text(&self) -> String {
        let running: Vec<String> = self.running.iter().map(u64::to_string).collect();
        format!("{}:{}", self.end, running.join(","))
    }

    fn parse(text: &str) -> Self {
        let (end, running) = text.split_once(':').unwrap();
        let running = running.split(',').filter(|xid| !xid.is_empty()).map(|xid| xid.parse().unwrap()).collect();
        Self { end: end.parse().unwrap(), running }
    }
}

impl Database {
    pub fn begin(&mut self) -> u64 {
        self.next += 1;
        self.running.insert(self.next);
        self.next
    }

    pub fn commit(&mut self, xid: u64) {
        self.running.remove(&xid);
    }

    pub fn insert(&mut self, xid: u64, row: Change) {
        self.rows.push(Version { row, made: xid, removed: None });
    }

    /// Changes or (with `None`) deletes the `index`-th live row; tells whether there was one.
    pub fn replace(&mut self, xid: u64, index: usize, change: Option<fn(&mut Change)>) {
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
    pub fn truncate(&mut self) {
        self.rows.clear();
        self.epoch += 1;
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { end: self.next + 1, running: self.running.clone() }
    }

    fn visible(&self, snapshot: &Snapshot) -> Vec<&Version> {
        let gone = |version: &&Version| version.removed.is_some_and(|xid| snapshot.sees(xid));
        self.rows.iter().filter(|version| snapshot.sees(version.made)).filter(|version| !gone(version)).collect()
    }

    /// What the volumes have to be now.
    pub fn truth(&self) -> BTreeMap<Hour, HourlyVolume> {
        let rows: Vec<Change> = self.visible(&self.snapshot()).into_iter().map(|version| version.row.clone()).collect();
        summarise(&rows)
    }

    pub fn live(&self) -> BTreeSet<(i64, String, String)> {
        let key =
            |version: &Version| (version.row.event_time, version.row.from_address.clone(), version.row.tx_hash.clone());
        self.visible(&self.snapshot()).into_iter().map(key).collect()
    }
}

fn summarise(rows: &[Change]) -> BTreeMap<Hour, HourlyVolume> {
    let mut hours: BTreeMap<Hour, Vec<&Change>> = BTreeMap::new();
    for row in rows {
        hours.entry(row.hour()).or_default().push(row);
    }
    let volume = |(hour, rows): (Hour, Vec<&Change>)| {
        let total: i128 = rows.iter().filter(|row| row.status != "failed").map(|row| row.value).sum();
        let distinct = |names: BTreeSet<&str>| names.len() as u64;
        let volume = HourlyVolume {
            hour: hour.clone(),
            transaction_count: rows.len() as u64,
            total_volume: total.to_string(),
            unique_senders: distinct(rows.iter().map(|row| row.from_address.as_str()).collect()),
            unique_receivers: distinct(rows.iter().filter_map(|row| row.to_address.as_deref()).collect()),
        };
        (hour, volume)
    };
    hours.into_iter().map(volume).collect()
}

/// One connection to the database.
pub struct MemorySource {
    pub database: Arc<Mutex<Database>>,
    pub fuse: Fuse,
    snapshot: Option<Snapshot>,
    ready: Vec<Change>,
}

impl MemorySource {
    pub fn new(database: Arc<Mutex<Database>>, fuse: Fuse) -> Self {
        Self { database, fuse, snapshot: None, ready: Vec::new() }
    }

    fn select(&self, stage: &Stage) -> Vec<Change> {
        let database = self.database.lock().unwrap();
        let now = self.snapshot.as_ref().unwrap();
        let since = |position: &str| {
            let before = Snapshot::parse(position);
            move |xid: u64| !before.sees(xid)
        };
        match stage {
            Stage::FormerSelves(position) => {
                let new = since(position);
                let chosen = database.former.iter().filter(|(xid, _)| now.sees(*xid) && new(*xid));
                chosen.map(|(_, row)| Change { deleted: true, ..row.clone() }).collect()
            }
            Stage::Rows(Load::Full) => database.visible(now).into_iter().map(|version| version.row.clone()).collect(),
            Stage::Rows(Load::Since(position)) => {
                let new = since(position);
                let chosen = database.visible(now).into_iter().filter(|version| new(version.made));
                chosen.map(|version| version.row.clone()).collect()
            }
        }
    }
}

impl Source for MemorySource {
    async fn open(&mut self) -> Outcome<Mark> {
        self.fuse.step()?;
        let database = self.database.lock().unwrap();
        let snapshot = database.snapshot();
        let mark = Mark {
            position: snapshot.text(),
            epoch: database.epoch,
            system_identifier: database.system,
            timeline: 1,
            database: "memory".into(),
        };
        self.snapshot = Some(snapshot);
        Ok(mark)
    }

    async fn has_news(&mut self, position: &str) -> Outcome<bool> {
        self.fuse.step()?;
        let rows = self.select(&Stage::Rows(Load::Since(position.into())));
        Ok(!rows.is_empty() || !self.select(&Stage::FormerSelves(position.into())).is_empty())
    }

    async fn start(&mut self, stage: &Stage) -> Outcome<()> {
        self.fuse.step()?;
        self.ready = self.select(stage);
        Ok(())
    }

    async fn next(&mut self, limit: u32) -> Outcome<Vec<Change>> {
        self.fuse.step()?;
        let count = self.ready.len().min(limit as usize);
        Ok(self.ready.drain(..count).collect())
    }

    async fn close(&mut self) -> Outcome<()> {
        self.snapshot = None;
        self.fuse.step()
    }
}

/// ClickHouse: every version that was ever inserted, until it is removed.
#[derive(Clone, Default)]
pub struct MemorySink {
    pub events: Arc<Mutex<Vec<(u64, Change)>>>,
    pub marks: Arc<Mutex<BTreeSet<(String, String)>>>,
    pub fuse: Fuse,
}

impl MemorySink {
    /// What `FINAL` shows.
    pub fn merged(&self) -> Vec<Change> {
        let mut newest: BTreeMap<(String, String, i64, String), (u64, Change)> = BTreeMap::new();
        for (version, row) in self.events.lock().unwrap().iter() {
            let key = (row.network.clone(), row.from_address.clone(), row.event_time, row.tx_hash.clone());
            let place = newest.entry(key).or_insert_with(|| (*version, row.clone()));
            if *version >= place.0 {
                *place = (*version, row.clone());
            }
        }
        newest.into_values().map(|(_, row)| row).filter(|row| !row.deleted).collect()
    }
}

impl Sink for MemorySink {
    async fn holds(&mut self, source: &str, position: &str) -> Outcome<bool> {
        self.fuse.step()?;
        Ok(self.marks.lock().unwrap().contains(&(source.to_owned(), position.to_owned())))
    }

    async fn highest_version(&mut self) -> Outcome<u64> {
        self.fuse.step()?;
        Ok(self.events.lock().unwrap().iter().map(|(version, _)| *version).max().unwrap_or(0))
    }

    async fn insert(&mut self, version: u64, rows: Vec<Change>) -> Outcome<()> {
        // a crash in the middle leaves half of the chunk behind
        let torn = self.fuse.step().is_err();
        let keep = if torn { rows.len() / 2 } else { rows.len() };
        self.events.lock().unwrap().extend(rows.into_iter().take(keep).map(|row| (version, row)));
        if torn { Err(SidecarError::EngineFailed { detail: "crash".into() }) } else { Ok(()) }
    }

    async fn remove_older(&mut self, version: u64) -> Outcome<()> {
        self.fuse.step()?;
        self.events.lock().unwrap().retain(|(of_row, _)| *of_row >= version);
        Ok(())
    }

    async fn mark(&mut self, mark: &Mark, _: u64) -> Outcome<()> {
        self.fuse.step()?;
        self.marks.lock().unwrap().insert((mark.source(), mark.position.clone()));
        Ok(())
    }

    async fn hourly_volumes(&mut self, touched: &Touched) -> Outcome<Vec<HourlyVolume>> {
        self.fuse.step()?;
        let volumes = summarise(&self.merged());
        Ok(match touched {
            Touched::All => volumes.into_values().collect(),
            Touched::Hours(hours) => hours.iter().filter_map(|hour| volumes.get(hour).cloned()).collect(),
        })
    }
}

/// The state of the feed in the database.
pub struct MemoryLedger {
    pub database: Arc<Mutex<Database>>,
    pub fuse: Fuse,
}

impl Ledger for MemoryLedger {
    async fn stored(&mut self) -> Outcome<Stored> {
        self.fuse.step()?;
        Ok(self.database.lock().unwrap().stored.clone())
    }

    async fn begin(&mut self, floor: u64) -> Outcome<u64> {
        self.fuse.step()?;
        let stored = &mut self.database.lock().unwrap().stored;
        stored.attempt = stored.attempt.max(floor) + 1;
        Ok(stored.attempt)
    }

    async fn confirm(&mut self, confirmation: &Confirmation) -> Outcome<()> {
        self.fuse.step()?;
        let mut database = self.database.lock().unwrap();
        if database.stored.attempt != confirmation.attempt {
            return Err(SidecarError::Overtaken { attempt: confirmation.attempt });
        }
        match &confirmation.touched {
            Touched::All => {
                database.volumes.clear();
                database.rows_total = 0;
            }
            Touched::Hours(hours) => database.volumes.retain(|hour, _| !hours.contains(hour)),
        }
        for volume in &confirmation.volumes {
            database.volumes.insert(volume.hour.clone(), volume.clone());
        }
        database.rows_total += confirmation.rows;
        database.stored.position = Some(confirmation.mark.position.clone());
        database.stored.epoch = Some(confirmation.mark.epoch);
        database.stored.system_identifier = Some(confirmation.mark.system_identifier);
        database.stored.timeline = Some(confirmation.mark.timeline);
        Ok(())
    }
}
