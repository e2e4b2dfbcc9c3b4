//! Screening: the exposure of a wallet condensed to shares by kind and one worst category.
//!
//! Reads an [`Exposed`] whose parts are labels by number (see [`Marks`](super::exposure::Marks)),
//! and weighs them: sanctions before every other category, then the larger value.

use super::exposure::{Exposed, Part};
use crate::graph::types::U256;
use crate::label::{LabelKind, SANCTIONS};

/// A category of labels at which tracing stops; its index is the number of its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScreeningCategory {
    /// Name, the key of `arx.label_categories`.
    pub name: String,
    /// Kind; `Neutral` categories do not stop tracing and do not count.
    pub kind: LabelKind,
}

/// Received or sent funds of a screened wallet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FlowSummary {
    /// Total value.
    pub total: U256,
    /// Value traced to or from sanctioned wallets.
    pub sanctions: f64,
    /// Value of transfers with illicit wallets, exact.
    pub illicit_direct: U256,
    /// Value traced to or from illicit wallets, sanctioned ones included.
    pub illicit: f64,
    /// Value traced to or from services.
    pub services: f64,
    /// Value at wallets with too many counterparties to trace through.
    pub unresolved: f64,
    /// Value beyond the maximum number of hops, at most.
    pub beyond: f64,
    /// Transfers between the wallet and the nearest illicit one.
    pub nearest_hop: Option<u32>,
    /// A wallet that the traced funds may have passed through sent more than it is known to have
    /// received.
    pub passes_shortfall: bool,
    worst: Option<Worst>,
}

/// The illicit category that weighs most. Ordered by weight.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Worst {
    sanctioned: bool,
    value: f64,
    mark: u32,
}

impl Worst {
    fn outweighs(&self, other: &Self) -> bool {
        self.sanctioned.cmp(&other.sanctioned).then(self.value.total_cmp(&other.value)).is_gt()
    }
}

impl FlowSummary {
    /// Condenses an exposure. `traced` is false where only totals and direct parts are known: then
    /// values come from the direct parts alone.
    #[must_use]
    pub fn new(exposed: &Exposed, categories: &[ScreeningCategory], traced: bool) -> Self {
        let kind = |mark: u32| categories.get(mark as usize).map(|category| category.kind);
        let (total, passes_shortfall) = (exposed.total.value, exposed.passes_shortfall);
        let mut summary = Self { total, passes_shortfall, ..Self::default() };
        let mut by_mark = vec![0.0; categories.len()];
        for (part, direct) in &exposed.direct {
            let Part::Mark(mark) = *part else { continue };
            if kind(mark) == Some(LabelKind::Illicit) {
                // A part of a total that did not overflow.
                summary.illicit_direct = summary.illicit_direct.saturating_add(direct.value);
                summary.nearest_hop = Some(1);
            }
            if !traced && let Some(sum) = by_mark.get_mut(mark as usize) {
                *sum += direct.value.as_f64();
            }
        }
        for part in &exposed.parts {
            let mark = match part.part {
                Part::Mark(mark) => mark,
                Part::FanOut => {
                    summary.unresolved += part.value;
                    continue;
                }
                Part::Hops => {
                    summary.beyond += part.value;
                    continue;
                }
                Part::Own => continue,
            };
            if kind(mark) == Some(LabelKind::Illicit) && part.value > 0.0 {
                summary.nearest_hop = Some(summary.nearest_hop.map_or(part.hops, |nearest| nearest.min(part.hops)));
            }
            if let Some(sum) = by_mark.get_mut(mark as usize) {
                *sum += part.value;
            }
        }
        for ((mark, category), value) in (0..).zip(categories).zip(by_mark) {
            if value > 0.0 {
                summary.add(mark, category, value);
            }
        }
        summary
    }

