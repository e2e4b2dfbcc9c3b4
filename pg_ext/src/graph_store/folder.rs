//! Files of one database's graph: `<data folder>/pgsql_tmp_arx/<database>/base-<generation>.graph`.
//!
//! Base backups, pgBackRest and pg_rewind skip folders whose names begin with `pgsql_tmp`. A file
//! gets its name when it is complete, and never changes afterwards. Only the holder of the lock
//! names and removes files.
//!
//! A file is opened without following a link and without waiting, and is used only if it is a
//! regular one of the server's account that no one else may read or write: a pipe in its place must
//! not hold up a backend, and a link must not lead elsewhere.
//!
//! `base-<generation>.verified` remembers that a graph file has been read through and found whole:
//! in this boot of the machine, and as it was then ([`Stamp`]). A session that opens the file
//! compares the stamp; only after a reboot, or once something has touched the file, it is read
//! through again. So opening takes constant time, and a file that was changed in place is not
//! believed. What a disk returns later for pages that it had returned right is not noticed, as with
//! the server's tables.
//!
//! `base-<generation>.delta` is the delta segment of a graph file: a later one replaces it as a
//! whole. It is small, and is read into memory with its checksum.
//!
//! `writers-<start of the server>` is the register of writers (`register.rs`), the only file that
//! changes after it has its name.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const ROOT: &str = "pgsql_tmp_arx";
const PREFIX: &str = "base-";
const SUFFIX: &str = ".graph";
const VERIFIED: &str = ".verified";
const LOCK: &str = "lock";
const UNFINISHED: &str = ".tmp";
const REGISTER: &str = "writers-";
const SEGMENT: &str = ".delta";

/// Generations kept on disk. A caller that needs an older one builds a private graph.
pub(crate) const MAX_GENERATIONS: usize = 4;

/// Folder of one database.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

/// State of a file, which a write to it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Times of the last change of contents, and of contents or attributes: the second cannot be
    /// set.
    modified: (i64, i64),
    changed: (i64, i64),
    has_name: bool,
}

impl Stamp {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            has_name: metadata.nlink() > 0,
        })
    }

    /// Returns true if the contents are those of an earlier stamp. Losing its name changes a file's
    /// attributes, so afterwards only the contents' own time counts.
    pub(crate) fn has_contents_of(&self, earlier: &Self) -> bool {
        (self.size, self.modified) == (earlier.size, earlier.modified)
            && (!self.has_name || self.changed == earlier.changed)
    }

    /// Returns the contents of the file that remembers a verification in this boot.
    fn record(&self) -> String {
        let Self { device, inode, size, modified, changed, .. } = self;
        let boot = u128::from_be_bytes(boot_id());
        let ((s, ns), (cs, cns)) = (modified, changed);
        format!("{boot:032x} {device} {inode} {size} {s}.{ns} {cs}.{cns}\n")
    }
}

/// Bytes read of a small file.
const MAX_RECORD: u64 = 1 << 10;

