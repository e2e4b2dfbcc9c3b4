//! Transfers that rules are about to judge, with the sums and counts over the periods before them.
//!
//! Owns the windows and the order of work: transfers are read once, sorted by wallet and time, and
//! each wallet is passed over once, whatever the number of rules. Sums are exact. With n sides of
//! transfers, sorting takes O(n log n) and the pass O(n) for each rule; memory is booked from a
//! budget. What does not fit is [`Unfit`], and must be judged in another way.
//!
//! ```text
//! add_new() for each new transfer → periods() → add_past() for each older one in them
//!   → wallets(): set_label(), set_watched(), set_score() → candidates()
//! ```

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroU32;
use std::rc::Rc;

use rustc_hash::FxBuildHasher;
use thiserror::Error;

use super::condition::{FACTS, FactGroup};
use super::filter::{ConditionFilter, FACT_COUNT, FactValue, FactValues, TextId, Texts};
use super::wide_sum::WideSum;
use crate::graph::{Interrupt, Pace, U256};

/// Microseconds of the periods. Hours, because a day of a time zone may have 23 or 25 of them.
const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 168 * HOUR;
const MICROS_PER_DAY: f64 = 86_400_000_000.0;

/// Decimals of coins, and of dollars.
pub const COIN_DECIMALS: u32 = 18;
/// Decimals of dollars.
pub const USD_DECIMALS: u32 = 2;

/// Transfers of 8,000 to 10,000 dollars, in cents.
const BELOW_10000_USD: std::ops::Range<u64> = 800_000..1_000_000;

/// Periods that are read on their own; beyond that, the gaps between them are read as well.
const MAX_PERIODS: usize = 16;

/// Steps between two checks for cancellation: a transfer, a side, or a rule that judges a side.
const STEPS_PER_CHECK: usize = 4_096;

/// Bytes of a wallet in addition to its address: entries of the tables, and spare capacity.
const WALLET_BYTES: usize = 160;

/// Elements by which a vector grows at least.
const MIN_ROOM: usize = 256;

/// Bytes of an entry in the table of pairs, with spare capacity.
const PAIR_BYTES: usize = 48;

/// Bytes of an entry in the table of amounts, with the old table while it grows.
const AMOUNT_BYTES: usize = 184;

/// A reason for which transfers cannot be judged here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unfit {
    /// The budget does not suffice.
    #[error("the transfers need more memory than the budget")]
    Memory,
    /// A value is missing, negative, not finite, too large, or has more decimals than its column
    /// should.
    #[error("a value of a transfer is not an amount")]
    Value,
}

/// Table of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Transactions.
    Transactions,
    /// Internal transfers.
    InternalTransfers,
    /// Token transfers.
    TokenTransfers,
}

impl Relation {
    /// Name of the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transactions => "transactions",
            Self::InternalTransfers => "internal_transfers",
            Self::TokenTransfers => "token_transfers",
        }
    }

    /// Decimals of amounts: those of coins, or none of a token's raw units.
    #[must_use]
    pub const fn decimals(self) -> u32 {
        match self {
            Self::Transactions | Self::InternalTransfers => COIN_DECIMALS,
            Self::TokenTransfers => 0,
        }
    }
}

/// A transfer as it is read.
#[derive(Debug, Clone, Copy)]
pub struct Transfer<'a> {
    /// Its table.
    pub relation: Relation,
    /// Network.
    pub network: &'a str,
    /// Hash of the transaction.
    pub tx_hash: &'a str,
    /// Place in the transaction, of internal and token transfers.
    pub log_index: Option<i32>,
    /// Microseconds.
    pub time: i64,
    /// Sender, unless it is a reward.
    pub from: Option<&'a str>,
    /// Receiver, unless it is a burn.
    pub to: Option<&'a str>,
    /// `native`, or the address of the token.
    pub asset: &'a str,
    /// In units of the last decimal of its relation.
    pub amount: U256,
    /// In cents.
    pub usd: Option<U256>,
}

/// A wallet, by its number from one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct WalletNumber(NonZeroU32);

impl WalletNumber {
    fn of_index(index: usize) -> Option<Self> {
        u32::try_from(index + 1).ok().and_then(NonZeroU32::new).map(Self)
    }

    const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A wallet with the facts about it.
#[derive(Debug, Clone)]
struct Wallet {
    network: TextId,
    address: Rc<str>,
    category: Option<TextId>,
    kind: Option<TextId>,
    is_watched: bool,
    score: Option<f64>,
    score_change: Option<f64>,
    /// Sides of transfers that were read.
    transfers: u32,
}

/// A transfer that was read, as small as it can be: there may be a million.
#[derive(Debug, Clone, Copy)]
struct Row {
    amount: U256,
    time: i64,
    cents: u64,
    log_index: Option<i32>,
    network: TextId,
    asset: TextId,
    from: Option<WalletNumber>,
    to: Option<WalletNumber>,
    hash_start: u32,
    hash_length: u16,
    relation: Relation,
    is_new: bool,
}

impl Row {
    /// Cents of a transfer without a price.
    const UNPRICED: u64 = u64::MAX;

    const fn usd(&self) -> Option<u64> {
        if self.cents == Self::UNPRICED { None } else { Some(self.cents) }
    }
}

/// A side of a transfer. Sides of a wallet are next to each other, first those that send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Side {
    wallet: WalletNumber,
    is_in: bool,
    time: i64,
    row: u32,
}

/// Counts and sums over the periods that end with a transfer, with all transfers of its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Windows {
    /// Transfers within an hour.
    pub count_1h: u64,
    /// Transfers within a day.
    pub count_24h: u64,
    /// Transfers within a week.
    pub count_7d: u64,
    /// Amount in the asset within a day.
    pub sum_24h: WideSum,
    /// Cents within an hour, if one of the transfers has a price.
    pub sum_usd_1h: Option<u128>,
    /// Cents within a day.
    pub sum_usd_24h: Option<u128>,
    /// Cents within a week.
    pub sum_usd_7d: Option<u128>,
    /// Transfers of 8,000 to 10,000 dollars within a day.
    pub below_10000_usd_24h: u64,
}

