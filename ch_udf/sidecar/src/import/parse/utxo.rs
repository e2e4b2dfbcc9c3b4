//! Parses bitcoin-etl's transactions, whose inputs and outputs are nested, into legs.
//!
//! Every input pays every output by its share of all inputs, and the fee likewise: what the inputs
//! exceed the outputs by is a leg of kind `fee` without a receiver. Inputs and outputs of one
//! address count as one. A coinbase transaction has no sender: its legs are newly mined coins and
//! the fees of its block.

use std::borrow::Cow;

use arx_pgwire::copy::TupleBuffer;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{self, JsonText};
use super::shares::shares;
use super::transactions::{RowStatus, TransactionRow, block_hash_of, other_kind};
use super::values::{Context, INTEGER_LIMITS, Parsed, RowParser, Unit, bigint, flag, parse_address, whole};
use crate::import::error::LineError;

/// A transaction with more legs is rejected.
const MAX_LEGS: usize = 100_000;

const OTHER_KINDS: [&str; 1] = ["block"];

/// Fields of one object.
#[derive(Deserialize)]
struct UtxoTransaction<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    hash: Option<&'a RawValue>,
    #[serde(borrow)]
    block_number: Option<&'a RawValue>,
    #[serde(borrow)]
    block_hash: Option<&'a RawValue>,
    #[serde(borrow)]
    block_timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    is_coinbase: Option<&'a RawValue>,
    #[serde(borrow)]
    input_value: Option<&'a RawValue>,
    #[serde(borrow)]
    output_value: Option<&'a RawValue>,
    #[serde(default)]
    inputs: Option<Vec<Coin<'a>>>,
    #[serde(default)]
    outputs: Option<Vec<Coin<'a>>>,
}

/// An input or an output.
#[derive(Deserialize)]
struct Coin<'a> {
    #[serde(default, borrow)]
    addresses: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

/// An address, unless the script has none or several, and its amount in smallest units.
type Amounts = Vec<(Option<String>, u128)>;

/// Transactions with inputs and outputs, as JSON objects.
pub(crate) struct UtxoTransactions {
    context: Context,
    /// Inputs and outputs of the last line that have no address.
    without_address: u64,
}

/// The report's word for them.
const WITHOUT_ADDRESS: &str = "inputs and outputs without an address, or with several";

/// Begins the names that bitcoin-etl gives to scripts without an address.
const SCRIPT_NAME: &str = "nonstandard";

