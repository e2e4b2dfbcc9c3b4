//! Reads a report from a database: its models, the measures stored with the draft, and the
//! extension's measures on the current labels.

use std::collections::BTreeMap;
use std::pin::pin;

use arx_core::risk::fit::BandChange;
use arx_core::risk::scorecard::Scorecard;
use arx_core::risk::study::ModelReport;
use futures_util::TryStreamExt;
use serde::Deserialize;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::super::RiskError;
use super::Evaluate;
use super::content::{Measured, Model, Report, Sample};
use super::offline::AllScores;
use crate::error::{Doing, Failure};
use crate::servers::postgres;
use crate::settings::Settings;

/// Reads a model. `$1` is the version; NULL means the active one, or with `$2` the newest draft.
const MODEL: &str = "
SELECT m.document::text, m.state, m.builtin, m.network, m.created_by, m.report,
       to_char(m.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI UTC'), to_char(m.activated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI UTC')
  FROM arx.risk_models AS m
 WHERE CASE WHEN $1::text IS NOT NULL THEN m.version = $1 WHEN $2 THEN m.state = 'draft' ELSE m.state = 'active' END
 ORDER BY m.created_at DESC, m.version LIMIT 1";

const VERSIONS: &str =
    "SELECT coalesce(string_agg(m.version, ', ' ORDER BY m.version), 'none') FROM arx.risk_models AS m";

const EVALUATE: &str = "
SELECT arx.evaluate_risk_model(version => $1, network => $2, illicit => $3, licit => $4, folds => $5, seed => $6)";

const FEATURES: &str = "SELECT array_agg(f.feature ORDER BY f.position) FROM arx.risk_features() AS f";

const VECTORS: &str = "SELECT v.features FROM arx.feature_vectors($1) AS v";

const LABELS: &str = "
SELECT l.address, l.category || CASE WHEN l.label <> '' THEN ': ' || l.label ELSE '' END || ' (' || l.source || ')'
  FROM arx.current_labels AS l
 WHERE l.network = $1 AND l.address = ANY ($2)";

/// Options of the report.
pub(crate) struct DatabaseRequest {
    /// Version of the draft; the newest if not given.
    pub(crate) draft: Option<String>,
    pub(crate) network: Option<String>,
    pub(crate) evaluate: Evaluate,
    /// Categories that mean illicit; all of that kind if not given.
    pub(crate) illicit: Option<Vec<String>>,
    pub(crate) licit: Vec<String>,
    pub(crate) folds: u32,
    pub(crate) seed: u64,
}

/// A row of `arx.risk_models`.
struct StoredModel {
    scorecard: Scorecard,
    state: String,
    builtin: bool,
    network: Option<String>,
    created_by: String,
    created: String,
    activated: Option<String>,
    study: Option<Study>,
}

/// The document that `fit_risk_model` stores and `evaluate_risk_model` returns. After a fit,
/// `draft` is the fitted model and `current` the one that was active then.
#[derive(Debug, Clone, Deserialize)]
struct Study {
    network: String,
    cases: Sample,
    draft: Option<ModelReport>,
    current: ModelReport,
    drift: Vec<BandChange>,
}

impl StoredModel {
    fn read(row: &Row) -> Result<Self, RiskError> {
        let study = row.get::<_, Option<serde_json::Value>>(5).map(serde_json::from_value).transpose();
        let study = study.doing("read the report stored with a model")?;
        Ok(Self {
            scorecard: Scorecard::from_json(row.get(0))?,
            state: row.get(1),
            builtin: row.get(2),
            network: row.get(3),
            created_by: row.get(4),
            created: row.get(6),
            activated: row.get(7),
            study,
        })
    }

    fn to_model(&self) -> Model {
        let state = match &self.activated {
            Some(activated) => format!("{}, since {activated}", self.state),
            None => self.state.clone(),
        };
        let stored = if self.builtin {
            format!("{}, shipped with ARX", self.created)
        } else {
            format!("{}, by {}", self.created, self.created_by)
        };
        Model { scorecard: self.scorecard.clone(), state, stored: Some(stored), measured: None, histogram: None }
    }

    /// Returns the measures taken when the model was fitted.
    fn fit_study(&self, network: &str) -> Option<&Study> {
        self.study.as_ref().filter(|study| {
            study.network == network
                && study.draft.as_ref().is_some_and(|draft| draft.version == self.scorecard.version())
        })
    }
}

impl Study {
    fn measured(&self, report: &ModelReport, when: &str) -> Measured {
        Measured { report: report.clone(), sample: self.cases.clone(), when: when.to_owned(), stratum: None }
    }
}

