//! Input of both sides, written twice: as ethereum-etl's CSV for ours, and as a CSV of the table's
//! columns for `psql \copy`, which converts nothing. The rows are real transactions of a large data
//! set if there is one, else of the sample.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use chrono::DateTime;
use flate2::read::GzDecoder;

/// Sender of the pseudo transactions of the genesis block.
const ZERO_ADDRESS: &str = "0x0000000000000000000000000000000000000000";

/// Columns of the CSV for `psql \copy`.
pub const TABLE_COLUMNS: &str = "network, tx_hash, block_number, transaction_index, \"timestamp\", from_address, to_address, value, gas_used, gas_price, status";

/// Source of the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSource {
    /// A data set in two files.
    Graph { transactions: PathBuf, nodes: PathBuf },
    /// The sample of the repository, repeated with other hashes up to the requested number of rows.
    Sample(PathBuf),
}

impl DataSource {
    /// Finds the data set in `chosen` or in its folder `eth_tx_graph`. Without a choice, returns
    /// the sample of this workspace.
    ///
    /// # Errors
    /// When the chosen folder does not contain the two files.
    pub fn find(chosen: Option<&Path>, workspace: &Path) -> Result<Self> {
        let Some(chosen) = chosen else {
            return Ok(Self::Sample(workspace.join("samples/ethereum/transactions.csv.gz")));
        };
        for folder in [chosen.to_owned(), chosen.join("eth_tx_graph")] {
            let (transactions, nodes) = (folder.join("transactions_slim.csv.gz"), folder.join("nodes.csv.gz"));
            if transactions.exists() && nodes.exists() {
                return Ok(Self::Graph { transactions, nodes });
            }
        }
        bail!(
            "{} does not contain transactions_slim.csv.gz and nodes.csv.gz; scripts/find-data describes the data",
            chosen.display()
        );
    }

    /// Returns the number of its rows.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn rows(&self) -> Result<u64> {
        let (Self::Graph { transactions: path, .. } | Self::Sample(path)) = self;
        Ok(open(path)?.into_byte_records().count() as u64)
    }

    /// Returns the file of labels for its addresses, if it exists.
    #[must_use]
    pub fn labels(&self) -> Option<PathBuf> {
        match self {
            Self::Graph { .. } => self.neighbour("labels/address_labels.csv.gz"),
            Self::Sample(path) => Some(path.with_file_name("labels.csv.gz")).filter(|path| path.exists()),
        }
    }

    /// Returns the file of wallets with known class, illicit or licit, if it exists.
    #[must_use]
    pub fn cases(&self) -> Option<PathBuf> {
        let Self::Graph { transactions, .. } = self else { return None };
        Some(transactions.with_file_name("labels_train.csv")).filter(|path| path.exists())
    }

    /// Returns AMLSim's data set of planted cycles, if it exists.
    #[must_use]
    pub fn amlsim(&self) -> Option<PathBuf> {
        self.neighbour("amlsim/20K_cycle200.tgz")
    }

    /// Returns a file of the folder that contains the data set's folder.
    fn neighbour(&self, path: &str) -> Option<PathBuf> {
        let Self::Graph { transactions, .. } = self else { return None };
        Some(transactions.parent()?.parent()?.join(path)).filter(|path| path.exists())
    }

    /// Name of the source in the report.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Graph { .. } => "eltontay/Ethereum-Fraud-Detection",
            Self::Sample(_) => "the sample, repeated",
        }
    }
}

/// The two files with the same rows.
#[derive(Debug)]
pub struct PreparedData {
    /// ethereum-etl's CSV.
    pub etl: PathBuf,
    /// The CSV of [`TABLE_COLUMNS`].
    pub table: PathBuf,
    pub rows: u64,
    /// First and last block time, unix seconds.
    pub times: (i64, i64),
}

