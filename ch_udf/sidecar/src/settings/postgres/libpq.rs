//! Sources of connection parameters that libpq's programs use, too: its environment variables,
//! service files, and the password file.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::conninfo::{Conninfo, ConninfoError};
use super::options::Host;
use crate::error::{DoingTo, SidecarError};
use crate::settings::secret_files::read_secret;

/// Connection parameters in the environment.
#[derive(Clone, Default)]
pub(crate) struct Libpq {
    /// Variables such as `PGHOST`.
    pub(super) variables: Conninfo,
    /// A variable that asks for something that is not supported.
    problem: Option<ConninfoError>,
    pub(super) home: Option<PathBuf>,
    /// Folder of the machine's service file.
    system: Option<PathBuf>,
    /// User that connects if nothing names one.
    pub(super) user: Option<String>,
}

impl std::fmt::Debug for Libpq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Libpq").field("home", &self.home).field("user", &self.user).finish_non_exhaustive()
    }
}

impl Libpq {
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let (variables, problem) = match Conninfo::from_environment(&variable) {
            Ok(variables) => (variables, None),
            Err(problem) => (Conninfo::default(), Some(problem)),
        };
        let account = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
        Self {
            variables,
            problem,
            home: variable("HOME").map(PathBuf::from),
            system: variable("PGSYSCONFDIR").map(PathBuf::from),
            user: account.map(|account| account.name),
        }
    }

    /// Adds what a string leaves open: first from its service, then the password of a setting, then
    /// from the environment.
    ///
    /// # Errors
    /// [`SidecarError::Configuration`] for a service that is not defined.
    pub(super) fn complete(&self, given: &mut Conninfo, password: Option<&SecretString>) -> Result<(), SidecarError> {
        let invalid = |detail| SidecarError::Configuration { detail };
        if let Some(problem) = self.problem {
            return Err(invalid(format!("environment of PostgreSQL: {problem}")));
        }
        let file = given.remove("servicefile").or_else(|| self.variables.get("servicefile").map(str::to_owned));
        if let Some(service) = given.remove("service").or_else(|| self.variables.get("service").map(str::to_owned)) {
            given.fill_from(&self.service(&service, file.map(PathBuf::from))?);
        }
        if let Some(password) = password.filter(|_| given.get("password").is_none()) {
            given.set("password", password.expose_secret().to_owned()).map_err(|error| invalid(error.to_string()))?;
        }
        given.fill_from(&self.variables);
        for keyword in ["service", "servicefile"] {
            given.remove(keyword);
        }
        Ok(())
    }

    /// Reads the definition of a service: from the user's file, or else from the machine's.
    fn service(&self, name: &str, file: Option<PathBuf>) -> Result<Conninfo, SidecarError> {
        let invalid = |detail| SidecarError::Configuration { detail };
        let own = match file {
            Some(file) if !file.is_file() => {
                return Err(invalid(format!("service file {} does not exist", file.display())));
            }
            Some(file) => Some(file),
            None => self.home.as_deref().map(|home| home.join(".pg_service.conf")),
        };
        let folder = self.system.clone().unwrap_or_else(|| PathBuf::from("/etc/postgresql-common"));
        let files: Vec<PathBuf> = own.into_iter().chain([folder.join("pg_service.conf")]).collect();
        for file in files.iter().filter(|file| file.is_file()) {
            let text = read_secret(file)?;
            let definition = defined_service(text.expose_secret(), name)
                .map_err(|line| invalid(format!("{} is not a service file at line {line}", file.display())))?;
            if let Some(definition) = definition {
                return Ok(definition);
            }
        }
        let files = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" and ");
        Err(invalid(format!("service \"{name}\" of PostgreSQL is not defined in {files}")))
    }

    /// Returns the password that the password file has for a host, if there is one.
    ///
    /// # Errors
    /// [`SidecarError::Io`] for a password file that exists and cannot be read.
    pub(super) fn password_for(
        &self,
        file: Option<&str>,
        host: &Host,
        database: &str,
        user: &str,
    ) -> Result<Option<SecretString>, SidecarError> {
        let default = || Some(self.home.as_deref()?.join(".pgpass"));
        let Some(path) = file.map(PathBuf::from).or_else(default).filter(|path| path.is_file()) else {
            return Ok(None);
        };
        let mode = std::fs::metadata(&path).doing_to("read", &path)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(
                file = %path.display(),
                "the password file is ignored, because others may read it; run chmod 600"
            );
            return Ok(None);
        }
        let text = read_secret(&path)?;
        Ok(text.expose_secret().lines().find_map(|line| password_of(line, host, database, user)))
    }
}

