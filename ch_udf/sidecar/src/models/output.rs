//! Files that commands write: a reader sees the old content or the new, never a part of it.

use std::io::{self, Write};
use std::path::Path;

use super::RiskError;
use crate::atomic_file;

/// Reports why a file was not written: its own I/O error, or an error of its content.
#[derive(Debug)]
pub(crate) enum OutputError {
    File(io::Error),
    Content(RiskError),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<csv::Error> for OutputError {
    fn from(error: csv::Error) -> Self {
        if !error.is_io_error() {
            return Self::File(error.into());
        }
        // The error of the file itself: callers ask for its kind.
        match error.into_kind() {
            csv::ErrorKind::Io(source) => Self::File(source),
            other => Self::File(io::Error::other(format!("{other:?}"))),
        }
    }
}

impl From<RiskError> for OutputError {
    fn from(error: RiskError) -> Self {
        Self::Content(error)
    }
}

impl OutputError {
    pub(crate) fn into_risk_error(self, file: String) -> RiskError {
        match self {
            Self::File(source) => RiskError::Write { file, source },
            Self::Content(error) => error,
        }
    }
}

/// Rejects a path that cannot be written to, before any work is done.
///
/// # Errors
/// [`RiskError::Folder`].
pub(crate) fn check(path: &Path) -> Result<(), RiskError> {
    if path.is_dir() || path.file_name().is_none() {
        return Err(RiskError::Folder { file: path.display().to_string() });
    }
    Ok(())
}

/// Replaces a file once its new content is complete.
///
/// # Errors
/// [`RiskError::Folder`], [`RiskError::Write`], and errors of `content`.
pub(crate) fn write(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> Result<(), OutputError>,
) -> Result<(), RiskError> {
    check(path)?;
    atomic_file::replace(path, None, content).map_err(|error| error.into_risk_error(path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        write(&path, |file| Ok(file.write_all(b"one")?)).unwrap();
        let failed = write(&path, |file| {
            file.write_all(b"two")?;
            Err(io::Error::other("disk full").into())
        });
        assert!(matches!(failed, Err(RiskError::Write { .. })), "{failed:?}");
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write(&path, |file| Ok(file.write_all(b"three")?)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn an_error_of_a_csv_writer_is_that_of_its_file() {
        let error = OutputError::from(csv::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)));
        assert!(matches!(&error, OutputError::File(error) if error.kind() == io::ErrorKind::BrokenPipe), "{error:?}");
    }

    #[test]
    fn a_folder_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path(), &folder.path().join("..")] {
            let failed = write(path, |file| Ok(file.write_all(b"one")?));
            assert!(matches!(failed, Err(RiskError::Folder { .. })), "{failed:?}");
        }
    }
}
