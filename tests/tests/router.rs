//! The router answers the queries of the catalogue from whichever store fits: the same rows from
//! each that says it is exact, never older than asked, and from another one if a store is down,
//! slow or behind.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use arx_stack::clickhouse::ClickHouse;
use arx_stack::process::wait_until;
use arx_stack::{Database, Stack};
use arx_tests::daemon::{Daemon, LIMIT, get};
use arx_tests::redis::wallet;
use serde_json::{Value, json};

/// Interval of the feed, so that the tests decide what ClickHouse has.
const NEVER: &str = "86400000";

const FORWARDS: u8 = 0;
const HANGS: u8 = 1;
const REFUSES: u8 = 2;

/// The way to a server, which can be made to hang, or to be closed.
struct Gate {
    port: u16,
    state: Arc<AtomicU8>,
}

impl Gate {
    fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (port, state) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU8::new(FORWARDS)));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.load(Ordering::SeqCst) == REFUSES {
                    continue;
                }
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to, state) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&shared));
                    std::thread::spawn(move || forward(from, to, &state));
                }
            }
        });
        Self { port, state }
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, state: &AtomicU8) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while state.load(Ordering::SeqCst) == HANGS {
            std::thread::sleep(Duration::from_millis(10));
        }
        if state.load(Ordering::SeqCst) == REFUSES || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// A running daemon, and the answers of its router.
struct Router {
    daemon: Daemon,
    address: SocketAddr,
}

impl Router {
    fn start(database: &Database<'_>, variables: &[(&str, &str)], folder: &Path) -> Self {
        let daemon = Daemon::start(database, variables, folder);
        let address = daemon.address();
        Self { daemon, address }
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let (status, head, answer) = get(self.address, path);
        if status >= 400 && !answer.is_null() {
            assert!(head.contains("application/problem+json"), "{head}");
        }
        (status, answer)
    }

    fn query(&self, query: &str, parameters: &str) -> (u16, Value) {
        self.get(&format!("/v1/query/{query}?network=ethereum&{parameters}"))
    }

    /// The answer, which must be one.
    fn answer(&self, query: &str, parameters: &str) -> Value {
        let (status, answer) = self.query(query, parameters);
        assert_eq!(status, 200, "{query} {parameters}: {answer}");
        answer
    }

    /// Waits until ClickHouse has what PostgreSQL has.
    fn wait_for_clickhouse(&self) {
        let mut last = Value::Null;
        let is_eligible = || {
            last = self.get("/v1/query/top_wallets/explain?network=ethereum&exact=true&max_age=0").1;
            Ok(last["stores"][0]["eligible"] == true)
        };
        assert!(wait_until(LIMIT, is_eligible).unwrap(), "{last}: {}", self.daemon.log());
    }
}

const WALLETS: u32 = 40;

/// Transfers of every kind over 60 days.
fn fill(database: &Database<'_>) {
    let address = |expression: &str| format!("'0x' || lpad(to_hex(1 + ({expression}) % {WALLETS}), 40, '0')");
    let (a, b, c) = (address("n * 7919"), address("n * 104729 / 13"), address("n / 3"));
    database
        .query(&format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value,
                                           value_usd, gas_price, status)
             SELECT 'ethereum', 't' || n, n, timestamptz '2024-01-01 00:00+00' + n * interval '37 minutes 0.000001 seconds', {a},
                    CASE WHEN n % 17 <> 0 THEN {b} END, n % 11 * 1.000000000000000001, CASE WHEN n % 2 = 0 THEN n % 100 END,
                    CASE WHEN n % 3 <> 0 THEN 9007199254740993 - n END,
                    (ARRAY['confirmed', 'failed', 'unknown', 'pending'])[1 + n % 4]::arx.tx_status_enum
               FROM generate_series(1, 2400) AS n;
             INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, \"timestamp\", from_address,
                                                 to_address, value, succeeded)
             SELECT 'ethereum', 't' || n, 0, n, timestamptz '2024-01-01 00:00+00' + n * interval '37 minutes 0.000001 seconds',
                    CASE WHEN n % 5 <> 0 THEN {b} END, {c}, n % 7, CASE WHEN n % 9 <> 0 THEN n % 6 <> 0 END
               FROM generate_series(1, 2400, 3) AS n;
             INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, \"timestamp\", token_address,
                                              from_address, to_address, amount)
             SELECT 'ethereum', 't' || n, n % 4, n, timestamptz '2024-01-01 00:00+00' + n * interval '37 minutes 0.000001 seconds',
                    {c}, {a}, {b}, power(10::numeric, n % 60) FROM generate_series(1, 2400, 2) AS n;
             INSERT INTO arx.risk_score_history (network, address, score, band, state, model_version)
             SELECT 'ethereum', '0x' || lpad(to_hex(n), 40, '0'), n, CASE WHEN n % 3 = 0 THEN 'low' ELSE 'high' END, 'scored', 'x'
               FROM generate_series(1, 30) AS n"
        ))
        .unwrap();
}

