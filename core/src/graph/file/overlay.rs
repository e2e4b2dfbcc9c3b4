//! What has changed since a base was built: transfers that came and transfers that went, kept beside it in memory.
//!
//! Wallets and tokens that the base does not know get numbers behind the base's. A transfer that went is either a row of the
//! base, marked as gone, or one that had come, which is forgotten.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::OnceLock;

use thiserror::Error;

use crate::graph::error::Damaged;
use crate::graph::file::base::{Base, Sections};
use crate::graph::file::packed::{MAX_ASSET, TransferKind};
use crate::graph::types::{AssetId, NetworkId, Position, Side, Status, TransferRow, U256, WalletId};

/// A row that was to be taken away is not in the graph: the graph is not what its provenance says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotInGraph {
    /// No such transfer.
    #[error("a changed transfer is not in the graph")]
    Missing,
    /// The base does not hold together.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// A transfer that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::graph) struct Added {
    pub from: WalletId,
    pub to: WalletId,
    pub asset: AssetId,
    pub status: Status,
    pub time: i64,
    pub value: U256,
    pub position: Position,
}

#[derive(Debug, Clone, Default)]
struct NewNames {
    names: Vec<(NetworkId, Box<str>)>,
    numbers: HashMap<(NetworkId, Box<str>), u32>,
}

impl NewNames {
    fn find(&self, network: NetworkId, name: &str) -> Option<u32> {
        // the key owns its text, so a look-up copies it: this happens once a row or call
        self.numbers.get(&(network, Box::from(name))).copied()
    }

    fn add(&mut self, network: NetworkId, name: &str, number: u32) {
        self.names.push((network, Box::from(name)));
        self.numbers.insert((network, Box::from(name)), number);
    }
}

/// Numbers of wallets.
#[derive(Debug, Clone, Default)]
struct Bits(Vec<u64>);

impl Bits {
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

/// Changes over a base; always used with the base that it was filled with.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    networks: Vec<String>,
    wallets: NewNames,
    tokens: NewNames,
    added: Vec<Option<Added>>,
    /// Of each wallet, what came: by time and position.
    sent: HashMap<WalletId, Vec<u32>>,
    received: HashMap<WalletId, Vec<u32>>,
    /// Numbers of the base's transfers that went.
    removed: HashSet<u32>,
    /// Pairs that lost a transfer, and on which sides wallets lost one.
    thinned: HashSet<(WalletId, WalletId, AssetId)>,
    lost: [HashMap<WalletId, u32>; 2],
    /// By side, a bit for every wallet that is not as the base has it: searches ask for each wallet they meet.
    touched: [Bits; 2],
    alive: usize,
    order: OnceLock<Vec<u64>>,
}

