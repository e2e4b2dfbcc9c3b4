//! Changes since a base was built: added and removed transfers, kept in memory.
//!
//! Wallets and tokens that the base does not have get ids after the base's. Removing a transfer
//! marks it as removed if the base has it, and drops it if it was added before.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::OnceLock;

use thiserror::Error;

use crate::graph::error::Damaged;
use crate::graph::file::base::{Base, Sections};
use crate::graph::file::names::Names;
use crate::graph::file::packed::{MAX_ASSET, TransferKind};
use crate::graph::types::{AssetId, NetworkId, Position, Side, Status, TransferRow, U256, WalletId};

/// A row that should be removed is not in the graph: the graph contradicts its provenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotInGraph {
    /// The graph has no such transfer.
    #[error("a changed transfer is not in the graph")]
    Missing,
    /// The base is damaged.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// A transfer that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddedTransfer {
    pub from: WalletId,
    pub to: WalletId,
    pub asset: AssetId,
    pub status: Status,
    pub time: i64,
    pub value: U256,
    pub position: Position,
}

impl AddedTransfer {
    const fn new(from: WalletId, to: WalletId, asset: AssetId, row: &TransferRow<'_>) -> Self {
        Self { from, to, asset, status: row.status, time: row.time, value: row.value, position: row.position }
    }
}

#[derive(Debug, Clone, Default)]
struct NewNames {
    names: Vec<(NetworkId, Box<str>)>,
    numbers: HashMap<(NetworkId, Box<str>), u32>,
}

impl NewNames {
    /// Returns the number of a name of the base or of a new one.
    fn find(&self, base: &Names<'_>, network: NetworkId, name: &str) -> Result<Option<u32>, Damaged> {
        if let Some(number) = base.find(network, name)? {
            return Ok(Some(number));
        }
        // The key owns its text, so a lookup copies it; there is one lookup per row or call.
        Ok(self.numbers.get(&(network, Box::from(name))).copied())
    }

    /// Returns the number of a name, which is added if it is new; `None` if the number would exceed
    /// `max`.
    fn find_or_add(
        &mut self,
        base: &Names<'_>,
        network: NetworkId,
        name: &str,
        max: u32,
    ) -> Result<Option<u32>, Damaged> {
        if let Some(number) = self.find(base, network, name)? {
            return Ok(Some(number));
        }
        let number = u32::try_from(base.len() + self.names.len()).ok().filter(|number| *number <= max);
        if let Some(number) = number {
            self.names.push((network, Box::from(name)));
            self.numbers.insert((network, Box::from(name)), number);
        }
        Ok(number)
    }
}

/// A set of wallets.
#[derive(Debug, Clone, Default)]
struct WalletBits(Vec<u64>);

impl WalletBits {
    fn set(&mut self, wallet: WalletId) {
        let word = wallet.index() / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (wallet.index() % 64);
    }

    #[inline]
    fn has(&self, wallet: WalletId) -> bool {
        self.0.get(wallet.index() / 64).is_some_and(|word| word >> (wallet.index() % 64) & 1 == 1)
    }
}

/// Changes since a base. Always used with the base that it was filled for.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    networks: Vec<String>,
    wallets: NewNames,
    tokens: NewNames,
    /// Added transfers; `None` for one that was removed again.
    added: Vec<Option<AddedTransfer>>,
    /// Indexes into `added` by wallet, ordered by time and position.
    sent: HashMap<WalletId, Vec<u32>>,
    received: HashMap<WalletId, Vec<u32>>,
    /// Removed transfers of the base.
    removed: HashSet<u32>,
    /// Sender, receiver and asset of removed transfers of the base.
    pairs_with_removals: HashSet<(WalletId, WalletId, AssetId)>,
    /// By side and wallet, the number of removed transfers of the base.
    removed_counts: [HashMap<WalletId, u32>; 2],
    /// By side, the wallets with changes. Searches check every wallet that they visit, so these are
    /// bits.
    touched: [WalletBits; 2],
    added_count: usize,
    /// Order of new wallets, computed on first use.
    order: OnceLock<Vec<u64>>,
}

