//! Loads chunks into a sink, in order: each in one transaction together with its progress, so that
//! an interrupted import continues exactly after its last commit. Owns the order of steps; the sink
//! owns the transaction.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use tokio::sync::mpsc::Receiver;

use super::rejects::RejectsFile;
use super::sql::BROKEN;
use crate::import::error::ImportError;
use crate::import::read::chunk::{Chunk, Reject};
use crate::import::read::reader::Message;

/// Outcome of loading one chunk.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Rows that are new.
    pub(crate) imported: u64,
    /// Stored rows that learned something.
    pub(crate) updated: u64,
    /// Updated rows that were stored in another block.
    pub(crate) moved: u64,
    /// Rows that equal the stored ones, as far as they know.
    pub(crate) unchanged: u64,
    /// Unchanged rows that know less than the stored ones.
    pub(crate) less: u64,
    /// Rows that move nothing.
    pub(crate) nothing: u64,
    /// Stored transactions that were removed with their block.
    pub(crate) replaced: u64,
    /// Rows of earlier chunks that were deleted, because a line of their transaction is rejected.
    pub(crate) retracted: u64,
    /// Rows that were rejected while loading.
    pub(crate) rejects: Vec<Reject>,
}

/// Counts of one transaction, or of an import as the sum of its transactions.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) imported: u64,
    pub(crate) updated: u64,
    pub(crate) moved: u64,
    pub(crate) unchanged: u64,
    pub(crate) less: u64,
    pub(crate) nothing: u64,
    pub(crate) replaced: u64,
    /// Lines that repeat the header.
    pub(crate) headers: u64,
    /// Rows without a status.
    pub(crate) without_status: u64,
    /// Facts about imported lines, with their counts.
    pub(crate) notes: BTreeMap<String, u64>,
    /// First and last time of the rows that have one.
    pub(crate) times: Option<(i64, i64)>,
    /// Lines in the rejects file, by reason.
    pub(crate) rejected: BTreeMap<String, u64>,
    /// Lines of another kind.
    pub(crate) skipped: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        for (sum, count) in [
            (&mut self.imported, other.imported),
            (&mut self.updated, other.updated),
            (&mut self.moved, other.moved),
            (&mut self.unchanged, other.unchanged),
            (&mut self.less, other.less),
            (&mut self.nothing, other.nothing),
            (&mut self.replaced, other.replaced),
            (&mut self.headers, other.headers),
            (&mut self.without_status, other.without_status),
        ] {
            *sum += count;
        }
        self.times = joined(self.times, other.times);
        for (sums, counts) in [
            (&mut self.rejected, &other.rejected),
            (&mut self.skipped, &other.skipped),
            (&mut self.notes, &other.notes),
        ] {
            for (reason, count) in counts {
                *sums.entry(reason.clone()).or_default() += count;
            }
        }
    }
}

/// Returns the span of two spans of time.
pub(crate) fn joined(one: Option<(i64, i64)>, other: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (one, other) {
        (Some((first, last)), Some((begin, end))) => Some((first.min(begin), last.max(end))),
        (span, None) | (None, span) => span,
    }
}

/// Progress: the last line that is done, and the counts up to it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) lines_done: u64,
    pub(crate) tally: Tally,
    /// Rows of earlier steps that are rejected now.
    pub(crate) retracted: u64,
}

/// Progress of an import.
pub(crate) type Progress = Step;

impl Step {
    /// Number of rejected lines.
    pub(crate) fn rejected(&self) -> u64 {
        self.tally.rejected.values().sum()
    }

    /// Number of rows that are in the database now.
    pub(crate) fn rows(&self) -> u64 {
        self.tally.imported + self.tally.updated + self.tally.unchanged
    }
}

pub(crate) trait ChunkSink {
    /// Loads the rows of a chunk in a transaction that stays open.
    async fn load(&mut self, chunk: &Chunk) -> Result<Loaded, ImportError>;
    /// Adds the chunk's progress to that transaction and commits it.
    async fn commit(&mut self, step: &Step) -> Result<(), ImportError>;
    /// Rolls the open transaction back.
    async fn roll_back(&mut self) -> Result<(), ImportError>;
    /// Deletes the rows that this run has inserted, and returns their number.
    async fn take_back(&mut self) -> Result<u64, ImportError>;
    /// Records the source as finished.
    async fn finish(&mut self, lines_done: u64) -> Result<(), ImportError>;
}

