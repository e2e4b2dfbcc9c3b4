//! Features of the counterparties' own contacts, and of contact with labelled wallets.

use super::ExtractError;
use super::catalogue::{ExposureFeatures, NeighbourFeatures};
use super::contacts::Contacts;
use super::context::{ContactCounts, ExtractContext};
use super::counterparties::Counterparties;
use super::histories::HistoryCoverage;
use super::labelled::LabelSufficiency;
use super::values::ratio;
use crate::graph::{Graph, Interrupt, WalletId};

/// Counterparties whose contacts are counted on each side; of more, the first by address.
pub const MAX_COUNTERPARTIES: usize = 20_000;

/// Logarithms are summed as multiples of `1 / FRACTION`, so that their order does not matter.
const FRACTION: f64 = 1_048_576.0;

/// Number of logarithms that are computed in advance.
const CACHED_LOGARITHMS: u32 = 2048;

/// Logarithms of counts as multiples of `1 / FRACTION`, and a buffer for the selection.
#[derive(Debug)]
pub(super) struct ContactSummarizer {
    logarithms: Vec<u64>,
    selection: Vec<(u64, WalletId)>,
}

/// Contacts and labels of the counterparties of one side; NaN where there are no counterparties.
#[derive(Debug, Clone, Copy)]
pub(super) struct NeighbourSummary {
    fan_in: f64,
    fan_out: f64,
    largest_fan_in: f64,
    single_share: f64,
    source_share: f64,
    hub_share: f64,
    hub_value_share: f64,
    illicit: f64,
    illicit_value_share: f64,
    service_value_share: f64,
    paying_illicit: f64,
    paid_by_illicit: f64,
    /// Counterparties whose contacts were not counted.
    pub(super) left_out: usize,
    /// Share of the others whose history is covered; 1 without others.
    pub(super) covered: f64,
}

/// One side of a wallet.
#[derive(Debug, Clone, Copy)]
pub(super) struct WalletSide<'s> {
    pub(super) wallet: WalletId,
    /// Time of the first transfer of the wallet and of the last.
    pub(super) span: (i64, i64),
    pub(super) counterparties: &'s Counterparties,
    /// Sum of their values, in units.
    pub(super) total: f64,
    /// Counterparties of the other side.
    pub(super) opposite: &'s Counterparties,
    /// Wallets of transfers of the other side that failed, sorted.
    pub(super) failed_opposite: &'s [WalletId],
}

impl WalletSide<'_> {
    /// Returns `true` for a counterparty whose history is covered: by a statement, or because it
    /// has dealt with another wallet than this one.
    fn covers(&self, histories: &HistoryCoverage, counterparty: WalletId, contacts: &Contacts) -> bool {
        let is_opposite =
            || self.opposite.contains(counterparty) || self.failed_opposite.binary_search(&counterparty).is_ok();
        let all = contacts.fan_in.saturating_add(contacts.fan_out);
        all > 2 || all > 1 && !is_opposite() || histories.states(counterparty, self.span.0, self.span.1)
    }
}

impl Default for ContactSummarizer {
    fn default() -> Self {
        Self { logarithms: (0..CACHED_LOGARITHMS).map(logarithm).collect(), selection: Vec::new() }
    }
}

