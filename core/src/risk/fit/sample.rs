//! The rows that a scorecard is fitted to.

use std::collections::BTreeSet;

use super::error::FitError;
use super::pace::RowPace;
use crate::graph::Interrupt;

/// Rows of either class that a fit needs: every bag learns from some and is judged by others.
const MIN_OF_CLASS: usize = 20;

/// Labelled rows: a column for each feature, and the class and weight of each row.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingSample {
    names: Vec<String>,
    columns: Vec<Vec<f64>>,
    illicit: Vec<bool>,
    weight: Vec<f64>,
}

impl TrainingSample {
    /// Makes a sample; NaN is undefined. A row of weight 2 counts as two rows.
    ///
    /// # Errors
    /// [`FitError`] when lengths differ, names repeat, or a value or weight is invalid.
    pub fn new(
        names: Vec<String>,
        columns: Vec<Vec<f64>>,
        illicit: Vec<bool>,
        weight: Vec<f64>,
    ) -> Result<Self, FitError> {
        let shape = |what: String, expected, found| {
            if expected == found { Ok(()) } else { Err(FitError::Shape { what, expected, found }) }
        };
        let rows = illicit.len();
        shape("columns".to_owned(), names.len(), columns.len())?;
        shape("weights".to_owned(), rows, weight.len())?;
        let mut names_so_far = BTreeSet::new();
        for (name, column) in names.iter().zip(&columns) {
            if !names_so_far.insert(name) {
                return Err(FitError::SameName { name: name.clone() });
            }
            shape(format!("values of {name:?}"), rows, column.len())?;
            if let Some(row) = column.iter().position(|v| v.is_infinite()) {
                let value = column.get(row).copied().unwrap_or_default();
                return Err(FitError::Value { column: name.clone(), row, value });
            }
        }
        if let Some((row, weight)) = weight.iter().copied().enumerate().find(|(_, w)| !(w.is_finite() && *w >= 0.0)) {
            return Err(FitError::Weight { row, weight });
        }
        Ok(Self { names, columns, illicit, weight })
    }

    /// Returns the number of rows.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.illicit.len()
    }

    /// Returns the names of the features.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the columns, in the order of the names.
    #[must_use]
    pub fn columns(&self) -> &[Vec<f64>] {
        &self.columns
    }

    /// Returns the class of each row.
    #[must_use]
    pub fn illicit(&self) -> &[bool] {
        &self.illicit
    }

    /// Returns the weight of each row.
    #[must_use]
    pub fn weight(&self) -> &[f64] {
        &self.weight
    }

    /// Returns the index of a feature that an option names.
    pub(super) fn index_of(&self, option: &'static str, feature: &str) -> Result<usize, FitError> {
        let index = self.names.iter().position(|name| name == feature);
        index.ok_or_else(|| FitError::UnknownFeature { option, feature: feature.to_owned() })
    }

    /// Copies the values of a row.
    pub(super) fn read_row(&self, row: usize, values: &mut Vec<f64>) {
        values.clear();
        values.extend(self.columns.iter().map(|c| c.get(row).copied().unwrap_or(f64::NAN)));
    }

    /// Copies the rows for which `keep` holds.
    pub(super) fn only<W: Interrupt>(
        &self,
        keep: impl Fn(usize) -> bool,
        pace: &mut RowPace<'_, W>,
    ) -> Result<Self, FitError> {
        fn pick<T: Copy>(from: &[T], rows: &[usize]) -> Vec<T> {
            rows.iter().filter_map(|row| from.get(*row)).copied().collect()
        }
        let rows: Vec<usize> = (0..self.rows()).filter(|row| keep(*row)).collect();
        let mut columns = Vec::new();
        for column in &self.columns {
            pace.step(rows.len())?;
            columns.push(pick(column, &rows));
        }
        let (illicit, weight) = (pick(&self.illicit, &rows), pick(&self.weight, &rows));
        Ok(Self { names: self.names.clone(), columns, illicit, weight })
    }

    /// Copies some of the columns, by index.
    pub(super) fn with_columns(&self, indices: &[usize]) -> Self {
        let names = indices.iter().filter_map(|index| self.names.get(*index)).cloned().collect();
        let columns = indices.iter().filter_map(|index| self.columns.get(*index)).cloned().collect();
        Self { names, columns, illicit: self.illicit.clone(), weight: self.weight.clone() }
    }

    /// Checks that there are enough rows of either class. Rows without weight do not count.
    pub(super) fn check(&self) -> Result<(), FitError> {
        let counting = || self.illicit.iter().zip(&self.weight).filter(|(_, w)| **w > 0.0);
        let rows = counting().count();
        let illicit = counting().filter(|(illicit, _)| **illicit).count();
        let too_few = |what, found| Err(FitError::TooFew { what, found, needed: MIN_OF_CLASS });
        match (illicit, rows - illicit) {
            (0, 0) => too_few("rows", 0),
            (_, 0) | (0, _) => Err(FitError::OneClass { rows, illicit: illicit > 0 }),
            (found, _) if found < MIN_OF_CLASS => too_few("illicit rows", found),
            (_, found) if found < MIN_OF_CLASS => too_few("rows that are not illicit", found),
            _ => Ok(()),
        }
    }
}
