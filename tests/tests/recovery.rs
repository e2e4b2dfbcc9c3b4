//! After a recovery to a point in time, the graph answers from the rows of that point, whatever
//! graph files exist.

use std::time::Duration;

use arx_stack::account::Account;
use arx_stack::process::{run, wait_until};
use arx_stack::{Stack, StackOptions};
use arx_tests::fixtures::{TESTNET, insert};
use arx_tests::replica::Replica;

const REACH: &str = "SELECT sum(wallets), sum(total_value) FROM arx.wallet_reach('a', 'testnet', 9)";

#[test]
fn a_graph_file_from_after_the_point_of_recovery_is_not_used() {
    let account = Account::current().unwrap();
    let archive = tempfile::tempdir_in(account.temporary_root().unwrap()).unwrap();
    account.create_folder(&archive.path().join("wal")).unwrap();
    std::fs::set_permissions(archive.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let wal = archive.path().join("wal");
    let settings = vec!["archive_mode = on".to_owned(), format!("archive_command = 'cp %p {}/%f'", wal.display())];
    let stack = Stack::start(&StackOptions { durable: true, settings }).unwrap();
    let database = stack.database("recovery").unwrap();
    database.query(&format!("{TESTNET} {}", insert("t1", "a", "b", 1.0))).unwrap();
    let restored = Replica::copy(&stack, "restored", &database, &[]).unwrap();

    database.query(&insert("t2", "b", "c", 1.0)).unwrap();
    database.query("SELECT pg_create_restore_point('here')").unwrap();
    database.query(&insert("t3", "c", "d", 1.0)).unwrap();
    assert_eq!(database.query("SELECT outcome, transfers FROM arx.refresh_graph()").unwrap(), "built|3");
    let last = database.query("SELECT pg_walfile_name(pg_switch_wal())").unwrap();
    let archived = wait_until(Duration::from_secs(60), || Ok(wal.join(&last).exists())).unwrap();
    assert!(archived, "{last} was not archived");

    // The worst case: a graph file with undone rows, of the same cluster and database.
    let folder = stack.folder().join("pg/data/pgsql_tmp_arx");
    run(account.command("cp").arg("-a").arg(&folder).arg(restored.data().join("pgsql_tmp_arx"))).unwrap();
    run(account.command("touch").arg(restored.data().join("recovery.signal"))).unwrap();
    let settings = [
        format!("restore_command=cp {}/%f %p", wal.display()),
        "recovery_target_name=here".to_owned(),
        "recovery_target_action=promote".to_owned(),
        "archive_mode=off".to_owned(),
    ];
    let pid = restored.start(&settings).unwrap();
    let promoted = wait_until(Duration::from_secs(60), || {
        assert!(stack.ended(pid).is_none(), "the restored server ended");
        Ok(restored.query("SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == "f"))
    });
    assert!(promoted.unwrap(), "the restored server was not promoted");

    assert_eq!(restored.query(REACH).unwrap(), "3|2.000000000000000000");
    // The restored server assigns the transaction ids of the lost rows again.
    restored.query(&insert("t4", "c", "e", 1.0)).unwrap();
    restored.query(&insert("t5", "e", "f", 1.0)).unwrap();
    assert_eq!(restored.query(REACH).unwrap(), "5|4.000000000000000000");
    assert_eq!(restored.query("SELECT outcome, merged_rows FROM arx.refresh_graph()").unwrap(), "merged|2");
    assert_eq!(restored.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
    assert_eq!(database.query(REACH).unwrap(), "4|3.000000000000000000");
}
