//! The cache of profiles is a faithful copy: a change committed in PostgreSQL is in Redis within a
//! second, regardless of who made it, and no reader gets a profile that is not proved to be true.
//! Accepted writes arrive exactly once.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use arx_stack::ports::free_ports;
use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack, StackOptions};
use arx_tests::daemon::{Daemon, LIMIT, get, post, sidecar};
use arx_tests::proxy::Proxy;
use arx_tests::redis::{fill, identity, redis, redis_of, start_redis, wait_for, wallet};
use serde_json::Value;

/// Returns what the follower of a database has stored about itself, or null.
fn state(database: &Database<'_>, key: &str) -> Value {
    let key = format!("arx:{}:{{state}}:{key}", identity(database));
    serde_json::from_str(&redis_of(database, &["GET", &key])).unwrap_or_default()
}

/// Waits until the follower has made a pass that began after this call: each pass reads what is
/// committed when it begins, and the one that runs now may have begun before.
fn wait_for_pass(database: &Database<'_>) {
    let pass = || {
        let watermark = state(database, "watermark");
        watermark["follower"].as_u64().zip(watermark["pass"].as_u64())
    };
    let mut first = None;
    let has_looked = || {
        let Some((follower, pass)) = pass() else { return Ok(false) };
        let (of, began) = *first.get_or_insert((follower, pass));
        if follower != of {
            first = None;
        }
        Ok(follower == of && pass >= began + 2)
    };
    assert!(wait_until(LIMIT, has_looked).unwrap());
}

#[test]
fn every_committed_change_is_in_the_cache_with_the_next_pass() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("cache_changes").unwrap();
    fill(&database, 20);
    let scratch = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&database, &[], scratch.path());
    let one = wallet(3);
    let cached = || Ok(sidecar(&database, &[], &["profile", &one, "--json"]).1.contains("\"source\":\"cache\""));
    assert!(wait_until(LIMIT, cached).unwrap(), "{}", daemon.log());
    let read = |wallet: &str| sidecar(&database, &[], &["profile", wallet, "--json"]).1;
    let shows = |texts: &[&str]| {
        wait_for_pass(&database);
        let text = read(&one);
        assert!(texts.iter().all(|shown| text.contains(shown)), "{texts:?}: {text}");
        wait_for(&database, &[], &one, texts);
    };
    let execute = |sql: &str| database.query(sql).unwrap();
    // A label. No job runs.
    execute(&format!(
        "INSERT INTO arx.address_labels (network, address, category, severity, source)
         VALUES ('ethereum', '{one}', 'sanctions', 'severe', 'list')"
    ));
    shows(&["\"state\":\"labelled\"", "\"score\":100"]);
    execute("DELETE FROM arx.address_labels");
    shows(&["\"labels\":[]"]);
    // A decision of a user, and one which expires by the clock alone.
    execute(&format!("SELECT arx.override_risk('{one}', 'ethereum', 12.5, 'reviewed', now() + interval '1 hour')"));
    shows(&["\"state\":\"overridden\"", "\"score\":12.5"]);
    execute(&format!("SELECT arx.override_risk('{one}', 'ethereum', 13.5, 'reviewed', now() + interval '2 seconds')"));
    // The follower says at which time it last looked for what begins or ends.
    let end = database.query("SELECT expires_at FROM arx.risk_overrides WHERE ended_at IS NULL").unwrap();
    let has_looked = || {
        let looked_at = state(&database, "position")["looked_at"].as_str().unwrap_or("-infinity").to_owned();
        Ok(database.query(&format!("SELECT timestamptz '{looked_at}' >= timestamptz '{end}'"))? == "t")
    };
    assert!(wait_until(LIMIT, has_looked).unwrap(), "{}", daemon.log());
    assert!(!read(&one).contains("overridden"), "{}", read(&one));
    // Rows of users, also under another key.
    execute(&format!(
        "UPDATE arx.wallet_profiles SET analytics_profile = '{{\"team\": \"blue\"}}' WHERE wallet_address = '{one}'"
    ));
    shows(&["\"team\":\"blue\""]);
    execute(&format!("DELETE FROM arx.wallet_profiles WHERE wallet_address = '{one}'"));
    shows(&["\"known\":false"]);
    execute(&format!("UPDATE arx.wallet_profiles SET wallet_address = '{one}' WHERE wallet_address = '{}'", wallet(4)));
    shows(&["\"known\":true"]);
    assert!(read(&wallet(4)).contains("\"known\":false"), "{}", read(&wallet(4)));
    wait_for(&database, &[], &wallet(4), &["\"known\":false"]);
    // A transaction, and one that leaves the chain.
    let new = wallet(0xfff);
    execute(&format!(
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
         VALUES ('ethereum', 'new', 99, '2024-02-01', '{new}', '{one}', 1, 'confirmed')"
    ));
    wait_for_pass(&database);
    assert!(!read(&new).contains("\"state\":\"unknown\""), "{}", read(&new));
    execute("DELETE FROM arx.transactions WHERE tx_hash = 'new'");
    wait_for_pass(&database);
    assert!(read(&new).contains("\"state\":\"unknown\""), "{}", read(&new));
    // What concerns every wallet: calibration, and tables that are emptied.
    execute(
        "INSERT INTO arx.risk_calibration (network, medium_from, high_from, severe_from) VALUES ('ethereum', 1, 2, 3)",
    );
    shows(&["\"band\":\"severe\""]);
    execute("TRUNCATE arx.wallet_profiles");
    shows(&["\"known\":false"]);
    // Nothing in use differs from PostgreSQL.
    let (output, text) = sidecar(&database, &[], &["cache", "verify"]);
    assert!(output.status.success() && text.contains("0 differ"), "{text}");
    let (_, page, _) = get(daemon.address(), "/metrics");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
}

