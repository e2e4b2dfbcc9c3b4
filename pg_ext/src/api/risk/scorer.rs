//! What every risk function does: find a wallet, look at it, judge it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use arx_core::address::{Address, Network};
use arx_core::graph::{MemoryBudget, WalletId};
use arx_core::risk::features::{
    AHEAD, Coverage, Crew, Enough, ExtractError, Extractor, NAMES, Row, Scene, Surroundings, bytes_of,
};
use arx_core::risk::scorecard::{BoundScorecard, Scorecard};
use arx_core::risk::{Override, OwnLabel};
use pgrx::datum::TimestampWithTimeZone;

use super::book::Book;
use crate::error::SqlError;
use crate::graph_store::{Interrupts, Need, Ready, current};
use crate::guc;
use crate::parallel::{WithoutSignals, parallel_threads};
use crate::spi::{Stored, active_scorecard, own_labels, risk_overrides, scorecard_document};

thread_local! {
    static SCORECARD: RefCell<Option<(Stored, Rc<BoundScorecard>)>> = const { RefCell::new(None) };
}

/// The scorecard in use.
pub fn scorecard_in_use() -> Result<Rc<BoundScorecard>, SqlError> {
    let active = active_scorecard()?;
    let known = SCORECARD.with_borrow(|known| {
        known.as_ref().filter(|(stored, _)| *stored == active).map(|(_, scorecard)| Rc::clone(scorecard))
    });
    if let Some(scorecard) = known {
        return Ok(scorecard);
    }
    let scorecard = Rc::new(scorecard_of(&active.version)?);
    SCORECARD.set(Some((active, Rc::clone(&scorecard))));
    Ok(scorecard)
}

/// A stored scorecard.
pub fn scorecard_of(version: &str) -> Result<BoundScorecard, SqlError> {
    let Some(document) = scorecard_document(version)? else {
        return Err(SqlError::argument(format!("there is no risk model \"{version}\"")).hint("See arx.risk_models."));
    };
    // a feature that this version of the extension does not have is an error here, not a surprise later
    Ok(Arc::new(Scorecard::from_json(&document)?).into_bound(&NAMES)?)
}

/// What is asked about when.
pub struct Scorer {
    pub ready: Ready,
    pub network: Network,
    pub at: Option<TimestampWithTimeZone>,
    pub book: Arc<Book>,
    enough: Enough,
    surroundings: Surroundings,
    extractor: Extractor,
}

/// A wallet, as far as it can be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// As it is stored.
    pub address: String,
    /// Its number, if the graph has it.
    pub wallet: Option<WalletId>,
}

/// What is known at a time happened before this.
fn before(at: Option<TimestampWithTimeZone>) -> Option<i64> {
    at.map(|at| at.into_inner().saturating_add(1))
}

impl Scorer {
    /// For one wallet, or a few.
    pub fn new(network: Network, at: Option<TimestampWithTimeZone>) -> Result<Self, SqlError> {
        let ready = current(Need::Native)?;
        let book = Book::open(&ready, &network, at)?;
        let enough = Enough::of(&ready.graph(), before(at), book.labelled(), &mut Interrupts)?;
        Ok(Self {
            ready,
            network,
            at,
            book,
            enough,
            surroundings: Surroundings::Asked,
            extractor: Extractor::default(),
        })
    }

    /// Sees to it that many wallets can be looked at in little time.
    pub fn prepare_for_many(&mut self) -> Result<(), SqlError> {
        let mut memory = MemoryBudget::new(guc::graph_work_mem());
        let graph = self.ready.graph();
        let scene = Scene { graph: &graph, until: self.until(), labelled: self.book.labelled(), enough: self.enough };
        self.surroundings = Surroundings::of_all(&scene, &mut memory, &mut Interrupts)?;
        Ok(())
    }

    /// The graph leaves out what is not before this.
    pub fn until(&self) -> Option<i64> {
        before(self.at)
    }

    /// A wallet by what the graph calls it, or by an address in any form.
    ///
    /// # Errors
    /// When it is neither.
    pub fn find(&self, address: &str) -> Result<Found, SqlError> {
        let graph = self.ready.graph();
        if let Some(wallet) = graph.wallet(self.network.name(), address)? {
            return Ok(Found { address: address.to_owned(), wallet: Some(wallet) });
        }
        let address = Address::parse(address, &self.network)?.into_string();
        let wallet = graph.wallet(self.network.name(), &address)?;
        Ok(Found { address, wallet })
    }

