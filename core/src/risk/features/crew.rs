//! Many wallets, looked at by several threads. What each of them finds out is put together afterwards: no order is kept.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Builder, ScopedJoinHandle};
use std::time::Duration;

use super::{Coverage, ExtractError, Extractor, Row, Scene, Surroundings, bytes_of};
use crate::graph::{Interrupt, WalletId};

/// Wallets that a thread takes at a time.
const CHUNK: usize = 256;

/// Wallets whose transfers are read ahead together.
pub const AHEAD: usize = 64;

/// How often whoever waits looks at his interrupt.
const PATIENCE: Duration = Duration::from_millis(1);

/// Threads that look at wallets.
#[derive(Debug, Clone, Copy)]
pub struct Crew<'c> {
    /// What is looked at.
    pub scene: &'c Scene<'c>,
    /// Where contacts are found out.
    pub surroundings: &'c Surroundings,
    /// Bytes that all threads may need together.
    pub memory: usize,
    /// Threads, the caller's among them; fewer work where there is little to do.
    pub threads: usize,
}

/// What the threads share.
struct Work<'w> {
    wallets: &'w [WalletId],
    next: AtomicUsize,
    stop: AtomicBool,
    /// Wallets that need more than a thread's share of the memory.
    large: Mutex<Vec<WalletId>>,
    share: usize,
}

/// Has the others stop, whatever ends the caller's own work.
struct StopOthers<'s>(&'s AtomicBool);

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Also expired where somebody said stop.
struct Until<'u, W> {
    stop: &'u AtomicBool,
    interrupt: W,
}

impl<W: Interrupt> Interrupt for Until<'_, &mut W> {
    fn should_stop(&mut self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.interrupt.should_stop()
    }
}

impl Interrupt for Until<'_, ()> {
    fn should_stop(&mut self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Crew<'_> {
    /// Calls `each` once for every wallet, with what its thread has found so far; gives what each thread found. The threads are started
    /// while what `hush` gives is held (to keep signals from them, say). Only the caller's thread looks at the interrupt.
    ///
    /// # Errors
    /// [`ExtractError`].
    ///
    /// # Panics
    /// When `each` does.
    pub fn look_at<A, Q>(
        &self,
        wallets: &[WalletId],
        hush: impl FnOnce() -> Q,
        interrupt: &mut impl Interrupt,
        each: impl Fn(&mut A, WalletId, Option<(&Row, Coverage)>) + Sync,
    ) -> Result<Vec<A>, ExtractError>
    where
        A: Default + Send,
    {
        let threads = self.threads.min(wallets.len().div_ceil(CHUNK)).max(1);
        let work = Work {
            wallets,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            large: Mutex::default(),
            share: self.memory / threads,
        };
        let mut all = thread::scope(|scope| {
            let _stop = StopOthers(&work.stop);
            let others: Vec<ScopedJoinHandle<'_, Result<A, ExtractError>>> = {
                let _hushed = hush();
                let start = |_| {
                    let run = || self.run(&work, &mut Until { stop: &work.stop, interrupt: () }, &each);
                    // with fewer threads it takes longer
                    Builder::new().name("arx risk".to_owned()).spawn_scoped(scope, run).ok()
                };
                (1..threads).filter_map(start).collect()
            };
            let own = self.run(&work, &mut Until { stop: &work.stop, interrupt: &mut *interrupt }, &each);
            while others.iter().any(|one| !one.is_finished()) {
                if interrupt.should_stop() {
                    work.stop.store(true, Ordering::Relaxed);
                }
                thread::sleep(PATIENCE);
            }
            let others =
                others.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            settled(std::iter::once(own).chain(others))
        })?;
        let mut alone = A::default();
        let mut extractor = Extractor::default();
        for wallet in work.large.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            if self.needs(wallet) > self.memory {
                return Err(ExtractError::Memory { budget: self.memory });
            }
            let seen = extractor.look(self.scene, wallet, self.surroundings, interrupt)?;
            each(&mut alone, wallet, seen.as_ref().map(|(row, coverage)| (row, *coverage)));
        }
        all.push(alone);
        Ok(all)
    }

    fn run<A: Default>(
        &self,
        work: &Work<'_>,
        interrupt: &mut impl Interrupt,
        each: impl Fn(&mut A, WalletId, Option<(&Row, Coverage)>),
    ) -> Result<A, ExtractError> {
        let (mut found, mut extractor) = (A::default(), Extractor::default());
        let mut run = || -> Result<(), ExtractError> {
            loop {
                let start = work.next.fetch_add(CHUNK, Ordering::Relaxed).min(work.wallets.len());
                let chunk = work.wallets.get(start..(start + CHUNK).min(work.wallets.len())).unwrap_or_default();
                if chunk.is_empty() {
                    return Ok(());
                }
                for block in chunk.chunks(AHEAD) {
                    self.scene.graph.read_ahead(block);
                    for wallet in block {
                        if self.needs(*wallet) > work.share {
                            work.large.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(*wallet);
                            continue;
                        }
                        let seen = extractor.look(self.scene, *wallet, self.surroundings, interrupt)?;
                        each(&mut found, *wallet, seen.as_ref().map(|(row, coverage)| (row, *coverage)));
                    }
                }
            }
        };
        let ended = run();
        if ended.is_err() {
            work.stop.store(true, Ordering::Relaxed);
        }
        ended.map(|()| found)
    }

    fn needs(&self, wallet: WalletId) -> usize {
        bytes_of(self.scene.graph, wallet)
    }
}

