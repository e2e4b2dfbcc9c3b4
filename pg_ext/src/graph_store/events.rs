//! Changes of partitions since an epoch: the ranges of the tables that are to be read again.

#![allow(unsafe_code, reason = "waits for transactions")]

use std::ops::Range;

use pgrx::pg_sys;

use crate::error::SqlError;
use crate::snapshot::{Caller, next_transaction};
use crate::spi::{Epoch, Event, Table, events_since};

/// Ranges of the tables that events concern, disjoint and in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Reloads([Vec<Range<i64>>; 3]);

impl Reloads {
    fn new(events: Vec<Event>) -> Option<Self> {
        let mut reloads = Self::default();
        for event in events {
            let (table, times) = event.rows?;
            reloads.0[table as usize].push(times);
        }
        for ranges in &mut reloads.0 {
            ranges.sort_unstable_by_key(|times| times.start);
            let mut joined: Vec<Range<i64>> = Vec::new();
            for times in ranges.drain(..) {
                match joined.last_mut() {
                    Some(last) if times.start <= last.end => last.end = last.end.max(times.end),
                    _ => joined.push(times),
                }
            }
            *ranges = joined;
        }
        Some(reloads)
    }

    pub(super) fn of(&self, table: Table) -> &[Range<i64>] {
        &self.0[table as usize]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }

    /// Leaves a table out.
    pub(super) fn without(mut self, table: Table) -> Self {
        self.0[table as usize].clear();
        self
    }

    /// Takes the ranges of a table from others.
    pub(super) fn with(mut self, table: Table, others: &Self) -> Self {
        self.0[table as usize] = others.of(table).to_vec();
        self
    }

    pub(super) fn have(&self, table: Table, time: i64) -> bool {
        self.of(table).iter().any(|times| times.contains(&time))
    }
}

/// Returns the current epoch and what is to be read again since another one, by tables. `None` if
/// that is everything: an event without a range, one that was pruned, or one of the caller's own
/// transaction, which others do not see.
pub(super) fn reloads_since(epoch: &Epoch, own: Option<u64>) -> Result<Option<(Epoch, Reloads)>, SqlError> {
    let (now, events) = events_since(epoch)?;
    let is_complete = i64::try_from(events.len()).is_ok_and(|count| now.number - epoch.number == count);
    if !is_complete || events.iter().any(|event| own == Some(event.raised_by)) {
        return Ok(None);
    }
    settle(&events);
    Ok(Reloads::new(events).map(|reloads| (now, reloads)))
}

/// Waits until the transactions of events have released their locks. A transaction is visible
/// before other backends learn that a table has another partition; until then, a plan would be
/// made without it.
pub(super) fn settle(events: &[Event]) {
    let next = next_transaction();
    for event in events {
        // Ids of this transaction, and of long ago, hold no locks that matter.
        if Caller::own_transaction() != Some(event.raised_by) && next.saturating_sub(event.raised_by) < 1 << 30 {
            // SAFETY: Waits for a transaction that has committed, so not for long.
            unsafe {
                pg_sys::XactLockTableWait(
                    pg_sys::TransactionId::from(event.raised_by as u32),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    pg_sys::XLTW_Oper::XLTW_None,
                );
            }
        }
    }
}
