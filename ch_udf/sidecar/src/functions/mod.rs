//! Installing the functions of `arx-udf` in ClickHouse: the program, the scorecard, calibrations
//! and thresholds that it applies (`documents`), and the description of the functions
//! (`description`).
//!
//! Owns the names of these files. Each file is replaced in one step, the description last. It names
//! a revision made from the other files, so that ClickHouse restarts the program exactly when one
//! of them has changed.

mod check;
mod description;
mod documents;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use arx_udf::{Models, UdfError};
use clap::Args;
use sha2::{Digest, Sha256};

use crate::atomic_file;
use crate::error::{Chain, DoingTo, SidecarError};
use crate::servers::clickhouse::Choice;
use crate::servers::engine::EngineFolder;
use crate::settings::Settings;
pub(crate) use check::{Comparison, Serving};
use description::description;
use documents::Documents;

/// The description of the functions. ClickHouse recognises it by the end of its name.
const DESCRIPTION: &str = "arx_function.xml";
const PROGRAM: &str = "arx-udf";
const SCORECARD: &str = "arx_scorecard.json";
const CALIBRATION: &str = "arx_calibration.json";
const THRESHOLDS: &str = "arx_thresholds.json";

/// Folders and documents of an installation.
#[derive(Debug, Default, Args)]
pub(crate) struct InstallOptions {
    /// ClickHouse's user_scripts_path, for the program and its files [default: that of the embedded
    /// engine]
    #[arg(long, value_name = "DIR")]
    pub(crate) scripts_dir: Option<PathBuf>,
    /// Folder where ClickHouse finds *_function.xml [default: that of the embedded engine]
    #[arg(long, value_name = "DIR")]
    pub(crate) config_dir: Option<PathBuf>,
    /// The program arx-udf [default: the one next to this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
    /// A scorecard as JSON instead of the database's active one
    #[arg(long, value_name = "FILE")]
    pub(crate) scorecard: Option<PathBuf>,
    /// Prevalence and bands of networks as JSON instead of the database's (arx.risk_calibration)
    #[arg(long, value_name = "FILE")]
    pub(crate) calibration: Option<PathBuf>,
    /// Thresholds of wallet types as JSON instead of the database's (arx.behaviour_thresholds,
    /// network '*')
    #[arg(long, value_name = "FILE")]
    pub(crate) thresholds: Option<PathBuf>,
    /// Use the compiled-in documents where no file is given; do not connect to the database
    #[arg(long)]
    pub(crate) compiled_in: bool,
    /// Only print what would be written
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Outcome for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileOutcome {
    Unchanged,
    Written,
    WouldBeWritten,
}

impl FileOutcome {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Written => "written",
            Self::WouldBeWritten => "would be written",
        }
    }
}

/// Result of an installation.
#[derive(Debug)]
pub(crate) struct Installed {
    /// Version of the scorecard.
    pub(crate) model: String,
    pub(crate) files: Vec<(PathBuf, FileOutcome)>,
    /// The description, for a dry run.
    pub(crate) description: Option<String>,
    pub(crate) serving: Serving,
}

impl Installed {
    /// Returns whether nothing failed. A ClickHouse that does not run is not a failure.
    pub(crate) const fn is_ok(&self) -> bool {
        !matches!(self.serving, Serving::Failed(_))
    }
}

/// Installs the functions, or reports what would be written.
///
/// # Errors
/// [`SidecarError::Configuration`] for a missing folder or program, [`SidecarError::Input`] for an
/// invalid scorecard, calibration or thresholds, [`SidecarError::Io`], and those of reading the
/// active risk model.
pub(crate) async fn install(options: &InstallOptions, settings: &Settings) -> Result<Installed, SidecarError> {
    let folders = Folders::find(options, settings)?;
    let program_path = program(options)?;
    let program = fs::read(&program_path).doing_to("read", &program_path)?;
    let Documents { scorecard, calibration, thresholds } = Documents::read(options, settings).await?;
    let models = Models::from_json(Some(&scorecard), Some(&calibration), Some(&thresholds));
    let models = models.map_err(|error| input(&error))?;
    let documents = [scorecard.as_bytes(), calibration.as_bytes(), thresholds.as_bytes()];
    let description = description(&revision(&[&[program.as_slice()], documents.as_slice()].concat()));

    let mut files = Vec::new();
    for (path, bytes, mode) in [
        (folders.scripts.join(PROGRAM), program.as_slice(), 0o755),
        (folders.scripts.join(SCORECARD), scorecard.as_bytes(), 0o644),
        (folders.scripts.join(CALIBRATION), calibration.as_bytes(), 0o644),
        (folders.scripts.join(THRESHOLDS), thresholds.as_bytes(), 0o644),
        (folders.config.join(DESCRIPTION), description.as_bytes(), 0o644),
    ] {
        let outcome = put(&path, bytes, mode, options.dry_run)?;
        files.push((path, outcome));
    }
    let model = models.scorecard.version().to_owned();
    if options.dry_run {
        return Ok(Installed { model, files, description: Some(description), serving: Serving::NotChecked });
    }
    let serving = check::check(settings, &models).await;
    Ok(Installed { model, files, description: None, serving })
}

