//! Tests of the pipeline on in-memory servers: after a crash at any step, the next successful pass
//! makes the sink equal to the source.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;

use super::model::{CountedBy, HOUR_MICROS, Hour, SourceTable, TableRange};
use super::pipeline::{PassOptions, PassReport, run_pass};
use super::ports::CountingMode;
use super::twins::{Change, Database, Fuse, MemoryLedger, MemorySink, MemorySource};
use crate::error::SidecarError;

struct World {
    database: Arc<Mutex<Database>>,
    sink: MemorySink,
    fuse: Fuse,
}

impl World {
    fn new() -> Self {
        let fuse = Fuse::default();
        let sink = MemorySink { fuse: fuse.clone(), ..MemorySink::default() };
        let database = Database::default().renamed(1, "first");
        Self { database: Arc::new(Mutex::new(database)), sink, fuse }
    }

    /// Returns another database on the same sink.
    fn with(&self, database: Database) -> Self {
        Self { database: Arc::new(Mutex::new(database)), sink: self.sink.clone(), fuse: self.fuse.clone() }
    }

    fn disk_copy(&self) -> Database {
        self.database.lock().unwrap().disk_copy()
    }

    /// Runs a pass that may take the tables of another database over.
    fn pass_over(&self, take_over_from: Option<&str>) -> Result<PassReport, SidecarError> {
        self.run(None, take_over_from)
    }

    /// Runs a pass in a process that crashes after this number of steps.
    fn pass(&self, steps: Option<u32>) -> Result<PassReport, SidecarError> {
        self.run(steps, None)
    }

    fn run(&self, steps: Option<u32>, take_over_from: Option<&str>) -> Result<PassReport, SidecarError> {
        self.fuse.set(steps);
        let mut source = MemorySource::new(Arc::clone(&self.database), self.fuse.clone());
        let mut ledger = MemoryLedger { database: Arc::clone(&self.database), fuse: self.fuse.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run_pass(
            &mut source,
            &mut self.sink.clone(),
            &mut ledger,
            PassOptions {
                chunk_rows: 3,
                load_workers: 2,
                checks_sink: true,
                record_interval: Duration::ZERO,
                take_over_from,
            },
        ))
    }

    fn check(&self) {
        let database = self.database.lock().unwrap();
        assert_eq!(self.sink.aggregate(), database.expected());
        let key = |row: &Change| (row.event_time, row.from_address.clone(), row.tx_hash.clone());
        let sink_keys: std::collections::BTreeSet<_> = self.sink.merged().iter().map(key).collect();
        assert_eq!(sink_keys, database.live());
        assert_eq!(database.set_aside, database.misfits());
    }

    fn commit(&self, work: impl FnOnce(&mut Database, u64)) {
        let mut database = self.database.lock().unwrap();
        let xid = database.begin();
        work(&mut database, xid);
        database.commit(xid);
    }
}

fn row(number: u32) -> Change {
    Change {
        event_time: i64::from(number % 7) * HOUR_MICROS + i64::from(number),
        network: if number.is_multiple_of(5) { "polygon" } else { "ethereum" }.into(),
        tx_hash: format!("0x{number}"),
        from_address: format!("a{}", number % 4),
        to_address: (!number.is_multiple_of(3)).then(|| format!("b{}", number % 3)),
        value: i128::from(number),
        status: if number.is_multiple_of(4) { "failed" } else { "confirmed" }.into(),
    }
}

fn loaded(rows: u32) -> World {
    let world = World::new();
    world.commit(|database, xid| (0..rows).for_each(|number| database.insert(xid, row(number))));
    world
}

#[test]
fn the_first_pass_loads_everything_and_the_next_is_idle() {
    let world = loaded(20);
    let report = world.pass(None).unwrap();
    assert!(report.full);
    assert_eq!(report.rows, 20);
    world.check();
    assert!(world.pass(None).unwrap().is_idle());
    assert_eq!(world.database.lock().unwrap().rows_total, 20);
}

