//! Statements of coverage that the transfers contradict.

use super::features::{ExtractError, HistoryCoverage};
use crate::graph::{AssetSelection, EdgeFilter, Graph, Interrupt, Side, U256, WalletId};

/// Transfers read between two cancellation checks.
const TRANSFERS_PER_CHECK: usize = 1 << 13;

/// A wallet whose history is stated to be complete, and that spends more than it received: some
/// receipts are not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoverageConflict {
    /// The wallet.
    pub wallet: WalletId,
    /// Sum of the values received, in units of the native coin.
    pub received: U256,
    /// Sum of the values sent, without fees.
    pub sent: U256,
}

/// Returns the wallets whose transfers contradict a statement, in the order given. O(transfers).
///
/// # Errors
/// [`ExtractError::Stopped`] when the interrupt asks for it, [`ExtractError::Damaged`].
pub fn coverage_conflicts(
    graph: &Graph<'_>,
    wallets: impl IntoIterator<Item = WalletId>,
    histories: &HistoryCoverage,
    interrupt: &mut impl Interrupt,
) -> Result<Vec<CoverageConflict>, ExtractError> {
    let filter = EdgeFilter::history(AssetSelection::Native, None);
    let (mut conflicts, mut steps) = (Vec::new(), 0_usize);
    for wallet in wallets {
        let mut sums = [U256::ZERO; 2];
        let mut span: Option<(i64, i64)> = None;
        for (side, sum) in [Side::In, Side::Out].into_iter().zip(&mut sums) {
            graph.counted_transfers(wallet, side, &filter, |transfer| -> Result<(), ExtractError> {
                steps += 1;
                if steps.is_multiple_of(TRANSFERS_PER_CHECK) && interrupt.should_stop() {
                    return Err(ExtractError::Stopped);
                }
                let (first, last) = span.unwrap_or((transfer.time, transfer.time));
                span = Some((first.min(transfer.time), last.max(transfer.time)));
                if transfer.peer != Some(wallet) {
                    *sum = sum.saturating_add(transfer.value);
                }
                Ok(())
            })?;
        }
        let [received, sent] = sums;
        if let Some((first, last)) = span
            && sent > received
            && histories.states(wallet, first, last)
        {
            conflicts.push(CoverageConflict { wallet, received, sent });
        }
    }
    Ok(conflicts)
}

#[cfg(test)]
mod tests {
    use super::super::features::Period;
    use super::*;
    use crate::graph::Uninterrupted;
    use crate::graph::test_graph::{Patience, Sent, TestGraph};

    #[test]
    fn a_covered_wallet_that_spends_what_it_never_received_is_a_conflict() {
        let rows: Vec<Sent> = [(1, 2, 10, 5), (2, 3, 20, 4), (2, 1, 30, 2), (3, 3, 40, 9)]
            .map(|(from, to, time, value)| Sent { time, ..Sent::coins(from, to, value) })
            .to_vec();
        let graph = TestGraph::new(&rows, 2);
        let conflicts = |wallet: Option<u32>, from| {
            let mut histories = HistoryCoverage::default();
            histories.state(wallet.map(|wallet| graph.wallet(wallet)), Period { from, to: i64::MAX });
            let wallets = (1..=3).map(|wallet| graph.wallet(wallet));
            let found = coverage_conflicts(&graph.graph(), wallets, &histories, &mut Uninterrupted).unwrap();
            let number =
                |conflict: &CoverageConflict| (graph.number(conflict.wallet), conflict.received, conflict.sent);
            found.iter().map(number).collect::<Vec<_>>()
        };
        let first = (1, U256::from(2_u64), U256::from(5_u64));
        let second = (2, U256::from(5_u64), U256::from(6_u64));
        assert_eq!(conflicts(None, i64::MIN), [first, second], "a transfer to the wallet itself moves nothing");
        assert_eq!(conflicts(Some(2), 10), [second]);
        assert_eq!(conflicts(Some(2), 11), [], "what came before is not stated");
    }

    #[test]
    fn it_stops_when_interrupted() {
        let rows: Vec<Sent> = (0..20_000).map(|n| Sent { time: n, ..Sent::coins(1, 2, 1) }).collect();
        let graph = TestGraph::new(&rows, 2);
        let wallets = [graph.wallet(1)];
        let stopped = coverage_conflicts(&graph.graph(), wallets, &HistoryCoverage::default(), &mut Patience(0));
        assert_eq!(stopped.unwrap_err(), ExtractError::Stopped);
    }
}
