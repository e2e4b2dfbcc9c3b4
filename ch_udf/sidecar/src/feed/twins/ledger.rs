//! The state of the feed in the database in memory.

use std::sync::{Arc, Mutex};

use super::super::model::{Chunk, FirstLoad, Stored};
use super::super::ports::{Confirmation, Ledger, Outcome};
use super::Fuse;
use super::database::Database;
use crate::error::SidecarError;

/// The state of the feed in the database.
pub(crate) struct MemoryLedger {
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
