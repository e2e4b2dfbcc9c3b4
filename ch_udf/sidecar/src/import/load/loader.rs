//! Loads chunks into a sink: each in one transaction together with its progress, committed in the
//! order of the source, so that an interrupted import continues exactly after its last commit. A
//! sink may load several chunks at once. Owns the order of steps; the sink owns the transactions.

use std::collections::{BTreeMap, VecDeque};
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
    /// Facts about loaded rows, with their counts.
    pub(crate) notes: BTreeMap<&'static str, u64>,
    /// Rows that were rejected while loading.
    pub(crate) rejects: Vec<Reject>,
}

impl Loaded {
    /// Counts the rows that a copy did not store: those of failed transactions, which move nothing.
    pub(crate) fn of_rows(self, rows: u64) -> Self {
        Self { nothing: rows.saturating_sub(self.imported), ..self }
    }
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

/// Answer of a sink to a chunk that may be loaded next to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// It is being loaded.
    Started,
    /// It can start when the chunks before it are committed.
    Later,
    /// It has to be loaded alone.
    Alone,
}

pub(crate) trait ChunkSink {
    /// Number of chunks that may be loaded at once.
    fn lanes(&self) -> usize {
        1
    }

    /// Starts to load a chunk, in a transaction of its own that stays open.
    async fn start(&mut self, _chunk: &Chunk) -> Result<Start, ImportError> {
        Ok(Start::Alone)
    }

    /// Waits for the oldest started chunk, which [`ChunkSink::commit`] commits. `None`: all started
    /// chunks were rolled back, and have to be loaded alone. May be dropped and called again.
    async fn started(&mut self) -> Result<Option<Loaded>, ImportError> {
        std::future::pending().await
    }

    /// Loads the rows of a chunk in a transaction that stays open.
    async fn load(&mut self, chunk: &Chunk) -> Result<Loaded, ImportError>;
    /// Adds the chunk's progress to its transaction and commits it.
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

/// The next thing that an import has to deal with.
enum Event {
    Message(Option<Message>),
    /// The oldest started chunk.
    Loaded(Option<Loaded>),
}

/// Loads the reader's chunks until its end message, and adds them to `total`.
///
/// # Errors
/// Errors of reading and loading, [`ImportError::Interrupted`], and [`ImportError::Strict`] for a
/// row that is rejected while loading. Committed chunks stay.
pub(crate) async fn load_all<S: ChunkSink>(
    mut loader: Loader<'_, S>,
    receiver: &mut Receiver<Message>,
    total: &mut Progress,
) -> Result<(), ImportError> {
    let mut started: VecDeque<Chunk> = VecDeque::new();
    let ended = loop {
        let has_lane = started.len() < loader.sink.lanes();
        let event = tokio::select! {
            biased;
            () = &mut loader.interrupt => return Err(interrupted(loader.file, total)),
            loaded = loader.sink.started(), if !started.is_empty() => Event::Loaded(loaded?),
            message = receiver.recv(), if has_lane => Event::Message(message),
        };
        match event {
            Event::Loaded(loaded) => loader.settle(loaded, &mut started, total).await?,
            Event::Message(Some(Message::Chunk(chunk))) => loader.take(*chunk, &mut started, total).await?,
            Event::Message(Some(Message::End(ended))) => break ended,
            Event::Message(None) => {
                return Err(ImportError::ReaderStopped { file: loader.file.to_owned(), line: total.lines_done });
            }
        }
    };
    loader.settle_all(&mut started, total).await?;
    match ended {
        Ok(lines) => {
            loader.sink.finish(lines).await?;
            total.lines_done = lines;
            Ok(())
        }
        Err(ImportError::Unit { file, line, reason, advice, .. }) => {
            let taken_back = loader.sink.take_back().await?;
            Err(ImportError::Unit { file, line, reason, advice, taken_back })
        }
        Err(ImportError::Corrupt { file, line, source, .. }) => {
            let taken_back = loader.sink.take_back().await?;
            Err(ImportError::Corrupt { file, line, source, taken_back })
        }
        Err(error) => Err(error),
    }
}

fn interrupted(file: &str, total: &Progress) -> ImportError {
    ImportError::Interrupted { file: file.to_owned(), line: total.lines_done }
}

impl<S: ChunkSink> Loader<'_, S> {
    /// Starts to load a chunk, or loads it after the ones before.
    async fn take(
        &mut self,
        chunk: Chunk,
        started: &mut VecDeque<Chunk>,
        total: &mut Progress,
    ) -> Result<(), ImportError> {
        let start = loop {
            let start = tokio::select! {
                biased;
                start = self.sink.start(&chunk) => start?,
                () = &mut self.interrupt => return Err(interrupted(self.file, total)),
            };
            match start {
                Start::Later if !started.is_empty() => self.settle_all(started, total).await?,
                Start::Later => break Start::Alone,
                start => break start,
            }
        };
        if start == Start::Started {
            started.push_back(chunk);
            return Ok(());
        }
        self.settle_all(started, total).await?;
        self.load_alone(chunk, total).await
    }

