//! `router.overhead_p50`: queries of the catalogue over HTTP, compared with the same statements
//! sent directly to the store that the router asks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arx_stack::Stack;
use arx_stack::clickhouse::ClickHouse;
use arx_stack::process::wait_until;
use serde_json::Value;

use crate::feed::daemon::{Daemon, LIMIT};
use crate::report::Measurement;
use crate::timing::{in_turn, millis};

pub const CASE: &str = "router.overhead_p50";

const ROWS: u32 = 1_000_000;
const WALLETS: u32 = 50_000;

/// Calls of each side; each asks for another range, so that no answer is a kept one.
const CALLS: usize = 200;

const STATEMENTS: [(&str, &str); 5] = [
    ("largest_transfers", include_str!("../../sql/queries/largest_transfers.clickhouse.sql")),
    ("network_totals", include_str!("../../sql/queries/network_totals.clickhouse.sql")),
    ("top_counterparties", include_str!("../../sql/queries/top_counterparties.clickhouse.sql")),
    ("top_wallets", include_str!("../../sql/queries/top_wallets.clickhouse.sql")),
    ("wallet_activity", include_str!("../../sql/queries/wallet_activity.clickhouse.sql")),
];

/// A query with its arguments.
struct Question {
    query: &'static str,
    statement: &'static str,
    /// Names and values.
    arguments: Vec<(&'static str, String)>,
}

impl Question {
    /// The call with a number: queries in turn, each time with another range.
    fn numbered(number: usize) -> Option<Self> {
        let (query, statement) = *STATEMENTS.get(number % STATEMENTS.len())?;
        let number = u32::try_from(number).ok()?;
        let day = |days: u32| {
            let first = chrono::NaiveDate::from_ymd_opt(2023, 1, 1)?;
            first.checked_add_days(chrono::Days::new(days.into())).map(|day| day.to_string())
        };
        let mut arguments =
            vec![("network", "ethereum".to_owned()), ("from", day(number % 40)?), ("to", day(365 - number / 40)?)];
        if ["top_counterparties", "wallet_activity"].contains(&query) {
            arguments.push(("address", format!("0x{:040x}", 1 + number % WALLETS)));
        }
        if !["network_totals", "wallet_activity"].contains(&query) {
            arguments.push(("limit", "100".to_owned()));
        }
        Some(Self { query, statement, arguments })
    }

    fn pairs(&self, prefix: &str) -> String {
        let pairs: Vec<String> = self.arguments.iter().map(|(name, value)| format!("{prefix}{name}={value}")).collect();
        pairs.join("&")
    }
}

/// Runs the measurement.
///
/// # Errors
/// When a side fails, or the answers differ in their number of rows.
pub fn measure(stack: &Stack) -> Result<Measurement> {
    eprintln!("  preparing {ROWS} transactions");
    let database = stack.database("router")?;
    database.query(&format!(
        "SELECT arx.ensure_partitions('arx.transactions', '2023-01-01', '2024-01-01');
         INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
         SELECT 'ethereum', 't' || n, n, timestamptz '2023-01-01' + n * interval '31 seconds',
                '0x' || lpad(to_hex(1 + n % {WALLETS}), 40, '0'), '0x' || lpad(to_hex(1 + n * 7919 % {WALLETS}), 40, '0'),
                n % 997, 'confirmed' FROM generate_series(1::bigint, {ROWS}) AS n"
    ))?;
    let engine = ClickHouse::start(stack, &database)?;
    let daemon = Daemon::start(stack, &database)?;
    let log = stack.folder().join(format!("daemon-{}.log", database.name()));
    let text = std::fs::read_to_string(&log).context("read the daemon's log")?;
    let addresses = text.split_whitespace().filter_map(|word| word.strip_prefix("address="));
    let address = addresses.filter_map(|word| word.parse().ok()).next_back().context("the daemon has no address")?;
    let is_ready =
        || Ok(get(address, "/v1/query/top_wallets/explain?network=ethereum")?["stores"][0]["eligible"] == true);
    ensure!(wait_until(LIMIT, is_ready)?, "ClickHouse does not become eligible");

    let question = |call: usize| Question::numbered(call).context("no such question");
    let (mut routed_rows, mut direct_rows) = (vec![0; CALLS], vec![0; CALLS]);
    let medians = in_turn(
        CALLS,
        |call| {
            let question = question(call)?;
            let path = format!("/v1/query/{}?store=clickhouse&max_age=3600&{}", question.query, question.pairs(""));
            let start = Instant::now();
            let answer = get(address, &path)?;
            let elapsed = millis(start);
            ensure!(answer["store"] == "clickhouse", "{path}: {answer}");
            if let (Some(count), Some(rows)) = (routed_rows.get_mut(call), answer["rows"].as_array()) {
                *count = rows.len();
            }
            Ok(elapsed)
        },
        |call| {
            let question = question(call)?;
            let settings = format!(
                "database=arx&default_format=JSONEachRow&do_not_merge_across_partitions_select_final=1&{}",
                question.pairs("param_")
            );
            let start = Instant::now();
            let text = engine.query_with(&settings, question.statement)?;
            let elapsed = millis(start);
            if let Some(count) = direct_rows.get_mut(call) {
                *count = text.lines().count();
            }
            Ok(elapsed)
        },
    )?;
    ensure!(routed_rows == direct_rows, "rows of the calls differ: {routed_rows:?} and {direct_rows:?}");
    ensure!(direct_rows.iter().all(|rows| *rows > 0), "a call has no rows: {direct_rows:?}");
    daemon.stop()?;
    database.drop_now()?;
    let setting = format!(
        "{CALLS} calls of five queries, each over another range of about a year, of {ROWS} transactions between {WALLETS} \
         wallets. Ours goes through `GET /v1/query/…` of `arx-sidecar run`, a connection each, to ClickHouse; the peer sends \
         the same statement and parameters to ClickHouse over an open connection. Median of all calls."
    );
    Ok(Measurement::new(CASE, medians, "ms a call", false).against("the query sent directly", setting))
}

fn get(address: SocketAddr, path: &str) -> Result<Value> {
    let mut stream = TcpStream::connect(address).context("connect to the daemon")?;
    stream.set_nodelay(true).context("set the connection up")?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).context("send a request")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read an answer")?;
    let (_, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
    serde_json::from_str(body).with_context(|| format!("read {body}"))
}
