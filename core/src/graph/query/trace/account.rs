//! Accounts: the history of a followed wallet in one asset, and the division of its funds.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::division::Division;
use super::moment::{HistoryEvent, Moment, in_flow};
use super::pool::{Portion, Taint};
use super::{End, Flow, TaintMethod, Terms, backward, forward};
use crate::graph::SearchError;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::budget::{Pace, Stop};
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::ties::TieRanks;
use crate::graph::types::{AssetId, Position, U256};
use crate::graph::types::{Side, WalletId};
use crate::graph::view::filter::{AssetSelection, EdgeFilter};
use crate::graph::view::graph::Graph;
use crate::graph::view::transfers::Transfer;

/// Transfers between two cancellation checks while a history is read.
const TRANSFERS_PER_CHECK: usize = 1 << 12;

/// A followed wallet, in one asset.
pub(super) struct Account {
    pub wallet: WalletId,
    pub asset: AssetId,
    /// Minimum number of transfers from the origin.
    pub depth: u32,
    /// In the order of the flow.
    pub events: Vec<HistoryEvent>,
    /// Index of the next event to process.
    pub cursor: usize,
    /// Taint of arriving transfers that have not been processed, by event.
    pub marks: HashMap<usize, Taint>,
    pub division: Box<dyn Division>,
    /// End of the events that may leave; later ones arrive, or lie before the window.
    leaves_until: usize,
    /// The account waits in the queue for its next leaving event.
    pub queued: bool,
    /// Some of its tainted funds have left.
    pub moved: bool,
    /// Tainted funds in the account, including those about to be processed.
    pub amount: U256,
    /// The part of `amount` that counts as moving.
    pub moving: U256,
    /// Index of the first event with which taint arrived.
    pub since: usize,
    /// The division depended on an inferred order of transfers.
    pub inferred: bool,
    pub transfers: u64,
    pub first: i64,
    pub last: i64,
}

/// Amount that a wallet sent beyond its known balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lacking {
    pub amount: U256,
    /// Number of transfers that lacked funds.
    pub transfers: u64,
    pub first: i64,
    pub last: i64,
}

/// Result of reading a history.
pub(super) enum LoadedHistory {
    /// Events in the order of the flow.
    Events(Vec<HistoryEvent>),
    /// The history has more events than allowed.
    TooLong,
    /// The time limit was reached.
    Expired,
}

/// Result of opening an account.
pub(super) enum LoadedAccount {
    Account(Box<Account>),
    /// The history has more events than allowed.
    TooLong,
    /// The time limit was reached.
    Expired,
}

/// Reads the history of a wallet in an asset, of at most `max_events` events.
///
/// # Errors
/// [`SearchError::ValueOverflow`] when its amounts do not add up within 256 bits,
/// [`SearchError::Damaged`].
pub(super) fn history<W: Interrupt>(
    graph: &Graph<'_>,
    (wallet, asset): (WalletId, AssetId),
    terms: &Terms,
    max_events: usize,
    ranks: &mut TieRanks,
    pace: &mut Pace<'_, W>,
) -> Result<LoadedHistory, SearchError> {
    let filter = EdgeFilter::history(single(asset), terms.until);
    let count = graph.transfer_count(wallet, Side::Out) + graph.transfer_count(wallet, Side::In);
    let mut events: Vec<HistoryEvent> = Vec::new();
    events.reserve_exact(count.min(max_events));
    let (mut total, mut expired) = (U256::ZERO, false);
    for side in [Side::Out, Side::In] {
        let scan = graph.counted_transfers(wallet, side, &filter, |transfer| -> Result<(), Stop> {
            if events.len().is_multiple_of(TRANSFERS_PER_CHECK) {
                expired |= pace.interrupt().should_stop();
            }
            if events.len() >= max_events || expired {
                return Err(Stop::Halt(Halt::Time));
            }
            // Later sums are parts of this one, and cannot overflow.
            total = total.checked_add(transfer.value).ok_or(SearchError::ValueOverflow)?;
            events.push(event(graph, wallet, side, &transfer));
            Ok(())
        });
        if Stop::halt(scan)?.is_some() {
            return Ok(if expired { LoadedHistory::Expired } else { LoadedHistory::TooLong });
        }
    }
    let flow = terms.flow;
    sort_with_room(&mut events, pace.interrupt(), |left, right| in_history(flow, left, right));
    for tied in events.chunk_by_mut(|left, right| left.moment.is_tied(&right.moment)) {
        let received = tied.iter().any(|event| event.incoming && event.peer != Some(wallet));
        let inferred = received && tied.iter().any(|event| !event.incoming);
        // Forward, leaving transfers of a wallet that received nothing have rank 0.
        if tied.len() == 1 || !(inferred || flow == Flow::Backward) {
            continue;
        }
        for event in tied.iter_mut() {
            event.inferred = inferred;
            event.moment.rank = match event.sender(wallet) {
                Some(sender) => ranks.rank(graph, sender, event.moment.tie(asset), pace)?,
                None => 0,
            };
        }
        sort_with_room(tied, pace.interrupt(), |left, right| in_history(flow, left, right));
    }
    for simultaneous in events.chunk_by_mut(|left, right| left.moment.time == right.moment.time) {
        let is_unplaced = |event: &HistoryEvent| event.moment.position.block == Position::UNKNOWN_BLOCK;
        let received = |event: &HistoryEvent| event.incoming && event.peer != Some(wallet);
        if simultaneous.iter().any(is_unplaced)
            && simultaneous.iter().any(received)
            && simultaneous.iter().any(|event| !event.incoming)
        {
            simultaneous.iter_mut().for_each(|event| event.unplaced = true);
        }
    }
    Ok(LoadedHistory::Events(events))
}

