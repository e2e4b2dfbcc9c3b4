//! The check after an installation: ClickHouse reloads the functions and answers known questions.

use arx_udf::{Models, NULL, known_answers};

use crate::error::{Chain, SidecarError};
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
    for vector in &vectors {
        let query = format!("SELECT ifNull(toString({}), '{NULL}')", vector.sql);
        let answer: String = client.query_raw(&query).fetch_one().await.map_err(text)?;
        if !vector.matches(&answer) {
            return Err(format!("{} is {answer}, not {}", vector.sql, vector.expected));
        }
    }
    Ok(Serving::Correct { version: connection.version, answers: vectors.len() })
}
