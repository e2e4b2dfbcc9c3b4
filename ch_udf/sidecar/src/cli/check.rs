//! `arx-sidecar check`: the answer of `arx.health_check()` for monitoring systems. Owns the output
//! of Nagios plugins and its exit codes, and the text format of Prometheus.

use std::fmt::Write;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::CommandError;
use super::output::print;
use crate::error::{Chain, SidecarError};
use crate::escape::Inline;
use crate::health_check::{Finding, Severity, read_findings};
use crate::servers::postgres::{self, Source};
use crate::settings::Settings;

/// Arguments of `arx-sidecar check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Checks to run, all of them if none is named
    #[arg(value_name = "CHECK")]
    checks: Vec<String>,
    /// Format of the output
    #[arg(long, value_enum, default_value_t = Format::Nagios)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line of state and performance data, then a line for each check that is not well
    Nagios,
    /// Gauges, for the textfile collector of the node exporter
    Prometheus,
    /// One array
    Json,
}

/// Exit codes of Nagios plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Returns the state that the worst finding gives. No finding at all is unknown.
    fn of(findings: &[Finding]) -> Self {
        match findings.iter().map(|finding| finding.severity).max() {
            Some(Severity::Critical) => Self::Critical,
            Some(Severity::Warning) => Self::Warning,
            Some(Severity::Unknown) | None => Self::Unknown,
            Some(Severity::Info | Severity::Ok) => Self::Ok,
        }
    }
}

impl CheckArgs {
    /// Prints the findings. A server that does not answer is critical, and any other error unknown:
    /// both are states of the check, and no failure of this program.
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let (state, text) = match self.findings(settings).await {
            Ok(findings) => self.report(&findings),
            Err(error) if self.format != Format::Nagios => return Err(error.into()),
            Err(error) => {
                let is_down = matches!(error, SidecarError::Unreachable { .. } | SidecarError::Hosts { .. });
                let state = if is_down { State::Critical } else { State::Unknown };
                (state, format!("ARX {} - {}\n", state.name(), Inline(Chain(&error))))
            }
        };
        print(text)?;
        Ok(ExitCode::from(state as u8))
    }

    async fn findings(&self, settings: &Settings) -> Result<Vec<Finding>, SidecarError> {
        let connection = postgres::connect_to_extension(&Source::any(settings)).await?;
        let findings = read_findings(&connection.client).await?;
        if let Some(unknown) = self.checks.iter().find(|name| !findings.iter().any(|finding| &finding.name == *name)) {
            let detail =
                format!("check \"{unknown}\" does not exist or is switched off; see arx.effective_alert_rules");
            return Err(SidecarError::Configuration { detail });
        }
        let is_wanted = |finding: &Finding| self.checks.is_empty() || self.checks.contains(&finding.name);
        Ok(findings.into_iter().filter(is_wanted).collect())
    }

    fn report(&self, findings: &[Finding]) -> (State, String) {
        let state = State::of(findings);
        match self.format {
            Format::Nagios => (state, nagios(state, findings)),
            // The collector reads the text, and only that.
            Format::Prometheus => (State::Ok, prometheus(findings)),
            Format::Json => (state, json(findings)),
        }
    }
}

// Writing to a String cannot fail: the results of `write!` are ignored below.

fn nagios(state: State, findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let mut text = format!("ARX {} - ", state.name());
    let bad: Vec<&Finding> = findings.iter().filter(|finding| finding.severity > Severity::Ok).collect();
    match bad.first() {
        None => {
            let _ = write!(text, "{} checks are well", findings.len());
        }
        Some(worst) => {
            let _ = write!(
                text,
                "{} critical, {} warning, {} unknown; {}",
                count(Severity::Critical),
                count(Severity::Warning),
                count(Severity::Unknown),
                plain(&worst.cause)
            );
        }
    }
    text.push_str(" |");
    for finding in findings {
        if let (Some(value), true) = (finding.value, finding.object.is_none()) {
            let _ = write!(text, " {}={value}", finding.name);
        }
    }
    text.push('\n');
    for finding in bad {
        let statement = finding.statement.as_ref().map(|text| format!(" [{}]", plain(text))).unwrap_or_default();
        let _ = writeln!(text, "{} {}: {}{statement}", finding.severity.name(), finding.name, plain(&finding.cause));
    }
    text
}

