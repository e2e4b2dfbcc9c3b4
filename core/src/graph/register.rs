//! The register of writers: a ring of transaction ids that several processes share.
//!
//! A writer enters its id before it commits, so a snapshot that sees the transaction was taken when
//! its entry existed. A reader with a snapshot S holds, in a [`Position`], how far it has read the
//! ring and the ids that S does not see yet. For a later snapshot, one of these or of the entries
//! since is seen if and only if something may have been written. Entries that the ring has lost,
//! because it is full, end that: the reader asks the tables, and begins again.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::graph::file::snapshot::Snapshot;

/// Numbers before the entries: entries given out, highest id that was lost, first id that the ring
/// is trusted for.
const HEADER: usize = 3;

/// Bits of a transaction id in an entry. A server assigns fewer in centuries.
const XID_BITS: u32 = 47;
const EVENT: u64 = 1 << XID_BITS;
const LAP_SHIFT: u32 = XID_BITS + 1;
const LAP_MASK: u64 = u64::MAX >> LAP_SHIFT;

/// The reason for which a transaction enters its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It writes rows.
    Rows,
    /// It changes partitions, which takes effect for all snapshots at once.
    Event,
}

/// The ring, in memory that writers and readers share. Zeros are an empty ring.
#[derive(Debug, Clone, Copy)]
pub struct Register<'r> {
    numbers: &'r [AtomicU64],
}

impl<'r> Register<'r> {
    /// Returns how many numbers a ring of some entries has.
    #[must_use]
    pub const fn length(entries: usize) -> usize {
        HEADER + entries
    }

    /// Interprets shared memory as a ring. `None` if it is too short.
    #[must_use]
    pub fn new(numbers: &'r [AtomicU64]) -> Option<Self> {
        (numbers.len() > HEADER).then_some(Self { numbers })
    }

    /// Trusts the ring for transactions from an id on, unless that has been done: those whose
    /// writers find this ring and no other.
    pub fn trust_from(&self, xid: u64) {
        let _ = self.numbers[2].compare_exchange(0, xid, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Enters a transaction, before it commits.
    pub fn add(&self, xid: u64, entry: Entry) {
        let position = self.numbers[0].fetch_add(1, Ordering::SeqCst);
        let slot = self.slot(position);
        // Readers look for lost entries after the ring, so this comes first.
        self.numbers[1].fetch_max(slot.load(Ordering::SeqCst) & (EVENT - 1), Ordering::SeqCst);
        let event = if entry == Entry::Event { EVENT } else { 0 };
        slot.store((self.lap_of(position) << LAP_SHIFT) | event | (xid & (EVENT - 1)), Ordering::SeqCst);
    }

    const fn entries(&self) -> u64 {
        (self.numbers.len() - HEADER) as u64
    }

    fn head(&self) -> u64 {
        self.numbers[0].load(Ordering::SeqCst)
    }

    fn slot(&self, position: u64) -> &'r AtomicU64 {
        &self.numbers[HEADER + (position % self.entries()) as usize]
    }

    /// Numbers the rounds of the ring from 1, because an entry that was never written is 0.
    const fn lap_of(&self, position: u64) -> u64 {
        (position / self.entries() + 1) & LAP_MASK
    }

    /// Calls `each` for the entries from `from` on. Returns the position up to which they are
    /// complete: an entry that was given out may not be written yet. `None` if some were lost.
    fn read(&self, from: u64, mut each: impl FnMut(u64, Entry)) -> Option<u64> {
        let head = self.head();
        let mut complete = None;
        // More entries than the ring has are lost.
        for position in from.max(head.saturating_sub(self.entries()))..head {
            let slot = self.slot(position).load(Ordering::SeqCst);
            if slot >> LAP_SHIFT == self.lap_of(position) {
                each(slot & (EVENT - 1), if slot & EVENT == 0 { Entry::Rows } else { Entry::Event });
            } else {
                complete.get_or_insert(position);
            }
        }
        let is_whole = self.head().saturating_sub(from) <= self.entries();
        is_whole.then(|| complete.unwrap_or(head))
    }
}

/// The position up to which a reader with a snapshot has read the ring.
#[derive(Debug, Clone)]
pub struct Position {
    head: u64,
    /// Transactions that the snapshot does not see, and that may have written.
    writers: Vec<u64>,
    /// Transactions that had not ended, and that may have changed partitions.
    events: Vec<u64>,
}

/// Changes that are possible since a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// A transaction that may have written rows has become visible.
    pub rows: bool,
    /// A transaction that may have changed partitions has ended.
    pub events: bool,
}

