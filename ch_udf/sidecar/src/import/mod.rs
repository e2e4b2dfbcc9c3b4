//! `arx-sidecar import`: loads files into PostgreSQL. Reads transactions, receipts, traces and
//! token transfers of ethereum-etl, transactions of bitcoin-etl, edge lists, exports and API
//! answers of explorers, and the two-file form of transaction graphs; plain, gzip or
//! zstd, from files or standard input.
//!
//! A thread reads and parses (`read`, `parse`), a task loads (`load`); a bounded channel between
//! the two lets them overlap with bounded memory. Each chunk is one database transaction that also
//! stores the position in the source (`arx.import_progress`), so an interrupted import continues
//! exactly after its last commit. A row whose key is stored is compared with the stored one: it
//! updates the row if it knows more, and is rejected if it contradicts it. An invalid line goes to
//! a rejects file and affects no other line, except those of the same transaction where a
//! transaction has several.
//!
//! A record never spans lines: line numbers stay correct, and an unclosed quote cannot swallow the
//! rest of a file. In a JSON array a line is an element.

mod error;
pub(crate) mod labels;
mod load;
pub(crate) mod offline;
mod parse;
#[cfg(test)]
mod pipeline_tests;
mod read;
mod request;

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use crate::servers::postgres::Source;
use crate::settings::Settings;
use arx_core::address::{Address, NetworkFamily};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

pub(crate) use error::ImportError;
use load::database::{self, Start};
use load::lanes::Lanes;
pub(crate) use load::loader::Tally;
use load::loader::{self, Loader, Progress};
use load::meter::Meter;
pub(crate) use load::meter::rate;
use load::postgres_sink::{Mode, PostgresSink};
use load::rejects::{self, RejectsFile};
pub(crate) use parse::fields::Mapping;
pub(crate) use parse::kind::StatedKind;
pub(crate) use parse::transactions::RowStatus;
pub(crate) use parse::transactions::TransactionRow as Transaction;
pub(crate) use parse::transfers::TokenRules;
pub(crate) use parse::values::Unit;
use read::reader::{self, Reading};
use read::{chunk, input};
pub(crate) use request::Format;
pub(crate) use request::{FileOptions, ImportSource, NetworkFile, Request};

/// Chunks queued between reader and loader: one is loaded, one waits, one is built.
const CHUNKS_AHEAD: usize = 1;

/// Outcome of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImportReport {
    /// The file, or `standard input`.
    pub file: String,
    /// True when an earlier import had finished the source, so that nothing was done.
    pub already_finished: bool,
    /// True when nothing was written.
    pub check: bool,
    /// Lines that an earlier, interrupted import had committed.
    pub lines_before: u64,
    pub tally: Tally,
    /// True when amounts are taken for smallest units because nothing states their unit.
    pub assumes_smallest_unit: bool,
    /// Columns of the file that the import does not read.
    pub unused_columns: Vec<String>,
    pub elapsed: Duration,
    /// The rejects file, unless it is empty.
    pub rejects: Option<PathBuf>,
    /// Rejected lines that are not in that file: it has reached its limits, or a later line made
    /// them invalid.
    pub unlisted: u64,
}

impl ImportReport {
    /// Returns the rate at which rows were imported, updated or found unchanged.
    pub(crate) fn rows_per_second(&self) -> u64 {
        rate(self.tally.imported + self.tally.updated + self.tally.unchanged, self.elapsed)
    }

    /// Returns true if every line is imported, updated, unchanged or without value, and there was
    /// one.
    pub(crate) fn is_complete(&self) -> bool {
        let tally = &self.tally;
        let rows = tally.imported + tally.updated + tally.unchanged;
        self.already_finished
            || tally.rejected.is_empty() && tally.skipped.is_empty() && (rows > 0 || self.lines_before > 0)
    }
}

/// Opens a file, or standard input for `-`, decompressed.
///
/// # Errors
/// [`ImportError::Read`], [`ImportError::Empty`].
pub(crate) fn open_text(path: &Path) -> Result<Box<dyn BufRead + Send>, ImportError> {
    Ok(input::open(path)?.content)
}

