//! The files of one database's graph: `<data folder>/pgsql_tmp_arx/<database>/base-<generation>.graph`.
//!
//! Base backups, pgBackRest and pg_rewind leave out folders whose names begin with `pgsql_tmp`. A file gets its name when it is
//! complete, and is never changed afterwards. Only who holds the lock gives names and removes files.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const ROOT: &str = "pgsql_tmp_arx";
const PREFIX: &str = "base-";
const SUFFIX: &str = ".graph";
const UNFINISHED: &str = ".tmp";

/// More than these are not kept, whoever may want an older one: he builds his own.
pub const KEPT: usize = 4;

/// One database's folder.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

/// Held by who builds; given back when it is dropped.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] File);

impl Folder {
    /// Makes it, if it is not there.
    pub fn open(data_folder: &Path, database: u32) -> io::Result<Self> {
        let path = data_folder.join(ROOT).join(database.to_string());
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        }
        Ok(Self(path))
    }

    /// The generations that are there, newest first.
    pub fn generations(&self) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let number =
                name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse::<u64>().ok());
            found.extend(number);
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }

    /// What changes whenever a file gets or loses its name: the folder's own time of change.
    pub fn state(&self) -> io::Result<(i64, i64)> {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(&self.0)?;
        Ok((metadata.mtime(), metadata.mtime_nsec()))
    }

    /// Opens a generation's file.
    pub fn file(&self, generation: u64) -> io::Result<File> {
        File::open(self.path(generation))
    }

    fn path(&self, generation: u64) -> PathBuf {
        self.0.join(format!("{PREFIX}{generation}{SUFFIX}"))
    }

    /// The lock, unless somebody else has it.
    pub fn try_lock(&self) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(self.0.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// A file without a name: it is gone when its last user is.
    pub fn nameless(&self) -> io::Result<File> {
        let (path, file) = self.unfinished()?;
        fs::remove_file(path)?;
        Ok(file)
    }

    /// A file that is to get its name by [`Folder::publish`].
    pub fn unfinished(&self) -> io::Result<(PathBuf, File)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self.0.join(format!("{}-{number}{UNFINISHED}", std::process::id()));
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).mode(0o600).open(&path)?;
        Ok((path, file))
    }

    /// Gives a complete file its name.
    pub fn publish(&self, _lock: &Lock, unfinished: &Path, generation: u64) -> io::Result<()> {
        fs::rename(unfinished, self.path(generation))
    }

    /// Removes a generation, unless it is gone already. Who has it mapped keeps it.
    pub fn remove_if_there(&self, _lock: &Lock, generation: u64) -> io::Result<()> {
        remove_if_there(&self.path(generation))
    }

    /// Removes what builders left that were cut off.
    pub fn sweep(&self, _lock: &Lock) -> io::Result<()> {
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(owner) = name.to_str().and_then(|name| name.strip_suffix(UNFINISHED)) else { continue };
            let process = owner.split('-').next().unwrap_or(owner);
            // who only maps a nameless file unlinks it at once: a name that stays is a builder's, and that is us alone
            if process == std::process::id().to_string() || !Path::new("/proc").join(process).exists() {
                remove_if_there(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes the folders of databases that are gone.
    pub fn sweep_databases(&self, _lock: &Lock, exists: impl Fn(u32) -> bool) -> io::Result<()> {
        let Some(root) = self.0.parent() else { return Ok(()) };
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            let database = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if database.is_some_and(|database| !exists(database)) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The run of the machine: what is in the page cache survives a crash of the server, but not of the machine.
pub fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).unwrap_or_default().to_be_bytes()
}
