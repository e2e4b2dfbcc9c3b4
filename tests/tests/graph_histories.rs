//! After every step of a random history of concurrent sessions, the graph gives each session the
//! answer of plain SQL in the same snapshot.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use arx_stack::{Database, Stack};
use arx_tests::fixtures::TESTNET;
use arx_tests::history;
use proptest::prelude::*;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};

const SESSIONS: usize = 4;

/// Together 2,400 steps.
const HISTORIES: u32 = 6;
const STEPS: usize = 400;

/// Transactions that are prepared at a time.
const MAX_PREPARED: u32 = 2;

/// One step of a session. Rows, wallets and times are small numbers, so that sessions touch the
/// same ones.
#[derive(Debug, Clone)]
enum Step {
    Begin(usize, Isolation),
    Commit(usize),
    Rollback(usize),
    Savepoint(usize),
    RollbackTo(usize),
    Release(usize),
    Insert(usize, Vec<(u8, u8, u8)>),
    InsertToken(usize, u8, u8, u8),
    /// Sender and receiver; 9 stands for a reward, and for a burn.
    InsertInternal(usize, u8, u8, u8),
    UpdateInternal(usize, InternalChange, u8),
    DeleteInternal(usize, u8),
    Update(usize, Change, u8),
    Delete(usize, u8),
    DeleteToken(usize, u8),
    Truncate(usize, u8),
    Refresh(usize, bool),
    /// Inserts into a partition by its own name.
    InsertDirect(usize, u8, u8, u8),
    /// Inserts as a replicating session does, which fires no ordinary trigger.
    InsertReplica(usize, u8, u8, u8),
    /// Prepares the transaction of a session, to be committed or rolled back by another one.
    Prepare(usize),
    EndPrepared(bool),
    /// The register of writers is removed, as by a careless administrator.
    LoseRegister,
    /// Adds or drops a column of a user.
    AlterColumn(bool),
    /// Every session ends its transaction.
    EndAll,
    Detach(u8),
    Attach(u8),
    Drop(u8),
}

#[derive(Debug, Clone, Copy)]
enum Isolation {
    ReadCommitted,
    RepeatableRead,
    ReadOnly,
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Receiver,
    Month,
    Value,
    Status,
    /// A column that the graph does not have.
    Price,
}

#[derive(Debug, Clone, Copy)]
enum InternalChange {
    Ends,
    Value,
    Order,
    Outcome,
}

fn steps() -> impl Strategy<Value = Vec<(Step, Question)>> {
    let session = 0..SESSIONS;
    let isolation = prop_oneof![
        2 => Just(Isolation::ReadCommitted),
        2 => Just(Isolation::RepeatableRead),
        1 => Just(Isolation::ReadOnly),
    ];
    let change = prop_oneof![
        Just(Change::Receiver),
        Just(Change::Month),
        Just(Change::Value),
        Just(Change::Status),
        Just(Change::Price),
    ];
    let row = || (0..9_u8, 0..10_u8, 0..6_u8);
    let internal = || (0..10_u8, 0..10_u8, 0..6_u8);
    let internal_change = prop_oneof![
        Just(InternalChange::Ends),
        Just(InternalChange::Value),
        Just(InternalChange::Order),
        Just(InternalChange::Outcome),
    ];
    let step = prop_oneof![
        6 => (session.clone(), isolation).prop_map(|(s, i)| Step::Begin(s, i)),
        5 => session.clone().prop_map(Step::Commit),
        3 => session.clone().prop_map(Step::Rollback),
        3 => session.clone().prop_map(Step::Savepoint),
        3 => session.clone().prop_map(Step::RollbackTo),
        1 => session.clone().prop_map(Step::Release),
        9 => (session.clone(), prop::collection::vec(row(), 1..6)).prop_map(|(s, rows)| Step::Insert(s, rows)),
        3 => (session.clone(), row()).prop_map(|(s, (from, to, time))| Step::InsertToken(s, from, to, time)),
        4 => (session.clone(), internal()).prop_map(|(s, (from, to, time))| Step::InsertInternal(s, from, to, time)),
        2 => (session.clone(), internal_change, any::<u8>()).prop_map(|(s, change, row)| Step::UpdateInternal(s, change, row)),
        2 => (session.clone(), any::<u8>()).prop_map(|(s, row)| Step::DeleteInternal(s, row)),
        4 => (session.clone(), change, any::<u8>()).prop_map(|(s, change, row)| Step::Update(s, change, row)),
        4 => (session.clone(), any::<u8>()).prop_map(|(s, row)| Step::Delete(s, row)),
        2 => (session.clone(), any::<u8>()).prop_map(|(s, row)| Step::DeleteToken(s, row)),
        1 => (session.clone(), 0..5_u8).prop_map(|(s, what)| Step::Truncate(s, what)),
        4 => (session.clone(), any::<bool>()).prop_map(|(s, again)| Step::Refresh(s, again)),
        3 => (session.clone(), row()).prop_map(|(s, (from, to, time))| Step::InsertDirect(s, from, to, time)),
        2 => (session.clone(), row()).prop_map(|(s, (from, to, time))| Step::InsertReplica(s, from, to, time)),
        2 => session.clone().prop_map(Step::Prepare),
        2 => any::<bool>().prop_map(Step::EndPrepared),
        1 => Just(Step::LoseRegister),
        1 => any::<bool>().prop_map(Step::AlterColumn),
        1 => Just(Step::EndAll),
        1 => (0..3_u8).prop_map(Step::Detach),
        2 => (0..3_u8).prop_map(Step::Attach),
        1 => (0..3_u8).prop_map(Step::Drop),
    ];
    prop::collection::vec((step, questions()), STEPS)
}

