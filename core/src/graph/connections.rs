//! Breadth-first search outwards from one wallet.

use std::collections::{HashMap, HashSet};

use super::{MemoryBudget, Transfers, TraversalError};

/// The deepest search: on real graphs everything that can be reached is reached far earlier.
const MAX_DEPTH: i32 = 32;

/// Wallets asked for at once: large enough to spread the cost of a question, small enough to keep its arguments small.
const SENDERS_PER_QUESTION: usize = 5_000;

/// How far a search may go.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Hops from the source, 1 to 32.
    pub max_depth: i32,
    /// Memory for what was found.
    pub memory: MemoryBudget,
}

/// A wallet that the source is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Its address.
    pub target: String,
    /// Transactions it received from the wallets one hop nearer to the source.
    pub strength: i64,
    /// Its smallest number of hops from the source, from 1 up.
    pub depth: u32,
    /// Its rank by strength among the wallets at this depth: equal strengths share a rank, and the next one skips.
    pub rank: i64,
}

/// The wallets that `source` sent to, directly or over others, each once at its smallest depth: ordered by depth, then
/// strength (strongest first), then address. The source itself is not among them, so cycles end. O(wallets + pairs reached).
///
/// # Errors
/// [`TraversalError::Depth`] for a depth outside 1 to 32, [`TraversalError::Memory`] when the answer outgrows the budget,
/// [`TraversalError::CountOverflow`], and what the source of transfers reports.
pub fn connections<T: Transfers>(
    source: &str,
    limits: Limits,
    transfers: &mut T,
) -> Result<Vec<Connection>, TraversalError<T::Error>> {
    if !(1..=MAX_DEPTH).contains(&limits.max_depth) {
        return Err(TraversalError::Depth { depth: limits.max_depth, limit: MAX_DEPTH });
    }
    let mut memory = limits.memory;
    let mut visited: HashSet<Box<str>> = HashSet::from([Box::from(source)]);
    let mut found: Vec<Connection> = Vec::new();
    let mut frontier = vec![source.to_owned()];
    for depth in 1..=limits.max_depth.unsigned_abs() {
        let mut level: HashMap<Box<str>, i64> = HashMap::new();
        let known = found.len();
        for senders in frontier.chunks(SENDERS_PER_QUESTION) {
            let senders: Vec<&str> = senders.iter().map(String::as_str).collect();
            transfers.outgoing(&senders, |receiver, count| {
                if visited.contains(receiver) {
                    return Ok(());
                }
                if let Some(strength) = level.get_mut(receiver) {
                    *strength = strength
                        .checked_add(count)
                        .ok_or_else(|| TraversalError::CountOverflow { wallet: receiver.to_owned() })?;
                    return Ok(());
                }
                if !memory.take_wallet(receiver.len()) {
                    let wallets = known + level.len();
                    return Err(TraversalError::Memory { budget: memory.limit(), depth, wallets });
                }
                level.insert(Box::from(receiver), count);
                Ok(())
            })?;
        }
        if level.is_empty() {
            break;
        }
        let ranked = rank(level, depth);
        visited.extend(ranked.iter().map(|c| Box::from(c.target.as_str())));
        frontier = ranked.iter().map(|c| c.target.clone()).collect();
        found.extend(ranked);
    }
    Ok(found)
}

