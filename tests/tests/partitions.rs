//! Maintenance of partitions waits briefly for a lock, moves rows while others read and write, and
//! a role without rights cannot stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arx_stack::Stack;
use arx_stack::process::wait_until;
use arx_tests::fixtures::{TESTNET, import, insert, sample};
use tokio_postgres::error::SqlState;

/// Longer than maintenance waits for a lock, and shorter than the reader of the test reads.
const LIMIT: Duration = Duration::from_secs(20);

/// Longest wait for a copy to begin.
const BEGIN_LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn maintenance_gives_up_behind_a_long_reader_and_names_it() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_locks").unwrap();
    database
        .query(&format!("{TESTNET} SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-01-31')"))
        .unwrap();
    let mut reader = database.connect().await.unwrap();
    let reading = reader.transaction().await.unwrap();
    reading.query("SELECT count(*) FROM arx.transactions", &[]).await.unwrap();
    let pid: i32 = reading.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let maintainer = database.connect().await.unwrap();
    maintainer.batch_execute("SET lock_timeout = '10min'").await.unwrap();
    let writer = database.connect().await.unwrap();
    let begun = Instant::now();
    let maintenance = maintainer.query("SELECT relation, done, error FROM arx.run_partition_maintenance()", &[]);
    let writes = async {
        let mut longest = Duration::ZERO;
        for number in 0..60 {
            let begun = Instant::now();
            writer.batch_execute(&insert(&format!("t{number}"), "a", "b", 1.0)).await.unwrap();
            longest = longest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        longest
    };
    let (steps, longest) = tokio::join!(maintenance, writes);
    let steps = steps.unwrap();
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    // An attempt lasts 100 ms.
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    // The table in use is named with its user; the other tables are done.
    for step in &steps {
        let (relation, done): (String, bool) = (step.get(0), step.get(1));
        assert_eq!(done, relation != "arx.transactions", "{relation}");
        if !done {
            let error: String = step.get(2);
            assert!(error.contains("table arx.transactions is in use"), "{error}");
            assert!(error.contains(&format!("process {pid}")), "{error}");
        }
    }
    assert!(steps.iter().any(|step| !step.get::<_, bool>(1)) && steps.iter().any(|step| step.get::<_, bool>(1)));
    // A call that cannot do its work otherwise fails. A shorter setting of the caller decides, and
    // stays as it is.
    maintainer.batch_execute("SET lock_timeout = '20ms'").await.unwrap();
    let begun = Instant::now();
    let ensure = "SELECT arx.ensure_partitions('arx.transactions', '2024-02-01', '2024-02-01')";
    let error = maintainer.query(ensure, &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let setting: String = maintainer.query_one("SHOW lock_timeout", &[]).await.unwrap().get(0);
    assert_eq!(setting, "20ms");
    reading.commit().await.unwrap();
    maintainer.batch_execute("CALL arx.maintain_partitions()").await.unwrap();
    let missing = database.query("SELECT count(*) FROM arx.run_partition_maintenance(dry_run => true)").unwrap();
    assert_eq!(missing, "0");
}

/// Rows of three months that wait in the default partition.
const WAITING_ROWS: &str = "
    INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
    SELECT 'testnet', 'w' || n, n, '2023-01-10'::timestamptz + n % 3 * interval '1 month', 'a', 'b', 1
      FROM generate_series(1, 3000) AS n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reader_sees_each_row_once_while_the_default_partition_is_drained() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_drain").unwrap();
    database.query(&format!("{TESTNET} {WAITING_ROWS}")).unwrap();
    let before = database.query("SELECT arx.current_graph_epoch()").unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    // Statements of their own, a transaction with one snapshot, and a reader of one month.
    let readers = [
        ("", "SELECT count(*), count(DISTINCT tx_hash) FROM arx.transactions WHERE tx_hash LIKE 'w%'", 3000),
        (
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            "SELECT count(*), count(DISTINCT tx_hash) FROM arx.transactions WHERE tx_hash LIKE 'w%'",
            3000,
        ),
        (
            "",
            "SELECT count(*), count(DISTINCT tx_hash) FROM arx.transactions
               WHERE \"timestamp\" >= '2023-02-01' AND \"timestamp\" < '2023-03-01' AND tx_hash LIKE 'w%'",
            1000,
        ),
    ];
    for (begin, query, expected) in readers {
        let (client, done) = (database.connect().await.unwrap(), Arc::clone(&done));
        tasks.push(tokio::spawn(async move {
            let mut counted = 0_u32;
            while !done.load(Ordering::Relaxed) || counted == 0 {
                if !begin.is_empty() {
                    client.batch_execute(begin).await.unwrap();
                }
                let row = client.query_one(query, &[]).await.unwrap();
                assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (expected, expected), "{begin} {query}");
                if !begin.is_empty() {
                    client.batch_execute("COMMIT").await.unwrap();
                }
                counted += 1;
            }
            counted
        }));
    }
    // A writer adds rows of the same months meanwhile.
    let (writer, writing) = (database.connect().await.unwrap(), Arc::clone(&done));
    let writer = tokio::spawn(async move {
        let mut written = 0_u32;
        while !writing.load(Ordering::Relaxed) || written == 0 {
            let row = format!(
                "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
                 VALUES ('testnet', 'late{written}', 1, '2023-02-20', 'a', 'b', 1)"
            );
            writer.batch_execute(&row).await.unwrap();
            written += 1;
        }
        written
    });
    let drainer = database.connect().await.unwrap();
    drainer.batch_execute("CALL arx.drain_default_partitions('arx.transactions')").await.unwrap();
    done.store(true, Ordering::Relaxed);
    for task in tasks {
        assert!(task.await.unwrap() > 0);
    }
    let written = writer.await.unwrap();
    let state = "SELECT (SELECT count(*) FROM ONLY arx.transactions_default), count(*) FROM arx.transactions";
    assert_eq!(database.query(state).unwrap(), format!("0|{}", 3000 + written));
    // The rows are the same for every consumer.
    assert_eq!(database.query("SELECT arx.current_graph_epoch()").unwrap(), before);
    assert_eq!(database.query("SELECT count(*) FROM arx.transaction_changes").unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runners_at_once_do_the_work_once() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_runners").unwrap();
    let (first, second) = (database.connect().await.unwrap(), database.connect().await.unwrap());
    let call = "CALL arx.maintain_partitions()";
    let (first, second) = tokio::join!(first.batch_execute(call), second.batch_execute(call));
    first.unwrap();
    second.unwrap();
    let failed = "SELECT action, partition, error FROM arx.partition_events WHERE outcome = 'failed'";
    assert_eq!(database.query(failed).unwrap(), "");
    let partitions = "SELECT count(*) FROM arx.partition_status WHERE NOT is_default";
    assert_eq!(database.query(partitions).unwrap(), "12");
}