/// Parameters of a query, chosen at random.
fn random_parameters(random: &mut fastrand::Rng, query: &Value) -> String {
    let from = random.u32(0..60);
    let to = from + random.u32(1..30);
    let day = |number: u32| format!("2024-{:02}-{:02}", 1 + number / 30, 1 + number % 28);
    let (from, to) = (day(from).min(day(to)), day(from).max(day(to)));
    let to = if from == to { "2024-12-31".to_owned() } else { to };
    let value = |name: &str, random: &mut fastrand::Rng| match name {
        "address" => Some(wallet(random.u32(1..=WALLETS + 1))),
        "token" => random.bool().then(|| wallet(random.u32(1..=WALLETS))),
        "from" => Some(from.clone()),
        "to" => Some(to.clone()),
        "limit" => random.bool().then(|| random.u32(1..50).to_string()),
        _ => None,
    };
    let names = query["parameters"].as_array().unwrap().iter().map(|parameter| parameter["name"].as_str().unwrap());
    let given: Vec<String> = names.filter_map(|name| Some(format!("{name}={}", value(name, random)?))).collect();
    given.join("&")
}

#[test]
fn the_router_gives_the_same_rows_from_every_store_and_falls_over() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("router").unwrap();
    fill(&database);
    let engine = ClickHouse::start_with(stack, "router-clickhouse", &[]).unwrap();
    let gate = Gate::to(engine.http_port());
    let (url, password) = (format!("http://127.0.0.1:{}", gate.port), engine.password().to_owned());
    let variables = [
        ("ARX_CLICKHOUSE_URL", url.as_str()),
        ("ARX_CLICKHOUSE_USER", "arx"),
        ("ARX_CLICKHOUSE_PASSWORD", &password),
        ("ARX_FEED_INTERVAL_MILLISECONDS", NEVER),
        ("ARX_FEED_IDLE_MILLISECONDS", NEVER),
        ("ARX_QUERY_TIMEOUT_MILLISECONDS", "4000"),
    ];
    let scratch = tempfile::tempdir().unwrap();
    let daemon = Router::start(&database, &variables, scratch.path());
    daemon.wait_for_clickhouse();
    same_rows(&daemon);
    answers_are_kept_until_their_facts_change(&daemon, &database);
    clickhouse_that_lags_answers_only_those_who_accept_it(&daemon, &database);
    rows_that_a_reader_may_not_see_are_shown_by_no_store(&daemon, &database);
    another_store_answers(&daemon, &gate);
    tables_of_another_database_are_not_read(&daemon, &engine);
}

