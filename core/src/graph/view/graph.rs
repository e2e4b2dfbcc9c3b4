//! A base with its overlay, as one graph.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::{Deref, Range};

use crate::graph::error::Damaged;
use crate::graph::file::base::{Base, Sections};
use crate::graph::file::overlay::{Added, Overlay};
use crate::graph::file::packed::BEYOND;
use crate::graph::types::{AssetId, NetworkId, Position, Side, Status, U256, WalletId, WalletIds};
use crate::graph::view::filter::{AssetSelection, Edge, EdgeFilter, PlainEdges, PlainTotals};

/// Receipts that are read ahead together.
const AHEAD: usize = 64;

/// A transfer, as one of its two wallets sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Its number, the same from both sides. Numbers mean nothing outside the graph they come from.
    pub number: u64,
    /// The other wallet; `None` for the creation of a contract.
    pub peer: Option<WalletId>,
    /// The asset.
    pub asset: AssetId,
    /// When.
    pub time: i64,
    /// How much, in units of the asset.
    pub value: U256,
    /// Order among transfers of the same time.
    pub position: Position,
    /// Whether it took effect.
    pub status: Status,
}

/// A base and the changes since.
#[derive(Debug, Clone, Copy)]
pub struct Graph<'g> {
    base: Sections<'g>,
    networks: &'g [String],
    overlay: &'g Overlay,
    /// Whether the base has native coins alone.
    native_only: bool,
}

impl<'g> Graph<'g> {
    /// Lays the overlay, which was filled with this base, over it.
    #[must_use]
    pub fn new<B: Deref<Target = [u8]>>(base: &'g Base<B>, overlay: &'g Overlay) -> Self {
        let native_only = base.native_transfers() == base.transfers();
        Self { base: base.sections(), networks: base.networks(), overlay, native_only }
    }

    /// A wallet by its address. One that the graph knows may have no transfer any more.
    ///
    /// # Errors
    /// When the base does not hold together.
    pub fn wallet(&self, network: &str, address: &str) -> Result<Option<WalletId>, Damaged> {
        match self.overlay.find_network(self.networks, network) {
            Some(network) => self.overlay.find_wallet(&self.base, network, address),
            None => Ok(None),
        }
    }

    /// A token by its address.
    ///
    /// # Errors
    /// When the base does not hold together.
    pub fn asset(&self, network: &str, token: &str) -> Result<Option<AssetId>, Damaged> {
        match self.overlay.find_network(self.networks, network) {
            Some(network) => self.overlay.find_token(&self.base, network, token),
            None => Ok(None),
        }
    }

