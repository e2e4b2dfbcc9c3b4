//! Servers that end with the process that started them, even when that process is killed.
//!
//! A [`Guard`] is a shell process in a separate process group that reads a pipe from its owner.
//! When the pipe closes, because the owner closed it or died, the guard signals every registered
//! server, waits for all of them, and removes the folder. A server is registered before it starts:
//! its process waits at a gate for a line from the owner, and exits when the owner dies
//! first. So the owner's death leaves no server behind, at whatever instant it happens.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};

/// Reads "SIGNAL PID" lines until the end of its input, then ends those process groups (SIGKILL
/// after 10 s) and removes "$1".
const GUARD: &str = r#"
trap '' HUP INT TERM
servers=
while read -r signal pid; do servers="$servers $signal:$pid"; done
alive() {
    state=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 1
    case $state in '' | Z* | X*) return 1 ;; esac
}
for server in $servers; do kill -s "${server%%:*}" -- "-${server##*:}" 2>/dev/null; done
tries=0
left=$servers
while [ -n "$left" ] && [ $tries -lt 200 ]; do
    left=
    for server in $servers; do if alive "${server##*:}"; then left="$left $server"; fi; done
    [ -z "$left" ] || sleep 0.05
    tries=$((tries + 1))
done
for server in $left; do kill -s KILL -- "-${server##*:}" 2>/dev/null; done
rm -rf -- "$1"
"#;

/// Waits for a line, then becomes the server; exits when its input ends without one.
const GATE: &str = r#"read -r word && exec "$@" </dev/null"#;

/// Signal that stops a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM: a graceful shutdown.
    Term,
    /// SIGQUIT: PostgreSQL's immediate shutdown.
    Quit,
}

impl Ending {
    const fn signal(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Quit => "QUIT",
        }
    }
}

/// Owner of a folder and of the servers in it. Servers and folder end with this value or with this
/// process.
#[derive(Debug)]
pub struct Guard {
    folder: PathBuf,
    process: Child,
    pipe: Option<ChildStdin>,
    servers: Mutex<Vec<Child>>,
}

impl Guard {
    /// Takes ownership of a folder, which is removed in the end with everything in it.
    ///
    /// # Errors
    /// When the guard's process cannot be started.
    pub fn over(folder: &Path) -> Result<Self> {
        let mut process = Command::new("sh")
            .args(["-c", GUARD, "arx-guard"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .context("start the guard's shell")?;
        let pipe = process.stdin.take();
        Ok(Self { folder: folder.to_owned(), process, pipe, servers: Mutex::new(Vec::new()) })
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a server in a separate process group with its output appended to `log`. Returns its
    /// process id.
    ///
    /// # Errors
    /// When the guard is gone, the log cannot be opened, or the process cannot be started.
    pub fn start(&self, command: &Command, ending: Ending, log: &Path) -> Result<u32> {
        let output = open_log(log)?;
        let errors = output.try_clone().context("share the server's log")?;
        let mut gate = Command::new("sh");
        gate.args(["-c", GATE, "arx-gate"])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        if let Some(folder) = command.get_current_dir() {
            gate.current_dir(folder);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => gate.env(name, value),
                None => gate.env_remove(name),
            };
        }
        let mut child = gate.spawn().with_context(|| format!("start {}", command.get_program().display()))?;
        let gate_input = child.stdin.take();
        let pid = child.id();
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).push(child);
        let mut pipe = self.pipe.as_ref().ok_or_else(|| anyhow!("the guard has ended"))?;
        writeln!(pipe, "{} {pid}", ending.signal()).context("register a server with the guard")?;
        let mut gate_input = gate_input.ok_or_else(|| anyhow!("the server's gate has no standard input"))?;
        writeln!(gate_input).with_context(|| format!("start {}", command.get_program().display()))?;
        Ok(pid)
    }

    /// Returns the exit status of a server that has ended by itself.
    #[must_use]
    pub fn ended(&self, pid: u32) -> Option<std::process::ExitStatus> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let server = servers.iter_mut().find(|server| server.id() == pid)?;
        server.try_wait().ok().flatten()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.take());
        for server in self.servers.get_mut().unwrap_or_else(PoisonError::into_inner) {
            // The guard ends the server; an error here means that it has been reaped already.
            let _ = server.wait();
        }
        let _ = self.process.wait();
    }
}

fn open_log(log: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(log).with_context(|| format!("open the log {}", log.display()))
}
