//! Extraction of many wallets on several threads. Each thread accumulates its own results; their
//! order is not defined.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder, ScopedJoinHandle};
use std::time::Duration;

use super::{ContactCounts, Coverage, ExtractContext, ExtractError, Extractor, FeatureRow, memory_needed};
use crate::graph::{Interrupt, WalletId};

/// Wallets that a thread takes at a time.
const CHUNK: usize = 256;

/// Wallets whose transfers are prefetched together.
pub const PREFETCH: usize = 64;

/// Polling interval while joining the other threads.
const JOIN_POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Extracts the features of many wallets on several threads.
#[derive(Debug, Clone, Copy)]
pub struct ParallelExtractor<'p> {
    /// Graph and labels.
    pub context: &'p ExtractContext<'p>,
    /// Contacts of the counterparties.
    pub contacts: &'p ContactCounts,
    /// Bytes for the extractors of all threads together.
    pub memory: usize,
    /// Threads, including the caller's; fewer are used for few wallets.
    pub threads: usize,
}

/// State that the threads share.
struct Work<'w> {
    wallets: &'w [WalletId],
    next: AtomicUsize,
    stop: AtomicBool,
    /// Wallets that need more than one thread's share of the memory.
    large: Mutex<Vec<WalletId>>,
    share: usize,
}

/// Stops the other threads when the caller's work ends, even by a panic.
struct StopOnDrop<'s>(&'s AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Stops when the flag is set, or when the inner interrupt asks for it.
struct StopFlag<'f, I> {
    flag: &'f AtomicBool,
    interrupt: I,
}

impl<I: Interrupt> Interrupt for StopFlag<'_, &mut I> {
    fn should_stop(&mut self) -> bool {
        self.flag.load(Ordering::Relaxed) || self.interrupt.should_stop()
    }
}

impl Interrupt for StopFlag<'_, ()> {
    fn should_stop(&mut self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

impl ParallelExtractor<'_> {
    /// Calls `each` once for every wallet with the accumulator of its thread, and returns the
    /// accumulators. The guard that `block_signals` returns is held while threads are started, so
    /// that they can inherit blocked signals. Only the caller's thread checks the interrupt.
    ///
    /// # Errors
    /// [`ExtractError`].
    ///
    /// # Panics
    /// When `each` does.
    pub fn extract_all<A, G>(
        &self,
        wallets: &[WalletId],
        block_signals: impl FnOnce() -> G,
        interrupt: &mut impl Interrupt,
        each: impl Fn(&mut A, WalletId, Option<(&FeatureRow, Coverage)>) + Sync,
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
            let _stop = StopOnDrop(&work.stop);
            let others: Vec<ScopedJoinHandle<'_, Result<A, ExtractError>>> = {
                let _guard = block_signals();
                let start = |_| {
                    let run = || self.run(&work, &mut StopFlag { flag: &work.stop, interrupt: () }, &each);
                    // A thread that cannot be started is missed only as time.
                    Builder::new().name("arx risk".to_owned()).spawn_scoped(scope, run).ok()
                };
                (1..threads).filter_map(start).collect()
            };
            let own = self.run(&work, &mut StopFlag { flag: &work.stop, interrupt: &mut *interrupt }, &each);
            while others.iter().any(|thread| !thread.is_finished()) {
                if interrupt.should_stop() {
                    work.stop.store(true, Ordering::Relaxed);
                }
                thread::sleep(JOIN_POLL_INTERVAL);
            }
            let others =
                others.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            collect_results(std::iter::once(own).chain(others))
        })?;
        let mut of_large = A::default();
        let mut extractor = Extractor::default();
        for wallet in work.large.into_inner().unwrap_or_else(PoisonError::into_inner) {
            if self.memory_needed(wallet) > self.memory {
                return Err(ExtractError::Memory { budget: self.memory });
            }
            let features = extractor.extract(self.context, wallet, self.contacts, interrupt)?;
            each(&mut of_large, wallet, features.as_ref().map(|(row, coverage)| (row, *coverage)));
        }
        all.push(of_large);
        Ok(all)
    }

    fn run<A: Default>(
        &self,
        work: &Work<'_>,
        interrupt: &mut impl Interrupt,
        each: impl Fn(&mut A, WalletId, Option<(&FeatureRow, Coverage)>),
    ) -> Result<A, ExtractError> {
        let (mut accumulator, mut extractor) = (A::default(), Extractor::default());
        let mut run = || -> Result<(), ExtractError> {
            loop {
                let start = work.next.fetch_add(CHUNK, Ordering::Relaxed).min(work.wallets.len());
                let chunk = work.wallets.get(start..(start + CHUNK).min(work.wallets.len())).unwrap_or_default();
                if chunk.is_empty() {
                    return Ok(());
                }
                for block in chunk.chunks(PREFETCH) {
                    self.context.graph.read_ahead(block);
                    for wallet in block {
                        if self.memory_needed(*wallet) > work.share {
                            work.large.lock().unwrap_or_else(PoisonError::into_inner).push(*wallet);
                            continue;
                        }
                        let features = extractor.extract(self.context, *wallet, self.contacts, interrupt)?;
                        each(&mut accumulator, *wallet, features.as_ref().map(|(row, coverage)| (row, *coverage)));
                    }
                }
            }
        };
        let result = run();
        if result.is_err() {
            work.stop.store(true, Ordering::Relaxed);
        }
        result.map(|()| accumulator)
    }

    fn memory_needed(&self, wallet: WalletId) -> usize {
        memory_needed(self.context.graph, wallet)
    }
}