    fn add(&mut self, mark: u32, category: &ScreeningCategory, value: f64) {
        let sanctioned = category.name == SANCTIONS;
        if sanctioned {
            self.sanctions += value;
        }
        match category.kind {
            LabelKind::Service => self.services += value,
            LabelKind::Illicit => {
                self.illicit += value;
                let candidate = Worst { sanctioned, value, mark };
                if self.worst.is_none_or(|worst| candidate.outweighs(&worst)) {
                    self.worst = Some(candidate);
                }
            }
            LabelKind::Neutral => {}
        }
    }

    /// Returns a part as a share of the total, at most 1; `None` if nothing was moved.
    #[must_use]
    pub fn share(&self, part: f64) -> Option<f64> {
        // Rounding may make a whole a little more.
        (self.total > U256::ZERO).then(|| (part / self.total.as_f64()).min(1.0))
    }
}

/// A screened wallet, as far as its directions were asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScreenedWallet {
    /// Funds that it received.
    pub received: Option<FlowSummary>,
    /// Funds that it sent.
    pub sent: Option<FlowSummary>,
}

impl ScreenedWallet {
    fn flows(&self) -> impl Iterator<Item = &FlowSummary> {
        [&self.received, &self.sent].into_iter().flatten()
    }

    /// Returns the mark of the worst category in either direction: sanctions before every other
    /// category, then the larger value; among equals the one that funds were sent to.
    #[must_use]
    pub fn worst_mark(&self) -> Option<u32> {
        let heavier = |kept: Worst, next: Worst| if kept.outweighs(&next) { kept } else { next };
        self.flows().filter_map(|flow| flow.worst).reduce(heavier).map(|worst| worst.mark)
    }

