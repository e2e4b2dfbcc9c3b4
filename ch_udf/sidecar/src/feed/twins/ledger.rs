//! The feed's state in the in-memory database.

use std::sync::{Arc, Mutex};

use super::super::model::{Chunk, FeedState, FirstLoad};
use super::super::ports::{Confirmation, Ledger, Outcome};
use super::Fuse;
use super::database::Database;
use crate::error::SidecarError;

pub(crate) struct MemoryLedger {
    pub database: Arc<Mutex<Database>>,
    pub fuse: Fuse,
}

impl Ledger for MemoryLedger {
    async fn state(&mut self) -> Outcome<FeedState> {
        self.fuse.step()?;
        Ok(self.database.lock().unwrap().state.clone())
    }

    async fn begin(&mut self, floor: u64) -> Outcome<u64> {
        self.fuse.step()?;
        let state = &mut self.database.lock().unwrap().state;
        state.attempt = state.attempt.max(floor) + 1;
        Ok(state.attempt)
    }

    async fn begin_load(&mut self, load: &FirstLoad) -> Outcome<()> {
        self.fuse.step()?;
        self.database.lock().unwrap().state.load = Some(load.clone());
        Ok(())
    }

    async fn finish_chunk(&mut self, chunk: &Chunk, rows: u64) -> Outcome<()> {
        self.fuse.step()?;
        if let Some(load) = &mut self.database.lock().unwrap().state.load {
            load.pending.retain(|pending| pending.number != chunk.number);
            load.rows += rows;
        }
        Ok(())
    }

    async fn drop_load(&mut self) -> Outcome<()> {
        self.fuse.step()?;
        self.database.lock().unwrap().state.load = None;
        Ok(())
    }

    async fn confirm(&mut self, confirmation: &Confirmation) -> Outcome<()> {
        self.fuse.step()?;
        let mut database = self.database.lock().unwrap();
        if database.state.attempt != confirmation.attempt {
            return Err(SidecarError::Overtaken { attempt: confirmation.attempt });
        }
        if confirmation.full {
            database.rows_total = 0;
            database.state.load = None;
        }
        database.rows_total += confirmation.rows;
        database.state.confirmed = confirmation.attempt;
        database.state.position = Some(confirmation.position.clone());
        database.reloads.retain(|hour| !confirmation.reloaded.contains(hour));
        Ok(())
    }
}