/// A sum of dollars that transfers enter and leave.
#[derive(Debug, Clone, Copy, Default)]
struct SlidingSum {
    cents: u128,
    priced: usize,
}

impl SlidingSum {
    /// Does not overflow: fewer than 2^64 transfers of less than 2^64 cents fit into 128 bits.
    fn add(&mut self, cents: Option<u64>) {
        if let Some(cents) = cents {
            self.cents += u128::from(cents);
            self.priced += 1;
        }
    }

    fn remove(&mut self, cents: Option<u64>) {
        if let Some(cents) = cents {
            self.cents -= u128::from(cents);
            self.priced -= 1;
        }
    }

    const fn sum(&self) -> Option<u128> {
        if self.priced == 0 { None } else { Some(self.cents) }
    }
}

/// Sums over the periods that end at a time, for the sides of a wallet in one direction.
#[derive(Debug, Default)]
struct Sliding {
    /// First sides of the periods.
    hour: usize,
    day: usize,
    week: usize,
    usd_1h: SlidingSum,
    usd_24h: SlidingSum,
    usd_7d: SlidingSum,
    below_10000: u64,
    /// Amounts of the asset that moved first, which most wallets have alone, and of the others.
    first_amount: Option<(TextId, WideSum)>,
    amounts: HashMap<TextId, WideSum, FxBuildHasher>,
}

impl Sliding {
    /// Adds a side. Memory for amounts is booked from `bytes_left`.
    fn add(&mut self, row: &Row, bytes_left: &mut usize) -> Result<(), Unfit> {
        self.usd_1h.add(row.usd());
        self.usd_24h.add(row.usd());
        self.usd_7d.add(row.usd());
        self.below_10000 += u64::from(is_below_10000(row));
        let (first, first_amount) = self.first_amount.get_or_insert((row.asset, WideSum::ZERO));
        let amount = if *first == row.asset {
            first_amount
        } else {
            match self.amounts.entry(row.asset) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    book(bytes_left, AMOUNT_BYTES)?;
                    entry.insert(WideSum::ZERO)
                }
            }
        };
        *amount += row.amount;
        Ok(())
    }

    /// Returns the bytes that [`Self::add`] has booked.
    fn booked(&self) -> usize {
        self.amounts.len() * with_room(AMOUNT_BYTES)
    }

    /// Returns the amount of an asset, if a side with it has been added.
    fn amount(&mut self, asset: TextId) -> Option<&mut WideSum> {
        match &mut self.first_amount {
            Some((first, amount)) if *first == asset => Some(amount),
            _ => self.amounts.get_mut(&asset),
        }
    }

    /// Removes the sides before the periods that end at a time.
    fn advance(&mut self, sides: &[Side], rows: &[Row], time: i64) {
        while let Some(row) = before(sides, rows, self.hour, time.saturating_sub(HOUR)) {
            self.usd_1h.remove(row.usd());
            self.hour += 1;
        }
        while let Some(row) = before(sides, rows, self.day, time.saturating_sub(DAY)) {
            self.usd_24h.remove(row.usd());
            self.below_10000 -= u64::from(is_below_10000(row));
            if let Some(amount) = self.amount(row.asset) {
                *amount -= row.amount;
            }
            self.day += 1;
        }
        while let Some(row) = before(sides, rows, self.week, time.saturating_sub(WEEK)) {
            self.usd_7d.remove(row.usd());
            self.week += 1;
        }
    }

    /// Returns the counts and sums. `end` is the number of sides up to the time.
    fn windows(&mut self, end: usize, asset: TextId) -> Windows {
        Windows {
            count_1h: (end - self.hour) as u64,
            count_24h: (end - self.day) as u64,
            count_7d: (end - self.week) as u64,
            sum_24h: self.amount(asset).copied().unwrap_or_default(),
            sum_usd_1h: self.usd_1h.sum(),
            sum_usd_24h: self.usd_24h.sum(),
            sum_usd_7d: self.usd_7d.sum(),
            below_10000_usd_24h: self.below_10000,
        }
    }
}

/// Returns the row of a side if it is before a time.
fn before<'a>(sides: &[Side], rows: &'a [Row], index: usize, time: i64) -> Option<&'a Row> {
    sides.get(index).filter(|side| side.time < time).and_then(|side| rows.get(side.row as usize))
}

fn is_below_10000(row: &Row) -> bool {
    row.usd().is_some_and(|cents| BELOW_10000_USD.contains(&cents))
}

/// The rule's side of a transfer, and its condition.
#[derive(Debug, Clone)]
pub struct RuleFilter {
    /// Judges senders.
    pub senders: bool,
    /// Judges receivers.
    pub receivers: bool,
    /// The condition.
    pub condition: ConditionFilter,
}

/// Groups of facts that rules use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gathered {
    labels: bool,
    scores: bool,
    watchlists: bool,
    windows: bool,
    idle: bool,
    counterparty: bool,
}

impl Gathered {
    /// Adds a group.
    pub fn add(&mut self, group: FactGroup) {
        match group {
            FactGroup::Labels => self.labels = true,
            FactGroup::Scores => self.scores = true,
            FactGroup::Watchlists => self.watchlists = true,
            FactGroup::Windows => self.windows = true,
            FactGroup::Idle => self.idle = true,
            FactGroup::Counterparty => self.counterparty = true,
            // Those of the transfer are known, and the others cost too much for a filter.
            FactGroup::Transfer | FactGroup::Exposure | FactGroup::Patterns => {}
        }
    }

    /// Labels of wallets are needed.
    #[must_use]
    pub const fn labels(self) -> bool {
        self.labels
    }

    /// Scores of wallets are needed.
    #[must_use]
    pub const fn scores(self) -> bool {
        self.scores
    }

    /// Members of watchlists are needed.
    #[must_use]
    pub const fn watchlists(self) -> bool {
        self.watchlists
    }

    /// Counts and sums are needed.
    #[must_use]
    pub const fn windows(self) -> bool {
        self.windows
    }

    /// Transfers of the week before the new ones are needed.
    #[must_use]
    pub const fn past(self) -> bool {
        self.windows || self.idle
    }
}

