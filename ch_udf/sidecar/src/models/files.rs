//! A graph and labels out of files, without a database: what scorecards are fitted on, and what a
//! database is held against.
//!
//! Transactions come in the two-file form, or with their addresses in one file; they and label
//! lists are read as [`import`](crate::import) reads them. A line that an import would reject is
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
    Uninterrupted, WalletId,
};
use arx_core::label::{self, LabelKind, SANCTIONS, Severity};
use arx_core::risk::OwnLabel;

use super::RiskError;
use crate::import::offline::{self, TransactionFiles};

/// Microseconds of a second.
const SECOND: i64 = 1_000_000;

/// A wallet of which a file says what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NamedCase {
    /// The wallet.
    pub wallet: WalletId,
    /// Whether it is illicit.
    pub illicit: bool,
    /// Whether it is measured apart.
    pub in_stratum: bool,
}

/// Cases that have a value in a column: they are measured apart, and fitted like all others.
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
    /// Every label, in the order of the list.
    pub kinds: Vec<(WalletId, LabelKind)>,
    /// The label of each wallet that weighs most, as `arx.current_labels` has it.
    pub own: HashMap<WalletId, OwnLabel>,
    /// Lines left out, beside those of other networks.
    pub rejected: u64,
}

/// A graph read from files.
pub(crate) struct Offline {
    base: Base<HeapBuffer>,
    overlay: Overlay,
    network: Network,
    /// Lines left out.
    pub rejected: u64,
}

impl Offline {
    /// Reads transactions, and the addresses of their nodes where they have nodes. `now` bounds
    /// what times a file may have.
    ///
    /// # Errors
    /// [`RiskError::Import`], [`RiskError::Graph`].
    pub(crate) fn read(
        transactions: &Path,
        nodes: Option<&Path>,
        network: &Network,
        decimals: u32,
        now: i64,
    ) -> Result<Self, RiskError> {
        let built = |error: &dyn std::error::Error| RiskError::Graph { message: error.to_string() };
        let mut builder = Builder::new(HeapScratch).map_err(|error| built(&error))?;
        let push = |row: crate::import::Transaction<'_>| {
            let status = if row.failed { Status::Failed } else { Status::Confirmed };
            let position = Position { block: row.block_number.unsigned_abs(), ..Position::default() };
            let row = TransferRow {
                network: network.name(),
                from: row.from,
                to: row.to,
                token: None,
                time: row.unix_seconds.saturating_mul(SECOND),
                value: U256::new(row.units),
                position,
                status,
            };
            builder.push(&row).map_err(|error| built(&error))
        };
        let files = TransactionFiles { transactions, nodes, network, decimals, now_unix_seconds: now };
        let rejected = offline::each_transaction(&files, push)?;
        let plan = builder.finish(&mut Uninterrupted).map_err(|error| built(&error))?;
        let sink = HeapSink::default();
        // this graph serves no database
        let provenance = Provenance {
            system_identifier: 0,
            timeline: 0,
            database: 0,
            relation: 0,
            epoch: 0,
            generation: 0,
            built_at: 0,
            build_millis: 0,
            boot_id: [0; 16],
            snapshot: String::new(),
        };
        plan.write(&provenance, &sink, &mut Uninterrupted).map_err(|error| built(&error))?;
        let base = Base::open(sink.into_file().0).map_err(|error| built(&error))?;
        Ok(Self { base, overlay: Overlay::new(), network: network.clone(), rejected })
    }

    /// The graph.
    #[must_use]
    pub(crate) fn graph(&self) -> Graph<'_> {
        Graph::new(&self.base, &self.overlay)
    }

    /// Its network.
    #[must_use]
    pub(crate) const fn network(&self) -> &Network {
        &self.network
    }

    /// A wallet by its address, normalised or not; `None` for what is no address or has no
    /// transaction.
    ///
    /// # Errors
    /// [`RiskError::Graph`].
    pub(crate) fn wallet(&self, address: &str) -> Result<Option<WalletId>, RiskError> {
        let Ok(address) = Address::parse(address, &self.network) else { return Ok(None) };
        let wallet = self.graph().wallet(self.network.name(), address.as_str());
        wallet.map_err(|error| RiskError::Graph { message: error.to_string() })
    }

    /// Whether wallets are illicit, out of a CSV with the columns `address` and `is_illicit` (0 or
    /// 1). Of other columns only the one that makes up the stratum is looked at. Wallets without a
    /// transaction are left out.
    ///
    /// # Errors
    /// [`RiskError::Csv`], [`RiskError::Label`], [`RiskError::Column`], [`RiskError::Graph`], and
    /// those of reading.
    pub(crate) fn cases(&self, path: &Path, stratum: Option<&Stratum>) -> Result<Vec<NamedCase>, RiskError> {
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
                found => {
                    let (file, found) = (path.display().to_string(), found.to_owned());
                    return Err(RiskError::Label { file, line: number + 2, found });
                }
            };
            let in_stratum = match stratum {
                Some(stratum) => column(&stratum.column)? == stratum.value,
                None => false,
            };
            if let Some(wallet) = self.wallet(column("address")?)? {
                cases.push(NamedCase { wallet, illicit, in_stratum });
            }
        }
        Ok(cases)
    }

    /// The illicit wallets and the services of a label list (see `arx-sidecar import labels`), by
    /// the categories that ARX ships.
    ///
    /// # Errors
    /// [`RiskError::Import`], [`RiskError::Graph`].
    pub(crate) fn labels(&self, path: &Path) -> Result<FileLabels, RiskError> {
        /// What a label weighs, the heaviest first; then its source and its place in the list.
        type Weight = (bool, bool, std::cmp::Reverse<(Severity, u128)>, String);
        let mut labels = FileLabels::default();
        let mut heaviest: HashMap<WalletId, Weight> = HashMap::new();
        labels.rejected = offline::each_label(path, &self.network, |row| -> Result<(), RiskError> {
            let kind = label::CATEGORIES.iter().find(|one| one.name == row.category).map(|one| one.kind);
            let (Some(kind @ (LabelKind::Illicit | LabelKind::Service)), Ok(severity)) = (kind, row.severity.parse())
            else {
                return Ok(());
            };
            let found = self.graph().wallet(self.network.name(), row.address);
            let found = found.map_err(|error| RiskError::Graph { message: error.to_string() })?;
            let Some(wallet) = found else { return Ok(()) };
            labels.kinds.push((wallet, kind));
            let weight: Weight = (
                row.category != SANCTIONS,
                kind != LabelKind::Illicit,
                std::cmp::Reverse((severity, row.confidence)),
                row.source.to_owned(),
            );
            if heaviest.get(&wallet).is_none_or(|known| weight < *known) {
                heaviest.insert(wallet, weight);
                let (category, source) = (row.category.to_owned(), row.source.to_owned());
                labels.own.insert(wallet, OwnLabel { category, kind, severity, source });
            }
            Ok(())
        })?;
        Ok(labels)
    }
}

