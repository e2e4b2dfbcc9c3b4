//! Requests: the arguments that graph functions share, checked, and the graph that answers.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use arx_core::address::{Address, Network};
use arx_core::amount::COIN_SCALE;
use arx_core::graph::{
    AssetId, AssetSelection, Basket, Damaged, Direction, EdgeFilter, Factor, Graph, Halt, Interrupt, MemoryBudget,
    Price, SearchLimits, Side, U256, Unvalued, Valuation, WalletId, Wrapper,
};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::prelude::*;

use crate::arguments::{Wallet, at_least_one, direction, optional_limit, required};
use crate::error::SqlError;
use crate::graph_store::{AssetScope, GraphHandle, check_for_failures, current};
use crate::guc;
use crate::numeric::{SqlNumeric, units};
use crate::spi::{
    NetworkCoverage, PRICE_SCALE, StatedToken, TokenKind, TransactionSources, is_covered, native_asset,
    network_coverage, prices, registered_network, stated_tokens, token_kind, wrapped_coins,
};
use crate::time::from_micros;

/// Reason of a result about a wallet that the graph does not have.
pub(crate) const NO_TRANSACTION: &str = "wallet has no transaction";

/// Reason of a result about a wallet that has transfers, and none of the asset.
const NOTHING_OF_ASSET: &str = "wallet has no transfer of the asset here, and its history is not covered";

/// Name of the unit of several assets by their prices.
const USD: &str = "usd";

/// Tokens are minted from this address on networks of the EVM.
const ZERO_ADDRESS: &str = "0x0000000000000000000000000000000000000000";

/// A token without transfers: asset ids end far below.
const UNKNOWN_TOKEN_ID: AssetId = AssetId::new(u32::MAX);
const UNKNOWN_TOKEN: AssetSelection = AssetSelection::Token(UNKNOWN_TOKEN_ID);

/// Arguments that select transfers, as given.
pub(crate) struct ScopeArguments<'a> {
    pub(crate) asset: Option<&'a str>,
    pub(crate) since: Option<TimestampWithTimeZone>,
    pub(crate) until: Option<TimestampWithTimeZone>,
    pub(crate) min_value: Option<AnyNumeric>,
    pub(crate) include_failed: Option<bool>,
    pub(crate) max_time: Option<Interval>,
}

/// The transfers that count, the time that a search may take, and the graph.
pub(crate) struct Scope {
    pub(crate) handle: GraphHandle,
    pub(crate) network: Network,
    pub(crate) filter: EdgeFilter,
    pub(crate) deadline: Deadline,
    asset: Asset,
    /// Assets that are followed as one.
    basket: Option<Basket>,
    min_value: Option<AnyNumeric>,
    /// Name of the native coin, once it has been read.
    coin: OnceCell<String>,
    /// Statements about the coverage of the network, once they have been read.
    coverage: OnceCell<NetworkCoverage>,
}

/// Arguments of a traversal, as given.
pub(crate) struct TraversalArguments<'a> {
    pub(crate) scope: ScopeArguments<'a>,
    pub(crate) max_depth: Option<i32>,
    pub(crate) direction: Option<&'a str>,
    pub(crate) min_strength: Option<i64>,
    pub(crate) max_nodes: Option<i64>,
}

/// A traversal from a wallet: its scope, direction and limits.
pub(crate) struct Traversal {
    pub(crate) scope: Scope,
    pub(crate) direction: Direction,
    pub(crate) limits: SearchLimits,
}

/// Arguments of a traversal in time, as given.
pub(crate) struct InTimeArguments {
    pub(crate) in_time: Option<bool>,
    pub(crate) max_gap: Option<Interval>,
}

/// A traversal in which each hop is at or after the one before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InTime {
    pub(crate) side: Side,
    /// Microseconds between two hops.
    pub(crate) max_gap: Option<i64>,
}

/// Ends a search when its time is used up, and lets the server cancel it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Interrupt for Deadline {
    fn should_stop(&mut self) -> bool {
        check_for_failures();
        self.0.is_some_and(|end| Instant::now() >= end)
    }
}

