//! `arx-sidecar backup check`: proves that a backup of pgBackRest restores. The backup is restored
//! into a folder of its own with all WAL that is archived, a server is started there that only this
//! user can reach, and its databases are checked. Nothing of the running server is used or changed.

mod checks;
mod repository;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::error::{Chain, Doing, DoingTo, SidecarError};
use crate::servers::postgres;
use crate::settings::Settings;

pub(crate) use checks::Checked;
use repository::Backup;

/// Interval at which the end of recovery is awaited.
const POLL: Duration = Duration::from_millis(200);

/// Line of `postmaster.pid` with the state of the server, counted from zero.
const STATUS_LINE: usize = 7;

/// Lines of a program's output that an error quotes.
const QUOTED_LINES: usize = 6;

#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The program, which may have a path.
    pub(crate) pgbackrest: PathBuf,
    pub(crate) config: Option<PathBuf>,
    pub(crate) stanza: String,
    /// The backup by its label; `None` for the latest.
    pub(crate) label: Option<String>,
    /// Folder with `pg_ctl`; `None` for that of Debian for the version of the backup.
    pub(crate) programs: Option<PathBuf>,
    /// Folder in which the scratch folder is made.
    pub(crate) folder: PathBuf,
    /// Superuser of the backup's databases.
    pub(crate) user: String,
    /// Time that recovery may take.
    pub(crate) patience: Duration,
}

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) label: String,
    /// `full`, `diff` or `incr`.
    pub(crate) kind: String,
    /// Seconds since 1970.
    pub(crate) taken: i64,
    /// Bytes of the database.
    pub(crate) bytes: u64,
    /// The last archived WAL segment, which was replayed.
    pub(crate) last_segment: Option<String>,
    pub(crate) databases: Vec<Checked>,
    /// Time until the server was up.
    pub(crate) restore: Duration,
    pub(crate) elapsed: Duration,
}

/// The age of the backup and the outcome of its check, for `health_check()`. A check that failed
/// leaves the age of the last backup that restored.
const RECORD: &str = "
    WITH age AS (
        INSERT INTO arx.sidecar_reports (metric, object, since, cause)
        SELECT 'backup_age_seconds', $1, to_timestamp($2::double precision), $3 WHERE $2 IS NOT NULL
        ON CONFLICT (metric, object) DO UPDATE SET since = excluded.since, cause = excluded.cause, reported_at = now())
    INSERT INTO arx.sidecar_reports (metric, object, value, cause)
    VALUES ('backup_check_failed', $1, CASE WHEN $2 IS NULL THEN 1 ELSE 0 END, $3)
    ON CONFLICT (metric, object) DO UPDATE SET value = excluded.value, cause = excluded.cause, reported_at = now()";

/// Records the outcome of a check in the database of the settings.
///
/// # Errors
/// [`SidecarError::Postgres`], and those of connecting.
pub(crate) async fn record(
    settings: &Settings,
    stanza: &str,
    outcome: &Result<Report, SidecarError>,
) -> Result<(), SidecarError> {
    let (taken, cause) = match outcome {
        Ok(report) => (Some(report.taken as f64), format!("{} backup {}", report.kind, report.label)),
        Err(error) => (None, Chain(error).to_string()),
    };
    let client = postgres::connect(settings).await?.client;
    client.execute(RECORD, &[&stanza, &taken, &cause]).await.doing("record the check of a backup")?;
    Ok(())
}

fn failed(detail: impl Into<String>) -> SidecarError {
    SidecarError::Input { detail: detail.into() }
}

/// Restores and checks a backup.
///
/// # Errors
/// [`SidecarError::Input`] with the step that failed and the message of its program,
/// [`SidecarError::Io`], [`SidecarError::Postgres`].
pub(crate) async fn check(request: &Request) -> Result<Report, SidecarError> {
    let started = Instant::now();
    if nix::unistd::geteuid().is_root() {
        return Err(failed("PostgreSQL does not run as root: run this as the user of the backups, such as postgres"));
    }
    let backup = Backup::find(request).await?;
    let scratch = tempfile::Builder::new().prefix("arx-backup-check-").tempdir_in(&request.folder);
    let scratch = scratch.doing_to("create a folder in", &request.folder)?;
    let room = nix::sys::statvfs::statvfs(scratch.path()).map_err(std::io::Error::from);
    let room = room.doing_to("measure", &request.folder)?;
    let free = room.blocks_available().saturating_mul(room.fragment_size());
    if free < backup.bytes {
        let (needed, folder) = (backup.bytes, request.folder.display());
        return Err(failed(format!("the backup needs {needed} bytes, and {folder} has {free}; name another --folder")));
    }
    let data = scratch.path().join("data");
    crate::atomic_file::create_private_folder(&data).doing_to("create", &data)?;
    repository::restore(request, &backup, &data).await?;
    let programs = match &request.programs {
        Some(programs) => programs.clone(),
        None => PathBuf::from(format!("/usr/lib/postgresql/{}/bin", backup.version)),
    };
    let server = Server::start(programs, scratch.path(), &data, request.patience).await?;
    let restore = started.elapsed();
    let last_segment = backup.check_replay(&data)?;
    let databases = checks::run(scratch.path(), &request.user).await;
    server.stop().await;
    let databases = databases?;
    Ok(Report {
        label: backup.label,
        kind: backup.kind,
        taken: backup.taken,
        bytes: backup.bytes,
        last_segment,
        databases,
        restore,
        elapsed: started.elapsed(),
    })
}

