//! What the embedded engine keeps in its folder: the configuration it is started with, the password
//! and the endpoint file that says where it listens. Owns names, contents and modes of these files.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::SidecarError;

/// Where a running engine listens; `endpoint.json` in the engine's folder holds it while the engine answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Process of the engine.
    pub pid: i32,
    /// Port of the HTTP interface on the loopback address.
    pub http_port: u16,
    /// Port of the native interface on the loopback address.
    pub tcp_port: u16,
}

impl Endpoint {
    /// The HTTP interface as an URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }
}

/// The storage policy of the embedded engine: its volumes are folders on the same disk, so that tables are made as on a server.
pub const STORAGE_POLICY: &str = "arx_tiered";

/// The user of the embedded engine.
pub const USER: &str = "arx";

/// The folder of one engine.
#[derive(Debug, Clone)]
pub struct EngineFolder {
    root: PathBuf,
}

impl EngineFolder {
    /// The engine's folder; nothing is created yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the engine keeps its tables.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The engine's configuration. What an operator adds goes into files of `config.d` beside it, as on any ClickHouse.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("config.xml")
    }

    /// What the engine writes to standard error when a supervisor starts it.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("engine.log")
    }

    /// Where the engine looks for descriptions of executable functions, in files named `*_function.xml`.
    #[must_use]
    pub fn functions(&self) -> PathBuf {
        self.root.join("functions")
    }

    /// Where the engine looks for the programs of executable functions.
    #[must_use]
    pub fn scripts(&self) -> PathBuf {
        self.functions().join("programs")
    }

    fn users(&self) -> PathBuf {
        self.root.join("users.xml")
    }

    fn password_file(&self) -> PathBuf {
        self.root.join("password")
    }

    fn endpoint_file(&self) -> PathBuf {
        self.root.join("endpoint.json")
    }

    /// Creates the folder and everything the engine is started with. The password is made once and kept.
    ///
    /// # Errors
    /// [`SidecarError::Io`] naming the file.
    pub fn prepare(&self) -> Result<(), SidecarError> {
        let store = self.store();
        fs::create_dir_all(&store).map_err(|source| SidecarError::io("create folder", &store, source))?;
        fs::set_permissions(&self.root, fs::Permissions::from_mode(0o700))
            .map_err(|source| SidecarError::io("restrict folder", &self.root, source))?;
        let password = match self.password() {
            Ok(password) if !password.is_empty() => password,
            Ok(_) | Err(_) => {
                let password = random_hex()?;
                write_private(&self.password_file(), &password)?;
                password
            }
        };
        let scripts = self.scripts();
        fs::create_dir_all(&scripts).map_err(|source| SidecarError::io("create folder", &scripts, source))?;
        write_private(&self.config(), &self.config_xml())?;
        write_private(&self.users(), &users_xml(&password))
    }

    fn config_xml(&self) -> String {
        let shown = |path: PathBuf| escape_xml(&path.display().to_string());
        format!(
            "<clickhouse>\n  <path>{}/</path>\n  <users_config>{}</users_config>\n  \
             <default_profile>default</default_profile>\n  <timezone>UTC</timezone>\n  \
             <max_server_memory_usage_to_ram_ratio>0.5</max_server_memory_usage_to_ram_ratio>\n  \
             <user_scripts_path>{}/</user_scripts_path>\n  \
             <user_defined_executable_functions_config>{}/*_function.xml</user_defined_executable_functions_config>\n  \
             <storage_configuration>\n    <disks>\n      \
             <arx_warm><type>local</type><path>{}/</path></arx_warm>\n      \
             <arx_cold><type>local</type><path>{}/</path></arx_cold>\n    </disks>\n    <policies>\n      \
             <{STORAGE_POLICY}>\n        <volumes>\n          <hot><disk>default</disk></hot>\n          \
             <warm><disk>arx_warm</disk></warm>\n          <cold><disk>arx_cold</disk></cold>\n        </volumes>\n        \
             <move_factor>0</move_factor>\n      </{STORAGE_POLICY}>\n    </policies>\n  </storage_configuration>\n\
             </clickhouse>\n",
            shown(self.store()),
            shown(self.users()),
            shown(self.scripts()),
            shown(self.functions()),
            shown(self.root.join("warm")),
            shown(self.root.join("cold")),
        )
    }

    /// The password of [`USER`].
    ///
    /// # Errors
    /// [`SidecarError::Io`] when the engine was never prepared here.
    pub fn password(&self) -> Result<String, SidecarError> {
        let path = self.password_file();
        let text = fs::read_to_string(&path).map_err(|source| SidecarError::io("read", &path, source))?;
        Ok(text.trim().to_owned())
    }

    /// What the endpoint file says; `None` when there is none (or none that can be read).
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        serde_json::from_slice(&fs::read(self.endpoint_file()).ok()?).ok()
    }

    /// Says where the engine listens, in one step.
    ///
    /// # Errors
    /// [`SidecarError::Io`] naming the file.
    pub fn publish(&self, endpoint: &Endpoint) -> Result<(), SidecarError> {
        let path = self.endpoint_file();
        let aside = self.root.join("endpoint.json.new");
        let text = serde_json::to_string(endpoint)
            .map_err(|source| SidecarError::Json { doing: "write the endpoint file", source })?;
        write_private(&aside, &text)?;
        fs::rename(&aside, &path).map_err(|source| SidecarError::io("rename to", &path, source))
    }

    /// Takes the endpoint file away, if it is the one of this process.
    pub fn withdraw(&self, pid: i32) {
        if self.endpoint().is_some_and(|endpoint| endpoint.pid == pid) {
            // A file that cannot be removed is noticed by whoever reads it: nothing answers there.
            let _ = fs::remove_file(self.endpoint_file());
        }
    }
}