impl Traversal {
    /// Checks the arguments and opens the graph.
    pub(crate) fn parse(network: Network, arguments: TraversalArguments<'_>) -> Result<Self, SqlError> {
        let max_depth = required("max_depth", arguments.max_depth)?;
        let direction = direction(arguments.direction)?;
        let min_transfers = at_least_one("min_strength", arguments.min_strength)?;
        let max_wallets = optional_limit("max_nodes", arguments.max_nodes)?;
        let limits = SearchLimits { max_depth, max_wallets, memory: MemoryBudget::new(guc::graph_work_mem()) };
        limits.check()?;
        let mut scope = Scope::parse(network, arguments.scope)?;
        scope.filter.min_transfers = min_transfers;
        Ok(Self { scope, direction, limits })
    }
}

impl InTimeArguments {
    /// Returns `None` for a traversal that does not follow the order of time. Called before the
    /// graph is opened.
    pub(crate) fn parse(self, arguments: &TraversalArguments<'_>) -> Result<Option<InTime>, SqlError> {
        let in_time = required("in_time", self.in_time)?;
        let max_gap = optional_gap(self.max_gap)?;
        if !in_time {
            return match max_gap {
                Some(_) => Err(SqlError::argument("max_gap requires in_time => true")),
                None => Ok(None),
            };
        }
        let side = match direction(arguments.direction)? {
            Direction::Out => Side::Out,
            Direction::In => Side::In,
            Direction::Both => {
                return Err(SqlError::argument("direction must be out or in with in_time, not both")
                    .detail("Funds move in one direction."));
            }
        };
        if at_least_one("min_strength", arguments.min_strength)? > 1 {
            return Err(SqlError::argument("min_strength must be 1 with in_time")
                .detail("Single transfers are followed, not pairs of wallets."));
        }
        Ok(Some(InTime { side, max_gap }))
    }
}

/// Parses the maximum time between two hops; NULL is no limit.
pub(crate) fn optional_gap(max_gap: Option<Interval>) -> Result<Option<i64>, SqlError> {
    let Some(max_gap) = max_gap else { return Ok(None) };
    let micros = i64::try_from(max_gap.as_micros()).map_err(|_| SqlError::argument("max_gap is out of range"))?;
    if micros < 0 {
        return Err(SqlError::argument("max_gap must not be negative"));
    }
    Ok(Some(micros))
}

impl Scope {
    /// Checks the arguments and opens the graph.
    pub(crate) fn parse(network: Network, arguments: ScopeArguments<'_>) -> Result<Self, SqlError> {
        Self::parse_as(network, arguments, false)
    }

    /// Checks the arguments of a function that follows funds, and opens the graph. It follows
    /// wrapped coins as the coin, and all priced assets as dollars.
    pub(crate) fn parse_for_funds(network: Network, arguments: ScopeArguments<'_>) -> Result<Self, SqlError> {
        Self::parse_as(network, arguments, true)
    }

