//! Points and scores in whole tenths, so that they add up exactly.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::PARTS;

/// Points of a factor, in tenths.
///
/// In JSON a number with at most one decimal; more decimals, and numbers beyond [`Points::LIMIT`],
/// are rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Points(i32);

impl Points {
    /// Largest absolute value, so that the sum of thousands of points fits into an `i32`.
    pub const LIMIT: Self = Self(1000);

    /// Makes points from tenths.
    #[must_use]
    pub const fn from_tenths(tenths: i32) -> Self {
        Self(tenths)
    }

    /// Returns the points in tenths.
    #[must_use]
    pub const fn tenths(self) -> i32 {
        self.0
    }
}

/// Formats points with one decimal; with `+` in the format, always with a sign.
impl Points {
    /// Returns the part of the points that counts where a value is not covered: a quarter, to the
    /// nearest tenth, halves to even ones. Halves away from zero would add up over the factors of a
    /// scorecard, most of which have few points.
    #[must_use]
    pub(super) const fn uncovered_part(self) -> Self {
        let parts = PARTS.cast_signed();
        let (whole, rest) = (self.0.abs() / parts, self.0.abs() % parts);
        let is_up = 2 * rest > parts || (2 * rest == parts && whole % 2 == 1);
        let part = if is_up { whole + 1 } else { whole };
        Self(if self.0 < 0 { -part } else { part })
    }
}

impl fmt::Display for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match (self.0 < 0, f.sign_plus()) {
            (true, _) => "-",
            (false, true) => "+",
            (false, false) => "",
        };
        let tenths = self.0.unsigned_abs();
        write!(f, "{sign}{}.{}", tenths / 10, tenths % 10)
    }
}

impl Serialize for Points {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_tenths(self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Points {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl TryFrom<f64> for Points {
    type Error = String;

    /// Converts exactly: a whole number divided by ten is the `f64` that its decimal text reads as.
    fn try_from(value: f64) -> Result<Self, String> {
        let tenths = (value * 10.0).round();
        if tenths.is_nan() || tenths.abs() > f64::from(Self::LIMIT.0) {
            return Err(format!("points must be within -{0} and {0}, not {value}", Self::LIMIT));
        }
        if tenths / 10.0 != value {
            return Err(format!("points have at most one decimal, not {value}"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "a whole number of at most 1000")]
        Ok(Self(tenths as i32))
    }
}

fn serialize_tenths<S: Serializer>(tenths: i32, serializer: S) -> Result<S::Ok, S::Error> {
    if tenths % 10 == 0 {
        serializer.serialize_i32(tenths / 10)
    } else {
        serializer.serialize_f64(f64::from(tenths) / 10.0)
    }
}

/// A score from 0.0 (clean) to 100.0, in tenths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Score(u16);

impl Score {
    /// Score of a wallet without any facts: neither clean nor risky.
    pub const UNKNOWN: Self = Self(500);

    /// The lowest score.
    pub const MIN: Self = Self(0);

    /// The highest score.
    pub const MAX: Self = Self(1000);

    /// Makes a score from tenths, if they are within 0 and 1000.
    #[must_use]
    pub fn from_tenths(tenths: i32) -> Option<Self> {
        u16::try_from(tenths).ok().filter(|t| *t <= Self::MAX.0).map(Self)
    }

    /// Returns the score nearest to a number of tenths.
    #[must_use]
    pub fn nearest(tenths: i32) -> Self {
        let capped = tenths.clamp(0, i32::from(Self::MAX.0));
        Self::from_tenths(capped).unwrap_or(Self::UNKNOWN)
    }

    /// Returns the score in tenths, 0 to 1000.
    #[must_use]
    pub const fn tenths(self) -> u16 {
        self.0
    }

    /// Returns the score as a number, 0.0 to 100.0.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 10.0
    }

    /// Returns the score as points.
    #[must_use]
    pub fn points(self) -> Points {
        Points(i32::from(self.0))
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_tenths(i32::from(self.0), serializer)
    }
}

impl<'de> Deserialize<'de> for Score {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let points = Points::deserialize(deserializer)?;
        Self::from_tenths(points.tenths())
            .ok_or_else(|| D::Error::custom(format!("scores are from 0 to 100, not {points}")))
    }
}