/// A side of a transfer that rules may fire on.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    row: u32,
    is_in: bool,
    first_rule: usize,
    rules: u32,
    /// Counts and sums, zero if no rule uses them.
    pub windows: Windows,
    /// Last time before the transfer at which the wallet was active, of those that were read.
    pub previous: Option<i64>,
    /// No transfer that was not read can be between them.
    pub is_previous_certain: bool,
    /// First time of a transfer with the counterparty, of those that were read.
    pub pair_first: Option<i64>,
}

/// A wallet of a candidate.
#[derive(Debug, Clone, Copy)]
pub struct Party<'a> {
    /// Address.
    pub address: &'a str,
    /// Category of the label that weighs most.
    pub category: Option<&'a str>,
    /// Its kind.
    pub kind: Option<&'a str>,
    /// Member of a watchlist.
    pub is_watched: bool,
    /// Sides of transfers that were read.
    pub transfers: u32,
}

/// A candidate with all that is known about it.
#[derive(Debug, Clone, Copy)]
pub struct CandidateView<'a> {
    /// Table of the transfer.
    pub relation: Relation,
    /// Network.
    pub network: &'a str,
    /// Hash of the transaction.
    pub tx_hash: &'a str,
    /// Place in the transaction.
    pub log_index: Option<i32>,
    /// Microseconds.
    pub time: i64,
    /// The wallet that is judged receives.
    pub is_in: bool,
    /// The wallet that is judged.
    pub wallet: Party<'a>,
    /// The other wallet.
    pub counterparty: Option<Party<'a>>,
    /// Asset.
    pub asset: &'a str,
    /// Amount in units of the relation's last decimal.
    pub amount: U256,
    /// Cents.
    pub usd: Option<u64>,
    /// Rules that may fire, by their index.
    pub rules: &'a [u16],
}

const fn is_same(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut at = 0;
    while at < left.len() && at < right.len() && left[at] == right[at] {
        at += 1;
    }
    left.len() == right.len() && at == left.len()
}

/// Index of a fact; an index that is too large does not compile where it is used.
const fn fact(name: &str) -> usize {
    let mut index = 0;
    while index < FACT_COUNT && !is_same(FACTS[index].name, name) {
        index += 1;
    }
    index
}

/// Texts of facts that are not read.
#[derive(Debug)]
struct OwnTexts {
    /// Texts of senders and of receivers.
    directions: [TextId; 2],
    relations: [TextId; 3],
}

impl OwnTexts {
    fn new(texts: &mut Texts) -> Self {
        Self {
            directions: ["out", "in"].map(|text| texts.id(text)),
            relations: [Relation::Transactions, Relation::InternalTransfers, Relation::TokenTransfers]
                .map(|relation| texts.id(relation.as_str())),
        }
    }
}

/// Transfers, and the wallets that take part.
#[derive(Debug)]
pub struct TransferSet {
    gathered: Gathered,
    /// All transfers that are stored are new.
    is_whole: bool,
    bytes_left: usize,
    own_texts: OwnTexts,
    texts: Texts,
    numbers: HashMap<TextId, HashMap<Rc<str>, WalletNumber, FxBuildHasher>, FxBuildHasher>,
    wallets: Vec<Wallet>,
    rows: Vec<Row>,
    hashes: String,
    sides: Vec<Side>,
    rule_numbers: Vec<u16>,
}

impl TransferSet {
    /// Creates an empty set, which may take `bytes` of memory. `is_whole` says that each stored
    /// transfer will be added as a new one.
    #[must_use]
    pub fn new(gathered: Gathered, is_whole: bool, mut texts: Texts, bytes: usize) -> Self {
        Self {
            gathered,
            is_whole,
            bytes_left: bytes,
            own_texts: OwnTexts::new(&mut texts),
            texts,
            numbers: HashMap::default(),
            wallets: Vec::new(),
            rows: Vec::new(),
            hashes: String::new(),
            sides: Vec::new(),
            rule_numbers: Vec::new(),
        }
    }

    fn book(&mut self, bytes: usize) -> Result<(), Unfit> {
        book(&mut self.bytes_left, bytes)
    }

    fn network(&mut self, network: &str) -> Result<TextId, Unfit> {
        match self.rows.last() {
            Some(last) if self.texts.text(last.network) == network => Ok(last.network),
            _ => self.text(network),
        }
    }

    fn text(&mut self, text: &str) -> Result<TextId, Unfit> {
        let before = self.texts.len();
        let id = self.texts.id(text);
        if self.texts.len() > before {
            self.book(text.len() + WALLET_BYTES)?;
        }
        Ok(id)
    }

    fn known_wallet(&self, network: TextId, address: &str) -> Option<WalletNumber> {
        self.numbers.get(&network)?.get(address).copied()
    }

    fn wallet(&mut self, network: TextId, address: &str) -> Result<WalletNumber, Unfit> {
        if let Some(number) = self.known_wallet(network, address) {
            return Ok(number);
        }
        self.book(size_of::<Wallet>() + address.len() + WALLET_BYTES)?;
        let number = WalletNumber::of_index(self.wallets.len()).ok_or(Unfit::Memory)?;
        let address: Rc<str> = address.into();
        self.numbers.entry(network).or_default().insert(Rc::clone(&address), number);
        self.wallets.push(Wallet {
            network,
            address,
            category: None,
            kind: None,
            is_watched: false,
            score: None,
            score_change: None,
            transfers: 0,
        });
        Ok(number)
    }

    /// Adds a transfer that is to be judged.
    ///
    /// # Errors
    /// [`Unfit::Memory`].
    pub fn add_new(&mut self, transfer: &Transfer<'_>) -> Result<(), Unfit> {
        let network = self.network(transfer.network)?;
        let from = transfer.from.map(|address| self.wallet(network, address)).transpose()?;
        let to = transfer.to.map(|address| self.wallet(network, address)).transpose()?;
        self.book(transfer.tx_hash.len())?;
        let hash_start = u32::try_from(self.hashes.len()).map_err(|_| Unfit::Memory)?;
        if self.hashes.capacity() - self.hashes.len() < transfer.tx_hash.len() {
            self.hashes.reserve_exact(self.hashes.len() / 4 + transfer.tx_hash.len() + MIN_ROOM);
        }
        self.hashes.push_str(transfer.tx_hash);
        self.add(transfer, network, (from, to), hash_start, true)
    }