/// A server on a socket in the scratch folder.
struct Server {
    programs: PathBuf,
    data: PathBuf,
    is_running: bool,
}

/// Settings that the server has whatever the backup's files say: it is reached by its socket alone,
/// archives nothing, loads no library that would do work of its own, and needs little memory.
const SETTINGS: [&str; 13] = [
    "listen_addresses=",
    "port=5432",
    "archive_mode=off",
    "hot_standby=off",
    "shared_preload_libraries=",
    "ssl=off",
    "logging_collector=off",
    "log_destination=stderr",
    "shared_buffers=128MB",
    "huge_pages=off",
    "max_prepared_transactions=1000",
    "recovery_target_action=promote",
    "synchronous_standby_names=",
];

impl Server {
    /// Starts the server and waits for the end of its recovery.
    async fn start(programs: PathBuf, scratch: &Path, data: &Path, patience: Duration) -> Result<Self, SidecarError> {
        let files = [("postgresql.conf", ""), ("pg_hba.conf", "local all all trust\n"), ("pg_ident.conf", "")];
        for (name, text) in files {
            let path = scratch.join(name);
            std::fs::write(&path, text).doing_to("write", &path)?;
        }
        let file = |name: &str| scratch.join(name).display().to_string();
        let mut settings: Vec<String> = SETTINGS.iter().map(ToString::to_string).collect();
        settings.push(format!("config_file={}", file("postgresql.conf")));
        settings.push(format!("hba_file={}", file("pg_hba.conf")));
        settings.push(format!("ident_file={}", file("pg_ident.conf")));
        settings.push(format!("unix_socket_directories={}", scratch.display()));
        // pg_ctl gives the options to a shell.
        let options: Vec<String> =
            settings.iter().map(|setting| format!("-c '{}'", setting.replace('\'', r"'\''"))).collect();
        let log = scratch.join("log");
        let server = Self { programs, data: data.to_owned(), is_running: true };
        let mut command = server.pg_ctl();
        command.args(["start", "--wait", "--silent", "--log"]).arg(&log).arg("--options").arg(options.join(" "));
        command.arg(format!("--timeout={}", patience.as_secs()));
        let output = command.output().await.doing_to("run", server.programs.join("pg_ctl"))?;
        let read_log = || std::fs::read_to_string(&log).unwrap_or_default();
        if !output.status.success() {
            return Err(failed(format!("the restored server does not start: {}", reasons(&read_log()))));
        }
        // pg_ctl takes a server in recovery for one that has started.
        let deadline = Instant::now() + patience;
        loop {
            match std::fs::read_to_string(data.join("postmaster.pid")) {
                Ok(text) if text.lines().nth(STATUS_LINE).is_some_and(|status| status.trim() == "ready") => {
                    return Ok(server);
                }
                Ok(_) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                Ok(_) => {
                    let minutes = patience.as_secs() / 60;
                    return Err(failed(format!("recovery has not ended within {minutes} minutes; raise --patience")));
                }
                Err(_) => return Err(failed(format!("recovery failed: {}", reasons(&read_log())))),
            }
        }
    }

    fn pg_ctl(&self) -> Command {
        let mut command = Command::new(self.programs.join("pg_ctl"));
        command.arg("-D").arg(&self.data).env_remove("PGDATA").stdin(std::process::Stdio::null());
        command
    }

    async fn stop(mut self) {
        self.is_running = false;
        // Its files are removed next, so that a clean end is no use.
        let _ = self.pg_ctl().args(["stop", "-m", "immediate", "--silent"]).output().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_running {
            let mut command = std::process::Command::new(self.programs.join("pg_ctl"));
            let _ = command.arg("-D").arg(&self.data).args(["stop", "-m", "immediate", "--silent"]).output();
        }
    }
}

/// Returns the errors of a server's log, or its last lines.
fn reasons(log: &str) -> String {
    let is_error = |line: &&str| ["FATAL:", "PANIC:", "ERROR:", "HINT:"].iter().any(|word| line.contains(word));
    let errors: Vec<&str> = log.lines().filter(is_error).collect();
    if errors.is_empty() { last_lines(log) } else { last_lines(&errors.join("\n")) }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let first = lines.len().saturating_sub(QUOTED_LINES);
    lines.get(first..).unwrap_or_default().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_quotes_what_the_server_said() {
        let log = "LOG: starting\nFATAL: could not locate a valid checkpoint record\nHINT: look\nLOG: shut down\n";
        assert_eq!(reasons(log), "FATAL: could not locate a valid checkpoint record; HINT: look");
        assert_eq!(reasons("LOG: a\n\nLOG: b\n"), "LOG: a; LOG: b");
    }
}
