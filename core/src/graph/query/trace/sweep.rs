//! The sweep through time that follows tainted funds.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};

use super::account::{Account, LoadedAccount, cost_of_event, event, single};
use super::moment::{HistoryEvent, QueuedEvent, in_flow};
use super::pool::{Portion, Taint};
use super::{End, EndedAmount, Flow, Stops, Terms, Trace, TraceOrigin, TraceStep};
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::Pace;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::error::Damaged;
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::fan_out::has_more_peers;
use crate::graph::types::U256;
use crate::graph::types::{AssetId, Side, WalletId};
use crate::graph::view::graph::Graph;
use crate::graph::{EdgeFilter, SearchError};

/// Follows tainted funds. O(n log n) in the transfers of the followed wallets.
///
/// # Errors
/// [`SearchError::Memory`] when the transfers of the origin do not fit into the memory limit,
/// [`SearchError::Damaged`], and the errors of `stops`. Every other limit ends an amount where it
/// is, see [`End`].
pub fn trace<S: Stops, W: Interrupt>(
    graph: &Graph<'_>,
    origin: &TraceOrigin,
    terms: &Terms,
    stops: &mut S,
    interrupt: &mut W,
) -> Result<Trace, S::Error> {
    let mut sweep = Sweep {
        graph,
        terms,
        stops,
        origin: if let TraceOrigin::Wallet(wallet) = origin { Some(*wallet) } else { None },
        memory: terms.memory,
        pace: Pace::new(interrupt),
        accounts: Vec::new(),
        by_wallet: HashMap::new(),
        waiting: BinaryHeap::new(),
        steps: Vec::new(),
        hubs: HashMap::new(),
        ends: HashMap::new(),
        injected: HashMap::new(),
        cut: None,
    };
    let seeds = sweep.seeds(origin)?;
    if sweep.cut != Some(End::Time) {
        sweep.run(&seeds)?;
    }
    Ok(sweep.finish().map_err(SearchError::from)?)
}

/// A transfer of the origin, or of a followed wallet.
#[derive(Debug, Clone, Copy)]
struct Moving {
    event: HistoryEvent,
    asset: AssetId,
    from: WalletId,
    to: Option<WalletId>,
}

impl Moving {
    /// Makes a transfer from an event in the history of one of its wallets.
    fn of(event: HistoryEvent, asset: AssetId, wallet: WalletId) -> Self {
        match event.side() {
            Side::Out => Self { event, asset, from: wallet, to: event.peer },
            Side::In => Self { event, asset, from: event.peer.unwrap_or(WalletId::NO_SENDER), to: Some(wallet) },
        }
    }

    /// Returns the wallet where it arrives in the direction of the flow.
    fn arrives(&self, flow: Flow) -> Option<WalletId> {
        match flow {
            Flow::Forward => self.to,
            Flow::Backward => self.from.some(),
        }
    }
}

/// Sum of the amounts that ended at a wallet for one reason.
#[derive(Debug, Clone, Copy)]
struct Pile {
    amount: U256,
    hop: u32,
    transfers: u64,
    first: i64,
    last: i64,
}

/// Wallets in a batch of look-ups, which takes some tens of milliseconds.
const LOOKUP_BATCH: usize = 2_000;

/// Bytes of an entry of `hubs`, with the spare capacity of the table.
const HUB_ENTRY: usize = 32;

/// Bytes of an entry of `ends`, with the spare capacity of the table.
const END_ENTRY: usize = 2 * (size_of::<Pile>() + 16);

/// Destination of an amount.
enum Destination {
    /// Index of the account that it goes into.
    Account(usize),
    /// Reason why it ends.
    End(End),
}

struct Sweep<'s, 'g, S, W> {
    graph: &'s Graph<'g>,
    terms: &'s Terms,
    stops: &'s mut S,
    /// The wallet that the trace begins at.
    origin: Option<WalletId>,
    memory: MemoryBudget,
    pace: Pace<'s, W>,
    accounts: Vec<Account>,
    by_wallet: HashMap<(WalletId, AssetId), usize>,
    waiting: BinaryHeap<QueuedEvent>,
    steps: Vec<TraceStep>,
    /// Caches whether a wallet has too many counterparties.
    hubs: HashMap<(WalletId, AssetId), bool>,
    ends: HashMap<(Option<WalletId>, AssetId, End), Pile>,
    injected: HashMap<AssetId, U256>,
    cut: Option<End>,
}

