//! The account that runs PostgreSQL, which refuses to run as root: `postgres` when this process is
//! root, its own account otherwise.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::run;

/// The account that PostgreSQL runs as.
#[derive(Debug, Clone)]
pub struct Account {
    /// An account other than the one of this process.
    other: Option<&'static str>,
}

impl Account {
    /// Chooses the account for this process.
    ///
    /// # Errors
    /// When the user id of this process cannot be read.
    pub fn current() -> Result<Self> {
        let uid = std::fs::metadata("/proc/self").context("read the user id of this process")?.uid();
        Ok(Self { other: (uid == 0).then_some("postgres") })
    }

    /// Returns a command that runs `program` as this account. The caller appends the program's
    /// arguments.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = match self.other {
            None => Command::new(program.as_ref()),
            Some(name) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", name, "--regid", name, "--init-groups", "--"]).arg(program.as_ref());
                // The current folder may be closed to the other account.
                command.current_dir("/");
                command
            }
        };
        // A server that inherits it would put a backtrace into the DETAIL of every error.
        command.env_remove("RUST_BACKTRACE");
        command
    }

    /// Creates a folder that belongs to this account and is closed to others, or makes an existing
    /// folder such.
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

    /// Gives a file to this account.
    ///
    /// # Errors
    /// When `chown` fails.
    pub fn own(&self, path: &Path) -> Result<()> {
        match self.other {
            None => Ok(()),
            Some(name) => run(Command::new("chown").arg(format!("{name}:{name}")).arg(path)).map(drop),
        }
    }

    /// Returns true when this account can enter the folder.
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

    /// Returns the folder for temporary folders: the system's, or `/tmp` when that one is closed to
    /// this account (a TMPDIR in a private home) or its path is too long for a socket.
    ///
    /// # Errors
    /// When neither is usable.
    pub fn temporary_root(&self) -> Result<PathBuf> {
        let system = std::env::temp_dir();
        for folder in [system.as_path(), Path::new("/tmp")] {
            if folder.as_os_str().len() <= 40 && self.reaches(folder) {
                return Ok(folder.to_owned());
            }
        }
        bail!("the account postgres can enter neither {} nor /tmp: open one of them (chmod a+x)", system.display())
    }
}