/// A transaction in text form.
struct Transaction<'a> {
    hash: &'a str,
    block_number: &'a str,
    from_address: &'a str,
    to_address: &'a str,
    value_wei: &'a str,
    gas_price: &'a str,
    timestamp: &'a str,
    gas_used: &'a str,
    succeeded: bool,
}

struct DataWriter {
    etl: csv::Writer<File>,
    table: csv::Writer<File>,
    rows: u64,
    times: (i64, i64),
    /// Rows of each block so far.
    in_block: HashMap<String, u32>,
}

impl DataWriter {
    fn create(etl: &Path, table: &Path) -> Result<Self> {
        let open = |path: &Path| csv::Writer::from_path(path).with_context(|| format!("create {}", path.display()));
        let mut etl = open(etl)?;
        etl.write_record([
            "hash",
            "block_number",
            "transaction_index",
            "from_address",
            "to_address",
            "value",
            "gas_price",
            "block_timestamp",
            "receipt_gas_used",
            "receipt_status",
        ])?;
        Ok(Self { etl, table: open(table)?, rows: 0, times: (i64::MAX, i64::MIN), in_block: HashMap::new() })
    }

    fn write(&mut self, row: &Transaction<'_>) -> Result<()> {
        let unix: i64 = row.timestamp.parse().with_context(|| format!("read the block time {:?}", row.timestamp))?;
        let time = DateTime::from_timestamp(unix, 0)
            .ok_or_else(|| anyhow!("the block time {unix} is out of range"))?
            .to_rfc3339();
        // The source has the transactions of a block in their order, and no index.
        let index = self.in_block.entry(row.block_number.to_owned()).or_default();
        let transaction_index = index.to_string();
        *index += 1;
        self.etl.write_record([
            row.hash,
            row.block_number,
            &transaction_index,
            row.from_address,
            row.to_address,
            row.value_wei,
            row.gas_price,
            row.timestamp,
            row.gas_used,
            if row.succeeded { "1" } else { "0" },
        ])?;
        self.table.write_record([
            "ethereum",
            row.hash,
            row.block_number,
            &transaction_index,
            &time,
            row.from_address,
            row.to_address,
            &ether(row.value_wei),
            row.gas_used,
            row.gas_price,
            if row.succeeded { "confirmed" } else { "failed" },
        ])?;
        self.rows += 1;
        self.times = (self.times.0.min(unix), self.times.1.max(unix));
        Ok(())
    }
}

/// Writes both files into a folder, with `wanted` rows spread over the whole source, or all rows if
/// it has fewer.
///
/// # Errors
/// When the source cannot be read or a file cannot be written.
pub fn prepare(source: &DataSource, wanted: u64, folder: &Path) -> Result<PreparedData> {
    let (etl, table) = (folder.join("etl.csv"), folder.join("table.csv"));
    let mut writer = DataWriter::create(&etl, &table)?;
    match source {
        DataSource::Graph { transactions, nodes } => from_graph(transactions, nodes, wanted, &mut writer)?,
        DataSource::Sample(path) => from_sample(path, wanted, &mut writer)?,
    }
    writer.etl.flush().context("write the CSV for ours")?;
    writer.table.flush().context("write the CSV for psql")?;
    ensure!(writer.rows > 0, "{source:?} contains no rows");
    Ok(PreparedData { etl, table, rows: writer.rows, times: writer.times })
}

fn open(path: &Path) -> Result<csv::Reader<impl Read + use<>>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    Ok(csv::Reader::from_reader(GzDecoder::new(file)))
}