impl<S: Stops, W: Interrupt> Sweep<'_, '_, S, W> {
    /// Returns the transfers that the trace begins with, in the order of the flow.
    fn seeds(&mut self, origin: &TraceOrigin) -> Result<Vec<Moving>, S::Error> {
        let (terms, graph) = (self.terms, self.graph);
        let mut seeds = Vec::new();
        match origin {
            TraceOrigin::Transfers(sent) => {
                for seed in sent.iter().filter(|seed| terms.assets.contains(seed.transfer.asset)) {
                    let event = event(graph, seed.from, Side::Out, &seed.transfer);
                    seeds.push(Moving::of(event, seed.transfer.asset, seed.from));
                }
            }
            TraceOrigin::Wallet(wallet) => {
                let side = terms.flow.side();
                let filter = EdgeFilter { since: terms.since, ..EdgeFilter::history(terms.assets, terms.until) };
                let (memory, pace) = (&mut self.memory, &mut self.pace);
                // Sorting takes the same again; the rest is left to follow them.
                let max_seeds = memory.left() / (4 * size_of::<Moving>());
                let mut full = false;
                let scan = graph.counted_transfers(*wallet, side, &filter, |transfer| -> Result<(), SearchError> {
                    pace.step(0);
                    full |= seeds.len() >= max_seeds;
                    // Transfers to oneself move nothing.
                    if !full && transfer.value > U256::ZERO && transfer.peer != Some(*wallet) {
                        seeds.push(Moving::of(event(graph, *wallet, side, &transfer), transfer.asset, *wallet));
                    }
                    Ok(())
                });
                self.cut = full.then_some(End::Memory);
                scan?;
                memory.take(2 * seeds.len() * size_of::<Moving>());
            }
        }
        sort_with_room(&mut seeds, self.pace.interrupt(), |left, right| {
            in_flow(terms.flow, &left.event.moment, &right.event.moment)
        });
        seeds.dedup_by_key(|seed| seed.event.moment.number);
        let mut peers: Vec<WalletId> = seeds.iter().filter_map(|seed| seed.arrives(terms.flow)).collect();
        peers.sort_unstable();
        peers.dedup();
        for batch in peers.chunks(LOOKUP_BATCH) {
            self.stops.prepare(graph, batch)?;
            if self.pace.interrupt().should_stop() {
                self.cut = Some(End::Time);
                return Ok(Vec::new());
            }
        }
        Ok(seeds)
    }

