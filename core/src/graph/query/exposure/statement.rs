//! The exposure of one wallet as a statement of account: a line for each category of labels, direct
//! and indirect, then a line for each remainder that no label accounts for.
//!
//! Direct lines are exact sums of transfers, indirect ones are shares of a balance and therefore
//! rounded. Where there is a remainder, the last one takes the rounding, so that the lines add up
//! to the total to the last unit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{Exposed, Exposure, Part, whole_units};
use crate::graph::query::trace::Flow;
use crate::graph::types::{U256, WalletId};
use crate::label::{LabelKind, SANCTIONS, Severity};

/// The label by which a statement classifies a counterparty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartyLabel<'a> {
    /// Category of the label.
    pub category: &'a str,
    /// Kind of the category.
    pub kind: LabelKind,
    /// Severity of the label.
    pub severity: Severity,
}

/// Heading of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Heading {
    /// The wallet moved nothing within the window.
    Nothing,
    /// Transfers with labelled wallets.
    Direct,
    /// Funds that passed through unlabelled wallets on the way.
    Indirect,
    /// A labelled wallet's own funds, returned to it.
    OwnFunds,
    /// Funds sent to contracts that the transfer created.
    ContractCreation,
    /// Funds at a wallet with more counterparties than tracing passes through.
    FanOut,
    /// Funds further away than tracing goes.
    Hops,
    /// Received funds that no transfer explains.
    SourceUnknown,
    /// Sent funds that have not been moved on.
    Unspent,
    /// Funds that a search that stopped early did not trace.
    NotSearched,
}

impl Heading {
    /// Name in SQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Direct => "direct",
            Self::Indirect => "indirect",
            Self::OwnFunds => "own funds",
            Self::ContractCreation => "contract creation",
            Self::FanOut => "max_fan_out exceeded",
            Self::Hops => "max_hops reached",
            Self::SourceUnknown => "source unknown",
            Self::Unspent => "unspent",
            Self::NotSearched => "not searched",
        }
    }
}

/// One line of a [`Statement`].
#[derive(Debug, Clone, PartialEq)]
pub struct StatementLine<'a> {
    /// Heading of the line.
    pub heading: Heading,
    /// Gravest label of the category; `None` for a remainder.
    pub label: Option<PartyLabel<'a>>,
    /// Value in units of the asset.
    pub value: U256,
    /// Value as a share of the total; `None` if the total is zero, or was not reached before the
    /// search stopped.
    pub share: Option<f64>,
    /// Transfers between the wallet and its nearest counterparty of the category.
    pub nearest_hop: Option<u32>,
    /// Counterparties of the category.
    pub wallets: Option<u64>,
    /// Counterparty that contributes most.
    pub counterparty: Option<WalletId>,
    /// Numbers of the transfers between the wallet and that counterparty, in the order of time.
    pub path: &'a [u64],
}

impl<'a> StatementLine<'a> {
    const fn remainder(heading: Heading, value: U256, share: Option<f64>) -> Self {
        Self { heading, label: None, value, share, nearest_hop: None, wallets: None, counterparty: None, path: &[] }
    }

    /// Sort key: sanctions, then illicit categories, then services; direct before indirect.
    fn rank(&self) -> (bool, bool, bool) {
        let sanctioned = self.label.is_some_and(|label| label.category == SANCTIONS);
        let illicit = self.label.is_some_and(|label| label.kind == LabelKind::Illicit);
        (!sanctioned, !illicit, self.heading == Heading::Indirect)
    }
}

/// Exposure of one wallet in one direction, line by line.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement<'a> {
    /// Lines, the gravest first, remainders last.
    pub lines: Vec<StatementLine<'a>>,
}