#[test]
fn views_count_only_new_rows_of_uninterrupted_attempts() {
    assert_eq!(CountingMode::PerRow.counted_by(CountedBy::View), CountedBy::View);
    assert_eq!(CountingMode::Repair.counted_by(CountedBy::View), CountedBy::Repair);
    assert_eq!(CountingMode::PerRow.counted_by(CountedBy::Repair), CountedBy::Repair);
    assert_eq!(CountingMode::Repair.counted_by(CountedBy::NoOne), CountedBy::NoOne);
    assert_eq!(CountingMode::Rebuild.counted_by(CountedBy::Repair), CountedBy::Rebuild);
}

#[test]
fn the_pass_after_a_crash_at_any_step_restores_equality() {
    let change = |row: &mut Change| {
        row.value += 1;
        row.event_time += HOUR_MICROS;
    };
    for first_load in [true, false] {
        let mut steps = 0;
        loop {
            let world = loaded(11);
            if !first_load {
                world.pass(None).unwrap();
                world.commit(|database, xid| {
                    database.replace(xid, 3, Some(change));
                    database.replace(xid, 5, None);
                    (20..25).for_each(|number| database.insert(xid, row(number)));
                });
            }
            let crashed = world.pass(Some(steps)).is_err();
            // Data changes before the next process starts.
            world.commit(|database, xid| database.replace(xid, 1, Some(change)));
            world.pass(None).unwrap();
            world.check();
            if !crashed {
                break;
            }
            steps += 1;
        }
        assert!(steps > 10, "only {steps} steps were tried");
    }
}

#[test]
fn a_late_commit_is_not_missed() {
    let world = loaded(5);
    let late = world.database.lock().unwrap().begin();
    world.database.lock().unwrap().insert(late, row(50));
    world.commit(|database, xid| database.insert(xid, row(51)));
    world.pass(None).unwrap();
    world.check();
    world.database.lock().unwrap().commit(late);
    assert_eq!(world.pass(None).unwrap().rows, 1);
    world.check();
}

#[test]
fn a_deleted_row_may_be_inserted_again() {
    let world = loaded(1);
    world.pass(None).unwrap();
    world.commit(|database, xid| database.replace(xid, 0, None));
    world.pass(None).unwrap();
    world.check();
    assert!(world.sink.aggregate().is_empty());
    world.commit(|database, xid| database.insert(xid, row(0)));
    world.pass(None).unwrap();
    world.check();
    world.commit(|database, xid| {
        database.replace(xid, 0, None);
        database.insert(xid, row(0));
    });
    world.pass(None).unwrap();
    world.check();
}

#[test]
fn changes_that_bypass_row_triggers_cause_a_full_load() {
    let world = loaded(9);
    world.pass(None).unwrap();
    world.database.lock().unwrap().truncate();
    world.commit(|database, xid| database.insert(xid, row(70)));
    assert!(world.pass(None).unwrap().full);
    world.check();
    assert_eq!(world.sink.merged().len(), 1);
}

/// The hours from one to another, the latter excluded.
fn hours(from: i64, until: i64) -> TableRange {
    let (from, until) = (Some(from * HOUR_MICROS), Some(until * HOUR_MICROS));
    TableRange { table: SourceTable::Transactions, from, until }
}

#[test]
fn partitions_that_come_and_go_cost_their_own_rows() {
    let world = loaded(30);
    world.pass(None).unwrap();
    world.database.lock().unwrap().detach(hours(2, 4));
    let report = world.pass(None).unwrap();
    assert!(!report.full && report.ranges == 1 && report.rows == 0 && report.repaired, "{report:?}");
    world.check();
    assert!(world.pass(None).unwrap().is_idle());
    world.commit(|database, xid| database.replace(xid, 1, Some(LATER)));
    world.database.lock().unwrap().attach(hours(2, 4));
    // 8 rows are back, one was changed.
    let report = world.pass(None).unwrap();
    assert!(!report.full && report.rows == 9, "{report:?}");
    world.check();
    // Both between two passes, with a row that does not fit.
    world.commit(|database, xid| database.replace(xid, 3, Some(MISFITS[0])));
    {
        let mut database = world.database.lock().unwrap();
        database.detach(hours(0, 2));
        database.detach(hours(1, 5));
        database.attach(hours(0, 1));
    }
    let report = world.pass(None).unwrap();
    assert!(!report.full && report.ranges == 1, "{report:?}");
    world.check();
    world.database.lock().unwrap().detach(TableRange { from: None, until: None, ..hours(0, 0) });
    assert!(!world.pass(None).unwrap().full);
    assert!(world.sink.merged().is_empty() && world.sink.aggregate().is_empty());
    world.check();
}

