//! A server brought back to an earlier point in time answers from what it holds then, whatever graph files lie about.

// helpers of tests fail as tests do
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use arx_stack::account::Account;
use arx_stack::process::{run, wait_until};
use arx_stack::{Stack, StackOptions};

const REACH: &str = "SELECT sum(wallets), sum(total_value) FROM arx.wallet_reach('a', 'testnet', 9)";

fn insert(hash: &str, from: &str, to: &str) -> String {
    format!(
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
         VALUES ('testnet', '{hash}', 3, '2024-01-03', '{from}', '{to}', 1)"
    )
}

#[test]
fn a_graph_from_after_the_point_of_recovery_is_not_used() {
    let account = Account::current().unwrap();
    let archive = tempfile::tempdir_in(account.temporary_root().unwrap()).unwrap();
    account.create_folder(&archive.path().join("wal")).unwrap();
    std::fs::set_permissions(archive.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let wal = archive.path().join("wal");
    let settings = vec!["archive_mode = on".to_owned(), format!("archive_command = 'cp %p {}/%f'", wal.display())];
    let stack = Stack::start(&StackOptions { durable: true, settings }).unwrap();
    let database = stack.database("recovery").unwrap();
    database.query("INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST')").unwrap();
    database.query(&insert("t1", "a", "b")).unwrap();

    let (data, socket) = (stack.folder().join("restored"), stack.folder().join("restored-run"));
    account.create_folder(&data).unwrap();
    account.create_folder(&socket).unwrap();
    let program = |name: &str| account.command(stack.cluster().program(name).get_program());
    let mut copy = program("pg_basebackup");
    copy.arg("-h").arg(stack.cluster().host()).args(["-U", "postgres", "-c", "fast", "-D"]).arg(&data);
    run(&mut copy).unwrap();

    database.query(&insert("t2", "b", "c")).unwrap();
    database.query("SELECT pg_create_restore_point('here')").unwrap();
    database.query(&insert("t3", "c", "d")).unwrap();
    assert_eq!(database.query("SELECT outcome, transfers FROM arx.refresh_graph()").unwrap(), "built|3");
    let last = database.query("SELECT pg_walfile_name(pg_switch_wal())").unwrap();
    let archived = wait_until(Duration::from_secs(60), || Ok(wal.join(&last).exists())).unwrap();
    assert!(archived, "{last} was not archived");

    // the worst that can lie there: a file that holds what was undone, of the same cluster and database
    let folder = stack.folder().join("pg/data/pgsql_tmp_arx");
    run(account.command("cp").arg("-a").arg(&folder).arg(data.join("pgsql_tmp_arx"))).unwrap();
    run(account.command("touch").arg(data.join("recovery.signal"))).unwrap();
    let mut server = program("postgres");
    server.arg("-D").arg(&data);
    for setting in [
        format!("unix_socket_directories={}", socket.display()),
        format!("restore_command=cp {}/%f %p", wal.display()),
        "recovery_target_name=here".to_owned(),
        "recovery_target_action=promote".to_owned(),
        "archive_mode=off".to_owned(),
    ] {
        server.args(["-c", &setting]);
    }
    let pid = stack.start_server("restored", &server).unwrap();
    let ask = |sql: &str| {
        let mut psql = stack.cluster().program("psql");
        psql.env("PGHOST", &socket).env("PGDATABASE", database.name());
        run(psql.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])).map(|text| text.trim_end().to_owned())
    };
    let promoted = wait_until(Duration::from_secs(60), || {
        assert!(stack.ended(pid).is_none(), "the restored server ended");
        Ok(ask("SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == "f"))
    });
    assert!(promoted.unwrap(), "the restored server was not promoted");

    assert_eq!(ask(REACH).unwrap(), "3|2.000000000000000000");
    // transaction ids that the lost rows had are given out again
    ask(&insert("t4", "c", "e")).unwrap();
    ask(&insert("t5", "e", "f")).unwrap();
    assert_eq!(ask(REACH).unwrap(), "5|4.000000000000000000");
    assert_eq!(ask("SELECT outcome, merged_rows FROM arx.refresh_graph()").unwrap(), "merged|2");
    assert_eq!(ask("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
    assert_eq!(database.query(REACH).unwrap(), "4|3.000000000000000000");
}