/// Imports a source into the database of the settings.
///
/// # Errors
/// Every [`ImportError`]. Committed chunks stay, and the same request continues after them.
pub(crate) async fn run(request: Request, settings: &Settings) -> Result<ImportReport, ImportError> {
    let started = Instant::now();
    let path = request.source.file().to_owned();
    let file = input::display_name(&path);
    let identity = database::source_identity(&request.source)?;
    let rejects_path = rejects_path(&path, request.rejects.as_deref())?;
    let (client, server) = database::connect(settings).await?;
    let (content, network) = database::content(&client, &request.source).await?;
    let kind = request.source.kind();
    // A check starts at the first line, and leaves no trace.
    let identity = identity.filter(|_| !request.check);
    let start = match &identity {
        Some(identity) => database::start(&client, identity, kind, &network, &file, request.again).await?,
        None => Start { lines_done: 0, finished: false },
    };
    let mut report = ImportReport {
        file: file.clone(),
        already_finished: start.finished,
        check: request.check,
        lines_before: start.lines_done,
        tally: Tally::default(),
        assumes_smallest_unit: false,
        unused_columns: Vec::new(),
        elapsed: Duration::ZERO,
        rejects: None,
        unlisted: 0,
    };
    if start.finished {
        report.elapsed = started.elapsed();
        return Ok(report);
    }
    let replace_blocks = request.source.replaces_blocks();
    // Token transfers are compared with their transactions, too.
    let mut may_repeat = request.again || start.lines_done > 0;
    for table in [request.source.table(), "arx.transactions"] {
        may_repeat = may_repeat || database::has_rows(&client, table, &network).await?;
    }
    // Standard input cannot be read again if rows that a check has only counted come again.
    may_repeat = may_repeat || request.check && input::is_stdin(&path);
    let mut mode =
        Mode { check: request.check, replace_blocks, may_repeat, states_tokens: request.source.states_tokens() };
    let mut connection = Some((client, server));
    let (facts, total, rejects) = loop {
        let mut rejects = RejectsFile::open(rejects_path.clone(), start.lines_done, rejects::DEFAULT_LIMITS)?;
        let rules = match mode.may_repeat {
            true => chunk::DEFAULT_RULES,
            false => chunk::DIRECT_RULES,
        };
        let rules = chunk::ChunkRules { strict: request.strict, ..rules };
        let reading = Reading { path: path.clone(), content: content.clone(), lines_done: start.lines_done, rules };
        let mut total = Progress { lines_done: start.lines_done, ..Progress::default() };
        let (client, server) = match connection.take() {
            Some(connection) => connection,
            None => database::connect(settings).await?,
        };
        let lanes = Lanes::new(Source::written(settings));
        let target = (identity.clone(), network.clone());
        let outcome = transfer(reading, (client, lanes), target, mode, &mut rejects, &mut total).await;
        if let Err(ImportError::Interrupted { .. }) = &outcome
            && let Err(error) = server.cancel().await
        {
            tracing::debug!(%error, "cancel the interrupted chunk");
        }
        match outcome {
            Err(ImportError::Repeats) if !mode.may_repeat => mode.may_repeat = true,
            outcome => break (outcome?, total, rejects),
        }
    };
    (report.unused_columns, report.assumes_smallest_unit) = (facts.unused, facts.assumes_smallest_unit);
    report.elapsed = started.elapsed();
    report.unlisted = rejects.unlisted();
    report.rejects = (total.rejected() > 0).then(|| rejects.path().to_owned());
    let rows = total.rows();
    report.tally = total.tally;
    if content.family() == NetworkFamily::Opaque && rows > 0 {
        let note = format!("rows whose addresses were not checked, because their format on {network} is not known");
        report.tally.notes.insert(note, rows);
    }
    Ok(report)
}

/// A statement that the history of a network, or of some of its wallets, was imported completely.
#[derive(Debug, Clone)]
pub(crate) struct Coverage {
    pub(crate) network: String,
    /// A file of addresses, one a line; none for the whole network.
    pub(crate) wallets: Option<PathBuf>,
    /// First and last time of the imported rows.
    pub(crate) times: Option<(i64, i64)>,
    /// The imported files.
    pub(crate) source: String,
}

