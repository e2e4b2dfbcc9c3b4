//! The pipeline's surroundings as traits: a [`Source`] with its [`Reader`]s, a [`Sink`] and a
//! [`Ledger`]. No server is named here.

use super::model::{Chunk, Counted, FirstLoad, FurtherColumn, Hour, Mark, Rows, Stage, Stored};
use crate::error::SidecarError;

pub(super) type Outcome<T> = Result<T, SidecarError>;

/// One snapshot of the transactions at a time.
pub(crate) trait Source: Send {
    /// Rows as they come.
    type Rows: Rows;
    /// Reads chunks of a first load on a connection of its own.
    type Reader: Reader<Rows = Self::Rows> + 'static;

    /// Opens a snapshot and says where it stands. An earlier one is closed.
    fn open(&mut self) -> impl Future<Output = Outcome<Mark>> + Send;

    /// Columns that the sink has to have beside its own, as the snapshot shows them.
    fn further_columns(&self) -> &[FurtherColumn];

    /// Whether the snapshot shows anything that became visible since `position`.
    fn has_news(&mut self, position: &str) -> impl Future<Output = Outcome<bool>> + Send;

    /// Hours that are to be loaded again.
    fn reloads(&mut self) -> impl Future<Output = Outcome<Vec<Hour>>> + Send;

    /// Starts reading a stage of the snapshot.
    fn start(&mut self, stage: &Stage) -> impl Future<Output = Outcome<()>> + Send;

    /// The next rows of the stage, at most `limit`; none at its end.
    fn next(&mut self, limit: u32) -> impl Future<Output = Outcome<Self::Rows>> + Send;

    /// Everything there is, in chunks.
    fn chunks(&mut self) -> impl Future<Output = Outcome<Vec<Chunk>>> + Send;

    /// Readers of the open snapshot that leave out what became visible since `position`.
    fn readers(&mut self, count: u32, position: &str) -> impl Future<Output = Outcome<Vec<Self::Reader>>> + Send;

    /// Closes the snapshot.
    fn close(&mut self) -> impl Future<Output = Outcome<()>> + Send;
}

/// Reads one chunk after the other.
pub(crate) trait Reader: Send {
    /// Rows as they come.
    type Rows: Rows;

    /// Starts reading a chunk.
    fn start(&mut self, chunk: &Chunk) -> impl Future<Output = Outcome<()>> + Send;

    /// The next rows of the chunk, at most `limit`; none at its end.
    fn next(&mut self, limit: u32) -> impl Future<Output = Outcome<Self::Rows>> + Send;

    /// Ends the chunk.
    ///
    /// # Errors
    /// [`SidecarError::Rewritten`] when the table's rows are no longer where the plan of the load
    /// has them.
    fn finish(&mut self, chunk: &Chunk) -> impl Future<Output = Outcome<()>> + Send;
}

/// Who puts the rows of a delivery into the aggregates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// Whoever each row says.
    AsMarked,
    /// A repair follows, and counts those that the views would have counted.
    ByRepair,
    /// A rebuild follows, and makes everything that is derived from the rows.
    ByRebuild,
}

impl Counting {
    /// Who counts a row that says this of itself.
    #[must_use]
    pub(super) const fn counted(self, of_row: Counted) -> Counted {
        match (self, of_row) {
            (Self::ByRebuild, _) => Counted::ByRebuild,
            (Self::ByRepair, Counted::ByView) => Counted::ByRepair,
            (Self::AsMarked | Self::ByRepair, counted) => counted,
        }
    }
}

/// What to put into the sink, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Version of the rows.
    pub version: u64,
    /// Who counts the rows.
    pub counting: Counting,
    /// Names these rows for as long as they are held in memory: whoever delivers them again uses
    /// the same name, and the sink takes them once. Rows that are read again may be others, and get
    /// another name.
    pub token: String,
}