/// Compares two events of a history. A transfer to oneself leaves before it arrives.
fn in_history(flow: Flow, left: &HistoryEvent, right: &HistoryEvent) -> Ordering {
    let leaving = flow.side();
    in_flow(flow, &left.moment, &right.moment).then_with(|| (left.side() != leaving).cmp(&(right.side() != leaving)))
}

/// Returns the amount that a wallet sent beyond its known balance in those events that count.
/// `events` are in the order of time. A transfer to oneself is sent before it is received.
pub(super) fn lacking<'e>(
    events: impl Iterator<Item = &'e HistoryEvent>,
    counts: impl Fn(&HistoryEvent) -> bool,
) -> Option<Lacking> {
    let (mut balance, mut lacking) = (U256::ZERO, None::<Lacking>);
    for event in events {
        let (value, time) = (event.moment.value, event.moment.time);
        if event.incoming {
            balance = balance.saturating_add(value);
            continue;
        }
        if value > balance && counts(event) {
            let sum = lacking.get_or_insert(Lacking { amount: U256::ZERO, transfers: 0, first: time, last: time });
            sum.amount = sum.amount.saturating_add(value - balance);
            sum.transfers += 1;
            sum.last = time;
        }
        balance = balance.saturating_sub(value);
    }
    lacking
}

impl Account {
    /// Opens the account of a wallet with its history of at most `max_events` events.
    ///
    /// # Errors
    /// [`SearchError::ValueOverflow`], [`SearchError::Damaged`].
    pub(super) fn load<W: Interrupt>(
        graph: &Graph<'_>,
        (wallet, asset): (WalletId, AssetId),
        terms: &Terms,
        max_events: usize,
        ranks: &mut TieRanks,
        pace: &mut Pace<'_, W>,
    ) -> Result<LoadedAccount, SearchError> {
        let events = match history(graph, (wallet, asset), terms, max_events, ranks, pace)? {
            LoadedHistory::Events(events) => events,
            LoadedHistory::TooLong => return Ok(LoadedAccount::TooLong),
            LoadedHistory::Expired => return Ok(LoadedAccount::Expired),
        };
        let leaving = terms.flow.side();
        let division: Box<dyn Division> = match (terms.method, terms.flow) {
            (TaintMethod::Poison, _) => Box::new(forward::Poison::default()),
            (TaintMethod::Tiho, flow) => Box::new(forward::HighestFirst::new(&events, flow, pace.interrupt())),
            (TaintMethod::Haircut, Flow::Forward) => Box::new(forward::ForwardHaircut::default()),
            (TaintMethod::Haircut, Flow::Backward) => Box::new(backward::BackwardHaircut::new(&events)),
            (TaintMethod::Fifo | TaintMethod::Lifo, Flow::Forward) => {
                Box::new(forward::ForwardQueue::new(terms.method))
            }
            (TaintMethod::Fifo | TaintMethod::Lifo, Flow::Backward) => {
                Box::new(backward::BackwardQueue::new(terms.method, &events))
            }
        };
        let within = |event: &HistoryEvent| {
            terms.flow == Flow::Forward
                || terms.follows_before_since
                || terms.since.is_none_or(|since| event.moment.time >= since)
        };
        let leaves_until = events.iter().rposition(|event| event.side() == leaving && within(event));
        Ok(LoadedAccount::Account(Box::new(Self {
            wallet,
            asset,
            depth: u32::MAX,
            leaves_until: leaves_until.map_or(0, |last| last + 1),
            events,
            cursor: 0,
            marks: HashMap::new(),
            division,
            queued: false,
            moved: false,
            amount: U256::ZERO,
            moving: U256::ZERO,
            since: usize::MAX,
            inferred: false,
            transfers: 0,
            first: i64::MAX,
            last: i64::MIN,
        })))
    }

