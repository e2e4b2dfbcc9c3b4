//! Imports label lists into `arx.address_labels`: lists in any of the public formats, or the next
//! edition of one.
//!
//! A thread reads the list (`formats`), turns its records into labels (`resolve`) and encodes them;
//! the store copies them into a temporary table and compares that with the labels that exist, all
//! in one transaction. So a list is imported as a whole or not at all, and importing it again
//! changes nothing.

mod error;
mod formats;
mod free_text;
mod json;
mod ofac;
mod record;
mod resolve;
mod store;
mod tagpack;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arx_core::address::{Network, network_of_address};
use arx_pgwire::copy::TupleBuffer;
use chrono::{DateTime, Utc};
use tokio::sync::mpsc;

use self::error::RecordError;
pub(crate) use self::formats::LabelFormat;
use self::formats::{Reading, Sink};
use self::record::Record;
pub(crate) use self::record::{Field, StatedColumn};
use self::resolve::Resolver;
pub(crate) use self::resolve::{Defaults, Facts, LabelRow, Notes};
pub(crate) use self::store::Changes;
use self::store::{Edition, LabelStore};
use super::error::ImportError;
use super::load::database;
use super::load::rejects::{self, RejectsFile};
use super::read::chunk::Reject;
use super::read::input;
use crate::settings::Settings;

/// Encoded bytes of a batch that is copied at once.
const BATCH_BYTES: usize = 4 << 20;

/// Batches queued between the reader and the store.
const BATCHES_AHEAD: usize = 2;

/// Columns and addresses that a report or a protection remembers.
const MAX_REMEMBERED: usize = 100_000;

/// A label list to import.
#[derive(Debug, Clone)]
pub(crate) struct LabelRequest {
    pub(crate) file: PathBuf,
    /// Detected by content when absent.
    pub(crate) format: Option<LabelFormat>,
    pub(crate) defaults: Defaults,
    pub(crate) columns: Vec<StatedColumn>,
    /// Rejects file; named after the list when absent.
    pub(crate) rejects: Option<PathBuf>,
    /// A record that is rejected and a word that is unknown end the import.
    pub(crate) strict: bool,
    /// Report what would change, and change nothing.
    pub(crate) check: bool,
    /// The list replaces all earlier editions of its sources.
    pub(crate) full_list: bool,
    /// Date of this edition; now when absent.
    pub(crate) edition: Option<DateTime<Utc>>,
}

/// The outcome of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LabelReport {
    pub(crate) file: String,
    pub(crate) check: bool,
    pub(crate) full_list: bool,
    pub(crate) changes: Changes,
    pub(crate) notes: Notes,
    /// Records by reason.
    pub(crate) rejected: BTreeMap<String, u64>,
    /// Lines of a kind that holds no label, by kind.
    pub(crate) skipped: BTreeMap<String, u64>,
    pub(crate) unused_columns: Vec<String>,
    /// Why labels that are gone from the list were kept.
    pub(crate) not_closed: Option<String>,
    /// The rejects file, unless it is empty.
    pub(crate) rejects: Option<PathBuf>,
    /// Rejects for which that file has no room.
    pub(crate) unlisted: u64,
    pub(crate) elapsed: Duration,
}

impl LabelReport {
    /// Returns true if every record is imported, updated or unchanged, and there was one.
    pub(crate) fn is_complete(&self) -> bool {
        let Changes { added, reopened, updated, unchanged, .. } = self.changes;
        self.rejected.is_empty() && self.not_closed.is_none() && added + reopened + updated + unchanged > 0
    }
}

/// Notes of the reader at the end of a list.
#[derive(Debug, Default)]
struct Summary {
    notes: Notes,
    rejected: BTreeMap<String, u64>,
    skipped: BTreeMap<String, u64>,
    unused: Vec<String>,
    /// Addresses of rejected records, in any spelling.
    rejected_addresses: BTreeSet<String>,
    /// A rejected record whose address is not known either.
    rejected_anything: bool,
}

enum Message {
    Batch { tuples: Vec<u8>, rejects: Vec<Reject> },
    End(Result<Box<Summary>, ImportError>),
}