/// What all found, or the first error that is more than that another one stopped them.
fn settled<A>(all: impl Iterator<Item = Result<A, ExtractError>>) -> Result<Vec<A>, ExtractError> {
    let (mut found, mut stopped) = (Vec::new(), None);
    for one in all {
        match one {
            Ok(one) => found.push(one),
            Err(ExtractError::Stopped) => stopped = stopped.or(Some(ExtractError::Stopped)),
            Err(error) => {
                if stopped.is_none_or(|before| before == ExtractError::Stopped) {
                    stopped = Some(error);
                }
            }
        }
    }
    stopped.map_or(Ok(found), Err)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::graph::test_graph::{Sent, TestGraph};
    use crate::graph::{MemoryBudget, Uninterrupted};
    use crate::risk::features::Labelled;

    type Seen = BTreeMap<WalletId, Option<Vec<u64>>>;

    fn note(found: &mut Seen, wallet: WalletId, seen: Option<(&Row, Coverage)>) {
        let bits = seen.map(|(row, _)| row.iter().map(|value| value.to_bits()).collect());
        assert!(found.insert(wallet, bits).is_none(), "each wallet once");
    }

    fn graph() -> TestGraph {
        let rows: Vec<Sent> = (0..9_000_u32)
            .map(|n| Sent {
                time: i64::from(n) * 1_000_000,
                ..Sent::coins(n * 7 % 4_001, n * 13 % 977, u128::from(n % 31))
            })
            .chain((0..3_000).map(|n| Sent { time: i64::from(n), ..Sent::coins(1, 2 + n % 990, 1) }))
            .collect();
        TestGraph::new(&rows, 500)
    }

    fn look(
        graph: &TestGraph,
        threads: usize,
        memory: usize,
        interrupt: &mut impl Interrupt,
    ) -> Result<Seen, ExtractError> {
        let graph = graph.graph();
        let labelled = Labelled::new(graph.wallets(), &mut MemoryBudget::new(1 << 20)).unwrap();
        let scene = Scene::new(&graph, None, &labelled, &mut Uninterrupted).unwrap();
        let surroundings = Surroundings::of_all(&scene, &mut MemoryBudget::new(1 << 24), &mut Uninterrupted).unwrap();
        let crew = Crew { scene: &scene, surroundings: &surroundings, memory, threads };
        let wallets: Vec<WalletId> = graph.wallet_ids().collect();
        let mut hushed = 0;
        let found = crew.look_at(&wallets, || hushed += 1, interrupt, note)?;
        assert_eq!(hushed, 1);
        let mut all = Seen::new();
        for (wallet, seen) in found.into_iter().flatten() {
            assert!(all.insert(wallet, seen).is_none(), "each wallet once");
        }
        assert_eq!(all.len(), wallets.len());
        Ok(all)
    }

    #[test]
    fn several_threads_see_what_one_sees() {
        let graph = graph();
        let alone = look(&graph, 1, usize::MAX, &mut Uninterrupted).unwrap();
        assert_eq!(alone.values().flatten().count(), 1_000);
        assert_eq!(look(&graph, 4, usize::MAX, &mut Uninterrupted).unwrap(), alone);
        // the largest wallet needs more than a thread's share, and is looked at alone
        let largest = (0..1_000).map(|wallet| bytes_of(&graph.graph(), WalletId::new(wallet))).max().unwrap();
        assert_eq!(look(&graph, 4, 2 * largest, &mut Uninterrupted).unwrap(), alone);
        let error = look(&graph, 4, largest / 2, &mut Uninterrupted).unwrap_err();
        assert_eq!(error, ExtractError::Memory { budget: largest / 2 });
    }

    struct Impatient(u32);

    impl Interrupt for Impatient {
        fn should_stop(&mut self) -> bool {
            self.0 = self.0.saturating_sub(1);
            self.0 == 0
        }
    }

    #[test]
    fn all_stop_when_the_callers_time_is_up() {
        assert_eq!(look(&graph(), 3, usize::MAX, &mut Impatient(1)).unwrap_err(), ExtractError::Stopped);
    }

    #[test]
    #[should_panic(expected = "here")]
    fn a_panic_in_a_thread_reaches_the_caller() {
        let graph = graph();
        let graph = graph.graph();
        let labelled = Labelled::default();
        let scene = Scene::new(&graph, None, &labelled, &mut Uninterrupted).unwrap();
        let crew = Crew { scene: &scene, surroundings: &Surroundings::Asked, memory: usize::MAX, threads: 3 };
        let wallets: Vec<WalletId> = graph.wallet_ids().collect();
        let _ = crew.look_at(&wallets, || (), &mut Uninterrupted, |(): &mut (), _, _| panic!("here"));
    }
}
