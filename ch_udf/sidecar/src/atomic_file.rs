//! Files that are replaced in one step: a reader sees the old content or the new, never a part of
//! it. Files and folders that only this user may read.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Creates a folder and its parents, closed to other users. An existing folder stays as it is.
///
/// # Errors
/// Errors of the file system.
pub(crate) fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens an empty file for writing, closed to other users. A symbolic link is not followed.
///
/// # Errors
/// Errors of the file system.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.set_len(0)?;
    Ok(file)
}

/// Writes a file with this mode, or, without one, as the umask says. An error leaves the old file
/// in place.
///
/// # Errors
/// Errors of the file system and of `content`.
pub(crate) fn replace<E: From<io::Error>>(
    path: &Path,
    mode: Option<u32>,
    content: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let permissions = Permissions::from_mode(mode.unwrap_or(0o666));
    let mut file = tempfile::Builder::new().permissions(permissions.clone()).tempfile_in(folder)?;
    let mut buffer = BufWriter::new(file.as_file_mut());
    content(&mut buffer)?;
    buffer.flush()?;
    drop(buffer);
    if mode.is_some() {
        // The umask has narrowed the mode that the file was created with.
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        let write = |text: &'static str| replace(&path, None, |file| file.write_all(text.as_bytes()));
        write("one").unwrap();
        let failed = replace(&path, None, |file| {
            file.write_all(b"two")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write("three").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn private_files_and_folders_are_closed_and_follow_no_links() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let inner = folder.path().join("a/b");
        create_private_folder(&inner).unwrap();
        assert_eq!((mode(&inner), mode(&folder.path().join("a"))), (0o700, 0o700));
        let log = inner.join("log");
        std::fs::write(&log, "old").unwrap();
        drop(create_private(&log).unwrap());
        assert_eq!((mode(&log), std::fs::metadata(&log).unwrap().len()), (0o600, 0));
        std::fs::write(&log, "precious").unwrap();
        std::os::unix::fs::symlink(&log, inner.join("link")).unwrap();
        assert!(create_private(&inner.join("link")).is_err());
        replace(&inner.join("link"), Some(0o600), |file| file.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&log).unwrap(), b"precious");
    }

    #[test]
    fn a_given_mode_is_exact() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o644, 0o755] {
            let path = folder.path().join("file");
            replace(&path, Some(mode), |file| file.write_all(b"x")).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
    }
}
