//! Transfers as the server has them in the caller's snapshot.

use arx_core::graph::{Transfers, TraversalError};

use super::{for_each_row, is_true};
use crate::convert::Wallet;
use crate::error::SqlError;

/// What a set of wallets sent, by receiver. A failed transaction connects, too: the attempt is the contact.
const OUTGOING: &str = "
SELECT t.to_address, count(*)
  FROM unnest($1::text[]) AS sender (address)
  JOIN arx.transactions AS t ON t.from_address = sender.address
 WHERE t.network = $2 AND t.to_address IS NOT NULL
 GROUP BY t.to_address";

const EXISTS: &str = "
SELECT EXISTS (SELECT FROM arx.transactions AS t WHERE t.from_address = $1 AND t.network = $2)
    OR EXISTS (SELECT FROM arx.transactions AS t WHERE t.to_address = $1 AND t.network = $2)";

/// Transfers of one network, read from `arx.transactions`.
pub struct ServerTransfers {
    network: String,
}

impl ServerTransfers {
    /// Reads the transfers of a network, by its canonical name.
    pub fn new(network: &str) -> Self {
        Self { network: network.to_owned() }
    }
}

impl Transfers for ServerTransfers {
    type Error = SqlError;

    fn outgoing<F>(&mut self, senders: &[&str], mut each: F) -> Result<(), TraversalError<SqlError>>
    where
        F: FnMut(&str, i64) -> Result<(), TraversalError<SqlError>>,
    {
        let senders: Vec<String> = senders.iter().map(|s| (*s).to_owned()).collect();
        for_each_row(OUTGOING, &[senders.into(), self.network.as_str().into()], |row| {
            let (receiver, count) = (row.required::<String>(1)?, row.required::<i64>(2)?);
            each(&receiver, count).map_err(SqlError::from)
        })
        .map_err(TraversalError::Source)
    }
}

/// Whether a wallet has any transaction.
pub fn wallet_exists(wallet: &Wallet) -> Result<bool, SqlError> {
    let arguments = [wallet.address.as_str().into(), wallet.network.name().into()];
    is_true(EXISTS, &arguments)
}
