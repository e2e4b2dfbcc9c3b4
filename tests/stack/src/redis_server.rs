//! A private Redis server on a socket. Owns the contents of its folder (`log`, `pid`, the data).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::guard::{Ending, Guard};
use crate::postgres::START_LIMIT;
use crate::process::{run, wait_until};

/// Limit for connecting and for each reply.
const REPLY_LIMIT: Duration = Duration::from_secs(5);

/// A Redis server in a folder.
#[derive(Debug, Clone)]
pub struct RedisServer {
    folder: PathBuf,
    socket: PathBuf,
}

impl RedisServer {
    /// Describes the server with its files in `folder` and its socket in `sockets`. Creates
    /// nothing.
    #[must_use]
    pub fn at(folder: &Path, sockets: &Path) -> Self {
        Self { folder: folder.to_owned(), socket: sockets.join("redis.sock") }
    }

    /// URL of one of the server's numbered databases.
    #[must_use]
    pub fn url(&self, database: usize) -> String {
        format!("redis+unix://{}?db={database}", self.socket.display())
    }

    /// Socket of the server, for `redis-cli -s`.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Starts the server so that it ends with the guard, and waits until it answers.
    ///
    /// # Errors
    /// When it ends or does not answer.
    pub fn start_guarded(&self, guard: &Guard) -> Result<u32> {
        let mut command = self.command()?;
        command.args(["--appendonly", "no", "--save", ""]);
        let log = self.folder.join("log");
        let pid = guard.start(&command, Ending::Term, &log)?;
        let ready = wait_until(START_LIMIT, || {
            if let Some(status) = guard.ended(pid) {
                bail!(
                    "redis-server ended with {status} while it started: {}",
                    std::fs::read_to_string(&log).unwrap_or_default()
                );
            }
            Ok(self.is_ready())
        })?;
        ensure!(ready, "redis-server did not answer within {START_LIMIT:?}");
        Ok(pid)
    }

    /// Starts the server, unless it runs already, so that it outlives this process, and waits until
    /// it answers.
    ///
    /// # Errors
    /// When it does not start or does not answer.
    pub fn start_detached(&self) -> Result<()> {
        if self.is_ready() {
            return Ok(());
        }
        let mut command = self.command()?;
        command.args(["--appendonly", "yes", "--daemonize", "yes", "--pidfile"]).arg(self.folder.join("pid"));
        command.arg("--logfile").arg(self.folder.join("log"));
        run(&mut command)?;
        let ready = wait_until(START_LIMIT, || Ok(self.is_ready()))?;
        ensure!(ready, "redis-server did not answer within {START_LIMIT:?}; see {}/log", self.folder.display());
        Ok(())
    }

    /// Stops a detached server, if it runs.
    ///
    /// # Errors
    /// When it does not stop within a minute.
    pub fn stop_detached(&self) -> Result<()> {
        if !self.is_ready() {
            return Ok(());
        }
        // The server answers SHUTDOWN by closing the connection.
        let _ = self.connect().and_then(|mut connection| Ok(redis::cmd("SHUTDOWN").exec(&mut connection)?));
        let gone = wait_until(START_LIMIT, || Ok(!self.is_ready()))?;
        ensure!(gone, "redis-server did not stop within {START_LIMIT:?}; see {}/log", self.folder.display());
        Ok(())
    }

    /// Returns true when the server answers.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.connect().is_ok_and(|mut connection| redis::cmd("PING").exec(&mut connection).is_ok())
    }

    fn connect(&self) -> Result<redis::Connection> {
        let connection = redis::Client::open(self.url(0))?.get_connection_with_timeout(REPLY_LIMIT)?;
        connection.set_read_timeout(Some(REPLY_LIMIT))?;
        Ok(connection)
    }

    fn command(&self) -> Result<Command> {
        std::fs::create_dir_all(&self.folder).with_context(|| format!("create {}", self.folder.display()))?;
        let mut command = Command::new("redis-server");
        command
            .args(["--port", "0", "--unixsocketperm", "700", "--databases", "1024", "--unixsocket"])
            .arg(&self.socket)
            .arg("--dir")
            .arg(&self.folder);
        Ok(command)
    }
}
