//! Paths agree with a plain definition: all sequences of transfers, and all ways to read a pattern.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::graph::test_graph::{Patience, Sent, TestGraph};
use crate::graph::{Position, Uninterrupted};

const NAMES: [&str; 4] = ["any", "unlabelled", "illicit", "exchange"];

/// Labels by the number of a wallet: every fourth is illicit, every fourth an exchange.
struct Labels<'t>(&'t TestGraph);

fn names_of(wallet: u32) -> [usize; 2] {
    [
        0,
        if wallet.is_multiple_of(4) {
            2
        } else if wallet % 4 == 1 {
            3
        } else {
            1
        },
    ]
}

impl PathKinds for Labels<'_> {
    type Error = SearchError;

    fn prepare(&mut self, _graph: &Graph<'_>, _wallets: &[WalletId]) -> Result<(), SearchError> {
        Ok(())
    }

    fn has_any(&self, wallet: WalletId, names: &[usize]) -> bool {
        names_of(self.0.number(wallet)).iter().any(|name| names.contains(name))
    }
}

fn question<'a>(pattern: &'a PathPattern, starts: &'a [WalletId]) -> PathQuestion<'a> {
    PathQuestion {
        pattern,
        starts,
        filter: EdgeFilter::default(),
        max_gap: None,
        min_kept: 0,
        max_paths: 100_000,
        max_wallets: None,
        memory: MemoryBudget::new(1 << 26),
    }
}

/// Sender, receiver, time and value of each transfer.
type Hops = Vec<(u32, u32, i64, u128)>;

fn hops(test: &TestGraph, path: &[MatchedHop]) -> Hops {
    let hop = |hop: &MatchedHop| {
        (test.number(hop.from), test.number(hop.to), hop.transfer.time, hop.transfer.value.as_u128())
    };
    path.iter().map(hop).collect()
}

/// Returns whether the wallets can be read as the elements in turn.
fn reads(wallets: &[u32], elements: &[PathElement]) -> bool {
    let Some((element, rest)) = elements.split_first() else { return wallets.is_empty() };
    (element.least..=element.most).any(|count| {
        let count = count as usize;
        count <= wallets.len()
            && wallets[..count].iter().all(|wallet| names_of(*wallet).iter().any(|name| element.names.contains(name)))
            && reads(&wallets[count..], rest)
    })
}

fn expected(rows: &[(Sent, u64)], pattern: &PathPattern, gap: Option<i64>, min_kept: u32) -> BTreeSet<Hops> {
    fn extend(
        path: &mut Vec<usize>,
        rows: &[(Sent, u64)],
        pattern: &PathPattern,
        (gap, min_kept): (Option<i64>, u32),
        found: &mut BTreeSet<Hops>,
    ) {
        let wallets: Vec<u32> =
            path.iter().map(|row| rows[*row].0.from).chain(path.last().map(|row| rows[*row].0.to)).collect();
        if wallets.iter().collect::<BTreeSet<_>>().len() < wallets.len() {
            return;
        }
        if !path.is_empty() && reads(&wallets, pattern.elements()) {
            found.insert(
                path.iter().map(|row| &rows[*row].0).map(|row| (row.from, row.to, row.time, row.value)).collect(),
            );
        }
        if path.len() == 5 {
            return;
        }
        for (number, (row, block)) in rows.iter().enumerate() {
            let follows = path.last().is_none_or(|last| {
                let (last, last_block) = &rows[*last];
                last.to == row.from
                    && (last.time, last_block) <= (row.time, block)
                    && gap.is_none_or(|gap| row.time - last.time <= gap)
                    && row.value * 1_000_000 >= last.value * u128::from(min_kept)
            });
            if row.value > 0 && follows {
                path.push(number);
                extend(path, rows, pattern, (gap, min_kept), found);
                path.pop();
            }
        }
    }
    let mut found = BTreeSet::new();
    extend(&mut Vec::new(), rows, pattern, (gap, min_kept), &mut found);
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn paths_agree_with_all_sequences_of_transfers(
        rows in prop::collection::vec((0..9_u32, 0..9_u32, 0..9_i64, 0..9_u128, 1..3_u64), 0..26),
        overlaid in 0..10_usize,
        text in prop_oneof![
            Just("illicit -> exchange"),
            Just("illicit -> unlabelled{1,3} -> exchange"),
            Just("illicit|exchange{1,2} -> any{1,2} -> any"),
            Just("any{2,3}"),
            Just("unlabelled{2} -> any{1,3}"),
        ],
        gap in prop::option::of(0..5_i64),
        min_kept in prop_oneof![Just(0_u32), Just(500_000), Just(900_000), Just(1_000_000)],
        most in 1..5_usize,
    ) {
        let mut seen = BTreeSet::new();
        let rows: Vec<(Sent, u64)> = rows
            .into_iter()
            .filter(|row| seen.insert((row.0, row.1, row.2, row.3)))
            .map(|(from, to, time, value, block)| (Sent { from, to, token: 0, time, value }, block))
            .collect();
        let sent: Vec<Sent> = rows.iter().map(|row| row.0.clone()).collect();
        // Transfers of one block have no order.
        let test = TestGraph::with(&sent, |_| false, |number| Position { block: rows[number].1, ..Position::default() }, overlaid);
        let pattern = PathPattern::parse(text, &NAMES).unwrap();
        let graph = test.graph();
        let starts: Vec<WalletId> = (0..9).map(|number| test.wallet(number)).filter(|wallet| wallet.get() < graph.wallets()).collect();
        let question = PathQuestion { max_gap: gap, min_kept, ..question(&pattern, &starts) };
        let found = match_paths(&graph, &question, &mut Labels(&test), &mut Uninterrupted).unwrap();
        prop_assert_eq!((found.more, found.halted), (false, None));
        let all: Vec<Hops> = found.paths.iter().map(|path| hops(&test, path)).collect();
        let distinct: BTreeSet<Hops> = all.iter().cloned().collect();
        prop_assert_eq!(distinct.len(), all.len());
        prop_assert_eq!(distinct, expected(&rows, &pattern, gap, min_kept));
        for path in &found.paths {
            for pair in path.windows(2) {
                let key = |hop: &MatchedHop| (hop.transfer.time, hop.transfer.position.block);
                prop_assert_eq!(pair[1].order_inferred, key(&pair[0]) == key(&pair[1]));
            }
        }

        // Of many paths, the first ones.
        let few = PathQuestion { max_paths: most, ..question };
        let some = match_paths(&graph, &few, &mut Labels(&test), &mut Uninterrupted).unwrap();
        prop_assert_eq!(&some.paths[..], &found.paths[..found.paths.len().min(most)]);
        prop_assert_eq!(some.more, found.paths.len() > most);
    }
}

