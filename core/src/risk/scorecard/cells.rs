//! Values by the bins of one or two features.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A value for every bin of one feature, or for every pair of bins of two features.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cells<T> {
    /// Values by the bins of one feature.
    Line(Vec<T>),
    /// Values by the bins of two features; a row is a bin of the first.
    Table(Vec<Vec<T>>),
}

impl<T> Cells<T> {
    /// Returns all values, row by row.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let (line, table) = match self {
            Self::Line(line) => (line.as_slice(), &[][..]),
            Self::Table(table) => (&[][..], table.as_slice()),
        };
        line.iter().chain(table.iter().flatten())
    }

    /// Returns the value at the bins of the features.
    #[must_use]
    pub fn get(&self, bins: &[usize]) -> Option<&T> {
        match (self, bins) {
            (Self::Line(line), [bin]) => line.get(*bin),
            (Self::Table(table), [row, column]) => table.get(*row)?.get(*column),
            _ => None,
        }
    }

    /// Returns `true` when there is one value for every bin that the cuts make.
    pub(super) fn has_shape(&self, cuts: &[Vec<f64>]) -> bool {
        match (self, cuts) {
            (Self::Line(line), [cuts]) => line.len() == cuts.len() + 1,
            (Self::Table(table), [rows, columns]) => {
                table.len() == rows.len() + 1 && table.iter().all(|row| row.len() == columns.len() + 1)
            }
            _ => false,
        }
    }
}

impl<'de, T: TryFrom<f64, Error: fmt::Display>> Deserialize<'de> for Cells<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(CellsVisitor(PhantomData))
    }
}

struct CellsVisitor<T>(PhantomData<T>);

impl<'de, T: TryFrom<f64, Error: fmt::Display>> Visitor<'de> for CellsVisitor<T> {
    type Value = Cells<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers, or a list of lists of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Cells<T>, A::Error> {
        let (mut line, mut table) = (Vec::new(), Vec::new());
        while let Some(member) = members.next_element::<CellsMember>()? {
            match member {
                CellsMember::Number(number) => line.push(T::try_from(number).map_err(A::Error::custom)?),
                CellsMember::Row(row) => {
                    let row: Result<Vec<T>, _> = row.into_iter().map(T::try_from).collect();
                    table.push(row.map_err(A::Error::custom)?);
                }
            }
        }
        match (line.is_empty(), table.is_empty()) {
            (_, true) => Ok(Cells::Line(line)),
            (true, false) => Ok(Cells::Table(table)),
            (false, false) => Err(A::Error::custom("numbers and lists of numbers are mixed")),
        }
    }
}

enum CellsMember {
    Number(f64),
    Row(Vec<f64>),
}

impl<'de> Deserialize<'de> for CellsMember {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MemberVisitor)
    }
}

struct MemberVisitor;

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = CellsMember;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a list of numbers")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<CellsMember, E> {
        Ok(CellsMember::Number(number))
    }

    #[expect(clippy::cast_precision_loss, reason = "values are validated to be far below 2^53")]
    fn visit_i64<E: Error>(self, number: i64) -> Result<CellsMember, E> {
        Ok(CellsMember::Number(number as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "values are validated to be far below 2^53")]
    fn visit_u64<E: Error>(self, number: u64) -> Result<CellsMember, E> {
        Ok(CellsMember::Number(number as f64))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<CellsMember, A::Error> {
        let mut row = Vec::new();
        while let Some(number) = members.next_element()? {
            row.push(number);
        }
        Ok(CellsMember::Row(row))
    }
}