/// One depth's wallets, strongest first, ties by address, with SQL's `rank()`.
fn rank(level: HashMap<Box<str>, i64>, depth: u32) -> Vec<Connection> {
    let mut wallets: Vec<(Box<str>, i64)> = level.into_iter().collect();
    wallets.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let mut ranked: Vec<Connection> = Vec::with_capacity(wallets.len());
    for (position, (wallet, strength)) in (1_i64..).zip(wallets) {
        let rank = match ranked.last() {
            Some(last) if last.strength == strength => last.rank,
            _ => position,
        };
        ranked.push(Connection { target: wallet.into(), strength, depth, rank });
    }
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    struct InMemory(Vec<(String, String)>);

    impl InMemory {
        fn of(edges: &[(&str, &str)]) -> Self {
            Self(edges.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect())
        }
    }

    impl Transfers for InMemory {
        type Error = Infallible;

        fn outgoing<F>(&mut self, senders: &[&str], mut each: F) -> Result<(), TraversalError<Infallible>>
        where
            F: FnMut(&str, i64) -> Result<(), TraversalError<Infallible>>,
        {
            for (from, to) in &self.0 {
                if senders.contains(&from.as_str()) {
                    each(to, 1)?;
                }
            }
            Ok(())
        }
    }

    fn limits(max_depth: i32) -> Limits {
        Limits { max_depth, memory: MemoryBudget::new(1 << 20) }
    }

    fn summary(found: &[Connection]) -> Vec<(&str, i64, u32, i64)> {
        found.iter().map(|c| (c.target.as_str(), c.strength, c.depth, c.rank)).collect()
    }

    #[test]
    fn cycles_end_and_each_wallet_comes_once_at_its_smallest_depth() {
        let mut graph = InMemory::of(&[("a", "b"), ("b", "c"), ("c", "a"), ("a", "c"), ("c", "d"), ("d", "d")]);
        let found = connections("a", limits(5), &mut graph).unwrap();
        assert_eq!(summary(&found), [("b", 1, 1, 1), ("c", 1, 1, 1), ("d", 1, 2, 1)]);
    }

    #[test]
    fn strength_counts_transactions_from_the_depth_before_and_ranks_skip_after_ties() {
        let mut graph =
            InMemory::of(&[("a", "b"), ("a", "b"), ("a", "c"), ("a", "d"), ("b", "e"), ("c", "e"), ("e", "b")]);
        let found = connections("a", limits(2), &mut graph).unwrap();
        assert_eq!(summary(&found), [("b", 2, 1, 1), ("c", 1, 1, 2), ("d", 1, 1, 2), ("e", 2, 2, 1)]);
    }

    #[test]
    fn depths_outside_the_range_are_refused_with_the_value() {
        for depth in [i32::MIN, -1, 0, 33, 1000] {
            let error = connections("a", limits(depth), &mut InMemory::of(&[])).unwrap_err();
            assert_eq!(error, TraversalError::Depth { depth, limit: 32 });
        }
    }

    #[test]
    fn an_answer_beyond_the_budget_is_an_error_that_says_how_far_it_came() {
        let names: Vec<String> = (0..100).map(|i| format!("wallet-{i}")).collect();
        let edges: Vec<(&str, &str)> = names.iter().map(|n| ("a", n.as_str())).collect();
        let tight = Limits { max_depth: 1, memory: MemoryBudget::new(1_000) };
        let error = connections("a", tight, &mut InMemory::of(&edges)).unwrap_err();
        assert!(matches!(error, TraversalError::Memory { budget: 1_000, depth: 1, wallets: 1..100 }));
    }

    #[test]
    fn a_wallet_that_never_sent_is_connected_to_nobody() {
        assert!(connections("z", limits(3), &mut InMemory::of(&[("a", "b")])).unwrap().is_empty());
    }

    /// The definition, written as plainly as possible: distances by relaxation to a fixed point.
    fn by_relaxation(edges: &[(String, String)], source: &str, max_depth: u32) -> BTreeMap<String, (u32, i64)> {
        let mut distance: BTreeMap<String, u32> = BTreeMap::from([(source.to_owned(), 0)]);
        for _ in 0..edges.len() {
            for (from, to) in edges {
                if let Some(d) = distance.get(from).copied() {
                    let reached = distance.entry(to.clone()).or_insert(d + 1);
                    *reached = (*reached).min(d + 1);
                }
            }
        }
        distance.retain(|_, d| *d <= max_depth);
        let strength = |wallet: &String, d: u32| {
            edges.iter().filter(|(from, to)| to == wallet && distance.get(from) == Some(&(d - 1))).count() as i64
        };
        distance.iter().filter(|(_, d)| **d > 0).map(|(w, d)| (w.clone(), (*d, strength(w, *d)))).collect()
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            edges in prop::collection::vec((0_u8..12, 0_u8..12), 0..60),
            max_depth in 1_i32..6,
        ) {
            let edges: Vec<(String, String)> =
                edges.into_iter().map(|(a, b)| (format!("w{a}"), format!("w{b}"))).collect();
            let found = connections("w0", limits(max_depth), &mut InMemory(edges.clone())).unwrap();
            let ours: BTreeMap<String, (u32, i64)> =
                found.iter().map(|c| (c.target.clone(), (c.depth, c.strength))).collect();
            prop_assert_eq!(ours.len(), found.len());
            prop_assert_eq!(ours, by_relaxation(&edges, "w0", max_depth.unsigned_abs()));
        }
    }
}
