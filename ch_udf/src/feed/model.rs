//! What moves through the feed: plain values without behaviour of any server.

/// Microseconds in an hour.
pub const HOUR_MICROS: i64 = 3_600_000_000;

/// A transaction as it is now, or (when `deleted`) the key of one that is no longer there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Microseconds since 1970, UTC.
    pub event_time: i64,
    /// Network.
    pub network: String,
    /// Hash.
    pub tx_hash: String,
    /// Block.
    pub block_number: u64,
    /// Place in the block.
    pub transaction_index: Option<u32>,
    /// Sender.
    pub from_address: String,
    /// Receiver; none for a contract creation.
    pub to_address: Option<String>,
    /// Units of 10⁻¹⁸ coin.
    pub value: i128,
    /// Units of 10⁻² dollar.
    pub value_usd: Option<i128>,
    /// Gas used.
    pub gas_used: Option<u64>,
    /// Gas price.
    pub gas_price: Option<u64>,
    /// `pending`, `confirmed` or `failed`.
    pub status: String,
    /// A tombstone: only network, hash, time and sender mean something.
    pub deleted: bool,
}

impl Change {
    /// The hour this belongs to.
    #[must_use]
    pub fn hour(&self) -> Hour {
        Hour { network: self.network.clone(), hours: self.event_time.div_euclid(HOUR_MICROS) }
    }
}

/// An hour of a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour {
    /// Network.
    pub network: String,
    /// Hours since 1970, UTC.
    pub hours: i64,
}

/// What happened in an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HourlyVolume {
    /// Which hour.
    pub hour: Hour,
    /// Transactions of any status.
    pub transaction_count: u64,
    /// Native coins moved by transactions that did not fail, as a decimal number; a sum may exceed what one row can hold.
    pub total_volume: String,
    /// Distinct senders.
    pub unique_senders: u64,
    /// Distinct receivers.
    pub unique_receivers: u64,
}

/// Where a source stands: a snapshot, and what tells whether two snapshots of it can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// `pg_snapshot` as text.
    pub position: String,
    /// Moves when rows came or went that no row trigger saw.
    pub epoch: i64,
    /// Identity of the cluster.
    pub system_identifier: i64,
    /// Timeline of the cluster.
    pub timeline: i32,
    /// Name of the database.
    pub database: String,
}

impl Mark {
    /// Identity of the source in the sink.
    #[must_use]
    pub fn source(&self) -> String {
        format!("{}/{}", self.system_identifier, self.database)
    }
}

/// What PostgreSQL remembers of the feed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Snapshot up to which everything is in the sink and in the volumes.
    pub position: Option<String>,
    /// Number of the last attempt.
    pub attempt: u64,
    /// Epoch of `position`.
    pub epoch: Option<i64>,
    /// Cluster of `position`.
    pub system_identifier: Option<i64>,
    /// Timeline of `position`.
    pub timeline: Option<i32>,
}

impl Stored {
    /// The stored position, if what became visible since can be asked of the source that is at `mark`.
    #[must_use]
    pub fn comparable_position(&self, mark: &Mark) -> Option<&str> {
        let same = self.epoch == Some(mark.epoch)
            && self.system_identifier == Some(mark.system_identifier)
            && self.timeline == Some(mark.timeline);
        if same { self.position.as_deref() } else { None }
    }
}

/// How much a pass carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// Everything there is.
    Full,
    /// What became visible since this snapshot.
    Since(String),
}

/// What is read from the source next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Keys of rows that were updated or deleted since this snapshot.
    FormerSelves(String),
    /// Rows as they are now.
    Rows(Load),
}

/// Hours whose volumes a pass has to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// All of them; what is not among the new volumes goes.
    All,
    /// These; those without a new volume go.
    Hours(Vec<Hour>),
}

/// The end of a pass, stored in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// The attempt that succeeded.
    pub attempt: u64,
    /// Where the source stood.
    pub mark: Mark,
    /// Rows carried.
    pub rows: u64,
    /// Hours to write.
    pub touched: Touched,
    /// Their volumes.
    pub volumes: Vec<HourlyVolume>,
}