    /// Every wallet of the network, by number.
    pub fn wallets(&self) -> Vec<WalletId> {
        let graph = self.ready.graph();
        let Some(network) = graph.network_number(self.network.name()) else { return Vec::new() };
        graph.wallet_ids().filter(|wallet| graph.is_of(*wallet, network)).collect()
    }

    /// The features of a wallet, if it dealt with anybody.
    pub fn look(&mut self, wallet: WalletId) -> Result<Option<(Row, Coverage)>, SqlError> {
        Ok(self.seen(&[wallet])?.pop().flatten())
    }

    /// The features of wallets, in the order given.
    pub fn seen(&mut self, wallets: &[WalletId]) -> Result<Vec<Option<(Row, Coverage)>>, SqlError> {
        let mut all = Vec::with_capacity(wallets.len());
        self.look_at(wallets, |_, seen| {
            all.push(seen.map(|(row, coverage)| (*row, coverage)));
            Ok(())
        })?;
        Ok(all)
    }

    /// Calls `each` with wallets and their features, in the order given.
    pub fn look_at(
        &mut self,
        wallets: &[WalletId],
        mut each: impl FnMut(WalletId, Option<(&Row, Coverage)>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let (graph, until) = (self.ready.graph(), self.until());
        let scene = Scene { graph: &graph, until, labelled: self.book.labelled(), enough: self.enough };
        for block in wallets.chunks(AHEAD) {
            graph.read_ahead(block);
            for wallet in block {
                let mut memory = MemoryBudget::new(guc::graph_work_mem());
                if !memory.take(bytes_of(&graph, *wallet)) {
                    return Err(ExtractError::Memory { budget: memory.limit() }.into());
                }
                let seen = self.extractor.look(&scene, *wallet, &self.surroundings, &mut Interrupts)?;
                each(*wallet, seen.as_ref().map(|(row, coverage)| (row, *coverage)))?;
            }
        }
        Ok(())
    }

    /// Calls `each` with all wallets of the network, in any order and on as many threads as a parallel query would have processes
    /// (`max_parallel_workers_per_gather`, and the caller's); gives what each thread found. `each` must not call the server.
    pub fn look_at_all<A: Default + Send>(
        &mut self,
        each: impl Fn(&mut A, WalletId, Option<(&Row, Coverage)>) + Sync,
    ) -> Result<Vec<A>, SqlError> {
        self.prepare_for_many()?;
        let (graph, until, wallets) = (self.ready.graph(), self.until(), self.wallets());
        let scene = Scene { graph: &graph, until, labelled: self.book.labelled(), enough: self.enough };
        let memory = guc::graph_work_mem();
        let crew = Crew { scene: &scene, surroundings: &self.surroundings, memory, threads: parallel_threads() };
        Ok(crew.look_at(&wallets, WithoutSignals::hold, &mut Interrupts, each)?)
    }

    /// The labels that wallets bear themselves.
    pub fn own_labels(&self, found: &[Found]) -> Result<HashMap<String, OwnLabel>, SqlError> {
        let mut labels = HashMap::new();
        let strangers: Vec<&str> = found.iter().filter(|one| one.wallet.is_none()).map(|one| &*one.address).collect();
        for one in found {
            if let Some(label) = one.wallet.and_then(|wallet| self.book.of(wallet)) {
                labels.insert(one.address.clone(), label.clone());
            }
        }
        own_labels(&self.network, &strangers, self.at, |place, label| {
            if let Some(address) = strangers.get(place) {
                labels.entry((*address).to_owned()).or_insert(label);
            }
            Ok(())
        })?;
        Ok(labels)
    }

    /// What was decided, by address; of one wallet alone where it is asked about.
    pub fn overrides(&self, address: Option<&str>) -> Result<HashMap<String, Override>, SqlError> {
        let mut decided = HashMap::new();
        risk_overrides(&self.network, address, self.at, |address, one| {
            decided.insert(address.to_owned(), one);
            Ok(())
        })?;
        Ok(decided)
    }
}
