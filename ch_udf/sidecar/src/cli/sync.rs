//! `arx-sidecar sync`: one pass of the feed, and one write-back of everything.

use std::process::ExitCode;

use super::CommandError;
use super::output::print_line;
use crate::error::{Chain, SidecarError};
use crate::feed::{FeedSession, PassReport};
use crate::retry::Retrier;
use crate::servers::postgres;
use crate::servers::supervisor::Supervisor;
use crate::settings::Settings;
use crate::write_back::{Written, write_all};

pub(super) async fn run(settings: &Settings) -> Result<ExitCode, CommandError> {
    let (pass, written) = sync(settings).await?;
    print_line(message(&pass, written))?;
    Ok(ExitCode::SUCCESS)
}

/// Syncs once, with an engine of its own if none runs. Waits while another process is in the way
/// (another pass, an engine that is stopping); a server that is down is an error at once.
///
/// # Errors
/// The first error that retrying does not help.
async fn sync(settings: &Settings) -> Result<(PassReport, Written), SidecarError> {
    // PostgreSQL first, so that no engine is started when the database is down.
    drop(postgres::connect(settings).await?);
    let mut retrier = Retrier::default();
    loop {
        let error = match attempt(settings).await {
            Err(error) if error.is_about_the_server() => return Err(error),
            Err(error) => error,
            done => return done,
        };
        let Some(delay) = retrier.delay(&error) else { return Err(error) };
        tracing::warn!(error = %Chain(&error), again_in = ?delay, "trying again");
        tokio::time::sleep(delay).await;
    }
}

async fn attempt(settings: &Settings) -> Result<(PassReport, Written), SidecarError> {
    Supervisor::during(settings, async |supervisor| {
        let mut feed = FeedSession::open(settings, supervisor).await?;
        let pass = feed.pass(settings).await?;
        Ok((pass, write_all(&feed.topology(), settings).await?))
    })
    .await
}

fn message(pass: &PassReport, written: Written) -> String {
    let action = if pass.full { "loaded everything" } else { "fed" };
    let reloaded = if pass.reloaded == 0 { String::new() } else { format!(", {} hours reloaded", pass.reloaded) };
    let ranges =
        if pass.ranges == 0 { String::new() } else { format!(", {} ranges of partitions reloaded", pass.ranges) };
    let set_aside = match pass.set_aside {
        0 => String::new(),
        rows => format!("; {rows} rows that ClickHouse cannot hold are set aside in arx.feed_rejects"),
    };
    format!(
        "{action}: {} rows, {} tombstones{reloaded}{ranges}, in {:.2} s; written back: {} hours, {} wallets{set_aside}",
        pass.rows,
        pass.tombstones,
        pass.elapsed.as_secs_f64(),
        written.hours,
        written.wallets
    )
}
