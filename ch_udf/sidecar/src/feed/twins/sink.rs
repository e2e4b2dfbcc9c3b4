//! ClickHouse in memory: every version that was ever inserted, until it is removed, and the states
//! of one aggregate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::super::model::{Counted, FurtherColumn, Hour, Mark, Rows};
use super::super::ports::{Delivery, Outcome, Sink};
use super::{Change, Fuse, Summary, summarise};
use crate::error::SidecarError;

/// An event as it was put in.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    version: u64,
    row: Change,
    deleted: bool,
    counted: Counted,
}

/// States of the aggregates: of an hour, under a generation.
#[derive(Debug, Clone)]
pub(crate) struct State {
    hour: Hour,
    generation: u64,
    is_repair: bool,
    last_version: u64,
    rows: Vec<Change>,
}

/// A number that the feed settled: of the highest version.
#[derive(Clone, Copy, Default)]
pub(crate) struct Settled {
    version: u64,
    summary: Option<Summary>,
}

/// ClickHouse: every version that was ever inserted, until it is removed, and the states of one
/// aggregate.
#[derive(Clone, Default)]
pub(crate) struct MemorySink {
    pub events: Arc<Mutex<Vec<Put>>>,
    pub states: Arc<Mutex<Vec<State>>>,
    /// What the states of hours came to.
    pub settled: Arc<Mutex<BTreeMap<Hour, Settled>>>,
    pub generations: Arc<Mutex<Vec<(u64, u64)>>>,
    pub marks: Arc<Mutex<BTreeSet<(String, String)>>>,
    pub tokens: Arc<Mutex<BTreeSet<String>>>,
    /// Whether the views are at rest.
    pub is_paused: Arc<Mutex<bool>>,
    pub fuse: Fuse,
}

impl MemorySink {
    fn newest(&self) -> Vec<Put> {
        let mut newest: BTreeMap<(String, String, i64, String), Put> = BTreeMap::new();
        for put in self.events.lock().unwrap().iter() {
            let row = &put.row;
            let key = (row.network.clone(), row.from_address.clone(), row.event_time, row.tx_hash.clone());
            let place = newest.entry(key).or_insert_with(|| put.clone());
            if put.version >= place.version {
                *place = put.clone();
            }
        }
        newest.into_values().collect()
    }

    /// What `FINAL` shows.
    pub(crate) fn merged(&self) -> Vec<Change> {
        self.newest().into_iter().filter(|put| !put.deleted).map(|put| put.row).collect()
    }

    fn generation(&self) -> (u64, u64) {
        let generations = self.generations.lock().unwrap();
        let highest = |of: fn(&(u64, u64)) -> u64| generations.iter().map(of).max().unwrap_or(0);
        (highest(|one| one.0), highest(|one| one.1))
    }

    /// What the aggregate shows.
    pub(crate) fn aggregate(&self) -> BTreeMap<Hour, Summary> {
        let settled = self.settled.lock().unwrap();
        settled.iter().filter_map(|(hour, settled)| Some((hour.clone(), settled.summary?))).collect()
    }

    /// What the states come to.
    fn combined(&self) -> BTreeMap<Hour, Summary> {
        let (current, floor) = self.generation();
        let states = self.states.lock().unwrap();
        let valid = states.iter().filter(|state| (floor..=current).contains(&state.generation));
        let mut repaired: BTreeMap<&Hour, u64> = BTreeMap::new();
        for state in valid.clone().filter(|state| state.is_repair) {
            let at = repaired.entry(&state.hour).or_default();
            *at = state.generation.max(*at);
        }
        let valid = valid.filter(|state| state.generation >= repaired.get(&state.hour).copied().unwrap_or(0));
        summarise(&valid.flat_map(|state| state.rows.clone()).collect::<Vec<_>>())
    }

    /// Everything is gone, as from a server that was set up anew.
    pub(crate) fn forget(&self) {
        self.events.lock().unwrap().clear();
        self.states.lock().unwrap().clear();
        self.settled.lock().unwrap().clear();
        self.generations.lock().unwrap().clear();
        self.marks.lock().unwrap().clear();
        self.tokens.lock().unwrap().clear();
    }

    /// Rows are gone that nobody took back.
    pub(crate) fn lose(&self, lost: impl Fn(&Change) -> bool) {
        self.events.lock().unwrap().retain(|put| !lost(&put.row));
    }

    /// A row is there that nobody put in.
    pub(crate) fn invent(&self, row: Change) {
        self.events.lock().unwrap().push(Put { version: 1, row, deleted: false, counted: Counted::ByRepair });
    }

    /// First loads that were ever begun.
    pub(crate) fn loads_begun(&self) -> usize {
        self.marks.lock().unwrap().iter().filter(|(_, position)| position.starts_with("load ")).count()
    }

    fn crash() -> SidecarError {
        SidecarError::EngineFailed { detail: "crash".into() }
    }
}

impl Sink for MemorySink {
    async fn holds(&mut self, source: &str, position: &str) -> Outcome<bool> {
        self.fuse.step()?;
        Ok(self.marks.lock().unwrap().contains(&(source.to_owned(), position.to_owned())))
    }