    fn parse_as(network: Network, arguments: ScopeArguments<'_>, follows_funds: bool) -> Result<Self, SqlError> {
        let mut asset = Asset::parse(required("asset", arguments.asset)?, &network)?;
        let since = arguments.since.map(TimestampWithTimeZone::into_inner);
        let until = arguments.until.map(TimestampWithTimeZone::into_inner);
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(SqlError::argument("since must be before until"));
        }
        let deadline = Deadline::within(arguments.max_time)?;
        let include_failed = required("include_failed", arguments.include_failed)?;
        let wrapped =
            if follows_funds && matches!(asset, Asset::Native) { wrapped_coins(&network)? } else { Vec::new() };
        let handle = current(if wrapped.is_empty() { asset.scope() } else { AssetScope::All })?;
        if matches!(asset, Asset::Usd)
            && let Some(token) = token_named_usd(&handle.graph(), &network, follows_funds)?
        {
            asset = Asset::Token(token);
        }
        let min_value = arguments.min_value.as_ref().map(|value| asset.min_value(value)).transpose()?;
        let basket = if follows_funds { asset.basket(&handle.graph(), &network, &wrapped)? } else { None };
        let assets = match &basket {
            Some(basket) => basket.selection(),
            None => asset.selection(&handle.graph(), &network)?,
        };
        let filter = EdgeFilter { assets, since, until, min_value, min_transfers: 1, include_failed };
        let min_value = arguments.min_value;
        let (coin, coverage) = (OnceCell::new(), OnceCell::new());
        Ok(Self { handle, network, filter, deadline, asset, basket, min_value, coin, coverage })
    }

    /// Returns the graph with the assets that are followed as one.
    pub(crate) fn graph(&self) -> Graph<'_> {
        let graph = self.handle.graph();
        match &self.basket {
            Some(basket) => graph.with_basket(basket),
            None => graph,
        }
    }

    pub(crate) const fn has_basket(&self) -> bool {
        self.basket.is_some()
    }

    /// Returns whether an answer about a wallet without a transaction is complete, and its reason.
    /// It is if statements of coverage say that the wallet's history was loaded for the time asked
    /// for: otherwise it may have had transactions that are not here.
    pub(crate) fn no_transaction(&self, address: &str) -> Result<(bool, String), SqlError> {
        let time = |micros: Option<i64>| micros.map(from_micros).transpose();
        let window = (time(self.filter.since)?, time(self.filter.until)?);
        let coverage = match self.coverage.get() {
            Some(coverage) => *coverage,
            None => {
                let read = network_coverage(&self.network, window)?;
                *self.coverage.get_or_init(|| read)
            }
        };
        if coverage.whole || (coverage.has_wallets && is_covered(&self.network, address, window)?) {
            return Ok((true, NO_TRANSACTION.to_owned()));
        }
        Ok((false, format!("{NO_TRANSACTION} here, and its history is not covered")))
    }

    /// Returns the reason why an answer about a wallet that has never moved what is asked for is
    /// incomplete: it may have, in history that was not loaded. `None` if it has moved some, or if
    /// its history is covered.
    pub(crate) fn unknown_history(&self, id: WalletId) -> Result<Option<String>, SqlError> {
        if self.has_dealt(id)? {
            return Ok(None);
        }
        let (complete, _) = self.no_transaction(self.handle.graph().address(id)?)?;
        Ok((!complete).then(|| NOTHING_OF_ASSET.to_owned()))
    }

    /// Returns true if a wallet has a transfer of the assets, at any time.
    fn has_dealt(&self, id: WalletId) -> Result<bool, SqlError> {
        /// Ends a search.
        enum Found {
            Transfer,
            Damaged(Damaged),
        }
        impl From<Damaged> for Found {
            fn from(damaged: Damaged) -> Self {
                Self::Damaged(damaged)
            }
        }
        let filter = EdgeFilter { since: None, until: None, min_value: None, include_failed: true, ..self.filter };
        let found = |graph: Graph<'_>, filter: &EdgeFilter| -> Result<bool, SqlError> {
            for side in [Side::In, Side::Out] {
                match graph.counted_transfers(id, side, filter, |_| Err(Found::Transfer)) {
                    Ok(()) => {}
                    Err(Found::Transfer) => return Ok(true),
                    Err(Found::Damaged(damaged)) => return Err(damaged.into()),
                }
            }
            Ok(false)
        };
        if found(self.graph(), &filter)? {
            return Ok(true);
        }
        // A basket does not show coins that stay in it, such as those of the contract that wraps.
        let coins = EdgeFilter { assets: AssetSelection::Native, ..filter };
        Ok(matches!(self.asset, Asset::Native) && self.has_basket() && found(self.handle.graph(), &coins)?)
    }

    /// Returns true for the contract of a token: coins that it holds may have moved on as that
    /// token.
    pub(crate) fn is_token_contract(&self, wallet: WalletId) -> Result<bool, SqlError> {
        let graph = self.handle.graph();
        Ok(graph.asset(self.network.name(), graph.address(wallet)?)?.is_some())
    }

    /// Returns the id of a wallet with transfers. Raises a notice if it has none.
    pub(crate) fn resolve(&self, wallet: &Wallet) -> Result<Option<WalletId>, SqlError> {
        let graph = self.handle.graph();
        let id = graph.wallet(wallet.network.name(), wallet.address.as_str())?;
        let id = id.filter(|id| graph.is_active(*id));
        if id.is_none() {
            notice!("wallet {} has no transaction on network {}", wallet.address.as_str(), wallet.network.name());
        }
        Ok(id)
    }

    /// Converts a sum of values; `None` for several assets.
    pub(crate) fn value(&self, value: U256) -> Option<SqlNumeric> {
        self.asset.scale().map(|scale| SqlNumeric { value, scale })
    }

    /// Converts a value of one asset.
    pub(crate) fn value_of(&self, asset: AssetId, value: U256) -> SqlNumeric {
        let scale = self.asset.scale().unwrap_or(if asset == AssetId::NATIVE { COIN_SCALE } else { 0 });
        SqlNumeric { value, scale }
    }

    /// Returns the name of the unit in which an asset is followed.
    pub(crate) fn unit_name(&self, asset: AssetId) -> Result<String, SqlError> {
        if matches!(self.asset, Asset::Usd) { Ok(USD.to_owned()) } else { self.asset_name(asset) }
    }

    /// Returns the name of the native coin, or the address of a token.
    pub(crate) fn asset_name(&self, asset: AssetId) -> Result<String, SqlError> {
        if asset == UNKNOWN_TOKEN_ID
            && let Asset::Token(token) = &self.asset
        {
            return Ok(token.as_str().to_owned());
        }
        if asset != AssetId::NATIVE {
            return Ok(self.handle.graph().token(asset)?.to_owned());
        }
        match self.coin.get() {
            Some(coin) => Ok(coin.clone()),
            None => {
                let coin = native_asset(self.network.name())?;
                Ok(self.coin.get_or_init(|| coin).clone())
            }
        }
    }

    pub(crate) const fn may_include_tokens(&self) -> bool {
        !matches!(self.asset, Asset::Native) || self.has_basket()
    }

    /// Returns the argument that names the asset and the decimals of its amounts; `None` for
    /// several assets.
    pub(crate) fn single_asset(&self) -> Option<(&str, u32)> {
        let name = match &self.asset {
            Asset::Native => "native",
            Asset::Token(token) => token.as_str(),
            Asset::Usd => USD,
            Asset::Tokens | Asset::All => return None,
        };
        self.asset.scale().map(|scale| (name, scale))
    }

    /// Returns the unit of values and its decimals; `None` for several assets.
    pub(crate) fn unit(&self) -> Result<Option<(String, u8)>, SqlError> {
        Ok(match &self.asset {
            Asset::Native => Some((native_asset(self.network.name())?, COIN_SCALE as u8)),
            Asset::Token(token) => Some((token.as_str().to_owned(), 0)),
            Asset::Usd => Some((USD.to_owned(), COIN_SCALE as u8)),
            Asset::Tokens | Asset::All => None,
        })
    }

    /// Returns the tables and conditions that select the transactions behind the transfers.
    pub(crate) fn sources(&self) -> TransactionSources<'_> {
        TransactionSources {
            native: matches!(self.asset, Asset::Native | Asset::All),
            tokens: !matches!(self.asset, Asset::Native),
            token: if let Asset::Token(token) = &self.asset { Some(token.as_str()) } else { None },
            min_value: self.min_value.clone(),
            include_failed: self.filter.include_failed,
        }
    }
}

