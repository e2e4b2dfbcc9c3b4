//! Passwords from other sources than addresses: files, the environment, and libpq's password file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::error::{DoingTo, SidecarError};

/// Size limit of a file that contains a password.
const MAX_FILE: u64 = 64 * 1024;

/// Sources of the password that libpq's programs use, too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Libpq {
    /// `PGPASSWORD`.
    pub(super) password: Option<SecretString>,
    /// `PGPASSFILE`, or `~/.pgpass`.
    pub(super) passfile: Option<PathBuf>,
    /// User that connects if the address names none.
    pub(super) user: Option<String>,
}

impl Libpq {
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let home = || Some(PathBuf::from(variable("HOME")?).join(".pgpass"));
        Self {
            password: variable("PGPASSWORD").map(SecretString::from),
            passfile: variable("PGPASSFILE").map(PathBuf::from).or_else(home),
            user: variable("USER"),
        }
    }

    /// Returns the password for a connection, if there is one.
    ///
    /// # Errors
    /// [`SidecarError::Io`] for a password file that exists and cannot be read.
    pub(super) fn password_for(&self, config: &Config) -> Result<Option<SecretString>, SidecarError> {
        if self.password.is_some() {
            return Ok(self.password.clone());
        }
        let Some(path) = self.passfile.as_deref().filter(|path| path.is_file()) else { return Ok(None) };
        let mode = std::fs::metadata(path).doing_to("read", path)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(
                file = %path.display(),
                "the password file is ignored, because others may read it; run chmod 600"
            );
            return Ok(None);
        }
        let text = read_secret(path)?;
        Ok(text.expose_secret().lines().find_map(|line| self.password_of(line, config)))
    }

    /// Returns the password of a line `host:port:database:user:password` that fits the connection.
    fn password_of(&self, line: &str, config: &Config) -> Option<SecretString> {
        if line.starts_with('#') {
            return None;
        }
        let [host, port, database, user, password] = fields(line)?;
        let user_name = config.get_user().or(self.user.as_deref()).unwrap_or_default();
        let fits = |pattern: &str, value: &str| pattern == "*" || pattern == value;
        let fits_host = |pattern: &str| match config.get_hosts().first() {
            Some(Host::Tcp(name)) => fits(pattern, name),
            Some(Host::Unix(path)) => pattern == "localhost" || fits(pattern, &path.display().to_string()),
            None => fits(pattern, &config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default()),
        };
        let port_number = config.get_ports().first().copied().unwrap_or(5432).to_string();
        let fits_all = fits_host(&host)
            && fits(&port, &port_number)
            && fits(&database, config.get_dbname().unwrap_or(user_name))
            && fits(&user, user_name);
        fits_all.then(|| password.into())
    }
}

/// Splits a line of a password file at its colons; a backslash keeps the next character.
fn fields(line: &str) -> Option<[String; 5]> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let literal = match character {
            // The password is the rest of the line.
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                continue;
            }
            '\\' => characters.next()?,
            other => other,
        };
        if let Some(field) = fields.last_mut() {
            field.push(literal);
        }
    }
    fields.try_into().ok()
}

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

fn read_secret(path: &Path) -> Result<SecretString, SidecarError> {
    let mut text = String::new();
    let file = File::open(path).doing_to("read", path)?;
    file.take(MAX_FILE).read_to_string(&mut text).doing_to("read", path)?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(line: &str, connection: &str) -> Option<String> {
        let libpq = Libpq { user: Some("me".into()), ..Libpq::default() };
        libpq.password_of(line, &connection.parse().unwrap()).map(|password| password.expose_secret().to_owned())
    }

    #[test]
    fn a_line_of_the_password_file_fits_as_for_libpq() {
        let connection = "host=db port=5433 user=ann dbname=x";
        assert_eq!(password("db:5433:x:ann:s3cr3t", connection).as_deref(), Some("s3cr3t"));
        assert_eq!(password("*:*:*:*:a:b\\\\", connection).as_deref(), Some("a:b\\"));
        assert_eq!(password("db:5432:x:ann:s3cr3t", connection), None);
        assert_eq!(password("db:5433:x:ann", connection), None);
        assert_eq!(password("# db:5433:x:ann:s3cr3t", connection), None);
        assert_eq!(password("localhost:5432:me:me:s", "host=/run").as_deref(), Some("s"));
        assert_eq!(password("/run:5432:a\\:b:me:s", "host=/run dbname=a:b").as_deref(), Some("s"));
    }

    #[test]
    fn a_password_file_that_others_may_read_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        std::fs::write(&path, "# mine\n*:*:*:*:s3cr3t\n").unwrap();
        let libpq = Libpq { passfile: Some(path.clone()), ..Libpq::default() };
        let found = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            libpq.password_for(&"host=h".parse().unwrap()).unwrap()
        };
        assert!(found(0o644).is_none());
        assert_eq!(found(0o600).unwrap().expose_secret(), "s3cr3t");
    }

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