#[tokio::test]
async fn a_stranger_cannot_stop_maintenance_and_two_calls_do_not_collide() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_job").unwrap();
    let role = format!("stranger_{}", database.name());
    database.query(&format!("CREATE ROLE {role} LOGIN")).unwrap();
    let stranger = database.connect_as(&role).await.unwrap();
    stranger.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(hashtext('arx.partitions'))").await.unwrap();
    for statement in ["SELECT arx.lock_job('partitions')", "SELECT job FROM arx.job_locks FOR UPDATE"] {
        let other = database.connect_as(&role).await.unwrap();
        let error = other.batch_execute(statement).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{statement}");
    }
    let create = "SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-12-31')";
    let (first, second) = (database.connect().await.unwrap(), database.connect().await.unwrap());
    let (first, second) = tokio::join!(first.query_one(create, &[]), second.query_one(create, &[]));
    let created = first.unwrap().get::<_, i32>(0) + second.unwrap().get::<_, i32>(0);
    assert_eq!(created, 12);
    drop(stranger);
    database.query(&format!("DROP ROLE {role}")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_waits_for_a_long_reader_without_blocking_others() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_import").unwrap();
    let reader = database.connect().await.unwrap();
    reader.batch_execute("BEGIN; SELECT count(*) FROM arx.transactions").await.unwrap();
    std::thread::scope(|scope| {
        let importing = scope.spawn(|| import(&database, &["transactions"], &sample("transactions.csv.gz")));
        // Longer than the server waits for a lock.
        std::thread::sleep(Duration::from_secs(5));
        assert!(!importing.is_finished());
        assert_eq!(database.query("SELECT count(*) FROM arx.transactions").unwrap(), "0");
        database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()").unwrap();
        importing.join().unwrap();
    });
    let rows = "SELECT count(*) > 0 FROM arx.transactions WHERE tableoid <> 'arx.transactions_default'::regclass";
    assert_eq!(database.query(rows).unwrap(), "t");
}

