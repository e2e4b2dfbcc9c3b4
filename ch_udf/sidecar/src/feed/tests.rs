//! Tests of the pipeline on in-memory servers: after a crash at any step, the next successful pass
//! makes the sink equal to the source.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::model::{CountedBy, HOUR_MICROS, Hour};
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
        Self { database: Arc::default(), sink, fuse }
    }

    /// Runs a pass in a process that crashes after this number of steps.
    fn pass(&self, steps: Option<u32>) -> Result<PassReport, SidecarError> {
        self.fuse.set(steps);
        let mut source = MemorySource::new(Arc::clone(&self.database), self.fuse.clone());
        let mut ledger = MemoryLedger { database: Arc::clone(&self.database), fuse: self.fuse.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run_pass(
            &mut source,
            &mut self.sink.clone(),
            &mut ledger,
            PassOptions { chunk_rows: 3, load_workers: 2, checks_sink: true },
        ))
    }

    fn check(&self) {
        let database = self.database.lock().unwrap();
        assert_eq!(self.sink.aggregate(), database.expected());
        let key = |row: &Change| (row.event_time, row.from_address.clone(), row.tx_hash.clone());
        let sink_keys: std::collections::BTreeSet<_> = self.sink.merged().iter().map(key).collect();
        assert_eq!(sink_keys, database.live());
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
    let world = World { sink: world.sink.clone(), fuse: world.fuse.clone(), database: Arc::clone(&restored.database) };
    assert!(world.pass(None).unwrap().full);
    world.check();
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
    let restored = loaded(9);
    restored.database.lock().unwrap().state = before;
    let world = World { sink: world.sink.clone(), fuse: world.fuse.clone(), database: Arc::clone(&restored.database) };
    world.commit(|database, xid| database.insert(xid, row(70)));
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn volumes_are_correct_after_random_histories(
        events in proptest::collection::vec((0_u8..7, 0_u32..40, 0_u32..30), 1..60)
    ) {
        let world = loaded(4);
        let mut open = Vec::new();
        let mut next = 100;
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
                _ => if number == 0 { world.database.lock().unwrap().truncate() },
            }
        }
        world.pass(None).unwrap();
        world.check();
    }
}
