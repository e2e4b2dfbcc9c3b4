//! The account that runs PostgreSQL, which refuses to run as root: `postgres` when we are root, ourselves otherwise. Owns the
//! switch of account and the question which folders that account can reach.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::run;

/// The account PostgreSQL runs as.
#[derive(Debug, Clone)]
pub struct Account {
    other: Option<&'static str>,
}

impl Account {
    /// `postgres` when this process is root, this process's own account otherwise.
    ///
    /// # Errors
    /// When the own account cannot be told.
    pub fn current() -> Result<Self> {
        let uid = std::fs::metadata("/proc/self").context("read the own user id from /proc/self")?.uid();
        Ok(Self { other: (uid == 0).then_some("postgres") })
    }

    /// The program and arguments that run `program` as this account, to be followed by the program's own arguments.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = match self.other {
            None => Command::new(program.as_ref()),
            Some(name) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", name, "--regid", name, "--init-groups", "--"]).arg(program.as_ref());
                // The folder we are in may be closed to the other account.
                command.current_dir("/");
                command
            }
        };
        // A server that inherits it would put a backtrace into the DETAIL of every error.
        command.env_remove("RUST_BACKTRACE");
        command
    }

    /// Creates a folder that belongs to this account and is closed to others. An existing one is handed over.
    ///
    /// # Errors
    /// When `install` fails.
    pub fn create_folder(&self, path: &Path) -> Result<()> {
        let mut command = Command::new("install");
        command.args(["-d", "-m", "700"]);
        if let Some(name) = self.other {
            command.args(["-o", name, "-g", name]);
        }
        run(command.arg(path)).map(drop)
    }

    /// Whether this account may pass through the folder.
    #[must_use]
    pub fn reaches(&self, folder: &Path) -> bool {
        let Some(name) = self.other else {
            return true;
        };
        Command::new("setpriv")
            .args(["--reuid", name, "--regid", name, "--init-groups", "--", "test", "-x"])
            .arg(folder)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Where temporary folders go: the system's choice, or `/tmp` when that is closed to this account (a TMPDIR in a private home)
    /// or too deep for the path of a socket in it.
    ///
    /// # Errors
    /// When neither will do.
    pub fn temporary_root(&self) -> Result<PathBuf> {
        let chosen = std::env::temp_dir();
        for folder in [chosen.as_path(), Path::new("/tmp")] {
            if folder.as_os_str().len() <= 40 && self.reaches(folder) {
                return Ok(folder.to_owned());
            }
        }
        bail!("the account postgres can reach neither {} nor /tmp: open one of them (chmod a+x)", chosen.display())
    }
}
