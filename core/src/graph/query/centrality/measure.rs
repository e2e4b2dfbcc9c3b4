//! Measures of centrality and their parameters.

use serde_json::Value;

use crate::graph::query::options::{Options, OptionsError};
use crate::graph::types::Direction;

/// Measure of centrality.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// Number of other wallets with transfers: `direction` both (default), in or out.
    Degree(Direction),
    /// Probability of a random walk along transfers to be at the wallet.
    PageRank(PageRankOptions),
    /// Number of shortest paths through the wallet.
    Betweenness(BetweennessOptions),
}

/// Parameters of PageRank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PageRankOptions {
    /// `damping`: probability that the walk continues. Default 0.85.
    pub damping: f64,
    /// `iterations`: maximum number of rounds. Default 150: with the default damping, the tolerance
    /// is always reached (0.85^k falls below 1e-9 / 2 at 132).
    pub iterations: u32,
    /// `tolerance`: the iteration ends when the scores change by at most this sum. Default 1e-9.
    pub tolerance: f64,
    /// `weight` transfers (default): a receiver is chosen in proportion to the transfers to it.
    /// none: all receivers are equal.
    pub weighted: bool,
}

/// Parameters of betweenness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BetweennessOptions {
    /// `samples`: number of wallets that shortest paths are followed from. Default 64.
    pub samples: u32,
    /// `seed` of the sample. Default 0.
    pub seed: u64,
    /// `normalized`: scores are shares of all pairs of other wallets, not numbers. Default false.
    pub normalized: bool,
}

impl Measure {
    /// Parses a measure by name, with its options.
    ///
    /// # Errors
    /// An unknown name or key, or a value out of range.
    pub fn parse(name: &str, options: &Value) -> Result<Self, OptionsError> {
        match name.to_ascii_lowercase().as_str() {
            "degree" => {
                let options = Options::new("degree", options, &["direction"])?;
                Ok(Self::Degree(match options.choice("direction", &["both", "in", "out"])? {
                    1 => Direction::In,
                    2 => Direction::Out,
                    _ => Direction::Both,
                }))
            }
            "pagerank" => {
                let keys = &["damping", "iterations", "tolerance", "weight"];
                let options = Options::new("pagerank", options, keys)?;
                Ok(Self::PageRank(PageRankOptions {
                    damping: options.number("damping", 0.85, 0.0, 0.999)?,
                    iterations: options.whole("iterations", 150, 1, 1_000)? as u32,
                    tolerance: options.number("tolerance", 1e-9, 1e-15, 1.0)?,
                    weighted: options.choice("weight", &["transfers", "none"])? == 0,
                }))
            }
            "betweenness" => {
                let options = Options::new("betweenness", options, &["samples", "seed", "normalized"])?;
                Ok(Self::Betweenness(BetweennessOptions {
                    samples: options.whole("samples", 64, 1, 1_000_000)? as u32,
                    seed: options.whole("seed", 0, 0, u64::MAX)?,
                    normalized: options.flag("normalized", false)?,
                }))
            }
            _ => Err(OptionsError::Choice {
                what: "measure",
                name: name.to_owned(),
                valid: "degree, pagerank or betweenness",
            }),
        }
    }

    /// Returns its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Degree(_) => "degree",
            Self::PageRank(_) => "pagerank",
            Self::Betweenness(_) => "betweenness",
        }
    }
}
