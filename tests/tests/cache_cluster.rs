//! A Redis Cluster of three masters and three replicas: a master that is killed, and slots that
//! move, both under load, take no accepted write and show no profile that is out of date.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arx_sidecar::cache::{Annotation, Origin, WalletKey, WalletReader, WalletWriter};
use arx_stack::Stack;
use arx_stack::ports::free_ports;
use arx_stack::process::{run, wait_until};
use arx_tests::daemon::{Daemon, LIMIT, sidecar};
use arx_tests::redis::{fill, identity, redis, wallet};

/// Wallets that the reader changes and reads.
const CHANGED: u32 = 20;

/// The lease of a watermark: so long after one was there, no reader goes by an earlier one.
const LEASE: Duration = Duration::from_secs(2);

/// Writes that must be accepted between two events.
const WRITES: usize = 60;

struct Node {
    name: String,
    port: u16,
    bus: u16,
    pid: u32,
}

impl Node {
    /// Starts a node by the file that is shipped. The file's address and memory are replaced, and
    /// the time after which a master is replaced is shorter.
    fn start(&mut self, stack: &Stack) {
        let folder = stack.folder().join(&self.name);
        std::fs::create_dir_all(&folder).unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/redis/cluster.conf");
        let mut command = Command::new("redis-server");
        command.arg(file).arg("--dir").arg(&folder).args(["--maxmemory", "200mb", "--cluster-node-timeout", "3000"]);
        command.args(["--port", &self.port.to_string(), "--cluster-port", &self.bus.to_string()]);
        self.pid = stack.start_server(&self.name, &command).unwrap();
        let answers = || Ok(redis(self.port, &["PING"]).contains("PONG"));
        assert!(wait_until(LIMIT, answers).unwrap(), "{} does not answer", self.name);
    }

    fn kill(&self, stack: &Stack) {
        run(Command::new("kill").args(["-KILL", &self.pid.to_string()])).unwrap();
        assert!(wait_until(LIMIT, || Ok(stack.ended(self.pid).is_some())).unwrap());
    }

    fn id(&self) -> String {
        redis(self.port, &["CLUSTER", "MYID"]).trim().to_owned()
    }
}

/// A master in the view of one node: its port and the slots that it has.
#[derive(Debug)]
struct Master {
    port: u16,
    slots: Vec<(u16, u16)>,
}

impl Master {
    fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }
}

/// Returns the masters that the node of a port takes for reachable.
fn masters(port: u16) -> Vec<Master> {
    let lines = redis(port, &["CLUSTER", "NODES"]);
    let master = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (address, flags) = (words.next()?, words.next()?);
        if !flags.contains("master") || flags.contains("fail") {
            return None;
        }
        let port = address.split('@').next()?.rsplit(':').next()?.parse().ok()?;
        let slots = words.skip(5).filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some((first.parse().ok()?, last.parse().ok()?))
        });
        Some(Master { port, slots: slots.collect() })
    };
    lines.lines().filter_map(master).collect()
}

/// Waits until every node of the ports sees a whole cluster, and every master has a replica that is
/// in step.
fn wait_for_cluster(ports: &[u16]) {
    let is_whole = || {
        Ok(ports.iter().all(|port| {
            redis(*port, &["CLUSTER", "INFO"]).contains("cluster_state:ok") && {
                let replication = redis(*port, &["INFO", "replication"]);
                replication.contains("master_link_status:up") || replication.contains("state=online")
            }
        }))
    };
    assert!(wait_until(LIMIT, is_whole).unwrap(), "{}", redis(ports[0], &["CLUSTER", "NODES"]));
}