/// Returns all results, or the first error. [`ExtractError::Stopped`] only counts without another
/// error, because an error in one thread stops the others.
fn collect_results<A>(results: impl Iterator<Item = Result<A, ExtractError>>) -> Result<Vec<A>, ExtractError> {
    let (mut all, mut first_error) = (Vec::new(), None);
    for result in results {
        match result {
            Ok(accumulator) => all.push(accumulator),
            Err(ExtractError::Stopped) => first_error = first_error.or(Some(ExtractError::Stopped)),
            Err(error) => {
                if first_error.is_none_or(|before| before == ExtractError::Stopped) {
                    first_error = Some(error);
                }
            }
        }
    }
    first_error.map_or(Ok(all), Err)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::graph::test_graph::{Patience, Sent, TestGraph};
    use crate::graph::{MemoryBudget, Uninterrupted};
    use crate::risk::features::{HistoryCoverage, LabelledWallets};

    /// The bits of the features of each wallet; `None` for a wallet without transfers.
    type Extracted = BTreeMap<WalletId, Option<Vec<u64>>>;

    fn insert_once(extracted: &mut Extracted, wallet: WalletId, features: Option<(&FeatureRow, Coverage)>) {
        let bits = features.map(|(row, _)| row.iter().map(|value| value.to_bits()).collect());
        assert!(extracted.insert(wallet, bits).is_none(), "each wallet once");
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

    fn extract_all(
        graph: &TestGraph,
        threads: usize,
        memory: usize,
        interrupt: &mut impl Interrupt,
    ) -> Result<Extracted, ExtractError> {
        let graph = graph.graph();
        let labelled = LabelledWallets::new(graph.wallets(), &mut MemoryBudget::new(1 << 20)).unwrap();
        let histories = HistoryCoverage::complete();
        let context = ExtractContext::new(&graph, None, &labelled, &histories, &mut Uninterrupted).unwrap();
        let contacts =
            ContactCounts::precompute(&context, &mut MemoryBudget::new(1 << 24), &mut Uninterrupted).unwrap();
        let extractor = ParallelExtractor { context: &context, contacts: &contacts, memory, threads };
        let wallets: Vec<WalletId> = graph.wallet_ids().collect();
        let mut blocked = 0;
        let by_thread = extractor.extract_all(&wallets, || blocked += 1, interrupt, insert_once)?;
        assert_eq!(blocked, 1);
        let mut all = Extracted::new();
        for (wallet, features) in by_thread.into_iter().flatten() {
            assert!(all.insert(wallet, features).is_none(), "each wallet once");
        }
        assert_eq!(all.len(), wallets.len());
        Ok(all)
    }

    #[test]
    fn several_threads_extract_the_same_features_as_one() {
        let graph = graph();
        let by_one = extract_all(&graph, 1, usize::MAX, &mut Uninterrupted).unwrap();
        assert_eq!(by_one.values().flatten().count(), 4_001);
        assert_eq!(extract_all(&graph, 4, usize::MAX, &mut Uninterrupted).unwrap(), by_one);
        // The largest wallet needs more than a thread's share and is extracted after the others.
        let needed = |wallet| memory_needed(&graph.graph(), wallet);
        let largest = graph.graph().wallet_ids().map(needed).max().unwrap();
        assert_eq!(extract_all(&graph, 4, 2 * largest, &mut Uninterrupted).unwrap(), by_one);
        let error = extract_all(&graph, 4, largest / 2, &mut Uninterrupted).unwrap_err();
        assert_eq!(error, ExtractError::Memory { budget: largest / 2 });
    }

    #[test]
    fn all_threads_stop_when_the_caller_is_interrupted() {
        let error = extract_all(&graph(), 3, usize::MAX, &mut Patience(1)).unwrap_err();
        assert_eq!(error, ExtractError::Stopped);
    }

    #[test]
    #[should_panic(expected = "here")]
    fn a_panic_in_a_thread_reaches_the_caller() {
        let graph = graph();
        let graph = graph.graph();
        let labelled = LabelledWallets::default();
        let histories = HistoryCoverage::complete();
        let context = ExtractContext::new(&graph, None, &labelled, &histories, &mut Uninterrupted).unwrap();
        let extractor =
            ParallelExtractor { context: &context, contacts: &ContactCounts::OnDemand, memory: usize::MAX, threads: 3 };
        let wallets: Vec<WalletId> = graph.wallet_ids().collect();
        let _ = extractor.extract_all(&wallets, || (), &mut Uninterrupted, |(): &mut (), _, _| panic!("here"));
    }
}