#[test]
fn the_pass_after_a_crash_at_any_step_follows_partitions() {
    for steps in 0.. {
        let world = loaded(20);
        world.pass(None).unwrap();
        world.database.lock().unwrap().detach(hours(1, 3));
        world.commit(|database, xid| (20..25).for_each(|number| database.insert(xid, row(number))));
        let crashed = world.pass(Some(steps)).is_err();
        world.database.lock().unwrap().attach(hours(1, 2));
        world.commit(|database, xid| database.replace(xid, 2, Some(LATER)));
        let report = world.pass(None).unwrap();
        assert!(!report.full, "everything was loaded again after {steps} steps");
        world.check();
        if !crashed {
            break;
        }
    }
}

#[test]
fn a_sink_that_lost_its_tables_is_loaded_again() {
    let world = loaded(9);
    world.pass(None).unwrap();
    world.sink.clear();
    assert!(world.pass(None).unwrap().full);
    world.check();
}

#[test]
fn rows_of_a_restored_database_replace_earlier_rows_of_the_sink() {
    let world = loaded(9);
    for _ in 0..5 {
        world.pass(None).unwrap();
        world.commit(|database, xid| database.replace(xid, 2, Some(|row: &mut Change| row.value += 1)));
    }
    let restored = loaded(3);
    restored.database.lock().unwrap().system = 99;
    let world = world.with(restored.disk_copy());
    assert!(matches!(world.pass(None), Err(SidecarError::ForeignTables { .. })));
    assert!(world.pass_over(Some("0/1")).unwrap().full);
    world.check();
}

const LATER: fn(&mut Change) = |row| row.value += 100;

#[test]
fn another_database_is_refused_until_it_takes_the_tables_over_on_purpose() {
    let first = loaded(9);
    first.pass(None).unwrap();
    let second = first.with(loaded(4).disk_copy().renamed(2, "second"));
    let before = first.sink.merged();
    for refused in [second.pass(None), second.pass_over(Some("0/7"))] {
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("\"first\" (0/1)") && message.contains("\"second\" (0/2)"), "{message}");
    }
    assert_eq!(first.sink.merged(), before, "nothing was written");
    first.commit(|database, xid| database.insert(xid, row(50)));
    assert!(!first.pass(None).unwrap().full);
    first.check();
    assert!(second.pass_over(Some("0/1")).unwrap().full);
    second.check();
    // The displaced database notices, also while it has nothing to feed.
    assert!(matches!(first.pass(None), Err(SidecarError::ForeignTables { .. })));
    second.commit(|database, xid| database.replace(xid, 1, Some(LATER)));
    assert!(!second.pass_over(Some("0/1")).unwrap().full, "the setting has no effect on one's own tables");
    second.check();
    assert!(first.pass_over(Some("0/2")).unwrap().full);
    first.check();
}