/// A line of a plugin's output. A bar would begin the performance data.
fn plain(text: &str) -> String {
    Inline(text).to_string().replace('|', "/")
}

fn prometheus(findings: &[Finding]) -> String {
    let mut text = String::from(
        "# HELP arx_health_severity 0 ok, 1 info, 2 unknown, 3 warning, 4 critical\n# TYPE arx_health_severity gauge\n",
    );
    for finding in findings {
        let _ = writeln!(text, "arx_health_severity{} {}", labels(finding), finding.severity as u8);
    }
    text.push_str("# HELP arx_health_value value that the check compares\n# TYPE arx_health_value gauge\n");
    for finding in findings {
        if let Some(value) = finding.value {
            let _ = writeln!(text, "arx_health_value{} {value}", labels(finding));
        }
    }
    text
}

fn labels(finding: &Finding) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let object = finding.object.as_deref().unwrap_or_default();
    format!("{{name=\"{}\",object=\"{}\"}}", quoted(&finding.name), quoted(object))
}

#[derive(Serialize)]
struct JsonFinding<'a> {
    name: &'a str,
    object: Option<&'a str>,
    value: Option<f64>,
    threshold: Option<f64>,
    severity: &'a str,
    cause: &'a str,
    statement: Option<&'a str>,
}

fn json(findings: &[Finding]) -> String {
    let rows: Vec<JsonFinding<'_>> = findings
        .iter()
        .map(|finding| JsonFinding {
            name: &finding.name,
            object: finding.object.as_deref(),
            value: finding.value,
            threshold: finding.threshold,
            severity: finding.severity.name(),
            cause: &finding.cause,
            statement: finding.statement.as_deref(),
        })
        .collect();
    // Strings and numbers alone.
    serde_json::to_string_pretty(&rows).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(name: &str, severity: Severity, value: Option<f64>) -> Finding {
        Finding {
            name: name.into(),
            object: None,
            value,
            threshold: None,
            severity,
            cause: format!("{name} is | so\nlong"),
            statement: Some("VACUUM;".into()),
        }
    }

    #[test]
    fn the_worst_finding_decides_the_state_and_no_finding_is_unknown() {
        let state = |severities: &[Severity]| {
            State::of(&severities.iter().map(|severity| finding("a", *severity, None)).collect::<Vec<_>>())
        };
        assert_eq!(state(&[]), State::Unknown);
        assert_eq!(state(&[Severity::Ok, Severity::Info]), State::Ok);
        assert_eq!(state(&[Severity::Ok, Severity::Unknown]), State::Unknown);
        assert_eq!(state(&[Severity::Unknown, Severity::Warning]), State::Warning);
        assert_eq!(state(&[Severity::Critical, Severity::Warning, Severity::Unknown]), State::Critical);
        assert_eq!([State::Ok as u8, State::Warning as u8, State::Critical as u8, State::Unknown as u8], [0, 1, 2, 3]);
    }

    #[test]
    fn the_first_line_has_one_bar_and_the_performance_data_behind_it() {
        let findings = [finding("b", Severity::Warning, Some(2.5)), finding("a", Severity::Ok, Some(1.0))];
        let text = nagios(State::Warning, &findings);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ARX WARNING - 0 critical, 1 warning, 0 unknown; b is / so\\u{a}long | b=2.5 a=1");
        assert_eq!(lines[1..], ["warning b: b is / so\\u{a}long [VACUUM;]"]);
        assert_eq!(nagios(State::Ok, &findings[1..]), "ARX OK - 1 checks are well | a=1\n");
    }

    #[test]
    fn labels_of_prometheus_are_quoted() {
        let named = Finding { object: Some("a\"b\\c\nd".into()), ..finding("x", Severity::Critical, Some(3.0)) };
        let text = prometheus(&[named]);
        assert!(text.contains("arx_health_severity{name=\"x\",object=\"a\\\"b\\\\c\\nd\"} 4\n"), "{text}");
        assert!(text.contains("arx_health_value{name=\"x\",object=\"a\\\"b\\\\c\\nd\"} 3\n"), "{text}");
    }
}
