//! Runs the jobs of `arx.schedules` at their times, where there is no pg_cron. Each job has a
//! connection of its own while it runs, and is never run twice at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use croner::Cron;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::queue::run_queue;
use crate::error::{Chain, Doing, DoingTo, SidecarError};
use crate::servers::postgres::{self, Duty};
use crate::settings::Settings;

const DOING: &str = "run the schedules";

const TICK: Duration = Duration::from_millis(200);
/// Interval at which the table of schedules is read again.
const RELOAD_INTERVAL: TimeDelta = TimeDelta::seconds(30);
/// Interval at which the queue of upkeep is worked off.
const QUEUE_INTERVAL: TimeDelta = TimeDelta::hours(1);

const JOBS: &str = "
SELECT s.job, s.schedule, s.command,
       (SELECT max(r.started_at) FROM arx.job_runs AS r WHERE r.job = s.job)
  FROM arx.scheduled_jobs() AS s";

/// Times of a job: those of a crontab, in UTC, or an interval of seconds as pg_cron has it.
#[derive(Debug, Clone)]
enum Times {
    Crontab(Box<Cron>),
    Every(TimeDelta),
}

impl Times {
    fn parse(text: &str) -> Result<Self, String> {
        let seconds = text.trim().strip_suffix("seconds").or_else(|| text.trim().strip_suffix("second"));
        if let Some(seconds) = seconds {
            let seconds = seconds.trim().parse::<i64>().ok().filter(|seconds| (1..60).contains(seconds));
            return seconds
                .map(|seconds| Self::Every(TimeDelta::seconds(seconds)))
                .ok_or_else(|| "expected 1 to 59 seconds".to_owned());
        }
        Cron::new(text.trim()).parse().map(|cron| Self::Crontab(Box::new(cron))).map_err(|error| error.to_string())
    }

    /// Returns the first time after an instant.
    fn after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Crontab(cron) => cron.find_next_occurrence(&instant, false).ok(),
            Self::Every(interval) => instant.checked_add_signed(*interval),
        }
    }
}

struct Job {
    schedule: String,
    command: String,
    times: Times,
    next: Option<DateTime<Utc>>,
    running: Option<JoinHandle<()>>,
}

/// Runs the schedules until SIGTERM or Ctrl-C. A job whose time passed while no sidecar ran them
/// runs once at the start.
///
/// # Errors
/// [`SidecarError::Taken`] while another sidecar runs them; SQLSTATE 55000 if pg_cron does, or if
/// this role does not own `arx.schedules`; lost connections.
pub(crate) async fn run_schedules(settings: &Settings) -> Result<(), SidecarError> {
    let handler = |kind| signal(kind).doing_to("handle signals of", "this process");
    let (mut terminated, mut interrupted) = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    let client = postgres::connect(settings).await?.client;
    client.execute("SELECT arx.require_schedules_here()", &[]).await.doing(DOING)?;
    Duty::Schedules.acquire(&client).await?;
    let mut jobs = BTreeMap::new();
    let mut reloaded = None;
    let mut queue: (Option<DateTime<Utc>>, Option<JoinHandle<()>>) = (None, None);
    tracing::info!("running the schedules; SIGTERM or Ctrl-C stops");
    loop {
        let now = Utc::now();
        if reloaded.is_none_or(|reloaded| now - reloaded > RELOAD_INTERVAL) {
            reload(&client, &mut jobs, now).await?;
            reloaded = Some(now);
        }
        for (name, job) in &mut jobs {
            start_if_due(settings, name, job, now);
        }
        let is_idle = queue.1.as_ref().is_none_or(JoinHandle::is_finished);
        if is_idle && queue.0.is_none_or(|started| now - started > QUEUE_INTERVAL) {
            let settings = settings.clone();
            let work = async move {
                if let Err(error) = run_queue(&settings, |_| ()).await {
                    tracing::warn!(error = %Chain(&error), "the queue of upkeep failed");
                }
            };
            queue = (Some(now), Some(tokio::spawn(work)));
        }
        tokio::select! {
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
            () = tokio::time::sleep(TICK) => {}
        }
    }
    tracing::info!("stopping");
    Ok(())
}

