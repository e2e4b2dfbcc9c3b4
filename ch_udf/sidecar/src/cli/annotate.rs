//! `arx-sidecar annotate`: adds an annotation to a wallet's profile.

use std::process::ExitCode;

use clap::Args;

use super::CommandError;
use super::output::print_line;
use crate::cache::{Annotation, QueuedWrite, WalletKey, WriteQueue, identity};
use crate::escape::Inline;
use crate::servers::postgres;
use crate::settings::Settings;

/// Arguments of `arx-sidecar annotate`.
#[derive(Debug, Args)]
pub(super) struct AnnotateArgs {
    /// The wallet
    address: String,
    /// A JSON object, such as '{"note": "reviewed"}'
    #[arg(value_name = "JSON")]
    annotation: String,
    /// Its network
    #[arg(long, default_value = "ethereum")]
    network: String,
}

impl AnnotateArgs {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let key = WalletKey::parse(&self.address, &self.network)?;
        let annotation = Annotation::parse(&self.annotation)?;
        let (identity, _) = identity(&postgres::connect(settings).await?.client).await?;
        let queue = WriteQueue::connect(settings, identity).await?;
        let id = queue.accept(QueuedWrite::Annotation(key.clone(), annotation)).await?;
        let stream = queue.identity().shard_of(&key).writes;
        print_line(format_args!(
            "queued as {} in {stream}; a running `arx-sidecar run` writes it to PostgreSQL",
            Inline(id)
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