impl Position {
    /// Begins to read the ring for a reader who has read everything that a snapshot sees, and all
    /// changes of partitions of transactions that had ended. `None` if the ring cannot be trusted
    /// for that.
    #[must_use]
    pub fn begin(register: &Register<'_>, snapshot: &Snapshot) -> Option<Self> {
        let trusted_from = register.numbers[2].load(Ordering::SeqCst);
        if trusted_from == 0 || snapshot.xmin() < trusted_from {
            return None;
        }
        let running = snapshot.in_progress();
        let mut position = Self { head: 0, writers: running.to_vec(), events: running.to_vec() };
        let head = register.head();
        position.head = register.read(head.saturating_sub(register.entries()), |xid, entry| {
            if !snapshot.sees(xid) {
                position.writers.push(xid);
                if entry == Entry::Event {
                    position.events.push(xid);
                }
            }
        })?;
        // A lost entry from here on might be one that the snapshot does not see.
        let lost = register.numbers[1].load(Ordering::SeqCst);
        position.tidy();
        (lost < snapshot.xmax()).then_some(position)
    }

    /// Reads the ring for a later snapshot, for which the position then stands. `is_running`
    /// returns whether a transaction has not ended yet. `None` if entries were lost: the position
    /// is of no use any more.
    pub fn advance(
        &mut self,
        register: &Register<'_>,
        snapshot: &Snapshot,
        mut is_running: impl FnMut(u64) -> bool,
    ) -> Option<News> {
        let Self { head, writers, events } = self;
        *head = register.read(*head, |xid, entry| {
            writers.push(xid);
            if entry == Entry::Event {
                events.push(xid);
            }
        })?;
        self.tidy();
        let (pending, unfinished) = (self.writers.len(), self.events.len());
        self.writers.retain(|xid| !snapshot.sees(*xid));
        self.events.retain(|xid| is_running(*xid));
        Some(News { rows: self.writers.len() < pending, events: self.events.len() < unfinished })
    }

