//! Labels of a network's wallets by id, cached by this backend as long as they are valid.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use arx_core::address::Network;
use arx_core::graph::screening::ScreeningCategory;
use arx_core::graph::{Graph, MemoryBudget, Snapshot, WalletId, WalletIds};
use arx_core::label::LabelKind;
use arx_core::risk::OwnLabel;
use arx_core::risk::features::LabelledWallets;
use pgrx::datum::TimestampWithTimeZone;

use crate::error::SqlError;
use crate::graph_store::{BaseToken, GraphHandle};
use crate::guc;
use crate::snapshot::{Caller, keeps_snapshot, require_whole};
use crate::spi::{next_label_change, own_labels, risk_labels};
use crate::time::transaction_time;

/// Bytes that a label takes, with its strings and its table entry.
const LABEL_BYTES: usize = 192;

/// Networks whose labels a backend caches, the latest first.
const MAX_CACHED: usize = 4;

/// Labels of a graph's wallets, by id.
#[derive(Debug, Default)]
pub(crate) struct LabelIndex {
    /// Labels of the wallets of the base, if another index holds them.
    of_base: Option<Arc<LabelIndex>>,
    own: HashMap<WalletId, OwnLabel>,
    /// Categories of `own`.
    categories: BTreeMap<String, LabelKind>,
    labelled: LabelledWallets,
}

struct CachedIndex {
    network: String,
    snapshot: Snapshot,
    /// Time at which a label comes into force or expires.
    valid_until: i64,
    base: BaseToken,
    index: Arc<LabelIndex>,
}

thread_local! {
    static CACHED: RefCell<VecDeque<CachedIndex>> = const { RefCell::new(VecDeque::new()) };
}

impl LabelIndex {
    /// Returns the labels in force now, or at a given time. They must fit into
    /// `arx.graph_work_mem`. `is_changed` reports whether a label has changed since a snapshot, or
    /// since the caller's own for `None`; it is called if labels are cached.
    pub(crate) fn open(
        handle: &GraphHandle,
        network: &Network,
        at: Option<TimestampWithTimeZone>,
        is_changed: impl FnOnce(Option<&Snapshot>) -> Result<bool, SqlError>,
    ) -> Result<Arc<Self>, SqlError> {
        // The cache serves every role.
        require_whole(c"address_labels")?;
        let graph = handle.graph();
        if at.is_some() {
            return Ok(Arc::new(Self::load(&graph, network, at, graph.wallets())?));
        }
        let base = handle.base_token();
        let of_base = Self::of_base(&graph, network, &base, is_changed)?;
        if graph.wallets() == base.wallets() {
            return Ok(of_base);
        }
        // Wallets of the overlay follow those of the base.
        let Some(number) = graph.network_id(network.name()) else { return Ok(of_base) };
        let new: Vec<WalletId> =
            WalletIds::new(base.wallets(), graph.wallets()).filter(|wallet| graph.is_of(*wallet, number)).collect();
        let addresses = new.iter().map(|wallet| graph.address(*wallet)).collect::<Result<Vec<&str>, _>>()?;
        let labelled = of_base.labelled.clone();
        let mut index = Self { own: HashMap::new(), categories: BTreeMap::new(), labelled, of_base: Some(of_base) };
        index.labelled.grow(graph.wallets());
        own_labels(network, &addresses, None, |position, label| {
            if let Some(wallet) = new.get(position) {
                index.add(*wallet, label);
            }
            Ok(())
        })?;
        Ok(Arc::new(index))
    }

    /// Returns the labels of the wallets of the base, from the cache if possible.
    fn of_base(
        graph: &Graph<'_>,
        network: &Network,
        base: &BaseToken,
        is_changed: impl FnOnce(Option<&Snapshot>) -> Result<bool, SqlError>,
    ) -> Result<Arc<Self>, SqlError> {
        let caller = Caller::current()?;
        let now = transaction_time();
        let cached = CACHED.with_borrow(|cached| {
            let cached = cached.iter().find(|cached| cached.network == network.name())?;
            let valid = cached.base == *base && now < cached.valid_until && caller.snapshot.covers(&cached.snapshot);
            valid.then(|| (cached.snapshot.clone(), Arc::clone(&cached.index)))
        });
        if let Some((snapshot, index)) = cached {
            let sees_same = caller.own.is_none() && caller.snapshot.sees_same(&snapshot);
            // A transaction that keeps its snapshot may be overtaken by a TRUNCATE.
            let since = Some(&snapshot).filter(|_| !sees_same || keeps_snapshot());
            if !is_changed(since)? {
                return Ok(index);
            }
        }
        let index = Arc::new(Self::load(graph, network, None, base.wallets())?);
        // A transaction may roll back its own writes.
        if caller.own.is_none() {
            let new = CachedIndex {
                network: network.name().to_owned(),
                snapshot: caller.snapshot,
                valid_until: next_label_change()?,
                base: base.clone(),
                index: Arc::clone(&index),
            };
            CACHED.with_borrow_mut(|cached| {
                cached.retain(|other| other.network != new.network && other.base == new.base);
                cached.truncate(MAX_CACHED - 1);
                cached.push_front(new);
            });
        }
        Ok(index)
    }

    /// Reads the labels of the wallets with an id below `wallets`.
    fn load(
        graph: &Graph<'_>,
        network: &Network,
        at: Option<TimestampWithTimeZone>,
        wallets: u32,
    ) -> Result<Self, SqlError> {
        let mut memory = MemoryBudget::new(guc::graph_work_mem());
        let out_of_memory =
            || SqlError::limit("the labels of the network need more memory than arx.graph_work_mem allows");
        let labelled = LabelledWallets::new(wallets, &mut memory).ok_or_else(out_of_memory)?;
        let mut index = Self { of_base: None, labelled, own: HashMap::new(), categories: BTreeMap::new() };
        risk_labels(network, at, |address, label| {
            if let Some(wallet) = graph.wallet(network.name(), address)?
                && wallet.get() < wallets
            {
                if !memory.take(LABEL_BYTES) {
                    return Err(out_of_memory());
                }
                index.add(wallet, label);
            }
            Ok(())
        })?;
        Ok(index)
    }

    /// Adds a label. The first one of a wallet is its heaviest.
    fn add(&mut self, wallet: WalletId, label: OwnLabel) {
        self.labelled.mark(wallet, label.kind);
        if let Entry::Vacant(place) = self.own.entry(wallet) {
            if !self.categories.contains_key(&label.category) {
                self.categories.insert(label.category.clone(), label.kind);
            }
            place.insert(label);
        }
    }

    /// Returns the categories of the heaviest labels by name, in the order of the bytes.
    pub(crate) fn categories(&self) -> Vec<ScreeningCategory> {
        let of_base = self.of_base.iter().flat_map(|base| &base.categories);
        let all: BTreeMap<&String, &LabelKind> = of_base.chain(&self.categories).collect();
        all.into_iter().map(|(name, kind)| ScreeningCategory { name: name.clone(), kind: *kind }).collect()
    }

    /// Returns the heaviest label of a wallet.
    pub(crate) fn of(&self, wallet: WalletId) -> Option<&OwnLabel> {
        self.own.get(&wallet).or_else(|| self.of_base.as_ref()?.own.get(&wallet))
    }

    /// Returns the wallets with an illicit or service label.
    pub(crate) const fn labelled(&self) -> &LabelledWallets {
        &self.labelled
    }
}
