//! Features of a wallet's counterparties: their number and the weight of each.

use super::catalogue::CounterpartyFeatures;
use super::own::OwnTransfer;
use super::values::ratio;
use crate::graph::WalletId;

/// A counterparty on one side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counterparty {
    pub(super) wallet: WalletId,
    /// Sum of the values, in units.
    pub(super) value: u128,
    pub(super) transfers: u32,
}

/// The counterparties of one side, in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Counterparties {
    keys: Vec<u64>,
    pub(super) list: Vec<Counterparty>,
}

/// Number and weight of the counterparties of one side; NaN where they are undefined.
#[derive(Debug, Clone, Copy)]
struct Concentration {
    distinct: f64,
    /// Counterparties / transfers.
    per_transfer: f64,
    /// Value of the counterparty with the largest value / value of all.
    top_share: f64,
    /// Transfers of the most frequent counterparty / transfers of all.
    top_count_share: f64,
}

impl Counterparties {
    /// Collects the counterparties of one side. O(n log n).
    pub(super) fn gather(&mut self, transfers: &[OwnTransfer]) {
        self.keys.clear();
        // The index of a transfer fits into 32 bits: `MAX_TRANSFERS` bounds it.
        self.keys
            .extend((0_u64..).zip(transfers).map(|(index, transfer)| (u64::from(transfer.peer.get()) << 32) | index));
        self.keys.sort_unstable();
        self.list.clear();
        for run in self.keys.chunk_by(|a, b| a >> 32 == b >> 32) {
            let transfers_of_run = run.iter().filter_map(|key| transfers.get((key & u64::from(u32::MAX)) as usize));
            let value = transfers_of_run.clone().fold(0_u128, |sum, transfer| sum.saturating_add(transfer.value));
            if let Some(transfer) = transfers_of_run.clone().next() {
                self.list.push(Counterparty { wallet: transfer.peer, value, transfers: run.len() as u32 });
            }
        }
    }

    fn concentration(&self, total: f64) -> Concentration {
        let transfers: u64 = self.list.iter().map(|counterparty| u64::from(counterparty.transfers)).sum();
        let (mut top_value, mut top_count) = (0_u128, 0_u32);
        for counterparty in &self.list {
            top_value = top_value.max(counterparty.value);
            top_count = top_count.max(counterparty.transfers);
        }
        let n = self.list.len() as f64;
        Concentration {
            distinct: n,
            per_transfer: ratio(n, transfers as f64),
            top_share: ratio(top_value as f64, total),
            top_count_share: ratio(f64::from(top_count), transfers as f64),
        }
    }

    /// Returns `true` for a counterparty. O(log n).
    pub(super) fn contains(&self, wallet: WalletId) -> bool {
        self.list.binary_search_by_key(&wallet, |counterparty| counterparty.wallet).is_ok()
    }

    /// Counts the wallets that are counterparties on the other side, too. O(n).
    pub(super) fn count_shared(&self, other: &Self) -> usize {
        let mut others = other.list.iter().peekable();
        let is_shared = |counterparty: &&Counterparty| {
            while others.next_if(|other| other.wallet < counterparty.wallet).is_some() {}
            others.next_if(|other| other.wallet == counterparty.wallet).is_some()
        };
        self.list.iter().filter(is_shared).count()
    }
}

/// Returns the features of both sides, given the sums of their values in units.
pub(super) fn counterparty_features(
    (senders, received_total): (&Counterparties, f64),
    (receivers, sent_total): (&Counterparties, f64),
) -> CounterpartyFeatures {
    let (from, to) = (senders.concentration(received_total), receivers.concentration(sent_total));
    let mutual = senders.count_shared(receivers) as f64;
    CounterpartyFeatures {
        senders: from.distinct,
        senders_per_receipt: from.per_transfer,
        top_sender_share: from.top_share,
        top_sender_count_share: from.top_count_share,
        receivers: to.distinct,
        receivers_per_payment: to.per_transfer,
        top_receiver_share: to.top_share,
        fan_in_share: ratio(from.distinct, from.distinct + to.distinct),
        mutual_share: ratio(mutual, from.distinct + to.distinct - mutual),
    }
}