fn write_private(path: &Path, text: &str) -> Result<(), SidecarError> {
    let failed = |source| SidecarError::io("write", path, source);
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// 128 random bits.
fn random_hex() -> Result<String, SidecarError> {
    let device = Path::new("/dev/urandom");
    let mut bytes = [0_u8; 16];
    fs::File::open(device)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|source| SidecarError::io("read", device, source))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Text as it stands between tags.
#[must_use]
pub fn escape_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Whoever connects is [`USER`], with the password. The engine's own session can only be `default` without a password, and
/// the network cannot be told apart from it; so `default` may start and stop listeners, count numbers, and nothing else: it sees no table.
fn users_xml(password: &str) -> String {
    format!(
        "<clickhouse>\n  <profiles><default/></profiles>\n  <quotas><default/></quotas>\n  <users>\n    <default>\n      \
         <password></password>\n      <networks><ip>::1</ip></networks>\n      <profile>default</profile>\n      \
         <quota>default</quota>\n      <grants><query>GRANT SYSTEM LISTEN ON *.*</query>\
         <query>GRANT SELECT ON system.numbers</query></grants>\n    </default>\n    \
         <{USER}>\n      <password>{password}</password>\n      <networks><ip>127.0.0.1</ip><ip>::1</ip></networks>\n      \
         <profile>default</profile>\n      <quota>default</quota>\n    </{USER}>\n  </users>\n</clickhouse>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let engine = EngineFolder::new(folder.path().join("a & b"));
        engine.prepare().unwrap();
        let first = engine.password().unwrap();
        assert_eq!(first.len(), 32);
        engine.prepare().unwrap();
        assert_eq!(engine.password().unwrap(), first);
        let mode = fs::metadata(engine.password_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(fs::read_to_string(engine.config()).unwrap().contains("a &amp; b"));
    }

    #[test]
    fn only_the_process_that_published_an_endpoint_withdraws_it() {
        let folder = tempfile::tempdir().unwrap();
        let engine = EngineFolder::new(folder.path());
        engine.prepare().unwrap();
        assert_eq!(engine.endpoint(), None);
        let endpoint = Endpoint { pid: 41, http_port: 1, tcp_port: 2 };
        engine.publish(&endpoint).unwrap();
        engine.withdraw(42);
        assert_eq!(engine.endpoint(), Some(endpoint));
        engine.withdraw(41);
        assert_eq!(engine.endpoint(), None);
    }
}
