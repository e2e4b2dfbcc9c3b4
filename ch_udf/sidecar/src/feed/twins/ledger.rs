//! The feed's state in the in-memory database.

use std::sync::{Arc, Mutex};

use super::super::model::{Chunk, FeedState, FirstLoad, HOUR_MICROS, Hour, Rejected, TableRange};
use super::super::ports::{Confirmation, Ledger, Outcome};
use super::Fuse;
use super::database::{Database, Snapshot};
use crate::error::SidecarError;

pub(crate) struct MemoryLedger {
    pub database: Arc<Mutex<Database>>,
    pub fuse: Fuse,
}

impl Ledger for MemoryLedger {
    async fn state(&mut self) -> Outcome<FeedState> {
        self.fuse.step()?;
        let database = self.database.lock().unwrap();
        Ok(FeedState { set_aside: database.set_aside.len() as u64, ..database.state.clone() })
    }

    async fn begin(&mut self, floor: u64) -> Outcome<u64> {
        self.fuse.step()?;
        let state = &mut self.database.lock().unwrap().state;
        state.attempt = state.attempt.max(floor) + 1;
        Ok(state.attempt)
    }

    async fn begin_load(&mut self, load: &FirstLoad) -> Outcome<()> {
        self.fuse.step()?;
        let mut database = self.database.lock().unwrap();
        database.state.load = Some(load.clone());
        database.set_aside.clear();
        Ok(())
    }

    async fn finish_chunk(&mut self, chunk: &Chunk, rows: u64, rejected: &[Rejected]) -> Outcome<()> {
        self.fuse.step()?;
        let mut database = self.database.lock().unwrap();
        let Some(load) = &mut database.state.load else { return Ok(()) };
        load.pending.retain(|pending| pending.number != chunk.number);
        load.rows += rows;
        let snapshot = Snapshot::parse(&load.position.snapshot);
        database.reject(rejected, &snapshot);
        Ok(())
    }

    async fn set_aside(&mut self, rejected: &[Rejected], snapshot: &str) -> Outcome<()> {
        self.fuse.step()?;
        self.database.lock().unwrap().reject(rejected, &Snapshot::parse(snapshot));
        Ok(())
    }

    async fn forget_set_aside(&mut self, hours: &[Hour], ranges: &[TableRange]) -> Outcome<()> {
        self.fuse.step()?;
        let is_within = |network: &str, time: i64| {
            hours.iter().any(|hour| hour.network == network && hour.hours == time.div_euclid(HOUR_MICROS))
                || ranges.iter().any(|range| range.contains(time))
        };
        self.database.lock().unwrap().set_aside.retain(|(network, _, time), _| !is_within(network, *time));
        Ok(())
    }

    async fn drop_load(&mut self) -> Outcome<()> {
        self.fuse.step()?;
        self.database.lock().unwrap().state.load = None;
        Ok(())
    }

    async fn confirm(&mut self, confirmation: &Confirmation) -> Outcome<u64> {
        self.fuse.step()?;
        let mut database = self.database.lock().unwrap();
        if database.state.attempt != confirmation.attempt {
            return Err(SidecarError::Overtaken { attempt: confirmation.attempt });
        }
        if let Some(since) = &confirmation.since {
            database.forget_replaced(&Snapshot::parse(since));
        } else {
            database.rows_total = 0;
            database.state.load = None;
        }
        database.rows_total += confirmation.rows;
        database.state.confirmed = confirmation.attempt;
        database.state.position = Some(confirmation.position.clone());
        database.reloads.retain(|hour| !confirmation.reloaded.contains(hour));
        Ok(database.set_aside.len() as u64)
    }
}