#[test]
fn a_follower_that_was_killed_leaves_nothing_stale() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("cache_killed").unwrap();
    fill(&database, 20);
    let scratch = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(&database, &[], scratch.path());
    let one = wallet(7);
    for round in 0..3 {
        let cached = || Ok(sidecar(&database, &[], &["profile", &one, "--json"]).1.contains("\"source\":\"cache\""));
        assert!(wait_until(LIMIT, cached).unwrap(), "{}", daemon.log());
        daemon.kill();
        database
            .query(&format!(
                "UPDATE arx.wallet_profiles SET analytics_profile = '{{\"round\": {round}}}' WHERE wallet_address = '{one}'"
            ))
            .unwrap();
        // The lease ends; until then a reader may get what was true when the follower stopped.
        let watermark = format!("arx:{}:{{state}}:watermark", identity(&database));
        let left: i64 = redis_of(&database, &["PTTL", &watermark]).trim().parse().unwrap();
        assert!(left == -2 || (0..=2_000).contains(&left), "{left} ms");
        assert!(wait_until(LIMIT, || Ok(state(&database, "watermark").is_null())).unwrap());
        let (_, text) = sidecar(&database, &[], &["profile", &one, "--json"]);
        assert!(text.contains(&format!("\"round\":{round}")) && text.contains("\"source\":\"database\""), "{text}");
        daemon = Daemon::start(&database, &[], scratch.path());
        wait_until(LIMIT, cached).unwrap();
        wait_for(&database, &[], &one, &[&format!("\"round\":{round}")]);
    }
    let (output, text) = sidecar(&database, &[], &["cache", "verify"]);
    assert!(output.status.success(), "{text}");
}

#[test]
fn databases_that_share_a_redis_do_not_read_each_others_profiles() {
    let stack = Stack::shared().unwrap();
    let (one, two) = (stack.database("cache_one").unwrap(), stack.database("cache_two").unwrap());
    let url = one.redis_url();
    let variables = [("ARX_REDIS_URL", url.as_str())];
    let scratch = tempfile::tempdir().unwrap();
    let daemons = [(&one, "red"), (&two, "blue")].map(|(database, team)| {
        fill(database, 5);
        database
            .query(&format!("UPDATE arx.wallet_profiles SET analytics_profile = '{{\"team\": \"{team}\"}}'"))
            .unwrap();
        Daemon::start(database, &variables, scratch.path())
    });
    for (database, team) in [(&one, "red"), (&two, "blue")] {
        let text = || sidecar(database, &variables, &["profile", &wallet(2), "--json"]).1;
        assert!(wait_until(LIMIT, || Ok(text().contains("\"source\":\"cache\""))).unwrap(), "{}", daemons[0].log());
        assert!(text().contains(team), "{}", text());
    }
    // Emptying one leaves the other's, and writes that wait.
    let (output, text) = sidecar(&one, &variables, &["cache", "flush"]);
    assert!(output.status.success() && !text.starts_with("0 "), "{text}");
    assert!(sidecar(&two, &variables, &["profile", &wallet(2), "--json"]).1.contains("\"source\":\"cache\""));
}

