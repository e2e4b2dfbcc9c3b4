//! Settings of PostgreSQL for a machine: pure rules. They follow the PostgreSQL manual (chapters 20
//! and 29) and pgtune's rules; a rule of ARX's own says so in its reason.

use std::collections::BTreeMap;

const KB: u64 = 1 << 10;
const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Disk {
    /// Solid state
    Ssd,
    /// Rotating
    Hdd,
}

impl Disk {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ssd => "ssd",
            Self::Hdd => "hdd",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Bytes that PostgreSQL may use.
    pub(crate) memory: u64,
    pub(crate) processors: u32,
    pub(crate) disk: Disk,
    /// Connections that are needed; `None` lets the processors decide.
    pub(crate) connections: Option<u32>,
}

/// A setting as the server has it.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    /// With its unit: `128MB`.
    pub(crate) shown: String,
    /// In the unit of the setting: `16384`.
    pub(crate) value: String,
    /// `8kB`, `ms` and others.
    pub(crate) unit: Option<String>,
    pub(crate) needs_restart: bool,
    /// Values of an enumeration.
    pub(crate) allowed: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advice {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) current: String,
    pub(crate) is_changed: bool,
    pub(crate) needs_restart: bool,
    pub(crate) reason: String,
}

impl Advice {
    /// Returns the statement that sets the value.
    pub(crate) fn statement(&self) -> String {
        // A list has its elements quoted one by one.
        let values: Vec<String> = match self.name {
            "shared_preload_libraries" => self.value.split(',').map(str::trim).map(quoted).collect(),
            _ => vec![quoted(&self.value)],
        };
        format!("ALTER SYSTEM SET {} = {};", self.name, values.join(", "))
    }
}