impl Overlay {
    /// Without any change.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes: transfers that came and that went.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.alive + self.removed.len()
    }

    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows() == 0 && self.wallets.names.is_empty()
    }

    /// An estimate of its memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const NAME: usize = 200;
        const ADDED: usize = size_of::<Option<Added>>() + 48;
        const REMOVED: usize = 64;
        (self.wallets.names.len() + self.tokens.names.len()) * NAME
            + self.added.len() * ADDED
            + self.removed.len() * REMOVED
            + (self.touched[0].0.len() + self.touched[1].0.len()) * 8
    }

    /// Adds a transfer that came.
    ///
    /// # Errors
    /// When the base does not hold together, or there are more names than numbers.
    pub fn add<B: Deref<Target = [u8]>>(&mut self, base: &Base<B>, row: &TransferRow<'_>) -> Result<(), Damaged> {
        let sections = base.sections();
        let network = self.number_network(base.networks(), row.network)?;
        let from = self.number_wallet(&sections, network, row.from)?;
        let to = match row.to {
            Some(to) => self.number_wallet(&sections, network, to)?,
            None => WalletId::NONE,
        };
        let asset = match row.token {
            Some(token) => self.number_token(&sections, network, token)?,
            None => AssetId::NATIVE,
        };
        let added =
            Added { from, to, asset, status: row.status, time: row.time, value: row.value, position: row.position };
        let number = u32::try_from(self.added.len()).map_err(|_| Damaged { what: "too many changes" })?;
        self.added.push(Some(added));
        self.alive += 1;
        insert(&self.added, self.sent.entry(from).or_default(), number);
        self.touched[0].set(from);
        if to != WalletId::NONE {
            self.touched[1].set(to);
            insert(&self.added, self.received.entry(to).or_default(), number);
        }
        Ok(())
    }

    /// Takes a transfer away that is in the base or was added.
    ///
    /// # Errors
    /// When there is no such transfer.
    pub fn remove<B: Deref<Target = [u8]>>(&mut self, base: &Base<B>, row: &TransferRow<'_>) -> Result<(), NotInGraph> {
        let sections = base.sections();
        let network = self.find_network(base.networks(), row.network).ok_or(NotInGraph::Missing)?;
        let wallet = |address| self.find_wallet(&sections, network, address)?.ok_or(NotInGraph::Missing);
        let from = wallet(row.from)?;
        let to = row.to.map(wallet).transpose()?.unwrap_or(WalletId::NONE);
        let asset = match row.token {
            Some(token) => self.find_token(&sections, network, token)?.ok_or(NotInGraph::Missing)?,
            None => AssetId::NATIVE,
        };
        let gone =
            Added { from, to, asset, status: row.status, time: row.time, value: row.value, position: row.position };
        if let Some(number) = self.find_in_base(&sections, &gone)? {
            self.removed.insert(number);
            self.thinned.insert((from, to, asset));
            *self.lost[0].entry(from).or_default() += 1;
            self.touched[0].set(from);
            if to != WalletId::NONE {
                self.touched[1].set(to);
                *self.lost[1].entry(to).or_default() += 1;
            }
            return Ok(());
        }
        let list = self.sent.get_mut(&from).ok_or(NotInGraph::Missing)?;
        let place = list.iter().position(|number| self.added[*number as usize] == Some(gone));
        let number = list.remove(place.ok_or(NotInGraph::Missing)?);
        self.added[number as usize] = None;
        self.alive -= 1;
        if let Some(list) = self.received.get_mut(&to) {
            list.retain(|one| *one != number);
        }
        Ok(())
    }

    fn find_in_base(&self, sections: &Sections<'_>, gone: &Added) -> Result<Option<u32>, Damaged> {
        let range = sections.transfers(gone.from, Side::Out);
        let times = sections.out_time.get(range.clone()).ok_or(Damaged { what: "transfers out of range" })?;
        let first = range.start + times.partition_point(|time| *time < gone.time);
        let kind = TransferKind::new(gone.asset, gone.status);
        for number in first..range.end {
            if sections.out_time[number] != gone.time {
                break;
            }
            // a number below the length of a section of 32-bit numbers
            let as_number = number as u32;
            if sections.out_peer[number] == gone.to
                && sections.out_kind[number] == kind
                && sections.wide.value(sections.out_value[number])? == gone.value
                && sections.wide.position(sections.out_position[number])? == gone.position
                && !self.removed.contains(&as_number)
            {
                return Ok(Some(as_number));
            }
        }
        Ok(None)
    }

    fn number_network(&mut self, known: &[String], name: &str) -> Result<NetworkId, Damaged> {
        if let Some(number) = self.find_network(known, name) {
            return Ok(number);
        }
        let number = u16::try_from(known.len() + self.networks.len()).ok().filter(|number| *number < u16::MAX - 1);
        self.networks.push(name.to_owned());
        number.map(NetworkId::new).ok_or(Damaged { what: "too many networks" })
    }

    pub(in crate::graph) fn find_network(&self, known: &[String], name: &str) -> Option<NetworkId> {
        let all = known.iter().chain(&self.networks);
        (0..).zip(all).find(|(_, one)| *one == name).map(|(number, _)| NetworkId::new(number))
    }

    fn number_wallet(&mut self, base: &Sections<'_>, network: NetworkId, address: &str) -> Result<WalletId, Damaged> {
        if let Some(wallet) = self.find_wallet(base, network, address)? {
            return Ok(wallet);
        }
        let number = base.wallets.len() + self.wallets.names.len();
        let number = u32::try_from(number).ok().filter(|number| *number < u32::MAX);
        let number = number.ok_or(Damaged { what: "too many wallets" })?;
        self.wallets.add(network, address, number);
        self.order = OnceLock::new();
        Ok(WalletId::new(number))
    }

    pub(in crate::graph) fn find_wallet(
        &self,
        base: &Sections<'_>,
        network: NetworkId,
        address: &str,
    ) -> Result<Option<WalletId>, Damaged> {
        let number = match base.wallets.find(network, address)? {
            Some(number) => Some(number),
            None => self.wallets.find(network, address),
        };
        Ok(number.map(WalletId::new))
    }

    fn number_token(&mut self, base: &Sections<'_>, network: NetworkId, token: &str) -> Result<AssetId, Damaged> {
        if let Some(asset) = self.find_token(base, network, token)? {
            return Ok(asset);
        }
        let number = base.tokens.len() + self.tokens.names.len();
        let number = u32::try_from(number).ok().filter(|number| *number <= MAX_ASSET);
        let number = number.ok_or(Damaged { what: "too many tokens" })?;
        self.tokens.add(network, token, number);
        Ok(AssetId::new(number))
    }

    pub(in crate::graph) fn find_token(
        &self,
        base: &Sections<'_>,
        network: NetworkId,
        token: &str,
    ) -> Result<Option<AssetId>, Damaged> {
        let number = match base.tokens.find(network, token)? {
            Some(number) => Some(number),
            None => self.tokens.find(network, token),
        };
        Ok(number.map(AssetId::new))
    }

    /// Names of networks behind the base's.
    pub(in crate::graph) fn new_networks(&self) -> &[String] {
        &self.networks
    }

    /// Wallets behind the base's: network and address.
    pub(in crate::graph) fn new_wallets(&self) -> &[(NetworkId, Box<str>)] {
        &self.wallets.names
    }

    /// Tokens behind the base's.
    pub(in crate::graph) fn new_tokens(&self) -> &[(NetworkId, Box<str>)] {
        &self.tokens.names
    }

    /// A transfer that came, if it is still there.
    pub(in crate::graph) fn added(&self, number: u32) -> Option<&Added> {
        self.added.get(number as usize)?.as_ref()
    }

    /// What came to a side of a wallet, by time and position.
    pub(in crate::graph) fn came(&self, wallet: WalletId, side: Side) -> &[u32] {
        let lists = if side == Side::Out { &self.sent } else { &self.received };
        lists.get(&wallet).map_or(&[], Vec::as_slice)
    }

    /// One more than the highest number of a transfer that came.
    pub(in crate::graph) const fn numbers(&self) -> usize {
        self.added.len()
    }

    /// Everything that came.
    pub(in crate::graph) fn all_added(&self) -> impl Iterator<Item = (u32, &Added)> {
        (0..).zip(&self.added).filter_map(|(number, added)| Some((number, added.as_ref()?)))
    }

    /// Whether a transfer of the base went.
    pub(in crate::graph) fn went(&self, number: u32) -> bool {
        self.removed.contains(&number)
    }

    /// The base's transfers that went.
    pub(in crate::graph) fn all_removed(&self) -> impl Iterator<Item = u32> {
        self.removed.iter().copied()
    }

    /// How many transfers a side of a wallet lost.
    pub(in crate::graph) fn lost(&self, wallet: WalletId, side: Side) -> u32 {
        self.lost[side as usize].get(&wallet).copied().unwrap_or(0)
    }

    /// Whether a pair of the base lost a transfer.
    pub(in crate::graph) fn is_thinned(&self, from: WalletId, to: WalletId, asset: AssetId) -> bool {
        self.thinned.contains(&(from, to, asset))
    }

    /// By sender, the pairs of the base that lost a transfer, as asset and receiver.
    pub(in crate::graph) fn thinned_by_sender(&self) -> HashMap<WalletId, Vec<(AssetId, WalletId)>> {
        let mut all: HashMap<WalletId, Vec<(AssetId, WalletId)>> = HashMap::new();
        for (from, to, asset) in &self.thinned {
            all.entry(*from).or_default().push((*asset, *to));
        }
        all
    }

    /// Whether a side of a wallet is as the base has it.
    #[inline]
    pub(in crate::graph) fn is_untouched(&self, wallet: WalletId, side: Side) -> bool {
        !self.touched[side as usize].has(wallet)
    }

    /// Wallets with a side that is not as the base has it.
    pub(in crate::graph) fn touched(&self, side: Side) -> HashSet<WalletId> {
        let lists = if side == Side::Out { &self.sent } else { &self.received };
        lists
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(wallet, _)| *wallet)
            .chain(self.lost[side as usize].keys().copied())
            .collect()
    }

    /// Where a new wallet stands among all by address: behind how many of the base's, and behind how many new ones there.
    pub(in crate::graph) fn new_order(&self, base: &Sections<'_>, new: usize) -> u64 {
        let order = self.order.get_or_init(|| self.order_new(base));
        order.get(new).copied().unwrap_or(u64::MAX)
    }

    fn order_new(&self, base: &Sections<'_>) -> Vec<u64> {
        let names = &self.wallets.names;
        let mut sorted: Vec<usize> = (0..names.len()).collect();
        sorted.sort_unstable_by_key(|new| (&names[*new].1, names[*new].0));
        let mut order = vec![0; names.len()];
        for (place, new) in (0_u64..).zip(sorted) {
            let (network, address) = &names[new];
            let before = base.by_rank.partition_point(|wallet| {
                let text = base.wallets.bytes(wallet.get()).unwrap_or_default();
                let of = base.wallets.networks.get(wallet.index()).copied().unwrap_or(NetworkId::new(0));
                (text, of) < (address.as_bytes(), *network)
            });
            order[new] = ((before as u64) << 32) | place;
        }
        order
    }
}

/// Keeps a wallet's list by time and position; nearly always at its end.
fn insert(added: &[Option<Added>], list: &mut Vec<u32>, number: u32) {
    let key = |number: u32| added[number as usize].map(|one| (one.time, one.position));
    let new = key(number);
    let place = list.partition_point(|one| key(*one) <= new);
    list.insert(place, number);
}