/// Moves a slot with its keys, as `redis-cli --cluster reshard` does.
fn move_slot(slot: u16, from: &Node, to: &Node, all: &[&Node]) {
    let (slot, source, target) = (slot.to_string(), from.id(), to.id());
    let done = |port: u16, arguments: &[&str]| {
        let answer = redis(port, arguments);
        assert!(answer.contains("OK") || answer.contains("NOKEY"), "{arguments:?}: {answer}");
    };
    done(to.port, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
    done(from.port, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]);
    loop {
        let keys = redis(from.port, &["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
        let keys: Vec<&str> = keys.split_whitespace().collect();
        if keys.is_empty() {
            break;
        }
        let port = to.port.to_string();
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "20000", "KEYS"];
        migrate.extend(keys);
        done(from.port, &migrate);
    }
    // The target first: a slot never lacks a node.
    done(to.port, &["CLUSTER", "SETSLOT", &slot, "NODE", &target]);
    done(from.port, &["CLUSTER", "SETSLOT", &slot, "NODE", &target]);
    for node in all {
        redis(node.port, &["CLUSTER", "SETSLOT", &slot, "NODE", &target]);
    }
}

/// Writes and reads until `stop` is set.
struct Load {
    stop: AtomicBool,
    accepted: Mutex<BTreeSet<u32>>,
    refused: AtomicU64,
    read: AtomicU64,
    read_from_cache: AtomicU64,
    /// Reads without a snapshot that were compared with a watermark.
    compared: AtomicU64,
}

/// A watermark that was in Redis at a time.
struct Watermark {
    seen: Instant,
    snapshot: String,
}

impl Watermark {
    /// Reads it from whichever node answers; `None` while no follower holds the lease.
    async fn read(ports: &[u16], key: &str) -> Option<Self> {
        let (ports, key) = (ports.to_vec(), key.to_owned());
        let read = move || {
            let mut answers = ports.iter().map(|port| redis(*port, &["-c", "GET", &key]));
            answers.find_map(|answer| serde_json::from_str::<serde_json::Value>(answer.trim()).ok())
        };
        let document = tokio::task::spawn_blocking(read).await.unwrap()?;
        Some(Self { seen: Instant::now(), snapshot: document["snapshot"].as_str()?.to_owned() })
    }
}

impl Load {
    fn accepted(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }

    /// Accepts a note for one wallet after the other. A write that is refused is not repeated.
    async fn write(self: Arc<Self>, writer: WalletWriter) {
        let annotation = Annotation::parse("{\"note\": 1}").unwrap();
        for number in 1000.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let key = WalletKey::parse(&wallet(number), "ethereum").unwrap();
            match writer.annotate(&key, &annotation).await {
                Ok(_) => drop(self.accepted.lock().unwrap().insert(number)),
                Err(_) => drop(self.refused.fetch_add(1, Ordering::Relaxed)),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Changes one profile after the other in PostgreSQL, and reads what it has written.
    async fn change_and_read(
        self: Arc<Self>,
        client: tokio_postgres::Client,
        reader: WalletReader,
        (ports, watermark): (Vec<u16>, String),
    ) {
        // Transactions of the changes, by number.
        let mut changed = vec![String::new()];
        let mut watermarks: Vec<Watermark> = Vec::new();
        for number in 1_u32.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let address = wallet(1 + number % CHANGED);
            let key = WalletKey::parse(&address, "ethereum").unwrap();
            let written = format!("{{\"count\": {number}}}");
            let row = client
                .query_one(
                    "UPDATE arx.wallet_profiles SET analytics_profile = $1::text::jsonb WHERE wallet_address = $2
                     RETURNING pg_current_xact_id()::text",
                    &[&written, &address],
                )
                .await
                .unwrap();
            changed.push(row.get(0));
            let row = client.query_one("SELECT pg_current_snapshot()::text", &[]).await.unwrap();
            let (answer, origin) = reader.get(&key, Some(row.get(0))).await.unwrap();
            assert_eq!(answer.profile.analytics_profile["count"].get(), number.to_string(), "{origin}");
            // Without a snapshot, an answer has all changes that the watermark had a lease ago.
            watermarks.extend(Watermark::read(&ports, &watermark).await);
            let past = watermarks.iter().rev().find(|watermark| watermark.seen.elapsed() >= LEASE);
            // The wallet that will be changed after half of the others.
            let other = (number + CHANGED / 2) % CHANGED;
            let key = WalletKey::parse(&wallet(1 + other), "ethereum").unwrap();
            let (answer, origin) = reader.get(&key, None).await.unwrap();
            let count = answer.profile.analytics_profile.get("count");
            let count: Option<u32> = count.map(|count| count.get().parse().unwrap());
            // The wallets are changed in turn, and there is no change 0.
            let next = count.map_or(if other == 0 { CHANGED } else { other }, |count| count + CHANGED);
            let replaced = changed.get(usize::try_from(next).unwrap());
            if let (Some(Watermark { snapshot, .. }), Some(change)) = (past, replaced) {
                let visible = "SELECT pg_visible_in_snapshot($1::text::xid8, $2::text::pg_snapshot)";
                let row = client.query_one(visible, &[change, snapshot]).await.unwrap();
                assert!(!row.get::<_, bool>(0), "{origin}: {next} of {number} is missing, and was before {snapshot}");
            }
            self.compared.fetch_add(u64::from(past.is_some()), Ordering::Relaxed);
            self.read.fetch_add(1, Ordering::Relaxed);
            self.read_from_cache.fetch_add(u64::from(origin != Origin::Database), Ordering::Relaxed);
        }
    }
}

#[test]
fn a_killed_master_and_moving_slots_lose_no_accepted_write_and_show_no_stale_profile() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("cache_cluster").unwrap();
    fill(&database, CHANGED);
    let ports = free_ports::<12>().unwrap();
    let mut nodes: Vec<Node> = (0..6)
        .map(|index| Node { name: format!("redis-node-{index}"), port: ports[index], bus: ports[index + 6], pid: 0 })
        .collect();
    for node in &mut nodes {
        node.start(stack);
    }
    let addresses: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]).args(&addresses).args(["--cluster-replicas", "1", "--cluster-yes"]);
    run(&mut create).unwrap();
    let node_ports: Vec<u16> = nodes.iter().map(|node| node.port).collect();
    wait_for_cluster(&node_ports);
    // One server's URL is refused with advice.
    let plain = format!("redis://{}", addresses[0]);
    let (output, text) = sidecar(&database, &[("ARX_REDIS_URL", &plain)], &["cache", "stats"]);
    assert!(!output.status.success() && text.contains("redis+cluster"), "{text}");

    let url = format!("redis+cluster://{},{}", addresses[0], addresses[4]);
    let variables = [("ARX_REDIS_URL", url.as_str())];
    let scratch = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&database, &variables, scratch.path());
    let in_step = || {
        let (output, text) = sidecar(&database, &variables, &["cache", "verify"]);
        Ok(output.status.success() && text.contains("0 differ") && !text.contains(": 0 profiles equal"))
    };
    let warm = || Ok(sidecar(&database, &variables, &["cache", "warm"]).0.status.success());
    assert!(wait_until(LIMIT, warm).unwrap(), "{}", daemon.log());
    assert!(wait_until(LIMIT, in_step).unwrap(), "{}", daemon.log());

    let settings = scratch.path().join("settings.toml");
    let text = format!("postgres_url = \"{}\"\nredis_url = \"{url}\"\nlisten = \"none\"\n", database.connection());
    std::fs::write(&settings, text).unwrap();
    let load = Arc::new(Load {
        stop: AtomicBool::new(false),
        accepted: Mutex::default(),
        refused: AtomicU64::new(0),
        read: AtomicU64::new(0),
        read_from_cache: AtomicU64::new(0),
        compared: AtomicU64::new(0),
    });
    let watermark = (node_ports.clone(), format!("arx:{}:{{state}}:watermark", identity(&database)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (writer, reader, client) = runtime.block_on(async {
        let writer = WalletWriter::from_environment(Some(&settings)).await.unwrap();
        let reader = WalletReader::from_environment(Some(&settings)).await.unwrap();
        (writer, reader, database.connect().await.unwrap())
    });
    let tasks = [
        runtime.spawn(Arc::clone(&load).write(writer)),
        runtime.spawn(Arc::clone(&load).change_and_read(client, reader, watermark)),
    ];
    let more_writes = |doing: &str| {
        let before = load.accepted();
        let enough = || Ok(load.accepted() >= before + WRITES || tasks.iter().any(|task| task.is_finished()));
        assert!(wait_until(LIMIT, enough).unwrap(), "{doing}: {} accepted; {}", load.accepted(), daemon.log());
    };
    more_writes("before the failure");

    // The master of the watermark is killed; its replica takes its place, and it comes back.
    let slot = |key: &str| -> u16 { redis(node_ports[0], &["CLUSTER", "KEYSLOT", key]).trim().parse().unwrap() };
    let state = slot("{state}");
    let port = masters(node_ports[0]).iter().find(|master| master.has(state)).unwrap().port;
    let index = nodes.iter().position(|node| node.port == port).unwrap();
    nodes[index].kill(stack);
    let witness = nodes.iter().find(|node| node.port != port).unwrap().port;
    let replaced = || Ok(masters(witness).iter().any(|master| master.port != port && master.has(state)));
    assert!(wait_until(LIMIT, replaced).unwrap(), "{}", redis(witness, &["CLUSTER", "NODES"]));
    nodes[index].start(stack);
    wait_for_cluster(&node_ports);
    more_writes("after the failure");
    assert!(wait_until(LIMIT, in_step).unwrap(), "{}", daemon.log());

    // The slots of the watermark and of streams move, and some of profiles.
    let profiles = (1..=5).map(|number| slot(&format!("{{ethereum:{}}}", wallet(number))));
    let streams = (0..16).map(|shard| slot(&format!("{{w{shard:02}}}")));
    for slot in [state].into_iter().chain(streams).chain(profiles) {
        let masters = masters(witness);
        let by_port = |port: u16| nodes.iter().find(|node| node.port == port).unwrap();
        let from = by_port(masters.iter().find(|master| master.has(slot)).unwrap().port);
        let to = by_port(masters.iter().find(|master| !master.has(slot) && !master.slots.is_empty()).unwrap().port);
        let all: Vec<&Node> = masters.iter().map(|master| by_port(master.port)).collect();
        move_slot(slot, from, to, &all);
    }
    more_writes("after slots moved");
    let cached = load.read_from_cache.load(Ordering::Relaxed);
    let cached_again = || Ok(load.read_from_cache.load(Ordering::Relaxed) > cached + 20);
    assert!(wait_until(LIMIT, cached_again).unwrap(), "the cache is not used any more: {}", daemon.log());

    let compared = || Ok(load.compared.load(Ordering::Relaxed) > 0 || tasks.iter().any(|task| task.is_finished()));
    assert!(wait_until(LIMIT, compared).unwrap(), "no watermark was a lease old: {}", daemon.log());
    load.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
    // Each accepted write arrived, and none was applied twice; a refused one may have arrived.
    let accepted = load.accepted.lock().unwrap().clone();
    let arrived = || -> BTreeSet<String> {
        let rows = database.query("SELECT wallet_address FROM arx.wallet_profiles WHERE analytics_profile ? 'note'");
        rows.unwrap().lines().map(str::to_owned).collect()
    };
    let all = || {
        let arrived = arrived();
        Ok(accepted.iter().all(|number| arrived.contains(&wallet(*number))))
    };
    assert!(wait_until(LIMIT, all).unwrap(), "{} of {}: {}", arrived().len(), accepted.len(), daemon.log());
    let drained = || Ok(sidecar(&database, &variables, &["cache", "stats"]).1.contains("0 queued"));
    assert!(wait_until(LIMIT, drained).unwrap(), "{}", daemon.log());
    let twice = "SELECT count(*) FROM arx.wallet_profiles WHERE analytics_profile ? 'note' AND version <> 1";
    assert_eq!(database.query(twice).unwrap(), "0", "a write was applied twice");
    assert!(
        wait_until(LIMIT, in_step).unwrap(),
        "{}: {}",
        sidecar(&database, &variables, &["cache", "verify"]).1,
        daemon.log()
    );
    eprintln!(
        "{} accepted, {} refused, {} profiles read after a change, {} later from the cache",
        accepted.len(),
        load.refused.load(Ordering::Relaxed),
        load.read.load(Ordering::Relaxed),
        load.read_from_cache.load(Ordering::Relaxed)
    );
    drop(runtime);
}
