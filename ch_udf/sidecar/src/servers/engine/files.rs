//! The folder of the embedded engine: its configuration, its password, and the endpoint file with
//! its address. Owns names, contents and modes of these files.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::error::{Doing, DoingTo, SidecarError};

/// Loopback ports of a running engine; `endpoint.json` in its folder holds them while the engine
/// answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) pid: i32,
    pub(crate) http_port: u16,
    /// Port of the native protocol, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tcp_port: Option<u16>,
}

impl Endpoint {
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }
}

/// The storage policy of the embedded engine. Its volumes are folders on one disk, so that tables
/// are created as on a server.
pub(crate) const STORAGE_POLICY: &str = "arx_tiered";

/// The user of the embedded engine.
pub(crate) const USER: &str = "arx";

/// The folder of one engine.
#[derive(Debug, Clone)]
pub(crate) struct EngineFolder {
    root: PathBuf,
}

impl EngineFolder {
    /// Names the folder; nothing is created yet.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Folder of the tables.
    pub(crate) fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The engine's configuration. An operator's additions go into `config.d` next to it, as with
    /// any ClickHouse.
    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("config.xml")
    }

    /// Standard error of an engine that a supervisor started.
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("engine.log")
    }

    /// Folder of the descriptions of executable functions, named `*_function.xml`.
    pub(crate) fn functions(&self) -> PathBuf {
        self.root.join("functions")
    }

    /// Folder of the programs of executable functions.
    pub(crate) fn scripts(&self) -> PathBuf {
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

    /// Creates the folder and the files that the engine starts with, for an engine whose own
    /// session runs `statements` statements. The password is created once and kept, or created
    /// again for each start.
    ///
    /// # Errors
    /// [`SidecarError::Io`] naming the file.
    pub(super) fn prepare(&self, keep_password: bool, statements: usize) -> Result<(), SidecarError> {
        let store = self.store();
        fs::create_dir_all(&store).doing_to("create folder", &store)?;
        fs::set_permissions(&self.root, fs::Permissions::from_mode(0o700)).doing_to("restrict folder", &self.root)?;
        let password = match self.password() {
            Ok(password) if keep_password && !password.is_empty() => password,
            Ok(_) | Err(_) => {
                let password = random_hex()?;
                write_private(&self.password_file(), &password)?;
                password
            }
        };
        let scripts = self.scripts();
        fs::create_dir_all(&scripts).doing_to("create folder", &scripts)?;
        write_private(&self.config(), &self.config_xml())?;
        write_private(&self.users(), &users_xml(&password, statements))
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
             {}</clickhouse>\n",
            shown(self.store()),
            shown(self.users()),
            shown(self.scripts()),
            shown(self.functions()),
            shown(self.root.join("warm")),
            shown(self.root.join("cold")),
            http_handlers_xml(),
        )
    }

    /// Reads the password of [`USER`].
    ///
    /// # Errors
    /// [`SidecarError::Io`] when the engine never ran here.
    pub(crate) fn password(&self) -> Result<String, SidecarError> {
        let path = self.password_file();
        let text = fs::read_to_string(&path).doing_to("read", &path)?;
        Ok(text.trim().to_owned())
    }

    /// Reads the endpoint file; `None` when it does not exist or cannot be read.
    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        serde_json::from_slice(&fs::read(self.endpoint_file()).ok()?).ok()
    }

    /// Writes the endpoint file in one step.
    ///
    /// # Errors
    /// [`SidecarError::Io`] naming the file.
    pub(super) fn publish(&self, endpoint: &Endpoint) -> Result<(), SidecarError> {
        let text = serde_json::to_string(endpoint).doing("write the endpoint file")?;
        write_private(&self.endpoint_file(), &text)
    }

    /// Removes the endpoint file if this process wrote it.
    pub(super) fn withdraw(&self, pid: i32) {
        if self.endpoint().is_some_and(|endpoint| endpoint.pid == pid) {
            // A reader of a file that cannot be removed finds that its port does not answer.
            let _ = fs::remove_file(self.endpoint_file());
        }
    }
}

fn write_private(path: &Path, text: &str) -> Result<(), SidecarError> {
    atomic_file::replace(path, Some(0o600), |file| file.write_all(text.as_bytes())).doing_to("write", path)
}

