//! Installing the functions in a ClickHouse: the program, the scorecard that the database uses, and the description of the functions.
//!
//! Owns what these files are called and hold. Files are replaced in one step each, the description last. It names a revision made of
//! the other files, so that ClickHouse starts the program anew whenever one of them changed, and only then.

use std::fmt::{self, Write as _};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use arx_core::behaviour::Thresholds;
use clap::{Args, ValueEnum};
use sha2::{Digest, Sha256};

use crate::error::SidecarError;
use crate::servers::engine::{EngineFolder, USER, Warehouse, answers, escape_xml};
use crate::servers::{clickhouse, postgres};
use crate::settings::{ServerUrl, Settings};
use crate::write_back::RuleBook;
use arx_udf::{Function, Models, NULL, UdfError, known_answers};

/// The description of the functions, found by ClickHouse for its end.
const DESCRIPTION: &str = "arx_function.xml";
const PROGRAM: &str = "arx-udf";
const SCORECARD: &str = "arx_scorecard.json";
const THRESHOLDS: &str = "arx_thresholds.json";

/// Processes of one function at a time, at most: as many queries as may use it at once. ClickHouse's own default.
const POOL_SIZE: u32 = 16;

/// What is to be done in ClickHouse.
#[derive(Debug, clap::Subcommand)]
pub enum ClickHouseCommand {
    /// Make the tables and views that are missing, on a single server or a cluster
    Apply {
        /// Only print the statements
        #[arg(long)]
        dry_run: bool,
    },
    /// Install ARX's functions, with the risk model that the database uses
    InstallUdfs(InstallArgs),
}

/// Where the functions go, and what they judge by.
#[derive(Debug, Default, Args)]
pub struct InstallArgs {
    /// ClickHouse's user_scripts_path, for the program and what it reads [default: that of the embedded engine]
    #[arg(long, value_name = "DIR")]
    pub scripts_dir: Option<PathBuf>,
    /// Where ClickHouse finds *_function.xml [default: where the embedded engine does]
    #[arg(long, value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
    /// The program arx-udf [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// A scorecard as JSON instead of the database's active one
    #[arg(long, value_name = "FILE")]
    pub scorecard: Option<PathBuf>,
    /// Thresholds of wallet types as JSON instead of the database's (arx.behaviour_thresholds, network '*')
    #[arg(long, value_name = "FILE")]
    pub thresholds: Option<PathBuf>,
    /// Take what no file gives as it is compiled in; the database is not asked
    #[arg(long)]
    pub compiled_in: bool,
    /// Only say what would be written
    #[arg(long)]
    pub dry_run: bool,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Unchanged,
    Written,
    WouldBeWritten,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Written => "written",
            Self::WouldBeWritten => "would be written",
        }
    }
}

/// What an installation did.
#[derive(Debug)]
pub struct Installed {
    model: String,
    files: Vec<(PathBuf, Outcome)>,
    description: Option<String>,
    serving: Serving,
}

/// Whether ClickHouse answers with what was installed.
#[derive(Debug)]
enum Serving {
    NotAsked,
    /// It does not run.
    NotRunning,
    /// It runs, and does not know the functions.
    Failed(String),
    /// It answered so many questions rightly.
    Right {
        server: String,
        answers: usize,
    },
}

impl Installed {
    /// Whether nothing is wrong. A ClickHouse that does not run is not.
    #[must_use]
    pub const fn is_well(&self) -> bool {
        !matches!(self.serving, Serving::Failed(_))
    }
}

impl fmt::Display for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "risk model {}", self.model)?;
        for (path, outcome) in &self.files {
            writeln!(f, "{:<17} {}", outcome.as_str(), path.display())?;
        }
        if let Some(description) = &self.description {
            write!(f, "\n{description}")?;
        }
        match &self.serving {
            Serving::NotAsked => Ok(()),
            Serving::NotRunning => {
                writeln!(f, "ClickHouse is not running: it was not asked, and takes the functions up when it starts")
            }
            Serving::Failed(why) => writeln!(f, "ClickHouse does not serve the functions: {why}"),
            Serving::Right { server, answers } => {
                writeln!(f, "ClickHouse {server} serves the functions: {answers} answers, all as expected")
            }
        }
    }
}