    /// Adds an older transfer if one of its wallets takes part in a new transfer.
    ///
    /// # Errors
    /// [`Unfit::Memory`].
    pub fn add_past(&mut self, transfer: &Transfer<'_>) -> Result<(), Unfit> {
        let network = self.network(transfer.network)?;
        let from = transfer.from.and_then(|address| self.known_wallet(network, address));
        let to = transfer.to.and_then(|address| self.known_wallet(network, address));
        if from.is_none() && to.is_none() {
            return Ok(());
        }
        self.add(transfer, network, (from, to), 0, false)
    }

    /// Adds an older transfer that was found by its receiver, unless it has been found by its
    /// sender: each that a wallet of a new transfer has sent must have been added.
    ///
    /// # Errors
    /// [`Unfit::Memory`].
    pub fn add_received(&mut self, transfer: &Transfer<'_>) -> Result<(), Unfit> {
        let network = self.network(transfer.network)?;
        let was_sent = transfer.from.is_some_and(|from| self.known_wallet(network, from).is_some());
        if was_sent { Ok(()) } else { self.add_past(transfer) }
    }

    fn add(
        &mut self,
        transfer: &Transfer<'_>,
        network: TextId,
        (from, to): (Option<WalletNumber>, Option<WalletNumber>),
        hash_start: u32,
        is_new: bool,
    ) -> Result<(), Unfit> {
        self.book(size_of::<Row>() + 2 * size_of::<Side>())?;
        let asset = self.text(transfer.asset)?;
        let row = u32::try_from(self.rows.len()).map_err(|_| Unfit::Memory)?;
        let hash_length = if is_new { u16::try_from(transfer.tx_hash.len()).map_err(|_| Unfit::Value)? } else { 0 };
        let cents = transfer.usd.map_or(Ok(Row::UNPRICED), u64::try_from).map_err(|_| Unfit::Value)?;
        if transfer.usd.is_some() && cents == Row::UNPRICED {
            return Err(Unfit::Value);
        }
        make_room(&mut self.rows);
        self.rows.push(Row {
            time: transfer.time,
            hash_start,
            amount: transfer.amount,
            cents,
            network,
            asset,
            from,
            to,
            log_index: transfer.log_index,
            hash_length,
            relation: transfer.relation,
            is_new,
        });
        for (wallet, is_in) in [(from, false), (to, true)] {
            if let Some(number) = wallet {
                make_room(&mut self.sides);
                self.sides.push(Side { wallet: number, is_in, time: transfer.time, row });
                if let Some(wallet) = self.wallets.get_mut(number.index()) {
                    wallet.transfers = wallet.transfers.saturating_add(1);
                }
            }
        }
        Ok(())
    }

    /// Number of transfers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns true if there is no transfer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the periods, with both ends, whose older transfers are needed: the week before each
    /// new transfer. They are in order of time, and few.
    ///
    /// # Errors
    /// [`Unfit::Memory`].
    pub fn periods(&mut self) -> Result<Vec<(i64, i64)>, Unfit> {
        if !self.gathered.past() || self.is_whole {
            return Ok(Vec::new());
        }
        self.book(self.rows.len() * size_of::<i64>())?;
        let mut times: Vec<i64> = self.rows.iter().map(|row| row.time).collect();
        times.sort_unstable();
        let mut periods: Vec<(i64, i64)> = Vec::new();
        for time in times {
            let start = time.saturating_sub(WEEK);
            match periods.last_mut() {
                Some(last) if start <= last.1 => last.1 = time,
                _ => periods.push((start, time)),
            }
        }
        if periods.len() > MAX_PERIODS {
            // The widest gaps are left out.
            let mut gaps: Vec<i64> = periods.array_windows().map(|[one, next]| next.0.saturating_sub(one.1)).collect();
            gaps.sort_unstable_by(|one, other| other.cmp(one));
            let least = gaps.get(MAX_PERIODS - 1).copied().unwrap_or(0);
            let mut joined: Vec<(i64, i64)> = Vec::new();
            for (start, end) in periods {
                match joined.last_mut() {
                    Some(last) if start.saturating_sub(last.1) <= least => last.1 = end,
                    _ => joined.push((start, end)),
                }
            }
            periods = joined;
        }
        Ok(periods)
    }

    /// Returns the wallets of new transfers with network and address, in the order of their
    /// numbers.
    pub fn wallets(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.wallets.iter().map(|wallet| (self.texts.text(wallet.network), &*wallet.address))
    }

    /// Sets the label that weighs most of a wallet, which is counted as in [`Self::wallets`].
    ///
    /// # Errors
    /// [`Unfit::Memory`].
    pub fn set_label(&mut self, wallet: usize, category: &str, kind: Option<&str>) -> Result<(), Unfit> {
        let category = self.text(category)?;
        let kind = kind.map(|kind| self.text(kind)).transpose()?;
        if let Some(wallet) = self.wallets.get_mut(wallet) {
            (wallet.category, wallet.kind) = (Some(category), kind);
        }
        Ok(())
    }

    /// Makes a wallet a member of a watchlist.
    pub fn set_watched(&mut self, wallet: usize) {
        if let Some(wallet) = self.wallets.get_mut(wallet) {
            wallet.is_watched = true;
        }
    }

    /// Sets the score of a wallet, and its change.
    pub fn set_score(&mut self, wallet: usize, score: Option<f64>, change: Option<f64>) {
        if let Some(wallet) = self.wallets.get_mut(wallet) {
            (wallet.score, wallet.score_change) = (score, change);
        }
    }

    /// Returns the number of sides of new transfers.
    #[must_use]
    pub fn new_sides(&self) -> u64 {
        let ends = |row: &Row| u64::from(row.from.is_some()) + u64::from(row.to.is_some());
        self.rows.iter().filter(|row| row.is_new).map(ends).sum()
    }

