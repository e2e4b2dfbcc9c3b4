//! In-memory twins of PostgreSQL and ClickHouse for the pipeline's tests: a store with transactions
//! and snapshots, a sink that keeps every version and counts by views and repairs, and a crash that
//! can happen at any step.

mod database;
mod ledger;
mod sink;
mod source;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::model::{CountedBy, Event, HOUR_MICROS, Hour, Rejected, RowPart, Rows};
use super::ports::Outcome;
use crate::error::SidecarError;
pub(super) use database::Database;
pub(super) use ledger::MemoryLedger;
pub(super) use sink::MemorySink;
pub(super) use source::MemorySource;

/// The part of a row that the sink cannot hold: a time before 1970, or a negative value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    Key,
    Value,
}

/// An owned transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub event_time: i64,
    pub network: String,
    pub tx_hash: String,
    pub from_address: String,
    pub to_address: Option<String>,
    pub value: i128,
    pub status: String,
}

impl Change {
    pub(crate) fn hour(&self) -> Hour {
        Hour { network: self.network.clone(), hours: self.event_time.div_euclid(HOUR_MICROS) }
    }

    /// Returns the part of the row that the sink cannot hold.
    pub(crate) fn misfit(&self) -> Option<Misfit> {
        if self.event_time < 0 {
            return Some(Misfit::Key);
        }
        (self.value < 0).then_some(Misfit::Value)
    }

    fn rejected(&self) -> Rejected {
        Rejected {
            network: self.network.clone().into(),
            tx_hash: self.tx_hash.clone().into(),
            time: self.event_time,
            part: RowPart::Transaction,
            reason: "does not fit".into(),
        }
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

    fn event(&self, counted_by: CountedBy, deleted: bool) -> Event<'_> {
        let key = (&self.network, &self.tx_hash, &self.from_address, self.to_address.as_deref());
        let (network, tx_hash, sender, receiver) = key;
        Event {
            value: self.value,
            status: &self.status,
            counted_by,
            deleted,
            ..Event::of_key(self.event_time, network, tx_hash, sender, receiver)
        }
    }
}

/// Rows with the step that counts them; tombstones if `deleted`.
#[derive(Debug, Default)]
pub(crate) struct MemoryRows {
    rows: Vec<(Change, CountedBy)>,
    deleted: bool,
}

impl Rows for MemoryRows {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn for_each(&self, visit: &mut dyn FnMut(&Event<'_>) -> Outcome<()>) -> Outcome<Vec<Rejected>> {
        let mut rejected = Vec::new();
        for (row, counted_by) in &self.rows {
            match row.misfit() {
                Some(Misfit::Key) if self.deleted => {}
                Some(_) if !self.deleted => rejected.push(row.rejected()),
                _ => visit(&row.event(*counted_by, self.deleted))?,
            }
        }
        Ok(rejected)
    }
}

/// Aggregate of an hour: transactions, volume, distinct senders.
pub(crate) type Summary = (u64, i128, u64);

/// Fails all steps after a number of them; `None` disables it.
#[derive(Clone, Default)]
pub(crate) struct Fuse(Arc<Mutex<Cell<Option<u32>>>>);

impl Fuse {
    pub(crate) fn set(&self, steps: Option<u32>) {
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