impl Deadline {
    fn within(time: Option<Interval>) -> Result<Self, SqlError> {
        let Some(time) = time else { return Ok(Self(None)) };
        let micros = u64::try_from(time.as_micros()).ok().filter(|micros| *micros > 0);
        let micros = micros.ok_or_else(|| SqlError::argument("max_time must be greater than zero"))?;
        Ok(Self(Instant::now().checked_add(Duration::from_micros(micros))))
    }
}

/// The argument `asset`.
enum Asset {
    Native,
    Tokens,
    All,
    /// All priced assets, in dollars.
    Usd,
    Token(Address),
}

impl Asset {
    fn parse(name: &str, network: &Network) -> Result<Self, SqlError> {
        match name.to_ascii_lowercase().as_str() {
            "native" => return Ok(Self::Native),
            "tokens" => return Ok(Self::Tokens),
            "all" => return Ok(Self::All),
            USD => return Ok(Self::Usd),
            _ => {}
        }
        if native_asset(network.name())?.eq_ignore_ascii_case(name) {
            return Ok(Self::Native);
        }
        Address::parse(name, network).map(Self::Token).map_err(|error| {
            SqlError::from(error)
                .hint("asset must be native, tokens, all, usd, the name of the native coin, or the address of a token.")
        })
    }

    const fn scope(&self) -> AssetScope {
        if matches!(self, Self::Native) { AssetScope::Native } else { AssetScope::All }
    }

    const fn scale(&self) -> Option<u32> {
        match self {
            Self::Native | Self::Usd => Some(COIN_SCALE),
            Self::Token(_) => Some(0),
            Self::Tokens | Self::All => None,
        }
    }

    fn min_value(&self, value: &AnyNumeric) -> Result<U256, SqlError> {
        let scale = self.scale().ok_or_else(|| {
            SqlError::argument("min_value requires a single asset")
                .detail("Values of several assets cannot be compared.")
        })?;
        units(value.clone(), scale).map_err(|error| SqlError::argument(format!("min_value {value}: {error}")))
    }