#[test]
fn an_upgraded_database_goes_on_where_it_was_and_a_copy_that_fell_behind_is_refused() {
    for steps in 0.. {
        let world = loaded(9);
        world.pass(None).unwrap();
        world.commit(|database, xid| database.insert(xid, row(30)));
        let old = world.with(world.disk_copy());
        let mut upgraded = world.disk_copy();
        upgraded.system = 77;
        let world = world.with(upgraded.clone());
        world.commit(|database, xid| {
            database.replace(xid, 2, Some(LATER));
            database.replace(xid, 3, None);
            database.insert(xid, row(31));
        });
        let crashed = world.pass(Some(steps)).is_err();
        let report = world.pass(None).unwrap();
        assert!(!report.full, "everything was loaded again after {steps} steps");
        world.check();
        if !crashed {
            // The old server is started again by mistake.
            assert!(matches!(old.pass(None), Err(SidecarError::ForeignTables { .. })));
            // A copy from before the last passes, with another identifier.
            upgraded.system = 78;
            assert!(matches!(world.with(upgraded).pass(None), Err(SidecarError::ForeignTables { .. })));
            break;
        }
    }
    // A truncation that was not seen, and a load that was interrupted.
    let world = loaded(9);
    assert!(world.pass(Some(12)).is_err());
    let mut upgraded = world.disk_copy();
    upgraded.system = 77;
    let world = world.with(upgraded);
    assert!(world.pass(None).unwrap().full);
    world.check();
    world.database.lock().unwrap().system = 78;
    world.database.lock().unwrap().truncate();
    assert!(world.pass(None).unwrap().full);
    world.check();
}

#[test]
fn a_promoted_standby_goes_on_if_it_knows_every_attempt() {
    let world = loaded(9);
    world.pass(None).unwrap();
    let mut standby = world.disk_copy();
    standby.timeline = 2;
    let behind = standby.clone();
    let world = world.with(standby);
    world.commit(|database, xid| database.replace(xid, 2, Some(LATER)));
    assert!(!world.pass(None).unwrap().full);
    world.check();
    // One that lacks the last attempt of the primary.
    let world = world.with(behind);
    assert!(world.pass(None).unwrap().full);
    world.check();
}

#[test]
fn a_copy_that_takes_the_name_of_its_original_is_loaded_and_not_merged() {
    let world = loaded(9);
    world.pass(None).unwrap();
    let copy = world.disk_copy().renamed(2, "first");
    world.commit(|database, xid| (30..34).for_each(|number| database.insert(xid, row(number))));
    world.pass(None).unwrap();
    let world = world.with(copy);
    world.commit(|database, xid| (40..42).for_each(|number| database.insert(xid, row(number))));
    assert!(world.pass(None).unwrap().full);
    world.check();
    assert!(!world.pass(None).unwrap().full);
}

#[test]
fn a_database_put_back_from_its_disk_is_loaded_whatever_the_sink_has_seen_since() {
    for steps in 0.. {
        let world = loaded(9);
        world.pass(None).unwrap();
        let saved = world.disk_copy();
        world.commit(|database, xid| {
            database.replace(xid, 2, Some(LATER));
            (30..34).for_each(|number| database.insert(xid, row(number)));
        });
        let crashed = world.pass(Some(steps)).is_err();
        let world = world.with(saved);
        // The same transaction numbers and attempts again, with other rows.
        world.commit(|database, xid| {
            database.replace(xid, 3, Some(LATER));
            (60..64).for_each(|number| database.insert(xid, row(number)));
        });
        world.pass(None).unwrap();
        world.check();
        if !crashed {
            break;
        }
    }
}

#[test]
fn a_sink_that_loses_power_at_any_step_holds_everything_after_the_next_pass() {
    for first_load in [true, false] {
        for steps in 0.. {
            let world = loaded(11);
            if !first_load {
                world.pass(None).unwrap();
                world.commit(|database, xid| {
                    database.replace(xid, 3, Some(LATER));
                    (20..25).for_each(|number| database.insert(xid, row(number)));
                });
            }
            let crashed = world.pass(Some(steps)).is_err();
            world.sink.lose_power();
            let confirmed = world.database.lock().unwrap().state.confirmed;
            world.pass(None).unwrap();
            world.check();
            if !crashed {
                assert_eq!(
                    world.database.lock().unwrap().state.confirmed,
                    confirmed,
                    "nothing had to be carried again"
                );
                break;
            }
        }
    }
}