    /// Returns the first times of the pairs of candidates, of the transfers that were read.
    fn first_times(
        &mut self,
        candidates: &[Candidate],
        pace: &mut Pace<'_, impl Interrupt, STEPS_PER_CHECK>,
    ) -> Result<HashMap<(WalletNumber, WalletNumber), i64, FxBuildHasher>, Unfit> {
        self.book(candidates.len() * PAIR_BYTES)?;
        let pairs = candidates.iter().filter_map(|candidate| pair_of(self.rows.get(candidate.row as usize)?));
        let mut first: HashMap<_, i64, FxBuildHasher> = pairs.map(|pair| (pair, i64::MAX)).collect();
        for row in &self.rows {
            pace.step(0);
            if let Some(time) = pair_of(row).and_then(|pair| first.get_mut(&pair)) {
                *time = row.time.min(*time);
            }
        }
        Ok(first)
    }

    /// Sets the first times of the pairs of candidates, and drops the rules that fire only on a new
    /// counterparty where it is not new. Few sides get here: the table of all pairs is not made.
    fn settle_pairs(
        &mut self,
        rules: &[RuleFilter],
        candidates: &mut Vec<Candidate>,
        pace: &mut Pace<'_, impl Interrupt, STEPS_PER_CHECK>,
    ) -> Result<(), Unfit> {
        if !self.gathered.counterparty {
            return Ok(());
        }
        let first_times = self.first_times(candidates, pace)?;
        for candidate in &mut *candidates {
            let row = self.rows[candidate.row as usize];
            candidate.pair_first = pair_of(&row).and_then(|pair| first_times.get(&pair).copied());
            if candidate.pair_first.is_some_and(|first| first < row.time) {
                pace.step(candidate.rules as usize);
                let facts = self.facts(&row, candidate);
                let first = candidate.first_rule;
                let mut kept = first;
                for place in first..first + candidate.rules as usize {
                    let number = self.rule_numbers[place];
                    if rules[usize::from(number)].condition.may_hold(&facts) {
                        self.rule_numbers[kept] = number;
                        kept += 1;
                    } else {
                        candidate.rules -= 1;
                    }
                }
            }
        }
        candidates.retain(|candidate| candidate.rules > 0);
        Ok(())
    }

    /// Returns the sides of new transfers that rules may fire on.
    ///
    /// # Errors
    /// [`Unfit::Memory`].
    pub fn candidates(
        &mut self,
        rules: &[RuleFilter],
        interrupt: &mut impl Interrupt,
    ) -> Result<Vec<Candidate>, Unfit> {
        self.sides.sort_unstable();
        let mut pace = Pace::every(interrupt);
        let sides = std::mem::take(&mut self.sides);
        let mut candidates = Vec::new();
        for wallet in sides.chunk_by(|one, other| one.wallet == other.wallet) {
            for group in wallet.chunk_by(|one, other| one.is_in == other.is_in) {
                let mut sliding = Sliding::default();
                let mut start = 0;
                while let Some(first) = group.get(start) {
                    let same = group.iter().skip(start).take_while(|side| side.time == first.time).count();
                    let end = start + same;
                    let together = group.get(start..end).unwrap_or_default();
                    if self.gathered.windows {
                        sliding.advance(group, &self.rows, first.time);
                        for side in together {
                            pace.step(0);
                            sliding.add(&self.rows[side.row as usize], &mut self.bytes_left)?;
                        }
                    }
                    for side in together {
                        pace.step(0);
                        let row = self.rows[side.row as usize];
                        if !row.is_new {
                            continue;
                        }
                        pace.step(rules.len());
                        let mut candidate = Candidate {
                            row: side.row,
                            is_in: side.is_in,
                            first_rule: self.rule_numbers.len(),
                            rules: 0,
                            windows: Windows::default(),
                            previous: None,
                            is_previous_certain: false,
                            // Whether there was an earlier one is open.
                            pair_first: pair_of(&row).map(|_| row.time),
                        };
                        if self.gathered.windows {
                            candidate.windows = sliding.windows(end, row.asset);
                        }
                        if self.gathered.idle {
                            candidate.previous = previous_time(wallet, side.time);
                            candidate.is_previous_certain = self.is_whole
                                || candidate.previous.is_some_and(|time| time >= side.time.saturating_sub(WEEK));
                        }
                        let facts = self.facts(&row, &candidate);
                        for (number, rule) in rules.iter().enumerate() {
                            let is_judged = if side.is_in { rule.receivers } else { rule.senders };
                            if is_judged && rule.condition.may_hold(&facts) {
                                self.rule_numbers.push(u16::try_from(number).map_err(|_| Unfit::Memory)?);
                                candidate.rules += 1;
                            }
                        }
                        if candidate.rules > 0 {
                            // Twice, for the rows of the answer.
                            self.book(2 * size_of::<Candidate>() + candidate.rules as usize * size_of::<u16>())?;
                            make_room(&mut candidates);
                            candidates.push(candidate);
                        }
                    }
                    start = end;
                }
                // The amounts are freed with the sums.
                self.bytes_left += sliding.booked();
            }
        }
        self.settle_pairs(rules, &mut candidates, &mut pace)?;
        Ok(candidates)
    }

