//! `arx-sidecar annotate`: adds an annotation to a wallet's profile.

use std::process::ExitCode;

use clap::Args;

use super::CommandError;
use crate::cache::{Annotation, ProfileCache, WalletKey};
use crate::escape::Inline;
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
        let cache = ProfileCache::connect(settings).await?;
        let id = cache.annotate(&key, &annotation).await?;
        println!("queued as {} in {}; a running `arx-sidecar run` writes it to PostgreSQL", Inline(id), key.writes());
        Ok(ExitCode::SUCCESS)
    }
}
