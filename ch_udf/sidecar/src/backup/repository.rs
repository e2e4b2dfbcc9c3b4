//! pgBackRest: the backups of a repository, restoring one, and how far its WAL reaches.

use std::path::Path;
use std::process::Stdio;

use serde::Deserialize;
use tokio::process::Command;

use super::{Request, failed, last_lines};
use crate::error::{Doing, DoingTo, SidecarError};

/// Status of a repository that cannot be read.
const UNREADABLE: i64 = 99;

/// A backup, and the WAL that is archived for it.
#[derive(Debug)]
pub(super) struct Backup {
    pub(super) label: String,
    pub(super) kind: String,
    pub(super) taken: i64,
    pub(super) bytes: u64,
    /// Version of PostgreSQL: `15`.
    pub(super) version: String,
    /// The newest archived segment of the same system.
    last_segment: Option<String>,
}

#[derive(Deserialize)]
struct Stanza {
    name: String,
    #[serde(default)]
    archive: Vec<Archive>,
    #[serde(default)]
    backup: Vec<Listed>,
    #[serde(default)]
    db: Vec<System>,
    #[serde(default)]
    repo: Vec<Repository>,
    status: Status,
}

#[derive(Deserialize)]
struct Repository {
    status: Status,
}

#[derive(Deserialize)]
struct Archive {
    database: SystemId,
    max: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    label: String,
    #[serde(rename = "type")]
    kind: String,
    database: SystemId,
    info: Info,
    timestamp: Timestamp,
    #[serde(default)]
    error: Option<bool>,
}

#[derive(Deserialize, PartialEq, Eq, Clone, Copy)]
struct SystemId {
    id: u64,
}

#[derive(Deserialize)]
struct Info {
    size: u64,
}

#[derive(Deserialize)]
struct Timestamp {
    stop: i64,
}

#[derive(Deserialize)]
struct System {
    id: u64,
    version: String,
}

#[derive(Deserialize)]
struct Status {
    code: i64,
    message: String,
}

impl Backup {
    /// Finds the backup of a request.
    ///
    /// # Errors
    /// [`SidecarError::Input`] for a repository that cannot be read, or has no such backup.
    pub(super) async fn find(request: &Request) -> Result<Self, SidecarError> {
        let output = run(request, &["--output=json".to_owned(), "info".to_owned()]).await?;
        Self::read(&output, request)
    }

    fn read(text: &str, request: &Request) -> Result<Self, SidecarError> {
        // pgBackRest writes its messages as they are, line breaks included.
        let text = text.replace(|c: char| c.is_control(), " ");
        let stanzas: Vec<Stanza> = serde_json::from_str(&text).doing("read the list of backups")?;
        let name = &request.stanza;
        let stanza = stanzas.into_iter().find(|stanza| stanza.name == *name);
        let stanza = stanza.ok_or_else(|| failed(format!("the repository has no stanza \"{name}\"")))?;
        if stanza.status.code != 0 {
            // The repositories say more; what follows the first line may be undecipherable bytes.
            let repository = stanza.repo.iter().find(|repository| repository.status.code != 0);
            let status = repository.map_or(&stanza.status, |repository| &repository.status);
            let message = status.message.lines().next().unwrap_or_default();
            let advice =
                if status.code == UNREADABLE { "; check the passphrase and the path of the repository" } else { "" };
            return Err(failed(format!("stanza \"{name}\" has no backup that can be restored: {message}{advice}")));
        }
        let found = match &request.label {
            Some(label) => stanza.backup.into_iter().find(|backup| backup.label == *label),
            None => stanza.backup.into_iter().next_back(),
        };
        let Some(backup) = found else {
            let label = request.label.as_deref().unwrap_or("at all");
            return Err(failed(format!("stanza \"{name}\" has no backup {label}")));
        };
        if backup.error == Some(true) {
            let label = backup.label;
            return Err(failed(format!(
                "backup {label} has pages whose checksums are wrong; see pgbackrest info --set={label}"
            )));
        }
        let system = backup.database.id;
        let version = stanza.db.into_iter().find(|listed| listed.id == system).map(|listed| listed.version);
        let archive = stanza.archive.into_iter().filter(|archive| archive.database.id == system);
        Ok(Self {
            label: backup.label,
            kind: backup.kind,
            taken: backup.timestamp.stop,
            bytes: backup.info.size,
            version: version.ok_or_else(|| failed("the repository does not state the version of PostgreSQL"))?,
            last_segment: archive.filter_map(|archive| archive.max).max(),
        })
    }

