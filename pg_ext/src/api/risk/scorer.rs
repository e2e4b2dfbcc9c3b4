//! Scoring: finding a wallet, extracting its features, and the scorecard that judges them.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use arx_core::address::{Address, Network};
use arx_core::graph::{MemoryBudget, WalletId};
use arx_core::risk::features::{
    ContactCounts, Coverage, ExtractContext, ExtractError, Extractor, FeatureRow, HistoryCoverage, LabelSufficiency,
    NAMES, PREFETCH, ParallelExtractor, memory_needed,
};
use arx_core::risk::scorecard::{BoundScorecard, Scorecard};
use arx_core::risk::{Calibration, Override, OwnLabel};
use pgrx::datum::TimestampWithTimeZone;

use crate::api::label_index::LabelIndex;
use crate::error::SqlError;
use crate::graph_store::{AssetScope, GraphHandle, Interrupts, current};
use crate::guc;
use crate::parallel::{BlockedSignals, parallel_threads};
use crate::spi::{
    RiskSettings, StoredScorecard, history_coverage, own_labels, risk_overrides, risk_settings, scorecard_document,
};

/// Scorecards that a backend caches, the latest first. One takes some 100 kB.
const MAX_CACHED: usize = 8;

thread_local! {
    /// Active scorecards of the last calls: a comparison of two models switches between them.
    static SCORECARDS: RefCell<VecDeque<(StoredScorecard, Rc<BoundScorecard>)>> =
        const { RefCell::new(VecDeque::new()) };
}

/// Returns the scorecard of a version, or the active one.
pub(crate) fn scorecard_or_active(version: Option<&str>, network: &Network) -> Result<Rc<BoundScorecard>, SqlError> {
    match version {
        Some(version) => Ok(Rc::new(scorecard_of(version)?)),
        None => cached_scorecard(risk_settings(network, None, None, None)?.active()?),
    }
}

/// Returns a scorecard that was active in the caller's snapshot, from the cache if possible.
fn cached_scorecard(active: &StoredScorecard) -> Result<Rc<BoundScorecard>, SqlError> {
    let cached = SCORECARDS.with_borrow_mut(|cached| {
        let position = cached.iter().position(|(stored, _)| stored == active)?;
        let latest = cached.remove(position)?;
        let scorecard = Rc::clone(&latest.1);
        cached.push_front(latest);
        Some(scorecard)
    });
    if let Some(scorecard) = cached {
        return Ok(scorecard);
    }
    let scorecard = Rc::new(scorecard_of(&active.version)?);
    SCORECARDS.with_borrow_mut(|cached| {
        cached.push_front((active.clone(), Rc::clone(&scorecard)));
        cached.truncate(MAX_CACHED);
    });
    Ok(scorecard)
}

fn scorecard_of(version: &str) -> Result<BoundScorecard, SqlError> {
    let Some(document) = scorecard_document(version)? else {
        return Err(SqlError::argument(format!("risk model \"{version}\" does not exist")).hint("See arx.risk_models."));
    };
    // Rejects a feature that this version of the extension does not have before any wallet is
    // scored.
    Ok(Arc::new(Scorecard::from_json(&document)?).into_bound(&NAMES)?)
}

/// The graph and the labels of a network at one time, and the state for extracting features.
pub(crate) struct Scorer {
    pub(crate) handle: GraphHandle,
    pub(crate) network: Network,
    pub(crate) at: Option<TimestampWithTimeZone>,
    pub(crate) labels: Arc<LabelIndex>,
    settings: RiskSettings,
    histories: HistoryCoverage,
    sufficiency: LabelSufficiency,
    contacts: ContactCounts,
    extractor: Extractor,
}

/// An address, with its wallet if the graph has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvedWallet {
    pub(crate) address: String,
    pub(crate) id: Option<WalletId>,
}