/// A query after a step, and the session that runs it in addition to the one that took the step.
#[derive(Debug, Clone)]
struct Question {
    session: usize,
    wallet: u8,
    depth: u8,
    direction: &'static str,
    asset: &'static str,
    window: Option<(u8, u8)>,
    min_strength: u8,
    include_failed: bool,
}

fn questions() -> impl Strategy<Value = Question> {
    let direction = prop_oneof![3 => Just("out"), 2 => Just("in"), 1 => Just("both")];
    let asset = prop_oneof![4 => Just("native"), 2 => Just("all"), 1 => Just("tokens"), 1 => Just("usd")];
    let window = prop::option::weighted(0.2, (0..4_u8, 4..7_u8));
    let min_strength = prop_oneof![4 => Just(1_u8), 1 => Just(2)];
    (0..SESSIONS, 0..9_u8, 1..5_u8, direction, asset, window, min_strength, any::<bool>()).prop_map(
        |(session, wallet, depth, direction, asset, window, min_strength, include_failed)| Question {
            include_failed,
            session,
            wallet,
            depth,
            direction,
            asset,
            window,
            // Strength counts per asset and direction. The plain query below does so for a single
            // one only.
            min_strength: if direction == "both" || matches!(asset, "all" | "tokens") { 1 } else { min_strength },
        },
    )
}

/// Times in three months with a partition each, and in the default partition.
fn time(number: u8) -> &'static str {
    ["2024-01-10", "2024-01-20", "2024-02-01", "2024-02-29", "2024-03-15", "2031-01-01", "2031-01-02"]
        [usize::from(number) % 7]
}

const MONTHS: [(&str, &str, &str); 3] = [
    ("transactions_2024_01", "2024-01-01", "2024-02-01"),
    ("transactions_2024_02", "2024-02-01", "2024-03-01"),
    ("transactions_2024_03", "2024-03-01", "2024-04-01"),
];