/// The functions in ClickHouse, compared with the documents of the database whenever these or the
/// functions may have changed.
#[derive(Debug, Default)]
pub(crate) struct Comparer {
    /// The documents that were compared last, and the outcome.
    latest: Option<(Documents, Comparison)>,
}

impl Comparer {
    /// Compares again, unless the functions and the documents were the same, and the documents are
    /// the same still.
    ///
    /// # Errors
    /// Errors of reading the documents, and of asking ClickHouse.
    pub(crate) async fn compare(&mut self, settings: &Settings) -> Result<Comparison, SidecarError> {
        let documents = Documents::of_database(settings).await?;
        if let Some((latest, Comparison::Same)) = &self.latest
            && *latest == documents
        {
            return Ok(Comparison::Same);
        }
        let Documents { scorecard, calibration, thresholds } = &documents;
        let models = Models::from_json(Some(scorecard), Some(calibration), Some(thresholds));
        let outcome = check::compare(settings, &models.map_err(|error| input(&error))?).await?;
        self.latest = Some((documents, outcome));
        Ok(outcome)
    }
}

/// Returns a name that changes with the content of any part.
fn revision(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Folders for the files.
struct Folders {
    scripts: PathBuf,
    config: PathBuf,
}

impl Folders {
    /// Returns the given folders, or else those of the embedded engine if it is the chosen
    /// ClickHouse.
    fn find(options: &InstallOptions, settings: &Settings) -> Result<Self, SidecarError> {
        let embedded = match Choice::new(settings) {
            Choice::Embedded(folder) => Some(folder),
            Choice::Configured(_) => None,
        };
        let missing = |flag, hint| SidecarError::Configuration {
            detail: format!("{flag} is required with a configured ClickHouse: {hint}"),
        };
        let scripts = options.scripts_dir.clone().or_else(|| embedded.as_ref().map(EngineFolder::scripts));
        let config = options.config_dir.clone().or_else(|| embedded.as_ref().map(EngineFolder::functions));
        let scripts = scripts.ok_or_else(|| {
            missing("--scripts-dir", "its user_scripts_path, usually /var/lib/clickhouse/user_scripts")
        })?;
        let config = config.ok_or_else(|| {
            missing(
                "--config-dir",
                "the folder of its user_defined_executable_functions_config, usually /etc/clickhouse-server",
            )
        })?;
        for folder in [&options.scripts_dir, &options.config_dir].into_iter().flatten() {
            if !folder.is_dir() {
                let detail = format!("{} is not a directory", folder.display());
                return Err(SidecarError::Configuration { detail });
            }
        }
        if !options.dry_run {
            // The engine's own folders may not exist yet.
            for folder in [&scripts, &config] {
                atomic_file::create_private_folder(folder).doing_to("create folder", folder)?;
            }
        }
        Ok(Self { scripts, config })
    }
}

/// Returns the given `arx-udf`, or the one next to this program (or one folder up, where test
/// executables live).
fn program(options: &InstallOptions) -> Result<PathBuf, SidecarError> {
    if let Some(path) = &options.program {
        return Ok(path.clone());
    }
    let executable = std::env::current_exe().doing_to("find the running executable", "/proc/self/exe")?;
    let mut candidates = executable.ancestors().skip(1).take(2).map(|folder| folder.join(PROGRAM));
    candidates.find(|path| path.is_file()).ok_or_else(|| SidecarError::Configuration {
        detail: format!("the program {PROGRAM} is not next to {}; name it with --program", executable.display()),
    })
}

fn input(error: &UdfError) -> SidecarError {
    SidecarError::Input { detail: Chain(error).to_string() }
}

/// Replaces a file in one step, unless it has the content and the mode already.
fn put(path: &Path, bytes: &[u8], mode: u32, dry_run: bool) -> Result<FileOutcome, SidecarError> {
    let is_current = fs::read(path).is_ok_and(|content| content == bytes)
        && fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o777 == mode);
    if is_current {
        return Ok(FileOutcome::Unchanged);
    }
    if dry_run {
        return Ok(FileOutcome::WouldBeWritten);
    }
    atomic_file::replace(path, Some(mode), |file| file.write_all(bytes)).doing_to("write", path)?;
    Ok(FileOutcome::Written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Environment, Overrides};

    fn settings(url: Option<&str>, data: &Path) -> Settings {
        let flags =
            Overrides { clickhouse_url: url.map(Into::into), data_dir: Some(data.to_owned()), ..Overrides::default() };
        Settings::load(None, &Environment::default(), &flags).unwrap()
    }

    fn options(program: &Path) -> InstallOptions {
        InstallOptions { program: Some(program.to_owned()), compiled_in: true, ..InstallOptions::default() }
    }

    #[tokio::test]
    async fn files_are_written_only_when_something_has_changed() {
        let scratch = tempfile::tempdir().unwrap();
        let data = scratch.path().join("a & b");
        let (program, thresholds) = (scratch.path().join("program"), scratch.path().join("thresholds"));
        fs::write(&program, "one").unwrap();
        fs::write(&thresholds, r#"{"whale_mean_coins": 7}"#).unwrap();
        let settings = settings(None, &data);
        let mut options = options(&program);
        let run = async |options: &InstallOptions| {
            let installed = install(options, &settings).await.unwrap();
            assert!(installed.is_ok() && !options.dry_run || matches!(installed.serving, Serving::NotChecked));
            installed.files.iter().map(|(_, outcome)| *outcome).collect::<Vec<_>>()
        };
        use FileOutcome::{Unchanged, WouldBeWritten, Written};
        options.dry_run = true;
        assert_eq!(run(&options).await, [WouldBeWritten; 5]);
        assert!(!data.exists());
        options.dry_run = false;
        assert_eq!(run(&options).await, [Written; 5]);
        assert_eq!(run(&options).await, [Unchanged; 5]);
        fs::write(&program, "two").unwrap();
        let described = [Written, Unchanged, Unchanged, Unchanged, Written];
        assert_eq!(run(&options).await, described, "the description names the program");
        options.thresholds = Some(thresholds);
        assert_eq!(run(&options).await, [Unchanged, Unchanged, Unchanged, Written, Written]);
        options.thresholds = None;
        assert_eq!(run(&options).await, [Unchanged, Unchanged, Unchanged, Written, Written]);
        let calibration = scratch.path().join("calibration");
        fs::write(&calibration, r#"{"ethereum": {"prevalence": 0.02}}"#).unwrap();
        options.calibration = Some(calibration);
        assert_eq!(run(&options).await, [Unchanged, Unchanged, Written, Unchanged, Written]);
        let scripts = EngineFolder::new(data.join("clickhouse")).scripts();
        let names: Vec<_> = fs::read_dir(&scripts).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 4, "{names:?}");
        let mode = fs::metadata(scripts.join(PROGRAM)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[tokio::test]
    async fn a_configured_server_needs_folders_and_an_invalid_scorecard_is_rejected() {
        let scratch = tempfile::tempdir().unwrap();
        let program = scratch.path().join("program");
        fs::write(&program, "one").unwrap();
        let mut options = options(&program);
        let settings = settings(Some("http://127.0.0.1:9"), scratch.path());
        let error = install(&options, &settings).await.unwrap_err().to_string();
        assert!(error.contains("--scripts-dir"), "{error}");
        options.scripts_dir = Some(scratch.path().to_owned());
        let error = install(&options, &settings).await.unwrap_err().to_string();
        assert!(error.contains("--config-dir"), "{error}");
        options.config_dir = Some(scratch.path().join("nowhere"));
        let error = install(&options, &settings).await.unwrap_err().to_string();
        assert!(error.contains("nowhere is not a directory"), "{error}");
        options.config_dir = Some(scratch.path().to_owned());
        let installed = install(&options, &settings).await.unwrap();
        assert!(matches!(installed.serving, Serving::ClickHouseNotRunning), "{installed:?}");
        options.scorecard = Some(program);
        let error = install(&options, &settings).await.unwrap_err().to_string();
        assert!(error.contains("scorecard is not readable"), "{error}");
    }
}
