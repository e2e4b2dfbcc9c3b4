//! Drawing of a neighbourhood in the language of Graphviz
//! (<https://graphviz.org/doc/info/lang.html>).
//!
//! Owns the appearance of wallets and flows; their descriptions come from the caller. Addresses and
//! labels are untrusted text, so they appear only in quoted strings, escaped; nodes are named by
//! number.

use std::fmt::Write;

use crate::graph::budget::{Interrupt, Pace};
use crate::graph::query::neighbourhood::{FoldedPeers, Neighbourhood, PairFlow};
use crate::graph::types::{Direction, U256, WalletId};
use crate::label::LabelKind;

/// Description of a wallet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// Address of the wallet.
    pub address: String,
    /// Label: the presumed owner.
    pub label: Option<String>,
    /// Category of the label.
    pub category: Option<String>,
    /// Kind of the category.
    pub kind: Option<LabelKind>,
    /// Risk score, 0 to 100.
    pub risk: Option<u8>,
}

/// Unit of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit<'u> {
    /// Symbol of the coin or token.
    pub name: &'u str,
    /// Number of decimals: a value counts parts of 10^-decimals.
    pub decimals: u8,
}

/// Maximum number of characters of a label in a node.
const LABEL_LENGTH: usize = 40;

/// Characters shown at the start and the end of an address: `0x1234…abcd`.
const ADDRESS_ENDS: (usize, usize) = (6, 4);

/// Decimals on an arrow; its tooltip has all of them.
const DECIMALS: usize = 4;

const LEGEND: &str = "\
// fill by label: illicit #f28b82, service #8ab4f8, neutral #cfd8dc
// fill by risk where there is no label: 0-24 #b7e1cd, 25-49 #e6f0b8, 50-74 #fde293, 75-100 #f7b084; white where nothing is known
// thick frame: the wallet in the middle; dashed: wallets left out; width of an arrow: transfers, by logarithm
";

/// Lines written between two cancellation checks, each some microseconds.
const LINES_PER_CHECK: usize = 1 << 10;

/// Draws a neighbourhood. Equal neighbourhoods with equal descriptions give equal texts. Without a
/// unit (several assets) arrows have no value. It can be cancelled, and takes no account of time: a
/// drawing is complete.
#[must_use]
pub fn render(
    neighbourhood: &Neighbourhood,
    describe: impl Fn(WalletId) -> Description,
    unit: Option<Unit<'_>>,
    interrupt: &mut impl Interrupt,
) -> String {
    let mut pace = Pace::<_, LINES_PER_CHECK>::every(interrupt);
    let mut out = String::from(LEGEND);
    out.push_str("digraph arx {\n  rankdir=LR;\n");
    out.push_str("  node [shape=box, style=\"rounded,filled\", fontname=\"Helvetica\", fontsize=10];\n");
    out.push_str("  edge [fontname=\"Helvetica\", fontsize=9, color=\"#5f6368\"];\n");
    // Index of each wallet among those shown.
    let mut indexes: Vec<(WalletId, usize)> =
        neighbourhood.wallets.iter().enumerate().map(|(index, shown)| (shown.wallet, index)).collect();
    indexes.sort_unstable();
    for (index, shown) in neighbourhood.wallets.iter().enumerate() {
        pace.step(0);
        node(&mut out, index, &describe(shown.wallet), shown.wallet == neighbourhood.source);
    }
    for (index, shown) in neighbourhood.wallets.iter().enumerate() {
        if let Some(folded) = shown.folded {
            pace.step(0);
            fold(&mut out, index, folded, neighbourhood.direction);
        }
    }
    let index_of = |wallet: WalletId| {
        let position = indexes.binary_search_by_key(&wallet, |entry| entry.0).ok()?;
        indexes.get(position).map(|entry| entry.1)
    };
    for flow in &neighbourhood.flows {
        pace.step(0);
        if let (Some(from), Some(to)) = (index_of(flow.from), index_of(flow.to)) {
            arrow(&mut out, from, to, flow, unit);
        }
    }
    out.push_str("}\n");
    out
}

