//! The worker that measures the health of the database for `/metrics`.

use std::collections::BTreeSet;
use std::time::Duration;

use metrics::{counter, gauge};
use tokio_postgres::Client;

use super::supervise::Worker;
use crate::error::SidecarError;
use crate::health_check::{Finding, Severity, read_findings};
use crate::servers::postgres;
use crate::settings::Settings;

/// Time between two measurements: as often as Prometheus asks, in most installations.
const INTERVAL: Duration = Duration::from_secs(30);

pub(super) struct DatabaseHealthWorker {
    settings: Settings,
    /// Name and object of the gauges that were set. One that is gone must not keep its value.
    known: BTreeSet<(String, String)>,
}

impl DatabaseHealthWorker {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { settings: settings.clone(), known: BTreeSet::new() }
    }

    fn publish(&mut self, findings: &[Finding]) {
        let key = |finding: &Finding| (finding.name.clone(), finding.object.clone().unwrap_or_default());
        let present: BTreeSet<(String, String)> = findings.iter().map(key).collect();
        for (name, object) in self.known.difference(&present) {
            let (name, object) = (name.clone(), object.clone());
            gauge!("arx_health_severity", "name" => name, "object" => object).set(f64::from(Severity::Ok as u8));
        }
        for finding in findings {
            let (name, object) = key(finding);
            let labels = [("name", name), ("object", object)];
            gauge!("arx_health_severity", &labels).set(f64::from(finding.severity as u8));
            gauge!("arx_health_value", &labels).set(finding.value.unwrap_or(f64::NAN));
        }
        self.known.extend(present);
    }
}

impl Worker for DatabaseHealthWorker {
    type Session = Client;
    type Report = Vec<Finding>;

    const FAILURE: &'static str = "checking the health of the database failed";

    async fn open(&mut self) -> Result<Client, SidecarError> {
        Ok(postgres::connect(&self.settings).await?.client)
    }

    async fn step(&mut self, session: &mut Client) -> Result<Vec<Finding>, SidecarError> {
        read_findings(session).await
    }

    fn record(&mut self, outcome: Result<&Vec<Finding>, &SidecarError>) {
        match outcome {
            Ok(findings) => {
                counter!("arx_health_checks_total").increment(1);
                self.publish(findings);
            }
            Err(_) => counter!("arx_health_errors_total").increment(1),
        }
    }

    fn pause(&mut self, _: &Vec<Finding>, elapsed: Duration) -> Duration {
        INTERVAL.saturating_sub(elapsed).max(Duration::from_secs(5))
    }

    async fn close(self, _: Option<Client>) {}
}
