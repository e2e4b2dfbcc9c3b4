//! Known questions to ClickHouse: after an installation, once it has reloaded the functions, and
//! later, to find functions that apply other documents than the database's.

use ::clickhouse::Client;
use ::clickhouse::error::Error;
use arx_udf::{Models, NULL, Vector, known_answers};

use crate::error::{Chain, Doing, SidecarError};
use crate::servers::clickhouse::{self, Choice, ClickHouseServer};
use crate::settings::Settings;

/// State of the functions in ClickHouse.
#[derive(Debug)]
pub(crate) enum Serving {
    NotChecked,
    ClickHouseNotRunning,
    /// ClickHouse runs and does not serve the functions, for this reason.
    Failed(String),
    /// This version of ClickHouse has answered this many questions correctly.
    Correct {
        version: String,
        answers: usize,
    },
}

/// Checks the ClickHouse that runs now; starts none.
pub(super) async fn check(settings: &Settings, models: &Models) -> Serving {
    let outcome = match Choice::new(settings).running(settings) {
        Ok(Some(server)) => ask(&server, models).await,
        Ok(None) => Ok(Serving::ClickHouseNotRunning),
        Err(error) => Err(Chain(&error).to_string()),
    };
    outcome.unwrap_or_else(Serving::Failed)
}

async fn ask(server: &ClickHouseServer, models: &Models) -> Result<Serving, String> {
    fn text(error: impl std::error::Error + 'static) -> String {
        Chain(&error).to_string()
    }
    let connection = match clickhouse::connect(server).await {
        Err(SidecarError::Unreachable { .. }) => return Ok(Serving::ClickHouseNotRunning),
        connection => connection.map_err(text)?,
    };
    // The configured database may not exist yet.
    let client = connection.client.with_database("default");
    client.query_raw("SYSTEM RELOAD FUNCTIONS").execute().await.map_err(text)?;
    let vectors = known_answers(models).map_err(text)?;
    match wrong_answer(&client, &vectors).await.map_err(text)? {
        Some(wrong) => Err(wrong),
        None => Ok(Serving::Correct { version: connection.version, answers: vectors.len() }),
    }
}

/// Returns the first answer that is not as expected.
async fn wrong_answer(client: &Client, vectors: &[Vector]) -> Result<Option<String>, Error> {
    for vector in vectors {
        let query = format!("SELECT ifNull(toString({}), '{NULL}')", vector.sql);
        let answer: String = client.query_raw(&query).fetch_one().await?;
        if !vector.matches(&answer) {
            return Ok(Some(format!("{} is {answer}, not {}", vector.sql, vector.expected)));
        }
    }
    Ok(None)
}

/// The functions in ClickHouse compared with the documents of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// No ClickHouse runs, or it has no such functions.
    Absent,
    Same,
    /// They answer by another scorecard, calibration or thresholds.
    Different,
}

impl Comparison {
    /// Advice about functions that differ.
    pub(crate) const ADVICE: &'static str = "the functions in ClickHouse apply another risk model, calibration or thresholds than the database has: run \
         `arx-sidecar clickhouse install-udfs`";
}

/// Asks the ClickHouse that runs now; starts none.
///
/// # Errors
/// Errors of ClickHouse.
pub(super) async fn compare(settings: &Settings, models: &Models) -> Result<Comparison, SidecarError> {
    const DOING: &str = "compare the functions in ClickHouse with the database";
    const ARE_INSTALLED: &str = "SELECT count() FROM system.functions WHERE name = 'arxRiskBand'";
    let Some(server) = Choice::new(settings).running(settings)? else { return Ok(Comparison::Absent) };
    let client = clickhouse::connect(&server).await?.client.with_database("default");
    if client.query(ARE_INSTALLED).fetch_one::<u64>().await.doing(DOING)? == 0 {
        return Ok(Comparison::Absent);
    }
    let vectors = known_answers(models).map_err(|error| SidecarError::Input { detail: Chain(&error).to_string() })?;
    let wrong = wrong_answer(&client, &vectors).await.doing(DOING)?;
    Ok(if wrong.is_some() { Comparison::Different } else { Comparison::Same })
}
