//! Tokens as users state them, and prices.

use arx_core::address::Network;
use arx_core::graph::U256;

use super::stream::ColumnType::{Bool, Integer, Numeric, Text, Time};
use super::stream::{Argument, PreparedQuery, with_memory_context};
use crate::error::SqlError;

/// Decimals of prices.
pub(crate) const PRICE_SCALE: u32 = 12;

thread_local! {
    static WRAPPED: PreparedQuery = const { PreparedQuery::new(c"
SELECT k.token_address, k.decimals::integer
  FROM arx.tokens AS k WHERE k.network = $1 AND k.wraps = 'native' ORDER BY k.token_address", &[Text, Integer]) };

    static KIND: PreparedQuery = const { PreparedQuery::new(c"
SELECT k.kind FROM arx.tokens AS k WHERE k.network = $1 AND k.token_address = $2", &[Text]) };

    static TOKENS: PreparedQuery = const { PreparedQuery::new(c"
SELECT k.token_address, CASE WHEN k.wraps = 'native' THEN $2 ELSE k.symbol END, k.decimals::integer, k.kind,
       coalesce(k.wraps = 'native', false)
  FROM arx.tokens AS k WHERE k.network = $1", &[Text, Text, Integer, Text, Bool]) };

    static PRICES: PreparedQuery = const { PreparedQuery::new(c"
SELECT p.asset, p.priced_at, p.price_usd::numeric
  FROM arx.asset_prices AS p WHERE p.asset = ANY ($1::text[]) ORDER BY p.asset, p.priced_at", &[Text, Time, Numeric]) };
}

/// Kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Fungible,
    /// Each token has an id and counts as one.
    Nft,
    /// Amounts count copies of an id.
    Multi,
}

impl TokenKind {
    fn parse(text: &str) -> Result<Self, SqlError> {
        match text {
            "fungible" => Ok(Self::Fungible),
            "nft" => Ok(Self::Nft),
            "multi" => Ok(Self::Multi),
            other => Err(SqlError::corrupt(format!("token kind \"{other}\" is unknown"))),
        }
    }
}

/// A row of `arx.tokens`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatedToken {
    pub(crate) address: String,
    /// Name of its prices; of a wrapped coin that of the coin.
    pub(crate) price_name: Option<String>,
    pub(crate) decimals: Option<i32>,
    pub(crate) kind: TokenKind,
    pub(crate) wraps_native: bool,
}

/// Returns the wrapped coins of a network, by contract, with their decimals.
pub(crate) fn wrapped_coins(network: &Network) -> Result<Vec<(String, i32)>, SqlError> {
    let mut wrapped = Vec::new();
    WRAPPED.with(|query| {
        query.stream(&[Argument::of(network.name())], |slot| {
            // A constraint requires decimals.
            if let Some(decimals) = slot.integer(1)? {
                wrapped.push((slot.text(0)?.to_owned(), decimals));
            }
            Ok(())
        })
    })?;
    Ok(wrapped)
}

/// Returns the kind of a token, if it is stated.
pub(crate) fn token_kind(network: &Network, token: &str) -> Result<Option<TokenKind>, SqlError> {
    let mut kind = None;
    KIND.with(|query| {
        query.stream(&[Argument::of(network.name()), Argument::of(token)], |slot| {
            kind = Some(TokenKind::parse(slot.text(0)?)?);
            Ok(())
        })
    })?;
    Ok(kind)
}

/// Returns the tokens of a network, given the name of its coin.
pub(crate) fn stated_tokens(network: &Network, coin: &str) -> Result<Vec<StatedToken>, SqlError> {
    let mut tokens = Vec::new();
    TOKENS.with(|query| {
        query.stream(&[Argument::of(network.name()), Argument::of(coin)], |slot| {
            tokens.push(StatedToken {
                address: slot.text(0)?.to_owned(),
                price_name: slot.optional_text(1)?.map(str::to_owned),
                decimals: slot.integer(2)?,
                kind: TokenKind::parse(slot.text(3)?)?,
                wraps_native: slot.is_true(4)?,
            });
            Ok(())
        })
    })?;
    Ok(tokens)
}

/// Calls `each` with name, time and price of every price of some assets, in units of
/// 10^-[`PRICE_SCALE`] USD, by name and time.
pub(crate) fn prices(
    names: &[&str],
    mut each: impl FnMut(&str, i64, U256) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    with_memory_context(|| {
        PRICES.with(|query| {
            query.stream(&[Argument::of(names.to_vec())], |slot| {
                each(slot.text(0)?, slot.long(1)?, slot.amount(2, PRICE_SCALE)?)
            })
        })
    })
}
