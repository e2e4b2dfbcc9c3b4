//! Chunks into a sink, in order: each in one transaction with the progress it makes, so that an import that is cut off at any
//! instant continues exactly behind what it has committed. Owns the order of events; what a transaction is, the sink knows.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::mpsc::Receiver;

use super::rejects::RejectsFile;
use crate::import::error::ImportError;
use crate::import::read::chunk::{Chunk, Reject};
use crate::import::read::reader::Message;

/// What came of one chunk's rows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Rows that are new.
    pub(crate) imported: u64,
    /// Rows that were there.
    pub(crate) present: u64,
    /// Rows that only loading showed to be bad.
    pub(crate) rejects: Vec<Reject>,
}

/// The progress of one transaction, and of an import as their sum.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Lines of the source that are done with.
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

/// Where chunks go.
pub(crate) trait ChunkSink {
    /// Loads a chunk's rows in a transaction that stays open.
    async fn load(&mut self, chunk: &Chunk) -> Result<Loaded, ImportError>;
    /// Adds the chunk's progress to that transaction and commits it.
    async fn commit(&mut self, step: &Progress) -> Result<(), ImportError>;
    /// Rolls the open transaction back.
    async fn roll_back(&mut self) -> Result<(), ImportError>;
    /// Notes that the source is done.
    async fn finish(&mut self, lines_done: u64) -> Result<(), ImportError>;
}

/// What loading one source takes.
pub(crate) struct Loader<'a, S> {
    /// The file, for messages.
    pub(crate) file: &'a str,
    /// Whether a row that only loading shows to be bad ends the import.
    pub(crate) strict: bool,
    /// Where rows go.
    pub(crate) sink: &'a mut S,
    /// Where bad lines go.
    pub(crate) rejects: &'a mut RejectsFile,
    /// Completes when the user wants to stop.
    pub(crate) interrupt: Pin<&'a mut (dyn Future<Output = ()> + Send)>,
    /// Sees the sum after each chunk.
    pub(crate) watch: &'a mut (dyn FnMut(&Progress) + Send),
}

/// Loads what the reader sends until it says that it has ended, and adds it to `total`.
///
/// # Errors
/// Those of reading and loading, [`ImportError::Interrupted`], and [`ImportError::Strict`] for a row that only loading shows
/// to be bad. Committed chunks stay.
pub(crate) async fn load_all<S: ChunkSink>(
    loader: Loader<'_, S>,
    receiver: &mut Receiver<Message>,
    total: &mut Progress,
) -> Result<(), ImportError> {
    let Loader { file, strict, sink, rejects, mut interrupt, watch } = loader;
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
        // Dropping a load half way leaves its transaction open: rolling it back tells the server to give up, too.
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
        watch(total);
    }
}
