//! In-memory twins of PostgreSQL and ClickHouse for the pipeline's tests: a store with transactions and snapshots, a sink that
//! keeps every version and counts by views and repairs, and a crash that can strike at any step.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::model::{
    Chunk, Counted, Event, FirstLoad, FurtherColumn, HOUR_MICROS, Hour, Mark, Rows, Span, Stage, Stored,
};
use super::pipeline::{Confirmation, Delivery, Ledger, Reader, Sink, Source};
use crate::error::SidecarError;

type Outcome<T> = Result<T, SidecarError>;

/// A transaction that owns what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub event_time: i64,
    pub network: String,
    pub tx_hash: String,
    pub from_address: String,
    pub to_address: Option<String>,
    pub value: i128,
    pub status: String,
}

impl Change {
    pub fn hour(&self) -> Hour {
        Hour { network: self.network.clone(), hours: self.event_time.div_euclid(HOUR_MICROS) }
    }

    fn of(event: &Event<'_>) -> Self {
        Self {
            event_time: event.event_time,
            network: event.network.into(),
            tx_hash: event.tx_hash.into(),
            from_address: event.from_address.into(),
            to_address: event.to_address.map(Into::into),
            value: event.value,
            status: event.status.into(),
        }
    }

    fn event(&self, counted: Counted, deleted: bool) -> Event<'_> {
        Event {
            event_time: self.event_time,
            network: &self.network,
            tx_hash: &self.tx_hash,
            block_number: 0,
            transaction_index: None,
            from_address: &self.from_address,
            to_address: self.to_address.as_deref(),
            value: self.value,
            value_usd: None,
            gas_used: None,
            gas_price: None,
            status: &self.status,
            metadata: None,
            transfers: Vec::new(),
            further: Vec::new(),
            counted,
            deleted,
        }
    }
}

/// Rows with who counts them; tombstones if `deleted`.
#[derive(Debug, Default)]
pub struct MemoryRows {
    rows: Vec<(Change, Counted)>,
    deleted: bool,
}

impl Rows for MemoryRows {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn each(&self, look: &mut dyn FnMut(&Event<'_>) -> Outcome<()>) -> Outcome<()> {
        self.rows.iter().try_for_each(|(row, counted)| look(&row.event(*counted, self.deleted)))
    }
}

/// What an hour comes to: transactions, volume, distinct senders.
pub type Summary = (u64, i128, u64);

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
    pub reloads: BTreeSet<Hour>,
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

    /// What the aggregates have to be now.
    pub fn truth(&self) -> BTreeMap<Hour, Summary> {
        let rows: Vec<Change> = self.visible(&self.snapshot()).into_iter().map(|version| version.row.clone()).collect();
        summarise(&rows)
    }

    pub fn live(&self) -> BTreeSet<(i64, String, String)> {
        let key =
            |version: &Version| (version.row.event_time, version.row.from_address.clone(), version.row.tx_hash.clone());
        self.visible(&self.snapshot()).into_iter().map(key).collect()
    }
}

fn summarise(rows: &[Change]) -> BTreeMap<Hour, Summary> {
    let mut hours: BTreeMap<Hour, Vec<&Change>> = BTreeMap::new();
    for row in rows {
        hours.entry(row.hour()).or_default().push(row);
    }
    let summary = |rows: &[&Change]| {
        let total: i128 = rows.iter().filter(|row| row.status != "failed").map(|row| row.value).sum();
        let senders: BTreeSet<&str> = rows.iter().map(|row| row.from_address.as_str()).collect();
        (rows.len() as u64, total, senders.len() as u64)
    };
    hours.into_iter().map(|(hour, rows)| (hour, summary(&rows))).collect()
}

/// One connection to the database.
pub struct MemorySource {
    pub database: Arc<Mutex<Database>>,
    pub fuse: Fuse,
    snapshot: Option<Snapshot>,
    ready: MemoryRows,
}

impl MemorySource {
    pub fn new(database: Arc<Mutex<Database>>, fuse: Fuse) -> Self {
        Self { database, fuse, snapshot: None, ready: MemoryRows::default() }
    }