    fn facts(&self, row: &Row, candidate: &Candidate) -> FactValues {
        let mut facts = [FactValue::Open; FACT_COUNT];
        let own = &self.own_texts;
        facts[const { fact("direction") }] = FactValue::Text(own.directions[usize::from(candidate.is_in)]);
        facts[const { fact("relation") }] = FactValue::Text(own.relations[row.relation as usize]);
        let (wallet, counterparty) = if candidate.is_in { (row.to, row.from) } else { (row.from, row.to) };
        let wallet = wallet.and_then(|number| self.wallets.get(number.index()));
        let counterparty = counterparty.and_then(|number| self.wallets.get(number.index()));
        let decimals = row.relation.decimals();
        facts[const { fact("network") }] = FactValue::Text(row.network);
        facts[const { fact("asset") }] = FactValue::Text(row.asset);
        facts[const { fact("amount") }] = FactValue::Number(rounded(row.amount, decimals));
        facts[const { fact("amount_usd") }] = dollars(row.usd().map(u128::from));
        let text = |text: Option<TextId>| text.map_or(FactValue::Unknown, FactValue::Text);
        let number = |number: Option<f64>| number.map_or(FactValue::Unknown, FactValue::Number);
        if self.gathered.labels {
            facts[const { fact("wallet_category") }] = text(wallet.and_then(|wallet| wallet.category));
            facts[const { fact("wallet_kind") }] = text(wallet.and_then(|wallet| wallet.kind));
            facts[const { fact("counterparty_category") }] = text(counterparty.and_then(|wallet| wallet.category));
            facts[const { fact("counterparty_kind") }] = text(counterparty.and_then(|wallet| wallet.kind));
        }
        if self.gathered.scores {
            facts[const { fact("wallet_score") }] = number(wallet.and_then(|wallet| wallet.score));
            facts[const { fact("counterparty_score") }] = number(counterparty.and_then(|wallet| wallet.score));
            facts[const { fact("score_change_7d") }] = number(wallet.and_then(|wallet| wallet.score_change));
        }
        if self.gathered.watchlists {
            facts[const { fact("wallet_watched") }] =
                FactValue::Boolean(wallet.is_some_and(|wallet| wallet.is_watched));
            facts[const { fact("counterparty_watched") }] =
                FactValue::Boolean(counterparty.is_some_and(|wallet| wallet.is_watched));
        }
        if self.gathered.windows {
            let windows = &candidate.windows;
            facts[const { fact("count_1h") }] = FactValue::Number(windows.count_1h as f64);
            facts[const { fact("count_24h") }] = FactValue::Number(windows.count_24h as f64);
            facts[const { fact("count_7d") }] = FactValue::Number(windows.count_7d as f64);
            facts[const { fact("sum_24h") }] = FactValue::Number(rounded_sum(windows.sum_24h, decimals));
            facts[const { fact("sum_usd_1h") }] = dollars(windows.sum_usd_1h);
            facts[const { fact("sum_usd_24h") }] = dollars(windows.sum_usd_24h);
            facts[const { fact("sum_usd_7d") }] = dollars(windows.sum_usd_7d);
            facts[const { fact("below_10000_usd_24h") }] = FactValue::Number(windows.below_10000_usd_24h as f64);
        }
        if self.gathered.idle && candidate.is_previous_certain {
            let days = candidate.previous.map(|time| row.time.saturating_sub(time) as f64 / MICROS_PER_DAY);
            facts[const { fact("days_idle") }] = number(days);
        }
        if self.gathered.counterparty {
            facts[const { fact("is_new_counterparty") }] = match candidate.pair_first {
                None => FactValue::Unknown,
                Some(first) if first < row.time => FactValue::Boolean(false),
                Some(_) => FactValue::Open,
            };
        }
        facts
    }

    fn party(&self, number: WalletNumber) -> Option<Party<'_>> {
        self.wallets.get(number.index()).map(|wallet| Party {
            address: &wallet.address,
            category: wallet.category.map(|text| self.texts.text(text)),
            kind: wallet.kind.map(|text| self.texts.text(text)),
            is_watched: wallet.is_watched,
            transfers: wallet.transfers,
        })
    }

    /// Returns what is known about a candidate of this set.
    #[must_use]
    pub fn view(&self, candidate: &Candidate) -> Option<CandidateView<'_>> {
        let row = self.rows.get(candidate.row as usize)?;
        let (wallet, counterparty) = if candidate.is_in { (row.to, row.from) } else { (row.from, row.to) };
        let end = candidate.first_rule + candidate.rules as usize;
        Some(CandidateView {
            relation: row.relation,
            network: self.texts.text(row.network),
            tx_hash: self
                .hashes
                .get(row.hash_start as usize..row.hash_start as usize + usize::from(row.hash_length))?,
            log_index: row.log_index,
            time: row.time,
            is_in: candidate.is_in,
            wallet: self.party(wallet?)?,
            counterparty: counterparty.and_then(|number| self.party(number)),
            asset: self.texts.text(row.asset),
            amount: row.amount,
            usd: row.usd(),
            rules: self.rule_numbers.get(candidate.first_rule..end)?,
        })
    }
}

/// Adds a quarter for spare capacity: see [`make_room`].
const fn with_room(bytes: usize) -> usize {
    bytes + bytes / 4
}

/// Books memory with its spare capacity.
fn book(bytes_left: &mut usize, bytes: usize) -> Result<(), Unfit> {
    *bytes_left = bytes_left.checked_sub(with_room(bytes)).ok_or(Unfit::Memory)?;
    Ok(())
}

/// Grows a full vector by a quarter, because doubling may leave half of a large one unused.
fn make_room<T>(vector: &mut Vec<T>) {
    if vector.len() == vector.capacity() {
        vector.reserve_exact(vector.len() / 4 + MIN_ROOM);
    }
}

/// Returns the wallets of a transfer, the smaller number first.
fn pair_of(row: &Row) -> Option<(WalletNumber, WalletNumber)> {
    let (from, to) = (row.from?, row.to?);
    Some((from.min(to), from.max(to)))
}

/// Returns the last time before `time` at which a wallet was active. `sides` are those of the
/// wallet, first the ones that send.
fn previous_time(sides: &[Side], time: i64) -> Option<i64> {
    let (out, into) = sides.split_at(sides.partition_point(|side| !side.is_in));
    let last = |sides: &[Side]| {
        let end = sides.partition_point(|side| side.time < time);
        sides.get(..end)?.last().map(|side| side.time)
    };
    last(out).max(last(into))
}

const fn scale(decimals: u32) -> f64 {
    if decimals == COIN_DECIMALS { 1e18 } else { 1.0 }
}

fn rounded(units: U256, decimals: u32) -> f64 {
    // Most amounts fit, and the conversion of 256 bits is slow.
    u128::try_from(units).map_or_else(|_| units.as_f64(), |units| units as f64) / scale(decimals)
}

fn rounded_sum(sum: WideSum, decimals: u32) -> f64 {
    sum.as_u256().map_or_else(|| sum.as_f64() / scale(decimals), |units| rounded(units, decimals))
}

