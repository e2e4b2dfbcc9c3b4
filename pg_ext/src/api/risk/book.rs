//! The labels of a network's wallets, kept by this backend as long as they hold.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arx_core::address::Network;
use arx_core::graph::{Graph, MemoryBudget, Snapshot, WalletId, WalletIds};
use arx_core::risk::OwnLabel;
use arx_core::risk::features::Labelled;
use pgrx::datum::TimestampWithTimeZone;

use crate::error::SqlError;
use crate::graph_store::{BaseToken, Ready};
use crate::guc;
use crate::snapshot::{Caller, require_whole};
use crate::spi::{labels_changed, now_and_next_label_change, own_labels, risk_labels};

/// Bytes that an own label takes, with its strings and its place in a table.
const LABEL_BYTES: usize = 192;

/// The labels of wallets of a graph, by number.
#[derive(Debug, Default)]
pub struct Book {
    /// Of wallets of the base, where another book has them.
    of_base: Option<Arc<Book>>,
    own: HashMap<WalletId, OwnLabel>,
    labelled: Labelled,
}

/// What a backend keeps.
struct Kept {
    network: String,
    snapshot: Snapshot,
    /// Until a label begins or ends.
    until: i64,
    base: BaseToken,
    book: Arc<Book>,
}

/// Networks whose labels a backend keeps, those asked about last.
const MOST_KEPT: usize = 4;

thread_local! {
    static KEPT: RefCell<VecDeque<Kept>> = const { RefCell::new(VecDeque::new()) };
}

impl Book {
    /// The labels in force now, or at a time.
    ///
    /// # Errors
    /// When they do not fit into `arx.graph_work_mem`, and those of the queries.
    pub fn open(ready: &Ready, network: &Network, at: Option<TimestampWithTimeZone>) -> Result<Arc<Self>, SqlError> {
        // what is kept is for whoever asks next
        require_whole(c"address_labels")?;
        let graph = ready.graph();
        if at.is_some() {
            return Ok(Arc::new(Self::load(&graph, network, at, graph.wallets())?));
        }
        let base = ready.base_token();
        let book = Self::of_base(&graph, network, &base)?;
        if graph.wallets() == base.wallets() {
            return Ok(book);
        }
        // wallets of the network that are new beside the base
        let Some(number) = graph.network_number(network.name()) else { return Ok(book) };
        let new: Vec<WalletId> =
            WalletIds::new(base.wallets(), graph.wallets()).filter(|wallet| graph.is_of(*wallet, number)).collect();
        let addresses = new.iter().map(|wallet| graph.address(*wallet)).collect::<Result<Vec<&str>, _>>()?;
        let mut found = Vec::new();
        own_labels(network, &addresses, None, |place, label| {
            found.extend(new.get(place).map(|wallet| (*wallet, label)));
            Ok(())
        })?;
        let mut whole = Self { own: HashMap::new(), labelled: book.labelled.clone(), of_base: Some(book) };
        whole.labelled.grow(graph.wallets());
        for (wallet, label) in found {
            whole.add(wallet, label);
        }
        Ok(Arc::new(whole))
    }

    /// Those of the wallets of the base.
    fn of_base(graph: &Graph<'_>, network: &Network, base: &BaseToken) -> Result<Arc<Self>, SqlError> {
        let caller = Caller::current()?;
        let (now, next) = now_and_next_label_change()?;
        let kept = KEPT.with_borrow(|kept| {
            let kept = kept.iter().find(|kept| kept.network == network.name())?;
            let holds = kept.base == *base && now < kept.until && caller.snapshot.covers(&kept.snapshot);
            holds.then(|| (kept.snapshot.clone(), Arc::clone(&kept.book)))
        });
        if let Some((snapshot, book)) = kept
            && !labels_changed(&snapshot)?
        {
            return Ok(book);
        }
        let book = Arc::new(Self::load(graph, network, None, base.wallets())?);
        // what a transaction has written itself may be taken back
        if caller.own.is_none() {
            let (network, snapshot) = (network.name().to_owned(), caller.snapshot);
            let new = Kept { network, snapshot, until: next, base: base.clone(), book: Arc::clone(&book) };
            KEPT.with_borrow_mut(|kept| {
                kept.retain(|one| one.network != new.network && one.base == new.base);
                kept.truncate(MOST_KEPT - 1);
                kept.push_front(new);
            });
        }
        Ok(book)
    }

    /// Those of the wallets with a number below `wallets`.
    fn load(
        graph: &Graph<'_>,
        network: &Network,
        at: Option<TimestampWithTimeZone>,
        wallets: u32,
    ) -> Result<Self, SqlError> {
        let mut memory = MemoryBudget::new(guc::graph_work_mem());
        let too_much = || SqlError::limit("the labels of the network need more memory than arx.graph_work_mem allows");
        let labelled = Labelled::new(wallets, &mut memory).ok_or_else(too_much)?;
        let mut book = Self { of_base: None, labelled, own: HashMap::new() };
        risk_labels(network, at, |address, label| {
            if let Some(wallet) = graph.wallet(network.name(), address)?
                && wallet.get() < wallets
            {
                if !memory.take(LABEL_BYTES) {
                    return Err(too_much());
                }
                book.add(wallet, label);
            }
            Ok(())
        })?;
        Ok(book)
    }

    /// The first of a wallet's labels weighs most.
    fn add(&mut self, wallet: WalletId, label: OwnLabel) {
        self.labelled.mark(wallet, label.kind);
        self.own.entry(wallet).or_insert(label);
    }

    /// A wallet's own label.
    pub fn of(&self, wallet: WalletId) -> Option<&OwnLabel> {
        self.own.get(&wallet).or_else(|| self.of_base.as_ref()?.own.get(&wallet))
    }

    /// Who is labelled.
    pub const fn labelled(&self) -> &Labelled {
        &self.labelled
    }
}