/// A writer's own account of a table: it adds, changes and deletes rows until it is stopped, and
/// returns the number and the sum of the rows that must be there, and its longest wait.
async fn account(client: tokio_postgres::Client, stop: Arc<AtomicBool>) -> (i64, i64, Duration) {
    let (mut rows, mut sum, mut longest) = (20_000_i64, 0_i64, Duration::ZERO);
    let mut number = 0_i64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let old = number * 7 % 20_000 + 1;
        let statement = match number % 3 {
            0 => format!("INSERT INTO public.moves VALUES ({}, '2024-05-05', {number})", 1_000_000 + number),
            1 => format!("UPDATE public.moves SET n = n + {number} WHERE id = {old} AND n >= 0"),
            _ => format!("DELETE FROM public.moves WHERE id = {} AND n = {}", 1_000_000 + number - 2, number - 2),
        };
        let begun = Instant::now();
        let changed = i64::try_from(client.execute(&statement, &[]).await.unwrap()).unwrap();
        longest = longest.max(begun.elapsed());
        match number % 3 {
            0 => (rows, sum) = (rows + changed, sum + number * changed),
            1 => sum += number * changed,
            _ => (rows, sum) = (rows - changed, sum - (number - 2) * changed),
        }
    }
    (rows, sum, longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_partitioned_and_back_while_others_write() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_convert").unwrap();
    database
        .query(
            "CREATE TABLE public.moves (id bigint, at timestamptz, n bigint NOT NULL, PRIMARY KEY (id, at));
             INSERT INTO public.moves SELECT i, '2024-01-01'::timestamptz + i % 6 * interval '1 month', 0
               FROM generate_series(1, 20000) AS i",
        )
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(account(database.connect().await.unwrap(), Arc::clone(&stop)));
    let client = database.connect().await.unwrap();
    client.batch_execute("SELECT arx.convert_table('public.moves', 'at', '1 month')").await.unwrap();
    client.batch_execute("CALL arx.drain_default_partitions('public.moves')").await.unwrap();
    let state = "SELECT (SELECT count(*) FROM ONLY public.moves_default), count(*) FILTER (WHERE NOT is_default) >= 6
                   FROM arx.partition_status WHERE relation = 'public.moves'";
    assert_eq!(database.query(state).unwrap(), "0|t");
    client.batch_execute("CALL arx.unpartition_table('public.moves', 500)").await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let (rows, sum, longest) = writer.await.unwrap();
    assert_eq!(database.query("SELECT count(*), sum(n) FROM public.moves").unwrap(), format!("{rows}|{sum}"));
    assert_eq!(database.query("SELECT relkind FROM pg_class WHERE oid = 'public.moves'::regclass").unwrap(), "r");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
}

/// Outcomes of a table's maintenance that are not `done`, and the bounds of its partitions.
fn maintained(database: &arx_stack::Database<'_>, table: &str) -> String {
    database
        .query(&format!(
            "SELECT m.action, m.error FROM arx.run_partition_maintenance('{table}') AS m WHERE NOT m.done;
             SELECT pg_get_expr(c.relpartbound, 0) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
              WHERE i.inhparent = '{table}'::regclass ORDER BY c.oid"
        ))
        .unwrap()
}