#[test]
fn writes_are_refused_where_eviction_could_take_them() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("cache_eviction").unwrap();
    let [port, other] = free_ports().unwrap();
    let (url, _) =
        start_redis(stack, "redis-evicts", port, &["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru"]);
    let variables = [("ARX_REDIS_URL", url.as_str())];
    let scratch = tempfile::tempdir().unwrap();
    let note = ["annotate", &wallet(1), "{\"note\": \"x\"}"];
    let (output, text) = sidecar(&database, &variables, &note);
    assert!(!output.status.success() && text.contains("allkeys-lru") && text.contains("volatile-lru"), "{text}");
    let (output, text) = sidecar(&database, &variables, &["run"]);
    assert!(!output.status.success() && text.contains("allkeys-lru"), "{text}");
    let (_, text) = sidecar(&database, &variables, &["status"]);
    assert!(text.contains("write-behind is refused"), "{text}");
    // Two endpoints: a cache that evicts, and a small one for writes that does not.
    let (streams, _) = start_redis(stack, "redis-streams", other, &["--maxmemory-policy", "noeviction"]);
    let two = [("ARX_REDIS_URL", url.as_str()), ("ARX_REDIS_STREAMS_URL", streams.as_str())];
    let (output, text) = sidecar(&database, &two, &note);
    assert!(output.status.success(), "{text}");
    // One endpoint: everything but writes has a lifetime, so pressure takes no write.
    redis(port, &["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]);
    for number in 2..=30 {
        let (output, text) = sidecar(&database, &variables, &["annotate", &wallet(number), "{\"note\": \"x\"}"]);
        assert!(output.status.success(), "{text}");
    }
    let pressure = "for i = 1, 20000 do redis.call('SET', 'session:' .. i, string.rep('x', 200), 'EX', 1000) end";
    redis(port, &["EVAL", pressure, "0"]);
    assert!(!redis(port, &["INFO", "stats"]).contains("evicted_keys:0\r"), "there was no pressure");
    let count = |expected: u32| {
        let sql = "SELECT count(*) FROM arx.wallet_profiles WHERE analytics_profile ->> 'note' = 'x'";
        wait_until(LIMIT, || Ok(database.query(sql)? == expected.to_string())).unwrap()
    };
    let daemon = Daemon::start(&database, &variables, scratch.path());
    assert!(count(29), "{}", daemon.log());
    drop(daemon);
    let daemon = Daemon::start(&database, &two, scratch.path());
    assert!(count(30), "{}", daemon.log());
}

#[test]
fn garbage_and_foreign_values_under_our_names_are_never_answers() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("cache_garbage").unwrap();
    fill(&database, 10);
    let [port] = free_ports().unwrap();
    let (url, _) = start_redis(stack, "redis-garbage", port, &[]);
    let variables = [("ARX_REDIS_URL", url.as_str())];
    let scratch = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&database, &variables, scratch.path());
    let read = |number: u32| sidecar(&database, &variables, &["profile", &wallet(number), "--json"]).1;
    let cached = |number: u32| wait_until(LIMIT, || Ok(read(number).contains("\"source\":\"cache\""))).unwrap();
    assert!(cached(1) && cached(2), "{}", daemon.log());
    let key = |number: u32| {
        redis(port, &["KEYS", &format!("arx:*{{ethereum:{}}}:profile", wallet(number))]).trim().to_owned()
    };
    let (first, second) = (key(1), key(2));
    let is_of_first = |text: &str| text.contains(&wallet(1)) && text.contains("\"known\":true");
    // Another wallet's value, a list, a text, a hash without fields of ours, a broken body, a
    // script cache that was emptied.
    let damages: [&[&str]; 7] = [
        &["COPY", &second, &first, "REPLACE"],
        &["EVAL", "redis.call('DEL', KEYS[1]) return redis.call('RPUSH', KEYS[1], 'x')", "1", &first],
        &["SET", &first, "x"],
        &["EVAL", "redis.call('DEL', KEYS[1]) return redis.call('HSET', KEYS[1], 'x', 'y')", "1", &first],
        &["HSET", &first, "body", "{\"network\": 5}"],
        &["HSET", &first, "height", "no number"],
        &["SCRIPT", "FLUSH"],
    ];
    for damage in damages {
        redis(port, damage);
        let text = read(1);
        assert!(is_of_first(&text), "{damage:?}: {text}");
        assert!(cached(1), "{damage:?}: the profile was not cached again");
    }
    // Everything gone, with the consumer groups.
    redis(port, &["FLUSHALL"]);
    assert!(is_of_first(&read(1)));
    let (output, text) = sidecar(&database, &variables, &["annotate", &wallet(1), "{\"note\": \"after\"}"]);
    assert!(output.status.success(), "{text}");
    wait_for(&database, &variables, &wallet(1), &["\"note\":\"after\""]);
    // A Redis that takes no writes, and one that has no memory, answer nothing wrong.
    redis(port, &["CONFIG", "SET", "maxmemory", "1"]);
    assert!(is_of_first(&read(1)));
    redis(port, &["CONFIG", "SET", "maxmemory", "0"]);
    redis(port, &["REPLICAOF", "127.0.0.1", "1"]);
    assert!(is_of_first(&read(1)));
    redis(port, &["REPLICAOF", "NO", "ONE"]);
    // One that was put back to an earlier state has values that are not true any more.
    redis(port, &["COPY", &first, "earlier"]);
    database.query("UPDATE arx.wallet_profiles SET analytics_profile = '{\"later\": 1}'").unwrap();
    wait_for(&database, &variables, &wallet(1), &["\"later\":1"]);
    redis(port, &["COPY", "earlier", &first, "REPLACE"]);
    redis(port, &["REPLICAOF", "127.0.0.1", "1"]);
    redis(port, &["REPLICAOF", "NO", "ONE"]);
    wait_for(&database, &variables, &wallet(1), &["\"later\":1"]);
    // A slow one is not waited for.
    let mut pause = Command::new("redis-cli");
    run(pause.args(["-p", &port.to_string(), "CLIENT", "PAUSE", "10000", "ALL"])).unwrap();
    let (status, _, body) = get(daemon.address(), &format!("/v1/wallets/ethereum/{}", wallet(1)));
    assert_eq!((status, body["profile"]["known"].as_bool()), (200, Some(true)), "{body}");
}

#[test]
fn wallets_are_served_as_json_with_problem_details() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("cache_http").unwrap();
    fill(&database, 10);
    let scratch = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&database, &[], scratch.path());
    let address = daemon.address();
    let path = format!("/v1/wallets/eth/{}", wallet(2).replace("0x", "0X"));
    let is_local = || Ok(get(address, &path).2["source"] == "local");
    assert!(wait_until(LIMIT, is_local).unwrap(), "{}", daemon.log());
    let (status, _, found) = get(address, &path);
    assert_eq!((status, found["profile"]["address"].as_str()), (200, Some(&*wallet(2))), "{found}");
    let reasons = found["profile"]["risk"]["reasons"].as_array().unwrap();
    let sum: f64 = reasons.iter().filter_map(|reason| reason["points"].as_f64()).sum();
    assert!((sum - found["profile"]["risk"]["score"].as_f64().unwrap()).abs() < 0.05, "{found}");
    // Reading one's own writes.
    for team in 0..5 {
        database
            .query(&format!(
                "UPDATE arx.wallet_profiles SET analytics_profile = '{{\"team\": {team}}}' WHERE wallet_address = '{}'",
                wallet(2)
            ))
            .unwrap();
        let snapshot = database.query("SELECT pg_current_snapshot()").unwrap();
        let (status, _, found) = get(address, &format!("{path}?not_older_than={snapshot}"));
        assert_eq!((status, found["profile"]["analytics_profile"]["team"].as_i64()), (200, Some(team)), "{found}");
    }
    // Many wallets, most of them unknown, in the order of the request.
    let list = |count: u32| {
        let wallets: Vec<String> = (1..=count)
            .map(|number| format!("{{\"network\": \"ethereum\", \"address\": \"{}\"}}", wallet(number)))
            .collect();
        format!("{{\"wallets\": [{}]}}", wallets.join(","))
    };
    let (status, head, found) = post(address, "/v1/wallets", &list(10_000));
    assert_eq!(status, 200, "{head}");
    let found = found["wallets"].as_array().unwrap();
    assert_eq!(found.len(), 10_000);
    for (index, known) in [(0, true), (9, true), (10, false), (9_999, false)] {
        let expected = wallet(u32::try_from(index).unwrap() + 1);
        assert_eq!(found[index]["profile"]["address"].as_str(), Some(&*expected));
        assert_eq!(found[index]["profile"]["known"].as_bool(), Some(known), "{}", found[index]);
    }
    for (status, path) in [
        (400, "/v1/wallets/ethereum/0x12".to_owned()),
        (400, format!("/v1/wallets/no%20network/{}", wallet(1))),
        (400, format!("/v1/wallets/ethereum/{}?not_older_than=x", wallet(1))),
        (400, format!("/v1/wallets/ethereum/{}?not_older_than=999999999:999999999:", wallet(1))),
        (400, format!("/v1/wallets/ethereum/{}?unknown=1", wallet(1))),
    ] {
        let (found, head, problem) = get(address, &path);
        assert_eq!((found, problem["status"].as_u64()), (status, Some(u64::from(status))), "{path}: {head} {problem}");
        assert!(head.contains("application/problem+json") && problem["detail"].is_string(), "{path}: {head}");
    }
    for (status, body) in [(400, list(10_001)), (400, "{".to_owned()), (422, "{\"wallets\": 1}".to_owned())] {
        let (found, head, problem) = post(address, "/v1/wallets", &body);
        assert_eq!((found, problem["status"].as_u64()), (status, Some(u64::from(status))), "{head} {problem}");
    }
    let (status, _, document) = get(address, "/v1/openapi.json");
    assert!(status == 200 && document["paths"]["/v1/wallets"].is_object(), "{document}");
}