impl Question {
    /// Returns the query that compares the graph with plain SQL: the numbers of missing, extra and
    /// expected rows, and the rows of both.
    fn comparison(&self) -> String {
        let edges = match self.asset {
            "native" => "SELECT * FROM native",
            "all" => "SELECT * FROM native UNION ALL SELECT * FROM tokens",
            "tokens" => "SELECT * FROM tokens",
            _ => "SELECT * FROM tokens WHERE token = 'usd'",
        };
        let single = matches!(self.asset, "native" | "usd");
        let value = if single { "sum(e.value)" } else { "NULL::numeric" };
        let ways = match self.direction {
            "out" => "SELECT a, b, value, time FROM edges",
            "in" => "SELECT b, a, value, time FROM edges",
            _ => "SELECT a, b, value, time FROM edges UNION ALL SELECT b, a, value, time FROM edges",
        };
        let (mut window, mut arguments) = ("true".to_owned(), String::new());
        if let Some((since, until)) = self.window {
            let (since, until) = (time(since), time(until));
            window = format!("time >= '{since}' AND time < '{until}'");
            arguments = format!(", since => '{since}', until => '{until}'");
        }
        let columns =
            "target, connection_strength, depth, strength_rank, total_value, first_seen, last_seen, predecessor";
        let graph = format!(
            "SELECT {columns} FROM arx.wallet_connections('w{}', 'testnet', {}, '{}', '{}', min_strength => {}, \
             include_failed => {}{arguments})",
            self.wallet, self.depth, self.direction, self.asset, self.min_strength, self.include_failed
        );
        // A failed transfer is a contact if it is asked for, and never moves value.
        let counts = if self.include_failed { "true" } else { "NOT failed" };
        format!(
            "WITH RECURSIVE native AS MATERIALIZED (
                SELECT a, b, CASE WHEN failed THEN 0 ELSE value END AS value, time, '' AS token
                  FROM (SELECT from_address AS a, to_address AS b, value, \"timestamp\" AS time, status = 'failed' AS failed
                          FROM arx.transactions WHERE network = 'testnet'
                        UNION ALL
                        SELECT from_address, to_address, value, \"timestamp\", succeeded IS FALSE
                          FROM arx.internal_transfers WHERE network = 'testnet') AS t
                 WHERE a IS NOT NULL AND b IS NOT NULL AND {counts}
            ), tokens AS MATERIALIZED (
                SELECT from_address AS a, to_address AS b, amount AS value, \"timestamp\" AS time, token_address AS token
                  FROM arx.token_transfers WHERE network = 'testnet'
            ), edges AS MATERIALIZED (
                SELECT *, count(*) OVER (PARTITION BY a, b, token) AS strength FROM ({edges}) AS e WHERE {window}
            ), ways (a, b, value, time) AS MATERIALIZED ({ways} WHERE strength >= {least}), reached AS (
                SELECT 'w{wallet}' AS wallet, 0 AS depth
                UNION SELECT w.b, r.depth + 1 FROM reached AS r JOIN ways AS w ON w.a = r.wallet WHERE r.depth < {depth}
            ), nearest AS (SELECT wallet, min(depth) AS depth FROM reached GROUP BY wallet),
            steps AS (
                SELECT n.wallet AS target, p.wallet AS predecessor, n.depth, count(*) AS transfers, {value} AS value,
                       min(e.time) AS first, max(e.time) AS last
                  FROM nearest AS n JOIN ways AS e ON e.b = n.wallet JOIN nearest AS p ON p.wallet = e.a AND p.depth = n.depth - 1
                 GROUP BY n.wallet, p.wallet, n.depth
            ), expected AS (
                SELECT target, sum(transfers)::bigint AS connection_strength, depth,
                       rank() OVER (PARTITION BY depth ORDER BY sum(transfers) DESC) AS strength_rank,
                       sum(value) AS total_value, min(first) AS first_seen, max(last) AS last_seen,
                       (array_agg(predecessor ORDER BY transfers DESC, predecessor COLLATE \"C\"))[1] AS predecessor
                  FROM steps GROUP BY target, depth
            ), graph AS MATERIALIZED ({graph})
            SELECT (SELECT count(*) FROM (SELECT {columns} FROM expected EXCEPT ALL SELECT {columns} FROM graph) AS d),
                   (SELECT count(*) FROM (SELECT {columns} FROM graph EXCEPT ALL SELECT {columns} FROM expected) AS d),
                   (SELECT count(*) FROM expected),
                   (SELECT string_agg(e::text, ' ' ORDER BY e) FROM expected AS e),
                   (SELECT string_agg(g::text, ' ' ORDER BY g) FROM graph AS g)",
            least = self.min_strength,
            wallet = self.wallet,
            depth = self.depth
        )
    }

    /// Returns the query that compares the transactions of each step that leaves the wallet with
    /// those of plain SQL: the numbers of steps that differ and of all steps, and these.
    fn path_comparison(&self) -> String {
        let Self { wallet, include_failed, .. } = self;
        let columns = "from_address AS a, to_address AS b, tx_hash, \"timestamp\" AS time, \
             coalesce(block_number, -1) AS block, coalesce(transaction_index, -1) AS place";
        let of_step = format!("network = 'testnet' AND from_address = 'w{wallet}' AND to_address <> from_address");
        format!(
            "WITH native AS (
                SELECT {columns} FROM arx.transactions WHERE {of_step} AND ({include_failed} OR status <> 'failed')
                UNION ALL
                SELECT {columns} FROM arx.internal_transfers WHERE {of_step} AND ({include_failed} OR succeeded IS NOT FALSE)
            ), latest AS (
                SELECT DISTINCT ON (b, tx_hash) * FROM native ORDER BY b, tx_hash, time DESC, block DESC, place DESC
            ), expected AS (
                SELECT a, b, (array_agg(tx_hash ORDER BY time DESC, block DESC, place DESC, tx_hash COLLATE \"C\"))[1:10] AS hashes
                  FROM latest GROUP BY a, b
            )
            SELECT count(*) FILTER (WHERE p.tx_hashes IS DISTINCT FROM e.hashes), count(*),
                   string_agg(format('%s: expected %s, graph %s', e.b, e.hashes, p.tx_hashes), '; ')
              FROM expected AS e
             CROSS JOIN LATERAL arx.shortest_path(e.a, e.b, 'testnet', max_depth => 1, include_failed => {include_failed}) AS p"
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Open {
        savepoints: u32,
    },
    /// An error aborted the transaction. Only a rollback is possible.
    Failed {
        savepoints: u32,
    },
}

struct Session {
    client: Client,
    state: State,
}

/// Counts of all histories, which show that they did something.
#[derive(Debug, Default)]
struct Counts {
    answers: AtomicUsize,
    rows: AtomicUsize,
    steps: AtomicUsize,
    rejected: AtomicUsize,
    statements: AtomicUsize,
}

struct History<'h> {
    sessions: Vec<Session>,
    rows: u32,
    /// Number of the next transaction to prepare, and of the first one that has not ended.
    prepared: (u32, u32),
    folder: PathBuf,
    counts: &'h Counts,
    log: String,
}

impl<'h> History<'h> {
    async fn start(stack: &Stack, database: &Database<'_>, counts: &'h Counts) -> Self {
        let oid = database.query("SELECT oid FROM pg_database WHERE datname = current_database()").unwrap();
        let folder = stack.folder().join("pg/data/pgsql_tmp_arx").join(oid);
        database
            .query(&format!("{TESTNET} SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-03-31')"))
            .unwrap();
        let mut sessions = Vec::new();
        for number in 0..SESSIONS {
            let client = database.connect().await.unwrap();
            // Some sessions merge by themselves after a few rows.
            let limit = [5, 40, 50_000, 50_000][number % 4];
            client
                .batch_execute(&format!("SET lock_timeout = '30ms'; SET arx.graph_delta_limit = {limit}"))
                .await
                .unwrap();
            sessions.push(Session { client, state: State::Idle });
        }
        Self { sessions, rows: 0, prepared: (0, 0), folder, counts, log: String::new() }
    }

    /// Runs a statement. A rejected one (a lock, a conflict) aborts the session's transaction, if
    /// any.
    async fn run(&mut self, session: usize, sql: &str) {
        let expected = [
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::READ_ONLY_SQL_TRANSACTION,
            SqlState::ACTIVE_SQL_TRANSACTION,
            SqlState::UNIQUE_VIOLATION,
            SqlState::CHECK_VIOLATION,
            SqlState::OBJECT_IN_USE,
            SqlState::UNDEFINED_TABLE,
            SqlState::DUPLICATE_TABLE,
            SqlState::INVALID_OBJECT_DEFINITION,
            SqlState::WRONG_OBJECT_TYPE,
            // A transaction that has a column of its own, or is not prepared.
            SqlState::UNDEFINED_OBJECT,
            SqlState::DATATYPE_MISMATCH,
        ];
        let actor = &mut self.sessions[session];
        let result = actor.client.batch_execute(sql).await;
        self.counts.statements.fetch_add(1, Ordering::Relaxed);
        let outcome = match &result {
            Ok(()) => "",
            Err(error) if error.code().is_some_and(|code| expected.contains(code)) => {
                self.counts.rejected.fetch_add(1, Ordering::Relaxed);
                if let State::Open { savepoints } = actor.state {
                    actor.state = State::Failed { savepoints };
                }
                " -- rejected"
            }
            Err(error) => panic!("{sql}: {error:?}\n{}", self.log),
        };
        writeln!(self.log, "{session}: {sql};{outcome}").unwrap();
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Begin(session, isolation) => {
                if self.sessions[*session].state == State::Idle {
                    let mode = match isolation {
                        Isolation::ReadCommitted => "",
                        Isolation::RepeatableRead => "ISOLATION LEVEL REPEATABLE READ",
                        Isolation::ReadOnly => "ISOLATION LEVEL REPEATABLE READ READ ONLY",
                    };
                    // Takes a snapshot without a lock on any of ARX's tables.
                    self.run(*session, &format!("BEGIN {mode}; SELECT pg_current_snapshot()")).await;
                    self.sessions[*session].state = State::Open { savepoints: 0 };
                }
            }
            Step::Commit(session) => self.end(*session, "COMMIT").await,
            Step::Rollback(session) => self.end(*session, "ROLLBACK").await,
            Step::EndAll => {
                for session in 0..SESSIONS {
                    self.end(session, if session % 2 == 0 { "COMMIT" } else { "ROLLBACK" }).await;
                }
            }
            Step::Savepoint(session) => {
                if let State::Open { savepoints } = self.sessions[*session].state {
                    self.run(*session, &format!("SAVEPOINT s{savepoints}")).await;
                    self.sessions[*session].state = State::Open { savepoints: savepoints + 1 };
                }
            }
            Step::RollbackTo(session) => {
                if let State::Open { savepoints } | State::Failed { savepoints } = self.sessions[*session].state
                    && savepoints > 0
                {
                    self.run(*session, &format!("ROLLBACK TO s{}", savepoints - 1)).await;
                    self.sessions[*session].state = State::Open { savepoints };
                }
            }
            Step::Release(session) => {
                if let State::Open { savepoints } = self.sessions[*session].state
                    && savepoints > 0
                {
                    self.run(*session, &format!("RELEASE s{}", savepoints - 1)).await;
                    self.sessions[*session].state = State::Open { savepoints: savepoints - 1 };
                }
            }
            Step::Insert(session, rows) => {
                let mut values = Vec::new();
                for (from, to, when) in rows {
                    self.rows += 1;
                    let number = self.rows;
                    let to = if *to == 9 { "NULL".to_owned() } else { format!("'w{to}'") };
                    let value = if number.is_multiple_of(7) {
                        "20000000000000000000".to_owned()
                    } else {
                        format!("{from}.{number}")
                    };
                    let time = time(*when);
                    values.push(format!(
                        "('testnet', 't{number}', {number}, '{time}', 'w{from}', {to}, {value}, 'confirmed')"
                    ));
                }
                let sql = format!(
                    "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, \
                     status) VALUES {}",
                    values.join(", ")
                );
                self.write(*session, &sql).await;
            }
            Step::InsertToken(session, from, to, when) => {
                self.rows += 1;
                let (number, time, to) = (self.rows, time(*when), to % 9);
                let token = if number.is_multiple_of(2) { "usd" } else { "dai" };
                let sql = format!(
                    "INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, \"timestamp\", token_address, \
                     from_address, to_address, amount) VALUES ('testnet', 't{number}', 1, 1, '{time}', '{token}', 'w{from}', 'w{to}', \
                     {number})"
                );
                self.write(*session, &sql).await;
            }
            Step::InsertInternal(session, from, to, when) => {
                self.rows += 1;
                let number = self.rows;
                let end = |wallet: u8| if wallet == 9 { "NULL".to_owned() } else { format!("'w{wallet}'") };
                let to = if *from == 9 && *to == 9 { 0 } else { *to };
                let (from, to, time) = (end(*from), end(to), time(*when));
                let block = if number.is_multiple_of(5) { "NULL".to_owned() } else { number.to_string() };
                let (is_ordered, succeeded) =
                    (number.is_multiple_of(3), ["true", "NULL", "false"][number as usize % 3]);
                let sql = format!(
                    "INSERT INTO arx.internal_transfers (network, tx_hash, position, is_ordered, block_number, \"timestamp\", \
                     from_address, to_address, value, succeeded) \
                     VALUES ('testnet', 't{number}', 2, {is_ordered}, {block}, '{time}', {from}, {to}, {number}.5, {succeeded})"
                );
                self.write(*session, &sql).await;
            }
            Step::UpdateInternal(session, change, row) => {
                let set = match change {
                    InternalChange::Ends => "from_address = to_address, to_address = coalesce(from_address, 'w1')",
                    InternalChange::Value => "value = value + 1",
                    InternalChange::Order => "is_ordered = NOT is_ordered, position = position + 1",
                    InternalChange::Outcome => "succeeded = succeeded IS FALSE",
                };
                let rows = self.some_rows(*row);
                self.write(*session, &format!("UPDATE arx.internal_transfers SET {set} WHERE {rows}")).await;
            }
            Step::DeleteInternal(session, row) => {
                let rows = self.some_rows(*row);
                self.write(*session, &format!("DELETE FROM arx.internal_transfers WHERE {rows}")).await;
            }
            Step::Update(session, change, row) => {
                let set = match change {
                    Change::Receiver => "to_address = 'w' || (length(tx_hash) + block_number) % 9".to_owned(),
                    Change::Month => format!("\"timestamp\" = '{}'", time(*row)),
                    Change::Value => "value = value + 1".to_owned(),
                    Change::Status => "status = 'failed'".to_owned(),
                    Change::Price => "value_usd = coalesce(value_usd, 0) + 1".to_owned(),
                };
                let rows = self.some_rows(*row);
                self.write(*session, &format!("UPDATE arx.transactions SET {set} WHERE {rows}")).await;
            }
            Step::Delete(session, row) => {
                let rows = self.some_rows(*row);
                self.write(*session, &format!("DELETE FROM arx.transactions WHERE {rows}")).await;
            }
            Step::DeleteToken(session, row) => {
                let rows = self.some_rows(*row);
                self.write(*session, &format!("DELETE FROM arx.token_transfers WHERE {rows}")).await;
            }
            Step::Truncate(session, table) => {
                let table = match table {
                    0 => "token_transfers",
                    1 => "transactions",
                    2 => "transactions_2024_02",
                    3 => "internal_transfers",
                    _ => "transactions_default",
                };
                self.write(*session, &format!("TRUNCATE arx.{table}")).await;
            }
            Step::Refresh(session, again) => {
                self.write(
                    *session,
                    &format!("SELECT outcome FROM arx.refresh_graph({})", *again && self.rows.is_multiple_of(4)),
                )
                .await;
            }
            Step::InsertDirect(session, from, to, when) => {
                let table = match time(*when).get(..7) {
                    Some("2024-01") => "transactions_2024_01",
                    Some("2024-02") => "transactions_2024_02",
                    Some("2024-03") => "transactions_2024_03",
                    _ => "transactions_default",
                };
                let sql = self.insert_one(table, *from, *to, *when);
                self.write(*session, &sql).await;
            }
            Step::InsertReplica(session, from, to, when) => {
                let sql = self.insert_one("transactions", *from, *to, *when);
                let sql =
                    format!("SET session_replication_role = replica; {sql}; SET session_replication_role = origin");
                self.write(*session, &sql).await;
                if self.sessions[*session].state == State::Idle {
                    self.run(*session, "RESET session_replication_role").await;
                }
            }
            Step::Prepare(session) => {
                if matches!(self.sessions[*session].state, State::Open { .. })
                    && self.prepared.0 - self.prepared.1 < MAX_PREPARED
                {
                    let number = self.prepared.0;
                    self.prepared.0 += 1;
                    self.run(*session, &format!("PREPARE TRANSACTION 'history{number}'")).await;
                    self.sessions[*session].state = State::Idle;
                }
            }
            Step::EndPrepared(commits) => {
                if self.prepared.1 < self.prepared.0 {
                    let command = if *commits { "COMMIT" } else { "ROLLBACK" };
                    self.end_prepared(command).await;
                }
            }
            Step::LoseRegister => {
                for entry in std::fs::read_dir(&self.folder).into_iter().flatten() {
                    let path = entry.unwrap().path();
                    if path.to_string_lossy().contains("/writers-") {
                        std::fs::remove_file(path).unwrap();
                        writeln!(self.log, "the register is removed").unwrap();
                    }
                }
            }
            Step::AlterColumn(adds) => {
                let action = if *adds { "ADD COLUMN IF NOT EXISTS note text" } else { "DROP COLUMN IF EXISTS note" };
                self.by_hand(&format!("ALTER TABLE arx.transactions {action}")).await;
            }
            // Partitions are changed by hand, outside any transaction.
            Step::Detach(month) => {
                let (name, _, _) = MONTHS[usize::from(*month)];
                self.by_hand(&format!("ALTER TABLE arx.transactions DETACH PARTITION arx.{name}")).await;
            }
            Step::Attach(month) => {
                let (name, from, to) = MONTHS[usize::from(*month)];
                self.by_hand(&format!(
                    "CREATE TABLE IF NOT EXISTS arx.{name} (LIKE arx.transactions INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
                     ALTER TABLE arx.transactions ATTACH PARTITION arx.{name} FOR VALUES FROM ('{from}') TO ('{to}')"
                ))
                .await;
            }
            Step::Drop(month) => self.by_hand(&format!("DROP TABLE arx.{}", MONTHS[usize::from(*month)].0)).await,
        }
    }

    fn insert_one(&mut self, table: &str, from: u8, to: u8, when: u8) -> String {
        self.rows += 1;
        let (number, time, to) = (self.rows, time(when), to % 9);
        format!(
            "INSERT INTO arx.{table} (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status) \
             VALUES ('testnet', 't{number}', {number}, '{time}', 'w{from}', 'w{to}', {number}.25, 'confirmed')"
        )
    }

    /// Ends the oldest prepared transaction, unless its preparation was rejected.
    async fn end_prepared(&mut self, command: &str) {
        let idle = (0..SESSIONS).find(|session| self.sessions[*session].state == State::Idle);
        if let Some(session) = idle {
            let number = self.prepared.1;
            self.prepared.1 += 1;
            self.run(session, &format!("{command} PREPARED 'history{number}'")).await;
        }
    }

    /// Returns a condition on one to three rows.
    fn some_rows(&self, row: u8) -> String {
        format!(
            "tx_hash IN ('t{0}', 't{1}')",
            u32::from(row) % (self.rows + 1),
            self.rows.saturating_sub(u32::from(row) % 8)
        )
    }

    /// Runs a statement unless the session's transaction has failed.
    async fn write(&mut self, session: usize, sql: &str) {
        if !matches!(self.sessions[session].state, State::Failed { .. }) {
            self.run(session, sql).await;
        }
    }

    async fn by_hand(&mut self, sql: &str) {
        let idle = (0..SESSIONS).find(|session| self.sessions[*session].state == State::Idle);
        if let Some(session) = idle {
            self.run(session, sql).await;
        }
    }

    async fn end(&mut self, session: usize, command: &str) {
        if self.sessions[session].state != State::Idle {
            self.run(session, command).await;
            self.sessions[session].state = State::Idle;
        }
    }

    /// Returns the row of a query, unless the transaction of the session has failed.
    async fn ask(&mut self, session: usize, sql: &str) -> Result<Option<Row>, TestCaseError> {
        if matches!(self.sessions[session].state, State::Failed { .. }) {
            return Ok(None);
        }
        match self.sessions[session].client.query_one(sql, &[]).await {
            Ok(row) => Ok(Some(row)),
            // A plain read waits for a session that truncates.
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                if let State::Open { savepoints } = self.sessions[session].state {
                    self.sessions[session].state = State::Failed { savepoints };
                }
                Ok(None)
            }
            Err(error) => Err(TestCaseError::fail(format!("{error:?}\n{sql}\n{}", self.log))),
        }
    }

    /// Compares the graph with plain SQL in this session's snapshot.
    async fn compare(&mut self, session: usize, question: &Question) -> Result<(), TestCaseError> {
        if let Some(row) = self.ask(session, &question.path_comparison()).await? {
            let (differing, steps): (i64, i64) = (row.get(0), row.get(1));
            self.counts.steps.fetch_add(usize::try_from(steps).unwrap(), Ordering::Relaxed);
            let both: Option<String> = row.get(2);
            prop_assert!(differing == 0, "session {session} asks {question:?}\n{both:?}\nafter\n{}", self.log);
        }
        let Some(row) = self.ask(session, &question.comparison()).await? else { return Ok(()) };
        let (missing, extra, rows): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        self.counts.answers.fetch_add(1, Ordering::Relaxed);
        self.counts.rows.fetch_add(usize::try_from(rows).unwrap(), Ordering::Relaxed);
        prop_assert!(
            (missing, extra) == (0, 0),
            "session {session} asks {question:?}\nexpected {:?}\ngraph    {:?}\nafter\n{}",
            row.get::<_, Option<String>>(3),
            row.get::<_, Option<String>>(4),
            self.log
        );
        Ok(())
    }
}

async fn play(stack: &Stack, steps: &[(Step, Question)], counts: &Counts) -> Result<(), TestCaseError> {
    let database = stack.database("histories").unwrap();
    let mut history = History::start(stack, &database, counts).await;
    let played = compare_after_each(&mut history, steps).await;
    for session in 0..SESSIONS {
        history.end(session, "COMMIT").await;
    }
    // The database cannot be dropped before.
    while history.prepared.1 < history.prepared.0 {
        history.end_prepared("COMMIT").await;
    }
    played?;
    let unequal = database.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap();
    prop_assert_eq!(unequal, "0", "{}", history.log);
    Ok(())
}

async fn compare_after_each(history: &mut History<'_>, steps: &[(Step, Question)]) -> Result<(), TestCaseError> {
    for (step, question) in steps {
        history.take(step).await;
        let actor = match step {
            Step::Begin(s, _) | Step::Commit(s) | Step::Rollback(s) | Step::Savepoint(s) | Step::RollbackTo(s) => *s,
            Step::Release(s) | Step::Insert(s, _) | Step::InsertToken(s, ..) | Step::Update(s, ..) => *s,
            Step::InsertInternal(s, ..) | Step::UpdateInternal(s, ..) | Step::DeleteInternal(s, _) => *s,
            Step::Delete(s, _) | Step::DeleteToken(s, _) | Step::Truncate(s, _) | Step::Refresh(s, _) => *s,
            Step::InsertDirect(s, ..) | Step::InsertReplica(s, ..) | Step::Prepare(s) => *s,
            Step::EndPrepared(_) | Step::LoseRegister | Step::AlterColumn(_) | Step::EndAll => 0,
            Step::Detach(_) | Step::Attach(_) | Step::Drop(_) => 0,
        };
        history.compare(actor, question).await?;
        if question.session != actor {
            history.compare(question.session, question).await?;
        }
    }
    Ok(())
}

#[test]
fn after_every_step_of_a_history_the_graph_answers_like_plain_sql() {
    let stack = Stack::shared().unwrap();
    let counts = Counts::default();
    let count = |number: &AtomicUsize| number.load(Ordering::Relaxed);
    let play = async |steps: &[(Step, Question)]| play(stack, steps, &counts).await;
    history::check(HISTORIES, 60, &steps(), play, || {
        count(&counts.answers) >= 2_000 && count(&counts.rows) >= 4_000 && count(&counts.steps) >= 1_000
    });
    let (answers, rows) = (count(&counts.answers), count(&counts.rows));
    let (rejected, statements) = (count(&counts.rejected), count(&counts.statements));
    let steps = count(&counts.steps);
    println!(
        "{statements} statements, {rejected} rejected, {answers} answers compared, {rows} rows in them, {steps} steps"
    );
    assert!(rejected * 3 < statements, "{rejected} of {statements} statements were rejected");
}
