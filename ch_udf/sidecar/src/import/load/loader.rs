//! Loads chunks into a sink, in order: each in one transaction together with its progress, so that
//! an interrupted import continues exactly after its last commit. Owns the order of steps; the sink
//! owns the transaction.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::mpsc::Receiver;

use super::rejects::RejectsFile;
use crate::import::error::ImportError;
use crate::import::read::chunk::{Chunk, Reject};
use crate::import::read::reader::Message;

/// Outcome of loading one chunk.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Rows that are new.
    pub(crate) imported: u64,
    /// Rows that were there.
    pub(crate) present: u64,
    /// Rows that were rejected while loading.
    pub(crate) rejects: Vec<Reject>,
}

/// Progress of one transaction, or of an import as the sum of its transactions.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) lines_done: u64,
    /// Rows that were new.
    pub(crate) imported: u64,
    /// Rows that were there.
    pub(crate) present: u64,
    /// Lines in the rejects file.
    pub(crate) rejected: u64,
    /// Lines of another kind.
    pub(crate) skipped: u64,
}

pub(crate) trait ChunkSink {
    /// Loads the rows of a chunk in a transaction that stays open.
    async fn load(&mut self, chunk: &Chunk) -> Result<Loaded, ImportError>;
    /// Adds the chunk's progress to that transaction and commits it.
    async fn commit(&mut self, step: &Progress) -> Result<(), ImportError>;
    /// Rolls the open transaction back.
    async fn roll_back(&mut self) -> Result<(), ImportError>;
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
        let step = Progress {
            lines_done: chunk.lines_done,
            imported: loaded.imported,
            present: loaded.present,
            rejected: u64::try_from(chunk.rejects.len()).unwrap_or(u64::MAX),
            skipped: chunk.skipped,
        };
        rejects.write(&chunk.rejects)?;
        sink.commit(&step).await?;
        total.lines_done = step.lines_done;
        total.imported += step.imported;
        total.present += step.present;
        total.rejected += step.rejected;
        total.skipped += step.skipped;
        on_progress(total);
    }
}
