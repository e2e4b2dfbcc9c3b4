//! `arx-sidecar export`: transactions, internal transfers, token transfers, wallets and labels into
//! files, all of one snapshot.
//!
//! An export has parts, one file each, and a manifest, which says what is finished. A run that was
//! interrupted is continued: finished parts stay, and the others are read as the first snapshot
//! showed them, which stamps of rows allow as long as none of their rows was changed or removed
//! since. Memory is bounded: a reader hands batches to an encoder on another thread. A third one
//! makes files durable and notes them in the manifest, many at a time, so that no part waits for
//! the disk.

mod database;
mod files;
mod manifest;
mod parquet;
mod request;
mod series;
mod tables;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::error::{Doing, DoingTo, SidecarError};
use crate::settings::Settings;
use database::{Database, needs_own_snapshot};
use files::{Sink, Written};
use manifest::{Done, Folder, Manifest, Part};
use tables::{Kind, Queries, Snapshot, Table};

pub(crate) use request::{Filter, Format, Request};
pub(crate) use series::{SeriesRequest, write as write_series};
pub(crate) use tables::WALLET_ROWS;

/// Rows that the encoder takes at once, and batches that wait for it.
const BATCH_ROWS: usize = 2_048;
const WAITING_BATCHES: usize = 8;
/// Bytes after which a batch ends, regardless of its rows.
const BATCH_BYTES: usize = 4 << 20;
/// Parts that wait to be noted in the manifest. Each holds a file open.
const WAITING_PARTS: usize = 64;

/// The state of an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) rows: u64,
    pub(crate) parts: usize,
    pub(crate) of: usize,
}

/// The result of an export.
#[derive(Debug)]
pub(crate) struct Report {
    /// An earlier run has finished it.
    pub(crate) already_complete: bool,
    pub(crate) files: usize,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Parts that an earlier run has written.
    pub(crate) kept: usize,
    pub(crate) snapshot: Option<String>,
    pub(crate) elapsed: Duration,
}

/// Exports, or continues an export. `show` is called with the progress, about five times a second.
///
/// # Errors
/// [`SidecarError::Input`] for a filter or a folder that does not fit, and where an interrupted
/// export cannot be continued; [`SidecarError::Io`]; those of PostgreSQL.
pub(crate) async fn run(
    mut request: Request,
    settings: &Settings,
    mut show: impl FnMut(Progress),
) -> Result<Report, SidecarError> {
    let started = Instant::now();
    let database = Database::open(settings).await?;
    database.check(&mut request.filter).await?;
    let (folder, found) = Folder::open(&request.folder)?;
    let (manifest, wallets) = begin(&database, &folder, found, &request).await?;
    let kept = manifest.parts.iter().filter(|part| part.done.is_some()).count();
    if manifest.complete {
        return Ok(report(&manifest, kept, true, started));
    }
    let state = Arc::new(State {
        folder,
        format: request.format,
        is_own: manifest.snapshot == database.snapshot,
        filter: request.filter.clone(),
        rows: AtomicU64::new(0),
        waiting: Mutex::new(VecDeque::new()),
        manifest: Mutex::new(manifest),
    });
    let (finished, received) = mpsc::channel(WAITING_PARTS);
    let recorder = tokio::spawn(record(Arc::clone(&state), received));
    let written = write_parts(&state, &database, &request, &wallets, finished, &mut show).await;
    // What is finished stays, whatever has become of the other parts.
    let recorded = recorder.await.map_err(ended)?;
    written?;
    // Its error has ended the workers, too.
    recorded?;
    let mut manifest = state.manifest.lock().await;
    manifest.complete = true;
    state.folder.write(&manifest)?;
    Ok(report(&manifest, kept, false, started))
}

/// A task that has panicked.
fn ended(error: tokio::task::JoinError) -> SidecarError {
    SidecarError::Protocol { detail: format!("a part of the export failed: {error}") }
}

/// Writes the parts that are not finished, and shows the progress.
async fn write_parts(
    state: &Arc<State>,
    database: &Database,
    request: &Request,
    wallets: &[String],
    finished: mpsc::Sender<(usize, Written)>,
    show: &mut impl FnMut(Progress),
) -> Result<(), SidecarError> {
    let (of, due) = {
        let parts = &state.manifest.lock().await.parts;
        let due: VecDeque<usize> =
            (0..).zip(parts).filter(|(_, part)| part.done.is_none()).map(|(due, _)| due).collect();
        (parts.len(), due)
    };
    let jobs = request.jobs.min(due.len());
    *state.waiting.lock().await = due;
    let mut workers = JoinSet::new();
    for _ in 0..jobs {
        let client = database.session(&request.filter, wallets).await?;
        workers.spawn(work(Arc::clone(state), client, finished.clone()));
    }
    drop(finished);
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let result = loop {
        tokio::select! {
            ended_worker = workers.join_next() => match ended_worker {
                None => break Ok(()),
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => break Err(error),
                Some(Err(error)) => break Err(ended(error)),
            },
            _ = tick.tick() => {
                let parts = state.manifest.lock().await.parts.iter().filter(|part| part.done.is_some()).count();
                show(Progress { rows: state.rows.load(Ordering::Relaxed), parts, of });
            }
        }
    };
    // Stopping the workers closes their senders.
    workers.shutdown().await;
    result
}

