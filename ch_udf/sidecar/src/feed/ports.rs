//! The pipeline's surroundings as traits: a [`Source`] with its [`Reader`]s, a [`Sink`] and a
//! [`Ledger`]. No server is named here.
//!
//! An attempt stops at its first error. The next one has a higher number, so its rows supersede
//! those that the failed one left in the sink.

use super::model::{
    Chunk, CountedBy, ExtraColumn, FeedState, FirstLoad, Hour, Rejected, Rows, SourcePosition, Stage, TableRange,
};
use super::standing::Marks;
use crate::error::SidecarError;

pub(super) type Outcome<T> = Result<T, SidecarError>;

/// Reads one snapshot of the transactions at a time.
///
/// From [`open`](Self::open) to [`close`](Self::close), all methods read the same snapshot. After
/// an error the snapshot may be lost; the caller opens a new one. Rows come in any order.
pub(crate) trait Source: Send {
    type Rows: Rows;
    type Reader: Reader<Rows = Self::Rows> + 'static;

    /// Opens a snapshot, after closing an earlier one, and returns its position.
    fn open(&mut self) -> impl Future<Output = Outcome<SourcePosition>> + Send;

    /// Returns the columns of the open snapshot that the feed does not carry by name.
    fn extra_columns(&self) -> &[ExtraColumn];

    /// Returns whether rows were added, changed or removed between the snapshot `since` and the
    /// open one.
    fn has_changes(&mut self, since: &str) -> impl Future<Output = Outcome<bool>> + Send;

    /// Returns the ranges of the events between a position and the open one. `None` if these are
    /// not known, or are so much that a full load takes less.
    fn events(&mut self, since: &SourcePosition) -> impl Future<Output = Outcome<Option<Vec<TableRange>>>> + Send;

    /// Returns the hours that are to be loaded again.
    fn reloads(&mut self) -> impl Future<Output = Outcome<Vec<Hour>>> + Send;

    /// Starts reading a stage, and abandons an unfinished one.
    fn start(&mut self, stage: &Stage) -> impl Future<Output = Outcome<()>> + Send;

    /// Returns the next rows of the stage, at most `limit`, and no rows at its end. Fewer rows than
    /// `limit` do not mean the end.
    fn next(&mut self, limit: u32) -> impl Future<Output = Outcome<Self::Rows>> + Send;

    /// Divides all rows of the open snapshot into chunks. Each row is in exactly one of them.
    fn chunks(&mut self) -> impl Future<Output = Outcome<Vec<Chunk>>> + Send;

    /// Opens readers of the open snapshot that skip rows which became visible after
    /// `load_snapshot`.
    fn readers(&mut self, count: u32, load_snapshot: &str) -> impl Future<Output = Outcome<Vec<Self::Reader>>> + Send;

    fn close(&mut self) -> impl Future<Output = Outcome<()>> + Send;
}

/// Reads the chunks of a first load, one after the other. Readers work concurrently.
pub(crate) trait Reader: Send {
    type Rows: Rows;

    fn start(&mut self, chunk: &Chunk) -> impl Future<Output = Outcome<()>> + Send;

    /// Returns the next rows of the chunk, as [`Source::next`] does.
    fn next(&mut self, limit: u32) -> impl Future<Output = Outcome<Self::Rows>> + Send;

    /// Ends the chunk. Only now do its rows count as read completely.
    ///
    /// # Errors
    /// [`SidecarError::Rewritten`] when a table was rewritten since the load was planned, so that
    /// its rows are no longer in the planned blocks.
    fn finish(&mut self, chunk: &Chunk) -> impl Future<Output = Outcome<()>> + Send;
}

/// Decides which step adds the rows of a delivery to the aggregates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CountingMode {
    /// Each row's own [`CountedBy`] applies.
    PerRow,
    /// A repair follows, and also counts the rows that the views would have counted.
    Repair,
    /// A rebuild of everything derived follows.
    Rebuild,
}

impl CountingMode {
    /// Returns the step that counts a row, given the row's own value.
    #[must_use]
    pub(super) const fn counted_by(self, row: CountedBy) -> CountedBy {
        match (self, row) {
            (Self::Rebuild, _) => CountedBy::Rebuild,
            (Self::Repair, CountedBy::View) => CountedBy::Repair,
            (Self::PerRow | Self::Repair, counted_by) => counted_by,
        }
    }
}

/// Parameters of an insert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Version of the rows.
    pub version: u64,
    pub counting: CountingMode,
    /// Identifies the rows while they are in memory: a retry of the same rows uses the same token.
    /// Rows that are read again may differ, and get another token.
    pub token: String,
}

/// The result of an insert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Inserted {
    pub rows: u64,
    /// Rows that a repair has to count.
    pub to_repair: u64,
    /// Rows that the sink cannot hold.
    pub rejected: Vec<Rejected>,
}

