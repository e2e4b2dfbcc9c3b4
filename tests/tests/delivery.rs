//! Alerts reach their receivers, which are real sockets: signed, at least once, in order for each
//! wallet, and without waiting for a receiver that hangs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use arx_stack::process::{run, wait_until};
use arx_stack::tls::{Authority, Terminator, Validity};
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

/// A mail that a server took: its recipient, its text, and the credentials of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mail {
    recipient: String,
    text: String,
    credentials: Option<String>,
}

impl Mail {
    fn header(&self, name: &str) -> &str {
        self.text.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or_default()
    }
}

/// A small mail server without TLS. It rejects recipients whose names begin with `gone`.
struct MailServer {
    port: u16,
    mails: Arc<Mutex<Vec<Mail>>>,
    rejected: Arc<Mutex<usize>>,
}

impl MailServer {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mails, rejected) = (Arc::default(), Arc::default());
        let server = Self { port, mails: Arc::clone(&mails), rejected: Arc::clone(&rejected) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mails, rejected) = (Arc::clone(&mails), Arc::clone(&rejected));
                thread::spawn(move || Self::converse(&stream, &mails, &rejected));
            }
        });
        server
    }

    /// Returns when the client has gone.
    fn converse(stream: &TcpStream, mails: &Mutex<Vec<Mail>>, rejected: &Mutex<usize>) -> Option<()> {
        let (mut reader, mut writer) = (BufReader::new(stream), stream);
        let (mut recipient, mut credentials) = (String::new(), None);
        writer.write_all(b"220 test\r\n").ok()?;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            let answer = match line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase().as_str() {
                "EHLO" => "250-test\r\n250 AUTH PLAIN",
                "AUTH" => {
                    credentials = line.rsplit(' ').next().map(str::to_owned);
                    "235 welcome"
                }
                "RCPT" if line.contains("<gone") => {
                    *rejected.lock().unwrap() += 1;
                    "550 no such user"
                }
                "RCPT" => {
                    recipient = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                    "250 ok"
                }
                "DATA" => {
                    writer.write_all(b"354 go on\r\n").ok()?;
                    let mut text = String::new();
                    while !text.ends_with("\r\n.\r\n") {
                        if reader.read_line(&mut text).ok()? == 0 {
                            return None;
                        }
                    }
                    let mail = Mail { recipient: recipient.clone(), text, credentials: credentials.clone() };
                    mails.lock().unwrap().push(mail);
                    "250 taken"
                }
                "QUIT" => "221 bye",
                _ => "250 ok",
            };
            writer.write_all(format!("{answer}\r\n").as_bytes()).ok()?;
        }
    }

    fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap().clone()
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

#[test]
fn mail_reaches_each_recipient_that_the_server_takes() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("delivery_mail").unwrap();
    let (server, secure) = (MailServer::start(), MailServer::start());
    let authority = Authority::new("mail").unwrap();
    let pair = authority.sign(&["localhost"], Validity::Now).unwrap();
    let terminator = Terminator::start(secure.port, &pair, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, authority.certificate()).unwrap();
    let recipients = "?from=arx@example.com&to=desk@example.com&to=gone@example.com";
    add(&database, "a_plain", "smtp", &format!("insecure-smtp://127.0.0.1:{}/{recipients}", server.port), "NULL");
    let target = format!("smtps://localhost:{}/?from=arx@example.com&to=safe@example.com", terminator.port());
    add(&database, "b_tls", "smtp", &target, "'mail'");
    // This server offers no STARTTLS, and so gets no mail.
    add(&database, "c_start", "smtp", &format!("smtp://localhost:{}/?from=a@b.c&to=d@e.f", server.port), "NULL");
    let all_gone = format!("insecure-smtp://127.0.0.1:{}/?from=a@b.c&to=gone@e.f", server.port);
    add(&database, "d_gone", "smtp", &all_gone, "NULL");
    raise(&database);
    let mut command = database.sidecar().unwrap();
    command.args(["deliver", "--once"]).env("ARX_SECRET_MAIL", "user:pa:ss").env("SSL_CERT_FILE", &roots);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text,
        "a_plain: 4 delivered, 0 failed\nb_tls: 4 delivered, 0 failed\nc_start: 0 delivered, 2 failed\nd_gone: 0 delivered, 2 failed\n"
    );
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains("pa:ss") && !log.contains("pa:ss"), "the password is in the log: {log}");
    let mails = server.mails();
    assert_eq!(mails.len(), 4, "{mails:?}");
    assert!(mails.iter().all(|mail| mail.recipient == "desk@example.com" && mail.credentials.is_none()), "{mails:?}");
    assert!(mails.iter().all(|mail| mail.header("Message-ID").ends_with("@example.com>")), "{mails:?}");
    assert!(mails.iter().any(|mail| mail.header("Subject").contains("any: a on testnet")), "{mails:?}");
    assert!(*server.rejected.lock().unwrap() >= 6);
    let states = "SELECT string_agg(DISTINCT concat_ws(' ', destination, state, (problem LIKE '%gone@%')::text), ', ' \
                    ORDER BY concat_ws(' ', destination, state, (problem LIKE '%gone@%')::text)) \
                    FROM arx.alert_deliveries WHERE destination IN ('a_plain', 'd_gone') AND attempts > 0";
    assert_eq!(database.query(states).unwrap(), "a_plain delivered true, d_gone waiting true");
    let safe = secure.mails();
    assert_eq!(safe.len(), 4, "{safe:?}");
    let credentials = Some("AHVzZXIAcGE6c3M=".to_owned());
    assert!(
        safe.iter().all(|mail| mail.recipient == "safe@example.com" && mail.credentials == credentials),
        "{safe:?}"
    );
}