#[tokio::test]
async fn partitions_of_integers_reach_the_ends_of_their_type() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_integers").unwrap();
    let managed = |table: &str, kind: &str, keys: &str, policy: &str| {
        database
            .query(&format!(
                "CREATE TABLE public.{table} (id {kind} NOT NULL) PARTITION BY RANGE (id);
                 CREATE TABLE public.{table}_d PARTITION OF public.{table} DEFAULT;
                 INSERT INTO public.{table} VALUES {keys};
                 SELECT FROM arx.manage_partitions('public.{table}', {policy})"
            ))
            .unwrap();
        maintained(&database, &format!("public.{table}"))
    };
    let default = "DEFAULT\n";
    assert_eq!(
        managed("small", "smallint", "(-32768), (32767)", "'10000', premake => 2"),
        format!("{default}FOR VALUES FROM ('30000') TO (MAXVALUE)\nFOR VALUES FROM (MINVALUE) TO ('-30000')")
    );
    assert_eq!(
        managed("large", "bigint", "(9223372036854775807), (7)", "'1000000', premake => 2"),
        format!("{default}FOR VALUES FROM ('9223372036854000000') TO (MAXVALUE)\nFOR VALUES FROM ('0') TO ('1000000')")
    );
    // Seconds that 32 bits hold, and their last month.
    assert_eq!(
        managed("seconds", "integer", "(2147483647)", "'1 month', premake => 0, epoch => 'seconds'").lines().last(),
        Some("FOR VALUES FROM (2145916800) TO (MAXVALUE)")
    );
    // What no integer is stays, and stops nothing.
    let numbers = managed("numbers", "numeric", "(5.5), ('NaN'), (1e30)", "'100', premake => 0");
    assert_eq!(numbers, format!("leave|\n{default}FOR VALUES FROM ('0') TO ('100')"));
    let nothing_to_do = "SELECT count(*) FROM arx.run_partition_maintenance('public.large')";
    assert_eq!(database.query(nothing_to_do).unwrap(), "0");
    assert_eq!(database.query("SELECT count(*), count(DISTINCT tableoid) FROM public.large").unwrap(), "2|2");
}

#[tokio::test]
async fn a_new_partition_is_where_its_parent_is_and_published_as_it_is() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_likeness").unwrap();
    let client = database.connect().await.unwrap();
    client.batch_execute("SET allow_in_place_tablespaces = on").await.unwrap();
    for name in ["arx_near", "arx_far"] {
        client.batch_execute(&format!("CREATE TABLESPACE {name} LOCATION ''")).await.unwrap();
    }
    let create = "
        CREATE TABLE public.sent (at timestamptz NOT NULL, n bigint NOT NULL) PARTITION BY RANGE (at) TABLESPACE arx_near;
        CREATE UNIQUE INDEX sent_n ON public.sent (n, at);
        ALTER TABLE public.sent REPLICA IDENTITY USING INDEX sent_n;
        CREATE TABLE public.sent_rest PARTITION OF public.sent DEFAULT;
        INSERT INTO public.sent VALUES (now(), 1), (now() - interval '1 year', 2);
        SET default_tablespace = arx_far;
        SELECT FROM arx.manage_partitions('public.sent', '1 month', hash_column => 'n', hash_partitions => 2)";
    client.batch_execute(create).await.unwrap();
    client.batch_execute("CALL arx.maintain_partitions('public.sent')").await.unwrap();
    let publish = "CREATE PUBLICATION sent FOR TABLE public.sent WITH (publish_via_partition_root)";
    client.batch_execute(publish).await.unwrap();
    client.batch_execute("UPDATE public.sent SET n = n + 10").await.unwrap();
    let state = "
        SELECT count(*), count(DISTINCT t.level), string_agg(DISTINCT coalesce(s.spcname, 'none'), ','),
               string_agg(DISTINCT c.relreplident, '')
          FROM pg_partition_tree('public.sent') AS t
          JOIN pg_class AS c ON c.oid = t.relid
          LEFT JOIN pg_tablespace AS s ON s.oid = c.reltablespace";
    assert_eq!(database.query(state).unwrap(), "17|3|arx_near|i");
    let indexes = "
        SELECT count(*) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
         WHERE i.indrelid::regclass::text LIKE 'public.sent%' AND c.reltablespace <> 0";
    assert_eq!(database.query(indexes).unwrap(), "0");
    assert_eq!(database.query("SELECT count(*) FROM public.sent WHERE n > 10").unwrap(), "2");
    // Subscribers would take the move of a row for its deletion.
    client.batch_execute("INSERT INTO public.sent VALUES (now() - interval '5 years', 12)").await.unwrap();
    client.batch_execute("CALL arx.maintain_partitions('public.sent')").await.unwrap();
    assert_eq!(database.query("SELECT count(*) FROM ONLY public.sent_rest").unwrap(), "1");
    let reason = "SELECT DISTINCT error FROM arx.partition_events WHERE outcome = 'failed'";
    let reason = database.query(reason).unwrap();
    assert!(reason.contains("publication sent sends their move as deletions"), "{reason}");
    client.batch_execute("DELETE FROM public.sent_rest").await.unwrap();
    // A partition moves with its parts when it has reached the age.
    let policy =
        "SELECT FROM arx.manage_partitions('public.sent', '1 month', tablespace_ages => '{\"6 months\": \"arx_far\"}')";
    database.query(policy).unwrap();
    let moved = "
        SELECT action, done FROM arx.run_partition_maintenance('public.sent');
        SELECT count(*) FROM pg_class AS c JOIN pg_tablespace AS s ON s.oid = c.reltablespace
         WHERE s.spcname = 'arx_far' AND c.relkind IN ('p', 'r')";
    assert_eq!(database.query(moved).unwrap(), "set tablespace|t\n3");
    client.batch_execute("DROP TABLE public.sent; RESET default_tablespace").await.unwrap();
    for name in ["arx_near", "arx_far"] {
        client.batch_execute(&format!("DROP TABLESPACE {name}")).await.unwrap();
    }
}

