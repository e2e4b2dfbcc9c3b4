//! The search for paths of a pattern.
//!
//! A node is a transfer in a state of the pattern: the place of its receiver in the sequence. Which
//! nodes follow a node depends on time and amount alone, so whether a node follows any of those
//! that reach its sender is known from a sliding minimum over their amounts, and whether any leads
//! on, from a sliding maximum backward.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;

use super::pattern::State;
use super::{MatchedHop, MatchedPaths, PathKinds, PathQuestion, share_of};
use crate::graph::budget::{Halt, Interrupt, MemoryBudget, Pace, Stop};
use crate::graph::error::{Damaged, SearchError};
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::in_time::{AssetClass, Key, Place};
use crate::graph::query::visited::{Visited, book};
use crate::graph::types::{Side, U256, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;
use crate::graph::view::transfers::Transfer;

/// Transfers whose receivers' labels are read together.
const LOOKUP_BATCH: usize = 5_000;

/// Length from which a list is sorted with cancellation checks.
const LONG: usize = 1 << 14;

/// A transfer in a state.
#[derive(Debug, Clone, Copy)]
struct Node {
    number: u64,
    from: WalletId,
    to: WalletId,
    place: Place,
    value: U256,
    /// It can be the first transfer of a path.
    is_first: bool,
    /// A path goes on from it to an end.
    is_useful: bool,
}

/// The nodes of a state.
#[derive(Debug, Default)]
struct StateNodes {
    /// By receiver, then place.
    nodes: Vec<Node>,
    /// Useful nodes by sender, then latest place.
    by_sender: Vec<u32>,
}

/// Reason for which a part of the search ends early.
enum Ended<E> {
    Halt(Halt),
    Error(E),
}

impl<E: From<SearchError>> From<Stop> for Ended<E> {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Halt(halt) => Self::Halt(halt),
            Stop::Error(error) => Self::Error(error.into()),
        }
    }
}

impl<E: From<SearchError>> From<SearchError> for Ended<E> {
    fn from(error: SearchError) -> Self {
        Self::Error(error.into())
    }
}

impl<E: From<SearchError>> From<Damaged> for Ended<E> {
    fn from(error: Damaged) -> Self {
        SearchError::from(error).into()
    }
}

/// The nodes that reach a wallet and come before a transfer, but not too long before it, with the
/// smallest amount that must be passed on: it decides whether the transfer follows any of them.
struct Followed<'n> {
    arrived: &'n [Node],
    next: usize,
    /// Time and amount to pass on, of nodes that no later one is at or below.
    smallest: VecDeque<(i64, U256)>,
}

impl Followed<'_> {
    /// Places must come in ascending order of the latest one.
    fn admits(&mut self, place: &Place, value: U256, question: &PathQuestion<'_>) -> bool {
        while let Some(node) = self.arrived.get(self.next).filter(|node| node.place.earliest <= place.latest) {
            let needed = share_of(node.value, question.min_kept);
            while self.smallest.pop_back_if(|(_, smallest)| *smallest >= needed).is_some() {}
            self.smallest.push_back((node.place.earliest.time, needed));
            self.next += 1;
        }
        if let Some(gap) = question.max_gap {
            let first = place.latest.time.saturating_sub(gap);
            while self.smallest.pop_front_if(|(time, _)| *time < first).is_some() {}
        }
        self.smallest.front().is_some_and(|(_, needed)| value >= *needed)
    }
}

/// A transfer whose receiver's label is not known yet.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    from: WalletId,
    to: WalletId,
    transfer: Transfer,
    place: Place,
    is_first: bool,
}

pub(super) struct PathMatcher<'s, K, W> {
    graph: &'s Graph<'s>,
    question: &'s PathQuestion<'s>,
    kinds: &'s mut K,
    filter: EdgeFilter,
    class: AssetClass,
    states: Vec<State>,
    nodes: Vec<StateNodes>,
    /// Wallets of the sequence.
    wallets: Visited,
    wallet_count: u64,
    halted: Option<Halt>,
    memory: MemoryBudget,
    pace: Pace<'s, W>,
    /// Paths found, and the transfers of each.
    paths: Vec<Vec<MatchedHop>>,
    known: HashSet<Vec<u64>>,
    more: bool,
}

