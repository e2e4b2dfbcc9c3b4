//! Reads the in-memory database.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::super::model::{Chunk, CountedBy, ExtraColumn, Hour, Rows, SourcePosition, Span, Stage, TableRange};
use super::super::ports::{Outcome, Reader, Source};
use super::database::{Database, Snapshot, Version};
use super::{Change, Fuse, MemoryRows};

pub(crate) struct MemorySource {
    pub database: Arc<Mutex<Database>>,
    pub fuse: Fuse,
    snapshot: Option<Snapshot>,
    pending: MemoryRows,
}

impl MemorySource {
    pub(crate) fn new(database: Arc<Mutex<Database>>, fuse: Fuse) -> Self {
        Self { database, fuse, snapshot: None, pending: MemoryRows::default() }
    }

    fn select(&self, stage: &Stage) -> MemoryRows {
        let database = self.database.lock().unwrap();
        let now = self.snapshot.as_ref().unwrap();
        match stage {
            Stage::FormerRows(since) => {
                let before = Snapshot::parse(since);
                let chosen = database.former.iter().filter(|(xid, _)| now.sees(*xid) && !before.sees(*xid));
                MemoryRows { rows: chosen.map(|(_, row)| (row.clone(), CountedBy::Repair)).collect(), deleted: true }
            }
            Stage::Changed(since) => {
                let before = Snapshot::parse(since);
                let changed: BTreeSet<&str> = database
                    .former
                    .iter()
                    .filter(|(xid, _)| now.sees(*xid) && !before.sees(*xid))
                    .map(|(_, row)| row.tx_hash.as_str())
                    .collect();
                let counted_by = |row: &Change| {
                    if changed.contains(row.tx_hash.as_str()) { CountedBy::Repair } else { CountedBy::View }
                };
                let new = database.visible(now).into_iter().filter(|version| !before.sees(version.created_by));
                MemoryRows {
                    rows: new.map(|version| (version.row.clone(), counted_by(&version.row))).collect(),
                    deleted: false,
                }
            }
            Stage::Reloaded => {
                let is_requested = |version: &&Version| database.reloads.contains(&version.row.hour());
                to_repair(database.visible(now).into_iter().filter(is_requested))
            }
            Stage::Ranges(ranges) => {
                let is_within = |version: &&Version| ranges.iter().any(|range| range.contains(version.row.event_time));
                to_repair(database.visible(now).into_iter().filter(is_within))
            }
        }
    }
}

fn to_repair<'a>(rows: impl Iterator<Item = &'a Version>) -> MemoryRows {
    MemoryRows { rows: rows.map(|version| (version.row.clone(), CountedBy::Repair)).collect(), deleted: false }
}

fn take(pending: &mut MemoryRows, limit: u32) -> MemoryRows {
    let count = pending.rows.len().min(limit as usize);
    MemoryRows { rows: pending.rows.drain(..count).collect(), deleted: pending.deleted }
}

impl Source for MemorySource {
    type Rows = MemoryRows;
    type Reader = MemoryReader;

    async fn open(&mut self) -> Outcome<SourcePosition> {
        self.fuse.step()?;
        let database = self.database.lock().unwrap();
        let snapshot = database.snapshot();
        let position = SourcePosition {
            snapshot: snapshot.text(),
            epoch: database.epoch(),
            system_identifier: database.system,
            timeline: database.timeline,
            database_oid: database.oid,
            database: database.name.clone(),
        };
        self.snapshot = Some(snapshot);
        Ok(position)
    }

    fn extra_columns(&self) -> &[ExtraColumn] {
        &[]
    }

    async fn has_changes(&mut self, since: &str) -> Outcome<bool> {
        self.fuse.step()?;
        let changed = self.select(&Stage::Changed(since.into()));
        Ok(!changed.is_empty() || !self.select(&Stage::FormerRows(since.into())).is_empty())
    }

    async fn events(&mut self, since: &SourcePosition) -> Outcome<Option<Vec<TableRange>>> {
        self.fuse.step()?;
        let database = self.database.lock().unwrap();
        let (before, now) = (Snapshot::parse(&since.snapshot), self.snapshot.as_ref().unwrap());
        let raised = database.events.iter().filter(|(xid, _)| now.sees(*xid) && !before.sees(*xid));
        let raised: Vec<&Option<TableRange>> = raised.map(|(_, range)| range).collect();
        if raised.len() as i64 != database.epoch() - since.epoch {
            return Ok(None);
        }
        let ranges: Option<Vec<TableRange>> = raised.into_iter().cloned().collect();
        Ok(ranges.map(TableRange::disjoint))
    }

    async fn reloads(&mut self) -> Outcome<Vec<Hour>> {
        self.fuse.step()?;
        Ok(self.database.lock().unwrap().reloads.iter().cloned().collect())
    }

    async fn start(&mut self, stage: &Stage) -> Outcome<()> {
        self.fuse.step()?;
        self.pending = self.select(stage);
        Ok(())
    }

    async fn next(&mut self, limit: u32) -> Outcome<MemoryRows> {
        self.fuse.step()?;
        Ok(take(&mut self.pending, limit))
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

    async fn readers(&mut self, count: u32, load_snapshot: &str) -> Outcome<Vec<MemoryReader>> {
        self.fuse.step()?;
        let snapshot = self.snapshot.clone().unwrap();
        let load_snapshot = Snapshot::parse(load_snapshot);
        let reader = |_| MemoryReader {
            database: Arc::clone(&self.database),
            fuse: self.fuse.clone(),
            snapshot: snapshot.clone(),
            load_snapshot: load_snapshot.clone(),
            pending: MemoryRows::default(),
        };
        Ok((0..count).map(reader).collect())
    }

    async fn close(&mut self) -> Outcome<()> {
        self.snapshot = None;
        self.fuse.step()
    }
}

/// Reads rows by their index.
pub(crate) struct MemoryReader {
    database: Arc<Mutex<Database>>,
    fuse: Fuse,
    snapshot: Snapshot,
    load_snapshot: Snapshot,
    pending: MemoryRows,
}

impl Reader for MemoryReader {
    type Rows = MemoryRows;

    async fn start(&mut self, chunk: &Chunk) -> Outcome<()> {
        self.fuse.step()?;
        let database = self.database.lock().unwrap();
        let visible = |version: &&Version| {
            self.snapshot.sees(version.created_by)
                && self.load_snapshot.sees(version.created_by)
                && !version.removed_by.is_some_and(|xid| self.snapshot.sees(xid))
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
            .map(|version| (version.row.clone(), CountedBy::Repair))
            .collect();
        self.pending = MemoryRows { rows, deleted: false };
        Ok(())
    }

    async fn next(&mut self, limit: u32) -> Outcome<MemoryRows> {
        self.fuse.step()?;
        Ok(take(&mut self.pending, limit))
    }

    async fn finish(&mut self, _: &Chunk) -> Outcome<()> {
        self.fuse.step()
    }
}