    fn selection(&self, graph: &Graph<'_>, network: &Network) -> Result<AssetSelection, SqlError> {
        Ok(match self {
            Self::Native => AssetSelection::Native,
            Self::Tokens => AssetSelection::Tokens,
            Self::All | Self::Usd => AssetSelection::All,
            Self::Token(token) => match graph.asset(network.name(), token.as_str())? {
                Some(asset) => AssetSelection::Token(asset),
                None => {
                    notice!("token {} has no transfer on network {}", token.as_str(), network.name());
                    UNKNOWN_TOKEN
                }
            },
        })
    }

    /// Returns the assets that are followed as one, if there are several, or an NFT, whose amounts
    /// may be ids.
    fn basket(
        &self,
        graph: &Graph<'_>,
        network: &Network,
        wrapped: &[(String, i32)],
    ) -> Result<Option<Basket>, SqlError> {
        match self {
            Self::Native => wrapped_native(graph, network, wrapped),
            Self::Token(token) => {
                let Some(asset) = graph.asset(network.name(), token.as_str())? else { return Ok(None) };
                let is_nft = token_kind(network, token.as_str())? == Some(TokenKind::Nft);
                let alone = || Basket::new(HashMap::from([(asset, Valuation::Each)]), Vec::new(), None);
                Ok(is_nft.then(alone))
            }
            Self::Usd => priced_assets(graph, network).map(Some),
            Self::Tokens | Self::All => Ok(None),
        }
    }
}

/// Decimals of the native coin in the graph, and of dollars.
const SCALE: i32 = COIN_SCALE.cast_signed();

/// Returns the token that `usd` names, where addresses have any format: one that has transfers, or
/// any for a function that does not follow funds.
fn token_named_usd(graph: &Graph<'_>, network: &Network, follows_funds: bool) -> Result<Option<Address>, SqlError> {
    let token = Address::parse(USD, network).ok();
    if follows_funds {
        return Ok(if graph.asset(network.name(), USD)?.is_some() { token } else { None });
    }
    token.map(Some).ok_or_else(|| {
        SqlError::argument("asset usd is only for functions that follow funds")
            .hint("They are trace_funds, trace_summary, wallet_exposure and screen_wallets.")
    })
}

fn wrapper(graph: &Graph<'_>, network: &Network, contract: &str) -> Result<Wrapper, SqlError> {
    let (wallet, token) = (graph.wallet(network.name(), contract)?, graph.asset(network.name(), contract)?);
    Ok(Wrapper { contract: wallet, token })
}

/// Returns the native coin with its wrapped forms; `None` if these have no transfers.
fn wrapped_native(graph: &Graph<'_>, network: &Network, wrapped: &[(String, i32)]) -> Result<Option<Basket>, SqlError> {
    let unit = |decimals: i32| Factor::new(U256::ONE, SCALE - decimals).map(Valuation::Fixed);
    let (mut members, mut wrappers) = (HashMap::new(), Vec::new());
    for (contract, decimals) in wrapped {
        let wrapper = wrapper(graph, network, contract)?;
        if let (Some(token), Some(unit)) = (wrapper.token, unit(*decimals)) {
            members.insert(token, unit);
        }
        if wrapper.contract.is_some() || wrapper.token.is_some() {
            wrappers.push(wrapper);
        }
    }
    members.extend(unit(SCALE).map(|unit| (AssetId::NATIVE, unit)));
    let zero = graph.wallet(network.name(), ZERO_ADDRESS)?;
    Ok((!wrappers.is_empty()).then(|| Basket::new(members, wrappers, zero)))
}

