//! What the graph functions are asked: their common arguments, checked, and the graph that answers.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use arx_core::address::{Address, Network};
use arx_core::amount::COIN_SCALE;
use arx_core::graph::{
    AssetId, AssetSelection, Direction, EdgeFilter, Graph, Halt, Interrupt, MemoryBudget, SearchLimits, U256, WalletId,
};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::convert::Wallet;
use crate::error::SqlError;
use crate::graph_store::{Need, Ready, current};
use crate::guc;
use crate::numeric::{SqlNumeric, units};
use crate::spi::{TransactionSources, native_asset, registered_network};

/// Asset numbers end far below: no transfer is of this one.
const UNKNOWN_TOKEN: AssetSelection = AssetSelection::Token(AssetId::new(u32::MAX));

/// What counts, as it comes.
pub struct ScopeArguments<'a> {
    pub asset: Option<&'a str>,
    pub since: Option<TimestampWithTimeZone>,
    pub until: Option<TimestampWithTimeZone>,
    pub min_value: Option<AnyNumeric>,
    pub include_failed: Option<bool>,
    pub max_time: Option<Interval>,
}

/// Which transfers count, how long may be looked at them, and the graph that has them.
pub struct Scope {
    pub ready: Ready,
    pub network: Network,
    pub filter: EdgeFilter,
    pub deadline: Deadline,
    /// As it was named.
    asset: Asset,
    least: Option<AnyNumeric>,
    /// The coin's name, once it was asked for.
    coin: OnceCell<String>,
}

/// Arguments of a search as they come.
pub struct Arguments<'a> {
    pub scope: ScopeArguments<'a>,
    pub max_depth: Option<i32>,
    pub direction: Option<&'a str>,
    pub min_strength: Option<i64>,
    pub max_nodes: Option<i64>,
}

/// A search, and the graph that answers it.
pub struct Question {
    pub scope: Scope,
    pub direction: Direction,
    pub limits: SearchLimits,
}

/// Ends a search when its time is used up, and lets cancellation through.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Option<Instant>);

impl Interrupt for Deadline {
    fn should_stop(&mut self) -> bool {
        check_for_interrupts!();
        self.0.is_some_and(|end| Instant::now() >= end)
    }
}

impl Question {
    /// Checks the arguments, and sees to it that the graph is there.
    pub fn parse(network: Network, arguments: Arguments<'_>) -> Result<Self, SqlError> {
        let required = SqlError::null_argument;
        let max_depth = arguments.max_depth.ok_or_else(|| required("max_depth"))?;
        let direction = parse_direction(arguments.direction.ok_or_else(|| required("direction"))?)?;
        let min_transfers = arguments.min_strength.ok_or_else(|| required("min_strength"))?;
        let min_transfers = at_least_one("min_strength", min_transfers)?;
        let max_wallets = arguments.max_nodes.map(|most| at_least_one("max_nodes", most)).transpose()?;
        let limits = SearchLimits { max_depth, max_wallets, memory: MemoryBudget::new(guc::graph_work_mem()) };
        limits.check()?;
        let mut scope = Scope::parse(network, arguments.scope)?;
        scope.filter.min_transfers = min_transfers;
        Ok(Self { scope, direction, limits })
    }
}

impl Scope {
    /// Checks the arguments, and sees to it that the graph is there.
    pub fn parse(network: Network, arguments: ScopeArguments<'_>) -> Result<Self, SqlError> {
        let required = SqlError::null_argument;
        let asset = Asset::parse(arguments.asset.ok_or_else(|| required("asset"))?, &network)?;
        let min_value = match &arguments.min_value {
            Some(least) => {
                let scale = asset.scale().ok_or_else(|| {
                    SqlError::argument("min_value needs a single asset: values of several cannot be compared")
                })?;
                Some(
                    units(least.clone(), scale)
                        .map_err(|error| SqlError::argument(format!("min_value {least}: {error}")))?,
                )
            }
            None => None,
        };
        let (since, until) = (arguments.since.map(micros), arguments.until.map(micros));
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(SqlError::argument("the time window is empty: since must be before until"));
        }
        let deadline = Deadline::within(arguments.max_time)?;
        let include_failed = arguments.include_failed.ok_or_else(|| required("include_failed"))?;
        let ready = current(asset.need())?;
        let assets = asset.selection(&ready.graph(), &network)?;
        let filter = EdgeFilter { assets, since, until, min_value, min_transfers: 1, include_failed };
        Ok(Self { ready, network, filter, deadline, asset, least: arguments.min_value, coin: OnceCell::new() })
    }

    /// A wallet's number, if it has any transfer. One that has none is said to have none.
    pub fn known(&self, wallet: &Wallet) -> Result<Option<WalletId>, SqlError> {
        let graph = self.ready.graph();
        let number = graph.wallet(wallet.network.name(), wallet.address.as_str())?;
        let number = number.filter(|number| graph.is_active(*number));
        if number.is_none() {
            notice!("wallet {} has no transaction on network {}", wallet.address.as_str(), wallet.network.name());
        }
        Ok(number)
    }

    /// A sum of values, `None` for several assets.
    pub fn value(&self, value: U256) -> Option<SqlNumeric> {
        self.asset.scale().map(|scale| SqlNumeric { value, scale })
    }

    /// A value of one asset.
    pub fn value_of(asset: AssetId, value: U256) -> SqlNumeric {
        SqlNumeric { value, scale: if asset == AssetId::NATIVE { COIN_SCALE } else { 0 } }
    }

    /// What an asset is called: the coin's name, or the address of the token.
    pub fn asset_name(&self, asset: AssetId) -> Result<String, SqlError> {
        if asset != AssetId::NATIVE {
            return Ok(self.ready.graph().token(asset)?.to_owned());
        }
        match self.coin.get() {
            Some(coin) => Ok(coin.clone()),
            None => {
                let coin = native_asset(self.network.name())?;
                Ok(self.coin.get_or_init(|| coin).clone())
            }
        }
    }

    /// Whether tokens may count.
    pub const fn has_tokens(&self) -> bool {
        !matches!(self.asset, Asset::Native)
    }

    /// What the asset is called and how many decimal places its amounts have, if it is one.
    pub fn single_asset(&self) -> Option<(&str, u32)> {
        let name = match &self.asset {
            Asset::Native => "native",
            Asset::Token(token) => token.as_str(),
            Asset::Tokens | Asset::All => return None,
        };
        self.asset.scale().map(|scale| (name, scale))
    }

    /// What values are counted in, `None` for several assets.
    pub fn unit(&self) -> Result<Option<(String, u8)>, SqlError> {
        Ok(match &self.asset {
            Asset::Native => Some((native_asset(self.network.name())?, COIN_SCALE as u8)),
            Asset::Token(token) => Some((token.as_str().to_owned(), 0)),
            Asset::Tokens | Asset::All => None,
        })
    }

    /// Where the transactions behind the transfers that count are found.
    pub fn sources(&self) -> TransactionSources<'_> {
        TransactionSources {
            native: matches!(self.asset, Asset::Native | Asset::All),
            tokens: !matches!(self.asset, Asset::Native),
            token: if let Asset::Token(token) = &self.asset { Some(token.as_str()) } else { None },
            least: self.least.clone(),
            include_failed: self.filter.include_failed,
        }
    }
}

