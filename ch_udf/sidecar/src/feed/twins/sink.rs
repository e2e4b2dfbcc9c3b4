//! ClickHouse in memory: every inserted version until it is removed, and the states of one
//! aggregate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::super::model::{CountedBy, ExtraColumn, Hour, Rows, SourcePosition, TableRange};
use super::super::ports::{Delivery, Inserted, Outcome, Sink};
use super::super::standing::{FedBy, Marks};
use super::{Change, Fuse, Summary, summarise};
use crate::error::SidecarError;

/// An inserted event.
#[derive(Debug, Clone)]
pub(crate) struct InsertedEvent {
    version: u64,
    row: Change,
    deleted: bool,
    counted_by: CountedBy,
}

/// A state of an hour, under a generation.
#[derive(Debug, Clone)]
pub(crate) struct State {
    hour: Hour,
    generation: u64,
    is_repair: bool,
    last_version: u64,
    rows: Vec<Change>,
}

/// A settled aggregate of an hour.
#[derive(Clone, Copy, Default)]
pub(crate) struct Settled {
    version: u64,
    summary: Option<Summary>,
}

/// A mark of a source.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    source_id: String,
    database: String,
    attempt: u64,
    position: String,
}

#[derive(Clone, Default)]
pub(crate) struct MemorySink {
    pub events: Arc<Mutex<Vec<InsertedEvent>>>,
    pub states: Arc<Mutex<Vec<State>>>,
    /// Merged states by hour.
    pub settled: Arc<Mutex<BTreeMap<Hour, Settled>>>,
    pub generations: Arc<Mutex<Vec<(u64, u64)>>>,
    pub marks: Arc<Mutex<Vec<Mark>>>,
    pub tokens: Arc<Mutex<BTreeSet<String>>>,
    pub is_paused: Arc<Mutex<bool>>,
    /// The content that a loss of power leaves behind.
    pub durable: Arc<Mutex<Stored>>,
    pub fuse: Fuse,
}

/// The content of a sink.
#[derive(Clone, Default)]
pub(crate) struct Stored {
    events: Vec<InsertedEvent>,
    states: Vec<State>,
    settled: BTreeMap<Hour, Settled>,
    generations: Vec<(u64, u64)>,
    marks: Vec<Mark>,
    tokens: BTreeSet<String>,
}

impl MemorySink {
    fn newest(&self) -> Vec<InsertedEvent> {
        let mut newest: BTreeMap<(String, String, i64, String), InsertedEvent> = BTreeMap::new();
        for event in self.events.lock().unwrap().iter() {
            let row = &event.row;
            let key = (row.network.clone(), row.from_address.clone(), row.event_time, row.tx_hash.clone());
            let valid = newest.entry(key).or_insert_with(|| event.clone());
            if event.version >= valid.version {
                *valid = event.clone();
            }
        }
        newest.into_values().collect()
    }

    /// Returns the rows that `FINAL` returns.
    pub(crate) fn merged(&self) -> Vec<Change> {
        self.newest().into_iter().filter(|event| !event.deleted).map(|event| event.row).collect()
    }

    fn generation(&self) -> (u64, u64) {
        let generations = self.generations.lock().unwrap();
        let highest = |field: fn(&(u64, u64)) -> u64| generations.iter().map(field).max().unwrap_or(0);
        (highest(|pair| pair.0), highest(|pair| pair.1))
    }

    /// Returns the settled aggregate.
    pub(crate) fn aggregate(&self) -> BTreeMap<Hour, Summary> {
        let settled = self.settled.lock().unwrap();
        settled.iter().filter_map(|(hour, settled)| Some((hour.clone(), settled.summary?))).collect()
    }