    fn tidy(&mut self) {
        for list in [&mut self.writers, &mut self.events] {
            list.sort_unstable();
            list.dedup();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// A step of a history of transactions, with small numbers.
    #[derive(Debug, Clone)]
    enum Step {
        Begin,
        /// A running transaction writes, or changes partitions.
        Write(usize, bool),
        Commit(usize),
        Abort(usize),
        /// A reader looks.
        Look,
        /// A reader forgets its position.
        Forget,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Begin),
            4 => (0..8_usize, prop::bool::weighted(0.2)).prop_map(|(which, is_event)| Step::Write(which, is_event)),
            4 => (0..8_usize).prop_map(Step::Commit),
            1 => (0..8_usize).prop_map(Step::Abort),
            6 => Just(Step::Look),
            1 => Just(Step::Forget),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        /// The ring reports whatever a reader may miss, or the ring is not trusted.
        #[test]
        fn a_reader_never_misses_a_writer(steps in steps(), entries in 1..12_usize, first in 1..5_u64) {
            let numbers: Vec<AtomicU64> = (0..Register::length(entries)).map(|_| AtomicU64::new(0)).collect();
            let register = Register::new(&numbers).unwrap();
            register.trust_from(first);
            let mut next = 1;
            // Running transactions, and those that have ended: whether they wrote, and whether they
            // changed partitions.
            let mut running: BTreeMap<u64, (bool, bool)> = BTreeMap::new();
            let mut committed: BTreeMap<u64, (bool, bool)> = BTreeMap::new();
            let mut latest = 0;
            let mut reader: Option<(Position, BTreeSet<u64>, BTreeSet<u64>)> = None;
            for step in steps {
                let pick = |which: usize, running: &BTreeMap<u64, (bool, bool)>| running.keys().nth(which).copied();
                match step {
                    Step::Begin => {
                        running.insert(next, (false, false));
                        next += 1;
                    }
                    Step::Write(which, is_event) => {
                        let Some(xid) = pick(which, &running) else { continue };
                        // Those from before the ring may have entered their ids elsewhere.
                        if xid >= first {
                            register.add(xid, if is_event { Entry::Event } else { Entry::Rows });
                        }
                        let state = running.get_mut(&xid).unwrap();
                        *state = (true, state.1 || is_event);
                    }
                    Step::Commit(which) => {
                        let Some(xid) = pick(which, &running) else { continue };
                        committed.insert(xid, running.remove(&xid).unwrap());
                        latest = latest.max(xid);
                    }
                    Step::Abort(which) => {
                        let Some(xid) = pick(which, &running) else { continue };
                        running.remove(&xid);
                        latest = latest.max(xid);
                    }
                    Step::Forget => reader = None,
                    Step::Look => {
                        let snapshot = Snapshot::new(latest + 1, running.keys().copied().collect());
                        let all_of = |is_meant: fn(&(bool, bool)) -> bool| -> BTreeSet<u64> {
                            committed.iter().filter(|(_, state)| is_meant(state)).map(|(xid, _)| *xid).collect()
                        };
                        let (wrote, events) = (all_of(|state| state.0), all_of(|state| state.1));
                        let news = reader.as_mut().and_then(|(position, ..)| {
                            position.advance(&register, &snapshot, |xid| running.contains_key(&xid))
                        });
                        if let (Some(news), Some((_, rows_read, events_read))) = (news, &mut reader) {
                            prop_assert!(news.rows || wrote == *rows_read, "{wrote:?} {rows_read:?}");
                            prop_assert!(news.events || events == *events_read, "{events:?} {events_read:?}");
                            (*rows_read, *events_read) = (wrote, events);
                        } else {
                            // The reader asks the tables.
                            let position = Position::begin(&register, &snapshot);
                            reader = position.map(|position| (position, wrote, events));
                        }
                    }
                }
            }
        }

        #[test]
        fn a_reader_without_writers_does_not_ask(before in 0..20_u64, others in 1..40_u64) {
            let numbers: Vec<AtomicU64> = (0..Register::length(8)).map(|_| AtomicU64::new(0)).collect();
            let register = Register::new(&numbers).unwrap();
            register.trust_from(1);
            for xid in 1..=before {
                register.add(xid, Entry::Rows);
            }
            let mut position = Position::begin(&register, &Snapshot::new(before + 1, Vec::new())).unwrap();
            for xid in before + 1..before + others {
                let news = position.advance(&register, &Snapshot::new(xid, Vec::new()), |_| false);
                prop_assert_eq!(news, Some(News { rows: false, events: false }));
            }
        }
    }

    #[test]
    fn an_entry_that_is_not_written_yet_is_read_later() {
        let numbers: Vec<AtomicU64> = (0..Register::length(4)).map(|_| AtomicU64::new(0)).collect();
        let register = Register::new(&numbers).unwrap();
        register.trust_from(1);
        let mut position = Position::begin(&register, &Snapshot::new(3, Vec::new())).unwrap();
        // A writer has been given an entry, and is held up.
        let held = register.numbers[0].fetch_add(1, Ordering::SeqCst);
        register.add(4, Entry::Rows);
        let none = Some(News { rows: false, events: false });
        assert_eq!(position.advance(&register, &Snapshot::new(3, Vec::new()), |_| true), none);
        register.slot(held).store((register.lap_of(held) << LAP_SHIFT) | 3, Ordering::SeqCst);
        let news = position.advance(&register, &Snapshot::new(4, Vec::new()), |_| true);
        assert_eq!(news, Some(News { rows: true, events: false }));
    }
}
