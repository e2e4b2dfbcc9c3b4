//! The scorecard, calibrations and thresholds that the functions apply, and answering with them.

use std::io::{Read, Write};
use std::path::PathBuf;

use arx_core::behaviour::Thresholds;
use arx_core::risk::features::NAMES;
use arx_core::risk::scorecard::{Scorecard, ScorecardError};
use arx_core::risk::{Calibrations, default_scorecard};
use thiserror::Error;

use crate::functions::{
    AddressValid, Function, NormalizeAddress, RiskBand, RiskExplain, RiskProbability, RiskScore, WalletTypes,
};
use crate::protocol::{ServeError, serve};

/// A failure of `arx-udf`.
#[derive(Debug, Error)]
pub enum UdfError {
    #[error("read {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The scorecard is malformed, or names other features than this version computes.
    #[error(transparent)]
    Scorecard(#[from] ScorecardError),
    #[error("thresholds are not readable")]
    Thresholds(#[from] serde_json::Error),
    #[error("calibrations are not readable")]
    Calibrations(#[source] serde_json::Error),
    /// Standard input or output is closed.
    #[error("standard input and output must be open")]
    Streams(#[source] std::io::Error),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("{wrong} of {asked} answers are wrong")]
    SelfTest { wrong: usize, asked: usize },
    #[error("no function was named")]
    NoFunction,
}

/// The documents that the functions apply.
#[derive(Debug, Clone)]
pub struct Models {
    /// Scores risk.
    pub scorecard: Scorecard,
    /// Prevalence and bands of networks.
    pub calibrations: Calibrations,
    /// Classifies behaviour.
    pub thresholds: Thresholds,
}

impl Models {
    /// Returns the compiled-in documents.
    ///
    /// # Errors
    /// Never: a test reads the compiled-in documents.
    pub fn compiled_in() -> Result<Self, UdfError> {
        Ok(Self {
            scorecard: default_scorecard()?,
            calibrations: Calibrations::default(),
            thresholds: Thresholds::default(),
        })
    }

    /// Parses the given documents; an absent one is the compiled-in one.
    ///
    /// # Errors
    /// [`UdfError::Scorecard`], [`UdfError::Calibrations`], [`UdfError::Thresholds`].
    pub fn from_json(
        scorecard: Option<&str>,
        calibrations: Option<&str>,
        thresholds: Option<&str>,
    ) -> Result<Self, UdfError> {
        let calibrations = calibrations.map_or_else(|| Ok(Calibrations::default()), serde_json::from_str);
        let models = Self {
            scorecard: scorecard.map_or_else(default_scorecard, Scorecard::from_json)?,
            calibrations: calibrations.map_err(UdfError::Calibrations)?,
            thresholds: thresholds.map_or_else(|| Ok(Thresholds::default()), serde_json::from_str)?,
        };
        models.scorecard.bind(&NAMES)?;
        Ok(models)
    }

    /// Answers every row of `source` until its end.
    ///
    /// # Errors
    /// [`UdfError::Serve`].
    pub fn answer<R: Read, W: Write>(&self, function: Function, source: R, sink: W) -> Result<(), UdfError> {
        let bound = || self.scorecard.bind(&NAMES);
        match function {
            Function::RiskScore => serve(&mut RiskScore::new(bound()?), source, sink)?,
            Function::RiskProbability => {
                serve(&mut RiskProbability::new(bound()?, self.calibrations.clone()), source, sink)?;
            }
            Function::RiskBand => serve(&mut RiskBand::new(bound()?, self.calibrations.clone()), source, sink)?,
            Function::RiskExplain => serve(&mut RiskExplain::new(bound()?), source, sink)?,
            Function::WalletType => serve(&mut WalletTypes(self.thresholds), source, sink)?,
            Function::NormalizeAddress => serve(&mut NormalizeAddress::default(), source, sink)?,
            Function::AddressValid => serve(&mut AddressValid::default(), source, sink)?,
        }
        Ok(())
    }
}