    fn select(&self, stage: &Stage) -> MemoryRows {
        let database = self.database.lock().unwrap();
        let now = self.snapshot.as_ref().unwrap();
        match stage {
            Stage::FormerSelves(position) => {
                let before = Snapshot::parse(position);
                let chosen = database.former.iter().filter(|(xid, _)| now.sees(*xid) && !before.sees(*xid));
                MemoryRows { rows: chosen.map(|(_, row)| (row.clone(), Counted::ByRepair)).collect(), deleted: true }
            }
            Stage::Changed(position) => {
                let before = Snapshot::parse(position);
                let changed: BTreeSet<&str> = database
                    .former
                    .iter()
                    .filter(|(xid, _)| now.sees(*xid) && !before.sees(*xid))
                    .map(|(_, row)| row.tx_hash.as_str())
                    .collect();
                let counted = |row: &Change| {
                    if changed.contains(row.tx_hash.as_str()) { Counted::ByRepair } else { Counted::ByView }
                };
                let new = database.visible(now).into_iter().filter(|version| !before.sees(version.made));
                MemoryRows {
                    rows: new.map(|version| (version.row.clone(), counted(&version.row))).collect(),
                    deleted: false,
                }
            }
            Stage::Reloaded => {
                let asked = |version: &&Version| database.reloads.contains(&version.row.hour());
                let rows = database.visible(now).into_iter().filter(asked);
                MemoryRows {
                    rows: rows.map(|version| (version.row.clone(), Counted::ByRepair)).collect(),
                    deleted: false,
                }
            }
        }
    }
}

fn take(ready: &mut MemoryRows, limit: u32) -> MemoryRows {
    let count = ready.rows.len().min(limit as usize);
    MemoryRows { rows: ready.rows.drain(..count).collect(), deleted: ready.deleted }
}

impl Source for MemorySource {
    type Rows = MemoryRows;
    type Reader = MemoryReader;

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

    fn further_columns(&self) -> &[FurtherColumn] {
        &[]
    }

    async fn has_news(&mut self, position: &str) -> Outcome<bool> {
        self.fuse.step()?;
        let changed = self.select(&Stage::Changed(position.into()));
        Ok(!changed.is_empty() || !self.select(&Stage::FormerSelves(position.into())).is_empty())
    }

    async fn reloads(&mut self) -> Outcome<Vec<Hour>> {
        self.fuse.step()?;
        Ok(self.database.lock().unwrap().reloads.iter().cloned().collect())
    }

    async fn start(&mut self, stage: &Stage) -> Outcome<()> {
        self.fuse.step()?;
        self.ready = self.select(stage);
        Ok(())
    }

    async fn next(&mut self, limit: u32) -> Outcome<MemoryRows> {
        self.fuse.step()?;
        Ok(take(&mut self.ready, limit))
    }

    async fn chunks(&mut self) -> Outcome<Vec<Chunk>> {
        self.fuse.step()?;
        let rows = self.database.lock().unwrap().rows.len() as i64;
        let span = |first_block: i64| {
            let end = first_block + 2;
            Span { relation: 1, file: 1, first_block, end_block: (end < rows).then_some(end) }
        };
        let spans: Vec<Span> = (0..(rows + 1) / 2).map(|number| span(number * 2)).collect();
        let chunk = |(number, spans): (usize, &[Span])| Chunk { number: number as i32, spans: spans.to_vec() };
        Ok(spans.chunks(2).enumerate().map(chunk).collect())
    }

    async fn readers(&mut self, count: u32, position: &str) -> Outcome<Vec<MemoryReader>> {
        self.fuse.step()?;
        let snapshot = self.snapshot.clone().unwrap();
        let position = Snapshot::parse(position);
        let reader = |_| MemoryReader {
            database: Arc::clone(&self.database),
            fuse: self.fuse.clone(),
            snapshot: snapshot.clone(),
            position: position.clone(),
            ready: MemoryRows::default(),
        };
        Ok((0..count).map(reader).collect())
    }

    async fn close(&mut self) -> Outcome<()> {
        self.snapshot = None;
        self.fuse.step()
    }
}

/// Reads rows by their place.
pub struct MemoryReader {
    database: Arc<Mutex<Database>>,
    fuse: Fuse,
    snapshot: Snapshot,
    position: Snapshot,
    ready: MemoryRows,
}

impl Reader for MemoryReader {
    type Rows = MemoryRows;

