//! The rejects file: line number, reason and line, tab separated; the texts are JSON strings. It
//! belongs to the user, so it may hold values that a log must not.
//!
//! Rejects are written before their chunk is committed and truncated when an import continues, so
//! that no line appears twice. The first line identifies a rejects file: no other file is ever
//! truncated or appended to.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::escape::Quoted;
use crate::import::error::ImportError;
use crate::import::read::chunk::Reject;
use crate::import::read::input;

/// First line of every rejects file.
const HEADER: &str = "# rejects of arx-sidecar import: line, reason, text\n";

/// Size limits of a rejects file; more rejects are only counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    rows: u64,
    bytes: u64,
}

pub(crate) const DEFAULT_LIMITS: Limits = Limits { rows: 100_000, bytes: 64 << 20 };

/// A rejects file, created with its first line.
#[derive(Debug)]
pub(crate) struct RejectsFile {
    path: PathBuf,
    /// The file, if it existed or has been created.
    file: Option<File>,
    limits: Limits,
    rows: u64,
    bytes: u64,
    unlisted: u64,
}

/// Default rejects file of `file`.
pub(crate) fn default_path(file: &Path) -> PathBuf {
    let name = if input::is_stdin(file) { None } else { file.file_name() };
    let mut path = name.unwrap_or("import".as_ref()).to_owned();
    path.push(".rejects");
    PathBuf::from(path)
}

impl RejectsFile {
    /// Opens the file for an import that continues after `lines_done` lines; entries of later lines
    /// are removed. Creates nothing.
    ///
    /// # Errors
    /// [`ImportError::Rejects`], also for an existing file that is not a rejects file of this user.
    pub(crate) fn open(path: PathBuf, lines_done: u64, limits: Limits) -> Result<Self, ImportError> {
        let mut rejects = Self { path, file: None, limits, rows: 0, bytes: 0, unlisted: 0 };
        match rejects.take_over(lines_done) {
            Ok(()) => Ok(rejects),
            Err(source) => Err(ImportError::Rejects { file: rejects.path, source }),
        }
    }

    /// Takes over an existing file.
    fn take_over(&mut self, lines_done: u64) -> io::Result<()> {
        let Some(file) = open_existing(&self.path)? else { return Ok(()) };
        if file.metadata()?.is_file() {
            let (rows, bytes) = kept_entries(&file, lines_done)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.set_len(bytes)?;
            (&file).seek(SeekFrom::End(0))?;
            (self.rows, self.bytes) = (rows, bytes);
        }
        self.file = Some(file);
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Counts lines that were rejected after their texts had been dropped.
    pub(crate) const fn count_unlisted(&mut self, lines: u64) {
        self.unlisted += lines;
    }

    /// Returns the number of rejects that are not in the file: it has reached its limits, or they
    /// were rejected long after they were read.
    pub(crate) const fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// Appends lines and flushes them.
    ///
    /// # Errors
    /// [`ImportError::Rejects`].
    pub(crate) fn write(&mut self, rejects: &[Reject]) -> Result<(), ImportError> {
        if rejects.is_empty() {
            return Ok(());
        }
        self.append(rejects).map_err(|source| ImportError::Rejects { file: self.path.clone(), source })
    }

    fn append(&mut self, rejects: &[Reject]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                // Neither follows a link nor opens a file that has appeared since the start.
                let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path)?;
                self.file.insert(new)
            }
        };
        let mut writer = BufWriter::new(file);
        for reject in rejects {
            let is_first = self.bytes == 0;
            let entry = format!("{}\t{}\t{}\n", reject.line, Quoted(&reject.reason), Quoted(&reject.text));
            let length = entry.len() as u64 + if is_first { HEADER.len() as u64 } else { 0 };
            if self.rows >= self.limits.rows || self.bytes + length > self.limits.bytes {
                self.unlisted += 1;
                continue;
            }
            if is_first {
                writer.write_all(HEADER.as_bytes())?;
            }
            writer.write_all(entry.as_bytes())?;
            self.rows += 1;
            self.bytes += length;
        }
        writer.flush()
    }
}

/// Opens an existing file that this process may write rejects to: a regular file of this user
/// with a single name, or a device such as `/dev/null`.
fn open_existing(path: &Path) -> io::Result<Option<File>> {
    // A pipe without a reader would block.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = match OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(io::Error::other("it is a symbolic link"));
        }
        Err(error) => return Err(error),
    };
    let metadata: Metadata = file.metadata()?;
    if metadata.file_type().is_char_device() {
        return Ok(Some(file));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is neither a file nor a character device"));
    }
    if metadata.uid() != nix::unistd::geteuid().as_raw() || metadata.nlink() != 1 {
        return Err(io::Error::other("it belongs to another user, or has several names"));
    }
    Ok(Some(file))
}