fn node(out: &mut String, index: usize, wallet: &Description, is_source: bool) {
    let mut label = escape(&shorten(&wallet.address));
    let captions: Vec<&str> = [wallet.label.as_deref(), wallet.category.as_deref()].into_iter().flatten().collect();
    if !captions.is_empty() {
        let _ = write!(label, "\\n{}", escape(&cut(&captions.join(" · "))));
    }
    if let Some(risk) = wallet.risk {
        let _ = write!(label, "\\nrisk {risk}");
    }
    let _ = write!(
        out,
        "  n{index} [label=\"{label}\", tooltip=\"{}\", fillcolor=\"{}\"",
        escape(&wallet.address),
        fill(wallet.kind, wallet.risk)
    );
    out.push_str(if is_source { ", penwidth=3, color=\"#202124\"];\n" } else { ", color=\"#5f6368\"];\n" });
}

fn fold(out: &mut String, index: usize, folded: FoldedPeers, direction: Direction) {
    let wallets = plural(folded.wallets, "wallet");
    let transfers = folded.transfers;
    let _ = writeln!(
        out,
        "  f{index} [label=\"+{wallets}\", tooltip=\"{transfers} tx with +{wallets}\", style=\"rounded,dashed\"];"
    );
    let (ends, arrowhead) = match direction {
        Direction::Out => (format!("n{index} -> f{index}"), ""),
        Direction::In => (format!("f{index} -> n{index}"), ""),
        Direction::Both => (format!("n{index} -> f{index}"), ", dir=none"),
    };
    let width = width(transfers);
    let _ = writeln!(out, "  {ends} [label=\"{transfers} tx\", style=dashed{arrowhead}, penwidth={width:.1}];");
}

fn arrow(out: &mut String, from: usize, to: usize, flow: &PairFlow, unit: Option<Unit<'_>>) {
    let transfers = flow.transfers;
    let mut label = format!("{transfers} tx");
    let mut tooltip = label.clone();
    if let Some(unit) = unit {
        let name = escape(&cut(unit.name));
        let _ = write!(label, ", {} {name}", amount(flow.value, unit.decimals, DECIMALS));
        let _ = write!(tooltip, ", {} {name}", amount(flow.value, unit.decimals, usize::MAX));
    }
    let width = width(transfers);
    let _ = writeln!(
        out,
        "  n{from} -> n{to} [label=\"{label}\", tooltip=\"{tooltip}\", labeltooltip=\"{tooltip}\", penwidth={width:.1}];"
    );
}

/// Line width in points: one, and one more for every factor of ten.
fn width(transfers: u64) -> f64 {
    1.0 + (transfers.max(1) as f64).log10()
}

const fn fill(kind: Option<LabelKind>, risk: Option<u8>) -> &'static str {
    match (kind, risk) {
        (Some(LabelKind::Illicit), _) => "#f28b82",
        (Some(LabelKind::Service), _) => "#8ab4f8",
        (Some(LabelKind::Neutral), _) => "#cfd8dc",
        (None, Some(..=24)) => "#b7e1cd",
        (None, Some(25..=49)) => "#e6f0b8",
        (None, Some(50..=74)) => "#fde293",
        (None, Some(75..)) => "#f7b084",
        (None, None) => "#ffffff",
    }
}

fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Shortens an address to its two ends.
fn shorten(address: &str) -> String {
    let (first, last) = ADDRESS_ENDS;
    let length = address.chars().count();
    if length <= first + last + 1 {
        return address.to_owned();
    }
    let start: String = address.chars().take(first).collect();
    let end: String = address.chars().skip(length - last).collect();
    format!("{start}…{end}")
}

fn cut(text: &str) -> String {
    if text.chars().count() <= LABEL_LENGTH {
        return text.to_owned();
    }
    text.chars().take(LABEL_LENGTH - 1).chain(['…']).collect()
}

/// Escapes text for a quoted label: it contains no escape sequence, no entity and no line break.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // Line breaks, and marks that change the reading direction.
            character if character.is_control() => escaped.push(' '),
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