/// Right to name and remove files; released when it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

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
        open_own(&self.path(generation), OpenOptions::new().read(true))
    }

    fn path(&self, generation: u64) -> PathBuf {
        self.0.join(format!("{PREFIX}{generation}{SUFFIX}"))
    }

    fn record(&self, generation: u64) -> PathBuf {
        self.0.join(format!("{PREFIX}{generation}{VERIFIED}"))
    }

    /// Returns true if the file of a generation has been found whole, and is as it was then.
    pub(crate) fn is_verified(&self, generation: u64, stamp: &Stamp) -> bool {
        read_own(&self.record(generation)).is_ok_and(|record| record == stamp.record())
    }

    /// Remembers that the file of a generation has been found whole.
    pub(crate) fn set_verified(&self, generation: u64, stamp: &Stamp) -> io::Result<()> {
        let (path, mut file) = self.unfinished()?;
        let written = file.write_all(stamp.record().as_bytes());
        written.and_then(|()| fs::rename(&path, self.record(generation))).inspect_err(|_| drop(fs::remove_file(&path)))
    }

    fn segment_path(&self, generation: u64) -> PathBuf {
        self.0.join(format!("{PREFIX}{generation}{SEGMENT}"))
    }

    /// Reads the delta segment of a generation, unless it is larger than `max` bytes.
    pub(crate) fn segment(&self, generation: u64, max: usize) -> io::Result<Vec<u8>> {
        let file = open_own(&self.segment_path(generation), OpenOptions::new().read(true))?;
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        if length > max {
            return Err(io::Error::other("the delta segment is too large"));
        }
        let mut bytes = Vec::with_capacity(length);
        file.take(max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes the delta segment of a generation in the place of an earlier one.
    pub(crate) fn write_segment(&self, _lock: &Lock, generation: u64, bytes: &[u8]) -> io::Result<()> {
        let (path, mut file) = self.unfinished()?;
        let written = file.write_all(bytes);
        written
            .and_then(|()| fs::rename(&path, self.segment_path(generation)))
            .inspect_err(|_| drop(fs::remove_file(&path)))
    }

    /// Takes the lock, unless another session holds it.
    pub(crate) fn try_lock(&self) -> io::Result<Option<Lock>> {
        let file = open_own(&self.0.join(LOCK), OpenOptions::new().create(true).truncate(false).write(true))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Opens the register of writers of a start of the server for reading and writing, and creates
    /// it if necessary: `length` bytes of zeros, whose room on the disk is reserved.
    pub(crate) fn register(&self, start: &str, length: u64) -> io::Result<File> {
        let path = self.register_path(start);
        let open = || open_own(&path, OpenOptions::new().read(true).write(true));
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => return file,
        }
        let (unfinished, file) = self.unfinished()?;
        // The first session to name one wins.
        let named = reserve(&file, length).and_then(|()| match fs::hard_link(&unfinished, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            named => named,
        });
        remove_if_exists(&unfinished)?;
        named?;
        // Those of earlier starts.
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let is_register = entry.file_name().to_str().is_some_and(|name| name.starts_with(REGISTER));
            if is_register && entry.path() != path {
                remove_if_exists(&entry.path())?;
            }
        }
        open()
    }

    /// Removes the register of a start of the server, if it exists.
    pub(crate) fn remove_register(&self, start: &str) -> io::Result<()> {
        remove_if_exists(&self.register_path(start))
    }

    fn register_path(&self, start: &str) -> PathBuf {
        self.0.join(format!("{REGISTER}{start}"))
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
        let mut options = OpenOptions::new();
        options.create_new(true).read(true).write(true);
        let file = match open_own(&path, &mut options) {
            // What has this name is of a process that ended, or a link that must not be followed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&path)?;
                open_own(&path, &mut options)?
            }
            file => file?,
        };
        Ok((path, file))
    }

    /// Names a complete file.
    pub(crate) fn publish(&self, _lock: &Lock, unfinished: &Path, generation: u64) -> io::Result<()> {
        fs::rename(unfinished, self.path(generation))
    }

    /// Returns the number of the next generation, which no file of the folder has had.
    pub(crate) fn next_generation(&self) -> io::Result<u64> {
        let latest = self.generations()?.first().copied().unwrap_or(0);
        Ok(latest.max(self.last_removed()).saturating_add(1))
    }

    /// Returns the highest generation that was removed, which the lock's file holds.
    fn last_removed(&self) -> u64 {
        let text = read_own(&self.0.join(LOCK)).unwrap_or_default();
        text.trim_end().parse().unwrap_or(0)
    }

    /// Removes a generation if it exists. A process that has it mapped keeps it.
    pub(crate) fn remove(&self, lock: &Lock, generation: u64) -> io::Result<()> {
        if generation > self.last_removed() {
            lock.0.write_all_at(format!("{generation:020}\n").as_bytes(), 0)?;
        }
        remove_if_exists(&self.segment_path(generation))?;
        remove_if_exists(&self.path(generation))?;
        remove_if_exists(&self.record(generation))
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

/// Opens a file of this account. Anything else is an error that names it, of kind `InvalidData`.
fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    use rustix::fs::OFlags;
    let refused = |what: &str| {
        let hint = "remove it, and the graph is built again from the tables";
        io::Error::new(io::ErrorKind::InvalidData, format!("{} is {what}: {hint}", path.display()))
    };
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match options.mode(0o600).custom_flags(flags.bits().cast_signed()).open(path) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(refused("a symbolic link"));
        }
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
            return Err(refused("a pipe or socket"));
        }
        file => file?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(refused("not a regular file"));
    }
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(refused("a file of another account"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(refused("a file that other accounts may use"));
    }
    Ok(file)
}

/// Reads a small file of this account.
fn read_own(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open_own(path, OpenOptions::new().read(true))?.take(MAX_RECORD).read_to_string(&mut text)?;
    Ok(text)
}

/// Gives a new file its length, and reserves its room on the disk: a full disk is an error here,
/// and not a signal later.
pub(super) fn reserve(file: &File, length: u64) -> io::Result<()> {
    file.set_len(length)?;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, length.max(1)) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => fill(file, length),
        other => other.map_err(io::Error::from),
    }
}

/// Reserves space on file systems without `fallocate`.
fn fill(mut file: &File, length: u64) -> io::Result<()> {
    let zeros = [0_u8; 1 << 16];
    let mut left = length;
    while left > 0 {
        let count = left.min(zeros.len() as u64);
        file.write_all(&zeros[..count as usize])?;
        left -= count;
    }
    Ok(())
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