/// Imports a label list.
///
/// # Errors
/// Every [`ImportError`]; nothing is changed then.
pub(crate) async fn run(request: LabelRequest, settings: &Settings) -> Result<LabelReport, ImportError> {
    let started = Instant::now();
    let file = input::display_name(&request.file);
    let rejects_path = super::rejects_path(&request.file, request.rejects.as_deref())?;
    let (client, _) = database::connect(settings).await?;
    let facts = database::label_facts(&client).await?;
    let resolver = Resolver::new(facts, request.defaults.clone(), &file)?;
    let edition = Edition { at: request.edition, is_full: request.full_list, source: request.defaults.source.clone() };
    let mut store = LabelStore::begin(client, file.clone(), edition).await?;
    let mut rejects = RejectsFile::open(rejects_path, 0, rejects::DEFAULT_LIMITS)?;
    let (sender, mut receiver) = mpsc::channel(BATCHES_AHEAD);
    let reading = request.clone();
    let list = List::new(resolver, file.clone(), request.strict, sender);
    // A plain thread, because a read from standard input may never return.
    std::thread::Builder::new()
        .name("label-reader".to_owned())
        .spawn(move || list.read(&reading))
        .map_err(|source| ImportError::Read { file: file.clone(), source })?;
    let summary = loop {
        match receiver.recv().await {
            Some(Message::Batch { tuples, rejects: rejected }) => {
                rejects.write(&rejected)?;
                store.copy(tuples).await?;
            }
            Some(Message::End(ended)) => break *ended?,
            None => return Err(ImportError::ReaderStopped { file, line: 0 }),
        }
    };
    require_known_words(&request, &file, &summary.notes)?;
    let mut report = LabelReport {
        file: file.clone(),
        check: request.check,
        full_list: request.full_list,
        notes: summary.notes,
        rejected: summary.rejected,
        skipped: summary.skipped,
        unused_columns: summary.unused,
        ..LabelReport::default()
    };
    let mut contradictions = store.remove_repetitions().await?;
    if let Some((line, fault, _)) = contradictions.first().filter(|_| request.strict) {
        return Err(ImportError::Strict { file, line: *line, reason: fault.to_string() });
    }
    let keep_all = summary.rejected_anything;
    let mut kept: Vec<String> = summary.rejected_addresses.into_iter().collect();
    for (line, fault, address) in contradictions.drain(..) {
        *report.rejected.entry(fault.reason().to_owned()).or_default() += 1;
        let (reason, kind) = (fault.to_string(), fault.reason().to_owned());
        rejects.write(&[Reject { line, reason, kind, text: address.clone() }])?;
        kept.push(address);
    }
    if request.full_list && keep_all {
        let reason =
            "lines were rejected whose address is not known: labels that are gone from the list stay as they are";
        report.not_closed = Some(reason.to_owned());
    }
    let to_close = (request.full_list && !keep_all).then_some(kept.as_slice());
    report.changes = store.merge(to_close).await?;
    if request.check {
        store.roll_back().await?
    } else {
        store.commit().await?
    }
    report.unlisted = rejects.unlisted();
    report.rejects = (!report.rejected.is_empty()).then(|| rejects.path().to_owned());
    report.elapsed = started.elapsed();
    Ok(report)
}

/// Rejects a list without categories, and unknown words under `--strict`.
fn require_known_words(request: &LabelRequest, file: &str, notes: &Notes) -> Result<(), ImportError> {
    let fault = |message: String| Err(ImportError::LabelList { file: file.to_owned(), message });
    if notes.without_category > 0 && !notes.has_category {
        return fault("states no category: name the category of its addresses by --category".to_owned());
    }
    if request.strict && !notes.unknown_words.is_empty() {
        let words = notes.unknown_words.iter().map(|(word, count)| format!("{word:?} ({count})"));
        let words: Vec<String> = words.take(20).collect();
        return fault(format!(
            "unknown words: {}; map them by --map WORD=CATEGORY (--strict refuses unknown words)",
            words.join(", ")
        ));
    }
    Ok(())
}

/// Calls `each` with every label of a network that a list in any format holds, without a database.
/// Returns the number of records that an import would reject, other networks excluded.
///
/// # Errors
/// Errors of reading; errors of `each`, which end the reading.
pub(crate) fn each_row<E: From<ImportError>>(
    path: &Path,
    network: &Network,
    each: &mut dyn FnMut(LabelRow<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    struct Rows<'a, E> {
        resolver: Resolver,
        each: &'a mut dyn FnMut(LabelRow<'_>) -> Result<(), E>,
        rejected: u64,
        failure: Option<E>,
    }

    impl<E> Sink for Rows<'_, E> {
        fn record(&mut self, record: Record<'_>) -> Result<(), ImportError> {
            match self.resolver.row(&record, |row| (self.each)(row)) {
                Ok(Ok(())) | Err(RecordError::Network(_)) => Ok(()),
                Ok(Err(error)) => {
                    self.failure = Some(error);
                    Err(ImportError::ReaderStopped { file: String::new(), line: record.number })
                }
                Err(_) => {
                    self.rejected += 1;
                    Ok(())
                }
            }
        }

        fn malformed(&mut self, _: u64, _: &dyn Display, _: RecordError) -> Result<(), ImportError> {
            self.rejected += 1;
            Ok(())
        }

        fn skip(&mut self, _: &'static str) {}

        fn unused(&mut self, _: &str) {}

        fn default_source(&mut self, source: &str) {
            self.resolver.default_source(source);
        }

        fn is_address(&self, text: &str) -> bool {
            self.resolver.is_address(text)
        }

        fn is_stated(&self) -> bool {
            self.resolver.has_network()
        }
    }

    let source = input::open(path)?;
    let defaults = Defaults { source: Some(source.name.clone()), ..Defaults::default() };
    let resolver = Resolver::new(Facts::shipped(network), defaults, &source.name)?;
    let mut rows = Rows { resolver, each, rejected: 0, failure: None };
    let reading = Reading { file: &source.name, content: source.content, columns: &[] };
    let ended = formats::read(reading, None, &mut rows);
    if let Some(failure) = rows.failure {
        return Err(failure);
    }
    ended?;
    Ok(rows.rejected)
}

