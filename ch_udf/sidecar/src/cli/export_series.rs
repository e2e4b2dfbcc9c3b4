//! `arx-sidecar export-series`: time series as InfluxDB's line protocol.

use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Args;

use super::CommandError;
use super::import_labels::edition;
use super::output::{buffered, print_line};
use crate::error::{DoingTo, SidecarError};
use crate::export::{SeriesRequest, write_series};
use crate::settings::Settings;

/// Arguments of `arx-sidecar export-series`.
#[derive(Debug, Args)]
pub(super) struct SeriesArgs {
    /// Network of the series
    #[arg(long)]
    network: String,
    /// The series of this wallet, and not those of the network
    #[arg(long, value_name = "ADDRESS")]
    wallet: Option<String>,
    /// A metric of arx.wallet_time_series() or arx.network_time_series(); may be repeated
    #[arg(long = "metric", value_name = "METRIC", default_value = "volume")]
    metrics: Vec<String>,
    /// Length of a bucket
    #[arg(long, value_name = "INTERVAL", default_value = "1 day")]
    bucket: String,
    /// First time, YYYY-MM-DD or with time and zone [default: that of the first transaction]
    #[arg(long, value_name = "TIME", value_parser = edition)]
    from: Option<DateTime<Utc>>,
    /// End of the last bucket [default: now]
    #[arg(long, value_name = "TIME", value_parser = edition)]
    until: Option<DateTime<Utc>>,
    /// Buckets without rows: none leaves them out
    #[arg(long, value_name = "FILL", default_value = "none")]
    fill: String,
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// File of the lines, which appears whole or not at all [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl SeriesArgs {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let micros = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp_micros());
        let request = SeriesRequest {
            network: self.network,
            wallet: self.wallet,
            metrics: self.metrics,
            bucket: self.bucket,
            from: micros(self.from),
            until: micros(self.until),
            fill: self.fill,
            time_zone: self.time_zone,
        };
        let Some(path) = self.output else {
            write_series(&request, settings, &mut buffered()).await?;
            return Ok(ExitCode::SUCCESS);
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref());
        let mut file = tempfile::NamedTempFile::new_in(folder).doing_to("create a file in", folder)?;
        let lines = write_series(&request, settings, &mut std::io::BufWriter::new(&mut file)).await?;
        file.as_file().sync_all().doing_to("write", &path)?;
        file.persist(&path).map_err(|error| SidecarError::Io {
            doing: "write",
            path: path.clone(),
            source: error.error,
        })?;
        print_line(format_args!("{}: {lines} lines", path.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