impl<'s, K: PathKinds, W: Interrupt> PathMatcher<'s, K, W> {
    pub(super) fn new(
        graph: &'s Graph<'s>,
        question: &'s PathQuestion<'s>,
        kinds: &'s mut K,
        interrupt: &'s mut W,
    ) -> Self {
        let mut memory = question.memory;
        let states = question.pattern.states();
        let least = question.filter.min_value.unwrap_or(U256::ZERO).max(U256::ONE);
        Self {
            graph,
            question,
            kinds,
            filter: EdgeFilter { min_value: Some(least), min_transfers: 1, include_failed: false, ..question.filter },
            class: AssetClass::of(question.filter.assets)[0].0,
            nodes: states.iter().map(|_| StateNodes::default()).collect(),
            states,
            wallets: Visited::new(graph.wallets(), &mut memory),
            wallet_count: 0,
            halted: None,
            memory,
            pace: Pace::new(interrupt),
            paths: Vec::new(),
            known: HashSet::new(),
            more: false,
        }
    }

    pub(super) fn run(mut self) -> Result<MatchedPaths, K::Error> {
        match self.find() {
            Ok(()) => {}
            Err(Ended::Halt(halt)) => self.halted = Some(halt),
            Err(Ended::Error(error)) => return Err(error),
        }
        Ok(MatchedPaths { paths: self.paths, more: self.more, halted: self.halted })
    }

