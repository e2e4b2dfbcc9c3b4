//! Reads a graph and its labels from files, without a database: the input for fitting scorecards,
//! and the reference for a database.
//!
//! Transactions come in the two-file form, or with their addresses in one file. They and label
//! lists are parsed as by [`import`](crate::import), and a line that an import would reject is
//! counted and left out here, too.

use std::collections::HashMap;
use std::fmt;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use arx_core::address::{Address, Network};
use arx_core::graph::{
    Base, Builder, Graph, HeapBuffer, HeapScratch, HeapSink, Overlay, Position, Provenance, Status, TransferRow, U256,
    Uninterrupted, Upkeep, WalletId,
};
use arx_core::label::{self, LabelKind, SANCTIONS, Severity};
use arx_core::risk::OwnLabel;
use arx_core::risk::features::{HistoryCoverage, Period};

use super::RiskError;
use crate::error::DoingTo;
use crate::import::RowStatus;
use crate::import::offline::{self, TransactionFiles};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// A wallet that a file labels as illicit or licit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileCase {
    pub wallet: WalletId,
    pub illicit: bool,
    /// The case belongs to the stratum, which is measured separately as well.
    pub in_stratum: bool,
}

/// The cases with a given value in one column. They are fitted like all others and measured
/// separately as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stratum {
    column: String,
    value: String,
}

impl FromStr for Stratum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (column, value) = text.split_once('=').ok_or_else(|| format!("expected COLUMN=VALUE, not {text:?}"))?;
        Ok(Self { column: column.to_owned(), value: value.to_owned() })
    }
}

impl fmt::Display for Stratum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.column, self.value)
    }
}

/// The illicit wallets and the services of a label list.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileLabels {
    /// All labels, in the order of the list.
    pub kinds: Vec<(WalletId, LabelKind)>,
    /// The label of each wallet that weighs most, by the order of `arx.current_labels`.
    pub own: HashMap<WalletId, OwnLabel>,
    /// Rejected lines. Lines of other networks do not count.
    pub rejected: u64,
}

/// A graph read from files.
pub(crate) struct FileGraph {
    base: Base<HeapBuffer>,
    overlay: Overlay,
    network: Network,
    /// Rejected lines.
    pub rejected: u64,
}

