//! `arx-sidecar label`: gives a label to an address.

use std::process::ExitCode;

use clap::Args;

use super::CommandError;
use super::output::print_line;
use crate::cache::{CustomLabel, QueuedWrite, WalletKey, WriteQueue, identity};
use crate::escape::Inline;
use crate::servers::postgres;
use crate::settings::Settings;

/// Arguments of `arx-sidecar label`.
#[derive(Debug, Args)]
pub(super) struct LabelArgs {
    /// The address
    address: String,
    /// A JSON object, such as '{"category": "exchange", "source": "desk", "label": "Kraken"}', also
    /// with severity and confidence
    #[arg(value_name = "JSON")]
    label: String,
    /// Its network
    #[arg(long, default_value = "ethereum")]
    network: String,
}

impl LabelArgs {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let key = WalletKey::parse(&self.address, &self.network)?;
        let label = CustomLabel::parse(&self.label)?;
        let (identity, _) = identity(&postgres::connect(settings).await?.client).await?;
        let queue = WriteQueue::connect(settings, identity).await?;
        let id = queue.accept(QueuedWrite::Label(key.clone(), label)).await?;
        let stream = queue.identity().shard_of(&key).writes;
        print_line(format_args!(
            "queued as {} in {stream}; a running `arx-sidecar run` writes it to PostgreSQL",
            Inline(id)
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