/// A table with nearly everything that a table can have, and a role that may write some of it.
const FURNISHED: &str = "
    DROP ROLE IF EXISTS arx_conversion_writer;
    CREATE ROLE arx_conversion_writer;
    GRANT USAGE ON SCHEMA public TO arx_conversion_writer;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO arx_conversion_writer;
    CREATE TABLE public.owners (id integer PRIMARY KEY);
    INSERT INTO public.owners VALUES (1);
    CREATE TABLE public.deeds (
        id bigint GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 5), at timestamptz NOT NULL, v integer DEFAULT 1,
        twice integer GENERATED ALWAYS AS (v * 2) STORED, owner integer REFERENCES public.owners,
        PRIMARY KEY (id, at));
    INSERT INTO public.deeds (at, v, owner) SELECT '2024-01-01'::timestamptz + i * interval '1 hour', i, 1
      FROM generate_series(1, 3000) AS i;
    CREATE FUNCTION public.add_thousand() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.v := NEW.v + 1000000; RETURN NEW; END';
    CREATE TRIGGER off BEFORE INSERT ON public.deeds FOR EACH ROW EXECUTE FUNCTION public.add_thousand();
    ALTER TABLE public.deeds DISABLE TRIGGER off;
    CREATE POLICY few ON public.deeds TO arx_conversion_writer USING (v > 2990) WITH CHECK (v < 5000);
    ALTER TABLE public.deeds ENABLE ROW LEVEL SECURITY;
    REVOKE ALL ON public.deeds FROM arx_conversion_writer;
    GRANT INSERT, SELECT (v, at) ON public.deeds TO arx_conversion_writer;
    CREATE VIEW public.high WITH (security_barrier) AS SELECT id, v FROM public.deeds WHERE v > 1000;
    COMMENT ON TABLE public.deeds IS '100% of it'";

/// Privileges, policies, triggers and the like of a table, as one line.
const FURNITURE: &str = "
    SELECT c.relrowsecurity, obj_description(c.oid),
           (SELECT string_agg(polname || pg_get_expr(polqual, polrelid), ',') FROM pg_policy WHERE polrelid = c.oid),
           (SELECT string_agg(tgname || tgenabled::text, ',') FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal),
           has_table_privilege('arx_conversion_writer', c.oid, 'SELECT'),
           has_column_privilege('arx_conversion_writer', c.oid, 'v', 'SELECT'),
           has_column_privilege('arx_conversion_writer', c.oid, 'owner', 'SELECT'),
           (SELECT count(*) FROM pg_constraint WHERE conrelid = c.oid AND contype = 'f' AND convalidated),
           (SELECT count(*) = (SELECT count(*) FROM public.deeds WHERE v > 1000) FROM public.high),
           (SELECT reloptions FROM pg_class WHERE oid = 'public.high'::regclass)
      FROM pg_class AS c WHERE c.oid = 'public.deeds'::regclass";