    /// Checks that recovery has replayed the newest archived segment, and returns it. Recovery
    /// itself takes a missing segment for the end of the archive.
    ///
    /// # Errors
    /// [`SidecarError::Input`] for a gap, [`SidecarError::Io`].
    pub(super) fn check_replay(&self, data: &Path) -> Result<Option<String>, SidecarError> {
        let folder = data.join("pg_wal");
        let mut histories = Vec::new();
        for entry in std::fs::read_dir(&folder).doing_to("read", &folder)? {
            let path = entry.doing_to("read", &folder)?.path();
            if path.extension().is_some_and(|extension| extension == "history") {
                histories.push(path);
            }
        }
        let Some(newest) = histories.iter().max() else {
            return Err(failed("the restored server has not ended its recovery"));
        };
        let history = std::fs::read_to_string(newest).doing_to("read", newest)?;
        let Some((timeline, end)) = last_switch(&history) else {
            return Err(failed(format!("{} states no end of recovery", newest.display())));
        };
        let size = segment_size(&folder)?;
        match &self.last_segment {
            Some(segment) => match first_byte(segment, size) {
                Some((of, first)) if of == timeline && end < first => {
                    let at = segment_name(timeline, end, size);
                    Err(failed(format!(
                        "the archive has a gap: recovery ended in WAL segment {at}, and {segment} is archived; take a new \
                         backup, and look for what removed the segment"
                    )))
                }
                _ => Ok(Some(segment.clone())),
            },
            None => Ok(None),
        }
    }
}

/// Restores a backup into an empty folder.
///
/// # Errors
/// [`SidecarError::Input`] with the message of pgBackRest.
pub(super) async fn restore(request: &Request, backup: &Backup, data: &Path) -> Result<(), SidecarError> {
    let options = [
        format!("--pg1-path={}", data.display()),
        format!("--set={}", backup.label),
        // To the end of the archive.
        "--type=default".to_owned(),
        "--archive-mode=off".to_owned(),
        // Tablespaces would go to the places that the running server uses.
        format!("--tablespace-map-all={}", data.with_file_name("tablespaces").display()),
        "restore".to_owned(),
    ];
    run(request, &options).await.map(|_| ())
}

/// Runs pgBackRest and returns its output.
async fn run(request: &Request, options: &[String]) -> Result<String, SidecarError> {
    let mut command = Command::new(&request.pgbackrest);
    if let Some(config) = &request.config {
        command.arg(format!("--config={}", config.display()));
    }
    command.arg(format!("--stanza={}", request.stanza)).arg("--log-level-console=error").args(options);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.doing_to("run", &request.pgbackrest)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let messages = format!("{}\n{text}", String::from_utf8_lossy(&output.stderr));
    let step = options.last().map_or("", String::as_str);
    Err(failed(format!("pgbackrest {step} failed: {}", last_lines(&messages))))
}

/// Returns the last timeline of a history file, and the position at which it ended.
fn last_switch(history: &str) -> Option<(u32, u64)> {
    let line = history.lines().rev().find(|line| line.starts_with(|first: char| first.is_ascii_digit()))?;
    let mut parts = line.split_whitespace();
    let timeline = parts.next()?.parse().ok()?;
    let (high, low) = parts.next()?.split_once('/')?;
    let (high, low) = (u64::from_str_radix(high, 16).ok()?, u64::from_str_radix(low, 16).ok()?);
    Some((timeline, (high << 32) + low))
}

/// Returns the timeline and the first position of a segment of WAL.
fn first_byte(segment: &str, size: u64) -> Option<(u32, u64)> {
    let part = |range: std::ops::Range<usize>| u64::from_str_radix(segment.get(range)?, 16).ok();
    let (timeline, log, number) = (part(0..8)?, part(8..16)?, part(16..24)?);
    Some((u32::try_from(timeline).ok()?, (log << 32).checked_add(number.checked_mul(size)?)?))
}