impl<'a> Statement<'a> {
    /// Draws up the statement of an exposure that was computed with
    /// [`explained`](super::ExposureTerms::explained) set.
    ///
    /// `stopped_early` says that the search did not finish, `label_of` returns the label of a
    /// counterparty, and `order` its position among all addresses, which decides between equals.
    #[must_use]
    pub fn new(
        exposed: &'a Exposed,
        flow: Flow,
        stopped_early: bool,
        label_of: impl Fn(WalletId) -> Option<PartyLabel<'a>>,
        order: impl Fn(WalletId) -> u64,
    ) -> Self {
        if exposed.total.transfers == 0 && !stopped_early {
            return Self { lines: vec![StatementLine::remainder(Heading::Nothing, U256::ZERO, None)] };
        }
        let total = exposed.total.value;
        let sums = CategorySum::of_all(exposed, label_of, &order);
        let mut lines: Vec<StatementLine<'a>> =
            sums.into_iter().map(|((heading, _), sum)| sum.into_line(heading, total, &order)).collect();
        lines.sort_by(|a, b| a.rank().cmp(&b.rank()).then(b.value.cmp(&a.value)));
        let labelled = lines.iter().fold(U256::ZERO, |sum, line| sum.saturating_add(line.value));
        let mut remainders = remainders(exposed, flow);
        if stopped_early && remainders.is_empty() {
            // Only the total and the direct parts are known.
            remainders.push((Heading::NotSearched, total.saturating_sub(labelled).as_f64()));
        }
        let mut left = total.saturating_sub(labelled);
        let last = remainders.len().saturating_sub(1);
        for (index, (heading, value)) in remainders.into_iter().enumerate() {
            let share = share_of(value, total);
            let value = if index == last { left } else { whole_units(value).min(left) };
            left = left.saturating_sub(value);
            lines.push(StatementLine::remainder(heading, value, share));
        }
        Self { lines }
    }
}

/// Returns a part as a share of the total, `None` if the total is zero.
fn share_of(part: f64, total: U256) -> Option<f64> {
    (total > U256::ZERO).then(|| part / total.as_f64())
}

/// Parts that no label accounts for, in the order in which they first occur.
fn remainders(exposed: &Exposed, flow: Flow) -> Vec<(Heading, f64)> {
    let mut remainders = Vec::<(Heading, f64)>::new();
    for part in &exposed.parts {
        let heading = match part.part {
            Part::Wallet(_) => continue,
            // A labelled wallet is not exposed to itself.
            Part::Own => Heading::OwnFunds,
            Part::Contract => Heading::ContractCreation,
            Part::FanOut => Heading::FanOut,
            Part::Hops => Heading::Hops,
            Part::Rest | Part::Mark(_) => match flow {
                Flow::Backward => Heading::SourceUnknown,
                Flow::Forward => Heading::Unspent,
            },
        };
        match remainders.iter_mut().find(|(other, _)| *other == heading) {
            Some((_, sum)) => *sum += part.value,
            None => remainders.push((heading, part.value)),
        }
    }
    remainders
}

/// Direct or indirect exposure to one category.
#[derive(Default)]
struct CategorySum<'a> {
    label: Option<PartyLabel<'a>>,
    exact: U256,
    value: f64,
    nearest_hop: Option<u32>,
    wallets: BTreeSet<WalletId>,
    strongest: Option<(&'a Exposure, WalletId)>,
}