/// Kills a process of PostgreSQL. The server then ends all sessions and recovers.
fn crash_postgres(database: &Database<'_>) {
    let checkpointer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    let victim = database.query(checkpointer).unwrap();
    run(Command::new("kill").args(["-KILL", &victim])).unwrap();
    let is_back = || Ok(database.query(checkpointer).is_ok_and(|pid| !pid.is_empty() && pid != victim));
    assert!(wait_until(LIMIT, is_back).unwrap(), "PostgreSQL did not come back");
}

/// Six kills, or with `ARX_TORTURE=long` a hundred: of the sidecar, of Redis, and of PostgreSQL.
#[test]
fn accepted_writes_are_applied_exactly_once_when_servers_and_consumers_are_killed() {
    let is_long = std::env::var("ARX_TORTURE").is_ok_and(|form| form == "long");
    let stack = Stack::start(&StackOptions { durable: true, ..StackOptions::default() }).unwrap();
    let database = stack.database("cache_once").unwrap();
    let [port] = free_ports().unwrap();
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let (url, mut pid) = start_redis(&stack, "redis-once", port, &options);
    let variables = [("ARX_REDIS_URL", url.as_str())];
    let scratch = tempfile::tempdir().unwrap();
    let mut accepted = BTreeSet::new();
    let mut daemon = Daemon::start(&database, &variables, scratch.path());
    for round in 0..if is_long { 100 } else { 6_u32 } {
        for number in 0..10 {
            let address = wallet(1000 + round * 10 + number);
            if sidecar(&database, &variables, &["annotate", &address, "{\"note\": 1}"]).0.status.success() {
                accepted.insert(address);
            }
        }
        match round % 3 {
            0 => {
                daemon.kill();
                daemon = Daemon::start(&database, &variables, scratch.path());
            }
            1 => {
                run(Command::new("kill").args(["-KILL", &pid.to_string()])).unwrap();
                assert!(wait_until(LIMIT, || Ok(stack.ended(pid).is_some())).unwrap());
                (_, pid) = start_redis(&stack, "redis-once", port, &options);
            }
            _ => crash_postgres(&database),
        }
    }
    // Both servers ran whenever a write was made.
    assert_eq!(accepted.len(), if is_long { 1000 } else { 60 }, "{}", daemon.log());
    let arrived = || -> BTreeSet<String> {
        let rows = database.query("SELECT wallet_address FROM arx.wallet_profiles WHERE analytics_profile ? 'note'");
        rows.unwrap().lines().map(str::to_owned).collect()
    };
    assert!(wait_until(LIMIT, || Ok(arrived() == accepted)).unwrap(), "{} arrived: {}", arrived().len(), daemon.log());
    let drained = || Ok(sidecar(&database, &variables, &["cache", "stats"]).1.contains("0 queued"));
    assert!(wait_until(LIMIT, drained).unwrap(), "{}", sidecar(&database, &variables, &["cache", "stats"]).1);
    // Each applied write raises the version by one.
    let twice = "SELECT count(*) FROM arx.wallet_profiles WHERE analytics_profile ? 'note' AND version <> 1";
    assert_eq!(database.query(twice).unwrap(), "0", "a write was applied twice");
}

/// Runs commands of a file of text by one connection. Returns the lines of the answers.
fn pipe(port: u16, commands: &str) -> Vec<String> {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut input, text) = (child.stdin.take().unwrap(), commands.to_owned());
    let writing = std::thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn of_any_order_of_writes_the_newest_snapshot_remains() {
    let stack = Stack::shared().unwrap();
    let [port] = free_ports().unwrap();
    start_redis(stack, "redis-orders", port, &[]);
    let load = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql/redis").join(name);
        redis(port, &["SCRIPT", "LOAD", &std::fs::read_to_string(path).unwrap()]).trim().to_owned()
    };
    let (set, drop) = (load("profile_set.lua"), load("profile_drop.lua"));
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for key in 0..30 {
        // Heights of all lengths, also beyond what a Lua number holds exactly, and close to each
        // other.
        let base = 1_u64 << random.u32(0..62);
        let heights: Vec<u64> = (0..40).map(|_| base + random.u64(0..20)).collect();
        let mut commands = String::new();
        for height in &heights {
            let write = match random.u8(0..3) {
                0 => format!("EVALSHA {drop} 1 k{key} {height} 100000"),
                writer => format!("EVALSHA {set} 1 k{key} {height} s{height} b{height} 100000 5 {}", writer - 1),
            };
            commands += &format!("{write}\nHGET k{key} height\nHGET k{key} body\n");
        }
        let answers = pipe(port, &commands);
        assert_eq!(answers.len(), heights.len() * 3, "{answers:?}");
        let mut newest = 0;
        for (height, answer) in heights.iter().zip(answers.chunks(3)) {
            newest = newest.max(*height);
            assert_eq!(answer[1], newest.to_string(), "seed {seed}, key {key}");
            // A mark has no body; a body is that of its height.
            assert!(answer[2].is_empty() || answer[2] == format!("b{newest}"), "seed {seed}, key {key}: {answer:?}");
        }
    }
}