    /// Merges the valid states.
    fn merge_states(&self) -> BTreeMap<Hour, Summary> {
        let (current, floor) = self.generation();
        let states = self.states.lock().unwrap();
        let valid = states.iter().filter(|state| (floor..=current).contains(&state.generation));
        let mut repaired: BTreeMap<&Hour, u64> = BTreeMap::new();
        for state in valid.clone().filter(|state| state.is_repair) {
            let generation = repaired.entry(&state.hour).or_default();
            *generation = state.generation.max(*generation);
        }
        let valid = valid.filter(|state| state.generation >= repaired.get(&state.hour).copied().unwrap_or(0));
        summarise(&valid.flat_map(|state| state.rows.clone()).collect::<Vec<_>>())
    }

    /// Removes everything, as on a new server.
    pub(crate) fn clear(&self) {
        self.events.lock().unwrap().clear();
        self.states.lock().unwrap().clear();
        self.settled.lock().unwrap().clear();
        self.generations.lock().unwrap().clear();
        self.marks.lock().unwrap().clear();
        self.tokens.lock().unwrap().clear();
    }

    /// Goes back to what was durable.
    pub(crate) fn lose_power(&self) {
        let durable = self.durable.lock().unwrap().clone();
        *self.events.lock().unwrap() = durable.events;
        *self.states.lock().unwrap() = durable.states;
        *self.settled.lock().unwrap() = durable.settled;
        *self.generations.lock().unwrap() = durable.generations;
        *self.marks.lock().unwrap() = durable.marks;
        *self.tokens.lock().unwrap() = durable.tokens;
    }

    /// Removes rows without tombstones.
    pub(crate) fn remove_silently(&self, lost: impl Fn(&Change) -> bool) {
        self.events.lock().unwrap().retain(|event| !lost(&event.row));
    }

    /// Adds a row that the feed did not insert.
    pub(crate) fn add_silently(&self, row: Change) {
        self.events.lock().unwrap().push(InsertedEvent {
            version: 1,
            row,
            deleted: false,
            counted_by: CountedBy::Repair,
        });
    }

    /// Returns the number of first loads that were begun.
    pub(crate) fn loads_begun(&self) -> usize {
        self.marks.lock().unwrap().iter().filter(|mark| mark.position.starts_with("load ")).count()
    }

    /// Adds tombstones of the valid rows below a version that a condition holds for.
    fn retract(&self, version: u64, is_affected: impl Fn(&Change) -> bool) {
        let retracted: Vec<InsertedEvent> = self
            .newest()
            .into_iter()
            .filter(|event| !event.deleted && event.version < version && is_affected(&event.row))
            .collect();
        let tombstones = retracted.into_iter().map(|event| InsertedEvent {
            version,
            deleted: true,
            counted_by: CountedBy::Repair,
            ..event
        });
        self.events.lock().unwrap().extend(tombstones);
    }

    fn mark(&self, source: &SourcePosition, attempt: u64, position: &str) {
        self.marks.lock().unwrap().push(Mark {
            source_id: source.source_id(),
            database: source.database.clone(),
            attempt,
            position: position.to_owned(),
        });
    }

    fn crash() -> SidecarError {
        SidecarError::EngineFailed { detail: "crash".into() }
    }
}

impl Sink for MemorySink {
    async fn marks(&mut self, source_id: &str, snapshot: &str) -> Outcome<Marks> {
        self.fuse.step()?;
        let marks = self.marks.lock().unwrap();
        let sources = marks.iter().map(|mark| FedBy {
            source_id: mark.source_id.clone(),
            database: mark.database.clone(),
            attempt: mark.attempt,
        });
        let has_position = marks.iter().any(|mark| mark.source_id == source_id && mark.position == snapshot);
        Ok(Marks { sources: sources.collect(), has_position })
    }

    async fn begin_attempt(&mut self, source: &SourcePosition, attempt: u64) -> Outcome<()> {
        self.fuse.step()?;
        self.mark(source, attempt, "");
        Ok(())
    }

    async fn highest_version(&mut self) -> Outcome<u64> {
        self.fuse.step()?;
        Ok(self.events.lock().unwrap().iter().map(|event| event.version).max().unwrap_or(0))
    }