/// Reads the table. A job that is running goes on, even if it is gone from the table.
async fn reload(client: &Client, jobs: &mut BTreeMap<String, Job>, now: DateTime<Utc>) -> Result<(), SidecarError> {
    let mut former = std::mem::take(jobs);
    for row in client.query(JOBS, &[]).await.doing(DOING)? {
        let (name, schedule, command): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let last: Option<DateTime<Utc>> = row.get(3);
        let running = match former.remove(&name) {
            Some(known) if (&known.schedule, &known.command) == (&schedule, &command) => {
                jobs.insert(name, known);
                continue;
            }
            known => known.and_then(|known| known.running),
        };
        let times = match Times::parse(&schedule) {
            Ok(times) => times,
            Err(error) => {
                tracing::error!(job = name, schedule, error, "the schedule of a job is invalid");
                continue;
            }
        };
        let next = times.after(last.unwrap_or(now));
        jobs.insert(name, Job { schedule, command, times, next, running });
    }
    Ok(())
}

fn start_if_due(settings: &Settings, name: &str, job: &mut Job, now: DateTime<Utc>) {
    if job.next.is_none_or(|next| next > now) {
        return;
    }
    job.next = job.times.after(now);
    if job.running.as_ref().is_some_and(|running| !running.is_finished()) {
        tracing::warn!(job = name, "a job is still running at its next time");
        return;
    }
    let (settings, name, command) = (settings.clone(), name.to_owned(), job.command.clone());
    job.running = Some(tokio::spawn(async move {
        if let Err(error) = run_job(&settings, &name, &command).await {
            tracing::error!(job = name, error = %Chain(&error), "a job could not be run");
        }
    }));
}

/// Runs a job, and records its outcome.
async fn run_job(settings: &Settings, name: &str, command: &str) -> Result<(), SidecarError> {
    let client = postgres::connect(settings).await?.client;
    let run: i64 = client.query_one("SELECT arx.begin_job_run($1, $2)", &[&name, &command]).await.doing(DOING)?.get(0);
    let (outcome, message) = match client.batch_execute(command).await.doing("run a job") {
        Ok(()) => ("succeeded", None),
        Err(error) => {
            tracing::warn!(job = name, error = %Chain(&error), "a job failed");
            ("failed", Some(Chain(&error).to_string()))
        }
    };
    client.execute("SELECT arx.end_job_run($1, $2, $3)", &[&run, &outcome, &message]).await.doing(DOING)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn times_are_those_of_a_crontab_in_utc() {
        let cases = [
            ("15 0 * * *", "2026-03-29T00:15:00Z", "2026-03-30T00:15:00Z"),
            ("*/5 * * * *", "2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"),
            ("5-59/10 * * * *", "2026-03-29T00:56:00Z", "2026-03-29T01:05:00Z"),
            ("30 3 * * 1", "2026-03-29T00:00:00Z", "2026-03-30T03:30:00Z"),
            ("30 seconds", "2026-03-29T00:00:00Z", "2026-03-29T00:00:30Z"),
        ];
        for (schedule, from, next) in cases {
            assert_eq!(Times::parse(schedule).unwrap().after(at(from)), Some(at(next)), "{schedule}");
        }
    }

    #[test]
    fn a_schedule_that_never_comes_is_no_time_and_nonsense_is_an_error() {
        for nonsense in ["", "every day", "* * * *", "61 * * * *", "0 seconds", "90 seconds"] {
            assert!(Times::parse(nonsense).is_err(), "{nonsense}");
        }
        let never = Times::parse("0 0 31 2 *").unwrap();
        assert_eq!(never.after(at("2026-03-29T00:00:00Z")), None);
    }
}
