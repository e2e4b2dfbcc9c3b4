//! What is known of the wallets that a search comes to.

use std::collections::HashMap;

use arx_core::address::Network;
use arx_core::graph::exposure::Marks;
use arx_core::graph::trace::Stops;
use arx_core::graph::{Graph, SearchError};
use arx_core::label::LabelKind;

use crate::error::SqlError;
use crate::spi::{Known, labels_of, labels_that_stop};

/// Labels by wallet, looked up when they are needed.
pub struct Labels {
    network: Network,
    /// Nobody asks for labels, so nothing stops.
    unused: bool,
    /// A bit for each wallet that was asked about.
    asked: Vec<u64>,
    known: HashMap<u32, Known>,
}

impl Labels {
    pub fn new(network: &Network, used: bool) -> Self {
        Self { network: network.clone(), unused: !used, asked: Vec::new(), known: HashMap::new() }
    }

    /// Looks up those that have not been.
    pub fn look_up(&mut self, graph: &Graph<'_>, wallets: &[u32]) -> Result<(), SqlError> {
        self.asked.resize((graph.wallets() as usize).div_ceil(64), 0);
        let mut new = Vec::new();
        for wallet in wallets {
            let (word, bit) = ((wallet / 64) as usize, 1_u64 << (wallet % 64));
            if let Some(word) = self.asked.get_mut(word)
                && *word & bit == 0
            {
                *word |= bit;
                new.push(*wallet);
            }
        }
        let addresses = new.iter().map(|wallet| graph.address(*wallet)).collect::<Result<Vec<&str>, _>>()?;
        labels_of(&self.network, &addresses, |place, known| {
            if let Some(wallet) = new.get(place) {
                self.known.insert(*wallet, known);
            }
            Ok(())
        })
    }

    pub fn of(&self, wallet: u32) -> Option<&Known> {
        self.known.get(&wallet)
    }
}

/// Services hold the funds of many: what comes to one and what leaves it is not the same money.
impl Stops for Labels {
    type Error = SqlError;

    fn prepare(&mut self, graph: &Graph<'_>, wallets: &[u32]) -> Result<(), SqlError> {
        if self.unused { Ok(()) } else { self.look_up(graph, wallets) }
    }

    fn stops_at(&self, wallet: u32) -> bool {
        self.of(wallet).is_some_and(|known| known.custody.is_some())
    }
}

/// What went wrong in a search that looks labels up.
pub enum LookError {
    Search(SearchError),
    Sql(SqlError),
}

impl From<SearchError> for LookError {
    fn from(error: SearchError) -> Self {
        Self::Search(error)
    }
}

impl From<SqlError> for LookError {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<LookError> for SqlError {
    fn from(error: LookError) -> Self {
        match error {
            LookError::Search(error) => error.into(),
            LookError::Sql(error) => error,
        }
    }
}

/// Funds are of those who are known to be illicit, or to hold the funds of many.
impl Marks for Labels {
    type Error = LookError;

    fn prepare(&mut self, graph: &Graph<'_>, wallets: &[u32]) -> Result<(), LookError> {
        Ok(self.look_up(graph, wallets)?)
    }

    fn mark(&self, wallet: u32) -> Option<u32> {
        // wallets are told apart by themselves
        self.of(wallet).filter(|known| known.kind != LabelKind::Neutral).map(|_| 0)
    }
}

/// A category of labels at which tracing stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Category {
    pub name: String,
    pub kind: LabelKind,
}

/// All labels of a network at which tracing stops, for searches that come to many wallets.
pub struct Stopping {
    pub categories: Vec<Category>,
    by_wallet: HashMap<u32, u32>,
}

impl Stopping {
    pub fn load(graph: &Graph<'_>, network: &Network) -> Result<Self, SqlError> {
        let (mut categories, mut by_wallet) = (Vec::<Category>::new(), HashMap::new());
        labels_that_stop(network, |address, known| {
            let Some(wallet) = graph.wallet(network.name(), address)? else { return Ok(()) };
            let place = categories.iter().position(|one| one.name == known.category);
            let place = place.unwrap_or_else(|| {
                categories.push(Category { name: known.category, kind: known.kind });
                categories.len() - 1
            });
            // there are far fewer categories
            by_wallet.insert(wallet, place as u32);
            Ok(())
        })?;
        Ok(Self { categories, by_wallet })
    }

    pub fn category(&self, mark: u32) -> Option<&Category> {
        self.categories.get(mark as usize)
    }
}

impl Marks for Stopping {
    type Error = LookError;

    fn prepare(&mut self, _graph: &Graph<'_>, _wallets: &[u32]) -> Result<(), LookError> {
        Ok(())
    }

    fn mark(&self, wallet: u32) -> Option<u32> {
        self.by_wallet.get(&wallet).copied()
    }
}