/// Counts the entries, and the bytes up to the first entry of a line after `lines_done`.
fn kept_entries(file: &File, lines_done: u64) -> io::Result<(u64, u64)> {
    let (mut rows, mut keep) = (0, 0);
    let mut reader = BufReader::new(file);
    let mut entry = Vec::new();
    loop {
        entry.clear();
        let length = reader.read_until(b'\n', &mut entry)? as u64;
        if keep == 0 {
            if entry != HEADER.as_bytes() && length > 0 {
                return Err(io::Error::other("it exists and is not a rejects file of arx-sidecar"));
            }
            if length == 0 || lines_done == 0 {
                return Ok((0, 0));
            }
            keep = length;
            continue;
        }
        let number: Option<u64> =
            entry.split(|b| *b == b'\t').next().and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        match number {
            Some(number) if number <= lines_done && entry.last() == Some(&b'\n') => {
                keep += length;
                rows += 1;
            }
            _ => return Ok((rows, keep)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn reject(line: u64) -> Reject {
        Reject { line, reason: "tab\there".into(), kind: String::new(), text: format!("a\tb{line}") }
    }

    fn open(path: &Path, lines_done: u64) -> RejectsFile {
        RejectsFile::open(path.to_owned(), lines_done, DEFAULT_LIMITS).unwrap()
    }

    fn entries(path: &Path) -> Vec<(u64, String, String)> {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.strip_prefix(HEADER).unwrap_or(&text).lines();
        let entry = |line: &str| {
            let fields: Vec<&str> = line.split('\t').collect();
            let json = |text: &str| serde_json::from_str(text).unwrap();
            (fields[0].parse().unwrap(), json(fields[1]), json(fields[2]))
        };
        lines.map(entry).collect()
    }

    #[test]
    fn a_continued_import_writes_no_line_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.rejects");
        open(&path, 0).write(&[reject(3), reject(9), reject(12)]).unwrap();
        open(&path, 10).write(&[reject(12)]).unwrap();
        let expected: Vec<_> = [3, 9, 12].map(|line| (line, "tab\there".to_owned(), format!("a\tb{line}"))).into();
        assert_eq!(entries(&path), expected);
        open(&path, 0);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        open(&path, 0).write(&[reject(4)]).unwrap();
        assert_eq!(entries(&path).len(), 1);
    }

    #[test]
    fn no_file_is_created_without_rejects() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.rejects");
        open(&path, 0).write(&[]).unwrap();
        assert!(!path.exists());
        let nowhere = folder.path().join("no/such/x.rejects");
        let error = open(&nowhere, 0).write(&[reject(1)]).unwrap_err();
        assert!(error.to_string().contains("--rejects"), "{error}");
        open(Path::new("/dev/null"), 0).write(&[reject(1)]).unwrap();
    }

    #[test]
    fn a_file_that_is_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("precious"), "4\tmine\n").unwrap();
        symlink(path("precious"), path("link")).unwrap();
        symlink(path("nowhere"), path("dangling")).unwrap();
        open(&path("ours"), 0).write(&[reject(1)]).unwrap();
        std::fs::hard_link(path("ours"), path("second")).unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for name in ["precious", "link", "dangling", "second", "folder", "pipe"] {
            let error = RejectsFile::open(path(name), 0, DEFAULT_LIMITS).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("--rejects"), "{error}");
        }
        assert_eq!(std::fs::read_to_string(path("precious")).unwrap(), "4\tmine\n");
        assert!(!path("nowhere").exists());
        // A link that appears after the start.
        let mut rejects = open(&path("later"), 0);
        symlink(path("precious"), path("later")).unwrap();
        assert!(rejects.write(&[reject(1)]).is_err());
        assert_eq!(std::fs::read_to_string(path("precious")).unwrap(), "4\tmine\n");
    }

    #[test]
    fn the_file_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.rejects");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        open(&path, 0).write(&[reject(1)]).unwrap();
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        open(&path, 1).write(&[reject(2)]).unwrap();
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn the_file_is_bounded_by_rows_and_bytes() {
        let folder = tempfile::tempdir().unwrap();
        for (name, limits) in [("rows", Limits { rows: 5, bytes: 1 << 20 }), ("bytes", Limits { rows: 99, bytes: 200 })]
        {
            let path = folder.path().join(name);
            let mut rejects = RejectsFile::open(path.clone(), 0, limits).unwrap();
            let all: Vec<Reject> = (1..=20).map(reject).collect();
            rejects.write(&all[..3]).unwrap();
            rejects.write(&all[3..]).unwrap();
            let listed = entries(&path);
            assert_eq!(rejects.unlisted() + listed.len() as u64, 20);
            assert!((3..=5).contains(&listed.len()), "{name}: {listed:?}");
            assert!(std::fs::metadata(&path).unwrap().len() <= limits.bytes);
            // A continued import counts what is in the file.
            let mut rejects = RejectsFile::open(path.clone(), 20, limits).unwrap();
            rejects.write(&[reject(21), reject(22), reject(23)]).unwrap();
            assert!(rejects.unlisted() >= 2, "{name}: {rejects:?}");
        }
    }

    #[test]
    fn the_default_is_named_after_the_file_in_the_current_directory() {
        assert_eq!(default_path(Path::new("/data/t.csv.gz")), Path::new("t.csv.gz.rejects"));
        assert_eq!(default_path(Path::new("-")), Path::new("import.rejects"));
    }
}
