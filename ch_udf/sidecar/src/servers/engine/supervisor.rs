//! Decides which ClickHouse is used and keeps the embedded engine alive when it is ours. A configured URL wins; an engine that
//! already answers in the data directory is shared; otherwise one is started, and ends with this process.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::files::{EngineFolder, USER};
use super::launcher::answers;
use crate::error::SidecarError;
use crate::settings::{Secret, Settings};

/// How long a started engine may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a stopping engine may take before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A ClickHouse to talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warehouse {
    /// The HTTP interface.
    pub url: String,
    /// Who to be there.
    pub user: String,
    /// The password of `user`, if it has one.
    pub password: Option<Secret>,
    /// The database that holds ARX's tables.
    pub database: String,
}

/// Keeps a ClickHouse available: a configured one, a running embedded one, or one of its own.
#[derive(Debug)]
pub struct Supervisor {
    warehouse: Warehouse,
    folder: EngineFolder,
    embedded: bool,
    child: Option<Child>,
}

impl Supervisor {
    /// Finds or starts the ClickHouse that the settings ask for; it answers when this returns.
    ///
    /// # Errors
    /// [`SidecarError::EngineFailed`] with the end of the engine's log when it does not start.
    pub async fn ensure(settings: &Settings) -> Result<Self, SidecarError> {
        let folder = EngineFolder::new(settings.data_dir.join("clickhouse"));
        if let Some(url) = &settings.clickhouse_url {
            let warehouse = Warehouse {
                url: url.expose().to_owned(),
                user: settings.clickhouse_user.clone(),
                password: settings.clickhouse_password.clone(),
                database: settings.clickhouse_database.clone(),
            };
            return Ok(Self { warehouse, folder, embedded: false, child: None });
        }
        let warehouse = Warehouse {
            url: String::new(),
            user: USER.into(),
            password: None,
            database: settings.clickhouse_database.clone(),
        };
        let mut supervisor = Self { warehouse, folder, embedded: true, child: None };
        supervisor.revive().await?;
        Ok(supervisor)
    }

    /// Finds or starts ClickHouse for some work, and stops what it started, however the work ends.
    ///
    /// # Errors
    /// As [`Supervisor::ensure`], and those of the work.
    pub async fn during<T>(
        settings: &Settings,
        work: impl AsyncFnOnce(&Self) -> Result<T, SidecarError>,
    ) -> Result<T, SidecarError> {
        let mut supervisor = Self::ensure(settings).await?;
        let done = work(&supervisor).await;
        supervisor.stop().await;
        done
    }

    /// Where ClickHouse is now. It moves when an engine had to be started again.
    #[must_use]
    pub fn warehouse(&self) -> &Warehouse {
        &self.warehouse
    }

    /// Whether the engine is embedded (ours or another process's), not a configured server.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.embedded
    }

    /// Makes sure that the embedded engine answers, and starts it if nobody's does. A configured server is left alone.
    /// Returns whether the address may have changed.
    ///
    /// # Errors
    /// As [`Supervisor::ensure`].
    pub async fn revive(&mut self) -> Result<bool, SidecarError> {
        if !self.embedded {
            return Ok(false);
        }
        if let Some(endpoint) = self.folder.endpoint()
            && ping(endpoint.http_port).await
        {
            let url = endpoint.url();
            let moved = self.warehouse.url != url;
            self.warehouse.url = url;
            self.warehouse.password = Some(Secret::new(self.folder.password()?));
            return Ok(moved);
        }
        self.stop().await;
        self.start().await?;
        Ok(true)
    }

    async fn start(&mut self) -> Result<(), SidecarError> {
        let root = self.folder.root().to_owned();
        std::fs::create_dir_all(&root).map_err(|source| SidecarError::io("create folder", &root, source))?;
        let log_path = self.folder.log();
        let log = std::fs::File::create(&log_path).map_err(|source| SidecarError::io("create", &log_path, source))?;
        let program = launcher_program()?;
        // Started from a runtime thread, which lives as long as this process: the kernel ends the engine with that thread.
        let mut child = Command::new(&program)
            .arg("--data")
            .arg(&root)
            .args(["--with-parent", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| SidecarError::io("start", &program, source))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let started = Instant::now();
        loop {
            if let Some(endpoint) = self.folder.endpoint()
                && Some(endpoint.pid) == pid
                && ping(endpoint.http_port).await
            {
                tracing::info!(pid = endpoint.pid, http_port = endpoint.http_port, "embedded ClickHouse started");
                self.warehouse.url = endpoint.url();
                self.warehouse.password = Some(Secret::new(self.folder.password()?));
                self.child = Some(child);
                return Ok(());
            }
            let ended = child.try_wait().map_err(|source| SidecarError::io("wait for", &program, source))?;
            if ended.is_some() || started.elapsed() > START_LIMIT {
                let status = ended.map_or_else(|| "did not answer in time".to_owned(), |status| status.to_string());
                let said = std::fs::read_to_string(&log_path).unwrap_or_default();
                let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
                if said.contains("(code 76)") {
                    return Err(SidecarError::EngineBusy { folder: root });
                }
                return Err(SidecarError::EngineFailed { detail: format!("{status}: {said}") });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the engine if this supervisor started it: SIGTERM, then SIGKILL.
    pub async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // An engine that is gone already needs no signal.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            if tokio::time::timeout(STOP_LIMIT, child.wait()).await.is_err() {
                tracing::warn!(pid, "embedded ClickHouse did not stop in time and is killed");
                let _ = child.kill().await;
            }
        }
    }
}

async fn ping(http_port: u16) -> bool {
    tokio::task::spawn_blocking(move || answers(http_port)).await.unwrap_or(false)
}

/// The launcher, next to this executable (or one folder up, where test executables live).
fn launcher_program() -> Result<PathBuf, SidecarError> {
    let executable = std::env::current_exe()
        .map_err(|source| SidecarError::io("find the running executable", "/proc/self/exe".as_ref(), source))?;
    let candidates: Vec<PathBuf> =
        executable.ancestors().skip(1).take(2).map(|folder| folder.join("arx-clickhouse")).collect();
    candidates.iter().find(|path| path.is_file()).cloned().ok_or_else(|| SidecarError::Configuration {
        detail: format!(
            "the program arx-clickhouse is not next to {}; install it there or set --clickhouse to a server",
            executable.display()
        ),
    })
}
