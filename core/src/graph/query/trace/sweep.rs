//! The sweep through time that follows tainted funds.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};

use super::account::{Account, Lacking, LoadedAccount, LoadedHistory, cost_of_event, event, history, lacking, single};
use super::hops::{HopAmount, NO_PATH};
use super::moment::{HistoryEvent, QueuedEvent, in_flow};
use super::pool::{Portion, Taint};
use super::ratio::share;
use super::{End, EndedAmount, Flow, Shortfall, StoppedPart, Stops, TaintMethod, Terms, Trace, TraceOrigin, TraceStep};
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::Pace;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::fan_out::has_more_peers;
use crate::graph::query::ties::TieRanks;
use crate::graph::types::U256;
use crate::graph::types::{AssetId, Side, WalletId};
use crate::graph::view::basket::Unvalued;
use crate::graph::view::filter::AssetSelection;
use crate::graph::view::graph::Graph;
use crate::graph::view::transfers::Transfer;
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
        ranks: TieRanks::default(),
        steps: Vec::new(),
        hubs: HashMap::new(),
        ends: HashMap::new(),
        funds: HashMap::new(),
        nodes: Vec::new(),
        stopped: HashMap::new(),
        unvalued: HashMap::new(),
        cut: None,
    };
    let seeds = sweep.seeds(origin)?;
    if sweep.cut != Some(End::Time) {
        sweep.run(&seeds)?;
    }
    Ok(sweep.finish()?)
}

/// A transfer of the origin, or of a followed wallet.
#[derive(Debug, Clone, Copy)]
struct Moving {
    event: HistoryEvent,
    asset: AssetId,
    from: Option<WalletId>,
    to: Option<WalletId>,
}

impl Moving {
    /// Makes a transfer from an event in the history of one of its wallets.
    fn of(event: HistoryEvent, asset: AssetId, wallet: WalletId) -> Self {
        match event.side() {
            Side::Out => Self { event, asset, from: Some(wallet), to: event.peer },
            Side::In => Self { event, asset, from: event.peer, to: Some(wallet) },
        }
    }

    /// Returns the wallet where it arrives in the direction of the flow.
    fn arrives(&self, flow: Flow) -> Option<WalletId> {
        match flow {
            Flow::Forward => self.to,
            Flow::Backward => self.from,
        }
    }