impl Overlay {
    /// Creates an overlay without changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of changes: added and removed transfers.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.added_count + self.removed.len()
    }

    /// Returns whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows() == 0 && self.wallets.names.is_empty()
    }

    /// Estimates the memory in bytes that the overlay takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const NAME: usize = 200;
        const ADDED: usize = size_of::<Option<AddedTransfer>>() + 48;
        const REMOVED: usize = 64;
        (self.wallets.names.len() + self.tokens.names.len()) * NAME
            + self.added.len() * ADDED
            + self.removed.len() * REMOVED
            + (self.touched[0].0.len() + self.touched[1].0.len()) * 8
    }

    /// Adds a transfer.
    ///
    /// # Errors
    /// When the base is damaged, or there are more names than ids.
    pub fn add<B: Deref<Target = [u8]>>(&mut self, base: &Base<B>, row: &TransferRow<'_>) -> Result<(), Damaged> {
        let sections = base.sections();
        let network = self.add_network(base.networks(), row.network)?;
        let from = match row.from {
            Some(from) => self.add_wallet(&sections, network, from)?,
            None => WalletId::NO_SENDER,
        };
        let to = match row.to {
            Some(to) => self.add_wallet(&sections, network, to)?,
            None => WalletId::NONE,
        };
        let asset = match row.token {
            Some(token) => self.add_token(&sections, network, token)?,
            None => AssetId::NATIVE,
        };
        let added = AddedTransfer::new(from, to, asset, row);
        let number = u32::try_from(self.added.len()).map_err(|_| Damaged { what: "too many changes" })?;
        self.added.push(Some(added));
        self.added_count += 1;
        insert(&self.added, self.sent.entry(from).or_default(), number);
        self.touched[0].set(from);
        if to != WalletId::NONE {
            self.touched[1].set(to);
            insert(&self.added, self.received.entry(to).or_default(), number);
        }
        Ok(())
    }

    /// Removes a transfer of the base or one that was added before.
    ///
    /// # Errors
    /// When there is no such transfer.
    pub fn remove<B: Deref<Target = [u8]>>(&mut self, base: &Base<B>, row: &TransferRow<'_>) -> Result<(), NotInGraph> {
        let sections = base.sections();
        let network = self.find_network(base.networks(), row.network).ok_or(NotInGraph::Missing)?;
        let wallet = |address| self.find_wallet(&sections, network, address)?.ok_or(NotInGraph::Missing);
        let from = row.from.map(wallet).transpose()?.unwrap_or(WalletId::NO_SENDER);
        let to = row.to.map(wallet).transpose()?.unwrap_or(WalletId::NONE);
        let asset = match row.token {
            Some(token) => self.find_token(&sections, network, token)?.ok_or(NotInGraph::Missing)?,
            None => AssetId::NATIVE,
        };
        let transfer = AddedTransfer::new(from, to, asset, row);
        if let Some(number) = self.find_in_base(&sections, &transfer)? {
            self.removed.insert(number);
            self.pairs_with_removals.insert((from, to, asset));
            *self.removed_counts[0].entry(from).or_default() += 1;
            self.touched[0].set(from);
            if to != WalletId::NONE {
                self.touched[1].set(to);
                *self.removed_counts[1].entry(to).or_default() += 1;
            }
            return Ok(());
        }
        let list = self.sent.get_mut(&from).ok_or(NotInGraph::Missing)?;
        let index = list.iter().position(|number| self.added[*number as usize] == Some(transfer));
        let number = list.remove(index.ok_or(NotInGraph::Missing)?);
        self.added[number as usize] = None;
        self.added_count -= 1;
        if let Some(list) = self.received.get_mut(&to) {
            list.retain(|other| *other != number);
        }
        Ok(())
    }

    fn find_in_base(&self, sections: &Sections<'_>, transfer: &AddedTransfer) -> Result<Option<u32>, Damaged> {
        let range = sections.transfers(transfer.from, Side::Out);
        let times = sections.out_time.get(range.clone()).ok_or(Damaged { what: "transfers out of range" })?;
        let first = range.start + times.partition_point(|time| *time < transfer.time);
        let kind = TransferKind::new(transfer.asset, transfer.status);
        for number in first..range.end {
            if sections.out_time[number] != transfer.time {
                break;
            }
            // Sections have fewer than 2^32 elements.
            let as_number = number as u32;
            if sections.out_peer[number] == transfer.to
                && sections.out_kind[number] == kind
                && sections.wide.value(sections.out_value[number])? == transfer.value
                && sections.wide.position(sections.out_position[number])? == transfer.position
                && !self.removed.contains(&as_number)
            {
                return Ok(Some(as_number));
            }
        }
        Ok(None)
    }

    fn add_network(&mut self, base: &[String], name: &str) -> Result<NetworkId, Damaged> {
        if let Some(number) = self.find_network(base, name) {
            return Ok(number);
        }
        let number = u16::try_from(base.len() + self.networks.len()).ok().filter(|number| *number < u16::MAX - 1);
        self.networks.push(name.to_owned());
        number.map(NetworkId::new).ok_or(Damaged { what: "too many networks" })
    }

    pub(crate) fn find_network(&self, base: &[String], name: &str) -> Option<NetworkId> {
        let networks = base.iter().chain(&self.networks);
        (0..).zip(networks).find(|(_, network)| *network == name).map(|(number, _)| NetworkId::new(number))
    }

    fn add_wallet(&mut self, base: &Sections<'_>, network: NetworkId, address: &str) -> Result<WalletId, Damaged> {
        let new_wallets = self.wallets.names.len();
        let number = self.wallets.find_or_add(&base.wallets, network, address, u32::MAX - 1)?;
        if self.wallets.names.len() > new_wallets {
            self.order = OnceLock::new();
        }
        number.map(WalletId::new).ok_or(Damaged { what: "too many wallets" })
    }

    pub(crate) fn find_wallet(
        &self,
        base: &Sections<'_>,
        network: NetworkId,
        address: &str,
    ) -> Result<Option<WalletId>, Damaged> {
        Ok(self.wallets.find(&base.wallets, network, address)?.map(WalletId::new))
    }

    fn add_token(&mut self, base: &Sections<'_>, network: NetworkId, token: &str) -> Result<AssetId, Damaged> {
        let number = self.tokens.find_or_add(&base.tokens, network, token, MAX_ASSET)?;
        number.map(AssetId::new).ok_or(Damaged { what: "too many tokens" })
    }

    pub(crate) fn find_token(
        &self,
        base: &Sections<'_>,
        network: NetworkId,
        token: &str,
    ) -> Result<Option<AssetId>, Damaged> {
        Ok(self.tokens.find(&base.tokens, network, token)?.map(AssetId::new))
    }

    /// Returns the networks that the base does not have.
    pub(crate) fn new_networks(&self) -> &[String] {
        &self.networks
    }

    /// Returns network and address of the wallets that the base does not have, in the order of ids.
    pub(crate) fn new_wallets(&self) -> &[(NetworkId, Box<str>)] {
        &self.wallets.names
    }

    /// Returns network and address of the tokens that the base does not have, in the order of ids.
    pub(crate) fn new_tokens(&self) -> &[(NetworkId, Box<str>)] {
        &self.tokens.names
    }

    /// Returns an added transfer, unless it was removed again.
    pub(crate) fn added_transfer(&self, number: u32) -> Option<&AddedTransfer> {
        self.added.get(number as usize)?.as_ref()
    }

    /// Returns the numbers of the transfers added to a side of a wallet, by time and position.
    pub(crate) fn added(&self, wallet: WalletId, side: Side) -> &[u32] {
        let lists = if side == Side::Out { &self.sent } else { &self.received };
        lists.get(&wallet).map_or(&[], Vec::as_slice)
    }

    /// Returns the end of the numbers of added transfers.
    pub(crate) const fn added_end(&self) -> usize {
        self.added.len()
    }

    pub(crate) fn all_added(&self) -> impl Iterator<Item = (u32, &AddedTransfer)> {
        (0..).zip(&self.added).filter_map(|(number, transfer)| Some((number, transfer.as_ref()?)))
    }

    /// Returns whether a transfer of the base was removed.
    pub(crate) fn is_removed(&self, number: u32) -> bool {
        self.removed.contains(&number)
    }

    pub(crate) fn all_removed(&self) -> impl Iterator<Item = u32> {
        self.removed.iter().copied()
    }

    /// Returns the number of the base's transfers removed from a side of a wallet.
    pub(crate) fn removed_count(&self, wallet: WalletId, side: Side) -> u32 {
        self.removed_counts[side as usize].get(&wallet).copied().unwrap_or(0)
    }

    /// Returns whether a transfer of a base's pair was removed.
    pub(crate) fn has_removals(&self, from: WalletId, to: WalletId, asset: AssetId) -> bool {
        self.pairs_with_removals.contains(&(from, to, asset))
    }

    /// Returns asset and receiver of the pairs with removed transfers, by sender.
    pub(crate) fn removals_by_sender(&self) -> HashMap<WalletId, Vec<(AssetId, WalletId)>> {
        let mut pairs: HashMap<WalletId, Vec<(AssetId, WalletId)>> = HashMap::new();
        for (from, to, asset) in &self.pairs_with_removals {
            pairs.entry(*from).or_default().push((*asset, *to));
        }
        pairs
    }

    /// Returns whether a side of a wallet is unchanged since the base.
    #[inline]
    pub(crate) fn is_untouched(&self, wallet: WalletId, side: Side) -> bool {
        !self.touched[side as usize].has(wallet)
    }

    /// Returns the wallets with changes on a side.
    pub(crate) fn touched(&self, side: Side) -> HashSet<WalletId> {
        let lists = if side == Side::Out { &self.sent } else { &self.received };
        lists
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(wallet, _)| *wallet)
            .chain(self.removed_counts[side as usize].keys().copied())
            .collect()
    }

    /// Returns the order of a new wallet by address: in the high half the number of the base's
    /// wallets before it, in the low half its rank among the new ones.
    pub(crate) fn new_order(&self, base: &Sections<'_>, new: usize) -> u64 {
        let order = self.order.get_or_init(|| self.order_of_new(base));
        order.get(new).copied().unwrap_or(u64::MAX)
    }

    fn order_of_new(&self, base: &Sections<'_>) -> Vec<u64> {
        let names = &self.wallets.names;
        let mut sorted: Vec<usize> = (0..names.len()).collect();
        sorted.sort_unstable_by_key(|new| (&names[*new].1, names[*new].0));
        let mut order = vec![0; names.len()];
        for (rank, new) in (0_u64..).zip(sorted) {
            let (network, address) = &names[new];
            let before = base.by_rank.partition_point(|wallet| {
                let text = base.wallets.bytes(wallet.get()).unwrap_or_default();
                let own_network = base.wallets.networks.get(wallet.index()).copied().unwrap_or(NetworkId::new(0));
                (text, own_network) < (address.as_bytes(), *network)
            });
            order[new] = ((before as u64) << 32) | rank;
        }
        order
    }
}

/// Inserts a transfer into the list of a wallet by time and position; nearly always at its end.
fn insert(added: &[Option<AddedTransfer>], list: &mut Vec<u32>, number: u32) {
    let key = |number: u32| added[number as usize].map(|transfer| (transfer.time, transfer.position));
    let new = key(number);
    let index = list.partition_point(|other| key(*other) <= new);
    list.insert(index, number);
}