    /// The name of a wallet's network.
    ///
    /// # Errors
    /// When the base does not hold together.
    pub fn network(&self, wallet: WalletId) -> Result<&'g str, Damaged> {
        let known = self.base.wallets.len();
        let number = match self.base.wallets.networks.get(wallet.index()) {
            Some(number) => *number,
            None => self.overlay.new_wallets().get(wallet.index() - known).ok_or(OUT_OF_RANGE)?.0,
        };
        let all = self.networks.iter().chain(self.overlay.new_networks());
        all.map(String::as_str).nth(number.index()).ok_or(OUT_OF_RANGE)
    }

    /// The graph's number of a network, if it has a wallet of it.
    #[must_use]
    pub fn network_number(&self, network: &str) -> Option<NetworkId> {
        self.overlay.find_network(self.networks, network)
    }

    /// Whether a wallet is of the network with this number.
    #[inline]
    #[must_use]
    pub fn is_of(&self, wallet: WalletId, network: NetworkId) -> bool {
        let known = self.base.wallets.networks;
        match known.get(wallet.index()) {
            Some(number) => *number == network,
            None => self.overlay.new_wallets().get(wallet.index() - known.len()).is_some_and(|new| new.0 == network),
        }
    }

    /// Calls `each` for the wallets of a network, by address.
    ///
    /// # Errors
    /// What `each` reports, which ends it.
    pub fn by_address<E>(&self, network: NetworkId, mut each: impl FnMut(WalletId) -> Result<(), E>) -> Result<(), E> {
        let new = WalletIds::new(self.base.rank.len() as u32, self.wallets());
        let mut new: Vec<(u64, WalletId)> = new.map(|wallet| (self.order(wallet), wallet)).collect();
        new.sort_unstable();
        let mut new = new.into_iter().peekable();
        for wallet in self.base.by_rank {
            while let Some((_, new)) = new.next_if(|(order, _)| *order < self.order(*wallet)) {
                if self.is_of(new, network) {
                    each(new)?;
                }
            }
            if self.is_of(*wallet, network) {
                each(*wallet)?;
            }
        }
        new.filter(|(_, wallet)| self.is_of(*wallet, network)).try_for_each(|(_, wallet)| each(wallet))
    }

    /// The address of a token; empty for the native coin.
    ///
    /// # Errors
    /// When the base does not hold together.
    pub fn token(&self, asset: AssetId) -> Result<&'g str, Damaged> {
        let known = self.base.tokens.len();
        if asset.index() < known {
            return self.base.tokens.name(asset.get());
        }
        let new: &'g [(NetworkId, Box<str>)] = self.overlay.new_tokens();
        new.get(asset.index() - known).map(|(_, token)| &**token).ok_or(OUT_OF_RANGE)
    }

    /// Whether a wallet has any transfer.
    #[must_use]
    pub fn is_active(&self, wallet: WalletId) -> bool {
        [Side::Out, Side::In].into_iter().any(|side| {
            let base = self.base.transfers(wallet, side).len();
            base > self.overlay.lost(wallet, side) as usize || !self.overlay.came(wallet, side).is_empty()
        })
    }

    /// Calls `each` for a wallet's transfers, by time and position.
    ///
    /// # Errors
    /// When the base does not hold together, and what `each` reports, which ends it.
    pub fn transfers<E, F>(&self, wallet: WalletId, side: Side, each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Transfer) -> Result<(), E>,
    {
        self.transfers_within(wallet, side, self.base.transfers(wallet, side), each)
    }

    /// Calls `each` for a wallet's transfers that count, by time and position. Pairs are not looked at: `min_transfers` does not apply.
    ///
    /// # Errors
    /// When the base does not hold together, and what `each` reports, which ends it.
    pub fn counted_transfers<E, F>(&self, wallet: WalletId, side: Side, filter: &EdgeFilter, each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Transfer) -> Result<(), E>,
    {
        self.counted_transfers_with(wallet, side, filter, |_| true, each)
    }

    /// The same, of transfers with some counterparties alone: the others cost next to nothing.
    ///
    /// # Errors
    /// When the base does not hold together, and what `each` reports, which ends it.
    pub fn counted_transfers_with<E, F>(
        &self,
        wallet: WalletId,
        side: Side,
        filter: &EdgeFilter,
        wanted: impl FnMut(Option<WalletId>) -> bool,
        mut each: F,
    ) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Transfer) -> Result<(), E>,
    {
        let window = self.window(wallet, side, filter)?;
        self.transfers_with(wallet, side, window, wanted, |transfer| {
            if counts(&transfer, filter) { each(transfer) } else { Ok(()) }
        })
    }

    /// Reads ahead what wallets received. Whoever looks at one wallet after the other calls it with the next few dozen.
    pub fn read_ahead(&self, wallets: &[WalletId]) {
        for wallet in wallets {
            let receipts = self.base.transfers(*wallet, Side::In);
            self.read_receipts(receipts.start..receipts.end.min(receipts.start + AHEAD));
        }
    }

    /// Reads the transfers behind receipts. They lie anywhere, and many are fetched from memory in the time of one, as long as nothing is
    /// done with them.
    fn read_receipts(&self, entries: Range<usize>) {
        let base = &self.base;
        let mut sum = 0_u64;
        for number in base.in_transfer.get(entries).unwrap_or_default() {
            let number = *number as usize;
            let kind = base.out_kind.get(number).map_or(0, |kind| u64::from(kind.bits()));
            let time = base.out_time.get(number).map_or(0, |time| time.cast_unsigned());
            let value = base.out_value.get(number).copied().unwrap_or_default();
            let position = base.out_position.get(number).copied().unwrap_or_default();
            sum = sum.wrapping_add(kind ^ time ^ value ^ position);
        }
        // nobody wants the sum, but the reading must happen
        std::hint::black_box(sum);
    }

    /// A transfer by its number, as its sender sees it.
    ///
    /// # Errors
    /// When the base does not hold together, or there is no such transfer.
    pub fn transfer(&self, number: u64) -> Result<Transfer, Damaged> {
        match self.numbered(number)? {
            Numbered::Base(entry) => self.base_transfer(Side::Out, entry, entry),
            Numbered::Added(added) => Ok(seen(added, number, Side::Out)),
        }
    }

    /// Who sent a transfer, by its number. O(log wallets).
    ///
    /// # Errors
    /// When the base does not hold together, or there is no such transfer.
    pub fn sender(&self, number: u64) -> Result<WalletId, Damaged> {
        match self.numbered(number)? {
            Numbered::Base(entry) => {
                let after = self.base.out_offsets.partition_point(|start| *start as usize <= entry);
                after.checked_sub(1).map(|wallet| WalletId::new(wallet as u32)).ok_or(OUT_OF_RANGE)
            }
            Numbered::Added(added) => Ok(added.from),
        }
    }

    /// Where the transfer with a number is: those of the overlay are numbered after those of the base.
    fn numbered(&self, number: u64) -> Result<Numbered<'g>, Damaged> {
        let entry = usize::try_from(number).map_err(|_| OUT_OF_RANGE)?;
        let Some(added) = entry.checked_sub(self.base.out_peer.len()) else { return Ok(Numbered::Base(entry)) };
        let added = u32::try_from(added).ok().and_then(|added| self.overlay.added(added));
        added.map(Numbered::Added).ok_or(OUT_OF_RANGE)
    }

    /// Calls `each` with the receiver of every transfer that a wallet sent and that counts, by time and position; `None` for the
    /// creation of a contract. Pairs are not looked at: `min_transfers` does not apply. Fast where times and values do not matter:
    /// it reads eight bytes a transfer then.
    ///
    /// # Errors
    /// When the base does not hold together, and what `each` reports, which ends it.
    #[inline]
    pub fn receivers<E, F>(&self, wallet: WalletId, filter: &EdgeFilter, mut each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Option<WalletId>) -> Result<(), E>,
    {
        let plain = filter.since.is_none() && filter.until.is_none() && filter.min_value.is_none();
        if !plain || !self.overlay.is_untouched(wallet, Side::Out) {
            return self.counted_transfers(wallet, Side::Out, filter, |transfer| each(transfer.peer));
        }
        let range = self.base.transfers(wallet, Side::Out);
        let (peers, kinds) = (self.base.out_peer.get(range.clone()), self.base.out_kind.get(range));
        let (Some(peers), Some(kinds)) = (peers, kinds) else { return Err(OUT_OF_RANGE.into()) };
        for (peer, kind) in peers.iter().zip(kinds) {
            let failed = !filter.include_failed && kind.status() == Status::Failed;
            if !failed && filter.assets.contains(kind.asset()) {
                each(peer.some())?;
            }
        }
        Ok(())
    }

    /// At least as many transfers as a wallet has on a side: what looking at them costs.
    #[must_use]
    pub fn transfer_count(&self, wallet: WalletId, side: Side) -> usize {
        self.base.transfers(wallet, side).len() + self.overlay.came(wallet, side).len()
    }

    /// Calls `each` for the transfers from one wallet to another that count, by time and position. O(transfers of the wallet that
    /// has fewer).
    ///
    /// # Errors
    /// When the base does not hold together, and what `each` reports, which ends it.
    pub fn transfers_between<E, F>(
        &self,
        from: WalletId,
        to: WalletId,
        filter: &EdgeFilter,
        mut each: F,
    ) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Transfer) -> Result<(), E>,
    {
        let (sent, received) = (self.base.transfers(from, Side::Out), self.base.transfers(to, Side::In));
        let (wallet, side, peer) =
            if sent.len() <= received.len() { (from, Side::Out, to) } else { (to, Side::In, from) };
        let window = self.window(wallet, side, filter)?;
        self.transfers_within(wallet, side, window, |transfer| {
            if transfer.peer == Some(peer) && counts(&transfer, filter) { each(transfer) } else { Ok(()) }
        })
    }

    fn transfers_within<E, F>(&self, wallet: WalletId, side: Side, range: Range<usize>, each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Transfer) -> Result<(), E>,
    {
        self.transfers_with(wallet, side, range, |_| true, each)
    }

    #[inline]
    fn transfers_with<E, F>(
        &self,
        wallet: WalletId,
        side: Side,
        range: Range<usize>,
        mut wanted: impl FnMut(Option<WalletId>) -> bool,
        mut each: F,
    ) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Transfer) -> Result<(), E>,
    {
        let came = self.overlay.came(wallet, side);
        let beyond = self.base.out_peer.len() as u64;
        let seen_here = |number: &u32| Some(seen(self.overlay.added(*number)?, beyond + u64::from(*number), side));
        let mut came = came.iter().filter_map(seen_here).peekable();
        let peers = if side == Side::Out { self.base.out_peer } else { self.base.in_peer };
        let thinned = self.overlay.lost(wallet, side) > 0;
        let end = range.end;
        let mut read = if side == Side::In { range.start } else { end };
        for entry in range {
            if entry == read && end - entry > 1 {
                read = end.min(entry + AHEAD);
                self.read_receipts(entry..read);
            }
            let peer = *peers.get(entry).ok_or(OUT_OF_RANGE)?;
            if !wanted(peer.some()) {
                continue;
            }
            let number = self.base.transfer(side, entry)?;
            if thinned && self.overlay.went(number as u32) {
                continue;
            }
            let transfer = self.base_transfer(side, entry, number)?;
            while let Some(new) = came.next_if(|new| (new.time, new.position) < (transfer.time, transfer.position)) {
                if wanted(new.peer) {
                    each(new)?;
                }
            }
            each(transfer)?;
        }
        came.filter(|new| wanted(new.peer)).try_for_each(each)
    }

    #[inline]
    fn base_transfer(&self, side: Side, entry: usize, number: usize) -> Result<Transfer, Damaged> {
        let base = &self.base;
        let kind = *base.out_kind.get(number).ok_or(OUT_OF_RANGE)?;
        let peers = if side == Side::Out { base.out_peer } else { base.in_peer };
        let peer = *peers.get(entry).ok_or(OUT_OF_RANGE)?;
        Ok(Transfer {
            number: number as u64,
            peer: peer.some(),
            asset: kind.asset(),
            time: base.out_time[number],
            value: base.wide.value(base.out_value[number])?,
            position: base.wide.position(base.out_position[number])?,
            status: kind.status(),
        })
    }

    /// The entries of a side that can be within the filter's window: they are ordered by time.
    fn window(&self, wallet: WalletId, side: Side, filter: &EdgeFilter) -> Result<Range<usize>, Damaged> {
        let range = self.base.transfers(wallet, side);
        let first_from = |limit: i64| -> Result<usize, Damaged> {
            let (mut low, mut high) = (range.start, range.end);
            while low < high {
                let middle = low + (high - low) / 2;
                let time = self.base.out_time.get(self.base.transfer(side, middle)?).ok_or(OUT_OF_RANGE)?;
                if *time < limit {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            Ok(low)
        };
        let start = filter.since.map_or(Ok(range.start), first_from)?;
        let end = filter.until.map_or(Ok(range.end), first_from)?;
        Ok(start..end.max(start))
    }

    /// Edges from the base's pairs alone.
    #[inline]
    fn base_edges<E, F>(&self, wallet: WalletId, side: Side, filter: &EdgeFilter, mut each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Edge) -> Result<(), E>,
    {
        let base = &self.base;
        let (range, native_end) = base.pairs(wallet, side);
        let range = match filter.assets {
            AssetSelection::Native => range.start..native_end,
            AssetSelection::Tokens | AssetSelection::Token(_) => native_end..range.end,
            AssetSelection::All => range,
        };
        let summed = filter.assets.is_single();
        let mut one = |number: usize, peer: WalletId| -> Result<(), E> {
            let (Some(count), Some(code)) = (base.pair_count.get(number), base.pair_value.get(number)) else {
                return Err(OUT_OF_RANGE.into());
            };
            let asset = match filter.assets {
                AssetSelection::Native => AssetId::NATIVE,
                _ => base.pair_asset[number],
            };
            if u64::from(*count) < filter.min_transfers || !filter.assets.contains(asset) {
                return Ok(());
            }
            let value = match base.wide.small(*code) {
                _ if !summed => U256::ZERO,
                Some(value) => U256::new(value),
                None if *code == BEYOND => {
                    let (from, to) = if side == Side::Out { (wallet, peer) } else { (peer, wallet) };
                    return self.sum_of_base(from, to, asset)?.emit(peer, asset, true, &mut each);
                }
                None => base.wide.value(*code)?,
            };
            each(Edge {
                peer,
                asset,
                transfers: u64::from(*count),
                value,
                first: base.pair_first[number],
                last: base.pair_last[number],
            })
        };
        match side {
            Side::Out => {
                let peers = base.pair_peer.get(range.clone()).ok_or(OUT_OF_RANGE)?;
                for (number, peer) in range.zip(peers) {
                    one(number, *peer)?;
                }
            }
            Side::In => {
                let peers = base.in_pair_peer.get(range.clone()).ok_or(OUT_OF_RANGE)?;
                let numbers = base.in_pair_number.get(range).ok_or(OUT_OF_RANGE)?;
                for (number, peer) in numbers.iter().zip(peers) {
                    one(*number as usize, *peer)?;
                }
            }
        }
        Ok(())
    }

    /// Edges of a wallet that the overlay touches: the base's pairs, less what went, with what came.
    fn touched_edges<E, F>(&self, wallet: WalletId, side: Side, filter: &EdgeFilter, mut each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Edge) -> Result<(), E>,
    {
        let mut came: HashMap<(AssetId, WalletId), Sum> = HashMap::new();
        for number in self.overlay.came(wallet, side) {
            if let Some(added) = self.overlay.added(*number) {
                let peer = if side == Side::Out { added.to } else { added.from };
                if peer != WalletId::NONE && filter.assets.contains(added.asset) {
                    came.entry((added.asset, peer)).or_default().add(added.time, added.value);
                }
            }
        }
        let summed = filter.assets.is_single();
        let any = EdgeFilter { min_transfers: 0, ..*filter };
        // a pair beyond 256 bits comes in two pieces: they belong together
        let mut parts: HashMap<(AssetId, WalletId), Sum> = HashMap::new();
        let mut passed = None;
        self.base_edges(wallet, side, &any, |edge| -> Result<(), E> {
            let key = (edge.asset, edge.peer);
            let (from, to) = if side == Side::Out { (wallet, edge.peer) } else { (edge.peer, wallet) };
            if self.overlay.is_thinned(from, to, edge.asset) {
                if let Entry::Vacant(vacant) = parts.entry(key) {
                    let mut sum = self.sum_of_base(from, to, edge.asset)?;
                    if let Some(more) = came.remove(&key) {
                        sum.join(&more);
                    }
                    vacant.insert(sum);
                }
            } else if let Some(sum) = parts.get_mut(&key) {
                sum.join(&Sum::of(&edge));
            } else if let Some(mut sum) = came.remove(&key) {
                sum.join(&Sum::of(&edge));
                parts.insert(key, sum);
            } else if edge.transfers >= filter.min_transfers || passed == Some(key) {
                passed = Some(key);
                each(edge)?;
            }
            Ok(())
        })?;
        for ((asset, peer), sum) in parts.into_iter().chain(came) {
            if sum.count > 0 && sum.count >= filter.min_transfers {
                sum.emit(peer, asset, summed, &mut each)?;
            }
        }
        Ok(())
    }

    /// Edges from the transfers themselves, for filters that pairs cannot answer.
    fn counted_edges<E, F>(&self, wallet: WalletId, side: Side, filter: &EdgeFilter, mut each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Edge) -> Result<(), E>,
    {
        let mut sums: HashMap<(AssetId, WalletId), Sum> = HashMap::new();
        let window = self.window(wallet, side, filter)?;
        self.transfers_within(wallet, side, window, |transfer| -> Result<(), E> {
            if let Some(peer) = transfer.peer
                && counts(&transfer, filter)
            {
                sums.entry((transfer.asset, peer)).or_default().add(transfer.time, transfer.value);
            }
            Ok(())
        })?;
        for ((asset, peer), sum) in sums {
            if sum.count >= filter.min_transfers {
                sum.emit(peer, asset, filter.assets.is_single(), &mut each)?;
            }
        }
        Ok(())
    }

    /// What is left of a pair of the base.
    fn sum_of_base(&self, from: WalletId, to: WalletId, asset: AssetId) -> Result<Sum, Damaged> {
        let mut sum = Sum::default();
        for number in self.base.transfers(from, Side::Out) {
            let peer = *self.base.out_peer.get(number).ok_or(OUT_OF_RANGE)?;
            if peer == to && self.base.out_kind[number].asset() == asset && !self.overlay.went(number as u32) {
                sum.add(self.base.out_time[number], self.base.wide.value(self.base.out_value[number])?);
            }
        }
        Ok(sum)
    }
}

/// Where a transfer is.
enum Numbered<'g> {
    Base(usize),
    Added(&'g Added),
}

const OUT_OF_RANGE: Damaged = Damaged { what: "number out of range" };

fn seen(added: &Added, number: u64, side: Side) -> Transfer {
    let peer = if side == Side::Out { added.to } else { added.from };
    Transfer {
        number,
        peer: peer.some(),
        asset: added.asset,
        time: added.time,
        value: added.value,
        position: added.position,
        status: added.status,
    }
}

/// Whether a transfer counts.
fn counts(transfer: &Transfer, filter: &EdgeFilter) -> bool {
    filter.assets.contains(transfer.asset)
        && filter.since.is_none_or(|since| transfer.time >= since)
        && filter.until.is_none_or(|until| transfer.time < until)
        && filter.min_value.is_none_or(|least| transfer.value >= least)
        && (filter.include_failed || transfer.status != Status::Failed)
}

/// The sum of a pair, of up to 512 bits.
#[derive(Debug, Clone, Copy)]
struct Sum {
    count: u64,
    first: i64,
    last: i64,
    value: U256,
    beyond: U256,
}

impl Default for Sum {
    fn default() -> Self {
        Self { count: 0, first: i64::MAX, last: i64::MIN, value: U256::ZERO, beyond: U256::ZERO }
    }
}

impl Sum {
    const fn of(edge: &Edge) -> Self {
        Self { count: edge.transfers, first: edge.first, last: edge.last, value: edge.value, beyond: U256::ZERO }
    }

    fn add(&mut self, time: i64, value: U256) {
        self.join(&Self { count: 1, first: time, last: time, value, beyond: U256::ZERO });
    }

    fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        let (sum, carried) = self.value.overflowing_add(other.value);
        self.value = sum;
        self.beyond = self.beyond.saturating_add(other.beyond).saturating_add(U256::from(carried));
    }

    /// As one edge; a sum beyond 256 bits as two, so that whoever adds them up meets the overflow.
    fn emit<E>(
        &self,
        peer: WalletId,
        asset: AssetId,
        summed: bool,
        each: &mut impl FnMut(Edge) -> Result<(), E>,
    ) -> Result<(), E> {
        let beyond = summed && self.beyond != U256::ZERO;
        let value = if beyond { U256::MAX } else { self.value };
        let value = if summed { value } else { U256::ZERO };
        let edge = Edge { peer, asset, transfers: self.count, value, first: self.first, last: self.last };
        each(edge)?;
        if beyond { each(Edge { transfers: 0, ..edge }) } else { Ok(()) }
    }
}

