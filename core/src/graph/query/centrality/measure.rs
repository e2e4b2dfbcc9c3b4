//! What is measured, with its parameters.

use serde_json::Value;

use crate::graph::query::options::{Options, OptionsError};
use crate::graph::types::Direction;

/// How wallets are scored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// Other wallets that it has transfers with: `direction` both (default), in or out.
    Degree(Direction),
    /// How often one meets it who follows transfers.
    PageRank(PageRankOptions),
    /// How many shortest paths lead over it.
    Betweenness(BetweennessOptions),
}

/// Parameters of PageRank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PageRankOptions {
    /// `damping`: how likely one goes on. Default 0.85.
    pub damping: f64,
    /// `iterations` at most. Default 150: with the default damping the tolerance is always met by then (0.85^k falls below 1e-9 / 2
    /// at 132).
    pub iterations: u32,
    /// `tolerance`: it ends when all scores together change by no more. Default 1e-9.
    pub tolerance: f64,
    /// `weight` transfers (default): a receiver is chosen in proportion to the transfers to it. none: all are equal.
    pub weighted: bool,
}

/// Parameters of betweenness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BetweennessOptions {
    /// `samples`: wallets that shortest paths are followed from. Default 64.
    pub samples: u32,
    /// `seed` of their choice. Default 0.
    pub seed: u64,
    /// `normalized`: as a share of all pairs of other wallets, not as their number. Default false.
    pub normalized: bool,
}

impl Measure {
    /// By name, with its options.
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

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Degree(_) => "degree",
            Self::PageRank(_) => "pagerank",
            Self::Betweenness(_) => "betweenness",
        }
    }
}