/// Returns the definition of a service, or the number of a line that is neither a heading, a pair
/// nor a comment.
fn defined_service(text: &str, name: &str) -> Result<Option<Conninfo>, usize> {
    let mut found: Option<Conninfo> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(heading) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if found.is_some() {
                break;
            }
            found = (heading == name).then(Conninfo::default);
            continue;
        }
        let Some(definition) = &mut found else { continue };
        let (keyword, value) = line.split_once('=').ok_or(index + 1)?;
        let mut pair = Conninfo::default();
        // A definition that names a service, or LDAP, would have to be followed.
        if keyword.trim() == "service" || pair.set(keyword.trim(), value.trim().to_owned()).is_err() {
            return Err(index + 1);
        }
        // As for libpq, the first of two lines counts here, and in a string the last.
        definition.fill_from(&pair);
    }
    Ok(found)
}

/// Returns the password of a line `host:port:database:user:password` that fits the connection.
fn password_of(line: &str, host: &Host, database: &str, user: &str) -> Option<SecretString> {
    if line.starts_with('#') {
        return None;
    }
    let [host_pattern, port_pattern, database_pattern, user_pattern, password] = fields(line)?;
    let fits = |pattern: &str, value: &str| pattern == "*" || pattern == value;
    let fits_host = fits(&host_pattern, &host.name) || (host.is_socket() && host_pattern == "localhost");
    let fits_all = fits_host
        && fits(&port_pattern, &host.port.to_string())
        && fits(&database_pattern, database)
        && fits(&user_pattern, user);
    fits_all.then(|| password.into())
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

/// Returns a file of the user's folder for PostgreSQL, if it exists.
pub(super) fn default_file(home: Option<&Path>, name: &str) -> Option<PathBuf> {
    home.map(|home| home.join(".postgresql").join(name)).filter(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.into(), number: None, port }
    }

    #[test]
    fn a_line_of_the_password_file_fits_as_for_libpq() {
        let password = |line: &str, host: &Host, database: &str, user: &str| {
            password_of(line, host, database, user).map(|password| password.expose_secret().to_owned())
        };
        let db = host("db", 5433);
        assert_eq!(password("db:5433:x:ann:s3cr3t", &db, "x", "ann").as_deref(), Some("s3cr3t"));
        assert_eq!(password("*:*:*:*:a:b\\\\", &db, "x", "ann").as_deref(), Some("a:b\\"));
        assert_eq!(password("db:5432:x:ann:s3cr3t", &db, "x", "ann"), None);
        assert_eq!(password("db:5433:x:ann", &db, "x", "ann"), None);
        assert_eq!(password("# db:5433:x:ann:s3cr3t", &db, "x", "ann"), None);
        assert_eq!(password("localhost:5432:me:me:s", &host("/run", 5432), "me", "me").as_deref(), Some("s"));
        assert_eq!(password("/run:5432:a\\:b:me:s", &host("/run", 5432), "a:b", "me").as_deref(), Some("s"));
    }

    #[test]
    fn a_password_file_that_others_may_read_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        std::fs::write(&path, "# mine\n*:*:*:*:s3cr3t\n").unwrap();
        let libpq = Libpq::default();
        let found = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            libpq.password_for(path.to_str(), &host("h", 1), "x", "me").unwrap()
        };
        assert!(found(0o644).is_none());
        assert_eq!(found(0o600).unwrap().expose_secret(), "s3cr3t");
    }

    #[test]
    fn a_service_gives_what_the_string_leaves_open_and_the_environment_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("services");
        std::fs::write(
            &file,
            "# ours\n[other]\nhost=no\n\n[mine]\nhost = db\nport=7\nsslmode=require\nsslmode=disable\n",
        )
        .unwrap();
        let libpq = Libpq::read(|name| match name {
            "PGSERVICEFILE" => Some(file.display().to_string()),
            "PGPORT" => Some("9".into()),
            "PGDATABASE" => Some("x".into()),
            _ => None,
        });
        let mut given = Conninfo::parse("service=mine host=nearer").unwrap();
        libpq.complete(&mut given, None).unwrap();
        let found = ["host", "port", "dbname", "sslmode", "service"].map(|keyword| given.get(keyword));
        assert_eq!(found, [Some("nearer"), Some("7"), Some("x"), Some("require"), None]);
        let mut missing = Conninfo::parse("service=nothing").unwrap();
        let error = libpq.complete(&mut missing, None).unwrap_err().to_string();
        assert!(error.contains("\"nothing\"") && error.contains("services"), "{error}");
        std::fs::write(&file, "[mine]\nhost = db\npassword s3cr3t\n").unwrap();
        let error = libpq.complete(&mut Conninfo::parse("service=mine").unwrap(), None).unwrap_err().to_string();
        assert!(error.contains("line 3") && !error.contains("s3cr3t"), "{error}");
    }
}
