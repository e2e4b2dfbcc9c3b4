//! Features of a wallet: some seventy numbers that describe its behaviour and its counterparties.
//!
//! They describe shapes: how values, times and counterparties are distributed, how long value
//! stays, whom the counterparties deal with, and which of them are labelled. No feature knows the
//! calendar, block numbers or fees: times are counted from the wallet's own first transfer. Only
//! the native coin counts; transfers that failed, and those to the wallet itself, moved nothing.
//!
//! A feature is an `f64`, and NaN where it is undefined: a share of nothing, a pause of a single
//! transfer, contact with labelled wallets where few wallets are labelled. It is marked by
//! [`not_covered`] where the histories that it depends on were not loaded. Sums are exact or run
//! in an order that the data alone determine, so the same history gives the same bits everywhere:
//! neither the ids of wallets nor the order of transfers with the same time matter.

mod catalogue;
mod contacts;
mod context;
mod counterparties;
mod histories;
mod holding;
mod labelled;
mod neighbours;
mod own;
mod parallel;
#[cfg(test)]
mod tests;
mod times;
mod values;
#[cfg(test)]
mod worked_example;

use thiserror::Error;

use crate::graph::{AssetSelection, Damaged, EdgeFilter, Graph, Interrupt, Side, WalletId};
use crate::risk::scorecard::not_covered;
use catalogue::FeatureValues;
use contacts::step;
use counterparties::{Counterparties, counterparty_features};
use holding::holding_features;
use neighbours::{ContactSummarizer, WalletSide, exposure_features, neighbour_features};
use own::OwnTransfers;
use times::Times;
use values::{Values, transfer_features};

pub use catalogue::{Basis, EvidenceKind, FEATURES, Family, Feature, FeatureSpec, FeatureUnit, NAMES, Topic};
pub use contacts::{Contacts, HUB_CONTACTS, count_contacts};
pub use context::{ContactCounts, ExtractContext};
pub use histories::{HistoryCoverage, Period};
pub use labelled::{LabelSufficiency, LabelledWallets, MIN_ILLICIT, MIN_SERVICES};
pub use neighbours::MAX_COUNTERPARTIES;
pub use own::MAX_TRANSFERS;
pub use parallel::{PREFETCH, ParallelExtractor};

/// The features of a wallet, in the order of [`NAMES`].
pub type FeatureRow = [f64; NAMES.len()];

/// Reason why the features of a wallet could not be extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ExtractError {
    /// The caller cancelled, or the time allowed was used up.
    #[error("max_time reached")]
    Stopped,
    /// The transfers do not fit into the memory allowed.
    #[error("risk features need more than {budget} bytes of memory")]
    Memory {
        /// Bytes allowed.
        budget: usize,
    },
    /// The graph is damaged.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// Shares of the histories that a wallet's features cover.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coverage {
    /// Share of its transfers that were read, 0 to 1.
    pub transfers: f64,
    /// Share of its counterparties whose contacts were counted, 0 to 1.
    pub counterparties: f64,
    /// `true` when its own history is known.
    pub own: bool,
    /// Share of its senders whose own histories are known, 0 to 1.
    pub senders: f64,
    /// Share of its receivers whose own histories are known, 0 to 1.
    pub receivers: f64,
}

impl Coverage {
    /// Full coverage.
    pub const FULL: Self = Self { transfers: 1.0, counterparties: 1.0, own: true, senders: 1.0, receivers: 1.0 };

    /// Returns the share that was read of what is here, the smaller one of transfers and contacts.
    #[must_use]
    pub fn read(&self) -> f64 {
        self.transfers.min(self.counterparties)
    }

    /// Returns the share of the histories known that features of a basis depend on, 0 to 1.
    #[must_use]
    pub fn known(&self, basis: Basis) -> f64 {
        let own = f64::from(u8::from(self.own));
        match basis {
            Basis::Own => own,
            Basis::Senders => own.min(self.senders),
            Basis::Receivers => own.min(self.receivers),
            Basis::Labels => 1.0,
        }
    }
}

/// Extracts the features of one wallet after the other; buffers are reused.
#[derive(Debug, Default)]
pub struct Extractor {
    own: OwnTransfers,
    values: Values,
    times: Times,
    senders: Counterparties,
    receivers: Counterparties,
    summarizer: ContactSummarizer,
    pace: usize,
}