impl Coverage {
    /// Reads the wallets; `None` stands for the whole network.
    ///
    /// # Errors
    /// [`ImportError::InvalidNetwork`], [`ImportError::Read`], [`ImportError::Wallet`].
    pub(crate) fn addresses(&self) -> Result<Option<Vec<String>>, ImportError> {
        let network = database::parse_network(&self.network)?;
        let Some(path) = &self.wallets else { return Ok(None) };
        let file = input::display_name(path);
        let content = open_text(path)?;
        let mut addresses = Vec::new();
        for (line, text) in (1_u64..).zip(content.lines()) {
            let text = text.map_err(|source| ImportError::Read { file: file.clone(), source })?;
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let address = Address::parse(text, &network).map_err(|error| ImportError::Wallet {
                file: file.clone(),
                line,
                message: error.to_string(),
            })?;
            addresses.push(address.into_string());
        }
        Ok(Some(addresses))
    }

    /// Records the statement. Returns the number of new statements.
    ///
    /// # Errors
    /// The errors of [`Coverage::addresses`], [`ImportError::Coverage`], errors of the database.
    pub(crate) async fn record(&self, settings: &Settings) -> Result<u64, ImportError> {
        let addresses = self.addresses()?;
        let network = database::parse_network(&self.network)?;
        let (client, _) = database::connect(settings).await?;
        let Some(addresses) = addresses else {
            let reason = "no imported row has a time (import again with --again)";
            let times = self.times.ok_or(ImportError::Coverage { reason })?;
            return database::cover_network(&client, network.name(), times, &self.source).await;
        };
        database::cover_wallets(&client, network.name(), &addresses, &self.source).await
    }
}

/// Returns the span of two spans of time, in unix seconds.
pub(crate) fn joined_times(one: Option<(i64, i64)>, other: Option<(i64, i64)>) -> Option<(i64, i64)> {
    loader::joined(one, other)
}

/// Facts about a file that its report states.
struct Facts {
    unused: Vec<String>,
    assumes_smallest_unit: bool,
}

/// Runs reader and loader concurrently.
async fn transfer(
    reading: Reading,
    (client, lanes): (tokio_postgres::Client, Lanes),
    (identity, network): (Option<String>, String),
    mode: Mode,
    rejects: &mut RejectsFile,
    total: &mut Progress,
) -> Result<Facts, ImportError> {
    let file = input::display_name(&reading.path);
    let strict = reading.rules.strict;
    let stopped = |line| ImportError::ReaderStopped { file: file.clone(), line };
    let mut interrupt = pin!(interrupt()?);
    let (opened_sender, opened) = oneshot::channel();
    let (sender, mut receiver) = mpsc::channel(CHUNKS_AHEAD);
    // A plain thread: at shutdown the runtime waits for its own threads, and a read from standard
    // input may never return.
    std::thread::Builder::new()
        .name("import-reader".to_owned())
        .spawn(move || reader::read(reading, opened_sender, &sender))
        .map_err(|source| ImportError::Read { file: file.clone(), source })?;
    let opened = tokio::select! {
        biased;
        () = &mut interrupt => return Err(ImportError::Interrupted { file, line: total.lines_done }),
        opened = opened => opened.map_err(|_| stopped(total.lines_done))??,
    };
    let source = (identity, network);
    let mut sink = PostgresSink::new(client, lanes, opened.target, source, file.clone(), mode, total.lines_done);
    sink.relax_commits().await?;
    let mut meter = Meter::new(file.clone(), opened.size, opened.bytes_read);
    let mut on_progress = |total: &Progress| meter.show(total);
    let loader = Loader {
        file: &file,
        strict,
        sink: &mut sink,
        rejects,
        interrupt: interrupt.as_mut(),
        on_progress: &mut on_progress,
    };
    let loaded = loader::load_all(loader, &mut receiver, total).await;
    meter.clear();
    loaded.map(|()| Facts { unused: opened.unused, assumes_smallest_unit: opened.assumes_smallest_unit })
}

/// Completes at the first SIGINT or SIGTERM.
fn interrupt() -> Result<impl Future<Output = ()> + Send, ImportError> {
    let listen = |kind| signal(kind).map_err(|source| ImportError::Read { file: "signals".to_owned(), source });
    let (mut interrupts, mut terminations) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
    })
}

/// Path of the rejects file, which must differ from the imported file.
fn rejects_path(file: &Path, given: Option<&Path>) -> Result<PathBuf, ImportError> {
    let path = given.map_or_else(|| rejects::default_path(file), Path::to_owned);
    let same = match (path.canonicalize(), file.canonicalize()) {
        (Ok(rejects), Ok(file)) => rejects == file,
        _ => false,
    };
    if same {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is the file to import");
        return Err(ImportError::Rejects { file: path, source });
    }
    Ok(path)
}