    async fn add_columns(&mut self, _: &[ExtraColumn]) -> Outcome<()> {
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

    async fn insert<R: Rows>(&mut self, delivery: &Delivery, rows: &R) -> Outcome<Inserted> {
        // A crash leaves half of the chunk behind, and counts nothing of it.
        let crashes = self.fuse.step().is_err();
        if self.tokens.lock().unwrap().contains(&delivery.token) {
            return Ok(Inserted::default());
        }
        let (generation, _) = self.generation();
        let (mut inserted, mut to_repair) = (Vec::new(), 0);
        let rejected = rows.for_each(&mut |event| {
            let counted_by = delivery.counting.counted_by(event.counted_by);
            to_repair += u64::from(counted_by == CountedBy::Repair);
            inserted.push(InsertedEvent {
                version: delivery.version,
                row: Change::of(event),
                deleted: event.deleted,
                counted_by,
            });
            Ok(())
        })?;
        if crashes {
            inserted.truncate(inserted.len() / 2);
            self.events.lock().unwrap().extend(inserted);
            return Err(Self::crash());
        }
        let is_paused = *self.is_paused.lock().unwrap();
        for event in inserted.iter().filter(|event| !is_paused && event.counted_by == CountedBy::View && !event.deleted)
        {
            let (hour, last_version, rows) = (event.row.hour(), event.version, vec![event.row.clone()]);
            let state = State { hour, generation, is_repair: false, last_version, rows };
            self.states.lock().unwrap().push(state);
        }
        let rows = inserted.len() as u64;
        self.events.lock().unwrap().extend(inserted);
        self.tokens.lock().unwrap().insert(delivery.token.clone());
        Ok(Inserted { rows, to_repair, rejected })
    }

    async fn remove_older(&mut self, version: u64) -> Outcome<()> {
        self.fuse.step()?;
        self.events.lock().unwrap().retain(|event| event.version >= version);
        Ok(())
    }

    async fn retract_hours(&mut self, hours: &[Hour], version: u64) -> Outcome<()> {
        self.fuse.step()?;
        self.retract(version, |row| hours.contains(&row.hour()));
        Ok(())
    }

    async fn retract_ranges(&mut self, ranges: &[TableRange], version: u64) -> Outcome<()> {
        self.fuse.step()?;
        self.retract(version, |row| ranges.iter().any(|range| range.contains(row.event_time)));
        Ok(())
    }

    async fn repair(&mut self, since: u64, current: u64, generation: u64) -> Outcome<()> {
        self.fuse.step()?;
        let is_touched = |event: &&InsertedEvent| {
            event.version >= since
                && event.counted_by != CountedBy::NoOne
                && (event.deleted || event.counted_by == CountedBy::Repair || event.version < current)
        };
        let touched: BTreeSet<Hour> =
            self.events.lock().unwrap().iter().filter(is_touched).map(|event| event.row.hour()).collect();
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
        let merged = self.merge_states();
        let states = self.states.lock().unwrap();
        let touched = states.iter().filter(|state| since.is_none_or(|since| state.last_version >= since));
        let mut settled = self.settled.lock().unwrap();
        let mut buckets: BTreeSet<Hour> = touched.map(|state| state.hour.clone()).collect();
        if since.is_none() {
            buckets.extend(settled.keys().cloned());
        }
        for hour in buckets {
            let summary = merged.get(&hour).copied();
            let current = settled.entry(hour).or_default();
            if version >= current.version {
                *current = Settled { version, summary };
            }
        }
        Ok(())
    }

    async fn make_durable(&mut self) -> Outcome<()> {
        self.fuse.step()?;
        *self.durable.lock().unwrap() = Stored {
            events: self.events.lock().unwrap().clone(),
            states: self.states.lock().unwrap().clone(),
            settled: self.settled.lock().unwrap().clone(),
            generations: self.generations.lock().unwrap().clone(),
            marks: self.marks.lock().unwrap().clone(),
            tokens: self.tokens.lock().unwrap().clone(),
        };
        Ok(())
    }

    async fn record_position(&mut self, position: &SourcePosition, attempt: u64) -> Outcome<()> {
        self.fuse.step()?;
        self.mark(position, attempt, &position.snapshot);
        Ok(())
    }
}