fn quoted(text: &str) -> String {
    let escape = if text.contains('\\') { "E" } else { "" };
    format!("{escape}'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// Connections of a server whose machine decides: enough work for each processor and its disk, and
/// some that wait for clients.
fn connections(machine: &Machine) -> u32 {
    machine.connections.unwrap_or((machine.processors * 16).clamp(60, 240))
}

/// Returns what to set, for settings that the server has.
pub(crate) fn advise(machine: &Machine, current: &BTreeMap<String, Current>) -> Vec<Advice> {
    let memory = machine.memory;
    let shared = if memory < GB { memory / 8 } else { memory / 4 };
    let connections = connections(machine);
    let gather = (machine.processors / 2).clamp(1, 4);
    let maintenance = (memory / 16).clamp(16 * MB, 2 * GB);
    let vacuum_workers = (machine.processors / 2).clamp(3, 8);
    // A query sorts in several nodes and in each of its workers.
    let work = (memory.saturating_sub(shared) / (u64::from(connections) * 3) / u64::from(gather)).clamp(4 * MB, GB);
    let is_ssd = machine.disk == Disk::Ssd;
    let longest_wal = if memory < 4 * GB { 2 * GB } else { 8 * GB };
    let compression = current
        .get("wal_compression")
        .map_or("on", |setting| if setting.allowed.iter().any(|value| value == "lz4") { "lz4" } else { "on" });
    let libraries = current.get("shared_preload_libraries").map(|setting| setting.value.clone()).unwrap_or_default();
    let mut list: Vec<&str> = libraries.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if !list.contains(&"pg_stat_statements") {
        list.push("pg_stat_statements");
    }
    let rules: Vec<(&'static str, String, String)> = vec![
        (
            "max_connections",
            connections.to_string(),
            match machine.connections {
                Some(_) => "as stated".to_owned(),
                None => {
                    "16 for each processor; more clients than that go through pgbouncer, because each connection takes \
                     memory and every snapshot reads all of them"
                        .to_owned()
                }
            },
        ),
        (
            "shared_buffers",
            size(shared),
            "a quarter of the memory (an eighth below 1 GB): the manual's starting point for \
            a server of its own; the rest caches files for the operating system"
                .to_owned(),
        ),
        (
            "effective_cache_size",
            size(memory / 4 * 3),
            "three quarters of the memory: what both caches hold together; \
            the planner prefers indexes accordingly, and nothing is allocated"
                .to_owned(),
        ),
        (
            "work_mem",
            size(work),
            format!(
                "what is left after shared_buffers, for {connections} connections with three \
            sorts or hashes and {gather} workers each"
            ),
        ),
        (
            "maintenance_work_mem",
            size(maintenance),
            "a sixteenth of the memory, at most 2 GB: for building indexes and \
            VACUUM"
                .to_owned(),
        ),
        (
            "autovacuum_work_mem",
            size((maintenance / u64::from(vacuum_workers)).max(16 * MB)),
            format!(
                "the same memory, \
            divided among {vacuum_workers} workers of autovacuum"
            ),
        ),
        (
            "arx.graph_work_mem",
            size((memory / 16).clamp(64 * MB, 4 * GB)),
            "ARX: what one build or one query of the \
            graph may take, a sixteenth of the memory"
                .to_owned(),
        ),
        (
            "wal_compression",
            compression.to_owned(),
            "full pages after a checkpoint are most of the WAL; compressed, they \
            take less disk and less network to standbys"
                .to_owned(),
        ),
        ("min_wal_size", size(longest_wal / 4), "files that are recycled instead of made again".to_owned()),
        (
            "max_wal_size",
            size(longest_wal),
            "a checkpoint by volume comes later, so that imports write fewer full \
            pages"
                .to_owned(),
        ),
        (
            "wal_keep_size",
            size(512 * MB),
            "what a standby without a slot may lag; wal_keep_segments, its \
            name before 13, is gone"
                .to_owned(),
        ),
        (
            "max_slot_wal_keep_size",
            size(longest_wal * 4),
            "a slot whose reader is gone cannot fill the disk; \
            arx.health_check() reports a slot before it is lost"
                .to_owned(),
        ),
        (
            "checkpoint_timeout",
            "15min".to_owned(),
            "fewer full pages than with 5 minutes; recovery after a crash takes \
            longer, about as long as the WAL of a quarter of an hour"
                .to_owned(),
        ),
        (
            "checkpoint_completion_target",
            "0.9".to_owned(),
            "writes of a checkpoint are spread over its time".to_owned(),
        ),
        (
            "random_page_cost",
            if is_ssd { "1.1" } else { "4" }.to_owned(),
            format!(
                "the cost of a random page on {}, in \
            sequential ones",
                if is_ssd { "solid state" } else { "a rotating disk" }
            ),
        ),
        (
            "effective_io_concurrency",
            if is_ssd { "200" } else { "2" }.to_owned(),
            "requests that the disk answers at a \
            time, for bitmap scans"
                .to_owned(),
        ),
        (
            "max_worker_processes",
            (machine.processors + 4).max(8).to_string(),
            "a process for each processor, and those of \
            ARX, replication and pg_cron"
                .to_owned(),
        ),
        ("max_parallel_workers", machine.processors.to_string(), "a process for each processor".to_owned()),
        (
            "max_parallel_workers_per_gather",
            gather.to_string(),
            "half of the processors, at most 4: one query leaves some \
            to others"
                .to_owned(),
        ),
        ("max_parallel_maintenance_workers", gather.to_string(), "for building indexes".to_owned()),
        ("jit", "off".to_owned(), "ARX: compiling a plan over many partitions takes longer than running it".to_owned()),
        ("autovacuum_max_workers", vacuum_workers.to_string(), "partitions are vacuumed side by side".to_owned()),
        (
            "autovacuum_vacuum_scale_factor",
            "0.05".to_owned(),
            "a partition of millions of rows is vacuumed when a \
            twentieth has changed, not a fifth"
                .to_owned(),
        ),
        ("autovacuum_analyze_scale_factor", "0.02".to_owned(), "statistics follow imports".to_owned()),
        (
            "autovacuum_vacuum_cost_limit",
            if is_ssd { "2000" } else { "400" }.to_owned(),
            "what the disk can do in addition \
            to queries"
                .to_owned(),
        ),
        ("log_min_duration_statement", "1s".to_owned(), "slow statements are logged".to_owned()),
        (
            "log_statement",
            "none".to_owned(),
            "`all` would write every statement, with secrets and addresses, to the \
            log"
            .to_owned(),
        ),
        ("log_lock_waits", "on".to_owned(), "a wait of more than deadlock_timeout is logged".to_owned()),
        ("log_checkpoints", "on".to_owned(), "shows whether max_wal_size is too small".to_owned()),
        ("log_temp_files", size(work), "sorts that did not fit into work_mem by far".to_owned()),
        ("log_autovacuum_min_duration", "10s".to_owned(), "slow runs of autovacuum are logged".to_owned()),
        (
            "idle_in_transaction_session_timeout",
            "15min".to_owned(),
            "a forgotten transaction keeps VACUUM from removing \
            rows; the sidecar sets its own"
                .to_owned(),
        ),
        ("shared_preload_libraries", list.join(", "), "pg_stat_statements is what arx.slow_queries reads".to_owned()),
        (
            "track_io_timing",
            "on".to_owned(),
            "shows whether a slow query waits for the disk; measure its cost with \
            pg_test_timing"
                .to_owned(),
        ),
    ];
    let known = rules.into_iter().filter_map(|(name, value, reason)| Some((name, value, reason, current.get(name)?)));
    known
        .map(|(name, value, reason, current)| Advice {
            name,
            is_changed: !is_same(&value, current),
            value,
            current: current.shown.clone(),
            needs_restart: current.needs_restart,
            reason: reason.split_whitespace().collect::<Vec<_>>().join(" "),
        })
        .collect()
}

/// Formats bytes as PostgreSQL does, rounded down to a unit.
fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= GB && bytes.is_multiple_of(GB) => format!("{}GB", bytes / GB),
        bytes if bytes >= MB => format!("{}MB", bytes / MB),
        bytes => format!("{}kB", bytes / KB),
    }
}

