//! The shortfall of a single wallet, without a trace.

use super::account::{Lacking, LoadedHistory, history, lacking};
use super::{Flow, Shortfall, TaintMethod, Terms};
use crate::graph::budget::{Interrupt, Pace};
use crate::graph::query::ties::TieRanks;
use crate::graph::types::{AssetId, Side, U256, WalletId};
use crate::graph::view::filter::{AssetSelection, EdgeFilter};
use crate::graph::view::graph::Graph;
use crate::graph::{MemoryBudget, SearchError};

/// Scope of [`own_shortfall`].
#[derive(Debug, Clone, Copy)]
pub struct ShortfallScope {
    /// A single asset.
    pub assets: AssetSelection,
    /// Start of the window of the transfers that count, inclusive. Balances include earlier ones.
    pub since: Option<i64>,
    /// End of the window, exclusive.
    pub until: Option<i64>,
    /// Memory for the wallet's history.
    pub memory: MemoryBudget,
}

/// Returns the amount that a wallet sent within a window beyond what it is known to have received,
/// as a trace that begins at the wallet reports it. O(n) in its transfers, O(n log n) if it
/// received and sent at the same time.
///
/// # Errors
/// [`SearchError::Memory`] when its history does not fit, [`SearchError::ValueOverflow`],
/// [`SearchError::Damaged`].
pub fn own_shortfall<W: Interrupt>(
    graph: &Graph<'_>,
    wallet: WalletId,
    scope: &ShortfallScope,
    interrupt: &mut W,
) -> Result<Option<Shortfall>, SearchError> {
    let asset = single_asset(scope.assets);
    let mut pace = Pace::new(interrupt);
    let lacking = match merged(graph, wallet, scope, &mut pace)? {
        Merged::Known(lacking) => lacking,
        Merged::Ambiguous => exact(graph, (wallet, asset), scope, &mut pace)?,
    };
    Ok(lacking.map(|Lacking { amount, transfers, first, last }| Shortfall {
        wallet,
        asset,
        amount,
        hop: 0,
        transfers,
        first,
        last,
    }))
}

/// Returns the asset of a selection of one.
pub(in crate::graph::query) const fn single_asset(assets: AssetSelection) -> AssetId {
    match assets {
        AssetSelection::Token(token) => token,
        AssetSelection::Native | AssetSelection::Tokens | AssetSelection::All => AssetId::NATIVE,
    }
}

const fn out_of_memory(memory: &MemoryBudget) -> SearchError {
    SearchError::Memory { budget: memory.limit(), depth: 0, wallets: 1 }
}

/// Result of [`merged`].
enum Merged {
    Known(Option<Lacking>),
    /// It depends on the order of transfers of the same time.
    Ambiguous,
}

/// Reads both sides of a history in the order of time.
fn merged<W: Interrupt>(
    graph: &Graph<'_>,
    wallet: WalletId,
    scope: &ShortfallScope,
    pace: &mut Pace<'_, W>,
) -> Result<Merged, SearchError> {
    let filter = EdgeFilter::history(scope.assets, scope.until);
    let most = scope.memory.left() / (2 * size_of::<(i64, U256)>());
    let mut sides = [Vec::new(), Vec::new()];
    for (side, transfers) in [Side::Out, Side::In].into_iter().zip(&mut sides) {
        graph.counted_transfers(wallet, side, &filter, |transfer| -> Result<(), SearchError> {
            pace.step(0);
            if transfers.len() >= most {
                return Err(out_of_memory(&scope.memory));
            }
            transfers.push((transfer.time, transfer.value));
            Ok(())
        })?;
    }
    let [sent, received] = &sides;
    let mut received = received.iter().peekable();
    let (mut balance, mut lacks) = (U256::ZERO, None::<Lacking>);
    for same_time in sent.chunk_by(|left, right| left.0 == right.0) {
        let Some((time, _)) = same_time.first().copied() else { continue };
        while let Some((_, value)) = received.next_if(|(before, _)| *before < time) {
            balance = balance.checked_add(*value).ok_or(SearchError::ValueOverflow)?;
        }
        let is_tied = received.peek().is_some_and(|(next, _)| *next == time);
        for (_, value) in same_time {
            pace.step(0);
            if *value > balance {
                if is_tied {
                    return Ok(Merged::Ambiguous);
                }
                if scope.since.is_none_or(|since| time >= since) {
                    let none = Lacking { amount: U256::ZERO, transfers: 0, first: time, last: time };
                    let sum = lacks.get_or_insert(none);
                    sum.amount = sum.amount.saturating_add(*value - balance);
                    sum.transfers += 1;
                    sum.last = time;
                }
            }
            balance = balance.saturating_sub(*value);
        }
    }
    Ok(Merged::Known(lacks))
}

/// Computes the amount from the history in the order of the trace.
fn exact<W: Interrupt>(
    graph: &Graph<'_>,
    key: (WalletId, AssetId),
    scope: &ShortfallScope,
    pace: &mut Pace<'_, W>,
) -> Result<Option<Lacking>, SearchError> {
    let terms = Terms {
        flow: Flow::Forward,
        method: TaintMethod::Haircut,
        assets: scope.assets,
        since: scope.since,
        until: scope.until,
        max_hops: 1,
        min_value: None,
        max_fan_out: None,
        max_wallets: None,
        min_share: 0,
        late_steps: 0,
        follows_before_since: false,
        paths: false,
        memory: scope.memory,
    };
    let most = scope.memory.left() / (2 * size_of::<super::moment::HistoryEvent>());
    match history(graph, key, &terms, most, &mut TieRanks::default(), pace)? {
        LoadedHistory::Events(events) => {
            let counts = |time: i64| scope.since.is_none_or(|since| time >= since);
            Ok(lacking(events.iter(), |event| counts(event.moment.time)))
        }
        LoadedHistory::TooLong => Err(out_of_memory(&scope.memory)),
        // No time limit applies to a single history.
        LoadedHistory::Expired => Ok(None),
    }
}