impl FileGraph {
    /// Reads transactions, and the addresses of their nodes where they have nodes. Times after
    /// `now` are rejected.
    ///
    /// # Errors
    /// [`RiskError::Import`], [`RiskError::Build`], [`RiskError::Damaged`].
    pub(crate) fn read(
        transactions: &Path,
        nodes: Option<&Path>,
        network: &Network,
        decimals: u32,
        now: i64,
    ) -> Result<Self, RiskError> {
        let mut builder = Builder::new(HeapScratch, 0)?;
        let push = |row: crate::import::Transaction<'_>| -> Result<(), RiskError> {
            let status = match row.status {
                RowStatus::Unknown => Status::Unknown,
                RowStatus::Confirmed => Status::Confirmed,
                RowStatus::Failed => Status::Failed,
            };
            let position = Position { block: row.block_number.unsigned_abs(), ..Position::default() };
            let row = TransferRow {
                network: network.name(),
                from: Some(row.from),
                to: row.to,
                token: None,
                time: row.unix_seconds.saturating_mul(MICROS_PER_SECOND),
                value: U256::new(row.units),
                position,
                status,
            };
            Ok(builder.push(&row)?)
        };
        let files = TransactionFiles { transactions, nodes, network, decimals, now_unix_seconds: now };
        let rejected = offline::each_transaction(&files, push)?;
        let plan = builder.finish(&mut Uninterrupted)?;
        let sink = HeapSink::default();
        // This graph belongs to no database.
        let provenance = Provenance {
            system_identifier: 0,
            timeline: 0,
            database: 0,
            relation: 0,
            epoch: 0,
            epoch_snapshot: String::new(),
            generation: 0,
            built_at: 0,
            build_millis: 0,
            boot_id: [0; 16],
            snapshot: String::new(),
            upkeep: Upkeep::default(),
        };
        plan.write(&provenance, &sink, &mut Uninterrupted)?;
        let base = Base::open(sink.into_file().0)?;
        Ok(Self { base, overlay: Overlay::new(), network: network.clone(), rejected })
    }

    #[must_use]
    pub(crate) fn graph(&self) -> Graph<'_> {
        Graph::new(&self.base, &self.overlay)
    }

    #[must_use]
    pub(crate) const fn network(&self) -> &Network {
        &self.network
    }

    /// Finds a wallet by its address, normalised or not. Returns `None` for an invalid address and
    /// for one without a transaction.
    ///
    /// # Errors
    /// [`RiskError::Damaged`].
    pub(crate) fn wallet(&self, address: &str) -> Result<Option<WalletId>, RiskError> {
        let Ok(address) = Address::parse(address, &self.network) else { return Ok(None) };
        Ok(self.graph().wallet(self.network.name(), address.as_str())?)
    }

    /// Reads a list of addresses, one a line, whose histories are complete. Wallets without a
    /// transaction are left out.
    ///
    /// # Errors
    /// [`RiskError::Import`], [`RiskError::Address`], [`RiskError::Damaged`], and those of reading.
    pub(crate) fn complete_for(&self, path: &Path, histories: &mut HistoryCoverage) -> Result<(), RiskError> {
        for (number, line) in crate::import::open_text(path)?.lines().enumerate() {
            let line = line.doing_to("read", path)?;
            let text = line.trim();
            if text.is_empty() {
                continue;
            }
            let address = Address::parse(text, &self.network).map_err(|source| RiskError::Address {
                file: path.display().to_string(),
                line: number + 1,
                source: Box::new(source),
            })?;
            if let Some(wallet) = self.graph().wallet(self.network.name(), address.as_str())? {
                histories.state(Some(wallet), Period::ALWAYS);
            }
        }
        Ok(())
    }

    /// Reads the cases of a CSV with the columns `address` and `is_illicit` (0 or 1). Other columns
    /// are ignored, except for that of the stratum. Wallets without a transaction are left out.
    ///
    /// # Errors
    /// [`RiskError::Csv`], [`RiskError::Label`], [`RiskError::Column`], [`RiskError::Damaged`],
    /// and errors of reading.
    pub(crate) fn cases(&self, path: &Path, stratum: Option<&Stratum>) -> Result<Vec<FileCase>, RiskError> {
        let mut cases = Vec::new();
        for (number, line) in rows::<HashMap<String, String>>(path)?.enumerate() {
            let line = line.map_err(|source| RiskError::csv(path, number, source))?;
            let column = |name: &str| {
                line.get(name)
                    .map(String::as_str)
                    .ok_or_else(|| RiskError::Column { file: path.display().to_string(), column: name.to_owned() })
            };
            let illicit = match column("is_illicit")? {
                "0" => false,
                "1" => true,
                value => {
                    let (file, value) = (path.display().to_string(), value.to_owned());
                    return Err(RiskError::Label { file, line: number + 2, value });
                }
            };
            let in_stratum = match stratum {
                Some(stratum) => column(&stratum.column)? == stratum.value,
                None => false,
            };
            if let Some(wallet) = self.wallet(column("address")?)? {
                cases.push(FileCase { wallet, illicit, in_stratum });
            }
        }
        Ok(cases)
    }

    /// Reads the illicit wallets and the services of a label list (see `arx-sidecar import
    /// labels`), by the categories that ARX ships.
    ///
    /// # Errors
    /// [`RiskError::Import`], [`RiskError::Damaged`].
    pub(crate) fn labels(&self, path: &Path) -> Result<FileLabels, RiskError> {
        /// Sort key of a label, the heaviest first.
        type Weight = (bool, bool, std::cmp::Reverse<(Severity, u128)>, String);
        let mut labels = FileLabels::default();
        let mut heaviest: HashMap<WalletId, Weight> = HashMap::new();
        labels.rejected = offline::each_label(path, &self.network, |row| -> Result<(), RiskError> {
            let kind =
                label::CATEGORIES.iter().find(|category| category.name == row.category).map(|category| category.kind);
            let Some(kind @ (LabelKind::Illicit | LabelKind::Service)) = kind else { return Ok(()) };
            let severity = row.severity;
            let Some(wallet) = self.graph().wallet(self.network.name(), row.address)? else { return Ok(()) };
            labels.kinds.push((wallet, kind));
            let weight: Weight = (
                row.category != SANCTIONS,
                kind != LabelKind::Illicit,
                std::cmp::Reverse((severity, row.confidence)),
                row.source.to_owned(),
            );
            if heaviest.get(&wallet).is_none_or(|previous| weight < *previous) {
                heaviest.insert(wallet, weight);
                let (category, source) = (row.category.to_owned(), row.source.to_owned());
                labels.own.insert(wallet, OwnLabel { category, kind, severity, source });
            }
            Ok(())
        })?;
        Ok(labels)
    }
}

/// Opens a CSV, plain or gzip.
fn rows<T: serde::de::DeserializeOwned + 'static>(
    path: &Path,
) -> Result<csv::DeserializeRecordsIntoIter<Box<dyn BufRead + Send>, T>, RiskError> {
    let source = crate::import::open_text(path)?;
    Ok(csv::Reader::from_reader(source).into_deserialize())
}

/// Options that name the files of a graph.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct GraphFiles {
    /// Transactions, as `import graph` takes them, or, without --nodes, as `import transactions`
    /// does
    #[arg(long, value_name = "FILE")]
    pub(crate) transactions: PathBuf,
    /// The addresses of their nodes
    #[arg(long, value_name = "FILE")]
    pub(crate) nodes: Option<PathBuf>,
    /// Their network
    #[arg(long, default_value = "ethereum")]
    pub(crate) network: String,
    /// Decimals of its coin
    #[arg(long, default_value_t = 18)]
    pub(crate) decimals: u32,
    /// Label list, as `import labels` takes it
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
}

impl GraphFiles {
    pub(crate) fn read(&self) -> Result<FileGraph, RiskError> {
        let network = Network::parse(&self.network)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let file_graph = FileGraph::read(&self.transactions, self.nodes.as_deref(), &network, self.decimals, now)?;
        if file_graph.rejected > 0 {
            let (lines, file) = (file_graph.rejected, self.transactions.display());
            tracing::warn!(lines, %file, "skipped lines that an import would reject");
        }
        Ok(file_graph)
    }

    /// Reads the labels of the graph's wallets. Without a label list there are no labels.
    pub(crate) fn read_labels(&self, file_graph: &FileGraph) -> Result<FileLabels, RiskError> {
        let Some(path) = &self.labels else { return Ok(FileLabels::default()) };
        let labels = file_graph.labels(path)?;
        if labels.rejected > 0 {
            let (lines, file) = (labels.rejected, path.display());
            tracing::warn!(lines, %file, "skipped lines that an import would reject");
        }
        Ok(labels)
    }
}