#[tokio::test]
async fn a_table_keeps_what_it_has_when_it_is_partitioned_and_back() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_furniture").unwrap();
    database.query(FURNISHED).unwrap();
    let before = database.query(FURNITURE).unwrap();
    let client = database.connect().await.unwrap();
    let as_writer = "SET ROLE arx_conversion_writer; SELECT count(*) FROM (SELECT v FROM public.deeds) AS d";
    let add = |v: i32| format!("INSERT INTO public.deeds (at, v) VALUES ('2024-02-01', {v})");
    for (step, next) in [
        ("SELECT arx.convert_table('public.deeds', 'at', '1 month')", "15005|1"),
        ("CALL arx.drain_default_partitions('public.deeds')", "15015|1"),
        ("CALL arx.unpartition_table('public.deeds', 700)", "15025|1"),
    ] {
        client.batch_execute(step).await.unwrap();
        assert_eq!(database.query(FURNITURE).unwrap(), before, "{step}");
        assert_eq!(database.query(&format!("{} RETURNING id, v", add(1))).unwrap(), next, "{step}");
        assert_eq!(database.query(as_writer).unwrap(), "10", "{step}");
        let refused = database.query(&format!("SET ROLE arx_conversion_writer; {}", add(6000))).unwrap_err();
        assert!(refused.to_string().contains("row-level security"), "{step}: {refused}");
    }
    let rows = "SELECT count(*), count(DISTINCT id), sum(twice) = 2 * sum(v) FROM public.deeds";
    assert_eq!(database.query(rows).unwrap(), "3003|3003|t");
    assert_eq!(database.query("SELECT count(*) FROM pg_proc WHERE proname LIKE 'deeds%'").unwrap(), "0");
}

