//! Fitting of scorecards: from a sample of labelled rows to factors, their points, and measures of
//! their quality.
//!
//! This module owns the method and its measures. It knows no feature and no wallet and reads no
//! clock. Pseudo-random choices depend on a seed and on the values of the rows: the same sample
//! gives the same scorecard, bit for bit, on every machine, and in any order of rows up to the
//! rounding of sums. Logarithms and exponentials come from `libm` for that reason.
//!
//! The method is cyclic gradient boosting of small step functions on logarithmic loss, one feature
//! at a time, then of coarse tables over the most promising pairs of features: Lou, Caruana, Gehrke
//! 2012, "Intelligible models for classification and regression"; Lou, Caruana, Gehrke, Hooker
//! 2013, "Accurate intelligible models with pairwise interactions"; Nori, Jenkins, Koch, Caruana
//! 2019, "InterpretML". Several bags, each stopped where its held-out part is best, are averaged.
//! The functions are then merged into few steps with short cuts and rounded to tenths of a point.

mod bags;
mod binning;
mod boost;
mod calibrate;
mod chance;
mod cross;
mod drift;
mod error;
mod factors;
mod fitting;
mod measures;
mod merge;
mod options;
mod pace;
mod pairs;
mod sample;
mod step;
#[cfg(test)]
mod tests;

pub use calibrate::calibrate;
pub use chance::assign_fold;
pub use cross::{CrossValidated, cross_validate};
pub use drift::{BandChange, changed_bands, drift};
pub use error::FitError;
pub use factors::{FittedModel, Publication};
pub use fitting::fit;
pub use measures::{CalibrationBin, CurvePoint, Curves, Measures, curves, measure};
pub use options::{FitOptions, PairCandidates};
pub use sample::TrainingSample;