#[test]
fn shares_are_rounded_up() {
    let share = |value, share| share_of(U256::new(value), share).as_u128();
    assert_eq!([share(10, 500_000), share(11, 500_000), share(1, 1), share(0, 1_000_000)], [5, 6, 1, 0]);
    assert_eq!(share_of(U256::MAX, 1_000_000), U256::MAX);
}

#[test]
fn limits_end_a_search_for_paths() {
    // Wallet 0 is illicit and sends to many, each of which sends to wallet 5, an exchange.
    let middle = |number: u32| 2 + 4 * number;
    let rows: Vec<Sent> = (0..200)
        .flat_map(|number| {
            let time = i64::from(number);
            [
                Sent { from: 0, to: middle(number), token: 0, time, value: 5 },
                Sent { from: middle(number), to: 5, token: 0, time: time + 1, value: 5 },
            ]
        })
        .collect();
    let test = TestGraph::new(&rows, 0);
    let graph = test.graph();
    let starts = [test.wallet(0)];
    let pattern = PathPattern::parse("illicit -> unlabelled -> exchange", &NAMES).unwrap();
    let all = question(&pattern, &starts);
    let ask = |question: &PathQuestion<'_>| match_paths(&graph, question, &mut Labels(&test), &mut Uninterrupted);
    assert_eq!(ask(&all).unwrap().paths.len(), 200);
    let few = ask(&PathQuestion { max_wallets: Some(11), ..all }).unwrap();
    assert_eq!((few.halted, few.paths.len()), (Some(Halt::Wallets), 0));
    let few = ask(&PathQuestion { max_wallets: Some(202), ..all }).unwrap();
    assert_eq!((few.halted, few.paths.len()), (None, 200));
    let ended = match_paths(&graph, &all, &mut Labels(&test), &mut Patience(1)).unwrap();
    assert_eq!((ended.halted, ended.paths.len()), (Some(Halt::Time), 0));
    let error = ask(&PathQuestion { memory: MemoryBudget::new(10_000), ..all }).unwrap_err();
    assert!(matches!(error, SearchError::Memory { budget: 10_000, .. }), "{error}");
    let several = EdgeFilter { assets: crate::graph::AssetSelection::All, ..all.filter };
    assert_eq!(ask(&PathQuestion { filter: several, ..all }).unwrap_err(), SearchError::SeveralAssets);
}