#[tokio::test]
async fn what_cannot_follow_a_converted_table_is_named_with_advice() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_obstacles").unwrap();
    database.query("CREATE TABLE public.bare (id integer, at timestamptz NOT NULL)").unwrap();
    for (create, drop, expected) in [
        ("CREATE MATERIALIZED VIEW public.x AS TABLE public.bare", "MATERIALIZED VIEW public.x", "drop it first"),
        (
            "CREATE FUNCTION public.x() RETURNS SETOF public.bare LANGUAGE sql AS 'TABLE public.bare'",
            "FUNCTION public.x",
            "row type",
        ),
        (
            "CREATE FUNCTION public.x() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM public.bare; END",
            "FUNCTION public.x",
            "depends on it",
        ),
        ("CREATE RULE x AS ON DELETE TO public.bare DO INSTEAD NOTHING", "RULE x ON public.bare", "would not apply"),
        ("CREATE PUBLICATION x FOR TABLE public.bare", "PUBLICATION x", "subscribers would lose"),
        ("CREATE PUBLICATION x FOR ALL TABLES", "PUBLICATION x", "subscribers would lose"),
        ("ALTER TABLE public.bare ADD CONSTRAINT x CHECK (id > 0) NOT VALID", "", "VALIDATE CONSTRAINT x"),
    ] {
        database.query(create).unwrap();
        let error = database.query("SELECT arx.convert_table('public.bare', 'at', '1 month')").unwrap_err().to_string();
        assert!(error.contains(expected), "{create}: {error}");
        if !drop.is_empty() {
            database.query(&format!("DROP {drop}")).unwrap();
        }
    }
    // A name that is taken, and one of 63 bytes that are fewer letters.
    database
        .query(
            "ALTER TABLE public.bare DROP CONSTRAINT x; CREATE TABLE public.bare_default ();
             SELECT arx.convert_table('public.bare', 'at', '1 month')",
        )
        .unwrap();
    let long = "\u{442}".repeat(31);
    database
        .query(&format!(
            "CREATE TABLE public.\"{long}\" (at date NOT NULL, id integer, PRIMARY KEY (id, at));
             SELECT arx.convert_table('public.\"{long}\"', 'at', '1 month')"
        ))
        .unwrap();
    database.query(&format!("CALL arx.unpartition_table('public.\"{long}\"')")).unwrap();
    let policy = "SELECT FROM arx.manage_partitions('public.bare', '1 month', ";
    for (argument, expected) in [
        ("hash_column => 'nothing', hash_partitions => 2)", "no column \"nothing\""),
        ("retention_action => 'move', retention_schema => 'nowhere')", "schema \"nowhere\" does not exist"),
        ("tablespace_ages => '{\"1 year\": \"nowhere\"}')", "tablespace \"nowhere\" does not exist"),
    ] {
        let error = database.query(&format!("{policy}{argument}")).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_notices_truncate_and_detach_and_what_other_roles_write() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_truncate").unwrap();
    database
        .query(
            "DROP ROLE IF EXISTS arx_copy_writer;
             CREATE ROLE arx_copy_writer;
             GRANT USAGE ON SCHEMA public TO arx_copy_writer;
             CREATE TABLE public.parts (id bigint, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
             CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
             CREATE TABLE public.parts_2 PARTITION OF public.parts FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
             CREATE TABLE public.parts_3 PARTITION OF public.parts FOR VALUES FROM ('2024-03-01') TO ('2024-04-01');
             INSERT INTO public.parts SELECT i, '2024-01-10'::timestamptz + i % 3 * interval '1 month'
               FROM generate_series(1, 30000) AS i;
             GRANT INSERT ON public.parts TO arx_copy_writer",
        )
        .unwrap();
    let copier = database.connect().await.unwrap();
    let copying =
        tokio::spawn(async move { copier.batch_execute("CALL arx.unpartition_table('public.parts', 10)").await });
    // The table is not there at first.
    let copied = "SELECT count(DISTINCT part) > 1 FROM public.parts_plain_changes";
    assert!(wait_until(BEGIN_LIMIT, || Ok(database.query(copied).is_ok_and(|copied| copied == "t"))).unwrap());
    database
        .query(
            "TRUNCATE public.parts_1; ALTER TABLE public.parts DETACH PARTITION public.parts_2;
             SET ROLE arx_copy_writer; INSERT INTO public.parts VALUES (-1, '2024-03-01'), (-2, '2024-01-01')",
        )
        .unwrap();
    copying.await.unwrap().unwrap();
    let state = "SELECT relkind, (SELECT count(*) FROM public.parts), (SELECT sum(id) FROM public.parts WHERE id < 0)
                   FROM pg_class WHERE oid = 'public.parts'::regclass";
    assert_eq!(database.query(state).unwrap(), "r|10002|-3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_copy_is_resumed_without_rows_that_are_gone() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_killed").unwrap();
    database
        .query(
            "CREATE TABLE public.kept (id bigint, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
             CREATE TABLE public.kept_1 PARTITION OF public.kept FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
             CREATE TABLE public.kept_2 PARTITION OF public.kept FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
             INSERT INTO public.kept SELECT i, '2024-01-10'::date + i % 2 * 31 FROM generate_series(1, 20000) AS i",
        )
        .unwrap();
    // The first call takes long enough to be killed.
    let (copy, slow_copy) =
        ("CALL arx.unpartition_table('public.kept')", "CALL arx.unpartition_table('public.kept', 5)");
    let copier = database.connect().await.unwrap();
    copier.batch_execute("SET default_transaction_isolation = 'repeatable read'").await.unwrap();
    let error = copier.batch_execute(copy).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INVALID_TRANSACTION_STATE), "{error:?}");
    copier.batch_execute("RESET default_transaction_isolation").await.unwrap();
    let process: i32 = copier.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let copying = tokio::spawn(async move { copier.batch_execute(slow_copy).await });
    let is_in_the_middle = "SELECT count(*) > 40 FROM public.kept_plain";
    assert!(wait_until(BEGIN_LIMIT, || Ok(database.query(is_in_the_middle).is_ok_and(|is_so| is_so == "t"))).unwrap());
    database.query(&format!("SELECT pg_terminate_backend({process}, 10000)")).unwrap();
    copying.await.unwrap().unwrap_err();
    let part = database.query("SELECT part::regclass FROM public.kept_plain_changes WHERE NOT is_whole").unwrap();
    assert!(part.contains("kept_"), "{part}");
    let at = if part.ends_with('1') { "2024-01-11" } else { "2024-02-11" };
    database.query(&format!("TRUNCATE {part}; INSERT INTO public.kept VALUES (-1, '{at}')")).unwrap();
    database.query("ALTER TABLE public.kept ADD COLUMN later integer").unwrap();
    let error = database.query(copy).unwrap_err().to_string();
    assert!(error.contains("other columns"), "{error}");
    database.query("ALTER TABLE public.kept DROP COLUMN later").unwrap();
    database.query(copy).unwrap();
    let state = "SELECT relkind, (SELECT count(*) FROM public.kept), (SELECT min(id) FROM public.kept)
                   FROM pg_class WHERE oid = 'public.kept'::regclass";
    assert_eq!(database.query(state).unwrap(), "r|10001|-1");
}