    /// Processes all events before an event.
    pub(super) fn advance<W: Interrupt>(&mut self, to: usize, flow: Flow, pace: &mut Pace<'_, W>) {
        while self.cursor < to {
            self.process_next(flow);
            pace.step(0);
        }
    }

    /// Processes the next event. Returns its taint if it leaves.
    pub(super) fn process_next(&mut self, flow: Flow) -> Taint {
        let (index, event) = match self.events.get(self.cursor) {
            Some(event) => (self.cursor, event),
            None => return Taint::default(),
        };
        self.cursor += 1;
        if event.side() == flow.side() {
            self.division.leave(index, event.moment.value)
        } else {
            let mark = self.marks.remove(&index);
            self.division.arrive(index, event.moment.value, mark.as_ref());
            Taint::default()
        }
    }

    /// Returns the index of an arriving transfer in the history.
    pub(super) fn arrival(&self, moment: &Moment, flow: Flow) -> Option<usize> {
        // The wallet does not know the rank of a sender if it only receives in the tie.
        [moment, &moment.unranked()].into_iter().find_map(|moment| {
            let start = self.events.partition_point(|event| in_flow(flow, &event.moment, moment).is_lt());
            let simultaneous = self.events.get(start..)?.iter().take_while(|event| event.moment == *moment);
            let offset = simultaneous.enumerate().find(|(_, event)| event.side() != flow.side());
            offset.map(|(offset, _)| start + offset)
        })
    }

    /// Returns the end of the events before which no more taint can arrive, given the index of an
    /// arrival. Forward, a wallet that only receives in a tie does not know the order of arrivals.
    pub(super) fn settled(&self, arrival: usize, flow: Flow) -> usize {
        match self.events.get(arrival) {
            Some(event) if flow == Flow::Forward && !event.inferred => {
                self.events.partition_point(|earlier| earlier.moment.is_before_tie_of(&event.moment))
            }
            _ => arrival + 1,
        }
    }

    /// Returns what the wallet sent beyond its known balance since taint arrived; forward only.
    pub(super) fn lacking(&self) -> Option<Lacking> {
        let since = self.events.get(self.since)?.moment;
        lacking(self.events.iter(), |event| event.moment > since)
    }

    /// Returns the next leaving event, if tainted funds may leave with it. Nothing is processed,
    /// because transfers that arrive before it may still become tainted.
    pub(super) fn next_leaving(&self, terms: &Terms) -> Option<usize> {
        if !self.division.pending() && self.marks.is_empty() {
            return None;
        }
        let side = terms.flow.side();
        let offset = self.events.get(self.cursor..self.leaves_until)?.iter().position(|event| event.side() == side)?;
        Some(self.cursor + offset)
    }

    /// Returns the reason why the remaining taint has not left. If the window ends before the
    /// history, the rest of the history was not examined.
    pub(super) fn end(&self, terms: &Terms) -> End {
        let side = terms.flow.side();
        let later = self.events.get(self.leaves_until..).unwrap_or_default();
        if self.division.pending() && later.iter().any(|event| event.side() == side) { End::Window } else { End::Held }
    }
}

pub(super) const fn single(asset: AssetId) -> AssetSelection {
    if asset.get() == AssetId::NATIVE.get() { AssetSelection::Native } else { AssetSelection::Token(asset) }
}

/// Returns the event of a transfer in the history of one of its wallets.
pub(super) fn event(graph: &Graph<'_>, wallet: WalletId, side: Side, transfer: &Transfer) -> HistoryEvent {
    let (from, to) = match side {
        Side::Out => (Some(wallet), transfer.peer),
        Side::In => (transfer.peer, Some(wallet)),
    };
    HistoryEvent {
        moment: Moment::of(graph, from, &Transfer { peer: to, ..*transfer }),
        peer: transfer.peer,
        incoming: side == Side::In,
        inferred: false,
        unplaced: false,
        status: transfer.status,
    }
}

/// Returns the bytes of an event while its wallet is followed, and the additional bytes while the
/// history is sorted.
pub(super) const fn cost_of_event(terms: &Terms) -> (usize, usize) {
    let divided = match (terms.flow, terms.method) {
        (_, TaintMethod::Poison) | (Flow::Forward, TaintMethod::Haircut) => 0,
        (_, TaintMethod::Tiho) => forward::PER_EVENT,
        // Parts in the pool are booked on arrival; untainted parts are joined.
        (Flow::Forward, TaintMethod::Fifo | TaintMethod::Lifo) => size_of::<Portion>(),
        (Flow::Backward, TaintMethod::Haircut) => size_of::<U256>(),
        (Flow::Backward, TaintMethod::Fifo | TaintMethod::Lifo) => backward::PER_EVENT,
    };
    (size_of::<HistoryEvent>() + divided, size_of::<HistoryEvent>())
}