fn dollars(cents: Option<u128>) -> FactValue {
    cents.map_or(FactValue::Unknown, |cents| FactValue::Number(cents as f64 / 100.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::condition::Condition;
    use super::*;
    use crate::graph::Uninterrupted;

    #[derive(Debug, Clone)]
    struct Sample {
        from: Option<u8>,
        to: Option<u8>,
        hours: i64,
        token: Option<u8>,
        amount: u32,
        usd: Option<u32>,
        is_new: bool,
    }

    fn any_sample() -> impl Strategy<Value = Sample> {
        let wallet = || prop::option::weighted(0.95, 0_u8..5);
        (
            wallet(),
            wallet(),
            0_i64..400,
            prop::option::of(0_u8..2),
            0_u32..50,
            prop::option::of(700_000_u32..1_100_000),
            any::<bool>(),
        )
            .prop_map(|(from, to, hours, token, amount, usd, is_new)| Sample {
                from,
                to,
                hours,
                token,
                amount,
                usd,
                is_new,
            })
    }

    fn filters(documents: &[Value], texts: &mut Texts) -> (Vec<RuleFilter>, Gathered) {
        let mut gathered = Gathered::default();
        let filters = documents.iter().map(|document| {
            let condition = Condition::parse(document, "condition").unwrap();
            condition.groups().into_iter().for_each(|group| gathered.add(group));
            let condition = ConditionFilter::new(&condition, texts);
            RuleFilter { senders: true, receivers: true, condition }
        });
        (filters.collect(), gathered)
    }

    fn set(samples: &[Sample], gathered: Gathered, texts: Texts) -> Result<TransferSet, Unfit> {
        let mut set = TransferSet::new(gathered, false, texts, 1 << 24);
        for is_new in [true, false] {
            for (number, sample) in samples.iter().enumerate().filter(|(_, sample)| sample.is_new == is_new) {
                let name = |wallet: u8| format!("w{wallet}");
                let (from, to, hash) = (sample.from.map(name), sample.to.map(name), number.to_string());
                let asset = sample.token.map(|token| format!("t{token}"));
                let transfer = Transfer {
                    relation: if asset.is_some() { Relation::TokenTransfers } else { Relation::Transactions },
                    network: "n",
                    tx_hash: &hash,
                    log_index: None,
                    time: sample.hours * HOUR,
                    from: from.as_deref(),
                    to: to.as_deref(),
                    asset: asset.as_deref().unwrap_or("native"),
                    amount: U256::from(sample.amount),
                    usd: sample.usd.map(U256::from),
                };
                if is_new { set.add_new(&transfer)? } else { set.add_past(&transfer)? }
            }
        }
        Ok(set)
    }

    /// Counts and sums by comparing a transfer with all others.
    fn plain(samples: &[Sample], at: &Sample, is_in: bool) -> Windows {
        let end = |sample: &Sample| if is_in { sample.to } else { sample.from };
        let within = |hours: i64| {
            samples.iter().filter(move |sample| {
                end(sample) == end(at) && sample.hours <= at.hours && sample.hours >= at.hours - hours
            })
        };
        let usd = |hours: i64| within(hours).filter_map(|sample| sample.usd).map(u128::from).reduce(|a, b| a + b);
        Windows {
            count_1h: within(1).count() as u64,
            count_24h: within(24).count() as u64,
            count_7d: within(168).count() as u64,
            sum_24h: within(24)
                .filter(|sample| sample.token == at.token)
                .map(|sample| U256::from(sample.amount))
                .sum::<U256>()
                .into(),
            sum_usd_1h: usd(1),
            sum_usd_24h: usd(24),
            sum_usd_7d: usd(168),
            below_10000_usd_24h: within(24)
                .filter(|sample| sample.usd.is_some_and(|usd| (800_000..1_000_000).contains(&usd)))
                .count() as u64,
        }
    }

    proptest! {
        #[test]
        fn windows_and_times_equal_those_of_comparing_each_with_all(samples in prop::collection::vec(any_sample(), 0..60)) {
            // Holds for each side, and uses each group.
            let everything = json!({"any": [
                {"fact": "count_1h", "op": ">=", "value": 1},
                {"fact": "days_idle", "op": "known"},
                {"fact": "is_new_counterparty", "op": "known"},
            ]});
            let mut texts = Texts::default();
            let (rules, gathered) = filters(&[everything], &mut texts);
            let mut set = set(&samples, gathered, texts).unwrap();
            let candidates = set.candidates(&rules, &mut Uninterrupted).unwrap();
            prop_assert_eq!(candidates.len() as u64, set.new_sides());
            for candidate in &candidates {
                let view = set.view(candidate).unwrap();
                let sample = &samples[view.tx_hash.parse::<usize>().unwrap()];
                prop_assert_eq!(candidate.windows, plain(&samples, sample, view.is_in));
                let wallet = if view.is_in { sample.to } else { sample.from };
                let active = samples.iter().filter(|other| {
                    other.hours < sample.hours && (other.from == wallet || other.to == wallet)
                });
                prop_assert_eq!(candidate.previous, active.map(|other| other.hours * HOUR).max());
                let other = if view.is_in { sample.from } else { sample.to };
                let ends = |other: &Sample| [other.from.zip(other.to), other.to.zip(other.from)];
                let first = samples.iter().filter(|candidate| {
                    wallet.zip(other).is_some_and(|pair| ends(candidate).contains(&Some(pair)))
                });
                prop_assert_eq!(candidate.pair_first, first.map(|other| other.hours * HOUR).min());
            }
        }

        #[test]
        fn periods_hold_the_week_before_each_new_transfer(
            hours in prop::collection::vec(-20_000_i64..20_000, 1..80),
        ) {
            let samples: Vec<Sample> = hours.iter().map(|hours| Sample {
                from: Some(0), to: Some(1), hours: *hours, token: None, amount: 1, usd: None, is_new: true,
            }).collect();
            let mut texts = Texts::default();
            let (_, gathered) = filters(&[json!({"fact": "count_7d", "op": ">", "value": 1})], &mut texts);
            let periods = set(&samples, gathered, texts).unwrap().periods().unwrap();
            prop_assert!(periods.len() <= MAX_PERIODS);
            prop_assert!(periods.array_windows().all(|[one, next]| one.1 < next.0));
            for hours in hours {
                let time = hours * HOUR;
                prop_assert!(periods.iter().any(|(start, end)| *start <= time - WEEK && time <= *end));
            }
        }
    }

    #[test]
    fn only_sides_that_a_rule_may_fire_on_are_candidates() {
        let mut texts = Texts::default();
        let (rules, gathered) = filters(
            &[
                json!({"all": [{"fact": "counterparty_kind", "op": "=", "value": "illicit"}, {"fact": "amount_usd", "op": ">", "value": 100}]}),
                json!({"fact": "sanctions_in", "op": ">", "value": 0}),
            ],
            &mut texts,
        );
        let sample = |usd, to| Sample { from: Some(0), to, hours: 0, token: None, amount: 1, usd, is_new: true };
        let samples = [sample(Some(20_000), Some(1)), sample(Some(5_000), Some(1)), sample(None, Some(1))];
        let mut set = set(&samples, gathered, texts).unwrap();
        assert_eq!(set.wallets().collect::<Vec<_>>(), [("n", "w0"), ("n", "w1")]);
        set.set_label(1, "scam", Some("illicit")).unwrap();
        let candidates = set.candidates(&rules[..1], &mut Uninterrupted).unwrap();
        let [only] = candidates.as_slice() else { panic!("{} candidates", candidates.len()) };
        let view = set.view(only).unwrap();
        assert_eq!((view.wallet.address, view.is_in, view.tx_hash), ("w0", false, "0"));
        assert_eq!(view.counterparty.and_then(|party| party.category), Some("scam"));
    }

    const LARGEST: Transfer<'static> = Transfer {
        relation: Relation::TokenTransfers,
        network: "n",
        tx_hash: "h",
        log_index: Some(1),
        time: 0,
        from: Some("a"),
        to: Some("b"),
        asset: "t",
        amount: U256::MAX,
        usd: None,
    };

    #[test]
    fn sets_beyond_the_budget_are_reported() {
        let mut small = TransferSet::new(Gathered::default(), false, Texts::default(), 10_000);
        assert_eq!((0..100).find_map(|_| small.add_new(&LARGEST).err()), Some(Unfit::Memory));
    }

    #[test]
    fn a_sum_holds_amounts_of_its_day_alone_however_large() {
        let judged = |condition: &Value, time| {
            let mut texts = Texts::default();
            let (rules, gathered) = filters(std::slice::from_ref(condition), &mut texts);
            let mut set = TransferSet::new(gathered, true, texts, 1 << 20);
            set.add_new(&LARGEST).unwrap();
            set.add_new(&Transfer { time, ..LARGEST }).unwrap();
            let sum = |candidate: &Candidate| candidate.windows.sum_24h;
            set.candidates(&rules, &mut Uninterrupted).map(|found| found.iter().map(sum).collect::<Vec<_>>())
        };
        let (one, two) = (WideSum::from(U256::MAX), WideSum::from(U256::MAX) + U256::MAX);
        let above = |value: Value| json!({"fact": "sum_24h", "op": ">", "value": value});
        assert_eq!(judged(&above(json!(0)), 60 * DAY), Ok(vec![one; 4]));
        assert_eq!(judged(&above(json!(0)), DAY + 1), Ok(vec![one; 4]));
        assert_eq!(judged(&above(json!(0)), DAY), Ok(vec![one, two, one, two]));
        // 2^256, and less than the sum of two.
        let more = above(json!(2e77));
        assert_eq!(judged(&more, DAY + 1), Ok(Vec::new()));
        assert_eq!(judged(&more, DAY), Ok(vec![two; 2]));
    }

    #[test]
    fn networks_are_booked() {
        let mut set = TransferSet::new(Gathered::default(), false, Texts::default(), 10_000);
        let mut add = |number: u32| set.add_past(&Transfer { network: &number.to_string(), ..LARGEST });
        assert_eq!((0..100).find_map(|number| add(number).err()), Some(Unfit::Memory));
    }

    #[test]
    fn amounts_of_a_wallet_are_booked_until_it_has_been_judged() {
        // For those of the sender, and then for those of the receiver.
        let enough = 100 * with_room(AMOUNT_BYTES);
        for (bytes, judged) in [(enough, Ok(0)), (enough - 1, Err(Unfit::Memory))] {
            let mut texts = Texts::default();
            let (rules, gathered) = filters(&[json!({"fact": "count_1h", "op": ">", "value": 1_000})], &mut texts);
            let mut set = TransferSet::new(gathered, true, texts, 1 << 20);
            for number in 0..101 {
                set.add_new(&Transfer { asset: &format!("t{number}"), ..LARGEST }).unwrap();
            }
            set.bytes_left = bytes;
            assert_eq!(set.candidates(&rules, &mut Uninterrupted).map(|found| found.len()), judged);
            assert!(judged.is_err() || set.bytes_left == bytes);
        }
    }

    #[derive(Default)]
    struct Checks(usize);

    impl Interrupt for Checks {
        fn should_stop(&mut self) -> bool {
            self.0 += 1;
            false
        }
    }

    #[test]
    fn cancellation_is_checked_among_sides_of_one_time_and_rules() {
        let documents: [Value; 10] = std::array::from_fn(|_| {
            json!({"all": [
                {"fact": "count_1h", "op": ">", "value": 1_000_000},
                {"fact": "is_new_counterparty", "op": "known"},
            ]})
        });
        let mut texts = Texts::default();
        let (rules, gathered) = filters(&documents, &mut texts);
        let sample = Sample { from: Some(0), to: Some(1), hours: 0, token: None, amount: 1, usd: None, is_new: true };
        let mut set = set(&vec![sample; 10_000], gathered, texts).unwrap();
        let mut checks = Checks::default();
        assert_eq!(set.first_times(&[], &mut Pace::every(&mut checks)).unwrap().len(), 0);
        assert_eq!(checks.0, 1 + 9_999 / STEPS_PER_CHECK);
        let mut checks = Checks::default();
        assert_eq!(set.candidates(&rules, &mut checks).unwrap().len(), 0);
        assert!(checks.0 >= 2 * 10_000 * rules.len() / STEPS_PER_CHECK, "{} checks", checks.0);
    }
}
