//! `arx-sidecar profile`: prints a wallet's profile.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;

use super::CommandError;
use super::output::print_line;
use crate::cache::{WalletKey, WalletReader};
use crate::escape::{JsonText, Lines};
use crate::settings::Settings;

/// Arguments of `arx-sidecar profile`.
#[derive(Debug, Args)]
pub(super) struct ProfileArgs {
    /// The wallet
    address: String,
    /// Its network
    #[arg(long, default_value = "ethereum")]
    network: String,
    /// A pg_snapshot, as pg_current_snapshot() prints it, that the profile must have seen
    #[arg(long, value_name = "SNAPSHOT")]
    not_older_than: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ProfileArgs {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let key = WalletKey::parse(&self.address, &self.network)?;
        let reader = WalletReader::connect_once(settings).await?;
        let started = Instant::now();
        let (answer, origin) = reader.get(&key, self.not_older_than.as_deref()).await?;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        if self.json {
            let document = serde_json::json!({
                "profile": answer.profile, "source": origin, "snapshot": answer.snapshot, "latency_microseconds": micros,
            });
            print_line(JsonText(document))?;
        } else {
            print_line(format_args!("{}source        {origin} in {}", Lines(&answer.profile), latency(micros)))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn latency(micros: u64) -> String {
    if micros < 1_000 { format!("{micros} µs") } else { format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_readable() {
        assert_eq!(latency(412), "412 µs");
        assert_eq!(latency(3_456), "3.4 ms");
    }
}
