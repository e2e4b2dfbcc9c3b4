//! The metrics of the daemon: names, kinds and descriptions, for `/metrics` and for the documents.

use metrics::counter;

/// The lag of the cache.
pub(super) const CACHE_LAG: &str = "arx_cache_lag_seconds";

/// Limits of its buckets, in seconds.
pub(super) const CACHE_LAG_BUCKETS: [f64; 9] = [0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 30.0];

/// Kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A value that rises and falls.
    Gauge,
    /// A number that only rises; it starts at zero unless it has labels.
    Counter { label: Option<&'static str> },
    /// Numbers of observations below the buckets' limits.
    Histogram,
}

/// A metric at `/metrics`.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub help: &'static str,
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, help }
}

const fn count(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter { label: None }, help }
}

const fn count_by(label: &'static str, name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter { label: Some(label) }, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Histogram, help }
}

pub const METRICS: [Metric; 35] = [
    gauge("arx_feed_lag_seconds", "time since ClickHouse last held everything that PostgreSQL held"),
    gauge("arx_feed_pass_seconds", "duration of the last pass that carried rows"),
    gauge("arx_feed_rows_per_second", "rate of the last pass that carried rows"),
    gauge("arx_feed_set_aside_rows", "rows of PostgreSQL that ClickHouse cannot hold"),
    count("arx_feed_rows_total", "rows fed to ClickHouse"),
    count("arx_feed_tombstones_total", "former rows taken back in ClickHouse"),
    count("arx_feed_passes_total", "passes that succeeded"),
    count("arx_feed_errors_total", "passes that failed"),
    count("arx_feed_repairs_total", "passes that computed aggregates again"),
    count("arx_feed_reloaded_hours_total", "hours that were loaded again"),
    count("arx_feed_reloaded_ranges_total", "ranges of partitions that were loaded again, or taken back"),
    count_by("kind", "arx_write_back_rows_total", "rows written back into PostgreSQL"),
    count("arx_write_back_errors_total", "failed write-backs"),
    gauge("arx_functions_outdated", "1 if ClickHouse's functions apply another model than the database has"),
    gauge("arx_write_behind_pending", "annotations queued in Redis"),
    count("arx_write_behind_applied_total", "annotations written to PostgreSQL"),
    count("arx_write_behind_dead_total", "annotations set aside because PostgreSQL rejects them"),
    count("arx_cache_keys_set_aside_total", "keys in Redis that were renamed because they had a wrong type"),
    count("arx_write_behind_errors_total", "failed rounds of write-behind"),
    gauge(
        "arx_health_severity",
        "result of a check by `name` and `object`: 0 ok, 1 info, 2 unknown, 3 warning, 4 critical",
    ),
    gauge("arx_health_value", "value that a check compares, by `name` and `object`"),
    count("arx_health_checks_total", "runs of arx.health_check()"),
    count("arx_health_errors_total", "runs of arx.health_check() that failed"),
    histogram(
        CACHE_LAG,
        "time from the commit of a change until every profile that it may change is in Redis, at most",
    ),
    gauge("arx_cache_backlog", "profiles that changed and are not cached again yet; readers get them from PostgreSQL"),
    count("arx_cache_changes_total", "wallets whose profile may have changed"),
    count("arx_cache_profiles_total", "profiles that were brought into Redis because of a change"),
    count("arx_cache_floors_total", "changes of everything, such as another model"),
    count("arx_cache_follow_errors_total", "failed looks for changed profiles"),
    count_by("level", "arx_cache_reads_total", "profiles read at `/v1/wallets`, by the level that had them"),
    count("arx_cache_shared_reads_total", "reads that waited for another one instead of asking PostgreSQL"),
    count("arx_cache_early_reads_total", "profiles that were read again before they expired"),
    count("arx_cache_errors_total", "reads that Redis did not answer"),
    count_by("store", "arx_query_answers_total", "analytics queries answered, by `store`"),
    count(
        "arx_query_fallovers_total",
        "stores that gave no answer to an analytics query, so that the next one was asked",
    ),
];

/// Describes the metrics to the installed recorder, and starts counters at zero.
pub(super) fn describe() {
    for Metric { name, kind, help } in METRICS {
        match kind {
            MetricKind::Gauge => metrics::describe_gauge!(name, help),
            MetricKind::Counter { label } => {
                metrics::describe_counter!(name, help);
                if label.is_none() {
                    counter!(name).absolute(0);
                }
            }
            MetricKind::Histogram => metrics::describe_histogram!(name, help),
        }
    }
}