fn same_rows(daemon: &Router) {
    let (_, catalogue) = daemon.get("/v1/query");
    let mut random = fastrand::Rng::with_seed(7);
    let (mut compared, mut exact) = (0, 0);
    for query in catalogue.as_array().unwrap() {
        let name = query["query"].as_str().unwrap();
        for _ in 0..12 {
            let parameters = random_parameters(&mut random, query);
            let record = daemon.answer(name, &format!("{parameters}&store=postgresql&max_age=0"));
            assert_eq!((&record["exact"], &record["read_from"]), (&json!(true), &json!("postgresql")), "{record}");
            let (status, other) = daemon.query(name, &format!("{parameters}&store=clickhouse&max_age=0"));
            if query["clickhouse"].is_null() {
                assert_eq!(status, 503, "{other}");
                continue;
            }
            assert_eq!((status, &other["read_from"]), (200, &json!("clickhouse")), "{other}");
            compared += 1;
            if other["exact"] == true {
                exact += 1;
                assert_eq!(record["rows"], other["rows"], "{name} {parameters}");
            } else {
                assert_eq!(name, "token_totals", "{other}");
                // Every transfer of this test has its transaction.
                assert_eq!(record["rows"], other["rows"], "{name} {parameters}");
                let (status, refused) = daemon.query(name, &format!("{parameters}&store=clickhouse&exact=true"));
                assert!(status == 503 && refused.to_string().contains("lacks"), "{refused}");
            }
        }
    }
    assert!(compared >= 60 && exact >= 50, "{exact} of {compared}");
}

fn answers_are_kept_until_their_facts_change(daemon: &Router, database: &Database<'_>) {
    let parameters = "from=2024-01-01&to=2024-02-01";
    let first = daemon.answer("top_wallets", &format!("{parameters}&max_age=0"));
    assert!(["clickhouse", "postgresql"].map(Value::from).contains(&first["store"]), "{first}");
    let again = daemon.answer("top_wallets", parameters);
    assert_eq!((&again["store"], &again["rows"]), (&json!("local"), &first["rows"]), "{again}");
    // Scores are other facts.
    let bands = daemon.answer("risk_bands", "max_age=0");
    database
        .query(
            "INSERT INTO arx.risk_score_history (network, address, score, band, state, model_version)
             VALUES ('ethereum', 'x', 1, 'low', 'scored', 'x')",
        )
        .unwrap();
    let at_once = daemon.answer("risk_bands", "max_age=0");
    assert_ne!(at_once["rows"], bands["rows"]);
    let unchanged = || Ok(daemon.answer("top_wallets", parameters)["store"] == "local");
    assert!(wait_until(LIMIT, unchanged).unwrap(), "the transfers have not changed");
    let own = database
        .query(&format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
             VALUES ('ethereum', 'large', 9999, '2024-01-15', '{}', '{}', 1000000, 'confirmed') RETURNING pg_current_snapshot()",
            wallet(1),
            wallet(2)
        ))
        .unwrap();
    assert!(!own.is_empty());
    let snapshot = database.query("SELECT pg_current_snapshot()").unwrap();
    let read = daemon.answer("top_wallets", &format!("{parameters}&not_older_than={snapshot}&max_age=3600"));
    let received = read["rows"][0]["received"].as_str().unwrap();
    assert!(received.starts_with("1000") && read["rows"] != first["rows"], "own writes: {read}");
    let shown = || Ok(daemon.answer("top_wallets", parameters)["rows"] == read["rows"]);
    assert!(wait_until(LIMIT, shown).unwrap(), "an answer outlives the age that it may have");
    let (status, ahead) = daemon.query("top_wallets", "not_older_than=99999999:99999999:");
    assert!(status == 400 && ahead.to_string().contains("has not reached"), "{ahead}");
    let (status, _) = daemon.query("top_wallets", "not_older_than=now");
    assert_eq!(status, 400);
}

fn clickhouse_that_lags_answers_only_those_who_accept_it(daemon: &Router, database: &Database<'_>) {
    let parameters = "from=2024-01-01&to=2024-12-31";
    database.query("DELETE FROM arx.transactions WHERE tx_hash = 't1'").unwrap();
    let (status, refused) = daemon.query("network_totals", &format!("{parameters}&max_age=0&store=clickhouse"));
    assert!(status == 503 && refused["detail"].as_str().unwrap().contains(" s old"), "{refused}");
    let fresh = daemon.answer("network_totals", &format!("{parameters}&max_age=0"));
    assert_eq!(fresh["store"], "postgresql", "{fresh}");
    let old = daemon.answer("network_totals", &format!("{parameters}&max_age=3600&store=clickhouse"));
    assert!(old["age_seconds"].as_f64().unwrap() > 0.0 && old["rows"] != fresh["rows"], "{old}");
    let (_, explained) =
        daemon.get(&format!("/v1/query/network_totals/explain?network=ethereum&{parameters}&max_age=0"));
    assert_eq!(explained["stores"][1]["chosen"], true, "{explained}");
    assert_eq!(explained["stores"][0]["eligible"], false, "{explained}");
}

