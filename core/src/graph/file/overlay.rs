//! Changes since a base was built: added and removed transfers, kept in memory.
//!
//! Wallets and tokens that the base does not have get ids after the base's. Removing a transfer
//! drops it if it was added before, and marks it as removed if the base has it. Adding one that
//! equals a removed one of the base takes the mark back. So a change of a row that the graph does
//! not see (a price, gas, metadata) leaves no trace: no transfer is both removed and added.

use std::collections::btree_map::Entry as PairEntry;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use thiserror::Error;

use crate::graph::error::Damaged;
use crate::graph::file::base::{Base, POLL_INTERVAL, Sections};
use crate::graph::file::names::Names;
use crate::graph::file::packed::{MAX_ASSET, TransferKind};
use crate::graph::file::rows::{AssetPeer, PairSum, PairSums};
use crate::graph::types::{AssetId, NetworkId, Position, Side, Source, Status, TransferRow, U256, WalletId, WalletIds};

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
    pub source: Source,
    pub status: Status,
    pub time: i64,
    pub value: U256,
    pub position: Position,
}

impl AddedTransfer {
    const fn new(from: WalletId, to: WalletId, asset: AssetId, source: Source, row: &TransferRow<'_>) -> Self {
        let &TransferRow { time, value, position, status, .. } = row;
        Self { from, to, asset, source, status, time, value, position }
    }

    const fn key(&self) -> (i64, Position) {
        (self.time, self.position)
    }

    const fn wallet(&self, side: Side) -> WalletId {
        match side {
            Side::Out => self.from,
            Side::In => self.to,
        }
    }

    /// Returns whether the transfer counts in the sums of pairs.
    fn is_of_pair(&self) -> bool {
        self.status != Status::Failed && self.from != WalletId::NO_SENDER && self.to != WalletId::NONE
    }
}

/// Spreads ids, which are dense, over a hash table. An id is a number of this graph and not a
/// stranger's choice, so nothing has to be hidden.
#[derive(Debug, Clone, Copy, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio. A table takes the low bits and the highest ones.
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

#[derive(Debug, Clone, Default)]
struct NewNames {
    names: Vec<(NetworkId, Box<str>)>,
    /// Numbers by network and name.
    numbers: BTreeMap<u16, HashMap<Box<str>, u32>>,
}

impl NewNames {
    /// Returns the number of a name of the base or of a new one.
    fn find(&self, base: &Names<'_>, network: NetworkId, name: &str) -> Result<Option<u32>, Damaged> {
        if let Some(number) = base.find(network, name)? {
            return Ok(Some(number));
        }
        Ok(self.numbers.get(&network.get()).and_then(|numbers| numbers.get(name)).copied())
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
            self.numbers.entry(network.get()).or_default().insert(Box::from(name), number);
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

    fn clear(&mut self, wallet: WalletId) {
        if let Some(word) = self.0.get_mut(wallet.index() / 64) {
            *word &= !(1 << (wallet.index() % 64));
        }
    }

    #[inline]
    fn has(&self, wallet: WalletId) -> bool {
        self.0.get(wallet.index() / 64).is_some_and(|word| word >> (wallet.index() % 64) & 1 == 1)
    }
}

/// Sums that are computed on first use and dropped when their wallet changes. A copy is empty.
#[derive(Debug, Default)]
struct RemaindersCache(Mutex<HashMap<(Side, WalletId), Arc<PairSums>>>);

impl Clone for RemaindersCache {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl RemaindersCache {
    fn get(&self, wallet: WalletId, side: Side) -> Option<Arc<PairSums>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(side, wallet)).cloned()
    }

    fn insert(&self, wallet: WalletId, side: Side, sums: &Arc<PairSums>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((side, wallet), Arc::clone(sums));
    }

    fn remove(&mut self, wallet: WalletId, side: Side) {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).remove(&(side, wallet));
    }
}

/// Order by address of the first new wallets.
#[derive(Debug, Clone, Default)]
struct NewOrder {
    /// Numbers of the new wallets in the order of their addresses.
    sorted: Vec<u32>,
    /// By new wallet, the number of the base's wallets before it.
    before: Vec<u32>,
    /// By new wallet, its key: `before` in the high half, its rank among the new ones in the low.
    keys: Vec<u64>,
}