impl Graph<'_> {
    /// How many wallets there are: they are numbered from 0.
    pub fn wallets(&self) -> u32 {
        (self.base.wallets.len() + self.overlay.new_wallets().len()) as u32
    }

    /// All wallets, in the order of their ids.
    pub fn wallet_ids(&self) -> WalletIds {
        WalletIds::new(0, self.wallets())
    }

    /// The wallet's address.
    ///
    /// # Errors
    /// When the graph does not hold together.
    pub fn address(&self, wallet: WalletId) -> Result<&str, Damaged> {
        let known = self.base.wallets.len();
        if wallet.index() < known {
            return self.base.wallets.name(wallet.get());
        }
        let new = self.overlay.new_wallets().get(wallet.index() - known);
        new.map(|(_, address)| &**address).ok_or(OUT_OF_RANGE)
    }

    /// A key that orders wallets of one network as their addresses are ordered by bytes; no two share one.
    pub fn order(&self, wallet: WalletId) -> u64 {
        match self.base.rank.get(wallet.index()) {
            Some(rank) => (u64::from(*rank) << 32) | u64::from(u32::MAX),
            None => self.overlay.new_order(&self.base, wallet.index() - self.base.rank.len()),
        }
    }

    /// At least as many edges as the wallet has on this side: what looking at them costs.
    pub fn degree(&self, wallet: WalletId, side: Side) -> usize {
        self.base.pairs(wallet, side).0.len() + self.overlay.came(wallet, side).len()
    }

    /// The wallet's edges as they stand in memory, if all of them count and that is how they stand, with their totals if those are
    /// wanted: the fast way.
    #[inline]
    pub fn plain_edges(
        &self,
        wallet: WalletId,
        side: Side,
        filter: &EdgeFilter,
        with_totals: bool,
    ) -> Option<PlainEdges<'_>> {
        let all_count = filter.assets == AssetSelection::Native && filter.min_transfers <= 1 && filter.is_by_pair();
        if !all_count || !self.overlay.is_untouched(wallet, side) {
            return None;
        }
        let base = &self.base;
        let range = if self.native_only {
            base.all_pairs(wallet, side)
        } else {
            let (range, native_end) = base.pairs(wallet, side);
            range.start..native_end
        };
        match side {
            Side::Out => Some(PlainEdges {
                peers: base.pair_peer.get(range.clone())?,
                totals: if with_totals {
                    let (transfers, values) = (base.pair_count.get(range.clone())?, base.pair_value.get(range)?);
                    Some(PlainTotals { transfers, values, wide: base.wide })
                } else {
                    None
                },
            }),
            // totals stand with the senders
            Side::In if with_totals => None,
            Side::In => Some(PlainEdges { peers: base.in_pair_peer.get(range)?, totals: None }),
        }
    }

    /// Calls `each` for every edge of the wallet that counts, once an asset and peer, in no particular order.
    ///
    /// # Errors
    /// When the graph does not hold together, and what `each` reports, which ends it.
    #[inline]
    pub fn edges<E, F>(&self, wallet: WalletId, side: Side, filter: &EdgeFilter, each: F) -> Result<(), E>
    where
        E: From<Damaged>,
        F: FnMut(Edge) -> Result<(), E>,
    {
        if !filter.is_by_pair() {
            self.counted_edges(wallet, side, filter, each)
        } else if self.overlay.is_untouched(wallet, side) {
            self.base_edges(wallet, side, filter, each)
        } else {
            self.touched_edges(wallet, side, filter, each)
        }
    }
}