    async fn highest_version(&mut self) -> Outcome<u64> {
        self.fuse.step()?;
        Ok(self.events.lock().unwrap().iter().map(|put| put.version).max().unwrap_or(0))
    }

    async fn prepare(&mut self, _: &[FurtherColumn]) -> Outcome<()> {
        self.fuse.step()
    }

    async fn resume_views(&mut self) -> Outcome<()> {
        self.fuse.step()?;
        *self.is_paused.lock().unwrap() = false;
        Ok(())
    }

    async fn pause_views(&mut self) -> Outcome<()> {
        self.fuse.step()?;
        *self.is_paused.lock().unwrap() = true;
        Ok(())
    }

    async fn insert<R: Rows>(&mut self, delivery: &Delivery, rows: &R) -> Outcome<u64> {
        // a crash in the middle leaves half of the chunk behind, and nothing of it counted
        let torn = self.fuse.step().is_err();
        if self.tokens.lock().unwrap().contains(&delivery.token) {
            return Ok(0);
        }
        let (generation, _) = self.generation();
        let (mut puts, mut to_repair) = (Vec::new(), 0);
        rows.each(&mut |event| {
            let counted = delivery.counting.counted(event.counted);
            to_repair += u64::from(counted == Counted::ByRepair);
            puts.push(Put { version: delivery.version, row: Change::of(event), deleted: event.deleted, counted });
            Ok(())
        })?;
        if torn {
            puts.truncate(puts.len() / 2);
            self.events.lock().unwrap().extend(puts);
            return Err(Self::crash());
        }
        let is_paused = *self.is_paused.lock().unwrap();
        for put in puts.iter().filter(|put| !is_paused && put.counted == Counted::ByView && !put.deleted) {
            let (hour, last_version, rows) = (put.row.hour(), put.version, vec![put.row.clone()]);
            let state = State { hour, generation, is_repair: false, last_version, rows };
            self.states.lock().unwrap().push(state);
        }
        self.events.lock().unwrap().extend(puts);
        self.tokens.lock().unwrap().insert(delivery.token.clone());
        Ok(to_repair)
    }

    async fn remove_older(&mut self, version: u64) -> Outcome<()> {
        self.fuse.step()?;
        self.events.lock().unwrap().retain(|put| put.version >= version);
        Ok(())
    }

    async fn take_back(&mut self, hours: &[Hour], version: u64) -> Outcome<()> {
        self.fuse.step()?;
        let asked = |put: &Put| put.version < version && hours.contains(&put.row.hour());
        let found: Vec<Put> = self.newest().into_iter().filter(|put| !put.deleted && asked(put)).collect();
        let taken = found.into_iter().map(|put| Put { version, deleted: true, counted: Counted::ByRepair, ..put });
        self.events.lock().unwrap().extend(taken);
        Ok(())
    }

    async fn repair(&mut self, since: u64, current: u64, generation: u64) -> Outcome<()> {
        self.fuse.step()?;
        let touches = |put: &&Put| {
            put.version >= since
                && put.counted != Counted::Already
                && (put.deleted || put.counted == Counted::ByRepair || put.version < current)
        };
        let touched: BTreeSet<Hour> =
            self.events.lock().unwrap().iter().filter(touches).map(|put| put.row.hour()).collect();
        let merged = self.merged();
        for hour in touched {
            let rows = merged.iter().filter(|row| row.hour() == hour).cloned().collect();
            let state = State { hour, generation, is_repair: true, last_version: current + 1, rows };
            self.states.lock().unwrap().push(state);
        }
        self.fuse.step()?;
        self.generations.lock().unwrap().push((generation, 0));
        Ok(())
    }

    async fn rebuild(&mut self, generation: u64, last_version: u64) -> Outcome<()> {
        self.fuse.step()?;
        for row in self.merged() {
            let state = State { hour: row.hour(), generation, is_repair: false, last_version, rows: vec![row] };
            self.states.lock().unwrap().push(state);
        }
        self.fuse.step()?;
        self.generations.lock().unwrap().push((generation, generation));
        Ok(())
    }

    async fn settle(&mut self, since: Option<u64>, version: u64) -> Outcome<()> {
        self.fuse.step()?;
        let combined = self.combined();
        let states = self.states.lock().unwrap();
        let touched = states.iter().filter(|state| since.is_none_or(|since| state.last_version >= since));
        let mut settled = self.settled.lock().unwrap();
        let mut buckets: BTreeSet<Hour> = touched.map(|state| state.hour.clone()).collect();
        if since.is_none() {
            buckets.extend(settled.keys().cloned());
        }
        for hour in buckets {
            let summary = combined.get(&hour).copied();
            let place = settled.entry(hour).or_default();
            if version >= place.version {
                *place = Settled { version, summary };
            }
        }
        Ok(())
    }

    async fn mark(&mut self, mark: &Mark, _: u64) -> Outcome<()> {
        self.fuse.step()?;
        self.marks.lock().unwrap().insert((mark.source(), mark.position.clone()));
        Ok(())
    }
}
