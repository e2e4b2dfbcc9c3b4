//! Delivery of alerts about wallets. Each destination has a queue and a task of its own, so that a
//! receiver that is down or slow delays nothing else. A message is delivered at least once, with
//! the same id each time, and in order for each wallet.
//!
//! Owns the loops and the outcome of an attempt; `webhook`, `mail` and `pushed` speak to receivers.

mod mail;
mod pushed;
mod webhook;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::error::{Chain, Doing, DoingTo, SidecarError};
use crate::servers::postgres::{self, Connection};
use crate::settings::{Settings, read_secret};
use mail::Mail;
use pushed::Pushed;
use webhook::{Secret, Webhook};

/// Messages taken at a time, and requests at a time.
const BATCH: i64 = 32;
const REQUESTS: usize = 8;

/// Pause when nothing is due.
const IDLE_PAUSE: Duration = Duration::from_millis(250);

/// Pause between two queries for transfers that no rule has judged yet.
const JUDGE_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause after a judgement: the longer one takes, the longer is the pause.
const LONGEST_JUDGE_PAUSE: Duration = Duration::from_secs(1);

/// Pause after an error of PostgreSQL, and between two queries for the destinations.
const ERROR_PAUSE: Duration = Duration::from_secs(5);

const DESTINATIONS: &str = "SELECT destination, kind, target, secret_name FROM arx.delivery_destinations() ORDER BY 1";
const WAITS: &str = "SELECT w.snapshot, w.waits FROM arx.wallet_alerts_wait($1) AS w";
const JUDGE: &str = "SELECT coalesce(sum(j.alerts), 0)::bigint FROM arx.check_wallet_alerts() AS j";
const TAKE: &str = "SELECT delivery_id, alert_id, message_id, payload::text FROM arx.take_alert_deliveries($1, $2)";
const FINISH: &str = "SELECT arx.finish_alert_delivery($1, $2, $3)";

/// A destination as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Destination {
    name: String,
    kind: String,
    target: String,
    secret_name: Option<String>,
}

/// A message to a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    delivery_id: i64,
    alert_id: i64,
    /// The same in every attempt: receivers recognise a message that they have.
    message_id: String,
    payload: String,
}

/// Outcome of an attempt. A message that was delivered may have a problem: one of several
/// recipients was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    is_delivered: bool,
    problem: Option<String>,
}

impl Outcome {
    const fn delivered() -> Self {
        Self { is_delivered: true, problem: None }
    }

    const fn failed(problem: String) -> Self {
        Self { is_delivered: false, problem: Some(problem) }
    }
}

impl From<Result<(), String>> for Outcome {
    fn from(result: Result<(), String>) -> Self {
        result.map_or_else(Self::failed, |()| Self::delivered())
    }
}

/// A way to a destination.
enum Channel {
    Webhook(Box<Webhook>),
    Mail(Box<Mail>),
    Pushed(Box<Pushed>),
    File(PathBuf),
}

impl Channel {
    async fn open(destination: &Destination, settings: &Settings) -> Result<Self, SidecarError> {
        let secret = destination.secret_name.as_deref().map(secret_named).transpose()?;
        match destination.kind.as_str() {
            "webhook" => {
                let key = secret.as_ref().map(Secret::parse).transpose()?;
                Ok(Self::Webhook(Box::new(Webhook::new(&destination.target, key)?)))
            }
            "smtp" => Ok(Self::Mail(Box::new(Mail::new(&destination.target, secret.as_ref())?))),
            "redis" => Ok(Self::Pushed(Box::new(Pushed::open(&destination.target, settings).await?))),
            "file" => Ok(Self::File(PathBuf::from(&destination.target))),
            other => Err(SidecarError::Configuration {
                detail: format!(
                    "destination \"{}\" has kind \"{other}\", which this version cannot deliver to",
                    destination.name
                ),
            }),
        }
    }

    /// Delivers a message, or returns the problem in words.
    async fn send(&self, message: &Message) -> Outcome {
        match self {
            Self::Webhook(webhook) => webhook.send(message).await.into(),
            Self::Mail(mail) => mail.send(message).await,
            Self::Pushed(pushed) => pushed.send(message).await,
            Self::File(path) => append(path, &message.payload).map_err(|error| Chain(&error).to_string()).into(),
        }
    }
}

/// Appends a line, which is on disk when this returns.
fn append(path: &Path, line: &str) -> Result<(), SidecarError> {
    let doing = "append to";
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).doing_to(doing, path)?;
    file.write_all(format!("{line}\n").as_bytes()).doing_to(doing, path)?;
    file.sync_data().doing_to(doing, path)
}

