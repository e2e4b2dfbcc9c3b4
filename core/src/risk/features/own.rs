//! A wallet's own transfers, gathered once.

use super::ExtractError;
use crate::graph::{Damaged, EdgeFilter, Graph, Interrupt, Side, Status, WalletId};

/// Transfers looked at on each side: the first so many.
pub const MOST_TRANSFERS: usize = 500_000;

/// Transfers between two looks at the interrupt.
const STEPS: usize = 1 << 13;

/// One transfer that took effect, with somebody else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dealing {
    /// Microseconds.
    pub time: i64,
    /// Units.
    pub value: u128,
    /// With whom.
    pub peer: WalletId,
}

/// What a wallet did.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// In the order of time.
    pub received: Vec<Dealing>,
    /// In the order of time.
    pub sent: Vec<Dealing>,
    /// Payments tried, failed ones and contract creations among them.
    pub tried: u64,
    /// Payments that failed.
    pub failed: u64,
    /// Contracts created.
    pub created: u64,
    /// Transfers that were not looked at.
    pub left_out: u64,
}

impl Own {
    /// Forgets the last wallet, and looks at this one.
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
                if steps % STEPS == 0 && interrupt.should_stop() {
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
                        if list.len() == MOST_TRANSFERS {
                            self.left_out += 1;
                        } else {
                            // an amount of the native coin is below 2^127
                            let value = u128::try_from(transfer.value)
                                .map_err(|_| Damaged { what: "value of the native coin out of range" })?;
                            list.push(Dealing { time: transfer.time, value, peer });
                        }
                    }
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Whether it dealt with anybody.
    pub(super) fn is_empty(&self) -> bool {
        self.received.is_empty() && self.sent.is_empty()
    }
}