/// Publishes finished parts and notes them in the manifest. While the disk is busy, more of them
/// gather and are noted together.
async fn record(state: Arc<State>, mut finished: mpsc::Receiver<(usize, Written)>) -> Result<(), SidecarError> {
    let mut batch = Vec::new();
    while finished.recv_many(&mut batch, WAITING_PARTS).await > 0 {
        let parts = std::mem::take(&mut batch);
        let mut manifest = state.manifest.lock().await.clone();
        let noted = Arc::clone(&state);
        let (manifest, result) = tokio::task::spawn_blocking(move || {
            let published = parts.into_iter().try_for_each(|(number, written)| {
                let done = written.publish()?;
                if let Some(part) = manifest.parts.get_mut(number) {
                    part.done = Some(done);
                }
                Ok(())
            });
            let result = noted.folder.write(&manifest);
            (manifest, published.and(result))
        })
        .await
        .map_err(ended)?;
        *state.manifest.lock().await = manifest;
        result?;
    }
    Ok(())
}

/// Begins an export, or returns the one that the folder holds.
async fn begin(
    database: &Database,
    folder: &Folder,
    found: Option<Manifest>,
    request: &Request,
) -> Result<(Manifest, Vec<String>), SidecarError> {
    if let Some(mut manifest) = found {
        manifest.check(&database.source, request)?;
        for part in &mut manifest.parts {
            if part.done.is_some() && !folder.has(part) {
                (part.done, manifest.complete) = (None, false);
            }
        }
        if manifest.complete && !request.restart {
            return Ok((manifest, Vec::new()));
        }
        let own = manifest.parts.iter().any(|part| part.done.is_none() && needs_own_snapshot(part.table));
        let is_begun = manifest.parts.iter().any(|part| part.done.is_some());
        if !request.restart && !own {
            continue_with(database, &manifest).await?;
            let wallets = if request.filter.wallet.is_some() { folder.read_wallets()? } else { Vec::new() };
            return Ok((manifest, wallets));
        }
        if !request.restart && is_begun {
            tracing::info!("wallets and labels are not finished, so that the export begins again in a new snapshot");
        }
        folder.clear(&manifest)?;
    }
    let wallets = database.neighbourhood(&request.filter).await?;
    let parts = request::parts(request.format, &request.filter, &database.bounds().await?);
    let manifest = Manifest::new(database.source.clone(), database.snapshot.clone(), request, parts);
    if request.filter.wallet.is_some() {
        folder.write_wallets(&wallets)?;
    }
    if request.format == Format::Neo4j {
        write_headers(folder, &manifest)?;
    }
    folder.write(&manifest)?;
    Ok((manifest, wallets))
}

/// Checks that what is left of an export can be read as its snapshot showed it.
async fn continue_with(database: &Database, manifest: &Manifest) -> Result<(), SidecarError> {
    let refused = |reason: String| {
        Err(SidecarError::Input {
            detail: format!("the export cannot be continued: {reason}; begin again with --restart"),
        })
    };
    let Some(snapshot) = &manifest.snapshot else {
        return refused("a snapshot of a standby cannot be read again".to_owned());
    };
    if database.snapshot.is_none() {
        return refused("this server is a standby".to_owned());
    }
    let left = manifest.parts.iter().filter(|part| part.done.is_none());
    match database.first_changed(left, snapshot).await? {
        Some(part) => refused(format!("rows of {} were changed or removed since it began", part.file)),
        None => Ok(()),
    }
}

fn report(manifest: &Manifest, kept: usize, already_complete: bool, started: Instant) -> Report {
    let done: Vec<&Done> = manifest.parts.iter().filter_map(|part| part.done.as_ref()).collect();
    Report {
        already_complete,
        files: done.iter().filter(|done| done.sha256.is_some()).count(),
        rows: done.iter().map(|done| done.rows).sum(),
        bytes: done.iter().map(|done| done.bytes).sum(),
        kept,
        snapshot: manifest.snapshot.clone(),
        elapsed: started.elapsed(),
    }
}

/// State that the workers share.
struct State {
    folder: Folder,
    format: Format,
    filter: Filter,
    /// The snapshot of the sessions is that of the export.
    is_own: bool,
    /// Rows read by this run.
    rows: AtomicU64,
    /// Numbers of parts.
    waiting: Mutex<VecDeque<usize>>,
    manifest: Mutex<Manifest>,
}