/// Starts Redis by a file that is shipped, on another port. Returns its URL and port.
fn start_shipped(stack: &Stack, file: &str) -> (String, u16) {
    let [port, bus] = free_ports().unwrap();
    let folder = stack.folder().join(format!("shipped-{file}"));
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new("redis-server");
    command.arg(shipped(file)).arg("--dir").arg(&folder).args(["--port", &port.to_string()]);
    if file == "cluster.conf" {
        command.args(["--cluster-port", &bus.to_string()]);
    }
    stack.start_server(&format!("shipped-{file}"), &command).unwrap();
    assert!(wait_until(LIMIT, || Ok(redis(port, &["PING"]).contains("PONG"))).unwrap(), "{file} does not start");
    (format!("redis://127.0.0.1:{port}"), port)
}

fn shipped(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/redis").join(file)
}

#[test]
fn the_shipped_files_start_redis_as_they_say() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("cache_shapes").unwrap();
    let servers = ["one.conf", "cache.conf", "streams.conf", "cluster.conf"].map(|file| {
        let (url, port) = start_shipped(stack, file);
        for line in std::fs::read_to_string(shipped(file)).unwrap().lines() {
            let Some((name, value)) = line.split_once(' ').filter(|_| !line.starts_with('#')) else { continue };
            let expected = match value.strip_suffix("gb") {
                Some(gigabytes) => (gigabytes.parse::<u64>().unwrap() << 30).to_string(),
                None => value.trim_matches('"').to_owned(),
            };
            let answer = redis(port, &["CONFIG", "GET", name]);
            let found = answer.lines().nth(1).unwrap_or_default();
            // The test has given another port.
            assert!(name == "port" || found == expected, "{file}: {name} is {found:?}, not {expected:?}");
        }
        url
    });
    let [one, cache, streams, cluster] = &servers;
    let annotate = |variables: &[(&str, &str)]| {
        let (output, text) = sidecar(&database, variables, &["annotate", &wallet(1), "{\"note\": \"x\"}"]);
        (output.status.success(), text)
    };
    let (is_accepted, text) = annotate(&[("ARX_REDIS_URL", one)]);
    assert!(is_accepted, "{text}");
    let (is_accepted, text) = annotate(&[("ARX_REDIS_URL", cache)]);
    assert!(!is_accepted && text.contains("allkeys-lru"), "{text}");
    let (is_accepted, text) = annotate(&[("ARX_REDIS_URL", cache), ("ARX_REDIS_STREAMS_URL", streams)]);
    assert!(is_accepted, "{text}");
    // A node of a cluster is no server of its own.
    let (is_accepted, text) = annotate(&[("ARX_REDIS_URL", cluster)]);
    assert!(!is_accepted && text.contains("redis+cluster"), "{text}");
}

#[test]
fn a_write_is_accepted_when_replicas_have_it() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("cache_replicas").unwrap();
    let [port, other] = free_ports().unwrap();
    let (url, _) = start_redis(stack, "redis-primary", port, &[]);
    let annotate = |variables: &[(&str, &str)]| {
        let (output, text) = sidecar(&database, variables, &["annotate", &wallet(1), "{\"note\": \"x\"}"]);
        (output.status.success(), text)
    };
    let wanted = [("ARX_REDIS_URL", url.as_str()), ("ARX_WRITE_REPLICAS", "1")];
    let (is_accepted, text) = annotate(&wanted);
    assert!(!is_accepted && text.contains("0 replicas"), "{text}");
    let (is_accepted, text) = annotate(&[("ARX_REDIS_URL", &url)]);
    assert!(is_accepted, "{text}");
    let (_, pid) = start_redis(stack, "redis-replica", other, &["--replicaof", &format!("127.0.0.1 {port}")]);
    let is_online = || Ok(redis(port, &["INFO", "replication"]).contains("state=online"));
    assert!(wait_until(LIMIT, is_online).unwrap(), "{}", redis(port, &["INFO", "replication"]));
    let (is_accepted, text) = annotate(&wanted);
    assert!(is_accepted, "{text}");
    let (is_accepted, text) = annotate(&[("ARX_REDIS_URL", &url), ("ARX_WRITE_REPLICAS", "2")]);
    assert!(!is_accepted && text.contains("write_replicas"), "{text}");
    // A replica that is connected and does not answer has not got the write.
    run(Command::new("kill").args(["-STOP", &pid.to_string()])).unwrap();
    let (is_accepted, text) = annotate(&[("ARX_REDIS_URL", &url)]);
    run(Command::new("kill").args(["-CONT", &pid.to_string()])).unwrap();
    assert!(!is_accepted && text.contains("0 replicas"), "{text}");
}