/// A list on its way into batches.
struct List {
    resolver: Resolver,
    file: String,
    strict: bool,
    sender: mpsc::Sender<Message>,
    tuples: TupleBuffer,
    rejects: Vec<Reject>,
    summary: Summary,
    next_id: i64,
}

impl List {
    fn new(resolver: Resolver, file: String, strict: bool, sender: mpsc::Sender<Message>) -> Self {
        Self {
            resolver,
            file,
            strict,
            sender,
            tuples: TupleBuffer::default(),
            rejects: Vec::new(),
            summary: Summary::default(),
            next_id: 0,
        }
    }

    /// Reads the list to its end, and sends what it holds.
    fn read(mut self, request: &LabelRequest) {
        let file = self.file.clone();
        let ended = input::open(&request.file).and_then(|source| {
            let reading = Reading { file: &file, content: source.content, columns: &request.columns };
            formats::read(reading, request.format, &mut self)?;
            self.send()
        });
        let mut summary = std::mem::take(&mut self.summary);
        summary.notes = std::mem::take(&mut self.resolver.notes);
        // The receiver is gone when the import has failed meanwhile.
        let _ = self.sender.blocking_send(Message::End(ended.map(|()| Box::new(summary))));
    }

    fn send(&mut self) -> Result<(), ImportError> {
        let tuples = std::mem::take(&mut self.tuples).into_bytes();
        let rejects = std::mem::take(&mut self.rejects);
        let stopped = |_| ImportError::ReaderStopped { file: self.file.clone(), line: 0 };
        self.sender.blocking_send(Message::Batch { tuples, rejects }).map_err(stopped)
    }

    fn reject(&mut self, number: u64, text: &dyn Display, fault: &RecordError) -> Result<(), ImportError> {
        let reason = fault.to_string();
        if self.strict {
            return Err(ImportError::Strict { file: self.file.clone(), line: number, reason });
        }
        *self.summary.rejected.entry(fault.reason().to_owned()).or_default() += 1;
        let text = text.to_string();
        let kind = fault.reason().to_owned();
        self.rejects.push(Reject { line: number, reason, kind, text });
        if self.rejects.len() >= 10_000 { self.send() } else { Ok(()) }
    }

    /// Remembers the address of a rejected record, whose labels must not be taken for gone.
    fn protect(&mut self, record: &Record<'_>) {
        let text = record.get(Field::Address).map(str::trim).unwrap_or_default();
        let addresses = &mut self.summary.rejected_addresses;
        if text.is_empty() || addresses.len() >= MAX_REMEMBERED {
            self.summary.rejected_anything = true;
            return;
        }
        addresses.insert(text.to_owned());
        addresses.insert(text.to_lowercase());
        if let Some(network) = network_of_address(text)
            && let Ok(address) = arx_core::address::Address::parse(text, &network)
        {
            addresses.insert(address.into_string());
        }
    }
}

impl Sink for List {
    fn record(&mut self, record: Record<'_>) -> Result<(), ImportError> {
        let (id, tuples) = (self.next_id, &mut self.tuples);
        match self.resolver.row(&record, |row| row.encode(id, record.number, tuples)) {
            Ok(()) => {
                self.next_id += 1;
                if self.tuples.len() >= BATCH_BYTES { self.send() } else { Ok(()) }
            }
            Err(fault) => {
                self.protect(&record);
                self.reject(record.number, record.text, &fault)
            }
        }
    }

    fn malformed(&mut self, number: u64, text: &dyn Display, fault: RecordError) -> Result<(), ImportError> {
        self.summary.rejected_anything = true;
        self.reject(number, text, &fault)
    }

    fn skip(&mut self, kind: &'static str) {
        *self.summary.skipped.entry(kind.to_owned()).or_default() += 1;
    }

    fn unused(&mut self, column: &str) {
        let unused = &mut self.summary.unused;
        if unused.len() < 100 && !column.is_empty() && !unused.iter().any(|known| known == column) {
            unused.push(column.to_owned());
        }
    }

    fn default_source(&mut self, source: &str) {
        self.resolver.default_source(source);
    }

    fn is_address(&self, text: &str) -> bool {
        self.resolver.is_address(text)
    }

    fn is_stated(&self) -> bool {
        self.resolver.has_network()
    }
}
