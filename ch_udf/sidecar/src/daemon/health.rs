//! The daemon's health: counters and gauges for Prometheus, and whether the feed keeps up.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::metrics::{CACHE_LAG, CACHE_LAG_BUCKETS};
use crate::cache::{Drained, Followed, ReadCounts};
use crate::error::{Chain, SidecarError};
use crate::feed::PassReport;
use crate::functions::Comparison;
use crate::router::RouteCounts;
use crate::write_back::{Kind, Written};

/// A feed that has not succeeded for this long is unhealthy.
const STALE: Duration = Duration::from_secs(60);

pub(super) struct Health {
    recorder: PrometheusHandle,
    started: Instant,
    feed: Mutex<FeedHealth>,
}

#[derive(Default)]
struct FeedHealth {
    succeeded: Option<Instant>,
    error: Option<String>,
    /// Rows that ClickHouse cannot hold.
    set_aside: u64,
    /// Why everything was loaded again, since the start of this process.
    restart: Option<&'static str>,
    /// The functions in ClickHouse apply other documents than the database has.
    functions_differ: bool,
    /// The latest error of each kind of write-back.
    write_back_errors: BTreeMap<&'static str, String>,
    write_behind_error: Option<String>,
    cache_error: Option<String>,
}

impl Health {
    /// Installs the recorder of this process.
    pub(super) fn install() -> Result<Self, SidecarError> {
        let unusable = |error: BuildError| SidecarError::Configuration {
            detail: format!("the metrics recorder cannot be installed: {error}"),
        };
        let lag = Matcher::Full(CACHE_LAG.to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(lag, &CACHE_LAG_BUCKETS).map_err(unusable)?;
        let recorder = builder.install_recorder().map_err(unusable)?;
        super::metrics::describe();
        Ok(Self { recorder, started: Instant::now(), feed: Mutex::new(FeedHealth::default()) })
    }

    fn feed(&self) -> std::sync::MutexGuard<'_, FeedHealth> {
        // Plain values: a panic cannot have left them half written.
        self.feed.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn record_pass(&self, report: &PassReport) {
        counter!("arx_feed_passes_total").increment(1);
        counter!("arx_feed_rows_total").increment(report.rows);
        counter!("arx_feed_tombstones_total").increment(report.tombstones);
        counter!("arx_feed_reloaded_hours_total").increment(report.reloaded as u64);
        counter!("arx_feed_reloaded_ranges_total").increment(report.ranges as u64);
        counter!("arx_feed_repairs_total").increment(u64::from(report.repaired));
        if !report.is_idle() {
            gauge!("arx_feed_pass_seconds").set(report.elapsed.as_secs_f64());
            #[expect(clippy::cast_precision_loss, reason = "a rate needs fewer than 53 bits")]
            let rate = report.rows as f64 / report.elapsed.as_secs_f64().max(1e-6);
            gauge!("arx_feed_rows_per_second").set(rate);
        }
        #[expect(clippy::cast_precision_loss, reason = "Prometheus gauges are floats")]
        gauge!("arx_feed_set_aside_rows").set(report.set_aside as f64);
        let mut feed = self.feed();
        feed.error = None;
        feed.set_aside = report.set_aside;
        feed.restart = report.restart.or(feed.restart);
        // A pass reads the state of its start.
        feed.succeeded = Instant::now().checked_sub(report.elapsed);
    }

    pub(super) fn record_feed_error(&self, error: &SidecarError) {
        counter!("arx_feed_errors_total").increment(1);
        self.feed().error = Some(Chain(error).to_string());
    }

    pub(super) fn record_write_back(&self, kind: Kind, written: &Written) {
        for (rows, name) in [(written.hours, "hours"), (written.days, "days"), (written.wallets, "wallets")] {
            counter!("arx_write_back_rows_total", "kind" => name).increment(rows as u64);
        }
        self.feed().write_back_errors.remove(kind.as_str());
    }

    pub(super) fn record_write_back_error(&self, kind: Kind, error: &SidecarError) {
        counter!("arx_write_back_errors_total").increment(1);
        self.feed().write_back_errors.insert(kind.as_str(), Chain(error).to_string());
    }

    pub(super) fn record_functions(&self, comparison: Comparison) {
        let differ = comparison == Comparison::Different;
        gauge!("arx_functions_outdated").set(if differ { 1.0 } else { 0.0 });
        let differed = std::mem::replace(&mut self.feed().functions_differ, differ);
        if differ && !differed {
            tracing::warn!("{}", Comparison::ADVICE);
        }
    }

    pub(super) fn record_write_behind(&self, drained: &Drained, pending: u64) {
        counter!("arx_write_behind_applied_total").increment(drained.applied as u64);
        counter!("arx_write_behind_dead_total").increment(drained.dead as u64);
        counter!("arx_cache_keys_set_aside_total").increment(drained.set_aside);
        #[expect(
            clippy::cast_precision_loss,
            reason = "Prometheus gauges are floats; streams end at a million entries"
        )]
        gauge!("arx_write_behind_pending").set(pending as f64);
        self.feed().write_behind_error = None;
    }

    pub(super) fn record_write_behind_error(&self, error: &SidecarError) {
        counter!("arx_write_behind_errors_total").increment(1);
        self.feed().write_behind_error = Some(Chain(error).to_string());
    }

    pub(super) fn record_followed(&self, followed: &Followed) {
        counter!("arx_cache_changes_total").increment(followed.changed as u64);
        counter!("arx_cache_profiles_total").increment(followed.cached);
        counter!("arx_cache_floors_total").increment(u64::from(followed.raised));
        counter!("arx_cache_keys_set_aside_total").increment(followed.set_aside);
        #[expect(clippy::cast_precision_loss, reason = "Prometheus gauges are floats")]
        gauge!("arx_cache_backlog").set(followed.backlog as f64);
        if followed.changed > 0 {
            histogram!(CACHE_LAG).record(followed.lag.as_secs_f64());
        }
        self.feed().cache_error = None;
    }

    pub(super) fn record_follow_error(&self, error: &SidecarError) {
        counter!("arx_cache_follow_errors_total").increment(1);
        self.feed().cache_error = Some(Chain(error).to_string());
    }

    /// Takes over the numbers of the readers of profiles.
    #[expect(clippy::unused_self, reason = "this object owns the recorder that the macros use")]
    pub(super) fn record_reads(&self, counts: &ReadCounts) {
        let levels = [("local", &counts.local), ("cache", &counts.cache), ("database", &counts.database)];
        for (level, count) in levels {
            counter!("arx_cache_reads_total", "level" => level).absolute(count.load(Ordering::Relaxed));
        }
        counter!("arx_cache_shared_reads_total").absolute(counts.shared.load(Ordering::Relaxed));
        counter!("arx_cache_early_reads_total").absolute(counts.early.load(Ordering::Relaxed));
        counter!("arx_cache_errors_total").absolute(counts.errors.load(Ordering::Relaxed));
    }

    /// Takes over the numbers of the router.
    #[expect(clippy::unused_self, reason = "this object owns the recorder that the macros use")]
    pub(super) fn record_routes(&self, counts: &RouteCounts) {
        let sources = [
            ("local", &counts.local),
            ("redis", &counts.redis),
            ("clickhouse", &counts.clickhouse),
            ("postgresql", &counts.postgresql),
        ];
        for (source, count) in sources {
            counter!("arx_query_answers_total", "store" => source).absolute(count.load(Ordering::Relaxed));
        }
        counter!("arx_query_fallovers_total").absolute(counts.fallen_over.load(Ordering::Relaxed));
    }

    fn lag(&self) -> Duration {
        self.feed().succeeded.unwrap_or(self.started).elapsed()
    }

    /// Renders the page for Prometheus.
    pub(super) fn metrics(&self) -> String {
        gauge!("arx_feed_lag_seconds").set(self.lag().as_secs_f64());
        self.recorder.run_upkeep();
        self.recorder.render()
    }

    /// Returns whether the daemon is healthy, and the report on it.
    pub(super) fn report(&self) -> (bool, serde_json::Value) {
        let lag = self.lag();
        let feed = self.feed();
        let is_ok = lag < STALE && feed.error.is_none() && feed.write_back_errors.is_empty();
        let is_degraded = feed.set_aside > 0
            || feed.functions_differ
            || feed.cache_error.is_some()
            || feed.write_behind_error.is_some();
        let status = match (is_ok, is_degraded) {
            (false, _) => "failing",
            (true, false) => "ok",
            (true, true) => "degraded",
        };
        let body = serde_json::json!({
            "status": status,
            "feed_lag_seconds": lag.as_secs_f64(),
            "feed_error": feed.error,
            "feed_set_aside_rows": feed.set_aside,
            "feed_restart": feed.restart,
            "functions": feed.functions_differ.then_some(Comparison::ADVICE),
            "write_back_errors": feed.write_back_errors,
            "write_behind_error": feed.write_behind_error,
            "cache_error": feed.cache_error,
        });
        (is_ok, body)
    }
}