/// Writes parts until none is left.
async fn work(state: Arc<State>, client: Client, finished: mpsc::Sender<(usize, Written)>) -> Result<(), SidecarError> {
    loop {
        let Some(number) = state.waiting.lock().await.pop_front() else { return Ok(()) };
        let (part, snapshot) = {
            let manifest = state.manifest.lock().await;
            let Some(part) = manifest.parts.get(number) else { return Ok(()) };
            (part.clone(), manifest.snapshot.clone())
        };
        let snapshot = match &snapshot {
            Some(snapshot) if !state.is_own => Snapshot::Earlier(snapshot),
            _ => Snapshot::Own,
        };
        let written = write_part(&state, &client, &part, snapshot).await?;
        if finished.send((number, written)).await.is_err() {
            // The recorder has stopped, and has the error.
            return Ok(());
        }
    }
}

/// Reads the rows of a part, while another thread encodes those that have come before.
async fn write_part(
    state: &State,
    client: &Client,
    part: &Part,
    snapshot: Snapshot<'_>,
) -> Result<Written, SidecarError> {
    let queries = Queries { format: state.format, filter: &state.filter, snapshot };
    let statements = queries.statements(part.table, part.range)?;
    let (format, table, path) = (state.format, part.table, state.folder.file(&part.file));
    let (batches, mut received) = mpsc::channel::<(usize, Vec<Bytes>)>(WAITING_BATCHES);
    let (finished, end) = tokio::sync::oneshot::channel::<()>();
    let encoder = tokio::task::spawn_blocking(move || {
        let mut sink = Sink::create(format, table, &path)?;
        while let Some((statement, messages)) = received.blocking_recv() {
            sink.write(statement, messages)?;
        }
        // Without the word of the reader, rows may be missing.
        match end.blocking_recv() {
            Ok(()) => sink.finish().map(Some),
            Err(_) => Ok(None),
        }
    });
    let read = read_rows(state, client, &statements, batches).await;
    if read.is_ok() {
        let _ = finished.send(());
    } else {
        drop(finished);
    }
    let stopped = || SidecarError::Protocol { detail: format!("the encoder of {} stopped", part.file) };
    let written = encoder.await.map_err(|_| stopped())?;
    match (read, written) {
        // The reader stops when the encoder does, whose error is the cause.
        (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
        (Ok(()), Ok(written)) => written.ok_or_else(stopped),
    }
}

async fn read_rows(
    state: &State,
    client: &Client,
    statements: &[String],
    batches: mpsc::Sender<(usize, Vec<Bytes>)>,
) -> Result<(), SidecarError> {
    let doing = "read the rows of an export";
    for (number, statement) in statements.iter().enumerate() {
        let stream = client.copy_out(statement).await.doing(doing)?;
        let mut stream = std::pin::pin!(stream);
        let (mut batch, mut bytes) = (Vec::with_capacity(BATCH_ROWS), 0);
        while let Some(message) = stream.next().await {
            let message = message.doing(doing)?;
            bytes += message.len();
            batch.push(message);
            if batch.len() == BATCH_ROWS || bytes >= BATCH_BYTES {
                state.rows.fetch_add(batch.len() as u64, Ordering::Relaxed);
                let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_ROWS));
                if batches.send((number, full)).await.is_err() {
                    return Ok(());
                }
                bytes = 0;
            }
        }
        state.rows.fetch_add(batch.len() as u64, Ordering::Relaxed);
        if batches.send((number, batch)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn neo4j_header_file(table: Table) -> String {
    format!("{}-header.csv", table.name())
}

/// Writes the headers of nodes and relationships. Amounts are strings, because a double of Neo4j
/// would round them.
fn write_headers(folder: &Folder, manifest: &Manifest) -> Result<(), SidecarError> {
    let mut tables: Vec<Table> = manifest.parts.iter().map(|part| part.table).collect();
    tables.dedup();
    for table in tables {
        let mut names = match table {
            Table::Wallets => vec![":ID".to_owned(), ":LABEL".to_owned()],
            _ => vec![":START_ID".to_owned(), ":END_ID".to_owned(), ":TYPE".to_owned()],
        };
        names.extend(table.columns().iter().map(|column| {
            let kind = match column.kind {
                Kind::Integer => "long",
                Kind::Time => "datetime",
                Kind::Boolean => "boolean",
                Kind::Text | Kind::Name | Kind::Coins | Kind::Dollars | Kind::Json => "string",
            };
            format!("{}:{kind}", column.name)
        }));
        let path = folder.file(&neo4j_header_file(table));
        let text = names.join(",") + "\n";
        crate::atomic_file::replace(&path, Some(0o600), |file| file.write_all(text.as_bytes()))
            .doing_to("write", &path)?;
    }
    Ok(())
}
