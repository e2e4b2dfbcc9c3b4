//! What the pipeline promises, on in-memory servers: after any crash, the next pass that succeeds equals the truth.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::model::{Counted, HOUR_MICROS, Hour};
use super::pipeline::{PassOptions, PassReport, run_pass};
use super::ports::Counting;
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

    /// A pass of a process that ends after so many steps.
    fn pass(&self, steps: Option<u32>) -> Result<PassReport, SidecarError> {
        self.fuse.set(steps);
        let mut source = MemorySource::new(Arc::clone(&self.database), self.fuse.clone());
        let mut ledger = MemoryLedger { database: Arc::clone(&self.database), fuse: self.fuse.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run_pass(
            &mut source,
            &mut self.sink.clone(),
            &mut ledger,
            PassOptions { chunk_rows: 3, load_workers: 2, asks_sink: true },
        ))
    }

    fn check(&self) {
        let database = self.database.lock().unwrap();
        assert_eq!(self.sink.aggregate(), database.truth());
        let key = |row: &Change| (row.event_time, row.from_address.clone(), row.tx_hash.clone());
        let held: std::collections::BTreeSet<_> = self.sink.merged().iter().map(key).collect();
        assert_eq!(held, database.live());
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
fn the_first_pass_loads_everything_and_the_next_finds_nothing() {
    let world = loaded(20);
    let report = world.pass(None).unwrap();
    assert!(report.full);
    assert_eq!(report.rows, 20);
    world.check();
    assert!(world.pass(None).unwrap().is_idle());
    assert_eq!(world.database.lock().unwrap().rows_total, 20);
}

#[test]
fn only_new_rows_are_left_to_the_views_and_only_if_nothing_was_cut_off() {
    assert_eq!(Counting::AsMarked.counted(Counted::ByView), Counted::ByView);
    assert_eq!(Counting::ByRepair.counted(Counted::ByView), Counted::ByRepair);
    assert_eq!(Counting::AsMarked.counted(Counted::ByRepair), Counted::ByRepair);
    assert_eq!(Counting::ByRepair.counted(Counted::Already), Counted::Already);
    assert_eq!(Counting::ByRebuild.counted(Counted::ByRepair), Counted::ByRebuild);
}

#[test]
fn a_crash_between_any_two_steps_is_made_good() {
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
            // the world goes on before the next process starts
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
fn a_transaction_that_commits_late_is_not_missed() {
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
fn a_deleted_row_may_come_back() {
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
fn what_no_trigger_saw_leads_to_a_fresh_load() {
    let world = loaded(9);
    world.pass(None).unwrap();
    world.database.lock().unwrap().truncate();
    world.commit(|database, xid| database.insert(xid, row(70)));
    assert!(world.pass(None).unwrap().full);
    world.check();
    assert_eq!(world.sink.merged().len(), 1);
}

#[test]
fn a_sink_that_lost_its_tables_is_loaded_anew() {
    let world = loaded(9);
    world.pass(None).unwrap();
    world.sink.forget();
    assert!(world.pass(None).unwrap().full);
    world.check();
}

#[test]
fn a_restored_database_wins_over_what_the_sink_held_before() {
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
fn views_that_a_load_left_at_rest_count_again() {
    let cut_off_after = |steps| {
        let world = loaded(9);
        world.pass(None).unwrap();
        let before = world.database.lock().unwrap().stored.clone();
        world.database.lock().unwrap().truncate();
        assert!(world.pass(Some(steps)).is_err(), "no load was cut off with the views at rest");
        (world, before)
    };
    let (world, before) = (0..).map(cut_off_after).find(|(world, _)| *world.sink.is_paused.lock().unwrap()).unwrap();
    // the database is put back to before: nobody remembers the load
    let restored = loaded(9);
    restored.database.lock().unwrap().stored = before;
    let world = World { sink: world.sink.clone(), fuse: world.fuse.clone(), database: Arc::clone(&restored.database) };
    world.commit(|database, xid| database.insert(xid, row(70)));
    assert!(!world.pass(None).unwrap().full);
    world.check();
}

#[test]
fn a_first_load_that_is_cut_off_goes_on_where_it_was() {
    let world = loaded(40);
    let mut steps = 12;
    // each process gets a little further; the world goes on between them
    while world.pass(Some(steps)).is_err() {
        world.commit(|database, xid| database.replace(xid, 7, Some(|row: &mut Change| row.value += 1)));
        steps += 3;
    }
    let load = world.database.lock().unwrap().stored.clone();
    assert!(load.load.is_none() && load.attempt > 1, "{load:?}");
    assert!(world.sink.loads_begun() == 1, "the load began more than once");
    world.check();
}

#[test]
fn hours_are_loaded_again_when_somebody_asks() {
    let world = loaded(20);
    world.pass(None).unwrap();
    // what nobody told the feed of
    world.sink.lose(|row| row.event_time < 2 * HOUR_MICROS);
    world.sink.invent(row(7_007));
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
    fn whatever_happens_the_volumes_end_up_true(
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
                // cut off or not: what counts is the state after the last pass
                5 => drop(world.pass(Some(steps))),
                _ => if number == 0 { world.database.lock().unwrap().truncate() },
            }
        }
        world.pass(None).unwrap();
        world.check();
    }
}