/// Stores versioned events and their aggregates. Of a key, the row with the highest version is
/// valid, unless it is a tombstone.
///
/// When a method returns, its effect is visible to later calls on every clone. After an error, the
/// effect may be complete, partial or absent. Clones share the store and may insert concurrently.
pub(super) trait Sink: Clone + Send + 'static {
    /// Returns the sources that have fed the sink, and whether
    /// [`record_position`](Self::record_position) stored this snapshot of this source, on every
    /// shard. An old snapshot is forgotten.
    fn marks(&mut self, source_id: &str, snapshot: &str) -> impl Future<Output = Outcome<Marks>> + Send;

    /// Records that an attempt of a source begins. The caller does so before anything else of the
    /// attempt reaches the sink.
    fn begin_attempt(&mut self, source: &SourcePosition, attempt: u64) -> impl Future<Output = Outcome<()>> + Send;

    /// Returns the highest version of any row, 0 without rows.
    fn highest_version(&mut self) -> impl Future<Output = Outcome<u64>> + Send;

    /// Adds missing columns. Later inserts write exactly these in addition to the named ones.
    ///
    /// # Errors
    /// [`SidecarError::Configuration`] when a column exists with another type.
    fn add_columns(&mut self, extra_columns: &[ExtraColumn]) -> impl Future<Output = Outcome<()>> + Send;

    /// Has the views count rows as they arrive. Rows that arrived before are not counted.
    fn resume_views(&mut self) -> impl Future<Output = Outcome<()>> + Send;

    /// Stops the views during a full load: they skip its rows anyway, and planning them takes a
    /// quarter of an insert.
    fn pause_views(&mut self) -> impl Future<Output = Outcome<()>> + Send;

    /// Inserts the rows that the sink can hold. Repeating a delivery with the same token and rows
    /// changes nothing, even if the first call failed half-way.
    fn insert<R: Rows>(&mut self, delivery: &Delivery, rows: &R) -> impl Future<Output = Outcome<Inserted>> + Send;

    /// Retracts all rows of versions below `version`. The aggregates need a rebuild afterwards.
    fn remove_older(&mut self, version: u64) -> impl Future<Output = Outcome<()>> + Send;

    /// Retracts the rows of these hours that have versions below `version`, by tombstones of
    /// `version`. A repair has to count them.
    fn retract_hours(&mut self, hours: &[Hour], version: u64) -> impl Future<Output = Outcome<()>> + Send;

    /// Retracts the rows of these times of the tables that have versions below `version`, as
    /// [`retract_hours`](Self::retract_hours) does. Token transfers are parts of other rows, and
    /// nothing is retracted for them.
    fn retract_ranges(&mut self, ranges: &[TableRange], version: u64) -> impl Future<Output = Outcome<()>> + Send;

    /// Recomputes the buckets touched by rows of versions from `since` on that views did not count,
    /// and by all rows of versions from `since` up to, but not including, `current`: interrupted
    /// attempts may have counted these. The new states become valid in one step, under
    /// `generation`.
    fn repair(&mut self, since: u64, current: u64, generation: u64) -> impl Future<Output = Outcome<()>> + Send;

    /// Recomputes all aggregates. The new states become valid in one step, under `generation`, and
    /// carry `version`.
    fn rebuild(&mut self, generation: u64, version: u64) -> impl Future<Output = Outcome<()>> + Send;

    /// Stores the merged volumes, as of `version`: of the buckets with states of versions from
    /// `since` on, or of all buckets.
    fn settle(&mut self, since: Option<u64>, version: u64) -> impl Future<Output = Outcome<()>> + Send;

    /// Returns when a loss of power can take nothing that was stored before.
    fn make_durable(&mut self) -> impl Future<Output = Outcome<()>> + Send;

    /// Records that all rows up to the position are stored. The caller does so after all inserts of
    /// the attempt have succeeded.
    fn record_position(&mut self, position: &SourcePosition, attempt: u64) -> impl Future<Output = Outcome<()>> + Send;
}

/// Keeps the feed's state.
///
/// Each method is atomic: after an error it was applied completely or not at all, and
/// [`state`](Self::state) shows which. All effects survive a crash, except for that of
/// [`finish_chunk`](Self::finish_chunk).
pub(super) trait Ledger: Send {
    fn state(&mut self) -> impl Future<Output = Outcome<FeedState>> + Send;

    /// Begins an attempt and returns its number, which is above `floor` and above every earlier
    /// one. It is stored before anything of the attempt reaches the sink.
    fn begin(&mut self, floor: u64) -> impl Future<Output = Outcome<u64>> + Send;

    /// Stores the plan of a first load, and drops an earlier one and all rows that are set aside.
    fn begin_load(&mut self, load: &FirstLoad) -> impl Future<Output = Outcome<()>> + Send;

    /// Stores that the sink has all rows of a chunk, except for those that it cannot hold: they are
    /// set aside. A crash may undo this; the chunk is then loaded again.
    fn finish_chunk(
        &mut self,
        chunk: &Chunk,
        rows: u64,
        rejected: &[Rejected],
    ) -> impl Future<Output = Outcome<()>> + Send;

    /// Sets rows aside that are visible in `snapshot`. Versions that were replaced or deleted since
    /// are left out.
    fn set_aside(&mut self, rejected: &[Rejected], snapshot: &str) -> impl Future<Output = Outcome<()>> + Send;

    /// Forgets the rows of these hours and ranges that were set aside: they are read again.
    fn forget_set_aside(&mut self, hours: &[Hour], ranges: &[TableRange]) -> impl Future<Output = Outcome<()>> + Send;

    /// Drops the load in progress.
    fn drop_load(&mut self) -> impl Future<Output = Outcome<()>> + Send;

    /// Moves the confirmed position, ends the load, and removes the reloads that were served and
    /// the versions of rows that were set aside and replaced or deleted since. Returns the number
    /// of rows that remain set aside.
    ///
    /// # Errors
    /// [`SidecarError::Overtaken`] when a later attempt has begun; nothing is changed then.
    fn confirm(&mut self, confirmation: &Confirmation) -> impl Future<Output = Outcome<u64>> + Send;
}

/// The end of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Confirmation {
    pub attempt: u64,
    /// Position up to which the sink has all rows.
    pub position: SourcePosition,
    /// Snapshot from which the pass carried changes; absent for a full load.
    pub since: Option<String>,
    /// Rows that the pass carried.
    pub rows: u64,
    /// Hours that were loaded again.
    pub reloaded: Vec<Hour>,
}
