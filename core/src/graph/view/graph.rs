//! A base and its overlay as one graph: wallets, assets, and networks.

use std::ops::Deref;

use crate::graph::error::Damaged;
use crate::graph::file::base::{Base, Sections};
use crate::graph::file::overlay::Overlay;
use crate::graph::types::{AssetId, NetworkId, Side, WalletId, WalletIds};
use crate::graph::view::basket::Basket;

pub(super) const OUT_OF_RANGE: Damaged = Damaged { what: "number out of range" };

/// A base and the changes since.
#[derive(Debug, Clone, Copy)]
pub struct Graph<'g> {
    pub(super) base: Sections<'g>,
    networks: &'g [String],
    pub(super) overlay: &'g Overlay,
    /// The base has transfers of native coins only.
    pub(super) native_only: bool,
    /// Called now and then while a single call reads many transfers.
    pub(super) poll: fn(),
    /// Assets that are shown as one.
    pub(super) basket: Option<&'g Basket>,
}

impl<'g> Graph<'g> {
    /// Combines a base with an overlay that was filled for this base.
    #[must_use]
    pub fn new<B: Deref<Target = [u8]>>(base: &'g Base<B>, overlay: &'g Overlay) -> Self {
        let native_only = base.native_transfers() == base.transfers();
        let (base, networks) = (base.sections(), base.networks());
        Self { base, networks, overlay, native_only, poll: || {}, basket: None }
    }

    /// Sets a function that is called every few thousand transfers while a call reads a single
    /// wallet, in whatever thread that is. It ends the computation by unwinding.
    #[must_use]
    pub const fn with_poll(self, poll: fn()) -> Self {
        Self { poll, ..self }
    }

    /// Returns the graph with the assets of a basket as one.
    #[must_use]
    pub const fn with_basket(self, basket: &'g Basket) -> Self {
        Self { basket: Some(basket), ..self }
    }

    /// Returns a wallet by its address. The wallet may have no transfer left.
    ///
    /// # Errors
    /// When the base is damaged.
    pub fn wallet(&self, network: &str, address: &str) -> Result<Option<WalletId>, Damaged> {
        match self.overlay.find_network(self.networks, network) {
            Some(network) => self.overlay.find_wallet(&self.base, network, address),
            None => Ok(None),
        }
    }

    /// Returns a token by its address.
    ///
    /// # Errors
    /// When the base is damaged.
    pub fn asset(&self, network: &str, token: &str) -> Result<Option<AssetId>, Damaged> {
        match self.overlay.find_network(self.networks, network) {
            Some(network) => self.overlay.find_token(&self.base, network, token),
            None => Ok(None),
        }
    }

    /// Returns the name of a wallet's network; empty for [`WalletId::NO_SENDER`].
    ///
    /// # Errors
    /// When the base is damaged.
    pub fn network(&self, wallet: WalletId) -> Result<&'g str, Damaged> {
        if wallet == WalletId::NO_SENDER {
            return Ok("");
        }
        let network = match self.base.wallets.networks.get(wallet.index()) {
            Some(network) => *network,
            None => self.new_wallet(wallet).ok_or(OUT_OF_RANGE)?.0,
        };
        let mut networks = self.networks.iter().chain(self.overlay.new_networks());
        networks.nth(network.index()).map(String::as_str).ok_or(OUT_OF_RANGE)
    }

    /// Returns a network by its name, if the graph has a wallet of it.
    #[must_use]
    pub fn network_id(&self, network: &str) -> Option<NetworkId> {
        self.overlay.find_network(self.networks, network)
    }

    /// Returns whether a wallet belongs to a network.
    #[inline]
    #[must_use]
    pub fn is_of(&self, wallet: WalletId, network: NetworkId) -> bool {
        match self.base.wallets.networks.get(wallet.index()) {
            Some(own) => *own == network,
            None => self.new_wallet(wallet).is_some_and(|new| new.0 == network),
        }
    }

    /// Calls `each` for the wallets of a network in the order of their addresses.
    ///
    /// # Errors
    /// The first error of `each`.
    pub fn by_address<E>(&self, network: NetworkId, mut each: impl FnMut(WalletId) -> Result<(), E>) -> Result<(), E> {
        let new_wallets = WalletIds::new(self.base.rank.len() as u32, self.wallets());
        let mut new_wallets: Vec<(u64, WalletId)> = new_wallets.map(|wallet| (self.order(wallet), wallet)).collect();
        new_wallets.sort_unstable();
        let mut new_wallets = new_wallets.into_iter().peekable();
        for wallet in self.base.by_rank {
            while let Some((_, new)) = new_wallets.next_if(|(order, _)| *order < self.order(*wallet)) {
                if self.is_of(new, network) {
                    each(new)?;
                }
            }
            if self.is_of(*wallet, network) {
                each(*wallet)?;
            }
        }
        new_wallets.filter(|(_, wallet)| self.is_of(*wallet, network)).try_for_each(|(_, wallet)| each(wallet))
    }

    /// Returns the address of a token; empty for the native coin.
    ///
    /// # Errors
    /// When the base is damaged.
    pub fn token(&self, asset: AssetId) -> Result<&'g str, Damaged> {
        let in_base = self.base.tokens.len();
        if asset.index() < in_base {
            return self.base.tokens.name(asset.get());
        }
        let new: &'g [(NetworkId, Box<str>)] = self.overlay.new_tokens();
        new.get(asset.index() - in_base).map(|(_, token)| &**token).ok_or(OUT_OF_RANGE)
    }

    /// Returns whether a wallet has any transfer.
    #[must_use]
    pub fn is_active(&self, wallet: WalletId) -> bool {
        wallet != WalletId::NO_SENDER
            && [Side::Out, Side::In].into_iter().any(|side| {
                let in_base = self.base.transfers(wallet, side).len();
                in_base > self.overlay.removed_count(wallet, side) as usize
                    || !self.overlay.added(wallet, side).is_empty()
            })
    }

    /// Returns the end of the ids of wallets, which are dense from 0.
    #[must_use]
    pub fn wallets(&self) -> u32 {
        (self.base.wallets.len() + self.overlay.new_wallets().len()) as u32
    }

    /// Returns every id of a wallet, in their order. The first is [`WalletId::NO_SENDER`], which is
    /// on no network and not active.
    #[must_use]
    pub fn wallet_ids(&self) -> WalletIds {
        WalletIds::new(0, self.wallets())
    }

    /// Returns the address of a wallet; empty for [`WalletId::NO_SENDER`].
    ///
    /// # Errors
    /// When the base is damaged.
    pub fn address(&self, wallet: WalletId) -> Result<&'g str, Damaged> {
        if wallet.index() < self.base.wallets.len() {
            return self.base.wallets.name(wallet.get());
        }
        self.new_wallet(wallet).map(|(_, address)| &**address).ok_or(OUT_OF_RANGE)
    }

    /// Returns a unique key that orders the wallets of a network by the bytes of their addresses.
    #[must_use]
    pub fn order(&self, wallet: WalletId) -> u64 {
        match self.base.rank.get(wallet.index()) {
            Some(rank) => (u64::from(*rank) << 32) | u64::from(u32::MAX),
            None => self.overlay.new_order(&self.base, wallet.index() - self.base.rank.len()),
        }
    }

    /// Returns network and address of a wallet that only the overlay has.
    fn new_wallet(&self, wallet: WalletId) -> Option<&'g (NetworkId, Box<str>)> {
        self.overlay.new_wallets().get(wallet.index() - self.base.wallets.len())
    }
}