    fn find(&mut self) -> Result<(), Ended<K::Error>> {
        self.start()?;
        for state in 1..self.states.len() {
            self.arrange(state)?;
            self.send_on(state)?;
        }
        for state in (1..self.states.len()).rev() {
            self.mark_useful(state)?;
        }
        let mut roots: Vec<(usize, u32)> = Vec::new();
        for (state, of_state) in self.nodes.iter().enumerate() {
            let is_root = |node: &&u32| of_state.nodes.get(**node as usize).is_some_and(|node| node.is_first);
            roots.extend(of_state.by_sender.iter().filter(is_root).map(|node| (state, *node)));
        }
        let bytes = roots.len() * size_of::<(usize, u32)>();
        book(&mut self.memory, bytes, 0, self.wallet_count as usize)?;
        let key = |root: &(usize, u32)| {
            let node = &self.nodes[root.0].nodes[root.1 as usize];
            (
                node.place.earliest,
                self.graph.order(node.from),
                self.graph.order(node.to),
                node.value,
                node.number,
                root.0,
            )
        };
        let mut keyed: Vec<_> = roots.into_iter().map(|root| (key(&root), root)).collect();
        keyed.sort_unstable();
        for (_, root) in keyed {
            if !self.more {
                self.extend(&mut vec![root])?;
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Ended<K::Error>> {
        self.pace.step(0).map_or(Ok(()), |halt| Err(Ended::Halt(halt)))
    }

    /// Returns the states that a state leads to.
    fn next_states(&self, state: usize) -> Vec<usize> {
        let pattern = self.question.pattern;
        (state + 1..self.states.len()).filter(|next| pattern.leads(self.states[state], self.states[*next])).collect()
    }

    /// Counts a wallet, and returns whether it may be part of the search.
    fn admit(&mut self, wallet: WalletId) -> Result<bool, SearchError> {
        if self.wallets.get(wallet).is_some() {
            return Ok(true);
        }
        if self.question.max_wallets.is_some_and(|max_wallets| self.wallet_count >= max_wallets) {
            self.halted = Some(Halt::Wallets);
            return Ok(false);
        }
        book(&mut self.memory, self.wallets.cost(), 0, self.wallet_count as usize)?;
        self.wallets.insert(wallet, 0);
        self.wallet_count += 1;
        Ok(true)
    }

    /// Reads the transfers of the wallets that a path may begin with.
    fn start(&mut self) -> Result<(), Ended<K::Error>> {
        let first = &self.question.pattern.elements()[0];
        let mut starts = self.question.starts.to_vec();
        starts.sort_unstable_by_key(|wallet| self.graph.order(*wallet));
        starts.dedup();
        let mut found = Vec::new();
        for batch in starts.chunks(LOOKUP_BATCH) {
            self.step()?;
            self.kinds.prepare(self.graph, batch).map_err(Ended::Error)?;
            for wallet in batch {
                if self.kinds.has_any(*wallet, &first.names) && self.admit(*wallet)? {
                    self.sent_by(0, *wallet, &[], &mut found)?;
                }
            }
        }
        self.classify(0, &mut found)
    }

    /// Sorts the nodes of a state, and joins those of one transfer.
    fn arrange(&mut self, state: usize) -> Result<(), Ended<K::Error>> {
        let mut nodes = std::mem::take(&mut self.nodes[state].nodes);
        let key = |node: &Node| (node.to, node.place.earliest, node.place.latest, node.number);
        self.sort(&mut nodes, |a, b| key(a).cmp(&key(b)))?;
        nodes.dedup_by(|a, b| {
            let same = a.number == b.number;
            b.is_first |= same && a.is_first;
            same
        });
        self.nodes[state].nodes = nodes;
        self.step()
    }

    fn sort<T: Copy>(
        &mut self,
        list: &mut [T],
        compare: impl FnMut(&T, &T) -> std::cmp::Ordering,
    ) -> Result<(), SearchError> {
        if list.len() < LONG {
            list.sort_by(compare);
            return Ok(());
        }
        let bytes = size_of_val(list);
        book(&mut self.memory, bytes / 2, 0, self.wallet_count as usize)?;
        sort_with_room(list, self.pace.interrupt(), compare);
        self.memory.give(bytes);
        Ok(())
    }

    /// Reads the transfers that follow those that reach the wallets of a state.
    fn send_on(&mut self, state: usize) -> Result<(), Ended<K::Error>> {
        if self.next_states(state).is_empty() {
            return Ok(());
        }
        let nodes = std::mem::take(&mut self.nodes[state].nodes);
        let mut found = Vec::new();
        for arrived in nodes.chunk_by(|a, b| a.to == b.to) {
            self.sent_by(state, arrived[0].to, arrived, &mut found)?;
        }
        self.classify(state, &mut found)?;
        self.nodes[state].nodes = nodes;
        Ok(())
    }

    /// Reads the transfers of a wallet that follow those by which it was reached, in the order of
    /// places; those of a wallet that a path begins with follow nothing.
    fn sent_by(
        &mut self,
        state: usize,
        wallet: WalletId,
        arrived: &[Node],
        found: &mut Vec<Candidate>,
    ) -> Result<(), Ended<K::Error>> {
        let (graph, question, class, is_first) = (self.graph, self.question, self.class, arrived.is_empty());
        let mut filter = self.filter;
        if let (Some(first), Some(last)) = (arrived.first(), arrived.last()) {
            let since = first.place.earliest.time;
            filter.since = Some(filter.since.map_or(since, |earliest| earliest.max(since)));
            let end = question.max_gap.and_then(|gap| last.place.earliest.time.checked_add(gap)?.checked_add(1));
            filter.until = match (filter.until, end) {
                (Some(until), Some(end)) => Some(until.min(end)),
                (until, end) => until.or(end),
            };
        }
        let mut followed = Followed { arrived, next: 0, smallest: VecDeque::new() };
        // Transfers of one time, which are in another order by their latest places.
        let mut together: Vec<Candidate> = Vec::new();
        graph.counted_transfers(wallet, Side::Out, &filter, |transfer| -> Result<(), Ended<K::Error>> {
            self.step()?;
            let Some(to) = transfer.peer.filter(|peer| *peer != wallet) else { return Ok(()) };
            if together.first().is_some_and(|first| first.transfer.time != transfer.time) {
                self.take_admitted(&mut together, &mut followed, found)?;
                if found.len() >= LOOKUP_BATCH {
                    self.classify(state, found)?;
                }
            }
            let place = Place::among(&transfer, class, Side::Out);
            self.push(&mut together, Candidate { from: wallet, to, transfer, place, is_first })?;
            Ok(())
        })?;
        self.take_admitted(&mut together, &mut followed, found)?;
        self.memory.give(together.capacity() * size_of::<Candidate>());
        Ok(())
    }

    /// Moves the transfers that follow an earlier one.
    fn take_admitted(
        &mut self,
        together: &mut Vec<Candidate>,
        followed: &mut Followed<'_>,
        found: &mut Vec<Candidate>,
    ) -> Result<(), SearchError> {
        let key = |candidate: &Candidate| (candidate.place.latest, candidate.transfer.number);
        self.sort(together, |a, b| key(a).cmp(&key(b)))?;
        for candidate in together.drain(..) {
            let _ = self.pace.step(0);
            if candidate.is_first || followed.admits(&candidate.place, candidate.transfer.value, self.question) {
                self.push(found, candidate)?;
            }
        }
        Ok(())
    }

    fn push<T>(&mut self, list: &mut Vec<T>, item: T) -> Result<(), SearchError> {
        if list.len() == list.capacity() {
            let more = list.len().max(16);
            if !self.memory.take(more * size_of::<T>()) {
                let (budget, wallets) = (self.memory.limit(), self.wallet_count as usize);
                return Err(SearchError::Memory { budget, depth: 0, wallets });
            }
            list.reserve_exact(more);
        }
        list.push(item);
        Ok(())
    }

    /// Makes nodes of transfers whose receivers have the kinds that the next states require.
    fn classify(&mut self, state: usize, found: &mut Vec<Candidate>) -> Result<(), Ended<K::Error>> {
        let next = self.next_states(state);
        let pattern = self.question.pattern;
        let receivers: Vec<WalletId> = found.iter().map(|candidate| candidate.to).collect();
        for batch in receivers.chunks(LOOKUP_BATCH) {
            self.step()?;
            self.kinds.prepare(self.graph, batch).map_err(Ended::Error)?;
        }
        for candidate in found.drain(..) {
            self.step()?;
            for next in &next {
                let element = self.states[*next].element;
                let names = pattern.elements().get(element).map_or(&[] as &[usize], |element| element.names.as_slice());
                if !self.kinds.has_any(candidate.to, names) || !self.admit(candidate.to)? {
                    continue;
                }
                let Candidate { from, to, transfer, place, is_first } = candidate;
                let (number, value) = (transfer.number, transfer.value);
                let mut nodes = std::mem::take(&mut self.nodes[*next].nodes);
                self.push(&mut nodes, Node { number, from, to, place, value, is_first, is_useful: false })?;
                self.nodes[*next].nodes = nodes;
            }
        }
        Ok(())
    }

    /// Marks the nodes of a state that a path ends with or that lead on, and orders them by sender.
    fn mark_useful(&mut self, state: usize) -> Result<(), Ended<K::Error>> {
        let mut nodes = std::mem::take(&mut self.nodes[state].nodes);
        if self.question.pattern.may_end(self.states[state]) {
            for node in &mut nodes {
                self.step()?;
                node.is_useful = true;
            }
        }
        for next in self.next_states(state) {
            self.mark_followed(&mut nodes, next)?;
        }
        let mut by_sender = Vec::new();
        for (number, node) in (0..).zip(&nodes) {
            self.step()?;
            if node.is_useful {
                self.push(&mut by_sender, number)?;
            }
        }
        let graph = self.graph;
        let key = |number: &u32| {
            let node = &nodes[*number as usize];
            (node.from, node.place.latest, graph.order(node.to), node.value, node.number)
        };
        self.sort(&mut by_sender, |a, b| key(a).cmp(&key(b)))?;
        self.nodes[state] = StateNodes { nodes, by_sender };
        Ok(())
    }

    /// Marks the nodes that useful nodes of the next state follow.
    fn mark_followed(&mut self, nodes: &mut [Node], next: usize) -> Result<(), Ended<K::Error>> {
        let question = self.question;
        for group in nodes.chunk_by_mut(|a, b| a.to == b.to) {
            let Some(wallet) = group.first().map(|node| node.to) else { continue };
            let range = self.sent(next, wallet);
            // The latest ones first; of those in reach, the largest amounts that no earlier one
            // surpasses.
            let mut largest: VecDeque<(i64, U256)> = VecDeque::new();
            let mut left = range.end;
            for node in group.iter_mut().rev() {
                self.step()?;
                while left > range.start {
                    let follower = self.follower(next, left - 1);
                    if follower.place.latest < node.place.earliest {
                        break;
                    }
                    while largest.pop_back_if(|(_, largest)| *largest <= follower.value).is_some() {}
                    largest.push_back((follower.place.latest.time, follower.value));
                    left -= 1;
                    self.pace.step(0);
                }
                if let Some(gap) = question.max_gap {
                    let last = node.place.earliest.time.saturating_add(gap);
                    while largest.pop_front_if(|(time, _)| *time > last).is_some() {}
                }
                let needed = share_of(node.value, question.min_kept);
                node.is_useful |= largest.front().is_some_and(|(_, value)| *value >= needed);
            }
        }
        Ok(())
    }

    /// Returns the range of a wallet in the useful nodes of a state by sender.
    fn sent(&self, state: usize, wallet: WalletId) -> Range<usize> {
        let StateNodes { nodes, by_sender } = &self.nodes[state];
        let start = by_sender.partition_point(|number| nodes[*number as usize].from < wallet);
        let length = by_sender[start..].partition_point(|number| nodes[*number as usize].from == wallet);
        start..start + length
    }

    fn follower(&self, state: usize, index: usize) -> Node {
        let StateNodes { nodes, by_sender } = &self.nodes[state];
        nodes[by_sender[index] as usize]
    }

    /// Keeps the path if it is one, and goes on along each node that follows its last one.
    fn extend(&mut self, path: &mut Vec<(usize, u32)>) -> Result<(), Ended<K::Error>> {
        self.step()?;
        let Some((state, number)) = path.last().copied() else { return Ok(()) };
        let last = self.nodes[state].nodes[number as usize];
        if self.question.pattern.may_end(self.states[state]) {
            self.keep(path)?;
        }
        for next in self.next_states(state) {
            let mut range = self.sent(next, last.to);
            let StateNodes { nodes, by_sender } = &self.nodes[next];
            let is_before = |number: &u32| nodes[*number as usize].place.latest < last.place.earliest;
            range.start += by_sender[range.clone()].partition_point(is_before);
            let needed = share_of(last.value, self.question.min_kept);
            let end = self.question.max_gap.map(|gap| last.place.earliest.time.saturating_add(gap));
            for index in range {
                self.step()?;
                if self.more {
                    return Ok(());
                }
                let number = self.nodes[next].by_sender[index];
                let node = self.nodes[next].nodes[number as usize];
                if end.is_some_and(|end| node.place.latest.time > end) {
                    break;
                }
                let visits = |entry: &(usize, u32)| self.nodes[entry.0].nodes[entry.1 as usize].from == node.to;
                if node.value >= needed && !path.iter().any(visits) {
                    path.push((next, number));
                    self.extend(path)?;
                    path.pop();
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, path: &[(usize, u32)]) -> Result<(), Ended<K::Error>> {
        let node = |entry: &(usize, u32)| self.nodes[entry.0].nodes[entry.1 as usize];
        let numbers: Vec<u64> = path.iter().map(|entry| node(entry).number).collect();
        if self.known.contains(&numbers) {
            return Ok(());
        }
        if self.paths.len() >= self.question.max_paths {
            self.more = true;
            return Ok(());
        }
        let mut hops = Vec::with_capacity(path.len());
        let mut before: Option<Key> = None;
        for entry in path {
            let node = node(entry);
            hops.push(MatchedHop {
                from: node.from,
                to: node.to,
                transfer: self.graph.transfer(node.number)?,
                element: self.states[entry.0].element,
                order_inferred: before.is_some_and(|before| before >= node.place.earliest),
            });
            before = Some(node.place.latest);
        }
        let bytes = path.len() * (size_of::<MatchedHop>() + 2 * size_of::<u64>());
        book(&mut self.memory, bytes, path.len() as u32, self.wallet_count as usize)?;
        self.known.insert(numbers);
        self.paths.push(hops);
        Ok(())
    }
}
