//! `arx-sidecar cache`: fills, compares, describes and empties the cached profiles.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use indicatif::{HumanBytes, ProgressBar};

use super::output::print_line;
use super::{CommandError, exit_code};
use crate::cache::{self, Lengths, News, ProfileCache, Subscriber, identity, remove_all};
use crate::escape::{Inline, JsonText};
use crate::servers::postgres;
use crate::servers::redis::{Endpoint, connect, information};
use crate::settings::Settings;

/// Differing profiles that are printed.
const MAX_DIFFERENCES: usize = 20;

#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// Cache the profile of every stored wallet; an interrupted run is continued
    Warm(WarmArgs),
    /// Compare every cached profile with PostgreSQL
    Verify,
    /// Print what the cache and the streams of writes hold
    Stats,
    /// Print the changes and alerts that the sidecar announced, one JSON object a line
    Events(EventsArgs),
    /// Remove the cached profiles of this database; writes that wait for PostgreSQL stay
    Flush,
}

#[derive(Debug, Args)]
pub(super) struct WarmArgs {
    /// Start over instead of continuing an interrupted run
    #[arg(long)]
    restart: bool,
}

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// Id of the last event that was seen; without it, the oldest one that is kept comes first
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Go on with events as they come
    #[arg(long)]
    follow: bool,
}

/// Pause between looks for events.
const EVENT_POLL: Duration = Duration::from_millis(100);

impl EventsArgs {
    async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let (identity, _) = identity(&postgres::connect(settings).await?.client).await?;
        let cache = ProfileCache::connect(settings, identity).await?;
        let (mut subscriber, is_missing) = Subscriber::begin(cache, self.after.as_deref()).await?;
        if is_missing {
            print_line(serde_json::json!({ "missing": true }))?;
        }
        loop {
            let events = subscriber.next().await?;
            for event in &events {
                let line = match &event.news {
                    News::Changes(changes) => {
                        let changes: serde_json::Value = serde_json::from_str(changes).unwrap_or_default();
                        serde_json::json!({ "id": event.id, "changes": changes })
                    }
                    News::Alert(alert_id) => serde_json::json!({ "id": event.id, "alert": alert_id }),
                };
                print_line(JsonText(line))?;
            }
            if events.is_empty() {
                if !self.follow {
                    return Ok(exit_code(!is_missing));
                }
                tokio::time::sleep(EVENT_POLL).await;
            }
        }
    }
}

impl CacheCommand {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        match self {
            Self::Warm(args) => args.run(settings).await,
            Self::Verify => verify(settings).await,
            Self::Stats => stats(settings).await,
            Self::Events(args) => args.run(settings).await,
            Self::Flush => flush(settings).await,
        }
    }
}

fn progress() -> (ProgressBar, impl FnMut(u64, u64)) {
    let bar = ProgressBar::new(0);
    let shown = bar.clone();
    let update = move |done, of| {
        shown.set_length(of);
        shown.set_position(done);
    };
    (bar, update)
}

impl WarmArgs {
    async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let started = Instant::now();
        let (bar, update) = progress();
        let filled = cache::fill(settings, self.restart, update).await?;
        bar.finish_and_clear();
        let resumed = match filled.resumed {
            0 => String::new(),
            resumed => format!(", {resumed} of them by an earlier run"),
        };
        print_line(format_args!(
            "{} profiles read{resumed}, {} cached, in {:.1} s",
            filled.read,
            filled.cached,
            started.elapsed().as_secs_f64()
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn verify(settings: &Settings) -> Result<ExitCode, CommandError> {
    let (bar, update) = progress();
    let compared = cache::compare(settings, update).await?;
    bar.finish_and_clear();
    for wallet in compared.differing.iter().take(MAX_DIFFERENCES) {
        print_line(format_args!("DIFFERS  {} {}", Inline(&wallet.network), Inline(&wallet.address)))?;
    }
    if compared.differing.len() > MAX_DIFFERENCES {
        print_line(format_args!("... and {} more", compared.differing.len() - MAX_DIFFERENCES))?;
    }
    print_line(format_args!(
        "{} keys: {} profiles equal PostgreSQL's, {} differ, {} are not in use",
        compared.keys,
        compared.equal,
        compared.differing.len(),
        compared.unused
    ))?;
    Ok(exit_code(compared.differing.is_empty()))
}

async fn stats(settings: &Settings) -> Result<ExitCode, CommandError> {
    let (identity, height) = identity(&postgres::connect(settings).await?.client).await?;
    let cache = ProfileCache::connect(settings, identity.clone()).await?;
    let facts = information(&mut cache.connection(), "describe the cache").await?;
    print_line(format_args!("redis         {} at {}", Inline(&cache.version), settings.redis_url))?;
    print_line(format_args!("identity      {identity}"))?;
    let number = |name, show: fn(u64) -> String| facts.sum(name).map_or_else(|| "unknown".to_owned(), show);
    print_line(format_args!(
        "memory        {}, policy {}, {} evicted",
        number("used_memory", |bytes| HumanBytes(bytes).to_string()),
        Inline(&cache.eviction),
        number("evicted_keys", |keys| keys.to_string())
    ))?;
    match cache.watermark().await? {
        Some(watermark) => {
            let behind = height.0.saturating_sub(watermark.height.0);
            print_line(format_args!("watermark     {}, {behind} transactions ago", Inline(&watermark.snapshot)))?;
            for (network, floor) in &watermark.floors {
                print_line(format_args!("floor         {}: {}", Inline(network), floor.0))?;
            }
        }
        None => print_line("watermark     none: no sidecar keeps the profiles in step, so PostgreSQL answers")?,
    }
    let profiles = cache.count().await?;
    print_line(format_args!("profiles      {profiles}"))?;
    let mut streams = connect(settings, Endpoint::Streams).await?.link;
    let Lengths { queued, dead, .. } = Lengths::read(&mut streams, &identity).await?;
    print_line(format_args!("annotations   {queued} queued, {dead} dead letters"))?;
    Ok(ExitCode::SUCCESS)
}

async fn flush(settings: &Settings) -> Result<ExitCode, CommandError> {
    let (identity, _) = identity(&postgres::connect(settings).await?.client).await?;
    let cache = ProfileCache::connect(settings, identity).await?;
    let removed = remove_all(&cache).await?;
    print_line(format_args!("{removed} keys removed"))?;
    Ok(ExitCode::SUCCESS)
}