/// Returns a secret by its name: the text of the environment variable `ARX_SECRET_<NAME>`, or of
/// the file that `ARX_SECRET_<NAME>_FILE` names. A table never holds one.
fn secret_named(name: &str) -> Result<SecretString, SidecarError> {
    let variable = format!("ARX_SECRET_{}", name.to_ascii_uppercase());
    if let Ok(text) = std::env::var(&variable) {
        return Ok(text.into());
    }
    let file = format!("{variable}_FILE");
    match std::env::var(&file) {
        Ok(path) => read_secret(Path::new(&path)),
        Err(_) => Err(SidecarError::Configuration {
            detail: format!("secret \"{name}\" is not set: set {variable} or {file} in the environment of the sidecar"),
        }),
    }
}

/// Number of messages that were delivered, and that failed and will be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Delivered {
    pub(crate) sent: u64,
    pub(crate) failed: u64,
}

/// Delivers what is due now to every destination, and returns the outcome by destination.
///
/// # Errors
/// [`SidecarError::Postgres`] and errors of connecting. A receiver that fails is no error.
pub(crate) async fn deliver_once(settings: &Settings) -> Result<BTreeMap<String, Delivered>, SidecarError> {
    let client = postgres::connect(settings).await?.client;
    let destinations = read_destinations(&client).await?;
    let outcomes = join_all(destinations.iter().map(|destination| drain(settings, destination))).await;
    destinations
        .iter()
        .map(|destination| destination.name.clone())
        .zip(outcomes)
        .map(|(name, outcome)| Ok((name, outcome?)))
        .collect()
}

/// Delivers what is due now to one destination.
async fn drain(settings: &Settings, destination: &Destination) -> Result<Delivered, SidecarError> {
    let client = postgres::connect(settings).await?.client;
    let mut total = Delivered::default();
    loop {
        let round = deliver_round(settings, &client, destination).await?;
        if round == Delivered::default() {
            return Ok(total);
        }
        total.sent += round.sent;
        total.failed += round.failed;
    }
}

/// Judges transfers as they become visible, so that an alert is in its queues within a second of
/// the commit, until the channel says to stop.
pub(crate) async fn judge_until(settings: Settings, mut stopping: watch::Receiver<bool>) {
    let mut session: Option<Connection> = None;
    let mut seen = String::new();
    while !*stopping.borrow() {
        let started = Instant::now();
        let outcome = tokio::select! {
            outcome = judge_step(&settings, &mut session, &mut seen) => Some(outcome),
            _ = stopping.wait_for(|stop| *stop) => None,
        };
        let pause = match outcome {
            None => {
                if let Some(connection) = &session {
                    cancel(connection).await;
                }
                return;
            }
            // Writers have most of PostgreSQL's time.
            Some(Ok(())) => (started.elapsed() * 3).clamp(JUDGE_PAUSE, LONGEST_JUDGE_PAUSE),
            Some(Err(error)) => {
                session = None;
                tracing::error!(error = %Chain(&error), "judging transfers by alert rules failed");
                ERROR_PAUSE
            }
        };
        if tokio::time::timeout(pause, stopping.wait_for(|stop| *stop)).await.is_ok() {
            break;
        }
    }
}

/// Cancels the judgement that is running. The next one does again what it has done.
async fn cancel(connection: &Connection) {
    match tokio::time::timeout(ERROR_PAUSE, connection.server.cancel()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = %Chain(&error), "the running judgement was not cancelled"),
        Err(_) => tracing::warn!("the running judgement was not cancelled: PostgreSQL does not answer"),
    }
}

/// Judges what is new now.
///
/// # Errors
/// [`SidecarError::Postgres`] and errors of connecting.
pub(crate) async fn judge_once(settings: &Settings) -> Result<(), SidecarError> {
    judge_step(settings, &mut None, &mut String::new()).await
}

/// Runs the rules if there is something to judge. Without news it costs one small query.
async fn judge_step(
    settings: &Settings,
    session: &mut Option<Connection>,
    seen: &mut String,
) -> Result<(), SidecarError> {
    let connection = match session.take() {
        Some(connection) => connection,
        None => postgres::connect(settings).await?,
    };
    let client = &session.insert(connection).client;
    let row = client.query_one(WAITS, &[seen]).await.doing("look for transfers to judge")?;
    if row.get(1) {
        let raised: i64 = client.query_one(JUDGE, &[]).await.doing("judge transfers by alert rules")?.get(0);
        tracing::debug!(raised, "transfers were judged");
    }
    *seen = row.get(0);
    Ok(())
}