impl NewOrder {
    /// Inserts the wallets from the number of those already in order. O(new · log(base + ordered)
    /// + ordered), with text comparisons for the new ones alone.
    fn extended(&self, base: &Sections<'_>, names: &[(NetworkId, Box<str>)]) -> Self {
        let ordered = self.before.len();
        let mut before = self.before.clone();
        before.extend(names[ordered..].iter().map(|(network, address)| {
            let rank = base.by_rank.partition_point(|wallet| {
                let text = base.wallets.bytes(wallet.get()).unwrap_or_default();
                let own_network = base.wallets.networks.get(wallet.index()).copied().unwrap_or(NetworkId::new(0));
                (text, own_network) < (address.as_bytes(), *network)
            });
            rank as u32
        }));
        let key = |new: u32| {
            let (network, address) = &names[new as usize];
            (before[new as usize], address.as_bytes(), *network)
        };
        let mut fresh: Vec<u32> = (ordered as u32..names.len() as u32).collect();
        fresh.sort_unstable_by(|a, b| key(*a).cmp(&key(*b)));
        let mut sorted = Vec::with_capacity(names.len());
        let mut rest = self.sorted.as_slice();
        for new in fresh {
            let (smaller, larger) = rest.split_at(rest.partition_point(|other| key(*other) < key(new)));
            sorted.extend_from_slice(smaller);
            sorted.push(new);
            rest = larger;
        }
        sorted.extend_from_slice(rest);
        let mut keys = vec![0; names.len()];
        for (rank, new) in (0_u64..).zip(&sorted) {
            keys[*new as usize] = (u64::from(before[*new as usize]) << 32) | rank;
        }
        Self { sorted, before, keys }
    }
}

/// A change that [`Overlay::roll_back`] takes back.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// A transfer was added.
    Added(AddedTransfer),
    /// An added transfer was dropped.
    Dropped(AddedTransfer),
    /// A transfer of the base was marked as removed.
    Removed(u32, AddedTransfer),
    /// The mark of a transfer of the base was taken back.
    Restored(u32, AddedTransfer),
}