/// The rows of a CSV, plain or gzip.
fn rows<T: serde::de::DeserializeOwned + 'static>(
    path: &Path,
) -> Result<csv::DeserializeRecordsIntoIter<Box<dyn BufRead + Send>, T>, RiskError> {
    let source = crate::import::open_text(path)?;
    Ok(csv::Reader::from_reader(source).into_deserialize())
}

/// Files that hold a graph.
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
    /// Reads the graph.
    ///
    /// # Errors
    /// [`RiskError::Network`], and those of [`Offline::read`].
    pub(crate) fn read(&self) -> Result<Offline, RiskError> {
        let network =
            Network::parse(&self.network).map_err(|error| RiskError::Network { message: error.to_string() })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let offline = Offline::read(&self.transactions, self.nodes.as_deref(), &network, self.decimals, now)?;
        if offline.rejected > 0 {
            let (lines, file) = (offline.rejected, self.transactions.display());
            tracing::warn!(lines, %file, "skipped lines that an import would reject");
        }
        Ok(offline)
    }

    /// Reads the labels of the graph's wallets; no labels without a label list.
    ///
    /// # Errors
    /// Those of [`Offline::labels`].
    pub(crate) fn read_labels(&self, offline: &Offline) -> Result<FileLabels, RiskError> {
        let Some(path) = &self.labels else { return Ok(FileLabels::default()) };
        let labels = offline.labels(path)?;
        if labels.rejected > 0 {
            let (lines, file) = (labels.rejected, path.display());
            tracing::warn!(lines, %file, "skipped lines that an import would reject");
        }
        Ok(labels)
    }
}