/// Installs the functions, or says what would be done.
///
/// # Errors
/// [`SidecarError::Configuration`] for a place or program that is missing, [`SidecarError::Input`] for a scorecard or thresholds that
/// are none, [`SidecarError::Io`], and what keeps the active risk model from being read.
pub async fn install(arguments: &InstallArgs, settings: &Settings) -> Result<Installed, SidecarError> {
    let places = Places::find(arguments, settings)?;
    let program_path = program(arguments)?;
    let program = read(&program_path)?;
    let documents = Documents::read(arguments, &settings.postgres_url).await?;
    let Documents { scorecard, thresholds } = &documents;
    let models = Models::from_json(Some(scorecard), Some(thresholds)).map_err(|error| input(&error))?;

    let mut revision = Sha256::new();
    for part in [program.as_slice(), scorecard.as_bytes(), thresholds.as_bytes()] {
        revision.update(part.len().to_le_bytes());
        revision.update(part);
    }
    let revision: String = revision.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let description = description(&revision);

    let dry = arguments.dry_run;
    let mut files = Vec::new();
    let mut keep = |path: PathBuf, bytes: &[u8], mode| -> Result<(), SidecarError> {
        let outcome = put(&path, bytes, mode, dry)?;
        files.push((path, outcome));
        Ok(())
    };
    keep(places.scripts.join(PROGRAM), &program, 0o755)?;
    keep(places.scripts.join(SCORECARD), scorecard.as_bytes(), 0o644)?;
    keep(places.scripts.join(THRESHOLDS), thresholds.as_bytes(), 0o644)?;
    keep(places.config.join(DESCRIPTION), description.as_bytes(), 0o644)?;
    let model = models.scorecard.version().to_owned();
    if dry {
        return Ok(Installed { model, files, description: Some(description), serving: Serving::NotAsked });
    }
    let serving = check(settings, &models).await;
    Ok(Installed { model, files, description: None, serving })
}

/// The folders that the files go to.
struct Places {
    scripts: PathBuf,
    config: PathBuf,
}

impl Places {
    /// Those given; else the embedded engine's, if it is the ClickHouse that is used.
    fn find(arguments: &InstallArgs, settings: &Settings) -> Result<Self, SidecarError> {
        let embedded = settings.clickhouse_url.is_none().then(|| embedded(settings));
        let missing = |flag, what| SidecarError::Configuration {
            detail: format!("{flag} is needed with a ClickHouse of your own: {what}"),
        };
        let scripts = arguments.scripts_dir.clone().or_else(|| embedded.as_ref().map(EngineFolder::scripts));
        let config = arguments.config_dir.clone().or_else(|| embedded.as_ref().map(EngineFolder::functions));
        let scripts = scripts.ok_or_else(|| {
            missing("--scripts-dir", "its user_scripts_path, as a rule /var/lib/clickhouse/user_scripts")
        })?;
        let config = config.ok_or_else(|| {
            missing(
                "--config-dir",
                "where its user_defined_executable_functions_config looks for \
                *_function.xml, as a rule /etc/clickhouse-server",
            )
        })?;
        for folder in [&arguments.scripts_dir, &arguments.config_dir].into_iter().flatten() {
            if !folder.is_dir() {
                return Err(SidecarError::Configuration { detail: format!("{} is no folder", folder.display()) });
            }
        }
        if !arguments.dry_run {
            // the engine's own folders may not be there yet
            for folder in [&scripts, &config] {
                fs::create_dir_all(folder).map_err(|source| SidecarError::io("create folder", folder, source))?;
            }
        }
        Ok(Self { scripts, config })
    }
}

fn embedded(settings: &Settings) -> EngineFolder {
    EngineFolder::new(settings.data_dir.join("clickhouse"))
}