/// Returns all assets of a network that have a price, in units of 10^-18 USD.
fn priced_assets(graph: &Graph<'_>, network: &Network) -> Result<Basket, SqlError> {
    let coin = native_asset(network.name())?;
    let tokens = stated_tokens(network, &coin)?;
    let mut names: Vec<&str> = tokens.iter().filter_map(|token| token.price_name.as_deref()).collect();
    names.push(&coin);
    names.sort_unstable();
    names.dedup();
    let mut by_name: HashMap<String, Vec<(i64, U256)>> = HashMap::new();
    prices(&names, |name, time, price| {
        match by_name.get_mut(name) {
            Some(prices) => prices.push((time, price)),
            None => {
                by_name.insert(name.to_owned(), vec![(time, price)]);
            }
        }
        Ok(())
    })?;
    if by_name.is_empty() {
        return Err(SqlError::argument(format!("no asset of network \"{}\" has a price", network.name()))
            .detail("Values in USD are those of arx.asset_prices.")
            .hint("Insert prices there, and state symbol and decimals of tokens in arx.tokens."));
    }
    let valuation = |name: &str, decimals: i32| {
        let prices = by_name.get(name)?;
        Some(Valuation::Priced(in_force(prices, SCALE - PRICE_SCALE.cast_signed() - decimals)))
    };
    let (mut members, mut wrappers, mut nfts) = (HashMap::new(), Vec::new(), HashSet::new());
    members.extend(valuation(&coin, SCALE).map(|prices| (AssetId::NATIVE, prices)));
    for StatedToken { address, price_name, decimals, kind, wraps_native } in &tokens {
        let asset = graph.asset(network.name(), address)?;
        match (kind, price_name, decimals) {
            (TokenKind::Nft | TokenKind::Multi, ..) => nfts.extend(asset),
            (TokenKind::Fungible, Some(name), Some(decimals)) => {
                members.extend(asset.zip(valuation(name, *decimals)));
            }
            (TokenKind::Fungible, ..) => {}
        }
        if *wraps_native {
            wrappers.push(wrapper(graph, network, address)?);
        }
    }
    let zero = graph.wallet(network.name(), ZERO_ADDRESS)?;
    Ok(Basket::new(members, wrappers, zero).counting_others(nfts))
}

/// Returns prices with the times between which they are in force.
fn in_force(prices: &[(i64, U256)], exponent: i32) -> Vec<Price> {
    let next = prices.iter().skip(1).map(|(time, _)| *time).chain([i64::MAX]);
    let price = |((from, price), next): (&(i64, U256), i64)| {
        let until = from.saturating_add(guc::max_price_age()).min(next);
        Factor::new(*price, exponent).map(|factor| Price { from: *from, until, factor })
    };
    prices.iter().zip(next).filter_map(price).collect()
}

/// Wallets processed between two cancellation checks.
const WALLETS_PER_CHECK: usize = 1 << 12;

/// Returns the only network that has wallets with transfers, or `None` if there is no such network.
/// Several are an error.
pub(crate) fn sole_network(asset: &str) -> Result<Option<Network>, SqlError> {
    let scope = if asset.eq_ignore_ascii_case("native") { AssetScope::Native } else { AssetScope::All };
    let handle = current(scope)?;
    let graph = handle.graph();
    let mut networks: Vec<&str> = Vec::new();
    for wallet in graph.wallet_ids() {
        if wallet.index() % WALLETS_PER_CHECK == 0 {
            check_for_interrupts!();
        }
        let network = graph.network(wallet)?;
        if !networks.contains(&network) && graph.is_active(wallet) {
            networks.push(network);
        }
    }
    networks.sort_unstable();
    match networks[..] {
        [] => Ok(None),
        [network] => registered_network(network).map(Some),
        _ => Err(SqlError::argument("network must be specified")
            .detail(format!("The graph holds several networks: {}.", networks.join(", ")))),
    }
}

/// Returns the reason of a result that a search cut short.
pub(crate) fn reason(halted: Option<Halt>) -> Option<String> {
    halted.map(|halt| halt.name().to_owned())
}

/// Raises a notice if a search stopped before it found anything.
pub(crate) fn notice_if_stopped(halted: Option<Halt>, is_empty: bool) {
    if let Some(halt) = halted.filter(|_| is_empty) {
        notice!("the search stopped early: {}", halt.name());
    }
}

/// Name of the rows of assets that have no price.
pub(crate) const NO_PRICE: &str = "no price";

/// Returns the name of the rows of an asset that has no value.
pub(crate) const fn unvalued_name(unvalued: &Unvalued) -> &'static str {
    if unvalued.is_nft { "nft" } else { NO_PRICE }
}

/// Returns the reason of a result about dollars from which transfers are missing. NFTs are excluded
/// by definition.
pub(crate) fn unvalued_reason(unvalued: &[Unvalued]) -> Option<String> {
    let transfers: u64 = unvalued.iter().filter(|of_asset| !of_asset.is_nft).map(|of_asset| of_asset.transfers).sum();
    let assets = unvalued.iter().filter(|of_asset| !of_asset.is_nft).count();
    (assets > 0).then(|| format!("{NO_PRICE}: {transfers} transfers of {assets} assets not followed"))
}
