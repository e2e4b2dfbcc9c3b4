//! AMLSim's synthetic bank: transfers by day, and accounts, some of which are marked as fraudulent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use arx_stack::process::run;
use arx_stack::{Database, Stack};
use bytes::Bytes;
use serde::Deserialize;

use crate::graph::{load, side};

/// Name of the network, whose addresses are opaque.
pub const NETWORK: &str = "amlsim";

/// First and last day with a partition. Step 1 is the second day.
const DAYS: (&str, &str) = ("2019-01-01", "2019-12-31");

/// A row of `transactions.csv`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AmlsimTransfer {
    #[serde(rename = "sourceNodeId")]
    pub source: String,
    #[serde(rename = "targetNodeId")]
    pub target: String,
    /// Amount in text form.
    pub value: String,
    /// Step, counted from one.
    pub time: u32,
}

#[derive(Debug, Deserialize)]
struct AmlsimAccount {
    nodeid: String,
    #[serde(rename = "isFraud")]
    is_fraud: u8,
}

/// The loaded data set.
#[derive(Debug)]
pub struct AmlSim<'a> {
    pub database: Database<'a>,
    /// Name in the report, with the number of transfers.
    pub name: String,
    pub transfers: Vec<AmlsimTransfer>,
    /// Accounts marked as fraudulent.
    pub fraudulent: BTreeSet<String>,
    /// Folder for files that peers read.
    pub folder: PathBuf,
}

/// Accounts of a cycle in the order of its transfers, beginning with the smallest.
pub type Cycle = Vec<String>;

/// Loads the set from its archive.
///
/// # Errors
/// When it cannot be read or loaded.
pub async fn load<'a>(stack: &'a Stack, archive: &Path) -> Result<AmlSim<'a>> {
    eprintln!("loading {}", archive.display());
    let folder = stack.folder().join("amlsim");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    run(Command::new("tar").arg("-xzf").arg(archive).args(["--strip-components=1", "-C"]).arg(&folder))?;
    let transfers: Vec<AmlsimTransfer> = read(&folder.join("transactions.csv"))?;
    let accounts: Vec<AmlsimAccount> = read(&folder.join("nodes.csv"))?;
    let fraudulent =
        accounts.into_iter().filter(|account| account.is_fraud == 1).map(|account| account.nodeid).collect();

    let database = stack.database(NETWORK)?;
    let (first, last) = DAYS;
    database.query(&format!(
        "INSERT INTO arx.networks (network, native_asset, native_decimals) VALUES ('{NETWORK}', 'COIN', 2); \
         SELECT arx.ensure_partitions('arx.transactions', '{first}', '{last}')"
    ))?;
    let client = side::session(&database, "").await?;
    let rows = transfers.iter().enumerate().map(|(number, transfer)| {
        let AmlsimTransfer { source, target, value, time } = transfer;
        let day = chrono::NaiveDate::from_ymd_opt(2019, 1, 1)
            .and_then(|day| day.checked_add_days(chrono::Days::new((*time).into())));
        let day = day.unwrap_or_default();
        Bytes::from(format!(
            "{NETWORK}\tt{number}\t{time}\t{day} 00:00:00+00\t{source}\t{target}\t{value}\tconfirmed\n"
        ))
    });
    let columns =
        "arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)";
    let loaded = load::copy_text(&client, columns, rows).await?;
    ensure!(loaded == transfers.len() as u64, "{loaded} of {} rows were loaded", transfers.len());
    database.query("VACUUM ANALYZE arx.transactions")?;
    database.query("SELECT arx.refresh_graph(rebuild => true)")?;
    let name = format!("{loaded} transfers of AMLSim's 20K_cycle200");
    Ok(AmlSim { database, name, transfers, fraudulent, folder })
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<T>> {
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("open {}", path.display()))?;
    reader.deserialize().collect::<Result<_, _>>().with_context(|| format!("read {}", path.display()))
}

/// Rotates a cycle so that it begins with the smallest account.
#[must_use]
pub fn rotated(mut accounts: Vec<String>) -> Cycle {
    let first = (0..accounts.len()).min_by_key(|index| &accounts[*index]).unwrap_or_default();
    accounts.rotate_left(first);
    accounts
}

impl AmlSim<'_> {
    /// Returns the planted cycles that are closed: simple cycles of three or more marked accounts,
    /// along transfers of the same amount. This is independent of the detector.
    #[must_use]
    pub fn planted(&self) -> BTreeSet<Cycle> {
        let mut by_value = BTreeMap::<&str, BTreeMap<&str, BTreeSet<&str>>>::new();
        for transfer in &self.transfers {
            let AmlsimTransfer { source, target, value, .. } = transfer;
            if self.fraudulent.contains(source) && self.fraudulent.contains(target) {
                by_value.entry(value).or_default().entry(source).or_default().insert(target);
            }
        }
        let mut cycles = BTreeSet::new();
        for next in by_value.values() {
            for start in next.keys() {
                walk(next, &mut vec![*start], &mut cycles);
            }
        }
        cycles
    }
}

/// Extends a path of accounts that begins with the smallest. Every path that returns to it is a
/// cycle.
fn walk<'a>(next: &BTreeMap<&'a str, BTreeSet<&'a str>>, path: &mut Vec<&'a str>, cycles: &mut BTreeSet<Cycle>) {
    let (Some(first), Some(last)) = (path.first().copied(), path.last().copied()) else { return };
    for account in next.get(last).into_iter().flatten().copied() {
        if account == first && path.len() >= 3 {
            cycles.insert(path.iter().map(ToString::to_string).collect());
        } else if account > first && !path.contains(&account) {
            path.push(account);
            walk(next, path, cycles);
            path.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_begins_with_its_smallest_account() {
        let cycle = |accounts: &[&str]| accounts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(rotated(cycle(&["c", "a", "b"])), cycle(&["a", "b", "c"]));
        assert_eq!(rotated(Vec::new()), Vec::<String>::new());
    }

    #[test]
    fn every_simple_cycle_of_three_or_more_is_found_once() {
        let edges = [("a", "b"), ("b", "c"), ("c", "a"), ("b", "a"), ("c", "d"), ("d", "a"), ("d", "d")];
        let mut next = BTreeMap::<&str, BTreeSet<&str>>::new();
        for (from, to) in edges {
            next.entry(from).or_default().insert(to);
        }
        let mut cycles = BTreeSet::new();
        for start in next.keys() {
            walk(&next, &mut vec![*start], &mut cycles);
        }
        let cycles: Vec<String> = cycles.into_iter().map(|cycle| cycle.concat()).collect();
        assert_eq!(cycles, ["abc", "abcd"]);
    }
}