    /// Returns the end of funds that arrive at no wallet.
    const fn nowhere(&self, flow: Flow) -> End {
        match flow {
            // An internal transfer creates no contract without an address.
            Flow::Forward if self.event.moment.position.log_index.is_some() => End::Burned,
            Flow::Forward => End::Contract,
            Flow::Backward if self.asset.get() == AssetId::NATIVE.get() => End::Reward,
            Flow::Backward => End::Minted,
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
    inferred: bool,
}

/// The funds of the origin in one asset.
#[derive(Debug, Clone, Copy, Default)]
struct Funds {
    /// Amounts of the transfers that the trace began with, so far.
    injected: U256,
    /// Amounts in accounts from which they may still leave.
    moving: U256,
    /// Transfers that the trace has yet to begin with.
    seeds_left: usize,
    /// Transfers followed since too little was moving to go on much longer.
    late_steps: usize,
    /// The trace of the asset has ended.
    closed: bool,
}

/// A step of a path.
#[derive(Debug, Clone, Copy)]
struct PathNode {
    number: u64,
    /// The node before it.
    before: u32,
}

/// Wallets in a batch of look-ups, which takes some tens of milliseconds.
const LOOKUP_BATCH: usize = 2_000;

/// Denominator of [`Terms::min_share`].
const MILLION: u32 = 1_000_000;

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
    ranks: TieRanks,
    steps: Vec<TraceStep>,
    /// Caches whether a wallet has too many counterparties.
    hubs: HashMap<(WalletId, AssetId), bool>,
    ends: HashMap<(Option<WalletId>, AssetId, End), Pile>,
    funds: HashMap<AssetId, Funds>,
    nodes: Vec<PathNode>,
    /// By wallet and hops, the sum and the largest part of amounts at wallets where tracing stops.
    stopped: HashMap<(WalletId, u32), (U256, HopAmount)>,
    /// By asset, transfers that the basket has no value for.
    unvalued: HashMap<AssetId, Unvalued>,
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
                    // A reward is seen from its receiver.
                    let (wallet, side) = match (seed.from, seed.transfer.peer) {
                        (Some(from), _) => (from, Side::Out),
                        (None, Some(to)) => (to, Side::In),
                        (None, None) => continue,
                    };
                    let peer = if side == Side::Out { seed.transfer.peer } else { None };
                    let event = event(graph, wallet, side, &Transfer { peer, ..seed.transfer });
                    seeds.push(Moving::of(event, seed.transfer.asset, wallet));
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
                self.note_unvalued(*wallet, terms.since, terms.until)?;
            }
        }
        for seed in &mut seeds {
            if let Some(sender) = seed.from {
                seed.event.moment.rank =
                    self.ranks.rank(graph, sender, seed.event.moment.tie(seed.asset), &mut self.pace)?;
            }
        }
        sort_with_room(&mut seeds, self.pace.interrupt(), |left, right| {
            in_flow(terms.flow, &left.event.moment, &right.event.moment)
        });
        seeds.dedup_by_key(|seed| seed.event.moment.number);
        for seed in &seeds {
            self.funds.entry(seed.asset).or_default().seeds_left += 1;
        }
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
                Some(next) => self.leave(&next)?,
                None => None,
            };
            if order == Ordering::Greater {
                if let Some((moving, mark, depth)) = left {
                    self.deliver(moving, mark, depth + 1)?;
                    self.close(moving.asset);
                }
                continue;
            }
            // A seed is wholly tainted; the part that is tainted already is not counted again.
            let Some(seed) = seeds.next() else { continue };
            let (already, _) = left.map_or((U256::ZERO, 0), |(_, mark, depth)| (mark.tainted, depth));
            let amount = seed.event.moment.value;
            let funds = self.funds.entry(seed.asset).or_default();
            let total = funds.injected.checked_add(amount.saturating_sub(already));
            funds.injected = total.ok_or(SearchError::ValueOverflow)?;
            funds.seeds_left = funds.seeds_left.saturating_sub(1);
            self.deliver(*seed, Taint::whole(self.terms.method, amount), 1)?;
            self.close(seed.asset);
        }
    }

    /// Ends the trace of an asset of which too little is still moving.
    fn close(&mut self, asset: AssetId) {
        let (least, method) = (self.terms.min_share, self.terms.method);
        let Some(funds) = self.funds.get_mut(&asset) else { return };
        if least > 0 && method != TaintMethod::Poison && funds.seeds_left == 0 {
            let least = share(funds.injected, U256::from(least), U256::from(MILLION));
            funds.late_steps += usize::from(funds.moving < least);
            funds.closed |= funds.late_steps > self.terms.late_steps;
        }
    }

    fn is_closed(&self, asset: AssetId) -> bool {
        self.funds.get(&asset).is_some_and(|funds| funds.closed)
    }

    /// Processes the next leaving transfer of an account. Returns it if it is tainted.
    fn leave(&mut self, next: &QueuedEvent) -> Result<Option<(Moving, Taint, u32)>, SearchError> {
        let flow = self.terms.flow;
        let asset = self.accounts.get(next.account).map(|account| account.asset);
        if asset.is_some_and(|asset| self.is_closed(asset)) {
            // The account stays queued: its funds end there.
            return Ok(None);
        }
        let Some(account) = self.accounts.get_mut(next.account) else { return Ok(None) };
        account.queued = false;
        account.advance(next.event, flow, &mut self.pace);
        let Some(event) = account.events.get(next.event).copied() else { return Ok(None) };
        let mut mark = account.process_next(flow);
        let (wallet, asset, depth) = (account.wallet, account.asset, account.depth);
        let is_tainted = mark.tainted > U256::ZERO;
        account.moved |= is_tainted;
        account.inferred |= is_tainted && (event.inferred || event.unplaced);
        mark.inferred = account.inferred;
        account.amount = account.amount.saturating_sub(mark.tainted);
        self.queue(next.account)?;
        Ok(is_tainted.then(|| (Moving::of(event, asset, wallet), mark, depth)))
    }

    /// Queues an account for its next leaving transfer, and counts its funds as moving if there is
    /// one.
    fn queue(&mut self, number: usize) -> Result<(), SearchError> {
        let (terms, graph) = (self.terms, self.graph);
        let Some(account) = self.accounts.get_mut(number) else { return Ok(()) };
        if !account.queued
            && let Some(index) = account.next_leaving(terms)
            && let Some(event) = account.events.get_mut(index)
        {
            // Alone in the wallet's history of the tie; backward, other wallets' transfers may
            // precede it all the same.
            if terms.flow == Flow::Backward
                && !event.inferred
                && let Some(sender) = event.peer
            {
                let tie = event.moment.tie(account.asset);
                event.moment.rank = self.ranks.rank(graph, sender, tie, &mut self.pace)?;
            }
            account.queued = true;
            let moment = event.moment;
            self.waiting.push(QueuedEvent { moment, flow: terms.flow, account: number, event: index });
        }
        let moving = if account.queued { account.amount } else { U256::ZERO };
        if let Some(funds) = self.funds.get_mut(&account.asset) {
            funds.moving = funds.moving.saturating_sub(account.moving).saturating_add(moving);
        }
        account.moving = moving;
        self.memory.take(self.ranks.take_booked());
        Ok(())
    }

    /// Delivers a tainted transfer.
    fn deliver(&mut self, moving: Moving, mut mark: Taint, hop: u32) -> Result<(), S::Error> {
        let Moving { event, asset, from, to } = moving;
        let (tainted, moment, arrives) = (mark.tainted, event.moment, moving.arrives(self.terms.flow));
        if tainted == U256::ZERO {
            return Ok(());
        }
        if from == to {
            // A transfer to oneself moves nothing.
            mark.by_hop.uncount();
        } else {
            self.extend_paths(&mut mark, moment.number);
        }
        let hop = mark.by_hop.nearest().unwrap_or(hop);
        let parts = mark.parts.len() * size_of::<Portion>() + size_of_val(mark.by_hop.parts());
        self.memory.take(2 * (size_of::<TraceStep>() + parts));
        self.pace.step(mark.parts.len() + mark.by_hop.parts().len());
        let mut pile =
            Pile { amount: tainted, hop, transfers: 1, first: moment.time, last: moment.time, inferred: mark.inferred };
        let (step_is_inferred, mut end) = (mark.inferred, None);
        match self.end_at(&moving) {
            Some(stop) => {
                if let Some(wallet) = arrives.filter(|_| stop == End::Stop) {
                    self.note_stop(wallet, &mark);
                }
                end = Some(stop);
            }
            None => {
                if let Some(wallet) = arrives {
                    let over = self.end_hops(wallet, asset, &mut mark, hop);
                    if over > U256::ZERO {
                        let is_last = self.graph.transfer_count(wallet, self.terms.flow.side()) == 0;
                        let reason = if is_last { End::Held } else { End::Hops };
                        self.add_end(arrives, asset, reason, Pile { amount: over, ..pile });
                        end = Some(reason);
                    }
                    pile.amount = mark.tainted;
                    if mark.tainted > U256::ZERO {
                        end = match self.destination(wallet, asset, mark.tainted, moment.time)? {
                            Destination::Account(account) => self.join(account, &event, mark, hop)?,
                            Destination::End(end) => Some(end),
                        };
                    }
                }
            }
        }
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
            inferred: step_is_inferred,
        });
        if let Some(end) = end.filter(|_| pile.amount > U256::ZERO) {
            self.add_end(arrives, asset, end, pile);
        }
        Ok(())
    }

    /// Extends the paths of a taint by a transfer.
    fn extend_paths(&mut self, mark: &mut Taint, number: u64) {
        if !self.terms.paths {
            return;
        }
        for part in mark.by_hop.parts_mut() {
            self.nodes.push(PathNode { number, before: part.path });
            part.path = (self.nodes.len() - 1) as u32;
        }
        self.memory.take(2 * mark.by_hop.parts().len() * size_of::<PathNode>());
    }

    /// Returns the reason why funds end wherever they arrive, regardless of limits.
    fn end_at(&self, moving: &Moving) -> Option<End> {
        let Some(wallet) = moving.arrives(self.terms.flow) else { return Some(moving.nowhere(self.terms.flow)) };
        if self.origin == Some(wallet) {
            return Some(End::TraceOrigin);
        }
        self.stops.stops_at(wallet).then_some(End::Stop)
    }

    fn note_stop(&mut self, wallet: WalletId, mark: &Taint) {
        if !self.terms.paths {
            return;
        }
        for part in mark.by_hop.parts() {
            let (sum, largest) = self.stopped.entry((wallet, part.hop)).or_insert((U256::ZERO, *part));
            *sum = sum.saturating_add(part.amount);
            if part.amount > largest.amount {
                *largest = *part;
            }
        }
    }

    /// Removes from a taint what has made the maximum number of hops, and returns it.
    fn end_hops(&self, wallet: WalletId, asset: AssetId, mark: &mut Taint, hop: u32) -> U256 {
        let max_hops = self.terms.max_hops;
        if self.terms.method == TaintMethod::Haircut {
            let over = mark.by_hop.end_at(max_hops);
            mark.tainted = mark.by_hop.total();
            return over;
        }
        if hop < max_hops || self.by_wallet.contains_key(&(wallet, asset)) {
            return U256::ZERO;
        }
        std::mem::replace(&mut mark.tainted, U256::ZERO)
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
                pile.inferred |= more.inferred;
            }
        }
    }

    /// Counts the transfers that leave a wallet within a window without a value.
    fn note_unvalued(&mut self, wallet: WalletId, since: Option<i64>, until: Option<i64>) -> Result<(), SearchError> {
        let filter = EdgeFilter { since, ..EdgeFilter::history(self.terms.assets, until) };
        let (unvalued, pace) = (&mut self.unvalued, &mut self.pace);
        let before = unvalued.len();
        self.graph.unvalued(wallet, self.terms.flow.side(), &filter, |more| -> Result<(), SearchError> {
            pace.step(0);
            unvalued.entry(more.asset).and_modify(|sum| sum.add(&more)).or_insert(more);
            Ok(())
        })?;
        self.memory.take(2 * (self.unvalued.len() - before) * size_of::<Unvalued>());
        Ok(())
    }

    /// Finds the destination of an amount that arrives at a time and goes on, and opens an account
    /// for it if necessary.
    fn destination(
        &mut self,
        wallet: WalletId,
        asset: AssetId,
        tainted: U256,
        time: i64,
    ) -> Result<Destination, S::Error> {
        let (terms, graph) = (self.terms, self.graph);
        if let Some(account) = self.by_wallet.get(&(wallet, asset)) {
            return Ok(Destination::Account(*account));
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
        let key = (wallet, asset);
        let account = match Account::load(graph, key, terms, most, &mut self.ranks, &mut self.pace)? {
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
        self.accounts.push(*account);
        self.by_wallet.insert((wallet, asset), number);
        // Funds arrive in the order of the flow: later ones can leave only where these could.
        let (since, until) = match terms.flow {
            Flow::Forward => (Some(time), terms.until),
            Flow::Backward => (terms.since.filter(|_| !terms.follows_before_since), time.checked_add(1)),
        };
        self.note_unvalued(wallet, since, until)?;
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
    fn join(&mut self, number: usize, event: &HistoryEvent, mark: Taint, hop: u32) -> Result<Option<End>, SearchError> {
        let flow = self.terms.flow;
        let Some(account) = self.accounts.get_mut(number) else { return Ok(None) };
        let Some(index) = account.arrival(&event.moment, flow) else { return Ok(Some(End::Held)) };
        account.depth = account.depth.min(hop);
        account.transfers += 1;
        account.first = account.first.min(event.moment.time);
        account.last = account.last.max(event.moment.time);
        account.since = account.since.min(index);
        account.inferred |= mark.inferred || account.events.get(index).is_some_and(|arrival| arrival.unplaced);
        account.amount = account.amount.saturating_add(mark.tainted);
        account.marks.insert(index, mark);
        if !account.queued {
            account.advance(account.settled(index, flow), flow, &mut self.pace);
        }
        self.queue(number)?;
        Ok(None)
    }

    /// Returns the shortfalls of the followed wallets, and of the origin.
    fn shortfalls(&mut self) -> Result<Vec<Shortfall>, SearchError> {
        let mut shortfalls = Vec::new();
        let of = |wallet, asset, hop, lacking: Lacking| {
            let Lacking { amount, transfers, first, last } = lacking;
            Shortfall { wallet, asset, amount, hop, transfers, first, last }
        };
        match self.terms.flow {
            Flow::Forward => {
                for account in &self.accounts {
                    self.pace.step(account.events.len());
                    let lacking = account.lacking();
                    shortfalls.extend(lacking.map(|lacking| of(account.wallet, account.asset, account.depth, lacking)));
                }
            }
            Flow::Backward => {
                for ((wallet, asset, end), pile) in &self.ends {
                    self.pace.step(0);
                    let Pile { amount, transfers, first, last, .. } = *pile;
                    let lacking = Lacking { amount, transfers, first, last };
                    if let Some(wallet) = wallet.filter(|_| *end == End::Held) {
                        shortfalls.push(of(wallet, *asset, pile.hop, lacking));
                    }
                }
            }
        }
        if let Some(origin) = self.origin {
            let mut assets: Vec<AssetId> = self.funds.keys().copied().collect();
            match self.terms.assets {
                AssetSelection::Native => assets = vec![AssetId::NATIVE],
                AssetSelection::Token(token) => assets = vec![token],
                AssetSelection::Tokens | AssetSelection::All => {}
            }
            for asset in assets {
                let lacking = self.lacking_of_origin(origin, asset)?;
                shortfalls.extend(lacking.map(|lacking| of(origin, asset, 0, lacking)));
            }
        }
        Ok(shortfalls)
    }

    fn lacking_of_origin(&mut self, origin: WalletId, asset: AssetId) -> Result<Option<Lacking>, SearchError> {
        let terms = self.terms;
        // The history is not kept.
        let most = self.memory.left() / (2 * size_of::<HistoryEvent>());
        let loaded = history(self.graph, (origin, asset), terms, most, &mut self.ranks, &mut self.pace)?;
        let counts = |event: &HistoryEvent| terms.since.is_none_or(|since| event.moment.time >= since);
        Ok(match loaded {
            LoadedHistory::Events(events) => match terms.flow {
                Flow::Forward => lacking(events.iter(), counts),
                // A transfer to oneself must be sent before it is received.
                Flow::Backward => lacking(events.iter().rev(), counts),
            },
            LoadedHistory::TooLong => {
                self.cut_by(End::Memory);
                None
            }
            LoadedHistory::Expired => {
                self.cut_by(End::Time);
                None
            }
        })
    }

    /// Returns the parts that paths carried to wallets where tracing stopped.
    fn stopped_parts(&mut self) -> Vec<StoppedPart> {
        let (graph, nodes) = (self.graph, &self.nodes);
        let mut stopped: Vec<((WalletId, u32), (U256, HopAmount))> =
            std::mem::take(&mut self.stopped).into_iter().collect();
        stopped.sort_unstable_by_key(|((wallet, hops), _)| (graph.order(*wallet), *hops));
        let path = |last: u32| {
            let (mut path, mut node) = (Vec::new(), last);
            while node != NO_PATH
                && let Some(step) = nodes.get(node as usize)
            {
                path.push(step.number);
                node = step.before;
            }
            path.reverse();
            path
        };
        let part = |((wallet, hops), (amount, largest)): ((WalletId, u32), (U256, HopAmount))| StoppedPart {
            wallet,
            hops,
            amount,
            path: path(largest.path),
        };
        stopped.into_iter().map(part).collect()
    }

    fn finish(mut self) -> Result<Trace, SearchError> {
        let (terms, graph) = (self.terms, self.graph);
        // Reasons of the accounts that nothing left.
        let mut stayed: HashMap<(WalletId, AssetId), End> = HashMap::new();
        let accounts = std::mem::take(&mut self.accounts);
        for account in &accounts {
            self.pace.step(account.marks.len());
            // Taint that was about to arrive when the trace was cut.
            let arriving = account.marks.values().fold(U256::ZERO, |sum, mark| sum.saturating_add(mark.tainted));
            let held = account.division.held().saturating_add(arriving);
            let closed = self.is_closed(account.asset).then_some(End::Share);
            let end = closed.or(self.cut).filter(|_| account.queued).unwrap_or_else(|| account.end(terms));
            if held > U256::ZERO {
                let Account { depth: hop, transfers, first, last, inferred, .. } = *account;
                let pile = Pile { amount: held, hop, transfers, first, last, inferred };
                self.add_end(Some(account.wallet), account.asset, end, pile);
            }
            if !account.moved {
                stayed.insert((account.wallet, account.asset), end);
            }
        }
        for step in self.steps.iter_mut().filter(|step| step.end.is_none()) {
            self.pace.step(0);
            let arrived = if terms.flow == Flow::Forward { step.to } else { step.from };
            step.end = arrived.and_then(|wallet| stayed.get(&(wallet, step.asset)).copied());
        }
        self.accounts = accounts;
        let mut shortfalls = self.shortfalls()?;
        self.accounts.clear();
        let stopped = self.stopped_parts();
        let cut = self.cut;
        let mut names: HashMap<AssetId, &str> = HashMap::new();
        for asset in self.funds.keys().copied().chain(shortfalls.iter().map(|shortfall| shortfall.asset)) {
            names.insert(asset, graph.token(asset)?);
        }
        let name = |asset: AssetId| names.get(&asset).copied().unwrap_or_default();
        let mut ends: Vec<EndedAmount> = Vec::with_capacity(self.ends.len());
        for ((wallet, asset, end), Pile { amount, hop, transfers, first, last, inferred }) in self.ends {
            self.pace.step(0);
            ends.push(EndedAmount { wallet, asset, end, amount, hop, transfers, first, last, inferred });
        }
        let order = |wallet: Option<WalletId>| wallet.map_or(u64::MAX, |wallet| graph.order(wallet));
        sort_with_room(&mut ends, self.pace.interrupt(), |left, right| {
            let by_amount = name(left.asset).cmp(name(right.asset)).then(right.amount.cmp(&left.amount));
            by_amount.then_with(|| order(left.wallet).cmp(&order(right.wallet))).then(left.end.cmp(&right.end))
        });
        sort_with_room(&mut shortfalls, self.pace.interrupt(), |left, right| {
            let by_amount = name(left.asset).cmp(name(right.asset)).then(right.amount.cmp(&left.amount));
            by_amount.then_with(|| graph.order(left.wallet).cmp(&graph.order(right.wallet)))
        });
        let injected = self.funds.iter().map(|(asset, funds)| (*asset, funds.injected));
        let mut origin: Vec<(AssetId, U256)> = injected.filter(|(_, amount)| *amount > U256::ZERO).collect();
        origin.sort_unstable_by(|left, right| name(left.0).cmp(name(right.0)));
        let mut unvalued: Vec<Unvalued> = self.unvalued.into_values().collect();
        for of_asset in &unvalued {
            names.insert(of_asset.asset, graph.token(of_asset.asset)?);
        }
        let name = |asset: AssetId| names.get(&asset).copied().unwrap_or_default();
        unvalued.sort_unstable_by(|left, right| {
            right.transfers.cmp(&left.transfers).then_with(|| name(left.asset).cmp(name(right.asset)))
        });
        Ok(Trace { steps: self.steps, ends, origin, shortfalls, stopped, unvalued, cut })
    }
}