/// Parses a number with a unit into the smallest one: bytes, or milliseconds.
fn in_smallest(text: &str) -> Option<f64> {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim() {
        "" | "B" | "ms" => 1.0,
        "kB" => KB as f64,
        "8kB" => 8.0 * KB as f64,
        "MB" => MB as f64,
        "GB" => GB as f64,
        "TB" => 1024.0 * GB as f64,
        "s" => 1_000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    Some(number.trim().parse::<f64>().ok()? * factor)
}

fn is_same(value: &str, current: &Current) -> bool {
    let unit = current.unit.as_deref().unwrap_or_default();
    // The unit of pages has a number of its own.
    let unit_size = if unit.starts_with('8') { in_smallest("8kB") } else { in_smallest(&format!("1{unit}")) };
    let numbers = in_smallest(value).zip(current.value.parse::<f64>().ok().zip(unit_size));
    match numbers {
        Some((wanted, (found, unit))) => (wanted - found * unit).abs() <= wanted.abs() * 0.01,
        None => value.replace(", ", ",") == current.value.replace(", ", ","),
    }
}

/// The lines of `pgbouncer.ini`, with their reasons.
pub(crate) fn pgbouncer(machine: &Machine) -> Vec<(&'static str, String, String)> {
    let pool = (machine.processors * 2 + 1).max(5);
    let most = connections(machine);
    vec![
        (
            "pool_mode",
            "transaction".to_owned(),
            "SQL clients share connections between transactions; every function of \
            ARX works so, and the sidecar connects directly"
                .to_owned(),
        ),
        (
            "default_pool_size",
            pool.to_string(),
            "twice the processors and one for the disk: more running queries take \
            longer, all together"
                .to_owned(),
        ),
        ("reserve_pool_size", (pool / 4).max(2).to_string(), "for a burst".to_owned()),
        ("max_client_conn", (most * 10).max(1000).to_string(), "clients that wait cost pgbouncer 2 kB each".to_owned()),
        (
            "max_db_connections",
            most.saturating_sub(10).max(pool).to_string(),
            "leaves some of max_connections to the \
            sidecar, to backups and to administrators"
                .to_owned(),
        ),
        (
            "max_prepared_statements",
            "200".to_owned(),
            "prepared statements work in this mode from pgbouncer 1.21 on; \
            leave it out before"
                .to_owned(),
        ),
        (
            "server_idle_timeout",
            "600".to_owned(),
            "connections that no client needs are closed, with the memory of their \
            caches"
                .to_owned(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(value: &str, unit: Option<&str>) -> Current {
        Current {
            shown: format!("{value}{}", unit.unwrap_or_default()),
            value: value.into(),
            unit: unit.map(str::to_owned),
            needs_restart: false,
            allowed: Vec::new(),
        }
    }

    fn value(machine: &Machine, name: &str, current: Current) -> Advice {
        let advice = advise(machine, &BTreeMap::from([(name.to_owned(), current)]));
        advice.into_iter().next().unwrap()
    }

    const LARGE: Machine = Machine { memory: 64 * GB, processors: 16, disk: Disk::Ssd, connections: None };

    #[test]
    fn memory_follows_the_rules_of_the_manual() {
        let buffers = value(&LARGE, "shared_buffers", setting("16384", Some("8kB")));
        assert_eq!((buffers.value.as_str(), buffers.is_changed), ("16GB", true));
        assert_eq!(buffers.statement(), "ALTER SYSTEM SET shared_buffers = '16GB';");
        assert_eq!(value(&LARGE, "effective_cache_size", setting("1", Some("8kB"))).value, "48GB");
        assert_eq!(value(&LARGE, "maintenance_work_mem", setting("1", Some("kB"))).value, "2GB");
        // 48 GB for 240 connections, three nodes, four workers.
        assert_eq!(value(&LARGE, "work_mem", setting("4096", Some("kB"))).value, "17MB");
        let small = Machine { memory: 512 * MB, processors: 1, disk: Disk::Hdd, connections: Some(20) };
        assert_eq!(value(&small, "shared_buffers", setting("1", Some("8kB"))).value, "64MB");
        assert_eq!(value(&small, "random_page_cost", setting("1.1", None)).value, "4");
        assert_eq!(value(&small, "max_connections", setting("100", None)).value, "20");
    }

    #[test]
    fn no_machine_is_promised_more_memory_than_it_has() {
        for memory in [256 * MB, GB, 3 * GB, 16 * GB, 512 * GB] {
            for processors in [1, 2, 8, 128] {
                let machine = Machine { memory, processors, ..LARGE };
                let bytes = |name, unit| in_smallest(&value(&machine, name, setting("1", Some(unit))).value).unwrap();
                let (shared, work) = (bytes("shared_buffers", "8kB"), bytes("work_mem", "kB"));
                assert!(shared <= memory as f64 / 4.0);
                // The least that sorts need is not divided further.
                assert!(work <= 4.0 * MB as f64 || shared + work * f64::from(connections(&machine)) <= memory as f64);
            }
        }
    }

    #[test]
    fn equal_values_in_other_units_are_no_change() {
        assert!(!value(&LARGE, "shared_buffers", setting("2097152", Some("8kB"))).is_changed);
        assert!(!value(&LARGE, "checkpoint_timeout", setting("900", Some("s"))).is_changed);
        assert!(!value(&LARGE, "log_min_duration_statement", setting("1000", Some("ms"))).is_changed);
        assert!(!value(&LARGE, "jit", setting("off", None)).is_changed);
        assert!(value(&LARGE, "log_min_duration_statement", setting("-1", Some("ms"))).is_changed);
    }

    #[test]
    fn libraries_are_added_to_those_that_are_loaded() {
        let advice = value(&LARGE, "shared_preload_libraries", setting("pg_cron,it's", None));
        assert_eq!(advice.value, "pg_cron, it's, pg_stat_statements");
        assert_eq!(
            advice.statement(),
            "ALTER SYSTEM SET shared_preload_libraries = 'pg_cron', 'it''s', 'pg_stat_statements';"
        );
        let same = value(&LARGE, "shared_preload_libraries", setting("pg_stat_statements,pg_cron", None));
        assert!(!same.is_changed);
    }

    #[test]
    fn a_compression_is_chosen_that_the_server_has() {
        let with = |allowed: &[&str]| Current {
            allowed: allowed.iter().map(|name| (*name).to_owned()).collect(),
            ..setting("off", None)
        };
        assert_eq!(value(&LARGE, "wal_compression", with(&["pglz", "lz4", "on", "off"])).value, "lz4");
        assert_eq!(value(&LARGE, "wal_compression", with(&["pglz", "on", "off"])).value, "on");
    }

    #[test]
    fn a_pool_is_smaller_than_the_server() {
        for processors in [1, 4, 64] {
            let machine = Machine { processors, ..LARGE };
            let pool = pgbouncer(&machine);
            let number = |name: &str| -> u32 { pool.iter().find(|line| line.0 == name).unwrap().1.parse().unwrap() };
            assert!(number("default_pool_size") <= number("max_db_connections"));
            assert!(number("max_db_connections") < connections(&machine).max(6));
        }
    }
}