#[test]
fn faults_of_redis_give_an_error_or_the_truth() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("cache_faults").unwrap();
    fill(&database, 10);
    let more = "INSERT INTO arx.wallet_profiles (wallet_address, network_type)
                SELECT '0x' || lpad(to_hex(n), 40, '0'), 'ethereum' FROM generate_series(100, 3100) AS n";
    database.query(more).unwrap();
    let [port] = free_ports().unwrap();
    // While it loads, a server hears its clients after each of these bytes.
    let options = ["--appendonly", "yes", "--appendfsync", "always", "--loading-process-events-interval-bytes", "1024"];
    let (_, mut pid) = start_redis(stack, "redis-faults", port, &options);
    let proxy = Proxy::to(port).unwrap();
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let variables = [("ARX_REDIS_URL", url.as_str())];
    let scratch = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&database, &variables, scratch.path());
    let read = |number: u32| sidecar(&database, &variables, &["profile", &wallet(number), "--json"]).1;
    let cached = || Ok(read(1).contains("\"source\":\"cache\""));
    let is_true = |text: &str| text.contains(&wallet(1)) && text.contains("\"known\":true");
    let note = || {
        let (output, text) = sidecar(&database, &variables, &["annotate", &wallet(2), "{\"note\": \"x\"}"]);
        (output.status.success(), text)
    };
    assert!(wait_until(LIMIT, cached).unwrap(), "{}", daemon.log());

    // A script cache that was emptied, for a write and for a read.
    redis(port, &["SCRIPT", "FLUSH"]);
    let (is_accepted, text) = note();
    assert!(is_accepted && is_true(&read(1)), "{text}");
    // A server that takes no writes, and one without memory: writes are refused with the reason.
    redis(port, &["REPLICAOF", "127.0.0.1", "1"]);
    let (is_accepted, text) = note();
    assert!(!is_accepted && text.contains("read only replica") && is_true(&read(1)), "{text}");
    redis(port, &["REPLICAOF", "NO", "ONE"]);
    redis(port, &["CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1"]);
    let (is_accepted, text) = note();
    assert!(!is_accepted && text.contains("OOM") && is_true(&read(1)), "{text}");
    redis(port, &["CONFIG", "SET", "maxmemory", "0"]);
    assert!(wait_until(LIMIT, cached).unwrap(), "{}", daemon.log());

    // A profile that is too large for the cache is read from PostgreSQL.
    let large = "UPDATE arx.wallet_profiles SET analytics_profile = jsonb_build_object('text', repeat('x', 1200000))";
    database.query(&format!("{large} WHERE wallet_address = '{}'", wallet(3))).unwrap();
    let text = read(3);
    assert!(text.len() > 1_200_000 && text.contains("\"source\":\"database\""), "{} bytes", text.len());

    // Connections that break in the middle of pipelines, and a server that is killed there: the
    // command ends with an error or with everything, and an interrupted one is continued.
    for round in 0..4 {
        let mut warm = database.sidecar().unwrap();
        warm.envs(variables).args(["cache", "warm", "--restart"]).stdin(Stdio::null());
        let mut warm = warm.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let has_begun = || {
            let commands = redis(port, &["INFO", "commandstats"]);
            let sets = commands.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default();
            let calls = sets.split(['=', ',']).nth(1).and_then(|calls| calls.parse::<u32>().ok());
            Ok(calls.is_some_and(|calls| calls > 100) || warm.try_wait()?.is_some())
        };
        redis(port, &["CONFIG", "RESETSTAT"]);
        assert!(wait_until(LIMIT, has_begun).unwrap());
        if round < 2 {
            proxy.cut();
        } else {
            run(Command::new("kill").args(["-KILL", &pid.to_string()])).unwrap();
            assert!(wait_until(LIMIT, || Ok(stack.ended(pid).is_some())).unwrap());
            (_, pid) = start_redis(stack, "redis-faults", port, &options);
        }
        let output = warm.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || text.contains("Redis") || text.contains("in step"), "{text}");
        assert!(is_true(&read(1)), "round {round}");
    }
    let warmed = || Ok(sidecar(&database, &variables, &["cache", "warm"]).0.status.success());
    assert!(wait_until(LIMIT, warmed).unwrap(), "{}", daemon.log());
    let equal = || {
        let (output, text) = sidecar(&database, &variables, &["cache", "verify"]);
        Ok(output.status.success() && text.contains("0 differ"))
    };
    assert!(wait_until(LIMIT, equal).unwrap(), "{}", daemon.log());

    // A server that loads its log, which takes minutes until the test lets it go on: a reader gets
    // the truth, and a writer the reason. A log of commands would be read on without a pause.
    redis(port, &["BGREWRITEAOF"]);
    let is_rewritten = || Ok(redis(port, &["INFO", "persistence"]).contains("aof_rewrite_in_progress:0"));
    assert!(wait_until(LIMIT, is_rewritten).unwrap());
    run(Command::new("kill").args(["-KILL", &pid.to_string()])).unwrap();
    assert!(wait_until(LIMIT, || Ok(stack.ended(pid).is_some())).unwrap());
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--key-load-delay", "50000"]);
    command.args(options).arg("--dir").arg(stack.folder().join("redis-faults"));
    let pid = stack.start_server("redis-faults", &command).unwrap();
    let is_loading = || {
        assert!(stack.ended(pid).is_none(), "redis-faults ended");
        Ok(redis(port, &["GET", "x"]).contains("LOADING"))
    };
    assert!(wait_until(LIMIT, is_loading).unwrap());
    let (is_accepted, text) = note();
    assert!(!is_accepted && (text.contains("oading") || text.contains("does not answer")), "{text}");
    assert!(is_true(&read(1)));
    assert!(wait_until(LIMIT, is_loading).unwrap(), "it has loaded before the test let it");
    redis(port, &["CONFIG", "SET", "key-load-delay", "0"]);
    assert!(wait_until(LIMIT, cached).unwrap(), "{}", daemon.log());

    // Every answer is ten seconds late: readers do not wait for it, and a writer learns why.
    proxy.delay(Duration::from_secs(10));
    let (status, _, body) = get(daemon.address(), &format!("/v1/wallets/ethereum/{}", wallet(1)));
    assert_eq!((status, body["profile"]["known"].as_bool()), (200, Some(true)), "{body}");
    assert_ne!(body["source"], "cache", "{body}");
    let (is_accepted, text) = note();
    assert!(!is_accepted && text.contains("Redis"), "{text}");
    proxy.delay(Duration::ZERO);
    proxy.cut();
    assert!(wait_until(LIMIT, cached).unwrap(), "{}", daemon.log());
}

