//! Writes aggregates from ClickHouse back into PostgreSQL: hourly and daily volumes (`volumes`),
//! and the behaviour of wallets (`behaviour`). Owns the selection of rows that changed since the
//! last write-back, and their storage.
//!
//! Rows of aggregates carry the highest version of an event in them, settled volumes the version
//! that settled them. The position of a write-back is a version too, stored next to the feed's
//! position: rows above it have changed. An interrupted write-back is repeated with the same
//! result.

mod behaviour;
mod rules;
mod sql;
mod volumes;

use std::ops::AddAssign;

use tokio_postgres::{Client, Transaction};

use crate::error::{Doing, SidecarError};
use crate::feed::{CONSUMER, read_standing, signed, unsigned};
use crate::servers::postgres::{self, Duty};
use crate::settings::Settings;
use crate::warehouse::Topology;
pub(crate) use rules::{RuleBook, Rules};

/// Rows of one statement.
const BATCH: usize = 5_000;

/// Rows that were written back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Hours of `arx.hourly_volume`.
    pub(crate) hours: usize,
    /// Days of `arx.daily_transaction_stats`.
    pub(crate) days: usize,
    /// Wallets of `arx.wallet_profiles`.
    pub(crate) wallets: usize,
}

impl AddAssign for Written {
    fn add_assign(&mut self, more: Self) {
        self.hours += more.hours;
        self.days += more.days;
        self.wallets += more.wallets;
    }
}

/// A kind of aggregate that is written back independently of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Volumes by hour, and by day if the database leaves them to ClickHouse.
    Volumes,
    /// Behaviour of wallets.
    Behaviour,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Volumes, Self::Behaviour];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Volumes => "volumes",
            Self::Behaviour => "behaviour",
        }
    }

    const fn duty(self) -> Duty {
        match self {
            Self::Volumes => Duty::Volumes,
            Self::Behaviour => Duty::Behaviour,
        }
    }
}

/// Writes every kind back once.
///
/// # Errors
/// Errors of [`WriteBack::open`] and [`WriteBack::write`].
pub(crate) async fn write_all(topology: &Topology, settings: &Settings) -> Result<Written, SidecarError> {
    let mut written = Written::default();
    for kind in Kind::ALL {
        written += WriteBack::open(kind, settings).await?.write(topology, settings.write_back_daily).await?;
    }
    Ok(written)
}

/// Writes one kind back, on the connection that holds its lock.
#[derive(Debug)]
pub(crate) struct WriteBack {
    kind: Kind,
    client: Client,
}

/// Versions whose rows are to be written back.
struct Since {
    /// Version up to which rows were written back.
    written: u64,
    /// Version up to which ClickHouse has confirmed rows.
    until: u64,
    /// True if everything is to be written: aggregates were rebuilt since.
    all: bool,
}

impl WriteBack {
    /// Connects to PostgreSQL, and takes the lock of this kind.
    ///
    /// # Errors
    /// [`SidecarError::Taken`] while another sidecar writes this kind back, and those of
    /// connecting.
    pub(crate) async fn open(kind: Kind, settings: &Settings) -> Result<Self, SidecarError> {
        let client = postgres::connect(settings).await?.client;
        kind.duty().acquire(&client).await?;
        Ok(Self { kind, client })
    }

    /// Brings PostgreSQL up to the rows that ClickHouse had confirmed when this started; with
    /// `with_days`, daily volumes too. Passes may run at the same time: their rows have higher
    /// versions, and are left to the next write-back.
    ///
    /// # Errors
    /// Errors of the servers. The write-back may simply be repeated.
    pub(crate) async fn write(&mut self, from: &Topology, with_days: bool) -> Result<Written, SidecarError> {
        let mut written = Written::default();
        match self.kind {
            Kind::Volumes => {
                written.hours = self.write_volumes(from, &volumes::HOURS).await?;
                if with_days {
                    written.days = self.write_volumes(from, &volumes::DAYS).await?;
                }
            }
            Kind::Behaviour => written.wallets = self.write_behaviour(from).await?,
        }
        Ok(written)
    }

    async fn since(&self, from: &Topology, consumer: &str) -> Result<Since, SidecarError> {
        let row = self
            .client
            .query_one(sql::POSITIONS, &[&CONSUMER, &consumer])
            .await
            .doing("read the position of the write-back")?;
        let (confirmed, written) = (unsigned(row.get(0)), unsigned(row.get(1)));
        if !read_standing(&self.client, from).await?.is_own() {
            // These are the aggregates of another database, or of a state that this one has left.
            // The feed reports it, or loads everything.
            return Ok(Since { written, until: written, all: false });
        }
        let floor = from.valid_generations().await?.floor;
        Ok(Since { written, until: confirmed * 2 + 1, all: written < floor * 2 })
    }
}

async fn store_version(transaction: &Transaction<'_>, consumer: &str, version: u64) -> Result<(), SidecarError> {
    transaction
        .execute(sql::STORE_VERSION, &[&consumer, &signed(version)])
        .await
        .doing("store the position of the write-back")?;
    Ok(())
}