    /// Returns the transfers between the wallet and the nearest illicit one in either direction.
    #[must_use]
    pub fn nearest_hop(&self) -> Option<u32> {
        self.flows().filter_map(|flow| flow.nearest_hop).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::query::exposure::{Direct, Exposure};

    const SCAM: u32 = 0;
    const SANCTIONED: u32 = 1;
    const EXCHANGE: u32 = 2;
    const HACK: u32 = 3;

    fn categories() -> Vec<ScreeningCategory> {
        let category = |name: &str, kind| ScreeningCategory { name: name.to_owned(), kind };
        vec![
            category("scam", LabelKind::Illicit),
            category(SANCTIONS, LabelKind::Illicit),
            category("exchange", LabelKind::Service),
            category("hack", LabelKind::Illicit),
        ]
    }

    fn summary(total: u128, direct: &[(u32, u128)], parts: &[(Part, u32, f64)], traced: bool) -> FlowSummary {
        let amount = |value| Direct { value: U256::new(value), transfers: 1 };
        let part = |(part, hops, value): &(Part, u32, f64)| Exposure { part: *part, hops: *hops, value: *value };
        let exposed = Exposed {
            wallet: crate::graph::WalletId::new(0),
            total: amount(total),
            direct: direct.iter().map(|(mark, value)| (Part::Mark(*mark), amount(*value))).collect(),
            parts: parts.iter().map(part).collect(),
            passes_shortfall: false,
            own_shortfall: None,
        };
        FlowSummary::new(&exposed, &categories(), traced)
    }

    #[test]
    fn shares_are_by_kind_and_sanctions_are_illicit_too() {
        let parts = [
            (Part::Mark(SCAM), 2, 10.0),
            (Part::Mark(SANCTIONED), 3, 20.0),
            (Part::Mark(EXCHANGE), 1, 40.0),
            (Part::FanOut, 2, 15.0),
            (Part::FanOut, 3, 5.0),
            (Part::Hops, 0, 10.0),
        ];
        let flow = summary(100, &[(EXCHANGE, 40)], &parts, true);
        assert_eq!((flow.illicit, flow.sanctions, flow.services, flow.unresolved), (30.0, 20.0, 40.0, 20.0));
        assert_eq!((flow.share(flow.illicit), flow.beyond), (Some(0.3), 10.0));
        assert_eq!((flow.illicit_direct, flow.nearest_hop), (U256::ZERO, Some(2)));
    }

    #[test]
    fn a_share_is_at_most_one_and_undefined_for_nothing() {
        assert_eq!(summary(100, &[], &[(Part::Mark(SCAM), 1, 100.000_001)], true).share(100.000_001), Some(1.0));
        assert_eq!(summary(0, &[], &[], true).share(0.0), None);
    }

    #[test]
    fn direct_parts_stand_in_for_what_was_not_traced() {
        let direct = [(SCAM, 30), (EXCHANGE, 50)];
        let flow = summary(100, &direct, &[], false);
        assert_eq!((flow.illicit, flow.services, flow.illicit_direct), (30.0, 50.0, U256::new(30)));
        // After tracing they are among the parts, and count once.
        let flow = summary(100, &direct, &[(Part::Mark(SCAM), 1, 30.0), (Part::Mark(EXCHANGE), 1, 50.0)], true);
        assert_eq!((flow.illicit, flow.services, flow.illicit_direct), (30.0, 50.0, U256::new(30)));
    }

    #[test]
    fn sanctions_are_the_worst_category_whatever_their_value() {
        let wallet = |received: &[(Part, u32, f64)], sent: &[(Part, u32, f64)]| ScreenedWallet {
            received: Some(summary(100, &[], received, true)),
            sent: Some(summary(100, &[], sent, true)),
        };
        let (scam, sanctioned) = ((Part::Mark(SCAM), 2, 90.0), (Part::Mark(SANCTIONED), 4, 0.5));
        assert_eq!(wallet(&[scam, sanctioned], &[]).worst_mark(), Some(SANCTIONED));
        assert_eq!(wallet(&[scam], &[sanctioned]).worst_mark(), Some(SANCTIONED));
        assert_eq!(wallet(&[sanctioned], &[scam]).worst_mark(), Some(SANCTIONED));
        assert_eq!(wallet(&[scam], &[(Part::Mark(HACK), 1, 91.0)]).worst_mark(), Some(HACK));
        assert_eq!(wallet(&[scam], &[(Part::Mark(HACK), 1, 89.0)]).worst_mark(), Some(SCAM));
    }

    #[test]
    fn among_equals_the_first_mark_of_a_direction_and_the_sent_one_win() {
        let (scam, hack) = ((Part::Mark(SCAM), 2, 5.0), (Part::Mark(HACK), 2, 5.0));
        let both = summary(100, &[], &[scam, hack], true);
        assert_eq!(ScreenedWallet { received: Some(both), sent: None }.worst_mark(), Some(SCAM));
        let (received, sent) = (summary(100, &[], &[scam], true), summary(100, &[], &[hack], true));
        assert_eq!(ScreenedWallet { received: Some(received), sent: Some(sent) }.worst_mark(), Some(HACK));
    }

    #[test]
    fn services_are_never_the_worst_category_and_have_no_hop() {
        let flow = summary(100, &[(EXCHANGE, 100)], &[(Part::Mark(EXCHANGE), 1, 100.0)], true);
        let wallet = ScreenedWallet { received: Some(flow), sent: None };
        assert_eq!((wallet.worst_mark(), wallet.nearest_hop()), (None, None));
    }

    #[test]
    fn the_nearest_hop_is_that_of_either_direction() {
        let far = summary(100, &[], &[(Part::Mark(SCAM), 4, 1.0), (Part::Mark(SCAM), 5, 0.0)], true);
        let near = summary(100, &[(HACK, 1)], &[(Part::Mark(SCAM), 2, 1.0)], true);
        assert_eq!(far.nearest_hop, Some(4));
        assert_eq!(ScreenedWallet { received: Some(far), sent: Some(near) }.nearest_hop(), Some(1));
        assert_eq!(ScreenedWallet::default().nearest_hop(), None);
    }
}