    /// Waits for all started chunks and commits them.
    async fn settle_all(&mut self, started: &mut VecDeque<Chunk>, total: &mut Progress) -> Result<(), ImportError> {
        while !started.is_empty() {
            let loaded = tokio::select! {
                biased;
                loaded = self.sink.started() => loaded?,
                () = &mut self.interrupt => return Err(interrupted(self.file, total)),
            };
            self.settle(loaded, started, total).await?;
        }
        Ok(())
    }

    /// Commits the oldest started chunk, or loads all of them one by one.
    async fn settle(
        &mut self,
        loaded: Option<Loaded>,
        started: &mut VecDeque<Chunk>,
        total: &mut Progress,
    ) -> Result<(), ImportError> {
        if let Some(loaded) = loaded {
            return match started.pop_front() {
                Some(chunk) => {
                    let loaded = loaded.of_rows(chunk.rows);
                    self.commit(chunk, loaded, total).await
                }
                None => Ok(()),
            };
        }
        while let Some(chunk) = started.pop_front() {
            self.load_alone(chunk, total).await?;
        }
        Ok(())
    }

    /// Loads a chunk while no other is being loaded.
    async fn load_alone(&mut self, chunk: Chunk, total: &mut Progress) -> Result<(), ImportError> {
        // A load that is dropped leaves its transaction open; the caller cancels the statement on
        // the server.
        let loaded = tokio::select! {
            biased;
            loaded = self.sink.load(&chunk) => loaded?,
            () = &mut self.interrupt => return Err(interrupted(self.file, total)),
        };
        if let Some(first) = loaded.rejects.first().filter(|_| self.strict) {
            self.sink.roll_back().await?;
            let (file, reason) = (self.file.to_owned(), first.reason.clone());
            return Err(ImportError::Strict { file, line: first.line, reason });
        }
        self.commit(chunk, loaded, total).await
    }

    /// Commits a loaded chunk, and counts it.
    async fn commit(&mut self, mut chunk: Chunk, loaded: Loaded, total: &mut Progress) -> Result<(), ImportError> {
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
            notes: chunk.notes.iter().chain(&loaded.notes).map(|(note, count)| ((*note).to_owned(), *count)).collect(),
            times: chunk.times,
            skipped: chunk.skipped.iter().map(|(kind, count)| (kind.0.to_owned(), *count)).collect(),
            ..Tally::default()
        };
        for reject in &chunk.rejects {
            *tally.rejected.entry(reject.kind.clone()).or_default() += 1;
        }
        let step = Step { lines_done: chunk.lines_done, tally, retracted: loaded.retracted };
        self.rejects.write(&chunk.rejects)?;
        self.sink.commit(&step).await?;
        total.lines_done = step.lines_done;
        total.tally.add(&step.tally);
        if step.retracted > 0 {
            total.tally.imported = total.tally.imported.saturating_sub(step.retracted);
            *total.tally.rejected.entry(BROKEN.to_owned()).or_default() += step.retracted;
            self.rejects.count_unlisted(step.retracted);
        }
        (self.on_progress)(total);
        Ok(())
    }
}
