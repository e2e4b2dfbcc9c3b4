//! `arx-sidecar sync search`: wallets with their labels, scores and notes into Elasticsearch or
//! OpenSearch, at least once.
//!
//! A pass reads all wallets in the order of their names. The id of a document is always the same,
//! and its version is the age of the snapshot that it was read in, so a document that is sent
//! twice, or late, never replaces a newer one. A pass that was interrupted goes on after the last
//! confirmed batch; its end deletes the documents of wallets that are gone. The index names the
//! database that it was created for, and no other database may write to it.

mod client;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use backon::BackoffBuilder;
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::atomic_file;
use crate::error::{Doing, DoingTo, SidecarError};
use crate::escape::Quoted;
use crate::export::WALLET_ROWS;
use crate::feed::identify;
use crate::retry::ErrorKind;
use crate::servers::postgres;
use crate::settings::Settings;
pub(crate) use client::Authorization;
use client::{Document, Failure, SearchClient, document};

/// Bytes of a batch, as the documentation of both products advises.
const BATCH_BYTES: usize = 5 << 20;

/// Ids of refused documents that a pass remembers: their older copies are not deleted.
pub(crate) const MAX_KEPT: usize = 1_000;

/// Fields of the index. Texts of analytics are stored and not indexed, because their keys are the
/// users'.
const INDEX: &str = r#"{"mappings": {"dynamic": false, "properties": {
    "network": {"type": "keyword"}, "address": {"type": "keyword"}, "category": {"type": "keyword"},
    "label": {"type": "text", "fields": {"exact": {"type": "keyword", "ignore_above": 256}}},
    "labels": {"properties": {"category": {"type": "keyword"}, "label": {"type": "text"}, "source": {"type": "keyword"},
                              "severity": {"type": "keyword"}, "confidence": {"type": "float"}}},
    "risk_score": {"type": "float"}, "risk_state": {"type": "keyword"}, "transaction_count": {"type": "long"},
    "total_volume": {"type": "keyword"}, "first_seen": {"type": "date"}, "last_activity": {"type": "date"},
    "profile": {"type": "object", "enabled": false}, "synced": {"type": "long"}}}}"#;

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) url: String,
    pub(crate) index: String,
    pub(crate) authorization: Authorization,
    /// Documents of a batch.
    pub(crate) batch: usize,
    /// File for documents that the server does not take.
    pub(crate) rejects: PathBuf,
    /// Deletes the index and begins a new pass.
    pub(crate) restart: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) sent: u64,
    /// Documents of which a newer version was stored, in the whole pass.
    pub(crate) newer: u64,
    /// Documents that the server does not take, in the whole pass.
    pub(crate) refused: u64,
    /// `None` if too many documents were refused to tell their older copies from those of wallets
    /// that are gone.
    pub(crate) deleted: Option<u64>,
    pub(crate) is_continued: bool,
}

/// The position of a pass.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    url: String,
    index: String,
    /// The database: system identifier and OID.
    source: String,
    /// Version of the first snapshot of the pass.
    began: i64,
    /// Network and address of the last wallet that is stored.
    after: (String, String),
    /// Documents that the server does not take.
    #[serde(default)]
    refused: u64,
    /// Ids of the first [`MAX_KEPT`] of these.
    #[serde(default)]
    kept: Vec<String>,
    /// Documents of which a newer version was stored.
    #[serde(default)]
    newer: u64,
}

impl Position {
    /// Notes a document that the server does not take.
    fn refuse(&mut self, id: &str) {
        self.refused += 1;
        if self.kept.len() < MAX_KEPT {
            self.kept.push(id.to_owned());
        }
    }

    /// Returns the ids of all documents that the server does not take, unless there are too many.
    fn kept(&self) -> Option<&[String]> {
        (self.refused == self.kept.len() as u64).then_some(&*self.kept)
    }
}