/// Holds versioned events: of a key, the highest version counts, unless it is a tombstone. Clones
/// share what they write to.
pub(super) trait Sink: Clone + Send + 'static {
    /// Whether everything up to `position` of `source` was put here.
    fn holds(&mut self, source: &str, position: &str) -> impl Future<Output = Outcome<bool>> + Send;

    /// The highest version there is, 0 if there is none.
    fn highest_version(&mut self) -> impl Future<Output = Outcome<u64>> + Send;

    /// Makes room for columns that the source has.
    fn prepare(&mut self, further: &[FurtherColumn]) -> impl Future<Output = Outcome<()>> + Send;

    /// Has the views count what arrives, if they do not already.
    fn resume_views(&mut self) -> impl Future<Output = Outcome<()>> + Send;

    /// Lets the views rest while everything is loaded: they leave such rows to the rebuild, and
    /// planning them takes a fourth of an insert.
    fn pause_views(&mut self) -> impl Future<Output = Outcome<()>> + Send;

    /// Puts rows in. Returns how many of them a repair has to count.
    fn insert<R: Rows>(&mut self, delivery: &Delivery, rows: &R) -> impl Future<Output = Outcome<u64>> + Send;

    /// Takes back whatever has a lower version.
    fn remove_older(&mut self, version: u64) -> impl Future<Output = Outcome<()>> + Send;

    /// Takes back what these hours hold of lower versions, by tombstones of this one.
    fn take_back(&mut self, hours: &[Hour], version: u64) -> impl Future<Output = Outcome<()>> + Send;

    /// Computes the aggregates anew that rows of versions from `since` on touched, `current` being
    /// the tombstones' version of this attempt. The new states become valid in one step, under
    /// `generation`.
    fn repair(&mut self, since: u64, current: u64, generation: u64) -> impl Future<Output = Outcome<()>> + Send;

    /// Computes all aggregates anew. They become valid in one step, under `generation`, and are
    /// said to be of `version`.
    fn rebuild(&mut self, generation: u64, version: u64) -> impl Future<Output = Outcome<()>> + Send;

    /// Settles, as of `version`, what the states of buckets come to that rows of versions from
    /// `since` on touched, or those of all.
    fn settle(&mut self, since: Option<u64>, version: u64) -> impl Future<Output = Outcome<()>> + Send;

    /// Notes that everything up to the mark's position is here.
    fn mark(&mut self, mark: &Mark, attempt: u64) -> impl Future<Output = Outcome<()>> + Send;
}

/// The feed's state.
pub(super) trait Ledger: Send {
    /// What was confirmed last, the number of the last attempt, and the load under way.
    fn stored(&mut self) -> impl Future<Output = Outcome<Stored>> + Send;

    /// Stores the intent of an attempt and returns its number: above every earlier one, and above
    /// `floor`.
    fn begin(&mut self, floor: u64) -> impl Future<Output = Outcome<u64>> + Send;

    /// Stores the plan of a first load, instead of an earlier one.
    fn begin_load(&mut self, load: &FirstLoad) -> impl Future<Output = Outcome<()>> + Send;

    /// Stores that a chunk of the load is in the sink.
    fn chunk_done(&mut self, chunk: &Chunk, rows: u64) -> impl Future<Output = Outcome<()>> + Send;

    /// Forgets the load under way.
    fn drop_load(&mut self) -> impl Future<Output = Outcome<()>> + Send;

    /// Stores the new position in one step with the end of the load and of the reloads that led to
    /// it.
    fn confirm(&mut self, confirmation: &Confirmation) -> impl Future<Output = Outcome<()>> + Send;
}

/// The end of a pass, stored in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Confirmation {
    /// The attempt that succeeded.
    pub attempt: u64,
    /// Up to where everything is in the sink.
    pub mark: Mark,
    /// Whether everything was loaded anew.
    pub full: bool,
    /// Rows carried.
    pub rows: u64,
    /// Hours that were loaded again.
    pub reloaded: Vec<Hour>,
}