/// Returns an upper bound of the bytes that an [`Extractor`] needs for a wallet with this many
/// transfers.
#[must_use]
const fn bytes_for(transfers: usize) -> usize {
    let kept = if transfers > 2 * MAX_TRANSFERS { 2 * MAX_TRANSFERS } else { transfers };
    kept * 144
}

/// Returns an upper bound of the bytes that an [`Extractor`] needs for a wallet of a graph.
#[must_use]
pub fn memory_needed(graph: &Graph<'_>, wallet: WalletId) -> usize {
    bytes_for(graph.transfer_count(wallet, Side::In) + graph.transfer_count(wallet, Side::Out))
}

impl Extractor {
    /// Returns the features of a wallet before a time, or `None` if it has no transfers with
    /// others. O(n log n) for n transfers, plus the contacts of the counterparties that are not
    /// hubs.
    ///
    /// # Errors
    /// [`ExtractError::Stopped`] when the interrupt asks for it, [`ExtractError::Damaged`].
    pub fn extract(
        &mut self,
        context: &ExtractContext<'_>,
        wallet: WalletId,
        contacts: &ContactCounts,
        interrupt: &mut impl Interrupt,
    ) -> Result<Option<(FeatureRow, Coverage)>, ExtractError> {
        let history = EdgeFilter::history(AssetSelection::Native, context.until);
        self.own.gather(context.graph, wallet, &history, interrupt)?;
        if self.own.is_empty() {
            return Ok(None);
        }
        let Self { own, values, times, senders, receivers, summarizer, pace } = self;
        let transfers = own.received.len() + own.sent.len();
        step(pace, transfers, interrupt)?;
        let (received, sent) = (values.distribution(&own.received), values.distribution(&own.sent));
        step(pace, transfers, interrupt)?;
        let timing = times.features(&own.received, &own.sent);
        let holding = holding_features(&own.received, &own.sent, received.total);
        step(pace, transfers, interrupt)?;
        senders.gather(&own.received);
        receivers.gather(&own.sent);
        let counterparties = counterparty_features((senders, received.total), (receivers, sent.total));
        step(pace, transfers, interrupt)?;
        let times_of =
            || [own.received.first(), own.sent.first(), own.received.last(), own.sent.last()].into_iter().flatten();
        let first = times_of().map(|transfer| transfer.time).min().unwrap_or_default();
        let last = times_of().map(|transfer| transfer.time).max().unwrap_or_default();
        let [failed_in, failed_out] = &own.failed_with;
        let from = WalletSide {
            wallet,
            span: (first, last),
            counterparties: senders,
            total: received.total,
            opposite: receivers,
            failed_opposite: failed_out,
        };
        let to = WalletSide {
            counterparties: receivers,
            total: sent.total,
            opposite: senders,
            failed_opposite: failed_in,
            ..from
        };
        let mut summarize = |side| summarizer.summarize(context, side, contacts, (&mut *interrupt, &mut *pace));
        let (around_senders, around_receivers) = (summarize(&from)?, summarize(&to)?);
        let features = FeatureValues {
            transfers: transfer_features(own, &received, &sent),
            timing,
            holding,
            counterparties,
            neighbours: neighbour_features(&around_senders, &around_receivers),
            exposure: exposure_features(&around_senders, &around_receivers, context.sufficiency),
        };
        let wallets = senders.list.len() + receivers.list.len();
        let left_out = around_senders.left_out + around_receivers.left_out;
        let distinct = wallets - senders.count_shared(receivers);
        let coverage = Coverage {
            transfers: transfers as f64 / (transfers as f64 + own.left_out as f64),
            counterparties: if wallets > 0 { (wallets - left_out) as f64 / wallets as f64 } else { 1.0 },
            own: own.is_known(context.histories, wallet, (first, last), distinct),
            senders: around_senders.covered,
            receivers: around_receivers.covered,
        };
        let mut row = FeatureRow::from(features);
        for (value, feature) in row.iter_mut().zip(FEATURES) {
            // One counterparty whose history is known is enough for the features of its side.
            if coverage.known(feature.basis) == 0.0 {
                *value = not_covered(*value);
            }
        }
        Ok(Some((row, coverage)))
    }
}