/// Runs a pass, or continues one.
///
/// # Errors
/// [`SidecarError::Input`] for an index of another database, and for an answer that retrying does
/// not change, [`SidecarError::Protocol`] and [`SidecarError::Unreachable`] for a server that stays
/// away; those of PostgreSQL.
pub(crate) async fn run(request: Request, settings: &Settings) -> Result<Report, SidecarError> {
    // A standby does not know the running transactions, by which snapshots are ordered.
    let client = postgres::connect(settings).await?.client;
    let source = identify(&client).await?.0.source_id();
    let doing = "read the wallets";
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL jit = off";
    client.batch_execute(begin).await.doing(doing)?;
    let version = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let version: i64 = client.query_one(version, &[]).await.doing(doing)?.get(0);
    let state = settings.data_dir.join(format!("search-{}.json", request.index));
    let server = SearchClient::new(&request.url, request.authorization)?;
    // As for other commands, a server that is down from the start is an error at once.
    if let Err(Failure::Busy(error @ SidecarError::Unreachable { .. })) = server.owners(&request.index).await {
        return Err(error);
    }
    if request.restart {
        remove_position(&state)?;
        until_done(|| server.delete_index(&request.index)).await?;
    }
    // What was stored in an index that is gone is gone.
    let found = if open_index(&server, &request.index, &source, &state).await? { None } else { read_position(&state)? };
    let found =
        found.filter(|position| position.url == request.url && position.source == source && position.began <= version);
    let mut report = Report { is_continued: found.is_some(), ..Report::default() };
    let mut position = found.unwrap_or_else(|| Position {
        url: request.url.clone(),
        index: request.index.clone(),
        source,
        began: version,
        after: (String::new(), String::new()),
        refused: 0,
        kept: Vec::new(),
        newer: 0,
    });
    let query = format!(
        "SELECT w.network, w.address, jsonb_build_object('network', w.network, 'address', w.address, \
                'first_seen', w.first_seen, 'last_activity', w.last_activity, 'transaction_count', w.transaction_count, \
                'total_volume', trim_scale(w.total_volume)::text, 'risk_score', w.risk_score, 'risk_state', w.risk_state, \
                'category', w.category, 'label', w.label, 'labels', w.labels, 'profile', w.analytics_profile, \
                'synced', $3::text::bigint)::text \
           FROM ({WALLET_ROWS}) AS w WHERE (w.network, w.address) > ($1::text, $2::text) ORDER BY w.network, w.address"
    );
    let parameters = [position.after.0.clone(), position.after.1.clone(), version.to_string()];
    let rows = client.query_raw(&query, parameters).await.doing(doing)?;
    let mut rows = pin!(rows);
    let mut rejects = Rejects { path: request.rejects, is_continued: position.refused > 0, file: None };
    let (mut batch, mut bytes) = (Vec::new(), 0);
    loop {
        let row = rows.try_next().await.doing(doing)?;
        let is_last = row.is_none();
        if let Some(row) = row {
            let (network, address): (String, String) = (row.get(0), row.get(1));
            let next = document(&request.index, format!("{network}:{address}"), version, row.get(2))?;
            bytes += next.lines.len();
            batch.push(next);
            position.after = (network, address);
        }
        if batch.len() >= request.batch || bytes >= BATCH_BYTES || (is_last && !batch.is_empty()) {
            send(&server, std::mem::take(&mut batch), &mut rejects, &mut position, &mut report).await?;
            bytes = 0;
            write_position(&state, &position)?;
        }
        if is_last {
            break;
        }
    }
    if let Some(kept) = position.kept() {
        let mut deleted = 0;
        loop {
            match until_done(|| server.delete_older(&request.index, position.began, kept)).await? {
                0 => break,
                slice => deleted += slice,
            }
        }
        report.deleted = Some(deleted);
    }
    remove_position(&state)?;
    (report.refused, report.newer) = (position.refused, position.newer);
    Ok(report)
}

/// Creates the index unless it exists, and returns whether it did not. The position of a pass into
/// an index that does not exist is removed first.
///
/// # Errors
/// [`SidecarError::Input`] for an index that was not created for this database; those of requests
/// and of the file system.
async fn open_index(server: &SearchClient, index: &str, source: &str, state: &Path) -> Result<bool, SidecarError> {
    let mut owners = until_done(|| server.owners(index)).await?;
    let is_new = owners.is_empty();
    if is_new {
        remove_position(state)?;
        let body = index_body(source)?;
        until_done(|| server.create_index(index, &body)).await?;
        // Another process may have created it in the meantime.
        owners = until_done(|| server.owners(index)).await?;
        if owners.is_empty() {
            return Err(SidecarError::Protocol { detail: format!("index \"{index}\" is missing after its creation") });
        }
    }
    let Some(other) = owners.into_iter().find(|owner| owner.as_deref() != Some(source)) else { return Ok(is_new) };
    let holds = match other {
        Some(other) => format!("holds the wallets of database {other}"),
        None => "does not say which database its documents are from".to_owned(),
    };
    Err(SidecarError::Input {
        detail: format!(
            "index \"{index}\" {holds}, and this is database {source}; choose another --index, or delete and recreate \
             it on purpose with --restart"
        ),
    })
}

/// Returns the description of a new index: its fields, and the database that it belongs to.
///
/// # Errors
/// None, as long as [`INDEX`] is JSON.
fn index_body(source: &str) -> Result<String, SidecarError> {
    let mut body: Value = serde_json::from_str(INDEX).doing("describe the index")?;
    if let Some(mappings) = body.get_mut("mappings").and_then(Value::as_object_mut) {
        mappings.insert("_meta".to_owned(), json!({"arx_source": source}));
    }
    Ok(body.to_string())
}