/// `arx-udf`: as given, or beside this program (or one folder up, where test executables live).
fn program(arguments: &InstallArgs) -> Result<PathBuf, SidecarError> {
    if let Some(path) = &arguments.program {
        return Ok(path.clone());
    }
    let own = std::env::current_exe()
        .map_err(|source| SidecarError::io("find the running executable", "/proc/self/exe".as_ref(), source))?;
    let mut beside = own.ancestors().skip(1).take(2).map(|folder| folder.join(PROGRAM));
    beside.find(|path| path.is_file()).ok_or_else(|| SidecarError::Configuration {
        detail: format!("the program {PROGRAM} is not next to {}; name it with --program", own.display()),
    })
}

/// What the functions judge by. The texts are kept as they are: another spelling of a number is another number.
struct Documents {
    scorecard: String,
    thresholds: String,
}

impl Documents {
    /// From the files given; the others as compiled in, or else as the database has them.
    async fn read(arguments: &InstallArgs, url: &ServerUrl) -> Result<Self, SidecarError> {
        let scorecard = arguments.scorecard.as_deref().map(read_text).transpose()?;
        let thresholds = arguments.thresholds.as_deref().map(read_text).transpose()?;
        let (scorecard, thresholds) = match (scorecard, thresholds) {
            (Some(scorecard), Some(thresholds)) => (scorecard, thresholds),
            (scorecard, thresholds) => {
                let others = if arguments.compiled_in { Self::compiled_in()? } else { Self::in_use(url).await? };
                (scorecard.unwrap_or(others.scorecard), thresholds.unwrap_or(others.thresholds))
            }
        };
        Ok(Self { scorecard, thresholds })
    }

    fn compiled_in() -> Result<Self, SidecarError> {
        let models = Models::compiled_in().map_err(|error| input(&error))?;
        let scorecard = models.scorecard.to_json().map_err(|error| input(&error.into()))?;
        Ok(Self { scorecard, thresholds: json(&models.thresholds)? })
    }

    async fn in_use(url: &ServerUrl) -> Result<Self, SidecarError> {
        let client = postgres::connect(url).await?.client;
        let scorecard = client
            .query_one("SELECT document::text FROM arx.risk_models WHERE state = 'active'", &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(|source| SidecarError::Postgres { doing: "read the active risk model", source })?;
        Ok(Self { scorecard, thresholds: json(&RuleBook::read(&client).await?.any().thresholds)? })
    }
}

fn json(thresholds: &Thresholds) -> Result<String, SidecarError> {
    serde_json::to_string(thresholds).map_err(|error| input(&error.into()))
}

fn input(error: &UdfError) -> SidecarError {
    SidecarError::Input { detail: crate::error::Chain(error).to_string() }
}

fn read(path: &Path) -> Result<Vec<u8>, SidecarError> {
    fs::read(path).map_err(|source| SidecarError::io("read", path, source))
}

fn read_text(path: &Path) -> Result<String, SidecarError> {
    fs::read_to_string(path).map_err(|source| SidecarError::io("read", path, source))
}

/// Puts a file in its place in one step, unless it is there already.
fn put(path: &Path, bytes: &[u8], mode: u32, dry: bool) -> Result<Outcome, SidecarError> {
    let is_there = fs::read(path).is_ok_and(|found| found == bytes)
        && fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o777 == mode);
    if is_there {
        return Ok(Outcome::Unchanged);
    }
    if dry {
        return Ok(Outcome::WouldBeWritten);
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.new", std::process::id()));
    let aside = PathBuf::from(aside);
    let written = fs::File::create(&aside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    });
    let failed = |doing, source| {
        // half a file is of no use; what goes wrong with its removal is less than what went wrong before
        let _ = fs::remove_file(&aside);
        SidecarError::io(doing, path, source)
    };
    written.map_err(|source| failed("write", source))?;
    fs::rename(&aside, path).map_err(|source| failed("replace", source))?;
    Ok(Outcome::Written)
}