fn from_graph(transactions: &Path, nodes: &Path, wanted: u64, writer: &mut DataWriter) -> Result<()> {
    let mut addresses = Vec::new();
    for row in open(nodes)?.into_records() {
        let row = row.context("read a node")?;
        let address = field(&row, 1)?;
        addresses.push(if address == "genesis" { ZERO_ADDRESS.to_owned() } else { address.to_owned() });
    }
    let address = |number: &str| -> Result<&str> {
        let index: usize = number.parse().with_context(|| format!("read the node number {number:?}"))?;
        addresses.get(index).map(String::as_str).ok_or_else(|| anyhow!("node {index} does not exist"))
    };
    let total = open(transactions)?.into_byte_records().count() as u64;
    let mut taken = 0;
    for (index, row) in open(transactions)?.into_records().enumerate() {
        // Row i is taken when i * wanted / total reaches a new integer: exactly `wanted` rows,
        // evenly spread.
        if wanted < total {
            if (index as u64 + 1) * wanted / total == taken {
                continue;
            }
            taken += 1;
        }
        let row = row.context("read a transaction")?;
        let to = field(&row, 4)?;
        writer.write(&Transaction {
            hash: &format!("tx:{}", field(&row, 0)?),
            block_number: field(&row, 1)?,
            timestamp: field(&row, 2)?,
            from_address: address(field(&row, 3)?)?,
            to_address: if to.is_empty() { "" } else { address(to)? },
            value_wei: field(&row, 5)?,
            gas_price: field(&row, 6)?,
            gas_used: field(&row, 7)?,
            succeeded: field(&row, 8)? == "0",
        })?;
    }
    Ok(())
}

fn from_sample(path: &Path, wanted: u64, writer: &mut DataWriter) -> Result<()> {
    for round in 0.. {
        let mut hashes = HashSet::new();
        for row in open(path)?.into_records() {
            if writer.rows == wanted {
                return Ok(());
            }
            let row = row.context("read the sample")?;
            ensure!(hashes.insert(field(&row, 0)?.to_owned()), "the sample contains {} twice", field(&row, 0)?);
            writer.write(&Transaction {
                hash: &format!("{}{round:04}", field(&row, 0)?),
                block_number: field(&row, 1)?,
                from_address: field(&row, 2)?,
                to_address: field(&row, 3)?,
                value_wei: field(&row, 4)?,
                gas_price: field(&row, 5)?,
                timestamp: field(&row, 6)?,
                gas_used: field(&row, 7)?,
                succeeded: field(&row, 8)? == "1",
            })?;
        }
    }
    Ok(())
}

fn field(row: &csv::StringRecord, index: usize) -> Result<&str> {
    row.get(index).ok_or_else(|| anyhow!("a row with {} columns has no column {}", row.len(), index + 1))
}

/// Converts wei to ether exactly: the decimal point moves by 18 digits.
fn ether(wei: &str) -> String {
    let padded = format!("{wei:0>19}");
    let (whole, fraction) = padded.split_at(padded.len() - 18);
    format!("{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wei_are_converted_to_ether_exactly() {
        assert_eq!(ether("0"), "0.000000000000000000");
        assert_eq!(ether("1"), "0.000000000000000001");
        assert_eq!(ether("400030000000000000000"), "400.030000000000000000");
    }

    #[test]
    fn the_sample_is_repeated_up_to_the_requested_number() {
        let folder = tempfile_folder("repeat");
        let workspace = arx_stack::programs::workspace();
        let source = DataSource::Sample(workspace.join("samples/ethereum/transactions.csv.gz"));
        let prepared = prepare(&source, 20_000, &folder).unwrap();
        assert_eq!(prepared.rows, 20_000);
        let hashes: HashSet<String> = csv::Reader::from_path(&prepared.etl)
            .unwrap()
            .into_records()
            .map(|row| row.unwrap().get(0).unwrap().to_owned())
            .collect();
        assert_eq!(hashes.len(), 20_000);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_chosen_folder_without_the_files_is_an_error() {
        let missing = Path::new("/nonexistent");
        assert!(DataSource::find(Some(missing), missing).unwrap_err().to_string().contains("/nonexistent"));
        assert!(matches!(DataSource::find(None, missing).unwrap(), DataSource::Sample(_)));
    }

    fn tempfile_folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("arx-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}