#[test]
fn labels_and_logins_wait_like_notes_and_arrive_once() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("cache_writes").unwrap();
    fill(&database, 5);
    let [port] = free_ports().unwrap();
    let (url, _) = start_redis(stack, "redis-writes", port, &[]);
    let variables = [("ARX_REDIS_URL", url.as_str())];
    let scratch = tempfile::tempdir().unwrap();
    let one = wallet(1);
    let label = |json: &str| sidecar(&database, &variables, &["label", &one, json]);
    for (json, word) in
        [("{}", "category"), (r#"{"category": "exchange", "source": "d", "severity": "x"}"#, "severity")]
    {
        let (output, text) = label(json);
        assert!(!output.status.success() && text.contains(word), "{text}");
    }
    let exchange = |severity: &str| {
        let json =
            format!(r#"{{"category": "exchange", "source": "desk", "label": "Ours", "severity": "{severity}"}}"#);
        let (output, text) = label(&json);
        assert!(output.status.success(), "{text}");
    };
    exchange("low");
    exchange("medium");
    // A category that does not exist is known to PostgreSQL alone.
    assert!(label(r#"{"category": "no_such_category", "source": "desk"}"#).0.status.success());
    // Readers see the label at once, and that it waits.
    let (_, text) = sidecar(&database, &variables, &["profile", &one, "--json"]);
    let profile: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let labels = profile["profile"]["labels"].as_array().unwrap();
    let ours: Vec<_> = labels.iter().filter(|label| label["label"] == "Ours").collect();
    assert_eq!(ours.len(), 1, "{text}");
    assert_eq!((ours[0]["pending"].as_bool(), ours[0]["severity"].as_str()), (Some(true), Some("medium")));
    // An entry of another program, of a later time, and one of an earlier time that comes again.
    let user = database.query("INSERT INTO arx.users (email) VALUES ('ann@example.org') RETURNING user_id").unwrap();
    let stream = redis(port, &["KEYS", "*:writes"]);
    let stream = stream.lines().next().unwrap().to_owned();
    for (at, key) in [("1700000000000000", "a"), ("1600000000000000", "b"), ("1700000000000000", "a"), ("x", "c")] {
        redis(port, &["XADD", &stream, "*", "key", key, "user", &user, "at", at]);
    }
    let daemon = Daemon::start(&database, &variables, scratch.path());
    let stored = || {
        database.query(
            "SELECT string_agg(l.category || ' ' || l.severity || ' ' || l.label, ',') || ' '
                    || (SELECT extract(epoch FROM u.last_login)::bigint FROM arx.users AS u) || ' '
                    || (SELECT count(*) FROM arx.applied_writes)
               FROM arx.address_labels AS l",
        )
    };
    // Two labels and two logins; one label and one login are dead letters.
    let all = || Ok(stored()? == "exchange medium Ours 1700000000 4");
    assert!(wait_until(LIMIT, all).unwrap(), "{}: {}", stored().unwrap(), daemon.log());
    let counts = || Ok(sidecar(&database, &variables, &["cache", "stats"]).1.contains("0 queued, 2 dead letters"));
    assert!(wait_until(LIMIT, counts).unwrap(), "{}", sidecar(&database, &variables, &["cache", "stats"]).1);
    wait_for(&database, &variables, &one, &["\"kind\":\"service\"", "\"label\":\"Ours\""]);
    let (_, text) = sidecar(&database, &variables, &["profile", &one, "--json"]);
    assert!(!text.contains("\"pending\":true"), "{text}");
}

/// Runs a command of `session` with a token on standard input.
fn session(database: &Database<'_>, variables: &[(&str, &str)], arguments: &[&str], token: &str) -> (bool, String) {
    let mut command = database.sidecar().unwrap();
    command.envs(variables.iter().copied()).arg("session").args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The command may end before it has read the token.
    let _ = child.stdin.take().unwrap().write_all(token.as_bytes());
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn sessions_are_extended_by_use_and_revoked_everywhere() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("cache_sessions").unwrap();
    database.query("INSERT INTO arx.users (email) VALUES ('ann@example.org'), ('bob@example.org')").unwrap();
    let [port] = free_ports().unwrap();
    let (url, _) = start_redis(stack, "redis-sessions", port, &[]);
    let variables = [("ARX_REDIS_URL", url.as_str())];
    let run = |arguments: &[&str], token: &str| session(&database, &variables, arguments, token);
    let open = |email: &str| {
        let (is_open, token) = run(&["open", email], "");
        assert!(is_open, "{token}");
        // The log follows.
        token.lines().next().unwrap().to_owned()
    };
    let (is_open, text) = run(&["open", "eve@example.org"], "");
    assert!(!is_open && text.contains("eve@example.org"), "{text}");
    let (first, second, bobs) = (open("Ann@example.org"), open("ann@example.org"), open("bob@example.org"));
    assert_ne!(first, second);
    for (token, email) in [(&first, "ann@"), (&second, "ann@"), (&bobs, "bob@")] {
        let (is_valid, text) = run(&["check"], token);
        assert!(is_valid && text.contains(email), "{text}");
    }
    // Redis does not hold what opens a session.
    let keys = redis(port, &["KEYS", "*:sessions:*"]);
    let secret = first.split('.').nth(1).unwrap();
    for key in keys.lines() {
        assert!(!redis(port, &["HGETALL", key]).contains(secret), "{key}");
    }
    for wrong in ["", "x", &first[..first.len() - 1], &first.replace('.', ""), &format!("{first}0")] {
        assert!(!run(&["check"], wrong).0, "{wrong}");
    }
    // One session ends, then all of a user, and those of a user who is suspended.
    assert!(run(&["revoke"], &first).0 && !run(&["revoke"], &first).0);
    assert!(!run(&["check"], &first).0 && run(&["check"], &second).0);
    assert!(run(&["revoke", "--user", "ann@example.org"], "").0);
    assert!(!run(&["check"], &second).0 && run(&["check"], &bobs).0);
    database.query("UPDATE arx.users SET status = 'suspended' WHERE email LIKE 'bob%'").unwrap();
    assert!(!run(&["check"], &bobs).0);
    database.query("UPDATE arx.users SET status = 'active'").unwrap();
    assert!(!run(&["check"], &bobs).0, "a session comes back");
    // Use extends a session up to its longest lifetime; without use, it ends.
    let expiry = |token: &str| -> u64 {
        let key = redis(port, &["KEYS", "*:sessions:*"]).trim().to_owned();
        let found = redis(port, &["HVALS", &key]);
        assert!(run(&["check"], token).0 || found.is_empty());
        found.split_whitespace().nth(1).and_then(|time| time.parse().ok()).unwrap()
    };
    let third = open("ann@example.org");
    let before = expiry(&third);
    assert!(expiry(&third) > before, "use does not extend the session");
    let short = [("ARX_REDIS_URL", url.as_str()), ("ARX_SESSION_TTL_SECONDS", "1"), ("ARX_SESSION_MAX_SECONDS", "1")];
    let ended = || Ok(!session(&database, &short, &["check"], &third).0);
    assert!(wait_until(LIMIT, ended).unwrap(), "the session is older than it may be");
    let (is_open, fourth) = session(&database, &short, &["open", "ann@example.org"], "");
    assert!(is_open, "{fourth}");
    let key = redis(port, &["KEYS", "*:sessions:*"]).trim().to_owned();
    let is_over = || {
        let found = redis(port, &["HVALS", &key]);
        let expires: u64 = found.split_whitespace().nth(1).and_then(|time| time.parse().ok()).unwrap_or(0);
        let seconds: u64 = redis(port, &["TIME"]).lines().next().unwrap().parse()?;
        Ok(seconds * 1000 > expires)
    };
    assert!(wait_until(LIMIT, is_over).unwrap());
    assert!(!run(&["check"], &fourth).0, "a session that is not used does not end");
    // A key of another type is no session, and does not keep its user out.
    redis(port, &["SET", &key, "x"]);
    assert!(!run(&["check"], &fourth).0);
    assert!(run(&["check"], &open("ann@example.org")).0);
    // The last login arrives.
    let scratch = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&database, &variables, scratch.path());
    let logins = "SELECT count(*) FROM arx.users WHERE last_login BETWEEN created_at AND now()";
    assert!(wait_until(LIMIT, || Ok(database.query(logins)? == "2")).unwrap(), "{}", daemon.log());
}

#[test]
fn late_subscribers_get_all_events_or_learn_that_some_are_gone() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("cache_events").unwrap();
    fill(&database, 10);
    let [port] = free_ports().unwrap();
    let (url, _) = start_redis(stack, "redis-events", port, &[]);
    let variables = [("ARX_REDIS_URL", url.as_str())];
    let scratch = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&database, &variables, scratch.path());
    let cached = |number: u32| {
        Ok(sidecar(&database, &variables, &["profile", &wallet(number), "--json"]).1.contains("\"source\":\"cache\""))
    };
    assert!(wait_until(LIMIT, || cached(1)).unwrap(), "{}", daemon.log());
    let events = |after: Option<&str>| {
        let options = after.map_or_else(Vec::new, |id| vec!["--after", id]);
        let (output, text) = sidecar(&database, &variables, &[&["cache", "events"], &options[..]].concat());
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        (output.status.success(), lines.collect::<Vec<_>>())
    };
    let change = |number: u32| {
        let sql = "UPDATE arx.wallet_profiles SET analytics_profile = '{\"x\": 1}' WHERE wallet_address =";
        database.query(&format!("{sql} '{}'", wallet(number))).unwrap();
        let announced = || Ok(events(None).1.iter().any(|event| event.to_string().contains(&wallet(number))));
        assert!(wait_until(LIMIT, announced).unwrap(), "{}", daemon.log());
    };
    change(2);
    let (_, seen) = events(None);
    let last = seen.last().unwrap()["id"].as_str().unwrap().to_owned();
    change(3);
    change(4);
    // Those after the last one that was seen, in their order, and none twice.
    let (is_whole, later) = events(Some(&last));
    let places: Vec<Option<usize>> = [2, 3, 4]
        .map(|number| later.iter().position(|event| event["changes"]["wallets"].to_string().contains(&wallet(number))))
        .to_vec();
    assert!(is_whole && places[0].is_none() && places[1].is_some() && places[1] < places[2], "{later:?}");
    // The subscriber was away for too long.
    let key = redis(port, &["KEYS", "*:events"]).trim().to_owned();
    redis(port, &["XDEL", &key, &last]);
    let (is_whole, all) = events(Some(&last));
    assert!(!is_whole && all[0]["missing"] == true && all.len() > later.len(), "{all:?}");
    let (output, text) = sidecar(&database, &variables, &["cache", "events", "--after", "yesterday"]);
    assert!(!output.status.success() && text.contains("yesterday"), "{text}");
}