/// Returns the end of the history that is known at a time; the end is exclusive.
fn history_end(at: Option<TimestampWithTimeZone>) -> Option<i64> {
    at.map(|at| at.into_inner().saturating_add(1))
}

impl Scorer {
    pub(crate) fn new(network: Network, at: Option<TimestampWithTimeZone>) -> Result<Self, SqlError> {
        Self::with_override_of(network, None, at)
    }

    /// Does the same, and reads the override of a wallet along with the settings.
    pub(crate) fn with_override_of(
        network: Network,
        wallet: Option<&str>,
        at: Option<TimestampWithTimeZone>,
    ) -> Result<Self, SqlError> {
        let handle = current(AssetScope::Native)?;
        let mut settings = None;
        let labels = LabelIndex::open(&handle, &network, at, |since| {
            let read = settings.insert(risk_settings(&network, wallet, at, since)?);
            Ok(read.labels_changed)
        })?;
        let settings = match settings {
            Some(settings) => settings,
            None => risk_settings(&network, wallet, at, None)?,
        };
        let histories = if settings.has_coverage {
            history_coverage(&handle.graph(), &network)?
        } else {
            HistoryCoverage::default()
        };
        let sufficiency =
            LabelSufficiency::measure(&handle.graph(), history_end(at), labels.labelled(), &mut Interrupts)?;
        Ok(Self {
            handle,
            network,
            at,
            labels,
            settings,
            histories,
            sufficiency,
            contacts: ContactCounts::OnDemand,
            extractor: Extractor::default(),
        })
    }

    /// Returns the active scorecard.
    pub(crate) fn scorecard(&self) -> Result<Rc<BoundScorecard>, SqlError> {
        cached_scorecard(self.settings.active()?)
    }

    /// Returns the scorecard of a version, or the active one.
    pub(crate) fn scorecard_or_active(&self, version: Option<&str>) -> Result<Rc<BoundScorecard>, SqlError> {
        match version {
            Some(version) => Ok(Rc::new(scorecard_of(version)?)),
            None => self.scorecard(),
        }
    }

    /// Returns the calibration of the network.
    pub(crate) fn calibration(&self) -> Calibration {
        self.settings.calibration
    }

    /// Returns the statements of coverage.
    pub(crate) fn histories(&self) -> &HistoryCoverage {
        &self.histories
    }

    /// Counts the counterparties of all wallets, which pays for itself when many are extracted.
    pub(crate) fn prepare_for_many(&mut self) -> Result<(), SqlError> {
        let mut memory = MemoryBudget::new(guc::graph_work_mem());
        let graph = self.handle.graph();
        let context = ExtractContext {
            graph: &graph,
            until: self.until(),
            labelled: self.labels.labelled(),
            sufficiency: self.sufficiency,
            histories: &self.histories,
        };
        self.contacts = ContactCounts::precompute(&context, &mut memory, &mut Interrupts)?;
        Ok(())
    }

    /// Time before which transfers count.
    pub(crate) fn until(&self) -> Option<i64> {
        history_end(self.at)
    }

    pub(crate) fn resolve(&self, address: &Address) -> Result<ResolvedWallet, SqlError> {
        let id = self.handle.graph().wallet(self.network.name(), address.as_str())?;
        Ok(ResolvedWallet { address: address.as_str().to_owned(), id })
    }

    /// Resolves an address in any form. One that the graph has is not parsed, which takes most of
    /// the time when there are thousands.
    pub(crate) fn resolve_text(&self, address: &str) -> Result<ResolvedWallet, SqlError> {
        if let Some(wallet) = self.handle.graph().wallet(self.network.name(), address)? {
            return Ok(ResolvedWallet { address: address.to_owned(), id: Some(wallet) });
        }
        self.resolve(&Address::parse(address, &self.network)?)
    }

    /// Returns the wallets of the network by id.
    pub(crate) fn wallets(&self) -> Vec<WalletId> {
        let graph = self.handle.graph();
        let Some(network) = graph.network_id(self.network.name()) else { return Vec::new() };
        graph.wallet_ids().filter(|wallet| graph.is_of(*wallet, network)).collect()
    }