/// The functions as ClickHouse reads them. Paths are relative to the program: the folder may have another name where ClickHouse runs,
/// and the command is cut at blanks.
fn description(revision: &str) -> String {
    let mut xml = "<!-- Written by arx-sidecar clickhouse install-udfs. -->\n<functions>\n".to_owned();
    for function in Function::value_variants() {
        let mut command = format!("{PROGRAM} {}", function.command());
        if function.needs_scorecard() {
            let _ = write!(command, " --beside --scorecard {SCORECARD}");
        } else if *function == Function::WalletType {
            let _ = write!(command, " --beside --thresholds {THRESHOLDS}");
        }
        let arguments: String = function
            .arguments()
            .iter()
            .map(|(name, of_type)| {
                format!("    <argument><name>{name}</name><type>{}</type></argument>\n", escape_xml(of_type))
            })
            .collect();
        // writing to a String cannot fail
        let _ = write!(
            xml,
            "  <function>\n    <name>{}</name>\n    <type>executable_pool</type>\n    <pool_size>{POOL_SIZE}</pool_size>\n\
             {arguments}    <return_type>{}</return_type>\n    <format>RowBinary</format>\n    \
             <send_chunk_header>1</send_chunk_header>\n    <execute_direct>1</execute_direct>\n    \
             <deterministic>1</deterministic>\n    <stderr_reaction>throw</stderr_reaction>\n    \
             <command>{command} --revision {revision}</command>\n  </function>\n",
            function.sql_name(),
            escape_xml(function.return_type()),
        );
    }
    xml.push_str("</functions>\n");
    xml
}

/// Has ClickHouse read the functions anew, and asks it what is known.
async fn check(settings: &Settings, models: &Models) -> Serving {
    match place(settings) {
        Ok(Some(place)) => match ask(&place, models).await {
            Ok((server, answers)) => Serving::Right { server, answers },
            Err(Refused::Down) => Serving::NotRunning,
            Err(Refused::Failed(why)) => Serving::Failed(why),
        },
        Ok(None) => Serving::NotRunning,
        Err(error) => Serving::Failed(crate::error::Chain(&error).to_string()),
    }
}

/// The ClickHouse that runs now; none is started.
fn place(settings: &Settings) -> Result<Option<Warehouse>, SidecarError> {
    let database = settings.clickhouse_database.clone();
    if let Some(url) = &settings.clickhouse_url {
        let (user, password) = (settings.clickhouse_user.clone(), settings.clickhouse_password.clone());
        return Ok(Some(Warehouse { url: url.expose().to_owned(), user, password, database }));
    }
    let folder = embedded(settings);
    match folder.endpoint().filter(|endpoint| answers(endpoint.http_port)) {
        Some(endpoint) => {
            let password = Some(crate::settings::Secret::new(folder.password()?));
            Ok(Some(Warehouse { url: endpoint.url(), user: USER.to_owned(), password, database }))
        }
        None => Ok(None),
    }
}

enum Refused {
    Down,
    Failed(String),
}

