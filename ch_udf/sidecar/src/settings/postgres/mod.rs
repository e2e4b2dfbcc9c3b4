//! Addresses of PostgreSQL: what libpq's programs accept, from the same sources. Owns the rule that
//! neither a password nor the text of an address is ever printed.

mod conninfo;
mod libpq;
mod options;

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::SidecarError;
use conninfo::{Conninfo, ConninfoError};
pub(crate) use libpq::Libpq;
pub(crate) use options::{ConnectOptions, Host, SessionAttributes, SslMode};

const FORMS: &str = "postgresql://USER@HOST:PORT/DATABASE, with special characters as %40, or pairs such as host=HOST \
                     port=5432 user=USER dbname=DATABASE, with values that contain spaces in single quotes";

/// An address that cannot be used. It may contain a password, so it is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a valid address of PostgreSQL: {0} (its text is not shown, because it may contain a password); expected \
     {FORMS}"
)]
pub(crate) struct InvalidAddress(ConninfoError);

/// Address of PostgreSQL, with passwords if there are some.
#[derive(Clone)]
pub(crate) struct PostgresUrl {
    given: Conninfo,
    /// One for each host.
    passwords: Vec<Option<SecretString>>,
    /// Folder with the files of TLS that nothing names.
    home: Option<PathBuf>,
    /// User that connects if nothing names one.
    user: Option<String>,
}

impl PostgresUrl {
    /// Parses an address as a user gives it. Its values are checked by [`Self::complete`], because
    /// those that are missing may come from a service, the environment or the user's folder.
    ///
    /// # Errors
    /// [`InvalidAddress`].
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidAddress> {
        Conninfo::parse(text).map(Self::of).map_err(InvalidAddress)
    }

    /// Takes an address of the source code.
    pub(super) fn known(text: &'static str) -> Self {
        Self::of(Conninfo::parse(text).unwrap_or_default())
    }

    fn of(given: Conninfo) -> Self {
        Self { given, passwords: Vec::new(), home: None, user: None }
    }

    /// Adds what the address leaves open: from its service, the environment, and the password file.
    /// A `password` of a setting comes before those of the environment and of the password file. An
    /// address that is only a default comes last.
    ///
    /// # Errors
    /// [`SidecarError::Configuration`], [`SidecarError::Io`].
    pub(super) fn complete(
        &mut self,
        libpq: &Libpq,
        password: Option<&SecretString>,
        is_default: bool,
    ) -> Result<(), SidecarError> {
        let mut given = if is_default { Conninfo::default() } else { self.given.clone() };
        libpq.complete(&mut given, password)?;
        if is_default {
            let mut last = self.given.clone();
            if given.get("hostaddr").is_some() {
                last.remove("host");
            }
            given.fill_from(&last);
        }
        (self.given, self.home, self.user) = (given, libpq.home.clone(), libpq.user.clone());
        let options = self.options()?;
        let (user, database) = (options.user.unwrap_or_default(), options.database.unwrap_or_default());
        let (stated, file) = (self.given.get("password").map(SecretString::from), self.given.get("passfile"));
        self.passwords = options
            .hosts
            .iter()
            .map(|host| match &stated {
                Some(password) => Ok(Some(password.clone())),
                None => libpq.password_for(file, host, &database, &user),
            })
            .collect::<Result<_, SidecarError>>()?;
        Ok(())
    }

    /// Returns the parameters of a connection.
    ///
    /// # Errors
    /// [`SidecarError::Configuration`]; none for an address that was parsed and completed.
    pub(crate) fn options(&self) -> Result<ConnectOptions, SidecarError> {
        ConnectOptions::new(&self.given, self.home.as_deref(), self.user.as_deref())
            .map_err(|problem| SidecarError::Configuration { detail: InvalidAddress(problem).to_string() })
    }

    /// Returns the password for the host at this place.
    pub(crate) fn password(&self, host: usize) -> Option<SecretString> {
        let stated = || self.given.get("password").map(SecretString::from);
        self.passwords.get(host).cloned().flatten().or_else(stated)
    }