    async fn start(&mut self, chunk: &Chunk) -> Outcome<()> {
        self.fuse.step()?;
        let database = self.database.lock().unwrap();
        let visible = |version: &&Version| {
            self.snapshot.sees(version.made)
                && self.position.sees(version.made)
                && !version.removed.is_some_and(|xid| self.snapshot.sees(xid))
        };
        let of_span = |span: &Span| {
            let first = usize::try_from(span.first_block).unwrap();
            let end = span.end_block.map_or(database.rows.len(), |end| usize::try_from(end).unwrap());
            database.rows.get(first..end.min(database.rows.len())).unwrap_or_default()
        };
        let rows = chunk
            .spans
            .iter()
            .flat_map(of_span)
            .filter(visible)
            .map(|version| (version.row.clone(), Counted::ByRepair))
            .collect();
        self.ready = MemoryRows { rows, deleted: false };
        Ok(())
    }

    async fn next(&mut self, limit: u32) -> Outcome<MemoryRows> {
        self.fuse.step()?;
        Ok(take(&mut self.ready, limit))
    }

    async fn finish(&mut self, _: &Chunk) -> Outcome<()> {
        self.fuse.step()
    }
}

/// An event as it was put in.
#[derive(Debug, Clone)]
pub struct Put {
    version: u64,
    row: Change,
    deleted: bool,
    counted: Counted,
}

/// States of the aggregates: of an hour, under a generation.
#[derive(Debug, Clone)]
pub struct State {
    hour: Hour,
    generation: u64,
    is_repair: bool,
    last_version: u64,
    rows: Vec<Change>,
}

/// A number that the feed settled: of the highest version.
#[derive(Clone, Copy, Default)]
pub struct Settled {
    version: u64,
    summary: Option<Summary>,
}

/// ClickHouse: every version that was ever inserted, until it is removed, and the states of one aggregate.
#[derive(Clone, Default)]
pub struct MemorySink {
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
    pub fn merged(&self) -> Vec<Change> {
        self.newest().into_iter().filter(|put| !put.deleted).map(|put| put.row).collect()
    }

    fn generation(&self) -> (u64, u64) {
        let generations = self.generations.lock().unwrap();
        let highest = |of: fn(&(u64, u64)) -> u64| generations.iter().map(of).max().unwrap_or(0);
        (highest(|one| one.0), highest(|one| one.1))
    }

    /// What the aggregate shows.
    pub fn aggregate(&self) -> BTreeMap<Hour, Summary> {
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
    pub fn forget(&self) {
        self.events.lock().unwrap().clear();
        self.states.lock().unwrap().clear();
        self.settled.lock().unwrap().clear();
        self.generations.lock().unwrap().clear();
        self.marks.lock().unwrap().clear();
        self.tokens.lock().unwrap().clear();
    }

    /// Rows are gone that nobody took back.
    pub fn lose(&self, lost: impl Fn(&Change) -> bool) {
        self.events.lock().unwrap().retain(|put| !lost(&put.row));
    }

    /// A row is there that nobody put in.
    pub fn invent(&self, row: Change) {
        self.events.lock().unwrap().push(Put { version: 1, row, deleted: false, counted: Counted::ByRepair });
    }

    /// First loads that were ever begun.
    pub fn loads_begun(&self) -> usize {
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

    async fn begin_load(&mut self, load: &FirstLoad) -> Outcome<()> {
        self.fuse.step()?;
        self.database.lock().unwrap().stored.load = Some(load.clone());
        Ok(())
    }

    async fn chunk_done(&mut self, chunk: &Chunk, rows: u64) -> Outcome<()> {
        self.fuse.step()?;
        if let Some(load) = &mut self.database.lock().unwrap().stored.load {
            load.pending.retain(|pending| pending.number != chunk.number);
            load.rows += rows;
        }
        Ok(())
    }

    async fn drop_load(&mut self) -> Outcome<()> {
        self.fuse.step()?;
        self.database.lock().unwrap().stored.load = None;
        Ok(())
    }

    async fn confirm(&mut self, confirmation: &Confirmation) -> Outcome<()> {
        self.fuse.step()?;
        let mut database = self.database.lock().unwrap();
        if database.stored.attempt != confirmation.attempt {
            return Err(SidecarError::Overtaken { attempt: confirmation.attempt });
        }
        if confirmation.full {
            database.rows_total = 0;
            database.stored.load = None;
        }
        database.rows_total += confirmation.rows;
        database.stored.confirmed = confirmation.attempt;
        database.stored.mark = Some(confirmation.mark.clone());
        database.reloads.retain(|hour| !confirmation.reloaded.contains(hour));
        Ok(())
    }
}
