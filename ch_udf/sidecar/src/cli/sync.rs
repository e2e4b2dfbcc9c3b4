//! `arx-sidecar sync`: one pass of the feed, and one write-back of everything. `sync search`: one
//! pass into a search engine.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::CommandError;
use super::output::print_line;
use crate::error::{Chain, SidecarError};
use crate::feed::{FeedSession, PassReport};
use crate::retry::Retrier;
use crate::search::{self, Authorization};
use crate::servers::postgres;
use crate::servers::supervisor::Supervisor;
use crate::settings::{Settings, read_secret};
use crate::write_back::{Written, write_all};
use secrecy::{ExposeSecret, SecretString};

/// Exit code of a pass in which documents were set aside, or left as they are.
const INCOMPLETE: u8 = 2;

#[derive(Debug, Args)]
pub(super) struct SyncArgs {
    #[command(subcommand)]
    target: Option<Target>,
}

#[derive(Debug, Subcommand)]
enum Target {
    /// Send all wallets with labels, scores and notes to Elasticsearch or OpenSearch, or continue
    Search(SearchArgs),
}

#[derive(Debug, Args)]
struct SearchArgs {
    /// Address of the server, without a password
    #[arg(long, value_name = "URL")]
    url: String,
    /// Index, which is created if it does not exist
    #[arg(long, value_name = "NAME", default_value = "arx-wallets", value_parser = index_name)]
    index: String,
    /// User, with its password in --password-file
    #[arg(long, value_name = "NAME", requires = "password_file", conflicts_with = "api_key_file")]
    user: Option<String>,
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// File with an API key, as the server encodes it
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Documents of a batch
    #[arg(long, value_name = "NUMBER", default_value_t = 2_000, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// File for documents that the server does not take: id and reason, as JSON strings
    #[arg(long, value_name = "FILE", default_value = "search.rejects")]
    rejects: PathBuf,
    /// Delete and recreate the index, whichever database it is from, and send all wallets
    #[arg(long)]
    restart: bool,
}

fn index_name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if begins && text.len() <= 200 && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} must start with a lowercase letter or digit and contain only lowercase letters, digits, '-', '_' \
             and '.'"
        ))
    }
}

impl SyncArgs {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        if let Some(Target::Search(args)) = self.target {
            return args.run(settings).await;
        }
        let (pass, written) = sync(settings).await?;
        print_line(message(&pass, written))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl SearchArgs {
    async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let secret = |path: &PathBuf| -> Result<SecretString, SidecarError> {
            Ok(read_secret(path)?.expose_secret().trim().to_owned().into())
        };
        let authorization = match (self.user, &self.password_file, &self.api_key_file) {
            (Some(user), Some(file), _) => Authorization::Basic(user, secret(file)?),
            (_, _, Some(file)) => Authorization::ApiKey(secret(file)?),
            _ => Authorization::None,
        };
        let rejects = self.rejects.display().to_string();
        let request = search::Request {
            url: self.url,
            index: self.index,
            authorization,
            batch: self.batch.into(),
            rejects: self.rejects,
            restart: self.restart,
        };
        let report = search::run(request, settings).await?;
        let continued = if report.is_continued { ", after those of an interrupted pass" } else { "" };
        print_line(format!(
            "{} wallets sent{continued}, {} stored in a newer version, {} deleted, {} set aside",
            report.sent,
            report.newer,
            report.deleted.unwrap_or_default(),
            report.refused
        ))?;
        if report.refused > 0 {
            print_line(format!(
                "documents that the server does not take are in {rejects}; their older versions stay in the index"
            ))?;
        }
        if report.deleted.is_none() {
            print_line(format!(
                "wallets that are gone stay in the index, because more than {} documents were set aside",
                search::MAX_KEPT
            ))?;
        }
        if report.newer > 0 {
            print_line(format!(
                "{} documents in the index are newer than this pass: another pass has run at the same time, or the \
                 database was restored to an earlier time, after which --restart recreates the index",
                report.newer
            ))?;
        }
        Ok(if report.refused == 0 && report.newer == 0 { ExitCode::SUCCESS } else { INCOMPLETE.into() })
    }
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