    /// Returns whether the address contains a password.
    pub(crate) fn has_password(&self) -> bool {
        self.given.get("password").is_some()
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for keyword in ["service", "host", "hostaddr", "port", "user", "dbname"] {
            if let Some(value) = self.given.get(keyword) {
                write!(f, "{separator}{keyword}={value}")?;
                separator = " ";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Serialize for PostgresUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for PostgresUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SecretString::deserialize(deserializer)?;
        Self::parse(text.expose_secret()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_by_their_parts() {
        let shown = |text: &str| PostgresUrl::parse(text).unwrap().to_string();
        assert_eq!(shown("postgresql://ann@db:5432/x"), "host=db port=5432 user=ann dbname=x");
        assert_eq!(shown("postgresql://a:1,b:2/x?password=s3cret"), "host=a,b port=1,2 dbname=x");
        assert_eq!(shown("host=/tmp dbname='a b'"), "host=/tmp dbname=a b");
        assert_eq!(shown("service=mine"), "service=mine");
    }

    /// A password in every form that a client accepts, or a user may think it does.
    const FORMS_OF_PASSWORDS: [&str; 19] = [
        "postgresql://u:s3cr3t@h/x",
        "postgresql://u:a/s3cr3t@h",
        "postgresql://u:1/s3cr3t@h",
        "postgresql://u:a?s3cr3t@h",
        "postgresql://u:a@s3cr3t@h/x",
        "postgresql://u:a#s3cr3t@h/x",
        "postgresql://u@h/x?PASSWORD=s3cr3t",
        "postgresql://u@h/x?password=a&password=s3cr3t",
        "postgresql://u@h/x?sslpassword=s3cr3t",
        "postgresql://u@h/x?sslmode=s3cr3t",
        "postgresql://u:s3cr3t@a:1,b:2/x",
        "host=h password = s3cr3t",
        r"host=h password='a\'s3cr3t' dbname=x",
        r"host=h password=a\ s3cr3t dbname=x",
        "host=h password='s3cr3t",
        "host=h password=a s3cr3t",
        "host=h password=a s3cr3t dbname=x",
        "host=h PASSWORD=s3cr3t",
        "s3cr3t",
    ];

    #[test]
    fn no_form_of_a_password_is_printed() {
        for text in FORMS_OF_PASSWORDS {
            let printed = match PostgresUrl::parse(text) {
                Ok(url) => format!("{url} {url:?} {} {:?}", serde_json::to_string(&url).unwrap(), url.options()),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!printed.contains("s3cr3t"), "{text}: {printed}");
        }
    }

    fn libpq(variables: &[(&str, &str)]) -> Libpq {
        Libpq::read(|name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn password(url: &PostgresUrl, host: usize) -> Option<String> {
        url.password(host).map(|password| password.expose_secret().to_owned())
    }

    #[test]
    fn the_nearest_source_of_a_password_wins() {
        let setting = SecretString::from("of the setting");
        let completed = |text: &str, setting: Option<&SecretString>| {
            let mut url = PostgresUrl::parse(text).unwrap();
            url.complete(&libpq(&[("PGPASSWORD", "of the environment")]), setting, false).unwrap();
            password(&url, 0)
        };
        assert_eq!(completed("host=h password=inside", Some(&setting)).as_deref(), Some("inside"));
        assert_eq!(completed("host=h", Some(&setting)).as_deref(), Some("of the setting"));
        assert_eq!(completed("host=h", None).as_deref(), Some("of the environment"));
    }

    #[test]
    fn each_host_has_the_password_of_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        std::fs::write(&path, "a:*:*:*:one\nb:7:x:ann:two\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut url = PostgresUrl::parse("postgresql://ann@a,b:7,c/x").unwrap();
        url.complete(&libpq(&[("PGPASSFILE", path.to_str().unwrap())]), None, false).unwrap();
        let found: Vec<_> = (0..3).map(|host| password(&url, host)).collect();
        assert_eq!(found, [Some("one".to_owned()), Some("two".to_owned()), None]);
    }

    #[test]
    fn the_environment_and_the_home_folder_may_give_the_other_half_of_an_address() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".postgresql");
        std::fs::create_dir(&folder).unwrap();
        let completed = |text: &str, name: &str, value: &str| {
            let mut url = PostgresUrl::parse(text).unwrap();
            url.complete(&libpq(&[(name, value), ("HOME", home.path().to_str().unwrap())]), None, false)?;
            url.options()
        };
        for (text, name, value) in [
            ("host=h sslmode=verify-ca", "PGSSLROOTCERT", "r"),
            ("host=h sslcert=c", "PGSSLKEY", "k"),
            ("host=h sslnegotiation=direct", "PGSSLMODE", "require"),
            ("port=1,2", "PGHOST", "a,b"),
            ("hostaddr=127.0.0.1,::1", "PGHOST", "a,b"),
        ] {
            completed(text, name, value).unwrap();
            let error = completed(text, "PGAPPNAME", "").err().map(|error| error.to_string());
            assert!(text.starts_with("hostaddr") || error.is_some_and(|text| text.contains(" must be ")), "{text}");
        }
        std::fs::write(folder.join("root.crt"), "").unwrap();
        let found = completed("host=h sslmode=verify-ca", "PGAPPNAME", "").unwrap().tls.roots_file().map(PathBuf::from);
        assert_eq!(found, Some(folder.join("root.crt")));
        // A value that no other can complete.
        let error = completed("host=h sslmode=s3cr3t", "PGSSLMODE", "require").unwrap_err().to_string();
        assert!(error.contains("sslmode must be") && !error.contains("s3cr3t"), "{error}");
    }

    #[test]
    fn the_environment_comes_before_the_default_address_and_after_a_given_one() {
        let environment = libpq(&[("PGHOST", "db"), ("PGPORT", "7")]);
        let mut url = PostgresUrl::known("host=/var/run/postgresql dbname=postgres");
        url.complete(&environment, None, true).unwrap();
        assert_eq!(url.to_string(), "host=db port=7 dbname=postgres");
        let mut url = PostgresUrl::parse("host=h").unwrap();
        url.complete(&environment, None, false).unwrap();
        assert_eq!(url.to_string(), "host=h port=7");
        let mut url = PostgresUrl::known("host=/var/run/postgresql dbname=postgres");
        url.complete(&libpq(&[]), None, true).unwrap();
        assert_eq!(url.to_string(), "host=/var/run/postgresql dbname=postgres");
    }
}
