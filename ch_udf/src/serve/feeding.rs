//! The feed with its connections, and when aggregates are written back. Owns the rhythm; passes and write-backs belong to `feed`.

use std::time::Instant;

use crate::config::Settings;
use crate::engine::Supervisor;
use crate::error::SidecarError;
use crate::feed::{
    ClickHouseSink, PassOptions, PassReport, PostgresLedger, PostgresSource, WriteBack, Written, run_pass,
};
use crate::postgres;
use crate::warehouse::{self, Topology};

/// What a pass carried, and what was written back after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Into ClickHouse.
    pub pass: PassReport,
    /// Into PostgreSQL.
    pub written: Written,
}

/// What a feed needs, connected.
pub(crate) struct Feed {
    source: PostgresSource,
    sink: ClickHouseSink,
    ledger: PostgresLedger,
    volumes: Due,
    behaviour: Due,
    has_passed: bool,
}

/// When something that follows passes was done last, and whether there has been a pass since.
#[derive(Default)]
struct Due {
    last: Option<Instant>,
    is_pending: bool,
}

impl Due {
    fn take(&mut self, interval: std::time::Duration) -> bool {
        let is_due = self.is_pending && self.last.is_none_or(|last| last.elapsed() >= interval);
        if is_due {
            *self = Self { last: Some(Instant::now()), is_pending: false };
        }
        is_due
    }
}

impl Feed {
    /// Connects to everything and makes the tables that are missing.
    pub(crate) async fn open(settings: &Settings, supervisor: &Supervisor) -> Result<Self, SidecarError> {
        let ledger = PostgresLedger::acquire(postgres::connect(&settings.postgres_url).await?.client).await?;
        let read_from = settings.postgres_read_url.as_ref().unwrap_or(&settings.postgres_url);
        let source = PostgresSource::connect(read_from).await?;
        let topology = Topology::connect(settings, supervisor).await?;
        warehouse::ensure(&topology).await?;
        let sink = ClickHouseSink::open(topology, !supervisor.is_embedded()).await?;
        // an earlier process may have ended between a pass and what follows it
        let pending = || Due { last: None, is_pending: true };
        Ok(Self { source, sink, ledger, volumes: pending(), behaviour: pending(), has_passed: false })
    }

    /// One pass.
    pub(crate) async fn pass(&mut self, settings: &Settings) -> Result<PassReport, SidecarError> {
        let options = PassOptions {
            chunk_rows: settings.feed_chunk_rows,
            load_workers: settings.feed_load_workers,
            asks_sink: !self.has_passed,
        };
        let report = run_pass(&mut self.source, &mut self.sink, &mut self.ledger, options).await?;
        self.has_passed = true;
        if !report.is_idle() {
            self.volumes.is_pending = true;
            self.behaviour.is_pending = true;
        }
        Ok(report)
    }

    /// Writes back what it is time for.
    pub(crate) async fn write_back_due(&mut self, settings: &Settings) -> Result<Written, SidecarError> {
        let mut written = Written::default();
        if self.volumes.take(settings.write_back()) {
            written = WriteBack::new(&self.sink, &mut self.ledger).volumes(settings.write_back_daily).await?;
        }
        if self.behaviour.take(settings.behaviour()) {
            written.wallets = WriteBack::new(&self.sink, &mut self.ledger).behaviour().await?.wallets;
        }
        Ok(written)
    }

    /// Writes everything back.
    pub(crate) async fn write_back_all(&mut self, settings: &Settings) -> Result<Written, SidecarError> {
        let mut write_back = WriteBack::new(&self.sink, &mut self.ledger);
        let volumes = write_back.volumes(settings.write_back_daily).await?;
        Ok(Written { wallets: write_back.behaviour().await?.wallets, ..volumes })
    }
}
