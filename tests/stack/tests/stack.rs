//! A stack starts, separates databases, and never outlives its process.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use arx_stack::process::{run, wait_until};
use arx_stack::{Stack, StackOptions};

/// Returns the command lines that name the folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_string_lossy();
    let mut lines = Vec::new();
    for entry in Path::new("/proc").read_dir().into_iter().flatten().flatten() {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&*folder) {
            lines.push(line);
        }
    }
    lines
}

#[test]
fn databases_are_fresh_and_separate() {
    let stack = Stack::start(&StackOptions::default()).unwrap();
    let first = stack.bare_database("first").unwrap();
    first.query("CREATE TABLE here (id int)").unwrap();
    let second = stack.bare_database("second").unwrap();
    assert!(second.query("SELECT * FROM here").unwrap_err().to_string().contains("does not exist"));
    let again = stack.bare_database("first").unwrap();
    assert_eq!(again.query("SELECT count(*) FROM pg_class WHERE relname = 'here'").unwrap(), "0");
    assert_ne!(first.redis_url(), second.redis_url());
}

#[test]
fn a_dropped_stack_leaves_neither_processes_nor_files() {
    let stack = Stack::start(&StackOptions::default()).unwrap();
    let folder = stack.folder().to_owned();
    assert!(processes_of(&folder).len() >= 3, "guard, PostgreSQL and Redis");
    drop(stack);
    assert_eq!(processes_of(&folder), Vec::<String>::new());
    assert!(!folder.exists());
}

#[test]
fn settings_reach_the_server() {
    let settings = vec!["work_mem = '7MB'".to_owned()];
    let stack = Stack::start(&StackOptions { settings, durable: true }).unwrap();
    let database = stack.bare_database("settings").unwrap();
    assert_eq!(database.query("SHOW work_mem").unwrap(), "7MB");
    assert_eq!(database.query("SHOW fsync").unwrap(), "on");
}

#[test]
fn servers_end_when_their_owner_is_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let report = scratch.path().join("folder");
    let script = format!("echo $ARX_DATA_DIR >{0}.new && mv {0}.new {0} && sleep 600", report.display());
    let mut owner = Command::new(env!("CARGO_BIN_EXE_arx-stack"))
        .args(["with", "--bare", "--", "sh", "-c", &script])
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    assert!(wait_until(Duration::from_secs(60), || Ok(report.exists())).unwrap(), "the owner started no stack");
    let data = std::fs::read_to_string(&report).unwrap();
    let folder = Path::new(data.trim()).parent().unwrap();
    assert!(processes_of(folder).len() >= 3, "guard, PostgreSQL and Redis");
    // Kill the whole process group at once, which is the hardest way for a test runner to end.
    run(Command::new("kill").args(["-s", "KILL", "--", &format!("-{}", owner.id())])).unwrap();
    owner.wait().unwrap();
    let gone = || Ok(processes_of(folder).is_empty() && !folder.exists());
    assert!(wait_until(Duration::from_secs(30), gone).unwrap(), "left behind: {:?}", processes_of(folder));
}

#[test]
fn detached_servers_come_up_once_and_go_down_with_their_data_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("a folder whose name is long enough that sockets in it would not fit any more");
    let stack = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_arx-stack"));
        run(command.arg(arguments[0]).arg("--dir").arg(&folder).args(&arguments[1..]))
    };
    let first = stack(&["up", "--bare"]).unwrap();
    assert_eq!(stack(&["up", "--bare"]).unwrap(), first);
    assert_eq!(std::fs::read_to_string(folder.join("env")).unwrap(), first);
    stack(&["status"]).unwrap();
    let sql = |sql: &str| {
        let script = format!(". '{}/env' && psql -X -A -t -c \"{sql}\"", folder.display());
        run(Command::new("sh").args(["-c", &script])).unwrap()
    };
    sql("CREATE TABLE kept AS SELECT 1 AS one");
    stack(&["down"]).unwrap();
    assert!(stack(&["status"]).unwrap_err().to_string().contains("does not answer"));
    stack(&["up", "--bare"]).unwrap();
    assert_eq!(sql("SELECT one FROM kept").trim(), "1");
    stack(&["down", "--remove"]).unwrap();
    assert!(!folder.exists());
    stack(&["down"]).unwrap();
}