/// Repeats a request while waiting helps.
///
/// # Errors
/// The last failure.
async fn until_done<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, SidecarError>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut pauses = Pauses::new();
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(failure) => pauses.after(failure).await?,
        }
    }
}

/// Stores a batch. Documents that the server is too busy for are sent again, and those that it does
/// not take are set aside.
async fn send(
    server: &SearchClient,
    batch: Vec<Document>,
    rejects: &mut Rejects,
    position: &mut Position,
    report: &mut Report,
) -> Result<(), SidecarError> {
    let mut waiting = vec![batch];
    let mut pauses = Pauses::new();
    while let Some(documents) = waiting.pop() {
        let (delayed, failure) = match server.bulk(&documents).await {
            Ok(outcome) => {
                for (number, reason) in &outcome.refused {
                    if let Some(document) = documents.get(*number) {
                        rejects.write(&document.id, reason)?;
                        position.refuse(&document.id);
                    }
                }
                position.newer += outcome.newer as u64;
                let left = outcome.busy.len();
                report.sent += (documents.len() - left - outcome.refused.len() - outcome.newer) as u64;
                if left == 0 {
                    pauses = Pauses::new();
                    continue;
                }
                let busy = outcome.busy.iter().filter_map(|number| documents.get(*number).cloned()).collect();
                let detail = format!("the search engine is too busy for {left} documents");
                (busy, Failure::Busy(SidecarError::Protocol { detail }))
            }
            Err(Failure::TooLarge) if documents.len() > 1 => {
                let (left, right) = documents.split_at(documents.len() / 2);
                waiting.extend([right.to_vec(), left.to_vec()]);
                continue;
            }
            Err(Failure::TooLarge) => {
                for document in &documents {
                    rejects.write(&document.id, "larger than the server takes (413)")?;
                    position.refuse(&document.id);
                }
                continue;
            }
            Err(failure) => (documents, failure),
        };
        pauses.after(failure).await?;
        waiting.push(delayed);
    }
    Ok(())
}

/// The pauses after failures that waiting may help.
struct Pauses {
    delays: Box<dyn Iterator<Item = Duration> + Send>,
}

impl Pauses {
    fn new() -> Self {
        let delays: Box<dyn Iterator<Item = Duration> + Send> = match ErrorKind::Transient.retry_policy() {
            Some(policy) => Box::new(policy.build()),
            None => Box::new(std::iter::empty()),
        };
        Self { delays }
    }

    /// Waits before another attempt.
    ///
    /// # Errors
    /// The failure, when there have been enough of them, or waiting does not help.
    async fn after(&mut self, failure: Failure) -> Result<(), SidecarError> {
        let error = match failure {
            Failure::Busy(error) => error,
            Failure::Other(error) => return Err(error),
            Failure::TooLarge => {
                return Err(SidecarError::Protocol { detail: "the search engine answers 413".into() });
            }
        };
        let Some(delay) = self.delays.next() else { return Err(error) };
        tracing::warn!(error = %crate::error::Chain(&error), again_in = ?delay, "trying again");
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

/// The file of documents that the server does not take.
struct Rejects {
    path: PathBuf,
    /// True if the file has documents of the same pass already.
    is_continued: bool,
    file: Option<File>,
}

impl Rejects {
    fn write(&mut self, id: &str, reason: &str) -> Result<(), SidecarError> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let open = if self.is_continued { append_private } else { atomic_file::create_private };
                self.file.insert(open(&self.path).doing_to("open", &self.path)?)
            }
        };
        writeln!(file, "{}\t{}", Quoted(id), Quoted(reason)).doing_to("write", &self.path)
    }
}

/// Opens a file to add lines to it. A symbolic link is not followed, and a new file is closed to
/// other users.
///
/// # Errors
/// Errors of the file system.
fn append_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

fn remove_position(path: &Path) -> Result<(), SidecarError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).doing_to("remove", path),
        _ => Ok(()),
    }
}

fn read_position(path: &Path) -> Result<Option<Position>, SidecarError> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).doing("read the position of a pass"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing_to("read", path),
    }
}

fn write_position(path: &Path, position: &Position) -> Result<(), SidecarError> {
    if let Some(folder) = path.parent() {
        atomic_file::create_private_folder(folder).doing_to("create", folder)?;
    }
    let text = serde_json::to_vec(position).doing("write the position of a pass")?;
    atomic_file::replace(path, Some(0o600), |file| file.write_all(&text)).doing_to("write", path)
}
