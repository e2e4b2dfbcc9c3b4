//! Data sets that several cases share. Each is loaded when a case first needs it, so that a
//! filtered run loads only what it uses.

use anyhow::{Context, Result, ensure};
use arx_stack::process::run;
use arx_stack::{Database, Stack};

use crate::data::{DataSource, prepare};
use crate::graph::csr::Csr;
use crate::graph::dense::{DenseTransfer, DenseTransfers};
use crate::graph::{load, side};
use crate::shapes::amlsim::{self, AmlSim};

/// Number of transfers of the dense graph.
pub const DENSE_TRANSFERS: u64 = 2_000_000;
const DENSE_WALLETS: u32 = 200_000;
const DENSE_SEED: u64 = 3;

/// The whole source in `arx.transactions`.
#[derive(Debug)]
pub struct Real<'a> {
    pub database: Database<'a>,
    /// Name in the report, with the number of transactions.
    pub name: String,
    labelled: bool,
}

/// The dense graph: in `arx.transactions`, as pairs in memory, and as tables of integers for the
/// peers.
#[derive(Debug)]
pub struct Dense<'a> {
    pub database: Database<'a>,
    /// Name in the report, with the number of transactions.
    pub name: String,
    /// Distinct pairs of transfers that have moved their value.
    pub csr: Csr,
    /// Transfers after the loaded ones.
    pub later: DenseTransfers,
}

#[derive(Debug)]
pub struct Sets<'a> {
    pub stack: &'a Stack,
    pub source: &'a DataSource,
    real: Option<Real<'a>>,
    dense: Option<Dense<'a>>,
    amlsim: Option<AmlSim<'a>>,
}

impl<'a> Sets<'a> {
    #[must_use]
    pub const fn new(stack: &'a Stack, source: &'a DataSource) -> Self {
        Self { stack, source, real: None, dense: None, amlsim: None }
    }

    /// Returns the whole source with a built graph.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub async fn real(&mut self) -> Result<&mut Real<'a>> {
        let loaded = match self.real.take() {
            Some(loaded) => loaded,
            None => load_real(self.stack, self.source)?,
        };
        Ok(self.real.insert(loaded))
    }

    /// Returns the whole source with the labels of its addresses.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub async fn labelled(&mut self) -> Result<&mut Real<'a>> {
        let labels = self.source.labels().context("the data set has no labels")?;
        let real = self.real().await?;
        if !real.labelled {
            eprintln!("loading {}", labels.display());
            let mut command = real.database.sidecar()?;
            command.args(["import", "labels"]).arg(labels);
            command.arg("--rejects").arg(real.database.data_folder().join("label_rejects"));
            let output = command.output().context("start arx-sidecar")?;
            // Status 2 reports that some lines were rejected, as some of these lists' are.
            ensure!(
                matches!(output.status.code(), Some(0 | 2)),
                "the import of labels ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
            real.database.query("VACUUM ANALYZE arx.address_labels")?;
            real.labelled = true;
        }
        Ok(real)
    }

    /// Returns AMLSim's data set with a built graph.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub async fn amlsim(&mut self) -> Result<&mut AmlSim<'a>> {
        let loaded = match self.amlsim.take() {
            Some(loaded) => loaded,
            None => {
                let archive = self.source.amlsim().context("the data set has no AMLSim files")?;
                amlsim::load(self.stack, &archive).await?
            }
        };
        Ok(self.amlsim.insert(loaded))
    }

    /// Returns the dense graph with a built graph file.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub async fn dense(&mut self) -> Result<&mut Dense<'a>> {
        let loaded = match self.dense.take() {
            Some(loaded) => loaded,
            None => load_dense(self.stack).await?,
        };
        Ok(self.dense.insert(loaded))
    }

    /// Drops the dense graph's database to free its disk space.
    ///
    /// # Errors
    /// When it cannot be dropped.
    pub fn drop_dense(&mut self) -> Result<()> {
        self.dense.take().map_or(Ok(()), |dense| dense.database.drop_now())
    }
}

fn load_real<'a>(stack: &'a Stack, source: &DataSource) -> Result<Real<'a>> {
    eprintln!("loading all of {}", source.name());
    let database = stack.database("real")?;
    std::fs::create_dir_all(database.data_folder()).context("create the sidecar's folder")?;
    // With the index of each transaction in its block: otherwise the order of a block's transfers
    // would be unknown, and each side would have to infer it. The histories count as complete:
    // features that depend on transfers that were never loaded would be unknown.
    let prepared = prepare(source, source.rows()?, database.data_folder())?;
    let mut command = database.sidecar()?;
    command.args(["import", "transactions", "--complete-network"]).arg(&prepared.etl);
    run(command.arg("--rejects").arg(database.data_folder().join("rejects")))?;
    for file in [&prepared.etl, &prepared.table] {
        std::fs::remove_file(file).with_context(|| format!("remove {}", file.display()))?;
    }
    database.query("VACUUM ANALYZE arx.transactions")?;
    let rows = database.query("SELECT transfers FROM arx.refresh_graph(rebuild => true)")?;
    Ok(Real { database, name: format!("{rows} transfers of {}", source.name()), labelled: false })
}

async fn load_dense(stack: &Stack) -> Result<Dense<'_>> {
    eprintln!("loading the dense graph");
    let database = stack.database("dense")?;
    load::ensure_months(&database)?;
    let client = side::session(&database, "").await?;
    let mut later = DenseTransfers::new(DENSE_SEED, DENSE_WALLETS);
    let rows = later.by_ref().take(DENSE_TRANSFERS as usize);
    let loaded = load::copy(&client, "arx.transactions", rows, DENSE_TRANSFERS).await?;
    ensure!(loaded == DENSE_TRANSFERS, "{loaded} of {DENSE_TRANSFERS} rows were loaded");
    let transfers = DenseTransfers::new(DENSE_SEED, DENSE_WALLETS).take(DENSE_TRANSFERS as usize);
    let csr = Csr::new(
        DENSE_WALLETS,
        transfers.filter(DenseTransfer::has_moved).map(|transfer| (transfer.source, transfer.target)).collect(),
    );
    database.query("VACUUM ANALYZE arx.transactions")?;
    database.query("SELECT arx.refresh_graph(rebuild => true)")?;
    let name = format!("{DENSE_TRANSFERS} transfers among {DENSE_WALLETS} wallets, dense, seed {DENSE_SEED}");
    Ok(Dense { database, name, csr, later })
}
