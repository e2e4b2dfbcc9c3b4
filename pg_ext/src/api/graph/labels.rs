//! Labels of the wallets that a search meets.

use std::collections::HashMap;
use std::sync::Arc;

use arx_core::address::Network;
use arx_core::graph::exposure::Marks;
use arx_core::graph::screening::ScreeningCategory;
use arx_core::graph::trace::Stops;
use arx_core::graph::{Graph, SearchError, WalletId};
use arx_core::label::LabelKind;

use crate::api::label_index::LabelIndex;
use crate::error::SqlError;
use crate::graph_store::GraphHandle;
use crate::spi::{WalletLabel, label_categories, labels_changed, labels_of};

/// Labels by wallet, read when a search first meets the wallet.
pub(crate) struct LabelCache {
    network: Network,
    stops_at_services: bool,
    /// A bit for each wallet whose label has been read.
    read: Vec<u64>,
    labels: HashMap<WalletId, WalletLabel>,
}

impl LabelCache {
    pub(crate) fn new(network: &Network, stops_at_services: bool) -> Self {
        Self { network: network.clone(), stops_at_services, read: Vec::new(), labels: HashMap::new() }
    }

    /// Reads the labels of those wallets whose labels have not been read.
    pub(crate) fn look_up(&mut self, graph: &Graph<'_>, wallets: &[WalletId]) -> Result<(), SqlError> {
        self.read.resize((graph.wallets() as usize).div_ceil(64), 0);
        let mut new = Vec::new();
        for wallet in wallets {
            let (word, bit) = (wallet.index() / 64, 1_u64 << (wallet.index() % 64));
            if let Some(word) = self.read.get_mut(word)
                && *word & bit == 0
            {
                *word |= bit;
                new.push(*wallet);
            }
        }
        let addresses = new.iter().map(|wallet| graph.address(*wallet)).collect::<Result<Vec<&str>, _>>()?;
        labels_of(&self.network, &addresses, |index, label| {
            if let Some(wallet) = new.get(index) {
                self.labels.insert(*wallet, label);
            }
            Ok(())
        })
    }

    pub(crate) fn of(&self, wallet: WalletId) -> Option<&WalletLabel> {
        self.labels.get(&wallet)
    }
}

/// Services pool the funds of many customers: a withdrawal is not the same money as a deposit.
impl Stops for LabelCache {
    type Error = SqlError;

    fn prepare(&mut self, graph: &Graph<'_>, wallets: &[WalletId]) -> Result<(), SqlError> {
        if self.stops_at_services { self.look_up(graph, wallets) } else { Ok(()) }
    }

    fn stops_at(&self, wallet: WalletId) -> bool {
        self.of(wallet).is_some_and(|label| label.custody.is_some())
    }
}

/// An error of a search that reads labels on its way.
pub(crate) enum LabelledSearchError {
    Search(SearchError),
    Sql(SqlError),
}

impl From<SearchError> for LabelledSearchError {
    fn from(error: SearchError) -> Self {
        Self::Search(error)
    }
}

impl From<SqlError> for LabelledSearchError {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<LabelledSearchError> for SqlError {
    fn from(error: LabelledSearchError) -> Self {
        match error {
            LabelledSearchError::Search(error) => error.into(),
            LabelledSearchError::Sql(error) => error,
        }
    }
}

/// Marks illicit wallets and services, all with the same number: an exposure with paths
/// distinguishes wallets.
impl Marks for LabelCache {
    type Error = LabelledSearchError;

    fn prepare(&mut self, graph: &Graph<'_>, wallets: &[WalletId]) -> Result<(), LabelledSearchError> {
        Ok(self.look_up(graph, wallets)?)
    }

    fn mark(&self, wallet: WalletId) -> Option<u32> {
        self.of(wallet).filter(|label| label.kind != LabelKind::Neutral).map(|_| 0)
    }
}

/// Labels at which tracing stops, for searches that meet many wallets.
pub(crate) struct StopLabels {
    /// Categories by mark, in the order of their names.
    pub(crate) categories: Vec<ScreeningCategory>,
    source: StopSource,
}

enum StopSource {
    /// Labels of the whole network, which the session keeps.
    All(Arc<LabelIndex>),
    /// Labels read as wallets are met, because all of them need too much memory.
    AsMet(LabelCache),
}

impl StopLabels {
    pub(crate) fn open(handle: &GraphHandle, network: &Network) -> Result<Self, SqlError> {
        match LabelIndex::open(handle, network, None, labels_changed) {
            Ok(index) => return Ok(Self { categories: index.categories(), source: StopSource::All(index) }),
            Err(error) if error.is_limit() => {}
            Err(error) => return Err(error),
        }
        let mut categories = label_categories()?;
        // In the order of the bytes, whatever the collation of the column is.
        categories.sort_unstable();
        let categories = categories.into_iter().map(|(name, kind)| ScreeningCategory { name, kind }).collect();
        Ok(Self { categories, source: StopSource::AsMet(LabelCache::new(network, true)) })
    }
}

impl Marks for StopLabels {
    type Error = LabelledSearchError;

    fn prepare(&mut self, graph: &Graph<'_>, wallets: &[WalletId]) -> Result<(), LabelledSearchError> {
        match &mut self.source {
            StopSource::All(_) => Ok(()),
            StopSource::AsMet(cache) => Ok(cache.look_up(graph, wallets)?),
        }
    }

    fn mark(&self, wallet: WalletId) -> Option<u32> {
        let (category, kind) = match &self.source {
            StopSource::All(index) => index.of(wallet).map(|label| (&label.category, label.kind))?,
            StopSource::AsMet(cache) => cache.of(wallet).map(|label| (&label.category, label.kind))?,
        };
        if kind == LabelKind::Neutral {
            return None;
        }
        let mark = self.categories.binary_search_by(|other| other.name.as_str().cmp(category)).ok()?;
        // Marks are below 2^24; there are far fewer categories.
        Some(mark as u32)
    }
}
