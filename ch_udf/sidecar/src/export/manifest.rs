//! The folder of an export: the manifest, which says what is finished, and the lock that keeps a
//! second export out.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::request::{Filter, Format, Range, Request};
use super::tables::Table;
use crate::atomic_file;
use crate::error::{Doing, DoingTo, SidecarError};

const MANIFEST: &str = "manifest.json";
/// The wallets of a neighbourhood, one address a line.
const WALLETS: &str = "neighbourhood.txt";
/// Version of the manifest.
const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    /// The database: system identifier and OID.
    source: String,
    /// Snapshot of every row; `None` on a standby, whose snapshots cannot be read again.
    pub(super) snapshot: Option<String>,
    format: Format,
    filter: Filter,
    /// Every part is there.
    pub(super) complete: bool,
    pub(super) parts: Vec<Part>,
}

/// One file, or nothing where there is no row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) table: Table,
    pub(super) range: Range,
    /// Path within the folder.
    pub(super) file: String,
    pub(super) done: Option<Done>,
}

/// A finished part. A part without rows has no file, except for a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// Checksum of the file in hexadecimal digits; `None` if there is no file.
    pub(super) sha256: Option<String>,
}

/// A folder that this process alone writes to.
pub(super) struct Folder {
    path: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
}

impl Folder {
    /// Opens or creates the folder, and reads its manifest.
    ///
    /// # Errors
    /// [`SidecarError::Input`] for a folder in use or one with other files, [`SidecarError::Io`].
    pub(super) fn open(path: &Path) -> Result<(Self, Option<Manifest>), SidecarError> {
        let unfit = |detail: String| SidecarError::Input { detail };
        if path.exists() && !path.is_dir() {
            return Err(unfit(format!("{} is not a folder; name a new or empty one", path.display())));
        }
        atomic_file::create_private_folder(path).doing_to("create", path)?;
        let lock = File::open(path).doing_to("open", path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(unfit(format!("another export writes to {}; wait for its end", path.display())));
            }
            Err(TryLockError::Error(error)) => return Err(error).doing_to("lock", path),
        }
        let folder = Self { path: path.to_owned(), _lock: lock };
        let file = folder.file(MANIFEST);
        let manifest = match std::fs::read(&file) {
            Ok(bytes) => {
                let manifest: Manifest = serde_json::from_slice(&bytes).doing("read the manifest of an export")?;
                if manifest.version != VERSION {
                    let found = manifest.version;
                    return Err(unfit(format!("{} has version {found}, not {VERSION}", file.display())));
                }
                Some(manifest)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if std::fs::read_dir(path).doing_to("read", path)?.next().is_some() {
                    return Err(unfit(format!(
                        "{} holds files and no {MANIFEST}; name a new or empty folder",
                        path.display()
                    )));
                }
                None
            }
            Err(error) => return Err(error).doing_to("read", &file),
        };
        Ok((folder, manifest))
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn write(&self, manifest: &Manifest) -> Result<(), SidecarError> {
        let path = self.file(MANIFEST);
        let text = serde_json::to_vec_pretty(manifest).doing("write the manifest of an export")?;
        atomic_file::replace(&path, Some(0o600), |file| file.write_all(&text)).doing_to("write", &path)
    }

    pub(super) fn write_wallets(&self, wallets: &[String]) -> Result<(), SidecarError> {
        let path = self.file(WALLETS);
        let text = wallets.iter().fold(String::new(), |text, wallet| text + wallet + "\n");
        atomic_file::replace(&path, Some(0o600), |file| file.write_all(text.as_bytes())).doing_to("write", &path)
    }

    pub(super) fn read_wallets(&self) -> Result<Vec<String>, SidecarError> {
        let path = self.file(WALLETS);
        let text = std::fs::read_to_string(&path).doing_to("read", &path)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Removes the files of a manifest, and then the manifest.
    pub(super) fn clear(&self, manifest: &Manifest) -> Result<(), SidecarError> {
        let headers = manifest.parts.iter().map(|part| super::neo4j_header_file(part.table));
        let parts = manifest.parts.iter().flat_map(|part| [part.file.clone(), super::files::partial(&part.file)]);
        let files = parts.chain(headers);
        for name in files.chain([WALLETS.to_owned(), MANIFEST.to_owned()]) {
            let path = self.file(&name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).doing_to("remove", &path);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns whether the file of a finished part is still there.
    pub(super) fn has(&self, part: &Part) -> bool {
        part.done.as_ref().is_some_and(|done| {
            done.sha256.is_none()
                || std::fs::metadata(self.file(&part.file)).is_ok_and(|found| found.len() == done.bytes)
        })
    }
}

impl Manifest {
    pub(super) fn new(source: String, snapshot: Option<String>, request: &Request, parts: Vec<Part>) -> Self {
        let (format, filter) = (request.format, request.filter.clone());
        Self { version: VERSION, source, snapshot, format, filter, complete: false, parts }
    }

    /// Checks that the manifest is that of the same request.
    ///
    /// # Errors
    /// [`SidecarError::Input`].
    pub(super) fn check(&self, source: &str, request: &Request) -> Result<(), SidecarError> {
        let other = if self.source != source {
            "of another database"
        } else if self.format != request.format {
            "in another format"
        } else if self.filter != request.filter {
            "with another filter"
        } else {
            return Ok(());
        };
        let folder = request.folder.display();
        Err(SidecarError::Input { detail: format!("{folder} holds an export {other}; name another folder") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(folder: &Path) -> Request {
        Request { folder: folder.into(), format: Format::Jsonl, filter: Filter::default(), jobs: 1, restart: false }
    }

    #[test]
    fn a_folder_belongs_to_one_export() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let request = request(&path);
        let (open, manifest) = Folder::open(&path).unwrap();
        assert!(manifest.is_none());
        assert!(Folder::open(&path).is_err_and(|error| error.to_string().contains("another export writes")));
        open.write(&Manifest::new("1/2".into(), None, &request, Vec::new())).unwrap();
        drop(open);
        let (_open, manifest) = Folder::open(&path).unwrap();
        let manifest = manifest.unwrap();
        manifest.check("1/2", &request).unwrap();
        assert!(manifest.check("1/3", &request).unwrap_err().to_string().contains("another database"));
        let other = Request { format: Format::Parquet, ..request.clone() };
        assert!(manifest.check("1/2", &other).unwrap_err().to_string().contains("another format"));
        let other = Request { filter: Filter { from: Some(1), ..Filter::default() }, ..request };
        assert!(manifest.check("1/2", &other).unwrap_err().to_string().contains("another filter"));
    }

    #[test]
    fn foreign_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("letter"), "x").unwrap();
        assert!(Folder::open(folder.path()).is_err_and(|error| error.to_string().contains("no manifest.json")));
        assert!(
            Folder::open(&folder.path().join("letter")).is_err_and(|error| error.to_string().contains("not a folder"))
        );
    }
}