impl Deadline {
    fn within(time: Option<Interval>) -> Result<Self, SqlError> {
        let Some(time) = time else { return Ok(Self(None)) };
        let micros = u64::try_from(time.as_micros()).ok().filter(|micros| *micros > 0);
        let micros = micros.ok_or_else(|| SqlError::argument("max_time must be longer than nothing"))?;
        Ok(Self(Instant::now().checked_add(Duration::from_micros(micros))))
    }
}

/// What `asset` names.
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
                .hint("asset is native, tokens, all, the native coin's name, or the address of a token.")
        })
    }

    const fn need(&self) -> Need {
        if matches!(self, Self::Native) { Need::Native } else { Need::All }
    }

    const fn scale(&self) -> Option<u32> {
        match self {
            Self::Native => Some(COIN_SCALE),
            Self::Token(_) => Some(0),
            Self::Tokens | Self::All => None,
        }
    }

    fn selection(&self, graph: &Graph<'_>, network: &Network) -> Result<AssetSelection, SqlError> {
        Ok(match self {
            Self::Native => AssetSelection::Native,
            Self::Tokens => AssetSelection::Tokens,
            Self::All => AssetSelection::All,
            Self::Token(token) => match graph.asset(network.name(), token.as_str())? {
                Some(number) => AssetSelection::Token(number),
                None => {
                    notice!("token {} has no transfer on network {}", token.as_str(), network.name());
                    UNKNOWN_TOKEN
                }
            },
        })
    }
}

/// A count that makes sense from one up.
pub fn at_least_one(name: &str, count: i64) -> Result<u64, SqlError> {
    u64::try_from(count)
        .ok()
        .filter(|count| *count >= 1)
        .ok_or_else(|| SqlError::argument(format!("{name} must be at least 1, not {count}")))
}

pub fn parse_direction(name: &str) -> Result<Direction, SqlError> {
    match name.to_ascii_lowercase().as_str() {
        "out" => Ok(Direction::Out),
        "in" => Ok(Direction::In),
        "both" => Ok(Direction::Both),
        _ => Err(SqlError::argument(format!("direction must be out, in or both, not \"{name}\""))),
    }
}

/// Reports an error from where none can be returned.
pub fn or_report<T>(result: Result<T, SqlError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => {
            ErrorReport::from(error).report(PgLogLevel::ERROR);
            unreachable!("an error was reported")
        }
    }
}

/// The graph counts time as the server does.
fn micros(time: TimestampWithTimeZone) -> i64 {
    time.into_inner()
}

/// Time as the server has it.
pub fn time(micros: i64) -> Result<TimestampWithTimeZone, SqlError> {
    TimestampWithTimeZone::try_from(micros).map_err(|_| SqlError::infinite_time())
}

/// Wallets between two looks for cancellation.
const WALLETS: usize = 1 << 12;

/// The only network that has wallets with transfers, `None` if none has; several are an error.
pub fn sole_network(asset: &str) -> Result<Option<Network>, SqlError> {
    let need = if asset.eq_ignore_ascii_case("native") { Need::Native } else { Need::All };
    let ready = current(need)?;
    let graph = ready.graph();
    let mut networks: Vec<&str> = Vec::new();
    for wallet in graph.wallet_ids() {
        if wallet.index() % WALLETS == 0 {
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
        _ => Err(SqlError::argument(format!("network must be given: there are {}", networks.join(", ")))),
    }
}

/// Why a result is not complete.
pub fn reason(halted: Option<Halt>) -> Option<String> {
    halted.map(|halt| halt.name().to_owned())
}