#[test]
fn a_feed_whose_state_was_dropped_starts_above_what_the_sink_has_seen() {
    let world = loaded(9);
    for _ in 0..3 {
        world.pass(None).unwrap();
        world.commit(|database, xid| database.replace(xid, 2, Some(LATER)));
    }
    let seen = world.database.lock().unwrap().state.attempt;
    world.database.lock().unwrap().state = super::model::FeedState::default();
    assert!(world.pass(None).unwrap().full);
    world.check();
    assert!(world.database.lock().unwrap().state.attempt > seen);
}

#[test]
fn views_paused_by_an_interrupted_load_count_again() {
    let interrupted_after = |steps| {
        let world = loaded(9);
        world.pass(None).unwrap();
        let before = world.database.lock().unwrap().state.clone();
        world.database.lock().unwrap().truncate();
        assert!(world.pass(Some(steps)).is_err(), "no load was interrupted while the views were paused");
        (world, before)
    };
    let (world, before) =
        (0..).map(interrupted_after).find(|(world, _)| *world.sink.is_paused.lock().unwrap()).unwrap();
    // The database is restored to an earlier state, which does not include the load.
    let mut restored = loaded(9).disk_copy();
    restored.state = before;
    let world = world.with(restored);
    world.commit(|database, xid| database.insert(xid, row(70)));
    assert!(world.pass(None).unwrap().full);
    world.check();
    world.commit(|database, xid| database.insert(xid, row(71)));
    assert!(!world.pass(None).unwrap().full);
    world.check();
}

#[test]
fn an_interrupted_first_load_is_resumed() {
    let world = loaded(40);
    let mut steps = 12;
    // Each process gets a little further, and data changes in between.
    while world.pass(Some(steps)).is_err() {
        world.commit(|database, xid| database.replace(xid, 7, Some(|row: &mut Change| row.value += 1)));
        steps += 3;
    }
    let load = world.database.lock().unwrap().state.clone();
    assert!(load.load.is_none() && load.attempt > 1, "{load:?}");
    assert!(world.sink.loads_begun() == 1, "the load began more than once");
    world.check();
}

#[test]
fn requested_hours_are_loaded_again() {
    let world = loaded(20);
    world.pass(None).unwrap();
    // The feed is not informed of these changes.
    world.sink.remove_silently(|row| row.event_time < 2 * HOUR_MICROS);
    world.sink.add_silently(row(7_007));
    assert!(world.pass(None).unwrap().is_idle());
    let hours = (0..7).map(|hours| Hour { network: "ethereum".into(), hours });
    let networks = hours.clone().chain(hours.map(|hour| Hour { network: "polygon".into(), ..hour }));
    world.database.lock().unwrap().reloads.extend(networks);
    world.commit(|database, xid| database.insert(xid, row(30)));
    assert_eq!(world.pass(None).unwrap().reloaded, 14);
    world.check();
    assert!(world.database.lock().unwrap().reloads.is_empty());
}

/// Gives a row a value, or a time, that the sink cannot hold.
const MISFITS: [fn(&mut Change); 2] = [|row| row.value = -1, |row| row.event_time = -5];

#[test]
fn rows_that_the_sink_cannot_hold_are_set_aside_until_they_are_corrected_or_deleted() {
    for misfit in MISFITS {
        let world = loaded(9);
        world.commit(|database, xid| database.replace(xid, 4, Some(misfit)));
        let report = world.pass(None).unwrap();
        assert_eq!((report.rows, report.set_aside), (8, 1));
        world.check();
        // One that was fed becomes unfit, another arrives so.
        world.commit(|database, xid| {
            database.replace(xid, 2, Some(misfit));
            let mut unfit = row(60);
            misfit(&mut unfit);
            database.insert(xid, unfit);
            database.insert(xid, row(61));
        });
        let report = world.pass(None).unwrap();
        assert_eq!((report.rows, report.set_aside), (1, 3));
        world.check();
        assert_eq!(world.pass(None).unwrap().set_aside, 3, "an idle pass reports them, too");
        // The live rows are in the order of their arrival: all three are among the last five.
        world.commit(|database, xid| {
            for _ in 0..database.live_rows() {
                database.replace(
                    xid,
                    0,
                    Some(|row: &mut Change| {
                        row.value = row.value.abs();
                        row.event_time = row.event_time.abs();
                    }),
                );
            }
        });
        assert_eq!(world.pass(None).unwrap().set_aside, 0);
        world.check();
        // A row that comes and goes unfit between two passes leaves no trace.
        world.commit(|database, xid| database.replace(xid, 1, Some(misfit)));
        world.commit(|database, xid| {
            (0..database.live_rows()).for_each(|_| database.replace(xid, 0, None));
        });
        world.pass(None).unwrap();
        world.check();
    }
}

