//! `arx-sidecar import`: loads files into PostgreSQL. Reads transactions and token transfers of
//! ethereum-etl, the two-file form of transaction graphs, and label lists; plain or gzip, from
//! files or standard input.
//!
//! A thread reads and parses (`read`, `parse`), a task loads (`load`); a bounded channel between
//! the two lets them overlap with bounded memory. Each chunk is one database transaction that also
//! stores the position in the source (`arx.import_progress`), so an interrupted import continues
//! exactly after its last commit. Rows that already exist are counted and left unchanged. An
//! invalid line goes to a rejects file and affects no other line.
//!
//! A record never spans lines: line numbers stay correct, and an unclosed quote cannot swallow the
//! rest of a file.

mod error;
mod load;
pub(crate) mod offline;
mod parse;
#[cfg(test)]
mod pipeline_tests;
mod read;
mod request;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use crate::settings::Settings;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

pub(crate) use error::ImportError;
use load::database::{self, Start};
use load::loader::{self, Loader, Progress};
use load::meter::{self, Meter};
use load::postgres_sink::PostgresSink;
use load::rejects::{self, RejectsFile};
pub(crate) use parse::transactions::TransactionRow as Transaction;
use read::reader::{self, Reading};
use read::{chunk, input};
pub(crate) use request::Format;
pub(crate) use request::{ImportSource, NetworkFile, Request};

/// Chunks queued between reader and loader: one is loaded, one waits, one is built.
const CHUNKS_AHEAD: usize = 1;

/// Outcome of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImportReport {
    /// The file, or `standard input`.
    pub file: String,
    /// True when an earlier import had finished the source, so that nothing was done.
    pub already_finished: bool,
    /// Lines that an earlier, interrupted import had committed.
    pub lines_before: u64,
    /// Rows that are new.
    pub imported: u64,
    /// Rows that were there.
    pub present: u64,
    /// Lines in the rejects file.
    pub rejected: u64,
    /// Lines of another kind in a mixed stream.
    pub skipped: u64,
    pub elapsed: Duration,
    /// The rejects file, unless it is empty.
    pub rejects: Option<PathBuf>,
    /// Rejected lines that are not in that file, because it has reached its limits.
    pub unlisted: u64,
}

impl ImportReport {
    /// Returns the rate at which rows were imported or found present.
    pub(crate) fn rows_per_second(&self) -> u64 {
        meter::rate(self.imported + self.present, self.elapsed)
    }
}

/// Opens a file, or standard input for `-`, decompressed.
///
/// # Errors
/// [`ImportError::Read`], [`ImportError::Empty`].
pub(crate) fn open_text(path: &Path) -> Result<Box<dyn std::io::BufRead + Send>, ImportError> {
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
    let client = database::connect(settings).await?;
    let (content, network) = database::content(&client, &request.source).await?;
    let kind = request.source.kind();
    let start = match &identity {
        Some(identity) => database::start(&client, identity, kind, &network, &file, request.again).await?,
        None => Start { lines_done: 0, finished: false },
    };
    let mut report = ImportReport {
        file: file.clone(),
        already_finished: start.finished,
        lines_before: start.lines_done,
        imported: 0,
        present: 0,
        rejected: 0,
        skipped: 0,
        elapsed: Duration::ZERO,
        rejects: None,
        unlisted: 0,
    };
    if start.finished {
        report.elapsed = started.elapsed();
        return Ok(report);
    }
    let mut rejects = RejectsFile::open(rejects_path, start.lines_done, rejects::DEFAULT_LIMITS)?;
    let rules = chunk::ChunkRules { strict: request.strict, ..chunk::DEFAULT_RULES };
    let reading = Reading { path, content, lines_done: start.lines_done, rules };
    let mut total = Progress { lines_done: start.lines_done, ..Progress::default() };
    let cancel = client.cancel_token();
    let outcome = transfer(reading, client, identity, request.again, &mut rejects, &mut total).await;
    if let Err(ImportError::Interrupted { .. }) = &outcome
        && let Err(error) = cancel.cancel_query(tokio_postgres::NoTls).await
    {
        tracing::debug!(%error, "cancel the interrupted chunk");
    }
    outcome?;
    report.imported = total.imported;
    report.present = total.present;
    report.rejected = total.rejected;
    report.skipped = total.skipped;
    report.elapsed = started.elapsed();
    report.unlisted = rejects.unlisted();
    report.rejects = (total.rejected > 0).then(|| rejects.path().to_owned());
    Ok(report)
}

/// Runs reader and loader concurrently.
async fn transfer(
    reading: Reading,
    client: tokio_postgres::Client,
    identity: Option<String>,
    may_repeat: bool,
    rejects: &mut RejectsFile,
    total: &mut Progress,
) -> Result<(), ImportError> {
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
    let mut sink = PostgresSink::new(client, opened.target, identity, file.clone(), may_repeat, total.lines_done);
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
    loaded
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
