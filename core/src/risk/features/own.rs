//! A wallet's own transfers, read once.

use super::ExtractError;
use super::histories::HistoryCoverage;
use crate::graph::{Damaged, EdgeFilter, Graph, Interrupt, Side, Status, WalletId};

/// Transfers read on each side; of more, the first.
pub const MAX_TRANSFERS: usize = 500_000;

/// Transfers read between two cancellation checks.
const TRANSFERS_PER_CHECK: usize = 1 << 13;

/// A transfer of the wallet with another one that took effect.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnTransfer {
    /// Microseconds.
    pub(super) time: i64,
    /// Units.
    pub(super) value: u128,
    pub(super) peer: WalletId,
}

/// The transfers of one wallet.
#[derive(Debug, Default)]
pub(super) struct OwnTransfers {
    /// Receipts, in the order of time.
    pub(super) received: Vec<OwnTransfer>,
    /// Payments, in the order of time.
    pub(super) sent: Vec<OwnTransfer>,
    /// Payments tried, including failed ones and creations of contracts.
    pub(super) tried: u64,
    /// Payments that failed.
    pub(super) failed: u64,
    /// Contracts created.
    pub(super) created: u64,
    /// Transfers beyond [`MAX_TRANSFERS`].
    pub(super) left_out: u64,
    /// Value received from no wallet: rewards.
    pub(super) minted: u128,
    /// Wallets of transfers that failed, sorted: senders, then receivers.
    pub(super) failed_with: [Vec<WalletId>; 2],
}

impl OwnTransfers {
    /// Replaces the transfers by those of this wallet. O(transfers).
    pub(super) fn gather(
        &mut self,
        graph: &Graph<'_>,
        wallet: WalletId,
        filter: &EdgeFilter,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), ExtractError> {
        self.received.clear();
        self.sent.clear();
        self.failed_with.iter_mut().for_each(Vec::clear);
        (self.tried, self.failed, self.created, self.left_out, self.minted) = (0, 0, 0, 0, 0);
        let attempts = EdgeFilter { include_failed: true, ..*filter };
        let mut steps = 0;
        for side in [Side::In, Side::Out] {
            let [failed_in, failed_out] = &mut self.failed_with;
            let (list, failed_with) = match side {
                Side::In => (&mut self.received, failed_in),
                Side::Out => (&mut self.sent, failed_out),
            };
            graph.counted_transfers(wallet, side, &attempts, |transfer| -> Result<(), ExtractError> {
                steps += 1;
                if steps % TRANSFERS_PER_CHECK == 0 && interrupt.should_stop() {
                    return Err(ExtractError::Stopped);
                }
                let failed = transfer.status == Status::Failed;
                if side == Side::Out {
                    self.tried += 1;
                    self.failed += u64::from(failed);
                    // An internal transfer without a receiver is a burn or a fee.
                    let creates = transfer.peer.is_none() && transfer.position.log_index.is_none();
                    self.created += u64::from(!failed && creates);
                }
                match transfer.peer {
                    Some(peer) if !failed && peer != wallet => {
                        if list.len() == MAX_TRANSFERS {
                            self.left_out += 1;
                        } else {
                            // An amount of the native coin is below 2^127.
                            let value = u128::try_from(transfer.value)
                                .map_err(|_| Damaged { what: "value of the native coin out of range" })?;
                            list.push(OwnTransfer { time: transfer.time, value, peer });
                        }
                    }
                    None if !failed && side == Side::In => {
                        let value = u128::try_from(transfer.value).unwrap_or(u128::MAX);
                        self.minted = self.minted.saturating_add(value);
                    }
                    Some(peer) if failed && peer != wallet && failed_with.len() < MAX_TRANSFERS => {
                        failed_with.push(peer);
                    }
                    _ => {}
                }
                Ok(())
            })?;
            failed_with.sort_unstable();
            failed_with.dedup();
        }
        Ok(())
    }

    /// Returns `true` when the history is known: by a statement that the values do not contradict,
    /// or because the wallet has received something and dealt with two wallets. One that was met
    /// only through another has a history elsewhere, and so has one that spends what it never
    /// received.
    pub(super) fn is_known(
        &self,
        histories: &HistoryCoverage,
        wallet: WalletId,
        (first, last): (i64, i64),
        counterparties: usize,
    ) -> bool {
        let sum = |list: &[OwnTransfer]| list.iter().fold(0_u128, |sum, transfer| sum.saturating_add(transfer.value));
        let has_received = !self.received.is_empty() || self.minted > 0;
        histories.is_complete()
            || has_received && counterparties > 1
            || histories.states(wallet, first, last)
                && sum(&self.sent) <= sum(&self.received).saturating_add(self.minted)
    }

    /// Returns `true` for a wallet without transfers with others that took effect.
    pub(super) fn is_empty(&self) -> bool {
        self.received.is_empty() && self.sent.is_empty()
    }
}
