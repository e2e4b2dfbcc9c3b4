//! The feed and the way back with their connections; passes and write-backs belong to `feed`.

use std::sync::Arc;

use crate::error::SidecarError;
use crate::feed::{ClickHouseSink, PassOptions, PassReport, PostgresLedger, PostgresSource, run_pass};
use crate::servers::engine::Supervisor;
use crate::servers::postgres;
use crate::settings::Settings;
use crate::warehouse::{self, Topology};
use crate::write_back::{Kind, WriteBack, Written};

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
    has_passed: bool,
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
        Ok(Self { source, sink, ledger, has_passed: false })
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
        Ok(report)
    }

    /// Whether it has made a pass.
    pub(crate) const fn has_passed(&self) -> bool {
        self.has_passed
    }

    /// What it feeds.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.sink.topology()
    }

    /// Writes everything back.
    pub(crate) async fn write_back(&self, settings: &Settings) -> Result<Written, SidecarError> {
        let mut written = Written::default();
        for kind in Kind::ALL {
            written +=
                open_write_back(kind, settings).await?.write(&self.topology(), settings.write_back_daily).await?;
        }
        Ok(written)
    }
}

/// Connects to write a kind back.
pub(super) async fn open_write_back(kind: Kind, settings: &Settings) -> Result<WriteBack, SidecarError> {
    WriteBack::acquire(kind, postgres::connect(&settings.postgres_url).await?.client).await
}
