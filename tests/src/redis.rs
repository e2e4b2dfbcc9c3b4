//! Helpers of the tests of the cache: servers of Redis, and wallets. A helper that fails ends the
//! test.

use std::process::Command;

use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack};

use crate::daemon::{LIMIT, sidecar};

pub fn wallet(number: u32) -> String {
    format!("0x{number:040x}")
}

/// Starts Redis on a free port, and waits until it answers. Returns its URL, port and process.
pub fn start_redis(stack: &Stack, name: &str, port: u16, options: &[&str]) -> (String, u32) {
    let folder = stack.folder().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]).arg("--dir").arg(&folder);
    let pid = stack.start_server(name, command.args(options)).unwrap();
    assert!(wait_until(LIMIT, || Ok(redis(port, &["PING"]).contains("PONG"))).unwrap(), "{name} does not answer");
    (format!("redis://127.0.0.1:{port}"), pid)
}

pub fn redis(port: u16, arguments: &[&str]) -> String {
    run(Command::new("redis-cli").args(["-p", &port.to_string()]).args(arguments)).unwrap_or_default()
}

/// Runs a command in the Redis of a database.
pub fn redis_of(database: &Database<'_>, arguments: &[&str]) -> String {
    let url = database.redis_url();
    let (socket, number) = url.strip_prefix("redis+unix://").unwrap().split_once("?db=").unwrap();
    run(Command::new("redis-cli").args(["-s", socket, "-n", number]).args(arguments)).unwrap()
}

/// Returns the identity of a database in the names of keys.
pub fn identity(database: &Database<'_>) -> String {
    let identity = "SELECT to_hex((SELECT system_identifier FROM pg_control_system()))
            || '.' || (SELECT timeline_id FROM pg_control_checkpoint()) || '.' || oid
        FROM pg_database WHERE datname = current_database()";
    database.query(identity).unwrap()
}

/// Fills a database with transactions in a ring of wallets.
pub fn fill(database: &Database<'_>, wallets: u32) {
    database
        .query(&format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
             SELECT 'ethereum', 't' || n, n, timestamptz '2024-01-01' + n * interval '1 minute',
                    '0x' || lpad(to_hex(1 + n % {wallets}), 40, '0'), '0x' || lpad(to_hex(1 + (n + 1) % {wallets}), 40, '0'),
                    n % 7 + 1, 'confirmed' FROM generate_series(1, {wallets} * 3) AS n;
             SELECT arx.refresh_wallet_profiles()"
        ))
        .unwrap();
    database.query("CALL arx.refresh_risk_scores()").unwrap();
}

/// Waits until the cache gives a profile that contains texts.
pub fn wait_for(database: &Database<'_>, variables: &[(&str, &str)], wallet: &str, texts: &[&str]) {
    let mut last = String::new();
    let shown = || {
        last = sidecar(database, variables, &["profile", wallet, "--json"]).1;
        Ok(last.contains("\"source\":\"cache\"") && texts.iter().all(|text| last.contains(text)))
    };
    assert!(wait_until(LIMIT, shown).unwrap(), "{texts:?}: {last}");
}
