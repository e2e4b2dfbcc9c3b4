//! Alerts reach their receivers, which are real sockets: signed, at least once, in order for each
//! wallet, and without waiting for a receiver that hangs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use arx_stack::process::wait_until;
use arx_stack::{Database, Stack};

const LIMIT: Duration = Duration::from_secs(30);

/// A request that a receiver got: its headers in lower case, and its body.
#[derive(Debug, Clone)]
struct Request {
    head: String,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }

    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let head = head.to_lowercase().replace('\r', "");
        let request = Self { head, body: String::new() };
        let length: usize = request.header("content-length")?.parse().ok()?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self { body: String::from_utf8(body).ok()?, ..request })
    }
}

/// A receiver that answers each request with the next of its answers, and the last one from then
/// on. An empty answer never comes.
struct Receiver {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    fn start(answers: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}/alerts", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let Some(request) = Request::read(&stream) else { continue };
                let mut seen = seen.lock().unwrap();
                let answer = answers.get(seen.len()).or(answers.last()).unwrap();
                seen.push(request);
                if answer.is_empty() {
                    open.push(stream);
                } else {
                    let _ = write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                }
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// Raises alerts about two wallets, two of each.
fn raise(database: &Database<'_>) {
    database
        .query(
            "INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
             SELECT arx.set_alert_rule('any', '{\"fact\": \"amount\", \"op\": \">\", \"value\": 0}', 'x', side => 'sender', cooldown => '0');
             SELECT arx.set_alert_rule_state('any', 1, 'active');
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
             VALUES ('testnet', 't1', 1, '2024-01-01', 'a', 'x', 1, 'confirmed'), ('testnet', 't2', 2, '2024-01-02', 'a', 'x', 1, 'confirmed'),
                    ('testnet', 't3', 3, '2024-01-01', 'b', 'x', 1, 'confirmed'), ('testnet', 't4', 4, '2024-01-02', 'b', 'x', 1, 'confirmed');
             SELECT count(*) FROM arx.check_wallet_alerts()",
        )
        .unwrap();
}

fn add(database: &Database<'_>, name: &str, kind: &str, target: &str, secret: &str) {
    let sql = format!(
        "INSERT INTO arx.alert_destinations (destination, kind, target, secret_name) VALUES ('{name}', '{kind}', '{target}', {secret})"
    );
    database.query(&sql).unwrap();
}

#[test]
fn a_webhook_is_signed_and_repeated_with_the_same_id_until_it_is_accepted() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("delivery").unwrap();
    // The first answer is a redirect to another receiver, which must get nothing.
    let other = Receiver::start(&["200 OK"]);
    let redirect: &'static str =
        Box::leak(format!("307 Temporary Redirect\r\nlocation: {}", other.url).into_boxed_str());
    let receiver = Receiver::start(Box::leak(Box::new([redirect, "500 Internal Server Error", "204 No Content"])));
    add(&database, "hook", "webhook", &receiver.url, "'hook'");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alerts.jsonl");
    add(&database, "log", "file", &file.display().to_string(), "NULL");
    raise(&database);
    let deliver = || {
        let mut command = database.sidecar().unwrap();
        let output = command
            .args(["deliver", "--once"])
            .env("ARX_SECRET_HOOK", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    // Of each wallet the first alert alone was tried; the file got them all.
    let (code, text) = deliver();
    assert_eq!((code, text.as_str()), (1, "hook: 0 delivered, 2 failed\nlog: 4 delivered, 0 failed\n"));
    let lines = std::fs::read_to_string(&file).unwrap();
    assert_eq!(lines.lines().count(), 4, "{lines}");
    assert!(other.requests().is_empty(), "a redirect was followed");
    let problems = "SELECT string_agg(DISTINCT problem, ', ' ORDER BY problem) FROM arx.alert_deliveries WHERE attempts > 0 AND destination = 'hook'";
    assert_eq!(database.query(problems).unwrap(), "answer 307: redirects are not followed, answer 500");
    // It is tried again once it is due.
    database
        .query("UPDATE arx.alert_deliveries SET next_attempt_at = now() + interval '1 hour' WHERE attempts > 0")
        .unwrap();
    assert_eq!(deliver(), (0, "hook: 0 delivered, 0 failed\nlog: 0 delivered, 0 failed\n".into()));
    database.query("UPDATE arx.alert_deliveries SET next_attempt_at = now()").unwrap();
    assert_eq!(deliver(), (0, "hook: 4 delivered, 0 failed\nlog: 0 delivered, 0 failed\n".into()));
    let requests = receiver.requests();
    assert_eq!(requests.len(), 6);
    for request in &requests {
        let signature = request.header("webhook-signature").unwrap();
        assert!(signature.starts_with("v1,") && signature.len() == 47, "{signature}");
        assert_eq!(request.header("webhook-id"), request.header("idempotency-key"));
        assert!(request.header("webhook-timestamp").unwrap().parse::<u64>().unwrap() > 1_700_000_000);
    }
    let id = |index: usize| requests[index].header("webhook-id").unwrap().to_owned();
    assert_eq!([id(2), id(3)].iter().collect::<std::collections::BTreeSet<_>>(), [id(0), id(1)].iter().collect());
    // In order for each wallet.
    for wallet in ["a", "b"] {
        let of_wallet: Vec<String> = requests[2..]
            .iter()
            .filter(|request| request.body.contains(&format!("\"address\": \"{wallet}\"")))
            .map(|request| request.header("webhook-id").unwrap().to_owned())
            .collect();
        let order = format!(
            "SELECT string_agg('arx_hook_' || alert_id, ' ' ORDER BY delivery_id) FROM arx.alert_deliveries \
             WHERE destination = 'hook' AND address = '{wallet}'"
        );
        assert_eq!(of_wallet.join(" "), database.query(&order).unwrap());
    }
}

#[test]
fn a_receiver_that_hangs_delays_no_other() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("delivery_slow").unwrap();
    let (slow, quick) = (Receiver::start(&[""]), Receiver::start(&["200 OK"]));
    add(&database, "a_slow", "webhook", &slow.url, "NULL");
    add(&database, "quick", "webhook", &quick.url, "NULL");
    add(&database, "secretless", "webhook", &quick.url, "'not_set'");
    let mut sidecar = database.sidecar().unwrap().arg("deliver").spawn().unwrap();
    raise(&database);
    let is_delivered = wait_until(Duration::from_secs(8), || Ok(quick.requests().len() == 4));
    let is_delivered = is_delivered.unwrap();
    let problem = "SELECT max(problem) FROM arx.alert_deliveries WHERE destination = 'secretless'";
    let is_told = wait_until(LIMIT, || Ok(database.query(problem)?.contains("secret \"not_set\" is not set")));
    sidecar.kill().unwrap();
    sidecar.wait().unwrap();
    assert!(is_delivered, "{:?}", quick.requests());
    assert!(is_told.unwrap());
    assert_eq!(
        database
            .query("SELECT count(*) FROM arx.alert_deliveries WHERE destination = 'a_slow' AND state = 'waiting'")
            .unwrap(),
        "4"
    );
}
