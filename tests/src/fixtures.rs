//! Data for tests: the sample of real transactions, and single transactions of the network
//! `testnet`.

use std::path::{Path, PathBuf};

use arx_stack::process::run;
use arx_stack::{Database, programs};

/// Registers the network `testnet`, whose addresses are any text.
pub const TESTNET: &str = "INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');";

/// Returns the path of a file of the sample.
#[must_use]
pub fn sample(file: &str) -> PathBuf {
    programs::workspace().join("samples/ethereum").join(file)
}

/// Imports the sample's transactions and labels.
///
/// # Panics
/// When the sidecar fails.
pub fn import_sample(database: &Database<'_>) {
    import(database, &["transactions"], &sample("transactions.csv.gz"));
    import(database, &["labels"], &sample("labels.csv.gz"));
}

/// Runs `arx-sidecar import ARGUMENTS FILE`, with rejected lines in the folder of the sidecar.
///
/// # Panics
/// When the sidecar fails.
pub fn import(database: &Database<'_>, arguments: &[&str], file: &Path) {
    std::fs::create_dir_all(database.data_folder()).unwrap();
    let rejects = database.data_folder().join(format!("{}.rejects", arguments[0]));
    run(database.sidecar().unwrap().arg("import").args(arguments).arg(file).arg("--rejects").arg(rejects)).unwrap();
}

/// Returns the statement that inserts one transaction of `testnet`, on 2024-01-03.
#[must_use]
pub fn insert(hash: &str, from: &str, to: &str, value: f64) -> String {
    insert_into("testnet", hash, from, to, value)
}

/// [`insert`] for any network.
#[must_use]
pub fn insert_into(network: &str, hash: &str, from: &str, to: &str, value: f64) -> String {
    format!(
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
         VALUES ('{network}', '{hash}', 3, '2024-01-03', '{from}', '{to}', {value});"
    )
}