#[test]
fn redis_gets_the_ids_alone() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("delivery_redis").unwrap();
    add(&database, "a_stream", "redis", "stream:alerts", "NULL");
    add(&database, "b_channel", "redis", "channel:alerts", "NULL");
    add(&database, "c_wrong", "redis", "alerts", "NULL");
    add(&database, "d_events", "redis", "events", "NULL");
    raise(&database);
    let output = database.sidecar().unwrap().args(["deliver", "--once"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // No one listens to the channel.
    let expected = "a_stream: 4 delivered, 0 failed\nb_channel: 0 delivered, 2 failed\n\
                    c_wrong: 0 delivered, 2 failed\nd_events: 4 delivered, 0 failed\n";
    assert_eq!(text, expected, "{}", String::from_utf8_lossy(&output.stderr));
    let number = database.redis_url().rsplit('=').next().unwrap().to_owned();
    let mut cli = Command::new("redis-cli");
    cli.arg("-s").arg(stack.redis().socket()).args(["-n", &number, "XRANGE", "alerts", "-", "+"]);
    let entries = run(&mut cli).unwrap();
    let names_and_values = entries.lines().zip(entries.lines().skip(1));
    let mut found: Vec<u64> =
        names_and_values.filter(|(name, _)| *name == "alert_id").map(|(_, id)| id.parse().unwrap()).collect();
    found.sort_unstable();
    let found: Vec<String> = found.iter().map(u64::to_string).collect();
    let ids = "SELECT string_agg(alert_id::text, ' ' ORDER BY alert_id) FROM arx.wallet_alerts";
    assert_eq!(found.join(" "), database.query(ids).unwrap());
    assert!(!entries.contains("testnet"), "{entries}");
    // The events of the cache, for subscribers that come later.
    let events = database.sidecar().unwrap().args(["cache", "events"]).output().unwrap();
    let events = String::from_utf8(events.stdout).unwrap();
    let events = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut announced: Vec<u64> = events.map(|event| event["alert"].as_u64().unwrap()).collect();
    announced.sort_unstable();
    let announced: Vec<String> = announced.iter().map(u64::to_string).collect();
    assert_eq!(announced, found);
}

#[test]
fn a_commit_is_judged_and_delivered_without_a_schedule() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("delivery_judge").unwrap();
    let receiver = Receiver::start(&["200 OK"]);
    add(&database, "hook", "webhook", &receiver.url, "NULL");
    let mut sidecar = database.sidecar().unwrap().args(["deliver", "--judge"]).spawn().unwrap();
    raise(&database);
    let mut arrived = wait_until(LIMIT, || Ok(receiver.requests().len() == 4)).unwrap();
    database
        .query(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
             VALUES ('testnet', 't5', 5, '2024-01-03', 'c', 'x', 1, 'confirmed')",
        )
        .unwrap();
    arrived &= wait_until(LIMIT, || Ok(receiver.requests().len() == 5)).unwrap();
    sidecar.kill().unwrap();
    sidecar.wait().unwrap();
    assert!(arrived, "{:?}", receiver.requests());
    assert!(receiver.requests()[4].body.contains("t5"));
}

#[test]
fn a_stop_does_not_wait_for_the_judgement_that_is_running() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("delivery_stop").unwrap();
    raise(&database);
    // The next judgement waits for this session.
    let mut holder = database.psql().stdin(Stdio::piped()).spawn().unwrap();
    let mut commands = holder.stdin.take().unwrap();
    commands.write_all(b"BEGIN; LOCK TABLE arx.wallet_alert_hits;\n").unwrap();
    let locks = "SELECT count(*) FROM pg_locks WHERE relation = 'arx.wallet_alert_hits'::regclass AND granted = ";
    let reached =
        |granted: bool| wait_until(LIMIT, || Ok(database.query(&format!("{locks}{granted}"))? != "0")).unwrap();
    assert!(reached(true));
    database
        .query(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
             VALUES ('testnet', 't5', 5, '2024-01-03', 'c', 'x', 1, 'confirmed')",
        )
        .unwrap();
    let mut sidecar = database.sidecar().unwrap().args(["deliver", "--judge"]).spawn().unwrap();
    assert!(reached(false));
    run(Command::new("kill").arg(sidecar.id().to_string())).unwrap();
    let ended = wait_until(LIMIT, || Ok(sidecar.try_wait()?.is_some())).unwrap();
    // The statement ends with it.
    let cancelled = wait_until(LIMIT, || Ok(database.query(&format!("{locks}false"))? == "0")).unwrap();
    drop(commands);
    let _ = sidecar.kill();
    holder.wait().unwrap();
    assert!(ended && cancelled, "ended {ended}, cancelled {cancelled}");
}