fn segment_name(timeline: u32, position: u64, size: u64) -> String {
    format!("{timeline:08X}{:08X}{:08X}", position >> 32, (position & 0xffff_ffff) / size.max(1))
}

/// Returns the size of the segments in a folder: that of any of them.
fn segment_size(folder: &Path) -> Result<u64, SidecarError> {
    for entry in std::fs::read_dir(folder).doing_to("read", folder)? {
        let entry = entry.doing_to("read", folder)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(entry.metadata().doing_to("read", entry.path())?.len());
        }
    }
    Err(failed(format!("{} has no segment of WAL", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = r#"[{"archive":[{"database":{"id":1,"repo-key":1},"id":"15-1","max":"000000010000000000000007",
        "min":"000000010000000000000002"}],"backup":[
        {"label":"20240101-000000F","type":"full","database":{"id":1,"repo-key":1},"info":{"size":5},
         "timestamp":{"start":1,"stop":2},"error":false},
        {"label":"20240101-000000F_20240102-000000D","type":"diff","database":{"id":1,"repo-key":1},"info":{"size":6},
         "timestamp":{"start":3,"stop":4}}],
        "cipher":"none","db":[{"id":1,"repo-key":1,"system-id":7,"version":"15"}],"name":"arx",
        "status":{"code":0,"message":"ok"}}]"#;

    fn request(stanza: &str, label: Option<&str>) -> Request {
        Request {
            pgbackrest: "pgbackrest".into(),
            config: None,
            stanza: stanza.into(),
            label: label.map(str::to_owned),
            programs: None,
            folder: "/tmp".into(),
            user: "postgres".into(),
            patience: std::time::Duration::from_secs(1),
        }
    }

    #[test]
    fn the_latest_backup_is_found_or_that_of_a_label() {
        let latest = Backup::read(INFO, &request("arx", None)).unwrap();
        assert_eq!((latest.kind.as_str(), latest.bytes, latest.version.as_str()), ("diff", 6, "15"));
        assert_eq!(latest.last_segment.as_deref(), Some("000000010000000000000007"));
        assert_eq!(Backup::read(INFO, &request("arx", Some("20240101-000000F"))).unwrap().bytes, 5);
        let key = INFO.replace("\"code\":0,\"message\":\"ok\"", "\"code\":99,\"message\":\"other\"");
        let key =
            key.replace("\"db\":", "\"repo\":[{\"status\":{\"code\":99,\"message\":\"cipher\\nq\u{1}\"}}],\"db\":");
        assert!(
            Backup::read(&key, &request("arx", None))
                .unwrap_err()
                .to_string()
                .contains("restored: cipher; check the passphrase")
        );
        for (stanza, label, message) in [("other", None, "no stanza \"other\""), ("arx", Some("x"), "no backup x")] {
            let error = Backup::read(INFO, &request(stanza, label)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let broken = INFO.replace("\"error\":false", "\"error\":true");
        assert!(Backup::read(&broken, &request("arx", Some("20240101-000000F"))).is_err());
        let empty = INFO.replace("\"code\":0,\"message\":\"ok\"", "\"code\":2,\"message\":\"no valid backups\"");
        assert!(Backup::read(&empty, &request("arx", None)).unwrap_err().to_string().contains("no valid backups"));
    }

    #[test]
    fn positions_of_wal_are_compared_by_segments() {
        const SIZE: u64 = 16 << 20;
        assert_eq!(last_switch("1\t0/5000000\tno recovery target specified\n"), Some((1, 0x0500_0000)));
        assert_eq!(last_switch("1\t0/3\tx\n2\t1/A\tx\n\n"), Some((2, 0x1_0000_000A)));
        assert_eq!(last_switch(""), None);
        assert_eq!(first_byte("000000010000000000000007", SIZE), Some((1, 7 * SIZE)));
        assert_eq!(first_byte("00000002000000010000000A", SIZE), Some((2, (1 << 32) + 10 * SIZE)));
        assert_eq!(first_byte("x", SIZE), None);
        assert_eq!(segment_name(2, (1 << 32) + 10 * SIZE + 5, SIZE), "00000002000000010000000A");
    }
}
