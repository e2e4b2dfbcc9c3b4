//! What a scorecard looks at: some seventy numbers that describe what a wallet does and whom it deals with.
//!
//! They tell of shapes: how values, times and counterparties are distributed, how long value stays, who the counterparties deal with, and who
//! of them is labelled. Nothing here knows the calendar, block numbers or fees: times are counted from the wallet's own first transfer. The
//! native coin is what counts; transfers that failed, and those to itself, moved nothing.
//!
//! A feature is `f64`, and NaN where it is undefined: a share of nothing, a pause of a single transfer, contact with the labelled where hardly
//! anybody is. Sums are exact or run in an order that the data alone determine, so that the same history gives the same bits in every place:
//! wallets' numbers and the order of transfers of one time do not matter.

mod catalogue;
mod contacts;
mod crew;
mod holding;
mod labelled;
mod own;
mod peers;
mod surroundings;
#[cfg(test)]
mod tests;
mod times;
mod values;

use thiserror::Error;

use crate::graph::{AssetSelection, Damaged, EdgeFilter, Graph, Interrupt, Side, WalletId};
use contacts::step;
use holding::holding;
use own::Own;
use peers::{Around, Logarithms, Peers};
use times::{Times, centre, seconds, span};
use values::{Values, ratio};

pub use catalogue::{FEATURES, Feature, FeatureSpec, NAMES, Proof, Unit, spec_of};
pub use contacts::{Contacts, HUB, contacts_of};
pub use crew::{AHEAD, Crew};
pub use labelled::{ENOUGH_ILLICIT, ENOUGH_SERVICES, Enough, Labelled};
pub use own::MOST_TRANSFERS;
pub use peers::MOST_PEERS;
pub use surroundings::{Scene, Surroundings};

/// The features of a wallet, in the order of [`NAMES`].
pub type Row = [f64; NAMES.len()];

/// What stopped the look at a wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ExtractError {
    /// The time allowed was used up.
    #[error("max_time reached")]
    Stopped,
    /// It does not fit into the memory allowed.
    #[error("risk features need more than {budget} bytes of memory")]
    Memory {
        /// Bytes allowed.
        budget: usize,
    },
    /// The graph does not hold together.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// How much of a wallet was looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coverage {
    /// Of its transfers.
    pub transfers: f64,
    /// Of its counterparties.
    pub counterparties: f64,
}

impl Coverage {
    /// All of it.
    pub const FULL: Self = Self { transfers: 1.0, counterparties: 1.0 };

    /// The smaller of the two.
    #[must_use]
    pub fn least(&self) -> f64 {
        self.transfers.min(self.counterparties)
    }
}

/// Looks at wallets, one after the other; its room is used again.
#[derive(Debug, Default)]
pub struct Extractor {
    own: Own,
    values: Values,
    times: Times,
    senders: Peers,
    receivers: Peers,
    logarithms: Logarithms,
    pace: usize,
}

/// What an [`Extractor`] may need for a wallet with this many transfers.
#[must_use]
pub const fn bytes_for(transfers: usize) -> usize {
    let kept = if transfers > 2 * MOST_TRANSFERS { 2 * MOST_TRANSFERS } else { transfers };
    kept * 144
}

/// The same for a wallet of a graph.
#[must_use]
pub fn bytes_of(graph: &Graph<'_>, wallet: WalletId) -> usize {
    bytes_for(graph.transfer_count(wallet, Side::In) + graph.transfer_count(wallet, Side::Out))
}