/// Returns 128 random bits.
fn random_hex() -> Result<String, SidecarError> {
    let device = Path::new("/dev/urandom");
    let mut bytes = [0_u8; 16];
    fs::File::open(device).and_then(|mut file| file.read_exact(&mut bytes)).doing_to("read", device)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Escapes text for use between XML tags.
pub(crate) fn escape_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Requests of HTTP that are answered: `/ping`, and queries that name [`USER`] in a header. A
/// request with that header is authenticated by it alone: ClickHouse refuses a request that names a
/// user in two ways. Everything else would reach the user `default`, who has no password.
fn http_handlers_xml() -> String {
    format!(
        "  <http_handlers>\n    \
         <rule><methods>GET</methods><url>/ping</url><handler><type>ping</type></handler></rule>\n    \
         <rule><headers><X-ClickHouse-User>{USER}</X-ClickHouse-User></headers><handler>\
         <type>dynamic_query_handler</type><query_param_name>query</query_param_name></handler></rule>\n    \
         <rule><handler><type>static</type><status>401</status><content_type>text/plain</content_type>\
         <response_content>Authentication is required: send the headers X-ClickHouse-User: {USER} and \
         X-ClickHouse-Key.\n</response_content></handler></rule>\n  </http_handlers>\n"
    )
}

/// Clients log in as [`USER`], with the password. The engine's own session can only be `default`
/// without a password and from the loopback address, and ClickHouse cannot tell it from a network
/// client. So HTTP does not lead to `default` (see [`http_handlers_xml`]). This user may start and
/// stop listeners and count numbers, cannot read a table, and has no quota left once the engine's
/// own statements run.
fn users_xml(password: &str, statements: usize) -> String {
    format!(
        "<clickhouse>\n  <profiles>\n    \
         <default><max_execution_time>{MAX_EXECUTION_SECONDS}</max_execution_time></default>\n    \
         <engine>\n      <max_memory_usage>100000000</max_memory_usage><max_threads>1</max_threads>\n      \
         <constraints><max_memory_usage><readonly/></max_memory_usage><max_threads><readonly/></max_threads>\
         </constraints>\n    </engine>\n  </profiles>\n  <quotas>\n    <default/>\n    \
         <engine><interval><duration>{QUOTA_SECONDS}</duration><queries>{statements}</queries></interval></engine>\n  \
         </quotas>\n  <users>\n    <default>\n      <password></password>\n      \
         <networks><ip>::1</ip></networks>\n      <profile>engine</profile>\n      <quota>engine</quota>\n      \
         <grants><query>GRANT SYSTEM LISTEN ON *.*</query>\
         <query>GRANT SELECT ON system.numbers</query></grants>\n    </default>\n    \
         <{USER}>\n      <password>{password}</password>\n      <networks><ip>127.0.0.1</ip><ip>::1</ip></networks>\n      \
         <profile>default</profile>\n      <quota>default</quota>\n    </{USER}>\n  </users>\n</clickhouse>\n"
    )
}

/// Time limit of a query.
const MAX_EXECUTION_SECONDS: u32 = 6 * 3_600;

/// Interval of the quota of the engine's own session: longer than any engine runs.
const QUOTA_SECONDS: u32 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_private_and_kept_unless_each_start_gets_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let engine = EngineFolder::new(folder.path().join("a & b"));
        engine.prepare(true, 2).unwrap();
        let first = engine.password().unwrap();
        assert_eq!(first.len(), 32);
        engine.prepare(true, 2).unwrap();
        assert_eq!(engine.password().unwrap(), first);
        engine.prepare(false, 2).unwrap();
        assert_ne!(engine.password().unwrap(), first);
        let mode = fs::metadata(engine.password_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(fs::read_to_string(engine.config()).unwrap().contains("a &amp; b"));
    }

    #[test]
    fn only_the_process_that_published_an_endpoint_withdraws_it() {
        let folder = tempfile::tempdir().unwrap();
        let engine = EngineFolder::new(folder.path());
        engine.prepare(true, 2).unwrap();
        assert_eq!(engine.endpoint(), None);
        let endpoint = Endpoint { pid: 41, http_port: 1, tcp_port: Some(2) };
        engine.publish(&endpoint).unwrap();
        engine.withdraw(42);
        assert_eq!(engine.endpoint(), Some(endpoint));
        engine.withdraw(41);
        assert_eq!(engine.endpoint(), None);
    }
}