impl ContactSummarizer {
    /// Summarizes the counterparties of one side. Labels are read of all counterparties, contacts
    /// of at most [`MAX_COUNTERPARTIES`].
    pub(super) fn summarize(
        &mut self,
        context: &ExtractContext<'_>,
        side: &WalletSide<'_>,
        contacts: &ContactCounts,
        (interrupt, pace): (&mut impl Interrupt, &mut usize),
    ) -> Result<NeighbourSummary, ExtractError> {
        let ExtractContext { graph, labelled, histories, .. } = *context;
        let WalletSide { wallet, counterparties, total, .. } = *side;
        let last = self.last_selected(graph, counterparties);
        let mut covered = 0_u64;
        let (mut counted, mut fan_in, mut fan_out, mut largest) = (0_u64, 0_u64, 0_u64, 0_u32);
        let (mut single, mut source, mut hubs, mut paying, mut paid) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
        let (mut hub_value, mut illicit_value, mut service_value, mut illicit) = (0_u128, 0_u128, 0_u128, 0_u64);
        for counterparty in &counterparties.list {
            if labelled.is_illicit(counterparty.wallet) {
                illicit += 1;
                illicit_value = illicit_value.saturating_add(counterparty.value);
            }
            if labelled.is_service(counterparty.wallet) {
                service_value = service_value.saturating_add(counterparty.value);
            }
            if last.is_some_and(|last| graph.order(counterparty.wallet) > last) {
                continue;
            }
            let its_contacts = contacts.of_counterparty(context, counterparty.wallet, wallet, interrupt, pace)?;
            counted += 1;
            covered += u64::from(side.covers(histories, counterparty.wallet, &its_contacts));
            fan_in += self.logarithm(its_contacts.fan_in);
            fan_out += self.logarithm(its_contacts.fan_out);
            largest = largest.max(its_contacts.fan_in);
            single += u64::from(its_contacts.fan_in.saturating_add(its_contacts.fan_out) <= 1);
            source += u64::from(its_contacts.fan_in == 0);
            if its_contacts.is_hub() {
                hubs += 1;
                hub_value = hub_value.saturating_add(counterparty.value);
            }
            paying += u64::from(its_contacts.illicit_receivers > 0);
            paid += u64::from(its_contacts.illicit_senders > 0);
        }
        let n = counted as f64;
        let share = |part: u64| ratio(part as f64, n);
        Ok(NeighbourSummary {
            fan_in: ratio(fan_in as f64 / FRACTION, n),
            fan_out: ratio(fan_out as f64 / FRACTION, n),
            largest_fan_in: if counted == 0 { f64::NAN } else { f64::from(largest) },
            single_share: share(single),
            source_share: share(source),
            hub_share: share(hubs),
            hub_value_share: ratio(hub_value as f64, total),
            illicit: if counted == 0 { f64::NAN } else { illicit as f64 },
            illicit_value_share: ratio(illicit_value as f64, total),
            service_value_share: ratio(service_value as f64, total),
            paying_illicit: share(paying),
            paid_by_illicit: share(paid),
            left_out: counterparties.list.len() - counted as usize,
            covered: if counted == 0 { 1.0 } else { covered as f64 / n },
        })
    }

    /// Returns the order of the last counterparty whose contacts are counted, if there are more
    /// than [`MAX_COUNTERPARTIES`].
    fn last_selected(&mut self, graph: &Graph<'_>, counterparties: &Counterparties) -> Option<u64> {
        if counterparties.list.len() <= MAX_COUNTERPARTIES {
            return None;
        }
        self.selection.clear();
        let wallets = counterparties.list.iter().map(|counterparty| counterparty.wallet);
        self.selection.extend(wallets.map(|wallet| (graph.order(wallet), wallet)));
        Some(self.selection.select_nth_unstable(MAX_COUNTERPARTIES - 1).1.0)
    }

    #[inline]
    fn logarithm(&self, count: u32) -> u64 {
        self.logarithms.get(count as usize).copied().unwrap_or_else(|| logarithm(count))
    }
}

/// Returns `log2(1 + count)` as a multiple of `1 / FRACTION`.
fn logarithm(count: u32) -> u64 {
    libm::round(libm::log2(1.0 + f64::from(count)) * FRACTION) as u64
}

/// Returns the features of the counterparties' contacts.
pub(super) fn neighbour_features(senders: &NeighbourSummary, receivers: &NeighbourSummary) -> NeighbourFeatures {
    NeighbourFeatures {
        senders_fan_in: senders.fan_in,
        senders_fan_out: senders.fan_out,
        senders_largest_fan_in: senders.largest_fan_in,
        senders_single_share: senders.single_share,
        senders_source_share: senders.source_share,
        senders_hub_share: senders.hub_share,
        receivers_fan_in: receivers.fan_in,
        receivers_fan_out: receivers.fan_out,
        receivers_largest_fan_in: receivers.largest_fan_in,
        receivers_single_share: receivers.single_share,
        receivers_hub_share: receivers.hub_share,
        sent_to_hubs_share: receivers.hub_value_share,
    }
}

/// Returns the features of contact with labelled wallets. Where few wallets are labelled, zero
/// exposure is not evidence and is reported as undefined.
pub(super) fn exposure_features(
    senders: &NeighbourSummary,
    receivers: &NeighbourSummary,
    sufficiency: LabelSufficiency,
) -> ExposureFeatures {
    let defined = |value: f64, suffices: bool| if value > 0.0 || suffices { value } else { f64::NAN };
    let illicit = |value: f64| defined(value, sufficiency.illicit);
    let service = |value: f64| defined(value, sufficiency.services);
    ExposureFeatures {
        illicit_senders: illicit(senders.illicit),
        illicit_received_share: illicit(senders.illicit_value_share),
        illicit_receivers: illicit(receivers.illicit),
        illicit_sent_share: illicit(receivers.illicit_value_share),
        senders_paying_illicit: illicit(senders.paying_illicit),
        senders_paid_by_illicit: illicit(senders.paid_by_illicit),
        receivers_paid_by_illicit: illicit(receivers.paid_by_illicit),
        receivers_paying_illicit: illicit(receivers.paying_illicit),
        service_received_share: service(senders.service_value_share),
        service_sent_share: service(receivers.service_value_share),
    }
}
