//! Files of one database's graph: `<data folder>/pgsql_tmp_arx/<database>/base-<generation>.graph`.
//!
//! Base backups, pgBackRest and pg_rewind skip folders whose names begin with `pgsql_tmp`. A file
//! gets its name when it is complete, and never changes afterwards. Only the holder of the lock
//! names and removes files.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const ROOT: &str = "pgsql_tmp_arx";
const PREFIX: &str = "base-";
const SUFFIX: &str = ".graph";
const UNFINISHED: &str = ".tmp";

/// Generations kept on disk. A caller that needs an older one builds a private graph.
pub(crate) const MAX_GENERATIONS: usize = 4;

/// Folder of one database.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

/// Right to name and remove files; released when it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code)] File);

impl Folder {
    /// Opens the folder, and creates it if necessary.
    pub(crate) fn open(data_directory: &Path, database: u32) -> io::Result<Self> {
        let path = data_directory.join(ROOT).join(database.to_string());
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        }
        Ok(Self(path))
    }

    /// Returns the generations on disk, newest first.
    pub(crate) fn generations(&self) -> io::Result<Vec<u64>> {
        let mut generations = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let generation =
                name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse::<u64>().ok());
            generations.extend(generation);
        }
        generations.sort_unstable_by(|a, b| b.cmp(a));
        Ok(generations)
    }

    /// Returns a value that changes whenever a file is named or removed: the folder's modification
    /// time.
    pub(crate) fn state(&self) -> io::Result<(i64, i64)> {
        let metadata = fs::metadata(&self.0)?;
        Ok((metadata.mtime(), metadata.mtime_nsec()))
    }

    pub(crate) fn file(&self, generation: u64) -> io::Result<File> {
        File::open(self.path(generation))
    }

    fn path(&self, generation: u64) -> PathBuf {
        self.0.join(format!("{PREFIX}{generation}{SUFFIX}"))
    }

    /// Takes the lock, unless another session holds it.
    pub(crate) fn try_lock(&self) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(self.0.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Creates a file without a name, which disappears with its last user.
    pub(crate) fn unnamed(&self) -> io::Result<File> {
        let (path, file) = self.unfinished()?;
        fs::remove_file(path)?;
        Ok(file)
    }

    /// Creates a file that [`Folder::publish`] will name.
    pub(crate) fn unfinished(&self) -> io::Result<(PathBuf, File)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self.0.join(format!("{}-{number}{UNFINISHED}", std::process::id()));
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).mode(0o600).open(&path)?;
        Ok((path, file))
    }

    /// Names a complete file.
    pub(crate) fn publish(&self, _lock: &Lock, unfinished: &Path, generation: u64) -> io::Result<()> {
        fs::rename(unfinished, self.path(generation))
    }

    /// Removes a generation if it exists. A process that has it mapped keeps it.
    pub(crate) fn remove(&self, _lock: &Lock, generation: u64) -> io::Result<()> {
        remove_if_exists(&self.path(generation))
    }

    /// Removes unfinished files of builders that were killed.
    pub(crate) fn sweep(&self, _lock: &Lock) -> io::Result<()> {
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(owner) = name.to_str().and_then(|name| name.strip_suffix(UNFINISHED)) else { continue };
            let process = owner.split('-').next().unwrap_or(owner);
            // Unnamed files are unlinked at once. A name that remains is a builder's, and this
            // process is the only builder.
            if process == std::process::id().to_string() || !Path::new("/proc").join(process).exists() {
                remove_if_exists(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes the folders of databases that do not exist.
    pub(crate) fn sweep_databases(&self, _lock: &Lock, exists: impl Fn(u32) -> bool) -> io::Result<()> {
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

fn remove_if_exists(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the id of the machine's current boot. The page cache survives a crash of the server, but
/// not a reboot.
pub(crate) fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).unwrap_or_default().to_be_bytes()
}
