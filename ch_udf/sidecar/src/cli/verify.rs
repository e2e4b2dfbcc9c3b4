//! `arx-sidecar verify`: compares ClickHouse with PostgreSQL.

use std::fmt;
use std::process::ExitCode;

use clap::Args;

use super::output::print;
use super::{CommandError, exit_code};
use crate::escape::{Inline, Lines};
use crate::feed::Hour;
use crate::settings::Settings;
use crate::verify::{self, Comparison, Difference, Verified, VerifiedDays};

/// Differing hours that are printed.
const MAX_DIFFERENCES: usize = 20;

/// Arguments of `arx-sidecar verify`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct VerifyArgs {
    /// First day to compare (UTC) [default: the first with transactions]
    #[arg(long, value_name = "DATE")]
    since: Option<chrono::NaiveDate>,
    /// Last day to compare (UTC) [default: the last with transactions]
    #[arg(long, value_name = "DATE")]
    until: Option<chrono::NaiveDate>,
    /// Reload the hours that differ
    #[arg(long)]
    repair: bool,
    /// Read every hour, also those without a change since the last comparison
    #[arg(long)]
    full: bool,
}

impl VerifyArgs {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let days = VerifiedDays { since: self.since, until: self.until };
        let comparison = Comparison { is_full: self.full, repairs: self.repair };
        let verified = verify::run(days, comparison, settings).await?;
        print(Lines(VerifiedScreen(&verified)))?;
        Ok(exit_code(verified.is_equal()))
    }
}

struct VerifiedScreen<'a>(&'a Verified);

impl fmt::Display for VerifiedScreen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verified { hours, transactions, differences, changing, orphans, set_aside, reloaded, unchanged } = self.0;
        writeln!(f, "{hours} hours compared, {transactions} transactions and internal transfers in PostgreSQL")?;
        if *unchanged > 0 {
            writeln!(
                f,
                "{unchanged} of them are in ClickHouse as they were at the last comparison, and were not read"
            )?;
        }
        if *reloaded > 0 {
            writeln!(f, "{reloaded} hours differed and were reloaded")?;
        }
        for Difference { hour, in_postgres, in_clickhouse, reason } in differences.iter().take(MAX_DIFFERENCES) {
            let (network, hour) = (Inline(&hour.network), start(hour));
            writeln!(
                f,
                "DIFFERS  {network} {hour}: {in_postgres} in PostgreSQL, {in_clickhouse} in ClickHouse ({reason})"
            )?;
        }
        if differences.len() > MAX_DIFFERENCES {
            writeln!(f, "... and {} more hours", differences.len() - MAX_DIFFERENCES)?;
        }
        if *changing > 0 {
            writeln!(f, "{changing} hours are changing and were left out; run verify again when there is less load")?;
        }
        if *orphans > 0 {
            writeln!(f, "{orphans} token transfers wait for their transaction, which is not in PostgreSQL")?;
        }
        if *set_aside > 0 {
            writeln!(f, "{set_aside} rows are set aside in arx.feed_rejects: ClickHouse cannot hold them")?;
        }
        if differences.is_empty() {
            writeln!(f, "both sides are the same: counts, exact sums, checksums, aggregates")
        } else {
            writeln!(f, "{} hours differ; `arx-sidecar verify --repair` reloads them", differences.len())
        }
    }
}

/// Formats the start of an hour.
fn start(hour: &Hour) -> String {
    let time = chrono::DateTime::from_timestamp(hour.hours.saturating_mul(3_600), 0);
    time.map_or_else(|| format!("hour {}", hour.hours), |time| time.format("%Y-%m-%d %H:%M").to_string())
}
