//! A wallet's own transfers, read once.

use super::ExtractError;
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
        (self.tried, self.failed, self.created, self.left_out) = (0, 0, 0, 0);
        let attempts = EdgeFilter { include_failed: true, ..*filter };
        let mut steps = 0;
        for side in [Side::In, Side::Out] {
            let list = if side == Side::In { &mut self.received } else { &mut self.sent };
            graph.counted_transfers(wallet, side, &attempts, |transfer| -> Result<(), ExtractError> {
                steps += 1;
                if steps % TRANSFERS_PER_CHECK == 0 && interrupt.should_stop() {
                    return Err(ExtractError::Stopped);
                }
                let failed = transfer.status == Status::Failed;
                if side == Side::Out {
                    self.tried += 1;
                    self.failed += u64::from(failed);
                    self.created += u64::from(!failed && transfer.peer.is_none());
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
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Returns `true` for a wallet without transfers with others that took effect.
    pub(super) fn is_empty(&self) -> bool {
        self.received.is_empty() && self.sent.is_empty()
    }
}