/// Delivers until the channel says to stop. Destinations may come and go meanwhile.
pub(crate) async fn deliver_until(settings: Settings, mut stopping: watch::Receiver<bool>) {
    let mut tasks: BTreeMap<String, (Destination, JoinHandle<()>)> = BTreeMap::new();
    while !*stopping.borrow() {
        match destinations_now(&settings).await {
            Ok(destinations) => {
                tasks.retain(|_, (destination, task)| {
                    let is_current = destinations.contains(destination);
                    if !is_current {
                        task.abort();
                    }
                    is_current
                });
                for destination in destinations {
                    tasks.entry(destination.name.clone()).or_insert_with(|| {
                        let work = serve(settings.clone(), destination.clone(), stopping.clone());
                        (destination, tokio::spawn(work))
                    });
                }
            }
            Err(error) => tracing::error!(error = %Chain(&error), "reading the destinations of alerts failed"),
        }
        if tokio::time::timeout(ERROR_PAUSE, stopping.wait_for(|stop| *stop)).await.is_ok() {
            break;
        }
    }
    for (_, (_, task)) in tasks {
        // Each ends by itself after the attempt that it makes.
        let _ = task.await;
    }
}

/// Serves one destination.
async fn serve(settings: Settings, destination: Destination, mut stopping: watch::Receiver<bool>) {
    let mut session: Option<Client> = None;
    while !*stopping.borrow() {
        let outcome = step(&settings, &destination, &mut session).await;
        let pause = match outcome {
            Ok(round) if round == Delivered::default() => IDLE_PAUSE,
            Ok(_) => Duration::ZERO,
            Err(error) => {
                session = None;
                tracing::error!(destination = destination.name, error = %Chain(&error), "delivering alerts failed");
                ERROR_PAUSE
            }
        };
        if tokio::time::timeout(pause, stopping.wait_for(|stop| *stop)).await.is_ok() {
            break;
        }
    }
}

/// Opens a session unless there is one, and makes one round.
async fn step(
    settings: &Settings,
    destination: &Destination,
    session: &mut Option<Client>,
) -> Result<Delivered, SidecarError> {
    let client = match session.take() {
        Some(client) => client,
        None => postgres::connect(settings).await?.client,
    };
    deliver_round(settings, session.insert(client), destination).await
}

async fn destinations_now(settings: &Settings) -> Result<Vec<Destination>, SidecarError> {
    read_destinations(&postgres::connect(settings).await?.client).await
}

async fn read_destinations(client: &Client) -> Result<Vec<Destination>, SidecarError> {
    let rows = client.query(DESTINATIONS, &[]).await.doing("read the destinations of alerts")?;
    let destination = |row: &tokio_postgres::Row| Destination {
        name: row.get(0),
        kind: row.get(1),
        target: row.get(2),
        secret_name: row.get(3),
    };
    Ok(rows.iter().map(destination).collect())
}

/// Takes what is due and sends it. Messages of a round belong to different wallets.
async fn deliver_round(
    settings: &Settings,
    client: &Client,
    destination: &Destination,
) -> Result<Delivered, SidecarError> {
    let rows = client.query(TAKE, &[&destination.name, &BATCH]).await.doing("take alerts to deliver")?;
    let message = |row: &tokio_postgres::Row| Message {
        delivery_id: row.get(0),
        alert_id: row.get(1),
        message_id: row.get(2),
        payload: row.get(3),
    };
    let messages: Vec<Message> = rows.iter().map(message).collect();
    if messages.is_empty() {
        return Ok(Delivered::default());
    }
    let channel = Channel::open(destination, settings).await.map_err(|error| Chain(&error).to_string());
    let attempts: Vec<_> = messages.iter().map(|message| attempt(channel.as_ref(), message)).collect();
    let mut attempts = stream::iter(attempts).buffer_unordered(REQUESTS);
    let mut delivered = Delivered::default();
    while let Some((delivery_id, Outcome { is_delivered, problem })) = attempts.next().await {
        let finish = client.query(FINISH, &[&delivery_id, &problem, &is_delivered]).await;
        finish.doing("store the outcome of a delivery")?;
        if is_delivered {
            delivered.sent += 1;
        } else {
            delivered.failed += 1;
        }
        if let Some(problem) = problem {
            tracing::warn!(destination = destination.name, delivery_id, is_delivered, problem, "delivering an alert");
        }
    }
    Ok(delivered)
}

/// Sends one message.
async fn attempt(channel: Result<&Channel, &String>, message: &Message) -> (i64, Outcome) {
    let outcome = match channel {
        Ok(channel) => channel.send(message).await,
        Err(problem) => Outcome::failed(problem.clone()),
    };
    (message.delivery_id, outcome)
}