impl<'a> CategorySum<'a> {
    /// Sums by heading and category, direct ones first.
    fn of_all(
        exposed: &'a Exposed,
        label_of: impl Fn(WalletId) -> Option<PartyLabel<'a>>,
        order: &impl Fn(WalletId) -> u64,
    ) -> BTreeMap<(Heading, &'a str), Self> {
        let mut sums = BTreeMap::<(Heading, &'a str), Self>::new();
        for (part, direct) in &exposed.direct {
            let Part::Wallet(wallet) = *part else { continue };
            let Some(label) = label_of(wallet) else { continue };
            let sum = sums.entry((Heading::Direct, label.category)).or_default();
            // Parts of a total that did not overflow.
            sum.exact = sum.exact.saturating_add(direct.value);
            sum.add(wallet, 1, label);
        }
        for part in &exposed.parts {
            let Part::Wallet(wallet) = part.part else { continue };
            let Some(label) = label_of(wallet) else { continue };
            let heading = if part.hops > 1 { Heading::Indirect } else { Heading::Direct };
            let sum = sums.entry((heading, label.category)).or_default();
            sum.value += part.value;
            sum.add(wallet, part.hops, label);
            sum.keep_strongest(part, wallet, order);
        }
        sums
    }

    /// Notes a counterparty. Of several labels of the category, the gravest is kept.
    fn add(&mut self, wallet: WalletId, hops: u32, label: PartyLabel<'a>) {
        if self.label.is_none_or(|gravest| label.severity > gravest.severity) {
            self.label = Some(label);
        }
        self.nearest_hop = Some(self.nearest_hop.map_or(hops, |nearest| nearest.min(hops)));
        self.wallets.insert(wallet);
    }

    /// Keeps the part with the largest value; among equals the nearest, then the first by address.
    fn keep_strongest(&mut self, part: &'a Exposure, wallet: WalletId, order: &impl Fn(WalletId) -> u64) {
        let rank = |part: &Exposure, wallet| (Reverse(part.hops), Reverse(order(wallet)));
        let is_stronger = self.strongest.is_none_or(|(other, other_wallet)| {
            part.value.total_cmp(&other.value).then_with(|| rank(part, wallet).cmp(&rank(other, other_wallet))).is_gt()
        });
        if is_stronger {
            self.strongest = Some((part, wallet));
        }
    }

    fn into_line(self, heading: Heading, total: U256, order: &impl Fn(WalletId) -> u64) -> StatementLine<'a> {
        let (value, part) = match heading {
            Heading::Indirect => (whole_units(self.value), self.value),
            _ => (self.exact, self.exact.as_f64()),
        };
        let strongest = self.strongest.map(|(_, wallet)| wallet);
        StatementLine {
            heading,
            label: self.label,
            value,
            share: share_of(part, total),
            nearest_hop: self.nearest_hop,
            wallets: Some(self.wallets.len() as u64),
            counterparty: strongest.or_else(|| self.wallets.iter().copied().min_by_key(|wallet| order(*wallet))),
            path: self.strongest.map_or(&[], |(part, _)| &part.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::query::exposure::Direct;

    const fn wallet(number: u32) -> WalletId {
        WalletId::new(number)
    }

    /// Labels by number: 1 and 2 sanctioned, 3 and 4 scam, 5 and 6 exchange, the rest unlabelled.
    fn label_of<'a>(id: WalletId) -> Option<PartyLabel<'a>> {
        let label = |category, kind, severity| Some(PartyLabel { category, kind, severity });
        match (1..=6).find(|number| wallet(*number) == id)? {
            1 | 2 => label("sanctions", LabelKind::Illicit, Severity::Severe),
            3 => label("scam", LabelKind::Illicit, Severity::High),
            4 => label("scam", LabelKind::Illicit, Severity::Severe),
            _ => label("exchange", LabelKind::Service, Severity::None),
        }
    }

    /// Addresses in the reverse order of numbers.
    fn order(id: WalletId) -> u64 {
        (0..100).find(|number| wallet(*number) == id).map_or(0, |number| 100 - u64::from(number))
    }

    fn exposed(total: u128, direct: &[(u32, u128)], parts: &[(Part, u32, f64)]) -> Exposed {
        let amount = |value| Direct { value: U256::new(value), transfers: u64::from(value > 0) };
        let part = |(number, (part, hops, value)): (usize, &(Part, u32, f64))| Exposure {
            part: *part,
            hops: *hops,
            value: *value,
            path: vec![number as u64],
        };
        Exposed {
            wallet: wallet(0),
            total: amount(total),
            direct: direct.iter().map(|(number, value)| (Part::Wallet(wallet(*number)), amount(*value))).collect(),
            parts: parts.iter().enumerate().map(part).collect(),
        }
    }

    fn statement(exposed: &Exposed, flow: Flow, stopped_early: bool) -> Vec<StatementLine<'_>> {
        Statement::new(exposed, flow, stopped_early, label_of, order).lines
    }

    /// Heading, category and value of each line.
    fn summary(lines: &[StatementLine<'_>]) -> Vec<(&'static str, String, u128)> {
        let row = |line: &StatementLine<'_>| {
            let category = line.label.map_or("", |label| label.category).to_owned();
            (line.heading.name(), category, line.value.as_u128())
        };
        lines.iter().map(row).collect()
    }

    fn line(heading: &'static str, category: &str, value: u128) -> (&'static str, String, u128) {
        (heading, category.to_owned(), value)
    }

    #[test]
    fn a_wallet_that_moved_nothing_has_one_line() {
        let exposed = exposed(0, &[], &[]);
        let lines = statement(&exposed, Flow::Backward, false);
        assert_eq!(summary(&lines), [line("none", "", 0)]);
        assert_eq!(lines[0].share, None);
    }

    #[test]
    fn sanctions_come_first_then_illicit_then_services_and_direct_before_indirect() {
        let parts = [
            (Part::Wallet(wallet(5)), 1, 400.0),
            (Part::Wallet(wallet(3)), 2, 300.0),
            (Part::Wallet(wallet(3)), 1, 100.0),
            (Part::Wallet(wallet(1)), 3, 50.0),
            (Part::Rest, 0, 150.0),
        ];
        let exposed = exposed(1000, &[(3, 100), (5, 400)], &parts);
        let lines = statement(&exposed, Flow::Backward, false);
        assert_eq!(
            summary(&lines),
            [
                line("indirect", "sanctions", 50),
                line("direct", "scam", 100),
                line("indirect", "scam", 300),
                line("direct", "exchange", 400),
                line("source unknown", "", 150),
            ]
        );
        assert_eq!(lines.iter().map(|line| line.share.unwrap()).collect::<Vec<_>>(), [0.05, 0.1, 0.3, 0.4, 0.15]);
        assert_eq!(
            lines.iter().map(|line| line.nearest_hop).collect::<Vec<_>>(),
            [Some(3), Some(1), Some(2), Some(1), None]
        );
    }

    #[test]
    fn a_category_bears_its_gravest_label_and_counts_each_wallet_once() {
        let parts =
            [(Part::Wallet(wallet(3)), 4, 1.0), (Part::Wallet(wallet(3)), 2, 1.0), (Part::Wallet(wallet(4)), 3, 1.0)];
        let exposed = exposed(3, &[], &parts);
        let lines = statement(&exposed, Flow::Backward, false);
        assert_eq!(summary(&lines), [line("indirect", "scam", 3)]);
        assert_eq!(lines[0].label.unwrap().severity, Severity::Severe);
        assert_eq!((lines[0].wallets, lines[0].nearest_hop), (Some(2), Some(2)));
    }

    #[test]
    fn the_counterparty_is_the_one_of_the_largest_part_then_the_nearest_then_the_first_by_address() {
        let strongest = |parts: &[(Part, u32, f64)]| {
            let exposed = exposed(100, &[], parts);
            let lines = statement(&exposed, Flow::Forward, false);
            (lines[0].counterparty.unwrap(), lines[0].path.to_vec())
        };
        let part = |number, hops, value| (Part::Wallet(wallet(number)), hops, value);
        assert_eq!(strongest(&[part(3, 2, 1.0), part(4, 3, 2.0)]), (wallet(4), vec![1]));
        assert_eq!(strongest(&[part(3, 3, 2.0), part(4, 2, 2.0)]), (wallet(4), vec![1]));
        // Addresses are in the reverse order of numbers.
        assert_eq!(strongest(&[part(3, 2, 2.0), part(4, 2, 2.0)]), (wallet(4), vec![1]));
        assert_eq!(strongest(&[part(4, 2, 2.0), part(3, 2, 2.0)]), (wallet(4), vec![0]));
    }

    #[test]
    fn direct_transfers_without_a_traced_part_name_the_first_counterparty_by_address() {
        let exposed = exposed(30, &[(5, 10), (6, 20)], &[]);
        let lines = statement(&exposed, Flow::Forward, true);
        assert_eq!(summary(&lines), [line("direct", "exchange", 30), line("not searched", "", 0)]);
        assert_eq!(lines[0].counterparty, Some(wallet(6)));
        assert_eq!(lines[0].path, [0_u64; 0]);
    }

    #[test]
    fn a_search_that_stopped_early_reports_the_rest_as_not_searched_unless_it_knows_better() {
        let direct_only = exposed(100, &[(3, 30)], &[]);
        let lines = statement(&direct_only, Flow::Backward, true);
        assert_eq!(summary(&lines), [line("direct", "scam", 30), line("not searched", "", 70)]);
        let traced = exposed(100, &[(3, 30)], &[(Part::Wallet(wallet(3)), 1, 30.0), (Part::Hops, 0, 70.0)]);
        let lines = statement(&traced, Flow::Backward, true);
        assert_eq!(summary(&lines), [line("direct", "scam", 30), line("max_hops reached", "", 70)]);
    }

    #[test]
    fn without_a_total_no_line_has_a_share() {
        let unexamined = exposed(0, &[], &[]);
        let lines = statement(&unexamined, Flow::Backward, true);
        assert_eq!((summary(&lines), lines[0].share), (vec![line("not searched", "", 0)], None));
        // Transfers of no value with a scam.
        let mut empty = exposed(0, &[(3, 0)], &[]);
        empty.total.transfers = 1;
        for stopped_early in [false, true] {
            let lines = statement(&empty, Flow::Forward, stopped_early);
            assert_eq!(summary(&lines)[0], line("direct", "scam", 0));
            assert!(lines.iter().all(|line| line.share.is_none()), "{lines:?}");
        }
    }

    #[test]
    fn remainders_are_grouped_by_cause() {
        let parts = [
            (Part::FanOut, 2, 10.0),
            (Part::Own, 0, 5.0),
            (Part::FanOut, 3, 20.0),
            (Part::Contract, 0, 15.0),
            (Part::Rest, 0, 50.0),
        ];
        let exposed = exposed(100, &[], &parts);
        assert_eq!(
            summary(&statement(&exposed, Flow::Forward, false)),
            [
                line("max_fan_out exceeded", "", 30),
                line("own funds", "", 5),
                line("contract creation", "", 15),
                line("unspent", "", 50),
            ]
        );
    }

    fn part() -> impl Strategy<Value = (Part, u32, f64)> {
        let labelled = (1..7_u32, 1..5_u32).prop_map(|(number, hops)| (Part::Wallet(wallet(number)), hops));
        let other = prop::sample::select(vec![Part::Own, Part::Contract, Part::FanOut, Part::Hops, Part::Rest]);
        (prop_oneof![labelled, other.prop_map(|part| (part, 0))], 0.01..1.0)
            .prop_map(|((part, hops), share)| (part, hops, share))
    }

    proptest! {
        #[test]
        fn lines_with_a_remainder_add_up_to_the_total(
            total in 1_000_000_000_u128..u128::MAX / 2,
            parts in prop::collection::vec(part(), 0..12),
            rest in 0.1..1.0,
        ) {
            let whole: f64 = parts.iter().map(|(.., share)| share).sum::<f64>() + rest;
            let mut parts: Vec<_> =
                parts.into_iter().map(|(part, hops, share)| (part, hops, share / whole * total as f64)).collect();
            parts.push((Part::Rest, 0, rest / whole * total as f64));
            let direct: Vec<(u32, u128)> = (1..7)
                .map(|number| {
                    let is_direct = |(part, hops, _): &&(Part, u32, f64)| *part == Part::Wallet(wallet(number)) && *hops == 1;
                    (number, parts.iter().filter(is_direct).map(|(.., value)| *value as u128).sum())
                })
                .filter(|(_, value)| *value > 0)
                .collect();
            let exposed = exposed(total, &direct, &parts);
            let lines = statement(&exposed, Flow::Backward, false);
            prop_assert_eq!(lines.iter().fold(U256::ZERO, |sum, line| sum + line.value), U256::new(total));
            prop_assert!(lines.is_sorted_by_key(|line| line.label.is_none()));
        }
    }
}
