//! Time series in InfluxDB, as its own server stores them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use arx_stack::account::Account;
use arx_stack::ports::free_ports;
use arx_stack::process::wait_until;
use arx_stack::{Database, Stack};
use serde_json::Value;

const ROWS: &str = "
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST') ON CONFLICT DO NOTHING;
INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
SELECT 'testnet', 'tx' || n, n, '2024-01-01'::timestamptz + n * interval '7 hours', 'a \"b\\', 'c,d=e', 0.1 * n,
       'confirmed' FROM generate_series(1, 40) AS n";

/// Sends a request and returns the status and the body.
fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn lines(database: &Database<'_>, arguments: &[&str]) -> Result<String, String> {
    let mut command = database.sidecar().unwrap();
    let output = command.arg("export-series").args(arguments).stdin(Stdio::null()).output().unwrap();
    let (text, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    if output.status.success() { Ok(text) } else { Err(errors) }
}

#[test]
fn influxdb_stores_what_the_series_say() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("series_influx").unwrap();
    database.query(ROWS).unwrap();
    let account = Account::current().unwrap();
    let folder = tempfile::tempdir_in(account.temporary_root().unwrap()).unwrap();
    let [port, internal] = free_ports().unwrap();
    let configuration = format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{internal}\"\n[meta]\ndir = \"{0}/meta\"\n[data]\ndir = \
         \"{0}/data\"\nwal-dir = \"{0}/wal\"\n[monitor]\nstore-enabled = false\n[http]\nbind-address = \"127.0.0.1:{port}\"\n",
        folder.path().display()
    );
    let file = folder.path().join("influxdb.conf");
    std::fs::write(&file, configuration).unwrap();
    let mut server = std::process::Command::new("influxd");
    server.arg("-config").arg(&file).env("HOME", folder.path());
    let pid = stack.start_server("influxd", &server).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let ready = wait_until(Duration::from_secs(60), || {
        anyhow::ensure!(stack.ended(pid).is_none(), "influxd has ended");
        Ok(http(address, "GET", "/ping", "").is_some_and(|(status, _)| status == 204))
    });
    assert!(ready.unwrap(), "influxd does not answer");
    let create = http(address, "POST", "/query?q=CREATE+DATABASE+arx", "").unwrap();
    assert_eq!(create.0, 200, "{}", create.1);

    let network = "testnet";
    let of_wallet = ["--network", network, "--wallet", "c,d=e", "--metric", "received", "--metric", "transactions"];
    let of_wallet = lines(&database, &of_wallet).unwrap();
    let of_network = lines(&database, &["--network", network, "--bucket", "6 hours", "--fill", "zero"]).unwrap();
    for body in [&of_wallet, &of_network] {
        let (status, message) = http(address, "POST", "/write?db=arx&precision=ns", body).unwrap();
        assert_eq!(status, 204, "{message}");
        // Written again, they are the same points.
        assert_eq!(http(address, "POST", "/write?db=arx", body).unwrap().0, 204);
    }
    let query = |text: &str| {
        let path =
            format!("/query?db=arx&epoch=ns&q={}", text.replace(' ', "+").replace('"', "%22").replace('\'', "%27"));
        let (status, body) = http(address, "GET", &path, "").unwrap();
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        answer["results"][0]["series"][0].clone()
    };
    let stored =
        query("SELECT amount, transactions, value, whole, address, network FROM arx_wallet WHERE metric = 'received'");
    let expected = database
        .query(
            "SELECT (extract(epoch FROM bucket_start) * 1000000000)::bigint, trim_scale(value), transactions
               FROM arx.wallet_time_series('c,d=e', 'testnet', 'received', fill => 'none')",
        )
        .unwrap();
    let shown: Vec<String> = stored["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            assert_eq!((&row[5], &row[6]), (&Value::from("c,d=e"), &Value::from(network)));
            assert_eq!(row[3].as_f64(), row[1].as_str().unwrap().parse().ok(), "the number is the text");
            format!("{}|{}|{}", row[0], row[1].as_str().unwrap(), row[2])
        })
        .collect();
    assert_eq!(shown.join("\n"), expected);
    assert!(shown.len() > 5);
    let counted = query("SELECT count(value), sum(transactions) FROM arx_network");
    let buckets = "SELECT count(*), sum(transactions) FROM arx.network_time_series('testnet', 'volume', '6 hours')";
    let counted = &counted["values"][0];
    assert_eq!(of_network.lines().count().to_string(), counted[1].to_string());
    assert!(database.query(buckets).unwrap().ends_with(&format!("|{}", counted[2])));
}

#[test]
fn series_that_do_not_exist_are_refused() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("series_bad").unwrap();
    database.query(ROWS).unwrap();
    let network = ["--network", "testnet"];
    for (arguments, message) in [
        (&["--network", "atlantis"][..], "atlantis"),
        (&[network[0], network[1], "--metric", "luck"], "unknown metric \"luck\""),
        (&[network[0], network[1], "--from", "2024-02-01", "--until", "2024-01-01"], "from before to"),
        (&[network[0], network[1], "--from", "1024-02-01", "--bucket", "1 second"], "more than 100000 buckets"),
        (&[network[0], network[1], "--wallet", "a\nb"], "line break"),
    ] {
        let error = lines(&database, arguments).unwrap_err();
        assert!(error.contains(message), "{arguments:?}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("series.txt");
    let file = file.to_str().unwrap();
    assert!(lines(&database, &[network[0], network[1], "--metric", "luck", "--output", file]).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let report = lines(&database, &[network[0], network[1], "--output", file]).unwrap();
    let count = std::fs::read_to_string(file).unwrap().lines().count();
    assert!(count > 5 && report.contains(&format!("{count} lines")), "{report}");
}