/// Changes since a base. Always used with the base that it was filled for.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    networks: Vec<String>,
    wallets: NewNames,
    tokens: NewNames,
    /// Added transfers; `None` for one that was dropped again.
    added: Vec<Option<AddedTransfer>>,
    /// Numbers of dropped transfers, which later ones get.
    unused: Vec<u32>,
    /// Indexes into `added` by wallet, ordered by time and position.
    sent: IdMap<WalletId, Vec<u32>>,
    received: IdMap<WalletId, Vec<u32>>,
    /// Removed transfers of the base.
    removed: HashSet<u32, BuildHasherDefault<IdHasher>>,
    /// By side, the pairs of the base that lost transfers, with the number of those.
    thinned: [BTreeMap<(WalletId, AssetId, WalletId), u32>; 2],
    remainders: RemaindersCache,
    /// By side and wallet, the number of removed transfers of the base.
    removed_counts: [IdMap<WalletId, u32>; 2],
    /// By side, the wallets with changes. Searches check every wallet that they visit, so these are
    /// bits.
    touched: [WalletBits; 2],
    added_count: usize,
    /// Order of new wallets, extended on first use.
    order: OnceLock<Arc<NewOrder>>,
    /// The order before the newest wallets.
    former_order: Arc<NewOrder>,
    /// Changes since [`Overlay::mark`].
    journal: Option<Vec<Change>>,
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

    /// Returns the number of added and of removed transfers.
    #[must_use]
    pub fn added_and_removed(&self) -> (u64, u64) {
        (self.added_count as u64, self.removed.len() as u64)
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
        // On both sides: an entry here, and one among the remainders.
        const THINNED: usize = 2 * (32 + 96);
        (self.wallets.names.len() + self.tokens.names.len()) * NAME
            + self.added.len() * ADDED
            + self.removed.len() * REMOVED
            + self.thinned[0].len() * THINNED
            + (self.touched[0].0.len() + self.touched[1].0.len()) * 8
    }

    /// Creates an overlay with names that its base does not have, in the order of ids. `networks`
    /// follow those of the base, of which the number is given.
    pub(super) fn with_names(
        base: &Sections<'_>,
        (of_base, networks): (usize, Vec<String>),
        wallets: Vec<(NetworkId, Box<str>)>,
        tokens: Vec<(NetworkId, Box<str>)>,
    ) -> Result<Self, Damaged> {
        const TOO_MANY: Damaged = Damaged { what: "names of a segment out of range" };
        let mut overlay = Self { networks, ..Self::default() };
        let end = of_base + overlay.networks.len();
        for (names, of_base, new, max) in [
            (&mut overlay.wallets, base.wallets, wallets, u32::MAX - 1),
            (&mut overlay.tokens, base.tokens, tokens, MAX_ASSET),
        ] {
            for (network, name) in new {
                let next = of_base.len() + names.names.len();
                let number = names.find_or_add(&of_base, network, &name, max)?;
                // A name that the base has, or an earlier one, would shift the ids of the others.
                if network.index() >= end || number.is_none_or(|number| number as usize != next) {
                    return Err(TOO_MANY);
                }
            }
        }
        Ok(overlay)
    }

    /// Adds a transfer.
    ///
    /// # Errors
    /// When the base is damaged, or there are more names than ids.
    pub fn add<B: Deref<Target = [u8]>>(&mut self, base: &Base<B>, row: &TransferRow<'_>) -> Result<(), Damaged> {
        self.add_from(base, row.source(), row)
    }

    /// Adds a row of a table; one with a token is always a token transfer.
    ///
    /// # Errors
    /// The errors of [`Self::add`].
    pub fn add_from<B: Deref<Target = [u8]>>(
        &mut self,
        base: &Base<B>,
        source: Source,
        row: &TransferRow<'_>,
    ) -> Result<(), Damaged> {
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
        let transfer = AddedTransfer::new(from, to, asset, source, row);
        if self.removed_counts[0].contains_key(&from)
            && let Some(number) = self.find_in_base(&sections, &transfer, true)?
        {
            self.restore(number, &transfer);
            self.note(Change::Restored(number, transfer));
        } else {
            self.insert(&transfer)?;
            self.note(Change::Added(transfer));
        }
        Ok(())
    }

    /// Removes a transfer of the base or one that was added before.
    ///
    /// # Errors
    /// When there is no such transfer.
    pub fn remove<B: Deref<Target = [u8]>>(&mut self, base: &Base<B>, row: &TransferRow<'_>) -> Result<(), NotInGraph> {
        self.remove_from(base, row.source(), row)
    }

    /// Removes a row of a table.
    ///
    /// # Errors
    /// The errors of [`Self::remove`].
    pub fn remove_from<B: Deref<Target = [u8]>>(
        &mut self,
        base: &Base<B>,
        source: Source,
        row: &TransferRow<'_>,
    ) -> Result<(), NotInGraph> {
        let sections = base.sections();
        let network = self.find_network(base.networks(), row.network).ok_or(NotInGraph::Missing)?;
        let wallet = |address| self.find_wallet(&sections, network, address)?.ok_or(NotInGraph::Missing);
        let from = row.from.map(wallet).transpose()?.unwrap_or(WalletId::NO_SENDER);
        let to = row.to.map(wallet).transpose()?.unwrap_or(WalletId::NONE);
        let asset = match row.token {
            Some(token) => self.find_token(&sections, network, token)?.ok_or(NotInGraph::Missing)?,
            None => AssetId::NATIVE,
        };
        let transfer = AddedTransfer::new(from, to, asset, source, row);
        if self.drop_added(&transfer) {
            self.note(Change::Dropped(transfer));
            return Ok(());
        }
        let number = self.find_in_base(&sections, &transfer, false)?.ok_or(NotInGraph::Missing)?;
        self.remove_of_base(number, &transfer);
        self.note(Change::Removed(number, transfer));
        Ok(())
    }

    /// Removes all transfers of a table whose times are in a range, whether they are of the base or
    /// were added. O(wallets · log transfers + removed transfers). `poll` is called now and then,
    /// with the memory in bytes that the overlay takes; a first error ends the removal.
    ///
    /// # Errors
    /// When the base is damaged, and the first error of `poll`.
    pub fn take_back<B: Deref<Target = [u8]>, E: From<Damaged>>(
        &mut self,
        base: &Base<B>,
        source: Source,
        times: &Range<i64>,
        mut poll: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        const OUT_OF_RANGE: Damaged = Damaged { what: "transfers out of range" };
        let is_meant = |transfer: &&AddedTransfer| transfer.source == source && times.contains(&transfer.time);
        let added: Vec<AddedTransfer> = self.added.iter().flatten().filter(is_meant).copied().collect();
        for transfer in added {
            self.drop_added(&transfer);
            self.note(Change::Dropped(transfer));
        }
        let sections = base.sections();
        for (step, from) in WalletIds::new(0, base.wallets()).enumerate() {
            if step % POLL_INTERVAL == 0 {
                poll(self.bytes())?;
            }
            let range = sections.transfers(from, Side::Out);
            let sent = sections.out_time.get(range.clone()).ok_or(OUT_OF_RANGE)?;
            let first = range.start + sent.partition_point(|time| *time < times.start);
            let end = range.start + sent.partition_point(|time| *time < times.end);
            for number in first..end {
                let kind = sections.out_kind[number];
                if kind.source() != source || self.removed.contains(&(number as u32)) {
                    continue;
                }
                let transfer = AddedTransfer {
                    from,
                    to: sections.out_peer[number],
                    asset: kind.asset(),
                    source,
                    status: kind.status(),
                    time: sections.out_time[number],
                    value: sections.wide.value(sections.out_value[number])?,
                    position: sections.wide.position(sections.out_position[number])?,
                };
                self.remove_of_base(number as u32, &transfer);
                self.note(Change::Removed(number as u32, transfer));
                if self.removed.len().is_multiple_of(POLL_INTERVAL) {
                    poll(self.bytes())?;
                }
            }
        }
        poll(self.bytes())
    }

    /// Begins to note changes, for [`Self::roll_back`].
    pub fn mark(&mut self) {
        self.journal = Some(Vec::new());
    }

    /// Returns whether changes are noted.
    #[must_use]
    pub const fn is_marked(&self) -> bool {
        self.journal.is_some()
    }

    /// Takes back all changes since [`Self::mark`]. Wallets and tokens that came with them stay,
    /// without transfers. O(changes).
    pub fn roll_back(&mut self) {
        for change in self.journal.take().unwrap_or_default().into_iter().rev() {
            match change {
                Change::Added(transfer) => {
                    self.drop_added(&transfer);
                }
                // It had a number before.
                Change::Dropped(transfer) => drop(self.insert(&transfer)),
                Change::Removed(number, transfer) => self.restore(number, &transfer),
                Change::Restored(number, transfer) => self.remove_of_base(number, &transfer),
            }
        }
    }

    fn note(&mut self, change: Change) {
        if let Some(journal) = &mut self.journal {
            journal.push(change);
        }
    }

    pub(super) fn insert(&mut self, transfer: &AddedTransfer) -> Result<(), Damaged> {
        let number = match self.unused.pop() {
            Some(number) => {
                self.added[number as usize] = Some(*transfer);
                number
            }
            None => {
                let number = u32::try_from(self.added.len()).map_err(|_| Damaged { what: "too many changes" })?;
                self.added.push(Some(*transfer));
                number
            }
        };
        self.added_count += 1;
        for (side, wallet) in sides(transfer) {
            let lists = if side == Side::Out { &mut self.sent } else { &mut self.received };
            // Nearly always at the end.
            let list = lists.entry(wallet).or_default();
            let index = list.partition_point(|other| key_of(&self.added, *other) <= transfer.key());
            list.insert(index, number);
            self.touched[side as usize].set(wallet);
        }
        Ok(())
    }

    /// Drops an added transfer that equals `transfer`. Returns false if no added transfer does.
    fn drop_added(&mut self, transfer: &AddedTransfer) -> bool {
        let list = self.sent.get(&transfer.from).map_or(&[][..], Vec::as_slice);
        let first = list.partition_point(|other| key_of(&self.added, *other) < transfer.key());
        let same_key = list[first..].iter().take_while(|other| key_of(&self.added, **other) == transfer.key());
        let found = same_key.copied().find(|other| self.added[*other as usize].as_ref() == Some(transfer));
        let Some(number) = found else { return false };
        for (side, wallet) in sides(transfer) {
            let lists = if side == Side::Out { &mut self.sent } else { &mut self.received };
            if let Entry::Occupied(mut list) = lists.entry(wallet) {
                let first = list.get().partition_point(|other| key_of(&self.added, *other) < transfer.key());
                if let Some(index) = list.get()[first..].iter().position(|other| *other == number) {
                    list.get_mut().remove(first + index);
                }
                if list.get().is_empty() {
                    list.remove();
                }
            }
            self.forget_if_untouched(wallet, side);
        }
        self.added[number as usize] = None;
        self.unused.push(number);
        self.added_count -= 1;
        true
    }

    pub(super) fn remove_of_base(&mut self, number: u32, transfer: &AddedTransfer) {
        self.removed.insert(number);
        for (side, wallet) in sides(transfer) {
            *self.removed_counts[side as usize].entry(wallet).or_default() += 1;
            self.touched[side as usize].set(wallet);
        }
        for (side, pair) in pairs(transfer) {
            *self.thinned[side as usize].entry(pair).or_default() += 1;
            self.remainders.remove(pair.0, side);
        }
    }

    /// Takes back the mark of a removed transfer.
    fn restore(&mut self, number: u32, transfer: &AddedTransfer) {
        self.removed.remove(&number);
        for (side, pair) in pairs(transfer) {
            if let PairEntry::Occupied(mut count) = self.thinned[side as usize].entry(pair) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
            self.remainders.remove(pair.0, side);
        }
        for (side, wallet) in sides(transfer) {
            if let Entry::Occupied(mut count) = self.removed_counts[side as usize].entry(wallet) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
            self.forget_if_untouched(wallet, side);
        }
    }

    fn forget_if_untouched(&mut self, wallet: WalletId, side: Side) {
        if self.added(wallet, side).is_empty() && self.removed_count(wallet, side) == 0 {
            self.touched[side as usize].clear(wallet);
        }
    }

    /// Finds a transfer of the base among those that are removed, or among the others.
    /// O(log transfers of the sender + those of the same time and position).
    fn find_in_base(
        &self,
        sections: &Sections<'_>,
        transfer: &AddedTransfer,
        removed: bool,
    ) -> Result<Option<u32>, Damaged> {
        let range = sections.transfers(transfer.from, Side::Out);
        let times = sections.out_time.get(range.clone()).ok_or(Damaged { what: "transfers out of range" })?;
        let key_of = |number: usize| -> Result<(i64, Position), Damaged> {
            Ok((sections.out_time[number], sections.wide.position(sections.out_position[number])?))
        };
        let first = range.start + times.partition_point(|time| *time < transfer.time);
        let (mut low, mut high) = (first, range.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if key_of(middle)? < transfer.key() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let kind = TransferKind::new(transfer.asset, transfer.source, transfer.status);
        for number in low..range.end {
            if key_of(number)? != transfer.key() {
                break;
            }
            // Sections have fewer than 2^32 elements.
            let as_number = number as u32;
            if sections.out_peer[number] == transfer.to
                && sections.out_kind[number] == kind
                && sections.wide.value(sections.out_value[number])? == transfer.value
                && self.removed.contains(&as_number) == removed
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
        if self.wallets.names.len() > new_wallets
            && let Some(order) = self.order.take()
        {
            self.former_order = order;
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

    /// Returns asset and counterparty of the pairs of a wallet that lost transfers.
    fn thinned(&self, wallet: WalletId, side: Side) -> impl Iterator<Item = AssetPeer> {
        let first = (wallet, AssetId::new(0), WalletId::new(0));
        let last = (wallet, AssetId::new(u32::MAX), WalletId::new(u32::MAX));
        self.thinned[side as usize].range(first..=last).map(|((_, asset, peer), _)| (*asset, *peer))
    }

    /// Returns what remains in the base of the pairs of a wallet that lost transfers, in one pass
    /// over its transfers; later calls return the same sums. `poll` is called now and then.
    ///
    /// # Errors
    /// When the base is damaged.
    pub(crate) fn remainders(
        &self,
        base: &Sections<'_>,
        wallet: WalletId,
        side: Side,
        poll: &mut dyn FnMut(),
    ) -> Result<Arc<PairSums>, Damaged> {
        if let Some(sums) = self.remainders.get(wallet, side) {
            return Ok(sums);
        }
        let mut sums: PairSums = self.thinned(wallet, side).map(|pair| (pair, PairSum::EMPTY)).collect();
        if sums.is_empty() {
            return Ok(Arc::default());
        }
        base.sum_pairs(wallet, side, &mut sums, |number| self.removed.contains(&number), poll)?;
        let sums = Arc::new(sums);
        self.remainders.insert(wallet, side, &sums);
        Ok(sums)
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
        let extended = || Arc::new(self.former_order.extended(base, &self.wallets.names));
        self.order.get_or_init(extended).keys.get(new).copied().unwrap_or(u64::MAX)
    }
}

/// Returns the sides of a transfer, with their wallets.
fn sides(transfer: &AddedTransfer) -> impl Iterator<Item = (Side, WalletId)> {
    let side = |side| (side, transfer.wallet(side));
    [side(Side::Out), side(Side::In)].into_iter().filter(|(_, wallet)| *wallet != WalletId::NONE)
}

/// Returns the pair that a transfer counts in, as each of its sides has it.
fn pairs(transfer: &AddedTransfer) -> impl Iterator<Item = (Side, (WalletId, AssetId, WalletId))> {
    let &AddedTransfer { from, to, asset, .. } = transfer;
    let both = [(Side::Out, (from, asset, to)), (Side::In, (to, asset, from))];
    both.into_iter().filter(|_| transfer.is_of_pair())
}

fn key_of(added: &[Option<AddedTransfer>], number: u32) -> (i64, Position) {
    added[number as usize].as_ref().map_or((i64::MIN, Position::default()), AddedTransfer::key)
}