    /// Returns the features of a wallet, or `None` if it has no transfer.
    pub(crate) fn features(&mut self, wallet: WalletId) -> Result<Option<(FeatureRow, Coverage)>, SqlError> {
        Ok(self.features_of(&[wallet])?.pop().flatten())
    }

    /// Returns the features of wallets in the order given.
    pub(crate) fn features_of(
        &mut self,
        wallets: &[WalletId],
    ) -> Result<Vec<Option<(FeatureRow, Coverage)>>, SqlError> {
        let mut features = Vec::with_capacity(wallets.len());
        let (graph, until) = (self.handle.graph(), self.until());
        let context = ExtractContext {
            graph: &graph,
            until,
            labelled: self.labels.labelled(),
            sufficiency: self.sufficiency,
            histories: &self.histories,
        };
        for block in wallets.chunks(PREFETCH) {
            graph.read_ahead(block);
            for wallet in block {
                let mut memory = MemoryBudget::new(guc::graph_work_mem());
                if !memory.take(memory_needed(&graph, *wallet)) {
                    return Err(ExtractError::Memory { budget: memory.limit() }.into());
                }
                let extracted = self.extractor.extract(&context, *wallet, &self.contacts, &mut Interrupts)?;
                features.push(extracted.as_ref().map(|(row, coverage)| (*row, *coverage)));
            }
        }
        Ok(features)
    }

    /// Calls `each` with all wallets of the network and their features, in any order, on as many
    /// threads as a parallel query would have processes (`max_parallel_workers_per_gather` and the
    /// caller's). Returns the accumulator of each thread. `each` must not call the server.
    pub(crate) fn fold_all<A: Default + Send>(
        &mut self,
        each: impl Fn(&mut A, WalletId, Option<(&FeatureRow, Coverage)>) + Sync,
    ) -> Result<Vec<A>, SqlError> {
        self.prepare_for_many()?;
        let (graph, until, wallets) = (self.handle.graph(), self.until(), self.wallets());
        let context = ExtractContext {
            graph: &graph,
            until,
            labelled: self.labels.labelled(),
            sufficiency: self.sufficiency,
            histories: &self.histories,
        };
        let memory = guc::graph_work_mem();
        let extractor =
            ParallelExtractor { context: &context, contacts: &self.contacts, memory, threads: parallel_threads() };
        Ok(extractor.extract_all(&wallets, BlockedSignals::block, &mut Interrupts, each)?)
    }

    /// Returns the heaviest label of each wallet, by address.
    pub(crate) fn own_labels(&self, wallets: &[ResolvedWallet]) -> Result<HashMap<String, OwnLabel>, SqlError> {
        let mut labels = HashMap::new();
        for wallet in wallets {
            if let Some(label) = wallet.id.and_then(|id| self.labels.of(id)) {
                labels.insert(wallet.address.clone(), label.clone());
            }
        }
        let outside: Vec<&str> =
            wallets.iter().filter(|wallet| wallet.id.is_none()).map(|wallet| &*wallet.address).collect();
        own_labels(&self.network, &outside, self.at, |index, label| {
            if let Some(address) = outside.get(index) {
                labels.entry((*address).to_owned()).or_insert(label);
            }
            Ok(())
        })?;
        Ok(labels)
    }

    /// Returns the override of the wallet that the scorer was made for.
    pub(crate) const fn take_override(&mut self) -> Option<Override> {
        self.settings.override_.take()
    }

    /// Returns the overrides of the network by address.
    pub(crate) fn overrides(&self) -> Result<HashMap<String, Override>, SqlError> {
        let mut overrides = HashMap::new();
        risk_overrides(&self.network, self.at, |address, override_| {
            overrides.insert(address.to_owned(), override_);
            Ok(())
        })?;
        Ok(overrides)
    }
}
