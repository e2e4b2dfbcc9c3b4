//! The entry point of the runtime image: the server that it creates, and the sidecar's role in it.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use arx_stack::account::Account;
use arx_stack::process::{run, wait_until};
use arx_stack::{Stack, programs};

#[test]
fn the_sidecar_connects_with_its_password_and_the_superuser_cannot() {
    let stack = Stack::shared().unwrap();
    let account = Account::current().unwrap();
    let folder = stack.folder().join("image");
    account.create_folder(&folder).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let password = scratch.path().join("password");
    std::fs::write(&password, "se cr'et\n").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // The account of the server cannot enter the current checkout of every developer.
    let script = std::fs::read_to_string(programs::workspace().join("scripts/docker-entrypoint")).unwrap();
    let mut command = account.command("bash");
    command
        .args(["-c", &script, "docker-entrypoint", "postgres", "-c", "listen_addresses=127.0.0.1", "-c"])
        .arg(format!("port={port}"))
        .arg("-c")
        .arg(format!("unix_socket_directories={}", folder.display()))
        .env("PATH", format!("{}:/usr/bin:/bin", stack.cluster().programs().display()))
        .env("ARX_DATABASE_DIR", folder.join("data"))
        .env("ARX_SIDECAR_PASSWORD", "se cr'et");
    let pid = stack.start_server("image", &command).unwrap();
    let query = |user: &str, sql: &str| {
        let mut psql: Command = stack.cluster().program("psql");
        psql.args([
            "-X",
            "-q",
            "-At",
            "-w",
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            user,
            "-d",
            "arx",
            "-c",
            sql,
        ]);
        run(psql.env("PGPASSWORD", "se cr'et"))
    };
    let answers = || {
        assert_eq!(stack.ended(pid), None, "the entry point ended; see image.log");
        Ok(query("arx_sidecar", "SELECT 1").is_ok())
    };
    let log = || std::fs::read_to_string(stack.folder().join("image.log")).unwrap_or_default();
    assert!(wait_until(Duration::from_secs(60), answers).unwrap(), "{}", log());
    let facts =
        "SELECT rolsuper, (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'arx.transactions'::regclass)
                   FROM pg_roles WHERE rolname = current_user";
    assert_eq!(query("arx_sidecar", facts).unwrap().trim(), "f|arx_sidecar");
    let refused = query("postgres", "SELECT 1").unwrap_err().to_string();
    assert!(refused.contains("pg_hba.conf rejects"), "{refused}");
    assert!(!log().contains("se cr'et"), "{}", log());
    let database = stack.bare_database("image").unwrap();
    let mut sidecar = database.sidecar().unwrap();
    sidecar
        .env("ARX_POSTGRES_URL", format!("host=127.0.0.1 port={port} user=arx_sidecar dbname=arx"))
        .env("ARX_POSTGRES_PASSWORD_FILE", &password)
        .arg("sync")
        .stdin(Stdio::null());
    run(&mut sidecar).unwrap();
}