/// Formats a value with at most `at_most` decimals, truncated and without trailing zeros.
fn amount(value: U256, decimals: u8, at_most: usize) -> String {
    let decimals = usize::from(decimals);
    let digits = format!("{value:0>width$}", value = value.to_string(), width = decimals + 1);
    let (whole, part) = digits.split_at(digits.len() - decimals);
    let shown = part.get(..at_most.min(decimals)).unwrap_or(part).trim_end_matches('0');
    match (whole, shown) {
        ("0", "") if value != U256::ZERO && at_most > 0 => format!("<0.{:0>at_most$}", 1),
        (_, "") => whole.to_owned(),
        _ => format!("{whole}.{shown}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::Uninterrupted;
    use crate::graph::query::neighbourhood::ShownWallet;

    fn drawn() -> Neighbourhood {
        let shown = |wallet, depth, folded| ShownWallet { wallet: WalletId::new(wallet), depth, folded };
        let flow = |from, to, transfers, value: u128| {
            let [from, to] = [from, to].map(WalletId::new);
            PairFlow { from, to, transfers, value: U256::new(value) }
        };
        Neighbourhood {
            source: WalletId::new(7),
            direction: Direction::Out,
            wallets: vec![
                shown(7, 0, Some(FoldedPeers { wallets: 123, transfers: 1000 })),
                shown(3, 1, None),
                shown(9, 1, Some(FoldedPeers { wallets: 1, transfers: 1 })),
            ],
            flows: vec![flow(7, 3, 1, 1_500_000_000_000_000_000), flow(7, 9, 100, 7), flow(9, 9, 2, 0)],
            halted: None,
        }
    }

    fn described(wallet: WalletId) -> Description {
        let wallet = wallet.get();
        Description {
            address: format!("0x{wallet}23456789012345678901234567890123456789"),
            label: (wallet == 3).then(|| "Corner \"Exchange\"".into()),
            category: (wallet == 3).then(|| "exchange".into()),
            kind: (wallet == 3).then_some(LabelKind::Service),
            risk: (wallet == 9).then_some(80),
        }
    }

    fn draw(drawn: &Neighbourhood, describe: impl Fn(WalletId) -> Description, unit: Option<Unit<'_>>) -> String {
        render(drawn, describe, unit, &mut Uninterrupted)
    }

    const ETHER: Unit<'static> = Unit { name: "ETH", decimals: 18 };

    #[test]
    fn a_drawing_of_many_flows_can_be_cancelled_throughout() {
        struct Checks(usize);
        impl Interrupt for Checks {
            fn should_stop(&mut self) -> bool {
                self.0 += 1;
                false
            }
        }
        let flow = drawn().flows[0];
        let many = Neighbourhood { flows: vec![flow; 20 * LINES_PER_CHECK], ..drawn() };
        let mut checks = Checks(0);
        let text = render(&many, described, Some(ETHER), &mut checks);
        assert_eq!(text.matches(" -> ").count(), 20 * LINES_PER_CHECK + 2);
        assert!(checks.0 >= 20, "{} checks", checks.0);
    }

    #[test]
    fn drawing_has_wallets_flows_and_folded_peers() {
        let text = draw(&drawn(), described, Some(ETHER));
        assert!(text.starts_with(LEGEND));
        let body = &text[LEGEND.len()..];
        let lines: Vec<&str> =
            body.lines().filter(|line| line.starts_with("  n") || line.starts_with("  f")).skip(1).collect();
        assert_eq!(
            lines,
            [
                "  n0 [label=\"0x7234…6789\", tooltip=\"0x723456789012345678901234567890123456789\", fillcolor=\"#ffffff\", \
                 penwidth=3, color=\"#202124\"];",
                "  n1 [label=\"0x3234…6789\\nCorner \\\"Exchange\\\" · exchange\", \
                 tooltip=\"0x323456789012345678901234567890123456789\", fillcolor=\"#8ab4f8\", color=\"#5f6368\"];",
                "  n2 [label=\"0x9234…6789\\nrisk 80\", tooltip=\"0x923456789012345678901234567890123456789\", \
                 fillcolor=\"#f7b084\", color=\"#5f6368\"];",
                "  f0 [label=\"+123 wallets\", tooltip=\"1000 tx with +123 wallets\", style=\"rounded,dashed\"];",
                "  n0 -> f0 [label=\"1000 tx\", style=dashed, penwidth=4.0];",
                "  f2 [label=\"+1 wallet\", tooltip=\"1 tx with +1 wallet\", style=\"rounded,dashed\"];",
                "  n2 -> f2 [label=\"1 tx\", style=dashed, penwidth=1.0];",
                "  n0 -> n1 [label=\"1 tx, 1.5 ETH\", tooltip=\"1 tx, 1.5 ETH\", labeltooltip=\"1 tx, 1.5 ETH\", penwidth=1.0];",
                "  n0 -> n2 [label=\"100 tx, <0.0001 ETH\", tooltip=\"100 tx, 0.000000000000000007 ETH\", \
                 labeltooltip=\"100 tx, 0.000000000000000007 ETH\", penwidth=3.0];",
                "  n2 -> n2 [label=\"2 tx, 0 ETH\", tooltip=\"2 tx, 0 ETH\", labeltooltip=\"2 tx, 0 ETH\", penwidth=1.3];",
            ]
        );
        assert_eq!(text, draw(&drawn(), described, Some(ETHER)));
        assert!(!draw(&drawn(), described, None).contains("ETH"));
        let received = draw(&Neighbourhood { direction: Direction::In, ..drawn() }, described, None);
        assert!(received.contains("f0 -> n0"));
        assert!(draw(&Neighbourhood { direction: Direction::Both, ..drawn() }, described, None).contains("dir=none"));
    }

    #[test]
    fn amounts_are_exact_or_truncated() {
        let parts = |value: u128, decimals, at_most| amount(U256::new(value), decimals, at_most);
        assert_eq!(parts(0, 18, 4), "0");
        assert_eq!(parts(1_234_567, 0, 4), "1234567");
        assert_eq!(parts(1_234_567, 6, 4), "1.2345");
        assert_eq!(parts(1_000_009, 6, 4), "1");
        assert_eq!(parts(9, 6, 4), "<0.0001");
        assert_eq!(parts(9, 6, usize::MAX), "0.000009");
        assert_eq!(parts(120, 2, 4), "1.2");
        assert_eq!(amount(U256::MAX, 255, usize::MAX).len(), 2 + 255);
    }

    #[test]
    fn a_label_decides_the_colour_before_the_risk() {
        assert_eq!(fill(Some(LabelKind::Illicit), Some(3)), "#f28b82");
        let bands: Vec<&str> = [0, 24, 25, 49, 50, 74, 75, 100].map(|risk| fill(None, Some(risk))).to_vec();
        assert_eq!(bands.chunks(2).filter(|pair| pair[0] == pair[1]).count(), 4);
        assert_eq!(bands.windows(2).filter(|pair| pair[0] != pair[1]).count(), 3);
        for colour in [None, Some(LabelKind::Illicit), Some(LabelKind::Service), Some(LabelKind::Neutral)]
            .map(|kind| fill(kind, None))
            .iter()
            .chain(&bands)
        {
            assert!(LEGEND.contains(colour) || *colour == "#ffffff");
        }
    }

    /// Scans the text as Graphviz does, and returns the quoted strings and the rest.
    fn scan(text: &str) -> Result<(Vec<String>, String), String> {
        let (mut strings, mut rest) = (Vec::new(), String::new());
        for line in text.lines() {
            let mut characters = if line.starts_with("//") { "" } else { line }.chars();
            while let Some(character) = characters.next() {
                if character != '"' {
                    rest.push(character);
                    continue;
                }
                let mut inside = String::new();
                loop {
                    match characters.next().ok_or("a string is not closed")? {
                        '"' => break,
                        '\\' => match characters.next().ok_or("an escape ends the line")? {
                            escaped @ ('"' | '\\') => inside.push(escaped),
                            'n' => inside.push('\n'),
                            other => return Err(format!("escape sequence \\{other}")),
                        },
                        one => inside.push(one),
                    }
                }
                strings.push(inside);
            }
        }
        Ok((strings, rest))
    }

    proptest! {
        #[test]
        fn untrusted_text_stays_within_its_quotes(
            address in prop_oneof![any::<String>(), "[\"\\\\\n\r<>&;a\\]\\[]{0,20}"],
            label in prop::option::of("[\"\\\\\n<>&;{}a]{0,60}"),
            category in prop::option::of(any::<String>()),
            unit in "[\"\\\\\nA]{0,5}",
        ) {
            let harmless = draw(&drawn(), |_| Description::default(), Some(ETHER));
            let text = draw(
                &drawn(),
                |_| Description { address: address.clone(), label: label.clone(), category: category.clone(), ..Description::default() },
                Some(Unit { name: &unit, ..ETHER }),
            );
            prop_assert_eq!(text.lines().count(), harmless.lines().count());
            prop_assert!(text.chars().all(|one| one == '\n' || !one.is_control()));
            let (strings, rest) = scan(&text).map_err(TestCaseError::fail)?;
            let (expected, harmless_rest) = scan(&harmless).map_err(TestCaseError::fail)?;
            prop_assert_eq!(rest, harmless_rest);
            prop_assert_eq!(strings.len(), expected.len());
            let shown: String = address.chars().map(|one| if escape(&one.to_string()) == " " { ' ' } else { one }).collect();
            let tooltip = strings.iter().map(|one| one.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"));
            prop_assert_eq!(tooltip.filter(|one| *one == shown).count() >= 3, true);
        }
    }
}