async fn ask(place: &Warehouse, models: &Models) -> Result<(String, usize), Refused> {
    let failed = |error: &(dyn std::error::Error + 'static)| Refused::Failed(crate::error::Chain(error).to_string());
    let connection = clickhouse::connect(place).await.map_err(|error| match error {
        SidecarError::Unreachable { .. } => Refused::Down,
        other => failed(&other),
    })?;
    // the configured database may not be there yet
    let client = connection.client.with_database("default");
    client.query_raw("SYSTEM RELOAD FUNCTIONS").execute().await.map_err(|error| failed(&error))?;
    let known = known_answers(models).map_err(|error| failed(&error))?;
    for vector in &known {
        let asked = format!("SELECT ifNull(toString({}), '{NULL}')", vector.sql);
        let answer: String = client.query_raw(&asked).fetch_one().await.map_err(|error| failed(&error))?;
        if !vector.is_right(&answer) {
            return Err(Refused::Failed(format!("{} is {answer}, not {}", vector.sql, vector.expected)));
        }
    }
    Ok((connection.version, known.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: Option<&str>, data: &Path) -> Settings {
        let flags = crate::settings::Overrides {
            clickhouse_url: url.map(ServerUrl::new),
            data_dir: Some(data.to_owned()),
            ..crate::settings::Overrides::default()
        };
        Settings::load(None, &crate::settings::Environment::default(), &flags).unwrap()
    }

    fn arguments(program: &Path) -> InstallArgs {
        InstallArgs { program: Some(program.to_owned()), compiled_in: true, ..InstallArgs::default() }
    }

    #[tokio::test]
    async fn files_are_written_once_and_again_when_something_changed() {
        let scratch = tempfile::tempdir().unwrap();
        let data = scratch.path().join("a & b");
        let (program, thresholds) = (scratch.path().join("program"), scratch.path().join("thresholds"));
        fs::write(&program, "one").unwrap();
        fs::write(&thresholds, r#"{"whale_mean_coins": 7}"#).unwrap();
        let settings = settings(None, &data);
        let mut arguments = arguments(&program);
        let run = async |arguments: &InstallArgs| {
            let done = install(arguments, &settings).await.unwrap();
            assert!(done.is_well() && !arguments.dry_run || matches!(done.serving, Serving::NotAsked));
            done.files.iter().map(|(_, outcome)| *outcome).collect::<Vec<_>>()
        };
        use Outcome::{Unchanged, WouldBeWritten, Written};
        arguments.dry_run = true;
        assert_eq!(run(&arguments).await, [WouldBeWritten; 4]);
        assert!(!data.exists());
        arguments.dry_run = false;
        assert_eq!(run(&arguments).await, [Written; 4]);
        assert_eq!(run(&arguments).await, [Unchanged; 4]);
        fs::write(&program, "two").unwrap();
        assert_eq!(
            run(&arguments).await,
            [Written, Unchanged, Unchanged, Written],
            "the description names the program"
        );
        arguments.thresholds = Some(thresholds);
        assert_eq!(run(&arguments).await, [Unchanged, Unchanged, Written, Written]);
        arguments.thresholds = None;
        assert_eq!(run(&arguments).await, [Unchanged, Unchanged, Written, Written]);
        let folder = embedded(&settings);
        let left: Vec<_> = fs::read_dir(folder.scripts()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
        let mode = fs::metadata(folder.scripts().join(PROGRAM)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[tokio::test]
    async fn a_server_of_ones_own_needs_its_folders_and_a_scorecard_must_be_one() {
        let scratch = tempfile::tempdir().unwrap();
        let program = scratch.path().join("program");
        fs::write(&program, "one").unwrap();
        let mut arguments = arguments(&program);
        let with_server = settings(Some("http://127.0.0.1:9"), scratch.path());
        let refused = install(&arguments, &with_server).await.unwrap_err().to_string();
        assert!(refused.contains("--scripts-dir"), "{refused}");
        arguments.scripts_dir = Some(scratch.path().to_owned());
        let refused = install(&arguments, &with_server).await.unwrap_err().to_string();
        assert!(refused.contains("--config-dir"), "{refused}");
        arguments.config_dir = Some(scratch.path().join("nowhere"));
        let refused = install(&arguments, &with_server).await.unwrap_err().to_string();
        assert!(refused.contains("nowhere is no folder"), "{refused}");
        arguments.config_dir = Some(scratch.path().to_owned());
        let done = install(&arguments, &with_server).await.unwrap().to_string();
        assert!(done.contains("ClickHouse is not running"), "{done}");
        arguments.scorecard = Some(program);
        let refused = install(&arguments, &with_server).await.unwrap_err().to_string();
        assert!(refused.contains("scorecard is not readable"), "{refused}");
    }

    #[test]
    fn every_function_is_described_with_its_types() {
        let xml = description("0123");
        assert!(roxmltree::Document::parse(&xml).is_ok(), "{xml}");
        for function in Function::value_variants() {
            assert!(xml.contains(&format!("<name>{}</name>", function.sql_name())));
            assert!(xml.contains(&format!("<command>arx-udf {} ", function.command())));
            let parsed = Function::from_str(function.command(), false);
            assert_eq!(parsed.as_ref(), Ok(function));
        }
        assert_eq!(xml.matches("--revision 0123</command>").count(), 6);
        assert_eq!(xml.matches("--thresholds").count(), 1);
        assert_eq!(xml.matches("--scorecard").count(), 3);
    }
}