fn rows_that_a_reader_may_not_see_are_shown_by_no_store(daemon: &Router, database: &Database<'_>) {
    let parameters = "from=2024-01-01&to=2024-12-31&max_age=3600";
    let statements = [
        ("REVOKE SELECT ON arx.transactions FROM arx_reader", "GRANT SELECT ON arx.transactions TO arx_reader"),
        (
            "ALTER TABLE arx.transactions ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE arx.transactions DISABLE ROW LEVEL SECURITY",
        ),
    ];
    for (forbid, permit) in statements {
        daemon.answer("network_totals", parameters);
        database.query(forbid).unwrap();
        let is_forbidden = || Ok(daemon.query("network_totals", parameters).0 == 403);
        assert!(wait_until(LIMIT, is_forbidden).unwrap(), "{forbid}");
        for store in ["clickhouse", "postgresql"] {
            let (status, refused) = daemon.query("network_totals", &format!("{parameters}&store={store}"));
            assert_eq!(status, 403, "{refused}");
        }
        database.query(permit).unwrap();
        let is_permitted = || Ok(daemon.query("network_totals", parameters).0 == 200);
        assert!(wait_until(LIMIT, is_permitted).unwrap(), "{permit}");
    }
}

fn another_store_answers(daemon: &Router, gate: &Gate) {
    // A long range goes to ClickHouse.
    let mut day = 0;
    let mut parameters = || {
        day += 1;
        format!("from=2023-01-{:02}&to=2024-12-31&max_age=3600", day % 28 + 1)
    };
    let is_clickhouse = || Ok(daemon.answer("network_totals", &parameters())["store"] == "clickhouse");
    assert!(wait_until(LIMIT, is_clickhouse).unwrap());
    for state in [REFUSES, HANGS] {
        gate.set(state);
        let started = Instant::now();
        for limit in [1, 2, 3] {
            let answer = daemon.answer(
                "top_wallets",
                &format!("from=2023-01-01&to=2024-12-31&max_age=3600&limit={}", limit + 10 * u32::from(state)),
            );
            assert_eq!(answer["store"], "postgresql", "{answer}");
        }
        assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
        gate.set(FORWARDS);
        let is_back = || {
            let (status, answer) =
                daemon.query("network_totals", "from=2023-02-01&to=2024-12-31&max_age=3600&store=clickhouse");
            Ok(status == 200 && answer["read_from"] == "clickhouse")
        };
        assert!(wait_until(LIMIT, is_back).unwrap());
    }
}

fn tables_of_another_database_are_not_read(daemon: &Router, engine: &ClickHouse) {
    engine
        .query(
            "INSERT INTO arx.feed_marks (source, slot, attempt, position, database, timeline)
             VALUES ('1/1', 64, 1000000, '', 'stranger', 1)",
        )
        .unwrap();
    let mut last = Value::Null;
    let is_refused = || {
        let (status, answer) =
            daemon.query("top_wallets", "from=2024-01-01&to=2024-12-31&max_age=3600&limit=50&store=clickhouse");
        last = answer;
        Ok(status == 503 && last.to_string().contains("stranger"))
    };
    assert!(wait_until(LIMIT, is_refused).unwrap(), "{last}");
    let answer = daemon.answer("top_wallets", "from=2024-01-01&to=2024-12-31&max_age=3600&limit=49");
    assert_eq!(answer["store"], "postgresql", "{answer}");
}

