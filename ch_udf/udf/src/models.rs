//! What the functions judge by, and answering with it.

use std::io::{Read, Write};
use std::path::PathBuf;

use arx_core::behaviour::Thresholds;
use arx_core::risk::compiled_in;
use arx_core::risk::features::NAMES;
use arx_core::risk::scorecard::{Scorecard, ScorecardError};
use thiserror::Error;

use crate::functions::{
    AddressValid, Function, NormalizeAddress, RiskExplain, RiskProbability, RiskScore, WalletTypes,
};
use crate::protocol::{ServeError, serve};

/// Why `arx-udf` cannot answer.
#[derive(Debug, Error)]
pub enum UdfError {
    /// A file cannot be read.
    #[error("read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not a scorecard, or not one over the features of this version.
    #[error(transparent)]
    Scorecard(#[from] ScorecardError),
    /// Not thresholds.
    #[error("thresholds are not readable")]
    Thresholds(#[from] serde_json::Error),
    /// Standard input or output is closed.
    #[error("standard input and output are needed")]
    Streams(#[source] std::io::Error),
    /// The input is damaged or the output lost.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A function answers wrongly.
    #[error("{wrong} of {asked} answers are wrong")]
    SelfTest {
        /// Wrong answers.
        wrong: usize,
        /// Answers asked for.
        asked: usize,
    },
    /// No function was named.
    #[error("no function was named")]
    NoFunction,
}

/// What the functions judge by.
#[derive(Debug, Clone)]
pub struct Models {
    /// For risk.
    pub scorecard: Scorecard,
    /// For behaviour.
    pub thresholds: Thresholds,
}

impl Models {
    /// Those compiled in.
    ///
    /// # Errors
    /// None, as a test proves.
    pub fn compiled_in() -> Result<Self, UdfError> {
        Ok(Self { scorecard: compiled_in()?, thresholds: Thresholds::default() })
    }

    /// From their documents; what is not given is what is compiled in.
    ///
    /// # Errors
    /// [`UdfError::Scorecard`], [`UdfError::Thresholds`].
    pub fn from_json(scorecard: Option<&str>, thresholds: Option<&str>) -> Result<Self, UdfError> {
        let models = Self {
            scorecard: scorecard.map_or_else(compiled_in, Scorecard::from_json)?,
            thresholds: thresholds.map_or_else(|| Ok(Thresholds::default()), serde_json::from_str)?,
        };
        models.scorecard.bind(&NAMES)?;
        Ok(models)
    }

    /// Answers all that comes from `source`.
    ///
    /// # Errors
    /// [`UdfError::Serve`].
    pub fn answer<R: Read, W: Write>(&self, function: Function, source: R, sink: W) -> Result<(), UdfError> {
        let bound = || self.scorecard.bind(&NAMES);
        match function {
            Function::RiskScore => serve(&mut RiskScore::new(bound()?), source, sink)?,
            Function::RiskProbability => serve(&mut RiskProbability::new(bound()?), source, sink)?,
            Function::RiskExplain => serve(&mut RiskExplain::new(bound()?), source, sink)?,
            Function::WalletType => serve(&mut WalletTypes(self.thresholds), source, sink)?,
            Function::NormalizeAddress => serve(&mut NormalizeAddress::default(), source, sink)?,
            Function::AddressValid => serve(&mut AddressValid::default(), source, sink)?,
        }
        Ok(())
    }
}