impl Extractor {
    /// The features of a wallet before a time; `None` if it dealt with nobody. O(n log n) for n transfers, and the contacts of its
    /// counterparties that are no hubs.
    ///
    /// # Errors
    /// [`ExtractError::Stopped`] when the watch says so, [`ExtractError::Damaged`].
    pub fn look(
        &mut self,
        scene: &Scene<'_>,
        wallet: WalletId,
        surroundings: &Surroundings,
        interrupt: &mut impl Interrupt,
    ) -> Result<Option<(Row, Coverage)>, ExtractError> {
        let Scene { graph, until, enough, .. } = *scene;
        self.own.gather(graph, wallet, &EdgeFilter::history(AssetSelection::Native, until), interrupt)?;
        if self.own.is_empty() {
            return Ok(None);
        }
        let (received, sent) = (&self.own.received, &self.own.sent);
        step(&mut self.pace, received.len() + sent.len(), interrupt)?;
        let mut row = [f64::NAN; NAMES.len()];
        let mut set = |feature: Feature, value: f64| {
            if let Some(place) = row.get_mut(feature as usize) {
                *place = value;
            }
        };
        let (ins, outs) = (received.len() as f64, sent.len() as f64);
        set(Feature::Transactions, ins + outs);
        set(Feature::ReceivedCountShare, ratio(ins, ins + outs));
        set(Feature::ContractsCreated, self.own.created as f64);
        set(Feature::FailedShare, ratio(self.own.failed as f64, self.own.tried as f64));

        let values = self.values.look(received);
        let received_total = values.total;
        set(Feature::ReceivedTotal, received_total / COIN);
        set(Feature::ReceivedMean, values.mean);
        set(Feature::ReceivedMedian, values.median);
        set(Feature::ReceivedMin, values.least);
        set(Feature::ReceivedVariation, values.variation);
        set(Feature::ReceivedTopShare, values.top_share);
        set(Feature::ReceivedCommonShare, values.common_share);
        set(Feature::ReceivedEntropy, values.entropy);
        set(Feature::ReceivedRoundShare, values.round_share);
        set(Feature::ReceivedShortShare, values.short_share);
        set(Feature::ReceivedDustShare, values.dust_share);
        let values = self.values.look(sent);
        let sent_total = values.total;
        set(Feature::SentReceivedRatio, ratio(sent_total, received_total));
        set(Feature::SentMedian, values.median);
        set(Feature::SentMin, values.least);
        set(Feature::SentVariation, values.variation);
        set(Feature::SentTopShare, values.top_share);
        set(Feature::SentCommonShare, values.common_share);
        set(Feature::SentRoundShare, values.round_share);
        set(Feature::SentEmptyShare, values.empty_share);
        step(&mut self.pace, received.len() + sent.len(), interrupt)?;

        let rhythm = self.times.look(received, sent);
        set(Feature::Lifetime, rhythm.lifetime);
        set(Feature::ReceivedSpan, span(received));
        set(Feature::SentSpan, span(sent));
        set(Feature::ReceivedSpanShare, ratio(span(received), rhythm.lifetime));
        set(Feature::SentCentre, ratio(centre(sent, rhythm.first), rhythm.lifetime));
        set(Feature::ActiveDays, rhythm.active_days);
        set(Feature::GapMean, rhythm.gap_mean);
        set(Feature::GapMedian, rhythm.gap_median);
        set(Feature::GapShort, rhythm.gap_short);
        set(Feature::GapVariation, rhythm.gap_variation);
        set(Feature::GapLongestShare, rhythm.gap_longest_share);
        set(Feature::ReceivedGapMedian, self.times.gap_median(received));
        set(Feature::SentGapMedian, self.times.gap_median(sent));
        set(Feature::OnwardDelay, self.times.onward_delay(received, sent));
        if let (Some(last_in), Some(last_out)) = (received.last(), sent.last()) {
            let delay = seconds(last_in.time, last_out.time) - seconds(last_out.time, last_in.time);
            set(Feature::LastSentDelay, delay);
        }
        let held = holding(received, sent, received_total);
        set(Feature::HoldingTime, held.mean);
        set(Feature::PassedOnShare, held.within_day);
        set(Feature::UnspentShare, held.unspent);
        step(&mut self.pace, received.len() + sent.len(), interrupt)?;

        self.senders.gather(received);
        self.receivers.gather(sent);
        let from = self.senders.concentration(received_total);
        let to = self.receivers.concentration(sent_total);
        set(Feature::Senders, from.distinct);
        set(Feature::SendersPerReceipt, from.per_transfer);
        set(Feature::TopSenderShare, from.top_share);
        set(Feature::TopSenderCountShare, from.top_count_share);
        set(Feature::Receivers, to.distinct);
        set(Feature::ReceiversPerPayment, to.per_transfer);
        set(Feature::TopReceiverShare, to.top_share);
        set(Feature::FanInShare, ratio(from.distinct, from.distinct + to.distinct));
        let mutual = self.senders.shared(&self.receivers) as f64;
        set(Feature::MutualShare, ratio(mutual, from.distinct + to.distinct - mutual));
        step(&mut self.pace, received.len() + sent.len(), interrupt)?;

        let logarithms = &self.logarithms;
        let pace = &mut self.pace;
        let mut around = |peers: &mut Peers, total| {
            peers.around(scene, wallet, total, surroundings, logarithms, (&mut *interrupt, &mut *pace))
        };
        let (from, to) = (around(&mut self.senders, received_total)?, around(&mut self.receivers, sent_total)?);
        set(Feature::SendersFanIn, from.fan_in);
        set(Feature::SendersFanOut, from.fan_out);
        set(Feature::SendersLargestFanIn, from.largest_fan_in);
        set(Feature::SendersSingleShare, from.single_share);
        set(Feature::SendersSourceShare, from.source_share);
        set(Feature::SendersHubShare, from.hub_share);
        set(Feature::ReceiversFanIn, to.fan_in);
        set(Feature::ReceiversFanOut, to.fan_out);
        set(Feature::ReceiversLargestFanIn, to.largest_fan_in);
        set(Feature::ReceiversSingleShare, to.single_share);
        set(Feature::ReceiversHubShare, to.hub_share);
        set(Feature::SentToHubsShare, to.hub_value_share);
        // that nobody labelled is met says nothing where hardly anybody is labelled
        let met = |value: f64, enough: bool| if value > 0.0 || enough { value } else { f64::NAN };
        let illicit = enough.illicit;
        set(Feature::IllicitSenders, met(from.illicit, illicit));
        set(Feature::IllicitReceivedShare, met(from.illicit_value_share, illicit));
        set(Feature::IllicitReceivers, met(to.illicit, illicit));
        set(Feature::IllicitSentShare, met(to.illicit_value_share, illicit));
        set(Feature::SendersPayingIllicit, met(from.paying_illicit, illicit));
        set(Feature::SendersPaidByIllicit, met(from.paid_by_illicit, illicit));
        set(Feature::ReceiversPaidByIllicit, met(to.paid_by_illicit, illicit));
        set(Feature::ReceiversPayingIllicit, met(to.paying_illicit, illicit));
        let services = enough.services;
        set(Feature::ServiceReceivedShare, met(from.service_value_share, services));
        set(Feature::ServiceSentShare, met(to.service_value_share, services));
        let coverage = self.coverage(&from, &to);
        Ok(Some((row, coverage)))
    }

    fn coverage(&self, from: &Around, to: &Around) -> Coverage {
        let looked = (self.own.received.len() + self.own.sent.len()) as f64;
        let peers = (self.senders.list.len() + self.receivers.list.len()) as f64;
        let left_out = (from.left_out + to.left_out) as f64;
        Coverage {
            transfers: looked / (looked + self.own.left_out as f64),
            counterparties: if peers > 0.0 { (peers - left_out) / peers } else { 1.0 },
        }
    }
}

/// Units of a coin.
const COIN: f64 = 1e18;