#[test]
fn a_crash_at_any_step_neither_loses_nor_invents_rows_that_are_set_aside() {
    for (misfit, first_load) in MISFITS.into_iter().flat_map(|misfit| [(misfit, true), (misfit, false)]) {
        for steps in 0.. {
            let world = loaded(11);
            if !first_load {
                world.pass(None).unwrap();
            }
            world.commit(|database, xid| {
                database.replace(xid, 3, Some(misfit));
                database.replace(xid, 5, Some(misfit));
                (20..24).for_each(|number| database.insert(xid, row(number)));
            });
            let crashed = world.pass(Some(steps)).is_err();
            world.commit(|database, xid| (0..7).for_each(|_| database.replace(xid, 7, None)));
            world.pass(None).unwrap();
            world.check();
            if !crashed {
                break;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn volumes_are_correct_after_random_histories(
        events in proptest::collection::vec((0_u8..16, 0_u32..40, 0_u32..30), 1..60)
    ) {
        let mut world = loaded(4);
        let mut saved = world.disk_copy();
        let (mut open, mut next, mut oid) = (Vec::new(), 100, 1);
        for (kind, number, steps) in events {
            match kind {
                0 => world.commit(|database, xid| { next += 1; database.insert(xid, row(next)) }),
                1 => world.commit(|database, xid| database.replace(xid, number as usize, None)),
                2 => world.commit(|database, xid| {
                    database.replace(xid, number as usize, Some(|row: &mut Change| {
                        row.value += 7;
                        row.from_address.push('x');
                    }));
                }),
                3 => {
                    let mut database = world.database.lock().unwrap();
                    let xid = database.begin();
                    next += 1;
                    database.insert(xid, row(next));
                    open.push(xid);
                }
                4 => if let Some(xid) = open.pop() { world.database.lock().unwrap().commit(xid) },
                // The pass may fail: only the state after the last pass matters.
                5 => drop(world.pass(Some(steps))),
                6 => {
                    let misfit = MISFITS[steps as usize % 2];
                    world.commit(|database, xid| database.replace(xid, number as usize, Some(misfit)));
                }
                7 => {
                    let hours = (0..7).map(|hours| Hour { network: "ethereum".into(), hours });
                    world.database.lock().unwrap().reloads.extend(hours);
                }
                8 => if number < 4 { world.database.lock().unwrap().truncate() },
                9 => saved = world.disk_copy(),
                12 => world.sink.lose_power(),
                13 | 14 => {
                    let range = hours(i64::from(number % 7), i64::from(number % 7 + steps % 3 + 1));
                    let mut database = world.database.lock().unwrap();
                    if kind == 13 { database.detach(range) } else { database.attach(range) }
                }
                // The database is put back from its disk, or a copy takes its place.
                10 | 11 => {
                    open.clear();
                    if kind == 11 {
                        oid += 1;
                        saved.oid = oid;
                    }
                    world = world.with(saved.clone());
                }
                _ => {
                    let other = world.with(loaded(number).disk_copy().renamed(99, "other"));
                    // A sink that was never fed belongs to the first source.
                    if !world.sink.marks.lock().unwrap().is_empty() {
                        let refused = matches!(other.pass(None), Err(SidecarError::ForeignTables { .. }));
                        prop_assert!(refused, "another database was not refused");
                    }
                }
            }
        }
        world.pass(None).unwrap();
        world.check();
    }
}