/// Dependencies of loading one source.
pub(crate) struct Loader<'a, S> {
    /// Display name for messages.
    pub(crate) file: &'a str,
    /// A row that is rejected while loading ends the import.
    pub(crate) strict: bool,
    pub(crate) sink: &'a mut S,
    /// Rejects file.
    pub(crate) rejects: &'a mut RejectsFile,
    /// Completes when the user interrupts the import.
    pub(crate) interrupt: Pin<&'a mut (dyn Future<Output = ()> + Send)>,
    /// Called with the total after each chunk.
    pub(crate) on_progress: &'a mut (dyn FnMut(&Progress) + Send),
}

/// Loads the reader's chunks until its end message, and adds them to `total`.
///
/// # Errors
/// Errors of reading and loading, [`ImportError::Interrupted`], and [`ImportError::Strict`] for a
/// row that is rejected while loading. Committed chunks stay.
pub(crate) async fn load_all<S: ChunkSink>(
    loader: Loader<'_, S>,
    receiver: &mut Receiver<Message>,
    total: &mut Progress,
) -> Result<(), ImportError> {
    let Loader { file, strict, sink, rejects, mut interrupt, on_progress } = loader;
    let interrupted = |line| ImportError::Interrupted { file: file.to_owned(), line };
    loop {
        let message = tokio::select! {
            biased;
            () = &mut interrupt => return Err(interrupted(total.lines_done)),
            message = receiver.recv() => message,
        };
        let mut chunk = match message {
            Some(Message::Chunk(chunk)) => chunk,
            Some(Message::End(Ok(lines))) => {
                sink.finish(lines).await?;
                total.lines_done = lines;
                return Ok(());
            }
            Some(Message::End(Err(ImportError::Unit { file, line, reason, .. }))) => {
                let taken_back = sink.take_back().await?;
                return Err(ImportError::Unit { file, line, reason, taken_back });
            }
            Some(Message::End(Err(error))) => return Err(error),
            None => return Err(ImportError::ReaderStopped { file: file.to_owned(), line: total.lines_done }),
        };
        // A load that is dropped leaves its transaction open; the caller cancels the statement on
        // the server.
        let loaded = tokio::select! {
            biased;
            loaded = sink.load(&chunk) => loaded?,
            () = &mut interrupt => return Err(interrupted(total.lines_done)),
        };
        if let Some(first) = loaded.rejects.first().filter(|_| strict) {
            sink.roll_back().await?;
            return Err(ImportError::Strict { file: file.to_owned(), line: first.line, reason: first.reason.clone() });
        }
        chunk.rejects.extend(loaded.rejects);
        chunk.rejects.sort_by_key(|reject| reject.line);
        let mut tally = Tally {
            imported: loaded.imported,
            updated: loaded.updated,
            moved: loaded.moved,
            unchanged: loaded.unchanged,
            less: loaded.less,
            nothing: loaded.nothing + chunk.nothing,
            replaced: loaded.replaced,
            headers: chunk.headers,
            without_status: chunk.without_status,
            notes: chunk.notes.iter().map(|(note, count)| ((*note).to_owned(), *count)).collect(),
            times: chunk.times,
            skipped: chunk.skipped.iter().map(|(kind, count)| (kind.0.to_owned(), *count)).collect(),
            ..Tally::default()
        };
        for reject in &chunk.rejects {
            *tally.rejected.entry(reject.kind.clone()).or_default() += 1;
        }
        let step = Step { lines_done: chunk.lines_done, tally, retracted: loaded.retracted };
        rejects.write(&chunk.rejects)?;
        sink.commit(&step).await?;
        total.lines_done = step.lines_done;
        total.tally.add(&step.tally);
        if step.retracted > 0 {
            total.tally.imported = total.tally.imported.saturating_sub(step.retracted);
            *total.tally.rejected.entry(BROKEN.to_owned()).or_default() += step.retracted;
            rejects.count_unlisted(step.retracted);
        }
        on_progress(total);
    }
}