    fn run(&mut self, seeds: &[Moving]) -> Result<(), S::Error> {
        let mut seeds = seeds.iter().peekable();
        loop {
            if self.memory.left() < size_of::<TraceStep>() + END_ENTRY {
                self.cut = Some(End::Memory);
                return Ok(());
            }
            if let Some(Halt::Time) = self.pace.step(0) {
                self.cut = Some(End::Time);
                return Ok(());
            }
            let order = match (seeds.peek(), self.waiting.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(seed), Some(next)) => in_flow(self.terms.flow, &seed.event.moment, &next.moment),
            };
            let left = if order == Ordering::Less { None } else { self.waiting.pop() };
            let left = match left {
                Some(next) => self.leave(&next),
                None => None,
            };
            if order == Ordering::Greater {
                if let Some((moving, mark, depth)) = left {
                    self.deliver(moving, mark, depth + 1)?;
                }
                continue;
            }
            // A seed is wholly tainted; the part that is tainted already is not counted again.
            let Some(seed) = seeds.next() else { continue };
            let (already, _) = left.map_or((U256::ZERO, 0), |(_, mark, depth)| (mark.tainted, depth));
            let amount = seed.event.moment.value;
            let total = self.injected.entry(seed.asset).or_insert(U256::ZERO);
            *total = total.checked_add(amount.saturating_sub(already)).ok_or(SearchError::ValueOverflow)?;
            self.deliver(*seed, Taint::whole(amount), 1)?;
        }
    }

    /// Processes the next leaving transfer of an account. Returns it if it is tainted.
    fn leave(&mut self, next: &QueuedEvent) -> Option<(Moving, Taint, u32)> {
        let flow = self.terms.flow;
        let account = self.accounts.get_mut(next.account)?;
        account.queued = false;
        account.advance(next.event, flow, &mut self.pace);
        let event = *account.events.get(next.event)?;
        let mark = account.process_next(flow);
        let (wallet, asset, depth) = (account.wallet, account.asset, account.depth);
        account.moved |= mark.tainted > U256::ZERO;
        self.queue(next.account);
        (mark.tainted > U256::ZERO).then(|| (Moving::of(event, asset, wallet), mark, depth))
    }

    /// Queues an account for its next leaving transfer.
    fn queue(&mut self, number: usize) {
        let terms = self.terms;
        let Some(account) = self.accounts.get_mut(number).filter(|account| !account.queued) else { return };
        let Some(event) = account.next_leaving(terms) else { return };
        let Some(moment) = account.events.get(event).map(|event| event.moment) else { return };
        account.queued = true;
        self.waiting.push(QueuedEvent { moment, flow: terms.flow, account: number, event });
    }

    /// Delivers a tainted transfer.
    fn deliver(&mut self, moving: Moving, mark: Taint, hop: u32) -> Result<(), S::Error> {
        let Moving { event, asset, from, to } = moving;
        let (tainted, moment, arrives) = (mark.tainted, event.moment, moving.arrives(self.terms.flow));
        if tainted == U256::ZERO {
            return Ok(());
        }
        self.memory.take(2 * (size_of::<TraceStep>() + mark.parts.len() * size_of::<Portion>()));
        self.pace.step(mark.parts.len());
        let end = match self.destination(arrives, asset, tainted, hop)? {
            Destination::Account(account) => self.join(account, &event, mark, hop),
            Destination::End(end) => Some(end),
        };
        self.steps.push(TraceStep {
            hop,
            from,
            to,
            asset,
            time: moment.time,
            position: moment.position,
            status: event.status,
            amount: moment.value,
            tainted,
            end,
            number: moment.number,
        });
        if let Some(end) = end {
            let pile = Pile { amount: tainted, hop, transfers: 1, first: moment.time, last: moment.time };
            self.add_end(arrives, asset, end, pile);
        }
        Ok(())
    }

    fn add_end(&mut self, wallet: Option<WalletId>, asset: AssetId, end: End, more: Pile) {
        match self.ends.entry((wallet, asset, end)) {
            Entry::Vacant(vacant) => {
                self.memory.take(END_ENTRY);
                vacant.insert(more);
            }
            Entry::Occupied(mut occupied) => {
                let pile = occupied.get_mut();
                pile.amount = pile.amount.saturating_add(more.amount);
                pile.hop = pile.hop.min(more.hop);
                pile.transfers += more.transfers;
                pile.first = pile.first.min(more.first);
                pile.last = pile.last.max(more.last);
            }
        }
    }

    /// Finds the destination of an amount, and opens an account for it if necessary.
    fn destination(
        &mut self,
        arrives: Option<WalletId>,
        asset: AssetId,
        tainted: U256,
        hop: u32,
    ) -> Result<Destination, S::Error> {
        let (terms, graph) = (self.terms, self.graph);
        let Some(wallet) = arrives else { return Ok(Destination::End(End::Contract)) };
        if self.origin == Some(wallet) {
            return Ok(Destination::End(End::TraceOrigin));
        }
        if self.stops.stops_at(wallet) {
            return Ok(Destination::End(End::Stop));
        }
        if let Some(account) = self.by_wallet.get(&(wallet, asset)) {
            return Ok(Destination::Account(*account));
        }
        if hop >= terms.max_hops {
            return Ok(Destination::End(End::Hops));
        }
        if terms.min_value.is_some_and(|least| tainted < least) {
            return Ok(Destination::End(End::Value));
        }
        if graph.transfer_count(wallet, terms.flow.side()) == 0 {
            return Ok(Destination::End(End::Held));
        }
        if self.is_hub(wallet, asset)? {
            return Ok(Destination::End(End::FanOut));
        }
        if terms.max_wallets.is_some_and(|most| self.accounts.len() as u64 >= most) {
            return Ok(Destination::End(self.cut_by(End::Wallets)));
        }
        let (stays, sorted) = cost_of_event(terms);
        let most = self.memory.left() / (stays + sorted);
        let account = match Account::load(graph, wallet, asset, terms, most, &mut self.pace)? {
            LoadedAccount::Account(account) => account,
            LoadedAccount::TooLong => return Ok(Destination::End(self.cut_by(End::Memory))),
            LoadedAccount::Expired => return Ok(Destination::End(self.cut_by(End::Time))),
        };
        self.memory.take(account.events.len() * stays);
        let side = terms.flow.side();
        let mut peers: Vec<WalletId> =
            account.events.iter().filter(|event| event.side() == side).filter_map(|event| event.peer).collect();
        peers.sort_unstable();
        peers.dedup();
        for batch in peers.chunks(LOOKUP_BATCH) {
            self.stops.prepare(graph, batch)?;
            if self.pace.interrupt().should_stop() {
                return Ok(Destination::End(self.cut_by(End::Time)));
            }
        }
        let number = self.accounts.len();
        self.accounts.push(account);
        self.by_wallet.insert((wallet, asset), number);
        Ok(Destination::Account(number))
    }

    /// Reports whether a wallet has too many counterparties.
    fn is_hub(&mut self, wallet: WalletId, asset: AssetId) -> Result<bool, SearchError> {
        let Some(most) = self.terms.max_fan_out else { return Ok(false) };
        if let Some(is_hub) = self.hubs.get(&(wallet, asset)) {
            return Ok(*is_hub);
        }
        let (side, filter) = (self.terms.flow.side(), EdgeFilter::history(single(asset), self.terms.until));
        let is_hub = has_more_peers(self.graph, wallet, side, &filter, most, &mut self.pace)?;
        self.memory.take(HUB_ENTRY);
        self.hubs.insert((wallet, asset), is_hub);
        Ok(is_hub)
    }

    const fn cut_by(&mut self, end: End) -> End {
        self.cut = Some(end);
        end
    }

    /// Adds the taint of a transfer to an account. A transfer outside the window is held where it
    /// arrived.
    fn join(&mut self, number: usize, event: &HistoryEvent, mark: Taint, hop: u32) -> Option<End> {
        let flow = self.terms.flow;
        let account = self.accounts.get_mut(number)?;
        let Some(index) = account.arrival(&event.moment, flow) else { return Some(End::Held) };
        account.depth = account.depth.min(hop);
        account.transfers += 1;
        account.first = account.first.min(event.moment.time);
        account.last = account.last.max(event.moment.time);
        account.marks.insert(index, mark);
        if !account.queued {
            account.advance(index + 1, flow, &mut self.pace);
        }
        self.queue(number);
        None
    }

    fn finish(mut self) -> Result<Trace, Damaged> {
        let (terms, cut, graph) = (self.terms, self.cut, self.graph);
        // Reasons of the accounts that nothing left.
        let mut stayed: HashMap<(WalletId, AssetId), End> = HashMap::new();
        for account in std::mem::take(&mut self.accounts) {
            self.pace.step(account.marks.len());
            // Taint that was about to arrive when the trace was cut.
            let arriving = account.marks.values().fold(U256::ZERO, |sum, mark| sum.saturating_add(mark.tainted));
            let held = account.division.held().saturating_add(arriving);
            let end = cut.filter(|_| account.queued).unwrap_or_else(|| account.end(terms));
            if held > U256::ZERO {
                let Account { depth, transfers, first, last, .. } = account;
                self.add_end(
                    Some(account.wallet),
                    account.asset,
                    end,
                    Pile { amount: held, hop: depth, transfers, first, last },
                );
            }
            if !account.moved {
                stayed.insert((account.wallet, account.asset), end);
            }
        }
        for step in self.steps.iter_mut().filter(|step| step.end.is_none()) {
            self.pace.step(0);
            let arrived = if terms.flow == Flow::Forward { step.to } else { Some(step.from) };
            step.end = arrived.and_then(|wallet| stayed.get(&(wallet, step.asset)).copied());
        }
        let mut names: HashMap<AssetId, &str> = HashMap::new();
        for asset in self.injected.keys() {
            names.insert(*asset, graph.token(*asset)?);
        }
        let name = |asset: AssetId| names.get(&asset).copied().unwrap_or_default();
        let mut ends: Vec<EndedAmount> = Vec::with_capacity(self.ends.len());
        for ((wallet, asset, end), Pile { amount, hop, transfers, first, last }) in self.ends {
            self.pace.step(0);
            ends.push(EndedAmount { wallet, asset, end, amount, hop, transfers, first, last });
        }
        let order = |wallet: Option<WalletId>| wallet.map_or(u64::MAX, |wallet| graph.order(wallet));
        sort_with_room(&mut ends, self.pace.interrupt(), |left, right| {
            let by_amount = name(left.asset).cmp(name(right.asset)).then(right.amount.cmp(&left.amount));
            by_amount.then_with(|| order(left.wallet).cmp(&order(right.wallet))).then(left.end.cmp(&right.end))
        });
        let mut origin: Vec<(AssetId, U256)> = self.injected.into_iter().collect();
        origin.sort_unstable_by(|left, right| name(left.0).cmp(name(right.0)));
        Ok(Trace { steps: self.steps, ends, origin, cut })
    }
}
