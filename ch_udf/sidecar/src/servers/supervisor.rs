//! Keeps the chosen ClickHouse available: a configured server is left alone; an embedded engine
//! that already answers in the data directory is shared; otherwise one is started, and ends with
//! this process.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::clickhouse::{Choice, ClickHouseServer};
use super::engine::{Endpoint, EngineFolder, answers};
use crate::atomic_file;
use crate::error::{DoingTo, SidecarError};
use crate::settings::Settings;

/// Time limit for a started engine to answer.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Time limit for a stopping engine, after which it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Time limit for the engine of another process to end or to answer.
const BUSY_LIMIT: Duration = Duration::from_secs(15);

/// Pause between two attempts to start an engine in a folder that is in use.
const BUSY_INTERVAL: Duration = Duration::from_millis(200);

/// Pause between two checks of a starting engine.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A ClickHouse that is kept available.
#[derive(Debug)]
pub(crate) struct Supervisor {
    settings: Settings,
    server: ClickHouseServer,
    /// The folder of the embedded engine; `None` for a configured server.
    folder: Option<EngineFolder>,
    child: Option<Child>,
}

impl Supervisor {
    /// Finds or starts the ClickHouse that the settings name; it answers when this returns.
    ///
    /// # Errors
    /// [`SidecarError::EngineFailed`] with the end of the engine's log when it does not start.
    pub(crate) async fn ensure(settings: &Settings) -> Result<Self, SidecarError> {
        let settings = settings.clone();
        match Choice::new(&settings) {
            Choice::Configured(server) => Ok(Self { settings, server, folder: None, child: None }),
            Choice::Embedded(folder) => {
                let (server, child) = find_or_start(&folder, &settings).await?;
                Ok(Self { settings, server, folder: Some(folder), child })
            }
        }
    }

    /// Finds or starts ClickHouse for some work, and stops what it started, however the work ends.
    ///
    /// # Errors
    /// Errors of [`Supervisor::ensure`] and of the work.
    pub(crate) async fn during<T>(
        settings: &Settings,
        work: impl AsyncFnOnce(&Self) -> Result<T, SidecarError>,
    ) -> Result<T, SidecarError> {
        let mut supervisor = Self::ensure(settings).await?;
        let outcome = work(&supervisor).await;
        supervisor.stop().await;
        outcome
    }

    /// Returns where ClickHouse answers; it moves when an engine is started again.
    pub(crate) const fn server(&self) -> &ClickHouseServer {
        &self.server
    }

    /// Returns whether this is an embedded engine (of this process or another), not a configured
    /// server.
    pub(crate) const fn is_embedded(&self) -> bool {
        self.folder.is_some()
    }

    /// Starts the embedded engine again if none answers; a configured server is left alone. Returns
    /// whether the address may have changed.
    ///
    /// # Errors
    /// Errors of [`Supervisor::ensure`].
    pub(crate) async fn revive(&mut self) -> Result<bool, SidecarError> {
        let Some(folder) = self.folder.clone() else { return Ok(false) };
        if let Some(endpoint) = running(&folder).await {
            let server = ClickHouseServer::of_engine(&folder, &endpoint, &self.settings)?;
            let has_moved = self.server.url != server.url;
            self.server = server;
            return Ok(has_moved);
        }
        self.stop().await;
        (self.server, self.child) = find_or_start(&folder, &self.settings).await?;
        Ok(true)
    }

    /// Ends the engine if this supervisor started it: SIGTERM, then SIGKILL.
    pub(crate) async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if let Some(pid) = process_id(&child) {
            // A failure means that the engine has ended already.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            if tokio::time::timeout(STOP_LIMIT, child.wait()).await.is_err() {
                tracing::warn!(pid, "embedded ClickHouse did not stop in time and is killed");
                let _ = child.kill().await;
            }
        }
    }
}

/// Finds the engine of a folder, or starts one. Returns the process if it was started here.
///
/// A folder that is in use without an engine that answers is waited for: the engine of a daemon
/// that was killed takes a moment to end, and that of another process takes one to start.
async fn find_or_start(
    folder: &EngineFolder,
    settings: &Settings,
) -> Result<(ClickHouseServer, Option<Child>), SidecarError> {
    let started = Instant::now();
    loop {
        if let Some(endpoint) = running(folder).await {
            return Ok((ClickHouseServer::of_engine(folder, &endpoint, settings)?, None));
        }
        match start(folder, settings).await {
            Err(SidecarError::EngineBusy { .. }) if started.elapsed() < BUSY_LIMIT => {
                tokio::time::sleep(BUSY_INTERVAL).await;
            }
            outcome => return outcome.map(|(server, child)| (server, Some(child))),
        }
    }
}

/// Starts the engine, and waits until it answers.
async fn start(folder: &EngineFolder, settings: &Settings) -> Result<(ClickHouseServer, Child), SidecarError> {
    let root = folder.root();
    atomic_file::create_private_folder(root).doing_to("create folder", root)?;
    let log_path = folder.log();
    let log = atomic_file::create_private(&log_path).doing_to("create", &log_path)?;
    let program = launcher_program()?;
    // Spawned from a runtime thread, which lives as long as this process: the kernel ends the
    // engine together with that thread.
    let mut child = Command::new(&program)
        .arg("--data")
        .arg(root)
        .args(["--with-parent", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .doing_to("start", &program)?;
    let pid = process_id(&child);
    let started = Instant::now();
    loop {
        if let Some(endpoint) = running(folder).await.filter(|endpoint| Some(endpoint.pid) == pid) {
            tracing::info!(pid = endpoint.pid, http_port = endpoint.http_port, "embedded ClickHouse started");
            return Ok((ClickHouseServer::of_engine(folder, &endpoint, settings)?, child));
        }
        let ended = child.try_wait().doing_to("wait for", &program)?;
        if ended.is_some() || started.elapsed() > START_LIMIT {
            let status = ended.map_or_else(|| "did not answer in time".to_owned(), |status| status.to_string());
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            let last_line = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("its log is empty");
            if last_line.contains("(code 76)") {
                return Err(SidecarError::EngineBusy { folder: root.to_owned() });
            }
            return Err(SidecarError::EngineFailed { detail: format!("{status}: {last_line}") });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Returns the endpoint of an engine that answers.
async fn running(folder: &EngineFolder) -> Option<Endpoint> {
    let endpoint = folder.endpoint()?;
    let port = endpoint.http_port;
    tokio::task::spawn_blocking(move || answers(port)).await.unwrap_or(false).then_some(endpoint)
}

fn process_id(child: &Child) -> Option<i32> {
    child.id().and_then(|pid| i32::try_from(pid).ok())
}

/// Finds the launcher next to this executable, or one folder up, where test executables live.
fn launcher_program() -> Result<PathBuf, SidecarError> {
    let executable = std::env::current_exe().doing_to("find the running executable", "/proc/self/exe")?;
    let mut candidates = executable.ancestors().skip(1).take(2).map(|folder| folder.join("arx-clickhouse"));
    candidates.find(|path| path.is_file()).ok_or_else(|| SidecarError::Configuration {
        detail: format!(
            "the program arx-clickhouse is not next to {}; install it there or set --clickhouse to a server",
            executable.display()
        ),
    })
}
