//! The exposure of one wallet as a statement of account: a line for each category of labels, direct
//! and indirect, then a line for each remainder that no label accounts for.
//!
//! All lines are exact, and add up to the total.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{ExplainedExposure, ExplainedPart};
use crate::graph::query::trace::{End, Flow};
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
    /// The wallet's own funds, returned to it.
    OwnFunds,
    /// Funds sent to contracts that the transfer created.
    ContractCreation,
    /// Funds burned or paid as fees.
    Burned,
    /// Received rewards of blocks, and what came of them.
    Reward,
    /// Received tokens that were minted, and what came of them.
    Minted,
    /// Funds at a wallet with more counterparties than tracing passes through.
    FanOut,
    /// Funds further away than tracing goes.
    Hops,
    /// Received funds that no transfer explains.
    SourceUnknown,
    /// Sent funds that stay at the contract of a token, which may have issued tokens for them.
    TokenContract,
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
            Self::Burned => "burn or fee",
            Self::Reward => "block reward",
            Self::Minted => "minted",
            Self::FanOut => "max_fan_out exceeded",
            Self::Hops => "max_hops reached",
            Self::SourceUnknown => "source unknown",
            Self::TokenContract => "contract",
            Self::Unspent => "unspent",
            Self::NotSearched => "not searched",
        }
    }

    const fn of(end: End, flow: Flow, at_token: bool) -> Self {
        match end {
            End::TraceOrigin => Self::OwnFunds,
            End::Contract => Self::ContractCreation,
            End::Burned => Self::Burned,
            End::Reward => Self::Reward,
            End::Minted => Self::Minted,
            End::FanOut => Self::FanOut,
            End::Hops => Self::Hops,
            End::Held | End::Window => match flow {
                Flow::Backward => Self::SourceUnknown,
                Flow::Forward if at_token => Self::TokenContract,
                Flow::Forward => Self::Unspent,
            },
            End::Stop | End::Value | End::Share | End::Wallets | End::Time | End::Memory => Self::NotSearched,
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
    /// The value depends on an order of transfers that was inferred.
    pub inferred: bool,
}

impl<'a> StatementLine<'a> {
    const fn remainder(heading: Heading, value: U256, share: Option<f64>, inferred: bool) -> Self {
        Self {
            heading,
            label: None,
            value,
            share,
            nearest_hop: None,
            wallets: None,
            counterparty: None,
            path: &[],
            inferred,
        }
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
    /// Draws up the statement of an exposure.
    ///
    /// `label_of` returns the label of a counterparty, `order` its position among all addresses,
    /// which decides between equals, and `is_token` if it is the contract of a token.
    #[must_use]
    pub fn new(
        exposed: &'a ExplainedExposure,
        flow: Flow,
        label_of: impl Fn(WalletId) -> Option<PartyLabel<'a>>,
        order: impl Fn(WalletId) -> u64,
        is_token: impl Fn(WalletId) -> bool,
    ) -> Self {
        let stopped_early = exposed.cuts.iter().any(|(end, _)| matches!(end, End::Time | End::Memory));
        if exposed.total.transfers == 0 && !stopped_early {
            return Self { lines: vec![StatementLine::remainder(Heading::Nothing, U256::ZERO, None, false)] };
        }
        let total = exposed.total.value;
        let sums = CategorySum::of_all(exposed, label_of, &order);
        let mut lines: Vec<StatementLine<'a>> =
            sums.into_iter().map(|((heading, _), sum)| sum.into_line(heading, total, &order)).collect();
        lines.sort_by(|a, b| a.rank().cmp(&b.rank()).then(b.value.cmp(&a.value)));
        let mut remainders = BTreeMap::<Heading, (U256, bool)>::new();
        for end in &exposed.remainders {
            let at_token = end.end == End::Held && end.wallet.is_some_and(&is_token);
            let (sum, inferred) = remainders.entry(Heading::of(end.end, flow, at_token)).or_default();
            *sum = sum.saturating_add(end.amount);
            *inferred |= end.inferred;
        }
        // Transfers that a search that stopped early did not come to.
        let accounted = lines.iter().map(|line| line.value).chain(remainders.values().map(|(sum, _)| *sum));
        let left = total.saturating_sub(accounted.fold(U256::ZERO, U256::saturating_add));
        if left > U256::ZERO || (stopped_early && remainders.is_empty()) {
            let (sum, _) = remainders.entry(Heading::NotSearched).or_default();
            *sum = sum.saturating_add(left);
        }
        lines.extend(remainders.into_iter().map(|(heading, (value, inferred))| {
            StatementLine::remainder(heading, value, share_of(value, total), inferred)
        }));
        Self { lines }
    }
}

/// Returns a part as a share of the total, `None` if the total is zero.
fn share_of(part: U256, total: U256) -> Option<f64> {
    (total > U256::ZERO).then(|| part.as_f64() / total.as_f64())
}

/// Direct or indirect exposure to one category.
#[derive(Default)]
struct CategorySum<'a> {
    label: Option<PartyLabel<'a>>,
    value: U256,
    nearest_hop: Option<u32>,
    wallets: BTreeSet<WalletId>,
    strongest: Option<&'a ExplainedPart>,
    inferred: bool,
}

impl<'a> CategorySum<'a> {
    /// Sums by heading and category, direct ones first.
    fn of_all(
        exposed: &'a ExplainedExposure,
        label_of: impl Fn(WalletId) -> Option<PartyLabel<'a>>,
        order: &impl Fn(WalletId) -> u64,
    ) -> BTreeMap<(Heading, &'a str), Self> {
        let mut sums = BTreeMap::<(Heading, &'a str), Self>::new();
        for (wallet, direct) in &exposed.direct {
            let Some(label) = label_of(*wallet) else { continue };
            let sum = sums.entry((Heading::Direct, label.category)).or_default();
            // Parts of a total that did not overflow.
            sum.value = sum.value.saturating_add(direct.value);
            sum.add(*wallet, 1, label);
        }
        for part in &exposed.parts {
            let Some(label) = label_of(part.wallet) else { continue };
            let heading = if part.hops > 1 { Heading::Indirect } else { Heading::Direct };
            let sum = sums.entry((heading, label.category)).or_default();
            if heading == Heading::Indirect {
                sum.value = sum.value.saturating_add(part.value);
                sum.inferred |= exposed.inferred.contains(&part.wallet);
            }
            sum.add(part.wallet, part.hops, label);
            sum.keep_strongest(part, order);
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
    fn keep_strongest(&mut self, part: &'a ExplainedPart, order: &impl Fn(WalletId) -> u64) {
        let rank = |part: &ExplainedPart| (part.value, Reverse(part.hops), Reverse(order(part.wallet)));
        if self.strongest.is_none_or(|other| rank(part) > rank(other)) {
            self.strongest = Some(part);
        }
    }

    fn into_line(self, heading: Heading, total: U256, order: &impl Fn(WalletId) -> u64) -> StatementLine<'a> {
        let strongest = self.strongest.map(|part| part.wallet);
        StatementLine {
            heading,
            label: self.label,
            value: self.value,
            share: share_of(self.value, total),
            nearest_hop: self.nearest_hop,
            wallets: Some(self.wallets.len() as u64),
            counterparty: strongest.or_else(|| self.wallets.iter().copied().min_by_key(|wallet| order(*wallet))),
            path: self.strongest.map_or(&[], |part| &part.path),
            inferred: self.inferred,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::AssetId;
    use crate::graph::query::exposure::Direct;
    use crate::graph::query::trace::EndedAmount;

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

    /// A part by a labelled wallet and hops, or the remainder of an end.
    #[derive(Debug, Clone, Copy)]
    enum Of {
        Wallet(u32, u32),
        End(End),
    }

    fn exposed(total: u128, direct: &[(u32, u128)], parts: &[(Of, u128)]) -> ExplainedExposure {
        let amount = |value| Direct { value: U256::new(value), transfers: u64::from(value > 0) };
        let mut exposed = ExplainedExposure {
            wallet: wallet(0),
            total: amount(total),
            direct: direct.iter().map(|(number, value)| (wallet(*number), amount(*value))).collect(),
            parts: Vec::new(),
            remainders: Vec::new(),
            inferred: Vec::new(),
            shortfalls: Vec::new(),
            unvalued: Vec::new(),
            cuts: Vec::new(),
        };
        for (number, (of, value)) in (0..).zip(parts) {
            let value = U256::new(*value);
            match *of {
                Of::Wallet(labelled, hops) => {
                    let part = ExplainedPart { wallet: wallet(labelled), hops, value, path: vec![number] };
                    exposed.parts.push(part);
                }
                Of::End(end) => exposed.remainders.push(EndedAmount {
                    wallet: None,
                    asset: AssetId::NATIVE,
                    end,
                    amount: value,
                    hop: 1,
                    transfers: 1,
                    first: 0,
                    last: 0,
                    inferred: end == End::Hops,
                }),
            }
        }
        exposed
    }

    fn stopped(exposed: ExplainedExposure) -> ExplainedExposure {
        ExplainedExposure { cuts: vec![(End::Time, U256::ZERO)], ..exposed }
    }

    fn statement(exposed: &ExplainedExposure, flow: Flow) -> Vec<StatementLine<'_>> {
        Statement::new(exposed, flow, label_of, order, |id| id == wallet(9)).lines
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
        let lines = statement(&exposed, Flow::Backward);
        assert_eq!(summary(&lines), [line("none", "", 0)]);
        assert_eq!(lines[0].share, None);
    }

    #[test]
    fn sanctions_come_first_then_illicit_then_services_and_direct_before_indirect() {
        let parts = [
            (Of::Wallet(5, 1), 400),
            (Of::Wallet(3, 2), 300),
            (Of::Wallet(3, 1), 100),
            (Of::Wallet(1, 3), 50),
            (Of::End(End::Held), 150),
        ];
        let exposed = exposed(1000, &[(3, 100), (5, 400)], &parts);
        let lines = statement(&exposed, Flow::Backward);
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
        let exposed = exposed(3, &[], &[(Of::Wallet(3, 4), 1), (Of::Wallet(3, 2), 1), (Of::Wallet(4, 3), 1)]);
        let lines = statement(&exposed, Flow::Backward);
        assert_eq!(summary(&lines), [line("indirect", "scam", 3)]);
        assert_eq!(lines[0].label.unwrap().severity, Severity::Severe);
        assert_eq!((lines[0].wallets, lines[0].nearest_hop), (Some(2), Some(2)));
    }

    #[test]
    fn the_counterparty_is_the_one_of_the_largest_part_then_the_nearest_then_the_first_by_address() {
        let strongest = |parts: &[(Of, u128)]| {
            let exposed = exposed(100, &[], parts);
            let lines = statement(&exposed, Flow::Forward);
            (lines[0].counterparty.unwrap(), lines[0].path.to_vec())
        };
        let part = |number, hops, value| (Of::Wallet(number, hops), value);
        assert_eq!(strongest(&[part(3, 2, 1), part(4, 3, 2)]), (wallet(4), vec![1]));
        assert_eq!(strongest(&[part(3, 3, 2), part(4, 2, 2)]), (wallet(4), vec![1]));
        // Addresses are in the reverse order of numbers.
        assert_eq!(strongest(&[part(3, 2, 2), part(4, 2, 2)]), (wallet(4), vec![1]));
        assert_eq!(strongest(&[part(4, 2, 2), part(3, 2, 2)]), (wallet(4), vec![0]));
    }

    #[test]
    fn direct_transfers_without_a_traced_part_name_the_first_counterparty_by_address() {
        let exposed = stopped(exposed(30, &[(5, 10), (6, 20)], &[]));
        let lines = statement(&exposed, Flow::Forward);
        assert_eq!(summary(&lines), [line("direct", "exchange", 30), line("not searched", "", 0)]);
        assert_eq!(lines[0].counterparty, Some(wallet(6)));
        assert_eq!(lines[0].path, [0_u64; 0]);
    }

    #[test]
    fn what_a_search_did_not_come_to_is_not_searched() {
        let direct_only = stopped(exposed(100, &[(3, 30)], &[]));
        let lines = statement(&direct_only, Flow::Backward);
        assert_eq!(summary(&lines), [line("direct", "scam", 30), line("not searched", "", 70)]);
        let parts = [(Of::Wallet(3, 1), 30), (Of::End(End::Hops), 50), (Of::End(End::Time), 5)];
        let traced = stopped(exposed(100, &[(3, 30)], &parts));
        let lines = statement(&traced, Flow::Backward);
        let rest = [line("direct", "scam", 30), line("max_hops reached", "", 50), line("not searched", "", 20)];
        assert_eq!(summary(&lines), rest);
    }

    #[test]
    fn without_a_total_no_line_has_a_share() {
        let unexamined = stopped(exposed(0, &[], &[]));
        let lines = statement(&unexamined, Flow::Backward);
        assert_eq!((summary(&lines), lines[0].share), (vec![line("not searched", "", 0)], None));
        // Transfers of no value with a scam.
        let mut empty = exposed(0, &[(3, 0)], &[]);
        empty.total.transfers = 1;
        for empty in [empty.clone(), stopped(empty)] {
            let lines = statement(&empty, Flow::Forward);
            assert_eq!(summary(&lines)[0], line("direct", "scam", 0));
            assert!(lines.iter().all(|line| line.share.is_none()), "{lines:?}");
        }
    }

    #[test]
    fn funds_that_stay_at_the_contract_of_a_token_are_not_unspent() {
        let mut exposed = exposed(100, &[], &[(Of::End(End::Held), 30), (Of::End(End::Held), 70)]);
        exposed.remainders[1].wallet = Some(wallet(9));
        assert_eq!(summary(&statement(&exposed, Flow::Forward)), [line("contract", "", 70), line("unspent", "", 30)]);
        assert_eq!(summary(&statement(&exposed, Flow::Backward)), [line("source unknown", "", 100)]);
        exposed.remainders[1].end = End::Window;
        assert_eq!(summary(&statement(&exposed, Flow::Forward)), [line("unspent", "", 100)]);
    }

    #[test]
    fn remainders_are_grouped_by_cause_and_say_that_an_order_was_inferred() {
        let parts = [
            (Of::End(End::FanOut), 10),
            (Of::End(End::TraceOrigin), 5),
            (Of::End(End::FanOut), 20),
            (Of::End(End::Contract), 12),
            (Of::End(End::Hops), 3),
            (Of::End(End::Held), 50),
        ];
        let exposed = exposed(100, &[], &parts);
        let lines = statement(&exposed, Flow::Forward);
        assert_eq!(
            summary(&lines),
            [
                line("own funds", "", 5),
                line("contract creation", "", 12),
                line("max_fan_out exceeded", "", 30),
                line("max_hops reached", "", 3),
                line("unspent", "", 50),
            ]
        );
        assert_eq!(lines.iter().map(|line| line.inferred).collect::<Vec<_>>(), [false, false, false, true, false]);
    }

    fn part() -> impl Strategy<Value = (Of, u128)> {
        let labelled = (1..7_u32, 1..5_u32).prop_map(|(number, hops)| Of::Wallet(number, hops));
        let ends = vec![End::TraceOrigin, End::Contract, End::FanOut, End::Hops, End::Held, End::Reward, End::Time];
        (prop_oneof![labelled, prop::sample::select(ends).prop_map(Of::End)], 1..u128::MAX / 100)
    }

    proptest! {
        #[test]
        fn lines_add_up_to_the_total(parts in prop::collection::vec(part(), 0..12), unsearched in 0..u128::MAX / 2) {
            let is_direct = |of: &Of, number| matches!(of, Of::Wallet(wallet, 1) if *wallet == number);
            let direct: Vec<(u32, u128)> = (1..7)
                .map(|number| (number, parts.iter().filter(|(of, _)| is_direct(of, number)).map(|(_, value)| *value).sum()))
                .filter(|(_, value)| *value > 0)
                .collect();
            let total = parts.iter().map(|(_, value)| *value).sum::<u128>() + unsearched;
            let exposed = exposed(total, &direct, &parts);
            let lines = statement(&exposed, Flow::Backward);
            prop_assert_eq!(lines.iter().fold(U256::ZERO, |sum, line| sum + line.value), U256::new(total));
            prop_assert!(lines.is_sorted_by_key(|line| line.label.is_none()));
        }
    }
}
