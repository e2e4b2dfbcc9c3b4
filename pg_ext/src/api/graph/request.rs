//! Requests: the arguments that graph functions share, checked, and the graph that answers.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use arx_core::address::{Address, Network};
use arx_core::amount::COIN_SCALE;
use arx_core::graph::{
    AssetId, AssetSelection, Direction, EdgeFilter, Graph, Halt, Interrupt, MemoryBudget, SearchLimits, U256, WalletId,
};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::prelude::*;

use crate::arguments::{Wallet, at_least_one, direction, optional_limit, required};
use crate::error::SqlError;
use crate::graph_store::{AssetScope, GraphHandle, check_for_failures, current};
use crate::guc;
use crate::numeric::{SqlNumeric, units};
use crate::spi::{NetworkCoverage, TransactionSources, is_covered, native_asset, network_coverage, registered_network};
use crate::time::from_micros;

/// Reason of a result about a wallet that the graph does not have.
pub(crate) const NO_TRANSACTION: &str = "wallet has no transaction";

/// Matches no transfer: asset ids end far below.
const UNKNOWN_TOKEN: AssetSelection = AssetSelection::Token(AssetId::new(u32::MAX));

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

impl Scope {
    /// Checks the arguments and opens the graph.
    pub(crate) fn parse(network: Network, arguments: ScopeArguments<'_>) -> Result<Self, SqlError> {
        let asset = Asset::parse(required("asset", arguments.asset)?, &network)?;
        let min_value = arguments.min_value.as_ref().map(|value| asset.min_value(value)).transpose()?;
        let since = arguments.since.map(TimestampWithTimeZone::into_inner);
        let until = arguments.until.map(TimestampWithTimeZone::into_inner);
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(SqlError::argument("since must be before until"));
        }
        let deadline = Deadline::within(arguments.max_time)?;
        let include_failed = required("include_failed", arguments.include_failed)?;
        let handle = current(asset.scope())?;
        let assets = asset.selection(&handle.graph(), &network)?;
        let filter = EdgeFilter { assets, since, until, min_value, min_transfers: 1, include_failed };
        let min_value = arguments.min_value;
        let (coin, coverage) = (OnceCell::new(), OnceCell::new());
        Ok(Self { handle, network, filter, deadline, asset, min_value, coin, coverage })
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
    pub(crate) fn value_of(asset: AssetId, value: U256) -> SqlNumeric {
        SqlNumeric { value, scale: if asset == AssetId::NATIVE { COIN_SCALE } else { 0 } }
    }

    /// Returns the name of the native coin, or the address of a token.
    pub(crate) fn asset_name(&self, asset: AssetId) -> Result<String, SqlError> {
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
        !matches!(self.asset, Asset::Native)
    }

    /// Returns the argument that names the asset and the decimals of its amounts; `None` for
    /// several assets.
    pub(crate) fn single_asset(&self) -> Option<(&str, u32)> {
        let name = match &self.asset {
            Asset::Native => "native",
            Asset::Token(token) => token.as_str(),
            Asset::Tokens | Asset::All => return None,
        };
        self.asset.scale().map(|scale| (name, scale))
    }

    /// Returns the unit of values and its decimals; `None` for several assets.
    pub(crate) fn unit(&self) -> Result<Option<(String, u8)>, SqlError> {
        Ok(match &self.asset {
            Asset::Native => Some((native_asset(self.network.name())?, COIN_SCALE as u8)),
            Asset::Token(token) => Some((token.as_str().to_owned(), 0)),
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
    Token(Address),
}

impl Asset {
    fn parse(name: &str, network: &Network) -> Result<Self, SqlError> {
        match name.to_ascii_lowercase().as_str() {
            "native" => return Ok(Self::Native),
            "tokens" => return Ok(Self::Tokens),
            "all" => return Ok(Self::All),
            _ => {}
        }
        if native_asset(network.name())?.eq_ignore_ascii_case(name) {
            return Ok(Self::Native);
        }
        Address::parse(name, network).map(Self::Token).map_err(|error| {
            SqlError::from(error)
                .hint("asset must be native, tokens, all, the name of the native coin, or the address of a token.")
        })
    }

    const fn scope(&self) -> AssetScope {
        if matches!(self, Self::Native) { AssetScope::Native } else { AssetScope::All }
    }

    const fn scale(&self) -> Option<u32> {
        match self {
            Self::Native => Some(COIN_SCALE),
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
            Self::All => AssetSelection::All,
            Self::Token(token) => match graph.asset(network.name(), token.as_str())? {
                Some(asset) => AssetSelection::Token(asset),
                None => {
                    notice!("token {} has no transfer on network {}", token.as_str(), network.name());
                    UNKNOWN_TOKEN
                }
            },
        })
    }
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
