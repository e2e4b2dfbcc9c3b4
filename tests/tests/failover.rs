//! Servers that move: a standby that becomes the primary, and a Redis whose sentinels choose
//! another one. The sidecar follows, and nothing is lost.

use std::process::Command;

use arx_stack::ports::free_ports;
use arx_stack::process::{run, wait_until};
use arx_stack::{Stack, StackOptions};
use arx_tests::daemon::{Daemon, LIMIT, sidecar};
use arx_tests::redis::wallet;
use arx_tests::replica::Replica;

/// Four transactions between three wallets, by number.
fn rows(first: usize) -> String {
    format!(
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
         SELECT 'ethereum', '0x' || n, n, timestamptz '2024-01-01' + n * interval '1 hour',
                '0x' || lpad((n % 3)::text, 40, '0'), '0x' || lpad(((n + 1) % 3)::text, 40, '0'), 1, 'confirmed'
           FROM generate_series({first}, {}) AS n",
        first + 3
    )
}

const FED: &str = "SELECT coalesce(sum(transaction_count), 0) FROM arx.hourly_volume";

#[test]
fn a_primary_that_moves_is_followed_without_loss() {
    let stack = Stack::start(&StackOptions::default()).unwrap();
    let primary = stack.database("moving").unwrap();
    primary.query(&rows(1)).unwrap();
    let standby = Replica::copy(&stack, "standby", &primary, &["-R", "--no-sync"]).unwrap();
    let pid = standby.start(&[]).unwrap();
    let ready = wait_until(LIMIT, || {
        assert!(stack.ended(pid).is_none(), "the standby ended");
        Ok(standby.query("SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == "t"))
    });
    assert!(ready.unwrap(), "the standby did not answer");
    let (here, there) = (stack.cluster().host().display().to_string(), standby.socket().display().to_string());
    let url = |hosts: &[&str], rest: &str| format!("host={} user=postgres dbname=moving {rest}", hosts.join(","));
    let written = url(&[&there, &here], "");

    // Which host is chosen.
    for (hosts, rest, command, works, expected) in [
        (&[&*there, &here][..], "", "sync", true, "4 rows"),
        (&["/nowhere", &here][..], "", "sync", true, ""),
        (&[&*here, &there][..], "target_session_attrs=primary", "sync", true, ""),
        (&[&*there, &here][..], "load_balance_hosts=random", "sync", true, ""),
        (&[&*here, &there][..], "target_session_attrs=standby", "sync", false, "read-only transaction"),
        (&[&*here, &there][..], "target_session_attrs=prefer-standby", "sync", false, "read-only transaction"),
        (&[&*there][..], "", "sync", false, "read-only transaction"),
        (
            &[&there],
            "target_session_attrs=read-write",
            "sync",
            false,
            "is a standby; target_session_attrs is read-write",
        ),
        (&[&*here][..], "target_session_attrs=standby", "sync", false, "is a primary that takes writes"),
        (&["/nowhere", &there][..], "", "sync", false, "none of the hosts"),
        (&[&*here][..], "target_session_attrs=x", "status", false, "prefer-standby"),
    ] {
        let url = url(hosts, rest);
        let (output, text) = sidecar(&primary, &[("ARX_POSTGRES_URL", &url)], &[command]);
        assert!(output.status.success() == works && text.contains(expected), "{url}: {text}");
    }

    let read = url(&[&*here, &there][..], "target_session_attrs=prefer-standby");
    let variables = [("ARX_POSTGRES_URL", &*written), ("ARX_POSTGRES_READ_URL", &*read)];
    let daemon = Daemon::start(&primary, &variables, stack.folder());
    primary.query(&rows(5)).unwrap();
    assert!(wait_until(LIMIT, || Ok(primary.query(FED)? == "8")).unwrap(), "{}", daemon.log());
    // The last rows are on the standby, but not fed yet, when the primary ends.
    daemon.signal("STOP");
    primary.query(&rows(9)).unwrap();
    let count = "SELECT count(*) FROM arx.transactions";
    assert!(wait_until(LIMIT, || Ok(standby.query(count)? == "12")).unwrap());
    let cluster = stack.cluster();
    let mut stop = cluster.account().command(cluster.program("pg_ctl").get_program());
    run(stop.args(["stop", "-m", "immediate", "-D"]).arg(cluster.data())).unwrap();
    daemon.signal("CONT");
    daemon.wait_for_log("the feed failed");
    assert_eq!(standby.query("SELECT pg_promote()").unwrap(), "t");
    standby.query(&rows(13)).unwrap();
    assert!(wait_until(LIMIT, || Ok(standby.query(FED)? == "16")).unwrap(), "{}", daemon.log());
    drop(daemon);
    let (output, text) = sidecar(&primary, &variables, &["verify"]);
    assert!(output.status.success() && text.contains("both sides are the same"), "{text}");
}

/// Starts Redis with these arguments on a port, and waits until it answers.
fn start_redis(stack: &Stack, name: &str, port: u16, arguments: &[&str]) -> u32 {
    let folder = stack.folder().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new("redis-server");
    // Sentinels rewrite their configuration.
    let configuration = folder.join("redis.conf");
    std::fs::write(&configuration, arguments.join("\n")).unwrap();
    command.arg(&configuration).args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(&folder);
    if name.starts_with("sentinel") {
        command.arg("--sentinel");
    }
    let pid = stack.start_server(name, &command).unwrap();
    let ready = || Ok(redis(port, &["PING"]).is_ok_and(|answer| answer.contains("PONG")));
    assert!(wait_until(LIMIT, ready).unwrap(), "{name} does not answer; see {name}.log");
    pid
}

fn redis(port: u16, arguments: &[&str]) -> anyhow::Result<String> {
    run(Command::new("redis-cli").args(["-p", &port.to_string()]).args(arguments))
}

#[test]
fn a_redis_that_moves_is_found_by_its_sentinels() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("sentinels").unwrap();
    let [first, second, sentinel] = free_ports().unwrap();
    let first_pid = start_redis(stack, "redis-first", first, &["save \"\""]);
    start_redis(stack, "redis-second", second, &["save \"\"", &format!("replicaof 127.0.0.1 {first}")]);
    let replicated = || Ok(redis(second, &["INFO", "replication"])?.contains("master_link_status:up"));
    assert!(wait_until(LIMIT, replicated).unwrap());
    start_redis(
        stack,
        "sentinel",
        sentinel,
        &[
            &format!("sentinel monitor main 127.0.0.1 {first} 1"),
            "sentinel down-after-milliseconds main 500",
            "sentinel failover-timeout main 3000",
        ],
    );
    let known = || Ok(redis(sentinel, &["SENTINEL", "REPLICAS", "main"])?.contains(&second.to_string()));
    assert!(wait_until(LIMIT, known).unwrap(), "the sentinel does not know the replica");
    let url = format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel}/main");
    let variables = [("ARX_REDIS_URL", &*url)];
    let annotate = |wallet: &str| sidecar(&database, &variables, &["annotate", wallet, "{\"note\": \"here\"}"]);
    let arrived = |wallet: &str| {
        let noted = format!(
            "SELECT count(*) FROM arx.wallet_profiles WHERE wallet_address = '{wallet}' AND analytics_profile ->> 'note' = 'here'"
        );
        wait_until(LIMIT, || Ok(database.query(&noted)? == "1")).unwrap()
    };
    let daemon = Daemon::start(&database, &variables, stack.folder());
    let (output, text) = annotate(&wallet(1));
    assert!(output.status.success(), "{text}");
    assert!(arrived(&wallet(1)), "{}", daemon.log());
    let (_, status) = sidecar(&database, &variables, &["status"]);
    assert!(status.contains(&format!("at {url}")), "{status}");
    // The server ends; the sentinel promotes the other one.
    run(Command::new("kill").args(["-KILL", &first_pid.to_string()])).unwrap();
    let moved = || Ok(redis(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"])?.contains(&second.to_string()));
    assert!(wait_until(LIMIT, moved).unwrap(), "the sentinel promoted nothing");
    let accepted = || Ok(annotate(&wallet(2)).0.status.success());
    assert!(wait_until(LIMIT, accepted).unwrap(), "{}", annotate(&wallet(2)).1);
    assert!(arrived(&wallet(2)), "{}", daemon.log());
    // Errors name the sentinels.
    let unknown = format!("redis+sentinel://127.0.0.1:{sentinel}/other");
    let (_, text) = sidecar(&database, &[("ARX_REDIS_URL", &unknown)], &["status"]);
    assert!(text.contains("Redis") && !text.contains("annotations queued"), "{text}");
    let (_, text) = sidecar(&database, &[("ARX_REDIS_URL", "redis+sentinel://127.0.0.1:1/main")], &["status"]);
    assert!(text.contains("DOWN") && text.contains("redis+sentinel://127.0.0.1:1/main"), "{text}");
}
