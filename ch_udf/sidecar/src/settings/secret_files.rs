//! Files that settings name and that contain a secret.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::error::{DoingTo, SidecarError};

/// Size limit of a file that contains a password.
const MAX_FILE: u64 = 64 * 1024;

/// Reads a password file of a setting: its text without the newline at the end.
///
/// # Errors
/// [`SidecarError::Configuration`] for a file without a password, [`SidecarError::Io`].
pub(super) fn read_password(setting: &str, path: &Path) -> Result<SecretString, SidecarError> {
    let text = read_secret(path)?;
    let password = text.expose_secret().strip_suffix('\n').unwrap_or(text.expose_secret());
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() || password.contains('\n') {
        return Err(SidecarError::Configuration {
            detail: format!("{setting} {} must contain a password on one line", path.display()),
        });
    }
    Ok(password.into())
}

/// Reads a file that contains secrets.
///
/// # Errors
/// [`SidecarError::Io`].
pub(crate) fn read_secret(path: &Path) -> Result<SecretString, SidecarError> {
    let mut text = String::new();
    let file = File::open(path).doing_to("read", path)?;
    file.take(MAX_FILE).read_to_string(&mut text).doing_to("read", path)?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_file_of_a_setting_holds_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_password("redis_password_file", &path)
        };
        assert_eq!(read("a b \r\n").unwrap().expose_secret(), "a b ");
        for text in ["", "\n", "s3cr3t\nx\n"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("redis_password_file") && !error.contains("s3cr3t"), "{error}");
        }
    }
}