/// Returns true for such a name: the same script has the same name everywhere.
fn is_script_name(text: &str) -> bool {
    text.strip_prefix(SCRIPT_NAME)
        .is_some_and(|digits| (1..=128).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl UtxoTransactions {
    pub(crate) fn new(context: Context) -> Self {
        Self { context, without_address: 0 }
    }

    /// Returns the amounts of one side by address, in the order of their first occurrence.
    fn amounts(&self, side: &'static str, coins: &[Coin<'_>]) -> Result<Amounts, LineError> {
        let mut amounts: Amounts = Vec::new();
        let mut positions = std::collections::HashMap::new();
        for coin in coins {
            let text = JsonText::of(coin.value)?;
            if text.get().is_none() {
                let message = format!(
                    "an entry of {side} has no value: bitcoin-etl adds values and addresses with enrich_transactions"
                );
                return Err(LineError::Sums { message });
            }
            let units = self.context.amount_in(Unit::Base, side, text.get())? / self.context.smallest_unit();
            let address = match coin.addresses.as_deref() {
                Some([name]) if is_script_name(name) => Some(name.to_ascii_lowercase()),
                Some([address]) => Some(parse_address(side, address, self.context.registered())?.into_string()),
                _ => None,
            };
            match positions.get(&address) {
                Some(&position) => {
                    let entry: &mut (Option<String>, u128) = &mut amounts[position];
                    entry.1 += units;
                }
                None if units > 0 => {
                    positions.insert(address.clone(), amounts.len());
                    amounts.push((address, units));
                }
                None => {}
            }
        }
        Ok(amounts)
    }

    /// Returns the legs: sender, receiver, units, kind.
    fn legs(&self, fields: &UtxoTransaction<'_>) -> Result<Vec<Leg>, LineError> {
        let outputs = self.amounts("outputs", fields.outputs.as_deref().unwrap_or_default())?;
        let sum = |amounts: &Amounts| amounts.iter().map(|(_, units)| units).sum::<u128>();
        self.check_sum("output_value", fields.output_value, sum(&outputs))?;
        if flag("is_coinbase", JsonText::of(fields.is_coinbase)?.get())? {
            // Coins from no one to no address are no leg, and the report counts the output.
            let outputs = outputs.into_iter().filter(|(to, _)| to.is_some());
            return Ok(outputs.map(|(to, units)| Leg { from: None, to, units, kind: "coinbase" }).collect());
        }
        let inputs = self.amounts("inputs", fields.inputs.as_deref().unwrap_or_default())?;
        self.check_sum("input_value", fields.input_value, sum(&inputs))?;
        let Some(fee) = sum(&inputs).checked_sub(sum(&outputs)) else {
            let message = format!("the outputs exceed the inputs: {} and {} units", sum(&outputs), sum(&inputs));
            return Err(LineError::Sums { message });
        };
        let mut receivers = outputs;
        receivers.push((None, fee));
        let legs = inputs.len().saturating_mul(receivers.len());
        if legs > MAX_LEGS {
            let message = format!(
                "{} senders and {} receivers are {legs} legs, more than {MAX_LEGS}",
                inputs.len(),
                receivers.len()
            );
            return Err(LineError::Sums { message });
        }
        let units = |amounts: &Amounts| amounts.iter().map(|(_, units)| *units).collect::<Vec<_>>();
        let matrix = shares(&units(&inputs), &units(&receivers))
            .ok_or_else(|| LineError::Sums { message: "the amounts are out of range".to_owned() })?;
        let mut found = Vec::new();
        let fee_column = receivers.len() - 1;
        for ((from, _), row) in inputs.iter().zip(&matrix) {
            for (column, ((to, _), units)) in receivers.iter().zip(row).enumerate() {
                // Between two scripts without an address nothing is known to move.
                if *units > 0 && (from.is_some() || to.is_some()) {
                    let kind = if column == fee_column { "fee" } else { "utxo" };
                    found.push(Leg { from: from.clone(), to: to.clone(), units: *units, kind });
                }
            }
        }
        Ok(found)
    }

    /// Compares a sum with the one that the file states, if it does.
    fn check_sum(&self, column: &'static str, stated: Option<&RawValue>, sum: u128) -> Result<(), LineError> {
        let text = JsonText::of(stated)?;
        let Some(text) = text.get() else { return Ok(()) };
        let stated = self.context.amount_in(Unit::Base, column, Some(text))? / self.context.smallest_unit();
        // bitcoin-etl writes 0 where it knows no inputs.
        if stated == sum || stated == 0 && sum == 0 {
            return Ok(());
        }
        Err(LineError::Sums { message: format!("column {column} is {text}, and its entries do not add up to it") })
    }
}

/// One movement of value.
struct Leg {
    from: Option<String>,
    to: Option<String>,
    units: u128,
    kind: &'static str,
}

impl RowParser for UtxoTransactions {
    fn parse(&mut self, _number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        let fields: UtxoTransaction<'_> = json::parse(line)?;
        let kind = JsonText::of(fields.kind)?;
        if let Some(kind) = other_kind(kind.get(), &OTHER_KINDS) {
            return Ok(Parsed::Skipped(kind));
        }
        let hash = JsonText::of(fields.hash)?;
        let tx_hash = self.context.hash("hash", hash.get())?;
        let block_number = bigint("block_number", JsonText::of(fields.block_number)?.get())?;
        let unix_seconds = self.context.time("block_timestamp", JsonText::of(fields.block_timestamp)?.get())?;
        let index = JsonText::of(fields.index)?;
        let transaction_index = index.get().map(|text| whole("index", text, INTEGER_LIMITS)).transpose()?;
        let block_hash = JsonText::of(fields.block_hash)?;
        let block_hash = block_hash.get().map(block_hash_of).transpose()?;
        let legs = self.legs(&fields)?;
        let coins = fields.inputs.iter().chain(&fields.outputs).flatten();
        let has_none = |coin: &&Coin<'_>| coin.addresses.as_deref().is_none_or(|addresses| addresses.len() != 1);
        self.without_address = u64::try_from(coins.filter(has_none).count()).unwrap_or(u64::MAX);
        if legs.is_empty() && self.without_address > 0 {
            let message = "no input or output has an address, so that no wallet is known to move value".to_owned();
            return Err(LineError::Sums { message });
        }
        for leg in &legs {
            let row = TransactionRow {
                tx_hash: &tx_hash,
                block_number,
                transaction_index,
                unix_seconds,
                from: leg.from.as_deref().unwrap_or_default(),
                to: leg.to.as_deref(),
                units: leg.units * self.context.smallest_unit(),
                status: RowStatus::Confirmed,
                block_hash: block_hash.as_deref(),
                ..TransactionRow::default()
            };
            row.encode_leg(self.context.network(), leg.kind, out);
        }
        match u32::try_from(legs.len()) {
            Ok(0) | Err(_) => Ok(Parsed::Nothing),
            Ok(count) => Ok(Parsed::Rows { unix_seconds: Some(unix_seconds), count }),
        }
    }

    fn note(&self) -> Option<(&'static str, u64)> {
        (self.without_address > 0).then_some((WITHOUT_ADDRESS, self.without_address))
    }
}

#[cfg(test)]
mod tests {
    use arx_core::address::Network;

    use super::super::decode;
    use super::*;

    const A: &str = "1A9rUSBVpB4L29qy37ghpZupCcjSH45CJt";
    const B: &str = "12QMuBxm3yfweYZfxRDw92H8JABFGEJhny";
    const C: &str = "3Fp4xbhd1PeNvWq5EuQJy2m1THaAnTFwSb";

    fn legs(inputs: &str, outputs: &str, more: &str) -> Result<Vec<(String, String, String, String)>, String> {
        let context = Context::new(Network::parse("bitcoin").unwrap(), 8, 1_798_000_000);
        let line = format!(
            r#"{{"type": "transaction", "hash": "ab", "block_number": 7, "block_timestamp": 1683029999, "index": 3,
            "inputs": [{inputs}], "outputs": [{outputs}]{more}}}"#
        );
        let mut out = TupleBuffer::default();
        UtxoTransactions::new(context).parse(1, &line, &mut out).map_err(|error| error.to_string())?;
        let text = |value: &Option<Vec<u8>>| {
            value.as_ref().map_or("-".to_owned(), |value| String::from_utf8(value.clone()).unwrap())
        };
        let rows = decode::tuples(&out.into_bytes());
        Ok(rows
            .iter()
            .map(|row| (text(&row[5]), text(&row[6]), decode::numeric(row[7].as_ref().unwrap()), text(&row[13])))
            .collect())
    }

    fn coin(address: &str, value: u64) -> String {
        format!(r#"{{"addresses": ["{address}"], "value": {value}, "index": 0}}"#)
    }

    #[test]
    fn legs_share_outputs_and_fee_to_the_satoshi() {
        let inputs = [coin(A, 2), coin(B, 1), coin(A, 4)].join(",");
        let found = legs(&inputs, &coin(C, 5), r#", "input_value": 7, "output_value": 5"#).unwrap();
        let amount = |satoshi: u32| format!("0.{satoshi:08}0000000000");
        let leg =
            |from: &str, to: &str, satoshi, kind: &str| (from.into(), to.into(), amount(satoshi), kind.to_owned());
        assert_eq!(found, [leg(A, C, 4, "utxo"), leg(A, "-", 2, "fee"), leg(B, C, 1, "utxo")]);
    }

    #[test]
    fn mined_coins_have_no_sender() {
        let found = legs("", &coin(A, 625_000_000), r#", "is_coinbase": true, "input_value": 0"#).unwrap();
        assert_eq!(found, [("-".into(), A.into(), "6.250000000000000000".into(), "coinbase".into())]);
    }

    #[test]
    fn scripts_without_an_address_keep_their_name_and_no_leg_is_without_ends() {
        let script = coin("nonstandard00ffab", 5);
        assert_eq!(legs("", &script, r#", "is_coinbase": true"#).unwrap()[0].1, "nonstandard00ffab");
        assert_eq!(legs(&script, &coin(A, 5), "").unwrap()[0].0, "nonstandard00ffab");
        let nameless = r#"{"addresses": [], "value": 5}"#;
        let mixed = [coin(A, 4), nameless.to_owned()].join(",");
        let found = legs("", &mixed, r#", "is_coinbase": true"#).unwrap();
        assert_eq!((found.len(), found[0].1.as_str()), (1, A), "the other output is counted");
        for (inputs, more) in [("", r#", "is_coinbase": true"#), (nameless, "")] {
            assert!(legs(inputs, nameless, more).unwrap_err().contains("no input or output has an address"));
        }
        let context = Context::new(Network::parse("bitcoin").unwrap(), 8, 1_798_000_000);
        let mut parser = UtxoTransactions::new(context);
        let line = format!(
            r#"{{"hash": "ab", "block_number": 7, "block_timestamp": 1683029999, "inputs": [{}], "outputs": [{nameless}]}}"#,
            coin(A, 5)
        );
        parser.parse(1, &line, &mut TupleBuffer::default()).unwrap();
        assert_eq!(parser.note(), Some((WITHOUT_ADDRESS, 1)));
    }

    #[test]
    fn what_does_not_add_up_is_rejected_whole() {
        for (inputs, outputs, more, expected) in [
            (coin(A, 4), coin(B, 5), "", "exceed"),
            (coin(A, 4), coin(B, 3), r#", "output_value": 4"#, "output_value"),
            (r#"{"index": 0}"#.to_owned(), coin(B, 3), "", "enrich_transactions"),
            (coin("no address", 4), coin(B, 3), "", "no address"),
        ] {
            let error = legs(&inputs, &outputs, more).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn scripts_of_several_owners_have_no_address() {
        let shared = format!(r#"{{"addresses": ["{A}", "{B}"], "value": 4}}"#);
        let found = legs(&coin(A, 4), &shared, "").unwrap();
        assert_eq!((found[0].0.as_str(), found[0].1.as_str(), found[0].3.as_str()), (A, "-", "utxo"));
    }
}
