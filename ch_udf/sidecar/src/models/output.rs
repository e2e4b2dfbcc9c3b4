//! Files that are there whole or not at all.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::RiskError;

/// What stopped the writing of a file: the file, or what was to be in it.
#[derive(Debug)]
pub(super) enum Stop {
    File(io::Error),
    Content(RiskError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<RiskError> for Stop {
    fn from(error: RiskError) -> Self {
        Self::Content(error)
    }
}

impl Stop {
    /// As an error about a file.
    pub(super) fn of(self, file: String) -> RiskError {
        match self {
            Self::File(source) => RiskError::Write { file, source },
            Self::Content(error) => error,
        }
    }
}

/// Refuses what cannot be written to, before anything is done.
///
/// # Errors
/// [`RiskError::Folder`].
pub(super) fn check(path: &Path) -> Result<(), RiskError> {
    if path.is_dir() || path.file_name().is_none() {
        return Err(RiskError::Folder { file: path.display().to_string() });
    }
    Ok(())
}

/// Writes a file beside its place and puts it there when it is whole. What was there before is there until then.
///
/// # Errors
/// [`RiskError::Folder`], [`RiskError::Write`], and what `content` reports.
pub(super) fn write(path: &Path, content: impl FnOnce(&mut dyn Write) -> Result<(), Stop>) -> Result<(), RiskError> {
    check(path)?;
    let file = path.display().to_string();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = write_aside(&aside, content).and_then(|()| Ok(std::fs::rename(&aside, path)?));
    written.map_err(|stop| {
        // it may not be there
        let _ = std::fs::remove_file(&aside);
        stop.of(file)
    })
}

fn write_aside(aside: &Path, content: impl FnOnce(&mut dyn Write) -> Result<(), Stop>) -> Result<(), Stop> {
    let file: File = OpenOptions::new().write(true).create(true).truncate(true).open(aside)?;
    let mut buffer = BufWriter::new(file);
    content(&mut buffer)?;
    Ok(buffer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?)
}

/// An address as a field of a CSV: on networks that ARX does not know it may hold commas and quotes (RFC 4180).
pub fn field(address: &str) -> Cow<'_, str> {
    if address.contains([',', '"']) { format!("\"{}\"", address.replace('"', "\"\"")).into() } else { address.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        write(&path, |file| Ok(file.write_all(b"one")?)).unwrap();
        let failed = write(&path, |file| {
            file.write_all(b"two")?;
            Err(io::Error::other("out of paper").into())
        });
        assert!(matches!(failed, Err(RiskError::Write { .. })), "{failed:?}");
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write(&path, |file| Ok(file.write_all(b"three")?)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn a_folder_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path(), &folder.path().join("..")] {
            let failed = write(path, |file| Ok(file.write_all(b"one")?));
            assert!(matches!(failed, Err(RiskError::Folder { .. })), "{failed:?}");
        }
    }
}
