//! Transfers along a path.

use super::cost::{Total, of_age, of_share, shown};
use super::{PathStep, Weight};
use crate::graph::budget::{Interrupt, Pace};
use crate::graph::error::{Damaged, SearchError};
use crate::graph::query::reach::add;
use crate::graph::types::{AssetId, Direction, Side, U256, WalletId};
use crate::graph::view::filter::{AssetSelection, EdgeFilter};
use crate::graph::view::graph::Graph;

/// Describes steps by the parameters of their search.
pub(super) struct StepReader<'g> {
    pub graph: &'g Graph<'g>,
    pub direction: Direction,
    pub filter: &'g EdgeFilter,
    pub weight: Weight,
}

impl StepReader<'_> {
    /// Returns the steps between consecutive wallets.
    pub(super) fn along<W: Interrupt>(
        &self,
        wallets: &[WalletId],
        pace: &mut Pace<'_, W>,
    ) -> Result<Vec<PathStep>, SearchError> {
        let pairs = wallets.iter().zip(wallets.iter().skip(1));
        pairs.map(|(from, to)| self.step(*from, *to, pace)).collect()
    }

    fn step<W: Interrupt>(
        &self,
        left: WalletId,
        entered: WalletId,
        pace: &mut Pace<'_, W>,
    ) -> Result<PathStep, SearchError> {
        let total = if self.weight == Weight::Value { self.total(left, pace)?.as_f64() } else { 0.0 };
        let mut cheapest: Option<(u64, PathStep)> = None;
        for side in self.direction.sides() {
            let (from, to) = if *side == Side::Out { (left, entered) } else { (entered, left) };
            let Some(step) = self.between(from, to, pace)? else { continue };
            let cost = match self.weight {
                Weight::Hops => Some(1),
                Weight::Value => of_share(step.value.as_f64(), total),
                Weight::Recency { now } => Some(of_age(step.last, now)),
            };
            if let Some(cost) = cost
                && cheapest.is_none_or(|(lowest, _)| cost < lowest)
            {
                cheapest = Some((cost, PathStep { cost: shown(self.weight, cost), ..step }));
            }
        }
        let (_, step) = cheapest.ok_or(Damaged { what: "the two sides of a pair differ" })?;
        Ok(step)
    }

    /// Returns the value of all counted transfers of a wallet.
    fn total<W: Interrupt>(&self, wallet: WalletId, pace: &mut Pace<'_, W>) -> Result<U256, SearchError> {
        let mut total = Total::ZERO;
        for side in self.direction.sides() {
            self.graph.edges(wallet, *side, self.filter, |edge| -> Result<(), SearchError> {
                total.add(edge.value);
                pace.step(0);
                Ok(())
            })?;
        }
        total.sum().ok_or(SearchError::ValueOverflow)
    }

    /// Returns the counted transfers from one wallet to another.
    fn between<W: Interrupt>(
        &self,
        from: WalletId,
        to: WalletId,
        pace: &mut Pace<'_, W>,
    ) -> Result<Option<PathStep>, SearchError> {
        let step = self.sum(from, to, self.filter, pace)?;
        match step {
            // Values are summed up for single assets only, and only now the asset is known to be
            // single.
            Some(PathStep { asset: Some(asset), .. }) if !self.filter.assets.is_single() => {
                let assets =
                    if asset == AssetId::NATIVE { AssetSelection::Native } else { AssetSelection::Token(asset) };
                self.sum(from, to, &EdgeFilter { assets, ..*self.filter }, pace)
            }
            _ => Ok(step),
        }
    }

    fn sum<W: Interrupt>(
        &self,
        from: WalletId,
        to: WalletId,
        filter: &EdgeFilter,
        pace: &mut Pace<'_, W>,
    ) -> Result<Option<PathStep>, SearchError> {
        // Read from the end with fewer peers.
        let (sent, received) = (self.graph.degree(from, Side::Out), self.graph.degree(to, Side::In));
        let (wallet, side, peer) = if sent <= received { (from, Side::Out, to) } else { (to, Side::In, from) };
        let mut sum: Option<PathStep> = None;
        self.graph.edges(wallet, side, filter, |edge| -> Result<(), SearchError> {
            pace.step(0);
            if edge.peer != peer {
                return Ok(());
            }
            let (transfers, value, first, last) = (edge.transfers, edge.value, edge.first, edge.last);
            match &mut sum {
                None => {
                    sum =
                        Some(PathStep { from, to, transfers, value, first, last, asset: Some(edge.asset), cost: 0.0 });
                }
                Some(step) => {
                    step.transfers += transfers;
                    step.value = add(step.value, value)?;
                    step.first = step.first.min(first);
                    step.last = step.last.max(last);
                    step.asset = step.asset.filter(|asset| *asset == edge.asset);
                }
            }
            Ok(())
        })?;
        pace.step(0);
        Ok(sum)
    }
}