#[test]
fn hostile_requests_get_a_problem_and_change_nothing() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("router_hostile").unwrap();
    fill(&database);
    let scratch = tempfile::tempdir().unwrap();
    let daemon = Router::start(&database, &[], scratch.path());
    daemon.wait_for_clickhouse();
    let rows = || database.query("SELECT count(*) FROM arx.transactions").unwrap();
    let before = rows();
    let texts = [
        "' OR 1=1 --",
        "'; DROP TABLE arx.transactions; --",
        "\\'; SELECT 1 /*",
        "{network:String}",
        "$1",
        "?",
        "??",
        "%",
        "\u{0}",
        "\t\n",
        "0x' UNION ALL SELECT 1",
        "../../etc/passwd",
        "ethereum\\",
        "🦀",
        "NULL",
        "\\N",
        "-1",
        "1e308",
        "NaN",
    ];
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let one = wallet(1);
    for query in ["network_totals", "wallet_activity", "token_totals", "top_wallets"] {
        for text in texts {
            for name in [
                "network",
                "address",
                "token",
                "from",
                "to",
                "limit",
                "exact",
                "max_age",
                "not_older_than",
                "store",
                "x",
            ] {
                let mut parameters = vec![
                    ("network", "ethereum".to_owned()),
                    ("from", "2024-01-01".into()),
                    ("to", "2024-02-01".into()),
                ];
                if query == "wallet_activity" {
                    parameters.push(("address", one.clone()));
                }
                parameters.retain(|(other, _)| *other != name);
                parameters.push((name, encoded(text)));
                let path: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let (status, answer) = daemon.get(&format!("/v1/query/{query}?{}", path.join("&")));
                assert!(
                    status == 400 && !answer["detail"].as_str().unwrap().is_empty(),
                    "{query} {name} {text:?}: {status} {answer}"
                );
            }
        }
    }
    // Where any text is an address, it is a value for every store.
    database.query("SELECT arx.add_network('anything', 'opaque', 'ANY', 18)").unwrap();
    for text in ["'OR'1'='1", "\\';--", "a\\", "{address:String}", "?", "$2", "\"x\"", "x\\'y", "%27"] {
        let address = encoded(text);
        for store in ["clickhouse", "postgresql"] {
            let path =
                format!("/v1/query/wallet_activity?network=anything&address={address}&store={store}&max_age=3600");
            let (status, answer) = daemon.get(&path);
            assert!(status == 200 && answer["rows"] == json!([]), "{store} {text}: {answer}");
        }
    }
    assert_eq!(daemon.get("/v1/query/passwords?network=ethereum").0, 404);
    assert_eq!(daemon.get("/v1/query/%2e%2e%2fpasswords").0, 404);
    assert_eq!(daemon.get("/v1/query/top_wallets").0, 400);
    assert_eq!(daemon.get("/v1/query/top_wallets?network=ethereum&network=bitcoin").0, 400);
    assert_eq!(daemon.query("top_wallets", "from=1924-01-01&to=2024-01-01").0, 400);
    assert_eq!(daemon.query("top_wallets", "from=2024-01-02&to=2024-01-01").0, 400);
    let (status, _) = daemon.query("top_wallets", &format!("token={}", "x".repeat(10 << 20)));
    assert!(status == 0 || (400..500).contains(&status), "{status}");
    let (_, document) = daemon.get("/v1/openapi.json");
    assert!(document["paths"]["/v1/query/{name}"].is_object() && document["paths"]["/v1/wallets"].is_object());
    // Many clients at a time: each gets an answer, or is asked to come again.
    let answered = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..24)
            .map(|client| {
                let daemon = &daemon;
                scope.spawn(move || {
                    let ask = |number: u32| {
                        let parameters =
                            format!("from=2024-01-01&to=2024-03-01&limit={}&max_age=0", 1 + (client + number) % 9);
                        daemon.query("top_wallets", &parameters).0
                    };
                    (0..5).map(ask).collect::<Vec<u16>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<u16>>()
    });
    assert!(answered.iter().all(|status| [200, 503].contains(status)), "{answered:?}");
    assert!(answered.iter().filter(|status| **status == 200).count() > 60, "{answered:?}");
    assert_eq!(rows(), before);
}