impl DatabaseRequest {
    /// Reads what is stored, and has the server judge and score the rest.
    pub(crate) async fn report(&self, settings: &Settings, created_at: String) -> Result<Report, RiskError> {
        let connection = postgres::connect(settings).await?;
        let client = connection.client;
        // Both models must be judged on the same rows.
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.doing("begin a transaction")?;
        let active = model(&client, None, false).await?.ok_or(RiskError::NoActiveModel)?;
        let draft = model(&client, self.draft.as_deref(), true).await?;
        if let (None, Some(version)) = (&draft, &self.draft) {
            let row = client.query_one(VERSIONS, &[]).await.doing("list risk models")?;
            let versions: String = row.get(0);
            return Err(RiskError::UnknownModel { version: version.clone(), versions });
        }
        let draft = draft.filter(|draft| draft.scorecard.version() != active.scorecard.version());
        let network = self
            .network
            .clone()
            .or_else(|| draft.as_ref().and_then(|draft| draft.network.clone()))
            .or_else(|| active.network.clone())
            .unwrap_or_else(|| "ethereum".to_owned());
        let mut report = Report {
            created_at,
            source: format!("database {}, ARX {}", connection.database, connection.extension),
            network,
            active: active.to_model(),
            draft: draft.as_ref().map(StoredModel::to_model),
            drift: None,
            labels: BTreeMap::new(),
            notes: Vec::new(),
        };
        self.measure(&client, &active, draft.as_ref(), &mut report).await?;
        let unscored = report.drift.is_none();
        if self.evaluate == Evaluate::Always || (self.evaluate == Evaluate::Auto && unscored) {
            score_all(&client, &mut report).await?;
        }
        let misclassified: Vec<&str> = report.misclassified().collect();
        let rows = client.query(LABELS, &[&report.network, &misclassified]).await.doing("read labels")?;
        report.labels = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        client.batch_execute("COMMIT").await.doing("end a transaction")?;
        Ok(report)
    }

    /// Measures both models on the same wallets: as stored with the draft, or now.
    async fn measure(
        &self,
        client: &Client,
        active: &StoredModel,
        draft: Option<&StoredModel>,
        report: &mut Report,
    ) -> Result<(), RiskError> {
        let newest = draft.unwrap_or(active);
        if let Some(study) = newest.fit_study(&report.network)
            && self.evaluate != Evaluate::Always
            && (draft.is_none() || study.current.version == active.scorecard.version())
            && let Some(draft_measures) = &study.draft
        {
            let when = format!("labelled when {} was fitted, {}", newest.scorecard.version(), newest.created);
            let draft_measures = Some(study.measured(draft_measures, &when));
            match &mut report.draft {
                Some(draft) => {
                    draft.measured = draft_measures;
                    report.active.measured = Some(study.measured(&study.current, &when));
                    report.drift = Some(study.drift.clone());
                }
                None => report.active.measured = draft_measures,
            }
            return Ok(());
        }
        if self.evaluate == Evaluate::Never {
            report.notes.push(
                "The models were not measured on your labels, because of --evaluate never, and no stored measures compare them."
                    .to_owned(),
            );
            return Ok(());
        }
        let measured = self.evaluate_now(client, active.scorecard.version(), &report.network).await?;
        report.active.measured = match measured {
            Ok(measured) => Some(measured),
            Err(reason) => {
                report.notes.push(format!("The models could not be measured on your labels: {reason}."));
                return Ok(());
            }
        };
        if let Some(draft) = &mut report.draft {
            let version = draft.scorecard.version().to_owned();
            // If one model can be measured on these labels, so can the other.
            draft.measured = self.evaluate_now(client, &version, &report.network).await?.ok();
        }
        Ok(())
    }

    /// Measures a model on the current labels, or returns why there are too few of them.
    async fn evaluate_now(
        &self,
        client: &Client,
        version: &str,
        network: &str,
    ) -> Result<Result<Measured, String>, RiskError> {
        let folds = i32::try_from(self.folds).unwrap_or(i32::MAX);
        let seed = self.seed.cast_signed();
        let doing = "judge a model on labels";
        client.batch_execute("SAVEPOINT judging").await.doing(doing)?;
        let arguments: [&(dyn ToSql + Sync); 6] = [&version, &network, &self.illicit, &self.licit, &folds, &seed];
        let result = client.query_one(EVALUATE, &arguments).await;
        let error = match result {
            Ok(row) => {
                let study: Study = serde_json::from_value(row.get(0)).doing(doing)?;
                return Ok(Ok(study.measured(&study.current, "labelled when this page was made")));
            }
            Err(error) => error,
        };
        match error.as_db_error() {
            Some(db_error)
                if *db_error.code() == SqlState::INVALID_PARAMETER_VALUE && self.evaluate == Evaluate::Auto =>
            {
                let hint = db_error.hint().map(|hint| format!(" ({})", hint.trim_end_matches('.'))).unwrap_or_default();
                let reason = format!("{}{hint}", db_error.message());
                client.batch_execute("ROLLBACK TO SAVEPOINT judging").await.doing(doing)?;
                Ok(Err(reason))
            }
            _ => Err(error.into_sidecar_error(doing).into()),
        }
    }
}

async fn model(client: &Client, version: Option<&str>, draft: bool) -> Result<Option<StoredModel>, RiskError> {
    let row = client.query_opt(MODEL, &[&version, &draft]).await.doing("read arx.risk_models")?;
    row.as_ref().map(StoredModel::read).transpose()
}

/// Scores every wallet from the features that the server extracts.
async fn score_all(client: &Client, report: &mut Report) -> Result<(), RiskError> {
    let doing = "read the features of wallets";
    let names: Vec<String> = client.query_one(FEATURES, &[]).await.doing(doing)?.get(0);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut scores = AllScores::default();
    {
        let active = report.active.scorecard.bind(&names)?;
        let draft = report.draft.as_ref().map(|draft| draft.scorecard.bind(&names)).transpose()?;
        let mut rows = pin!(client.query_raw(VECTORS, [&report.network]).await.doing(doing)?);
        while let Some(row) = rows.try_next().await.doing(doing)? {
            let features: Vec<Option<f64>> = row.try_get(0).doing(doing)?;
            let features: Vec<f64> = features.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect();
            scores.active.push(active.score(&features).score);
            scores.draft.extend(draft.as_ref().map(|draft| draft.score(&features).score));
        }
    }
    scores.add_to(report)
}
